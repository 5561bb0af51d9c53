/* SPDX-License-Identifier: MIT
 *
 * What the user made comes back: from the record, one after the other, in the order in
 * which it was made.
 */
#include "host/host.h"

#include "base/units.h"

#include <string.h>

/* A parent that is not recorded is made by a container, which needs a moment. */
#define ROUND (50 * DAVIT_NSEC_PER_MSEC)
enum { ROUNDS = 40 };

struct restoring {
	struct host *host;
	struct host_entry *next; /* NULL: the end of the round */
	struct davit_timer timer;
	unsigned rounds, waiting; /* entries of this round whose parent is not there */
	void (*done)(struct host *h);
};

static struct host_entry *after(struct host *h, struct host_entry *e)
{
	struct davit_list *n = e ? e->list.next : h->entries.next;

	return n == &h->entries ? NULL : DAVIT_CONTAINER_OF(n, struct host_entry, list);
}

static void go_on(struct restoring *r);

static void failed(struct restoring *r, const struct host_entry *e, const char *why)
{
	r->host->missing++;
	printf("%s cannot be made anew: %s\n", e->alias, why);
}

static void created(struct host *h, const struct davit_outcome *o, void *arg)
{
	struct restoring *r = arg;
	struct host_entry *e = r->next;

	if (o->state == DAVIT_PROMISE_FULFILLED) {
		h->restored++;
		host_watch(h, e->alias);
	} else {
		failed(r, e, o->message);
	}
	r->next = after(h, e);
	go_on(r);
}

/* False: it was not begun. */
static bool create(struct restoring *r, struct host_entry *e)
{
	const struct host_search s = {.type = e->type, .name = e->name, .file = e->file};
	struct davit_create what = {.alias = e->alias, .args = e->args, .parent = e->parent};
	struct davit_promise p;
	struct davit_error err;
	const char *file;

	e->tried = true;
	if (e->wanted == DAVIT_STATE_STARTED)
		what.flags = DAVIT_CREATE_START;
	if (host_definition(r->host, &s, &what.definition, &file, &err) < 0) {
		failed(r, e, err.message);
		return false;
	}
	if (davit_container_create(r->host->c, &what, &p) || host_when(r->host, p, created, r)) {
		failed(r, e, "out of memory");
		return false;
	}
	return true;
}

static void round_over(struct restoring *r)
{
	struct host *h = r->host;

	if (r->waiting && ++r->rounds < ROUNDS) {
		davit_timer_start(&r->timer, ROUND);
		return;
	}
	if (h->restored || h->missing)
		printf("%u containers were made anew%s\n", h->restored,
		       h->unclean ? "; the host before this one did not end by itself: what waited in their "
				    "mailboxes, and their state, is lost"
				  : "");
	r->done(h);
	free(r);
}

/* On to the next entry that can be made. In the last round nobody is waited for. */
static void go_on(struct restoring *r)
{
	for (; r->next; r->next = after(r->host, r->next)) {
		struct host_entry *e = r->next;
		if (e->tried || davit_exists(r->host->c, e->alias))
			continue;
		if (!davit_exists(r->host->c, e->parent) && r->rounds < ROUNDS - 1)
			r->waiting++;
		else if (create(r, e))
			return;
	}
	round_over(r);
}

static void next_round(struct davit_timer *t)
{
	struct restoring *r = DAVIT_CONTAINER_OF(t, struct restoring, timer);

	r->waiting = 0;
	r->next = after(r->host, NULL);
	go_on(r);
}

void host_restore(struct host *h, void (*done)(struct host *h))
{
	struct restoring *r = calloc(1, sizeof *r);

	if (!r) {
		printf("nothing is made anew: out of memory\n");
		done(h);
		return;
	}
	*r = (struct restoring){.host = h, .done = done};
	davit_timer_init(&r->timer, h->loop, next_round);
	r->next = after(h, NULL);
	go_on(r);
}
