/* SPDX-License-Identifier: MIT
 *
 * What neither the table of rules nor the truth table reaches: stores that are slow, variables, what is
 * refused.
 */
#include "step/test_plan_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* ---------------------------------------------------------------------- durability */

static void nothing_is_done_before_it_is_durable(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'do','steps':[@a,@b]}");
	r.told[0] = '\0';
	r.slow = true;
	ended(&r, "0/0", OK);
	assert_told(&r, "");
	davit_plan_stored(r.p, r.generation - 1);
	assert_told(&r, "");
	davit_plan_stored(r.p, r.generation);
	assert_told(&r, "+0/1 ");
	ended(&r, "0/1", OK);
	assert_false(r.done);
	davit_plan_stored(r.p, r.generation);
	close_rig(&r, OK);
	(void)state;
}

static void what_is_aborted_before_it_could_be_started_is_never_started(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'do','steps':[@a,@b]}");
	r.told[0] = '\0';
	r.slow = true;
	ended(&r, "0/0", OK);
	abort_all(&r);
	davit_plan_stored(r.p, r.generation);
	davit_plan_stored(r.p, r.generation); /* that 0/1 was aborted is an event of its own */
	close_rig(&r, ABORTED);
	(void)state;
}

static void after_a_crash_what_ran_is_asked_for_again_and_what_was_aborted_is_looked_for(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'in_parallel','steps':[@a,@b]}");
	ended(&r, "0/0", OK);
	die(&r);
	assert_told(&r, "?0/1 ");
	abort_all(&r);
	die(&r);
	assert_told(&r, "!0/1 -0/1 ");
	ended(&r, "0/1", ABORTED);
	close_rig(&r, ABORTED);
	(void)state;
}

static void an_end_that_is_reported_twice_counts_once(void **state)
{
	struct davit_error err = {0};
	struct rig r;

	open_rig(&r, "{'kind':'do','steps':[@a,@b]}");
	ended(&r, "0/0", OK);
	assert_int_equal(davit_plan_ended(r.p, "0/0", FAILED, NULL, NULL, T0, &err), DAVIT_ENOENT);
	assert_string_equal(err.message, "no step '0/0' is active");
	ended(&r, "0/1", OK);
	assert_told(&r, "+0/0 +0/1 ");
	close_rig(&r, OK);
	(void)state;
}

/* ----------------------------------------------------------------------- variables */

static void load_var_sets_a_variable_for_the_steps_after_it(void **state)
{
	json_t *value = json_pack("{s:s,s:[i,i]}", "tag", "v1", "list", 1, 2);
	const struct davit_plan_node *leaf;
	struct rig r;

	open_rig(&r,
		 "{'kind':'do','steps':[{'kind':'load_var','name':'info'},"
		 "{'kind':'task','name':'a','spec':{'text':'tag ((.:info.tag)), (( .:info.tag )) ((later))',"
		 "'list':'((.:info.list))'}}]}");
	assert_int_equal(davit_plan_ended(r.p, "0/0", OK, NULL, value, T0, NULL), 0);
	die(&r); /* variables are part of the state */
	assert_told(&r, "?0/1 ");
	leaf = davit_plan_leaf(r.p, "0/1");
	assert_string_equal(json_string_value(json_object_get(leaf->config, "text")), "tag v1, v1 ((later))");
	assert_int_equal(json_array_size(json_object_get(leaf->config, "list")), 2);
	ended(&r, "0/1", OK);
	close_rig(&r, OK);
	json_decref(value);
	(void)state;
}

static void a_variable_that_is_not_set_makes_the_step_an_error_that_says_so(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'task','name':'a','spec':{'text':'((.:nothing))'}}");
	assert_string_equal(r.p->root->message, "the variable ((.:nothing)) is not set");
	close_rig(&r, ERRORED);
	(void)state;
}

static void across_takes_its_values_from_a_variable_when_it_begins(void **state)
{
	json_t *value = json_pack("[s,s]", "x", "y");
	struct rig r;

	open_rig(&r, "{'kind':'do','steps':[{'kind':'load_var','name':'all'},{'kind':'across','var':'one',"
		     "'values':'((.:all))','max_in_flight':2,'step':{'kind':'task','name':'a',"
		     "'spec':{'is':'((.:one))'}}}]}");
	assert_int_equal(davit_plan_ended(r.p, "0/0", OK, NULL, value, T0, NULL), 0);
	assert_told(&r, "+0/0 +0/1/0 +0/1/1 ");
	assert_string_equal(json_string_value(json_object_get(davit_plan_leaf(r.p, "0/1/1")->config, "is")),
			    "y");
	ended(&r, "0/1/0", OK);
	ended(&r, "0/1/1", OK);
	close_rig(&r, OK);
	json_decref(value);
	(void)state;
}

