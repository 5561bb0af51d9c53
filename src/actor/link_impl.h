/* SPDX-License-Identifier: MIT
 *
 * A link: the channel between this system and one other process, as messages see it.
 * The parent has one for each process that is a container, its child one (the uplink).
 *
 *   link.c     frames out: through the ring or the socket; what waits for room
 *   receive.c  frames of messages in: to their receivers
 *   poll.c, poll_end.c  many links: their sockets, rings, heartbeats; ends (the parent's)
 *   remote.c   those who are reached through a link, as actors of this system
 *
 * The locks, outermost first: the poll lock of the system (who reads), the tree's and
 * the promises', a link's own (who writes).
 */
#ifndef DAVIT_ACTOR_LINK_H
#define DAVIT_ACTOR_LINK_H

#include "actor/actor_impl.h"
#include "channel/ring.h"
#include "channel/socket.h"

struct container;

enum { LINK_REQUESTS = 64 /* lists of them */ };

/* What was last looked up, so that who talks to one other is not looked up again. */
struct link_cache {
	struct davit_ref ref;
	char alias[64];
};

struct link {
	struct davit_system *system;
	uint32_t number; /* tells it from others, and from former ones */
	_Atomic(uint32_t) references;
	enum davit_channel_end end; /* which one we are */
	struct davit_ref owner;	    /* the container: here its stand-in, there itself */
	struct davit_ref above;	    /* at the parent: who is meant by no address */

	pthread_mutex_t lock; /* of what follows: who writes */
	struct davit_socket socket;
	struct davit_ring ring;
	_Atomic(bool) rings;	/* messages go through them */
	bool closed;		/* nothing is sent any more */
	struct davit_buf late;	/* frames that found no room in the ring */
	_Atomic(size_t) n_late; /* bytes of them */
	bool patient;		/* who sends waits for room; nothing is ever late */
	struct link_cache to;	/* the sender of the last message out */
	bool welcome;		/* it has answered the greeting */
	char last_words[128];	/* of one that could not become what it should */
	int epoll;		/* that watches the socket; -1: none */
	bool watches_out;

	/* who reads, under the poll lock */
	struct davit_buf large; /* a message in parts, so far */
	struct davit_frame large_head;
	struct link_cache from;			  /* the sender of the last message in */
	struct davit_message *batch, *batch_last; /* for the owner, newest first */

	/* Requests of the other end that are not answered, by their id; under the promises' lock. */
	struct promise *requests[LINK_REQUESTS];

	/* the parent's */
	_Atomic(bool) greeted;	     /* HELLO is on its way: heartbeats may follow */
	_Atomic(uint32_t) looks;     /* of poll_rings */
	_Atomic(uint64_t) wanted;    /* with that: `done` that it waits for as well; 0: room alone */
	_Atomic(bool) stalled;	     /* its stand-in waits for room */
	_Atomic(uint64_t) unsettled; /* messages that it is to be done with; 0: none are kept */
	_Atomic(uint64_t) acked;     /* without rings: done, and one bit: one more is begun */
	int pidfd;
	int holder;	     /* pidfd of who ends after it (channel/holder.h); -1: none */
	struct link *ending; /* the next one whose holder is waited for */
	bool ended;	     /* of its socket */
	int64_t ended_at;
	char alias[64];
	struct watched { /* whose end it wants to hear of */
		struct watched *next;
		struct davit_ref ref;
		char alias[64];
	} * watched;
	int64_t asked; /* the oldest PING since which nothing came; 0: none */
	int64_t keepalive;
	bool silent;		/* that was noted */
	bool killed;		/* as soon as it says who it is */
	const char *end_reason; /* why it was killed by us; static */
	int end_code;

	/* who reads; the last, since nobody clears it: most links never need it */
	unsigned char scratch[DAVIT_FRAME_MAX];
};

struct link *link_new(struct davit_system *s, int fd, enum davit_channel_end end);
struct link *link_ref(struct link *l);
void link_unref(struct link *l); /* NULL is fine */
/* Nothing goes out any more. */
void link_close(struct link *l);

/* A frame that is not of messages: JSON, text or nothing. */
void link_control(struct link *l, enum davit_frame_kind kind, uint64_t id, int code, const void *data,
		  size_t size);
/* The same, that may wait for the next one which does not: another is about to come. */
void link_say(struct link *l, enum davit_frame_kind kind, uint64_t id, int code, const void *data,
	      size_t size, bool soon);
/* A frame of messages: f->kind, flags, id, type, time are given. In parts, if it is
 * large. */
void link_send(struct link *l, struct davit_frame *f, const char *from, const char *to, const void *data,
	       size_t size);
/* True if a message can go out without being late, or LINK_SMALL of at most LINK_SMALL_SIZE
 * bytes; `plenty`: many can. */
enum {
	LINK_SMALL = 64,
	LINK_SMALL_SIZE = 512,
	LINK_ROOM = LINK_SMALL * (LINK_SMALL_SIZE + 2 * DAVIT_RING_SLOT), /* header and alias, rounded up */
};
_Static_assert((int)LINK_ROOM >= (int)DAVIT_RING_FRAME_MAX, "there is room for a large frame as well");
bool link_has_room(struct link *l, bool plenty);
/* Sends what waits for room in the socket. */
void link_flush(struct link *l);
/* In a handler that takes long: heartbeats are answered. */
void link_breathe(struct davit_context *c);
/* Puts into the ring what was late. */
void link_catch_up(struct link *l);
/* The stand-in of a child waits for that; look at link_has_room once more. */
void link_await_room(struct link *l);
/* A frame as it is, whose lengths are set. */
void link_frame(struct link *l, const struct davit_frame *f, const char *to, const void *data);
/* m, as MESSAGE or REQUEST, for `to` ("": the other end itself). */
void link_message(struct davit_context *c, struct link *l, const char *to, const struct davit_message *m);
/* m and those behind it, for the other end itself, seen by it as one. cache: the caller's, of
 * the last sender's alias. No locked instruction is between two of them, so that the writes
 * into memory that the other had last do not wait for each other. */
void link_messages(struct davit_context *c, struct link *l, struct link_cache *cache,
		   const struct davit_message *m);
/* How a request that came by l has ended. */
void link_answer(struct link *l, uint64_t id, const struct davit_outcome *o);

/* receive.c */

/* A frame of messages: from the ring (body NULL) or the socket. 0, or DAVIT_EPROTO. */
int link_take(struct davit_context *c, struct link *l, const struct davit_frame *f,
	      const unsigned char *body);
/* Takes at most n frames from the ring: how many there were, or DAVIT_EPROTO. */
int link_read_ring(struct davit_context *c, struct link *l, int n);

#endif
