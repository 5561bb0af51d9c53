/* SPDX-License-Identifier: MIT
 *
 * Logs that are followed, further commands, ports, and lookups.
 */
#include "runtime/process/lookup.h"
#include "runtime/process/testing.h"

#include "base/units.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

static const struct davit_runtime_driver *const driver = &davit_process_driver;

/* ------------------------------------------------------------------------- logs */

struct follower {
	struct davit_log_reader *r;
	unsigned next, n;
	bool paused, ended;
};

static bool on_line(struct davit_log_reader *r, const struct davit_log_line *line)
{
	struct follower *f = r->owner;
	unsigned v;

	assert_int_equal(sscanf(line->text, "%u", &v), 1);
	assert_int_equal(v, f->next++);
	if (++f->n % 100 == 0) {
		f->paused = true;
		return false;
	}
	return true;
}

static void on_end(struct davit_log_reader *r, int code, const struct davit_error *err)
{
	(void)code;
	(void)err;
	((struct follower *)r->owner)->ended = true;
}

static struct follower *follow(struct guest *g, struct davit_log_query q)
{
	struct follower *f = calloc(1, sizeof *f);

	assert_non_null(f);
	f->r = calloc(1, sizeof *f->r + driver->logs->reader_size);
	assert_non_null(f->r);
	*f->r = (struct davit_log_reader){
		.instance = g->inst, .query = q, .owner = f, .line = on_line, .end = on_end};
	assert_int_equal(driver->logs->open(f->r, NULL), 0);
	return f;
}

static void unfollow(struct follower *f)
{
	driver->logs->close(f->r);
	driver->logs->close(f->r);
	free(f->r);
	free(f);
}

static void a_follower_sees_each_line_once_while_files_are_rotated(void **state)
{
	struct world *w = *state;
	struct guest *g =
		world_guest(w, "i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); done; exec sleep 60");
	struct follower *f;

	g->w.log.max_size = 16384;
	g->w.log.max_files = 50;
	assert_int_equal(guest_create(g), 0);
	f = follow(g, (struct davit_log_query){.tail = -1, .follow = true});
	turn(w, 20);
	assert_int_equal(guest_start(g), 0);
	for (int i = 0; i < 12000 && f->n < 3000; i++) {
		turn(w, 5);
		if (f->paused) {
			unsigned n = f->n;

			turn(w, 5);
			assert_int_equal(f->n, n);
			f->paused = false;
			driver->logs->resume(f->r);
		}
	}
	assert_int_equal(f->n, 3000);
	assert_false(f->ended);
	unfollow(f);
}

static void a_log_is_kept_until_it_is_discarded(void **state)
{
	struct world *w = *state;
	struct guest *g = world_guest(w, "echo 1; echo 2; echo 3 >&2");
	char dir[160];
	struct stat st;

	guest_run(g);
	WAIT_FOR(w, g->exits == 1);
	DAVIT_AUTO_FREE char *two = guest_log(g, 2);
	assert_string_equal(two, "stdout 2\nstderr 3\n");
	assert_int_equal(guest_remove(g), 0);
	snprintf(dir, sizeof dir, "%s/%s", w->log, g->w.id);
	assert_int_equal(stat(dir, &st), 0);
	driver->logs->discard(w->rt, "../log");
	assert_int_equal(stat(dir, &st), 0);
	driver->logs->discard(w->rt, g->w.id);
	assert_int_equal(stat(dir, &st), -1);
}

/* ------------------------------------------------------------------------- exec */

struct command {
	struct davit_exec *x;
	struct davit_op op;
	struct davit_buf out, err;
	int started; /* result + 1 */
	unsigned exits;
	struct davit_exit exit;
	bool pause;
};

static bool on_output(struct davit_exec *x, enum davit_stream stream, const void *data, size_t n)
{
	struct command *c = x->owner;

	davit_buf_add(stream == DAVIT_STDOUT ? &c->out : &c->err, data, n);
	return !c->pause;
}

static void on_command_exit(struct davit_exec *x, const struct davit_exit *exit)
{
	struct command *c = x->owner;

	c->exits++;
	c->exit = *exit;
}

static void on_started(struct davit_op *op, int result)
{
	((struct command *)op->user)->started = result + 1;
}

