/* SPDX-License-Identifier: MIT */
#include "store/sqlite/writer.h"

#include "base/fault.h"
#include "store/changes.h"
#include "store/sqlite/db.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>

/* One batch: large enough to make the fsync cheap, small enough that the first
 * in it does not wait long. */
enum { BATCH_JOBS = 1024, BATCH_BYTES = 8 << 20 };

enum statement {
	BEGIN,
	COMMIT,
	LOOK,
	PUT,
	DELETE,
	RANGE_KEYS,
	RANGE_DELETE,
	STALE,
	FORGET,
	COMPACTED,
	REVISION,
	STATEMENTS
};

static const char *const sql[STATEMENTS] = {
	[BEGIN] = "BEGIN IMMEDIATE",
	[COMMIT] = "COMMIT",
	[LOOK] = "SELECT mod_revision FROM kv WHERE key = ?1 AND value IS NOT NULL",
	[PUT] = "INSERT INTO kv(key, mod_revision, value) VALUES(?1, ?2, ?3)"
		" ON CONFLICT(key) DO UPDATE SET mod_revision = ?2, value = ?3",
	[DELETE] = "UPDATE kv SET mod_revision = ?2, value = NULL WHERE key = ?1 AND value IS NOT NULL",
	[RANGE_KEYS] = "SELECT key FROM kv WHERE key >= ?1 AND key < ?2 AND value IS NOT NULL",
	[RANGE_DELETE] = "UPDATE kv SET mod_revision = ?3, value = NULL"
			 " WHERE key >= ?1 AND key < ?2 AND value IS NOT NULL",
	[STALE] = "SELECT max(mod_revision) FROM kv WHERE value IS NULL AND mod_revision <= ?1",
	[FORGET] = "DELETE FROM kv WHERE value IS NULL AND mod_revision <= ?1",
	[COMPACTED] = "UPDATE meta SET value = ?1 WHERE key = 'compacted'",
	[REVISION] = "UPDATE meta SET value = ?1 WHERE key = 'revision'",
};

struct davit_sqlite_writer {
	const char *path;
	void (*notify)(void *user);
	void *user;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t more;
	/* Under the lock. */
	struct davit_list queue;
	struct davit_list done;
	bool stop;
	/* The thread's. */
	sqlite3 *db; /* NULL after a failure that asks for a new connection */
	sqlite3_stmt *stmt[STATEMENTS];
	int64_t revision;
};

void davit_sqlite_job_free(struct davit_sqlite_job *job)
{
	if (!job)
		return;
	for (size_t i = 0; i < job->events_len; i++)
		free(job->events[i].owned);
	free(job->events);
	free(job->changes);
	free(job);
}

/* --- the connection --- */

static void disconnect(struct davit_sqlite_writer *w)
{
	for (int i = 0; i < STATEMENTS; i++) {
		sqlite3_finalize(w->stmt[i]);
		w->stmt[i] = NULL;
	}
	sqlite3_close(w->db);
	w->db = NULL;
}

static int reconnect(struct davit_sqlite_writer *w, struct davit_error *err)
{
	int r = davit_db_connect(w->path, &w->db, err);

	if (r < 0)
		return r;
	/* A storm of ends changes hundreds of pages in a transaction: those that find no place are
	 * written early, and read again. Given back when there is nothing to do. The log is taken
	 * over into the file when it has the size that it keeps on the disk anyway. */
	r = davit_db_exec(w->db, w->path, "PRAGMA cache_size=-1024; PRAGMA wal_autocheckpoint=2000", err);
	for (int i = 0; r == 0 && i < STATEMENTS; i++) {
		if (sqlite3_prepare_v3(w->db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &w->stmt[i], NULL) !=
		    SQLITE_OK)
			r = davit_db_error(w->db, w->path, err);
	}
	if (r == 0)
		r = davit_db_int(w->db, w->path, "SELECT value FROM meta WHERE key = 'revision'",
				 &w->revision, err);
	if (r < 0)
		disconnect(w);
	return r;
}

