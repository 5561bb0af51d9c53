/* SPDX-License-Identifier: MIT
 *
 * The log of a service: one reader for each of its instances, joined to one
 * stream. While following, instances that come later (restarts, scaling,
 * updates) join it.
 *
 * Each line carries where it ends in its instance's log, "instance:cursor".
 * `after` takes one or several of them, with commas between, and resumes each
 * exactly there; an instance that it does not name is read from its start. The
 * id of a server-sent event names all instances, so that one id is enough.
 */
#include "daemon/api.h"

#include "base/units.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct log_stream;

struct reader {
	struct davit_list list;
	struct log_stream *stream;
	struct davit_log_reader *r; /* NULL once it was closed */
	char id[DAVIT_ID_MAX];
	uint32_t index;
	uint64_t cursor;
	bool paused;
	bool ended;
	bool seen; /* mark of sweep() */
};

struct log_stream {
	struct api_call *call;
	struct davit_core_listener listener;
	struct davit_deferred work;
	struct davit_list readers;
	char *namespace_, *name, *version; /* the one service, when "-" was asked for */
	const char *only;		   /* an instance's id or index, or NULL */
	const char *after;
	bool follow;
	bool started; /* later instances are read from their first line */
	bool gone;    /* the service was deleted */
	bool blocked;
	struct davit_error error; /* why a reader ended, the first one */
};

/* The cursor that `after` names for an instance, or 0. */
static uint64_t after_of(const char *after, const char *id)
{
	size_t n = strlen(id);

	for (const char *s = after; s && *s; s += strcspn(s, ","), s += *s == ',')
		if (!strncmp(s, id, n) && s[n] == ':')
			return strtoull(s + n + 1, NULL, 10);
	return 0;
}

static int check_after(const char *after, struct davit_error *err)
{
	for (const char *s = after; s && *s; s += *s == ',') {
		size_t n = strspn(s, "0123456789abcdef"),
		       digits = s[n] == ':' ? strspn(s + n + 1, "0123456789") : 0;
		if (!n || n >= DAVIT_ID_MAX || !digits || digits > 19 || !strchr(",", s[n + 1 + digits]))
			return davit_error_set(err, DAVIT_EINVAL, "after",
					       "after: '%s' is not instance:cursor,...", after);
		s += n + 1 + digits;
	}
	return 0;
}

/* --- lines --- */

static void write_position(struct log_stream *s, struct davit_buf *out)
{
	struct reader *rd;

	DAVIT_LIST_FOREACH (rd, &s->readers, list)
		if (rd->cursor)
			davit_buf_addf(out, "%s%s:%" PRIu64, out->len ? "," : "", rd->id, rd->cursor);
}

static bool on_line(struct davit_log_reader *r, const struct davit_log_line *line)
{
	struct reader *rd = r->owner;
	struct log_stream *s = rd->stream;
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	DAVIT_AUTO_BUF position = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&out);
	char cursor[DAVIT_ID_MAX + 24];

	rd->cursor = line->cursor;
	snprintf(cursor, sizeof cursor, "%s:%" PRIu64, rd->id, line->cursor);
	davit_json_open(&j);
	davit_json_put_string(&j, "instance", rd->id);
	davit_json_put_int(&j, "index", rd->index);
	davit_json_put_time(&j, "time", line->time);
	davit_json_put_string(&j, "stream", line->stream == DAVIT_STDERR ? "stderr" : "stdout");
	davit_json_key(&j, "text");
	davit_json_stringn(&j, line->text, line->len);
	davit_json_put_string(&j, "cursor", cursor);
	davit_json_close(&j);
	if (api_stream_sse(s->call))
		write_position(s, &position);
	s->blocked = !api_stream_line(s->call, davit_buf_str(&position), davit_buf_str(&out), out.len);
	rd->paused = s->blocked;
	return !s->blocked;
}

static void on_end(struct davit_log_reader *r, int code, const struct davit_error *err)
{
	struct reader *rd = r->owner;
	struct log_stream *s = rd->stream;

	rd->ended = true;
	/* One that ends because its instance was removed is no failure. */
	if (code < 0 && code != DAVIT_ECLOSED && !s->error.code && err)
		s->error = *err;
	davit_defer(&s->work);
}

/* --- readers --- */

static void close_reader(struct reader *rd)
{
	if (rd->r)
		davit_core_logs_close(rd->r);
	rd->r = NULL;
}

static void free_reader(struct reader *rd)
{
	close_reader(rd);
	davit_list_remove(&rd->list);
	free(rd);
}

static struct reader *find(struct log_stream *s, const char *id)
{
	struct reader *rd;

	DAVIT_LIST_FOREACH (rd, &s->readers, list)
		if (!strcmp(rd->id, id))
			return rd;
	return NULL;
}

static int open_reader(struct log_stream *s, struct davit_instance *i, struct davit_error *err)
{
	struct davit_log_reader init = {
		.query = {.tail = -1, .follow = s->follow},
		.line = on_line,
		.end = on_end,
	};
	struct reader *rd = calloc(1, sizeof *rd);

	if (!rd)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	rd->stream = s;
	rd->index = i->workload->index;
	rd->seen = true;
	snprintf(rd->id, sizeof rd->id, "%s", i->workload->id);
	rd->cursor = init.query.after = after_of(s->after, rd->id);
	if (!s->started && !rd->cursor) {
		init.query.tail = s->after ? -1 : api_query_int(s->call, "tail", -1);
		init.query.since = api_query_time(s->call, "since");
	}
	init.owner = rd;
	rd->r = davit_core_logs_open(s->call->daemon->core, i, &init, err);
	if (!rd->r) {
		free(rd);
		return err->code ? err->code : DAVIT_EINTERNAL;
	}
	davit_list_add_tail(&s->readers, &rd->list);
	return 0;
}

