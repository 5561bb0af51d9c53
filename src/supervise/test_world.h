/* SPDX-License-Identifier: MIT
 *
 * What the tests of the supervision engine share.
 */
#ifndef DAVIT_SUPERVISE_TEST_WORLD_H
#define DAVIT_SUPERVISE_TEST_WORLD_H

#include "supervise/supervise.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define MS INT64_C(1000000)
#define SEC (1000 * MS)

/* A world: a tree of at most 16 leaves on a virtual clock, and the trace of what
 * the engine asked for: "+a" start, "-a" stop. */
struct world {
	struct davit_loop *loop;
	struct davit_supervise sup;
	struct davit_node leaf[16], inner[8];
	char trace[4096];
	bool manual_run;  /* a start is not answered by "running" */
	bool manual_stop; /* a stop is not answered by "ended" */
	const char *held; /* name of a leaf whose starts are held */
	int starts, changes;
};

extern const struct davit_restart_rule always;
extern const struct davit_supervision_rule one_for_one;
extern const struct davit_supervision_rule one_for_all;
extern const struct davit_supervision_rule rest_for_one;
extern const struct davit_supervision_rule service;

extern const struct davit_supervise_ops ops;

struct world *open_world(const struct davit_supervision_rule *root, struct davit_start_budget budget);
/* Without a budget, under a root that restarts one for one. */
struct world *open_plain_world(void);
void close_world(struct world *w);
/* Lets time pass. */
void pass(struct world *w, int64_t ns);
/* What was asked for since the last call. */
const char *trace(struct world *w);
/* Adds n leaves from leaf[from] on, called a, b, c, ... */
void add_leaves(struct world *w, struct davit_node *parent, int from, int n,
		const struct davit_restart_rule *rule);
/* inner[0] below the root with n leaves, started. */
void family(struct world *w, const char *name, const struct davit_supervision_rule *how, int n,
	    const struct davit_restart_rule *rule);

#endif
