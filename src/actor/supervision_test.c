/* SPDX-License-Identifier: MIT
 *
 * Supervision of containers: each rule by itself, on a clock of the test's.
 */
#include "actor/test_family.h"
#include "base/util.h"

static void one_for_one_restarts_the_failed_one_alone(void **unused)
{
	struct world *w = family(&plain, &plain);

	tell(w, "B", "die");
	assert_string_equal(trace(), "!B +B");
	close_world(w);
}

static void one_for_all_stops_right_to_left_and_starts_left_to_right(void **unused)
{
	static const struct davit_definition parent = {BASE, .options = {.strategy = DAVIT_ONE_FOR_ALL}};
	struct world *w = family(&parent, &plain);

	tell(w, "B", "die");
	assert_string_equal(trace(), "!B -C -A +A +B +C");
	close_world(w);
}

static void rest_for_one_takes_those_after_it(void **unused)
{
	static const struct davit_definition parent = {BASE, .options = {.strategy = DAVIT_REST_FOR_ONE}};
	struct world *w = family(&parent, &plain);

	tell(w, "B", "die");
	assert_string_equal(trace(), "!B -C +B +C");
	close_world(w);
}

static void simple_one_for_one_takes_children_of_one_definition(void **unused)
{
	static const struct davit_definition parent = {BASE,
						       .options = {.strategy = DAVIT_SIMPLE_ONE_FOR_ONE}};
	static const struct davit_definition other = {.name = "Other", .behaviour = talk};
	struct world *w = family(&parent, &plain);
	struct davit_create what = {.alias = "X", .definition = &other, .parent = "P"};
	struct davit_container_info info;
	struct davit_promise p;

	davit_container_create(w->c, &what, &p);
	assert_int_equal(finish(w, p), DAVIT_EINVAL);
	assert_false(davit_exists(w->c, "X"));
	tell(w, "B", "die");
	assert_string_equal(trace(), "!B +B");
	davit_container_get(w->c, "P", &info);
	assert_string_equal(davit_strategy_name(info.strategy), "simple-one-for-one");
	/* When none is there, the next one says of what they are. */
	for (const char *s = "CBA"; *s; s++)
		do_destroy(w, (char[]){*s, 0}, DAVIT_DESTROY_FORCE);
	davit_container_create(w->c, &what, &p);
	assert_int_equal(finish(w, p), 0);
	close_world(w);
}

static void a_group_takes_the_children_of_its_members_with_it(void **unused)
{
	static const struct davit_definition parent = {BASE, .options = {.strategy = DAVIT_REST_FOR_ONE}};
	struct world *w = family(&parent, &plain);

	make_under(w, "B", "B1", &plain);
	make_under(w, "A", "A1", &plain);
	trace();
	tell(w, "B", "die");
	assert_string_equal(trace(), "!B -C -B1 +B +B1 +C");
	close_world(w);
}

static void more_than_n_restarts_in_t_fail_the_parent(void **unused)
{
	static const struct davit_definition parent = {BASE,
						       .options = {.max_restarts = 2, .period = 10 * SEC}};
	struct world *w = family(&parent, &plain);

	tell(w, "A", "die");
	tell(w, "A", "die");
	assert_string_equal(trace(), "!A +A !A +A");
	/* At the edge: the first one is 10 s ago, and counts no more. */
	pass(w, 10 * SEC);
	tell(w, "A", "die");
	assert_string_equal(trace(), "!A +A");
	pass(w, 10 * SEC - 1);
	tell(w, "B", "die");
	assert_string_equal(trace(), "!B +B");
	/* Two within the period, less one nanosecond: the third trips. P fails, its other
	 * children stop; Main restarts P, and P starts them all. */
	tell(w, "C", "die");
	assert_string_equal(trace(), "!C -B -A !P +P +A +B +C");
	close_world(w);
}

