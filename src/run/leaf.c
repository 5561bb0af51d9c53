/* SPDX-License-Identifier: MIT
 *
 * Leaves of a plan while they run: from the order of the plan to the end that it is told.
 */
#include "run/host.h"

#include <stdio.h>
#include <string.h>

static void free_leaf(struct leaf *l)
{
	davit_list_remove(&l->list);
	davit_deferred_cancel(&l->pump);
	leaf_forget_steps(l);
	if (l->fini)
		l->fini(l);
	json_decref(l->config);
	free(l->key);
	free(l->name);
	free(l);
}

void leaves_stored(struct host *h, uint64_t generation)
{
	struct leaf *l, *next;

	DAVIT_LIST_FOREACH_SAFE (l, next, &h->over, list)
		if (l->generation <= generation)
			free_leaf(l);
}

struct leaf *leaf_find(const struct host *h, const char *key)
{
	struct leaf *l;

	DAVIT_LIST_FOREACH (l, &h->leaves, list)
		if (!strcmp(l->key, key))
			return l;
	return NULL;
}

/* ------------------------------------------------------------------------------- telling */

void leaf_note(struct leaf *l, const char *fmt, ...)
{
	struct davit_json *j = events_begin(&l->host->events, "note", l->key);
	char text[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	davit_json_put_string(j, "text", text);
	events_end(&l->host->events);
}

static void tell_start(struct leaf *l)
{
	const struct told *t = events_told(&l->host->events, l->key, "");
	struct davit_json *j;

	if (t && t->started)
		return;
	j = events_begin(&l->host->events, "start", l->key);
	davit_json_put_string(j, "kind", davit_plan_kind_name(l->node->kind));
	davit_json_put_string(j, "name", l->name);
	events_end(&l->host->events);
}

static void tell_end(struct leaf *l, enum davit_plan_outcome outcome, const char *message, int exit_status)
{
	const struct told *t = events_told(&l->host->events, l->key, "");
	struct davit_json *j;

	if (t && t->ended)
		return; /* by a host that died before this was durable */
	j = events_begin(&l->host->events, "finish", l->key);
	davit_json_put_string(j, "name", l->name);
	davit_json_put_string(j, "outcome", davit_plan_outcome_name(outcome));
	if (exit_status >= 0)
		davit_json_put_int(j, "exit_status", exit_status);
	if (message)
		davit_json_put_string(j, "message", message);
	events_end(&l->host->events);
}

/* --------------------------------------------------------------------------------- ends */

void leaf_end(struct leaf *l, enum davit_plan_outcome outcome, const char *message, const json_t *value,
	      int exit_status)
{
	struct host *h = l->host;
	struct davit_error err;
	bool was_told = outcome != DAVIT_PLAN_SUCCEEDED && (l->aborted || l->node->cancelled);

	tell_end(l, was_told ? DAVIT_PLAN_ABORTED : outcome, message, exit_status);
	l->node = NULL;
	davit_list_remove(&l->list);
	davit_list_add_tail(&h->over, &l->list);
	l->generation = h->plan->generation + 1;
	if (davit_plan_ended(h->plan, l->key, outcome, message, value, davit_loop_wall(h->loop), &err) < 0)
		host_die(h, "%s", err.message);
}

void leaf_error(struct leaf *l, const struct davit_error *err)
{
	leaf_end(l, l->aborted ? DAVIT_PLAN_ABORTED : DAVIT_PLAN_ERRORED, err->message, NULL, -1);
}

/* --------------------------------------------------------------------------- in a thread */

static void run_work(uv_work_t *work)
{
	struct leaf *l = work->data;
	int r = l->in_thread(l, &l->error);

	l->error.code = r;
}

static void after_work(uv_work_t *work, int status)
{
	struct leaf *l = work->data;

	l->working = false;
	l->after(l, l->error.code);
}

void leaf_work(struct leaf *l, int (*fn)(struct leaf *l, struct davit_error *err),
	       void (*after)(struct leaf *l, int result))
{
	l->in_thread = fn;
	l->after = after;
	l->error = (struct davit_error){0};
	l->work.data = l;
	l->working = uv_queue_work(davit_loop_uv(l->host->loop), &l->work, run_work, after_work) == 0;
	if (!l->working)
		host_die(l->host, "out of memory");
}

/* ------------------------------------------------------------------------------ beginning */

static void (*const starts[DAVIT_PLAN_KIND_COUNT])(struct leaf *l) = {
	[DAVIT_PLAN_TASK] = task_start,		[DAVIT_PLAN_GET] = get_start,
	[DAVIT_PLAN_PUT] = put_start,		[DAVIT_PLAN_CHECK] = check_start,
	[DAVIT_PLAN_LOAD_VAR] = load_var_start,
};

void leaf_start(struct host *h, struct davit_plan_node *node, enum davit_plan_start how)
{
	struct leaf *l = calloc(1, sizeof *l);

	if (l) {
		l->key = strdup(node->key);
		l->name = strdup(node->name ? node->name : "");
	}
	if (!l || !l->key || !l->name)
		host_die(h, "out of memory");
	l->host = h;
	l->node = node;
	l->config = json_incref(node->config);
	l->how = how;
	l->aborted = how == DAVIT_PLAN_FIND; /* what has not begun will not */
	davit_list_init(&l->list);
	davit_list_init(&l->steps);
	davit_list_add_tail(&h->leaves, &l->list);
	tell_start(l);
	starts[node->kind](l);
}

void leaf_abort(struct leaf *l, bool force)
{
	l->aborted = true;
	l->forced |= force;
	if (l->x && force)
		davit_execution_kill(l->x);
	else if (l->x)
		davit_execution_abort(l->x);
	else if (!l->working && l->on_abort)
		l->on_abort(l);
}
