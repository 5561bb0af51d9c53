/* SPDX-License-Identifier: MIT
 *
 * One instance on its way to its goal. The supervision engine sets the goal;
 * instance_step issues the next operation of the driver whenever none is under
 * way, by the state table; completions and events lead back to instance_step.
 */
#include "core/instance_op.h"

#include "base/fault.h"
#include "base/log.h"
#include "base/strv.h"
#include "base/units.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define OPERATION_TIMEOUT (60 * DAVIT_NSEC_PER_SEC)

static void done(struct davit_op *op, int result);

/* --- operations of the driver --- */

static struct davit_stop how_to_stop(const struct instance *i)
{
	const struct davit_spec *spec = i->service ? i->service->spec : NULL;

	if (!spec || i->is_build)
		return (struct davit_stop){SIGTERM, 10 * DAVIT_NSEC_PER_SEC};
	return (struct davit_stop){spec->stop_signal, spec->stop_grace};
}

static void begin(struct instance *i, enum instance_op_kind kind)
{
	const struct davit_runtime_driver *driver = i->runtime->driver;
	struct davit_stop how = how_to_stop(i);
	struct instance_op *o = davit_pool_take(&i->core->ops);

	if (!o) {
		struct davit_error err;
		davit_error_set(&err, DAVIT_ENOMEM, NULL, "out of memory");
		instance_set_error(i, &err);
		return;
	}
	o->i = i;
	o->kind = kind;
	i->op = o;
	davit_op_init(&o->op, i->core->loop, done, o);
	davit_op_begin(&o->op, kind == DO_STOP ? how.grace_ns + OPERATION_TIMEOUT : OPERATION_TIMEOUT);
	switch (kind) {
	case DO_CREATE:
		driver->create(i->inst, &o->op);
		break;
	case DO_START:
		DAVIT_FAULT("instance-start");
		i->start_asked = davit_loop_wall(i->core->loop);
		driver->start(i->inst, &o->op);
		break;
	case DO_INSPECT:
		driver->inspect(i->inst, &o->inspection, &o->op);
		break;
	case DO_STOP:
		driver->stop(i->inst, &how, &o->op);
		break;
	case DO_REMOVE:
		driver->remove(i->inst, &o->op);
		break;
	}
}

void instance_sweep(struct instance *i)
{
	begin(i, DO_STOP);
}

/* One that could not begin because its runtime was just lost has not failed: it uses up
 * no retry, and begins when the runtime answers again. */
static void not_begun(struct instance *i, const struct davit_error *err)
{
	instance_set_error(i, err);
	if (err->code != DAVIT_EUNAVAIL || i->runtime->phase != RUNTIME_LOST || i->is_build)
		instance_fail(i, DAVIT_CAUSE_START, err->message);
	else if (i->service)
		core_service_changed(i->service);
}

static void created(struct instance *i, int result, const struct davit_error *err)
{
	if (result < 0) {
		not_begun(i, err);
		return;
	}
	i->state = DAVIT_STATE_CREATED;
	instance_step(i);
}

static void started(struct instance *i, int result, const struct davit_error *err)
{
	if (result < 0) {
		not_begun(i, err);
		return;
	}
	DAVIT_FAULT("instance-started");
	if (i->state != DAVIT_STATE_STARTED)
		instance_on_started(i);
	if (i->early_exit) {
		struct davit_exit *exit = DAVIT_TAKE(i->early_exit);
		instance_on_exited(i, i->run, exit);
		free(exit);
		return;
	}
	if (i->goal == GOAL_RUN || i->goal == GOAL_REST)
		begin(i, DO_INSPECT);
	else
		instance_step(i);
}

static void inspected(struct instance *i, int result, const struct davit_inspection *now)
{
	bool same = result == 0 && i->run_base + now->run == i->run;

	/* Of a run that is over already too. */
	if (same && now->started && (now->state == DAVIT_STATE_STARTED || now->state == DAVIT_STATE_STOPPED))
		i->started = now->started;
	if (same && now->state == DAVIT_STATE_STARTED && i->state == DAVIT_STATE_STARTED) {
		i->pid = now->pid;
		instance_set_address(i, now->address);
		i->paused = now->paused;
	}
	if (i->service)
		core_service_changed(i->service); /* looked at, it is shown as ready */
	instance_step(i);
	instance_finish(i);
}

