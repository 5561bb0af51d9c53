/* SPDX-License-Identifier: MIT
 *
 * Promises whose other side is behind a link. One that went out by a link can be
 * settled from there, and from nowhere else; one that came by a link sends its outcome
 * back when it is settled, before anything else can go wrong.
 */
#include "actor/link_impl.h"
#include "actor/promise_impl.h"
#include "davit/container.h"

static struct davit_promise handle_of(const struct promise *e)
{
	return (struct davit_promise){e->slot, e->generation};
}

int64_t promise_goes_by(struct davit_context *c, struct davit_promise p, struct link *l)
{
	struct promises *t = c->system->promises;
	int64_t deadline = INT64_MAX;
	struct link *before = NULL;
	struct promise *e;

	pthread_mutex_lock(&t->lock);
	if ((e = promise_at(t, p))) {
		e->via = l->number;
		if (e->by != l && e->state == DAVIT_PROMISE_PENDING) {
			before = e->by;
			e->by = link_ref(l);
		}
		if (e->deadline)
			deadline = e->deadline;
	}
	pthread_mutex_unlock(&t->lock);
	link_unref(before);
	return deadline;
}

void promise_comes_back(struct davit_context *c, struct davit_promise p)
{
	struct promises *t = c->system->promises;
	struct link *by = NULL;
	struct promise *e;

	pthread_mutex_lock(&t->lock);
	if ((e = promise_at(t, p))) {
		e->via = 0;
		by = DAVIT_TAKE(e->by);
		e->begun = false;
	}
	pthread_mutex_unlock(&t->lock);
	link_unref(by);
}

/* Under the lock, which the link's own is within. */
void promise_recall(struct promise *e)
{
	struct davit_frame f = {.kind = DAVIT_FRAME_CANCEL, .id = (uint64_t)e->slot << 32 | e->generation};

	link_send(e->by, &f, NULL, NULL, NULL, 0);
	link_unref(DAVIT_TAKE(e->by));
}

static struct promise **asked_by(struct link *l, uint64_t id)
{
	return &l->requests[(id ^ id >> 32) % LINK_REQUESTS];
}

/* Under the lock: who has asked for it, behind a link, does not want it any more. */
static void take_back(struct promises *t, struct promise *e, struct work *w)
{
	((struct call *)body(e->call))->unheard = true;
	promise_cancel(t, handle_of(e), w);
}

void promise_cancelled_by(struct davit_context *c, struct link *l, uint64_t id)
{
	struct promises *t = c->system->promises;
	struct promise *e;
	struct work w;

	work_open(c, &w);
	for (e = *asked_by(l, id); e && ((struct call *)body(e->call))->id != id; e = e->same)
		;
	if (e)
		take_back(t, e, &w);
	work_close(c, &w);
}

void promises_lost(struct davit_context *c, struct link *l, int code, const char *text)
{
	struct promises *t = c->system->promises;
	struct work w;

	work_open(c, &w);
	for (uint32_t i = 0; i < t->n; i++) {
		struct promise *e = &t->chunk[i >> PROMISE_BITS][i & ((1u << PROMISE_BITS) - 1)];
		if (e->used && e->via == l->number && e->state == DAVIT_PROMISE_PENDING) {
			link_unref(DAVIT_TAKE(e->by));
			promise_settle(t, e, outcome_new(DAVIT_PROMISE_REJECTED, code, text, NULL, 0), &w);
		}
	}
	for (size_t i = 0; i < LINK_REQUESTS; i++)
		while (l->requests[i])
			take_back(t, l->requests[i], &w);
	work_close(c, &w);
}

int promise_from_link(struct davit_context *c, struct link *l, uint64_t id, int64_t timeout,
		      struct davit_promise *ret)
{
	struct promises *t = c->system->promises;
	struct davit_message *m = davit_message_new(c, DAVIT_TYPE_CALL, sizeof(struct call));
	struct promise *e;

	if (!m)
		return DAVIT_ENOMEM;
	m->flags_ |= MSG_OURS;
	pthread_mutex_lock(&t->lock);
	if ((e = promise_take(t))) {
		*(struct call *)body(m) = (struct call){.link = link_ref(l), .id = id};
		e->consumer = CONSUMER_CALL;
		e->call = m;
		e->timeout = timeout;
		e->deadline = timeout < 0 ? INT64_MAX : davit_system_now(c->system) + timeout;
		promise_join(asked_by(l, id), e);
		*ret = handle_of(e);
	}
	pthread_mutex_unlock(&t->lock);
	if (!e)
		davit_message_free(c, m);
	return e ? 0 : DAVIT_ENOMEM;
}

void promise_from_peer(struct davit_context *c, struct davit_promise p, uint32_t via,
		       enum davit_promise_state state, int code, const char *text, const void *data,
		       size_t size)
{
	struct davit_outcome *o = outcome_new(state, code, text, data, size);
	struct promises *t = c->system->promises;
	struct promise *e;
	struct work w;

	work_open(c, &w);
	e = promise_at(t, p);
	if (e && e->via == via && e->state == DAVIT_PROMISE_PENDING) {
		link_unref(DAVIT_TAKE(e->by));
		promise_settle(t, e, DAVIT_TAKE(o), &w);
	}
	work_close(c, &w);
	davit_outcome_free(o);
}

/* It takes longer: its time begins anew, here and where it came from. */
static void progress(struct davit_context *c, struct davit_promise p, const uint32_t *via)
{
	struct davit_frame f = {.kind = DAVIT_FRAME_PROGRESS};
	struct promises *t = c->system->promises;
	struct link *back = NULL;
	struct promise *e;

	pthread_mutex_lock(&t->lock);
	e = promise_at(t, p);
	if (e && e->state == DAVIT_PROMISE_PENDING && (!via || e->via == *via)) {
		promise_extend(t, e);
		if (e->consumer == CONSUMER_CALL && ((struct call *)body(e->call))->link) {
			back = link_ref(((struct call *)body(e->call))->link);
			f.id = ((struct call *)body(e->call))->id;
		}
	}
	pthread_mutex_unlock(&t->lock);
	if (back)
		link_send(back, &f, NULL, NULL, NULL, 0);
	link_unref(back);
}

void promise_progress(struct davit_context *c, struct davit_promise p, uint32_t via)
{
	progress(c, p, &via);
}

void davit_progress(struct davit_context *c, const struct davit_message *m)
{
	progress(c, m->promise, NULL);
	link_breathe(c);
}
