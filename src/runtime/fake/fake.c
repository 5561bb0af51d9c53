/* SPDX-License-Identifier: MIT
 *
 * The fake driver's table. Each operation takes its time (`step`), then works
 * on the object; what happens to objects by themselves is in object.c.
 */
#include "runtime/fake/fake_impl.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static const char *const operation_names[] = {
	[FAKE_CREATE] = "create", [FAKE_START] = "start", [FAKE_STOP] = "stop", [FAKE_REMOVE] = "remove"};

static struct fake_instance *state_of(struct davit_instance *inst)
{
	return davit_instance_state(inst);
}

/* --- the runtime --- */

static void on_adopt(struct davit_timer *t);

static void fake_open(struct davit_runtime *rt, struct davit_op *op)
{
	struct fake_runtime *f = davit_runtime_state(rt);
	struct davit_fake_world *w;
	struct davit_error err;

	if (rt->driver == &davit_fake_driver) {
		if (davit_fake_world_new(rt->loop, &w, &err) < 0) {
			davit_op_fail_error(op, &err);
			return;
		}
		w->owned = true;
		w->strict = false;
	} else {
		w = DAVIT_CONTAINER_OF(rt->driver, struct davit_fake_world, driver);
	}
	if (w->runtime) {
		davit_op_fail(op, DAVIT_EINUSE, "fake", "another runtime has this fake world open");
		return;
	}
	if (!w->reachable) {
		davit_op_fail(op, DAVIT_EUNAVAIL, "fake", "the fake platform does not answer");
		return;
	}
	w->runtime = rt;
	*f = (struct fake_runtime){.world = w};
	davit_timer_init(&f->adopt, rt->loop, on_adopt);
	fake_world_event(w, DAVIT_FAKE_OPENED, NULL);
	davit_op_complete(op, 0);
}

static void fake_capabilities(struct davit_runtime *rt, struct davit_capabilities *ret)
{
	static const enum davit_capability absent[] = {
		DAVIT_CAP_USER,	      DAVIT_CAP_DIRECTORY,	 DAVIT_CAP_RLIMITS,   DAVIT_CAP_VOLUMES,
		DAVIT_CAP_SECRETS,    DAVIT_CAP_SERVICE_ACCOUNT, DAVIT_CAP_CPU_LIMIT, DAVIT_CAP_PIDS_LIMIT,
		DAVIT_CAP_DISK_LIMIT, DAVIT_CAP_MEMORY_LIMIT,
	};

	memset(ret, 0, sizeof *ret);
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(absent); i++)
		snprintf(ret->why_not[absent[i]], sizeof ret->why_not[0], "nothing is executed by it");
	if (fake_world(rt)->owned)
		snprintf(ret->why_not[DAVIT_CAP_SURVIVE], sizeof ret->why_not[0],
			 "its instances are in the daemon's own memory");
	snprintf(ret->why_not[DAVIT_CAP_TERMINAL_KEPT], sizeof ret->why_not[0], "%s",
		 ret->why_not[DAVIT_CAP_SURVIVE]);
}

/* --- adopting --- */

static void adopt_cancel(struct davit_op *op, int why)
{
	struct fake_runtime *f = davit_runtime_state(op->performer);

	davit_timer_stop(&f->adopt);
	f->adopting = NULL;
	davit_op_complete(op, why);
}

static void fake_adopt(struct davit_runtime *rt, struct davit_op *op)
{
	struct fake_runtime *f = davit_runtime_state(rt);

	op->performer = rt;
	davit_op_on_cancel(op, adopt_cancel);
	f->adopting = op;
	if (davit_timer_start(&f->adopt, 0) < 0)
		adopt_cancel(op, DAVIT_ENOMEM);
}

static void on_adopt(struct davit_timer *t)
{
	struct fake_runtime *f = DAVIT_CONTAINER_OF(t, struct fake_runtime, adopt);
	struct davit_fake_world *w = f->world;
	struct davit_runtime *rt = w->runtime;
	struct davit_op *op = f->adopting;
	struct fake_object *o;

	if (!w->reachable) {
		f->adopting = NULL;
		davit_op_fail(op, DAVIT_EUNAVAIL, "fake", "the fake platform does not answer");
		return;
	}
	DAVIT_LIST_FOREACH (o, &w->list, list) {
		struct davit_found found = {.label = o->label};
		if (o->inst)
			continue; /* made since: the core has gone ahead */
		memcpy(found.id, o->id, sizeof found.id);
		fake_object_inspect(o, &found.now);
		o->inst = rt->events->found(rt, &found);
		if (w->runtime != rt)
			return; /* closed meanwhile, and op with it */
		if (!o->inst)
			continue;
		state_of(o->inst)->object = o;
		/* It has just been told all of the truth but for a lie. */
		o->untold_ready = o->untold_status = false;
		o->untold_exit &= o->lying;
	}
	f->adopting = NULL;
	davit_op_complete(op, 0);
}

