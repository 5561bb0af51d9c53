/* SPDX-License-Identifier: MIT
 *
 * Hash map from strings to pointers: open addressing, keys borrowed from the
 * values (or anything that outlives the entry), deterministic order of
 * insertion is NOT kept. Keys are hashed with a seed against crafted ones.
 */
#ifndef DAVIT_BASE_MAP_H
#define DAVIT_BASE_MAP_H

#include "base/util.h"

struct davit_map {
	struct davit_map_slot *slots;
	size_t cap;  /* power of two, or 0 */
	size_t len;  /* live entries */
	size_t used; /* live and deleted */
};

/* Fixes the seed, so that the order of iteration is the same in each run of a
 * program (the simulator). To be called before the first entry is added. */
void davit_map_set_seed(uint64_t seed);
void davit_map_fini(struct davit_map *m);
/* Adds or replaces. The key is borrowed until removed. 0 or DAVIT_ENOMEM. */
int davit_map_put(struct davit_map *m, const char *key, void *value);
void *davit_map_get(const struct davit_map *m, const char *key); /* or NULL */
void *davit_map_remove(struct davit_map *m, const char *key);	 /* what was there, or NULL */
/* Iteration: start with *pos = 0; false at the end. Removing the entry that
 * was just returned is allowed, adding is not. */
bool davit_map_next(const struct davit_map *m, size_t *pos, const char **ret_key, void **ret_value);

#endif
