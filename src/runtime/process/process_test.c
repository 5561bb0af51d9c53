/* SPDX-License-Identifier: MIT
 *
 * The life of instances: the driver on a real loop, a real keeper, real processes.
 */
#include "runtime/process/testing.h"

#include "base/units.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static void an_instance_is_created_started_stopped_and_removed(void **state)
{
	struct world *w = *state;
	struct guest *g = world_guest(w, "exec sleep 60");
	struct davit_inspection in;
	pid_t pid;

	assert_int_equal(guest_inspect(g).state, DAVIT_STATE_DESTROYED);
	assert_int_equal(guest_create(g), 0);
	assert_int_equal(guest_create(g), 0);
	assert_int_equal(guest_inspect(g).state, DAVIT_STATE_CREATED);
	assert_int_equal(guest_start(g), 0);
	in = guest_inspect(g);
	assert_int_equal(in.state, DAVIT_STATE_STARTED);
	assert_int_equal(in.run, 1);
	assert_true(in.started > 0);
	pid = in.pid;
	assert_true(alive(pid));
	assert_int_equal(guest_remove(g), DAVIT_ESTATE);
	assert_int_equal(guest_stop(g, 5000), 0);
	assert_false(alive(pid));
	assert_int_equal(g->exits, 1);
	assert_int_equal(g->exit.kind, DAVIT_EXIT_SIGNAL);
	assert_int_equal(g->exit.signal, SIGTERM);
	assert_int_equal(guest_inspect(g).state, DAVIT_STATE_STOPPED);
	assert_int_equal(guest_stop(g, 5000), 0);
	assert_int_equal(guest_remove(g), 0);
	assert_int_equal(guest_remove(g), 0);
	assert_int_equal(guest_inspect(g).state, DAVIT_STATE_DESTROYED);
	assert_int_equal(guest_start(g), DAVIT_ESTATE);
	/* Made anew it is a new one, that counts from the beginning. */
	g->exit_run = 0;
	assert_int_equal(guest_inspect(g).run, 0);
	assert_int_equal(guest_create(g), 0);
	assert_int_equal(guest_start(g), 0);
	assert_int_equal(guest_start(g), 0);
	assert_int_equal(guest_inspect(g).run, 1);
	assert_int_equal(guest_create(g), DAVIT_ESTATE);
	assert_int_equal(guest_stop(g, 5000), 0);
	assert_int_equal(g->exits, 2);
	assert_int_equal(g->exit_run, 1);
}

static void each_run_tells_its_end_once_with_its_number(void **state)
{
	struct world *w = *state;
	struct guest *g = world_guest(w, "echo run; exit 7");

	assert_int_equal(guest_create(g), 0);
	for (uint32_t run = 1; run <= 3; run++) {
		assert_int_equal(guest_start(g), 0);
		WAIT_FOR(w, g->exits == run);
		assert_int_equal(g->exit_run, run);
		assert_int_equal(g->exit.kind, DAVIT_EXIT_CODE);
		assert_int_equal(g->exit.code, 7);
	}
	turn(w, 50);
	assert_int_equal(g->exits, 3);
	DAVIT_AUTO_FREE char *log = guest_log(g, -1);
	assert_string_equal(log, "stdout run\nstdout run\nstdout run\n");
}

static void a_stop_behind_a_run_ends_what_it_left_or_finds_nothing(void **state)
{
	struct world *w = *state;
	struct guest *g = world_guest(w, "exit 3");
	struct guest *h = world_guest(w, "setsid sleep 66 & echo $! > \"$0\"");
	char path[128];

	snprintf(path, sizeof path, "%s/left", w->dir);
	h->argv[3] = path;
	guest_run(g);
	guest_run(h);
	WAIT_FOR(w, g->exits == 1 && h->exits == 1 && number_in(path) > 0);
	assert_int_equal(guest_stop(g, 1000), 0);
	assert_true(alive((pid_t)number_in(path)));
	assert_int_equal(guest_stop(h, 1000), 0);
	assert_false(alive((pid_t)number_in(path)));
	assert_int_equal(guest_start(g), 0);
	WAIT_FOR(w, g->exits == 2);
	assert_int_equal(guest_stop(g, 1000), 0);
	assert_int_equal(guest_remove(g), 0);
}

