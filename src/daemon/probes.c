/* SPDX-License-Identifier: MIT */
#include "daemon/probes.h"

#include "base/util.h"

#include <errno.h>
#include <http_parser.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

enum { HEAD_MAX = 64 * 1024 }; /* of a response, with what comes of its body meanwhile */

struct
try {
	uv_tcp_t tcp;
	uv_connect_t connect;
	uv_write_t write;
	struct davit_probe *probe; /* NULL once the operation is completed */
	struct davit_op *op;
	char *request; /* of http */
	http_parser parser;
	size_t received;
	bool head;  /* the status is known */
	bool whole; /* nothing more of the response is wanted */
	char in[2048];
};

/* ---------------------------------------------------------------------- the end */

static void on_closed(uv_handle_t *h)
{
	struct try *t = h->data;

	free(t->request);
	free(t);
}

/* Ends it once; e is 0, or one of libuv's. */
static void finish(struct try *t, int e)
{
	struct davit_op *op = DAVIT_TAKE(t->op);

	if (!op)
		return;
	t->probe = NULL;
	uv_close((uv_handle_t *)&t->tcp, on_closed);
	/* What is the daemon's own want says nothing of the instance. */
	if (e == UV_EMFILE || e == UV_ENFILE || e == UV_ENOMEM || e == UV_ENOBUFS)
		davit_op_fail(op, DAVIT_ENOMEM, "health", "%s", uv_strerror(e));
	else if (e)
		davit_op_fail(op, DAVIT_EIO, "health", "%s", uv_strerror(e));
	else
		davit_op_complete(op, 0);
}

static void refuse(struct try *t, const char *why)
{
	struct davit_op *op = DAVIT_TAKE(t->op);

	t->probe = NULL;
	uv_close((uv_handle_t *)&t->tcp, on_closed);
	davit_op_fail(op, DAVIT_EPROTO, "health", "%s", why);
}

static void on_cancel(struct davit_op *op, int why)
{
	struct try *t = op->performer;

	if (t->head) { /* only the rest of what explains it is late */
		finish(t, 0);
		return;
	}
	t->op = NULL;
	t->probe = NULL;
	uv_close((uv_handle_t *)&t->tcp, on_closed);
	davit_op_complete(op, why);
}

/* ------------------------------------------------------------------- connecting */

static int to_address(const struct davit_probe *p, struct sockaddr_storage *ret)
{
	int r = uv_ip4_addr(p->address, p->port, (struct sockaddr_in *)ret);

	return r ? uv_ip6_addr(p->address, p->port, (struct sockaddr_in6 *)ret) : 0;
}

/* NULL when op was failed. */
static struct try *begin(struct davit_loop *loop, struct davit_probe *p, struct davit_op *op,
			 uv_connect_cb on_connected)
{
	struct sockaddr_storage address = {0};
	struct try *t = calloc(1, sizeof *t);
	int r;

	if (!t || uv_tcp_init(davit_loop_uv(loop), &t->tcp) < 0) {
		free(t);
		davit_op_fail(op, DAVIT_ENOMEM, "health", "out of memory");
		return NULL;
	}
	t->tcp.data = t->connect.data = t->write.data = t;
	t->probe = p;
	t->op = op;
	op->performer = t;
	r = to_address(p, &address);
	if (r == 0)
		r = uv_tcp_connect(&t->connect, &t->tcp, (const struct sockaddr *)&address, on_connected);
	if (r < 0) {
		finish(t, r);
		return NULL;
	}
	davit_op_on_cancel(op, on_cancel);
	return t;
}

static void on_connected(uv_connect_t *req, int status)
{
	finish(req->data, status);
}

static void probe_tcp(void *user, struct davit_probe *p, struct davit_op *op)
{
	begin(user, p, op, on_connected);
}

/* ------------------------------------------------------------------------- http */

static int on_head(http_parser *parser)
{
	struct try *t = parser->data;

	if (parser->status_code / 100 == 1)
		return 0;
	t->head = true;
	t->probe->ret_status = (int)parser->status_code;
	/* The body is wanted as an explanation only. */
	t->whole = parser->status_code < 400;
	return 0;
}

