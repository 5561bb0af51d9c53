/* SPDX-License-Identifier: MIT
 *
 * Commands on services. Everything is checked before anything is written; what
 * was accepted is durable before the command completes, and has its effect
 * through the registry like any other change of the store.
 */
#include "core/admit.h"
#include "core/check.h"

#include "base/units.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* --- apply --- */

static int add_service(struct pending *p, const struct proposal *pr, const struct davit_spec *spec,
		       const struct apply_how *how, struct davit_error *err)
{
	const enum davit_apply_mode mode = how->mode;
	const bool force = how->force;
	struct davit_core *c = p->core;
	struct davit_service *s = registry_service(c, spec->namespace_, spec->name, spec->version);
	/* Those of one command keep their order, which the tree goes by. */
	int64_t now = davit_loop_wall(c->loop) + (int64_t)p->n;
	DAVIT_AUTO_FREE char *was = NULL, *is = NULL;
	char *key = NULL;
	bool same;
	int r;

	if (s && s->deleting)
		return davit_error_set(err, DAVIT_ESTATE, "name",
				       "service '%s' is being removed; try again when it is gone",
				       spec->name);
	if (!s && mode == DAVIT_APPLY_UPDATE)
		return davit_error_set(err, DAVIT_ENOENT, "name", "service '%s:%s' not found in namespace %s",
				       spec->name, spec->version, spec->namespace_);
	if (how->expect && s && s->revision != how->expect)
		return davit_error_set(err, DAVIT_ECONFLICT, "revision",
				       "service '%s' is at revision %" PRId64 ", not at %" PRId64, spec->name,
				       s->revision, how->expect);
	r = check_service(pr, spec, err);
	if (r < 0)
		return r;
	is = davit_spec_json(spec);
	was = s ? davit_spec_json(s->spec) : NULL;
	same = is && was && !strcmp(is, was);
	if (s && !same && mode == DAVIT_APPLY_CREATE)
		return davit_error_set(err, DAVIT_EEXIST, "name",
				       "service '%s:%s' exists already and is different; use davit update",
				       spec->name, spec->version);
	r = check_ports(pr, s, spec, err);
	if (r < 0)
		return r;
	/* An update with the same spec builds the source again: it may have
	 * changed. Running what runs already changes nothing. */
	if (s && same && !force && mode != DAVIT_APPLY_UPDATE && mode != DAVIT_APPLY_VALIDATE)
		return 0;
	if (s && same && !spec->source && !force && mode != DAVIT_APPLY_VALIDATE)
		return 0;
	r = check_source(c, spec, err);
	if (r < 0)
		return r;
	if (asprintf(&key, "services/%s/%s/%s", spec->namespace_, spec->name, spec->version) < 0)
		key = NULL;
	return pending_add(p, key,
			   registry_record(spec, s ? s->created : now, now,
					   s ? s->nonce + (same || force || mode == DAVIT_APPLY_UPDATE) : 0),
			   true, key ? unreadable_revision(c, key, s ? s->revision : 0) : 0,
			   s ? "updated" : "created", err);
}

static int add_other(struct pending *p, const struct proposal *pr, const struct davit_spec *spec,
		     enum davit_apply_mode mode, struct davit_error *err)
{
	struct davit_core *c = p->core;
	bool ns = spec->kind == DAVIT_KIND_NAMESPACE;
	int64_t revision, now = davit_loop_wall(c->loop);
	DAVIT_AUTO_FREE char *id = NULL;
	char *key = NULL;

	if ((ns ? asprintf(&id, "%s", spec->name) : asprintf(&id, "%s/%s", spec->namespace_, spec->name)) < 0)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (ns) {
		const struct namespace_record *n = davit_map_get(&c->namespaces, id);
		int r = egress_check_namespace(c, spec, err);
		if (r < 0)
			return r;
		revision = n ? n->revision : 0;
	} else {
		const struct supervisor *s = davit_map_get(&c->supervisors, id);
		int r = check_supervisor(pr, spec, err);
		if (r < 0)
			return r;
		revision = s ? s->revision : 0;
	}
	if (!revision && mode == DAVIT_APPLY_UPDATE)
		return davit_error_set(err, DAVIT_ENOENT, "name", "%s '%s' not found",
				       ns ? "namespace" : "supervisor", spec->name);
	if (asprintf(&key, "%s/%s", ns ? "namespaces" : "supervisors", id) < 0)
		key = NULL;
	return pending_add(p, key, registry_record(spec, now, now, 0), true,
			   key ? unreadable_revision(c, key, revision) : 0, NULL, err);
}

void apply_place(const struct davit_spec *spec, struct davit_error *err)
{
	if (err->line)
		return;
	err->line = spec->line;
	err->column = spec->column;
}

/* Checks the specs against what is recorded, and gathers what is to be written.
 * ret_ask (n of them): whether the runtime is to be asked about each. */
