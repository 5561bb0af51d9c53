/* SPDX-License-Identifier: MIT
 *
 * The exec runtime against a program that misbehaves: what the conformance
 * suite, with a good one, does not reach.
 */
#include "base/file.h"
#include "base/log.h"
#include "base/units.h"
#include "base/util.h"
#include "runtime/exec/exec.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include <cmocka.h>

#define MSEC DAVIT_NSEC_PER_MSEC
#define SEC DAVIT_NSEC_PER_SEC
enum { INSTANCES = 3 };

/* The program at the other end, beside this file. */
#define TESTING_PEER DAVIT_SOURCE_ROOT "/src/runtime/exec/testing-peer"

struct rig {
	struct davit_loop *loop;
	const struct davit_runtime_driver *driver;
	struct davit_runtime *rt;
	char home[64];
	struct davit_workload workload[INSTANCES];
	char *argv[INSTANCES][2];
	struct davit_instance *inst[INSTANCES];
	char told[1024];
	struct davit_op op;
	int result;
};

static struct rig *rig; /* of the test that runs: the events have no other way to it */

__attribute__((format(printf, 1, 2))) static void tell(const char *fmt, ...)
{
	size_t len = strlen(rig->told);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(rig->told + len, sizeof rig->told - len, fmt, ap);
	va_end(ap);
}

static int index_of(const struct davit_instance *inst)
{
	return inst->workload->id[0] - 'a';
}
static struct davit_instance *on_found(struct davit_runtime *rt, const struct davit_found *found)
{
	return rig->inst[found->id[0] - 'a'];
}
static void on_ready(struct davit_instance *inst)
{
}
static void on_status(struct davit_instance *inst, const char *text)
{
}
static void on_exited(struct davit_instance *inst, uint32_t run, const struct davit_exit *exit)
{
	tell("exited %d run %u code %d;", index_of(inst), run, exit->code);
}
static void on_vanished(struct davit_instance *inst, const char *reason)
{
	tell("vanished %d;", index_of(inst));
}
static void on_lost(struct davit_runtime *rt, const struct davit_error *why)
{
	tell("lost;");
}
static void on_regained(struct davit_runtime *rt)
{
	tell("regained;");
}
static const struct davit_runtime_events events = {on_found,	on_ready, on_status,  on_exited,
						   on_vanished, on_lost,  on_regained};

static void on_tick(struct davit_timer *t)
{
}

/* One turn of the loop, of a few milliseconds at most. */
static void turn(void)
{
	struct davit_timer t;

	davit_timer_init(&t, rig->loop, on_tick);
	davit_timer_start(&t, 2 * MSEC);
	uv_run(davit_loop_uv(rig->loop), UV_RUN_ONCE);
	davit_timer_stop(&t);
}

static void until_told(const char *what)
{
	int64_t until = davit_loop_now(rig->loop) + 10 * SEC;

	while (!strstr(rig->told, what) && davit_loop_now(rig->loop) < until)
		turn();
	if (!strstr(rig->told, what))
		fail_msg("never told '%s', but '%s'", what, rig->told);
}

static void on_done(struct davit_op *op, int result)
{
	rig->result = result;
	tell("done %s;", davit_error_word(result));
}

static struct davit_op *begin(int64_t timeout)
{
	davit_op_init(&rig->op, rig->loop, on_done, NULL);
	davit_op_begin(&rig->op, timeout);
	return &rig->op;
}

static int finish(void)
{
	while (davit_op_pending(&rig->op))
		turn();
	return rig->result;
}

static int open_runtime(void)
{
	rig->rt->driver->open(rig->rt, begin(20 * SEC));
	return finish();
}

static struct davit_instance *created(int i, const char *does)
{
	struct davit_instance *inst = calloc(1, sizeof *inst + rig->driver->instance_size);

	rig->argv[i][0] = (char *)does;
	rig->workload[i] = (struct davit_workload){.argv = rig->argv[i], .label = (char *)"label"};
	snprintf(rig->workload[i].id, sizeof rig->workload[i].id, "%c00000000000000f", 'a' + i);
	*inst = (struct davit_instance){.runtime = rig->rt, .workload = &rig->workload[i]};
	rig->inst[i] = inst;
	rig->driver->create(inst, begin(0));
	assert_int_equal(finish(), 0);
	return inst;
}

static int start(struct davit_instance *inst, int64_t timeout)
{
	rig->driver->start(inst, begin(timeout));
	return finish();
}

static struct davit_instance *running(int i, const char *does)
{
	struct davit_instance *inst = created(i, does);

	assert_int_equal(start(inst, 0), 0);
	rig->told[0] = '\0';
	return inst;
}

static enum davit_state state_of(struct davit_instance *inst)
{
	struct davit_inspection now;

	rig->driver->inspect(inst, &now, begin(0));
	assert_int_equal(finish(), 0);
	return now.state;
}

