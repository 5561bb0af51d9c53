/* SPDX-License-Identifier: MIT
 *
 * The keeper's inside. One thread, one epoll, no heap: everything that must
 * outlive the program is in the mapped slots file (slots.h), everything else in one
 * struct keeper. What each source file does is said above its functions here.
 */
#ifndef DAVIT_KEEPER_KEEPER_H
#define DAVIT_KEEPER_KEEPER_H

#include "base/fault.h"
#include "base/util.h"
#include "davit/error.h"
#include "davit/runtime.h"
#include "keeper/slots.h"

#include <sys/epoll.h>
#include <sys/un.h>

#define KEEPER_CHUNK 65536 /* of a pipe, read in one turn: what one pipe holds by default */
#define KEEPER_LOG_BUFFER 131072
#define KEEPER_LOG_FILES 32  /* kept open at a time */
#define KEEPER_POINTERS 1536 /* argv and envp; longer ones are mapped for the spawn */
#define KEEPER_PATH_MAX 4096
#define KEEPER_REPLY_MAX 2048	 /* of one answer */
#define KEEPER_REPLIES_MAX 16384 /* of those of one turn */

struct keeper_set {
	uint64_t word[KEEPER_SLOTS_MAX / 64];
};

/* Slots by a 64-bit key, open addressing; a cell is slot + 1, or 0. */
#define KEEPER_INDEX_CELLS (2 * KEEPER_SLOTS_MAX)
struct keeper_index {
	uint16_t cell[KEEPER_INDEX_CELLS];
};

struct keeper_log_file {
	uint32_t slot; /* or KEEPER_NONE */
	int fd;
	uint64_t used; /* a clock that ticks at each use */
};

struct keeper {
	char run_dir[KEEPER_PATH_MAX];
	int fd_run;	   /* the same, open: all that is in it is reached through it */
	char program[512]; /* what an upgrade executes */
	unsigned index;
	int epoll, fd_listen, fd_lock, fd_slots, fd_null, fd_signal, fd_scratch[2];
	int fd_self;		    /* /proc/self/fd */
	int fd_bases[KEEPER_BASES]; /* the directories of file->bases that cgroups are in, once used */
	rlim_t descriptors;
	bool quit;		   /* leave the loop */
	bool quitting;		   /* QUIT with KILL is under way */
	uint32_t no_memory_events; /* bases, by bit, whose groups have no memory.events */
	uint64_t quit_tag;
	uint32_t recovered, lost;

	struct keeper_file *file;
	char *slots; /* of KEEPER_SLOT_SIZE each */
	char *extra; /* of KEEPER_EXTRA_SIZE each */
	struct keeper_launching *launches;
	struct keeper_term *terms;
	char *rings[KEEPER_TERMINALS_MAX]; /* mapped twice, one behind the other */
	uint32_t n_terms;		   /* used ones */
	struct keeper_set used, tell, stopping, blocked, dropping, launching;
	struct keeper_index by_id, by_pid;

	/* what is due when, monotonic ns; 0: not */
	int64_t sweep_due, stop_due, retry_due, marker_due, alone_due, launch_due, term_due;
	int64_t linger;		    /* how long the keeper stays with neither a slot nor a daemon, ns */
	int64_t swept, sweep_cost;  /* when orphans were last looked for, and how long it took */
	int64_t scanned, scan_cost; /* when /proc was last walked, and how long it took */
	int64_t window;		    /* since when ends are counted, to see a storm of them */
	uint32_t ends;
	bool storm;	 /* this window has many, or the one before had */
	int64_t pressed; /* when something came last that waits badly */

	int conn;
	bool greeted;
	bool packs;	      /* the daemon takes several messages in a packet */
	uint32_t conn_events; /* what epoll watches conn for */
	uint32_t list_next;   /* the slot that LIST tells next, or KEEPER_NONE */
	uint64_t list_tag;
	bool tell_execs, tell_terms;
	uint32_t terms_next; /* as list_next, of TERMINALS */
	uint64_t terms_tag;
	char terms_of[24];
	size_t reply_len; /* answers that were not sent yet, one behind the other */
	size_t reply_fd_at;
	int reply_fd; /* goes with the answer at reply_fd_at, or -1; ours */
	char reply[KEEPER_REPLIES_MAX];

