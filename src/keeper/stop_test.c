/* SPDX-License-Identifier: MIT
 *
 * Nothing of an instance is left when STOP is answered, and nothing else is hit.
 */
#include "keeper/testing.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* The pid that a workload wrote to dir/name. */
static pid_t read_pid(struct client *c, const char *name)
{
	char path[128];
	DAVIT_AUTO_FREE char *text = NULL;

	snprintf(path, sizeof path, "%s/%s", c->dir, name);
	for (int i = 0; i < PATIENCE / 5 && (!text || !strchr(text, '\n')); i++) {
		free(text);
		text = slurp(path);
		nap(5);
	}
	assert_non_null(text);
	return atoi(text);
}

static void a_shell_that_ignores_term_is_gone_with_its_grandchild_after_the_grace(void **state)
{
	struct client *c = *state;
	struct keeper_exit e;
	char script[300];
	int64_t began;
	pid_t main_pid, grandchild;

	snprintf(script, sizeof script,
		 "trap '' TERM; (trap '' TERM; sleep 1000 & echo $! >%s/g; wait) & wait; wait", c->dir);
	main_pid = client_shell(c, ID(01), script);
	grandchild = read_pid(c, "g");
	began = now_ms();
	assert_int_equal(client_stop(c, ID(01), SIGTERM, 300), 0);
	assert_in_range(now_ms() - began, 290, PATIENCE);
	e = client_exit(c, ID(01), 1);
	assert_int_equal(e.signal, SIGKILL);
	assert_false(alive(main_pid));
	assert_false(alive(grandchild));
}

static void a_daemon_that_left_its_session_and_parents_is_gone_too(void **state)
{
	struct client *c = *state;
	char script[300];
	pid_t daemon_pid;

	snprintf(script, sizeof script, "setsid sh -c 'setsid sleep 1000 & echo $! >%s/d' & sleep 1000",
		 c->dir);
	client_shell(c, ID(01), script);
	daemon_pid = read_pid(c, "d");
	assert_true(alive(daemon_pid));
	assert_int_equal(client_stop(c, ID(01), SIGTERM, 200), 0);
	assert_false(alive(daemon_pid));
}

static void what_is_left_behind_by_a_run_that_ended_is_found_by_a_stop(void **state)
{
	struct client *c = *state;
	char script[300];
	pid_t left;

	snprintf(script, sizeof script, "setsid sleep 1000 & echo $! >%s/l", c->dir);
	client_shell(c, ID(01), script);
	client_exit(c, ID(01), 1);
	left = read_pid(c, "l");
	assert_true(alive(left));
	assert_int_equal(client_stop(c, ID(01), SIGTERM, 1000), 0);
	assert_false(alive(left));
}

static void a_second_stop_without_grace_kills_at_once_and_both_are_answered(void **state)
{
	struct client *c = *state;
	struct keeper_stop m = {.signo = SIGTERM, .grace_ns = INT64_C(600000000000)};
	DAVIT_AUTO_FREE char *log = NULL;
	uint64_t first;

	client_shell(c, ID(01), "trap '' TERM; echo deaf; while :; do sleep 1; done");
	WAIT_FOR((free(log), log = client_log(c, ID(01)), strstr(log, "deaf\n")));
	first = client_send(c, &m.h, KEEPER_STOP, ID(01), sizeof m, NULL, 0, NULL, 0);
	assert_int_equal(client_stop(c, ID(01), SIGTERM, 0), 0);
	assert_int_equal(client_done(c, first), 0);
	assert_int_equal(client_exit(c, ID(01), 1).signal, SIGKILL);
}

static void a_second_stop_can_shorten_the_grace_and_not_extend_it(void **state)
{
	struct client *c = *state;
	struct keeper_stop m = {.signo = SIGTERM, .grace_ns = INT64_C(600000000000)};
	DAVIT_AUTO_FREE char *log = NULL;
	uint64_t first, third;

	client_shell(c, ID(01), "trap '' TERM; echo deaf; while :; do sleep 1; done");
	WAIT_FOR((free(log), log = client_log(c, ID(01)), strstr(log, "deaf\n")));
	first = client_send(c, &m.h, KEEPER_STOP, ID(01), sizeof m, NULL, 0, NULL, 0);
	m.grace_ns = INT64_C(200000000);
	client_send(c, &m.h, KEEPER_STOP, ID(01), sizeof m, NULL, 0, NULL, 0);
	m.grace_ns = INT64_C(600000000000);
	third = client_send(c, &m.h, KEEPER_STOP, ID(01), sizeof m, NULL, 0, NULL, 0);
	assert_int_equal(client_done(c, first), 0);
	assert_int_equal(client_done(c, third), 0);
	assert_int_equal(client_exit(c, ID(01), 1).signal, SIGKILL);
}

