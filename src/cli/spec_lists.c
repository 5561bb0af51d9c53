/* SPDX-License-Identifier: MIT
 *
 * Lists of a spec that several options make together: volumes, health checks.
 */
#include "cli/spec_options.h"

#include "base/strv.h"
#include "base/units.h"
#include "cli/words.h"

#include <string.h>

static int no_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

/* Takes item. */
static int append(json_t *list, json_t *item, const char *option, const char *text, struct davit_error *err)
{
	if (json_array_append_new(list, item) == 0)
		return 0;
	return davit_error_set(err, DAVIT_EINVAL, NULL, "--%s: '%.64s' is not UTF-8 text", option, text);
}

/* ---------------------------------------------------------------------- volumes */

/* SOURCE[:TARGET][:ro]: the source is a path, which becomes absolute, or, with a
 * target and without a slash, the name of a volume. No target: the same. */
static int add_volume(struct davit_cli *cli, json_t *list, const char *text, struct davit_error *err)
{
	size_t len = strlen(text);
	bool read_only = len > 3 && !strcmp(text + len - 3, ":ro"), named;
	DAVIT_AUTO_FREE char *copy = strndup(text, read_only ? len - 3 : len);
	DAVIT_AUTO_FREE char *source = NULL;
	char *colon = copy ? strchr(copy, ':') : NULL;

	if (!copy)
		return no_memory(err);
	if (!copy[0] || colon == copy || (colon && !colon[1]))
		return davit_cli_usage(cli, err, "--volume: '%.64s' is not of the form SOURCE[:TARGET][:ro]",
				       text);
	if (colon)
		*colon = '\0';
	named = colon && !strchr(copy, '/') && strcmp(copy, ".") != 0 && strcmp(copy, "..") != 0;
	if (named)
		return append(list,
			      json_pack("{s:s, s:s, s:s, s:b}", "type", "volume", "source", copy, "target",
					colon + 1, "readOnly", read_only),
			      "volume", text, err);
	if (davit_absolute(copy, true, &source, err) < 0) {
		davit_error_prefix(err, "--volume");
		return err ? err->code : DAVIT_ENOENT;
	}
	return append(list,
		      json_pack("{s:s, s:s, s:b}", "source", source, "target", colon ? colon + 1 : source,
				"readOnly", read_only),
		      "volume", text, err);
}

/* TARGET[:SIZE] */
static int add_tmpfs(struct davit_cli *cli, json_t *list, const char *text, struct davit_error *err)
{
	const char *colon = strchr(text, ':');
	struct davit_error why;
	uint64_t size;
	json_t *item;

	if (*text != '/')
		return davit_cli_usage(cli, err, "--tmpfs: '%.64s' is not of the form /TARGET[:SIZE]", text);
	if (colon && davit_size_parse(colon + 1, &size, &why) < 0)
		return davit_cli_usage(cli, err, "--tmpfs: %s", why.message);
	item = json_pack("{s:s, s:s%}", "type", "tmpfs", "target", text,
			 colon ? (size_t)(colon - text) : strlen(text));
	if (item && colon)
		json_object_set_new(item, "size", json_string(colon + 1));
	return append(list, item, "tmpfs", text, err);
}

int davit_spec_options_volumes(struct davit_cli *cli, json_t *spec, struct davit_error *err)
{
	json_t *list;
	const char *text;
	size_t pos = 0;
	int r = 0;

	if (!davit_option_find(cli->command, "volume") ||
	    (!davit_cli_flag(cli, "volume") && !davit_cli_flag(cli, "tmpfs")))
		return 0;
	list = json_array();
	while (r == 0 && list && (text = davit_cli_next(cli, "volume", &pos)))
		r = add_volume(cli, list, text, err);
	pos = 0;
	while (r == 0 && list && (text = davit_cli_next(cli, "tmpfs", &pos)))
		r = add_tmpfs(cli, list, text, err);
	if (r == 0)
		return davit_spec_put(spec, "volumes", list, err);
	json_decref(list);
	return r;
}

/* ----------------------------------------------------------------------- health */

/* type: "http" or "https", of --health-TYPE */
static int add_http(struct davit_cli *cli, json_t *list, const char *type, const char *text,
		    struct davit_error *err)
{
	size_t digits = strspn(text, "0123456789");
	const char *authorities = strcmp(type, "https") ? NULL : davit_cli_value(cli, "health-ca");
	DAVIT_AUTO_FREE char *port = strndup(text, digits);
	DAVIT_AUTO_FREE char *ca = NULL;
	int64_t n = 0;
	json_t *item;

