/* SPDX-License-Identifier: MIT
 *
 * Connections: accepting, reading, writing, time limits, closing.
 */
#include "net/server.h"

#include "base/log.h"
#include "base/units.h"
#include "base/util.h"
#include "net/server_impl.h"
#include "net/unix.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

/* ---------------------------------------------------------------- closing */

void http_server_settle(struct davit_http_server *s)
{
	if (s->closing && !s->n_listeners && !s->n_conns)
		free(s);
}

void http_release(struct http_conn *c)
{
	struct davit_http_server *s = c->server;

	if (!c->pipe_closed || http_is_held(c))
		return;
	if (c->phase == HTTP_FLUSHING && c->req.sent)
		c->req.sent(&c->req);
	davit_timer_stop(&c->timer);
	davit_deferred_cancel(&c->work);
	davit_list_remove(&c->list);
	s->n_conns--;
	davit_buf_fini(&c->in);
	davit_buf_fini(&c->out);
	davit_buf_fini(&c->flying);
	http_request_reset(c);
	free(c);
	http_server_settle(s);
}

static void on_pipe_closed(uv_handle_t *h)
{
	struct http_conn *c = h->data;

	c->pipe_closed = true;
	http_release(c);
}

static void check_drained(struct davit_http_server *s);

void http_cut(struct http_conn *c)
{
	if (c->gone)
		return;
	c->gone = true;
	davit_timer_stop(&c->timer);
	davit_deferred_cancel(&c->work);
	uv_close((uv_handle_t *)&c->pipe, on_pipe_closed);
	check_drained(c->server);
}

/* The connection ends now, whatever was under way. A handler that holds the
 * request hears of it if it wants to. */
void http_drop(struct http_conn *c)
{
	if (c->gone)
		return;
	http_cut(c);
	if (http_is_held(c) && c->req.closed) {
		c->req.closed(&c->req);
		c->phase = HTTP_READING;
	}
}

/* ---------------------------------------------------------------- reading */

static void process(struct http_conn *c);

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
	struct http_conn *c = h->data;

	(void)suggested;
	*buf = uv_buf_init(c->server->scratch, sizeof c->server->scratch);
}

/* Closed in both directions, not only half. */
static bool hung_up(struct http_conn *c)
{
	struct pollfd p = {0};

	return uv_fileno((uv_handle_t *)&c->pipe, &p.fd) == 0 && poll(&p, 1, 0) > 0 && (p.revents & POLLHUP);
}

static void on_eof(struct http_conn *c)
{
	c->eof = true;
	http_update_reading(c);
	switch (c->phase) {
	case HTTP_READING:
	case HTTP_STREAM:
	case HTTP_RAW:
		http_drop(c);
		break;
	case HTTP_HELD:
		/* A client may close its half and wait for the answer. */
		if (hung_up(c) || (c->req.streaming && !c->complete))
			http_drop(c);
		break;
	case HTTP_FLUSHING:
		c->keep_alive = false;
		break;
	}
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct http_conn *c = stream->data;

	if (n == 0)
		return;
	if (n == UV_EOF) {
		on_eof(c);
		return;
	}
	if (n < 0) {
		http_drop(c);
		return;
	}
	davit_buf_add(&c->in, buf->base, (size_t)n);
	if (c->in.oom) {
		http_drop(c);
		return;
	}
	process(c);
	if (!c->gone)
		http_update_reading(c);
}

/* Reading goes on while a handler holds a request, to notice a client that
 * goes, but only until a high-water mark of what must wait. */
void http_update_reading(struct http_conn *c)
{
	bool held = c->phase == HTTP_RAW || (c->req.streaming && !c->complete);
	bool want = !c->eof && c->in.len < HTTP_HIGH_WATER && !(held && c->paused);

	if (want == c->reading)
		return;
	c->reading = want;
	if (want)
		uv_read_start((uv_stream_t *)&c->pipe, on_alloc, on_read);
	else
		uv_read_stop((uv_stream_t *)&c->pipe);
}

static void give_input(struct http_conn *c)
{
	struct davit_buf in = c->in;

	c->in = (struct davit_buf){0};
	if (c->req.input)
		c->req.input(&c->req, in.data, in.len);
	davit_buf_fini(&in);
}

