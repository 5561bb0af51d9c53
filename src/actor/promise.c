/* SPDX-License-Identifier: MIT
 *
 * Promises: a table, generation-tagged, under one lock. A promise is there until it
 * is settled and has its consumer; then its outcome travels to that one as a message,
 * made when the consumer came, so that settling needs no memory for it.
 */
#include "actor/link_impl.h"
#include "actor/promise_impl.h"

#include <stdio.h>
#include <string.h>

const char *davit_promise_state_name(enum davit_promise_state s)
{
	static const char *const names[] = {"pending", "fulfilled", "rejected", "cancelled", "gone"};

	return (unsigned)s <= DAVIT_PROMISE_GONE ? names[s] : "unknown";
}

/* --- outcomes --- */

/* Stands in when there is no memory for one. */
static struct davit_outcome no_memory = {
	.state = DAVIT_PROMISE_REJECTED, .code = DAVIT_ENOMEM, .message = "out of memory", .data = ""};

struct davit_outcome *outcome_new(enum davit_promise_state state, int code, const char *message,
				  const void *data, size_t size)
{
	size_t text = message ? strlen(message) : 0;
	struct davit_outcome *o = malloc(sizeof *o + size + 1 + text + 1);
	char *bytes;

	if (!o)
		return &no_memory;
	bytes = (char *)(o + 1);
	if (size)
		memcpy(bytes, data, size);
	bytes[size] = 0;
	memcpy(bytes + size + 1, message ? message : "", text + 1);
	*o = (struct davit_outcome){
		.state = state, .code = code, .message = bytes + size + 1, .data = bytes, .size = size};
	return o;
}

void davit_outcome_free(struct davit_outcome *o)
{
	if (!o || o == &no_memory)
		return;
	for (size_t i = 0; i < o->n_items; i++)
		outcome_item_free(&o->items[i]);
	free(o->items);
	free(o);
}

/* --- the table --- */

struct promise *promise_at(struct promises *t, struct davit_promise p)
{
	struct promise *e;

	if (!p.generation || p.slot >= t->n)
		return NULL;
	e = &t->chunk[p.slot >> PROMISE_BITS][p.slot & ((1u << PROMISE_BITS) - 1)];
	return e->generation == p.generation ? e : NULL;
}

static struct davit_promise handle_of(const struct promise *e)
{
	return (struct davit_promise){e->slot, e->generation};
}

/* Room for some more, which nobody looks at before they are taken. The list of chunks
 * doubles. */
static bool chunk_add(struct promises *t)
{
	uint32_t n = t->n_chunks;
	struct promise *e, **more;

	if (!(n & (n - 1))) {
		if (!(more = realloc(t->chunk, (n ? 2 * (size_t)n : 1) * sizeof *more)))
			return false;
		t->chunk = more;
	}
	if (!(e = calloc(1u << PROMISE_BITS, sizeof *e)))
		return false;
	t->chunk[t->n_chunks++] = e;
	return true;
}

struct promise *promise_take(struct promises *t)
{
	struct promise *e;

	if (!(e = t->free)) {
		if (t->n >> PROMISE_BITS == t->n_chunks && !chunk_add(t))
			return NULL;
		e = &t->chunk[t->n >> PROMISE_BITS][t->n & ((1u << PROMISE_BITS) - 1)];
		e->slot = t->n++;
		e->generation = 1;
	}
	t->free = e->next_free;
	*e = (struct promise){.slot = e->slot, .generation = e->generation, .used = true};
	return e;
}

void promise_give(struct promises *t, struct promise *e)
{
	if (!++e->generation)
		e->generation = 1;
	e->used = false;
	e->next_free = t->free;
	t->free = e;
}

/* --- settling; under the lock, what is to be sent and freed afterwards in w --- */

