/* SPDX-License-Identifier: MIT
 *
 * Events through the journal and back: in order, once each, from any id on.
 */
#include "core/event_rows.h"

#include "base/units.h"
#include "base/util.h"
#include "core/journal.h"
#include "davit/loop.h"
#include "store/faulty.h"
#include "store/stores.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
	struct davit_loop *loop;
	struct davit_store *store;
	struct davit_journal *journal;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	struct davit_error err;

	assert_non_null(f);
	*state = f;
	assert_int_equal(davit_loop_open_virtual(1, &f->loop, &err), 0);
	assert_int_equal(davit_store_open(&davit_faulty_store, f->loop, NULL, &f->store, &err), 0);
	assert_int_equal(davit_journal_new(f->loop, f->store, 1000, &f->journal, &err), 0);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	davit_journal_free(f->journal);
	davit_store_close(f->store);
	davit_loop_close(f->loop);
	free(f);
	return 0;
}

static void finish(struct fixture *f)
{
	while (davit_loop_step(f->loop))
		;
}

static void note(struct fixture *f, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		davit_journal_event(f->journal, "\"type\":\"exited\",\"cause\":\"code 1\"}");
}

struct reading {
	uint64_t first, next;
	size_t n, most; /* fn ends it after so many; 0: never */
};

static bool count(void *user, uint64_t id, const char *json)
{
	struct reading *r = user;
	char begins[48];

	snprintf(begins, sizeof begins, "{\"id\":%llu,", (unsigned long long)id);
	assert_int_equal(strncmp(json, begins, strlen(begins)), 0);
	assert_int_equal(json[strlen(json) - 1], '}');
	if (r->n++)
		assert_int_equal(id, r->next);
	else
		r->first = id;
	r->next = id + 1;
	return r->n != r->most;
}

/* Reads what is behind `after`; what comes must be without gap and double. */
static struct reading read_events(struct fixture *f, uint64_t after, size_t limit, size_t most)
{
	struct reading r = {.most = most};
	struct davit_error err;

	assert_int_equal(davit_event_rows_list(f->store, after, limit, count, &r, &err), 0);
	return r;
}

static bool count_row(void *user, const struct davit_kv *kv)
{
	*(size_t *)user += !kv->deleted;
	return true;
}

static size_t rows(struct fixture *f)
{
	struct davit_error err;
	int64_t revision;
	size_t n = 0;

	assert_int_equal(
		f->store->driver->list(f->store, DAVIT_EVENT_PREFIX, NULL, 0, count_row, &n, &revision, &err),
		0);
	return n;
}

static void events_of_one_transaction_share_rows(void **state)
{
	struct fixture *f = *state;
	struct reading r;

	note(f, 500);
	finish(f);
	assert_in_range(rows(f), 2, 10); /* about 25 kB */
	r = read_events(f, 0, 0, 0);
	assert_int_equal(r.first, 1);
	assert_int_equal(r.n, 500);
}

static void reading_goes_on_from_any_id_also_within_a_row(void **state)
{
	struct fixture *f = *state;

	note(f, 300);
	finish(f);
	for (uint64_t after = 0; after < 300; after += 7) {
		struct reading r = read_events(f, after, 0, 0);
		assert_int_equal(r.first, after + 1);
		assert_int_equal(r.n, 300 - after);
		r = read_events(f, after, 5, 0);
		assert_int_equal(r.first, after + 1);
		assert_int_equal(r.n, 300 - after < 5 ? 300 - after : 5);
		r = read_events(f, after, 0, 3);
		assert_int_equal(r.n, 300 - after < 3 ? 300 - after : 3);
	}
	assert_int_equal(read_events(f, 300, 0, 0).n, 0);
	assert_int_equal(read_events(f, UINT64_MAX - 1, 0, 0).n, 0);
}

static void a_large_event_is_whole_and_alone(void **state)
{
	DAVIT_AUTO_FREE char *fields = malloc(20000);
	struct fixture *f = *state;
	struct reading r;

	assert_non_null(fields);
	snprintf(fields, 20000, "\"cause\":\"%0*d\"}", 19000, 7);
	note(f, 2);
	davit_journal_event(f->journal, fields);
	note(f, 2);
	finish(f);
	r = read_events(f, 0, 0, 0);
	assert_int_equal(r.n, 5);
	assert_int_equal(rows(f), 3);
}

