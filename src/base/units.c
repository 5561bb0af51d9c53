/* SPDX-License-Identifier: MIT */
#include "base/units.h"

#include "base/util.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

/* The last n digits of v, in front of `end`. */
static void digits(char *end, int n, int64_t v)
{
	for (; n > 0; n--, v /= 10)
		*--end = (char)('0' + v % 10);
}

/* The calendar's year, month and day, from days since 1970-01-01: years are counted from
 * March, so that the leap day is the last of its year, in cycles of 400. */
static void civil(int64_t days, int64_t *ret_year, int64_t *ret_month, int64_t *ret_day)
{
	int64_t shifted = days + 719468, cycle = shifted / 146097, in_cycle = shifted % 146097;
	int64_t year = (in_cycle - in_cycle / 1460 + in_cycle / 36524 - in_cycle / 146096) / 365;
	int64_t in_year = in_cycle - (365 * year + year / 4 - year / 100);
	int64_t month = (5 * in_year + 2) / 153;

	*ret_day = in_year - (153 * month + 2) / 5 + 1;
	*ret_month = month < 10 ? month + 3 : month - 9;
	*ret_year = year + 400 * cycle + (*ret_month <= 2);
}

char *davit_time_format(int64_t unix_ns, char buf[DAVIT_TIME_MAX])
{
	int64_t s = unix_ns / DAVIT_NSEC_PER_SEC, ns = unix_ns % DAVIT_NSEC_PER_SEC;
	int64_t day, in_day, y, m, d;

	if (ns < 0) {
		ns += DAVIT_NSEC_PER_SEC;
		s--;
	}
	day = s / 86400;
	in_day = s % 86400;
	if (in_day < 0) {
		in_day += 86400;
		day--;
	}
	civil(day, &y, &m, &d);
	/* Written for each event and line of a log: this takes a tenth of gmtime_r and snprintf. */
	strcpy(buf, "0000-00-00T00:00:00.000000000Z");
	digits(buf + 4, 4, y);
	digits(buf + 7, 2, m);
	digits(buf + 10, 2, d);
	digits(buf + 13, 2, in_day / 3600);
	digits(buf + 16, 2, in_day / 60 % 60);
	digits(buf + 19, 2, in_day % 60);
	digits(buf + 29, 9, ns);
	return buf;
}

/* Reads ".123": nanoseconds, digits beyond the ninth dropped. */
static int64_t fraction(const char **s)
{
	int64_t ns = 0, unit = DAVIT_NSEC_PER_SEC / 10;

	if (**s != '.' || !isdigit((unsigned char)(*s)[1]))
		return 0;
	for ((*s)++; isdigit((unsigned char)**s); (*s)++, unit /= 10)
		ns += (**s - '0') * unit;
	return ns;
}

int davit_time_parse(const char *s, int64_t *ret, struct davit_error *err)
{
	struct tm tm = {0};
	const char *p = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm);
	int64_t ns = 0, offset = 0;

	if (p) {
		ns = fraction(&p);
		if (*p == '+' || *p == '-') {
			int sign = *p == '-' ? -1 : 1, h, m, used = 0;
			if (sscanf(p + 1, "%2d:%2d%n", &h, &m, &used) != 2 || used != 5)
				p = NULL;
			else {
				offset = sign * (h * 3600 + m * 60);
				p += 6;
			}
		} else if (*p == 'Z' || *p == 'z') {
			p++;
		} else {
			p = NULL;
		}
	}
	if (!p || *p)
		return davit_error_set(err, DAVIT_EINVAL, NULL,
				       "'%.64s' is not a time such as 2026-01-02T03:04:05Z", s);
	*ret = ((int64_t)timegm(&tm) - offset) * DAVIT_NSEC_PER_SEC + ns;
	return 0;
}

struct unit {
	const char *name;
	int64_t scale;
};

