/* SPDX-License-Identifier: MIT
 *
 * Operations on a container: one at a time, in the order in which they were asked for,
 * each first held against the table of state.h.
 */
#include "actor/container_impl.h"

#include <stdio.h>
#include <string.h>

static void answer_one(struct container *k, struct op *op, int code, const char *text)
{
	struct davit_context *c = k->tree->c;

	if (op->r.promise.generation && code)
		davit_reject(c, op->r.promise, code, "%s", text);
	else if (op->r.promise.generation)
		davit_fulfil(c, op->r.promise, k->alias, strlen(k->alias));
	free(op);
}

void operate_answer(struct container *k, struct davit_list *list, int code, const char *text)
{
	struct op *op;

	while ((op = DAVIT_LIST_FIRST(list, struct op, link))) {
		davit_list_remove(&op->link);
		answer_one(k, op, code, text);
	}
}

/* --- destruction --- */

static int64_t shutdown_time(const struct container *k)
{
	int64_t t = k->parent ? k->parent->options.shutdown_time : 0;

	return t ? t : INT64_C(5000000000);
}

/* Of several ways to end it the hardest counts. */
static void destroy_begin(struct container *k, unsigned flags)
{
	if ((flags & DAVIT_DESTROY_FORCE) == DAVIT_DESTROY_FORCE_HARD)
		k->hard = true;
	if (k->destroying)
		return;
	k->destroying = true;
	solve_stop(k);
	operate_answer(k, &k->ops, DAVIT_ESTATE, "it is being destroyed");
	if ((flags & DAVIT_DESTROY_FORCE) == DAVIT_DESTROY_FORCE)
		(void)davit_timer_start(&k->patience, shutdown_time(k));
	destroy_advance(k);
}

void patience_over(struct davit_timer *timer)
{
	struct container *k = DAVIT_CONTAINER_OF(timer, struct container, patience);

	k->hard = true;
	destroy_advance(k);
}

static void over(struct container *k)
{
	struct tree *t = k->tree;
	struct container *parent = k->parent;
	struct davit_message *again = DAVIT_TAKE(k->again);
	bool ending = parent && parent->destroying;
	struct davit_list ended;
	char alias[64];
	struct op *op;

	if (k->now)
		answer_one(k, DAVIT_TAKE(k->now), DAVIT_ESTATE, "it was destroyed");
	operate_answer(k, &k->births, DAVIT_ESTATE, "it was destroyed");
	operate_answer(k, &k->ops, DAVIT_ESTATE, "it was destroyed");
	davit_list_init(&ended);
	davit_list_splice(&ended, &k->ending);
	snprintf(alias, sizeof alias, "%s", k->alias);
	tree_remove(k);
	/* Answered when the alias is free; k is its actor's by now. */
	while ((op = DAVIT_LIST_FIRST(&ended, struct op, link))) {
		davit_list_remove(&op->link);
		if (op->r.promise.generation)
			davit_fulfil(t->c, op->r.promise, alias, strlen(alias));
		free(op);
	}
	if (again)
		tree_create(t, again);
	davit_message_free(t->c, again);
	if (ending)
		destroy_advance(parent);
}

/* One step: the last child, then the stop, then the end. Called when something that it
 * waits for has happened. */
void destroy_advance(struct container *k)
{
	struct container *last;

	if (!k->destroying || !k->created)
		return;
	if (!davit_list_empty(&k->children)) {
		last = DAVIT_CONTAINER_OF(k->children.prev, struct container, siblings);
		destroy_begin(last, k->hard ? DAVIT_DESTROY_FORCE_HARD : DAVIT_DESTROY_FORCE_SOFT);
		return;
	}
	if (atomic_load(&k->state) == DAVIT_STATE_DESTROYED && k->known == DAVIT_STATE_DESTROYED) {
		over(k);
		return;
	}
	if (k->leaf.wanted || k->leaf.state != DAVIT_NODE_IDLE)
		davit_supervise_stop(&k->leaf);
	if (!k->hard && (k->leaf.state == DAVIT_NODE_STOPPING || k->leaf.state == DAVIT_NODE_STARTING))
		return; /* its report is awaited */
	if (!k->hard && k->known == DAVIT_STATE_FAILED) {
		tree_order(k, ORDER_STOP, false, 0, NULL);
		k->known = DAVIT_STATE_STOPPED; /* as it will be when the next order comes */
	}
	/* What a process does when it is asked may take for ever; then it is killed. */
	if (!k->doomed || (k->process && k->hard && !k->doomed_hard))
		tree_order(k, ORDER_DESTROY, k->hard, 0, NULL);
	k->doomed = true;
	k->doomed_hard = k->hard;
}

/* --- one operation --- */

static void finish(struct container *k, int code, const char *text)
{
	struct op *op = DAVIT_TAKE(k->now);

	if (op)
		answer_one(k, op, code, text);
}

/* From failed: by the engine if it is the one that waits, else directly. */
static void start_failed(struct container *k, bool keep)
{
	solve_stop(k);
	if (k->leaf.state == DAVIT_NODE_RUNNING || keep) {
		/* To the engine it goes on running, or begins to by its own will. */
		if (k->leaf.state != DAVIT_NODE_RUNNING)
			davit_supervise_adopted(&k->leaf, k->leaf.restarts);
		tree_order(k, keep ? ORDER_CONTINUE : ORDER_START, !keep, 0, NULL);
		k->relaunch = k->brood && k->brood->state == DAVIT_NODE_FAILED;
		return;
	}
	davit_supervise_start(&k->leaf);
}

