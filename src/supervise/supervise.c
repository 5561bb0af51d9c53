/* SPDX-License-Identifier: MIT
 *
 * The tree, what the user asks of it, and what the mechanism reports to it.
 */
#include "supervise/supervise_impl.h"

#include <string.h>

/* --- nodes --- */

struct davit_node *node_next(struct davit_node *n, const struct davit_node *top)
{
	if (!davit_list_empty(&n->children))
		return DAVIT_CONTAINER_OF(n->children.next, struct davit_node, siblings);
	for (; n != top; n = n->parent)
		if (n->siblings.next != &n->parent->children)
			return DAVIT_CONTAINER_OF(n->siblings.next, struct davit_node, siblings);
	return NULL;
}

/* The walk backwards, parents after their children: from node_last(top) to top. */
static struct davit_node *node_last(struct davit_node *top)
{
	while (!davit_list_empty(&top->children))
		top = DAVIT_CONTAINER_OF(top->children.prev, struct davit_node, siblings);
	return top;
}

static struct davit_node *node_prev(struct davit_node *n, const struct davit_node *top)
{
	if (n == top)
		return NULL;
	if (n->siblings.prev == &n->parent->children)
		return n->parent;
	return node_last(DAVIT_CONTAINER_OF(n->siblings.prev, struct davit_node, siblings));
}

static void count_active(struct davit_node *n, int64_t by)
{
	for (struct davit_node *p = n->parent; by && p; p = p->parent)
		p->n_active = (uint32_t)(p->n_active + by);
}

/* Takes n's state into, or out of, its parent's counts. */
static void count_done(struct davit_node *n, int by)
{
	if (!n->parent)
		return;
	if (node_done(n))
		n->parent->n_done += (uint32_t)by;
	if (n->state == DAVIT_NODE_FAILED)
		n->parent->n_failed += (uint32_t)by;
}

void node_set_state(struct davit_node *n, enum davit_node_state s)
{
	budget_note(n);
	if (s != DAVIT_NODE_WAITING && s != DAVIT_NODE_STOPPING)
		n->next_start = 0;
	if (n->state == s)
		return;
	count_done(n, -1);
	if (n->leaf)
		count_active(n, node_runs(s) - node_runs(n->state));
	n->state = s;
	count_done(n, 1);
}

static void node_set_origin(struct davit_node *n, struct davit_node *origin)
{
	davit_list_remove(&n->origin_link);
	n->origin = origin;
	if (origin && origin != n)
		davit_list_add_tail(&origin->originated, &n->origin_link);
}

void node_decide_at(struct davit_supervise *s, int64_t when)
{
	int64_t ago = when ? davit_loop_wall(s->loop) - when : 0;

	s->at = when;
	s->ago = ago > 0 ? ago : 0;
}

int64_t node_time(const struct davit_supervise *s)
{
	return s->at ? s->at : davit_loop_wall(s->loop);
}

void node_set_why(struct davit_node *n, const char *rule, enum davit_cause cause, struct davit_node *origin)
{
	n->rule_name = rule;
	n->cause = cause;
	n->decided = node_time(n->sup);
	node_set_origin(n, origin);
	budget_note(n);
}

void node_unplan(struct davit_node *n)
{
	davit_timer_stop(&n->timer);
	davit_list_remove(&n->queue);
	n->flags &= ~(uint32_t)(NODE_HELD | NODE_ASKED | NODE_COOLING);
	n->next_start = 0;
}

void node_refresh(struct davit_node *n)
{
	n->failed = false;
	n->flags &= ~(uint32_t)(NODE_RAN | NODE_FINAL | NODE_COOLING);
	n->next_start = 0;
	if (n->leaf) {
		n->restarts = 0;
		n->attempt = 0;
	} else {
		n->window_len = 0;
	}
}

/* --- the tree --- */

static void attach(struct davit_node *n, struct davit_node *parent)
{
	n->parent = parent;
	n->seq = parent->sup->seq += 2; /* odd ones: behind a sibling */
	davit_list_add_tail(&parent->children, &n->siblings);
	parent->n_children++;
	count_done(n, 1);
	count_active(n, n->leaf ? node_runs(n->state) : n->n_active);
}

