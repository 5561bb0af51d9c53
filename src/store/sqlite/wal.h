/* SPDX-License-Identifier: MIT
 *
 * SQLite's files as the system has them, but that the log is written in large pieces.
 * Not for use outside src/store/sqlite.
 */
#ifndef DAVIT_STORE_SQLITE_WAL_H
#define DAVIT_STORE_SQLITE_WAL_H

/* Of the VFS, for sqlite3_open_v2. */
#define DAVIT_WAL_VFS "davit"

/* Once per process, after sqlite3_config and before the first connection. Without it (there is
 * no memory) that VFS is not known. */
void davit_wal_register(void);

#endif
