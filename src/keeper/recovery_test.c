/* SPDX-License-Identifier: MIT
 *
 * The daemon may go, the keeper may be killed or upgraded: workloads go on.
 */
#include "keeper/testing.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include "keeper/keeper.h"

static void an_exit_without_a_daemon_is_told_by_the_list(void **state)
{
	struct client *c = *state;
	struct packet p;

	pid_t pid = client_shell(c, ID(01), "sleep 1; exit 5");
	client_shell(c, ID(02), "sleep 1000");
	client_disconnect(c);
	WAIT_FOR(kill(pid, 0) < 0); /* reaped */
	client_connect(c);
	assert_true(client_inspect(c, ID(01), &p));
	assert_int_equal(p.u.instance.state, KEEPER_SLOT_ENDED);
	assert_int_equal(p.u.instance.exit.code, 5);
	assert_int_equal(p.u.instance.run, 1);
	assert_string_equal(p.u.bytes + sizeof p.u.instance, "label of " ID(01));
	assert_true(client_inspect(c, ID(02), &p));
	assert_int_equal(p.u.instance.state, KEEPER_SLOT_RUNNING);
	/* Told: not once more. */
	assert_false(client_wait(c, KEEPER_EXITED, 0, ID(01), 100, &p));
}

static void a_daemon_that_does_not_read_loses_no_exit(void **state)
{
	struct client *c = *state;
	char id[24];

	/* Far more events than the socket holds, and nobody reads meanwhile. */
	for (int i = 0; i < 400; i++) {
		snprintf(id, sizeof id, "%016x", i);
		client_shell(c, id, "read x < /dev/null; exit 4");
	}
	nap(300);
	for (int i = 0; i < 400; i++) {
		snprintf(id, sizeof id, "%016x", i);
		assert_int_equal(client_exit(c, id, 1).code, 4);
	}
}

static void many_requests_sent_without_reading_are_all_answered(void **state)
{
	struct client *c = *state;
	struct keeper_stop m = {.signo = SIGTERM, .grace_ns = INT64_C(20000000000)};
	uint64_t tags[400];
	char id[24];

	for (int i = 0; i < 400; i++) {
		snprintf(id, sizeof id, "%016x", i);
		client_shell(c, id, "exec sleep 1000");
	}
	for (int i = 0; i < 400; i++) {
		snprintf(id, sizeof id, "%016x", i);
		tags[i] = client_send(c, &m.h, KEEPER_STOP, id, sizeof m, NULL, 0, NULL, 0);
	}
	for (int i = 0; i < 400; i++)
		assert_int_equal(client_done(c, tags[i]), 0);
}

/* Prints 1 to 60 and ends with 9; the second half when it is told to. */
static pid_t count_to_60(struct client *c, const char *id)
{
	char script[400];

	snprintf(script, sizeof script,
		 "n=0; while [ $n -lt 60 ]; do n=$((n+1)); echo $n; sleep 0.01; "
		 "while [ $n = 30 ] && [ ! -e %s/go ]; do sleep 0.02; done; done; exit 9",
		 c->dir);
	return client_shell(c, id, script);
}

static void go(struct client *c)
{
	char path[160];

	snprintf(path, sizeof path, "%s/go", c->dir);
	assert_int_equal(mkdir(path, 0700), 0);
}

