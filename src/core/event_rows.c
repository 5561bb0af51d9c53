/* SPDX-License-Identifier: MIT */
#include "core/event_rows.h"

#include "base/util.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Fills what the store's trees hold well: most of a page beside its leaf. */
#define ROW_SIZE 4096

#define OPENING "{\"id\":"

void davit_event_key(char key[static DAVIT_EVENT_KEY_SIZE], uint64_t id)
{
	static const char hex[] = "0123456789abcdef";
	char *p = mempcpy(key, DAVIT_EVENT_PREFIX, sizeof DAVIT_EVENT_PREFIX - 1);

	for (int shift = 60; shift >= 0; shift -= 4)
		*p++ = hex[id >> shift & 15];
	*p = '\0';
}

uint64_t davit_event_key_id(const char *key)
{
	uint64_t id = 0;

	return sscanf(key, DAVIT_EVENT_PREFIX "%16" SCNx64, &id) == 1 ? id : 0;
}

/* The id of the event that begins here; 0 when none does. */
static uint64_t line_id(const char *line)
{
	return strncmp(line, OPENING, sizeof OPENING - 1) == 0 ? strtoull(line + sizeof OPENING - 1, NULL, 10)
							       : 0;
}

static struct davit_event_row *new_row(struct davit_event_rows *r, struct davit_region *texts, size_t size)
{
	struct davit_event_row *v = r->v;
	char *text;

	if (r->n == r->cap) {
		size_t cap = r->cap ? r->cap * 2 : 4;
		v = realloc(r->v, cap * sizeof *v);
		if (!v)
			return NULL;
		r->v = v;
		r->cap = cap;
	}
	text = davit_region_take(texts, size);
	if (!text)
		return NULL;
	v[r->n] = (struct davit_event_row){.text = text, .cap = size};
	return &v[r->n++];
}

bool davit_event_rows_add(struct davit_event_rows *r, struct davit_region *texts, uint64_t id,
			  uint64_t dropped, const char *fields)
{
	struct davit_event_row *row = r->n ? &r->v[r->n - 1] : NULL;
	char head[96], lost[48] = "";
	size_t a, b = strlen(fields);
	char *p;

	if (dropped)
		snprintf(lost, sizeof lost, "\"dropped\":%" PRIu64 ",", dropped);
	a = (size_t)snprintf(head, sizeof head, OPENING "%" PRIu64 ",%s", id, lost);
	if (!row || row->cap - row->len < a + b + 2)
		row = new_row(r, texts, a + b + 1 > ROW_SIZE ? a + b + 1 : ROW_SIZE);
	if (!row)
		return false;
	p = row->text + row->len;
	if (row->len)
		*p++ = '\n';
	p = mempcpy(p, head, a);
	memcpy(p, fields, b + 1);
	row->len = (size_t)(p + b - row->text);
	davit_event_key(row->key, id);
	r->events++;
	return true;
}

static size_t count_lines(const char *text)
{
	size_t n = 1;

	while ((text = strchr(text, '\n'))) {
		text++;
		n++;
	}
	return n;
}

size_t davit_event_rows_append(struct davit_event_rows *r, struct davit_region *texts,
			       const struct davit_event_rows *later)
{
	size_t lost = 0;

	for (size_t i = 0; i < later->n; i++) {
		const struct davit_event_row *from = &later->v[i];
		struct davit_event_row *row = new_row(r, texts, from->len + 1);
		size_t n = count_lines(from->text);

		if (!row) {
			lost += n;
			continue;
		}
		memcpy(row->text, from->text, from->len + 1);
		memcpy(row->key, from->key, sizeof row->key);
		row->len = from->len;
		r->events += n;
	}
	return lost;
}

void davit_event_rows_tell(struct davit_event_rows *r, void (*fn)(void *user, uint64_t id, const char *json),
			   void *user)
{
	for (size_t i = 0; i < r->n; i++) {
		char *rest = r->v[i].text, *line;
		while ((line = strsep(&rest, "\n")))
			fn(user, line_id(line), line);
	}
}

void davit_event_rows_fini(struct davit_event_rows *r)
{
	free(r->v);
	*r = (struct davit_event_rows){0};
}

struct listing {
	uint64_t last; /* the last one that was told of */
	size_t left;
	bool (*fn)(void *user, uint64_t id, const char *json);
	void *user;
};

static bool tell_row(void *user, const struct davit_kv *kv)
{
	struct listing *l = user;
	DAVIT_AUTO_FREE char *text = strndup(kv->value, kv->len);
	char *rest = text, *line;

	if (!text)
		return false;
	while ((line = strsep(&rest, "\n"))) {
		uint64_t id = line_id(line);

		if (id <= l->last)
			continue;
		l->last = id;
		if (!l->fn(l->user, id, line) || --l->left == 0)
			return false;
	}
	return true;
}

int davit_event_rows_list(struct davit_store *store, uint64_t after, size_t limit,
			  bool (*fn)(void *user, uint64_t id, const char *json), void *user,
			  struct davit_error *err)
{
	struct listing l = {.last = after, .left = limit ? limit : SIZE_MAX, .fn = fn, .user = user};
	char from[DAVIT_EVENT_KEY_SIZE];
	int64_t revision;

	davit_event_key(from, after + 1);
	return store->driver->list(store, DAVIT_EVENT_PREFIX, from, 0, tell_row, &l, &revision, err);
}
