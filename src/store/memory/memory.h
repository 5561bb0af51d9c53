/* SPDX-License-Identifier: MIT
 *
 * What only the memory store can, for tests and the simulator.
 */
#ifndef DAVIT_STORE_MEMORY_H
#define DAVIT_STORE_MEMORY_H

#include "davit/store.h"

/* Breaks all watches of a memory store with this error, as a lost connection to
 * a remote store would. Calls back; only from the loop. */
void davit_memory_break_watches(struct davit_store *s, const struct davit_error *err);

#endif
