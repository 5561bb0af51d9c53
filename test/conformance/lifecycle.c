/* SPDX-License-Identifier: MIT
 *
 * The mandatory slots: what every runtime must do.
 */
#include "base/file.h"
#include "test/conformance/harness.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>

static void the_table_is_whole(void)
{
	struct davit_error err;

	if (davit_runtime_driver_validate(rt->driver, &err) < 0)
		fail(__FILE__, __LINE__, "%s", err.message);
}

static void capabilities_have_reasons(void)
{
	const struct davit_capabilities *c = harness_capabilities();
	const struct davit_runtime_driver *d = rt->driver;
	int present = 0;

	for (int i = 0; i < DAVIT_CAP_COUNT; i++) {
		present += davit_can(c, i);
		CHECK(strlen(c->why_not[i]) < sizeof c->why_not[i]);
		/* It ends a sentence: no full stop, no newline. */
		CHECK(!strchr(c->why_not[i], '\n'));
	}
	CHECK(present > 0);
	CHECK(!davit_can(c, DAVIT_CAP_LOGS) || d->logs);
	CHECK(!davit_can(c, DAVIT_CAP_EXEC) || d->exec);
	CHECK(!davit_can(c, DAVIT_CAP_STATS) || d->stats);
	CHECK(!davit_can(c, DAVIT_CAP_SIGNAL) || d->signal);
	CHECK(!davit_can(c, DAVIT_CAP_PORTS) || d->ports);
}

static void create_is_idempotent(void)
{
	struct thing *t = make(RUNS, 0);
	struct davit_inspection now;

	CHECK_INT(create(t), 0);
	CHECK_INT(create(t), 0);
	now = inspect(t);
	CHECK_INT(now.state, DAVIT_STATE_CREATED);
	CHECK_INT(now.run, 0);
	CHECK_INT(now.pid, 0);
	CHECK_INT(now.exit.kind, DAVIT_EXIT_NONE);
}

static void a_start_is_run_one(void)
{
	struct thing *t = running(RUNS, 0);
	struct davit_inspection now = inspect(t);
	int64_t age = davit_loop_wall(loop) - now.started;

	CHECK_INT(now.state, DAVIT_STATE_STARTED);
	CHECK_INT(now.run, 1);
	CHECK(now.pid > 0);
	CHECK(age >= -SEC && age < 60 * SEC);
	if (subject->real)
		CHECK_INT(kill(now.pid, 0), 0);
}

static void a_second_start_changes_nothing(void)
{
	struct thing *t = running(RUNS, 0);
	pid_t pid = inspect(t).pid;

	CHECK_INT(start(t), 0);
	CHECK_INT(inspect(t).run, 1);
	CHECK_INT(inspect(t).pid, pid);
	CHECK_INT(t->runs_told, 0);
}

static void runs_are_counted(void)
{
	struct thing *t = running(EXITS, 0);

	for (uint32_t run = 1; run <= 4; run++) {
		WAIT(t->runs_told == run);
		CHECK_INT(t->last_run, run);
		CHECK_INT(inspect(t).run, run);
		if (run < 4)
			CHECK_INT(start(t), 0);
	}
}

static void an_exit_code_is_told_once(void)
{
	struct thing *t;

	need(DAVIT_CAP_EXIT_STATUS);
	for (int code = 0; code <= 255; code += 85) {
		t = running(EXITS, code);
		WAIT(t->runs_told);
		CHECK_INT(t->exit.kind, DAVIT_EXIT_CODE);
		CHECK_INT(t->exit.code, code);
		CHECK(t->exit.time > 0);
		CHECK_INT(inspect(t).state, DAVIT_STATE_STOPPED);
		CHECK_INT(inspect(t).exit.code, code);
		CHECK_INT(stop(t, 0), 0);
		CHECK_INT(t->runs_told, 1);
	}
}

static void a_death_by_signal_is_told(void)
{
	static const int signals[] = {SIGKILL, SIGTERM, SIGSEGV, SIGUSR1};

	need(DAVIT_CAP_EXIT_STATUS);
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(signals); i++) {
		struct thing *t = running(DIES, signals[i]);
		WAIT(t->runs_told);
		CHECK_INT(t->exit.kind, DAVIT_EXIT_SIGNAL);
		CHECK_INT(t->exit.signal, signals[i]);
	}
}

