/* SPDX-License-Identifier: MIT
 *
 * The plan engine: a tree of steps, and the one place that decides what follows when one of them
 * ends. A pure state machine: it does no I/O, reads no clock and starts nothing. Events go in with
 * the time at which they happened; what is to be done comes out through struct davit_plan_ops.
 *
 * Leaves run (task, get, put, check, load_var); the other nodes decide. A node ends with one of four
 * outcomes, worse and worse: succeeded, failed, errored, aborted. The rules:
 *
 *   do           one after another, up to the first that does not succeed; that is its outcome
 *   in_parallel  all, `limit` at a time; the worst outcome. With fail_fast the first that does not
 *                succeed cancels the others, and an aborted one among these does not count. Nothing to
 *                do succeeds
 *   across       its step once for each value, as in_parallel (one at a time unless it says
 *                otherwise); several variables are several nodes, one in another
 *   try          succeeds, except that aborted stays aborted
 *   timeout      when the time is over, what it holds is cancelled; what is aborted by that has failed.
 *                Around a leaf the time counts from when its program runs (fetching an image does not
 *                count), around anything else from its beginning
 *   attempts     again on failure and on error, not on abort; the outcome of the last
 *   on_success   the hook when the step has succeeded; the outcome is then the hook's
 *   on_failure, on_error, on_abort
 *                the hook when the step has failed, errored, was aborted; the outcome stays, or is the
 *                hook's if that is worse. A hook cannot mend
 *   ensure       the hook whatever the outcome; the worse of both
 *
 * Cancelling (the user's abort, fail_fast, a timeout) tells the leaves that run to end; a leaf that
 * was told and ends otherwise than well was aborted: the exit status of a program that was killed says
 * nothing. Nothing new is begun in what is cancelled - whoever would begin something there is aborted
 * - but the hooks of on_abort and ensure, which are not cancelled either. Only a second abort of the
 * user, a forced one, ends those as well, and begins no more of them.
 *
 * Nothing runs twice and nothing is lost: an event changes the state at once, and asks for the state to
 * be stored (`store`); what follows from it is done when davit_plan_stored() says that this is
 * durable. Who restarts reads what was stored last (a whole state, or the records of all events
 * since one), calls davit_plan_resume(), and is asked again to start what was running: each start
 * has a key, unique in the plan for ever, by which the host finds what it has started already. Events
 * whose record was lost are reported again by the host, for it still knows of them (an exit status that
 * a keeper holds, a clock, a user who was given no answer). Deadlines are wall time.
 *
 * Limits: DAVIT_PLAN_NODES_MAX nodes, DAVIT_PLAN_DEPTH_MAX deep. Decisions use no recursion; copying,
 * reading and writing recurse as deep as the plan is. Running out of memory ends a leaf as
 * errored, or fails the call, with the state as it was before.
 */
#ifndef DAVIT_STEP_PLAN_H
#define DAVIT_STEP_PLAN_H

#include "base/buf.h"
#include "base/list.h"
#include "davit/error.h"

#include <jansson.h>

#define DAVIT_PLAN_DEPTH_MAX 128
#define DAVIT_PLAN_NODES_MAX 100000
#define DAVIT_PLAN_ATTEMPTS_MAX 1000
#define DAVIT_PLAN_MESSAGE_MAX 1024 /* bytes kept of why a leaf did not succeed */

/* Worse and worse: outcomes are compared. */
enum davit_plan_outcome {
	DAVIT_PLAN_SUCCEEDED,
	DAVIT_PLAN_FAILED,  /* it ran, and said no */
	DAVIT_PLAN_ERRORED, /* it could not be run */
	DAVIT_PLAN_ABORTED,
};
/* "succeeded", ...; never NULL. */
const char *davit_plan_outcome_name(enum davit_plan_outcome o);

/* X(symbol, word in plans) */
#define DAVIT_PLAN_KINDS(X)                                                                                  \
	X(DO, "do")                                                                                          \
	X(IN_PARALLEL, "in_parallel")                                                                        \
	X(ACROSS, "across")                                                                                  \
	X(TRY, "try")                                                                                        \
	X(TIMEOUT, "timeout")                                                                                \
	X(ATTEMPTS, "attempts")                                                                              \
	X(ON_SUCCESS, "on_success")                                                                          \
	X(ON_FAILURE, "on_failure")                                                                          \
	X(ON_ERROR, "on_error")                                                                              \
	X(ON_ABORT, "on_abort")                                                                              \
	X(ENSURE, "ensure")                                                                                  \
	X(TASK, "task")                                                                                      \
	X(GET, "get")                                                                                        \
	X(PUT, "put")                                                                                        \
	X(CHECK, "check")                                                                                    \
	X(LOAD_VAR, "load_var")

