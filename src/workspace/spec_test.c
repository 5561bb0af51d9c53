/* SPDX-License-Identifier: MIT */
#include "workspace/workspace.h"

#include "base/util.h"
#include "workspace/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static char source[] = "/tmp/davit-wspec-XXXXXX";
static struct davit_capabilities containers, processes;

static int setup(void **state)
{
	(void)state;
	for (size_t i = 0; i < DAVIT_CAP_COUNT; i++)
		strcpy(processes.why_not[i], i == DAVIT_CAP_DIRECTORY ? "" : "it has no such thing");
	return mkdtemp(source) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	return rmdir(source);
}

/* What a workspace of this config is as a service; checked by the reader of specs. */
static int make(const char *text, const struct davit_capabilities *can, struct davit_spec **ret,
		struct davit_error *err)
{
	json_t *config = NULL, *json = NULL;
	struct davit_workspace w = {.id = "0123abcd",
				    .name = "demo",
				    .runtime = "some",
				    .source = source,
				    .agent = "reviewer",
				    .config_path = "/etc/w.json",
				    .home = "/root"};
	DAVIT_AUTO_FREE char *out = NULL;
	int r;

	assert_int_equal(davit_workspace_config_parse(text, strlen(text), NULL, &config, err), 0);
	w.config = config;
	r = davit_workspace_spec(&w, can, &json, err);
	json_decref(config);
	if (r < 0)
		return r;
	out = json_dumps(json, 0);
	json_decref(json);
	return davit_spec_parse_one(out, strlen(out), NULL, ret, err);
}

static struct davit_spec *made(const char *text, const struct davit_capabilities *can)
{
	struct davit_spec *spec = NULL;
	struct davit_error err;

	if (make(text, can, &spec, &err) < 0)
		fail_msg("%s: %s", text, err.message);
	return spec;
}

static void refused(const char *text, const struct davit_capabilities *can, int code, const char *message)
{
	struct davit_spec *spec = NULL;
	struct davit_error err = {0};
	int r = make(text, can, &spec, &err);

	if (r != code || !strstr(err.message, message))
		fail_msg("%s: %d %s", text, r, r < 0 ? err.message : "is accepted");
}

static const char *env(const struct davit_spec *s, const char *name)
{
	for (size_t i = 0; i < s->n_env; i++)
		if (!strcmp(s->env[i].name, name))
			return s->env[i].value;
	return "";
}

static void a_workspace_is_a_stopped_service_that_is_never_restarted(void **state)
{
	struct davit_spec *s = made("{}", &processes);

	(void)state;
	assert_string_equal(s->namespace_, "workspaces");
	assert_string_equal(s->name, "demo");
	assert_string_equal(s->runtime, "some");
	assert_true(s->stopped);
	assert_int_equal(s->restart, DAVIT_RESTART_NEVER);
	assert_null(s->source); /* nothing is built */
	davit_spec_free(s);
}

static void its_record_comes_back_from_the_spec(void **state)
{
	struct davit_spec *s = made("{\"shell\": [\"bash\", \"-l\"]}", &processes);
	struct davit_workspace_record w;

	(void)state;
	assert_true(davit_workspace_read(s, &w));
	assert_string_equal(w.id, "0123abcd");
	assert_string_equal(w.name, "demo");
	assert_string_equal(w.runtime, "some");
	assert_string_equal(w.source, source);
	assert_string_equal(w.agent, "reviewer");
	assert_string_equal(w.project, "");
	assert_string_equal(w.config_path, "/etc/w.json");
	assert_string_equal(w.shell, "[\"bash\",\"-l\"]");
	davit_spec_free(s);
}

static void a_service_is_no_workspace(void **state)
{
	static const char *const texts[] = {
		"{\"name\": \"a\", \"command\": [\"x\"], \"metadata\": {\"davit.workspace.id\": \"1\"}}",
		"{\"name\": \"a\", \"namespace\": \"workspaces\", \"command\": [\"x\"]}"};
	struct davit_workspace_record w;

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(texts); i++) {
		struct davit_spec *s = NULL;
		assert_int_equal(davit_spec_parse_one(texts[i], strlen(texts[i]), NULL, &s, NULL), 0);
		assert_false(davit_workspace_read(s, &w));
		davit_spec_free(s);
	}
}

