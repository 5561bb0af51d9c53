/* SPDX-License-Identifier: MIT */
#include "core/test_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SEC INT64_C(1000000000)
#define MSEC INT64_C(1000000)

/* Probes that answer as they are told. */
static struct world {
	enum { WELL, REFUSED, SILENT, STATUS_500 } mood;
	size_t tries, under_way, most;
	int64_t last, pause; /* when the last try began, and how long after the one before */
	char address[46];
	uint16_t port;
	char path[64], file[64];
} world;

static void on_cancel(struct davit_op *op, int why)
{
	world.under_way--;
	davit_op_complete(op, why);
}

static void probe(void *user, struct davit_probe *p, struct davit_op *op)
{
	struct davit_loop *loop = *(struct davit_loop **)user;

	world.tries++;
	world.pause = davit_loop_now(loop) - world.last;
	world.last = davit_loop_now(loop);
	snprintf(world.address, sizeof world.address, "%s", p->address ? p->address : "");
	snprintf(world.path, sizeof world.path, "%s", p->path ? p->path : "");
	snprintf(world.file, sizeof world.file, "%s", p->file ? p->file : "");
	world.port = p->port;
	if (world.mood == SILENT) {
		if (++world.under_way > world.most)
			world.most = world.under_way;
		davit_op_on_cancel(op, on_cancel);
		return;
	}
	p->ret_status = world.mood == STATUS_500 ? 500 : 200;
	strcpy(p->ret_text, world.mood == STATUS_500 ? "no database" : "");
	if (world.mood == REFUSED)
		davit_op_fail(op, DAVIT_EIO, NULL, "connection refused");
	else
		davit_op_complete(op, 0);
}

static const struct davit_core_probes probes = {.tcp = probe, .http = probe, .file = probe};

static int setup(void **state)
{
	struct rig *r;

	memset(&world, 0, sizeof world);
	rig_setup(state);
	r = *state;
	r->probes = &probes;
	r->probes_user = &r->loop;
	rig_down(r);
	rig_up(r);
	return 0;
}

#define RUNS "name: web\ncommand: [fake, run, 30d]\n"

static const char *health(struct rig *r)
{
	return rig_field(r, "web", "health");
}

/* ------------------------------------------------------------------------ states */

static void a_service_without_checks_has_no_health(void **state)
{
	struct rig *r = *state;
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);

	rig_apply(r, RUNS);
	rig_run(r, SEC);
	davit_service_write(rig_service(r, "web"), &j);
	assert_null(strstr(davit_buf_str(&b), "health"));
}

static void a_check_that_passes_makes_an_instance_healthy_at_once(void **state)
{
	struct rig *r = *state;

	rig_apply(r, RUNS "health: tcp:80\n");
	rig_run(r, 50 * MSEC);
	assert_string_equal(health(r), "\"starting\"");
	rig_run(r, 200 * MSEC);
	assert_string_equal(health(r), "\"healthy\"");
	assert_int_equal(world.tries, 1);
	assert_int_equal(world.port, 80);
	assert_string_equal(world.address, "127.0.0.1");
	assert_int_equal(rig_events(r, "\"type\":\"health-changed\""), 1);
}

static void a_healthy_instance_is_tried_each_interval_and_no_more(void **state)
{
	struct rig *r = *state;

	rig_apply(r, RUNS "health: {type: tcp, port: 80, interval: 10s}\n");
	rig_run(r, 1000 * SEC);
	assert_in_range(world.tries, 99, 101);
	assert_int_equal(world.pause, 10 * SEC);
	assert_int_equal(r->starts, 1);
}

/* ---------------------------------------------------------------------- liveness */

static void a_failing_check_restarts_the_instance_and_why_says_so(void **state)
{
	struct rig *r = *state;
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);

	rig_apply(r, RUNS "health: {path: /up, port: 80, interval: 1s, retries: 3}\n"
			  "restart: {backoff: {initial: 60s, max: 60s, jitter: 0}}\n");
	rig_run(r, 5 * SEC);
	assert_string_equal(world.path, "/up");
	world.mood = STATUS_500;
	rig_run(r, 2 * SEC);
	assert_string_equal(health(r), "\"healthy\"");
	rig_run(r, 10 * SEC);
	assert_int_equal(r->exits, 1);
	assert_int_equal(
		rig_events(r,
			   "unhealthy: check 'http' failed 3 times in a row: HTTP status 500: no database"),
		2);
	davit_service_write_why(rig_service(r, "web"), &j);
	assert_non_null(strstr(davit_buf_str(&b), "cause unhealthy"));
	assert_non_null(strstr(davit_buf_str(&b), "check 'http' failed 3 times in a row"));
	world.mood = WELL;
	rig_run(r, 60 * SEC);
	assert_int_equal(r->starts, 2);
	assert_string_equal(health(r), "\"healthy\"");
}

