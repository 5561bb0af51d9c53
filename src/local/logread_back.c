/* SPDX-License-Identifier: MIT
 *
 * Where to begin: backward from the end for a tail, and from the place found so
 * for lines that began before it and end after it.
 */
#include "local/logread.h"

#include "base/util.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* A record is far smaller; with this much added the look back sees more than
 * what can still be open, and never less. */
#define LOOKBACK_MAX (LOGREAD_STALE + 2 * (uint64_t)LOGREAD_CHUNK)

enum { BACK_RECORD, BACK_LOADED, BACK_BEGIN };

/* Reads the bytes before pos, as many as buf holds. */
static int load_before(struct logread *lr, struct davit_error *err)
{
	uint64_t left = lr->pos - lr->segment;
	size_t n = left < LOGREAD_CHUNK ? (size_t)left : LOGREAD_CHUNK;
	ssize_t got;

	lr->buf_at = lr->pos - n;
	got = DAVIT_EINTR(pread(lr->fd, lr->buf, n, (off_t)(lr->buf_at - lr->segment)));
	if (got < 0)
		return davit_error_errno(err, errno, "logs", "cannot read a log in %s", lr->dir);
	lr->len = (size_t)got;
	return BACK_LOADED;
}

/* Opens the segment number segment_index and puts pos behind its last whole
 * record, at `limit` at most. */
static int enter_segment(struct logread *lr, uint64_t limit, struct davit_error *err)
{
	struct stat st;
	int r = logread_open_segment(lr, lr->segments.v[lr->segment_index], err);
	const char *nl;

	if (r < 0)
		return r;
	if (r > 0) { /* rotated away since it was listed: nothing of it is left */
		lr->pos = lr->segment = lr->segments.v[lr->segment_index];
		lr->len = 0;
		return BACK_LOADED;
	}
	if (fstat(lr->fd, &st) < 0)
		return davit_error_errno(err, errno, "logs", "cannot read a log in %s", lr->dir);
	lr->pos = lr->segment + (uint64_t)st.st_size;
	if (lr->pos > limit)
		lr->pos = limit;
	r = load_before(lr, err);
	if (r < 0)
		return r;
	nl = memrchr(lr->buf, '\n', lr->len);
	lr->pos = nl ? lr->buf_at + (uint64_t)(nl - lr->buf) + 1 : lr->buf_at;
	lr->len = (size_t)(lr->pos - lr->buf_at);
	return BACK_LOADED;
}

/* The record that ends at pos, which moves to its start. BACK_LOADED: one
 * chunk was read instead, call again. */
static int previous(struct logread *lr, struct logread_record *ret, struct davit_error *err)
{
	size_t n;
	const char *nl;

	if (lr->pos == lr->segment) {
		if (!lr->segment_index)
			return BACK_BEGIN;
		lr->segment_index--;
		return enter_segment(lr, UINT64_MAX, err);
	}
	if (lr->pos <= lr->buf_at || lr->pos > lr->buf_at + lr->len)
		return load_before(lr, err);
	n = (size_t)(lr->pos - lr->buf_at);
	nl = n > 1 ? memrchr(lr->buf, '\n', n - 1) : NULL;
	if (!nl && lr->buf_at > lr->segment && n < LOGREAD_CHUNK)
		return load_before(lr, err); /* it began before what was read */
	n = nl ? n - (size_t)(nl - lr->buf) - 1 : n;
	logread_parse(lr->buf + (lr->pos - lr->buf_at) - n, n, ret);
	ret->end = lr->pos;
	lr->pos -= n;
	ret->start = lr->pos;
	return BACK_RECORD;
}

/* Reads on from here: pos is the start of a record, or the end. */
static int begin_reading(struct logread *lr, uint64_t at)
{
	if (lr->fd >= 0)
		close(DAVIT_TAKE_FD(lr->fd));
	free(DAVIT_TAKE(lr->segments.v));
	lr->segments.n = 0;
	lr->pos = at;
	lr->at = lr->len = 0;
	lr->segment = 0;
	lr->phase = LOGREAD_READ;
	return LOGREAD_MORE;
}

/* What ends at `at` or before was seen, or is not wanted: finds the beginning of the
 * lines that go on behind it. */
