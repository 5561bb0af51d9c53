/* SPDX-License-Identifier: MIT
 *
 * What a service wants against what it has: starts what is missing, replaces
 * what is of an older generation, ends what is too much. Called for one service
 * at a time, whenever something about it changed.
 */
#include "core/core_impl.h"

#include "base/log.h"

#include <stdio.h>
#include <string.h>

void service_restart_rule(const struct davit_service *s, struct davit_restart_rule *ret)
{
	*ret = (struct davit_restart_rule){
		.policy = s->spec->restart,
		.retries = s->spec->retries,
		.backoff = s->spec->backoff,
	};
}

static void set_error(struct davit_service *s, const char *text)
{
	free(s->error);
	s->error = text ? strdup(text) : NULL;
}

/* --- dependencies --- */

static bool satisfied(const struct davit_service *dep, enum davit_condition condition)
{
	size_t ready = 0, started = 0, completed = 0;

	for (size_t k = 0; k < dep->n_slots; k++) {
		const struct instance *i = dep->slots[k].current;
		if (!i)
			continue;
		started += i->run > 0 && (i->state == DAVIT_STATE_STARTED || i->exit_run > 0);
		ready += i->state == DAVIT_STATE_STARTED && i->ready;
		completed += i->node.state == DAVIT_NODE_COMPLETED;
	}
	switch (condition) {
	case DAVIT_CONDITION_STARTED:
		return started > 0;
	case DAVIT_CONDITION_READY:
		return ready > 0 && ready >= (size_t)dep->spec->instances;
	case DAVIT_CONDITION_COMPLETED:
		return completed > 0 && completed >= (size_t)dep->spec->instances;
	}
	return false;
}

static const char *const condition_names[] = {
	[DAVIT_CONDITION_STARTED] = "started",
	[DAVIT_CONDITION_READY] = "ready",
	[DAVIT_CONDITION_COMPLETED] = "completed",
};

/* "name", "name:version" or "namespace/name:version"; the first match is meant
 * where no version is given. */
struct davit_service *service_resolve(struct davit_core *c, const char *ref, const char *ns)
{
	DAVIT_AUTO_FREE char *copy = strdup(ref);
	char *name = copy, *slash, *colon;
	struct service_name *versions;
	struct davit_service *s;

	if (!copy)
		return NULL;
	slash = strchr(copy, '/');
	colon = strchr(copy, ':');
	if (slash && (!colon || slash < colon)) {
		*slash = '\0';
		ns = copy;
		name = slash + 1;
	}
	if (colon) {
		*colon = '\0';
		return registry_service(c, ns, name, colon + 1);
	}
	s = registry_service(c, ns, name, "latest");
	versions = s ? NULL : registry_name(c, ns, name);
	return versions ? DAVIT_LIST_FIRST(&versions->services, struct davit_service, same_name) : s;
}

bool service_blocked(struct davit_service *s, char **ret_why)
{
	struct davit_core *c = s->core;
	const char *name = s->spec->runtime ? s->spec->runtime : c->config.default_runtime;
	struct core_runtime *r = core_runtime_find(c, name);
	int n = -1;

	if (r && (r->phase == RUNTIME_OPENING || r->phase == RUNTIME_ADOPTING)) {
		n = asprintf(ret_why, "runtime %s is being opened", name);
	} else if (r && r->phase != RUNTIME_OPEN) {
		n = asprintf(ret_why, "runtime %s is not available: %s", name, r->error.message);
	} else {
		for (size_t k = 0; k < s->spec->n_depends && n < 0; k++) {
			const struct davit_dependency *d = &s->spec->depends[k];
			struct davit_service *dep = service_resolve(c, d->service, s->spec->namespace_);
			if (!dep || dep->deleting)
				n = asprintf(ret_why, "it depends on '%s', which does not exist", d->service);
			else if (!satisfied(dep, d->condition))
				n = asprintf(ret_why, "it depends on '%s', which is not %s yet", d->service,
					     condition_names[d->condition]);
		}
	}
	if (n < 0)
		*ret_why = NULL;
	return n >= 0;
}

