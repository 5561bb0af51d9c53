/* SPDX-License-Identifier: MIT */
#include "base/tree.h"

#include "base/util.h"

#include <string.h>

#define KEYS_LINEAR 16 /* up to here a walk over the siblings is faster than a map */

bool davit_tree_is_null(const struct davit_tree *t)
{
	return t->kind == DAVIT_TREE_SCALAR && !t->quoted &&
	       (!*t->text || !strcmp(t->text, "~") || !strcmp(t->text, "null"));
}

int davit_tree_error(struct davit_error *err, unsigned line, unsigned column, const char *where,
		     const char *fmt, ...)
{
	struct davit_error e;
	va_list ap;

	if (!err)
		return DAVIT_EINVAL;
	davit_error_clear(&e);
	davit_error_set(&e, DAVIT_EINVAL, where, "%s", "");
	va_start(ap, fmt);
	vsnprintf(e.message, sizeof e.message, fmt, ap);
	va_end(ap);
	for (char *p = e.message; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	e.line = line;
	e.column = column;
	return davit_error_copy(err, &e);
}

struct davit_tree *davit_tree_new(struct davit_region *region, enum davit_tree_kind kind, unsigned line,
				  unsigned column, size_t *nodes, struct davit_error *err)
{
	struct davit_tree *t;

	if (++*nodes > DAVIT_TREE_NODES_MAX) {
		davit_tree_error(err, line, column, NULL, "a spec has more than %d values",
				 DAVIT_TREE_NODES_MAX);
		return NULL;
	}
	t = davit_region_take(region, sizeof *t);
	if (!t) {
		davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
		return NULL;
	}
	*t = (struct davit_tree){.kind = kind, .line = line, .column = column};
	return t;
}

static const struct davit_tree *seen_before(struct davit_tree *parent, const char *key,
					    struct davit_tree_keys *keys)
{
	if (parent->n > KEYS_LINEAR)
		return davit_map_get(&keys->seen, key);
	for (const struct davit_tree *t = parent->first; t; t = t->next)
		if (!strcmp(t->key, key))
			return t;
	return NULL;
}

static int remember(struct davit_tree *parent, struct davit_tree *child, struct davit_tree_keys *keys)
{
	int r = 0;

	if (parent->n < KEYS_LINEAR)
		return 0;
	if (parent->n == KEYS_LINEAR)
		for (struct davit_tree *t = parent->first; t && !r; t = t->next)
			r = davit_map_put(&keys->seen, t->key, t);
	return r ? r : davit_map_put(&keys->seen, child->key, child);
}

int davit_tree_add(struct davit_tree *parent, struct davit_tree *child, struct davit_tree_keys *keys,
		   struct davit_error *err)
{
	if (parent->kind == DAVIT_TREE_MAP) {
		const struct davit_tree *before = seen_before(parent, child->key, keys);
		if (before)
			return davit_tree_error(err, child->key_line, child->key_column, child->key,
						"the key '%.64s' is given twice, first in line %u",
						child->key, before->key_line);
		if (remember(parent, child, keys))
			return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	if (parent->last)
		parent->last->next = child;
	else
		parent->first = child;
	parent->last = child;
	parent->n++;
	return 0;
}

/* Length of the well-formed UTF-8 sequence at p (RFC 3629), or 0. */
static size_t utf8_length(const unsigned char *p, size_t left)
{
	static const struct {
		unsigned char mask, lead;
		uint32_t least;
	} forms[] = {{0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};
	uint32_t c;

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(forms); i++) {
		size_t len = i + 2;
		if ((p[0] & forms[i].mask) != forms[i].lead)
			continue;
		if (len > left)
			return 0;
		c = p[0] & (unsigned char)~forms[i].mask;
		for (size_t k = 1; k < len; k++) {
			if ((p[k] & 0xc0) != 0x80)
				return 0;
			c = c << 6 | (p[k] & 0x3fu);
		}
		return c < forms[i].least || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) ? 0 : len;
	}
	return 0;
}

static int check_bytes(const char *text, size_t len, struct davit_error *err)
{
	const unsigned char *p = (const unsigned char *)text, *end = p + len;
	unsigned line = 1, column = 1;

	while (p < end) {
		size_t n = *p < 0x80 ? 1 : utf8_length(p, (size_t)(end - p));
		if (!n)
			return davit_tree_error(err, line, column, NULL, "the byte 0x%02x is not UTF-8", *p);
		if (!*p)
			return davit_tree_error(err, line, column, NULL, "a NUL byte is not allowed");
		column++;
		if (*p == '\n') {
			line++;
			column = 1;
		}
		p += n;
	}
	return 0;
}

int davit_tree_open(struct davit_tree_source *s, const char *text, size_t len, struct davit_error *err)
{
	size_t blank;
	int r;

	memset(s, 0, sizeof *s);
	if (len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) { /* a byte order mark */
		text += 3;
		len -= 3;
	}
	r = check_bytes(text, len, err);
	if (r)
		return r;
	for (blank = 0; blank < len && strchr(" \t\r\n", text[blank]); blank++)
		;
	if (blank < len && (text[blank] == '{' || text[blank] == '[')) {
		s->is_json = true;
		davit_json_in_open(&s->json, text, len);
		return 0;
	}
	return davit_yaml_in_open(&s->yaml, text, len, err);
}

int davit_tree_next(struct davit_tree_source *s, struct davit_region *region, struct davit_tree **ret,
		    struct davit_error *err)
{
	if (s->is_json) {
		s->json.region = region;
		s->json.err = err;
		s->json.nodes = 0;
		return davit_json_in_next(&s->json, ret);
	}
	s->yaml.region = region;
	s->yaml.err = err;
	s->yaml.nodes = 0;
	return davit_yaml_in_next(&s->yaml, ret);
}

void davit_tree_close(struct davit_tree_source *s)
{
	if (!s->is_json)
		davit_yaml_in_close(&s->yaml);
}