static void detach(struct davit_node *n)
{
	struct davit_node *p = n->parent;

	if (p->cursor == n)
		p->cursor = n->siblings.prev == &p->children
				    ? NULL
				    : DAVIT_CONTAINER_OF(n->siblings.prev, struct davit_node, siblings);
	count_active(n, n->leaf ? -(int64_t)node_runs(n->state) : -(int64_t)n->n_active);
	count_done(n, -1);
	p->n_children--;
	davit_list_remove(&n->siblings);
	n->parent = NULL;
}

static int node_init(struct davit_node *n, struct davit_supervise *s, const char *name, bool leaf,
		     void *owner)
{
	char *copy = strdup(name);

	if (!copy)
		return DAVIT_ENOMEM;
	*n = (struct davit_node){.sup = s, .name = copy, .owner = owner, .leaf = leaf};
	davit_list_init(&n->siblings);
	davit_list_init(&n->children);
	davit_list_init(&n->origin_link);
	davit_list_init(&n->originated);
	davit_list_init(&n->queue);
	davit_list_init(&n->note);
	davit_timer_init(&n->timer, s->loop, node_fire);
	return 0;
}

/* Everything of n that is not its place in the tree. */
static void node_fini(struct davit_node *n)
{
	struct davit_node *o, *tmp;

	budget_release(n);
	davit_timer_stop(&n->timer);
	davit_list_remove(&n->queue);
	davit_list_remove(&n->note);
	davit_list_remove(&n->origin_link);
	DAVIT_LIST_FOREACH_SAFE (o, tmp, &n->originated, origin_link)
		node_set_origin(o, NULL);
	if (!n->leaf) {
		free(n->window);
		n->window = NULL;
	}
	free(n->name);
	n->name = NULL;
	n->origin = NULL;
	n->sup = NULL;
}

static int root_check(const struct davit_supervision_rule *rule, struct davit_error *err)
{
	if (rule->transparent)
		return davit_error_set(err, DAVIT_EINVAL, "root", "the root must supervise");
	if (rule->escalation == DAVIT_ESCALATE_PARENT)
		return davit_error_set(
			err, DAVIT_EINVAL, "root",
			"the root has no parent: its escalation can be isolate or restart only");
	return 0;
}

int davit_supervise_init(struct davit_supervise *s, struct davit_loop *loop,
			 const struct davit_supervise_ops *ops, const struct davit_supervision_rule *root,
			 const struct davit_start_budget *budget, void *owner, struct davit_error *err)
{
	int r = root_check(root, err);

	if (r)
		return r;
	*s = (struct davit_supervise){.loop = loop, .ops = ops, .owner = owner, .budget = *budget};
	budget_init(s);
	if (node_init(&s->root, s, "Main", false, owner))
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	s->root.rule = *root;
	s->root.state = DAVIT_NODE_RUNNING;
	return 0;
}

void davit_supervise_fini(struct davit_supervise *s)
{
	struct davit_node *n, *before;

	if (!s->root.sup)
		return;
	for (n = node_last(&s->root); n; n = before) {
		before = node_prev(n, &s->root);
		if (n->parent)
			detach(n);
		node_fini(n);
	}
	davit_timer_stop(&s->refill);
	davit_deferred_cancel(&s->work);
}

int davit_supervise_add_leaf(struct davit_node *n, struct davit_node *parent, const char *name,
			     const struct davit_restart_rule *rule, void *owner)
{
	int r = node_init(n, parent->sup, name, true, owner);

	if (r)
		return r;
	n->restart = *rule;
	attach(n, parent);
	return 0;
}

int davit_supervise_add_inner(struct davit_node *n, struct davit_node *parent, const char *name,
			      const struct davit_supervision_rule *rule, void *owner)
{
	int r = node_init(n, parent->sup, name, false, owner);

	if (r)
		return r;
	n->rule = *rule;
	attach(n, parent);
	return 0;
}

int davit_supervise_add_inner_behind(struct davit_node *n, struct davit_node *sibling, const char *name,
				     const struct davit_supervision_rule *rule, void *owner)
{
	int r = davit_supervise_add_inner(n, sibling->parent, name, rule, owner);

	if (r)
		return r;
	davit_list_remove(&n->siblings);
	davit_list_add_head(&sibling->siblings, &n->siblings);
	n->seq = sibling->seq + 1;
	return 0;
}

