/* SPDX-License-Identifier: MIT
 *
 * Commands inside an instance, stats, signals, ports.
 */
#include "base/buf.h"
#include "test/conformance/harness.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>

struct command {
	struct davit_exec *x;
	char **argv;
	char out[4096], err[256];
	size_t n_out, n_err;
	bool pause;
	int exited;
	struct davit_exit exit;
};

static bool on_output(struct davit_exec *x, enum davit_stream stream, const void *data, size_t n)
{
	struct command *me = x->owner;
	bool err = stream == DAVIT_STDERR;
	char *to = err ? me->err : me->out;
	size_t *len = err ? &me->n_err : &me->n_out;
	size_t cap = err ? sizeof me->err : sizeof me->out;

	if (*len + n < cap) {
		memcpy(to + *len, data, n);
		to[*len + n] = '\0';
	}
	*len += n;
	return !me->pause;
}

static void on_exited(struct davit_exec *x, const struct davit_exit *exit)
{
	struct command *me = x->owner;

	me->exited++;
	me->exit = *exit;
}

static int open_command(struct command *me, struct thing *t, enum behaviour what, int n, char *const *env)
{
	static struct call c;
	size_t size;

	need(DAVIT_CAP_EXEC);
	size = sizeof *me->x + rt->driver->exec->exec_size;
	*me = (struct command){0};
	if (!subject->words(what, n, &me->argv))
		skip("%s has no such command", subject->name);
	me->x = calloc(1, size);
	*me->x = (struct davit_exec){.instance = t->inst,
				     .argv = me->argv,
				     .env = env,
				     .owner = me,
				     .output = on_output,
				     .exited = on_exited};
	begin(&c, t, 0);
	enter();
	rt->driver->exec->start(me->x, &c.op);
	leave();
	return result(&c);
}

static void close_command(struct command *me)
{
	rt->driver->exec->close(me->x);
	davit_strv_free(me->argv);
	free(me->x);
}

static void a_command_gives_output_and_code(void)
{
	struct thing *t = running(RUNS, 0);
	static struct command me;

	CHECK_INT(open_command(&me, t, X_SAYS, 5, NULL), 0);
	WAIT(me.exited);
	CHECK_STR(me.out, "out\n");
	CHECK_STR(me.err, "err\n");
	CHECK_INT(me.exit.kind, DAVIT_EXIT_CODE);
	CHECK_INT(me.exit.code, 5);
	CHECK_INT(me.exited, 1);
	close_command(&me);
	CHECK_INT(t->runs_told, 0);
}

static void put(struct command *me, const char *data, size_t n)
{
	while (n) {
		ssize_t took = rt->driver->exec->write(me->x, data, n);
		CHECK(took >= 0);
		data += took;
		n -= (size_t)took;
		if (!took)
			pass(5 * MSEC);
	}
}

static void a_command_reads_its_input(void)
{
	struct thing *t = running(RUNS, 0);
	static struct command me;

	CHECK_INT(open_command(&me, t, X_COPIES, 0, NULL), 0);
	put(&me, "one\n", 4);
	WAIT(me.n_out >= 4);
	put(&me, "t\0wo", 4);
	WAIT(me.n_out >= 8);
	CHECK_INT(memcmp(me.out, "one\nt\0wo", 8), 0);
	CHECK_INT(me.exited, 0);
	rt->driver->exec->close_input(me.x);
	WAIT(me.exited);
	CHECK_INT(me.exit.code, 0);
	close_command(&me);
}

static void a_command_has_the_environment_and_its_own(void)
{
	char *own[] = {(char *)"NAME=other", NULL};
	struct thing *t = running(RUNS, 0);
	static struct command me;

	CHECK_INT(open_command(&me, t, X_SHOWS_NAME, 0, NULL), 0);
	WAIT(me.exited);
	CHECK_STR(me.out, "value\n");
	close_command(&me);
	CHECK_INT(open_command(&me, t, X_SHOWS_NAME, 0, own), 0);
	WAIT(me.exited);
	CHECK_STR(me.out, "other\n");
	close_command(&me);
}

static void a_missing_command_fails(void)
{
	struct thing *t = running(RUNS, 0);
	static struct command me;

	CHECK_INT(open_command(&me, t, X_MISSING, 0, NULL), DAVIT_EEXEC);
	pass(50 * MSEC);
	CHECK_INT(me.exited, 0);
	close_command(&me);
}

static void a_command_needs_a_running_instance(void)
{
	struct thing *t = make(RUNS, 0);
	static struct command me;

	CHECK_INT(create(t), 0);
	CHECK_INT(open_command(&me, t, X_SAYS, 0, NULL), DAVIT_ESTATE);
	close_command(&me);
}

static void a_command_can_be_signalled_and_paused(void)
{
	struct thing *t = running(RUNS, 0);
	static struct command me;
	struct davit_error err;
	size_t n;

	CHECK_INT(open_command(&me, t, X_COPIES, 0, NULL), 0);
	me.pause = true;
	put(&me, "one\n", 4);
	WAIT(me.n_out >= 4);
	put(&me, "two\n", 4);
	n = me.n_out;
	pass(50 * MSEC);
	CHECK_INT(me.n_out, n);
	me.pause = false;
	rt->driver->exec->resume(me.x);
	WAIT(me.n_out >= 8);
	CHECK_INT(rt->driver->exec->signal(me.x, SIGKILL, &err), 0);
	WAIT(me.exited);
	CHECK_INT(me.exit.kind, DAVIT_EXIT_SIGNAL);
	CHECK_INT(me.exit.signal, SIGKILL);
	CHECK_INT(rt->driver->exec->signal(me.x, SIGKILL, &err), DAVIT_ESTATE);
	close_command(&me);
}

