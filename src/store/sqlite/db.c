/* SPDX-License-Identifier: MIT */
#include "store/sqlite/db.h"

#include "base/file.h"
#include "base/util.h"
#include "store/sqlite/wal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* In the file's header (PRAGMA application_id): "dvit". */
#define APPLICATION_ID 0x64766974
/* Raised by one with each change of the schema that an older davit cannot read. */
#define SCHEMA_VERSION 2

/* A deletion is a row whose value is NULL. The values come last, so that reading
 * a revision does not walk the pages of a large one. meta holds "compacted": the
 * last revision of which a deletion was forgotten, and "revision": the last one. There is no
 * index by revision: each change would be two more in it, and who asks for the changes since
 * a revision is rarely behind. */
static const char schema[] =
	"CREATE TABLE kv(key TEXT PRIMARY KEY NOT NULL, mod_revision INTEGER NOT NULL, value BLOB) WITHOUT "
	"ROWID;"
	"CREATE INDEX kv_deletion ON kv(mod_revision) WHERE value IS NULL;"
	"CREATE TABLE meta(key TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL) WITHOUT ROWID;"
	"INSERT INTO meta VALUES('compacted', 0), ('revision', 0);";

/* Version 1 had the index, by which it found the last revision. */
static const char from_version_1[] =
	"INSERT OR REPLACE INTO meta VALUES('revision', (SELECT ifnull(max(mod_revision), 0) FROM kv));"
	"DROP INDEX IF EXISTS kv_revision;";

/* Once per process and before its first use of SQLite: no statistics, a lookaside
 * of 64 slots of 128 bytes instead of 100 of 1200, and pages that are allocated one by
 * one, not twenty for each connection that are never given back. */
static void configure(void)
{
	sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
	sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 128, 64);
	sqlite3_config(SQLITE_CONFIG_PAGECACHE, NULL, 0, 0);
	/* One thread at a time uses a connection; we see to that. */
	sqlite3_config(SQLITE_CONFIG_MULTITHREAD);
	davit_wal_register();
}

/* The errno of the last failure. A failed COMMIT leaves it only with the file
 * that it wrote, the log, where sqlite3_system_errno does not look. */
static int last_errno(sqlite3 *db)
{
	sqlite3_file *log = NULL;
	int sys = sqlite3_system_errno(db);

	if (sys || sqlite3_file_control(db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log) != SQLITE_OK)
		return sys;
	if (log && log->pMethods)
		log->pMethods->xFileControl(log, SQLITE_FCNTL_LAST_ERRNO, &sys);
	return sys;
}

int davit_db_error(sqlite3 *db, const char *path, struct davit_error *err)
{
	int rc = db ? sqlite3_extended_errcode(db) : SQLITE_NOMEM;
	int sys = db && ((rc & 0xff) == SQLITE_IOERR || (rc & 0xff) == SQLITE_CANTOPEN) ? last_errno(db) : 0;
	const char *text = db ? sqlite3_errmsg(db) : "out of memory";
	int code = DAVIT_EIO;

	if (sys == ENOSPC || sys == EDQUOT)
		rc = SQLITE_FULL;
	if (sys == EROFS)
		rc = SQLITE_READONLY;
	switch (rc & 0xff) {
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return davit_error_set(
			err, DAVIT_ECORRUPT, "store",
			"the store %s is damaged (%s); davit leaves it as it is: restore a backup, "
			"or move it away to begin with an empty one",
			path, text);
	case SQLITE_NOMEM:
		return davit_error_set(err, DAVIT_ENOMEM, "store", "out of memory");
	case SQLITE_FULL:
		return davit_error_set(err, DAVIT_ENOSPC, "store",
				       "no space is left for the store %s; free some, davit tries again",
				       path);
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return davit_error_set(err, DAVIT_EUNAVAIL, "store",
				       "another program keeps the store %s locked", path);
	case SQLITE_READONLY:
	case SQLITE_PERM:
	case SQLITE_AUTH:
		return davit_error_set(err, DAVIT_EPERM, "store", "the store %s cannot be written: %s", path,
				       text);
	case SQLITE_CANTOPEN:
		code = DAVIT_EUNAVAIL;
		break;
	case SQLITE_ERROR: /* our SQL does not fit the tables: not our schema */
		code = DAVIT_ECORRUPT;
		break;
	}
	if (rc == SQLITE_IOERR_NOMEM)
		return davit_error_set(err, DAVIT_ENOMEM, "store", "out of memory");
	if (sys)
		return davit_error_errno(err, sys, "store", "the store %s failed: %s", path, text);
	return davit_error_set(err, code, "store", "the store %s failed: %s", path, text);
}

int davit_db_exec(sqlite3 *db, const char *path, const char *sql, struct davit_error *err)
{
	return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : davit_db_error(db, path, err);
}

int davit_db_int(sqlite3 *db, const char *path, const char *sql, int64_t *ret, struct davit_error *err)
{
	sqlite3_stmt *stmt = NULL;
	int64_t value = 0;
	int r = 0;

	if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK)
		return davit_db_error(db, path, err);
	switch (sqlite3_step(stmt)) {
	case SQLITE_ROW:
		value = sqlite3_column_int64(stmt, 0);
		break;
	case SQLITE_DONE:
		break;
	default:
		r = davit_db_error(db, path, err);
	}
	sqlite3_finalize(stmt);
	if (r == 0)
		*ret = value;
	return r;
}

