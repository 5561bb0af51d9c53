/* SPDX-License-Identifier: MIT
 *
 * Each rule of the table in docs/plans.md as a test, and what the truth table does not reach: variables,
 * stores that are slow, what is refused.
 */
#include "step/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SEC INT64_C(1000000000)
#define T0 (1000 * SEC)
#define OK DAVIT_PLAN_SUCCEEDED
#define FAILED DAVIT_PLAN_FAILED
#define ERRORED DAVIT_PLAN_ERRORED
#define ABORTED DAVIT_PLAN_ABORTED

/* A host that does nothing but write down what it is told. */
struct rig {
	struct davit_plan *p;
	char told[1024]; /* "+KEY " started, "?KEY " again, "!KEY " to be found, "-KEY " aborted */
	int64_t armed;
	bool done, slow; /* slow: nothing is durable until the test says so */
	uint64_t generation;
};

static void tell(struct rig *r, char what, const struct davit_plan_node *leaf)
{
	size_t n = strlen(r->told);

	snprintf(r->told + n, sizeof r->told - n, "%c%s ", what, leaf->key);
}

static void on_store(void *owner, uint64_t generation, const char *record)
{
	struct rig *r = owner;

	assert_non_null(strstr(record, "\"generation\":"));
	r->generation = generation;
	if (!r->slow)
		davit_plan_stored(r->p, generation);
}

static void on_start(void *owner, struct davit_plan_node *leaf, enum davit_plan_start how)
{
	tell(owner, how == DAVIT_PLAN_FRESH ? '+' : how == DAVIT_PLAN_AGAIN ? '?' : '!', leaf);
}

static void on_abort(void *owner, struct davit_plan_node *leaf)
{
	tell(owner, '-', leaf);
}

static void on_arm(void *owner, int64_t at)
{
	((struct rig *)owner)->armed = at;
}

static void on_changed(void *owner, const struct davit_plan_node *node)
{
	(void)owner;
	(void)node;
}

static void on_done(void *owner)
{
	((struct rig *)owner)->done = true;
}

static const struct davit_plan_ops ops = {.store = on_store,
					  .start = on_start,
					  .abort = on_abort,
					  .arm = on_arm,
					  .changed = on_changed,
					  .done = on_done};

/* Reads a plan written with ' for ", and @N for a leaf. */
static json_t *plan_of(const char *text)
{
	char full[4096] = "";
	json_error_t at;
	json_t *j;

	for (size_t n = 0; *text; n = strlen(full), text++)
		if (*text == '@')
			snprintf(full + n, sizeof full - n, "{\"kind\":\"task\",\"name\":\"%c\"}", *++text);
		else
			snprintf(full + n, sizeof full - n, "%c", *text == '\'' ? '"' : *text);
	j = json_loads(full, 0, &at);
	if (!j)
		fail_msg("%s: %s", at.text, full);
	return j;
}

static void open_rig(struct rig *r, const char *text)
{
	json_t *j = plan_of(text);
	struct davit_error err = {0};

	memset(r, 0, sizeof *r);
	if (davit_plan_read(j, &ops, r, &r->p, &err) < 0)
		fail_msg("%s", err.message);
	json_decref(j);
	assert_int_equal(davit_plan_begin(r->p, T0, NULL), 0);
}

static void end_at(struct rig *r, const char *key, enum davit_plan_outcome o, int64_t at)
{
	assert_int_equal(davit_plan_ended(r->p, key, o, NULL, NULL, at, NULL), 0);
}

static void end(struct rig *r, const char *key, enum davit_plan_outcome o)
{
	end_at(r, key, o, T0);
}

static void abort_all(struct rig *r)
{
	assert_int_equal(davit_plan_abort(r->p, false, T0, NULL), 0);
}

/* What the host was told since the last time. */
#define assert_told(r, what)                                                                                 \
	do {                                                                                                 \
		assert_string_equal((r)->told, what);                                                        \
		(r)->told[0] = '\0';                                                                         \
	} while (0)

static void close_rig(struct rig *r, enum davit_plan_outcome o)
{
	assert_true(r->done);
	assert_int_equal(r->p->root->outcome, o);
	assert_string_equal(r->told, "");
	davit_plan_free(r->p);
}

