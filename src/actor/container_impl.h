/* SPDX-License-Identifier: MIT */
#ifndef DAVIT_ACTOR_CONTAINER_IMPL_H
#define DAVIT_ACTOR_CONTAINER_IMPL_H

#include "actor/actor_impl.h"
#include "davit/container.h"

/* An order of the tree, or the death of one that is linked. m is borrowed. */
void container_signal(struct davit_context *c, struct davit_actor *a, struct davit_message *m);
/* A message; m is consumed. */
void container_message(struct davit_context *c, struct davit_actor *a, struct davit_message *m);
/* It is held: what has come in meanwhile is looked through. */
void container_held(struct davit_context *c, struct davit_actor *a);

#endif
