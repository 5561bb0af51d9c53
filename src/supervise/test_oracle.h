/* SPDX-License-Identifier: MIT
 *
 * A tree under test (test_tree.c) and the oracle's idea of it (test_oracle.c).
 */
#ifndef DAVIT_SUPERVISE_TEST_ORACLE_H
#define DAVIT_SUPERVISE_TEST_ORACLE_H

#include "supervise/supervise.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define MS INT64_C(1000000)
#define SEC (1000 * MS)

enum { MAX_NODES = 28, MAX_TRACE = 4096 };

/* What the oracle knows of a node. */
struct model {
	enum davit_node_state state; /* at rest: idle, running, completed, failed */
	bool wanted, ran, final;
	int64_t restarts;
	int64_t times[16]; /* of the restarts in the period */
	int n_times;
};

/* What the mechanism knows of a leaf. */
struct body {
	bool up, told;	  /* started; told to stop */
	bool forbidden;	  /* the user stopped it, and has not started it since */
	int64_t own_ends; /* since it was last started afresh */
};

struct event {
	char what; /* '+' or '-' */
	int node;
};

struct run {
	uint64_t seed, random;
	struct davit_loop *loop;
	struct davit_supervise sup;
	struct davit_node *node[MAX_NODES]; /* 0: the root; parents before children; NULL: removed */
	int parent[MAX_NODES];
	bool leaf[MAX_NODES];
	struct model model[MAX_NODES];
	struct body body[MAX_NODES];
	int n;
	bool chaos;
	bool partial; /* parts of what failed may have been started, or moved, by the user */
	struct event trace[MAX_TRACE];
	int n_trace;
	int stopped[MAX_NODES];	 /* by the oracle: in its how manieth stopping of several; 0: not */
	bool started[MAX_NODES]; /* by the oracle */
	int phase;
};

/* --- test_tree.c --- */

/* A random tree, with its mechanism. The seed decides everything. */
struct run *open_run(uint64_t seed, bool chaos);
void close_run(struct run *r);
/* Of 0 to n - 1. */
int pick(struct run *r, int n);
struct davit_supervision_rule random_rule(struct run *r, bool root);
/* One more node, the last. */
void add(struct run *r, int parent, bool leaf);
/* Lets that much time pass. */
void pass(struct run *r, int64_t ns);
/* What must hold at every moment; and once nothing has happened for a long time. */
void check_moment(struct run *r);
void check_rest(struct run *r);
/* Shows the tree and ends the test. */
__attribute__((format(printf, 4, 5), noreturn)) void broken(struct run *r, int line, const char *what,
							    const char *fmt, ...);
#define CHECK(r, cond, ...)                                                                                  \
	do {                                                                                                 \
		if (!(cond))                                                                                 \
			broken(r, __LINE__, #cond, __VA_ARGS__);                                             \
	} while (0)

/* --- test_oracle.c --- */

/* It has ended for good: completed or failed. */
bool at_end(enum davit_node_state s);
bool below(const struct run *r, int i, int top);
/* What follows from an event, in r->model and the counters, as if it took no time. */
void model_end(struct run *r, int i, enum davit_cause cause, bool final);
void model_start(struct run *r, int top);
void model_stop(struct run *r, int top);
void model_restart(struct run *r, int top);

#endif
