/* SPDX-License-Identifier: MIT
 *
 * A family of containers, for the tests of supervision: what happens to them is in the trace.
 */
#ifndef DAVIT_ACTOR_TEST_FAMILY_H
#define DAVIT_ACTOR_TEST_FAMILY_H

#include "actor/test_rig.h"

/* Notes starts, stops and failures: +A, -A, !A. */
int hook(struct davit_context *c, enum davit_operation op, enum davit_phase phase);
/* Fails at "die", else notes what it gets: A<text. */
int talk(struct davit_context *c, struct davit_message *m);

/* Fails as often as this says, then constructs. */
extern int fails_to_construct;
int construct(struct davit_context *c);

#define BASE .name = "T", .behaviour = talk, .hook = hook
#define BACKOFF                                                                                              \
	{                                                                                                    \
		100 * MS, SEC, 2, 0, 60 * SEC                                                                \
	}

extern const struct davit_definition plain;

/* A parent P with that strategy over A, B and C, all started. */
struct world *family(const struct davit_definition *parent, const struct davit_definition *child);

#endif
