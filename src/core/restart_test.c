/* SPDX-License-Identifier: MIT
 *
 * What a new daemon makes of the supervision tree: what the one before had made of it. Each
 * situation is looked at before and after the daemon's death, by all that people see of it.
 */
#include "core/test_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SEC INT64_C(1000000000)

static bool write_service(void *user, struct davit_service *s)
{
	struct davit_json *j = user;

	davit_service_write(s, j);
	davit_service_write_why(s, j);
	return true;
}

/* davit tree, status and why, as one text: to be freed. */
static char *picture(struct rig *r)
{
	const struct davit_selector all = {.namespace_ = "*"};
	struct davit_buf b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);
	char *text;

	davit_json_open_array(&j);
	davit_core_write_tree(r->core, &j);
	davit_core_services(r->core, &all, write_service, &j);
	davit_json_close_array(&j);
	text = strdup(davit_buf_str(&b));
	davit_buf_fini(&b);
	assert_non_null(text);
	return text;
}

/* Where the two part, for the reader of a failure. */
static void assert_same(const char *before, const char *after)
{
	size_t k = 0;

	while (before[k] && before[k] == after[k])
		k++;
	if (!before[k] && !after[k])
		return;
	k = k > 200 ? k - 200 : 0;
	fail_msg("before: ...%.500s\nafter:  ...%.500s", before + k, after + k);
}

/* The daemon dies and comes back, twice; nothing is started or ended by that. */
static void same_after_restarts(struct rig *r)
{
	char *before = picture(r);

	for (int n = 0; n < 2; n++) {
		size_t starts = r->starts, exits = r->exits;
		char *after;

		rig_down(r);
		rig_up(r);
		rig_run(r, SEC / 100);
		after = picture(r);
		assert_same(before, after);
		free(after);
		assert_int_equal(r->starts, starts);
		assert_int_equal(r->exits, exits);
	}
	free(before);
}

#define LIVES "command: [fake, run, 30d]\n"
#define DIES "command: [fake, run, 1s, exit, '1']\n"
#define ENDS "command: [fake, run, 1s]\n"
#define BACKOFF(initial, max) "backoff: {initial: " initial ", max: " max ", jitter: 0.9}"
#define AGAIN "restart: {retries: -1, " BACKOFF("1s", "1s") "}\n"
#define LATER "restart: {retries: -1, " BACKOFF("100s", "900s") "}\n"
#define TWICE "restart: {retries: 2, " BACKOFF("1s", "1s") "}\n"
#define SUPERVISOR "kind: Supervisor\nname: v\n"
#define AT_MOST_TWO "intensity: {restarts: 2, period: 1h}\n"
#define BAD "name: bad\nsupervisor: v\n"
#define GOOD "name: good\nsupervisor: v\n" LIVES

struct situation {
	const char *name;
	const char *specs[4];
	int64_t seconds;    /* that pass before the daemon dies */
	const char *status; /* of the service `bad` by then */
};

