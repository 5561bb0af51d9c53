/* SPDX-License-Identifier: MIT
 *
 * The strict JSON reader of specs (RFC 8259). jansson would tell no position of
 * a value that is well-formed but wrong, and takes 2 s for the 100,000 records
 * that a start of the daemon may have to read; libyaml refuses the surrogate
 * pairs with which many encoders write what is outside the BMP. The fuzz target
 * compares this reader's verdict with jansson's.
 */
#include "base/tree.h"

#include <string.h>

void davit_json_in_open(struct davit_json_in *in, const char *text, size_t len)
{
	*in = (struct davit_json_in){.p = text, .end = text + len, .mark = text, .line = 1, .column = 1};
}

/* Brings line and column to `at`, which is never before the last place asked
 * for: all in all the text is walked once. */
static void locate(struct davit_json_in *in, const char *at)
{
	for (; in->mark < at; in->mark++) {
		if (*in->mark == '\n') {
			in->line++;
			in->column = 1;
		} else if (((unsigned char)*in->mark & 0xc0) != 0x80) {
			in->column++;
		}
	}
}

#define FAIL(in, at, ...)                                                                                    \
	({                                                                                                   \
		locate(in, at);                                                                              \
		davit_tree_error((in)->err, (in)->line, (in)->column, NULL, __VA_ARGS__);                    \
	})

static void skip_blank(struct davit_json_in *in)
{
	while (in->p < in->end && (*in->p == ' ' || *in->p == '\t' || *in->p == '\n' || *in->p == '\r'))
		in->p++;
}

/* The character at p for a message: "'x'" or "the end of the text". */
static const char *found(struct davit_json_in *in, char buf[8])
{
	size_t n = 1;

	if (in->p >= in->end)
		return "the end of the text";
	while (n < 4 && in->p + n < in->end && ((unsigned char)in->p[n] & 0xc0) == 0x80)
		n++;
	buf[0] = '\'';
	memcpy(buf + 1, in->p, n);
	buf[n + 1] = '\'';
	buf[n + 2] = '\0';
	return buf;
}

static int hex4(const char *p, const char *end, uint32_t *ret)
{
	uint32_t v = 0;

	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		static const char digits[] = "0123456789abcdef";
		const char *d = p[i] ? strchr(digits, p[i] | 0x20) : NULL;
		if (!d || (p[i] < '0'))
			return -1;
		v = v << 4 | (uint32_t)(d - digits);
	}
	*ret = v;
	return 0;
}

static char *put_utf8(char *out, uint32_t c)
{
	if (c < 0x80) {
		*out++ = (char)c;
	} else if (c < 0x800) {
		*out++ = (char)(0xc0 | c >> 6);
		*out++ = (char)(0x80 | (c & 0x3f));
	} else if (c < 0x10000) {
		*out++ = (char)(0xe0 | c >> 12);
		*out++ = (char)(0x80 | (c >> 6 & 0x3f));
		*out++ = (char)(0x80 | (c & 0x3f));
	} else {
		*out++ = (char)(0xf0 | c >> 18);
		*out++ = (char)(0x80 | (c >> 12 & 0x3f));
		*out++ = (char)(0x80 | (c >> 6 & 0x3f));
		*out++ = (char)(0x80 | (c & 0x3f));
	}
	return out;
}

/* Decodes the \uXXXX at *p (behind the 'u'), two of them for a surrogate pair. */
static int unicode_escape(struct davit_json_in *in, const char **p, const char *end, char **out)
{
	const char *at = *p - 2;
	uint32_t c, low;

	if (hex4(*p, end, &c) < 0)
		return FAIL(in, at, "\\u needs four hexadecimal digits");
	*p += 4;
	if (c >= 0xd800 && c < 0xdc00 && end - *p >= 6 && (*p)[0] == '\\' && (*p)[1] == 'u' &&
	    !hex4(*p + 2, end, &low) && low >= 0xdc00 && low < 0xe000) {
		c = 0x10000 + ((c & 0x3ff) << 10) + (low & 0x3ff);
		*p += 6;
	}
	if (c >= 0xd800 && c < 0xe000)
		return FAIL(in, at, "\\u%04x is half of a surrogate pair", c);
	if (!c)
		return FAIL(in, at, "a NUL character is not allowed");
	*out = put_utf8(*out, c);
	return 0;
}

