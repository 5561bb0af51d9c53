/* SPDX-License-Identifier: MIT
 *
 * The slots file, RUN_DIR/keeper-N.slots: what the keeper knows, mapped, so that it outlives
 * the program. Its parts, one behind the other:
 *
 *   struct keeper_file		the header, with the execs and the bases of directories
 *   struct keeper_slot		one for each instance
 *   KEEPER_EXTRA_SIZE bytes	for each slot: strings that do not fit in it (strings.c)
 *   struct keeper_launching	for each slot: its launch (launch.h)
 *   struct keeper_term		one for each terminal (terminal.h)
 *
 * A keeper reads the file of the one before it, be that dead or of another version: a part
 * keeps its size, a field its place, and what is new takes from `spare` or comes at the end.
 */
#ifndef DAVIT_KEEPER_SLOTS_H
#define DAVIT_KEEPER_SLOTS_H

#include "keeper/protocol.h"

#include <sys/resource.h>

#define KEEPER_MAGIC "DAVITKP"
#define KEEPER_FILE_VERSION 3 /* of the slots file */
#define KEEPER_FILE_OLDEST 2  /* that is read: each version has added to the end of the one before */
#define KEEPER_EXECS_MAX 256
#define KEEPER_STOP_TAGS 4
#define KEEPER_NONE UINT32_MAX
#define KEEPER_BASES 24 /* common beginnings of directories; codes stay below ' ' */
#define KEEPER_BASE_MAX 512
#define KEEPER_STATUS_MAX 128

enum keeper_stream { KEEPER_OUT, KEEPER_ERR };

/* struct keeper_slot.flags */
enum {
	KEEPER_CHILD = 1 << 0, /* the main process is our own child: waitid works */
	KEEPER_IS_READY = 1 << 1,
	KEEPER_TELL_EXITED = 1 << 2, /* events that the daemon has not been sent yet */
	KEEPER_TELL_READY = 1 << 3,
	KEEPER_TELL_STATUS = 1 << 4,
	KEEPER_TELL_STOPPED = 1 << 5,
	KEEPER_PARTIAL = 1 << 6,    /* and << stream: the last record of the stream was a P */
	KEEPER_CUT = 1 << 8,	    /* and << stream: the rest of the line is dropped */
	KEEPER_LOG_KNOWN = 1 << 10, /* log_offset and log_segment were read from the directory */
	KEEPER_CGROUP2 = 1 << 11,   /* the first cgroup is of the v2 hierarchy */
	KEEPER_EXTRA = 1 << 12,	    /* the strings are in the slot's page (strings.c) */
	KEEPER_LAUNCHING = 1 << 13, /* the main process is a launcher: see launch.h */
	KEEPER_TELL_LAUNCHED = 1 << 14,
	KEEPER_ALONE = 1 << 15, /* the run ended, and nothing was left of it */
	/* Its v2 group was killed by cgroup.kill once: kernels of 2025 (6.14, and the others of
	 * that age) kill at birth what is cloned into such a group. What is started there enters it itself.
	 */
	KEEPER_GROUP_KILLED = 1 << 16,
};
#define KEEPER_TELL                                                                                          \
	(KEEPER_TELL_EXITED | KEEPER_TELL_READY | KEEPER_TELL_STATUS | KEEPER_TELL_STOPPED |                 \
	 KEEPER_TELL_LAUNCHED)

enum keeper_stop_phase { KEEPER_STOP_NONE, KEEPER_STOP_GRACE, KEEPER_STOP_KILL };

/* How a process ended; why it is not known, as a number. */
enum keeper_why {
	KEEPER_WHY_NONE,
	KEEPER_WHY_MEMORY,
	KEEPER_WHY_FOREIGN,
	KEEPER_WHY_DOWN,
	KEEPER_WHY_LAUNCH, /* the words are in the slot's struct keeper_launching */
};
struct keeper_end {
	uint8_t kind; /* enum davit_exit_kind */
	uint8_t core_dumped;
	uint8_t why;
	uint8_t signal;
	int32_t code;
	int64_t time; /* unix ns */
};

/* One instance. Of fixed size and layout; a later version may only use `spare`.
 * Descriptors are numbers of the keeper that header.keeper_pid names, -1 where
 * there is none; they mean something after an upgrade, not after a crash. */
struct keeper_slot {
	char id[24];
	uint8_t state;		 /* enum keeper_slot_state */
	uint8_t stop_phase;	 /* enum keeper_stop_phase */
	uint8_t notify_wanted;	 /* the run tells its readiness by socket */
	uint8_t notify_abstract; /* which is in the abstract namespace */
	uint8_t stop_signal;
	uint8_t n_stop_tags;
	uint8_t log_policy;
	uint32_t flags;
	uint32_t run;
	uint32_t generation;	/* of the descriptors, against events of closed ones */
	int32_t pid;		/* main process, 0 when it does not run */
	int32_t session;	/* of the run: the first process, whatever MAINPID said later */
	uint64_t start_ticks;	/* field 22 of /proc/PID/stat, of pid */
	uint64_t session_ticks; /* the same of the first process */
	int64_t started;	/* unix ns */
	uint64_t pipe_inode[2];
	int32_t fd_pid, fd_pipe[2], fd_ready, fd_notify, fd_cgroup;
	uint64_t oom_kills; /* of the memory cgroup when the run began */
	struct keeper_end end;

	int64_t stop_deadline; /* monotonic ns */
	uint64_t stop_tags[KEEPER_STOP_TAGS];

