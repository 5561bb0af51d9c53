/* SPDX-License-Identifier: MIT
 *
 * What else happens to a promise: it is a request's, and sent again when it is late;
 * it is waited for by a thread outside.
 */
#include "actor/container_impl.h"
#include "actor/process.h"
#include "actor/promise_impl.h"

#include <string.h>

/* --- requests --- */

void promise_request(struct davit_context *c, struct davit_promise p, struct davit_ref to, int64_t timeout,
		     int retries, struct davit_message *m)
{
	struct promises *t = c->system->promises;
	struct promise *e;

	pthread_mutex_lock(&t->lock);
	e = promise_at(t, p);
	e->to = to;
	e->timeout = timeout;
	e->retries = retries;
	e->again = m;
	e->deadline = timeout < 0 ? INT64_MAX : davit_system_now(c->system) + timeout;
	if (c->self && c->self->container)
		promise_join(&c->self->container->asks, e);
	/* Without memory for the alarm it is as good as late. */
	if (timeout >= 0 && alarm_set(c->system, e->deadline, ALARM_PROMISE,
				      (struct davit_ref){p.slot, p.generation}, 0, &e->alarm))
		e->deadline = 0;
	pthread_mutex_unlock(&t->lock);
}

bool promise_begin(struct davit_context *c, struct davit_promise p, enum davit_dead *ret_why)
{
	struct promises *t = c->system->promises;
	struct promise *e;
	bool ok = false;

	pthread_mutex_lock(&t->lock);
	e = promise_at(t, p);
	if (!e || e->state != DAVIT_PROMISE_PENDING ||
	    (!e->retries && e->deadline && e->deadline <= davit_system_now(c->system)))
		*ret_why = DAVIT_DEAD_EXPIRED;
	else if (e->begun)
		*ret_why = DAVIT_DEAD_REPEAT;
	else
		ok = e->begun = true;
	pthread_mutex_unlock(&t->lock);
	return ok;
}

void promise_alarm(struct davit_context *c, struct davit_promise p)
{
	struct promises *t = c->system->promises;
	struct davit_message *m = NULL;
	struct davit_ref to;
	struct promise *e;
	struct work w;
	bool late = false;

	work_open(c, &w);
	e = promise_at(t, p);
	if (e && e->state == DAVIT_PROMISE_PENDING) {
		to = e->to;
		late = e->retries <= 0 || !e->again || !(m = message_copy(c, e->again));
		if (!late) {
			e->retries--;
			e->deadline = davit_system_now(c->system) + e->timeout;
			late = alarm_set(c->system, e->deadline, ALARM_PROMISE,
					 (struct davit_ref){p.slot, p.generation}, 0, &e->alarm) != 0;
		} else {
			e->alarm = (struct davit_alarm){0, 0};
		}
	}
	if (late) {
		promise_unwanted(e, &w);
		promise_settle(t, e,
			       outcome_new(DAVIT_PROMISE_REJECTED, DAVIT_ETIMEDOUT, "no answer came in time",
					   NULL, 0),
			       &w);
	}
	work_close(c, &w);
	if (m && !late)
		davit_send(c, to, &m);
	davit_message_free(c, m);
}

/* --- nobody awaits it any more --- */

bool davit_awaited(struct davit_context *c, const struct davit_message *m)
{
	struct davit_actor *self = c->self;

	if (c->system->child && self) { /* what its parent has said meanwhile is heard first */
		c->self = NULL;
		uplink_turn(c);
		c->self = self;
	}
	return davit_promise_state(c, m->promise) == DAVIT_PROMISE_PENDING;
}

int davit_on_cancel(struct davit_context *c, const struct davit_message *m, uint32_t type)
{
	struct promises *t = c->system->promises;
	struct davit_message *tell;
	struct promise *e;
	struct work w;

	if (!m->promise.generation)
		return 0;
	if (!(tell = davit_message_new(c, type, sizeof m->promise)))
		return DAVIT_ENOMEM;
	memcpy(tell->data, &m->promise, sizeof m->promise);
	tell->sender = davit_self(c);
	work_open(c, &w);
	e = promise_at(t, m->promise);
	if (e && e->state == DAVIT_PROMISE_PENDING) {
		if (e->tell) {
			e->tell->next_ = w.waste;
			w.waste = e->tell;
		}
		e->tell = tell;
	} else { /* it is over already: by its answer, or without */
		tell->next_ = w.tells;
		w.tells = tell;
	}
	work_close(c, &w);
	return 0;
}

/* Under the lock: does what becomes of e matter to nobody but that one? */
static bool for_alone(struct promises *t, const struct promise *e, struct davit_ref ref)
{
	const struct promise *whole;
	const struct call *call;

	switch (e->consumer) {
	case CONSUMER_NONE: /* nobody has come, and nobody else knows of it */
		return true;
	case CONSUMER_CALL:
		call = body(e->call);
		return !call->link && davit_ref_equal(call->to, ref);
	case CONSUMER_GROUP:
		whole = promise_at(t, group_result(e->group));
		return whole && for_alone(t, whole, ref);
	default: /* it was not to be heard of, but to be done */
		return false;
	}
}

