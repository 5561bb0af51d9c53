/* SPDX-License-Identifier: MIT
 *
 * What a container does about its own failures, and what others may: remedies and solutions.
 */
#include "actor/test_family.h"
#include "base/util.h"

static void a_remedy_continues_with_the_memory_kept(void **unused)
{
	static const struct davit_solver steps[] = {{.solution = DAVIT_SOLVE_LOG},
						    {.solution = DAVIT_SOLVE_CONTINUE}};
	static const struct davit_remedy remedies[] = {{DAVIT_EIO, steps, 2}, {0}};
	static const struct davit_definition child = {BASE, .construct = construct, .remedies = remedies};
	struct davit_container_info info;
	struct world *w = family(&plain, &child);

	fails_to_construct = 1; /* if it were constructed again */
	tell(w, "A", "die");
	assert_string_equal(trace(), "!A +A");
	assert_int_equal(fails_to_construct, 1);
	fails_to_construct = 0;
	davit_container_get(w->c, "A", &info);
	assert_int_equal(info.restarts, 0); /* the parent was not asked */
	close_world(w);
}

static void the_first_remedy_that_fits_is_taken(void **unused)
{
	static const struct davit_solver stop[] = {{.solution = DAVIT_SOLVE_STOP}};
	static const struct davit_solver go_on[] = {{.solution = DAVIT_SOLVE_RESUME}};
	static const struct davit_remedy remedies[] = {{DAVIT_EINVAL, go_on, 1}, {0, stop, 1}, {0}};
	static const struct davit_definition child = {BASE, .remedies = remedies};
	struct world *w = family(&plain, &child);

	davit_container_fail(w->c, "A", DAVIT_EINVAL, "x", NULL);
	davit_system_run(w->system);
	assert_string_equal(trace(), "!A +A");
	tell(w, "A", "die");
	assert_string_equal(trace(), "!A -A");
	assert_int_equal(state(w, "A"), DAVIT_STATE_STOPPED);
	close_world(w);
}

static void a_remedys_limit_and_interval_are_obeyed_and_then_the_parent_decides(void **unused)
{
	static const struct davit_solver steps[] = {
		{.solution = DAVIT_SOLVE_RESTART, .limit = 2, .interval = 5 * SEC}};
	static const struct davit_remedy remedies[] = {{0, steps, 1}, {0}};
	static const struct davit_definition child = {BASE, .remedies = remedies};
	struct davit_container_info info;
	struct world *w = family(&plain, &child);

	tell(w, "A", "die");
	assert_string_equal(trace(), "!A +A");
	tell(w, "A", "die");
	pass(w, 5 * SEC - 1);
	assert_string_equal(trace(), "!A");
	pass(w, 1);
	assert_string_equal(trace(), "+A");
	davit_container_get(w->c, "A", &info);
	assert_int_equal(info.restarts, 0);
	tell(w, "A", "die"); /* used up: escalated at once */
	assert_string_equal(trace(), "!A +A");
	davit_container_get(w->c, "A", &info);
	assert_int_equal(info.restarts, 1);
	close_world(w);
}

static void a_remedy_can_make_the_container_anew(void **unused)
{
	static const struct davit_solver steps[] = {{.solution = DAVIT_SOLVE_RECREATE, .limit = 1}};
	static const struct davit_remedy remedies[] = {{0, steps, 1}, {0}};
	static const struct davit_definition child = {BASE, .remedies = remedies};
	struct davit_container_info before, after;
	struct world *w = family(&plain, &child);

	davit_container_get(w->c, "A", &before);
	tell(w, "A", "die");
	assert_string_equal(trace(), "!A -A +A");
	davit_container_get(w->c, "A", &after);
	assert_false(davit_ref_equal(before.ref, after.ref));
	assert_string_equal(after.parent, "P");
	close_world(w);
}

