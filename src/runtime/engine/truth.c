/* SPDX-License-Identifier: MIT
 *
 * What is so, and telling the core what changed. Events of the engine say only
 * that something happened; what did is asked for, so that an event that is late,
 * doubled or lost does no harm.
 */
#include "runtime/engine/impl.h"

#include <stdio.h>
#include <string.h>

/* How often, and how many times, an engine that told an end and still says that
 * the container runs is asked again. */
#define EYE_PAUSE (20 * DAVIT_NSEC_PER_MSEC)
#define EYE_TIMES 250

static void on_eye(struct davit_timer *t)
{
	container_look(DAVIT_CONTAINER_OF(t, struct engine_instance, eye)->inst);
}

int container_add(struct davit_instance *inst, const char *id, const char *container)
{
	struct engine_instance *ei = engine_instance(inst);

	snprintf(ei->id, sizeof ei->id, "%s", id);
	snprintf(ei->container, sizeof ei->container, "%s", container);
	if (davit_map_put(&engine_of(inst->runtime)->instances, ei->id, inst) < 0)
		return DAVIT_ENOMEM;
	ei->inst = inst;
	ei->state = DAVIT_STATE_CREATED;
	davit_timer_init(&ei->eye, inst->runtime->loop, on_eye);
	local_ports_claim(&engine_of(inst->runtime)->ports, inst->workload->ports, inst->workload->n_ports,
			  false);
	return 0;
}

static void settled(struct engine *e, struct engine_instance *ei)
{
	if (!ei->settling)
		return;
	ei->settling = false;
	e->unsettled--;
	engine_settled(e);
}

void container_forget(struct davit_instance *inst)
{
	struct engine *e = engine_of(inst->runtime);
	struct engine_instance *ei = engine_instance(inst);
	struct task *task = ei->task;

	if (!ei->inst)
		return;
	davit_timer_stop(&ei->eye);
	http_cancel(ei->fresh);
	davit_map_remove(&e->instances, ei->id);
	local_ports_release(&e->ports, inst->workload->ports, inst->workload->n_ports);
	settled(e, ei);
	free(ei->search_path);
	*ei = (struct engine_instance){.task = task};
}

static void tell_exit(struct davit_instance *inst, const struct davit_exit *exit)
{
	struct engine_instance *ei = engine_instance(inst);
	struct davit_exit e = *exit;

	if (ei->runs.run <= ei->told)
		return;
	if (!e.time)
		e.time = davit_loop_wall(inst->runtime->loop);
	ei->told = ei->runs.run;
	ei->state = DAVIT_STATE_STOPPED;
	ei->exit = e;
	ei->pid = 0;
	ei->paused = false;
	ei->died = 0;
	davit_timer_stop(&ei->eye);
	/* Completes from the loop, so `exited` comes first all the same. */
	life_ended(inst);
	inst->runtime->events->exited(inst, ei->told, &e);
}

/* An end whose container cannot be asked any more. */
static void tell_unseen(struct davit_instance *inst, const char *reason)
{
	struct engine_instance *ei = engine_instance(inst);
	struct davit_exit exit = {.kind = DAVIT_EXIT_UNKNOWN};

	if (ei->died)
		observe_exit(ei->died_code, false, ei->died, &exit);
	else
		snprintf(exit.reason, sizeof exit.reason, "%s", reason);
	tell_exit(inst, &exit);
}

void container_gone(struct davit_instance *inst, const char *reason)
{
	struct engine_instance *ei = engine_instance(inst);

	if (ei->starting || ei->removing) {
		ei->look_again = true; /* whoever does that finds out */
		return;
	}
	if (ei->died)
		tell_unseen(inst, reason);
	life_ended(inst);
	runs_forget(inst->runtime->state_dir, ei->id);
	container_forget(inst);
	inst->runtime->events->vanished(inst, reason);
}

/* Somebody else started it, or it was us and the answer did not arrive. */
static void uncounted_start(struct davit_instance *inst, const struct runs *before)
{
	struct engine_instance *ei = engine_instance(inst);
	struct runs now = ei->runs;

	ei->runs = *before;
	tell_unseen(inst, "it was started again, and not by davit");
	ei->runs = now;
	ei->died = 0;
	ei->asked = now.started;
	/* What cannot be written makes a later davitd count one less. */
	runs_begin(inst->runtime->state_dir, ei->id, before, NULL);
}

void container_observed(struct davit_instance *inst, const struct observation *seen)
{
	struct engine_instance *ei = engine_instance(inst);
	struct runs before = ei->runs;

	if (ei->starting) {
		ei->look_again = true;
		return;
	}
	/* It ended and was started again by somebody else before we learnt when it began. */
	if (ei->runs.run && !ei->runs.started && ei->died && seen->started > ei->died)
		ei->runs.started = before.started = ei->asked;
	if (runs_learn(&ei->runs, seen->started))
		uncounted_start(inst, &before);
	if (seen->state == DAVIT_STATE_STARTED && ei->runs.run > ei->told) {
		ei->state = DAVIT_STATE_STARTED;
		ei->pid = seen->pid;
		ei->paused = seen->paused;
		/* The end of this run was told, and does not show yet. */
		if (ei->died >= seen->started && ei->died && ei->patience++ < EYE_TIMES)
			davit_timer_start(&ei->eye, EYE_PAUSE);
	} else if (seen->state == DAVIT_STATE_STOPPED && ei->runs.run > ei->told) {
		tell_exit(inst, &seen->exit);
	}
}

void container_describe(struct davit_instance *inst, const struct observation *seen,
			struct davit_inspection *ret)
{
	struct engine_instance *ei = engine_instance(inst);

	*ret = (struct davit_inspection){.state = ei->state,
					 .run = ei->runs.run,
					 .pid = ei->state == DAVIT_STATE_STARTED ? ei->pid : 0,
					 .started = ei->runs.started,
					 .paused = ei->paused};
	if (ei->state == DAVIT_STATE_STOPPED)
		ret->exit = ei->exit;
	if (seen)
		memcpy(ret->address, seen->address, sizeof ret->address);
}

static void on_look(struct http_call *c, const struct davit_error *err)
{
	struct davit_instance *inst = c->user;
	struct engine *e = engine_of(inst->runtime);
	struct engine_instance *ei = engine_instance(inst);
	struct observation seen;
	json_t *o;
	bool again = ei->look_again;

	ei->fresh = NULL;
	ei->look_again = false;
	if (err && err->code == DAVIT_ENOENT) {
		container_gone(inst, "the engine does not have it any more");
		return;
	}
	o = err ? NULL : http_answer(c);
	if (o && observe(o, &seen, NULL) == 0)
		container_observed(inst, &seen);
	json_decref(o);
	if (again && !err)
		container_look(inst);
	else
		settled(e, ei);
}

void container_look_soon(struct davit_instance *inst)
{
	struct engine_instance *ei = engine_instance(inst);

	if (ei->inst && davit_timer_start(&ei->eye, 0) < 0)
		container_look(inst);
}

void container_look(struct davit_instance *inst)
{
	struct engine_instance *ei = engine_instance(inst);
	struct engine *e = engine_of(inst->runtime);
	struct http_call *c;

	if (ei->fresh || ei->starting || ei->removing) {
		ei->look_again = true;
		return;
	}
	c = http_new(&e->calls, "GET", "/containers/%s/json", ei->container);
	if (c) {
		c->user = inst;
		c->done = on_look;
	}
	if (c && http_send(c, NULL) == 0)
		ei->fresh = c;
	else /* no memory now: later */
		davit_timer_start(&ei->eye, DAVIT_NSEC_PER_SEC);
}
