/* SPDX-License-Identifier: MIT
 *
 * A program with a text to read and a text to print, on the loop: posix_spawn into a session of its own, a
 * pidfd for its end, pipes that are never waited for.
 */
#include "base/file.h"
#include "base/start.h"
#include "step/resource.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <uv.h>

#define CHUNK 65536
#define CHUNKS_AT_ONCE 16 /* of one pipe, before others have their turn */

enum { IN, OUT, ERR, END, HANDLES };

struct davit_program {
	struct davit_loop *loop;
	struct davit_program_events on;
	void *owner;
	pid_t pid; /* 0: reaped */
	int64_t grace;
	size_t output_max;
	uint64_t log_left;

	struct davit_buf input, output;
	size_t written;
	struct davit_timer timer; /* first the time-out, then the grace */
	struct davit_deferred deliver;
	struct davit_program_end end;
	bool stopping, freed;
	int fd[HANDLES];
	uv_poll_t poll[HANDLES];
	int open; /* handles that are not closed yet */
};

static void signal_group(struct davit_program *p, int signo)
{
	if (p->pid)
		kill(-p->pid, signo);
}

static void on_closed(uv_handle_t *h)
{
	struct davit_program *p = h->data;

	if (--p->open || !p->freed)
		return;
	davit_buf_fini(&p->input);
	davit_buf_fini(&p->output);
	free(p);
}

/* Closes one of the pipes, or the pidfd. */
static void shut(struct davit_program *p, int which)
{
	if (p->fd[which] < 0)
		return;
	uv_close((uv_handle_t *)&p->poll[which], on_closed);
	close(p->fd[which]);
	p->fd[which] = -1;
}

static void stop(struct davit_program *p)
{
	if (p->stopping || !p->pid)
		return;
	p->stopping = true;
	signal_group(p, SIGTERM);
	if (davit_timer_start(&p->timer, p->grace) < 0)
		signal_group(p, SIGKILL);
}

static void on_timer(struct davit_timer *t)
{
	struct davit_program *p = DAVIT_CONTAINER_OF(t, struct davit_program, timer);

	if (p->stopping) {
		signal_group(p, SIGKILL);
		return;
	}
	p->end.timed_out = true;
	stop(p);
}

static void take(struct davit_program *p, int which, const char *data, size_t n)
{
	if (which == OUT) {
		if (!p->end.too_much)
			davit_buf_add(&p->output, data, n);
		if (p->output.len > p->output_max || p->output.oom) {
			p->end.too_much = true;
			stop(p);
		}
		return;
	}
	if (n > p->log_left) {
		p->end.dropped += n - p->log_left;
		n = (size_t)p->log_left;
	}
	p->log_left -= n;
	if (n && !p->freed)
		p->on.log(p->owner, data, n);
}

/* Reads what is there; closes at the end of the stream. False: there is no more now. */
static bool read_some(struct davit_program *p, int which)
{
	char data[CHUNK];
	ssize_t n = DAVIT_EINTR(read(p->fd[which], data, sizeof data));

	if (n > 0) {
		take(p, which, data, (size_t)n);
		return !p->freed;
	}
	if (n == 0 || errno != EAGAIN)
		shut(p, which);
	return false;
}

static void on_readable(uv_poll_t *h, int status, int events)
{
	struct davit_program *p = h->data;
	int which = (int)(h - p->poll);

	(void)status;
	(void)events;
	for (int i = 0; i < CHUNKS_AT_ONCE && read_some(p, which); i++)
		;
}

static void on_writable(uv_poll_t *h, int status, int events)
{
	struct davit_program *p = h->data;
	ssize_t n;

	(void)status;
	(void)events;
	n = DAVIT_EINTR(write(p->fd[IN], p->input.data + p->written, p->input.len - p->written));
	if (n > 0)
		p->written += (size_t)n;
	/* Who does not want to read all of it need not. */
	if (p->written == p->input.len || (n < 0 && errno != EAGAIN))
		shut(p, IN);
}

static void on_deliver(struct davit_deferred *d)
{
	struct davit_program *p = DAVIT_CONTAINER_OF(d, struct davit_program, deliver);

	p->end.output = davit_buf_str(&p->output);
	p->end.output_len = p->output.len;
	p->on.done(p->owner, &p->end);
}

static void on_exit_status(uv_poll_t *h, int status, int events)
{
	struct davit_program *p = h->data;
	siginfo_t info = {0};

	(void)status;
	(void)events;
	if (waitid(P_PIDFD, (id_t)p->fd[END], &info, WEXITED | WNOHANG | WNOWAIT) < 0 || !info.si_pid)
		return;
	/* Its number is its own until it is reaped: what it left in its group goes first. */
	signal_group(p, SIGKILL);
	waitid(P_PIDFD, (id_t)p->fd[END], &info, WEXITED);
	p->pid = 0;
	p->end.exit_status = info.si_code == CLD_EXITED ? info.si_status : -1;
	p->end.signo = info.si_code == CLD_EXITED ? 0 : info.si_status;
	davit_timer_stop(&p->timer);
	/* What it wrote is in the pipes. Who has left the session and holds one is not waited for, nor
	 * listened to for longer than what is there now. */
	for (int which = OUT; which <= ERR; which++)
		for (uint64_t i = 0;
		     p->fd[which] >= 0 && i < DAVIT_RESOURCE_LOG_MAX / CHUNK && read_some(p, which); i++)
			;
	if (p->freed)
		return;
	for (int which = IN; which < HANDLES; which++)
		shut(p, which);
	davit_defer(&p->deliver);
}