	struct keeper_log_file logs[KEEPER_LOG_FILES];
	uint64_t log_clock;
	size_t log_len; /* bytes formatted in log_buffer */
	char log_buffer[KEEPER_LOG_BUFFER];
	char chunk[KEEPER_CHUNK];
	bool overlap;			/* starts are not waited for at once */
	unsigned first_start, n_starts; /* those under way, in the ring of spawn.c */
};

static inline struct keeper_slot *keeper_slot(const struct keeper *k, uint32_t i)
{
	return (struct keeper_slot *)(void *)(k->slots + (size_t)i * KEEPER_SLOT_SIZE);
}
static inline uint32_t keeper_slot_number(const struct keeper *k, const struct keeper_slot *s)
{
	return (uint32_t)(((const char *)s - k->slots) / KEEPER_SLOT_SIZE);
}

/* The file as it is mapped, or memory of its size. */
static inline void keeper_set_file(struct keeper *k, void *map)
{
	k->file = map;
	k->slots = (char *)map + KEEPER_SLOTS_AT;
	k->extra = (char *)map + KEEPER_EXTRA_AT;
	k->launches = (void *)((char *)map + KEEPER_LAUNCHES_AT);
	k->terms = (void *)((char *)map + KEEPER_TERMS_AT);
}

/* ------------------------------------------------------------------- sets */
static inline void keeper_set_add(struct keeper_set *set, uint32_t i)
{
	set->word[i / 64] |= UINT64_C(1) << (i % 64);
}
static inline void keeper_set_remove(struct keeper_set *set, uint32_t i)
{
	set->word[i / 64] &= ~(UINT64_C(1) << (i % 64));
}
static inline bool keeper_set_has(const struct keeper_set *set, uint32_t i)
{
	return set->word[i / 64] >> (i % 64) & 1;
}
/* The first member that is not below i, or KEEPER_NONE. */
uint32_t keeper_set_next(const struct keeper_set *set, uint32_t i);
#define KEEPER_FOREACH(i, set)                                                                               \
	for (uint32_t i = keeper_set_next(set, 0); i != KEEPER_NONE; i = keeper_set_next(set, i + 1))

/* ----------------------------------------------------------- slots.c: memory */
/* Opens or makes RUN_DIR/keeper-N.slots and maps it. A file of another boot or
 * layout is replaced by an empty one. */
int keeper_slots_open(struct keeper *k, struct davit_error *err);
/* The slot of that id, or NULL. */
struct keeper_slot *keeper_slot_find(struct keeper *k, const char *id);
/* The slot whose main process this is, or NULL. */
struct keeper_slot *keeper_slot_of_pid(struct keeper *k, pid_t pid);
/* A zeroed slot for the id, or NULL when all are taken. */
struct keeper_slot *keeper_slot_take(struct keeper *k, const char *id);
void keeper_slot_release(struct keeper *k, struct keeper_slot *s);
/* Sets pid (0: none) and keeps the index right. */
void keeper_slot_set_pid(struct keeper *k, struct keeper_slot *s, pid_t pid);
/* Puts a slot of a mapped file into the sets and indexes. */
void keeper_slot_enlist(struct keeper *k, uint32_t i);

/* ---------------------------------------------------- strings.c: what a slot says */
/* cgroups: one behind the other, an empty string at the end. Copied; the
 * status becomes empty. DAVIT_EINVAL when they are too long or not absolute, and
 * nothing is changed. */
int keeper_strings_set(struct keeper *k, struct keeper_slot *s, const char *label, const char *log_dir,
		       const char *cgroups, struct davit_error *err);
/* Borrowed until the slot's strings or status change. */
const char *keeper_label(const struct keeper *k, const struct keeper_slot *s);
const char *keeper_status(const struct keeper *k, const struct keeper_slot *s);
/* Cut at KEEPER_STATUS_MAX. False when it was that before. */
bool keeper_status_set(struct keeper *k, struct keeper_slot *s, const char *status);
void keeper_log_dir(const struct keeper *k, const struct keeper_slot *s, char path[KEEPER_PATH_MAX]);
bool keeper_has_cgroup(const struct keeper *k, const struct keeper_slot *s);
/* The nth cgroup's directory; false when there are not so many. */
bool keeper_cgroup(const struct keeper *k, const struct keeper_slot *s, unsigned n,
		   char path[KEEPER_PATH_MAX]);
