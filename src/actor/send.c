/* SPDX-License-Identifier: MIT
 *
 * Into a mailbox: one compare-and-swap, and the bounds of those that have some.
 */
#include "actor/actor_impl.h"
#include "actor/remote.h"
#include "actor/route.h"
#include "davit/container.h"

#include <string.h>

static bool closed(const struct davit_actor *a, const struct davit_message *m)
{
	return atomic_load_explicit(&a->generation, memory_order_acquire) != m->generation_;
}

/* --- bounds --- */

void gate_leave(struct davit_actor *a, uint32_t n)
{
	struct gate *g = a->gate;

	atomic_fetch_sub(&g->queued, n);
	if (UNLIKELY(atomic_load(&g->waiters))) {
		atomic_fetch_add(&g->room, 1);
		futex_wake(&g->room, (int)n);
	}
}

bool gate_holds(struct gate *g)
{
	bool any;

	if (LIKELY(!g) || atomic_load_explicit(&g->overflow, memory_order_relaxed) != GATE_DROP_OLDEST)
		return false;
	pthread_mutex_lock(&g->lock);
	any = g->first != NULL;
	pthread_mutex_unlock(&g->lock);
	return any;
}

static bool gate_try(struct gate *g)
{
	uint32_t limit = atomic_load_explicit(&g->limit, memory_order_relaxed);

	if (atomic_fetch_add(&g->queued, 1) < limit)
		return true;
	atomic_fetch_sub(&g->queued, 1);
	return false;
}

/* Waits for room, others on this worker's part meanwhile. */
static int gate_wait(struct davit_context *c, struct davit_actor *a)
{
	struct gate *g = a->gate;
	int64_t end = clock_now() + g->block_time, left;
	int r = DAVIT_ETIMEDOUT;

	if (c->self == a)
		return DAVIT_EUNAVAIL; /* it would wait for itself */
	atomic_fetch_add_explicit(&g->blocked, 1, memory_order_relaxed);
	davit_block_begin(c);
	atomic_fetch_add(&g->waiters, 1);
	for (;;) {
		uint32_t room = atomic_load(&g->room);
		if (gate_try(g)) {
			r = 0;
			break;
		}
		if ((left = end - clock_now()) <= 0)
			break;
		futex_wait(&g->room, room, left);
	}
	atomic_fetch_sub(&g->waiters, 1);
	davit_block_end(c);
	return r;
}

/* Puts m into the gate's own list, and takes the oldest out when there are too many. */
static int gate_put(struct davit_context *c, struct davit_actor *a, struct davit_message *m)
{
	struct gate *g = a->gate;
	struct davit_message *old = NULL;
	struct davit_ref to = {a->slot, m->generation_};
	uintptr_t idle = IDLE;

	m->next_ = NULL;
	pthread_mutex_lock(&g->lock);
	if (closed(a, m)) {
		pthread_mutex_unlock(&g->lock);
		message_dead(c, DAVIT_DEAD_NOBODY, to, m);
		return DAVIT_ECLOSED;
	}
	if (atomic_fetch_add(&g->queued, 1) >= g->limit) {
		old = g->first;
		g->first = old->next_;
		atomic_fetch_sub(&g->queued, 1);
	}
	if (g->first)
		g->last->next_ = m;
	else
		g->first = m;
	g->last = m;
	pthread_mutex_unlock(&g->lock);
	if (old) {
		atomic_fetch_add_explicit(&g->dropped, 1, memory_order_relaxed);
		message_dead(c, DAVIT_DEAD_FULL, to, old);
	}
	if (atomic_compare_exchange_strong(&a->mailbox, &idle, BUSY))
		schedule(c, a);
	return 0;
}

/* 0: m may go in; 1: m was consumed; an error: it may not. */
static int gate_enter(struct davit_context *c, struct davit_actor *a, struct davit_message *m, bool wait)
{
	struct gate *g = a->gate;
	struct davit_ref to = {a->slot, m->generation_};
	int r;

	if (!gate_try(g)) {
		switch ((enum gate_overflow)g->overflow) {
		case GATE_BLOCK:
			if ((r = wait ? gate_wait(c, a) : DAVIT_EUNAVAIL))
				return r;
			break;
		case GATE_DROP_NEWEST:
			atomic_fetch_add_explicit(&g->dropped, 1, memory_order_relaxed);
			COUNT(c->worker, sent);
			message_dead(c, DAVIT_DEAD_FULL, to, m);
			return 1;
		default:
			atomic_fetch_add_explicit(&g->refused, 1, memory_order_relaxed);
			return DAVIT_EUNAVAIL;
		}
	}
	m->flags_ |= MSG_COUNTED;
	return 0;
}