/* --- instances --- */

static void drop(struct slot *slot)
{
	struct instance *i = slot->current, *next = slot->next;

	slot->current = slot->next = NULL;
	if (next)
		instance_set_goal(next, GOAL_GONE);
	if (i)
		instance_set_goal(i, GOAL_GONE);
}

static int resize(struct davit_service *s, size_t want)
{
	size_t keep = want;
	struct slot *slots;

	for (size_t k = want; k < s->n_slots; k++)
		drop(&s->slots[k]);
	if (want > s->n_slots) {
		slots = realloc(s->slots, want * sizeof *slots);
		if (!slots)
			return DAVIT_ENOMEM;
		memset(slots + s->n_slots, 0, (want - s->n_slots) * sizeof *slots);
		s->slots = slots;
	}
	s->n_slots = keep;
	return 0;
}

static struct instance *launch(struct davit_service *s, uint32_t index, bool replacement)
{
	struct davit_error err;
	struct instance *i = instance_new(s, index, false, &err);

	if (!i) {
		set_error(s, err.message);
		core_service_changed(s);
		return NULL;
	}
	if (replacement) {
		/* One attempt: what is not ready by itself does not take over. */
		struct davit_restart_rule once = {.policy = DAVIT_RESTART_NEVER, .retries = 0};
		davit_supervise_set_restart(&i->node, &once);
		i->replacement = true;
	}
	davit_supervise_start(&i->node);
	return i;
}

static bool has_fixed_port(const struct davit_spec *spec)
{
	for (size_t k = 0; k < spec->n_ports; k++)
		if (spec->ports[k].host)
			return true;
	return false;
}

static bool serves(const struct instance *i)
{
	return i->state == DAVIT_STATE_STARTED && i->goal == GOAL_RUN;
}

/* Where something is still being stopped: a place is filled when it is free. */
static void mark_leaving(struct davit_service *s)
{
	const struct instance *i;

	for (size_t k = 0; k < s->n_slots; k++)
		s->slots[k].leaving = false;
	DAVIT_LIST_FOREACH (i, &s->leaving, leaving)
		if (!i->is_build && i->workload.index < s->n_slots)
			s->slots[i->workload.index].leaving = true;
	DAVIT_LIST_FOREACH (i, &s->core->orphans, leaving)
		if (!i->is_build && i->workload.index < s->n_slots && i->orphan_of &&
		    !strcmp(i->orphan_of, s->key))
			s->slots[i->workload.index].leaving = true;
}

/* The update of this place is done: the old one goes. */
static void replace(struct davit_service *s, struct slot *slot)
{
	struct instance *old = slot->current, *i = slot->next;
	struct davit_restart_rule rule;

	slot->current = i;
	slot->next = NULL;
	i->replacement = false;
	service_restart_rule(s, &rule);
	davit_supervise_set_restart(&i->node, &rule);
	instance_write_record(i);
	set_error(s, NULL);
	if (old)
		instance_set_goal(old, GOAL_GONE);
}

/* Stopped along with others by a supervisor that supervises again since. */
static bool left_behind(const struct davit_node *leaf)
{
	for (const struct davit_node *p = leaf->parent; p; p = p->parent)
		if (p->state != DAVIT_NODE_RUNNING)
			return false;
	return true;
}

/* A replacement that nobody would hear of any more: it was ready when the daemon
 * came back, or it ended with a group or before the daemon came back. */
static void settle_next(struct davit_service *s, struct slot *slot)
{
	struct instance *next = slot->next;
	enum davit_node_state state = next->node.state;

	if (next->ready && serves(next)) {
		replace(s, slot);
		return;
	}
	if (next->op || next->reporting || next->wait.active || next->state == DAVIT_STATE_STARTED ||
	    (state != DAVIT_NODE_IDLE && state != DAVIT_NODE_COMPLETED && state != DAVIT_NODE_FAILED) ||
	    !left_behind(&next->node))
		return;
	if (next->exit_run && next->pending_cause != DAVIT_CAUSE_STOPPED) {
		service_update_failed(s, next, "it ended before it was ready");
		return;
	}
	/* It was merely stopped: another is tried. */
	slot->next = NULL;
	instance_set_goal(next, GOAL_GONE);
	core_service_dirty(s);
}

