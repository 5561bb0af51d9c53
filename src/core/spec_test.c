/* SPDX-License-Identifier: MIT
 *
 * Whether the table of a spec's options is whole, what is refused, and the hash. (What short forms mean is in
 * spec_forms_test.c, what a spec costs in spec_memory_test.c.)
 */
#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "base/units.h"
#include "core/spec_table.h"
#include "core/test_spec.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* ------------------------------------------------------------- the table is whole */

/* A value of the row that is not its default, as JSON. */
static void sample(const struct davit_spec_row *row, struct davit_json *j)
{
	char buf[64];

	switch (row->type) {
	case DAVIT_TYPE_STRING:
		davit_json_string(j, "other");
		break;
	case DAVIT_TYPE_STRINGS:
		if (row->each) {
			davit_json_raw(j, !strcmp(row->path, "dns") ? "[\"::1\",\"10.0.0.1\"]"
					  : !strcmp(row->path, "egress.hosts")
						  ? "[\"a.test:443\",\"10.0.0.0/8\"]"
						  : "[\"CAP_CHOWN\",\"CAP_KILL\"]");
			break;
		}
		davit_json_raw(j, "[\"a b\",\"\xc3\xbc\\n\\\"\"]");
		break;
	case DAVIT_TYPE_INT:
		davit_json_int(j, row->max - 1);
		break;
	case DAVIT_TYPE_BOOL:
		davit_json_bool(j, true);
		break;
	case DAVIT_TYPE_NUMBER:
		davit_json_raw(j, row->max == 1 ? "0.123457" : "7.25");
		break;
	case DAVIT_TYPE_SIZE:
		davit_json_string(j, "1234567891");
		break;
	case DAVIT_TYPE_DURATION:
		davit_json_string(j, "2s345ms6us7ns");
		break;
	case DAVIT_TYPE_CPU:
		davit_json_string(j, "1234m");
		break;
	case DAVIT_TYPE_ENUM: /* the last word is never the default */
		davit_json_string(j, davit_spec_word(row->values, 1, buf));
		break;
	case DAVIT_TYPE_SIGNAL:
		davit_json_string(j, "SIGRTMIN+3");
		break;
	case DAVIT_TYPE_EXITS:
		davit_json_raw(j, "[3,\"SIGUSR1\"]");
		break;
	default:
		fail_msg("no sample of %s", row->path);
	}
}

static const char *items_sample(const struct davit_spec_row *row)
{
	static const char *const samples[][2] = {
		{"env", "{\"A\":\"b=c\",\"B\":\"\"}"},
		{"metadata", "{\"team\":\"x y\"}"},
		{"rlimits", "{\"nofile\":\"1024:4096\",\"core\":\"unlimited\",\"nproc\":\"7\"}"},
		{"dependsOn",
		 "[{\"service\":\"db\"},{\"service\":\"a/b:c:/=\",\"condition\":\"completed\"}]"},
		{"ports", "[{\"name\":\"http\",\"container\":80,\"host\":8080,\"bind\":\"::1\","
			  "\"protocol\":\"udp\"},{\"container\":81}]"},
		{"volumes", "[{\"source\":\"/a\",\"target\":\"/b\",\"readOnly\":true},"
			    "{\"source\":\"v\",\"target\":\"/v\",\"type\":\"volume\"},"
			    "{\"target\":\"/t\",\"type\":\"tmpfs\",\"size\":\"64Mi\"}]"},
		{"health",
		 "[{\"role\":\"readiness\",\"name\":\"n\",\"path\":\"/h\",\"host\":\"x\",\"port\":80,"
		 "\"status\":204,\"interval\":\"5s\",\"timeout\":\"1s\",\"retries\":4,\"startPeriod\":\"1m\","
		 "\"fastInterval\":\"100ms\"},{\"type\":\"tcp\",\"port\":5432},"
		 "{\"type\":\"command\",\"command\":[\"a b\",\"c\"]}]"},
		{"secrets", "[{\"name\":\"a\"},{\"name\":\"b\",\"env\":\"B\"}]"},
	};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(samples); i++)
		if (!strcmp(samples[i][0], row->path))
			return samples[i][1];
	fail_msg("no sample of %s", row->path);
	return NULL;
}

