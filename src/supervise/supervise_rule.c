/* SPDX-License-Identifier: MIT */
#include "supervise/supervise_impl.h"

#include <math.h>
#include <string.h>

static const char *const cause_names[] = {
	[DAVIT_CAUSE_CLEAN] = "clean",	     [DAVIT_CAUSE_CODE] = "code",
	[DAVIT_CAUSE_SIGNAL] = "signal",     [DAVIT_CAUSE_TIMEOUT] = "timeout",
	[DAVIT_CAUSE_OOM] = "oom",	     [DAVIT_CAUSE_HEALTH] = "unhealthy",
	[DAVIT_CAUSE_WATCHDOG] = "watchdog", [DAVIT_CAUSE_START] = "start",
	[DAVIT_CAUSE_VANISHED] = "vanished", [DAVIT_CAUSE_STOPPED] = "stopped",
};

static const char *const state_names[] = {
	[DAVIT_NODE_IDLE] = "idle",	    [DAVIT_NODE_WAITING] = "waiting",
	[DAVIT_NODE_STARTING] = "starting", [DAVIT_NODE_RUNNING] = "running",
	[DAVIT_NODE_STOPPING] = "stopping", [DAVIT_NODE_COMPLETED] = "completed",
	[DAVIT_NODE_FAILED] = "failed",
};

const char *davit_cause_name(enum davit_cause c)
{
	return (unsigned)c < DAVIT_ARRAY_SIZE(cause_names) ? cause_names[c] : "unknown";
}

const char *davit_node_state_name(enum davit_node_state s)
{
	return (unsigned)s < DAVIT_ARRAY_SIZE(state_names) ? state_names[s] : "unknown";
}

int64_t davit_backoff_delay(const struct davit_backoff *b, int64_t attempt, double r)
{
	double jitter = b->jitter > 0 ? fmin(b->jitter, 1) : 0;
	double factor = b->factor > 1 ? b->factor : 1;
	double d;

	if (b->initial <= 0 || b->max <= 0)
		return 0;
	/* In floating point: what is too large becomes infinite, and then the cap. */
	d = (double)b->initial * pow(factor, attempt > 0 ? (double)attempt : 0);
	d = fmin(d, (double)b->max);
	d -= d * jitter * r;
	/* (double)b->max may have been rounded up. */
	return d >= (double)b->max ? b->max : (int64_t)d;
}

bool davit_restart_wanted(enum davit_restart_policy policy, enum davit_cause cause)
{
	if (cause == DAVIT_CAUSE_STOPPED)
		return false;
	switch (policy) {
	case DAVIT_RESTART_NEVER:
		return false;
	case DAVIT_RESTART_ON_FAILURE:
		return cause != DAVIT_CAUSE_CLEAN;
	case DAVIT_RESTART_ALWAYS:
	case DAVIT_RESTART_UNLESS_STOPPED:
		return true;
	}
	return false;
}

const char *davit_supervise_rule(const char *name)
{
	static const char *const rules[] = {
		"policy",	"prevent",	 "retries",	 "intensity", "escalation",
		"children",	"auto-shutdown", "dependencies", "user",      "one-for-one",
		"rest-for-one", "one-for-all",	 "stopped",	 "restored",
	};

	for (size_t k = 0; name && k < sizeof rules / sizeof *rules; k++)
		if (!strcmp(rules[k], name))
			return rules[k];
	return NULL;
}

const char *davit_supervise_strategy(enum davit_strategy s)
{
	switch (s) {
	case DAVIT_ONE_FOR_ALL:
		return "one-for-all";
	case DAVIT_REST_FOR_ONE:
		return "rest-for-one";
	default:
		return "one-for-one";
	}
}
