/* SPDX-License-Identifier: MIT
 *
 * Reading a cell: one table of keys, each with the function that reads it.
 */
#include "source/cell.h"

#include "base/file.h"
#include "base/tree_read.h"
#include "base/units.h"
#include "base/util.h"
#include "source/vars.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_MAX_BYTES 65536

/* --- values --- */

static int read_text(struct davit_tree_reader *r, const struct davit_tree *t, const char **ret)
{
	DAVIT_AUTO_FREE char *unknown = NULL;

	if (t->kind != DAVIT_TREE_SCALAR || davit_tree_is_null(t))
		return davit_tree_bad(r, t, "a text is expected here");
	if (!davit_vars_known(t->text, &unknown))
		return davit_tree_bad(r, t, "there is no variable %.64s", unknown ? unknown : "of that name");
	*ret = t->text;
	return 0;
}

static int read_list(struct davit_tree_reader *r, const struct davit_tree *t, char ***ret)
{
	const struct davit_tree *item;
	char **v;
	size_t n = 0;

	if (t->kind != DAVIT_TREE_LIST || !t->n)
		return davit_tree_bad(r, t, "a list of texts is expected here");
	v = davit_region_take(r->region, (t->n + 1) * sizeof *v);
	if (!v)
		return davit_tree_no_memory(r);
	for (item = t->first; item; item = item->next) {
		const char *text;
		int e = read_text(r, item, &text);
		if (e < 0)
			return e;
		v[n++] = (char *)text;
	}
	v[n] = NULL;
	*ret = v;
	return 0;
}

static int read_pattern(struct davit_tree_reader *r, const struct davit_tree *t, const char **ret)
{
	int e = read_text(r, t, ret);

	if (e == 0 && !davit_pattern_known(*ret))
		return davit_tree_bad(
			r, t, "'%.64s': only elf:, script:, executable: and only: can be before a pattern",
			*ret);
	return e;
}

static int read_patterns(struct davit_tree_reader *r, const struct davit_tree *t, char ***ret)
{
	const struct davit_tree *item;
	const char *pattern;
	int e = read_list(r, t, ret);

	for (item = t->first; e == 0 && item; item = item->next)
		e = read_pattern(r, item, &pattern);
	return e;
}

static int read_env(struct davit_tree_reader *r, const struct davit_tree *t, char ***ret)
{
	const struct davit_tree *item;
	size_t n = 0;
	char **v;

	if (t->kind != DAVIT_TREE_MAP)
		return davit_tree_bad(r, t, "a map of names to values is expected here");
	v = davit_region_take(r->region, (t->n + 1) * sizeof *v);
	if (!v)
		return davit_tree_no_memory(r);
	for (item = t->first; item; item = item->next) {
		const char *text;
		size_t len;
		int e = read_text(r, item, &text);
		if (e < 0)
			return e;
		if (!*item->key || strchr(item->key, '='))
			return davit_tree_bad(r, item, "'%.64s' is not the name of a variable", item->key);
		len = strlen(item->key) + 1 + strlen(text) + 1;
		v[n] = davit_region_take(r->region, len);
		if (!v[n])
			return davit_tree_no_memory(r);
		snprintf(v[n++], len, "%s=%s", item->key, text);
	}
	v[n] = NULL;
	*ret = v;
	return 0;
}

/* --- maps with known keys --- */

static int key_text(struct davit_tree_reader *r, const struct davit_tree *t, void *to)
{
	return read_text(r, t, to);
}

static int key_list(struct davit_tree_reader *r, const struct davit_tree *t, void *to)
{
	return read_list(r, t, to);
}

static int key_pattern(struct davit_tree_reader *r, const struct davit_tree *t, void *to)
{
	return read_pattern(r, t, to);
}

static int key_patterns(struct davit_tree_reader *r, const struct davit_tree *t, void *to)
{
	return read_patterns(r, t, to);
}

static int key_env(struct davit_tree_reader *r, const struct davit_tree *t, void *to)
{
	return read_env(r, t, to);
}

static int key_priority(struct davit_tree_reader *r, const struct davit_tree *t, void *to)
{
	const char *text;
	int64_t v;
	int e = read_text(r, t, &text);

	if (e < 0)
		return e;
	if (davit_int_parse(text, 0, 1000, &v, NULL) < 0)
		return davit_tree_bad(r, t, "'%.64s' is not a priority: 0 to 1000", text);
	*(int *)to = (int)v;
	return 0;
}

