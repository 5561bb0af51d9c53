/* SPDX-License-Identifier: MIT
 *
 * Supervision of containers against a model: random trees with random strategies and
 * intensities, random failures, stops and starts. After each event has settled, who
 * runs and how often each was started are compared with an oracle that computes the
 * outcome in one go. (The engine beneath has a model test of its own in src/supervise;
 * this one is about what containers make of it.)
 *
 * DAVIT_SEED=n runs one seed alone; DAVIT_SEEDS=n changes how many are run.
 */
#include "actor/test_rig.h"

enum { MAX = 20, EVENTS = 30 };

struct model {
	int n, parent[MAX]; /* parents before children; 0 is the top */
	enum davit_strategy strategy[MAX];
	int64_t max[MAX]; /* restarts; -1: no limit */
	int64_t count[MAX];
	bool never[MAX];  /* it is not restarted; of those without children */
	bool failed[MAX]; /* such a one has, and stays so */
	bool down[MAX];	  /* such a one was stopped with others */
	bool wanted[MAX];
	int starts[MAX];
};

static struct model model;
static int started[MAX]; /* what happened */
static uint64_t seed_now, random_now;

static int pick(int n)
{
	uint64_t z = random_now += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return (int)((z ^ (z >> 31)) % (uint64_t)n);
}

/* --- the containers --- */

static int count_starts(struct davit_context *c, enum davit_operation op, enum davit_phase phase)
{
	if (op == DAVIT_DO_START && phase == DAVIT_ON)
		started[atoi(davit_alias(c) + 1)]++;
	return 0;
}

static int die(struct davit_context *c, struct davit_message *m)
{
	return DAVIT_EIO;
}

static int by_args(struct davit_context *c, struct davit_options *o)
{
	int i = atoi(davit_alias(c) + 1);

	o->strategy = model.strategy[i];
	o->max_restarts = model.max[i];
	if (model.never[i]) {
		o->set_restart = true;
		o->restart = DAVIT_RESTART_NEVER;
	}
	return 0;
}

static const struct davit_definition definition = {
	.name = "M", .behaviour = die, .config = by_args, .hook = count_starts};

/* --- the oracle --- */

static bool below(int i, int top)
{
	while (i > top)
		i = model.parent[i];
	return i == top;
}

/* With others. */
static void start(int i)
{
	if (model.wanted[i] && model.never[i])
		model.down[i] = !model.failed[i];
	else if (model.wanted[i])
		model.starts[i]++;
}

static void fails(int i)
{
	int p = model.parent[i];

	if (model.never[i]) {
		model.failed[i] = true;
		return;
	}
	if (model.max[p] >= 0 && model.count[p] >= model.max[p]) {
		fails(p); /* whose restart makes all beneath it start afresh */
		return;
	}
	if (model.max[p] >= 0)
		model.count[p]++;
	for (int k = p + 1; k < model.n; k++) {
		int branch = k;
		if (!below(k, p))
			continue;
		while (model.parent[branch] != p)
			branch = model.parent[branch];
		if (k == i || model.strategy[p] == DAVIT_ONE_FOR_ALL ||
		    (model.strategy[p] == DAVIT_REST_FOR_ONE && branch >= i))
			start(k);
	}
}

/* The one whose intensity is not exceeded, and its child on the way from i: 0 if none is. */
static int escalated(int i)
{
	int top = 0;

	for (int p = model.parent[i];
	     !model.never[i] && p && model.max[p] >= 0 && model.count[p] >= model.max[p]; p = model.parent[p])
		top = p;
	return top;
}

/* i fails: what follows. */
static void oracle(int i)
{
	struct model before = model;
	int top = escalated(i);

	fails(i);
	/* top was restarted, alone or with others: beneath it all are made afresh, which
	 * is once, even if the group that restarted it named them as well. */
	for (int k = top; top && k < model.n; k++) {
		if (!below(k, top))
			continue;
		model.count[k] = 0;
		if (k == top)
			continue;
		model.starts[k] = before.starts[k] + model.wanted[k];
		model.failed[k] = model.failed[k] && !model.wanted[k];
		model.down[k] = model.down[k] && !model.wanted[k];
	}
}