/* Settled, and with a consumer: it is over. */
static void conclude(struct promises *t, struct promise *e, struct work *w)
{
	struct davit_outcome *o = DAVIT_TAKE(e->outcome);
	struct call *call;

	switch (e->consumer) {
	case CONSUMER_CALL:
		call = (struct call *)body(e->call);
		call->outcome = o;
		e->call->next_ = NULL;
		*w->last = e->call;
		w->last = &e->call->next_;
		break;
	case CONSUMER_GROUP:
		group_item(t, e->group, e->index, o, w);
		break;
	case CONSUMER_NOBODY:
		davit_outcome_free(o);
		break;
	default:
		e->outcome = o; /* stays until somebody asks */
		return;
	}
	promise_give(t, e);
}

void promise_join(struct promise **list, struct promise *e)
{
	e->same = *list;
	e->same_of = list;
	if (e->same)
		e->same->same_of = &e->same;
	*list = e;
}

void promise_leave(struct promise *e)
{
	if (!e->same_of)
		return;
	*e->same_of = e->same;
	if (e->same)
		e->same->same_of = e->same_of;
	e->same = NULL;
	e->same_of = NULL;
}

static void push(struct davit_message **list, struct davit_message *m)
{
	m->next_ = *list;
	*list = m;
}

void promise_unwanted(struct promise *e, struct work *w)
{
	if (e->tell)
		push(&w->tells, DAVIT_TAKE(e->tell));
}

void promise_settle(struct promises *t, struct promise *e, struct davit_outcome *o, struct work *w)
{
	promise_leave(e);
	if (UNLIKELY(e->by != NULL))
		promise_recall(e);
	if (UNLIKELY(e->tell != NULL))
		push(&w->waste, DAVIT_TAKE(e->tell));
	e->state = o->state;
	e->outcome = o;
	if (e->alarm.generation)
		alarm_cancel(t->system, e->alarm);
	e->alarm = (struct davit_alarm){0, 0};
	if (e->again)
		push(&w->waste, DAVIT_TAKE(e->again));
	if (e->waiting)
		pthread_cond_broadcast(&t->settled);
	conclude(t, e, w);
}

void promise_cancel(struct promises *t, struct davit_promise p, struct work *w)
{
	struct promise *e = promise_at(t, p);
	struct davit_promise from;
	struct group *of;

	if (!e || e->state != DAVIT_PROMISE_PENDING)
		return;
	from = e->from;
	of = e->of;
	promise_unwanted(e, w);
	promise_settle(t, e, outcome_new(DAVIT_PROMISE_CANCELLED, DAVIT_ECANCELED, "cancelled", NULL, 0), w);
	promise_cancel(t, from, w);
	if (of)
		group_cancel(t, of, w);
}

void work_open(struct davit_context *c, struct work *w)
{
	*w = (struct work){.last = &w->calls};
	pthread_mutex_lock(&c->system->promises->lock);
}

void work_close(struct davit_context *c, struct work *w)
{
	struct davit_message *m;

	pthread_mutex_unlock(&c->system->promises->lock);
	while ((m = w->calls)) {
		struct call *call = body(m);
		w->calls = m->next_;
		if (UNLIKELY(call->link != NULL)) {
			if (!call->unheard)
				link_answer(call->link, call->id, call->outcome);
			davit_outcome_free(call->outcome);
			link_unref(call->link);
			davit_message_free(c, m);
		} else {
			send_ours(c, call->to, m);
		}
	}
	while ((m = w->tells)) {
		struct davit_ref to = m->sender;
		w->tells = m->next_;
		m->sender = (struct davit_ref){0, 0};
		send_ours(c, to, m);
	}
	while ((m = w->waste)) {
		w->waste = m->next_;
		davit_message_free(c, m);
	}
}

static bool settle(struct davit_context *c, struct davit_promise p, struct davit_outcome *o)
{
	struct promises *t = c->system->promises;
	struct promise *e;
	struct work w;
	bool pending;

	work_open(c, &w);
	e = promise_at(t, p);
	pending = e && e->state == DAVIT_PROMISE_PENDING;
	if (pending)
		promise_settle(t, e, o, &w);
	work_close(c, &w);
	if (!pending)
		davit_outcome_free(o);
	return pending;
}

