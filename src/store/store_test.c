/* SPDX-License-Identifier: MIT
 *
 * What every store must do: the same tests, run with each driver.
 */
#include "base/file.h"
#include "base/util.h"
#include "store/changes.h"
#include "store/stores.h"
#include "store/test_store.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* --- changes --- */

static void keys_are_listed_in_byte_order_with_their_values(void **state)
{
	struct fixture *f = *state;

	put(f, "b", "2");
	put(f, "a/y", "1");
	put(f, "a/", "0");
	put(f, "a", "");
	put(f, "\xc3\xa4", "umlaut");
	assert_string_equal(listed(f, NULL, NULL, 0), "a= a/=0 a/y=1 b=2 \xc3\xa4=umlaut");
}

static void each_transaction_that_changes_something_has_the_next_revision(void **state)
{
	struct fixture *f = *state;
	int64_t first = put(f, "a", "1");

	assert_int_equal(first, 1);
	assert_int_equal(put(f, "b", "1"), first + 1);
	assert_int_equal(put(f, "a", "1"), first + 2);
	assert_int_equal(revision_of(f, "a"), first + 2);
	assert_int_equal(revision_of(f, "b"), first + 1);
	assert_int_equal(delete (f, "missing"), first + 2);
	assert_int_equal(commit(f, NULL, 0), first + 2);
	assert_int_equal(delete (f, "b"), first + 3);
	assert_int_equal(revision(f), first + 3);
}

static void the_changes_of_a_transaction_share_a_revision_and_the_last_of_a_key_counts(void **state)
{
	struct fixture *f = *state;
	struct davit_store_change c[] = {PUT("a", "1"), PUT("b", "1"), DELETE("b"), PUT("a", "2"),
					 PUT("c", "3")};

	put(f, "b", "0");
	assert_int_equal(commit(f, c, DAVIT_ARRAY_SIZE(c)), 2);
	assert_string_equal(listed(f, NULL, NULL, 0), "a=2 c=3");
	assert_int_equal(revision_of(f, "a"), 2);
	assert_int_equal(revision_of(f, "c"), 2);
}

static void a_conflict_applies_nothing_of_its_transaction(void **state)
{
	struct fixture *f = *state;
	int64_t r = put(f, "a", "1");
	struct davit_store_change c[] = {PUT("b", "1"), DELETE("a"), PUT("a", "2")};

	c[2].check = true;
	c[2].expect = r + 5;
	assert_int_equal(commit(f, c, DAVIT_ARRAY_SIZE(c)), DAVIT_ECONFLICT);
	assert_non_null(strstr(f->error.message, "'a' is at revision 1, not at 6"));
	assert_string_equal(listed(f, NULL, NULL, 0), "a=1");
	assert_int_equal(revision(f), r);
	c[2].expect = r;
	assert_int_equal(commit(f, c, DAVIT_ARRAY_SIZE(c)), r + 1);
	assert_string_equal(listed(f, NULL, NULL, 0), "a=2 b=1");
}

static void expecting_zero_means_that_the_key_is_not_there(void **state)
{
	struct fixture *f = *state;
	struct davit_store_change c = PUT("a", "1");

	c.check = true;
	assert_int_equal(commit(f, &c, 1), 1);
	assert_int_equal(commit(f, &c, 1), DAVIT_ECONFLICT);
	delete (f, "a");
	assert_int_equal(commit(f, &c, 1), 3);
}

static void checks_look_at_the_state_before_the_transaction(void **state)
{
	struct fixture *f = *state;
	int64_t r = put(f, "a", "1");
	struct davit_store_change c[] = {PUT("a", "2"), PUT("a", "3"), DELETE("b")};

	c[1].check = true;
	c[1].expect = r;
	c[2].check = true;
	assert_int_equal(commit(f, c, DAVIT_ARRAY_SIZE(c)), r + 1);
	assert_string_equal(listed(f, NULL, NULL, 0), "a=3");
}

static void of_two_transactions_in_flight_the_second_sees_the_first(void **state)
{
	struct fixture *f = *state;
	struct davit_store_change c = PUT("a", "1");
	struct waiter one, two, three;

	c.check = true;
	start(f, &one, &c, 1);
	start(f, &two, &c, 1);
	c.expect = 1;
	start(f, &three, &c, 1);
	/* The store has its own copy by now. */
	c.key = c.value = NULL;
	finish(f, &one);
	finish(f, &two);
	finish(f, &three);
	assert_int_equal(one.result, 0);
	assert_int_equal(two.result, DAVIT_ECONFLICT);
	assert_int_equal(three.result, 0);
	assert_int_equal(three.txn.ret_revision, 2);
}

