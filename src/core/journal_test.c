/* SPDX-License-Identifier: MIT
 *
 * When the journal commits, on a clock that only the test moves.
 */
#include "core/journal.h"

#include "base/units.h"
#include "base/util.h"
#include "davit/loop.h"
#include "store/faulty.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MS DAVIT_NSEC_PER_MSEC
#define FIELDS "\"type\":\"started\"}"

struct fixture {
	struct davit_loop *loop;
	struct davit_store *store;
	struct davit_journal *journal;
	struct davit_timer next;  /* the next event of a burst */
	int64_t until;		  /* the burst's end */
	int64_t committed;	  /* when the last event was */
	unsigned commits, events; /* moments at which some were; how many were */
	struct davit_journal_wait wait;
	unsigned released; /* events that were committed when the wait ended */
};

static void on_event(void *user, uint64_t id, const char *json)
{
	struct fixture *f = user;
	int64_t now = davit_loop_now(f->loop);

	assert_int_equal(id, f->events + 1);
	f->commits += !f->events || now != f->committed;
	f->committed = now;
	f->events++;
}

static void on_next(struct davit_timer *t)
{
	struct fixture *f = DAVIT_CONTAINER_OF(t, struct fixture, next);

	davit_journal_event(f->journal, FIELDS);
	if (davit_loop_now(f->loop) < f->until)
		assert_int_equal(davit_timer_start(t, MS), 0);
}

static void on_durable(struct davit_journal_wait *w, bool durable)
{
	struct fixture *f = DAVIT_CONTAINER_OF(w, struct fixture, wait);

	assert_true(durable);
	f->released = f->events;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	struct davit_error err;

	assert_non_null(f);
	*state = f;
	assert_int_equal(davit_loop_open_virtual(1, &f->loop, &err), 0);
	assert_int_equal(davit_store_open(&davit_faulty_store, f->loop, NULL, &f->store, &err), 0);
	assert_int_equal(davit_journal_new(f->loop, f->store, 0, &f->journal, &err), 0);
	davit_journal_on_event(f->journal, on_event, f);
	davit_timer_init(&f->next, f->loop, on_next);
	f->wait.done = on_durable;
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

static void a_single_event_is_committed_at_once(void **state)
{
	struct fixture *f = *state;

	davit_journal_event(f->journal, FIELDS);
	finish(f);
	assert_int_equal(f->events, 1);
	assert_int_equal(f->committed, 0);
}

static void a_burst_shares_its_commits_and_is_committed_when_it_is_over(void **state)
{
	struct fixture *f = *state;

	f->until = 165 * MS;
	assert_int_equal(davit_timer_start(&f->next, 0), 0);
	finish(f);
	assert_int_equal(f->events, 166);
	/* At 0, 1, 11, 61, 111 and 161 ms, and when nothing came for a moment. */
	assert_in_range(f->commits, 5, 7);
	assert_in_range(f->committed, 165 * MS, 191 * MS);
}

/* How long one that comes on the heels of n others, and is waited for, takes to be durable. All that
 * were noted before are durable when the wait ends. */
static int64_t delay_behind(struct fixture *f, unsigned n)
{
	unsigned before = f->events;
	int64_t first;

	for (unsigned i = 0; i < n; i++)
		davit_journal_event(f->journal, FIELDS);
	davit_journal_wait(f->journal, &f->wait);
	while (f->wait.active)
		assert_true(davit_loop_step(f->loop));
	assert_int_equal(f->released, before + n);
	first = f->committed;
	davit_journal_event(f->journal, FIELDS);
	davit_journal_wait(f->journal, &f->wait);
	while (f->wait.active)
		assert_true(davit_loop_step(f->loop));
	assert_int_equal(f->released, before + n + 1);
	return f->committed - first;
}

static void who_waits_is_told_when_all_before_is_durable(void **state)
{
	struct fixture *f = *state;

	f->until = 5 * MS; /* the clock is no more at 0 */
	assert_int_equal(davit_timer_start(&f->next, 5 * MS), 0);
	while (!f->events)
		assert_true(davit_loop_step(f->loop));
	/* One behind a large transaction waits for a lull, not for a pace; behind a smaller one less. */
	assert_in_range(delay_behind(f, 99), 1, 26 * MS);
	assert_in_range(delay_behind(f, 20), 1, 11 * MS);
}

/* Nothing else happens meanwhile that would bring it to another try. */
static void what_the_store_refuses_is_tried_again_by_itself_and_seldom(void **state)
{
	struct fixture *f = *state;
	uint64_t commits, faults;

	davit_faulty_fail_for(f->store, DAVIT_ENOSPC, 10 * DAVIT_NSEC_PER_SEC);
	for (int i = 0; i < 5; i++)
		davit_journal_event(f->journal, FIELDS);
	while (f->events < 5)
		assert_true(davit_loop_step(f->loop));
	assert_in_range(f->committed, 10 * DAVIT_NSEC_PER_SEC, 15 * DAVIT_NSEC_PER_SEC);
	davit_faulty_counts(f->store, &commits, &faults);
	assert_in_range(faults, 3, 10);
	assert_true(davit_journal_idle(f->journal));
}

struct listed {
	uint64_t first, last;
	size_t n;
};

static bool list_one(void *user, const struct davit_kv *kv)
{
	struct listed *l = user;
	uint64_t id = strtoull(kv->key + strlen("events/"), NULL, 16);

	l->first = l->n ? l->first : id;
	l->last = id;
	l->n++;
	return true;
}

static void the_oldest_events_are_forgotten_and_the_newest_kept(void **state)
{
	struct fixture *f = *state;
	struct davit_error err;
	struct listed l;
	int64_t revision;

	for (int again = 0; again < 2; again++) {
		/* A new one goes on with what the store has. */
		davit_journal_free(f->journal);
		assert_int_equal(davit_journal_new(f->loop, f->store, 100, &f->journal, &err), 0);
		for (int i = 0; i < 400; i++) {
			davit_journal_event(f->journal, FIELDS);
			finish(f);
		}
		l = (struct listed){0};
		assert_int_equal(
			f->store->driver->list(f->store, "events/", NULL, 0, list_one, &l, &revision, &err),
			0);
		assert_int_equal(l.last, 400 * (again + 1));
		/* A tenth more than asked for, so that they go together. */
		assert_in_range(l.n, 100, 112);
		assert_int_equal(l.first, l.last - l.n + 1);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_single_event_is_committed_at_once),
		TEST(a_burst_shares_its_commits_and_is_committed_when_it_is_over),
		TEST(who_waits_is_told_when_all_before_is_durable),
		TEST(what_the_store_refuses_is_tried_again_by_itself_and_seldom),
		TEST(the_oldest_events_are_forgotten_and_the_newest_kept),
	};

	return cmocka_run_group_tests_name("journal", tests, NULL, NULL);
}
