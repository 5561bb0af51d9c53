/* SPDX-License-Identifier: MIT
 *
 * Resources: things outside with versions, reached through three programs - check, in and out - of a resource
 * type. The protocol is that of Concourse, to the letter:
 *
 *   check       stdin {source, version?}           stdout [version, ...], oldest first
 *   in DEST     stdin {source, version, params?}   stdout {version, metadata?}
 *   out SRC     stdin {source, params?}            stdout {version, metadata?}
 *
 * A version is a map of texts, and never null. Standard error is the log. A status other than 0 is a failure;
 * what is not the protocol is an error that shows what was printed. in and out see BUILD_ID and its like; all
 * have a HOME of their own, which is empty, and nothing of the caller's environment but PATH.
 *
 * The type is a directory that holds the three executables, itself or as opt/resource (an unpacked image).
 */
#ifndef DAVIT_STEP_RESOURCE_H
#define DAVIT_STEP_RESOURCE_H

#include "base/buf.h"
#include "base/list.h"
#include "base/map.h"
#include "davit/loop.h"
#include "step/plan.h"

#define DAVIT_RESOURCE_OUTPUT_MAX                                                                            \
	((size_t)16 << 20) /* bytes of standard output, as long as no other is given */
#define DAVIT_RESOURCE_LOG_MAX                                                                               \
	(UINT64_C(64) << 20) /* bytes of standard error that are passed on; likewise                         \
			      */
#define DAVIT_RESOURCE_GRACE (10 * INT64_C(1000000000)) /* ns between SIGTERM and SIGKILL; likewise */

enum davit_resource_action { DAVIT_RESOURCE_CHECK, DAVIT_RESOURCE_IN, DAVIT_RESOURCE_OUT };
/* "check", "in", "out". */
const char *davit_resource_action_name(enum davit_resource_action a);

/* -------------------------------------------------------------- messages (resource_protocol.c)
 * Appends what the program reads. version and params may be NULL. DAVIT_ENOMEM. */
int davit_resource_request(const json_t *source, const json_t *version, const json_t *params,
			   struct davit_buf *out, struct davit_error *err);
/* What check printed: an array of versions; null is an empty one. *ret is owned. DAVIT_EPROTO shows the text.
 */
int davit_resource_read_versions(const char *text, size_t len, json_t **ret, struct davit_error *err);
/* What in and out printed. *ret_metadata, an array of {name, value}, is never NULL. Both are owned. */
int davit_resource_read_result(const char *text, size_t len, json_t **ret_version, json_t **ret_metadata,
			       struct davit_error *err);
/* Is that a version: a map of texts? DAVIT_EINVAL says what is wrong. */
int davit_resource_check_version(const json_t *version, struct davit_error *err);

/* --------------------------------------------------------------- a program (resource_program.c)
 * One program with a text to read, in a session of its own: its process group is killed as a whole, also what
 * is left of it when it ends. No shell. */
struct davit_program;

struct davit_program_spec {
	const char *path;
	char *const *argv; /* with argv[0]; ends with NULL */
	char *const *env;
	const char *dir;
	const void *input; /* copied */
	size_t input_len;
	int64_t timeout;   /* ns; 0: none */
	int64_t grace;	   /* ns; 0: DAVIT_RESOURCE_GRACE */
	size_t output_max; /* 0: DAVIT_RESOURCE_OUTPUT_MAX. More ends it */
	uint64_t log_max;  /* 0: DAVIT_RESOURCE_LOG_MAX. More is read and dropped */
};

struct davit_program_end {
	int exit_status; /* -1: by a signal */
	int signo;
	bool timed_out, aborted;
	bool too_much;	  /* it printed more than output_max */
	uint64_t dropped; /* bytes of the log */
	const char *output;
	size_t output_len; /* borrowed during the call */
};

/* All on the loop's thread, never from within davit_program_start. */
struct davit_program_events {
	void (*log)(void *owner, const char *text, size_t len);
	/* Exactly once, unless it is freed before; it may free the program. */
	void (*done)(void *owner, const struct davit_program_end *end);
};

/* Starts; needs a real loop, and SIGPIPE ignored (a program need not read its input). DAVIT_EEXEC when it
 * cannot be executed. *ret is owned: davit_program_free. */
int davit_program_start(struct davit_loop *loop, const struct davit_program_spec *spec,
			const struct davit_program_events *on, void *owner, struct davit_program **ret,
			struct davit_error *err);
/* SIGTERM to its group, after the grace SIGKILL. done comes when it has ended. */
void davit_program_abort(struct davit_program *p);
/* What still runs is killed at once. The loop has to run once more for the memory to be given back. NULL is
 * fine. */
