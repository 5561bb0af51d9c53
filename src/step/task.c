/* SPDX-License-Identifier: MIT
 *
 * Reading a task file: tables of keys, each with the function that reads it.
 */
#include "davit/task.h"

#include "base/file.h"
#include "base/json.h"
#include "base/nearest.h"
#include "base/tree_read.h"
#include "base/units.h"
#include "base/util.h"
#include "step/pipeline_impl.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FILE_MAX_BYTES (1 << 20)

struct task {
	struct davit_task public; /* first */
	struct davit_region region;
};

static int no_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

/* ----------------------------------------------------------------------------- values */

static int read_text(struct davit_tree_reader *r, const struct davit_tree *t, void *to)
{
	if (t->kind != DAVIT_TREE_SCALAR || davit_tree_is_null(t) || !*t->text)
		return davit_tree_bad(r, t, "a text is expected here");
	*(const char **)to = t->text;
	return 0;
}

static int read_bool(struct davit_tree_reader *r, const struct davit_tree *t, void *to)
{
	bool yes = t->kind == DAVIT_TREE_SCALAR && !strcmp(t->text, "true");

	if (t->kind != DAVIT_TREE_SCALAR || (!yes && strcmp(t->text, "false") != 0))
		return davit_tree_bad(r, t, "true or false is expected here");
	*(bool *)to = yes;
	return 0;
}

static int read_words(struct davit_tree_reader *r, const struct davit_tree *t, void *to)
{
	const struct davit_tree *item;
	char **v;
	size_t n = 0;

	if (t->kind != DAVIT_TREE_LIST)
		return davit_tree_bad(r, t, "a list of texts is expected here");
	v = davit_region_take(r->region, (t->n + 1) * sizeof *v);
	if (!v)
		return davit_tree_no_memory(r);
	for (item = t->first; item; item = item->next) {
		if (item->kind != DAVIT_TREE_SCALAR)
			return davit_tree_bad(r, item, "a text is expected here");
		v[n++] = (char *)item->text;
	}
	v[n] = NULL;
	*(char *const **)to = v;
	return 0;
}

/* ------------------------------------------------------------------------------- JSON */

/* Is it a number as JSON writes it? */
static bool is_number(const char *s)
{
	char *end;

	s += *s == '-';
	if (!isdigit((unsigned char)*s) || (*s == '0' && isdigit((unsigned char)s[1])))
		return false;
	if (strspn(s, "0123456789.eE+-") != strlen(s))
		return false;
	strtod(s, &end);
	return !*end && end[-1] != '.';
}

static void write_json(struct davit_json *j, const struct davit_tree *t)
{
	if (t->kind == DAVIT_TREE_SCALAR) {
		if (davit_tree_is_null(t))
			davit_json_null(j);
		else if (!t->quoted &&
			 (is_number(t->text) || !strcmp(t->text, "true") || !strcmp(t->text, "false")))
			davit_json_raw(j, t->text);
		else
			davit_json_string(j, t->text);
		return;
	}
	if (t->kind == DAVIT_TREE_MAP)
		davit_json_open(j);
	else
		davit_json_open_array(j);
	for (const struct davit_tree *c = t->first; c; c = c->next) {
		if (t->kind == DAVIT_TREE_MAP)
			davit_json_key(j, c->key);
		write_json(j, c);
	}
	if (t->kind == DAVIT_TREE_MAP)
		davit_json_close(j);
	else
		davit_json_close_array(j);
}

static int read_json(struct davit_tree_reader *r, const struct davit_tree *t, void *to)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);
	char *text;

	write_json(&j, t);
	text = b.oom ? NULL : davit_region_strdup(r->region, davit_buf_str(&b));
	if (!text)
		return davit_tree_no_memory(r);
	*(const char **)to = text;
	return 0;
}

