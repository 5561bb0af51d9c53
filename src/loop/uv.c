/* SPDX-License-Identifier: MIT
 *
 * The real loop, over libuv: one uv_timer for the earliest deadline, and one
 * uv_idle for what is due now. Not a timer of 0 for that: libuv runs such a one
 * again and again before it looks at descriptors, and a long queue of deferred
 * calls would keep them waiting.
 */
#include "base/log.h"
#include "base/util.h"
#include "loop/loop_impl.h"

#include <sys/random.h>
#include <time.h>
#include <uv.h>

struct real_loop {
	struct davit_loop base;
	uv_loop_t uv;
	uv_timer_t timer, patience;
	uv_idle_t idle;
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

/* Once in an iteration, which does not block while this is started. */
static void on_idle(uv_idle_t *i)
{
	davit_loop_dispatch(i->data);
}

static void real_wake_at(struct davit_loop *loop, int64_t at)
{
	struct real_loop *r = real(loop);
	int64_t delay = at - real_now(loop);

	if (delay <= 0) {
		uv_timer_stop(&r->timer);
		uv_idle_start(&r->idle, on_idle);
		return;
	}
	uv_idle_stop(&r->idle);
	if (at == INT64_MAX) {
		uv_timer_stop(&r->timer);
		return;
	}
	/* Rounded up: a timer never fires early. */
	uv_update_time(&r->uv);
	uv_timer_start(&r->timer, on_timer, (uint64_t)(delay + 999999) / 1000000, 0);
}

static const struct davit_loop_ops real_ops = {
	.now = real_now,
	.wall = real_wall,
	.random = real_random,
	.wake_at = real_wake_at,
};

unsigned davit_loop_patience_ms = 10000;

static void on_late(uv_timer_t *t)
{
	t->data = NULL;
}

static void find_open(uv_handle_t *h, void *arg)
{
	const char **name = arg;

	if (!uv_is_closing(h))
		*name = uv_handle_type_name(h->type);
}

/* Handles that others are about to close (a program that was asked to end) are waited for.
 * What nobody closes is not ours to close, and would keep the loop alive for ever. */
static void await_others(struct real_loop *r)
{
	uv_timer_init(&r->uv, &r->patience);
	r->patience.data = r;
	uv_timer_start(&r->patience, on_late, davit_loop_patience_ms, 0);
	uv_unref((uv_handle_t *)&r->patience);
	while (r->patience.data && uv_run(&r->uv, UV_RUN_ONCE))
		;
	uv_close((uv_handle_t *)&r->patience, NULL);
}

static void real_close(struct davit_loop *loop)
{
	struct real_loop *r = real(loop);
	const char *open = NULL;

	uv_close((uv_handle_t *)&r->timer, NULL);
	uv_close((uv_handle_t *)&r->idle, NULL);
	await_others(r);
	uv_walk(&r->uv, find_open, &open);
	uv_run(&r->uv, UV_RUN_NOWAIT);
	davit_loop_teardown(loop);
	if (!uv_loop_close(&r->uv))
		free(r);
	else
		davit_log(DAVIT_LOG_ERROR, "loop: closed with a handle left open (%s): its memory is lost",
			  open ? open : "that was being closed");
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
	r->base.uv = &r->uv;
	uv_timer_init(&r->uv, &r->timer);
	uv_idle_init(&r->uv, &r->idle);
	r->timer.data = r->idle.data = &r->base;
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
	/* Not by its ops: a runtime in a shared object has a copy of this file. */
	return loop->uv;
}
