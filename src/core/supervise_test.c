/* SPDX-License-Identifier: MIT */
#include "core/supervise.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define MS INT64_C(1000000)
#define SEC (1000 * MS)

/* A world: a tree of at most 16 leaves on a virtual clock, and the trace of what
 * the engine asked for: "+a" start, "-a" stop. */
struct world {
	struct davit_loop *loop;
	struct davit_supervise sup;
	struct davit_node leaf[16], inner[8];
	char trace[4096];
	bool manual_run;  /* a start is not answered by "running" */
	bool manual_stop; /* a stop is not answered by "ended" */
	const char *held; /* name of a leaf whose starts are held */
	int starts, changes;
};

static const struct davit_restart_rule always = {
	.policy = DAVIT_RESTART_ALWAYS, .retries = -1, .backoff = {100 * MS, 1000 * MS, 2, 0, 60 * SEC}};
static const struct davit_supervision_rule one_for_one = {.strategy = DAVIT_ONE_FOR_ONE, .max_restarts = -1};
static const struct davit_supervision_rule one_for_all = {
	.strategy = DAVIT_ONE_FOR_ALL, .max_restarts = -1, .escalation = DAVIT_ESCALATE_PARENT};
static const struct davit_supervision_rule rest_for_one = {
	.strategy = DAVIT_REST_FOR_ONE, .max_restarts = -1, .escalation = DAVIT_ESCALATE_PARENT};
static const struct davit_supervision_rule service = {.transparent = true};

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

static const struct davit_supervise_ops ops = {op_start, op_stop, op_changed};

static struct world *open_world(const struct davit_supervision_rule *root, struct davit_start_budget budget)
{
	struct world *w = calloc(1, sizeof *w);

	assert_non_null(w);
	assert_int_equal(davit_loop_open_virtual(1, &w->loop, NULL), 0);
	assert_int_equal(davit_supervise_init(&w->sup, w->loop, &ops, root, &budget, w, NULL), 0);
	return w;
}

static void close_world(struct world *w)
{
	davit_supervise_fini(&w->sup);
	davit_loop_close(w->loop);
	free(w);
}

static void wake(struct davit_timer *t)
{
}

/* Lets time pass. */
static void pass(struct world *w, int64_t ns)
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

static const char *trace(struct world *w)
{
	static char copy[sizeof w->trace];

	pass(w, 0);
	strcpy(copy, w->trace);
	w->trace[0] = 0;
	return copy;
}

/* Adds n leaves a, b, c, ... */
static void add_leaves(struct world *w, struct davit_node *parent, int from, int n,
		       const struct davit_restart_rule *rule)
{
	for (int i = from; i < from + n; i++)
		assert_int_equal(davit_supervise_add_leaf(&w->leaf[i], parent, (char[]){(char)('a' + i), 0}, rule, w), 0);
}

static void a_group_restarts_in_reverse_and_in_order(void **state)
{
	struct world *w = open_world(&one_for_one, (struct davit_start_budget){0});

	(void)state;
	assert_int_equal(davit_supervise_add_inner(&w->inner[0], &w->sup.root, "all", &one_for_all, w), 0);
	add_leaves(w, &w->inner[0], 0, 4, &always);
	davit_supervise_start(&w->inner[0]);
	assert_string_equal(trace(w), "+a +b +c +d");
	davit_supervise_ended(&w->leaf[1], DAVIT_CAUSE_CODE);
	assert_string_equal(trace(w), "-d -c -a");
	assert_int_equal(w->inner[0].state, DAVIT_NODE_WAITING);
	pass(w, 99 * MS);
	assert_string_equal(trace(w), "");
	pass(w, 1 * MS);
	assert_string_equal(trace(w), "+a +b +c +d");
	assert_int_equal(w->leaf[1].restarts, 1);
	assert_int_equal(w->leaf[0].restarts, 0);
	close_world(w);
}