static int connect_raw(const char *path, sqlite3 **ret, struct davit_error *err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	sqlite3 *db = NULL;
	int r;

	pthread_once(&once, configure);
	if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, DAVIT_WAL_VFS) !=
	    SQLITE_OK) {
		r = davit_db_error(db, path, err);
		sqlite3_close(db);
		return r;
	}
	sqlite3_extended_result_codes(db, 1);
	sqlite3_busy_timeout(db, 2000);
	*ret = db;
	return 0;
}

int davit_db_connect(const char *path, sqlite3 **ret, struct davit_error *err)
{
	sqlite3 *db = NULL;
	int r = connect_raw(path, &db, err);

	if (r < 0)
		return r;
	r = davit_db_exec(db, path,
			  "PRAGMA synchronous=FULL; PRAGMA cache_size=-256; PRAGMA mmap_size=0;"
			  "PRAGMA journal_size_limit=8388608",
			  err);
	if (r < 0) {
		sqlite3_close(db);
		return r;
	}
	*ret = db;
	return 0;
}

/* Makes the file, durably, for its owner only. */
static int touch(const char *path, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	DAVIT_AUTO_CLOSE int dir = -1;
	DAVIT_AUTO_FREE char *copy = NULL;

	if (fd < 0 && errno == EEXIST) {
		fd = open(path, O_RDWR | O_CLOEXEC);
		return fd < 0 ? davit_error_errno(err, errno, "store", "cannot open the store %s", path) : 0;
	}
	if (fd < 0)
		return davit_error_errno(err, errno, "store", "cannot create the store %s", path);
	copy = strdup(path);
	if (!copy)
		return davit_error_set(err, DAVIT_ENOMEM, "store", "out of memory");
	dir = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || fsync(dir) < 0)
		return davit_error_errno(err, errno, "store", "cannot make the store %s durable", path);
	return 0;
}

/* Is it ours, whole, and of a version that we know? *ret_version: 0 when it has no
 * tables yet. Writes nothing. */
static int verify(sqlite3 *db, const char *path, int64_t *ret_version, struct davit_error *err)
{
	int64_t tables, application, version, sound;
	int r = davit_db_int(db, path, "SELECT count(*) FROM sqlite_schema", &tables, err);

	if (r == 0)
		r = davit_db_int(db, path, "PRAGMA application_id", &application, err);
	if (r == 0)
		r = davit_db_int(db, path, "PRAGMA user_version", &version, err);
	if (r < 0)
		return r;
	*ret_version = version;
	if (tables == 0 && application == 0 && version == 0)
		return 0;
	if (application != APPLICATION_ID)
		return davit_error_set(
			err, DAVIT_ECORRUPT, "store",
			"%s is a database of something else, not a davit store; name another file", path);
	if (version > SCHEMA_VERSION)
		return davit_error_set(err, DAVIT_ENOTSUP, "store",
				       "the store %s has format %" PRId64
				       ", this davit knows up to %d; use the "
				       "davit that wrote it or a newer one",
				       path, version, SCHEMA_VERSION);
	r = davit_db_int(db, path, "SELECT quick_check = 'ok' FROM pragma_quick_check(1)", &sound, err);
	if (r == 0 && !sound)
		r = davit_error_set(
			err, DAVIT_ECORRUPT, "store",
			"the store %s is damaged; davit leaves it as it is: restore a backup, or move "
			"it away to begin with an empty one",
			path);
	return r;
}

/* Makes the tables, or brings those of version 1 to ours, in one transaction. */
static int make_schema(sqlite3 *db, const char *path, const char *how, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *sql = NULL;

	if (asprintf(&sql, "BEGIN IMMEDIATE; %s PRAGMA application_id=%d; PRAGMA user_version=%d; COMMIT",
		     how, APPLICATION_ID, SCHEMA_VERSION) < 0) {
		sql = NULL;
		return davit_error_set(err, DAVIT_ENOMEM, "store", "out of memory");
	}
	return davit_db_exec(db, path, sql, err);
}

int davit_db_prepare(const char *path, struct davit_error *err)
{
	sqlite3 *db = NULL;
	int64_t wal = 0, version = 0;
	int r = touch(path, err);

	if (r == 0)
		r = connect_raw(path, &db, err);
	if (r < 0)
		return r;
	r = verify(db, path, &version, err);
	if (r == 0)
		r = davit_db_int(db, path, "SELECT journal_mode = 'wal' FROM pragma_journal_mode", &wal, err);
	if (r == 0 && !wal)
		r = davit_db_exec(db, path, "PRAGMA journal_mode=WAL", err);
	if (r == 0)
		r = davit_db_int(db, path, "SELECT journal_mode = 'wal' FROM pragma_journal_mode", &wal, err);
	if (r == 0 && !wal)
		r = davit_error_set(err, DAVIT_ENOTSUP, "store",
				    "the file system of %s has no shared memory files, which the store needs",
				    path);
	if (r == 0 && version < SCHEMA_VERSION)
		r = make_schema(db, path, version ? from_version_1 : schema, err);
	sqlite3_close(db);
	return r;
}
