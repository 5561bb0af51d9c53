/* SPDX-License-Identifier: MIT
 *
 * The server's side of WebSocket, between a request that has switched over and
 * libwslay.
 *
 * Bytes that came wait in `in` until wslay takes them; messages that go wait in
 * wslay's queue until the connection takes them. Both are short: input stops while
 * the owner is paused, or while a client makes us queue answers to its pings that
 * it does not read.
 */
#include "net/websocket.h"

#include "base/units.h"
#include "base/util.h"

#include <string.h>
#include <strings.h>
#include <wslay/wslay.h>

enum {
	MESSAGE_MAX = 1024 * 1024,
	ANSWERS_MAX = 64, /* pongs that the client has not taken */
	KEY_LENGTH = 24,  /* 16 bytes in base64 */
	REASON_MAX = 123, /* a control frame holds 125 bytes */
};
#define LINGER (5 * DAVIT_NSEC_PER_SEC)

struct davit_websocket {
	struct davit_websocket_config config;
	struct davit_http_request *r; /* NULL once the connection has gone */
	wslay_event_context_ptr ctx;
	struct davit_buf in;
	size_t taken; /* of `in`, by wslay */
	struct davit_deferred work;
	struct davit_timer linger;
	unsigned code; /* that the client closed with */
	bool blocked;  /* the connection takes no more */
	bool full;     /* the owner waits for `writable` */
	bool paused;
	bool let_go; /* the owner has closed */
	bool broken;
};

/* ------------------------------------------------------------ the handshake */

/* "a, b" has the word "b". */
static bool has_word(const char *list, const char *word)
{
	size_t n = strlen(word);

	while (list && *list) {
		list += strspn(list, ", \t");
		if (!strncasecmp(list, word, n) && (!list[n] || strchr(", \t", list[n])))
			return true;
		list += strcspn(list, ",");
	}
	return false;
}

int davit_websocket_check(const struct davit_http_request *r, struct davit_error *err)
{
	const char *version = davit_http_header(r, "Sec-WebSocket-Version");
	const char *key = davit_http_header(r, "Sec-WebSocket-Key");

	if (strcmp(r->method, "GET") || !r->upgrade ||
	    !has_word(davit_http_header(r, "Upgrade"), "websocket") ||
	    !has_word(davit_http_header(r, "Connection"), "upgrade"))
		return davit_error_set(err, DAVIT_EINVAL, "upgrade",
				       "this path is a WebSocket: connect with one");
	if (!version || strcmp(version, "13"))
		return davit_error_set(err, DAVIT_EINVAL, "sec-websocket-version",
				       "only version 13 of WebSocket is spoken here");
	if (!key || strlen(key) != KEY_LENGTH || strcmp(key + KEY_LENGTH - 2, "==") != 0)
		return davit_error_set(err, DAVIT_EINVAL, "sec-websocket-key",
				       "Sec-WebSocket-Key must be 16 bytes in base64");
	return 0;
}

void davit_websocket_refuse(struct davit_http_request *r, const struct davit_error *err)
{
	davit_http_add_header(r, "Upgrade", "websocket");
	davit_http_add_header(r, "Sec-WebSocket-Version", "13");
	davit_http_reply_error(r, 426, err);
}

/* ------------------------------------------------------ what wslay asks for */

static ssize_t on_recv(wslay_event_context_ptr ctx, uint8_t *data, size_t n, int flags, void *user)
{
	struct davit_websocket *ws = user;
	size_t there = ws->in.len - ws->taken;

	(void)flags;
	if (!there || ws->paused) {
		wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
		return -1;
	}
	if (n > there)
		n = there;
	memcpy(data, ws->in.data + ws->taken, n);
	ws->taken += n;
	return (ssize_t)n;
}

static ssize_t on_send(wslay_event_context_ptr ctx, const uint8_t *data, size_t n, int flags, void *user)
{
	struct davit_websocket *ws = user;

	(void)flags;
	if (ws->blocked || !ws->r) {
		wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
		return -1;
	}
	ws->blocked = !davit_http_write(ws->r, data, n);
	return (ssize_t)n;
}

static void on_message(wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *arg, void *user)
{
	struct davit_websocket *ws = user;

	(void)ctx;
	if (arg->opcode == WSLAY_CONNECTION_CLOSE)
		ws->code = arg->status_code ? arg->status_code : DAVIT_WEBSOCKET_NONE;
	else if (!wslay_is_ctrl_frame(arg->opcode) && !ws->let_go)
		ws->config.message(ws->config.user, arg->opcode == WSLAY_TEXT_FRAME, arg->msg,
				   arg->msg_length);
}

/* ------------------------------------------------------------- at work */

static void free_socket(struct davit_websocket *ws)
{
	davit_deferred_cancel(&ws->work);
	davit_timer_stop(&ws->linger);
	wslay_event_context_free(ws->ctx);
	davit_buf_fini(&ws->in);
	free(ws);
}

/* The last of it: the owner is told unless it has closed itself. */
static void finish(struct davit_websocket *ws, unsigned code)
{
	struct davit_websocket_config config = ws->config;
	bool tell = !ws->let_go;

	if (ws->r)
		davit_http_end(ws->r);
	free_socket(ws);
	if (tell)
		config.closed(config.user, code);
}

static void receive(struct davit_websocket *ws)
{
	if (wslay_event_want_read(ws->ctx) && wslay_event_recv(ws->ctx) != 0)
		ws->broken = true; /* what it says of that is queued */
	davit_buf_consume(&ws->in, ws->taken);
	ws->taken = 0;
	if (!ws->in.len || ws->broken)
		davit_buf_fini(&ws->in);
}