/* --- operations --- */

/* Takes the operation off its object before it is completed. */
static struct davit_op *take(struct fake_object *o)
{
	davit_timer_stop(&o->step);
	return DAVIT_TAKE(o->op);
}

static bool fails(struct fake_object *o, enum fake_operation operation, int64_t *left, unsigned chance)
{
	if (operation == FAKE_CREATE && *left != INT64_MAX) {
		/* Each try is another object: what went before is with the log. */
		if (o->log->failed_creates >= *left)
			return o->script.random && fake_world_chance(o->world, chance);
		o->log->failed_creates++;
		return true;
	}
	if (*left > 0) {
		*left -= *left != INT64_MAX;
		return true;
	}
	return o->script.random && fake_world_chance(o->world, chance);
}

static bool failed(struct fake_object *o)
{
	const struct davit_fake_chances *c = &o->world->chances;
	const unsigned chances[] = {[FAKE_CREATE] = c->fail_create,
				    [FAKE_START] = c->fail_start,
				    [FAKE_STOP] = c->fail_stop,
				    [FAKE_REMOVE] = c->fail_remove};
	enum fake_operation operation = o->operation;

	if (!fails(o, operation, &o->script.failures[operation], chances[operation]))
		return false;
	davit_op_fail(take(o), DAVIT_EUNAVAIL, "fake", "the fake platform failed to %s it, as told",
		      operation_names[operation]);
	return true;
}

static void do_create(struct fake_object *o)
{
	if (failed(o)) {
		fake_object_free(o);
		return;
	}
	o->state = DAVIT_STATE_CREATED;
	fake_world_event(o->world, DAVIT_FAKE_CREATED, o);
	davit_op_complete(take(o), 0);
}

static void do_start(struct fake_object *o)
{
	if (failed(o))
		return;
	if (fails(o, FAKE_START, &o->script.exec_failures, o->world->chances.fail_exec)) {
		davit_op_fail(take(o), DAVIT_EEXEC, "command", "cannot execute '%s': no such program",
			      o->argv && o->argv[0] ? o->argv[0] : "");
		return;
	}
	davit_op_complete(o->op, fake_object_run(o));
	take(o);
}

static void do_stop(struct fake_object *o)
{
	if (failed(o))
		return;
	/* It may have ended while the operation was on its way. */
	if (o->state != DAVIT_STATE_STARTED && !o->untold_exit) {
		davit_op_complete(take(o), 0);
		return;
	}
	o->stopping = true;
	if (o->state == DAVIT_STATE_STARTED && fake_object_stop(o, &o->how) < 0) {
		davit_op_complete(take(o), DAVIT_ENOMEM);
		return;
	}
	o->lying = false;
	fake_object_tell(o);
}

static void do_remove(struct fake_object *o)
{
	if (failed(o))
		return;
	fake_world_event(o->world, DAVIT_FAKE_REMOVED, o);
	davit_op_complete(take(o), 0);
	fake_object_free(o);
}

static void on_step(struct davit_timer *t)
{
	static void (*const work[])(struct fake_object *) = {[FAKE_CREATE] = do_create,
							     [FAKE_START] = do_start,
							     [FAKE_STOP] = do_stop,
							     [FAKE_REMOVE] = do_remove};
	struct fake_object *o = DAVIT_CONTAINER_OF(t, struct fake_object, step);

	if (o->op && o->world->reachable) /* otherwise fake_operation_resume */
		work[o->operation](o);
}

void fake_operation_resume(struct fake_object *o)
{
	if (o->op && !(o->operation == FAKE_STOP && o->stopping))
		davit_timer_start(&o->step, 0);
}

void fake_operation_ended(struct fake_object *o)
{
	if (o->op && o->operation == FAKE_STOP && o->stopping)
		davit_op_complete(take(o), 0);
}

void fake_operation_vanished(struct fake_object *o)
{
	if (!o->op)
		return;
	if (o->operation == FAKE_START)
		davit_op_fail(take(o), DAVIT_ESTATE, "fake", "it was deleted from outside");
	else
		davit_op_complete(take(o), 0);
}

