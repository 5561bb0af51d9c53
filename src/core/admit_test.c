/* SPDX-License-Identifier: MIT */
#include "core/core_impl.h"
#include "core/test_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SEC INT64_C(1000000000)

/* A driver that takes its time to check. */
static struct {
	void (*close)(struct davit_runtime *rt); /* the world's own */
	struct davit_op *op;
	size_t asked;
	char name[64], image[64];
} checker;

static void on_cancel(struct davit_op *op, int why)
{
	checker.op = NULL;
	davit_op_complete(op, why);
}

static void slow_check(struct davit_runtime *rt, const struct davit_workload *w, struct davit_op *op)
{
	(void)rt;
	assert_null(checker.op);
	checker.op = op;
	checker.asked++;
	snprintf(checker.name, sizeof checker.name, "%s", w->name);
	davit_op_on_cancel(op, on_cancel);
}

static void slow_close(struct davit_runtime *rt)
{
	if (checker.op)
		davit_op_fail(DAVIT_TAKE(checker.op), DAVIT_ECLOSED, NULL, "closed");
	checker.close(rt);
}

static int setup_slow(void **state)
{
	struct davit_runtime_driver *driver;
	struct rig *r;

	memset(&checker, 0, sizeof checker);
	rig_setup(state);
	r = *state;
	/* The world knows its runtimes by the address of this table. */
	driver = (struct davit_runtime_driver *)davit_fake_world_driver(r->world);
	checker.close = driver->close;
	driver->check = slow_check;
	driver->close = slow_close;
	return 0;
}

/* Begins an apply that stays with the checker. */
struct begun {
	struct davit_op op;
	int result;
};

static void begin(struct rig *r, struct begun *b, const char *yaml)
{
	struct davit_spec **specs;
	struct davit_error err;
	size_t n;

	assert_int_equal(davit_spec_parse(yaml, strlen(yaml), NULL, &specs, &n, &err), 0);
	b->result = 1;
	davit_op_init(&b->op, r->loop, rig_op_done, &b->result);
	davit_op_begin(&b->op, 0);
	assert_int_equal(
		davit_core_apply(r->core, specs, n, DAVIT_APPLY_EITHER, false, 0, "test", &b->op, &err), 0);
	davit_spec_free_all(specs, n);
	rig_run(r, SEC);
}

static void answer(struct rig *r, int code)
{
	struct davit_op *op = DAVIT_TAKE(checker.op);

	assert_non_null(op);
	if (code < 0)
		davit_op_fail(op, code, "image", "image 'x:1' not found locally");
	else
		davit_op_complete(op, 0);
	rig_run(r, SEC);
}

/* ------------------------------------------------------------------------ */

static void what_the_runtime_refuses_is_not_recorded(void **state)
{
	struct rig *r = *state;
	struct davit_error err = {0};

	assert_int_equal(rig_apply_error(r, "name: web\ncommand: [fake, refuse]\n", DAVIT_APPLY_EITHER, &err),
			 DAVIT_EINVAL);
	assert_string_equal(err.message, "the fake platform refuses it, as told");
	rig_run(r, 10 * SEC);
	assert_string_equal(rig_status(r, "web"), "gone");
	assert_int_equal(rig_events(r, "web"), 0);
}

static void several_are_recorded_together_or_not_at_all(void **state)
{
	struct rig *r = *state;
	struct davit_error err = {0};

	assert_int_equal(rig_apply_error(r,
					 "name: a\ncommand: [fake]\n---\nname: b\ncommand: [fake, refuse]\n",
					 DAVIT_APPLY_EITHER, &err),
			 DAVIT_EINVAL);
	assert_string_equal(err.message, "service 'b': the fake platform refuses it, as told");
	assert_string_equal(rig_status(r, "a"), "gone");
}

static void validation_asks_the_runtime_too(void **state)
{
	struct rig *r = *state;
	struct davit_error err = {0};

	assert_int_equal(rig_apply_error(r, "name: a\ncommand: [fake, refuse]\n", DAVIT_APPLY_VALIDATE, &err),
			 DAVIT_EINVAL);
	assert_int_equal(rig_apply_error(r, "name: a\ncommand: [fake]\n", DAVIT_APPLY_VALIDATE, &err), 0);
	assert_string_equal(rig_status(r, "a"), "gone");
}