/* {"kind", "name", what the row needs beside it, and the row unless it is NULL}. */
static char *spec_with(const struct davit_spec_row *row, bool with)
{
	static const char *const beside[][2] = {
		{"ready.fd", "fd"},
		{"ready.port", "port"},
		{"ready.pattern", "log"},
	};
	struct davit_buf b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);
	enum davit_kind kind = row->kinds & 1	? DAVIT_KIND_SERVICE
			       : row->kinds & 2 ? DAVIT_KIND_SUPERVISOR
						: DAVIT_KIND_NAMESPACE;
	const char *rest = row->path, *dot;
	int depth = 0;

	davit_json_open(&j);
	if (!with || strcmp(row->path, "kind") != 0)
		davit_json_put_string(&j, "kind", davit_spec_kind_name(kind));
	if (!with || strcmp(row->path, "name") != 0)
		davit_json_put_string(&j, "name", "web");
	if (kind == DAVIT_KIND_SERVICE &&
	    (!with || (strcmp(row->path, "kind") != 0 && strcmp(row->path, "image") != 0)))
		davit_json_put_string(&j, "image", "img");
	if (!strcmp(row->path, "cooldown"))
		davit_json_put_string(&j, "escalation", "restart");
	if (with) {
		for (; (dot = strchr(rest, '.')); rest = dot + 1, depth++) {
			char group[32];
			snprintf(group, sizeof group, "%.*s", (int)(dot - rest), rest);
			davit_json_key(&j, group);
			davit_json_open(&j);
		}
		for (size_t i = 0; i < DAVIT_ARRAY_SIZE(beside); i++)
			if (!strcmp(row->path, beside[i][0]))
				davit_json_put_string(&j, "type", beside[i][1]);
		if (!strcmp(row->path, "logs.rate"))
			davit_json_put_string(&j, "policy", "drop");
		if (!strcmp(row->path, "logs.policy"))
			davit_json_put_string(&j, "rate", "1Mi");
		if (!strcmp(row->path, "egress.hosts"))
			davit_json_put_string(&j, "policy", "deny");
		davit_json_key(&j, rest);
		if (row->type == DAVIT_TYPE_ITEMS)
			davit_json_raw(&j, items_sample(row));
		else
			sample(row, &j);
		while (depth--)
			davit_json_close(&j);
	}
	davit_json_close(&j);
	return davit_buf_take(&b);
}

static void every_option_survives_the_round_trip(void **state)
{
	(void)state;
	for (size_t i = 0; i < davit_spec_n_rows; i++) {
		const struct davit_spec_row *row = &davit_spec_rows[i];
		char *text = spec_with(row, true), *without = spec_with(row, false);
		struct davit_spec *once = test_spec(text), *twice, *copy, *base = test_spec(without);
		char *a = davit_spec_json(once), *b, *c, *d = davit_spec_json(base);

		twice = test_spec(a);
		copy = davit_spec_dup(twice);
		b = davit_spec_json(twice);
		c = davit_spec_json(copy);
		assert_string_equal(a, b);
		assert_string_equal(a, c);
		if (!strcmp(a, d))
			fail_msg("%s makes no difference: %s", row->path, a);
		davit_spec_free(once);
		davit_spec_free(twice);
		davit_spec_free(copy);
		davit_spec_free(base);
		free(text);
		free(without);
		free(a);
		free(b);
		free(c);
		free(d);
	}
}

/* The members that the header declares, one call for each name. */
static void each_member(const char *header, void (*fn)(const char *name))
{
	const char *p = strstr(header, "struct davit_spec {"), *end;

	assert_non_null(p);
	p += strlen("struct davit_spec {");
	end = strstr(p, "\n};");
	while (p < end) {
		char name[64];
		size_t n = 0;

		if (!strncmp(p, "/*", 2)) {
			p = strstr(p, "*/") + 2;
			continue;
		}
		if (!isalnum((unsigned char)*p) && *p != '_') {
			p++;
			continue;
		}
		while (isalnum((unsigned char)*p) || *p == '_')
			name[n++] = *p++;
		name[n] = '\0';
		if (*p == ';' || *p == ',') /* what stands before these is a name */
			fn(name);
	}
}

