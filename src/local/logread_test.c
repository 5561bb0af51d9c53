/* SPDX-License-Identifier: MIT
 *
 * The reader against fixtures, and against a plain model of what it should deliver.
 */
#include "local/logread.h"

#include "base/file.h"
#include "base/units.h"
#include "base/util.h"

#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define T0 INT64_C(1767323045000000000) /* 2026-01-02T03:04:05Z */

/* A log being written, as the keeper does it. */
struct fixture {
	char dir[64];
	uint64_t offset, segment;
	int64_t now;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);

	assert_non_null(f);
	snprintf(f->dir, sizeof f->dir, "/tmp/davit-logread-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->now = T0;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(davit_remove_tree(f->dir, NULL), 0);
	free(f);
	return 0;
}

static void put(struct fixture *f, const char *data, size_t n)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof path, "%s/%020" PRIu64 ".log", f->dir, f->segment);
	file = fopen(path, "ae");
	assert_non_null(file);
	assert_int_equal(fwrite(data, 1, n, file), n);
	fclose(file);
	f->offset += n;
}

static void record(struct fixture *f, const char *stream, char tag, const char *text)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	char when[DAVIT_TIME_MAX];

	davit_buf_addf(&b, "%s %s %c %s\n", davit_time_format(f->now, when), stream, tag, text);
	put(f, b.data, b.len);
	f->now += DAVIT_NSEC_PER_MSEC;
}

static void out(struct fixture *f, const char *text)
{
	record(f, "stdout", 'F', text);
}

static void rotate(struct fixture *f)
{
	f->segment = f->offset;
}

static void drop_segment(struct fixture *f, uint64_t at)
{
	char path[128];

	snprintf(path, sizeof path, "%s/%020" PRIu64 ".log", f->dir, at);
	assert_int_equal(unlink(path), 0);
}

/* What a reader delivered: "o:text|e:text|", and the cursors. */
struct got {
	struct davit_buf text;
	uint64_t cursors[4096];
	int64_t times[4096];
	size_t lens[4096];
	size_t n;
	int pause_every; /* 0: never */
};

static bool on_line(void *user, const struct davit_log_line *l)
{
	struct got *g = user;

	assert_true(g->n < DAVIT_ARRAY_SIZE(g->cursors));
	assert_true(g->n == 0 || l->cursor > g->cursors[g->n - 1]);
	g->cursors[g->n] = l->cursor;
	g->times[g->n] = l->time;
	g->lens[g->n++] = l->len;
	davit_buf_addf(&g->text, "%c:", l->stream == DAVIT_STDERR ? 'e' : 'o');
	davit_buf_add(&g->text, l->text, l->len);
	davit_buf_addc(&g->text, '|');
	return !g->pause_every || g->n % (size_t)g->pause_every;
}

static void drain(struct logread *lr)
{
	int r;

	for (int steps = 0; (r = logread_step(lr, NULL)) != LOGREAD_IDLE; steps++) {
		assert_true(r >= 0);
		assert_true(steps < 10000);
	}
}

static void read_query(struct fixture *f, struct davit_log_query q, struct got *g)
{
	struct logread lr;

	assert_int_equal(logread_open(&lr, f->dir, &q, on_line, g, NULL), 0);
	drain(&lr);
	logread_close(&lr);
}

static struct got *got_new(void)
{
	struct got *g = calloc(1, sizeof *g);

	assert_non_null(g);
	return g;
}

static void got_free(struct got *g)
{
	davit_buf_fini(&g->text);
	free(g);
}

static void expect(struct fixture *f, struct davit_log_query q, const char *want)
{
	struct got *g = got_new();

	read_query(f, q, g);
	assert_string_equal(davit_buf_str(&g->text), want);
	got_free(g);
}

static void a_log_that_is_not_there_is_empty(void **state)
{
	struct fixture *f = *state;

	expect(f, (struct davit_log_query){.tail = -1}, "");
	expect(f, (struct davit_log_query){.tail = 5}, "");
	assert_int_equal(davit_remove_tree(f->dir, NULL), 0);
	expect(f, (struct davit_log_query){.tail = -1}, "");
}

static void lines_come_in_order_through_rotation(void **state)
{
	struct fixture *f = *state;

	out(f, "a");
	record(f, "stderr", 'F', "b");
	rotate(f);
	out(f, "");
	rotate(f);
	out(f, "c d");
	expect(f, (struct davit_log_query){.tail = -1}, "o:a|e:b|o:|o:c d|");
}

static void partial_records_are_joined_by_stream(void **state)
{
	struct fixture *f = *state;

	record(f, "stdout", 'P', "one ");
	record(f, "stderr", 'P', "uno ");
	record(f, "stdout", 'P', "two ");
	rotate(f);
	record(f, "stderr", 'F', "dos");
	record(f, "stdout", 'F', "");
	out(f, "next");
	record(f, "stdout", 'P', "not ended");
	expect(f, (struct davit_log_query){.tail = -1}, "e:uno dos|o:one two |o:next|");
	expect(f, (struct davit_log_query){.tail = 1}, "o:next|");
	expect(f, (struct davit_log_query){.tail = 2}, "o:one two |o:next|");
	expect(f, (struct davit_log_query){.tail = 3}, "e:uno dos|o:one two |o:next|");
}

