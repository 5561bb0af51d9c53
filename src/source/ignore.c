/* SPDX-License-Identifier: MIT */
#include "source/ignore.h"

#include "base/strv.h"
#include "base/util.h"

#include <ctype.h>
#include <fnmatch.h>
#include <string.h>

void davit_ignore_fini(struct davit_ignore *g)
{
	for (size_t i = 0; i < g->n_rules; i++)
		free(g->rules[i].pattern);
	free(g->rules);
	davit_strv_free(g->names);
	*g = (struct davit_ignore){0};
}

/* --- reading --- */

/* Without "." and empty parts, as a path would be cleaned. */
static void clean(char *s)
{
	char *to = s;

	for (char *part = s; *part;) {
		size_t n = strcspn(part, "/");
		char *next = part + n + (part[n] == '/');
		if (n && !(n == 1 && *part == '.')) {
			if (to != s)
				*to++ = '/';
			memmove(to, part, n);
			to += n;
		}
		part = next;
	}
	*to = '\0';
}

int davit_ignore_add_rule(struct davit_ignore *g, const char *line, size_t len, struct davit_error *err)
{
	struct davit_ignore_rule *rules, rule = {0};

	while (len && isspace((unsigned char)*line))
		line++, len--;
	while (len && isspace((unsigned char)line[len - 1]))
		len--;
	if (len && *line == '!') {
		rule.except = true;
		line++, len--;
	}
	rule.pattern = strndup(line, len);
	if (!rule.pattern)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	clean(rule.pattern);
	if (!*rule.pattern) {
		free(rule.pattern);
		return 0;
	}
	rules = realloc(g->rules, (g->n_rules + 1) * sizeof *rules);
	if (!rules) {
		free(rule.pattern);
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	g->rules = rules;
	rules[g->n_rules++] = rule;
	return 0;
}

int davit_ignore_add_rules(struct davit_ignore *g, const char *text, struct davit_error *err)
{
	int r = 0;

	if (!strncmp(text, "\xef\xbb\xbf", 3))
		text += 3;
	for (const char *line = text; r == 0 && *line;) {
		size_t n = strcspn(line, "\n");
		if (*line != '#')
			r = davit_ignore_add_rule(g, line, n, err);
		line += n + (line[n] == '\n');
	}
	return r;
}

/* --- matching --- */

static size_t part_of(const char *s)
{
	return strcspn(s, "/");
}

static bool name_matches(const char *pattern, size_t n, const char *name, size_t len)
{
	char p[256], s[256];

	if (n >= sizeof p || len >= sizeof s)
		return false;
	memcpy(p, pattern, n);
	memcpy(s, name, len);
	p[n] = s[len] = '\0';
	return fnmatch(p, s, 0) == 0;
}

static const char *behind(const char *s, size_t n)
{
	return s + n + (s[n] == '/');
}

/* How a pattern stands to a path. */
enum fit {
	FIT_NOT,
	FIT_BELOW, /* something below the path may match */
	FIT_WHOLE, /* the path matches, or one of the directories that it is in */
};

static enum fit fit(const char *pattern, const char *path)
{
	while (*pattern) {
		size_t n = part_of(pattern), len = part_of(path);
		if (n == 2 && !strncmp(pattern, "**", 2)) {
			enum fit best = FIT_NOT, here;
			pattern = behind(pattern, 2);
			if (!*pattern)
				return *path ? FIT_WHOLE : FIT_BELOW;
			for (;; path = behind(path, part_of(path))) {
				here = fit(pattern, path);
				best = here > best ? here : best;
				if (!*path || best == FIT_WHOLE)
					return best;
			}
		}
		if (!*path)
			return FIT_BELOW;
		if (!name_matches(pattern, n, path, len))
			return FIT_NOT;
		pattern = behind(pattern, n);
		path = behind(path, len);
	}
	return FIT_WHOLE;
}

enum davit_ignore_answer davit_ignore_ask(const struct davit_ignore *g, const char *path, bool directory)
{
	const char *slash = strrchr(path, '/');
	bool ignored = false, excepted = false;

	for (char **p = g->names; p && *p; p++)
		if (!fnmatch(*p, slash ? slash + 1 : path, 0))
			return DAVIT_IGNORE_YES;
	for (size_t i = 0; i < g->n_rules; i++) {
		const struct davit_ignore_rule *rule = &g->rules[i];
		enum fit f = fit(rule->pattern, path);
		if (f == FIT_WHOLE)
			ignored = !rule->except;
		if (!rule->except && f == FIT_WHOLE)
			excepted = false;
		excepted |= rule->except && f == FIT_BELOW;
	}
	if (!ignored)
		return DAVIT_IGNORE_NO;
	return directory && excepted ? DAVIT_IGNORE_UNLESS : DAVIT_IGNORE_YES;
}
