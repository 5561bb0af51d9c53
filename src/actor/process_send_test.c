/* SPDX-License-Identifier: MIT
 *
 * Messages to a process are written by the worker of who sends them, together, when its
 * activation is over; what is written then must not have to wait for a handler that goes on.
 */
#include "actor/actor_impl.h"
#include "actor/test_processes.h"

#include <sys/mman.h>

enum { PARTS = 3, EACH = 20000 };

/* In memory that the processes have as well. */
static struct {
	_Atomic(int) begun, got, passed_on, lives, wrong, pid;
	_Atomic(uint32_t) last[2];
	_Atomic(bool) let_go;
} * seen;

static bool wait_for(const _Atomic(int) *what, int n)
{
	for (int i = 0; i < 30000 && atomic_load(what) < n; i++)
		nap();
	return atomic_load(what) >= n;
}

static int count(struct davit_context *k, struct davit_message *m)
{
	atomic_fetch_add(&seen->got, 1);
	return 0;
}

static int live(struct davit_context *k, enum davit_operation op, enum davit_phase phase)
{
	if (op != DAVIT_DO_START || phase != DAVIT_AFTER)
		return 0;
	atomic_store(&seen->pid, getpid());
	atomic_fetch_add(&seen->lives, 1);
	return 0;
}

/* Sends to the process, and stays in its handler until it is let go. */
static int send_and_stay(struct davit_context *k, struct davit_message *m)
{
	struct davit_ref to;

	if (davit_find(k, "Q", &to) || davit_tell(k, to, 1, "x", 1))
		return DAVIT_EUNAVAIL;
	atomic_fetch_add(&seen->begun, 1);
	while (!atomic_load(&seen->let_go))
		nap();
	return 0;
}

static const struct davit_definition counter = {.name = "Counter",
						.type = DAVIT_PROCESS,
						.behaviour = count,
						.hook = live,
						.options = {.set_restart = true, .retries = -1}};
static const struct davit_definition stayer = {.name = "Stayer", .behaviour = send_and_stay};

static int open_fresh(int workers)
{
	struct davit_system_config config = {.workers = workers, .log = take_line};

	memset(seen, 0, sizeof *seen);
	if (davit_system_open(&config, &sys, NULL))
		return -1;
	c = davit_system_context(sys);
	return 0;
}

static int open_one(void **unused)
{
	return open_fresh(1);
}

static int open_two(void **unused)
{
	return open_fresh(2);
}

/* As where the kernel has no membarrier. */
static int open_one_without_barrier(void **unused)
{
	int r = open_fresh(1);

	if (!r)
		sys->barrier = false;
	return r;
}

static void start_both(void)
{
	start_with(NULL, "Q", &counter, NULL);
	start_with(NULL, "P", &stayer, NULL);
}

static void what_is_sent_goes_out_while_the_handler_that_sent_it_goes_on(void **unused)
{
	bool arrived;

	start_both();
	assert_int_equal(davit_tell(c, find("P"), 1, "", 0), 0);
	arrived = wait_for(&seen->begun, 1) && wait_for(&seen->got, 1);
	atomic_store(&seen->let_go, true);
	assert_true(arrived);
}

static void a_process_is_started_again_while_the_handler_that_has_sent_to_it_goes_on(void **unused)
{
	bool again;

	start_both();
	assert_int_equal(davit_tell(c, find("P"), 1, "", 0), 0);
	again = wait_for(&seen->begun, 1);
	kill(atomic_load(&seen->pid), SIGKILL);
	again = again && wait_for(&seen->lives, 2);
	atomic_store(&seen->let_go, true);
	assert_true(again);
}

/* --- how far it is --- */

enum { PASS_ON = 1, PASSED, STAY, COUNT_ME };

/* Takes what comes and sends it on, to itself; stays in the first STAY. */
static int pass_on(struct davit_context *k, struct davit_message *m)
{
	struct davit_message *mine;

	switch (m->type) {
	case PASS_ON:
		mine = davit_take(k);
		mine->type = PASSED;
		return davit_send(k, davit_self(k), &mine);
	case PASSED:
		atomic_fetch_add(&seen->passed_on, 1);
		return 0;
	case STAY:
		atomic_fetch_add(&seen->begun, 1);
		while (true)
			nap();
	default:
		return count(k, m);
	}
}