/* Decodes what is between the quotes, [p, end), into out. */
static int unescape(struct davit_json_in *in, const char *p, const char *end, char *out)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";

	while (p < end) {
		const char *e;
		int r;

		if ((unsigned char)*p < 0x20)
			return FAIL(in, p, "a control character in a string; write it as \\u%04x", *p);
		if (*p != '\\') {
			*out++ = *p++;
			continue;
		}
		p++;
		if (*p == 'u') {
			p++;
			r = unicode_escape(in, &p, end, &out);
			if (r)
				return r;
			continue;
		}
		e = strchr(from, *p);
		if (!e)
			return FAIL(in, p - 1, "'\\%c' is no escape in JSON", *p);
		*out++ = to[e - from];
		p++;
	}
	*out = '\0';
	return 0;
}

/* The string at p, which is at its opening quote. */
static int string(struct davit_json_in *in, const char **ret)
{
	const char *from = in->p + 1, *p = from;
	char *out;
	int r;

	while (p < in->end && *p != '"')
		p += *p == '\\' ? 2 : 1;
	if (p >= in->end)
		return FAIL(in, in->p, "a string that begins here does not end");
	out = davit_region_take(in->region, (size_t)(p - from) + 1);
	if (!out)
		return davit_error_set(in->err, DAVIT_ENOMEM, NULL, "out of memory");
	r = unescape(in, from, p, out);
	if (r)
		return r;
	in->p = p + 1;
	*ret = out;
	return 0;
}

static bool digits(const char **p, const char *end)
{
	const char *from = *p;

	while (*p < end && **p >= '0' && **p <= '9')
		(*p)++;
	return *p > from;
}

static bool is_number(const char *p, const char *end)
{
	if (p < end && *p == '-')
		p++;
	if (p < end && *p == '0')
		p++;
	else if (!digits(&p, end))
		return false;
	if (p < end && *p == '.' && (p++, !digits(&p, end)))
		return false;
	if (p < end && (*p == 'e' || *p == 'E')) {
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			p++;
		if (!digits(&p, end))
			return false;
	}
	return p == end;
}

static bool is_word(const char *p, size_t n)
{
	return (n == 4 && !memcmp(p, "true", 4)) || (n == 5 && !memcmp(p, "false", 5)) ||
	       (n == 4 && !memcmp(p, "null", 4));
}

/* A number, true, false or null: kept as it is written. */
static int bare(struct davit_json_in *in, struct davit_tree *t)
{
	const char *from = in->p, *p = from;
	char *text, c[8];
	size_t n;

	while (p < in->end && !strchr(" \t\r\n,:[]{}\"", *p))
		p++;
	n = (size_t)(p - from);
	if (!n)
		return FAIL(in, from, "expected a value, found %s", found(in, c));
	if (!is_word(from, n) && !is_number(from, p))
		return FAIL(in, from, "'%.*s' is no JSON value; a string needs double quotes",
			    n > 64 ? 64 : (int)n, from);
	text = davit_region_take(in->region, n + 1);
	if (!text)
		return davit_error_set(in->err, DAVIT_ENOMEM, NULL, "out of memory");
	memcpy(text, from, n);
	text[n] = '\0';
	t->text = text;
	in->p = p;
	return 0;
}

static int value(struct davit_json_in *in, int depth, struct davit_tree **ret);

/* One "key": value or one value, appended to parent. */
static int member(struct davit_json_in *in, int depth, struct davit_tree *parent,
		  struct davit_tree_keys *keys)
{
	unsigned line = 0, column = 0;
	const char *key = NULL;
	struct davit_tree *t;
	char c[8];
	int r;