bool promise_end(struct davit_context *c, struct davit_promise p, enum davit_promise_state state, int code,
		 const char *message)
{
	return settle(c, p, outcome_new(state, code, message, NULL, 0));
}

bool davit_fulfil(struct davit_context *c, struct davit_promise p, const void *data, size_t size)
{
	return settle(c, p, outcome_new(DAVIT_PROMISE_FULFILLED, 0, NULL, data, size));
}

bool davit_reject(struct davit_context *c, struct davit_promise p, int code, const char *fmt, ...)
{
	char text[448];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	return promise_end(c, p, DAVIT_PROMISE_REJECTED, code, text);
}

bool davit_cancel(struct davit_context *c, struct davit_promise p)
{
	struct promises *t = c->system->promises;
	struct promise *e;
	struct work w;
	bool pending;

	work_open(c, &w);
	e = promise_at(t, p);
	pending = e && e->state == DAVIT_PROMISE_PENDING;
	promise_cancel(t, p, &w);
	work_close(c, &w);
	return pending;
}

enum davit_promise_state davit_promise_state(struct davit_context *c, struct davit_promise p)
{
	struct promises *t = c->system->promises;
	enum davit_promise_state s = DAVIT_PROMISE_GONE;
	struct promise *e;

	pthread_mutex_lock(&t->lock);
	if ((e = promise_at(t, p)))
		s = e->state;
	pthread_mutex_unlock(&t->lock);
	return s;
}

int davit_promise_new(struct davit_context *c, struct davit_promise *ret)
{
	struct promises *t = c->system->promises;
	struct promise *e;

	pthread_mutex_lock(&t->lock);
	if ((e = promise_take(t)))
		*ret = handle_of(e);
	pthread_mutex_unlock(&t->lock);
	return e ? 0 : DAVIT_ENOMEM;
}

/* --- consumers --- */

/* Gives p its consumer: at once, if it is settled. False if there is no such. */
static bool consume(struct davit_context *c, struct davit_promise p, enum consumer consumer,
		    struct davit_message *call)
{
	struct promises *t = c->system->promises;
	struct promise *e;
	struct work w;

	work_open(c, &w);
	e = promise_at(t, p);
	if (e) {
		e->consumer = consumer;
		e->call = call;
		if (e->state != DAVIT_PROMISE_PENDING)
			conclude(t, e, &w);
	}
	work_close(c, &w);
	return e != NULL;
}

void davit_forget(struct davit_context *c, struct davit_promise p)
{
	consume(c, p, CONSUMER_NOBODY, NULL);
}

static int call_new(struct davit_context *c, const struct call *call, struct davit_message **ret)
{
	struct davit_message *m = davit_message_new(c, DAVIT_TYPE_CALL, sizeof *call);

	if (!m)
		return DAVIT_ENOMEM;
	m->flags_ |= MSG_OURS;
	*(struct call *)body(m) = *call;
	((struct call *)body(m))->to = c->self ? davit_self(c) : c->system->promises->outside;
	*ret = m;
	return 0;
}

int davit_done(struct davit_context *c, struct davit_promise p,
	       void (*fn)(struct davit_context *c, const struct davit_outcome *o, void *arg), void *arg)
{
	struct davit_message *m;

	if (call_new(c, &(struct call){.done = fn, .arg = arg}, &m)) {
		davit_forget(c, p);
		return DAVIT_ENOMEM;
	}
	if (!consume(c, p, CONSUMER_CALL, m)) {
		((struct call *)body(m))->outcome = outcome_new(DAVIT_PROMISE_REJECTED, DAVIT_ENOENT,
								"there is no such promise", NULL, 0);
		send_ours(c, ((struct call *)body(m))->to, m);
	}
	return 0;
}

static int then(struct davit_context *c, struct davit_promise p, const struct call *call,
		struct davit_promise *ret_next)
{
	struct promises *t = c->system->promises;
	struct davit_promise next;
	struct davit_message *m;
	struct promise *e;

