/* SPDX-License-Identifier: MIT
 *
 * What poll.c and poll_end.c share.
 */
#ifndef DAVIT_ACTOR_POLL_IMPL_H
#define DAVIT_ACTOR_POLL_IMPL_H

#include "actor/process.h"

#include <sys/wait.h>

enum {
	FRAMES = 256, /* of a ring, in turn */
	READS = 16,   /* of a socket, in turn */
};
/* In epoll's data, beside the link. */
#define OF_PIDFD UINT64_C(1)
#define OF_HOLDER UINT64_C(2)

struct poll {
	struct davit_system *system;
	int epoll, wake;
	pthread_mutex_t lock; /* who reads; and of what follows */
	struct link **links;
	size_t n, cap;
	_Atomic(size_t) count;
	struct link **gone; /* until the end of the turn */
	size_t n_gone, cap_gone;
	struct link *ending; /* with holders that have not ended yet */
	int64_t next_beat;
	uint64_t beat;
};

/* poll.c */
/* What its socket has, by at most so many reads. 0; or it broke the protocol, and is being killed. */
int poll_receive(struct davit_context *c, struct link *l, int reads);

/* poll_end.c: by the thread that polls, or when there is none */

/* Its process has ended, if it has: that is told. */
void poll_ended(struct davit_context *c, struct poll *p, struct link *l);
/* Everything that it wrote is read; then its death is told. */
void poll_over(struct davit_context *c, struct poll *p, struct link *l, const siginfo_t *info);
/* Lets go of those whose end was told. */
void poll_drop_gone(struct poll *p);
/* Its holder has ended. */
void poll_holder_ended(struct poll *p, struct link *l);
/* Waits for its process and its holder, and lets go of it. */
void poll_await_end(struct link *l);

#endif
