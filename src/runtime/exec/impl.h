/* SPDX-License-Identifier: MIT
 *
 * What the files of the exec runtime share. Not for use outside this folder.
 */
#ifndef DAVIT_EXEC_IMPL_H
#define DAVIT_EXEC_IMPL_H

#include "base/list.h"
#include "base/map.h"
#include "base/units.h"
#include "runtime/exec/exec.h"
#include "runtime/exec/peer.h"
#include "runtime/exec/wire.h"

#define EXEC_HELLO_TIMEOUT (10 * DAVIT_NSEC_PER_SEC)
/* For an answer; a stop has its grace on top. */
#define EXEC_REQUEST_TIMEOUT (30 * DAVIT_NSEC_PER_SEC)
/* For the answer after a cancel. */
#define EXEC_CANCEL_TIMEOUT (2 * DAVIT_NSEC_PER_SEC)
#define EXEC_BACKOFF_FIRST (200 * DAVIT_NSEC_PER_MSEC)
#define EXEC_BACKOFF_MAX (30 * DAVIT_NSEC_PER_SEC)

struct exec_driver {
	struct davit_runtime_driver driver;
	char *path;
	char *name;
};

enum exec_phase {
	EXEC_CLOSED,
	EXEC_OPENING, /* the first hello is awaited */
	EXEC_UP,
	EXEC_DOWN,	 /* a restart is due */
	EXEC_RESTARTING, /* hello, then the list of instances, are awaited */
};

struct exec_runtime { /* behind struct davit_runtime */
	struct davit_runtime *rt;
	struct peer *peer;
	enum exec_phase phase;
	bool greeted;
	struct davit_capabilities capabilities;
	struct davit_op *opening;
	struct davit_timer timer; /* hello's deadline, or the pause before a restart */
	int64_t backoff;
	uint64_t last_id; /* of requests and channels */
	struct davit_list requests;
	struct davit_list channels;
	struct davit_map instances; /* by id */
};

struct exec_instance {		     /* behind struct davit_instance */
	struct davit_instance *inst; /* set while it is in the runtime's map */
	uint32_t run;		     /* the last that was started, as far as we know */
	uint32_t told;		     /* the last whose end was told */
	bool ready;		     /* of this run, and told */
	struct request *busy;	     /* create, start, stop or remove under way */
	struct davit_exit held;	     /* an end that came before the answer to start */
	uint32_t held_run;
	struct davit_deferred release;
};

/* A request to the peer that is not answered yet. */
struct request {
	struct davit_list list;
	struct exec_runtime *e;
	uint64_t id;
	struct davit_op *op;	     /* NULL when nobody waits */
	struct davit_instance *inst; /* or NULL; not to be touched once given up */
	char instance[DAVIT_ID_MAX];
	/* What a good answer leads to, before op is completed: 0 or a code. */
	int (*answer)(struct request *q, const json_t *result, struct davit_error *err);
	void *ret;
	uint64_t channel; /* that it opens, or 0 */
	bool create;	  /* to be undone when it succeeds after it was given up */
	bool vital;	  /* without an answer the peer is of no use */
	bool answered;	  /* waits for the end of a run */
	bool given_up;	  /* op was completed; a late answer is no error */
	int why;	  /* of a cancel */
	struct davit_timer deadline;
};

static inline struct exec_runtime *exec_runtime(struct davit_runtime *rt)
{
	return davit_runtime_state(rt);
}
static inline struct exec_instance *exec_instance(struct davit_instance *inst)
{
	return davit_instance_state(inst);
}

/* --- request.c --- */

/* Begins a request: {"id": N, "op": "...", "instance": "..."; the caller adds its
 * fields to *j and calls request_send. NULL (and op is failed) when the peer is
 * not up or memory is short. op may be NULL: nobody waits. */
struct request *request_new(struct exec_runtime *e, const char *operation, struct davit_instance *inst,
			    struct davit_op *op, struct davit_buf *buf, struct davit_json *j);
void request_send(struct request *q, struct davit_buf *buf, struct davit_json *j, int64_t timeout);
/* An answer arrived: 0, or DAVIT_EPROTO when there is no such request. */
int request_answered(struct exec_runtime *e, const json_t *message, struct davit_error *err);
/* The end of a run was told: a stop that waited for it completes. */
void request_run_ended(struct davit_instance *inst);
/* Fails all of them. */
void requests_fail(struct exec_runtime *e, const struct davit_error *why);
/* A message without an answer: the same two steps. */
void notice_begin(const char *operation, struct davit_buf *buf, struct davit_json *j);
void notice_send(struct exec_runtime *e, struct davit_buf *buf, struct davit_json *j);

/* --- events.c --- */

/* An event of the peer: 0 or DAVIT_EPROTO. */
int event_handle(struct exec_runtime *e, const json_t *message, struct davit_error *err);
/* Adopt's answer, at first: tells `found` for each. */
int instances_found(struct request *q, const json_t *result, struct davit_error *err);
/* Adopt's answer after a restart: tells what changed meanwhile. */
int instances_reconcile(struct request *q, const json_t *result, struct davit_error *err);
/* Known from now on; 0 or DAVIT_ENOMEM. */
int instance_add(struct davit_instance *inst);
void instance_forget(struct davit_instance *inst);

/* --- channel.c: what flows to log readers and from commands --- */

struct channel {
	struct davit_list list; /* the runtime's; in no list once it is over */
	struct exec_runtime *e;
	uint64_t id;
	struct davit_list items; /* received and not delivered */
	uint64_t credit_used;	 /* delivered since credit was last given */
	bool paused, ended;
	bool *alive; /* while a callback is called: what closing must clear */
	bool is_exec;
	struct davit_error error;
	struct davit_exit exit;
	struct davit_deferred pump;
};

int channel_event(struct exec_runtime *e, const char *event, const json_t *message, struct davit_error *err);
/* The request that should open it failed. */
void channel_refused(struct exec_runtime *e, uint64_t id, const struct davit_error *why);
/* Ends them all, with calls (the peer is lost) or without (the runtime closes). */
void channels_end(struct exec_runtime *e, const struct davit_error *why, bool quietly);
extern const struct davit_logs_facet exec_logs;
extern const struct davit_exec_facet exec_exec;

/* --- facets.c --- */
extern const struct davit_stats_facet exec_stats;
extern const struct davit_signal_facet exec_signal;
extern const struct davit_ports_facet exec_ports;

/* --- driver.c --- */
/* False, and *err filled, when the peer lacks it. */
bool exec_can(struct exec_runtime *e, enum davit_capability cap, struct davit_error *err);

#endif