	if (!port)
		return no_memory(err);
	if (!*text || (text[digits] && text[digits] != '/') ||
	    (digits && davit_int_parse(port, 1, 65535, &n, NULL) < 0))
		return davit_cli_usage(cli, err, "--health-%s: '%.64s' is not of the form [PORT]/PATH", type,
				       text);
	if (authorities && davit_absolute(authorities, true, &ca, err) < 0) {
		davit_error_prefix(err, "--health-ca");
		return err ? err->code : DAVIT_ENOENT;
	}
	item = json_pack("{s:s, s:s}", "type", type, "path", text[digits] ? text + digits : "/");
	if (item && digits)
		json_object_set_new(item, "port", json_integer(n));
	if (item && !strcmp(type, "https") && davit_cli_flag(cli, "health-insecure"))
		json_object_set_new(item, "insecure", json_true());
	if (item && ca)
		json_object_set_new(item, "ca", json_string(ca));
	return append(list, item, "health-http", text, err);
}

static int add_command(json_t *list, const char *text, struct davit_error *err)
{
	DAVIT_AUTO_STRV words = NULL;
	json_t *command = json_array();
	int r = davit_words_split(text, &words, err);

	for (size_t i = 0; r == 0 && words && words[i]; i++)
		r = append(command, json_string(words[i]), "health-cmd", words[i], err);
	if (r < 0) {
		json_decref(command);
		return r;
	}
	return append(list, json_pack("{s:s, s:o}", "type", "command", "command", command), "health-cmd",
		      text, err);
}

/* The checks that the options name, one by one. */
static int add_checks(struct davit_cli *cli, json_t *list, struct davit_error *err)
{
	const char *text;
	size_t pos = 0;
	int r = 0;

	while (r == 0 && (text = davit_cli_next(cli, "health-http", &pos)))
		r = add_http(cli, list, "http", text, err);
	pos = 0;
	while (r == 0 && (text = davit_cli_next(cli, "health-https", &pos)))
		r = add_http(cli, list, "https", text, err);
	pos = 0;
	while (r == 0 && (text = davit_cli_next(cli, "health-tcp", &pos)))
		r = append(list, json_pack("{s:s, s:I}", "type", "tcp", "port", (json_int_t)atoi(text)),
			   "health-tcp", text, err);
	pos = 0;
	while (r == 0 && (text = davit_cli_next(cli, "health-cmd", &pos)))
		r = add_command(list, text, err);
	pos = 0;
	while (r == 0 && (text = davit_cli_next(cli, "health-file", &pos)))
		r = append(list, json_pack("{s:s, s:s}", "type", "file", "file", text), "health-file", text,
			   err);
	return r;
}

/* The checks that a spec has, as a list of objects; new reference, or NULL when
 * there is none or one is in its short form, to which nothing can be added. */
static json_t *checks_of(json_t *spec)
{
	json_t *have = json_object_get(spec, "health"), *list, *item;
	size_t i;

	if (json_is_object(have))
		return json_pack("[O]", have);
	if (!json_array_size(have))
		return NULL;
	json_array_foreach(have, i, item) if (!json_is_object(item)) return NULL;
	list = json_incref(have);
	return list;
}

int davit_spec_options_health(struct davit_cli *cli, json_t *spec, struct davit_error *err)
{
	static const char *const settings[][2] = {
		{"health-role", "role"},
		{"health-interval", "interval"},
		{"health-timeout", "timeout"},
		{"health-retries", "retries"},
		{"health-start-period", "startPeriod"},
	};
	json_t *list, *item;
	size_t i;
	int r;

	if (!davit_option_find(cli->command, "health-http"))
		return 0;
	if ((davit_cli_flag(cli, "health-insecure") || davit_cli_value(cli, "health-ca")) &&
	    !davit_cli_value(cli, "health-https"))
		return davit_cli_usage(cli, err, "--health-ca and --health-insecure are for --health-https");
	list = json_array();
	r = list ? add_checks(cli, list, err) : no_memory(err);
	if (r == 0 && !json_array_size(list)) {
		json_decref(list);
		list = checks_of(spec);
	}
	for (size_t k = 0; r == 0 && k < DAVIT_ARRAY_SIZE(settings); k++) {
		const char *value = davit_cli_value(cli, settings[k][0]);
		if (value && !list)
			return davit_cli_usage(cli, err,
					       "--%s: there is no health check; give one by --health-http, "
					       "--health-https, --health-tcp, --health-cmd or --health-file",
					       settings[k][0]);
		if (value)
			json_array_foreach(list, i, item)
				json_object_set_new(item, settings[k][1], json_string(value));
	}
	if (r < 0 || !list) {
		json_decref(list);
		return r;
	}
	return davit_spec_put(spec, "health", list, err);
}