static void exit_comes_before_the_stop_completes(void)
{
	struct thing *t = running(RUNS, 0);
	static struct call c;

	do_stop(&c, t, 5 * SEC, 0);
	CHECK_INT(result(&c), 0);
	CHECK_INT(c.runs_told, 1);
	CHECK_INT(t->exit.kind, DAVIT_EXIT_SIGNAL);
	CHECK_INT(t->exit.signal, SIGTERM);
	CHECK_INT(inspect(t).state, DAVIT_STATE_STOPPED);
	CHECK_INT(inspect(t).pid, 0);
}

static void the_grace_is_given_and_then_it_is_killed(void)
{
	struct thing *t = ignoring();
	int64_t began = davit_loop_now(loop), took;

	CHECK_INT(stop(t, 300 * MSEC), 0);
	took = davit_loop_now(loop) - began;
	CHECK(took >= 295 * MSEC && took < 5 * SEC);
	CHECK_INT(t->runs_told, 1);
	CHECK_INT(t->exit.signal, SIGKILL);
}

static void no_grace_is_a_kill(void)
{
	struct thing *t = ignoring();

	CHECK_INT(stop(t, 0), 0);
	CHECK_INT(t->exit.signal, SIGKILL);
	/* And it is as good as new. */
	CHECK_INT(start(t), 0);
	pass(50 * MSEC);
	CHECK_INT(inspect(t).state, DAVIT_STATE_STARTED);
	CHECK_INT(stop(t, 0), 0);
}

static void a_cancelled_stop_kills(void)
{
	struct thing *t = ignoring();
	int64_t began = davit_loop_now(loop);
	static struct call c;
	int r;

	do_stop(&c, t, 60 * SEC, 0);
	pass(50 * MSEC);
	CHECK_INT(c.done, 0);
	davit_op_cancel(&c.op);
	r = result(&c);
	CHECK(r == 0 || r == DAVIT_ECANCELED);
	WAIT(t->runs_told == 1);
	CHECK(davit_loop_now(loop) - began < 10 * SEC);
}

static void a_stop_keeps_its_deadline(void)
{
	struct thing *t = ignoring();
	static struct call c;
	int r;

	do_stop(&c, t, 60 * SEC, 100 * MSEC);
	r = result(&c);
	CHECK(r == 0 || r == DAVIT_ETIMEDOUT);
	CHECK_INT(stop(t, 0), 0);
	CHECK_INT(t->runs_told, 1);
}

static void stop_of_what_does_not_run_is_success(void)
{
	struct thing *t = make(EXITS, 0);

	CHECK_INT(stop(t, SEC), 0);
	CHECK_INT(create(t), 0);
	CHECK_INT(stop(t, SEC), 0);
	CHECK_INT(inspect(t).state, DAVIT_STATE_CREATED);
	CHECK_INT(start(t), 0);
	WAIT(t->runs_told);
	CHECK_INT(stop(t, SEC), 0);
	CHECK_INT(t->runs_told, 1);
	CHECK_INT(remove_(t), 0);
	CHECK_INT(stop(t, SEC), 0);
}

static void remove_refuses_what_runs(void)
{
	struct thing *t = running(RUNS, 0);

	CHECK_INT(remove_(t), DAVIT_ESTATE);
	CHECK_INT(inspect(t).state, DAVIT_STATE_STARTED);
	CHECK_INT(t->runs_told, 0);
}

static void remove_of_what_is_gone_is_success(void)
{
	struct thing *t = make(RUNS, 0);

	CHECK_INT(remove_(t), 0);
	CHECK_INT(create(t), 0);
	CHECK_INT(remove_(t), 0);
	CHECK_INT(remove_(t), 0);
	CHECK_INT(inspect(t).state, DAVIT_STATE_DESTROYED);
}

static void what_is_not_there_is_not_started(void)
{
	struct thing *t = make(RUNS, 0);

	CHECK_INT(start(t), DAVIT_ESTATE);
	CHECK_INT(inspect(t).state, DAVIT_STATE_DESTROYED);
}

static void what_was_started_is_not_created(void)
{
	struct thing *t = running(EXITS, 0);

	WAIT(t->runs_told);
	CHECK_INT(create(t), DAVIT_ESTATE);
	CHECK_INT(inspect(t).state, DAVIT_STATE_STOPPED);
	t = running(RUNS, 0);
	CHECK_INT(create(t), DAVIT_ESTATE);
	CHECK_INT(inspect(t).state, DAVIT_STATE_STARTED);
}

static void a_missing_program_fails_the_start(void)
{
	struct thing *t = make(MISSING, 0);

	CHECK_INT(create(t), 0);
	CHECK_INT(start(t), DAVIT_EEXEC);
	pass(100 * MSEC);
	CHECK_INT(t->runs_told, 0);
	CHECK_INT(inspect(t).state, DAVIT_STATE_CREATED);
	CHECK_INT(inspect(t).run, 0);
}

