/* SPDX-License-Identifier: MIT
 *
 * The supervision engine: a tree of nodes, and the one place that decides what
 * follows when one of them ends. Pure policy: it knows no runtime and no store;
 * it acts through struct davit_supervise_ops and takes time, randomness and
 * timers from a loop.
 *
 * Leaves run (an instance; later a container, a step). Inner nodes supervise:
 * they have a strategy, an intensity and an escalation. A service is an inner
 * node over its instances; a Supervisor of the user's is one over services; the
 * root is Main.
 *
 * What happens when a leaf ends by itself:
 *   1. its own restart rule looks at the cause: no restart wanted -> the leaf is
 *      done (completed, or failed), and the parent hears of it (significant and
 *      autoShutdown, see below);
 *   2. retries used up -> the leaf fails with rule "retries", step 5;
 *   3. the parent's intensity (restarts within a period) is exceeded -> the
 *      parent fails with rule "intensity", step 5 for the parent;
 *   4. the strategy names those restarted with it: one-for-one the leaf alone,
 *      one-for-all every child of the parent, rest-for-one the leaf and those
 *      after it. The others are stopped in reverse order; when all are stopped
 *      they are started in order, after the leaf's backoff and as the host's
 *      start budget allows.
 *   5. a node that failed is for its parent to decide, by the parent's
 *      escalation: isolate (it stays failed), restart (started afresh with its
 *      counters reset, after the cool-down), parent (the parent stops its other
 *      children and fails as well: step 5 one level up). An inner node that
 *      fails stops its children first, last one first. The root's own
 *      escalation is the final policy and can be isolate or restart only.
 */
#ifndef DAVIT_CORE_SUPERVISE_H
#define DAVIT_CORE_SUPERVISE_H

#include "base/list.h"
#include "davit/loop.h"
#include "davit/spec.h"

/* Why a leaf ended: what restart policies distinguish. */
enum davit_cause {
	DAVIT_CAUSE_CLEAN,    /* exit 0, or one listed as success */
	DAVIT_CAUSE_CODE,     /* another exit code */
	DAVIT_CAUSE_SIGNAL,
	DAVIT_CAUSE_TIMEOUT,  /* not ready in time */
	DAVIT_CAUSE_OOM,
	DAVIT_CAUSE_HEALTH,
	DAVIT_CAUSE_WATCHDOG,
	DAVIT_CAUSE_START,    /* it could not be started (exec, create, runtime) */
	DAVIT_CAUSE_VANISHED, /* gone, status unknown */
	DAVIT_CAUSE_STOPPED,  /* because it was told to: never a failure */
};
const char *davit_cause_name(enum davit_cause c);

enum davit_node_state {
	DAVIT_NODE_IDLE,      /* not wanted, not running */
	DAVIT_NODE_WAITING,   /* wanted; backoff, budget, or dependencies hold it back */
	DAVIT_NODE_STARTING,
	DAVIT_NODE_RUNNING,
	DAVIT_NODE_STOPPING,
	DAVIT_NODE_COMPLETED, /* ended as it should, no restart wanted */
	DAVIT_NODE_FAILED,    /* and its parent has decided to leave it so */
};
const char *davit_node_state_name(enum davit_node_state s);

/* A leaf's restart rule. */
struct davit_restart_rule {
	enum davit_restart_policy policy;
	int64_t retries; /* -1: without end */
	struct davit_backoff backoff;
};

/* An inner node's rule. */
struct davit_supervision_rule {
	enum davit_strategy strategy;
	int64_t max_restarts; /* within period; -1: no limit */
	int64_t period;
	enum davit_escalation escalation;
	int64_t cooldown;
	bool auto_shutdown; /* when a significant child is done, stop the others; the node is then done */
};

struct davit_supervise;

struct davit_node {
	struct davit_supervise *sup;
	struct davit_node *parent;
	struct davit_list siblings; /* in parent->children */
	struct davit_list children; /* in order of addition; empty for a leaf */
	bool leaf;
	char *name; /* owned */
	void *owner;
	struct davit_restart_rule restart;     /* leaf */
	struct davit_supervision_rule rule;    /* inner */
	bool significant;

	enum davit_node_state state;
	bool wanted;	      /* start was asked for and stop was not */
	bool failed;	      /* inner: it failed and is waiting or left so */
	int64_t restarts;     /* leaf: restarts since it was last started afresh (counts against retries) */
	int64_t total_restarts; /* for people */
	int64_t attempt;      /* leaf: consecutive failures, for the backoff */
	int64_t started;      /* monotonic ns it was last seen running; 0 never */
	struct davit_timer timer;    /* backoff or cool-down */
	int64_t *window;	     /* inner: times of restarts, a ring of max_restarts + 1 */
	size_t window_len, window_pos;
	/* why: the last decision, for `davit why` */
	enum davit_cause cause;
	const char *rule_name; /* "policy", "retries", "intensity", "one-for-all", ...; static */
	struct davit_node *origin; /* node whose end led here, while it exists; else NULL */
	int64_t decided;	   /* unix ns; 0: nothing decided yet */
	int64_t next_start;	   /* unix ns of the planned start, or 0 */
	struct davit_list queue; /* private: waiting for the start budget */
	uint32_t flags;		 /* private */
};

