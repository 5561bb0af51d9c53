/* SPDX-License-Identifier: MIT */
#include "net/client.h"

#include "base/util.h"
#include "net/unix.h"

#include <errno.h>
#include <http_parser.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

enum {
	READ_SIZE = 64 * 1024,
	LINE_MAX_SIZE = 16 * 1024 * 1024,
	HEADERS_MAX = 64 * 1024,
};

struct davit_client {
	int fd;	    /* -1 once it was taken */
	int output; /* whose reader is waited for as well, or -1 */
	int64_t timeout, patience;
	int (*lives)(struct davit_client *c, void *user, struct davit_error *err); /* or NULL */
	void *user;								   /* of `lives` */
	http_parser parser;
	struct davit_buf headers; /* name NUL value NUL ... of the response */
	struct davit_buf body;	  /* decoded; what comes before `taken` was given out */
	size_t taken;
	size_t searched; /* no newline before this offset of body */
	bool in_value;
	bool head_done, body_done;
	bool cut;    /* the request did not go out whole */
	bool heard;  /* some of the response came */
	bool idle;   /* nothing was sent, or its response is whole */
	bool broken; /* the stream of bytes cannot be relied on any more */
};

/* --- connection --- */

int davit_client_open(const char *path, struct davit_client **ret, struct davit_error *err)
{
	struct davit_client *c = calloc(1, sizeof *c);
	int r;

	if (!c)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	c->idle = true;
	c->output = -1;
	r = davit_unix_connect(path, &c->fd, err);
	if (r < 0) {
		free(c);
		return r;
	}
	*ret = c;
	return 0;
}

void davit_client_close(struct davit_client *c)
{
	if (!c)
		return;
	if (c->fd >= 0)
		close(c->fd);
	davit_buf_fini(&c->headers);
	davit_buf_fini(&c->body);
	free(c);
}

void davit_client_set_timeout(struct davit_client *c, int64_t ns)
{
	c->timeout = ns;
}

void davit_client_set_patience(struct davit_client *c, int64_t ns,
			       int (*lives)(struct davit_client *c, void *user, struct davit_error *err),
			       void *user)
{
	c->patience = ns;
	c->lives = lives;
	c->user = user;
}

void davit_client_set_output(struct davit_client *c, int fd)
{
	c->output = fd;
}

int davit_client_fd(const struct davit_client *c)
{
	return c->fd;
}

/* --- what the parser finds --- */

static int add_header(struct davit_client *c, const char *at, size_t n)
{
	if (c->headers.len + n > HEADERS_MAX)
		return -1;
	davit_buf_add(&c->headers, at, n);
	return c->headers.oom ? -1 : 0;
}

static int on_header_field(http_parser *p, const char *at, size_t n)
{
	struct davit_client *c = p->data;

	if (c->in_value)
		davit_buf_addc(&c->headers, '\0');
	c->in_value = false;
	return add_header(c, at, n);
}

static int on_header_value(http_parser *p, const char *at, size_t n)
{
	struct davit_client *c = p->data;

	if (!c->in_value)
		davit_buf_addc(&c->headers, '\0');
	c->in_value = true;
	return add_header(c, at, n);
}

static int on_headers_complete(http_parser *p)
{
	struct davit_client *c = p->data;

	if (c->in_value)
		davit_buf_addc(&c->headers, '\0');
	/* An interim response (100 Continue) is followed by the real one. */
	if (p->status_code >= 200 || p->status_code == 101)
		c->head_done = true;
	return 0;
}

static int on_body(http_parser *p, const char *at, size_t n)
{
	struct davit_client *c = p->data;

	davit_buf_add(&c->body, at, n);
	return c->body.oom ? -1 : 0;
}

static int on_message_complete(http_parser *p)
{
	struct davit_client *c = p->data;

	if (c->head_done)
		c->body_done = true;
	else
		davit_buf_reset(&c->headers);
	c->in_value = false;
	return 0;
}

static const http_parser_settings settings = {
	.on_header_field = on_header_field,
	.on_header_value = on_header_value,
	.on_headers_complete = on_headers_complete,
	.on_body = on_body,
	.on_message_complete = on_message_complete,
};

/* --- bytes --- */

