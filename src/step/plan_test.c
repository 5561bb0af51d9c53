/* SPDX-License-Identifier: MIT
 *
 * Each rule of the table in docs/plans.md as a test.
 */
#include "step/test_plan_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* --------------------------------------------------------------------------- rules */

static void in_parallel_with_fail_fast_cancels_the_siblings(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'in_parallel','fail_fast':true,'limit':2,'steps':[@a,@b,@c]}");
	assert_told(&r, "+0/0 +0/1 ");
	ended(&r, "0/1", FAILED);
	assert_told(&r, "-0/0 "); /* and 0/2 is never started */
	ended(&r, "0/0", FAILED);
	close_rig(&r, FAILED);
	(void)state;
}

static void a_cancelled_sibling_is_no_error(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'in_parallel','fail_fast':true,'steps':[@a,@b]}");
	ended(&r, "0/1", FAILED);
	ended(&r, "0/0", ERRORED); /* by a signal, a broken pipe: it was told to end */
	assert_told(&r, "+0/0 +0/1 -0/0 ");
	close_rig(&r, FAILED);
	(void)state;
}

static void in_parallel_of_no_steps_succeeds(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'in_parallel','fail_fast':true,'steps':[]}");
	close_rig(&r, OK);
	(void)state;
}

static void in_parallel_without_fail_fast_lets_all_of_them_end(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'in_parallel','limit':1,'steps':[@a,@b,@c]}");
	ended(&r, "0/0", FAILED);
	ended(&r, "0/1", ERRORED);
	ended(&r, "0/2", OK);
	assert_told(&r, "+0/0 +0/1 +0/2 ");
	close_rig(&r, ERRORED);
	(void)state;
}

static void attempts_are_made_again_on_failure_and_on_error(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'attempts','attempts':3,'step':@a}");
	ended(&r, "0@1/0", FAILED);
	ended(&r, "0@2/0", ERRORED);
	ended(&r, "0@3/0", OK);
	assert_told(&r, "+0@1/0 +0@2/0 +0@3/0 ");
	close_rig(&r, OK);
	(void)state;
}

static void attempts_are_not_made_again_on_abort(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'attempts','attempts':3,'step':@a}");
	abort_all(&r);
	ended(&r, "0@1/0", FAILED);
	assert_told(&r, "+0@1/0 -0@1/0 ");
	close_rig(&r, ABORTED);
	(void)state;
}

static void try_succeeds_whatever_happens(void **state)
{
	struct rig r;

	for (int o = OK; o < ABORTED; o++) {
		open_rig(&r, "{'kind':'try','step':@a}");
		ended(&r, "0/0", (enum davit_plan_outcome)o);
		assert_told(&r, "+0/0 ");
		close_rig(&r, OK);
	}
	(void)state;
}

static void try_does_not_hide_an_abort(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'try','step':@a}");
	abort_all(&r);
	ended(&r, "0/0", ABORTED);
	assert_told(&r, "+0/0 -0/0 ");
	close_rig(&r, ABORTED);
	(void)state;
}

static void a_timeout_is_a_failure_so_that_on_failure_and_ensure_run(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'ensure','hook':@e,'step':{'kind':'on_failure','hook':@f,'step':"
		     "{'kind':'timeout','after':'6s','step':@a}}}");
	assert_told(&r, "+0/0/0/0 ");
	davit_plan_running(r.p, "0/0/0/0", T0, NULL);
	assert_int_equal(r.armed, T0 + 6 * SEC);
	davit_plan_tick(r.p, T0 + 6 * SEC, NULL);
	assert_int_equal(r.armed, 0);
	assert_told(&r, "-0/0/0/0 ");
	ended(&r, "0/0/0/0", FAILED);
	assert_told(&r, "+0/0/1 ");
	ended(&r, "0/0/1", OK);
	assert_told(&r, "+0/1 ");
	ended(&r, "0/1", OK);
	close_rig(&r, FAILED);
	(void)state;
}

static void a_timeout_does_not_count_what_comes_before_the_program_runs(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'timeout','after':'6s','step':@a}");
	davit_plan_tick(r.p, T0 + 3600 * SEC, NULL); /* an image of many gigabytes */
	assert_int_equal(r.armed, 0);
	davit_plan_running(r.p, "0/0", T0 + 3600 * SEC, NULL);
	assert_int_equal(r.armed, T0 + 3606 * SEC);
	ended(&r, "0/0", OK);
	assert_told(&r, "+0/0 ");
	close_rig(&r, OK);
	(void)state;
}

static void a_timeout_goes_on_counting_over_a_restart(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'timeout','after':'6s','step':@a}");
	davit_plan_running(r.p, "0/0", T0, NULL);
	die(&r); /* at 4 s */
	assert_told(&r, "?0/0 ");
	assert_int_equal(r.armed, T0 + 6 * SEC);
	davit_plan_running(r.p, "0/0", T0 + 5 * SEC, NULL); /* reported again: the first one counts */
	assert_int_equal(r.armed, T0 + 6 * SEC);
	davit_plan_tick(r.p, T0 + 6 * SEC - 1, NULL);
	assert_told(&r, "");
	davit_plan_tick(r.p, T0 + 6 * SEC, NULL);
	assert_told(&r, "-0/0 ");
	ended(&r, "0/0", ABORTED);
	close_rig(&r, FAILED);
	(void)state;
}

