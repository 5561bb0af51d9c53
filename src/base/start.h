/* SPDX-License-Identifier: MIT
 *
 * Starting a program that is ours to wait for. By posix_spawn(3), which is vfork-like: its cost does not grow
 * with the caller's memory.
 */
#ifndef DAVIT_BASE_START_H
#define DAVIT_BASE_START_H

#include <stdbool.h>
#include <sys/types.h>

/* Whose signals from the terminal, and whose kill(2) of a group, reach it. */
enum davit_start_in { DAVIT_START_IN_GROUP, DAVIT_START_IN_OWN_GROUP, DAVIT_START_IN_OWN_SESSION };

/* What is started and how. All is borrowed for the call. */
struct davit_start {
	const char *program; /* a file; not searched for */
	char *const *argv;
	char *const *env;      /* NULL: the caller's */
	const char *directory; /* NULL: the caller's */
	int fds[3]; /* its descriptors 0, 1 and 2; -1: /dev/null. Of the caller's own 0, 1 and 2 each
		       can only stay what it is. */
	enum davit_start_in in;
	bool defaults; /* a signal that the caller ignores (SIGPIPE) does to it what is the default */
	bool closed;   /* no other descriptor goes with it; else those that are not close-on-exec do */
};

/* Executes it with no signal blocked. 0 and the pid, to be waited for by the caller, in *ret; or an errno. */
int davit_start(const struct davit_start *s, pid_t *ret);

/* The short form: with the caller's environment, in a session of its own if `session`. */
int davit_start_program(const char *program, char *const argv[], const int fds[3], bool session, pid_t *ret);

#endif