/* As after a crash: all but the state is forgotten. */
static void die(struct rig *r)
{
	struct davit_error err = {0};
	json_t *state = NULL;

	assert_int_equal(davit_plan_write(r->p, &state, NULL), 0);
	davit_plan_free(r->p);
	r->told[0] = '\0';
	r->armed = 0;
	if (davit_plan_read(state, &ops, r, &r->p, &err) < 0)
		fail_msg("%s", err.message);
	json_decref(state);
	davit_plan_resume(r->p);
}

/* --------------------------------------------------------------------------- rules */

static void in_parallel_with_fail_fast_cancels_the_siblings(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'in_parallel','fail_fast':true,'limit':2,'steps':[@a,@b,@c]}");
	assert_told(&r, "+0/0 +0/1 ");
	end(&r, "0/1", FAILED);
	assert_told(&r, "-0/0 "); /* and 0/2 is never started */
	end(&r, "0/0", FAILED);
	close_rig(&r, FAILED);
	(void)state;
}

static void a_cancelled_sibling_is_no_error(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'in_parallel','fail_fast':true,'steps':[@a,@b]}");
	end(&r, "0/1", FAILED);
	end(&r, "0/0", ERRORED); /* by a signal, a broken pipe: it was told to end */
	assert_told(&r, "+0/0 +0/1 -0/0 ");
	close_rig(&r, FAILED);
	(void)state;
}

static void in_parallel_of_no_steps_succeeds(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'in_parallel','fail_fast':true,'steps':[]}");
	close_rig(&r, OK);
	(void)state;
}

static void in_parallel_without_fail_fast_lets_all_of_them_end(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'in_parallel','limit':1,'steps':[@a,@b,@c]}");
	end(&r, "0/0", FAILED);
	end(&r, "0/1", ERRORED);
	end(&r, "0/2", OK);
	assert_told(&r, "+0/0 +0/1 +0/2 ");
	close_rig(&r, ERRORED);
	(void)state;
}

static void attempts_are_made_again_on_failure_and_on_error(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'attempts','attempts':3,'step':@a}");
	end(&r, "0@1/0", FAILED);
	end(&r, "0@2/0", ERRORED);
	end(&r, "0@3/0", OK);
	assert_told(&r, "+0@1/0 +0@2/0 +0@3/0 ");
	close_rig(&r, OK);
	(void)state;
}

static void attempts_are_not_made_again_on_abort(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'attempts','attempts':3,'step':@a}");
	abort_all(&r);
	end(&r, "0@1/0", FAILED);
	assert_told(&r, "+0@1/0 -0@1/0 ");
	close_rig(&r, ABORTED);
	(void)state;
}

static void try_succeeds_whatever_happens(void **state)
{
	struct rig r;

	for (int o = OK; o < ABORTED; o++) {
		open_rig(&r, "{'kind':'try','step':@a}");
		end(&r, "0/0", (enum davit_plan_outcome)o);
		assert_told(&r, "+0/0 ");
		close_rig(&r, OK);
	}
	(void)state;
}

static void try_does_not_hide_an_abort(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'try','step':@a}");
	abort_all(&r);
	end(&r, "0/0", ABORTED);
	assert_told(&r, "+0/0 -0/0 ");
	close_rig(&r, ABORTED);
	(void)state;
}

static void a_timeout_is_a_failure_so_that_on_failure_and_ensure_run(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'ensure','hook':@e,'step':{'kind':'on_failure','hook':@f,'step':"
		     "{'kind':'timeout','after':'6s','step':@a}}}");
	assert_told(&r, "+0/0/0/0 ");
	davit_plan_running(r.p, "0/0/0/0", T0, NULL);
	assert_int_equal(r.armed, T0 + 6 * SEC);
	davit_plan_tick(r.p, T0 + 6 * SEC, NULL);
	assert_int_equal(r.armed, 0);
	assert_told(&r, "-0/0/0/0 ");
	end(&r, "0/0/0/0", FAILED);
	assert_told(&r, "+0/0/1 ");
	end(&r, "0/0/1", OK);
	assert_told(&r, "+0/1 ");
	end(&r, "0/1", OK);
	close_rig(&r, FAILED);
	(void)state;
}

static void a_timeout_does_not_count_what_comes_before_the_program_runs(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'timeout','after':'6s','step':@a}");
	davit_plan_tick(r.p, T0 + 3600 * SEC, NULL); /* an image of many gigabytes */
	assert_int_equal(r.armed, 0);
	davit_plan_running(r.p, "0/0", T0 + 3600 * SEC, NULL);
	assert_int_equal(r.armed, T0 + 3606 * SEC);
	end(&r, "0/0", OK);
	assert_told(&r, "+0/0 ");
	close_rig(&r, OK);
	(void)state;
}

