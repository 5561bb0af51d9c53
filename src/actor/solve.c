/* SPDX-License-Identifier: MIT
 *
 * A container's own remedies: the first that fits the failure, its solvers in turn,
 * each with its limit, interval and timeout. What rejects, or is not there, is for the
 * parent to decide.
 */
#include "actor/container_impl.h"

#include <string.h>

const char *davit_solution_name(enum davit_solution s)
{
	static const char *const names[] = {
		[DAVIT_SOLVE_NOTHING] = "do-nothing",
		[DAVIT_SOLVE_LOG] = "log",
		[DAVIT_SOLVE_ESCALATE] = "escalate",
		[DAVIT_SOLVE_CONTINUE] = "continue",
		[DAVIT_SOLVE_RESUME] = "resume",
		[DAVIT_SOLVE_START] = "start",
		[DAVIT_SOLVE_RESTART] = "restart",
		[DAVIT_SOLVE_STOP] = "stop",
		[DAVIT_SOLVE_DESTROY_SOFT] = "destroy-soft",
		[DAVIT_SOLVE_DESTROY_HARD] = "destroy-hard",
		[DAVIT_SOLVE_DESTROY] = "destroy",
		[DAVIT_SOLVE_RECREATE] = "recreate",
	};

	return (unsigned)s < DAVIT_SOLUTION_COUNT ? names[s] : "unknown";
}

void solve_stop(struct container *k)
{
	k->remedy = NULL;
	davit_timer_stop(&k->solve_timer);
}

static struct applied *applied(struct container *k, const struct davit_solver *s)
{
	struct applied *more;

	for (size_t i = 0; i < k->n_applied; i++)
		if (k->applied[i].solver == s)
			return &k->applied[i];
	if (!(more = realloc(k->applied, (k->n_applied + 1) * sizeof *more)))
		return NULL;
	k->applied = more;
	k->applied[k->n_applied] = (struct applied){s, 0};
	return &k->applied[k->n_applied++];
}

static void reject(struct container *k, const struct davit_solver *s, const char *why)
{
	tree_log(k->tree, "%s: %s does not help: %s", k->alias, davit_solution_name(s->solution), why);
	solve_stop(k);
	tree_escalate(k);
}

/* A new one of the same definition under the same alias, when this one is gone. */
static bool recreate(struct container *k)
{
	const struct davit_definition *d = k->definition;
	size_t alias = strlen(k->alias) + 1, args = strlen(k->args) + 1, parent = strlen(k->parent->path) + 1;
	struct davit_message *m;
	struct create_request *r;

	if (k->again ||
	    !(m = davit_message_new(k->tree->c, TREE_CREATE, sizeof *r + 1 + alias + args + parent)))
		return false;
	r = body(m);
	*r = (struct create_request){.definition = d, .flags = DAVIT_CREATE_START};
	r->alias = 1;
	r->args = (uint16_t)(1 + alias);
	r->parent = (uint16_t)(1 + alias + args);
	memcpy(r->text + r->alias, k->alias, alias);
	memcpy(r->text + r->args, k->args, args);
	memcpy(r->text + r->parent, k->parent->path, parent);
	k->again = m;
	return true;
}

static void destroy(struct container *k, unsigned flags)
{
	solve_stop(k);
	operate(k, &(struct operate_request){.kind = OP_DESTROY, .ref = k->ref, .flags = flags});
}

/* Applies s. True: the next one can be, at once. */
static bool apply(struct container *k, const struct davit_solver *s)
{
	switch (s->solution) {
	case DAVIT_SOLVE_NOTHING:
		return true;
	case DAVIT_SOLVE_LOG:
		tree_log(k->tree, "%s: %s (%s)", k->alias, k->failure_text,
			 davit_error_word(k->failure_code));
		return true;
	case DAVIT_SOLVE_ESCALATE:
		solve_stop(k);
		tree_escalate(k);
		return false;
	case DAVIT_SOLVE_CONTINUE:
	case DAVIT_SOLVE_RESUME:
		tree_order(k, ORDER_CONTINUE, false, 0, NULL);
		break;
	case DAVIT_SOLVE_START:
	case DAVIT_SOLVE_RESTART:
		k->relaunch = k->brood && k->brood->state == DAVIT_NODE_FAILED;
		tree_order(k, ORDER_START, true, 0, NULL);
		break;
	case DAVIT_SOLVE_STOP:
		operate(k, &(struct operate_request){.kind = OP_STOP, .ref = k->ref});
		return false;
	case DAVIT_SOLVE_DESTROY_SOFT:
		destroy(k, DAVIT_DESTROY_FORCE_SOFT);
		return false;
	case DAVIT_SOLVE_DESTROY_HARD:
		destroy(k, DAVIT_DESTROY_FORCE_HARD);
		return false;
	case DAVIT_SOLVE_DESTROY:
		destroy(k, DAVIT_DESTROY_FORCE);
		return false;
	case DAVIT_SOLVE_RECREATE:
		if (!recreate(k)) {
			reject(k, s, "out of memory");
			return false;
		}
		destroy(k, DAVIT_DESTROY_FORCE);
		return false;
	default:
		reject(k, s, "there is no such solution");
		return false;
	}
	k->paused = false;
	if (s->timeout > 0 && davit_timer_start(&k->solve_timer, s->timeout))
		reject(k, s, "out of memory");
	return false;
}

static void steps(struct container *k, bool waited)
{
	while (k->remedy && k->failure == k->solving && k->step < k->remedy->n_solvers) {
		const struct davit_solver *s = &k->remedy->solvers[k->step];
		struct applied *a = applied(k, s);
		if (!a) {
			reject(k, s, "out of memory");
			return;
		}
		if (s->limit > 0 && a->times >= s->limit) {
			reject(k, s, "it was applied as often as it may be");
			return;
		}
		if (a->times && s->interval > 0 && !waited) {
			k->paused = true;
			if (!davit_timer_start(&k->solve_timer, s->interval))
				return;
		}
		waited = false;
		a->times++;
		if (!apply(k, s))
			return;
		k->step++;
	}
	/* It stays failed, if that is what they came to. */
	solve_stop(k);
}

void solve_begin(struct container *k)
{
	const struct davit_remedy *r = k->definition->remedies;

	solve_stop(k);
	while (r && r->n_solvers && r->code && r->code != k->failure_code)
		r++;
	if (!r || !r->n_solvers) {
		tree_escalate(k);
		return;
	}
	k->remedy = r;
	k->step = 0;
	k->solving = k->failure;
	steps(k, false);
}

void solve_report(struct container *k)
{
	if (!k->remedy || k->paused)
		return;
	davit_timer_stop(&k->solve_timer);
	/* What was to bring it back did; what comes after is done as well. */
	k->step++;
	k->failure = k->solving;
	while (k->step < k->remedy->n_solvers && k->remedy->solvers[k->step].solution == DAVIT_SOLVE_LOG) {
		tree_log(k->tree, "%s: %s is over", k->alias, k->failure_text);
		k->step++;
	}
	k->failure = 0;
	solve_stop(k);
}

void solve_timer(struct davit_timer *t)
{
	struct container *k = DAVIT_CONTAINER_OF(t, struct container, solve_timer);

	if (!k->remedy)
		return;
	if (k->paused) {
		k->paused = false;
		steps(k, true);
	} else {
		reject(k, &k->remedy->solvers[k->step], "it took too long");
	}
}
