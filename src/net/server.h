/* SPDX-License-Identifier: MIT
 *
 * An HTTP/1.1 server on the loop, for a unix socket. It reads whole requests
 * within limits, one at a time for each connection (pipelined ones wait until
 * the answer before them has left), and hands each to one function; the body of
 * one that `streams` names comes piece by piece instead. The answer is given at
 * once or later: whole, as a stream, or as a raw byte stream after an upgrade
 * (websocket.h stands on that).
 *
 * Memory is bounded: no more than the limits below for a connection's input,
 * and for its output one high-water mark (64 KiB) and what was written last;
 * who writes a stream stops when told so and goes on at `writable`.
 *
 * The process must ignore SIGPIPE (libuv writes with it).
 *
 * Peers: this user and root; others get 403 and are closed.
 */
#ifndef DAVIT_NET_SERVER_H
#define DAVIT_NET_SERVER_H

#include "base/buf.h"
#include "davit/error.h"
#include "davit/loop.h"

struct davit_http_server;

/* A request and its answer. Belongs to the server; the handler holds it from
 * `handle` until it calls davit_http_reply, _reply_error or _end, or until
 * `closed` returns, and must not touch it after. */
struct davit_http_request {
	const char *method;    /* "GET" */
	const char *target;    /* path and query as sent; begins with '/' */
	struct davit_buf body; /* whole; empty for one that streams */
	bool streaming;	       /* the body comes by `input`, then `input_end` */
	bool upgrade;	       /* the client offers another protocol: see header "upgrade" */

	/* The handler's. */
	void *user;
	/* Output has drained after davit_http_write returned false. */
	void (*writable)(struct davit_http_request *r);
	/* The client has gone before the answer was ended: the end of r. A handler
	 * that leaves this NULL still holds r and ends it in its own time; what it
	 * writes is thrown away. */
	void (*closed)(struct davit_http_request *r);
	/* Bytes from the client, after an upgrade or of a body that streams; borrowed
	 * during the call. Set it in `handle`; it is not called from within. */
	void (*input)(struct davit_http_request *r, const void *data, size_t n);
	/* A body that streams is whole. */
	void (*input_end)(struct davit_http_request *r);
	/* After the end: the answer has left this process, or cannot any more. Only
	 * `user` of r may be used. */
	void (*sent)(struct davit_http_request *r);
};

/* Zero means the default, everywhere. Durations in ns. */
struct davit_http_config {
	/* Serve whoever connects: for a TCP socket, which has no user at its end. */
	bool any_peer;
	struct davit_loop *loop; /* borrowed; a real one */
	/* Called with each whole request. */
	void (*handle)(void *user, struct davit_http_request *r);
	/* Is the body of this one to be streamed? Asked when its head is whole; then
	 * `handle` is called before the body, which has no limit of size and time.
	 * An answer before its end closes the connection. NULL: none is. */
	bool (*streams)(void *user, const struct davit_http_request *r);
	void *user;
	size_t max_body;	 /* 4 MiB; above: 413 */
	size_t max_head;	 /* 64 KiB of target and headers; above: 431 */
	size_t max_connections;	 /* 1024; above: 503 */
	int64_t idle_timeout;	 /* 60 s between requests; then closed */
	int64_t request_timeout; /* 30 s from a request's first byte to its last; then 408 */
	int64_t write_timeout;	 /* 30 s without a byte taken of an ended answer; then closed.
				  * A stream may be left unread: it pauses its source. */
};

/* Serves on a listening socket (davit_unix_listen), which it takes over and
 * closes in the end, also when this fails. */
int davit_http_server_new(const struct davit_http_config *config, int listen_fd,
			  struct davit_http_server **ret, struct davit_error *err);
/* Listens on another socket from now on, which it takes over, also when this fails; then the old
 * one is kept. Connections stay open, also those that nobody has accepted yet. After a drain it
 * does nothing. */
int davit_http_server_move(struct davit_http_server *s, int listen_fd, struct davit_error *err);
/* Takes no more connections (the socket's queue keeps them for whoever listens
 * next), and calls fn from the loop, once, when every request that has come
 * has its answer, or after `limit` ns. Streams and idle connections are not waited
 * for. fn is not called after davit_http_server_free. */
void davit_http_server_drain(struct davit_http_server *s, int64_t limit, void (*fn)(void *user), void *user);
/* Closes the socket and all connections: `closed` is called for requests that
 * are held. Memory goes once the loop has run and every held request without
 * `closed` was ended. NULL is fine. */
void davit_http_server_free(struct davit_http_server *s);
/* Connections open now. */
size_t davit_http_connections(const struct davit_http_server *s);

/* A header of the request, or NULL; borrowed as r is. */
const char *davit_http_header(const struct davit_http_request *r, const char *name);
/* Adds a header to the answer; before it begins. No line breaks. */
void davit_http_add_header(struct davit_http_request *r, const char *name, const char *value);

/* The whole answer. The body is copied. */
void davit_http_reply(struct davit_http_request *r, int status, const char *content_type, const void *body,
		      size_t n);
/* Appends {"error": {"code", "message", "where", "line", "column"}}, the last
 * three only where they are known. */
void davit_http_error_json(struct davit_buf *out, const struct davit_error *err);
/* That as the answer, with its status (0: the code's own). */
void davit_http_reply_error(struct davit_http_request *r, int status, const struct davit_error *err);

/* Begins a stream: chunked, or until the connection closes for HTTP/1.0. It
 * ends when the client closes, or half-closes, the connection. */
void davit_http_stream(struct davit_http_request *r, int status, const char *content_type);
/* Switches to the raw protocol. Set `input` before; it is not called from within. */
void davit_http_upgrade(struct davit_http_request *r, const char *protocol);
/* Writes to the stream, or raw after an upgrade; copied, sent later in this
 * iteration. False: enough for now, wait for `writable`. Never calls back. */
bool davit_http_write(struct davit_http_request *r, const void *data, size_t n);
/* Stops and resumes `input`. While stopped, a client that goes is noticed at the
 * next write only. */
void davit_http_pause_input(struct davit_http_request *r, bool pause);
/* Ends a stream, or closes after an upgrade, once all is written. */
void davit_http_end(struct davit_http_request *r);
/* Breaks a stream off: the connection closes without the stream's end, so that
 * nobody takes the part for the whole. Ends r. */
void davit_http_abort(struct davit_http_request *r);

#endif