/* -------------------------------------------------------------------------- limits */

static void a_long_plan_that_starts_nothing_needs_no_stack(void **state)
{
	json_t *steps = json_array(), *plan;
	struct rig r = {0};

	for (int i = 0; i < 50000; i++)
		json_array_append_new(steps, json_pack("{s:s,s:[]}", "kind", "do", "steps"));
	plan = json_pack("{s:s,s:o}", "kind", "do", "steps", steps);
	assert_int_equal(davit_plan_read(plan, &rig_ops, &r, &r.p, NULL), 0);
	assert_int_equal(davit_plan_begin(r.p, T0, NULL), 0);
	json_decref(plan);
	close_rig(&r, OK);
	(void)state;
}

static void plans_that_are_too_deep_or_wrong_are_refused_with_the_reason(void **state)
{
	static const struct {
		const char *text, *says;
	} wrong[] = {
		{"{'kind':'frob'}", "a node needs a 'kind' that there is"},
		{"{'kind':'try','step':@a,'stepp':1}", "'stepp' is no key of try"},
		{"{'kind':'try'}", "a node needs a 'kind' that there is"},
		{"{'kind':'do'}", "'steps' must be a list"},
		{"{'kind':'attempts','step':@a,'attempts':0}",
		 "'attempts' must be a whole number from 1 to 1000"},
		{"{'kind':'timeout','step':@a,'after':'soon'}", "soon"},
		{"{'kind':'across','step':@a,'var':'x','values':7}", "'values' must be a list"},
	};
	json_t *deep = plan_of("@a");

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(wrong); i++) {
		json_t *j = plan_of(wrong[i].text);
		struct davit_plan *p = NULL;
		struct davit_error err = {0};
		assert_int_equal(davit_plan_read(j, &rig_ops, NULL, &p, &err), DAVIT_EINVAL);
		if (!strstr(err.message, wrong[i].says))
			fail_msg("%s", err.message);
		assert_null(p);
		json_decref(j);
	}
	for (int i = 1; i <= DAVIT_PLAN_DEPTH_MAX; i++) {
		struct davit_plan *p = NULL;
		struct davit_error err = {0};
		int e = davit_plan_read(deep, &rig_ops, NULL, &p, &err);
		assert_int_equal(e, i <= DAVIT_PLAN_DEPTH_MAX ? 0 : DAVIT_EINVAL);
		davit_plan_free(p);
		deep = json_pack("{s:s,s:o}", "kind", "try", "step", deep);
	}
	{
		struct davit_plan *p = NULL;
		struct davit_error err = {0};
		assert_int_equal(davit_plan_read(deep, &rig_ops, NULL, &p, &err), DAVIT_EINVAL);
		assert_non_null(strstr(err.message, "too deep"));
	}
	json_decref(deep);
	(void)state;
}

static void a_message_of_bytes_that_are_no_text_can_be_stored(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'do','steps':[@a,@b]}");
	assert_int_equal(davit_plan_ended(r.p, "0/0", OK, "\xff\xfe broken", NULL, T0, NULL), 0);
	die(&r);
	ended(&r, "0/1", OK);
	assert_told(&r, "?0/1 ");
	close_rig(&r, OK);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_done_before_it_is_durable),
		cmocka_unit_test(what_is_aborted_before_it_could_be_started_is_never_started),
		cmocka_unit_test(
			after_a_crash_what_ran_is_asked_for_again_and_what_was_aborted_is_looked_for),
		cmocka_unit_test(an_end_that_is_reported_twice_counts_once),
		cmocka_unit_test(load_var_sets_a_variable_for_the_steps_after_it),
		cmocka_unit_test(a_variable_that_is_not_set_makes_the_step_an_error_that_says_so),
		cmocka_unit_test(across_takes_its_values_from_a_variable_when_it_begins),
		cmocka_unit_test(a_long_plan_that_starts_nothing_needs_no_stack),
		cmocka_unit_test(plans_that_are_too_deep_or_wrong_are_refused_with_the_reason),
		cmocka_unit_test(a_message_of_bytes_that_are_no_text_can_be_stored),
	};

	return cmocka_run_group_tests_name("plan-state", tests, NULL, NULL);
}
