/* SPDX-License-Identifier: MIT
 *
 * Spawned by posix_spawn (vfork-like: its cost does not grow with the daemon),
 * watched by a pidfd, so no SIGCHLD is involved and no pid can be mistaken.
 */
#include "runtime/exec/peer.h"

#include "base/log.h"
#include "base/start.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <uv.h>

enum { HANDLES = 5 };

struct peer {
	const struct peer_events *events; /* NULL once released */
	void *user;
	const char *name;
	pid_t pid;
	int pidfd;
	uv_pipe_t in, out, err; /* its standard streams, our ends */
	uv_poll_t exit;
	uv_timer_t patience;	/* with one that must end */
	struct davit_buf input; /* read; the first `taken` bytes are handled */
	size_t taken;
	size_t searched;	    /* no newline before this */
	bool full;		    /* not reading until some of the input is handled */
	struct davit_buf complaint; /* an unfinished line of its standard error */
	struct davit_deferred turn;
	struct davit_error why; /* code set: it is down */
	char fate[40];		/* how it ended, once reaped */
	bool eof;		/* its output has ended */
	int handles;		/* that must be closed before the memory goes */
	char chunk[16384];
};

struct write_request {
	uv_write_t req;
	char data[];
};

size_t peer_queued(const struct peer *p)
{
	return p ? uv_stream_get_write_queue_size((const uv_stream_t *)&p->in) : 0;
}

static void kill_it(struct peer *p)
{
	if (!*p->fate)
		kill(-p->pid, SIGKILL); /* not reaped yet: the group is still its own */
}

static void on_closed(uv_handle_t *h)
{
	struct peer *p = h->data;

	if (--p->handles)
		return;
	close(p->pidfd);
	davit_buf_fini(&p->input);
	davit_buf_fini(&p->complaint);
	free(p);
}

static void close_all(struct peer *p)
{
	uv_handle_t *const handles[HANDLES] = {(uv_handle_t *)&p->in, (uv_handle_t *)&p->out,
					       (uv_handle_t *)&p->err, (uv_handle_t *)&p->exit,
					       (uv_handle_t *)&p->patience};

	for (size_t i = 0; i < HANDLES; i++)
		if (!uv_is_closing(handles[i]))
			uv_close(handles[i], on_closed);
}

/* --- its end --- */

void peer_fail(struct peer *p, int code, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	if (p->why.code)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	davit_error_set(&p->why, code, p->name, "the program of runtime '%s' %s", p->name, text);
	kill_it(p);
	davit_defer(&p->turn);
}

static void on_exit_ready(uv_poll_t *h, int status, int events)
{
	struct peer *p = h->data;
	siginfo_t info = {0};

	if (waitid((idtype_t)P_PIDFD, (id_t)p->pidfd, &info, WEXITED | WNOHANG) < 0 || !info.si_pid)
		return;
	snprintf(p->fate, sizeof p->fate,
		 info.si_code == CLD_EXITED ? "exited with code %d" : "died of signal %d", info.si_status);
	uv_poll_stop(h);
	if (!p->events)
		close_all(p);
	else
		davit_defer(&p->turn);
}

static void on_patience_lost(uv_timer_t *t)
{
	struct peer *p = t->data;

	p->eof = true;
	if (!p->events)
		kill_it(p);
	else if (!*p->fate)
		peer_fail(p, DAVIT_EUNAVAIL, "closed its output");
	else /* somebody that it started holds its output open */
		davit_defer(&p->turn);
}

/* --- its output --- */

static bool handle_line(struct peer *p, const char *line, size_t len)
{
	json_error_t je = {0};
	json_t *m = json_loadb(line, len, JSON_REJECT_DUPLICATES, &je);

	if (!json_is_object(m)) {
		peer_fail(p, DAVIT_EPROTO, "sent a line that is not a JSON object: %.60s (%.100s)",
			  m ? "it is of another type" : je.text, line);
		json_decref(m);
		return false;
	}
	p->events->message(p->user, m);
	json_decref(m);
	return true;
}