static void a_program_that_is_not_there_is_named(void **state)
{
	struct world *w = *state;
	struct guest *g = world_guest(w, "");

	g->argv[0] = (char *)(uintptr_t) "no-such-program";
	assert_int_equal(guest_create(g), 0);
	assert_int_equal(guest_start(g), DAVIT_EEXEC);
	assert_string_equal(last_error.message, "executable 'no-such-program' not found in PATH");
	g->argv[0] = (char *)(uintptr_t) "/no/such/program";
	assert_int_equal(guest_start(g), DAVIT_EEXEC);
	assert_non_null(strstr(last_error.message, "/no/such/program"));
	turn(w, 20);
	assert_int_equal(g->exits, 0);
	assert_int_equal(guest_inspect(g).run, 0);
	g->argv[0] = (char *)(uintptr_t) "true";
	assert_int_equal(guest_start(g), 0);
	WAIT_FOR(w, g->exits == 1);
	assert_int_equal(g->exit_run, 1);
}

static void a_stop_goes_on_until_every_descendant_is_gone(void **state)
{
	struct world *w = *state;
	/* Ignores TERM, and so do a grandchild and a daemon in a session of its own. */
	char script[512], path[128];
	struct guest *g;
	long daemon, child;

	snprintf(
		script, sizeof script,
		"trap '' TERM; (trap '' TERM; sleep 61 & echo $! > %s/child; wait) & "
		"setsid sh -c 'trap \"\" TERM; echo $$ > %s/daemon; sleep 62; sleep 63' & sleep 64; sleep 65",
		w->dir, w->dir);
	g = world_guest(w, script);
	guest_run(g);
	snprintf(path, sizeof path, "%s/child", w->dir);
	WAIT_FOR(w, number_in(path) > 0);
	child = number_in(path);
	snprintf(path, sizeof path, "%s/daemon", w->dir);
	WAIT_FOR(w, number_in(path) > 0);
	daemon = number_in(path);
	assert_true(alive((pid_t)daemon) && alive((pid_t)child));
	int64_t before = davit_loop_now(w->loop);
	assert_int_equal(guest_stop(g, 300), 0);
	assert_true(davit_loop_now(w->loop) - before >= 290 * DAVIT_NSEC_PER_MSEC);
	assert_true(davit_loop_now(w->loop) - before < PATIENCE * DAVIT_NSEC_PER_MSEC);
	assert_false(alive((pid_t)daemon) || alive((pid_t)child));
	assert_int_equal(g->exits, 1);
	assert_int_equal(g->exit.signal, SIGKILL);
}

static void a_daemon_whose_parent_ended_is_stopped_too(void **state)
{
	struct world *w = *state;
	char script[256], path[128];
	struct guest *g;

	snprintf(script, sizeof script, "setsid sh -c 'echo $$ > %s/daemon; exec sleep 62' & exit 0", w->dir);
	g = world_guest(w, script);
	guest_run(g);
	WAIT_FOR(w, g->exits == 1);
	snprintf(path, sizeof path, "%s/daemon", w->dir);
	WAIT_FOR(w, number_in(path) > 0);
	assert_true(alive((pid_t)number_in(path)));
	assert_int_equal(guest_stop(g, 1000), 0);
	assert_false(alive((pid_t)number_in(path)));
}

static void stop_done(struct davit_op *op, int result)
{
	*(int *)op->user = result + 1;
}

