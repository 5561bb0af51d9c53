/* SPDX-License-Identifier: MIT
 *
 * Jobs: an inner node stops its children, or the last of them, and then does
 * what the job says. The cursor walks from the last child to the first one
 * concerned; in order, it goes on only when the child that it is at has ended.
 */
#include "supervise/supervise_impl.h"

static struct davit_node *last_child(struct davit_node *n)
{
	return davit_list_empty(&n->children)
		       ? NULL
		       : DAVIT_CONTAINER_OF(n->children.prev, struct davit_node, siblings);
}

static struct davit_node *child_before(struct davit_node *c)
{
	return c->siblings.prev == &c->parent->children
		       ? NULL
		       : DAVIT_CONTAINER_OF(c->siblings.prev, struct davit_node, siblings);
}

enum job node_cover(const struct davit_node *n)
{
	enum job cover = JOB_NONE;

	for (const struct davit_node *p = n->parent; p; n = p, p = p->parent)
		if (node_job(p) > cover && n->seq >= p->first)
			cover = node_job(p);
	return cover;
}

/* Also under an ancestor that is hushed: it is still stopping. */
bool node_covered(const struct davit_node *n)
{
	for (const struct davit_node *p = n->parent; p; n = p, p = p->parent)
		if (node_job(p) && n->seq >= p->first)
			return true;
	return false;
}

void node_revive(struct davit_node *n)
{
	for (struct davit_node *p = n; p; p = p->parent) {
		bool cooling = p->state == DAVIT_NODE_WAITING && p->flags & NODE_COOLING;
		if (node_job(p) || cooling || p->state == DAVIT_NODE_RUNNING)
			continue;
		p->failed = false;
		p->flags &= ~(uint32_t)NODE_COOLING;
		node_set_state(p, DAVIT_NODE_RUNNING);
	}
}

/* What a wanted leaf does until the jobs that cover it end. */
static enum davit_node_state resting(const struct davit_node *leaf)
{
	enum job job;

	if (!leaf->wanted)
		return DAVIT_NODE_IDLE;
	if (leaf->flags & NODE_ASKED)
		return DAVIT_NODE_WAITING;
	job = node_cover(leaf);
	return job == JOB_RESTART || job == JOB_FRESH ? DAVIT_NODE_WAITING : DAVIT_NODE_IDLE;
}

void node_rest(struct davit_node *leaf)
{
	node_set_state(leaf, resting(leaf));
}

void node_ask(struct davit_node *leaf)
{
	if (leaf->state == DAVIT_NODE_STOPPING)
		return; /* started when it has stopped, if that was asked for */
	if (leaf->state == DAVIT_NODE_STARTING || leaf->state == DAVIT_NODE_RUNNING) {
		leaf->flags &= ~(uint32_t)NODE_ASKED;
		return;
	}
	davit_timer_stop(&leaf->timer);
	leaf->flags &= ~(uint32_t)(NODE_HELD | NODE_COOLING);
	leaf->failed = false;
	if (node_covered(leaf)) {
		davit_list_remove(&leaf->queue);
		node_rest(leaf);
		for (struct davit_node *p = leaf->parent; leaf->flags & NODE_ASKED && p; p = p->parent)
			if (node_job(p))
				p->flags |= NODE_ASKED;
		return;
	}
	leaf->flags &= ~(uint32_t)NODE_ASKED;
	node_set_state(leaf, DAVIT_NODE_WAITING);
	node_revive(leaf->parent);
	budget_ask(leaf);
}

/* Starts what was asked for while n had its job. */
static void release(struct davit_node *n)
{
	if (!(n->flags & NODE_ASKED))
		return;
	n->flags &= ~(uint32_t)NODE_ASKED;
	for (struct davit_node *c = n; c; c = node_next(c, n))
		if (c->leaf && c->flags & NODE_ASKED)
			node_ask(c);
}

static void set_job(struct davit_node *n, enum job job)
{
	n->flags = (n->flags & ~(uint32_t)NODE_JOB_MASK) | (uint32_t)job << NODE_JOB_SHIFT;
}

