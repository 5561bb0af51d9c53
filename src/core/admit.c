/* SPDX-License-Identifier: MIT */
#include "core/admit.h"

#include "base/fault.h"
#include "base/units.h"

#include <stdio.h>
#include <string.h>

#define CHECK_TIMEOUT (10 * DAVIT_NSEC_PER_SEC)

struct admission {
	struct davit_list list; /* in core->admissions */
	struct davit_core *core;
	struct pending *pending;
	struct davit_spec **specs; /* copies */
	size_t n, next;
	bool *ask;
	struct apply_how how;		/* its cause is the pending's */
	uint64_t changes;		/* core->changes when the checks were made */
	struct davit_op op;		/* of the driver */
	struct davit_workload workload; /* what it is asked about */
	bool asking;
};

static void admission_free(struct admission *a)
{
	davit_list_remove(&a->list);
	if (a->asking) {
		davit_timer_stop(&a->op.deadline);
		davit_deferred_cancel(&a->op.completion);
	}
	workload_fini(&a->workload);
	if (a->pending)
		pending_free(a->pending);
	davit_spec_free_all(a->specs, a->n);
	free(a->ask);
	free(a);
}

static void refuse(struct admission *a, const struct davit_error *err)
{
	if (a->pending->op)
		davit_op_fail_error(a->pending->op, err);
	admission_free(a);
}

/* Everybody has agreed. */
static void admitted(struct admission *a)
{
	const struct proposal pr = {a->core, a->specs, a->n};
	struct davit_op *op = a->pending->op;
	struct davit_error err;

	if (a->changes == a->core->changes)
		apply_pending(DAVIT_TAKE(a->pending), &a->how);
	else if (apply_commit(&pr, &a->how, op, &err) < 0)
		davit_op_fail_error(op, &err);
	admission_free(a);
}

static void ask_next(struct admission *a);

static void answered(struct davit_op *op, int result)
{
	struct admission *a = op->user;
	const struct davit_spec *spec = a->specs[a->next];
	struct davit_error err = op->error;

	a->asking = false;
	workload_fini(&a->workload);
	if (result == 0) {
		a->next++;
		ask_next(a);
		return;
	}
	if (result == DAVIT_ETIMEDOUT || !err.message[0])
		davit_error_set(&err, result, "runtime", "runtime %s did not answer",
				spec->runtime ? spec->runtime : a->core->config.default_runtime);
	apply_place(spec, &err);
	if (a->n > 1)
		davit_error_prefix(&err, "service '%s'", spec->name);
	refuse(a, &err);
}

static void ask_next(struct admission *a)
{
	const struct davit_spec *spec;
	struct core_runtime *r;
	struct davit_error err;

	while (a->next < a->n && !a->ask[a->next])
		a->next++;
	if (a->next == a->n) {
		admitted(a);
		return;
	}
	spec = a->specs[a->next];
	/* The runtime may have been lost since. */
	if (command_check_capabilities(a->core, spec, &err) < 0 ||
	    workload_of_spec(a->core, spec, &a->workload, &err) < 0) {
		apply_place(spec, &err);
		refuse(a, &err);
		return;
	}
	r = core_runtime_find(a->core, spec->runtime ? spec->runtime : a->core->config.default_runtime);
	a->asking = true;
	davit_op_init(&a->op, a->core->loop, answered, a);
	davit_op_begin(&a->op, CHECK_TIMEOUT);
	DAVIT_FAULT("apply-check");
	r->driver->check(r->rt, &a->workload, &a->op);
}

int admit_begin(const struct proposal *pr, const struct apply_how *how, struct pending *p, bool *ask,
		struct davit_error *err)
{
	struct admission *a = calloc(1, sizeof *a);

	if (!a) {
		pending_free(p);
		free(ask);
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	davit_list_init(&a->list);
	a->core = pr->c;
	a->pending = p;
	a->ask = ask;
	a->how = *how;
	a->how.cause = p->cause;
	a->changes = pr->c->changes;
	a->specs = calloc(pr->n, sizeof(struct davit_spec *));
	for (; a->specs && a->n < pr->n; a->n++)
		if (!(a->specs[a->n] = davit_spec_dup(pr->specs[a->n])))
			break;
	if (a->n < pr->n) {
		admission_free(a);
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	davit_list_add_tail(&pr->c->admissions, &a->list);
	ask_next(a);
	return 0;
}

/* --- until a runtime is open --- */

struct waiting {
	struct davit_list list; /* in core->waiting */
	struct davit_spec **specs;
	size_t n;
	struct apply_how how;
	char *cause; /* or NULL */
	struct davit_op *op;
};

static void waiting_free(struct waiting *w)
{
	davit_list_remove(&w->list);
	davit_spec_free_all(w->specs, w->n);
	free(w->cause);
	free(w);
}

bool admit_must_wait(const struct proposal *pr)
{
	for (size_t k = 0; k < pr->n; k++) {
		const struct davit_spec *spec = pr->specs[k];
		const char *name = spec->runtime ? spec->runtime : pr->c->config.default_runtime;
		const struct core_runtime *r =
			spec->kind == DAVIT_KIND_SERVICE ? core_runtime_find(pr->c, name) : NULL;
		if (r && (r->phase == RUNTIME_OPENING || r->phase == RUNTIME_ADOPTING))
			return true;
	}
	return false;
}

int admit_wait(const struct proposal *pr, const struct apply_how *how, struct davit_op *op,
	       struct davit_error *err)
{
	struct waiting *w = calloc(1, sizeof *w);

	if (w) {
		davit_list_init(&w->list);
		w->how = *how;
		w->op = op;
		w->cause = how->cause ? strdup(how->cause) : NULL;
		w->how.cause = w->cause;
		w->specs = calloc(pr->n, sizeof(struct davit_spec *));
		for (; w->specs && w->n < pr->n; w->n++)
			if (!(w->specs[w->n] = davit_spec_dup(pr->specs[w->n])))
				break;
	}
	if (!w || w->n < pr->n || !w->cause != !how->cause) {
		if (w)
			waiting_free(w);
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	davit_list_add_tail(&pr->c->waiting, &w->list);
	return 0;
}

void admit_resume(struct davit_core *c)
{
	struct waiting *w, *tmp;

	DAVIT_LIST_FOREACH_SAFE (w, tmp, &c->waiting, list) {
		const struct proposal pr = {c, w->specs, w->n};
		struct davit_error err;
		if (admit_must_wait(&pr))
			continue;
		if (davit_core_apply(c, w->specs, w->n, w->how.mode, w->how.force, w->how.expect, w->cause,
				     w->op, &err) < 0)
			davit_op_fail_error(w->op, &err);
		waiting_free(w);
	}
}

/* --- the core goes --- */

void admit_abandon(struct davit_core *c)
{
	struct admission *a;
	struct waiting *w;

	DAVIT_LIST_FOREACH (w, &c->waiting, list)
		davit_op_fail(DAVIT_TAKE(w->op), DAVIT_ECLOSED, NULL, "the daemon ends");
	DAVIT_LIST_FOREACH (a, &c->admissions, list)
		davit_op_fail(DAVIT_TAKE(a->pending->op), DAVIT_ECLOSED, NULL, "the daemon ends");
}

void admit_free_all(struct davit_core *c)
{
	while (!davit_list_empty(&c->waiting))
		waiting_free(DAVIT_LIST_FIRST(&c->waiting, struct waiting, list));
	while (!davit_list_empty(&c->admissions))
		admission_free(DAVIT_LIST_FIRST(&c->admissions, struct admission, list));
}
