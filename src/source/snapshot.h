/* SPDX-License-Identifier: MIT
 *
 * The content of a tree as one hash, and copies of trees.
 */
#ifndef DAVIT_SOURCE_SNAPSHOT_H
#define DAVIT_SOURCE_SNAPSHOT_H

#include "davit/error.h"
#include "source/ignore.h"

#include <stdint.h>

#define DAVIT_HASH_MAX 65 /* room for a hash in hexadecimal digits */

struct davit_snapshot {
	char hash[DAVIT_HASH_MAX]; /* BLAKE2b-256 */
	uint64_t bytes;		   /* of all files */
	uint32_t files;		   /* files, directories and links */
};

/* Hashes what is at `from`, a directory, or a file which counts as a directory
 * with that file in it; copies it to the directory `to`, which is made, unless
 * `to` is NULL. The hash depends on paths, kinds, executable bits, contents and
 * targets of links, and on nothing else: not on times, owners or order.
 *
 * What `ignore` (or NULL) tells is left out; so are sockets, pipes and devices.
 * Links are copied, never followed.
 * More than max bytes: DAVIT_ENOSPC. After a failure `to` may be incomplete.
 * Blocks. */
int davit_snapshot_take(const char *from, const char *to, const struct davit_ignore *ignore, uint64_t max,
			struct davit_snapshot *ret, struct davit_error *err);

/* Hash of a text that is made of parts. Each part counts with its length; NULL
 * ends them. */
void davit_hash_strings(char ret[DAVIT_HASH_MAX], const char *first, ...) __attribute__((sentinel));

/* Disk space of a tree in bytes; 0 for one that is not there. */
uint64_t davit_tree_usage(const char *path);

#endif
