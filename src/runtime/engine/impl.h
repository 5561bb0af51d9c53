/* SPDX-License-Identifier: MIT
 *
 * What the files of the engine runtime share. Not for use outside this folder.
 */
#ifndef DAVIT_ENGINE_IMPL_H
#define DAVIT_ENGINE_IMPL_H

#include "base/buf.h"
#include "base/list.h"
#include "base/map.h"
#include "base/units.h"
#include "local/ports.h"
#include "local/terminal.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/flavour.h"
#include "runtime/engine/http.h"
#include "runtime/engine/observe.h"
#include "runtime/engine/runs.h"

enum engine_phase {
	ENGINE_CLOSED,
	ENGINE_OPENING, /* ping and info are awaited */
	ENGINE_UP,
	ENGINE_LOST,	    /* does not answer; tried again by the timer */
	ENGINE_RECONCILING, /* answers again; what was missed is being found out */
};

struct engine { /* behind struct davit_runtime */
	struct davit_runtime *rt;
	const struct engine_flavour *flavour;
	char *socket;
	struct http calls;   /* answered at once; few connections, which are kept */
	struct http streams; /* what lasts: events, logs, archives, pulls */
	enum engine_phase phase;
	struct davit_op *opening;
	struct http_call *handshake;
	struct davit_capabilities capabilities;
	char home[DAVIT_ID_MAX]; /* label of all that is ours */
	bool swap_limit;
	bool local; /* same host and root: pids are of use to us */

	struct http_call *events;
	struct davit_timer again; /* the next attempt to get events */
	int64_t pause;		  /* before it */
	int64_t seen;		  /* unix ns of the last event */
	unsigned unsettled;	  /* refreshes that reconciling waits for */
	struct http_call *listing;

	struct davit_map programs; /* what images have: program.c */
	struct {		   /* the image that was looked at last: create.c */
		char *name;	   /* or NULL */
		json_t *image;
		int64_t at; /* monotonic ns */
	} seen_image;
	struct davit_map instances; /* id -> struct davit_instance */
	struct davit_list tasks, readers, execs;
	struct local_ports ports;
	struct local_terminal_keeper terminals;
	struct davit_buf mounts; /* lines of mountinfo, of control groups; empty: not read yet */
};

struct task;

struct engine_instance {	     /* behind struct davit_instance */
	struct davit_instance *inst; /* set while it is in the map */
	char id[DAVIT_ID_MAX];
	char container[65];
	enum davit_state state; /* as last told or learnt */
	struct runs runs;
	uint32_t told; /* the last run whose end was told */
	pid_t pid;
	struct davit_exit exit;	 /* of the last run that ended */
	struct task *task;	 /* create, start, stop or remove under way */
	struct http_call *fresh; /* a look at the truth under way */
	bool look_again;	 /* something happened since it was sent */
	bool starting, removing, paused;
	bool start_due;		/* the event of our own start is still to come */
	bool settling;		/* reconciling waits for this one */
	bool has_init;		/* the engine's init runs the program */
	char *search_path;	/* PATH inside; NULL: not known */
	char image[80];		/* the engine's id of its image */
	int64_t asked;		/* unix ns: the run did not begin before; 0: not known */
	int64_t died;		/* unix ns of the last `die` event; 0: none since the start */
	int died_code;		/* what that event said */
	unsigned patience;	/* looks that still saw it running after that */
	struct davit_timer eye; /* the next of them */
};

static inline struct engine *engine_of(struct davit_runtime *rt)
{
	return davit_runtime_state(rt);
}
static inline struct engine_instance *engine_instance(struct davit_instance *inst)
{
	return davit_instance_state(inst);
}

/* --- task.c: operations made of calls --- */

/* An operation of the core under way, one call at a time. */
struct task {
	struct davit_list list;
	struct engine *e;
	struct davit_op *op;	     /* NULL when nobody waits (any more) */
	struct davit_instance *inst; /* or NULL */
	struct http_call *call;	     /* under way, or NULL */
	/* The call has ended; c is freed after. */
	void (*step)(struct task *t, struct http_call *c, const struct davit_error *err);
	/* What a cancel does instead of ending the task; or NULL. */
	void (*cancel)(struct task *t, int why);
	/* Frees what is behind `data`; or NULL. */
	void (*fini)(struct task *t);
	void *ret;  /* where the result goes */
	void *data; /* the task's own */
	struct davit_timer timer;
	int why; /* of a cancel */
};

/* Begins one; NULL, and the op failed, when out of memory or not up. `inst`, when
 * given, is occupied if `exclusive`. */
struct task *task_new(struct engine *e, struct davit_op *op, struct davit_instance *inst);
/* The same on an instance that must run; NULL, and the op failed, otherwise. */
struct task *task_on_running(struct davit_instance *inst, struct davit_op *op);
/* Sends the task's next call, whose end is told to step. Ends the task when that
 * cannot be. c NULL: out of memory. */
