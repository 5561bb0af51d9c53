/* SPDX-License-Identifier: MIT
 *
 * Starting a program that is ours to wait for.
 */
#ifndef DAVIT_BASE_START_H
#define DAVIT_BASE_START_H

#include <stdbool.h>
#include <sys/types.h>

/* Executes the file `program` with argv, the caller's environment, no signal blocked, and fds as its
 * descriptors 0, 1 and 2 (-1: /dev/null); in a session of its own if `session`. Descriptors that are not
 * close-on-exec go with it. 0 and the pid, to be waited for by the caller, in *ret; or an errno.
 * By posix_spawn(3), which is vfork-like: its cost does not grow with the caller's memory. */
int davit_start_program(const char *program, char *const argv[], const int fds[3], bool session, pid_t *ret);

#endif