static void a_new_keeper_takes_up_what_the_killed_one_ran(void **state)
{
	struct client *c = *state;
	DAVIT_AUTO_FREE char *log = NULL;
	struct keeper_exit e;
	struct packet p;
	pid_t pid = count_to_60(c, ID(01));
	pid_t gone = client_shell(c, ID(02), "sleep 1000");
	char want[1200] = "";

	nap(100);
	client_kill_keeper(c);
	assert_int_equal(kill(gone, SIGKILL), 0);
	assert_int_equal(waitpid(gone, NULL, 0), gone);
	nap(100);
	client_start_keeper(c);
	client_connect(c);
	assert_int_equal(c->welcome.recovered, 1);
	assert_int_equal(c->welcome.lost, 1);
	assert_true(client_inspect(c, ID(01), &p));
	assert_int_equal(p.u.instance.pid, pid);
	assert_true(client_inspect(c, ID(02), &p));
	assert_int_equal(p.u.instance.state, KEEPER_SLOT_ENDED);
	assert_int_equal(p.u.instance.exit.kind, DAVIT_EXIT_UNKNOWN);
	assert_string_equal(p.u.instance.exit.reason, "ended while the keeper was down");
	go(c);
	e = client_exit(c, ID(01), 1);
	assert_int_equal(e.kind, DAVIT_EXIT_CODE);
	assert_int_equal(e.code, 9);
	/* Written while no keeper was there, too. */
	for (int i = 1; i <= 60; i++)
		snprintf(want + strlen(want), sizeof want - strlen(want), "stdout %d\n", i);
	log = client_log(c, ID(01));
	assert_string_equal(log, want);
}

/* PIDFD_GET_INFO tells exits of processes that are not ours since Linux 6.15. */
static bool kernel_tells_exits(void)
{
	struct utsname u;
	int major, minor;

	return uname(&u) == 0 && sscanf(u.release, "%d.%d", &major, &minor) == 2 &&
	       (major > 6 || (major == 6 && minor >= 15));
}

static void an_exit_that_somebody_else_reaped_is_recovered_or_said_to_be_unknown(void **state)
{
	struct client *c = *state;
	struct keeper_exit e;
	pid_t pid = client_shell(c, ID(01), "sleep 1000");

	client_kill_keeper(c);
	client_start_keeper(c);
	client_connect(c);
	/* Its parent is this program now, which reaps at once without looking. */
	signal(SIGCHLD, SIG_IGN);
	kill(pid, SIGUSR2);
	e = client_exit(c, ID(01), 1);
	signal(SIGCHLD, SIG_DFL);
	if (kernel_tells_exits()) {
		assert_int_equal(e.kind, DAVIT_EXIT_SIGNAL);
		assert_int_equal(e.signal, SIGUSR2);
	} else {
		assert_true(e.kind == DAVIT_EXIT_UNKNOWN || e.signal == SIGUSR2);
		assert_true(e.kind != DAVIT_EXIT_UNKNOWN || e.reason[0]);
	}
}

/* A keeper that kills itself at the named point; the next one does not. */
static void restart_with_fault(struct client *c, const char *fault)
{
	client_kill_keeper(c);
	setenv("DAVIT_FAULT", fault, 1);
	client_start_keeper(c);
	unsetenv("DAVIT_FAULT");
	client_connect(c);
}

static void a_keeper_that_dies_at_any_point_of_a_spawn_neither_loses_nor_repeats_it(void **state)
{
	static const char *const points[] = {"keeper.spawn.before", "keeper.spawn.started",
					     "keeper.spawn.after"};
	struct client *c = *state;
	struct packet p;

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(points); i++) {
		struct keeper_spawn m = {.run = 1, .argc = 2, .umask = 022};
		static const char body[] = "/bin/sleep\0\0sleep\0001000\0";
		char id[24];
		pid_t keeper;
		snprintf(id, sizeof id, "%016zx", i);
		restart_with_fault(c, points[i]);
		keeper = c->keeper;
		assert_int_equal(client_create(c, id, NULL), 0);
		client_send(c, &m.h, KEEPER_SPAWN, id, sizeof m, body, sizeof body, NULL, 0);
		assert_false(client_wait(c, KEEPER_SPAWNED, 0, id, 2000, &p));
		client_disconnect(c);
		assert_int_equal(waitpid(keeper, NULL, 0), keeper);
		client_start_keeper(c);
		client_connect(c);
		assert_true(client_inspect(c, id, &p));
		assert_int_equal(p.u.instance.state, i == 0 ? KEEPER_SLOT_CREATED : KEEPER_SLOT_RUNNING);
		assert_int_equal(p.u.instance.run, i == 0 ? 0 : 1);
		if (i > 0) {
			assert_true(alive(p.u.instance.pid));
			assert_int_equal(client_stop(c, id, SIGTERM, 1000), 0);
			assert_int_equal(client_exit(c, id, 1).signal, SIGTERM);
		}
	}
}

