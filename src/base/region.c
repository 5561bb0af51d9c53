/* SPDX-License-Identifier: MIT */
#include "base/region.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>

#define ALIGN(n) (((n) + 7) & ~(size_t)7)

/* ---------------------------------------------------------------------- region */

enum { CHUNK_FIRST = 1024, CHUNK_MOST = 64 * 1024 };

struct davit_region_chunk {
	struct davit_region_chunk *before;
	size_t size, used; /* the header included */
	bool mapped;
};

static struct davit_region_chunk *chunk_new(size_t size)
{
	struct davit_region_chunk *c;
	bool mapped = size >= CHUNK_MOST;

	if (mapped) {
		c = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		c = c == MAP_FAILED ? NULL : c;
	} else {
		c = malloc(size);
	}
	if (c)
		*c = (struct davit_region_chunk){.size = size, .used = ALIGN(sizeof *c), .mapped = mapped};
	return c;
}

void *davit_region_take(struct davit_region *a, size_t n)
{
	struct davit_region_chunk *c = a->last;
	size_t head = ALIGN(sizeof *c), size;
	void *piece;

	if (n > SIZE_MAX / 4)
		return NULL;
	n = ALIGN(n);
	if (!c || c->size - c->used < n) {
		size = !c ? CHUNK_FIRST : c->size * 2 < CHUNK_MOST ? c->size * 2 : CHUNK_MOST;
		while (size < head + n)
			size *= 2;
		c = chunk_new(size);
		if (!c)
			return NULL;
		c->before = a->last;
		a->last = c;
	}
	piece = (char *)c + c->used;
	c->used += n;
	return piece;
}

char *davit_region_strdup(struct davit_region *a, const char *s)
{
	size_t n = strlen(s) + 1;
	char *copy = davit_region_take(a, n);

	return copy ? memcpy(copy, s, n) : NULL;
}

void davit_region_fini(struct davit_region *a)
{
	while (a->last) {
		struct davit_region_chunk *c = a->last;
		a->last = c->before;
		if (c->mapped)
			munmap(c, c->size);
		else
			free(c);
	}
}

/* ------------------------------------------------------------------------ pool */

enum { POOL_CHUNK = 64 * 1024 };

struct piece {
	struct pool_chunk *chunk;
	struct piece *next_free; /* the user's first bytes while it is taken */
};
#define PIECE_HEAD offsetof(struct piece, next_free)

struct pool_chunk {
	struct davit_list list;
	struct piece *free;
	size_t taken, carved; /* pieces in use; bytes that were ever given out */
};

void davit_pool_init(struct davit_pool *p, size_t size)
{
	davit_list_init(&p->chunks);
	p->size = ALIGN(size + PIECE_HEAD);
	assert(p->size < POOL_CHUNK / 4 && p->size >= sizeof(struct piece));
}

static bool is_full(const struct davit_pool *p, const struct pool_chunk *c)
{
	return !c->free && c->carved + p->size > POOL_CHUNK;
}

void *davit_pool_take(struct davit_pool *p)
{
	struct pool_chunk *c =
		davit_list_empty(&p->chunks) ? NULL : DAVIT_LIST_FIRST(&p->chunks, struct pool_chunk, list);
	struct piece *piece;

	if (!c || is_full(p, c)) {
		c = mmap(NULL, POOL_CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (c == MAP_FAILED)
			return NULL;
		*c = (struct pool_chunk){.carved = ALIGN(sizeof *c)};
		davit_list_init(&c->list);
		davit_list_add_head(&p->chunks, &c->list);
	}
	piece = c->free;
	if (piece) {
		c->free = piece->next_free;
	} else {
		piece = (struct piece *)(void *)((char *)c + c->carved);
		c->carved += p->size;
	}
	c->taken++;
	memset(piece, 0, p->size);
	piece->chunk = c;
	if (is_full(p, c)) {
		davit_list_remove(&c->list);
		davit_list_add_tail(&p->chunks, &c->list);
	}
	return (char *)piece + PIECE_HEAD;
}

void davit_pool_give(struct davit_pool *p, void *user)
{
	struct piece *piece;
	struct pool_chunk *c;

	if (!user)
		return;
	piece = (struct piece *)(void *)((char *)user - PIECE_HEAD);
	c = piece->chunk;
	piece->next_free = c->free;
	c->free = piece;
	davit_list_remove(&c->list);
	if (--c->taken == 0) {
		/* The last one stays for the next piece, as good as new. */
		if (!davit_list_empty(&p->chunks)) {
			munmap(c, POOL_CHUNK);
			return;
		}
		c->free = NULL;
		c->carved = ALIGN(sizeof *c);
	}
	davit_list_add_head(&p->chunks, &c->list);
}

void davit_pool_fini(struct davit_pool *p)
{
	struct pool_chunk *c = DAVIT_LIST_FIRST(&p->chunks, struct pool_chunk, list);

	if (!c)
		return;
	davit_list_remove(&c->list);
	assert(!c->taken && davit_list_empty(&p->chunks));
	munmap(c, POOL_CHUNK);
}
