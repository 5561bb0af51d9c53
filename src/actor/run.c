/* SPDX-License-Identifier: MIT
 *
 * One activation: an actor handles what is there, its signals first, until there is
 * no more of what was there at the start or 100 us are over.
 */
#include "actor/actor_impl.h"
#include "actor/container_impl.h"
#include "actor/process.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* A look at the clock, once in w->every messages, so often that it notices 100 us in
 * time and costs next to nothing. True when the activation has used up its time. */
static bool look(struct davit_worker *w)
{
	int64_t now = clock_now(), spent = now - w->now, each = spent / w->every;
	uint32_t epoch = atomic_load_explicit(&w->epoch, memory_order_relaxed), n = epoch - w->looked;
	int64_t cost = atomic_load_explicit(&w->cost, memory_order_relaxed);

	w->every = each * 256 <= CUT ? 64 : each * 4 >= CUT ? 1 : (int32_t)(CUT / 4 / each);
	w->until = w->every;
	cost = (3 * cost + spent / (n ? n : 1)) / 4;
	atomic_store_explicit(&w->cost, cost, memory_order_relaxed);
	w->now = now;
	w->looked = epoch;
	if (!w->system->config.manual_clock &&
	    UNLIKELY(atomic_load_explicit(&w->system->due, memory_order_relaxed) <= now)) {
		struct davit_actor *self = w->context.self;
		w->context.self = NULL;
		alarms_run(&w->context);
		w->context.self = self;
	}
	return now - w->activated >= CUT;
}

int deliver(struct davit_context *c, struct davit_actor *a, struct davit_message *m,
	    int (*handle)(struct davit_context *c, struct davit_message *m))
{
	bool ours = m->flags_ & MSG_OURS;
	int r;

	c->current = m;
	r = handle(c, m);
	if (UNLIKELY(r < 0 || a->code)) {
		a->code = r < 0 ? r : a->code;
		if (c->current) {
			message_dead(c, DAVIT_DEAD_FAILED, ref_of(a), c->current);
			c->current = NULL;
		} else if (!ours) {
			COUNT(c->worker, dead[DAVIT_DEAD_FAILED]);
		}
		return a->code;
	}
	if (!ours)
		COUNT(c->worker, handled);
	if (LIKELY(c->current != NULL)) {
		davit_message_free(c, c->current);
		c->current = NULL;
	}
	return 0;
}

struct davit_message *davit_take(struct davit_context *c)
{
	return DAVIT_TAKE(c->current);
}

static void signals_run(struct davit_context *c, struct davit_actor *a)
{
	struct davit_message *m, *next, *first = NULL;

	m = (struct davit_message *)atomic_exchange(&a->signals, 0);
	for (; m; m = next) {
		next = m->next_;
		m->next_ = first;
		first = m;
	}
	for (m = first; m; m = next) {
		next = m->next_;
		if (a->flags & ACTOR_EXIT || m->generation_ != atomic_load(&a->generation)) {
			watch_late(c, (struct davit_ref){a->slot, m->generation_}, m);
		} else if (m->type == SIG_KILL) {
			a->flags |= ACTOR_EXIT;
		} else if (a->container &&
			   (m->type == SIG_CONTAINER || m->type == SIG_LINKED || m->type == SIG_PROCESS)) {
			container_signal(c, a, m);
		} else {
			watch_signal(c, a, m);
		}
		davit_message_free(c, m);
	}
}

/* One message. */
static void handle(struct davit_context *c, struct davit_actor *a, struct davit_message *m)
{
	enum davit_dead why;

	if (UNLIKELY(m->flags_ & MSG_COUNTED)) {
		if (a->flags & ACTOR_PROXY) /* all at once, at the end */
			c->worker->left++;
		else
			gate_leave(a, 1);
	}
	if (UNLIKELY(m->generation_ != atomic_load_explicit(&a->generation, memory_order_relaxed))) {
		message_dead(c, DAVIT_DEAD_NOBODY, (struct davit_ref){a->slot, m->generation_}, m);
		return;
	}
	if (UNLIKELY(m->promise.generation) && !promise_begin(c, m->promise, &why)) {
		message_dead(c, why, ref_of(a), m);
		return;
	}
	if (UNLIKELY(a->container != NULL)) {
		container_message(c, a, m);
		return;
	}
	if (UNLIKELY(m->type == DAVIT_TYPE_CALL)) {
		promise_call(c, m);
		davit_message_free(c, m);
		if (a->code)
			a->flags |= ACTOR_EXIT;
		return;
	}
	if (UNLIKELY(deliver(c, a, m, a->handle)))
		a->flags |= ACTOR_EXIT;
}

/* Nothing is left, or nothing that may be handled. True if it is idle now. */
static bool rest(struct davit_actor *a)
{
	/* From when it is idle, somebody else may run it. */
	struct gate *g = a->flags & ACTOR_HELD ? NULL : a->gate;
	uintptr_t busy = BUSY, idle = IDLE;

	if (!atomic_compare_exchange_strong(&a->mailbox, &busy, IDLE))
		return false;
	/* Both sides write their word, then read the other's: one of them sees it. */
	if (LIKELY(!atomic_load(&a->signals) && !gate_holds(g)))
		return true;
	return !atomic_compare_exchange_strong(&a->mailbox, &idle, BUSY);
}

/* --- stand-ins, with those who send to them --- */

/* The end of the activation of one that stands for a process. */
static void proxy_rest(struct davit_context *c, struct davit_actor *a)
{
	process_flush(c, a);
	if ((a->todo && !(a->flags & ACTOR_HELD)) || !rest(a))
		schedule(c, a);
}

