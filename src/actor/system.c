/* SPDX-License-Identifier: MIT
 *
 * The system as a whole: opened, counted, closed.
 */
#include "actor/child.h"
#include "actor/process.h"
#include "actor/route.h"
#include "actor/tree.h"
#include "channel/zygote.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

struct davit_context *davit_system_context(struct davit_system *s)
{
	return &s->outside->context;
}

int64_t davit_system_now(struct davit_system *s)
{
	return s->config.manual_clock ? atomic_load(&s->manual_now) : clock_now();
}

/* The parts that need no thread. */
static int prepare(struct davit_system *s)
{
	int r;

	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_init(&s->store_lock, NULL);
	if (!(s->outside = worker_new(s)))
		return DAVIT_ENOMEM;
	s->outside->shared = true;
	if ((r = slots_init(s)) || (r = alarms_init(s)) || (r = promises_init(s)))
		return r;
	return tree_init(s);
}

static int start(struct davit_system *s)
{
	long n = s->config.workers ? s->config.workers : sysconf(_SC_NPROCESSORS_ONLN);
	struct davit_worker *w;
	int r;

	if (n == DAVIT_NO_WORKERS) {
		if (!(s->worker[0] = worker_new(s)))
			return DAVIT_ENOMEM;
		s->n_workers = s->n_pool = 1;
		return 0;
	}
	s->n_base = n < 1 ? 1 : (uint32_t)n;
	for (uint32_t i = 0; i < s->n_base; i++) {
		if (!(w = worker_new(s)))
			return DAVIT_ENOMEM;
		if ((r = worker_start(w))) {
			worker_free(w);
			return r;
		}
	}
	return 0;
}

/* What processes are forked from, before there are threads. One that cannot be made is
 * found out by who wants a process. */
static void prepare_processes(struct davit_system *s)
{
	if (s->config.no_processes || s->config.manual_clock || s->child)
		return;
	s->zygote = !davit_zygote_open(process_main, process_warm, NULL);
	/* Now, since it takes a while where there are threads already. */
	s->barrier = !syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
}

int davit_system_open(const struct davit_system_config *config, struct davit_system **ret,
		      struct davit_error *err)
{
	return system_open(config, NULL, ret, err);
}

int system_open(const struct davit_system_config *config, struct child *child, struct davit_system **ret,
		struct davit_error *err)
{
	struct davit_system *s;
	int r;

	if (config && (config->workers < DAVIT_NO_WORKERS || config->workers > MAX_WORKERS / 2))
		return davit_error_set(err, DAVIT_EINVAL, "workers", "%d threads: between 0 and %d",
				       config->workers, MAX_WORKERS / 2);
	if (!(s = calloc(1, sizeof *s)))
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (config)
		s->config = *config;
	s->pid = getpid();
	s->child = child;
	s->uplink = child ? child->link : NULL;
	prepare_processes(s);
	if ((r = prepare(s)) || (r = start(s))) {
		davit_system_close(s);
		return davit_error_set(err, r, "system", "cannot start it: %s", davit_error_doc(r));
	}
	*ret = s;
	return 0;
}

/* --- closing --- */

static void join(struct davit_system *s)
{
	pthread_mutex_lock(&s->lock);
	atomic_store(&s->closing, true);
	pthread_mutex_unlock(&s->lock);
	/* Nobody starts a thread any more, but one may have been started meanwhile. */
	for (uint32_t i = 0; i < atomic_load(&s->n_workers); i++) {
		if (!s->worker[i]->started)
			continue;
		if (s->worker[i]->polls)
			poll_wake(s);
		else
			worker_poke(s->worker[i]);
		pthread_join(s->worker[i]->thread, NULL);
	}
}

/* No thread is left but this one. */
static void end_all(struct davit_system *s)
{
	struct davit_context *c = &s->outside->context;

	for (uint32_t i = 1; i < s->next_slot; i++) {
		struct davit_actor *a = actor_at(s, i);
		if (a->mailbox == CLOSED)
			continue;
		a->own = NULL;
		actor_end(c, a, 0, "the system is closed");
	}
}

void davit_system_close(struct davit_system *s)
{
	/* A child that the program has forked has its memory, without its threads. */
	if (!s || s->pid != getpid())
		return;
	if (s->tree)
		tree_close(s);
	join(s);
	if (s->chunks && s->promises) {
		tree_forget(s);
		promises_cancel_all(&s->outside->context);
		end_all(s);
		promises_cancel_all(&s->outside->context);
	}
	poll_close(s);
	tree_fini(s);
	rules_fini(s);
	promises_fini(s);
	alarms_fini(s);
	slots_fini(s);
	messages_fini(s);
	for (uint32_t i = 0; i < s->n_workers; i++)
		worker_free(s->worker[i]);
	worker_free(s->outside);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->store_lock);
	if (s->zygote)
		davit_zygote_close();
	free(s);
}

/* --- without threads --- */

bool davit_system_run(struct davit_system *s)
{
	struct davit_worker *w = s->worker[0];
	struct davit_actor *a;
	bool any = false, more;

	if (s->config.workers != DAVIT_NO_WORKERS)
		return false;
	do {
		more = atomic_load(&s->due) != INT64_MAX && alarms_run(&w->context);
		if (s->poll)
			more |= poll_turn(&w->context, 0);
		while ((a = ring_pop(w)) || (a = queue_take(w))) {
			w->now = clock_now();
			activate(w, a);
			more = true;
			if (s->uplink)
				uplink_turn(&w->context);
		}
		if (s->uplink)
			more |= uplink_turn(&w->context);
		any |= more;
	} while (more);
	return any;
}

void davit_system_advance(struct davit_system *s, int64_t ns)
{
	if (!s->config.manual_clock)
		return;
	atomic_fetch_add(&s->manual_now, ns);
	alarms_run(&s->outside->context);
}

/* --- counters --- */

static uint64_t get(const _Atomic(uint64_t) *n)
{
	return atomic_load_explicit(n, memory_order_relaxed);
}

void davit_system_stats(struct davit_system *s, struct davit_system_stats *ret)
{
	uint32_t n = atomic_load(&s->n_workers);
	uint64_t born = 0, died = 0;

	*ret = (struct davit_system_stats){.workers = n};
	for (uint32_t i = 0; i <= n; i++) {
		const struct counters *k = i < n ? &s->worker[i]->count : &s->outside->count;
		ret->sent += get(&k->sent);
		ret->handled += get(&k->handled);
		for (int d = 0; d < DAVIT_DEAD_COUNT; d++)
			ret->dead_by[d] += get(&k->dead[d]);
		ret->activations += get(&k->activations);
		ret->steals += get(&k->steals);
		ret->wakes += get(&k->wakes);
		born += get(&k->born);
		died += get(&k->died);
	}
	for (int d = 0; d < DAVIT_DEAD_COUNT; d++)
		ret->dead += ret->dead_by[d];
	ret->actors = born - died;
}
