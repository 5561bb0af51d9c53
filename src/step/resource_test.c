/* SPDX-License-Identifier: MIT
 *
 * The resource protocol, with types that are small shell scripts, and the git type of examples/.
 */
#include "step/resource.h"

#include "base/file.h"
#include "base/strv.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#define MSEC INT64_C(1000000)

struct rig {
	char dir[64];
	struct davit_loop *loop;
	struct davit_resource_run *run;
	struct davit_buf log;
	enum davit_plan_outcome outcome;
	struct davit_error error;
	char *answer; /* versions, or version and metadata */
};

static int set_up(void **state)
{
	struct rig *r = calloc(1, sizeof *r);

	signal(SIGPIPE, SIG_IGN);
	strcpy(r->dir, "/tmp/davit-resource.XXXXXX");
	assert_non_null(mkdtemp(r->dir));
	assert_int_equal(davit_loop_open(&r->loop, NULL), 0);
	*state = r;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *r = *state;

	davit_loop_close(r->loop);
	davit_remove_tree(r->dir, NULL);
	davit_buf_fini(&r->log);
	free(r->answer);
	free(r);
	return 0;
}

/* Makes a program of the type of this test. */
static void script(struct rig *r, const char *name, const char *text)
{
	char path[128], full[4096];
	int n = snprintf(full, sizeof full, "#!/bin/sh\n%s\n", text);

	snprintf(path, sizeof path, "%s/%s", r->dir, name);
	assert_int_equal(davit_write_file(path, full, (size_t)n, 0755, NULL), 0);
}

static void on_log(void *owner, const char *text, size_t len)
{
	davit_buf_add(&((struct rig *)owner)->log, text, len);
}

static void on_done(void *owner, const struct davit_resource_end *end)
{
	struct rig *r = owner;

	r->outcome = end->outcome;
	r->error = end->error;
	free(r->answer);
	r->answer = end->versions  ? json_dumps(end->versions, JSON_COMPACT | JSON_SORT_KEYS)
		    : end->version ? json_dumps(end->version, JSON_COMPACT | JSON_SORT_KEYS)
				   : NULL;
	davit_resource_free(r->run);
	r->run = NULL;
}

static const struct davit_resource_events events = {.log = on_log, .done = on_done};

/* Runs to its end. source, version and params are JSON, or NULL. */
static enum davit_plan_outcome run(struct rig *r, struct davit_resource_spec spec, const char *source,
				   const char *version, const char *params)
{
	json_t *s = source ? json_loads(source, 0, NULL) : NULL,
	       *v = version ? json_loads(version, 0, NULL) : NULL,
	       *p = params ? json_loads(params, 0, NULL) : NULL;
	char directory[96];

	snprintf(directory, sizeof directory, "%s/directory", r->dir);
	spec.type = spec.type ? spec.type : r->dir;
	spec.scratch = r->dir;
	spec.source = s;
	spec.version = v;
	spec.params = p;
	spec.directory = spec.directory ? spec.directory : directory;
	davit_buf_reset(&r->log);
	assert_int_equal(davit_mkdirs(directory, 0755, NULL), 0);
	if (davit_resource_start(r->loop, &spec, &events, r, &r->run, &r->error) < 0)
		r->outcome = DAVIT_PLAN_ERRORED;
	else
		davit_loop_run(r->loop);
	assert_null(r->run);
	json_decref(s);
	json_decref(v);
	json_decref(p);
	return r->outcome;
}

#define CHECK                                                                                                \
	(struct davit_resource_spec)                                                                         \
	{                                                                                                    \
		.action = DAVIT_RESOURCE_CHECK                                                               \
	}
#define GET                                                                                                  \
	(struct davit_resource_spec)                                                                         \
	{                                                                                                    \
		.action = DAVIT_RESOURCE_IN                                                                  \
	}
#define PUT                                                                                                  \
	(struct davit_resource_spec)                                                                         \
	{                                                                                                    \
		.action = DAVIT_RESOURCE_OUT                                                                 \
	}

/* ------------------------------------------------------------------------ protocol */

