/* SPDX-License-Identifier: MIT */
#include "source/build.h"

#include "base/fault.h"
#include "base/file.h"
#include "base/strv.h"
#include "base/units.h"
#include "source/build_impl.h"
#include "source/run.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* --- the cell --- */

static void report_broken(const char *name, const struct davit_error *why)
{
	printf("the cell %s is left out: %s\n", name, why->message);
}

static int load_cells(struct build *b)
{
	const char *const dirs[] = {b->request->config, b->request->share};
	int r = 0;

	for (size_t i = 0; r == 0 && i < DAVIT_ARRAY_SIZE(dirs); i++) {
		DAVIT_AUTO_FREE char *dir = davit_path_join(dirs[i], "cells");
		r = dir ? davit_cells_load(&b->cells, dir, report_broken, b->err) : build_no_memory(b);
	}
	return r;
}

/* Detection looks at a directory; a file that stands alone is put into one. */
static int detection_root(struct build *b, char **ret)
{
	DAVIT_AUTO_FREE char *dir = NULL;
	struct davit_snapshot ignored;
	struct stat st;
	int r;

	if (stat(b->located.path, &st) < 0 || S_ISDIR(st.st_mode)) {
		*ret = strdup(b->located.path);
		return *ret ? 0 : build_no_memory(b);
	}
	dir = davit_path_join(b->scratch, "single");
	if (!dir)
		return build_no_memory(b);
	r = davit_mkdirs(b->scratch, 0755, b->err);
	if (r == 0)
		r = davit_snapshot_take(b->located.path, dir, NULL, b->cache.max, &ignored, b->err);
	if (r == 0)
		*ret = DAVIT_TAKE(dir);
	return r;
}

static int choose_cell(struct build *b)
{
	DAVIT_AUTO_FREE char *root = NULL;
	const char *found;
	int r = detection_root(b, &root);

	if (r == 0)
		r = davit_cells_detect(&b->cells,
				       &(struct davit_cell_wish){.root = root,
								 .type = b->request->type,
								 .name = b->request->name,
								 .no_images = b->request->no_images},
				       &b->cell, &found, b->err);
	if (r < 0)
		return r;
	printf("cell %s%s%s%s\n", b->cell->name, found ? " (found " : "", found ? found : "",
	       found ? ")" : "");
	b->vars.source = root;
	for (size_t i = 0; r == 0 && i < b->cell->n_dependencies; i++) {
		const struct davit_cell_dependency *d = &b->cell->dependencies[i];
		DAVIT_AUTO_FREE char *file = davit_run_find(d->program, b->env);
		int needed = d->when ? davit_pattern_matches(&b->vars, d->when, b->err) : 1;
		if (needed < 0)
			r = needed;
		else if (needed && !file)
			r = davit_error_set(b->err, DAVIT_EBUILD, "source",
					    "cell %s needs '%s': apt-get install %s", b->cell->name,
					    d->program, d->package);
	}
	b->vars.source = NULL;
	return r;
}

/* What was given wins over what the cell proposes. */
static int make_env(struct build *b)
{
	char **const sets[] = {b->cell->env, b->cell->build_env};
	int r = 0;

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(sets); i++) {
		DAVIT_AUTO_STRV values = NULL;
		r = davit_vars_expand_all(&b->vars, sets[i], &values, b->err);
		if (r < 0)
			return r;
		for (char **e = values; e && *e; e++) {
			DAVIT_AUTO_FREE char *name = strndup(*e, strcspn(*e, "="));
			if (!name || (!davit_strv_getenv(b->env, name) &&
				      davit_strv_setenv(&b->env, name, *e + strlen(name) + 1) < 0))
				return build_no_memory(b);
		}
	}
	return davit_strv_setenv(&b->env, "TMPDIR", b->tmp) < 0 ? build_no_memory(b) : 0;
}

/* --- commands --- */

/* "go build" for go build -o x . */
static char *label_of(char *const *argv)
{
	const char *slash = strrchr(argv[0], '/'), *word = argv[1];
	char *label;

	for (const char *p = word; p && *p; p++)
		if (!islower((unsigned char)*p))
			word = NULL;
	return asprintf(&label, "%s%s%s", slash ? slash + 1 : argv[0], word ? " " : "", word ? word : "") < 0
		       ? NULL
		       : label;
}

