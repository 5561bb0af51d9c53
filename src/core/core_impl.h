/* SPDX-License-Identifier: MIT
 *
 * What the files of the core share. Not for use outside src/core.
 *
 * Desired state is in the store (services/..., supervisors/..., namespaces/...)
 * and arrives by watch; observed state comes from the runtimes. A service that
 * either of them touched is marked dirty and reconciled once, later in the same
 * iteration of the loop: O(change).
 *
 * Store keys:
 *   services/NS/NAME/VERSION    {"spec": {}, "created": ns, "updated": ns, "nonce": n}
 *   supervisors/NS/NAME         a spec
 *   namespaces/NAME             a spec
 *   supervision/NS/NAME         how a supervisor has ended, and its restarts (supervision.c)
 *   built/NS/NAME/VERSION       what the last good build gave (build.c)
 *   state/ID                   what a runtime does not keep of an instance (journal.c)
 *   events/ID                   events, ID in 16 hexadecimal digits
 */
#ifndef DAVIT_CORE_IMPL_H
#define DAVIT_CORE_IMPL_H

#include "base/map.h"
#include "base/region.h"
#include "core/core.h"
#include "core/journal.h"

#include <jansson.h>

/* How far a start is: which runtimes it still waits for. */
enum start_phase { START_OPENS, START_WAITS_FOR_ALL, START_WAITS_FOR_USED, START_WAITS_NO_MORE };
enum runtime_phase { RUNTIME_CLOSED, RUNTIME_OPENING, RUNTIME_ADOPTING, RUNTIME_OPEN, RUNTIME_LOST };

struct core_runtime {
	struct davit_list list;
	struct davit_core *core;
	struct davit_runtime *rt;		   /* allocated while not CLOSED */
	const struct davit_runtime_driver *driver; /* NULL until it is loaded; never while OPEN */
	davit_runtime_load *load;
	void *load_user;
	const char *summary;
	char *name;
	char *state_dir, *run_dir, *log_dir;
	enum runtime_phase phase;
	struct davit_capabilities caps;
	struct davit_error error; /* why it is closed or lost */
	struct davit_op op;
	struct davit_timer retry;
	unsigned failures;
	size_t adopted; /* running instances, at the last time it told */
	bool used;	/* the default one, or that of a service which was stored at the start */
};

/* How a supervisor ended, as a new daemon finds it in the store. */
struct supervisor_end {
	const char *rule; /* static; NULL: it has not */
	bool failed;
	enum davit_cause cause;
	int64_t decided;	   /* unix ns */
	int64_t next;		   /* unix ns of the end of its cool-down, or 0 */
	char origin[DAVIT_ID_MAX]; /* the instance whose end led there, or "" */
};

struct supervisor {
	struct davit_core *core;
	char *key; /* NS/NAME */
	struct davit_spec *spec;
	int64_t revision;
	int64_t created; /* unix ns */
	struct davit_node node;
	char *stored;		     /* what the store has of it (supervision.c), or NULL */
	struct supervisor_end found; /* until the start is done */
};

struct namespace_record {
	char *key; /* NAME */
	struct davit_spec *spec;
	int64_t revision;
};

/* The runtime on which builds run, and for which they build unless an image is made. */
#define BUILD_RUNTIME "process"

/* What a build gave: how to run the source. */
struct built {
	char **argv; /* NULL: an image was made, and runs by its own command */
	char **env;  /* the cell's, "NAME=value" */
	char *directory;
	char *tree; /* directory of all that was made; NULL: unknown, or an image was */
	char *cell;
	char *content;	      /* what it was made from, a hash */
	char *port_env;	      /* the variable that carries the port, or NULL */
	char *image;	      /* that was made, or in which argv runs where the runtime needs one; or NULL */
	char *reference;      /* file that keeps it in the cache for this service, or NULL */
	uint64_t source_hash; /* of the spec's fields that the build depends on, and the nonce */
};

enum build_phase { BUILD_NONE, BUILD_RUNNING, BUILD_DONE, BUILD_FAILED };

enum goal {
	GOAL_REST, /* leave it as it is */
	GOAL_RUN,
	GOAL_STOP,
	GOAL_GONE,
};