static void a_timeout_goes_on_counting_over_a_restart(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'timeout','after':'6s','step':@a}");
	davit_plan_running(r.p, "0/0", T0, NULL);
	die(&r); /* at 4 s */
	assert_told(&r, "?0/0 ");
	assert_int_equal(r.armed, T0 + 6 * SEC);
	davit_plan_running(r.p, "0/0", T0 + 5 * SEC, NULL); /* reported again: the first one counts */
	assert_int_equal(r.armed, T0 + 6 * SEC);
	davit_plan_tick(r.p, T0 + 6 * SEC - 1, NULL);
	assert_told(&r, "");
	davit_plan_tick(r.p, T0 + 6 * SEC, NULL);
	assert_told(&r, "-0/0 ");
	end(&r, "0/0", ABORTED);
	close_rig(&r, FAILED);
	(void)state;
}

static void ensure_runs_its_hook_whatever_the_outcome(void **state)
{
	struct rig r;

	for (int o = OK; o <= ABORTED; o++) {
		open_rig(&r, "{'kind':'ensure','step':@a,'hook':@h}");
		end(&r, "0/0", (enum davit_plan_outcome)o);
		end(&r, "0/1", OK);
		assert_told(&r, "+0/0 +0/1 ");
		close_rig(&r, (enum davit_plan_outcome)o);
	}
	(void)state;
}

static void ensure_runs_its_hook_also_on_abort_and_does_not_abort_it(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'ensure','step':@a,'hook':@h}");
	abort_all(&r);
	end(&r, "0/0", ABORTED);
	abort_all(&r); /* once is enough */
	assert_told(&r, "+0/0 -0/0 +0/1 ");
	end(&r, "0/1", OK);
	close_rig(&r, ABORTED);
	(void)state;
}

static void ensure_is_ok_only_if_both_are(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'ensure','step':@a,'hook':@h}");
	end(&r, "0/0", OK);
	end(&r, "0/1", FAILED);
	assert_told(&r, "+0/0 +0/1 ");
	close_rig(&r, FAILED);
	(void)state;
}

static void on_failure_does_not_run_on_an_error(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'on_failure','step':@a,'hook':@h}");
	end(&r, "0/0", ERRORED);
	assert_told(&r, "+0/0 ");
	close_rig(&r, ERRORED);
	(void)state;
}

static void on_failure_leaves_the_outcome_failed(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'on_failure','step':@a,'hook':@h}");
	end(&r, "0/0", FAILED);
	end(&r, "0/1", OK);
	assert_told(&r, "+0/0 +0/1 ");
	close_rig(&r, FAILED);
	(void)state;
}

static void on_abort_runs_only_on_cancel(void **state)
{
	struct rig r;

	for (int o = OK; o < ABORTED; o++) {
		open_rig(&r, "{'kind':'on_abort','step':@a,'hook':@h}");
		end(&r, "0/0", (enum davit_plan_outcome)o);
		assert_told(&r, "+0/0 ");
		close_rig(&r, (enum davit_plan_outcome)o);
	}
	open_rig(&r, "{'kind':'on_abort','step':@a,'hook':@h}");
	abort_all(&r);
	end(&r, "0/0", ABORTED);
	assert_told(&r, "+0/0 -0/0 +0/1 ");
	end(&r, "0/1", FAILED);
	close_rig(&r, ABORTED);
	(void)state;
}

static void a_second_forced_abort_ends_hooks_as_well(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'ensure','hook':@z,'step':{'kind':'ensure','step':@a,'hook':@h}}");
	abort_all(&r);
	end(&r, "0/0/0", ABORTED);
	assert_told(&r, "+0/0/0 -0/0/0 +0/0/1 ");
	assert_int_equal(davit_plan_abort(r.p, true, T0, NULL), 0);
	assert_told(&r, "-0/0/1 ");
	end(&r, "0/0/1", ABORTED);
	close_rig(&r, ABORTED);
	(void)state;
}

static void what_succeeds_in_spite_of_an_abort_has_succeeded(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'do','steps':[@a]}");
	abort_all(&r);
	end(&r, "0/0", OK);
	assert_told(&r, "+0/0 -0/0 ");
	close_rig(&r, OK);
	(void)state;
}

