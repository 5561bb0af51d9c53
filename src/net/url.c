/* SPDX-License-Identifier: MIT */
#include "net/url.h"

#include "davit/error.h"

#include <string.h>

static bool unreserved(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c && strchr("-._~", c));
}

void davit_url_escape(struct davit_buf *out, const char *s)
{
	static const char hex[] = "0123456789ABCDEF";

	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;
		if (unreserved(c))
			davit_buf_addc(out, (char)c);
		else
			davit_buf_add(out, (char[]){'%', hex[c >> 4], hex[c & 15]}, 3);
	}
}

void davit_url_query(struct davit_buf *target, const char *name, const char *value)
{
	davit_buf_addc(target, strchr(davit_buf_str(target), '?') ? '&' : '?');
	davit_url_escape(target, name);
	davit_buf_addc(target, '=');
	davit_url_escape(target, value);
}

static int nibble(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

int davit_url_unescape(const char *s, size_t n, bool plus, char **ret)
{
	char *out = malloc(n + 1), *p = out;

	if (!out)
		return DAVIT_ENOMEM;
	for (size_t i = 0; i < n; i++) {
		int high, low;
		if (s[i] != '%') {
			*p++ = plus && s[i] == '+' ? ' ' : s[i];
			continue;
		}
		high = i + 2 < n ? nibble(s[i + 1]) : -1;
		low = high >= 0 ? nibble(s[i + 2]) : -1;
		if (low < 0 || (high == 0 && low == 0)) {
			free(out);
			return DAVIT_EINVAL;
		}
		*p++ = (char)(high << 4 | low);
		i += 2;
	}
	*p = '\0';
	*ret = out;
	return 0;
}
