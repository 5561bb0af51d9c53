/* SPDX-License-Identifier: MIT */
#include "runtime/engine/hijack.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define HEAD_MAX 16384

static void watch(struct hijack *h)
{
	int events = 0;

	if (!h->eof && h->in.len < HIJACK_BUFFER)
		events |= LOCAL_READABLE;
	if (h->out.len)
		events |= LOCAL_WRITABLE;
	local_poll_set(h->poll, events);
}

static void broken(struct hijack *h, int code, const char *text)
{
	h->eof = true;
	if (!h->why.code)
		davit_error_set(&h->why, code, NULL, "%s", text);
	davit_defer(&h->deliver);
}

/* --- the answer's head --- */

/* What was refused comes with a text. Its connection may stay open: no more than
 * what has arrived is looked at. */
static void refused(struct hijack *h, int status, const char *body)
{
	json_t *o = json_loads(body, 0, NULL);
	const char *message = json_string_value(json_object_get(o, "message"));
	char text[64];

	snprintf(text, sizeof text, "HTTP status %d", status);
	broken(h, http_error_code(status), message ? message : text);
	json_decref(o);
}

static void take_head(struct hijack *h)
{
	char *end = strstr(davit_buf_str(&h->in), "\r\n\r\n");
	int status = 0;

	if (!end) {
		if (h->in.len > HEAD_MAX || h->eof)
			broken(h, DAVIT_EPROTO, "the engine's answer makes no sense");
		return;
	}
	if (sscanf(h->in.data, "HTTP/1.%*d %d", &status) != 1) {
		broken(h, DAVIT_EPROTO, "the engine's answer makes no sense");
	} else if (status == 101 || status == 200) {
		davit_buf_consume(&h->in, (size_t)(end + 4 - h->in.data));
		h->phase = HIJACK_OPEN;
		davit_defer(&h->deliver);
		h->opened(h);
	} else if (h->eof || strchr(end, '}')) {
		refused(h, status, end + 4);
	}
}

static void on_deliver(struct davit_deferred *d)
{
	struct hijack *h = DAVIT_CONTAINER_OF(d, struct hijack, deliver);

	size_t before = h->in.len;

	if (h->phase == HIJACK_ASKING && !h->why.code) {
		take_head(h); /* may close it */
		return;
	}
	if (h->phase == HIJACK_OPEN && h->in.len && !h->held && !h->data(h))
		return;
	if (h->phase == HIJACK_OPEN && h->held && h->in.len)
		return;
	if (h->in.len && h->in.len < before)
		davit_defer(&h->deliver);
	else if (h->eof && !h->told) {
		h->told = true;
		h->phase = HIJACK_ENDED;
		local_poll_set(h->poll, 0);
		h->ended(h, h->why.code ? &h->why : NULL);
	} else if (h->poll && !h->eof) {
		watch(h);
	}
}

/* --- the connection --- */

static void flush(struct hijack *h)
{
	size_t n;
	CURLcode r;

	while (h->out.len) {
		r = curl_easy_send(h->call->easy, h->out.data, h->out.len, &n);
		if (r == CURLE_AGAIN)
			return;
		if (r != CURLE_OK) {
			/* The command does not read any more; what it says may still come. */
			davit_buf_reset(&h->out);
			h->half_closed = true;
			return;
		}
		davit_buf_consume(&h->out, n);
	}
	if (h->half_closed)
		shutdown(h->fd, SHUT_WR);
}

static void fill(struct hijack *h)
{
	size_t n;
	CURLcode r;

	while (h->in.len < HIJACK_BUFFER) {
		if (davit_buf_reserve(&h->in, 16384) < 0) {
			broken(h, DAVIT_ENOMEM, "out of memory");
			return;
		}
		r = curl_easy_recv(h->call->easy, h->in.data + h->in.len, 16384, &n);
		if (r == CURLE_AGAIN)
			return;
		if (r != CURLE_OK || n == 0) {
			h->eof = true;
			return;
		}
		h->in.len += n;
		h->in.data[h->in.len] = '\0';
	}
}

static void on_poll(void *user, int events)
{
	struct hijack *h = user;

	if (events & LOCAL_WRITABLE)
		flush(h);
	if (events & LOCAL_READABLE)
		fill(h);
	watch(h);
	davit_defer(&h->deliver);
}

static void on_connected(struct http_call *c, const struct davit_error *err)
{
	struct hijack *h = c->user;
	curl_socket_t fd = CURL_SOCKET_BAD;

	if (err) {
		h->call = NULL; /* freed behind us */
		h->why = *err;
		broken(h, err->code, err->message);
		return;
	}
	h->phase = HIJACK_ASKING;
	curl_easy_getinfo(c->easy, CURLINFO_ACTIVESOCKET, &fd);
	h->fd = fd;
	if (local_poll_open(h->http->loop, h->fd, 0, on_poll, h, &h->poll, NULL) < 0) {
		broken(h, DAVIT_ENOMEM, "out of memory");
		return;
	}
	flush(h);
	watch(h);
}

int hijack_open(struct hijack *h, struct http *http, const char *path, const char *json,
		struct davit_error *err)
{
	h->http = http;
	h->fd = -1;
	davit_deferred_init(&h->deliver, http->loop, on_deliver);
	davit_buf_addf(&h->out,
		       "POST %s%s HTTP/1.1\r\nHost: engine\r\nContent-Type: application/json\r\n"
		       "Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: %zu\r\n\r\n%s",
		       http->prefix, path, strlen(json), json);
	h->call = http_new(http, "GET", "%s", path);
	if (!h->call || h->out.oom) {
		if (h->call)
			http_free(DAVIT_TAKE(h->call));
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	h->call->user = h;
	h->call->done = on_connected;
	http_connect_only(h->call);
	if (http_send(h->call, err) < 0) {
		h->call = NULL;
		return DAVIT_ENOMEM;
	}
	return 0;
}

ssize_t hijack_write(struct hijack *h, const void *data, size_t n)
{
	size_t room = h->out.len < HIJACK_BUFFER ? HIJACK_BUFFER - h->out.len : 0;

	if (h->phase != HIJACK_OPEN || h->half_closed)
		return DAVIT_ECLOSED;
	if (n > room)
		n = room;
	davit_buf_add(&h->out, data, n);
	if (h->out.oom)
		return DAVIT_ENOMEM;
	flush(h);
	watch(h);
	return (ssize_t)n;
}

void hijack_close_input(struct hijack *h)
{
	if (h->phase != HIJACK_OPEN || h->half_closed)
		return;
	h->half_closed = true;
	flush(h);
	watch(h);
}

void hijack_resume(struct hijack *h)
{
	h->held = false;
	if (h->deliver.loop)
		davit_defer(&h->deliver);
}

void hijack_close(struct hijack *h)
{
	if (!h->deliver.loop)
		return;
	davit_deferred_cancel(&h->deliver);
	local_poll_close(DAVIT_TAKE(h->poll));
	http_cancel(DAVIT_TAKE(h->call));
	davit_buf_fini(&h->in);
	davit_buf_fini(&h->out);
	h->phase = HIJACK_ENDED;
}
