/* SPDX-License-Identifier: MIT
 *
 * For the tests of plans, step by step: a host that does nothing but write down what it is told. What goes
 * wrong in a function of it fails the test.
 */
#ifndef DAVIT_STEP_TEST_PLAN_RIG_H
#define DAVIT_STEP_TEST_PLAN_RIG_H

#include "step/plan.h"

#define SEC INT64_C(1000000000)
#define T0 (1000 * SEC)
#define OK DAVIT_PLAN_SUCCEEDED
#define FAILED DAVIT_PLAN_FAILED
#define ERRORED DAVIT_PLAN_ERRORED
#define ABORTED DAVIT_PLAN_ABORTED

struct rig {
	struct davit_plan *p;
	char told[1024]; /* "+KEY " started, "?KEY " again, "!KEY " to be found, "-KEY " aborted */
	int64_t armed;
	bool done, slow; /* slow: nothing is durable until the test says so */
	uint64_t generation;
};

extern const struct davit_plan_ops rig_ops; /* for a struct rig */

/* Reads a plan written with ' for ", and @N for a leaf. */
json_t *plan_of(const char *text);
/* Begins such a plan, at T0. */
void open_rig(struct rig *r, const char *text);
/* The step of that key ends, at T0 or at another time. */
void ended(struct rig *r, const char *key, enum davit_plan_outcome o);
void ended_at(struct rig *r, const char *key, enum davit_plan_outcome o, int64_t at);
void abort_all(struct rig *r);
/* As after a crash: all but the state is forgotten. */
void die(struct rig *r);
/* The plan has ended with that outcome, and nothing was told that was not asserted. */
void close_rig(struct rig *r, enum davit_plan_outcome o);

/* What the host was told since the last time. */
#define assert_told(r, what)                                                                                 \
	do {                                                                                                 \
		assert_string_equal((r)->told, what);                                                        \
		(r)->told[0] = '\0';                                                                         \
	} while (0)

#endif
