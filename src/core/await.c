/* SPDX-License-Identifier: MIT
 *
 * How a service is at this moment, and waiting until it runs or rests.
 */
#include "core/core_impl.h"

#include <stdio.h>
#include <string.h>

/* --- looking --- */

static bool instance_moves(const struct instance *i)
{
	enum davit_node_state state = i->node.state;

	return i->op || i->reporting || state == DAVIT_NODE_STARTING || state == DAVIT_NODE_STOPPING ||
	       (state == DAVIT_NODE_WAITING && !i->held_for) ||
	       (state == DAVIT_NODE_RUNNING && i->state != DAVIT_STATE_STARTED);
}

static void look_at(const struct instance *i, struct davit_service_look *ret)
{
	ret->moving |= instance_moves(i);
	ret->running += i->state == DAVIT_STATE_STARTED;
	ret->failed += i->state != DAVIT_STATE_STARTED && i->node.state == DAVIT_NODE_FAILED;
	if (i->held_for)
		snprintf(ret->why, sizeof ret->why, "%s", i->held_for);
	if (i->error && i->state != DAVIT_STATE_STARTED && i->node.state != DAVIT_NODE_COMPLETED)
		snprintf(ret->why, sizeof ret->why, "%s", i->error->message);
}

void davit_service_look(const struct davit_service *s, struct davit_service_look *ret)
{
	const char *name = s->spec->runtime ? s->spec->runtime : s->core->config.default_runtime;
	const struct core_runtime *r = core_runtime_find(s->core, name);

	*ret = (struct davit_service_look){
		.wanted = !s->spec->stopped && s->spec->instances > 0,
		.answers = r && r->phase == RUNTIME_OPEN,
		.deleting = s->deleting,
		.created = s->created,
		.updated = s->updated,
		.moving = !davit_list_empty(&s->leaving) || s->build_phase == BUILD_RUNNING,
	};
	for (size_t k = 0; k < s->n_slots; k++) {
		if (s->slots[k].current)
			look_at(s->slots[k].current, ret);
		ret->moving |= s->slots[k].next != NULL;
	}
	if (s->n_slots && s->slots[0].current)
		ret->runs = s->slots[0].current->run;
	if (s->error)
		snprintf(ret->why, sizeof ret->why, "%s", s->error);
	if (!ret->answers)
		snprintf(ret->why, sizeof ret->why, "runtime %s %s%s%s", name,
			 r ? "does not answer" : "does not exist any more",
			 r && r->error.message[0] ? ": " : "", r ? r->error.message : "");
}

/* --- waiting --- */

struct await {
	struct davit_list list; /* in core->awaits */
	struct davit_core_listener listener;
	struct davit_core *core;
	struct davit_op *op;
	bool running;
	char key[]; /* of the service */
};

static void await_free(struct await *w)
{
	davit_core_unlisten(&w->listener);
	davit_list_remove(&w->list);
	free(w);
}

static void fail(struct await *w, int code, const char *text)
{
	davit_op_fail(w->op, code, NULL, "%s", text);
	await_free(w);
}

static void judge(struct await *w, struct davit_service *s)
{
	struct davit_service_look now;

	davit_service_look(s, &now);
	if (w->running ? now.wanted && now.running >= (size_t)s->spec->instances
		       : !now.wanted && !now.running && !now.moving) {
		davit_op_complete(w->op, 0);
		await_free(w);
	} else if (now.deleting) {
		fail(w, DAVIT_ENOENT, "it was removed meanwhile");
	} else if (!now.answers) {
		fail(w, DAVIT_EUNAVAIL, now.why);
	} else if (now.wanted != w->running) {
		fail(w, DAVIT_ESTATE, w->running ? "it was stopped meanwhile" : "it was started meanwhile");
	} else if (w->running && !now.moving) {
		fail(w, DAVIT_ESTATE, now.why[0] ? now.why : "it has ended");
	}
}

static void on_service(struct davit_core_listener *l, struct davit_service *s, bool gone)
{
	struct await *w = l->user;

	if (strcmp(w->key, s->key) != 0)
		return;
	if (gone)
		fail(w, DAVIT_ENOENT, "it was removed meanwhile");
	else
		judge(w, s);
}

static void on_cancel(struct davit_op *op, int why)
{
	struct await *w = op->performer;

	fail(w, why, why == DAVIT_ETIMEDOUT ? "it takes too long" : "nobody waits any more");
}

int davit_core_await(struct davit_core *c, const struct davit_selector *sel, bool running,
		     struct davit_op *op, struct davit_error *err)
{
	struct davit_service *s;
	struct await *w;
	int r = davit_core_service(c, sel, &s, err);

	if (r < 0)
		return r;
	w = calloc(1, sizeof *w + strlen(s->key) + 1);
	if (!w)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	strcpy(w->key, s->key);
	w->core = c;
	w->op = op;
	w->running = running;
	w->listener = (struct davit_core_listener){.user = w, .service = on_service};
	davit_core_listen(c, &w->listener);
	davit_list_add_tail(&c->awaits, &w->list);
	op->performer = w;
	davit_op_on_cancel(op, on_cancel);
	/* What was wanted just now takes its course before it is judged. */
	if (!davit_list_empty(&s->dirty) && !s->deleting) {
		davit_list_remove(&s->dirty);
		service_reconcile(s);
		core_service_changed(s);
	} else {
		judge(w, s);
	}
	return 0;
}

void await_abandon(struct davit_core *c)
{
	struct await *w;

	while ((w = DAVIT_LIST_FIRST(&c->awaits, struct await, list)))
		fail(w, DAVIT_ECLOSED, "the daemon ends");
}
