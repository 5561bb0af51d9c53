/* SPDX-License-Identifier: MIT
 *
 * The SQLite store, the loop's side: reads on a connection of its own, commits
 * handed to the writer thread (writer.c), results and changes brought back by
 * one uv_async.
 */
#include "base/list.h"
#include "store/changes.h"
#include "store/sqlite/db.h"
#include "store/sqlite/writer.h"
#include "store/stores.h"
#include "store/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <uv.h>

struct sqlite_store {
	char *path;
	int lock; /* descriptor of the .lock file */
	sqlite3 *db;
	int reading; /* nested read transactions */
	uv_async_t *wake;
	struct davit_sqlite_writer *writer;
	struct davit_watches watches;
	size_t pending; /* jobs with the writer */
	struct davit_error health;
};

/* --- commits --- */

static void on_cancel(struct davit_op *op, int why)
{
	struct davit_store_txn *txn = DAVIT_CONTAINER_OF(op, struct davit_store_txn, op);
	struct sqlite_store *q = op->performer;
	struct davit_sqlite_job *job = txn->driver;

	if (davit_sqlite_writer_retract(q->writer, job)) {
		if (!--q->pending)
			uv_unref((uv_handle_t *)q->wake);
		davit_sqlite_job_free(job);
		davit_op_fail(op, why, "store", "given up before it was begun; nothing was changed");
		return;
	}
	job->txn = NULL;
	davit_op_fail(op, why, "store",
		      "given up while it was under way; it may have been done all the same");
}

static void sqlite_commit(struct davit_store *s, const struct davit_store_change *changes, size_t n,
			  struct davit_store_txn *txn)
{
	struct sqlite_store *q = davit_store_state(s);
	struct davit_sqlite_job *job = calloc(1, sizeof *job);

	if (!job || !(job->changes = davit_store_changes_copy(changes, n, true))) {
		davit_sqlite_job_free(job);
		davit_op_fail(&txn->op, DAVIT_ENOMEM, "store", "out of memory");
		return;
	}
	job->txn = txn;
	job->n = n;
	for (size_t i = 0; i < n; i++)
		job->bytes += changes[i].len;
	davit_list_init(&job->link);
	txn->driver = job;
	txn->op.performer = q;
	davit_op_on_cancel(&txn->op, on_cancel);
	if (!q->pending++)
		uv_ref((uv_handle_t *)q->wake);
	davit_sqlite_writer_add(q->writer, job);
}

static int by_key(const void *a, const void *b)
{
	const struct davit_sqlite_event *x = a, *y = b;
	int order = strcmp(x->key, y->key);

	return order ? order : (x->order > y->order) - (x->order < y->order);
}

/* Puts what is watched in front, in key order. How many that are: most of what is written is
 * watched by nobody. */
static size_t sort_watched(const struct sqlite_store *q, struct davit_sqlite_job *job)
{
	size_t n = 0;

	for (size_t i = 0; i < job->events_len; i++) {
		struct davit_sqlite_event e = job->events[i];
		if (!davit_watches_match(&q->watches, e.key))
			continue;
		job->events[i] = job->events[n];
		job->events[n++] = e;
	}
	if (n > 1)
		qsort(job->events, n, sizeof *job->events, by_key);
	return n;
}

static void tell(struct sqlite_store *q, struct davit_sqlite_job *job)
{
	size_t n = sort_watched(q, job);

	for (size_t i = 0; i < n; i++) {
		const struct davit_sqlite_event *e = &job->events[i];
		if (i + 1 < n && !strcmp(e->key, e[1].key))
			continue; /* the last of a key is what is told */
		struct davit_kv kv = {.key = e->key,
				      .value = e->value,
				      .len = e->len,
				      .mod_revision = job->revision,
				      .deleted = e->deleted};
		davit_watches_tell(&q->watches, &kv);
	}
	davit_watches_told(&q->watches, job->revision);
}

static void finish(struct sqlite_store *q, struct davit_sqlite_job *job)
{
	if (job->error.code != DAVIT_ECONFLICT)
		q->health = job->error;
	if (job->txn && job->error.code) {
		davit_op_fail_error(&job->txn->op, &job->error);
	} else if (job->txn) {
		job->txn->ret_revision = job->revision;
		davit_op_complete(&job->txn->op, 0);
	}
	davit_sqlite_job_free(job);
}

