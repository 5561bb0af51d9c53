/* SPDX-License-Identifier: MIT
 *
 * The thread that writes. It takes all that is queued as one SQLite transaction
 * (one fsync), and hands the jobs back with their results. Not for use outside
 * src/store/sqlite.
 */
#ifndef DAVIT_STORE_SQLITE_WRITER_H
#define DAVIT_STORE_SQLITE_WRITER_H

#include "base/list.h"
#include "davit/store.h"

/* What a job changed in one key. */
struct davit_sqlite_event {
	const char *key;
	const void *value;
	size_t len;
	size_t order; /* in which it happened within the job */
	bool deleted;
	char *owned; /* the key, when it is not one of the job's changes */
};

struct davit_sqlite_job {
	struct davit_list link;
	/* The loop's. NULL once the caller gave up on it. */
	struct davit_store_txn *txn;
	struct davit_store_change *changes; /* owned, with values */
	size_t n;
	size_t bytes;
	/* The writer's, read by the loop once the job is done. */
	struct davit_sqlite_event *events; /* as they happened */
	size_t events_len, events_cap;
	int64_t revision;
	struct davit_error error; /* code 0: committed */
};

struct davit_sqlite_writer;

/* Connects and starts the thread. `done` is called on that thread when
 * davit_sqlite_writer_take has something new. path is borrowed. */
int davit_sqlite_writer_start(const char *path, void (*done)(void *user), void *user,
			      struct davit_sqlite_writer **ret, struct davit_error *err);
/* Commits what is queued, ends the thread and closes its connection. What is
 * done then is moved to `done`. */
void davit_sqlite_writer_stop(struct davit_sqlite_writer *w, struct davit_list *done);
/* Queues a job, which belongs to the writer until taken. */
void davit_sqlite_writer_add(struct davit_sqlite_writer *w, struct davit_sqlite_job *job);
/* Takes a job back before it is begun; false when it is too late for that. */
bool davit_sqlite_writer_retract(struct davit_sqlite_writer *w, struct davit_sqlite_job *job);
/* Moves the finished jobs, in order, to the empty list `done`. */
void davit_sqlite_writer_take(struct davit_sqlite_writer *w, struct davit_list *done);

void davit_sqlite_job_free(struct davit_sqlite_job *job);

#endif
