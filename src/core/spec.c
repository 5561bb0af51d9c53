/* SPDX-License-Identifier: MIT */
#include "davit/spec.h"

#include "core/spec_record.h"
#include "core/spec_table.h"

#include <string.h>

void davit_spec_free(struct davit_spec *s)
{
	free(s);
}

void davit_spec_free_all(struct davit_spec **specs, size_t n)
{
	for (size_t i = 0; specs && i < n; i++)
		davit_spec_free(specs[i]);
	free(specs);
}

struct davit_spec *davit_spec_dup(const struct davit_spec *s)
{
	return davit_spec_pack(s);
}

/* The item of a list that gives the name that path begins with: "NAME=value" or
 * {name: NAME}, as in a list of variables. */
static const struct davit_tree *find_named(const struct davit_tree *list, const char *path)
{
	for (const struct davit_tree *e = list->first; e; e = e->next) {
		const char *name = e->kind == DAVIT_TREE_SCALAR ? e->text : "";
		size_t n;

		for (const struct davit_tree *k = e->kind == DAVIT_TREE_MAP ? e->first : NULL; k; k = k->next)
			if (k->kind == DAVIT_TREE_SCALAR && !strcmp(k->key, "name"))
				name = k->text;
		n = e->kind == DAVIT_TREE_SCALAR ? strcspn(name, "=") : strlen(name);
		if (n && !strncmp(name, path, n) && !path[n])
			return e;
	}
	return NULL;
}

/* The node that `path` names, or the last one on the way to it: a refusal that
 * came from a check of the whole then still has its place in the text. */
static const struct davit_tree *find(const struct davit_tree *t, const char *path)
{
	while (*path) {
		const struct davit_tree *found = NULL;
		size_t used = 0;

		if (t->kind == DAVIT_TREE_LIST && *path == '[' && strchr(path, ']')) {
			unsigned long i = strtoul(path + 1, NULL, 10);
			for (found = t->first; found && i; i--)
				found = found->next;
			used = strcspn(path, "]") + 1;
		} else if (t->kind == DAVIT_TREE_LIST) {
			found = find_named(t, path);
			used = strlen(path);
		} else if (t->kind == DAVIT_TREE_MAP) {
			/* keys may have dots in them: the longest that fits */
			for (const struct davit_tree *e = t->first; e; e = e->next) {
				size_t n = strlen(e->key);
				if (n > used && !strncmp(path, e->key, n) &&
				    (!path[n] || strchr(".[", path[n]))) {
					found = e;
					used = n;
				}
			}
		}
		if (!found)
			break;
		t = found;
		path += used;
		path += *path == '.';
	}
	return t;
}

static int read_one(struct davit_region *region, const struct davit_tree *t, struct davit_spec **ret,
		    struct davit_error *err)
{
	struct davit_spec s = *davit_spec_defaults(), *packed;
	const struct davit_tree *at;
	int r = davit_spec_read(region, t, &s, err);

	if (r)
		return r;
	r = davit_spec_check(&s, err);
	if (r == DAVIT_EINVAL) {
		at = find(t, err->where);
		err->line = at->line;
		err->column = at->column;
	}
	if (r)
		return r;
	packed = davit_spec_pack(&s);
	if (!packed)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	*ret = packed;
	return 0;
}

/* --- records --- */

static const struct davit_tree *member(const struct davit_tree *t, const char *key)
{
	for (const struct davit_tree *e = t->kind == DAVIT_TREE_MAP ? t->first : NULL; e; e = e->next)
		if (!strcmp(e->key, key))
			return e;
	return NULL;
}

static int64_t number(const struct davit_tree *t, const char *key)
{
	const struct davit_tree *e = member(t, key);

	return e && e->kind == DAVIT_TREE_SCALAR && !e->quoted ? strtoll(e->text, NULL, 10) : 0;
}

static int read_record(struct davit_region *region, const char *text, size_t len,
		       struct davit_spec_record *ret, struct davit_error *err)
{
	struct davit_tree_source source;
	const struct davit_tree *spec;
	struct davit_tree *t;
	int r = davit_tree_open(&source, text, len, err);

	if (r < 0)
		return r;
	r = davit_tree_next(&source, region, &t, err);
	davit_tree_close(&source);
	if (r < 0)
		return r;
	spec = r ? member(t, "spec") : NULL;
	if (!spec)
		return davit_error_set(err, DAVIT_EINVAL, NULL, "it has no spec");
	*ret = (struct davit_spec_record){
		.created = number(t, "created"),
		.updated = number(t, "updated"),
		.nonce = number(t, "nonce"),
	};
	return read_one(region, spec, &ret->spec, err);
}

