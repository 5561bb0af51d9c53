/* SPDX-License-Identifier: MIT
 *
 * What the files of the supervision engine share. Not for use outside them.
 *
 *   supervise.c         the tree, the user's operations, the mechanism's reports
 *   supervise_decide.c  what follows an end: policy, intensity, strategy, escalation
 *   supervise_job.c     stopping and starting several: jobs of inner nodes
 *   supervise_budget.c  the start budget, and the calls of the ops
 *   supervise_restore.c what a store remembers, and putting it back
 *   supervise_rule.c    pure functions: backoff, policies, names
 *
 * Two rules hold it together. Decisions are made at once, but the ops are called
 * from the loop only (budget). And every start passes one gate, node_ask(): while
 * an ancestor has a job that covers the leaf, it waits; the job's end asks again.
 * So jobs nest freely, and need not know of one another.
 */
#ifndef DAVIT_SUPERVISE_IMPL_H
#define DAVIT_SUPERVISE_IMPL_H

#include "supervise/supervise.h"

enum {
	NODE_SLOT = 1 << 0,	/* leaf: counts in davit_supervise.starting */
	NODE_RAN = 1 << 1,	/* leaf: a start was made since it was started afresh */
	NODE_FINAL = 1 << 2,	/* leaf: ended_final */
	NODE_HELD = 1 << 4,	/* leaf: waits for davit_supervise_retry */
	NODE_ASKED = 1 << 5,	/* leaf: the user asked for a start that is to be made when it
				 * has stopped, or when no job covers it any more;
				 * inner: there may be such a leaf beneath */
	NODE_COOLING = 1 << 6,	/* failed, to be started afresh after the cool-down */
	NODE_IN_ORDER = 1 << 7, /* inner: the job stops one child after another */
	NODE_QUIET = 1 << 8,	/* inner: the group restart waits for its backoff only */
	NODE_JOB_SHIFT = 12,
	NODE_JOB_MASK = 7 << NODE_JOB_SHIFT,
};

/* What an inner node does when the children concerned have ended; a later one
 * outweighs those before it. */
enum job {
	JOB_NONE,
	JOB_HUSH,    /* nothing: an ancestor's job goes on */
	JOB_RESTART, /* starts them again, after the backoff (group restart) */
	JOB_FRESH,   /* starts them afresh (the user's restart) */
	JOB_FAIL,    /* has failed: escalates */
	JOB_DONE,    /* completes (auto-shutdown) */
	JOB_STOP,    /* rests (the user's stop) */
};

static inline enum job node_job(const struct davit_node *n)
{
	return (enum job)((n->flags & NODE_JOB_MASK) >> NODE_JOB_SHIFT);
}

static inline bool node_runs(enum davit_node_state s)
{
	return s == DAVIT_NODE_STARTING || s == DAVIT_NODE_RUNNING || s == DAVIT_NODE_STOPPING;
}

static inline bool node_active(const struct davit_node *n)
{
	return n->leaf ? node_runs(n->state) : n->n_active != 0;
}

static inline bool node_done(const struct davit_node *n)
{
	return n->state == DAVIT_NODE_COMPLETED || n->state == DAVIT_NODE_FAILED;
}

/* supervise.c */

/* Changes the state, keeps the ancestors' counts, and announces it. */
void node_set_state(struct davit_node *n, enum davit_node_state s);
/* Notes why; origin may be NULL or n itself. */
void node_set_why(struct davit_node *n, const char *rule, enum davit_cause cause, struct davit_node *origin);
/* The next node in a walk through the subtree of top, parents before their children; NULL at
 * the end. Start with top. */
struct davit_node *node_next(struct davit_node *n, const struct davit_node *top);
/* Forgets a planned start: timer, queue, and the flags of waiting. */
void node_unplan(struct davit_node *n);
/* Counters and failure as new. */
void node_refresh(struct davit_node *n);

/* What is decided until the next call with 0 follows from something at that time (unix ns). */
void node_decide_at(struct davit_supervise *s, int64_t when);
/* That time, or now. */
int64_t node_time(const struct davit_supervise *s);

/* supervise_budget.c */

void budget_init(struct davit_supervise *s);
/* The leaf, waiting and not held back, wants to start. */
void budget_ask(struct davit_node *leaf);
/* Gives the slot of the leaf's start back, if it has one. */
void budget_release(struct davit_node *leaf);
/* Takes a token back that was taken for a start that was not made. */
void budget_refund(struct davit_supervise *s);
/* The leaf, in state stopping, is to be stopped by ops->stop. */
void budget_stop(struct davit_node *leaf);
void budget_note(struct davit_node *n);

/* supervise_job.c */

/* Starts the leaf as the budget allows, or after the job that covers it. */
void node_ask(struct davit_node *leaf);
/* The strongest of the jobs that cover n from above, or JOB_NONE: what ends for
 * one job's sake is not to be started by another. */
enum job node_cover(const struct davit_node *n);
/* Is any ancestor stopping n, or waiting to start it with others? */
bool node_covered(const struct davit_node *n);
/* Gives n a job over its children from seq `first` on; a present one is replaced.
 * job_advance must follow. */
void job_begin(struct davit_node *n, enum job job, uint64_t first);
/* Makes a group restart of n reach back to `first`. */
void job_extend(struct davit_node *n, uint64_t first);
/* Takes the job's next steps, up to its end if nothing is left to wait for. */
void job_advance(struct davit_node *n);
void job_cancel(struct davit_node *n);
/* Advances the jobs of n and its ancestors after something beneath has ended. */
void job_settle(struct davit_node *n);
/* Takes over why n is down, or waits, from the nearest ancestor that stops its children for a
 * reason of its own. */
void node_blame(struct davit_node *n);
/* Makes n and all beneath it end, on behalf of a job above or of the user. */
void node_quell(struct davit_node *n);
/* The leaf is down for a job's sake: waiting if the job will start it, else idle. */
void node_rest(struct davit_node *leaf);
/* n and its ancestors supervise again what is started beneath them. */
void node_revive(struct davit_node *n);
/* Starts what is wanted of n: afresh, or as a group restart does. */
void node_launch(struct davit_node *n, bool fresh);

/* supervise_decide.c */

/* The leaf, already taken down, ended by itself. */
void decide_end(struct davit_node *leaf, enum davit_cause cause, bool final);
/* All beneath n has ended after it failed. */
void decide_escalate(struct davit_node *n);
/* n is done: its parent may be shut down, or done too. */
void decide_done(struct davit_node *n);
/* n, with nothing left to wait for, is done if all its children are. */
void decide_children(struct davit_node *n);
/* The leaf waits for the backoff of that attempt (-1: none), then starts. */
void decide_wait(struct davit_node *leaf, int64_t attempt);
void node_fire(struct davit_timer *t);
/* One more restart, so long ago, against the intensity of n; without memory it is not noted. */
void decide_note(struct davit_node *n, int64_t ago, uint64_t key);

#endif
