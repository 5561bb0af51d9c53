/* SPDX-License-Identifier: MIT */
#include "daemon/test_daemon.h"

/* --- workspaces --- */

static void check_workspace(const char *method, const char *target, const char *body, const char *name,
			    const char *state)
{
	int status;
	json_t *v = ask(method, target, body, &status);

	if (status != 200)
		fail_msg("%s %s: %s", method, target, json_dumps(v, 0));
	assert_string_equal(text(v, "name"), name);
	assert_string_equal(text(v, "state"), state);
	assert_int_equal(strlen(text(v, "id")), 64);
	json_decref(v);
}

static void a_workspace_is_made_found_switched_and_removed(void **state)
{
	static const char body[] = "{\"source\":\"/tmp\",\"runtime\":\"fake\",\"name\":\"My Work\"}";
	char by_id[96];
	int status;
	json_t *v;

	(void)state;
	check_workspace("POST", "/v1/workspaces", body, "my-work", "stopped");
	check_workspace("POST", "/v1/workspaces", body, "my-work-2", "stopped");
	v = ask("GET", "/v1/workspaces/my-work", NULL, &status);
	snprintf(by_id, sizeof by_id, "/v1/workspaces/%.12s", text(v, "id"));
	json_decref(v);
	check_workspace("GET", by_id, NULL, "my-work", "stopped");
	for (int i = 0; i < 2; i++) /* twice is as once */
		check_workspace("POST", "/v1/workspaces/my-work/start", NULL, "my-work", "running");
	refused("DELETE", by_id, NULL, 409,
		"workspace 'my-work' is running; stop it first, or remove it with --force");
	for (int i = 0; i < 2; i++)
		check_workspace("POST", "/v1/workspaces/my-work/stop", NULL, "my-work", "stopped");
	works("DELETE", by_id, NULL);
	refused("GET", by_id, NULL, 404, "not found");
	works("POST", "/v1/workspaces/my-work-2/start", NULL);
	works("DELETE", "/v1/workspaces/my-work-2?force=true", NULL);
	v = ask("GET", "/v1/workspaces", NULL, &status);
	assert_int_equal(json_array_size(v), 0);
	json_decref(v);
}

static void a_workspace_that_cannot_be_is_refused_and_leaves_no_record(void **state)
{
#define WORKSPACE(more) "{\"source\":\"/tmp\",\"runtime\":\"fake\"" more "}"
	static const char at[] = "/v1/workspaces";
	int status;
	json_t *v;

	(void)state;
	refused("POST", at, "{\"source\":\"/tmp\"}", 400, "the body lacks 'runtime'");
	refused("POST", at, "{\"source\":\"tmp\",\"runtime\":\"fake\"}", 400, "must be an absolute path");
	refused("POST", at, "{\"source\":\"/nonexistent\",\"runtime\":\"fake\"}", 404, "/nonexistent");
	refused("POST", at, "{\"source\":\"/tmp\",\"runtime\":\"fak\"}", 404, "did you mean 'fake'?");
	refused("POST", at, WORKSPACE(",\"config\":[]"), 400, "config must be an object");
	refused("POST", at, WORKSPACE(",\"config\":{\"mouns\":[]}"), 400, "did you mean 'mounts'?");
	refused("POST", at, WORKSPACE(",\"config\":{\"secrets\":[\"none\"]}"), 422, "secrets");
	refused("POST", at, WORKSPACE(",\"start\":true,\"config\":{\"command\":[\"fake\",\"fail-create\"]}"),
		409, "workspace 'tmp' was not started");
	refused("POST", at, WORKSPACE(",\"start\":true,\"config\":{\"command\":[\"fake\",\"fail-exec\"]}"),
		409, "workspace 'tmp' was not started");
	v = ask("GET", at, NULL, &status);
	assert_int_equal(json_array_size(v), 0);
	json_decref(v);
}

static void a_workspace_that_ended_says_so(void **state)
{
	static const char fails[] =
		"{\"source\":\"/tmp\",\"runtime\":\"fake\",\"name\":\"fails\",\"start\":true,"
		"\"config\":{\"command\":[\"fake\",\"run\",\"50ms\",\"exit\",\"3\"]}}";
	const char *is = "";
	int status;
	json_t *v;

	(void)state;
	check_workspace("POST", "/v1/workspaces", fails, "fails", "running");
	for (int i = 0; i < 6000 && strcmp(is, "error") != 0; i++) {
		usleep(10000);
		v = ask("GET", "/v1/workspaces/fails", NULL, &status);
		is = strcmp(text(v, "state"), "error") ? "" : "error";
		json_decref(v);
	}
	v = ask("GET", "/v1/workspaces/fails", NULL, &status);
	assert_string_equal(text(v, "state"), "error");
	assert_string_equal(text(v, "error"), "exit code 3");
	json_decref(v);
	works("DELETE", "/v1/workspaces/fails", NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_workspace_is_made_found_switched_and_removed),
		cmocka_unit_test(a_workspace_that_cannot_be_is_refused_and_leaves_no_record),
		cmocka_unit_test(a_workspace_that_ended_says_so),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, start, finish);
}
