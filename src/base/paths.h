/* SPDX-License-Identifier: MIT
 *
 * Where a davit keeps its things. DAVIT_HOME names one directory for all of
 * them, so that several daemons live side by side; without it root uses the
 * system's directories and others the XDG base directories.
 */
#ifndef DAVIT_BASE_PATHS_H
#define DAVIT_BASE_PATHS_H

#include "davit/error.h"

/* Heap strings, all absolute. */
struct davit_paths {
	char *state;   /* store, secrets' key: DAVIT_HOME/state, /var/lib/davit, $XDG_STATE_HOME/davit */
	char *run;     /* sockets, slots: DAVIT_HOME/run, /run/davit, $XDG_RUNTIME_DIR/davit */
	char *log;     /* DAVIT_HOME/log, /var/log/davit, $XDG_STATE_HOME/davit/log */
	char *cache;   /* builds: DAVIT_HOME/cache, /var/cache/davit, $XDG_CACHE_HOME/davit */
	char *socket;  /* run/davit.sock */
	char *config;  /* /etc/davit, $XDG_CONFIG_HOME/davit, DAVIT_HOME/config: cells, profiles */
	char *bin;     /* directory of the running program */
	char *libexec; /* davitd, davit-keeper, davit-build: beside the program, or ../lib/davit */
	char *share;   /* cells and examples: the source tree's root, or ../share/davit */
};

/* Computes the paths from the environment; creates nothing. */
int davit_paths_init(struct davit_paths *p, struct davit_error *err);
/* Makes state, run, log and cache, 0700. */
int davit_paths_make(const struct davit_paths *p, struct davit_error *err);
void davit_paths_fini(struct davit_paths *p);

/* The path of a program that stands beside the running one; owned. NULL with errno. */
char *davit_beside_program(const char *name);
/* The path of somebody else's program, where packages put them: a daemon's and a user's own PATH may lack
 * the sbin. A name with a slash is that path. Owned; NULL when there is none, or no memory. */
char *davit_installed_program(const char *name);

#endif
