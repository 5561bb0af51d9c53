/* SPDX-License-Identifier: MIT
 *
 * Runs a program and waits for it, as the tools of a build are run: no shell,
 * an environment of its own, a deadline, and nothing left behind.
 */
#ifndef DAVIT_SOURCE_RUN_H
#define DAVIT_SOURCE_RUN_H

#include "base/buf.h"
#include "davit/error.h"

struct davit_run {
	char *const *argv;	/* argv[0] with a slash, or looked up in the PATH of env */
	char *const *env;	/* all of it */
	const char *directory;	/* NULL: this process's */
	int64_t deadline;	/* monotonic ns; 0: none */
	struct davit_buf *out;	/* standard output goes here and not to ours; may be NULL */
	struct davit_buf *seen; /* standard error goes here and to ours; may be NULL */
};

/* Monotonic nanoseconds. */
int64_t davit_run_now(void);

/* The file that executing `name` with this environment means, a heap string;
 * NULL when there is none. */
char *davit_run_find(const char *name, char *const *env);

/* Runs it to its end; blocks. 0 with the status as waitpid gives it. When the
 * deadline passes it is killed with all that descends from it: DAVIT_ETIMEDOUT.
 * What it left running in the background is killed too: the caller must be a
 * child subreaper (davit_run_init) and have no other children. Captures are cut
 * at 64 KiB. */
int davit_run(const struct davit_run *run, int *ret_status, struct davit_error *err);

/* Makes this process the reaper of what its children leave. */
int davit_run_init(struct davit_error *err);

/* 0 for a clean exit, else `code` with "LABEL failed with exit code N" or
 * "LABEL was killed by SIGNAL". */
int davit_run_check(int status, int code, const char *label, struct davit_error *err);

#endif
