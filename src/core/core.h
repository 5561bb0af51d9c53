/* SPDX-License-Identifier: MIT
 *
 * The core as the daemon and its API see it: services, their instances, events
 * and the commands on them. It joins the store (what should run), the runtimes
 * (what runs), and the supervision engine (what follows when something ends).
 */
#ifndef DAVIT_CORE_H
#define DAVIT_CORE_H

#include "base/json.h"
#include "base/list.h"
#include "base/paths.h"
#include "davit/runtime.h"
#include "davit/spec.h"
#include "davit/store.h"
#include "supervise/supervise.h"

struct davit_core;
struct davit_secrets;

/* ------------------------------------------------------------------- probes
 * How health checks look at an instance from outside. The daemon does it over the
 * network and the file system (src/daemon/probes.c), the simulator pretends to. */

/* Everything is valid until the operation completes. */
struct davit_probe {
	const char *id;	     /* of the instance */
	const char *address; /* tcp, http: IPv4 or IPv6 */
	uint16_t port;
	const char *path;   /* http */
	const char *host;   /* http: the Host header; NULL: address and port */
	bool tls;	    /* http: https */
	bool insecure;	    /* https: its certificate is not verified */
	const char *ca;	    /* https: PEM file of the authorities; NULL: the system's */
	const char *file;   /* file: on this host */
	int ret_status;	    /* http */
	char ret_text[128]; /* http: how the body begins, on one line; "" when it has none */
};

/* Each completes op with success or fails it with the reason, in words that can stand
 * behind "failed: ". The deadline is the op's, and set; a cancel is obeyed at once. */
struct davit_core_probes {
	/* A connection is accepted. */
	void (*tcp)(void *user, struct davit_probe *p, struct davit_op *op);
	/* GET is answered, with whatever status: ret_status and ret_text are filled. */
	void (*http)(void *user, struct davit_probe *p, struct davit_op *op);
	/* The file is there. */
	void (*file)(void *user, struct davit_probe *p, struct davit_op *op);
};

struct davit_core_config {
	struct davit_loop *loop;	 /* borrowed */
	struct davit_store *store;	 /* borrowed, open */
	const struct davit_paths *paths; /* borrowed; NULL in the simulator */
	struct davit_secrets *secrets;	 /* borrowed; NULL: specs with secrets are refused */
	const char *default_runtime;	 /* "process" */
	const char *default_source;	 /* DAVIT_RUNTIME_SOURCE or NULL */
	const char *default_profile;	 /* DAVIT_RUNTIME_PROFILE or NULL */
	struct davit_start_budget budget;
	size_t max_events;			/* kept in the store; 0: 10,000 */
	const struct davit_core_probes *probes; /* borrowed; NULL: specs with such checks are refused */
	void *probes_user;
	/* Whether a source that is no absolute path is known (src/source/source.h), or NULL. May look
	 * at the file system. */
	int (*check_source)(const char *text, const char *base, const char *share, struct davit_error *err);
};

int davit_core_new(const struct davit_core_config *config, struct davit_core **ret, struct davit_error *err);
/* Registers a runtime under a name. Opened by davit_core_start. */
int davit_core_add_runtime(struct davit_core *c, const char *name, const struct davit_runtime_driver *driver,
			   struct davit_error *err);
/* The same for one whose driver is loaded when it can be of use: `load` is called at
 * each attempt to open the runtime until it gives the driver, which is then borrowed
 * for ever. Its error is why the runtime is not available. It may block for a moment. */
typedef int davit_runtime_load(void *user, const struct davit_runtime_driver **ret, struct davit_error *err);
int davit_core_add_loaded_runtime(struct davit_core *c, const char *name, const char *summary,
				  davit_runtime_load *load, void *user, struct davit_error *err);
/* Loads the store, opens the runtimes, adopts what survived, then reconciles.
 * op completes when everything that was stored has been taken up. */
void davit_core_start(struct davit_core *c, struct davit_op *op);
/* Hands the last events to the store: before an orderly end, which davit_core_free
 * and closing the store complete. */
void davit_core_flush(struct davit_core *c);
/* Lets go of everything; workloads go on where their runtime allows it. Operations
 * of users that are under way fail with DAVIT_ECLOSED, from the loop. A transaction
 * that is with the store ends there, and the loop must run (or the store be
 * closed and the loop run) for its memory to be freed. */
