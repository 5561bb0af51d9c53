/* SPDX-License-Identifier: MIT
 *
 * The driver contract: what a runtime must do, and what it may. This header is
 * the manual for authors of drivers.
 *
 * A driver is mechanism only. Restart, backoff, readiness by port or log line,
 * dependencies, supervision and reconciling are the core's, above every driver.
 *
 * Threads: every slot is called on the loop's thread and must not block it.
 * Work that blocks goes to a thread of the driver's, or to uv_queue_work on
 * davit_loop_uv(rt->loop).
 *
 * Operations: a slot that takes a struct davit_op completes it exactly once,
 * with davit_op_complete or davit_op_fail, now or later (its caller never sees
 * the completion before the slot has returned). One that can last sets
 * davit_op_on_cancel; after a cancel it completes soon, with DAVIT_ECANCELED or
 * DAVIT_ETIMEDOUT, or with success if that was faster. The core has at most one
 * operation at a time under way for one instance.
 *
 * Memory: the core allocates struct davit_runtime and struct davit_instance
 * with the driver's own state behind them, zeroed, of the sizes that the table
 * names; davit_runtime_state() and davit_instance_state() give it. The core
 * frees them after close, or after remove has completed.
 */
#ifndef DAVIT_RUNTIME_H
#define DAVIT_RUNTIME_H

#include "davit/error.h"
#include "davit/loop.h"
#include "davit/op.h"
#include "davit/state.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DAVIT_RUNTIME_ABI 3
#define DAVIT_ID_MAX 17 /* an instance's id: 16 hexadecimal digits and a NUL */

/* ---------------------------------------------------------------- capabilities
 * X(symbol, "name", "what a workload may ask for with it") */
#define DAVIT_CAPABILITY_LIST(X)                                                                             \
	X(SURVIVE, "survive", "instances go on while davitd is down, and are adopted after")                 \
	X(EXIT_STATUS, "exit-status", "exit code and signal are reported")                                   \
	X(LOGS, "logs", "output is kept and can be read and followed")                                       \
	X(EXEC, "exec", "a further command can be run inside a running instance")                            \
	X(TERMINAL, "terminal", "a command can have a terminal")                                             \
	X(TERMINAL_KEPT, "kept-terminal",                                                                    \
	  "a terminal goes on while nobody is attached, and survives davitd")                                \
	X(STATS, "stats", "use of CPU, memory and processes is measured")                                    \
	X(SIGNAL, "signal", "any signal can be sent")                                                        \
	X(TREE_STOP, "tree-stop", "stopping leaves no descendant, daemons included")                         \
	X(MEMORY_LIMIT, "memory-limit", "resources.memory is enforced")                                      \
	X(CPU_LIMIT, "cpu-limit", "resources.cpu is enforced")                                               \
	X(PIDS_LIMIT, "pids-limit", "resources.pids is enforced")                                            \
	X(DISK_LIMIT, "disk-limit", "resources.disk is enforced")                                            \
	X(OOM_REPORT, "oom-report", "a kill for lack of memory is told from others")                         \
	X(USER, "user", "the workload can run as another user")                                              \
	X(DIRECTORY, "directory", "the working directory can be chosen")                                     \
	X(RLIMITS, "rlimits", "resource limits (setrlimit) can be set")                                      \
	X(NOTIFY, "notify", "readiness by sd_notify (NOTIFY_SOCKET)")                                        \
	X(READY_FD, "ready-fd", "readiness by a newline on a descriptor")                                    \
	X(PORTS, "ports", "host ports are checked, chosen and mapped")                                       \
	X(PORT_MAPPING, "port-mapping", "the port inside may differ from the host's")                        \
	X(VOLUMES, "volumes", "host directories can be mounted")                                             \
	X(NAMED_VOLUMES, "named-volumes", "volumes by name, made on first use")                              \
	X(TMPFS, "tmpfs", "file systems in memory can be mounted")                                           \
	X(NETWORKS, "networks", "the network can be chosen: bridge, host, none, one by name")                \
	X(DNS, "dns", "name servers can be chosen")                                                          \
	X(READ_ONLY_ROOT, "read-only-root", "the root file system can be read-only")                         \
	X(LINUX_CAPABILITIES, "linux-capabilities", "capabilities can be added and dropped")                 \
	X(IMAGES, "images", "the workload may come from an image")                                           \
	X(IMAGE_BUILD, "image-build", "an image is built where a source has a Dockerfile")                   \
	X(COPY, "copy", "files can be copied in and out")                                                    \
	X(PAUSE, "pause", "an instance can be frozen and thawed")                                            \
	X(SECRETS, "secrets", "secrets arrive as files in a private directory")                              \
	X(SERVICE_ACCOUNT, "service-account", "the platform's own identity can be chosen")                   \
	X(EGRESS, "egress", "which connections a workload may open can be limited")