static size_t members;

static void has_row(const char *name)
{
	members++;
	/* Not of the spec, but of the text that it was read from. */
	if (!strcmp(name, "line") || !strcmp(name, "column"))
		return;
	for (size_t i = 0; i < davit_spec_n_rows; i++) {
		const char *member = davit_spec_rows[i].member;
		size_t n = strlen(name);

		/* "backoff" is covered by its own members, "n_env" by "env" */
		if (!strncmp(member, name, n) && (!member[n] || member[n] == '.'))
			return;
		if (davit_spec_rows[i].type == DAVIT_TYPE_ITEMS && !strncmp(name, "n_", 2) &&
		    !strcmp(member, name + 2))
			return;
	}
	fail_msg("no row of the table has the member '%s' of struct davit_spec", name);
}

static void every_member_of_the_struct_is_in_a_row(void **state)
{
	DAVIT_AUTO_BUF header = DAVIT_BUF_INIT;

	(void)state;
	assert_int_equal(davit_read_file(DAVIT_TEST_ROOT "/include/davit/spec.h", 1 << 20, &header, NULL), 0);
	each_member(header.data, has_row);
	assert_true(members > 60); /* the header was understood */
}

static void the_table_is_well_formed(void **state)
{
	size_t n;
	const struct davit_spec_field *f = davit_spec_fields(&n);

	(void)state;
	assert_int_equal(n, davit_spec_n_rows);
	for (size_t i = 0; i < n; i++) {
		assert_non_null(f[i].doc);
		assert_int_equal(f[i].doc[strlen(f[i].doc) - 1], '.');
		assert_true((f[i].values != NULL) == !strcmp(f[i].type, "enum"));
		for (size_t k = 0; k < i; k++) {
			assert_string_not_equal(f[i].path, f[k].path);
			assert_true(!f[i].flag || !f[k].flag || strcmp(f[i].flag, f[k].flag) != 0);
		}
	}
}

/* ----------------------------------------------------------------------- refusals */

static void assert_refused(const char *text, size_t len, const char *message)
{
	struct davit_spec **specs = NULL;
	struct davit_error err;
	size_t n = 77;
	unsigned line, column;

	assert_int_equal(davit_spec_parse(text, len, "web.yaml", &specs, &n, &err), DAVIT_EINVAL);
	assert_string_equal(err.message, message);
	assert_int_equal(err.code, DAVIT_EINVAL);
	assert_null(specs);
	assert_int_equal(n, 77);
	if (sscanf(err.message, "web.yaml:%u:%u: ", &line, &column) == 2) {
		assert_int_equal(err.line, line);
		assert_int_equal(err.column, column);
	}
}

static void every_malformed_spec_is_refused_with_its_message(void **state)
{
	FILE *f = fopen(DAVIT_TEST_ROOT "/test/spec/malformed.txt", "re");
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	DAVIT_AUTO_FREE char *line = NULL;
	size_t cap = 0, cases = 0;
	ssize_t n;

	(void)state;
	assert_non_null(f);
	while ((n = getline(&line, &cap, f)) > 0) {
		if (!strncmp(line, "## ", 3) || !cases) {
			davit_buf_reset(&text);
			cases += !strncmp(line, "## ", 3);
		} else if (!strncmp(line, "=> ", 3)) {
			line[strcspn(line, "\n")] = '\0';
			assert_refused(text.data, text.len, line + 3);
		} else {
			davit_buf_add(&text, line, (size_t)n);
		}
	}
	fclose(f);
	assert_true(cases >= 120);
}

