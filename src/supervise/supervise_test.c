/* SPDX-License-Identifier: MIT */
#include "supervise/test_world.h"

static void a_group_restarts_in_reverse_and_in_order(void **state)
{
	struct world *w = open_plain_world();

	family(w, "all", &one_for_all, 4, &always);
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
	struct world *w = open_plain_world();

	family(w, "rest", &rest_for_one, 4, &always);
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
	struct world *w = open_plain_world();

	family(w, "all", &one_for_all, 3, &always);
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
	struct world *w = open_plain_world();

	family(w, "rest", &rest_for_one, 4, &always);
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

static void a_brood_that_fails_stays_so_until_it_is_relaunched_with_its_head(void **state)
{
	const struct davit_supervision_rule brood = {
		.max_restarts = 0, .period = SEC, .escalation = DAVIT_ESCALATE_PARENT, .headed = true};
	struct world *w = open_plain_world();

	assert_int_equal(davit_supervise_add_inner(&w->inner[0], &w->sup.root, "rest", &rest_for_one, w), 0);
	add_leaves(w, &w->inner[0], 0, 2, &always);
	/* Behind a, so before b. */
	assert_int_equal(davit_supervise_add_inner_behind(&w->inner[1], &w->leaf[0], "a's", &brood, w), 0);
	add_leaves(w, &w->inner[1], 2, 2, &always);
	davit_supervise_start(&w->inner[0]);
	assert_string_equal(trace(w), "+a +c +d +b");
	davit_supervise_stop(&w->leaf[3]);
	davit_supervise_ended(&w->leaf[2], DAVIT_CAUSE_CODE);
	/* The escalation of those above is not asked: that is for the head's end. */
	assert_string_equal(trace(w), "-d");
	assert_int_equal(w->inner[1].state, DAVIT_NODE_FAILED);
	assert_int_equal(w->inner[0].state, DAVIT_NODE_RUNNING);
	davit_supervise_ended(&w->leaf[0], DAVIT_CAUSE_CODE);
	assert_string_equal(trace(w), "-b");
	pass(w, 100 * MS);
	assert_string_equal(trace(w), "+a +b");
	assert_int_equal(w->inner[1].state, DAVIT_NODE_FAILED);
	davit_supervise_relaunch(&w->inner[1]);
	assert_string_equal(trace(w), "+c");
	close_world(w);
}

static void a_services_instances_restart_by_the_strategy_above_the_service(void **state)
{
	struct world *w = open_plain_world();

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
	struct world *w = open_plain_world();

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

static void a_policy_decides_by_the_cause(void **state)
{
	static const struct {
		enum davit_restart_policy policy;
		bool clean, code;
	} rows[] = {
		{DAVIT_RESTART_NEVER, false, false},
		{DAVIT_RESTART_ON_FAILURE, false, true},
		{DAVIT_RESTART_ALWAYS, true, true},
		{DAVIT_RESTART_UNLESS_STOPPED, true, true},
	};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(rows); i++)
		for (int c = DAVIT_CAUSE_CLEAN; c <= DAVIT_CAUSE_STOPPED; c++)
			assert_int_equal(davit_restart_wanted(rows[i].policy, (enum davit_cause)c),
					 c == DAVIT_CAUSE_STOPPED ? false
					 : c == DAVIT_CAUSE_CLEAN ? rows[i].clean
								  : rows[i].code);
	assert_string_equal(davit_cause_name(DAVIT_CAUSE_VANISHED), "vanished");
	assert_string_equal(davit_cause_name((enum davit_cause)99), "unknown");
	assert_string_equal(davit_node_state_name(DAVIT_NODE_COMPLETED), "completed");
}

static void a_backoff_grows_to_its_cap_and_jitter_only_shortens_it(void **state)
{
	struct davit_backoff b = {100 * MS, 30 * SEC, 2, 0.1, 60 * SEC};

	assert_int_equal(davit_backoff_delay(&b, 0, 0), 100 * MS);
	assert_int_equal(davit_backoff_delay(&b, 3, 0), 800 * MS);
	assert_int_equal(davit_backoff_delay(&b, 9, 0), 30 * SEC);
	assert_int_equal(davit_backoff_delay(&b, INT64_MAX, 0), 30 * SEC);
	for (int64_t attempt = 0; attempt < 12; attempt++) {
		int64_t full = davit_backoff_delay(&b, attempt, 0);
		int64_t least = davit_backoff_delay(&b, attempt, 0.999999);
		assert_true(least < full && least >= full - full / 10);
	}
	b.jitter = 1;
	assert_true(davit_backoff_delay(&b, 0, 0.999999) < MS);
	b = (struct davit_backoff){INT64_MAX, INT64_MAX, 10, 0, 0};
	assert_int_equal(davit_backoff_delay(&b, 5, 0), INT64_MAX);
	b.factor = 0;
	b.initial = 7;
	assert_int_equal(davit_backoff_delay(&b, 5, 0), 7);
	b.initial = 0;
	assert_int_equal(davit_backoff_delay(&b, INT64_MAX, 0), 0);
}

static void the_backoff_starts_over_after_a_time_of_health(void **state)
{
	struct world *w = open_plain_world();
	static const int64_t expect[] = {100, 200, 400, 800, 1000, 1000};
	struct davit_node *a = &w->leaf[0];

	add_leaves(w, &w->sup.root, 0, 1, &always);
	davit_supervise_start(a);
	pass(w, 0);
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(expect); i++) {
		pass(w, 59 * SEC);
		davit_supervise_ended(a, DAVIT_CAUSE_CLEAN);
		assert_int_equal(a->next_start - davit_loop_wall(w->loop), expect[i] * MS);
		pass(w, expect[i] * MS - 1);
		assert_int_equal(a->state, DAVIT_NODE_WAITING);
		pass(w, 1);
		assert_int_equal(a->state, DAVIT_NODE_RUNNING);
		assert_int_equal(a->next_start, 0);
	}
	pass(w, 60 * SEC);
	davit_supervise_ended(a, DAVIT_CAUSE_CODE);
	assert_int_equal(a->attempt, 1);
	assert_int_equal(a->restarts, 7);
	close_world(w);
}

