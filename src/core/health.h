/* SPDX-License-Identifier: MIT
 *
 * Health checks, above all runtimes: when each is tried, what its results mean, and
 * what follows. health.c decides; health_try.c carries a single try out. Not for use
 * outside src/core.
 *
 * Each check has one timer in the loop's heap, and nothing else moves between two
 * tries.
 */
#ifndef DAVIT_CORE_HEALTH_H
#define DAVIT_CORE_HEALTH_H

#include "core/core_impl.h"

struct health_try;

/* One check of one running instance. */
struct check {
	struct health *health;
	uint32_t index;	   /* in the spec's list */
	uint32_t failures; /* in a row; before the first success, tries */
	bool passed;	   /* once in this run */
	bool failing;
	struct davit_timer timer; /* the next try */
	struct health_try *under_way;
	char *why; /* of the last failure, or NULL */
};

enum health_state { HEALTH_STARTING, HEALTH_HEALTHY, HEALTH_UNHEALTHY };

struct health {
	struct instance *i;
	enum health_state state;
	int64_t begun; /* monotonic ns, of the run; may lie before the daemon's own start */
	size_t n;
	struct check checks[];
};

const struct davit_health_check *check_spec(const struct check *c);

/* --- health_try.c --- */

/* What became of a try. */
enum health_result {
	HEALTH_PASSED,
	HEALTH_FAILED,
	HEALTH_NO_WORD, /* it could not be made, for a reason that is not the instance's */
};

/* Begins a try; its result comes through health_tried, from the loop. */
void health_try(struct check *c);
/* Ends a try without a result. */
void health_try_abandon(struct check *c);
/* After the runtimes are closed: what their commands have left. */
void health_try_free_all(struct davit_core *c);

/* health.c: why is for people, borrowed, of a failure. May free the check. */
void health_tried(struct check *c, enum health_result result, const char *why);

#endif