static void a_platform_that_does_not_answer_is_the_reason(void **state)
{
	struct rig *r = *state;
	struct davit_error err = {0};

	rig_apply(r, "name: old\ncommand: [fake]\n");
	davit_fake_world_set_reachable(r->world, false);
	rig_run(r, SEC);
	assert_int_equal(rig_apply_error(r, "name: a\ncommand: [fake]\n", DAVIT_APPLY_EITHER, &err),
			 DAVIT_EUNAVAIL);
	assert_string_equal(err.message, "runtime fake does not answer: the fake platform does not answer");
	davit_fake_world_set_reachable(r->world, true);
	rig_run(r, SEC);
	rig_apply(r, "name: a\ncommand: [fake]\n");
}

static void sources_on_this_host_are_looked_at_first(void **state)
{
	struct rig *r = *state;
	struct davit_error err = {0};
	char dir[] = "/tmp/davit-admit-XXXXXX", text[256], want[256];

	assert_int_equal(rig_apply_error(r, "name: a\nsource: /nowhere/at/all\n", DAVIT_APPLY_EITHER, &err),
			 DAVIT_ENOENT);
	assert_string_equal(err.message, "source /nowhere/at/all does not exist");
	assert_non_null(mkdtemp(dir));
	snprintf(text, sizeof text, "name: a\nsource: %s\n", dir);
	snprintf(want, sizeof want, "source %s is an empty directory", dir);
	assert_int_equal(rig_apply_error(r, text, DAVIT_APPLY_EITHER, &err), DAVIT_EINVAL);
	assert_string_equal(err.message, want);
	rmdir(dir);
	assert_int_equal(rig_apply_error(r, "name: a\nsource: /dev/null\n", DAVIT_APPLY_EITHER, &err),
			 DAVIT_EINVAL);
	assert_string_equal(err.message, "source /dev/null is neither a file nor a directory");
}

static void nothing_is_recorded_before_the_runtime_has_answered(void **state)
{
	struct rig *r = *state;
	struct begun b;

	begin(r, &b, "name: a\ncommand: [fake]\n---\nname: b\ncommand: [fake]\n");
	assert_string_equal(checker.name, "a");
	answer(r, 0);
	assert_string_equal(checker.name, "b");
	assert_string_equal(rig_status(r, "a"), "gone");
	answer(r, DAVIT_ENOENT);
	assert_int_equal(b.result, DAVIT_ENOENT);
	assert_string_equal(b.op.error.message, "service 'b': image 'x:1' not found locally");
	assert_string_equal(rig_status(r, "a"), "gone");
}

static void what_does_not_change_is_not_asked_about(void **state)
{
	struct rig *r = *state;
	struct begun b;

	begin(r, &b, "name: a\ncommand: [fake]\n");
	answer(r, 0);
	begin(r, &b, "name: a\ncommand: [fake]\n");
	assert_int_equal(b.result, 0);
	assert_int_equal(checker.asked, 1);
}

static void records_that_changed_meanwhile_are_checked_against(void **state)
{
	struct rig *r = *state;
	struct begun first, second;

	begin(r, &first, "kind: Namespace\nname: default\nquota: {services: 1}\n");
	assert_int_equal(first.result, 0);
	begin(r, &first, "name: a\ncommand: [fake]\n");
	/* While the runtime thinks, another takes the place: without a runtime to ask. */
	struct davit_op *held = DAVIT_TAKE(checker.op);
	begin(r, &second, "name: b\ncommand: [fake]\n");
	answer(r, 0);
	assert_int_equal(second.result, 0);
	checker.op = held;
	answer(r, 0);
	assert_int_equal(first.result, DAVIT_EQUOTA);
	assert_string_equal(rig_status(r, "a"), "gone");
	assert_string_equal(rig_status(r, "b"), "running");
}

