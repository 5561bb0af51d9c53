/* SPDX-License-Identifier: MIT
 *
 * What the driver's files share. Not for use outside this folder.
 */
#ifndef DAVIT_PROCESS_IMPL_H
#define DAVIT_PROCESS_IMPL_H

#include "base/list.h"
#include "base/map.h"
#include "davit/runtime.h"
#include "runtime/process/cgroup.h"
#include "runtime/process/keeper_client.h"
#include "runtime/process/ports.h"

struct process_keeper;

struct process_sweep {
	struct davit_timer timer;
	char (*ids)[DAVIT_ID_MAX];
	size_t n, cap;
	int64_t pause;
	unsigned tries;
};

/* Behind struct davit_runtime. */
struct process_runtime {
	struct davit_runtime *rt;
	struct keeper_place place;
	char *program;
	struct cgroups cgroups;
	struct davit_map instances;	 /* id -> struct process_instance */
	struct process_keeper **keepers; /* by index */
	size_t n_keepers;
	struct davit_op *open_op, *adopt_op;
	struct davit_deferred open_failed; /* takes everything down, outside of the client's callback */
	struct davit_error open_error;
	bool adopted;		    /* what the keepers held has been told */
	bool lost;		    /* events->lost was told, regained not yet */
	struct davit_map strangers; /* ids in slots that the core does not know; owned strings */
	struct davit_buf packet;    /* where requests are built */
	struct process_sweep sweep; /* groups that were busy when they were to be removed */
	struct process_ports ports;
	struct davit_list log_streams, execs; /* open ones: they end with the runtime */
};

/* One keeper and what the driver knows of it. */
struct process_keeper {
	struct keeper_client client;
	struct process_runtime *runtime;
	struct keeper_request list; /* LIST */
	bool listed;		    /* since the connection began */
	unsigned failures;	    /* attempts that failed while opening */
	uint32_t round;		    /* of LIST; an instance with another one was not named */
};

enum process_action { PROCESS_NOTHING, PROCESS_CREATE, PROCESS_START, PROCESS_STOP, PROCESS_REMOVE };

/* Events that wait for the end of the callback in which they became known, so
 * that the core sees the completion of a start before the exit of what started. */
enum { PROCESS_NEWS_READY = 1, PROCESS_NEWS_STATUS = 2, PROCESS_NEWS_EXIT = 4, PROCESS_NEWS_GONE = 8 };

/* Behind struct davit_instance. */
struct process_instance {
	struct davit_instance *inst;
	struct process_keeper *keeper;	 /* that holds its slot, or shall */
	struct davit_op *op;		 /* the operation under way, or NULL */
	struct process_request *request; /* sent for op; NULL: to be sent when the keeper is up */
	struct davit_list requests;	 /* all that were sent and not answered */
	struct davit_stop how;		 /* of a stop under way */
	struct davit_deferred news;
	char *status;	   /* STATUS= of sd_notify, or NULL */
	int64_t started;   /* unix ns */
	uint64_t cpu_base; /* ns that the group had used before this run */
	uint32_t run;	   /* the last one that was started */
	uint32_t told;	   /* the last one whose end was told */
	uint32_t target;   /* of a start under way */
	uint32_t round;
	pid_t pid;
	uint8_t state;	 /* enum davit_state */
	uint8_t action;	 /* enum process_action, of op */
	uint8_t waiting; /* PROCESS_NEWS_... */
	bool ready;
	bool alone;	/* when run `run` ended, nothing was left of it */
	bool cpu_known; /* cpu_base is right for this run */
	char id[DAVIT_ID_MAX];
	struct keeper_exit exit; /* of run `run`, when state is stopped */
};

/* A request about one instance. */
struct process_request {
	struct keeper_request q;
	struct process_instance *pi;
	struct davit_list list; /* in pi->requests */
	enum process_action action;
	uint32_t run;
};

static inline struct process_runtime *process_runtime_of(struct davit_runtime *rt)
{
	return davit_runtime_state(rt);
}
static inline struct process_instance *process_instance_of(struct davit_instance *inst)
{
	return davit_instance_state(inst);
}

/* --- keepers.c: the set of keepers --- */
/* Connects to the keepers whose sockets or slots are in the run directory, and
 * to number 0 in any case. */
