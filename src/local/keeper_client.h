/* SPDX-License-Identifier: MIT
 *
 * The daemon's end of one keeper: starts it when none runs, connects, greets,
 * sends requests and hands back their answers, and begins anew when the keeper
 * dies. Knows packets and tags, nothing of instances.
 */
#ifndef DAVIT_LOCAL_KEEPER_CLIENT_H
#define DAVIT_LOCAL_KEEPER_CLIENT_H

#include "base/buf.h"
#include "base/list.h"
#include "davit/loop.h"
#include "keeper/protocol.h"
#include "local/poll.h"

struct keeper_client;

/* A request under way. Embedded in, or the head of, its owner's object, which
 * lives until `answer` was called for the last time. */
struct keeper_request {
	/* An answer (borrowed during the call). Every type but INSTANCE and
	 * TERMINAL_INFO ends the request, with one exception: an EXEC's goes on until EXEC_EXITED, when
	 * `lasting` is set. NULL: the connection was lost (`why` says how), and the
	 * request with it. */
	void (*answer)(struct keeper_request *q, const struct keeper_header *h,
		       const struct davit_error *why);
	bool lasting;
	/* private */
	uint64_t tag;
};

/* Called from the loop, never from within a call on the client. */
struct keeper_callbacks {
	/* Connected and greeted: requests can be sent. */
	void (*up)(struct keeper_client *k, const struct keeper_welcome *welcome);
	/* The connection ended, or an attempt to get one failed. The pending
	 * requests were answered with NULL before. The client tries again by itself,
	 * with a growing pause, until it is closed. */
	void (*down)(struct keeper_client *k, const struct davit_error *why);
	/* A message with tag 0. */
	void (*event)(struct keeper_client *k, const struct keeper_header *h);
};

enum keeper_phase { KEEPER_CLIENT_DOWN, KEEPER_CLIENT_LAUNCHING, KEEPER_CLIENT_GREETING, KEEPER_CLIENT_UP };

/* Where keepers live; borrowed, outlives the client. */
struct keeper_place {
	struct davit_loop *loop;
	const char *run_dir; /* sockets and slots */
	int run_fd;	     /* the same, open: sockets are reached through it, however long the path is */
	const char *program; /* path of davit-keeper */
};

struct keeper_client {
	/* the owner's */
	const struct keeper_callbacks *callbacks;
	void *user;
	unsigned index;
	/* readable */
	enum keeper_phase phase;
	uint32_t slots_used, slots_max; /* as of WELCOME; the owner keeps slots_used up to date */
	pid_t pid;
	/* private */
	const struct keeper_place *place;
	int fd, launch_fd;
	int answer_fd; /* came with the message that is being told */
	pid_t child;   /* the launcher, until it is reaped */
	struct local_poll *poll, *launch_poll;
	struct davit_buf complaint;	 /* what the launcher wrote to its standard error */
	struct davit_timer timer;	 /* next attempt, or the deadline of this one */
	struct davit_deferred breakdown; /* a send that failed is told later */
	struct davit_error why;
	int64_t pause;
	struct davit_list queue;       /* packets that the socket does not take yet */
	struct keeper_request **table; /* by the lower half of the tag */
	uint32_t table_len, generation;
};

/* Begins to connect; `up` or `down` follows. */
void keeper_client_open(struct keeper_client *k, unsigned index, const struct keeper_place *place,
			const struct keeper_callbacks *callbacks, void *user);
/* Ends the connection, not the keeper. Pending requests are forgotten: no
 * callback comes after. */
void keeper_client_close(struct keeper_client *k);

/* Sends one message: `packet` begins with a struct keeper_header whose type and
 * size are set; total and tag are filled in. The n_fds descriptors are taken over in
 * any case. q may be NULL where no answer is of interest. Never blocks.
 * DAVIT_EUNAVAIL while not up, DAVIT_ENOMEM. A connection that breaks in
 * here is told later, through q. */
int keeper_client_send(struct keeper_client *k, struct davit_buf *packet, const int *fds, size_t n_fds,
		       struct keeper_request *q, struct davit_error *err);
/* The descriptor that came with the answer being told, the caller's from now on; -1
 * when there is none. */
int keeper_client_take_fd(struct keeper_client *k);
/* Begins a message in the buffer: zeroed, of that size, for the id. Returns it, or
 * NULL when out of memory. It moves when more is appended. */
void *keeper_packet(struct davit_buf *b, enum keeper_type type, size_t size, const char *id);
/* Its answers are of no interest any more: q is not called after. */
void keeper_client_forget(struct keeper_client *k, struct keeper_request *q);

/* Starts the program, which makes itself a daemon: the child that is started
 * ends with status 0 when the daemon is ready, else with a message on its standard
 * error, whose reading end is *ret_fd. Blocks for the exec alone. */
int keeper_launch(const struct keeper_place *place, unsigned index, pid_t *ret_pid, int *ret_fd,
		  struct davit_error *err);

#endif
