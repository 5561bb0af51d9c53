/* SPDX-License-Identifier: MIT
 *
 * From trees of keys and values with places to JSON, and what all readers of maps need.
 */
#include "base/nearest.h"
#include "step/pipeline.h"

#include <errno.h>
#include <string.h>

#define KEYS_MAX 48

/* By YAML's core schema, without what makes it a trap (octal, hexadecimal, "yes"). */
static json_t *scalar(const struct davit_tree *t)
{
	const char *digits = t->text + (*t->text == '-');
	char *end;

	if (t->quoted)
		return json_string(t->text);
	if (davit_tree_is_null(t))
		return json_null();
	if (!strcmp(t->text, "true"))
		return json_true();
	if (!strcmp(t->text, "false"))
		return json_false();
	if (*digits && strspn(digits, "0123456789") == strlen(digits) && (digits[0] != '0' || !digits[1])) {
		long long n;
		errno = 0;
		n = strtoll(t->text, &end, 10);
		return errno ? json_string(t->text) : json_integer(n);
	}
	if (*digits >= '0' && *digits <= '9' && strpbrk(digits, ".eE") &&
	    (*digits != '0' || strchr(".eE", digits[1])) &&
	    strspn(digits, "0123456789.eE+-") == strlen(digits)) {
		double d = strtod(t->text, &end);
		if (!*end && d - d == 0) /* neither infinite nor no number */
			return json_real(d);
	}
	return json_string(t->text);
}

static json_t *value(const struct davit_tree *t)
{
	json_t *o = t->kind == DAVIT_TREE_MAP	 ? json_object()
		    : t->kind == DAVIT_TREE_LIST ? json_array()
						 : scalar(t);
	int r = o ? 0 : -1;

	for (const struct davit_tree *c = t->first; r == 0 && c; c = c->next)
		r = t->kind == DAVIT_TREE_MAP ? json_object_set_new(o, c->key, value(c))
					      : json_array_append_new(o, value(c));
	if (r < 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}

int davit_tree_json(const struct davit_tree *t, json_t **ret, struct davit_error *err)
{
	json_t *v = value(t);

	if (!v)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	*ret = v;
	return 0;
}

const struct davit_tree *davit_tree_get(const struct davit_tree *map, const char *key)
{
	if (map && map->kind == DAVIT_TREE_MAP)
		for (const struct davit_tree *c = map->first; c; c = c->next)
			if (!strcmp(c->key, key))
				return c;
	return NULL;
}

int davit_tree_known(const struct davit_tree *t, const char *what, const char *const *known,
		     struct davit_error *err)
{
	size_t n = 0;

	if (t->kind != DAVIT_TREE_MAP)
		return davit_tree_error(err, t->line, t->column, what, "%s must be a map", what);
	while (known[n])
		n++;
	for (const struct davit_tree *c = t->first; c; c = c->next) {
		const char *nearest;
		size_t i = 0;
		while (i < n && strcmp(known[i], c->key) != 0)
			i++;
		if (i < n)
			continue;
		nearest = davit_nearest(c->key, known, n);
		return davit_tree_error(
			err, c->key_line, c->key_column, c->key, "%s has no key '%.64s'%s%s%s", what, c->key,
			nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
	}
	return 0;
}

int davit_tree_text(const struct davit_tree *t, const char *what, const char **ret, struct davit_error *err)
{
	if (t->kind != DAVIT_TREE_SCALAR || davit_tree_is_null(t) || !*t->text)
		return davit_tree_error(err, t->line, t->column, what, "%s must be a text", what);
	*ret = t->text;
	return 0;
}