static void a_short_run_ends_after_its_start(void)
{
	static struct call c;

	for (int i = 0; i < 10; i++) {
		struct thing *t = make(EXITS, 0);
		CHECK_INT(create(t), 0);
		do_start(&c, t);
		CHECK_INT(result(&c), 0);
		CHECK_INT(c.runs_told, 0);
		WAIT(t->runs_told);
	}
}

static void fifty_at_once(void)
{
	enum { N = 50 };
	struct thing *t[N];
	static struct call c[N];

	for (int i = 0; i < N; i++) {
		t[i] = make(i % 2 ? EXITS : RUNS, i % 256);
		do_create(&c[i], t[i]);
	}
	for (int i = 0; i < N; i++) {
		CHECK_INT(result(&c[i]), 0);
		do_start(&c[i], t[i]);
	}
	for (int i = 0; i < N; i++)
		CHECK_INT(result(&c[i]), 0);
	for (int i = 1; i < N; i += 2) {
		WAIT(t[i]->runs_told);
		CHECK_INT(t[i]->exit.code, i % 256);
	}
	for (int i = 0; i < N; i++)
		do_stop(&c[i], t[i], 5 * SEC, 0);
	for (int i = 0; i < N; i++) {
		CHECK_INT(result(&c[i]), 0);
		CHECK_INT(c[i].done, 1);
		CHECK_INT(t[i]->runs_told, 1);
		do_remove(&c[i], t[i]);
	}
	for (int i = 0; i < N; i++)
		CHECK_INT(result(&c[i]), 0);
}

/* Gone, or dead and waiting for a parent that may be nobody of ours. */
static bool is_gone(pid_t pid)
{
	DAVIT_AUTO_BUF stat = DAVIT_BUF_INIT;
	const char *state;
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	if (davit_read_file(path, 4096, &stat, NULL) < 0)
		return true;
	state = strrchr(davit_buf_str(&stat), ')');
	return state && (state[2] == 'Z' || state[2] == 'X');
}

static bool same_namespace(const char *pid, const char *of)
{
	char path[64], a[64] = "", b[64] = "";

	snprintf(path, sizeof path, "/proc/%s/ns/pid", pid);
	if (readlink(path, a, sizeof a - 1) < 0)
		return false;
	snprintf(path, sizeof path, "/proc/%s/ns/pid", of);
	return readlink(path, b, sizeof b - 1) > 0 && !strcmp(a, b);
}

/* The number here of what is `pid` in the namespace of `main`; 0: there is none. */
static pid_t on_host(pid_t main, pid_t pid)
{
	char of[16], want[32], path[300];
	struct dirent *e;
	pid_t found = 0;
	DIR *dir = opendir("/proc");

	snprintf(of, sizeof of, "%d", (int)main);
	snprintf(want, sizeof want, "\t%d\n", (int)pid);
	while (!found && (e = readdir(dir))) {
		DAVIT_AUTO_BUF status = DAVIT_BUF_INIT;
		const char *numbers, *end;
		snprintf(path, sizeof path, "/proc/%s/status", e->d_name);
		if (atoi(e->d_name) <= 0 || davit_read_file(path, 65536, &status, NULL) < 0 ||
		    !same_namespace(e->d_name, of))
			continue;
		/* "NSpid:\t812\t7\n": the innermost is last. */
		numbers = strstr(davit_buf_str(&status), "\nNSpid:");
		end = numbers ? strchr(numbers + 1, '\n') : NULL;
		if (end && !strncmp(end + 1 - strlen(want), want, strlen(want)))
			found = (pid_t)atoi(e->d_name);
	}
	closedir(dir);
	return found;
}

static void a_stop_leaves_no_descendant(void)
{
	struct thing *t;
	pid_t daemon;

	need(DAVIT_CAP_TREE_STOP);
	need_real("nothing is executed by it, so nothing can fork");
	t = running(FORKS, 0);
	daemon = on_host(inspect(t).pid, (pid_t)atoi(log_line(t, 0)));
	CHECK(daemon > 1);
	CHECK(!is_gone(daemon));
	CHECK_INT(stop(t, SEC), 0);
	CHECK(is_gone(daemon));
}