static void bytes_that_are_no_text_are_refused(void **state)
{
	static const struct {
		const char *text;
		size_t len;
		const char *message;
	} bad[] = {
#define BAD(t, m) {t, sizeof(t) - 1, "web.yaml:" m}
		BAD("name: web\nsource: a\0b\n", "2:10: a NUL byte is not allowed"),
		BAD("name: \xff\n", "1:7: the byte 0xff is not UTF-8"),
		BAD("name: \xc3\xbc\xc0\x80\n", "1:8: the byte 0xc0 is not UTF-8"),
		BAD("name: \xed\xa0\x80\n", "1:7: the byte 0xed is not UTF-8"),
		BAD("name: \xf4\x90\x80\x80\n", "1:7: the byte 0xf4 is not UTF-8"),
		BAD("name: a\xe2\x82", "1:8: the byte 0xe2 is not UTF-8"),
		BAD("name: a\x01z\n", "1:8: not valid YAML: control characters are not allowed"),
		BAD("source: \"a\\0b\"\n", "1:9: a NUL character is not allowed"),
		BAD("{\"name\": \"a\tb\"}", "1:12: a control character in a string; write it as \\u0009"),
		BAD("\xef\xbb\xbfname: a b\n",
		    "1:7: name: 'a b' may have only letters (a-z, A-Z), digits, '.', '_' and '-' in it"),
		BAD("\"na\\e[1mme\": x\n", "1:1: unknown key 'na?[1mme'"),
		BAD("", "1:1: there is no spec in the text"),
	};

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(bad); i++)
		assert_refused(bad[i].text, bad[i].len, bad[i].message);
}

static void limits_hold(void **state)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_spec **specs = NULL;
	struct davit_error err;
	size_t n;

	(void)state;
	for (int i = 0; i < DAVIT_SPEC_COUNT_MAX; i++)
		davit_buf_addf(&b, "%s{\"name\":\"s%d\",\"source\":\".\"}", i ? ",\n" : "[", i);
	davit_buf_addc(&b, ']');
	assert_int_equal(davit_spec_parse(b.data, b.len, NULL, &specs, &n, &err), 0);
	assert_int_equal(n, DAVIT_SPEC_COUNT_MAX);
	davit_spec_free_all(specs, n);
	b.data[--b.len] = '\0';
	davit_buf_adds(&b, ",\n{\"name\":\"one-more\",\"source\":\".\"}]");
	assert_refused(b.data, b.len, "web.yaml:10001:1: more than 10000 specs");

	davit_buf_reset(&b);
	davit_buf_adds(&b, "{\"name\":\"web\",\n\"args\":[0");
	for (int i = 0; i < DAVIT_TREE_NODES_MAX; i++)
		davit_buf_adds(&b, ",0");
	davit_buf_adds(&b, "]}");
	assert_refused(b.data, b.len, "web.yaml:2:40003: a spec has more than 20000 values");

	davit_buf_reset(&b);
	davit_buf_adds(&b, "name: web\nsource: .\nports:\n");
	for (int i = 0; i < 1001; i++)
		davit_buf_adds(&b, "  - 0\n");
	assert_refused(b.data, b.len, "web.yaml:4:3: ports: has 1001 entries, and 1000 are allowed");

	davit_buf_reset(&b);
	davit_buf_adds(&b, "name: web\nsource: .\nmetadata:\n");
	for (int i = 0; i < 100; i++)
		davit_buf_addf(&b, "  k%d: v\n", i);
	davit_buf_adds(&b, "  k50: again\n");
	assert_refused(b.data, b.len, "web.yaml:104:3: the key 'k50' is given twice, first in line 54");

	while (b.len <= DAVIT_SPEC_TEXT_MAX)
		davit_buf_adds(&b, "# a comment that goes on and on\n");
	assert_refused(b.data, b.len, "web.yaml: the text is larger than 4 MiB");
}