static void a_check_without_an_answer_ends(void **state)
{
	struct rig *r = *state;
	struct begun b;

	begin(r, &b, "name: a\ncommand: [fake]\n");
	rig_run(r, 15 * SEC);
	assert_int_equal(b.result, DAVIT_ETIMEDOUT);
	assert_string_equal(b.op.error.message, "runtime fake did not answer");
}

static void a_daemon_that_ends_meanwhile_says_so(void **state)
{
	struct rig *r = *state;
	struct begun b;

	begin(r, &b, "name: a\ncommand: [fake]\n");
	rig_down(r);
	rig_run(r, SEC);
	assert_int_equal(b.result, DAVIT_ECLOSED);
	rig_up(r);
	assert_string_equal(rig_status(r, "a"), "gone");
}

/* ------------------------------------------------------------------- workloads */

static void workload(struct rig *r, const char *yaml, struct davit_workload *w)
{
	struct davit_spec *spec;
	struct davit_error err;

	assert_int_equal(davit_spec_parse_one(yaml, strlen(yaml), NULL, &spec, &err), 0);
	memset(w, 0, sizeof *w);
	assert_int_equal(workload_of_spec(r->core, spec, w, &err), 0);
	davit_spec_free(spec);
}

static bool has_variable(const struct davit_workload *w, const char *name)
{
	for (size_t k = 0; w->env && w->env[k]; k++)
		if (!strncmp(w->env[k], name, strlen(name)) && w->env[k][strlen(name)] == '=')
			return true;
	return false;
}

static void an_image_keeps_its_own_variables(void **state)
{
	struct davit_workload w;

	workload(*state, "name: a\nimage: x\nenv: {B: 1}\n", &w);
	assert_false(has_variable(&w, "PATH"));
	assert_false(has_variable(&w, "HOME"));
	assert_false(has_variable(&w, "USER"));
	assert_true(has_variable(&w, "B"));
	assert_true(has_variable(&w, "DAVIT_SERVICE_NAME"));
	assert_non_null(w.argv);
	assert_null(w.argv[0]);
	workload_fini(&w);
	workload(*state, "name: a\ncommand: [x]\n", &w);
	assert_true(has_variable(&w, "PATH"));
	workload_fini(&w);
}

static void what_the_spec_asks_for_is_in_the_workload(void **state)
{
	struct davit_workload w;

	workload(*state,
		 "name: a\nimage: x\nentrypoint: [/e, -v]\nargs: [y]\nnetwork: none\nreadOnlyRootFilesystem: "
		 "true\n"
		 "capabilities: {add: kill, drop: ALL}\n"
		 "volumes: [data:/d, {type: tmpfs, target: /t, size: 1Mi}]\n",
		 &w);
	assert_string_equal(w.entrypoint[1], "-v");
	assert_string_equal(w.argv[0], "y");
	assert_string_equal(w.network, "none");
	assert_true(w.read_only_root);
	assert_string_equal(w.cap_add[0], "CAP_KILL");
	assert_string_equal(w.cap_drop[0], "ALL");
	assert_int_equal(w.n_mounts, 2);
	assert_int_equal(w.mounts[0].type, DAVIT_MOUNT_VOLUME);
	assert_string_equal(w.mounts[0].source, "data");
	assert_int_equal(w.mounts[1].type, DAVIT_MOUNT_TMPFS);
	assert_null(w.mounts[1].source);
	assert_int_equal(w.mounts[1].size, 1 << 20);
	workload_fini(&w);
}

static void what_was_built_is_mounted_into_an_image_and_run_there(void **state)
{
	char *argv[] = {(char *)"/c/web/run", (char *)"-x", NULL};
	struct built b = {.argv = argv, .directory = (char *)"/c/web"};
	const char *yaml = "name: a\nimage: x\nsource: /src\nargs: [y]\n";
	struct davit_workload w = {0};
	struct davit_spec *spec;
	struct davit_error err;

	(void)state;
	assert_int_equal(davit_spec_parse_one(yaml, strlen(yaml), NULL, &spec, &err), 0);
	assert_int_equal(workload_settings(&w, spec, &b, &err), 0);
	assert_int_equal(w.n_mounts, 1);
	assert_string_equal(w.mounts[0].source, "/c/web");
	assert_string_equal(w.mounts[0].target, "/c/web");
	assert_true(w.mounts[0].read_only);
	assert_string_equal(w.directory, "/c/web");
	assert_string_equal(w.entrypoint[0], "/c/web/run");
	assert_null(w.entrypoint[1]);
	assert_string_equal(w.argv[0], "-x");
	assert_string_equal(w.argv[1], "y");
	workload_fini(&w);
	davit_spec_free(spec);
}

