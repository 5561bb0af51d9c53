/* SPDX-License-Identifier: MIT */
#include "core/core_impl.h"
#include "core/test_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SEC INT64_C(1000000000)

#define ACME "kind: Namespace\nname: acme\negress: {policy: deny, hosts: [192.0.2.0/24, b.test]}\n"
#define OPEN "kind: Namespace\nname: acme\n"

/* A driver that says what it was told to enforce, and may be unable to. */
static struct {
	void (*capabilities)(struct davit_runtime *rt, struct davit_capabilities *ret); /* the world's own */
	void (*create)(struct davit_instance *inst, struct davit_op *op);
	bool unable;
	char told[256];
	size_t creates;
} driver;

static void capabilities(struct davit_runtime *rt, struct davit_capabilities *ret)
{
	driver.capabilities(rt, ret);
	snprintf(ret->why_not[DAVIT_CAP_EGRESS], sizeof ret->why_not[0], "%s",
		 driver.unable ? "it has no rules" : "");
}

static void create(struct davit_instance *inst, struct davit_op *op)
{
	const struct davit_workload *w = inst->workload;
	size_t n = 0;

	driver.creates++;
	driver.told[0] = '\0';
	for (size_t i = 0; i < w->n_egress; i++) {
		n += (size_t)snprintf(driver.told + n, sizeof driver.told - n, "%s:", w->egress[i].from);
		for (char **h = w->egress[i].hosts; *h; h++)
			n += (size_t)snprintf(driver.told + n, sizeof driver.told - n, " %s", *h);
		n += (size_t)snprintf(driver.told + n, sizeof driver.told - n, "\n");
	}
	driver.create(inst, op);
}

static int setup(void **state)
{
	struct davit_runtime_driver *table;
	struct rig *r;

	memset(&driver, 0, sizeof driver);
	rig_setup(state);
	r = *state;
	rig_down(r);
	/* The world knows its runtimes by the address of this table. */
	table = (struct davit_runtime_driver *)davit_fake_world_driver(r->world);
	driver.capabilities = table->capabilities;
	driver.create = table->create;
	table->capabilities = capabilities;
	table->create = create;
	rig_up(r);
	return 0;
}

static void assert_refused(struct rig *r, const char *yaml, int code, const char *message)
{
	struct davit_error err = {0};

	assert_int_equal(rig_apply_error(r, yaml, DAVIT_APPLY_EITHER, &err), code);
	assert_string_equal(err.message, message);
}

static char *text_of(struct rig *r, void (*write)(const struct davit_service *s, struct davit_json *j))
{
	struct davit_buf b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);

	write(registry_service(r->core, "acme", "web", "latest"), &j);
	return davit_buf_take(&b);
}

/* ------------------------------------------------------------------------ */

static void without_a_policy_the_driver_is_told_of_none(void **state)
{
	struct rig *r = *state;

	rig_apply(r, "name: web\ncommand: [fake]\n");
	rig_run(r, SEC);
	assert_int_equal(driver.creates, 1);
	assert_string_equal(driver.told, "");
}

static void every_layer_reaches_the_driver_in_the_form_that_equal_hosts_share(void **state)
{
	struct rig *r = *state;

	rig_apply(r, ACME);
	rig_apply(r, "namespace: acme\nname: web\ncommand: [fake]\n"
		     "egress: {policy: deny, hosts: ['A.Test:443', '2001:DB8:0::7']}\n");
	rig_run(r, SEC);
	assert_string_equal(driver.told,
			    "service: a.test:443 2001:db8::7\nnamespace acme: 192.0.2.0/24 b.test\n");
	rig_apply(r, "namespace: acme\nname: open\ncommand: [fake]\n");
	rig_run(r, SEC);
	assert_string_equal(driver.told, "namespace acme: 192.0.2.0/24 b.test\n");
	rig_apply(r, "name: shut\ncommand: [fake]\negress: deny\n");
	rig_run(r, SEC);
	assert_string_equal(driver.told, "service:\n");
}

static void inspect_and_why_tell_every_layer(void **state)
{
	struct rig *r = *state;
	char *text;

	rig_apply(r, ACME);
	rig_apply(r, "namespace: acme\nname: web\ncommand: [fake]\negress: deny\n");
	rig_run(r, SEC);
	text = text_of(r, davit_service_write_inspect);
	assert_non_null(strstr(text,
			       "\"egress\":[{\"from\":\"service\",\"hosts\":[]},"
			       "{\"from\":\"namespace acme\",\"hosts\":[\"192.0.2.0/24\",\"b.test\"]}]"));
	free(text);
	text = text_of(r, davit_service_write_why);
	assert_non_null(strstr(text,
			       "instance 0: it may connect to what each of these allows alone, service: "
			       "nothing; namespace acme: 192.0.2.0/24, b.test"));
	free(text);
}

