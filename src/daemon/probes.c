/* SPDX-License-Identifier: MIT */
#include "daemon/probes.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/util.h"
#include "net/tls.h"

#include <dlfcn.h>
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
	const struct davit_tls_functions *functions;
	struct davit_tls *tls; /* of https */
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

	if (t->tls)
		t->functions->close(t->tls);
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
	begin(((struct daemon_prober *)user)->loop, p, op, on_connected);
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

/* What the program behind the port has said. */
static void take(struct try *t, const char *data, size_t n)
{
	size_t parsed;

	t->received += n;
	parsed = http_parser_execute(&t->parser, &settings, data, n);
	if (t->whole)
		finish(t, 0);
	else if (parsed != n || t->received > HEAD_MAX)
		refuse(t, "the answer is not HTTP");
}

/* What is under way to the socket: freed when it is there. */
struct sending {
	uv_write_t write;
	struct davit_buf data;
};

static void on_cipher_written(uv_write_t *req, int status)
{
	struct sending *s = DAVIT_CONTAINER_OF(req, struct sending, write);
	struct try *t = req->data;

	davit_buf_fini(&s->data);
	free(s);
	if (status < 0 && status != UV_EPIPE && status != UV_ECANCELED)
		finish(t, status);
}

/* Takes data. */
static int send_cipher(struct try *t, struct davit_buf *data)
{
	struct sending *s = calloc(1, sizeof *s);
	uv_buf_t out;
	int r;

	if (!s) {
		davit_buf_fini(data);
		return UV_ENOMEM;
	}
	s->data = *data;
	s->write.data = t;
	out = uv_buf_init(s->data.data, (unsigned)s->data.len);
	r = uv_write(&s->write, (uv_stream_t *)&t->tcp, &out, 1, on_cipher_written);
	if (r < 0) {
		davit_buf_fini(&s->data);
		free(s);
	}
	return r;
}

/* Bytes of a connection of TLS, none at its beginning. */
static void turn(struct try *t, const char *data, size_t n)
{
	struct davit_buf cipher = DAVIT_BUF_INIT;
	DAVIT_AUTO_BUF plain = DAVIT_BUF_INIT;
	struct davit_error why;
	int r = t->functions->turn(t->tls, data, n, &plain, &cipher, &why), e = 0;

	if (cipher.len)
		e = send_cipher(t, &cipher);
	else
		davit_buf_fini(&cipher);
	if (plain.len && t->op)
		take(t, plain.data, plain.len);
	if (!t->op)
		return;
	if (r == 1 && t->head)
		finish(t, 0);
	else if (r == 1)
		refuse(t, "closed without an answer");
	else if (r == DAVIT_ENOMEM)
		finish(t, UV_ENOMEM);
	else if (r < 0)
		refuse(t, why.message);
	else if (e < 0)
		finish(t, e);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
	struct try *t = s->data;

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
	if (t->tls)
		turn(t, buf->base, (size_t)n);
	else
		take(t, buf->base, (size_t)n);
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
		if (status == 0 && t->tls)
			turn(t, NULL, 0);
		else if (status == 0)
			status = uv_write(&t->write, (uv_stream_t *)&t->tcp, &out, 1, on_written);
	}
	if (status < 0)
		finish(t, status);
}

/* Loaded once, and never let go: OpenSSL cannot be. */
static int load_tls(struct daemon_prober *prober, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *path = prober->tls ? NULL : davit_path_join(prober->libexec, "davit-tls.so");
	void *module = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;

	if (!prober->tls && module)
		prober->tls = dlsym(module, DAVIT_TLS_SYMBOL);
	if (prober->tls)
		return 0;
	return path ? davit_error_set(err, DAVIT_EIO, "health", "there is no TLS: %s", dlerror())
		    : davit_error_set(err, DAVIT_ENOMEM, "health", "out of memory");
}

/* Whom the certificate must name: the host without its port, else the address. */
static int open_tls(struct daemon_prober *prober, const struct davit_probe *p, struct davit_tls **ret,
		    struct davit_error *err)
{
	const char *host = p->host ? p->host : p->address;
	const char *colon = p->host && *host != '[' ? strrchr(host, ':') : NULL;
	size_t brackets = *host == '[', n = colon ? (size_t)(colon - host) : strcspn(host + brackets, "]");
	DAVIT_AUTO_FREE char *name = strndup(host + brackets, n);
	const struct davit_tls_config config = {.name = name, .ca = p->ca, .insecure = p->insecure};
	int r = load_tls(prober, err);

	if (r < 0)
		return r;
	return name ? prober->tls->open(&config, ret, err)
		    : davit_error_set(err, DAVIT_ENOMEM, "health", "out of memory");
}

static void probe_http(void *user, struct davit_probe *p, struct davit_op *op)
{
	struct daemon_prober *prober = user;
	bool six = strchr(p->address, ':') != NULL;
	struct davit_tls *tls = NULL;
	char *request, host[80];
	struct davit_error err;
	struct try *t;

	if (p->tls && open_tls(prober, p, &tls, &err) < 0) {
		davit_op_fail_error(op, &err);
		return;
	}
	snprintf(host, sizeof host, "%s%s%s:%u", six ? "[" : "", p->address, six ? "]" : "", p->port);
	if (asprintf(&request,
		     "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: davit-health\r\nAccept: */*\r\n"
		     "Connection: close\r\n\r\n",
		     p->path, p->host ? p->host : host) < 0 ||
	    (tls && prober->tls->say(tls, request, strlen(request), NULL) < 0)) {
		if (tls)
			prober->tls->close(tls);
		davit_op_fail(op, DAVIT_ENOMEM, "health", "out of memory");
		return;
	}
	t = begin(prober->loop, p, op, on_http_connected);
	if (!t) {
		if (tls)
			prober->tls->close(tls);
		free(request);
		return;
	}
	t->request = request;
	t->functions = prober->tls;
	t->tls = tls;
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
	if (!l || uv_fs_stat(davit_loop_uv(((struct daemon_prober *)user)->loop), &l->req, p->file,
			     on_looked) < 0) {
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