static int read_dependency(struct davit_tree_reader *r, const struct davit_tree *t,
			   struct davit_cell_dependency *d)
{
	static const struct davit_tree_key keys[] = {
		{"package", key_text, offsetof(struct davit_cell_dependency, package)},
		{"when", key_pattern, offsetof(struct davit_cell_dependency, when)},
	};

	int e;

	*d = (struct davit_cell_dependency){.program = t->key};
	if (t->kind != DAVIT_TREE_MAP)
		return read_text(r, t, &d->package);
	e = davit_tree_read_keys(r, t, keys, DAVIT_ARRAY_SIZE(keys), d);
	return e < 0 || d->package ? e
				   : davit_tree_bad(r, t, "the dependency '%.64s' names no package", t->key);
}

static int key_dependencies(struct davit_tree_reader *r, const struct davit_tree *t, void *to)
{
	struct davit_cell *c = r->whole;

	(void)to;
	if (t->kind != DAVIT_TREE_MAP)
		return davit_tree_bad(r, t, "a map of programs to Debian packages is expected here");
	c->dependencies = davit_region_take(r->region, (t->n + 1) * sizeof *c->dependencies);
	if (!c->dependencies)
		return davit_tree_no_memory(r);
	for (const struct davit_tree *item = t->first; item; item = item->next) {
		int e = read_dependency(r, item, &c->dependencies[c->n_dependencies++]);
		if (e < 0)
			return e;
	}
	return 0;
}

static int read_step(struct davit_tree_reader *r, const struct davit_tree *t, struct davit_cell_step *s)
{
	static const struct davit_tree_key keys[] = {
		{"run", key_list, offsetof(struct davit_cell_step, argv)},
		{"when", key_pattern, offsetof(struct davit_cell_step, when)},
		{"unless", key_pattern, offsetof(struct davit_cell_step, unless)},
	};
	int e;

	*s = (struct davit_cell_step){0};
	if (t->kind != DAVIT_TREE_MAP)
		return read_list(r, t, &s->argv);
	e = davit_tree_read_keys(r, t, keys, DAVIT_ARRAY_SIZE(keys), s);
	return e < 0 || s->argv ? e : davit_tree_bad(r, t, "a step needs the key 'run'");
}

static int read_steps(struct davit_tree_reader *r, const struct davit_tree *t, struct davit_cell_step **ret,
		      size_t *ret_n)
{
	struct davit_cell_step *steps;
	size_t n = 0;

	if (t->kind != DAVIT_TREE_LIST || !t->n)
		return davit_tree_bad(r, t, "a list of commands is expected here");
	steps = davit_region_take(r->region, t->n * sizeof *steps);
	if (!steps)
		return davit_tree_no_memory(r);
	for (const struct davit_tree *item = t->first; item; item = item->next) {
		int e = read_step(r, item, &steps[n++]);
		if (e < 0)
			return e;
	}
	*ret = steps;
	*ret_n = n;
	return 0;
}

static int key_build(struct davit_tree_reader *r, const struct davit_tree *t, void *to)
{
	struct davit_cell *c = r->whole;

	(void)to;
	return read_steps(r, t, &c->build, &c->n_build);
}

static int key_versions(struct davit_tree_reader *r, const struct davit_tree *t, void *to)
{
	struct davit_cell *c = r->whole;

	(void)to;
	return read_steps(r, t, &c->versions, &c->n_versions);
}

static const struct davit_tree_key cell_keys[] = {
	{"name", key_text, offsetof(struct davit_cell, name)},
	{"description", key_text, offsetof(struct davit_cell, description)},
	{"detect", key_patterns, offsetof(struct davit_cell, detect)},
	{"priority", key_priority, offsetof(struct davit_cell, priority)},
	{"dependencies", key_dependencies, 0},
	{"versions", key_versions, 0},
	{"ignore", key_list, offsetof(struct davit_cell, ignore)},
	{"build", key_build, 0},
	{"buildEnv", key_env, offsetof(struct davit_cell, build_env)},
	{"program", key_patterns, offsetof(struct davit_cell, program)},
	{"run", key_list, offsetof(struct davit_cell, run)},
	{"dockerfile", key_patterns, offsetof(struct davit_cell, dockerfile)},
	{"directory", key_text, offsetof(struct davit_cell, cwd)},
	{"env", key_env, offsetof(struct davit_cell, env)},
	{"port", key_text, offsetof(struct davit_cell, port)},
	{"image", key_text, offsetof(struct davit_cell, image)},
};