void job_begin(struct davit_node *n, enum job job, uint64_t first)
{
	davit_timer_stop(&n->timer);
	n->flags &= ~(uint32_t)(NODE_COOLING | NODE_QUIET | NODE_IN_ORDER);
	if (!n->rule.transparent && n->rule.strategy != DAVIT_ONE_FOR_ONE)
		n->flags |= NODE_IN_ORDER;
	set_job(n, job);
	n->next_start = 0;
	n->first = first;
	n->cursor = last_child(n);
	node_set_state(n, DAVIT_NODE_STOPPING);
}

void job_extend(struct davit_node *n, uint64_t first)
{
	if (first >= n->first)
		return;
	/* The cursor stands at the last child that may still have to be stopped;
	 * past the end of the old range it is where that range's end was. */
	n->first = first;
	n->flags &= ~(uint32_t)NODE_QUIET;
	node_set_state(n, DAVIT_NODE_STOPPING);
}

void job_cancel(struct davit_node *n)
{
	davit_timer_stop(&n->timer);
	n->flags &= ~(uint32_t)NODE_QUIET;
	n->next_start = 0;
	set_job(n, JOB_NONE);
}

/* All beneath n is down for the sake of a job above. */
static void hushed(struct davit_node *n)
{
	enum job job = node_cover(n);

	if (n->flags & NODE_COOLING) {
		node_set_state(n, DAVIT_NODE_FAILED);
		return;
	}
	if (job == JOB_RESTART || job == JOB_FRESH) {
		node_set_state(n, DAVIT_NODE_WAITING);
		return;
	}
	node_set_state(n, DAVIT_NODE_IDLE);
	/* The job above may have begun as a restart, for which these wait. */
	for (struct davit_node *c = n; c; c = node_next(c, n)) {
		if (c->state != DAVIT_NODE_WAITING || c->flags & (NODE_ASKED | NODE_COOLING))
			continue;
		node_set_state(c, DAVIT_NODE_IDLE);
	}
}

static void complete(struct davit_node *n)
{
	enum job job = node_job(n);
	uint64_t first = n->first;
	struct davit_node *c;

	job_cancel(n);
	switch (job) {
	case JOB_NONE:
		return;
	case JOB_HUSH:
		hushed(n);
		break;
	case JOB_STOP:
		node_set_state(n, DAVIT_NODE_IDLE);
		break;
	case JOB_RESTART:
		node_set_state(n, DAVIT_NODE_RUNNING);
		DAVIT_LIST_FOREACH (c, &n->children, siblings)
			if (c->seq >= first)
				node_launch(c, false);
		decide_children(n);
		break;
	case JOB_FRESH:
		node_launch(n, true);
		break;
	case JOB_DONE:
		node_set_state(n, DAVIT_NODE_COMPLETED);
		decide_done(n);
		break;
	case JOB_FAIL:
		decide_escalate(n);
		break;
	}
	release(n);
}

void job_advance(struct davit_node *n)
{
	enum job job = node_job(n);

	if (!job)
		return;
	while (n->cursor && n->cursor->seq >= n->first) {
		struct davit_node *c = n->cursor;
		node_quell(c);
		/* The child's failure, come to light now, may have been passed on to n. */
		if (node_job(n) != job)
			return;
		if (n->flags & NODE_IN_ORDER && node_active(c))
			return;
		n->cursor = child_before(c);
	}
	if (!n->first && n->n_active)
		return;
	if (node_job(n) == JOB_RESTART && davit_timer_active(&n->timer)) {
		n->flags |= NODE_QUIET;
		node_set_state(n, DAVIT_NODE_WAITING);
		return;
	}
	complete(n);
}

void job_settle(struct davit_node *n)
{
	for (; n; n = n->parent)
		job_advance(n);
}

void node_blame(struct davit_node *n)
{
	for (struct davit_node *p = n->parent; p; p = p->parent) {
		if (node_job(p) <= JOB_HUSH)
			continue;
		if (p->rule_name && (n->rule_name != p->rule_name || n->decided < p->decided))
			node_set_why(n, p->rule_name, n->cause, p->origin);
		n->next_start = p->next_start;
		return;
	}
}