enum davit_capability {
#define X(sym, name, doc) DAVIT_CAP_##sym,
	DAVIT_CAPABILITY_LIST(X)
#undef X
		DAVIT_CAP_COUNT
};

/* "memory-limit", ...; and its description. Never NULL in range. */
const char *davit_capability_name(enum davit_capability c);
const char *davit_capability_doc(enum davit_capability c);

/* For each capability: "" when it is there, otherwise why not, in words that
 * can end the sentence "runtime X does not support Y: ". The core fills the
 * table with "not implemented" before it asks the driver. */
struct davit_capabilities {
	char why_not[DAVIT_CAP_COUNT][112];
};

static inline bool davit_can(const struct davit_capabilities *c, enum davit_capability cap)
{
	return c->why_not[cap][0] == '\0';
}

/* ------------------------------------------------------------------- workloads */

struct davit_port {
	char name[32];	    /* may be empty */
	uint16_t container; /* port that the workload listens on; 0: the host's */
	uint16_t host;	    /* 0: the runtime chooses a free one */
	char bind[46];	    /* address on the host; "" means 127.0.0.1 */
	bool udp;
};

enum davit_mount_type {
	DAVIT_MOUNT_BIND,   /* source is an absolute host path */
	DAVIT_MOUNT_VOLUME, /* source is the name of a volume, made on first use (DAVIT_CAP_NAMED_VOLUMES) */
	DAVIT_MOUNT_TMPFS,  /* source is NULL; size limits it (DAVIT_CAP_TMPFS) */
	DAVIT_MOUNT_CONFIG, /* in specs only: drivers get a BIND of what the core has written */
};

struct davit_mount {
	enum davit_mount_type type;
	char *source;
	char *target;  /* absolute path inside; on a runtime without a root of its own, equal to source */
	uint64_t size; /* of a tmpfs, bytes; 0: the platform's default */
	bool read_only;
};

struct davit_rlimit {
	int resource;	     /* RLIMIT_NOFILE, ... */
	uint64_t soft, hard; /* UINT64_MAX: unlimited */
};

enum davit_log_policy {
	DAVIT_LOG_BLOCK, /* a writer faster than the disk waits (the default) */
	DAVIT_LOG_DROP,	 /* what exceeds the rate is counted and dropped, with a marker line */
};

struct davit_log_config {
	uint64_t max_size;  /* bytes of one file before it is rotated; 0: the default, 10 MiB */
	uint32_t max_files; /* kept per instance, the current one included; 0: the default, 3 */
	enum davit_log_policy policy;
	uint64_t rate; /* with DROP: bytes a second and instance */
};

/* One layer of what a workload may reach. */
struct davit_egress {
	char *from;   /* who says so, for people: "service", "namespace acme" */
	char **hosts; /* ended by NULL, in the form of base/host.h; may be empty: nothing */
};

enum davit_ready_signal {
	DAVIT_READY_NONE,   /* ready is not the driver's business for this workload */
	DAVIT_READY_NOTIFY, /* READY=1 on NOTIFY_SOCKET */
	DAVIT_READY_FD,	    /* a newline on descriptor ready_fd of the workload */
};

