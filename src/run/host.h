/* SPDX-License-Identifier: MIT
 *
 * davit-run: the host of one run, as its files share it. It has a plan (step/plan.h), of which it runs the
 * leaves as durable steps (davit/execute.h); a journal, which has everything before anything follows from it;
 * and events, for those who watch. Where it cannot go on - no memory - it ends, and is started again.
 */
#ifndef DAVIT_RUN_HOST_H
#define DAVIT_RUN_HOST_H

#include "base/json.h"
#include "base/list.h"
#include "davit/execute.h"
#include "run/run.h"
#include "step/plan.h"
#include "step/resource.h"

#include <uv.h>

/* ------------------------------------------------------------------- journal (journal.c)
 * Lines, written and synced in a thread, as many at a time as there are. What cannot be written is tried
 * again, without end. */
struct journal {
	struct davit_loop *loop;
	int fd;
	off_t end; /* of what is durable */
	struct davit_buf waiting, flying;
	uint64_t waiting_generation, flying_generation, stored;
	uv_work_t work;
	bool working;
	int failed; /* the errno of the last attempt */
	struct davit_timer again;
	void (*on_stored)(void *owner, uint64_t generation);
	void *owner;
};
/* Opens it, and calls fn with each line that is there; a last one that was cut short is removed. */
int journal_open(struct journal *j, struct davit_loop *loop, const char *dir,
		 int (*fn)(void *owner, const json_t *line, struct davit_error *err), void *owner,
		 struct davit_error *err);
/* Adds a line. generation: on_stored is called with it (or a later one) once it is durable; 0: not. */
void journal_add(struct journal *j, uint64_t generation, const char *line);
void journal_close(struct journal *j);

/* --------------------------------------------------------------------- events (event.c) */
struct events {
	struct davit_loop *loop;
	int fd;
	uint64_t id; /* of the last one */
	struct davit_buf out;
	struct davit_json json; /* of the one that is being made */
	struct davit_deferred flush;
	struct davit_timer again;
	struct davit_map seen; /* of those that were there: what was last told of each step */
	bool blocked;	       /* they cannot be written now: no more than must be */
};
/* What events before this host's told of a start of a leaf. */
struct told {
	char *key;
	uint64_t offsets[DAVIT_STEP_STREAMS]; /* of its streams, how far they are in the events */
	bool started, ended;
};
int events_open(struct events *e, struct davit_loop *loop, const char *dir, struct davit_error *err);
/* part: "", or of a leaf with several steps one of them. NULL: nothing. */
const struct told *events_told(const struct events *e, const char *key, const char *part);
/* An event of that name; fields are added to the returned writer, then events_end. key: of the start of a
 * leaf, or NULL. */
struct davit_json *events_begin(struct events *e, const char *name, const char *key);
void events_end(struct events *e);
/* Writes what waits. */
void events_flush(struct events *e);
void events_close(struct events *e);

/* -------------------------------------------------------------------- artifacts (artifact.c) */
struct artifact {
	struct davit_list list;
	char *name;
	struct davit_artifact_hold hold;
};

/* -------------------------------------------------------------------------------- the host */
struct host {
	char id[DAVIT_RUN_ID_MAX];
	struct davit_paths paths;
	char *dir, *work;
	int lock;
	json_t *about;
	struct davit_loop *loop;
	struct davit_artifacts *store;
	struct davit_plan *plan;
	struct journal journal;
	struct events events;
	struct davit_list artifacts; /* of struct artifact */
	struct davit_list leaves;    /* that are active */
	struct davit_list over;	     /* that have ended, which is not durable yet */
	struct davit_gets gets;
	struct davit_timer tick, look;
	uv_fs_event_t wish;
	json_t *records; /* read from the journal; NULL once replayed */
	bool resumed, forced, done;
	int holds; /* the file */
};

/* Ends this host, which is started again. */
void host_die(const struct host *h, const char *fmt, ...) __attribute__((noreturn, format(printf, 2, 3)));
const char *host_text(const struct host *h, const char *key); /* of about; or NULL */

/* end.c: forgets the steps that are left, and writes how the run has ended: as its plan has, or, if why is
 * not NULL, by that error. Can be done again by another host. */
int host_conclude(struct host *h, const struct davit_error *why, struct davit_error *err);

