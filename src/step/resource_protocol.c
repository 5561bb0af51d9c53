/* SPDX-License-Identifier: MIT
 *
 * What is said to the programs of a resource type, and what they say.
 */
#include "step/resource.h"

#include <string.h>

#define SHOWN 160 /* bytes of a wrong answer in a message */

const char *davit_resource_action_name(enum davit_resource_action a)
{
	static const char *const names[] = {
		[DAVIT_RESOURCE_CHECK] = "check", [DAVIT_RESOURCE_IN] = "in", [DAVIT_RESOURCE_OUT] = "out"};

	return names[a];
}

int davit_resource_request(const json_t *source, const json_t *version, const json_t *params,
			   struct davit_buf *out, struct davit_error *err)
{
	json_t *o = json_pack("{s:o}", "source", source ? json_incref((json_t *)source) : json_object());
	char *text = NULL;
	int r = o ? 0 : -1;

	if (r == 0 && version)
		r = json_object_set(o, "version", (json_t *)version);
	if (r == 0 && params)
		r = json_object_set(o, "params", (json_t *)params);
	if (r == 0)
		text = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	if (text)
		davit_buf_adds(out, text);
	free(text);
	return !text || out->oom ? davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory") : 0;
}

/* Says what is wrong with an answer, and shows its beginning. */
static int wrong(struct davit_error *err, const char *text, size_t len, const char *what)
{
	char shown[SHOWN + 1];
	size_t n = len < SHOWN ? len : SHOWN;

	for (size_t i = 0; i < n; i++)
		shown[i] = text[i] >= ' ' && text[i] < 0x7f	? text[i]
			   : text[i] == '\n' || text[i] == '\t' ? ' '
								: '?';
	shown[n] = '\0';
	if (!len)
		return davit_error_set(err, DAVIT_EPROTO, NULL, "%s: it printed nothing", what);
	return davit_error_set(err, DAVIT_EPROTO, NULL, "%s: it printed \"%s\"%s", what, shown,
			       n < len ? "..." : "");
}

int davit_resource_check_version(const json_t *version, struct davit_error *err)
{
	const char *key;
	json_t *v;

	if (!version || json_is_null(version))
		return davit_error_set(err, DAVIT_EINVAL, "version", "the version is null");
	if (!json_is_object(version))
		return davit_error_set(err, DAVIT_EINVAL, "version", "a version must be a map of texts");
	json_object_foreach((json_t *)version, key, v) if (!json_is_string(v)) return davit_error_set(
		err, DAVIT_EINVAL, "version", "'%.64s' of a version is no text", key);
	return 0;
}

static json_t *parse(const char *text, size_t len, struct davit_error *err)
{
	char what[200];
	json_error_t at;
	json_t *j = json_loadb(text, len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &at);

	if (!j) {
		snprintf(what, sizeof what, "its answer is no JSON (line %d, column %d: %.100s)", at.line,
			 at.column, at.text);
		wrong(err, text, len, what);
	}
	return j;
}

int davit_resource_read_versions(const char *text, size_t len, json_t **ret, struct davit_error *err)
{
	struct davit_error why = {0};
	json_t *j = parse(text, len, err), *v;
	size_t i;

	if (!j)
		return DAVIT_EPROTO;
	if (json_is_null(j)) {
		*ret = json_array();
		return *ret ? 0 : davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	if (!json_is_array(j)) {
		json_decref(j);
		return wrong(err, text, len, "its answer is no list of versions");
	}
	json_array_foreach(j, i, v) if (davit_resource_check_version(v, &why) < 0)
	{
		json_decref(j);
		return wrong(err, text, len, why.message);
	}
	*ret = j;
	return 0;
}

static bool is_metadata(const json_t *m)
{
	json_t *v;
	size_t i;

	json_array_foreach((json_t *)m, i, v) if (!json_is_string(json_object_get(v, "name")) ||
						  !json_is_string(json_object_get(v, "value"))) return false;
	return json_is_array(m);
}

int davit_resource_read_result(const char *text, size_t len, json_t **ret_version, json_t **ret_metadata,
			       struct davit_error *err)
{
	struct davit_error why = {0};
	json_t *j = parse(text, len, err), *metadata;
	int r = 0;

	if (!j)
		return DAVIT_EPROTO;
	metadata = json_object_get(j, "metadata");
	if (!json_is_object(j))
		r = wrong(err, text, len, "its answer is no {version, metadata}");
	else if (davit_resource_check_version(json_object_get(j, "version"), &why) < 0)
		r = wrong(err, text, len, why.message);
	else if (metadata && !json_is_null(metadata) && !is_metadata(metadata))
		r = wrong(err, text, len, "its metadata is no list of {name, value}");
	if (r == 0) {
		metadata = json_is_array(metadata) ? json_incref(metadata) : json_array();
		if (!metadata)
			r = davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	if (r == 0) {
		*ret_version = json_incref(json_object_get(j, "version"));
		*ret_metadata = metadata;
	}
	json_decref(j);
	return r;
}