void task_call(struct task *t, struct http_call *c,
	       void (*step)(struct task *t, struct http_call *c, const struct davit_error *err));
/* Ends it with success, or with err, which is the engine's and told as such. Frees it. */
void task_end(struct task *t, const struct davit_error *err);
/* Ends it with an error in davit's own words, which are the same for every runtime. */
void task_fail(struct task *t, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Ends all, as closed. */
void tasks_close(struct engine *e, const struct davit_error *why);
/* A step for calls after which nothing follows. */
void task_last_step(struct task *t, struct http_call *c, const struct davit_error *err);

/* --- create.c, life.c: the mandatory slots --- */
void engine_check(struct davit_runtime *rt, const struct davit_workload *w, struct davit_op *op);
void engine_create(struct davit_instance *inst, struct davit_op *op);
void engine_start(struct davit_instance *inst, struct davit_op *op);
void engine_stop(struct davit_instance *inst, const struct davit_stop *how, struct davit_op *op);
void engine_remove(struct davit_instance *inst, struct davit_op *op);
void engine_inspect(struct davit_instance *inst, struct davit_inspection *ret, struct davit_op *op);
/* The run that a stop waits for is over, or the object gone. */
void life_ended(struct davit_instance *inst);
/* Signals on their way to it have nothing left to do. */
void signals_ended(struct davit_instance *inst);

/* --- program.c: whether a program is there --- */
/* Looks for what t->inst runs, then calls then(t); fails t when it is not there. */
void program_check(struct task *t, void (*then)(struct task *t));
/* The same for a program of any name; `name` is borrowed until then. */
void program_find(struct task *t, const char *name, void (*then)(struct task *t));
/* The PATH in a container: a heap string. */
char *program_search_path(const struct davit_workload *w, const json_t *image);
void programs_forget(struct engine *e);

void seen_image_forget(struct engine *e);

/* --- truth.c: what is so, and telling what changed --- */
/* Known from now on. 0 or DAVIT_ENOMEM. */
int container_add(struct davit_instance *inst, const char *id, const char *container);
void container_forget(struct davit_instance *inst);
/* Asks the engine, then tells what is new. */
void container_look(struct davit_instance *inst);
/* The same, but after what is due now: an inspect that the core asks for with it is enough. */
void container_look_soon(struct davit_instance *inst);
/* Compares with what was observed, and tells what is new. */
void container_observed(struct davit_instance *inst, const struct observation *seen);
/* The object is gone: tells it. The instance is forgotten. */
void container_gone(struct davit_instance *inst, const char *reason);
/* Fills what inspect tells, from an observation of now. */
void container_describe(struct davit_instance *inst, const struct observation *seen,
			struct davit_inspection *ret);

/* --- adopt.c: lists of containers --- */
void engine_adopt(struct davit_runtime *rt, struct davit_op *op);
/* After a loss: finds out what was missed, then calls reconciled. */
void engine_reconcile(struct engine *e);
void engine_settled(struct engine *e);
/* Appends ?filters= for objects of ours. */
void engine_filter(struct engine *e, struct davit_buf *b);

/* --- events.c --- */
/* Begins to listen, from `since` (unix ns) on. */
void events_open(struct engine *e);
void events_close(struct engine *e);
/* Anything failed because the engine does not answer. */
void events_lost(struct engine *e, const struct davit_error *why);

/* --- check.c: what cannot be carried --- */
int workload_check(struct engine *e, const struct davit_workload *w, bool complete, struct davit_error *err);

/* --- the facets --- */
extern const struct davit_logs_facet engine_logs;
extern const struct davit_exec_facet engine_exec;
extern const struct davit_stats_facet engine_stats;
extern const struct davit_signal_facet engine_signal;
extern const struct davit_ports_facet engine_ports;
extern const struct davit_pause_facet engine_pause;
extern const struct davit_copy_facet engine_copy;
extern const struct davit_images_facet engine_images;
extern const struct davit_terminal_facet engine_terminal;
extern const struct davit_objects_facet engine_volumes, engine_networks;
/* A run has begun: who follows the log of the last one goes on. */
void logs_started(struct davit_instance *inst);
/* End what is open, without a callback. */
void logs_close_all(struct engine *e);
void execs_close_all(struct engine *e);
int terminals_open(struct engine *e, struct davit_error *err);
/* Keeps the log of a container that is about to be removed, then calls
 * then(t), whatever came of it. */
void logs_keep(struct task *t, void (*then)(struct task *t));
/* The file that an engine writes the log of an instance to: a heap string. */
char *logs_path(struct davit_runtime *rt, const char *id);

#endif
