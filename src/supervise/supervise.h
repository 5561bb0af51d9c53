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
 * What happens when a leaf ends by itself. Its supervisor is the nearest ancestor
 * that is not transparent: a service over its instances is transparent, so that
 * the strategy and intensity of a user's Supervisor see the instances' restarts,
 * with the service as the child that is restarted.
 *   1. its own restart rule looks at the cause: no restart wanted -> the leaf is
 *      done (completed, or failed by rule "policy" or "prevent"), without
 *      escalation, and the parent hears of it (see "done" below);
 *   2. retries used up -> the leaf fails with rule "retries", step 5;
 *   3. the supervisor's intensity (restarts within a period) is exceeded -> the
 *      supervisor fails with rule "intensity", step 5 for the supervisor;
 *   4. the strategy names those restarted with it: one-for-one the leaf alone,
 *      one-for-all every child of the supervisor, rest-for-one the child with the
 *      leaf and those after it. The others are stopped in reverse order; when all
 *      are stopped they are started in order, after the leaf's backoff and as the
 *      host's start budget allows.
 *   5. a node that failed is for its supervisor to decide, by the supervisor's
 *      escalation: isolate (it stays failed), restart (started afresh with its
 *      counters reset, after the cool-down), parent (the supervisor stops its other
 *      children and fails as well: step 5 one level up). An inner node that
 *      fails stops its children first, last one first. The root's own
 *      escalation is the final policy and can be isolate or restart only.
 *
 * Stopping several: under one-for-all and rest-for-one one child after another,
 * the next when the one before has ended (as in OTP); under one-for-one, and
 * among the instances of a transparent node, all are told at once, last first.
 * Starts are asked for in order and do not wait for one another: what must wait
 * is held by its dependencies. While a node stops its children (or waits for the
 * backoff of a group restart) nothing beneath it is started; a start that the
 * user asked for meanwhile is made afterwards.
 *
 * A group restart (step 4) starts what it stopped, and what had completed, but
 * not: what the user stopped; a leaf of policy never that had been started, or
 * one that ended finally (OTP's temporary); what failed and was left so. Another
 * failure during it counts as any failure and is merged: the group grows when
 * need be and starts after the later of the two backoffs. Starting afresh (the
 * user's start, escalation restart) starts whatever is wanted.
 *
 * Counters: `restarts` counts against retries, `attempt` chooses the backoff.
 * Only an end by itself that is answered with a restart counts, for both. attempt
 * starts over after backoff.reset of uninterrupted running; restarts does not, as
 * "retries: n" means exactly n restarts. A fresh start resets both. An end while
 * stopping is a stop, whatever its cause: it counts nowhere.
 *
 * Done: a node is done when it completed, or failed and is left so. When a
 * significant child of a node with auto_shutdown is done, the node stops its other
 * children and completes. When every child of a node (the root and what is headed
 * excepted) is done, the node is done too by rule "children": failed if one of them
 * failed, else completed; there is no escalation in that. What the user stopped, or what was
 * stopped along with others, is not done.
 *
 * Memory: only adding a node can fail for want of it. A delay that cannot be
 * armed is left out (a lost start would be worse), and a restart that cannot be
 * noted for the intensity is not counted.
 */
#ifndef DAVIT_SUPERVISE_H
#define DAVIT_SUPERVISE_H

#include "base/list.h"
#include "davit/loop.h"
#include "davit/spec.h"

/* Why a leaf ended: what restart policies distinguish. */
enum davit_cause {
	DAVIT_CAUSE_CLEAN, /* exit 0, or one listed as success */
	DAVIT_CAUSE_CODE,  /* another exit code */
	DAVIT_CAUSE_SIGNAL,
	DAVIT_CAUSE_TIMEOUT, /* not ready in time */
	DAVIT_CAUSE_OOM,
	DAVIT_CAUSE_HEALTH,
	DAVIT_CAUSE_WATCHDOG,
	DAVIT_CAUSE_START,    /* it could not be started (exec, create, runtime) */
	DAVIT_CAUSE_VANISHED, /* gone, status unknown */
	DAVIT_CAUSE_STOPPED,  /* because it was told to: never a failure */
};
const char *davit_cause_name(enum davit_cause c);

enum davit_node_state {
	DAVIT_NODE_IDLE,    /* not wanted, not running */
	DAVIT_NODE_WAITING, /* wanted; backoff, budget, or dependencies hold it back */
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
	bool headed;	    /* it is the brood of a leaf beside it (a container over its children): its
			     * failure is that leaf's. It stays failed, and its owner, who hears of it by
			     * ops->changed, makes the leaf end; what is restarted is then the leaf */
	bool transparent;   /* a mere group (a service): its own supervisor decides on what is beneath it;
			     * strategy, intensity and escalation of this rule are not used */
};

struct davit_supervise;

/* A restart that counts against an intensity. The key names it among all restarts, so
 * that one that is decided on again after its supervisor was put back counts once; 0: none. */
struct davit_restart_note {
	int64_t time; /* monotonic ns */
	uint64_t key;
};

/* The caller reads all fields that are not private, and writes owner, significant
 * and seed only. An inner node's state: idle (nothing beneath it is wanted),
 * running (it supervises), stopping, waiting (backoff of a group restart, or the
 * cool-down), completed, failed. */
struct davit_node {
	struct davit_supervise *sup; /* NULL: not in a tree */
	struct davit_node *parent;
	struct davit_list siblings; /* in parent->children */
	struct davit_list children; /* in order of addition; empty for a leaf */
	char *name;		    /* owned */
	void *owner;

	enum davit_node_state state : 8;
	/* Why: the last decision, for `davit why`. */
	enum davit_cause cause : 8; /* of the end that led here */
	bool leaf;
	bool significant;
	bool wanted;		   /* leaf: start was asked for and stop was not */
	bool failed;		   /* it failed, and waits for the cool-down or is left so */
	uint32_t flags;		   /* private */
	const char *rule_name;	   /* "policy", "prevent", "retries", "intensity", "escalation", "children",
				    * "auto-shutdown", "dependencies", "user", "restored", or the strategy's
				    * name; static; NULL: nothing decided yet */
	struct davit_node *origin; /* node whose end led here (may be itself), while it exists; else NULL */
	int64_t decided;	   /* unix ns; 0: nothing decided yet */
	int64_t next_start;	   /* unix ns of the planned start, or 0 */
	int64_t total_restarts;	   /* for people: restarts after ends by itself, cool-downs included */

	/* private */
	struct davit_list origin_link; /* in origin->originated */
	struct davit_list originated;
	struct davit_list queue;  /* leaf: waiting for the start budget, or to be stopped */
	struct davit_list note;	  /* waiting for ops->changed */
	struct davit_timer timer; /* backoff or cool-down */
	uint64_t seq;		  /* order among the siblings */

	union {
		struct {
			struct davit_restart_rule restart;
			int64_t restarts; /* since it was last started afresh (counts against retries) */
			int64_t attempt;  /* consecutive failures, for the backoff */
			int64_t started;  /* monotonic ns it was last seen to begin to run; 0 never */
			uint64_t seed; /* of the jitter of its backoffs: who puts it back with the same seed
					* and counters, and tells of the same end, comes to the same
					* decision; 0: at random */
		};
		struct {
			struct davit_supervision_rule rule;
			/* private */
			struct davit_node *cursor;	   /* child to be stopped next */
			uint64_t first;			   /* children from this seq on are stopped */
			struct davit_restart_note *window; /* a ring */
			uint32_t window_cap, window_len, window_pos;
			uint32_t n_children, n_done, n_failed; /* children */
			uint32_t n_active; /* leaves beneath: starting, running, stopping */
		};
	};
};

/* What the engine needs done. Never called from within davit_supervise_*, always
 * from the loop (deferred); an op may call davit_supervise_* for any node at once,
 * removing it included. */
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
	int64_t rate;	    /* starts a second, for the whole host; 0: no limit */
	int64_t burst;	    /* tokens the bucket holds */
	int64_t concurrent; /* starts under way at once; 0: no limit */
};

struct davit_supervise {
	struct davit_loop *loop;
	const struct davit_supervise_ops *ops;
	void *owner;
	struct davit_node root; /* "Main" */
	struct davit_start_budget budget;
	/* private */
	int64_t next_token; /* monotonic ns at which the bucket will be full again */
	int64_t starting;   /* starts under way */
	int64_t at;	    /* unix ns of what is being decided on; 0: now */
	int64_t ago;	    /* how long ago that was */
	uint64_t seq;
	struct davit_list waiting; /* leaves in order of asking for a start */
	struct davit_list stops;   /* leaves to be stopped, in order */
	struct davit_list notes;   /* nodes that changed */
	struct davit_timer refill;
	struct davit_deferred work;
};

/* Initialises the engine with the root "Main" and its final policy. ops is
 * borrowed. 0, DAVIT_ENOMEM, or DAVIT_EINVAL for a root that is transparent or
 * escalates to its parent. */
int davit_supervise_init(struct davit_supervise *s, struct davit_loop *loop,
			 const struct davit_supervise_ops *ops, const struct davit_supervision_rule *root,
			 const struct davit_start_budget *budget, void *owner, struct davit_error *err);
/* Forgets everything and calls nothing any more. Nodes that are still in the tree
 * must be valid memory; they are detached and left to their owner. */
void davit_supervise_fini(struct davit_supervise *s);

/* Adds a node, the caller's memory, at the end of parent's children. The name
 * is copied. It is idle and not wanted. 0 or DAVIT_ENOMEM. */
int davit_supervise_add_leaf(struct davit_node *n, struct davit_node *parent, const char *name,
			     const struct davit_restart_rule *rule, void *owner);
int davit_supervise_add_inner(struct davit_node *n, struct davit_node *parent, const char *name,
			      const struct davit_supervision_rule *rule, void *owner);
/* As add_inner, but directly behind a sibling, a leaf with nothing added behind it
 * yet: in the order of the children it stands where that leaf stands. */
int davit_supervise_add_inner_behind(struct davit_node *n, struct davit_node *sibling, const char *name,
				     const struct davit_supervision_rule *rule, void *owner);
/* Takes a node out; an inner one must have no children. It may be in any state:
 * the engine forgets it and calls nothing for it any more. */
void davit_supervise_remove(struct davit_node *n);
/* Moves a node to the end of another parent's children (not its own descendant),
 * keeping its state and counters. If the new parent is being stopped, so is it. */
void davit_supervise_move(struct davit_node *n, struct davit_node *parent);
/* New rules for an existing node; counters are kept, and what is under way goes on
 * as it began. set_rule: 0, or DAVIT_EINVAL for the root as in init. */
void davit_supervise_set_restart(struct davit_node *leaf, const struct davit_restart_rule *rule);
int davit_supervise_set_rule(struct davit_node *inner, const struct davit_supervision_rule *rule);

/* The user (or the reconciler) wants it to run: leaf, or all leaves below.
 * Resets counters and a failure; ends the wait for a backoff or a cool-down. */
void davit_supervise_start(struct davit_node *n);
/* Wants it not to run: last child first. Holds until the user's next start: no
 * restart of a group or of a supervisor starts it. */
void davit_supervise_stop(struct davit_node *n);
/* Stop, then start (all leaves below, stopped ones too); no backoff; counts as no
 * restart. */
void davit_supervise_restart(struct davit_node *n);

/* Starts afresh what is wanted beneath an inner node that failed, as a cool-down
 * does at its end. What the user stopped stays stopped. */
void davit_supervise_relaunch(struct davit_node *n);

/* Reports of the mechanism, for leaves. */
void davit_supervise_running(struct davit_node *leaf);
/* It is over. After ops->stop any cause counts as STOPPED; STOPPED without it
 * means that somebody else stopped it: it is then not wanted any more. A report
 * for a leaf that is neither starting, running nor stopping is ignored. */
void davit_supervise_ended(struct davit_node *leaf, enum davit_cause cause);
/* As ended, but it is not to be restarted whatever its policy (the prevent list). */
void davit_supervise_ended_final(struct davit_node *leaf, enum davit_cause cause);
/* As either, of an end at that time (unix ns; 0: now), from which the backoff counts. */
void davit_supervise_ended_at(struct davit_node *leaf, enum davit_cause cause, bool final, int64_t when);
/* It has just ended, and `ended` will follow when that is durable: a run that was long enough is
 * forgotten by its backoff at once, so that what is stored of `attempt` is what will count. */
void davit_supervise_ending(struct davit_node *leaf);
/* Would that end leave the leaf failed by its own policy, whatever else happens in the tree? The
 * name of the rule then, else NULL. Changes nothing. */
const char *davit_supervise_leaves_failed(const struct davit_node *leaf, enum davit_cause cause, bool final);
/* It was found running (adopted): no start is made, counters as given. The time of
 * health for the backoff counts from now. */
void davit_supervise_adopted(struct davit_node *leaf, int64_t restarts);
/* Puts back what a store remembers of an idle leaf. wanted follows from the state:
 * idle and stopping are not. running or starting: as adopted (call ended next, if
 * it was found ended). waiting: it is started after the backoff of its last
 * attempt. stopping: ops->stop is called. completed, failed: it stays so. */
void davit_supervise_restore(struct davit_node *leaf, enum davit_node_state state, int64_t restarts,
			     int64_t total_restarts, int64_t attempt);

/* The leaf, put back as running, has done so for that long: its backoff knows. */
void davit_supervise_restore_run(struct davit_node *leaf, int64_t ns);
/* Puts back why a node is as it is, after its state; origin may be NULL. */
void davit_supervise_restore_why(struct davit_node *n, const char *rule, enum davit_cause cause,
				 struct davit_node *origin, int64_t decided);
/* The name of a rule as the engine has it, static; NULL for what is none. */
const char *davit_supervise_rule(const char *name);
const char *davit_supervise_strategy(enum davit_strategy s);

/* Puts back that an inner node has failed, or completed, by that rule: what is beneath
 * it is wanted and down until the user's next start, or is stopped. What follows for
 * its parent follows again; a cool-down ends at `next` (unix ns; 0: anew). For a tree whose
 * leaves were put back before. */
void davit_supervise_restore_inner(struct davit_node *n, bool failed, const char *rule,
				   enum davit_cause cause, int64_t next);
/* The restarts that count against an inner node's intensity, the oldest first: false when
 * there is no k-th one. `ago`: ns. And puts one back, the oldest first. */
bool davit_supervise_restart_noted(const struct davit_node *n, size_t k, int64_t *ret_ago, uint64_t *ret_key);
void davit_supervise_restore_note(struct davit_node *n, int64_t ago, uint64_t key);
/* The leaf, put back as idle, was down for the sake of others: waits to be started with them;
 * starts, if nobody above waits any more. */
void davit_supervise_rejoin(struct davit_node *leaf);

/* A start that asked for dependencies and must wait: gives its slot and its token
 * of the start budget back; davit_supervise_retry asks again, at the end of the
 * queue. */
void davit_supervise_hold(struct davit_node *leaf);
void davit_supervise_retry(struct davit_node *leaf);

/* The backoff before restart number `attempt` (0-based): initial * factor^attempt,
 * at most max, less the fraction jitter * r of itself with r in [0,1). So jitter
 * spreads downwards and the cap holds. A factor below 1 counts as 1. */
int64_t davit_backoff_delay(const struct davit_backoff *b, int64_t attempt, double r);
/* Does the policy want a restart after this cause? */
bool davit_restart_wanted(enum davit_restart_policy policy, enum davit_cause cause);

#endif
