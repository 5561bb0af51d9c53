/* SPDX-License-Identifier: MIT
 *
 * From the text of one value to a member of the spec.
 */
#include "core/spec_table.h"

#include "base/signals.h"
#include "base/units.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int number(const char *text, int64_t min, int64_t max, double *ret, struct davit_error *err)
{
	int64_t whole = 0, part = 0, unit = 1000000, v;
	const char *p = text;

	/* By hand and in millionths: strtod would follow the locale, and a value
	 * that is written must be read back as the same one. */
	for (; *p >= '0' && *p <= '9' && whole < 1000000000; p++)
		whole = whole * 10 + (*p - '0');
	if (p > text && *p == '.')
		for (p++; *p >= '0' && *p <= '9' && unit > 1; p++)
			part += (*p - '0') * (unit /= 10);
	if (p == text || *p || p[-1] == '.')
		return davit_error_set(err, DAVIT_EINVAL, NULL,
				       "'%.64s' is not a number such as 2 or 0.25, with at most six decimals",
				       text);
	v = whole * 1000000 + part;
	if (v < min * 1000000 || v > max * 1000000)
		return davit_error_set(err, DAVIT_EINVAL, NULL,
				       "%.64s is out of range: %" PRId64 " to %" PRId64, text, min, max);
	*ret = (double)v / 1e6;
	return 0;
}

static int duration(const struct davit_spec_row *row, const char *text, int64_t *ret, struct davit_error *err)
{
	char a[DAVIT_TIME_MAX], b[DAVIT_TIME_MAX];
	int64_t v;
	int r = davit_duration_parse(text, &v, err);

	if (r)
		return r;
	if (v < row->min || v > row->max)
		return davit_error_set(err, DAVIT_EINVAL, NULL, "%.64s is out of range: %s to %s", text,
				       davit_duration_format(row->min, a),
				       davit_duration_format(row->max, b));
	*ret = v;
	return 0;
}

/* "a, b or c" */
static void alternatives(const char *values, char *buf, size_t size)
{
	size_t n = 0;

	buf[0] = '\0';
	for (const char *p = values; *p && n < size;) {
		size_t len = strcspn(p, "|");
		const char *after = !p[len] ? "" : strchr(p + len + 1, '|') ? ", " : " or ";
		n += (size_t)snprintf(buf + n, size - n, "%.*s%s", (int)len, p, after);
		p += len + (p[len] != '\0');
	}
}

static int word(const struct davit_spec_row *row, const char *text, void *base, struct davit_error *err)
{
	size_t len = strlen(text);
	char all[160];
	int64_t i = 0;

	for (const char *p = row->values;; i++) {
		size_t n = strcspn(p, "|");
		if (n == len && !memcmp(p, text, n)) {
			davit_spec_store(row, base, i);
			return 0;
		}
		if (!p[n])
			break;
		p += n + 1;
	}
	alternatives(row->values, all, sizeof all);
	return davit_error_set(err, DAVIT_EINVAL, NULL, "'%.64s' is not %s", text, all);
}

static int truth(const char *text, bool *ret, struct davit_error *err)
{
	bool yes = !strcmp(text, "true");

	if (!yes && strcmp(text, "false") != 0)
		return davit_error_set(err, DAVIT_EINVAL, NULL, "'%.64s' is not true or false", text);
	*ret = yes;
	return 0;
}

static int characters(const struct davit_spec_row *row, const char *text, char *at, struct davit_error *err)
{
	size_t n = strlen(text);

	if (n >= row->size)
		return davit_error_set(err, DAVIT_EINVAL, NULL, "'%.64s' is longer than %d characters", text,
				       row->size - 1);
	memcpy(at, text, n + 1);
	return 0;
}

int davit_spec_read_scalar(const struct davit_spec_row *row, const char *text, void *base,
			   struct davit_error *err)
{
	void *at = davit_spec_at(row, base);
	int64_t v;
	int r;

	switch (row->type) {
	case DAVIT_TYPE_STRING:
		if (!*text && !row->empty)
			return davit_error_set(err, DAVIT_EINVAL, NULL, "must not be empty");
		*(char **)at = (char *)text;
		return 0;
	case DAVIT_TYPE_CHARS:
		return characters(row, text, at, err);
	case DAVIT_TYPE_INT:
		r = davit_int_parse(text, row->min, row->max, &v, err);
		if (!r)
			davit_spec_store(row, base, v);
		return r;
	case DAVIT_TYPE_BOOL:
		return truth(text, at, err);
	case DAVIT_TYPE_NUMBER:
		return number(text, row->min, row->max, at, err);
	case DAVIT_TYPE_SIZE:
		return davit_size_parse(text, at, err);
	case DAVIT_TYPE_DURATION:
		return duration(row, text, at, err);
	case DAVIT_TYPE_CPU:
		return davit_cpu_parse(text, at, err);
	case DAVIT_TYPE_ENUM:
		return word(row, text, base, err);
	case DAVIT_TYPE_SIGNAL:
		r = davit_signal_parse(text);
		if (r < 0)
			return davit_error_set(err, DAVIT_EINVAL, NULL,
					       "'%.64s' is not a signal such as SIGTERM or HUP", text);
		*(int *)at = r;
		return 0;
	case DAVIT_TYPE_STRINGS:
	case DAVIT_TYPE_EXITS:
	case DAVIT_TYPE_ITEMS:
		break;
	}
	return davit_error_set(err, DAVIT_EINTERNAL, NULL, "not a scalar");
}
