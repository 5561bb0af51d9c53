/* SPDX-License-Identifier: MIT
 *
 * The exec facet: a further command beside an instance, with pipes or a
 * terminal. The keeper starts it and tells its end; its streams are ours.
 */
#include "local/local.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>

#define READ_MAX 65536
#define END_OF_TEXT 4 /* Ctrl-D */

/* Apart from the core's object: that may be freed in any callback, by close. */
struct exec {
	struct davit_exec *x; /* NULL once closed */
	struct local_runtime *runtime;
	struct local_keeper *keeper;
	struct keeper_request q;
	struct davit_list list;
	struct davit_op *op; /* until it runs */
	char id[DAVIT_ID_MAX];
	unsigned command; /* the driver's number for it */
	int sent;	  /* the last signal that went to the command itself, or 0 */
	bool tty, running, ended, paused, reading;
	int in;	    /* what we write to; the terminal's master too, -1 when closed */
	int out[2]; /* what we read from; -1 when at its end */
	struct local_poll *poll[2];
	struct davit_exit exit;
	struct davit_deferred finish; /* the last output and `exited`, outside of the client's callback */
};

static struct exec **slot_of(struct davit_exec *x)
{
	return (struct exec **)(void *)(x + 1);
}

static void close_output(struct exec *e, int i)
{
	local_poll_close(DAVIT_TAKE(e->poll[i]));
	if (e->out[i] >= 0 && e->out[i] != e->in)
		close(e->out[i]);
	e->out[i] = -1;
}

static void exec_free(struct exec *e)
{
	davit_deferred_cancel(&e->finish);
	keeper_client_forget(&e->keeper->client, &e->q);
	close_output(e, 0);
	close_output(e, 1);
	if (e->in >= 0)
		close(e->in);
	davit_list_remove(&e->list);
	free(e);
}

static void exec_close(struct exec *e)
{
	*slot_of(e->x) = NULL;
	e->x = NULL;
	if (!e->reading)
		exec_free(e);
}

/* ----------------------------------------------------------------------- output */

/* Reads what is there, at most once around when `all` is not set. False when the
 * command was closed in a callback: e is then gone. */
static bool read_output(struct exec *e, int i, bool all)
{
	char buf[READ_MAX];
	ssize_t n;

	e->reading = true;
	do {
		n = DAVIT_EINTR(read(e->out[i], buf, sizeof buf));
		if (n <= 0)
			break;
		e->paused = !e->x->output(e->x, i ? DAVIT_STDERR : DAVIT_STDOUT, buf, (size_t)n);
	} while (all && e->x && !e->paused);
	e->reading = false;
	if (!e->x) {
		exec_free(e);
		return false;
	}
	/* A terminal whose other side is closed says EIO. */
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK))
		close_output(e, i);
	return true;
}

static void watch_outputs(struct exec *e)
{
	for (int i = 0; i < 2; i++)
		if (e->poll[i])
			local_poll_set(e->poll[i], e->paused ? 0 : LOCAL_READABLE);
}

static void on_output(struct exec *e, int i)
{
	if (read_output(e, i, false))
		watch_outputs(e);
}

static void on_stdout(void *user, int events)
{
	(void)events;
	on_output(user, 0);
}

static void on_stderr(void *user, int events)
{
	(void)events;
	on_output(user, 1);
}

/* The command ended: what it wrote is in the pipes. Descendants that still hold
 * them are not waited for. */
static void on_finish(struct davit_deferred *d)
{
	struct exec *e = DAVIT_CONTAINER_OF(d, struct exec, finish);
	struct davit_exec *x;

	for (int i = 0; i < 2 && !e->paused; i++)
		if (e->out[i] >= 0 && !read_output(e, i, true))
			return;
	watch_outputs(e);
	if (e->paused)
		return; /* `resume` comes back here */
	close_output(e, 0);
	close_output(e, 1);
	e->running = false;
	x = e->x;
	x->exited(x, &e->exit);
}

