/* SPDX-License-Identifier: MIT
 *
 * A memory store that misbehaves as it is told to, for the simulator and for
 * tests of what uses a store. All chance comes from the loop's generator, all
 * delay from its timers: on the virtual loop a run is a function of the seed.
 */
#ifndef DAVIT_STORE_FAULTY_H
#define DAVIT_STORE_FAULTY_H

#include "davit/store.h"

/* Chances are in millionths for each commit; a zero draws no random number. */
struct davit_store_plan {
	/* Commits that fail with `code` (default DAVIT_EUNAVAIL) and change nothing. */
	uint32_t fail;
	int code;
	/* Commits that are done but reported as DAVIT_ETIMEDOUT: the lost answer. */
	uint32_t lose;
	/* Commits that come back after a delay within [delay_min, delay_max] ns.
	 * Later ones wait for them: the order of calls is kept. */
	uint32_t delay;
	int64_t delay_min, delay_max;
	/* Commits after which all watches break with DAVIT_EUNAVAIL. */
	uint32_t break_watches;
};

/* Opened with davit_store_open; `where` must be NULL or empty. Faultless until
 * told otherwise. */
extern const struct davit_store_driver davit_faulty_store;

/* The chances from now on; NULL: none. The plan is copied. */
void davit_faulty_plan(struct davit_store *s, const struct davit_store_plan *plan);
/* Every commit called within the next duration_ns fails with this code, whatever
 * the plan says. INT64_MAX: until called again. 0: the window is over. */
void davit_faulty_fail_for(struct davit_store *s, int code, int64_t duration_ns);
/* Commits are held, in order, from now until the release. */
void davit_faulty_hold(struct davit_store *s);
void davit_faulty_release(struct davit_store *s);
/* Breaks all watches with this code. Calls back; only from the loop. */
void davit_faulty_break_watches(struct davit_store *s, int code);
/* The user of the store dies: of the commits that wait, the first few (by chance)
 * still arrive, the others do not; none of their callers is told the truth: all
 * fail with DAVIT_ECLOSED. */
void davit_faulty_crash(struct davit_store *s);
/* How many commits were called, and how many were made to fail or lose their
 * answer: for a test to see that its plan did something. */
void davit_faulty_counts(struct davit_store *s, uint64_t *ret_commits, uint64_t *ret_faults);

#endif