static void on_cancel(struct davit_op *op, int why)
{
	struct fake_object *o = op->performer;
	struct davit_exit killed = fake_exit_signal(SIGKILL, "");
	bool stop = o->operation == FAKE_STOP && o->state == DAVIT_STATE_STARTED && o->world->reachable;

	/* A stop that is given up kills at once, and completes with the end. */
	if (stop) {
		o->stopping = true;
		davit_timer_stop(&o->step);
		davit_timer_stop(&o->end);
		if (fake_object_end(o, 0, &killed) == 0)
			return;
	}
	davit_op_complete(take(o), why);
	if (o->state == DAVIT_STATE_DESTROYED)
		fake_object_free(o);
}

/* Puts the operation on its way. It must not find another there. */
static void begin(struct fake_object *o, enum fake_operation operation, struct davit_op *op)
{
	int64_t delay = operation == FAKE_STOP ? 0 : o->script.delay[operation];

	if (o->op) {
		fake_world_broken(o->world, o->id, "%s while a %s is under way", operation_names[operation],
				  operation_names[o->operation]);
		davit_op_fail(op, DAVIT_ESTATE, "fake", "cannot %s: a %s is under way",
			      operation_names[operation], operation_names[o->operation]);
		return;
	}
	if (o->script.random && fake_world_chance(o->world, o->world->chances.slow))
		delay += fake_world_upto(o->world, o->world->chances.max_delay);
	o->op = op;
	o->operation = operation;
	o->stopping = false;
	op->performer = o;
	davit_op_on_cancel(op, on_cancel);
	if (davit_timer_start(&o->step, delay) < 0)
		on_cancel(op, DAVIT_ENOMEM);
}

/* Refuses what the state machine refuses. */
static bool refused(enum davit_state state, enum davit_operation operation, struct davit_op *op)
{
	struct davit_error err;

	if (davit_state_check(state, operation, NULL, &err) == 0)
		return false;
	davit_op_fail_error(op, &err);
	return true;
}

static void fake_create(struct davit_instance *inst, struct davit_op *op)
{
	struct davit_fake_world *w = fake_world(inst->runtime);
	struct fake_object *o = davit_map_get(&w->objects, inst->workload->id);
	struct davit_error err;

	if (o && o->inst && o->inst != inst) {
		fake_world_broken(w, o->id, "two instances for one id");
		davit_op_fail(op, DAVIT_EEXIST, "fake", "there is another instance with the id %s", o->id);
		return;
	}
	if (o && o->op) {
		begin(o, FAKE_CREATE, op); /* refuses */
		return;
	}
	if (o) {
		if (refused(o->state, DAVIT_DO_CREATE, op))
			return;
		o->inst = inst;
		state_of(inst)->object = o;
		davit_op_complete(op, 0);
		return;
	}
	for (size_t i = 0; i < inst->workload->n_ports; i++)
		if (fake_world_port_taken(w, inst->workload->ports[i].host)) {
			davit_op_fail(op, DAVIT_EINUSE, "ports", "port %u is already in use",
				      inst->workload->ports[i].host);
			return;
		}
	if (!fake_has_image(w, inst->workload->image, &err) ||
	    fake_object_new(w, inst, on_step, &o, &err) < 0) {
		davit_op_fail_error(op, &err);
		return;
	}
	state_of(inst)->object = o;
	begin(o, FAKE_CREATE, op);
}

static void fake_start(struct davit_instance *inst, struct davit_op *op)
{
	struct fake_object *o = fake_object(inst);

	if (refused(o ? o->state : DAVIT_STATE_DESTROYED, DAVIT_DO_START, op))
		return;
	if (o->state == DAVIT_STATE_STARTED && !o->op) {
		fake_world_broken(o->world, o->id, "a start while run %u goes on", o->run);
		davit_op_complete(op, 0);
		return;
	}
	begin(o, FAKE_START, op);
}

static void fake_stop(struct davit_instance *inst, const struct davit_stop *how, struct davit_op *op)
{
	struct fake_object *o = fake_object(inst);

	if (!o || (o->state != DAVIT_STATE_STARTED && !o->untold_exit && !o->op)) {
		davit_op_complete(op, 0);
		return;
	}
	if (!o->op)
		o->how = *how;
	begin(o, FAKE_STOP, op);
}

static void fake_remove(struct davit_instance *inst, struct davit_op *op)
{
	struct fake_object *o = fake_object(inst);

	if (!o) {
		davit_op_complete(op, 0);
		return;
	}
	if (o->state == DAVIT_STATE_STARTED || o->untold_exit) {
		davit_op_fail(op, DAVIT_ESTATE, "fake", "cannot remove an instance that runs");
		return;
	}
	begin(o, FAKE_REMOVE, op);
}