int process_keepers_open(struct process_runtime *p, struct davit_error *err);
void process_keepers_close(struct process_runtime *p);
/* The keeper for one more instance; a further one is started when the others
 * are full. NULL when out of memory. */
struct process_keeper *process_keepers_choose(struct process_runtime *p);
/* Asks each keeper what it holds; process_instance_listed is told. */
void process_keepers_adopt(struct process_runtime *p);

/* --- instance.c: one instance and its operations --- */
/* Ties the driver's state to an instance and enters it under its id. */
int process_instance_attach(struct process_instance *pi, struct davit_instance *inst, const char *id,
			    struct process_keeper *k);
/* The reverse; open operations are completed with DAVIT_ECLOSED. */
void process_instance_detach(struct process_instance *pi);
/* Sends what op needs, or completes it when nothing is needed. */
void process_instance_issue(struct process_instance *pi);
/* A slot as LIST tells it: an adopted one, or the present state of a known one. */
void process_instance_listed(struct process_keeper *k, const struct keeper_instance *slot);
/* The keeper came back and did not name this instance. */
void process_instance_missing(struct process_instance *pi);
/* Puts events (PROCESS_NEWS_...) on their way to the core. */
void process_tell(struct process_instance *pi, unsigned news);
/* A run is over: noted and told, once for each run. */
void process_ended(struct process_instance *pi, uint32_t run, const struct keeper_exit *exit);
void process_set_status(struct process_instance *pi, const char *text);
/* Ends the operation under way, if there is one; err may be NULL or without a code. */
void process_complete(struct process_instance *pi, const struct davit_error *err);
/* What a DONE says: *err without a code is success. */
void process_error_of(const struct keeper_header *h, struct davit_error *err);
/* EXITED, READY and STATUS. */
void process_instance_event(struct process_runtime *p, const struct keeper_header *h);
void process_exit_of(const struct keeper_exit *from, struct davit_exit *to);

void process_create(struct davit_instance *inst, struct davit_op *op);
void process_start(struct davit_instance *inst, struct davit_op *op);
void process_stop(struct davit_instance *inst, const struct davit_stop *how, struct davit_op *op);
void process_remove(struct davit_instance *inst, struct davit_op *op);
void process_inspect(struct davit_instance *inst, struct davit_inspection *ret, struct davit_op *op);
void process_signal(struct davit_instance *inst, int signo, struct davit_op *op);

/* --- check.c: what this runtime can do --- */
void process_capabilities(struct davit_runtime *rt, struct davit_capabilities *ret);
/* Refuses a workload that this machine or this runtime cannot carry. */
int process_check(struct process_runtime *p, const struct davit_workload *w, struct davit_error *err);

/* --- command.c: building SPAWN and EXEC --- */
/* Begins a message in p->packet: zeroed, of that size, for the id. Returns it, or NULL
 * when out of memory. It moves when more is appended. */
void *process_packet(struct process_runtime *p, enum keeper_type type, size_t size, const char *id);
int process_build_create(struct process_instance *pi, struct davit_error *err);
int process_build_spawn(struct process_instance *pi, uint32_t run, struct davit_error *err);
int process_build_exec(struct process_instance *pi, const struct davit_exec *x, struct davit_error *err);
/* The directory of an instance's log: a heap string. */
char *process_log_dir(struct davit_runtime *rt, const char *id);

/* --- sweep.c: groups of dead instances --- */
void process_sweep_init(struct process_runtime *p);
void process_sweep_fini(struct process_runtime *p);
/* Removes the groups of an id now, or as soon as they are empty. */
void process_sweep_add(struct process_runtime *p, const char *id);
/* Removes the groups of ids that no keeper holds, and kills what is in them. */
void process_sweep_leftovers(struct process_runtime *p);

/* --- stats.c --- */
/* What the instance's group has used of the CPU, in ns. False when it has none. */
bool process_group_cpu(struct process_instance *pi, uint64_t *ret_ns);

/* --- the facets --- */
extern const struct davit_logs_facet process_logs;
extern const struct davit_exec_facet process_exec;
extern const struct davit_stats_facet process_stats;
/* Ends what is open, without a callback. */
void process_logs_close_all(struct process_runtime *p);
void process_execs_close_all(struct process_runtime *p);

#endif