struct instance {
	struct davit_core *core;
	struct davit_service *service; /* NULL: an orphan on its way out */
	struct core_runtime *runtime;
	struct davit_instance *inst; /* the driver's, allocated while there is a workload */
	struct davit_workload workload;
	uint64_t generation;
	struct davit_node node; /* leaf below the service; unused for a build */
	enum davit_state state;
	enum goal goal;
	struct instance_op *op; /* under way, or NULL */
	uint32_t run;
	uint32_t run_base; /* runs of objects before the present one, which counts from 1 */
	uint32_t exit_run; /* run whose end was recorded last */
	pid_t pid;
	int64_t started;     /* unix ns */
	int64_t start_asked; /* unix ns before the driver was told; 0: adopted */
	int64_t ended;	     /* unix ns: the last run, or the last attempt to start one */
	struct davit_exit exit;
	struct davit_error *error; /* last failure of an operation, or NULL */
	char *status_text;	   /* STATUS= of sd_notify, or NULL */
	char *address;		   /* where ports that are not mapped are reached; NULL: 127.0.0.1 */
	struct health *health;	   /* while it runs and has checks (health.h) */
	struct ready_probe *probe; /* waiting for a port or a log line */
	struct ready_timeout *ready_timer;
	struct davit_exit *early_exit; /* of a run whose start has not completed yet */
	struct davit_timer again;      /* an operation that failed is tried again */
	struct davit_list attached;    /* open log readers, commands and terminals (facets.c) */
	struct davit_list uses;	       /* copies and pauses under way (facet_op.c) */
	struct davit_list held;	       /* in core->held while it waits for something, or in core->dead */
	struct davit_list leaving;     /* in service->leaving or core->orphans once it is to be gone */
	char *orphan_of;	       /* key of its service, which was deleted while we were away */
	char *held_for;		       /* what it waits for, in words */
	char *origin; /* id of the instance whose end led here, until the start is done; or NULL */
	struct davit_journal_wait wait; /* for the record of its end */
	enum davit_cause pending_cause; /* what to tell the engine when that is durable */
	bool leaf;			/* node is in the tree */
	bool is_build;
	bool adopting;	  /* being taken over from a runtime: ports are given */
	bool unknown;	  /* taken over; what it was made from is not known any more */
	bool replacement; /* started by an update, not ready yet */
	bool ready;	  /* said, and by its health checks */
	bool ready_said;  /* by what ready.type names */
	bool unchecked;	  /* of a version whose checks nobody makes any more: what it says counts */
	bool paused;
	bool stopping_told; /* the engine waits for our `ended` */
	bool reporting;	    /* pending_cause is to be told when recorded and swept */
	bool start_failed;  /* the last thing that happened: it could not be started */
	bool late;	    /* its end was decided on by no earlier daemon */
	bool prevent;	    /* an exit after which it is never restarted */
	bool told_failed;   /* the event of its failure was written */
	bool rejoins;	    /* found down for the sake of others: goes on with them */
	bool swept;	    /* what the last run left behind was stopped */
	bool killed_for;    /* pending_cause is why we are stopping it ourselves */
	bool env_packed;    /* workload.env is one piece of memory, and nothing is added to it */
};

/* One position among the instances of a service. */
struct slot {
	struct instance *current;
	struct instance *next; /* its replacement in a start-first update */
	bool leaving;	       /* one that was here is not gone yet (as of this reconciling) */
};

/* The versions of one name, so that naming a service needs no search. */
struct service_name {
	char *key; /* NS/NAME */
	struct davit_list services;
};

struct davit_service {
	struct davit_core *core;
	struct service_name *group;
	struct davit_list same_name; /* in group->services */
	char *key;		     /* NS/NAME/VERSION */
	struct davit_spec *spec;
	int64_t revision;
	int64_t created, updated; /* unix ns */
	int64_t nonce;		  /* forced updates so far */
	uint64_t generation;	  /* what instances should be of, when `settled` */
	bool settled;		  /* generation is known: no build is outstanding */
	struct davit_node node;
	struct slot *slots;
	size_t n_slots;
	struct davit_list leaving; /* instances on their way out */
	struct built *built;
	enum build_phase build_phase;
	uint64_t failed_source;	    /* the source hash whose build failed */
	struct instance *build;	    /* running or last build */
	char *error;		    /* of the build or of an update, or NULL */
	uint64_t failed_generation; /* an update to this one failed: not tried again by itself */
	struct davit_list fresh;    /* in core->fresh: new since the last reconciling */
	struct davit_list dirty;
	struct davit_list notify;
	size_t alive; /* instances allocated, builds included */
	bool deleting;
	bool was_stopped; /* the spec's `stopped` that was acted on last */
};