/* The body of a request that streams, as far as it has come. */
static void give_body(struct http_conn *c)
{
	bool broken = false;

	while (!c->gone && http_is_held(c) && !c->paused && !c->told_end) {
		struct davit_buf body = c->req.body;
		if (body.len) {
			c->req.body = (struct davit_buf){0};
			if (c->req.input)
				c->req.input(&c->req, body.data, body.len);
			davit_buf_fini(&body);
		} else if (c->complete) {
			c->told_end = true;
			if (c->req.input_end)
				c->req.input_end(&c->req);
		} else if (!c->in.len) {
			break;
		} else {
			http_request_parse(c);
			broken = c->refuse != 0;
		}
		if (broken) {
			http_drop(c); /* a body that is no HTTP: there is no next request either */
			return;
		}
	}
}

static const char *refusal_text(int status)
{
	switch (status) {
	case 413:
		return "the request's body is too large";
	case 417:
		return "Expect can only be 100-continue";
	case 431:
		return "the request's headers are too large";
	case 505:
		return "only HTTP/1.1 is spoken here";
	case 507:
		return "out of memory";
	default:
		return "malformed HTTP request";
	}
}

/* Uses up what was read as far as the phase allows. */
static void process(struct http_conn *c)
{
	const struct davit_http_config *config = &c->server->config;

	if (c->phase == HTTP_RAW && !c->paused && c->in.len)
		give_input(c);
	if (c->req.streaming && http_is_held(c) && c->phase != HTTP_RAW)
		give_body(c);
	if (c->gone || c->phase != HTTP_READING || !c->in.len)
		return;
	if (!c->began) {
		c->began = true;
		davit_timer_start(&c->timer, config->request_timeout);
	}
	if (!http_request_parse(c))
		return;
	davit_timer_stop(&c->timer);
	c->phase = HTTP_HELD;
	if (c->refuse)
		http_refuse(c, c->refuse, refusal_text(c->refuse));
	else
		config->handle(config->user, &c->req);
	if (c->req.streaming)
		http_kick(c); /* the body follows, not from within */
}

/* ---------------------------------------------------------------- writing */

static size_t unsent(struct http_conn *c)
{
	return c->out.len + uv_stream_get_write_queue_size((uv_stream_t *)&c->pipe);
}

/* The answer has left: the next request, or the end. */
static void finish(struct http_conn *c)
{
	void (*sent)(struct davit_http_request *) = c->req.sent;

	c->req.sent = NULL;
	if (sent)
		sent(&c->req);
	if (c->gone)
		return;
	c->served = true;
	if (!c->keep_alive || c->server->deaf) {
		http_drop(c);
		return;
	}
	http_request_reset(c);
	c->phase = HTTP_READING;
	davit_timer_start(&c->timer, c->server->config.idle_timeout);
	if (c->in.len)
		process(c);
	if (!c->gone)
		http_update_reading(c);
}

static void drained(struct http_conn *c)
{
	davit_buf_fini(&c->out);
	if (c->phase == HTTP_FLUSHING) {
		finish(c);
	} else if (c->blocked) {
		c->blocked = false;
		if (http_is_held(c) && c->req.writable)
			c->req.writable(&c->req);
	}
}

static void flush(struct http_conn *c);

static void on_written(uv_write_t *w, int status)
{
	struct http_conn *c = w->data;

	c->writing = false;
	davit_buf_fini(&c->flying);
	if (c->gone)
		return;
	if (status < 0)
		http_drop(c);
	else
		flush(c);
}

static void flush(struct http_conn *c)
{
	uv_stream_t *stream = (uv_stream_t *)&c->pipe;
	uv_buf_t buf;
	int n;

	if (c->writing)
		return;
	if (c->out.oom) {
		http_drop(c);
		return;
	}
	buf = uv_buf_init(c->out.data, (unsigned)c->out.len);
	n = c->out.len ? uv_try_write(stream, &buf, 1) : 0;
	if (n < 0 && n != UV_EAGAIN) {
		http_drop(c);
		return;
	}
	if ((size_t)(n < 0 ? 0 : n) == c->out.len) {
		drained(c);
		return;
	}
	davit_buf_consume(&c->out, n < 0 ? 0 : (size_t)n);
	c->flying = c->out;
	c->out = (struct davit_buf){0};
	buf = uv_buf_init(c->flying.data, (unsigned)c->flying.len);
	c->write.data = c;
	c->writing = true;
	if (uv_write(&c->write, stream, &buf, 1, on_written) < 0) {
		c->writing = false;
		http_drop(c);
		return;
	}
	if (c->phase == HTTP_FLUSHING && !davit_timer_active(&c->timer)) {
		c->left_before = unsent(c);
		davit_timer_start(&c->timer, c->server->config.write_timeout);
	}
}

