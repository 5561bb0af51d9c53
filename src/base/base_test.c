/* SPDX-License-Identifier: MIT */
#include "base/file.h"
#include "base/json.h"
#include "base/list.h"
#include "base/map.h"
#include "base/nearest.h"
#include "base/paths.h"
#include "base/region.h"
#include "base/start.h"
#include "base/strv.h"
#include "base/units.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static void durations_are_read_and_written_exactly(void **state)
{
	static const struct {
		const char *in;
		int64_t ns;
		const char *out;
	} good[] = {
		{"10", 10 * DAVIT_NSEC_PER_SEC, "10s"},
		{"1m30s", 90 * DAVIT_NSEC_PER_SEC, "1m30s"},
		{"500ms", 500 * DAVIT_NSEC_PER_MSEC, "500ms"},
		{"1.5s", 1500 * DAVIT_NSEC_PER_MSEC, "1s500ms"},
		{"2d", 172800 * DAVIT_NSEC_PER_SEC, "2d"},
		{"0", 0, "0s"},
	};
	static const char *const bad[] = {"", "s", "-1s", "1x", "1s2", "99999999999d", "1..5s", "1s ", "1.s"};
	char buf[DAVIT_TIME_MAX];
	struct davit_error err;
	int64_t v;

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(good); i++) {
		assert_int_equal(davit_duration_parse(good[i].in, &v, &err), 0);
		assert_int_equal(v, good[i].ns);
		assert_string_equal(davit_duration_format(v, buf), good[i].out);
	}
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(bad); i++) {
		v = 7;
		assert_int_equal(davit_duration_parse(bad[i], &v, &err), DAVIT_EINVAL);
		assert_int_equal(v, 7);
	}
}

static void sizes_are_binary_or_decimal_by_their_suffix(void **state)
{
	struct davit_error err;
	char buf[DAVIT_TIME_MAX];
	uint64_t v;

	(void)state;
	assert_int_equal(davit_size_parse("64Mi", &v, &err), 0);
	assert_int_equal(v, 64 << 20);
	assert_string_equal(davit_size_format(v, buf), "64Mi");
	assert_int_equal(davit_size_parse("1.5Ki", &v, &err), 0);
	assert_int_equal(v, 1536);
	assert_int_equal(davit_size_parse("10kB", &v, &err), 0);
	assert_int_equal(v, 10000);
	assert_int_equal(davit_size_parse("64Mx", &v, &err), DAVIT_EINVAL);
	assert_int_equal(davit_size_parse("-1", &v, &err), DAVIT_EINVAL);
	assert_int_equal(davit_size_parse("99999999Ti", &v, &err), DAVIT_EINVAL);
}

static void times_make_the_round_trip(void **state)
{
	char buf[DAVIT_TIME_MAX];
	int64_t v;

	(void)state;
	davit_time_format(INT64_C(1767323045678901234), buf);
	assert_string_equal(buf, "2026-01-02T03:04:05.678901234Z");
	assert_int_equal(davit_time_parse(buf, &v, NULL), 0);
	assert_int_equal(v, INT64_C(1767323045678901234));
	assert_int_equal(davit_time_parse("2026-01-02T05:04:05+02:00", &v, NULL), 0);
	assert_int_equal(v, INT64_C(1767323045000000000));
	assert_int_equal(davit_time_parse("yesterday", &v, NULL), DAVIT_EINVAL);
}

static void a_time_is_written_as_the_c_library_has_it(void **state)
{
	static const int64_t edges[] = {INT64_MIN,
					-1,
					0,
					INT64_C(951782399999999999), /* before and after 2000-02-29 */
					INT64_C(951868800000000000),
					INT64_C(4107542399000000000), /* 2100 has no leap day */
					INT64_C(4107542400000000001),
					INT64_MAX};
	char buf[DAVIT_TIME_MAX], want[64];

	(void)state;
	for (int64_t k = -2000; k <= 2000 + (int64_t)DAVIT_ARRAY_SIZE(edges); k++) {
		/* Every 53 days of all that can be told. */
		int64_t ns = k > 2000 ? edges[k - 2001] : k * INT64_C(4611686018427387);
		int64_t s = ns / DAVIT_NSEC_PER_SEC, rest = ns % DAVIT_NSEC_PER_SEC;
		time_t t = (time_t)(rest < 0 ? s - 1 : s);
		struct tm tm;
		size_t n = strftime(want, sizeof want, "%Y-%m-%dT%H:%M:%S", gmtime_r(&t, &tm));

		snprintf(want + n, sizeof want - n, ".%09" PRId64 "Z",
			 rest < 0 ? rest + DAVIT_NSEC_PER_SEC : rest);
		assert_string_equal(davit_time_format(ns, buf), want);
	}
}

