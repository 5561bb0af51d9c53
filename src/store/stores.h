/* SPDX-License-Identifier: MIT
 *
 * The stores that are built in. Only the daemon (which joins core and stores)
 * and tests name them; everyone else holds a struct davit_store.
 */
#ifndef DAVIT_STORE_STORES_H
#define DAVIT_STORE_STORES_H

#include "davit/store.h"

/* Everything in memory, gone with the process. `where` must be NULL or empty.
 * Works on the real and on the virtual loop. */
extern const struct davit_store_driver davit_memory_store;

/* One file at `where`, made with mode 0600 if it is not there; beside it live
 * its -wal and -shm files and a .lock that keeps a second daemon out
 * (DAVIT_EINUSE). Commits are durable (fsynced) when they are told to be done.
 * Needs the real loop (DAVIT_ENOTSUP on a virtual one). */
extern const struct davit_store_driver davit_sqlite_store;

#endif
