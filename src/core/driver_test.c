/* SPDX-License-Identifier: MIT */
#include "base/util.h"
#include "davit/runtime.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Slots that are present and never called. */
static void rt_op(struct davit_runtime *rt, struct davit_op *op)
{
}
static void rt_only(struct davit_runtime *rt)
{
}
static void caps(struct davit_runtime *rt, struct davit_capabilities *ret)
{
}
static void inst_op(struct davit_instance *inst, struct davit_op *op)
{
}
static void stop(struct davit_instance *inst, const struct davit_stop *how, struct davit_op *op)
{
}
static void inspect(struct davit_instance *inst, struct davit_inspection *ret, struct davit_op *op)
{
}
static int log_open(struct davit_log_reader *r, struct davit_error *err)
{
	return 0;
}
static void log_reader(struct davit_log_reader *r)
{
}
static void discard(struct davit_runtime *rt, const char *id)
{
}
static void exec_start(struct davit_exec *x, struct davit_op *op)
{
}
static ssize_t exec_write(struct davit_exec *x, const void *data, size_t n)
{
	return 0;
}
static void exec_only(struct davit_exec *x)
{
}
static void exec_resize(struct davit_exec *x, uint16_t rows, uint16_t columns)
{
}
static int exec_signal(struct davit_exec *x, int signo, struct davit_error *err)
{
	return 0;
}
static void stats_read(struct davit_instance *inst, struct davit_stats *ret, struct davit_op *op)
{
}
static void signal_send(struct davit_instance *inst, int signo, struct davit_op *op)
{
}
static int resolve(struct davit_runtime *rt, struct davit_port *ports, size_t n, struct davit_error *err)
{
	return 0;
}

/* A whole table of which a test may break any part. */
struct tables {
	struct davit_logs_facet logs;
	struct davit_exec_facet exec;
	struct davit_stats_facet stats;
	struct davit_signal_facet signal;
	struct davit_ports_facet ports;
	struct davit_runtime_driver driver;
};

static void fill(struct tables *t)
{
	*t = (struct tables){
		.logs = {8, log_open, log_reader, log_reader, discard},
		.exec = {8, exec_start, exec_write, exec_only, exec_only, exec_resize, exec_signal,
			 exec_only},
		.stats = {stats_read},
		.signal = {signal_send},
		.ports = {resolve},
		.driver = {.abi = DAVIT_RUNTIME_ABI,
			   .name = "whole",
			   .summary = "a table with everything",
			   .runtime_size = 16,
			   .instance_size = 16,
			   .open = rt_op,
			   .close = rt_only,
			   .capabilities = caps,
			   .adopt = rt_op,
			   .create = inst_op,
			   .start = inst_op,
			   .stop = stop,
			   .remove = inst_op,
			   .inspect = inspect,
			   .logs = &t->logs,
			   .exec = &t->exec,
			   .stats = &t->stats,
			   .signal = &t->signal,
			   .ports = &t->ports},
	};
}

static void a_whole_table_is_accepted(void **state)
{
	struct davit_error err;
	struct tables t;

	fill(&t);
	assert_int_equal(davit_runtime_driver_validate(&t.driver, &err), 0);
}

static void a_table_without_facets_is_accepted(void **state)
{
	struct davit_error err;
	struct tables t;

	fill(&t);
	t.driver.logs = NULL;
	t.driver.exec = NULL;
	t.driver.stats = NULL;
	t.driver.signal = NULL;
	t.driver.ports = NULL;
	assert_int_equal(davit_runtime_driver_validate(&t.driver, &err), 0);
}

static void each_empty_slot_is_refused_by_its_name(void **state)
{
#define AT(name, member)                                                                                     \
	{                                                                                                    \
		name, offsetof(struct tables, member)                                                        \
	}
	static const struct {
		const char *name;
		size_t offset;
	} slots[] = {
		AT("open", driver.open),
		AT("close", driver.close),
		AT("capabilities", driver.capabilities),
		AT("adopt", driver.adopt),
		AT("create", driver.create),
		AT("start", driver.start),
		AT("stop", driver.stop),
		AT("remove", driver.remove),
		AT("inspect", driver.inspect),
		AT("logs.open", logs.open),
		AT("logs.resume", logs.resume),
		AT("logs.close", logs.close),
		AT("logs.discard", logs.discard),
		AT("exec.start", exec.start),
		AT("exec.write", exec.write),
		AT("exec.close_input", exec.close_input),
		AT("exec.resume", exec.resume),
		AT("exec.resize", exec.resize),
		AT("exec.signal", exec.signal),
		AT("exec.close", exec.close),
		AT("stats.read", stats.read),
		AT("signal.send", signal.send),
		AT("ports.resolve", ports.resolve),
	};
	struct davit_error err;
	struct tables t;

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(slots); i++) {
		fill(&t);
		memset((char *)&t + slots[i].offset, 0, sizeof(void *));
		assert_int_equal(davit_runtime_driver_validate(&t.driver, &err), DAVIT_EINVAL);
		assert_string_equal(err.where, slots[i].name);
		assert_non_null(strstr(err.message, slots[i].name));
	}
}