static void rest_for_one_restarts_the_failed_child_and_those_after_it(void **state)
{
	struct world *w = open_world(&one_for_one, (struct davit_start_budget){0});

	(void)state;
	assert_int_equal(davit_supervise_add_inner(&w->inner[0], &w->sup.root, "rest", &rest_for_one, w), 0);
	add_leaves(w, &w->inner[0], 0, 4, &always);
	davit_supervise_start(&w->inner[0]);
	assert_string_equal(trace(w), "+a +b +c +d");
	davit_supervise_ended(&w->leaf[1], DAVIT_CAUSE_SIGNAL);
	assert_string_equal(trace(w), "-d -c");
	assert_ptr_equal(w->leaf[3].origin, &w->leaf[1]);
	assert_string_equal(w->leaf[3].rule_name, "rest-for-one");
	pass(w, 100 * MS);
	assert_string_equal(trace(w), "+b +c +d");
	close_world(w);
}

static void children_in_order_are_stopped_one_after_another(void **state)
{
	struct world *w = open_world(&one_for_one, (struct davit_start_budget){0});

	(void)state;
	assert_int_equal(davit_supervise_add_inner(&w->inner[0], &w->sup.root, "all", &one_for_all, w), 0);
	add_leaves(w, &w->inner[0], 0, 3, &always);
	davit_supervise_start(&w->inner[0]);
	assert_string_equal(trace(w), "+a +b +c");
	w->manual_stop = true;
	davit_supervise_ended(&w->leaf[0], DAVIT_CAUSE_OOM);
	assert_string_equal(trace(w), "-c");
	pass(w, SEC);
	assert_string_equal(trace(w), "");
	davit_supervise_ended(&w->leaf[2], DAVIT_CAUSE_CODE);
	assert_string_equal(trace(w), "-b");
	assert_int_equal(w->leaf[2].restarts, 0);
	davit_supervise_ended(&w->leaf[1], DAVIT_CAUSE_STOPPED);
	/* The backoff is over by then. */
	assert_string_equal(trace(w), "+a +b +c");
	close_world(w);
}

static void another_failure_during_a_group_restart_is_merged(void **state)
{
	struct world *w = open_world(&one_for_one, (struct davit_start_budget){0});

	(void)state;
	assert_int_equal(davit_supervise_add_inner(&w->inner[0], &w->sup.root, "rest", &rest_for_one, w), 0);
	add_leaves(w, &w->inner[0], 0, 4, &always);
	davit_supervise_start(&w->inner[0]);
	assert_string_equal(trace(w), "+a +b +c +d");
	davit_supervise_ended(&w->leaf[2], DAVIT_CAUSE_CODE);
	assert_string_equal(trace(w), "-d");
	pass(w, 50 * MS);
	davit_supervise_ended(&w->leaf[0], DAVIT_CAUSE_CODE);
	assert_string_equal(trace(w), "-b");
	pass(w, 99 * MS);
	assert_string_equal(trace(w), "");
	pass(w, 1 * MS);
	assert_string_equal(trace(w), "+a +b +c +d");
	assert_int_equal(w->leaf[0].restarts + w->leaf[2].restarts, 2);
	assert_int_equal(w->inner[0].total_restarts, 1);
	close_world(w);
}

static void a_services_instances_restart_by_the_strategy_above_the_service(void **state)
{
	struct world *w = open_world(&one_for_one, (struct davit_start_budget){0});

	(void)state;
	assert_int_equal(davit_supervise_add_inner(&w->inner[0], &w->sup.root, "rest", &rest_for_one, w), 0);
	assert_int_equal(davit_supervise_add_inner(&w->inner[1], &w->inner[0], "db", &service, w), 0);
	assert_int_equal(davit_supervise_add_inner(&w->inner[2], &w->inner[0], "web", &service, w), 0);
	add_leaves(w, &w->inner[1], 0, 1, &always);
	add_leaves(w, &w->inner[2], 1, 2, &always);
	davit_supervise_start(&w->inner[0]);
	assert_string_equal(trace(w), "+a +b +c");
	davit_supervise_ended(&w->leaf[0], DAVIT_CAUSE_CODE);
	assert_string_equal(trace(w), "-c -b");
	pass(w, 100 * MS);
	assert_string_equal(trace(w), "+a +b +c");
	davit_supervise_ended(&w->leaf[1], DAVIT_CAUSE_CODE);
	assert_string_equal(trace(w), "-c");
	pass(w, 100 * MS);
	assert_string_equal(trace(w), "+b +c");
	close_world(w);
}