static void stopped(struct instance *i, int result, const struct davit_error *err)
{
	if (result < 0) {
		/* It may still run: say so, and try again when asked again. */
		instance_set_error(i, err);
		davit_log(DAVIT_LOG_ERROR, "cannot stop %s: %s", i->workload.id, err->message);
		davit_timer_start(&i->again, DAVIT_NSEC_PER_SEC);
		return;
	}
	if (i->state == DAVIT_STATE_STARTED) {
		/* The driver completed without an exit: the run is over all the same. */
		struct davit_exit exit = {.kind = DAVIT_EXIT_UNKNOWN, .time = davit_loop_wall(i->core->loop)};
		strcpy(exit.reason, "the runtime reported no status");
		if (i->run <= i->exit_run)
			i->run = i->exit_run + 1;
		instance_on_exited(i, i->run, &exit);
	}
	instance_finish(i);
	instance_step(i);
}

static void removed(struct instance *i, int result, const struct davit_error *err)
{
	const struct davit_logs_facet *logs = i->runtime->driver->logs;

	if (result < 0) {
		instance_set_error(i, err);
		i->swept = false; /* it may run, against what we were told: stopped again first */
		davit_log(DAVIT_LOG_ERROR, "cannot remove %s: %s", i->workload.id, err->message);
		davit_timer_start(&i->again, DAVIT_NSEC_PER_SEC);
		return;
	}
	i->state = DAVIT_STATE_DESTROYED;
	if (logs && i->goal == GOAL_GONE)
		logs->discard(i->runtime->rt, i->workload.id);
	instance_step(i);
}

static void done(struct davit_op *op, int result)
{
	struct instance_op *o = op->user;
	struct instance *i = o->i;
	struct davit_core *c = i->core;

	i->op = NULL;
	switch (o->kind) {
	case DO_CREATE:
		created(i, result, &op->error);
		break;
	case DO_START:
		started(i, result, &op->error);
		break;
	case DO_INSPECT:
		inspected(i, result, &o->inspection);
		break;
	case DO_STOP:
		stopped(i, result, &op->error);
		break;
	case DO_REMOVE:
		removed(i, result, &op->error);
		break;
	}
	davit_pool_give(&c->ops, o);
}

void instance_resume(struct instance *i)
{
	instance_finish(i);
	instance_step(i);
}

/* --- the next step --- */

/* Not at once: whoever led here may still look at it. */
static void gone(struct instance *i)
{
	if (!davit_list_empty(&i->held))
		return;
	davit_list_add_tail(&i->core->dead, &i->held);
	davit_defer(&i->core->bury);
}

void instance_bury(struct instance *i)
{
	struct davit_core *c = i->core;
	struct davit_service *s = i->service;

	instance_forget_record(i);
	workload_files_wipe(i);
	if (i->is_build)
		build_discard(i);
	if (s)
		service_instance_gone(s, i);
	else if (i->orphan_of && (s = davit_map_get(&c->services, i->orphan_of)))
		core_service_dirty(s); /* a new one of that name waits for its place */
	instance_free(i);
	core_check_stopped(c);
}

static void step_run(struct instance *i)
{
	struct davit_error err;

	if (i->state == DAVIT_STATE_STARTED && i->killed_for)
		begin(i, DO_STOP);
	if (i->state == DAVIT_STATE_STARTED || i->reporting)
		return;
	if (i->runtime->phase != RUNTIME_OPEN) {
		davit_error_set(&err, DAVIT_EUNAVAIL, "runtime", "runtime %s is not available: %s",
				i->runtime->name, i->runtime->error.message);
		instance_set_error(i, &err);
		instance_fail(i, DAVIT_CAUSE_START, err.message);
		return;
	}
	if (!i->inst && workload_build(i, &err) < 0) {
		instance_set_error(i, &err);
		instance_fail(i, DAVIT_CAUSE_START, err.message);
		return;
	}
	/* Taken over from a daemon before us, which had another version of the spec: it ran, and may
	 * not run again before it is replaced. */
	if (!i->workload.argv) {
		davit_error_set(
			&err, DAVIT_ESTATE, NULL,
			"it belongs to an earlier version of the spec, of which nothing is known any more");
		instance_set_error(i, &err);
		instance_fail(i, DAVIT_CAUSE_START, err.message);
		return;
	}
	begin(i, i->state == DAVIT_STATE_DESTROYED ? DO_CREATE : DO_START);
}

