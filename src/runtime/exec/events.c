/* SPDX-License-Identifier: MIT
 *
 * What the peer tells of instances, unasked or after a restart.
 */
#include "runtime/exec/impl.h"

#include <stdio.h>
#include <string.h>

/* Tells an end, once for each run, and lets a stop complete. */
static void instance_ended(struct davit_instance *inst, uint32_t run, const struct davit_exit *exit)
{
	struct exec_instance *x = exec_instance(inst);
	struct davit_exit e = *exit;

	if (run <= x->told)
		return; /* told already: it may have been said before a restart */
	if (run > x->run && x->busy && !x->busy->answered) {
		/* The start that it belongs to is not answered yet. */
		x->held = *exit;
		x->held_run = run;
		return;
	}
	x->told = run;
	if (run > x->run)
		x->run = run;
	if (!e.time)
		e.time = davit_loop_wall(inst->runtime->loop);
	/* Completes in a later call, so `exited` comes first all the same. */
	request_run_ended(inst);
	inst->runtime->events->exited(inst, run, &e);
}

static void on_release(struct davit_deferred *d)
{
	struct exec_instance *x = DAVIT_CONTAINER_OF(d, struct exec_instance, release);
	struct davit_exit exit = x->held;

	instance_ended(x->inst, x->held_run, &exit);
}

int instance_add(struct davit_instance *inst)
{
	struct exec_instance *x = exec_instance(inst);
	int r = davit_map_put(&exec_runtime(inst->runtime)->instances, inst->workload->id, inst);

	if (r == 0) {
		x->inst = inst;
		davit_deferred_init(&x->release, inst->runtime->loop, on_release);
	}
	return r;
}

void instance_forget(struct davit_instance *inst)
{
	struct exec_instance *x = exec_instance(inst);

	if (!x->inst)
		return;
	davit_deferred_cancel(&x->release);
	davit_map_remove(&exec_runtime(inst->runtime)->instances, inst->workload->id);
	*x = (struct exec_instance){.busy = x->busy};
}

static void became_ready(struct davit_instance *inst)
{
	struct exec_instance *x = exec_instance(inst);

	if (x->ready)
		return;
	x->ready = true;
	inst->runtime->events->ready(inst);
}

static void vanished(struct davit_instance *inst, const char *reason)
{
	request_run_ended(inst);
	instance_forget(inst);
	inst->runtime->events->vanished(inst, reason);
}

int event_handle(struct exec_runtime *e, const json_t *m, struct davit_error *err)
{
	const char *event, *id, *text = "";
	struct davit_instance *inst;
	struct davit_exit exit = {0};
	int64_t run = 0;
	int r = wire_get_string(m, "event", &event, err);

	if (r == 0)
		r = wire_get_string(m, "instance", &id, err);
	if (r < 0)
		return r;
	if (json_object_get(m, "channel"))
		return channel_event(e, event, m, err);
	inst = davit_map_get(&e->instances, id);
	if (!strcmp(event, "exited")) {
		r = wire_get_int(m, "run", 1, UINT32_MAX, &run, err);
		if (r == 0)
			r = wire_get_exit(m, "exit", &exit, err);
		if (r == 0 && exit.kind == DAVIT_EXIT_NONE)
			r = davit_error_set(err, DAVIT_EPROTO, "exit", "the event 'exited' needs an exit");
		if (r == 0 && inst)
			instance_ended(inst, (uint32_t)run, &exit);
	} else if (!strcmp(event, "ready")) {
		if (inst)
			became_ready(inst);
	} else if (!strcmp(event, "status")) {
		r = wire_get_string(m, "text", &text, err);
		if (r == 0 && inst)
			inst->runtime->events->status(inst, text);
	} else if (!strcmp(event, "vanished")) {
		r = wire_get_string(m, "reason", &text, err);
		if (r == 0 && inst)
			vanished(inst, *text ? text : "it is gone");
	} else {
		r = davit_error_set(err, DAVIT_EPROTO, "event", "there is no event '%.40s'", event);
	}
	return r;
}

/* --- lists of instances --- */

static int get_found(const json_t *o, struct davit_found *ret, struct davit_error *err)
{
	const char *id = "";
	int r = wire_get_string(o, "id", &id, err);

	if (r == 0 && (!*id || strlen(id) >= sizeof ret->id))
		r = davit_error_set(err, DAVIT_EPROTO, "id", "an instance needs an id as it was given");
	if (r == 0)
		r = wire_get_string(o, "label", &ret->label, err);
	if (r == 0)
		r = wire_get_inspection(o, &ret->now, err);
	if (r == 0)
		snprintf(ret->id, sizeof ret->id, "%s", id);
	return r;
}

static int get_list(const json_t *result, const json_t **ret, struct davit_error *err)
{
	struct davit_found found;
	const json_t *list = json_object_get(result, "instances"), *o;
	size_t i;

	if (!json_is_array(list))
		return davit_error_set(err, DAVIT_EPROTO, "instances",
				       "the answer to adopt must have an array 'instances'");
	json_array_foreach(list, i, o)
	{
		int r = get_found(o, &found, err);
		if (r < 0)
			return r;
	}
	*ret = list;
	return 0;
}

static void learn(struct davit_instance *inst, const struct davit_inspection *now)
{
	struct exec_instance *x = exec_instance(inst);

	x->run = now->run;
	x->told = now->state == DAVIT_STATE_STARTED ? now->run - 1 : now->run;
	x->ready = now->ready;
}

int instances_found(struct request *q, const json_t *result, struct davit_error *err)
{
	struct davit_runtime *rt = q->e->rt;
	struct davit_instance *inst;
	struct davit_found found;
	const json_t *list, *o;
	size_t i;
	int r = get_list(result, &list, err);

	if (r < 0)
		return r;
	json_array_foreach(list, i, o)
	{
		get_found(o, &found, err);
		if (davit_map_get(&q->e->instances, found.id))
			continue; /* made since */
		inst = rt->events->found(rt, &found);
		if (!inst)
			continue;
		r = instance_add(inst);
		if (r < 0)
			return davit_error_set(err, r, NULL, "out of memory");
		learn(inst, &found.now);
	}
	return 0;
}

static const json_t *find_by_id(const json_t *list, const char *id)
{
	const json_t *o;
	size_t i;

	json_array_foreach(list, i, o) if (!strcmp(json_string_value(json_object_get(o, "id")), id)) return o;
	return NULL;
}

int instances_reconcile(struct request *q, const json_t *result, struct davit_error *err)
{
	struct davit_found found;
	struct davit_instance *inst;
	const json_t *list, *o;
	size_t pos = 0;
	void *value;
	int r = get_list(result, &list, err);

	if (r < 0)
		return r;
	while (davit_map_next(&q->e->instances, &pos, NULL, &value)) {
		inst = value;
		o = find_by_id(list, inst->workload->id);
		if (!o) {
			vanished(inst, "it ended with the runtime's program");
			continue;
		}
		get_found(o, &found, err);
		if (found.now.ready && found.now.state == DAVIT_STATE_STARTED)
			became_ready(inst);
		if (found.now.state == DAVIT_STATE_STOPPED)
			instance_ended(inst, found.now.run, &found.now.exit);
		else if (found.now.run > exec_instance(inst)->run)
			learn(inst, &found.now);
	}
	return 0;
}
