/* SPDX-License-Identifier: MIT */
#include "supervise/test_world.h"

const struct davit_restart_rule always = {
	.policy = DAVIT_RESTART_ALWAYS, .retries = -1, .backoff = {100 * MS, 1000 * MS, 2, 0, 60 * SEC}};
const struct davit_supervision_rule one_for_one = {.strategy = DAVIT_ONE_FOR_ONE, .max_restarts = -1};
const struct davit_supervision_rule one_for_all = {
	.strategy = DAVIT_ONE_FOR_ALL, .max_restarts = -1, .escalation = DAVIT_ESCALATE_PARENT};
const struct davit_supervision_rule rest_for_one = {
	.strategy = DAVIT_REST_FOR_ONE, .max_restarts = -1, .escalation = DAVIT_ESCALATE_PARENT};
const struct davit_supervision_rule service = {.transparent = true};

static void note(struct world *w, char what, const struct davit_node *n)
{
	size_t len = strlen(w->trace);

	snprintf(w->trace + len, sizeof w->trace - len, "%s%c%s", len ? " " : "", what, n->name);
}

static void op_start(struct davit_node *n)
{
	struct world *w = n->sup->owner;

	assert_int_equal(n->state, DAVIT_NODE_STARTING);
	w->starts++;
	if (w->held && !strcmp(w->held, n->name)) {
		note(w, '?', n);
		davit_supervise_hold(n);
		return;
	}
	note(w, '+', n);
	if (!w->manual_run)
		davit_supervise_running(n);
}

static void op_stop(struct davit_node *n)
{
	struct world *w = n->sup->owner;

	assert_int_equal(n->state, DAVIT_NODE_STOPPING);
	note(w, '-', n);
	if (!w->manual_stop)
		davit_supervise_ended(n, DAVIT_CAUSE_STOPPED);
}

static void op_changed(struct davit_node *n)
{
	((struct world *)n->sup->owner)->changes++;
}

const struct davit_supervise_ops ops = {op_start, op_stop, op_changed};

struct world *open_world(const struct davit_supervision_rule *root, struct davit_start_budget budget)
{
	struct world *w = calloc(1, sizeof *w);

	assert_non_null(w);
	assert_int_equal(davit_loop_open_virtual(1, &w->loop, NULL), 0);
	assert_int_equal(davit_supervise_init(&w->sup, w->loop, &ops, root, &budget, w, NULL), 0);
	return w;
}

struct world *open_plain_world(void)
{
	return open_world(&one_for_one, (struct davit_start_budget){0});
}

void close_world(struct world *w)
{
	davit_supervise_fini(&w->sup);
	davit_loop_close(w->loop);
	free(w);
}

static void wake(struct davit_timer *t)
{
}

void pass(struct world *w, int64_t ns)
{
	int64_t end = davit_loop_now(w->loop) + ns;
	struct davit_timer t;

	davit_timer_init(&t, w->loop, wake);
	assert_int_equal(davit_timer_start(&t, ns), 0);
	while (davit_timer_active(&t) || davit_loop_now(w->loop) < end)
		assert_true(davit_loop_step(w->loop));
	/* What the last moment brought about. */
	assert_int_equal(davit_timer_start(&t, 0), 0);
	while (davit_timer_active(&t))
		davit_loop_step(w->loop);
}

const char *trace(struct world *w)
{
	static char copy[sizeof w->trace];

	pass(w, 0);
	strcpy(copy, w->trace);
	w->trace[0] = 0;
	return copy;
}

void add_leaves(struct world *w, struct davit_node *parent, int from, int n,
		const struct davit_restart_rule *rule)
{
	for (int i = from; i < from + n; i++)
		assert_int_equal(
			davit_supervise_add_leaf(&w->leaf[i], parent, (char[]){(char)('a' + i), 0}, rule, w),
			0);
}

void family(struct world *w, const char *name, const struct davit_supervision_rule *how, int n,
	    const struct davit_restart_rule *rule)
{
	assert_int_equal(davit_supervise_add_inner(&w->inner[0], &w->sup.root, name, how, w), 0);
	add_leaves(w, &w->inner[0], 0, n, rule);
	davit_supervise_start(&w->inner[0]);
}
