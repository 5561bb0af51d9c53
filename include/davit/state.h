/* SPDX-License-Identifier: MIT
 *
 * The state machine that every instance of every runtime obeys: five states,
 * five operations, one table.
 */
#ifndef DAVIT_STATE_H
#define DAVIT_STATE_H

#include "davit/error.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

enum davit_state {
	DAVIT_STATE_DESTROYED, /* not there: before create, after destroy */
	DAVIT_STATE_CREATED,
	DAVIT_STATE_STARTED,
	DAVIT_STATE_STOPPED,
	DAVIT_STATE_FAILED,
	DAVIT_STATE_COUNT
};

enum davit_operation {
	DAVIT_DO_CREATE,
	DAVIT_DO_START, /* from failed: continue or restart */
	DAVIT_DO_STOP,
	DAVIT_DO_FAIL,
	DAVIT_DO_DESTROY,
	DAVIT_OPERATION_COUNT
};

enum davit_verdict {
	DAVIT_VERDICT_ERROR,	  /* refused: DAVIT_ESTATE */
	DAVIT_VERDICT_ALREADY,	  /* allowed, and nothing to do */
	DAVIT_VERDICT_CHANGE,	  /* goes to `next` */
	DAVIT_VERDICT_STOP_FIRST, /* stop, and from there to `next` */
};

struct davit_transition {
	enum davit_verdict verdict;
	enum davit_state next;
};

/* The table's cell. Total: any state and operation have an answer. */
struct davit_transition davit_state_transition(enum davit_state from, enum davit_operation op);
/* As above, with the refusal as an error: "cannot start a destroyed instance". */
int davit_state_check(enum davit_state from, enum davit_operation op, struct davit_transition *ret,
		      struct davit_error *err);
/* "created", "started", ...; "unknown" out of range. */
const char *davit_state_name(enum davit_state s);
const char *davit_operation_name(enum davit_operation op);
/* The state of that name, or -1. */
int davit_state_from_name(const char *name);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