static void a_tail_is_exact_at_every_length(void **state)
{
	struct fixture *f = *state;
	char all[8192] = "", text[32];
	size_t at[301], len = 0;

	for (int i = 0; i < 300; i++) {
		at[i] = len;
		snprintf(text, sizeof text, "line %d", i);
		out(f, text);
		len += (size_t)snprintf(all + len, sizeof all - len, "o:%s|", text);
		if (i % 37 == 36)
			rotate(f);
	}
	at[300] = len;
	for (int n = 0; n <= 300; n += n < 80 ? 1 : 20)
		expect(f, (struct davit_log_query){.tail = n}, all + at[300 - n]);
	expect(f, (struct davit_log_query){.tail = 1000000}, all);
}

/* Long and short records, both streams, pieces, everything crossing chunk borders. */
static void write_mixture(struct fixture *f, unsigned seed, int records)
{
	DAVIT_AUTO_FREE char *text = malloc(16385);

	assert_non_null(text);
	for (int i = 0; i < records; i++) {
		size_t n;

		seed = seed * 1103515245u + 12345u;
		n = (seed >> 16) % 5 ? (seed >> 18) % 200 : 16384;
		memset(text, 'a' + i % 26, n);
		text[n] = '\0';
		record(f, (seed >> 20) % 3 ? "stdout" : "stderr", (seed >> 22) % 4 ? 'F' : 'P', text);
		if ((seed >> 24) % 16 == 0)
			rotate(f);
	}
	out(f, "end");
}

static void a_reader_that_resumes_sees_each_later_line_once(void **state)
{
	struct fixture *f = *state;
	struct got *all = got_new();
	size_t skip = 0;

	write_mixture(f, 7, 400);
	read_query(f, (struct davit_log_query){.tail = -1}, all);
	assert_true(all->n > 200);
	for (size_t i = 0; i < all->n; i++) {
		skip += 2 + all->lens[i] + 1;
		if (i % 3 == 0)
			expect(f, (struct davit_log_query){.tail = -1, .after = all->cursors[i]},
			       all->text.data + skip);
	}
	got_free(all);
}

static void pauses_change_nothing(void **state)
{
	struct fixture *f = *state;
	struct got *all = got_new(), *paused = got_new();

	write_mixture(f, 11, 300);
	read_query(f, (struct davit_log_query){.tail = -1}, all);
	for (paused->pause_every = 1; paused->pause_every < 4; paused->pause_every++) {
		paused->n = 0;
		davit_buf_reset(&paused->text);
		read_query(f, (struct davit_log_query){.tail = -1}, paused);
		assert_string_equal(paused->text.data, all->text.data);
	}
	got_free(all);
	got_free(paused);
}

static void following_loses_and_doubles_nothing_across_rotation(void **state)
{
	struct fixture *f = *state;
	struct davit_log_query q = {.tail = 1, .follow = true};
	struct got *g = got_new();
	DAVIT_AUTO_BUF want = DAVIT_BUF_INIT;
	struct logread lr;
	uint64_t segments[64];
	size_t n = 0;
	char text[32];

	out(f, "before");
	out(f, "last");
	assert_int_equal(logread_open(&lr, f->dir, &q, on_line, g, NULL), 0);
	drain(&lr);
	davit_buf_adds(&want, "o:last|");
	for (int i = 0; i < 200; i++) {
		snprintf(text, sizeof text, "%d", i);
		out(f, text);
		davit_buf_addf(&want, "o:%s|", text);
		if (i % 7 == 0) {
			segments[n++] = f->segment;
			rotate(f);
			out(f, "fresh");
			davit_buf_adds(&want, "o:fresh|");
		}
		/* What was read and rotated away is deleted; what is being read too. */
		if (i % 5 == 0)
			drain(&lr);
		if (n > 1 && i % 35 == 0)
			drop_segment(f, segments[--n]);
	}
	drain(&lr);
	assert_string_equal(g->text.data, want.data);
	logread_close(&lr);
	got_free(g);
}

static void half_a_record_is_waited_for(void **state)
{
	struct fixture *f = *state;
	struct davit_log_query q = {.tail = -1, .follow = true};
	struct got *g = got_new();
	struct logread lr;

	assert_int_equal(logread_open(&lr, f->dir, &q, on_line, g, NULL), 0);
	drain(&lr);
	put(f, "2026-01-02T03:04:05.678901234Z stdout F ha", 42);
	drain(&lr);
	assert_int_equal(g->n, 0);
	put(f, "lf\n", 3);
	drain(&lr);
	assert_string_equal(g->text.data, "o:half|");
	assert_int_equal(g->times[0], T0 + 678901234);
	assert_int_equal(g->cursors[0], f->offset);
	logread_close(&lr);
	got_free(g);
}

