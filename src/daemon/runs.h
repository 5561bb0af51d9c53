/* SPDX-License-Identifier: MIT
 *
 * The hosts of runs (run/run.h), as the daemon sees to them: each run that has not ended has one, and one
 * that has died gets another, a little later each time. A daemon that comes after another finds them by
 * their locks.
 */
#ifndef DAVIT_DAEMON_RUNS_H
#define DAVIT_DAEMON_RUNS_H

#include "daemon/daemon.h"
#include "run/run.h"

struct runs;

/* Finds all runs, and starts the hosts that are missing. *ret is owned: runs_close. */
int runs_open(struct davit_daemon *d, struct runs **ret, struct davit_error *err);
/* Hosts go on. NULL is fine. The loop has to run once more. */
void runs_close(struct runs *r);
/* There is a new run: starts its host. What cannot be started now is tried again. */
void runs_start(struct runs *r, const char *id);
/* Aborts all, and calls fn from the loop once none is left: before the daemon stops with everything. After
 * the grace they are ended by force, and are not waited for much longer. */
void runs_abort_all(struct runs *r, void (*fn)(void *user), void *user);

struct api_call;

/* The run that a call's path names: 0, or a code after the error was answered. davit_run_fini. */
int api_run(struct api_call *call, struct davit_run *ret);

#endif