/* Of the children that this program has inherited, those marked with the id. */
static int count_marked(const char *id)
{
	DAVIT_AUTO_FREE char *pids = slurp("/proc/thread-self/children");
	char mark[48], path[32], *save = NULL;
	int n = 0;

	snprintf(mark, sizeof mark, "DAVIT_INSTANCE=%s", id);
	for (char *w = pids ? strtok_r(pids, " ", &save) : NULL; w; w = strtok_r(NULL, " ", &save)) {
		char text[4096] = "";
		FILE *f;

		snprintf(path, sizeof path, "/proc/%s/environ", w);
		f = fopen(path, "r");
		if (!f)
			continue;
		size_t len = fread(text, 1, sizeof text - 1, f);
		fclose(f);
		n += memmem(text, len, mark, strlen(mark)) != NULL;
	}
	return n;
}

static void a_keeper_that_dies_in_a_burst_of_starts_neither_loses_nor_repeats_one(void **state)
{
	static const char body[] = "/bin/sleep\0\0sleep\0001000\0";
	static const char *const points[] = {"keeper.spawn.before:4", "keeper.spawn.started:3",
					     "keeper.spawn.after:2"};
	struct client *c = *state;
	struct packet p;

	for (unsigned round = 0; round < DAVIT_ARRAY_SIZE(points); round++) {
		struct keeper_spawn m = {.run = 1, .argc = 2, .umask = 022};
		unsigned running = 0;
		char id[24];

		restart_with_fault(c, points[round]);
		for (unsigned i = 0; i < 8; i++) {
			snprintf(id, sizeof id, "%08x%08x", round, i);
			assert_int_equal(client_create(c, id, NULL), 0);
		}
		/* All are there before the keeper reads the first. */
		kill(c->keeper, SIGSTOP);
		for (unsigned i = 0; i < 8; i++) {
			snprintf(id, sizeof id, "%08x%08x", round, i);
			client_send(c, &m.h, KEEPER_SPAWN, id, sizeof m, body, sizeof body, NULL, 0);
		}
		kill(c->keeper, SIGCONT);
		assert_int_equal(waitpid(c->keeper, NULL, 0), c->keeper);
		client_disconnect(c);
		client_start_keeper(c);
		client_connect(c);
		for (unsigned i = 0; i < 8; i++) {
			snprintf(id, sizeof id, "%08x%08x", round, i);
			assert_true(client_inspect(c, id, &p));
			bool runs = p.u.instance.state == KEEPER_SLOT_RUNNING;
			assert_true(runs || p.u.instance.state == KEEPER_SLOT_CREATED);
			assert_int_equal(count_marked(id), runs);
			running += runs;
		}
		assert_in_range(running, 2, 7);
	}
}

static void a_start_is_known_after_two_keepers_died_one_behind_the_other(void **state)
{
	struct keeper_spawn m = {.run = 1, .argc = 1, .umask = 022};
	static const char body[] = "/bin/true\0\0true\0";
	struct client *c = *state;
	struct packet p;

	restart_with_fault(c, "keeper.spawn.started");
	assert_int_equal(client_create(c, ID(01), NULL), 0);
	client_send(c, &m.h, KEEPER_SPAWN, ID(01), sizeof m, body, sizeof body, NULL, 0);
	assert_int_equal(waitpid(c->keeper, NULL, 0), c->keeper);
	client_disconnect(c);
	/* The second dies while it takes up what the first has left. */
	setenv("DAVIT_FAULT", "keeper.recover.spawning", 1);
	assert_int_not_equal(client_try_keeper(c), 0);
	unsetenv("DAVIT_FAULT");
	client_start_keeper(c);
	client_connect(c);
	assert_true(client_inspect(c, ID(01), &p));
	assert_int_equal(p.u.instance.run, 1);
	assert_int_equal(p.u.instance.state, KEEPER_SLOT_ENDED);
}