struct davit_core {
	struct davit_core_config config;
	struct davit_loop *loop;
	struct davit_store *store;
	struct davit_list runtimes;
	struct davit_map services;    /* key -> service */
	struct davit_map names;	      /* NS/NAME -> service_name */
	struct davit_map supervisors; /* key -> supervisor */
	struct davit_map namespaces;  /* key -> namespace_record */
	struct davit_map unreadable;  /* key in the store -> what unreadable.c knows of it */
	struct davit_map instances;   /* id -> instance */
	struct davit_pool ops;	      /* of the instances' operations under way */
	char **common_env;	      /* variables that workloads share (workload.c) */
	struct davit_supervise sup;
	struct davit_journal *journal;
	struct davit_store_watch watch[3];
	struct davit_timer rewatch;
	struct davit_list listeners;
	struct davit_list fresh;
	bool unordered; /* `fresh` is not in the order of age */
	struct davit_list dirty;
	struct davit_deferred reconcile;
	struct davit_list notify;
	struct davit_deferred notify_run;
	struct davit_list held;
	struct davit_deferred release;
	struct davit_timer full_pass;
	struct davit_op *start_op;
	enum start_phase start_phase;
	struct davit_timer start_timer;
	struct davit_op *stop_all_op;
	struct davit_timer stop_limit; /* of its wait for a store that does not answer */
	uint32_t n_untold;	       /* makes keys of untold/ unique */
	struct davit_list dead;	       /* instances that are gone, to be freed by `bury` */
	struct davit_deferred bury;
	struct davit_list orphans;    /* instances of no service, on their way out */
	struct davit_list commands;   /* with the store (command.c) */
	struct davit_list admissions; /* with the runtimes (admit.c) */
	struct davit_list waiting;    /* for runtimes to be open (admit.c) */
	struct davit_list tries;      /* of health checks, under way */
	uint64_t changes;	      /* of records, since the start */
	struct davit_list gone_waits; /* for services to be gone (command.c) */
	struct davit_list awaits;     /* for services to run or to rest (await.c) */
	struct davit_list facet_ops;  /* under way with drivers (facet_op.c) */
	int64_t started;
	size_t adopted; /* running instances taken over since the start */
	bool stopping_all;
	bool freeing;
};

/* --- core.c --- */
void core_service_dirty(struct davit_service *s);
void core_service_changed(struct davit_service *s); /* tell listeners */
void core_release_held(struct davit_core *c);	    /* look at held instances again */
void core_check_started(struct davit_core *c);
void core_check_stopped(struct davit_core *c);
void core_service_gone(struct davit_service *s);
void core_watch_from(struct davit_core *c, int64_t revision);

/* --- runtimes.c --- */
struct core_runtime *core_runtime_find(struct davit_core *c, const char *name);
void core_runtime_open(struct core_runtime *r);
/* Somebody asks for one that is closed: the next attempt is not put off any longer. */
void core_runtime_wanted(struct core_runtime *r);
void core_runtime_free(struct core_runtime *r);

/* --- registry.c: records of the store --- */
int registry_load(struct davit_core *c, struct davit_error *err);
void registry_put(struct davit_core *c, const struct davit_kv *kv);
/* unreadable.c: notes a record that cannot be read, by its key in the store; a second time with its new
 * revision. */
void unreadable_note(struct davit_core *c, const char *key, int64_t revision);
/* It was replaced or removed. Nothing when it is not noted. */
void unreadable_forget(struct davit_core *c, const char *key);
/* The revision that the store has for the key: of the unreadable record, or the one that is known otherwise.
 */
int64_t unreadable_revision(const struct davit_core *c, const char *key, int64_t known);
/* The key of the one unreadable service that is meant, borrowed until it is forgotten; NULL if it is none, or
 * not one. */
