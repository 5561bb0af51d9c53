/* SPDX-License-Identifier: MIT */
#include "core/core.h"
#include "runtime/fake/fake.h"
#include "store/stores.h"

#include "base/strv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SEC INT64_C(1000000000)

/* A core on the fake runtime and the memory store, under a virtual clock. The
 * world and the store outlive the core, as a machine outlives a daemon. */
struct rig {
	struct davit_loop *loop;
	struct davit_store *store;
	struct davit_fake_world *world;
	struct davit_core *core;
	size_t starts, exits;
};

static void op_done(struct davit_op *op, int result)
{
	*(int *)op->user = result;
}

static void nothing(struct davit_timer *t)
{
	(void)t;
}

/* Virtual time passes, whatever happens in it. */
static void run_for(struct rig *r, int64_t ns)
{
	int64_t end = davit_loop_now(r->loop) + ns;
	struct davit_timer stop;

	davit_timer_init(&stop, r->loop, nothing);
	davit_timer_start(&stop, ns);
	while (davit_loop_now(r->loop) < end && davit_loop_step(r->loop))
		;
	davit_timer_stop(&stop);
}

static int wait_op(struct rig *r, struct davit_op *op, int *result)
{
	for (int n = 0; davit_op_pending(op) && n < 100000 && davit_loop_step(r->loop); n++)
		;
	assert_false(davit_op_pending(op));
	return *result;
}

static void on_world(void *user, const struct davit_fake_event *e)
{
	struct rig *r = user;

	r->starts += e->what == DAVIT_FAKE_STARTED;
	r->exits += e->what == DAVIT_FAKE_EXITED;
}

static void core_up(struct rig *r)
{
	struct davit_core_config config = {.loop = r->loop, .store = r->store, .default_runtime = "fake"};
	struct davit_error err;
	struct davit_op op;
	int result = -1;

	assert_int_equal(davit_core_new(&config, &r->core, &err), 0);
	assert_int_equal(davit_core_add_runtime(r->core, "fake", davit_fake_world_driver(r->world), &err), 0);
	davit_op_init(&op, r->loop, op_done, &result);
	davit_op_begin(&op, 0);
	davit_core_start(r->core, &op);
	assert_int_equal(wait_op(r, &op, &result), 0);
}

static void core_down(struct rig *r)
{
	davit_core_free(r->core);
	r->core = NULL;
}

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof *r);
	struct davit_error err;

	assert_int_equal(davit_loop_open_virtual(1, &r->loop, &err), 0);
	assert_int_equal(davit_store_open(&davit_memory_store, r->loop, "", &r->store, &err), 0);
	assert_int_equal(davit_fake_world_new(r->loop, &r->world, &err), 0);
	davit_fake_world_observe(r->world, on_world, r);
	core_up(r);
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	struct rig *r = *state;

	core_down(r);
	davit_fake_world_free(r->world);
	davit_store_close(r->store);
	davit_loop_close(r->loop);
	free(r);
	return 0;
}

static int apply_error(struct rig *r, const char *yaml, enum davit_apply_mode mode, struct davit_error *err)
{
	struct davit_spec **specs;
	struct davit_op op;
	size_t n;
	int result = -1, code;

	code = davit_spec_parse(yaml, strlen(yaml), NULL, &specs, &n, err);
	if (code < 0)
		return code;
	davit_op_init(&op, r->loop, op_done, &result);
	davit_op_begin(&op, 0);
	code = davit_core_apply(r->core, specs, n, mode, false, "test", &op, err);
	davit_spec_free_all(specs, n);
	return code < 0 ? code : wait_op(r, &op, &result);
}

static void apply(struct rig *r, const char *yaml)
{
	struct davit_error err = {0};
	int code = apply_error(r, yaml, DAVIT_APPLY_EITHER, &err);

	if (code < 0)
		print_error("%s\n", err.message);
	assert_int_equal(code, 0);
}

static struct davit_service *service(struct rig *r, const char *name)
{
	const struct davit_selector sel = {.name = name};
	struct davit_service *s = NULL;
	struct davit_error err;

	return davit_core_service(r->core, &sel, &s, &err) < 0 ? NULL : s;
}

static const char *status(struct rig *r, const char *name)
{
	struct davit_service *s = service(r, name);

	return s ? davit_service_status(s) : "gone";
}

/* The value behind "key": in the service's status object. */
static const char *field(struct rig *r, const char *name, const char *key)
{
	static char value[256];
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);
	char pattern[64];
	const char *at;

	davit_service_write(service(r, name), &j);
	snprintf(pattern, sizeof pattern, "\"%s\":", key);
	at = strstr(davit_buf_str(&b), pattern);
	assert_non_null(at);
	snprintf(value, sizeof value, "%.*s", (int)strcspn(at + strlen(pattern), ",}]"),
		 at + strlen(pattern));
	return value;
}