	uint64_t log_max_size;
	uint64_t log_rate;
	uint64_t log_offset;		       /* bytes ever written */
	uint64_t log_segment;		       /* offset of the first byte of the present file */
	int64_t log_tokens;		       /* of the bucket; may be negative */
	int64_t log_refilled;		       /* monotonic ns */
	uint64_t dropped_lines, dropped_bytes; /* not yet told by a marker */

	/* A run in the making: pid, written by the child itself before it executes
	 * the program, and run number. A keeper that dies right then loses nothing. */
	int32_t spawning;
	uint32_t spawning_run;
	uint32_t log_max_files;
	uint32_t spare[5];
	uint16_t log_dir_at, status_at; /* in the strings: see strings.c */
	char text[100];
};
#define KEEPER_SLOT_SIZE 384
_Static_assert(sizeof(struct keeper_slot) == KEEPER_SLOT_SIZE, "the file's layout");
#define KEEPER_EXTRA_SIZE 4096 /* a page: strings that do not fit in the slot */

/* A launch of a slot: kept beside it. */
struct keeper_launching {
	uint32_t phase;	  /* enum keeper_launch_phase */
	int32_t result;	  /* of one that failed */
	uint64_t tag;	  /* of LAUNCH, 0 when nobody waits for the answer any more */
	int64_t deadline; /* monotonic ns */
	/* What the slot was before, and is again when the launch fails. */
	uint32_t run, state;
	int64_t started;
	int32_t session;
	uint32_t heard; /* bytes in `message`: the tail of standard error, while it runs */
	uint64_t session_ticks;
	struct keeper_end end;
	char pid_file[KEEPER_PID_FILE_MAX];
	char message[448];
	char spare[120];
};
#define KEEPER_LAUNCHING_SIZE 1024
_Static_assert(sizeof(struct keeper_launching) == KEEPER_LAUNCHING_SIZE, "the file's layout");

/* A process started by EXEC. */
struct keeper_exec_slot {
	uint32_t used;
	uint32_t slot;
	uint32_t generation;
	int32_t pid; /* 0: ended, not told yet */
	uint64_t start_ticks;
	uint64_t tag;
	int32_t fd_pid;
	uint32_t child;
	struct keeper_end end;
};

struct keeper_file {
	char magic[8];
	uint32_t version, slot_size;
	char boot_id[40];
	int32_t keeper_pid;
	uint32_t upgrading; /* written just before the program executes itself anew: 1, or 2 when `packs` */
	uint64_t upgrade_tag;
	int32_t fd_listen, fd_lock, fd_conn; /* while upgrading */
	uint32_t high;			     /* one past the highest slot that was ever used */
	struct rlimit nofile;		     /* that the keeper was started with, for its children */
	char bases[KEEPER_BASES][KEEPER_BASE_MAX];
	struct keeper_exec_slot execs[KEEPER_EXECS_MAX];
};

/* A client of a terminal; free when fd is -1. */
struct keeper_term_client {
	int32_t fd;
	uint32_t generation;
	uint64_t at;	 /* of `written`: what it gets next */
	int64_t stalled; /* monotonic ns since when it takes nothing, 0: it does */
	uint32_t events; /* what epoll watches it for; 0: not at all */
	uint32_t slow;	 /* nobody waits for it any more */
};

/* A terminal: see terminal.h. What it printed is in a memory file of its own,
 * which an upgrade keeps and a crash loses. */
struct keeper_term {
	uint32_t used;
	uint32_t generation;
	char id[24], instance[24], command[128];
	uint32_t slot; /* or KEEPER_NONE */
	int32_t pid;   /* 0: ended */
	uint64_t start_ticks;
	int64_t started; /* unix ns */
	int32_t fd_pid, fd_master, fd_ring;
	uint16_t rows, columns;
	uint32_t events;  /* what epoll watches the master for */
	uint32_t blocked; /* the command does not take input now */
	uint32_t hung_up; /* nobody has the other side open */
	uint32_t told;	  /* its end */
	uint32_t taken;	  /* by a client, to the end */
	uint32_t n_closing;
	uint64_t closing[4]; /* tags of TERMINAL_CLOSE */
	int64_t kill_at;     /* monotonic ns; 0: not closing */
	struct keeper_end end;
	uint64_t written; /* bytes ever */
	struct keeper_term_client clients[KEEPER_CLIENTS_MAX];
	char spare[456];
};
#define KEEPER_TERM_SIZE 1024
_Static_assert(sizeof(struct keeper_term) == KEEPER_TERM_SIZE, "the file's layout");

/* Where each part begins, and the whole. */
#define KEEPER_SLOTS_AT ((sizeof(struct keeper_file) + 4095) & ~(size_t)4095)
#define KEEPER_EXTRA_AT (KEEPER_SLOTS_AT + (size_t)KEEPER_SLOTS_MAX * KEEPER_SLOT_SIZE)
#define KEEPER_LAUNCHES_AT (KEEPER_EXTRA_AT + (size_t)KEEPER_SLOTS_MAX * KEEPER_EXTRA_SIZE)
#define KEEPER_TERMS_AT (KEEPER_LAUNCHES_AT + (size_t)KEEPER_SLOTS_MAX * KEEPER_LAUNCHING_SIZE)
#define KEEPER_FILE_SIZE (KEEPER_TERMS_AT + (size_t)KEEPER_TERMINALS_MAX * KEEPER_TERM_SIZE)

#endif