/* ------------------------------------------------------------------------- start */

static void close_pairs(int pairs[3][2])
{
	for (int i = 0; i < 3; i++)
		for (int k = 0; k < 2; k++)
			if (pairs[i][k] >= 0)
				close(pairs[i][k]);
}

static int make_pipes(int pairs[3][2], struct davit_error *err)
{
	for (int i = 0; i < 3; i++)
		if (pipe2(pairs[i], O_CLOEXEC) < 0) {
			pairs[i][0] = pairs[i][1] = -1;
			return davit_error_errno(err, errno, NULL, "cannot make a pipe");
		}
	return 0;
}

static int spawn(const struct davit_program_spec *spec, int pairs[3][2], pid_t *ret, struct davit_error *err)
{
	const struct davit_start start = {
		.program = spec->path,
		.argv = spec->argv,
		.env = spec->env,
		.directory = spec->dir,
		.fds = {pairs[0][0], pairs[1][1], pairs[2][1]},
		.in = DAVIT_START_IN_OWN_SESSION,
		.defaults = true,
	};
	int e = davit_start(&start, ret);

	if (!e)
		return 0;
	davit_error_errno(err, e, NULL, "cannot execute %s", spec->path);
	if (err && e != ENOMEM)
		err->code = DAVIT_EEXEC;
	return e == ENOMEM ? DAVIT_ENOMEM : DAVIT_EEXEC;
}

static int watch(struct davit_program *p, int which, int fd, int events, uv_poll_cb on)
{
	int e = uv_poll_init(davit_loop_uv(p->loop), &p->poll[which], fd);

	if (e < 0)
		return e;
	p->fd[which] = fd;
	p->poll[which].data = p;
	p->open++;
	return uv_poll_start(&p->poll[which], events, on);
}

/* Takes the parent's ends of the pipes, and the pidfd, under the loop's care. */
static int watch_all(struct davit_program *p, int pairs[3][2], int pidfd)
{
	int e = 0;

	if (p->input.len)
		e = watch(p, IN, pairs[0][1], UV_WRITABLE, on_writable);
	if (p->fd[IN] >= 0)
		pairs[0][1] = -1;
	if (e == 0)
		e = watch(p, OUT, pairs[1][0], UV_READABLE, on_readable);
	if (p->fd[OUT] >= 0)
		pairs[1][0] = -1;
	if (e == 0)
		e = watch(p, ERR, pairs[2][0], UV_READABLE, on_readable);
	if (p->fd[ERR] >= 0)
		pairs[2][0] = -1;
	if (e == 0)
		e = watch(p, END, pidfd, UV_READABLE, on_exit_status);
	if (p->fd[END] < 0)
		close(pidfd);
	return e;
}

int davit_program_start(struct davit_loop *loop, const struct davit_program_spec *spec,
			const struct davit_program_events *on, void *owner, struct davit_program **ret,
			struct davit_error *err)
{
	int pairs[3][2] = {{-1, -1}, {-1, -1}, {-1, -1}}, pidfd, r, e;
	struct davit_program *p = calloc(1, sizeof *p);

	if (!p)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	p->loop = loop;
	p->on = *on;
	p->owner = owner;
	p->grace = spec->grace ? spec->grace : DAVIT_RESOURCE_GRACE;
	p->output_max = spec->output_max ? spec->output_max : DAVIT_RESOURCE_OUTPUT_MAX;
	p->log_left = spec->log_max ? spec->log_max : DAVIT_RESOURCE_LOG_MAX;
	for (int i = 0; i < HANDLES; i++)
		p->fd[i] = -1;
	davit_timer_init(&p->timer, loop, on_timer);
	davit_deferred_init(&p->deliver, loop, on_deliver);
	davit_buf_add(&p->input, spec->input, spec->input_len);
	r = p->input.oom ? davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory") : make_pipes(pairs, err);
	if (r == 0)
		r = spawn(spec, pairs, &p->pid, err);
	if (r < 0)
		goto fail;
	pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
	e = pidfd < 0 ? -errno : watch_all(p, pairs, pidfd);
	if (e == 0 && spec->timeout)
		e = davit_timer_start(&p->timer, spec->timeout) < 0 ? UV_ENOMEM : 0;
	if (e < 0) {
		r = davit_error_errno(err, -e, NULL, "cannot watch %s", spec->path);
		goto fail;
	}
	for (int i = 0; i < 3; i++) /* the parent's ends are those of the loop, which must not wait */
		if (p->fd[i] >= 0)
			fcntl(p->fd[i], F_SETFL, O_NONBLOCK);
	close_pairs(pairs);
	*ret = p;
	return 0;
fail:
	close_pairs(pairs);
	davit_program_free(p);
	return r;
}

void davit_program_abort(struct davit_program *p)
{
	p->end.aborted = p->end.aborted || p->pid;
	stop(p);
}

void davit_program_free(struct davit_program *p)
{
	if (!p || p->freed)
		return;
	p->freed = true;
	davit_timer_stop(&p->timer);
	davit_deferred_cancel(&p->deliver);
	if (p->pid) {
		signal_group(p, SIGKILL);
		DAVIT_EINTR(waitpid(p->pid, NULL, 0)); /* it cannot refuse: a moment */
		p->pid = 0;
	}
	p->open++;
	for (int i = 0; i < HANDLES; i++)
		shut(p, i);
	if (--p->open == 0) {
		davit_buf_fini(&p->input);
		davit_buf_fini(&p->output);
		free(p);
	}
}
