/* SPDX-License-Identifier: MIT */
#include "davit/state.h"

#include "base/util.h"

#include <string.h>

/* clang-format off: a table is read by its rows and columns */
#define ERR                                                                                                  \
	{                                                                                                    \
		DAVIT_VERDICT_ERROR, 0                                                                       \
	}
#define ALREADY(s)                                                                                           \
	{                                                                                                    \
		DAVIT_VERDICT_ALREADY, DAVIT_STATE_##s                                                       \
	}
#define TO(s)                                                                                                \
	{                                                                                                    \
		DAVIT_VERDICT_CHANGE, DAVIT_STATE_##s                                                        \
	}
#define VIA_STOP(s)                                                                                          \
	{                                                                                                    \
		DAVIT_VERDICT_STOP_FIRST, DAVIT_STATE_##s                                                    \
	}
#define ROW(state, create, start, stop, fail, destroy)                                                       \
	[DAVIT_STATE_##state] = {[DAVIT_DO_CREATE] = create,                                                 \
				 [DAVIT_DO_START] = start,                                                   \
				 [DAVIT_DO_STOP] = stop,                                                     \
				 [DAVIT_DO_FAIL] = fail,                                                     \
				 [DAVIT_DO_DESTROY] = destroy}

/* The create cell of `destroyed` is what brings an instance into being. */
static const struct davit_transition table[DAVIT_STATE_COUNT][DAVIT_OPERATION_COUNT] = {
	/*             create            start             stop              fail             destroy */
	ROW(DESTROYED, TO(CREATED), ERR, ERR, ERR, ALREADY(DESTROYED)),
	ROW(CREATED, ALREADY(CREATED), TO(STARTED), ERR, ERR, TO(DESTROYED)),
	ROW(STARTED, ERR, ALREADY(STARTED), TO(STOPPED), TO(FAILED), VIA_STOP(DESTROYED)),
	ROW(STOPPED, ERR, TO(STARTED), ALREADY(STOPPED), ERR, TO(DESTROYED)),
	ROW(FAILED, ERR, TO(STARTED), TO(STOPPED), ALREADY(FAILED), VIA_STOP(DESTROYED)),
};
/* clang-format on */

static const char *const state_names[] = {
	[DAVIT_STATE_DESTROYED] = "destroyed", [DAVIT_STATE_CREATED] = "created",
	[DAVIT_STATE_STARTED] = "started",     [DAVIT_STATE_STOPPED] = "stopped",
	[DAVIT_STATE_FAILED] = "failed",
};

static const char *const operation_names[] = {
	[DAVIT_DO_CREATE] = "create", [DAVIT_DO_START] = "start",     [DAVIT_DO_STOP] = "stop",
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