static void each_solution_does_what_its_name_says(void **unused)
{
	static const struct {
		struct davit_solver solver;
		const char *trace;
		int state, restarts; /* -1: it is gone */
	} cases[] = {
		{{.solution = DAVIT_SOLVE_NOTHING}, "!A", DAVIT_STATE_FAILED, 0},
		{{.solution = DAVIT_SOLVE_LOG}, "!A", DAVIT_STATE_FAILED, 0},
		{{.solution = DAVIT_SOLVE_ESCALATE}, "!A +A", DAVIT_STATE_STARTED, 1},
		{{.solution = DAVIT_SOLVE_CONTINUE}, "!A +A", DAVIT_STATE_STARTED, 0},
		{{.solution = DAVIT_SOLVE_RESUME}, "!A +A", DAVIT_STATE_STARTED, 0},
		{{.solution = DAVIT_SOLVE_START}, "!A +A", DAVIT_STATE_STARTED, 0},
		{{.solution = DAVIT_SOLVE_RESTART}, "!A +A", DAVIT_STATE_STARTED, 0},
		{{.solution = DAVIT_SOLVE_STOP}, "!A -A", DAVIT_STATE_STOPPED, 0},
		{{.solution = DAVIT_SOLVE_DESTROY_SOFT}, "!A -A", -1, 0},
		{{.solution = DAVIT_SOLVE_DESTROY_HARD}, "!A", -1, 0},
		{{.solution = DAVIT_SOLVE_DESTROY}, "!A -A", -1, 0},
		{{.solution = DAVIT_SOLVE_RECREATE}, "!A -A +A", DAVIT_STATE_STARTED, 0},
	};

	_Static_assert(DAVIT_ARRAY_SIZE(cases) == DAVIT_SOLUTION_COUNT, "one is not tested");
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(cases); i++) {
		const struct davit_remedy remedies[] = {{0, &cases[i].solver, 1}, {0}};
		const struct davit_definition child = {BASE, .remedies = remedies};
		struct world *w = family(&plain, &child);
		struct davit_container_info info;

		tell(w, "A", "die");
		assert_string_equal(trace(), cases[i].trace);
		assert_int_equal(davit_exists(w->c, "A"), cases[i].state >= 0);
		if (cases[i].state >= 0) {
			davit_container_get(w->c, "A", &info);
			assert_int_equal((int)info.state, cases[i].state);
			assert_int_equal(info.restarts, cases[i].restarts);
		}
		close_world(w);
	}
}

static void a_failure_can_be_solved_from_outside_by_its_hash_and_only_that_one(void **unused)
{
	static const struct davit_solver nothing[] = {{.solution = DAVIT_SOLVE_NOTHING}};
	static const struct davit_remedy remedies[] = {{0, nothing, 1}, {0}};
	static const struct davit_definition child = {BASE, .remedies = remedies};
	struct davit_container_info first, second;
	struct davit_promise p;
	struct world *w = family(&plain, &child);

	tell(w, "A", "die");
	davit_container_get(w->c, "A", &first);
	assert_int_not_equal(first.failure, 0);
	assert_string_equal(first.message, "told to die");
	tell(w, "A", "kept");
	davit_container_solve(w->c, "A", first.failure + 1, DAVIT_SOLVE_CONTINUE, &p);
	assert_int_equal(finish(w, p), DAVIT_ESTATE);
	davit_container_solve(w->c, "A", first.failure, DAVIT_SOLVE_CONTINUE, &p);
	assert_int_equal(finish(w, p), 0);
	davit_system_run(w->system);
	assert_string_equal(trace(), "!A +A A<kept");
	/* The next failure is another one: the old solution is stale. */
	tell(w, "A", "die");
	davit_container_get(w->c, "A", &second);
	davit_container_solve(w->c, "A", first.failure, DAVIT_SOLVE_RESTART, &p);
	assert_int_equal(finish(w, p), DAVIT_ESTATE);
	davit_container_solve(w->c, "A", second.failure, DAVIT_SOLVE_RESTART, &p);
	assert_int_equal(finish(w, p), 0);
	close_world(w);
}

static int run_look(struct davit_context *c, struct davit_message *m, const char *parameters)
{
	note("%s:look", davit_alias(c));
	return davit_reply(c, m, "seen", 4);
}

static void while_failed_only_commands_for_that_failure_are_run(void **unused)
{
	static const struct davit_solver nothing[] = {{.solution = DAVIT_SOLVE_NOTHING}};
	static const struct davit_remedy remedies[] = {{0, nothing, 1}, {0}};
	static const struct davit_command_entry commands[] = {{"look", run_look}, {0}};
	static const struct davit_definition child = {BASE, .remedies = remedies, .commands = commands};
	struct davit_request_options o = {.timeout = -1};
	struct davit_container_info info;
	struct davit_promise p, q;
	struct world *w = family(&plain, &child);

	tell(w, "A", "die");
	davit_container_get(w->c, "A", &info);
	davit_command(w->c, info.ref, "look", NULL, &o, &q); /* an ordinary one waits */
	davit_system_run(w->system);
	assert_string_equal(trace(), "!A");
	o.failure = info.failure;
	davit_command(w->c, info.ref, "look", NULL, &o, &p);
	assert_int_equal(finish(w, p), 0);
	assert_string_equal(trace(), "A:look");
	o.failure++;
	davit_command(w->c, info.ref, "look", NULL, &o, &p);
	assert_int_equal(finish(w, p), DAVIT_ESTATE);
	davit_container_start(w->c, "A", NULL);
	assert_int_equal(finish(w, q), 0);
	assert_string_equal(trace(), "+A A:look");
	close_world(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_remedy_continues_with_the_memory_kept),
		cmocka_unit_test(the_first_remedy_that_fits_is_taken),
		cmocka_unit_test(a_remedys_limit_and_interval_are_obeyed_and_then_the_parent_decides),
		cmocka_unit_test(a_remedy_can_make_the_container_anew),
		cmocka_unit_test(each_solution_does_what_its_name_says),
		cmocka_unit_test(a_failure_can_be_solved_from_outside_by_its_hash_and_only_that_one),
		cmocka_unit_test(while_failed_only_commands_for_that_failure_are_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