static void two_failures_of_three_are_forgiven(void **state)
{
	struct rig *r = *state;

	rig_apply(r, RUNS "health: {type: tcp, port: 80, interval: 1s, retries: 3}\n");
	rig_run(r, 5 * SEC);
	for (int n = 0; n < 20; n++) {
		world.mood = REFUSED;
		rig_run(r, 2 * SEC);
		world.mood = WELL;
		rig_run(r, 1 * SEC);
	}
	assert_int_equal(r->exits, 0);
	assert_int_equal(rig_events(r, "health-changed"), 1);
}

static void before_its_first_success_a_check_has_start_period_and_retries_intervals(void **state)
{
	struct rig *r = *state;

	world.mood = REFUSED;
	rig_apply(r, RUNS "health: {type: tcp, port: 80, interval: 10s, retries: 3, startPeriod: 60s}\n"
			  "restart: never\n");
	rig_run(r, 89 * SEC);
	assert_int_equal(r->exits, 0);
	assert_in_range(world.tries, 85, 95); /* each second after the first ones */
	rig_run(r, 2 * SEC);
	assert_int_equal(r->exits, 1);
	assert_int_equal(rig_events(r, "check 'tcp' did not pass within 1m30s: connection refused"), 2);
	assert_string_equal(rig_status(r, "web"), "error");
}

static void a_probe_that_never_answers_is_one_failure_each_time(void **state)
{
	struct rig *r = *state;

	rig_apply(r, RUNS "health: {type: tcp, port: 80, interval: 1s, timeout: 2s, retries: 3}\n"
			  "restart: never\n");
	rig_run(r, 5 * SEC);
	world.mood = SILENT;
	rig_run(r, 8 * SEC);
	assert_int_equal(r->exits, 0);
	rig_run(r, 3 * SEC);
	assert_int_equal(r->exits, 1);
	assert_int_equal(world.most, 1);
	assert_int_equal(world.under_way, 0);
	assert_int_equal(rig_events(r, "no answer within 2s"), 2);
}

static void what_is_stopped_or_gone_is_not_tried(void **state)
{
	struct rig *r = *state;
	size_t tries;

	rig_apply(r, RUNS "health: tcp:80\n");
	rig_run(r, SEC);
	world.mood = SILENT;
	rig_run(r, 10 * SEC);
	assert_int_equal(world.under_way, 1);
	assert_int_equal(rig_control(r, "web", DAVIT_SERVICE_STOP), 0);
	rig_run(r, SEC);
	assert_int_equal(world.under_way, 0);
	tries = world.tries;
	rig_run(r, 100 * SEC);
	assert_int_equal(world.tries, tries);
}

static void set_result(struct davit_op *op, int result)
{
	*(int *)op->user = result;
}

static void set_paused(struct rig *r, bool pause)
{
	const struct davit_selector sel = {.name = "web"};
	struct davit_op op;
	int result = -1;

	davit_op_init(&op, r->loop, set_result, &result);
	davit_op_begin(&op, 0);
	assert_int_equal(davit_core_pause(r->core, &sel, NULL, pause, "test", &op, NULL), 0);
	rig_run(r, SEC);
	assert_int_equal(result, 0);
}

static void what_is_paused_is_not_tried_and_stays_healthy(void **state)
{
	struct rig *r = *state;
	size_t tries;

	rig_apply(r, RUNS "health: tcp:80\n");
	rig_run(r, SEC);
	set_paused(r, true);
	assert_string_equal(davit_service_status(rig_service(r, "web")), "paused");
	tries = world.tries;
	rig_run(r, 1000 * SEC);
	assert_int_equal(world.tries, tries);
	set_paused(r, false);
	assert_string_equal(davit_service_status(rig_service(r, "web")), "running");
	rig_run(r, 100 * SEC);
	assert_true(world.tries > tries);
	assert_string_equal(health(r), "\"healthy\"");
}

/* ---------------------------------------------------------- readiness and startup */

static void readiness_waits_for_its_checks_and_is_lost_with_them(void **state)
{
	struct rig *r = *state;

	world.mood = REFUSED;
	rig_apply(r, RUNS "health: {type: tcp, port: 80, role: readiness, interval: 1s}\n");
	rig_run(r, 5 * SEC);
	assert_string_equal(rig_status(r, "web"), "starting");
	world.mood = WELL;
	rig_run(r, 2 * SEC);
	assert_string_equal(rig_status(r, "web"), "running");
	world.mood = REFUSED;
	rig_run(r, 5 * SEC);
	assert_string_equal(rig_field(r, "web", "ready"), "0");
	assert_string_equal(health(r), "\"unhealthy\"");
	world.mood = WELL;
	rig_run(r, 2 * SEC);
	assert_string_equal(rig_status(r, "web"), "running");
	assert_int_equal(r->exits, 0);
	assert_int_equal(rig_events(r, "\"not-ready\""), 1);
}

