/* SPDX-License-Identifier: MIT
 *
 * The logs facet. Two places hold a log: a file of ours, in the keeper's format
 * (written by an engine that can, or by us before a container is removed), and the
 * engine behind its API. A reader takes the file first, then the engine; who
 * follows goes on with whichever grows.
 */
#include "runtime/engine/impl.h"

#include "local/local.h"

#include "base/file.h"
#include "runtime/engine/frame.h"
#include "runtime/engine/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <uv.h>

#define CHUNK 65536
#define RETRY (500 * DAVIT_NSEC_PER_MSEC)

enum stage {
	STAGE_FILE,   /* the file is read */
	STAGE_ENGINE, /* what the engine has is read */
	STAGE_FLUSH,  /* the tail is handed out */
	STAGE_FOLLOW, /* what comes */
	STAGE_OVER,
};

/* Apart from the core's object: that may be freed in any callback, by close. */
struct stream {
	struct davit_log_reader *reader; /* NULL once closed */
	struct davit_list list;
	struct engine *e;
	struct davit_instance *inst;
	struct lines lines;
	enum stage stage;
	struct davit_timer timer; /* the next step */
	bool paused, busy;
	/* the file */
	char *path;
	int fd;
	char *buf;
	size_t len;
	uv_fs_event_t watch;
	bool watching;
	/* the engine */
	struct http_call *call;
	int64_t asked; /* messages: the tail that the engine was asked for; -1: all */
};

static struct stream **slot_of(struct davit_log_reader *r)
{
	return (struct stream **)(void *)(r + 1);
}

char *logs_path(struct davit_runtime *rt, const char *id)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;

	/* The first segment, by the name that src/local/logread.h wants. */
	davit_buf_addf(&b, "%s/%s/%020d.log", rt->log_dir, id, 0);
	return davit_buf_take(&b);
}

/* --- life of a stream --- */

static void stream_free(struct stream *s)
{
	lines_fini(&s->lines);
	if (s->fd >= 0)
		close(s->fd);
	free(s->path);
	free(s->buf);
	free(s);
}

static void on_watch_closed(uv_handle_t *h)
{
	stream_free(h->data);
}

static void dispose(struct stream *s)
{
	if (s->watching)
		uv_close((uv_handle_t *)&s->watch, on_watch_closed);
	else
		stream_free(s);
}

static void stream_close(struct stream *s)
{
	*slot_of(s->reader) = NULL;
	s->reader = NULL;
	davit_list_remove(&s->list);
	davit_timer_stop(&s->timer);
	http_cancel(DAVIT_TAKE(s->call));
	if (!s->busy)
		dispose(s); /* else at the end of the step */
}

/* Around whatever may call the reader's owner. False: it was closed. */
static bool leave(struct stream *s)
{
	s->busy = false;
	if (s->reader)
		return true;
	dispose(s);
	return false;
}

static bool on_line(void *user, const struct davit_log_line *line)
{
	struct stream *s = user;

	if (!s->reader || s->paused)
		return false;
	s->paused = !s->reader->line(s->reader, line);
	return !s->paused && s->reader;
}

static void stream_end(struct stream *s, int code, const char *text)
{
	struct davit_error err = {0};

	s->stage = STAGE_OVER;
	if (code)
		davit_error_set(&err, code, "logs", "%s", text);
	s->reader->end(s->reader, code, code ? &err : NULL);
}

static void again(struct stream *s, int64_t pause)
{
	if (davit_timer_start(&s->timer, pause) < 0)
		stream_end(s, DAVIT_ENOMEM, "out of memory");
}

/* --- the file --- */

/* The records that are complete; what is left begins one. */
static void parse_file(struct stream *s)
{
	struct frame f;
	int64_t time;
	size_t at = 0;
	bool whole;
	char *end;

	while (!s->paused && s->reader && (end = memchr(s->buf + at, '\n', s->len - at))) {
		size_t n = (size_t)(end + 1 - (s->buf + at));
		f = (struct frame){.data = s->buf + at, .n = n - 1};
		at += n;
		if (frame_record(&f, &time, &whole))
			lines_add(&s->lines, f.stream, time, f.data, f.n, whole);
	}
	/* Longer than any record is: not one. */
	if (!at && s->len == CHUNK)
		at = s->len;
	memmove(s->buf, s->buf + at, s->len - at);
	s->len -= at;
}

/* An engine that rotates puts a new file in the place of the full one. */
static bool was_replaced(struct stream *s)
{
	struct stat mine, now;

	return fstat(s->fd, &mine) == 0 && stat(s->path, &now) == 0 && mine.st_ino != now.st_ino;
}

enum read { READ_MORE, READ_END, READ_FAILED };

static enum read read_file(struct stream *s)
{
	ssize_t n;

