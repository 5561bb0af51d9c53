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
#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum {
	DAVIT_RING_SLOT = 64,
	DAVIT_RING_SLOTS = 4096,	   /* of each ring, unless one asks for another number */
	DAVIT_RING_FRAME_MAX = 16384 - 24, /* bytes behind the header of a frame in a ring */
	DAVIT_RING_PAGE = 4096,		   /* of indexes, before the slots */
	DAVIT_RING_AHEAD = 16,		   /* slots that are fetched before they are looked at */
	DAVIT_RING_STAGE = 16,		   /* slots that are put together before they are streamed */
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
	uint64_t room;	   /* their head, when it was last looked at */
	bool many;	   /* several frames are published at once: set by who writes them, as a hint */
	uint32_t rung;	   /* their `asleep`, when they were last rung for */
	uint64_t streamed; /* slots before that are in the memory, the others in `stage` */
	_Alignas(64) unsigned char stage[DAVIT_RING_STAGE][DAVIT_RING_SLOT];
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

static inline uint64_t davit_ring_slots_of(size_t size)
{
	return (DAVIT_FRAME_HEADER + size + DAVIT_RING_SLOT - 1) / DAVIT_RING_SLOT;
}

static inline unsigned char *davit_ring_slot(const void *page, const struct davit_ring *r, uint64_t i)
{
	return (unsigned char *)(uintptr_t)page + DAVIT_RING_PAGE + (i & (r->slots - 1)) * DAVIT_RING_SLOT;
}

/* memcpy of a slot's part: at most a slot, most often some words. The rest of memcpy's work is to find out
 * which of many ways is the best for n. */
static inline void davit_ring_copy_small(void *to, const void *from, size_t n)
{
	unsigned char *d = to;
	const unsigned char *s = from;

	if (n >= 16) {
		for (size_t i = 0; i + 16 < n; i += 16)
			memcpy(d + i, s + i, 16);
		memcpy(d + n - 16, s + n - 16, 16);
	} else if (n >= 8) {
		memcpy(d, s, 8);
		memcpy(d + n - 8, s + n - 8, 8);
	} else {
		for (size_t i = 0; i < n; i++)
			d[i] = s[i];
	}
}

/* Are the first n bytes, less than a slot, the same? */
static inline bool davit_ring_same(const void *a, const void *b, size_t n)
{
	const unsigned char *x = a, *y = b;

	for (; n >= 8; n -= 8, x += 8, y += 8)
		if (memcmp(x, y, 8) != 0)
			return false;
	for (; n; n--, x++, y++)
		if (*x != *y)
			return false;
	return true;
}

/* --- writing --- */

/* Is there room for a frame with `size` bytes behind its header? DAVIT_EPROTO: the other's
 * index makes no sense. */
static inline int davit_ring_room(struct davit_ring *r, size_t size, bool *ret)
{
	uint64_t need = davit_ring_slots_of(size), head;

	*ret = r->tail + need - r->room <= r->slots;
	if (*ret)
		return 0;
	head = atomic_load_explicit(&r->theirs->head, memory_order_acquire);
	if (head - r->room > r->tail - r->room)
		return DAVIT_EPROTO; /* it has read what was not written, or unread something */
	r->room = head;
	*ret = r->tail + need - r->room <= r->slots;
	return 0;
}

/* A whole slot, past the cache: one that the other side has read would first have to be taken
 * from its cache, which is twenty times as long as to write it. A single one is with the
 * other sooner without. publish() sees to it that they are there before the index. */
static inline void davit_ring_stream(unsigned char *to, const unsigned char *from)
{
#ifdef __SSE2__
	__m128i *d = (__m128i *)(void *)to;
	const __m128i *s = (const __m128i *)(const void *)from;

	_mm_stream_si128(d, _mm_load_si128(s));
	_mm_stream_si128(d + 1, _mm_load_si128(s + 1));
	_mm_stream_si128(d + 2, _mm_load_si128(s + 2));
	_mm_stream_si128(d + 3, _mm_load_si128(s + 3));
#else
	memcpy(to, from, DAVIT_RING_SLOT);
#endif
}

/* The first n of what is staged. */
static inline void davit_ring_stream_some(struct davit_ring *r, uint64_t n)
{
	for (; n; n--, r->streamed++)
		davit_ring_stream(davit_ring_slot(r->mine, r, r->streamed),
				  r->stage[r->streamed % DAVIT_RING_STAGE]);
}

/* davit_ring_write, of more than one slot. */
void davit_ring_write_slots(struct davit_ring *r, const struct davit_frame *f, const char *from,
			    const char *to, const void *data, uint64_t slots);

