/* SPDX-License-Identifier: MIT
 *
 * Pipeline files: what becomes of them, and what is said where they are wrong.
 */
#include "step/pipeline.h"

#include "base/strv.h"
#include "step/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static int read_job(const char *text, struct davit_pipeline_job *job, struct davit_error *err)
{
	static const struct davit_var vars[] = {{"branch", "next"}, {"image", "alpine"}};

	memset(job, 0, sizeof *job);
	return davit_pipeline_read(text, strlen(text), "unit", vars, DAVIT_ARRAY_SIZE(vars), job, err);
}

#define RESOURCES                                                                                            \
	"resource_types: [{name: hg, type: registry-image, source: {repository: hg}}]\n"                     \
	"resources:\n"                                                                                       \
	"- {name: repo, type: git, source: {uri: /srv/x, branch: ((branch))}}\n"                             \
	"- {name: old, type: hg}\n"                                                                          \
	"jobs:\n"                                                                                            \
	"- name: unit\n"

/* The plan must be the one in JSON written with ' for ". */
static void assert_plan(const char *text, const char *want)
{
	struct davit_pipeline_job job;
	struct davit_error err = {0};
	char full[4096], *got;
	json_t *j;
	size_t n = 0;

	for (; want[n]; n++)
		full[n] = want[n] == '\'' ? '"' : want[n];
	full[n] = '\0';
	j = json_loads(full, 0, NULL);
	assert_non_null(j);
	if (read_job(text, &job, &err) < 0)
		fail_msg("%u:%u %s", err.line, err.column, err.message);
	got = json_dumps(job.plan, JSON_SORT_KEYS);
	if (!json_equal(job.plan, j))
		fail_msg("%s", got);
	free(got);
	json_decref(j);
	davit_pipeline_job_fini(&job);
}

static void a_get_carries_its_resource_with_the_variables_filled_in(void **state)
{
	assert_plan(RESOURCES
		    "  plan:\n  - {get: code, resource: repo, version: {ref: abc}, params: {depth: 1}}\n",
		    "{'kind':'do','steps':[{'kind':'get','name':'code','spec':{'version':{'ref':'abc'},'"
		    "params':{'depth':1},"
		    "'resource':{'name':'repo','type':'git','source':{'uri':'/srv/x','branch':'next'}}}}]}");
	(void)state;
}

static void a_resource_of_a_type_of_the_file_carries_that_as_well(void **state)
{
	assert_plan(RESOURCES "  plan: [{put: old, inputs: detect}]\n",
		    "{'kind':'do','steps':[{'kind':'put','name':'old','spec':{'inputs':'detect',"
		    "'resource':{'name':'old','type':'hg'},"
		    "'resource_type':{'name':'hg','type':'registry-image','source':{'repository':'hg'}}}}]}");
	(void)state;
}

static void what_wraps_a_step_is_nested_from_timeout_inside_to_ensure_outside(void **state)
{
	assert_plan(
		RESOURCES
		"  plan:\n  - task: a\n    file: x.yml\n    ensure: {do: []}\n    attempts: 2\n"
		"    on_failure: {do: []}\n    timeout: 1h\n    on_success: {do: []}\n    on_error: {do: "
		"[]}\n"
		"    on_abort: {do: []}\n    across:\n    - {var: v, values: [1, '2'], max_in_flight: all}\n"
		"    - {var: w, values: ((.:list))}\n    fail_fast: true\n",
		"{'kind':'do','steps':[{'kind':'ensure','hook':{'kind':'do','steps':[]},'step':"
		"{'kind':'on_error','hook':{'kind':'do','steps':[]},'step':"
		"{'kind':'on_abort','hook':{'kind':'do','steps':[]},'step':"
		"{'kind':'on_failure','hook':{'kind':'do','steps':[]},'step':"
		"{'kind':'on_success','hook':{'kind':'do','steps':[]},'step':"
		"{'kind':'across','var':'v','values':[1,'2'],'max_in_flight':0,'fail_fast':true,'step':"
		"{'kind':'across','var':'w','values':'((.:list))','max_in_flight':1,'fail_fast':true,'step':"
		"{'kind':'attempts','attempts':2,'step':{'kind':'timeout','after':'1h','step':"
		"{'kind':'task','name':'a','spec':{'file':'x.yml'}}}}}}}}}}}]}");
	(void)state;
}