/* artifact.c: gives the name to a tree, durably with the next event of the plan; takes the hold. */
void host_set_artifact(struct host *h, const char *name, struct davit_artifact_hold *hold);
/* The tree of that name, or NULL. */
const struct davit_artifact_hold *host_artifact(const struct host *h, const char *name);
/* A record of the journal about an artifact. */
int host_restore_artifact(struct host *h, const json_t *line, struct davit_error *err);
/* The path of a file "ARTIFACT/PATH", read into out. Nothing leads out of the artifact. */
int host_read_file(struct host *h, const char *path, struct davit_buf *out, struct davit_error *err);
void host_release_artifacts(struct host *h);

/* ----------------------------------------------------------------------- leaves (leaf.c)
 * A started leaf. What its kind does is a chain of calls; each of them ends with leaf_end(), or with another
 * one to come. */
struct leaf {
	struct davit_list list;
	struct host *host;
	struct davit_plan_node *node; /* while it is active */
	char *key, *name;
	json_t *config;
	enum davit_plan_start how;
	bool aborted, forced; /* it was told to end: nothing is begun for it */
	uint64_t generation;  /* over: of its end */

	/* the step that runs for it, or has run (execution.c) */
	struct davit_execution *x;
	struct davit_list steps; /* those before, which are forgotten when its end is durable */
	const char *part;	 /* "", or which of its steps that is; static */
	uint64_t offsets[DAVIT_STEP_STREAMS];
	bool silent[DAVIT_STEP_STREAMS]; /* not for the log */
	struct davit_deferred pump;
	void (*done)(struct leaf *l, const struct davit_result *r);

	/* work in a thread (leaf_work) */
	uv_work_t work;
	int (*in_thread)(struct leaf *l, struct davit_error *err);
	void (*after)(struct leaf *l, int result);
	struct davit_error error;
	bool working;

	void *state; /* of its kind */
	void (*fini)(struct leaf *l);
	void (*on_abort)(struct leaf *l); /* while there is neither step nor work; or NULL */
};

void leaf_start(struct host *h, struct davit_plan_node *node, enum davit_plan_start how);
void leaf_abort(struct leaf *l, bool force);
struct leaf *leaf_find(const struct host *h, const char *key);
/* Its end: the leaf must not be touched after it. exit_status: of a task, or -1. value: of a load_var. */
void leaf_end(struct leaf *l, enum davit_plan_outcome outcome, const char *message, const json_t *value,
	      int exit_status);
/* The same for what could not be done. */
void leaf_error(struct leaf *l, const struct davit_error *err);
void leaf_note(struct leaf *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* fn in a thread, then `after` here. */
void leaf_work(struct leaf *l, int (*fn)(struct leaf *l, struct davit_error *err),
	       void (*after)(struct leaf *l, int result));
/* Forgets those whose end is durable. */
void leaves_stored(struct host *h, uint64_t generation);

/* execution.c: the step named by the leaf's key and `what`: taken over if there is one; else, unless the leaf
 * is to end, `fresh` fills in what to start (false: it has gone on by itself, and calls leaf_execute later).
 * Then done(). */
#define STEP_NAME_MAX 17
void leaf_step_name(const struct leaf *l, const char *what, char ret[STEP_NAME_MAX]);
/* True: it is there, and done() comes. */
bool leaf_take_over(struct leaf *l, const char *what,
		    void (*done)(struct leaf *l, const struct davit_result *r));
void leaf_execute(struct leaf *l, const char *what, struct davit_run_spec *spec,
		  const struct davit_artifact *artifacts, size_t n,
		  void (*done)(struct leaf *l, const struct davit_result *r));
/* All that it wrote to a stream, up to max bytes; what is more is DAVIT_EPROTO. */
int leaf_read_stream(struct leaf *l, enum davit_step_stream stream, size_t max, struct davit_buf *out,
		     struct davit_error *err);
void leaf_forget_steps(struct leaf *l);

/* The kinds: task.c, fetch.c and resource.c (get, put, check), value.c (load_var). */
void task_start(struct leaf *l);
void get_start(struct leaf *l);
void put_start(struct leaf *l);
void check_start(struct leaf *l);
void load_var_start(struct leaf *l);

#endif
