/* SPDX-License-Identifier: MIT
 *
 * Workloads that are started by a program which ends: small scripts as launchers.
 */
#include "keeper/testing.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

/* Detaches `script` as a workload in a session of its own, as crun does. A shell may
 * wait for what has ended before the shell itself: it must not be that fast. */
#define DETACH(script) "setsid sh -c '" script "' & echo $! > $PIDFILE; "

/* Part of a launcher: it waits here until go(), and held() for it. */
#define HOLD "echo $$ > $PIDFILE.held; while [ ! -e $PIDFILE.go ]; do sleep 0.02; done; "

static void go(struct client *c, const char *id)
{
	char path[128];

	snprintf(path, sizeof path, "%s/%s.pid.go", c->dir, id);
	assert_int_equal(mkdir(path, 0700), 0);
}

/* The pid in the file of an instance with this suffix, once it is there. */
static pid_t written_pid(struct client *c, const char *id, const char *suffix)
{
	DAVIT_AUTO_FREE char *text = NULL;
	char path[128];

	snprintf(path, sizeof path, "%s/%s.pid%s", c->dir, id, suffix);
	WAIT_FOR((free(text), text = slurp(path)) && strchr(text, '\n'));
	return atoi(text);
}

static void held(struct client *c, const char *id)
{
	written_pid(c, id, ".held");
}

static uint64_t launch(struct client *c, const char *id, uint32_t run, const char *script, int limit_ms)
{
	return client_launch(c, id, run, ARGV("/bin/sh", "-c", script), limit_ms, 0);
}

static pid_t started(struct client *c, const char *id)
{
	struct packet p;

	return client_inspect(c, id, &p) && p.u.instance.state == KEEPER_SLOT_RUNNING ? p.u.instance.pid : 0;
}

static void the_process_of_the_pid_file_becomes_the_main_process(void **state)
{
	struct client *c = *state;
	DAVIT_AUTO_FREE char *log = NULL;
	pid_t pid;

	assert_int_equal(client_create(c, ID(01), NULL), 0);
	pid = client_spawned(
		c, launch(c, ID(01), 1,
			  "echo launching; " DETACH(
				  "echo works; read x < /dev/null; exec sleep 1000") "echo launched >&2",
			  0));
	assert_true(pid > 0);
	assert_true(alive(pid));
	assert_int_equal(started(c, ID(01)), pid);
	WAIT_FOR((free(log), log = client_log(c, ID(01)), strstr(log, "stdout works\n")));
	assert_non_null(strstr(log, "stdout launching\n"));
	assert_non_null(strstr(log, "stderr launched\n"));
	assert_int_equal(client_signal(c, ID(01), SIGUSR1, 0, 0), 0);
	assert_int_equal(client_exit(c, ID(01), 1).signal, SIGUSR1);
	/* And once more. */
	pid = client_spawned(c, launch(c, ID(01), 2, DETACH("sleep 0.5; exit 7"), 0));
	assert_true(pid > 0);
	assert_int_equal(client_exit(c, ID(01), 2).code, 7);
}

static void a_stop_ends_what_was_launched(void **state)
{
	struct client *c = *state;
	pid_t pid;

	assert_int_equal(client_create(c, ID(01), NULL), 0);
	pid = client_spawned(c, launch(c, ID(01), 1, DETACH("sleep 1000 & exec sleep 1000"), 0));
	assert_true(pid > 0);
	assert_int_equal(client_stop(c, ID(01), SIGTERM, 300), 0);
	assert_int_equal(client_exit(c, ID(01), 1).signal, SIGTERM);
	assert_false(alive(pid));
}

static void the_exit_of_a_workload_that_is_faster_than_its_launcher_is_known(void **state)
{
	struct client *c = *state;

	assert_int_equal(client_create(c, ID(01), NULL), 0);
	for (uint32_t run = 1; run <= 3; run++) {
		/* The workload is the keeper's child when the subshell has ended, and ends
		 * before the launcher; strange children that do so must not disturb. */
		int pid = client_spawned(
			c, launch(c, ID(01), run,
				  "(true & true &) ; ( " DETACH("sleep 0.3; exit 42") "); sleep 0.8", 0));
		if (pid < 0)
			fail_msg("%s", c->message);
		struct keeper_exit e = client_exit(c, ID(01), run);
		assert_int_equal(e.kind, DAVIT_EXIT_CODE);
		assert_int_equal(e.code, 42);
	}
}