/* The number of the base of the first cgroup's directory, or -1 where it has none. */
int keeper_cgroup_base(const struct keeper *k, const struct keeper_slot *s);
/* Opens a file of the nth cgroup, or with an empty name the directory itself; close-on-exec. -1 with
 * errno, which is ENOENT when there are not so many. For what is done at each start and end: the
 * path of a cgroup is slow to walk, for the kernel takes locks at each of its steps. */
int keeper_cgroup_open(struct keeper *k, const struct keeper_slot *s, unsigned n, const char *file,
		       int flags);
#define KEEPER_FOREACH_CGROUP(path, k, s) for (unsigned n_ = 0; keeper_cgroup(k, s, n_, path); n_++)

/* ------------------------------------------------- events.c: epoll and timers */
enum keeper_source {
	KEEPER_ON_LISTEN,
	KEEPER_ON_CONN,
	KEEPER_ON_SIGNAL,
	KEEPER_ON_PID,
	KEEPER_ON_PIPE, /* + stream */
	KEEPER_ON_PIPE_ERR,
	KEEPER_ON_READY,
	KEEPER_ON_NOTIFY,
	KEEPER_ON_CGROUP,
	KEEPER_ON_EXEC,
	KEEPER_ON_TERM,	    /* a terminal's master */
	KEEPER_ON_TERM_PID, /* its command */
	KEEPER_ON_CLIENT,   /* number: of the terminal, and << 16 of the client */
};
/* Watches fd; number and generation are those of the slot or exec slot. */
int keeper_watch(struct keeper *k, int fd, enum keeper_source source, uint32_t number, uint32_t generation,
		 uint32_t events);
/* Changes what fd is watched for from *now to `want`; 0: not at all. */
void keeper_adjust(struct keeper *k, int fd, enum keeper_source source, uint32_t number, uint32_t generation,
		   uint32_t *now, uint32_t want);
/* Closes *fd unless -1, which also ends the watch; sets it to -1. */
void keeper_close(int *fd);
/* Handles what is ready and due until k->quit. */
int keeper_loop(struct keeper *k, struct davit_error *err);
int64_t keeper_monotonic(void);
int64_t keeper_realtime(void);
/* *due = when, unless it is due earlier. */
static inline void keeper_due(int64_t *due, int64_t when)
{
	if (!*due || when < *due)
		*due = when;
}

/* --------------------------------------------- connection.c: the daemon's socket */
int keeper_listen(struct keeper *k, struct davit_error *err);
void keeper_accept(struct keeper *k);
void keeper_conn_ready(struct keeper *k, uint32_t events);
void keeper_conn_close(struct keeper *k);
/* Sends what waits, as far as the socket takes it, and adapts the watch. */
void keeper_conn_flush(struct keeper *k);

/* --------------------------------------------- tell.c: what the daemon is told */
/* Marks an event of the slot; sent now or as soon as the socket takes it. */
void keeper_tell(struct keeper *k, struct keeper_slot *s, uint32_t flag);
void keeper_tell_exec(struct keeper *k);
/* Sends what waits: answers, lists, events. True when nothing waits any more. */
bool keeper_send_all(struct keeper *k);
/* Of those the answers of the requests so far; false when some still wait. */
bool keeper_send_replies(struct keeper *k);
/* The one answer of the request under way; sent at the end of the turn. */
void keeper_answer(struct keeper *k, struct keeper_header *h, size_t size, const char *text);
/* The descriptor goes with the answer, and is closed then. */
void keeper_answer_fd(struct keeper *k, struct keeper_header *h, size_t size, int fd);
/* KEEPER_DONE with err's message; code 0 is success. */
void keeper_answer_done(struct keeper *k, const struct keeper_header *to, int code,
			const struct davit_error *err);
/* An end as the protocol has it, with its reason in words. s: whose it is, or NULL. */
struct keeper_exit keeper_exit_of(const struct keeper *k, const struct keeper_end *e,
				  const struct keeper_slot *s);

/* ----------------------------------------------- request.c: what is asked for */
/* Ends the starts under way and answers their requests, all but the youngest `keep`. */
void keeper_finish_starts(struct keeper *k, unsigned keep);
/* Handles one whole message of n bytes; fds are consumed (-1) when kept. */
void keeper_request(struct keeper *k, const struct keeper_header *h, int *fds, size_t n_fds);

