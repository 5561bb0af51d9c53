/* SPDX-License-Identifier: MIT
 *
 * What promise.c, combine.c and await.c share.
 */
#ifndef DAVIT_ACTOR_PROMISE_IMPL_H
#define DAVIT_ACTOR_PROMISE_IMPL_H

#include "actor/actor_impl.h"

enum { PROMISE_BITS = 6 };

enum consumer {
	CONSUMER_NONE,	/* has not come yet */
	CONSUMER_CALL,	/* a callback: `call` is sent */
	CONSUMER_GROUP, /* an item of a combinator */
	CONSUMER_NOBODY,
};

struct group;

struct promise {
	uint32_t slot, generation;
	struct promise *next_free;
	bool used, begun, waiting;
	enum davit_promise_state state;
	enum consumer consumer;
	struct davit_outcome *outcome; /* owned, while it is settled and nobody came */
	struct davit_message *call;    /* owned */
	struct group *group;	       /* it is item `index` of that */
	size_t index;
	/* What is cancelled with it. */
	struct davit_promise from;
	struct group *of;
	/* A request's. */
	struct davit_ref to;
	int64_t timeout, deadline;
	int retries;
	uint64_t failure;
	uint32_t via;	 /* the link that it went out by; 0: none */
	struct link *by; /* that, while it is pending; a reference */
	/* Others of who asked: a container, or whoever is behind a link. */
	struct promise *same, **same_of;
	struct davit_message *tell; /* owned: for its receiver, when nobody awaits it any more */
	struct davit_message *again;
	struct davit_alarm alarm;
};

struct promises {
	struct davit_system *system;
	pthread_mutex_t lock;
	pthread_cond_t settled;
	struct promise **chunk;
	uint32_t n_chunks, n;
	struct promise *free;
	struct davit_ref outside; /* runs the callbacks of threads outside */
};

/* Data of a message DAVIT_TYPE_CALL. */
struct call {
	struct davit_ref to;
	void (*done)(struct davit_context *c, const struct davit_outcome *o, void *arg);
	int (*then)(struct davit_context *c, const struct davit_outcome *o, struct davit_promise next,
		    void *arg);
	void *arg;
	void *owned; /* freed with the call */
	struct davit_promise next;
	struct davit_outcome *outcome; /* owned */
	struct link *link; /* it is an answer that goes out there, instead of a call; a reference */
	uint64_t id;
	bool unheard; /* nobody there awaits that answer any more */
};

/* What is to be done when the lock is released. */
struct work {
	struct davit_message *calls, **last;
	struct davit_message *tells; /* to their `sender` */
	struct davit_message *waste;
};

void work_open(struct davit_context *c, struct work *w);
void work_close(struct davit_context *c, struct work *w);
struct promise *promise_at(struct promises *t, struct davit_promise p);
struct promise *promise_take(struct promises *t);
void promise_give(struct promises *t, struct promise *e);
/* Its time begins anew. */
void promise_extend(struct promises *t, struct promise *e);
/* o is taken over. */
void promise_settle(struct promises *t, struct promise *e, struct davit_outcome *o, struct work *w);
void promise_cancel(struct promises *t, struct davit_promise p, struct work *w);
/* It is about to be settled because nobody awaits it any more: its receiver is told. */
void promise_unwanted(struct promise *e, struct work *w);
/* Among those of one who asked, and out of it again. */
void promise_join(struct promise **list, struct promise *e);
void promise_leave(struct promise *e);
/* promise_link.c: it is settled, and not from behind its link: whoever is there hears of it. */
void promise_recall(struct promise *e);
/* p becomes item e->index of e->group. */
void promise_consume_group(struct promises *t, struct promise *e, struct work *w);
/* As davit_then, with an arg that is freed when it is over, or cannot be. */
int promise_then_owned(struct davit_context *c, struct davit_promise p,
		       int (*fn)(struct davit_context *c, const struct davit_outcome *o,
				 struct davit_promise next, void *arg),
		       void *arg, struct davit_promise *ret_next);
/* Never NULL: without memory it is one that says so. */
struct davit_outcome *outcome_new(enum davit_promise_state state, int code, const char *message,
				  const void *data, size_t size);
/* Of one within `items`. */
void outcome_item_free(struct davit_outcome *o);

/* combine.c; under the lock */

/* Item i of g has ended; o is taken over. */
void group_item(struct promises *t, struct group *g, size_t i, struct davit_outcome *o, struct work *w);
void group_cancel(struct promises *t, struct group *g, struct work *w);
/* What it settles. */
struct davit_promise group_result(const struct group *g);

#endif
