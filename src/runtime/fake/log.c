/* SPDX-License-Identifier: MIT
 *
 * Logs of fake instances: a bounded ring of lines for each id, which outlives
 * its object until it is discarded.
 */
#include "runtime/fake/fake_impl.h"

#include <string.h>

struct fake_reader {		/* behind struct davit_log_reader */
	struct davit_list list; /* the log's */
	struct fake_log *log;
	uint64_t at; /* cursor: lines that end behind it are still to come */
	bool paused;
	bool *alive; /* while `line` is being called: what close must clear */
	struct davit_timer pump;
};

static struct fake_reader *state_of(struct davit_log_reader *r)
{
	return (struct fake_reader *)(r + 1);
}

static struct davit_log_reader *reader_of(struct fake_reader *f)
{
	return (struct davit_log_reader *)f - 1;
}

/* No call comes after this. */
static void detach(struct fake_reader *f)
{
	davit_timer_stop(&f->pump);
	davit_list_remove(&f->list);
	f->log = NULL;
	if (f->alive)
		*f->alive = false;
}

/* --- the ring --- */

static struct fake_line *line_at(const struct fake_log *log, size_t i)
{
	return &log->lines[(log->first + i) % log->cap];
}

static void drop_first(struct fake_log *log)
{
	struct fake_line *l = line_at(log, 0);

	log->bytes -= l->len + 1;
	free(l->text);
	log->first = (log->first + 1) % log->cap;
	log->len--;
}

static bool grow(struct fake_log *log)
{
	size_t cap = log->cap ? log->cap * 2 : 8;
	struct fake_line *lines;

	if (log->len < log->cap)
		return true;
	lines = malloc(cap * sizeof *lines);
	if (!lines)
		return false;
	for (size_t i = 0; i < log->len; i++)
		lines[i] = *line_at(log, i);
	free(log->lines);
	log->lines = lines;
	log->cap = cap;
	log->first = 0;
	return true;
}

struct fake_log *fake_log_get(struct davit_fake_world *w, const char *id, size_t max_bytes)
{
	struct fake_log *log = davit_map_get(&w->logs, id);

	if (log) {
		log->max_bytes = max_bytes;
		return log;
	}
	log = calloc(1, sizeof *log);
	if (!log)
		return NULL;
	memcpy(log->id, id, sizeof log->id);
	log->max_bytes = max_bytes;
	davit_list_init(&log->readers);
	if (davit_map_put(&w->logs, log->id, log) < 0) {
		free(log);
		return NULL;
	}
	return log;
}

void fake_log_add(struct davit_fake_world *w, struct fake_log *log, enum davit_stream stream,
		  const char *text, size_t len)
{
	struct fake_reader *f;
	char *copy;

	if (len >= log->max_bytes)
		len = log->max_bytes - 1;
	copy = malloc(len + 1);
	if (!copy || !grow(log)) {
		free(copy);
		return;
	}
	memcpy(copy, text, len);
	copy[len] = '\0';
	log->end += len + 1;
	log->bytes += len + 1;
	*line_at(log, log->len++) = (struct fake_line){.end = log->end,
						       .time = davit_loop_wall(w->loop),
						       .stream = stream,
						       .len = (uint32_t)len,
						       .text = copy};
	while (log->bytes > log->max_bytes)
		drop_first(log);
	DAVIT_LIST_FOREACH (f, &log->readers, list)
		if (!f->paused && !davit_timer_active(&f->pump))
			davit_timer_start(&f->pump, 0);
}

void fake_log_detach(struct fake_log *log)
{
	while (!davit_list_empty(&log->readers))
		detach(DAVIT_LIST_FIRST(&log->readers, struct fake_reader, list));
}

void fake_log_free(struct fake_log *log)
{
	fake_log_detach(log);
	while (log->len)
		drop_first(log);
	free(log->lines);
	free(log);
}

/* --- reading --- */

/* The index of the first line that ends behind the cursor. */
static size_t find(const struct fake_log *log, uint64_t at)
{
	size_t low = 0, high = log->len;

	while (low < high) {
		size_t mid = (low + high) / 2;
		if (line_at(log, mid)->end > at)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

/* A line a turn, so that the reader may pause or close in between. */
static void on_pump(struct davit_timer *t)
{
	struct fake_reader *f = DAVIT_CONTAINER_OF(t, struct fake_reader, pump);
	struct davit_log_reader *r = reader_of(f);
	struct fake_log *log = f->log;
	size_t i = find(log, f->at);

	if (i == log->len) {
		if (!r->query.follow)
			r->end(r, 0, NULL);
		return;
	}
	const struct fake_line *l = line_at(log, i);
	const struct davit_log_line line = {
		.cursor = l->end, .time = l->time, .stream = l->stream, .text = l->text, .len = l->len};
	bool alive = true;
	bool more;

	f->at = l->end;
	f->alive = &alive;
	more = r->line(r, &line);
	if (!alive)
		return; /* closed by the callback, and freed perhaps */
	f->alive = NULL;
	f->paused = !more;
	if (more)
		davit_timer_start(&f->pump, 0);
}

static int fake_logs_open(struct davit_log_reader *r, struct davit_error *err)
{
	struct davit_fake_world *w = fake_world(r->instance->runtime);
	struct fake_reader *f = state_of(r);
	struct fake_log *log = davit_map_get(&w->logs, r->instance->workload->id);
	size_t i = 0;

	if (!log)
		return davit_error_set(err, DAVIT_ENOENT, "logs", "there is no log of %s",
				       r->instance->workload->id);
	*f = (struct fake_reader){.log = log};
	davit_timer_init(&f->pump, w->loop, on_pump);
	if (r->query.after)
		i = find(log, r->query.after);
	while (r->query.since && i < log->len && line_at(log, i)->time < r->query.since)
		i++;
	if (r->query.tail >= 0 && log->len - i > (uint64_t)r->query.tail)
		i = log->len - (size_t)r->query.tail;
	f->at = i < log->len ? line_at(log, i)->end - line_at(log, i)->len - 1 : log->end;
	if (davit_timer_start(&f->pump, 0) < 0)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	davit_list_add_tail(&log->readers, &f->list);
	return 0;
}

static void fake_logs_resume(struct davit_log_reader *r)
{
	struct fake_reader *f = state_of(r);

	f->paused = false;
	if (f->log)
		davit_timer_start(&f->pump, 0);
}

static void fake_logs_close(struct davit_log_reader *r)
{
	struct fake_reader *f = state_of(r);

	if (f->log)
		detach(f);
}

static void fake_logs_discard(struct davit_runtime *rt, const char *id)
{
	struct davit_fake_world *w = fake_world(rt);
	struct fake_log *log;

	if (!davit_map_get(&w->objects, id)) {
		log = davit_map_remove(&w->logs, id);
		if (log)
			fake_log_free(log);
	}
}

const struct davit_logs_facet fake_logs = {
	.reader_size = sizeof(struct fake_reader),
	.open = fake_logs_open,
	.resume = fake_logs_resume,
	.close = fake_logs_close,
	.discard = fake_logs_discard,
};
