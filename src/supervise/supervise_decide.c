/* SPDX-License-Identifier: MIT
 *
 * What follows when something ends: the steps of supervise.h, in their order.
 */
#include "supervise/supervise_impl.h"

/* Who decides about n: its nearest ancestor that is no mere group. The root is
 * none, so there is one for all but the root. *ret_branch: n or the group that
 * it is in, as the child of that ancestor. */
static struct davit_node *supervisor(struct davit_node *n, struct davit_node **ret_branch)
{
	while (n->parent && n->parent->rule.transparent)
		n = n->parent;
	if (ret_branch)
		*ret_branch = n;
	return n->parent;
}

/* --- intensity --- */

static void window_grow(struct davit_node *n, size_t want)
{
	uint32_t cap = n->window_cap ? n->window_cap * 2 : 4;
	struct davit_restart_note *w;

	if (cap > want)
		cap = (uint32_t)want;
	if (cap <= n->window_cap || !(w = malloc(cap * sizeof *w)))
		return;
	for (uint32_t i = 0; i < n->window_len; i++)
		w[i] = n->window[(n->window_pos + i) % n->window_cap];
	free(n->window);
	n->window = w;
	n->window_cap = cap;
	n->window_pos = 0;
}

void decide_note(struct davit_node *n, int64_t ago, uint64_t key)
{
	int64_t max = n->rule.max_restarts;

	if (n->window_len >= max)
		return;
	if (n->window_len == n->window_cap)
		window_grow(n, max < UINT32_MAX ? (size_t)max : UINT32_MAX);
	if (n->window_len == n->window_cap)
		return;
	n->window[(n->window_pos + n->window_len++) % n->window_cap] =
		(struct davit_restart_note){davit_loop_now(n->sup->loop) - ago, key};
	budget_note(n);
}

static bool is_noted(const struct davit_node *n, uint64_t key)
{
	for (uint32_t k = 0; key && k < n->window_len; k++)
		if (n->window[(n->window_pos + k) % n->window_cap].key == key)
			return true;
	return false;
}

/* Notes a restart now. True if there are more than allowed within the period. */
static bool too_many(struct davit_node *n, uint64_t key)
{
	int64_t now = davit_loop_now(n->sup->loop);
	int64_t max = n->rule.max_restarts;

	if (max < 0)
		return false;
	while (n->window_len && now - n->window[n->window_pos].time >= n->rule.period) {
		n->window_pos = (n->window_pos + 1) % n->window_cap;
		n->window_len--;
	}
	if (is_noted(n, key))
		return false;
	if (n->window_len >= max)
		return true;
	decide_note(n, n->sup->ago, key);
	return false;
}

/* --- failure and escalation --- */

static bool ending(const struct davit_node *n)
{
	return node_job(n) >= JOB_FAIL;
}

static void fail_inner(struct davit_node *n, const char *rule, enum davit_cause cause,
		       struct davit_node *origin)
{
	if (ending(n))
		return;
	n->failed = true;
	node_set_why(n, rule, cause, origin);
	job_begin(n, JOB_FAIL, 0);
	job_advance(n);
}

/* What is left of a delay that counts from what is being decided on. */
static int64_t left_of(const struct davit_supervise *s, int64_t delay)
{
	return delay > s->ago ? delay - s->ago : 0;
}

static void cool_down(struct davit_node *n, int64_t delay)
{
	n->flags |= NODE_COOLING;
	if (node_covered(n)) {
		/* The job above starts it, or leaves it as it is. */
		node_set_state(n, DAVIT_NODE_FAILED);
		return;
	}
	n->next_start = node_time(n->sup) + delay;
	node_set_state(n, DAVIT_NODE_WAITING);
	if (davit_timer_start(&n->timer, left_of(n->sup, delay))) {
		n->total_restarts++;
		node_launch(n, true);
	}
}

