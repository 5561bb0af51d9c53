/* SPDX-License-Identifier: MIT */
#include "runtime/engine/lines.h"

#include <string.h>

#define EPOCH INT64_C(1577836800000000) /* 2020-01-01 in microseconds */
#define COUNT_BITS 14

struct lines_kept {
	struct lines_kept *next;
	struct davit_log_line line;
	char text[];
};

/* The cursor of a line at that time, when none was before. */
static uint64_t cursor_of(int64_t time)
{
	int64_t us = time / 1000 - EPOCH;

	/* 0 means "not resuming". */
	return us <= 0 ? 1 : (uint64_t)us << COUNT_BITS | 1;
}

int64_t lines_time(uint64_t cursor)
{
	return ((int64_t)(cursor >> COUNT_BITS) + EPOCH) * 1000;
}

void lines_init(struct lines *l, const struct davit_log_query *query,
		bool (*line)(void *user, const struct davit_log_line *line), void *user)
{
	*l = (struct lines){.since = query->since,
			    .after = query->after,
			    .tail = query->tail,
			    .line = line,
			    .user = user};
}

static void forget_kept(struct lines *l)
{
	while (l->head) {
		struct lines_kept *k = l->head;
		l->head = k->next;
		free(k);
	}
	l->end = NULL;
	l->n_kept = 0;
}

static void forget_parts(struct lines *l)
{
	for (int i = 0; i < 2; i++) {
		davit_buf_reset(&l->part[i].text);
		l->part[i].open = false;
	}
}

void lines_fini(struct lines *l)
{
	forget_kept(l);
	davit_buf_fini(&l->part[0].text);
	davit_buf_fini(&l->part[1].text);
}

void lines_restart(struct lines *l)
{
	forget_kept(l);
	forget_parts(l);
	l->last = l->records = 0;
	l->last_time = l->first = 0;
}

void lines_resume(struct lines *l)
{
	int64_t time = l->last_time;

	if (l->last > l->after)
		l->after = l->last;
	l->tail = -1;
	lines_restart(l);
	l->last_time = time;
}

int64_t lines_first_kept(const struct lines *l)
{
	return l->head ? l->head->line.time : 0;
}

static bool keep(struct lines *l, const struct davit_log_line *line)
{
	struct lines_kept *k;

	if (l->tail == 0)
		return true;
	k = malloc(sizeof *k + line->len);
	if (!k) {
		l->oom = true;
		return true;
	}
	k->next = NULL;
	k->line = *line;
	memcpy(k->text, line->text, line->len);
	k->line.text = k->text;
	if (l->end)
		l->end->next = k;
	else
		l->head = k;
	l->end = k;
	if (++l->n_kept > l->tail) {
		k = l->head;
		l->head = k->next;
		l->n_kept--;
		free(k);
	}
	return true;
}

static bool line_ended(struct lines *l, enum davit_stream stream, int64_t time, const char *text, size_t n)
{
	struct davit_log_line line = {
		.cursor = cursor_of(time), .time = time, .stream = stream, .text = text, .len = n};

	if (line.cursor <= l->last)
		line.cursor = l->last + 1;
	l->last = line.cursor;
	l->last_time = time;
	if (!l->first)
		l->first = time;
	if (time < l->since || line.cursor <= l->after)
		return true;
	return l->tail >= 0 ? keep(l, &line) : l->line(l->user, &line);
}

bool lines_add(struct lines *l, enum davit_stream stream, int64_t time, const char *text, size_t n,
	       bool whole)
{
	__typeof__(&l->part[0]) p = &l->part[stream == DAVIT_STDERR];
	bool more;

	l->records++;
	if (whole && !p->open)
		return line_ended(l, stream, time, text, n);
	if (!p->open)
		p->time = time;
	p->open = true;
	davit_buf_add(&p->text, text, n);
	l->oom |= p->text.oom;
	if (!whole && p->text.len < LINES_MAX)
		return true;
	p->open = false;
	more = line_ended(l, stream, p->time, davit_buf_str(&p->text), p->text.len);
	davit_buf_reset(&p->text);
	return more;
}

bool lines_flush(struct lines *l)
{
	while (l->head) {
		struct lines_kept *k = l->head;
		bool more;
		l->head = k->next;
		if (!l->head)
			l->end = NULL;
		l->n_kept--;
		more = l->line(l->user, &k->line);
		free(k);
		if (!more)
			return false;
	}
	return true;
}
