/* SPDX-License-Identifier: MIT
 *
 * What the files of the plan engine share. Not for use outside plan*.c.
 */
#ifndef DAVIT_STEP_PLAN_IMPL_H
#define DAVIT_STEP_PLAN_IMPL_H

#include "base/map.h"
#include "step/plan.h"

/* plan.c: nodes, without policy. */
struct davit_plan_node *plan_node_new(struct davit_plan *p, enum davit_plan_kind kind);
/* Frees a node (NULL is fine) with all beneath it; takes it from its parent. */
void plan_node_free(struct davit_plan_node *n);
void plan_node_add(struct davit_plan_node *parent, struct davit_plan_node *child);
/* A copy of what the plan says of a node and all beneath it, without state; or NULL: no memory. */
struct davit_plan_node *plan_node_copy(const struct davit_plan_node *n);
/* Back to idle, with all beneath it. */
void plan_node_reset(struct davit_plan_node *n);
/* The node after n in the tree under top, parents before children; without what is beneath n if !down. */
struct davit_plan_node *plan_next(struct davit_plan_node *n, struct davit_plan_node *top, bool down);
/* Makes the key of a leaf, and enters it: DAVIT_ENOMEM. */
int plan_enter(struct davit_plan_node *leaf);
void plan_leave(struct davit_plan_node *leaf);

static inline struct davit_plan_node *plan_child(const struct davit_plan_node *n, uint32_t index)
{
	struct davit_plan_node *first = DAVIT_LIST_FIRST(&n->children, struct davit_plan_node, siblings);

	if (index == 0 || !first)
		return first;
	return first->siblings.next == &n->children
		       ? NULL
		       : DAVIT_CONTAINER_OF(first->siblings.next, struct davit_plan_node, siblings);
}

/* plan_vars.c: makes the children of an across node of its values. */
int plan_expand(struct davit_plan_node *n, struct davit_error *err);

/* plan_vars.c: sets what a load_var has read, where those after it see it. DAVIT_ENOMEM. */
int plan_set_var(struct davit_plan_node *leaf, const json_t *value);

/* plan_decide.c: what follows. */
void plan_begin_root(struct davit_plan *p);
void plan_end(struct davit_plan_node *n, enum davit_plan_outcome outcome, const char *message);
/* Tells what is active in the tree under top to end. */
void plan_cancel(struct davit_plan_node *top, bool force);
/* Lets the deadlines up to plan->now pass. */
void plan_deadlines(struct davit_plan *p);
/* Decides until there is nothing left to decide. */
void plan_settle(struct davit_plan *p);
/* The earliest deadline, or 0. */
int64_t plan_earliest(const struct davit_plan *p);

#endif
