/* SPDX-License-Identifier: MIT
 *
 * A run: the loop, the store and the world, which last; the core, which dies and
 * comes back; the course of things; the report.
 */
#include "sim_impl.h"

#include "base/log.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define ROUNDS_MAX 6000 /* of the loop within a virtual second */

static struct sim *current; /* for the log and for a crash */

/* splitmix64; its own, so that what the core draws changes nothing here */
uint64_t sim_random(struct sim *s)
{
	uint64_t z = s->random += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

bool sim_chance(struct sim *s, unsigned percent)
{
	return sim_random(s) % 100 < percent;
}

int64_t sim_between(struct sim *s, int64_t min, int64_t max)
{
	return min + (int64_t)(sim_random(s) % (uint64_t)(max - min + 1));
}

/* --- the report --- */

void sim_trace(struct sim *s, const char *fmt, ...)
{
	char line[1024];
	int64_t now = davit_loop_now(s->loop);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	if (s->options.verbose)
		fprintf(stderr, "%10.3f %s\n", (double)now / SEC, line);
	else
		davit_buf_addf(&s->trace, "%10.3f %s\n", (double)now / SEC, line);
}

static void report(struct sim *s)
{
	fprintf(stderr, "%s", davit_buf_str(&s->trace));
	davit_fake_world_dump(s->world);
}

void sim_fail(struct sim *s, const char *fmt, ...)
{
	va_list ap;

	if (s->failed)
		return;
	s->failed = true;
	report(s);
	fprintf(stderr, "seed %" PRIu64 ": after %.3f s: ", s->options.seed,
		(double)davit_loop_now(s->loop) / SEC);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nagain: davit simulate --seed %" PRIu64 "\n", s->options.seed);
}

static void on_abort(int signo)
{
	(void)signo; /* the process is lost: what is not safe here can harm no more */
	if (current) {
		fprintf(stderr, "%s", davit_buf_str(&current->trace));
		fprintf(stderr, "seed %" PRIu64 ": signal %d\n", current->options.seed, signo);
	}
	signal(signo, SIG_DFL);
	raise(signo);
}

static void on_log(enum davit_log_level level, const char *text)
{
	(void)level;
	if (current)
		sim_trace(current, "log: %s", text);
}

/* --- time --- */

static void count_round(struct sim *s, int64_t before)
{
	int64_t now = davit_loop_now(s->loop);

	s->totals->calls++;
	s->still_calls = now > before ? 0 : s->still_calls + 1;
	if (now - s->window_start >= SEC) {
		s->window_start = now;
		s->window_calls = 0;
	}
	if (++s->window_calls > ROUNDS_MAX || s->still_calls > 1000)
		sim_fail(s, "the loop spins: %" PRIu64 " rounds within a second, %" PRIu64 " in one instant",
			 s->window_calls, s->still_calls);
}

static void nothing(struct davit_timer *t)
{
	(void)t;
}

void sim_run_for(struct sim *s, int64_t ns)
{
	int64_t end = davit_loop_now(s->loop) + ns, before;
	struct davit_timer stop;

	davit_timer_init(&stop, s->loop, nothing);
	davit_timer_start(&stop, ns);
	while (!s->failed && davit_timer_active(&stop)) {
		before = davit_loop_now(s->loop);
		davit_loop_step(s->loop);
		count_round(s, before);
		sim_check_now(s);
	}
	davit_timer_stop(&stop);
	s->totals->virtual_ns += end - (end - ns);
}

/* --- the core's lives --- */

static void on_event(struct davit_core_listener *l, uint64_t id, const char *json)
{
	struct sim *s = l->user;

	if (s->last_told && id != s->last_told + 1)
		sim_fail(s, "event %" PRIu64 " was told after event %" PRIu64, id, s->last_told);
	s->last_told = id;
	sim_hear(s, json);
	if (s->options.verbose)
		sim_trace(s, "event: %s", json);
}

static void on_started(struct davit_op *op, int result)
{
	struct sim *s = op->user;

	s->started = result == 0;
	if (result < 0 && result != DAVIT_ECLOSED)
		sim_fail(s, "the core does not start: %s", op->error.message);
}

void sim_core_up(struct sim *s)
{
	struct davit_core_config config = {.loop = s->loop,
					   .store = s->store,
					   .default_runtime = "fake",
					   .probes = &sim_probes,
					   .probes_user = s};
	struct davit_error err;

	if (s->mix.budget)
		config.budget = (struct davit_start_budget){.rate = 2, .burst = 3, .concurrent = 2};
	sim_trace(s, "the core starts");
	if (davit_core_new(&config, &s->core, &err) < 0 ||
	    davit_core_add_runtime(s->core, "fake", davit_fake_world_driver(s->world), &err) < 0) {
		sim_fail(s, "no core: %s", err.message);
		return;
	}
	s->last_told = 0;
	s->listener = (struct davit_core_listener){.user = s, .event = on_event};
	davit_core_listen(s->core, &s->listener);
	davit_op_init(&s->starting, s->loop, on_started, s);
	davit_op_begin(&s->starting, 0);
	davit_core_start(s->core, &s->starting);
}

void sim_core_down(struct sim *s)
{
	sim_trace(s, "the core dies");
	s->totals->deaths++;
	s->deaths++;
	s->started = false;
	davit_core_free(s->core);
	s->core = NULL;
	davit_faulty_release(s->store);
	davit_faulty_crash(s->store);
}

/* --- a run --- */

static void setup(struct sim *s)
{
	struct davit_error err;

	davit_map_set_seed(1);
	davit_log_divert(on_log);
	davit_list_init(&s->commands);
	davit_list_init(&s->probes);
	s->reachable = true;
	s->random = s->options.seed * 0x2545f4914f6cdd1du + 1;
	sim_random(s);
	for (int k = 0; k < SIM_SERVICES; k++)
		snprintf(s->services[k].name, sizeof s->services[k].name, "s%d", k);
	if (davit_loop_open_virtual(s->options.seed, &s->loop, &err) < 0 ||
	    davit_store_open(&davit_faulty_store, s->loop, "", &s->store, &err) < 0 ||
	    davit_fake_world_new(s->loop, &s->world, &err) < 0)
		abort();
	davit_fake_world_observe(s->world, sim_observe, s);
}

static void teardown(struct sim *s)
{
	if (s->core)
		davit_core_free(s->core);
	davit_faulty_release(s->store);
	davit_faulty_crash(s->store);
	/* What was failed by that is told and freed. */
	for (int n = 0; n < 1000 && davit_loop_step_one(s->loop) && n < 1000; n++)
		;
	davit_store_close(s->store);
	davit_fake_world_observe(s->world, NULL, NULL);
	davit_fake_world_free(s->world);
	davit_loop_close(s->loop);
	davit_map_fini(&s->by_id);
	for (size_t k = 0; k < s->n_instances; k++)
		free(s->instances[k]);
	free(s->instances);
	for (int k = 0; k < SIM_SERVICES; k++) {
		free(s->services[k].json);
		free(s->services[k].maybe);
	}
	davit_buf_fini(&s->trace);
	free(s->why_later);
	davit_log_divert(NULL);
}

static void prepare(struct sim *s)
{
	static const struct davit_fake_chances mild = {
		.fail_create = 60,
		.fail_start = 60,
		.fail_exec = 20,
		.fail_stop = 60,
		.fail_remove = 60,
		.slow = 150,
		.ends = 400,
		.vanishes = 60,
		.ignores_stop = 100,
		.lies = 80,
		.never_ready = 50,
		.max_delay = 3 * SEC,
		.max_life = 60 * SEC,
	};
	struct davit_store_plan delays = {.delay = 600000, .delay_min = MSEC / 10, .delay_max = 30 * MSEC};

	sim_choose_mix(s);
	davit_fake_world_set_chances(s->world, &mild);
	if (s->mix.store_delays)
		davit_faulty_plan(s->store, &delays);
	sim_core_up(s);
	sim_run_for(s, 100 * MSEC);
	if (s->mix.supervisors)
		sim_make_supervisors(s);
}

static void play(struct sim *s)
{
	int rounds = (int)sim_between(s, 1, 2);

	for (int round = 0; round < rounds && !s->failed; round++) {
		size_t steps = s->options.steps ? s->options.steps : (size_t)sim_between(s, 3, 80);
		s->well = false;
		while (steps-- && !s->failed)
			sim_act(s);
		sim_calm(s);
		sim_check_quiet(s);
	}
	if (s->failed)
		return;
	sim_kill_all(s);
	sim_check_gone(s);
	sim_check_events(s);
}

bool davit_sim_run(const struct davit_sim_options *options, struct davit_sim_totals *totals)
{
	struct sim *s = calloc(1, sizeof *s);
	bool ok;

	if (!s)
		abort();
	s->options = *options;
	s->totals = totals;
	current = s;
	signal(SIGABRT, on_abort);
	signal(SIGSEGV, on_abort);
	setup(s);
	prepare(s);
	play(s);
	ok = !s->failed;
	teardown(s);
	current = NULL;
	free(s);
	return ok;
}