static void a_range_is_deleted_from_its_first_key_up_to_but_without_its_last(void **state)
{
	struct fixture *f = *state;
	struct davit_store_change range = RANGE("b", "d");
	struct davit_store_change empty = RANGE("z", "b");

	put(f, "a", "1");
	put(f, "b", "2");
	put(f, "c/x", "3");
	put(f, "d", "4");
	assert_int_equal(commit(f, &empty, 1), 4);
	assert_int_equal(commit(f, &range, 1), 5);
	assert_string_equal(listed(f, NULL, NULL, 0), "a=1 d=4");
	assert_int_equal(commit(f, &range, 1), 5);
	put(f, "c", "again");
	assert_string_equal(listed(f, NULL, NULL, 0), "a=1 c=again d=4");
}

static void values_hold_any_bytes_up_to_a_mebibyte(void **state)
{
	struct fixture *f = *state;
	size_t n = DAVIT_STORE_VALUE_MAX;
	DAVIT_AUTO_FREE unsigned char *big = malloc(n + 1);
	struct davit_store_change c = {.verb = DAVIT_STORE_PUT, .key = "big", .value = big, .len = n};

	for (size_t i = 0; i <= n; i++)
		big[i] = (unsigned char)(i * 7 + i / 251);
	assert_int_equal(commit(f, &c, 1), 1);
	assert_true(holds(f, "big", big, n));
	c.value = "a\0b\0";
	c.len = 4;
	assert_int_equal(commit(f, &c, 1), 2);
	assert_true(holds(f, "big", "a\0b\0", 4));
	c.value = NULL;
	c.len = 0;
	assert_int_equal(commit(f, &c, 1), 3);
	assert_true(holds(f, "big", "", 0));
	c.value = big;
	c.len = n + 1;
	assert_int_equal(commit(f, &c, 1), DAVIT_EINVAL);
	assert_string_equal(f->error.where, "value");
	assert_true(holds(f, "big", "", 0));
}

static void keys_that_are_empty_or_too_long_are_refused(void **state)
{
	struct fixture *f = *state;
	char key[DAVIT_STORE_KEY_MAX + 2];
	struct davit_store_change c[] = {PUT("good", "1"), PUT(key, "1")};

	memset(key, 'k', sizeof key - 1);
	key[sizeof key - 1] = '\0';
	assert_int_equal(commit(f, c, 2), DAVIT_EINVAL);
	assert_non_null(strstr(f->error.message, "longer than 512 bytes"));
	key[0] = '\0';
	assert_int_equal(commit(f, c, 2), DAVIT_EINVAL);
	assert_string_equal(listed(f, NULL, NULL, 0), "");
	memset(key, 'k', sizeof key - 2);
	key[sizeof key - 2] = '\0';
	assert_int_equal(commit(f, c, 2), 1);
	assert_true(holds(f, key, "1", 1));
}

/* --- listing --- */

static void a_listing_has_a_prefix_a_start_and_a_limit(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 5; i++) {
		char key[16];
		snprintf(key, sizeof key, "p/%d", i);
		put(f, key, "x");
	}
	put(f, "o", "x");
	put(f, "p", "x");
	put(f, "p0", "x");
	delete (f, "p/2");
	assert_string_equal(listed(f, "p/", NULL, 0), "p/0=x p/1=x p/3=x p/4=x");
	assert_string_equal(listed(f, "p/", "p/1", 0), "p/1=x p/3=x p/4=x");
	assert_string_equal(listed(f, "p/", "p/2", 1), "p/3=x");
	assert_string_equal(listed(f, "p/", "a", 2), "p/0=x p/1=x");
	assert_string_equal(listed(f, "p/", "q", 0), "");
	assert_string_equal(listed(f, "p/", NULL, 4), "p/0=x p/1=x p/3=x p/4=x");
	assert_string_equal(listed(f, "absent", NULL, 0), "");
	assert_string_equal(listed_back(f, "p/", 0), "p/4=x p/3=x p/1=x p/0=x");
	assert_string_equal(listed_back(f, "p/", 2), "p/4=x p/3=x");
	assert_string_equal(listed_back(f, NULL, 1), "p0=x");
	assert_string_equal(listed_back(f, "absent", 0), "");
}

static bool stop_at_second(void *user, const struct davit_kv *kv)
{
	(void)kv;
	return ++*(int *)user < 2;
}

