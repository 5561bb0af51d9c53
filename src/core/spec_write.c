/* SPDX-License-Identifier: MIT
 *
 * From a spec to canonical JSON, by the table.
 */
#include "core/spec_table.h"

#include "base/fnv.h"
#include "base/json.h"
#include "base/signals.h"
#include "base/units.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static void write_number(struct davit_json *j, double v)
{
	char buf[32];
	int64_t millionths = llround(v * 1e6);
	int n = snprintf(buf, sizeof buf, "%" PRId64 ".%06" PRId64, millionths / 1000000,
			 millionths % 1000000);

	while (buf[n - 1] == '0')
		n--;
	buf[buf[n - 1] == '.' ? n - 1 : n] = '\0';
	davit_json_raw(j, buf);
}

static void write_exits(struct davit_json *j, const struct davit_ints *ints)
{
	char buf[DAVIT_SIGNAL_MAX];

	davit_json_open_array(j);
	for (size_t i = 0; i < ints->n; i++)
		if (ints->v[i] < 256)
			davit_json_int(j, ints->v[i]);
		else
			davit_json_string(j, davit_signal_format(ints->v[i] - 256, buf));
	davit_json_close_array(j);
}

static void write_strings(struct davit_json *j, char *const *v)
{
	davit_json_open_array(j);
	for (; v && *v; v++)
		davit_json_string(j, *v);
	davit_json_close_array(j);
}

static bool is_given(const struct davit_spec_row *row, const void *base, const void *defaults);
static void write_row(struct davit_json *j, const struct davit_spec_row *row, const void *base);

/* An item in its long form, without what is as by default. */
static void write_item(struct davit_json *j, const struct davit_spec_item *item, const void *at)
{
	_Alignas(max_align_t) char deflt[256] = {0};

	for (size_t i = 0; i < item->n_rows; i++)
		if (item->rows[i].deflt)
			davit_spec_read_scalar(&item->rows[i], item->rows[i].deflt, deflt, NULL);
	davit_json_open(j);
	for (size_t i = 0; i < item->n_rows; i++)
		if (is_given(&item->rows[i], at, deflt)) {
			davit_json_key(j, item->rows[i].path);
			write_row(j, &item->rows[i], at);
		}
	davit_json_close(j);
}

static void write_items(struct davit_json *j, const struct davit_spec_row *row, const void *base)
{
	const char *v = *(const char **)davit_spec_at(row, base);
	const struct davit_spec_item *item = row->item;
	char buf[64];

	if (item->from_pair)
		davit_json_open(j);
	else
		davit_json_open_array(j);
	for (size_t i = 0; i < *davit_spec_n(row, base); i++, v += item->size)
		if (item->from_pair)
			davit_json_put_string(j, item->pair_name(v), item->pair_text(v, buf));
		else
			write_item(j, item, v);
	if (item->from_pair)
		davit_json_close(j);
	else
		davit_json_close_array(j);
}

static void write_row(struct davit_json *j, const struct davit_spec_row *row, const void *base)
{
	const void *at = davit_spec_at(row, base);
	char buf[64];

	switch (row->type) {
	case DAVIT_TYPE_STRING:
		davit_json_string(j, *(const char *const *)at);
		break;
	case DAVIT_TYPE_CHARS:
		davit_json_string(j, at);
		break;
	case DAVIT_TYPE_STRINGS:
		write_strings(j, *(char **const *)at);
		break;
	case DAVIT_TYPE_INT:
		davit_json_int(j, davit_spec_load(row, base));
		break;
	case DAVIT_TYPE_BOOL:
		davit_json_bool(j, *(const bool *)at);
		break;
	case DAVIT_TYPE_NUMBER:
		write_number(j, *(const double *)at);
		break;
	case DAVIT_TYPE_SIZE:
		davit_json_string(j, davit_size_format(*(const uint64_t *)at, buf));
		break;
	case DAVIT_TYPE_DURATION:
		davit_json_string(j, davit_duration_format(*(const int64_t *)at, buf));
		break;
	case DAVIT_TYPE_CPU:
		davit_json_string(j, davit_cpu_format(*(const int64_t *)at, buf));
		break;
	case DAVIT_TYPE_ENUM:
		davit_json_string(j, davit_spec_word(row->values, davit_spec_load(row, base), buf));
		break;
	case DAVIT_TYPE_SIGNAL:
		davit_json_string(j, davit_signal_format(*(const int *)at, buf));
		break;
	case DAVIT_TYPE_EXITS:
		write_exits(j, at);
		break;
	case DAVIT_TYPE_ITEMS:
		write_items(j, row, base);
		break;
	}
}

/* Does it differ from the default? */
static bool is_given(const struct davit_spec_row *row, const void *base, const void *defaults)
{
	const void *at = davit_spec_at(row, base);
	const char *s;

	switch (row->type) {
	case DAVIT_TYPE_STRING:
		s = *(const char *const *)at;
		return s && (!row->deflt || strcmp(s, row->deflt) != 0);
	case DAVIT_TYPE_CHARS:
		return *(const char *)at;
	case DAVIT_TYPE_STRINGS:
		return *(char **const *)at && **(char **const *)at;
	case DAVIT_TYPE_EXITS:
		return ((const struct davit_ints *)at)->n > 0;
	case DAVIT_TYPE_ITEMS:
		return *davit_spec_n(row, base) > 0;
	default:
		return memcmp(at, davit_spec_at(row, defaults), row->size) != 0;
	}
}

/* Closes the groups that `path` is not in and opens those that it is in. */
static const char *enter(struct davit_json *j, const char *from, const char *path)
{
	size_t common = 0;
	const char *p;

	for (size_t i = 0; from[i] && from[i] == path[i]; i++)
		if (from[i] == '.')
			common = i + 1;
	for (p = from + common; (p = strchr(p, '.')); p++)
		davit_json_close(j);
	path += common;
	for (; (p = strchr(path, '.')); path = p + 1) {
		char key[32];
		size_t n = (size_t)(p - path);
		memcpy(key, path, n);
		key[n] = '\0';
		davit_json_key(j, key);
		davit_json_open(j);
	}
	return path;
}

static void write_spec(struct davit_buf *out, const struct davit_spec *s, bool only_replacing)
{
	const struct davit_spec *defaults = davit_spec_defaults();
	struct davit_json j = DAVIT_JSON_INIT(out);
	const char *last = "";

	davit_json_open(&j);
	for (size_t i = 0; i < davit_spec_n_rows; i++) {
		const struct davit_spec_row *row = &davit_spec_rows[i];
		if ((only_replacing && !row->replaces) || !is_given(row, s, defaults))
			continue;
		davit_json_key(&j, enter(&j, last, row->path));
		write_row(&j, row, s);
		last = row->path;
	}
	enter(&j, last, "");
	davit_json_close(&j);
}

char *davit_spec_json(const struct davit_spec *s)
{
	struct davit_buf out = DAVIT_BUF_INIT;
	char *text;

	davit_buf_reserve(&out, 512);
	write_spec(&out, s, false);
	text = davit_buf_take(&out);
	davit_buf_fini(&out);
	return text;
}

uint64_t davit_spec_hash(const struct davit_spec *s)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	uint64_t h;

	write_spec(&out, s, true);
	if (out.oom)
		return 0;
	h = davit_fnv(DAVIT_FNV_BASIS, out.data, out.len);
	return h ? h : 1;
}