/* Whether the step's conditions hold: 1, 0, or a code. */
static int wanted(struct build *b, const struct davit_cell_step *s)
{
	int r = s->when ? davit_pattern_matches(&b->vars, s->when, b->err) : 1;

	if (r > 0 && s->unless) {
		r = davit_pattern_matches(&b->vars, s->unless, b->err);
		r = r < 0 ? r : !r;
	}
	return r;
}

static int run_step(struct build *b, const struct davit_cell_step *s, struct davit_buf *out)
{
	DAVIT_AUTO_STRV argv = NULL;
	DAVIT_AUTO_FREE char *label = NULL;
	struct davit_run run = {
		.env = b->env, .directory = b->vars.source, .out = out, .deadline = b->deadline};
	char limit[DAVIT_TIME_MAX];
	int status, r = davit_vars_expand_all(&b->vars, s->argv, &argv, b->err);

	if (r < 0)
		return r;
	label = label_of(argv);
	if (!label)
		return build_no_memory(b);
	if (!out) {
		printf("+");
		for (char **w = argv; *w; w++)
			printf(" %s", *w);
		printf("\n");
	}
	run.argv = argv;
	r = davit_run(&run, &status, b->err);
	if (r == DAVIT_ETIMEDOUT)
		return davit_error_set(b->err, DAVIT_ETIMEDOUT, "source",
				       "the build did not end within %s: %s was stopped",
				       davit_duration_format(b->request->timeout, limit), label);
	if (r == 0)
		r = davit_run_check(status, DAVIT_EBUILD, label, b->err);
	if (r == DAVIT_EBUILD && b->err) {
		size_t n = strlen(b->err->message);
		snprintf(b->err->message + n, sizeof b->err->message - n, "; see davit logs --build %s",
			 b->request->name);
	}
	return r;
}

/* --- the key --- */

/* What the result depends on: another one is another build. */
static int make_key(struct build *b)
{
	DAVIT_AUTO_BUF versions = DAVIT_BUF_INIT;
	int r = 0;

	if (b->cell->dockerfile)
		return build_image_key(b);
	davit_buf_adds(&versions, "");
	for (size_t i = 0; r == 0 && i < b->cell->n_versions; i++) {
		r = wanted(b, &b->cell->versions[i]);
		if (r > 0)
			r = run_step(b, &b->cell->versions[i], &versions);
	}
	if (r < 0)
		return r;
	if (versions.oom)
		return build_no_memory(b);
	davit_hash_strings(b->key, "davit 1", b->source.hash, b->cell->name, b->cell->hash, versions.data,
			   b->cell->uses_name ? b->request->name : "", NULL);
	return 0;
}

/* --- source and work --- */

static int make_ignore(struct build *b)
{
	static const char *const always[] = {".git", "node_modules", "target", "__pycache__", ".venv"};
	/* A context is what its own rules say. */
	size_t n = b->cell->dockerfile ? 1 : DAVIT_ARRAY_SIZE(always);
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = davit_strv_add(&b->ignore.names, always[i]);
	for (char **p = b->cell->ignore; r == 0 && p && *p; p++)
		r = davit_strv_add(&b->ignore.names, *p);
	if (r < 0)
		return build_no_memory(b);
	return b->cell->dockerfile ? build_image_ignore(b) : 0;
}

/* Copies the source into the cache. What was copied counts, not what was hashed
 * before: a file may have changed in between. */
static int copy_source(struct build *b, int *ret_lock)
{
	DAVIT_AUTO_FREE char *copy = davit_path_join(b->work.path, "copy"), *path = NULL;
	int r = copy ? davit_snapshot_take(b->located.path, copy, &b->ignore, b->cache.max, &b->source,
					   b->err)
		     : build_no_memory(b);

	if (r == 0)
		r = davit_cache_lock(&b->cache, b->source.hash, false, ret_lock, b->err);
	if (r < 0)
		return r;
	path = davit_cache_path(&b->cache, "sources", b->source.hash, "");
	if (!path)
		return build_no_memory(b);
	if (access(path, F_OK) == 0)
		return davit_remove_tree(copy, b->err);
	DAVIT_FAULT("source-rename");
	if (rename(copy, path) < 0)
		return davit_error_errno(b->err, errno, NULL, "cannot keep %s", path);
	return 0;
}