	if (davit_promise_new(c, &next))
		goto fail;
	if (call_new(c, call, &m)) {
		davit_reject(c, next, DAVIT_ENOMEM, "out of memory");
		davit_forget(c, next);
		goto fail;
	}
	((struct call *)body(m))->next = next;
	pthread_mutex_lock(&t->lock);
	e = promise_at(t, next);
	e->from = p;
	pthread_mutex_unlock(&t->lock);
	*ret_next = next;
	if (!consume(c, p, CONSUMER_CALL, m)) {
		free(call->owned);
		davit_message_free(c, m);
		davit_reject(c, next, DAVIT_ENOENT, "there is no such promise");
	}
	return 0;
fail:
	free(call->owned);
	davit_forget(c, p);
	return DAVIT_ENOMEM;
}

int davit_then(struct davit_context *c, struct davit_promise p,
	       int (*fn)(struct davit_context *c, const struct davit_outcome *o, struct davit_promise next,
			 void *arg),
	       void *arg, struct davit_promise *ret_next)
{
	return then(c, p, &(struct call){.then = fn, .arg = arg}, ret_next);
}

int promise_then_owned(struct davit_context *c, struct davit_promise p,
		       int (*fn)(struct davit_context *c, const struct davit_outcome *o,
				 struct davit_promise next, void *arg),
		       void *arg, struct davit_promise *ret_next)
{
	return then(c, p, &(struct call){.then = fn, .arg = arg, .owned = arg}, ret_next);
}

void promise_consume_group(struct promises *t, struct promise *e, struct work *w)
{
	e->consumer = CONSUMER_GROUP;
	if (e->state != DAVIT_PROMISE_PENDING)
		conclude(t, e, w);
}

void promise_call(struct davit_context *c, struct davit_message *m)
{
	struct call call = *(struct call *)body(m);
	int r = 0;

	if (call.done) {
		call.done(c, call.outcome, call.arg);
	} else {
		if (call.outcome->state == DAVIT_PROMISE_FULFILLED)
			r = call.then(c, call.outcome, call.next, call.arg);
		if (r < 0)
			davit_reject(c, call.next, r, "%s", davit_error_doc(r));
		else /* unless it was settled, as then the outcome is freed */
			settle(c, call.next, DAVIT_TAKE(call.outcome));
	}
	davit_outcome_free(call.outcome);
	free(call.owned);
}

void promise_call_lost(struct davit_context *c, struct davit_message *m)
{
	struct call *call = (struct call *)body(m);

	davit_outcome_free(call->outcome);
	free(call->owned);
	if (call->then)
		promise_end(c, call->next, DAVIT_PROMISE_CANCELLED, DAVIT_ECANCELED,
			    "its consumer has ended");
}

/* --- the system's part --- */

static int outside(struct davit_context *c, struct davit_message *m)
{
	return 0; /* it is there for its callbacks */
}

int promises_init(struct davit_system *s)
{
	struct promises *t = s->promises = calloc(1, sizeof *t);
	pthread_condattr_t a;

	if (!t)
		return DAVIT_ENOMEM;
	t->system = s;
	pthread_mutex_init(&t->lock, NULL);
	pthread_condattr_init(&a);
	pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
	pthread_cond_init(&t->settled, &a);
	pthread_condattr_destroy(&a);
	return davit_spawn(&s->outside->context, outside, NULL, 0, &t->outside);
}

void promises_cancel_all(struct davit_context *c)
{
	struct promises *t = c->system->promises;

	for (uint32_t i = 0; t && i < t->n; i++) {
		struct promise *e = &t->chunk[i >> PROMISE_BITS][i & ((1u << PROMISE_BITS) - 1)];
		if (!e->used)
			continue;
		davit_cancel(c, handle_of(e));
		if (e->used)
			davit_forget(c, handle_of(e));
	}
}

void promises_fini(struct davit_system *s)
{
	struct promises *t = s->promises;

	if (!t)
		return;
	for (uint32_t i = 0; i < t->n_chunks; i++)
		free(t->chunk[i]);
	free(t->chunk);
	pthread_cond_destroy(&t->settled);
	pthread_mutex_destroy(&t->lock);
	free(t);
}