static void on_the_host_it_runs_in_the_source_itself(void **state)
{
	struct davit_spec *s = made("{\"ports\": [3000]}", &processes);

	(void)state;
	assert_string_equal(s->directory, source);
	assert_string_equal(env(s, "SOURCES"), source);
	assert_int_equal(s->n_volumes, 0);
	assert_string_equal(s->command[0], "sleep");
	assert_int_equal(s->stop_signal, 15);
	assert_int_equal(s->ports[0].host, 3000); /* the port is the host's */
	davit_spec_free(s);
}

static void in_a_container_the_source_is_mounted(void **state)
{
	struct davit_spec *s =
		made("{\"image\": \"i:1\", \"ports\": [80, {\"container\": 81, \"host\": 8081}],"
		     " \"mounts\": [{\"host\": \"$SOURCES\", \"target\": \"/again\", \"ro\": true}]}",
		     &containers);

	(void)state;
	assert_string_equal(s->image, "i:1");
	assert_string_equal(s->directory, "/workspace/sources");
	assert_string_equal(env(s, "SOURCES"), "/workspace/sources");
	assert_int_equal(s->n_volumes, 2);
	assert_string_equal(s->volumes[0].source, source);
	assert_string_equal(s->volumes[0].target, "/workspace/sources");
	assert_false(s->volumes[0].read_only);
	assert_string_equal(s->volumes[1].source, source);
	assert_true(s->volumes[1].read_only);
	assert_int_equal(s->stop_signal, 9);   /* process 1 would ignore SIGTERM */
	assert_int_equal(s->ports[0].host, 0); /* a free one */
	assert_int_equal(s->ports[1].host, 8081);
	assert_string_equal(s->ports[0].bind, "127.0.0.1");
	davit_spec_free(s);
}

static void a_command_of_the_config_gets_the_usual_signal(void **state)
{
	struct davit_spec *s = made("{\"image\": \"i:1\", \"command\": [\"agentd\"]}", &containers);

	(void)state;
	assert_string_equal(s->command[0], "agentd");
	assert_int_equal(s->stop_signal, 15);
	davit_spec_free(s);
}

static void variables_secrets_and_settings_reach_it(void **state)
{
	struct davit_spec *s = made("{\"environment\": [{\"name\": \"A\", \"value\": \"1\"},"
				    " {\"name\": \"T\", \"secret\": \"token\"}], \"secrets\": [\"key\"],"
				    " \"features\": [\"git\"], \"agent\": {\"model\": \"big\"}}",
				    &processes);

	(void)state;
	assert_string_equal(env(s, "A"), "1");
	assert_string_equal(env(s, "T"), "");
	assert_int_equal(s->n_secrets, 2);
	assert_string_equal(s->secrets[0].name, "token");
	assert_string_equal(s->secrets[0].env, "T");
	assert_string_equal(s->secrets[1].name, "key");
	assert_null(s->secrets[1].env);
	assert_string_equal(env(s, "DAVIT_WORKSPACE"), "demo");
	assert_string_equal(env(s, "DAVIT_WORKSPACE_ID"), "0123abcd");
	assert_string_equal(env(s, "DAVIT_AGENT"), "reviewer");
	assert_string_equal(env(s, "DAVIT_FEATURES"), "[\"git\"]");
	assert_string_equal(env(s, "DAVIT_AGENT_SETTINGS"), "{\"model\":\"big\"}");
	davit_spec_free(s);
}

static void a_denied_network_is_none_or_refused_with_the_reason(void **state)
{
	struct davit_spec *s = made("{\"image\": \"i:1\", \"network\": {\"mode\": \"deny\"}}", &containers);

	(void)state;
	assert_string_equal(s->network, "none");
	davit_spec_free(s);
	s = made("{\"image\": \"i:1\", \"network\": {\"mode\": \"allow\"}}", &containers);
	assert_null(s->network);
	davit_spec_free(s);
	refused("{\"network\": {\"mode\": \"deny\"}}", &processes, DAVIT_ENOTSUP,
		"network.mode: runtime some cannot deny the network: it has no such thing");
}