static size_t zombies(pid_t of)
{
	char path[64], command[160];

	snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)of, (int)of);
	snprintf(command, sizeof command,
		 "for p in $(cat %s); do cut -d' ' -f3 /proc/$p/stat; done | grep -c Z", path);
	FILE *f = popen(command, "re");
	size_t n = 0;
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%zu", &n), 1);
	pclose(f);
	return n;
}

static void orphans_are_reaped_during_a_launch_when_they_are_older_and_after_it_otherwise(void **state)
{
	struct client *c = *state;
	char script[200];
	pid_t older, own;
	uint64_t tag;

	/* Older than the launch. */
	snprintf(script, sizeof script, "(sleep 0.5 & echo $! >%s/" ID(02) ".pid) ; exec sleep 1000", c->dir);
	client_shell(c, ID(02), script);
	older = written_pid(c, ID(02), "");
	/* By the kernel's ticks, which are 10 ms: one of the same tick may be the launch's. */
	nanosleep(&(struct timespec){.tv_nsec = 30 * 1000 * 1000}, NULL);
	assert_int_equal(client_create(c, ID(01), NULL), 0);
	tag = launch(c, ID(01), 1, "(sleep 0.1 & echo $! > $PIDFILE.own) ; " HOLD DETACH("exec sleep 1000"),
		     0);
	own = written_pid(c, ID(01), ".own");
	WAIT_FOR(kill(older, 0) < 0);
	WAIT_FOR(!alive(own) && zombies(c->keeper) == 1); /* the launch's own */
	go(c, ID(01));
	assert_true(client_spawned(c, tag) > 0);
	WAIT_FOR(zombies(c->keeper) == 0);
}

static void a_launcher_that_fails_is_quoted_and_the_run_does_not_count(void **state)
{
	struct client *c = *state;
	struct packet p;

	assert_int_equal(client_create(c, ID(01), NULL), 0);
	assert_int_equal(
		client_spawned(c, launch(c, ID(01), 1,
					 "echo no; echo 'crun: image x' >&2; echo '  not found' >&2; exit 3",
					 0)),
		DAVIT_EEXEC);
	assert_string_equal(c->message, "crun: image x;   not found");
	assert_true(client_inspect(c, ID(01), &p));
	assert_int_equal(p.u.instance.state, KEEPER_SLOT_CREATED);
	assert_int_equal(p.u.instance.run, 0);
	assert_int_equal(client_spawned(c, launch(c, ID(01), 1, "exit 3", 0)), DAVIT_EEXEC);
	assert_string_equal(c->message, "the launcher ended with code 3 and without a word");
	assert_int_equal(client_spawned(c, client_launch(c, ID(01), 1, ARGV("/no/such"), 0, 0)), DAVIT_EEXEC);
	assert_string_equal(c->message, "cannot execute /no/such: No such file or directory");
	/* After a run that counted, that one is what the slot tells. */
	assert_true(client_spawned(c, launch(c, ID(01), 1, DETACH("sleep 0.5; exit 5"), 0)) > 0);
	assert_int_equal(client_exit(c, ID(01), 1).code, 5);
	assert_int_equal(client_spawned(c, launch(c, ID(01), 2, "exit 3", 0)), DAVIT_EEXEC);
	assert_false(client_wait(c, KEEPER_EXITED, 0, ID(01), 100, &p));
	assert_true(client_inspect(c, ID(01), &p));
	assert_int_equal(p.u.instance.run, 1);
	assert_int_equal(p.u.instance.exit.code, 5);
	assert_int_equal(client_simple(c, KEEPER_REMOVE, ID(01)), 0);
}

static void a_launcher_that_fails_leaves_nothing_behind(void **state)
{
	struct client *c = *state;
	char path[128];

	assert_int_equal(client_create(c, ID(01), NULL), 0);
	assert_int_equal(
		client_spawned(
			c, launch(c, ID(01), 1,
				  DETACH("exec sleep 1000") "sleep 1000 & echo $! > $PIDFILE.2; exit 1", 0)),
		DAVIT_EEXEC);
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof path, "%s/%s.pid%s", c->dir, ID(01), i ? ".2" : "");
		DAVIT_AUTO_FREE char *pid = slurp(path);
		assert_non_null(pid);
		assert_true(atoi(pid) > 0);
		assert_false(alive(atoi(pid)));
	}
}