const char *unreadable_service(const struct davit_core *c, const struct davit_selector *sel,
			       int64_t *ret_revision);
void unreadable_free_all(struct davit_core *c);
char *registry_record(const struct davit_spec *spec, int64_t created, int64_t updated, int64_t nonce);
struct davit_service *registry_service(struct davit_core *c, const char *ns, const char *name,
				       const char *version);
/* All versions of a name, or NULL. */
struct service_name *registry_name(struct davit_core *c, const char *ns, const char *name);
struct davit_node *registry_parent_node(struct davit_core *c, const struct davit_spec *spec);
/* Puts new services in the order of their age: the store tells of them by name. */
void registry_order(struct davit_core *c);
void registry_service_free(struct davit_service *s);
void registry_free_all(struct davit_core *c);

/* --- reconcile.c --- */
void service_reconcile(struct davit_service *s);
/* Makes the slots, and settles the generation if no build is needed for it. */
void service_prepare(struct davit_service *s);
void service_restart_rule(const struct davit_service *s, struct davit_restart_rule *ret);
void service_instance_gone(struct davit_service *s, struct instance *i);
void service_instance_ready(struct davit_service *s, struct instance *i);
/* It should start, and nobody knows any more what it was made from: its replacement, or a new
 * one of the present version, takes its place. */
void service_instance_unknown(struct davit_service *s, struct instance *i);
/* A replacement ended before it was ready: the update failed. */
void service_update_failed(struct davit_service *s, struct instance *i, const char *why);
bool service_blocked(struct davit_service *s, char **ret_why);
struct davit_service *service_resolve(struct davit_core *c, const char *ref, const char *ns);

/* --- instance.c --- */
struct instance *instance_new(struct davit_service *s, uint32_t index, bool is_build,
			      struct davit_error *err);
struct instance *instance_adopt(struct davit_core *c, struct core_runtime *r, struct davit_service *s,
				uint32_t index, bool is_build, uint64_t generation, const char *id,
				struct davit_error *err);
/* Gives the engine what is known of an adopted instance. */
void instance_restore(struct instance *i, const struct davit_inspection *now);
void instance_restore_leaving(struct instance *i, const struct davit_inspection *now);
void instance_step(struct instance *i);
/* Goes on after something that was waited for. */
void instance_resume(struct instance *i);
void instance_set_goal(struct instance *i, enum goal goal);
void instance_free(struct instance *i);
/* It is gone: tells its service, and frees it. */
void instance_bury(struct instance *i);
void instance_set_error(struct instance *i, const struct davit_error *err);
void instance_on_exited(struct instance *i, uint32_t run, const struct davit_exit *exit);
void instance_on_ready(struct instance *i);
/* A health check has passed or failed: it may be ready now, or not any more. */
void instance_on_health(struct instance *i);
void instance_on_started(struct instance *i);
/* Where ports that are not mapped are reached; "": here. */
void instance_set_address(struct instance *i, const char *address);
void instance_fail(struct instance *i, enum davit_cause cause, const char *why);

/* --- record.c --- */
void instance_write_record(struct instance *i);
void instance_forget_record(const struct instance *i);
json_t *instance_read_record(const struct instance *i); /* new reference or NULL */
/* When the runtime has told all: instances that it does not hold any more are taken
 * up from their records where these say how they ended, and are else forgotten. */
void record_sweep(struct core_runtime *r);
/* When everything is taken over: takes the decisions again that an earlier daemon may not have
 * carried out; then what was down for the sake of others goes on with them. */
void record_replay(struct davit_core *c);
enum davit_cause instance_cause(const struct instance *i, const struct davit_exit *exit, bool *ret_prevent);
extern const struct davit_supervise_ops core_supervise_ops;

/* --- supervision.c: what a supervisor came to, over the daemon's death --- */
/* It changed: notes its end and its restarts, or that there are none any more. */
void supervision_note(struct supervisor *p);
void supervision_forget(struct davit_core *c, const char *key);
/* Reads what is stored; when the instances are taken over, puts it back. */
int supervision_load(struct davit_core *c, struct davit_error *err);
void supervision_restore(struct davit_core *c);
/* The supervisor of the service, if it has ended, or was found to have: what is beneath it stays
 * as it is. Else NULL. */