int davit_spec_read_record(const char *text, size_t len, struct davit_spec_record *ret,
			   struct davit_error *err)
{
	struct davit_region region = {0};
	int r = read_record(&region, text, len, ret, err);

	davit_region_fini(&region);
	return r;
}

/* --- texts --- */

struct specs {
	struct davit_spec **v;
	size_t n, cap;
};

static int add(struct specs *specs, const struct davit_tree *t, struct davit_spec *s, struct davit_error *err)
{
	if (specs->n >= DAVIT_SPEC_COUNT_MAX) {
		davit_spec_free(s);
		return davit_tree_error(err, t->line, t->column, NULL, "more than %d specs",
					DAVIT_SPEC_COUNT_MAX);
	}
	if (specs->n == specs->cap) {
		size_t cap = specs->cap ? specs->cap * 2 : 1;
		struct davit_spec **v = realloc(specs->v, cap * sizeof *v);
		if (!v) {
			davit_spec_free(s);
			return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
		}
		specs->v = v;
		specs->cap = cap;
	}
	specs->v[specs->n++] = s;
	return 0;
}

static int read_all(const char *text, size_t len, struct specs *specs, struct davit_error *err)
{
	struct davit_region region = {0};
	struct davit_tree_source source;
	struct davit_spec *s = NULL;
	struct davit_tree *t;
	int r;

	if (len > DAVIT_SPEC_TEXT_MAX)
		return davit_error_set(err, DAVIT_EINVAL, NULL, "the text is larger than %d MiB",
				       DAVIT_SPEC_TEXT_MAX >> 20);
	r = davit_tree_open(&source, text, len, err);
	while (!r) {
		r = davit_tree_next(&source, &region, &t, err);
		if (r <= 0)
			break;
		r = read_one(&region, t, &s, err);
		if (!r) {
			s->line = t->line;
			s->column = t->column;
			r = add(specs, t, s, err);
		}
		davit_region_fini(&region);
	}
	if (!r && !specs->n)
		r = davit_tree_error(err, 1, 1, NULL, "there is no spec in the text");
	davit_tree_close(&source);
	davit_region_fini(&region);
	return r;
}

void davit_spec_locate(const char *text, size_t len, struct davit_error *err)
{
	struct davit_region region = {0};
	struct davit_tree_source source;
	const struct davit_tree *at;
	struct davit_tree *t;

	if (!err->line || davit_tree_open(&source, text, len, NULL) < 0)
		return;
	while (davit_tree_next(&source, &region, &t, NULL) > 0) {
		bool here = t->line == err->line && t->column == err->column;
		at = here ? find(t, err->where) : NULL;
		if (at) {
			err->line = at->line;
			err->column = at->column;
		}
		davit_region_fini(&region);
		if (here)
			break;
	}
	davit_tree_close(&source);
	davit_region_fini(&region);
}

int davit_spec_parse(const char *text, size_t len, const char *file, struct davit_spec ***ret_specs,
		     size_t *ret_n, struct davit_error *err)
{
	struct specs specs = {0};
	struct davit_error e;
	int r;

	davit_error_clear(&e);
	r = read_all(text, len, &specs, &e);
	if (r) {
		davit_spec_free_all(specs.v, specs.n);
		if (file && e.line)
			davit_error_prefix(&e, "%.200s:%u:%u", file, e.line, e.column);
		else if (file)
			davit_error_prefix(&e, "%.200s", file);
		davit_error_copy(err, &e);
		return r;
	}
	*ret_specs = specs.v;
	*ret_n = specs.n;
	return 0;
}

int davit_spec_parse_one(const char *text, size_t len, const char *file, struct davit_spec **ret,
			 struct davit_error *err)
{
	struct davit_spec **specs;
	size_t n;
	int r = davit_spec_parse(text, len, file, &specs, &n, err);

	if (r)
		return r;
	if (n != 1) {
		davit_spec_free_all(specs, n);
		return davit_error_set(err, DAVIT_EINVAL, NULL, "%s%sexpected one spec, found %zu",
				       file ? file : "", file ? ": " : "", n);
	}
	*ret = specs[0];
	free(specs);
	return 0;
}
