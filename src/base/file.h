/* SPDX-License-Identifier: MIT
 *
 * Files and paths.
 */
#ifndef DAVIT_BASE_FILE_H
#define DAVIT_BASE_FILE_H

#include "base/buf.h"
#include "davit/error.h"

/* "a/b" from a and b, a heap string; NULL when out of memory. b absolute
 * replaces a. */
char *davit_path_join(const char *a, const char *b);
/* mkdir -p with the mode for each directory made. */
int davit_mkdirs(const char *path, mode_t mode, struct davit_error *err);
/* Appends the whole file to *out; refuses one above max bytes. */
int davit_read_file(const char *path, size_t max, struct davit_buf *out, struct davit_error *err);
/* Replaces the file atomically: temporary name beside it, fsync, rename. */
int davit_write_file(const char *path, const void *data, size_t n, mode_t mode, struct davit_error *err);
/* The same without the fsync, for what need not outlive the machine's present run. */
int davit_write_volatile_file(const char *path, const void *data, size_t n, mode_t mode,
			      struct davit_error *err);
/* Removes a tree; follows no link; a path that is not there is success. */
int davit_remove_tree(const char *path, struct davit_error *err);
/* The same for `name` in the directory fd. 0 or an errno. */
int davit_remove_at(int fd, const char *name);

#endif
