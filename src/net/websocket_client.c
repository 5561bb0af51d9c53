/* SPDX-License-Identifier: MIT
 *
 * The client's side of WebSocket, for the command line: no loop, its owner polls.
 */
#include "net/websocket.h"

#include "base/util.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <wslay/wslay.h>

enum {
	READ_SIZE = 64 * 1024,
	READ_MAX = 256 * 1024, /* in one turn */
};

struct davit_websocket_client {
	int fd;
	wslay_event_context_ptr ctx;
	struct davit_buf in; /* read, at first what came with the answer's head */
	size_t taken;	     /* of it */
	unsigned code;	     /* that the daemon closed with */
	bool broken;
	bool mute; /* nothing can be sent any more */
	/* of the turn under way */
	int (*fn)(void *user, bool text, const void *data, size_t n, struct davit_error *err);
	void *user;
	struct davit_error *err;
	int result;
	size_t got; /* bytes read in it */
};

/* wslay asks for 4 KiB at a time; the socket is read in larger pieces. */
static ssize_t refill(struct davit_websocket_client *ws)
{
	ssize_t got;

	davit_buf_reset(&ws->in);
	ws->taken = 0;
	if (davit_buf_reserve(&ws->in, READ_SIZE) < 0) {
		errno = ENOMEM;
		return -1;
	}
	got = DAVIT_EINTR(recv(ws->fd, ws->in.data, READ_SIZE, MSG_DONTWAIT));
	if (got > 0) {
		ws->in.len = (size_t)got;
		ws->got += (size_t)got;
	}
	return got;
}

static ssize_t on_recv(wslay_event_context_ptr ctx, uint8_t *data, size_t n, int flags, void *user)
{
	struct davit_websocket_client *ws = user;
	size_t there;

	(void)flags;
	if (ws->taken == ws->in.len) {
		/* One who never stops sending leaves us time to write. */
		ssize_t got = ws->result < 0 || ws->got >= READ_MAX ? -1 : refill(ws);
		if (got < 0 &&
		    (ws->result < 0 || ws->got >= READ_MAX || errno == EAGAIN || errno == EWOULDBLOCK)) {
			wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
			return -1;
		}
		if (got <= 0) {
			ws->broken = true;
			wslay_event_set_error(ctx, WSLAY_ERR_CALLBACK_FAILURE);
			return -1;
		}
	}
	there = ws->in.len - ws->taken;
	n = n < there ? n : there;
	memcpy(data, ws->in.data + ws->taken, n);
	ws->taken += n;
	return (ssize_t)n;
}

static ssize_t on_send(wslay_event_context_ptr ctx, const uint8_t *data, size_t n, int flags, void *user)
{
	struct davit_websocket_client *ws = user;
	ssize_t sent = DAVIT_EINTR(send(ws->fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL));

	(void)flags;
	if (sent >= 0)
		return sent;
	if (errno == EAGAIN || errno == EWOULDBLOCK) {
		wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
		return -1;
	}
	/* What the daemon said last is still to be read. */
	ws->mute = true;
	wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
	return -1;
}

static int on_mask(wslay_event_context_ptr ctx, uint8_t *buf, size_t n, void *user)
{
	(void)ctx;
	(void)user;
	return getrandom(buf, n, 0) == (ssize_t)n ? 0 : -1;
}

static void on_message(wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *arg, void *user)
{
	struct davit_websocket_client *ws = user;

	(void)ctx;
	if (arg->opcode == WSLAY_CONNECTION_CLOSE)
		ws->code = arg->status_code ? arg->status_code : DAVIT_WEBSOCKET_NONE;
	else if (!wslay_is_ctrl_frame(arg->opcode) && ws->result == 0)
		ws->result =
			ws->fn(ws->user, arg->opcode == WSLAY_TEXT_FRAME, arg->msg, arg->msg_length, ws->err);
}

static int take_over(struct davit_client *c, size_t max, struct davit_websocket_client **ret,
		     struct davit_error *err)
{
	static const struct wslay_event_callbacks callbacks = {
		.recv_callback = on_recv,
		.send_callback = on_send,
		.genmask_callback = on_mask,
		.on_msg_recv_callback = on_message,
	};
	struct davit_websocket_client *ws = calloc(1, sizeof *ws);
	int r;

