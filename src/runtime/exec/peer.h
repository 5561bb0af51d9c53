/* SPDX-License-Identifier: MIT
 *
 * The program at the other end: a child process with pipes, and lines of JSON
 * in both directions. Knows nothing of runtimes.
 */
#ifndef DAVIT_EXEC_PEER_H
#define DAVIT_EXEC_PEER_H

#include "base/buf.h"
#include "davit/loop.h"

#include <jansson.h>

enum {
	PEER_LINE_MAX = 1 << 20,   /* of one message from the peer */
	PEER_QUEUE_MAX = 16 << 20, /* that the peer has not read */
	PEER_GOODBYE_MS = 2000,	   /* from the end of its input until it is killed */
};

struct peer;

struct peer_events {
	/* A message, always an object; borrowed. One for each turn of the loop's
	 * deferred calls, so that an operation completed by one is done before the
	 * next comes. */
	void (*message)(void *user, json_t *message);
	/* It died or broke the form, once; the last call. Release it then. */
	void (*down)(void *user, const struct davit_error *why);
};

/* Starts the program, in a process group of its own, with the daemon's
 * environment. Its standard error goes to the log, each line behind `name`
 * (borrowed). Blocks for a vfork and an exec. */
int peer_start(struct davit_loop *loop, const char *path, const char *name, const struct peer_events *events,
	       void *user, struct peer **ret, struct davit_error *err);
/* Sends one line; text without the newline, copied. A peer that does not read
 * is failed. */
void peer_send(struct peer *p, const struct davit_buf *line);
/* Gives it up: it is killed, and `down` comes from the loop with this reason. */
void peer_fail(struct peer *p, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Bytes that it has not read; 0 for NULL. */
size_t peer_queued(const struct peer *p);
/* No call comes after. Its input ends; it is killed when it has not ended soon
 * after, and reaped by the loop, which stays alive for that. NULL is fine. */
void peer_release(struct peer *p);

#endif