static void quell_leaf(struct davit_node *n)
{
	switch (n->state) {
	case DAVIT_NODE_WAITING:
		if (n->flags & NODE_ASKED) {
			node_ask(n); /* it goes on waiting, for the new job's end as well */
			return;
		}
		if (n->flags & NODE_COOLING) {
			davit_timer_stop(&n->timer);
			n->next_start = 0;
			node_set_state(n, DAVIT_NODE_FAILED);
			return;
		}
		node_unplan(n);
		node_blame(n);
		node_rest(n);
		return;
	case DAVIT_NODE_STARTING:
	case DAVIT_NODE_RUNNING:
		node_blame(n);
		node_set_state(n, DAVIT_NODE_STOPPING);
		budget_stop(n);
		return;
	default:
		return;
	}
}

void node_quell(struct davit_node *n)
{
	if (n->leaf) {
		quell_leaf(n);
		return;
	}
	if (node_done(n) || n->state == DAVIT_NODE_IDLE)
		return;
	switch (node_job(n)) {
	case JOB_HUSH:
	case JOB_FAIL:
	case JOB_DONE:
	case JOB_STOP: /* is stopping all, and its outcome stands */
		/* If it is just about to end, it ends before the job above does. */
		if (!n->n_active)
			job_advance(n);
		return;
	case JOB_NONE:
	case JOB_RESTART:
	case JOB_FRESH: { /* the job above decides what comes next */
		uint32_t cooling = n->flags & NODE_COOLING;
		job_begin(n, JOB_HUSH, 0);
		n->flags |= cooling;
		break;
	}
	}
	node_blame(n);
	job_advance(n);
}

/* True if something of n starts, or still is there. */
static bool launch_leaf(struct davit_node *n, bool fresh)
{
	if (n->state == DAVIT_NODE_STARTING || n->state == DAVIT_NODE_RUNNING)
		return true;
	if (!n->wanted)
		return n->state == DAVIT_NODE_STOPPING;
	if (n->state == DAVIT_NODE_STOPPING) {
		n->flags |= NODE_ASKED;
		return true;
	}
	if (fresh || n->flags & NODE_COOLING) {
		node_refresh(n);
	} else if (n->state == DAVIT_NODE_FAILED || n->flags & NODE_FINAL) {
		return false;
	} else if (n->restart.policy == DAVIT_RESTART_NEVER && n->flags & NODE_RAN) {
		if (n->state == DAVIT_NODE_WAITING || n->state == DAVIT_NODE_IDLE) {
			node_set_why(n, "policy", n->cause, n->origin);
			node_set_state(n, DAVIT_NODE_COMPLETED);
		}
		return false;
	}
	node_ask(n);
	return true;
}

static bool launch(struct davit_node *n, bool fresh)
{
	struct davit_node *c;
	bool any = false;

	if (n->leaf)
		return launch_leaf(n, fresh);
	if (n->state == DAVIT_NODE_FAILED && !(n->flags & NODE_COOLING) && !fresh)
		return false;
	if (fresh || n->flags & NODE_COOLING) {
		node_refresh(n);
		fresh = true;
	}
	DAVIT_LIST_FOREACH (c, &n->children, siblings)
		any |= launch(c, fresh);
	n->next_start = 0;
	if (node_job(n))
		return any;
	if (any || !n->parent || n->rule.headed)
		node_set_state(n, DAVIT_NODE_RUNNING);
	else if (n->n_children && n->n_done == n->n_children) {
		n->failed = n->n_failed != 0;
		node_set_why(n, "children", n->cause, n->origin);
		node_set_state(n, n->failed ? DAVIT_NODE_FAILED : DAVIT_NODE_COMPLETED);
	} else
		node_set_state(n, DAVIT_NODE_IDLE);
	return any;
}

void node_launch(struct davit_node *n, bool fresh)
{
	launch(n, fresh);
}
