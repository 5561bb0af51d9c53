/* SPDX-License-Identifier: MIT
 *
 * What is told to those who watch a run. Lines are written together, once in an iteration of the loop; a host
 * that comes after another reads them, so that nothing of a log is told twice or left out.
 */
#include "run/host.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define AGAIN (INT64_C(1000000000))
#define READ_BYTES ((size_t)1 << 20)

static void write_all(struct events *e)
{
	while (e->out.len) {
		ssize_t n = write(e->fd, e->out.data, e->out.len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) { /* the disk is full: later */
			e->blocked = true;
			davit_timer_start(&e->again, AGAIN);
			return;
		}
		davit_buf_consume(&e->out, (size_t)n);
	}
	e->blocked = false;
}

static void on_flush(struct davit_deferred *d)
{
	struct events *e = DAVIT_CONTAINER_OF(d, struct events, flush);

	if (!e->blocked)
		write_all(e);
}

static void on_again(struct davit_timer *t)
{
	struct events *e = DAVIT_CONTAINER_OF(t, struct events, again);
	struct leaf *l;

	write_all(e);
	if (!e->blocked)
		DAVIT_LIST_FOREACH (l, &DAVIT_CONTAINER_OF(e, struct host, events)->leaves, list)
			if (l->x)
				davit_defer(&l->pump);
}

void events_flush(struct events *e)
{
	write_all(e);
}

struct davit_json *events_begin(struct events *e, const char *name, const char *key)
{
	e->json = (struct davit_json)DAVIT_JSON_INIT(&e->out);
	davit_json_open(&e->json);
	davit_json_put_int(&e->json, "id", (int64_t)++e->id);
	davit_json_put_time(&e->json, "time", davit_loop_wall(e->loop));
	davit_json_put_string(&e->json, "event", name);
	if (key)
		davit_json_put_string(&e->json, "step", key);
	return &e->json;
}

void events_end(struct events *e)
{
	davit_json_close(&e->json);
	davit_buf_addc(&e->out, '\n');
	if (e->out.oom)
		host_die(DAVIT_CONTAINER_OF(e, struct host, events), "out of memory");
	davit_defer(&e->flush);
}

/* ------------------------------------------------------------------ what was told before */

static void told_key(struct davit_buf *b, const char *key, const char *part)
{
	davit_buf_adds(b, key);
	if (part && *part)
		davit_buf_addf(b, " %s", part);
}

const struct told *events_told(const struct events *e, const char *key, const char *part)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;

	told_key(&b, key, part);
	return davit_map_get(&e->seen, davit_buf_str(&b));
}

static struct told *told_of(struct events *e, const char *key, const char *part)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct told *t;

	told_key(&b, key, part);
	t = davit_map_get(&e->seen, davit_buf_str(&b));
	if (t)
		return t;
	t = calloc(1, sizeof *t);
	if (t)
		t->key = davit_buf_take(&b);
	if (!t || !t->key || davit_map_put(&e->seen, t->key, t) < 0) {
		free(t ? t->key : NULL);
		free(t);
		return NULL;
	}
	return t;
}

static int take_line(struct events *e, const char *line, size_t n, struct davit_error *err)
{
	json_t *o = json_loadb(line, n, 0, NULL);
	const char *name = json_string_value(json_object_get(o, "event")),
		   *key = json_string_value(json_object_get(o, "step"));
	struct told *t = key ? told_of(e, key, json_string_value(json_object_get(o, "part"))) : NULL;
	uint64_t id = (uint64_t)json_integer_value(json_object_get(o, "id"));

	if (id > e->id)
		e->id = id;
	if (key && !t) {
		json_decref(o);
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	if (t && name && !strcmp(name, "start"))
		t->started = true;
	if (t && name && !strcmp(name, "finish"))
		t->ended = true;
	if (t && name && !strcmp(name, "log")) {
		const char *stream = json_string_value(json_object_get(o, "stream"));
		int i = stream && !strcmp(stream, "stderr") ? DAVIT_STEP_ERR : DAVIT_STEP_OUT;

		t->offsets[i] = (uint64_t)json_integer_value(json_object_get(o, "offset")) +
				(uint64_t)json_integer_value(json_object_get(o, "bytes"));
	}
	json_decref(o);
	return 0;
}

/* Takes the whole lines; how long they are. */
static int take_lines(struct events *e, const struct davit_buf *b, size_t *ret, struct davit_error *err)
{
	const char *newline;
	int r = 0;

	*ret = 0;
	while (r == 0 && (newline = memchr(b->data + *ret, '\n', b->len - *ret))) {
		size_t n = (size_t)(newline - b->data) - *ret;

		r = take_line(e, b->data + *ret, n, err);
		*ret += n + 1;
	}
	return r;
}

static int read_before(struct events *e, const char *path, struct davit_error *err)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	off_t end = 0;
	size_t taken;
	ssize_t n;
	int r = 0;

	do {
		if (davit_buf_reserve(&b, READ_BYTES) < 0)
			return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
		n = DAVIT_EINTR(read(e->fd, b.data + b.len, READ_BYTES));
		if (n < 0)
			return davit_error_errno(err, errno, NULL, "cannot read %s", path);
		b.len += (size_t)n;
		r = b.len ? take_lines(e, &b, &taken, err) : 0;
		if (r == 0 && b.len) {
			davit_buf_consume(&b, taken);
			end += (off_t)taken;
		}
	} while (r == 0 && n > 0);
	/* A line that was cut short is written again, by who has read it up to the one before. */
	if (r == 0 && ftruncate(e->fd, end) < 0)
		r = davit_error_errno(err, errno, NULL, "cannot mend %s", path);
	return r;
}

int events_open(struct events *e, struct davit_loop *loop, const char *dir, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *path = davit_path_join(dir, "events");

	e->loop = loop;
	davit_deferred_init(&e->flush, loop, on_flush);
	davit_timer_init(&e->again, loop, on_again);
	e->fd = path ? open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
	if (e->fd < 0)
		return davit_error_errno(err, errno, NULL, "cannot open the events of the run");
	return read_before(e, path, err);
}

void events_close(struct events *e)
{
	size_t pos = 0;
	const char *key;
	void *t;

	davit_deferred_cancel(&e->flush);
	davit_timer_stop(&e->again);
	while (davit_map_next(&e->seen, &pos, &key, &t)) {
		davit_map_remove(&e->seen, key);
		free(((struct told *)t)->key);
		free(t);
	}
	davit_map_fini(&e->seen);
	davit_buf_fini(&e->out);
	if (e->fd >= 0)
		close(e->fd);
	e->fd = -1;
}