static void the_exit_is_told_before_the_end_of_the_stop(void **state)
{
	struct client *c = *state;
	struct packet p;

	client_shell(c, ID(01), "sleep 1000");
	assert_int_equal(client_stop(c, ID(01), SIGTERM, 5000), 0);
	/* Already received, nothing is waited for. */
	assert_true(client_wait(c, KEEPER_EXITED, 0, ID(01), 0, &p));
	assert_int_equal(p.u.exited.exit.signal, SIGTERM);
	/* And again: nothing runs, success. */
	assert_int_equal(client_stop(c, ID(01), SIGTERM, 5000), 0);
	assert_int_equal(client_simple(c, KEEPER_REMOVE, ID(01)), 0);
	assert_int_equal(client_simple(c, KEEPER_REMOVE, ID(01)), 0);
}

static void stopping_one_instance_leaves_its_neighbour_alone(void **state)
{
	struct client *c = *state;
	pid_t other = client_shell(c, ID(02), "sleep 1000 & wait");

	client_shell(c, ID(01), "sleep 1000 & wait");
	assert_int_equal(client_stop(c, ID(01), SIGTERM, 0), 0);
	assert_true(alive(other));
	assert_int_equal(client_simple(c, KEEPER_REMOVE, ID(02)), DAVIT_ESTATE);
}

static void signals_reach_the_main_process_or_all_descendants(void **state)
{
	struct client *c = *state;
	DAVIT_AUTO_FREE char *log = NULL;

	client_shell(c, ID(01),
		     "trap 'echo main' USR1; (trap 'echo child; exit' USR1; echo up; while :; do sleep 0.02; "
		     "done) & "
		     "echo up; while :; do sleep 0.02; done");
	WAIT_FOR((free(log), log = client_log(c, ID(01)), strstr(log, "up\nstdout up\n")));
	assert_int_equal(client_signal(c, ID(01), SIGUSR1, 0, 0), 0);
	WAIT_FOR((free(log), log = client_log(c, ID(01)), strstr(log, "main\n")));
	assert_null(strstr(log, "child\n"));
	assert_int_equal(client_signal(c, ID(01), SIGUSR1, 2, 0), 0);
	WAIT_FOR((free(log), log = client_log(c, ID(01)), strstr(log, "child\n")));
}

static void a_cgroup_is_joined_at_birth_and_emptied_by_a_stop(void **state)
{
	struct client *c = *state;
	char path[128], procs[160], script[300];
	pid_t main_pid, hidden;

	if (!client_own_cgroup(path)) {
		print_message("no cgroup v2 hierarchy can be written here\n");
		skip();
	}
	assert_int_equal(client_create(c, ID(01), &(struct log_options){.cgroup = path}), 0);
	/* With an empty environment, another session and no parent only the cgroup knows it. */
	snprintf(script, sizeof script, "setsid env -i sh -c 'sleep 1000 & echo $! >%s/h' & exec sleep 1000",
		 c->dir);
	main_pid = client_spawn(c, ID(01), 1, ARGV("/bin/sh", "-c", script), NULL);
	assert_true(main_pid > 0);
	hidden = read_pid(c, "h");
	snprintf(procs, sizeof procs, "%s/cgroup.procs", path);
	DAVIT_AUTO_FREE char *members = slurp(procs);
	assert_non_null(members);
	snprintf(script, sizeof script, "%d\n", (int)main_pid);
	assert_non_null(strstr(members, script));
	assert_int_equal(client_stop(c, ID(01), SIGTERM, 200), 0);
	assert_false(alive(main_pid));
	assert_false(alive(hidden));
	assert_int_equal(rmdir(path), 0);
}