/* Puts the source into the cache unless it is there; its lock is held after. */
static int keep_source(struct build *b, int *ret_lock)
{
	DAVIT_AUTO_CLOSE int lock = -1;
	DAVIT_AUTO_FREE char *path = NULL;
	int r = davit_snapshot_take(b->located.path, NULL, &b->ignore, b->cache.max, &b->source, b->err);

	if (r == 0)
		r = davit_cache_lock(&b->cache, b->source.hash, false, &lock, b->err);
	if (r < 0)
		return r;
	path = davit_cache_path(&b->cache, "sources", b->source.hash, "");
	if (!path)
		return build_no_memory(b);
	if (access(path, F_OK) == 0) {
		utimensat(AT_FDCWD, path, NULL, 0);
		*ret_lock = DAVIT_TAKE_FD(lock);
		return 0;
	}
	close(DAVIT_TAKE_FD(lock));
	return copy_source(b, ret_lock);
}

/* Fills the directory that is built in with a copy: what is in sources/ stays
 * as it is. */
static int prepare_work(struct build *b)
{
	DAVIT_AUTO_FREE char *from = davit_cache_path(&b->cache, "sources", b->source.hash, "");
	DAVIT_AUTO_FREE char *key = davit_path_join(b->work.path, "key");
	struct davit_snapshot copied;
	int r;

	if (!from || !key)
		return build_no_memory(b);
	r = davit_snapshot_take(from, b->tree, NULL, b->cache.max, &copied, b->err);
	if (r == 0 && strcmp(copied.hash, b->source.hash))
		r = davit_error_set(b->err, DAVIT_ECORRUPT, "cache",
				    "%s was changed; remove it and try again", from);
	if (r == 0)
		r = davit_write_file(key, b->key, strlen(b->key), 0600, b->err);
	if (r == 0)
		r = davit_remove_tree(b->scratch, b->err);
	b->vars.source = b->tree;
	return r;
}

/* --- building --- */

static int build_tree(struct build *b, json_t **ret)
{
	DAVIT_AUTO_CLOSE int home = -1;
	int64_t began = davit_run_now();
	char took[DAVIT_TIME_MAX];
	int r = davit_cache_lock(&b->cache, "home", true, &home, b->err);

	if (r == 0)
		r = prepare_work(b);
	DAVIT_FAULT("build-start");
	for (size_t i = 0; r == 0 && i < b->cell->n_build; i++) {
		r = wanted(b, &b->cell->build[i]);
		if (r > 0)
			r = run_step(b, &b->cell->build[i], NULL);
	}
	if (r == 0)
		r = build_result(b, ret);
	if (r == 0)
		r = davit_remove_tree(b->tmp, b->err);
	if (r == 0)
		printf("built in %s\n",
		       davit_duration_format((davit_run_now() - began) / 1000000 * 1000000, took));
	return r;
}

static int refer(struct build *b, json_t *result)
{
	DAVIT_AUTO_FREE char *path = NULL;
	int r = davit_cache_refer(&b->cache, b->request->namespace_, b->request->name, b->request->version,
				  json_string_value(json_object_get(result, "id")), &path, b->err);

	if (r == 0 && json_object_set_new(result, "reference", json_string(path)) < 0)
		r = build_no_memory(b);
	return r;
}

/* With the lock of the key: the result from the cache, or a new one. */
static int obtain(struct build *b, json_t **ret)
{
	json_t *o = b->request->force ? NULL : davit_cache_lookup(&b->cache, b->key);
	int r = 0;

	if (o && b->cell->dockerfile && !build_image_is_there(b, o)) {
		json_decref(o);
		o = NULL;
	}
	if (o) {
		printf("nothing to build: content %.12s is in the cache\n", b->source.hash);
	} else {
		r = b->cell->dockerfile ? build_image(b, &o) : build_tree(b, &o);
		if (r == 0)
			r = davit_cache_commit(&b->cache, b->key, &b->work, o, b->err);
		if (r == 0)
			davit_work_end(&b->cache, &b->work, true);
	}
	if (r == 0)
		r = refer(b, o);
	if (r == 0)
		*ret = o;
	else
		json_decref(o);
	return r;
}

