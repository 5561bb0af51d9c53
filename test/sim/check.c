/* SPDX-License-Identifier: MIT
 *
 * What must hold: at any moment, and when all is quiet.
 */
#include "sim_impl.h"

#include "supervise/supervise_impl.h"

#include <stdio.h>
#include <string.h>

static struct davit_service *core_service(const struct sim *s, int service)
{
	char key[64];

	if (!s->core)
		return NULL;
	snprintf(key, sizeof key, "default/s%d/latest", service);
	return davit_map_get(&s->core->services, key);
}

/* The instance whose end the event tells of, or NULL. */
static struct sim_instance *exit_of(struct sim *s, const char *json)
{
	const char *at = strstr(json, "\"instance\":\"");
	char id[DAVIT_ID_MAX];
	struct sim_instance *i;

	if (!at || !strstr(json, "\"type\":\"exited\""))
		return NULL;
	snprintf(id, sizeof id, "%.16s", at + 12);
	i = davit_map_get(&s->by_id, id);
	if (!i)
		sim_fail(s, "an end of an instance that never was: %s", json);
	return i;
}

/* --- the world's truth --- */

static struct sim_instance *instance_of_event(struct sim *s, const struct davit_fake_event *e)
{
	struct sim_instance *i = davit_map_get(&s->by_id, e->id), **more;
	DAVIT_AUTO_FREE char *key = NULL;
	bool build;

	if (i)
		return i;
	i = calloc(1, sizeof *i);
	more = realloc(s->instances, (s->n_instances + 1) * sizeof *more);
	if (!i || !more)
		abort();
	s->instances = more;
	s->instances[s->n_instances++] = i;
	memcpy(i->id, e->id, sizeof i->id);
	davit_map_put(&s->by_id, i->id, i);
	if (workload_label_parse(e->label, &key, &i->index, &i->generation, &build) < 0 || build ||
	    sscanf(key, "default/s%d/latest", &i->service) != 1)
		sim_fail(s, "an object with a label that is not ours: %s", e->label);
	i->epoch = s->services[i->service].epoch;
	i->deaths = s->deaths;
	return i;
}

/* Only an update may have two live runs of one slot, and not of one generation. */
static void check_twins(struct sim *s, const struct sim_instance *i)
{
	for (size_t k = 0; k < s->n_instances; k++) {
		const struct sim_instance *o = s->instances[k];
		if (o == i || !o->live || o->service != i->service || o->index != i->index)
			continue;
		if (o->generation == i->generation)
			sim_fail(s, "%s of %s/%u is started while %s of the same generation runs", i->id,
				 s->services[i->service].name, i->index, o->id);
	}
}

/* What is wanted and ends by itself only is not stopped by anybody. */
static void check_end(struct sim *s, const struct sim_instance *i, const struct davit_exit *exit)
{
	const struct sim_service *t = &s->services[i->service];
	const struct davit_service *ds = core_service(s, i->service);

	if (!ds || !ds->settled || ds->generation != i->generation)
		return;
	if (exit->kind == DAVIT_EXIT_SIGNAL && t->plain && !t->busy && !t->unsure && t->json &&
	    i->epoch == t->epoch)
		sim_fail(s, "%s of %s/%u was stopped, and nobody asked for that", i->id, t->name, i->index);
}

/* From here on the platform cannot tell of the ends so far. That one of them was
 * not recorded before is allowed where it vanished, or after the time that the
 * core waits for a store that does not answer. */
static void note_unheard(struct sim_instance *i, int64_t now, int64_t patience)
{
	if (i->exits > i->heard && now - i->ended >= patience && i->exits - i->heard > i->unheard)
		i->unheard = i->exits - i->heard;
}

/* A platform that did not answer for so long that an attempt failed has used up a
 * restart without a start. */
static void note_unanswered(struct sim *s, const char *json)
{
	const char *at = strstr(json, "\"service\":\"default/s");
	int service;

	if (at && strstr(json, "\"type\":\"failed\"") && strstr(json, "before its deadline") &&
	    sscanf(at, "\"service\":\"default/s%d", &service) == 1)
		s->services[service].plain = false;
}

