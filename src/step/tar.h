/* SPDX-License-Identifier: MIT
 *
 * Trees and tar archives.
 */
#ifndef DAVIT_STEP_TAR_H
#define DAVIT_STEP_TAR_H

#include "davit/error.h"

#include <stdbool.h>
#include <stdint.h>

struct archive;

/* Unpacks a tar archive (plain, gzip or zstd, which it sees by itself), read to its end, into the directory
 * `to`: up to `max` bytes of files. DAVIT_ESOURCE for one that is malformed or hostile. Blocks. */
int step_unpack(int archive, int to, uint64_t max, struct davit_error *err);

/* Is an entry left out? Its name is that in the archive. */
typedef bool step_pack_skip_fn(void *user, const char *name);

/* Adds what is in the directory `at` in the order of its names, each behind prefix and a slash (nothing for
 * ""). skip: or NULL. Blocks. */
int step_pack_tree(struct archive *a, int at, const char *prefix, step_pack_skip_fn *skip, void *user,
		   struct davit_error *err);

#endif
