/* SPDX-License-Identifier: MIT
 *
 * A command with a terminal in a container.
 */
#ifndef DAVIT_ENGINE_TERMINAL_COMMAND_H
#define DAVIT_ENGINE_TERMINAL_COMMAND_H

#include "runtime/engine/terminal/api.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct command {
	struct api api;
	const char *container;
	char id[65]; /* the engine's */
	pid_t pid;   /* on this host; 0: not known yet */
};

/* Makes it; it does not run. user, directory "": the container's. */
int command_make(struct command *c, const char *user, const char *directory, char *const *argv,
		 char *const *env, struct davit_error *err);
/* Runs it: its stream, and what has come of it already. */
int command_start(struct command *c, int *ret_fd, struct davit_buf *early, struct davit_error *err);
/* Whether it runs, and its exit code if it has ended. */
int command_look(struct command *c, bool *ret_runs, int *ret_code, struct davit_error *err);
/* To the foreground group of its terminal; SIGHUP and SIGKILL to itself too. False when
 * that cannot be: it does not run, or is not one of this host. */
bool command_signal(struct command *c, int signo);
/* Asks for a size. The answer comes on *ret_fd, for api_status: 200 or 201; anything else
 * may be because it does not run yet. */
int command_resize(const struct command *c, uint16_t rows, uint16_t columns, int *ret_fd);

#endif
