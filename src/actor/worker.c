/* SPDX-License-Identifier: MIT
 *
 * Worker threads. One that finds nothing looks for 20 us and then sleeps on a futex of
 * its own. Of those asleep one is the sentinel: it wakes for the first alarm, and while
 * anybody works every 250 us, to take the work from behind one that is stuck in a
 * handler. When all are idle it sleeps without end as well: an idle system does nothing.
 */
#include "actor/actor_impl.h"
#include "actor/process.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

int64_t clock_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

void futex_wait(_Atomic(uint32_t) *word, uint32_t value, int64_t timeout)
{
	struct timespec t = {timeout / 1000000000, timeout % 1000000000};

	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, timeout < 0 ? NULL : &t, NULL, 0);
}

void futex_wake(_Atomic(uint32_t) *word, int n)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

void worker_poke(struct davit_worker *w)
{
	if (!atomic_exchange(&w->wake, 1))
		futex_wake(&w->wake, 1);
	COUNT(w->system->outside, wakes);
}

static bool closing(const struct davit_system *s)
{
	return atomic_load_explicit(&s->closing, memory_order_relaxed);
}

static void refresh(struct davit_worker *w)
{
	w->now = clock_now();
	w->looked = w->epoch;
	w->until = w->every;
}

/* --- asleep --- */

/* Under the lock: w leaves the sleepers by itself. */
static struct davit_worker *idle_leave(struct davit_worker *w)
{
	struct davit_system *s = w->system;
	struct davit_worker **at = &s->idle;

	while (*at != w)
		at = &(*at)->next_idle;
	*at = w->next_idle;
	w->idle = false;
	atomic_fetch_sub(&s->n_idle, 1);
	if (s->sentinel != w)
		return NULL;
	atomic_store(&s->drowsy, false);
	return s->sentinel = s->idle;
}

static bool alarm_due(struct davit_system *s)
{
	int64_t due = atomic_load_explicit(&s->due, memory_order_relaxed);

	return due != INT64_MAX && !s->config.manual_clock && due <= clock_now();
}

/* How long w may sleep; under the lock. *quiet: rounds in which nobody worked. */
static int64_t nap(struct davit_worker *w, int *quiet)
{
	struct davit_system *s = w->system;
	int64_t nap = -1, due = atomic_load(&s->due);

	if (s->sentinel != w)
		return -1;
	*quiet = s->n_idle < s->n_pool ? 0 : *quiet + 1;
	if (*quiet < 4 && s->n_pool > 1)
		nap = WATCH;
	else
		atomic_store(&s->drowsy, true);
	if (due != INT64_MAX && !s->config.manual_clock) {
		due -= clock_now();
		due = due < 0 ? 0 : due;
		nap = nap < 0 || due < nap ? due : nap;
	}
	return nap;
}

static void epochs(struct davit_system *s, uint32_t *ret)
{
	uint32_t n = atomic_load(&s->n_workers);

	for (uint32_t i = 0; i < n; i++)
		ret[i] = atomic_load_explicit(&s->worker[i]->epoch, memory_order_relaxed);
}

/* What processes have sent meanwhile. If the system is about to sleep without end, they
 * ring from now on. */
static struct davit_actor *look_at_links(struct davit_worker *w, bool sound)
{
	if (sound ? !poll_arm(&w->context) : true)
		poll_rings(&w->context);
	return ring_pop(w);
}

/* Sleeps until there is something. An actor to run, if it robbed one. */
static struct davit_actor *sleep_idle(struct davit_worker *w)
{
	struct davit_system *s = w->system;
	struct davit_actor *a = NULL;
	struct davit_worker *heir = NULL;
	uint32_t seen[MAX_WORKERS] = {0};
	int64_t time;
	bool sound;
	int quiet = 0;

	pthread_mutex_lock(&s->lock);
	if (s->queue || closing(s)) {
		pthread_mutex_unlock(&s->lock);
		return NULL;
	}
	w->next_idle = s->idle;
	s->idle = w;
	w->idle = true;
	atomic_fetch_add(&s->n_idle, 1);
	if (!s->sentinel)
		s->sentinel = w;
	epochs(s, seen);
	while (w->idle) {
		time = nap(w, &quiet);
		sound = s->sentinel == w && atomic_load(&s->drowsy);
		pthread_mutex_unlock(&s->lock);
		if (UNLIKELY(s->poll != NULL))
			a = look_at_links(w, sound);
		if (!a)
			futex_wait(&w->wake, 0, time);
		atomic_store(&w->wake, 0);
		if (!a && time >= 0)
			a = queue_steal(w, seen);
		pthread_mutex_lock(&s->lock);
		if (!w->idle)
			break;
		if (s->sentinel == w)
			atomic_store(&s->drowsy, false);
		if (a || s->queue || closing(s) || (s->sentinel == w && alarm_due(s)))
			heir = idle_leave(w);
		else
			epochs(s, seen);
	}
	pthread_mutex_unlock(&s->lock);
	if (heir)
		worker_poke(heir);
	return a;
}

/* --- awake --- */

static struct davit_actor *find(struct davit_worker *w)
{
	struct davit_actor *a;

	/* Once in a while the common queue goes first, so that a full ring starves nobody. */
	if (++w->turn % 61 == 0) {
		if (UNLIKELY(w->system->poll != NULL))
			poll_rings(&w->context);
		if ((a = queue_take(w)))
			return a;
	}
	if ((a = ring_pop(w)))
		return a;
	return queue_take(w);
}

