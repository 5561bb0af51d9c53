/* SPDX-License-Identifier: MIT
 *
 * Terminals of a driver whose instances live elsewhere: a keeper for them alone.
 */
#include "local/terminal.h"

#include "base/file.h"
#include "base/units.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

struct world {
	char dir[64], run[80], libexec[512];
	struct davit_loop *loop;
	struct davit_runtime rt;
	struct davit_workload workload;
	struct davit_instance inst;
	struct local_terminal_keeper keeper;
};

static int build(struct local_terminals *ts, const struct davit_terminal *t, struct davit_error *err)
{
	return local_terminal_build(ts->packet, t->argv[0], t->argv, t->env, "/", err);
}

static void open_keeper(struct world *w)
{
	assert_int_equal(local_terminal_keeper_open(&w->keeper, &w->rt, build, NULL), 0);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof *w);
	char exe[400];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);

	assert_non_null(w);
	assert_true(n > 0);
	exe[n] = '\0';
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	snprintf(w->libexec, sizeof w->libexec, "%s", dirname(exe));
	snprintf(w->dir, sizeof w->dir, "/tmp/davit-terminal-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	snprintf(w->run, sizeof w->run, "%s/run", w->dir);
	assert_int_equal(davit_loop_open(&w->loop, NULL), 0);
	w->rt = (struct davit_runtime){
		.loop = w->loop, .name = "elsewhere", .run_dir = w->run, .libexec_dir = w->libexec};
	snprintf(w->workload.id, sizeof w->workload.id, "00000000000000e1");
	w->inst = (struct davit_instance){.runtime = &w->rt, .workload = &w->workload};
	open_keeper(w);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	pid_t keeper = w->keeper.started ? w->keeper.client.pid : 0;

	local_terminal_keeper_close(&w->keeper);
	davit_loop_close(w->loop);
	/* It holds nothing, so it ends; it was inherited by us. */
	while (keeper > 0 && waitpid(keeper, NULL, 0) < 0 && errno == EINTR)
		;
	assert_int_equal(davit_remove_tree(w->dir, NULL), 0);
	free(w);
	return 0;
}

/* -------------------------------------------------------------------------- the loop */

struct wait {
	struct davit_op op;
	struct davit_loop *loop;
	bool done;
	int result;
};

static void on_done(struct davit_op *op, int result)
{
	struct wait *wait = op->user;

	wait->done = true;
	wait->result = result;
	davit_loop_stop(wait->loop);
}

static struct wait waiting;

static struct davit_op *begin(struct world *w)
{
	waiting = (struct wait){.loop = w->loop};
	davit_op_init(&waiting.op, w->loop, on_done, &waiting);
	davit_op_begin(&waiting.op, 60 * DAVIT_NSEC_PER_SEC);
	return &waiting.op;
}

static int result(struct world *w)
{
	while (!waiting.done)
		davit_loop_run(w->loop);
	return waiting.result;
}

static void on_tick(struct davit_timer *t)
{
	davit_loop_stop(t->loop);
}

static void turn(struct world *w, int ms)
{
	struct davit_timer t;

	davit_timer_init(&t, w->loop, on_tick);
	davit_timer_start(&t, ms * DAVIT_NSEC_PER_MSEC);
	davit_loop_run(w->loop);
	davit_timer_stop(&t);
}

/* Fails after a minute, which no machine is too busy for. */
#define WAIT_FOR(w, condition)                                                                               \
	do {                                                                                                 \
		for (int left_ = 60000; !(condition) && left_ > 0; left_ -= 5)                               \
			turn((w), 5);                                                                        \
		assert_true(condition);                                                                      \
	} while (0)

/* ------------------------------------------------------------------------ a terminal */

struct screen {
	struct davit_terminal *t;
	char text[4096];
	size_t len, total;
	bool pause;
	int ended, lost, drained;
	struct davit_exit exit;
};

static bool on_output(struct davit_terminal *t, const void *data, size_t n)
{
	struct screen *s = t->owner;

	if (s->len + n < sizeof s->text) {
		memcpy(s->text + s->len, data, n);
		s->len += n;
		s->text[s->len] = '\0';
	}
	s->total += n;
	return !s->pause;
}