void sim_hear(struct sim *s, const char *json)
{
	struct sim_instance *i = exit_of(s, json);

	note_unanswered(s, json);
	if (i)
		i->heard++;
}

void sim_observe(void *user, const struct davit_fake_event *e)
{
	struct sim *s = user;
	struct sim_instance *i;

	if (e->what == DAVIT_FAKE_OPENED || e->what == DAVIT_FAKE_CLOSED)
		return;
	i = instance_of_event(s, e);
	if (s->options.verbose)
		sim_trace(s, "world: %s %s of %s/%u run %u", davit_fake_what_name(e->what), i->id,
			  s->services[i->service].name, i->index, e->run);
	switch (e->what) {
	case DAVIT_FAKE_CREATED:
		i->there = true;
		break;
	case DAVIT_FAKE_STARTED:
		s->totals->starts++;
		note_unheard(i, e->time, DAVIT_JOURNAL_PATIENCE);
		i->starts++;
		i->live = true;
		i->streak = i->passes = 0;
		check_twins(s, i);
		break;
	case DAVIT_FAKE_EXITED:
		s->totals->exits++;
		check_end(s, i, &e->exit);
		i->exits++;
		i->live = false;
		i->ended = e->time;
		break;
	case DAVIT_FAKE_VANISHED:
		if (i->live) {
			i->exits++;
			i->ended = e->time;
		}
		i->live = i->there = false;
		note_unheard(i, e->time, 0);
		break;
	case DAVIT_FAKE_REMOVED:
		note_unheard(i, e->time, DAVIT_JOURNAL_PATIENCE);
		i->live = i->there = false;
		break;
	default:
		break;
	}
}

static size_t live_of(const struct sim *s, int service, int64_t since)
{
	size_t n = 0;

	for (size_t k = 0; k < s->n_instances; k++) {
		const struct sim_instance *i = s->instances[k];
		n += i->service == service && (i->live || (i->exits && i->ended >= since));
	}
	return n;
}

/* --- at any moment --- */

/* "running" is only ever said of what runs. A lie of the platform's lasts two
 * seconds at most. */
static void check_running(struct sim *s, int service)
{
	struct davit_service *ds = core_service(s, service);
	int64_t now = davit_loop_now(s->loop);
	size_t completed = 0, live;

	if (!ds || !s->reachable || now - s->reachable_since < 2 * SEC ||
	    strcmp(davit_service_status(ds), "running") != 0)
		return;
	for (size_t k = 0; k < ds->n_slots; k++)
		completed += ds->slots[k].current && ds->slots[k].current->node.state == DAVIT_NODE_COMPLETED;
	live = live_of(s, service, now - 2 * SEC);
	for (size_t k = 0; k < ds->n_slots; k++)
		if (ds->slots[k].current)
			sim_check_health(s, ds->slots[k].current);
	if (live + completed < (size_t)ds->spec->instances)
		sim_fail(s, "%s is said to be running, but only %zu of %" PRId64 " do", ds->spec->name, live,
			 ds->spec->instances);
}

void sim_check_now(struct sim *s)
{
	for (int k = 0; k < SIM_SERVICES && s->started && !s->failed; k++)
		check_running(s, k);
}

/* --- when it is quiet --- */

/* Says why something is wrong; a later look may find it right. */
__attribute__((format(printf, 2, 3))) static bool wrong(struct sim *s, const char *fmt, ...)
{
	va_list ap;

	free(s->why_later);
	va_start(ap, fmt);
	if (vasprintf(&s->why_later, fmt, ap) < 0)
		abort();
	va_end(ap);
	return false;
}

static bool is_live(const struct sim *s, const struct instance *i)
{
	const struct sim_instance *o = davit_map_get(&s->by_id, i->workload.id);

	return o && o->live;
}

