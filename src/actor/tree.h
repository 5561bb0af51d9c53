/* SPDX-License-Identifier: MIT
 *
 * The tree of containers, for the engine beneath.
 */
#ifndef DAVIT_ACTOR_TREE_H
#define DAVIT_ACTOR_TREE_H

#include "actor/actor_impl.h"

int tree_init(struct davit_system *s);
/* Destroys all containers, the deepest first; blocks until that is done. */
void tree_close(struct davit_system *s);
/* No thread is left: the engine and its loop let go of the containers, which end next. */
void tree_forget(struct davit_system *s);
void tree_fini(struct davit_system *s);
/* An alarm of the tree's loop is due. */
void tree_turn(struct davit_context *c);

#endif
