/* SPDX-License-Identifier: MIT
 *
 * The life of a container: start, stop, remove, inspect.
 */
#include "runtime/engine/impl.h"

#include "base/log.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

/* How long the answer to a start that is not wanted any more is waited for. */
#define START_PATIENCE (10 * DAVIT_NSEC_PER_SEC)
/* After a kill, how long to wait for the event before looking. */
#define KILL_PATIENCE (2 * DAVIT_NSEC_PER_SEC)
/* So often a kill that was refused is tried again. An engine that has much to do refuses one of
 * a container that has ended, and says for seconds still that it runs. */
#define KILL_TRIES 10

/* --- start --- */

static void start_over(struct davit_instance *inst)
{
	struct engine_instance *ei = engine_instance(inst);

	ei->starting = false;
	if (ei->look_again) {
		ei->look_again = ei->start_due = false;
		container_look(inst);
	}
}

static void start_given_up(struct task *t, int why)
{
	struct davit_instance *inst = t->inst;

	engine_instance(inst)->look_again = true; /* it may have been started */
	task_fail(t, why, "%s", davit_error_doc(why));
	start_over(inst);
}

static void on_patience_over(struct davit_timer *timer)
{
	struct task *t = DAVIT_CONTAINER_OF(timer, struct task, timer);

	start_given_up(t, t->why);
}

/* An engine starts what it was asked to start, whoever hangs up: so its answer is waited for,
 * or the container would run and its owner not know of it. */
static void start_cancelled(struct task *t, int why)
{
	if (why != DAVIT_ECANCELED) {
		start_given_up(t, why);
		return;
	}
	davit_timer_init(&t->timer, t->e->rt->loop, on_patience_over);
	davit_timer_start(&t->timer, START_PATIENCE);
}

/* It is gone, and so is replaced. */
static void broken_removed(struct task *t, struct http_call *c, const struct davit_error *err)
{
	struct davit_instance *inst = t->inst;
	struct engine_instance *ei = engine_instance(inst);
	bool gone = !err || err->code == DAVIT_ENOENT;

	ei->starting = ei->look_again = ei->start_due = false;
	task_fail(t, DAVIT_EIO, "%s could not start the container any more", t->e->flavour->name);
	if (gone)
		container_gone(inst, "the engine could not start it any more");
	else
		container_look(inst);
}

static void remove_broken(struct task *t)
{
	task_call(t,
		  http_new(&t->e->calls, "DELETE", "/containers/%s?v=1&force=1",
			   engine_instance(t->inst)->container),
		  broken_removed);
}

static void start_failed(struct task *t, const struct davit_error *err)
{
	unsigned port = observe_port_in_use(err->message);

	if (port)
		task_fail(t, DAVIT_EINUSE, "port %u is already in use", port);
	else if (err->code != DAVIT_EUNAVAIL && observe_exec_failure(err->message))
		task_fail(t, DAVIT_EEXEC, "%s", err->message);
	else if (err->code == DAVIT_ENOENT)
		task_fail(t, DAVIT_ESTATE, "%s", err->message);
	else
		task_end(t, err);
}

static void start_answered(struct task *t, struct http_call *c, const struct davit_error *err)
{
	struct davit_instance *inst = t->inst;
	struct engine_instance *ei = engine_instance(inst);

	if (err && observe_broken(err->message)) {
		davit_log(DAVIT_LOG_WARNING, "the container of %s is replaced: %s", ei->id, err->message);
		t->fini = NULL;
		if (ei->runs.run && !t->e->flavour->log_to_file)
			logs_keep(t, remove_broken);
		else
			remove_broken(t);
		return;
	} else if (err) {
		ei->look_again = true;
		start_failed(t, err);
	} else if (c->status == 304) { /* it ran already: somebody else's start */
		ei->look_again = true;
		task_end(t, NULL);
	} else {
		runs_began(&ei->runs);
		ei->state = DAVIT_STATE_STARTED;
		ei->pid = 0;
		ei->look_again = false; /* the look that follows sees it all */
		task_end(t, NULL);
		logs_started(inst);
		container_look_soon(inst);
	}
	start_over(inst);
}

/* However it ends. */
static void start_fini(struct task *t)
{
	engine_instance(t->inst)->starting = false;
}

