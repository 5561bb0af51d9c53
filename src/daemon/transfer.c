/* SPDX-License-Identifier: MIT
 *
 * Bytes between a request and a driver's descriptor: a pipe, with the driver at one
 * end and the loop at the other. Whoever is slower makes the other wait.
 */
#include "daemon/api.h"

#include "base/log.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <uv.h>

enum { PIPE_SIZE = 1024 * 1024, BLOCK = 64 * 1024 };

struct transfer {
	struct api_call *call; /* NULL once it was answered */
	uv_pipe_t pipe;	       /* our end */
	uv_write_t write;
	struct davit_buf flying; /* an upload's, under uv_write */
	struct davit_error error;
	const char *content_type;
	void (*done)(struct api_call *call);
	bool closing, closed; /* our end */
	bool op_done, failed; /* the driver's operation */
	bool input_ended;     /* an upload's: the client has sent all */
	bool began;	      /* a download's: its first byte has gone */
	char block[BLOCK];    /* a download's, read into */
};

static void finish(struct transfer *t);

static void on_pipe_closed(uv_handle_t *h)
{
	struct transfer *t = h->data;

	t->closed = true;
	finish(t);
}

static void close_pipe(struct transfer *t)
{
	if (!t->closing)
		uv_close((uv_handle_t *)&t->pipe, on_pipe_closed);
	t->closing = true;
}

/* --- the end --- */

static void answer_upload(struct transfer *t, struct api_call *call)
{
	if (call->gone)
		api_call_free(call);
	else if (t->failed && call->streaming)
		api_progress_end(call, &t->error);
	else if (t->failed)
		api_fail(call, &t->error);
	else if (t->done)
		t->done(call);
	else
		api_empty(call);
}

static void answer_download(struct transfer *t, struct api_call *call)
{
	if (!call->gone && t->failed && !t->began) {
		api_fail(call, &t->error);
		return;
	}
	if (!call->gone && t->failed) {
		davit_log(DAVIT_LOG_WARNING, "%s %s: broken off: %s", call->request->method,
			  call->request->target, t->error.message);
		davit_http_abort(call->request);
	} else if (!call->gone) {
		if (!t->began)
			davit_http_stream(call->request, 200, t->content_type);
		davit_http_end(call->request);
	}
	api_call_free(call);
}

/* Answers when the driver has ended and everything has come through. */
static void finish(struct transfer *t)
{
	struct api_call *call = t->call;
	bool whole = t->content_type ? t->closed : t->input_ended;

	if (call && t->op_done && (whole || t->failed || call->gone)) {
		t->call = NULL;
		if (t->content_type)
			answer_download(t, call);
		else
			answer_upload(t, call);
	}
	if (t->call || !t->op_done)
		return;
	close_pipe(t);
	if (!t->closed)
		return;
	davit_buf_fini(&t->flying);
	free(t);
}

static void op_done(struct davit_op *op, int result)
{
	struct api_call *call = op->user;
	struct transfer *t = call->state;

	t->op_done = true;
	t->failed = result < 0;
	t->error = op->error;
	finish(t);
}

static void on_client_gone(struct davit_http_request *r)
{
	struct api_call *call = r->user;
	struct transfer *t = call->state;

	call->gone = true;
	davit_op_cancel(&call->op); /* first, so that a part is not taken for the whole */
	close_pipe(t);
}

/* --- upload --- */

static void on_written(uv_write_t *w, int status)
{
	struct transfer *t = w->data;

	davit_buf_fini(&t->flying);
	if (status < 0) /* the driver takes no more: it says why, or has all that it wants */
		close_pipe(t);
	if (!t->call || t->call->gone)
		return;
	if (t->input_ended)
		close_pipe(t);
	else
		davit_http_pause_input(t->call->request, false);
}