static int bind_text(sqlite3_stmt *stmt, int i, const char *s)
{
	return sqlite3_bind_text(stmt, i, s, -1, SQLITE_STATIC);
}

/* Runs a bound statement that gives at most one row with one number. The
 * statement is ready to be bound again. */
static int run(struct davit_sqlite_writer *w, enum statement which, int64_t *ret, struct davit_error *err)
{
	sqlite3_stmt *stmt = w->stmt[which];
	int rc = sqlite3_step(stmt);
	int r = 0;

	if (rc == SQLITE_ROW) {
		if (ret)
			*ret = sqlite3_column_int64(stmt, 0);
	} else if (rc != SQLITE_DONE) {
		r = davit_db_error(w->db, w->path, err);
	}
	sqlite3_reset(stmt);
	return r;
}

/* --- one job --- */

static int add_event(struct davit_sqlite_job *job, struct davit_sqlite_event event, struct davit_error *err)
{
	if (job->events_len == job->events_cap) {
		size_t cap = job->events_cap ? job->events_cap * 2 : job->n;
		struct davit_sqlite_event *events = realloc(job->events, cap * sizeof *events);
		if (!events)
			return davit_error_set(err, DAVIT_ENOMEM, "store", "out of memory");
		job->events = events;
		job->events_cap = cap;
	}
	event.order = job->events_len;
	job->events[job->events_len++] = event;
	return 0;
}

static int delete_range(struct davit_sqlite_writer *w, struct davit_sqlite_job *job,
			const struct davit_store_change *c, int64_t revision, struct davit_error *err)
{
	sqlite3_stmt *keys = w->stmt[RANGE_KEYS], *delete = w->stmt[RANGE_DELETE];
	int rc, r = 0;

	bind_text(keys, 1, c->key);
	bind_text(keys, 2, c->key_end);
	while (r == 0 && (rc = sqlite3_step(keys)) != SQLITE_DONE) {
		const char *text = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(keys, 0) : NULL;
		char *key;

		if (!text) {
			r = davit_db_error(w->db, w->path, err);
			break;
		}
		key = strdup(text);
		r = key ? add_event(job,
				    (struct davit_sqlite_event){.key = key, .deleted = true, .owned = key},
				    err)
			: davit_error_set(err, DAVIT_ENOMEM, "store", "out of memory");
		if (r < 0)
			free(key);
	}
	sqlite3_reset(keys);
	if (r < 0)
		return r;
	bind_text(delete, 1, c->key);
	bind_text(delete, 2, c->key_end);
	sqlite3_bind_int64(delete, 3, revision);
	return run(w, RANGE_DELETE, NULL, err);
}

static int apply_change(struct davit_sqlite_writer *w, struct davit_sqlite_job *job,
			const struct davit_store_change *c, int64_t revision, struct davit_error *err)
{
	int r;

	switch (c->verb) {
	case DAVIT_STORE_PUT:
		bind_text(w->stmt[PUT], 1, c->key);
		sqlite3_bind_int64(w->stmt[PUT], 2, revision);
		sqlite3_bind_blob64(w->stmt[PUT], 3, c->value, c->len, SQLITE_STATIC);
		r = run(w, PUT, NULL, err);
		return r < 0 ? r
			     : add_event(job,
					 (struct davit_sqlite_event){
						 .key = c->key, .value = c->value, .len = c->len},
					 err);
	case DAVIT_STORE_DELETE:
		bind_text(w->stmt[DELETE], 1, c->key);
		sqlite3_bind_int64(w->stmt[DELETE], 2, revision);
		r = run(w, DELETE, NULL, err);
		if (r < 0 || !sqlite3_changes(w->db))
			return r;
		return add_event(job, (struct davit_sqlite_event){.key = c->key, .deleted = true}, err);
	case DAVIT_STORE_DELETE_RANGE:
		return delete_range(w, job, c, revision, err);
	}
	return 0;
}