static void a_pid_file_that_makes_no_sense_fails_the_launch(void **state)
{
	static const char *const scripts[] = {
		"true",
		"echo > $PIDFILE",
		"echo 1 > $PIDFILE",
		"echo 12x > $PIDFILE",
		"echo -5 > $PIDFILE",
		"echo 99999999999 > $PIDFILE",
		"mkdir $PIDFILE",
		"echo $PPID > $PIDFILE", /* the keeper itself */
	};
	struct client *c = *state;
	char path[128];

	assert_int_equal(client_create(c, ID(01), NULL), 0);
	snprintf(path, sizeof path, "%s/%s.pid", c->dir, ID(01));
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(scripts); i++) {
		int r = client_spawned(c, launch(c, ID(01), 1, scripts[i], 0));
		assert_int_equal(r, DAVIT_EEXEC);
		assert_non_null(strstr(c->message, path));
		rmdir(path);
	}
	assert_int_equal(client_simple(c, KEEPER_LIST, ""), 0); /* the keeper is there */
}

static void what_is_not_left_to_the_keeper_is_refused_and_not_touched(void **state)
{
	struct client *c = *state;
	char script[160];
	pid_t foreign = fork();

	if (foreign == 0) {
		setsid();
		pause();
		_exit(0);
	}
	assert_int_equal(client_create(c, ID(01), NULL), 0);
	snprintf(script, sizeof script, "echo %d > $PIDFILE", (int)foreign);
	assert_int_equal(client_spawned(c, launch(c, ID(01), 1, script, 0)), DAVIT_EEXEC);
	assert_non_null(strstr(c->message, "was not left to the keeper"));
	assert_true(alive(foreign));
	kill(foreign, SIGKILL);
	waitpid(foreign, NULL, 0);
}

static void an_old_pid_file_is_not_believed(void **state)
{
	struct client *c = *state;

	assert_int_equal(client_create(c, ID(01), NULL), 0);
	assert_true(client_spawned(c, launch(c, ID(01), 1, DETACH("sleep 0.5; exit 0"), 0)) > 0);
	client_exit(c, ID(01), 1);
	assert_int_equal(client_spawned(c, launch(c, ID(01), 2, "true", 0)), DAVIT_EEXEC);
	assert_non_null(strstr(c->message, "No such file"));
}

static void a_launcher_that_hangs_is_killed_in_time(void **state)
{
	struct client *c = *state;
	uint64_t tag;
	char path[128];

	assert_int_equal(client_create(c, ID(01), NULL), 0);
	tag = launch(c, ID(01), 1, DETACH("exec sleep 1000") "echo pulling >&2; sleep 1000", 300);
	assert_int_equal(client_spawned(c, tag), DAVIT_EEXEC);
	assert_string_equal(c->message, "the launcher did not end in time: pulling");
	snprintf(path, sizeof path, "%s/%s.pid", c->dir, ID(01));
	DAVIT_AUTO_FREE char *pid = slurp(path);
	assert_non_null(pid);
	assert_false(alive(atoi(pid)));
}

static void a_stop_during_the_launch_ends_it_at_once(void **state)
{
	struct client *c = *state;
	struct packet p;
	char path[128];
	uint64_t tag;

	assert_int_equal(client_create(c, ID(01), NULL), 0);
	tag = launch(c, ID(01), 1, DETACH("exec sleep 1000") "trap true TERM; sleep 1000", 0);
	snprintf(path, sizeof path, "%s/%s.pid", c->dir, ID(01));
	WAIT_FOR(access(path, F_OK) == 0);
	nap(50);
	assert_int_equal(client_simple(c, KEEPER_REMOVE, ID(01)), DAVIT_ESTATE);
	assert_int_equal(client_signal(c, ID(01), SIGUSR1, 0, 0), DAVIT_ESTATE);
	assert_int_equal(client_stop(c, ID(01), SIGTERM, 600000), 0);
	assert_int_equal(client_spawned(c, tag), DAVIT_ECANCELED);
	DAVIT_AUTO_FREE char *pid = slurp(path);
	assert_non_null(pid);
	assert_false(alive(atoi(pid)));
	assert_true(client_inspect(c, ID(01), &p));
	assert_int_equal(p.u.instance.state, KEEPER_SLOT_CREATED);
	assert_false(client_wait(c, KEEPER_EXITED, 0, ID(01), 50, &p));
}

static bool is_in(const char *group, pid_t pid)
{
	char path[160], want[32];

	snprintf(path, sizeof path, "%s/cgroup.procs", group);
	snprintf(want, sizeof want, "%d\n", (int)pid);
	DAVIT_AUTO_FREE char *members = slurp(path);
	return members && !strcmp(members, want);
}