static void on_work(struct davit_deferred *d)
{
	struct http_conn *c = DAVIT_CONTAINER_OF(d, struct http_conn, work);

	if (c->phase == HTTP_RAW || (c->req.streaming && http_is_held(c)))
		process(c);
	if (c->gone)
		return;
	http_update_reading(c);
	flush(c);
	/* A stream cannot outlive the client, which closed before it began. */
	if (!c->gone && c->eof && (c->phase == HTTP_STREAM || c->phase == HTTP_RAW))
		http_drop(c);
}

void http_kick(struct http_conn *c)
{
	davit_defer(&c->work);
}

/* ------------------------------------------------------------ time limits */

static void on_timer(struct davit_timer *t)
{
	struct http_conn *c = DAVIT_CONTAINER_OF(t, struct http_conn, timer);

	if (c->phase == HTTP_READING && c->began) {
		c->phase = HTTP_HELD;
		http_refuse(c, 408, "the request did not come whole in time");
	} else if (c->phase == HTTP_FLUSHING && unsent(c) != c->left_before) {
		c->left_before = unsent(c);
		davit_timer_start(&c->timer, c->server->config.write_timeout);
	} else {
		http_drop(c);
	}
}

struct http_conn *http_conn_new(struct davit_http_server *s)
{
	struct http_conn *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	c->server = s;
	c->pipe.data = c;
	uv_pipe_init(davit_loop_uv(s->config.loop), &c->pipe, 0);
	davit_timer_init(&c->timer, s->config.loop, on_timer);
	davit_deferred_init(&c->work, s->config.loop, on_work);
	http_request_reset(c);
	davit_list_add_tail(&s->conns, &c->list);
	s->n_conns++;
	return c;
}

/* --------------------------------------------------------------- draining */

/* A request of it is under way, or it was opened for one that is to come. */
static bool owed(const struct http_conn *c)
{
	return !c->gone && (c->phase == HTTP_HELD || c->phase == HTTP_FLUSHING ||
			    (c->phase == HTTP_READING && (c->began || !c->served)));
}

static void end_drain(struct davit_http_server *s)
{
	void (*fn)(void *) = s->drained;

	davit_timer_stop(&s->drain_limit);
	s->drained = NULL;
	if (fn)
		fn(s->drained_user);
}

static void check_drained(struct davit_http_server *s)
{
	struct http_conn *c;

	if (!s->drained)
		return;
	DAVIT_LIST_FOREACH (c, &s->conns, list)
		if (owed(c))
			return;
	end_drain(s);
}

static void on_drain_limit(struct davit_timer *t)
{
	end_drain(DAVIT_CONTAINER_OF(t, struct davit_http_server, drain_limit));
}

void davit_http_server_drain(struct davit_http_server *s, int64_t limit, void (*fn)(void *user), void *user)
{
	if (s->closing)
		return;
	http_stop_listening(s);
	s->drained = fn;
	s->drained_user = user;
	if (davit_timer_start(&s->drain_limit, limit) == 0)
		check_drained(s);
	else
		end_drain(s);
}

static void set_default(int64_t *v, int64_t seconds)
{
	if (*v <= 0)
		*v = seconds * DAVIT_NSEC_PER_SEC;
}

int davit_http_server_new(const struct davit_http_config *config, int listen_fd,
			  struct davit_http_server **ret, struct davit_error *err)
{
	struct davit_http_server *s = calloc(1, sizeof *s);
	int r;

	if (!s)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	s->config = *config;
	if (!s->config.max_body)
		s->config.max_body = 4 * 1024 * 1024;
	if (!s->config.max_head)
		s->config.max_head = 64 * 1024;
	if (!s->config.max_connections)
		s->config.max_connections = 1024;
	set_default(&s->config.idle_timeout, 60);
	set_default(&s->config.request_timeout, 30);
	set_default(&s->config.write_timeout, 30);
	davit_timer_init(&s->drain_limit, config->loop, on_drain_limit);
	davit_list_init(&s->conns);
	r = http_listen(s, listen_fd, err);
	if (r < 0) {
		davit_http_server_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void davit_http_server_free(struct davit_http_server *s)
{
	struct http_conn *c, *next;

	if (!s || s->closing)
		return;
	s->closing = true;
	s->drained = NULL;
	davit_timer_stop(&s->drain_limit);
	http_stop_listening(s);
	DAVIT_LIST_FOREACH_SAFE (c, next, &s->conns, list)
		http_drop(c);
	http_server_settle(s);
}

size_t davit_http_connections(const struct davit_http_server *s)
{
	return s->n_conns;
}