static int check(struct davit_sqlite_writer *w, const struct davit_sqlite_job *job, struct davit_error *err)
{
	for (size_t i = 0; i < job->n; i++) {
		const struct davit_store_change *c = &job->changes[i];
		int64_t have = 0;
		int r;

		if (!c->check)
			continue;
		bind_text(w->stmt[LOOK], 1, c->key);
		r = run(w, LOOK, &have, err);
		if (r < 0)
			return r;
		if (have != c->expect)
			return davit_error_set(err, DAVIT_ECONFLICT, "store",
					       "'%s' is at revision %" PRId64 ", not at %" PRId64, c->key,
					       have, c->expect);
	}
	return 0;
}

/* A conflict is the job's own (in its error); what is returned fails the batch.
 * Nothing is written before all checks hold, so a conflict leaves no trace. */
static int apply(struct davit_sqlite_writer *w, struct davit_sqlite_job *job, struct davit_error *err)
{
	int r = check(w, job, err);

	if (r == DAVIT_ECONFLICT) {
		job->error = *err;
		return 0;
	}
	for (size_t i = 0; r == 0 && i < job->n; i++)
		r = apply_change(w, job, &job->changes[i], w->revision + 1, err);
	if (r < 0)
		return r;
	w->revision += job->events_len > 0;
	job->revision = w->revision;
	return 0;
}

/* --- batches --- */

static int compact(struct davit_sqlite_writer *w, struct davit_error *err)
{
	int64_t limit = w->revision - DAVIT_STORE_KEEP_DELETIONS;
	int64_t last = 0;
	int r;

	sqlite3_bind_int64(w->stmt[STALE], 1, limit);
	r = run(w, STALE, &last, err);
	if (r < 0 || !last)
		return r;
	sqlite3_bind_int64(w->stmt[COMPACTED], 1, last);
	r = run(w, COMPACTED, NULL, err);
	if (r < 0)
		return r;
	sqlite3_bind_int64(w->stmt[FORGET], 1, limit);
	return run(w, FORGET, NULL, err);
}

static int commit_batch(struct davit_sqlite_writer *w, struct davit_list *batch, struct davit_error *err)
{
	struct davit_sqlite_job *job;
	int r = w->db ? 0 : reconnect(w, err);

	if (r == 0)
		r = run(w, BEGIN, NULL, err);
	if (r < 0)
		return r;
	DAVIT_LIST_FOREACH (job, batch, link) {
		r = apply(w, job, err);
		if (r < 0)
			return r;
	}
	r = compact(w, err);
	if (r < 0)
		return r;
	sqlite3_bind_int64(w->stmt[REVISION], 1, w->revision);
	r = run(w, REVISION, NULL, err);
	if (r < 0)
		return r;
	DAVIT_FAULT("store-commit-before");
	r = run(w, COMMIT, NULL, err);
	DAVIT_FAULT("store-commit-after");
	return r;
}

/* All of a batch share its fate: a file that fails one write fails the next, and
 * retrying them one by one would be a storm on a sick disk. Callers retry. */
static void run_batch(struct davit_sqlite_writer *w, struct davit_list *batch)
{
	struct davit_sqlite_job *job;
	struct davit_error err = {0};

	if (commit_batch(w, batch, &err) == 0)
		return;
	/* Conflicts too: they may be with a change that now did not happen. */
	DAVIT_LIST_FOREACH (job, batch, link)
		job->error = err;
	/* A new connection for the next batch sheds whatever state the failure
	 * left in this one; the reader's keeps the log from being reset. */
	disconnect(w);
}

static void take_batch(struct davit_list *queue, struct davit_list *batch)
{
	struct davit_sqlite_job *job;
	size_t bytes = 0;

	for (int n = 0; n < BATCH_JOBS && bytes < BATCH_BYTES; n++) {
		job = DAVIT_LIST_FIRST(queue, struct davit_sqlite_job, link);
		if (!job)
			return;
		bytes += job->bytes;
		davit_list_remove(&job->link);
		davit_list_add_tail(batch, &job->link);
	}
}