static void a_users_stop_holds_in_every_state(void **state)
{
	struct world *w = open_world(&one_for_one, (struct davit_start_budget){.concurrent = 1});
	struct davit_node *a = &w->leaf[0], *b = &w->leaf[1];

	add_leaves(w, &w->sup.root, 0, 2, &always);
	w->manual_run = w->manual_stop = true;
	davit_supervise_start(&w->sup.root);
	assert_string_equal(trace(w), "+a");
	davit_supervise_stop(b); /* waits for the budget */
	assert_int_equal(b->state, DAVIT_NODE_IDLE);
	davit_supervise_stop(a); /* starting */
	assert_string_equal(trace(w), "-a");
	davit_supervise_ended(a, DAVIT_CAUSE_CODE);
	assert_int_equal(a->state, DAVIT_NODE_IDLE);
	assert_int_equal(a->cause, DAVIT_CAUSE_STOPPED);
	davit_supervise_start(a);
	assert_string_equal(trace(w), "+a");
	davit_supervise_running(a);
	davit_supervise_ended(a, DAVIT_CAUSE_CODE);
	davit_supervise_stop(a); /* waits for its backoff */
	pass(w, 3600 * SEC);
	assert_string_equal(trace(w), "");
	davit_supervise_start(a);
	pass(w, 0);
	davit_supervise_running(a);
	davit_supervise_stop(a);  /* running */
	davit_supervise_start(a); /* and back again before it has ended */
	assert_string_equal(trace(w), "+a -a");
	davit_supervise_ended(a, DAVIT_CAUSE_STOPPED);
	assert_string_equal(trace(w), "+a");
	assert_int_equal(a->restarts, 0);
	close_world(w);
}

static void what_the_user_stopped_stays_so_when_its_group_restarts(void **state)
{
	struct world *w = open_plain_world();

	family(w, "all", &one_for_all, 4, &always);
	davit_supervise_stop(&w->leaf[0]);
	trace(w);
	w->manual_stop = true;
	davit_supervise_ended(&w->leaf[1], DAVIT_CAUSE_CODE);
	assert_string_equal(trace(w), "-d");
	davit_supervise_stop(&w->leaf[3]);  /* being stopped for the group */
	davit_supervise_stop(&w->leaf[2]);  /* next in order */
	davit_supervise_start(&w->leaf[0]); /* comes back with the group */
	assert_string_equal(trace(w), "-c");
	davit_supervise_ended(&w->leaf[2], DAVIT_CAUSE_STOPPED);
	davit_supervise_ended(&w->leaf[3], DAVIT_CAUSE_STOPPED);
	pass(w, SEC);
	assert_string_equal(trace(w), "+a +b");
	close_world(w);
}

static void a_restart_by_the_user_stops_in_reverse_and_counts_nothing(void **state)
{
	struct world *w = open_plain_world();

	add_leaves(w, &w->sup.root, 0, 3, &always);
	davit_supervise_start(&w->sup.root);
	trace(w);
	davit_supervise_restart(&w->sup.root);
	assert_string_equal(trace(w), "-c -b -a +a +b +c");
	davit_supervise_restart(&w->leaf[1]);
	assert_string_equal(trace(w), "-b +b");
	assert_int_equal(w->leaf[1].restarts + w->leaf[1].total_restarts, 0);
	davit_supervise_stop(&w->sup.root);
	assert_string_equal(trace(w), "-c -b -a");
	assert_int_equal(w->sup.root.state, DAVIT_NODE_IDLE);
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
		cmocka_unit_test(a_policy_decides_by_the_cause),
		cmocka_unit_test(a_backoff_grows_to_its_cap_and_jitter_only_shortens_it),
		cmocka_unit_test(the_backoff_starts_over_after_a_time_of_health),
		cmocka_unit_test(a_users_stop_holds_in_every_state),
		cmocka_unit_test(what_the_user_stopped_stays_so_when_its_group_restarts),
		cmocka_unit_test(a_restart_by_the_user_stops_in_reverse_and_counts_nothing),
		cmocka_unit_test(a_brood_that_fails_stays_so_until_it_is_relaunched_with_its_head),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