	if (parent->kind == DAVIT_TREE_MAP) {
		if (in->p >= in->end || *in->p != '"')
			return FAIL(in, in->p,
				    "expected a key in double quotes, found %s; a text that "
				    "begins with '{' or '[' is read as JSON",
				    found(in, c));
		locate(in, in->p);
		line = in->line;
		column = in->column;
		r = string(in, &key);
		if (r)
			return r;
		skip_blank(in);
		if (in->p >= in->end || *in->p != ':')
			return FAIL(in, in->p, "expected ':' after the key '%.64s', found %s", key,
				    found(in, c));
		in->p++;
	}
	r = value(in, depth, &t);
	if (r)
		return r;
	t->key = key;
	t->key_line = line;
	t->key_column = column;
	return davit_tree_add(parent, t, keys, in->err);
}

/* What is between '{' and '}' or '[' and ']'; p is behind the opening one. */
static int members(struct davit_json_in *in, int depth, struct davit_tree *parent)
{
	char end = parent->kind == DAVIT_TREE_MAP ? '}' : ']', c[8];
	struct davit_tree_keys keys = {0};
	int r = 0;

	skip_blank(in);
	if (in->p < in->end && *in->p == end) {
		in->p++;
		return 0;
	}
	while (!r) {
		skip_blank(in);
		r = member(in, depth, parent, &keys);
		if (r)
			break;
		skip_blank(in);
		if (in->p < in->end && *in->p == ',') {
			in->p++;
			continue;
		}
		if (in->p >= in->end || *in->p != end) {
			r = FAIL(in, in->p, "expected ',' or '%c', found %s", end, found(in, c));
			break;
		}
		in->p++;
		break;
	}
	davit_map_fini(&keys.seen);
	return r;
}

static int value(struct davit_json_in *in, int depth, struct davit_tree **ret)
{
	struct davit_tree *t;
	int r;

	skip_blank(in);
	locate(in, in->p);
	if (depth > DAVIT_TREE_DEPTH_MAX)
		return FAIL(in, in->p, "nested deeper than %d levels", DAVIT_TREE_DEPTH_MAX);
	t = davit_tree_new(in->region, DAVIT_TREE_SCALAR, in->line, in->column, &in->nodes, in->err);
	if (!t)
		return in->err ? in->err->code : DAVIT_ENOMEM;
	if (in->p < in->end && (*in->p == '{' || *in->p == '[')) {
		t->kind = *in->p++ == '{' ? DAVIT_TREE_MAP : DAVIT_TREE_LIST;
		r = members(in, depth + 1, t);
	} else if (in->p < in->end && *in->p == '"') {
		t->quoted = true;
		r = string(in, &t->text);
	} else {
		r = bare(in, t);
	}
	if (!r)
		*ret = t;
	return r;
}

static int end_of_text(struct davit_json_in *in)
{
	skip_blank(in);
	in->ended = true;
	if (in->p < in->end)
		return FAIL(in, in->p, "more text after the end of the JSON value");
	return 0;
}

int davit_json_in_next(struct davit_json_in *in, struct davit_tree **ret)
{
	char c[8];
	int r;

	if (in->ended)
		return 0;
	skip_blank(in);
	if (!in->started && in->p < in->end && *in->p == '[') {
		in->list = true;
		in->p++;
		skip_blank(in);
	}
	if (in->list && in->p < in->end && *in->p == ']' && !in->started) {
		in->p++;
		return end_of_text(in);
	}
	if (in->started) { /* behind an element of the list */
		if (in->p < in->end && *in->p == ']') {
			in->p++;
			return end_of_text(in);
		}
		if (in->p >= in->end || *in->p != ',')
			return FAIL(in, in->p, "expected ',' or ']', found %s", found(in, c));
		in->p++;
	}
	in->started = true;
	r = value(in, 1, ret);
	if (!r && !in->list)
		r = end_of_text(in);
	return r ? r : 1;
}
