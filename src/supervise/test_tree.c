/* SPDX-License-Identifier: MIT
 *
 * Random trees under test: how they grow, the mechanism that they stand on, which does as it
 * is told or, in chaos, takes its time and fails, and what must hold of them.
 */
#include "supervise/test_oracle.h"

void broken(struct run *r, int line, const char *what, const char *fmt, ...)
{
	va_list ap;

	printf("# seed %llu, line %d: %s: ", (unsigned long long)r->seed, line, what);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	for (int i = 0; i < r->n; i++)
		if (r->node[i])
			printf("# %2d parent %2d %-9s model %-9s wanted %d restarts %lld/%lld rule %s policy "
			       "%d "
			       "strategy %d escalation %d flags %x\n",
			       i, r->parent[i], davit_node_state_name(r->node[i]->state),
			       davit_node_state_name(r->model[i].state), r->node[i]->wanted,
			       r->leaf[i] ? (long long)r->node[i]->restarts : 0,
			       (long long)r->model[i].restarts,
			       r->node[i]->rule_name ? r->node[i]->rule_name : "-",
			       r->leaf[i] ? (int)r->node[i]->restart.policy : -1,
			       r->leaf[i] ? -1 : (int)r->node[i]->rule.strategy,
			       r->leaf[i] ? -1 : (int)r->node[i]->rule.escalation, r->node[i]->flags);
	for (int i = 0; i < r->n_trace; i++)
		printf("%s%c%d", i ? " " : "# trace ", r->trace[i].what, r->trace[i].node);
	printf("\n");
	fflush(stdout);
	abort();
}

