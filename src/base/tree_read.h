/* SPDX-License-Identifier: MIT
 *
 * Reading a tree into a struct: tables of keys, each with the function that reads its value. For files in
 * which a key stands for one member; the spec, whose keys stand for much more, has a table of its own.
 */
#ifndef DAVIT_BASE_TREE_READ_H
#define DAVIT_BASE_TREE_READ_H

#include "base/tree.h"

/* What every function of a table is given. All is borrowed. */
struct davit_tree_reader {
	struct davit_region *region; /* of what is made while reading */
	struct davit_error *err;
	void *whole; /* what the file is read into, for a function that needs more of it than its member */
};

/* A key of a map. `read` fills what is at `to`, `offset` bytes into what the map is read into: 0, or a code
 * with the reader's error filled. */
struct davit_tree_key {
	const char *name;
	int (*read)(struct davit_tree_reader *r, const struct davit_tree *t, void *to);
	size_t offset;
};

#define DAVIT_TREE_KEYS_MAX 32 /* in one table */

/* Reads what is in the map, in its order, by the table of n keys. DAVIT_EINVAL for what is no map, and for a
 * key that is not in the table, with the nearest that is. */
int davit_tree_read_keys(struct davit_tree_reader *r, const struct davit_tree *map,
			 const struct davit_tree_key *keys, size_t n, void *to);
/* Fills the error with DAVIT_EINVAL and the place of t, and returns it. */
int davit_tree_bad(struct davit_tree_reader *r, const struct davit_tree *t, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Fills the error with DAVIT_ENOMEM, and returns it. */
int davit_tree_no_memory(struct davit_tree_reader *r);

#endif