static const struct situation situations[] = {
	{"what runs", {"name: bad\n" LIVES}, 10, "running"},
	{"what has completed", {"name: bad\n" ENDS}, 10, "stopped"},
	{"what was restarted and runs",
	 {"name: bad\n" AGAIN "command: [fake, fail-start, '1', run, 30d]\n"},
	 10,
	 "running"},
	{"what its policy left failed", {"name: bad\nrestart: {policy: never}\n" DIES}, 10, "error"},
	{"what used up its retries", {"name: bad\n" TWICE DIES}, 60, "error"},
	{"what was killed at its last retry",
	 {"name: bad\n" TWICE "command: [fake, signal, '9', after, 1s]\n"},
	 60,
	 "error"},
	{"what could not be started",
	 {"name: bad\n" TWICE "command: [fake, fail-start, '9']\n"},
	 60,
	 "error"},
	{"what waits for its backoff", {"name: bad\n" LATER DIES}, 200, "pending"},
	{"what cools down",
	 {SUPERVISOR "escalation: restart\ncooldown: 1h\n", BAD TWICE DIES, GOOD},
	 60,
	 "pending"},
	{"a supervisor that failed by its intensity",
	 {SUPERVISOR AT_MOST_TWO, BAD AGAIN DIES, GOOD},
	 60,
	 "error"},
	{"a supervisor of a group that failed",
	 {SUPERVISOR AT_MOST_TWO "strategy: one-for-all\n", BAD AGAIN DIES, GOOD},
	 60,
	 "error"},
	{"a supervisor that fails with its child",
	 {SUPERVISOR "escalation: parent\n", BAD TWICE DIES, GOOD},
	 60,
	 "error"},
	{"what waited for its backoff when its supervisor failed",
	 {SUPERVISOR AT_MOST_TWO, "name: slow\nsupervisor: v\n" LATER DIES,
	  BAD "restart: {retries: -1, " BACKOFF("2s", "2s") "}\n" DIES, GOOD},
	 60,
	 "error"},
	{"a supervisor all of whose children failed", {SUPERVISOR, BAD TWICE DIES}, 60, "error"},
	{"what failed, was started by the user and runs beside it",
	 {SUPERVISOR, GOOD, BAD TWICE DIES},
	 60,
	 "error"},
	{"a supervisor that cools down",
	 {"kind: Supervisor\nname: top\nescalation: restart\ncooldown: 1h\n",
	  "kind: Supervisor\nname: v\nsupervisor: top\n" AT_MOST_TWO, BAD AGAIN DIES, GOOD},
	 60,
	 "error"},
	{"a supervisor that failed with one beneath it",
	 {"kind: Supervisor\nname: top\nescalation: parent\n",
	  "kind: Supervisor\nname: v\nsupervisor: top\n" AT_MOST_TWO, BAD AGAIN DIES,
	  "name: good\nsupervisor: top\n" LIVES},
	 60,
	 "error"},
	{"a supervisor that was shut down by a significant child",
	 {SUPERVISOR "autoShutdown: true\n", BAD "significant: true\n" ENDS, GOOD},
	 20,
	 "stopped"},
	{"a group that was restarted",
	 {SUPERVISOR "strategy: one-for-all\n", BAD AGAIN "command: [fake, fail-start, '1', run, 30d]\n",
	  GOOD},
	 20,
	 "running"},
	{"a group that waits for its backoff",
	 {SUPERVISOR "strategy: one-for-all\n", BAD LATER DIES, GOOD},
	 5,
	 "pending"},
	{"the rest of a group that waits for its backoff",
	 {SUPERVISOR "strategy: rest-for-one\n", "name: first\nsupervisor: v\n" LIVES, BAD LATER DIES, GOOD},
	 5,
	 "pending"},
};

static void is_as_it_was(void **state)
{
	const struct situation *s = *state;
	void *own;
	struct rig *r;

	rig_setup(&own);
	r = own;
	for (size_t n = 0; n < 4 && s->specs[n]; n++)
		rig_apply(r, s->specs[n]), rig_run(r, SEC / 1000);
	rig_run(r, s->seconds * SEC);
	assert_string_equal(rig_status(r, "bad"), s->status);
	same_after_restarts(r);
	rig_teardown(&own);
}

/* What a daemon that never dies would do, is done by those that do. */
static void restarts_before_the_daemon_died_count_against_the_intensity(void **state)
{
	struct rig *r = *state;

	rig_apply(r, SUPERVISOR "intensity: {restarts: 3, period: 1h}\n");
	rig_apply(r, BAD AGAIN "command: [fake, run, 20s, exit, '1']\n");
	for (int n = 0; n < 12; n++) {
		rig_run(r, 10 * SEC);
		rig_down(r);
		rig_up(r);
	}
	rig_run(r, 100 * SEC);
	assert_string_equal(rig_status(r, "bad"), "error");
	assert_int_equal(r->starts, 4);
}

static void a_restart_that_is_decided_on_again_counts_once(void **state)
{
	struct rig *r = *state;

	rig_apply(r, SUPERVISOR "intensity: {restarts: 2, period: 10h}\n");
	rig_apply(r, BAD LATER DIES);
	rig_run(r, 5 * SEC);
	for (int n = 0; n < 5; n++) {
		rig_down(r);
		rig_up(r);
		rig_run(r, SEC / 10);
	}
	assert_string_equal(rig_status(r, "bad"), "pending");
	rig_run(r, 3600 * SEC);
	assert_string_equal(rig_status(r, "bad"), "error");
	assert_int_equal(r->starts, 3);
}

