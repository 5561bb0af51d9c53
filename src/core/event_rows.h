/* SPDX-License-Identifier: MIT
 *
 * How events lie in the store: what is committed together shares rows, for a row of its
 * own costs each event more than its text. A row's key is "events/" and the id of its last event
 * in 16 hexadecimal digits, so that reading on behind an event begins at the first key above its
 * id; its value is a line for each event, a JSON object that begins with the id.
 */
#ifndef DAVIT_CORE_EVENT_ROWS_H
#define DAVIT_CORE_EVENT_ROWS_H

#include "base/region.h"
#include "davit/store.h"

#define DAVIT_EVENT_PREFIX "events/"
#define DAVIT_EVENT_KEY_SIZE (sizeof DAVIT_EVENT_PREFIX + 16)

struct davit_event_row {
	char key[DAVIT_EVENT_KEY_SIZE];
	char *text; /* lines, the last without its end; NUL behind it; in the region */
	size_t len, cap;
};

/* Those of one transaction. Zeroed: none. Texts are in a region that the owner names with each call. */
struct davit_event_rows {
	struct davit_event_row *v;
	size_t n, cap;
	size_t events;
};

/* Adds an event with the fields behind its id: "\"time\":...}". ids rise. dropped: how many were lost
 * before it, told within it. False when out of memory; nothing is changed then. */
bool davit_event_rows_add(struct davit_event_rows *r, struct davit_region *texts, uint64_t id,
			  uint64_t dropped, const char *fields);
/* Adds copies of later rows. How many events were lost for want of memory. */
size_t davit_event_rows_append(struct davit_event_rows *r, struct davit_region *texts,
			       const struct davit_event_rows *later);
/* Calls fn for each event in order, and takes the lines apart on the way: the rows are good for nothing
 * but davit_event_rows_fini then. */
void davit_event_rows_tell(struct davit_event_rows *r, void (*fn)(void *user, uint64_t id, const char *json),
			   void *user);
void davit_event_rows_fini(struct davit_event_rows *r);

/* The key under which a row lies whose last event has this id. */
void davit_event_key(char key[static DAVIT_EVENT_KEY_SIZE], uint64_t id);
/* The id in a row's key; 0 when it is none. */
uint64_t davit_event_key_id(const char *key);
/* Reads the events behind `after`, at most `limit` (0: all), until fn returns false. May read the disk.
 * Two rows can hold the same event, where a transaction was made whose failure was told: it comes once. */
int davit_event_rows_list(struct davit_store *store, uint64_t after, size_t limit,
			  bool (*fn)(void *user, uint64_t id, const char *json), void *user,
			  struct davit_error *err);

#endif