static void a_cancelled_stop_kills_at_once(void **state)
{
	struct world *w = *state;
	struct guest *g = world_guest(w, "trap '' TERM; echo up; sleep 60; sleep 60");
	struct davit_stop how = {.signal = SIGTERM, .grace_ns = 600 * DAVIT_NSEC_PER_SEC};
	DAVIT_AUTO_FREE char *log = NULL;
	struct davit_op op;
	int done = 0;

	guest_run(g);
	WAIT_FOR(w, (free(log), log = guest_log(g, -1), strstr(log, "up\n")));
	davit_op_init(&op, w->loop, stop_done, &done);
	davit_op_begin(&op, 0);
	davit_process_driver.stop(g->inst, &how, &op);
	turn(w, 100);
	assert_int_equal(done, 0);
	davit_op_cancel(&op);
	WAIT_FOR(w, done == 1);
	assert_int_equal(g->exit.signal, SIGKILL);
}

static void a_closed_runtime_leaves_instances_running_and_adopts_them(void **state)
{
	struct world *w = *state;
	struct guest *g = world_guest(w, "exec sleep 60"), *short_ = world_guest(w, "sleep 1; exit 3");
	pid_t pid, ends;

	guest_run(g);
	guest_run(short_);
	pid = guest_inspect(g).pid;
	ends = guest_inspect(short_).pid;
	world_close(w);
	WAIT_FOR(w, kill(ends, 0) < 0); /* reaped */
	assert_true(alive(pid));
	world_open(w);
	assert_int_equal(g->found.state, DAVIT_STATE_STARTED);
	assert_int_equal(g->found.pid, pid);
	assert_int_equal(g->found.run, 1);
	/* What ended meanwhile was told by `found`, and is not told again. */
	assert_int_equal(short_->found.state, DAVIT_STATE_STOPPED);
	assert_int_equal(short_->found.exit.code, 3);
	turn(w, 50);
	assert_int_equal(short_->exits, 0);
	assert_int_equal(guest_stop(g, 5000), 0);
	assert_int_equal(g->exits, 1);
	assert_int_equal(guest_start(short_), 0);
	WAIT_FOR(w, short_->exits == 1);
	assert_int_equal(short_->exit_run, 2);
}

static void a_killed_keeper_is_replaced_and_what_it_missed_is_told(void **state)
{
	struct world *w = *state;
	struct guest *g = world_guest(w, "exec sleep 60"), *dies = world_guest(w, "exec sleep 61");
	pid_t pid, old = w->keeper;

	guest_run(g);
	guest_run(dies);
	pid = guest_inspect(g).pid;
	kill(w->keeper, SIGKILL);
	kill(guest_inspect(dies).pid, SIGKILL);
	WAIT_FOR(w, w->regained == 1);
	assert_int_equal(w->lost, 1);
	w->keeper = local_runtime_of(w->rt)->keepers[0]->client.pid;
	assert_int_not_equal(w->keeper, old);
	assert_int_equal(guest_inspect(g).pid, pid);
	assert_true(alive(pid));
	WAIT_FOR(w, dies->exits == 1);
	assert_int_equal(g->exits, 0);
	assert_int_equal(guest_stop(g, 5000), 0);
	assert_false(alive(pid));
	assert_int_equal(g->exits, 1);
	assert_int_equal(guest_start(g), 0);
	assert_int_equal(guest_inspect(g).run, 2);
}

static void operations_wait_for_a_keeper_that_comes_back(void **state)
{
	struct world *w = *state;
	struct guest *g = world_guest(w, "exec sleep 60"), *more = world_guest(w, "exec sleep 61");

	guest_run(g);
	kill(w->keeper, SIGKILL);
	/* Sent into the void, or not sent at all: done when the keeper is back. */
	assert_int_equal(guest_stop(g, 1000), 0);
	assert_int_equal(g->exits, 1);
	w->keeper = local_runtime_of(w->rt)->keepers[0]->client.pid;
	kill(w->keeper, SIGKILL);
	assert_int_equal(guest_create(more), 0);
	assert_int_equal(guest_start(more), 0);
	w->keeper = local_runtime_of(w->rt)->keepers[0]->client.pid;
	assert_true(alive(guest_inspect(more).pid));
	assert_int_equal(guest_inspect(more).run, 1);
}

