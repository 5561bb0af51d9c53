/* SPDX-License-Identifier: MIT
 *
 * Execute(RunSpec, Artifacts) -> Result: one program over trees of files.
 *
 * A step gets its inputs copy-on-write, writes its outputs into new directories, and sees nothing
 * else of the host that it could change: it has mount, pid, ipc and uts namespaces (and a network
 * of its own, with nothing in it, when it is hermetic), its own /tmp, /run, /dev, /proc and HOME,
 * and the host's root as a read-only view, or a root of its own: a tree, or an image. It is the same
 * on every runtime, as root and as another user, except where docs/steps.md says why it cannot be.
 *
 * How a program ends is a result, whatever its status. That it could not be run is an error: a
 * typed one (DAVIT_EEXEC) when the program is not there.
 *
 * A helper program (davit-step) keeps each step. It outlives a killed caller by the moment that it
 * takes to end everything the step started, and to remove what it wrote.
 *
 *	struct davit_run_spec run = {.path = "make", .args = (char *[]){"-C", "repo", NULL}};
 *	struct davit_artifact with[] = {
 *		{.use = DAVIT_USE_INPUT, .name = "repo", .type = DAVIT_ARTIFACT_DIRECTORY, .location =
 *"/src/x"},
 *		{.use = DAVIT_USE_OUTPUT, .name = "built"},
 *	};
 *	davit_execute(loop, store, &run, with, 2, &on, user, &x, &err);
 */
#ifndef DAVIT_EXECUTE_H
#define DAVIT_EXECUTE_H

#include "davit/artifact.h"
#include "davit/error.h"
#include "davit/loop.h"

