/* SPDX-License-Identifier: MIT
 *
 * Copies of directories, hashed while they are copied.
 */
#ifndef DAVIT_STEP_TAKE_H
#define DAVIT_STEP_TAKE_H

#include "step/hash.h"

/* Copies what is in the directory `from`, or what `names` lists of it (NULL: everything), to the empty
 * directory `to`, which is ours: files (sharing blocks where the file system can), directories and symbolic
 * links, with their permission bits and times. The tree is what was copied, with its id. Uses several
 * threads where there is much to do. Blocks. step_tree_fini in any case. */
int step_tree_take(int from, int to, char *const *names, struct step_tree *t, struct davit_error *err);

#endif
