/* SPDX-License-Identifier: MIT
 *
 * What is in a tree, and the one name that it has for that: see davit/artifact.h.
 */
#ifndef DAVIT_STEP_HASH_H
#define DAVIT_STEP_HASH_H

#include "base/region.h"
#include "davit/artifact.h"

#include <sys/stat.h>
#include <time.h>

#define STEP_DIGEST 32

struct step_entry {
	char *path; /* relative; in the tree's region */
	mode_t mode;
	uint64_t size;
	struct timespec changed;
	uint8_t digest[STEP_DIGEST]; /* of a file's content or a link's target */
};

struct step_tree {
	struct davit_region names;
	struct step_entry *entries; /* by path, once hashed */
	size_t n, cap;
	uint64_t bytes, skipped;
	char id[DAVIT_ARTIFACT_ID_MAX];
};

/* Walks the directory fd and hashes what is in it. `own`: it is ours to change, so what does not count is
 * removed from it and everything is given to our user. Uses several threads where there is much to read.
 * Blocks. step_tree_fini in any case. */
int step_tree_read(int fd, bool own, struct step_tree *t, struct davit_error *err);
/* The same without hashing: entries and bytes only. */
int step_tree_scan(int fd, bool own, struct step_tree *t, struct davit_error *err);
void step_tree_fini(struct step_tree *t);

/* "%02x" of n bytes. */
void step_hex(const uint8_t *bytes, size_t n, char *ret);

#endif
