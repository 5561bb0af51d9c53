/* SPDX-License-Identifier: MIT
 *
 * What is in a tree, and the one name that it has for that: see davit/artifact.h.
 */
#ifndef DAVIT_STEP_HASH_H
#define DAVIT_STEP_HASH_H

#include "base/map.h"
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

/* What is in it, or what `names` lists of it (not NULL: each a file, a link, or a directory with all that is
 * in it; the directories on the way come, too), by path. DAVIT_EINVAL for a name that is empty, absolute, or
 * has a part that is "." or ".."; one that is not there is passed over. */
int step_tree_list(int fd, char *const *names, struct step_tree *t, struct davit_error *err);

/* Hashes what is in the entries, in several threads where there is much to read, and gives the tree its id.
 * Blocks. */
int step_tree_hash(int fd, struct step_tree *t, struct davit_error *err);
/* Is it so little that a thread more, or to look first whether it is known, is not worth it? */
bool step_tree_small(const struct step_tree *t);

/* Calls fn with each entry and STEP_BLOCK bytes to use, in several threads where there is much to do, until
 * one fails. Blocks. */
#define STEP_BLOCK (256 * 1024)
typedef int step_entry_fn(void *user, struct step_entry *e, char *buf, struct davit_error *err);
int step_tree_each(struct step_tree *t, step_entry_fn *fn, void *user, struct davit_error *err);
/* Sorts the entries by path. And gives the tree its id, once each has its digest. */
void step_tree_sort(struct step_tree *t);
void step_tree_name(struct step_tree *t);

/* "%02x" of n bytes. */
void step_hex(const uint8_t *bytes, size_t n, char *ret);

#endif
