/* SPDX-License-Identifier: MIT
 *
 * Operations of facets that are under way with a driver. Each stands between the
 * driver's operation and the user's: the event is written when it succeeds, an
 * instance is not removed while one works on it, and one outlives the core, as
 * its driver completes it from the loop after the runtime was closed.
 */
#include "core/core_impl.h"

#include <string.h>

void facet_op_free(struct facet_op *f)
{
	davit_list_remove(&f->list);
	davit_list_remove(&f->use);
	free(f->what);
	free(f->cause);
	(f->drop ? f->drop : free)(f->data);
	free(f);
}

static void done(struct davit_op *op, int result)
{
	struct facet_op *f = op->user;
	struct davit_op *user = f->user;
	struct instance *i = f->instance;
	struct davit_error err = op->error;

	if (!f->core)
		result = davit_error_set(&err, DAVIT_ECLOSED, NULL, "the daemon ends");
	davit_list_remove(&f->use);
	if (result >= 0 && f->core && f->succeeded)
		f->succeeded(f);
	facet_op_free(f);
	if (i)
		instance_resume(i);
	if (result < 0)
		davit_op_fail_error(user, &err);
	else
		davit_op_complete(user, result);
}

static void cancel(struct davit_op *user, int why)
{
	struct facet_op *f = user->performer;

	(void)why;
	davit_op_cancel(&f->op);
}

struct facet_op *facet_op_new(struct davit_core *c, struct instance *i, struct davit_op *user,
			      int64_t timeout_ns, const char *cause)
{
	struct facet_op *f = calloc(1, sizeof *f);

	if (!f)
		return NULL;
	davit_list_init(&f->list);
	davit_list_init(&f->use);
	if (cause && !(f->cause = strdup(cause))) {
		free(f);
		return NULL;
	}
	f->core = c;
	f->instance = i;
	f->user = user;
	davit_list_add_tail(&c->facet_ops, &f->list);
	if (i)
		davit_list_add_tail(&i->uses, &f->use);
	davit_op_init(&f->op, c->loop, done, f);
	davit_op_begin(&f->op, timeout_ns);
	user->performer = f;
	davit_op_on_cancel(user, cancel);
	return f;
}

bool facet_ops_hold(struct instance *i, bool removing)
{
	struct facet_op *f;
	bool hold = false;

	DAVIT_LIST_FOREACH (f, &i->uses, use) {
		if (!removing && !f->exclusive)
			continue;
		hold = true;
		if (removing || i->goal == GOAL_STOP || i->goal == GOAL_GONE)
			davit_op_cancel(&f->op);
	}
	return hold;
}

void facet_ops_forget(struct instance *i)
{
	struct facet_op *f, *next;

	DAVIT_LIST_FOREACH_SAFE (f, next, &i->uses, use) {
		davit_list_remove(&f->use);
		f->instance = NULL;
	}
}

void facet_ops_abandon(struct davit_core *c)
{
	struct facet_op *f, *next;

	DAVIT_LIST_FOREACH_SAFE (f, next, &c->facet_ops, list) {
		davit_list_remove(&f->list);
		davit_list_remove(&f->use);
		f->core = NULL;
		f->instance = NULL;
	}
}
