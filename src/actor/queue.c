/* SPDX-License-Identifier: MIT
 *
 * Who runs next. Each worker has a ring: it alone puts in at the tail; it, and those
 * that rob it, take out at the head. What a ring has no room for, and what comes from
 * outside, stands in one common queue. A receiver joins its sender's worker, and
 * another worker is woken only when the work that waits is worth the 50 us that this
 * takes.
 */
#include "actor/actor_impl.h"

uint32_t ring_length(const struct davit_worker *w)
{
	uint32_t head = atomic_load_explicit(&w->head, memory_order_acquire);

	return atomic_load_explicit(&w->tail, memory_order_acquire) - head;
}

bool ring_push(struct davit_worker *w, struct davit_actor *a)
{
	uint32_t tail = atomic_load_explicit(&w->tail, memory_order_relaxed);

	if (UNLIKELY(tail - atomic_load_explicit(&w->head, memory_order_acquire) >= RING))
		return false;
	atomic_store_explicit(&w->ring[tail % RING], a, memory_order_relaxed);
	atomic_store_explicit(&w->tail, tail + 1, memory_order_release);
	return true;
}

struct davit_actor *ring_pop(struct davit_worker *w)
{
	uint32_t head = atomic_load_explicit(&w->head, memory_order_acquire);
	struct davit_actor *a;

	do {
		if (head == atomic_load_explicit(&w->tail, memory_order_relaxed))
			return NULL;
		a = atomic_load_explicit(&w->ring[head % RING], memory_order_relaxed);
	} while (UNLIKELY(!atomic_compare_exchange_weak_explicit(
		&w->head, &head, head + 1, memory_order_acq_rel, memory_order_acquire)));
	return a;
}

/* Moves half of the other's ring into w's, which is empty; one of them is returned. */
static struct davit_actor *ring_rob(struct davit_worker *w, struct davit_worker *from)
{
	uint32_t head = atomic_load_explicit(&from->head, memory_order_acquire);
	struct davit_actor *some[RING / 2];
	uint32_t n;

	do {
		n = atomic_load_explicit(&from->tail, memory_order_acquire) - head;
		n -= n / 2;
		if (!n)
			return NULL;
		if (n > RING / 2)
			n = RING / 2;
		for (uint32_t i = 0; i < n; i++)
			some[i] = atomic_load_explicit(&from->ring[(head + i) % RING], memory_order_relaxed);
	} while (!atomic_compare_exchange_strong_explicit(&from->head, &head, head + n, memory_order_acq_rel,
							  memory_order_acquire));
	for (uint32_t i = 1; i < n; i++)
		if (!ring_push(w, some[i]))
			queue_put(w->system, some[i]);
	COUNT(w, steals);
	return some[0];
}

struct davit_actor *queue_steal(struct davit_worker *w, const uint32_t *stuck)
{
	struct davit_system *s = w->system;
	uint32_t n = atomic_load_explicit(&s->n_workers, memory_order_acquire);

	for (uint32_t i = 0; i < n; i++) {
		struct davit_worker *from = s->worker[i];
		struct davit_actor *a = atomic_load_explicit(&from->open, memory_order_relaxed);
		uint32_t length;
		if (UNLIKELY(a != NULL) && from != w && stuck &&
		    stuck[i] == atomic_load_explicit(&from->epoch, memory_order_relaxed) &&
		    run_here_rob(from, a))
			return a;
		if (from == w || from->dedicated || !(length = ring_length(from)))
			continue;
		if (length * atomic_load_explicit(&from->cost, memory_order_relaxed) <= WORTH &&
		    !atomic_load_explicit(&from->blocked, memory_order_relaxed) &&
		    !(stuck && stuck[i] == atomic_load_explicit(&from->epoch, memory_order_relaxed)))
			continue;
		if ((a = ring_rob(w, from)))
			return a;
	}
	return NULL;
}

/* --- the common queue and the sleepers, under the system's lock --- */

/* Takes one sleeper out, the sentinel last. */
static struct davit_worker *idle_pop(struct davit_system *s)
{
	struct davit_worker **at = &s->idle, *w;