/* ------------------------------------------------------- message.c: reading */
struct keeper_reader {
	const char *at, *end;
	bool bad; /* something was missing: what was read since is empty */
};
/* The next string, "" when there is none. */
const char *keeper_read_string(struct keeper_reader *r);
/* n bytes, or NULL. */
const void *keeper_read_bytes(struct keeper_reader *r, size_t n);

/* A SPAWN or the SPAWN in an EXEC, its parts pointing into the message. */
struct keeper_command {
	struct keeper_spawn f; /* zero where the sender knew less */
	const struct keeper_rlimit *rlimits;
	const uint32_t *groups;
	const char *path, *directory;
	char **argv, **env; /* env has room for three more */
	size_t n_env;
	const char *settings; /* pairs (file, value), empty string at the end */
	bool outside;	      /* it enters no cgroup of the slot */
	void *mapped;	      /* of argv and env, when they are many */
	size_t mapped_len;
};
/* Reads what stands behind the fixed struct. 0, DAVIT_EPROTO or DAVIT_ENOMEM. */
int keeper_command_read(struct keeper *k, const struct keeper_spawn *f, struct keeper_reader *r,
			struct keeper_command *ret, struct davit_error *err);
void keeper_command_fini(struct keeper_command *c);

/* --------------------------------------------------- child.c: between fork and exec */
enum keeper_step {
	KEEPER_STEP_NONE,
	KEEPER_STEP_SESSION,
	KEEPER_STEP_CGROUP,
	KEEPER_STEP_STREAMS,
	KEEPER_STEP_TTY,
	KEEPER_STEP_RLIMIT,
	KEEPER_STEP_GROUPS,
	KEEPER_STEP_GROUP,
	KEEPER_STEP_USER,
	KEEPER_STEP_DIRECTORY,
	KEEPER_STEP_PRIVILEGES,
	KEEPER_STEP_CLOSE,
	KEEPER_STEP_SIGNALS,
	KEEPER_STEP_EXEC,
};
#define KEEPER_JOINS_MAX 16
#define KEEPER_CHILD_STACK 16384
struct keeper_child {
	const struct keeper_command *command;
	const struct rlimit *nofile;
	int streams[3];
	int fd_null;  /* what the keeper's own streams are */
	int reserved; /* the first of three numbers kept for the streams, or -1: the table is copied */
	int ready_fd; /* the pipe's end that becomes command->f.ready_fd, or -1 */
	bool tty;
	int cgroup_fd;		     /* v2 directory, or -1 */
	unsigned n_joins;	     /* of the other hierarchies */
	int joins[KEEPER_JOINS_MAX]; /* their cgroup.procs, open for writing */
	bool wait;		     /* its memory can run out before it has left ours */
	int32_t *record;	     /* where the child writes its pid first, or NULL */
	char *stack;		     /* KEEPER_CHILD_STACK bytes */
	/* of keeper_child_begin */
	pid_t pid;
	int pidfd;
	int low;	  /* `reserved`, if the child shares the table until it has its own */
	bool join_cgroup; /* cgroup_fd, by the child: clone3 cannot do it */
	uint32_t lives;	  /* cleared by the kernel when the child has left our memory */
	/* written by the child */
	volatile int64_t born; /* CLOCK_BOOTTIME when it began */
	volatile enum keeper_step step;
	volatile int sys_errno;
	volatile uint32_t detail;
};
/* Makes the child, which goes on by itself. 0, with pid and pidfd, or an errno. Nothing
 * that *c points to, and no descriptor in it, is touched until keeper_child_end. */
int keeper_child_begin(struct keeper_child *c);
/* Waits until the child has executed the program (0) or failed (an errno; `step` says
 * where). A failed child is reaped, and its pidfd closed. */
int keeper_child_end(struct keeper_child *c);

/* A start under way: what its child reads is here, the message that asked for it too. So
 * many at a time are enough for the keeper to prepare one while others wait for a
 * processor. */