static void ready_by_notify(void)
{
	struct thing *t;

	need(DAVIT_CAP_NOTIFY);
	t = make(NOTIFIES, 0);
	t->workload.ready = DAVIT_READY_NOTIFY;
	CHECK_INT(create(t), 0);
	CHECK_INT(start(t), 0);
	WAIT(t->ready);
	WAIT(!strcmp(t->status, "warming up"));
	pass(50 * MSEC);
	CHECK_INT(t->ready, 1);
	CHECK(inspect(t).ready);
	CHECK_STR(inspect(t).status, "warming up");
	CHECK_INT(stop(t, 5 * SEC), 0);
	/* Each run becomes ready anew. */
	CHECK_INT(start(t), 0);
	WAIT(t->ready == 2);
}

static void ready_by_descriptor(void)
{
	struct thing *t;

	need(DAVIT_CAP_READY_FD);
	t = make(READY_BY_FD, 5);
	t->workload.ready = DAVIT_READY_FD;
	t->workload.ready_fd = 5;
	CHECK_INT(create(t), 0);
	CHECK_INT(start(t), 0);
	WAIT(t->ready);
	pass(50 * MSEC);
	CHECK_INT(t->ready, 1);
	CHECK(inspect(t).ready);
}

/* --- what the program is given --- */

static const char *hex(const char *s)
{
	static char out[8192];
	size_t n = 0;

	for (; *s && n + 2 < sizeof out; s++)
		n += (size_t)snprintf(out + n, sizeof out - n, "%02x", (unsigned char)*s);
	out[n] = '\0';
	return out;
}

/* Beside what an image adds, in any place; else exactly, behind the first lines. */
static void variables_are_shown(struct thing *t, size_t first)
{
	DAVIT_AUTO_BUF want = DAVIT_BUF_INIT;

	for (size_t i = 0; t->env[i]; i++) {
		if (!subject->prepare) {
			CHECK_STR(log_line(t, first + i), hex(t->env[i]));
			continue;
		}
		davit_buf_reset(&want);
		davit_buf_addf(&want, "o:%s\n", hex(t->env[i]));
		log_has(t, davit_buf_str(&want));
	}
}

/* Better than to arrive changed. */
static void other_bytes_are_refused(const char *word)
{
	struct thing *t = make(SHOWS, 0);

	davit_strv_add(&t->argv, word);
	t->workload.argv = t->argv;
	CHECK_INT(create(t), DAVIT_ENOTSUP);
	CHECK_INT(inspect(t).state, DAVIT_STATE_DESTROYED);
}

static void words_and_variables_arrive_unchanged(void)
{
	static const char *const odd[] = {"",
					  " two  words ",
					  "new\nline",
					  "tab\tquote\"'\\ $HOME `x`",
					  "-n",
					  "gr\xc3\xbc\xc3\x9f",
					  "\x01\x1b[0m",
					  "a=b=c",
					  "*?[]{}~#;&|<>",
					  "\xff\xfe not UTF-8 \x80"};
	size_t n = DAVIT_ARRAY_SIZE(odd);
	struct thing *t;
	char value[128];

	need(DAVIT_CAP_LOGS);
	if (subject->engine)
		other_bytes_are_refused(odd[--n]);
	t = make(SHOWS, 0);
	davit_strv_free(t->env);
	t->env = NULL;
	for (size_t i = 0; i < n; i++) {
		davit_strv_add(&t->argv, odd[i]);
		snprintf(value, sizeof value, "ODD%zu=%s", i, odd[i]);
		davit_strv_add(&t->env, value);
	}
	t->workload.argv = t->argv;
	t->workload.env = t->env;
	CHECK_INT(create(t), 0);
	CHECK_INT(start(t), 0);
	for (size_t i = 0; i < n; i++)
		CHECK_STR(log_line(t, i), hex(odd[i]));
	variables_are_shown(t, n);
}

static void a_big_environment_arrives_whole(void)
{
	enum { VARIABLES = 40, SIZE = 3000 };
	struct thing *t;
	char value[SIZE + 1];

	need(DAVIT_CAP_LOGS);
	t = make(SHOWS, 0);
	davit_strv_free(t->env);
	t->env = NULL;
	for (int i = 0; i < VARIABLES; i++) {
		memset(value, 'a' + i % 26, SIZE);
		value[SIZE] = '\0';
		memcpy(value, "BIGA0=", 6);
		value[3] = (char)('A' + i / 10);
		value[4] = (char)('0' + i % 10);
		davit_strv_add(&t->env, value);
	}
	t->workload.env = t->env;
	t->workload.log.max_size = 1 << 20;
	CHECK_INT(create(t), 0);
	CHECK_INT(start(t), 0);
	if (!subject->real) { /* its log is a small ring: the last ones are enough */
		CHECK_INT(inspect(t).state, DAVIT_STATE_STARTED);
		return;
	}
	variables_are_shown(t, 0);
}