static void on_wake(uv_async_t *wake)
{
	struct sqlite_store *q = wake->data;
	struct davit_sqlite_job *job, *next;
	struct davit_list done;

	davit_list_init(&done);
	davit_sqlite_writer_take(q->writer, &done);
	DAVIT_LIST_FOREACH_SAFE (job, next, &done, link) {
		davit_list_remove(&job->link);
		if (!--q->pending)
			uv_unref((uv_handle_t *)q->wake);
		if (!job->error.code && q->watches.first)
			tell(q, job);
		finish(q, job);
	}
}

/* On the writer's thread. */
static void wake_loop(void *user)
{
	uv_async_send(user);
}

/* --- reads --- */

static int begin_read(struct sqlite_store *q, struct davit_error *err)
{
	int r = q->reading ? 0 : davit_db_exec(q->db, q->path, "BEGIN", err);

	q->reading += r == 0;
	return r;
}

static void end_read(struct sqlite_store *q)
{
	if (!--q->reading)
		davit_db_exec(q->db, q->path, "ROLLBACK", NULL);
}

static int read_revision(struct sqlite_store *q, int64_t *ret, struct davit_error *err)
{
	return davit_db_int(q->db, q->path, "SELECT value FROM meta WHERE key = 'revision'", ret, err);
}

/* A row of (key, mod_revision, value), borrowed until the next step. */
static struct davit_kv row_kv(sqlite3_stmt *stmt)
{
	struct davit_kv kv = {
		.key = (const char *)sqlite3_column_text(stmt, 0),
		.mod_revision = sqlite3_column_int64(stmt, 1),
		.deleted = sqlite3_column_type(stmt, 2) == SQLITE_NULL,
	};

	if (!kv.deleted) {
		kv.value = sqlite3_column_blob(stmt, 2);
		kv.len = (size_t)sqlite3_column_bytes(stmt, 2);
		if (!kv.len)
			kv.value = "";
	}
	return kv;
}

/* Prepares `text` with ?1 and ?2 bound to the range [start, end of prefix) and
 * ?3 to n. An endless range ends before a blob: SQLite sorts those after text. */
static int prepare_range(struct sqlite_store *q, const char *text, const char *prefix, const char *start,
			 int64_t n, sqlite3_stmt **ret, struct davit_error *err)
{
	char end[DAVIT_STORE_KEY_MAX + 1];

	if (sqlite3_prepare_v2(q->db, text, -1, ret, NULL) != SQLITE_OK)
		return davit_db_error(q->db, q->path, err);
	sqlite3_bind_text(*ret, 1, start, -1, SQLITE_STATIC);
	if (davit_store_prefix_end(prefix, end))
		sqlite3_bind_text(*ret, 2, end, -1, SQLITE_TRANSIENT);
	else
		sqlite3_bind_zeroblob(*ret, 2, 0);
	sqlite3_bind_int64(*ret, 3, n);
	return 0;
}

static int list(struct sqlite_store *q, const char *text, const char *prefix, const char *start, size_t limit,
		davit_store_list_fn *fn, void *user, int64_t *ret_revision, struct davit_error *err)
{
	sqlite3_stmt *stmt = NULL;
	int64_t revision = 0;
	int rc = SQLITE_DONE;
	int r = begin_read(q, err);

	if (r < 0)
		return r;
	r = read_revision(q, &revision, err);
	if (r == 0)
		r = prepare_range(q, text, prefix, start, limit && limit < INT64_MAX ? (int64_t)limit : -1,
				  &stmt, err);
	while (r == 0 && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		struct davit_kv kv = row_kv(stmt);
		if (!kv.key || (kv.len && !kv.value))
			r = davit_error_set(err, DAVIT_ENOMEM, "store", "out of memory");
		else if (!fn(user, &kv))
			break;
	}
	if (r == 0 && rc != SQLITE_ROW && rc != SQLITE_DONE)
		r = davit_db_error(q->db, q->path, err);
	sqlite3_finalize(stmt);
	end_read(q);
	if (r == 0 && ret_revision)
		*ret_revision = revision;
	return r;
}