/* Something above has a reason: it failed, completed, or is about to start. */
static bool supervised(const struct instance *i)
{
	for (const struct davit_node *p = i->node.parent; p && p->parent; p = p->parent)
		if (p->state != DAVIT_NODE_RUNNING)
			return true;
	return false;
}

static bool is_rule(const struct instance *i, const char *rule)
{
	return i->node.rule_name && !strcmp(i->node.rule_name, rule);
}

static bool explained_end(struct sim *s, const struct davit_service *ds, const struct instance *i)
{
	enum davit_restart_policy policy = ds->spec->restart;
	bool completed = i->node.state == DAVIT_NODE_COMPLETED;

	/* What a rule led to before the user changed it stays. */
	if (ds->updated > i->node.decided || ds->spec->supervisor || s->mix.clock)
		return true;
	if (is_rule(i, "prevent"))
		return ds->spec->prevent.n > 0 ||
		       wrong(s, "%s/%u is left by a prevent list that is not there", ds->spec->name,
			     i->workload.index);
	if (is_rule(i, "policy")) {
		if (!davit_restart_wanted(policy, i->node.cause) &&
		    completed == (i->node.cause == DAVIT_CAUSE_CLEAN))
			return true;
		return wrong(s, "%s/%u is %s by its policy, cause %s, which says otherwise", ds->spec->name,
			     i->workload.index, completed ? "completed" : "failed",
			     davit_cause_name(i->node.cause));
	}
	if (is_rule(i, "retries")) {
		const struct sim_instance *o = davit_map_get(&s->by_id, i->workload.id);
		/* More than that where the user has lowered it since. */
		if (!completed &&
		    (i->node.restarts == ds->spec->retries || (i->node.restarts > ds->spec->retries && o &&
							       o->epoch != s->services[o->service].epoch)))
			return true;
		return wrong(s, "%s/%u has failed after %" PRId64 " restarts with retries %" PRId64,
			     ds->spec->name, i->workload.index, i->node.restarts, ds->spec->retries);
	}
	return wrong(s, "%s/%u is left by rule %s", ds->spec->name, i->workload.index,
		     i->node.rule_name ? i->node.rule_name : "(none)");
}

static bool timer_above(const struct instance *i)
{
	for (const struct davit_node *p = &i->node; p; p = p->parent)
		if (davit_timer_active(&p->timer))
			return true;
	return false;
}

/* When all probes pass, what has checks passes them. */
static bool healthy(struct sim *s, const struct instance *i)
{
	const char *health = health_name(i);

	if (i->killed_for || i->op)
		return true;
	if (!health && i->service->spec->n_health && i->generation == i->service->generation)
		return wrong(s, "%s (%s) runs, and nobody looks after its health", i->workload.id,
			     i->service->spec->name);
	return !health || !strcmp(health, "healthy") ||
	       wrong(s, "%s (%s) is %s, though every probe passes", i->workload.id, i->service->spec->name,
		     health);
}

/* Is the state of what is to run one that its spec explains? */
static bool explained(struct sim *s, struct davit_service *ds, uint32_t k)
{
	const struct instance *i = ds->slots[k].current;
	DAVIT_AUTO_FREE char *why = NULL;

	if (!i)
		return wrong(s, "nothing is there for %s/%u", ds->spec->name, k);
	switch (i->node.state) {
	case DAVIT_NODE_RUNNING:
		if (i->state == DAVIT_STATE_STARTED && is_live(s, i))
			return healthy(s, i) &&
			       (i->ready || i->ready_timer || i->op || davit_timer_active(&i->again) ||
				wrong(s, "%s/%u is not ready, and nobody cares", ds->spec->name, k));
		return wrong(s, "%s/%u (%s) is not running, though the engine says so", ds->spec->name, k,
			     i->workload.id);
	case DAVIT_NODE_STARTING:
	case DAVIT_NODE_STOPPING:
		if (i->op || davit_timer_active(&i->again))
			return true;
		return wrong(s, "%s/%u (%s) is %s, and nothing is under way for it", ds->spec->name, k,
			     i->workload.id, davit_node_state_name(i->node.state));
	case DAVIT_NODE_WAITING:
		if (i->node.flags & NODE_HELD)
			return service_blocked(ds, &why) ||
			       wrong(s, "%s/%u is held back, and nothing holds it", ds->spec->name, k);
		if (timer_above(i) || !davit_list_empty(&i->node.queue) || supervised(i))
			return true;
		return wrong(s, "%s/%u waits for nothing", ds->spec->name, k);
	case DAVIT_NODE_COMPLETED:
	case DAVIT_NODE_FAILED:
		return explained_end(s, ds, i);
	case DAVIT_NODE_IDLE:
		break;
	}
	return supervised(i) || wrong(s, "%s/%u is wanted and idle", ds->spec->name, k);
}

