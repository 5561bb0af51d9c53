/* SPDX-License-Identifier: MIT
 *
 * The policy of plans: one function a kind of node, which looks at the node's children and
 * decides. Nodes whose children changed wait in plan->work, so that nothing here recurses.
 */
#include "step/plan_impl.h"

#include <string.h>

static void look_at(struct davit_plan_node *n)
{
	if (davit_list_empty(&n->work))
		davit_list_add_tail(&n->plan->work, &n->work);
}

static enum davit_plan_outcome worse(enum davit_plan_outcome a, enum davit_plan_outcome b)
{
	return a > b ? a : b;
}

static struct davit_plan_node *sibling(const struct davit_plan_node *n)
{
	return n->siblings.next == &n->parent->children
		       ? NULL
		       : DAVIT_CONTAINER_OF(n->siblings.next, struct davit_plan_node, siblings);
}

/* The host is owed a call for this leaf, as soon as the event at hand is durable. */
static void owe(struct davit_plan_node *leaf)
{
	leaf->since = leaf->plan->generation;
	davit_list_remove(&leaf->pending);
	davit_list_add_tail(&leaf->plan->pending, &leaf->pending);
}

static void arm(struct davit_plan_node *timeout, int64_t from)
{
	timeout->deadline = from > INT64_MAX - timeout->after ? INT64_MAX : from + timeout->after;
	davit_list_add_tail(&timeout->plan->armed, &timeout->armed);
}

/* A child of a node with several at a time has ended. */
static void count_end(struct davit_plan_node *parent, const struct davit_plan_node *child)
{
	parent->active--;
	if (child->outcome == DAVIT_PLAN_ABORTED && child->cancelled && parent->stopping)
		parent->spared = true;
	else
		parent->worst = worse(parent->worst, child->outcome);
	if (child->outcome == DAVIT_PLAN_SUCCEEDED || !parent->fail_fast || parent->stopping ||
	    parent->cancelled)
		return;
	parent->stopping = true;
	for (struct davit_plan_node *c = plan_child(parent, 0); c; c = sibling(c))
		plan_cancel(c, false);
}

/* A copy of a message as text that JSON can carry, cut where it is too long; NULL when there is none. */
static char *message_text(const char *message)
{
	size_t len = message ? strnlen(message, DAVIT_PLAN_MESSAGE_MAX) : 0, cut = 0;
	json_t *text = NULL;
	char *copy;

	if (!len)
		return NULL;
	while (!text && cut < 4 && cut < len) /* a character may have been cut in two */
		text = json_stringn(message, len - cut++);
	copy = text ? strdup(json_string_value(text)) : strndup(message, len);
	for (char *p = text ? NULL : copy; p && *p; p++)
		if (*p & 0x80)
			*p = '?';
	json_decref(text);
	return copy;
}

void plan_end(struct davit_plan_node *n, enum davit_plan_outcome outcome, const char *message)
{
	struct davit_plan *p = n->plan;
	struct davit_plan_node *parent = n->parent;

	n->state = DAVIT_PLAN_ENDED;
	n->outcome = outcome;
	n->ended = p->now;
	n->is_running = false;
	free(n->message);
	n->message = message_text(message);
	davit_list_remove(&n->armed);
	plan_leave(n);
	if (!p->replaying)
		p->ops->changed(p->owner, n);
	if (!parent)
		return;
	if (parent->kind == DAVIT_PLAN_IN_PARALLEL || parent->kind == DAVIT_PLAN_ACROSS)
		count_end(parent, n);
	look_at(parent);
}

/* ------------------------------------------------------------------------- begin */

static void begin_leaf(struct davit_plan_node *n)
{
	struct davit_error err;

	davit_error_clear(&err);
	if (davit_plan_fill(n, n->spec, &n->config, &err) < 0) {
		plan_end(n, DAVIT_PLAN_ERRORED, err.message);
		return;
	}
	if (plan_enter(n) < 0) {
		plan_end(n, DAVIT_PLAN_ERRORED, "out of memory");
		return;
	}
	n->owes_start = true;
	owe(n);
}