/* A long run forgives, whoever saw its beginning. */
static void a_long_run_resets_the_backoff_over_the_daemons_death(void **state)
{
	struct rig *r = *state;

	rig_apply(r, "name: bad\ncommand: [fake, run, 100s, exit, '1']\n"
		     "restart: {retries: -1, backoff: {initial: 1s, max: 1h, factor: 60, jitter: 0, reset: "
		     "90s}}\n");
	rig_run(r, 50 * SEC);
	for (int n = 0; n < 10; n++) {
		rig_down(r);
		rig_up(r);
		rig_run(r, 50 * SEC);
	}
	/* Each run is 100 s long and the next begins one second later. */
	assert_int_equal(r->starts, 6);
}

/* The order that rest-for-one goes by. */
static void services_of_one_change_stand_in_its_order(void **state)
{
	struct rig *r = *state;
	char *before;

	rig_apply(r, SUPERVISOR "strategy: rest-for-one\n");
	rig_apply(r, "name: zeta\nsupervisor: v\n" LIVES "---\n"
		     "name: alpha\nsupervisor: v\n" LIVES "---\n"
		     "name: mid\nsupervisor: v\n" LIVES);
	rig_run(r, SEC);
	before = picture(r);
	assert_true(strstr(before, "zeta") < strstr(before, "alpha"));
	assert_true(strstr(before, "alpha") < strstr(before, "mid"));
	free(before);
	same_after_restarts(r);
}

static void a_cool_down_ends_when_it_would_have(void **state)
{
	struct rig *r = *state;
	size_t starts;

	rig_apply(r, "kind: Supervisor\nname: top\nescalation: restart\ncooldown: 10m\n");
	rig_apply(r, "kind: Supervisor\nname: v\nsupervisor: top\n" AT_MOST_TWO);
	rig_apply(r, BAD AGAIN DIES);
	rig_apply(r, GOOD);
	rig_run(r, 60 * SEC);
	starts = r->starts;
	for (int n = 0; n < 5; n++) {
		rig_down(r);
		rig_up(r);
		rig_run(r, 100 * SEC);
	}
	assert_int_equal(r->starts, starts);
	rig_run(r, 45 * SEC);
	assert_true(r->starts > starts);
}

static void a_group_whose_wait_outlived_the_daemon_starts_together(void **state)
{
	struct rig *r = *state;
	size_t starts;

	rig_apply(r, SUPERVISOR "strategy: one-for-all\n");
	rig_apply(r, BAD LATER DIES);
	rig_apply(r, GOOD);
	rig_run(r, 5 * SEC);
	starts = r->starts;
	rig_down(r);
	rig_up(r);
	rig_run(r, 5 * SEC);
	assert_int_equal(r->starts, starts);
	while (r->starts == starts)
		rig_run(r, SEC / 10);
	assert_int_equal(r->starts, starts + 2);
	assert_string_equal(rig_status(r, "good"), "running");
}

int main(void)
{
#define N (sizeof situations / sizeof *situations)
#define T(fn) cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)
	struct CMUnitTest same[N];
	const struct CMUnitTest tests[] = {
		T(restarts_before_the_daemon_died_count_against_the_intensity),
		T(a_restart_that_is_decided_on_again_counts_once),
		T(a_long_run_resets_the_backoff_over_the_daemons_death),
		T(services_of_one_change_stand_in_its_order),
		T(a_cool_down_ends_when_it_would_have),
		T(a_group_whose_wait_outlived_the_daemon_starts_together),
	};
	int failed;

	for (size_t k = 0; k < N; k++)
		same[k] = (struct CMUnitTest){situations[k].name, is_as_it_was, NULL, NULL,
					      (void *)&situations[k]};
	failed = cmocka_run_group_tests_name("is as it was when the daemon comes back", same, NULL, NULL);
	return failed + cmocka_run_group_tests_name("restart", tests, NULL, NULL);
}
