/* SPDX-License-Identifier: MIT */
#include "store/watch.h"

#include "base/util.h"

#include <string.h>

/* w->driver of a live watch; NULL while it is behind. */
#define LIVE(ws) ((void *)(ws))
/* w->next_revision of one that is about to be broken. */
enum { DOOMED = -1 };

static void break_one(struct davit_watches *ws, struct davit_store_watch *w, const struct davit_error *err)
{
	davit_watches_remove(ws, w);
	w->broken(w, err->code, err);
}

/* Brings what is behind up to date. A callback may add and remove any watch, so
 * each round looks for the first that is behind anew; those are few. */
static void on_behind(struct davit_deferred *d)
{
	struct davit_watches *ws = DAVIT_CONTAINER_OF(d, struct davit_watches, behind);
	struct davit_store_watch *w = ws->first;

	while (w) {
		struct davit_error err = {0};
		int64_t revision = 0;

		if (w->driver) {
			w = w->next;
			continue;
		}
		ws->cursor = w->next;
		ws->telling = w;
		if (ws->catch_up(ws->store, w, &revision, &err) < 0) {
			if (ws->telling == w)
				break_one(ws, w, &err);
		} else if (ws->telling == w) {
			w->driver = LIVE(ws);
			if (w->next_revision <= revision)
				w->next_revision = revision + 1;
		}
		ws->telling = NULL;
		w = ws->cursor;
	}
	ws->cursor = NULL;
}

void davit_watches_init(struct davit_watches *ws, struct davit_store *s,
			int (*catch_up)(struct davit_store *, struct davit_store_watch *, int64_t *,
					struct davit_error *))
{
	*ws = (struct davit_watches){.store = s, .catch_up = catch_up};
	davit_deferred_init(&ws->behind, s->loop, on_behind);
}

void davit_watches_fini(struct davit_watches *ws)
{
	while (ws->first)
		davit_watches_remove(ws, ws->first);
	davit_deferred_cancel(&ws->behind);
}

int davit_watches_add(struct davit_watches *ws, const char *prefix, int64_t after,
		      struct davit_store_watch *w, struct davit_error *err)
{
	size_t n = prefix ? strlen(prefix) : 0;

	if (n >= sizeof w->prefix)
		return davit_error_set(err, DAVIT_EINVAL, "prefix",
				       "a watch's prefix of %zu bytes is longer than %zu", n,
				       sizeof w->prefix - 1);
	if (after < 0)
		return davit_error_set(err, DAVIT_EINVAL, "after", "a revision is not negative");
	memcpy(w->prefix, n ? prefix : "", n + 1);
	w->store = ws->store;
	w->next_revision = after == INT64_MAX ? after : after + 1;
	w->driver = NULL;
	w->next = NULL;
	w->prev = ws->last;
	*(ws->last ? &ws->last->next : &ws->first) = w;
	ws->last = w;
	davit_defer(&ws->behind);
	return 0;
}

void davit_watches_remove(struct davit_watches *ws, struct davit_store_watch *w)
{
	if (w->store != ws->store)
		return;
	if (ws->telling == w)
		ws->telling = NULL;
	if (ws->cursor == w)
		ws->cursor = w->next;
	*(w->prev ? &w->prev->next : &ws->first) = w->next;
	*(w->next ? &w->next->prev : &ws->last) = w->prev;
	w->next = w->prev = NULL;
	w->store = NULL;
	w->driver = NULL;
}

static bool matches(const struct davit_store_watch *w, const char *key)
{
	return strncmp(key, w->prefix, strlen(w->prefix)) == 0;
}

bool davit_watches_match(const struct davit_watches *ws, const char *key)
{
	for (const struct davit_store_watch *w = ws->first; w; w = w->next)
		if (w->driver && matches(w, key))
			return true;
	return false;
}

bool davit_watch_tell(struct davit_watches *ws, struct davit_store_watch *w, const struct davit_kv *kv)
{
	if (!matches(w, kv->key))
		return true;
	ws->telling = w;
	w->change(w, kv);
	return ws->telling == w;
}

void davit_watches_tell(struct davit_watches *ws, const struct davit_kv *kv)
{
	for (struct davit_store_watch *w = ws->first; w; w = ws->cursor) {
		ws->cursor = w->next;
		if (w->driver && kv->mod_revision >= w->next_revision)
			davit_watch_tell(ws, w, kv);
	}
	ws->telling = ws->cursor = NULL;
}

void davit_watches_told(struct davit_watches *ws, int64_t revision)
{
	for (struct davit_store_watch *w = ws->first; w; w = w->next) {
		if (w->driver && w->next_revision <= revision)
			w->next_revision = revision + 1;
	}
}

void davit_watches_break(struct davit_watches *ws, const struct davit_error *err)
{
	/* Marked first: a watch that a callback starts anew is not meant. */
	for (struct davit_store_watch *w = ws->first; w; w = w->next)
		w->next_revision = DOOMED;
	for (struct davit_store_watch *w = ws->first; w; w = ws->cursor) {
		ws->cursor = w->next;
		if (w->next_revision == DOOMED)
			break_one(ws, w, err);
	}
	ws->cursor = NULL;
}
