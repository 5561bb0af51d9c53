/* SPDX-License-Identifier: MIT */
#include "core/journal.h"

#include "base/buf.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/map.h"
#include "base/region.h"
#include "base/units.h"
#include "core/event_rows.h"

#include <string.h>

enum { PENDING_MAX = 50000 };

/* Transactions are at least so far apart, and further in the midst of a burst: each
 * costs an fdatasync and new versions of the same pages, and a burst of starts or ends
 * makes a few events in each iteration. Sooner where somebody waits for one. */
#define PACE (10 * DAVIT_NSEC_PER_MSEC)
#define PACE_OF_BURST (50 * DAVIT_NSEC_PER_MSEC)
#define PACE_OF_WAITERS (5 * DAVIT_NSEC_PER_MSEC)
#define PACE_OF_WAITERS_IN_BURST (20 * DAVIT_NSEC_PER_MSEC)
/* A burst in which nothing came for so long is over. In a storm each keeper tells of its ends at once,
 * every 100 ms, and they are to share a transaction. */
#define PACE_OF_STORM (100 * DAVIT_NSEC_PER_MSEC)
#define LULL (10 * DAVIT_NSEC_PER_MSEC)
#define LULL_OF_STORM (25 * DAVIT_NSEC_PER_MSEC)
enum { BURST = 8, STORM = 32 }; /* changes in a transaction; in a storm waiters wait as long as others */

struct entry {
	const char *key;
	const char *value; /* NULL: delete */
};

struct batch {
	struct entry *v;
	size_t n, cap;
	struct davit_map by_key; /* key -> index + 1 */
	struct davit_event_rows events;
	struct davit_region text; /* keys and values, also those that were replaced */
	struct davit_list waits;
};

struct davit_journal {
	struct davit_loop *loop;
	struct davit_store *store;
	struct batch filling, flying;
	struct davit_store_txn txn;
	bool in_flight;
	bool freed; /* let go of while a transaction was under way, whose end frees it */
	struct davit_deferred flush;
	struct davit_timer retry;    /* after a failure */
	struct davit_timer pace;     /* the next transaction that nobody waits for */
	int64_t sent;		     /* when the last one went, monotonic ns; 0: none did */
	size_t size;		     /* of the last one */
	size_t seen;		     /* changes that wait, when that was last another number: */
	int64_t seen_at;	     /* monotonic ns */
	bool on_beat;		     /* of those that wait, some come on a beat */
	struct davit_timer patience; /* for those who wait */
	unsigned failures;
	uint64_t last_event, first_event, dropped;
	size_t max_events;
	void (*on_event)(void *user, uint64_t id, const char *json);
	void *on_event_user;
	void (*on_idle)(void *user);
	void *on_idle_user;
};

static void batch_init(struct batch *b)
{
	*b = (struct batch){0};
	davit_list_init(&b->waits);
}

static void batch_fini(struct batch *b)
{
	free(b->v);
	davit_map_fini(&b->by_key);
	davit_event_rows_fini(&b->events);
	davit_region_fini(&b->text);
	b->v = NULL;
	b->n = b->cap = 0;
}

static struct entry *batch_add(struct batch *b)
{
	if (b->n == b->cap) {
		size_t cap = b->cap ? b->cap * 2 : 8;
		struct entry *v = realloc(b->v, cap * sizeof *v);
		if (!v)
			return NULL;
		b->v = v;
		b->cap = cap;
	}
	b->v[b->n] = (struct entry){0};
	return &b->v[b->n++];
}

static void send(struct davit_journal *j);

/* Sets a key's value in a batch, copying both. The changes of a batch are one
 * transaction, so that the order of keys in it does not matter. */