/* What is to run. Built by the core, complete: the driver adds nothing to the
 * environment but what its own mechanisms need (NOTIFY_SOCKET, say). Borrowed
 * by the driver from create until remove has completed. */
struct davit_workload {
	char id[DAVIT_ID_MAX]; /* unique for ever */
	char *namespace_;      /* for names and labels that people see */
	char *name;
	char *version;
	uint32_t index; /* among the instances of the service, from 0 */
	/* Opaque to the driver, kept with the instance outside of davitd and given
	 * back by `adopt`: how the core recognises what it made. One line, below
	 * 512 bytes. */
	char *label;

	/* argv[0] is looked up in the env's PATH unless it has a slash. With an image
	 * it replaces the image's command, and is empty ({NULL}) to keep that. */
	char **argv;
	char **env;	       /* the whole environment, "NAME=value"; with an image, added to the image's */
	char *directory;       /* or NULL: "/", or the image's */
	char *user;	       /* "name", "uid", "name:group"; or NULL: the daemon's own, or the image's */
	char *image;	       /* or NULL */
	char **entrypoint;     /* replaces the image's entrypoint; NULL: the image's own */
	char *service_account; /* or NULL */

	int64_t cpu_millicores; /* 0: no limit, also below */
	uint64_t memory;	/* bytes */
	uint64_t disk;		/* bytes */
	uint32_t pids;
	struct davit_rlimit *rlimits;
	size_t n_rlimits;
	struct davit_port *ports; /* host ports are final here: see the ports facet */
	size_t n_ports;
	struct davit_mount *mounts;
	size_t n_mounts;
	char *secrets_directory; /* private directory with one file a secret, or NULL */

	char *network;	 /* "bridge", "host", "none" or the name of one; NULL: the runtime's default */
	char **dns;	 /* addresses of name servers, or NULL */
	char **cap_add;	 /* "CAP_NET_ADMIN", ..., "ALL"; or NULL */
	char **cap_drop; /* dropped before cap_add is added; or NULL */
	bool read_only_root;

	struct davit_log_config log;
	enum davit_ready_signal ready;
	int ready_fd; /* with DAVIT_READY_FD: 3 or more */
	mode_t umask; /* 022 unless asked otherwise */
	bool no_new_privileges;

	/* With DAVIT_CAP_EGRESS. A connection that the workload opens must be allowed by every
	 * layer; without any it may open what it likes. Connections to itself (loopback) and
	 * answers to those that others opened are none of it. Enforced where the workload cannot
	 * change it, from before its program runs: DAVIT_ENOTSUP from create where that cannot be. */
	struct davit_egress *egress;
	size_t n_egress;
};

/* --------------------------------------------------------------------- exits */

enum davit_exit_kind {
	DAVIT_EXIT_NONE,    /* it has not ended */
	DAVIT_EXIT_CODE,    /* ended by itself, `code` */
	DAVIT_EXIT_SIGNAL,  /* ended by `signal` */
	DAVIT_EXIT_OOM,	    /* killed for lack of memory (`signal` is set too) */
	DAVIT_EXIT_EXEC,    /* the program could not be executed; `reason` says why */
	DAVIT_EXIT_UNKNOWN, /* it is gone and its status could not be had; `reason` says why */
};

struct davit_exit {
	enum davit_exit_kind kind;
	int code;
	int signal;
	bool core_dumped;
	int64_t time;	  /* unix ns when it was noticed */
	char reason[160]; /* for a person; may be empty */
};

/* "code", "signal", "oom", ... */
const char *davit_exit_kind_name(enum davit_exit_kind kind);

/* ----------------------------------------------------------------- instances */

struct davit_runtime;
struct davit_runtime_driver;

struct davit_instance {
	struct davit_runtime *runtime;
	const struct davit_workload *workload;
	void *owner; /* the core's */

