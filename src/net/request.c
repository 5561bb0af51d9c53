/* SPDX-License-Identifier: MIT
 *
 * From bytes to a request, by http_parser.
 */
#include "net/server_impl.h"

#include <limits.h>
#include <string.h>
#include <strings.h>

/* Adds to the head, where every piece ends with a NUL. */
static int add(struct http_conn *c, const char *at, size_t n)
{
	c->head_size += n;
	if (c->head_size > c->server->config.max_head) {
		c->refuse = 431;
		return -1;
	}
	/* Trailers of a chunked body count, and are not kept: the request stands,
	 * and points into the head. */
	if (c->req.target)
		return 0;
	davit_buf_add(&c->head, at, n);
	if (c->head.oom)
		c->refuse = 507;
	return c->refuse ? -1 : 0;
}

static int on_url(http_parser *p, const char *at, size_t n)
{
	return add(p->data, at, n);
}

/* A field after a value, or after the target, begins a new piece. */
static int on_header_field(http_parser *p, const char *at, size_t n)
{
	struct http_conn *c = p->data;

	if (c->in_value && !c->req.target)
		davit_buf_addc(&c->head, '\0');
	c->in_value = false;
	return add(c, at, n);
}

static int on_header_value(http_parser *p, const char *at, size_t n)
{
	struct http_conn *c = p->data;

	if (!c->in_value && !c->req.target)
		davit_buf_addc(&c->head, '\0');
	c->in_value = true;
	return add(c, at, n);
}

static int on_headers_complete(http_parser *p)
{
	struct http_conn *c = p->data;
	const struct davit_http_config *config = &c->server->config;
	const char *expect;

	davit_buf_addc(&c->head, '\0');
	if (c->head.oom) {
		c->refuse = 507;
		return -1;
	}
	c->req.target = c->head.data;
	c->req.method = http_method_str((enum http_method)p->method);
	if (p->http_major != 1 || c->req.target[0] != '/') {
		c->refuse = p->http_major > 1 ? 505 : 400;
		return -1;
	}
	c->chunked = p->http_major == 1 && p->http_minor >= 1;
	c->req.streaming = config->streams && config->streams(config->user, &c->req);
	c->ready = c->req.streaming;
	if (!c->req.streaming && p->content_length != ULLONG_MAX && p->content_length > config->max_body) {
		c->refuse = 413;
		return -1;
	}
	expect = davit_http_header(&c->req, "Expect");
	if (expect && strcasecmp(expect, "100-continue")) {
		c->refuse = 417;
		return -1;
	}
	if (expect && p->http_minor >= 1) {
		davit_buf_adds(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
		http_kick(c);
	}
	return 0;
}

/* Refused before its bytes come. */
static int on_chunk_header(http_parser *p)
{
	struct http_conn *c = p->data;

	if (!c->req.streaming && p->content_length > c->server->config.max_body - c->req.body.len)
		c->refuse = 413;
	return c->refuse ? -1 : 0;
}

static int on_body(http_parser *p, const char *at, size_t n)
{
	struct http_conn *c = p->data;

	if (!c->req.streaming && c->req.body.len + n > c->server->config.max_body) {
		c->refuse = 413;
		return -1;
	}
	davit_buf_add(&c->req.body, at, n);
	if (c->req.body.oom)
		c->refuse = 507;
	return c->refuse ? -1 : 0;
}

static int on_message_complete(http_parser *p)
{
	struct http_conn *c = p->data;

	c->complete = true;
	/* One that is being answered before its end has been told that it closes. */
	c->keep_alive = c->phase != HTTP_STREAM && http_should_keep_alive(p);
	c->req.upgrade = p->upgrade;
	http_parser_pause(p, 1);
	return 0;
}

static const http_parser_settings settings = {
	.on_url = on_url,
	.on_header_field = on_header_field,
	.on_header_value = on_header_value,
	.on_headers_complete = on_headers_complete,
	.on_chunk_header = on_chunk_header,
	.on_body = on_body,
	.on_message_complete = on_message_complete,
};

void http_request_reset(struct http_conn *c)
{
	http_parser_init(&c->parser, HTTP_REQUEST);
	c->parser.data = c;
	davit_buf_fini(&c->req.body);
	davit_buf_fini(&c->head);
	davit_buf_fini(&c->extra);
	c->req = (struct davit_http_request){0};
	c->head_size = 0;
	/* The target comes before the first field and is closed like a value. */
	c->in_value = true;
	c->complete = c->began = c->keep_alive = c->chunked = c->blocked = c->paused = false;
	c->ready = c->told_end = false;
	c->refuse = 0;
}

bool http_request_parse(struct http_conn *c)
{
	size_t used = http_parser_execute(&c->parser, &settings, c->in.data, c->in.len);
	enum http_errno e = HTTP_PARSER_ERRNO(&c->parser);

	davit_buf_consume(&c->in, used);
	if (!c->in.len)
		davit_buf_fini(&c->in);
	if (c->complete)
		return true;
	if (!c->refuse && e != HPE_OK)
		c->refuse = e == HPE_HEADER_OVERFLOW ? 431 : 400;
	return c->refuse != 0 || c->ready;
}

const char *davit_http_header(const struct davit_http_request *r, const char *name)
{
	const struct davit_buf *head = &http_conn_of(r)->head;
	size_t at = strlen(davit_buf_str(head)) + 1;

	while (at < head->len) {
		const char *field = head->data + at, *value;
		at += strlen(field) + 1;
		value = at < head->len ? head->data + at : "";
		at += strlen(value) + 1;
		if (!strcasecmp(field, name))
			return value;
	}
	return NULL;
}