const struct supervisor *supervision_given_up(const struct davit_service *s);
/* The instance whose end made the node what it is: its id, or NULL. */
const char *supervision_origin(const struct davit_node *n);

/* --- workload.c --- */
/* Fills the workload from spec, build and profile, resolves ports, attaches. */
int workload_build(struct instance *i, struct davit_error *err);
/* The workload of a spec for a check before there is an instance: without id, label,
 * build, resolved ports and secrets. On failure, too, it is for workload_fini. */
int workload_of_spec(struct davit_core *c, const struct davit_spec *spec, struct davit_workload *w,
		     struct davit_error *err);
/* workload_spec.c: its names; then what else follows from the spec and the build (or
 * NULL) alone: argv is never NULL after it. */
int workload_names(struct davit_workload *w, const struct davit_spec *spec, struct davit_error *err);
int workload_settings(struct davit_workload *w, const struct davit_spec *spec, const struct built *b,
		      struct davit_error *err);
/* workload_egress.c: what it may reach, by its service and its namespace. */
int workload_egress(struct davit_core *c, const struct davit_spec *spec, struct davit_workload *w,
		    struct davit_error *err);
/* Whether the runtime can enforce that: what has a policy never starts without. */
int workload_egress_check(const struct core_runtime *r, const struct davit_workload *w,
			  struct davit_error *err);
/* The same before there is a workload: of a service; and of all that are in a namespace. */
int egress_check_service(struct davit_core *c, const struct davit_spec *spec, struct davit_error *err);
int egress_check_namespace(struct davit_core *c, const struct davit_spec *ns, struct davit_error *err);
/* Part of a service's generation: 0 without a policy of its namespace. */
uint64_t egress_generation(struct davit_core *c, const struct davit_spec *spec);
/* The namespace's record has changed or gone: its services are looked at again. */
void egress_changed(struct davit_core *c, const char *ns);
/* A list of {from, hosts}, and one line for people, empty without a policy. */
void egress_write(const struct davit_workload *w, struct davit_json *j);
void egress_text(const struct davit_workload *w, struct davit_buf *out);
/* Allocates the driver's instance for the workload as it is. */
int workload_attach(struct instance *i, struct davit_error *err);
void workload_fini(struct davit_workload *w);
/* The same for an instance's, which workload_build has filled or not. */
void workload_drop(struct instance *i);
char *workload_label(const struct davit_service *s, uint32_t index, uint64_t generation, bool build);
int workload_label_parse(const char *label, char **ret_key, uint32_t *ret_index, uint64_t *ret_generation,
			 bool *ret_build);
/* Materialises the secrets that the spec names (workload_secrets.c). */
int workload_secrets(struct instance *i, struct davit_error *err);
/* Writes the texts of its volumes of type config to files, and adds what shows them to it
 * (workload_config.c). */
int workload_config(struct instance *i, struct davit_error *err);
/* The directories in memory for both, ID-KIND-RUNTIME: the name; removing those of an instance; and,
 * when a runtime has told all that it holds, those of what is neither there nor recorded. */
#define WORKLOAD_SECRETS "secrets"
#define WORKLOAD_CONFIG "config"
enum { WORKLOAD_FILES_MAX = 128 };
const char *workload_files_name(const struct instance *i, const char *kind, char buf[WORKLOAD_FILES_MAX]);
void workload_files_wipe(struct instance *i);
void workload_files_sweep(struct core_runtime *r);
int workload_secrets_check(struct davit_core *c, const struct davit_spec *spec, struct davit_error *err);
int profile_check(struct davit_core *c, const char *name, struct davit_error *err);

/* --- ready.c --- */
struct ready_timeout {
	struct davit_timer timer; /* first: the timer is the timeout */
	struct instance *i;
};
void ready_begin(struct instance *i);
void ready_end(struct instance *i);
/* The look-out alone: the time that is left for its health checks goes on. */
void ready_end_probe(struct instance *i);

