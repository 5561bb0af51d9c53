/* SPDX-License-Identifier: MIT
 *
 * Directories within a tree that nobody may lead astray.
 */
#ifndef DAVIT_STEP_PLACE_H
#define DAVIT_STEP_PLACE_H

/* The directory of a path within the directory `root`, made (0755) where it is missing: an O_PATH
 * descriptor, or -1 with errno. "/" at its ends, "." and repeated slashes mean nothing, ".." is EINVAL.
 * No link is followed, so that a tree cannot lead elsewhere: ENOTDIR for one. */
int step_place(int root, const char *path);

#endif
