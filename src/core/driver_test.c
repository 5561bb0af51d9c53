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

static void check(struct davit_runtime *rt, const struct davit_workload *w, struct davit_op *op)
{
}
static void terminal_op(struct davit_terminal *t, struct davit_op *op)
{
}
static void terminal_list(struct davit_runtime *rt, struct davit_instance *inst,
			  void (*each)(void *user, const struct davit_terminal_info *info), void *user,
			  struct davit_op *op)
{
}
static ssize_t terminal_write(struct davit_terminal *t, const void *data, size_t n)
{
	return 0;
}
static void terminal_only(struct davit_terminal *t)
{
}
static void terminal_resize(struct davit_terminal *t, uint16_t rows, uint16_t columns)
{
}
static int terminal_signal(struct davit_terminal *t, int signo, struct davit_error *err)
{
	return 0;
}
static void by_name(struct davit_runtime *rt, const char *name, struct davit_op *op)
{
}
static void copy(struct davit_instance *inst, const char *path, int fd, struct davit_op *op)
{
}
static void images_list(struct davit_runtime *rt,
			void (*each)(void *user, const struct davit_image_info *info), void *user,
			struct davit_op *op)
{
}
static void images_pull(struct davit_runtime *rt, const char *reference, davit_progress_fn *progress,
			void *user, struct davit_op *op)
{
}
static void images_load(struct davit_runtime *rt, int fd, davit_progress_fn *progress, void *user,
			struct davit_op *op)
{
}
static void images_import(struct davit_runtime *rt, const char *reference, int fd, struct davit_op *op)
{
}
static void images_remove(struct davit_runtime *rt, const char *reference, bool force, struct davit_op *op)
{
}
static void images_build(struct davit_runtime *rt, const char *reference, int fd, const char *dockerfile,
			 davit_progress_fn *progress, void *user, struct davit_op *op)
{
}
static void objects_list(struct davit_runtime *rt,
			 void (*each)(void *user, const struct davit_object_info *info), void *user,
			 struct davit_op *op)
{
}

/* A whole table of which a test may break any part. */
struct tables {
	struct davit_logs_facet logs;
	struct davit_exec_facet exec;
	struct davit_stats_facet stats;
	struct davit_signal_facet signal;
	struct davit_ports_facet ports;
	struct davit_terminal_facet terminal;
	struct davit_pause_facet pause;
	struct davit_copy_facet copy;
	struct davit_images_facet images;
	struct davit_objects_facet volumes, networks;
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
		.terminal = {8, terminal_op, terminal_op, terminal_list, terminal_write, terminal_only,
			     terminal_resize, terminal_signal, terminal_only, by_name},
		.pause = {inst_op, inst_op},
		.copy = {copy, copy},
		.images = {images_list, images_pull, images_load, images_import, images_remove, images_build},
		.volumes = {objects_list, by_name, by_name},
		.networks = {objects_list, by_name, by_name},
		.driver = {.abi = DAVIT_RUNTIME_ABI,
			   .name = "whole",
			   .summary = "a table with everything",
			   .runtime_size = 16,
			   .instance_size = 16,
			   .open = rt_op,
			   .close = rt_only,
			   .capabilities = caps,
			   .adopt = rt_op,
			   .check = check,
			   .create = inst_op,
			   .start = inst_op,
			   .stop = stop,
			   .remove = inst_op,
			   .inspect = inspect,
			   .logs = &t->logs,
			   .exec = &t->exec,
			   .stats = &t->stats,
			   .signal = &t->signal,
			   .ports = &t->ports,
			   .terminal = &t->terminal,
			   .pause = &t->pause,
			   .copy = &t->copy,
			   .images = &t->images,
			   .volumes = &t->volumes,
			   .networks = &t->networks},
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
	t.driver.terminal = NULL;
	t.driver.pause = NULL;
	t.driver.copy = NULL;
	t.driver.images = NULL;
	t.driver.volumes = NULL;
	t.driver.networks = NULL;
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
		AT("check", driver.check),
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
		AT("terminal.open", terminal.open),
		AT("terminal.attach", terminal.attach),
		AT("terminal.list", terminal.list),
		AT("terminal.write", terminal.write),
		AT("terminal.resume", terminal.resume),
		AT("terminal.resize", terminal.resize),
		AT("terminal.signal", terminal.signal),
		AT("terminal.detach", terminal.detach),
		AT("terminal.close", terminal.close),
		AT("pause.pause", pause.pause),
		AT("pause.unpause", pause.unpause),
		AT("copy.put", copy.put),
		AT("copy.get", copy.get),
		AT("images.list", images.list),
		AT("images.pull", images.pull),
		AT("images.load", images.load),
		AT("images.import", images.import),
		AT("images.remove", images.remove),
		AT("images.build", images.build),
		AT("volumes.list", volumes.list),
		AT("volumes.create", volumes.create),
		AT("volumes.remove", volumes.remove),
		AT("networks.list", networks.list),
		AT("networks.create", networks.create),
		AT("networks.remove", networks.remove),
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
	BREAK(terminal.terminal_size, "terminal.terminal_size");
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