#define KEEPER_STARTS 4
#define KEEPER_LOW 3 /* numbers of descriptors reserved for their streams */
#define KEEPER_LOW_END (KEEPER_LOW + 3 * KEEPER_STARTS)
struct keeper_start {
	struct keeper_slot *slot; /* NULL: none is under way */
	uint64_t tag;		  /* of the SPAWN */
	struct keeper_command command;
	struct keeper_child child;
	int64_t before; /* CLOCK_BOOTTIME just before the clone */
	char instance[48], notify[160];
	char *pointers[KEEPER_POINTERS];
	union {
		struct keeper_header h;
		char bytes[KEEPER_PACKET_MAX];
	} in; /* the message that is read next, or the one that asked */
	char stack[KEEPER_CHILD_STACK] __attribute__((aligned(64)));
};

/* ----------------------------------------------------------- spawn.c: starting */
/* The next start, which is none yet: the message that is handled stands in it. */
struct keeper_start *keeper_next_start(struct keeper *k);
/* Begins a run of the slot in keeper_next_start(), which is under way then and has taken
 * the command over. On failure the slot is as before and the command is the caller's. */
int keeper_spawn_begin(struct keeper *k, struct keeper_slot *s, struct keeper_command *c,
		       struct davit_error *err);
/* Waits for its child, and the slot runs. On failure it is as before. */
int keeper_spawn_end(struct keeper *k, struct keeper_start *st, struct davit_error *err);
/* Both. The command stays the caller's. */
int keeper_spawn(struct keeper *k, struct keeper_slot *s, struct keeper_command *c, struct davit_error *err);
/* The oldest start under way, or NULL. */
struct keeper_start *keeper_oldest_start(struct keeper *k);
/* Records that the process is the slot's run. */
void keeper_begin_run(struct keeper *k, struct keeper_slot *s, uint32_t run, pid_t pid, uint64_t ticks);
/* A process beside a slot (NULL: alone), reaped by its owner. */
int keeper_start_beside(struct keeper *k, const struct keeper_slot *s, struct keeper_command *c,
			const int streams[3], bool tty, pid_t *ret_pid, int *ret_pidfd, uint64_t *ret_ticks,
			struct davit_error *err);
/* False when no descriptor above `fd` may be taken any more. */
bool keeper_may_open(const struct keeper *k, int fd, struct davit_error *err);
int keeper_exec(struct keeper *k, struct keeper_slot *s, struct keeper_command *c, const int streams[3],
		bool tty, uint64_t tag, struct keeper_exec_slot **ret, struct davit_error *err);

/* ------------------------------------------------------------ process.c: /proc */
struct keeper_stat {
	int pid, ppid, group, session;
	char state;
	uint64_t start_ticks;
	int exit_status; /* as of wait(2), of a zombie that we may look at */
};
/* 0, or an errno (ESRCH when it is gone). */
int keeper_stat(pid_t pid, struct keeper_stat *ret);
/* A pidfd of the process with that pid and start time, or -1 with errno. */
int keeper_pidfd(pid_t pid, uint64_t start_ticks);
int keeper_pidfd_signal(int pidfd, int signo, unsigned flags);
/* Reads a small file; the length, or -1 with errno. buf is NUL-terminated. */
ssize_t keeper_read_file(const char *dir, const char *name, char *buf, size_t size);
int keeper_write_file(const char *dir, const char *name, const char *value);
/* The value of DAVIT_INSTANCE in /proc/PID/environ; false when there is none. */
bool keeper_environ_id(pid_t pid, char id[24]);
/* The process is of the slot: its main process, of its session or cgroup, a
 * descendant, or marked with DAVIT_INSTANCE. */
bool keeper_is_member(struct keeper *k, const struct keeper_slot *s, pid_t pid);

/* --------------------------------------------------------------- log.c: output */
/* One turn: what is in the pipe, at most KEEPER_CHUNK bytes, goes to the log.
 * True when there may be more to read now. */
bool keeper_log_pump(struct keeper *k, struct keeper_slot *s, enum keeper_stream stream);
/* What epoll says of a stream's pipe: a turn, or its end. */
void keeper_log_ready(struct keeper *k, struct keeper_slot *s, enum keeper_stream stream, uint32_t events);
/* What is in both pipes now; ends lines that are not complete. */
void keeper_log_drain(struct keeper *k, struct keeper_slot *s);
/* Closes the pipes; what could not be written is counted as dropped. */
void keeper_log_close(struct keeper *k, struct keeper_slot *s);
/* Timers: pipes that wait for space, markers of what was dropped. */
void keeper_log_retry(struct keeper *k);
void keeper_log_markers(struct keeper *k);

