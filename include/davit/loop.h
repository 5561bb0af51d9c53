/* SPDX-License-Identifier: MIT
 *
 * The loop: time, randomness, timers and deferred work. This is the one table
 * through which the core meets the outside; everything else that it does goes
 * through a store (store.h) or a runtime (runtime.h). The real loop stands on
 * libuv; the virtual one, for the simulator, is a seeded random generator and a
 * clock that jumps from timer to timer.
 *
 * One thread owns a loop and makes every call on it.
 */
#ifndef DAVIT_LOOP_H
#define DAVIT_LOOP_H

#include "davit/error.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct davit_loop;
struct uv_loop_s;

/* What a loop stands on. Every slot is mandatory. */
struct davit_loop_ops {
	/* Monotonic nanoseconds. Never goes back. */
	int64_t (*now)(struct davit_loop *loop);
	/* Nanoseconds since 1970, UTC. May jump in both directions. */
	int64_t (*wall)(struct davit_loop *loop);
	/* 64 random bits. */
	uint64_t (*random)(struct davit_loop *loop);
	/* Makes the loop come back at monotonic time `at` (INT64_MAX: no need).
	 * Called when the earliest deadline changes. */
	void (*wake_at)(struct davit_loop *loop, int64_t at);
};

/* A one-shot timer, embedded in its owner. */
struct davit_timer {
	struct davit_loop *loop;
	void (*fire)(struct davit_timer *t);
	int64_t due;	/* monotonic ns; meaningful while active */
	uint64_t order; /* ties fire in the order of their start */
	uint32_t slot;	/* position in the heap + 1; 0 while inactive */
};

/* A call made later in the same iteration, never from within the caller.
 * Embedded in its owner; queueing a queued one does nothing. */
struct davit_deferred {
	struct davit_loop *loop;
	void (*run)(struct davit_deferred *d);
	struct davit_deferred *next;
	struct davit_deferred *prev;
	bool queued;
};

/* Opens the real loop. *ret_loop is owned by the caller; davit_loop_close. */
int davit_loop_open(struct davit_loop **ret_loop, struct davit_error *err);
/* Opens a virtual loop: time starts at 0 and moves only in davit_loop_step. */
int davit_loop_open_virtual(uint64_t seed, struct davit_loop **ret_loop, struct davit_error *err);
/* Closes and frees. Active timers and queued work are forgotten. Blocks while libuv's handles are left
 * that somebody closes soon (a program that was asked to end); one that nobody has closed after ten
 * seconds is logged, and the loop's memory is lost. NULL is fine. */
void davit_loop_close(struct davit_loop *loop);

/* Real loop: runs until davit_loop_stop or until nothing is left to wait for. */
void davit_loop_run(struct davit_loop *loop);
void davit_loop_stop(struct davit_loop *loop);
/* Virtual loop: runs deferred work, then advances to the earliest timer and
 * fires all that are due. False when there was nothing to do. */
bool davit_loop_step(struct davit_loop *loop);
/* Virtual loop: the same in the smallest steps, one call at a time, so that a test
 * can stop between any two. Not to be mixed with davit_loop_step within one. */
bool davit_loop_step_one(struct davit_loop *loop);
/* Virtual loop: moves the wall clock alone, as a clock step does. */
void davit_loop_shift_wall(struct davit_loop *loop, int64_t delta_ns);

int64_t davit_loop_now(struct davit_loop *loop);
int64_t davit_loop_wall(struct davit_loop *loop);
uint64_t davit_loop_random(struct davit_loop *loop);
/* The libuv loop beneath, for drivers and servers; NULL for a virtual one. */
struct uv_loop_s *davit_loop_uv(struct davit_loop *loop);

void davit_timer_init(struct davit_timer *t, struct davit_loop *loop, void (*fire)(struct davit_timer *));
/* Fires once, delay ns from now (0: in the next iteration). Restarts an active
 * timer. Returns 0 or DAVIT_ENOMEM. */
int davit_timer_start(struct davit_timer *t, int64_t delay_ns);
void davit_timer_stop(struct davit_timer *t);
bool davit_timer_active(const struct davit_timer *t);

void davit_deferred_init(struct davit_deferred *d, struct davit_loop *loop,
			 void (*run)(struct davit_deferred *));
void davit_defer(struct davit_deferred *d);
void davit_deferred_cancel(struct davit_deferred *d);

#ifdef __cplusplus
}
#endif
#endif
