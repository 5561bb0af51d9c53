/* SPDX-License-Identifier: MIT
 *
 * Write-behind of what the core observes: instance records and events. Changes
 * of one iteration of the loop become one transaction; while one is under way
 * the next collects, and for 10 to 100 ms after it, or 5 when somebody waits. A store
 * that fails is asked again with a growing delay; what waits is bounded, and what
 * had to be dropped is counted in an event.
 */
#ifndef DAVIT_CORE_JOURNAL_H
#define DAVIT_CORE_JOURNAL_H

#include "base/list.h"
#include "davit/store.h"

struct davit_journal;

/* Somebody who waits until what was written before is durable. Embedded in its
 * owner; `done` is called from the loop, once; also, with durable false, when
 * the store has not answered for DAVIT_JOURNAL_PATIENCE. */
struct davit_journal_wait {
	struct davit_list list;
	void (*done)(struct davit_journal_wait *w, bool durable);
	int64_t due;
	bool active;
};

#define DAVIT_JOURNAL_PATIENCE INT64_C(2000000000)

/* Reads the last event's id from the store. */
int davit_journal_new(struct davit_loop *loop, struct davit_store *store, size_t max_events,
		      struct davit_journal **ret, struct davit_error *err);
/* Hands what waits to the store now, unless a transaction is under way: before an
 * orderly end. */
void davit_journal_flush(struct davit_journal *j);
/* What is with the store already ends there; its memory goes with the end of that
 * transaction. NULL is fine. */
void davit_journal_free(struct davit_journal *j);
/* Called for each committed event, in order. */
void davit_journal_on_event(struct davit_journal *j, void (*fn)(void *user, uint64_t id, const char *json),
			    void *user);

/* Called when nothing waits any more. */
void davit_journal_on_idle(struct davit_journal *j, void (*fn)(void *user), void *user);

/* The value is copied; NULL deletes the key. A later write of a key replaces one
 * that still waits. */
void davit_journal_write(struct davit_journal *j, const char *key, const char *value);
/* Everything before the closing brace of an event's object, without its id: the
 * journal adds {"id":N, ...}. */
void davit_journal_event(struct davit_journal *j, const char *fields);
/* What is being written comes on a beat when there is much of it, as ends do: more of it may be waited
 * for a little longer. */
void davit_journal_on_beat(struct davit_journal *j);
/* Waits for all that was written up to now. */
void davit_journal_wait(struct davit_journal *j, struct davit_journal_wait *w);
void davit_journal_unwait(struct davit_journal_wait *w);
/* Nothing waits and nothing is under way. */
bool davit_journal_idle(const struct davit_journal *j);
uint64_t davit_journal_last_event(const struct davit_journal *j);

#endif