static int on_body(http_parser *parser, const char *data, size_t n)
{
	struct try *t = parser->data;
	char *text = t->probe->ret_text;
	size_t len = strlen(text);

	for (; n && len < sizeof t->probe->ret_text - 1; data++, n--)
		text[len++] = (unsigned char)*data < ' ' || *data == 0x7f ? ' ' : *data;
	while (len && text[len - 1] == ' ')
		len--;
	text[len] = '\0';
	t->whole |= n > 0;
	return 0;
}

static int on_message(http_parser *parser)
{
	struct try *t = parser->data;

	t->whole |= t->head;
	return 0;
}

static const http_parser_settings settings = {
	.on_headers_complete = on_head,
	.on_body = on_body,
	.on_message_complete = on_message,
};

static void on_room(uv_handle_t *h, size_t suggested, uv_buf_t *ret)
{
	struct try *t = h->data;

	(void)suggested;
	*ret = uv_buf_init(t->in, sizeof t->in);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
	struct try *t = s->data;
	size_t parsed;

	if (!t->op || n == 0)
		return;
	if (n < 0 && t->head) {
		finish(t, 0);
		return;
	}
	if (n < 0) {
		refuse(t, n == UV_EOF ? "closed without an answer" : uv_strerror((int)n));
		return;
	}
	t->received += (size_t)n;
	parsed = http_parser_execute(&t->parser, &settings, buf->base, (size_t)n);
	if (t->whole)
		finish(t, 0);
	else if (parsed != (size_t)n || t->received > HEAD_MAX)
		refuse(t, "the answer is not HTTP");
}

static void on_written(uv_write_t *req, int status)
{
	struct try *t = req->data;

	/* What was answered before all was sent is read. */
	if (status < 0 && status != UV_EPIPE && status != UV_ECANCELED)
		finish(t, status);
}

static void on_http_connected(uv_connect_t *req, int status)
{
	struct try *t = req->data;
	uv_buf_t out;

	if (status == 0 && t->op) {
		out = uv_buf_init(t->request, (unsigned)strlen(t->request));
		status = uv_read_start((uv_stream_t *)&t->tcp, on_room, on_read);
		if (status == 0)
			status = uv_write(&t->write, (uv_stream_t *)&t->tcp, &out, 1, on_written);
	}
	if (status < 0)
		finish(t, status);
}

static void probe_http(void *user, struct davit_probe *p, struct davit_op *op)
{
	bool six = strchr(p->address, ':') != NULL;
	char *request, host[80];
	struct try *t;

	snprintf(host, sizeof host, "%s%s%s:%u", six ? "[" : "", p->address, six ? "]" : "", p->port);
	if (asprintf(&request,
		     "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: davit-health\r\nAccept: */*\r\n"
		     "Connection: close\r\n\r\n",
		     p->path, p->host ? p->host : host) < 0) {
		davit_op_fail(op, DAVIT_ENOMEM, "health", "out of memory");
		return;
	}
	t = begin(user, p, op, on_http_connected);
	if (!t) {
		free(request);
		return;
	}
	t->request = request;
	http_parser_init(&t->parser, HTTP_RESPONSE);
	t->parser.data = t;
}

/* ------------------------------------------------------------------------ files */

/* A file system that does not answer keeps one of libuv's threads, not the loop. */
struct look {
	uv_fs_t req;
	struct davit_op *op; /* NULL once completed */
};

static void on_look_cancel(struct davit_op *op, int why)
{
	struct look *l = op->performer;

	l->op = NULL;
	davit_op_complete(op, why);
}

static void on_looked(uv_fs_t *req)
{
	struct look *l = req->data;
	int e = (int)req->result;

	uv_fs_req_cleanup(req);
	if (l->op && e < 0)
		davit_op_fail(l->op, DAVIT_EIO, "health", "%s", uv_strerror(e));
	else if (l->op)
		davit_op_complete(l->op, 0);
	free(l);
}

static void probe_file(void *user, struct davit_probe *p, struct davit_op *op)
{
	struct look *l = calloc(1, sizeof *l);

	if (l) {
		l->op = op;
		l->req.data = l;
		op->performer = l;
	}
	if (!l || uv_fs_stat(davit_loop_uv(user), &l->req, p->file, on_looked) < 0) {
		free(l);
		davit_op_fail(op, DAVIT_ENOMEM, "health", "out of memory");
		return;
	}
	davit_op_on_cancel(op, on_look_cancel);
}

const struct davit_core_probes daemon_probes = {
	.tcp = probe_tcp,
	.http = probe_http,
	.file = probe_file,
};