void davit_supervise_remove(struct davit_node *n)
{
	struct davit_node *parent = n->parent;
	bool done = node_done(n);

	detach(n);
	node_fini(n);
	job_settle(parent);
	if (!done)
		decide_children(parent);
}

void davit_supervise_move(struct davit_node *n, struct davit_node *parent)
{
	enum job job = node_cover(n);
	struct davit_node *old = n->parent, *c;
	bool live = false, starts = job == JOB_RESTART || job == JOB_FRESH;

	/* What the old parent was about to start, starts all the same. */
	if (starts)
		for (c = n; c; c = node_next(c, n))
			if (c->leaf && c->wanted && c->state == DAVIT_NODE_STOPPING)
				c->flags |= NODE_ASKED;
	detach(n);
	attach(n, parent);
	job_settle(old);
	for (c = n; c; c = node_next(c, n)) {
		if (c->flags & NODE_COOLING) {
			if (c->state == DAVIT_NODE_FAILED && starts)
				node_launch(c, true);
		} else if (!c->leaf) {
			/* It waited to be started with others; its leaves ask for themselves. */
			if (c->state == DAVIT_NODE_WAITING && !node_job(c))
				node_set_state(c, DAVIT_NODE_IDLE);
		} else if (c->state == DAVIT_NODE_WAITING && davit_list_empty(&c->queue) &&
			   !davit_timer_active(&c->timer) && !(c->flags & NODE_HELD)) {
			node_ask(c);
		}
		if (c->leaf && !c->wanted)
			node_quell(c); /* the stop that was to come to it, comes now */
		live |= c->state != DAVIT_NODE_IDLE && !node_done(c);
	}
	if (live)
		node_revive(parent);
	if (node_covered(n))
		node_quell(n);
}

void davit_supervise_set_restart(struct davit_node *leaf, const struct davit_restart_rule *rule)
{
	leaf->restart = *rule;
}

int davit_supervise_set_rule(struct davit_node *inner, const struct davit_supervision_rule *rule)
{
	int r = inner->parent ? 0 : root_check(rule, NULL);

	if (!r)
		inner->rule = *rule;
	return r;
}

/* --- the user --- */

static void want(struct davit_node *leaf)
{
	leaf->wanted = true;
	leaf->flags |= NODE_ASKED;
	node_refresh(leaf);
	node_set_why(leaf, "user", leaf->cause, NULL);
}

void davit_supervise_start(struct davit_node *n)
{
	struct davit_node *c;

	for (c = n; c; c = node_next(c, n)) {
		if (c->leaf) {
			want(c);
			continue;
		}
		node_refresh(c);
		node_set_why(c, "user", c->cause, NULL);
		/* What is being stopped ends first, and then all is started; a mere
		 * wait ends here. */
		if (node_job(c) && !(c->flags & NODE_QUIET)) {
			job_begin(c, JOB_FRESH, c->first);
		} else {
			job_cancel(c);
			node_set_state(c, DAVIT_NODE_RUNNING);
		}
	}
	for (c = n; c; c = node_next(c, n))
		if (c->leaf)
			node_ask(c);
	for (c = node_last(n); c; c = node_prev(c, n))
		job_advance(c);
}

/* Makes an inner node beneath one that is about to be stopped an ordinary one,
 * without a job or a failure of its own. */
static void disarm(struct davit_node *n)
{
	job_cancel(n);
	n->failed = false;
	n->flags &= ~(uint32_t)(NODE_COOLING | NODE_ASKED);
	if (n->state != DAVIT_NODE_IDLE)
		node_set_state(n, node_done(n) ? DAVIT_NODE_IDLE : DAVIT_NODE_RUNNING);
}

void davit_supervise_stop(struct davit_node *n)
{
	struct davit_node *c;

	for (c = node_last(n); c; c = node_prev(c, n)) {
		c->failed = false;
		if (!c->leaf) {
			disarm(c);
			continue;
		}
		c->wanted = false;
		c->flags &= ~(uint32_t)NODE_ASKED;
		if (!node_runs(c->state)) {
			node_unplan(c);
			node_set_state(c, DAVIT_NODE_IDLE);
		}
	}
	if (n->leaf) {
		node_quell(n);
		node_set_why(n, "user", n->cause, NULL);
		return;
	}
	node_set_why(n, "user", n->cause, NULL);
	job_begin(n, JOB_STOP, 0);
	job_advance(n);
}