void davit_core_free(struct davit_core *c);
struct davit_loop *davit_core_loop(struct davit_core *c);
/* What a runtime can do here, borrowed; NULL with *err (DAVIT_ENOENT with the nearest
 * name, DAVIT_EUNAVAIL) where there is none of that name, or it does not answer. */
const struct davit_capabilities *davit_core_capabilities(struct davit_core *c, const char *runtime,
							 struct davit_error *err);

/* ------------------------------------------------------------------- selecting */

/* Which services. NULL or "" matches any but for namespace_, where it means
 * "default"; "*" as namespace means all. Names compare exactly. */
struct davit_selector {
	const char *namespace_;
	const char *name;
	const char *version;
};

struct davit_service;

/* Calls fn for each matching service in order of namespace, name, version.
 * fn returns false to end. Returns how many were called. */
size_t davit_core_services(struct davit_core *c, const struct davit_selector *sel,
			   bool (*fn)(void *user, struct davit_service *s), void *user);
/* The service for a selector that must match exactly one: DAVIT_ENOENT
 * "service 'x' not found" with the nearest name, DAVIT_EINVAL when several
 * versions match and none was given (the message lists them). */
int davit_core_service(struct davit_core *c, const struct davit_selector *sel, struct davit_service **ret,
		       struct davit_error *err);

const struct davit_spec *davit_service_spec(const struct davit_service *s);
int64_t davit_service_revision(const struct davit_service *s);
/* unknown, pending, building, starting, running, paused, stopping, stopped, error */
const char *davit_service_status(const struct davit_service *s);
/* How a service is, for those who act on it instead of showing it. */
struct davit_service_look {
	bool wanted;  /* it is to run */
	bool answers; /* its runtime does */
	bool moving;  /* it is not at rest: something is being started or stopped, or will be */
	bool deleting;
	size_t running;		  /* instances whose program runs, as far as is known */
	size_t failed;		  /* that ended or could not be started, and are left so, as failures */
	uint32_t runs;		  /* how often the first instance was started */
	int64_t created, updated; /* unix ns, of its record */
	char why[512];		  /* why it does not run, or its runtime does not answer; may be empty */
};
void davit_service_look(const struct davit_service *s, struct davit_service_look *ret);
/* Instances present now. */
size_t davit_service_instances(struct davit_service *s, bool (*fn)(void *user, struct davit_instance *i),
			       void *user);
/* The instance with that id or with that index ("0"), of any service if s is
 * NULL; or NULL. */
struct davit_instance *davit_core_instance(struct davit_core *c, struct davit_service *s, const char *id);

/* --------------------------------------------------------------------- writing */

/* The stable status object: {namespace, name, version, runtime, source, status,
 * error, restarts, created, updated, instances: [{id, index, state, pid, ready,
 * started, restarts, health, paused (only when it is), exit: {code, signal, reason}}], build, metadata,
 * address, revision}. */
void davit_service_write(const struct davit_service *s, struct davit_json *j);
/* [namespace, name, version, runtime, source, status, build, updated, metadata]. */
void davit_service_write_row(const struct davit_service *s, struct davit_json *j);
/* One element of its `instances`. */
void davit_instance_write(const struct davit_instance *inst, struct davit_json *j);
/* Everything: status, the spec, the effective command, environment with
 * secrets' values left out, paths of logs and directories, supervision. */
void davit_service_write_inspect(const struct davit_service *s, struct davit_json *j);
/* {name, summary, available, error, capabilities: [{name, supported, reason}]} */
void davit_core_write_runtimes(struct davit_core *c, struct davit_json *j);
/* The supervision tree: {name, kind, state, strategy, restarts, ..., children: []} */
void davit_core_write_tree(struct davit_core *c, struct davit_json *j);
/* The causal chain: {service, status, chain: [{what, rule, cause, time, detail, next}], text} */
void davit_service_write_why(const struct davit_service *s, struct davit_json *j);
/* Events with id > after (0: all kept), at most limit, as objects one per call:
 * {id, time, type, service, instance, cause}. `service` is "namespace/name:version". */
int davit_core_events(struct davit_core *c, uint64_t after, size_t limit,
		      bool (*fn)(void *user, uint64_t id, const char *json), void *user,
		      struct davit_error *err);
