/* SPDX-License-Identifier: MIT
 *
 * Facets of instances that take an operation: pausing, copying, and the list of
 * terminals, which is of all runtimes.
 */
#include "core/core_impl.h"

#include "base/units.h"

#include <stdio.h>
#include <string.h>

#define SHORT (60 * DAVIT_NSEC_PER_SEC)
#define NO_LIMIT 0 /* a copy takes as long as it takes */

static int no_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

/* --------------------------------------------------------------------- pausing */

/* Several instances: the user's operation completes with the last one. */
struct group {
	struct davit_op *user;
	size_t left;
	struct davit_error error; /* the first one */
};

struct member {
	struct davit_op op;
	struct group *group;
};

static void member_done(struct davit_op *op, int result)
{
	struct member *m = op->user;
	struct group *g = m->group;

	if (result < 0 && !g->error.code)
		g->error = op->error;
	free(m);
	if (--g->left)
		return;
	if (g->error.code)
		davit_op_fail_error(g->user, &g->error);
	else
		davit_op_complete(g->user, 0);
	free(g);
}

static void paused(struct facet_op *f)
{
	struct instance *i = f->instance;

	if (!i || i->state != DAVIT_STATE_STARTED)
		return;
	i->paused = f->pause;
	core_event(f->core, f->pause ? "paused" : "unpaused", i->service, i, "%s",
		   f->cause ? f->cause : "user");
	if (i->service)
		core_service_changed(i->service);
}

static int pause_one(struct davit_core *c, struct instance *i, bool pause, const char *cause, struct group *g)
{
	const struct davit_pause_facet *facet = i->runtime->driver->pause;
	struct member *m = calloc(1, sizeof *m);
	struct facet_op *f;

	if (!m)
		return DAVIT_ENOMEM;
	m->group = g;
	davit_op_init(&m->op, c->loop, member_done, m);
	davit_op_begin(&m->op, 0);
	f = facet_op_new(c, i, &m->op, SHORT, cause);
	if (!f) {
		free(m);
		return DAVIT_ENOMEM;
	}
	g->left++;
	f->exclusive = true;
	f->pause = pause;
	f->succeeded = paused;
	(pause ? facet->pause : facet->unpause)(i->inst, &f->op);
	return 0;
}

static bool is_meant(const struct instance *i, const char *id)
{
	char index[16];

	snprintf(index, sizeof index, "%u", i->workload.index);
	return i->state == DAVIT_STATE_STARTED &&
	       (!id || !id[0] || !strcmp(id, i->workload.id) || !strcmp(id, index));
}

int davit_core_pause(struct davit_core *c, const struct davit_selector *sel, const char *instance, bool pause,
		     const char *cause, struct davit_op *op, struct davit_error *err)
{
	struct davit_service *s;
	struct group *g;
	size_t n = 0;
	int r = davit_core_service(c, sel, &s, err);

	for (size_t k = 0; r == 0 && k < s->n_slots; k++) {
		struct instance *i = s->slots[k].current;
		if (!i || !is_meant(i, instance))
			continue;
		n++;
		r = facet_check(i->runtime, DAVIT_CAP_PAUSE, i->runtime->driver->pause, err);
		if (r == 0 && (i->op || facet_ops_hold(i, false)))
			r = davit_error_set(err, DAVIT_ESTATE, NULL, "instance %s is busy: try again",
					    i->workload.id);
	}
	if (r < 0)
		return r;
	if (!n)
		return davit_error_set(err, DAVIT_ESTATE, NULL, "no instance of '%s'%s%s runs", s->spec->name,
				       instance && instance[0] ? " with id " : "", instance ? instance : "");
	g = calloc(1, sizeof *g);
	if (!g)
		return no_memory(err);
	g->user = op;
	g->left = 1; /* ours, until all have been begun */
	for (size_t k = 0; k < s->n_slots; k++) {
		struct instance *i = s->slots[k].current;
		if (i && is_meant(i, instance) && pause_one(c, i, pause, cause, g) < 0)
			no_memory(&g->error);
	}
	if (--g->left)
		return 0;
	free(g); /* none could be begun */
	return no_memory(err);
}

/* --------------------------------------------------------------------- copying */

static int copy(struct davit_core *c, struct davit_instance *inst, const char *path, int fd, bool put,
		struct davit_op *op, struct davit_error *err)
{
	struct instance *i = instance_of(inst);
	const struct davit_copy_facet *facet = i->runtime->driver->copy;
	struct facet_op *f = NULL;
	int r = facet_check(i->runtime, DAVIT_CAP_COPY, facet, err);

