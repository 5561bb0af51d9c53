/* SPDX-License-Identifier: MIT
 *
 * The YAML reader of specs: libyaml's events made into a tree, without what
 * makes YAML a trap (anchors, tags, duplicate keys, keys that are no text).
 */
#include "base/tree.h"

#include <string.h>

static int out_of_memory(struct davit_yaml_in *in)
{
	return davit_error_set(in->err, DAVIT_ENOMEM, NULL, "out of memory");
}

int davit_yaml_in_open(struct davit_yaml_in *in, const char *text, size_t len, struct davit_error *err)
{
	in->err = err;
	in->text = text;
	if (!yaml_parser_initialize(&in->parser))
		return out_of_memory(in);
	in->open = true;
	yaml_parser_set_encoding(&in->parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&in->parser, (const unsigned char *)text, len);
	return 0;
}

void davit_yaml_in_close(struct davit_yaml_in *in)
{
	if (in->open)
		yaml_parser_delete(&in->parser);
	in->open = false;
}

#define FAIL(in, mark, ...)                                                                                  \
	davit_tree_error((in)->err, (unsigned)(mark).line + 1, (unsigned)(mark).column + 1, NULL, __VA_ARGS__)

/* libyaml gives the place of an unreadable character as an offset only. */
static yaml_mark_t mark_of_offset(const struct davit_yaml_in *in, size_t offset)
{
	yaml_mark_t m = {0};

	for (size_t i = 0; i < offset; i++) {
		if (in->text[i] == '\n') {
			m.line++;
			m.column = 0;
		} else if (((unsigned char)in->text[i] & 0xc0) != 0x80) {
			m.column++;
		}
	}
	return m;
}

static int next_event(struct davit_yaml_in *in, yaml_event_t *ev)
{
	yaml_parser_t *p = &in->parser;
	yaml_mark_t mark;

	if (yaml_parser_parse(p, ev))
		return 0;
	if (p->error == YAML_MEMORY_ERROR)
		return out_of_memory(in);
	mark = p->error == YAML_READER_ERROR ? mark_of_offset(in, p->problem_offset) : p->problem_mark;
	if (p->context && p->error != YAML_READER_ERROR && p->context_mark.line != mark.line)
		return FAIL(in, mark, "not valid YAML: %s %s that begins in line %zu", p->problem, p->context,
			    p->context_mark.line + 1);
	return FAIL(in, mark, "not valid YAML: %s", p->problem ? p->problem : "unreadable");
}

/* Refuses &anchors, *aliases and !tags: none of them has a use in a spec, and
 * each can make a small text mean something large or surprising. */
static int check_plain(struct davit_yaml_in *in, const yaml_event_t *ev)
{
	const yaml_char_t *anchor = NULL, *tag = NULL;

	switch (ev->type) {
	case YAML_ALIAS_EVENT:
		anchor = ev->data.alias.anchor;
		break;
	case YAML_SCALAR_EVENT:
		anchor = ev->data.scalar.anchor;
		tag = ev->data.scalar.tag;
		break;
	case YAML_SEQUENCE_START_EVENT:
		anchor = ev->data.sequence_start.anchor;
		tag = ev->data.sequence_start.tag;
		break;
	case YAML_MAPPING_START_EVENT:
		anchor = ev->data.mapping_start.anchor;
		tag = ev->data.mapping_start.tag;
		break;
	default:
		break;
	}
	if (anchor)
		return FAIL(in, ev->start_mark, "'%c%.64s': YAML anchors and aliases are not supported",
			    ev->type == YAML_ALIAS_EVENT ? '*' : '&', (const char *)anchor);
	if (tag)
		return FAIL(in, ev->start_mark, "'%.64s': YAML tags are not supported", (const char *)tag);
	return 0;
}

static int scalar_text(struct davit_yaml_in *in, const yaml_event_t *ev, const char **ret)
{
	size_t n = ev->data.scalar.length;
	char *text;

	if (memchr(ev->data.scalar.value, 0, n))
		return FAIL(in, ev->start_mark, "a NUL character is not allowed");
	text = davit_region_take(in->region, n + 1);
	if (!text)
		return out_of_memory(in);
	memcpy(text, ev->data.scalar.value, n);
	text[n] = '\0';
	*ret = text;
	return 0;
}