	/* the driver's state follows: davit_instance_state() */
};

/* What inspect and adopt tell. */
struct davit_inspection {
	enum davit_state state; /* created, started, stopped (ended); destroyed when it is not there */
	uint32_t run;		/* how many times it was started: the first start is run 1 */
	pid_t pid;		/* main process on this host, or 0 */
	bool ready;		/* by notify or descriptor */
	int64_t started;	/* unix ns of the last start, or 0 */
	struct davit_exit exit; /* of run `run`, when state is stopped */
	char status[128];	/* STATUS= of sd_notify; may be empty */
	bool paused;		/* frozen by the pause facet */
	/* Where this host reaches the ports of the instance that are not mapped; "": 127.0.0.1. */
	char address[46];
};

/* One surviving instance, told by the driver during adopt. */
struct davit_found {
	char id[DAVIT_ID_MAX];
	const char *label; /* as given at create */
	struct davit_inspection now;
};

/* What the driver tells the core. Called on the loop's thread, at any time
 * between open and close, never from within a slot. */
struct davit_runtime_events {
	/* During adopt: the core returns the instance to attach the driver's state
	 * to (its workload is the one that was created, or NULL fields where the
	 * core no longer knows them), or NULL: the driver then leaves the object
	 * alone and forgets it. */
	struct davit_instance *(*found)(struct davit_runtime *rt, const struct davit_found *found);
	/* Readiness arrived by notify or descriptor: once for each run. */
	void (*ready)(struct davit_instance *inst);
	/* STATUS= of sd_notify changed; text is borrowed during the call. */
	void (*status)(struct davit_instance *inst, const char *text);
	/* The run is over: exactly once for each run, whatever ended it, a stop
	 * included. The object is still there (state stopped) until started again
	 * or removed. */
	void (*exited)(struct davit_instance *inst, uint32_t run, const struct davit_exit *exit);
	/* The object itself is gone: deleted behind our back. Ends a run too. */
	void (*vanished)(struct davit_instance *inst, const char *reason);
	/* The platform behind the driver does not answer / answers again. After
	 * `regained` the driver has told every change that it missed. */
	void (*lost)(struct davit_runtime *rt, const struct davit_error *why);
	void (*regained)(struct davit_runtime *rt);
};

struct davit_runtime {
	const struct davit_runtime_driver *driver;
	struct davit_loop *loop;
	const struct davit_runtime_events *events;
	void *owner;		 /* the core's */
	const char *name;	 /* the name it is registered under; borrowed for ever */
	const char *state_dir;	 /* private directory on disk, made by the core; durable */
	const char *run_dir;	 /* the same, gone after a reboot */
	const char *log_dir;	 /* where logs go */
	const char *libexec_dir; /* davit's own helper programs */

	/* the driver's state follows: davit_runtime_state() */
};

static inline void *davit_runtime_state(struct davit_runtime *rt)
{
	return rt + 1;
}
static inline void *davit_instance_state(struct davit_instance *inst)
{
	return inst + 1;
}

/* --------------------------------------------------------------------- stopping */

struct davit_stop {
	int signal;	  /* sent first, to the whole group; SIGTERM unless asked otherwise */
	int64_t grace_ns; /* then everything that is left is killed; 0: at once */
};

/* ------------------------------------------------------------------------ facets
 * Each is whole or absent (NULL in the table), and its capability says so. */

/* --- logs --- */
enum davit_stream { DAVIT_STDOUT = 1, DAVIT_STDERR = 2 };

struct davit_log_line {
	uint64_t cursor; /* where the next line begins: resume with `after` = cursor */
	int64_t time;	 /* unix ns */
	enum davit_stream stream;
	const char *text; /* without its newline; borrowed during the call */
	size_t len;
};

struct davit_log_query {
	int64_t tail;	/* the last n lines; -1: all that is kept */
	int64_t since;	/* unix ns; 0: from the start */
	uint64_t after; /* cursor to resume behind; 0: not resuming */
	bool follow;	/* go on with what is written later */
};

