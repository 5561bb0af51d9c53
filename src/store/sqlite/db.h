/* SPDX-License-Identifier: MIT
 *
 * Connections to the store's file: opening, checking, the schema, and SQLite's
 * errors as davit's. Not for use outside src/store/sqlite.
 */
#ifndef DAVIT_STORE_SQLITE_DB_H
#define DAVIT_STORE_SQLITE_DB_H

#include "davit/error.h"

#include <sqlite3.h>
#include <stdint.h>

/* Makes the file if it is not there, checks it and brings it to this version's
 * schema. DAVIT_ECORRUPT for what is damaged or not a store (the file is left
 * as it is), DAVIT_ENOTSUP for a newer schema. Blocks; reads the whole file. */
int davit_db_prepare(const char *path, struct davit_error *err);
/* A connection to a prepared file. Never creates one. *ret is owned. */
int davit_db_connect(const char *path, sqlite3 **ret, struct davit_error *err);
/* Runs SQL without results. */
int davit_db_exec(sqlite3 *db, const char *path, const char *sql, struct davit_error *err);
/* The first column of the first row; 0 when there is none or it is NULL. */
int davit_db_int(sqlite3 *db, const char *path, const char *sql, int64_t *ret, struct davit_error *err);
/* Fills *err from what failed last on db; the text says what to do. */
int davit_db_error(sqlite3 *db, const char *path, struct davit_error *err);

#endif