/* Replaces instances of older generations, at most `parallel` at a time. */
static void roll(struct davit_service *s)
{
	/* A host port that the user fixed cannot be had twice. */
	bool start_first = s->spec->update_order == DAVIT_UPDATE_START_FIRST && !has_fixed_port(s->spec);
	int64_t busy = 0;

	if (s->failed_generation == s->generation)
		return;
	for (size_t k = 0; k < s->n_slots; k++) {
		const struct slot *slot = &s->slots[k];
		busy += slot->next || !slot->current ||
			(slot->current->generation == s->generation && !slot->current->ready &&
			 slot->current->node.state != DAVIT_NODE_COMPLETED);
	}
	for (size_t k = 0; k < s->n_slots; k++) {
		struct slot *slot = &s->slots[k];
		if (!slot->current || slot->current->generation == s->generation) {
			if (slot->next && slot->next->generation != s->generation) {
				instance_set_goal(slot->next, GOAL_GONE);
				slot->next = NULL;
			}
			continue;
		}
		if (slot->next && slot->next->generation != s->generation) {
			instance_set_goal(slot->next, GOAL_GONE);
			slot->next = NULL;
		}
		if (slot->next) {
			settle_next(s, slot);
			continue;
		}
		if (slot->leaving || busy >= s->spec->update_parallel)
			continue;
		busy++;
		if (start_first && serves(slot->current))
			slot->next = launch(s, (uint32_t)k, true);
		else
			drop(slot); /* its place is filled when it is gone */
	}
}

void service_instance_ready(struct davit_service *s, struct instance *i)
{
	struct slot *slot = i->workload.index < s->n_slots ? &s->slots[i->workload.index] : NULL;

	core_service_dirty(s);
	if (slot && slot->next == i)
		replace(s, slot);
}

void service_update_failed(struct davit_service *s, struct instance *i, const char *why)
{
	struct slot *slot = i->workload.index < s->n_slots ? &s->slots[i->workload.index] : NULL;
	char text[512];

	snprintf(text, sizeof text, "update failed, the earlier version goes on: %s", why);
	set_error(s, text);
	s->failed_generation = i->generation;
	core_event(s->core, "update-failed", s, i, "%s", why);
	if (slot && slot->next == i)
		slot->next = NULL;
	instance_set_goal(i, GOAL_GONE);
	core_service_changed(s);
}

void service_instance_gone(struct davit_service *s, struct instance *i)
{
	for (size_t k = 0; k < s->n_slots; k++) {
		if (s->slots[k].current == i)
			s->slots[k].current = NULL;
		if (s->slots[k].next == i)
			s->slots[k].next = NULL;
	}
	if (s->build == i)
		s->build = NULL;
	core_service_dirty(s);
	core_service_changed(s);
}

void service_instance_unknown(struct davit_service *s, struct instance *i)
{
	struct slot *slot = i->workload.index < s->n_slots ? &s->slots[i->workload.index] : NULL;

	core_service_dirty(s);
	if (slot && slot->current == i && slot->next) {
		replace(s, slot); /* ready or not: there is nothing to go back to */
		return;
	}
	if (slot && slot->current == i)
		slot->current = NULL;
	if (slot && slot->next == i)
		slot->next = NULL;
	instance_set_goal(i, GOAL_GONE);
}

/* --- the whole --- */

static void finish_delete(struct davit_service *s)
{
	struct davit_journal *j = s->core->journal;
	DAVIT_AUTO_FREE char *built = NULL;

	if (asprintf(&built, "built/%s", s->key) >= 0)
		davit_journal_write(j, built, NULL);
	build_forget(s);
	core_service_gone(s);
	registry_service_free(s);
}