/* A reader, allocated by the core with reader_size bytes behind it. */
struct davit_log_reader {
	struct davit_instance *instance;
	struct davit_log_query query;
	void *owner;
	/* Returns false to pause: no line comes until `resume`. */
	bool (*line)(struct davit_log_reader *r, const struct davit_log_line *line);
	/* Nothing more comes: 0 at the end (never while following), or a code. */
	void (*end)(struct davit_log_reader *r, int code, const struct davit_error *err);
};

struct davit_logs_facet {
	size_t reader_size;
	/* Starts reading; lines come later, in order, from the loop. 0 or a code. */
	int (*open)(struct davit_log_reader *r, struct davit_error *err);
	void (*resume)(struct davit_log_reader *r);
	/* After it returns no callback comes. Idempotent. */
	void (*close)(struct davit_log_reader *r);
	/* Deletes what is kept of an instance that is removed, by id. */
	void (*discard)(struct davit_runtime *rt, const char *id);
};

/* --- exec --- */
struct davit_exec {
	struct davit_instance *instance;
	char *const *argv;     /* borrowed until exit */
	char *const *env;      /* added to the instance's environment; or NULL */
	const char *directory; /* or NULL: the instance's */
	const char *user;      /* or NULL: the instance's */
	bool tty;
	uint16_t rows, columns;
	void *owner;
	/* Output; return false to pause until `resume`. */
	bool (*output)(struct davit_exec *x, enum davit_stream stream, const void *data, size_t n);
	/* After the last output; exactly once. */
	void (*exited)(struct davit_exec *x, const struct davit_exit *exit);
};

struct davit_exec_facet {
	size_t exec_size; /* bytes of driver state behind struct davit_exec */
	/* Completes op when the command runs (or could not be started: then
	 * `exited` is never called). DAVIT_EEXEC when it could not be executed, with
	 * sys_errno ENOENT where the driver can tell that there is no such program. */
	void (*start)(struct davit_exec *x, struct davit_op *op);
	/* Standard input; returns how much was taken, 0 when it must wait
	 * (`drained` is not signalled: retry on the next call), or a code. */
	ssize_t (*write)(struct davit_exec *x, const void *data, size_t n);
	void (*close_input)(struct davit_exec *x);
	void (*resume)(struct davit_exec *x);
	void (*resize)(struct davit_exec *x, uint16_t rows, uint16_t columns);
	int (*signal)(struct davit_exec *x, int signo, struct davit_error *err);
	/* Kills what is left and frees the driver's part; no callback after. */
	void (*close)(struct davit_exec *x);
};

/* --- terminals ---
 * A command on a terminal of its own, inside a running instance, that goes on
 * while nobody is attached and outlives davitd. What it printed last is kept
 * (the scroll-back, DAVIT_SCROLLBACK bytes at least) and comes first to whoever
 * attaches. Several may be attached at once: all see the same, all may type. One
 * that does not read in time is skipped forward, the others and the command do not
 * wait for it; the only one that is attached makes the command wait instead. */
#define DAVIT_SCROLLBACK (256 * 1024)

struct davit_terminal {
	struct davit_instance *instance;
	char id[DAVIT_ID_MAX]; /* 16 hexadecimal digits: chosen by the core for `open`, named to `attach` */
	char *const *argv;     /* this and the next four: for `open`; borrowed until it completes */
	char *const *env;      /* added to the instance's environment; or NULL. TERM is among them */
	const char *directory; /* or NULL: the instance's */
	const char *user;      /* or NULL: the instance's */
	uint16_t rows, columns;
	void *owner;
	/* Output; return false to pause until `resume`. */
	bool (*output)(struct davit_terminal *t, const void *data, size_t n);
	/* Input that `write` did not take can be given now. */
	void (*drained)(struct davit_terminal *t);
	/* The command ended: after the last output, exactly once. */
	void (*ended)(struct davit_terminal *t, const struct davit_exit *exit);
	/* Or the way to it broke; attach again. Nothing comes after. */
	void (*lost)(struct davit_terminal *t, const struct davit_error *why);
};