/* A param's value: a text as it is, nothing for null, anything with structure as JSON. */
static int read_param_value(struct davit_tree_reader *r, const struct davit_tree *t, const char **ret)
{
	if (t->kind != DAVIT_TREE_SCALAR)
		return read_json(r, t, ret);
	*ret = davit_tree_is_null(t) ? "" : t->text;
	return 0;
}

static int read_params(struct davit_tree_reader *r, const struct davit_tree *t, void *to)
{
	struct davit_task *task = r->whole;

	if (t->kind != DAVIT_TREE_MAP)
		return davit_tree_bad(r, t, "a map of names to values is expected here");
	task->params = davit_region_take(r->region, (t->n + 1) * sizeof *task->params);
	if (!task->params)
		return davit_tree_no_memory(r);
	for (const struct davit_tree *c = t->first; c; c = c->next) {
		struct davit_task_param *p = &task->params[task->n_params];
		int e;

		if (!*c->key || strchr(c->key, '='))
			return davit_tree_bad(r, c, "'%.64s' cannot be the name of a variable", c->key);
		p->name = c->key;
		p->given = !davit_tree_is_null(c);
		e = read_param_value(r, c, &p->value);
		if (e < 0)
			return e;
		task->n_params++;
	}
	return 0;
}

/* ------------------------------------------------------------------- inputs and outputs */

static const struct davit_tree_key input_keys[] = {
	{"name", read_text, offsetof(struct davit_task_path, name)},
	{"path", read_text, offsetof(struct davit_task_path, path)},
	{"optional", read_bool, offsetof(struct davit_task_path, optional)},
};
static const struct davit_tree_key output_keys[] = {
	{"name", read_text, offsetof(struct davit_task_path, name)},
	{"path", read_text, offsetof(struct davit_task_path, path)},
};
static const struct davit_tree_key cache_keys[] = {
	{"path", read_text, offsetof(struct davit_task_path, path)},
};

static int check_path(struct davit_tree_reader *r, const struct davit_tree *item,
		      const struct davit_task_path *p, bool named)
{
	if (named && (!p->name || strchr(p->name, '/')))
		return davit_tree_bad(r, item, p->name ? "'%.64s': a name has no slash" : "it has no name",
				      p->name);
	if (!named && !p->path)
		return davit_tree_bad(r, item, "it has no path");
	for (const char *s = p->path ? p->path : ""; (s = strstr(s, "..")); s += 2)
		if ((s == p->path || s[-1] == '/') && (!s[2] || s[2] == '/'))
			return davit_tree_bad(r, item, "a path may not have '..' in it");
	return 0;
}

static int read_paths(struct davit_tree_reader *r, const struct davit_tree *t,
		      const struct davit_tree_key *keys, size_t n_keys, struct davit_task_path **ret,
		      size_t *ret_n)
{
	const struct davit_tree *item;
	struct davit_task_path *v;
	size_t n = 0;

	if (t->kind != DAVIT_TREE_LIST)
		return davit_tree_bad(r, t, "a list is expected here");
	v = davit_region_take(r->region, (t->n + 1) * sizeof *v);
	if (!v)
		return davit_tree_no_memory(r);
	for (item = t->first; item; item = item->next, n++) {
		bool named = keys != cache_keys;
		int e;

		v[n] = (struct davit_task_path){0};
		e = davit_tree_read_keys(r, item, keys, n_keys, &v[n]);
		if (e == 0)
			e = check_path(r, item, &v[n], named);
		if (e < 0)
			return e;
		for (size_t i = 0; named && i < n; i++)
			if (!strcmp(v[i].name, v[n].name))
				return davit_tree_bad(r, item, "'%.64s' is there twice", v[n].name);
		if (!v[n].path)
			v[n].path = v[n].name;
	}
	*ret = v;
	*ret_n = n;
	return 0;
}

static int read_inputs(struct davit_tree_reader *r, const struct davit_tree *t, void *to)
{
	struct davit_task *task = r->whole;

	return read_paths(r, t, input_keys, DAVIT_ARRAY_SIZE(input_keys), &task->inputs, &task->n_inputs);
}

