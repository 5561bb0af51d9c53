/* SPDX-License-Identifier: MIT */
#include "daemon/test_daemon.h"

/* The rest of a run's events, to its end: the last one's outcome, owned. */
static json_t *last_event(const char *run, const char *after)
{
	struct davit_client *c = dial();
	struct davit_client_request q = {0};
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	json_t *last = NULL;
	const char *line;
	size_t n;
	int status;

	davit_buf_addf(&target, "/v1/runs/%s/events?follow=true&after=%s", run, after);
	q.target = davit_buf_str(&target);
	assert_int_equal(davit_client_send(c, &q, &status, NULL), 0);
	assert_int_equal(status, 200);
	while (davit_client_line(c, &line, &n, NULL) == 1) {
		json_decref(last);
		last = json_loadb(line, n, 0, NULL);
	}
	davit_client_close(c);
	return last;
}

static void a_run_is_begun_followed_to_its_end_and_removed(void **state)
{
	int status;
	json_t *run, *v;
	char target[64];

	(void)state;
	run = ask(
		"POST", "/v1/runs",
		"{\"name\":\"n\",\"kind\":\"job\",\"plan\":{\"kind\":\"try\",\"step\":{\"kind\":\"load_var\","
		"\"name\":\"v\",\"spec\":{\"file\":\"nothing/x\"}}}}",
		&status);
	assert_int_equal(status, 200);
	v = last_event(text(run, "id"), "0");
	assert_string_equal(text(v, "event"), "end");
	assert_string_equal(text(v, "outcome"), "succeeded");
	json_decref(v);
	snprintf(target, sizeof target, "/v1/runs/%s", text(run, "id"));
	v = ask("GET", target, NULL, &status);
	assert_string_equal(text(v, "state"), "ended");
	json_decref(v);
	snprintf(target, sizeof target, "/v1/runs/%s/abort", text(run, "id"));
	json_decref(ask("POST", target, "{}", &status));
	assert_int_equal(status, 409);
	snprintf(target, sizeof target, "/v1/runs/%s", text(run, "id"));
	works("DELETE", target, NULL);
	json_decref(ask("GET", target, NULL, &status));
	assert_int_equal(status, 404);
	json_decref(run);
}

static void a_plan_that_is_none_begins_no_run(void **state)
{
	int status;
	json_t *v = ask("POST", "/v1/runs", "{\"name\":\"n\",\"kind\":\"job\",\"plan\":{\"kind\":\"dont\"}}",
			&status);

	(void)state;
	assert_int_equal(status, 400);
	json_decref(v);
}

/* A host that is still there when the directory goes would be in its way. */
static void runs_have_ended(void **state)
{
	int status;
	json_t *all = ask("GET", "/v1/runs", NULL, &status), *run;
	size_t i;

	(void)state;
	json_array_foreach(all, i, run) json_decref(last_event(text(run, "id"), "0"));
	json_decref(all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_run_is_begun_followed_to_its_end_and_removed),
		cmocka_unit_test(a_plan_that_is_none_begins_no_run),
		cmocka_unit_test(runs_have_ended),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, start, finish);
}
