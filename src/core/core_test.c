/* SPDX-License-Identifier: MIT */
#include "core/test_rig.h"

#include "base/strv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SEC INT64_C(1000000000)

/* --- tests --- */

static void a_service_runs_and_is_gone_when_killed(void **state)
{
	struct rig *r = *state;

	rig_apply(r, "name: web\ncommand: [fake, run, 1d]\n");
	rig_run(r, SEC);
	assert_string_equal(rig_status(r, "web"), "running");
	assert_int_equal(r->starts, 1);
	assert_int_equal(rig_kill(r, NULL, "web"), 0);
	assert_string_equal(rig_status(r, "web"), "gone");
	assert_int_equal(davit_fake_world_objects(r->world), 0);
}

static void retries_n_means_exactly_n_restarts_and_then_error(void **state)
{
	struct rig *r = *state;

	rig_apply(r,
		  "name: web\ncommand: [fake, run, 10ms, exit, '3']\nrestart: {policy: on-failure, retries: "
		  "3}\n");
	rig_run(r, 600 * SEC);
	assert_int_equal(r->starts, 4);
	assert_string_equal(rig_status(r, "web"), "error");
	assert_string_equal(rig_field(r, "web", "restarts"), "3");
	assert_string_equal(rig_field(r, "web", "error"), "\"exit code 3\"");
}

static void the_retry_counter_survives_restarts_of_the_daemon(void **state)
{
	struct rig *r = *state;

	rig_apply(
		r,
		"name: web\ncommand: [fake, run, 10ms, exit, '3']\n"
		"restart: {policy: on-failure, retries: 5, backoff: {initial: 10s, max: 10s, jitter: 0}}\n");
	for (int n = 0; n < 30; n++) {
		rig_run(r, 7 * SEC);
		rig_down(r);
		rig_up(r);
	}
	rig_run(r, 600 * SEC);
	assert_int_equal(r->starts, 6);
	assert_string_equal(rig_status(r, "web"), "error");
}

static void the_backoff_goes_on_over_restarts_of_the_daemon(void **state)
{
	struct rig *r = *state;

	rig_apply(r, "name: web\ncommand: [fake, run, 10ms, exit, '3']\n"
		     "restart: {backoff: {initial: 60s, max: 60s, jitter: 0}}\n");
	rig_run(r, SEC);
	for (int n = 0; n < 5; n++) {
		rig_down(r);
		rig_run(r, 5 * SEC);
		rig_up(r);
		rig_run(r, 5 * SEC);
	}
	assert_int_equal(r->starts, 1);
	rig_run(r, 10 * SEC);
	assert_int_equal(r->starts, 2);
	/* One that is over while the daemon is away is not waited for again. */
	rig_run(r, SEC);
	rig_down(r);
	rig_run(r, 100 * SEC);
	rig_up(r);
	rig_run(r, SEC);
	assert_int_equal(r->starts, 3);
}

static void the_backoff_of_a_failed_start_goes_on_too(void **state)
{
	struct rig *r = *state;

	rig_apply(r, "name: web\ncommand: [fake, fail-start, '1']\n"
		     "restart: {backoff: {initial: 60s, max: 60s, jitter: 0}}\n");
	rig_run(r, 40 * SEC);
	rig_down(r);
	rig_up(r);
	rig_run(r, 15 * SEC);
	assert_int_equal(r->starts, 0);
	rig_run(r, 10 * SEC);
	assert_int_equal(r->starts, 1);
}

static void a_failed_supervisor_stays_failed_over_restarts_of_the_daemon(void **state)
{
	struct rig *r = *state;
	size_t starts;

	rig_apply(r,
		  "kind: Supervisor\nname: v\nstrategy: one-for-all\nintensity: {restarts: 2, period: 1h}\n");
	rig_apply(r, "name: good\nsupervisor: v\ncommand: [fake, run, 30d]\n");
	rig_apply(r, "name: bad\nsupervisor: v\ncommand: [fake, run, 1s, exit, '1']\n");
	rig_run(r, 100 * SEC);
	assert_int_equal(davit_fake_world_running(r->world), 0);
	starts = r->starts;
	for (int n = 0; n < 3; n++) {
		rig_down(r);
		rig_up(r);
		rig_run(r, 100 * SEC);
	}
	assert_int_equal(r->starts, starts);
	/* The user's start is a new beginning, for the next daemon as well. */
	assert_int_equal(rig_control(r, "good", DAVIT_SERVICE_START), 0);
	rig_run(r, SEC);
	assert_string_equal(rig_status(r, "good"), "running");
	rig_down(r);
	rig_up(r);
	rig_run(r, SEC);
	assert_string_equal(rig_status(r, "good"), "running");
}

