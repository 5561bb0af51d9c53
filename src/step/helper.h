/* SPDX-License-Identifier: MIT
 *
 * davit-step: the keeper of one step. Two processes:
 *
 *   the monitor (monitor.c)  in the caller's namespaces: writes the streams to their files, watches the
 *                            clock, the caller and the step, reports, removes the step's directory
 *   init (init.c)            the first process of the step's namespaces: makes the mounts (mounts.c),
 *                            starts the program (program.c), waits for it and for what it leaves
 *
 * Init dies with the monitor, and with init everything that the step ever started.
 *
 * Where a step runs elsewhere, a driver (another program) is in init's place, and `davit-step inside`
 * (inside.c) is the first process over there, with an init of its own.
 */
#ifndef DAVIT_STEP_HELPER_H
#define DAVIT_STEP_HELPER_H

#include "base/util.h"
#include "step/protocol.h"

#include <sys/types.h>

struct step_mount_order {
	char kind;
	const char *source, *copy, *target; /* copy: of STEP_MOUNT_COPY */
};

/* The order, decoded; texts are borrowed from the mapped file. */
struct step {
	const char *directory; /* the step's own */
	struct step_options options;
	const char **roots; /* lower directories, the highest first; none: the host's root */
	const char **hide;
	struct step_mount_order *mounts;
	const char **cgroups;
	const char *path, **argv; /* argv[0] is path; ends with NULL */
	const char **env;	  /* ends with NULL */
	const char *chdir, *user, *release;
	const char *driver, *runtime, *image;
	size_t n_roots, n_hide, n_mounts, n_cgroups, n_argv, n_env;

	bool rootless;	 /* in a user namespace of its own */
	bool intercepts; /* the program joins a step that runs, with the streams that it has */
	bool inside;	 /* in a container that somebody else made */
	int status_fd;	 /* init's end of the socket to the monitor */
};

/* order.c: reads the order. False when it is malformed or memory is short. */
bool step_order_read(int fd, struct step *ret);
/* The same of `n` bytes, which must stay. */
bool step_order_parse(const char *p, size_t n, struct step *ret);

/* listen.c: makes the socket of a durable step in its directory. The descriptor, or -1 with errno. */
int step_listen(const char *directory);
/* Who connects takes the places of STEP_FD_CONTROL and STEP_FD_WAKE. False when nobody did. */
bool step_accept(int listener);
/* Writes the last report into the file of the lock, at once or not at all. */
void step_keep_result(const struct step_report *r);

/* init.c: the first process of the namespaces. Waits for one byte on status_fd before it makes mounts, and
 * for another, which says that it is in its cgroups, before it starts the program; reports there, and never
 * returns. */
void step_init(struct step *s, int out, int err) __attribute__((noreturn));
/* The same where the namespaces and mounts are made already. */
void step_init_inside(struct step *s, int out, int err) __attribute__((noreturn));
/* report.c: to status_fd. */
void step_report(struct step *s, const struct step_report *r);
/* Reports that the step cannot be run, and ends. sys_errno may be 0. */
void step_fail(struct step *s, int code, int sys_errno, const char *fmt, ...)
	__attribute__((noreturn, format(printf, 4, 5)));
void step_note(struct step *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* intercept.c: notes in the lock's file which processes this step is, for who wants to join it. */
void step_tell_intercept(pid_t init);
/* `davit-step intercept DIRECTORY COMMAND...`: its exit status. The arguments begin with the directory. */
int step_intercept(int argc, char **argv);

/* inside.c: `davit-step inside`: runs the order that comes by stdin. */
int step_inside(void);

/* mounts.c: makes the step's file system and enters it. */
void step_enter_root(struct step *s);
/* The same file system, but for /proc, at "root" in the step's directory, for who makes the other namespaces
 * and enters it: a descriptor of it. In mount namespaces of its own. */
int step_make_root(struct step *s);

/* What a step's program may as root (program.c): a build has to own, change and run files as any user, and to
 * listen on low ports. */
#define STEP_RIGHTS                                                                                          \
	CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_SETPCAP,  \
		CAP_NET_BIND_SERVICE, CAP_SYS_CHROOT, CAP_SETFCAP

/* program.c: adds "NAME=value", which must stay; without memory it is not there. */
void step_add_env(struct step *s, const char *text);

/* program.c: becomes the program. Reports an error's errno and what failed by way of `fd`, which
 * closes when the program runs. */
struct step_exec_failure {
	int sys_errno;
	char what[256]; /* "cannot execute /x"; DAVIT_EEXEC if exec failed, else DAVIT_EINVAL */
	int code;
};
void step_program(struct step *s, int out, int err, int fd) __attribute__((noreturn));

#endif
