/* SPDX-License-Identifier: MIT
 *
 * What runtimes on this host share: instances whose processes the keeper holds.
 * A driver embeds struct local_runtime and struct local_instance at the start of
 * its own state, gives a struct local_ops, and puts the functions of here into its
 * table as they are, or behind its own.
 */
#ifndef DAVIT_LOCAL_LOCAL_H
#define DAVIT_LOCAL_LOCAL_H

#include "base/list.h"
#include "base/map.h"
#include "davit/runtime.h"
#include "local/cgroup.h"
#include "local/keeper_client.h"
#include "local/ports.h"
#include "local/terminal.h"

struct local_keeper;
struct local_runtime;
struct local_instance;

/* What differs from driver to driver. */
struct local_ops {
	/* Refuses a workload that this machine or this runtime cannot carry. complete:
	 * it is about to be created; otherwise what a build gives may be missing. */
	int (*check)(struct local_runtime *p, const struct davit_workload *w, bool complete,
		     struct davit_error *err);
	/* Builds SPAWN (or LAUNCH) for that run, and EXEC, in p->packet. */
	int (*build_spawn)(struct local_instance *pi, uint32_t run, struct davit_error *err);
	int (*build_exec)(struct local_instance *pi, const struct davit_exec *x, struct davit_error *err);
	/* Builds TERMINAL in p->packet: its `spawn` and the strings of that. NULL where the
	 * driver has no terminals. */
	int (*build_terminal)(struct local_instance *pi, const struct davit_terminal *t,
			      struct davit_error *err);

	/* A keeper is started for the first instance, not when the runtime is opened. */
	bool keeper_on_demand;

	/* --- for runtimes whose instances are more than processes; NULL: nothing to do --- */
	/* The main process passes the signal of a stop on: the others do not get it too. */
	bool main_passes_signals;
	/* What build_exec executes passes its terminal on to another: it is raw from the start. */
	bool passes_terminals;
	/* Makes what the instance stands on, before the keeper hears of it, and tells
	 * local_prepared once, within the call or later. */
	void (*prepare)(struct local_instance *pi);
	/* Takes away what prepare made, whether whole or in part. There may be no instance
	 * any more, only its id (borrowed during the call). Then ends op, unless it is
	 * NULL, with err, or with success when err is NULL or has no code. */
	void (*cleanup)(struct local_runtime *p, const char *id, struct davit_op *op,
			const struct davit_error *err);
	/* The instance does not run: a run has ended, a start has failed, or it was found so. */
	void (*settled)(struct local_instance *pi);
	/* Whether what was launched takes signals already: before that the start is not
	 * complete. Asked again every millisecond, for a second at most. */
	bool (*up)(struct local_instance *pi);
	/* The driver's part of the instance goes: nothing is told to it after. */
	void (*detach)(struct local_instance *pi);
	/* The groups are known, no keeper is asked yet: 0, or why the runtime cannot be opened. NULL: nothing
	 * to do. */
	int (*grouped)(struct local_runtime *p, struct davit_error *err);
	/* The instances that keepers hold are known: what belongs to no id of
	 * local_knows is a leftover. */
	void (*leftovers)(struct local_runtime *p);
	/* Sends a signal to what build_exec's program runs, which build_exec has given
	 * that number (local_runtime.command). False: it is to go to the program itself. */
	bool (*signal_command)(struct local_runtime *p, const char *id, unsigned command, int signo);
	/* Knows more of an end than the keeper: changes *exit. */
	void (*explain)(struct local_runtime *p, const char *id, struct davit_exit *exit);
	/* Whether the workload's host ports are translated, so that nobody listens on them. */
	bool (*translates_ports)(const struct davit_workload *w);
	/* Adds what only the driver knows of one that runs. */
	void (*describe)(struct local_runtime *p, const char *id, struct davit_inspection *now);
};

struct local_sweep {
	struct davit_timer timer;
	char (*ids)[DAVIT_ID_MAX];
	size_t n, cap;
	int64_t pause;
	unsigned tries;
};

/* Behind struct davit_runtime. */
struct local_runtime {
	struct davit_runtime *rt;
	const struct local_ops *ops;
	struct keeper_place place;
	char *program;
	struct cgroups cgroups;
	struct davit_map instances;    /* id -> struct local_instance */
	struct local_keeper **keepers; /* by index */
	size_t n_keepers;
	struct davit_op *open_op, *adopt_op;
	struct davit_deferred open_failed; /* takes everything down, outside of the client's callback */
	struct davit_error open_error;
	bool adopted;		    /* what the keepers held has been told */
	bool lost;		    /* events->lost was told, regained not yet */
	struct davit_map strangers; /* ids in slots that the core does not know; owned strings */
	struct davit_buf packet;    /* where requests are built */
	unsigned command;	    /* of the EXEC in packet: see signal_command */
	struct local_sweep sweep;   /* groups that were busy when they were to be removed */
	struct local_ports ports;
	struct davit_list log_streams, execs; /* open ones: they end with the runtime */
	struct local_terminals terminals;
};