static uint64_t next_random(struct run *r)
{
	uint64_t z = r->random += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

int pick(struct run *r, int n)
{
	return (int)(next_random(r) % (uint64_t)n);
}

static int index_of(const struct davit_node *n)
{
	return (int)(intptr_t)n->owner;
}

/* --------------------------------------------------------------- the mechanism */

static void record(struct run *r, char what, int i)
{
	if (r->n_trace < MAX_TRACE)
		r->trace[r->n_trace++] = (struct event){what, i};
}

static void op_start(struct davit_node *n)
{
	struct run *r = n->sup->owner;
	int i = index_of(n);
	struct body *b = &r->body[i];

	record(r, '+', i);
	CHECK(r, r->node[i] == n, "%d is started though it was removed", i);
	CHECK(r, !b->up, "%d is started while it runs", i);
	CHECK(r, !b->forbidden, "%d is started though the user stopped it", i);
	b->up = true;
	b->told = false;
	if (!r->chaos)
		davit_supervise_running(n);
	else if (!pick(r, 8)) { /* fails at once, from within the op */
		b->up = false;
		b->own_ends++;
		davit_supervise_ended(n, DAVIT_CAUSE_START);
	} else if (!pick(r, 8)) {
		b->up = false;
		davit_supervise_hold(n);
	} else if (!pick(r, 2)) {
		davit_supervise_running(n);
	}
}

static void op_stop(struct davit_node *n)
{
	struct run *r = n->sup->owner;
	int i = index_of(n);
	struct body *b = &r->body[i];

	record(r, '-', i);
	CHECK(r, r->node[i] == n, "%d is stopped though it was removed", i);
	CHECK(r, b->up, "%d is stopped though it does not run", i);
	CHECK(r, !b->told, "%d is stopped twice", i);
	b->told = true;
	if (!r->chaos || !pick(r, 3)) {
		b->up = b->told = false;
		davit_supervise_ended(n, DAVIT_CAUSE_STOPPED);
	}
}

static void op_changed(struct davit_node *n)
{
	struct run *r = n->sup->owner;

	CHECK(r, r->node[index_of(n)] == n, "%d changed though it was removed", index_of(n));
}

static const struct davit_supervise_ops ops = {op_start, op_stop, op_changed};

/* ------------------------------------------------------------------- the trees */

struct davit_supervision_rule random_rule(struct run *r, bool root)
{
	return (struct davit_supervision_rule){
		.strategy = (enum davit_strategy)pick(r, 3),
		.max_restarts = pick(r, 6) - 1,
		.period = 250 * SEC,
		.escalation = (enum davit_escalation[]){DAVIT_ESCALATE_ISOLATE, DAVIT_ESCALATE_RESTART,
							DAVIT_ESCALATE_PARENT}[pick(r, root ? 2 : 3)],
		.cooldown = pick(r, 5) * SEC,
		.auto_shutdown = !pick(r, 4),
		.transparent = !root && !pick(r, 4),
	};
}

static struct davit_restart_rule random_restart(struct run *r)
{
	return (struct davit_restart_rule){
		.policy = (enum davit_restart_policy)pick(r, 4),
		.retries = pick(r, 5) - 1,
		.backoff = {pick(r, 3) * 100 * MS, 2 * SEC, 2, 0.5, 10 * SEC},
	};
}

void add(struct run *r, int parent, bool leaf)
{
	int i = r->n++;
	struct davit_node *n = calloc(1, sizeof *n);
	char name[8];

	assert_non_null(n);
	snprintf(name, sizeof name, "%d", i);
	r->node[i] = n;
	r->parent[i] = parent;
	r->leaf[i] = leaf;
	if (leaf) {
		struct davit_restart_rule rule = random_restart(r);
		assert_int_equal(
			davit_supervise_add_leaf(n, r->node[parent], name, &rule, (void *)(intptr_t)i), 0);
	} else {
		struct davit_supervision_rule rule = random_rule(r, false);
		assert_int_equal(
			davit_supervise_add_inner(n, r->node[parent], name, &rule, (void *)(intptr_t)i), 0);
	}
	n->significant = !pick(r, 4);
}

/* Numbers are in the order of the tree: parents first, siblings ascending. */
static void grow(struct run *r, int parent, int depth)
{
	int children = 1 + pick(r, 4);

	for (int k = 0; k < children && r->n < MAX_NODES; k++) {
		bool leaf = depth >= 3 || pick(r, 3);
		int i = r->n;
		add(r, parent, leaf);
		if (!leaf)
			grow(r, i, depth + 1);
	}
}

struct run *open_run(uint64_t seed, bool chaos)
{
	struct run *r = calloc(1, sizeof *r);
	struct davit_supervision_rule rule;
	struct davit_start_budget budget;

	assert_non_null(r);
	r->seed = r->random = seed;
	r->chaos = chaos;
	assert_int_equal(davit_loop_open_virtual(seed, &r->loop, NULL), 0);
	rule = random_rule(r, true);
	budget = (struct davit_start_budget){pick(r, 3) * 100, pick(r, 4),
					     chaos ? pick(r, 3) * 2 : pick(r, 3)};
	assert_int_equal(davit_supervise_init(&r->sup, r->loop, &ops, &rule, &budget, r, NULL), 0);
	r->sup.root.owner = (void *)(intptr_t)0;
	r->node[0] = &r->sup.root;
	r->parent[0] = -1;
	r->model[0].state = DAVIT_NODE_RUNNING;
	r->n = 1;
	grow(r, 0, 0);
	return r;
}

void close_run(struct run *r)
{
	davit_supervise_fini(&r->sup);
	for (int i = 1; i < r->n; i++)
		free(r->node[i]);
	davit_loop_close(r->loop);
	free(r);
}

/* ------------------------------------------------------------------ invariants */

void check_moment(struct run *r)
{
	for (int i = 0; i < r->n; i++) {
		const struct davit_node *n = r->node[i];
		uint32_t active = 0, children = 0, done = 0, failed = 0;

		if (!n)
			continue;
		if (n->leaf) {
			bool runs = n->state == DAVIT_NODE_STARTING || n->state == DAVIT_NODE_RUNNING ||
				    n->state == DAVIT_NODE_STOPPING;
			CHECK(r, runs == r->body[i].up, "%d", i);
			CHECK(r, !n->wanted || !r->body[i].forbidden, "%d", i);
			CHECK(r, n->wanted || n->state != DAVIT_NODE_WAITING, "%d", i);
			CHECK(r, n->restart.retries < 0 || n->restarts <= n->restart.retries, "%d", i);
			CHECK(r, n->restarts <= r->body[i].own_ends, "%d", i);
			CHECK(r,
			      n->failed == (n->state == DAVIT_NODE_FAILED) || n->state == DAVIT_NODE_WAITING,
			      "%d", i);
			continue;
		}
		for (int c = 0; c < r->n; c++) {
			if (c == i || !r->node[c] || !below(r, c, i))
				continue;
			active += r->node[c]->leaf && r->body[c].up;
			if (r->parent[c] != i)
				continue;
			children++;
			done += at_end(r->node[c]->state);
			failed += r->node[c]->state == DAVIT_NODE_FAILED;
		}
		CHECK(r, n->n_active == active && n->n_children == children, "%d: %u %u", i, active,
		      children);
		CHECK(r, n->n_done == done && n->n_failed == failed, "%d: %u %u", i, done, failed);
		CHECK(r, !active || (n->state != DAVIT_NODE_IDLE && !at_end(n->state)), "%d has %u", i,
		      active);
	}
}

/* Nothing has happened for a long time: nothing may be left half done. */
void check_rest(struct run *r)
{
	CHECK(r, r->sup.starting == 0, "%lld", (long long)r->sup.starting);
	CHECK(r, davit_list_empty(&r->sup.waiting) && davit_list_empty(&r->sup.stops), "queues");
	for (int i = 0; i < r->n; i++) {
		const struct davit_node *n = r->node[i];
		bool asleep = false;

		if (!n)
			continue;
		CHECK(r, n->state == DAVIT_NODE_IDLE || n->state == DAVIT_NODE_RUNNING || at_end(n->state),
		      "%d", i);
		CHECK(r, n->next_start == 0, "%d", i);
		CHECK(r,
		      i || r->partial || n->state != DAVIT_NODE_FAILED ||
			      n->rule.escalation == DAVIT_ESCALATE_ISOLATE,
		      "root");
		/* The final policy: what the root restarts does not stay failed. */
		if (!r->partial && n->parent == &r->sup.root &&
		    r->sup.root.rule.escalation == DAVIT_ESCALATE_RESTART &&
		    r->sup.root.state == DAVIT_NODE_RUNNING && n->state == DAVIT_NODE_FAILED)
			CHECK(r,
			      !strcmp(n->rule_name, "policy") || !strcmp(n->rule_name, "prevent") ||
				      !strcmp(n->rule_name, "children"),
			      "%d: %s", i, n->rule_name);
		for (const struct davit_node *p = n->parent; p; p = p->parent)
			asleep |= at_end(p->state) || p->state == DAVIT_NODE_IDLE;
		CHECK(r, !n->leaf || n->wanted || n->state == DAVIT_NODE_IDLE, "%d", i);
		if (n->leaf && n->wanted && !asleep && !r->partial)
			CHECK(r, n->state == DAVIT_NODE_RUNNING || at_end(n->state), "%d", i);
	}
}

/* ------------------------------------------------------------------------ time */

static void wake(struct davit_timer *t)
{
}

void pass(struct run *r, int64_t ns)
{
	struct davit_timer t;

	davit_timer_init(&t, r->loop, wake);
	assert_int_equal(davit_timer_start(&t, ns), 0);
	while (davit_timer_active(&t))
		davit_loop_step(r->loop);
}