#ifdef __cplusplus
extern "C" {
#endif

#define DAVIT_GRACE_DEFAULT (INT64_C(10) * 1000000000) /* ns between SIGTERM and SIGKILL */
#define DAVIT_STEP_PIDS_DEFAULT 8192		       /* processes and threads at a time */
#define DAVIT_STEP_LOG_DEFAULT (UINT64_C(4) << 30)     /* bytes of one stream that are kept */
#define DAVIT_STEP_BASE "/tmp/build"		       /* where a step begins, and relative paths with it */

/* ------------------------------------------------------------------------ what goes in */

enum davit_artifact_type {
	DAVIT_ARTIFACT_EMPTY,	  /* nothing yet: an output, a cache */
	DAVIT_ARTIFACT_TREE,	  /* location: the id of a tree of the store */
	DAVIT_ARTIFACT_DIRECTORY, /* location: a directory of the host, absolute; never written to. Who
				   * changes it meanwhile changes what the step sees */
	DAVIT_ARTIFACT_IMAGE,	  /* location: the name of an image of the runtime's ("busybox:1"). As root
				   * only. One that the runtime does not have is fetched */
};

enum davit_artifact_use {
	DAVIT_USE_INPUT,  /* the step may write; the source never changes */
	DAVIT_USE_OUTPUT, /* a new directory; with an input at the same path, a copy of that */
	DAVIT_USE_CACHE,  /* a directory that the next step with the same location sees again */
};

struct davit_artifact {
	enum davit_artifact_use use;
	enum davit_artifact_type type;
	const char *name;     /* of inputs and outputs: unique among each */
	const char *location; /* by type; of a cache: what names it ("job/step/path") */
	const char *path;     /* where the step finds it, relative to DAVIT_STEP_BASE or absolute;
			       * NULL: the name */
};

struct davit_step_limits {
	int64_t cpu_millicores; /* 0: none, also below */
	uint64_t memory;	/* bytes, with what the step writes into memory file systems */
	uint32_t pids;		/* 0: DAVIT_STEP_PIDS_DEFAULT where it can be had */
};

struct davit_run_spec {
	/* Where it runs: "process": on this host, its root the host's, a tree or a directory; "oci": the
	 * same with an image of davit's own store as root; "crun", "runc": in a container that this
	 * program makes of such an image; "docker", "podman": in a container of that engine, with an image
	 * of its own. NULL: "oci" for an image, else "process". */
	const char *runtime;
	/* The root: EMPTY: the host's; TREE or DIRECTORY: that; IMAGE: the image's, with its environment
	 * and its user where the spec names none. Always copy-on-write. */
	struct davit_artifact image;
	const char *path;  /* looked up in the step's PATH unless it has a slash */
	char *const *args; /* without the program's name; ends with NULL; or NULL */
	char *const *env;  /* "NAME=value", ends with NULL, or NULL. PATH, HOME, USER and TMPDIR have
			    * values of their own where it does not say */
	const char *dir;   /* to begin in, relative to DAVIT_STEP_BASE or absolute; NULL: DAVIT_STEP_BASE */
	const char *user;  /* "name", "uid", "name:group" by the root's /etc/passwd; NULL: root, which
			    * without root's rights means the caller under that name */
	struct davit_step_limits limits;
	bool privileged;  /* keeps all capabilities that the caller has, and the host's devices */
	bool hermetic;	  /* no network but a loopback of its own */
	int64_t timeout;  /* ns from its start; 0: none. At its end it is aborted, and has failed */
	int64_t grace;	  /* ns; 0: DAVIT_GRACE_DEFAULT */
	uint64_t log_max; /* bytes kept of each stream; 0: DAVIT_STEP_LOG_DEFAULT. The rest is counted */
	/* The result of an earlier step whose program, environment, inputs and image were the same
	 * (DIRECTORY inputs never are) and which succeeded is given at once, with its outputs and
	 * streams; nothing is executed. The host's root counts as the same while its distribution's
	 * list of packages and the times of its directories of programs are. */
	bool cache;
	const void *input; /* standard input: `input_len` bytes, copied; or NULL: none */
	size_t input_len;
	/* On the host as it is, with all that the caller may, and not isolated at all: for programs that
	 * are to change the world outside. It has no image, artifacts, user or hermetic network; `dir` is
	 * a directory of the host, and what leaves its process group is not ended with it. */
	bool plain;
	/* NULL, or the name of a durable step: sixteen small letters and digits, unique for ever. A durable
	 * step does not end with its caller. Whoever comes after takes it over by davit_execution_attach,
	 * while it runs or when it has ended, until davit_execution_free. With `cache` a result that is known
	 * leaves nothing to take over: who comes after starts it again, and is given that result. */
	const char *durable;
};

/* ------------------------------------------------------------------------ what comes out */

enum davit_outcome {
	DAVIT_OUTCOME_SUCCEEDED, /* exit status 0 */
	DAVIT_OUTCOME_FAILED,	 /* another status, a signal, or out of time */
	DAVIT_OUTCOME_ERRORED,	 /* it could not be run, or its end could not be kept: see `error` */
	DAVIT_OUTCOME_ABORTED,	 /* by davit_execution_abort */
};

struct davit_output {
	const char *name;
	struct davit_artifact_hold tree; /* held until the execution is freed */
};

enum davit_step_stream { DAVIT_STEP_OUT, DAVIT_STEP_ERR, DAVIT_STEP_STREAMS };

struct davit_result {
	enum davit_outcome outcome;
	bool exited;			      /* exit_status counts */
	int exit_status;		      /* 0 to 255 */
	int signo;			      /* what killed it, or 0 */
	bool timed_out;			      /* its time was over: SIGTERM, and SIGKILL after the grace */
	bool out_of_memory;		      /* the kernel killed something of it for its limit of memory */
	bool cached;			      /* the result of an earlier step */
	int64_t started, ended;		      /* wall clock, unix ns; 0: it never started */
	int64_t cpu_user, cpu_system;	      /* ns, of the program and what it waited for */
	uint64_t memory_peak;		      /* bytes, of its largest process */
	uint64_t bytes[DAVIT_STEP_STREAMS];   /* that it wrote */
	uint64_t dropped[DAVIT_STEP_STREAMS]; /* of these, how many at the end are not kept */
	struct davit_output *outputs;	      /* also when it failed; not when it errored */
	size_t n_outputs;
	struct davit_error error; /* ERRORED: why */
};

struct davit_execution;

/* All are called on the loop's thread and never from within davit_execute; each may be NULL. */
struct davit_execution_events {
	/* The program runs. Not called when its result was there already. */
	void (*started)(void *user, struct davit_execution *x);
	/* More can be read. Comes once however much there is, and again after a read. */
	void (*output)(void *user, struct davit_execution *x);
	/* Something that a person wants to know: inputs had to be copied, a cache was in use.
	 * `text` is a sentence, borrowed during the call. */
	void (*note)(void *user, struct davit_execution *x, const char *text);
	/* It has ended; everything it wrote can be read, its outputs are in the store. Exactly once,
	 * unless it is freed before. It may free the execution. */
	void (*done)(void *user, struct davit_execution *x, const struct davit_result *result);
};

/* Starts a step. Everything given is copied; the store and the loop must stay. Checks what can be
 * checked at once: DAVIT_EINVAL for a spec that makes no sense, DAVIT_ENOENT for an input that is not
 * there. What comes to light later is a result that has ERRORED. Never blocks for longer than a few
 * system calls. The loop is a real one. *ret is owned: davit_execution_free. */
int davit_execute(struct davit_loop *loop, struct davit_artifacts *store, const struct davit_run_spec *spec,
		  const struct davit_artifact *artifacts, size_t n, const struct davit_execution_events *on,
		  void *user, struct davit_execution **ret, struct davit_error *err);

/* Takes over a durable step whose caller is gone (if it is not, the step is taken from it). Events come as
 * from davit_execute: `started`, if it has, then output from the beginning, `done`. DAVIT_ENOENT: no step of
 * that name was ever started, or it is forgotten, or who was about to start it died before: it can be
 * started. A step whose keeper was killed, or that ran when the machine went down, has ERRORED. A few short
 * file operations. *ret is owned. */
int davit_execution_attach(struct davit_loop *loop, struct davit_artifacts *store, const char *name,
			   const struct davit_execution_events *on, void *user, struct davit_execution **ret,
			   struct davit_error *err);
/* Calls fn with the name of each durable step of the store, whoever made it, that begins with prefix. */
int davit_executions_durable(struct davit_artifacts *store, const char *prefix,
			     void (*fn)(void *user, const char *name), void *user, struct davit_error *err);

/* Sixteen hexadecimal digits, unique for ever, or the name of a durable step; borrowed. */
const char *davit_execution_id(const struct davit_execution *x);

/* When its program began to run, unix ns; 0: it has not yet, or did not. */
int64_t davit_execution_started(const struct davit_execution *x);

/* Reads what the step wrote to a stream, from any offset, as often as you like, while it runs and
 * after its end: up to n bytes, 0 when there are none there (yet, as long as there is no result), or a
 * DAVIT_E... code. Short file operations only. */
ssize_t davit_execution_read(struct davit_execution *x, enum davit_step_stream stream, uint64_t offset,
			     void *buf, size_t n, struct davit_error *err);

/* The result, or NULL while there is none; borrowed until the execution is freed. */
const struct davit_result *davit_execution_result(const struct davit_execution *x);

/* Sends a signal to the step's program. DAVIT_ESTATE before it runs and after its end. */
int davit_execution_signal(struct davit_execution *x, int signo, struct davit_error *err);

/* SIGTERM to every process of the step, SIGKILL to what is there after the grace. The result comes as
 * ever, with what was written until then. Does nothing the second time and after the end. */
void davit_execution_abort(struct davit_execution *x);
/* As abort, without grace. */
void davit_execution_kill(struct davit_execution *x);

/* What to execute to join a step that runs, whoever started it: a vector of the caller's (free each and
 * itself) whose first word is the program. That runs `command` (NULL: a shell) within the step, with all that
 * the step sees and no more rights, on its own standard streams; its exit status is the command's, or 125.
 * `id` may be the beginning of one; NULL: the only step that runs. DAVIT_ENOENT; DAVIT_EINVAL for several. A
 * few short file operations. */
int davit_execution_intercept(struct davit_artifacts *store, const char *id, char *const *command,
			      char ***ret, struct davit_error *err);

/* Ends it at once if it runs, forgets it and its streams, and lets go of its outputs. NULL is allowed. */
void davit_execution_free(struct davit_execution *x);

#ifdef __cplusplus
}
#endif
#endif