static void numbers_and_texts_are_added_whatever_room_is_left(void **state)
{
	(void)state;
	for (size_t filled = 0; filled < 80; filled++) {
		DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;

		for (size_t i = 0; i < filled; i++)
			davit_buf_addc(&b, '.');
		davit_buf_addf(&b, "%s%d", "", 12);
		davit_buf_addf(&b, "%s", "");
		davit_buf_addi(&b, INT64_MIN);
		davit_buf_addi(&b, 0);
		davit_buf_addi(&b, INT64_MAX);
		assert_false(b.oom);
		assert_string_equal(b.data + filled, "12-922337203685477580809223372036854775807");
		assert_int_equal(b.len, strlen(b.data));
	}
}

static void a_character_that_a_text_only_begins_is_left_for_the_next_piece(void **state)
{
	static const struct {
		const char *text;
		size_t whole;
	} t[] = {
		{"", 0},
		{"ab", 2},
		{"a\xc3", 1},
		{"a\xc3\xa9", 3},
		{"\xe2\x82", 0},
		{"\xe2\x82\xac", 3},
		{"a\xf0\x9f\x98", 1},
		{"a\xf0\x9f\x98\x80", 5},
		{"\x80\x80\x80\x80", 4}, /* of no character */
	};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(t); i++)
		assert_int_equal(davit_json_whole(t[i].text, strlen(t[i].text)), t[i].whole);
}

static void json_is_escaped_and_bad_utf8_is_replaced(void **state)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);

	(void)state;
	davit_json_open(&j);
	davit_json_put_string(&j, "a\"\n\x01", "\xc3\xa9\xff\xc0\x80");
	davit_json_key(&j, "l");
	davit_json_open_array(&j);
	davit_json_int(&j, -1);
	davit_json_null(&j);
	davit_json_close_array(&j);
	davit_json_close(&j);
	assert_string_equal(
		davit_buf_str(&b),
		"{\"a\\\"\\n\\u0001\":\"\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\",\"l\":[-1,null]}");
}

static void a_map_survives_growth_and_removal(void **state)
{
	struct davit_map m = {0};
	static char keys[2000][8];
	size_t pos = 0, seen = 0;
	void *v;

	(void)state;
	for (int i = 0; i < 2000; i++) {
		snprintf(keys[i], sizeof keys[i], "k%d", i);
		assert_int_equal(davit_map_put(&m, keys[i], keys[i]), 0);
	}
	for (int i = 0; i < 2000; i += 2)
		assert_ptr_equal(davit_map_remove(&m, keys[i]), keys[i]);
	assert_null(davit_map_get(&m, "k0"));
	assert_ptr_equal(davit_map_get(&m, "k1999"), keys[1999]);
	while (davit_map_next(&m, &pos, NULL, &v))
		seen++;
	assert_int_equal(seen, 1000);
	davit_map_fini(&m);
}

static void the_nearest_word_is_found_only_when_near(void **state)
{
	static const char *const words[] = {"restart", "retries", NULL, "source"};

	(void)state;
	assert_string_equal(davit_nearest("retires", words, 4), "retries");
	assert_string_equal(davit_nearest("Sorce", words, 4), "source");
	assert_null(davit_nearest("zebra", words, 4));
}

static void an_environment_variable_keeps_equal_signs(void **state)
{
	DAVIT_AUTO_STRV env = NULL;

	(void)state;
	assert_int_equal(davit_strv_setenv(&env, "A", "b=c"), 0);
	assert_int_equal(davit_strv_setenv(&env, "AB", "x"), 0);
	assert_int_equal(davit_strv_setenv(&env, "A", "d=e=f"), 0);
	assert_string_equal(davit_strv_getenv(env, "A"), "d=e=f");
	assert_int_equal(davit_strv_len(env), 2);
}