static void check_reads_source_and_version_and_prints_versions_oldest_first(void **state)
{
	struct rig *r = *state;

	script(r, "check", "cat >&2; echo '[{\"n\":\"1\"},{\"n\":\"2\"}]'");
	assert_int_equal(run(r, CHECK, "{\"uri\":\"x\"}", NULL, NULL), DAVIT_PLAN_SUCCEEDED);
	assert_string_equal(r->answer, "[{\"n\":\"1\"},{\"n\":\"2\"}]");
	assert_string_equal(davit_buf_str(&r->log), "{\"source\":{\"uri\":\"x\"}}");
	run(r, CHECK, "{}", "{\"n\":\"1\"}", NULL);
	assert_string_equal(davit_buf_str(&r->log), "{\"source\":{},\"version\":{\"n\":\"1\"}}");
}

static void in_gets_the_directory_the_version_and_the_params(void **state)
{
	struct rig *r = *state;

	script(r, "in",
	       "cat >&2; echo got > \"$1/file\"; echo '{\"version\":{\"n\":\"1\"},\"metadata\":[]}'");
	assert_int_equal(run(r, GET, NULL, "{\"n\":\"1\"}", "{\"depth\":1}"), DAVIT_PLAN_SUCCEEDED);
	assert_string_equal(r->answer, "{\"n\":\"1\"}");
	assert_string_equal(davit_buf_str(&r->log),
			    "{\"source\":{},\"version\":{\"n\":\"1\"},\"params\":{\"depth\":1}}");
}

static void a_null_version_is_an_error(void **state)
{
	struct rig *r = *state;

	script(r, "out", "echo '{\"version\":null}'");
	assert_int_equal(run(r, PUT, NULL, NULL, NULL), DAVIT_PLAN_ERRORED);
	assert_string_equal(r->error.message, "out: the version is null: it printed \"{\"version\":null} \"");
	assert_int_equal(run(r, GET, NULL, NULL, NULL), DAVIT_PLAN_ERRORED);
	assert_string_equal(r->error.message, "the version is null");
	script(r, "check", "echo '[null]'");
	assert_int_equal(run(r, CHECK, NULL, NULL, NULL), DAVIT_PLAN_ERRORED);
}

static void a_malformed_answer_is_an_error_that_shows_it(void **state)
{
	static const struct {
		const char *prints, *says;
	} wrong[] = {
		{"", "it printed nothing"},
		{"hello", "it printed \"hello\""},
		{"[1]", "a version must be a map of texts"},
		{"[{\"n\":1}]", "'n' of a version is no text"},
		{"{\"n\":\"1\"}", "its answer is no list of versions"},
		{"[{\"n\":\"1\"}] and more", "is no JSON"},
		{"[{\"n\":\"1\",\"n\":\"2\"}]", "duplicate"},
		{"\x1b[31m", "it printed \"?[31m\""},
	};
	json_t *v = NULL, *m = NULL;

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(wrong); i++) {
		struct davit_error err = {0};
		int e = davit_resource_read_versions(wrong[i].prints, strlen(wrong[i].prints), &v, &err);
		assert_int_equal(e, DAVIT_EPROTO);
		if (!strstr(err.message, wrong[i].says))
			fail_msg("%s", err.message);
		assert_null(v);
	}
	assert_int_equal(davit_resource_read_result("{\"version\":{},\"metadata\":[1]}", 28, &v, &m, NULL),
			 DAVIT_EPROTO);
	assert_int_equal(davit_resource_read_versions("null", 4, &v, NULL), 0);
	assert_int_equal(json_array_size(v), 0);
	json_decref(v);
	(void)state;
}

static void another_exit_status_is_a_failure_and_the_log_is_kept(void **state)
{
	struct rig *r = *state;

	script(r, "check", "echo no such branch >&2; exit 3");
	assert_int_equal(run(r, CHECK, NULL, NULL, NULL), DAVIT_PLAN_FAILED);
	assert_string_equal(r->error.message, "check failed with the exit status 3");
	assert_string_equal(davit_buf_str(&r->log), "no such branch\n");
}

