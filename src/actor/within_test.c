/* SPDX-License-Identifier: MIT
 *
 * Containers within a process, operated from outside of it: by its parent, and through
 * two processes.
 */
#include "actor/test_processes.h"
#include "actor/test_way.h"

/* By its own remedy it stays failed. */
static const struct davit_solver nothing[] = {{.solution = DAVIT_SOLVE_NOTHING}};
static const struct davit_remedy stay[] = {{0, nothing, 1}, {0}};
static const struct davit_definition inner = {
	.name = "Inner", .behaviour = answer, .remedies = stay, .options = {.strategy = DAVIT_REST_FOR_ONE}};

static int keeps(struct davit_context *k, struct davit_message *m);
static const struct davit_definition outer = {.name = "Outer", .type = DAVIT_PROCESS, .behaviour = keeps};

static void made(struct davit_context *k, const struct davit_outcome *o, void *arg)
{
	struct davit_message *m = arg;

	if (o->code)
		davit_refuse(k, m, o->code, "%s", o->message);
	else
		davit_reply(k, m, "", 0);
	davit_message_free(k, m);
}

/* "make ALIAS" makes an inner one, "nest ALIAS" an outer one. */
static int keeps(struct davit_context *k, struct davit_message *m)
{
	const char *text = (const char *)m->data;
	struct davit_create what = {.alias = text + 5, .definition = *text == 'm' ? &inner : &outer};
	struct davit_promise p;
	int r;

	if (strncmp(text, "make ", 5) && strncmp(text, "nest ", 5))
		return answer(k, m);
	if (*text == 'n')
		what.flags = DAVIT_CREATE_START;
	r = davit_container_create(k, &what, &p);
	return r ? r : davit_done(k, p, made, davit_take(k));
}

static void make_within(const char *above, const char *alias)
{
	char order[80];

	snprintf(order, sizeof order, "make %s", alias);
	assert_string_equal(ask(above, order), "");
	become(alias, DAVIT_STATE_CREATED);
}

static int operate(const char *address, enum davit_operation op)
{
	struct davit_promise p;
	int r = op == DAVIT_DO_START  ? davit_container_start(c, address, &p)
		: op == DAVIT_DO_STOP ? davit_container_stop(c, address, &p)
		: op == DAVIT_DO_FAIL ? davit_container_fail(c, address, DAVIT_EIO, "told to", &p)
				      : davit_container_destroy(c, address, DAVIT_DESTROY_FORCE_SOFT, &p);

	assert_int_equal(r, 0);
	return finish(p);
}

static void bring(enum davit_state s)
{
	if (s == DAVIT_STATE_DESTROYED)
		return;
	make_within("A", "W");
	for (int i = 0; way_to[s][i]; i++)
		assert_int_equal(operate("W", way_to[s][i]), 0);
	become("W", s);
}

static int create_again(void)
{
	struct davit_create what = {.alias = "W", .definition = &inner};
	struct davit_promise p;

	assert_int_equal(davit_container_create(c, &what, &p), 0);
	return finish(p);
}

static void each_pair_of_state_and_operation_does_what_the_table_says_from_outside_as_well(void **unused)
{
	start_with(NULL, "A", &outer, NULL);
	for (int s = 0; s < DAVIT_STATE_COUNT; s++) {
		for (int op = 0; op < DAVIT_OPERATION_COUNT; op++) {
			struct davit_transition t = davit_state_transition(s, op);
			int r;
			if (s == DAVIT_STATE_DESTROYED && op == DAVIT_DO_CREATE)
				continue; /* that is one of the parent's own then */
			bring(s);
			r = op == DAVIT_DO_CREATE ? create_again() : operate("Main/A/W", op);
			if (op == DAVIT_DO_CREATE) { /* idempotent, in whatever state */
				assert_int_equal(r, 0);
			} else if (t.verdict == DAVIT_VERDICT_ERROR) {
				assert_int_equal(r, DAVIT_ESTATE);
			} else {
				assert_int_equal(r, 0);
				if (t.next == DAVIT_STATE_DESTROYED)
					assert_false(davit_exists(c, "W"));
				else
					become("W", t.next);
			}
			if (op == DAVIT_DO_CREATE || t.verdict == DAVIT_VERDICT_ERROR)
				assert_int_equal(state("W"), s);
			assert_int_equal(operate("W", DAVIT_DO_DESTROY), 0);
			assert_false(davit_exists(c, "W"));
		}
	}
}