/* A fake can carry anything, but only images that it has. */
static void fake_check(struct davit_runtime *rt, const struct davit_workload *w, struct davit_op *op)
{
	struct fake_script script;
	struct davit_error err;

	if (!fake_world(rt)->reachable) {
		davit_op_fail(op, DAVIT_EUNAVAIL, "fake", "the fake platform does not answer");
		return;
	}
	if (fake_script_parse(&script, w, &err) < 0 || !fake_has_image(fake_world(rt), w->image, &err))
		davit_op_fail_error(op, &err);
	else if (script.refused)
		davit_op_fail(op, DAVIT_EINVAL, "command", "the fake platform refuses it, as told");
	else if (!fake_has_image(fake_world(rt), w->image, &err))
		davit_op_fail_error(op, &err);
	else
		davit_op_complete(op, 0);
	fake_script_fini(&script);
}

static void fake_inspect(struct davit_instance *inst, struct davit_inspection *ret, struct davit_op *op)
{
	const struct fake_object *o = fake_object(inst);

	if (!fake_world(inst->runtime)->reachable) {
		davit_op_fail(op, DAVIT_EUNAVAIL, "fake", "the fake platform does not answer");
		return;
	}
	if (o)
		fake_object_inspect(o, ret);
	else
		*ret = (struct davit_inspection){.state = DAVIT_STATE_DESTROYED};
	davit_op_complete(op, 0);
}

/* --- closing --- */

/* What was asked for and not answered has reached the platform, or it has not:
 * with `random` nobody knows. */
static void settle(struct fake_object *o)
{
	bool arrived = !o->script.random || fake_world_chance(o->world, 500);

	davit_op_fail(take(o), DAVIT_ECLOSED, "fake", "the runtime was closed");
	switch (o->operation) {
	case FAKE_CREATE:
		if (!arrived) {
			fake_object_free(o);
			return;
		}
		o->state = DAVIT_STATE_CREATED;
		fake_world_event(o->world, DAVIT_FAKE_CREATED, o);
		return;
	case FAKE_START:
		if (arrived)
			fake_object_run(o);
		return;
	case FAKE_STOP:
		if (arrived && !o->stopping && o->state == DAVIT_STATE_STARTED)
			fake_object_stop(o, &o->how);
		return;
	default:
		if (arrived) {
			fake_world_event(o->world, DAVIT_FAKE_REMOVED, o);
			fake_object_free(o);
		}
	}
}

static void fake_close(struct davit_runtime *rt)
{
	struct fake_runtime *f = davit_runtime_state(rt);
	struct davit_fake_world *w = f->world;
	struct fake_object *o, *tmp;
	size_t pos = 0;
	void *log;

	if (f->adopting) {
		davit_timer_stop(&f->adopt);
		davit_op_fail(DAVIT_TAKE(f->adopting), DAVIT_ECLOSED, "fake", "the runtime was closed");
	}
	fake_exec_end(w, NULL);
	fake_terminals_detach(w);
	fake_streams_end(w);
	while (davit_map_next(&w->logs, &pos, NULL, &log))
		fake_log_detach(log);
	DAVIT_LIST_FOREACH_SAFE (o, tmp, &w->list, list) {
		if (o->inst)
			state_of(o->inst)->object = NULL;
		o->inst = NULL;
		if (o->op)
			settle(o);
	}
	w->runtime = NULL;
	fake_world_event(w, DAVIT_FAKE_CLOSED, NULL);
	if (w->owned)
		davit_fake_world_free(w);
}

const struct davit_runtime_driver davit_fake_driver = {
	.abi = DAVIT_RUNTIME_ABI,
	.name = "fake",
	.summary = "scripted instances that run nothing, for tests and simulation",
	.runtime_size = sizeof(struct fake_runtime),
	.instance_size = sizeof(struct fake_instance),
	.open = fake_open,
	.close = fake_close,
	.capabilities = fake_capabilities,
	.adopt = fake_adopt,
	.check = fake_check,
	.create = fake_create,
	.start = fake_start,
	.stop = fake_stop,
	.remove = fake_remove,
	.inspect = fake_inspect,
	.logs = &fake_logs,
	.exec = &fake_exec,
	.stats = &fake_stats,
	.signal = &fake_signal,
	.ports = &fake_ports,
	.terminal = &fake_terminal,
	.pause = &fake_pause,
	.copy = &fake_copy,
	.images = &fake_images,
	.volumes = &fake_volumes,
	.networks = &fake_networks,
};
