/* SPDX-License-Identifier: MIT
 *
 * Counting runs. An engine keeps no number of them, only when the last one began;
 * so a file beside davit's state says, written before each start: "the next run is
 * N, and before it the last start was at S". Whoever reads it later compares S
 * with what the engine says: the same, and run N never began; another, and it did.
 * A container that somebody else starts counts as well: its start is new.
 */
#ifndef DAVIT_ENGINE_RUNS_H
#define DAVIT_ENGINE_RUNS_H

#include "davit/error.h"

#include <stdbool.h>

#include <stdint.h>

struct runs {
	uint32_t run;	 /* the last one */
	int64_t started; /* unix ns when it began, by the engine's clock; 0: not known yet, or never */
	int64_t before;	 /* the same of the run before it; as long as `started` is not known */
};

/* Run n+1 is about to be asked for: put on disk. dir/ID.run */
int runs_begin(const char *dir, const char *id, const struct runs *r, struct davit_error *err);
/* It was started. */
void runs_began(struct runs *r);
/* The engine says when it was started last. True: that is a start that was not
 * counted yet, and is now (somebody else's, or one whose answer did not arrive). */
bool runs_learn(struct runs *r, int64_t started);
/* What the file and the engine together say. */
void runs_recall(const char *dir, const char *id, int64_t started, struct runs *ret);
/* Removes the file. */
void runs_forget(const char *dir, const char *id);

#endif
