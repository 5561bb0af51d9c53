/* SPDX-License-Identifier: MIT
 *
 * What handlers call to answer.
 */
#include "base/json.h"
#include "net/server_impl.h"

#include <string.h>

static const char *reason(int status)
{
	const char *text = http_status_str((enum http_status)status);

	return text[0] == '<' ? "Canceled" : text; /* 499 is nobody's standard */
}

static void begin(struct http_conn *c, int status, const char *content_type)
{
	davit_buf_addf(&c->out, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\n", status, reason(status),
		       content_type);
	if (!c->keep_alive)
		davit_buf_adds(&c->out, "Connection: close\r\n");
	if (c->extra.len)
		davit_buf_add(&c->out, c->extra.data, c->extra.len);
}

static void ended(struct http_conn *c)
{
	c->phase = HTTP_FLUSHING;
	if (c->gone)
		http_release(c);
	else
		http_kick(c);
}

void davit_http_add_header(struct davit_http_request *r, const char *name, const char *value)
{
	davit_buf_addf(&http_conn_of(r)->extra, "%s: %s\r\n", name, value);
}

void davit_http_reply(struct davit_http_request *r, int status, const char *content_type, const void *body,
		      size_t n)
{
	struct http_conn *c = http_conn_of(r);

	if (!c->gone) {
		c->keep_alive = c->keep_alive && !c->eof;
		begin(c, status, content_type);
		davit_buf_addf(&c->out, "Content-Length: %zu\r\n\r\n", n);
		if (strcmp(r->method, "HEAD"))
			davit_buf_add(&c->out, body, n);
	}
	ended(c);
}

void davit_http_error_json(struct davit_buf *out, const struct davit_error *err)
{
	struct davit_json j = DAVIT_JSON_INIT(out);

	davit_json_open(&j);
	davit_json_put_error(&j, err);
	davit_json_close(&j);
}

void davit_http_reply_error(struct davit_http_request *r, int status, const struct davit_error *err)
{
	DAVIT_AUTO_BUF body = DAVIT_BUF_INIT;

	davit_http_error_json(&body, err);
	davit_buf_addc(&body, '\n');
	davit_http_reply(r, status ? status : davit_error_http(err->code), "application/json",
			 davit_buf_str(&body), body.len);
}

void http_refuse(struct http_conn *c, int status, const char *message)
{
	struct davit_error err = {0};

	davit_error_set(&err,
			status == 507	? DAVIT_ENOMEM
			: status == 408 ? DAVIT_ETIMEDOUT
					: DAVIT_EINVAL,
			NULL, "%s", message);
	if (!c->req.method)
		c->req.method = "GET"; /* it was not read that far */
	c->keep_alive = false;
	davit_http_reply_error(&c->req, status, &err);
}

void http_refusal(struct davit_buf *out, int status, const struct davit_error *err)
{
	DAVIT_AUTO_BUF body = DAVIT_BUF_INIT;

	davit_http_error_json(&body, err);
	davit_buf_addf(out,
		       "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nConnection: close\r\n"
		       "Content-Length: %zu\r\n\r\n%s",
		       status, reason(status), body.len, davit_buf_str(&body));
}

void davit_http_stream(struct davit_http_request *r, int status, const char *content_type)
{
	struct http_conn *c = http_conn_of(r);

	c->phase = HTTP_STREAM;
	if (c->gone)
		return;
	c->keep_alive = c->keep_alive && c->chunked && !c->eof;
	begin(c, status, content_type);
	davit_buf_adds(&c->out, c->chunked ? "Transfer-Encoding: chunked\r\n\r\n" : "\r\n");
	http_kick(c);
}

void davit_http_upgrade(struct davit_http_request *r, const char *protocol)
{
	struct http_conn *c = http_conn_of(r);

	c->phase = HTTP_RAW;
	if (c->gone)
		return;
	c->keep_alive = false;
	davit_buf_addf(&c->out, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n",
		       protocol);
	if (c->extra.len)
		davit_buf_add(&c->out, c->extra.data, c->extra.len);
	davit_buf_adds(&c->out, "\r\n");
	http_kick(c);
}

bool davit_http_write(struct davit_http_request *r, const void *data, size_t n)
{
	struct http_conn *c = http_conn_of(r);

	if (c->gone)
		return false;
	if (n && c->phase == HTTP_STREAM && c->chunked) {
		davit_buf_addf(&c->out, "%zx\r\n", n);
		davit_buf_add(&c->out, data, n);
		davit_buf_add(&c->out, "\r\n", 2);
	} else {
		davit_buf_add(&c->out, data, n);
	}
	http_kick(c);
	c->blocked = c->blocked || c->out.len + c->flying.len > HTTP_HIGH_WATER;
	return !c->blocked;
}

void davit_http_pause_input(struct davit_http_request *r, bool pause)
{
	struct http_conn *c = http_conn_of(r);

	c->paused = pause;
	if (c->gone)
		return;
	http_update_reading(c);
	http_kick(c); /* what was read before it paused is given out later */
}

void davit_http_end(struct davit_http_request *r)
{
	struct http_conn *c = http_conn_of(r);

	if (c->phase == HTTP_STREAM && c->chunked)
		davit_buf_adds(&c->out, "0\r\n\r\n");
	if (c->eof)
		c->keep_alive = false;
	ended(c);
}

void davit_http_abort(struct davit_http_request *r)
{
	struct http_conn *c = http_conn_of(r);

	http_cut(c);
	ended(c);
}