static void a_type_without_the_program_and_one_that_cannot_be_executed_say_so(void **state)
{
	struct rig *r = *state;
	char path[96];

	assert_int_equal(run(r, CHECK, NULL, NULL, NULL), DAVIT_PLAN_ERRORED);
	assert_int_equal(r->error.code, DAVIT_ENOENT);
	assert_non_null(strstr(r->error.message, "has no program 'check'"));
	snprintf(path, sizeof path, "%s/check", r->dir);
	assert_int_equal(davit_write_file(path, "#!/no/such/shell\n", 17, 0755, NULL), 0);
	assert_int_equal(run(r, CHECK, NULL, NULL, NULL), DAVIT_PLAN_ERRORED);
	assert_int_equal(r->error.code, DAVIT_EEXEC);
}

static void the_programs_of_an_unpacked_image_are_found_in_opt_resource(void **state)
{
	struct rig *r = *state;
	char path[96];

	snprintf(path, sizeof path, "%s/opt/resource", r->dir);
	assert_int_equal(davit_mkdirs(path, 0755, NULL), 0);
	script(r, "opt/resource/check", "echo '[]'");
	assert_int_equal(run(r, CHECK, NULL, NULL, NULL), DAVIT_PLAN_SUCCEEDED);
}

static void get_and_put_see_the_build_and_nothing_of_the_caller_and_check_does_not(void **state)
{
	struct davit_build_metadata build = {.id = "42", .name = "7", .job = "unit"};
	struct davit_resource_spec put = PUT, check = CHECK;
	struct rig *r = *state;

	setenv("DAVIT_TEST_SECRET", "x", 1);
	script(r, "out", "env >&2; ls -A \"$HOME\" >&2; echo '{\"version\":{}}'");
	script(r, "check", "env >&2; echo '[]'");
	put.build = check.build = build;
	assert_int_equal(run(r, put, NULL, NULL, NULL), DAVIT_PLAN_SUCCEEDED);
	assert_non_null(strstr(davit_buf_str(&r->log), "BUILD_ID=42\n"));
	assert_non_null(strstr(davit_buf_str(&r->log), "BUILD_JOB_NAME=unit\n"));
	assert_null(strstr(davit_buf_str(&r->log), "BUILD_TEAM_NAME"));
	assert_null(strstr(davit_buf_str(&r->log), "DAVIT_TEST_SECRET"));
	assert_non_null(strstr(davit_buf_str(&r->log), "HOME=/tmp/davit-resource."));
	run(r, check, NULL, NULL, NULL);
	assert_null(strstr(davit_buf_str(&r->log), "BUILD_ID"));
}

/* ----------------------------------------------------------------------- containment */

static void what_ignores_sigterm_is_killed_after_the_grace_with_all_its_children(void **state)
{
	struct davit_resource_spec spec = CHECK;
	struct rig *r = *state;

	script(r, "check",
	       "trap '' TERM; (trap '' TERM; sleep 60; echo late) & echo $! >&2; sleep 60; sleep 60");
	spec.timeout = 2000 * MSEC; /* a busy machine must have begun by then */
	spec.grace = 100 * MSEC;
	assert_int_equal(run(r, spec, NULL, NULL, NULL), DAVIT_PLAN_FAILED);
	assert_int_equal(r->error.code, DAVIT_ETIMEDOUT);
	assert_true(r->log.len > 0);
	for (int i = 0; kill((pid_t)atoi(davit_buf_str(&r->log)), 0) == 0; i++) {
		assert_true(i < 6000); /* init reaps it */
		usleep(10000);
	}
}

static void an_answer_without_end_is_cut_and_an_error(void **state)
{
	struct rig *r = *state;

	script(r, "check", "exec cat /dev/zero");
	assert_int_equal(run(r, CHECK, NULL, NULL, NULL), DAVIT_PLAN_ERRORED);
	assert_string_equal(r->error.message, "check printed more than its answer may have");
}

static void a_child_that_keeps_the_pipes_open_is_not_waited_for(void **state)
{
	struct rig *r = *state;
	pid_t left;

	script(r, "check", "setsid sh -c 'echo $$ >&2; exec sleep 30' & sleep 1.5; echo '[]'");
	assert_int_equal(run(r, CHECK, NULL, NULL, NULL), DAVIT_PLAN_SUCCEEDED);
	left = (pid_t)atoi(davit_buf_str(&r->log));
	assert_true(left > 1);
	assert_int_equal(kill(left, SIGKILL),
			 0); /* it left the session: it is for the step's pid namespace */
}

