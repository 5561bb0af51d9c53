/* SPDX-License-Identifier: MIT
 *
 * A fake world: its objects, its record of what happened, its rules and its
 * chances.
 */
#include "base/units.h"
#include "runtime/fake/fake_impl.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct davit_fake_chances default_chances = {
	.fail_create = 30,
	.fail_start = 50,
	.fail_exec = 20,
	.fail_stop = 30,
	.fail_remove = 30,
	.slow = 100,
	.ends = 400,
	.vanishes = 30,
	.ignores_stop = 100,
	.lies = 50,
	.never_ready = 30,
	.max_delay = 5 * DAVIT_NSEC_PER_SEC,
	.max_life = 600 * DAVIT_NSEC_PER_SEC,
};

int davit_fake_world_new(struct davit_loop *loop, struct davit_fake_world **ret, struct davit_error *err)
{
	struct davit_fake_world *w = calloc(1, sizeof *w);

	if (!w)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	w->driver = davit_fake_driver;
	w->loop = loop;
	w->strict = true;
	w->reachable = true;
	w->chances = default_chances;
	w->next_port = FAKE_PORT_FIRST;
	davit_list_init(&w->list);
	davit_list_init(&w->execs);
	davit_list_init(&w->terminals);
	davit_list_init(&w->images);
	davit_list_init(&w->volumes);
	davit_list_init(&w->networks);
	davit_list_init(&w->streams);
	*ret = w;
	return 0;
}

void davit_fake_world_free(struct davit_fake_world *w)
{
	struct fake_object *o, *tmp;
	size_t pos = 0;
	void *log;

	if (!w)
		return;
	if (w->runtime)
		fake_world_broken(w, "", "the world is freed while a runtime has it open");
	DAVIT_LIST_FOREACH_SAFE (o, tmp, &w->list, list)
		fake_object_free(o);
	fake_terminals_forget(w, NULL);
	while (davit_map_next(&w->logs, &pos, NULL, &log))
		fake_log_free(log);
	fake_platform_free(w);
	davit_map_fini(&w->objects);
	davit_map_fini(&w->logs);
	free(w);
}

const struct davit_runtime_driver *davit_fake_world_driver(struct davit_fake_world *w)
{
	return &w->driver;
}

void davit_fake_world_set_strict(struct davit_fake_world *w, bool strict)
{
	w->strict = strict;
}

void davit_fake_world_set_chances(struct davit_fake_world *w, const struct davit_fake_chances *chances)
{
	w->chances = *chances;
}

bool fake_world_chance(struct davit_fake_world *w, unsigned per_mille)
{
	/* A chance of nought takes no number, so that a script without faults
	 * leaves the sequence alone. */
	return per_mille && davit_loop_random(w->loop) % 1000 < per_mille;
}

int64_t fake_world_upto(struct davit_fake_world *w, int64_t max)
{
	return max > 0 ? (int64_t)(davit_loop_random(w->loop) % ((uint64_t)max + 1)) : 0;
}

/* --- the record --- */

static const char *const what_names[] = {
	[DAVIT_FAKE_CREATED] = "created", [DAVIT_FAKE_STARTED] = "started",   [DAVIT_FAKE_EXITED] = "exited",
	[DAVIT_FAKE_REMOVED] = "removed", [DAVIT_FAKE_VANISHED] = "vanished", [DAVIT_FAKE_OPENED] = "opened",
	[DAVIT_FAKE_CLOSED] = "closed",
};

const char *davit_fake_what_name(enum davit_fake_what what)
{
	return (unsigned)what < DAVIT_ARRAY_SIZE(what_names) ? what_names[what] : "unknown";
}

void davit_fake_world_observe(struct davit_fake_world *w,
			      void (*fn)(void *user, const struct davit_fake_event *event), void *user)
{
	w->observe = fn;
	w->observer = user;
}

void fake_world_event(struct davit_fake_world *w, enum davit_fake_what what, const struct fake_object *o)
{
	struct davit_fake_event e = {.time = davit_loop_now(w->loop), .what = what};

	if (o) {
		memcpy(e.id, o->id, sizeof e.id);
		e.run = o->run;
		e.exit = o->exit;
	}
	w->history[w->events++ % FAKE_HISTORY] = e;
	if (!w->observe)
		return;
	e.label = o ? o->label : NULL;
	w->observe(w->observer, &e);
}

