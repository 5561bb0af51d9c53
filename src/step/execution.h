/* SPDX-License-Identifier: MIT
 *
 * One execution, as the files of davit_execute() share it.
 */
#ifndef DAVIT_STEP_EXECUTION_H
#define DAVIT_STEP_EXECUTION_H

#include "base/buf.h"
#include "davit/execute.h"
#include "local/cgroup.h"
#include "step/protocol.h"
#include "step/store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

struct davit_image;

struct step_output {
	char *name;
	char *directory; /* where the step writes it; absolute */
};

struct step_cache {
	char key[STEP_KEY_MAX];
	int fd; /* its locked meta; -1: it was in use, and the step gets an empty directory */
};

/* Where steps run. */
struct step_runtime {
	const char *name;
	bool images;	    /* it needs one, and another root cannot be had there */
	bool engine;	    /* images, files and limits are those of an engine */
	const char *driver; /* the program that runs them, or NULL: davit-step does */
};

struct davit_execution {
	struct davit_loop *loop;
	struct davit_artifacts *store;
	struct davit_execution_events on;
	void *user;
	char id[17];
	char *directory; /* DIR/runs/ID */

	struct davit_buf order;
	struct davit_artifact_hold *holds; /* its inputs and image */
	size_t n_holds;
	struct step_cache *caches;
	size_t n_caches;
	struct step_output *outputs;
	size_t n_outputs;
	char **notes;  /* to be told once it has begun */
	bool remember; /* it is asked for results of earlier ones, and `key` is, or will be, its own */
	bool unkeyed;  /* `key` lacks the image, which is not known yet */
	const struct step_runtime *runtime;
	char *image;   /* its name, where the root is made here; or NULL */
	bool has_user; /* the spec names one, so that the image's does not count */
	bool held;     /* the image is, under the name of step_image_holder */
	struct davit_image *found;
	pthread_mutex_t fetching; /* `fetcher`: a thread fetches the image */
	pid_t fetcher;		  /* the program that does; 0: none */
	atomic_bool unwanted;	  /* none is to be started any more */
	bool taking;		  /* the thread is at it: there is no helper yet */
	bool fetching_image;	  /* of an engine, which did not have it */
	char image_id[80];	  /* of the image, once it is there */
	char key[STEP_KEY_MAX];

	bool has_group; /* these cgroups are there: */
	char cgroup_dirs[CGROUP_DIRS_MAX][CGROUP_PATH_MAX];
	size_t n_cgroup_dirs;

	int lock, control, wake;
	int streams[DAVIT_STEP_STREAMS];
	pid_t helper;

	uv_poll_t on_control, on_wake;
	bool polling; /* the handles are open */
	int closing;  /* handles that are */
	uv_work_t work;
	bool working;	  /* a thread has it */
	bool durable;	  /* its helper goes on without us until it is told to forget it */
	bool made;	  /* its directory is this one's */
	int input;	  /* what it reads; or -1 */
	bool freed;	  /* by its owner; the rest goes when nothing is under way */
	bool told_output; /* and nobody has read since */
	bool ended;	  /* the last report has come */
	bool complete;	  /* `result` can be given */
	struct davit_deferred deliver;
	struct step_report end;
	struct davit_result result;
	struct davit_error error; /* of the thread */
};

/* execute.c: one that has nothing yet; or NULL. And its descriptors to the loop. */
struct davit_execution *step_new(struct davit_loop *loop, struct davit_artifacts *store,
				 const struct davit_execution_events *on, void *user);
int step_watch(struct davit_execution *x, struct davit_error *err);
/* begin.c: all of davit_execute but the object itself. */
int step_begin(struct davit_execution *x, const struct davit_run_spec *spec,
	       const struct davit_artifact *artifacts, size_t n, struct davit_error *err);
/* execute.c: notes, and the result if it is complete, are told in the next turn of the loop. */
void step_deliver(struct davit_execution *x);
/* Frees what was freed by its owner while a thread had it. */
void step_finish_freeing(struct davit_execution *x);
/* Takes a report as if the helper had sent it just now. */
void step_take_report(struct davit_execution *x, const struct step_report *r);

/* durable.c: what a durable step leaves for those who take it over, and whether its last report is there. */
int step_keep_order(const struct davit_execution *x, struct davit_error *err);
bool step_read_result(const struct davit_execution *x, struct step_report *ret);
/* Removes the directory of one whose helper has ended. Blocks. */
void step_remove_durable(const struct davit_execution *x);
/* Takes the i-th output into the store in a way that can be begun again after any death. In a thread. */
int step_adopt_again(struct davit_execution *x, size_t i, struct davit_artifact_hold *ret,
		     struct davit_error *err);

/* check.c: the spec alone, for n artifacts; and where it is to run, NULL: nowhere. */
int step_check(const struct davit_run_spec *spec, size_t n, struct davit_error *err);
const struct step_runtime *step_runtime(const struct davit_run_spec *spec);
/* prepare.c: checks, takes inputs and caches, makes the directory and the order. */
int step_prepare(struct davit_execution *x, const struct davit_run_spec *spec,
		 const struct davit_artifact *artifacts, size_t n, struct davit_error *err);
/* spawn.c: starts davit-step, which has the rest. */
int step_spawn(struct davit_execution *x, struct davit_error *err);
/* Lets go of what prepare and spawn took, and waits until the helper has removed the step's directory. */
void step_let_go(struct davit_execution *x);

/* image.c: in a thread: finds the image, or has it fetched, and holds it. */
int step_image_take(struct davit_execution *x, struct davit_error *err);
/* Orders the step to be run in it. */
int step_image_order(struct davit_execution *x, struct davit_error *err);
/* Ends a fetch under way: step_image_take then fails with DAVIT_ECANCELED. */
void step_image_cancel(struct davit_execution *x);
void step_image_let_go(struct davit_execution *x);
/* The image's ID, for keys; "" when it is not there. */
int step_image_id(struct davit_artifacts *s, const char *name, char *ret, size_t size,
		  struct davit_error *err);
/* The same of the image of an engine, x->image, in a thread; with `fetch` it is fetched first. */
int step_image_ask(struct davit_execution *x, bool fetch, char *ret, size_t size, struct davit_error *err);
/* Lets go of the image of a step that was killed. */
void step_image_sweep(struct davit_artifacts *s, const char *id);

/* spawn.c: lets go of all that a step whose keeper was killed had beside its directory: its image, its
 * groups, its container. */
void step_sweep_killed(struct davit_artifacts *s, const char *id);

/* prepare.c: adds a record to the order. */
void step_record(struct davit_execution *x, enum step_tag tag, const char *text);

/* remember.c: the key of a step, from everything that its result depends on, but for an image, whose ID is
 * to be added: then `unkeyed` is set. Blocks shortly. */
int step_key(struct davit_execution *x, const struct davit_run_spec *spec,
	     const struct davit_artifact *artifacts, size_t n, struct davit_error *err);
void step_key_image(struct davit_execution *x, const char *id);
/* Is there a result of that key? Then it is the execution's. 1 or 0, or a code. */
int step_recall(struct davit_execution *x, struct davit_error *err);
/* Keeps the result. In a thread. */
int step_remember(struct davit_execution *x, struct davit_error *err);

/* outputs.c: outputs into the store, sizes of caches. In a thread. */
int step_take_outputs(struct davit_execution *x, struct davit_error *err);

#endif