static struct command *command_launch(struct world *w, struct guest *g, char *const *argv, bool tty,
				      bool pause)
{
	struct command *c = calloc(1, sizeof *c);

	assert_non_null(c);
	c->x = calloc(1, sizeof *c->x + driver->exec->exec_size);
	assert_non_null(c->x);
	c->pause = pause;
	*c->x = (struct davit_exec){
		.instance = g->inst,
		.argv = argv,
		.tty = tty,
		.rows = 33,
		.columns = 77,
		.owner = c,
		.output = on_output,
		.exited = on_command_exit,
	};
	davit_op_init(&c->op, w->loop, on_started, c);
	davit_op_begin(&c->op, 0);
	driver->exec->start(c->x, &c->op);
	WAIT_FOR(w, c->started);
	return c;
}

static struct command *command_start(struct world *w, struct guest *g, char *const *argv, bool tty)
{
	return command_launch(w, g, argv, tty, false);
}

static void command_end(struct command *c)
{
	driver->exec->close(c->x);
	davit_buf_fini(&c->out);
	davit_buf_fini(&c->err);
	free(c->x);
	free(c);
}

#define SHELL(script) ((char *const[]){(char[]){"sh"}, (char[]){"-c"}, (char[]){script}, NULL})

static void a_command_runs_inside_with_its_streams(void **state)
{
	struct world *w = *state;
	struct guest *g = world_guest(w, "exec sleep 60");
	struct command *c;

	guest_run(g);
	c = command_start(w, g, SHELL("cat; echo problem >&2; exit 5"), false);
	assert_int_equal(c->started, 1);
	assert_int_equal(driver->exec->write(c->x, "hello\n", 6), 6);
	driver->exec->close_input(c->x);
	WAIT_FOR(w, c->exits == 1);
	assert_string_equal(davit_buf_str(&c->out), "hello\n");
	assert_string_equal(davit_buf_str(&c->err), "problem\n");
	assert_int_equal(c->exit.kind, DAVIT_EXIT_CODE);
	assert_int_equal(c->exit.code, 5);
	assert_true(driver->exec->write(c->x, "x", 1) < 0);
	command_end(c);
}

static void a_command_that_writes_much_is_heard_to_its_end(void **state)
{
	struct world *w = *state;
	struct guest *g = world_guest(w, "exec sleep 60");
	struct command *c;

	guest_run(g);
	c = command_launch(w, g, SHELL("head -c 3000000 /dev/zero"), false, true);
	turn(w, 100);
	assert_true(c->out.len < 200000);
	assert_int_equal(c->exits, 0);
	c->pause = false;
	driver->exec->resume(c->x);
	WAIT_FOR(w, c->exits == 1);
	assert_int_equal(c->out.len, 3000000);
	command_end(c);
}

static void a_command_can_have_a_terminal(void **state)
{
	struct world *w = *state;
	struct guest *g = world_guest(w, "exec sleep 60");
	struct command *c;

	guest_run(g);
	c = command_start(w, g, SHELL("tty; stty size; read x; stty size; echo got:$x"), true);
	WAIT_FOR(w, strstr(davit_buf_str(&c->out), "33 77"));
	assert_non_null(strstr(c->out.data, "/dev/pts/"));
	driver->exec->resize(c->x, 40, 100);
	assert_int_equal(driver->exec->write(c->x, "abc\n", 4), 4);
	WAIT_FOR(w, c->exits == 1);
	assert_non_null(strstr(c->out.data, "40 100"));
	assert_non_null(strstr(c->out.data, "got:abc"));
	command_end(c);
}

static void a_command_is_signalled_and_killed_when_closed(void **state)
{
	struct world *w = *state;
	struct guest *g = world_guest(w, "exec sleep 60");
	struct command *c, *d;
	int64_t pid;

	guest_run(g);
	c = command_start(w, g, SHELL("trap 'exit 6' USR1; echo up; while :; do sleep 0.02; done"), false);
	WAIT_FOR(w, c->out.len > 0);
	assert_int_equal(driver->exec->signal(c->x, SIGUSR1, NULL), 0);
	WAIT_FOR(w, c->exits == 1);
	assert_int_equal(c->exit.code, 6);
	assert_int_equal(driver->exec->signal(c->x, SIGUSR1, NULL), DAVIT_ESTATE);
	command_end(c);
	d = command_start(w, g, SHELL("echo $$; exec sleep 62"), false);
	WAIT_FOR(w, d->out.len > 0);
	pid = strtol(d->out.data, NULL, 10);
	assert_true(alive((pid_t)pid));
	command_end(d);
	WAIT_FOR(w, !alive((pid_t)pid));
	assert_int_equal(guest_inspect(g).state, DAVIT_STATE_STARTED);
}

