/* SPDX-License-Identifier: MIT */
#include "channel/ring.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

enum {
	PAGE = DAVIT_RING_PAGE,
	SMALL = 4, /* slots */
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
	/* The indexes and the first slots are there before they are needed; if not, then then. */
	(void)madvise(mine, 2 * PAGE, MADV_POPULATE_WRITE);
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

/* Several slots. */
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
		davit_ring_stream(davit_ring_slot(r->mine, r, r->tail + i), frame + i * DAVIT_RING_SLOT);
}

static void write_large(struct davit_ring *r, const struct davit_frame *f, const char *from, const char *to,
			const void *data)
{
	size_t n = f->size - f->from - f->to;
	uint64_t at;

	davit_frame_put(davit_ring_slot(r->mine, r, r->tail), f);
	at = r->tail * DAVIT_RING_SLOT + DAVIT_FRAME_HEADER;
	if (f->from)
		put(r, &at, from, f->from);
	if (f->to)
		put(r, &at, to, f->to);
	if (n)
		put(r, &at, data, n);
}

void davit_ring_write_slots(struct davit_ring *r, const struct davit_frame *f, const char *from,
			    const char *to, const void *data, uint64_t slots)
{
	davit_ring_stream_some(r, r->tail - r->streamed);
	if (r->many && slots <= SMALL)
		write_small(r, f, from, to, data, slots);
	else
		write_large(r, f, from, to, data);
	r->streamed = r->tail += slots;
}

bool davit_ring_publish(struct davit_ring *r)
{
	uint32_t asleep;

	if (atomic_load_explicit(&r->mine->tail, memory_order_relaxed) == r->tail)
		return false;
	davit_ring_stream_some(r, r->tail - r->streamed);
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