static void a_record_torn_by_a_crash_does_not_hold_up_the_next_file(void **state)
{
	struct fixture *f = *state;

	out(f, "whole");
	put(f, "2026-01-02T03:04:05.678", 23);
	rotate(f);
	out(f, "next");
	expect(f, (struct davit_log_query){.tail = -1}, "o:whole|o:next|");
	expect(f, (struct davit_log_query){.tail = 2}, "o:whole|o:next|");
	expect(f, (struct davit_log_query){.tail = 1}, "o:next|");
}

static void a_huge_line_comes_in_pieces(void **state)
{
	struct fixture *f = *state;
	struct got *g = got_new();
	DAVIT_AUTO_FREE char *text = malloc(16385);
	size_t total = 0;

	assert_non_null(text);
	memset(text, 'x', 16384);
	text[16384] = '\0';
	for (int i = 0; i < 64; i++)
		record(f, "stdout", 'P', text);
	record(f, "stdout", 'F', "end");
	out(f, "after");
	read_query(f, (struct davit_log_query){.tail = -1}, g);
	for (size_t i = 0; i + 1 < g->n; i++) {
		assert_true(g->lens[i] <= LOGREAD_LINE_MAX);
		total += g->lens[i];
	}
	assert_int_equal(g->n, 6);
	assert_int_equal(g->lens[0], LOGREAD_LINE_MAX);
	assert_int_equal(total, 64 * 16384 + 3);
	expect(f, (struct davit_log_query){.tail = 1}, "o:after|");
	/* Resumed behind the first piece, the second begins where the first ended. */
	struct got *rest = got_new();

	read_query(f, (struct davit_log_query){.tail = -1, .after = g->cursors[0]}, rest);
	assert_int_equal(rest->n, 5);
	assert_memory_equal(rest->cursors, g->cursors + 1, 5 * sizeof(uint64_t));
	got_free(rest);
	got_free(g);
}

static void since_is_exact_and_skips_older_files(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 40; i++) {
		char text[16];

		snprintf(text, sizeof text, "%d", i);
		out(f, text);
		if (i % 10 == 9)
			rotate(f);
	}
	expect(f, (struct davit_log_query){.tail = -1, .since = T0 + 37 * DAVIT_NSEC_PER_MSEC},
	       "o:37|o:38|o:39|");
	expect(f, (struct davit_log_query){.tail = -1, .since = T0 + 29 * DAVIT_NSEC_PER_MSEC + 1},
	       "o:30|o:31|o:32|o:33|o:34|o:35|o:36|o:37|o:38|o:39|");
	expect(f, (struct davit_log_query){.tail = 2, .since = T0 + 37 * DAVIT_NSEC_PER_MSEC}, "o:38|o:39|");
	expect(f, (struct davit_log_query){.tail = 5, .since = T0 + 38 * DAVIT_NSEC_PER_MSEC}, "o:38|o:39|");
	expect(f, (struct davit_log_query){.tail = -1, .since = INT64_MAX}, "");
}

static void a_cursor_whose_file_is_gone_goes_on_at_what_is_left(void **state)
{
	struct fixture *f = *state;
	uint64_t cursor;

	out(f, "a");
	cursor = f->offset;
	out(f, "b");
	rotate(f);
	out(f, "c");
	drop_segment(f, 0);
	expect(f, (struct davit_log_query){.tail = -1, .after = cursor}, "o:c|");
	expect(f, (struct davit_log_query){.tail = 5}, "o:c|");
	/* The log was discarded and begun anew: everything in it is new. */
	expect(f, (struct davit_log_query){.tail = -1, .after = cursor + 100000}, "o:c|");
}

static void what_is_no_record_is_a_line_all_the_same(void **state)
{
	struct fixture *f = *state;
	DAVIT_AUTO_FREE char *junk = malloc(200001);
	struct got *g = got_new();
	size_t total = 0;

	assert_non_null(junk);
	put(f, "hello\n\n2026-99-99T03:04:05.678901234Z stdout F x\n", 49);
	memset(junk, 'j', 200000);
	junk[200000] = '\n';
	put(f, junk, 200001);
	out(f, "fine");
	read_query(f, (struct davit_log_query){.tail = -1}, g);
	assert_int_equal(
		strncmp(g->text.data, "o:hello|o:|o:2026-99-99T03:04:05.678901234Z stdout F x|o:jjj", 60), 0);
	for (size_t i = 3; i + 1 < g->n; i++)
		total += g->lens[i];
	assert_int_equal(total, 200000);
	expect(f, (struct davit_log_query){.tail = 1}, "o:fine|");
	got_free(g);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_log_that_is_not_there_is_empty),
		TEST(lines_come_in_order_through_rotation),
		TEST(partial_records_are_joined_by_stream),
		TEST(a_tail_is_exact_at_every_length),
		TEST(a_reader_that_resumes_sees_each_later_line_once),
		TEST(pauses_change_nothing),
		TEST(following_loses_and_doubles_nothing_across_rotation),
		TEST(half_a_record_is_waited_for),
		TEST(a_record_torn_by_a_crash_does_not_hold_up_the_next_file),
		TEST(a_huge_line_comes_in_pieces),
		TEST(since_is_exact_and_skips_older_files),
		TEST(a_cursor_whose_file_is_gone_goes_on_at_what_is_left),
		TEST(what_is_no_record_is_a_line_all_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
