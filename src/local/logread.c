/* SPDX-License-Identifier: MIT
 *
 * Reading forward: from records to lines.
 */
#include "local/logread.h"

#include "base/units.h"
#include "base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define TIME_LEN 30 /* 2026-01-02T03:04:05.678901234Z */
#define TEXT_AT 40  /* behind " stdout F " */

void logread_parse(const char *p, size_t n, struct logread_record *ret)
{
	char when[TIME_LEN + 1];
	size_t len = n && p[n - 1] == '\n' ? n - 1 : n;

	*ret = (struct logread_record){.full = true, .time = -1, .text = p, .len = len};
	if (len < TEXT_AT || (memcmp(p + TIME_LEN, " stdout ", 8) && memcmp(p + TIME_LEN, " stderr ", 8)) ||
	    (p[38] != 'F' && p[38] != 'P') || p[39] != ' ')
		return;
	memcpy(when, p, TIME_LEN);
	when[TIME_LEN] = '\0';
	if (davit_time_parse(when, &ret->time, NULL) < 0) {
		ret->time = -1;
		return;
	}
	ret->stream = p[TIME_LEN + 4] == 'e';
	ret->full = p[38] == 'F';
	ret->text = p + TEXT_AT;
	ret->len = len - TEXT_AT;
}

static bool parse_name(const char *name, uint64_t *ret)
{
	if (strspn(name, "0123456789") != 20 || strcmp(name + 20, ".log"))
		return false;
	errno = 0;
	*ret = strtoull(name, NULL, 10);
	return errno == 0;
}

static int by_offset(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

int logread_list(const char *dir, struct logread_segments *ret, struct davit_error *err)
{
	struct logread_segments s = {0};
	DIR *d = opendir(dir);
	struct dirent *e;
	uint64_t at;
	int r = 0;

	if (!d && errno == ENOENT) {
		*ret = s;
		return 0;
	}
	if (!d)
		return davit_error_errno(err, errno, "logs", "cannot read %s", dir);
	while ((e = readdir(d))) {
		uint64_t *v;

		if (!parse_name(e->d_name, &at))
			continue;
		v = reallocarray(s.v, s.n + 1, sizeof *v);
		if (!v) {
			r = davit_error_set(err, DAVIT_ENOMEM, "logs", "out of memory");
			break;
		}
		s.v = v;
		s.v[s.n++] = at;
	}
	closedir(d);
	if (r < 0) {
		free(s.v);
		return r;
	}
	if (s.n)
		qsort(s.v, s.n, sizeof *s.v, by_offset);
	*ret = s;
	return 0;
}

int logread_open_segment(struct logread *lr, uint64_t base, struct davit_error *err)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof path, "%s/%020" PRIu64 ".log", lr->dir, base);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT ? 1 : davit_error_errno(err, errno, "logs", "cannot open %s", path);
	if (lr->fd >= 0)
		close(lr->fd);
	lr->fd = fd;
	lr->segment = base;
	return 0;
}

int logread_open(struct logread *lr, const char *dir, const struct davit_log_query *query,
		 bool (*line)(void *user, const struct davit_log_line *line), void *user,
		 struct davit_error *err)
{
	*lr = (struct logread){
		.dir = strdup(dir),
		.query = *query,
		.line = line,
		.user = user,
		.fd = -1,
		.buf = malloc(LOGREAD_CHUNK + 1),
	};
	if (lr->dir && lr->buf)
		return 0;
	logread_close(lr);
	return davit_error_set(err, DAVIT_ENOMEM, "logs", "out of memory");
}

void logread_close(struct logread *lr)
{
	free(lr->dir);
	free(lr->buf);
	free(lr->segments.v);
	for (int i = 0; i < 2; i++)
		davit_buf_fini(&lr->chain[i].text);
	if (lr->fd >= 0)
		close(lr->fd);
	*lr = (struct logread){.fd = -1};
}

/* ---------------------------------------------------------------------- lines */

static bool emit(struct logread *lr, int stream, int64_t time, const char *text, size_t len, uint64_t cursor)
{
	struct davit_log_line line = {
		.cursor = cursor,
		.time = time,
		.stream = stream ? DAVIT_STDERR : DAVIT_STDOUT,
		.text = text,
		.len = len,
	};

	if (cursor <= lr->mute || time < lr->query.since)
		return true;
	return lr->line(lr->user, &line);
}

static bool emit_chain(struct logread *lr, int stream, uint64_t cursor)
{
	struct logread_chain *c = &lr->chain[stream];
	bool more = emit(lr, stream, c->time, davit_buf_str(&c->text), c->text.len, cursor);

	davit_buf_reset(&c->text);
	c->open = false;
	return more;
}

enum { NEXT, AGAIN, PAUSE, PAUSE_NEXT };

/* Does one thing about a record, so that a pause can come between any two lines: AGAIN
 * when the record is not done with. The cursors of pieces lie within the record that
 * made them due, each at another byte, so that every line has a cursor of its own. */