/* --------------------------------------------------------- segment.c: log files */
/* The open file of the slot's present segment, or -errno. Owned by the cache. */
int keeper_segment_get(struct keeper *k, struct keeper_slot *s);
/* The next byte begins a new segment; old ones above the number are deleted. */
void keeper_segment_rotate(struct keeper *k, struct keeper_slot *s);
void keeper_segment_close(struct keeper *k, const struct keeper_slot *s);

/* ---------------------------------------------------------------- reap.c: exits */
/* The pidfd of the slot (or exec) says that the process ended. */
void keeper_reap(struct keeper *k, struct keeper_slot *s);
void keeper_reap_exec(struct keeper *k, struct keeper_exec_slot *x);
/* Ends the slot's run with s->end as it is. Told unless it is a launch. */
void keeper_reap_finish(struct keeper *k, struct keeper_slot *s);
/* Has it a slot, is it an exec, or a terminal? Every other child is an orphan that came to us. */
bool keeper_is_ours(struct keeper *k, pid_t pid);
/* SIGCHLD: a sweep is due, now or a moment after the last one. */
void keeper_reap_signal(struct keeper *k);
/* How the child of the pidfd ended, and reaps it. False while it lives. */
bool keeper_reap_child(struct keeper_end *e, int pidfd);
/* Reaps every child that has ended; not while something is launched, whose main
 * process must not be reaped before its pid file was read. _pending: if one may
 * have, since the last time. */
void keeper_reap_pending(struct keeper *k);
void keeper_reap_sweep(struct keeper *k);
/* The memory cgroup's count of kills, 0 when there is none. */
uint64_t keeper_oom_kills(struct keeper *k, const struct keeper_slot *s);
/* It has a group in which memory can run out. */
bool keeper_memory_group(struct keeper *k, const struct keeper_slot *s);

/* ------------------------------------------------------ stop.c: until nothing is left */
void keeper_stop(struct keeper *k, struct keeper_slot *s, int signo, uint32_t scope, int64_t grace_ns);
/* The group of the main process. */
void keeper_signal_group(const struct keeper_slot *s, int signo);
/* Something of a stopping slot may have ended. */
void keeper_stop_poke(struct keeper *k, struct keeper_slot *s);
/* The timer: deadlines, and whether they are empty. */
void keeper_stop_tick(struct keeper *k);

/* -------------------------------------------------------- tree.c: all descendants */
/* Sends signo to every process of the slot; kill: SIGKILL by the surest means.
 * The number of processes that were alive, 0 when nothing is left. */
unsigned keeper_tree_signal(struct keeper *k, struct keeper_slot *s, int signo);
/* One of its cgroups is frozen, or is to be. */
bool keeper_frozen(const struct keeper *k, const struct keeper_slot *s);
/* What is alive of each slot in `which` that has no cgroup, by one walk over
 * /proc; each found process is sent signo unless that is 0. Slots without any
 * are put into `empty`. */
void keeper_tree_scan(struct keeper *k, const struct keeper_set *which, int signo, struct keeper_set *empty);

/* --------------------------------------------------------- notify.c: readiness */
/* Makes what the run needs: socket or pipe. *ret_child_fd is the child's end of
 * the pipe, or -1; the variable is for its environment, or empty. */
int keeper_notify_open(struct keeper *k, struct keeper_slot *s, const struct keeper_spawn *f,
		       int *ret_child_fd, char variable[160], struct davit_error *err);
/* The socket of a run that a former keeper started. */
void keeper_notify_reopen(struct keeper *k, struct keeper_slot *s);
void keeper_notify_close(struct keeper *k, struct keeper_slot *s);
void keeper_notify_readable(struct keeper *k, struct keeper_slot *s);
void keeper_ready_readable(struct keeper *k, struct keeper_slot *s);

/* ------------------------------------------ recover.c: after a crash or an upgrade */
void keeper_recover(struct keeper *k);
/* Executes the program anew with all descriptors; returns only on failure. */
int keeper_upgrade(struct keeper *k, uint64_t tag, struct davit_error *err);
/* Takes up what keeper_upgrade left. */
void keeper_upgraded(struct keeper *k);

#endif