static void an_always_dying_child_escalates_up_to_the_final_policy(void **unused)
{
	static const struct davit_definition parent = {BASE,
						       .options = {.max_restarts = 1, .period = 60 * SEC}};
	struct world *w = open_world();
	struct davit_container_info info;

	make_under(w, NULL, "P", &parent);
	make_under(w, "P", "A", &plain);
	trace();
	/* Main bears 10 restarts of P a minute; P one of A. */
	for (int i = 0; i < 2 * 11 - 1; i++)
		tell(w, "A", "die");
	assert_int_equal(state(w, "Main"), DAVIT_STATE_STARTED);
	tell(w, "A", "die");
	assert_int_equal(state(w, "Main"), DAVIT_STATE_FAILED);
	assert_int_equal(state(w, "P"), DAVIT_STATE_FAILED);
	/* Nothing stays failed for ever: Main comes back, later and later. */
	pass(w, 200 * MS);
	assert_int_equal(state(w, "Main"), DAVIT_STATE_STARTED);
	assert_int_equal(state(w, "A"), DAVIT_STATE_STARTED);
	davit_container_get(w->c, "Main", &info);
	assert_int_equal(info.restarts, 1);
	close_world(w);
}

static void a_failed_restart_counts_too(void **unused)
{
	static const struct davit_definition parent = {BASE,
						       .options = {.max_restarts = 2, .period = 10 * SEC}};
	static const struct davit_definition child = {BASE, .construct = construct};
	struct world *w = family(&parent, &child);

	fails_to_construct = 2; /* two restarts that fail: the third failure trips */
	tell(w, "A", "die");
	assert_string_equal(trace(), "!A !A !A -C -B !P +P +A +B +C");
	close_world(w);
}

static void messages_are_kept_during_the_backoff_and_the_failing_one_is_not_handled_again(void **unused)
{
	static const struct davit_definition child = {BASE, .options = {.set_restart = true,
									.restart = DAVIT_RESTART_ALWAYS,
									.retries = -1,
									.backoff = BACKOFF}};
	struct world *w = family(&plain, &child);
	struct davit_system_stats s;

	tell(w, "A", "die");
	tell(w, "A", "one");
	tell(w, "A", "two");
	assert_string_equal(trace(), "!A");
	assert_int_equal(state(w, "A"), DAVIT_STATE_FAILED);
	pass(w, 99 * MS);
	assert_string_equal(trace(), "");
	pass(w, MS);
	assert_string_equal(trace(), "+A A<one A<two");
	/* The second time it takes twice as long. */
	tell(w, "A", "die");
	pass(w, 199 * MS);
	assert_string_equal(trace(), "!A");
	pass(w, MS);
	assert_string_equal(trace(), "+A");
	davit_system_stats(w->system, &s);
	assert_int_equal(s.dead_by[DAVIT_DEAD_FAILED], 2);
	balance(w);
	close_world(w);
}

static void a_backoff_is_completed_by_its_defaults(void **unused)
{
	static const struct davit_definition child = {BASE, .options = {.set_restart = true,
									.restart = DAVIT_RESTART_ALWAYS,
									.retries = -1,
									.backoff = {.initial = 100 * MS}}};
	struct world *w = family(&plain, &child);

	for (int64_t delay = 100; delay <= 400; delay *= 2) {
		tell(w, "A", "die");
		pass(w, delay * MS - 1);
		assert_string_equal(trace(), "!A");
		pass(w, 1);
		assert_string_equal(trace(), "+A");
	}
	/* A minute of health, and it starts over. */
	pass(w, 60 * SEC);
	tell(w, "A", "die");
	pass(w, 100 * MS);
	assert_string_equal(trace(), "!A +A");
	close_world(w);
}

static void a_child_of_policy_never_stays_failed(void **unused)
{
	static const struct davit_definition child = {
		BASE, .options = {.set_restart = true, .restart = DAVIT_RESTART_NEVER}};
	struct world *w = family(&plain, &child);

	tell(w, "A", "die");
	pass(w, 60 * SEC);
	assert_string_equal(trace(), "!A");
	assert_int_equal(state(w, "A"), DAVIT_STATE_FAILED);
	davit_container_start(w->c, "A", NULL);
	davit_system_run(w->system);
	assert_string_equal(trace(), "+A");
	close_world(w);
}