static int setup(void **state)
{
	struct davit_error err;

	rig = calloc(1, sizeof *rig);
	signal(SIGPIPE, SIG_IGN);
	davit_log_set_level(DAVIT_LOG_ERROR);
	unsetenv("TEST_PEER");
	strcpy(rig->home, "/tmp/davit-exec-test-XXXXXX");
	assert_non_null(mkdtemp(rig->home));
	assert_int_equal(davit_loop_open(&rig->loop, &err), 0);
	assert_int_equal(davit_exec_driver_new(TESTING_PEER, &rig->driver, &err), 0);
	rig->rt = calloc(1, sizeof *rig->rt + rig->driver->runtime_size);
	*rig->rt = (struct davit_runtime){.driver = rig->driver,
					  .loop = rig->loop,
					  .events = &events,
					  .name = "testing-peer",
					  .state_dir = rig->home,
					  .run_dir = rig->home,
					  .log_dir = rig->home};
	return 0;
}

static int setup_open(void **state)
{
	setup(state);
	assert_int_equal(open_runtime(), 0);
	rig->rt->driver->adopt(rig->rt, begin(0));
	assert_int_equal(finish(), 0);
	rig->told[0] = '\0';
	return 0;
}

static int teardown(void **state)
{
	if (rig->rt) {
		rig->driver->close(rig->rt);
		free(rig->rt);
	}
	davit_loop_close(rig->loop);
	for (size_t i = 0; i < INSTANCES; i++)
		free(rig->inst[i]);
	davit_exec_driver_free(rig->driver);
	davit_remove_tree(rig->home, NULL);
	free(rig);
	rig = NULL;
	return 0;
}

static void a_driver_is_named_after_its_file(void **state)
{
	const struct davit_runtime_driver *d = NULL;
	struct davit_error err;

	assert_int_equal(davit_exec_driver_new("/usr/lib/davit-runtime-oven", &d, &err), 0);
	assert_string_equal(d->name, "oven");
	davit_exec_driver_free(d);
	assert_int_equal(davit_exec_driver_new("/usr/lib/davit-runtime-", &d, &err), DAVIT_EINVAL);
	assert_int_equal(davit_exec_driver_new("relative", &d, &err), DAVIT_EINVAL);
}

static void a_program_that_is_not_there_fails_open(void **state)
{
	const struct davit_runtime_driver *d;
	struct davit_error err;

	assert_int_equal(davit_exec_driver_new("/nonexistent/davit-runtime-x", &d, &err), 0);
	rig->rt->driver = d;
	assert_int_equal(open_runtime(), DAVIT_ENOENT);
	assert_non_null(strstr(rig->op.error.message, "/nonexistent/davit-runtime-x"));
	d->close(rig->rt);
	rig->rt->driver = rig->driver;
	davit_exec_driver_free(d);
	free(rig->rt);
	rig->rt = NULL;
}

static void another_version_of_the_protocol_fails_open(void **state)
{
	setenv("TEST_PEER", "version", 1);
	assert_int_equal(open_runtime(), DAVIT_EPROTO);
	assert_non_null(strstr(rig->op.error.message, "version 2"));
}

static void a_program_without_a_hello_is_given_up_at_the_deadline(void **state)
{
	setenv("TEST_PEER", "mute", 1);
	rig->rt->driver->open(rig->rt, begin(200 * MSEC));
	assert_int_equal(finish(), DAVIT_ETIMEDOUT);
}

static void one_that_breaks_the_protocol_is_restarted_and_the_rest_goes_on(void **state)
{
	static const char *const breaks[] = {"garbage", "unknown-id", "unknown-event", "wrong-type", "huge"};
	struct davit_instance *other = running(0, "runs");

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(breaks); i++) {
		struct davit_instance *bad = created(1, breaks[i]);
		rig->told[0] = '\0';
		assert_int_equal(start(bad, 0), DAVIT_EPROTO);
		assert_non_null(strstr(rig->op.error.message, "testing-peer"));
		until_told("regained;");
		assert_string_equal(rig->told, "lost;done protocol;regained;");
		assert_int_equal(state_of(other), DAVIT_STATE_STARTED);
		rig->driver->remove(bad, begin(0));
		assert_int_equal(finish(), 0);
		free(bad);
		rig->inst[1] = NULL;
	}
}

static void what_happened_while_it_was_dead_is_told_before_regained(void **state)
{
	struct davit_instance *die;

	running(0, "ends-meanwhile");
	running(1, "goes-meanwhile");
	die = created(2, "die");
	rig->told[0] = '\0';
	assert_int_equal(start(die, 0), DAVIT_EUNAVAIL);
	until_told("regained;");
	assert_non_null(strstr(rig->told, "exited 0 run 1 code 5;"));
	assert_non_null(strstr(rig->told, "vanished 1;"));
	assert_string_equal(rig->told + strlen(rig->told) - strlen("regained;"), "regained;");
	assert_int_equal(state_of(rig->inst[0]), DAVIT_STATE_STOPPED);
}

static void while_it_is_down_operations_fail_at_once(void **state)
{
	struct davit_instance *die = created(0, "die");

	assert_int_equal(start(die, 0), DAVIT_EUNAVAIL);
	until_told("lost;");
	assert_int_equal(start(die, 0), DAVIT_EUNAVAIL);
	assert_null(strstr(rig->told, "regained;"));
}