static int control(struct rig *r, const char *name, enum davit_service_verb verb)
{
	const struct davit_selector sel = {.name = name};
	struct davit_error err;
	struct davit_op op;
	int result = -1, code;

	davit_op_init(&op, r->loop, op_done, &result);
	davit_op_begin(&op, 0);
	code = davit_core_control(r->core, &sel, verb, "test", &op, &err);
	return code < 0 ? code : wait_op(r, &op, &result);
}

static int kill_service(struct rig *r, const char *name)
{
	const struct davit_selector sel = {.name = name};
	struct davit_error err;
	struct davit_op op;
	int result = -1, code;

	davit_op_init(&op, r->loop, op_done, &result);
	davit_op_begin(&op, 0);
	code = davit_core_kill(r->core, &sel, true, "test", &op, &err);
	return code < 0 ? code : wait_op(r, &op, &result);
}

/* --- tests --- */

static void a_service_runs_and_is_gone_when_killed(void **state)
{
	struct rig *r = *state;

	apply(r, "name: web\ncommand: [fake, run, 1d]\n");
	run_for(r, SEC);
	assert_string_equal(status(r, "web"), "running");
	assert_int_equal(r->starts, 1);
	assert_int_equal(kill_service(r, "web"), 0);
	assert_string_equal(status(r, "web"), "gone");
	assert_int_equal(davit_fake_world_objects(r->world), 0);
}

static void retries_n_means_exactly_n_restarts_and_then_error(void **state)
{
	struct rig *r = *state;

	apply(r, "name: web\ncommand: [fake, run, 10ms, exit, '3']\nrestart: {policy: on-failure, retries: "
		 "3}\n");
	run_for(r, 600 * SEC);
	assert_int_equal(r->starts, 4);
	assert_string_equal(status(r, "web"), "error");
	assert_string_equal(field(r, "web", "restarts"), "3");
	assert_string_equal(field(r, "web", "error"), "\"exit code 3\"");
}

static void the_retry_counter_survives_restarts_of_the_daemon(void **state)
{
	struct rig *r = *state;

	apply(r, "name: web\ncommand: [fake, run, 10ms, exit, '3']\n"
		 "restart: {policy: on-failure, retries: 5, backoff: {initial: 10s, max: 10s, jitter: 0}}\n");
	for (int n = 0; n < 30; n++) {
		run_for(r, 7 * SEC);
		core_down(r);
		core_up(r);
	}
	run_for(r, 600 * SEC);
	assert_int_equal(r->starts, 6);
	assert_string_equal(status(r, "web"), "error");
}

static void a_clean_exit_is_stopped_and_not_restarted(void **state)
{
	struct rig *r = *state;

	apply(r, "name: job\ncommand: [fake, run, 1s, exit, '0']\n");
	run_for(r, 60 * SEC);
	assert_int_equal(r->starts, 1);
	assert_string_equal(status(r, "job"), "stopped");
}

static void a_daemon_that_comes_back_adopts_what_runs(void **state)
{
	struct rig *r = *state;

	apply(r, "name: web\ncommand: [fake, run, 1d]\ninstances: 3\n");
	run_for(r, SEC);
	core_down(r);
	core_up(r);
	run_for(r, SEC);
	assert_int_equal(r->starts, 3);
	assert_string_equal(status(r, "web"), "running");
	assert_string_equal(field(r, "web", "ready"), "3");
}

static void an_exit_while_the_daemon_was_away_is_noticed(void **state)
{
	struct rig *r = *state;

	apply(r, "name: web\ncommand: [fake, run, 10s, exit, '1']\n");
	run_for(r, SEC);
	core_down(r);
	run_for(r, 20 * SEC);
	core_up(r);
	run_for(r, SEC);
	assert_int_equal(r->starts, 2);
	assert_string_equal(status(r, "web"), "running");
}

static void what_the_user_stopped_stays_stopped_until_started(void **state)
{
	struct rig *r = *state;

	apply(r, "name: web\ncommand: [fake, run, 1d]\nrestart: always\n");
	run_for(r, SEC);
	assert_int_equal(control(r, "web", DAVIT_SERVICE_STOP), 0);
	run_for(r, 60 * SEC);
	assert_string_equal(status(r, "web"), "stopped");
	core_down(r);
	core_up(r);
	run_for(r, 60 * SEC);
	assert_string_equal(status(r, "web"), "stopped");
	assert_int_equal(r->starts, 1);
	assert_int_equal(control(r, "web", DAVIT_SERVICE_START), 0);
	run_for(r, SEC);
	assert_string_equal(status(r, "web"), "running");
	assert_int_equal(r->starts, 2);
}

static void an_update_replaces_instances_one_at_a_time_and_keeps_serving(void **state)
{
	struct rig *r = *state;

	apply(r, "name: web\ncommand: [fake, run, 1d]\ninstances: 3\n");
	run_for(r, SEC);
	apply(r, "name: web\ncommand: [fake, run, 2d]\ninstances: 3\n");
	run_for(r, 30 * SEC);
	assert_int_equal(r->starts, 6);
	assert_int_equal(davit_fake_world_objects(r->world), 3);
	assert_string_equal(status(r, "web"), "running");
}

