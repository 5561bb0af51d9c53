/* SPDX-License-Identifier: MIT
 *
 * Messages to a process. Each is kept until the process is done with it, so that none
 * is lost with it and none is handled twice: what it had begun when it died is a dead
 * letter, what it had not goes to its successor, in order.
 */
#include "actor/process.h"

enum {
	SETTLE = 64, /* kept, before one looks whether the process is done with them */
};

/* Numbers of the process's, which it could lie about: within what was written, and never back. */
static void progress(const struct process *p, uint64_t *ret_done, uint64_t *ret_begun)
{
	struct link *l = p->link;
	uint64_t acked = atomic_load(&l->acked), done = acked >> 1, begun = done + (acked & 1);
	uint64_t written = p->sent - p->n_unwritten;

	if (l->rings) {
		begun = atomic_load_explicit(&l->ring.theirs->begun, memory_order_acquire);
		done = atomic_load_explicit(&l->ring.theirs->done, memory_order_acquire);
	}
	if (done < p->done)
		done = p->done;
	*ret_done = done > written ? written : done;
	*ret_begun = begun < *ret_done ? *ret_done : begun > written ? written : begun;
}

static struct davit_message *kept_pop(struct process *p)
{
	struct davit_message *m = p->kept;

	p->kept = m->next_;
	p->done++;
	return m;
}

void process_settle(struct davit_context *c, struct container *k)
{
	struct process *p = k->process;
	uint64_t done, begun;

	if (!p->kept)
		return;
	progress(p, &done, &begun);
	while (p->done < done) {
		COUNT(c->worker, handled);
		davit_message_free(c, kept_pop(p));
	}
}

void process_failed_at(struct davit_context *c, struct container *k)
{
	struct process *p = k->process;
	uint64_t done, begun;

	process_settle(c, k);
	progress(p, &done, &begun);
	while (p->done < begun)
		message_dead(c, DAVIT_DEAD_FAILED, k->ref, kept_pop(p));
}

void process_take_back(struct davit_context *c, struct davit_actor *a)
{
	struct process *p = a->container->process;
	struct davit_message *m;

	process_failed_at(c, a->container);
	for (m = p->kept; m; m = m->next_)
		if (m->promise.generation)
			promise_comes_back(c, m->promise);
	if (p->kept) {
		p->kept_last->next_ = a->todo;
		if (!a->todo)
			a->todo_last = p->kept_last;
		a->todo = p->kept;
		a->container->seen = NULL;
	}
	p->kept = p->kept_last = p->unwritten = NULL;
	p->sent = p->done = 0;
	p->n_unwritten = 0;
	p->credit = 0;
}

/* May another one be sent? */
static bool has_room(struct davit_context *c, struct container *k)
{
	struct process *p = k->process;

	if (p->sent - p->done >= p->window) {
		process_settle(c, k);
		if (p->sent - p->done >= p->window)
			return false;
	}
	if (p->credit > 0 || !p->link)
		return true;
	if (!link_has_room(p->link, false))
		return false;
	p->credit = LINK_SMALL;
	return true;
}

void process_resume(struct davit_context *c, struct davit_actor *a)
{
	struct container *k = a->container;
	struct process *p = k->process;

	if (atomic_load(&k->state) != DAVIT_STATE_STARTED)
		return;
	process_write(c, k);
	p->stalled = !has_room(c, k);
	if (p->stalled) {
		a->flags |= ACTOR_HELD;
		process_flush(c, a);
		atomic_store(&p->link->wanted, p->sent - p->done < p->window ? 0 : p->done + p->window / 4);
		atomic_store(&p->link->stalled, true);
		link_await_room(p->link);
		p->stalled = !has_room(c, k);
	}
	if (!p->stalled) {
		a->flags &= ~(uint32_t)ACTOR_HELD;
		if (p->link)
			atomic_store(&p->link->stalled, false);
	}
}

void process_write(struct davit_context *c, struct container *k)
{
	struct process *p = k->process;

	if (p->unwritten && p->link)
		link_messages(c, p->link, &p->sender, p->unwritten);
	p->unwritten = NULL;
	p->n_unwritten = 0;
}

void process_message(struct davit_context *c, struct davit_actor *a, struct davit_message *m)
{
	struct container *k = a->container;
	struct process *p = k->process;
	const struct davit_blob *b = davit_message_blob(m);
	size_t size = b ? b->size : m->size;

	if (m->flags_ & MSG_OURS && m->type != DAVIT_TYPE_DOWN) {
		promise_call(c, m); /* what was asked of others in its name */
		davit_message_free(c, m);
		return;
	}
	if (!p->link || size > DAVIT_FRAME_LIMIT - 512) {
		davit_refuse(c, m, p->link ? DAVIT_EINVAL : DAVIT_ESTATE,
			     p->link ? "it is too large" : "its process has ended");
		message_dead(c, DAVIT_DEAD_ENDED, k->ref, m);
		return;
	}
	if (m->flags_ & MSG_OURS) { /* one that it watches has ended */
		const struct davit_down *down = body(m);
		process_gone(c, p->link, down);
		davit_message_free(c, m);
		return;
	}
	if (size > LINK_SMALL_SIZE)
		p->credit = 0;
	if (m->flags_ & MSG_GATED) {
		p->credit--;
		process_write(c, k);
		link_message(c, p->link, "", m);
		COUNT(c->worker, handled);
		davit_message_free(c, m);
	} else {
		m->flags_ &= (uint8_t)~MSG_COUNTED;
		process_keep(p, m);
		if (p->n_unwritten >= PROCESS_TOGETHER)
			process_write(c, k);
	}
	if (p->credit <= 0 || p->sent - p->done >= p->window)
		process_resume(c, a);
}

void process_flush(struct davit_context *c, struct davit_actor *a)
{
	struct process *p = a->container ? a->container->process : NULL;

	if (!p || !p->link)
		return;
	process_write(c, a->container);
	if (p->sent - p->done >= SETTLE)
		process_settle(c, a->container);
	atomic_store_explicit(&p->link->unsettled, p->kept ? p->sent : 0, memory_order_release);
}
