/* SPDX-License-Identifier: MIT
 *
 * The host's start budget, and the one place where the ops are called.
 *
 * The token bucket is kept as one time, that at which it will be full again
 * (the generic cell rate algorithm, ITU-T I.371): exact, and nothing to refill.
 */
#include "supervise/supervise_impl.h"

/* Ops in a row before the loop sees to others. */
enum { BATCH = 16 };

static int64_t interval(const struct davit_supervise *s)
{
	return s->budget.rate > 0 ? INT64_C(1000000000) / s->budget.rate : 0;
}

/* How long until a token can be taken; 0: now. */
static int64_t token_wait(const struct davit_supervise *s)
{
	int64_t depth, wait;

	if (s->budget.rate <= 0)
		return 0;
	if (__builtin_mul_overflow(s->budget.burst > 1 ? s->budget.burst - 1 : 0, interval(s), &depth))
		return 0;
	wait = s->next_token - davit_loop_now(s->loop);
	return wait > depth ? wait - depth : 0;
}

static void token_take(struct davit_supervise *s)
{
	int64_t now = davit_loop_now(s->loop);

	s->next_token = (s->next_token > now ? s->next_token : now) + interval(s);
}

void budget_refund(struct davit_supervise *s)
{
	s->next_token -= interval(s);
	if (!davit_list_empty(&s->waiting))
		davit_defer(&s->work);
}

void budget_ask(struct davit_node *leaf)
{
	struct davit_supervise *s = leaf->sup;

	if (davit_list_empty(&leaf->queue))
		davit_list_add_tail(&s->waiting, &leaf->queue);
	davit_defer(&s->work);
}

void budget_stop(struct davit_node *leaf)
{
	davit_list_remove(&leaf->queue);
	davit_list_add_tail(&leaf->sup->stops, &leaf->queue);
	davit_defer(&leaf->sup->work);
}

void budget_release(struct davit_node *leaf)
{
	struct davit_supervise *s = leaf->sup;

	if (!(leaf->flags & NODE_SLOT))
		return;
	leaf->flags &= ~(uint32_t)NODE_SLOT;
	s->starting--;
	if (!davit_list_empty(&s->waiting))
		davit_defer(&s->work);
}

void budget_note(struct davit_node *n)
{
	if (!davit_list_empty(&n->note))
		return;
	davit_list_add_tail(&n->sup->notes, &n->note);
	davit_defer(&n->sup->work);
}

/* Calls ops->start for the first in the queue if the budget allows it now. */
static bool start_one(struct davit_supervise *s)
{
	struct davit_node *leaf = DAVIT_LIST_FIRST(&s->waiting, struct davit_node, queue);
	int64_t wait;

	if (!leaf || (s->budget.concurrent > 0 && s->starting >= s->budget.concurrent))
		return false;
	wait = token_wait(s);
	/* Without memory for the timer the start is made early. */
	if (wait && !davit_timer_start(&s->refill, wait))
		return false;
	token_take(s);
	davit_list_remove(&leaf->queue);
	leaf->flags |= NODE_SLOT | NODE_RAN;
	s->starting++;
	leaf->started = 0;
	node_set_state(leaf, DAVIT_NODE_STARTING);
	s->ops->start(leaf);
	return true;
}

static bool stop_one(struct davit_supervise *s)
{
	struct davit_node *leaf = DAVIT_LIST_FIRST(&s->stops, struct davit_node, queue);

	if (!leaf)
		return false;
	davit_list_remove(&leaf->queue);
	s->ops->stop(leaf);
	return true;
}

static bool note_one(struct davit_supervise *s)
{
	struct davit_node *n = DAVIT_LIST_FIRST(&s->notes, struct davit_node, note);

	if (!n)
		return false;
	davit_list_remove(&n->note);
	s->ops->changed(n);
	return true;
}

/* Any op may change anything, so each step looks at the lists anew. Stops go
 * first: they free what starts may need. */
static void work(struct davit_deferred *d)
{
	struct davit_supervise *s = DAVIT_CONTAINER_OF(d, struct davit_supervise, work);

	for (int n = 0; n < BATCH; n++)
		if (!stop_one(s) && !start_one(s) && !note_one(s))
			return;
	davit_defer(&s->work);
}

static void refill(struct davit_timer *t)
{
	davit_defer(&DAVIT_CONTAINER_OF(t, struct davit_supervise, refill)->work);
}

void budget_init(struct davit_supervise *s)
{
	davit_list_init(&s->waiting);
	davit_list_init(&s->stops);
	davit_list_init(&s->notes);
	davit_timer_init(&s->refill, s->loop, refill);
	davit_deferred_init(&s->work, s->loop, work);
	s->next_token = davit_loop_now(s->loop);
	s->starting = 0;
}