struct davit_terminal_info {
	char id[DAVIT_ID_MAX];
	char instance[DAVIT_ID_MAX];
	char command[128]; /* its first words, for people */
	int64_t started;   /* unix ns */
	pid_t pid;	   /* on this host, or 0 */
	uint16_t rows, columns;
	uint32_t attached;	/* how many clients */
	struct davit_exit exit; /* kind is DAVIT_EXIT_NONE while it runs */
};

struct davit_terminal_facet {
	size_t terminal_size; /* bytes of driver state behind struct davit_terminal */
	/* Starts the command and attaches to it. Completes when it runs (DAVIT_EEXEC
	 * when it could not be executed). */
	void (*open)(struct davit_terminal *t, struct davit_op *op);
	/* Attaches to one that is there, with rows and columns as its new size unless
	 * they are 0. One that has ended gives its scroll-back, `ended`, and is
	 * forgotten. DAVIT_ENOENT. */
	void (*attach)(struct davit_terminal *t, struct davit_op *op);
	/* Tells `each` for every terminal of the runtime (inst NULL) or of the
	 * instance, then completes. */
	void (*list)(struct davit_runtime *rt, struct davit_instance *inst,
		     void (*each)(void *user, const struct davit_terminal_info *info), void *user,
		     struct davit_op *op);
	/* Input; returns how much was taken (then `drained` follows if that was not
	 * all), or a code. */
	ssize_t (*write)(struct davit_terminal *t, const void *data, size_t n);
	void (*resume)(struct davit_terminal *t);
	void (*resize)(struct davit_terminal *t, uint16_t rows, uint16_t columns);
	/* To the foreground group of the terminal. */
	int (*signal)(struct davit_terminal *t, int signo, struct davit_error *err);
	/* Lets go; the command goes on. No callback after. */
	void (*detach)(struct davit_terminal *t);
	/* Ends the command of a terminal (SIGHUP, then SIGKILL) and forgets it.
	 * Success when there is none. */
	void (*close)(struct davit_runtime *rt, const char *id, struct davit_op *op);
};

/* --- stats --- */
struct davit_stats {
	uint64_t cpu_ns;       /* used since the start of the run */
	uint64_t memory;       /* bytes in use now */
	uint64_t memory_peak;  /* 0: not known */
	uint64_t memory_limit; /* 0: none */
	uint32_t processes;
	uint64_t read_bytes, write_bytes; /* block I/O; 0 where not known */
	/* Over the interfaces of its own network but the loopback; -1: not known, or shared with the host. */
	int64_t net_rx_bytes, net_tx_bytes;
};

struct davit_stats_facet {
	/* Fills *ret before completing. */
	void (*read)(struct davit_instance *inst, struct davit_stats *ret, struct davit_op *op);
};

/* --- signal --- */
struct davit_signal_facet {
	/* Sends signo to the main process. DAVIT_ESTATE when it does not run. */
	void (*send)(struct davit_instance *inst, int signo, struct davit_op *op);
};

/* --- ports --- */
struct davit_ports_facet {
	/* Before create: replaces host port 0 by a free one and refuses a taken one
	 * with DAVIT_EINUSE "port N is already in use". Does not block. */
	int (*resolve)(struct davit_runtime *rt, struct davit_port *ports, size_t n, struct davit_error *err);
};

/* --- pause --- */
struct davit_pause_facet {
	/* Freezes every process of it; success when it is frozen. DAVIT_ESTATE when it
	 * does not run. A stop thaws it first. */
	void (*pause)(struct davit_instance *inst, struct davit_op *op);
	void (*unpause)(struct davit_instance *inst, struct davit_op *op);
};