static void nothing_comes_from_a_closed_command(void)
{
	struct thing *t = running(RUNS, 0);
	static struct command me;

	CHECK_INT(open_command(&me, t, X_COPIES, 0, NULL), 0);
	put(&me, "one\n", 4);
	close_command(&me);
	me.exited = 0;
	me.n_out = 0;
	pass(100 * MSEC);
	CHECK_INT(me.exited, 0);
	CHECK_INT(me.n_out, 0);
}

/* --- stats --- */

static int stats(struct thing *t, struct davit_stats *ret)
{
	static struct call c;

	begin(&c, t, 0);
	enter();
	rt->driver->stats->read(t->inst, ret, &c.op);
	leave();
	return result(&c);
}

static void stats_are_sane(void)
{
	static struct davit_stats a, b;
	struct thing *t;

	need(DAVIT_CAP_STATS);
	t = running(KEEPS_PRINTING, 0);
	pass(200 * MSEC);
	CHECK_INT(stats(t, &a), 0);
	CHECK(a.processes >= 1 && a.processes < 10);
	CHECK(a.memory > 0 && a.memory < (uint64_t)1 << 32);
	CHECK(!a.memory_peak || a.memory_peak >= a.memory);
	CHECK(a.cpu_ns < (uint64_t)(60 * SEC));
	pass(100 * MSEC);
	CHECK_INT(stats(t, &b), 0);
	CHECK(b.cpu_ns >= a.cpu_ns);
	/* Unknown, or counted. */
	CHECK(a.net_rx_bytes >= -1 && b.net_rx_bytes >= a.net_rx_bytes);
	CHECK(a.net_tx_bytes >= -1 && b.net_tx_bytes >= a.net_tx_bytes);
	CHECK((a.net_rx_bytes < 0) == (a.net_tx_bytes < 0));
	CHECK_INT(stop(t, 5 * SEC), 0);
	CHECK_INT(stats(t, &b), DAVIT_ESTATE);
}

/* --- signals --- */

static int send_signal(struct thing *t, int signo)
{
	static struct call c;

	begin(&c, t, 0);
	enter();
	rt->driver->signal->send(t->inst, signo, &c.op);
	leave();
	return result(&c);
}

static void a_signal_arrives(void)
{
	struct thing *t;

	need(DAVIT_CAP_SIGNAL);
	t = make(RUNS, 0);
	CHECK_INT(create(t), 0);
	CHECK_INT(send_signal(t, SIGUSR1), DAVIT_ESTATE);
	CHECK_INT(start(t), 0);
	CHECK_INT(send_signal(t, SIGCONT), 0);
	pass(50 * MSEC);
	CHECK_INT(t->runs_told, 0);
	CHECK_INT(send_signal(t, SIGUSR1), 0);
	WAIT(t->runs_told);
	CHECK_INT(t->exit.signal, SIGUSR1);
	CHECK_INT(send_signal(t, SIGUSR1), DAVIT_ESTATE);
}

/* --- ports --- */

static void free_ports_are_chosen(void)
{
	struct davit_port ports[3] = {{.name = "a"}, {.name = "b"}, {.name = "c", .udp = true}};
	struct davit_error err;

	need(DAVIT_CAP_PORTS);
	CHECK_INT(rt->driver->ports->resolve(rt, ports, 3, &err), 0);
	CHECK(ports[0].host && ports[1].host && ports[2].host);
	CHECK(ports[0].host != ports[1].host);
	CHECK_STR(ports[1].name, "b");
}

static void a_taken_port_is_refused(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	DAVIT_AUTO_CLOSE int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct davit_port port = {0}, two[2] = {{.host = 0}, {.host = 0}};
	socklen_t len = sizeof a;
	struct davit_error err;
	char want[64];

	need(DAVIT_CAP_PORTS);
	need_real("its ports are not the host's");
	CHECK(bind(fd, (struct sockaddr *)&a, len) == 0 && listen(fd, 1) == 0);
	CHECK_INT(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	port.host = two[1].host = ntohs(a.sin_port);
	CHECK_INT(rt->driver->ports->resolve(rt, &port, 1, &err), DAVIT_EINUSE);
	snprintf(want, sizeof want, "port %u is already in use", port.host);
	CHECK(!strncmp(err.message, want, strlen(want))); /* and by whom, perhaps */
	/* Refused as a whole: nothing was changed. */
	CHECK_INT(rt->driver->ports->resolve(rt, two, 2, &err), DAVIT_EINUSE);
	CHECK_INT(two[0].host, 0);
}

const struct test facet_tests[] = {
	{"exec: a command gives its output, both streams, and its exit code",
	 a_command_gives_output_and_code},
	{"exec: a command reads its input, any bytes, until it is closed", a_command_reads_its_input},
	{"exec: a command has the instance's environment and its own",
	 a_command_has_the_environment_and_its_own},
	{"exec: a command that cannot be executed fails the start", a_missing_command_fails},
	{"exec: a command needs a running instance", a_command_needs_a_running_instance},
	{"exec: a command can be paused and signalled", a_command_can_be_signalled_and_paused},
	{"exec: nothing comes from a command that was closed", nothing_comes_from_a_closed_command},
	{"stats are sane, never shrink, and need a running instance", stats_are_sane},
	{"a signal arrives at what runs and is refused elsewhere", a_signal_arrives},
	{"ports: free ones are chosen, each another", free_ports_are_chosen},
	{"ports: a taken one is refused by its number", a_taken_port_is_refused},
	{0},
};