static int read_outputs(struct davit_tree_reader *r, const struct davit_tree *t, void *to)
{
	struct davit_task *task = r->whole;

	return read_paths(r, t, output_keys, DAVIT_ARRAY_SIZE(output_keys), &task->outputs, &task->n_outputs);
}

static int read_caches(struct davit_tree_reader *r, const struct davit_tree *t, void *to)
{
	struct davit_task *task = r->whole;

	return read_paths(r, t, cache_keys, DAVIT_ARRAY_SIZE(cache_keys), &task->caches, &task->n_caches);
}

/* ------------------------------------------------------------------------------- limits */

/* "1", "64K", "64KB", "64KiB", "1.5g": each unit is 1024 times the one before. */
static bool parse_memory(const char *s, uint64_t *ret)
{
	static const char units[] = "kmgt";
	char *end;
	double v = isdigit((unsigned char)*s) ? strtod(s, &end) : -1;
	const char *unit;

	if (v < 0 || strspn(s, "0123456789.") != (size_t)(end - s))
		return false;
	unit = *end ? strchr(units, tolower((unsigned char)*end)) : NULL;
	if (unit) {
		for (const char *u = units; u <= unit; u++)
			v *= 1024;
		end++;
		end += *end == 'i' && (end[1] == 'b' || end[1] == 'B');
	}
	end += *end == 'b' || *end == 'B';
	if (*end || v >= (double)(UINT64_C(1) << 62))
		return false;
	*ret = (uint64_t)v;
	return true;
}

static int read_memory(struct davit_tree_reader *r, const struct davit_tree *t, void *to)
{
	if (t->kind != DAVIT_TREE_SCALAR || !parse_memory(t->text, to))
		return davit_tree_bad(r, t, "a size is expected here, like 512MB or 1g");
	return 0;
}

static int read_cpu(struct davit_tree_reader *r, const struct davit_tree *t, void *to)
{
	int64_t v = 0;

	if (t->kind != DAVIT_TREE_SCALAR ||
	    (strcmp(t->text, "0") != 0 && davit_cpu_parse(t->text, &v, NULL) < 0))
		return davit_tree_bad(r, t, "a number of processors is expected here, like 2, 0.5 or 500m");
	*(int64_t *)to = v;
	return 0;
}

static int read_pids(struct davit_tree_reader *r, const struct davit_tree *t, void *to)
{
	int64_t v;

	if (t->kind != DAVIT_TREE_SCALAR || davit_int_parse(t->text, 0, 1 << 22, &v, NULL) < 0)
		return davit_tree_bad(r, t, "a number of processes is expected here");
	*(uint32_t *)to = (uint32_t)v;
	return 0;
}

#define AT(member) offsetof(struct davit_task, member)

static const struct davit_tree_key limit_keys[] = {
	{"cpu", read_cpu, AT(cpu_millicores)},
	{"memory", read_memory, AT(memory)},
	{"pids", read_pids, AT(pids)},
};
static const struct davit_tree_key run_keys[] = {
	{"path", read_text, AT(run_path)},
	{"args", read_words, AT(run_args)},
	{"dir", read_text, AT(run_dir)},
	{"user", read_text, AT(run_user)},
};
static const struct davit_tree_key image_keys[] = {
	{"type", read_text, AT(image_type)},
	{"source", read_json, AT(image_source)},
};

static int read_limits(struct davit_tree_reader *r, const struct davit_tree *t, void *to)
{
	return davit_tree_read_keys(r, t, limit_keys, DAVIT_ARRAY_SIZE(limit_keys), r->whole);
}

static int read_run(struct davit_tree_reader *r, const struct davit_tree *t, void *to)
{
	return davit_tree_read_keys(r, t, run_keys, DAVIT_ARRAY_SIZE(run_keys), r->whole);
}

struct source {
	const char *repository, *tag;
};

static const struct davit_tree_key source_keys[] = {
	{"repository", read_text, offsetof(struct source, repository)},
	{"tag", read_text, offsetof(struct source, tag)},
};