static void a_program_keeps_its_address_over_restarts_of_the_daemon(void **state)
{
	struct rig *r = *state;

	rig_apply(r, "name: web\nsource: /proc/self/exe\nports: [8080]\n");
	rig_run(r, SEC);
	rig_down(r);
	rig_up(r);
	assert_string_equal(rig_field(r, "web", "addresses"), "[\"127.0.0.1:8080\"");
	assert_int_equal(r->starts, 1);
}

static void a_clean_exit_is_stopped_and_not_restarted(void **state)
{
	struct rig *r = *state;

	rig_apply(r, "name: job\ncommand: [fake, run, 1s, exit, '0']\n");
	rig_run(r, 60 * SEC);
	assert_int_equal(r->starts, 1);
	assert_string_equal(rig_status(r, "job"), "stopped");
}

struct revisions {
	int64_t exited, failed, record;
};

static bool note_revision(void *user, const struct davit_kv *kv)
{
	struct revisions *at = user;
	DAVIT_AUTO_FREE char *text = strndup(kv->value, kv->len);

	if (strstr(text, "\"type\":\"exited\"")) /* events of one transaction share a row */
		at->exited = kv->mod_revision;
	if (strstr(text, "\"type\":\"failed\""))
		at->failed = kv->mod_revision;
	if (!strncmp(kv->key, "state/", strlen("state/")))
		at->record = kv->mod_revision;
	return true;
}

static void an_end_that_its_policy_makes_the_last_is_one_transaction(void **state)
{
	struct rig *r = *state;
	struct revisions at = {0};
	struct davit_error err;
	int64_t now;

	rig_apply(r, "name: job\ncommand: [fake, run, 1s, exit, '7']\nrestart: never\n");
	rig_run(r, 60 * SEC);
	assert_string_equal(rig_status(r, "job"), "error");
	assert_int_equal(r->store->driver->list(r->store, "", NULL, 0, note_revision, &at, &now, &err), 0);
	assert_true(at.exited > 0);
	assert_int_equal(at.failed, at.exited);
	assert_int_equal(at.record, at.exited);
	rig_down(r);
	rig_up(r);
	rig_run(r, 60 * SEC);
	assert_string_equal(rig_status(r, "job"), "error");
	assert_int_equal(r->starts, 1);
	assert_int_equal(rig_events(r, "\"type\":\"exited\""), 1);
	assert_int_equal(rig_events(r, "\"type\":\"failed\""), 1);
}

static void a_daemon_that_comes_back_adopts_what_runs(void **state)
{
	struct rig *r = *state;

	rig_apply(r, "name: web\ncommand: [fake, run, 1d]\ninstances: 3\n");
	rig_run(r, SEC);
	rig_down(r);
	rig_up(r);
	rig_run(r, SEC);
	assert_int_equal(r->starts, 3);
	assert_string_equal(rig_status(r, "web"), "running");
	assert_string_equal(rig_field(r, "web", "ready"), "3");
}

static void an_exit_while_the_daemon_was_away_is_noticed(void **state)
{
	struct rig *r = *state;

	rig_apply(r, "name: web\ncommand: [fake, run, 10s, exit, '1']\n");
	rig_run(r, SEC);
	rig_down(r);
	rig_run(r, 20 * SEC);
	rig_up(r);
	rig_run(r, SEC);
	assert_int_equal(r->starts, 2);
	assert_string_equal(rig_status(r, "web"), "running");
}

