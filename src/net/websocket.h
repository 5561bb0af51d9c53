/* SPDX-License-Identifier: MIT
 *
 * WebSocket (RFC 6455) over the server's requests, and for the blocking client.
 * Frames, masks, UTF-8, pings and the close handshake are libwslay's business;
 * ours are the handshake, what happens when, and that nothing is buffered
 * without end: who sends stops when told so, who receives may pause.
 */
#ifndef DAVIT_NET_WEBSOCKET_H
#define DAVIT_NET_WEBSOCKET_H

#include "net/client.h"
#include "net/server.h"

/* Status codes of a close (RFC 6455, 7.4.1). */
enum davit_websocket_code {
	DAVIT_WEBSOCKET_NORMAL = 1000,
	DAVIT_WEBSOCKET_GOING_AWAY = 1001, /* the daemon ends: connect again */
	DAVIT_WEBSOCKET_PROTOCOL = 1002,
	DAVIT_WEBSOCKET_NONE = 1005, /* the peer named none */
	DAVIT_WEBSOCKET_LOST = 1006, /* the connection ended without a close */
	DAVIT_WEBSOCKET_INVALID = 1007,
	DAVIT_WEBSOCKET_POLICY = 1008,
	DAVIT_WEBSOCKET_TOO_BIG = 1009,
	DAVIT_WEBSOCKET_FAILURE = 1011,
};

#define DAVIT_WEBSOCKET_ACCEPT_MAX 32
/* Sec-WebSocket-Accept for a Sec-WebSocket-Key. */
void davit_websocket_accept_key(const char *key, char ret[DAVIT_WEBSOCKET_ACCEPT_MAX]);
/* n bytes in base64 with a NUL: 4 * ((n + 2) / 3) + 1 characters. */
void davit_websocket_base64(const unsigned char *data, size_t n, char *out);

/* --- the server's side --- */

struct davit_websocket;

struct davit_websocket_config {
	struct davit_loop *loop; /* borrowed */
	size_t max_message;	 /* bytes; a longer one closes with 1009. 0: 1 MiB */
	void *user;
	/* A whole message; borrowed during the call. */
	void (*message)(void *user, bool text, const void *data, size_t n);
	/* What was sent has drained, after davit_websocket_send returned false. */
	void (*writable)(void *user);
	/* The client closed, broke the protocol or has gone: the end of the socket,
	 * which must not be used after. Not called after davit_websocket_close. */
	void (*closed)(void *user, unsigned code);
};

/* Does the request ask for a WebSocket, in the right words? 0, or DAVIT_EINVAL: to
 * be answered with davit_websocket_refuse. */
int davit_websocket_check(const struct davit_http_request *r, struct davit_error *err);
/* 426 with the headers that say what is wanted. Ends r. */
void davit_websocket_refuse(struct davit_http_request *r, const struct davit_error *err);
/* Switches over a request that was checked, and takes it: its callbacks and its
 * `user` are the socket's from now on. 0 or DAVIT_ENOMEM, then r is as it was. */
int davit_websocket_new(struct davit_http_request *r, const struct davit_websocket_config *config,
			struct davit_websocket **ret, struct davit_error *err);
/* Sends a message, copied, later in this iteration. False: enough for now, wait for
 * `writable`. Never calls back. */
bool davit_websocket_send(struct davit_websocket *ws, bool text, const void *data, size_t n);
/* Stops and resumes `message`. What has been read already (4 KiB at most) still
 * comes. While stopped, a client that goes is noticed at the next send only. */
void davit_websocket_pause(struct davit_websocket *ws, bool pause);
/* Closes once all is sent and the client has answered, or has not in 5 s without
 * taking a byte. No callback comes any more; the memory goes by itself. */
void davit_websocket_close(struct davit_websocket *ws, unsigned code, const char *reason);

/* --- the client's side: blocking to open, then driven by its owner's poll --- */

struct davit_websocket_client;

/* Asks for `target` on a client, with the given cause (NULL: none). On a status of
 * 101 *ret is open and owns the connection. On another one *ret stays NULL, and the
 * answer is read from the client. max: bytes of a message. Messages may have come
 * already: a turn before the first poll takes them. */
int davit_websocket_open(struct davit_client *c, const char *target, const char *cause, size_t max,
			 struct davit_websocket_client **ret, int *ret_status, struct davit_error *err);
void davit_websocket_free(struct davit_websocket_client *ws);
/* For poll: POLLIN always, POLLOUT while davit_websocket_pending is not 0. */
int davit_websocket_fd(const struct davit_websocket_client *ws);
size_t davit_websocket_pending(const struct davit_websocket_client *ws);
/* Queues a message; it leaves in davit_websocket_turn. DAVIT_ENOMEM, DAVIT_ECLOSED. */
int davit_websocket_put(struct davit_websocket_client *ws, bool text, const void *data, size_t n,
			struct davit_error *err);
/* Reads once and writes what the socket takes, without waiting. Calls fn for each
 * message; fn returns 0 or a code that ends the turn. 0, 1 when the daemon has closed
 * (its status code in *ret_code), or a code: DAVIT_ECLOSED when the connection broke. */
int davit_websocket_turn(struct davit_websocket_client *ws,
			 int (*fn)(void *user, bool text, const void *data, size_t n,
				   struct davit_error *err),
			 void *user, unsigned *ret_code, struct davit_error *err);

#endif
