/* SPDX-License-Identifier: MIT
 *
 * How long the start of a core waits for its runtimes.
 */
#include "core/test_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define SEC INT64_C(1000000000)

/* A runtime on a world of its own whose open hangs until it is let go, as that of a
 * platform which takes connections and never answers. */
static struct {
	struct davit_fake_world *world;
	struct davit_runtime_driver driver;
	struct davit_runtime *rt;
	struct davit_op *op;
	bool hangs;
} slow;

static void cancel_open(struct davit_op *op, int why)
{
	slow.op = NULL;
	davit_op_fail(op, why, "slow", "it does not answer");
}

/* The fake one finds its world by its table. */
static void open_for_good(struct davit_runtime *rt, struct davit_op *op)
{
	rt->driver = davit_fake_world_driver(slow.world);
	rt->driver->open(rt, op);
}

static void slow_open(struct davit_runtime *rt, struct davit_op *op)
{
	if (!slow.hangs) {
		open_for_good(rt, op);
		return;
	}
	slow.rt = rt;
	slow.op = op;
	davit_op_on_cancel(op, cancel_open);
}

static void slow_close(struct davit_runtime *rt)
{
	if (slow.op)
		davit_op_fail(DAVIT_TAKE(slow.op), DAVIT_ECLOSED, "slow", "it was closed");
	else
		davit_fake_world_driver(slow.world)->close(rt);
}

static void let_go(void)
{
	slow.hangs = false;
	open_for_good(slow.rt, DAVIT_TAKE(slow.op));
}

static int setup(void **state)
{
	int r = rig_setup(state);
	struct rig *rig = *state;

	assert_int_equal(davit_fake_world_new(rig->loop, &slow.world, NULL), 0);
	slow.driver = *davit_fake_world_driver(slow.world);
	slow.driver.name = "slow";
	slow.driver.open = slow_open;
	slow.driver.close = slow_close;
	slow.hangs = false;
	rig_down(rig);
	rig->second = &slow.driver;
	rig_up(rig);
	return r;
}

static int teardown(void **state)
{
	struct rig *r = *state;

	rig_down(r);
	davit_fake_world_free(slow.world);
	return rig_teardown(state);
}

/* The daemon dies; the next one finds a platform that hangs. Returns how long its
 * start takes. */
static int64_t start_again(struct rig *r)
{
	int64_t begun;

	rig_down(r);
	slow.hangs = true;
	begun = davit_loop_now(r->loop);
	rig_up(r);
	return davit_loop_now(r->loop) - begun;
}

static void a_runtime_that_hangs_and_that_nothing_uses_is_waited_for_one_second(void **state)
{
	struct rig *r = *state;

	rig_apply(r, "name: web\ncommand: [fake, run, 1d]\n");
	rig_run(r, SEC);
	assert_int_equal(start_again(r), SEC);
	assert_string_equal(rig_status(r, "web"), "running");
	assert_int_equal(r->starts, 1);
	/* Late, it can be used like any other. */
	let_go();
	rig_run(r, SEC);
	rig_apply(r, "name: there\nruntime: slow\ncommand: [fake, run, 1d]\n");
	rig_run(r, SEC);
	assert_string_equal(rig_status(r, "there"), "running");
}

static void a_runtime_that_a_service_uses_is_waited_for_longer(void **state)
{
	struct rig *r = *state;

	rig_apply(r, "name: there\nruntime: slow\ncommand: [fake, run, 1d]\n");
	rig_run(r, SEC);
	assert_int_equal(start_again(r), 8 * SEC);
}

static void what_runs_on_a_runtime_that_comes_late_is_taken_over(void **state)
{
	struct rig *r = *state;

	rig_apply(r, "name: there\nruntime: slow\ncommand: [fake, run, 1d]\n");
	rig_apply(r, "name: web\ncommand: [fake, run, 1d]\n");
	rig_run(r, SEC);
	assert_int_equal(davit_fake_world_running(slow.world), 1);
	start_again(r);
	assert_string_equal(rig_status(r, "web"), "running");
	assert_string_not_equal(rig_status(r, "there"), "running");
	rig_run(r, 5 * SEC);
	let_go();
	rig_run(r, SEC);
	assert_string_equal(rig_status(r, "there"), "running");
	assert_string_equal(rig_field(r, "there", "restarts"), "0");
	assert_int_equal(davit_fake_world_objects(slow.world), 1);
	assert_int_equal(rig_events(r, "1 running instances of runtime slow"), 1);
}

static void a_runtime_that_never_answers_is_given_up_and_tried_again(void **state)
{
	struct rig *r = *state;

	rig_apply(r, "name: there\nruntime: slow\ncommand: [fake, run, 1d]\n");
	rig_run(r, SEC);
	start_again(r);
	rig_run(r, 22 * SEC + SEC / 2);
	assert_null(slow.op);
	slow.hangs = false;
	rig_run(r, 5 * SEC);
	assert_string_equal(rig_status(r, "there"), "running");
	assert_int_equal(davit_fake_world_objects(slow.world), 1);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_runtime_that_hangs_and_that_nothing_uses_is_waited_for_one_second),
		T(a_runtime_that_a_service_uses_is_waited_for_longer),
		T(what_runs_on_a_runtime_that_comes_late_is_taken_over),
		T(a_runtime_that_never_answers_is_given_up_and_tried_again),
	};
	return cmocka_run_group_tests_name("start", tests, NULL, NULL);
}
