/* SPDX-License-Identifier: MIT
 *
 * The events of a run, and the log of one of its steps: read from the file that the run's host writes, as
 * fast as the reader takes them.
 */
#include "daemon/api.h"
#include "daemon/runs.h"

#include "base/units.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#define READ_BYTES ((size_t)256 << 10) /* in one turn of the loop */

struct follow {
	struct api_call *call;
	char id[DAVIT_RUN_ID_MAX];
	int fd, hold;
	uint64_t after;
	char *step; /* only its log, as bytes; or NULL */
	bool follows, blocked, closed;
	struct davit_buf in; /* what was read and not told yet */
	off_t offset;
	struct davit_deferred pump;
	uv_fs_event_t changes; /* of the run's directory */
};

static void on_watch_closed(uv_handle_t *h)
{
	struct follow *f = h->data;

	davit_buf_fini(&f->in);
	free(f->step);
	free(f);
}

static void close_follow(struct follow *f)
{
	f->closed = true;
	davit_deferred_cancel(&f->pump);
	close(f->fd);
	close(f->hold);
	uv_close((uv_handle_t *)&f->changes, on_watch_closed);
}

/* {"id":12,... */
static uint64_t id_of(const char *line, size_t n)
{
	return n > 6 && !strncmp(line, "{\"id\":", 6) ? strtoull(line + 6, NULL, 10) : 0;
}

/* The text of a line of the step's log. False: wait. */
static bool write_log(struct follow *f, const char *line, size_t n)
{
	json_t *o = memmem(line, n, "\"event\":\"log\"", 13) ? json_loadb(line, n, 0, NULL) : NULL;
	const char *step = json_string_value(json_object_get(o, "step"));
	const json_t *text = json_object_get(o, "text");
	bool go_on = true;

	if (step && !strcmp(step, f->step) && json_string_length(text))
		go_on = davit_http_write(f->call->request, json_string_value(text), json_string_length(text));
	json_decref(o);
	return go_on;
}

static bool write_line(struct follow *f, const char *line, size_t n)
{
	uint64_t id = id_of(line, n);
	char text[24];

	if (f->step)
		return write_log(f, line, n);
	if (id <= f->after)
		return true;
	f->after = id;
	snprintf(text, sizeof text, "%" PRIu64, id);
	return api_stream_line(f->call, text, line, n);
}

/* The whole lines among what was read. */
static void write_lines(struct follow *f)
{
	size_t at = 0;
	char *newline;

	while (!f->blocked && (newline = memchr(f->in.data + at, '\n', f->in.len - at))) {
		size_t n = (size_t)(newline - f->in.data) - at;

		f->blocked = !write_line(f, f->in.data + at, n);
		at += n + 1;
	}
	davit_buf_consume(&f->in, at);
}

/* How many bytes came, or a code. */
static ssize_t read_more(struct follow *f, struct davit_error *err)
{
	ssize_t n;

	if (davit_buf_reserve(&f->in, READ_BYTES) < 0)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	n = DAVIT_EINTR(pread(f->fd, f->in.data + f->in.len, READ_BYTES, f->offset));
	if (n < 0)
		return davit_error_errno(err, errno, NULL, "cannot read the events of the run");
	f->in.len += (size_t)n;
	f->offset += n;
	return n;
}

static void end(struct follow *f, const struct davit_error *err)
{
	struct api_call *call = f->call;
	bool log = f->step != NULL;

	close_follow(f);
	if (!log) {
		api_stream_end(call, err);
		return;
	}
	if (err && err->code)
		davit_http_abort(call->request);
	else
		davit_http_end(call->request);
	api_call_free(call);
}

static void on_pump(struct davit_deferred *d)
{
	struct follow *f = DAVIT_CONTAINER_OF(d, struct follow, pump);
	/* Asked before: what is written until then is read below. */
	bool over = !f->follows || davit_run_has_ended(&f->call->daemon->paths, f->id);
	struct davit_error err = {0};
	ssize_t n;

	if (f->in.len)
		write_lines(f);
	if (f->blocked)
		return;
	n = read_more(f, &err);
	if (n < 0 || (n == 0 && over)) {
		end(f, &err);
		return;
	}
	if (n > 0) {
		write_lines(f);
		davit_defer(&f->pump);
	}
}

static void on_changes(uv_fs_event_t *e, const char *name, int events, int status)
{
	struct follow *f = e->data;

	(void)name;
	(void)events;
	(void)status;
	if (!f->closed)
		davit_defer(&f->pump);
}

static void on_writable(struct davit_http_request *r)
{
	struct api_call *call = r->user;
	struct follow *f = call->state;

	f->blocked = false;
	davit_defer(&f->pump);
}

static void on_client_gone(struct davit_http_request *r)
{
	struct api_call *call = r->user;

	close_follow(call->state);
	api_call_free(call);
}

/* ------------------------------------------------------------------------- beginning */

static int watch(struct follow *f, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *dir = davit_run_path(&f->call->daemon->paths, f->id);

	if (!dir || uv_fs_event_start(&f->changes, on_changes, dir, 0) != 0)
		return davit_error_set(err, DAVIT_EIO, NULL, "the events of the run %s cannot be watched",
				       f->id);
	return 0;
}

static int open_follow(struct follow *f, const char *id, struct davit_error *err)
{
	struct davit_daemon *d = f->call->daemon;
	int r;

	snprintf(f->id, sizeof f->id, "%s", id);
	f->fd = f->hold = -1;
	davit_deferred_init(&f->pump, d->loop, on_pump);
	uv_fs_event_init(davit_loop_uv(d->loop), &f->changes);
	f->changes.data = f;
	r = davit_run_open_events(&d->paths, f->id, &f->fd, &f->hold, err);
	return r == 0 && f->follows ? watch(f, err) : r;
}

static void begin(struct api_call *call, char *step, uint64_t after)
{
	struct follow *f = calloc(1, sizeof *f);
	struct davit_error err = {0};
	struct davit_run run;
	int r;

	if (!f || api_run(call, &run) < 0) {
		if (!f)
			api_fail_with(call, DAVIT_ENOMEM, NULL, "out of memory");
		free(step);
		free(f);
		return;
	}
	f->call = call;
	f->step = step;
	f->after = after;
	f->follows = api_query_bool(call, "follow");
	r = open_follow(f, run.id, &err);
	davit_run_fini(&run);
	if (r < 0) {
		close_follow(f);
		api_fail(call, &err);
		return;
	}
	call->state = f;
	call->request->writable = on_writable;
	call->request->closed = on_client_gone;
	if (step)
		davit_http_stream(call->request, 200, "text/plain; charset=utf-8");
	else
		api_stream_begin(call);
	davit_defer(&f->pump);
}

void api_run_events(struct api_call *call)
{
	const char *after = api_stream_after(call);
	struct davit_error err = {0};
	int64_t id = 0;

	if (after && davit_int_parse(after, 0, INT64_MAX, &id, &err) < 0) {
		davit_error_prefix(&err, "after");
		api_fail(call, &err);
		return;
	}
	begin(call, NULL, (uint64_t)id);
}

void api_run_step_log(struct api_call *call)
{
	char *step = strdup(call->path[1]);

	if (step)
		begin(call, step, 0);
	else
		api_fail_with(call, DAVIT_ENOMEM, NULL, "out of memory");
}