static void a_program_that_does_not_read_its_input_may_do_so(void **state)
{
	DAVIT_AUTO_BUF source = DAVIT_BUF_INIT;
	struct rig *r = *state;

	davit_buf_adds(&source, "{\"x\":\"");
	for (int i = 0; i < 300000; i++)
		davit_buf_addc(&source, 'x');
	davit_buf_adds(&source, "\"}");
	script(r, "check", "exec <&-; echo '[]'");
	assert_int_equal(run(r, CHECK, davit_buf_str(&source), NULL, NULL), DAVIT_PLAN_SUCCEEDED);
	script(r, "check", "wc -c >&2; echo '[]'");
	assert_int_equal(run(r, CHECK, davit_buf_str(&source), NULL, NULL), DAVIT_PLAN_SUCCEEDED);
	assert_int_equal(atoi(davit_buf_str(&r->log)), 300000 + 19);
}

static void nothing_is_left_in_the_scratch_directory(void **state)
{
	struct rig *r = *state;
	char path[128];

	script(r, "check", "mkdir \"$HOME/a\"; echo \"$HOME\" >&2; echo '[]'");
	assert_int_equal(run(r, CHECK, NULL, NULL, NULL), DAVIT_PLAN_SUCCEEDED);
	snprintf(path, sizeof path, "%.*s", (int)r->log.len - 1, davit_buf_str(&r->log));
	assert_int_equal(access(path, F_OK), -1);
}

/* ------------------------------------------------------------------------- get cache */

struct asker {
	struct davit_get get;
	int fetches, fetched;
};

static void on_fetch(struct davit_get *g)
{
	DAVIT_CONTAINER_OF(g, struct asker, get)->fetches++;
}

static void on_fetched(struct davit_get *g)
{
	DAVIT_CONTAINER_OF(g, struct asker, get)->fetched++;
}

static void eight_that_ask_at_once_are_one_fetch(void **state)
{
	struct davit_gets gets = {0};
	struct asker a[8] = {0};

	for (int i = 0; i < 8; i++) {
		a[i].get.fetch = on_fetch;
		a[i].get.fetched = on_fetched;
		assert_int_equal(davit_get_ask(&gets, "key", &a[i].get, NULL), 0);
		assert_int_equal(a[i].fetches, i == 0);
	}
	davit_get_fetched(&a[0].get);
	for (int i = 1; i < 8; i++)
		assert_int_equal(a[i].fetched, 1);
	assert_int_equal(a[0].fetched, 0);
	davit_gets_fini(&gets);
	(void)state;
}

static void when_the_one_who_fetches_fails_the_next_one_fetches(void **state)
{
	struct davit_gets gets = {0};
	struct asker a[3] = {0}, other = {.get = {.fetch = on_fetch, .fetched = on_fetched}};

	for (int i = 0; i < 3; i++) {
		a[i].get.fetch = on_fetch;
		a[i].get.fetched = on_fetched;
		assert_int_equal(davit_get_ask(&gets, "key", &a[i].get, NULL), 0);
	}
	assert_int_equal(davit_get_ask(&gets, "other", &other.get, NULL), 0);
	assert_int_equal(other.fetches, 1);
	davit_get_leave(&a[1].get); /* aborted while it waited */
	davit_get_leave(&a[0].get); /* failed */
	assert_int_equal(a[1].fetches, 0);
	assert_int_equal(a[2].fetches, 1);
	davit_get_leave(&a[2].get);
	davit_get_leave(&a[2].get);
	assert_int_equal(davit_get_ask(&gets, "key", &a[0].get, NULL), 0);
	assert_int_equal(a[0].fetches, 2);
	davit_get_leave(&a[0].get);
	davit_get_leave(&other.get);
	davit_gets_fini(&gets);
	(void)state;
}