/* {store: {name, healthy, error, revision}, services, instances, runtimes, started} */
void davit_core_write_health(struct davit_core *c, struct davit_json *j);

/* ------------------------------------------------------------------- listening */

struct davit_core_listener {
	struct davit_list list; /* the core's */
	void *user;
	/* A service (or one of its instances) changed; gone: it was deleted, and s
	 * is valid only during this last call. Coalesced within one iteration. */
	void (*service)(struct davit_core_listener *l, struct davit_service *s, bool gone);
	/* An event was committed. */
	void (*event)(struct davit_core_listener *l, uint64_t id, const char *json);
};
void davit_core_listen(struct davit_core *c, struct davit_core_listener *l);
void davit_core_unlisten(struct davit_core_listener *l);

/* ------------------------------------------------------------------- commands
 * Each checks everything first and then either returns a code with *err filled
 * and nothing changed (op is then not touched), or returns 0 and completes op
 * when the change is durable. Effects follow through the reconciler. `cause` is
 * recorded with the event, e.g. "user: davit run". */

enum davit_apply_mode {
	DAVIT_APPLY_CREATE, /* DAVIT_EEXIST when there is one already and it differs */
	DAVIT_APPLY_UPDATE, /* DAVIT_ENOENT when there is none */
	DAVIT_APPLY_EITHER,
	DAVIT_APPLY_VALIDATE, /* all checks of DAVIT_APPLY_EITHER, and no change */
};

/* All or nothing for the whole array; specs are copied. force: rebuild and
 * replace instances even when nothing changed. expect: the revision that each service
 * is to be at, else DAVIT_ECONFLICT; 0: any. */
int davit_core_apply(struct davit_core *c, struct davit_spec *const *specs, size_t n,
		     enum davit_apply_mode mode, bool force, int64_t expect, const char *cause,
		     struct davit_op *op, struct davit_error *err);
/* `davit kill`: stops and deletes; op completes when durable, or with
 * wait_gone when the last instance is gone. */
int davit_core_kill(struct davit_core *c, const struct davit_selector *sel, bool wait_gone, const char *cause,
		    struct davit_op *op, struct davit_error *err);
/* Removes a Supervisor or a Namespace record (kind says which); services under
 * the supervisor stand under the root then. DAVIT_ENOENT; DAVIT_ESTATE for a
 * namespace that still has services. */
int davit_core_remove(struct davit_core *c, enum davit_kind kind, const char *namespace_, const char *name,
		      const char *cause, struct davit_op *op, struct davit_error *err);
/* The specs of that kind, in no order, as {spec, revision} objects. */
void davit_core_write_kind(struct davit_core *c, enum davit_kind kind, struct davit_json *j);
int davit_core_scale(struct davit_core *c, const struct davit_selector *sel, int64_t instances,
		     const char *cause, struct davit_op *op, struct davit_error *err);
enum davit_service_verb { DAVIT_SERVICE_START, DAVIT_SERVICE_STOP, DAVIT_SERVICE_RESTART };
int davit_core_control(struct davit_core *c, const struct davit_selector *sel, enum davit_service_verb verb,
		       const char *cause, struct davit_op *op, struct davit_error *err);
/* Completes op when every instance of the one service that sel names runs (running),
 * or none does any more. DAVIT_ESTATE with the reason when it comes to rest
 * otherwise, DAVIT_EUNAVAIL when its runtime does not answer, DAVIT_ENOENT when it is
 * deleted. op may have a deadline, and be cancelled. */
int davit_core_await(struct davit_core *c, const struct davit_selector *sel, bool running,
		     struct davit_op *op, struct davit_error *err);
/* Sends a signal to the running instances (or the one with the id). */
int davit_core_signal(struct davit_core *c, const struct davit_selector *sel, const char *instance, int signo,
		      struct davit_op *op, struct davit_error *err);
/* Ends every workload of ours everywhere, for `davit daemon stop --all`:
 * services stay recorded as they are; op completes when nothing runs. */
void davit_core_stop_all(struct davit_core *c, struct davit_op *op);

/* ------------------------------------------------------- facets, by instance
 * Thin: check the capability (DAVIT_ENOTSUP with the reason), then the driver. */
struct davit_log_reader *davit_core_logs_open(struct davit_core *c, struct davit_instance *i,
					      const struct davit_log_reader *init, struct davit_error *err);