struct sweep {
	struct log_stream *stream;
	struct davit_error error;
};

static bool see_instance(void *user, struct davit_instance *i)
{
	struct sweep *sweep = user;
	struct reader *rd = find(sweep->stream, i->workload->id);
	int r = 0;

	if (rd)
		rd->seen = true;
	else
		r = open_reader(sweep->stream, i, &sweep->error);
	/* One that never ran has no log yet; it is met again when it changes. */
	if (r == DAVIT_ENOENT || r == DAVIT_ESTATE)
		davit_error_clear(&sweep->error);
	return !sweep->error.code;
}

/* Opens readers for the instances that have none, and forgets those that are no
 * more. 0 or a code. */
static int sweep(struct log_stream *s, struct davit_service *service, struct davit_error *err)
{
	struct sweep state = {.stream = s};
	struct reader *rd, *next;

	DAVIT_LIST_FOREACH (rd, &s->readers, list)
		rd->seen = false;
	if (s->only) {
		struct davit_instance *i = davit_core_instance(s->call->daemon->core, service, s->only);
		if (i)
			see_instance(&state, i);
	} else {
		davit_service_instances(service, see_instance, &state);
	}
	DAVIT_LIST_FOREACH_SAFE (rd, next, &s->readers, list)
		if (!rd->seen && rd->ended)
			free_reader(rd);
	return davit_error_copy(err, &state.error);
}

/* --- the stream --- */

static void free_stream(struct log_stream *s)
{
	struct reader *rd, *next;

	if (s->listener.user)
		davit_core_unlisten(&s->listener);
	davit_deferred_cancel(&s->work);
	DAVIT_LIST_FOREACH_SAFE (rd, next, &s->readers, list)
		free_reader(rd);
	free(s->namespace_);
	free(s->name);
	free(s->version);
	free(s);
}

/* Closes what has ended; the stream ends with the last one, unless followed. */
static void on_work(struct davit_deferred *d)
{
	struct log_stream *s = DAVIT_CONTAINER_OF(d, struct log_stream, work);
	struct api_call *call = s->call;
	struct davit_error err;
	bool open = false;
	struct reader *rd;

	DAVIT_LIST_FOREACH (rd, &s->readers, list) {
		if (rd->ended)
			close_reader(rd);
		open = open || rd->r;
	}
	if (open || (s->follow && !s->gone && !s->error.code))
		return;
	err = s->error;
	free_stream(s);
	api_stream_end(call, &err);
}

static void logs_writable(struct davit_http_request *r)
{
	struct api_call *call = r->user;
	struct log_stream *s = call->state;
	struct reader *rd;

	s->blocked = false;
	DAVIT_LIST_FOREACH (rd, &s->readers, list) {
		if (!rd->paused || rd->ended || !rd->r->instance)
			continue;
		rd->paused = false;
		rd->r->instance->runtime->driver->logs->resume(rd->r);
	}
}

static void logs_closed(struct davit_http_request *r)
{
	struct api_call *call = r->user;

	free_stream(call->state);
	api_call_free(call);
}

static void on_service(struct davit_core_listener *l, struct davit_service *service, bool gone)
{
	struct log_stream *s = l->user;
	const struct davit_spec *spec = davit_service_spec(service);

	if (strcmp(spec->namespace_, s->namespace_) || strcmp(spec->name, s->name) ||
	    strcmp(spec->version, s->version))
		return;
	if (gone)
		s->gone = true;
	else
		sweep(s, service, &s->error);
	davit_defer(&s->work);
}

static struct log_stream *new_stream(struct api_call *call, struct davit_service *service)
{
	const struct davit_spec *spec = davit_service_spec(service);
	struct log_stream *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	s->call = call;
	davit_list_init(&s->readers);
	davit_deferred_init(&s->work, call->daemon->loop, on_work);
	s->namespace_ = strdup(spec->namespace_);
	s->name = strdup(spec->name);
	s->version = strdup(spec->version);
	if (!s->namespace_ || !s->name || !s->version) {
		free_stream(s);
		return NULL;
	}
	s->only = api_query(call, "instance");
	s->after = api_stream_after(call);
	s->follow = api_query_bool(call, "follow");
	return s;
}

/* The readers of the first moment: of the build, of one instance, or of all. */
static int open_first(struct log_stream *s, struct davit_service *service, struct davit_error *err)
{
	struct davit_instance *build;

	if (api_query_bool(s->call, "build")) {
		build = davit_service_build(service);
		return build ? open_reader(s, build, err)
			     : davit_error_set(err, DAVIT_ENOENT, "build", "%s was never built", s->name);
	}
	if (s->only && !davit_core_instance(s->call->daemon->core, service, s->only))
		return davit_error_set(err, DAVIT_ENOENT, "instance", "%s has no instance '%s'", s->name,
				       s->only);
	return sweep(s, service, err);
}

void api_service_logs(struct api_call *call)
{
	struct davit_service *service;
	struct davit_error err = {0};
	struct log_stream *s;

	if (api_service(call, &service) < 0)
		return;
	s = new_stream(call, service);
	if (!s) {
		api_fail_with(call, DAVIT_ENOMEM, NULL, "out of memory");
		return;
	}
	if (check_after(s->after, &err) < 0 || open_first(s, service, &err) < 0) {
		free_stream(s);
		api_fail(call, &err);
		return;
	}
	s->started = true;
	call->state = s;
	if (s->follow && !api_query_bool(call, "build")) {
		s->listener = (struct davit_core_listener){.user = s, .service = on_service};
		davit_core_listen(call->daemon->core, &s->listener);
	}
	call->request->writable = logs_writable;
	call->request->closed = logs_closed;
	api_stream_begin(call);
	davit_defer(&s->work);
}