static void stop(struct container *k)
{
	bool runs = k->leaf.state == DAVIT_NODE_STARTING || k->leaf.state == DAVIT_NODE_RUNNING ||
		    k->leaf.state == DAVIT_NODE_STOPPING;

	solve_stop(k);
	davit_supervise_stop(&k->leaf);
	if (!runs) /* the engine has nothing to stop, but it is failed */
		tree_order(k, ORDER_STOP, false, 0, NULL);
}

/* True when it is done already. */
static bool solve(struct container *k, const struct operate_request *r)
{
	char text[96];

	if (!k->failure || r->failure != k->failure) {
		snprintf(text, sizeof text, "%s has not failed", k->alias);
		finish(k, DAVIT_ESTATE, k->failure ? "that failure is over" : text);
		return true;
	}
	switch (r->solution) {
	case DAVIT_SOLVE_CONTINUE:
	case DAVIT_SOLVE_RESUME:
		start_failed(k, true);
		return false;
	case DAVIT_SOLVE_START:
	case DAVIT_SOLVE_RESTART:
		start_failed(k, false);
		return false;
	case DAVIT_SOLVE_STOP:
		stop(k);
		return false;
	default:
		finish(k, DAVIT_EINVAL, "that is no solution for others to give");
		return true;
	}
}

static const enum davit_operation operation[] = {[OP_START] = DAVIT_DO_START,
						 [OP_STOP] = DAVIT_DO_STOP,
						 [OP_FAIL] = DAVIT_DO_FAIL,
						 [OP_DESTROY] = DAVIT_DO_DESTROY,
						 [OP_SOLVE] = DAVIT_DO_START};

/* Begins it. True when it is over at once. */
static bool begin(struct container *k, const struct operate_request *r)
{
	struct davit_transition t;
	struct davit_error err;

	if (r->kind == OP_SOLVE)
		return solve(k, r);
	if (davit_state_check(k->known, operation[r->kind], &t, &err)) {
		finish(k, err.code, err.message);
		return true;
	}
	if (t.verdict == DAVIT_VERDICT_ALREADY) {
		/* Stopped by others' stop, and wanted: the user's word holds. */
		if (r->kind == OP_STOP)
			davit_supervise_stop(&k->leaf);
		finish(k, 0, NULL);
		return true;
	}
	switch (r->kind) {
	case OP_START:
		if (k->known == DAVIT_STATE_FAILED) {
			start_failed(k, false);
		} else {
			free(k->applied);
			k->applied = NULL;
			k->n_applied = 0;
			davit_supervise_start(&k->leaf);
		}
		return false;
	case OP_STOP:
		stop(k);
		return false;
	case OP_FAIL:
		tree_order(k, ORDER_FAIL, false, r->code, r->text);
		return false;
	default:
		return true;
	}
}

void operate_next(struct container *k)
{
	struct op *op;

	while (!k->now && k->created && !k->destroying && (op = DAVIT_LIST_FIRST(&k->ops, struct op, link))) {
		davit_list_remove(&op->link);
		k->now = op;
		begin(k, &op->r);
	}
}

void operate_report(struct container *k, int code, const char *text)
{
	enum davit_state wanted;

	if (k->now) {
		enum op_kind kind = k->now->r.kind;
		wanted = kind == OP_STOP   ? DAVIT_STATE_STOPPED
			 : kind == OP_FAIL ? DAVIT_STATE_FAILED
					   : DAVIT_STATE_STARTED;
		if (kind == OP_SOLVE && k->now->r.solution == DAVIT_SOLVE_STOP)
			wanted = DAVIT_STATE_STOPPED;
		if (k->known == wanted)
			finish(k, 0, NULL);
		else if (code)
			finish(k, code, text);
	}
	operate_next(k);
}

void operate(struct container *k, const struct operate_request *r)
{
	struct op *op = calloc(1, sizeof *op);
	bool destroy = r->kind == OP_DESTROY;

	if (!op) {
		if (r->promise.generation)
			davit_reject(k->tree->c, r->promise, DAVIT_ENOMEM, "out of memory");
		return;
	}
	op->r = *r;
	if (!k->parent && destroy && !k->tree->system->child) {
		answer_one(k, op, DAVIT_EPERM, "Main ends with the system");
	} else if (destroy && !(r->flags & DAVIT_DESTROY_FORCE) && !k->destroying &&
		   (k->known == DAVIT_STATE_STARTED || k->now || !davit_list_empty(&k->births))) {
		answer_one(k, op, DAVIT_ESTATE, "it runs, and is to be kept");
	} else if (destroy) {
		davit_list_add_tail(&k->ending, &op->link);
		destroy_begin(k, r->flags);
	} else if (k->destroying) {
		answer_one(k, op, DAVIT_ESTATE, "it is being destroyed");
	} else {
		davit_list_add_tail(&k->ops, &op->link);
		operate_next(k);
	}
}