static void a_change_of_the_namespaces_policy_replaces_its_instances_alone(void **state)
{
	struct rig *r = *state;

	rig_apply(r, "namespace: acme\nname: web\ncommand: [fake]\n");
	rig_apply(r, "name: other\ncommand: [fake]\n");
	rig_run(r, SEC);
	assert_int_equal(driver.creates, 2);
	rig_apply(r, ACME);
	rig_run(r, 60 * SEC);
	assert_int_equal(driver.creates, 3);
	assert_string_equal(driver.told, "namespace acme: 192.0.2.0/24 b.test\n");
	rig_apply(r, ACME);
	rig_run(r, 60 * SEC);
	assert_int_equal(driver.creates, 3);
	rig_apply(r, OPEN);
	rig_run(r, 60 * SEC);
	assert_int_equal(driver.creates, 4);
	assert_string_equal(driver.told, "");
	assert_int_equal(davit_fake_world_objects(r->world), 2);
}

static void what_runs_under_a_policy_is_adopted_by_the_next_daemon(void **state)
{
	struct rig *r = *state;

	rig_apply(r, ACME);
	rig_apply(r, "namespace: acme\nname: web\ncommand: [fake]\n");
	rig_run(r, SEC);
	rig_down(r);
	rig_up(r);
	rig_run(r, 60 * SEC);
	assert_int_equal(driver.creates, 1);
	assert_int_equal(r->starts, 1);
}

static void a_runtime_that_cannot_enforce_it_is_refused_with_the_reason(void **state)
{
	struct rig *r = *state;

	driver.unable = true;
	rig_down(r);
	rig_up(r);
	assert_refused(
		r, "name: web\ncommand: [fake]\negress: deny\n", DAVIT_ENOTSUP,
		"egress.policy: service web: runtime fake cannot enforce egress.policy deny: it has no "
		"rules");
	rig_apply(r, "namespace: acme\nname: web\ncommand: [fake]\n");
	assert_refused(
		r, ACME, DAVIT_ENOTSUP,
		"egress.policy: service web: runtime fake cannot enforce the policy of namespace acme: "
		"it has no rules");
	assert_int_equal(rig_kill(r, "acme", "web"), 0);
	rig_apply(r, ACME);
	assert_refused(
		r, "namespace: acme\nname: web\ncommand: [fake]\n", DAVIT_ENOTSUP,
		"egress.policy: service web: runtime fake cannot enforce the policy of namespace acme: "
		"it has no rules");
}

static void what_was_recorded_never_starts_without_its_rules(void **state)
{
	struct rig *r = *state;

	rig_apply(r, "name: web\ncommand: [fake]\negress: deny\nstopped: true\nrestart: {retries: 1}\n");
	driver.unable = true;
	rig_down(r);
	rig_up(r);
	assert_int_equal(rig_control(r, "web", DAVIT_SERVICE_START), 0);
	rig_run(r, 600 * SEC);
	assert_int_equal(driver.creates, 0);
	assert_string_equal(rig_status(r, "web"), "error");
	assert_string_equal(
		rig_field(r, "web", "error"),
		"\"egress.policy: runtime fake cannot enforce that of the service: it has no rules\"");
}

static void a_service_that_could_go_around_the_namespaces_policy_is_refused(void **state)
{
	struct rig *r = *state;

	rig_apply(r, ACME);
	assert_refused(r, "namespace: acme\nname: web\ncommand: [fake]\nnetwork: host\n", DAVIT_EINVAL,
		       "network: host cannot be had with the policy of namespace acme: it is the host's own "
		       "network");
	assert_refused(r, "namespace: acme\nname: web\ncommand: [fake]\ncapabilities: {add: NET_RAW}\n",
		       DAVIT_EINVAL,
		       "capabilities.add[0]: CAP_NET_RAW cannot be had with the policy of namespace acme: it "
		       "could be gone around with it");
	rig_apply(r, OPEN);
	rig_apply(r, "namespace: acme\nname: web\ncommand: [fake]\nnetwork: host\n");
	assert_refused(r, ACME, DAVIT_EINVAL,
		       "network: host cannot be had with the policy of namespace acme: it is the host's own "
		       "network");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)
	const struct CMUnitTest tests[] = {
		T(without_a_policy_the_driver_is_told_of_none),
		T(every_layer_reaches_the_driver_in_the_form_that_equal_hosts_share),
		T(inspect_and_why_tell_every_layer),
		T(a_change_of_the_namespaces_policy_replaces_its_instances_alone),
		T(what_runs_under_a_policy_is_adopted_by_the_next_daemon),
		T(a_runtime_that_cannot_enforce_it_is_refused_with_the_reason),
		T(what_was_recorded_never_starts_without_its_rules),
		T(a_service_that_could_go_around_the_namespaces_policy_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
