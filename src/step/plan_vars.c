/* SPDX-License-Identifier: MIT
 *
 * Variables: ((name)) in texts, the values of across, and what load_var has read.
 */
#include "step/plan_impl.h"

#include <string.h>

#define NAME_SHOWN 64

static bool is_scalar(const json_t *v)
{
	return json_is_string(v) || json_is_number(v) || json_is_boolean(v);
}

static int add_scalar(struct davit_buf *out, const json_t *v)
{
	DAVIT_AUTO_FREE char *text = NULL;

	if (json_is_string(v)) {
		davit_buf_add(out, json_string_value(v), json_string_length(v));
		return 0;
	}
	text = json_dumps(v, JSON_ENCODE_ANY);
	if (!text)
		return DAVIT_ENOMEM;
	davit_buf_adds(out, text);
	return 0;
}

/* "name.member.member": the value, or NULL. */
static const json_t *look_up(davit_vars_lookup lookup, const void *from, const char *name, size_t len)
{
	const char *end = name + len, *dot = memchr(name, '.', len);
	const json_t *v = lookup(from, name, dot ? (size_t)(dot - name) : len);

	while (v && dot) {
		name = dot + 1;
		dot = memchr(name, '.', (size_t)(end - name));
		v = json_object_getn(v, name, (size_t)((dot ? dot : end) - name));
	}
	return v;
}

/* The next ((prefix...)) from p on: where it begins, or NULL. */
static const char *find(const char *p, const char *prefix, const char **ret_name, size_t *ret_len,
			const char **ret_end)
{
	while ((p = strstr(p, "(("))) {
		const char *name = p + 2, *end = strstr(name, "))");
		size_t skip = strlen(prefix);

		if (!end)
			return NULL;
		while (name < end && *name == ' ')
			name++;
		/* A plan's own variables are for later. */
		if (!strncmp(name, prefix, skip) && (skip || strncmp(name, ".:", 2) != 0)) {
			*ret_name = name + skip;
			*ret_end = end + 2;
			while (end > name + skip && end[-1] == ' ')
				end--;
			*ret_len = (size_t)(end - *ret_name);
			return p;
		}
		p = end + 2;
	}
	return NULL;
}

static int fill_text(const char *text, const char *prefix, davit_vars_lookup lookup, const void *from,
		     json_t **ret, struct davit_error *err)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	const char *at, *name, *end, *p = text;
	size_t len;

	while ((at = find(p, prefix, &name, &len, &end))) {
		const json_t *v = look_up(lookup, from, name, len);
		int shown = len < NAME_SHOWN ? (int)len : NAME_SHOWN;

		if (!v)
			return davit_error_set(err, DAVIT_EINVAL, NULL, "the variable ((%s%.*s)) is not set",
					       prefix, shown, name);
		if (at == text && !*end) {
			*ret = json_deep_copy(v);
			return *ret ? 0 : DAVIT_ENOMEM;
		}
		if (!is_scalar(v))
			return davit_error_set(
				err, DAVIT_EINVAL, NULL,
				"the variable ((%s%.*s)) is a list, a map or null, and cannot stand "
				"within a text",
				prefix, shown, name);
		davit_buf_add(&out, p, (size_t)(at - p));
		if (add_scalar(&out, v) < 0)
			return DAVIT_ENOMEM;
		p = end;
	}
	davit_buf_adds(&out, p);
	*ret = out.oom ? NULL : json_stringn(davit_buf_str(&out), out.len);
	return *ret ? 0 : DAVIT_ENOMEM;
}

/* 0, DAVIT_EINVAL with err filled, or DAVIT_ENOMEM without. */
static int fill(const json_t *in, const char *prefix, davit_vars_lookup lookup, const void *from,
		json_t **ret, struct davit_error *err)
{
	json_t *out, *filled = NULL, *v;
	const char *key;
	size_t i;
	int r = 0;

	if (json_is_string(in))
		return fill_text(json_string_value(in), prefix, lookup, from, ret, err);
	out = json_is_object(in) ? json_object() : json_is_array(in) ? json_array() : json_copy((json_t *)in);
	if (!out)
		return DAVIT_ENOMEM;
	if (json_is_object(in)) {
		json_object_foreach((json_t *)in, key, v)
		{
			r = fill(v, prefix, lookup, from, &filled, err);
			if (r == 0 && json_object_set_new(out, key, filled) < 0)
				r = DAVIT_ENOMEM;
			if (r < 0)
				break;
		}
	} else if (json_is_array(in)) {
		json_array_foreach((json_t *)in, i, v)
		{
			r = fill(v, prefix, lookup, from, &filled, err);
			if (r == 0 && json_array_append_new(out, filled) < 0)
				r = DAVIT_ENOMEM;
			if (r < 0)
				break;
		}
	}
	if (r < 0)
		json_decref(out);
	else
		*ret = out;
	return r;
}

int davit_vars_fill(const json_t *in, const char *prefix, davit_vars_lookup lookup, const void *from,
		    json_t **ret, struct davit_error *err)
{
	int r = fill(in, prefix, lookup, from, ret, err);

	return r == DAVIT_ENOMEM ? davit_error_set(err, r, NULL, "out of memory") : r;
}

/* What a node sees: what was set in the nearest pass of across, the value of that pass, and so on. */
static const json_t *seen(const void *from, const char *name, size_t len)
{
	for (const struct davit_plan_node *n = from; n; n = n->parent) {
		const json_t *v = json_object_getn(n->vars, name, len);

		if (v)
			return v;
		if (n->value && strlen(n->parent->name) == len && !memcmp(n->parent->name, name, len))
			return n->value;
	}
	return NULL;
}

int davit_plan_fill(const struct davit_plan_node *node, const json_t *in, json_t **ret,
		    struct davit_error *err)
{
	return davit_vars_fill(in, ".:", seen, node, ret, err);
}

int plan_set_var(struct davit_plan_node *leaf, const json_t *value)
{
	struct davit_plan_node *scope = leaf;

	while (scope->parent && scope->parent->kind != DAVIT_PLAN_ACROSS)
		scope = scope->parent;
	if (!scope->vars)
		scope->vars = json_object();
	return !scope->vars || json_object_set_new(scope->vars, leaf->name, json_deep_copy(value)) < 0
		       ? DAVIT_ENOMEM
		       : 0;
}

static size_t count(struct davit_plan_node *top)
{
	size_t n = 0;

	for (struct davit_plan_node *at = top; at; at = plan_next(at, top, true))
		n += 1 + (at->template ? count(at->template) : 0);
	return n;
}

int plan_expand(struct davit_plan_node *n, struct davit_error *err)
{
	struct davit_plan *p = n->plan;
	size_t each = count(n->template), i;
	json_t *values = NULL, *v;
	int r = davit_plan_fill(n, n->values, &values, err);

	if (r < 0)
		return r;
	if (!json_is_array(values)) {
		r = davit_error_set(err, DAVIT_EINVAL, NULL, "the values of '%s' are no list", n->name);
	} else if (json_array_size(values) > (DAVIT_PLAN_NODES_MAX - p->nodes) / each) {
		r = davit_error_set(err, DAVIT_EINVAL, NULL, "%zu values of '%s' make more than %d steps",
				    json_array_size(values), n->name, DAVIT_PLAN_NODES_MAX);
	} else {
		json_array_foreach(values, i, v)
		{
			struct davit_plan_node *child = plan_node_copy(n->template);
			if (!child) {
				r = davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
				break;
			}
			child->value = json_incref(v);
			plan_node_add(n, child);
		}
	}
	json_decref(values);
	return r;
}
