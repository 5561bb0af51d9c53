/* SPDX-License-Identifier: MIT
 *
 * All that differs between the two engines. Nothing else in this folder knows
 * which one it speaks to.
 */
#ifndef DAVIT_ENGINE_FLAVOUR_H
#define DAVIT_ENGINE_FLAVOUR_H

#include "davit/error.h"

#include <stdbool.h>

struct engine_flavour {
	const char *name;
	/* Where its socket is, the first that is set: a path, a "unix://" address, a
	 * file of the system's, one below $XDG_RUNTIME_DIR for who is not root. */
	const char *path_variable, *host_variable, *system_socket, *user_socket;
	/* The event of a container that is gone. */
	const char *gone_event;
	/* The limits that it gives by default may be above what it is allowed to set. */
	bool limits_always;
	/* The stamps in its logs API are whole seconds; it can write its log, with exact
	 * ones, to a file of ours instead. */
	bool log_to_file;
	/* A kill for lack of memory is told from others. */
	bool reports_oom;
	/* Labels of a volume are told in its list, and labels given at create are kept. */
	const char *no_oom; /* why not, otherwise */
	/* What it reports of block I/O and of memory that is a cache. */
	const char *log_driver;
};

extern const struct engine_flavour engine_docker, engine_podman;

/* The path of the socket: a heap string, or NULL with the reason. */
char *engine_flavour_socket(const struct engine_flavour *f, struct davit_error *err);

#endif