static void what_the_user_stopped_stays_stopped_until_started(void **state)
{
	struct rig *r = *state;

	rig_apply(r, "name: web\ncommand: [fake, run, 1d]\nrestart: always\n");
	rig_run(r, SEC);
	assert_int_equal(rig_control(r, "web", DAVIT_SERVICE_STOP), 0);
	rig_run(r, 60 * SEC);
	assert_string_equal(rig_status(r, "web"), "stopped");
	rig_down(r);
	rig_up(r);
	rig_run(r, 60 * SEC);
	assert_string_equal(rig_status(r, "web"), "stopped");
	assert_int_equal(r->starts, 1);
	assert_int_equal(rig_control(r, "web", DAVIT_SERVICE_START), 0);
	rig_run(r, SEC);
	assert_string_equal(rig_status(r, "web"), "running");
	assert_int_equal(r->starts, 2);
}

static void an_update_replaces_instances_one_at_a_time_and_keeps_serving(void **state)
{
	struct rig *r = *state;

	rig_apply(r, "name: web\ncommand: [fake, run, 1d]\ninstances: 3\n");
	rig_run(r, SEC);
	rig_apply(r, "name: web\ncommand: [fake, run, 2d]\ninstances: 3\n");
	for (int i = 0; i < 300; i++) {
		rig_run(r, SEC / 10);
		assert_in_range(davit_fake_world_objects(r->world), 3, 4);
		assert_true(atoi(rig_field(r, "web", "ready")) >= 3);
	}
	assert_int_equal(r->starts, 6);
	assert_int_equal(davit_fake_world_objects(r->world), 3);
	assert_string_equal(rig_status(r, "web"), "running");
}

static void an_update_that_does_not_come_up_leaves_the_old_one_serving(void **state)
{
	struct rig *r = *state;

	rig_apply(r, "name: web\ncommand: [fake, run, 1d]\n");
	rig_run(r, SEC);
	rig_apply(r, "name: web\ncommand: [fake, exit, '1']\nready: {type: notify}\n");
	rig_run(r, 60 * SEC);
	assert_string_equal(rig_status(r, "web"), "running");
	assert_string_equal(rig_field(r, "web", "ready"), "1");
	assert_non_null(strstr(rig_field(r, "web", "error"), "update failed"));
}

static void an_update_that_crashes_at_once_leaves_the_old_one_serving(void **state)
{
	struct rig *r = *state;

	rig_apply(r, "name: web\ncommand: [fake, run, 1d]\n");
	rig_run(r, SEC);
	rig_apply(r, "name: web\ncommand: [fake, run, 100ms, exit, '1']\n");
	rig_run(r, 60 * SEC);
	assert_string_equal(rig_status(r, "web"), "running");
	assert_int_equal(r->starts, 2);
	assert_non_null(strstr(rig_field(r, "web", "error"), "update failed"));
}

/* A new daemon has the spec of the update only. */
static void what_was_taken_over_of_an_earlier_version_is_replaced_and_not_restarted(void **state)
{
	struct rig *r = *state;

	rig_apply(r, "name: web\ncommand: [fake, run, 20s, exit, '1']\n");
	rig_run(r, SEC);
	rig_apply(r, "name: web\ncommand: [fake, run, 1d, ready-after, 50s]\nready: {type: notify, timeout: "
		     "1h}\n");
	rig_run(r, SEC);
	assert_int_equal(r->starts, 2);
	rig_down(r);
	rig_up(r);
	rig_run(r, 30 * SEC);
	assert_int_equal(r->starts, 2);
	rig_run(r, 30 * SEC);
	assert_string_equal(rig_status(r, "web"), "running");
	assert_int_equal(rig_events(r, "\"exited\""), 1);
}

