/* SPDX-License-Identifier: MIT
 *
 * Between davitd and the keeper: fixed structs over a SOCK_SEQPACKET unix socket
 * (one message, one packet), descriptors beside them (SCM_RIGHTS). All integers
 * are in host order: both ends are on one host. Strings lie behind the struct,
 * each ended by NUL. To a daemon of version 2 the keeper may put several messages, one
 * behind the other, into one packet of at most KEEPER_PACK_MAX; all but the last are
 * multiples of 8 bytes then. A packet above KEEPER_PACKET_MAX travels as a sealed memfd
 * with the header alone in the packet (KEEPER_FLAG_MEMFD).
 *
 * The keeper may be older or newer than the daemon: `version` is told in HELLO,
 * fields are only ever added at the end of structs, and `size` says how long the
 * sender's struct is, so that both know what the other knows.
 *
 * The keeper's own memory is a file, run_dir/keeper-N.slots, mapped shared: a
 * header and one struct keeper_slot per instance. It survives the keeper. A new
 * keeper takes it up: it watches processes by pidfd (pid, start time and boot id
 * verified), reopens their pipes through /proc/PID/fd, and says what it could not
 * recover.
 */
#ifndef DAVIT_KEEPER_PROTOCOL_H
#define DAVIT_KEEPER_PROTOCOL_H

#include <stdint.h>

#define KEEPER_PROTOCOL_VERSION 2
#define KEEPER_PACKET_MAX 65536
#define KEEPER_PACK_MAX 8192
#define KEEPER_SLOTS_MAX 4096 /* instances per keeper: three descriptors each */
#define KEEPER_TERMINALS_MAX 256
#define KEEPER_CLIENTS_MAX 8 /* attached to one terminal */
#define KEEPER_LABEL_MAX 512

enum keeper_type {
	/* davitd -> keeper */
	KEEPER_HELLO = 1, /* first; answered by KEEPER_WELCOME */
	KEEPER_LIST,	  /* answered by one KEEPER_INSTANCE per slot, then KEEPER_DONE */
	KEEPER_CREATE,	  /* takes a slot for an id; answered by DONE */
	KEEPER_SPAWN,	  /* runs the workload of a slot; answered by SPAWNED or DONE(error) */
	KEEPER_EXEC,	  /* a further process beside a slot, standard streams passed as descriptors */
	KEEPER_SIGNAL,	  /* signal to the main process, its group, or all its descendants */
	KEEPER_STOP,	  /* signal, grace, kill, until nothing is left; answered by DONE at the end */
	KEEPER_REMOVE,	  /* frees a slot that does not run; answered by DONE */
	KEEPER_QUIT,	  /* ends the keeper if no slot is taken, or with flag KILL kills all first */
	KEEPER_UPGRADE,	  /* executes the keeper's program anew, in place */
	KEEPER_LAUNCH,	  /* as SPAWN, by a program that starts the workload and ends */
	KEEPER_TERMINAL,  /* a command on a terminal that the keeper holds; answered by ATTACHED */
	KEEPER_ATTACH,	  /* one more client of a terminal; answered by ATTACHED */
	KEEPER_RESIZE,
	KEEPER_TERMINAL_SIGNAL, /* to the foreground group */
	KEEPER_TERMINALS,	/* answered by one TERMINAL_INFO per terminal, then DONE */
	KEEPER_TERMINAL_CLOSE,	/* hang-up, then kill; answered by DONE when it is gone */
	/* keeper -> davitd */
	KEEPER_WELCOME = 64,
	KEEPER_INSTANCE, /* state of one slot: answer to LIST */
	KEEPER_DONE,	 /* end of a request: result and errno, text behind */
	KEEPER_SPAWNED,	 /* pid and start time; for EXEC too */
	KEEPER_EXITED,	 /* event: the main process ended (once per run and connection, until told by LIST) */
	KEEPER_READY,	 /* event: READY=1 or the descriptor's newline */
	KEEPER_STATUS,	 /* event: STATUS= text behind */
	KEEPER_EXEC_EXITED, /* event: a process of EXEC ended */
	KEEPER_ATTACHED,    /* with a descriptor */
	KEEPER_TERMINAL_INFO,
	KEEPER_TERMINAL_EXITED, /* event: the command of a terminal ended, and its output is complete */
};