static void ensure_runs_its_hook_whatever_the_outcome(void **state)
{
	struct rig r;

	for (int o = OK; o <= ABORTED; o++) {
		open_rig(&r, "{'kind':'ensure','step':@a,'hook':@h}");
		ended(&r, "0/0", (enum davit_plan_outcome)o);
		ended(&r, "0/1", OK);
		assert_told(&r, "+0/0 +0/1 ");
		close_rig(&r, (enum davit_plan_outcome)o);
	}
	(void)state;
}

static void ensure_runs_its_hook_also_on_abort_and_does_not_abort_it(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'ensure','step':@a,'hook':@h}");
	abort_all(&r);
	ended(&r, "0/0", ABORTED);
	abort_all(&r); /* once is enough */
	assert_told(&r, "+0/0 -0/0 +0/1 ");
	ended(&r, "0/1", OK);
	close_rig(&r, ABORTED);
	(void)state;
}

static void ensure_is_ok_only_if_both_are(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'ensure','step':@a,'hook':@h}");
	ended(&r, "0/0", OK);
	ended(&r, "0/1", FAILED);
	assert_told(&r, "+0/0 +0/1 ");
	close_rig(&r, FAILED);
	(void)state;
}

static void on_failure_does_not_run_on_an_error(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'on_failure','step':@a,'hook':@h}");
	ended(&r, "0/0", ERRORED);
	assert_told(&r, "+0/0 ");
	close_rig(&r, ERRORED);
	(void)state;
}

static void on_failure_leaves_the_outcome_failed(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'on_failure','step':@a,'hook':@h}");
	ended(&r, "0/0", FAILED);
	ended(&r, "0/1", OK);
	assert_told(&r, "+0/0 +0/1 ");
	close_rig(&r, FAILED);
	(void)state;
}

static void on_abort_runs_only_on_cancel(void **state)
{
	struct rig r;

	for (int o = OK; o < ABORTED; o++) {
		open_rig(&r, "{'kind':'on_abort','step':@a,'hook':@h}");
		ended(&r, "0/0", (enum davit_plan_outcome)o);
		assert_told(&r, "+0/0 ");
		close_rig(&r, (enum davit_plan_outcome)o);
	}
	open_rig(&r, "{'kind':'on_abort','step':@a,'hook':@h}");
	abort_all(&r);
	ended(&r, "0/0", ABORTED);
	assert_told(&r, "+0/0 -0/0 +0/1 ");
	ended(&r, "0/1", FAILED);
	close_rig(&r, ABORTED);
	(void)state;
}

static void a_second_forced_abort_ends_hooks_as_well(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'ensure','hook':@z,'step':{'kind':'ensure','step':@a,'hook':@h}}");
	abort_all(&r);
	ended(&r, "0/0/0", ABORTED);
	assert_told(&r, "+0/0/0 -0/0/0 +0/0/1 ");
	assert_int_equal(davit_plan_abort(r.p, true, T0, NULL), 0);
	assert_told(&r, "-0/0/1 ");
	ended(&r, "0/0/1", ABORTED);
	close_rig(&r, ABORTED);
	(void)state;
}

static void what_succeeds_in_spite_of_an_abort_has_succeeded(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'do','steps':[@a]}");
	abort_all(&r);
	ended(&r, "0/0", OK);
	assert_told(&r, "+0/0 -0/0 ");
	close_rig(&r, OK);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(in_parallel_with_fail_fast_cancels_the_siblings),
		cmocka_unit_test(a_cancelled_sibling_is_no_error),
		cmocka_unit_test(in_parallel_of_no_steps_succeeds),
		cmocka_unit_test(in_parallel_without_fail_fast_lets_all_of_them_end),
		cmocka_unit_test(attempts_are_made_again_on_failure_and_on_error),
		cmocka_unit_test(attempts_are_not_made_again_on_abort),
		cmocka_unit_test(try_succeeds_whatever_happens),
		cmocka_unit_test(try_does_not_hide_an_abort),
		cmocka_unit_test(a_timeout_is_a_failure_so_that_on_failure_and_ensure_run),
		cmocka_unit_test(a_timeout_does_not_count_what_comes_before_the_program_runs),
		cmocka_unit_test(a_timeout_goes_on_counting_over_a_restart),
		cmocka_unit_test(ensure_runs_its_hook_whatever_the_outcome),
		cmocka_unit_test(ensure_runs_its_hook_also_on_abort_and_does_not_abort_it),
		cmocka_unit_test(ensure_is_ok_only_if_both_are),
		cmocka_unit_test(on_failure_does_not_run_on_an_error),
		cmocka_unit_test(on_failure_leaves_the_outcome_failed),
		cmocka_unit_test(on_abort_runs_only_on_cancel),
		cmocka_unit_test(a_second_forced_abort_ends_hooks_as_well),
		cmocka_unit_test(what_succeeds_in_spite_of_an_abort_has_succeeded),
	};

	return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}