/* --- the file --- */

static char *arena_text(struct davit_cell *c, const char *s, size_t n)
{
	char *copy = davit_region_take(&c->region, n + 1);

	if (copy) {
		memcpy(copy, s, n);
		copy[n] = '\0';
	}
	return copy;
}

static int check(struct davit_tree_reader *r, const struct davit_tree *doc)
{
	struct davit_cell *c = r->whole;
	const char *slash = strrchr(c->file, '/'), *base = slash ? slash + 1 : c->file;
	size_t n = strlen(base) - strlen(".yaml");

	if (!c->name)
		return davit_tree_bad(r, doc, "the key 'name' is missing");
	if (strlen(c->name) != n || memcmp(c->name, base, n))
		return davit_tree_bad(r, doc, "the name '%.64s' is not that of the file, '%.*s'", c->name,
				      (int)n, base);
	if (c->dockerfile && (c->run || c->n_build || c->build_env || c->program || c->cwd || c->image))
		return davit_tree_bad(
			r, doc,
			"a cell with 'dockerfile' makes an image: it has no 'build', 'buildEnv', 'program', "
			"'run', 'directory' or 'image'");
	if (!c->run && !c->n_build && !c->dockerfile)
		return davit_tree_bad(
			r, doc, "a cell needs 'run', a 'build' that says what to run, or a 'dockerfile'");
	return 0;
}

static int read_document(struct davit_tree_reader *r, const struct davit_buf *text)
{
	struct davit_tree_source s;
	struct davit_tree *doc = NULL, *more;
	int e = davit_tree_open(&s, text->data, text->len, r->err);

	if (e < 0)
		return e;
	e = davit_tree_next(&s, r->region, &doc, r->err);
	if (e == 0)
		e = davit_tree_error(r->err, 1, 1, NULL, "the file is empty");
	else if (e > 0 && doc->kind != DAVIT_TREE_MAP)
		e = davit_tree_bad(r, doc, "a cell is a map of keys");
	else if (e > 0)
		e = davit_tree_read_keys(r, doc, cell_keys, DAVIT_ARRAY_SIZE(cell_keys), r->whole);
	if (e == 0)
		e = check(r, doc);
	if (e == 0) {
		e = davit_tree_next(&s, r->region, &more, r->err);
		if (e > 0)
			e = davit_tree_bad(r, more, "one file holds one cell");
	}
	davit_tree_close(&s);
	return e;
}

/* The file and the files beside it that its commands use. */
static int hash(struct davit_cell *c, const struct davit_buf *text, struct davit_error *err)
{
	struct davit_snapshot helpers = {.hash = "-"};
	int r = 0;

	if (access(c->directory, F_OK) == 0)
		r = davit_snapshot_take(c->directory, NULL, NULL, FILE_MAX_BYTES * 16, &helpers, err);
	if (r == 0)
		davit_hash_strings(c->hash, davit_buf_str(text), helpers.hash, NULL);
	return r;
}

int davit_cell_read(const char *file, struct davit_cell **ret, struct davit_error *err)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	struct davit_error local;
	struct davit_tree_reader r = {.err = err ? err : &local};
	struct davit_cell *c;
	int e = davit_read_file(file, FILE_MAX_BYTES, &text, err);

	if (e < 0)
		return e;
	c = calloc(1, sizeof *c);
	if (!c)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	r.region = &c->region;
	r.whole = c;
	c->priority = 50;
	c->file = arena_text(c, file, strlen(file));
	c->directory = arena_text(c, file, strlen(file) - strlen(".yaml"));
	if (!c->file || !c->directory)
		e = davit_tree_no_memory(&r);
	davit_buf_adds(&text, "");
	if (e == 0)
		e = read_document(&r, &text);
	if (e < 0)
		davit_error_prefix(r.err, r.err->line ? "%s:%u:%u" : "%s", file, r.err->line, r.err->column);
	if (e == 0)
		e = hash(c, &text, r.err);
	if (e < 0) {
		davit_cell_free(c);
		return e;
	}
	c->uses_name = strstr(text.data, "${NAME}");
	*ret = c;
	return 0;
}

void davit_cell_free(struct davit_cell *c)
{
	if (c)
		davit_region_fini(&c->region);
	free(c);
}