static void a_group_that_was_killed_takes_another_run(void **state)
{
	struct client *c = *state;
	char path[128], procs[160], want[32];
	pid_t pid;

	if (!client_own_cgroup(path)) {
		print_message("no cgroup v2 hierarchy can be written here\n");
		skip();
	}
	snprintf(procs, sizeof procs, "%s/cgroup.procs", path);
	assert_int_equal(client_create(c, ID(01), &(struct log_options){.cgroup = path}), 0);
	for (uint32_t run = 1; run <= 3; run++) {
		if (run == 3) { /* Whoever was not there then knows it too. */
			client_kill_keeper(c);
			client_start_keeper(c);
			client_connect(c);
		}
		pid = client_spawn(c, ID(01), run, ARGV("/bin/sleep", "1000"), NULL);
		assert_true(pid > 0);
		snprintf(want, sizeof want, "%d\n", (int)pid);
		DAVIT_AUTO_FREE char *members = slurp(procs);
		assert_string_equal(members, want);
		assert_int_equal(client_stop(c, ID(01), SIGTERM, 0), 0);
		assert_int_equal(client_exit(c, ID(01), run).signal, SIGKILL);
	}
	/* It lives, and its commands too. */
	pid = client_spawn(c, ID(01), 4, ARGV("/bin/sh", "-c", "exit 5"), NULL);
	assert_true(pid > 0);
	assert_int_equal(client_exit(c, ID(01), 4).code, 5);
	assert_int_equal(rmdir(path), 0);
}

/* How often a process has read something. */
static long reads_of(pid_t pid)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/io", (int)pid);
	DAVIT_AUTO_FREE char *text = slurp(path);
	const char *at = text ? strstr(text, "syscr: ") : NULL;
	return at ? atol(at + strlen("syscr: ")) : -1;
}

static void a_stop_that_waits_does_nothing_else(void **state)
{
	struct client *c = *state;
	char path[128], script[200];
	long before;

	if (!client_own_cgroup(path) || reads_of(c->keeper) < 0) {
		print_message("no cgroup v2 hierarchy can be written here, or /proc/PID/io is not there\n");
		skip();
	}
	assert_int_equal(client_create(c, ID(01), &(struct log_options){.cgroup = path}), 0);
	snprintf(script, sizeof script, "trap '' TERM; echo $$ >%s/up; while :; do sleep 1; done", c->dir);
	assert_true(client_spawn(c, ID(01), 1, ARGV("/bin/sh", "-c", script), NULL) > 0);
	read_pid(c, "up");
	before = reads_of(c->keeper);
	assert_int_equal(client_stop(c, ID(01), SIGTERM, 700), 0);
	assert_int_equal(client_exit(c, ID(01), 1).signal, SIGKILL);
	assert_true(reads_of(c->keeper) - before < 150);
	assert_int_equal(rmdir(path), 0);
}

static void an_exit_tells_whether_anything_is_left_of_its_run(void **state)
{
	struct client *c = *state;
	char path[128], script[300];
	struct packet p;
	pid_t left;

	if (!client_own_cgroup(path)) {
		print_message("no cgroup v2 hierarchy can be written here\n");
		skip();
	}
	assert_int_equal(client_create(c, ID(01), &(struct log_options){.cgroup = path}), 0);
	assert_true(client_spawn(c, ID(01), 1, ARGV("/bin/true"), NULL) > 0);
	assert_true(client_wait(c, KEEPER_EXITED, 0, ID(01), PATIENCE, &p));
	assert_int_equal(p.u.exited.alone, 1);
	assert_int_equal(client_stop(c, ID(01), SIGTERM, 1000), 0);
	/* What one run said does not hold for the next. */
	snprintf(script, sizeof script, "setsid sleep 1000 & echo $! >%s/l", c->dir);
	assert_true(client_spawn(c, ID(01), 2, ARGV("/bin/sh", "-c", script), NULL) > 0);
	assert_true(client_wait(c, KEEPER_EXITED, 0, ID(01), PATIENCE, &p));
	assert_int_equal(p.u.exited.run, 2);
	assert_int_equal(p.u.exited.alone, 0);
	left = read_pid(c, "l");
	assert_true(alive(left));
	assert_int_equal(client_stop(c, ID(01), SIGTERM, 1000), 0);
	assert_false(alive(left));
	assert_int_equal(rmdir(path), 0);
}

static void without_clone3_a_workload_starts_fails_and_stops_the_same(void **state)
{
	struct client *c = *state;
	char path[128], procs[160], want[32];
	pid_t pid;

	client_kill_keeper(c);
	c->without_clone3 = true;
	client_start_keeper(c);
	client_connect(c);
	if (!client_own_cgroup(path))
		path[0] = '\0';
	assert_int_equal(client_create(c, ID(01), &(struct log_options){.cgroup = path[0] ? path : NULL}), 0);
	assert_int_equal(client_spawn(c, ID(01), 1, ARGV("/x/y"), NULL), DAVIT_EEXEC);
	assert_string_equal(c->message, "cannot execute /x/y: No such file or directory");
	pid = client_spawn(c, ID(01), 1, ARGV("/bin/sleep", "1000"), NULL);
	assert_true(pid > 0);
	if (path[0]) {
		snprintf(procs, sizeof procs, "%s/cgroup.procs", path);
		snprintf(want, sizeof want, "%d\n", (int)pid);
		DAVIT_AUTO_FREE char *members = slurp(procs);
		assert_string_equal(members, want);
	}
	assert_int_equal(client_stop(c, ID(01), SIGTERM, 1000), 0);
	assert_int_equal(client_exit(c, ID(01), 1).signal, SIGTERM);
	if (path[0])
		assert_int_equal(rmdir(path), 0);
}