static void start_now(struct task *t)
{
	struct engine_instance *ei = engine_instance(t->inst);
	struct http_call *c;
	struct davit_error err;

	if (runs_begin(t->e->rt->state_dir, ei->id, &ei->runs, &err) < 0) {
		task_end(t, &err);
		return;
	}
	ei->starting = ei->start_due = true;
	t->fini = start_fini;
	ei->died = 0;
	ei->asked = davit_loop_wall(t->e->rt->loop);
	t->cancel = start_cancelled;
	c = http_new(&t->e->calls, "POST", "/containers/%s/start", ei->container);
	/* A Docker Engine that ends stops listening, then ends the containers, and still serves
	 * what is connected. What it starts then it forgets: the next engine can neither start
	 * it ("task already exists") nor end it. */
	if (c)
		http_fresh(c);
	task_call(t, c, start_answered);
}

void engine_start(struct davit_instance *inst, struct davit_op *op)
{
	struct engine_instance *ei = engine_instance(inst);
	struct engine *e = engine_of(inst->runtime);
	struct task *t;

	if (!ei->inst) {
		davit_op_fail(op, DAVIT_ESTATE, e->rt->name, "the instance is not there");
		return;
	}
	if (ei->state == DAVIT_STATE_STARTED) {
		davit_op_complete(op, 0);
		return;
	}
	t = task_new(e, op, inst);
	if (t && ei->runs.run == 0)
		program_check(t, start_now);
	else if (t)
		start_now(t);
}

/* --- stop --- */

struct stopping {
	int signal;
	int64_t grace;
	bool killed;
	unsigned tries;		/* kills that failed */
	struct davit_error why; /* the last did so */
};

static void stopping_fini(struct task *t)
{
	free(t->data);
}

void life_ended(struct davit_instance *inst)
{
	struct task *t = engine_instance(inst)->task;

	if (t)
		task_end(t, NULL);
	signals_ended(inst);
}

static void send_kill(struct task *t, int signo);

/* The grace is over; or the end does not show after a kill. */
static void on_stop_timer(struct davit_timer *timer)
{
	struct task *t = DAVIT_CONTAINER_OF(timer, struct task, timer);
	struct stopping *s = t->data;

	if (s->why.code && s->tries >= KILL_TRIES) {
		task_end(t, &s->why);
	} else if (s->why.code) {
		davit_error_clear(&s->why);
		send_kill(t, s->killed ? SIGKILL : s->signal);
	} else if (!s->killed) {
		send_kill(t, SIGKILL);
	} else {
		davit_timer_start(&t->timer, KILL_PATIENCE);
		container_look(t->inst);
	}
}

static void kill_answered(struct task *t, struct http_call *c, const struct davit_error *err)
{
	struct stopping *s = t->data;

	if (err && (err->code == DAVIT_EUNAVAIL || err->code == DAVIT_EINVAL)) {
		task_end(t, err);
		return;
	}
	if (err) {
		/* It has just ended, most likely: then that is seen now. */
		s->why = *err;
		s->tries++;
		davit_timer_start(&t->timer, KILL_PATIENCE);
		container_look(t->inst);
		return;
	}
	davit_timer_start(&t->timer, s->killed ? KILL_PATIENCE : s->grace);
}

static void send_kill(struct task *t, int signo)
{
	struct stopping *s = t->data;

	http_cancel(DAVIT_TAKE(t->call));
	s->killed = signo == SIGKILL;
	task_call(t,
		  http_new(&t->e->calls, "POST", "/containers/%s/kill?signal=%d",
			   engine_instance(t->inst)->container, signo),
		  kill_answered);
}

static void stop_thawed(struct task *t, struct http_call *c, const struct davit_error *err)
{
	struct stopping *s = t->data;

	if (err && err->code == DAVIT_EUNAVAIL)
		task_end(t, err);
	else /* not frozen any more, whoever did it */
		send_kill(t, s->grace ? s->signal : SIGKILL);
}

static void stop_cancelled(struct task *t, int why)
{
	struct stopping *s = t->data;

	if (!s->killed)
		send_kill(t, SIGKILL);
}