static void a_launcher_that_stays_outside_of_the_group_is_ended_with_what_is_in_it(void **state)
{
	struct client *c = *state;
	char path[128], script[400];
	uint64_t tag;
	pid_t pid;

	if (!client_own_cgroup(path)) {
		print_message("no cgroup v2 hierarchy can be written here\n");
		skip();
	}
	assert_int_equal(client_create(c, ID(01), &(struct log_options){.cgroup = path}), 0);
	/* The workload, entering the group, is alone there; then the launcher ends, or it does not. */
	snprintf(script, sizeof script,
		 "setsid sh -c 'echo $$ >%s/cgroup.procs; exec sleep 1000' & echo $! >$PIDFILE; "
		 "until grep -q . %s/cgroup.procs; do sleep 0.01; done; $1",
		 path, path);
	tag = client_launch(c, ID(01), 1, ARGV("/bin/sh", "-c", script), 0, KEEPER_FLAG_OUTSIDE);
	pid = client_spawned(c, tag);
	assert_true(pid > 0);
	assert_true(is_in(path, pid));
	assert_int_equal(client_stop(c, ID(01), SIGTERM, 60000), 0);
	assert_false(alive(pid));

	tag = client_launch(c, ID(01), 2, ARGV("/bin/sh", "-c", script, "sh", "sleep 1000"), 0,
			    KEEPER_FLAG_OUTSIDE);
	WAIT_FOR((pid = written_pid(c, ID(01), "")) > 0 && is_in(path, pid));
	assert_int_equal(client_stop(c, ID(01), SIGTERM, 600000), 0);
	assert_int_equal(client_spawned(c, tag), DAVIT_ECANCELED);
	assert_false(alive(pid));
	assert_int_equal(rmdir(path), 0);
}

static void an_intermediate_process_does_not_matter(void **state)
{
	struct client *c = *state;
	pid_t pid;

	assert_int_equal(client_create(c, ID(01), NULL), 0);
	/* The launcher's child starts the workload and ends. */
	pid = client_spawned(
		c, launch(c, ID(01), 1,
			  "sh -c 'setsid sh -c \"sleep 0.5; exit 9\" & echo $! > $PIDFILE'; true", 0));
	assert_true(pid > 0);
	assert_int_equal(client_exit(c, ID(01), 1).code, 9);
}

static void a_launch_goes_on_when_the_daemon_has_gone(void **state)
{
	struct client *c = *state;
	struct packet p;

	assert_int_equal(client_create(c, ID(01), NULL), 0);
	assert_int_equal(client_create(c, ID(02), NULL), 0);
	launch(c, ID(01), 1, DETACH("exec sleep 1000") HOLD, 0);
	launch(c, ID(02), 1, HOLD "echo sorry >&2; exit 1", 0);
	held(c, ID(01));
	held(c, ID(02));
	client_disconnect(c);
	client_connect(c);
	assert_true(started(c, ID(01)) > 0);
	go(c, ID(01));
	go(c, ID(02));
	/* Told with the process that is the main one from then on. */
	assert_true(client_wait(c, KEEPER_SPAWNED, 0, ID(01), PATIENCE, &p));
	assert_int_equal(p.u.h.tag, 0);
	assert_int_equal(p.u.spawned.pid, started(c, ID(01)));
	struct keeper_exit e = client_exit(c, ID(02), 1);
	assert_int_equal(e.kind, DAVIT_EXIT_EXEC);
	assert_string_equal(e.reason, "sorry");
}

static void an_upgrade_during_the_launch_changes_nothing(void **state)
{
	struct client *c = *state;
	uint64_t a, b;

	assert_int_equal(client_create(c, ID(01), NULL), 0);
	assert_int_equal(client_create(c, ID(02), NULL), 0);
	a = launch(c, ID(01), 1, "echo one >&2; " HOLD DETACH("sleep 0.5; exit 3"), 0);
	b = launch(c, ID(02), 1, "echo one >&2; " HOLD "echo two >&2; exit 3", 0);
	held(c, ID(01));
	held(c, ID(02));
	assert_int_equal(client_simple(c, KEEPER_UPGRADE, ""), 0);
	go(c, ID(01));
	go(c, ID(02));
	assert_true(client_spawned(c, a) > 0);
	assert_int_equal(client_exit(c, ID(01), 1).code, 3);
	assert_int_equal(client_spawned(c, b), DAVIT_EEXEC);
	assert_string_equal(c->message, "one; two");
}

static void restart(struct client *c)
{
	client_kill_keeper(c);
	client_start_keeper(c);
	client_connect(c);
}

