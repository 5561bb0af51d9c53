/* SPDX-License-Identifier: MIT
 *
 * The watches of one store, as drivers keep them. A watch is first behind: the
 * driver's `catch_up` tells it, from the loop, what changed since the revision
 * that it asked for. From then on it is live and gets each change that the
 * driver tells to the set. Callbacks may watch and unwatch anything, themselves
 * included; they must not close the store.
 */
#ifndef DAVIT_STORE_WATCH_H
#define DAVIT_STORE_WATCH_H

#include "davit/store.h"

struct davit_watches {
	struct davit_store *store;
	struct davit_store_watch *first, *last;
	/* Tells everything after w->next_revision - 1 with davit_watch_tell, and
	 * stops when that says false. Returns 0 with *ret_revision, the revision
	 * up to which it told, or an error, which breaks the watch. */
	int (*catch_up)(struct davit_store *s, struct davit_store_watch *w, int64_t *ret_revision,
			struct davit_error *err);
	struct davit_deferred behind;	   /* queued while a watch is behind */
	struct davit_store_watch *telling; /* whose callback runs now; NULL once it is unwatched */
	struct davit_store_watch *cursor;  /* the next to be told */
};

void davit_watches_init(struct davit_watches *ws, struct davit_store *s,
			int (*catch_up)(struct davit_store *, struct davit_store_watch *, int64_t *,
					struct davit_error *));
/* Forgets all watches without a word to them. */
void davit_watches_fini(struct davit_watches *ws);
/* The driver slots. add refuses a prefix that is too long with DAVIT_EINVAL.
 * remove does nothing to a watch that is over. */
int davit_watches_add(struct davit_watches *ws, const char *prefix, int64_t after,
		      struct davit_store_watch *w, struct davit_error *err);
void davit_watches_remove(struct davit_watches *ws, struct davit_store_watch *w);
/* Tells one change to one watch if its prefix matches; false when the watch is
 * over after it. For catch_up. */
bool davit_watch_tell(struct davit_watches *ws, struct davit_store_watch *w, const struct davit_kv *kv);
/* Would a live watch be told of this key? */
bool davit_watches_match(const struct davit_watches *ws, const char *key);
/* Tells one change to all live watches that have not seen its revision. */
void davit_watches_tell(struct davit_watches *ws, const struct davit_kv *kv);
/* All changes of the revision have been told. */
void davit_watches_told(struct davit_watches *ws, int64_t revision);
/* Ends all watches with this error. Calls back; only from the loop. */
void davit_watches_break(struct davit_watches *ws, const struct davit_error *err);

#endif