static void a_command_that_cannot_run_says_why(void **state)
{
	struct world *w = *state;
	struct guest *g = world_guest(w, "exec sleep 60");
	struct command *c;

	assert_int_equal(guest_create(g), 0);
	c = command_start(w, g, SHELL("true"), false);
	assert_int_equal(c->started, DAVIT_ESTATE + 1);
	command_end(c);
	assert_int_equal(guest_start(g), 0);
	c = command_start(w, g, (char *const[]){(char[]){"no-such-program"}, NULL}, false);
	assert_int_equal(c->started, DAVIT_EEXEC + 1);
	assert_string_equal(c->op.error.message, "executable 'no-such-program' not found in PATH");
	assert_int_equal(c->exits, 0);
	command_end(c);
}

/* ------------------------------------------------------------------------ ports */

static int listen_somewhere(uint16_t *ret_port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	*ret_port = ntohs(a.sin_port);
	return fd;
}

static void a_taken_port_is_refused_with_its_owner(void **state)
{
	struct world *w = *state;
	struct davit_error err = {0};
	struct davit_port p = {0};
	char want[128];
	int fd = listen_somewhere(&p.host);
	uint16_t port = p.host;

	assert_int_equal(driver->ports->resolve(w->rt, &p, 1, &err), DAVIT_EINUSE);
	snprintf(want, sizeof want, "port %u is already in use by test-process-fa (pid %d)", port,
		 (int)getpid());
	assert_string_equal(err.message, want);
	assert_int_equal(p.host, port);
	close(fd);
	assert_int_equal(driver->ports->resolve(w->rt, &p, 1, &err), 0);
	p.udp = true;
	assert_int_equal(driver->ports->resolve(w->rt, &p, 1, &err), 0);
}

static void free_ports_are_chosen_and_not_given_twice(void **state)
{
	struct world *w = *state;
	struct guest *g = world_guest(w, "exec sleep 60");
	struct davit_port p[40] = {0}, one = {0};
	bool seen[65536] = {0};
	struct davit_error err;

	assert_int_equal(driver->ports->resolve(w->rt, p, 20, &err), 0);
	assert_int_equal(driver->ports->resolve(w->rt, p + 20, 20, &err), 0);
	for (int i = 0; i < 40; i++) {
		assert_true(p[i].host > 0);
		assert_false(seen[p[i].host]);
		seen[p[i].host] = true;
	}
	/* While an instance has it, it is not chosen even though nothing listens. */
	g->w.ports = p;
	g->w.n_ports = 1;
	assert_int_equal(guest_create(g), 0);
	assert_int_equal(local_runtime_of(w->rt)->ports.claimed[0][p[0].host], 1);
	assert_int_equal(guest_remove(g), 0);
	assert_int_equal(local_runtime_of(w->rt)->ports.claimed[0][p[0].host], 0);
	one.container = 8099;
	one.host = 8098;
	assert_int_equal(driver->ports->resolve(w->rt, &one, 1, &err), DAVIT_ENOTSUP);
	assert_string_equal(
		err.message,
		"container port 8099 cannot differ from host port 8098: this runtime maps no ports");
	snprintf(one.bind, sizeof one.bind, "not-an-address");
	one.container = 0;
	assert_int_equal(driver->ports->resolve(w->rt, &one, 1, &err), DAVIT_EINVAL);
	snprintf(one.bind, sizeof one.bind, "203.0.113.7");
	assert_int_equal(driver->ports->resolve(w->rt, &one, 1, &err), DAVIT_EINVAL);
	assert_string_equal(err.message, "203.0.113.7 is not an address of this host");
	g->w.n_ports = 0;
}

/* ---------------------------------------------------------------------- lookups */