	if (r == 0 && path[0] != '/')
		r = davit_error_set(err, DAVIT_EINVAL, "path", "the path inside must be absolute, not '%s'",
				    path);
	if (r == 0 && i->state == DAVIT_STATE_DESTROYED)
		r = davit_error_set(err, DAVIT_ESTATE, NULL, "instance %s is not there yet", i->workload.id);
	if (r == 0 && i->goal == GOAL_GONE)
		r = davit_error_set(err, DAVIT_ESTATE, NULL, "instance %s is being removed", i->workload.id);
	if (r == 0 && !(f = facet_op_new(c, i, op, NO_LIMIT, NULL)))
		r = no_memory(err);
	/* The driver may need the path for longer than our caller. */
	if (r == 0 && !(f->data = strdup(path))) {
		facet_op_free(f);
		r = no_memory(err);
	}
	if (r < 0) {
		close(fd);
		return r;
	}
	(put ? facet->put : facet->get)(inst, f->data, fd, &f->op);
	return 0;
}

int davit_core_copy_put(struct davit_core *c, struct davit_instance *i, const char *path, int fd,
			struct davit_op *op, struct davit_error *err)
{
	return copy(c, i, path, fd, true, op, err);
}

int davit_core_copy_get(struct davit_core *c, struct davit_instance *i, const char *path, int fd,
			struct davit_op *op, struct davit_error *err)
{
	return copy(c, i, path, fd, false, op, err);
}

/* ------------------------------------------------------------------- terminals */

/* One runtime after the other. */
struct listing {
	struct davit_op op; /* of the runtime at hand */
	struct davit_core *core;
	struct davit_op *user;
	void (*each)(void *user, const char *runtime, const struct davit_terminal_info *info);
	void *each_user;
	struct core_runtime *at;
};

static void list_next(struct listing *l);

static void listed(struct davit_op *op, int result)
{
	struct listing *l = op->user;

	/* One that does not answer hides none of the others. */
	if (result == DAVIT_ECLOSED || result == DAVIT_ECANCELED) {
		davit_op_fail_error(l->user, &op->error);
		free(l);
		return;
	}
	list_next(l);
}

static void list_one(void *user, const struct davit_terminal_info *info)
{
	struct listing *l = user;

	l->each(l->each_user, l->at->name, info);
}

static void list_next(struct listing *l)
{
	struct davit_core *c = l->core;
	struct core_runtime *r;
	struct facet_op *f;
	bool past = !l->at;

	DAVIT_LIST_FOREACH (r, &c->runtimes, list) {
		if (!past) {
			past = r == l->at;
			continue;
		}
		if (facet_check(r, DAVIT_CAP_TERMINAL, r->driver ? r->driver->terminal : NULL, NULL) < 0)
			continue;
		l->at = r;
		davit_op_init(&l->op, c->loop, listed, l);
		davit_op_begin(&l->op, 0);
		f = facet_op_new(c, NULL, &l->op, SHORT, NULL);
		if (f)
			r->driver->terminal->list(r->rt, NULL, list_one, l, &f->op);
		else
			davit_op_complete(&l->op, DAVIT_ENOMEM);
		return;
	}
	davit_op_complete(l->user, 0);
	free(l);
}

int davit_core_terminals(struct davit_core *c,
			 void (*each)(void *user, const char *runtime,
				      const struct davit_terminal_info *info),
			 void *user, struct davit_op *op, struct davit_error *err)
{
	struct listing *l = calloc(1, sizeof *l);

	if (!l)
		return no_memory(err);
	*l = (struct listing){.core = c, .user = op, .each = each, .each_user = user};
	list_next(l);
	return 0;
}

int davit_core_terminal_close(struct davit_core *c, const char *runtime, const char *id, struct davit_op *op,
			      struct davit_error *err)
{
	struct core_runtime *r = core_runtime_find(c, runtime);
	struct facet_op *f;
	int code;

	if (!r)
		return davit_error_set(err, DAVIT_ENOENT, "runtime", "there is no runtime '%s'", runtime);
	code = facet_check(r, DAVIT_CAP_TERMINAL, r->driver ? r->driver->terminal : NULL, err);
	if (code < 0)
		return code;
	f = facet_op_new(c, NULL, op, SHORT, NULL);
	if (!f)
		return no_memory(err);
	f->data = strdup(id);
	if (!f->data) {
		facet_op_free(f);
		return no_memory(err);
	}
	r->driver->terminal->close(r->rt, f->data, &f->op);
	return 0;
}
