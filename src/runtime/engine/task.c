/* SPDX-License-Identifier: MIT
 *
 * An operation of the core as a row of calls to the engine.
 */
#include "runtime/engine/impl.h"

#include <stdio.h>

static void on_cancel(struct davit_op *op, int why)
{
	struct task *t = op->performer;

	t->why = why;
	if (t->cancel)
		t->cancel(t, why);
	else
		task_fail(t, why, "%s", davit_error_doc(why));
}

struct task *task_new(struct engine *e, struct davit_op *op, struct davit_instance *inst)
{
	struct task *t = calloc(1, sizeof *t);

	if (!t) {
		davit_op_fail(op, DAVIT_ENOMEM, e->rt->name, "out of memory");
		return NULL;
	}
	t->e = e;
	t->op = op;
	t->inst = inst;
	davit_list_add_tail(&e->tasks, &t->list);
	op->performer = t;
	davit_op_on_cancel(op, on_cancel);
	return t;
}

struct task *task_on_running(struct davit_instance *inst, struct davit_op *op)
{
	struct engine_instance *ei = engine_instance(inst);

	if (!ei->inst || ei->state != DAVIT_STATE_STARTED) {
		davit_op_fail(op, DAVIT_ESTATE, inst->runtime->name, "the instance does not run");
		return NULL;
	}
	return task_new(engine_of(inst->runtime), op, inst);
}

static void on_done(struct http_call *c, const struct davit_error *err)
{
	struct task *t = c->user;

	t->call = NULL;
	/* Its event stream may last longer than its listening: nothing else is tried. */
	if (err && err->code == DAVIT_EUNAVAIL && !c->status)
		events_lost(t->e, err);
	t->step(t, c, err);
}

void task_call(struct task *t, struct http_call *c,
	       void (*step)(struct task *t, struct http_call *c, const struct davit_error *err))
{
	if (!c) {
		task_fail(t, DAVIT_ENOMEM, "out of memory");
		return;
	}
	c->user = t;
	c->done = on_done;
	t->step = step;
	if (http_send(c, NULL) < 0)
		task_fail(t, DAVIT_ENOMEM, "out of memory");
	else
		t->call = c;
}

static void finish(struct task *t, const struct davit_error *err)
{
	struct davit_op *op = t->op;
	struct davit_error placed;

	http_cancel(t->call);
	if (t->timer.loop)
		davit_timer_stop(&t->timer);
	if (t->inst && engine_instance(t->inst)->task == t)
		engine_instance(t->inst)->task = NULL;
	if (t->fini)
		t->fini(t);
	davit_list_remove(&t->list);
	if (op && err) {
		placed = *err;
		snprintf(placed.where, sizeof placed.where, "%s", t->e->rt->name);
		davit_op_fail_error(op, &placed);
	} else if (op) {
		davit_op_complete(op, 0);
	}
	free(t);
}

void task_end(struct task *t, const struct davit_error *err)
{
	struct davit_error named;

	/* The engine's own words: whose they are is said. */
	if (err) {
		named = *err;
		davit_error_prefix(&named, "%s", t->e->flavour->name);
	}
	finish(t, err ? &named : NULL);
}

void task_fail(struct task *t, int code, const char *fmt, ...)
{
	struct davit_error err = {.code = code};
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err.message, sizeof err.message, fmt, ap);
	va_end(ap);
	finish(t, &err);
}

void tasks_close(struct engine *e, const struct davit_error *why)
{
	struct task *t, *tmp;

	DAVIT_LIST_FOREACH_SAFE (t, tmp, &e->tasks, list)
		finish(t, why);
}

void task_last_step(struct task *t, struct http_call *c, const struct davit_error *err)
{
	task_end(t, err);
}