/* Under the lock. A second after the last batch its pages are given back: an idle davitd is to
 * be small, and the kernel has the file's still. */
static void wait_for_work(struct davit_sqlite_writer *w)
{
	struct timespec due;
	bool cached = w->db != NULL;

	clock_gettime(CLOCK_MONOTONIC, &due);
	due.tv_sec++;
	while (davit_list_empty(&w->queue) && !w->stop) {
		if (!cached) {
			pthread_cond_wait(&w->more, &w->lock);
		} else if (pthread_cond_timedwait(&w->more, &w->lock, &due) == ETIMEDOUT) {
			sqlite3_db_release_memory(w->db);
			malloc_trim(0);
			cached = false;
		}
	}
}

static void *writer_main(void *arg)
{
	struct davit_sqlite_writer *w = arg;
	struct davit_list batch;

	davit_list_init(&batch);
	pthread_mutex_lock(&w->lock);
	for (;;) {
		wait_for_work(w);
		if (davit_list_empty(&w->queue))
			break;
		take_batch(&w->queue, &batch);
		pthread_mutex_unlock(&w->lock);
		run_batch(w, &batch);
		pthread_mutex_lock(&w->lock);
		davit_list_splice(&w->done, &batch);
		w->notify(w->user);
	}
	pthread_mutex_unlock(&w->lock);
	disconnect(w);
	return NULL;
}

/* --- the loop's side --- */

/* Signals are the loop's business: the thread takes none. */
static int start_thread(struct davit_sqlite_writer *w)
{
	sigset_t all, old;
	int e;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	e = pthread_create(&w->thread, NULL, writer_main, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return e;
}

int davit_sqlite_writer_start(const char *path, void (*done)(void *user), void *user,
			      struct davit_sqlite_writer **ret, struct davit_error *err)
{
	struct davit_sqlite_writer *w = calloc(1, sizeof *w);
	pthread_condattr_t clock;
	int e, r;

	if (!w)
		return davit_error_set(err, DAVIT_ENOMEM, "store", "out of memory");
	w->path = path;
	w->notify = done;
	w->user = user;
	davit_list_init(&w->queue);
	davit_list_init(&w->done);
	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_cond_init(&w->more, &clock);
	pthread_condattr_destroy(&clock);
	/* Passed here first, so that the thread finds the crash points set up. */
	DAVIT_FAULT("store-open");
	r = reconnect(w, err);
	if (r == 0 && (e = start_thread(w)))
		r = davit_error_errno(err, e, "store", "cannot start the store's thread");
	if (r < 0) {
		disconnect(w);
		pthread_cond_destroy(&w->more);
		pthread_mutex_destroy(&w->lock);
		free(w);
		return r;
	}
	*ret = w;
	return 0;
}

void davit_sqlite_writer_stop(struct davit_sqlite_writer *w, struct davit_list *done)
{
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_cond_signal(&w->more);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	davit_list_splice(done, &w->done);
	pthread_cond_destroy(&w->more);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

void davit_sqlite_writer_add(struct davit_sqlite_writer *w, struct davit_sqlite_job *job)
{
	pthread_mutex_lock(&w->lock);
	davit_list_add_tail(&w->queue, &job->link);
	pthread_cond_signal(&w->more);
	pthread_mutex_unlock(&w->lock);
}

bool davit_sqlite_writer_retract(struct davit_sqlite_writer *w, struct davit_sqlite_job *job)
{
	bool queued = false;
	struct davit_list *at;

	pthread_mutex_lock(&w->lock);
	for (at = w->queue.next; at != &w->queue && !queued; at = at->next)
		queued = at == &job->link;
	if (queued)
		davit_list_remove(&job->link);
	pthread_mutex_unlock(&w->lock);
	return queued;
}

void davit_sqlite_writer_take(struct davit_sqlite_writer *w, struct davit_list *done)
{
	pthread_mutex_lock(&w->lock);
	davit_list_splice(done, &w->done);
	pthread_mutex_unlock(&w->lock);
}