/* What the engine needs done. Never called from within davit_supervise_* of the
 * same node's caller re-entrantly: always from the loop (deferred). */
struct davit_supervise_ops {
	/* Start the leaf. Answer later with davit_supervise_running or _ended. */
	void (*start)(struct davit_node *leaf);
	/* Stop the leaf. Answer later with davit_supervise_ended (STOPPED). */
	void (*stop)(struct davit_node *leaf);
	/* Something about the node changed that people or the store may want to
	 * know: state, counters, why. */
	void (*changed)(struct davit_node *node);
};

struct davit_start_budget {
	int64_t rate;	     /* starts a second, for the whole host; 0: no limit */
	int64_t burst;	     /* tokens the bucket holds */
	int64_t concurrent;  /* starts under way at once; 0: no limit */
};

struct davit_supervise {
	struct davit_loop *loop;
	const struct davit_supervise_ops *ops;
	void *owner;
	struct davit_node root; /* "Main" */
	struct davit_start_budget budget;
	/* private */
	double tokens;
	int64_t tokens_at;
	int64_t starting;
	struct davit_list waiting; /* nodes in order of asking */
	struct davit_timer refill;
	struct davit_deferred work;
	struct davit_list pending; /* nodes with deferred actions */
};

/* Initialises the engine with the root "Main" and its final policy. */
int davit_supervise_init(struct davit_supervise *s, struct davit_loop *loop,
			 const struct davit_supervise_ops *ops, const struct davit_supervision_rule *root,
			 const struct davit_start_budget *budget, void *owner, struct davit_error *err);
/* Forgets everything; nodes must have been removed, or are left to their owner. */
void davit_supervise_fini(struct davit_supervise *s);

/* Adds a node, the caller's memory, at the end of parent's children. The name
 * is copied. 0 or DAVIT_ENOMEM. */
int davit_supervise_add_leaf(struct davit_node *n, struct davit_node *parent, const char *name,
			     const struct davit_restart_rule *rule, void *owner);
int davit_supervise_add_inner(struct davit_node *n, struct davit_node *parent, const char *name,
			      const struct davit_supervision_rule *rule, void *owner);
/* Takes a node out; an inner one must have no children. It may be in any state:
 * the engine forgets it and calls nothing for it any more. */
void davit_supervise_remove(struct davit_node *n);
/* Moves a node under another parent, keeping its state and counters. */
void davit_supervise_move(struct davit_node *n, struct davit_node *parent);
/* New rules for an existing node; counters are kept. */
void davit_supervise_set_restart(struct davit_node *leaf, const struct davit_restart_rule *rule);
int davit_supervise_set_rule(struct davit_node *inner, const struct davit_supervision_rule *rule);

/* The user (or the reconciler) wants it to run: leaf, or all leaves below.
 * Resets counters and a failure. */
void davit_supervise_start(struct davit_node *n);
/* Wants it not to run: last child first. */
void davit_supervise_stop(struct davit_node *n);
/* Stop, then start; no backoff; counts as no restart. */
void davit_supervise_restart(struct davit_node *n);

/* Reports of the mechanism, for leaves. */
void davit_supervise_running(struct davit_node *leaf);
/* It is over. cause STOPPED after ops->stop; anything else is by itself. */
void davit_supervise_ended(struct davit_node *leaf, enum davit_cause cause);
/* It was found running (adopted): no start is made, counters as given. */
void davit_supervise_adopted(struct davit_node *leaf, int64_t restarts);
/* It was found ended long ago: as ended, but its counters first. */
void davit_supervise_restore(struct davit_node *leaf, enum davit_node_state state, int64_t restarts,
			     int64_t total_restarts, int64_t attempt);

/* A start that asked for dependencies and must wait: gives its slot of the
 * start budget back; davit_supervise_retry asks again. */
void davit_supervise_hold(struct davit_node *leaf);
void davit_supervise_retry(struct davit_node *leaf);

/* The backoff before restart number `attempt` (0-based), jittered with r in [0,1). */
int64_t davit_backoff_delay(const struct davit_backoff *b, int64_t attempt, double r);
/* Does the policy want a restart after this cause? */
bool davit_restart_wanted(enum davit_restart_policy policy, enum davit_cause cause);

#endif
