/* SPDX-License-Identifier: MIT
 *
 * What ends by itself - destroys itself, or is destroyed by its parent - is struck from
 * the record: it would not be there either if the host had lived on. One that is made
 * anew at once under its alias stays.
 */
#include "host/host.h"

#include "base/units.h"

#include <string.h>

enum { WATCH = 1, ARM, LOOK };

/* For a new one under the same alias to be there, and for many ends to be one look. */
#define PAUSE (500 * DAVIT_NSEC_PER_MSEC)

/* Of the watcher, an actor. */
struct watcher {
	struct davit_promise tell; /* the loop waits for it; zeroed: told */
	bool ended;		   /* since the loop was told last */
	bool waits;
};

static int watch(struct davit_context *c, struct davit_message *m)
{
	struct watcher *w = davit_data(c);
	struct davit_ref ref;

	switch (m->type) {
	case WATCH:
		memcpy(&ref, m->data, sizeof ref);
		return davit_monitor(c, ref);
	case ARM:
		memcpy(&w->tell, m->data, sizeof w->tell);
		break;
	case DAVIT_TYPE_DOWN:
		w->ended = true;
		break;
	case LOOK:
		w->waits = w->ended = false;
		davit_fulfil(c, w->tell, NULL, 0);
		w->tell = (struct davit_promise){0};
		return 0;
	}
	if (!w->ended || w->waits || !w->tell.generation)
		return 0;
	w->waits = true;
	return davit_after(c, PAUSE, LOOK, NULL);
}

static void look(struct host *h, const struct davit_outcome *o, void *arg);

static int arm(struct host *h)
{
	struct davit_promise p;

	if (davit_promise_new(h->c, &p))
		return DAVIT_ENOMEM;
	if (davit_tell(h->c, h->watcher, ARM, &p, sizeof p)) {
		davit_forget(h->c, p);
		return DAVIT_ENOMEM;
	}
	return host_when(h, p, look, NULL);
}

static void look_at(struct host *h, struct host_entry *e)
{
	struct davit_error err;

	if (!e->ref.generation || davit_alive(h->c, e->ref))
		return;
	if (davit_exists(h->c, e->alias))
		host_watch(h, e->alias);
	else if (host_record_remove(h, e->alias, &err) < 0)
		printf("%s\n", err.message);
}

static void look(struct host *h, const struct davit_outcome *o, void *arg)
{
	struct host_entry *e, *next;

	(void)arg;
	if (o->state != DAVIT_PROMISE_FULFILLED)
		return;
	DAVIT_LIST_FOREACH_SAFE (e, next, &h->entries, list)
		look_at(h, e);
	if (arm(h))
		printf("out of memory: ends are not recorded any more\n");
}

void host_watch(struct host *h, const char *alias)
{
	struct host_entry *e = host_record_find(h, alias);

	if (e && !davit_find(h->c, alias, &e->ref))
		davit_tell(h->c, h->watcher, WATCH, &e->ref, sizeof e->ref);
}

int host_watch_open(struct host *h)
{
	int r = davit_spawn(h->c, watch, NULL, sizeof(struct watcher), &h->watcher);

	return r ? r : arm(h);
}