static void reconcile_deleting(struct davit_service *s)
{
	for (size_t k = 0; k < s->n_slots; k++)
		drop(&s->slots[k]);
	if (s->build) {
		struct instance *b = s->build;
		s->build = NULL;
		instance_set_goal(b, GOAL_GONE);
	}
	if (!s->alive)
		finish_delete(s);
}

static uint64_t generation_of(const struct davit_service *s)
{
	return davit_spec_hash(s->spec) ^ (uint64_t)s->nonce * UINT64_C(0x9e3779b97f4a7c15) ^
	       egress_generation(s->core, s->spec) ^
	       (build_needed(s) && s->built ? s->built->source_hash : 0);
}

static bool built_already(const struct davit_service *s)
{
	return !build_needed(s) || (s->built && s->built->source_hash == build_source_hash(s));
}

void service_prepare(struct davit_service *s)
{
	if (resize(s, (size_t)s->spec->instances) < 0)
		set_error(s, "out of memory");
	/* What runs a program is known at once, also to a daemon that finds it running. */
	if (!s->settled && s->build_phase == BUILD_NONE && !built_already(s))
		build_use_program(s);
	if (!s->settled && built_already(s)) {
		s->build_phase = build_needed(s) ? BUILD_DONE : BUILD_NONE;
		s->generation = generation_of(s);
		s->settled = true;
	}
}

/* Makes sure that what is to run is known: true when it is. */
static bool settle(struct davit_service *s)
{
	uint64_t source;

	service_prepare(s);
	if (s->settled)
		return true;
	if (build_must_wait(s))
		return false;
	source = build_source_hash(s);
	if (s->build_phase == BUILD_RUNNING && s->build && s->build->generation == source)
		return false;
	if (s->build_phase == BUILD_FAILED && s->failed_source == source)
		return false;
	build_begin(s);
	service_prepare(s);
	return s->settled;
}

/* Rules of the spec that can change without a replacement. */
static void refresh_rules(struct davit_service *s)
{
	struct davit_restart_rule rule;

	service_restart_rule(s, &rule);
	for (size_t k = 0; k < s->n_slots; k++)
		if (s->slots[k].current && s->slots[k].current->leaf)
			davit_supervise_set_restart(&s->slots[k].current->node, &rule);
}

/* Also what was adopted since, from a runtime that came late. */
static void stop(struct davit_service *s)
{
	bool wanted = !s->was_stopped;

	for (size_t k = 0; k < s->n_slots; k++) {
		if (s->slots[k].next)
			instance_set_goal(DAVIT_TAKE(s->slots[k].next), GOAL_GONE);
		wanted |= s->slots[k].current && s->slots[k].current->node.wanted;
	}
	if (wanted)
		davit_supervise_stop(&s->node);
	s->was_stopped = true;
}

void service_reconcile(struct davit_service *s)
{
	struct davit_core *c = s->core;

	if (c->stopping_all || c->start_op)
		return;
	if (s->deleting) {
		reconcile_deleting(s);
		return;
	}
	service_prepare(s);
	refresh_rules(s);
	if (s->spec->stopped) {
		stop(s);
		return;
	}
	if (s->was_stopped) {
		s->was_stopped = false;
		for (size_t k = 0; k < s->n_slots; k++)
			if (s->slots[k].current)
				davit_supervise_start(&s->slots[k].current->node);
	}
	if (!settle(s))
		return;
	mark_leaving(s);
	for (size_t k = 0; k < s->n_slots; k++) {
		struct slot *slot = &s->slots[k];
		if (!slot->current && !slot->next && !slot->leaving)
			slot->current = launch(s, (uint32_t)k, false);
		else if (slot->current && slot->current->node.state == DAVIT_NODE_IDLE &&
			 (!slot->current->node.wanted || left_behind(&slot->current->node)))
			/* Adopted before its first start, or in the midst of a restart. */
			davit_supervise_start(&slot->current->node);
	}
	roll(s);
}