static bool batch_set(struct batch *b, const char *key, const char *value)
{
	size_t at = (size_t)(uintptr_t)davit_map_get(&b->by_key, key);
	char *k = at ? NULL : davit_region_strdup(&b->text, key);
	char *v = value ? davit_region_strdup(&b->text, value) : NULL;
	struct entry *e;

	if ((value && !v) || (!at && !k))
		return false;
	e = at ? &b->v[at - 1] : batch_add(b);
	if (!e)
		return false;
	if (!at && davit_map_put(&b->by_key, k, (void *)(uintptr_t)b->n) < 0) {
		b->n--;
		return false;
	}
	if (!at)
		e->key = k;
	e->value = v;
	return true;
}

/* How many changes it is: records and events. */
static size_t batch_size(const struct batch *b)
{
	return b->n + b->events.events;
}

static void release(struct davit_list *waits, bool durable)
{
	while (!davit_list_empty(waits)) {
		struct davit_journal_wait *w = DAVIT_LIST_FIRST(waits, struct davit_journal_wait, list);
		davit_list_remove(&w->list);
		w->active = false;
		w->done(w, durable);
	}
}

static void on_patience(struct davit_timer *t)
{
	struct davit_journal *j = DAVIT_CONTAINER_OF(t, struct davit_journal, patience);
	struct davit_list *lists[] = {&j->flying.waits, &j->filling.waits};
	int64_t now = davit_loop_now(j->loop), next = INT64_MAX;
	struct davit_list due;

	davit_list_init(&due);
	for (size_t k = 0; k < DAVIT_ARRAY_SIZE(lists); k++) {
		struct davit_journal_wait *w, *tmp;
		DAVIT_LIST_FOREACH_SAFE (w, tmp, lists[k], list) {
			if (w->due <= now) {
				davit_list_remove(&w->list);
				davit_list_add_tail(&due, &w->list);
			} else if (w->due < next) {
				next = w->due;
			}
		}
	}
	if (next != INT64_MAX)
		davit_timer_start(&j->patience, next - now);
	release(&due, false);
}

static void on_retry(struct davit_timer *t)
{
	send(DAVIT_CONTAINER_OF(t, struct davit_journal, retry));
}

static void on_pace(struct davit_timer *t)
{
	send(DAVIT_CONTAINER_OF(t, struct davit_journal, pace));
}

/* True when it is too early for the next transaction; the timer comes back to it.
 * The first after a pause goes at once: a single end is decided on without delay,
 * and a storm of them shares its commits. */
static bool too_early(struct davit_journal *j)
{
	bool awaited = !davit_list_empty(&j->filling.waits);
	int64_t now = davit_loop_now(j->loop), pace, left, lull;

	if (j->size < BURST)
		pace = awaited ? PACE_OF_WAITERS : PACE;
	else if (j->size >= STORM && j->on_beat)
		pace = PACE_OF_STORM;
	else
		pace = awaited && j->size < STORM ? PACE_OF_WAITERS_IN_BURST : PACE_OF_BURST;
	left = j->sent + pace - now;
	if (!j->sent || left <= 0)
		return false;
	if (j->seen != batch_size(&j->filling)) {
		j->seen = batch_size(&j->filling);
		j->seen_at = now;
	}
	lull = j->seen_at + (j->on_beat && j->size >= STORM ? LULL_OF_STORM : LULL) - now;
	return lull > 0 && davit_timer_start(&j->pace, left < lull ? left : lull) == 0;
}

static void set_record(struct davit_journal *j, const char *key, const char *value)
{
	if (!batch_set(&j->filling, key, value))
		davit_log(DAVIT_LOG_ERROR, "out of memory: a record of %s was not written", key);
}

/* Puts what could not be written back in front of what came later. */
static void put_back(struct davit_journal *j)
{
	struct batch later = j->filling;
	struct davit_list waits;

	davit_list_init(&waits);
	davit_list_splice(&waits, &j->filling.waits);
	j->filling = j->flying;
	davit_list_init(&j->filling.waits);
	davit_list_splice(&j->filling.waits, &j->flying.waits);
	davit_list_splice(&j->filling.waits, &waits);
	batch_init(&j->flying);
	for (size_t k = 0; k < later.n; k++)
		set_record(j, later.v[k].key, later.v[k].value);
	j->dropped += davit_event_rows_append(&j->filling.events, &j->filling.text, &later.events);
	batch_fini(&later);
}