static void what_is_let_through_is_a_policy_of_egress(void **state)
{
	static struct davit_capabilities ruleless;
	struct davit_spec *s = made("{\"image\": \"i:1\", \"network\": {\"mode\": \"deny\","
				    " \"hosts\": [\"A.test:443\", \"10.0.0.0/8\"]}}",
				    &containers);

	(void)state;
	assert_null(s->network);
	assert_int_equal(s->egress, DAVIT_EGRESS_DENY);
	assert_string_equal(s->egress_hosts[0], "a.test:443");
	assert_string_equal(s->egress_hosts[1], "10.0.0.0/8");
	assert_null(s->egress_hosts[2]);
	davit_spec_free(s);
	/* It is reached, and reaches nothing. */
	s = made("{\"image\": \"i:1\", \"network\": {\"mode\": \"deny\"}, \"ports\": [80]}", &containers);
	assert_null(s->network);
	assert_int_equal(s->egress, DAVIT_EGRESS_DENY);
	assert_true(!s->egress_hosts || !s->egress_hosts[0]);
	davit_spec_free(s);
	snprintf(ruleless.why_not[DAVIT_CAP_EGRESS], sizeof ruleless.why_not[0], "it has no rules");
	refused("{\"image\": \"i\", \"network\": {\"mode\": \"deny\", \"hosts\": [\"a\"]}}", &ruleless,
		DAVIT_ENOTSUP, "network.mode: runtime some cannot deny the network: it has no rules");
}

static void what_the_runtime_cannot_is_refused_with_the_reason(void **state)
{
	(void)state;
	refused("{}", &containers, DAVIT_EINVAL,
		"runtime some needs an image: --image, or 'image' in workspace.json");
	refused("{\"image\": \"i\"}", &processes, DAVIT_ENOTSUP,
		"runtime some does not support images: it has no such thing");
	refused("{\"ports\": [{\"container\": 80, \"host\": 8080}]}", &processes, DAVIT_ENOTSUP,
		"port 80 cannot be forwarded from port 8080");
	refused("{\"image\": \"i\", \"mounts\": [{\"host\": \"/usr\", \"target\": \"$HOME/x\"}]}",
		&containers, DAVIT_ENOTSUP, "set HOME in 'environment'");
	refused("{\"image\": \"i\", \"mounts\": [{\"host\": \"/usr\", \"target\": \"$SOURCES\"}]}",
		&containers, DAVIT_EINVAL, "is the target of volumes[0] already");
}

static void home_of_the_environment_is_home_inside(void **state)
{
	struct davit_spec *s =
		made("{\"image\": \"i\", \"environment\": [{\"name\": \"HOME\", \"value\": \"/home/dev\"}],"
		     " \"mounts\": [{\"host\": \"/usr\", \"target\": \"$HOME/usr\"}]}",
		     &containers);

	(void)state;
	assert_string_equal(s->volumes[1].target, "/home/dev/usr");
	davit_spec_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_workspace_is_a_stopped_service_that_is_never_restarted),
		cmocka_unit_test(its_record_comes_back_from_the_spec),
		cmocka_unit_test(a_service_is_no_workspace),
		cmocka_unit_test(on_the_host_it_runs_in_the_source_itself),
		cmocka_unit_test(in_a_container_the_source_is_mounted),
		cmocka_unit_test(a_command_of_the_config_gets_the_usual_signal),
		cmocka_unit_test(variables_secrets_and_settings_reach_it),
		cmocka_unit_test(a_denied_network_is_none_or_refused_with_the_reason),
		cmocka_unit_test(what_is_let_through_is_a_policy_of_egress),
		cmocka_unit_test(what_the_runtime_cannot_is_refused_with_the_reason),
		cmocka_unit_test(home_of_the_environment_is_home_inside),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