/* --- copying in and out ---
 * A tar stream (POSIX ustar or pax) over a descriptor: a file, pipe or socket,
 * in non-blocking mode unless a file. It is taken over by the driver, in any
 * case, and closed before the completion. Works on an instance that is created,
 * started or stopped. */
struct davit_copy_facet {
	/* Unpacks what comes from fd beneath the directory `path` inside, which is
	 * there. Entries cannot lead out of it. */
	void (*put)(struct davit_instance *inst, const char *path, int fd, struct davit_op *op);
	/* Writes `path` (a file, or a directory with what is below it) to fd; the
	 * entries' names begin with its last component. DAVIT_ENOENT. */
	void (*get)(struct davit_instance *inst, const char *path, int fd, struct davit_op *op);
};

/* --- images --- */
struct davit_image_info {
	const char *id;		       /* "sha256:..." */
	const char *const *references; /* "localhost/bb:1", ..., NULL-terminated; may be empty */
	uint64_t size;		       /* bytes */
	int64_t created;	       /* unix ns; 0: not known */
	bool in_use;		       /* by an instance of ours, as far as is known */
};

/* Lines for a person about what an operation is doing; may be NULL. */
typedef void davit_progress_fn(void *user, const char *text);

struct davit_images_facet {
	/* Tells `each` for every image; its strings are borrowed during the call. */
	void (*list)(struct davit_runtime *rt, void (*each)(void *user, const struct davit_image_info *info),
		     void *user, struct davit_op *op);
	/* From a registry. DAVIT_ENOENT, DAVIT_EUNAVAIL with the registry's words. */
	void (*pull)(struct davit_runtime *rt, const char *reference, davit_progress_fn *progress, void *user,
		     struct davit_op *op);
	/* An archive (docker-archive; OCI where the runtime can) from a descriptor,
	 * as copy->put takes it. `progress` gets "loaded REFERENCE" for each. Nothing
	 * is left behind by one that fails. */
	void (*load)(struct davit_runtime *rt, int fd, davit_progress_fn *progress, void *user,
		     struct davit_op *op);
	/* A root file system as tar, which becomes an image of that reference. */
	void (*import)(struct davit_runtime *rt, const char *reference, int fd, struct davit_op *op);
	/* DAVIT_ENOENT "image 'X' not found locally"; DAVIT_EINUSE when an instance
	 * needs it and force is not given. */
	void (*remove)(struct davit_runtime *rt, const char *reference, bool force, struct davit_op *op);
	/* Builds a context (tar, from a descriptor) with its `dockerfile` (path inside;
	 * NULL: "Dockerfile") to an image of that reference. DAVIT_ENOTSUP where
	 * DAVIT_CAP_IMAGE_BUILD is not. The build's output goes to `progress`. */
	void (*build)(struct davit_runtime *rt, const char *reference, int fd, const char *dockerfile,
		      davit_progress_fn *progress, void *user, struct davit_op *op);
};

/* --- volumes and networks, by name: [A-Za-z0-9][A-Za-z0-9_.-]{0,62} --- */
struct davit_object_info {
	const char *name;
	const char *detail; /* a volume's directory, a network's subnet; may be "" */
	int64_t created;    /* unix ns; 0: not known */
	bool ours;	    /* made by davit */
};

struct davit_objects_facet {
	void (*list)(struct davit_runtime *rt, void (*each)(void *user, const struct davit_object_info *info),
		     void *user, struct davit_op *op);
	/* Success when it is there already. DAVIT_EEXIST when somebody else made it. */
	void (*create)(struct davit_runtime *rt, const char *name, struct davit_op *op);
	/* Only what davit made: DAVIT_EPERM for others, DAVIT_ENOENT, DAVIT_EINUSE. */
	void (*remove)(struct davit_runtime *rt, const char *name, struct davit_op *op);
};

/* ------------------------------------------------------------- the driver's table */