struct member {
	struct davit_list list;
	int number;
};

static void a_list_is_appended_to_another_in_its_order(void **state)
{
	struct davit_list to, from;
	struct member m[5], *pos;
	int n = 0;

	(void)state;
	davit_list_init(&to);
	davit_list_init(&from);
	davit_list_splice(&to, &from); /* nothing to nothing */
	assert_true(davit_list_empty(&to));
	for (int k = 0; k < 5; k++) {
		m[k].number = k;
		davit_list_add_tail(&from, &m[k].list);
		if (k != 1 && k != 4)
			continue;
		davit_list_splice(&to, &from); /* two to none, then three to two */
		assert_true(davit_list_empty(&from));
	}
	davit_list_splice(&to, &from);
	DAVIT_LIST_FOREACH (pos, &to, list)
		assert_int_equal(pos->number, n++);
	assert_int_equal(n, 5);
	for (int k = 0; k < 5; k++)
		davit_list_remove(&m[4 - k].list);
	assert_true(davit_list_empty(&to));
}

static void a_region_keeps_what_it_gave_until_all_of_it_goes(void **state)
{
	struct davit_region r = {0};
	char *first = davit_region_strdup(&r, "first"), *many[2000], *large, text[16];

	for (int k = 0; k < 2000; k++) {
		snprintf(text, sizeof text, "piece %d", k);
		assert_non_null(many[k] = davit_region_strdup(&r, text));
	}
	large = davit_region_take(&r, 1 << 20);
	assert_non_null(large);
	memset(large, 'x', 1 << 20);
	assert_string_equal(first, "first");
	for (int k = 0; k < 2000; k++) {
		snprintf(text, sizeof text, "piece %d", k);
		assert_string_equal(many[k], text);
	}
	assert_null(davit_region_take(&r, SIZE_MAX));
	davit_region_fini(&r);
	assert_null(r.last);
}

static void a_pool_gives_zeroed_pieces_and_takes_them_back_in_any_order(void **state)
{
	enum { PIECES = 300, SIZE = 1000 };
	unsigned char *piece[PIECES];
	struct davit_pool p;

	davit_pool_init(&p, SIZE);
	for (int round = 0; round < 3; round++) {
		for (int k = 0; k < PIECES; k++) {
			piece[k] = davit_pool_take(&p);
			assert_non_null(piece[k]);
			for (int b = 0; b < SIZE; b++)
				assert_int_equal(piece[k][b], 0);
			memset(piece[k], k + 1, SIZE);
		}
		for (int k = 0; k < PIECES; k++)
			assert_true(piece[k][0] == (unsigned char)(k + 1) &&
				    piece[k][SIZE - 1] == (unsigned char)(k + 1));
		for (int k = 0; k < PIECES; k++)
			davit_pool_give(&p, piece[(k * 7) % PIECES]);
		/* One chunk at most is kept for the next. */
		assert_true(p.chunks.next == p.chunks.prev);
	}
	davit_pool_give(&p, NULL);
	davit_pool_fini(&p);
}