/* Handles the next line, if there is a whole one. */
static bool next_line(struct peer *p)
{
	char *start = p->input.data + p->taken;
	size_t left = p->input.len - p->taken;
	char *end = left > p->searched ? memchr(start + p->searched, '\n', left - p->searched) : NULL;
	size_t len;

	if (!end) {
		p->searched = left;
		if (left > PEER_LINE_MAX)
			peer_fail(p, DAVIT_EPROTO, "sent a line of more than %d bytes", PEER_LINE_MAX);
		return false;
	}
	len = (size_t)(end - start);
	*end = '\0';
	p->searched = 0;
	p->taken += len + 1;
	return handle_line(p, start, len);
}

static void on_alloc(uv_handle_t *h, size_t n, uv_buf_t *buf)
{
	struct peer *p = h->data;

	*buf = uv_buf_init(p->chunk, sizeof p->chunk);
}

static void on_output(uv_stream_t *h, ssize_t n, const uv_buf_t *buf)
{
	struct peer *p = h->data;

	if (!p->events) /* released: read so that it is not stuck, and forgotten */
		return;
	if (n < 0) {
		uv_read_stop(h);
		p->eof = true;
		/* Its exit is due: that is the better reason to tell. */
		uv_timer_start(&p->patience, on_patience_lost, 500, 0);
		davit_defer(&p->turn);
		return;
	}
	davit_buf_add(&p->input, buf->base, (size_t)n);
	if (p->input.oom)
		peer_fail(p, DAVIT_ENOMEM, "sent more than there is memory for");
	if (p->input.len - p->taken > 2 * (size_t)PEER_LINE_MAX) {
		p->full = true;
		uv_read_stop(h);
	}
	davit_defer(&p->turn);
}

static void on_turn(struct davit_deferred *d)
{
	struct peer *p = DAVIT_CONTAINER_OF(d, struct peer, turn);

	if (!p->events)
		return;
	if (!p->why.code && p->input.data && next_line(p)) {
		davit_defer(&p->turn);
		return;
	}
	if (!p->events)
		return; /* released by the message */
	if (!p->why.code && *p->fate && p->eof)
		peer_fail(p, DAVIT_EUNAVAIL, "%s", p->fate);
	if (p->why.code) {
		const struct peer_events *events = DAVIT_TAKE(p->events);
		uv_read_stop((uv_stream_t *)&p->out);
		events->down(p->user, &p->why);
		return;
	}
	davit_buf_consume(&p->input, p->taken);
	p->taken = 0;
	if (*p->fate && !uv_is_active((uv_handle_t *)&p->patience))
		uv_timer_start(&p->patience, on_patience_lost, 500, 0);
	if (p->full) {
		p->full = false;
		uv_read_start((uv_stream_t *)&p->out, on_alloc, on_output);
	}
}

/* --- its standard error --- */

static void on_complaint(uv_stream_t *h, ssize_t n, const uv_buf_t *buf)
{
	struct peer *p = h->data;
	char *end;

	if (n < 0) {
		uv_read_stop(h);
		return;
	}
	davit_buf_add(&p->complaint, buf->base, (size_t)n);
	while (p->complaint.len && (end = memchr(p->complaint.data, '\n', p->complaint.len))) {
		davit_log(DAVIT_LOG_INFO, "runtime %s: %.*s", p->name, (int)(end - p->complaint.data),
			  p->complaint.data);
		davit_buf_consume(&p->complaint, (size_t)(end - p->complaint.data) + 1);
	}
	if (p->complaint.len > 4096 || p->complaint.oom) /* a line without an end */
		davit_buf_fini(&p->complaint);
}

/* --- its input --- */

static void on_written(uv_write_t *req, int status)
{
	free(DAVIT_CONTAINER_OF(req, struct write_request, req));
}

void peer_send(struct peer *p, const struct davit_buf *line)
{
	struct write_request *w;
	uv_buf_t buf;

	if (p->why.code || !p->events)
		return;
	if (peer_queued(p) > PEER_QUEUE_MAX) {
		peer_fail(p, DAVIT_EPROTO, "does not read its input");
		return;
	}
	w = line->oom ? NULL : malloc(sizeof *w + line->len + 1);
	if (!w) {
		peer_fail(p, DAVIT_ENOMEM, "could not be told: out of memory");
		return;
	}
	memcpy(w->data, line->data, line->len);
	w->data[line->len] = '\n';
	buf = uv_buf_init(w->data, (unsigned)line->len + 1);
	if (uv_write(&w->req, (uv_stream_t *)&p->in, &buf, 1, on_written) < 0)
		free(w); /* a broken pipe: its end is noticed elsewhere */
}