	if (!s->idle)
		return NULL;
	if (*at == s->sentinel && (*at)->next_idle)
		at = &(*at)->next_idle;
	w = *at;
	*at = w->next_idle;
	w->idle = false;
	atomic_fetch_sub(&s->n_idle, 1);
	if (w == s->sentinel) {
		s->sentinel = NULL;
		atomic_store(&s->drowsy, false);
	}
	return w;
}

void wake_one(struct davit_system *s)
{
	struct davit_worker *w;

	pthread_mutex_lock(&s->lock);
	w = idle_pop(s);
	pthread_mutex_unlock(&s->lock);
	if (w)
		worker_poke(w);
}

static _Thread_local bool wakes_late, late;

void wake_late(struct davit_system *s, bool on)
{
	wakes_late = on;
	if (!on && late)
		wake_sentinel(s);
}

void wake_sentinel(struct davit_system *s)
{
	struct davit_worker *w;

	late = wakes_late;
	if (late)
		return;
	pthread_mutex_lock(&s->lock);
	w = s->sentinel;
	atomic_store(&s->drowsy, false);
	pthread_mutex_unlock(&s->lock);
	if (w)
		worker_poke(w);
}

void queue_put(struct davit_system *s, struct davit_actor *a)
{
	struct davit_worker *w = NULL;

	a->next = NULL;
	pthread_mutex_lock(&s->lock);
	if (s->queue)
		s->queue_last->next = a;
	else
		s->queue = a;
	s->queue_last = a;
	atomic_fetch_add_explicit(&s->n_queue, 1, memory_order_relaxed);
	/* Somebody awake will come by; only when none is, or there is much to do, one is
	 * woken. But somebody has to see to it that they do come by. */
	if (s->n_idle >= s->n_pool || (s->n_idle && s->n_queue >= BATCH)) {
		w = idle_pop(s);
	} else if (atomic_load(&s->drowsy)) {
		w = s->sentinel;
		atomic_store(&s->drowsy, false);
	}
	pthread_mutex_unlock(&s->lock);
	if (w)
		worker_poke(w);
}

struct davit_actor *queue_take(struct davit_worker *w)
{
	struct davit_system *s = w->system;
	struct davit_actor *first, *a;
	uint32_t want, room = RING / 2;

	if (!atomic_load_explicit(&s->n_queue, memory_order_relaxed))
		return NULL;
	pthread_mutex_lock(&s->lock);
	want = s->n_queue / (s->n_pool ? s->n_pool : 1) + 1;
	if (ring_length(w) > room)
		want = 1;
	if (want > room)
		want = room;
	if ((first = s->queue)) {
		s->queue = first->next;
		s->n_queue--;
		for (; --want && (a = s->queue) && ring_length(w) < RING - 1;) {
			s->queue = a->next;
			s->n_queue--;
			ring_push(w, a);
		}
	}
	pthread_mutex_unlock(&s->lock);
	return first;
}

void schedule(struct davit_context *c, struct davit_actor *a)
{
	struct davit_worker *w = c->worker;
	struct davit_system *s = c->system;

	if (UNLIKELY(a->own != NULL)) {
		worker_poke(a->own);
		return;
	}
	/* What a process has said is decided on where it was read: one thread less to wake. */
	if (UNLIKELY(w->polls) && a->flags & ACTOR_SYSTEM && ring_push(w, a))
		return;
	if (UNLIKELY(w->shared || w->dedicated || w->blocked) || UNLIKELY(!ring_push(w, a))) {
		queue_put(s, a);
		return;
	}
	if (LIKELY(!atomic_load_explicit(&s->n_idle, memory_order_relaxed)))
		return;
	if (UNLIKELY(atomic_load_explicit(&s->drowsy, memory_order_relaxed)))
		wake_sentinel(s);
	if (UNLIKELY(ring_length(w) * atomic_load_explicit(&w->cost, memory_order_relaxed) > WORTH))
		wake_one(s);
}
