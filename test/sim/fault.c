/* SPDX-License-Identifier: MIT
 *
 * What goes wrong: at the platform, in the store, with the clock, with the core.
 */
#include "sim_impl.h"

static struct sim_instance *any_instance(struct sim *s)
{
	return s->n_instances ? s->instances[sim_random(s) % s->n_instances] : NULL;
}

static void do_outside(struct sim *s)
{
	struct sim_instance *i = any_instance(s);
	struct davit_exit end = {.kind = DAVIT_EXIT_CODE, .code = (int)sim_between(s, 0, 3)};

	if (!i || !i->there)
		return;
	s->services[i->service].plain = false;
	if (sim_chance(s, 70)) {
		sim_trace(s, "outside: %s of %s is ended with code %d", i->id, s->services[i->service].name,
			  end.code);
		davit_fake_world_end(s->world, i->id, &end);
	} else if (s->reachable) {
		sim_trace(s, "outside: %s of %s is deleted", i->id, s->services[i->service].name);
		davit_fake_world_delete(s->world, i->id);
	}
}

void sim_set_reachable(struct sim *s, bool reachable)
{
	if (s->reachable == reachable)
		return;
	s->reachable = reachable;
	if (reachable)
		s->reachable_since = davit_loop_now(s->loop);
	sim_trace(s, "fault: the platform %s", reachable ? "answers again" : "does not answer");
	davit_fake_world_set_reachable(s->world, reachable);
}

static void do_store(struct sim *s)
{
	static const int codes[] = {DAVIT_EUNAVAIL, DAVIT_EIO, DAVIT_ENOSPC};
	int64_t ns = sim_between(s, 1, 8000) * MSEC;
	int code = codes[sim_random(s) % 3];

	switch (sim_random(s) % 4) {
	case 0:
		sim_trace(s, "fault: the store fails for %" PRId64 " ms", ns / MSEC);
		davit_faulty_fail_for(s->store, code, ns);
		break;
	case 1:
		sim_trace(s, "fault: watches break");
		davit_faulty_break_watches(s->store, sim_chance(s, 50) ? DAVIT_ECOMPACTED : DAVIT_EUNAVAIL);
		break;
	case 2:
		sim_trace(s, "fault: commits are held");
		davit_faulty_hold(s->store);
		sim_run_for(s, ns);
		davit_faulty_release(s->store);
		sim_trace(s, "fault: commits are released");
		break;
	default:
		sim_trace(s, "fault: commits fail, lose their answer and break watches by chance");
		davit_faulty_plan(s->store, &(struct davit_store_plan){
						    .fail = 100000,
						    .code = code,
						    .lose = 100000,
						    .delay = s->mix.store_delays ? 500000 : 0,
						    .delay_max = 500 * MSEC,
						    .break_watches = 50000,
					    });
	}
}

/* So many calls, unless the clock runs away. */
static void step(struct sim *s, int64_t calls)
{
	int64_t end = davit_loop_now(s->loop) + 2 * SEC;

	while (calls-- > 0 && !s->failed && davit_loop_now(s->loop) < end)
		davit_loop_step_one(s->loop);
}

static void do_death(struct sim *s)
{
	step(s, sim_between(s, 0, 60));
	sim_core_down(s);
	sim_run_for(s, sim_chance(s, 70) ? MSEC : sim_between(s, 1, 20000) * MSEC);
	while (!s->failed && sim_chance(s, 25)) {
		sim_core_up(s);
		step(s, sim_between(s, 0, 40));
		sim_core_down(s);
		sim_run_for(s, MSEC);
	}
	sim_core_up(s);
}

void sim_fault(struct sim *s)
{
	const struct sim_mix *m = &s->mix;

	s->totals->faults++;
	switch (sim_random(s) % 6) {
	case 0:
	case 1:
		if (m->outside)
			do_outside(s);
		break;
	case 2:
		if (m->unreachable)
			sim_set_reachable(s, !s->reachable);
		break;
	case 3:
		if (m->store_faults)
			do_store(s);
		break;
	case 4:
		if (m->deaths)
			do_death(s);
		break;
	default:
		if (m->clock) {
			int64_t by = sim_between(s, -86400, 86400);
			sim_trace(s, "fault: the clock jumps by %" PRId64 " s", by);
			davit_loop_shift_wall(s->loop, by * SEC);
		}
	}
}