static int sqlite_list(struct davit_store *s, const char *prefix, const char *from, size_t limit,
		       davit_store_list_fn *fn, void *user, int64_t *ret_revision, struct davit_error *err)
{
	prefix = prefix ? prefix : "";
	return list(davit_store_state(s),
		    "SELECT key, mod_revision, value FROM kv WHERE key >= ?1 AND key < ?2"
		    " AND value IS NOT NULL ORDER BY key LIMIT ?3",
		    prefix, davit_store_list_start(prefix, from), limit, fn, user, ret_revision, err);
}

static int sqlite_list_reverse(struct davit_store *s, const char *prefix, size_t limit,
			       davit_store_list_fn *fn, void *user, int64_t *ret_revision,
			       struct davit_error *err)
{
	prefix = prefix ? prefix : "";
	return list(davit_store_state(s),
		    "SELECT key, mod_revision, value FROM kv WHERE key >= ?1 AND key < ?2"
		    " AND value IS NOT NULL ORDER BY key DESC LIMIT ?3",
		    prefix, prefix, limit, fn, user, ret_revision, err);
}

/* --- watches --- */

static int check_compacted(struct sqlite_store *q, int64_t after, struct davit_error *err)
{
	int64_t compacted;
	int r = davit_db_int(q->db, q->path, "SELECT value FROM meta WHERE key = 'compacted'", &compacted,
			     err);

	if (r == 0 && after < compacted)
		r = davit_error_set(err, DAVIT_ECOMPACTED, "store",
				    "deletions up to revision %" PRId64 " are forgotten", compacted);
	return r;
}

static int tell_past(struct sqlite_store *q, struct davit_store_watch *w, struct davit_error *err)
{
	sqlite3_stmt *stmt = NULL;
	int rc = SQLITE_DONE;
	int r = prepare_range(q,
			      "SELECT key, mod_revision, value FROM kv WHERE key >= ?1"
			      " AND key < ?2 AND mod_revision >= ?3 ORDER BY mod_revision, key",
			      w->prefix, w->prefix, w->next_revision, &stmt, err);

	while (r == 0 && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		struct davit_kv kv = row_kv(stmt);
		if (!kv.key || (kv.len && !kv.value))
			r = davit_error_set(err, DAVIT_ENOMEM, "store", "out of memory");
		else if (!davit_watch_tell(&q->watches, w, &kv))
			break;
	}
	if (r == 0 && rc != SQLITE_ROW && rc != SQLITE_DONE)
		r = davit_db_error(q->db, q->path, err);
	sqlite3_finalize(stmt);
	return r;
}

static int catch_up(struct davit_store *s, struct davit_store_watch *w, int64_t *ret_revision,
		    struct davit_error *err)
{
	struct sqlite_store *q = davit_store_state(s);
	int64_t revision = 0;
	int r = begin_read(q, err);

	if (r < 0)
		return r;
	r = read_revision(q, &revision, err);
	if (r == 0)
		r = check_compacted(q, w->next_revision - 1, err);
	/* The usual case: it begins where a list has just ended. */
	if (r == 0 && w->next_revision <= revision)
		r = tell_past(q, w, err);
	end_read(q);
	if (r == 0)
		*ret_revision = revision;
	return r;
}

static int sqlite_watch(struct davit_store *s, const char *prefix, int64_t after, struct davit_store_watch *w,
			struct davit_error *err)
{
	struct sqlite_store *q = davit_store_state(s);
	int r = check_compacted(q, after, err);

	return r < 0 ? r : davit_watches_add(&q->watches, prefix, after, w, err);
}

static void sqlite_unwatch(struct davit_store *s, struct davit_store_watch *w)
{
	struct sqlite_store *q = davit_store_state(s);

	davit_watches_remove(&q->watches, w);
}

/* --- opening and closing --- */

/* One daemon a file. A lock beside the database, because SQLite's own locks on
 * it are a process's and go with any descriptor of the file that is closed. */
