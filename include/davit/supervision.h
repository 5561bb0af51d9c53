/* SPDX-License-Identifier: MIT
 *
 * The words of supervision, of services and of containers alike: what is restarted, with what
 * else, after how long, and who hears of it when that does not help. docs/supervision.md has
 * the rules.
 */
#ifndef DAVIT_SUPERVISION_H
#define DAVIT_SUPERVISION_H

#include <stdint.h>

enum davit_restart_policy {
	DAVIT_RESTART_ON_FAILURE, /* the default */
	DAVIT_RESTART_NEVER,
	DAVIT_RESTART_ALWAYS,
	DAVIT_RESTART_UNLESS_STOPPED, /* as always; but one that the user stopped stays
				       * stopped when its supervisor restarts its children */
};

/* What a supervisor restarts together. */
enum davit_strategy {
	DAVIT_ONE_FOR_ONE, /* the default */
	DAVIT_ONE_FOR_ALL,
	DAVIT_REST_FOR_ONE,
	/* As one-for-one, for children that are all of one definition, however many come and
	 * go. Of containers alone: a service's instances are that already. */
	DAVIT_SIMPLE_ONE_FOR_ONE,
};

/* What follows when a child has failed for good. */
enum davit_escalation {
	DAVIT_ESCALATE_ISOLATE, /* the failed child stays failed, the others go on */
	DAVIT_ESCALATE_PARENT,	/* this node fails too, and its own parent decides */
	DAVIT_ESCALATE_RESTART, /* the failed child is started afresh after the cool-down */
};

/* The delay before a restart: initial * factor^n, at most max, less a random part. */
struct davit_backoff {
	int64_t initial; /* ns; default 100 ms */
	int64_t max;	 /* ns; default 30 s */
	double factor;	 /* default 2 */
	double jitter;	 /* fraction of the delay, 0 to 1; default 0.1 */
	int64_t reset;	 /* ns of health after which the delay starts over; default 60 s */
};

#endif
