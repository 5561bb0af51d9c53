/* SPDX-License-Identifier: MIT
 *
 * One end of two rings of 64-byte slots in shared memory (docs/channel.md, "Rings").
 * Each end writes one of the two memories and can only read the other; so there is no
 * lock and no pointer in them, and nothing that the other end does can hold this one
 * up. What is read is copied out, then checked; indexes are masked, and one that makes
 * no sense breaks the channel.
 *
 * One thread at a time writes, one at a time reads; those two may be different ones.
 */
#ifndef DAVIT_CHANNEL_RING_H
#define DAVIT_CHANNEL_RING_H

#include "channel/frame.h"

#include <stdatomic.h>

enum {
	DAVIT_RING_SLOT = 64,
	DAVIT_RING_SLOTS = 4096,	   /* of each ring, unless one asks for another number */
	DAVIT_RING_FRAME_MAX = 16384 - 24, /* bytes behind the header of a frame in a ring */
};

/* The first page of a memory; its slots are behind it. */
struct davit_ring_page {
	_Alignas(64) _Atomic(uint64_t) tail;
	_Atomic(uint32_t) attention;
	_Alignas(64) _Atomic(uint64_t) head;
	_Atomic(uint64_t) done, begun;
	_Alignas(64) _Atomic(uint32_t) asleep;
	_Atomic(uint32_t) waiting;
};

struct davit_ring {
	struct davit_ring_page *mine;
	const struct davit_ring_page *theirs;
	uint32_t slots; /* a power of two */
	/* who writes */
	_Alignas(64) uint64_t tail;
	uint64_t room; /* their head, when it was last looked at */
	bool many;     /* several frames are published at once: set by who writes them, as a hint */
	uint32_t rung; /* their `asleep`, when they were last rung for */
	/* who reads */
	_Alignas(64) uint64_t head;
	uint64_t seen;	  /* their tail, when it was last looked at */
	uint64_t fetched; /* slots that are on their way, or here */
	uint64_t released;
	uint32_t called; /* their `waiting`, when they were last rung for */
};

/* The parent's part: both memories. ret_fds[0] is the one that it writes, sealed so
 * that nobody else can; both are the caller's. slots is a power of two. 0, or
 * DAVIT_ENOMEM, DAVIT_EIO. */
int davit_ring_create(struct davit_ring *r, uint32_t slots, int ret_fds[2]);
/* The child's part; fds as the parent gave them, still the caller's. Also
 * DAVIT_EPROTO: they are no such memories. */
int davit_ring_attach(struct davit_ring *r, uint32_t slots, const int fds[2]);
/* NULL or one that was never made is fine. */
void davit_ring_close(struct davit_ring *r);

/* --- writing --- */

/* Is there room for a frame with `size` bytes behind its header? DAVIT_EPROTO: the other's
 * index makes no sense. */
int davit_ring_room(struct davit_ring *r, size_t size, bool *ret);
/* Copies a frame in, for which there is room; `data` is what follows from and to. It
 * is seen by the other from davit_ring_publish on. */
void davit_ring_write(struct davit_ring *r, const struct davit_frame *f, const char *from, const char *to,
		      const void *data);
/* True: the other sleeps, and is to be rung for (BELL). */
bool davit_ring_publish(struct davit_ring *r);
/* The other has none, or too little, room: it is told that somebody waits, and rings.
 * Look at the room once more afterwards. */
void davit_ring_wait(struct davit_ring *r);

/* --- reading --- */

/* The next frame's header: 1, 0 if there is none, DAVIT_EPROTO. */
int davit_ring_peek(struct davit_ring *r, enum davit_channel_end end, struct davit_frame *ret);
/* Copies n bytes from `at` on, of what follows the header of the frame peeked at. Within
 * its size. */
void davit_ring_copy(const struct davit_ring *r, size_t at, void *to, size_t n);
/* The frame of that header is over; from davit_ring_release on its room is free. */
void davit_ring_next(struct davit_ring *r, const struct davit_frame *f);
void davit_ring_release(struct davit_ring *r);
/* After a release, or when `done` has moved: true when the other waits for that. */
bool davit_ring_waited_for(struct davit_ring *r);
/* Is there anything to read? */
static inline bool davit_ring_any(const struct davit_ring *r)
{
	return atomic_load_explicit(&r->theirs->tail, memory_order_acquire) != r->head;
}
/* From now on the other rings. False: there is something to read, and this end is
 * awake again. */
bool davit_ring_sleep(struct davit_ring *r);
void davit_ring_wake(struct davit_ring *r);

#endif
