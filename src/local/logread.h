/* SPDX-License-Identifier: MIT
 *
 * Reading the log of one instance: files named by the offset of their first byte
 * (20 digits and ".log"), records "TIME stdout|stderr F|P text" one a line. A
 * line is one F record with the P records of its stream before it. No loop in
 * here: each step does a bounded amount of work.
 *
 * A cursor is an offset in all that was ever logged; what was delivered up to a
 * cursor follows from the files alone, so that a reader that resumes behind it
 * sees each later line once. For that the pieces of a line that is too long, or
 * that the other stream has left too far behind, end at places that depend on the
 * records only.
 */
#ifndef DAVIT_LOCAL_LOGREAD_H
#define DAVIT_LOCAL_LOGREAD_H

#include "base/buf.h"
#include "davit/runtime.h"

#define LOGREAD_LINE_MAX 262144 /* a longer line is delivered in pieces of at most that size */
#define LOGREAD_CHUNK 65536	/* bytes that one step reads */
#define LOGREAD_STALE 524288	/* bytes after which a line's next record is not waited for */

enum logread_result {
	LOGREAD_MORE,	/* call again */
	LOGREAD_IDLE,	/* everything that is there was delivered */
	LOGREAD_PAUSED, /* `line` returned false */
};

struct logread_segments {
	uint64_t *v; /* ascending */
	size_t n;
};

/* A record within the buffer. */
struct logread_record {
	uint64_t start, end; /* offsets; the newline included */
	int stream;	     /* 0 stdout, 1 stderr */
	bool full;	     /* F */
	int64_t time;	     /* unix ns, or -1 when it has none */
	const char *text;
	size_t len;
};

struct logread_chain {
	struct davit_buf text;
	int64_t time;  /* of its first record */
	uint64_t last; /* end of its last record */
	bool open;
};

struct logread {
	char *dir;
	struct davit_log_query query;
	bool (*line)(void *user, const struct davit_log_line *line);
	void *user;
	enum { LOGREAD_LOCATE, LOGREAD_TAIL, LOGREAD_LOOKBACK, LOGREAD_READ } phase;
	int fd;		  /* of the open segment, or -1 */
	uint64_t segment; /* its first offset */
	uint64_t pos;	  /* forward: of buf's first byte; backward: where the remaining records end */
	uint64_t mute;	  /* what has a cursor up to here was delivered before */
	char *buf;
	size_t at, len; /* parsed and valid bytes of buf */
	/* backward */
	struct logread_segments segments;
	size_t segment_index;
	uint64_t buf_at; /* offset of buf's first byte */
	int64_t tail_left;
	uint64_t resume; /* start of the record that holds `mute`, or `mute` itself between two */
	struct {
		bool done, open;
		uint64_t start;
	} back[2];
	/* forward */
	struct logread_chain chain[2];
	int64_t last_time;
};

/* dir and query are copied. `line` returns false to pause. */
int logread_open(struct logread *lr, const char *dir, const struct davit_log_query *query,
		 bool (*line)(void *user, const struct davit_log_line *line), void *user,
		 struct davit_error *err);
void logread_close(struct logread *lr);
/* One of enum logread_result, or a code. `line` must not close the reader; it may ask its
 * owner to do so afterwards. */
int logread_step(struct logread *lr, struct davit_error *err);

/* One record from `text` (n bytes up to and with its newline). What is none is
 * taken as a whole line of stdout without a time. */
void logread_parse(const char *text, size_t n, struct logread_record *ret);
/* The segments of a directory; one that is not there has none. */
int logread_list(const char *dir, struct logread_segments *ret, struct davit_error *err);

/* logread_back.c: where to begin. As logread_step; sets phase READ at the end. */
int logread_step_back(struct logread *lr, struct davit_error *err);
/* Opens the segment with that first offset. 0, 1 when it is gone, or a code. */
int logread_open_segment(struct logread *lr, uint64_t base, struct davit_error *err);

#endif
