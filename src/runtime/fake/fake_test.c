/* SPDX-License-Identifier: MIT
 *
 * The life of instances, and the rules that a strict world keeps.
 */
#include "base/strv.h"
#include "runtime/fake/test_rig.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

static void the_table_is_whole(void **state)
{
	assert_int_equal(davit_runtime_driver_validate(&davit_fake_driver, NULL), 0);
}

static void a_run_ends_when_its_script_says(void **state)
{
	struct davit_instance *inst = running(0, "run|5s|exit|3|never-ready");

	run_for(4 * SEC);
	assert_int_equal(inspect(inst).state, DAVIT_STATE_STARTED);
	rig->told[0] = '\0';
	run_for(SEC);
	assert_string_equal(rig->told, "exited 1 code 3;");
	assert_int_equal(inspect(inst).exit.code, 3);
}

static void signals_and_oom_come_as_themselves(void **state)
{
	running(0, "signal|9|after|3s|never-ready");
	run_for(3 * SEC);
	assert_string_equal(rig->told, "exited 1 signal 9;");
	running(1, "oom|after|1s|never-ready");
	run_for(SEC);
	assert_string_equal(rig->told, "exited 1 oom 9;");
}

static void readiness_and_status_come_in_their_time(void **state)
{
	running(0, "ready-after|1s|status|warming up|after|500ms");
	run_for(SEC);
	assert_string_equal(rig->told, "status warming up;ready;");
}

static void a_stop_ends_it_by_the_signal_and_completes_after(void **state)
{
	struct davit_instance *inst = running(0, "stop-delay|1s|never-ready");
	int64_t at = davit_loop_now(rig->loop);

	assert_int_equal(stop(inst, 10 * SEC), 0);
	assert_string_equal(rig->told, "exited 1 signal 15;done ok;");
	assert_int_equal(davit_loop_now(rig->loop) - at, SEC);
}

static void one_that_ignores_the_stop_is_killed_after_the_grace(void **state)
{
	struct davit_instance *inst = running(0, "ignore-stop|never-ready");
	int64_t at = davit_loop_now(rig->loop);

	assert_int_equal(stop(inst, 10 * SEC), 0);
	assert_string_equal(rig->told, "exited 1 signal 9;done ok;");
	assert_int_equal(davit_loop_now(rig->loop) - at, 10 * SEC);
}

static void a_cancelled_stop_kills_at_once(void **state)
{
	struct davit_instance *inst = running(0, "ignore-stop|never-ready");

	rig->rt->driver->stop(inst, &(struct davit_stop){SIGTERM, 100 * SEC}, begin(2 * SEC));
	assert_int_equal(finish(), 0);
	assert_string_equal(rig->told, "exited 1 signal 9;done ok;");
	assert_int_equal(davit_loop_now(rig->loop), 2 * SEC);
}

static void operations_fail_as_often_as_they_are_told_to(void **state)
{
	struct davit_instance *inst = make(0, "fail-create|2|fail-start|1|fail-remove|1|never-ready");

	assert_int_equal(create(inst), DAVIT_EUNAVAIL);
	assert_int_equal(create(inst), DAVIT_EUNAVAIL);
	assert_int_equal(create(inst), 0);
	assert_int_equal(start(inst), DAVIT_EUNAVAIL);
	assert_int_equal(start(inst), 0);
	assert_int_equal(stop(inst, SEC), 0);
	assert_int_equal(remove_(inst), DAVIT_EUNAVAIL);
	assert_int_equal(remove_(inst), 0);
	inst = make(1, "fail-exec|never-ready");
	assert_int_equal(create(inst), 0);
	assert_int_equal(start(inst), DAVIT_EEXEC);
	assert_int_equal(inspect(inst).run, 0);
}

static void a_deadline_undoes_an_operation_that_takes_too_long(void **state)
{
	struct davit_instance *inst = make(0, "create-delay|1m");

	rig->rt->driver->create(inst, begin(SEC));
	assert_int_equal(finish(), DAVIT_ETIMEDOUT);
	assert_int_equal(davit_fake_world_objects(rig->world), 0);
	assert_int_equal(inspect(inst).state, DAVIT_STATE_DESTROYED);
}

