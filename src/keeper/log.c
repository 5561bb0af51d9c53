/* SPDX-License-Identifier: MIT
 *
 * From the pipes to the log, one record a line:
 *
 *	2026-01-02T03:04:05.678901234Z stdout F text
 *
 * P instead of F: the line goes on in the stream's next record. A read that
 * ends within a line is written so at once, so there is no buffer per line.
 *
 * No byte leaves its pipe before it is in the log: a turn looks at the pipe's
 * content through a duplicate (tee), writes it, and takes out what was written.
 * The pipe is the buffer when the disk is full, and the content stays with the
 * workload when the keeper dies.
 */
#include "keeper/launch.h"

#include "base/units.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define TIME_LEN 30		   /* 2026-01-02T03:04:05.678901234Z */
#define PREFIX_LEN (TIME_LEN + 10) /* " stdout F " */
#define TAG_AT (TIME_LEN + 8)
#define TEXT_MAX 16384 /* of a record; a longer line takes several */
#define RETRY_NS (250 * DAVIT_NSEC_PER_MSEC)
#define HARD_FACTOR 4 /* a line without end is rotated at this multiple of max_size */

/* One turn of one stream. */
struct turn {
	struct keeper_slot *slot;
	enum keeper_stream stream;
	char when[DAVIT_TIME_MAX];
	size_t batched;	  /* raw bytes in log_buffer */
	size_t committed; /* raw bytes that are in the log, or dropped for good */
	size_t taken;	  /* of these, what was taken out of the pipe */
	bool partial;	  /* the last record appended, not yet flushed perhaps, was a P */
	bool failed;	  /* nothing can be written now */
};

static void set_partial(struct keeper_slot *s, enum keeper_stream stream, bool on)
{
	uint32_t bit = (uint32_t)KEEPER_PARTIAL << stream;

	s->flags = on ? s->flags | bit : s->flags & ~bit;
}

static bool partial(const struct keeper_slot *s, enum keeper_stream stream)
{
	return s->flags & (uint32_t)KEEPER_PARTIAL << stream;
}

/* How many of the n written bytes are whole records, and how much of the
 * stream they hold. */
static size_t whole_records(const char *p, size_t n, size_t *ret_raw)
{
	size_t end = 0, raw = 0;
	const char *nl;

	while (end < n && (nl = memchr(p + end, '\n', n - end))) {
		raw += (size_t)(nl - (p + end)) - PREFIX_LEN + (p[end + TAG_AT] == 'F');
		end = (size_t)(nl - p) + 1;
	}
	*ret_raw = raw;
	return end;
}

/* Takes out of the pipe what is done with. */
static void settle(struct keeper *k, struct turn *t)
{
	while (t->taken < t->committed) {
		ssize_t n = DAVIT_EINTR(splice(t->slot->fd_pipe[t->stream], NULL, k->fd_null, NULL,
					       t->committed - t->taken, SPLICE_F_NONBLOCK));
		if (n <= 0)
			return;
		t->taken += (size_t)n;
	}
}

/* Writes log_buffer, and takes out of the pipe what it holds. Until log_offset
 * says that it was written, a keeper that takes over cuts it off again. On failure what stays in the file are
 * whole records. */