static void what_stands_within_is_known_by_its_path_and_by_the_end_of_it(void **unused)
{
	struct davit_container_info i;

	start_with(NULL, "A", &outer, NULL);
	make_within("A", "W");
	assert_int_equal(operate("A/W", DAVIT_DO_START), 0);
	assert_string_equal(ask("A/W", "hi"), "W: hi");
	assert_string_equal(ask("Main/A/W", "hi"), "W: hi");
	assert_string_equal(ask("name:Inner", "hi"), "W: hi");
	assert_false(davit_exists(c, "name:"));
	assert_int_equal(davit_container_get(c, "A/W", &i), 0);
	assert_string_equal(i.name, "Inner");
	assert_int_equal(i.type, DAVIT_THREAD);
	assert_int_equal(i.n_children, 0);
	assert_string_equal(davit_strategy_name(i.strategy), "rest-for-one");
	assert_int_equal(davit_container_get(c, "A", &i), 0);
	assert_int_equal(i.n_children, 1);
	assert_string_equal(davit_strategy_name(i.strategy), "one-for-one");
	assert_false(davit_exists(c, "B/W"));
	assert_false(davit_exists(c, "n/A/W"));
	assert_true(davit_exists(c, "Main/A"));
}

static void its_failure_is_known_outside_and_solved_from_there(void **unused)
{
	struct davit_container_info i;
	struct davit_promise p;

	start_with(NULL, "A", &outer, NULL);
	make_within("A", "W");
	assert_int_equal(operate("W", DAVIT_DO_START), 0);
	assert_string_equal(ask("W", "fail"), "!the request was not handled: its handler failed");
	become("W", DAVIT_STATE_FAILED);
	assert_int_equal(davit_container_get(c, "W", &i), 0);
	assert_int_equal(i.code, DAVIT_EIO);
	assert_string_equal(i.message, "told to fail");
	davit_container_solve(c, "W", i.failure + 1, DAVIT_SOLVE_CONTINUE, &p);
	assert_int_equal(finish(p), DAVIT_ESTATE);
	davit_container_solve(c, "W", i.failure, DAVIT_SOLVE_CONTINUE, &p);
	assert_int_equal(finish(p), 0);
	become("W", DAVIT_STATE_STARTED);
	assert_string_equal(ask("W", "hi"), "W: hi");
}

static void it_is_reached_through_two_processes(void **unused)
{
	struct davit_container_info i;

	start_with(NULL, "A", &outer, NULL);
	assert_string_equal(ask("A", "nest B"), "");
	become("B", DAVIT_STATE_STARTED);
	make_within("B", "W");
	assert_int_equal(operate("Main/A/B/W", DAVIT_DO_START), 0);
	become("W", DAVIT_STATE_STARTED);
	assert_int_equal(davit_container_get(c, "A", &i), 0);
	assert_int_equal(i.n_children, 1);
	assert_int_equal(davit_container_get(c, "B", &i), 0);
	assert_int_equal(i.n_children, 1);
	assert_string_equal(ask("B/W", "who"), "W Inner Main/A/B/W B  0");
	assert_int_equal(operate("B/W", DAVIT_DO_STOP), 0);
	become("W", DAVIT_STATE_STOPPED);
	kill(pid_of("B"), SIGKILL);
	for (int n = 0; n < 5000 && davit_exists(c, "W"); n++)
		nap();
	assert_false(davit_exists(c, "W"));
	become("B", DAVIT_STATE_STARTED);
}

static void an_operation_under_way_ends_with_the_process(void **unused)
{
	struct davit_promise p;
	pid_t pid;

	start_with(NULL, "A", &outer, NULL);
	make_within("A", "W");
	pid = pid_of("A");
	kill(pid, SIGSTOP);
	davit_container_start(c, "W", &p);
	kill(pid, SIGKILL);
	assert_int_equal(finish(p), DAVIT_ECLOSED);
}

static void nothing_is_made_within_from_outside(void **unused)
{
	struct davit_create taken = {.alias = "W", .definition = &inner, .flags = DAVIT_CREATE_FORCE};
	struct davit_promise p;

	start_with(NULL, "A", &outer, NULL);
	make_within("A", "W");
	assert_int_equal(davit_container_create(c, &taken, &p), 0);
	assert_int_equal(finish(p), DAVIT_EEXIST);
	assert_int_equal(make("A/W", "X", &inner, 0), DAVIT_ENOTSUP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(each_pair_of_state_and_operation_does_what_the_table_says_from_outside_as_well),
		T(what_stands_within_is_known_by_its_path_and_by_the_end_of_it),
		T(its_failure_is_known_outside_and_solved_from_there),
		T(it_is_reached_through_two_processes),
		T(an_operation_under_way_ends_with_the_process),
		T(nothing_is_made_within_from_outside),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
