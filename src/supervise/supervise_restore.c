/* SPDX-License-Identifier: MIT
 *
 * Putting back what a store remembers of a tree, and telling the store what it needs for that.
 */
#include "supervise/supervise_impl.h"

static void found(struct davit_node *leaf, enum davit_node_state s)
{
	node_unplan(leaf);
	leaf->wanted = true;
	leaf->failed = false;
	leaf->flags |= NODE_RAN;
	leaf->started = davit_loop_now(leaf->sup->loop);
	node_set_why(leaf, "restored", leaf->cause, NULL);
	node_set_state(leaf, s);
	node_revive(leaf->parent);
	if (node_covered(leaf))
		node_quell(leaf);
}

void davit_supervise_adopted(struct davit_node *leaf, int64_t restarts)
{
	if (node_runs(leaf->state))
		return;
	leaf->restarts = restarts;
	found(leaf, DAVIT_NODE_RUNNING);
}

/* What was done before is not news: the ancestors' states follow, no more. */
static void found_done(struct davit_node *leaf, enum davit_node_state s)
{
	leaf->wanted = true;
	leaf->failed = s == DAVIT_NODE_FAILED;
	leaf->flags |= NODE_RAN;
	node_set_why(leaf, "restored", leaf->cause, NULL);
	node_set_state(leaf, s);
	for (struct davit_node *p = leaf->parent; p->parent; p = p->parent) {
		if (p->n_done < p->n_children || p->state != DAVIT_NODE_IDLE)
			break;
		p->failed = p->n_failed != 0;
		node_set_state(p, p->failed ? DAVIT_NODE_FAILED : DAVIT_NODE_COMPLETED);
	}
}

void davit_supervise_restore(struct davit_node *leaf, enum davit_node_state state, int64_t restarts,
			     int64_t total_restarts, int64_t attempt)
{
	if (leaf->state != DAVIT_NODE_IDLE)
		return;
	leaf->restarts = restarts;
	leaf->total_restarts = total_restarts;
	leaf->attempt = attempt;
	switch (state) {
	case DAVIT_NODE_IDLE:
		break;
	case DAVIT_NODE_WAITING:
		leaf->wanted = true;
		node_set_why(leaf, "restored", leaf->cause, NULL);
		decide_wait(leaf, attempt > 0 ? attempt - 1 : -1);
		break;
	case DAVIT_NODE_STARTING:
	case DAVIT_NODE_RUNNING:
		found(leaf, state);
		break;
	case DAVIT_NODE_STOPPING:
		found(leaf, DAVIT_NODE_RUNNING);
		davit_supervise_stop(leaf);
		break;
	case DAVIT_NODE_COMPLETED:
	case DAVIT_NODE_FAILED:
		found_done(leaf, state);
		break;
	}
}

void davit_supervise_restore_run(struct davit_node *leaf, int64_t ns)
{
	leaf->started = davit_loop_now(leaf->sup->loop) - ns;
}

void davit_supervise_restore_why(struct davit_node *n, const char *rule, enum davit_cause cause,
				 struct davit_node *origin, int64_t decided)
{
	node_set_why(n, rule, cause, origin);
	n->decided = decided;
	if (!n->leaf || !node_done(n))
		return;
	/* The last of its siblings to be done was why the parent is. */
	for (struct davit_node *p = n->parent; p && node_done(p) && p->decided < decided; p = p->parent) {
		node_set_why(p, "children", cause, origin);
		p->decided = decided;
	}
}

/* Those above supervise, unless one of them has come to something else. */
static void revive_above(struct davit_node *n)
{
	for (const struct davit_node *p = n->parent; p; p = p->parent)
		if (p->state != DAVIT_NODE_IDLE && p->state != DAVIT_NODE_RUNNING)
			return;
	node_revive(n->parent);
}

void davit_supervise_restore_inner(struct davit_node *n, bool failed, const char *rule,
				   enum davit_cause cause, int64_t next)
{
	int64_t cooldown = n->parent ? n->parent->rule.cooldown : n->rule.cooldown;

	for (struct davit_node *c = n; c; c = node_next(c, n))
		if (c->leaf && c->state == DAVIT_NODE_IDLE)
			c->wanted = true;
	revive_above(n);
	n->failed = failed;
	node_set_why(n, rule, cause, NULL);
	node_decide_at(n->sup, next ? next - cooldown : 0);
	job_begin(n, failed ? JOB_FAIL : JOB_DONE, 0);
	job_advance(n);
	node_decide_at(n->sup, 0);
}

bool davit_supervise_restart_noted(const struct davit_node *n, size_t k, int64_t *ret_ago, uint64_t *ret_key)
{
	const struct davit_restart_note *note;

	if (n->leaf || k >= n->window_len)
		return false;
	note = &n->window[(n->window_pos + k) % n->window_cap];
	*ret_ago = davit_loop_now(n->sup->loop) - note->time;
	*ret_key = note->key;
	return true;
}

void davit_supervise_restore_note(struct davit_node *n, int64_t ago, uint64_t key)
{
	decide_note(n, ago, key);
}

void davit_supervise_rejoin(struct davit_node *leaf)
{
	if (leaf->state != DAVIT_NODE_IDLE)
		return;
	leaf->wanted = true;
	if (node_covered(leaf))
		node_blame(leaf);
	node_ask(leaf);
}