	if (s->fd < 0) {
		s->fd = open(s->path, O_RDONLY | O_CLOEXEC);
		s->len = 0;
		if (s->fd < 0)
			return errno == ENOENT ? READ_END : READ_FAILED;
	}
	n = read(s->fd, s->buf + s->len, CHUNK - s->len);
	if (n < 0)
		return READ_FAILED;
	s->len += (size_t)n;
	s->busy = true;
	parse_file(s);
	if (n > 0 || s->paused || !s->reader || memchr(s->buf, '\n', s->len))
		return READ_MORE;
	if (!was_replaced(s))
		return READ_END;
	close(s->fd);
	s->fd = -1;
	return READ_MORE;
}

static void on_change(uv_fs_event_t *w, const char *name, int events, int status)
{
	struct stream *s = w->data;

	/* What ran dry goes on; a step that is due anyway sees this change too. */
	if (s->reader && s->stage == STAGE_FOLLOW && !s->paused && !davit_timer_active(&s->timer))
		again(s, 0);
}

static int watch(struct stream *s, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *dir = strdup(s->path);
	int e, r;

	if (!dir)
		return davit_error_set(err, DAVIT_ENOMEM, "logs", "out of memory");
	*strrchr(dir, '/') = '\0';
	r = davit_mkdirs(dir, 0700, err);
	if (r < 0)
		return r;
	e = uv_fs_event_init(davit_loop_uv(s->e->rt->loop), &s->watch);
	if (e == 0) {
		s->watch.data = s;
		s->watching = true;
		e = uv_fs_event_start(&s->watch, on_change, dir, 0);
	}
	return e < 0 ? davit_error_errno(err, -e, "logs", "cannot watch %s", dir) : 0;
}

/* --- the engine --- */

static bool on_frames(struct http_call *c)
{
	struct stream *s = c->user;
	struct frame f;
	int64_t time;
	size_t at;

	s->busy = true;
	while (!s->paused && s->reader && frame_next(&c->body, &f) > 0) {
		at = FRAME_HEADER + f.n;
		if (!frame_stamp(&f, &time))
			time = s->lines.last_time;
		if (f.n && f.data[f.n - 1] == '\n')
			lines_add(&s->lines, f.stream, time, f.data, f.n - 1, true);
		else
			lines_add(&s->lines, f.stream, time, f.data, f.n, false);
		davit_buf_consume(&c->body, at);
	}
	s->busy = false;
	if (!s->reader) {
		dispose(s);
		return true; /* cancelled: nothing comes */
	}
	return !s->paused;
}

/* Whether the tail may begin within lines whose numbers depend on what was not read. */
static bool needs_more(const struct stream *s)
{
	return s->asked >= 0 && s->lines.records >= (uint64_t)s->asked &&
	       (s->lines.n_kept < s->lines.tail || lines_first_kept(&s->lines) == 0 ||
		lines_first_kept(&s->lines) - s->lines.first < 1000000);
}

static void ask(struct stream *s);

static void on_frames_end(struct http_call *c, const struct davit_error *err)
{
	struct stream *s = c->user;

	s->call = NULL;
	if (s->stage == STAGE_FOLLOW) {
		/* At the end of a run, until the next one; or the engine is away. */
		if (engine_instance(s->inst)->state == DAVIT_STATE_STARTED)
			again(s, RETRY);
		return;
	}
	if (err && err->code != DAVIT_ENOENT) {
		stream_end(s, err->code, err->message);
		return;
	}
	if (!err && needs_more(s)) {
		s->asked = s->asked > 100000 ? -1 : s->asked * 8;
		lines_restart(&s->lines);
		ask(s);
		return;
	}
	s->stage = STAGE_FLUSH;
	again(s, 0);
}

/* What the engine has: from the time that can matter on, or so many messages. */
static void ask(struct stream *s)
{
	bool follow = s->stage == STAGE_FOLLOW;
	int64_t from = s->lines.since;
	DAVIT_AUTO_BUF query = DAVIT_BUF_INIT;

	if (s->lines.after && lines_time(s->lines.after) > from)
		from = lines_time(s->lines.after);
	davit_buf_addf(&query, "stdout=1&stderr=1&timestamps=1&follow=%d", follow);
	if (from > LINES_SLACK)
		davit_buf_addf(&query, "&since=%" PRId64 ".%09" PRId64,
			       (from - LINES_SLACK) / DAVIT_NSEC_PER_SEC,
			       (from - LINES_SLACK) % DAVIT_NSEC_PER_SEC);
	if (!follow && s->lines.tail >= 0 && s->asked >= 0)
		davit_buf_addf(&query, "&tail=%" PRId64, s->asked);
	s->call = http_new(&s->e->streams, "GET", "/containers/%s/logs?%s",
			   engine_instance(s->inst)->container, davit_buf_str(&query));
	if (s->call) {
		s->call->user = s;
		s->call->data = on_frames;
		s->call->done = on_frames_end;
	}
	if (!s->call || http_send(s->call, NULL) < 0) {
		s->call = NULL;
		stream_end(s, DAVIT_ENOMEM, "out of memory");
	}
}

