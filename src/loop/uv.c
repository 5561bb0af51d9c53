/* SPDX-License-Identifier: MIT
 *
 * The real loop, over libuv: one uv_timer for the earliest deadline and one
 * uv_check that runs what the iteration's callbacks deferred.
 */
#include "base/util.h"
#include "loop/loop_impl.h"

#include <sys/random.h>
#include <time.h>
#include <uv.h>

struct real_loop {
	struct davit_loop base;
	uv_loop_t uv;
	uv_timer_t timer;
	uv_prepare_t prepare;
	uint64_t random[32];
	unsigned random_left;
};

static struct real_loop *real(struct davit_loop *loop)
{
	return DAVIT_CONTAINER_OF(loop, struct real_loop, base);
}

static int64_t clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int64_t real_now(struct davit_loop *loop)
{
	(void)loop;
	return clock_ns(CLOCK_MONOTONIC);
}

static int64_t real_wall(struct davit_loop *loop)
{
	(void)loop;
	return clock_ns(CLOCK_REALTIME);
}

static uint64_t real_random(struct davit_loop *loop)
{
	struct real_loop *r = real(loop);

	if (!r->random_left) {
		while (getrandom(r->random, sizeof r->random, 0) != (ssize_t)sizeof r->random)
			;
		r->random_left = DAVIT_ARRAY_SIZE(r->random);
	}
	return r->random[--r->random_left];
}

static void on_timer(uv_timer_t *t)
{
	davit_loop_dispatch(t->data);
}

/* Before the loop blocks: whatever callbacks deferred runs first. */
static void on_prepare(uv_prepare_t *p)
{
	struct davit_loop *loop = p->data;

	if (loop->deferred.next != &loop->deferred)
		davit_loop_dispatch(loop);
}

static void real_wake_at(struct davit_loop *loop, int64_t at)
{
	struct real_loop *r = real(loop);
	int64_t delay = at - real_now(loop);

	if (at == INT64_MAX) {
		uv_timer_stop(&r->timer);
		return;
	}
	/* Rounded up: a timer never fires early. */
	uv_update_time(&r->uv);
	uv_timer_start(&r->timer, on_timer, delay > 0 ? (uint64_t)(delay + 999999) / 1000000 : 0, 0);
}

static const struct davit_loop_ops real_ops = {
	.now = real_now,
	.wall = real_wall,
	.random = real_random,
	.wake_at = real_wake_at,
};

static void real_close(struct davit_loop *loop)
{
	struct real_loop *r = real(loop);

	uv_close((uv_handle_t *)&r->timer, NULL);
	uv_close((uv_handle_t *)&r->prepare, NULL);
	while (uv_run(&r->uv, UV_RUN_NOWAIT))
		;
	uv_loop_close(&r->uv);
	davit_loop_teardown(loop);
	free(r);
}

int davit_loop_open(struct davit_loop **ret_loop, struct davit_error *err)
{
	struct real_loop *r = calloc(1, sizeof *r);
	int e;

	if (!r)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	e = uv_loop_init(&r->uv);
	if (e < 0) {
		free(r);
		return davit_error_errno(err, -e, "loop", "cannot open an event loop");
	}
	davit_loop_setup(&r->base, &real_ops);
	r->base.close = real_close;
	uv_timer_init(&r->uv, &r->timer);
	uv_prepare_init(&r->uv, &r->prepare);
	uv_prepare_start(&r->prepare, on_prepare);
	uv_unref((uv_handle_t *)&r->prepare);
	r->timer.data = r->prepare.data = &r->base;
	*ret_loop = &r->base;
	return 0;
}

void davit_loop_run(struct davit_loop *loop)
{
	uv_run(&real(loop)->uv, UV_RUN_DEFAULT);
}

void davit_loop_stop(struct davit_loop *loop)
{
	uv_stop(&real(loop)->uv);
}

uv_loop_t *davit_loop_uv(struct davit_loop *loop)
{
	return loop->ops == &real_ops ? &real(loop)->uv : NULL;
}
