/* SPDX-License-Identifier: MIT
 *
 * Runs of plans, as files. A run is a directory, and all that is known of it is in there; whoever holds its
 * lock is its host (davit-run), which may die at any moment and be started again. The daemon starts hosts
 * and reads; it is asked for nothing while a run goes on.
 *
 *   STATE/runs/ID/about.json   who it is: written once. Who reads its events holds a shared lock on it
 *   STATE/runs/ID/plan.json    what is to be done (docs/plans.md): written once
 *   STATE/runs/ID/journal      what has happened, a line each, on the disk before anything follows from it
 *   STATE/runs/ID/events       what is told to those who watch, a line each: {"id": 1, ...}
 *   STATE/runs/ID/lock         held by its host, and has its pid
 *   STATE/runs/ID/abort        there once it is to end: "aborted", or "forced"
 *   STATE/runs/ID/holds        artifacts that it needs, an id a line; while it has not ended
 *   STATE/runs/ID/end.json     how it has ended; the last to be written
 *   CACHE/runs/ID/             what its steps need on the way
 *
 * All functions do short file operations.
 */
#ifndef DAVIT_RUN_H
#define DAVIT_RUN_H

#include "base/paths.h"
#include "base/util.h"
#include "davit/error.h"

#include <jansson.h>

#define DAVIT_RUN_ID 6	    /* small letters and digits */
#define DAVIT_RUN_ID_MAX 7  /* and a NUL */
#define DAVIT_RUNS_KEEP 200 /* ended runs, as long as no other number is given */
#define DAVIT_RUNS_AGE (INT64_C(14) * 86400 * 1000000000)

/* "STATE/runs/ID", a heap string; NULL when out of memory. */
char *davit_run_path(const struct davit_paths *paths, const char *id);
/* "CACHE/runs/ID", likewise. */
char *davit_run_work_path(const struct davit_paths *paths, const char *id);

/* Makes a run, durably. about and plan are borrowed; "id" and "created" are added to about, whose "holds" are
 * the ids of artifacts that it needs from the first on. */
int davit_run_create(const struct davit_paths *paths, json_t *about, const json_t *plan, int64_t now,
		     char ret_id[DAVIT_RUN_ID_MAX], struct davit_error *err);

enum davit_run_state {
	DAVIT_RUN_WAITING, /* no host has it just now: one is to be started */
	DAVIT_RUN_RUNNING,
	DAVIT_RUN_ENDED,
};

/* What a run is. davit_run_fini. */
struct davit_run {
	char id[DAVIT_RUN_ID_MAX];
	enum davit_run_state state;
	pid_t host;	/* of a running one, or 0 while it begins */
	json_t *about;	/* never NULL */
	json_t *end;	/* of one that has ended, else NULL */
	uint64_t bytes; /* of its events and journal */
};

/* The run of this id, or of the only one that begins so. DAVIT_ENOENT; DAVIT_EINVAL for what cannot be one,
 * or begins several. */
int davit_run_find(const struct davit_paths *paths, const char *id, struct davit_run *ret,
		   struct davit_error *err);
void davit_run_fini(struct davit_run *r);
/* Calls fn with each, the oldest first, until it returns another value than 0, which is returned. One that
 * cannot be read is passed over. */
int davit_runs_each(const struct davit_paths *paths, int (*fn)(void *user, const struct davit_run *r),
		    void *user, struct davit_error *err);
/* Its plan. *ret is owned. */
int davit_run_plan(const struct davit_paths *paths, const char *id, json_t **ret, struct davit_error *err);

/* Its host is to end it; durable. A forced one after another is obeyed too. DAVIT_ESTATE: it has ended. */
int davit_run_abort(const struct davit_paths *paths, const char *id, bool force, struct davit_error *err);

/* Its events. The descriptor keeps it from being removed; the caller closes both. */
int davit_run_open_events(const struct davit_paths *paths, const char *id, int *ret_fd, int *ret_hold,
			  struct davit_error *err);
/* Has the run ended, and are all its events written? */
bool davit_run_has_ended(const struct davit_paths *paths, const char *id);

/* Removes one that has ended. DAVIT_ESTATE: it has not; DAVIT_EINUSE: somebody reads it. */
int davit_run_remove(const struct davit_paths *paths, const char *id, struct davit_error *err);

/* What a collection did with a run, and why, as a clause. Borrowed during the call. */
typedef void davit_run_collected_fn(void *user, const struct davit_run *r, bool removed, const char *why);
/* Removes runs that have ended: all but the last `keep`, and those that ended before now - age (ns). Never
 * one that is in use. fn may be NULL. */
int davit_runs_collect(const struct davit_paths *paths, size_t keep, int64_t age, int64_t now,
		       davit_run_collected_fn *fn, void *user, struct davit_error *err);

#endif
