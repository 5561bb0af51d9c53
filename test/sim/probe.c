/* SPDX-License-Identifier: MIT
 *
 * What probes of instances find: they pass, fail, come late, or never answer, each
 * time anew; and what the core may conclude from that.
 */
#include "sim_impl.h"

#include "core/health.h"

#include <string.h>

struct answer {
	struct davit_list list;
	struct sim *sim;
	struct sim_instance *instance;
	struct davit_probe *probe;
	struct davit_op *op;
	struct davit_timer timer;
	bool passes;
};

static void answer(struct answer *a, int code)
{
	struct sim *s = a->sim;
	struct sim_instance *i = a->instance;
	struct davit_op *op = a->op;

	i->probing = false;
	i->answered = davit_loop_now(s->loop);
	i->seen_deaths = s->deaths;
	if (code == 0)
		i->passes++;
	if (code != DAVIT_ECANCELED)
		i->streak = code == 0 ? 0 : i->streak + 1;
	davit_timer_stop(&a->timer);
	davit_list_remove(&a->list);
	free(a);
	if (code == DAVIT_EIO)
		davit_op_fail(op, code, "health", "the simulation refuses it");
	else
		davit_op_complete(op, code);
}

static void on_cancel(struct davit_op *op, int why)
{
	answer(op->performer, why);
}

static void on_time(struct davit_timer *t)
{
	struct answer *a = DAVIT_CONTAINER_OF(t, struct answer, timer);

	answer(a, a->passes ? 0 : DAVIT_EIO);
}

static void probe(void *user, struct davit_probe *p, struct davit_op *op)
{
	struct sim *s = user;
	struct sim_instance *i = davit_map_get(&s->by_id, p->id);
	struct answer *a = calloc(1, sizeof *a);
	int64_t now = davit_loop_now(s->loop);

	if (!a)
		abort();
	*a = (struct answer){.sim = s, .instance = i, .probe = p, .op = op};
	davit_list_init(&a->list);
	davit_list_add_tail(&s->probes, &a->list);
	op->performer = a;
	davit_op_on_cancel(op, on_cancel);
	davit_timer_init(&a->timer, s->loop, on_time);
	if (i->probing)
		sim_fail(s, "%s is probed while a probe is under way", p->id);
	/* A lie of the platform's lasts two seconds at most. */
	if (!i->live && s->reachable && now - s->reachable_since > 3 * SEC && now - i->ended > 3 * SEC)
		sim_fail(s, "%s is probed and does not run", p->id);
	i->probing = true;
	p->ret_status = 200;
	a->passes = s->well || sim_chance(s, 65);
	if (s->well || sim_chance(s, 50))
		davit_timer_start(&a->timer, 0);
	else if (sim_chance(s, 70))
		davit_timer_start(&a->timer, sim_between(s, 0, 2000) * MSEC);
	/* else it hangs, until nobody wants to know any more */
}

const struct davit_core_probes sim_probes = {.tcp = probe, .http = probe, .file = probe};

void sim_check_health(struct sim *s, const struct instance *i)
{
	const struct sim_instance *o = davit_map_get(&s->by_id, i->workload.id);
	const struct davit_health_check *spec;
	const struct check *c;

	if (i->killed_for && i->pending_cause == DAVIT_CAUSE_HEALTH && o && o->seen_deaths == s->deaths &&
	    i->generation == i->service->generation && i->service->spec->n_health == 1) {
		spec = &i->service->spec->health[0];
		if (spec->type != DAVIT_HEALTH_COMMAND && o->live && o->streak < (uint64_t)spec->retries)
			sim_fail(s, "%s is ended for its health after %u failures of %" PRId64,
				 i->workload.id, o->streak, spec->retries);
	}
	/* What was answered in this very moment the core has not heard yet. */
	if (!i->health || !o || o->seen_deaths != s->deaths || o->answered == davit_loop_now(s->loop))
		return;
	c = &i->health->checks[0];
	spec = check_spec(c);
	if (spec->type == DAVIT_HEALTH_COMMAND)
		return;
	if (c->failing && c->passed && c->failures && o->streak < (uint64_t)spec->retries)
		sim_fail(s, "%s is said to fail its check after %u failures of %" PRId64, i->workload.id,
			 o->streak, spec->retries);
	if (c->failures > o->streak)
		sim_fail(s, "%s has failed %u probes in a row, and the core counts %u", i->workload.id,
			 o->streak, c->failures);
	if (i->ready && spec->role == DAVIT_HEALTH_READINESS && o->passes && c->passed &&
	    c->failures >= (uint64_t)spec->retries)
		sim_fail(s, "%s is ready after %u failed probes", i->workload.id, c->failures);
}