void peer_release(struct peer *p)
{
	if (!p)
		return;
	p->events = NULL;
	davit_deferred_cancel(&p->turn);
	if (*p->fate) {
		close_all(p);
		return;
	}
	/* The end of its input is how it learns that it is not needed. What it
	 * still writes must find a reader, or it may never get there. */
	uv_close((uv_handle_t *)&p->in, on_closed);
	uv_read_start((uv_stream_t *)&p->out, on_alloc, on_output); /* it may have been stopped */
	uv_timer_start(&p->patience, on_patience_lost, PEER_GOODBYE_MS, 0);
}

/* --- starting --- */

/* The descriptors of the child, 0 to 2, and ours. */
struct pipes {
	int child[3], ours[3];
};

static void close_pipes(int fds[3])
{
	for (size_t i = 0; i < 3; i++)
		davit_closep(&fds[i]);
}

static int make_pipes(struct pipes *pp)
{
	for (size_t i = 0; i < 3; i++)
		pp->child[i] = pp->ours[i] = -1;
	for (size_t i = 0; i < 3; i++) {
		int fd[2];
		if (pipe2(fd, O_CLOEXEC) < 0)
			return errno;
		pp->child[i] = fd[i ? 1 : 0];
		pp->ours[i] = fd[i ? 0 : 1];
		fcntl(pp->ours[i], F_SETFL, O_NONBLOCK);
	}
	return 0;
}

static int spawn(const char *path, const struct pipes *pp, pid_t *ret)
{
	char *argv[] = {(char *)path, NULL};
	const struct davit_start start = {
		.program = path,
		.argv = argv,
		.fds = {pp->child[0], pp->child[1], pp->child[2]},
		.in = DAVIT_START_IN_OWN_GROUP,
		.defaults = true,
	};

	return davit_start(&start, ret);
}

static void watch(struct peer *p, struct davit_loop *loop, const struct pipes *pp)
{
	uv_loop_t *uv = davit_loop_uv(loop);
	uv_pipe_t *const streams[] = {&p->in, &p->out, &p->err};

	for (size_t i = 0; i < 3; i++) {
		uv_pipe_init(uv, streams[i], 0);
		uv_pipe_open(streams[i], pp->ours[i]);
		streams[i]->data = p;
	}
	uv_poll_init(uv, &p->exit, p->pidfd);
	uv_timer_init(uv, &p->patience);
	p->exit.data = p->patience.data = p;
	p->handles = HANDLES;
	uv_poll_start(&p->exit, UV_READABLE, on_exit_ready);
	uv_read_start((uv_stream_t *)&p->out, on_alloc, on_output);
	uv_read_start((uv_stream_t *)&p->err, on_alloc, on_complaint);
}

int peer_start(struct davit_loop *loop, const char *path, const char *name, const struct peer_events *events,
	       void *user, struct peer **ret, struct davit_error *err)
{
	struct peer *p = calloc(1, sizeof *p);
	struct pipes pp;
	int r;

	if (!p)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	p->events = events;
	p->user = user;
	p->name = name;
	davit_deferred_init(&p->turn, loop, on_turn);
	r = make_pipes(&pp);
	if (r == 0)
		r = spawn(path, &pp, &p->pid);
	close_pipes(pp.child);
	p->pidfd = r == 0 ? (int)syscall(SYS_pidfd_open, p->pid, 0) : -1;
	if (r == 0 && p->pidfd < 0) {
		r = errno;
		kill(p->pid, SIGKILL);
		waitpid(p->pid, NULL, 0);
	}
	if (r != 0) {
		close_pipes(pp.ours);
		free(p);
		return davit_error_errno(err, r, name, "cannot start '%s', the program of runtime '%s'", path,
					 name);
	}
	watch(p, loop, &pp);
	*ret = p;
	return 0;
}