void promises_abandon(struct davit_context *c, struct davit_ref ref, struct promise **asks)
{
	struct promises *t = c->system->promises;
	struct promise *e;
	struct work w;

	work_open(c, &w);
	while ((e = *asks)) {
		promise_leave(e);
		if (for_alone(t, e, ref))
			promise_cancel(t, (struct davit_promise){e->slot, e->generation}, &w);
	}
	work_close(c, &w);
}

/* Under the lock: its time begins anew. */
void promise_extend(struct promises *t, struct promise *e)
{
	if (e->state != DAVIT_PROMISE_PENDING || e->timeout <= 0)
		return;
	e->deadline = davit_system_now(t->system) + e->timeout;
	if (e->alarm.generation && alarm_cancel(t->system, e->alarm) &&
	    alarm_set(t->system, e->deadline, ALARM_PROMISE, (struct davit_ref){e->slot, e->generation}, 0,
		      &e->alarm))
		e->alarm = (struct davit_alarm){0, 0};
}

int64_t davit_deadline(struct davit_context *c, const struct davit_message *m)
{
	struct promises *t = c->system->promises;
	int64_t deadline = INT64_MAX;
	struct promise *e;

	pthread_mutex_lock(&t->lock);
	if ((e = promise_at(t, m->promise)) && e->deadline)
		deadline = e->deadline;
	pthread_mutex_unlock(&t->lock);
	return deadline;
}

uint64_t promise_failure(struct davit_context *c, struct davit_promise p)
{
	struct promises *t = c->system->promises;
	struct promise *e;
	uint64_t failure = 0;

	pthread_mutex_lock(&t->lock);
	if ((e = promise_at(t, p)))
		failure = e->failure;
	pthread_mutex_unlock(&t->lock);
	return failure;
}

void promise_set_failure(struct davit_context *c, struct davit_promise p, uint64_t failure)
{
	struct promises *t = c->system->promises;
	struct promise *e;

	pthread_mutex_lock(&t->lock);
	if ((e = promise_at(t, p)))
		e->failure = failure;
	pthread_mutex_unlock(&t->lock);
}

/* --- waiting --- */

static void wait_settled(struct promises *t, int64_t left)
{
	struct timespec until;

	if (left < 0) {
		pthread_cond_wait(&t->settled, &t->lock);
		return;
	}
	left += clock_now();
	until = (struct timespec){left / 1000000000, left % 1000000000};
	pthread_cond_timedwait(&t->settled, &t->lock, &until);
}

/* Under the lock. True when e is settled. */
static bool wait_for(struct davit_context *c, struct promise *e, int64_t timeout)
{
	struct promises *t = c->system->promises;
	int64_t end = clock_now() + timeout, left = -1;
	bool ran = true;

	e->waiting = true;
	while (e->state == DAVIT_PROMISE_PENDING) {
		if (c->system->config.workers == DAVIT_NO_WORKERS) {
			if (!ran && c->system->config.manual_clock)
				return false;
			pthread_mutex_unlock(&t->lock);
			ran = davit_system_run(c->system);
			pthread_mutex_lock(&t->lock);
		} else {
			if (timeout >= 0 && (left = end - clock_now()) <= 0)
				return false;
			wait_settled(t, left);
			continue;
		}
		if (timeout >= 0 && clock_now() >= end)
			return e->state != DAVIT_PROMISE_PENDING;
	}
	return true;
}

int davit_await(struct davit_context *c, struct davit_promise p, int64_t timeout, struct davit_outcome **ret,
		struct davit_error *err)
{
	struct promises *t = c->system->promises;
	struct davit_outcome *o = NULL;
	struct promise *e;
	bool late = false;
	int r;

	if (c->self)
		return davit_error_set(err, DAVIT_ESTATE, "promise",
				       "a handler must not wait: what it waits for may need its worker");
	pthread_mutex_lock(&t->lock);
	if ((e = promise_at(t, p))) {
		late = !wait_for(c, e, timeout);
		e->waiting = false;
		o = DAVIT_TAKE(e->outcome);
		if (!late)
			promise_give(t, e);
	}
	pthread_mutex_unlock(&t->lock);
	if (!e)
		return davit_error_set(err, DAVIT_ENOENT, "promise", "there is no such promise");
	if (late) {
		davit_cancel(c, p);
		davit_forget(c, p);
		return davit_error_set(err, DAVIT_ETIMEDOUT, "promise", "it was not settled in time");
	}
	r = o->code;
	if (r)
		davit_error_set(err, r, "promise", "%s", o->message);
	if (ret)
		*ret = o;
	else
		davit_outcome_free(o);
	return r;
}
