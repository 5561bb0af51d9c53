/* SPDX-License-Identifier: MIT
 *
 * Promises: a result that is still to come. Each has one producer, who settles it
 * once, and one consumer, who hears of it once: davit_then, davit_done, one of the
 * combinators, davit_await or davit_forget takes the handle, and it is not to be used
 * afterwards, but for davit_cancel. So nothing has to be freed, and nothing can leak.
 *
 * Callbacks run as the consumer: between two of its messages, with its context. Those
 * of a thread outside run on a worker.
 *
 * pending -> fulfilled (with bytes, or with items) | rejected (with an error) | cancelled.
 * Settling one that is settled, or gone, does nothing: a reply after the timeout is dropped.
 */
#ifndef DAVIT_PROMISE_H
#define DAVIT_PROMISE_H

#include "davit/actor.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

enum davit_promise_state {
	DAVIT_PROMISE_PENDING,
	DAVIT_PROMISE_FULFILLED,
	DAVIT_PROMISE_REJECTED,
	DAVIT_PROMISE_CANCELLED,
	DAVIT_PROMISE_GONE, /* consumed, or never was */
};
const char *davit_promise_state_name(enum davit_promise_state s);

/* How it ended. Borrowed during a callback. */
struct davit_outcome {
	enum davit_promise_state state;
	int code;	     /* of a rejection: DAVIT_E...; DAVIT_ECANCELED when cancelled; else 0 */
	const char *message; /* of a rejection; never NULL */
	const void *data;    /* of a fulfilment; NUL-terminated behind size; never NULL */
	size_t size;
	struct davit_outcome *items; /* of the combinators: in the order of their promises */
	size_t n_items;
};

/* A pending promise, owned by the caller. 0, or DAVIT_ENOMEM. */
int davit_promise_new(struct davit_context *c, struct davit_promise *ret);
/* Settles p. data is copied. True if it was pending. Without memory for the data it is
 * rejected instead. */
bool davit_fulfil(struct davit_context *c, struct davit_promise p, const void *data, size_t size);
bool davit_reject(struct davit_context *c, struct davit_promise p, int code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* Nobody needs it any more: cancels p and, as far as nobody else waits for them, those
 * that p waits for. The consumer hears of it. */
bool davit_cancel(struct davit_context *c, struct davit_promise p);
enum davit_promise_state davit_promise_state(struct davit_context *c, struct davit_promise p);

/* When p is fulfilled, fn is called. It settles `next`, or returns an error that
 * rejects it, or returns 0 and leaves it, and then next is fulfilled as p was. If p is
 * rejected or cancelled, so is next, without fn. 0, or DAVIT_ENOMEM (p is forgotten). */
int davit_then(struct davit_context *c, struct davit_promise p,
	       int (*fn)(struct davit_context *c, const struct davit_outcome *o, struct davit_promise next,
			 void *arg),
	       void *arg, struct davit_promise *ret_next);
/* fn is called however p ends. */
int davit_done(struct davit_context *c, struct davit_promise p,
	       void (*fn)(struct davit_context *c, const struct davit_outcome *o, void *arg), void *arg);
/* Nobody wants to know. */
void davit_forget(struct davit_context *c, struct davit_promise p);

/* The combinators take n promises over. Cancelling what they return cancels all that
 * are pending. 0, or DAVIT_ENOMEM (all are forgotten). */

/* Fulfilled, with the items in order, when all are; rejected as the first that is. */
int davit_all(struct davit_context *c, const struct davit_promise *p, size_t n, struct davit_promise *ret);
/* Fulfilled as the first that is; rejected when none was. */
int davit_any(struct davit_context *c, const struct davit_promise *p, size_t n, struct davit_promise *ret);
/* Fulfilled when `want` are, with those as items in order; rejected when that cannot be. */
int davit_some(struct davit_context *c, const struct davit_promise *p, size_t n, size_t want,
	       struct davit_promise *ret);
/* As the first that ends. */
int davit_race(struct davit_context *c, const struct davit_promise *p, size_t n, struct davit_promise *ret);
/* As davit_all, each first passed through fn as by davit_then. */
int davit_map(struct davit_context *c, const struct davit_promise *p, size_t n,
	      int (*fn)(struct davit_context *c, const struct davit_outcome *o, struct davit_promise next,
			void *arg),
	      void *arg, struct davit_promise *ret);
/* When all are fulfilled: fn is called for each in order, with *acc, of `size` bytes,
 * which becomes the value. acc is copied first. An error of fn rejects. */
int davit_reduce(struct davit_context *c, const struct davit_promise *p, size_t n,
		 int (*fn)(struct davit_context *c, const struct davit_outcome *o, void *acc, void *arg),
		 const void *acc, size_t size, void *arg, struct davit_promise *ret);

/* From outside: blocks until p is settled, at most `timeout` ns (-1: without end), and
 * consumes it. 0 if it was fulfilled; the code of a rejection, with err filled;
 * DAVIT_ECANCELED. However it was settled, *ret is how, and the caller's: to be freed
 * with davit_outcome_free. Errors that leave ret untouched: DAVIT_ETIMEDOUT, it was
 * cancelled then; in a handler DAVIT_ESTATE, since the worker that waits could be the one
 * that is waited for: p is left as it was. ret may be NULL. */
int davit_await(struct davit_context *c, struct davit_promise p, int64_t timeout, struct davit_outcome **ret,
		struct davit_error *err);
void davit_outcome_free(struct davit_outcome *o); /* NULL is fine */

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
