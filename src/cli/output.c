/* SPDX-License-Identifier: MIT */
#include "cli/output.h"

#include "base/units.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

static int64_t read_clock(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * DAVIT_NSEC_PER_SEC + ts.tv_nsec;
}

int64_t davit_now(void)
{
	return read_clock(CLOCK_REALTIME);
}

int64_t davit_monotonic(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

char *davit_age_format(int64_t now_ns, int64_t then_ns, char buf[DAVIT_AGE_MAX])
{
	static const struct {
		int64_t seconds;
		char unit;
	} units[] = {{86400, 'd'}, {3600, 'h'}, {60, 'm'}, {1, 's'}};
	bool future = then_ns > now_ns;
	int64_t s = (future ? then_ns - now_ns : now_ns - then_ns) / DAVIT_NSEC_PER_SEC;

	snprintf(buf, DAVIT_AGE_MAX, "just now");
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(units); i++)
		if (s >= units[i].seconds) {
			snprintf(buf, DAVIT_AGE_MAX, "%s%" PRId64 "%c%s", future ? "in " : "",
				 s / units[i].seconds, units[i].unit, future ? "" : " ago");
			break;
		}
	return buf;
}

const char *davit_time_text(const struct davit_cli *cli, const char *time, char buf[DAVIT_AGE_MAX + 8])
{
	int64_t ns;

	if (!time || !time[0])
		return "-";
	if (davit_time_parse(time, &ns, NULL) < 0)
		return time;
	if (cli->tty)
		return davit_age_format(davit_now(), ns, buf);
	snprintf(buf, DAVIT_AGE_MAX + 8, "%.19sZ", time);
	return buf;
}

int davit_print_value(const struct davit_cli *cli, json_t *value, struct davit_error *err)
{
	if (cli->format == DAVIT_FORMAT_YAML)
		return davit_yaml_write(value, stdout, err);
	if (json_dumpf(value, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY) < 0)
		return davit_error_set(err, DAVIT_EIO, NULL, "cannot write the answer");
	putchar('\n');
	return 0;
}

void davit_print_line(json_t *value)
{
	json_dumpf(value, stdout, JSON_COMPACT | JSON_ENCODE_ANY);
	putchar('\n');
}

int davit_print_error(const struct davit_cli *cli, const struct davit_error *err)
{
	json_t *e;

	if (cli->format != DAVIT_FORMAT_JSON) {
		fflush(stdout);
		fprintf(stderr, "davit: %s\n", err->message);
		return cli->usage ? 2 : 1;
	}
	e = json_pack("{s:s, s:s}", "code", davit_error_word(err->code), "message", err->message);
	if (!e) /* a message with bytes that are not UTF-8 */
		e = json_pack("{s:s, s:s}", "code", davit_error_word(err->code), "message", "not UTF-8");
	if (err->where[0])
		json_object_set_new(e, "where", json_string(err->where));
	if (err->line)
		json_object_set_new(e, "line", json_integer(err->line));
	if (err->column)
		json_object_set_new(e, "column", json_integer(err->column));
	e = json_pack("{s:o}", "error", e);
	if (e)
		davit_print_line(e);
	json_decref(e);
	return 1;
}

const char *davit_string(const json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));

	return s ? s : "";
}

int64_t davit_integer(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

const char *davit_text(const json_t *object, const char *key, char buf[24])
{
	const json_t *v = json_object_get(object, key);

	if (json_is_string(v))
		return json_string_value(v);
	if (json_is_boolean(v))
		return json_is_true(v) ? "yes" : "no";
	if (json_is_integer(v)) {
		snprintf(buf, 24, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
		return buf;
	}
	if (json_is_real(v)) {
		snprintf(buf, 24, "%g", json_real_value(v));
		return buf;
	}
	return "";
}
