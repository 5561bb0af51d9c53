/* SPDX-License-Identifier: MIT
 *
 * The logs facet: a reader of the keeper's files on the loop.
 */
#include "local/local.h"
#include "local/logread.h"

#include "base/file.h"

#include <string.h>
#include <uv.h>

/* Apart from the core's object: that may be freed in any callback, by close. */
struct log_stream {
	struct davit_log_reader *reader; /* NULL once closed */
	struct davit_list list;
	struct logread lr;
	struct davit_timer timer;
	uv_fs_event_t watch;
	bool watching, paused, stepping;
	char *dir;
};

static struct log_stream **slot_of(struct davit_log_reader *r)
{
	return (struct log_stream **)(void *)(r + 1);
}

static void stream_free(struct log_stream *s)
{
	logread_close(&s->lr);
	free(s->dir);
	free(s);
}

static void on_watch_closed(uv_handle_t *h)
{
	stream_free(h->data);
}

static void stream_close(struct log_stream *s)
{
	*slot_of(s->reader) = NULL;
	s->reader = NULL;
	davit_list_remove(&s->list);
	davit_timer_stop(&s->timer);
	if (s->stepping)
		return; /* freed at the end of the step */
	if (s->watching)
		uv_close((uv_handle_t *)&s->watch, on_watch_closed);
	else
		stream_free(s);
}

static bool on_line(void *user, const struct davit_log_line *line)
{
	struct log_stream *s = user;
	bool more;

	if (!s->reader)
		return false;
	more = s->reader->line(s->reader, line);
	if (!s->reader)
		return false;
	s->paused = !more;
	return more;
}

static void stream_end(struct log_stream *s, int code, const struct davit_error *err)
{
	struct davit_log_reader *r = s->reader;

	s->paused = true; /* nothing comes after */
	r->end(r, code, code ? err : NULL);
}

static void on_timer(struct davit_timer *t)
{
	struct log_stream *s = DAVIT_CONTAINER_OF(t, struct log_stream, timer);
	struct davit_error err = {0};
	int r;

	s->stepping = true;
	r = logread_step(&s->lr, &err);
	s->stepping = false;
	if (!s->reader) {
		if (s->watching)
			uv_close((uv_handle_t *)&s->watch, on_watch_closed);
		else
			stream_free(s);
		return;
	}
	if (r == LOGREAD_MORE)
		r = davit_timer_start(&s->timer, 0);
	if (r < 0) {
		if (!err.code)
			davit_error_set(&err, r, "logs", "out of memory");
		stream_end(s, err.code, &err);
	} else if (r == LOGREAD_IDLE && !s->reader->query.follow) {
		stream_end(s, 0, NULL);
	}
}

static void on_change(uv_fs_event_t *w, const char *name, int events, int status)
{
	struct log_stream *s = w->data;

	(void)name;
	(void)events;
	(void)status;
	/* What ran dry goes on; a step that is due anyway sees this change too. */
	if (s->reader && !s->paused && !davit_timer_active(&s->timer))
		davit_timer_start(&s->timer, 0);
}

static int watch(struct log_stream *s, struct davit_error *err)
{
	uv_loop_t *loop = davit_loop_uv(s->reader->instance->runtime->loop);
	int e, r = davit_mkdirs(s->dir, 0700, err);

	if (r < 0)
		return r;
	e = uv_fs_event_init(loop, &s->watch);
	if (e < 0)
		return davit_error_errno(err, -e, "logs", "cannot watch %s", s->dir);
	s->watch.data = s;
	s->watching = true;
	e = uv_fs_event_start(&s->watch, on_change, s->dir, 0);
	return e < 0 ? davit_error_errno(err, -e, "logs", "cannot watch %s", s->dir) : 0;
}

static int logs_open(struct davit_log_reader *r, struct davit_error *err)
{
	struct davit_runtime *rt = r->instance->runtime;
	struct log_stream *s = calloc(1, sizeof *s);
	int code = 0;

	if (!s)
		return davit_error_set(err, DAVIT_ENOMEM, "logs", "out of memory");
	s->reader = r;
	s->lr.fd = -1;
	davit_list_init(&s->list);
	davit_list_add_tail(&local_runtime_of(rt)->log_streams, &s->list);
	davit_timer_init(&s->timer, rt->loop, on_timer);
	*slot_of(r) = s;
	s->dir = local_log_dir(rt, r->instance->workload->id);
	if (!s->dir)
		code = davit_error_set(err, DAVIT_ENOMEM, "logs", "out of memory");
	if (!code)
		code = logread_open(&s->lr, s->dir, &r->query, on_line, s, err);
	/* Watched first, so that no change falls between reading and watching. */
	if (!code && r->query.follow)
		code = watch(s, err);
	if (!code && davit_timer_start(&s->timer, 0) < 0)
		code = davit_error_set(err, DAVIT_ENOMEM, "logs", "out of memory");
	if (code < 0)
		stream_close(s);
	return code;
}

static void logs_resume(struct davit_log_reader *r)
{
	struct log_stream *s = *slot_of(r);

	if (!s || !s->paused)
		return;
	s->paused = false;
	davit_timer_start(&s->timer, 0);
}

static void logs_close(struct davit_log_reader *r)
{
	if (*slot_of(r))
		stream_close(*slot_of(r));
}

void local_logs_discard(struct davit_runtime *rt, const char *id)
{
	DAVIT_AUTO_FREE char *dir = NULL;

	/* It becomes a path that is removed: nothing but an id will do. */
	if (strlen(id) != DAVIT_ID_MAX - 1 || strspn(id, "0123456789abcdef") != DAVIT_ID_MAX - 1)
		return;
	dir = local_log_dir(rt, id);
	if (dir)
		davit_remove_tree(dir, NULL);
}

void local_logs_close_all(struct local_runtime *p)
{
	struct log_stream *s, *tmp;

	DAVIT_LIST_FOREACH_SAFE (s, tmp, &p->log_streams, list)
		stream_close(s);
}

const struct davit_logs_facet local_logs = {
	.reader_size = sizeof(struct log_stream *),
	.open = logs_open,
	.resume = logs_resume,
	.close = logs_close,
	.discard = local_logs_discard,
};