void davit_core_logs_close(struct davit_log_reader *r);
struct davit_exec *davit_core_exec_new(struct davit_core *c, struct davit_instance *i,
				       const struct davit_exec *init, struct davit_error *err);
void davit_core_exec_free(struct davit_exec *x);
int davit_core_stats(struct davit_core *c, struct davit_instance *i, struct davit_stats *ret,
		     struct davit_op *op, struct davit_error *err);
/* A terminal, to be given to `open` or `attach` of the driver's terminal facet. For
 * open, init->id is empty: one is chosen, and the instance must run. It is let go
 * with `lost` when its instance or the core goes. NULL with *err. */
struct davit_terminal *davit_core_terminal_new(struct davit_core *c, struct davit_instance *i,
					       const struct davit_terminal *init, struct davit_error *err);
/* Lets go of it, the command goes on; not while `open` or `attach` is under way. */
void davit_core_terminal_free(struct davit_terminal *t);
/* Tells `each` for every terminal of every runtime that answers. */
int davit_core_terminals(struct davit_core *c,
			 void (*each)(void *user, const char *runtime,
				      const struct davit_terminal_info *info),
			 void *user, struct davit_op *op, struct davit_error *err);
int davit_core_terminal_close(struct davit_core *c, const char *runtime, const char *id, struct davit_op *op,
			      struct davit_error *err);
/* Freezes or thaws the running instances (or the one with the id or index). */
int davit_core_pause(struct davit_core *c, const struct davit_selector *sel, const char *instance, bool pause,
		     const char *cause, struct davit_op *op, struct davit_error *err);
/* A tar stream into or out of an instance; fd is taken over, in any case. The
 * instance is not removed before the op has completed. */
int davit_core_copy_put(struct davit_core *c, struct davit_instance *i, const char *path, int fd,
			struct davit_op *op, struct davit_error *err);
int davit_core_copy_get(struct davit_core *c, struct davit_instance *i, const char *path, int fd,
			struct davit_op *op, struct davit_error *err);

/* -------------------------------------------------------- facets, by runtime
 * The same by the runtime's name; NULL or "": the default one. What a runtime lacks
 * is refused with its reason and the names of those that have it. Descriptors are
 * taken over in any case. `progress` and `each` come between the call and the
 * completion of op, and not after a cancel of op has completed it. */
int davit_core_images(struct davit_core *c, const char *runtime,
		      void (*each)(void *user, const struct davit_image_info *info), void *user,
		      struct davit_op *op, struct davit_error *err);

/* What to do with an image; what its verb does not need is ignored. */
enum davit_image_verb {
	DAVIT_IMAGE_PULL,   /* reference, progress */
	DAVIT_IMAGE_LOAD,   /* fd, progress */
	DAVIT_IMAGE_IMPORT, /* reference, fd */
	DAVIT_IMAGE_BUILD,  /* reference, fd, dockerfile, progress */
	DAVIT_IMAGE_REMOVE, /* reference, force */
};
struct davit_image_order {
	enum davit_image_verb verb;
	const char *reference; /* borrowed during the call, as are the next two */
	const char *dockerfile;
	const char *cause;
	bool force;
	int fd; /* -1: none */
	davit_progress_fn *progress;
	void *user; /* of progress */
};
int davit_core_image(struct davit_core *c, const char *runtime, const struct davit_image_order *order,
		     struct davit_op *op, struct davit_error *err);

enum davit_objects { DAVIT_OBJECTS_VOLUMES, DAVIT_OBJECTS_NETWORKS };
int davit_core_objects(struct davit_core *c, enum davit_objects kind, const char *runtime,
		       void (*each)(void *user, const struct davit_object_info *info), void *user,
		       struct davit_op *op, struct davit_error *err);
/* DAVIT_EINVAL for a name that is none. */
int davit_core_object_create(struct davit_core *c, enum davit_objects kind, const char *runtime,
			     const char *name, const char *cause, struct davit_op *op,
			     struct davit_error *err);
int davit_core_object_remove(struct davit_core *c, enum davit_objects kind, const char *runtime,
			     const char *name, const char *cause, struct davit_op *op,
			     struct davit_error *err);
/* The log of the service's last build: its instance, or NULL. */
struct davit_instance *davit_service_build(struct davit_service *s);

#endif