static void an_instance_whose_slot_is_lost_vanishes_and_leaves_nothing(void **state)
{
	struct world *w = *state;
	struct guest *g = world_guest(w, "exec sleep 60");
	char path[128];
	pid_t pid;

	guest_run(g);
	pid = guest_inspect(g).pid;
	snprintf(path, sizeof path, "%s/keeper-0.slots", w->run);
	assert_int_equal(unlink(path), 0);
	kill(w->keeper, SIGKILL);
	WAIT_FOR(w, g->vanished == 1);
	w->keeper = local_runtime_of(w->rt)->keepers[0]->client.pid;
	assert_int_equal(g->exits, 0);
	assert_int_equal(guest_inspect(g).state, DAVIT_STATE_DESTROYED);
	assert_int_equal(guest_start(g), DAVIT_ESTATE);
	if (local_runtime_of(w->rt)->cgroups.track)
		WAIT_FOR(w, !alive(pid));
	else
		kill(pid, SIGKILL);
	assert_int_equal(guest_remove(g), 0);
}

static void a_full_keeper_is_joined_by_another(void **state)
{
	struct world *w = *state;
	struct local_runtime *p = local_runtime_of(w->rt);
	struct guest *a = world_guest(w, "exec sleep 60"), *b = world_guest(w, "exec sleep 61");
	pid_t second;

	p->keepers[0]->client.slots_max = 1;
	guest_run(a);
	guest_run(b);
	assert_int_equal(p->n_keepers, 2);
	second = p->keepers[1]->client.pid;
	assert_int_not_equal(second, w->keeper);
	world_close(w);
	/* Both are taken up again. */
	world_open(w);
	p = local_runtime_of(w->rt);
	assert_int_equal(p->n_keepers, 2);
	assert_int_equal(a->found.state, DAVIT_STATE_STARTED);
	assert_int_equal(b->found.state, DAVIT_STATE_STARTED);
	assert_int_equal(guest_stop(b, 1000), 0);
	assert_int_equal(guest_remove(b), 0);
	world_close(w);
	WAIT_FOR(w, !alive(second));
	world_open(w);
	assert_int_equal(local_runtime_of(w->rt)->n_keepers, 1);
}

static void a_large_environment_reaches_the_workload(void **state)
{
	struct world *w = *state;
	struct guest *g = world_guest(w, "printenv | grep -c ^BIG; printf %s \"$BIG7\" | wc -c");
	char *env[22] = {(char[]){"PATH=/usr/bin:/bin"}};

	for (int i = 0; i < 20; i++) {
		assert_true(asprintf(&env[i + 1], "BIG%d=%0100000d", i, 0) > 0);
	}
	g->w.env = env;
	guest_run(g);
	WAIT_FOR(w, g->exits == 1);
	DAVIT_AUTO_FREE char *log = guest_log(g, -1);
	assert_string_equal(log, "stdout 20\nstdout 100000\n");
	for (int i = 0; i < 20; i++)
		free(env[i + 1]);
}

static void readiness_and_status_are_told(void **state)
{
	struct world *w = *state;
	struct guest *g = world_guest(w, "sleep 0.05; echo >&5; exec sleep 60");

	g->w.ready = DAVIT_READY_FD;
	g->w.ready_fd = 5;
	guest_run(g);
	assert_false(guest_inspect(g).ready);
	WAIT_FOR(w, g->readies == 1);
	assert_true(guest_inspect(g).ready);
}