static void another_abi_is_refused_before_anything_else(void **state)
{
	struct davit_runtime_driver d = {.abi = DAVIT_RUNTIME_ABI + 1};
	struct davit_error err;

	assert_int_equal(davit_runtime_driver_validate(&d, &err), DAVIT_EINVAL);
	assert_string_equal(err.where, "abi");
	assert_int_equal(davit_runtime_driver_validate(NULL, &err), DAVIT_EINVAL);
}

static void names_and_summaries_are_checked(void **state)
{
	static const char *const bad[] = {
		NULL, "", "Upper", "1st", "-x", "under_score", "a b", "a23456789012345678901234567890123"};
	static const char *const good[] = {"a", "oci", "micro-vm", "k8s", "a2345678901234567890123456789012"};
	struct davit_error err;
	struct tables t;

	fill(&t);
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(bad); i++) {
		t.driver.name = bad[i];
		assert_int_equal(davit_runtime_driver_validate(&t.driver, &err), DAVIT_EINVAL);
		assert_string_equal(err.where, "name");
	}
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(good); i++) {
		t.driver.name = good[i];
		assert_int_equal(davit_runtime_driver_validate(&t.driver, &err), 0);
	}
	t.driver.summary = "two\nlines";
	assert_int_equal(davit_runtime_driver_validate(&t.driver, &err), DAVIT_EINVAL);
	assert_string_equal(err.where, "summary");
	t.driver.summary = NULL;
	assert_int_equal(davit_runtime_driver_validate(&t.driver, &err), DAVIT_EINVAL);
}

static void absurd_sizes_are_refused_by_their_name(void **state)
{
	struct davit_error err;
	struct tables t;

#define BREAK(member, name)                                                                                  \
	do {                                                                                                 \
		fill(&t);                                                                                    \
		t.member = SIZE_MAX;                                                                         \
		assert_int_equal(davit_runtime_driver_validate(&t.driver, &err), DAVIT_EINVAL);              \
		assert_string_equal(err.where, name);                                                        \
	} while (0)
	BREAK(driver.runtime_size, "runtime_size");
	BREAK(driver.instance_size, "instance_size");
	BREAK(logs.reader_size, "logs.reader_size");
	BREAK(exec.exec_size, "exec.exec_size");
}

static void every_capability_and_exit_has_its_own_name(void **state)
{
	for (int i = 0; i < DAVIT_CAP_COUNT; i++) {
		assert_true(*davit_capability_name(i) && *davit_capability_doc(i));
		for (int j = 0; j < i; j++)
			assert_string_not_equal(davit_capability_name(i), davit_capability_name(j));
	}
	assert_string_equal(davit_capability_name(DAVIT_CAP_MEMORY_LIMIT), "memory-limit");
	assert_string_equal(davit_capability_name(DAVIT_CAP_COUNT), "unknown");
	for (int i = DAVIT_EXIT_NONE; i <= DAVIT_EXIT_UNKNOWN; i++)
		for (int j = DAVIT_EXIT_NONE; j < i; j++)
			assert_string_not_equal(davit_exit_kind_name(i), davit_exit_kind_name(j));
	assert_string_equal(davit_exit_kind_name(DAVIT_EXIT_OOM), "oom");
	assert_string_equal(davit_exit_kind_name(99), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_whole_table_is_accepted),
		cmocka_unit_test(a_table_without_facets_is_accepted),
		cmocka_unit_test(each_empty_slot_is_refused_by_its_name),
		cmocka_unit_test(another_abi_is_refused_before_anything_else),
		cmocka_unit_test(names_and_summaries_are_checked),
		cmocka_unit_test(absurd_sizes_are_refused_by_their_name),
		cmocka_unit_test(every_capability_and_exit_has_its_own_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