static bool over(struct davit_websocket *ws)
{
	if (wslay_event_want_write(ws->ctx))
		return false;
	if (ws->broken)
		return true;
	/* A close went: as an answer, for a violation (both are the end), or as the owner's. */
	return wslay_event_get_close_sent(ws->ctx) &&
	       (!ws->let_go || wslay_event_get_close_received(ws->ctx) ||
		!wslay_event_get_read_enabled(ws->ctx));
}

/* Reads, writes and ends, as far as that goes now. */
static void turn(struct davit_websocket *ws)
{
	bool stop;

	if (ws->in.len && !ws->paused && wslay_event_get_queued_msg_count(ws->ctx) < ANSWERS_MAX)
		receive(ws);
	if (wslay_event_want_write(ws->ctx) && wslay_event_send(ws->ctx) != 0)
		ws->broken = true;
	if (over(ws)) {
		unsigned sent = wslay_event_get_status_code_sent(ws->ctx);
		finish(ws, ws->code ? ws->code
			   : sent >= 1000 && sent != DAVIT_WEBSOCKET_NONE && sent != DAVIT_WEBSOCKET_LOST
				   ? sent
				   : DAVIT_WEBSOCKET_PROTOCOL);
		return;
	}
	stop = (ws->paused && !ws->let_go) || wslay_event_get_queued_msg_count(ws->ctx) >= ANSWERS_MAX;
	davit_http_pause_input(ws->r, stop);
}

static void on_work(struct davit_deferred *d)
{
	turn(DAVIT_CONTAINER_OF(d, struct davit_websocket, work));
}

static void on_input(struct davit_http_request *r, const void *data, size_t n)
{
	struct davit_websocket *ws = r->user;

	davit_buf_add(&ws->in, data, n);
	if (ws->in.oom) {
		davit_http_abort(ws->r);
		ws->r = NULL;
		finish(ws, DAVIT_WEBSOCKET_LOST);
		return;
	}
	turn(ws);
}

static void on_writable(struct davit_http_request *r)
{
	struct davit_websocket *ws = r->user;

	ws->blocked = false;
	if (ws->let_go)
		davit_timer_start(&ws->linger, LINGER);
	davit_defer(&ws->work);
	if (wslay_event_want_write(ws->ctx) && wslay_event_send(ws->ctx) != 0)
		ws->broken = true;
	if (ws->blocked || !ws->full || ws->let_go)
		return;
	ws->full = false;
	ws->config.writable(ws->config.user);
}

static void on_closed(struct davit_http_request *r)
{
	struct davit_websocket *ws = r->user;

	ws->r = NULL;
	finish(ws, ws->code ? ws->code : DAVIT_WEBSOCKET_LOST);
}

static void on_linger(struct davit_timer *t)
{
	struct davit_websocket *ws = DAVIT_CONTAINER_OF(t, struct davit_websocket, linger);

	davit_http_abort(ws->r);
	ws->r = NULL;
	finish(ws, DAVIT_WEBSOCKET_LOST);
}

/* ------------------------------------------------------------- the owner's */

int davit_websocket_new(struct davit_http_request *r, const struct davit_websocket_config *config,
			struct davit_websocket **ret, struct davit_error *err)
{
	static const struct wslay_event_callbacks callbacks = {
		.recv_callback = on_recv,
		.send_callback = on_send,
		.on_msg_recv_callback = on_message,
	};
	struct davit_websocket *ws = calloc(1, sizeof *ws);
	char accept[DAVIT_WEBSOCKET_ACCEPT_MAX];

	if (!ws || wslay_event_context_server_init(&ws->ctx, &callbacks, ws) != 0) {
		free(ws);
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	ws->config = *config;
	ws->r = r;
	wslay_event_config_set_max_recv_msg_length(ws->ctx,
						   config->max_message ? config->max_message : MESSAGE_MAX);
	davit_deferred_init(&ws->work, config->loop, on_work);
	davit_timer_init(&ws->linger, config->loop, on_linger);
	r->user = ws;
	r->input = on_input;
	r->writable = on_writable;
	r->closed = on_closed;
	davit_websocket_accept_key(davit_http_header(r, "Sec-WebSocket-Key"), accept);
	davit_http_add_header(r, "Sec-WebSocket-Accept", accept);
	davit_http_upgrade(r, "websocket");
	*ret = ws;
	return 0;
}

bool davit_websocket_send(struct davit_websocket *ws, bool text, const void *data, size_t n)
{
	const struct wslay_event_msg msg = {
		.opcode = text ? WSLAY_TEXT_FRAME : WSLAY_BINARY_FRAME, .msg = data, .msg_length = n};

	if (wslay_event_queue_msg(ws->ctx, &msg) != 0) {
		/* Closing already, or no memory: either way nothing gets through. */
		ws->broken = ws->broken || wslay_event_get_write_enabled(ws->ctx);
		davit_defer(&ws->work);
		return false;
	}
	if (wslay_event_send(ws->ctx) != 0)
		ws->broken = true;
	davit_defer(&ws->work);
	ws->full = ws->blocked;
	return !ws->full;
}

void davit_websocket_pause(struct davit_websocket *ws, bool pause)
{
	if (ws->paused == pause)
		return;
	ws->paused = pause;
	davit_defer(&ws->work);
}

void davit_websocket_close(struct davit_websocket *ws, unsigned code, const char *reason)
{
	size_t n = strlen(reason);

	ws->let_go = true;
	ws->paused = false;
	if (wslay_event_queue_close(ws->ctx, (uint16_t)code, (const uint8_t *)reason,
				    n < REASON_MAX ? n : REASON_MAX))
		ws->broken = true;
	davit_timer_start(&ws->linger, LINGER);
	davit_defer(&ws->work);
}