/* A moment, in which processes may answer. */
static struct davit_actor *pause_a_little(struct davit_worker *w)
{
	bool links = w->system->poll != NULL;

	for (int i = 0; i < 32; i++) {
		if (UNLIKELY(links) && poll_rings(&w->context))
			return ring_pop(w);
		davit_relax();
	}
	return NULL;
}

static struct davit_actor *spin(struct davit_worker *w)
{
	int64_t end = clock_now() + SPIN;
	struct davit_actor *a;

	do {
		if ((a = pause_a_little(w)) || (a = queue_take(w)) || (a = queue_steal(w, NULL)))
			return a;
	} while (clock_now() < end && !closing(w->system));
	return NULL;
}

static void run_pool(struct davit_worker *w)
{
	struct davit_actor *a;

	refresh(w);
	while (!closing(w->system)) {
		if (LIKELY((a = find(w)) != NULL)) {
			activate(w, a);
			continue;
		}
		if (alarm_due(w->system) && alarms_run(&w->context))
			continue;
		if (!(a = spin(w)))
			a = sleep_idle(w);
		refresh(w);
		if (a)
			activate(w, a);
	}
}

static void run_dedicated(struct davit_worker *w)
{
	struct davit_actor *a;

	while (!closing(w->system)) {
		if (!atomic_exchange(&w->wake, 0)) {
			futex_wait(&w->wake, 0, -1);
			continue;
		}
		refresh(w);
		if ((a = atomic_load(&w->own)))
			activate(w, a);
	}
}

static void *thread_main(void *arg)
{
	struct davit_worker *w = arg;

	if (w->polls)
		poll_main(w);
	else if (w->dedicated)
		run_dedicated(w);
	else
		run_pool(w);
	return NULL;
}

struct davit_worker *worker_new(struct davit_system *s)
{
	struct davit_worker *w = aligned_alloc(64, sizeof *w);

	if (!w)
		return NULL;
	memset(w, 0, sizeof *w);
	w->context = (struct davit_context){.system = s, .worker = w};
	w->system = s;
	w->every = w->until = 1;
	pthread_mutex_init(&w->lock, NULL);
	return w;
}

/* Makes w known, and starts its thread. */
int worker_start(struct davit_worker *w)
{
	struct davit_system *s = w->system;
	uint32_t n;

	pthread_mutex_lock(&s->lock);
	n = atomic_load(&s->n_workers);
	if (n == MAX_WORKERS) {
		pthread_mutex_unlock(&s->lock);
		return DAVIT_EUNAVAIL;
	}
	s->worker[n] = w;
	if (pthread_create(&w->thread, NULL, thread_main, w)) {
		pthread_mutex_unlock(&s->lock);
		return DAVIT_EIO;
	}
	w->started = true;
	if (!w->dedicated)
		atomic_fetch_add(&s->n_pool, 1);
	atomic_store_explicit(&s->n_workers, n + 1, memory_order_release);
	pthread_mutex_unlock(&s->lock);
	return 0;
}

void worker_free(struct davit_worker *w)
{
	if (!w)
		return;
	pthread_mutex_destroy(&w->lock);
	free(w);
}

/* --- threads of their own, and lent ones --- */

/* A dedicated worker without an actor, from an earlier one or new. */
static struct davit_worker *retired(struct davit_system *s, struct davit_actor *a)
{
	uint32_t n = atomic_load(&s->n_workers);

	for (uint32_t i = 0; i < n; i++) {
		struct davit_actor *none = NULL;
		if (s->worker[i]->dedicated && !s->worker[i]->polls &&
		    atomic_compare_exchange_strong(&s->worker[i]->own, &none, a))
			return s->worker[i];
	}
	return NULL;
}

int actor_dedicate(struct davit_context *c, struct davit_actor *a)
{
	struct davit_system *s = c->system;
	struct davit_worker *w;
	int r;

	if (s->config.workers == DAVIT_NO_WORKERS)
		return 0; /* there are no threads at all */
	if ((w = retired(s, a))) {
		a->own = w;
		return 0;
	}
	if (!(w = worker_new(s)))
		return DAVIT_ENOMEM;
	w->dedicated = true;
	atomic_store(&w->own, a);
	a->own = w;
	if ((r = worker_start(w))) {
		a->own = NULL;
		worker_free(w);
	}
	return r;
}

void actor_retire(struct davit_actor *a)
{
	atomic_store(&a->own->own, NULL);
	a->own = NULL;
}

void davit_block_begin(struct davit_context *c)
{
	struct davit_worker *w = c->worker, *spare;
	struct davit_system *s = c->system;
	struct davit_actor *a;

	link_breathe(c);
	run_here_end(w);
	if (w->shared || w->dedicated || !w->started)
		return;
	atomic_store(&w->blocked, 1);
	atomic_fetch_add(&s->n_blocked, 1);
	while ((a = ring_pop(w)))
		queue_put(s, a);
	if (atomic_load(&s->n_idle)) {
		wake_one(s);
	} else if (s->n_pool - s->n_blocked < s->n_base && (spare = worker_new(s))) {
		/* Without another thread the others wait: late, but not wrong. */
		if (worker_start(spare))
			worker_free(spare);
	}
}

void davit_block_end(struct davit_context *c)
{
	struct davit_worker *w = c->worker;

	if (w->shared || w->dedicated || !w->started)
		return;
	atomic_fetch_sub(&c->system->n_blocked, 1);
	atomic_store(&w->blocked, 0);
	refresh(w);
}
