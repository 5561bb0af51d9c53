/* SPDX-License-Identifier: MIT
 *
 * The store that fails on request: that it does what it was told, and the same
 * again from the same seed.
 */
#include "store/faulty.h"

#include "base/units.h"
#include "base/util.h"
#include "store/stores.h"
#include "store/test_store.h"

#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void nothing(struct davit_timer *t)
{
	(void)t;
}

static void a_window_fails_commits_and_passes(void **state)
{
	struct fixture *f = *state;
	struct davit_store_change c = PUT("a", "1");
	struct davit_timer t;

	davit_faulty_fail_for(f->store, DAVIT_ENOSPC, 5 * DAVIT_NSEC_PER_SEC);
	assert_int_equal(commit(f, &c, 1), DAVIT_ENOSPC);
	assert_int_equal(f->store->driver->health(f->store, NULL), DAVIT_ENOSPC);
	assert_string_equal(listed(f, NULL, NULL, 0), "");
	davit_timer_init(&t, f->loop, nothing);
	davit_timer_start(&t, 5 * DAVIT_NSEC_PER_SEC - 1);
	while (davit_timer_active(&t))
		pump(f);
	assert_int_equal(commit(f, &c, 1), DAVIT_ENOSPC);
	davit_timer_start(&t, 1);
	while (davit_timer_active(&t))
		pump(f);
	assert_int_equal(commit(f, &c, 1), 1);
	assert_int_equal(f->store->driver->health(f->store, NULL), 0);
}

static void a_delay_keeps_the_order_of_calls(void **state)
{
	struct fixture *f = *state;
	struct davit_store_plan plan = {.delay = 1000000, .delay_min = 1000, .delay_max = 1000};
	struct davit_store_change c[] = {PUT("a", "slow"), PUT("a", "quick")};
	struct waiter slow, quick;

	davit_faulty_plan(f->store, &plan);
	start(f, &slow, &c[0], 1);
	davit_faulty_plan(f->store, NULL);
	start(f, &quick, &c[1], 1);
	finish(f, &slow);
	finish(f, &quick);
	assert_int_equal(davit_loop_now(f->loop), 1000);
	assert_int_equal(slow.txn.ret_revision, 1);
	assert_int_equal(quick.txn.ret_revision, 2);
	assert_string_equal(listed(f, NULL, NULL, 0), "a=quick");
}

static void a_lost_answer_is_an_error_of_a_change_that_happened(void **state)
{
	struct fixture *f = *state;
	struct davit_store_plan plan = {.lose = 1000000};
	struct davit_store_change c = PUT("a", "1");

	davit_faulty_plan(f->store, &plan);
	assert_int_equal(commit(f, &c, 1), DAVIT_ETIMEDOUT);
	assert_string_equal(listed(f, NULL, NULL, 0), "a=1");
}

static void a_held_commit_ends_at_its_deadline_or_at_the_release(void **state)
{
	struct fixture *f = *state;
	struct davit_store_change c[] = {PUT("a", "1"), PUT("b", "1")};
	struct waiter one, two;

	davit_faulty_hold(f->store);
	start(f, &one, &c[0], 1);
	start(f, &two, &c[1], 1);
	davit_op_cancel(&one.txn.op);
	finish(f, &one);
	assert_int_equal(one.result, DAVIT_ECANCELED);
	pump(f);
	assert_false(two.done);
	davit_faulty_release(f->store);
	finish(f, &two);
	assert_int_equal(two.result, 0);
	assert_string_equal(listed(f, NULL, NULL, 0), "b=1");
}

static void broken_watches_are_over_and_can_be_resumed(void **state)
{
	struct fixture *f = *state;
	struct watcher one, two;

	watch(f, &one, "", 0);
	watch(f, &two, "x", 0);
	put(f, "a", "1");
	davit_faulty_break_watches(f->store, DAVIT_EUNAVAIL);
	assert_int_equal(one.broken, DAVIT_EUNAVAIL);
	assert_int_equal(two.broken, DAVIT_EUNAVAIL);
	put(f, "b", "1");
	expect_told(f, &one, "a=1@1");
	watch(f, &one, "", 1);
	expect_told(f, &one, "b=1@2");
	unwatch(f, &one);
}

/* What 200 commits under a mixed plan came to, as text. */
static void course(struct fixture *f, uint64_t seed, char *out, size_t size)
{
	struct davit_store_plan plan = {.fail = 200000,
					.lose = 100000,
					.delay = 500000,
					.delay_max = 1000000,
					.break_watches = 100000};
	struct fixture other = *f;
	struct davit_store_change c = PUT("k", "v");
	struct davit_error err;
	uint64_t commits, faults;
	size_t at = 0;

	assert_int_equal(davit_loop_open_virtual(seed, &other.loop, &err), 0);
	open_store(&other);
	davit_faulty_plan(other.store, &plan);
	for (int i = 0; i < 200; i++)
		at += (size_t)snprintf(out + at, size - at, "%d ", (int)commit(&other, &c, 1));
	davit_faulty_counts(other.store, &commits, &faults);
	assert_int_equal(commits, 200);
	assert_in_range(faults, 20, 120);
	snprintf(out + at, size - at, "at %lld", (long long)davit_loop_now(other.loop));
	davit_store_close(other.store);
	davit_loop_close(other.loop);
}

static void a_run_is_a_function_of_its_seed(void **state)
{
	static char first[4096], again[4096], different[4096];

	course(*state, 7, first, sizeof first);
	course(*state, 7, again, sizeof again);
	course(*state, 8, different, sizeof different);
	assert_string_equal(first, again);
	assert_string_not_equal(first, different);
}

static void closing_ends_what_is_delayed(void **state)
{
	struct fixture *f = *state;
	struct davit_store_plan plan = {.delay = 1000000, .delay_min = DAVIT_NSEC_PER_SEC};
	struct davit_store_change c = PUT("a", "1");
	struct waiter t;

	davit_faulty_plan(f->store, &plan);
	start(f, &t, &c, 1);
	davit_store_close(f->store);
	f->store = NULL;
	finish(f, &t);
	assert_int_equal(t.result, 0);
	assert_int_equal(davit_loop_now(f->loop), 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, open_fixture, close_fixture)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_window_fails_commits_and_passes),
		CASE(a_delay_keeps_the_order_of_calls),
		CASE(a_lost_answer_is_an_error_of_a_change_that_happened),
		CASE(a_held_commit_ends_at_its_deadline_or_at_the_release),
		CASE(broken_watches_are_over_and_can_be_resumed),
		CASE(a_run_is_a_function_of_its_seed),
		CASE(closing_ends_what_is_delayed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
