/* SPDX-License-Identifier: MIT
 *
 * What happens to an instance: it runs, becomes ready, ends, or could not be
 * started; and how the engine hears of it, not before it is durable.
 */
#include "core/instance_op.h"

#include "base/fault.h"
#include "base/units.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

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
	i->ready = i->ready_said = i->swept = i->start_failed = i->prevent = i->paused = false;
	instance_set_error(i, NULL);
	if (recorded)
		instance_write_record(i);
	if (!i->is_build)
		core_event(i->core, "started", i->service, i, i->run > 1 ? "run %u" : "first run", i->run);
	if (i->leaf)
		davit_supervise_running(&i->node);
	health_begin(i);
	ready_begin(i);
	if (i->service)
		core_service_changed(i->service);
}

void instance_set_address(struct instance *i, const char *address)
{
	if (!address[0] && !i->address)
		return;
	free(i->address);
	i->address = address[0] ? strdup(address) : NULL;
}

void instance_on_ready(struct instance *i)
{
	if (i->ready_said || i->state != DAVIT_STATE_STARTED)
		return;
	i->ready_said = true;
	ready_end_probe(i);
	instance_on_health(i);
}

static void not_ready(struct instance *i)
{
	i->ready = false;
	core_event(i->core, "not-ready", i->service, i, "a health check fails");
	instance_write_record(i);
	core_service_dirty(i->service);
	core_service_changed(i->service);
}

void instance_on_health(struct instance *i)
{
	bool ready = i->ready_said && health_is_ready(i);

	if (ready == i->ready || i->state != DAVIT_STATE_STARTED || i->goal == GOAL_STOP ||
	    i->goal == GOAL_GONE || i->killed_for)
		return;
	if (!ready) {
		not_ready(i);
		return;
	}
	ready_end(i);
	i->ready = true;
	if (i->is_build)
		return;
	core_event(i->core, "ready", i->service, i, "run %u", i->run);
	if (i->service && (i->service->spec->ready != DAVIT_READY_TYPE_STARTED || i->health))
		instance_write_record(i);
	if (i->service) {
		service_instance_ready(i->service, i);
		core_service_changed(i->service);
	}
}

/* Without looking for a translation, unless it is one of the real-time signals. */
static const char *signal_text(int signo)
{
	const char *text = sigdescr_np(signo);

	return text ? text : strsignal(signo);
}

void instance_describe_exit(const struct davit_exit *e, char *buf, size_t n)
{
	if (e->kind == DAVIT_EXIT_CODE)
		snprintf(buf, n, "exit code %d", e->code);
	else if (e->kind == DAVIT_EXIT_SIGNAL)
		snprintf(buf, n, "signal %d (%s)%s", e->signal, signal_text(e->signal),
			 e->core_dumped ? ", core dumped" : "");
	else if (e->kind == DAVIT_EXIT_OOM)
		snprintf(buf, n, "out of memory: killed at its memory limit");
	else
		snprintf(buf, n, "%s", e->reason[0] ? e->reason : "status unknown");
}

void instance_tell_failed(struct instance *i, const char *rule)
{
	i->told_failed = true;
	core_event(i->core, "failed", i->service, i, "rule %s: left failed after %" PRId64 " restarts", rule,
		   i->node.restarts);
}

/* Records how the run, or the try to start one, ended. Where that leaves it failed by its own
 * policy the decision is in what is recorded, and is told in the same transaction. */