static int lock_file(struct sqlite_store *q, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *name = NULL;

	if (asprintf(&name, "%s.lock", q->path) < 0) {
		name = NULL;
		return davit_error_set(err, DAVIT_ENOMEM, "store", "out of memory");
	}
	q->lock = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (q->lock < 0)
		return davit_error_errno(err, errno, "store", "cannot open %s", name);
	if (DAVIT_EINTR(flock(q->lock, LOCK_EX | LOCK_NB)) == 0)
		return 0;
	if (errno == EWOULDBLOCK)
		return davit_error_set(err, DAVIT_EINUSE, "store",
				       "another davitd uses the store %s; stop it or name another file",
				       q->path);
	return davit_error_errno(err, errno, "store", "cannot lock %s", name);
}

static void free_handle(uv_handle_t *handle)
{
	free(handle);
}

static void release(struct sqlite_store *q)
{
	if (q->wake)
		uv_close((uv_handle_t *)q->wake, free_handle);
	sqlite3_close(q->db);
	if (q->lock >= 0)
		close(q->lock);
	free(q->path);
}

static int open_wake(struct sqlite_store *q, uv_loop_t *loop, struct davit_error *err)
{
	uv_async_t *wake = malloc(sizeof *wake);
	int e;

	if (!wake)
		return davit_error_set(err, DAVIT_ENOMEM, "store", "out of memory");
	e = uv_async_init(loop, wake, on_wake);
	if (e < 0) {
		free(wake);
		return davit_error_errno(err, -e, "store", "cannot watch for the store's thread");
	}
	wake->data = q;
	q->wake = wake;
	uv_unref((uv_handle_t *)wake); /* only commits under way keep the loop alive */
	return 0;
}

static int sqlite_open(struct davit_store *s, const char *where, struct davit_error *err)
{
	struct sqlite_store *q = davit_store_state(s);
	int r;

	q->lock = -1;
	if (!davit_loop_uv(s->loop))
		return davit_error_set(err, DAVIT_ENOTSUP, "store", "the sqlite store needs a real loop");
	if (!where || !*where)
		return davit_error_set(err, DAVIT_EINVAL, "where",
				       "the sqlite store needs the path of a file");
	q->path = strdup(where);
	if (!q->path)
		return davit_error_set(err, DAVIT_ENOMEM, "store", "out of memory");
	davit_watches_init(&q->watches, s, catch_up);
	r = lock_file(q, err);
	if (r == 0)
		r = davit_db_prepare(q->path, err);
	if (r == 0)
		r = davit_db_connect(q->path, &q->db, err);
	if (r == 0)
		r = davit_db_exec(q->db, q->path, "PRAGMA query_only=1; PRAGMA cache_size=-32", err);
	if (r == 0)
		r = open_wake(q, davit_loop_uv(s->loop), err);
	if (r == 0)
		r = davit_sqlite_writer_start(q->path, wake_loop, q->wake, &q->writer, err);
	if (r < 0)
		release(q);
	return r;
}

static void sqlite_close(struct davit_store *s)
{
	struct sqlite_store *q = davit_store_state(s);
	struct davit_sqlite_job *job, *next;
	struct davit_list done;

	davit_watches_fini(&q->watches);
	davit_list_init(&done);
	davit_sqlite_writer_stop(q->writer, &done);
	DAVIT_LIST_FOREACH_SAFE (job, next, &done, link)
		finish(q, job);
	release(q);
}

static int sqlite_health(struct davit_store *s, struct davit_error *err)
{
	struct sqlite_store *q = davit_store_state(s);

	return q->health.code ? davit_error_copy(err, &q->health) : 0;
}

const struct davit_store_driver davit_sqlite_store = {
	.abi = DAVIT_STORE_ABI,
	.name = "sqlite",
	.summary = "one file, durable, for one daemon",
	.store_size = sizeof(struct sqlite_store),
	.open = sqlite_open,
	.close = sqlite_close,
	.commit = sqlite_commit,
	.list = sqlite_list,
	.list_reverse = sqlite_list_reverse,
	.watch = sqlite_watch,
	.unwatch = sqlite_unwatch,
	.health = sqlite_health,
};
