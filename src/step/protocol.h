/* SPDX-License-Identifier: MIT
 *
 * What the library and davit-step say to each other.
 *
 * The helper is started with these descriptors, and no arguments that matter:
 *   3  a SOCK_SEQPACKET socket: orders in, reports out. Its other end closed means that nobody wants
 *      the step any more: it ends at once, and removes its directory
 *   4  the order of the step: records as below, in a memory file
 *   5  an eventfd, written whenever more output is in the files
 *   6, 7  the files for what it writes to stdout and stderr
 *   8  the lock of the step's directory, which says that it is in use
 *   9  what the program reads on standard input, if the options say that there is something
 * Beyond: locks that hold its trees and caches. None of them reaches the step's program.
 *
 * A durable step outlives who asked for it. `control` in its directory is a socket that listens, there before
 * the program is started; the file of the lock begins with the last report, once there is one, and has at
 * STEP_LOCK_ORDER what the library needs of the order (durable.c). Who connects sends STEP_ORDER_ATTACH with
 * an eventfd, and is told what it has missed; the one before is hung up on. The directory stays until an
 * order says that it may go.
 */
#ifndef DAVIT_STEP_PROTOCOL_H
#define DAVIT_STEP_PROTOCOL_H

#include <stdint.h>

enum {
	STEP_FD_CONTROL = 3,
	STEP_FD_ORDER,
	STEP_FD_WAKE,
	STEP_FD_OUT,
	STEP_FD_ERR,
	STEP_FD_LOCK,
	STEP_FDS,
	STEP_FD_INPUT = STEP_FDS
};

/* A record: a header, then `length` bytes, the last of them NUL, then padding to 8. */
struct step_record {
	uint32_t tag;
	uint32_t length;
	char text[];
};

#define STEP_RECORD_PAD(n) (((n) + 7u) & ~7u)

enum step_tag {
	STEP_DIRECTORY = 1, /* the step's own, absolute: the first record */
	STEP_OPTIONS,	    /* struct step_options */
	STEP_ROOT,	    /* a lower directory of a root of its own, the highest first */
	STEP_HIDE,	    /* a path of the host to cover: what belongs to davit */
	STEP_MOUNT,	    /* a letter of enum step_mount, the source, NUL, the target: in path order */
	STEP_CGROUP,	    /* a directory to put it in */
	STEP_PATH,	    /* the program */
	STEP_ARG,	    /* beside its name */
	STEP_ENV,
	STEP_CHDIR,
	STEP_USER,
	STEP_DRIVER, /* a program that runs it elsewhere, and its argument: PROGRAM NUL RUNTIME. It plays init
		      */
	STEP_IMAGE,  /* the name of the image, for a driver */
	STEP_RELEASE, /* a file that says that something is in use: removed at the end */
};

enum step_mount {
	STEP_MOUNT_OVER = 'o', /* copy-on-write over the source */
	STEP_MOUNT_COPY =
		'c', /* a copy of the source in the directory that follows: SOURCE NUL COPY NUL TARGET */
	STEP_MOUNT_BIND = 'b', /* the source itself, to be written to */
};

struct step_options {
	int64_t timeout, grace; /* ns; timeout 0: none */
	uint64_t log_max;
	uint64_t memory;	/* for a driver, as the next: bytes; 0: any */
	int64_t cpu_millicores; /* 0: any */
	uint32_t privileged, hermetic;
	uint32_t processes; /* by RLIMIT_NPROC of its user namespace; 0: not so */
	uint32_t durable;   /* see above */
	uint32_t plain;	    /* the program runs on the host as it is */
	uint32_t input;	    /* there is STEP_FD_INPUT */
	uint32_t pid_max;   /* of its pid namespace; 0: as it is */
	uint32_t rootless;  /* of a driver to what is inside: in a user namespace that has one user */
};

/* Orders: one packet each. */
enum step_verb {
	STEP_ORDER_ABORT = 1,
	STEP_ORDER_KILL,
	STEP_ORDER_SIGNAL,
	STEP_ORDER_ATTACH,
	STEP_ORDER_FORGET
};
struct step_order {
	uint32_t verb;
	int32_t signo;
};

/* Reports: one packet each, cut after the text. */
enum step_kind { STEP_STARTED = 1, STEP_NOTE, STEP_FAILED, STEP_ENDED };

struct step_report {
	uint32_t kind;
	int32_t code;	   /* FAILED: DAVIT_E... */
	int32_t sys_errno; /* FAILED: or 0 */
	int32_t status;	   /* ENDED: as from waitpid */
	uint32_t aborted, timed_out;
	uint32_t out_of_memory, unused; /* ENDED: of what runs elsewhere */
	int64_t started, ended;		/* unix ns */
	int64_t cpu_user, cpu_system;
	uint64_t memory_peak;
	uint64_t bytes[2], dropped[2];
	char text[440]; /* NOTE, FAILED: a sentence */
};

/* In the file of the lock, behind the last report: the pids of the monitor and of what it waits for, as text,
 * for who wants to join the step (intercept.c); and the order. */
#define STEP_LOCK_PROCESSES 960
#define STEP_LOCK_ORDER 1024
_Static_assert(sizeof(struct step_report) <= STEP_LOCK_PROCESSES, "these are behind the report");

/* What `davit-step inside`, the first process of a container, says by its stdout. Its stdin has the order
 * (its length first, as a uint64_t), then struct step_order; at its end it ends everything. */
enum step_channel { STEP_CHANNEL_OUT, STEP_CHANNEL_ERR, STEP_CHANNEL_REPORT };
struct step_packet {
	uint32_t channel, length; /* of what follows */
};
#define STEP_PACKET_MAX 65536

/* Where a driver that runs the step on this host after all has a file with the pid of its first process, in
 * the step's directory: then who joins in needs no driver. */
#define STEP_PID_FILE "pid"

/* A driver's descriptors: the socket to the monitor, where it is as init is, the order, and where the
 * streams go, and standard input if there is any, which is STEP_INSIDE_INPUT over there. If the order has
 * cgroups, a byte on the socket says that it is in them. Its arguments:
 * RUNTIME, or RUNTIME "remove" ID after one that was killed. */
enum { STEP_DRIVER_STATUS = 3, STEP_DRIVER_ORDER, STEP_DRIVER_OUT, STEP_DRIVER_ERR, STEP_DRIVER_INPUT };
#define STEP_INSIDE_DIRECTORY "/.davit"
#define STEP_INSIDE_PROGRAM "/.davit/davit-step"
#define STEP_INSIDE_INPUT "/.davit/input"

#endif