/* ---------------------------------------------------------------------- starting */

static void end_run(struct exec *e, const struct davit_exit *exit)
{
	e->exit = *exit;
	e->ended = true;
	davit_defer(&e->finish);
}

static void fail_start(struct exec *e, const struct davit_error *err)
{
	struct davit_op *op = DAVIT_TAKE(e->op);

	*slot_of(e->x) = NULL;
	exec_free(e);
	davit_op_fail_error(op, err);
}

static void on_spawned(struct exec *e)
{
	struct davit_error err = {0};

	for (int i = 0; i < 2; i++)
		if (e->out[i] >= 0 && local_poll_open(e->runtime->rt->loop, e->out[i], LOCAL_READABLE,
						      i ? on_stderr : on_stdout, e, &e->poll[i], &err) < 0) {
			close_output(e, i); /* the command goes on, unheard; it cannot be undone */
		}
	e->running = true;
	davit_op_complete(DAVIT_TAKE(e->op), 0);
}

static void on_answer(struct keeper_request *q, const struct keeper_header *h, const struct davit_error *why)
{
	struct exec *e = DAVIT_CONTAINER_OF(q, struct exec, q);
	struct davit_error err = {0};
	struct davit_exit exit = {.kind = DAVIT_EXIT_UNKNOWN};

	if (h && h->type == KEEPER_SPAWNED && e->op) {
		on_spawned(e);
		return;
	}
	if (h && h->type == KEEPER_EXEC_EXITED && h->size >= sizeof(struct keeper_exited)) {
		local_exit_of(&((const struct keeper_exited *)(const void *)h)->exit, &exit);
		/* A program that runs the command for us can only say so. */
		if (e->sent && exit.kind == DAVIT_EXIT_CODE && exit.code == 128 + e->sent) {
			exit.kind = DAVIT_EXIT_SIGNAL;
			exit.signal = e->sent;
			exit.code = 0;
		}
	} else if (h && h->type == KEEPER_DONE && h->size >= sizeof(struct keeper_done)) {
		const struct keeper_done *d = (const void *)h;

		davit_error_set(&err, d->result < 0 ? d->result : DAVIT_EPROTO, NULL, "%s",
				(const char *)h + h->size);
		err.sys_errno = d->sys_errno;
	} else if (why) {
		err = *why;
	}
	if (e->op) {
		if (!err.code)
			davit_error_set(&err, DAVIT_EPROTO, "keeper",
					"the keeper gave an answer that makes no sense");
		fail_start(e, &err);
		return;
	}
	if (err.code)
		snprintf(exit.reason, sizeof exit.reason, "%s", err.message);
	end_run(e, &exit);
}

static void on_cancel(struct davit_op *op, int why)
{
	struct davit_error err = {0};

	davit_error_set(&err, why, ((struct exec *)op->performer)->runtime->rt->name,
			"the keeper did not answer in time");
	fail_start(op->performer, &err);
}

static int open_terminal(struct exec *e, int theirs[3], struct davit_error *err)
{
	struct winsize size = {.ws_row = e->x->rows, .ws_col = e->x->columns};
	DAVIT_AUTO_CLOSE int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	DAVIT_AUTO_CLOSE int slave = -1;
	struct termios mode;

	if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0)
		return davit_error_errno(err, errno, "exec", "cannot make a terminal");
	slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		return davit_error_errno(err, errno, "exec", "cannot open the terminal's other side");
	if (size.ws_row && size.ws_col)
		ioctl(master, TIOCSWINSZ, &size);
	if (e->runtime->ops->passes_terminals && tcgetattr(slave, &mode) == 0) {
		cfmakeraw(&mode);
		tcsetattr(slave, TCSANOW, &mode);
	}
	theirs[1] = fcntl(slave, F_DUPFD_CLOEXEC, 3);
	theirs[2] = fcntl(slave, F_DUPFD_CLOEXEC, 3);
	if (theirs[1] < 0 || theirs[2] < 0 || fcntl(master, F_SETFL, O_NONBLOCK) < 0)
		return davit_error_errno(err, errno, "exec", "cannot set up the terminal");
	theirs[0] = DAVIT_TAKE_FD(slave);
	e->in = e->out[0] = DAVIT_TAKE_FD(master);
	return 0;
}

