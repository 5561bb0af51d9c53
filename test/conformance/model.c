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

static void perform(struct call *c, struct thing *t, enum davit_operation op)
{
	switch (op) {
	case DAVIT_DO_CREATE:
		do_create(c, t);
		break;
	case DAVIT_DO_START:
		do_start(c, t);
		break;
	case DAVIT_DO_STOP:
		do_stop(c, t, 5 * SEC, 0);
		break;
	default:
		do_remove(c, t);
	}
}

/* One instance, and where the oracle has it. */
struct walker {
	struct thing *thing;
	struct call call; /* of the operation under way */
	enum davit_operation op;
	enum davit_state state;
	uint32_t run, ended;
};

static void begin_step(struct walker *w, enum davit_operation op)
{
	w->op = op;
	w->ended += w->state == DAVIT_STATE_STARTED && op == DAVIT_DO_STOP;
	/* A new life counts its runs anew. */
	if (w->state != DAVIT_STATE_STARTED && op == DAVIT_DO_DESTROY)
		w->thing->last_run = 0;
	perform(&w->call, w->thing, op);
}

/* Compares the answer, the state and the run with the oracle's. */
static void end_step(struct walker *w)
{
	struct expectation want = oracle(w->state, w->op);
	int got = result(&w->call);
	struct davit_inspection now = inspect(w->thing);

	if (w->state != DAVIT_STATE_STARTED && want.state == DAVIT_STATE_STARTED)
		w->run++;
	if (want.state == DAVIT_STATE_DESTROYED)
		w->run = 0;
	if (got != want.result || now.state != want.state || now.run != w->run)
		fail(__FILE__, __LINE__, "%s of a %s one: %s, %s, run %u; not %s, %s, run %u",
		     davit_operation_name(w->op), davit_state_name(w->state), davit_error_word(got),
		     davit_state_name(now.state), now.run, davit_error_word(want.result),
		     davit_state_name(want.state), w->run);
	w->state = want.state;
	CHECK_INT(w->thing->runs_told, w->ended);
}

/* Each pair has an instance of its own; all are brought on together, by the shortest
 * way, since platforms take their time for each. */
static void all_pairs(void)
{
	enum { STATES = DAVIT_ARRAY_SIZE(states), OPERATIONS = DAVIT_ARRAY_SIZE(operations) };
	static const enum davit_operation way[] = {DAVIT_DO_CREATE, DAVIT_DO_START, DAVIT_DO_STOP};
	static struct walker w[STATES * OPERATIONS];

	for (int i = 0; i < STATES * OPERATIONS; i++)
		w[i] = (struct walker){.thing = make(RUNS, 0), .state = DAVIT_STATE_DESTROYED};
	/* states[] are in the order of the way. */
	for (int k = 0; k < STATES - 1; k++) {
		for (int i = (k + 1) * OPERATIONS; i < STATES * OPERATIONS; i++)
			begin_step(&w[i], way[k]);
		for (int i = (k + 1) * OPERATIONS; i < STATES * OPERATIONS; i++)
			end_step(&w[i]);
	}
	for (int i = 0; i < STATES * OPERATIONS; i++) {
		CHECK_INT(w[i].state, states[i / OPERATIONS]);
		begin_step(&w[i], operations[i % OPERATIONS]);
	}
	for (int i = 0; i < STATES * OPERATIONS; i++)
		end_step(&w[i]);
}

/* Several at once, each with an operation under way. */
static void random_walks(void)
{
	enum { THINGS = 4, STEPS = 38 };
	static struct walker w[THINGS];
	const char *given = getenv("DAVIT_TEST_SEED");
	uint64_t seed = given ? strtoull(given, NULL, 0) : davit_loop_random(loop);
	uint64_t x = seed | 1;

	printf("# seed %llu\n", (unsigned long long)seed);
	for (int i = 0; i < THINGS; i++)
		w[i] = (struct walker){.thing = make(RUNS, 0), .state = DAVIT_STATE_DESTROYED};
	for (int n = 0; n < STEPS; n++) {
		for (int i = 0; i < THINGS; i++) {
			/* xorshift64 (Marsaglia 2003) */
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			begin_step(&w[i], operations[(x >> 40) % DAVIT_ARRAY_SIZE(operations)]);
		}
		for (int i = 0; i < THINGS; i++)
			end_step(&w[i]);
	}
}

const struct test model_tests[] = {
	{"every operation in every state does what the state table says", all_pairs},
	{"random sequences of operations keep to the state table", random_walks},
	{0},
};
