/* SPDX-License-Identifier: MIT */
#include "cli/output.h"

#include <string.h>
#include <yaml.h>

/* Would a reader take this plain text for something else than a string? */
static bool must_quote(const char *s)
{
	static const char *const words[] = {"true", "false", "yes", "no", "on", "off",
					    "null", "y",     "n",   "~",  ""};
	char *end;

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(words); i++)
		if (!strcasecmp(s, words[i]))
			return true;
	strtod(s, &end);
	if (end != s && !*end)
		return true;
	return s[0] == '0' || s[0] == '.' || s[0] == '=' || s[0] == '<';
}

static bool scalar(yaml_emitter_t *out, const char *text, bool quoted)
{
	yaml_event_t e;

	return yaml_scalar_event_initialize(
		       &e, NULL, NULL, (const yaml_char_t *)text, (int)strlen(text), 1, 1,
		       quoted ? YAML_DOUBLE_QUOTED_SCALAR_STYLE : YAML_ANY_SCALAR_STYLE) &&
	       yaml_emitter_emit(out, &e);
}

static bool value(yaml_emitter_t *out, json_t *v);

static bool object(yaml_emitter_t *out, json_t *v)
{
	yaml_event_t e;
	const char *key;
	json_t *member;

	if (!yaml_mapping_start_event_initialize(&e, NULL, NULL, 1, YAML_ANY_MAPPING_STYLE) ||
	    !yaml_emitter_emit(out, &e))
		return false;
	json_object_foreach(v, key, member)
	{
		if (!scalar(out, key, must_quote(key)) || !value(out, member))
			return false;
	}
	return yaml_mapping_end_event_initialize(&e) && yaml_emitter_emit(out, &e);
}

static bool array(yaml_emitter_t *out, json_t *v)
{
	yaml_event_t e;
	size_t i;
	json_t *item;

	if (!yaml_sequence_start_event_initialize(&e, NULL, NULL, 1, YAML_ANY_SEQUENCE_STYLE) ||
	    !yaml_emitter_emit(out, &e))
		return false;
	json_array_foreach(v, i, item)
	{
		if (!value(out, item))
			return false;
	}
	return yaml_sequence_end_event_initialize(&e) && yaml_emitter_emit(out, &e);
}

static bool value(yaml_emitter_t *out, json_t *v)
{
	DAVIT_AUTO_FREE char *text = NULL;

	switch (json_typeof(v)) {
	case JSON_OBJECT:
		return object(out, v);
	case JSON_ARRAY:
		return array(out, v);
	case JSON_STRING:
		return scalar(out, json_string_value(v), must_quote(json_string_value(v)));
	default: /* a number, true, false, null: the same words in YAML */
		text = json_dumps(v, JSON_ENCODE_ANY);
		return text && scalar(out, text, false);
	}
}

int davit_yaml_write(json_t *v, FILE *file, struct davit_error *err)
{
	yaml_emitter_t out;
	yaml_event_t e;
	bool ok;

	if (!yaml_emitter_initialize(&out))
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	yaml_emitter_set_output_file(&out, file);
	yaml_emitter_set_unicode(&out, 1);
	yaml_emitter_set_width(&out, -1);
	ok = yaml_stream_start_event_initialize(&e, YAML_UTF8_ENCODING) && yaml_emitter_emit(&out, &e) &&
	     yaml_document_start_event_initialize(&e, NULL, NULL, NULL, 1) && yaml_emitter_emit(&out, &e) &&
	     value(&out, v) && yaml_document_end_event_initialize(&e, 1) && yaml_emitter_emit(&out, &e) &&
	     yaml_stream_end_event_initialize(&e) && yaml_emitter_emit(&out, &e) && yaml_emitter_flush(&out);
	yaml_emitter_delete(&out);
	return ok ? 0 : davit_error_set(err, DAVIT_EIO, NULL, "cannot write the answer as YAML");
}
