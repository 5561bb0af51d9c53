/* SPDX-License-Identifier: MIT
 *
 * Ends: of services that are killed, with those who wait until the last instance
 * is gone; of everything; and of the core itself under commands in progress.
 */
#include "core/transaction.h"

#include <stdio.h>
#include <string.h>

struct gone_wait {
	struct davit_list list; /* in core->gone_waits */
	struct davit_core_listener listener;
	struct davit_op *op;
	struct davit_op committed;
	struct davit_core *core;
	struct davit_map keys; /* what is awaited; keys are borrowed from `names` */
	char **names;
	bool durable;
};

static void gone_wait_free(struct gone_wait *w)
{
	davit_core_unlisten(&w->listener);
	davit_list_remove(&w->list);
	davit_map_fini(&w->keys);
	for (size_t k = 0; w->names[k]; k++)
		free(w->names[k]);
	free(w->names);
	free(w);
}

static void gone_check(struct gone_wait *w)
{
	if (!w->durable || w->keys.len)
		return;
	davit_op_complete(w->op, 0);
	gone_wait_free(w);
}

static void on_service_gone(struct davit_core_listener *l, struct davit_service *s, bool gone)
{
	struct gone_wait *w = l->user;

	if (!gone)
		return;
	davit_map_remove(&w->keys, s->key);
	gone_check(w);
}

static void kill_committed(struct davit_op *op, int result)
{
	struct gone_wait *w = op->user;

	if (result < 0) {
		davit_op_fail_error(w->op, &op->error);
		gone_wait_free(w);
		return;
	}
	w->durable = true;
	if (!w->core) {
		davit_op_fail(w->op, DAVIT_ECLOSED, NULL, "the daemon ends");
		gone_wait_free(w);
		return;
	}
	gone_check(w);
}

struct collected {
	struct davit_service **v;
	size_t n, max;
};

static bool collect(void *user, struct davit_service *s)
{
	struct collected *l = user;

	if (l->n < l->max)
		l->v[l->n++] = s;
	return true;
}

static struct gone_wait *gone_wait_new(struct davit_core *c, const struct collected *l, struct davit_op *op)
{
	struct gone_wait *w = calloc(1, sizeof *w);

	if (!w || !(w->names = calloc(l->n + 1, sizeof *w->names))) {
		free(w);
		return NULL;
	}
	w->core = c;
	w->op = op;
	for (size_t k = 0; k < l->n; k++) {
		w->names[k] = strdup(l->v[k]->key);
		if (w->names[k])
			davit_map_put(&w->keys, w->names[k], w);
	}
	w->listener = (struct davit_core_listener){.user = w, .service = on_service_gone};
	davit_core_listen(c, &w->listener);
	davit_list_add_tail(&c->gone_waits, &w->list);
	davit_op_init(&w->committed, c->loop, kill_committed, w);
	davit_op_begin(&w->committed, 0);
	return w;
}

static int remove_record(struct davit_core *c, const char *of, int64_t revision, const char *cause,
			 struct davit_op *op, struct davit_error *err)
{
	struct pending *p = pending_new(c, 1, cause, op, err);
	int r = p ? pending_add(p, strdup(of), NULL, false, revision, "deleted", err) : err->code;

	if (r < 0) {
		if (p)
			pending_free(p);
		return r;
	}
	return pending_commit(p);
}

int davit_core_kill(struct davit_core *c, const struct davit_selector *sel, bool wait_gone, const char *cause,
		    struct davit_op *op, struct davit_error *err)
{
	struct collected l = {.max = c->services.len};
	struct davit_service *one;
	struct gone_wait *w = NULL;
	struct pending *p;
	int r = 0;

	/* A name must be there; "everything in a namespace" may be nothing. */
	if (sel->name && sel->name[0]) {
		const char *unreadable;
		int64_t revision;
		r = davit_core_service(c, sel, &one, err);
		if (r == DAVIT_ECORRUPT && (unreadable = unreadable_service(c, sel, &revision)))
			return remove_record(c, unreadable, revision, cause, op, err);
		if (r < 0)
			return r;
	}
	l.v = calloc(l.max ? l.max : 1, sizeof *l.v);
	if (!l.v)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	davit_core_services(c, sel, collect, &l);
	if (wait_gone && l.n && !(w = gone_wait_new(c, &l, op)))
		r = davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	p = r == 0 ? pending_new(c, l.n, cause, w ? &w->committed : op, err) : NULL;
	for (size_t k = 0; p && k < l.n && r == 0; k++) {
		char *key = NULL;
		if (l.v[k]->deleting)
			continue; /* somebody else has killed it, and its end is waited for */
		if (asprintf(&key, "services/%s", l.v[k]->key) < 0)
			key = NULL;
		r = pending_add(p, key, NULL, false, key ? unreadable_revision(c, key, l.v[k]->revision) : 0,
				"deleted", err);
	}
	free(l.v);
	if (r < 0 || !p) {
		if (p)
			pending_free(p);
		if (w)
			gone_wait_free(w);
		return err->code;
	}
	return pending_commit(p);
}

/* --- the end of everything --- */

void command_abandon(struct davit_core *c)
{
	struct pending *p;
	struct gone_wait *w, *tmp;

	while ((p = DAVIT_LIST_FIRST(&c->commands, struct pending, list))) {
		davit_list_remove(&p->list);
		davit_op_fail(p->op, DAVIT_ECLOSED, NULL, "the daemon ends");
		p->core = NULL;
		p->op = NULL;
	}
	DAVIT_LIST_FOREACH_SAFE (w, tmp, &c->gone_waits, list) {
		/* The others hear of their transaction, from the loop. */
		davit_core_unlisten(&w->listener);
		davit_list_remove(&w->list);
		w->core = NULL;
		if (!w->durable)
			continue;
		davit_op_fail(w->op, DAVIT_ECLOSED, NULL, "the daemon ends");
		gone_wait_free(w);
	}
}

void davit_core_stop_all(struct davit_core *c, struct davit_op *op)
{
	size_t pos = 0;
	void *v;

	c->stopping_all = true;
	c->stop_all_op = op;
	while (davit_map_next(&c->instances, &pos, NULL, &v)) {
		struct instance *i = v;
		struct davit_service *s = i->service;
		if (s) {
			for (size_t k = 0; k < s->n_slots; k++) {
				if (s->slots[k].current == i)
					s->slots[k].current = NULL;
				if (s->slots[k].next == i)
					s->slots[k].next = NULL;
			}
		}
		instance_set_goal(i, GOAL_GONE);
	}
	core_check_stopped(c);
}
