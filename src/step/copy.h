/* SPDX-License-Identifier: MIT
 *
 * Copies of trees, in the library and in davit-step.
 */
#ifndef DAVIT_STEP_COPY_H
#define DAVIT_STEP_COPY_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct stat;

#define STEP_DEPTH_MAX 256 /* directories within each other */

/* Copies what is in the directory `from` to the directory `to`: files (sharing blocks where the file
 * system can), directories and symbolic links, with their permission bits and times; nothing else. What
 * has the name of an entry in `to` is replaced, unless both are directories. `to` gets the mode of
 * `from`. No link is followed. 0 or an errno, and then the path concerned in why. Blocks. */
int step_copy_tree(int from, int to, char *why, size_t size);
/* Copies the bytes of the file `from`, of which *st is known, to the empty file `to`: sharing blocks where
 * the file system can, with its holes. 0 or an errno. Blocks. */
int step_copy_bytes(int from, int to, const struct stat *st);
/* Does a file take less of the disk than its size says? */
bool step_has_holes(const struct stat *st);
/* Writes n bytes, but for the zeros, which it passes over: the caller gives the file its size at the end. -1
 * with errno. */
int step_write_sparse(int fd, const char *buf, size_t n);
/* Opens for reading what its permissions forbid even to its owner. -1 with errno. */
int step_open_anyway(int at, const char *name, int flags, mode_t mode);

#endif