static void committed(struct davit_op *op, int result)
{
	struct davit_journal *j = op->user;
	struct davit_list waits;

	j->in_flight = false;
	if (j->freed) {
		free(j);
		return;
	}
	if (result < 0) {
		int64_t delay = DAVIT_NSEC_PER_SEC / 4 << (j->failures < 4 ? j->failures : 4);
		if (j->failures++ == 0)
			davit_log(DAVIT_LOG_ERROR, "the store does not take records: %s; trying again",
				  op->error.message);
		put_back(j);
		davit_timer_start(&j->retry, delay);
		return;
	}
	if (j->failures)
		davit_log(DAVIT_LOG_INFO, "the store takes records again");
	j->failures = 0;
	DAVIT_FAULT("journal-committed");
	if (j->on_event)
		davit_event_rows_tell(&j->flying.events, j->on_event, j->on_event_user);
	davit_list_init(&waits);
	davit_list_splice(&waits, &j->flying.waits);
	batch_fini(&j->flying);
	batch_init(&j->flying);
	release(&waits, true);
	if (batch_size(&j->filling) || !davit_list_empty(&j->filling.waits))
		send(j);
	else if (j->on_idle)
		j->on_idle(j->on_idle_user);
}

static void send(struct davit_journal *j)
{
	DAVIT_AUTO_FREE struct davit_store_change *changes = NULL;
	char from[DAVIT_EVENT_KEY_SIZE], to[DAVIT_EVENT_KEY_SIZE];
	size_t n = 0;

	if (j->in_flight || davit_timer_active(&j->retry))
		return;
	if (!batch_size(&j->filling)) {
		struct davit_list waits;
		davit_list_init(&waits);
		davit_list_splice(&waits, &j->filling.waits);
		release(&waits, true);
		return;
	}
	if (too_early(j))
		return;
	davit_timer_stop(&j->pace);
	j->sent = davit_loop_now(j->loop);
	j->size = batch_size(&j->filling);
	j->seen = 0;
	j->on_beat = false;
	changes = calloc(j->filling.n + j->filling.events.n + 1, sizeof *changes);
	if (!changes) {
		davit_timer_start(&j->retry, DAVIT_NSEC_PER_SEC);
		return;
	}
	j->flying = j->filling;
	davit_list_init(&j->flying.waits);
	davit_list_splice(&j->flying.waits, &j->filling.waits);
	batch_init(&j->filling);
	for (size_t k = 0; k < j->flying.n; k++) {
		const struct entry *e = &j->flying.v[k];
		changes[n++] = (struct davit_store_change){
			.verb = e->value ? DAVIT_STORE_PUT : DAVIT_STORE_DELETE,
			.key = e->key,
			.value = e->value,
			.len = e->value ? strlen(e->value) : 0,
		};
	}
	for (size_t k = 0; k < j->flying.events.n; k++) {
		const struct davit_event_row *row = &j->flying.events.v[k];
		changes[n++] = (struct davit_store_change){
			.verb = DAVIT_STORE_PUT, .key = row->key, .value = row->text, .len = row->len};
	}
	/* The oldest tenth goes at once, so that trimming is rare. */
	if (j->last_event - j->first_event > j->max_events + j->max_events / 10) {
		davit_event_key(from, j->first_event);
		j->first_event = j->last_event - j->max_events;
		davit_event_key(to, j->first_event);
		changes[n++] = (struct davit_store_change){
			.verb = DAVIT_STORE_DELETE_RANGE, .key = from, .key_end = to};
	}
	j->in_flight = true;
	davit_op_init(&j->txn.op, j->loop, committed, j);
	DAVIT_FAULT("journal-commit");
	davit_store_commit(j->store, changes, n, &j->txn, 0);
}

static void on_flush(struct davit_deferred *d)
{
	send(DAVIT_CONTAINER_OF(d, struct davit_journal, flush));
}