void davit_fake_world_dump(const struct davit_fake_world *w)
{
	uint64_t from = w->events > FAKE_HISTORY ? w->events - FAKE_HISTORY : 0;
	char at[DAVIT_TIME_MAX];

	for (uint64_t i = from; i < w->events; i++) {
		const struct davit_fake_event *e = &w->history[i % FAKE_HISTORY];
		fprintf(stderr, "fake world: %12s %-8s %s", davit_duration_format(e->time, at),
			davit_fake_what_name(e->what), e->id);
		if (e->run)
			fprintf(stderr, " run %u", e->run);
		if (e->what == DAVIT_FAKE_EXITED)
			fprintf(stderr, " %s %d", davit_exit_kind_name(e->exit.kind),
				e->exit.kind == DAVIT_EXIT_CODE ? e->exit.code : e->exit.signal);
		fputc('\n', stderr);
	}
}

void fake_world_broken(struct davit_fake_world *w, const char *id, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	if (!w->strict)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	davit_fake_world_dump(w);
	fprintf(stderr, "fake world: a rule was broken: %s%s%s\n", id, *id ? ": " : "", text);
	abort();
}

/* --- seen from outside --- */

size_t davit_fake_world_objects(const struct davit_fake_world *w)
{
	const struct fake_object *o;
	size_t n = 0;

	DAVIT_LIST_FOREACH (o, &w->list, list)
		n += o->state != DAVIT_STATE_DESTROYED;
	return n;
}

size_t davit_fake_world_running(const struct davit_fake_world *w)
{
	const struct fake_object *o;
	size_t n = 0;

	DAVIT_LIST_FOREACH (o, &w->list, list)
		n += o->state == DAVIT_STATE_STARTED;
	return n;
}

int davit_fake_world_end(struct davit_fake_world *w, const char *id, const struct davit_exit *exit)
{
	struct fake_object *o = davit_map_get(&w->objects, id);

	if (!o)
		return DAVIT_ENOENT;
	if (o->state != DAVIT_STATE_STARTED)
		return DAVIT_ESTATE;
	davit_timer_stop(&o->end);
	return fake_object_end(o, 0, exit);
}

int davit_fake_world_delete(struct davit_fake_world *w, const char *id)
{
	struct fake_object *o = davit_map_get(&w->objects, id);
	struct davit_instance *inst;

	if (!o || o->state == DAVIT_STATE_DESTROYED)
		return DAVIT_ENOENT;
	inst = o->inst;
	fake_world_event(w, DAVIT_FAKE_VANISHED, o);
	fake_exec_end(w, o);
	fake_operation_vanished(o);
	fake_object_free(o);
	if (inst)
		inst->runtime->events->vanished(inst, "it was deleted from outside");
	return 0;
}

void davit_fake_world_set_reachable(struct davit_fake_world *w, bool reachable)
{
	struct davit_error err;
	struct davit_runtime *rt = w->runtime;
	struct fake_object *o;

	if (w->reachable == reachable)
		return;
	w->reachable = reachable;
	if (!reachable && rt) {
		davit_error_set(&err, DAVIT_EUNAVAIL, "fake", "the fake platform does not answer");
		rt->events->lost(rt, &err);
	}
	if (!reachable || !rt)
		return;
	DAVIT_LIST_FOREACH (o, &w->list, list) {
		while (w->runtime == rt && fake_object_tell(o))
			;
		if (w->runtime != rt)
			return;
		fake_operation_resume(o);
	}
	rt->events->regained(rt);
}

/* --- ports --- */

void davit_fake_world_take_port(struct davit_fake_world *w, uint16_t port, bool taken)
{
	uint64_t bit = UINT64_C(1) << (port % 64);

	if (taken)
		w->taken[port / 64] |= bit;
	else
		w->taken[port / 64] &= ~bit;
}

bool fake_world_port_taken(const struct davit_fake_world *w, uint16_t port)
{
	const struct fake_object *o;

	if (w->taken[port / 64] & UINT64_C(1) << (port % 64))
		return true;
	DAVIT_LIST_FOREACH (o, &w->list, list)
		for (size_t i = 0; i < o->n_ports; i++)
			if (o->ports[i].host == port)
				return true;
	return false;
}
