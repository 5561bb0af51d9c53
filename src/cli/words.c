/* SPDX-License-Identifier: MIT */
#include "cli/words.h"

#include "base/strv.h"

#include <ctype.h>
#include <string.h>

#define NAME_MAX_LEN 63

/* Appends one word to *word and returns what follows it; NULL for bad text. */
static const char *one_word(const char *p, struct davit_buf *word, struct davit_error *err)
{
	char quote = 0;

	for (; *p && (quote || !isspace((unsigned char)*p)); p++) {
		if (!quote && (*p == '\'' || *p == '"')) {
			quote = *p;
		} else if (*p == quote) {
			quote = 0;
		} else if (*p == '\\' && (!quote || (quote == '"' && (p[1] == '"' || p[1] == '\\')))) {
			if (!*++p) {
				davit_error_set(err, DAVIT_EINVAL, NULL,
						"a backslash at the end stands for nothing");
				return NULL;
			}
			davit_buf_addc(word, *p);
		} else {
			davit_buf_addc(word, *p);
		}
	}
	if (quote) {
		davit_error_set(err, DAVIT_EINVAL, NULL, "a quote (%c) has no end", quote);
		return NULL;
	}
	return p;
}

int davit_words_split(const char *text, char ***words, struct davit_error *err)
{
	DAVIT_AUTO_BUF word = DAVIT_BUF_INIT;

	for (const char *p = text;;) {
		while (isspace((unsigned char)*p))
			p++;
		if (!*p)
			return 0;
		davit_buf_reset(&word);
		p = one_word(p, &word, err);
		if (!p)
			return DAVIT_EINVAL;
		if (word.oom || davit_strv_add(words, davit_buf_str(&word)) < 0)
			return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
}

int davit_words_check(const char *text, struct davit_error *err)
{
	DAVIT_AUTO_STRV words = NULL;

	return davit_words_split(text, &words, err);
}

/* The value of a line: as it is, or what is within one pair of quotes. */
static int env_value(const char *v, size_t len, struct davit_buf *out)
{
	char quote = len && (v[0] == '"' || v[0] == '\'') ? v[0] : 0;

	if (!quote) {
		davit_buf_add(out, v, len);
		return 0;
	}
	if (len < 2 || v[len - 1] != quote)
		return -1;
	for (size_t i = 1; i < len - 1; i++) {
		if (v[i] == quote)
			return -1;
		if (quote == '"' && v[i] == '\\' && i + 2 < len && strchr("nt\"\\", v[i + 1])) {
			i++;
			davit_buf_addc(out, v[i] == 'n' ? '\n' : v[i] == 't' ? '\t' : v[i]);
		} else if (quote == '"' && v[i] == '\\' && i + 2 == len) {
			return -1; /* the last quote is escaped */
		} else {
			davit_buf_addc(out, v[i]);
		}
	}
	return 0;
}

int davit_env_parse(const char *text, const char *file,
		    int (*fn)(void *user, const char *name, const char *value, struct davit_error *err),
		    void *user, struct davit_error *err)
{
	DAVIT_AUTO_BUF name = DAVIT_BUF_INIT;
	DAVIT_AUTO_BUF value = DAVIT_BUF_INIT;
	unsigned line = 0;
	int r;

	for (const char *p = text, *end; *p; p = *end ? end + 1 : end) {
		const char *stop, *eq;

		line++;
		end = strchrnul(p, '\n');
		stop = end > p && end[-1] == '\r' ? end - 1 : end;
		while (p < stop && isblank((unsigned char)*p))
			p++;
		if (p == stop || *p == '#')
			continue;
		if (!strncmp(p, "export ", 7))
			p += 7;
		eq = memchr(p, '=', (size_t)(stop - p));
		davit_buf_reset(&name);
		davit_buf_reset(&value);
		if (eq)
			davit_buf_add(&name, p, (size_t)(eq - p));
		if (!name.len || strpbrk(davit_buf_str(&name), " \t")) {
			davit_error_set(err, DAVIT_EINVAL, NULL,
					"%s:%u: '%.*s' is not of the form NAME=VALUE", file, line,
					(int)(stop - p < 64 ? stop - p : 64), p);
			if (err)
				err->line = line;
			return DAVIT_EINVAL;
		}
		if (env_value(eq + 1, (size_t)(stop - eq - 1), &value) < 0) {
			davit_error_set(err, DAVIT_EINVAL, NULL,
					"%s:%u: the quotes around the value of %s do not match", file, line,
					davit_buf_str(&name));
			if (err)
				err->line = line;
			return DAVIT_EINVAL;
		}
		if (name.oom || value.oom)
			return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
		r = fn(user, davit_buf_str(&name), davit_buf_str(&value), err);
		if (r < 0) {
			davit_error_prefix(err, "%s:%u", file, line);
			if (err)
				err->line = line;
			return r;
		}
	}
	return 0;
}

int davit_name_from_source(const char *source, char **ret, struct davit_error *err)
{
	size_t len = strlen(source), start, n = 0;
	const char *at;
	char *name;

	while (len && source[len - 1] == '/')
		len--;
	for (start = len; start && source[start - 1] != '/'; start--)
		;
	at = memchr(source + start, '@', len - start);
	if (at)
		len = (size_t)(at - source);
	if (len - start > 4 && !memcmp(source + len - 4, ".git", 4))
		len -= 4;
	name = calloc(1, NAME_MAX_LEN + 1);
	if (!name)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	for (size_t i = start; i < len && n < NAME_MAX_LEN; i++) {
		unsigned char c = (unsigned char)source[i];
		bool plain = c < 0x80 && isalnum(c);
		if (plain || (n && (c == '.' || c == '_' || c == '-')))
			name[n++] = (char)c;
		else if (n && name[n - 1] != '-')
			name[n++] = '-';
	}
	while (n && !isalnum((unsigned char)name[n - 1]))
		name[--n] = '\0';
	if (!n) {
		free(name);
		return davit_error_set(err, DAVIT_EINVAL, NULL,
				       "no name can be made from '%.128s'; give one with --name", source);
	}
	*ret = name;
	return 0;
}