static int open_pipes(struct exec *e, int theirs[3], struct davit_error *err)
{
	int p[2];

	for (int i = 0; i < 3; i++) {
		int ours;

		if (pipe2(p, O_CLOEXEC) < 0)
			return davit_error_errno(err, errno, "exec", "cannot make a pipe");
		/* Standard input is written, the others are read by us. */
		theirs[i] = i ? p[1] : p[0];
		ours = i ? p[0] : p[1];
		if (i)
			e->out[i - 1] = ours;
		else
			e->in = ours;
		if (fcntl(ours, F_SETFL, O_NONBLOCK) < 0)
			return davit_error_errno(err, errno, "exec", "cannot set up a pipe");
	}
	return 0;
}

static int send_start(struct exec *e, struct local_instance *pi, struct davit_error *err)
{
	int theirs[3] = {-1, -1, -1};
	int r = e->tty ? open_terminal(e, theirs, err) : open_pipes(e, theirs, err);

	if (!r)
		r = e->runtime->ops->build_exec(pi, e->x, err);
	e->command = e->runtime->command;
	if (!r)
		return keeper_client_send(&e->keeper->client, &e->runtime->packet, theirs, 3, &e->q, err);
	for (int i = 0; i < 3; i++)
		if (theirs[i] >= 0)
			close(theirs[i]);
	return r;
}

static void exec_start(struct davit_exec *x, struct davit_op *op)
{
	struct local_instance *pi = local_instance_of(x->instance);
	struct davit_error err = {0};
	struct exec *e;

	if (!pi->inst || pi->state != DAVIT_STATE_STARTED || pi->paused || pi->pausing) {
		davit_op_fail(op, DAVIT_ESTATE, x->instance->runtime->name,
			      pi->paused || pi->pausing ? "the instance is paused"
							: "the instance does not run");
		return;
	}
	e = calloc(1, sizeof *e);
	if (!e) {
		davit_op_fail(op, DAVIT_ENOMEM, x->instance->runtime->name, "out of memory");
		return;
	}
	e->x = x;
	e->runtime = local_runtime_of(x->instance->runtime);
	e->keeper = pi->keeper;
	e->q = (struct keeper_request){.answer = on_answer, .lasting = true};
	e->op = op;
	memcpy(e->id, pi->id, sizeof e->id);
	e->tty = x->tty;
	e->in = e->out[0] = e->out[1] = -1;
	davit_list_init(&e->list);
	davit_list_add_tail(&e->runtime->execs, &e->list);
	davit_deferred_init(&e->finish, e->runtime->rt->loop, on_finish);
	*slot_of(x) = e;
	if (send_start(e, pi, &err) < 0) {
		fail_start(e, &err);
		return;
	}
	op->performer = e;
	davit_op_on_cancel(op, on_cancel);
}

bool local_exec_starting(const struct local_instance *pi)
{
	const struct exec *e;

	DAVIT_LIST_FOREACH (e, &local_runtime_of(pi->inst->runtime)->execs, list)
		if (e->op && e->x && e->x->instance == pi->inst)
			return true;
	return false;
}

/* ------------------------------------------------------------------------- input */