/* What is of this build alone, and not of its like. */
static int describe(struct build *b, json_t *result)
{
	json_t *image = b->cell->dockerfile || b->request->in_image ? json_object_get(result, "image") : NULL;
	const char *id = json_string_value(json_object_get(result, "id")), *revision = b->located.revision;
	DAVIT_AUTO_FREE char *tree = b->cell->dockerfile ? NULL : davit_cache_path(&b->cache, "work", id, "");

	return json_object_set_new(result, "revision", revision ? json_string(revision) : json_null()) < 0 ||
			       json_object_set(result, "runImage", image ? image : json_null()) < 0 ||
			       json_object_set_new(result, "tree", tree ? json_string(tree) : json_null()) < 0
		       ? DAVIT_ENOMEM
		       : 0;
}

/* From a located tree to a result. */
static int build_located(struct build *b, json_t **ret)
{
	DAVIT_AUTO_CLOSE int source_lock = -1, key_lock = -1;
	DAVIT_AUTO_FREE char *snapshot = NULL;
	int r = choose_cell(b);

	if (r == 0)
		r = make_ignore(b);
	if (r == 0)
		r = keep_source(b, &source_lock);
	if (r < 0)
		return r;
	snapshot = davit_cache_path(&b->cache, "sources", b->source.hash, "");
	if (!snapshot)
		return build_no_memory(b);
	b->vars.cell = b->cell->directory;
	r = make_env(b);
	b->vars.source = snapshot;
	if (r == 0)
		r = make_key(b);
	if (r == 0)
		r = davit_cache_lock(&b->cache, b->key, false, &key_lock, b->err);
	if (r == 0)
		r = obtain(b, ret);
	b->vars.source = NULL;
	if (r == 0 && describe(b, *ret) < 0)
		r = build_no_memory(b);
	return r;
}

static int name_paths(struct build *b)
{
	int r;

	b->scratch = davit_path_join(b->work.path, "fetched");
	b->tree = davit_path_join(b->work.path, "source");
	b->out = davit_path_join(b->work.path, "out");
	b->tmp = davit_path_join(b->work.path, "tmp");
	if (!b->scratch || !b->tree || !b->out || !b->tmp)
		return build_no_memory(b);
	b->vars.source = b->tree;
	b->vars.out = b->out;
	b->vars.tmp = b->tmp;
	r = davit_mkdirs(b->out, 0755, b->err);
	return r < 0 ? r : davit_mkdirs(b->tmp, 0755, b->err);
}

static int begin(struct build *b)
{
	const char *home = davit_strv_getenv(b->request->env, "HOME");
	int r = davit_cache_open(&b->cache, b->request->cache, b->request->cache_size, b->err);

	if (r < 0)
		return r;
	b->cache.drop_image = b->request->socket ? build_image_drop : NULL;
	b->cache.user = b;
	b->deadline = davit_run_now() + b->request->timeout;
	b->home = davit_path_join(b->request->cache, "home");
	if (!b->home || davit_strv_dup(b->request->env, &b->env) < 0 ||
	    davit_strv_setenv(&b->env, "HOME", b->home) < 0)
		return build_no_memory(b);
	b->vars.home = home;
	b->vars.cache = b->home;
	b->vars.davit = b->request->program;
	b->vars.name = b->request->name;
	r = load_cells(b);
	if (r == 0)
		r = davit_work_new(&b->cache, &b->work, b->err);
	return r < 0 ? r : name_paths(b);
}

static void end(struct build *b)
{
	char **const strings[] = {&b->home, &b->scratch, &b->tree,	&b->out,
				  &b->tmp,  &b->program, &b->dockerfile};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(strings); i++)
		free(*strings[i]);
	davit_ignore_fini(&b->ignore);
	davit_strv_free(b->env);
	davit_located_fini(&b->located);
	davit_cells_fini(&b->cells);
}

int davit_build(const struct davit_build_request *request, json_t **ret_result, struct davit_error *err)
{
	struct build b = {.request = request, .err = err, .work = {.lock = -1}};
	struct davit_error ignored;
	json_t *o = NULL;
	int r = begin(&b);

	if (r == 0)
		r = davit_locate(request, b.scratch, b.deadline, &b.located, err);
	if (r == 0)
		r = build_located(&b, &o);
	if (b.work.path)
		davit_work_end(&b.cache, &b.work, false);
	/* The build is done, whatever becomes of the cache. */
	if (r == 0 && davit_cache_collect(&b.cache, &ignored) < 0)
		printf("the cache was not collected: %s\n", ignored.message);
	end(&b);
	if (r == 0)
		*ret_result = o;
	else
		json_decref(o);
	return r;
}