static void the_directory_is_honoured(void)
{
	struct thing *t;

	need(DAVIT_CAP_DIRECTORY);
	need(DAVIT_CAP_LOGS);
	t = make(SHOWS_DIRECTORY, 0);
	t->workload.directory = (char *)harness_home();
	CHECK_INT(create(t), 0);
	CHECK_INT(start(t), 0);
	CHECK_STR(log_line(t, 0), harness_home());
}

static void a_facet_without_its_capability_refuses(void)
{
	const struct davit_capabilities *can = harness_capabilities();
	const struct davit_runtime_driver *d = rt->driver;
	struct thing *t = running(RUNS, 0);
	struct davit_port port = {.host = 0};
	struct davit_stats stats;
	struct davit_error err;
	static struct call c;
	int refused = 0;

	if (d->stats && !davit_can(can, DAVIT_CAP_STATS) && ++refused) {
		begin(&c, t, 0);
		d->stats->read(t->inst, &stats, &c.op);
		CHECK_INT(result(&c), DAVIT_ENOTSUP);
		CHECK(strstr(c.op.error.message, can->why_not[DAVIT_CAP_STATS]));
	}
	if (d->signal && !davit_can(can, DAVIT_CAP_SIGNAL) && ++refused) {
		begin(&c, t, 0);
		d->signal->send(t->inst, SIGUSR1, &c.op);
		CHECK_INT(result(&c), DAVIT_ENOTSUP);
	}
	if (d->ports && !davit_can(can, DAVIT_CAP_PORTS) && ++refused)
		CHECK_INT(d->ports->resolve(rt, &port, 1, &err), DAVIT_ENOTSUP);
	if (d->exec && !davit_can(can, DAVIT_CAP_EXEC) && ++refused) {
		char *argv[] = {(char *)"true", NULL};
		static char room[sizeof(struct davit_exec) + (1 << 16)] __attribute__((aligned(16)));
		struct davit_exec *x = (struct davit_exec *)room;
		memset(room, 0, sizeof room);
		*x = (struct davit_exec){.instance = t->inst, .argv = argv};
		begin(&c, t, 0);
		d->exec->start(x, &c.op);
		CHECK_INT(result(&c), DAVIT_ENOTSUP);
	}
	if (!refused)
		skip("each facet that it has works");
}

const struct test lifecycle_tests[] = {
	{"the driver's table is whole", the_table_is_whole},
	{"each capability is there or has a reason, and its facet is there", capabilities_have_reasons},
	{"a facet without its capability refuses, with the reason", a_facet_without_its_capability_refuses},
	{"create is idempotent and runs nothing", create_is_idempotent},
	{"start runs it as run 1", a_start_is_run_one},
	{"a second start of what runs changes nothing", a_second_start_changes_nothing},
	{"each start after an end is the next run", runs_are_counted},
	{"an exit code is told once, and by inspect", an_exit_code_is_told_once},
	{"a death by signal is told as that signal", a_death_by_signal_is_told},
	{"a stop ends it by the signal, and the exit comes before the completion",
	 exit_comes_before_the_stop_completes},
	{"a stop gives the grace and then kills", the_grace_is_given_and_then_it_is_killed},
	{"a stop without grace kills", no_grace_is_a_kill},
	{"a cancelled stop kills at once", a_cancelled_stop_kills},
	{"a stop keeps its deadline", a_stop_keeps_its_deadline},
	{"a stop of what does not run is success", stop_of_what_does_not_run_is_success},
	{"a stop leaves no descendant, a daemon included", a_stop_leaves_no_descendant},
	{"remove refuses what runs and leaves it running", remove_refuses_what_runs},
	{"remove of what is gone is success", remove_of_what_is_gone_is_success},
	{"what was not created cannot be started", what_is_not_there_is_not_started},
	{"what was started cannot be created", what_was_started_is_not_created},
	{"a program that cannot be executed fails the start, which does not count as a run",
	 a_missing_program_fails_the_start},
	{"the end of a short run is told after its start completed", a_short_run_ends_after_its_start},
	{"fifty instances run at once and each ends once", fifty_at_once},
	{"readiness by notify is told once for each run, with the status", ready_by_notify},
	{"readiness by a descriptor is told once", ready_by_descriptor},
	{"arguments and variables with odd bytes arrive unchanged", words_and_variables_arrive_unchanged},
	{"a big environment arrives whole", a_big_environment_arrives_whole},
	{"the working directory is honoured", the_directory_is_honoured},
	{0},
};