struct davit_runtime_driver {
	uint32_t abi;	      /* DAVIT_RUNTIME_ABI */
	const char *name;     /* [a-z][a-z0-9-]{0,31} */
	const char *summary;  /* one line for `davit runtimes` */
	size_t runtime_size;  /* bytes of state behind struct davit_runtime */
	size_t instance_size; /* bytes of state behind struct davit_instance */
	bool needs_image;     /* it runs images and nothing else: others are refused by the core */

	/* Connects to, or starts, what the driver stands on. May be retried by the
	 * core after a failure, with the state zeroed. DAVIT_EUNAVAIL or
	 * DAVIT_ENOTSUP with the reason where this machine cannot carry it. */
	void (*open)(struct davit_runtime *rt, struct davit_op *op);
	/* Lets go: instances go on where the runtime can do that. Operations under
	 * way are failed with DAVIT_ECLOSED, which their callers still get from the
	 * loop; no other callback comes after it has returned. Does not block. */
	void (*close)(struct davit_runtime *rt);
	/* What this machine allows; called after open. Does not block. */
	void (*capabilities)(struct davit_runtime *rt, struct davit_capabilities *ret);
	/* Tells `found` for each surviving instance of ours, then completes. Called
	 * once, after open and before any other operation. */
	void (*adopt)(struct davit_runtime *rt, struct davit_op *op);

	/* Whether this workload could be created here and now: the user is known, the
	 * image is there ("image 'X' not found locally"), each mount can be made. What
	 * the capabilities can tell has been checked. Changes nothing. The workload is
	 * borrowed until the completion; its id, label and what a build gives (argv
	 * may be empty, the image NULL) are not final, its ports not resolved. Create checks again. */
	void (*check)(struct davit_runtime *rt, const struct davit_workload *w, struct davit_op *op);
	/* Makes the object, not running. Success for one that is there and was never
	 * started, DAVIT_ESTATE for one that was (state.h). On failure nothing is
	 * left behind. */
	void (*create)(struct davit_instance *inst, struct davit_op *op);
	/* Runs it: run number = previous + 1. Success, and nothing done, for one that
	 * runs; DAVIT_ESTATE for one that is not there. Completes when the program was
	 * executed (or, where that cannot be known, accepted). DAVIT_EEXEC when it
	 * could not be: there is then no `exited` for it and the run does not count. */
	void (*start)(struct davit_instance *inst, struct davit_op *op);
	/* Signal, grace, kill. Completes when every descendant is gone where
	 * DAVIT_CAP_TREE_STOP is there, else the main process. `exited` comes before the
	 * completion. Success when it does not run. A cancel of the op (or a second
	 * call after it completed so) makes it kill at once. */
	void (*stop)(struct davit_instance *inst, const struct davit_stop *how, struct davit_op *op);
	/* Removes the object and all that belongs to it but its log. Refuses one
	 * that runs (DAVIT_ESTATE). Success when it is gone already. */
	void (*remove)(struct davit_instance *inst, struct davit_op *op);
	/* The truth now. Success with state destroyed when it is gone. */
	void (*inspect)(struct davit_instance *inst, struct davit_inspection *ret, struct davit_op *op);

	const struct davit_logs_facet *logs;
	const struct davit_exec_facet *exec;
	const struct davit_stats_facet *stats;
	const struct davit_signal_facet *signal;
	const struct davit_ports_facet *ports;
	const struct davit_terminal_facet *terminal;
	const struct davit_pause_facet *pause;
	const struct davit_copy_facet *copy;
	const struct davit_images_facet *images;
	const struct davit_objects_facet *volumes;
	const struct davit_objects_facet *networks;
};

/* Checks a table: abi, name, every mandatory slot, every facet whole. 0, or
 * DAVIT_EINVAL naming the slot. */
int davit_runtime_driver_validate(const struct davit_runtime_driver *driver, struct davit_error *err);

/* A runtime in a shared object exports this: */
#define DAVIT_RUNTIME_SYMBOL "davit_runtime_driver"
/* extern const struct davit_runtime_driver davit_runtime_driver; */

#ifdef __cplusplus
}
#endif
#endif