/* --- the mailbox --- */

int mailbox_put(struct davit_context *c, struct davit_actor *a, struct davit_message *m)
{
	return mailbox_put_all(c, a, m, m);
}

int mailbox_put_all(struct davit_context *c, struct davit_actor *a, struct davit_message *m,
		    struct davit_message *oldest)
{
	struct davit_message *next;
	uintptr_t old = atomic_load_explicit(&a->mailbox, memory_order_relaxed);

	do {
		if (UNLIKELY(old == CLOSED)) {
			for (; m; m = next) {
				next = m == oldest ? NULL : m->next_;
				if (m->flags_ & MSG_COUNTED)
					gate_leave(a, 1);
				message_dead(c, DAVIT_DEAD_NOBODY,
					     (struct davit_ref){a->slot, m->generation_}, m);
			}
			return DAVIT_ECLOSED;
		}
		oldest->next_ = old == IDLE ? NULL : (struct davit_message *)old;
	} while (UNLIKELY(!atomic_compare_exchange_weak_explicit(
		&a->mailbox, &old, (uintptr_t)m, memory_order_acq_rel, memory_order_relaxed)));
	if (old == IDLE)
		schedule(c, a);
	return 0;
}

/* The stack is newest first; todo is oldest first. */
static void append(struct davit_actor *a, struct davit_message *newest)
{
	struct davit_message *first = NULL, *m = newest, *next;

	for (; m; m = next) {
		next = m->next_;
		m->next_ = first;
		first = m;
	}
	if (!first)
		return;
	if (a->todo)
		a->todo_last->next_ = first;
	else
		a->todo = first;
	a->todo_last = newest;
}

void mailbox_take(struct davit_actor *a)
{
	struct gate *g = a->gate;
	struct davit_message *m;

	if (atomic_load_explicit(&a->mailbox, memory_order_relaxed) > CLOSED)
		append(a, (struct davit_message *)atomic_exchange_explicit(&a->mailbox, BUSY,
									   memory_order_acquire));
	if (LIKELY(!g) || g->overflow != GATE_DROP_OLDEST || a->flags & ACTOR_HELD || a->todo)
		return;
	/* One at a time: what stands there can still be dropped. */
	pthread_mutex_lock(&g->lock);
	if ((m = g->first)) {
		g->first = m->next_;
		atomic_fetch_sub(&g->queued, 1);
		m->next_ = NULL;
		append(a, m);
	}
	pthread_mutex_unlock(&g->lock);
}

void mailbox_close(struct davit_actor *a)
{
	uintptr_t old = atomic_exchange(&a->mailbox, CLOSED);
	struct davit_ref ref = ref_of(a);
	struct davit_message *m, *newest = NULL;

	if (old > CLOSED)
		append(a, (struct davit_message *)old);
	if (!a->gate)
		return;
	/* The generation moves under the lock: nobody adds to the list after this. */
	pthread_mutex_lock(&a->gate->lock);
	atomic_store_explicit(&a->generation, ref.generation + 1 ? ref.generation + 1 : 1,
			      memory_order_release);
	while ((m = a->gate->first)) {
		a->gate->first = m->next_;
		m->next_ = newest;
		newest = m;
		atomic_fetch_sub(&a->gate->queued, 1);
	}
	pthread_mutex_unlock(&a->gate->lock);
	append(a, newest);
}

/* --- sending --- */

/* origin NULL: the caller's own alias, who can wait for room. */
static inline int deliver_to(struct davit_context *c, struct davit_ref sender, const char *origin,
			     struct davit_ref to, struct davit_message **mp)
{
	struct davit_message *m = *mp;
	struct davit_actor *a = actor_of(c->system, to);
	int r;