static void the_end_of_an_only_child_is_not_its_parents(void **unused)
{
	static const struct davit_definition child = {
		BASE, .options = {.set_restart = true, .restart = DAVIT_RESTART_NEVER}};
	struct world *w = open_world();

	make_under(w, NULL, "P", &plain);
	make_under(w, "P", "A", &child);
	trace();
	tell(w, "A", "die");
	pass(w, 60 * SEC);
	assert_string_equal(trace(), "!A");
	assert_int_equal(state(w, "A"), DAVIT_STATE_FAILED);
	assert_int_equal(state(w, "P"), DAVIT_STATE_STARTED);
	close_world(w);
}

static void retries_used_up_fail_the_parent_or_isolate_the_child(void **unused)
{
	static const struct davit_definition child = {
		BASE, .options = {.set_restart = true, .restart = DAVIT_RESTART_ALWAYS, .retries = 1}};
	static const struct davit_definition isolating = {BASE, .options = {.isolate = true}};
	struct world *w = family(&plain, &child);

	tell(w, "A", "die");
	tell(w, "A", "die");
	assert_string_equal(trace(), "!A +A !A -C -B !P +P +A +B +C");
	close_world(w);
	w = family(&isolating, &child);
	tell(w, "A", "die");
	tell(w, "A", "die");
	assert_string_equal(trace(), "!A +A !A");
	assert_int_equal(state(w, "A"), DAVIT_STATE_FAILED);
	assert_int_equal(state(w, "P"), DAVIT_STATE_STARTED);
	close_world(w);
}

static void what_the_user_stopped_stays_stopped(void **unused)
{
	static const struct davit_definition parent = {BASE, .options = {.strategy = DAVIT_ONE_FOR_ALL}};
	struct world *w = family(&parent, &plain);

	davit_container_stop(w->c, "A", NULL);
	davit_system_run(w->system);
	tell(w, "B", "die");
	assert_string_equal(trace(), "-A !B -C +B +C");
	assert_int_equal(state(w, "A"), DAVIT_STATE_STOPPED);
	close_world(w);
}

static void a_significant_child_that_is_done_stops_the_others(void **unused)
{
	static const struct davit_definition parent = {BASE, .options = {.auto_shutdown = true}};
	static const struct davit_definition child = {
		BASE, .options = {.set_restart = true, .restart = DAVIT_RESTART_NEVER, .significant = true}};
	struct world *w = open_world();

	make_under(w, NULL, "P", &parent);
	make_under(w, "P", "A", &plain);
	make_under(w, "P", "B", &child);
	trace();
	tell(w, "B", "die");
	assert_string_equal(trace(), "!B -A -P");
	close_world(w);
}

static int more_of_it(struct davit_context *c, struct davit_options *o)
{
	o->retries = atoi(davit_args(c));
	return 0;
}

static void a_significant_child_that_is_always_restarted_is_refused(void **unused)
{
	static const struct davit_definition wrong = {BASE, .options = {.significant = true}};
	static const struct davit_definition by_config = {
		BASE, .config = more_of_it,
		.options = {.set_restart = true, .restart = DAVIT_RESTART_ALWAYS, .significant = true}};
	struct davit_create what = {.alias = "A", .definition = &by_config, .args = "-1"};
	struct world *w = open_world();
	struct davit_promise p;

	assert_int_equal(make(w, "A", &wrong, 0), DAVIT_EINVAL);
	assert_false(davit_exists(w->c, "A"));
	assert_int_equal(davit_container_create(w->c, &what, &p), 0);
	assert_int_equal(finish(w, p), DAVIT_EINVAL);
	what.args = "3"; /* it ends, some time */
	assert_int_equal(davit_container_create(w->c, &what, &p), 0);
	assert_int_equal(finish(w, p), 0);
	close_world(w);
}

