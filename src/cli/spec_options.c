/* SPDX-License-Identifier: MIT */
#include "cli/spec_options.h"

#include "base/file.h"
#include "base/strv.h"
#include "base/units.h"
#include "cli/words.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#define ENV_FILE_MAX (1024 * 1024)

static int no_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

int davit_absolute(const char *path, bool must_exist, char **ret, struct davit_error *err)
{
	char *real = realpath(path, NULL);
	int e = errno;

	if (!real && must_exist)
		return davit_error_errno(err, e, NULL, "%s", path);
	if (!real) {
		DAVIT_AUTO_FREE char *cwd = getcwd(NULL, 0);
		real = cwd ? davit_path_join(cwd, path) : NULL;
		if (!real)
			return no_memory(err);
	}
	*ret = real;
	return 0;
}

/* The object (or a new list) at "a.b", made where it is missing; the last part
 * of the path is returned in *key. NULL when out of memory. */
static json_t *parent_of(json_t *spec, const char *field, const char **key)
{
	const char *dot;

	for (; (dot = strchr(field, '.')); field = dot + 1) {
		DAVIT_AUTO_FREE char *name = strndup(field, (size_t)(dot - field));
		json_t *next = name ? json_object_get(spec, name) : NULL;
		if (name && next && !json_is_object(next) && !strcmp(name, "restart")) {
			/* "restart: always" is short for {"policy": "always"} */
			json_t *whole = json_pack("{s:O}", "policy", next);
			if (!whole || json_object_set_new(spec, name, whole) < 0)
				return NULL;
			next = whole;
		} else if (name && !json_is_object(next)) {
			next = json_object();
			if (!next || json_object_set_new(spec, name, next) < 0)
				return NULL;
		}
		if (!next)
			return NULL;
		spec = next;
	}
	*key = field;
	return spec;
}

int davit_spec_put(json_t *spec, const char *field, json_t *value, struct davit_error *err)
{
	const char *key;
	json_t *at = value ? parent_of(spec, field, &key) : NULL;

	if (!at) {
		json_decref(value);
		return no_memory(err);
	}
	return json_object_set_new(at, key, value) < 0 ? no_memory(err) : 0;
}

static int put_pair(json_t *spec, const char *field, const char *name, const char *value,
		    struct davit_error *err)
{
	const char *key;
	json_t *at = parent_of(spec, field, &key), *map = at ? json_object_get(at, key) : NULL;

	if (at && !json_is_object(map)) {
		map = json_object();
		if (!map || json_object_set_new(at, key, map) < 0)
			return no_memory(err);
	}
	if (!map)
		return no_memory(err);
	if (json_object_set_new(map, name, json_string(value)) < 0)
		return davit_error_set(err, DAVIT_EINVAL, field, "the value of %s is not UTF-8 text", name);
	return 0;
}

static int env_line(void *user, const char *name, const char *value, struct davit_error *err)
{
	return put_pair(user, "env", name, value, err);
}