static void a_listing_ends_when_its_reader_has_enough(void **state)
{
	struct fixture *f = *state;
	int seen = 0;

	put(f, "a", "1");
	put(f, "b", "1");
	put(f, "c", "1");
	assert_int_equal(f->store->driver->list(f->store, NULL, NULL, 0, stop_at_second, &seen, NULL, NULL),
			 0);
	assert_int_equal(seen, 2);
	seen = 0;
	assert_int_equal(f->store->driver->list_reverse(f->store, NULL, 0, stop_at_second, &seen, NULL, NULL),
			 0);
	assert_int_equal(seen, 2);
}

static void ten_thousand_keys_in_any_order_stay_sorted(void **state)
{
	enum { N = 10000, CHUNK = 500 };
	struct fixture *f = *state;
	static char keys[CHUNK][16];
	struct davit_store_change c[CHUNK];
	struct counted n = {0};

	for (int i = 0; i < N; i += CHUNK) {
		for (int j = 0; j < CHUNK; j++) {
			snprintf(keys[j], sizeof keys[j], "k/%05d", (i + j) * 7919 % N);
			c[j] = (struct davit_store_change)PUT(keys[j], "v");
		}
		assert_int_equal(commit(f, c, CHUNK), i / CHUNK + 1);
	}
	assert_int_equal(f->store->driver->list(f->store, "k/", NULL, 0, count_sorted, &n, NULL, NULL), 0);
	assert_int_equal(n.seen, N);
	assert_true(n.sorted);
	for (int i = 0; i < N; i += 2 * CHUNK) {
		char from[16], to[16];
		snprintf(from, sizeof from, "k/%05d", i);
		snprintf(to, sizeof to, "k/%05d", i + CHUNK);
		c[0] = (struct davit_store_change)RANGE(from, to);
		assert_true(commit(f, c, 1) > 0);
	}
	n = (struct counted){0};
	assert_int_equal(f->store->driver->list(f->store, "k/", NULL, 0, count_sorted, &n, NULL, NULL), 0);
	assert_int_equal(n.seen, N / 2);
	assert_true(n.sorted);
}

/* --- watches --- */

static void a_watch_tells_what_comes_after_its_revision(void **state)
{
	struct fixture *f = *state;
	struct watcher w;
	int64_t r = put(f, "a/1", "old");

	watch(f, &w, "a/", r);
	put(f, "a/1", "new");
	put(f, "b/1", "other");
	put(f, "a/2", "x");
	delete (f, "a/1");
	expect_told(f, &w, "a/1=new@2 a/2=x@4 -a/1@5");
	unwatch(f, &w);
	put(f, "a/3", "unseen");
	expect_told(f, &w, "a/1=new@2 a/2=x@4 -a/1@5");
}

static void a_watch_of_the_past_tells_it_first_once_per_key(void **state)
{
	struct fixture *f = *state;
	struct watcher all, later;

	put(f, "a", "1");
	put(f, "b", "1");
	put(f, "c", "1");
	put(f, "a", "2");
	delete (f, "b");
	put(f, "a", "3");
	watch(f, &all, "", 0);
	watch(f, &later, "", 4);
	put(f, "d", "live");
	expect_told(f, &all, "c=1@3 -b@5 a=3@6 d=live@7");
	expect_told(f, &later, "-b@5 a=3@6 d=live@7");
	unwatch(f, &all);
	unwatch(f, &later);
}

static void a_watch_is_silent_until_the_loop_runs(void **state)
{
	struct fixture *f = *state;
	struct watcher w;

	put(f, "a", "1");
	watch(f, &w, "", 0);
	assert_string_equal(w.told, "");
	expect_told(f, &w, "a=1@1");
	unwatch(f, &w);
}

static void the_changes_of_a_transaction_are_told_together_in_key_order(void **state)
{
	struct fixture *f = *state;
	struct watcher w, some;
	struct davit_store_change c[] = {PUT("c", "1"), PUT("a", "1"), PUT("c", "2"), RANGE("x", "z"),
					 PUT("b", "")};

	put(f, "x1", "1");
	put(f, "x2", "1");
	watch(f, &w, "", 2);
	commit(f, c, DAVIT_ARRAY_SIZE(c));
	expect_told(f, &w, "a=1@3 b=@3 c=2@3 -x1@3 -x2@3");
	unwatch(f, &w);
	/* Where most of it is watched by nobody. */
	watch(f, &some, "x", 3);
	watch(f, &w, "b", 3);
	commit(f, (struct davit_store_change[]){PUT("x2", "2"), PUT("c", "3"), PUT("b", "3"), PUT("x1", "2")},
	       4);
	expect_told(f, &some, "x1=2@4 x2=2@4");
	expect_told(f, &w, "b=3@4");
	unwatch(f, &some);
	unwatch(f, &w);
	commit(f, c, DAVIT_ARRAY_SIZE(c));
	watch(f, &w, "", 4);
	expect_told(f, &w, "a=1@5 b=@5 c=2@5 -x1@5 -x2@5");
	unwatch(f, &w);
}