/* --- steps --- */

static void file_ended(struct stream *s)
{
	if (s->stage == STAGE_FOLLOW)
		return; /* until it changes */
	if (s->e->flavour->log_to_file || !engine_instance(s->inst)->inst) {
		s->stage = STAGE_FLUSH;
		again(s, 0);
		return;
	}
	s->stage = STAGE_ENGINE;
	s->asked = s->lines.tail < 0 || s->lines.tail > 50000 ? -1 : 2 * s->lines.tail + 100;
	ask(s);
}

static void step_file(struct stream *s)
{
	enum read r = read_file(s);

	if (!leave(s))
		return;
	if (r == READ_FAILED)
		stream_end(s, DAVIT_EIO, "cannot read the log's file");
	else if (r == READ_END)
		file_ended(s);
	else if (!s->paused)
		again(s, 0);
}

static void step_flush(struct stream *s)
{
	bool done;

	s->busy = true;
	done = lines_flush(&s->lines);
	if (!leave(s) || (!done && s->paused))
		return;
	if (s->lines.oom) {
		stream_end(s, DAVIT_ENOMEM, "out of memory");
	} else if (!s->reader->query.follow) {
		stream_end(s, 0, NULL);
	} else {
		s->stage = STAGE_FOLLOW;
		s->lines.tail = -1;
		if (!s->paused)
			again(s, 0);
	}
}

static void step_follow(struct stream *s)
{
	if (s->e->flavour->log_to_file) {
		step_file(s);
	} else if (!s->call && engine_instance(s->inst)->inst) {
		lines_resume(&s->lines);
		ask(s);
	}
}

static void on_timer(struct davit_timer *t)
{
	struct stream *s = DAVIT_CONTAINER_OF(t, struct stream, timer);

	switch (s->stage) {
	case STAGE_FILE:
		step_file(s);
		break;
	case STAGE_FLUSH:
		step_flush(s);
		break;
	case STAGE_FOLLOW:
		step_follow(s);
		break;
	default:
		break;
	}
}

void logs_started(struct davit_instance *inst)
{
	struct stream *s;

	DAVIT_LIST_FOREACH (s, &engine_of(inst->runtime)->readers, list)
		if (s->inst == inst && s->stage == STAGE_FOLLOW && !s->call && !s->paused)
			again(s, 0);
}

/* --- the facet --- */

static int logs_open(struct davit_log_reader *r, struct davit_error *err)
{
	struct davit_runtime *rt = r->instance->runtime;
	struct stream *s = calloc(1, sizeof *s);
	int code = 0;

	if (!s)
		return davit_error_set(err, DAVIT_ENOMEM, "logs", "out of memory");
	s->reader = r;
	s->e = engine_of(rt);
	s->inst = r->instance;
	s->fd = -1;
	davit_list_init(&s->list);
	davit_list_add_tail(&s->e->readers, &s->list);
	davit_timer_init(&s->timer, rt->loop, on_timer);
	lines_init(&s->lines, &r->query, on_line, s);
	*slot_of(r) = s;
	s->path = logs_path(rt, r->instance->workload->id);
	s->buf = malloc(CHUNK);
	if (!s->path || !s->buf)
		code = davit_error_set(err, DAVIT_ENOMEM, "logs", "out of memory");
	/* Watched first, so that no change falls between reading and watching. */
	if (!code && r->query.follow && s->e->flavour->log_to_file)
		code = watch(s, err);
	if (!code && davit_timer_start(&s->timer, 0) < 0)
		code = davit_error_set(err, DAVIT_ENOMEM, "logs", "out of memory");
	if (code < 0)
		stream_close(s);
	return code;
}

static void logs_resume(struct davit_log_reader *r)
{
	struct stream *s = *slot_of(r);

	if (!s || !s->paused)
		return;
	s->paused = false;
	if (s->call)
		http_resume(s->call);
	else
		again(s, 0);
}

static void logs_close(struct davit_log_reader *r)
{
	if (*slot_of(r))
		stream_close(*slot_of(r));
}

void logs_close_all(struct engine *e)
{
	struct stream *s, *tmp;

	DAVIT_LIST_FOREACH_SAFE (s, tmp, &e->readers, list)
		stream_close(s);
}

const struct davit_logs_facet engine_logs = {
	.reader_size = sizeof(struct stream *),
	.open = logs_open,
	.resume = logs_resume,
	.close = logs_close,
	.discard = local_logs_discard,
};