static void signals_reach_the_main_process_only_while_it_runs(void **state)
{
	struct world *w = *state;
	struct guest *g = world_guest(w, "trap 'exit 9' USR1; echo up; while :; do sleep 0.02; done");
	DAVIT_AUTO_FREE char *log = NULL;

	assert_int_equal(guest_create(g), 0);
	assert_int_equal(guest_signal(g, SIGUSR1), DAVIT_ESTATE);
	assert_int_equal(guest_start(g), 0);
	WAIT_FOR(w, (free(log), log = guest_log(g, -1), strstr(log, "up\n"))); /* the trap is set */
	assert_int_equal(guest_signal(g, SIGUSR1), 0);
	WAIT_FOR(w, g->exits == 1);
	assert_int_equal(g->exit.code, 9);
	assert_int_equal(guest_signal(g, SIGUSR1), DAVIT_ESTATE);
}

static void what_this_runtime_cannot_do_is_refused_with_the_reason(void **state)
{
	struct world *w = *state;
	struct guest *g = world_guest(w, "true");
	struct davit_mount m = {.source = (char *)(uintptr_t) "/tmp", .target = (char *)(uintptr_t) "/data"};
	struct davit_port port = {.host = 8080, .container = 80};

	g->w.image = (char *)(uintptr_t) "busybox";
	assert_int_equal(guest_create(g), DAVIT_ENOTSUP);
	g->w.image = NULL;
	g->w.mounts = &m;
	g->w.n_mounts = 1;
	assert_int_equal(guest_create(g), DAVIT_ENOTSUP);
	assert_non_null(strstr(last_error.message, "/data"));
	m.target = m.source;
	m.read_only = true;
	assert_int_equal(guest_create(g), DAVIT_ENOTSUP);
	g->w.n_mounts = 0;
	g->w.ports = &port;
	g->w.n_ports = 1;
	assert_int_equal(guest_create(g), DAVIT_ENOTSUP);
	assert_string_equal(last_error.message,
			    "container port 80 cannot differ from host port 8080 on runtime process");
	g->w.n_ports = 0;
	g->w.disk = 1;
	assert_int_equal(guest_create(g), DAVIT_ENOTSUP);
	g->w.disk = 0;
	g->w.user = (char *)(uintptr_t) "no-such-user";
	assert_int_equal(guest_create(g), DAVIT_ENOENT);
	g->w.user = NULL;
	assert_int_equal(guest_create(g), 0);
}

static void a_foreign_process_in_a_forged_record_is_never_signalled(void **state)
{
	struct world *w = *state;
	struct guest *g = world_guest(w, "exec sleep 60");
	struct local_instance *pi;
	pid_t foreign = fork();

	if (!foreign) {
		pause();
		_exit(0);
	}
	guest_run(g);
	pi = local_instance_of(g->inst);
	pid_t pid = pi->pid;
	pi->pid = foreign; /* a driver that is mistaken about the pid */
	assert_int_equal(guest_signal(g, SIGKILL), 0);
	WAIT_FOR(w, g->exits == 1);
	assert_false(alive(pid));
	assert_int_equal(guest_stop(g, 0), 0);
	assert_true(alive(foreign));
	kill(foreign, SIGKILL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_instance_is_created_started_stopped_and_removed),
		TEST(each_run_tells_its_end_once_with_its_number),
		TEST(a_stop_behind_a_run_ends_what_it_left_or_finds_nothing),
		TEST(a_program_that_is_not_there_is_named),
		TEST(a_stop_goes_on_until_every_descendant_is_gone),
		TEST(a_daemon_whose_parent_ended_is_stopped_too),
		TEST(a_cancelled_stop_kills_at_once),
		TEST(a_closed_runtime_leaves_instances_running_and_adopts_them),
		TEST(a_killed_keeper_is_replaced_and_what_it_missed_is_told),
		TEST(operations_wait_for_a_keeper_that_comes_back),
		TEST(an_instance_whose_slot_is_lost_vanishes_and_leaves_nothing),
		TEST(a_full_keeper_is_joined_by_another),
		TEST(a_large_environment_reaches_the_workload),
		TEST(readiness_and_status_are_told),
		TEST(signals_reach_the_main_process_only_while_it_runs),
		TEST(what_this_runtime_cannot_do_is_refused_with_the_reason),
		TEST(a_foreign_process_in_a_forged_record_is_never_signalled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