static void a_live_watch_tells_each_change_not_only_the_last(void **state)
{
	struct fixture *f = *state;
	struct davit_store_change c[] = {PUT("a", "1"), PUT("a", "2"), PUT("a", "3")};
	struct waiter t[3];
	struct watcher w;

	watch(f, &w, "", 0);
	expect_told(f, &w, "");
	for (int i = 0; i < 3; i++)
		start(f, &t[i], &c[i], 1);
	for (int i = 0; i < 3; i++)
		finish(f, &t[i]);
	expect_told(f, &w, "a=1@1 a=2@2 a=3@3");
	unwatch(f, &w);
}

static void a_refused_transaction_is_not_told(void **state)
{
	struct fixture *f = *state;
	struct davit_store_change c[] = {PUT("b", "1"), PUT("a", "1")};
	struct watcher w;

	watch(f, &w, "", 0);
	c[1].check = true;
	c[1].expect = 9;
	assert_int_equal(commit(f, c, 2), DAVIT_ECONFLICT);
	put(f, "z", "1");
	expect_told(f, &w, "z=1@1");
	unwatch(f, &w);
}

static void a_callback_may_end_its_own_watch_and_those_of_others(void **state)
{
	struct fixture *f = *state;
	struct watcher first, second, third;
	struct davit_store_change c[] = {PUT("a", "1"), PUT("b", "1")};

	watch(f, &first, "", 0);
	watch(f, &second, "", 0);
	watch(f, &third, "", 0);
	expect_told(f, &third, "");
	first.end_on_change = &second;
	third.end_on_change = &third;
	commit(f, c, 2);
	expect_told(f, &first, "a=1@1 b=1@1");
	expect_told(f, &second, "");
	expect_told(f, &third, "a=1@1");
	unwatch(f, &first);
	/* The same while the past is told. */
	watch(f, &first, "", 0);
	watch(f, &second, "", 0);
	first.end_on_change = &first;
	expect_told(f, &first, "a=1@1");
	expect_told(f, &second, "a=1@1 b=1@1");
	unwatch(f, &second);
}

static void a_callback_may_commit_list_and_watch(void **state)
{
	struct fixture *f = *state;
	struct watcher w, inner;

	watch(f, &w, "trigger", 0);
	w.also_watch = &inner;
	w.also_put = "effect";
	put(f, "trigger", "1");
	expect_told(f, &w, "trigger=1@1");
	finish(f, &w.waiter);
	assert_int_equal(w.waiter.result, 0);
	assert_string_equal(w.seen, "trigger=1");
	expect_told(f, &inner, "trigger=1@1 effect=1@2");
	unwatch(f, &w);
	unwatch(f, &inner);
}

static void hundreds_of_watches_see_what_is_theirs(void **state)
{
	enum { N = 300 };
	struct fixture *f = *state;
	static struct watcher w[N];
	char prefix[16], told[32];

	for (int i = 0; i < N; i++) {
		snprintf(prefix, sizeof prefix, "s/%03d/", i);
		watch(f, &w[i], prefix, 0);
	}
	for (int i = 0; i < N; i++) {
		snprintf(prefix, sizeof prefix, "s/%03d/k", i);
		put(f, prefix, "v");
	}
	for (int i = 0; i < N; i++) {
		snprintf(told, sizeof told, "s/%03d/k=v@%d", i, i + 1);
		expect_told(f, &w[i], told);
		unwatch(f, &w[i]);
	}
}

static void a_watch_from_before_a_forgotten_deletion_is_told_to_list_again(void **state)
{
	enum { N = DAVIT_STORE_KEEP_DELETIONS + 5, CHUNK = 1000 };
	struct fixture *f = *state;
	static struct waiter t[CHUNK];
	struct davit_store_change c = PUT("k", "v");
	struct watcher w;

	put(f, "gone", "1");
	delete (f, "gone");
	watch(f, &w, "gone", 1);
	expect_told(f, &w, "-gone@2");
	unwatch(f, &w);
	for (int i = 0; i < N;) {
		int n = N - i < CHUNK ? N - i : CHUNK;
		for (int j = 0; j < n; j++)
			start(f, &t[j], &c, 1);
		for (int j = 0; j < n; j++)
			finish(f, &t[j]);
		i += n;
	}
	assert_int_equal(revision(f), N + 2);
	assert_int_equal(watch_code(f, &w, "", 1), DAVIT_ECOMPACTED);
	assert_int_equal(watch_code(f, &w, "", 2), 0);
	unwatch(f, &w);
}