static void a_keeper_that_dies_while_it_writes_loses_no_line(void **state)
{
	static const char *const points[] = {"keeper.log.write:3", "keeper.log.rotate", "keeper.exit.record"};
	struct client *c = *state;

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(points); i++) {
		DAVIT_AUTO_FREE char *log = NULL;
		char id[24], last[32] = "", end[96];
		size_t n = 0;
		pid_t keeper;
		snprintf(id, sizeof id, "%016zx", i);
		/* It ends when the next keeper has its pipes, but where its end is what the first dies of. */
		snprintf(end, sizeof end, i < 2 ? "%s/end%zu" : "/dev/null", c->dir, i);
		restart_with_fault(c, points[i]);
		keeper = c->keeper;
		assert_int_equal(
			client_create(c, id, &(struct log_options){.max_size = 4096, .max_files = 100}), 0);
		assert_true(
			client_spawn(c, id, 1,
				     ARGV("/bin/sh", "-c",
					  "n=0; while [ $n -lt 300 ]; do n=$((n+1)); "
					  "echo $n; done; until [ -e \"$0\" ]; do sleep 0.02; done; exit 4",
					  end),
				     NULL) > 0);
		assert_int_equal(waitpid(keeper, NULL, 0), keeper);
		client_disconnect(c);
		client_start_keeper(c);
		client_connect(c);
		DAVIT_AUTO_CLOSE int fd = open(end, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		assert_true(fd >= 0);
		struct packet p;
		WAIT_FOR(client_inspect(c, id, &p) && p.u.instance.state == KEEPER_SLOT_ENDED);
		assert_int_equal(p.u.instance.exit.code, 4);
		log = client_log(c, id);
		for (char *line = log; *line; line = strchr(line, '\n') + 1) {
			snprintf(last, sizeof last, "stdout %zu\n", ++n);
			assert_memory_equal(line, last, strlen(last));
		}
		assert_int_equal(n, 300);
	}
}

static void a_stop_survives_the_keeper(void **state)
{
	struct client *c = *state;
	struct keeper_stop m = {.signo = SIGTERM, .grace_ns = INT64_C(3000000000)};
	pid_t pid = client_shell(c, ID(01), "trap '' TERM; echo deaf; while :; do sleep 0.1; done");
	DAVIT_AUTO_FREE char *log = NULL;

	WAIT_FOR((free(log), log = client_log(c, ID(01)), strstr(log, "deaf\n")));
	client_send(c, &m.h, KEEPER_STOP, ID(01), sizeof m, NULL, 0, NULL, 0);
	assert_int_equal(client_simple(c, KEEPER_LIST, ""),
			 0); /* the keeper has read that, and so the stop */
	client_kill_keeper(c);
	client_start_keeper(c);
	client_connect(c);
	assert_true(alive(pid));
	assert_int_equal(client_exit(c, ID(01), 1).signal, SIGKILL);
}

static void an_upgrade_keeps_children_logs_and_the_connection(void **state)
{
	struct client *c = *state;
	DAVIT_AUTO_FREE char *log = NULL;
	char path[128], want[1200] = "";
	DAVIT_AUTO_FREE char *children = NULL;
	struct keeper_exit e;
	struct packet p;
	pid_t pid = count_to_60(c, ID(01));

	for (int i = 0; i < 5; i++) {
		nap(50);
		assert_int_equal(client_simple(c, KEEPER_UPGRADE, ""), 0);
	}
	snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)c->keeper, (int)c->keeper);
	children = slurp(path);
	assert_int_equal(atoi(children), pid);
	assert_true(client_inspect(c, ID(01), &p));
	assert_int_equal(p.u.instance.pid, pid);
	go(c);
	e = client_exit(c, ID(01), 1);
	assert_int_equal(e.kind, DAVIT_EXIT_CODE);
	assert_int_equal(e.code, 9);
	for (int i = 1; i <= 60; i++)
		snprintf(want + strlen(want), sizeof want - strlen(want), "stdout %d\n", i);
	log = client_log(c, ID(01));
	assert_string_equal(log, want);
}