static int fail(struct davit_client *c, int code, struct davit_error *err, const char *message)
{
	c->broken = true;
	return davit_error_set(err, code, NULL, "%s", message);
}

static int wait_for(struct davit_client *c, short events, struct davit_error *err)
{
	/* Of a descriptor without events only its end is told. */
	struct pollfd p[2] = {{.fd = c->fd, .events = events}, {.fd = c->output}};
	int64_t wait = c->lives && (c->timeout <= 0 || c->patience < c->timeout) ? c->patience : c->timeout;
	int64_t ms = wait > 0 ? (wait + 999999) / 1000000 : -1, waited = 0;
	long n;

	if (ms < 0 && c->output < 0)
		return 0; /* the call itself waits */
	do {
		n = DAVIT_EINTR(poll(p, 2, ms > INT_MAX ? INT_MAX : (int)ms));
		waited += wait;
		if (n == 0 && c->lives) {
			int r = c->lives(c, c->user, err);
			if (r < 0)
				return r;
		}
	} while (n == 0 && c->lives && (c->timeout <= 0 || waited < c->timeout));
	if (n < 0)
		return davit_error_errno(err, errno, NULL, "cannot wait for the daemon");
	if (n == 0)
		return davit_error_set(err, DAVIT_ETIMEDOUT, NULL, "the daemon does not answer");
	if (p[1].revents & (POLLERR | POLLHUP))
		return davit_error_set(err, DAVIT_ECANCELED, NULL, "nobody reads the output any more");
	/* A closed output does not end the wait, and is not looked at again. */
	if (!p[0].revents)
		c->output = -1;
	return 0;
}

static int parse(struct davit_client *c, const char *data, size_t n, struct davit_error *err)
{
	size_t used = http_parser_execute(&c->parser, &settings, data, n);

	if (c->headers.oom || c->body.oom)
		return fail(c, DAVIT_ENOMEM, err, "out of memory");
	if (c->parser.upgrade) {
		/* The bytes behind the head belong to the other protocol. */
		davit_buf_add(&c->body, data + used, n - used);
		return c->body.oom ? fail(c, DAVIT_ENOMEM, err, "out of memory") : 0;
	}
	if (HTTP_PARSER_ERRNO(&c->parser) != HPE_OK || used != n) {
		c->broken = true;
		return davit_error_set(err, DAVIT_EPROTO, NULL, "the daemon's answer is no HTTP: %s",
				       http_errno_description(HTTP_PARSER_ERRNO(&c->parser)));
	}
	return 0;
}

/* When a unix socket is closed before all that was sent to it was read, also one that was never
 * accepted, the sender is told of a reset (unix_release_sock in Linux); else of an end. */
static int closed(struct davit_client *c, bool reset, struct davit_error *err)
{
	int r = fail(c, DAVIT_ECLOSED, err, "the daemon closed the connection");

	if (err && !c->heard && (reset || c->cut))
		err->sys_errno = ECONNRESET;
	return r;
}

/* Reads once and parses. */
static int feed(struct davit_client *c, struct davit_error *err)
{
	char data[READ_SIZE];
	ssize_t n;
	int r;

	if (c->broken)
		return davit_error_set(err, DAVIT_ECLOSED, NULL, "the connection to the daemon is closed");
	r = wait_for(c, POLLIN, err);
	if (r < 0)
		return r;
	n = DAVIT_EINTR(recv(c->fd, data, sizeof data, 0));
	if (n < 0 && errno != ECONNRESET) {
		c->broken = true;
		return davit_error_errno(err, errno, NULL, "cannot read from the daemon");
	}
	if (n > 0) {
		c->heard = true;
		return parse(c, data, (size_t)n, err);
	}
	/* A body without a length ends with the connection. */
	if (n == 0 && c->head_done && http_parser_execute(&c->parser, &settings, "", 0) == 0 &&
	    c->body_done) {
		c->broken = true;
		return 0;
	}
	return closed(c, n < 0, err);
}