	if (!ws || wslay_event_context_client_init(&ws->ctx, &callbacks, ws) != 0) {
		free(ws);
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	wslay_event_config_set_max_recv_msg_length(ws->ctx, max);
	ws->fd = -1;
	r = davit_client_take_fd(c, &ws->fd, &ws->in, err);
	if (r < 0) {
		davit_websocket_free(ws);
		return r;
	}
	*ret = ws;
	return 0;
}

int davit_websocket_open(struct davit_client *c, const char *target, const char *cause, size_t max,
			 struct davit_websocket_client **ret, int *ret_status, struct davit_error *err)
{
	unsigned char random[16];
	char key[25], want[DAVIT_WEBSOCKET_ACCEPT_MAX];
	const struct davit_client_header headers[] = {{"Sec-WebSocket-Version", "13"},
						      {"Sec-WebSocket-Key", key}};
	const struct davit_client_request request = {
		.target = target,
		.cause = cause,
		.upgrade = "websocket",
		.headers = headers,
		.n_headers = DAVIT_ARRAY_SIZE(headers),
	};
	const char *accept;
	int r;

	if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
		return davit_error_errno(err, errno, NULL, "cannot get random bytes");
	davit_websocket_base64(random, sizeof random, key);
	r = davit_client_send(c, &request, ret_status, err);
	if (r < 0 || *ret_status != 101)
		return r;
	davit_websocket_accept_key(key, want);
	accept = davit_client_header(c, "Sec-WebSocket-Accept");
	if (!accept || strcmp(accept, want) != 0)
		return davit_error_set(err, DAVIT_EPROTO, NULL, "the daemon's WebSocket handshake is wrong");
	return take_over(c, max, ret, err);
}

void davit_websocket_free(struct davit_websocket_client *ws)
{
	if (!ws)
		return;
	if (ws->fd >= 0)
		close(ws->fd);
	wslay_event_context_free(ws->ctx);
	davit_buf_fini(&ws->in);
	free(ws);
}

int davit_websocket_fd(const struct davit_websocket_client *ws)
{
	return ws->fd;
}

size_t davit_websocket_pending(const struct davit_websocket_client *ws)
{
	if (ws->mute)
		return 0;
	/* What is being sent is not counted by its length. */
	return wslay_event_get_queued_msg_length(ws->ctx) + (wslay_event_want_write(ws->ctx) ? 1 : 0);
}

int davit_websocket_put(struct davit_websocket_client *ws, bool text, const void *data, size_t n,
			struct davit_error *err)
{
	const struct wslay_event_msg msg = {
		.opcode = text ? WSLAY_TEXT_FRAME : WSLAY_BINARY_FRAME, .msg = data, .msg_length = n};
	int r = wslay_event_queue_msg(ws->ctx, &msg);

	if (r == WSLAY_ERR_NOMEM)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	return r ? davit_error_set(err, DAVIT_ECLOSED, NULL, "the connection to the daemon is closed") : 0;
}

int davit_websocket_turn(struct davit_websocket_client *ws,
			 int (*fn)(void *user, bool text, const void *data, size_t n,
				   struct davit_error *err),
			 void *user, unsigned *ret_code, struct davit_error *err)
{
	ws->fn = fn;
	ws->user = user;
	ws->err = err;
	ws->result = 0;
	ws->got = 0;
	if (wslay_event_recv(ws->ctx) != 0 && ws->result == 0 && !ws->broken)
		ws->result =
			davit_error_set(err, DAVIT_EPROTO, NULL, "the daemon broke the WebSocket protocol");
	if (ws->result < 0)
		return ws->result;
	if (!ws->broken && !ws->mute)
		wslay_event_send(ws->ctx);
	if (ws->code) {
		*ret_code = ws->code;
		return 1;
	}
	if (ws->broken)
		return davit_error_set(err, DAVIT_ECLOSED, NULL, "the daemon closed the connection");
	return 0;
}