static void a_vanished_object_is_told_and_is_gone(void **state)
{
	struct davit_instance *inst = running(0, "vanish|after|2s|never-ready");

	run_for(2 * SEC);
	assert_string_equal(rig->told, "vanished;");
	assert_int_equal(inspect(inst).state, DAVIT_STATE_DESTROYED);
	assert_int_equal(stop(inst, 0), 0);
	assert_int_equal(remove_(inst), 0);
	assert_int_equal(start(inst), DAVIT_ESTATE);
}

static void a_liar_passes_for_running_until_its_exit_is_told(void **state)
{
	struct davit_instance *inst = running(0, "run|1s|lie|3s|never-ready");

	run_for(2 * SEC);
	assert_int_equal(davit_fake_world_running(rig->world), 0);
	assert_int_equal(inspect(inst).state, DAVIT_STATE_STARTED);
	rig->told[0] = '\0';
	run_for(3 * SEC);
	assert_string_equal(rig->told, "exited 1 code 0;");
}

static void a_liar_that_is_stopped_tells_first(void **state)
{
	struct davit_instance *inst = running(0, "run|1s|lie|1h|never-ready");

	run_for(2 * SEC);
	assert_int_equal(stop(inst, SEC), 0);
	assert_string_equal(rig->told, "exited 1 code 0;done ok;");
}

static void what_survives_a_close_is_found_with_run_and_pid(void **state)
{
	struct davit_instance *inst = running(0, "run|10s|exit|4|never-ready");
	pid_t pid = inspect(inst).pid;

	reopen_and_adopt();
	assert_string_equal(rig->told, "done ok;found label;done ok;");
	assert_int_equal(rig->found[0].state, DAVIT_STATE_STARTED);
	assert_int_equal(rig->found[0].run, 1);
	assert_int_equal(rig->found[0].pid, pid);
	rig->told[0] = '\0';
	run_for(10 * SEC);
	assert_string_equal(rig->told, "exited 1 code 4;");
}

static void an_end_while_nobody_looked_is_found_and_not_told_again(void **state)
{
	running(0, "run|10s|exit|4|never-ready");
	close_runtime();
	run_for(20 * SEC);
	rig->rt = NULL;
	open_runtime();
	rig->inst[0]->runtime = rig->rt;
	rig->told[0] = '\0';
	rig->rt->driver->adopt(rig->rt, begin(0));
	assert_int_equal(finish(), 0);
	assert_int_equal(rig->found[0].state, DAVIT_STATE_STOPPED);
	assert_int_equal(rig->found[0].exit.code, 4);
	run_for(SEC);
	assert_string_equal(rig->told, "found label;done ok;");
}

static void an_operation_under_way_at_close_ends_as_closed(void **state)
{
	struct davit_instance *inst = make(0, "create-delay|10s");

	rig->rt->driver->create(inst, begin(0));
	close_runtime();
	assert_int_equal(finish(), DAVIT_ECLOSED);
	assert_int_equal(davit_fake_world_objects(rig->world), 1);
}

static void a_platform_that_is_lost_tells_what_was_missed_when_it_is_back(void **state)
{
	struct davit_instance *inst = running(0, "run|5s|never-ready");

	davit_fake_world_set_reachable(rig->world, false);
	run_for(10 * SEC);
	assert_string_equal(rig->told, "lost;");
	rig->rt->driver->stop(inst, &(struct davit_stop){SIGTERM, SEC}, begin(0));
	run_for(SEC);
	assert_true(davit_op_pending(&rig->op));
	davit_fake_world_set_reachable(rig->world, true);
	assert_int_equal(finish(), 0);
	assert_string_equal(rig->told, "lost;exited 1 code 0;regained;done ok;");
}

static void words_that_are_not_known_are_refused_at_create(void **state)
{
	static const char *const bad[] = {"runn|5s",	       "run",	"run|x",	 "signal|9",
					  "signal|0|after|1s", "log",	"log|x|count|0", "oom|after",
					  "exit|256",	       "status"};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(bad); i++) {
		struct davit_instance *inst = make(0, bad[i]);
		assert_int_equal(create(inst), DAVIT_EINVAL);
		assert_true(*rig->op.error.message);
		assert_int_equal(davit_fake_world_objects(rig->world), 0);
		davit_strv_free(rig->argv[0]);
		davit_strv_free(rig->env[0]);
		rig->argv[0] = rig->env[0] = NULL;
		free(inst);
		rig->inst[0] = NULL;
	}
}

