/* SPDX-License-Identifier: MIT
 *
 * Lists of what is ours: at first, to adopt it; after a loss, to find out what was
 * missed.
 */
#include "runtime/engine/impl.h"

#include "base/json.h"

#include <stdio.h>
#include <string.h>

void engine_filter(struct engine *e, struct davit_buf *b)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;

	davit_buf_addf(&text, "{\"label\":[\"davit.home=%s\"]}", e->home);
	davit_buf_adds(b, "filters=");
	http_escape(b, davit_buf_str(&text));
}

static struct http_call *list(struct engine *e)
{
	DAVIT_AUTO_BUF query = DAVIT_BUF_INIT;

	engine_filter(e, &query);
	return http_new(&e->calls, "GET", "/containers/json?all=1&%s", davit_buf_str(&query));
}

/* The engine's ids in a list of containers; the array is owned by the caller, the
 * strings by the list. NULL when the answer is none. */
static const char **ids_of(const json_t *containers, size_t *ret_n)
{
	const char **ids = calloc(json_array_size(containers) + 1, sizeof *ids);
	const json_t *o;
	size_t i, n = 0;

	if (!ids || !json_is_array(containers)) {
		free(ids);
		return NULL;
	}
	json_array_foreach(containers, i, o)
	{
		const char *id = json_string_value(json_object_get(o, "Id"));
		if (id && strlen(id) == 64)
			ids[n++] = id;
	}
	*ret_n = n;
	return ids;
}

/* --- adopting --- */

struct lookup {
	struct davit_list list;
	struct task *task;
	struct http_call *call;
};

static void adopt_fini(struct task *t)
{
	struct davit_list *lookups = t->data;
	struct lookup *l, *tmp;

	DAVIT_LIST_FOREACH_SAFE (l, tmp, lookups, list) {
		http_cancel(l->call);
		free(l);
	}
	free(lookups);
}

static void found(struct engine *e, const struct observation *seen)
{
	struct davit_runtime *rt = e->rt;
	struct davit_found f = {.label = seen->label};
	struct engine_instance *ei;
	struct davit_instance *inst;
	struct runs runs;

	if (strcmp(seen->home, e->home) || !*seen->id || davit_map_get(&e->instances, seen->id))
		return;
	runs_recall(rt->state_dir, seen->id, seen->started, &runs);
	memcpy(f.id, seen->id, sizeof f.id);
	f.now = (struct davit_inspection){.state = seen->state,
					  .run = runs.run,
					  .pid = seen->pid,
					  .started = seen->started,
					  .exit = seen->exit,
					  .paused = seen->paused};
	memcpy(f.now.address, seen->address, sizeof f.now.address);
	inst = rt->events->found(rt, &f);
	/* Without memory it is left alone, as one that the core does not want. */
	if (!inst || container_add(inst, seen->id, seen->container) < 0)
		return;
	ei = engine_instance(inst);
	ei->runs = runs;
	ei->state = seen->state;
	ei->told = seen->state == DAVIT_STATE_STARTED ? runs.run - 1 : runs.run;
	ei->pid = seen->pid;
	ei->exit = seen->exit;
	ei->paused = seen->paused;
	memcpy(ei->image, seen->image, sizeof ei->image);
}

static void on_lookup(struct http_call *c, const struct davit_error *err)
{
	struct lookup *l = c->user;
	struct task *t = l->task;
	struct davit_list *lookups = t->data;
	struct observation seen;
	struct davit_error why = {0};
	json_t *o;

	davit_list_remove(&l->list);
	free(l);
	if (err && err->code != DAVIT_ENOENT) { /* gone since it was listed */
		task_end(t, err);
		return;
	}
	o = err ? NULL : http_answer(c);
	if (o && observe(o, &seen, &why) == 0)
		found(t->e, &seen);
	json_decref(o);
	if (why.code)
		task_end(t, &why);
	else if (davit_list_empty(lookups))
		task_end(t, NULL);
}