/* Makes it this worker's: it was idle, and is what m is for. */
static bool open_here(struct davit_context *c, struct davit_actor *a, const struct davit_message *m)
{
	struct davit_worker *w = c->worker;
	uintptr_t idle = IDLE;

	/* Only of whom somebody else can rob it, and only one. */
	if (!c->self || c->self->flags & ACTOR_PROXY || w->shared || w->dedicated || w->blocked ||
	    atomic_load_explicit(&w->open, memory_order_relaxed))
		return false;
	if (!atomic_compare_exchange_strong(&a->mailbox, &idle, BUSY))
		return false;
	if (a->flags & ACTOR_PROXY && !(a->flags & (ACTOR_EXIT | ACTOR_HELD)) && !a->todo &&
	    m->generation_ == atomic_load_explicit(&a->generation, memory_order_relaxed)) {
		if (UNLIKELY(atomic_load_explicit(&c->system->drowsy, memory_order_relaxed)))
			wake_sentinel(c->system);
		return true;
	}
	if (a->todo || !rest(a))
		schedule(c, a);
	return false;
}

/* The worker's own, who is not inside. */
static bool run_here_close(struct davit_worker *w, struct davit_actor *a)
{
	return atomic_compare_exchange_strong(&w->open, &a, NULL);
}

/* The rare side of `inside`: w has seen that open is empty, or is waited for. */
static void wait_inside(struct davit_worker *w)
{
	if (w->system->barrier)
		syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
	for (int i = 0; atomic_load(&w->inside); i++) {
		if (i < 100)
			davit_relax();
		else
			nanosleep(&(struct timespec){0, 20000}, NULL);
	}
}

bool run_here_plain(struct davit_context *c, struct davit_ref to, struct davit_message *m)
{
	struct davit_worker *w = c->worker;
	struct davit_actor *a;
	struct process *p;
	bool kept = false;

	/* No locked instruction: who robs it has this store and the load behind it ordered. */
	if (LIKELY(w->system->barrier))
		atomic_store_explicit(&w->inside, true, memory_order_relaxed);
	else
		atomic_store(&w->inside, true);
	atomic_signal_fence(memory_order_seq_cst);
	a = atomic_load(&w->open);
	if (a && a->slot == to.slot &&
	    atomic_load_explicit(&a->generation, memory_order_relaxed) == to.generation &&
	    !atomic_load_explicit(&a->signals, memory_order_relaxed)) {
		p = a->container->process;
		if ((kept = process_takes(p, m)))
			process_keep(p, m);
	}
	atomic_store_explicit(&w->inside, false, memory_order_release);
	return kept;
}

bool run_here(struct davit_context *c, struct davit_actor *a, struct davit_message *m)
{
	struct davit_worker *w = c->worker;
	struct davit_actor *self = c->self;

	if (UNLIKELY(atomic_load_explicit(&w->open, memory_order_relaxed) != a)) {
		if (!open_here(c, a, m))
			return false;
	} else if (UNLIKELY(!run_here_close(w, a))) {
		return false;
	} else if (UNLIKELY(m->generation_ != atomic_load_explicit(&a->generation, memory_order_relaxed))) {
		proxy_rest(c, a);
		return false;
	}
	c->self = a;
	handle(c, a, m);
	c->self = self;
	if (UNLIKELY(a->flags & ACTOR_HELD || atomic_load_explicit(&a->signals, memory_order_relaxed)))
		proxy_rest(c, a);
	else
		atomic_store_explicit(&w->open, a, memory_order_release);
	return true;
}

bool run_here_rob(struct davit_worker *w, struct davit_actor *a)
{
	if (!run_here_close(w, a))
		return false;
	wait_inside(w);
	return true;
}

void run_here_end(struct davit_worker *w)
{
	struct davit_actor *a = atomic_load_explicit(&w->open, memory_order_relaxed);
	struct davit_context *c = &w->context;
	struct davit_actor *self = c->self;

	if (LIKELY(!a) || !run_here_close(w, a))
		return;
	c->self = a;
	proxy_rest(c, a);
	c->self = self;
}

/* --- an activation --- */

void activate(struct davit_worker *w, struct davit_actor *a)
{
	struct davit_context *c = &w->context;
	struct davit_message *m;
	bool cut = false;

	atomic_store_explicit(&w->epoch, atomic_load_explicit(&w->epoch, memory_order_relaxed) + 1,
			      memory_order_relaxed);
	w->activated = w->now;
	c->self = a;
	if (UNLIKELY(atomic_load_explicit(&a->signals, memory_order_relaxed)))
		signals_run(c, a);
	if (LIKELY(!a->todo || a->flags & ACTOR_HELD))
		mailbox_take(a);
	if (UNLIKELY(a->flags & ACTOR_HELD))
		container_held(c, a);
	while (!(a->flags & (ACTOR_EXIT | ACTOR_HELD)) && (m = a->todo)) {
		a->todo = m->next_;
		handle(c, a, m);
		if (UNLIKELY(atomic_load_explicit(&a->signals, memory_order_relaxed)))
			signals_run(c, a);
		if (--w->until <= 0 && look(w)) {
			cut = true;
			break;
		}
	}
	COUNT(w, activations);
	run_here_end(w);
	if (UNLIKELY(a->flags & ACTOR_PROXY)) {
		process_flush(c, a);
		if (w->left)
			gate_leave(a, w->left);
		w->left = 0;
	}
	if (UNLIKELY(a->flags & ACTOR_EXIT)) {
		actor_end(c, a, a->code, a->code ? "its handler failed" : "");
		c->self = NULL;
		return;
	}
	c->self = NULL;
	if (cut || (a->todo && !(a->flags & ACTOR_HELD)) || !rest(a))
		schedule(c, a);
}
