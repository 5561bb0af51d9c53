/* SPDX-License-Identifier: MIT */
#include "net/ask.h"

#include "base/util.h"
#include "net/unix.h"

#include <fcntl.h>
#include <http_parser.h>
#include <string.h>
#include <uv.h>

enum { READ_SIZE = 64 * 1024 };

struct ask {
	struct davit_op *op; /* NULL once it is completed */
	struct davit_buf *body;
	size_t max;
	uv_pipe_t pipe;
	uv_write_t write;
	struct davit_buf out;
	http_parser parser;
	bool writing, closed, whole;
	char in[READ_SIZE];
};

static void ask_free(struct ask *a)
{
	if (!a->closed || a->writing)
		return;
	davit_buf_fini(&a->out);
	free(a);
}

static void on_closed(uv_handle_t *h)
{
	struct ask *a = h->data;

	a->closed = true;
	ask_free(a);
}

/* Completes with result, or fails with text. */
static void end(struct ask *a, int result, const char *text)
{
	struct davit_op *op = a->op;

	a->op = NULL;
	uv_close((uv_handle_t *)&a->pipe, on_closed);
	if (text)
		davit_op_fail(op, result, NULL, "%s", text);
	else
		davit_op_complete(op, result);
}

static void on_cancel(struct davit_op *op, int why)
{
	end(op->performer, why,
	    why == DAVIT_ETIMEDOUT ? "it does not answer in time" : "nobody waits any more");
}

/* --- the answer --- */

static int on_body(http_parser *p, const char *at, size_t n)
{
	struct ask *a = p->data;

	if (a->body->len + n > a->max)
		return -1;
	davit_buf_add(a->body, at, n);
	return a->body->oom ? -1 : 0;
}

static int on_message_complete(http_parser *p)
{
	struct ask *a = p->data;

	a->whole = true;
	http_parser_pause(p, 1);
	return 0;
}

static const http_parser_settings settings = {
	.on_body = on_body,
	.on_message_complete = on_message_complete,
};

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
	struct ask *a = h->data;

	(void)suggested;
	*buf = uv_buf_init(a->in, sizeof a->in);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
	struct ask *a = s->data;

	if (!a->op || n == 0)
		return;
	/* A body without a length ends with the connection: an execute of 0 bytes says so. */
	http_parser_execute(&a->parser, &settings, buf->base, n > 0 ? (size_t)n : 0);
	if (a->whole)
		end(a, (int)a->parser.status_code, NULL);
	else if (a->body->oom)
		end(a, DAVIT_ENOMEM, "out of memory");
	else if (n < 0)
		end(a, DAVIT_ECLOSED, "it has ended before it answered");
	else if (HTTP_PARSER_ERRNO(&a->parser) != HPE_OK)
		end(a, DAVIT_EPROTO, "its answer is no HTTP, or too long");
}

/* --- the question --- */

static void on_written(uv_write_t *w, int status)
{
	struct ask *a = w->data;

	(void)status; /* reading tells what has become of the peer */
	a->writing = false;
	ask_free(a);
}

static void compose(struct ask *a, const struct davit_http_question *q)
{
	davit_buf_addf(&a->out, "%s %s HTTP/1.1\r\nHost: davit\r\nConnection: close\r\n", q->method,
		       q->target);
	if (q->body)
		davit_buf_addf(&a->out, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
			       q->body_len);
	davit_buf_adds(&a->out, "\r\n");
	if (q->body)
		davit_buf_add(&a->out, q->body, q->body_len);
}

static int begin(struct ask *a, struct davit_error *err)
{
	uv_buf_t buf = uv_buf_init(a->out.data, (unsigned)a->out.len);
	int e = uv_read_start((uv_stream_t *)&a->pipe, on_alloc, on_read);

	a->write.data = a;
	if (e == 0)
		e = uv_write(&a->write, (uv_stream_t *)&a->pipe, &buf, 1, on_written);
	a->writing = e == 0;
	return e < 0 ? davit_error_errno(err, -e, NULL, "cannot ask") : 0;
}

int davit_http_ask(const struct davit_http_question *q, struct davit_op *op, struct davit_error *err)
{
	struct ask *a;
	int fd, r;

	r = davit_unix_connect(q->socket, &fd, err);
	if (r < 0)
		return r;
	a = calloc(1, sizeof *a);
	if (a)
		compose(a, q);
	if (!a || a->out.oom) {
		close(fd);
		free(a);
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	a->op = op;
	a->body = q->ret_body;
	a->max = q->max;
	http_parser_init(&a->parser, HTTP_RESPONSE);
	a->parser.data = a;
	uv_pipe_init(davit_loop_uv(q->loop), &a->pipe, 0);
	a->pipe.data = a;
	r = uv_pipe_open(&a->pipe, fd); /* makes it non-blocking */
	if (r < 0) {
		close(fd);
		r = davit_error_errno(err, -r, NULL, "cannot ask");
	} else {
		r = begin(a, err);
	}
	if (r < 0) {
		uv_close((uv_handle_t *)&a->pipe, on_closed);
		return r;
	}
	op->performer = a;
	davit_op_on_cancel(op, on_cancel);
	return 0;
}
