/* SPDX-License-Identifier: MIT
 *
 * The logs facet.
 */
#include "base/buf.h"
#include "test/conformance/harness.h"

#include <stdio.h>

enum { LINES = 64 };

struct reader {
	struct davit_log_reader *r;
	char lines[LINES][64];
	uint64_t cursors[LINES];
	int64_t times[LINES];
	size_t n, pause_at;
	int ended, code;
};

static bool on_line(struct davit_log_reader *r, const struct davit_log_line *line)
{
	struct reader *me = r->owner;

	if (me->n < LINES) {
		snprintf(me->lines[me->n], sizeof me->lines[0], "%c:%.*s",
			 line->stream == DAVIT_STDERR ? 'e' : 'o', (int)line->len, line->text);
		me->cursors[me->n] = line->cursor;
		me->times[me->n] = line->time;
	}
	me->n++;
	return me->n != me->pause_at;
}

static void on_end(struct davit_log_reader *r, int code, const struct davit_error *err)
{
	struct reader *me = r->owner;

	me->ended++;
	me->code = code;
}

static int try_open(struct reader *me, struct thing *t, struct davit_log_query q, struct davit_error *err)
{
	const struct davit_logs_facet *f = rt->driver->logs;
	int r;

	me->n = 0;
	me->ended = 0;
	me->r = calloc(1, sizeof *me->r + f->reader_size);
	*me->r = (struct davit_log_reader){
		.instance = t->inst, .query = q, .owner = me, .line = on_line, .end = on_end};
	enter();
	r = f->open(me->r, err);
	leave();
	if (r < 0) {
		free(me->r);
		me->r = NULL;
	}
	return r;
}

static void open_log(struct reader *me, struct thing *t, struct davit_log_query q)
{
	struct davit_error err;

	if (try_open(me, t, q, &err) < 0)
		fail(__FILE__, __LINE__, "the log did not open: %s", err.message);
}

static void close_log(struct reader *me)
{
	rt->driver->logs->close(me->r);
	rt->driver->logs->close(me->r); /* idempotent */
	free(me->r);
	me->r = NULL;
}

/* Twenty lines and "done", all written. */
static struct thing *printed(void)
{
	struct thing *t;

	need(DAVIT_CAP_LOGS);
	t = running(PRINTS, 20);
	log_text(t, 21);
	return t;
}

static void all(struct reader *me, struct thing *t, struct davit_log_query q)
{
	open_log(me, t, q);
	WAIT(me->ended);
	CHECK_INT(me->ended, 1);
	CHECK_INT(me->code, 0);
	close_log(me);
}

static void lines_come_whole_and_in_order(void)
{
	static struct reader me;
	struct thing *t = printed();
	char want[64];
	size_t line = 0;
	bool done = false;

	all(&me, t, (struct davit_log_query){.tail = -1});
	CHECK_INT(me.n, 21);
	/* Two streams are two pipes: each is in order in itself. */
	for (size_t i = 0; i < me.n; i++) {
		if (!strcmp(me.lines[i], "e:done")) {
			CHECK(!done);
			done = true;
			continue;
		}
		snprintf(want, sizeof want, "o:line %zu", ++line);
		CHECK_STR(me.lines[i], want);
		CHECK(me.times[i] > 0);
		CHECK(i == 0 || me.cursors[i] > me.cursors[i - 1]);
	}
	CHECK(done);
}

static void a_tail_is_the_last_lines(void)
{
	static struct reader whole, me;
	struct thing *t = printed();

	all(&whole, t, (struct davit_log_query){.tail = -1});
	for (size_t n = 0; n <= 22; n += n < 2 ? 1 : 5) {
		size_t want = n < whole.n ? n : whole.n;
		all(&me, t, (struct davit_log_query){.tail = (int64_t)n});
		CHECK_INT(me.n, want);
		for (size_t i = 0; i < want; i++)
			CHECK_STR(me.lines[i], whole.lines[whole.n - want + i]);
	}
}

static void a_cursor_resumes_behind_its_line(void)
{
	static struct reader whole, me;
	struct thing *t = printed();

	all(&whole, t, (struct davit_log_query){.tail = -1});
	for (size_t at = 0; at < whole.n; at += 4) {
		all(&me, t, (struct davit_log_query){.tail = -1, .after = whole.cursors[at]});
		CHECK_INT(me.n, whole.n - at - 1);
		if (me.n)
			CHECK_STR(me.lines[0], whole.lines[at + 1]);
	}
}