static void record_end(struct instance *i, enum davit_cause cause, bool prevent)
{
	const char *rule = NULL;

	if (i->leaf)
		davit_supervise_ending(&i->node);
	if (i->leaf && !i->replacement && i->goal == GOAL_RUN && !i->told_failed)
		rule = davit_supervise_leaves_failed(&i->node, cause, prevent);
	if (rule)
		instance_tell_failed(i, rule);
	instance_write_record(i);
	davit_journal_on_beat(i->core->journal);
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
	health_end(i);
	i->exit_run = i->run = run;
	i->exit = *exit;
	i->ended = exit->time ? exit->time : davit_loop_wall(i->core->loop);
	/* One that nobody has looked at yet: it began after that was asked for, and before its end. */
	if (i->started > i->ended)
		i->started = i->start_asked && i->start_asked < i->ended ? i->start_asked : i->ended;
	i->ready = i->ready_said = i->paused = false;
	i->pid = 0;
	cause = instance_cause(i, exit, &prevent);
	i->state =
		cause == DAVIT_CAUSE_CLEAN || i->goal != GOAL_RUN ? DAVIT_STATE_STOPPED : DAVIT_STATE_FAILED;
	instance_describe_exit(exit, text, sizeof text);
	if (i->is_build) {
		build_ended(i);
		return;
	}
	if (i->goal == GOAL_STOP || i->goal == GOAL_GONE)
		cause = DAVIT_CAUSE_STOPPED;
	else if (i->killed_for)
		cause = i->pending_cause;
	/* Ended by us: that is what people want to know of it. */
	if (i->killed_for && i->error && !i->exit.reason[0])
		snprintf(i->exit.reason, sizeof i->exit.reason, "%.150s", i->error->message);
	i->killed_for = false;
	i->pending_cause = cause;
	i->prevent = prevent;
	DAVIT_FAULT("instance-exited");
	core_event(i->core, "exited", i->service, i, "%s%s", text,
		   cause == DAVIT_CAUSE_STOPPED ? ", as asked" : "");
	record_end(i, cause, prevent);
	if (cause != DAVIT_CAUSE_STOPPED) {
		struct davit_error err;
		davit_error_set(&err, DAVIT_EIO, NULL, "%s", text);
		if (cause != DAVIT_CAUSE_CLEAN && cause != DAVIT_CAUSE_TIMEOUT && cause != DAVIT_CAUSE_HEALTH)
			instance_set_error(i, &err);
		i->reporting = true;
	}
	/* What follows does so when this is durable and nothing is left of the run: a
	 * daemon that dies before takes it again. */
	davit_journal_wait(i->core->journal, &i->wait);
	instance_finish(i);
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
		health_end(i);
		instance_step(i);
		return;
	}
	i->start_failed = true;
	i->prevent = false;
	i->ended = davit_loop_wall(i->core->loop);
	record_end(i, cause, false);
	i->reporting = true;
	davit_journal_wait(i->core->journal, &i->wait);
	if (i->service)
		core_service_changed(i->service);
}

/* From when the backoff counts: from the end, also over the daemon's death. Where the clock that the
 * end was read from may not be ours, only a short while is believed. 0: from now. */
static int64_t time_of_end(const struct instance *i)
{
	int64_t ago = i->ended ? davit_loop_wall(i->core->loop) - i->ended : 0;

	return ago > 0 && (i->late || ago < DAVIT_NSEC_PER_SEC) ? i->ended : 0;
}

void instance_finish(struct instance *i)
{
	int64_t ended;

	/* What an earlier daemon may have decided on waits for all that it was decided from. */
	if (i->late && i->core->start_op)
		return;
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
	if (i->reporting && !i->swept && i->exit_run == i->run && i->run &&
	    i->runtime->phase == RUNTIME_OPEN) {
		/* Whatever the main process left behind ends with it. */
		i->swept = true;
		instance_sweep(i);
		return;
	}
	if (!i->reporting || i->wait.active)
		return;
	i->reporting = false;
	i->goal = GOAL_REST;
	if (i->replacement) {
		char text[224];
		instance_describe_exit(&i->exit, text, sizeof text);
		service_update_failed(i->service, i, i->error ? i->error->message : text);
		return;
	}
	ended = time_of_end(i);
	i->late = false;
	davit_supervise_ended_at(&i->node, i->pending_cause, i->prevent, ended);
}