static void readiness_by_notify_and_by_checks_are_both_needed(void **state)
{
	struct rig *r = *state;

	world.mood = REFUSED;
	rig_apply(r, "name: web\ncommand: [fake, run, 30d, ready-after, 3s]\nready: notify\n"
		     "health: {type: tcp, port: 80, role: readiness, interval: 1s}\n");
	world.mood = WELL;
	rig_run(r, 2 * SEC);
	assert_string_equal(rig_status(r, "web"), "starting");
	assert_string_equal(health(r), "\"healthy\"");
	rig_run(r, 2 * SEC);
	assert_string_equal(rig_status(r, "web"), "running");
}

static void what_does_not_become_ready_in_time_has_failed(void **state)
{
	struct rig *r = *state;

	world.mood = REFUSED;
	rig_apply(r, RUNS "restart: never\nready: {timeout: 20s}\n"
			  "health: {type: tcp, port: 80, role: readiness, startPeriod: 1h}\n");
	rig_run(r, 19 * SEC);
	assert_int_equal(r->exits, 0);
	rig_run(r, 2 * SEC);
	assert_int_equal(r->exits, 1);
	assert_int_equal(rig_events(r, "not ready within 20s"), 1);
}

static void other_checks_wait_for_the_startup(void **state)
{
	struct rig *r = *state;

	world.mood = REFUSED;
	rig_apply(r, RUNS "health: [{role: startup, port: 81, retries: 4, path: /s}, {path: /l, port: 80, "
			  "interval: 1s}]\n");
	rig_run(r, 30 * SEC);
	assert_string_equal(world.path, "/s");
	assert_string_equal(rig_status(r, "web"), "starting");
	world.mood = WELL;
	rig_run(r, 5 * SEC);
	assert_string_equal(world.path, "/l");
	assert_string_equal(rig_status(r, "web"), "running");
	assert_string_equal(health(r), "\"healthy\"");
	assert_int_equal(r->exits, 0);
}

static void an_update_takes_over_when_the_checks_of_the_new_one_pass(void **state)
{
	struct rig *r = *state;

	rig_apply(r, RUNS "health: {type: tcp, port: 80, role: readiness}\nready: {timeout: 5s}\n");
	rig_run(r, 2 * SEC);
	world.mood = REFUSED;
	rig_apply(r,
		  RUNS "env: {A: 1}\nhealth: {type: tcp, port: 80, role: readiness}\nready: {timeout: 5s}\n");
	rig_run(r, 10 * SEC);
	assert_int_equal(rig_events(r, "update-failed"), 1);
	assert_int_equal(davit_fake_world_running(r->world), 1);
}

/* --------------------------------------------------------------------- commands */

static void a_command_is_run_inside_and_its_output_told(void **state)
{
	struct rig *r = *state;

	rig_apply(r, RUNS
		  "health: {type: command, command: [say, 3], interval: 1s, retries: 2}\nrestart: never\n");
	rig_run(r, 5 * SEC);
	assert_int_equal(r->exits, 1);
	assert_int_equal(rig_events(r, "check 'command' did not pass within 2s: exit code 3: out err"), 2);
}

static void a_command_that_hangs_is_ended(void **state)
{
	struct rig *r = *state;

	rig_apply(r, RUNS
		  "health: {type: command, command: [sleep, 1h], interval: 1s, timeout: 1s, retries: 1}\n"
		  "restart: never\n");
	rig_run(r, 10 * SEC);
	assert_int_equal(r->exits, 1);
	assert_int_equal(rig_events(r, "no end within 1s"), 2);
}

static void a_command_that_is_not_there_is_a_failure(void **state)
{
	struct rig *r = *state;

	rig_apply(r, RUNS
		  "health: {type: command, command: [nowhere], interval: 1s, retries: 1}\nrestart: never\n");
	rig_run(r, 10 * SEC);
	assert_int_equal(r->exits, 1);
	assert_int_equal(rig_events(r, "no such program"), 2);
}

static void a_command_under_way_goes_with_its_instance_and_its_daemon(void **state)
{
	struct rig *r = *state;

	rig_apply(r, RUNS "health: {type: command, command: [sleep, 1h], timeout: 1h}\n");
	rig_run(r, 5 * SEC);
	rig_down(r);
	rig_up(r);
	rig_run(r, 15 * SEC);
	assert_int_equal(rig_kill(r, NULL, "web"), 0);
}

