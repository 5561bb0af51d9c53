/* SPDX-License-Identifier: MIT
 *
 * The virtual loop: the same timers and deferred calls under a clock that jumps
 * and a generator with a seed (splitmix64, Steele, Lea and Flood 2014), so that
 * a run is a function of its seed.
 */
#include "base/util.h"
#include "loop/loop_impl.h"

struct virtual_loop {
	struct davit_loop base;
	int64_t now;
	int64_t wall_offset;
	uint64_t seed;
	uint64_t last; /* of the timers that belong to the present round of step_one */
};

static struct virtual_loop *virt(struct davit_loop *loop)
{
	return DAVIT_CONTAINER_OF(loop, struct virtual_loop, base);
}

static int64_t virtual_now(struct davit_loop *loop)
{
	return virt(loop)->now;
}

static int64_t virtual_wall(struct davit_loop *loop)
{
	return virt(loop)->now + virt(loop)->wall_offset;
}

static uint64_t virtual_random(struct davit_loop *loop)
{
	uint64_t z = virt(loop)->seed += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static void virtual_wake_at(struct davit_loop *loop, int64_t at)
{
	(void)loop;
	(void)at;
}

static const struct davit_loop_ops virtual_ops = {
	.now = virtual_now,
	.wall = virtual_wall,
	.random = virtual_random,
	.wake_at = virtual_wake_at,
};

static void virtual_close(struct davit_loop *loop)
{
	davit_loop_teardown(loop);
	free(virt(loop));
}

int davit_loop_open_virtual(uint64_t seed, struct davit_loop **ret_loop, struct davit_error *err)
{
	struct virtual_loop *v = calloc(1, sizeof *v);

	if (!v)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	davit_loop_setup(&v->base, &virtual_ops);
	v->base.close = virtual_close;
	v->seed = seed;
	v->wall_offset = INT64_C(1700000000) * 1000000000;
	*ret_loop = &v->base;
	return 0;
}

bool davit_loop_step(struct davit_loop *loop)
{
	struct virtual_loop *v = virt(loop);

	if (davit_loop_dispatch(loop))
		return true;
	if (!loop->heap_len)
		return false;
	if (loop->heap[0]->due > v->now)
		v->now = loop->heap[0]->due;
	return davit_loop_dispatch(loop);
}

static void fire_first(struct davit_loop *loop)
{
	struct davit_timer *t = loop->heap[0];

	davit_timer_stop(t);
	t->fire(t);
}

/* As davit_loop_dispatch: the timers that were due when the round began, then
 * what is deferred. */
bool davit_loop_step_one(struct davit_loop *loop)
{
	struct virtual_loop *v = virt(loop);
	struct davit_deferred *d = loop->deferred.next;

	if (loop->heap_len && loop->heap[0]->due <= v->now && loop->heap[0]->order <= v->last) {
		fire_first(loop);
		return true;
	}
	if (d != &loop->deferred) {
		v->last = 0; /* the timers' turn is over */
		davit_deferred_cancel(d);
		d->run(d);
		return true;
	}
	if (!loop->heap_len)
		return false;
	if (loop->heap[0]->due > v->now)
		v->now = loop->heap[0]->due;
	v->last = loop->order;
	fire_first(loop);
	return true;
}

void davit_loop_shift_wall(struct davit_loop *loop, int64_t delta)
{
	virt(loop)->wall_offset += delta;
}
