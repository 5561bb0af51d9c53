/* SPDX-License-Identifier: MIT */
#include "channel/ring.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

enum {
	PAGE = 4096,
	AHEAD = 16 /* slots that are fetched before they are looked at */,
	SMALL = 4 /* slots */
};
_Static_assert(sizeof(struct davit_ring_page) <= PAGE, "the indexes are one page");

static size_t memory_size(uint32_t slots)
{
	return PAGE + (size_t)slots * DAVIT_RING_SLOT;
}

static bool slots_ok(uint32_t slots)
{
	return slots >= 1024 && slots <= 1 << 20 && !(slots & (slots - 1));
}

static void *map(int fd, uint32_t slots, int protection)
{
	void *p = mmap(NULL, memory_size(slots), protection, MAP_SHARED, fd, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* One memory, mapped by who made it; sealed, so that its size stays what it is. */
static int make(uint32_t slots, int protection, int seals, int *ret_fd, void **ret)
{
	DAVIT_AUTO_CLOSE int fd = memfd_create("davit-channel", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *p;

	if (fd < 0)
		return errno == ENOMEM ? DAVIT_ENOMEM : DAVIT_EIO;
	if (ftruncate(fd, (off_t)memory_size(slots)) || !(p = map(fd, slots, protection)))
		return DAVIT_ENOMEM;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL | seals)) {
		munmap(p, memory_size(slots));
		return DAVIT_EIO;
	}
	*ret_fd = DAVIT_TAKE_FD(fd);
	*ret = p;
	return 0;
}

int davit_ring_create(struct davit_ring *r, uint32_t slots, int ret_fds[2])
{
	void *mine, *theirs;
	int r1, mine_fd;

	if (!slots_ok(slots))
		return DAVIT_EINVAL;
	if ((r1 = make(slots, PROT_READ | PROT_WRITE, F_SEAL_FUTURE_WRITE, &mine_fd, &mine)))
		return r1;
	if ((r1 = make(slots, PROT_READ, 0, &ret_fds[1], &theirs))) {
		munmap(mine, memory_size(slots));
		close(mine_fd);
		return r1;
	}
	ret_fds[0] = mine_fd;
	*r = (struct davit_ring){.mine = mine, .theirs = theirs, .slots = slots};
	return 0;
}

static bool size_is(int fd, uint32_t slots)
{
	struct stat st;

	return !fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size == (off_t)memory_size(slots);
}

int davit_ring_attach(struct davit_ring *r, uint32_t slots, const int fds[2])
{
	void *theirs, *mine;

	if (!slots_ok(slots) || !size_is(fds[0], slots) || !size_is(fds[1], slots))
		return DAVIT_EPROTO;
	if (!(theirs = map(fds[0], slots, PROT_READ)))
		return DAVIT_ENOMEM;
	if (!(mine = map(fds[1], slots, PROT_READ | PROT_WRITE))) {
		munmap(theirs, memory_size(slots));
		return DAVIT_ENOMEM;
	}
	*r = (struct davit_ring){.mine = mine, .theirs = theirs, .slots = slots};
	return 0;
}

void davit_ring_close(struct davit_ring *r)
{
	if (!r || !r->slots)
		return;
	munmap(r->mine, memory_size(r->slots));
	munmap((void *)(uintptr_t)r->theirs, memory_size(r->slots));
	*r = (struct davit_ring){0};
}

/* --- writing --- */

static uint64_t slots_of(size_t size)
{
	return (DAVIT_FRAME_HEADER + size + DAVIT_RING_SLOT - 1) / DAVIT_RING_SLOT;
}

static unsigned char *slot(const void *page, const struct davit_ring *r, uint64_t i)
{
	return (unsigned char *)(uintptr_t)page + PAGE + (i & (r->slots - 1)) * DAVIT_RING_SLOT;
}

int davit_ring_room(struct davit_ring *r, size_t size, bool *ret)
{
	uint64_t need = slots_of(size), head;

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

/* Copies to a place that may go over the end of the slots. */
static void put(struct davit_ring *r, uint64_t *at, const void *data, size_t n)
{
	size_t size = (size_t)r->slots * DAVIT_RING_SLOT, offset = *at & (size - 1), first = size - offset;
	unsigned char *base = (unsigned char *)r->mine + PAGE;

	*at += n;
	if (n <= first) {
		memcpy(base + offset, data, n);
		return;
	}
	memcpy(base + offset, data, first);
	memcpy(base, (const unsigned char *)data + first, n - first);
}

/* Whole slots, past the cache: a slot that the other side has read would first have to be
 * taken from its cache, which is twenty times as long as to write it. A single one is with
 * the other sooner without. publish() sees to it that they are there before the index. */
static void stream(unsigned char *to, const unsigned char *from, size_t slots)
{
#ifdef __SSE2__
	for (size_t i = 0; i < slots * DAVIT_RING_SLOT / sizeof(__m128i); i++)
		_mm_stream_si128((__m128i *)(void *)to + i,
				 _mm_load_si128((const __m128i *)(const void *)from + i));
#else
	memcpy(to, from, slots * DAVIT_RING_SLOT);
#endif
}

static void write_small(struct davit_ring *r, const struct davit_frame *f, const char *from, const char *to,
			const void *data, uint64_t slots)
{
	_Alignas(DAVIT_RING_SLOT) unsigned char frame[SMALL * DAVIT_RING_SLOT];
	unsigned char *at = frame + DAVIT_FRAME_HEADER;
	size_t n = f->size - f->from - f->to;

	/* Nothing of this side's stack goes over there. */
	memset(frame + (slots - 1) * DAVIT_RING_SLOT, 0, DAVIT_RING_SLOT);
	davit_frame_put(frame, f);
	if (f->from)
		memcpy(at, from, f->from);
	if (f->to)
		memcpy(at + f->from, to, f->to);
	if (n)
		memcpy(at + f->from + f->to, data, n);
	for (uint64_t i = 0; i < slots; i++)
		stream(slot(r->mine, r, r->tail + i), frame + i * DAVIT_RING_SLOT, 1);
}

static void write_large(struct davit_ring *r, const struct davit_frame *f, const char *from, const char *to,
			const void *data)
{
	size_t n = f->size - f->from - f->to;
	uint64_t at;

	davit_frame_put(slot(r->mine, r, r->tail), f);
	at = r->tail * DAVIT_RING_SLOT + DAVIT_FRAME_HEADER;
	if (f->from)
		put(r, &at, from, f->from);
	if (f->to)
		put(r, &at, to, f->to);
	if (n)
		put(r, &at, data, n);
}

void davit_ring_write(struct davit_ring *r, const struct davit_frame *f, const char *from, const char *to,
		      const void *data)
{
	uint64_t slots = slots_of(f->size);

	if (r->many && slots <= SMALL)
		write_small(r, f, from, to, data, slots);
	else
		write_large(r, f, from, to, data);
	r->tail += slots;
}

bool davit_ring_publish(struct davit_ring *r)
{
	uint32_t asleep;

	if (atomic_load_explicit(&r->mine->tail, memory_order_relaxed) == r->tail)
		return false;
#ifdef __SSE2__
	if (r->many)
		_mm_sfence();
#endif
	atomic_store_explicit(&r->mine->tail, r->tail, memory_order_release);
	/* Both sides write their word, then read the other's: one of them sees it. */
	atomic_thread_fence(memory_order_seq_cst);
	asleep = atomic_load_explicit(&r->theirs->asleep, memory_order_relaxed);
	if (!(asleep & 1) || asleep == r->rung)
		return false;
	r->rung = asleep;
	return true;
}

void davit_ring_wait(struct davit_ring *r)
{
	uint32_t waiting = atomic_load_explicit(&r->mine->waiting, memory_order_relaxed);

	/* Another odd number than before: what was rung for the last wait is over. */
	atomic_store_explicit(&r->mine->waiting, (waiting | 1) + 2, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
}

/* --- reading --- */

/* Where the next frame is, is known from the one before: without this they would come from
 * the other's cache one after the other. */
static void fetch_ahead(struct davit_ring *r)
{
	uint64_t to = r->head + AHEAD < r->seen ? r->head + AHEAD : r->seen;

	if (r->fetched < r->head)
		r->fetched = r->head;
	for (; r->fetched < to; r->fetched++)
		__builtin_prefetch(slot(r->theirs, r, r->fetched));
}

int davit_ring_peek(struct davit_ring *r, enum davit_channel_end end, struct davit_frame *ret)
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
	fetch_ahead(r);
	davit_frame_get(slot(r->theirs, r, r->head), ret);
	if (davit_frame_check(ret, end) || !davit_frame_of_messages(ret->kind) ||
	    ret->size > DAVIT_RING_FRAME_MAX || slots_of(ret->size) > r->seen - r->head)
		return DAVIT_EPROTO;
	return 1;
}

void davit_ring_copy(const struct davit_ring *r, size_t at, void *to, size_t n)
{
	size_t size = (size_t)r->slots * DAVIT_RING_SLOT;
	size_t offset = (r->head * DAVIT_RING_SLOT + DAVIT_FRAME_HEADER + at) & (size - 1),
	       first = size - offset;
	const unsigned char *base = (const unsigned char *)r->theirs + PAGE;

	if (n <= first) {
		memcpy(to, base + offset, n);
		return;
	}
	memcpy(to, base + offset, first);
	memcpy((unsigned char *)to + first, base, n - first);
}

void davit_ring_next(struct davit_ring *r, const struct davit_frame *f)
{
	r->head += slots_of(f->size);
}

void davit_ring_release(struct davit_ring *r)
{
	if (r->released == r->head)
		return;
	r->released = r->head;
	atomic_store_explicit(&r->mine->head, r->head, memory_order_release);
}

bool davit_ring_waited_for(struct davit_ring *r)
{
	uint32_t waiting;

	atomic_thread_fence(memory_order_seq_cst);
	waiting = atomic_load_explicit(&r->theirs->waiting, memory_order_relaxed);
	if (!(waiting & 1) || waiting == r->called)
		return false;
	r->called = waiting;
	return true;
}

bool davit_ring_sleep(struct davit_ring *r)
{
	uint32_t asleep = atomic_load_explicit(&r->mine->asleep, memory_order_relaxed);

	if (!(asleep & 1))
		atomic_store_explicit(&r->mine->asleep, asleep + 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
	if (!davit_ring_any(r))
		return true;
	davit_ring_wake(r);
	return false;
}

void davit_ring_wake(struct davit_ring *r)
{
	uint32_t asleep = atomic_load_explicit(&r->mine->asleep, memory_order_relaxed);

	if (asleep & 1)
		atomic_store_explicit(&r->mine->asleep, asleep + 1, memory_order_relaxed);
}