static void upgrades_leave_no_descriptor_behind(void **state)
{
	struct client *c = *state;
	char path[64];
	size_t before, after;

	client_shell(c, ID(01), "sleep 1000");
	snprintf(path, sizeof path, "/proc/%d/fd", (int)c->keeper);
	assert_int_equal(client_simple(c, KEEPER_UPGRADE, ""), 0);
	before = count_entries(path);
	for (int i = 0; i < 3; i++)
		assert_int_equal(client_simple(c, KEEPER_UPGRADE, ""), 0);
	after = count_entries(path);
	assert_int_equal(after, before);
}

static void a_forged_record_never_hits_a_foreign_process(void **state)
{
	struct client *c = *state;
	struct keeper_slot slot;
	char path[128];
	pid_t victim, real;
	int fd;

	real = client_shell(c, ID(01), "sleep 1000");
	nap(30); /* start times count in hundredths of a second */
	victim = fork();
	if (victim == 0) {
		setsid();
		pause();
		_exit(0);
	}
	client_kill_keeper(c);
	kill(real, SIGKILL);
	waitpid(real, NULL, 0);
	/* The number was given to somebody else: all but the start time fits. */
	snprintf(path, sizeof path, "%s/keeper-0.slots", c->run);
	fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &slot, sizeof slot, KEEPER_SLOTS_AT), sizeof slot);
	assert_int_equal(slot.pid, real);
	slot.pid = slot.session = victim;
	assert_int_equal(pwrite(fd, &slot, sizeof slot, KEEPER_SLOTS_AT), sizeof slot);
	close(fd);
	client_start_keeper(c);
	client_connect(c);
	assert_int_equal(c->welcome.lost, 1);
	assert_int_equal(client_signal(c, ID(01), SIGKILL, 2, 0), DAVIT_ESTATE);
	assert_int_equal(client_stop(c, ID(01), SIGTERM, 100), 0);
	assert_int_equal(client_stop(c, ID(01), SIGKILL, 0), 0);
	assert_true(alive(victim));
	kill(victim, SIGKILL);
	waitpid(victim, NULL, 0);
}

static void slots_of_another_boot_are_discarded(void **state)
{
	struct client *c = *state;
	struct packet p;
	char path[128];
	pid_t pid = client_shell(c, ID(01), "sleep 1000");
	int fd;

	client_kill_keeper(c);
	snprintf(path, sizeof path, "%s/keeper-0.slots", c->run);
	fd = open(path, O_RDWR);
	assert_int_equal(pwrite(fd, "x", 1, offsetof(struct keeper_file, boot_id)), 1);
	close(fd);
	client_start_keeper(c);
	client_connect(c);
	assert_int_equal(c->welcome.slots_used, 0);
	assert_false(client_inspect(c, ID(01), &p));
	assert_true(alive(pid));
	kill(pid, SIGKILL);
}

static void a_second_keeper_is_refused(void **state)
{
	struct client *c = *state;
	struct packet p;

	assert_int_equal(client_try_keeper(c), 1);
	client_shell(c, ID(01), "sleep 1000");
	assert_true(client_inspect(c, ID(01), &p));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, client_setup, client_teardown)
	const struct CMUnitTest tests[] = {
		T(an_exit_without_a_daemon_is_told_by_the_list),
		T(a_daemon_that_does_not_read_loses_no_exit),
		T(many_requests_sent_without_reading_are_all_answered),
		T(a_new_keeper_takes_up_what_the_killed_one_ran),
		T(an_exit_that_somebody_else_reaped_is_recovered_or_said_to_be_unknown),
		T(a_keeper_that_dies_at_any_point_of_a_spawn_neither_loses_nor_repeats_it),
		T(a_keeper_that_dies_in_a_burst_of_starts_neither_loses_nor_repeats_one),
		T(a_start_is_known_after_two_keepers_died_one_behind_the_other),
		T(a_keeper_that_dies_while_it_writes_loses_no_line),
		T(a_stop_survives_the_keeper),
		T(an_upgrade_keeps_children_logs_and_the_connection),
		T(upgrades_leave_no_descriptor_behind),
		T(a_forged_record_never_hits_a_foreign_process),
		T(slots_of_another_boot_are_discarded),
		T(a_second_keeper_is_refused),
	};
	return cmocka_run_group_tests_name("keeper recovery", tests, NULL, NULL);
}
