/* SPDX-License-Identifier: MIT
 *
 * What the drivers share about keys and changes.
 */
#ifndef DAVIT_STORE_CHANGES_H
#define DAVIT_STORE_CHANGES_H

#include "davit/store.h"

/* Deletions are remembered for this many revisions, so that a watch can be
 * resumed over them. A watch from before a forgotten one is DAVIT_ECOMPACTED. */
#define DAVIT_STORE_KEEP_DELETIONS 10000

/* A deep copy in one allocation, freed with free(); NULL when out of memory.
 * Without `values`, value pointers are NULL (the lengths stay). */
struct davit_store_change *davit_store_changes_copy(const struct davit_store_change *changes, size_t n,
						    bool values);

/* The first key after all that begin with `prefix`, into end. False when there
 * is none: the prefix is empty (or all 0xff), the range goes to the end. */
bool davit_store_prefix_end(const char *prefix, char end[DAVIT_STORE_KEY_MAX + 1]);

/* Where a listing begins: `from`, or `prefix` when from is NULL or before it. */
static inline const char *davit_store_list_start(const char *prefix, const char *from)
{
	return from && __builtin_strcmp(from, prefix) > 0 ? from : prefix;
}

#endif