enum davit_plan_kind {
#define X(symbol, word) DAVIT_PLAN_##symbol,
	DAVIT_PLAN_KINDS(X)
#undef X
		DAVIT_PLAN_KIND_COUNT,
};
const char *davit_plan_kind_name(enum davit_plan_kind k);

enum davit_plan_state {
	DAVIT_PLAN_IDLE,   /* not begun (again) */
	DAVIT_PLAN_ACTIVE, /* a leaf: to be started, or started */
	DAVIT_PLAN_ENDED,
};

struct davit_plan;

/* The caller reads all that is not private. */
struct davit_plan_node {
	struct davit_plan *plan;
	struct davit_plan_node *parent;
	struct davit_list siblings; /* in parent->children */
	struct davit_list children; /* in order; of a hook: step, hook; of across: one for each value */
	enum davit_plan_kind kind;
	uint32_t index; /* among its siblings */
	char *name;	/* of a leaf, owned; "" if it has none */

	enum davit_plan_state state;
	enum davit_plan_outcome outcome; /* once ended */
	char *message;			 /* why it did not succeed, or NULL; owned */
	bool cancelled;			 /* it was told to end */
	bool forced;			 /* and its hooks with it */
	bool is_running;		 /* a leaf: its program runs */
	bool timed_out;			 /* timeout: the time was over before the end */
	uint32_t attempt;		 /* attempts: the present one, from 1 */
	int64_t began, ended;		 /* unix ns; 0: not yet */
	int64_t deadline;		 /* timeout: unix ns; 0: it does not count yet */
	char *key;			 /* of an active leaf: unique for each start in this plan; owned */
	json_t *spec;			 /* of a leaf: as in the plan; owned */
	json_t *config;			 /* of an active leaf: spec with its variables filled in; owned */

	/* private: what the plan says */
	uint32_t limit; /* in_parallel, across: at a time; 0: all. attempts: how many */
	bool fail_fast;
	int64_t after;			  /* timeout: ns */
	json_t *values;			  /* across: an array, or a text with one variable that is one */
	struct davit_plan_node *template; /* across: the step; never begun itself */
	/* private: state */
	struct davit_plan_node *next; /* the child to begin next */
	uint32_t active;	      /* children */
	enum davit_plan_outcome worst;
	bool stopping; /* fail_fast has cancelled the others */
	bool spared;   /* an aborted child did not count */
	json_t *value; /* child of across: its value */
	json_t *vars;  /* child of across, root: what load_var has set there */
	bool owes_start, owes_abort;
	bool resumed;		   /* it may have been started by whoever had the plan before */
	uint64_t since;		   /* generation in which what is owed was decided */
	struct davit_list work;	   /* in plan->work: to be looked at */
	struct davit_list pending; /* in plan->pending: owes the host something */
	struct davit_list armed;   /* in plan->armed: has a deadline */
};

enum davit_plan_start {
	DAVIT_PLAN_FRESH, /* it has never been started */
	DAVIT_PLAN_AGAIN, /* after a resume: it runs, or has ended, or was never started; find it by its key,
			   * start it if there is none */
	DAVIT_PLAN_FIND,  /* the same, but it is being aborted: if there is none, say that it was aborted */
};

/* What the engine asks of its host. Every slot is mandatory. All are called from within the calls below;
 * `store`, `start` and `abort` may call back at once, the others may not. */
struct davit_plan_ops {
	/* Makes the state durable, or the record of this event (JSON in one line, borrowed) in the
	 * order of generations; then davit_plan_stored(). If it cannot be stored, the host lets the plan
	 * stand still: it is as if it had died there. */
	void (*store)(void *owner, uint64_t generation, const char *record);
	/* Starts leaf->config under leaf->key. Then come davit_plan_running() and davit_plan_ended(). */
	void (*start)(void *owner, struct davit_plan_node *leaf, enum davit_plan_start how);
	/* Ends a leaf that was started: SIGTERM, a grace, SIGKILL. davit_plan_ended() follows. */
	void (*abort)(void *owner, struct davit_plan_node *leaf);
	/* davit_plan_tick() is wanted at this wall time; 0: not any more. Replaces what was asked before. */
	void (*arm)(void *owner, int64_t wall_ns);
	/* A node's state is another. For those who watch; it is not durable yet. */
	void (*changed)(void *owner, const struct davit_plan_node *node);
	/* The plan has ended, and this is durable: root->outcome. */
	void (*done)(void *owner);
};