static int node(struct davit_yaml_in *in, const yaml_event_t *ev, int depth, struct davit_tree **ret);

/* Reads the key that ev begins. */
static int map_key(struct davit_yaml_in *in, const yaml_event_t *ev, const char **ret)
{
	int r = check_plain(in, ev);

	if (r)
		return r;
	if (ev->type != YAML_SCALAR_EVENT)
		return FAIL(in, ev->start_mark, "a key must be a text, not a list or a map");
	return scalar_text(in, ev, ret);
}

/* Reads one entry of parent that begins with ev. */
static int entry(struct davit_yaml_in *in, const yaml_event_t *ev, int depth, struct davit_tree *parent,
		 struct davit_tree_keys *keys)
{
	yaml_mark_t at = ev->start_mark;
	const char *key = NULL;
	struct davit_tree *t;
	yaml_event_t val;
	int r;

	if (parent->kind == DAVIT_TREE_MAP) {
		r = map_key(in, ev, &key);
		if (r)
			return r;
		r = next_event(in, &val);
		if (r)
			return r;
		r = node(in, &val, depth, &t);
		yaml_event_delete(&val);
	} else {
		r = node(in, ev, depth, &t);
	}
	if (r)
		return r;
	t->key = key;
	t->key_line = (unsigned)at.line + 1;
	t->key_column = (unsigned)at.column + 1;
	return davit_tree_add(parent, t, keys, in->err);
}

static int entries(struct davit_yaml_in *in, int depth, struct davit_tree *parent)
{
	struct davit_tree_keys keys = {0};
	yaml_event_t ev;
	bool end = false;
	int r = 0;

	while (!r && !end) {
		r = next_event(in, &ev);
		if (r)
			break;
		end = ev.type == YAML_SEQUENCE_END_EVENT || ev.type == YAML_MAPPING_END_EVENT;
		if (!end)
			r = entry(in, &ev, depth, parent, &keys);
		yaml_event_delete(&ev);
	}
	davit_map_fini(&keys.seen);
	return r;
}

/* The value that ev begins. */
static int node(struct davit_yaml_in *in, const yaml_event_t *ev, int depth, struct davit_tree **ret)
{
	enum davit_tree_kind kind = ev->type == YAML_MAPPING_START_EVENT    ? DAVIT_TREE_MAP
				    : ev->type == YAML_SEQUENCE_START_EVENT ? DAVIT_TREE_LIST
									    : DAVIT_TREE_SCALAR;
	struct davit_tree *t;
	int r = check_plain(in, ev);

	if (r)
		return r;
	if (depth > DAVIT_TREE_DEPTH_MAX)
		return FAIL(in, ev->start_mark, "nested deeper than %d levels", DAVIT_TREE_DEPTH_MAX);
	t = davit_tree_new(in->region, kind, (unsigned)ev->start_mark.line + 1,
			   (unsigned)ev->start_mark.column + 1, &in->nodes, in->err);
	if (!t)
		return in->err ? in->err->code : DAVIT_ENOMEM;
	if (kind == DAVIT_TREE_SCALAR) {
		t->quoted = ev->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
		r = scalar_text(in, ev, &t->text);
	} else {
		r = entries(in, depth + 1, t);
	}
	if (!r)
		*ret = t;
	return r;
}

int davit_yaml_in_next(struct davit_yaml_in *in, struct davit_tree **ret)
{
	for (;;) {
		yaml_event_t ev;
		int r = next_event(in, &ev);

		if (r)
			return r;
		switch (ev.type) {
		case YAML_STREAM_END_EVENT:
			yaml_event_delete(&ev);
			return 0;
		case YAML_STREAM_START_EVENT:
		case YAML_DOCUMENT_START_EVENT:
		case YAML_DOCUMENT_END_EVENT:
			break;
		case YAML_SEQUENCE_END_EVENT:
			in->in_list = false;
			break;
		case YAML_SEQUENCE_START_EVENT:
			if (!in->in_list) {
				r = check_plain(in, &ev);
				in->in_list = true;
				break;
			}
			/* fall through */
		default:
			r = node(in, &ev, 1, ret);
			yaml_event_delete(&ev);
			if (r)
				return r;
			if (!in->in_list && davit_tree_is_null(*ret))
				continue; /* an empty document */
			return 1;
		}
		yaml_event_delete(&ev);
		if (r)
			return r;
	}
}
