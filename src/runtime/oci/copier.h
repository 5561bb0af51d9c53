/* SPDX-License-Identifier: MIT
 *
 * What the files of the program davit-copy share. Everything blocks.
 */
#ifndef DAVIT_OCI_COPIER_H
#define DAVIT_OCI_COPIER_H

#include "davit/error.h"

#include <stdbool.h>

/* Opens the root to work in, as the container sees it: with its mounts. pid: the container's
 * first process, or 0; it counts only where its root is the one at `root`. A descriptor, or a code. */
int copier_root(const char *root, const char *bundle, int pid, struct davit_error *err);

/* Opens path, resolved as by a process whose root is `root`. A descriptor, or -1 with errno. */
int copier_open(int root, const char *path, int flags);

/* Unpacks a tar archive from descriptor `in` beneath the directory path. owners: there is more
 * than one user to give files to; otherwise all of them are, inside, root's. */
int copier_put(int root, const char *path, int in, bool owners, struct davit_error *err);
/* Packs path into a tar archive on descriptor `out`. */
int copier_get(int root, const char *path, int out, bool owners, struct davit_error *err);

#endif
