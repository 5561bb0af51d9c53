/* SPDX-License-Identifier: MIT
 *
 * The daemon: what its files share.
 */
#ifndef DAVIT_DAEMON_H
#define DAVIT_DAEMON_H

#include "base/map.h"
#include "base/paths.h"
#include "core/core.h"
#include "core/secret.h"
#include "daemon/probes.h"
#include "davit/loop.h"
#include "davit/store.h"
#include "net/server.h"

/* How it ends. */
enum daemon_end {
	DAEMON_RUNS,
	DAEMON_QUITS,	 /* lets go of everything; workloads go on */
	DAEMON_UPGRADES, /* executes `program` in its place */
};

struct davit_daemon {
	struct davit_paths paths;
	struct davit_loop *loop;
	struct davit_store *store;
	struct davit_secrets *secrets;
	struct davit_core *core;
	struct davit_http_server *server;
	struct daemon_prober prober;
	int64_t started;  /* unix ns */
	int lock_fd;	  /* held as long as a daemon of this home runs */
	int listen_fd;	  /* a duplicate of the server's, for the one after an upgrade */
	dev_t socket_dev; /* the socket's file, by which it is known as ours */
	ino_t socket_ino;
	struct place *place; /* place.c */
	int self_fd;	     /* the program that runs, whatever its file is by now */
	char *self;	     /* path of its file */
	char *program;	     /* to upgrade to */
	char **argv;
	enum daemon_end end;
	struct runs *runs;	     /* runs.c */
	struct davit_map workspaces; /* names that are being given: name -> order (api_workspaces_init.c) */
	struct davit_timer trim;     /* gives memory back after a burst of requests */
};

/* The one place that names stores and runtimes (table.c). NULL for a name that
 * is none; by index, NULL after the last. */
const struct davit_store_driver *daemon_store(const char *name);
const struct davit_store_driver *daemon_store_at(size_t i);
/* Registers the built-in runtimes, then those that are executables named
 * davit-runtime-NAME, or shared objects named davit-runtime-NAME.so, in
 * <config>/runtimes and <libexec>/runtimes. One of these that cannot be is logged
 * and left out. */
int daemon_add_runtimes(struct davit_daemon *d, struct davit_error *err);
/* Frees what daemon_add_runtimes made; after the core. */
void daemon_free_runtimes(void);

/* Begins the end of the daemon, from the loop. For DAEMON_UPGRADES, d->program
 * was set. */
void daemon_end(struct davit_daemon *d, enum daemon_end how);

/* ---- handover.c: the lock, the socket, and passing both on ---- */

/* Takes over what a predecessor passed on, or locks the home and listens.
 * DAVIT_EINUSE "a daemon runs already (pid N)". */
int daemon_acquire(struct davit_daemon *d, struct davit_error *err);
/* Executes d->program, or if that cannot be the program that runs now. Returns
 * only when neither can. */
int daemon_execute(struct davit_daemon *d, struct davit_error *err);
/* ---- place.c: the socket's name, as long as the daemon runs ---- */

/* The file at the socket's path is ours from now on. */
void daemon_place_learn(struct davit_daemon *d);
bool daemon_place_is_ours(const struct davit_daemon *d);
/* Watches it, and binds the socket anew when it goes; ends the daemon when its home goes. After
 * the server was opened. */
int daemon_place_keep(struct davit_daemon *d, struct davit_error *err);
void daemon_place_leave(struct davit_daemon *d);

/* Tells systemd, when it started us: "READY=1", "STOPPING=1". */
void daemon_notify(const char *state);

/* ---- program.c ---- */

/* Asks a program for its version, to be sure that it is a davitd: 0 or DAVIT_EEXEC. Blocks until it has told,
 * a few milliseconds; what does not is killed after two seconds. */
int daemon_check_program(const char *program, struct davit_error *err);

#endif