static int read_env_files(struct davit_cli *cli, json_t *spec, struct davit_error *err)
{
	const char *file;
	size_t pos = 0;

	while ((file = davit_cli_next(cli, "env-file", &pos))) {
		DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
		int r = davit_read_file(file, ENV_FILE_MAX, &text, err);
		if (r == 0)
			r = davit_env_parse(davit_buf_str(&text), file, env_line, spec, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int apply_pairs(struct davit_cli *cli, const struct davit_option *o, json_t *spec,
		       struct davit_error *err)
{
	const char *pair;
	size_t pos = 0;
	int r = 0;

	while (r == 0 && (pair = davit_cli_next(cli, o->name, &pos))) {
		const char *eq = strchr(pair, '=');
		DAVIT_AUTO_FREE char *name = strndup(pair, (size_t)(eq - pair));
		r = name ? put_pair(spec, o->field, name, eq + 1, err) : no_memory(err);
	}
	return r;
}

/* Given once, the text is split; given several times, each is one word. */
static int apply_words(struct davit_cli *cli, const struct davit_option *o, json_t *spec,
		       struct davit_error *err)
{
	DAVIT_AUTO_STRV words = NULL;
	const char *text, *first = NULL;
	size_t pos = 0, n = 0;
	json_t *list;
	int r = 0;

	while (r == 0 && (text = davit_cli_next(cli, o->name, &pos))) {
		first = first ? first : text;
		n++;
		r = davit_strv_add(&words, text);
	}
	if (r == 0 && n == 1) {
		davit_strv_free(words);
		words = NULL;
		r = davit_words_split(first, &words, err);
	}
	if (r < 0)
		return r == DAVIT_ENOMEM ? no_memory(err) : r;
	list = json_array();
	for (size_t i = 0; list && words && words[i]; i++)
		if (json_array_append_new(list, json_string(words[i])) < 0) {
			json_decref(list);
			return davit_error_set(err, DAVIT_EINVAL, o->field, "'%.64s' is not UTF-8 text",
					       words[i]);
		}
	return davit_spec_put(spec, o->field, list, err);
}

/* NAME[=VARIABLE] */
static json_t *secret(const char *text)
{
	const char *eq = strchr(text, '=');

	if (!eq)
		return json_pack("{s:s}", "name", text);
	return json_pack("{s:s%, s:s}", "name", text, (size_t)(eq - text), "env", eq + 1);
}

/* SERVICE[=CONDITION]; a version may hold a '=' of its own. */
static json_t *dependency(const char *text)
{
	static const char *const conditions[] = {"started", "ready", "completed"};
	const char *eq = strrchr(text, '=');

	for (size_t i = 0; eq && i < DAVIT_ARRAY_SIZE(conditions); i++)
		if (!strcmp(eq + 1, conditions[i]))
			return json_pack("{s:s%, s:s}", "service", text, (size_t)(eq - text), "condition",
					 eq + 1);
	return json_pack("{s:s}", "service", text);
}

/* A port, or several with commas between them. */
static int add_ports(json_t *list, const char *text)
{
	for (;;) {
		size_t n = strcspn(text, ",");
		if (json_array_append_new(list, json_stringn(text, n)) < 0)
			return DAVIT_EINVAL;
		if (!text[n])
			return 0;
		text += n + 1;
	}
}

static int apply_list(struct davit_cli *cli, const struct davit_option *o, json_t *spec,
		      struct davit_error *err)
{
	json_t *list = json_array();
	const char *text;
	size_t pos = 0;

	while (list && (text = davit_cli_next(cli, o->name, &pos))) {
		int r = 0;
		if (!strcmp(o->name, "port"))
			r = add_ports(list, text);
		else if (!strcmp(o->name, "secret"))
			r = json_array_append_new(list, secret(text));
		else if (!strcmp(o->name, "depends-on"))
			r = json_array_append_new(list, dependency(text));
		else
			r = json_array_append_new(list, json_string(text));
		if (r < 0) {
			json_decref(list);
			return davit_error_set(err, DAVIT_EINVAL, o->field, "'%.64s' is not UTF-8 text",
					       text);
		}
	}
	return davit_spec_put(spec, o->field, list, err);
}

static int apply_value(struct davit_cli *cli, const struct davit_option *o, json_t *spec,
		       struct davit_error *err)
{
	const char *value = davit_cli_value(cli, o->name);
	DAVIT_AUTO_FREE char *path = NULL;
	json_t *v;
	int64_t n = 0;
	int r;

	switch (o->type) {
	case DAVIT_OPTION_FLAG:
		return davit_spec_put(spec, o->field, json_true(), err);
	case DAVIT_OPTION_INT:
		davit_int_parse(value, o->min, o->max, &n, NULL); /* checked by the parser */
		return davit_spec_put(spec, o->field, json_integer(n), err);
	case DAVIT_OPTION_PATH:
		r = davit_absolute(value, true, &path, err);
		if (r < 0) {
			davit_error_prefix(err, "--%s", o->name);
			return r;
		}
		return davit_spec_put(spec, o->field, json_string(path), err);
	default:
		v = json_string(value);
		if (!v)
			return davit_error_set(err, DAVIT_EINVAL, o->field,
					       "--%s: the value is not UTF-8 text", o->name);
		return davit_spec_put(spec, o->field, v, err);
	}
}

/* A command with a slash that names a file here means that file, unless a
 * source is given, in which case it is looked up there. */
static int absolute_command(json_t *spec, struct davit_error *err)
{
	json_t *list = json_object_get(spec, "command");
	const char *program = json_string_value(json_array_get(list, 0));
	DAVIT_AUTO_FREE char *path = NULL;

	if (!program || program[0] == '/' || !strchr(program, '/') || json_object_get(spec, "source") ||
	    json_object_get(spec, "image") || access(program, F_OK) < 0)
		return 0;
	if (davit_absolute(program, true, &path, err) < 0)
		return err ? err->code : DAVIT_EIO;
	return json_array_set_new(list, 0, json_string(path)) < 0 ? no_memory(err) : 0;
}

/* PATH, or PATH@REF of a repository that is here. */
static int absolute_source(const char *source, char **ret, struct davit_error *err)
{
	const char *at = access(source, F_OK) == 0 ? NULL : strrchr(source, '@');
	DAVIT_AUTO_FREE char *path = strndup(source, at ? (size_t)(at - source) : strlen(source));
	DAVIT_AUTO_FREE char *real = NULL;

	if (!path)
		return no_memory(err);
	/* What is said of a path that is not here is about the whole text. */
	if (!at || access(path, F_OK) < 0)
		return davit_absolute(source, true, ret, err);
	if (davit_absolute(path, true, &real, err) < 0)
		return err ? err->code : DAVIT_ENOENT;
	return asprintf(ret, "%s%s", real, at) < 0 ? (*ret = NULL, no_memory(err)) : 0;
}

/* A source that is here becomes an absolute path; one that can only be a path
 * must be here. */
static int local_source(const char *source, char **ret, struct davit_error *err)
{
	bool path = source[0] == '/' || source[0] == '.';

	if (source[0] && (path || access(source, F_OK) == 0))
		return absolute_source(source, ret, err);
	*ret = strdup(source);
	return *ret ? 0 : no_memory(err);
}

/* What follows "--" is the command, or, where --command names one, its further
 * arguments. */
static int apply_rest(struct davit_cli *cli, json_t *spec, struct davit_error *err)
{
	bool has_command = davit_option_find(cli->command, "command") && davit_cli_flag(cli, "command");
	json_t *list = has_command ? json_incref(json_object_get(spec, "args")) : NULL;

	if (!list)
		list = json_array();
	for (char **w = cli->rest; list && *w; w++)
		json_array_append_new(list, json_string(*w));
	return davit_spec_put(spec, has_command ? "args" : "command", list, err);
}

int davit_spec_options_apply(struct davit_cli *cli, json_t *spec, struct davit_error *err)
{
	const char *command_source = NULL;
	int r = 0;

	if (davit_option_find(cli->command, "env-file"))
		r = read_env_files(cli, spec, err);
	for (const struct davit_option *o = davit_options_spec; r == 0 && o->name; o++) {
		if (!davit_option_find(cli->command, o->name) || !davit_cli_flag(cli, o->name))
			continue;
		/* Several options make one list. */
		if (!strcmp(o->field, "volumes") || !strcmp(o->field, "health"))
			continue;
		if (o->type == DAVIT_OPTION_PAIR)
			r = apply_pairs(cli, o, spec, err);
		else if (o->type == DAVIT_OPTION_WORDS)
			r = apply_words(cli, o, spec, err);
		else if (o->repeat)
			r = apply_list(cli, o, spec, err);
		else
			r = apply_value(cli, o, spec, err);
	}
	if (r == 0)
		r = davit_spec_options_volumes(cli, spec, err);
	if (r == 0)
		r = davit_spec_options_health(cli, spec, err);
	if (r == 0 && cli->rest)
		r = apply_rest(cli, spec, err);
	command_source = davit_cli_value(cli, "source");
	if (r == 0 && command_source) {
		DAVIT_AUTO_FREE char *source = NULL;
		r = local_source(command_source, &source, err);
		if (r == 0)
			r = davit_spec_put(spec, "source", json_string(source), err);
	}
	return r == 0 ? absolute_command(spec, err) : r;
}

/* DAVIT_RUNTIME_SOURCE/NAME for a service without a source of its own. */
static int default_source(const char *name, json_t *spec, struct davit_error *err)
{
	const char *base = getenv("DAVIT_RUNTIME_SOURCE");
	DAVIT_AUTO_FREE char *joined = NULL, *source = NULL;
	int r;

	if (!base || !base[0])
		return davit_spec_put(spec, "source", json_string(name), err);
	if (asprintf(&joined, "%s%s%s", base, base[strlen(base) - 1] == '/' ? "" : "/", name) < 0) {
		joined = NULL;
		return no_memory(err);
	}
	r = local_source(joined, &source, err);
	if (r < 0) {
		davit_error_prefix(err, "DAVIT_RUNTIME_SOURCE");
		return r;
	}
	return davit_spec_put(spec, "source", json_string(source), err);
}

static int put_env_default(json_t *spec, const char *field, const char *variable, struct davit_error *err)
{
	const char *v = getenv(variable);

	if (!v || !v[0] || json_object_get(spec, field))
		return 0;
	return davit_spec_put(spec, field, json_string(v), err);
}

int davit_spec_options_name(struct davit_cli *cli, json_t *spec, struct davit_error *err)
{
	const char *first = davit_cli_arg(cli, 0), *version = davit_cli_arg(cli, 1);
	const char *name = davit_cli_value(cli, "name");
	bool has_program = json_object_get(spec, "source") || json_object_get(spec, "command") ||
			   json_object_get(spec, "image");
	int r = 0;

	if (first && !json_object_get(spec, "source") &&
	    (strchr(first, '/') || (!has_program && access(first, F_OK) == 0))) {
		DAVIT_AUTO_FREE char *source = NULL, *made = NULL;
		r = local_source(first, &source, err);
		if (r == 0)
			r = davit_spec_put(spec, "source", json_string(source), err);
		if (r == 0 && !name)
			r = davit_name_from_source(source, &made, err);
		if (r == 0)
			r = davit_spec_put(spec, "name", json_string(name ? name : made), err);
	} else if (first || name) {
		if (first && name && strcmp(first, name) != 0)
			return davit_cli_usage(cli, err, "two names are given: '%s' and --name '%s'", first,
					       name);
		r = davit_spec_put(spec, "name", json_string(first ? first : name), err);
		if (r == 0 && !has_program)
			r = default_source(first ? first : name, spec, err);
	} else if (json_object_get(spec, "source")) {
		DAVIT_AUTO_FREE char *made = NULL;
		r = davit_name_from_source(json_string_value(json_object_get(spec, "source")), &made, err);
		if (r == 0)
			r = davit_spec_put(spec, "name", json_string(made), err);
	} else {
		return davit_cli_usage(cli, err, "no name is given: davit %s %s", cli->command->name,
				       cli->command->usage);
	}
	if (r == 0 && version)
		r = davit_spec_put(spec, "version", json_string(version), err);
	if (r == 0 && davit_cli_value(cli, "namespace"))
		r = davit_spec_put(spec, "namespace", json_string(davit_cli_namespace(cli)), err);
	if (r == 0)
		r = put_env_default(spec, "runtime", "DAVIT_RUNTIME", err);
	return r == 0 ? put_env_default(spec, "profile", "DAVIT_RUNTIME_PROFILE", err) : r;
}