/* A memory cgroup of our own with a limit of 16 MiB, v1 or v2. */
static bool small_memory(char path[128])
{
	static const char *const mounts[][2] = {{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"},
						{"/sys/fs/cgroup", "memory.max"}};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(mounts); i++) {
		char file[192];
		snprintf(path, 128, "%s/davit-keeper-test-%d", mounts[i][0], (int)getpid());
		if (mkdir(path, 0755) < 0)
			continue;
		snprintf(file, sizeof file, "%s/%s", path, mounts[i][1]);
		DAVIT_AUTO_CLOSE int fd = open(file, O_WRONLY);
		if (fd >= 0 && write(fd, "16777216", 8) == 8)
			return true;
		rmdir(path);
	}
	return false;
}

static void a_kill_for_lack_of_memory_is_told_as_such(void **state)
{
	struct client *c = *state;
	struct keeper_exit e;
	char path[128];

	if (!small_memory(path)) {
		print_message("no memory cgroup can be made here\n");
		skip();
	}
	assert_int_equal(client_create(c, ID(01), &(struct log_options){.cgroup = path}), 0);
	assert_true(client_spawn(c, ID(01), 1, ARGV("/usr/bin/tail", "/dev/zero"), NULL) > 0);
	e = client_exit(c, ID(01), 1);
	assert_int_equal(e.kind, DAVIT_EXIT_OOM);
	assert_int_equal(e.signal, SIGKILL);
	/* A kill by hand in the same cgroup is none. */
	assert_true(client_spawn(c, ID(01), 2, ARGV("/bin/sleep", "1000"), NULL) > 0);
	assert_int_equal(client_stop(c, ID(01), SIGTERM, 0), 0);
	assert_int_equal(client_exit(c, ID(01), 2).kind, DAVIT_EXIT_SIGNAL);
	assert_int_equal(rmdir(path), 0);
}

static void two_hundred_short_runs_leave_no_zombie(void **state)
{
	struct client *c = *state;
	char id[24], path[64];
	DAVIT_AUTO_FREE char *children = NULL;

	for (int i = 0; i < 200; i++) {
		snprintf(id, sizeof id, "%016x", i);
		client_shell(c, id, i % 4 ? "exit 3" : "(sleep 0.01 &) ; exit 3");
	}
	for (int i = 0; i < 200; i++) {
		snprintf(id, sizeof id, "%016x", i);
		assert_int_equal(client_exit(c, id, 1).code, 3);
	}
	/* Orphans that came to the keeper are swept within a second. */
	snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)c->keeper, (int)c->keeper);
	WAIT_FOR((free(children), children = slurp(path), children && !*children));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, client_setup, client_teardown)
	const struct CMUnitTest tests[] = {
		T(a_shell_that_ignores_term_is_gone_with_its_grandchild_after_the_grace),
		T(a_daemon_that_left_its_session_and_parents_is_gone_too),
		T(what_is_left_behind_by_a_run_that_ended_is_found_by_a_stop),
		T(a_second_stop_without_grace_kills_at_once_and_both_are_answered),
		T(a_second_stop_can_shorten_the_grace_and_not_extend_it),
		T(the_exit_is_told_before_the_end_of_the_stop),
		T(stopping_one_instance_leaves_its_neighbour_alone),
		T(signals_reach_the_main_process_or_all_descendants),
		T(a_cgroup_is_joined_at_birth_and_emptied_by_a_stop),
		T(a_group_that_was_killed_takes_another_run),
		T(a_stop_that_waits_does_nothing_else),
		T(an_exit_tells_whether_anything_is_left_of_its_run),
		T(without_clone3_a_workload_starts_fails_and_stops_the_same),
		T(a_kill_for_lack_of_memory_is_told_as_such),
		T(two_hundred_short_runs_leave_no_zombie),
	};
	return cmocka_run_group_tests_name("keeper stop", tests, NULL, NULL);
}