static void the_key_depends_on_type_source_version_and_params_and_not_on_their_order(void **state)
{
	json_t *a = json_pack("{s:s,s:s}", "a", "1", "b", "2"),
	       *b = json_pack("{s:s,s:s}", "b", "2", "a", "1"),
	       *c = json_pack("{s:s,s:s}", "a", "1", "b", "3");
	char x[DAVIT_GET_KEY_MAX], y[DAVIT_GET_KEY_MAX];

	davit_get_key("git", a, a, a, x, NULL);
	davit_get_key("git", b, b, b, y, NULL);
	assert_string_equal(x, y);
	davit_get_key("git", a, a, c, y, NULL);
	assert_string_not_equal(x, y);
	davit_get_key("git", a, c, a, y, NULL);
	assert_string_not_equal(x, y);
	davit_get_key("git", c, a, a, y, NULL);
	assert_string_not_equal(x, y);
	davit_get_key("hg", a, a, a, y, NULL);
	assert_string_not_equal(x, y);
	json_decref(a);
	json_decref(b);
	json_decref(c);
	(void)state;
}

static void the_inputs_of_a_put_are_all_detected_or_listed(void **state)
{
	static const char *const names[] = {"repo", "built", "repository"};
	static const struct {
		const char *inputs, *params, *want; /* joined by blanks; or the error */
	} cases[] = {
		{NULL, NULL, "repo built repository"},
		{"\"all\"", NULL, "repo built repository"},
		{"\"detect\"", "{\"a\":\"repo/x\",\"b\":[{\"c\":\"./built\"}]}", "repo built"},
		{"\"detect\"", "{\"a\":\"x/repo\",\"n\":1}", ""},
		{"\"detect\"", NULL, ""},
		{"[\"built\"]", "{\"a\":\"repo\"}", "built"},
		{"[\"none\",\"built\",\"nor\"]", NULL, "missing inputs: none, nor"},
		{"\"some\"", NULL, "inputs are all, detect, or a list of names"},
	};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(cases); i++) {
		json_t *inputs = cases[i].inputs ? json_loads(cases[i].inputs, JSON_DECODE_ANY, NULL) : NULL;
		json_t *params = cases[i].params ? json_loads(cases[i].params, 0, NULL) : NULL;
		DAVIT_AUTO_BUF got = DAVIT_BUF_INIT;
		struct davit_error err = {0};
		DAVIT_AUTO_STRV v = NULL;

		if (davit_put_inputs(inputs, params, names, 3, &v, &err) < 0)
			davit_buf_adds(&got, err.message);
		for (size_t k = 0; k < davit_strv_len(v); k++)
			davit_buf_addf(&got, "%s%s", k ? " " : "", v[k]);
		assert_string_equal(davit_buf_str(&got), cases[i].want);
		json_decref(inputs);
		json_decref(params);
	}
	(void)state;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(check_reads_source_and_version_and_prints_versions_oldest_first),
		TEST(in_gets_the_directory_the_version_and_the_params),
		TEST(a_null_version_is_an_error),
		TEST(a_malformed_answer_is_an_error_that_shows_it),
		TEST(another_exit_status_is_a_failure_and_the_log_is_kept),
		TEST(a_type_without_the_program_and_one_that_cannot_be_executed_say_so),
		TEST(the_programs_of_an_unpacked_image_are_found_in_opt_resource),
		TEST(get_and_put_see_the_build_and_nothing_of_the_caller_and_check_does_not),
		TEST(what_ignores_sigterm_is_killed_after_the_grace_with_all_its_children),
		TEST(an_answer_without_end_is_cut_and_an_error),
		TEST(a_child_that_keeps_the_pipes_open_is_not_waited_for),
		TEST(a_program_that_does_not_read_its_input_may_do_so),
		TEST(nothing_is_left_in_the_scratch_directory),
		cmocka_unit_test(eight_that_ask_at_once_are_one_fetch),
		cmocka_unit_test(when_the_one_who_fetches_fails_the_next_one_fetches),
		cmocka_unit_test(the_key_depends_on_type_source_version_and_params_and_not_on_their_order),
		cmocka_unit_test(the_inputs_of_a_put_are_all_detected_or_listed),
	};

	return cmocka_run_group_tests_name("resource", tests, NULL, NULL);
}