struct keeper_header {
	uint32_t type;
	uint32_t size;	/* of the fixed struct, header included */
	uint32_t total; /* of the whole message; one that is packed is filled up with NULs */
	uint32_t flags;
	uint64_t tag; /* chosen by davitd, repeated in every answer; 0 in events */
	char id[24];  /* instance, 16 digits and NULs; empty where none is meant */
};

#define KEEPER_FLAG_MEMFD 1u /* body is in the passed memfd */
#define KEEPER_FLAG_KILL 2u  /* QUIT: kill everything first */
#define KEEPER_FLAG_OUTSIDE                                                                                  \
	8u		   /* LAUNCH: the launcher enters no cgroup; it takes the workload into the slot's */
#define KEEPER_FLAG_RAW 4u /* TERMINAL: raw from the start, for a command that passes it on to another */

struct keeper_hello {
	struct keeper_header h;
	uint32_t version;
};

struct keeper_welcome {
	struct keeper_header h;
	uint32_t version;
	int32_t pid;
	uint32_t slots_used, slots_max;
	uint32_t recovered, lost; /* of a predecessor that died: taken up, and could not be */

	/* behind: the build's version string */
};

struct keeper_create {
	struct keeper_header h;
	uint64_t log_max_size;
	uint32_t log_max_files;
	uint32_t log_policy; /* enum davit_log_policy */
	uint64_t log_rate;

	/* behind: label, log directory of the instance, cgroup directories (each
	 * absolute, one per hierarchy, v2 first, ended by an empty string) */
};

struct keeper_rlimit {
	int32_t resource;
	uint32_t pad;
	uint64_t soft, hard;
};

struct keeper_spawn {
	struct keeper_header h;
	uint32_t argc, envc;
	uint32_t uid, gid; /* meaningful with set_user */
	uint32_t set_user;
	uint32_t n_groups;
	uint32_t n_rlimits;
	uint32_t umask;
	uint32_t ready; /* enum davit_ready_signal */
	int32_t ready_fd;
	uint32_t no_new_privileges;
	uint32_t run; /* run number, for the slot */

	/* behind, 8-byte aligned: n_rlimits struct keeper_rlimit, n_groups uint32_t;
	 * then strings: path of the program (already looked up), directory, argv,
	 * env, and the pairs (cgroup file, value) to write at each start, ended by
	 * an empty string */
};

struct keeper_exec {
	struct keeper_header h;
	struct keeper_spawn spawn; /* as SPAWN; its strings follow in the same order */
	/* descriptors: standard input, output, error (or one pty thrice) */
	uint32_t tty;
};

/* The program is not the workload but starts it, writes its pid to a file and ends
 * (`crun run --detach --pid-file F ...`). When it has ended with 0 the process of
 * the pid file, which has become a child of the keeper by then, is the main process
 * of the run: SPAWNED is answered then, with its pid. When the launcher fails, or
 * what it wrote makes no sense, everything of the slot is killed and DONE answered:
 * DAVIT_EEXEC with the last lines of its standard error, or DAVIT_ECANCELED when a
 * STOP came in between; the run does not count. The standard streams are the slot's
 * log, for the launcher as for the workload that inherits them. NOTIFY_SOCKET is not
 * added: whoever builds the request passes run_dir/notify/ID to the workload. */
struct keeper_launch {
	struct keeper_header h;
	uint32_t limit_ms; /* for the launcher; 0: KEEPER_LAUNCH_MS */
	uint32_t pad;
	struct keeper_spawn spawn; /* as SPAWN; its strings follow in the same order */