/* A non-negative decimal number times a scale, exactly or rounded down. */
static int scaled(const char **s, const struct unit *units, size_t n, int64_t bare, int64_t *ret)
{
	const char *p = *s, *digits = p;
	__int128 whole = 0, part = 0, part_unit = 1, v;
	const struct unit *unit = NULL;

	for (; isdigit((unsigned char)*p); p++)
		if ((whole = whole * 10 + (*p - '0')) > INT64_MAX)
			return -1;
	if (p == digits)
		return -1;
	if (*p == '.') {
		if (!isdigit((unsigned char)*++p))
			return -1;
		for (; isdigit((unsigned char)*p); p++)
			if (part_unit < INT64_C(1000000000000)) {
				part = part * 10 + (*p - '0');
				part_unit *= 10;
			}
	}
	for (size_t i = 0; i < n; i++)
		if (!strncmp(p, units[i].name, strlen(units[i].name)) &&
		    (!unit || strlen(units[i].name) > strlen(unit->name)))
			unit = &units[i];
	if (unit)
		p += strlen(unit->name);
	else if (!bare)
		return -1;
	v = whole * (unit ? unit->scale : bare) + part * (unit ? unit->scale : bare) / part_unit;
	if (v > INT64_MAX)
		return -1;
	*s = p;
	*ret = (int64_t)v;
	return 0;
}

int davit_duration_parse(const char *s, int64_t *ret, struct davit_error *err)
{
	static const struct unit units[] = {
		{"ns", 1},
		{"us", 1000},
		{"ms", DAVIT_NSEC_PER_MSEC},
		{"s", DAVIT_NSEC_PER_SEC},
		{"m", 60 * DAVIT_NSEC_PER_SEC},
		{"h", 3600 * DAVIT_NSEC_PER_SEC},
		{"d", 86400 * DAVIT_NSEC_PER_SEC},
	};
	const char *p = s;
	int64_t total = 0, v;
	bool first = true;

	do {
		const char *before = p;
		if (scaled(&p, units, DAVIT_ARRAY_SIZE(units), first ? DAVIT_NSEC_PER_SEC : 0, &v) < 0 ||
		    (*p && isdigit((unsigned char)p[-1])) || p == before ||
		    __builtin_add_overflow(total, v, &total))
			return davit_error_set(err, DAVIT_EINVAL, NULL,
					       "'%.64s' is not a duration such as 10s, 500ms or 1m30s", s);
		first = false;
	} while (*p);
	*ret = total;
	return 0;
}

char *davit_duration_format(int64_t ns, char buf[DAVIT_TIME_MAX])
{
	static const struct unit units[] = {
		{"d", 86400 * DAVIT_NSEC_PER_SEC},
		{"h", 3600 * DAVIT_NSEC_PER_SEC},
		{"m", 60 * DAVIT_NSEC_PER_SEC},
		{"s", DAVIT_NSEC_PER_SEC},
		{"ms", DAVIT_NSEC_PER_MSEC},
		{"us", 1000},
		{"ns", 1},
	};
	size_t n = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(units) && ns; i++) {
		if (ns < units[i].scale)
			continue;
		n += (size_t)snprintf(buf + n, DAVIT_TIME_MAX - n, "%" PRId64 "%s", ns / units[i].scale,
				      units[i].name);
		ns %= units[i].scale;
	}
	if (!n)
		snprintf(buf, DAVIT_TIME_MAX, "0s");
	return buf;
}

static const struct unit size_units[] = {
	{"Ti", INT64_C(1) << 40}, {"Gi", INT64_C(1) << 30},	 {"Mi", INT64_C(1) << 20},
	{"Ki", INT64_C(1) << 10}, {"T", INT64_C(1000000000000)}, {"G", INT64_C(1000000000)},
	{"M", INT64_C(1000000)},  {"K", INT64_C(1000)},		 {"k", INT64_C(1000)},
};