static void a_keeper_killed_while_the_launcher_runs_takes_up_the_launch(void **state)
{
	struct client *c = *state;
	struct packet p;
	pid_t pid;

	assert_int_equal(client_create(c, ID(01), NULL), 0);
	launch(c, ID(01), 1, HOLD DETACH("sleep 0.5; exit 6"), 0);
	assert_int_equal(client_simple(c, KEEPER_LIST, ""),
			 0); /* the keeper has read that, and so the launch */
	restart(c);
	go(c, ID(01));
	assert_true(client_wait(c, KEEPER_SPAWNED, 0, ID(01), PATIENCE, &p));
	pid = p.u.spawned.pid;
	assert_int_equal(started(c, ID(01)), pid);
	assert_int_equal(client_exit(c, ID(01), 1).code, 6);
}

static void a_launcher_that_ended_while_no_keeper_was_there_has_launched(void **state)
{
	struct client *c = *state;
	pid_t pid;

	assert_int_equal(client_create(c, ID(01), NULL), 0);
	launch(c, ID(01), 1, HOLD DETACH("exec sleep 1000"), 0);
	assert_int_equal(client_simple(c, KEEPER_LIST, ""),
			 0); /* the keeper has read that, and so the launch */
	client_kill_keeper(c);
	go(c, ID(01));
	WAIT_FOR(waitpid(-1, NULL, WNOHANG) > 0); /* the launcher, which is ours now */
	client_start_keeper(c);
	client_connect(c);
	pid = started(c, ID(01));
	assert_int_equal(pid, written_pid(c, ID(01), ""));
	assert_int_equal(client_stop(c, ID(01), SIGTERM, 1000), 0);
	assert_false(alive(pid));
}

static void a_keeper_that_dies_at_any_point_of_a_launch_neither_loses_nor_repeats_it(void **state)
{
	static const char *const points[] = {"keeper.spawn.before", "keeper.spawn.started",
					     "keeper.spawn.after", "keeper.launch.ended",
					     "keeper.launch.take"};
	struct client *c = *state;
	struct packet p;

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(points); i++) {
		char id[24];
		pid_t keeper;
		snprintf(id, sizeof id, "%016zx", i);
		client_kill_keeper(c);
		setenv("DAVIT_FAULT", points[i], 1);
		client_start_keeper(c);
		unsetenv("DAVIT_FAULT");
		client_connect(c);
		keeper = c->keeper;
		assert_int_equal(client_create(c, id, NULL), 0);
		launch(c, id, 1, "sleep 0.1; " DETACH("exec sleep 1000"), 0);
		assert_int_equal(waitpid(keeper, NULL, 0), keeper);
		client_disconnect(c);
		client_start_keeper(c);
		client_connect(c);
		assert_true(client_inspect(c, id, &p));
		assert_int_equal(p.u.instance.state, i == 0 ? KEEPER_SLOT_CREATED : KEEPER_SLOT_RUNNING);
		if (i == 0)
			continue;
		WAIT_FOR(started(c, id) == written_pid(c, id, ""));
		assert_true(client_inspect(c, id, &p));
		assert_int_equal(p.u.instance.state, KEEPER_SLOT_RUNNING);
		assert_int_equal(p.u.instance.run, 1);
		assert_true(alive(p.u.instance.pid));
		assert_int_equal(client_stop(c, id, SIGTERM, 1000), 0);
		assert_int_equal(client_exit(c, id, 1).signal, SIGTERM);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, client_setup, client_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(the_process_of_the_pid_file_becomes_the_main_process),
		T(a_stop_ends_what_was_launched),
		T(the_exit_of_a_workload_that_is_faster_than_its_launcher_is_known),
		T(orphans_are_reaped_during_a_launch_when_they_are_older_and_after_it_otherwise),
		T(a_launcher_that_fails_is_quoted_and_the_run_does_not_count),
		T(a_launcher_that_fails_leaves_nothing_behind),
		T(a_pid_file_that_makes_no_sense_fails_the_launch),
		T(what_is_not_left_to_the_keeper_is_refused_and_not_touched),
		T(an_old_pid_file_is_not_believed),
		T(a_launcher_that_hangs_is_killed_in_time),
		T(a_stop_during_the_launch_ends_it_at_once),
		T(a_launcher_that_stays_outside_of_the_group_is_ended_with_what_is_in_it),
		T(an_intermediate_process_does_not_matter),
		T(a_launch_goes_on_when_the_daemon_has_gone),
		T(an_upgrade_during_the_launch_changes_nothing),
		T(a_keeper_killed_while_the_launcher_runs_takes_up_the_launch),
		T(a_launcher_that_ended_while_no_keeper_was_there_has_launched),
		T(a_keeper_that_dies_at_any_point_of_a_launch_neither_loses_nor_repeats_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