static void step_gone(struct instance *i)
{
	if (i->state == DAVIT_STATE_STARTED) {
		begin(i, DO_STOP);
	} else if (i->wait.active) {
		return; /* for the record of its end: what is removed cannot tell of it again */
	} else if (facet_ops_hold(i, true)) {
		return; /* a copy that is cut short */
	} else if (i->state == DAVIT_STATE_DESTROYED || !i->inst) {
		gone(i);
	} else {
		/* What the main process left behind goes too. */
		begin(i, i->swept ? DO_REMOVE : DO_STOP);
		i->swept = true;
	}
}

void instance_step(struct instance *i)
{
	if (i->core->freeing)
		return;
	if (i->op) {
		/* A start that is no longer wanted is cut short. */
		if ((i->goal == GOAL_STOP || i->goal == GOAL_GONE) && i->op->kind == DO_START)
			davit_op_cancel(&i->op->op);
		return;
	}
	if (facet_ops_hold(i, false))
		return;
	/* Goes on when it answers, or when all that it holds has been told. */
	if (i->runtime->phase == RUNTIME_LOST || i->runtime->phase == RUNTIME_ADOPTING)
		return;
	switch (i->goal) {
	case GOAL_REST:
		break;
	case GOAL_RUN:
		step_run(i);
		break;
	case GOAL_STOP:
		if (i->state == DAVIT_STATE_STARTED)
			begin(i, DO_STOP);
		else
			instance_finish(i);
		break;
	case GOAL_GONE:
		step_gone(i);
		break;
	}
}

void instance_set_goal(struct instance *i, enum goal goal)
{
	if (i->goal == GOAL_GONE)
		return;
	i->goal = goal;
	if (goal == GOAL_STOP || goal == GOAL_GONE)
		health_end(i);
	if (goal == GOAL_GONE) {
		davit_list_remove(&i->held);
		davit_list_add_tail(i->service ? &i->service->leaving : &i->core->orphans, &i->leaving);
		ready_end(i);
		if (i->leaf)
			davit_supervise_remove(&i->node);
		i->leaf = false;
	}
	instance_step(i);
}

/* --- what the engine wants --- */

static void engine_start(struct davit_node *leaf)
{
	struct instance *i = leaf->owner;
	char *why = NULL;

	if (i->goal == GOAL_GONE)
		return;
	if (i->service && i->unknown) {
		service_instance_unknown(i->service, i);
		return;
	}
	if (i->service && service_blocked(i->service, &why)) {
		free(i->held_for);
		i->held_for = why;
		davit_list_remove(&i->held);
		davit_list_add_tail(&i->core->held, &i->held);
		davit_supervise_hold(leaf);
		core_service_changed(i->service);
		return;
	}
	i->stopping_told = false;
	instance_set_goal(i, GOAL_RUN);
}

static void engine_stop(struct davit_node *leaf)
{
	struct instance *i = leaf->owner;

	davit_list_remove(&i->held);
	i->stopping_told = true;
	instance_set_goal(i, GOAL_STOP);
}

/* One event when it is left failed; what ended it has had its own. */
static void tell_failure(struct instance *i)
{
	bool failed = i->node.state == DAVIT_NODE_FAILED;

	/* Found ended by a new daemon: the decision that is to follow may have been told. */
	if (i->reporting || failed == i->told_failed)
		return;
	i->told_failed = failed;
	if (!failed)
		return;
	instance_tell_failed(i, i->node.rule_name ? i->node.rule_name : "policy");
	instance_write_record(i);
}

static void engine_changed(struct davit_node *node)
{
	struct davit_core *c = node->sup->owner;
	struct davit_service *s;

	if (node->leaf)
		s = ((struct instance *)node->owner)->service;
	else
		s = davit_map_get(&c->services, node->name);
	if (node->leaf)
		tell_failure(node->owner);
	else if (node->parent && (!s || s != node->owner))
		supervision_note(node->owner);
	if (s && (node->leaf || s == node->owner)) {
		core_service_changed(s);
		core_service_dirty(s);
	}
}

const struct davit_supervise_ops core_supervise_ops = {
	.start = engine_start,
	.stop = engine_stop,
	.changed = engine_changed,
};
