/* SPDX-License-Identifier: MIT */
#include "base/map.h"

#include "davit/error.h"

#include <string.h>
#include <sys/random.h>

struct davit_map_slot {
	const char *key; /* NULL: never used; tombstone: deleted */
	void *value;
	uint64_t hash;
};

static const char tombstone[] = "";

static uint64_t seed;

void davit_map_set_seed(uint64_t s)
{
	seed = s | 1;
}

static uint64_t hash_key(const char *key)
{
	uint64_t h;

	if (!seed) {
		if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed)
			seed = (uint64_t)(uintptr_t)&seed;
		seed |= 1;
	}
	h = seed;
	for (const unsigned char *p = (const unsigned char *)key; *p; p++) {
		h ^= *p;
		h *= 0x9e3779b97f4a7c15u;
		h ^= h >> 29;
	}
	return h;
}

void davit_map_fini(struct davit_map *m)
{
	free(m->slots);
	*m = (struct davit_map){0};
}

static struct davit_map_slot *find(const struct davit_map *m, const char *key, uint64_t hash)
{
	for (size_t i = hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
		struct davit_map_slot *s = &m->slots[i];
		if (!s->key)
			return NULL;
		if (s->key != tombstone && s->hash == hash && !strcmp(s->key, key))
			return s;
	}
}

static void place(struct davit_map *m, const char *key, void *value, uint64_t hash)
{
	size_t i = hash & (m->cap - 1);

	while (m->slots[i].key)
		i = (i + 1) & (m->cap - 1);
	m->slots[i] = (struct davit_map_slot){key, value, hash};
	m->len++;
	m->used++;
}

static int grow(struct davit_map *m)
{
	size_t cap = m->len * 2 < m->cap ? m->cap : (m->cap ? m->cap * 2 : 16);
	struct davit_map bigger = {.slots = calloc(cap, sizeof *m->slots), .cap = cap};

	if (!bigger.slots)
		return DAVIT_ENOMEM;
	for (size_t i = 0; i < m->cap; i++)
		if (m->slots[i].key && m->slots[i].key != tombstone)
			place(&bigger, m->slots[i].key, m->slots[i].value, m->slots[i].hash);
	free(m->slots);
	*m = bigger;
	return 0;
}

int davit_map_put(struct davit_map *m, const char *key, void *value)
{
	uint64_t hash = hash_key(key);
	struct davit_map_slot *s = m->cap ? find(m, key, hash) : NULL;

	if (s) {
		s->key = key;
		s->value = value;
		return 0;
	}
	if ((m->used + 1) * 4 > m->cap * 3 && grow(m) < 0)
		return DAVIT_ENOMEM;
	place(m, key, value, hash);
	return 0;
}

void *davit_map_get(const struct davit_map *m, const char *key)
{
	struct davit_map_slot *s = m->len ? find(m, key, hash_key(key)) : NULL;

	return s ? s->value : NULL;
}

void *davit_map_remove(struct davit_map *m, const char *key)
{
	struct davit_map_slot *s = m->len ? find(m, key, hash_key(key)) : NULL;
	void *value;

	if (!s)
		return NULL;
	value = s->value;
	s->key = tombstone;
	s->value = NULL;
	m->len--;
	return value;
}

bool davit_map_next(const struct davit_map *m, size_t *pos, const char **ret_key, void **ret_value)
{
	while (*pos < m->cap) {
		const struct davit_map_slot *s = &m->slots[(*pos)++];
		if (!s->key || s->key == tombstone)
			continue;
		if (ret_key)
			*ret_key = s->key;
		if (ret_value)
			*ret_value = s->value;
		return true;
	}
	return false;
}
