/* SPDX-License-Identifier: MIT */
#include "base/tree_read.h"

#include "base/nearest.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int davit_tree_bad(struct davit_tree_reader *r, const struct davit_tree *t, const char *fmt, ...)
{
	char text[sizeof r->err->message];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	return davit_tree_error(r->err, t->line, t->column, t->key, "%s", text);
}

int davit_tree_no_memory(struct davit_tree_reader *r)
{
	return davit_error_set(r->err, DAVIT_ENOMEM, NULL, "out of memory");
}

static int unknown_key(struct davit_tree_reader *r, const struct davit_tree *t,
		       const struct davit_tree_key *keys, size_t n)
{
	const char *names[DAVIT_TREE_KEYS_MAX], *near;

	assert(n <= DAVIT_TREE_KEYS_MAX);
	for (size_t i = 0; i < n; i++)
		names[i] = keys[i].name;
	near = davit_nearest(t->key, names, n);
	return davit_tree_error(r->err, t->key_line, t->key_column, t->key,
				near ? "unknown key '%.64s'; did you mean '%s'?" : "unknown key '%.64s'",
				t->key, near);
}

int davit_tree_read_keys(struct davit_tree_reader *r, const struct davit_tree *map,
			 const struct davit_tree_key *keys, size_t n, void *to)
{
	if (map->kind != DAVIT_TREE_MAP)
		return davit_tree_bad(r, map, "a map is expected here");
	for (const struct davit_tree *t = map->first; t; t = t->next) {
		size_t i = 0;
		int e;

		while (i < n && strcmp(keys[i].name, t->key) != 0)
			i++;
		if (i == n)
			return unknown_key(r, t, keys, n);
		e = keys[i].read(r, t, (char *)to + keys[i].offset);
		if (e < 0)
			return e;
	}
	return 0;
}