static int look_up(struct task *t, const char *id)
{
	struct lookup *l = calloc(1, sizeof *l);
	struct http_call *c = l ? http_new(&t->e->calls, "GET", "/containers/%s/json", id) : NULL;

	if (!c) {
		free(l);
		return DAVIT_ENOMEM;
	}
	c->user = l;
	c->done = on_lookup;
	l->task = t;
	if (http_send(c, NULL) < 0) {
		free(l);
		return DAVIT_ENOMEM;
	}
	l->call = c;
	davit_list_add_tail(t->data, &l->list);
	return 0;
}

static void listed(struct task *t, struct http_call *c, const struct davit_error *err)
{
	json_t *containers = NULL;
	const char **ids = NULL;
	size_t n = 0;
	int r = 0;

	if (err) {
		task_end(t, err);
		return;
	}
	containers = http_answer(c);
	ids = ids_of(containers, &n);
	for (size_t i = 0; ids && r == 0 && i < n; i++)
		r = look_up(t, ids[i]);
	if (!ids)
		task_fail(t, DAVIT_EPROTO, "the engine's list of containers makes no sense");
	else if (r < 0)
		task_fail(t, r, "out of memory");
	else if (n == 0)
		task_end(t, NULL);
	free(ids);
	json_decref(containers);
}

void engine_adopt(struct davit_runtime *rt, struct davit_op *op)
{
	struct engine *e = engine_of(rt);
	struct task *t = task_new(e, op, NULL);
	struct davit_list *lookups;

	if (!t)
		return;
	lookups = malloc(sizeof *lookups);
	if (!lookups) {
		task_fail(t, DAVIT_ENOMEM, "out of memory");
		return;
	}
	davit_list_init(lookups);
	t->data = lookups;
	t->fini = adopt_fini;
	/* Whatever happens from here on is told, what was before is listed. */
	e->seen = davit_loop_wall(rt->loop) - DAVIT_NSEC_PER_SEC;
	events_open(e);
	task_call(t, list(e), listed);
}

/* --- reconciling --- */

static bool contains(const char *const *ids, size_t n, const char *id)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(ids[i], id))
			return true;
	return false;
}

/* What is not listed is gone; all else is looked at. */
static int compare(struct engine *e, const char *const *ids, size_t n)
{
	struct davit_instance **known = calloc(e->instances.len + 1, sizeof *known);
	size_t pos = 0, n_known = 0;
	void *inst;

	if (!known)
		return DAVIT_ENOMEM;
	while (davit_map_next(&e->instances, &pos, NULL, &inst))
		known[n_known++] = inst;
	e->unsettled = 1; /* this one */
	for (size_t i = 0; i < n_known; i++) {
		struct engine_instance *ei = engine_instance(known[i]);
		if (ei->removing)
			continue;
		if (!contains(ids, n, ei->container)) {
			container_gone(known[i], "it was removed while the engine did not answer");
			continue;
		}
		ei->settling = true;
		e->unsettled++;
		container_look(known[i]);
	}
	free(known);
	e->unsettled--;
	engine_settled(e);
	return 0;
}

static void on_listed_again(struct http_call *c, const struct davit_error *err)
{
	struct engine *e = c->user;
	struct davit_error why;
	json_t *containers;
	const char **ids;
	size_t n = 0;

	e->listing = NULL;
	if (err) {
		events_lost(e, err);
		return;
	}
	containers = http_answer(c);
	ids = ids_of(containers, &n);
	if (!ids || compare(e, ids, n) < 0) {
		davit_error_set(&why, DAVIT_EPROTO, NULL, "its list of containers makes no sense");
		events_lost(e, &why);
	}
	free(ids);
	json_decref(containers);
}

void engine_reconcile(struct engine *e)
{
	struct http_call *c;

	e->phase = ENGINE_RECONCILING;
	events_open(e);
	c = list(e);
	if (c) {
		c->user = e;
		c->done = on_listed_again;
	}
	if (c && http_send(c, NULL) == 0)
		e->listing = c;
	else
		events_lost(e, &(struct davit_error){.code = DAVIT_ENOMEM, .message = "out of memory"});
}

void engine_settled(struct engine *e)
{
	if (e->phase != ENGINE_RECONCILING || e->unsettled || e->listing)
		return;
	e->phase = ENGINE_UP;
	e->rt->events->regained(e->rt);
}
