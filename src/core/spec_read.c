/* SPDX-License-Identifier: MIT
 *
 * From a tree of keys and values to a spec, by the table.
 */
#include "core/spec_item.h"

#include "base/map.h"
#include "base/nearest.h"
#include "base/signals.h"
#include "base/units.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct reader {
	struct davit_region *region;
	struct davit_error *err;
	enum davit_kind kind;
	char path[192]; /* of the value at hand */
	size_t path_len;
};

/* ---------------------------------------------------------------------- the path */

/* Appends ".key" and returns what to pass to pop. */
static size_t push(struct reader *r, const char *key)
{
	size_t before = r->path_len;
	int n = snprintf(r->path + before, sizeof r->path - before, "%s%s", before ? "." : "", key);

	r->path_len = before + (size_t)n < sizeof r->path ? before + (size_t)n : sizeof r->path - 1;
	return before;
}

static size_t push_index(struct reader *r, size_t i)
{
	size_t before = r->path_len;
	int n = snprintf(r->path + before, sizeof r->path - before, "[%zu]", i);

	r->path_len = before + (size_t)n < sizeof r->path ? before + (size_t)n : sizeof r->path - 1;
	return before;
}

static void pop(struct reader *r, size_t before)
{
	r->path_len = before;
	r->path[before] = '\0';
}