static const struct davit_definition passer = {.name = "Passer",
					       .type = DAVIT_PROCESS,
					       .behaviour = pass_on,
					       .hook = live,
					       .options = {.set_restart = true, .retries = -1}};

/* What was begun when it died is lost with it, and nothing else is. */
static void what_a_process_passes_on_within_itself_is_not_counted_as_done_twice(void **unused)
{
	start_with(NULL, "Q", &passer, NULL);
	for (int i = 0; i < 5; i++)
		assert_int_equal(davit_tell(c, find("Q"), PASS_ON, "", 0), 0);
	assert_true(wait_for(&seen->passed_on, 5));
	assert_int_equal(davit_tell(c, find("Q"), STAY, "", 0), 0);
	for (int i = 0; i < 5; i++)
		assert_int_equal(davit_tell(c, find("Q"), COUNT_ME, "", 0), 0);
	assert_true(wait_for(&seen->begun, 1));
	kill(atomic_load(&seen->pid), SIGKILL);
	assert_true(wait_for(&seen->lives, 2));
	assert_true(wait_for(&seen->got, 5));
	balanced();
	assert_int_equal(seen->got, 5);
	assert_int_equal(seen->passed_on, 5);
}

/* --- order --- */

/* At first each gets all numbers, then every other one. */
static int check(struct davit_context *k, struct davit_message *m)
{
	_Atomic(uint32_t) *last = &seen->last[!strcmp(davit_alias(k), "R")];
	uint32_t n, before = atomic_load(last);

	memcpy(&n, m->data, sizeof n);
	if (n <= before || n > before + (n <= EACH ? 1 : 2))
		atomic_fetch_add(&seen->wrong, 1);
	atomic_store(last, n);
	atomic_fetch_add(&seen->got, 1);
	return 0;
}

/* To two processes in turn, one message each, then many to one; more than there is room for. */
static int send_all(struct davit_context *k, struct davit_message *m)
{
	struct davit_ref q, r;

	if (davit_find(k, "Q", &q) || davit_find(k, "R", &r))
		return DAVIT_EUNAVAIL;
	for (uint32_t i = 1; i <= EACH; i++)
		if (davit_tell(k, q, 1, &i, sizeof i) || davit_tell(k, r, 1, &i, sizeof i))
			return DAVIT_EUNAVAIL;
	for (uint32_t i = EACH + 1; i <= PARTS * EACH; i++)
		if (davit_tell(k, i % 2 ? q : r, 1, &i, sizeof i))
			return DAVIT_EUNAVAIL;
	return 0;
}

static const struct davit_definition checker = {
	.name = "Checker", .type = DAVIT_PROCESS, .behaviour = check, .options = {.limit = UINT32_MAX}};
static const struct davit_definition sender = {.name = "Sender", .behaviour = send_all};

static void two_processes_get_in_order_what_one_sends_them_in_turn(void **unused)
{
	start_with(NULL, "Q", &checker, NULL);
	start_with(NULL, "R", &checker, NULL);
	start_with(NULL, "P", &sender, NULL);
	assert_int_equal(davit_tell(c, find("P"), 1, "", 0), 0);
	assert_true(wait_for(&seen->got, (PARTS + 1) * EACH));
	assert_int_equal(seen->wrong, 0);
	balanced();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_is_sent_goes_out_while_the_handler_that_sent_it_goes_on,
						open_two, close_system),
		cmocka_unit_test_setup_teardown(
			a_process_is_started_again_while_the_handler_that_has_sent_to_it_goes_on, open_one,
			close_system),
		cmocka_unit_test_setup_teardown(
			what_a_process_passes_on_within_itself_is_not_counted_as_done_twice, open_one,
			close_system),
		cmocka_unit_test_setup_teardown(
			a_process_is_started_again_while_the_handler_that_has_sent_to_it_goes_on,
			open_one_without_barrier, close_system),
		cmocka_unit_test_setup_teardown(two_processes_get_in_order_what_one_sends_them_in_turn,
						open_one, close_system),
		cmocka_unit_test_setup_teardown(two_processes_get_in_order_what_one_sends_them_in_turn,
						open_one_without_barrier, close_system),
		cmocka_unit_test_setup_teardown(two_processes_get_in_order_what_one_sends_them_in_turn,
						open_two, close_system),
	};

	seen = mmap(NULL, sizeof *seen, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return seen == MAP_FAILED ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
