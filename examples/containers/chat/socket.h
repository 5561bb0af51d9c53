/* SPDX-License-Identifier: MIT
 *
 * The chat's WebSockets: a thread that serves a page and lines of text, by libwebsockets.
 */
#ifndef CHAT_SOCKET_H
#define CHAT_SOCKET_H

#include <stdbool.h>
#include <stddef.h>

struct socket_server;

/* Called on the socket's thread. Connections are numbered, and a number never comes again. */
struct socket_events {
	void (*opened)(void *arg, unsigned connection);
	/* text ends with a NUL behind its n bytes, and is UTF-8. False: no more of it now,
	 * the connection is closed. */
	bool (*line)(void *arg, unsigned connection, const char *text, size_t n);
	void (*closed)(void *arg, unsigned connection);
};

/* Listens on this port of the loopback (0: any), for the directory `page` and WebSockets.
 * events and page are borrowed. 0, or -1. */
int socket_open(int port, const char *page, const struct socket_events *events, void *arg,
		struct socket_server **ret, int *ret_port);
/* Begins to serve: from here on there are events, on a thread of its own. 0, or -1. */
int socket_start(struct socket_server *s);
/* From any thread. What is sent to a connection that is gone is dropped; one that lets
 * a thousand lines lie is closed. */
void socket_send(struct socket_server *s, unsigned connection, const char *text, size_t n);
/* Ends the thread: no event comes any more. socket_send may still be called. */
void socket_stop(struct socket_server *s);
void socket_free(struct socket_server *s);

#endif
