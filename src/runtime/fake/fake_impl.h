/* SPDX-License-Identifier: MIT
 *
 * What the files of the fake runtime share. Not for use outside this folder.
 *
 * A world holds objects (one for each instance made and not removed) and logs
 * (by id, which outlive their object until discarded). A runtime and its
 * instances are views: instance -> object while the object is there, object ->
 * instance while a runtime is open.
 */
#ifndef DAVIT_FAKE_IMPL_H
#define DAVIT_FAKE_IMPL_H

#include "base/buf.h"
#include "base/list.h"
#include "base/map.h"
#include "runtime/fake/fake.h"

/* Above pid_max, so that no pid of ours is ever a real one. */
#define FAKE_PID_BASE (1 << 23)
enum {
	FAKE_HISTORY = 256,	  /* events kept for a report */
	FAKE_LOG_SIZE = 64 << 10, /* bytes of a log kept by default */
	FAKE_PORT_FIRST = 20000,  /* ports that the world's host gives out */
	FAKE_PORT_LAST = 29999,
};

enum fake_operation { FAKE_CREATE, FAKE_START, FAKE_STOP, FAKE_REMOVE, FAKE_OPERATIONS };

struct fake_log_plan {
	char *text;
	int64_t every;
	int64_t count; /* 0: for ever */
	enum davit_stream stream;
};

/* A parsed script. Owns its strings. */
struct fake_script {
	int64_t delay[FAKE_OPERATIONS];
	int64_t failures[FAKE_OPERATIONS]; /* how many are still to come; INT64_MAX: all */
	int64_t exec_failures;
	bool refused; /* by check */
	bool ends;
	int64_t end_after;
	struct davit_exit end;
	bool vanishes;
	int64_t vanish_after;
	int64_t ready_after;
	bool never_ready;
	char *status;
	int64_t status_after;
	bool ignore_stop;
	int64_t lie; /* 0: honest */
	struct fake_log_plan *logs;
	size_t n_logs;
	bool show;
	size_t show_from; /* index in argv of the first word to show */
	bool random;
};

/* Parses the workload's words. 0, or DAVIT_EINVAL naming the word. */
int fake_script_parse(struct fake_script *s, const struct davit_workload *w, struct davit_error *err);
void fake_script_fini(struct fake_script *s);

/* --- logs --- */

struct fake_line {
	uint64_t end; /* cursor behind it: bytes written before and with it */
	int64_t time;
	enum davit_stream stream;
	uint32_t len;
	char *text;
};

struct fake_log {
	char id[DAVIT_ID_MAX];
	struct fake_line *lines; /* a ring */
	size_t cap, first, len;
	size_t bytes, max_bytes;
	uint64_t end;		/* cursor */
	int64_t failed_creates; /* of this id: `fail-create N` counts across objects */
	struct davit_list readers;
};

struct fake_log *fake_log_get(struct davit_fake_world *w, const char *id, size_t max_bytes);
/* Memory that is not there loses the line, as a full disk would. */
void fake_log_add(struct davit_fake_world *w, struct fake_log *log, enum davit_stream stream,
		  const char *text, size_t len);
void fake_log_free(struct fake_log *log);
/* The runtime closes: its readers get no more calls. */
void fake_log_detach(struct fake_log *log);
extern const struct davit_logs_facet fake_logs;

/* --- objects --- */

struct fake_writer { /* one `log` of a script at work */
	struct fake_object *object;
	const struct fake_log_plan *plan;
	int64_t left;
	int64_t frozen; /* of the timer, while paused */
	struct davit_timer timer;
};

struct fake_object {
	struct davit_list list; /* the world's, in order of creation */
	struct davit_fake_world *world;
	struct davit_instance *inst; /* NULL while no runtime knows it */

	char id[DAVIT_ID_MAX];
	char *label;
	char **argv, **env;
	char *image;		 /* or NULL */
	struct davit_list files; /* copied in (files.c) */
	struct davit_port *ports;
	size_t n_ports;
	uint64_t memory_limit;
	enum davit_ready_signal ready_signal;
	struct fake_script script;
	struct fake_log *log; /* the world's */

	enum davit_state state; /* destroyed: its create is under way */
	uint32_t run;
	pid_t pid;
	bool ready;
	bool paused;
	int64_t frozen[3]; /* while paused: what was left of its timers */
	int64_t started_wall, started_at;
	struct davit_exit exit;
	char status[128];
	/* What is still to be told to a user. */
	bool untold_exit, untold_ready, untold_status;
	bool lying;

	bool ignores_stop; /* of this run */
	int64_t lies;
	struct davit_exit planned, kill; /* what end and grace lead to */
	struct davit_timer end, grace, vanish, ready_timer, status_timer, lie, tell;
	struct fake_writer *writers; /* script.n_logs of them */
	size_t n_execs;

	/* The operation under way. */
	struct davit_op *op;
	enum fake_operation operation;
	struct davit_stop how;
	bool stopping; /* the signal is sent: the operation waits for the end */
	struct davit_timer step;
};

