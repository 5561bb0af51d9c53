/* SPDX-License-Identifier: MIT
 *
 * What the files of containers share. Two sides:
 *
 *   container.c  a container on its worker: obeys orders, runs hooks and behaviours
 *   tree.c       the tree, one actor: aliases, the supervision engine, reports
 *   birth.c      ... how containers come to be
 *   operate.c    ... the operations: one at a time for each container
 *   solve.c      ... a container's own remedies for its failures
 *   manage.c     the manager: asks the tree     lookup.c  addresses, what there is to know
 *   request.c    requests, commands, replies    route.c   rules
 *
 * The tree gives orders by signals, the container reports by messages; what belongs to
 * which side is written at each field.
 */
#ifndef DAVIT_ACTOR_CONTAINER_IMPL_H
#define DAVIT_ACTOR_CONTAINER_IMPL_H

#include "actor/actor_impl.h"
#include "base/list.h"
#include "base/map.h"
#include "base/region.h"
#include "davit/container.h"
#include "supervise/supervise.h"

enum order_kind { ORDER_CREATE, ORDER_START, ORDER_CONTINUE, ORDER_STOP, ORDER_FAIL, ORDER_DESTROY };

/* Data of SIG_CONTAINER. */
struct order {
	enum order_kind kind;
	bool fresh; /* start: made anew first. destroy: without hooks */
	int code;   /* fail */
	char text[128];
};

/* To the tree: types of its messages. */
enum {
	TREE_REPORT = 1, /* struct report */
	TREE_CREATE,	 /* struct create_request, strings behind it */
	TREE_OPERATE,	 /* struct operate_request, strings behind it */
	TREE_TURN,	 /* the loop has something to do */
	TREE_FLUSH,	 /* struct operate_request, of a parent */
};

struct report {
	struct davit_ref ref;
	enum davit_state state; /* the one that it is in now */
	uint64_t failure;
	int code;      /* of a failure, or of a creation that did not succeed */
	bool starting; /* it failed while it was started */
	char text[128];
};

struct create_request {
	const struct davit_definition *definition;
	struct davit_promise promise;
	struct davit_ref by; /* the caller: the parent, unless `parent` says otherwise */
	unsigned flags;
	uint16_t alias, name, args, parent; /* offsets into text; 0: none */
	char text[];
};

enum op_kind { OP_START, OP_STOP, OP_FAIL, OP_DESTROY, OP_SOLVE };

struct operate_request {
	enum op_kind kind;
	struct davit_promise promise;
	struct davit_ref ref; /* the container meant */
	unsigned flags;
	int code;
	uint64_t failure;
	enum davit_solution solution;
	char text[128];
};

struct op {
	struct davit_list link;
	struct operate_request r;
};

struct tree {
	struct davit_system *system;
	struct davit_ref ref; /* its actor */
	struct davit_loop *loop;
	struct davit_alarm alarm;
	uint64_t random;
	struct davit_context *c; /* during a message */
	struct davit_supervise sup;
	struct container *main;

	pthread_mutex_t lock;	  /* of what follows, and of what is marked with (lock) */
	struct davit_map aliases; /* struct container */
	struct davit_map definitions;
	struct davit_map limbo; /* struct limbo, by alias */
	int (*resolve)(void *arg, const char *alias, struct davit_ref *ret);
	void *resolve_arg;
	struct davit_map remotes; /* struct remote, by alias */
	uint64_t n_remotes_ever;
	struct command *commands; /* process_manage.c */
};

/* Messages for an alias that nobody has. */
struct limbo {
	char *alias;
	struct davit_message *first, *last;
	uint32_t n;
};

struct applied {
	const struct davit_solver *solver;
	int times;
};

struct container {
	struct tree *tree;
	struct davit_actor *actor;
	struct davit_ref ref;
	const struct davit_definition *definition;
	char *alias, *args, *path; /* fixed */
	struct container *parent;  /* NULL: Main, or the root of a process that is a container */
	struct process *process;   /* it stands for one; its worker's */
	_Atomic(int) state;	   /* enum davit_state; its own worker writes */

	/* its own worker's */
	struct davit_options options; /* the tree reads it, when it is created */
	struct davit_region arena;
	int (**behaviour)(struct davit_context *c, struct davit_message *m);
	uint32_t n_behaviours, cap_behaviours;
	struct davit_message *seen; /* the last of todo that was looked at while held */
	uint32_t failures;
	_Atomic(uint64_t) failure_hash;
	int code;	      /* of davit_fail */
	char text[128];	      /* of davit_fail */
	struct promise *asks; /* requests of its own that are under way; under the promises' lock */

	/* the tree's */
	struct davit_list children, siblings; /* (lock) */
	size_t n_children;		      /* (lock) */
	enum davit_strategy strategy;	      /* (lock) for them */
	struct davit_node leaf;
	struct davit_node *brood; /* its children, in the engine; NULL: it never had any */
	bool created, destroying, gone, hard;
	bool doomed;		     /* told to end */
	bool doomed_hard;	     /* without its hooks */
	bool by_group;		     /* it was stopped for others' sake: made anew when it is started */
	bool relaunch;		     /* its brood failed: started afresh with it */
	enum davit_state known;	     /* by its last report */
	uint64_t failure;	     /* (lock) */
	int failure_code;	     /* (lock) */
	char failure_text[128];	     /* (lock) */
	int64_t restarts;	     /* (lock) */
	struct davit_list ops;	     /* struct op, in order */
	struct op *now;		     /* under way */
	struct davit_list ending;    /* struct op: of its destruction */
	struct davit_list births;    /* struct op: of its creation */
	struct davit_message *again; /* TREE_CREATE: to be made when it is gone */
	struct davit_timer patience; /* until a destruction goes on the hard way */

