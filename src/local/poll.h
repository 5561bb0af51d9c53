/* SPDX-License-Identifier: MIT
 *
 * One descriptor watched on the loop. libuv wants a handle's memory until its
 * close callback has come; this owns it, so that the watcher's owner can go at once.
 */
#ifndef DAVIT_LOCAL_POLL_H
#define DAVIT_LOCAL_POLL_H

#include "davit/loop.h"

struct local_poll;

enum { LOCAL_READABLE = 1, LOCAL_WRITABLE = 2 };

/* Watches fd (borrowed: close it after local_poll_close, not before). fn is
 * called with what is possible; an error or hang-up counts as everything that was
 * asked for. fn may close the watcher. */
int local_poll_open(struct davit_loop *loop, int fd, int events, void (*fn)(void *user, int events),
		    void *user, struct local_poll **ret, struct davit_error *err);
/* Changes what is watched for; 0 pauses. */
void local_poll_set(struct local_poll *p, int events);
/* No callback comes after. NULL is fine. */
void local_poll_close(struct local_poll *p);

#endif