static void words_may_come_by_the_environment(void **state)
{
	struct davit_instance *inst = make(0, "never-ready");

	davit_strv_add(&rig->env[0], "DAVIT_FAKE=run 1s exit 7");
	rig->workload[0].env = rig->env[0];
	assert_int_equal(create(inst), 0);
	assert_int_equal(start(inst), 0);
	run_for(SEC);
	assert_int_equal(rig->exit.code, 7);
}

/* --- rules --- */

static void start_it_twice(struct davit_instance *inst)
{
	rig->rt->driver->start(inst, begin(0));
}

static void stop_while_starting(struct davit_instance *inst)
{
	struct davit_op other;

	rig->rt->driver->stop(inst, &(struct davit_stop){SIGTERM, 0}, begin(0));
	finish();
	rig->rt->driver->start(inst, begin(0));
	davit_op_init(&other, rig->loop, rig_done, NULL);
	davit_op_begin(&other, 0);
	rig->rt->driver->stop(inst, &(struct davit_stop){SIGTERM, 0}, &other);
}

static void a_strict_world_aborts_when_a_rule_is_broken(void **state)
{
	static void (*const breaks[])(struct davit_instance *) = {start_it_twice, stop_while_starting};
	struct davit_instance *inst = running(0, "never-ready|start-delay|1s");

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(breaks); i++) {
		int status;
		pid_t pid = fork();
		if (pid == 0) {
			signal(SIGABRT, SIG_DFL);
			fclose(stderr);
			breaks[i](inst);
			_exit(0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	}
}

static void a_lenient_world_refuses_instead(void **state)
{
	struct davit_instance *inst = running(0, "never-ready|start-delay|1s");
	struct davit_op other;

	davit_fake_world_set_strict(rig->world, false);
	assert_int_equal(start(inst), 0);
	assert_int_equal(inspect(inst).run, 1);
	assert_int_equal(stop(inst, SEC), 0);
	davit_op_init(&other, rig->loop, rig_done, NULL);
	davit_op_begin(&other, 0);
	rig->rt->driver->start(inst, &other);
	assert_int_equal(stop(inst, SEC), DAVIT_ESTATE);
	while (davit_op_pending(&other))
		davit_loop_step(rig->loop);
	assert_int_equal(inspect(inst).state, DAVIT_STATE_STARTED);
}

static void count_event(void *user, const struct davit_fake_event *event)
{
	((int *)user)[event->what]++;
}

static void the_record_has_every_change_once(void **state)
{
	int seen[8] = {0};
	struct davit_instance *inst;

	davit_fake_world_observe(rig->world, count_event, seen);
	inst = running(0, "run|1s|never-ready");
	run_for(SEC);
	assert_int_equal(start(inst), 0);
	assert_int_equal(stop(inst, SEC), 0);
	assert_int_equal(remove_(inst), 0);
	assert_int_equal(seen[DAVIT_FAKE_CREATED], 1);
	assert_int_equal(seen[DAVIT_FAKE_STARTED], 2);
	assert_int_equal(seen[DAVIT_FAKE_EXITED], 2);
	assert_int_equal(seen[DAVIT_FAKE_REMOVED], 1);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
	const struct CMUnitTest tests[] = {
		T(the_table_is_whole),
		T(a_run_ends_when_its_script_says),
		T(signals_and_oom_come_as_themselves),
		T(readiness_and_status_come_in_their_time),
		T(a_stop_ends_it_by_the_signal_and_completes_after),
		T(one_that_ignores_the_stop_is_killed_after_the_grace),
		T(a_cancelled_stop_kills_at_once),
		T(operations_fail_as_often_as_they_are_told_to),
		T(a_deadline_undoes_an_operation_that_takes_too_long),
		T(a_vanished_object_is_told_and_is_gone),
		T(a_liar_passes_for_running_until_its_exit_is_told),
		T(a_liar_that_is_stopped_tells_first),
		T(what_survives_a_close_is_found_with_run_and_pid),
		T(an_end_while_nobody_looked_is_found_and_not_told_again),
		T(an_operation_under_way_at_close_ends_as_closed),
		T(a_platform_that_is_lost_tells_what_was_missed_when_it_is_back),
		T(words_that_are_not_known_are_refused_at_create),
		T(words_may_come_by_the_environment),
		T(a_strict_world_aborts_when_a_rule_is_broken),
		T(a_lenient_world_refuses_instead),
		T(the_record_has_every_change_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
