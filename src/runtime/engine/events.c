/* SPDX-License-Identifier: MIT
 *
 * The engine's events: what makes us look. When their stream ends the engine is
 * lost; it is tried again with a growing pause, and what was missed is found out
 * before it counts as regained.
 */
#include "runtime/engine/impl.h"

#include <inttypes.h>
#include <string.h>

#define PAUSE_FIRST (50 * DAVIT_NSEC_PER_MSEC)
#define PAUSE_MAX DAVIT_NSEC_PER_SEC

static void happened(struct engine *e, const struct happening *h)
{
	struct davit_instance *inst = davit_map_get(&e->instances, h->id);
	struct engine_instance *ei = inst ? engine_instance(inst) : NULL;

	if (h->time > e->seen)
		e->seen = h->time;
	if (!ei || strcmp(ei->container, h->container))
		return;
	if (!strcmp(h->action, "die")) {
		/* One from before this run is of the last one, and told. */
		if (h->time >= (ei->asked ? ei->asked : ei->runs.started)) {
			/* Ours had ended before we looked: what was seen is somebody else's start. */
			if (h->time < ei->runs.started)
				ei->runs.started = 0;
			ei->died = h->time;
			ei->died_code = h->exit_code;
			ei->patience = 0;
		}
		container_look(inst);
	} else if (!strcmp(h->action, e->flavour->gone_event)) {
		container_gone(inst, "it was removed, and not by davit");
	} else if (!strcmp(h->action, "start")) {
		if (ei->start_due)
			ei->start_due = false; /* it is looked at when the start has been answered */
		else
			container_look(inst);
		logs_started(inst);
	} else if (!strcmp(h->action, "pause") || !strcmp(h->action, "unpause")) {
		container_look(inst);
	}
}

static bool on_events(struct http_call *c)
{
	struct engine *e = c->user;
	struct happening h;
	char *end;

	while ((end = memchr(davit_buf_str(&c->body), '\n', c->body.len))) {
		size_t n = (size_t)(end - c->body.data);
		int r = observe_event(c->body.data, n, &h, NULL);
		davit_buf_consume(&c->body, n + 1);
		if (r == 0)
			happened(e, &h);
	}
	return true;
}

static void on_events_end(struct http_call *c, const struct davit_error *err)
{
	struct engine *e = c->user;
	struct davit_error ended;

	e->events = NULL;
	davit_error_set(&ended, DAVIT_EUNAVAIL, NULL, "%s: the events ended", e->socket);
	events_lost(e, err ? err : &ended);
}

void events_open(struct engine *e)
{
	DAVIT_AUTO_BUF query = DAVIT_BUF_INIT;
	struct http_call *c;

	engine_filter(e, &query);
	davit_buf_addf(&query, "&since=%" PRId64 ".%09" PRId64, e->seen / DAVIT_NSEC_PER_SEC,
		       e->seen % DAVIT_NSEC_PER_SEC);
	c = http_new(&e->streams, "GET", "/events?%s", davit_buf_str(&query));
	if (c) {
		c->user = e;
		c->data = on_events;
		c->done = on_events_end;
	}
	if (c && http_send(c, NULL) == 0)
		e->events = c;
}

void events_close(struct engine *e)
{
	http_cancel(DAVIT_TAKE(e->events));
	http_cancel(DAVIT_TAKE(e->listing));
	davit_timer_stop(&e->again);
}

void events_lost(struct engine *e, const struct davit_error *why)
{
	struct davit_error named = *why;
	bool tell = e->phase == ENGINE_UP;
	size_t pos = 0;
	void *inst;

	if (e->phase == ENGINE_CLOSED || e->phase == ENGINE_OPENING || e->phase == ENGINE_LOST)
		return;
	events_close(e);
	if (tell)
		e->pause = PAUSE_FIRST;
	e->phase = ENGINE_LOST;
	while (davit_map_next(&e->instances, &pos, NULL, &inst))
		engine_instance(inst)->settling = engine_instance(inst)->start_due = false;
	e->unsettled = 0;
	davit_timer_start(&e->again, e->pause);
	e->pause = e->pause * 2 > PAUSE_MAX ? PAUSE_MAX : e->pause * 2;
	davit_error_prefix(&named, "%s", e->flavour->name);
	if (tell)
		e->rt->events->lost(e->rt, &named);
}