	/* behind the strings of SPAWN: path of the pid file, absolute, below
	 * KEEPER_PID_FILE_MAX bytes. A file that is there before is removed. */
};
#define KEEPER_LAUNCH_MS 60000
#define KEEPER_PID_FILE_MAX 384

struct keeper_signal {
	struct keeper_header h;
	int32_t signo;
	uint32_t scope;	   /* 0 main process, 1 its group, 2 every descendant */
	uint64_t exec_tag; /* not 0: the process that EXEC with this tag started, or its group */
};

struct keeper_stop {
	struct keeper_header h;
	int32_t signo;
	uint32_t scope; /* of signo: 0 all of it, 1 the main process, which passes it on */
	int64_t grace_ns;
};

enum keeper_slot_state { KEEPER_SLOT_FREE, KEEPER_SLOT_CREATED, KEEPER_SLOT_RUNNING, KEEPER_SLOT_ENDED };

struct keeper_exit {
	uint32_t kind; /* enum davit_exit_kind */
	int32_t code;
	int32_t signal;
	uint32_t core_dumped;
	int64_t time; /* unix ns */
	char reason[96];
};

struct keeper_instance {
	struct keeper_header h;
	uint32_t state; /* enum keeper_slot_state */
	uint32_t run;
	int32_t pid;
	uint32_t ready;
	int64_t started; /* unix ns */
	struct keeper_exit exit;

	/* behind: label, status text */
};

struct keeper_done {
	struct keeper_header h;
	int32_t result; /* 0 or DAVIT_E... */
	int32_t sys_errno;

	/* behind: message */
};

struct keeper_spawned {
	struct keeper_header h;
	int32_t pid;
	uint32_t run;
	int64_t started;      /* unix ns */
	uint64_t start_ticks; /* field 22 of /proc/PID/stat */
};

struct keeper_exited {
	struct keeper_header h;
	uint32_t run;
	uint32_t alone; /* 1: it was the last of the run, and a STOP finds nothing; 0: not known */
	struct keeper_exit exit;
};

/* Terminals. The header's id is the terminal's own, chosen by the daemon, in every
 * message about one. The command goes on without clients; the last DAVIT_SCROLLBACK
 * bytes of its output are kept. A terminal whose command has ended stays until one
 * client has taken all of it and the daemon was told, or until TERMINAL_CLOSE; the
 * oldest of more than a few go. */
struct keeper_terminal {
	struct keeper_header h;
	char slot[24]; /* the instance beside which it runs and with which it ends; empty: none */
	uint32_t rows, columns;
	struct keeper_spawn spawn; /* as EXEC; its strings follow in the same order */

	/* behind the strings of SPAWN: instance and command, for TERMINALS */
};

struct keeper_attach { /* and RESIZE */
	struct keeper_header h;
	uint32_t rows, columns; /* 0: as they are */
};

/* With a descriptor: a stream socket that carries bytes and nothing else. What was
 * printed last comes first; what is written is typed. Its end of file comes when the
 * command has ended and everything was sent. Closing it detaches. A client that does
 * not read makes the command wait if it is the only one; among several it is passed
 * over after a second, and gets only the end of what there is when it reads again. */
struct keeper_attached {
	struct keeper_header h;
	int32_t pid;
	uint32_t rows, columns;
	uint32_t attached;	 /* with this one */
	int64_t started;	 /* unix ns */
	struct keeper_exit exit; /* kind is DAVIT_EXIT_NONE while it runs */

	/* TERMINAL_INFO: behind, instance and command */
};

struct keeper_terminal_signal {
	struct keeper_header h;
	int32_t signo;
	uint32_t pad;
};

struct keeper_event_text {
	struct keeper_header h;
	uint32_t run;

	/* STATUS: behind, the text */
};

#endif