void davit_program_free(struct davit_program *p);

/* ------------------------------------------------------------------- a resource (resource.c) */

/* What in and out see of the build that they are for; NULL members are left out. */
struct davit_build_metadata {
	const char *id, *name, *job, *pipeline, *team, *url;
};

struct davit_resource_spec {
	enum davit_resource_action action;
	const char *type; /* the directory of the executables */
	bool inside;	  /* type is a directory in an image: it is not looked at, and the environment that
			   * is not of the build is the image's */
	const json_t *source;  /* NULL: {} */
	const json_t *version; /* check: from which on, or NULL; in: which */
	const json_t *params;  /* in, out; or NULL */
	const char *directory; /* in: where to, made if it is not there; out: from where. Absolute */
	const char *scratch;   /* an existing directory in which HOME is made, and removed again */
	struct davit_build_metadata build; /* in, out */
	int64_t timeout, grace;		   /* ns; as of a program */
};

/* What is to be executed for it: by davit_resource_start, or by who does that in another way. */
struct davit_resource_call {
	char *path;		  /* of the program, owned */
	const char *arg;	  /* its argument, or NULL; of the spec */
	const char *dir;	  /* where it begins; of the spec, or home */
	char **env;		  /* owned */
	struct davit_buf request; /* its standard input */
};
/* home: an empty directory. davit_resource_call_fini. DAVIT_ENOENT: the type has no such program. */
int davit_resource_prepare(const struct davit_resource_spec *spec, const char *home,
			   struct davit_resource_call *ret, struct davit_error *err);
void davit_resource_call_fini(struct davit_resource_call *c);

struct davit_resource_end {
	enum davit_plan_outcome outcome;
	struct davit_error error;   /* unless it succeeded */
	json_t *versions;	    /* check; borrowed, as all of these */
	json_t *version, *metadata; /* in, out */
};

struct davit_resource_events {
	void (*log)(void *owner, const char *text, size_t len);
	void (*done)(void *owner, const struct davit_resource_end *end);
};

struct davit_resource_run;

/* Starts a check, get or put. As davit_program_start; DAVIT_ENOENT when the type has no such program. *ret is
 * owned: davit_resource_free. */
int davit_resource_start(struct davit_loop *loop, const struct davit_resource_spec *spec,
			 const struct davit_resource_events *on, void *owner, struct davit_resource_run **ret,
			 struct davit_error *err);
void davit_resource_abort(struct davit_resource_run *r);
void davit_resource_free(struct davit_resource_run *r);

/* ----------------------------------------------------------------------- inputs of a put */

/* Which of the artifacts that there are (names, n) a put needs. inputs: NULL or "all"; "detect": those whose
 * name is the first part of a path among the texts of params; a list of names. *ret is an owned vector in the
 * order of names. DAVIT_ENOENT names all that are missing. */
int davit_put_inputs(const json_t *inputs, const json_t *params, const char *const *names, size_t n,
		     char ***ret, struct davit_error *err);

/* ------------------------------------------------------------------- one fetch for all (resource_cache.c)
 * What a get fetches depends on its type, source, version and params, and on nothing else. Who wants it asks
 * with the key of these; one of those who ask at once fetches, the others wait for it. What has been fetched
 * is kept by somebody else (the store of artifacts), who is asked first. */
#define DAVIT_GET_KEY_MAX 65

/* The key, in hexadecimal digits. `type` names the type and its state (a digest). Order of members does not
 * count. */
int davit_get_key(const char *type, const json_t *source, const json_t *version, const json_t *params,
		  char ret[DAVIT_GET_KEY_MAX], struct davit_error *err);

struct davit_gets {
	struct davit_map flights; /* by key */
};

/* One who asks; embedded in its owner, zeroed before it asks. */
struct davit_get {
	/* It is this one's turn to fetch: it ends with davit_get_fetched or davit_get_leave. */
	void (*fetch)(struct davit_get *g);
	/* Somebody else has fetched it: it is in the store. */
	void (*fetched)(struct davit_get *g);
	struct davit_get_flight *flight; /* private, as the next; NULL while it does not ask */
	struct davit_list link;
};

/* Asks for what is not in the store: fetch() is called, at once or when those before have failed, or
 * fetched(). DAVIT_ENOMEM. */
int davit_get_ask(struct davit_gets *gets, const char *key, struct davit_get *g, struct davit_error *err);
/* It is in the store: tells all who wait. */
void davit_get_fetched(struct davit_get *g);
/* It failed, was aborted or does not want it any more: the next one's turn. Idempotent. */
void davit_get_leave(struct davit_get *g);
/* Nobody may be asking. */
void davit_gets_fini(struct davit_gets *gets);

#endif