static void the_tree_keeps_the_order_of_creation_across_restarts(void **state)
{
	struct rig *r = *state;
	static const char *const names[] = {"zeta", "alpha", "mid"};
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);
	const char *last = NULL;

	rig_apply(r, "name: zeta\ncommand: [fake, run, 1d]\nsupervisor: app\n---\n"
		     "name: alpha\ncommand: [fake, run, 1d]\nsupervisor: app\n---\n"
		     "name: mid\ncommand: [fake, run, 1d]\nsupervisor: app\n---\n"
		     "kind: Supervisor\nname: app\nstrategy: rest-for-one\n");
	rig_down(r);
	rig_up(r);
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

	rig_apply(r, "name: web\ncommand: [fake, run, 1d]\ndependsOn: [db]\n");
	rig_run(r, SEC);
	assert_string_equal(rig_status(r, "web"), "pending");
	rig_apply(r, "name: db\ncommand: [fake, run, 1d, ready-after, 5s]\nready: {type: notify}\n");
	rig_run(r, 2 * SEC);
	assert_string_equal(rig_status(r, "web"), "pending");
	rig_run(r, 5 * SEC);
	assert_string_equal(rig_status(r, "web"), "running");
	assert_int_equal(rig_apply_error(r, "name: db\ncommand: [fake, run, 1d]\ndependsOn: [web]\n",
					 DAVIT_APPLY_UPDATE, &err),
			 DAVIT_EINVAL);
	assert_string_equal(err.message, "dependency cycle: db -> web -> db");
}

static void a_port_of_the_host_is_free_before_an_update_takes_it(void **state)
{
	struct rig *r = *state;

	rig_apply(r, "name: web\ncommand: [fake, run, 1d]\nports: ['8080']\n");
	rig_run(r, SEC);
	rig_apply(r, "name: web\ncommand: [fake, run, 2d]\nports: ['8080']\n");
	for (int i = 0; i < 50; i++) {
		rig_run(r, SEC / 10);
		assert_in_range(davit_fake_world_objects(r->world), 0, 1);
	}
	assert_int_equal(r->starts, 2);
	assert_string_equal(rig_status(r, "web"), "running");
}

static void an_exit_can_be_a_success_or_prevent_a_restart(void **state)
{
	struct rig *r = *state;

	rig_apply(r, "name: fine\ncommand: [fake, run, 1s, exit, '3']\nrestart: {policy: on-failure, "
		     "success: [3]}\n---\n"
		     "name: final\ncommand: [fake, run, 1s, exit, '7']\nrestart: {policy: always, prevent: "
		     "[7]}\n---\n"
		     "name: again\ncommand: [fake, run, 1s, exit, '8']\nrestart: {policy: always, success: "
		     "[3], prevent: [7]}\n");
	rig_run(r, 5 * SEC);
	assert_string_equal(rig_status(r, "fine"), "stopped");
	assert_string_equal(rig_field(r, "fine", "restarts"), "0");
	assert_string_equal(rig_status(r, "final"), "error");
	assert_string_equal(rig_field(r, "final", "restarts"), "0");
	assert_true(atoi(rig_field(r, "again", "restarts")) > 0);
}

static void each_condition_of_a_dependency_is_what_it_says(void **state)
{
	struct rig *r = *state;

	rig_apply(
		r,
		"name: db\ncommand: [fake, run, 20s, ready-after, 5s]\nready: {type: notify}\ninstances: 2\n"
		"restart: never\n---\nname: at-start\ncommand: [fake, run, 1d]\n"
		"dependsOn: [{service: db, condition: started}]\n---\nname: when-ready\ncommand: [fake, run, "
		"1d]\n"
		"dependsOn: [{service: db, condition: ready}]\n---\nname: at-end\ncommand: [fake, run, 1d]\n"
		"dependsOn: [{service: db, condition: completed}]\n");
	rig_run(r, 2 * SEC);
	assert_string_equal(rig_status(r, "at-start"), "running");
	assert_string_equal(rig_status(r, "when-ready"), "pending");
	rig_run(r, 8 * SEC);
	assert_string_equal(rig_status(r, "when-ready"), "running");
	assert_string_equal(rig_status(r, "at-end"), "pending");
	rig_run(r, 15 * SEC);
	assert_string_equal(rig_status(r, "db"), "stopped");
	assert_string_equal(rig_status(r, "at-end"), "running");
}