/* A peer that closed its end may have answered before: then reading tells. */
static int send_all(struct davit_client *c, const char *data, size_t n, struct davit_error *err)
{
	while (n) {
		int r = wait_for(c, POLLOUT, err);
		ssize_t sent;
		if (r < 0) {
			c->broken = true;
			return r;
		}
		sent = DAVIT_EINTR(send(c->fd, data, n, MSG_NOSIGNAL));
		if (sent < 0 && (errno == EPIPE || errno == ECONNRESET)) {
			c->cut = true;
			return 0;
		}
		if (sent < 0) {
			c->broken = true;
			return davit_error_errno(err, errno, NULL, "cannot write to the daemon");
		}
		data += sent;
		n -= (size_t)sent;
	}
	return 0;
}

/* --- requests --- */

/* A line break inside a header or a target would smuggle in another one. */
static bool one_line(const char *s)
{
	return !s || !s[strcspn(s, "\r\n")];
}

static int write_head(const struct davit_client_request *q, struct davit_buf *out, struct davit_error *err)
{
	bool good = one_line(q->method) && one_line(q->target) && !strchr(q->target, ' ') &&
		    q->target[0] == '/' && one_line(q->content_type) && one_line(q->cause) &&
		    one_line(q->upgrade);

	davit_buf_addf(out, "%s %s HTTP/1.1\r\nHost: davit\r\n", q->method ? q->method : "GET", q->target);
	if (q->upgrade)
		davit_buf_addf(out, "Connection: Upgrade\r\nUpgrade: %s\r\n", q->upgrade);
	if (q->cause)
		davit_buf_addf(out, "Davit-Cause: %s\r\n", q->cause);
	if (q->body)
		davit_buf_addf(out, "Content-Type: %s\r\nContent-Length: %zu\r\n",
			       q->content_type ? q->content_type : "application/json", q->body_len);
	if (q->produce)
		davit_buf_addf(out, "Content-Type: %s\r\nTransfer-Encoding: chunked\r\n",
			       q->content_type ? q->content_type : "application/octet-stream");
	for (size_t i = 0; i < q->n_headers; i++) {
		good = good && one_line(q->headers[i].name) && one_line(q->headers[i].value);
		davit_buf_addf(out, "%s: %s\r\n", q->headers[i].name, q->headers[i].value);
	}
	davit_buf_adds(out, "\r\n");
	if (q->body)
		davit_buf_add(out, q->body, q->body_len);
	if (!good)
		return davit_error_set(err, DAVIT_EINVAL, NULL,
				       "a request cannot hold a line break or blank there");
	return out->oom ? davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory") : 0;
}

/* The body piece by piece. A daemon that has answered before its end (and closed)
 * is heard instead. */
static int send_body(struct davit_client *c, const struct davit_client_request *q, struct davit_error *err)
{
	struct pollfd p = {.fd = c->fd, .events = POLLIN};
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	char piece[READ_SIZE];
	ssize_t n;
	int r;

	do {
		n = q->produce(q->user, piece, sizeof piece, err);
		if (n < 0)
			return (int)n;
		davit_buf_reset(&out);
		davit_buf_addf(&out, "%zx\r\n", (size_t)n);
		davit_buf_add(&out, piece, (size_t)n);
		davit_buf_adds(&out, "\r\n");
		if (out.oom)
			return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
		r = send_all(c, out.data, out.len, err);
		if (r < 0)
			return r;
	} while (n && !(poll(&p, 1, 0) > 0 && (p.revents & POLLHUP)));
	return 0;
}

/* A late answer would be taken for the next request's. */
static int broken(struct davit_client *c, int r)
{
	c->broken = r < 0;
	return r;
}

int davit_client_begin(struct davit_client *c, const struct davit_client_request *request,
		       struct davit_error *err)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	int r;

	if (c->fd < 0 || c->broken)
		return davit_error_set(err, DAVIT_ECLOSED, NULL, "the connection to the daemon is closed");
	if (!c->idle && !c->body_done)
		return davit_error_set(err, DAVIT_ESTATE, NULL,
				       "the previous answer was not read to its end");
	r = write_head(request, &out, err);
	if (r < 0)
		return r;
	http_parser_init(&c->parser, HTTP_RESPONSE);
	c->parser.data = c;
	davit_buf_reset(&c->headers);
	davit_buf_reset(&c->body);
	c->taken = c->searched = 0;
	c->head_done = c->body_done = c->in_value = c->idle = c->cut = c->heard = false;
	r = send_all(c, out.data, out.len, err);
	if (r == 0 && request->produce)
		r = send_body(c, request, err);
	return broken(c, r);
}