/* write(2) without SIGPIPE, whatever the process does with that signal. */
static ssize_t write_quietly(int fd, const void *data, size_t n)
{
	const struct timespec now = {0};
	sigset_t pipe, old, pending;
	ssize_t r;
	int saved;

	sigemptyset(&pipe);
	sigaddset(&pipe, SIGPIPE);
	sigpending(&pending);
	pthread_sigmask(SIG_BLOCK, &pipe, &old);
	r = DAVIT_EINTR(write(fd, data, n));
	saved = errno;
	if (r < 0 && saved == EPIPE && !sigismember(&pending, SIGPIPE))
		sigtimedwait(&pipe, NULL, &now);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	errno = saved;
	return r;
}

static ssize_t exec_write(struct davit_exec *x, const void *data, size_t n)
{
	struct exec *e = *slot_of(x);
	ssize_t r;

	if (!e || !e->running || e->in < 0)
		return DAVIT_ECLOSED;
	r = write_quietly(e->in, data, n);
	if (r >= 0)
		return r;
	if (errno == EAGAIN || errno == EWOULDBLOCK)
		return 0;
	return errno == EPIPE || errno == EIO ? DAVIT_ECLOSED : DAVIT_EIO;
}

static void exec_close_input(struct davit_exec *x)
{
	struct exec *e = *slot_of(x);

	if (!e || e->in < 0)
		return;
	if (e->tty) {
		/* A terminal has no half to close: its end of input is a character. */
		const char end = END_OF_TEXT;

		write_quietly(e->in, &end, 1);
		return;
	}
	close(DAVIT_TAKE_FD(e->in));
}

static void exec_resume(struct davit_exec *x)
{
	struct exec *e = *slot_of(x);

	if (!e || !e->paused)
		return;
	e->paused = false;
	watch_outputs(e);
	if (e->ended)
		davit_defer(&e->finish);
}

static void exec_resize(struct davit_exec *x, uint16_t rows, uint16_t columns)
{
	struct exec *e = *slot_of(x);
	struct winsize size = {.ws_row = rows, .ws_col = columns};

	if (e && e->tty && e->in >= 0)
		ioctl(e->in, TIOCSWINSZ, &size);
}

static int send_signal(struct exec *e, int signo, uint32_t scope, struct davit_error *err)
{
	const struct local_ops *ops = e->runtime->ops;
	struct keeper_signal *m;

	if (ops->signal_command && ops->signal_command(e->runtime, e->id, e->command, signo)) {
		e->sent = signo;
		return 0;
	}
	m = local_packet(e->runtime, KEEPER_SIGNAL, sizeof *m, e->id);
	if (!m)
		return davit_error_set(err, DAVIT_ENOMEM, "exec", "out of memory");
	m->signo = signo;
	m->scope = scope;
	m->exec_tag = e->q.tag;
	return keeper_client_send(&e->keeper->client, &e->runtime->packet, NULL, 0, NULL, err);
}

static int exec_signal(struct davit_exec *x, int signo, struct davit_error *err)
{
	struct exec *e = *slot_of(x);

	if (!e || !e->running || e->ended)
		return davit_error_set(err, DAVIT_ESTATE, "exec", "the command does not run");
	return send_signal(e, signo, 0, err);
}

static void exec_close_slot(struct davit_exec *x)
{
	struct exec *e = *slot_of(x);

	if (!e)
		return;
	if (e->running && !e->ended)
		send_signal(e, SIGKILL, 1, NULL);
	exec_close(e);
}

void local_execs_close_all(struct local_runtime *p)
{
	struct exec *e, *tmp;

	DAVIT_LIST_FOREACH_SAFE (e, tmp, &p->execs, list) {
		if (e->op)
			davit_op_fail(DAVIT_TAKE(e->op), DAVIT_ECLOSED, p->rt->name,
				      "the runtime was closed");
		exec_close(e);
	}
}

const struct davit_exec_facet local_exec = {
	.exec_size = sizeof(struct exec *),
	.start = exec_start,
	.write = exec_write,
	.close_input = exec_close_input,
	.resume = exec_resume,
	.resize = exec_resize,
	.signal = exec_signal,
	.close = exec_close_slot,
};
