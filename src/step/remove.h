/* SPDX-License-Identifier: MIT
 *
 * Removing trees that a step made, which may be of any depth and without any permission.
 */
#ifndef DAVIT_STEP_REMOVE_H
#define DAVIT_STEP_REMOVE_H

/* Removes `name` in the directory fd, and all below. Follows no link; nothing there is success.
 * 0 or an errno. Blocks for as long as it takes. */
int step_remove_at(int fd, const char *name);
/* The same for a path. */
int step_remove(const char *path);

#endif