/* n has failed, and nothing runs beneath it: step 5. */
static void escalate(struct davit_node *n)
{
	struct davit_node *sup = supervisor(n, NULL);
	const struct davit_supervision_rule *rule = sup ? &sup->rule : &n->rule;

	if (!n->leaf && n->rule.headed) {
		node_set_state(n, DAVIT_NODE_FAILED);
		return;
	}
	if (rule->escalation == DAVIT_ESCALATE_RESTART) {
		cool_down(n, rule->cooldown);
		return;
	}
	node_set_state(n, DAVIT_NODE_FAILED);
	if (sup && rule->escalation == DAVIT_ESCALATE_PARENT)
		fail_inner(sup, "escalation", n->cause, n->origin);
	else
		decide_done(n);
}

void decide_escalate(struct davit_node *n)
{
	escalate(n);
}

static void fail_leaf(struct davit_node *leaf)
{
	leaf->failed = true;
	node_set_why(leaf, "retries", leaf->cause, leaf);
	escalate(leaf);
}

/* --- done --- */

void decide_children(struct davit_node *n)
{
	struct davit_node *last;

	/* A container goes on without its children. */
	if (!n->parent || n->rule.headed || node_job(n) || n->state != DAVIT_NODE_RUNNING || !n->n_children ||
	    n->n_done < n->n_children)
		return;
	last = DAVIT_CONTAINER_OF(n->children.prev, struct davit_node, siblings);
	n->failed = n->n_failed != 0;
	node_set_why(n, "children", last->cause, last->origin);
	node_set_state(n, n->failed ? DAVIT_NODE_FAILED : DAVIT_NODE_COMPLETED);
	decide_done(n);
}

void decide_done(struct davit_node *n)
{
	struct davit_node *p = n->parent;

	if (!p)
		return;
	if (n->significant && p->rule.auto_shutdown) {
		if (ending(p))
			return;
		node_set_why(p, "auto-shutdown", n->cause, n->origin);
		job_begin(p, JOB_DONE, 0);
		job_advance(p);
		return;
	}
	decide_children(p);
}

/* --- restarts --- */

static void count_restart(struct davit_node *leaf, struct davit_node *sup)
{
	leaf->restarts++;
	leaf->total_restarts++;
	leaf->attempt++;
	node_set_why(leaf, davit_supervise_strategy(sup->rule.strategy), leaf->cause, leaf);
}

/* The same for each look at the same restart of a leaf that has a seed; 0 without one. */
static uint64_t number_of_restart(const struct davit_node *leaf)
{
	uint64_t x = leaf->seed + (uint64_t)leaf->total_restarts * UINT64_C(0x9e3779b97f4a7c15);

	if (!leaf->seed)
		return 0;
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	x ^= x >> 31;
	return x ? x : 1;
}

static int64_t delay_of(struct davit_node *leaf, int64_t attempt)
{
	uint64_t number = leaf->seed ? number_of_restart(leaf) : davit_loop_random(leaf->sup->loop);
	double r = (double)(number >> 11) * 0x1p-53;

	return davit_backoff_delay(&leaf->restart.backoff, attempt, r);
}

void decide_wait(struct davit_node *leaf, int64_t attempt)
{
	int64_t delay = attempt < 0 ? 0 : delay_of(leaf, attempt), left = left_of(leaf->sup, delay);

	leaf->next_start = node_time(leaf->sup) + delay;
	node_set_state(leaf, DAVIT_NODE_WAITING);
	node_revive(leaf->parent);
	if (left <= 0 || davit_timer_start(&leaf->timer, left))
		node_ask(leaf);
}

static void restart_alone(struct davit_node *leaf, struct davit_node *sup)
{
	count_restart(leaf, sup);
	decide_wait(leaf, leaf->attempt - 1);
}

