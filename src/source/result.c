/* SPDX-License-Identifier: MIT
 *
 * After a build: which program it is that runs, and how.
 */
#include "base/file.h"
#include "base/strv.h"
#include "source/build_impl.h"
#include "source/run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Whether the last part of path is name, or name with a suffix. */
static bool is_named(const char *path, const char *name)
{
	const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
	size_t n = strlen(name);

	return !strncmp(base, name, n) && (!base[n] || base[n] == '.');
}

/* Of the files that one pattern finds: the only one, or the one named like the
 * service. More than one and none of that name is left to the user. */
static int pick(struct build *b, char *const *found, const char *pattern)
{
	DAVIT_AUTO_BUF names = DAVIT_BUF_INIT;
	const char *chosen = found[1] ? NULL : found[0];

	for (char *const *p = found; *p && !chosen; p++)
		if (is_named(*p, b->request->name))
			chosen = *p;
	if (chosen) {
		b->program = strdup(chosen);
		return b->program ? 0 : build_no_memory(b);
	}
	for (char *const *p = found; *p; p++) {
		const char *slash = strrchr(*p, '/');
		davit_buf_addf(&names, "%s%s", p == found ? "" : ", ", slash ? slash + 1 : *p);
	}
	return davit_error_set(
		b->err, DAVIT_EBUILD, "source",
		"which program is '%s'? cell %s finds several (%s): %.200s. Name the service like one",
		b->request->name, b->cell->name, pattern, davit_buf_str(&names));
}

static int find_program(struct build *b)
{
	for (char **p = b->cell->program; p && *p; p++) {
		DAVIT_AUTO_STRV found = NULL;
		int r = davit_pattern_find(&b->vars, *p, &found, b->err);
		if (r < 0)
			return r;
		if (found) {
			r = pick(b, found, *p);
			b->vars.program = b->program;
			return r;
		}
	}
	if (b->cell->program)
		return davit_error_set(b->err, DAVIT_EBUILD, "source", "cell %s found no program to run",
				       b->cell->name);
	return 0;
}

/* A build may say itself what to run, by out/run.json: a list of words. */
static int built_argv(struct build *b, char ***ret)
{
	DAVIT_AUTO_FREE char *file = davit_path_join(b->out, "run.json");
	json_error_t je;
	json_t *list, *word;
	size_t i;
	int r = 0;

	if (!file)
		return build_no_memory(b);
	list = json_load_file(file, 0, &je);
	if (!json_is_array(list) || !json_array_size(list))
		r = davit_error_set(
			b->err, DAVIT_EBUILD, "source",
			"cell %s has no 'run', and its build left no list of words in run.json%s%s",
			b->cell->name, list ? "" : ": ", list ? "" : je.text);
	else
		json_array_foreach(list, i, word)
		{
			const char *s = json_string_value(word);
			if (r == 0 && !s)
				r = davit_error_set(b->err, DAVIT_EBUILD, "source",
						    "run.json: word %zu is no text", i + 1);
			else if (r == 0 && davit_strv_add(ret, s) < 0)
				r = build_no_memory(b);
		}
	json_decref(list);
	return r;
}

/* A script that nobody marked as executable is no less one. The file is ours. */
static int make_executable(struct build *b)
{
	struct stat st;

	if (!b->program || access(b->program, X_OK) == 0)
		return 0;
	if (stat(b->program, &st) < 0 || chmod(b->program, (st.st_mode & 0777) | 0111) < 0)
		return davit_error_errno(b->err, errno, NULL, "cannot make %s executable", b->program);
	return 0;
}

/* Whether the kernel can execute the file by itself. */
static bool has_magic(const char *path)
{
	DAVIT_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	char magic[4];

	return fd >= 0 && read(fd, magic, 4) == 4 &&
	       (!memcmp(magic, "#!", 2) || !memcmp(magic, "\177ELF", 4));
}

/* The program by its path. A text without "#!" is for the shell, as it is for
 * execvp. */
static int make_argv(struct build *b, char ***ret)
{
	DAVIT_AUTO_STRV argv = NULL;
	DAVIT_AUTO_STRV whole = NULL;
	DAVIT_AUTO_FREE char *file = NULL;
	int r = b->cell->run ? davit_vars_expand_all(&b->vars, b->cell->run, &argv, b->err)
			     : built_argv(b, &argv);

	if (r == 0)
		r = make_executable(b);
	if (r < 0)
		return r;
	file = davit_run_find(argv[0], b->env);
	if (!file)
		return davit_error_set(b->err, DAVIT_EBUILD, "source", "there is no program '%.200s' to run",
				       argv[0]);
	if (!has_magic(file))
		r = davit_strv_add(&whole, "/bin/sh");
	if (r == 0)
		r = davit_strv_add(&whole, file);
	for (char **w = argv + 1; r == 0 && *w; w++)
		r = davit_strv_add(&whole, *w);
	if (r < 0)
		return build_no_memory(b);
	*ret = DAVIT_TAKE(whole);
	return 0;
}

static int set(json_t *o, const char *key, json_t *value)
{
	return json_object_set_new(o, key, value) < 0 ? DAVIT_ENOMEM : 0;
}

static json_t *text_or_null(const char *s)
{
	return s ? json_string(s) : json_null();
}

static json_t *list_of(char *const *v)
{
	json_t *list = json_array();

	for (; v && *v; v++)
		json_array_append_new(list, json_string(*v));
	return list;
}

static json_t *map_of(char *const *env)
{
	json_t *map = json_object();

	for (; env && *env; env++) {
		const char *equal = strchr(*env, '=');
		json_object_setn_new(map, *env, (size_t)(equal - *env), json_string(equal + 1));
	}
	return map;
}

int build_result(struct build *b, json_t **ret)
{
	DAVIT_AUTO_STRV argv = NULL;
	DAVIT_AUTO_STRV env = NULL;
	DAVIT_AUTO_FREE char *cwd = NULL;
	json_t *o;
	int r = find_program(b);

	if (r == 0)
		r = make_argv(b, &argv);
	if (r == 0)
		r = davit_vars_expand_all(&b->vars, b->cell->env, &env, b->err);
	if (r < 0)
		return r;
	cwd = davit_vars_expand(&b->vars, b->cell->cwd ? b->cell->cwd : "${SOURCE}");
	o = cwd ? json_object() : NULL;
	if (!o)
		return build_no_memory(b);
	r |= set(o, "argv", list_of(argv));
	r |= set(o, "env", map_of(env));
	r |= set(o, "directory", json_string(cwd));
	r |= set(o, "cell", json_string(b->cell->name));
	r |= set(o, "content", json_string(b->source.hash));
	r |= set(o, "port", text_or_null(b->cell->port));
	r |= set(o, "image", text_or_null(b->cell->image));
	if (r) {
		json_decref(o);
		return build_no_memory(b);
	}
	*ret = o;
	return 0;
}
