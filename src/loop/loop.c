/* SPDX-License-Identifier: MIT
 *
 * Timers (a binary heap) and deferred calls (a queue), the same for the real
 * and the virtual loop. uv.c and virtual.c give time and wake-ups.
 */
#include "base/units.h"
#include "loop/loop_impl.h"

#include <stdlib.h>

int64_t davit_loop_now(struct davit_loop *loop)
{
	return loop->ops->now(loop);
}

int64_t davit_loop_wall(struct davit_loop *loop)
{
	return loop->ops->wall(loop);
}

uint64_t davit_loop_random(struct davit_loop *loop)
{
	return loop->ops->random(loop);
}

/* --- the heap --- */

static bool earlier(const struct davit_timer *a, const struct davit_timer *b)
{
	return a->due != b->due ? a->due < b->due : a->order < b->order;
}

static void put(struct davit_loop *loop, uint32_t i, struct davit_timer *t)
{
	loop->heap[i] = t;
	t->slot = i + 1;
}

static void sift_up(struct davit_loop *loop, uint32_t i)
{
	struct davit_timer *t = loop->heap[i];

	for (; i && earlier(t, loop->heap[(i - 1) / 2]); i = (i - 1) / 2)
		put(loop, i, loop->heap[(i - 1) / 2]);
	put(loop, i, t);
}

static void sift_down(struct davit_loop *loop, uint32_t i)
{
	struct davit_timer *t = loop->heap[i];

	for (;;) {
		uint32_t child = 2 * i + 1;
		if (child >= loop->heap_len)
			break;
		if (child + 1 < loop->heap_len && earlier(loop->heap[child + 1], loop->heap[child]))
			child++;
		if (!earlier(loop->heap[child], t))
			break;
		put(loop, i, loop->heap[child]);
		i = child;
	}
	put(loop, i, t);
}

static void rearm(struct davit_loop *loop)
{
	int64_t at = loop->deferred.next != &loop->deferred ? 0
		     : loop->heap_len			    ? loop->heap[0]->due
							    : INT64_MAX;

	if (at != loop->armed && !loop->dispatching) {
		loop->armed = at;
		loop->ops->wake_at(loop, at);
	}
}

void davit_timer_init(struct davit_timer *t, struct davit_loop *loop, void (*fire)(struct davit_timer *))
{
	*t = (struct davit_timer){.loop = loop, .fire = fire};
}

bool davit_timer_active(const struct davit_timer *t)
{
	return t->slot != 0;
}

void davit_timer_stop(struct davit_timer *t)
{
	struct davit_loop *loop = t->loop;
	uint32_t i = t->slot;

	if (!i)
		return;
	i--;
	t->slot = 0;
	if (i != --loop->heap_len) {
		put(loop, i, loop->heap[loop->heap_len]);
		sift_up(loop, i);
		sift_down(loop, loop->heap[i]->slot - 1);
	}
	rearm(loop);
}

int davit_timer_start(struct davit_timer *t, int64_t delay)
{
	struct davit_loop *loop = t->loop;
	int64_t now = davit_loop_now(loop);

	davit_timer_stop(t);
	if (loop->heap_len == loop->heap_cap) {
		uint32_t cap = loop->heap_cap ? loop->heap_cap * 2 : 64;
		struct davit_timer **heap = realloc(loop->heap, cap * sizeof *heap);
		if (!heap)
			return DAVIT_ENOMEM;
		loop->heap = heap;
		loop->heap_cap = cap;
	}
	if (delay < 0)
		delay = 0;
	t->due = __builtin_add_overflow(now, delay, &t->due) ? INT64_MAX - 1 : now + delay;
	t->order = ++loop->order;
	loop->heap[loop->heap_len] = t;
	t->slot = ++loop->heap_len;
	sift_up(loop, t->slot - 1);
	rearm(loop);
	return 0;
}

/* --- deferred calls --- */

void davit_deferred_init(struct davit_deferred *d, struct davit_loop *loop,
			 void (*run)(struct davit_deferred *))
{
	*d = (struct davit_deferred){.loop = loop, .run = run};
}

void davit_defer(struct davit_deferred *d)
{
	struct davit_deferred *head = &d->loop->deferred;

	if (d->queued)
		return;
	d->queued = true;
	d->prev = head->prev;
	d->next = head;
	head->prev->next = d;
	head->prev = d;
	rearm(d->loop);
}

void davit_deferred_cancel(struct davit_deferred *d)
{
	if (!d->queued)
		return;
	d->queued = false;
	d->prev->next = d->next;
	d->next->prev = d->prev;
	rearm(d->loop);
}

/* --- dispatch --- */

/* At most this many calls, and this much time, before descriptors get their turn:
 * the keeper can work on the first of a thousand starts while the others are still
 * being prepared. Virtual time stands still meanwhile. */
enum { BURST = 4096 };
#define SLICE (2 * DAVIT_NSEC_PER_MSEC)

bool davit_loop_dispatch(struct davit_loop *loop)
{
	int64_t now = davit_loop_now(loop);
	bool any = false;

	loop->dispatching = true;
	/* Timers started by a timer that fires now wait for the next round. */
	for (uint64_t last = loop->order; loop->heap_len;) {
		struct davit_timer *t = loop->heap[0];
		if (t->due > now || t->order > last)
			break;
		davit_timer_stop(t);
		t->fire(t);
		any = true;
	}
	for (int n = 0; n < BURST && loop->deferred.next != &loop->deferred; n++) {
		if (davit_loop_now(loop) - now > SLICE)
			break;
		struct davit_deferred *d = loop->deferred.next;
		davit_deferred_cancel(d);
		d->run(d);
		any = true;
	}
	loop->dispatching = false;
	loop->armed = -1;
	rearm(loop);
	return any;
}

void davit_loop_setup(struct davit_loop *loop, const struct davit_loop_ops *ops)
{
	loop->ops = ops;
	loop->armed = INT64_MAX;
	loop->deferred.next = loop->deferred.prev = &loop->deferred;
}

void davit_loop_teardown(struct davit_loop *loop)
{
	for (uint32_t i = 0; i < loop->heap_len; i++)
		loop->heap[i]->slot = 0;
	while (loop->deferred.next != &loop->deferred) {
		struct davit_deferred *d = loop->deferred.next;
		loop->deferred.next = d->next;
		d->queued = false;
	}
	free(loop->heap);
}

void davit_loop_close(struct davit_loop *loop)
{
	if (loop)
		loop->close(loop);
}
