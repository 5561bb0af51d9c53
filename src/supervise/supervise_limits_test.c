/* SPDX-License-Identifier: MIT */
#include "supervise/test_world.h"

/* The allocation in how many calls fails, for all that follow; 0: none. The
 * linker sends the engine's and the loop's allocations here. */
static int fail_after;
void *__real_malloc(size_t n);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
void *__wrap_malloc(size_t n);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);

static bool fails(void)
{
	return fail_after && fail_after-- == 1 && (fail_after = 1);
}

void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}

void *__wrap_realloc(void *p, size_t n)
{
	return fails() ? NULL : __real_realloc(p, n);
}

char *__wrap_strdup(const char *s)
{
	return fails() ? NULL : __real_strdup(s);
}

static void starts_keep_to_rate_burst_and_number_in_order(void **state)
{
	struct world *w = open_world(&one_for_one,
				     (struct davit_start_budget){.rate = 10, .burst = 3, .concurrent = 4});

	add_leaves(w, &w->sup.root, 0, 8, &always);
	w->manual_run = true;
	davit_supervise_start(&w->sup.root);
	assert_string_equal(trace(w), "+a +b +c");
	pass(w, 99 * MS);
	assert_string_equal(trace(w), "");
	pass(w, 1 * MS);
	assert_string_equal(trace(w), "+d");
	pass(w, SEC); /* four are under way; the bucket fills up to three */
	assert_string_equal(trace(w), "");
	davit_supervise_running(&w->leaf[0]);
	davit_supervise_ended(&w->leaf[1], DAVIT_CAUSE_START);
	assert_string_equal(trace(w), "+e +f");
	davit_supervise_running(&w->leaf[2]);
	davit_supervise_running(&w->leaf[3]);
	assert_string_equal(trace(w), "+g");
	pass(w, 100 * MS);
	assert_string_equal(trace(w), "+h");
	close_world(w);
}

static void a_held_start_gives_its_place_back(void **state)
{
	struct world *w =
		open_world(&one_for_one, (struct davit_start_budget){.rate = 1, .burst = 1, .concurrent = 1});

	add_leaves(w, &w->sup.root, 0, 2, &always);
	w->held = "a";
	davit_supervise_start(&w->sup.root);
	assert_string_equal(trace(w), "?a +b");
	assert_int_equal(w->starts, 2);
	assert_int_equal(w->leaf[0].state, DAVIT_NODE_WAITING);
	assert_string_equal(w->leaf[0].rule_name, "dependencies");
	davit_supervise_stop(&w->leaf[0]);
	davit_supervise_retry(&w->leaf[0]);
	pass(w, 10 * SEC);
	assert_int_equal(w->starts, 2);
	davit_supervise_start(&w->leaf[0]);
	w->held = NULL;
	assert_string_equal(trace(w), "+a");
	close_world(w);
}

static void ten_thousand_wait_their_turn(void **state)
{
	enum { N = 10000 };
	struct world *w = open_world(&one_for_one, (struct davit_start_budget){.rate = 1000, .burst = 1});
	struct davit_node *many = calloc(N, sizeof *many);
	int64_t began = davit_loop_now(w->loop);

	assert_non_null(many);
	for (int i = 0; i < N; i++)
		assert_int_equal(davit_supervise_add_leaf(&many[i], &w->sup.root, "x", &always, w), 0);
	davit_supervise_start(&w->sup.root);
	while (w->sup.root.n_active < N)
		assert_true(davit_loop_step(w->loop));
	assert_int_equal(davit_loop_now(w->loop) - began, (N - 1) * MS);
	davit_supervise_stop(&w->sup.root);
	while (w->sup.root.n_active)
		assert_true(davit_loop_step(w->loop));
	for (int i = 0; i < N; i++)
		davit_supervise_remove(&many[i]);
	free(many);
	close_world(w);
}

static void intensity_is_a_sliding_window(void **state)
{
	struct davit_supervision_rule rule = one_for_one;
	struct world *w;

	rule.max_restarts = 10;
	rule.period = 60 * SEC;
	w = open_world(&rule, (struct davit_start_budget){0});
	add_leaves(w, &w->sup.root, 0, 1, &always);
	assert_null(w->sup.root.window); /* memory for restarts only */
	davit_supervise_start(&w->leaf[0]);
	for (int i = 0; i < 50; i++) { /* ten in any sixty seconds */
		pass(w, 6 * SEC);
		davit_supervise_ended(&w->leaf[0], DAVIT_CAUSE_CODE);
		assert_int_equal(w->leaf[0].state, DAVIT_NODE_WAITING);
	}
	pass(w, 5 * SEC);
	davit_supervise_ended(&w->leaf[0], DAVIT_CAUSE_CODE);
	assert_int_equal(w->leaf[0].state, DAVIT_NODE_FAILED);
	assert_string_equal(w->leaf[0].rule_name, "intensity");
	assert_int_equal(w->sup.root.state, DAVIT_NODE_FAILED); /* isolate is its final policy */
	close_world(w);
}