static void begin(struct davit_plan_node *n)
{
	struct davit_plan *p = n->plan;
	struct davit_error err;

	n->state = DAVIT_PLAN_ACTIVE;
	n->began = p->now;
	if (!p->replaying)
		p->ops->changed(p->owner, n);
	if (davit_plan_is_leaf(n->kind)) {
		begin_leaf(n);
		return;
	}
	davit_error_clear(&err);
	if (n->kind == DAVIT_PLAN_ACROSS && plan_expand(n, &err) < 0) {
		plan_end(n, DAVIT_PLAN_ERRORED, err.message);
		return;
	}
	n->next = plan_child(n, 0);
	if (n->kind == DAVIT_PLAN_ATTEMPTS)
		n->attempt = 1;
	if (n->kind == DAVIT_PLAN_TIMEOUT && !davit_plan_is_leaf(n->next->kind))
		arm(n, p->now);
	look_at(n);
}

void plan_begin_root(struct davit_plan *p)
{
	begin(p->root);
}

/* Begins the next child; in what is cancelled, the node ends instead. */
static void begin_next(struct davit_plan_node *n)
{
	struct davit_plan_node *child = n->next;

	if (n->cancelled) {
		plan_end(n, DAVIT_PLAN_ABORTED, NULL);
		return;
	}
	n->next = sibling(child);
	begin(child);
}

/* ------------------------------------------------------------------------ decide */

static void decide_do(struct davit_plan_node *n)
{
	struct davit_plan_node *last =
		n->next ? (n->next->index ? DAVIT_CONTAINER_OF(n->next->siblings.prev, struct davit_plan_node,
							       siblings)
					  : NULL)
			: DAVIT_CONTAINER_OF(n->children.prev, struct davit_plan_node, siblings);

	if (davit_list_empty(&n->children))
		plan_end(n, DAVIT_PLAN_SUCCEEDED, NULL);
	else if (last && last->state != DAVIT_PLAN_ENDED)
		return;
	else if (last && last->outcome != DAVIT_PLAN_SUCCEEDED)
		plan_end(n, last->outcome, NULL);
	else if (n->next)
		begin_next(n);
	else
		plan_end(n, DAVIT_PLAN_SUCCEEDED, NULL);
}

static void decide_parallel(struct davit_plan_node *n)
{
	while (n->next && !n->cancelled && !n->stopping && (!n->limit || n->active < n->limit)) {
		n->active++;
		begin_next(n);
	}
	if (n->active)
		return;
	if (n->cancelled && (n->next || n->spared))
		plan_end(n, DAVIT_PLAN_ABORTED, NULL);
	else
		plan_end(n, n->worst, NULL);
}

static void decide_try(struct davit_plan_node *n)
{
	if (n->next)
		begin_next(n);
	else if (plan_child(n, 0)->state == DAVIT_PLAN_ENDED)
		plan_end(n,
			 plan_child(n, 0)->outcome == DAVIT_PLAN_ABORTED ? DAVIT_PLAN_ABORTED
									 : DAVIT_PLAN_SUCCEEDED,
			 NULL);
}

static void decide_timeout(struct davit_plan_node *n)
{
	const struct davit_plan_node *step = plan_child(n, 0);

	if (n->next)
		begin_next(n);
	else if (step->state != DAVIT_PLAN_ENDED)
		return;
	else if (step->outcome == DAVIT_PLAN_ABORTED && n->timed_out && !n->cancelled)
		plan_end(n, DAVIT_PLAN_FAILED, "its time was over");
	else
		plan_end(n, step->outcome, NULL);
}

static void decide_attempts(struct davit_plan_node *n)
{
	struct davit_plan_node *step = plan_child(n, 0);

	if (n->next) {
		begin_next(n);
	} else if (step->state != DAVIT_PLAN_ENDED) {
		return;
	} else if (step->outcome == DAVIT_PLAN_SUCCEEDED || step->outcome == DAVIT_PLAN_ABORTED ||
		   n->attempt >= n->limit) {
		plan_end(n, step->outcome, NULL);
	} else if (n->cancelled) {
		plan_end(n, DAVIT_PLAN_ABORTED, NULL);
	} else {
		plan_node_reset(step);
		n->attempt++;
		n->next = step;
		begin_next(n);
	}
}