/* Instances are of the generation that the spec says, or the update failed, or
 * one of the new ones is not ready yet. A replacement takes over or fails: only a
 * dependency, or a supervisor, holds it up. */
static bool updated(struct sim *s, struct davit_service *ds)
{
	bool old = false, busy = false;

	for (size_t k = 0; k < ds->n_slots; k++) {
		const struct instance *i = ds->slots[k].current, *next = ds->slots[k].next;
		old |= i && i->generation != ds->generation;
		busy |= next || !i || (i->generation == ds->generation && !i->ready);
		if (next && next->node.state != DAVIT_NODE_WAITING && !supervised(next))
			return wrong(s, "the replacement %s of %s/%zu is %s and does not take over",
				     next->workload.id, ds->spec->name, k,
				     davit_node_state_name(next->node.state));
	}
	if (!old || busy || ds->failed_generation == ds->generation)
		return true;
	return wrong(s, "%s was updated, and its instances were not", ds->spec->name);
}

static bool good(struct sim *s, int service)
{
	struct davit_service *ds = core_service(s, service);
	const struct sim_service *t = &s->services[service];
	DAVIT_AUTO_FREE char *json = ds ? davit_spec_json(ds->spec) : NULL;
	size_t live = live_of(s, service, INT64_MAX), ready = 0;
	const char *status;

	if (!t->json)
		return !ds && !live
			       ? true
			       : wrong(s, "%s was killed, but %s", t->name, live ? "runs" : "is not gone");
	if (!ds || ds->deleting)
		return wrong(s, "%s is recorded, but the core does not know it", t->name);
	if (strcmp(json, t->json) != 0)
		return wrong(s, "the core has another spec of %s than the store", t->name);
	if (ds->spec->stopped)
		return !live ? true : wrong(s, "%s was stopped, and runs", t->name);
	for (uint32_t k = 0; k < ds->n_slots; k++) {
		if (!explained(s, ds, k))
			return false;
		ready += ds->slots[k].current->state == DAVIT_STATE_STARTED && ds->slots[k].current->ready;
	}
	status = davit_service_status(ds);
	if (ready == ds->n_slots && ready && strcmp(status, "running") != 0)
		return wrong(s, "all of %s is ready, and its status is %s", t->name, status);
	return updated(s, ds);
}

/* Nothing runs but what is wanted. */
static bool no_strays(struct sim *s)
{
	for (size_t k = 0; k < s->n_instances; k++) {
		const struct sim_instance *i = s->instances[k];
		const struct instance *known = davit_map_get(&s->core->instances, i->id);
		const struct davit_service *ds = core_service(s, i->service);
		if (!i->there)
			continue;
		if (!known)
			return wrong(s, "an orphan: nobody knows %s of %s/%u", i->id,
				     s->services[i->service].name, i->index);
		if (!ds || i->index >= ds->n_slots ||
		    (ds->slots[i->index].current != known && ds->slots[i->index].next != known))
			return wrong(s, "%s of %s/%u has no place and is still there", i->id,
				     s->services[i->service].name, i->index);
	}
	return true;
}