/* "path: message" at the value t. */
#define FAIL(r, t, fmt, ...)                                                                                 \
	davit_tree_error((r)->err, (t)->line, (t)->column, (r)->path, "%s%s" fmt, (r)->path,                 \
			 *(r)->path ? ": " : "", ##__VA_ARGS__)

/* Puts place and path to what a function without them has said. */
static int placed(struct reader *r, const struct davit_tree *t, int code)
{
	struct davit_error e = *r->err;

	if (code != DAVIT_EINVAL)
		return code;
	return FAIL(r, t, "%s", e.message);
}

static int no_memory(struct reader *r)
{
	return davit_error_set(r->err, DAVIT_ENOMEM, NULL, "out of memory");
}

/* ----------------------------------------------------------------- lists and items */

/* The scalar's text, or a refusal. */
static int text_of(struct reader *r, const struct davit_tree *t, const char **ret)
{
	if (t->kind != DAVIT_TREE_SCALAR)
		return FAIL(r, t, "expected one value, not a %s", t->kind == DAVIT_TREE_MAP ? "map" : "list");
	if (davit_tree_is_null(t))
		return FAIL(r, t, "a value is missing; write \"\" for an empty text");
	*ret = t->text;
	return 0;
}

static int read_strings(struct reader *r, const struct davit_spec_row *row, const struct davit_tree *t,
			char ***ret)
{
	size_t n = t->kind == DAVIT_TREE_LIST ? t->n : 1, i = 0, before;
	const struct davit_tree *e = t->kind == DAVIT_TREE_LIST ? t->first : t;
	const char *text;
	char **v;
	int code;

	if (t->kind == DAVIT_TREE_MAP)
		return FAIL(r, t, "expected a list of texts, not a map");
	if (!n)
		return 0;
	v = davit_region_take(r->region, (n + 1) * sizeof *v);
	if (!v)
		return no_memory(r);
	for (; i < n; i++, e = e->next) {
		before = e == t ? r->path_len : push_index(r, i);
		code = text_of(r, e, &text);
		if (!code && row->each)
			code = placed(r, e, row->each(r->region, text, &text, r->err));
		if (code)
			return code;
		v[i] = (char *)text;
		pop(r, before);
	}
	v[n] = NULL;
	*ret = v;
	return 0;
}

static int read_exits(struct reader *r, const struct davit_tree *t, struct davit_ints *ret)
{
	size_t n = t->kind == DAVIT_TREE_LIST ? t->n : 1, i = 0, before;
	const struct davit_tree *e = t->kind == DAVIT_TREE_LIST ? t->first : t;
	const char *text;
	int64_t status;
	int code, *v;

	if (t->kind == DAVIT_TREE_MAP)
		return FAIL(r, t, "expected a list of exit statuses and signals, not a map");
	if (!n)
		return 0;
	v = davit_region_take(r->region, n * sizeof *v);
	if (!v)
		return no_memory(r);
	for (; i < n; i++, e = e->next) {
		before = e == t ? r->path_len : push_index(r, i);
		code = text_of(r, e, &text);
		if (code)
			return code;
		if (!davit_int_parse(text, INT64_MIN, INT64_MAX, &status, NULL))
			v[i] = status >= 0 && status <= 255 ? (int)status : -1;
		else
			v[i] = davit_signal_parse(text) < 0 ? -1 : 256 + davit_signal_parse(text);
		if (v[i] < 0)
			return FAIL(r, e, "'%.64s' is not an exit status (0 to 255) or a signal", text);
		pop(r, before);
	}
	*ret = (struct davit_ints){v, n};
	return 0;
}

static int unknown_key(struct reader *r, const struct davit_tree *t, const char *const *known, size_t n)
{
	const char *near = davit_nearest(t->key, known, n);
	size_t before = r->path_len;
	char in[sizeof r->path + 8] = "";

	if (before)
		snprintf(in, sizeof in, " in '%s'", r->path);
	push(r, t->key);
	return davit_tree_error(r->err, t->key_line, t->key_column, r->path,
				"unknown key '%.64s'%.120s%s%s%s", t->key, in, near ? "; did you mean '" : "",
				near ? near : "", near ? "'?" : "");
}

static int read_value(struct reader *r, const struct davit_spec_row *row, const struct davit_tree *t,
		      void *base);

/* An item in its long form: {key: value, ...}. */
static int read_item_map(struct reader *r, const struct davit_spec_item *item, const struct davit_tree *t,
			 void *at)
{
	const char *known[16];

	for (size_t i = 0; i < item->n_rows; i++)
		known[i] = item->rows[i].path;
	for (const struct davit_tree *e = t->first; e; e = e->next) {
		const struct davit_spec_row *row = NULL;
		size_t before;
		int code;

		for (size_t i = 0; i < item->n_rows; i++)
			if (!strcmp(item->rows[i].path, e->key))
				row = &item->rows[i];
		if (!row)
			return unknown_key(r, e, known, item->n_rows);
		if (davit_tree_is_null(e))
			continue;
		before = push(r, e->key);
		code = read_value(r, row, e, at);
		if (code)
			return code;
		pop(r, before);
	}
	/* The first key is what an item is about. */
	if (!item->any_first && item->rows[0].type == DAVIT_TYPE_STRING &&
	    !*(char **)davit_spec_at(&item->rows[0], at))
		return FAIL(r, t, "the key '%s' is missing", item->rows[0].path);
	return 0;
}

static int item_defaults(struct reader *r, const struct davit_spec_item *item, void *at)
{
	memset(at, 0, item->size);
	for (size_t i = 0; i < item->n_rows; i++)
		if (item->rows[i].deflt) {
			int code = davit_spec_read_scalar(&item->rows[i], item->rows[i].deflt, at, r->err);
			if (code)
				return code;
		}
	return 0;
}

/* One item of a list. */
static int read_item(struct reader *r, const struct davit_spec_item *item, const struct davit_tree *t,
		     void *at)
{
	struct davit_pair pair;
	const char *text;
	int code = item_defaults(r, item, at);

	if (code)
		return code;
	if (t->kind != DAVIT_TREE_MAP) {
		code = text_of(r, t, &text);
		return code ? code : placed(r, t, item->from_text(r->region, text, at, r->err));
	}
	if (!item->from_pair)
		return read_item_map(r, item, t, at);
	/* {name: ..., value: ...}, whatever the pair becomes. */
	memset(&pair, 0, sizeof pair);
	code = read_item_map(r, &davit_spec_item_env, t, &pair);
	if (!code && !pair.value)
		code = FAIL(r, t, "the key 'value' is missing");
	return code ? code : placed(r, t, item->from_pair(pair.name, pair.value, at, r->err));
}

/* {NAME: text, ...} */
static int read_pairs(struct reader *r, const struct davit_spec_item *item, const struct davit_tree *t,
		      char *v)
{
	for (const struct davit_tree *e = t->first; e; e = e->next, v += item->size) {
		const char *text;
		size_t before = push(r, e->key);
		int code = text_of(r, e, &text);

		if (!code)
			code = placed(r, e, item->from_pair(e->key, text, v, r->err));
		if (code)
			return code;
		pop(r, before);
	}
	return 0;
}

/* Of pairs with the same name the last one stays, in its own place. */
static int drop_earlier(struct reader *r, const struct davit_spec_item *item, char *v, size_t *n)
{
	struct davit_map last = {0};
	size_t kept = 0;

	for (size_t i = 0; i < *n; i++)
		if (davit_map_put(&last, item->pair_name(v + i * item->size), v + i * item->size)) {
			davit_map_fini(&last);
			return no_memory(r);
		}
	/* Marks first, moves then: the map points into what is moved. */
	bool *stays = davit_region_take(r->region, *n);
	for (size_t i = 0; stays && i < *n; i++)
		stays[i] = davit_map_get(&last, item->pair_name(v + i * item->size)) == v + i * item->size;
	davit_map_fini(&last);
	if (!stays)
		return no_memory(r);
	for (size_t i = 0; i < *n; i++)
		if (stays[i])
			memmove(v + kept++ * item->size, v + i * item->size, item->size);
	*n = kept;
	return 0;
}

static int read_items(struct reader *r, const struct davit_spec_row *row, const struct davit_tree *t,
		      void *base)
{
	const struct davit_spec_item *item = row->item;
	bool pairs = item->from_pair && t->kind == DAVIT_TREE_MAP;
	size_t n = t->kind == DAVIT_TREE_LIST || pairs ? t->n : 1;
	char *v;
	int code = 0;

	if (!n)
		return 0;
	if (row->max && n > (size_t)row->max)
		return FAIL(r, t, "has %zu entries, and %" PRId64 " are allowed", n, row->max);
	v = davit_region_take(r->region, n * item->size);
	if (!v)
		return no_memory(r);
	if (pairs) {
		code = read_pairs(r, item, t, v);
	} else if (t->kind == DAVIT_TREE_LIST) {
		const struct davit_tree *e = t->first;
		for (size_t i = 0; !code && i < n; i++, e = e->next) {
			size_t before = push_index(r, i);
			code = read_item(r, item, e, v + i * item->size);
			if (!code)
				pop(r, before);
		}
		if (!code && item->from_pair)
			code = drop_earlier(r, item, v, &n);
	} else {
		code = read_item(r, item, t, v);
	}
	if (code)
		return code;
	*(void **)davit_spec_at(row, base) = v;
	*davit_spec_n(row, base) = n;
	return 0;
}

/* ------------------------------------------------------------------------- the spec */

/* Into the spec, or into an item of it. */
static int read_value(struct reader *r, const struct davit_spec_row *row, const struct davit_tree *t,
		      void *base)
{
	const char *text;
	int code;

	if (davit_tree_is_null(t)) /* as if it were not there */
		return 0;
	switch (row->type) {
	case DAVIT_TYPE_STRINGS:
		return read_strings(r, row, t, davit_spec_at(row, base));
	case DAVIT_TYPE_EXITS:
		return read_exits(r, t, davit_spec_at(row, base));
	case DAVIT_TYPE_ITEMS:
		return read_items(r, row, t, base);
	default:
		code = text_of(r, t, &text);
		return code ? code : placed(r, t, davit_spec_read_scalar(row, text, base, r->err));
	}
}

/* The key under the group: "backoff" of "restart.backoff.max" in "restart". */
static const char *key_in(const char *path, const char *group, size_t group_len, size_t *ret_len)
{
	if (group_len) {
		if (strncmp(path, group, group_len) != 0 || path[group_len] != '.')
			return NULL;
		path += group_len + 1;
	}
	*ret_len = strcspn(path, ".");
	return path;
}

/* What is known under the path at hand, for "did you mean": its keys, and the
 * full path of options with the wanted name that stand elsewhere. */
static int unknown_option(struct reader *r, const struct davit_tree *t)
{
	const char *known[2 * 96];
	char keys[96][24];
	size_t n = 0;

	for (size_t i = 0; i < davit_spec_n_rows && i < 96; i++) {
		const struct davit_spec_row *row = &davit_spec_rows[i];
		const char *last = strrchr(row->path, '.');
		size_t len;
		const char *key = key_in(row->path, r->path, r->path_len, &len);

		if (!(row->kinds & 1 << r->kind))
			continue;
		if (last && !r->path_len && !strcmp(row->path, t->key))
			return davit_tree_error(r->err, t->key_line, t->key_column, t->key,
						"unknown key '%s'; write '%s' as a key within '%.*s'", t->key,
						last + 1, (int)(last - row->path), row->path);
		if (last && !r->path_len && !strcmp(last + 1, t->key))
			return davit_tree_error(r->err, t->key_line, t->key_column, t->key,
						"unknown key '%.64s'; did you mean '%s'?", t->key, row->path);
		if (!key || len >= sizeof keys[0])
			continue;
		memcpy(keys[n], key, len);
		keys[n][len] = '\0';
		known[n] = keys[n];
		n++;
	}
	return unknown_key(r, t, known, n);
}

static int read_group(struct reader *r, const struct davit_tree *t, struct davit_spec *s);

/* One key with its value, whose path has been pushed: an option or a group. */
static int read_key(struct reader *r, const struct davit_tree *t, struct davit_spec *s, bool *ret_known)
{
	const struct davit_spec_row *row = NULL, *group = NULL;

	*ret_known = true;
	for (size_t i = 0; !row && i < davit_spec_n_rows; i++) {
		const char *path = davit_spec_rows[i].path;
		if (*path != *r->path || strncmp(path, r->path, r->path_len) != 0)
			continue;
		if (!path[r->path_len])
			row = &davit_spec_rows[i];
		else if (path[r->path_len] == '.' && (!group || davit_spec_rows[i].is_short))
			group = &davit_spec_rows[i];
	}
	if (!row && !group) {
		*ret_known = false;
		return 0;
	}
	if (!((row ? row : group)->kinds & 1 << r->kind)) {
		unsigned kinds = (row ? row : group)->kinds;
		return davit_tree_error(r->err, t->key_line, t->key_column, r->path,
					"%s: is for kind %s, and this is a %s", r->path,
					kinds & 1   ? kinds & 2 ? "Service or Supervisor" : "Service"
					: kinds & 2 ? "Supervisor"
						    : "Namespace",
					davit_spec_kind_name(r->kind));
	}
	if (row)
		return read_value(r, row, t, s);
	if (t->kind == DAVIT_TREE_MAP)
		return read_group(r, t, s);
	if (davit_tree_is_null(t))
		return 0;
	if (t->kind == DAVIT_TREE_SCALAR && group->is_short)
		return read_value(r, group, t, s);
	return FAIL(r, t, "expected a map of keys, not a %s",
		    t->kind == DAVIT_TREE_LIST ? "list" : "single value");
}

static int read_group(struct reader *r, const struct davit_tree *t, struct davit_spec *s)
{
	for (const struct davit_tree *e = t->first; e; e = e->next) {
		size_t before = push(r, e->key);
		bool known = false;
		int code = 0;

		/* A dot in a key would name an option of a group by its full path. */
		if (!strchr(e->key, '.') && strlen(e->key) < 32)
			code = read_key(r, e, s, &known);
		if (code)
			return code;
		pop(r, before);
		if (!known)
			return unknown_option(r, e);
	}
	return 0;
}

/* The kind decides which keys are allowed, so it is read first. */
static int read_kind(struct reader *r, const struct davit_tree *t, struct davit_spec *s)
{
	for (const struct davit_tree *e = t->first; e; e = e->next)
		if (!strcmp(e->key, davit_spec_rows[0].path)) {
			size_t before = push(r, e->key);
			int code = read_value(r, &davit_spec_rows[0], e, s);
			if (code)
				return code;
			pop(r, before);
		}
	r->kind = s->kind;
	return 0;
}

int davit_spec_read(struct davit_region *a, const struct davit_tree *t, struct davit_spec *s,
		    struct davit_error *err)
{
	struct reader r = {.region = a, .err = err};
	int code;

	if (t->kind != DAVIT_TREE_MAP)
		return FAIL(&r, t, "a spec is a map of keys, not a %s",
			    t->kind == DAVIT_TREE_LIST ? "list" : "single value");
	code = read_kind(&r, t, s);
	if (!code)
		code = read_group(&r, t, s);
	if (code)
		return code;
	for (size_t i = 0; i < s->n_ports; i++)
		if (!s->ports[i].container)
			s->ports[i].container = s->ports[i].host;
	return 0;
}
