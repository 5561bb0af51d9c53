/* SPDX-License-Identifier: MIT
 *
 * The drivers' facets as the daemon uses them: the capability is checked, then
 * the driver is called; what it does not have is refused with its reason.
 */
#include "core/core_impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

int facet_check(const struct core_runtime *r, enum davit_capability cap, const void *facet,
		struct davit_error *err)
{
	if (r->phase != RUNTIME_OPEN)
		return davit_error_set(err, DAVIT_EUNAVAIL, NULL, "runtime %s is not available: %s", r->name,
				       r->error.message[0] ? r->error.message : "it is being opened");
	if (!facet || !davit_can(&r->caps, cap))
		return davit_error_set(err, DAVIT_ENOTSUP, NULL, "runtime %s does not support %s: %s",
				       r->name, davit_capability_name(cap),
				       r->caps.why_not[cap][0] ? r->caps.why_not[cap] : "not implemented");
	return 0;
}

static int check(const struct instance *i, enum davit_capability cap, const void *facet,
		 struct davit_error *err)
{
	return facet_check(i->runtime, cap, facet, err);
}

static int check_running(const struct instance *i, struct davit_error *err)
{
	if (i->state != DAVIT_STATE_STARTED)
		return davit_error_set(err, DAVIT_ESTATE, NULL, "instance %s does not run", i->workload.id);
	/* What is begun beside it would be frozen as well, and would never answer. */
	if (i->paused)
		return davit_error_set(err, DAVIT_ESTATE, NULL,
				       "instance %s is paused; 'davit unpause' lets it go on",
				       i->workload.id);
	return 0;
}

/* What is open on an instance, so that it ends before the instance does. */
struct attachment {
	struct davit_list list;
	struct davit_log_reader *reader;
	struct davit_exec *exec;
	struct davit_terminal *terminal;
};

static int attach(struct instance *i, struct davit_log_reader *r, struct davit_exec *x,
		  struct davit_terminal *t, struct davit_error *err)
{
	struct attachment *a = calloc(1, sizeof *a);

	if (!a)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	a->reader = r;
	a->exec = x;
	a->terminal = t;
	davit_list_add_tail(&i->attached, &a->list);
	return 0;
}

static void detach(struct instance *i, const void *what)
{
	struct attachment *a, *tmp;

	DAVIT_LIST_FOREACH_SAFE (a, tmp, &i->attached, list)
		if (a->reader == what || a->exec == what || a->terminal == what) {
			davit_list_remove(&a->list);
			free(a);
		}
}

void facets_detach(struct instance *i)
{
	struct attachment *a;

	while ((a = DAVIT_LIST_FIRST(&i->attached, struct attachment, list))) {
		struct davit_log_reader *r = a->reader;
		struct davit_exec *x = a->exec;
		struct davit_terminal *t = a->terminal;
		davit_list_remove(&a->list);
		free(a);
		if (r) {
			i->runtime->driver->logs->close(r);
			r->instance = NULL;
			r->end(r, 0, NULL);
		} else if (x) {
			const struct davit_exit gone = {.kind = DAVIT_EXIT_UNKNOWN,
							.reason = "the instance is gone"};
			i->runtime->driver->exec->close(x);
			x->instance = NULL;
			x->exited(x, &gone);
		} else if (t) {
			struct davit_error why;
			davit_error_set(&why, DAVIT_ECLOSED, NULL, "%s",
					i->core->freeing ? "the daemon ends" : "the instance is gone");
			i->runtime->driver->terminal->detach(t);
			t->instance = NULL;
			t->lost(t, &why);
		}
	}
}

struct davit_log_reader *davit_core_logs_open(struct davit_core *c, struct davit_instance *inst,
					      const struct davit_log_reader *init, struct davit_error *err)
{
	struct instance *i = instance_of(inst);
	const struct davit_logs_facet *facet = i->runtime->driver->logs;
	struct davit_log_reader *r;

	(void)c;
	if (check(i, DAVIT_CAP_LOGS, facet, err) < 0)
		return NULL;
	r = calloc(1, sizeof *r + facet->reader_size);
	if (!r) {
		davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
		return NULL;
	}
	*r = *init;
	r->instance = inst;
	if (attach(i, r, NULL, NULL, err) < 0) {
		free(r);
		return NULL;
	}
	if (facet->open(r, err) < 0) {
		detach(i, r);
		free(r);
		return NULL;
	}
	return r;
}

void davit_core_logs_close(struct davit_log_reader *r)
{
	struct instance *i;

	if (!r)
		return;
	if (r->instance) {
		i = instance_of(r->instance);
		detach(i, r);
		i->runtime->driver->logs->close(r);
	}
	free(r);
}

struct davit_exec *davit_core_exec_new(struct davit_core *c, struct davit_instance *inst,
				       const struct davit_exec *init, struct davit_error *err)
{
	struct instance *i = instance_of(inst);
	const struct davit_exec_facet *facet = i->runtime->driver->exec;
	struct davit_exec *x;

	(void)c;
	if (check(i, init->tty ? DAVIT_CAP_TERMINAL : DAVIT_CAP_EXEC, facet, err) < 0)
		return NULL;
	if (check_running(i, err) < 0)
		return NULL;
	x = calloc(1, sizeof *x + facet->exec_size);
	if (!x) {
		davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
		return NULL;
	}
	*x = *init;
	x->instance = inst;
	if (attach(i, NULL, x, NULL, err) < 0) {
		free(x);
		return NULL;
	}
	return x;
}

void davit_core_exec_free(struct davit_exec *x)
{
	struct instance *i;

	if (!x)
		return;
	if (x->instance) {
		i = instance_of(x->instance);
		detach(i, x);
		i->runtime->driver->exec->close(x);
	}
	free(x);
}

struct davit_terminal *davit_core_terminal_new(struct davit_core *c, struct davit_instance *inst,
					       const struct davit_terminal *init, struct davit_error *err)
{
	struct instance *i = instance_of(inst);
	const struct davit_terminal_facet *facet = i->runtime->driver->terminal;
	struct davit_terminal *t;

	if (check(i, DAVIT_CAP_TERMINAL, facet, err) < 0 || (!init->id[0] && check_running(i, err) < 0))
		return NULL;
	t = calloc(1, sizeof *t + facet->terminal_size);
	if (!t) {
		davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
		return NULL;
	}
	*t = *init;
	t->instance = inst;
	if (!t->id[0])
		snprintf(t->id, sizeof t->id, "%016" PRIx64, davit_loop_random(c->loop));
	if (attach(i, NULL, NULL, t, err) < 0) {
		free(t);
		return NULL;
	}
	return t;
}

void davit_core_terminal_free(struct davit_terminal *t)
{
	struct instance *i;

	if (!t)
		return;
	if (t->instance) {
		i = instance_of(t->instance);
		detach(i, t);
		i->runtime->driver->terminal->detach(t);
	}
	free(t);
}

int davit_core_stats(struct davit_core *c, struct davit_instance *inst, struct davit_stats *ret,
		     struct davit_op *op, struct davit_error *err)
{
	struct instance *i = instance_of(inst);
	const struct davit_stats_facet *facet = i->runtime->driver->stats;
	int r = check(i, DAVIT_CAP_STATS, facet, err);

	(void)c;
	if (r == 0)
		r = check_running(i, err);
	if (r < 0)
		return r;
	facet->read(inst, ret, op);
	return 0;
}