static void silence_costs_the_operation_and_no_more(void **state)
{
	struct davit_instance *other = running(0, "runs"), *silent = created(1, "silent");

	assert_int_equal(start(silent, 50 * MSEC), DAVIT_ETIMEDOUT);
	assert_int_equal(state_of(other), DAVIT_STATE_STARTED);
	assert_null(strstr(rig->told, "lost;"));
}

static void an_exit_before_the_answer_is_told_after_the_start(void **state)
{
	struct davit_instance *inst = created(0, "early-exit");

	rig->told[0] = '\0';
	assert_int_equal(start(inst, 0), 0);
	until_told("exited");
	assert_string_equal(rig->told, "done ok;exited 0 run 1 code 4;");
}

static void an_exit_after_the_answer_is_told_before_the_stop_completes(void **state)
{
	struct davit_instance *inst = running(0, "runs");

	rig->driver->stop(inst, &(struct davit_stop){SIGTERM, SEC}, begin(0));
	assert_int_equal(finish(), 0);
	assert_string_equal(rig->told, "exited 0 run 1 code 0;done ok;");
}

static void a_capability_that_is_absent_is_refused_with_its_reason(void **state)
{
	struct davit_instance *inst = running(0, "runs");
	struct davit_log_reader *r = calloc(1, sizeof *r + rig->driver->logs->reader_size);
	struct davit_error err;

	r->instance = inst;
	assert_int_equal(rig->driver->logs->open(r, &err), DAVIT_ENOTSUP);
	assert_string_equal(err.message, "runtime 'testing-peer' does not support logs: it keeps none");
	free(r);
}

/* --- commands --- */

static bool pause_output;

static bool on_output(struct davit_exec *x, enum davit_stream stream, const void *data, size_t n)
{
	tell("%.*s;", (int)n, (const char *)data);
	return !pause_output;
}

static void on_command_exit(struct davit_exec *x, const struct davit_exit *exit)
{
	tell("command %s %d;", davit_exit_kind_name(exit->kind), exit->code);
}

static struct davit_exec *new_command(struct davit_instance *inst, char *const *argv)
{
	struct davit_exec *x = calloc(1, sizeof *x + rig->driver->exec->exec_size);

	*x = (struct davit_exec){
		.instance = inst, .argv = argv, .output = on_output, .exited = on_command_exit};
	return x;
}

static void a_command_talks_over_its_channel(void **state)
{
	const struct davit_exec_facet *f = rig->driver->exec;
	char *cat[] = {(char *)"cat", NULL}, *none[] = {(char *)"none", NULL};
	struct davit_instance *inst = running(0, "runs");
	struct davit_exec *x = new_command(inst, cat);

	f->start(x, begin(0));
	assert_int_equal(finish(), 0);
	rig->told[0] = '\0';
	pause_output = true;
	assert_int_equal(f->write(x, "one", 3), 3);
	assert_int_equal(f->write(x, "\xfftwo", 4), 4);
	f->close_input(x);
	until_told("one;");
	for (int i = 0; i < 20; i++)
		turn();
	assert_string_equal(rig->told, "one;");
	pause_output = false;
	f->resume(x);
	until_told("command");
	assert_string_equal(rig->told, "one;\xfftwo;command code 7;");
	f->close(x);
	free(x);

	x = new_command(inst, none);
	f->start(x, begin(0));
	assert_int_equal(finish(), DAVIT_EEXEC);
	free(x); /* without close: nothing of it is left */
	for (int i = 0; i < 5; i++)
		turn();
}

static void a_command_ends_as_unknown_when_the_program_dies(void **state)
{
	char *cat[] = {(char *)"cat", NULL};
	struct davit_exec *x = new_command(running(0, "runs"), cat);
	struct davit_instance *die = created(1, "die");

	rig->driver->exec->start(x, begin(0));
	assert_int_equal(finish(), 0);
	assert_int_equal(start(die, 0), DAVIT_EUNAVAIL);
	until_told("command unknown 0;");
	rig->driver->exec->close(x);
	free(x);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup_open, teardown)
#define T_CLOSED(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_driver_is_named_after_its_file),
		T_CLOSED(a_program_that_is_not_there_fails_open),
		T_CLOSED(another_version_of_the_protocol_fails_open),
		T_CLOSED(a_program_without_a_hello_is_given_up_at_the_deadline),
		T(one_that_breaks_the_protocol_is_restarted_and_the_rest_goes_on),
		T(what_happened_while_it_was_dead_is_told_before_regained),
		T(while_it_is_down_operations_fail_at_once),
		T(silence_costs_the_operation_and_no_more),
		T(an_exit_before_the_answer_is_told_after_the_start),
		T(an_exit_after_the_answer_is_told_before_the_stop_completes),
		T(a_capability_that_is_absent_is_refused_with_its_reason),
		T(a_command_talks_over_its_channel),
		T(a_command_ends_as_unknown_when_the_program_dies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