/* --- a run --- */

static void compare(struct world *w, const char *what, int which)
{
	char alias[8];

	for (int i = 0; i < model.n; i++) {
		enum davit_state want = model.failed[i]			    ? DAVIT_STATE_FAILED
					: model.wanted[i] && !model.down[i] ? DAVIT_STATE_STARTED
									    : DAVIT_STATE_STOPPED;
		snprintf(alias, sizeof alias, "m%d", i);
		if (state(w, alias) == want && started[i] == model.starts[i])
			continue;
		printf("# seed %llu, after %s of m%d: m%d is %s, started %d times; by the oracle %s, %d "
		       "times\n",
		       (unsigned long long)seed_now, what, which, i, davit_state_name(state(w, alias)),
		       started[i], davit_state_name(want), model.starts[i]);
		for (int k = 0; k < model.n; k++)
			printf("# m%d under m%d, strategy %d, at most %d, never %d, wanted %d, started %d, "
			       "oracle %d\n",
			       k, model.parent[k], (int)model.strategy[k], (int)model.max[k], model.never[k],
			       model.wanted[k], started[k], model.starts[k]);
		fail_msg("seed %llu", (unsigned long long)seed_now);
	}
}

static bool childless(int i)
{
	for (int k = i + 1; k < model.n; k++)
		if (model.parent[k] == i)
			return false;
	return true;
}

static void event(struct world *w)
{
	int i = 1 + pick(model.n - 1);
	struct davit_promise p;
	char alias[8];

	snprintf(alias, sizeof alias, "m%d", i);
	if (model.wanted[i] && !model.failed[i] && !model.down[i] && pick(8)) {
		oracle(i);
		tell(w, alias, "");
		compare(w, "failure", i);
	} else if (childless(i) && model.wanted[i] && (!model.failed[i] || pick(2))) {
		model.wanted[i] = model.failed[i] = model.down[i] = false;
		davit_container_stop(w->c, alias, &p);
		assert_int_equal(finish(w, p), 0);
		compare(w, "stop", i);
	} else if (childless(i)) {
		model.wanted[i] = true;
		model.failed[i] = model.down[i] = false;
		model.starts[i]++;
		davit_container_start(w->c, alias, &p);
		assert_int_equal(finish(w, p), 0);
		compare(w, "start", i);
	}
}

static void run(uint64_t seed)
{
	struct world *w = open_world();
	char alias[8], parent[8];

	seed_now = random_now = seed;
	memset(started, 0, sizeof started);
	model = (struct model){.n = 2 + pick(MAX - 2)};
	for (int i = 0; i < model.n; i++) {
		model.parent[i] = i ? pick(i) : 0;
		model.strategy[i] = (enum davit_strategy)pick(3);
		model.max[i] = !i ? -1 : 1 + pick(4);
		model.wanted[i] = true;
		model.starts[i] = 1;
	}
	for (int i = 0; i < model.n; i++) {
		model.never[i] = i && childless(i) && !pick(3);
		snprintf(alias, sizeof alias, "m%d", i);
		snprintf(parent, sizeof parent, "m%d", model.parent[i]);
		make_under(w, i ? parent : NULL, alias, &definition);
	}
	compare(w, "creation", 0);
	for (int k = 0; k < EVENTS; k++)
		event(w);
	close_world(w);
}

static void settled_events_do_exactly_what_the_oracle_says(void **unused)
{
	const char *only_one = getenv("DAVIT_SEED"), *n = getenv("DAVIT_SEEDS");

	if (only_one) {
		run(strtoull(only_one, NULL, 10));
		return;
	}
	for (uint64_t s = 1; s <= (n ? strtoull(n, NULL, 10) : 1000); s++)
		run(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(settled_events_do_exactly_what_the_oracle_says)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