static void on_drained(struct davit_terminal *t)
{
	((struct screen *)t->owner)->drained++;
}

static void on_ended(struct davit_terminal *t, const struct davit_exit *exit)
{
	struct screen *s = t->owner;

	s->ended++;
	s->exit = *exit;
}

static void on_lost(struct davit_terminal *t, const struct davit_error *why)
{
	assert_true(why->code < 0);
	((struct screen *)t->owner)->lost++;
}

static int screen_start(struct world *w, struct screen *s, bool opens, const char *script)
{
	char *env[] = {(char[]){"PATH=/usr/bin:/bin"}, NULL};
	char *argv[] = {(char[]){"/bin/sh"}, (char[]){"-c"}, (char *)(uintptr_t)script, NULL};

	memset(s, 0, sizeof *s);
	s->t = calloc(1, sizeof *s->t + LOCAL_TERMINAL_SIZE);
	assert_non_null(s->t);
	*s->t = (struct davit_terminal){.instance = &w->inst,
					.id = "00000000000000a1",
					.argv = argv,
					.env = env,
					.owner = s,
					.output = on_output,
					.drained = on_drained,
					.ended = on_ended,
					.lost = on_lost};
	if (opens)
		local_terminals_open(&w->keeper.set, s->t, begin(w));
	else
		local_terminals_attach(&w->keeper.set, s->t, begin(w));
	return result(w);
}

static void screen_end(struct screen *s)
{
	local_terminal_detach(s->t);
	free(s->t);
}

static void count(void *user, const struct davit_terminal_info *info)
{
	assert_string_equal(info->instance, "00000000000000e1");
	assert_string_equal(info->command, "/bin/sh -c read x; echo got $x; read y; exit 3");
	++*(int *)user;
}

static int list(struct world *w)
{
	int n = 0;

	local_terminals_list(&w->keeper.set, NULL, count, &n, begin(w));
	assert_int_equal(result(w), 0);
	return n;
}

static void the_keeper_is_started_with_the_first_terminal_and_found_by_the_next_daemon(void **state)
{
	static struct screen s;
	struct world *w = *state;

	assert_int_equal(list(w), 0);
	assert_int_equal(screen_start(w, &s, false, ""), DAVIT_ENOENT);
	screen_end(&s);
	assert_false(w->keeper.started);
	assert_int_equal(screen_start(w, &s, true, "read x; echo got $x; read y; exit 3"), 0);
	assert_int_equal(local_terminal_write(s.t, "this\n", 5), 5);
	WAIT_FOR(w, strstr(s.text, "got this\r\n"));
	local_terminal_keeper_close(&w->keeper);
	local_terminal_detach(s.t); /* harmless */
	free(s.t);
	open_keeper(w);
	assert_true(w->keeper.started);
	WAIT_FOR(w, w->keeper.client.phase == KEEPER_CLIENT_UP);
	assert_int_equal(list(w), 1);
	assert_int_equal(screen_start(w, &s, false, ""), 0);
	WAIT_FOR(w, strstr(s.text, "got this\r\n"));
	assert_int_equal(local_terminal_write(s.t, "\n", 1), 1);
	WAIT_FOR(w, s.ended);
	assert_int_equal(s.exit.code, 3);
	screen_end(&s);
	assert_int_equal(list(w), 0);
}

static void what_a_command_does_not_take_is_given_when_it_drains(void **state)
{
	static char data[1 << 20];
	static struct screen s;
	struct world *w = *state;
	size_t given = 0;

	memset(data, 'a', sizeof data);
	assert_int_equal(
		screen_start(w, &s, true, "stty raw -echo; echo ready; sleep 0.3; head -c 1048576 | wc -c"),
		0);
	WAIT_FOR(w, strstr(s.text, "ready"));
	while (given < sizeof data) {
		ssize_t n = local_terminal_write(s.t, data + given, sizeof data - given);
		assert_true(n >= 0);
		given += (size_t)n;
		if (given == sizeof data)
			break;
		int drained = s.drained;
		WAIT_FOR(w, s.drained > drained);
	}
	assert_true(s.drained > 0);
	WAIT_FOR(w, s.ended);
	assert_non_null(strstr(s.text, "1048576"));
	screen_end(&s);
}