static void users_are_found_by_name_and_number(void **state)
{
	struct process_user u;
	struct davit_error err;

	(void)state;
	assert_int_equal(process_user_lookup("root", &u, &err), 0);
	assert_int_equal(u.uid, 0);
	assert_true(u.n_groups >= 1);
	process_user_fini(&u);
	assert_int_equal(process_user_lookup("0:daemon", &u, &err), 0);
	assert_int_equal(u.gid, 1);
	process_user_fini(&u);
	assert_int_equal(process_user_lookup("54321:54322", &u, &err), 0);
	assert_int_equal(u.uid, 54321);
	assert_int_equal(u.gid, 54322);
	assert_int_equal(u.n_groups, 0);
	process_user_fini(&u);
	assert_int_equal(process_user_lookup("no-such-user", &u, &err), DAVIT_ENOENT);
	assert_int_equal(process_user_lookup("root:no-such-group", &u, &err), DAVIT_ENOENT);
	assert_int_equal(process_user_lookup(":daemon", &u, &err), DAVIT_EINVAL);
	assert_int_equal(process_user_lookup("root:", &u, &err), DAVIT_EINVAL);
}

static void programs_are_found_in_the_workloads_path(void **state)
{
	struct world *w = *state;
	char path[300], program[160];
	char *env[] = {path, NULL};
	struct davit_error err;
	char *found;

	snprintf(program, sizeof program, "%s/tool", w->dir);
	snprintf(path, sizeof path, "PATH=/nowhere:%s:/bin", w->dir);
	/* A file that may not be executed, or a directory, is passed over. */
	FILE *f = fopen(program, "we");
	assert_non_null(f);
	fclose(f);
	assert_int_equal(process_program_lookup("tool", env, NULL, &found, &err), DAVIT_EEXEC);
	assert_string_equal(err.message, "'tool' in PATH may not be executed");
	assert_int_equal(err.sys_errno, EACCES);
	assert_int_equal(process_program_lookup("no-tool", env, NULL, &found, &err), DAVIT_EEXEC);
	assert_string_equal(err.message, "executable 'no-tool' not found in PATH");
	assert_int_equal(err.sys_errno, ENOENT);
	assert_int_equal(chmod(program, 0700), 0);
	assert_int_equal(process_program_lookup("tool", env, NULL, &found, &err), 0);
	assert_string_equal(found, program);
	free(found);
	assert_int_equal(process_program_lookup("./tool", env, w->dir, &found, &err), 0);
	assert_string_equal(found + strlen(w->dir), "/./tool");
	free(found);
	env[0] = NULL;
	assert_int_equal(process_program_lookup("sh", env, NULL, &found, &err), 0);
	free(found);
	assert_int_equal(process_program_lookup("", env, NULL, &found, &err), DAVIT_EEXEC);
}

static void a_workload_runs_as_its_user_in_its_directory(void **state)
{
	struct world *w = *state;
	struct guest *g = world_guest(w, "id -u; id -g; pwd; umask");

	world_need(w, DAVIT_CAP_USER);
	g->w.user = (char *)(uintptr_t) "daemon";
	g->w.directory = (char *)(uintptr_t) "/usr/bin";
	g->w.umask = 027;
	guest_run(g);
	WAIT_FOR(w, g->exits == 1);
	DAVIT_AUTO_FREE char *log = guest_log(g, -1);
	assert_string_equal(log, "stdout 1\nstdout 1\nstdout /usr/bin\nstdout 0027\n");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_follower_sees_each_line_once_while_files_are_rotated),
		TEST(a_log_is_kept_until_it_is_discarded),
		TEST(a_command_runs_inside_with_its_streams),
		TEST(a_command_that_writes_much_is_heard_to_its_end),
		TEST(a_command_can_have_a_terminal),
		TEST(a_command_is_signalled_and_killed_when_closed),
		TEST(a_command_that_cannot_run_says_why),
		TEST(a_taken_port_is_refused_with_its_owner),
		TEST(free_ports_are_chosen_and_not_given_twice),
		cmocka_unit_test(users_are_found_by_name_and_number),
		TEST(programs_are_found_in_the_workloads_path),
		TEST(a_workload_runs_as_its_user_in_its_directory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