void engine_stop(struct davit_instance *inst, const struct davit_stop *how, struct davit_op *op)
{
	struct engine_instance *ei = engine_instance(inst);
	struct engine *e = engine_of(inst->runtime);
	struct stopping *s;
	struct task *t;

	if (!ei->inst || ei->state != DAVIT_STATE_STARTED) {
		davit_op_complete(op, 0);
		return;
	}
	t = task_new(e, op, inst);
	if (!t)
		return;
	t->data = s = calloc(1, sizeof *s);
	t->fini = stopping_fini;
	davit_timer_init(&t->timer, e->rt->loop, on_stop_timer);
	if (!s) {
		task_fail(t, DAVIT_ENOMEM, "out of memory");
		return;
	}
	*s = (struct stopping){.signal = how->signal, .grace = how->grace_ns};
	t->cancel = stop_cancelled;
	ei->task = t;
	if (ei->paused)
		task_call(t, http_new(&e->calls, "POST", "/containers/%s/unpause", ei->container),
			  stop_thawed);
	else
		send_kill(t, how->grace_ns ? how->signal : SIGKILL);
}

/* --- remove --- */

static void remove_cancelled(struct task *t, int why)
{
	struct davit_instance *inst = t->inst;

	engine_instance(inst)->removing = false;
	task_fail(t, why, "%s", davit_error_doc(why));
	container_look(inst);
}

static void remove_answered(struct task *t, struct http_call *c, const struct davit_error *err)
{
	struct davit_instance *inst = t->inst;
	struct engine_instance *ei = engine_instance(inst);

	ei->removing = false;
	if (err && err->code != DAVIT_ENOENT) {
		task_end(t, err);
		container_look(inst);
		return;
	}
	runs_forget(t->e->rt->state_dir, ei->id);
	container_forget(inst);
	task_end(t, NULL);
}

/* However it ends. */
static void remove_fini(struct task *t)
{
	engine_instance(t->inst)->removing = false;
}

static void remove_now(struct task *t)
{
	t->fini = remove_fini;
	task_call(t,
		  http_new(&t->e->calls, "DELETE", "/containers/%s?v=1", engine_instance(t->inst)->container),
		  remove_answered);
}

void engine_remove(struct davit_instance *inst, struct davit_op *op)
{
	struct engine_instance *ei = engine_instance(inst);
	struct engine *e = engine_of(inst->runtime);
	struct task *t;

	if (!ei->inst) {
		davit_op_complete(op, 0);
		return;
	}
	if (ei->state == DAVIT_STATE_STARTED) {
		davit_op_fail(op, DAVIT_ESTATE, e->rt->name, "the instance runs");
		return;
	}
	t = task_new(e, op, inst);
	if (!t)
		return;
	ei->removing = true;
	t->cancel = remove_cancelled;
	if (ei->runs.run && !e->flavour->log_to_file)
		logs_keep(t, remove_now);
	else
		remove_now(t);
}

/* --- inspect --- */

static void inspect_answered(struct task *t, struct http_call *c, const struct davit_error *err)
{
	struct davit_instance *inst = t->inst;
	struct observation seen;
	json_t *o;

	if (err && err->code == DAVIT_ENOENT) {
		*(struct davit_inspection *)t->ret = (struct davit_inspection){0};
		task_end(t, NULL);
		container_gone(inst, "the engine does not have it any more");
		return;
	}
	if (err) {
		task_end(t, err);
		container_look_soon(inst);
		return;
	}
	o = http_answer(c);
	if (!o || observe(o, &seen, NULL) < 0) {
		task_fail(t, DAVIT_EPROTO, "the engine's description of a container makes no sense");
	} else {
		container_observed(inst, &seen);
		container_describe(inst, &seen, t->ret);
		task_end(t, NULL);
	}
	json_decref(o);
}

static void inspect_cancelled(struct task *t, int why)
{
	struct davit_instance *inst = t->inst;

	task_fail(t, why, "%s", davit_error_doc(why));
	container_look_soon(inst);
}

void engine_inspect(struct davit_instance *inst, struct davit_inspection *ret, struct davit_op *op)
{
	struct engine_instance *ei = engine_instance(inst);
	struct engine *e = engine_of(inst->runtime);
	struct task *t;

	if (!ei->inst) {
		*ret = (struct davit_inspection){0};
		davit_op_complete(op, 0);
		return;
	}
	t = task_new(e, op, inst);
	if (!t)
		return;
	t->ret = ret;
	t->cancel = inspect_cancelled;
	davit_timer_stop(&ei->eye); /* what is due to be looked at is seen by this */
	task_call(t, http_new(&e->calls, "GET", "/containers/%s/json", ei->container), inspect_answered);
}