/* Of two instances one is ready, or ends, later: the start budget lets one go at a time. */
static void a_dependency_waits_for_all_instances(void **state)
{
	struct rig *r = *state;
	const struct davit_selector sel = {.name = "db"};
	struct davit_error err;
	struct davit_op op;
	int result = -1;

	rig_apply(r, "name: db\ncommand: [fake, run, 20s, ready-after, 10s]\nready: {type: notify}\nrestart: "
		     "never\n");
	rig_run(r, 5 * SEC);
	davit_op_init(&op, r->loop, rig_op_done, &result);
	davit_op_begin(&op, 0);
	assert_int_equal(davit_core_scale(r->core, &sel, 2, "test", &op, &err), 0);
	assert_int_equal(rig_wait(r, &op, &result), 0);
	rig_apply(r, "name: web\ncommand: [fake, run, 1d]\ndependsOn: [db]\n---\nname: after\ncommand: "
		     "[fake, run, 1d]\n"
		     "dependsOn: [{service: db, condition: completed}]\n");
	rig_run(r, 7 * SEC); /* the first is ready */
	assert_string_equal(rig_status(r, "web"), "pending");
	rig_run(r, 4 * SEC);
	assert_string_equal(rig_status(r, "web"), "running");
	rig_run(r, 6 * SEC); /* the first has ended */
	assert_string_equal(rig_status(r, "after"), "pending");
	rig_run(r, 5 * SEC);
	assert_string_equal(rig_status(r, "after"), "running");
}

static void scaling_goes_up_down_and_to_nothing(void **state)
{
	struct rig *r = *state;
	const struct davit_selector sel = {.name = "web"};
	static const int64_t sizes[] = {5, 2, 0, 1};
	struct davit_error err;

	rig_apply(r, "name: web\ncommand: [fake, run, 1d]\n");
	for (size_t k = 0; k < 4; k++) {
		struct davit_op op;
		int result = -1;
		davit_op_init(&op, r->loop, rig_op_done, &result);
		davit_op_begin(&op, 0);
		assert_int_equal(davit_core_scale(r->core, &sel, sizes[k], "test", &op, &err), 0);
		assert_int_equal(rig_wait(r, &op, &result), 0);
		rig_run(r, 30 * SEC);
		assert_int_equal(davit_fake_world_objects(r->world), sizes[k]);
		assert_string_equal(rig_status(r, "web"), sizes[k] ? "running" : "stopped");
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
	const struct CMUnitTest tests[] = {
		T(a_service_runs_and_is_gone_when_killed),
		T(retries_n_means_exactly_n_restarts_and_then_error),
		T(the_retry_counter_survives_restarts_of_the_daemon),
		T(the_backoff_goes_on_over_restarts_of_the_daemon),
		T(the_backoff_of_a_failed_start_goes_on_too),
		T(a_failed_supervisor_stays_failed_over_restarts_of_the_daemon),
		T(a_program_keeps_its_address_over_restarts_of_the_daemon),
		T(a_clean_exit_is_stopped_and_not_restarted),
		T(an_end_that_its_policy_makes_the_last_is_one_transaction),
		T(a_daemon_that_comes_back_adopts_what_runs),
		T(an_exit_while_the_daemon_was_away_is_noticed),
		T(what_the_user_stopped_stays_stopped_until_started),
		T(an_update_replaces_instances_one_at_a_time_and_keeps_serving),
		T(an_update_that_does_not_come_up_leaves_the_old_one_serving),
		T(an_update_that_crashes_at_once_leaves_the_old_one_serving),
		T(what_was_taken_over_of_an_earlier_version_is_replaced_and_not_restarted),
		T(the_tree_keeps_the_order_of_creation_across_restarts),
		T(dependencies_order_the_start_and_cycles_are_refused),
		T(a_port_of_the_host_is_free_before_an_update_takes_it),
		T(an_exit_can_be_a_success_or_prevent_a_restart),
		T(each_condition_of_a_dependency_is_what_it_says),
		T(a_dependency_waits_for_all_instances),
		T(scaling_goes_up_down_and_to_nothing),
	};
	return cmocka_run_group_tests_name("core", tests, NULL, NULL);
}