static void failures_escalate_level_by_level(void **state)
{
	struct davit_supervision_rule root = one_for_one, up = one_for_one;
	struct davit_restart_rule once = always;
	struct world *w;

	root.escalation = DAVIT_ESCALATE_RESTART;
	root.cooldown = 5 * SEC;
	up.escalation = DAVIT_ESCALATE_PARENT;
	once.retries = 0;
	w = open_world(&root, (struct davit_start_budget){0});
	assert_int_equal(davit_supervise_add_inner(&w->inner[0], &w->sup.root, "outer", &up, w), 0);
	assert_int_equal(davit_supervise_add_inner(&w->inner[1], &w->inner[0], "inner", &up, w), 0);
	add_leaves(w, &w->inner[1], 0, 2, &once);
	add_leaves(w, &w->inner[0], 2, 1, &always);
	add_leaves(w, &w->sup.root, 3, 1, &always);
	davit_supervise_start(&w->sup.root);
	trace(w);
	davit_supervise_ended(&w->leaf[0], DAVIT_CAUSE_WATCHDOG);
	assert_string_equal(trace(w), "-b -c");
	assert_string_equal(w->inner[0].rule_name, "escalation");
	assert_ptr_equal(w->inner[0].origin, &w->leaf[0]);
	assert_int_equal(w->inner[0].cause, DAVIT_CAUSE_WATCHDOG);
	assert_int_equal(w->inner[0].state, DAVIT_NODE_WAITING);
	assert_int_equal(w->inner[1].state, DAVIT_NODE_FAILED);
	davit_supervise_remove(&w->leaf[0]);
	assert_null(w->inner[0].origin);
	pass(w, 5 * SEC);
	assert_string_equal(trace(w), "+b +c");
	close_world(w);
}

static void a_significant_child_shuts_its_supervisor_down(void **state)
{
	struct davit_supervision_rule rule = one_for_all;
	struct davit_restart_rule job = always;
	struct world *w = open_plain_world();

	rule.auto_shutdown = true;
	job.policy = DAVIT_RESTART_ON_FAILURE;
	assert_int_equal(davit_supervise_add_inner(&w->inner[0], &w->sup.root, "batch", &rule, w), 0);
	assert_int_equal(davit_supervise_add_inner(&w->inner[1], &w->inner[0], "job", &service, w), 0);
	w->inner[1].significant = true;
	add_leaves(w, &w->inner[1], 0, 2, &job);
	add_leaves(w, &w->inner[0], 2, 1, &always);
	davit_supervise_start(&w->inner[0]);
	trace(w);
	davit_supervise_ended(&w->leaf[0], DAVIT_CAUSE_CLEAN);
	assert_string_equal(trace(w), "");
	davit_supervise_ended(&w->leaf[1], DAVIT_CAUSE_CLEAN);
	assert_int_equal(w->inner[1].state, DAVIT_NODE_COMPLETED);
	assert_string_equal(trace(w), "-c");
	assert_int_equal(w->inner[0].state, DAVIT_NODE_COMPLETED);
	assert_string_equal(w->inner[0].rule_name, "auto-shutdown");
	assert_ptr_equal(w->inner[0].origin, &w->leaf[1]);
	close_world(w);
}

static void a_final_end_is_not_restarted_not_even_with_its_group(void **state)
{
	struct world *w = open_plain_world();

	family(w, "all", &one_for_all, 2, &always);
	trace(w);
	davit_supervise_ended_final(&w->leaf[0], DAVIT_CAUSE_CODE);
	assert_int_equal(w->leaf[0].state, DAVIT_NODE_FAILED);
	assert_string_equal(w->leaf[0].rule_name, "prevent");
	davit_supervise_ended(&w->leaf[1], DAVIT_CAUSE_CODE);
	pass(w, SEC);
	assert_string_equal(trace(w), "+b");
	davit_supervise_ended(&w->leaf[1], DAVIT_CAUSE_STOPPED); /* somebody else stopped it */
	assert_int_equal(w->leaf[1].state, DAVIT_NODE_IDLE);
	assert_false(w->leaf[1].wanted);
	close_world(w);
}