/* The group's backoff runs while the others are being stopped. */
static void restart_group(struct davit_node *leaf, struct davit_node *branch, struct davit_node *sup)
{
	int64_t now = davit_loop_now(leaf->sup->loop);
	int64_t delay = delay_of(leaf, leaf->attempt), left = left_of(sup->sup, delay);
	int64_t start = node_time(sup->sup) + delay;
	uint64_t first = sup->rule.strategy == DAVIT_ONE_FOR_ALL ? 0 : branch->seq;
	bool merge = node_job(sup) == JOB_RESTART;

	count_restart(leaf, sup);
	node_set_why(sup, leaf->rule_name, leaf->cause, leaf);
	if (!merge) {
		sup->total_restarts++;
		job_begin(sup, JOB_RESTART, first);
	} else {
		job_extend(sup, first);
		if (davit_timer_active(&sup->timer) && sup->timer.due - now > left) {
			left = sup->timer.due - now;
			start = sup->next_start;
		}
	}
	if (left > 0) {
		sup->next_start = start;
		(void)davit_timer_start(&sup->timer, left);
	}
	leaf->next_start = sup->next_start;
	node_set_state(leaf, DAVIT_NODE_WAITING);
	job_advance(sup);
}

/* The part of decide_end that asks the leaf alone. */
static bool is_last(const struct davit_node *leaf, enum davit_cause cause, bool final)
{
	return final || !davit_restart_wanted(leaf->restart.policy, cause);
}

const char *davit_supervise_leaves_failed(const struct davit_node *leaf, enum davit_cause cause, bool final)
{
	bool alone = leaf->state == DAVIT_NODE_STARTING || leaf->state == DAVIT_NODE_RUNNING;

	if (!alone || !leaf->wanted || leaf->flags & NODE_ASKED || cause == DAVIT_CAUSE_CLEAN ||
	    cause == DAVIT_CAUSE_STOPPED || !is_last(leaf, cause, final))
		return NULL;
	return final ? "prevent" : "policy";
}

void decide_end(struct davit_node *leaf, enum davit_cause cause, bool final)
{
	const struct davit_restart_rule *rule = &leaf->restart;
	struct davit_node *branch, *sup = supervisor(leaf, &branch);
	const char *policy = final ? "prevent" : "policy";

	node_set_why(leaf, policy, cause, leaf);
	leaf->next_start = 0;
	/* The user's stop, or restart, had not come to it yet. */
	if (!leaf->wanted || leaf->flags & NODE_ASKED) {
		node_set_why(leaf, "user", cause, leaf);
		node_set_state(leaf, DAVIT_NODE_IDLE);
		if (leaf->wanted)
			node_ask(leaf);
		return;
	}
	if (is_last(leaf, cause, final)) {
		leaf->flags |= final ? NODE_FINAL : 0;
		leaf->failed = cause != DAVIT_CAUSE_CLEAN;
		node_set_state(leaf, leaf->failed ? DAVIT_NODE_FAILED : DAVIT_NODE_COMPLETED);
		decide_done(leaf);
		return;
	}
	/* It is about to be stopped anyhow. */
	if (node_job(sup) && node_job(sup) != JOB_RESTART) {
		if (sup->rule_name)
			node_set_why(leaf, sup->rule_name, cause, leaf);
		node_rest(leaf);
		return;
	}
	if (rule->retries >= 0 && leaf->restarts >= rule->retries) {
		fail_leaf(leaf);
		return;
	}
	if (too_many(sup, number_of_restart(leaf))) {
		leaf->failed = true;
		node_set_why(leaf, "intensity", cause, leaf);
		node_set_state(leaf, DAVIT_NODE_FAILED);
		fail_inner(sup, "intensity", cause, leaf);
		return;
	}
	if (sup->rule.strategy == DAVIT_ONE_FOR_ONE)
		restart_alone(leaf, sup);
	else
		restart_group(leaf, branch, sup);
}

/* The timer of a node: a leaf's backoff, a group's backoff, a cool-down. */
void node_fire(struct davit_timer *t)
{
	struct davit_node *n = DAVIT_CONTAINER_OF(t, struct davit_node, timer);

	if (n->flags & NODE_COOLING) {
		n->total_restarts++;
		node_launch(n, true);
	} else if (n->leaf) {
		node_ask(n);
	} else {
		job_advance(n);
	}
}
