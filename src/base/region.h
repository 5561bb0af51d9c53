/* SPDX-License-Identifier: MIT
 *
 * Memory for a burst, apart from the heap: what lives for a moment must not lie
 * between what stays, or the heap keeps the holes.
 *
 * A region gives pieces of any size that all go at once. A pool gives pieces of
 * one size, each of which can be given back; its chunks but one go when they are empty.
 */
#ifndef DAVIT_BASE_REGION_H
#define DAVIT_BASE_REGION_H

#include "base/list.h"

struct davit_region_chunk;

/* Zeroed: an empty one. */
struct davit_region {
	struct davit_region_chunk *last;
};

/* n bytes, aligned to 8; NULL when out of memory. */
void *davit_region_take(struct davit_region *a, size_t n);
/* A copy of a string. */
char *davit_region_strdup(struct davit_region *a, const char *s);
/* Frees all of it; it is empty then. */
void davit_region_fini(struct davit_region *a);

struct davit_pool {
	struct davit_list chunks; /* those with a free place first */
	size_t size;
};

void davit_pool_init(struct davit_pool *p, size_t size);
/* A zeroed piece, or NULL when out of memory. */
void *davit_pool_take(struct davit_pool *p);
/* NULL is allowed. */
void davit_pool_give(struct davit_pool *p, void *piece);
/* All must have been given back. */
void davit_pool_fini(struct davit_pool *p);

#endif