/* ------------------------------------------------------------ the daemon's death */

static void what_was_healthy_is_so_for_the_next_daemon(void **state)
{
	struct rig *r = *state;

	rig_apply(r, RUNS "health: {type: tcp, port: 80, role: readiness}\n");
	rig_run(r, 5 * SEC);
	rig_down(r);
	rig_up(r);
	assert_string_equal(health(r), "\"healthy\"");
	assert_string_equal(rig_status(r, "web"), "running");
	assert_int_equal(rig_events(r, "health-changed"), 1);
	assert_int_equal(rig_events(r, "\"ready\""), 1);
}

static void what_was_not_ready_is_not_so_for_the_next_daemon(void **state)
{
	struct rig *r = *state;

	rig_apply(r, RUNS "health: {type: tcp, port: 80, role: readiness, interval: 1s}\n");
	rig_run(r, 5 * SEC);
	world.mood = REFUSED;
	rig_run(r, 5 * SEC);
	rig_down(r);
	rig_up(r);
	assert_string_equal(health(r), "\"unhealthy\"");
	assert_string_equal(rig_status(r, "web"), "starting");
	world.mood = WELL;
	rig_run(r, 5 * SEC);
	assert_string_equal(rig_status(r, "web"), "running");
}

static void the_time_to_the_first_success_goes_on_over_the_daemons_death(void **state)
{
	struct rig *r = *state;

	world.mood = REFUSED;
	rig_apply(r, RUNS "health: {type: tcp, port: 80, interval: 10s, retries: 3}\nrestart: never\n");
	for (int n = 0; n < 4; n++) {
		rig_run(r, 7 * SEC);
		rig_down(r);
		rig_up(r);
	}
	assert_int_equal(r->exits, 0);
	rig_run(r, 14 * SEC);
	assert_int_equal(r->exits, 1);
}

/* ------------------------------------------------------------------------- changes */

static void checks_change_under_a_running_instance(void **state)
{
	struct rig *r = *state;

	rig_apply(r, RUNS);
	rig_run(r, SEC);
	rig_apply(r, RUNS "health: {type: file, file: /run/up, interval: 2s}\n");
	rig_run(r, 5 * SEC);
	assert_string_equal(health(r), "\"healthy\"");
	assert_string_equal(world.file, "/run/up");
	rig_apply(r, RUNS "health: {type: tcp, port: 81, interval: 2s}\n");
	rig_run(r, 5 * SEC);
	assert_int_equal(world.port, 81);
	rig_apply(r, RUNS);
	world.tries = 0;
	rig_run(r, 60 * SEC);
	assert_int_equal(world.tries, 0);
	assert_int_equal(r->starts, 1);
}

static void a_daemon_without_probes_refuses_what_needs_them(void **state)
{
	struct rig *r = *state;
	struct davit_error err = {0};

	r->probes = NULL;
	rig_down(r);
	rig_up(r);
	assert_int_equal(rig_apply_error(r, RUNS "health: tcp:80\n", DAVIT_APPLY_EITHER, &err),
			 DAVIT_ENOTSUP);
	assert_string_equal(err.where, "health");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)
	const struct CMUnitTest tests[] = {
		T(a_service_without_checks_has_no_health),
		T(a_check_that_passes_makes_an_instance_healthy_at_once),
		T(a_healthy_instance_is_tried_each_interval_and_no_more),
		T(a_failing_check_restarts_the_instance_and_why_says_so),
		T(two_failures_of_three_are_forgiven),
		T(before_its_first_success_a_check_has_start_period_and_retries_intervals),
		T(a_probe_that_never_answers_is_one_failure_each_time),
		T(what_is_stopped_or_gone_is_not_tried),
		T(what_is_paused_is_not_tried_and_stays_healthy),
		T(readiness_waits_for_its_checks_and_is_lost_with_them),
		T(readiness_by_notify_and_by_checks_are_both_needed),
		T(what_does_not_become_ready_in_time_has_failed),
		T(other_checks_wait_for_the_startup),
		T(an_update_takes_over_when_the_checks_of_the_new_one_pass),
		T(a_command_is_run_inside_and_its_output_told),
		T(a_command_that_hangs_is_ended),
		T(a_command_that_is_not_there_is_a_failure),
		T(a_command_under_way_goes_with_its_instance_and_its_daemon),
		T(what_was_healthy_is_so_for_the_next_daemon),
		T(what_was_not_ready_is_not_so_for_the_next_daemon),
		T(the_time_to_the_first_success_goes_on_over_the_daemons_death),
		T(checks_change_under_a_running_instance),
		T(a_daemon_without_probes_refuses_what_needs_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