/* ---------------------------------------------------------------------- durability */

static void nothing_is_done_before_it_is_durable(void **state)
{
	struct rig r;

	open_rig(&r, "{'kind':'do','steps':[@a,@b]}");
	r.told[0] = '\0';
	r.slow = true;
	end(&r, "0/0", OK);
	assert_told(&r, "");
	davit_plan_stored(r.p, r.generation - 1);
	assert_told(&r, "");
	davit_plan_stored(r.p, r.generation);
	assert_told(&r, "+0/1 ");
	end(&r, "0/1", OK);
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
	end(&r, "0/0", OK);
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
	end(&r, "0/0", OK);
	die(&r);
	assert_told(&r, "?0/1 ");
	abort_all(&r);
	die(&r);
	assert_told(&r, "!0/1 -0/1 ");
	end(&r, "0/1", ABORTED);
	close_rig(&r, ABORTED);
	(void)state;
}

static void an_end_that_is_reported_twice_counts_once(void **state)
{
	struct davit_error err = {0};
	struct rig r;

	open_rig(&r, "{'kind':'do','steps':[@a,@b]}");
	end(&r, "0/0", OK);
	assert_int_equal(davit_plan_ended(r.p, "0/0", FAILED, NULL, NULL, T0, &err), DAVIT_ENOENT);
	assert_string_equal(err.message, "no step '0/0' is active");
	end(&r, "0/1", OK);
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
	end(&r, "0/1", OK);
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
	end(&r, "0/1/0", OK);
	end(&r, "0/1/1", OK);
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
	assert_int_equal(davit_plan_read(plan, &ops, &r, &r.p, NULL), 0);
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
		assert_int_equal(davit_plan_read(j, &ops, NULL, &p, &err), DAVIT_EINVAL);
		if (!strstr(err.message, wrong[i].says))
			fail_msg("%s", err.message);
		assert_null(p);
		json_decref(j);
	}
	for (int i = 1; i <= DAVIT_PLAN_DEPTH_MAX; i++) {
		struct davit_plan *p = NULL;
		struct davit_error err = {0};
		int e = davit_plan_read(deep, &ops, NULL, &p, &err);
		assert_int_equal(e, i <= DAVIT_PLAN_DEPTH_MAX ? 0 : DAVIT_EINVAL);
		davit_plan_free(p);
		deep = json_pack("{s:s,s:o}", "kind", "try", "step", deep);
	}
	{
		struct davit_plan *p = NULL;
		struct davit_error err = {0};
		assert_int_equal(davit_plan_read(deep, &ops, NULL, &p, &err), DAVIT_EINVAL);
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
	end(&r, "0/1", OK);
	assert_told(&r, "?0/1 ");
	close_rig(&r, OK);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(in_parallel_with_fail_fast_cancels_the_siblings),
		cmocka_unit_test(a_cancelled_sibling_is_no_error),
		cmocka_unit_test(in_parallel_of_no_steps_succeeds),
		cmocka_unit_test(in_parallel_without_fail_fast_lets_all_of_them_end),
		cmocka_unit_test(attempts_are_made_again_on_failure_and_on_error),
		cmocka_unit_test(attempts_are_not_made_again_on_abort),
		cmocka_unit_test(try_succeeds_whatever_happens),
		cmocka_unit_test(try_does_not_hide_an_abort),
		cmocka_unit_test(a_timeout_is_a_failure_so_that_on_failure_and_ensure_run),
		cmocka_unit_test(a_timeout_does_not_count_what_comes_before_the_program_runs),
		cmocka_unit_test(a_timeout_goes_on_counting_over_a_restart),
		cmocka_unit_test(ensure_runs_its_hook_whatever_the_outcome),
		cmocka_unit_test(ensure_runs_its_hook_also_on_abort_and_does_not_abort_it),
		cmocka_unit_test(ensure_is_ok_only_if_both_are),
		cmocka_unit_test(on_failure_does_not_run_on_an_error),
		cmocka_unit_test(on_failure_leaves_the_outcome_failed),
		cmocka_unit_test(on_abort_runs_only_on_cancel),
		cmocka_unit_test(a_second_forced_abort_ends_hooks_as_well),
		cmocka_unit_test(what_succeeds_in_spite_of_an_abort_has_succeeded),
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

	return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}