static int propose(const struct proposal *pr, const struct apply_how *how, struct davit_op *op,
		   struct pending **ret, bool *ret_ask, struct davit_error *err)
{
	struct davit_spec *const *specs = pr->specs;
	struct pending *p = pending_new(pr->c, pr->n, how->cause, op, err);
	int r = p ? 0 : DAVIT_ENOMEM;

	for (size_t k = 0; k < pr->n && r == 0; k++) {
		size_t before = p->n;
		for (size_t m = 0; m < k && r == 0 && pr->n < 64; m++)
			if (specs[m]->kind == specs[k]->kind && same_service(specs[m], specs[k]))
				r = davit_error_set(err, DAVIT_EINVAL, "name", "'%s:%s' is given twice",
						    specs[k]->name, specs[k]->version);
		if (r == 0)
			r = specs[k]->kind == DAVIT_KIND_SERVICE ? add_service(p, pr, specs[k], how, err)
								 : add_other(p, pr, specs[k], how->mode, err);
		if (r < 0)
			apply_place(specs[k], err);
		ret_ask[k] = specs[k]->kind == DAVIT_KIND_SERVICE && p->n > before;
	}
	if (r < 0) {
		if (p)
			pending_free(p);
		return r;
	}
	*ret = p;
	return 0;
}

int apply_commit(const struct proposal *pr, const struct apply_how *how, struct davit_op *op,
		 struct davit_error *err)
{
	DAVIT_AUTO_FREE bool *ask = calloc(pr->n + 1, sizeof *ask);
	struct pending *p;
	int r = ask ? propose(pr, how, op, &p, ask, err)
		    : davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");

	return r < 0 ? r : apply_pending(p, how);
}

int apply_pending(struct pending *p, const struct apply_how *how)
{
	if (how->mode == DAVIT_APPLY_VALIDATE) {
		davit_op_complete(p->op, 0);
		pending_free(p);
		return 0;
	}
	return pending_commit(p);
}

int davit_core_apply(struct davit_core *c, struct davit_spec *const *specs, size_t n,
		     enum davit_apply_mode mode, bool force, int64_t expect, const char *cause,
		     struct davit_op *op, struct davit_error *err)
{
	const struct apply_how how = {.mode = mode, .force = force, .expect = expect, .cause = cause};
	const struct proposal pr = {c, specs, n};
	bool *ask, any = false;
	struct pending *p;
	int r;

	if (admit_must_wait(&pr))
		return admit_wait(&pr, &how, op, err);
	ask = calloc(n + 1, sizeof *ask);
	r = ask ? propose(&pr, &how, op, &p, ask, err)
		: davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	for (size_t k = 0; r == 0 && k < n; k++)
		any |= ask[k];
	if (r == 0 && any)
		return admit_begin(&pr, &how, p, ask, err);
	free(ask);
	return r < 0 ? r : apply_pending(p, &how);
}

/* --- changes of an existing service --- */

static int put_changed(struct davit_core *c, struct davit_service *s, struct davit_spec *spec,
		       const char *type, const char *cause, struct davit_op *op, struct davit_error *err)
{
	struct pending *p = pending_new(c, 1, cause, op, err);
	char *key = NULL;
	int r;

	if (!p)
		return DAVIT_ENOMEM;
	if (asprintf(&key, "services/%s", s->key) < 0)
		key = NULL;
	r = pending_add(p, key, registry_record(spec, s->created, davit_loop_wall(c->loop), s->nonce), true,
			key ? unreadable_revision(c, key, s->revision) : 0, type, err);
	if (r < 0) {
		pending_free(p);
		return r;
	}
	return pending_commit(p);
}

int davit_core_scale(struct davit_core *c, const struct davit_selector *sel, int64_t instances,
		     const char *cause, struct davit_op *op, struct davit_error *err)
{
	struct davit_service *s;
	struct davit_spec *spec;
	int r = davit_core_service(c, sel, &s, err);

	if (r < 0)
		return r;
	if (instances < 0 || instances > 10000)
		return davit_error_set(err, DAVIT_EINVAL, "instances",
				       "instances: %" PRId64 " is out of range: 0 to 10000", instances);
	spec = davit_spec_dup(s->spec);
	if (!spec)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	spec->instances = instances;
	struct proposal pr = {c, &spec, 1};
	r = check_quota(&pr, spec, err);
	if (r == 0)
		r = check_ports(&pr, s, spec, err);
	if (r == 0)
		r = put_changed(c, s, spec, "scaled", cause, op, err);
	davit_spec_free(spec);
	return r;
}