/* --- monitors and links --- */

static int watcher(struct davit_context *c, struct davit_message *m)
{
	const struct davit_down *down = (const void *)m->data;
	struct davit_ref ref;

	if (m->type == DAVIT_TYPE_DOWN) {
		note("%s:down(%d,%s)%s", davit_alias(c), down->code, down->reason,
		     davit_find(c, "B", &ref) ? "" : ",alias-taken");
		return 0;
	}
	memcpy(&ref, m->data, sizeof ref);
	return m->type == 1 ? davit_monitor(c, ref) : davit_link(c, ref);
}

static void a_monitor_hears_once_and_the_alias_is_free_by_then(void **unused)
{
	static const struct davit_definition d = {.name = "W", .behaviour = watcher};
	struct davit_container_info a, b;
	struct world *w = family(&plain, &plain);

	make_under(w, NULL, "M", &d);
	davit_container_get(w->c, "M", &a);
	davit_container_get(w->c, "B", &b);
	trace();
	davit_tell(w->c, a.ref, 1, &b.ref, sizeof b.ref);
	davit_system_run(w->system);
	do_destroy(w, "B", DAVIT_DESTROY_FORCE_SOFT);
	davit_system_run(w->system);
	assert_string_equal(trace(), "-B M:down(0,)");
	/* One of those that are gone fires at once. */
	davit_tell(w->c, a.ref, 1, &b.ref, sizeof b.ref);
	davit_system_run(w->system);
	assert_string_equal(trace(), "M:down(0,it had ended before)");
	close_world(w);
}

static int dies(struct davit_context *c, struct davit_message *m)
{
	return DAVIT_EIO;
}

static void a_link_fails_the_other_side(void **unused)
{
	static const struct davit_definition d = {.name = "W", .behaviour = watcher, .hook = hook};
	struct davit_container_info a;
	struct davit_ref ref;
	struct world *w = open_world();

	make_under(w, NULL, "L", &d);
	davit_container_get(w->c, "L", &a);
	davit_spawn(w->c, dies, NULL, 0, &ref);
	trace();
	davit_tell(w->c, a.ref, 2, &ref, sizeof ref);
	davit_system_run(w->system);
	davit_tell(w->c, ref, 1, NULL, 0);
	davit_system_run(w->system);
	assert_string_equal(only(trace(), "L"), "!L +L L:down(-9,its");
	close_world(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_for_one_restarts_the_failed_one_alone),
		cmocka_unit_test(one_for_all_stops_right_to_left_and_starts_left_to_right),
		cmocka_unit_test(rest_for_one_takes_those_after_it),
		cmocka_unit_test(simple_one_for_one_takes_children_of_one_definition),
		cmocka_unit_test(a_group_takes_the_children_of_its_members_with_it),
		cmocka_unit_test(more_than_n_restarts_in_t_fail_the_parent),
		cmocka_unit_test(an_always_dying_child_escalates_up_to_the_final_policy),
		cmocka_unit_test(a_failed_restart_counts_too),
		cmocka_unit_test(
			messages_are_kept_during_the_backoff_and_the_failing_one_is_not_handled_again),
		cmocka_unit_test(a_backoff_is_completed_by_its_defaults),
		cmocka_unit_test(a_child_of_policy_never_stays_failed),
		cmocka_unit_test(the_end_of_an_only_child_is_not_its_parents),
		cmocka_unit_test(retries_used_up_fail_the_parent_or_isolate_the_child),
		cmocka_unit_test(what_the_user_stopped_stays_stopped),
		cmocka_unit_test(a_significant_child_that_is_done_stops_the_others),
		cmocka_unit_test(a_significant_child_that_is_always_restarted_is_refused),
		cmocka_unit_test(a_monitor_hears_once_and_the_alias_is_free_by_then),
		cmocka_unit_test(a_link_fails_the_other_side),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