void davit_supervise_restart(struct davit_node *n)
{
	struct davit_node *c;

	for (c = n; c; c = node_next(c, n)) {
		if (c->leaf)
			want(c);
		else
			disarm(c);
	}
	if (!n->leaf) {
		node_set_why(n, "user", n->cause, NULL);
		job_begin(n, JOB_FRESH, 0);
		/* What does not run waits for the others to end. */
		for (c = n; c; c = node_next(c, n))
			if (c->leaf && !node_runs(c->state))
				node_ask(c);
		job_advance(n);
	} else if (node_runs(n->state)) {
		node_quell(n);
		node_set_why(n, "user", n->cause, NULL);
	} else {
		node_ask(n);
	}
}

void davit_supervise_relaunch(struct davit_node *n)
{
	if (n->state != DAVIT_NODE_FAILED)
		return;
	n->total_restarts++;
	node_launch(n, true);
}

/* --- the mechanism --- */

void davit_supervise_running(struct davit_node *leaf)
{
	budget_release(leaf);
	if (leaf->state != DAVIT_NODE_STARTING)
		return;
	leaf->started = davit_loop_now(leaf->sup->loop);
	node_set_state(leaf, DAVIT_NODE_RUNNING);
}

/* It was told to stop, and did. */
static void stopped(struct davit_node *leaf)
{
	leaf->cause = DAVIT_CAUSE_STOPPED;
	if (leaf->wanted && leaf->flags & NODE_ASKED) {
		node_set_state(leaf, DAVIT_NODE_IDLE);
		node_ask(leaf);
	} else {
		node_rest(leaf);
	}
}

void davit_supervise_ending(struct davit_node *leaf)
{
	if (leaf->started && davit_loop_now(leaf->sup->loop) - leaf->started >= leaf->restart.backoff.reset)
		leaf->attempt = 0;
}

static void ended(struct davit_node *leaf, enum davit_cause cause, bool final)
{
	enum davit_node_state was = leaf->state;

	if (!node_runs(was))
		return;
	davit_list_remove(&leaf->queue);
	budget_release(leaf);
	davit_supervise_ending(leaf);
	if (was == DAVIT_NODE_STOPPING) {
		stopped(leaf);
	} else if (cause == DAVIT_CAUSE_STOPPED) {
		leaf->wanted = false;
		leaf->flags &= ~(uint32_t)NODE_ASKED;
		node_set_why(leaf, "stopped", cause, leaf);
		node_set_state(leaf, DAVIT_NODE_IDLE);
	} else {
		decide_end(leaf, cause, final);
	}
	job_settle(leaf->parent);
}

void davit_supervise_ended(struct davit_node *leaf, enum davit_cause cause)
{
	ended(leaf, cause, false);
}

void davit_supervise_ended_final(struct davit_node *leaf, enum davit_cause cause)
{
	ended(leaf, cause, true);
}

void davit_supervise_ended_at(struct davit_node *leaf, enum davit_cause cause, bool final, int64_t when)
{
	struct davit_supervise *s = leaf->sup;

	node_decide_at(s, when);
	ended(leaf, cause, final);
	node_decide_at(s, 0);
}

void davit_supervise_hold(struct davit_node *leaf)
{
	if (leaf->state == DAVIT_NODE_STOPPING)
		ended(leaf, DAVIT_CAUSE_STOPPED, false);
	if (leaf->state != DAVIT_NODE_STARTING)
		return;
	if (leaf->flags & NODE_SLOT)
		budget_refund(leaf->sup);
	budget_release(leaf);
	leaf->flags = (leaf->flags & ~(uint32_t)NODE_RAN) | NODE_HELD;
	if (leaf->wanted) {
		node_set_why(leaf, "dependencies", leaf->cause, leaf->origin);
		node_set_state(leaf, DAVIT_NODE_WAITING);
	} else {
		node_rest(leaf);
	}
	job_settle(leaf->parent);
}

void davit_supervise_retry(struct davit_node *leaf)
{
	if (leaf->state == DAVIT_NODE_WAITING && leaf->flags & NODE_HELD)
		node_ask(leaf);
}