static bool last_id(void *user, const struct davit_kv *kv)
{
	*(uint64_t *)user = davit_event_key_id(kv->key);
	return false;
}

int davit_journal_new(struct davit_loop *loop, struct davit_store *store, size_t max_events,
		      struct davit_journal **ret, struct davit_error *err)
{
	struct davit_journal *j = calloc(1, sizeof *j);
	int64_t revision;
	int r;

	if (!j)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	j->loop = loop;
	j->store = store;
	j->max_events = max_events ? max_events : 10000;
	batch_init(&j->filling);
	batch_init(&j->flying);
	davit_deferred_init(&j->flush, loop, on_flush);
	davit_timer_init(&j->retry, loop, on_retry);
	davit_timer_init(&j->pace, loop, on_pace);
	davit_timer_init(&j->patience, loop, on_patience);
	r = store->driver->list_reverse(store, DAVIT_EVENT_PREFIX, 1, last_id, &j->last_event, &revision,
					err);
	if (r == 0)
		r = store->driver->list(store, DAVIT_EVENT_PREFIX, NULL, 1, last_id, &j->first_event,
					&revision, err);
	if (r < 0) {
		free(j);
		return r;
	}
	*ret = j;
	return 0;
}

void davit_journal_flush(struct davit_journal *j)
{
	j->sent = 0;
	if (batch_size(&j->filling))
		send(j);
}

void davit_journal_free(struct davit_journal *j)
{
	if (!j)
		return;
	davit_deferred_cancel(&j->flush);
	davit_timer_stop(&j->pace);
	davit_timer_stop(&j->retry);
	davit_timer_stop(&j->patience);
	batch_fini(&j->filling);
	batch_fini(&j->flying);
	j->freed = true;
	if (!j->in_flight)
		free(j);
}

void davit_journal_on_event(struct davit_journal *j, void (*fn)(void *user, uint64_t id, const char *json),
			    void *user)
{
	j->on_event = fn;
	j->on_event_user = user;
}

void davit_journal_on_idle(struct davit_journal *j, void (*fn)(void *user), void *user)
{
	j->on_idle = fn;
	j->on_idle_user = user;
}

void davit_journal_write(struct davit_journal *j, const char *key, const char *value)
{
	set_record(j, key, value);
	davit_defer(&j->flush);
}

void davit_journal_event(struct davit_journal *j, const char *fields)
{
	struct batch *b = &j->filling;

	if (batch_size(b) >= PENDING_MAX ||
	    !davit_event_rows_add(&b->events, &b->text, j->last_event + 1, j->dropped, fields)) {
		j->dropped++;
		return;
	}
	j->last_event++;
	if (!j->first_event)
		j->first_event = j->last_event;
	j->dropped = 0;
	davit_defer(&j->flush);
}

void davit_journal_on_beat(struct davit_journal *j)
{
	j->on_beat = true;
}

void davit_journal_wait(struct davit_journal *j, struct davit_journal_wait *w)
{
	davit_journal_unwait(w); /* one that waited already waits for more */
	w->due = davit_loop_now(j->loop) + DAVIT_JOURNAL_PATIENCE;
	w->active = true;
	davit_list_init(&w->list);
	davit_list_add_tail(batch_size(&j->filling) || !j->in_flight ? &j->filling.waits : &j->flying.waits,
			    &w->list);
	if (!davit_timer_active(&j->patience))
		davit_timer_start(&j->patience, DAVIT_JOURNAL_PATIENCE);
	davit_defer(&j->flush);
}

void davit_journal_unwait(struct davit_journal_wait *w)
{
	if (w->active) {
		w->active = false;
		davit_list_remove(&w->list);
	}
}

bool davit_journal_idle(const struct davit_journal *j)
{
	return !j->in_flight && !batch_size(&j->filling);
}

uint64_t davit_journal_last_event(const struct davit_journal *j)
{
	return j->last_event;
}