/* --- a runtime that is being opened --- */

static struct davit_op *opening;

static void slow_open(struct davit_runtime *rt, struct davit_op *op)
{
	(void)rt;
	opening = op;
}

static void an_apply_waits_for_its_runtime_to_be_opened(void **state)
{
	struct rig *r = *state;
	struct davit_runtime_driver late = *davit_fake_world_driver(r->world);
	const struct davit_selector sel = {"default", "w", NULL};
	struct davit_service *s;
	struct davit_error err;
	struct begun b;

	late.open = slow_open;
	assert_int_equal(davit_core_add_runtime(r->core, "late", &late, &err), 0);
	core_runtime_open(core_runtime_find(r->core, "late"));
	begin(r, &b, "{\"name\": \"w\", \"runtime\": \"late\", \"command\": [\"fake\"]}");
	assert_int_equal(b.result, 1); /* neither accepted nor refused */
	davit_op_fail(DAVIT_TAKE(opening), DAVIT_ENOTSUP, "late", "not on this machine");
	rig_run(r, SEC);
	assert_int_equal(b.result, DAVIT_EUNAVAIL);
	assert_string_equal(b.op.error.message, "runtime late is not available: not on this machine");
	assert_int_equal(davit_core_service(r->core, &sel, &s, &err), DAVIT_ENOENT);
}

static void a_port_of_the_host_is_one_service_s(void **state)
{
	struct rig *r = *state;
	struct davit_error err;

	rig_apply(r, "name: a\ncommand: [x]\nruntime: fake\nports: [18080]\n");
	assert_int_equal(
		rig_apply_error(r, "name: b\ncommand: [x]\nruntime: fake\nports: ['0.0.0.0:18080:80']\n",
				DAVIT_APPLY_EITHER, &err),
		DAVIT_EINUSE);
	assert_string_equal(err.message, "port 18080 is already in use by service 'a:latest'");
	assert_null(rig_service(r, "b"));
	assert_int_equal(rig_apply_error(r,
					 "name: c\ncommand: [x]\nruntime: fake\nports: [18081]\n---\n"
					 "name: d\ncommand: [x]\nruntime: fake\nports: [18081]\n",
					 DAVIT_APPLY_EITHER, &err),
			 DAVIT_EINUSE);
	assert_null(rig_service(r, "c"));
	/* Until it has gone. */
	assert_int_equal(rig_kill(r, NULL, "a"), 0);
	rig_run(r, 10 * SEC);
	rig_apply(r, "name: b\ncommand: [x]\nruntime: fake\nports: [18080]\n");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
#define SLOW(name) cmocka_unit_test_setup_teardown(name, setup_slow, rig_teardown)
	const struct CMUnitTest tests[] = {
		T(what_the_runtime_refuses_is_not_recorded),
		T(a_port_of_the_host_is_one_service_s),
		T(several_are_recorded_together_or_not_at_all),
		T(validation_asks_the_runtime_too),
		T(a_platform_that_does_not_answer_is_the_reason),
		T(sources_on_this_host_are_looked_at_first),
		SLOW(nothing_is_recorded_before_the_runtime_has_answered),
		T(an_apply_waits_for_its_runtime_to_be_opened),
		SLOW(what_does_not_change_is_not_asked_about),
		SLOW(records_that_changed_meanwhile_are_checked_against),
		SLOW(a_check_without_an_answer_ends),
		SLOW(a_daemon_that_ends_meanwhile_says_so),
		T(an_image_keeps_its_own_variables),
		T(what_the_spec_asks_for_is_in_the_workload),
		T(what_was_built_is_mounted_into_an_image_and_run_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