/* davit_ring_write, of one slot. Inline, so that the header need not be in memory: it would be written in
 * small pieces and read as a whole, which waits until those have left the processor's store buffer. */
static inline __attribute__((always_inline)) void davit_ring_write_one(struct davit_ring *r,
								       const struct davit_frame *f,
								       const char *from, const char *to,
								       const void *data)
{
	/* Put together where it stays for a while, for the same reason. What is behind its end is of an
	 * earlier one. */
	unsigned char *slot = r->stage[r->tail % DAVIT_RING_STAGE], *at = slot + DAVIT_FRAME_HEADER;

	davit_frame_put(slot, f);
	for (unsigned i = 0; i < f->from; i++)
		*at++ = (unsigned char)from[i];
	for (unsigned i = 0; i < f->to; i++)
		*at++ = (unsigned char)to[i];
	davit_ring_copy_small(at, data, f->size - f->from - f->to);
	r->tail++;
	if (!r->many) {
		davit_ring_stream_some(r, r->tail - 1 - r->streamed);
		memcpy(davit_ring_slot(r->mine, r, r->streamed++), slot, DAVIT_RING_SLOT);
	} else if (r->tail - r->streamed == DAVIT_RING_STAGE) {
		davit_ring_stream_some(r, DAVIT_RING_STAGE / 2);
	}
}

/* Copies a frame in, for which there is room; `data` is what follows from and to. It
 * is seen by the other from davit_ring_publish on. */
static inline void davit_ring_write(struct davit_ring *r, const struct davit_frame *f, const char *from,
				    const char *to, const void *data)
{
	uint64_t slots = davit_ring_slots_of(f->size);

	if (slots > 1)
		davit_ring_write_slots(r, f, from, to, data, slots);
	else
		davit_ring_write_one(r, f, from, to, data);
}

/* True: the other sleeps, and is to be rung for (BELL). */
bool davit_ring_publish(struct davit_ring *r);
/* The other has none, or too little, room: it is told that somebody waits, and rings.
 * Look at the room once more afterwards. */
void davit_ring_wait(struct davit_ring *r);

/* --- reading --- */

/* Where the next frame is, is known from the one before: without this they would come from
 * the other's cache one after the other. */
static inline void davit_ring_fetch(struct davit_ring *r)
{
	uint64_t to = r->head + DAVIT_RING_AHEAD < r->seen ? r->head + DAVIT_RING_AHEAD : r->seen;

	if (r->fetched < r->head)
		r->fetched = r->head;
	for (; r->fetched < to; r->fetched++)
		__builtin_prefetch(davit_ring_slot(r->theirs, r, r->fetched));
}

/* The next frame's header: 1, 0 if there is none, DAVIT_EPROTO. Either end may be sent all
 * frames of messages. */
static inline int davit_ring_peek(struct davit_ring *r, struct davit_frame *ret)
{
	uint64_t tail;

	if (r->seen == r->head) {
		tail = atomic_load_explicit(&r->theirs->tail, memory_order_acquire);
		if (tail - r->head > r->slots)
			return DAVIT_EPROTO;
		r->seen = tail;
		if (tail == r->head)
			return 0;
	}
	davit_ring_fetch(r);
	davit_frame_get(davit_ring_slot(r->theirs, r, r->head), ret);
	if (!davit_frame_of_messages(ret->kind) || !davit_frame_lengths_ok(ret, DAVIT_RING_FRAME_MAX) ||
	    davit_ring_slots_of(ret->size) > r->seen - r->head)
		return DAVIT_EPROTO;
	return 1;
}

/* What follows the header of the frame peeked at, where it does not go over the end of the
 * slots; NULL: it does. The other may write there at any time: it is copied, then looked at. */
static inline const void *davit_ring_body(const struct davit_ring *r, const struct davit_frame *f)
{
	bool wraps = (r->head & (r->slots - 1)) + davit_ring_slots_of(f->size) > r->slots;

	return wraps ? NULL : davit_ring_slot(r->theirs, r, r->head) + DAVIT_FRAME_HEADER;
}

/* Copies n bytes from `at` on, of what follows the header of the frame peeked at. Within
 * its size. */
void davit_ring_copy(const struct davit_ring *r, size_t at, void *to, size_t n);

/* The frame of that header is over; from davit_ring_release on its room is free. */
static inline void davit_ring_next(struct davit_ring *r, const struct davit_frame *f)
{
	r->head += davit_ring_slots_of(f->size);
}

static inline void davit_ring_release(struct davit_ring *r)
{
	if (r->released == r->head)
		return;
	r->released = r->head;
	atomic_store_explicit(&r->mine->head, r->head, memory_order_release);
}

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