	m->sender = sender;
	m->generation_ = to.generation;
	m->flags_ &= (uint8_t) ~(MSG_COUNTED | MSG_CHANNEL); /* of one that was taken, and goes on */
	if (UNLIKELY(!a)) {
		COUNT(c->worker, sent);
		*mp = NULL;
		message_dead(c, DAVIT_DEAD_NOBODY, to, m);
		return DAVIT_ECLOSED;
	}
	if (UNLIKELY(atomic_load_explicit(&c->system->rules, memory_order_relaxed) != NULL) &&
	    !rules_allow(c, origin ? origin : davit_alias(c), a, m)) {
		COUNT(c->worker, sent);
		*mp = NULL;
		message_dead(c, DAVIT_DEAD_DENIED, to, m);
		return DAVIT_EPERM;
	}
	if (UNLIKELY(a->gate && a->gate->proxy) && run_here(c, a, m)) {
		COUNT(c->worker, sent);
		*mp = NULL;
		return 0;
	}
	if (UNLIKELY(a->gate && a->gate->limit)) {
		if (UNLIKELY(a->gate->remote != NULL))
			return remote_send(c, a, mp);
		if (a->gate->overflow == GATE_DROP_OLDEST) {
			COUNT(c->worker, sent);
			*mp = NULL;
			return gate_put(c, a, m);
		}
		if ((r = gate_enter(c, a, m, !origin))) {
			if (r == 1)
				*mp = NULL;
			return r == 1 ? 0 : r;
		}
	}
	COUNT(c->worker, sent);
	*mp = NULL;
	return mailbox_put(c, a, m);
}

/* To the process that this activation has sent to before, and one as most are. */
static inline bool send_again(struct davit_context *c, struct davit_ref sender, struct davit_ref to,
			      struct davit_message *m)
{
	if (LIKELY(!atomic_load_explicit(&c->worker->open, memory_order_relaxed)) ||
	    atomic_load_explicit(&c->system->rules, memory_order_relaxed))
		return false;
	m->sender = sender;
	m->generation_ = to.generation;
	m->flags_ &= (uint8_t) ~(MSG_COUNTED | MSG_CHANNEL);
	return run_here_plain(c, to, m);
}

int davit_send(struct davit_context *c, struct davit_ref to, struct davit_message **m)
{
	struct davit_ref sender = c->self ? ref_of(c->self) : (struct davit_ref){0, 0};

	if (UNLIKELY(send_again(c, sender, to, *m))) {
		COUNT(c->worker, sent);
		*m = NULL;
		return 0;
	}
	return deliver_to(c, sender, NULL, to, m);
}

int send_from(struct davit_context *c, struct davit_ref sender, const char *origin, struct davit_ref to,
	      struct davit_message **m)
{
	return deliver_to(c, sender, origin, to, m);
}

int davit_tell(struct davit_context *c, struct davit_ref to, uint32_t type, const void *data, size_t size)
{
	struct davit_message *m = davit_message_new(c, type, size);
	int r;

	if (!m)
		return DAVIT_ENOMEM;
	if (size)
		memcpy(m->data, data, size);
	r = davit_send(c, to, &m);
	davit_message_free(c, m);
	return r;
}

int send_ours(struct davit_context *c, struct davit_ref to, struct davit_message *m)
{
	struct davit_actor *a = actor_of(c->system, to);

	m->flags_ |= MSG_OURS;
	m->generation_ = to.generation;
	if (!a) {
		message_dead(c, DAVIT_DEAD_NOBODY, to, m);
		return DAVIT_ECLOSED;
	}
	return mailbox_put(c, a, m);
}

/* News of a process do not wait for the handler that has sent to it. */
static bool rob_from_any(struct davit_system *s, struct davit_actor *a)
{
	uint32_t n = atomic_load_explicit(&s->n_workers, memory_order_acquire);

	if (!a->gate || !a->gate->proxy)
		return false;
	for (uint32_t i = 0; i < n; i++)
		if (atomic_load_explicit(&s->worker[i]->open, memory_order_relaxed) == a &&
		    run_here_rob(s->worker[i], a))
			return true;
	return false;
}

int send_signal(struct davit_context *c, struct davit_ref to, struct davit_message *m)
{
	struct davit_actor *a = actor_of(c->system, to);
	uintptr_t old = CLOSED, idle = IDLE;

	m->flags_ |= MSG_OURS;
	m->generation_ = to.generation;
	if (m->sender.generation == 0)
		m->sender = davit_self(c);
	if (a)
		old = atomic_load_explicit(&a->signals, memory_order_relaxed);
	do {
		if (old == CLOSED) {
			watch_late(c, to, m);
			davit_message_free(c, m);
			return DAVIT_ECLOSED;
		}
		m->next_ = (struct davit_message *)old;
	} while (!atomic_compare_exchange_weak(&a->signals, &old, (uintptr_t)m));
	/* The counterpart looks at the signals after it has become idle (activate). */
	if (atomic_compare_exchange_strong(&a->mailbox, &idle, BUSY) || rob_from_any(c->system, a))
		schedule(c, a);
	return 0;
}