static void groups_and_variables_of_steps_are_kept(void **state)
{
	assert_plan(RESOURCES "  plan:\n  - load_var: tag\n    file: repo/tag\n  - in_parallel:\n      "
			      "limit: 2\n      fail_fast: true\n"
			      "      steps:\n      - try: {task: a, config: {params: {TAG: ((.:tag)), IMAGE: "
			      "\"x ((image))\"}}}\n"
			      "  - in_parallel: []\n",
		    "{'kind':'do','steps':[{'kind':'load_var','name':'tag','spec':{'file':'repo/tag'}},"
		    "{'kind':'in_parallel','limit':2,'fail_fast':true,'steps':[{'kind':'try','step':"
		    "{'kind':'task','name':'a','spec':{'config':{'params':{'TAG':'((.:tag))','IMAGE':'x "
		    "alpine'}}}}}]},"
		    "{'kind':'in_parallel','steps':[]}]}");
	(void)state;
}

static void hooks_of_a_job_are_around_its_plan(void **state)
{
	assert_plan(RESOURCES "  plan: []\n  on_failure: {put: repo}\n",
		    "{'kind':'on_failure','step':{'kind':'do','steps':[]},'hook':{'kind':'put','name':'repo',"
		    "'spec':{"
		    "'resource':{'name':'repo','type':'git','source':{'uri':'/srv/x','branch':'next'}}}}}");
	(void)state;
}

static void what_schedules_a_job_is_ignored_with_a_note(void **state)
{
	struct davit_pipeline_job job;

	assert_int_equal(
		read_job(RESOURCES
			 "  serial: true\n  plan:\n  - get: repo\n    passed: [x]\n    trigger: true\n",
			 &job, NULL),
		0);
	assert_int_equal(davit_strv_len(job.notes), 3);
	assert_string_equal(job.notes[0],
			    "line 7: serial is ignored: a job that is run here is not scheduled");
	assert_string_equal(job.notes[1],
			    "line 10: passed is ignored: a job that is run here is not scheduled");
	davit_pipeline_job_fini(&job);
	(void)state;
}