/* In a seed without deaths, of a service left alone: to the number. */
static void check_retries(struct sim *s)
{
	for (size_t k = 0; k < s->n_instances; k++) {
		const struct sim_instance *i = s->instances[k];
		const struct sim_service *t = &s->services[i->service];
		const struct instance *known = davit_map_get(&s->core->instances, i->id);
		int64_t retries = known && known->service ? known->service->spec->retries : -1;
		if (!known || retries < 0 || !t->plain || i->epoch != t->epoch)
			continue;
		if (i->starts > retries + 1 + (s->deaths - i->deaths))
			sim_fail(s, "%s of %s/%u was started %u times with retries %" PRId64 " and %u deaths",
				 i->id, t->name, i->index, i->starts, retries, s->deaths - i->deaths);
		if (i->deaths == s->deaths && known->node.state == DAVIT_NODE_FAILED &&
		    is_rule(known, "retries") && i->starts != retries + 1)
			sim_fail(s, "%s of %s/%u has failed after %u starts with retries %" PRId64, i->id,
				 t->name, i->index, i->starts, retries);
	}
}

static bool all_good(struct sim *s)
{
	for (int k = 0; k < SIM_SERVICES; k++)
		if (!good(s, k))
			return false;
	return no_strays(s);
}

/* What is only on its way has its time; what stays wrong is wrong. */
static void until_good(struct sim *s, bool (*is_good)(struct sim *))
{
	sim_run_for(s, sim_between(s, 30, 60) * SEC);
	for (int n = 0; n < 10 && !s->failed; n++) {
		if (is_good(s))
			return;
		sim_run_for(s, sim_between(s, 1000, 60000) * MSEC);
	}
	if (!s->failed && !is_good(s))
		sim_fail(s, "%s", s->why_later);
}

void sim_check_quiet(struct sim *s)
{
	if (s->failed)
		return;
	until_good(s, all_good);
	if (!s->failed)
		check_retries(s);
}

static bool nothing_left(struct sim *s)
{
	size_t objects = davit_fake_world_objects(s->world);

	if (objects)
		return wrong(s, "everything was killed, and %zu objects are left", objects);
	if (s->core->instances.len || s->core->services.len)
		return wrong(s, "everything was killed, and the core knows %zu services and %zu instances",
			     s->core->services.len, s->core->instances.len);
	return davit_journal_idle(s->core->journal) || wrong(s, "the journal is not idle");
}

void sim_check_gone(struct sim *s)
{
	if (!s->failed)
		until_good(s, nothing_left);
}

/* --- the journal --- */

struct walk {
	struct sim *s;
	uint64_t last;
};

static bool look(void *user, uint64_t id, const char *json)
{
	struct walk *w = user;
	struct sim_instance *i;

	w->s->totals->events++;
	if (w->last && id != w->last + 1)
		sim_fail(w->s, "event %" PRIu64 " is followed by event %" PRIu64, w->last, id);
	w->last = id;
	i = exit_of(w->s, json);
	if (i)
		i->told++;
	return !w->s->failed;
}

/* Each end of a run has exactly one event. */
void sim_check_events(struct sim *s)
{
	struct walk w = {.s = s};
	struct davit_error err;

	if (s->failed)
		return;
	for (size_t k = 0; k < s->n_instances; k++)
		s->instances[k]->told = 0;
	if (davit_core_events(s->core, 0, 0, look, &w, &err) < 0)
		sim_fail(s, "the events cannot be read: %s", err.message);
	for (size_t k = 0; k < s->n_instances && !s->failed; k++) {
		const struct sim_instance *i = s->instances[k];
		if (i->told > i->exits)
			sim_fail(s, "%u events for the %u ends of %s of %s/%u", i->told, i->exits, i->id,
				 s->services[i->service].name, i->index);
		if (i->told + i->unheard < i->exits)
			sim_fail(s, "%u events for the %u ends of %s of %s/%u", i->told, i->exits, i->id,
				 s->services[i->service].name, i->index);
	}
}