static void names_are_checked(void **state)
{
	static const char *const good[] = {"a", "A-1_b.c", "0"};
	static const char *const bad[] = {"", ".a", "a/b", "a b", "\xc3\xbc", "a\n"};
	struct davit_service_ref ref;
	struct davit_error err;

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(good); i++)
		assert_int_equal(davit_name_check("name", good[i], &err), 0);
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(bad); i++)
		assert_int_equal(davit_name_check("name", bad[i], &err), DAVIT_EINVAL);
	assert_int_equal(davit_name_check("version", "a:b/c=d", &err), 0);
	assert_int_equal(davit_service_ref_parse("ns/web:v1:x/y", &ref, &err), 0);
	assert_string_equal(ref.namespace_, "ns");
	assert_string_equal(ref.name, "web");
	assert_string_equal(ref.version, "v1:x/y");
	assert_int_equal(davit_service_ref_parse("web:v/1", &ref, &err), 0);
	assert_string_equal(ref.namespace_, "");
	assert_string_equal(ref.name, "web");
	assert_int_equal(davit_service_ref_parse("web:", &ref, &err), DAVIT_EINVAL);
	assert_int_equal(davit_service_ref_parse("/web", &ref, &err), DAVIT_EINVAL);
}

static void a_changed_copy_is_checked_again(void **state)
{
	struct davit_spec *s = test_spec(WEB), *copy = davit_spec_dup(s);
	struct davit_error err;

	(void)state;
	assert_int_equal(davit_spec_check(copy, &err), 0);
	copy->instances = -5;
	assert_int_equal(davit_spec_check(copy, &err), DAVIT_EINVAL);
	assert_string_equal(err.message, "instances: -5 is out of range: 0 to 10000");
	assert_string_equal(err.where, "instances");
	assert_int_equal(s->instances, 1);
	davit_spec_free(copy);
	davit_spec_free(s);
}

/* ----------------------------------------------------------------- hash and memory */

static uint64_t hash_of(const char *text)
{
	struct davit_spec *s = test_spec(text);
	uint64_t h = davit_spec_hash(s);

	davit_spec_free(s);
	return h;
}

static void the_hash_follows_what_instances_depend_on(void **state)
{
	static const char *const others[] = {"kind",	   "namespace",	  "name",    "version",
					     "metadata",   "instances",	  "stopped", "dependsOn",
					     "supervisor", "significant", "health"};
	static const char *const groups[] = {"restart.", "stop.", "update."};

	(void)state;
	for (size_t i = 0; i < davit_spec_n_rows; i++) {
		const struct davit_spec_row *row = &davit_spec_rows[i];
		char *with = spec_with(row, true), *without = spec_with(row, false);
		bool differs = strcmp(row->path, "kind") != 0 && hash_of(with) != hash_of(without);
		bool want = row->kinds & 1; /* of services */

		for (size_t k = 0; k < DAVIT_ARRAY_SIZE(others); k++)
			want &= strcmp(row->path, others[k]) != 0;
		for (size_t k = 0; k < DAVIT_ARRAY_SIZE(groups); k++)
			want &= strncmp(row->path, groups[k], strlen(groups[k])) != 0;
		if (!strcmp(row->path, "ready.timeout"))
			want = false;
		if (differs != want)
			fail_msg("%s: the hash %s", row->path, differs ? "differs" : "is the same");
		free(with);
		free(without);
	}
}

/* A value that instances of an older davit were started with. */
static void the_hash_is_stable(void **state)
{
	(void)state;
	assert_true(hash_of(WEB) == UINT64_C(0xa2890505637292cc));
	assert_true(hash_of(WEB "env: {B: 1, A: 2}\nports: 8080\nresources: {memory: 64Mi}\n") ==
		    UINT64_C(0x3aac4501f3c5d8ea));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_option_survives_the_round_trip),
		cmocka_unit_test(every_member_of_the_struct_is_in_a_row),
		cmocka_unit_test(the_table_is_well_formed),
		cmocka_unit_test(every_malformed_spec_is_refused_with_its_message),
		cmocka_unit_test(bytes_that_are_no_text_are_refused),
		cmocka_unit_test(limits_hold),
		cmocka_unit_test(names_are_checked),
		cmocka_unit_test(a_changed_copy_is_checked_again),
		cmocka_unit_test(the_hash_follows_what_instances_depend_on),
		cmocka_unit_test(the_hash_is_stable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