static void a_tree_is_removed_however_deep_and_closed(void **state)
{
	char dir[] = "/tmp/davit-base-XXXXXX", whole[64];
	DAVIT_AUTO_CLOSE int at = -1;

	assert_non_null(mkdtemp(dir));
	snprintf(whole, sizeof whole, "%s/tree", dir);
	assert_int_equal(mkdir(whole, 0700), 0);
	at = open(whole, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* Deeper than a path can be long, and than descriptors can be had. */
	for (int i = 0; i < 3000; i++) {
		int next;

		assert_int_equal(mkdirat(at, "directory", 0700), 0);
		assert_int_equal(symlinkat(dir, at, "link"), 0);
		next = openat(at, "directory", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		assert_int_equal(fchmod(at, i % 3 ? 0700 : 0), 0);
		close(at);
		at = next;
	}
	assert_int_equal(davit_remove_tree(whole, NULL), 0);
	assert_int_equal(access(whole, F_OK), -1);
	assert_int_equal(davit_remove_tree(whole, NULL), 0);
	assert_int_equal(rmdir(dir), 0);
}

static void a_program_gets_its_environment_directory_and_group_and_the_signals_defaults(void **state)
{
	char *argv[] = {(char *)"sh", (char *)"-c",
			(char *)"echo $A $HOME $PWD; test $(ps -o pgid= -p $$) -eq $$ && echo group;"
				"test -e /proc/$$/fd/9 || echo closed; kill -PIPE $$",
			NULL};
	char *env[] = {(char *)"A=a", (char *)"PATH=/usr/bin:/bin", NULL};
	struct davit_start s = {
		.program = "/bin/sh",
		.argv = argv,
		.env = env,
		.directory = "/usr",
		.in = DAVIT_START_IN_OWN_GROUP,
		.defaults = true,
		.closed = true,
	};
	char text[64] = "";
	int out[2], status;
	pid_t pid;

	assert_int_equal(pipe(out), 0);
	assert_int_equal(dup2(out[1], 9), 9);
	signal(SIGPIPE, SIG_IGN);
	s.fds[0] = -1;
	s.fds[1] = s.fds[2] = out[1];
	assert_int_equal(davit_start(&s, &pid), 0);
	signal(SIGPIPE, SIG_DFL);
	close(9);
	close(out[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(read(out[0], text, sizeof text - 1) > 0);
	assert_string_equal(text, "a /usr\ngroup\nclosed\n");
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE);
	close(out[0]);
}

static void a_program_gets_its_descriptors_and_session(void **state)
{
	char *argv[] = {(char *)"sh", (char *)"-c",
			(char *)"cat; ps -o sid= -p $$ | tr -d ' \\n' >&2; exit 7", NULL};
	char text[32] = "";
	int out[2], err[2], status;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(out), 0);
	assert_int_equal(pipe(err), 0);
	assert_int_equal(davit_start_program("/bin/sh", argv, (const int[]){-1, out[1], err[1]}, true, &pid),
			 0);
	close(out[1]);
	close(err[1]);
	assert_int_equal(read(out[0], text, sizeof text), 0); /* nothing came from /dev/null */
	assert_true(read(err[0], text, sizeof text - 1) > 0);
	assert_int_equal(atoi(text), pid);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 7);
	close(out[0]);
	close(err[0]);
	assert_int_equal(davit_start_program("/nowhere", argv, (const int[]){-1, -1, -1}, false, &pid),
			 ENOENT);
}

static void programs_are_found_beside_this_one_and_where_packages_put_them(void **state)
{
	char *self = realpath("/proc/self/exe", NULL);
	char *beside = davit_beside_program(strrchr(self, '/') + 1);
	char *sh = davit_installed_program("sh"), *same = davit_installed_program(sh);

	(void)state;
	assert_string_equal(beside, self);
	assert_string_equal(strrchr(sh, '/'), "/sh");
	assert_string_equal(same, sh);
	assert_null(davit_installed_program("no-such-program"));
	assert_null(davit_installed_program("/etc/passwd")); /* nobody may execute it */
	free(self);
	free(beside);
	free(sh);
	free(same);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_list_is_appended_to_another_in_its_order),
		cmocka_unit_test(a_region_keeps_what_it_gave_until_all_of_it_goes),
		cmocka_unit_test(a_pool_gives_zeroed_pieces_and_takes_them_back_in_any_order),
		cmocka_unit_test(durations_are_read_and_written_exactly),
		cmocka_unit_test(sizes_are_binary_or_decimal_by_their_suffix),
		cmocka_unit_test(times_make_the_round_trip),
		cmocka_unit_test(a_time_is_written_as_the_c_library_has_it),
		cmocka_unit_test(numbers_and_texts_are_added_whatever_room_is_left),
		cmocka_unit_test(json_is_escaped_and_bad_utf8_is_replaced),
		cmocka_unit_test(a_character_that_a_text_only_begins_is_left_for_the_next_piece),
		cmocka_unit_test(a_map_survives_growth_and_removal),
		cmocka_unit_test(the_nearest_word_is_found_only_when_near),
		cmocka_unit_test(an_environment_variable_keeps_equal_signs),
		cmocka_unit_test(a_tree_is_removed_however_deep_and_closed),
		cmocka_unit_test(programs_are_found_beside_this_one_and_where_packages_put_them),
		cmocka_unit_test(a_program_gets_its_descriptors_and_session),
		cmocka_unit_test(a_program_gets_its_environment_directory_and_group_and_the_signals_defaults),
	};
	return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