static bool hook_is_due(enum davit_plan_kind hook, enum davit_plan_outcome of_step)
{
	static const enum davit_plan_outcome due[] = {
		[DAVIT_PLAN_ON_SUCCESS] = DAVIT_PLAN_SUCCEEDED,
		[DAVIT_PLAN_ON_FAILURE] = DAVIT_PLAN_FAILED,
		[DAVIT_PLAN_ON_ERROR] = DAVIT_PLAN_ERRORED,
		[DAVIT_PLAN_ON_ABORT] = DAVIT_PLAN_ABORTED,
	};

	return hook == DAVIT_PLAN_ENSURE || due[hook] == of_step;
}

/* These hooks run in what is cancelled, and are not cancelled with it. */
static bool shields(enum davit_plan_kind k)
{
	return k == DAVIT_PLAN_ENSURE || k == DAVIT_PLAN_ON_ABORT;
}

static void decide_hook(struct davit_plan_node *n)
{
	struct davit_plan_node *step = plan_child(n, 0), *hook = plan_child(n, 1);

	if (n->next == step) {
		begin_next(n);
	} else if (step->state != DAVIT_PLAN_ENDED || hook->state == DAVIT_PLAN_ACTIVE) {
		return;
	} else if (hook->state == DAVIT_PLAN_ENDED) {
		plan_end(n, worse(step->outcome, hook->outcome), NULL);
	} else if (!hook_is_due(n->kind, step->outcome)) {
		plan_end(n, step->outcome, NULL);
	} else if (n->forced || (n->cancelled && !shields(n->kind))) {
		plan_end(n, DAVIT_PLAN_ABORTED, NULL);
	} else {
		n->next = NULL;
		begin(hook);
	}
}

static void (*const decide[])(struct davit_plan_node *) = {
	[DAVIT_PLAN_DO] = decide_do,	       [DAVIT_PLAN_IN_PARALLEL] = decide_parallel,
	[DAVIT_PLAN_ACROSS] = decide_parallel, [DAVIT_PLAN_TRY] = decide_try,
	[DAVIT_PLAN_TIMEOUT] = decide_timeout, [DAVIT_PLAN_ATTEMPTS] = decide_attempts,
	[DAVIT_PLAN_ON_SUCCESS] = decide_hook, [DAVIT_PLAN_ON_FAILURE] = decide_hook,
	[DAVIT_PLAN_ON_ERROR] = decide_hook,   [DAVIT_PLAN_ON_ABORT] = decide_hook,
	[DAVIT_PLAN_ENSURE] = decide_hook,
};
_Static_assert(DAVIT_ARRAY_SIZE(decide) == DAVIT_PLAN_TASK, "each kind that is no leaf decides");

void plan_settle(struct davit_plan *p)
{
	struct davit_plan_node *n;

	while ((n = DAVIT_LIST_FIRST(&p->work, struct davit_plan_node, work))) {
		davit_list_remove(&n->work);
		if (n->state == DAVIT_PLAN_ACTIVE)
			decide[n->kind](n);
	}
}

/* ------------------------------------------------------------------------ cancel */

void plan_cancel(struct davit_plan_node *top, bool force)
{
	struct davit_plan_node *n = top, *next;

	for (; n; n = next) {
		bool spare = n != top && n->index == 1 && shields(n->parent->kind) && !force;
		bool down = n->state == DAVIT_PLAN_ACTIVE && !spare;

		next = plan_next(n, top, down);
		if (!down || (n->cancelled && n->forced >= force))
			continue;
		if (!davit_plan_is_leaf(n->kind)) {
			look_at(n);
		} else if (!n->cancelled) {
			n->owes_abort = true;
			owe(n);
		}
		n->cancelled = true;
		n->forced = n->forced || force;
	}
}

void plan_deadlines(struct davit_plan *p)
{
	struct davit_plan_node *n, *tmp;

	DAVIT_LIST_FOREACH_SAFE (n, tmp, &p->armed, armed) {
		if (n->deadline > p->now)
			continue;
		davit_list_remove(&n->armed);
		n->timed_out = true;
		plan_cancel(plan_child(n, 0), false);
	}
}

int64_t plan_earliest(const struct davit_plan *p)
{
	const struct davit_plan_node *n;
	int64_t at = 0;

	DAVIT_LIST_FOREACH (n, &p->armed, armed)
		if (!at || n->deadline < at)
			at = n->deadline;
	return at;
}
