/* SPDX-License-Identifier: MIT
 *
 * What the tests of containers share: a system without threads on a clock that the
 * test moves, and a trace of what happened in it.
 */
#ifndef DAVIT_ACTOR_TEST_RIG_H
#define DAVIT_ACTOR_TEST_RIG_H

#include "davit/container.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MS INT64_C(1000000)
#define SEC (1000 * MS)

struct world {
	struct davit_system *system;
	struct davit_context *c;
	int lines; /* of the log */
	char line[256];
};

struct world *open_world(void);
void close_world(struct world *w);
/* Adds a word to the trace. */
void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* What was noted since the last call; valid until the next one. */
const char *trace(void);
/* The words of a trace that contain `part`. */
const char *only(const char *trace, const char *part);
/* Runs until the promise has ended: its code. */
int finish(struct world *w, struct davit_promise p);
int make(struct world *w, const char *alias, const struct davit_definition *d, unsigned flags);
/* Creates and starts, or the test fails. */
void make_under(struct world *w, const char *parent, const char *alias, const struct davit_definition *d);
int do_destroy(struct world *w, const char *alias, unsigned flags);
enum davit_state state(struct world *w, const char *alias);
/* Sends a text and lets all happen that follows. */
void tell(struct world *w, const char *alias, const char *text);
/* Moves the clock and lets all happen that follows. */
void pass(struct world *w, int64_t ns);
/* sent = handled + dead, nothing being queued. */
void balance(struct world *w);

#endif