static void flush(struct keeper *k, struct turn *t)
{
	struct keeper_slot *s = t->slot;
	size_t done = 0, raw = t->batched, whole = k->log_len;
	int fd;

	if (!k->log_len)
		return;
	DAVIT_FAULT("keeper.log.write");
	fd = t->failed ? -1 : keeper_segment_get(k, s);
	while (fd >= 0 && done < k->log_len) {
		ssize_t n = DAVIT_EINTR(pwrite(fd, k->log_buffer + done, k->log_len - done,
					       (off_t)(s->log_offset - s->log_segment + done)));
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	if (done < k->log_len) {
		t->failed = true;
		whole = whole_records(k->log_buffer, done, &raw);
		if (fd >= 0 && whole < done &&
		    ftruncate(fd, (off_t)(s->log_offset - s->log_segment + whole)) < 0)
			keeper_segment_close(k, s); /* opened anew, it is truncated then */
		if (t->batched == 0)
			raw = 0; /* a record of the keeper's own */
	} else if (t->batched)
		set_partial(s, t->stream, t->partial);
	s->log_offset += whole;
	t->committed += raw;
	t->batched = 0;
	k->log_len = 0;
	settle(k, t);
}

/* Appends one record; text is at most TEXT_MAX bytes without a newline. */
static void append(struct keeper *k, struct turn *t, enum keeper_stream stream, const char *text, size_t len,
		   bool full)
{
	char *p = k->log_buffer + k->log_len;

	memcpy(p, t->when, TIME_LEN);
	memcpy(p + TIME_LEN, stream == KEEPER_OUT ? " stdout " : " stderr ", 8);
	p[TAG_AT] = full ? 'F' : 'P';
	p[TAG_AT + 1] = ' ';
	memcpy(p + PREFIX_LEN, text, len);
	p[PREFIX_LEN + len] = '\n';
	k->log_len += PREFIX_LEN + len + 1;
}

static void rotate_if_full(struct keeper *k, struct turn *t, bool at_line)
{
	struct keeper_slot *s = t->slot;
	uint64_t size = s->log_offset - s->log_segment + k->log_len;

	if (!s->log_max_size || size < s->log_max_size || (!at_line && size / HARD_FACTOR < s->log_max_size))
		return;
	flush(k, t);
	if (!t->failed)
		keeper_segment_rotate(k, s);
}

/* A record of the keeper's own: no byte of the stream stands behind it. */
static bool append_own(struct keeper *k, struct turn *t, enum keeper_stream stream, const char *text)
{
	flush(k, t);
	if (t->failed)
		return false;
	append(k, t, stream, text, strlen(text), true);
	flush(k, t);
	if (t->failed)
		return false;
	set_partial(t->slot, stream, false);
	if (stream == t->stream)
		t->partial = false;
	return true;
}

static void start_turn(struct turn *t, struct keeper_slot *s, enum keeper_stream stream)
{
	*t = (struct turn){.slot = s, .stream = stream, .partial = partial(s, stream)};
	davit_time_format(keeper_realtime(), t->when);
}

/* ------------------------------------------------------------------ dropping */

static bool has_tokens(struct keeper_slot *s)
{
	int64_t now = keeper_monotonic(), rate = (int64_t)s->log_rate;
	int64_t passed = now - s->log_refilled;

	if (s->log_policy != DAVIT_LOG_DROP || !s->log_rate)
		return true;
	if (!s->log_refilled || passed >= DAVIT_NSEC_PER_SEC)
		s->log_tokens = s->log_tokens < 0 ? s->log_tokens + rate : rate;
	else
		s->log_tokens += (int64_t)((__int128)rate * passed / DAVIT_NSEC_PER_SEC);
	if (s->log_tokens > rate)
		s->log_tokens = rate;
	s->log_refilled = now;
	return s->log_tokens > 0;
}

static void count_dropped(struct keeper *k, struct keeper_slot *s, uint64_t lines, uint64_t bytes)
{
	s->dropped_lines += lines;
	s->dropped_bytes += bytes;
	keeper_set_add(&k->dropping, keeper_slot_number(k, s));
	keeper_due(&k->marker_due, keeper_monotonic() + DAVIT_NSEC_PER_SEC);
}

static void write_marker(struct keeper *k, struct turn *t)
{
	struct keeper_slot *s = t->slot;
	char text[96];

	if (!s->dropped_bytes)
		return;
	snprintf(text, sizeof text, "davit: %" PRIu64 " lines (%" PRIu64 " bytes) dropped", s->dropped_lines,
		 s->dropped_bytes);
	if (partial(s, KEEPER_ERR))
		append_own(k, t, KEEPER_ERR, "");
	if (!append_own(k, t, KEEPER_ERR, text))
		return;
	s->dropped_lines = s->dropped_bytes = 0;
	keeper_set_remove(&k->dropping, keeper_slot_number(k, s));
}

void keeper_log_markers(struct keeper *k)
{
	struct turn t;

	KEEPER_FOREACH(i, &k->dropping)
	{
		struct keeper_slot *s = keeper_slot(k, i);
		start_turn(&t, s, KEEPER_ERR);
		write_marker(k, &t);
		if (keeper_set_has(&k->dropping, i))
			keeper_due(&k->marker_due, keeper_monotonic() + DAVIT_NSEC_PER_SEC);
	}
}

/* ------------------------------------------------------------------- a turn */

/* Takes one record of raw bytes out of the flood. */
static void drop(struct keeper *k, struct turn *t, size_t raw, bool full)
{
	struct keeper_slot *s = t->slot;
	uint32_t cut = (uint32_t)KEEPER_CUT << t->stream;
	bool begins = !(s->flags & cut);

	flush(k, t);
	if (begins && partial(s, t->stream))
		append_own(k, t, t->stream, ""); /* the line ends where it was cut */
	s->flags = full ? s->flags & ~cut : s->flags | cut;
	count_dropped(k, s, begins, raw);
	t->committed += raw;
}

static void add_record(struct keeper *k, struct turn *t, const char *text, size_t len, bool full)
{
	struct keeper_slot *s = t->slot;
	size_t raw = len + full;
	bool at_line = !t->partial && !partial(s, t->stream == KEEPER_OUT ? KEEPER_ERR : KEEPER_OUT);

	if (s->flags & (uint32_t)KEEPER_CUT << t->stream || !has_tokens(s)) {
		drop(k, t, raw, full);
		return;
	}
	s->log_tokens -= (int64_t)raw;
	if (s->dropped_bytes)
		write_marker(k, t);
	if (k->log_len + PREFIX_LEN + len + 1 > sizeof k->log_buffer)
		flush(k, t);
	rotate_if_full(k, t, at_line);
	if (t->failed)
		return;
	append(k, t, t->stream, text, len, full);
	t->batched += raw;
	t->partial = !full;
}

/* The disk takes no more: DROP goes on without, BLOCK leaves the rest in the
 * pipe. The last byte that got through says whether the stream is in a line. */
static void write_failed(struct keeper *k, struct turn *t, const char *data, size_t n)
{
	struct keeper_slot *s = t->slot;
	uint64_t lines = 0;

	if (t->committed)
		set_partial(s, t->stream, data[t->committed - 1] != '\n');
	if (s->log_policy == DAVIT_LOG_DROP) {
		for (size_t i = t->committed; i < n; i++)
			lines += data[i] == '\n';
		if (n > t->committed && data[n - 1] != '\n')
			s->flags |= (uint32_t)KEEPER_CUT << t->stream;
		count_dropped(k, s, lines, n - t->committed);
		t->committed = n;
		return;
	}
	for (int i = 0; i < 2; i++)
		if (s->fd_pipe[i] >= 0)
			epoll_ctl(k->epoll, EPOLL_CTL_DEL, s->fd_pipe[i], NULL);
	keeper_set_add(&k->blocked, keeper_slot_number(k, s));
	keeper_due(&k->retry_due, keeper_monotonic() + RETRY_NS);
}

/* Writes n bytes of the stream; how many of them are done with. */
static size_t write_stream(struct keeper *k, struct keeper_slot *s, enum keeper_stream stream,
			   const char *data, size_t n)
{
	struct turn t;

	start_turn(&t, s, stream);
	for (size_t pos = 0; pos < n && !t.failed;) {
		size_t len = n - pos < TEXT_MAX ? n - pos : TEXT_MAX;
		const char *nl = memchr(data + pos, '\n', len);
		len = nl ? (size_t)(nl - (data + pos)) : len;
		add_record(k, &t, data + pos, len, nl);
		pos += len + (nl ? 1 : 0);
	}
	flush(k, &t);
	if (t.failed)
		write_failed(k, &t, data, n);
	settle(k, &t);
	return t.committed;
}

bool keeper_log_pump(struct keeper *k, struct keeper_slot *s, enum keeper_stream stream)
{
	int fd = s->fd_pipe[stream];
	size_t have = 0, done;
	ssize_t n;

	if (fd < 0)
		return false;
	n = DAVIT_EINTR(tee(fd, k->fd_scratch[1], sizeof k->chunk, SPLICE_F_NONBLOCK));
	if (n < 0)
		return false;
	if (n == 0) { /* every holder is gone */
		keeper_close(&s->fd_pipe[stream]);
		return false;
	}
	if (n >= KEEPER_CHUNK / 2)
		k->pressed = keeper_monotonic(); /* full soon, and its writer would wait */
	while (have < (size_t)n) {
		ssize_t r = DAVIT_EINTR(read(k->fd_scratch[0], k->chunk + have, (size_t)n - have));
		if (r <= 0)
			break;
		have += (size_t)r;
	}
	done = write_stream(k, s, stream, k->chunk, have);
	if (s->flags & KEEPER_LAUNCHING && stream == KEEPER_ERR)
		keeper_launch_heard(k, s, k->chunk, done);
	return done == have;
}

void keeper_log_ready(struct keeper *k, struct keeper_slot *s, enum keeper_stream stream, uint32_t events)
{
	if (events == EPOLLHUP) /* every holder is gone, and so is what they wrote */
		keeper_close(&s->fd_pipe[stream]);
	else
		keeper_log_pump(k, s, stream);
}

void keeper_log_drain(struct keeper *k, struct keeper_slot *s)
{
	struct turn t;

	for (int i = 0; i < 2; i++) {
		/* What is there now; descendants may go on writing for ever. */
		if (keeper_log_pump(k, s, i)) {
			int room = fcntl(s->fd_pipe[i], F_GETPIPE_SZ);
			for (int turns = room / KEEPER_CHUNK; turns > 0 && keeper_log_pump(k, s, i); turns--)
				;
		}
		if (keeper_set_has(&k->blocked, keeper_slot_number(k, s)))
			return;
		if (partial(s, i)) {
			start_turn(&t, s, i);
			append_own(k, &t, i, "");
		}
		s->flags &= ~((uint32_t)KEEPER_CUT << i);
	}
	if (s->dropped_bytes) {
		start_turn(&t, s, KEEPER_ERR);
		write_marker(k, &t);
	}
}

void keeper_log_close(struct keeper *k, struct keeper_slot *s)
{
	uint32_t number = keeper_slot_number(k, s);

	if (s->fd_pipe[0] >= 0 || s->fd_pipe[1] >= 0) {
		keeper_set_remove(&k->blocked, number);
		keeper_log_drain(k, s);
	}
	keeper_close(&s->fd_pipe[0]);
	keeper_close(&s->fd_pipe[1]);
	keeper_set_remove(&k->blocked, number);
	keeper_segment_close(k, s);
}

void keeper_log_retry(struct keeper *k)
{
	static const enum keeper_source source[] = {KEEPER_ON_PIPE, KEEPER_ON_PIPE_ERR};

	KEEPER_FOREACH(i, &k->blocked)
	{
		struct keeper_slot *s = keeper_slot(k, i);
		keeper_set_remove(&k->blocked, i);
		for (int st = 0; st < 2; st++)
			if (s->fd_pipe[st] >= 0)
				keeper_watch(k, s->fd_pipe[st], source[st], i, s->generation, EPOLLIN);
		/* Ended while it waited: the last line is completed now. */
		if (s->state == KEEPER_SLOT_ENDED)
			keeper_log_drain(k, s);
	}
}
