/* SPDX-License-Identifier: MIT */
#include "base/json.h"

#include "base/units.h"

#include <math.h>
#include <string.h>

static void value(struct davit_json *j)
{
	if (j->comma)
		davit_buf_addc(j->out, ',');
	j->comma = true;
}

void davit_json_open(struct davit_json *j)
{
	value(j);
	davit_buf_addc(j->out, '{');
	j->comma = false;
}

void davit_json_close(struct davit_json *j)
{
	davit_buf_addc(j->out, '}');
	j->comma = true;
}

void davit_json_open_array(struct davit_json *j)
{
	value(j);
	davit_buf_addc(j->out, '[');
	j->comma = false;
}

void davit_json_close_array(struct davit_json *j)
{
	davit_buf_addc(j->out, ']');
	j->comma = true;
}

/* Length of the well-formed UTF-8 sequence at s (RFC 3629), or 0. */
static size_t utf8_len(const unsigned char *s, size_t n)
{
	size_t len = s[0] < 0x80	     ? 1
		     : (s[0] & 0xe0) == 0xc0 ? 2
		     : (s[0] & 0xf0) == 0xe0 ? 3
		     : (s[0] & 0xf8) == 0xf0 ? 4
					     : 0;
	uint32_t c;

	if (!len || len > n)
		return 0;
	if (len == 1)
		return 1;
	c = s[0] & (0x7fu >> len);
	for (size_t i = 1; i < len; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3fu);
	}
	if (c < (len == 2   ? 0x80u
		 : len == 3 ? 0x800u
			    : 0x10000u) ||
	    c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 0;
	return len;
}

/* As nearly all are: ASCII, and nothing in it is to be escaped. */
static bool is_plain(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)s[i] < 0x20 || (unsigned char)s[i] >= 0x80 || s[i] == '"' || s[i] == '\\')
			return false;
	return true;
}

static void quoted(struct davit_buf *b, const char *s, size_t n)
{
	static const char hex[] = "0123456789abcdef";
	size_t from = 0, i = 0;

	davit_buf_addc(b, '"');
	if (is_plain(s, n)) {
		davit_buf_add(b, s, n);
		davit_buf_addc(b, '"');
		return;
	}
	while (i < n) {
		unsigned char c = (unsigned char)s[i];
		size_t len = c >= 0x80 ? utf8_len((const unsigned char *)s + i, n - i) : 1;
		char esc[7] = {'\\', 0};

		if (len && c >= 0x20 && c != '"' && c != '\\') {
			i += len;
			continue;
		}
		davit_buf_add(b, s + from, i - from);
		if (!len)
			memcpy(esc, "\xef\xbf\xbd", 4);
		else if (c == '"' || c == '\\')
			esc[1] = (char)c;
		else if (c == '\n')
			esc[1] = 'n';
		else if (c == '\t')
			esc[1] = 't';
		else if (c == '\r')
			esc[1] = 'r';
		else
			memcpy(esc, (char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15], 0}, 7);
		davit_buf_adds(b, esc);
		from = ++i;
	}
	davit_buf_add(b, s + from, n - from);
	davit_buf_addc(b, '"');
}

void davit_json_key(struct davit_json *j, const char *key)
{
	value(j);
	quoted(j->out, key, strlen(key));
	davit_buf_addc(j->out, ':');
	j->comma = false;
}

void davit_json_stringn(struct davit_json *j, const char *s, size_t n)
{
	value(j);
	quoted(j->out, s, n);
}

size_t davit_json_whole(const char *s, size_t n)
{
	for (size_t back = 1; back <= 3 && back <= n; back++) {
		unsigned char c = (unsigned char)s[n - back];
		size_t length = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;

		if ((c & 0xc0) == 0x80)
			continue;
		return length > back ? n - back : n;
	}
	return n;
}

void davit_json_string(struct davit_json *j, const char *s)
{
	if (s)
		davit_json_stringn(j, s, strlen(s));
	else
		davit_json_null(j);
}

void davit_json_int(struct davit_json *j, int64_t v)
{
	value(j);
	davit_buf_addi(j->out, v);
}

void davit_json_double(struct davit_json *j, double v)
{
	value(j);
	if (isfinite(v))
		davit_buf_addf(j->out, "%.17g", v);
	else
		davit_buf_adds(j->out, "null");
}

void davit_json_bool(struct davit_json *j, bool v)
{
	value(j);
	davit_buf_adds(j->out, v ? "true" : "false");
}

void davit_json_null(struct davit_json *j)
{
	value(j);
	davit_buf_adds(j->out, "null");
}

void davit_json_raw(struct davit_json *j, const char *json)
{
	value(j);
	davit_buf_adds(j->out, json);
}

void davit_json_put_string(struct davit_json *j, const char *key, const char *s)
{
	davit_json_key(j, key);
	davit_json_string(j, s);
}

void davit_json_put_int(struct davit_json *j, const char *key, int64_t v)
{
	davit_json_key(j, key);
	davit_json_int(j, v);
}

void davit_json_put_bool(struct davit_json *j, const char *key, bool v)
{
	davit_json_key(j, key);
	davit_json_bool(j, v);
}

void davit_json_put_strv(struct davit_json *j, const char *key, char *const *v)
{
	davit_json_key(j, key);
	davit_json_open_array(j);
	for (; v && *v; v++)
		davit_json_string(j, *v);
	davit_json_close_array(j);
}

void davit_json_put_error(struct davit_json *j, const struct davit_error *err)
{
	davit_json_key(j, "error");
	davit_json_open(j);
	davit_json_put_string(j, "code", davit_error_word(err->code));
	davit_json_put_string(j, "message", err->message);
	if (err->where[0])
		davit_json_put_string(j, "where", err->where);
	if (err->line)
		davit_json_put_int(j, "line", err->line);
	if (err->column)
		davit_json_put_int(j, "column", err->column);
	if (err->code == DAVIT_EEXEC && err->sys_errno)
		davit_json_put_int(j, "errno", err->sys_errno);
	davit_json_close(j);
}

void davit_json_put_time(struct davit_json *j, const char *key, int64_t unix_ns)
{
	char text[DAVIT_TIME_MAX];

	davit_json_key(j, key);
	davit_json_string(j, unix_ns ? davit_time_format(unix_ns, text) : NULL);
}
