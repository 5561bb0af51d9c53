/* SPDX-License-Identifier: MIT
 *
 * What the results of health checks mean. See docs/health.md.
 *
 * Until a check has passed once in a run it is tried in growing pauses, up to
 * fastInterval, and it has startPeriod and retries times interval for that. From then
 * on it is tried each interval. Never do less than `retries` failures in a row make it
 * fail.
 */
#include "core/health.h"

#include "base/strv.h"
#include "base/units.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define FIRST_PAUSE (100 * DAVIT_NSEC_PER_MSEC)

static const char *const state_names[] = {
	[HEALTH_STARTING] = "starting",
	[HEALTH_HEALTHY] = "healthy",
	[HEALTH_UNHEALTHY] = "unhealthy",
};

const struct davit_health_check *check_spec(const struct check *c)
{
	return &c->health->i->service->spec->health[c->index];
}

const char *health_name(const struct instance *i)
{
	return i->health ? state_names[i->health->state] : NULL;
}

static void name_of(const struct check *c, char buf[80])
{
	static const char *const types[] = {"http", "tcp", "command", "file", "https"};
	const struct davit_health_check *s = check_spec(c);

	snprintf(buf, 80, "%s", s->name ? s->name : types[s->type]);
}

/* --- when --- */

static bool startup_done(const struct health *h)
{
	for (size_t k = 0; k < h->n; k++)
		if (check_spec(&h->checks[k])->role == DAVIT_HEALTH_STARTUP && !h->checks[k].passed)
			return false;
	return true;
}

/* Is it to be tried now, as against later or never again? */
static bool is_due(const struct check *c)
{
	bool startup = check_spec(c)->role == DAVIT_HEALTH_STARTUP;

	return startup ? !c->passed : startup_done(c->health);
}

static void schedule_after(struct check *c, int64_t pause)
{
	if (is_due(c) && !c->under_way)
		davit_timer_start(&c->timer, pause);
}

static void schedule(struct check *c)
{
	const struct davit_health_check *s = check_spec(c);
	int64_t fast = s->fast_interval < s->interval ? s->fast_interval : s->interval;
	int64_t pause = c->passed ? s->interval : FIRST_PAUSE << (c->failures < 16 ? c->failures : 16);

	if (!c->passed && pause > fast)
		pause = fast;
	schedule_after(c, pause);
}

static void on_timer(struct davit_timer *t)
{
	struct check *c = DAVIT_CONTAINER_OF(t, struct check, timer);

	/* What is frozen cannot answer, and is not sick. */
	if (c->health->i->paused)
		schedule_after(c, check_spec(c)->interval);
	else
		health_try(c);
}

/* What a daemon found running is looked at within an interval, not all at once. */
static void schedule_adopted(struct check *c)
{
	uint64_t interval = (uint64_t)check_spec(c)->interval;

	schedule_after(c, (int64_t)(davit_loop_random(c->timer.loop) % interval));
}

/* --- what follows --- */

bool health_awaited(const struct instance *i)
{
	const struct davit_spec *spec = i->service->spec;

	for (size_t k = 0; k < spec->n_health; k++)
		if (spec->health[k].role != DAVIT_HEALTH_LIVENESS)
			return true;
	return false;
}

bool health_is_ready(const struct instance *i)
{
	const struct health *h = i->health;

	if (!h)
		return !i->service || i->unchecked || !health_awaited(i);
	for (size_t k = 0; k < h->n; k++) {
		const struct check *c = &h->checks[k];
		if (check_spec(c)->role != DAVIT_HEALTH_LIVENESS && (!c->passed || c->failing))
			return false;
	}
	return true;
}

static enum health_state state_of(const struct health *h)
{
	bool passed = true;

	for (size_t k = 0; k < h->n; k++) {
		if (h->checks[k].failing)
			return HEALTH_UNHEALTHY;
		passed &= h->checks[k].passed;
	}
	return passed ? HEALTH_HEALTHY : HEALTH_STARTING;
}

/* "check 'web' failed 3 times in a row: HTTP status 500" */
static void explain(const struct check *c, char *buf, size_t n)
{
	char name[80], after[DAVIT_TIME_MAX];
	const struct davit_health_check *s = check_spec(c);

	const char *why = c->why ? c->why : "";

	name_of(c, name);
	if (c->passed)
		snprintf(buf, n, "check '%s' failed %u times in a row: %s", name, c->failures, why);
	else
		snprintf(buf, n, "check '%s' did not pass within %s: %s", name,
			 davit_duration_format(s->start_period + s->interval * s->retries, after), why);
}

static void tell_state(struct health *h, const struct check *because)
{
	struct instance *i = h->i;
	enum health_state state = state_of(h);
	char text[320] = "";

	if (state == h->state)
		return;
	h->state = state;
	if (state == HEALTH_UNHEALTHY)
		explain(because, text, sizeof text);
	core_event(i->core, "health-changed", i->service, i, "%s%s%s", state_names[state], *text ? ": " : "",
		   text);
	instance_write_record(i);
	core_service_changed(i->service);
}

