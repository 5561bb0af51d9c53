/* SPDX-License-Identifier: MIT
 *
 * The daemon goes and comes back.
 */
#include "test/conformance/harness.h"

#include <signal.h>

static void a_close_ends_operations_as_closed(void)
{
	static struct call c;
	struct thing *t = ignoring();

	do_stop(&c, t, 60 * SEC, 0);
	pass(20 * MSEC);
	close_runtime();
	CHECK_INT(result(&c), DAVIT_ECLOSED);
	CHECK_INT(c.done, 1);
	open_runtime();
	adopt(false);
}

static void a_close_ends_removals_as_closed(void)
{
	enum { N = 4 };
	static struct call c[N];
	struct thing *t[N];

	for (int i = 0; i < N; i++) {
		t[i] = make(RUNS, 0);
		CHECK_INT(create(t[i]), 0);
	}
	for (int i = 0; i < N; i++)
		do_remove(&c[i], t[i]);
	/* Until the first of them is done, the others at any step of it. */
	WAIT(c[0].done);
	close_runtime();
	for (int i = 0; i < N; i++) {
		int r = result(&c[i]);

		CHECK(r == 0 || r == DAVIT_ECLOSED);
		CHECK_INT(c[i].done, 1);
	}
	open_runtime();
	adopt(false);
}

static void survivors_are_found(void)
{
	struct thing *created, *started, *ended;
	struct davit_inspection before;

	need(DAVIT_CAP_SURVIVE);
	created = make(RUNS, 0);
	CHECK_INT(create(created), 0);
	started = running(EXITS, 0);
	WAIT(started->runs_told);
	started->runs_told = 0;
	ended = running(EXITS, 7);
	WAIT(ended->runs_told);
	started = running(RUNS, 0);
	before = inspect(started);

	reopen(false);
	CHECK(created->found && started->found && ended->found);
	CHECK_STR(started->label, started->workload.label);
	CHECK_INT(created->adopted.state, DAVIT_STATE_CREATED);
	CHECK_INT(created->adopted.run, 0);
	CHECK_INT(started->adopted.state, DAVIT_STATE_STARTED);
	CHECK_INT(started->adopted.run, before.run);
	CHECK_INT(started->adopted.pid, before.pid);
	CHECK_INT(started->adopted.started, before.started);
	CHECK_INT(ended->adopted.state, DAVIT_STATE_STOPPED);
	CHECK_INT(ended->adopted.exit.code, 7);
	/* What was told before, or by found, is not told again. */
	pass(100 * MSEC);
	CHECK_INT(started->runs_told, 0);
	CHECK_INT(ended->runs_told, 1);
	/* And they are as good as before. */
	CHECK_INT(start(created), 0);
	CHECK_INT(stop(started, 5 * SEC), 0);
	CHECK_INT(started->runs_told, 1);
	CHECK_INT(start(ended), 0);
	WAIT(ended->runs_told == 2);
	CHECK_INT(ended->last_run, 2);
}

static void an_end_that_nobody_saw_is_found(void)
{
	struct thing *t;
	pid_t pid;

	need(DAVIT_CAP_SURVIVE);
	need_real("its instances cannot be killed from outside");
	t = running(RUNS, 0);
	pid = inspect(t).pid;
	close_runtime();
	CHECK_INT(kill(pid, SIGKILL), 0);
	while (kill(pid, 0) == 0)
		pass(10 * MSEC);
	open_runtime();
	adopt(false);
	CHECK(t->found);
	CHECK_INT(t->adopted.state, DAVIT_STATE_STOPPED);
	CHECK_INT(t->adopted.exit.kind, DAVIT_EXIT_SIGNAL);
	CHECK_INT(t->adopted.exit.signal, SIGKILL);
	pass(100 * MSEC);
	CHECK_INT(t->runs_told, 0);
}

static void what_is_not_wanted_is_left_alone(void)
{
	struct thing *t;
	pid_t pid;

	need(DAVIT_CAP_SURVIVE);
	t = running(RUNS, 0);
	pid = inspect(t).pid;
	reopen(true);
	CHECK(t->found);
	reopen(false);
	CHECK(t->found);
	CHECK_INT(t->adopted.state, DAVIT_STATE_STARTED);
	CHECK_INT(t->adopted.pid, pid);
}

static void what_does_not_survive_is_gone(void)
{
	struct thing *t = running(RUNS, 0);

	if (davit_can(harness_capabilities(), DAVIT_CAP_SURVIVE))
		skip("its instances survive");
	reopen(false);
	CHECK(!t->found);
	CHECK_INT(inspect(t).state, DAVIT_STATE_DESTROYED);
}

const struct test adopt_tests[] = {
	{"operations under way at close end as closed", a_close_ends_operations_as_closed},
	{"a close ends removals under way as closed", a_close_ends_removals_as_closed},
	{"what survives a close is found with its label, state, run, pid and exit", survivors_are_found},
	{"an end while the daemon was away is found with its status, and not told again",
	 an_end_that_nobody_saw_is_found},
	{"what the core does not want is left alone and found again", what_is_not_wanted_is_left_alone},
	{"what does not survive a close is gone after", what_does_not_survive_is_gone},
	{0},
};
