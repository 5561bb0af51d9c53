/* SPDX-License-Identifier: MIT
 *
 * Records of a log made into lines, with cursors, filters and a tail. No loop, no
 * calls.
 *
 * An engine numbers no lines; all that it can be asked is "since a time". So a
 * cursor is a time and a count: microseconds since 2020 in the upper 50 bits, the
 * place among the lines of the same microsecond in the lower 14; one that comes
 * late or is too many takes the number after the last. Whoever reads the same log
 * from any moment before gets the same numbers, provided that the lines around
 * that moment are read too: hence LINES_SLACK.
 */
#ifndef DAVIT_ENGINE_LINES_H
#define DAVIT_ENGINE_LINES_H

#include "base/buf.h"
#include "davit/runtime.h"

/* How far before a line one has to begin to give it its number. */
#define LINES_SLACK INT64_C(1000000000)
#define LINES_MAX 262144 /* a longer line is delivered in pieces */

struct lines_kept;

struct lines {
	int64_t since;	/* older lines are left out */
	uint64_t after; /* and those with a cursor up to here */
	int64_t tail;	/* so many are kept back, the last ones; -1: none */
	bool (*line)(void *user, const struct davit_log_line *line); /* false: pause */
	void *user;
	/* readable */
	uint64_t last;	   /* the cursor of the last line that was seen */
	int64_t last_time; /* its time */
	int64_t first;	   /* the time of the first line that was seen; 0: none yet */
	uint64_t records;
	bool oom;
	/* private */
	struct {
		struct davit_buf text;
		int64_t time;
		bool open;
	} part[2];
	struct lines_kept *head, *end;
	int64_t n_kept;
};

void lines_init(struct lines *l, const struct davit_log_query *query,
		bool (*line)(void *user, const struct davit_log_line *line), void *user);
void lines_fini(struct lines *l);
/* Begins to read anew, behind what was seen: without a tail. */
void lines_resume(struct lines *l);
/* Forgets what was seen: the same query is read again. */
void lines_restart(struct lines *l);
/* One record; whole: it ends a line. False: pause, before the next one. */
bool lines_add(struct lines *l, enum davit_stream stream, int64_t time, const char *text, size_t n,
	       bool whole);
/* Hands out what was kept back. False: pause; call again. */
bool lines_flush(struct lines *l);
/* The time of the first line that is kept back; 0: none is. */
int64_t lines_first_kept(const struct lines *l);
/* The time to read from for a line with that cursor. */
int64_t lines_time(uint64_t cursor);

#endif