/* The end of a try; what stands behind it in the check's own role. */
void health_tried(struct check *c, enum health_result result, const char *why)
{
	const struct davit_health_check *s = check_spec(c);
	struct health *h = c->health;
	struct instance *i = h->i;
	int64_t limit = h->begun + s->start_period + s->interval * s->retries;
	bool first = result == HEALTH_PASSED && !c->passed;

	if (result == HEALTH_PASSED) {
		c->passed = true;
		c->failing = false;
		c->failures = 0;
	} else if (result == HEALTH_FAILED) {
		free(c->why);
		c->why = strdup(why);
		c->failures++;
		c->failing |=
			c->failures >= s->retries && (c->passed || davit_loop_now(i->core->loop) >= limit);
	}
	tell_state(h, c);
	if (c->failing && s->role != DAVIT_HEALTH_READINESS) {
		struct davit_error err;
		char text[320];
		explain(c, text, sizeof text);
		davit_error_set(&err, DAVIT_EIO, "health", "unhealthy: %s", text);
		instance_set_error(i, &err);
		instance_fail(i, DAVIT_CAUSE_HEALTH, err.message); /* ends the checks */
		return;
	}
	if (first && s->role == DAVIT_HEALTH_STARTUP && startup_done(h)) {
		for (size_t k = 0; k < h->n; k++)
			schedule(&h->checks[k]);
	} else if (result == HEALTH_NO_WORD) {
		schedule_after(c, s->interval);
	} else {
		schedule(c);
	}
	instance_on_health(i);
}

/* --- begin and end --- */

static struct health *make(struct instance *i)
{
	const struct davit_spec *spec = i->service->spec;
	struct health *h = calloc(1, sizeof *h + spec->n_health * sizeof h->checks[0]);

	if (!h)
		return NULL;
	h->i = i;
	h->n = spec->n_health;
	h->begun = davit_loop_now(i->core->loop);
	for (size_t k = 0; k < h->n; k++) {
		h->checks[k].health = h;
		h->checks[k].index = (uint32_t)k;
		davit_timer_init(&h->checks[k].timer, i->core->loop, on_timer);
	}
	i->health = h;
	return h;
}

static bool has_checks(const struct instance *i)
{
	return i->service && !i->is_build && i->service->spec->n_health;
}

void health_begin(struct instance *i)
{
	struct health *h;

	health_end(i);
	i->unchecked = false;
	h = has_checks(i) ? make(i) : NULL;
	for (size_t k = 0; h && k < h->n; k++)
		schedule(&h->checks[k]);
}

/* As found in state `state`: what passed before counts, and what had a deadline has
 * the same. */
static void resume(struct instance *i, enum health_state state)
{
	int64_t age = davit_loop_wall(i->core->loop) - i->started;
	struct health *h = make(i);

	if (!h)
		return;
	h->state = state;
	if (i->started && age > 0)
		h->begun -= age;
	for (size_t k = 0; k < h->n; k++) {
		struct check *c = &h->checks[k];
		c->passed = state != HEALTH_STARTING;
		c->failing = state == HEALTH_UNHEALTHY && check_spec(c)->role == DAVIT_HEALTH_READINESS;
		if (c->failing)
			c->why = strdup("it failed before the daemon came back");
	}
	h->state = state_of(h);
	for (size_t k = 0; k < h->n; k++)
		schedule_adopted(&h->checks[k]);
}

void health_restore(struct instance *i, const json_t *rec)
{
	const char *state = json_string_value(json_object_get(rec, "health"));

	health_end(i);
	/* One of an earlier version, whose ports and mounts are not known any more, is left
	 * to its replacement. */
	if (!has_checks(i) || !i->workload.argv) {
		i->unchecked = true;
		return;
	}
	if (!state || json_integer_value(json_object_get(rec, "healthRun")) != i->run)
		state = state_names[HEALTH_STARTING];
	resume(i, !strcmp(state, state_names[HEALTH_HEALTHY])	  ? HEALTH_HEALTHY
		  : !strcmp(state, state_names[HEALTH_UNHEALTHY]) ? HEALTH_UNHEALTHY
								  : HEALTH_STARTING);
}

void health_end(struct instance *i)
{
	struct health *h = DAVIT_TAKE(i->health);

	for (size_t k = 0; h && k < h->n; k++) {
		struct check *c = &h->checks[k];
		davit_timer_stop(&c->timer);
		health_try_abandon(c);
		free(c->why);
	}
	free(h);
}

/* --- another spec --- */

static bool same_text(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

static bool same_check(const struct davit_health_check *a, const struct davit_health_check *b)
{
	return a->type == b->type && a->role == b->role && same_text(a->name, b->name) &&
	       davit_strv_equal(a->command, b->command) && same_text(a->path, b->path) &&
	       same_text(a->file, b->file) && same_text(a->host, b->host) && a->port == b->port &&
	       a->status == b->status && a->interval == b->interval && a->timeout == b->timeout &&
	       a->retries == b->retries && a->start_period == b->start_period &&
	       a->fast_interval == b->fast_interval;
}

bool health_same(const struct davit_spec *a, const struct davit_spec *b)
{
	bool same = a->n_health == b->n_health;

	for (size_t k = 0; same && k < a->n_health; k++)
		same = same_check(&a->health[k], &b->health[k]);
	return same;
}

void health_changed(struct davit_service *s, bool stays)
{
	for (size_t k = 0; k < s->n_slots; k++) {
		struct instance *const both[] = {s->slots[k].current, s->slots[k].next};
		for (size_t m = 0; m < 2; m++) {
			struct instance *i = both[m];
			if (!i || i->state != DAVIT_STATE_STARTED || i->goal == GOAL_STOP ||
			    i->goal == GOAL_GONE || i->killed_for)
				continue;
			health_end(i);
			i->unchecked = !stays;
			/* What serves is well until a new check says otherwise. */
			if (has_checks(i) && stays)
				resume(i, i->ready ? HEALTH_HEALTHY : HEALTH_STARTING);
			instance_on_health(i);
		}
	}
}
