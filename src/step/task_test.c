/* SPDX-License-Identifier: MIT */
#include "davit/task.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct davit_error err;

static struct davit_task *parse(const char *text)
{
	struct davit_task *t = NULL;

	if (davit_task_parse(text, strlen(text), &t, &err) < 0)
		fail_msg("%u:%u: %s", err.line, err.column, err.message);
	return t;
}

static void refused(const char *text, unsigned line, const char *why)
{
	struct davit_task *t = (void *)&err;

	davit_error_clear(&err);
	assert_int_equal(davit_task_parse(text, strlen(text), &t, &err), DAVIT_EINVAL);
	assert_ptr_equal(t, &err);
	assert_int_equal(err.line, line);
	if (!strstr(err.message, why))
		fail_msg("'%s' does not say '%s'", err.message, why);
}

static void a_task_of_all_keys_is_read(void **state)
{
	struct davit_task *t = parse("platform: linux\n"
				     "rootfs_uri: raw:///x\n"
				     "params: {B: 1, A: {k: [1.5, x]}, N: ~, Q: \"null\"}\n"
				     "inputs: [{name: i}, {name: j, path: a/b, optional: true}]\n"
				     "outputs: [{name: o}]\n"
				     "caches: [{path: c}]\n"
				     "run: {path: p, args: [a, '', \"1\"], dir: d, user: u}\n"
				     "container_limits: {cpu: 0.5, memory: 2GB, pids: 7}\n");

	(void)state;
	assert_string_equal(t->rootfs, "raw:///x");
	assert_int_equal(t->n_params, 4);
	assert_string_equal(t->params[0].value, "1");
	assert_string_equal(t->params[1].value, "{\"k\":[1.5,\"x\"]}");
	assert_string_equal(t->params[2].value, "");
	assert_false(t->params[2].given);
	assert_string_equal(t->params[3].value, "null");
	assert_string_equal(t->inputs[0].path, "i");
	assert_string_equal(t->inputs[1].path, "a/b");
	assert_true(t->inputs[1].optional);
	assert_string_equal(t->outputs[0].path, "o");
	assert_string_equal(t->caches[0].path, "c");
	assert_string_equal(t->run_args[1], "");
	assert_null(t->run_args[3]);
	assert_string_equal(t->run_user, "u");
	assert_int_equal(t->cpu_millicores, 500);
	assert_int_equal(t->memory, UINT64_C(2) << 30);
	assert_int_equal(t->pids, 7);
	davit_task_free(t);
}

static void units_of_memory_are_binary(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} cases[] = {{"0", 0},	      {"100", 100},	{"64K", 65536},	    {"64KB", 65536}, {"64KiB", 65536},
		     {"1m", 1 << 20}, {"1Mb", 1 << 20}, {"1.5G", 3u << 29}, {"1g", 1 << 30}, {"2b", 2}};
	char text[100];

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct davit_task *t;
		snprintf(text, sizeof text, "run: {path: x}\ncontainer_limits: {memory: %s}\n",
			 cases[i].text);
		t = parse(text);
		assert_int_equal(t->memory, cases[i].bytes);
		davit_task_free(t);
	}
	refused("run: {path: x}\ncontainer_limits: {memory: 1Q}\n", 2, "a size is expected");
	refused("run: {path: x}\ncontainer_limits: {memory: -1}\n", 2, "a size is expected");
	refused("run: {path: x}\ncontainer_limits: {memory: 1KK}\n", 2, "a size is expected");
	refused("run: {path: x}\ncontainer_limits: {memory: 99999999999G}\n", 2, "a size is expected");
}

static void what_is_wrong_is_refused_with_its_place(void **state)
{
	(void)state;
	refused("run: {path: x}\ninputz: []\n", 2, "did you mean 'inputs'?");
	refused("run: {path: x}\ninputs:\n- {name: a, pth: b}\n", 3, "did you mean 'path'?");
	refused("inputs: []\n", 1, "nothing to run");
	refused("run: {path: x}\nplatform: windows\n", 2, "linux");
	refused("run: {path: x}\ninputs: [{path: b}]\n", 2, "it has no name");
	refused("run: {path: x}\ninputs: [{name: a/b}]\n", 2, "no slash");
	refused("run: {path: x}\ninputs: [{name: a}, {name: a}]\n", 2, "is there twice");
	refused("run: {path: x}\ncaches: [{path: a/../../b}]\n", 2, "'..'");
	refused("run: {path: x}\nparams: {'A=B': 1}\n", 2, "cannot be the name of a variable");
	refused("run: {path: x}\nrootfs_uri: a\nimage_resource: {type: b}\n", 1, "cannot both");
	refused("run: {path: x}\n---\nrun: {path: y}\n", 3, "more than one task");
	refused("", 0, "no task");
	refused("[1]", 1, "a map is expected");
}

static void all_missing_inputs_are_in_one_message(void **state)
{
	struct davit_task *t =
		parse("inputs: [{name: a}, {name: b, optional: true}, {name: c}]\nrun: {path: x}\n");
	const char *const all[] = {"a", "c"}, *const wrong[] = {"a", "c", "bb"};

	(void)state;
	assert_int_equal(davit_task_check_inputs(t, NULL, 0, &err), DAVIT_EINVAL);
	assert_string_equal(err.message, "missing inputs: a, c");
	assert_int_equal(davit_task_check_inputs(t, all, 2, &err), 0);
	assert_int_equal(davit_task_check_inputs(t, wrong, 3, &err), DAVIT_EINVAL);
	assert_non_null(strstr(err.message, "no input 'bb'; did you mean 'b'?"));
	davit_task_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_task_of_all_keys_is_read),
		cmocka_unit_test(units_of_memory_are_binary),
		cmocka_unit_test(what_is_wrong_is_refused_with_its_place),
		cmocka_unit_test(all_missing_inputs_are_in_one_message),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