static int take(struct logread *lr, const struct logread_record *r, struct davit_error *err)
{
	struct logread_chain *c = &lr->chain[r->stream], *other = &lr->chain[!r->stream];
	bool more;

	if (other->open && r->start - other->last > LOGREAD_STALE)
		return emit_chain(lr, !r->stream, r->start + 1) ? AGAIN : PAUSE;
	if (c->open && (c->text.len + r->len > LOGREAD_LINE_MAX || r->start - c->last > LOGREAD_STALE))
		return emit_chain(lr, r->stream, r->start + 2) ? AGAIN : PAUSE;
	if (r->time >= 0)
		lr->last_time = r->time;
	if (!c->open && r->full) {
		more = emit(lr, r->stream, lr->last_time, r->text, r->len, r->end);
		return more ? NEXT : PAUSE_NEXT;
	}
	if (!c->open)
		c->time = lr->last_time;
	c->open = true;
	c->last = r->end;
	davit_buf_add(&c->text, r->text, r->len);
	if (c->text.oom)
		return davit_error_set(err, DAVIT_ENOMEM, "logs", "out of memory");
	if (!r->full)
		return NEXT;
	return emit_chain(lr, r->stream, r->end) ? NEXT : PAUSE_NEXT;
}

/* Delivers the whole records in buf. */
static int consume(struct logread *lr, struct davit_error *err)
{
	while (lr->at < lr->len) {
		const char *p = lr->buf + lr->at, *nl = memchr(p, '\n', lr->len - lr->at);
		size_t n = nl ? (size_t)(nl - p) + 1 : lr->len - lr->at;
		struct logread_record r;
		int what;

		/* No keeper writes a record that fills the buffer; one is taken as it comes. */
		if (!nl && n < LOGREAD_CHUNK)
			break;
		logread_parse(p, n, &r);
		r.start = lr->pos + lr->at;
		r.end = r.start + n;
		do
			what = take(lr, &r, err);
		while (what == AGAIN);
		if (what < 0)
			return what;
		if (what == NEXT || what == PAUSE_NEXT)
			lr->at += n;
		if (what != NEXT)
			return LOGREAD_PAUSED;
	}
	/* The beginning of a record is read anew with its rest: until its newline is
	 * there, the keeper may take it back. */
	lr->pos += lr->at;
	lr->at = lr->len = 0;
	return LOGREAD_MORE;
}

/* ---------------------------------------------------------------------- reading */

/* Opens the segment that holds pos, or the first one behind it. 1: there is none. */
static int find_segment(struct logread *lr, bool behind, struct davit_error *err)
{
	struct logread_segments s;
	size_t i;
	int r = logread_list(lr->dir, &s, err);

	if (r < 0)
		return r;
	for (i = 0; i < s.n && (behind ? s.v[i] <= lr->segment : i + 1 < s.n && s.v[i + 1] <= lr->pos); i++)
		;
	r = i < s.n ? 0 : 1;
	if (!r)
		r = logread_open_segment(lr, s.v[i], err);
	free(s.v);
	/* What lies between was rotated away before it was read. */
	if (!r && lr->pos < lr->segment)
		lr->pos = lr->segment;
	return r;
}

static ssize_t fill(struct logread *lr, struct davit_error *err)
{
	ssize_t n = DAVIT_EINTR(pread(lr->fd, lr->buf, LOGREAD_CHUNK, (off_t)(lr->pos - lr->segment)));

	if (n < 0)
		return davit_error_errno(err, errno, "logs", "cannot read a log in %s", lr->dir);
	lr->at = 0;
	lr->len = (size_t)n;
	return n;
}

static int step_forward(struct logread *lr, struct davit_error *err)
{
	uint64_t before;
	ssize_t n;
	int r;

	if (lr->len) { /* behind a pause */
		r = consume(lr, err);
		if (r)
			return r;
	}
	if (lr->fd < 0) {
		r = find_segment(lr, false, err);
		if (r)
			return r < 0 ? r : LOGREAD_IDLE;
	}
	before = lr->pos;
	n = fill(lr, err);
	if (n < 0)
		return (int)n;
	r = consume(lr, err);
	if (r || lr->pos != before)
		return r;
	/* At the end of this file. The next one was made after the last write to this one:
	 * if there is one, then this one is looked at once more before it is left. */
	uint64_t segment = lr->segment;
	int old = lr->fd;

	lr->fd = -1;
	r = find_segment(lr, true, err);
	if (r) {
		lr->fd = old;
		return r < 0 ? r : LOGREAD_IDLE;
	}
	struct stat st;
	bool grown = !fstat(old, &st) && before + (uint64_t)n < segment + (uint64_t)st.st_size;

	if (!grown) {
		close(old);
		return LOGREAD_MORE;
	}
	close(lr->fd);
	lr->fd = old;
	lr->segment = segment;
	lr->pos = before;
	return LOGREAD_MORE;
}

int logread_step(struct logread *lr, struct davit_error *err)
{
	return lr->phase == LOGREAD_READ ? step_forward(lr, err) : logread_step_back(lr, err);
}