static void what_is_found_keeps_its_counters(void **state)
{
	struct davit_restart_rule twice = always;
	struct world *w = open_plain_world();
	struct davit_node *l = w->leaf;

	twice.retries = 2;
	assert_int_equal(davit_supervise_add_inner(&w->inner[0], &w->sup.root, "s", &service, w), 0);
	add_leaves(w, &w->inner[0], 0, 1, &twice);
	add_leaves(w, &w->sup.root, 1, 5, &twice);
	davit_supervise_restore(&l[0], DAVIT_NODE_COMPLETED, 0, 0, 0);
	assert_int_equal(w->inner[0].state, DAVIT_NODE_COMPLETED);
	davit_supervise_adopted(&l[1], 1);
	davit_supervise_restore(&l[2], DAVIT_NODE_RUNNING, 2, 7, 2);
	davit_supervise_restore(&l[3], DAVIT_NODE_WAITING, 1, 1, 2);
	davit_supervise_restore(&l[4], DAVIT_NODE_STOPPING, 0, 0, 0);
	davit_supervise_restore(&l[5], DAVIT_NODE_FAILED, 2, 2, 2);
	assert_string_equal(trace(w), "-e");
	assert_int_equal(l[4].state, DAVIT_NODE_IDLE);
	davit_supervise_ended(&l[2], DAVIT_CAUSE_VANISHED);
	assert_int_equal(l[2].state, DAVIT_NODE_FAILED);
	assert_int_equal(l[2].total_restarts, 7);
	davit_supervise_ended(&l[1], DAVIT_CAUSE_VANISHED);
	assert_int_equal(l[1].restarts, 2);
	pass(w, 200 * MS);
	assert_string_equal(trace(w), "+b +d");
	assert_int_equal(l[5].state, DAVIT_NODE_FAILED);
	davit_supervise_start(&l[0]);
	assert_string_equal(trace(w), "+a");
	assert_int_equal(w->inner[0].state, DAVIT_NODE_RUNNING);
	close_world(w);
}

static void rules_change_in_place_and_the_roots_are_checked(void **state)
{
	struct davit_supervision_rule rule = one_for_one;
	struct davit_restart_rule never = always;
	struct davit_supervise s;
	struct davit_error err;
	struct world *w = open_plain_world();

	add_leaves(w, &w->sup.root, 0, 2, &always);
	davit_supervise_start(&w->sup.root);
	trace(w);
	never.policy = DAVIT_RESTART_NEVER;
	davit_supervise_set_restart(&w->leaf[0], &never);
	davit_supervise_ended(&w->leaf[0], DAVIT_CAUSE_SIGNAL);
	assert_int_equal(w->leaf[0].state, DAVIT_NODE_FAILED);
	rule.max_restarts = 0;
	assert_int_equal(davit_supervise_set_rule(&w->sup.root, &rule), 0);
	davit_supervise_ended(&w->leaf[1], DAVIT_CAUSE_SIGNAL);
	assert_string_equal(w->leaf[1].rule_name, "intensity");
	rule.escalation = DAVIT_ESCALATE_PARENT;
	assert_int_equal(davit_supervise_set_rule(&w->sup.root, &rule), DAVIT_EINVAL);
	assert_int_equal(
		davit_supervise_init(&s, w->loop, &ops, &rule, &(struct davit_start_budget){0}, w, &err),
		DAVIT_EINVAL);
	assert_int_equal(
		davit_supervise_init(&s, w->loop, &ops, &service, &(struct davit_start_budget){0}, w, &err),
		DAVIT_EINVAL);
	close_world(w);
}

static void want_of_memory_refuses_nodes_but_loses_no_start(void **state)
{
	struct davit_supervision_rule rule = one_for_all;
	struct davit_supervise s;
	struct world *w = open_plain_world();

	rule.max_restarts = 3;
	rule.period = SEC;
	assert_int_equal(davit_supervise_add_inner(&w->inner[0], &w->sup.root, "all", &rule, w), 0);
	add_leaves(w, &w->inner[0], 0, 2, &always);
	davit_supervise_start(&w->sup.root);
	w->manual_run = true;
	while (w->sup.starting < 2) /* without a timer: the loop has no memory yet */
		assert_true(davit_loop_step(w->loop));
	fail_after = 1;
	assert_int_equal(davit_supervise_init(&s, w->loop, &ops, &one_for_one,
					      &(struct davit_start_budget){0}, w, NULL),
			 DAVIT_ENOMEM);
	assert_int_equal(davit_supervise_add_leaf(&w->leaf[2], &w->inner[0], "c", &always, w), DAVIT_ENOMEM);
	assert_int_equal(davit_supervise_add_inner(&w->inner[1], &w->inner[0], "d", &rule, w), DAVIT_ENOMEM);
	assert_int_equal(w->inner[0].n_children, 2);
	davit_supervise_ended(&w->leaf[1], DAVIT_CAUSE_CODE);
	while (davit_loop_step(w->loop))
		;
	assert_string_equal(w->trace, "+a +b -a +a +b");
	assert_null(w->inner[0].window);
	fail_after = 0;
	close_world(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(starts_keep_to_rate_burst_and_number_in_order),
		cmocka_unit_test(a_held_start_gives_its_place_back),
		cmocka_unit_test(ten_thousand_wait_their_turn),
		cmocka_unit_test(intensity_is_a_sliding_window),
		cmocka_unit_test(failures_escalate_level_by_level),
		cmocka_unit_test(a_significant_child_shuts_its_supervisor_down),
		cmocka_unit_test(a_final_end_is_not_restarted_not_even_with_its_group),
		cmocka_unit_test(what_is_found_keeps_its_counters),
		cmocka_unit_test(rules_change_in_place_and_the_roots_are_checked),
		cmocka_unit_test(want_of_memory_refuses_nodes_but_loses_no_start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