/* Reads on until the head is there. */
static int read_head(struct davit_client *c, int *ret_status, struct davit_error *err)
{
	int r = c->broken
			? davit_error_set(err, DAVIT_ECLOSED, NULL, "the connection to the daemon is closed")
			: 0;

	while (r == 0 && !c->head_done)
		r = feed(c, err);
	if (r == 0)
		*ret_status = (int)c->parser.status_code;
	return broken(c, r);
}

int davit_client_send(struct davit_client *c, const struct davit_client_request *request, int *ret_status,
		      struct davit_error *err)
{
	int r = davit_client_begin(c, request, err);

	return r < 0 ? r : read_head(c, ret_status, err);
}

const char *davit_client_header(const struct davit_client *c, const char *name)
{
	size_t at = 0;

	while (at < c->headers.len) {
		const char *field = c->headers.data + at, *value;
		at += strlen(field) + 1;
		value = at < c->headers.len ? c->headers.data + at : "";
		at += strlen(value) + 1;
		if (!strcasecmp(field, name))
			return value;
	}
	return NULL;
}

/* --- bodies --- */

int davit_client_body(struct davit_client *c, size_t max, struct davit_buf *out, struct davit_error *err)
{
	while (!c->body_done) {
		int r;
		if (c->body.len - c->taken > max)
			break;
		r = feed(c, err);
		if (r < 0)
			return r;
	}
	if (c->body.len - c->taken > max)
		return fail(c, DAVIT_EPROTO, err, "the daemon's answer is too long");
	if (c->body.len > c->taken)
		davit_buf_add(out, c->body.data + c->taken, c->body.len - c->taken);
	davit_buf_reset(&c->body);
	c->taken = c->searched = 0;
	return out->oom ? davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory") : 0;
}

ssize_t davit_client_read(struct davit_client *c, void *buf, size_t n, struct davit_error *err)
{
	size_t there;

	while (c->body.len == c->taken && !c->body_done) {
		int r;
		davit_buf_reset(&c->body);
		c->taken = 0;
		r = feed(c, err);
		if (r < 0)
			return r;
	}
	there = c->body.len - c->taken;
	if (n > there)
		n = there;
	if (n)
		memcpy(buf, c->body.data + c->taken, n);
	c->taken += n;
	return (ssize_t)n;
}

static const char *newline(const struct davit_client *c)
{
	size_t from = c->searched > c->taken ? c->searched : c->taken;

	return c->body.len > from ? memchr(c->body.data + from, '\n', c->body.len - from) : NULL;
}

bool davit_client_line_ready(const struct davit_client *c)
{
	return c->body_done || c->broken || newline(c);
}

static int give_line(struct davit_client *c, size_t end, const char **ret_line, size_t *ret_len)
{
	*ret_line = c->body.data + c->taken;
	*ret_len = end - c->taken;
	c->body.data[end] = '\0';
	c->taken = c->searched = end < c->body.len ? end + 1 : end;
	return 1;
}

int davit_client_line(struct davit_client *c, const char **ret_line, size_t *ret_len, struct davit_error *err)
{
	for (;;) {
		const char *end = newline(c);
		int r;
		if (end)
			return give_line(c, (size_t)(end - c->body.data), ret_line, ret_len);
		if (c->body_done)
			return c->body.len > c->taken ? give_line(c, c->body.len, ret_line, ret_len) : 0;
		davit_buf_consume(&c->body, c->taken);
		c->taken = 0;
		c->searched = c->body.len;
		if (c->body.len > LINE_MAX_SIZE)
			return fail(c, DAVIT_EPROTO, err, "a line of the daemon's answer is too long");
		r = feed(c, err);
		if (r < 0)
			return r;
	}
}

int davit_client_take_fd(struct davit_client *c, int *ret_fd, struct davit_buf *early,
			 struct davit_error *err)
{
	if (c->fd < 0 || !c->head_done || !c->parser.upgrade)
		return davit_error_set(err, DAVIT_ESTATE, NULL, "the daemon did not switch protocols");
	if (c->body.len)
		davit_buf_add(early, c->body.data, c->body.len);
	if (early->oom)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	*ret_fd = DAVIT_TAKE_FD(c->fd);
	return 0;
}