/* Who may fetch it from where is the business of what fetches: a task file has no passwords. */
static int read_image(struct davit_tree_reader *r, const struct davit_tree *t, void *to)
{
	struct davit_task *task = r->whole;
	struct source s = {.tag = "latest"};
	const struct davit_tree *source;
	char *name;
	int e = davit_tree_read_keys(r, t, image_keys, DAVIT_ARRAY_SIZE(image_keys), task);

	if (e < 0)
		return e;
	if (!task->image_type)
		return davit_tree_bad(r, t, "an image_resource needs a type");
	if (strcmp(task->image_type, "registry-image") != 0 && strcmp(task->image_type, "docker-image") != 0)
		return 0;
	for (source = t->first; source && strcmp(source->key, "source") != 0; source = source->next)
		;
	if (source)
		e = davit_tree_read_keys(r, source, source_keys, DAVIT_ARRAY_SIZE(source_keys), &s);
	if (e == 0 && !s.repository)
		return davit_tree_bad(r, t, "the source of an image needs a repository");
	if (e < 0)
		return e;
	name = davit_region_take(r->region, strlen(s.repository) + strlen(s.tag) + 2);
	if (!name)
		return davit_tree_no_memory(r);
	sprintf(name, "%s:%s", s.repository, s.tag);
	task->image = name;
	return 0;
}

static int read_platform(struct davit_tree_reader *r, const struct davit_tree *t, void *to)
{
	int e = read_text(r, t, to);

	if (e == 0 && strcmp(t->text, "linux") != 0)
		return davit_tree_bad(r, t, "the platform here is linux, and not '%.64s'", t->text);
	return e;
}

static const struct davit_tree_key task_keys[] = {
	{"platform", read_platform, AT(platform)},
	{"image_resource", read_image, 0},
	{"rootfs_uri", read_text, AT(rootfs)},
	{"params", read_params, 0},
	{"inputs", read_inputs, 0},
	{"outputs", read_outputs, 0},
	{"caches", read_caches, 0},
	{"run", read_run, 0},
	{"container_limits", read_limits, 0},
};

/* ------------------------------------------------------------------------------ the file */

static int check(struct davit_tree_reader *r, const struct davit_tree *t)
{
	static char *const none[] = {NULL};
	struct davit_task *task = r->whole;

	if (!task->run_path)
		return davit_tree_bad(r, t, "the task says nothing to run: run: {path: PROGRAM} is missing");
	if (task->image_type && task->rootfs)
		return davit_tree_bad(r, t, "image_resource and rootfs_uri cannot both be given");
	if (!task->run_args)
		task->run_args = none;
	if (!task->platform)
		task->platform = "linux";
	return 0;
}

/* A value that is filled in later is of no type yet. */
static bool has_vars(const struct davit_tree *t)
{
	if (t->kind == DAVIT_TREE_SCALAR)
		return t->text && strstr(t->text, "((");
	for (const struct davit_tree *c = t->first; c; c = c->next)
		if (has_vars(c))
			return true;
	return false;
}

int davit_task_check(const struct davit_tree *t, struct davit_error *err)
{
	struct davit_tree_reader r;
	struct task *task;
	int e;

	if (has_vars(t))
		return 0;
	task = calloc(1, sizeof *task);
	if (!task)
		return no_memory(err);
	r = (struct davit_tree_reader){&task->region, err, &task->public};
	e = davit_tree_read_keys(&r, t, task_keys, DAVIT_ARRAY_SIZE(task_keys), &task->public);
	if (e == 0)
		e = check(&r, t);
	davit_task_free(&task->public);
	return e;
}

