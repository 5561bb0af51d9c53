/* SPDX-License-Identifier: MIT
 *
 * Copies of directories, hashed while they are copied.
 */
#ifndef DAVIT_STEP_TAKE_H
#define DAVIT_STEP_TAKE_H

#include "step/hash.h"

/* Copies what t lists of the directory `from` to the empty directory `to`, which is ours: files (sharing
 * blocks where the file system can, and without the holes), directories and symbolic links, with their
 * permission bits and times. t is then what was copied, with its id. Uses several threads where there is much
 * to do. Blocks. */
int step_tree_take(int from, int to, struct step_tree *t, struct davit_error *err);

#endif
