/* SPDX-License-Identifier: MIT
 *
 * One instance on its way to its goal. The supervision engine sets the goal;
 * instance_step issues the next operation of the driver whenever none is under
 * way, by the state table; completions and events lead back to instance_step.
 */
#include "core/core_impl.h"

#include "base/fault.h"
#include "base/log.h"
#include "base/strv.h"
#include "base/units.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define OPERATION_TIMEOUT (60 * DAVIT_NSEC_PER_SEC)

enum instance_op_kind { DO_CREATE, DO_START, DO_INSPECT, DO_STOP, DO_REMOVE };

/* Taken from the core's pool for each operation: an idle instance carries none. */
struct instance_op {
	struct davit_op op;
	struct instance *i;
	enum instance_op_kind kind;
	struct davit_inspection inspection;
};

static void finish(struct instance *i);
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

static void created(struct instance *i, int result, const struct davit_error *err)
{
	if (result < 0) {
		instance_set_error(i, err);
		instance_fail(i, DAVIT_CAUSE_START, err->message);
		return;
	}
	i->state = DAVIT_STATE_CREATED;
	instance_step(i);
}

static void started(struct instance *i, int result, const struct davit_error *err)
{
	if (result < 0) {
		instance_set_error(i, err);
		instance_fail(i, DAVIT_CAUSE_START, err->message);
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
	if (result == 0 && now->state == DAVIT_STATE_STARTED && i->state == DAVIT_STATE_STARTED &&
	    i->run_base + now->run == i->run) {
		i->pid = now->pid;
		if (now->started)
			i->started = now->started;
		if (i->service)
			core_service_changed(i->service);
	}
	instance_step(i);
	finish(i);
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
	finish(i);
	instance_step(i);
}

static void removed(struct instance *i, int result, const struct davit_error *err)
{
	const struct davit_logs_facet *logs = i->runtime->driver->logs;

	if (result < 0) {
		instance_set_error(i, err);
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

size_t instance_op_size(void)
{
	return sizeof(struct instance_op);
}

void instance_resume(struct instance *i)
{
	finish(i);
	instance_step(i);
}

static void on_again(struct davit_timer *t)
{
	instance_resume(DAVIT_CONTAINER_OF(t, struct instance, again));
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
	begin(i, i->state == DAVIT_STATE_DESTROYED ? DO_CREATE : DO_START);
}

static void step_gone(struct instance *i)
{
	if (i->state == DAVIT_STATE_STARTED) {
		begin(i, DO_STOP);
	} else if (i->wait.active) {
		return; /* for the record of its end: what is removed cannot tell of it again */
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
			finish(i);
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

	if (failed && !i->told_failed)
		core_event(i->core, "failed", i->service, i, "rule %s: left failed after %" PRId64 " restarts",
			   i->node.rule_name ? i->node.rule_name : "policy", i->node.restarts);
	i->told_failed = failed;
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

/* --- what happens to it --- */

void instance_set_error(struct instance *i, const struct davit_error *err)
{
	if (!err) {
		free(i->error);
		i->error = NULL;
		return;
	}
	if (!i->error)
		i->error = malloc(sizeof *i->error);
	if (i->error)
		*i->error = *err;
}

static bool listed(const struct davit_ints *l, const struct davit_exit *exit)
{
	int v = exit->kind == DAVIT_EXIT_SIGNAL || exit->kind == DAVIT_EXIT_OOM ? 256 + exit->signal
										: exit->code;

	for (size_t k = 0; k < l->n; k++)
		if (l->v[k] == v)
			return true;
	return false;
}

enum davit_cause instance_cause(const struct instance *i, const struct davit_exit *exit, bool *ret_prevent)
{
	const struct davit_spec *spec = i->service ? i->service->spec : NULL;
	bool known = exit->kind == DAVIT_EXIT_CODE || exit->kind == DAVIT_EXIT_SIGNAL;

	*ret_prevent = spec && known && listed(&spec->prevent, exit);
	switch (exit->kind) {
	case DAVIT_EXIT_NONE:
	case DAVIT_EXIT_CODE:
		return exit->code == 0 || (spec && listed(&spec->success, exit)) ? DAVIT_CAUSE_CLEAN
										 : DAVIT_CAUSE_CODE;
	case DAVIT_EXIT_SIGNAL:
		return spec && listed(&spec->success, exit) ? DAVIT_CAUSE_CLEAN : DAVIT_CAUSE_SIGNAL;
	case DAVIT_EXIT_OOM:
		return DAVIT_CAUSE_OOM;
	case DAVIT_EXIT_EXEC:
		return DAVIT_CAUSE_START;
	case DAVIT_EXIT_UNKNOWN:
		break;
	}
	return DAVIT_CAUSE_VANISHED;
}

void instance_on_started(struct instance *i)
{
	bool recorded = i->run > 0 || i->start_failed;

	i->state = DAVIT_STATE_STARTED;
	i->run++;
	i->started = davit_loop_wall(i->core->loop);
	i->exit = (struct davit_exit){0};
	i->ready = i->swept = i->start_failed = i->prevent = false;
	instance_set_error(i, NULL);
	if (recorded)
		instance_write_record(i);
	if (!i->is_build)
		core_event(i->core, "started", i->service, i, i->run > 1 ? "run %u" : "first run", i->run);
	if (i->leaf)
		davit_supervise_running(&i->node);
	ready_begin(i);
	if (i->service)
		core_service_changed(i->service);
}

void instance_on_ready(struct instance *i)
{
	if (i->ready || i->state != DAVIT_STATE_STARTED)
		return;
	ready_end(i);
	i->ready = true;
	if (i->is_build)
		return;
	core_event(i->core, "ready", i->service, i, "run %u", i->run);
	if (i->service && i->service->spec->ready != DAVIT_READY_TYPE_STARTED)
		instance_write_record(i);
	if (i->service) {
		service_instance_ready(i->service, i);
		core_service_changed(i->service);
	}
}

static void describe_exit(const struct davit_exit *e, char *buf, size_t n)
{
	if (e->kind == DAVIT_EXIT_CODE)
		snprintf(buf, n, "exit code %d", e->code);
	else if (e->kind == DAVIT_EXIT_SIGNAL)
		snprintf(buf, n, "signal %d (%s)%s", e->signal, strsignal(e->signal),
			 e->core_dumped ? ", core dumped" : "");
	else if (e->kind == DAVIT_EXIT_OOM)
		snprintf(buf, n, "out of memory: killed at its memory limit");
	else
		snprintf(buf, n, "%s", e->reason[0] ? e->reason : "status unknown");
}

void instance_on_exited(struct instance *i, uint32_t run, const struct davit_exit *exit)
{
	enum davit_cause cause;
	char text[224];
	bool prevent;

	if (run <= i->exit_run)
		return;
	if (i->op && i->op->kind == DO_START && i->state != DAVIT_STATE_STARTED) {
		/* Faster than the news of its start. */
		if (!i->early_exit && (i->early_exit = malloc(sizeof *exit)))
			*i->early_exit = *exit;
		return;
	}
	ready_end(i);
	i->exit_run = i->run = run;
	i->exit = *exit;
	i->ready = false;
	i->pid = 0;
	cause = instance_cause(i, exit, &prevent);
	i->state = cause == DAVIT_CAUSE_CLEAN || i->goal != GOAL_RUN ? DAVIT_STATE_STOPPED : DAVIT_STATE_FAILED;
	describe_exit(exit, text, sizeof text);
	if (i->is_build) {
		build_ended(i);
		return;
	}
	if (i->goal == GOAL_STOP || i->goal == GOAL_GONE)
		cause = DAVIT_CAUSE_STOPPED;
	else if (i->killed_for)
		cause = i->pending_cause;
	i->killed_for = false;
	i->pending_cause = cause;
	i->prevent = prevent;
	DAVIT_FAULT("instance-exited");
	core_event(i->core, "exited", i->service, i, "%s%s", text,
		   cause == DAVIT_CAUSE_STOPPED ? ", as asked" : "");
	instance_write_record(i);
	if (cause != DAVIT_CAUSE_STOPPED) {
		struct davit_error err;
		davit_error_set(&err, DAVIT_EIO, NULL, "%s", text);
		if (cause != DAVIT_CAUSE_CLEAN && cause != DAVIT_CAUSE_TIMEOUT)
			instance_set_error(i, &err);
		i->reporting = true;
	}
	/* What follows does so when this is durable and nothing is left of the run: a
	 * daemon that dies before takes it again. */
	davit_journal_wait(i->core->journal, &i->wait);
	finish(i);
	if (i->service) {
		core_service_changed(i->service);
		core_service_dirty(i->service);
	}
}

/* Could not be started, or must be ended by us: cause is what the engine hears. */
void instance_fail(struct instance *i, enum davit_cause cause, const char *why)
{
	i->pending_cause = cause;
	if (!i->is_build)
		core_event(i->core, "failed", i->service, i, "%s", why);
	if (i->is_build) {
		i->exit = (struct davit_exit){.kind = DAVIT_EXIT_EXEC};
		strncpy(i->exit.reason, why, sizeof i->exit.reason - 1);
		i->goal = GOAL_REST;
		build_ended(i);
		return;
	}
	if (i->goal == GOAL_GONE || i->goal == GOAL_STOP) {
		instance_step(i);
		return;
	}
	if (i->state == DAVIT_STATE_STARTED) {
		i->killed_for = true;
		instance_step(i);
		return;
	}
	i->start_failed = true;
	i->prevent = false;
	instance_write_record(i);
	i->reporting = true;
	davit_journal_wait(i->core->journal, &i->wait);
	if (i->service)
		core_service_changed(i->service);
}

static void on_recorded(struct davit_journal_wait *w, bool durable)
{
	(void)durable; /* a store that does not answer holds nobody up for long */
	instance_resume(DAVIT_CONTAINER_OF(w, struct instance, wait));
}

/* Tells the engine that the run is over, once everything about it is done. */
static void finish(struct instance *i)
{
	if (i->op || i->state == DAVIT_STATE_STARTED || !i->leaf)
		return;
	if (i->goal == GOAL_STOP) {
		if (!i->stopping_told || i->wait.active)
			return;
		i->stopping_told = i->reporting = false;
		i->goal = GOAL_REST;
		davit_supervise_ended(&i->node, DAVIT_CAUSE_STOPPED);
		return;
	}
	if (i->reporting && !i->swept && i->exit_run == i->run && i->run && i->runtime->phase == RUNTIME_OPEN) {
		/* Whatever the main process left behind ends with it. */
		i->swept = true;
		begin(i, DO_STOP);
		return;
	}
	if (!i->reporting || i->wait.active)
		return;
	i->reporting = false;
	i->goal = GOAL_REST;
	if (i->replacement) {
		char text[224];
		describe_exit(&i->exit, text, sizeof text);
		service_update_failed(i->service, i, i->error ? i->error->message : text);
		return;
	}
	if (i->prevent)
		davit_supervise_ended_final(&i->node, i->pending_cause);
	else
		davit_supervise_ended(&i->node, i->pending_cause);
}

/* --- life --- */

static struct instance *make(struct davit_core *c, struct core_runtime *r, struct davit_service *s,
			     uint32_t index, bool is_build, const char *id, struct davit_error *err)
{
	struct davit_restart_rule rule;
	struct instance *i = calloc(1, sizeof *i);
	char name[16];

	if (!i)
		goto oom;
	i->core = c;
	i->service = s;
	i->runtime = r;
	i->is_build = is_build;
	i->workload.index = index;
	i->wait.done = on_recorded;
	davit_list_init(&i->held);
	davit_list_init(&i->leaving);
	davit_list_init(&i->attached);
	davit_timer_init(&i->again, c->loop, on_again);
	memcpy(i->workload.id, id, DAVIT_ID_MAX);
	if (davit_map_put(&c->instances, i->workload.id, i) < 0)
		goto oom;
	if (s)
		s->alive++;
	if (s && !is_build) {
		snprintf(name, sizeof name, "%u", index);
		service_restart_rule(s, &rule);
		if (davit_supervise_add_leaf(&i->node, &s->node, name, &rule, i) < 0) {
			davit_map_remove(&c->instances, i->workload.id);
			s->alive--;
			goto oom;
		}
		i->node.significant = s->spec->significant;
		i->leaf = true;
	}
	return i;
oom:
	free(i);
	davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	return NULL;
}

struct instance *instance_new(struct davit_service *s, uint32_t index, bool is_build, struct davit_error *err)
{
	struct davit_core *c = s->core;
	const char *name = is_build || !s->spec->runtime ? c->config.default_runtime : s->spec->runtime;
	struct core_runtime *r = core_runtime_find(c, is_build ? "process" : name);
	struct instance *i;
	char id[DAVIT_ID_MAX];

	if (!r) {
		davit_error_set(err, DAVIT_ENOENT, "runtime", "there is no runtime '%s'", name);
		return NULL;
	}
	snprintf(id, sizeof id, "%016" PRIx64, davit_loop_random(c->loop));
	i = make(c, r, s, index, is_build, id, err);
	if (i)
		i->generation = s->generation;
	return i;
}

struct instance *instance_adopt(struct davit_core *c, struct core_runtime *r, struct davit_service *s,
				uint32_t index, bool is_build, uint64_t generation, const char *id,
				struct davit_error *err)
{
	struct instance *i = make(c, r, s, index, is_build, id, err);

	if (!i)
		return NULL;
	i->generation = generation;
	i->adopting = true;
	if (workload_build(i, err) < 0) {
		/* What it was made from is not known any more: it can be watched,
		 * stopped and removed all the same. */
		instance_set_error(i, err);
	}
	i->adopting = false;
	if (!i->inst && workload_attach(i, err) < 0) {
		instance_free(i);
		return NULL;
	}
	return i;
}

void instance_free(struct instance *i)
{
	struct davit_core *c = i->core;

	if (i->op) {
		davit_timer_stop(&i->op->op.deadline);
		davit_deferred_cancel(&i->op->op.completion);
		davit_pool_give(&c->ops, i->op);
	}
	davit_journal_unwait(&i->wait);
	davit_timer_stop(&i->again);
	davit_list_remove(&i->held);
	davit_list_remove(&i->leaving);
	ready_end(i);
	facets_detach(i);
	if (i->leaf && !c->freeing)
		davit_supervise_remove(&i->node);
	davit_map_remove(&c->instances, i->workload.id);
	if (i->service)
		i->service->alive--;
	workload_fini(&i->workload);
	free(i->early_exit);
	free(i->inst);
	free(i->error);
	free(i->status_text);
	free(i->held_for);
	free(i->orphan_of);
	free(i);
}
