/* SPDX-License-Identifier: MIT
 *
 * SQLite appends to its log two pieces for each page of a transaction, a header of 24 bytes and
 * the page, each by a call of its own. Here they are gathered, and written when the log is
 * synced: a commit with 40 pages is three calls instead of 80.
 *
 * Nothing relies on what was not synced: we run with synchronous=FULL, so that a commit syncs
 * the log before other connections are shown it. What this one reads back before that (pages
 * that found no place in the cache) is written first. A write that fails is told to whoever
 * caused it, at the latest the sync, and the transaction fails with it.
 */
#include "store/sqlite/wal.h"

#include "base/util.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 65536 };

struct log_file {
	sqlite3_file base;
	sqlite3_file *real; /* behind this struct */
	char *text;	    /* PIECE bytes, or NULL: between two syncs only */
	int len;
	sqlite3_int64 at; /* where text belongs */
};

#define REAL_AT ((sizeof(struct log_file) + 15) & ~(size_t)15)

static struct log_file *log_of(sqlite3_file *file)
{
	return DAVIT_CONTAINER_OF(file, struct log_file, base);
}

static int flush(struct log_file *f)
{
	int n = f->len;

	f->len = 0;
	return n ? f->real->pMethods->xWrite(f->real, f->text, n, f->at) : SQLITE_OK;
}

static void drop(struct log_file *f)
{
	free(f->text);
	f->text = NULL;
	f->len = 0;
}

static int log_close(sqlite3_file *file)
{
	struct log_file *f = log_of(file);
	int rc = flush(f);
	int closed = f->real->pMethods->xClose(f->real);

	drop(f);
	return rc != SQLITE_OK ? rc : closed;
}

static int log_read(sqlite3_file *file, void *to, int n, sqlite3_int64 at)
{
	struct log_file *f = log_of(file);
	int rc = flush(f);

	return rc != SQLITE_OK ? rc : f->real->pMethods->xRead(f->real, to, n, at);
}

static int log_write(sqlite3_file *file, const void *from, int n, sqlite3_int64 at)
{
	struct log_file *f = log_of(file);
	int rc = SQLITE_OK;

	if (f->len && (at != f->at + f->len || n > PIECE - f->len))
		rc = flush(f);
	if (rc != SQLITE_OK)
		return rc;
	if (!f->text)
		f->text = malloc(PIECE);
	if (!f->text || n > PIECE)
		return f->real->pMethods->xWrite(f->real, from, n, at);
	if (!f->len)
		f->at = at;
	memcpy(f->text + f->len, from, (size_t)n);
	f->len += n;
	return SQLITE_OK;
}

static int log_truncate(sqlite3_file *file, sqlite3_int64 size)
{
	struct log_file *f = log_of(file);
	int rc = flush(f);

	return rc != SQLITE_OK ? rc : f->real->pMethods->xTruncate(f->real, size);
}

static int log_sync(sqlite3_file *file, int flags)
{
	struct log_file *f = log_of(file);
	int rc = flush(f);

	drop(f);
	return rc != SQLITE_OK ? rc : f->real->pMethods->xSync(f->real, flags);
}

static int log_size(sqlite3_file *file, sqlite3_int64 *ret)
{
	struct log_file *f = log_of(file);
	int rc = flush(f);

	return rc != SQLITE_OK ? rc : f->real->pMethods->xFileSize(f->real, ret);
}

static int log_lock(sqlite3_file *file, int lock)
{
	return log_of(file)->real->pMethods->xLock(log_of(file)->real, lock);
}

static int log_unlock(sqlite3_file *file, int lock)
{
	return log_of(file)->real->pMethods->xUnlock(log_of(file)->real, lock);
}

static int log_is_reserved(sqlite3_file *file, int *ret)
{
	return log_of(file)->real->pMethods->xCheckReservedLock(log_of(file)->real, ret);
}

static int log_control(sqlite3_file *file, int op, void *arg)
{
	return log_of(file)->real->pMethods->xFileControl(log_of(file)->real, op, arg);
}

static int log_sector(sqlite3_file *file)
{
	return log_of(file)->real->pMethods->xSectorSize(log_of(file)->real);
}

static int log_device(sqlite3_file *file)
{
	return log_of(file)->real->pMethods->xDeviceCharacteristics(log_of(file)->real);
}

/* Without shared memory and mapping, which are the database's. */
static const sqlite3_io_methods log_methods = {
	.iVersion = 1,
	.xClose = log_close,
	.xRead = log_read,
	.xWrite = log_write,
	.xTruncate = log_truncate,
	.xSync = log_sync,
	.xFileSize = log_size,
	.xLock = log_lock,
	.xUnlock = log_unlock,
	.xCheckReservedLock = log_is_reserved,
	.xFileControl = log_control,
	.xSectorSize = log_sector,
	.xDeviceCharacteristics = log_device,
};

static sqlite3_vfs *system_vfs;

static int open_file(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *ret_flags)
{
	struct log_file *f = log_of(file);
	int rc;

	(void)vfs;
	if (!(flags & SQLITE_OPEN_WAL))
		return system_vfs->xOpen(system_vfs, name, file, flags, ret_flags);
	*f = (struct log_file){.real = (sqlite3_file *)(void *)((char *)file + REAL_AT)};
	rc = system_vfs->xOpen(system_vfs, name, f->real, flags, ret_flags);
	/* A file without methods is one that need not be closed. */
	f->base.pMethods = f->real->pMethods ? &log_methods : NULL;
	return rc;
}

void davit_wal_register(void)
{
	static sqlite3_vfs vfs;

	system_vfs = sqlite3_initialize() == SQLITE_OK ? sqlite3_vfs_find(NULL) : NULL;
	if (!system_vfs)
		return;
	/* All but opening is the system's, which finds all of its own in the copy. */
	vfs = *system_vfs;
	vfs.zName = DAVIT_WAL_VFS;
	vfs.pNext = NULL;
	vfs.szOsFile = (int)REAL_AT + system_vfs->szOsFile;
	vfs.xOpen = open_file;
	sqlite3_vfs_register(&vfs, 0);
}