static void a_watch_with_too_long_a_prefix_is_refused(void **state)
{
	struct fixture *f = *state;
	char prefix[DAVIT_STORE_KEY_MAX + 1];
	struct watcher w;

	memset(prefix, 'p', sizeof prefix - 1);
	prefix[sizeof prefix - 1] = '\0';
	assert_int_equal(watch_code(f, &w, prefix, 0), DAVIT_EINVAL);
}

/* --- the end --- */

static void closing_waits_for_what_is_pending(void **state)
{
	struct fixture *f = *state;
	struct davit_store_change c[] = {PUT("a", "1"), PUT("b", "2")};
	struct waiter one, two;
	struct watcher w;

	watch(f, &w, "", 0);
	start(f, &one, &c[0], 1);
	start(f, &two, &c[1], 1);
	davit_store_close(f->store);
	f->store = NULL;
	finish(f, &one);
	finish(f, &two);
	assert_int_equal(one.result, 0);
	assert_int_equal(two.result, 0);
	assert_int_equal(two.txn.ret_revision, 2);
	assert_string_equal(w.told, "");
}

static void a_store_that_works_is_healthy(void **state)
{
	struct fixture *f = *state;
	struct davit_store_change c = PUT("a", "1");

	c.check = true;
	c.expect = 3;
	assert_int_equal(commit(f, &c, 1), DAVIT_ECONFLICT);
	assert_int_equal(f->store->driver->health(f->store, NULL), 0);
}

static void a_driver_that_lacks_a_slot_is_refused_by_name(void **state)
{
	struct fixture *f = *state;
	struct davit_store_driver d = *f->store->driver;
	struct davit_store *s = NULL;
	struct davit_error err;

	assert_int_equal(davit_store_driver_validate(&d, &err), 0);
	d.unwatch = NULL;
	assert_int_equal(davit_store_open(&d, f->loop, NULL, &s, &err), DAVIT_EINVAL);
	assert_null(s);
	assert_string_equal(err.where, "unwatch");
	d = *f->store->driver;
	d.abi++;
	assert_int_equal(davit_store_driver_validate(&d, &err), DAVIT_ENOTSUP);
	assert_int_equal(davit_store_driver_validate(NULL, &err), DAVIT_EINVAL);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, open_fixture, close_fixture)

static const struct CMUnitTest conformance[] = {
	CASE(keys_are_listed_in_byte_order_with_their_values),
	CASE(each_transaction_that_changes_something_has_the_next_revision),
	CASE(the_changes_of_a_transaction_share_a_revision_and_the_last_of_a_key_counts),
	CASE(a_conflict_applies_nothing_of_its_transaction),
	CASE(expecting_zero_means_that_the_key_is_not_there),
	CASE(checks_look_at_the_state_before_the_transaction),
	CASE(of_two_transactions_in_flight_the_second_sees_the_first),
	CASE(a_range_is_deleted_from_its_first_key_up_to_but_without_its_last),
	CASE(values_hold_any_bytes_up_to_a_mebibyte),
	CASE(keys_that_are_empty_or_too_long_are_refused),
	CASE(a_listing_has_a_prefix_a_start_and_a_limit),
	CASE(a_listing_ends_when_its_reader_has_enough),
	CASE(ten_thousand_keys_in_any_order_stay_sorted),
	CASE(a_watch_tells_what_comes_after_its_revision),
	CASE(a_watch_of_the_past_tells_it_first_once_per_key),
	CASE(a_watch_is_silent_until_the_loop_runs),
	CASE(the_changes_of_a_transaction_are_told_together_in_key_order),
	CASE(a_live_watch_tells_each_change_not_only_the_last),
	CASE(a_refused_transaction_is_not_told),
	CASE(a_callback_may_end_its_own_watch_and_those_of_others),
	CASE(a_callback_may_commit_list_and_watch),
	CASE(hundreds_of_watches_see_what_is_theirs),
	CASE(a_watch_from_before_a_forgotten_deletion_is_told_to_list_again),
	CASE(a_watch_with_too_long_a_prefix_is_refused),
	CASE(closing_waits_for_what_is_pending),
	CASE(a_store_that_works_is_healthy),
	CASE(a_driver_that_lacks_a_slot_is_refused_by_name),
};

int main(void)
{
	return cmocka_run_group_tests(conformance, NULL, NULL);
}
