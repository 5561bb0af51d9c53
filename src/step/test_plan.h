/* SPDX-License-Identifier: MIT
 *
 * For the tests of plans: a host with a clock of its own that plays leaves by a script, dies when it is told
 * to, and an oracle that says what must come out.
 */
#ifndef DAVIT_STEP_TEST_PLAN_H
#define DAVIT_STEP_TEST_PLAN_H

#include "step/plan.h"

#define NEVER INT64_MAX
#define TEST_LEAVES_MAX 512
#define TEST_KEY_MAX 128

/* What a leaf does. */
struct behaviour {
	int64_t fetch, length;		 /* ns until its program runs, and how long that runs */
	enum davit_plan_outcome outcome; /* if nobody aborts it */
	int64_t reaction;		 /* ns that it takes to end when it is told to */
	enum davit_plan_outcome reacted; /* what it then reports */
};
/* From its spec - "is", an outcome or a list of one for each attempt - and by chance from its key. */
struct behaviour test_behave(uint64_t seed, const char *key, const json_t *is);

struct test_start {
	char key[TEST_KEY_MAX];
	int64_t at;
};

/* When the user aborts, and how the host dies. */
enum test_crash {
	CRASH_NEVER,
	CRASH_STATE,   /* after each event; goes on from the state */
	CRASH_RECORD,  /* after each event; goes on from the records of all events */
	CRASH_BETWEEN, /* before what an event asks for is done; and at times before the event is durable */
	CRASH_MODES,
};

struct test_case {
	const json_t *plan;
	uint64_t seed;
	int64_t abort, force; /* NEVER, or when */
	enum test_crash crash;
};

struct test_result {
	enum davit_plan_outcome outcome;
	int64_t end;
	struct test_start starts[TEST_LEAVES_MAX]; /* sorted by key */
	size_t n_starts;
	char wrong[256]; /* what the host saw that must not be; "" if nothing */
};

/* Runs it on the engine. */
void test_run(const struct test_case *c, struct test_result *ret);
/* What must come out, by the rules. */
void test_oracle(const struct test_case *c, struct test_result *ret);

uint64_t test_hash(uint64_t seed, const char *text);

#endif
