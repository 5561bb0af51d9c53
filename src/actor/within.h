/* SPDX-License-Identifier: MIT
 *
 * Containers within another process: how their process makes them known (ANNOUNCE), and
 * how they are operated from outside of it (OPERATE and STATE with their alias).
 */
#ifndef DAVIT_ACTOR_WITHIN_H
#define DAVIT_ACTOR_WITHIN_H

#include "actor/child.h"
#include "actor/remote.h"

/* The child's. */

/* One of this process's containers has changed its state. */
void within_announce(struct container *k, enum davit_state s);
/* The parent of this process wants something of one that is within it. 0, or DAVIT_EPROTO. */
int within_asked(struct child *ch, const struct davit_frame *f, const unsigned char *body);

/* The parent's. */

/* 0, or DAVIT_EPROTO. */
int within_announced(struct davit_context *c, struct link *l, const struct davit_frame *f,
		     const unsigned char *body);
/* Told to the parent of this process as well, if it has one. Under the tree's lock. */
void within_forward(struct davit_system *s, const struct remote *r, enum davit_state state);
/* What is to be done with r->ref, which is_remote(); r->promise hears how it went. */
void within_operate(struct davit_context *c, const struct operate_request *r);
/* How it went. 0, or DAVIT_EPROTO. */
int within_said(struct davit_context *c, struct link *l, const struct davit_frame *f,
		const unsigned char *body);

#endif