struct davit_fake_world {
	struct davit_runtime_driver driver; /* davit_fake_driver in this world */
	struct davit_loop *loop;
	struct davit_runtime *runtime; /* that has it open, or NULL */
	bool strict, owned;	       /* owned: made by open of davit_fake_driver, ends with close */
	bool reachable;
	struct davit_fake_chances chances;
	struct davit_map objects; /* by id */
	struct davit_list list;
	struct davit_map logs; /* by id */
	struct davit_list execs, terminals;
	struct davit_list images, volumes, networks; /* platform.c */
	struct davit_list streams;		     /* stream.c: under way */
	uint32_t pids;
	uint16_t next_port;
	uint64_t taken[65536 / 64];

	struct davit_fake_event history[FAKE_HISTORY];
	uint64_t events;
	void (*observe)(void *user, const struct davit_fake_event *event);
	void *observer;
};

struct fake_runtime { /* behind struct davit_runtime */
	struct davit_fake_world *world;
	struct davit_timer adopt;
	struct davit_op *adopting;
};

struct fake_instance {		    /* behind struct davit_instance */
	struct fake_object *object; /* NULL when it is not there */
};

static inline struct davit_fake_world *fake_world(struct davit_runtime *rt)
{
	return ((struct fake_runtime *)davit_runtime_state(rt))->world;
}
static inline struct fake_object *fake_object(struct davit_instance *inst)
{
	return ((struct fake_instance *)davit_instance_state(inst))->object;
}

/* object.c */
/* An object being made: state destroyed until the create has succeeded. */
int fake_object_new(struct davit_fake_world *w, struct davit_instance *inst,
		    void (*step)(struct davit_timer *), struct fake_object **ret, struct davit_error *err);
/* Takes it out of the world and frees it; its log stays. */
void fake_object_free(struct fake_object *o);
/* A new run. 0 or DAVIT_ENOMEM, then nothing has changed. */
int fake_object_run(struct fake_object *o);
/* Its run ends after a delay, unless it was to end sooner. 0 or DAVIT_ENOMEM. */
int fake_object_end(struct fake_object *o, int64_t delay, const struct davit_exit *exit);
/* The signal of a stop arrives; the end follows by itself. 0 or DAVIT_ENOMEM. */
int fake_object_stop(struct fake_object *o, const struct davit_stop *how);
/* Calls the user's callback for one thing that it was not told, at most; true
 * when there was one. The object must not be touched after. */
bool fake_object_tell(struct fake_object *o);
void fake_object_inspect(const struct fake_object *o, struct davit_inspection *ret);
struct davit_exit fake_exit_signal(int signo, const char *reason);

/* world.c */
void fake_world_event(struct davit_fake_world *w, enum davit_fake_what what, const struct fake_object *o);
/* A rule was broken: aborts in a strict world, otherwise returns. */
void fake_world_broken(struct davit_fake_world *w, const char *id, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
bool fake_world_chance(struct davit_fake_world *w, unsigned per_mille);
/* A random time in [0, max]. */
int64_t fake_world_upto(struct davit_fake_world *w, int64_t max);
bool fake_world_port_taken(const struct davit_fake_world *w, uint16_t port);

/* fake.c: the object disappears; its operation, if any, completes. */
void fake_operation_vanished(struct fake_object *o);
/* fake.c: its run ended; a stop that waited for it completes. */
void fake_operation_ended(struct fake_object *o);
/* fake.c: the platform is back; an operation that waited for it goes on. */
void fake_operation_resume(struct fake_object *o);

/* exec.c, facets.c */
extern const struct davit_exec_facet fake_exec;
extern const struct davit_stats_facet fake_stats;
extern const struct davit_signal_facet fake_signal;
extern const struct davit_ports_facet fake_ports;
/* terminal.c */
extern const struct davit_terminal_facet fake_terminal;
/* Those of an object end with its run. */
void fake_terminals_end(struct davit_fake_world *w, const struct fake_object *o);
/* Forgets those of an instance that is gone; id NULL: all. */
void fake_terminals_forget(struct davit_fake_world *w, const char *id);
/* The runtime closes: nobody is attached any more, without a call. */
void fake_terminals_detach(struct davit_fake_world *w);

/* platform.c */
extern const struct davit_images_facet fake_images;
extern const struct davit_objects_facet fake_volumes, fake_networks;
extern const struct davit_pause_facet fake_pause;
void fake_platform_free(struct davit_fake_world *w);
/* True for NULL; false with "image 'X' not found locally". */
bool fake_has_image(const struct davit_fake_world *w, const char *reference, struct davit_error *err);
/* Nothing for one that is not paused. */
void fake_object_thaw(struct fake_object *o);

/* files.c */
extern const struct davit_copy_facet fake_copy;
void fake_files_free(struct fake_object *o);

/* stream.c: reads fd to its end (write NULL), or writes *write, which is taken over,
 * and closes it; then calls `then`, which completes op, or fails op itself. drop is
 * called with user in the end, in any case. */
void fake_stream(struct davit_fake_world *w, int fd, struct davit_buf *write,
		 void (*then)(struct davit_op *op, void *user, struct davit_buf *data), void *user,
		 void (*drop)(void *user), struct davit_op *op);
/* The runtime closes: fails what is under way. */
void fake_streams_end(struct davit_fake_world *w);

/* Ends the commands inside an object (NULL: all, without a call). */
void fake_exec_end(struct davit_fake_world *w, struct fake_object *o);

#endif
