/* SPDX-License-Identifier: MIT
 *
 * The state machine as the oracle: whatever is asked for in whatever state, the
 * driver answers as include/davit/state.h says. The driver's contract differs
 * from the machine in two places, which the core bridges: stop of what does not
 * run is success, and remove refuses what runs instead of stopping it.
 */
#include "test/conformance/harness.h"

#include <stdio.h>

/* `fail` is the core's; a driver has no slot for it. */
static const enum davit_operation operations[] = {DAVIT_DO_CREATE, DAVIT_DO_START, DAVIT_DO_STOP,
						  DAVIT_DO_DESTROY};
static const enum davit_state states[] = {DAVIT_STATE_DESTROYED, DAVIT_STATE_CREATED, DAVIT_STATE_STARTED,
					  DAVIT_STATE_STOPPED};

struct expectation {
	int result;
	enum davit_state state;
};

static struct expectation oracle(enum davit_state from, enum davit_operation op)
{
	struct davit_transition t;
	int r = davit_state_check(from, op, &t, NULL);

	if (op == DAVIT_DO_STOP && from != DAVIT_STATE_STARTED)
		return (struct expectation){0, from};
	if (r < 0)
		return (struct expectation){r, from};
	if (t.verdict == DAVIT_VERDICT_STOP_FIRST)
		return (struct expectation){DAVIT_ESTATE, from};
	return (struct expectation){0, t.next};
}

static int perform(struct thing *t, enum davit_operation op)
{
	switch (op) {
	case DAVIT_DO_CREATE:
		return create(t);
	case DAVIT_DO_START:
		return start(t);
	case DAVIT_DO_STOP:
		return stop(t, 5 * SEC);
	default:
		return remove_(t);
	}
}

/* Does it, and compares the answer, the state and the run with the oracle's. */
static void step(struct thing *t, enum davit_state *state, uint32_t *run, enum davit_operation op)
{
	struct expectation want = oracle(*state, op);
	int got = perform(t, op);
	struct davit_inspection now = inspect(t);

	if (*state != DAVIT_STATE_STARTED && want.state == DAVIT_STATE_STARTED)
		++*run;
	if (want.state == DAVIT_STATE_DESTROYED)
		*run = 0;
	if (got != want.result || now.state != want.state || now.run != *run)
		fail(__FILE__, __LINE__, "%s of a %s one: %s, %s, run %u; not %s, %s, run %u",
		     davit_operation_name(op), davit_state_name(*state), davit_error_word(got),
		     davit_state_name(now.state), now.run, davit_error_word(want.result),
		     davit_state_name(want.state), *run);
	*state = want.state;
}

/* A new one, brought into a state by the shortest way. */
static struct thing *brought_to(enum davit_state state)
{
	struct thing *t = make(RUNS, 0);

	if (state != DAVIT_STATE_DESTROYED)
		CHECK_INT(create(t), 0);
	if (state == DAVIT_STATE_STARTED || state == DAVIT_STATE_STOPPED)
		CHECK_INT(start(t), 0);
	if (state == DAVIT_STATE_STOPPED)
		CHECK_INT(stop(t, 5 * SEC), 0);
	CHECK_INT(inspect(t).state, state);
	return t;
}

static void all_pairs(void)
{
	for (size_t s = 0; s < DAVIT_ARRAY_SIZE(states); s++)
		for (size_t o = 0; o < DAVIT_ARRAY_SIZE(operations); o++) {
			enum davit_state state = states[s];
			struct thing *t = brought_to(state);
			uint32_t run = inspect(t).run;
			step(t, &state, &run, operations[o]);
		}
}

static void random_walks(void)
{
	enum { THINGS = 4, STEPS = 150 };
	struct thing *t[THINGS];
	enum davit_state state[THINGS];
	uint32_t run[THINGS] = {0}, ended[THINGS] = {0};
	const char *given = getenv("DAVIT_TEST_SEED");
	uint64_t seed = given ? strtoull(given, NULL, 0) : davit_loop_random(loop);
	uint64_t x = seed | 1;

	printf("# seed %llu\n", (unsigned long long)seed);
	for (int i = 0; i < THINGS; i++) {
		t[i] = make(RUNS, 0);
		state[i] = DAVIT_STATE_DESTROYED;
	}
	for (int n = 0; n < STEPS; n++) {
		/* xorshift64 (Marsaglia 2003) */
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		int i = (int)((x >> 20) % THINGS);
		enum davit_operation op = operations[(x >> 40) % DAVIT_ARRAY_SIZE(operations)];
		ended[i] += state[i] == DAVIT_STATE_STARTED && op == DAVIT_DO_STOP;
		/* A new life counts its runs anew. */
		if (state[i] != DAVIT_STATE_STARTED && op == DAVIT_DO_DESTROY)
			t[i]->last_run = 0;
		step(t[i], &state[i], &run[i], op);
		CHECK_INT(t[i]->runs_told, ended[i]);
	}
}

const struct test model_tests[] = {
	{"every operation in every state does what the state table says", all_pairs},
	{"random sequences of operations keep to the state table", random_walks},
	{0},
};
