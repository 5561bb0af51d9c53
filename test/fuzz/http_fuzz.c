/* SPDX-License-Identifier: MIT
 *
 * Any bytes as a connection to the HTTP server (and WebSocket behind its handshake), in pieces of the size
 * that the first byte names. The server must answer or close, keep to its limits, and forget the connection
 * when the client has gone.
 */
#include "net/server.h"
#include "net/unix.h"
#include "net/url.h"
#include "net/websocket.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <uv.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_BODY = 4096, MAX_HEAD = 2048 };

static struct davit_loop *loop;
static struct davit_http_server *server;
static char path[64];

static void require(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "http_fuzz: %s\n", what);
		abort();
	}
}

static void raw_input(struct davit_http_request *r, const void *data, size_t n)
{
	davit_http_write(r, data, n);
}

static void raw_closed(struct davit_http_request *r)
{
	(void)r; /* nothing is kept for it */
}

/* --- a WebSocket that gives back what it gets, and stops for a moment at times --- */

static struct davit_websocket *socket_open;

static void ws_message(void *user, bool text, const void *data, size_t n)
{
	(void)user;
	require(n <= MAX_BODY, "message");
	if (n == 3)
		davit_websocket_close(socket_open, DAVIT_WEBSOCKET_NORMAL, "three");
	else
		davit_websocket_send(socket_open, text, data, n);
}

static void ws_writable(void *user)
{
	(void)user;
}

static void ws_closed(void *user, unsigned code)
{
	(void)user;
	require(code >= 1000 && code < 5000, "close code");
	socket_open = NULL;
}

static bool upgraded(struct davit_http_request *r)
{
	const struct davit_websocket_config config = {.loop = loop,
						      .max_message = MAX_BODY,
						      .message = ws_message,
						      .writable = ws_writable,
						      .closed = ws_closed};

	return davit_websocket_check(r, NULL) == 0 &&
	       davit_websocket_new(r, &config, &socket_open, NULL) == 0;
}

/* --- a body that streams is swallowed, with a pause at each piece --- */

static void swallow(struct davit_http_request *r, const void *data, size_t n)
{
	(void)data;
	require(n > 0, "an empty piece");
	davit_http_pause_input(r, true);
	davit_http_pause_input(r, false);
}

static void swallowed(struct davit_http_request *r)
{
	davit_http_reply(r, 200, "text/plain", "", 0);
}

static bool streams(void *user, const struct davit_http_request *r)
{
	(void)user;
	return !strcmp(r->method, "PUT");
}

/* Whole answers, streams and upgrades, by the method and the target's length. */
static void handle(void *user, struct davit_http_request *r)
{
	char *text;

	(void)user;
	require(r->target[0] == '/' && strlen(r->target) <= MAX_HEAD, "target");
	require(r->body.len <= MAX_BODY, "body");
	if (davit_url_unescape(r->target, strlen(r->target), true, &text) == 0) {
		require(strlen(text) <= strlen(r->target), "unescape grows");
		free(text);
	}
	if (r->streaming && strlen(r->target) % 2) {
		r->input = swallow;
		r->input_end = swallowed;
		r->closed = raw_closed;
	} else if (upgraded(r)) {
		return;
	} else if (r->upgrade && davit_http_header(r, "Upgrade")) {
		r->input = raw_input;
		r->closed = raw_closed;
		davit_http_upgrade(r, "fuzz");
	} else if (strlen(r->target) % 2) {
		davit_http_reply(r, 200, "text/plain", r->body.data, r->body.len);
	} else {
		davit_http_stream(r, 200, "text/plain");
		davit_http_write(r, r->target, strlen(r->target));
		davit_http_end(r);
	}
}

static void start(void)
{
	struct davit_http_config config = {
		.handle = handle, .streams = streams, .max_body = MAX_BODY, .max_head = MAX_HEAD};
	int fd = -1;

	signal(SIGPIPE, SIG_IGN);
	snprintf(path, sizeof path, "/tmp/davit-http-fuzz-%d", (int)getpid());
	require(davit_loop_open(&loop, NULL) == 0 && davit_unix_listen(path, &fd, NULL) == 0,
		"cannot listen");
	config.loop = loop;
	require(davit_http_server_new(&config, fd, &server, NULL) == 0, "cannot serve");
}

static void turn(int fd)
{
	char answer[16384];

	uv_run(davit_loop_uv(loop), UV_RUN_NOWAIT);
	while (recv(fd, answer, sizeof answer, MSG_DONTWAIT) > 0)
		;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t piece = size && data[0] ? data[0] * 8u : 65536;
	int fd = -1;

	if (!server)
		start();
	require(davit_unix_connect(path, &fd, NULL) == 0, "cannot connect");
	for (size_t at = 1; at < size; at += piece) {
		size_t n = size - at < piece ? size - at : piece;
		if (send(fd, data + at, n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			break;
		turn(fd);
	}
	shutdown(fd, SHUT_WR);
	for (int i = 0; i < 10000 && (i < 3 || davit_http_connections(server)); i++)
		turn(fd);
	close(fd);
	require(davit_http_connections(server) == 0, "a connection is left");
	return 0;
}

__attribute__((destructor)) static void finish(void)
{
	if (!server)
		return;
	unlink(path);
	davit_http_server_free(server);
	davit_loop_close(loop);
}
