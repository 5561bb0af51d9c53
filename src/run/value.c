/* SPDX-License-Identifier: MIT
 *
 * load_var: a value out of a file of an artifact.
 */
#include "run/host.h"

#include "step/pipeline.h"

#include <string.h>

/* "format", or what the file's name ends with. */
static const char *format_of(const json_t *config, const char *file)
{
	static const char *const endings[][2] = {{".json", "json"}, {".yml", "yaml"}, {".yaml", "yaml"}};
	const char *format = json_string_value(json_object_get(config, "format"));
	size_t n = strlen(file);

	if (format)
		return !strcmp(format, "yml") ? "yaml" : format;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(endings); i++) {
		size_t k = strlen(endings[i][0]);
		if (n > k && !strcmp(file + n - k, endings[i][0]))
			return endings[i][1];
	}
	return "trim";
}

static int read_yaml(const struct davit_buf *text, json_t **ret, struct davit_error *err)
{
	struct davit_region region = {0};
	struct davit_tree_source source;
	struct davit_tree *tree = NULL;
	int r = davit_tree_open(&source, davit_buf_str(text), text->len, err);

	if (r < 0)
		return r;
	r = davit_tree_next(&source, &region, &tree, err);
	if (r == 0)
		r = davit_error_set(err, DAVIT_EINVAL, NULL, "it is empty");
	if (r > 0)
		r = davit_tree_json(tree, ret, err);
	davit_tree_close(&source);
	davit_region_fini(&region);
	return r;
}

static int read_value(const struct davit_buf *text, const char *format, json_t **ret, struct davit_error *err)
{
	const char *s = davit_buf_str(text);
	size_t n = text->len;
	json_error_t at;

	if (!strcmp(format, "json")) {
		*ret = json_loadb(s, n, JSON_DECODE_ANY, &at);
		return *ret ? 0 : davit_error_set(err, DAVIT_EINVAL, NULL, "line %d: %s", at.line, at.text);
	}
	if (!strcmp(format, "yaml"))
		return read_yaml(text, ret, err);
	if (!strcmp(format, "trim"))
		while (n && strchr(" \t\r\n", s[n - 1]))
			n--;
	if (!strcmp(format, "trim"))
		for (; n && strchr(" \t\r\n", *s); s++)
			n--;
	else if (strcmp(format, "raw") != 0)
		return davit_error_set(err, DAVIT_EINVAL, "format",
				       "the format is one of json, yaml, trim and raw, not '%.32s'", format);
	*ret = json_stringn(s, n);
	return *ret ? 0 : davit_error_set(err, DAVIT_EINVAL, NULL, "it is not UTF-8");
}

void load_var_start(struct leaf *l)
{
	const char *file = json_string_value(json_object_get(l->config, "file"));
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	struct davit_error err;
	json_t *value = NULL;
	int r;

	if (l->aborted) {
		leaf_end(l, DAVIT_PLAN_ABORTED, NULL, NULL, -1);
		return;
	}
	r = file ? host_read_file(l->host, file, &text, &err)
		 : davit_error_set(&err, DAVIT_EINVAL, "file", "load_var needs a file");
	if (r == 0) {
		r = read_value(&text, format_of(l->config, file), &value, &err);
		if (r < 0)
			davit_error_prefix(&err, "%s", file);
	}
	if (r < 0)
		leaf_error(l, &err);
	else
		leaf_end(l, DAVIT_PLAN_SUCCEEDED, NULL, value, -1);
	json_decref(value);
}