static void since_leaves_out_what_is_older(void)
{
	static struct reader whole, me;
	struct thing *t;
	size_t older = 0;

	need(DAVIT_CAP_LOGS);
	t = running(KEEPS_PRINTING, 0);
	log_text(t, 6);
	CHECK_INT(stop(t, 5 * SEC), 0);
	all(&whole, t, (struct davit_log_query){.tail = -1});
	CHECK(whole.n >= 6 && whole.n < LINES);
	while (whole.times[older] < whole.times[3])
		older++;
	CHECK(older > 0);
	all(&me, t, (struct davit_log_query){.tail = -1, .since = whole.times[3]});
	CHECK_INT(me.n, whole.n - older);
	CHECK_INT(me.times[0], whole.times[3]);
}

static void a_follower_gets_what_comes(void)
{
	static struct reader me;
	struct thing *t;
	size_t seen;

	need(DAVIT_CAP_LOGS);
	t = running(KEEPS_PRINTING, 0);
	open_log(&me, t, (struct davit_log_query){.tail = -1, .follow = true});
	WAIT(me.n >= 3);
	CHECK_STR(me.lines[2], "o:tick");
	CHECK_INT(stop(t, 5 * SEC), 0);
	/* Not at the end of a run: the next one goes to the same log. */
	CHECK_INT(me.ended, 0);
	pass(50 * MSEC);
	seen = me.n;
	CHECK_INT(start(t), 0);
	WAIT(me.n > seen);
	close_log(&me);
}

static void a_paused_reader_misses_nothing(void)
{
	static struct reader me;
	struct thing *t = printed();

	me.pause_at = 4;
	open_log(&me, t, (struct davit_log_query){.tail = -1});
	WAIT(me.n == 4);
	pass(100 * MSEC);
	CHECK_INT(me.n, 4);
	CHECK_INT(me.ended, 0);
	me.pause_at = 0;
	rt->driver->logs->resume(me.r);
	WAIT(me.ended);
	CHECK_INT(me.n, 21);
	close_log(&me);
}

static void no_line_comes_after_close(void)
{
	static struct reader me;
	struct thing *t;
	size_t n;

	need(DAVIT_CAP_LOGS);
	t = running(KEEPS_PRINTING, 0);
	open_log(&me, t, (struct davit_log_query){.tail = -1, .follow = true});
	WAIT(me.n >= 1);
	close_log(&me);
	n = me.n;
	pass(100 * MSEC);
	CHECK_INT(me.n, n);
	CHECK_INT(me.ended, 0);
}

static void a_log_outlives_its_instance_until_discarded(void)
{
	static struct reader me;
	struct thing *t = printed();
	struct davit_error err;

	CHECK_INT(stop(t, 5 * SEC), 0);
	CHECK_INT(remove_(t), 0);
	all(&me, t, (struct davit_log_query){.tail = -1});
	CHECK_INT(me.n, 21);
	rt->driver->logs->discard(rt, t->workload.id);
	if (try_open(&me, t, (struct davit_log_query){.tail = -1}, &err) < 0)
		return;
	WAIT(me.ended);
	CHECK_INT(me.n, 0);
	close_log(&me);
}

static void a_log_survives_with_its_instance(void)
{
	static struct reader me;
	struct thing *t;
	uint64_t cursor;
	size_t before;

	need(DAVIT_CAP_LOGS);
	need(DAVIT_CAP_SURVIVE);
	t = running(KEEPS_PRINTING, 0);
	open_log(&me, t, (struct davit_log_query){.tail = -1, .follow = true});
	WAIT(me.n >= 3);
	before = me.n;
	cursor = me.cursors[2];
	close_log(&me);
	CHECK(before < LINES);
	close_runtime();
	pass(100 * MSEC);
	open_runtime();
	adopt(false);
	open_log(&me, t, (struct davit_log_query){.tail = -1, .after = cursor, .follow = true});
	WAIT(me.n >= before - 3 + 3); /* what was written meanwhile is there */
	CHECK_STR(me.lines[0], "o:tick");
	CHECK(me.cursors[0] > cursor);
	close_log(&me);
}

const struct test log_tests[] = {
	{"lines come whole, in order, with their stream and time", lines_come_whole_and_in_order},
	{"a tail is the last lines", a_tail_is_the_last_lines},
	{"a cursor resumes behind its line", a_cursor_resumes_behind_its_line},
	{"since leaves out what is older", since_leaves_out_what_is_older},
	{"a follower gets what is written later, of further runs too", a_follower_gets_what_comes},
	{"a paused reader gets no line and misses none", a_paused_reader_misses_nothing},
	{"no line comes after close", no_line_comes_after_close},
	{"a log outlives its instance until it is discarded", a_log_outlives_its_instance_until_discarded},
	{"a log goes on while the daemon is away", a_log_survives_with_its_instance},
	{0},
};