static void on_input(struct davit_http_request *r, const void *data, size_t n)
{
	struct api_call *call = r->user;
	struct transfer *t = call->state;
	uv_buf_t buf = uv_buf_init((char *)(uintptr_t)data, (unsigned)n);
	int sent;

	if (t->closing)
		return;
	sent = uv_try_write((uv_stream_t *)&t->pipe, &buf, 1);
	if (sent == (int)n)
		return;
	if (sent < 0 && sent != UV_EAGAIN) {
		close_pipe(t);
		return;
	}
	sent = sent < 0 ? 0 : sent;
	davit_buf_add(&t->flying, (const char *)data + sent, n - (size_t)sent);
	buf = uv_buf_init(t->flying.data, (unsigned)t->flying.len);
	t->write.data = t;
	if (t->flying.oom || uv_write(&t->write, (uv_stream_t *)&t->pipe, &buf, 1, on_written) < 0) {
		davit_op_cancel(&call->op);
		close_pipe(t);
		return;
	}
	davit_http_pause_input(r, true);
}

static void on_input_end(struct davit_http_request *r)
{
	struct api_call *call = r->user;
	struct transfer *t = call->state;

	t->input_ended = true;
	if (!t->flying.len)
		close_pipe(t);
	finish(t);
}

/* --- download --- */

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
	struct transfer *t = h->data;

	(void)suggested;
	*buf = uv_buf_init(t->block, sizeof t->block);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
	struct transfer *t = s->data;

	if (n == 0 || !t->call)
		return;
	if (n < 0) {
		close_pipe(t);
		return;
	}
	if (!t->began)
		davit_http_stream(t->call->request, 200, t->content_type);
	t->began = true;
	if (!davit_http_write(t->call->request, buf->base, (size_t)n))
		uv_read_stop(s);
}

static void on_writable(struct davit_http_request *r)
{
	struct api_call *call = r->user;
	struct transfer *t = call->state;

	if (!t->closing)
		uv_read_start((uv_stream_t *)&t->pipe, on_alloc, on_read);
}

/* --- beginning --- */

/* A pipe: our end of it open in the transfer, the driver's in *ret_fd. */
static int open_pipe(struct transfer *t, int ours, int *ret_fd, struct davit_error *err)
{
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return davit_error_errno(err, errno, NULL, "cannot make a pipe");
	fcntl(fds[0], F_SETPIPE_SZ, PIPE_SIZE); /* as far as the user's limit allows */
	t->pipe.data = t;
	uv_pipe_init(davit_loop_uv(t->call->daemon->loop), &t->pipe, 0);
	r = uv_pipe_open(&t->pipe, fds[ours]);
	if (r < 0) {
		close(fds[ours]);
		close(fds[!ours]);
		return davit_error_errno(err, -r, NULL, "cannot use a pipe");
	}
	*ret_fd = fds[!ours];
	return 0;
}

static void transfer(struct api_call *call, api_transfer_fn *begin, const char *content_type,
		     void (*done)(struct api_call *))
{
	struct transfer *t = calloc(1, sizeof *t);
	struct davit_error err = {0};
	int fd = -1, r;

	if (!t) {
		api_fail_with(call, DAVIT_ENOMEM, NULL, "out of memory");
		return;
	}
	t->call = call;
	t->content_type = content_type;
	t->done = done;
	call->state = t;
	davit_op_init(&call->op, call->daemon->loop, op_done, call);
	r = open_pipe(t, content_type ? 0 : 1, &fd, &err);
	if (r == 0) {
		davit_op_begin(&call->op, 0);
		r = begin(call, fd, &err);
	}
	if (r < 0) {
		/* Never begun: the pipe alone is left. */
		t->call = NULL;
		t->op_done = true;
		api_fail(call, &err);
		if (t->pipe.data)
			finish(t);
		else
			free(t);
		return;
	}
	call->request->closed = on_client_gone;
	if (content_type) {
		call->request->writable = on_writable;
		uv_read_start((uv_stream_t *)&t->pipe, on_alloc, on_read);
	} else {
		call->request->input = on_input;
		call->request->input_end = on_input_end;
	}
}

void api_upload(struct api_call *call, api_transfer_fn *begin, void (*done)(struct api_call *))
{
	transfer(call, begin, NULL, done);
}

void api_download(struct api_call *call, const char *content_type, api_transfer_fn *begin)
{
	transfer(call, begin, content_type, NULL);
}