static void a_reader_that_pauses_gets_nothing_and_loses_nothing(void **state)
{
	static struct screen s;
	struct world *w = *state;
	size_t had;

	s.pause = false;
	assert_int_equal(screen_start(w, &s, true, "stty -opost; head -c 3000000 /dev/zero"), 0);
	s.pause = true;
	WAIT_FOR(w, s.total > 0);
	turn(w, 100);
	had = s.total;
	turn(w, 200);
	assert_int_equal(s.total, had);
	assert_int_equal(s.ended, 0);
	s.pause = false;
	local_terminal_resume(s.t);
	WAIT_FOR(w, s.ended);
	assert_int_equal(s.total, 3000000);
	screen_end(&s);
}

static void the_death_of_the_keeper_is_told_as_the_loss_of_its_terminals(void **state)
{
	static struct screen s;
	struct world *w = *state;
	pid_t keeper;

	assert_int_equal(screen_start(w, &s, true, "exec sleep 1000"), 0);
	keeper = w->keeper.client.pid;
	kill(keeper, SIGKILL);
	WAIT_FOR(w, s.lost);
	assert_int_equal(s.ended, 0);
	screen_end(&s);
	while (waitpid(keeper, NULL, 0) < 0 && errno == EINTR)
		;
	/* Another one has none of it. */
	WAIT_FOR(w, w->keeper.client.phase == KEEPER_CLIENT_UP && w->keeper.client.pid != keeper);
	assert_int_equal(screen_start(w, &s, false, ""), DAVIT_ENOENT);
	screen_end(&s);
}

/* A keeper of before there were terminals: it greets, and knows nothing else. */
static pid_t old_keeper(struct world *w)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), fd;
	pid_t pid;

	snprintf(a.sun_path, sizeof a.sun_path, "%s/keeper-0.sock", w->run);
	assert_int_equal(bind(listener, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(listen(listener, 1), 0);
	pid = fork();
	if (pid > 0) {
		close(listener);
		return pid;
	}
	fd = accept(listener, NULL, NULL);
	for (union {
		     struct keeper_header h;
		     char bytes[8192];
	     } in;
	     recv(fd, &in, sizeof in, 0) > 0;) {
		struct keeper_welcome welcome = {.h = {.type = KEEPER_WELCOME,
						       .size = sizeof welcome,
						       .total = sizeof welcome,
						       .tag = in.h.tag},
						 .version = 1,
						 .pid = getpid(),
						 .slots_max = 1};
		struct keeper_done done = {.h = {.type = KEEPER_DONE,
						 .size = sizeof done,
						 .total = sizeof done,
						 .tag = in.h.tag},
					   .result = DAVIT_ENOTSUP};
		bool hello = in.h.type == KEEPER_HELLO;
		if (send(fd, hello ? (void *)&welcome : (void *)&done, hello ? sizeof welcome : sizeof done,
			 0) < 0)
			break;
	}
	_exit(0);
}

static void a_keeper_that_is_older_is_named_as_such(void **state)
{
	static struct screen s;
	struct world *w = *state;
	pid_t pid;

	local_terminal_keeper_close(&w->keeper);
	pid = old_keeper(w);
	open_keeper(w);
	WAIT_FOR(w, w->keeper.client.phase == KEEPER_CLIENT_UP);
	assert_int_equal(screen_start(w, &s, true, "true"), DAVIT_ENOTSUP);
	assert_non_null(strstr(waiting.op.error.message, "davit daemon upgrade"));
	screen_end(&s);
	assert_int_equal(list(w), 0); /* it has none */
	local_terminal_keeper_close(&w->keeper);
	waitpid(pid, NULL, 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(the_keeper_is_started_with_the_first_terminal_and_found_by_the_next_daemon),
		T(what_a_command_does_not_take_is_given_when_it_drains),
		T(a_reader_that_pauses_gets_nothing_and_loses_nothing),
		T(the_death_of_the_keeper_is_told_as_the_loss_of_its_terminals),
		T(a_keeper_that_is_older_is_named_as_such),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