/* --- health.c --- */
/* Of a run that begins, or that was found with its record (or NULL) by a new daemon. */
void health_begin(struct instance *i);
void health_restore(struct instance *i, const json_t *rec);
/* Nothing is tried after it. */
void health_end(struct instance *i);
/* "starting", "healthy", "unhealthy", or NULL without checks or a run. */
const char *health_name(const struct instance *i);
/* Does its spec have checks that it must pass to be ready? Does it pass them? */
bool health_awaited(const struct instance *i);
bool health_is_ready(const struct instance *i);
/* Are the checks of both the same? If not, those of its instances begin anew; or end,
 * where the instances are to be replaced: checks of a later version are not for them. */
bool health_same(const struct davit_spec *a, const struct davit_spec *b);
void health_changed(struct davit_service *s, bool stays);

/* --- build.c --- */
bool build_needed(const struct davit_service *s);
uint64_t build_source_hash(const struct davit_service *s);
void build_begin(struct davit_service *s);
/* A program is its own build: false when the source is none. */
bool build_use_program(struct davit_service *s);
/* Whether an image of this spec follows from a build, which may name none. */
bool build_may_name_image(const struct davit_spec *spec);
/* Whether the spec's runtime has yet to say if it builds images. */
bool build_must_wait(const struct davit_service *s);
void build_ended(struct instance *i);
/* The build's instance is gone: so are its request and result. */
void build_discard(struct instance *i);
void build_free(struct built *b);
/* The service is forgotten: its build need not be kept any more. */
void build_forget(struct davit_service *s);
void build_load(struct davit_service *s, const char *json, size_t len);

/* --- command.c --- */
int command_check_capabilities(struct davit_core *c, const struct davit_spec *spec, struct davit_error *err);

/* Fails what users wait for with DAVIT_ECLOSED; the core goes. */
void command_abandon(struct davit_core *c);

/* --- await.c --- */
/* Fails what users wait for with DAVIT_ECLOSED; the core goes. */
void await_abandon(struct davit_core *c);

/* --- facets.c --- */
/* Ends every log reader, command and terminal that is open on an instance that goes. */
void facets_detach(struct instance *i);
/* 0, or why the runtime cannot do that now: it is not open, or lacks the capability
 * or the facet (NULL). */
int facet_check(const struct core_runtime *r, enum davit_capability cap, const void *facet,
		struct davit_error *err);

/* Whether the runtime builds images: 0, or why not and who does. */
int facet_builds_images(struct davit_core *c, const char *runtime, struct davit_error *err);

/* --- facet_op.c: operations of facets that are under way --- */
struct facet_op {
	struct davit_op op; /* the driver's */
	struct davit_op *user;
	struct davit_core *core; /* NULL once it was freed */
	struct davit_list list;	 /* in core->facet_ops */
	struct instance *instance;
	struct davit_list use; /* in instance->uses */
	bool exclusive;	       /* the instance's own operations wait for it */
	/* Called when it has succeeded and the core is there; may be NULL. */
	void (*succeeded)(struct facet_op *f);
	const char *event; /* its type; static */
	char *what;	   /* for the event */
	char *cause;
	void *data;
	void (*drop)(void *data); /* of data, in the end; NULL: free */
	bool pause;		  /* pause or unpause */
};
/* Prepares one: `user` (pending) completes with it, and a cancel of `user` cancels
 * it. i may be NULL. NULL when out of memory. The caller hands &f->op to the driver. */
struct facet_op *facet_op_new(struct davit_core *c, struct instance *i, struct davit_op *user,
			      int64_t timeout_ns, const char *cause);
/* Before it was handed over. */
void facet_op_free(struct facet_op *f);
/* Must the instance's next operation wait? One that is to end cuts short what it
 * waits for; one that is to be removed, all. */
bool facet_ops_hold(struct instance *i, bool removing);
/* The instance is freed after its runtime was closed. */
void facet_ops_forget(struct instance *i);
/* The core is freed: what is under way completes without it. */
void facet_ops_abandon(struct davit_core *c);

/* --- events, through the journal --- */
void core_event(struct davit_core *c, const char *type, const struct davit_service *s,
		const struct instance *i, const char *cause_fmt, ...) __attribute__((format(printf, 5, 6)));
void core_event_key(struct davit_core *c, const char *type, const char *key, const char *cause);

static inline struct instance *instance_of(struct davit_instance *inst)
{
	return inst->owner;
}

#endif