int davit_task_parse(const char *text, size_t len, struct davit_task **ret, struct davit_error *err)
{
	struct task *task = calloc(1, sizeof *task);
	struct davit_tree_reader r;
	struct davit_tree_source source;
	struct davit_tree *t, *more;
	int e;

	if (!task)
		return no_memory(err);
	r = (struct davit_tree_reader){&task->region, err, &task->public};
	e = davit_tree_open(&source, text, len, err);
	if (e < 0) {
		davit_task_free(&task->public);
		return e;
	}
	e = davit_tree_next(&source, &task->region, &t, err);
	if (e == 0)
		e = davit_error_set(err, DAVIT_EINVAL, NULL, "there is no task in it");
	if (e > 0)
		e = davit_tree_read_keys(&r, t, task_keys, DAVIT_ARRAY_SIZE(task_keys), &task->public);
	if (e == 0)
		e = check(&r, t);
	if (e == 0 && davit_tree_next(&source, &task->region, &more, err) > 0)
		e = davit_tree_bad(&r, more, "there is more than one task in it");
	davit_tree_close(&source);
	if (e < 0) {
		davit_task_free(&task->public);
		return e;
	}
	*ret = &task->public;
	return 0;
}

int davit_task_load(const char *path, struct davit_task **ret, struct davit_error *err)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	int r = davit_read_file(path, FILE_MAX_BYTES, &text, err);

	if (r < 0)
		return r;
	r = davit_task_parse(davit_buf_str(&text), text.len, ret, err);
	if (r < 0 && err && err->line)
		davit_error_prefix(err, "%s:%u:%u", path, err->line, err->column);
	else if (r < 0)
		davit_error_prefix(err, "%s", path);
	return r;
}

void davit_task_free(struct davit_task *t)
{
	struct task *task = (struct task *)t;

	if (!t)
		return;
	davit_region_fini(&task->region);
	free(task);
}

int davit_task_set_param(struct davit_task *t, const char *name, const char *value, struct davit_error *err)
{
	struct task *task = (struct task *)t;
	const char *names[64], *near;
	size_t n = t->n_params < DAVIT_ARRAY_SIZE(names) ? t->n_params : DAVIT_ARRAY_SIZE(names);

	for (size_t i = 0; i < t->n_params; i++)
		if (!strcmp(t->params[i].name, name)) {
			t->params[i].value = davit_region_strdup(&task->region, value);
			t->params[i].given = true;
			return t->params[i].value ? 0 : no_memory(err);
		}
	for (size_t i = 0; i < n; i++)
		names[i] = t->params[i].name;
	near = davit_nearest(name, names, n);
	return davit_error_set(err, DAVIT_EINVAL, name,
			       near ? "the task has no param '%.64s'; did you mean '%s'?"
				    : "the task has no param '%.64s'",
			       name, near);
}

static bool among(const char *name, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(name, names[i]))
			return true;
	return false;
}

int davit_task_check_inputs(const struct davit_task *t, const char *const *names, size_t n,
			    struct davit_error *err)
{
	DAVIT_AUTO_BUF missing = DAVIT_BUF_INIT;
	const char *known[64], *near;
	size_t n_known = 0;

	for (size_t i = 0; i < t->n_inputs; i++) {
		if (n_known < DAVIT_ARRAY_SIZE(known))
			known[n_known++] = t->inputs[i].name;
		if (!t->inputs[i].optional && !among(t->inputs[i].name, names, n))
			davit_buf_addf(&missing, "%s%s", missing.len ? ", " : "", t->inputs[i].name);
	}
	for (size_t i = 0; i < n; i++) {
		bool found = false;
		for (size_t k = 0; k < t->n_inputs; k++)
			found |= !strcmp(t->inputs[k].name, names[i]);
		if (found)
			continue;
		near = davit_nearest(names[i], known, n_known);
		return davit_error_set(err, DAVIT_EINVAL, "inputs",
				       near ? "the task has no input '%.64s'; did you mean '%s'?"
					    : "the task has no input '%.64s'",
				       names[i], near);
	}
	if (missing.oom)
		return no_memory(err);
	return missing.len ? davit_error_set(err, DAVIT_EINVAL, "inputs", "missing inputs: %s",
					     davit_buf_str(&missing))
			   : 0;
}