static void retries_are_exact_and_then_it_has_failed(void **state)
{
	struct davit_restart_rule rule = always;
	struct world *w = open_world(&one_for_one, (struct davit_start_budget){0});

	(void)state;
	rule.retries = 3;
	rule.policy = DAVIT_RESTART_ON_FAILURE;
	add_leaves(w, &w->sup.root, 0, 1, &rule);
	davit_supervise_start(&w->leaf[0]);
	pass(w, 0);
	for (int i = 1; i <= 3; i++) {
		pass(w, 61 * SEC); /* healthy for long: the backoff starts over, the retries do not */
		davit_supervise_ended(&w->leaf[0], DAVIT_CAUSE_CODE);
		assert_int_equal(w->leaf[0].restarts, i);
		assert_int_equal(w->leaf[0].attempt, 1);
		assert_int_equal(w->leaf[0].next_start, davit_loop_wall(w->loop) + 100 * MS);
		pass(w, 100 * MS);
	}
	davit_supervise_ended(&w->leaf[0], DAVIT_CAUSE_CODE);
	pass(w, 3600 * SEC);
	assert_string_equal(trace(w), "+a +a +a +a");
	assert_int_equal(w->leaf[0].state, DAVIT_NODE_FAILED);
	assert_string_equal(w->leaf[0].rule_name, "retries");
	assert_int_equal(w->leaf[0].cause, DAVIT_CAUSE_CODE);
	davit_supervise_start(&w->leaf[0]);
	assert_string_equal(trace(w), "+a");
	assert_int_equal(w->leaf[0].restarts, 0);
	close_world(w);
}

static void too_many_restarts_fail_the_supervisor_up_to_the_roots_policy(void **state)
{
	struct davit_supervision_rule root = one_for_one, inner = one_for_all;
	struct world *w;

	(void)state;
	root.escalation = DAVIT_ESCALATE_RESTART;
	root.cooldown = 30 * SEC;
	inner.max_restarts = 2;
	inner.period = 60 * SEC;
	w = open_world(&root, (struct davit_start_budget){0});
	assert_int_equal(davit_supervise_add_inner(&w->inner[0], &w->sup.root, "all", &inner, w), 0);
	add_leaves(w, &w->inner[0], 0, 2, &always);
	davit_supervise_start(&w->sup.root);
	for (int i = 0; i < 2; i++) {
		pass(w, SEC);
		davit_supervise_ended(&w->leaf[0], DAVIT_CAUSE_CODE);
		pass(w, SEC);
	}
	assert_string_equal(trace(w), "+a +b -b +a +b -b +a +b");
	davit_supervise_ended(&w->leaf[0], DAVIT_CAUSE_CODE);
	assert_string_equal(trace(w), "-b");
	assert_int_equal(w->inner[0].state, DAVIT_NODE_WAITING);
	assert_true(w->inner[0].failed);
	assert_string_equal(w->inner[0].rule_name, "intensity");
	assert_ptr_equal(w->inner[0].origin, &w->leaf[0]);
	assert_int_equal(w->inner[0].next_start, davit_loop_wall(w->loop) + 30 * SEC);
	pass(w, 30 * SEC);
	assert_string_equal(trace(w), "+a +b");
	assert_int_equal(w->leaf[0].restarts, 0);
	assert_false(w->inner[0].failed);
	close_world(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_group_restarts_in_reverse_and_in_order),
		cmocka_unit_test(rest_for_one_restarts_the_failed_child_and_those_after_it),
		cmocka_unit_test(children_in_order_are_stopped_one_after_another),
		cmocka_unit_test(another_failure_during_a_group_restart_is_merged),
		cmocka_unit_test(a_services_instances_restart_by_the_strategy_above_the_service),
		cmocka_unit_test(retries_are_exact_and_then_it_has_failed),
		cmocka_unit_test(too_many_restarts_fail_the_supervisor_up_to_the_roots_policy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