/* One keeper and what the driver knows of it. */
struct local_keeper {
	struct keeper_client client;
	struct local_runtime *runtime;
	struct keeper_request list; /* LIST */
	bool listed;		    /* since the connection began */
	unsigned failures;	    /* attempts that failed while opening */
	uint32_t round;		    /* of LIST; an instance with another one was not named */
};

enum local_action { LOCAL_NOTHING, LOCAL_CREATE, LOCAL_START, LOCAL_STOP, LOCAL_REMOVE };

/* Events that wait for the end of the callback in which they became known, so
 * that the core sees the completion of a start before the exit of what started. */
enum { LOCAL_NEWS_READY = 1, LOCAL_NEWS_STATUS = 2, LOCAL_NEWS_EXIT = 4, LOCAL_NEWS_GONE = 8 };

/* Behind struct davit_instance. */
struct local_instance {
	struct davit_instance *inst;
	struct local_keeper *keeper;   /* that holds its slot, or shall */
	struct davit_op *op;	       /* the operation under way, or NULL */
	struct local_request *request; /* sent for op; NULL: to be sent when the keeper is up */
	struct davit_list requests;    /* all that were sent and not answered */
	struct davit_stop how;	       /* of a stop under way */
	struct davit_deferred news;
	struct davit_timer coming; /* until ops->up */
	int64_t coming_until;	   /* loop's time */
	char *status;		   /* STATUS= of sd_notify, or NULL */
	int64_t started;	   /* unix ns */
	uint64_t cpu_base;	   /* ns that the group had used before this run */
	uint32_t run;		   /* the last one that was started */
	uint32_t told;		   /* the last one whose end was told */
	uint32_t ready_run;	   /* the last one that READY came for */
	uint32_t target;	   /* of a start under way */
	uint32_t round;
	pid_t pid;
	uint8_t state;	 /* enum davit_state */
	uint8_t action;	 /* enum local_action, of op */
	uint8_t waiting; /* LOCAL_NEWS_... */
	bool ready;
	bool alone;	/* when run `run` ended, nothing was left of it */
	bool cpu_known; /* cpu_base is right for this run */
	bool preparing; /* local_prepared has not been told */
	int abandoned;	/* DAVIT_ECANCELED, ...: why the create that is being prepared is to fail */
	bool paused;
	struct local_pausing *pausing; /* a pause under way, or NULL */
	char id[DAVIT_ID_MAX];
	struct keeper_exit exit; /* of run `run`, when state is stopped */
};

/* A request about one instance. */
struct local_request {
	struct keeper_request q;
	struct local_instance *pi;
	struct davit_list list; /* in pi->requests */
	enum local_action action;
	uint32_t run;
};

static inline struct local_runtime *local_runtime_of(struct davit_runtime *rt)
{
	return davit_runtime_state(rt);
}
static inline struct local_instance *local_instance_of(struct davit_instance *inst)
{
	return davit_instance_state(inst);
}

/* --- runtime.c: slots of the driver's table; ops is borrowed for ever --- */
void local_open(struct davit_runtime *rt, const struct local_ops *ops, struct davit_op *op);
void local_close(struct davit_runtime *rt);
void local_adopt(struct davit_runtime *rt, struct davit_op *op);

/* --- keepers.c: the set of keepers --- */
/* Connects to the keepers whose sockets or slots are in the run directory; if there
 * are none, to number 0 unless ops->keeper_on_demand. */
int local_keepers_open(struct local_runtime *p, struct davit_error *err);
void local_keepers_close(struct local_runtime *p);
/* The keeper for one more instance; a further one is started when the others
 * are full. NULL when out of memory. */
struct local_keeper *local_keepers_choose(struct local_runtime *p);
/* Asks each keeper what it holds; local_instance_listed is told. */
void local_keepers_adopt(struct local_runtime *p);

/* --- instance.c: one instance and its operations --- */
/* Ties the driver's state to an instance and enters it under its id. */
int local_instance_attach(struct local_instance *pi, struct davit_instance *inst, const char *id,
			  struct local_keeper *k);