static void what_is_wrong_is_refused_with_line_column_and_the_nearest_key(void **state)
{
	static const struct {
		const char *text;
		unsigned line, column;
		const char *says;
	} wrong[] = {
		{"job: []\n", 1, 1, "a pipeline has no key 'job'; did you mean 'jobs'?"},
		{RESOURCES "  plann: []\n", 7, 3, "a job has no key 'plann'; did you mean 'plan'?"},
		{RESOURCES "  plan:\n  - {gett: repo}\n", 8, 5, "did you mean 'get'?"},
		{RESOURCES "  plan:\n  - get: repo\n    trigerr: true\n", 9, 5,
		 "a get step has no key 'trigerr'; did you mean 'trigger'?"},
		{RESOURCES "  plan:\n  - get: repo\n    put: repo\n", 9, 5, "a get step has no key 'put'"},
		{RESOURCES "  plan:\n  - get: rep\n", 8, 10, "there is no resource 'rep'"},
		{RESOURCES "  plan:\n  - task: a\n", 8, 5, "the task 'a' needs config or file"},
		{RESOURCES "  plan:\n  - task: a\n    file: ((fil))/x\n", 9, 11,
		 "the variable ((fil)) is not set"},
		{RESOURCES "  plan:\n  - task: a\n    file: x\n    attempts: 0\n", 10, 15,
		 "attempts must be a whole number, at least 1"},
		{RESOURCES "  plan:\n  - in_parallel: {step: []}\n", 8, 19, "did you mean 'steps'?"},
		{RESOURCES "  plan:\n  - task: a\n    file: x\n    across: [{var: v}]\n", 10, 14,
		 "across needs var and values"},
		{RESOURCES "  plan:\n  - task: a\n    file: x\n    fail_fast: true\n", 10, 5,
		 "fail_fast is for across"},
		{RESOURCES "  plan:\n  - set_pipeline: self\n", 8, 5, "a step must be one of"},
		{RESOURCES "  plan: []\n- name: unit\n", 8, 3, "'unit' is there already, in line 6"},
		{RESOURCES "  plan: {}\n", 7, 9, "plan must be a list of steps"},
		{"var_sources: []\n", 1, 1, "var_sources are not supported"},
		{RESOURCES "  plan: []\n---\njobs: []\n", 9, 1, "a pipeline is one document"},
		{RESOURCES "  plan:\n  - task: a\n    file: x\n    timeout: soon\n", 10, 14,
		 "timeout must be a duration"},
		{RESOURCES "  plan:\n  - task: a\n    config: {run: {path: x}, inputs: [{nam: a}]}\n", 9, 40,
		 "did you mean 'name'?"},
		{RESOURCES "  plan:\n  - task: a\n    config: {platform: linux}\n", 9, 13,
		 "run: {path: PROGRAM}"},
		{"jobs: [{name: a, plan: []}, {name: b}]\n", 0, 0, "there is no job 'unit'; there are: a, b"},
		{"", 0, 0, "the pipeline is empty"},
	};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(wrong); i++) {
		struct davit_pipeline_job job;
		struct davit_error err = {0};

		if (read_job(wrong[i].text, &job, &err) >= 0)
			fail_msg("accepted: %s", wrong[i].text);
		if (!strstr(err.message, wrong[i].says) || err.line != wrong[i].line ||
		    err.column != wrong[i].column)
			fail_msg("%u:%u %s (wanted %u:%u %s)", err.line, err.column, err.message,
				 wrong[i].line, wrong[i].column, wrong[i].says);
		assert_null(job.plan);
	}
	(void)state;
}

static void values_keep_their_types(void **state)
{
	static const char text[] =
		"[1, -2, 1.5, 007, true, yes, null, '1', 1e3, 99999999999999999999, 1.2.3, .5]";
	struct davit_region region = {0};
	struct davit_tree_source source;
	struct davit_tree *t;
	json_t *list = json_array(), *v;
	char *got;

	/* YAML, for a text that begins with '[' would be JSON. */
	DAVIT_AUTO_FREE char *yaml = NULL;
	assert_true(asprintf(&yaml, "x: %s", text) > 0);
	assert_int_equal(davit_tree_open(&source, yaml, strlen(yaml), NULL), 0);
	assert_int_equal(davit_tree_next(&source, &region, &t, NULL), 1);
	for (const struct davit_tree *c = davit_tree_get(t, "x")->first; c; c = c->next) {
		assert_int_equal(davit_tree_json(c, &v, NULL), 0);
		json_array_append_new(list, v);
	}
	got = json_dumps(list, JSON_COMPACT);
	assert_string_equal(got, "[1,-2,1.5,\"007\",true,\"yes\",null,\"1\",1000.0,\"99999999999999999999\","
				 "\"1.2.3\",\".5\"]");
	free(got);
	json_decref(list);
	davit_tree_close(&source);
	davit_region_fini(&region);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_get_carries_its_resource_with_the_variables_filled_in),
		cmocka_unit_test(a_resource_of_a_type_of_the_file_carries_that_as_well),
		cmocka_unit_test(what_wraps_a_step_is_nested_from_timeout_inside_to_ensure_outside),
		cmocka_unit_test(groups_and_variables_of_steps_are_kept),
		cmocka_unit_test(hooks_of_a_job_are_around_its_plan),
		cmocka_unit_test(what_schedules_a_job_is_ignored_with_a_note),
		cmocka_unit_test(what_is_wrong_is_refused_with_line_column_and_the_nearest_key),
		cmocka_unit_test(values_keep_their_types),
	};

	return cmocka_run_group_tests_name("pipeline", tests, NULL, NULL);
}