static void an_update_that_does_not_come_up_leaves_the_old_one_serving(void **state)
{
	struct rig *r = *state;

	apply(r, "name: web\ncommand: [fake, run, 1d]\n");
	run_for(r, SEC);
	apply(r, "name: web\ncommand: [fake, exit, '1']\nready: {type: notify}\n");
	run_for(r, 60 * SEC);
	assert_string_equal(status(r, "web"), "running");
	assert_string_equal(field(r, "web", "ready"), "1");
	assert_non_null(strstr(field(r, "web", "error"), "update failed"));
}

static void an_update_that_crashes_at_once_leaves_the_old_one_serving(void **state)
{
	struct rig *r = *state;

	apply(r, "name: web\ncommand: [fake, run, 1d]\n");
	run_for(r, SEC);
	apply(r, "name: web\ncommand: [fake, run, 100ms, exit, '1']\n");
	run_for(r, 60 * SEC);
	assert_string_equal(status(r, "web"), "running");
	assert_int_equal(r->starts, 2);
	assert_non_null(strstr(field(r, "web", "error"), "update failed"));
}

static void the_tree_keeps_the_order_of_creation_across_restarts(void **state)
{
	struct rig *r = *state;
	static const char *const names[] = {"zeta", "alpha", "mid"};
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);
	const char *last = NULL;

	apply(r, "name: zeta\ncommand: [fake, run, 1d]\nsupervisor: app\n---\n"
		 "name: alpha\ncommand: [fake, run, 1d]\nsupervisor: app\n---\n"
		 "name: mid\ncommand: [fake, run, 1d]\nsupervisor: app\n---\n"
		 "kind: Supervisor\nname: app\nstrategy: rest-for-one\n");
	core_down(r);
	core_up(r);
	davit_core_write_tree(r->core, &j);
	for (size_t k = 0; k < DAVIT_ARRAY_SIZE(names); k++) {
		const char *at = strstr(davit_buf_str(&b), names[k]);
		assert_non_null(at);
		assert_true(!last || at > last);
		last = at;
	}
}

static void dependencies_order_the_start_and_cycles_are_refused(void **state)
{
	struct rig *r = *state;
	struct davit_error err;

	apply(r, "name: web\ncommand: [fake, run, 1d]\ndependsOn: [db]\n");
	run_for(r, SEC);
	assert_string_equal(status(r, "web"), "pending");
	apply(r, "name: db\ncommand: [fake, run, 1d, ready-after, 5s]\nready: {type: notify}\n");
	run_for(r, 2 * SEC);
	assert_string_equal(status(r, "web"), "pending");
	run_for(r, 5 * SEC);
	assert_string_equal(status(r, "web"), "running");
	assert_int_equal(apply_error(r, "name: db\ncommand: [fake, run, 1d]\ndependsOn: [web]\n",
				     DAVIT_APPLY_UPDATE, &err),
			 DAVIT_EINVAL);
	assert_string_equal(err.message, "dependency cycle: db -> web -> db");
}

static void scaling_goes_up_down_and_to_nothing(void **state)
{
	struct rig *r = *state;
	const struct davit_selector sel = {.name = "web"};
	static const int64_t sizes[] = {5, 2, 0, 1};
	struct davit_error err;

	apply(r, "name: web\ncommand: [fake, run, 1d]\n");
	for (size_t k = 0; k < 4; k++) {
		struct davit_op op;
		int result = -1;
		davit_op_init(&op, r->loop, op_done, &result);
		davit_op_begin(&op, 0);
		assert_int_equal(davit_core_scale(r->core, &sel, sizes[k], "test", &op, &err), 0);
		assert_int_equal(wait_op(r, &op, &result), 0);
		run_for(r, 30 * SEC);
		assert_int_equal(davit_fake_world_objects(r->world), sizes[k]);
		assert_string_equal(status(r, "web"), sizes[k] ? "running" : "stopped");
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_service_runs_and_is_gone_when_killed),
		T(retries_n_means_exactly_n_restarts_and_then_error),
		T(the_retry_counter_survives_restarts_of_the_daemon),
		T(a_clean_exit_is_stopped_and_not_restarted),
		T(a_daemon_that_comes_back_adopts_what_runs),
		T(an_exit_while_the_daemon_was_away_is_noticed),
		T(what_the_user_stopped_stays_stopped_until_started),
		T(an_update_replaces_instances_one_at_a_time_and_keeps_serving),
		T(an_update_that_does_not_come_up_leaves_the_old_one_serving),
		T(an_update_that_crashes_at_once_leaves_the_old_one_serving),
		T(the_tree_keeps_the_order_of_creation_across_restarts),
		T(dependencies_order_the_start_and_cycles_are_refused),
		T(scaling_goes_up_down_and_to_nothing),
	};
	return cmocka_run_group_tests_name("core", tests, NULL, NULL);
}