/* The store's answer is lost: what was written is written again, with what came since. */
static void what_is_written_twice_is_read_once(void **state)
{
	const struct davit_store_plan lose = {.lose = 1000000};
	struct fixture *f = *state;
	struct reading r;

	davit_faulty_plan(f->store, &lose);
	note(f, 30);
	for (int i = 0; i < 4; i++)
		assert_true(davit_loop_step(f->loop));
	assert_true(rows(f) > 0); /* it arrived */
	note(f, 20);
	davit_faulty_plan(f->store, NULL);
	finish(f);
	assert_true(davit_journal_idle(f->journal));
	r = read_events(f, 0, 0, 0);
	assert_int_equal(r.n, 50);
	r = read_events(f, 10, 0, 0);
	assert_int_equal(r.first, 11);
	assert_int_equal(r.n, 40);
}

static void what_a_sick_store_refused_comes_in_order(void **state)
{
	struct fixture *f = *state;
	struct reading r;

	davit_faulty_fail_for(f->store, DAVIT_EIO, DAVIT_NSEC_PER_SEC);
	for (int i = 0; i < 60; i++) {
		note(f, 10);
		assert_true(davit_loop_step(f->loop));
	}
	finish(f);
	r = read_events(f, 0, 0, 0);
	assert_int_equal(r.first, 1);
	assert_int_equal(r.n, 600);
}

static void the_oldest_go_when_there_are_too_many(void **state)
{
	struct fixture *f = *state;
	struct reading r;

	for (int i = 0; i < 50; i++) {
		note(f, 100);
		finish(f);
	}
	r = read_events(f, 0, 0, 0);
	/* A thousand were asked for: a tenth, and the rest of a row, may be there beside. */
	assert_in_range(r.n, 1000, 1300);
	assert_int_equal(r.next, 5001);
}

static void on_done(struct davit_op *op, int result)
{
	(void)op;
	assert_int_equal(result, 0);
}

/* What a daemon had written before events shared rows, and a row that is damaged. */
static void a_row_of_one_event_is_read_and_what_is_none_is_left_out(void **state)
{
	static const char one[] = "{\"id\":1,\"type\":\"created\"}",
			  two[] = "{\"id\":2,\"type\":\"started\"}";
	const struct davit_store_change old[] = {
		{.verb = DAVIT_STORE_PUT,
		 .key = "events/0000000000000001",
		 .value = one,
		 .len = sizeof one - 1},
		{.verb = DAVIT_STORE_PUT,
		 .key = "events/0000000000000002",
		 .value = two,
		 .len = sizeof two - 1},
		{.verb = DAVIT_STORE_PUT, .key = "events/0000000000000003", .value = "\0\n}{", .len = 4},
	};
	struct fixture *f = *state;
	struct davit_store_txn txn;
	struct davit_error err;

	davit_op_init(&txn.op, f->loop, on_done, NULL);
	davit_store_commit(f->store, old, DAVIT_ARRAY_SIZE(old), &txn, 0);
	finish(f);
	davit_journal_free(f->journal);
	f->journal = NULL;
	assert_int_equal(davit_journal_new(f->loop, f->store, 1000, &f->journal, &err), 0);
	assert_int_equal(davit_journal_last_event(f->journal), 3);
	assert_int_equal(read_events(f, 0, 0, 0).n, 2);
	assert_int_equal(read_events(f, 1, 0, 0).first, 2);
	note(f, 1);
	finish(f);
	assert_int_equal(read_events(f, 2, 0, 0).first, 4);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(events_of_one_transaction_share_rows),
		TEST(reading_goes_on_from_any_id_also_within_a_row),
		TEST(a_large_event_is_whole_and_alone),
		TEST(what_is_written_twice_is_read_once),
		TEST(what_a_sick_store_refused_comes_in_order),
		TEST(the_oldest_go_when_there_are_too_many),
		TEST(a_row_of_one_event_is_read_and_what_is_none_is_left_out),
	};

	return cmocka_run_group_tests_name("event_rows", tests, NULL, NULL);
}