/* The reverse; open operations are completed with DAVIT_ECLOSED. */
void local_instance_detach(struct local_instance *pi);
/* Sends what op needs, or completes it when nothing is needed. */
void local_instance_issue(struct local_instance *pi);
/* A slot as LIST tells it: an adopted one, or the present state of a known one. */
void local_instance_listed(struct local_keeper *k, const struct keeper_instance *slot);
/* The keeper came back and did not name this instance. */
void local_instance_missing(struct local_instance *pi);
/* Ends the operation under way, if there is one; err may be NULL or without a code. */
void local_complete(struct local_instance *pi, const struct davit_error *err);
/* What a DONE says: *err without a code is success. */
void local_error_of(const struct keeper_header *h, struct davit_error *err);
/* What ops->prepare has begun is done; err is NULL or has no code for success. */
void local_prepared(struct local_instance *pi, const struct davit_error *err);
/* Whether an instance with that id is held by a keeper, known to the core or not. */
bool local_knows(const struct local_runtime *p, const char *id);

void local_create(struct davit_instance *inst, struct davit_op *op);
void local_start(struct davit_instance *inst, struct davit_op *op);
void local_stop(struct davit_instance *inst, const struct davit_stop *how, struct davit_op *op);
void local_remove(struct davit_instance *inst, struct davit_op *op);
void local_inspect(struct davit_instance *inst, struct davit_inspection *ret, struct davit_op *op);
void local_signal(struct davit_instance *inst, int signo, struct davit_op *op);

/* --- news.c: what the keeper tells of an instance --- */
/* EXITED, SPAWNED, READY and STATUS. */
void local_instance_event(struct local_runtime *p, const struct keeper_header *h);
/* Before the first local_tell. */
void local_news_init(struct local_instance *pi);
/* Puts events (LOCAL_NEWS_...) on their way to the core. */
void local_tell(struct local_instance *pi, unsigned news);
/* A run is over: noted and told, once for each run. */
void local_ended(struct local_instance *pi, uint32_t run, const struct keeper_exit *exit);
void local_set_status(struct local_instance *pi, const char *text);
void local_exit_of(const struct keeper_exit *from, struct davit_exit *to);
/* The same for a run of that instance, with what ops->explain knows. */
void local_exit_explained(struct local_runtime *p, const char *id, const struct keeper_exit *from,
			  struct davit_exit *to);

/* --- command.c: building requests --- */
/* Begins a message in p->packet: zeroed, of that size, for the id. Returns it, or NULL
 * when out of memory. It moves when more is appended. */
void *local_packet(struct local_runtime *p, enum keeper_type type, size_t size, const char *id);
int local_build_create(struct local_instance *pi, struct davit_error *err);
/* The directory of an instance's log: a heap string. */
char *local_log_dir(struct davit_runtime *rt, const char *id);

/* --- workload.c --- */
/* A deep copy of what a thread needs of a workload, in one piece of memory; free() it. */
struct davit_workload *local_workload_copy(const struct davit_workload *w);
/* A copy of an environment with the variables of a further command above it, each "NAME=value";
 * NULL: none. DAVIT_EINVAL for one that is not; *ret is untouched then. */
int local_environment_beside(char *const *base, char *const *more, char ***ret, struct davit_error *err);

/* --- sweep.c: groups of dead instances --- */
void local_sweep_init(struct local_runtime *p);
void local_sweep_fini(struct local_runtime *p);
/* Removes the groups of an id now, or as soon as they are empty. */
void local_sweep_add(struct local_runtime *p, const char *id);
/* Removes the groups of ids that no keeper holds, and kills what is in them. */
void local_sweep_leftovers(struct local_runtime *p);

/* --- stats.c --- */
/* What the instance's group has used of the CPU, in ns. False when it has none. */
bool local_group_cpu(struct local_instance *pi, uint64_t *ret_ns);

/* --- the facets --- */
extern const struct davit_logs_facet local_logs;
/* Its slot `discard`, for every runtime that keeps logs as <log_dir>/ID. */
void local_logs_discard(struct davit_runtime *rt, const char *id);
extern const struct davit_exec_facet local_exec;
/* A command beside the instance is being started: the keeper has not answered yet. */
bool local_exec_starting(const struct local_instance *pi);
extern const struct davit_stats_facet local_stats;
/* Where cgroups_why_no_freeze says nothing. */
extern const struct davit_pause_facet local_pause;
/* Thaws an instance that is paused; ends a pause that is under way. */
void local_thaw(struct local_instance *pi);
/* The runtime is closed: a pause under way fails, what is frozen stays so. */
void local_pausing_close(struct local_instance *pi);
/* With it, SURVIVE and TERMINAL_KEPT. */
extern const struct davit_terminal_facet local_terminal;
extern const struct local_terminals_ops local_terminals_ops; /* runtime.c's, for local_terminal */
/* Ends what is open, without a callback. */
void local_logs_close_all(struct local_runtime *p);
void local_execs_close_all(struct local_runtime *p);

#endif