int davit_size_parse(const char *s, uint64_t *ret, struct davit_error *err)
{
	const char *p = s;
	int64_t v;

	if (scaled(&p, size_units, DAVIT_ARRAY_SIZE(size_units), 1, &v) < 0 ||
	    (p[0] && (p[0] != 'B' || p[1])))
		return davit_error_set(err, DAVIT_EINVAL, NULL,
				       "'%.64s' is not a size such as 64Mi, 1.5Gi or 1000", s);
	if (v == 0 && strpbrk(s, "123456789"))
		return davit_error_set(err, DAVIT_EINVAL, NULL, "'%.64s' is less than a byte", s);
	*ret = (uint64_t)v;
	return 0;
}

char *davit_size_format(uint64_t bytes, char buf[DAVIT_TIME_MAX])
{
	for (size_t i = 0; i < 4; i++) {
		uint64_t scale = (uint64_t)size_units[i].scale;
		if (bytes && bytes % scale == 0) {
			snprintf(buf, DAVIT_TIME_MAX, "%" PRIu64 "%s", bytes / scale, size_units[i].name);
			return buf;
		}
	}
	snprintf(buf, DAVIT_TIME_MAX, "%" PRIu64, bytes);
	return buf;
}

int davit_cpu_parse(const char *s, int64_t *ret, struct davit_error *err)
{
	static const struct unit units[] = {{"m", 1}};
	const char *p = s;
	int64_t v;

	if (scaled(&p, units, DAVIT_ARRAY_SIZE(units), 1000, &v) < 0 || *p)
		return davit_error_set(err, DAVIT_EINVAL, NULL,
				       "'%.64s' is not an amount of CPU such as 2, 0.5 or 500m", s);
	/* 0 means no limit: what was asked for must not become that. */
	if (v == 0 && strpbrk(s, "123456789"))
		return davit_error_set(err, DAVIT_EINVAL, NULL, "'%.64s' is less than 1m, the least", s);
	*ret = v;
	return 0;
}

char *davit_cpu_format(int64_t millicores, char buf[DAVIT_TIME_MAX])
{
	if (millicores % 1000 == 0)
		snprintf(buf, DAVIT_TIME_MAX, "%" PRId64, millicores / 1000);
	else
		snprintf(buf, DAVIT_TIME_MAX, "%" PRId64 "m", millicores);
	return buf;
}

int davit_int_parse(const char *s, int64_t min, int64_t max, int64_t *ret, struct davit_error *err)
{
	char *end;
	long long v;

	errno = 0;
	v = strtoll(s, &end, 10);
	if (!*s || isspace((unsigned char)*s) || *s == '+' || *end)
		return davit_error_set(err, DAVIT_EINVAL, NULL, "'%.64s' is not a whole number", s);
	if (errno || v < min || v > max)
		return davit_error_set(err, DAVIT_EINVAL, NULL,
				       "%.64s is out of range: %" PRId64 " to %" PRId64, s, min, max);
	*ret = v;
	return 0;
}

const char *const davit_rlimit_names[DAVIT_RLIMITS] = {
	[RLIMIT_AS] = "as",	      [RLIMIT_CORE] = "core",	      [RLIMIT_CPU] = "cpu",
	[RLIMIT_DATA] = "data",	      [RLIMIT_FSIZE] = "fsize",	      [RLIMIT_LOCKS] = "locks",
	[RLIMIT_MEMLOCK] = "memlock", [RLIMIT_MSGQUEUE] = "msgqueue", [RLIMIT_NICE] = "nice",
	[RLIMIT_NOFILE] = "nofile",   [RLIMIT_NPROC] = "nproc",	      [RLIMIT_RSS] = "rss",
	[RLIMIT_RTPRIO] = "rtprio",   [RLIMIT_RTTIME] = "rttime",     [RLIMIT_SIGPENDING] = "sigpending",
	[RLIMIT_STACK] = "stack",
};