	const struct davit_remedy *remedy; /* being applied; NULL: none */
	size_t step;
	uint64_t solving; /* the failure */
	struct applied *applied;
	size_t n_applied;
	struct davit_timer solve_timer;
	bool paused; /* solve_timer is an interval; else a timeout */
};

/* container.c */
/* An order of the tree, or the death of one that is linked. m is borrowed. */
void container_signal(struct davit_context *c, struct davit_actor *a, struct davit_message *m);
/* A message; m is consumed. */
void container_message(struct davit_context *c, struct davit_actor *a, struct davit_message *m);
/* It is held: what has come in meanwhile is looked through. */
void container_held(struct davit_context *c, struct davit_actor *a);
/* Its actor has ended. */
void container_free(struct davit_context *c, struct container *k);
/* Sets the bounds of its mailbox. */
int container_bound(struct container *k);
/* Its parts, for what stands for a process. */
void container_report(struct davit_context *c, struct container *k, int code, bool starting);
void container_set_state(struct davit_actor *a, struct container *k, enum davit_state s);
/* Of the failure in k->text. */
uint64_t container_hash(struct container *k);

/* tree.c, birth.c */
void tree_log(struct tree *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* While on, what this thread has to say of its system is kept, and written when it is off:
 * that takes longer than to start what has failed again. */
void tree_log_late(bool on);
void tree_order(struct container *k, enum order_kind kind, bool fresh, int code, const char *text);
/* Makes the container of a TREE_CREATE message. */
void tree_create(struct tree *t, struct davit_message *m);
/* May this be an alias? manage.c */
bool alias_ok(const char *alias);
/* A container in the tree, the engine and the aliases, whose creation is to be ordered.
 * NULL: no memory. */
struct container *tree_adopt(struct tree *t, struct container *parent, const struct davit_definition *d,
			     const char *alias, const char *args);
/* It is created, or not: those who asked for it hear of it, or wait for its start. */
void tree_born(struct container *k, const struct report *r);
void tree_wait_birth(struct container *k, const struct create_request *r);
void tree_answer(struct tree *t, struct davit_promise p, int code, const char *text, const char *alias);
/* It is always restarted: never done. */
bool container_endless(const struct davit_options *o);
/* It is destroyed: out of the tree, its alias free. */
void tree_remove(struct container *k);
/* Its own remedies do not help: its supervisor decides. */
void tree_escalate(struct container *k);
/* `to` ends when all n have. */
void promise_when_all(struct davit_context *c, const struct davit_promise *p, size_t n,
		      struct davit_promise to);
struct container *tree_container(struct tree *t, struct davit_ref ref);

/* operate.c */
/* Queues an operation; begins it, if none is under way. */
void operate(struct container *k, const struct operate_request *r);
/* k has reported a state, or its state will not change after all (code). */
void operate_report(struct container *k, int code, const char *text);
void operate_next(struct container *k);
/* Answers and frees all in a list. */
void operate_answer(struct container *k, struct davit_list *list, int code, const char *text);
/* Begins, or goes on with, the destruction of k and all beneath it. */
void destroy_advance(struct container *k);
void patience_over(struct davit_timer *t);

/* What a backoff does not say. */
#define CONTAINER_BACKOFF                                                                                    \
	{                                                                                                    \
		.initial = 100 * INT64_C(1000000), .max = 30 * INT64_C(1000000000), .factor = 2,             \
		.jitter = 0.1, .reset = 60 * INT64_C(1000000000)                                             \
	}

/* solve.c */
/* k has failed: its remedies, or its supervisor. */
void solve_begin(struct container *k);
/* k has reported another state. */
void solve_report(struct container *k);
void solve_stop(struct container *k);
void solve_timer(struct davit_timer *t);

/* Whoever watches the tree hears that it has changed. */
static inline void tree_changed(const struct davit_system *s)
{
	if (s->config.changed)
		s->config.changed(s->config.arg);
}

/* lookup.c */
/* Under the lock; NULL: there is none. `from`: the caller, or NULL. */
struct container *lookup(struct tree *t, struct container *from, const char *address);
/* As davit_find, but of what is known here, under the lock, and for `from`. */
int find_here(struct tree *t, struct davit_ref from, const char *address, struct davit_ref *ret);
/* Of the container of that ref: its failure's hash, its options. */
uint64_t container_failure(struct davit_system *s, struct davit_ref ref);
void container_options(struct davit_system *s, struct davit_ref ref, struct davit_options *ret);
/* Does the address, as `ref` says it, stand beneath it (or is it that itself)? 0,
 * DAVIT_ENOENT, DAVIT_EPERM. */
int container_beneath(struct davit_system *s, struct davit_ref ref, const char *address, bool itself);
/* As davit_container_get, for `ref`, and with the path. */
int container_get_for(struct davit_context *c, struct davit_ref ref, const char *address,
		      struct davit_container_info *ret, char *ret_path, size_t size);
int container_alias(struct davit_system *s, struct davit_ref from, const char *address, struct davit_ref *ret,
		    char ret_alias[64]);
/* As davit_flush, of another's children. */
int container_flush(struct davit_context *c, const char *address, unsigned flags, struct davit_promise *ret);
/* Keeps m until somebody has the alias. False: somebody has, or there is no room. */
bool limbo_keep(struct davit_context *c, struct tree *t, const char *alias, struct davit_message *m);
/* The end: what is kept becomes dead letters. */
void limbo_drop(struct davit_context *c, struct tree *t);
/* An alias has come to be: what was kept for it is sent. Under the lock under which it
 * came, so that nobody who finds the alias gets ahead of it. */
void limbo_release(struct davit_context *c, struct tree *t, struct container *k);

#endif