static int begin_lookback(struct logread *lr, uint64_t at, struct davit_error *err)
{
	int r;

	lr->mute = at;
	lr->phase = LOGREAD_LOOKBACK;
	/* The one that ends at `at`, not the one that begins there. */
	for (lr->segment_index = lr->segments.n - 1;
	     lr->segment_index && lr->segments.v[lr->segment_index] >= at;)
		lr->segment_index--;
	if (lr->segments.v[lr->segment_index] >= at)
		return begin_reading(lr, lr->segments.v[lr->segment_index]);
	r = enter_segment(lr, at, err);
	lr->resume = lr->pos;
	return r < 0 ? r : LOGREAD_MORE;
}

static int step_lookback(struct logread *lr, struct davit_error *err)
{
	uint64_t from;

	for (;;) {
		struct logread_record rec;
		int s, r = previous(lr, &rec, err);

		if (r < 0)
			return r;
		if (r == BACK_LOADED)
			return LOGREAD_MORE;
		if (r == BACK_BEGIN)
			break;
		s = rec.stream;
		for (int i = 0; i < 2; i++)
			if (!lr->back[i].open && lr->mute - rec.end > LOOKBACK_MAX)
				lr->back[i].done = true;
		if (!lr->back[s].done &&
		    (rec.full || (lr->back[s].open && lr->back[s].start - rec.end > LOGREAD_STALE)))
			lr->back[s].done = true;
		else if (!lr->back[s].done) {
			lr->back[s].open = true;
			lr->back[s].start = rec.start;
		}
		if (lr->back[0].done && lr->back[1].done)
			break;
	}
	from = lr->resume;
	for (int i = 0; i < 2; i++)
		if (lr->back[i].open && lr->back[i].start < from)
			from = lr->back[i].start;
	return begin_reading(lr, from);
}

static int step_tail(struct logread *lr, struct davit_error *err)
{
	for (;;) {
		struct logread_record rec;
		int r;

		/* Where the reading would begin if the record before is one too many. */
		r = previous(lr, &rec, err);
		if (r < 0)
			return r;
		if (r == BACK_LOADED)
			return LOGREAD_MORE;
		if (r == BACK_BEGIN)
			return begin_reading(lr, lr->segments.v[0]);
		if (rec.full && lr->tail_left-- == 0)
			return begin_lookback(lr, rec.end, err);
	}
}

/* The last segment that begins at or before the time, for `since`. */
static int skip_older(struct logread *lr, size_t *ret, struct davit_error *err)
{
	for (size_t i = lr->segments.n; i-- > 1;) {
		struct logread_record rec;
		ssize_t n;
		int r = logread_open_segment(lr, lr->segments.v[i], err);

		if (r < 0)
			return r;
		n = r ? -1 : DAVIT_EINTR(pread(lr->fd, lr->buf, LOGREAD_CHUNK, 0));
		if (n <= 0)
			continue;
		const char *nl = memchr(lr->buf, '\n', (size_t)n);

		logread_parse(lr->buf, nl ? (size_t)(nl - lr->buf) + 1 : (size_t)n, &rec);
		if (rec.time >= 0 && rec.time < lr->query.since) {
			*ret = i;
			return 0;
		}
	}
	*ret = 0;
	return 0;
}

static int locate(struct logread *lr, struct davit_error *err)
{
	const struct davit_log_query *q = &lr->query;
	struct logread_segments *s = &lr->segments;
	size_t first = 0;
	int r = logread_list(lr->dir, s, err);

	if (r < 0)
		return r;
	if (!s->n)
		return begin_reading(lr, 0);
	if (q->after) {
		struct stat st;

		/* Behind the end: the log was discarded and begun anew. */
		r = logread_open_segment(lr, s->v[s->n - 1], err);
		if (!r && (fstat(lr->fd, &st) < 0 || q->after > lr->segment + (uint64_t)st.st_size))
			return begin_reading(lr, s->v[0]);
		return r < 0 ? r : begin_lookback(lr, q->after, err);
	}
	if (q->tail >= 0) {
		lr->phase = LOGREAD_TAIL;
		lr->tail_left = q->tail;
		lr->segment_index = s->n - 1;
		r = enter_segment(lr, UINT64_MAX, err);
		return r < 0 ? r : LOGREAD_MORE;
	}
	if (q->since)
		r = skip_older(lr, &first, err);
	if (r < 0)
		return r;
	return first ? begin_lookback(lr, s->v[first], err) : begin_reading(lr, s->v[0]);
}

int logread_step_back(struct logread *lr, struct davit_error *err)
{
	switch (lr->phase) {
	case LOGREAD_LOCATE:
		return locate(lr, err);
	case LOGREAD_TAIL:
		return step_tail(lr, err);
	default:
		return step_lookback(lr, err);
	}
}
