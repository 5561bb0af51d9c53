/* SPDX-License-Identifier: MIT */
#include "davit/state.h"

#include "base/util.h"

#include <string.h>

#define ERR {DAVIT_VERDICT_ERROR, 0}
#define ALREADY(s) {DAVIT_VERDICT_ALREADY, DAVIT_STATE_##s}
#define TO(s) {DAVIT_VERDICT_CHANGE, DAVIT_STATE_##s}
#define VIA_STOP(s) {DAVIT_VERDICT_STOP_FIRST, DAVIT_STATE_##s}

/* The create cell of `destroyed` is what brings an instance into being. */
static const struct davit_transition table[DAVIT_STATE_COUNT][DAVIT_OPERATION_COUNT] = {
	[DAVIT_STATE_DESTROYED] = {[DAVIT_DO_CREATE] = TO(CREATED), [DAVIT_DO_START] = ERR,
				   [DAVIT_DO_STOP] = ERR, [DAVIT_DO_FAIL] = ERR,
				   [DAVIT_DO_DESTROY] = ALREADY(DESTROYED)},
	[DAVIT_STATE_CREATED] = {[DAVIT_DO_CREATE] = ALREADY(CREATED), [DAVIT_DO_START] = TO(STARTED),
				 [DAVIT_DO_STOP] = ERR, [DAVIT_DO_FAIL] = ERR,
				 [DAVIT_DO_DESTROY] = TO(DESTROYED)},
	[DAVIT_STATE_STARTED] = {[DAVIT_DO_CREATE] = ERR, [DAVIT_DO_START] = ALREADY(STARTED),
				 [DAVIT_DO_STOP] = TO(STOPPED), [DAVIT_DO_FAIL] = TO(FAILED),
				 [DAVIT_DO_DESTROY] = VIA_STOP(DESTROYED)},
	[DAVIT_STATE_STOPPED] = {[DAVIT_DO_CREATE] = ERR, [DAVIT_DO_START] = TO(STARTED),
				 [DAVIT_DO_STOP] = ALREADY(STOPPED), [DAVIT_DO_FAIL] = ERR,
				 [DAVIT_DO_DESTROY] = TO(DESTROYED)},
	[DAVIT_STATE_FAILED] = {[DAVIT_DO_CREATE] = ERR, [DAVIT_DO_START] = TO(STARTED),
				[DAVIT_DO_STOP] = TO(STOPPED), [DAVIT_DO_FAIL] = ALREADY(FAILED),
				[DAVIT_DO_DESTROY] = VIA_STOP(DESTROYED)},
};

static const char *const state_names[] = {
	[DAVIT_STATE_DESTROYED] = "destroyed", [DAVIT_STATE_CREATED] = "created",
	[DAVIT_STATE_STARTED] = "started",     [DAVIT_STATE_STOPPED] = "stopped",
	[DAVIT_STATE_FAILED] = "failed",
};

static const char *const operation_names[] = {
	[DAVIT_DO_CREATE] = "create", [DAVIT_DO_START] = "start", [DAVIT_DO_STOP] = "stop",
	[DAVIT_DO_FAIL] = "fail",     [DAVIT_DO_DESTROY] = "destroy",
};

struct davit_transition davit_state_transition(enum davit_state from, enum davit_operation op)
{
	if ((unsigned)from >= DAVIT_STATE_COUNT || (unsigned)op >= DAVIT_OPERATION_COUNT)
		return (struct davit_transition){DAVIT_VERDICT_ERROR, from};
	if (table[from][op].verdict == DAVIT_VERDICT_ERROR)
		return (struct davit_transition){DAVIT_VERDICT_ERROR, from};
	return table[from][op];
}

int davit_state_check(enum davit_state from, enum davit_operation op, struct davit_transition *ret,
		      struct davit_error *err)
{
	struct davit_transition t = davit_state_transition(from, op);

	if (t.verdict == DAVIT_VERDICT_ERROR)
		return davit_error_set(err, DAVIT_ESTATE, NULL, "cannot %s a %s instance",
				       davit_operation_name(op), davit_state_name(from));
	if (ret)
		*ret = t;
	return 0;
}

const char *davit_state_name(enum davit_state s)
{
	return (unsigned)s < DAVIT_STATE_COUNT ? state_names[s] : "unknown";
}

const char *davit_operation_name(enum davit_operation op)
{
	return (unsigned)op < DAVIT_OPERATION_COUNT ? operation_names[op] : "unknown";
}

int davit_state_from_name(const char *name)
{
	for (size_t i = 0; i < DAVIT_STATE_COUNT; i++)
		if (!strcmp(state_names[i], name))
			return (int)i;
	return -1;
}