struct davit_plan {
	const struct davit_plan_ops *ops;
	void *owner;
	struct davit_plan_node *root;
	uint64_t generation; /* of events */
	/* private */
	uint64_t stored;
	int64_t now; /* of the event at hand */
	int64_t armed_at;
	size_t nodes;
	bool flushing, told, replaying;
	struct davit_list work, pending, armed;
	struct davit_map *leaves; /* active ones, by key */
};

/* Reads a plan (docs/plans.md) or a state that davit_plan_write made. *ret is owned: davit_plan_free. Errors:
 * DAVIT_EINVAL, with what and where in the tree; DAVIT_ENOMEM. */
int davit_plan_read(const json_t *plan, const struct davit_plan_ops *ops, void *owner,
		    struct davit_plan **ret, struct davit_error *err);
/* The whole state, from which davit_plan_read makes an equal one. *ret is owned. */
int davit_plan_write(const struct davit_plan *p, json_t **ret, struct davit_error *err);
void davit_plan_free(struct davit_plan *p);

/* Events. `now` is wall time, unix ns. A leaf that is not active (its end was reported already) is
 * DAVIT_ENOENT, with nothing changed; DAVIT_ENOMEM changes nothing either.
 *
 * Begins; once. */
int davit_plan_begin(struct davit_plan *p, int64_t now, struct davit_error *err);
/* The leaf's program runs since then. The first report counts. */
int davit_plan_running(struct davit_plan *p, const char *key, int64_t since, struct davit_error *err);
/* The leaf has ended. message (may be NULL): why it did not succeed. value (may be NULL): of a load_var that
 * succeeded, copied. */
int davit_plan_ended(struct davit_plan *p, const char *key, enum davit_plan_outcome outcome,
		     const char *message, const json_t *value, int64_t now, struct davit_error *err);
/* The user wants it to end. force: at once, hooks included. Nothing happens if it has ended. */
int davit_plan_abort(struct davit_plan *p, bool force, int64_t now, struct davit_error *err);
/* It is as late as that: lets deadlines pass. */
int davit_plan_tick(struct davit_plan *p, int64_t now, struct davit_error *err);
/* All up to that generation is durable: what follows from it is done now. */
void davit_plan_stored(struct davit_plan *p, uint64_t generation);

/* After davit_plan_read: applies the record of an event, without asking the host for anything. Records up to
 * the state's generation are passed over; a gap is DAVIT_ECORRUPT. */
int davit_plan_replay(struct davit_plan *p, const json_t *record, struct davit_error *err);
/* Everything read and replayed is durable and the host is ready: goes on. */
void davit_plan_resume(struct davit_plan *p);

/* The active leaf of that key, or NULL; borrowed. */
struct davit_plan_node *davit_plan_leaf(const struct davit_plan *p, const char *key);
bool davit_plan_is_leaf(enum davit_plan_kind k);

/* ------------------------------------------------------------------ variables (plan_vars.c)
 * ((.:name)) and ((.:name.member)) in the texts of a leaf's spec: what across and load_var set, the nearest
 * first. A text that is one variable and nothing else becomes its value, whatever that is; within a text it
 * must be a string, a number or a bool. */

/* A copy of `in` with its variables as `node` sees them. *ret is owned. DAVIT_EINVAL names one that is not
 * set. */
int davit_plan_fill(const struct davit_plan_node *node, const json_t *in, json_t **ret,
		    struct davit_error *err);

/* Looks a variable up: the value, borrowed, or NULL. */
typedef const json_t *(*davit_vars_lookup)(const void *from, const char *name, size_t len);
/* The same with any lookup, for names that begin with prefix ("" or ".:"); ((...)) with names of another kind
 * stay as they are. */
int davit_vars_fill(const json_t *in, const char *prefix, davit_vars_lookup lookup, const void *from,
		    json_t **ret, struct davit_error *err);

#endif