int davit_core_control(struct davit_core *c, const struct davit_selector *sel, enum davit_service_verb verb,
		       const char *cause, struct davit_op *op, struct davit_error *err)
{
	struct davit_service *s;
	struct davit_spec *spec;
	bool stop = verb == DAVIT_SERVICE_STOP;
	int r = davit_core_service(c, sel, &s, err);

	if (r < 0)
		return r;
	if (s->spec->stopped == stop) {
		/* Nothing to record: act on what is there. */
		if (verb == DAVIT_SERVICE_RESTART) {
			core_event(c, "restarted", s, NULL, "%s", cause ? cause : "user");
			davit_supervise_restart(&s->node);
		} else if (verb == DAVIT_SERVICE_START) {
			s->failed_generation = 0;
			if (s->build_phase == BUILD_FAILED)
				s->build_phase = BUILD_NONE;
			davit_supervise_start(&s->node);
		}
		core_service_dirty(s);
		davit_op_complete(op, 0);
		return 0;
	}
	spec = davit_spec_dup(s->spec);
	if (!spec)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	spec->stopped = stop;
	r = put_changed(c, s, spec, stop ? "stopped" : "start", cause, op, err);
	davit_spec_free(spec);
	return r;
}

/* --- supervisors and namespaces --- */

int davit_core_remove(struct davit_core *c, enum davit_kind kind, const char *namespace_, const char *name,
		      const char *cause, struct davit_op *op, struct davit_error *err)
{
	bool ns = kind == DAVIT_KIND_NAMESPACE;
	DAVIT_AUTO_FREE char *id = NULL;
	struct pending *p;
	char *key = NULL;
	int64_t revision = 0;
	size_t pos = 0;
	void *v;
	int r;

	if ((ns ? asprintf(&id, "%s", name) : asprintf(&id, "%s/%s", namespace_, name)) < 0)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (ns) {
		const struct namespace_record *n = davit_map_get(&c->namespaces, id);
		revision = n ? n->revision : 0;
		while (n && davit_map_next(&c->services, &pos, NULL, &v))
			if (!strcmp(((struct davit_service *)v)->spec->namespace_, name))
				return davit_error_set(err, DAVIT_ESTATE, "name",
						       "namespace '%s' still has services", name);
	} else {
		const struct supervisor *s = davit_map_get(&c->supervisors, id);
		revision = s ? s->revision : 0;
	}
	if (!revision)
		return davit_error_set(err, DAVIT_ENOENT, "name", "%s '%s' not found",
				       ns ? "namespace" : "supervisor", name);
	p = pending_new(c, 1, cause, op, err);
	if (!p)
		return DAVIT_ENOMEM;
	if (asprintf(&key, "%s/%s", ns ? "namespaces" : "supervisors", id) < 0)
		key = NULL;
	r = pending_add(p, key, NULL, false, revision, NULL, err);
	if (r < 0) {
		pending_free(p);
		return r;
	}
	return pending_commit(p);
}

/* --- signals --- */

struct signal_wait {
	struct davit_op op;
	struct davit_op *user;
};

static void signalled(struct davit_op *op, int result)
{
	struct signal_wait *w = op->user;

	if (result < 0)
		davit_op_fail_error(w->user, &op->error);
	else
		davit_op_complete(w->user, 0);
	free(w);
}

static void signal_ignored(struct davit_op *op, int result)
{
	(void)result; /* it ended meanwhile */
	free(op->user);
}

int davit_core_signal(struct davit_core *c, const struct davit_selector *sel, const char *instance, int signo,
		      struct davit_op *op, struct davit_error *err)
{
	struct davit_service *s;
	struct signal_wait *w = NULL;
	struct instance *target = NULL, *last = NULL;
	int r = davit_core_service(c, sel, &s, err);

	if (r < 0)
		return r;
	for (size_t k = 0; k < s->n_slots; k++) {
		struct instance *i = s->slots[k].current;
		if (!i || i->state != DAVIT_STATE_STARTED)
			continue;
		if (instance && instance[0] && strcmp(instance, i->workload.id))
			continue;
		if (!i->runtime->driver->signal)
			return davit_error_set(err, DAVIT_ENOTSUP, NULL, "runtime %s cannot send signals",
					       i->runtime->name);
		last = i;
	}
	if (!last)
		return davit_error_set(err, DAVIT_ESTATE, NULL, "no running instance of '%s'%s%s",
				       s->spec->name, instance && instance[0] ? " with id " : "",
				       instance && instance[0] ? instance : "");
	/* The answer is that of the last one; each gets it. */
	for (size_t k = 0; k < s->n_slots; k++) {
		target = s->slots[k].current;
		if (!target || target->state != DAVIT_STATE_STARTED ||
		    (instance && instance[0] && strcmp(instance, target->workload.id)))
			continue;
		w = calloc(1, sizeof *w);
		if (!w)
			return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
		w->user = op;
		davit_op_init(&w->op, c->loop, target == last ? signalled : signal_ignored, w);
		davit_op_begin(&w->op, 10 * DAVIT_NSEC_PER_SEC);
		target->runtime->driver->signal->send(target->inst, signo, &w->op);
	}
	return 0;
}
