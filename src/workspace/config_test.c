/* SPDX-License-Identifier: MIT */
#include "workspace/config.h"

#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static json_t *parsed(const char *text)
{
	struct davit_error err;
	json_t *v = NULL;

	if (davit_workspace_config_parse(text, strlen(text), NULL, &v, &err) < 0)
		fail_msg("%s: %s", text, err.message);
	return v;
}

/* --- reading --- */

static void every_key_is_read_into_one_form(void **state)
{
	static const char text[] =
		"{\"image\": \"localhost/dev:1\", \"command\": [\"hold\", \"\"], \"shell\": [\"bash\", "
		"\"-l\"],"
		" \"environment\": [{\"name\": \"A\", \"value\": \"\"}, {\"name\": \"T\", \"secret\": "
		"\"token\"}],"
		" \"mounts\": [{\"host\": \"cache\", \"target\": \"/cache\"},"
		" {\"host\": \"$HOME/.gitconfig\", \"target\": \"/etc/gitconfig\", \"ro\": true}],"
		" \"ports\": [3000, {\"container\": 80, \"host\": 8080}, {\"container\": 81}],"
		" \"network\": {\"mode\": \"deny\"}, \"secrets\": [\"key\"], \"features\": [\"git\"],"
		" \"agent\": {\"a\": [1, -2.5, true, null, \"x\"], \"b\": {}}}";
	static const char form[] =
		"{\"image\":\"localhost/dev:1\",\"command\":[\"hold\",\"\"],\"shell\":[\"bash\",\"-l\"],"
		"\"environment\":[{\"name\":\"A\",\"value\":\"\"},{\"name\":\"T\",\"secret\":\"token\"}],"
		"\"mounts\":[{\"host\":\"cache\",\"target\":\"/cache\",\"ro\":false},"
		"{\"host\":\"$HOME/.gitconfig\",\"target\":\"/etc/gitconfig\",\"ro\":true}],"
		"\"ports\":[{\"container\":3000,\"host\":0},{\"container\":80,\"host\":8080},"
		"{\"container\":81,\"host\":0}],"
		"\"network\":{\"mode\":\"deny\",\"hosts\":[]},\"secrets\":[\"key\"],\"features\":[\"git\"],"
		"\"agent\":{\"a\":[1,-2.5,true,null,\"x\"],\"b\":{}}}";
	json_t *v = parsed(text), *again;
	char *is = json_dumps(v, JSON_COMPACT);

	(void)state;
	assert_string_equal(is, form);
	again = parsed(is); /* and reading that changes nothing */
	assert_true(json_equal(v, again));
	free(is);
	json_decref(v);
	json_decref(again);
}

static const struct {
	const char *text;
	unsigned line, column;
	const char *message;
} wrong[] = {
	{"", 1, 1, "not a JSON object: it must begin with '{'"},
	{"[]", 1, 1, "not a JSON object: it must begin with '{'"},
	{"image: x", 1, 1, "not a JSON object: it must begin with '{'"},
	{"{\"image\": 1}", 1, 11, "image: must be a text in double quotes"},
	{"{\"image\": \"\"}", 1, 11, "image: must not be empty"},
	{"{\n  \"mouns\": []}", 2, 3, "unknown key 'mouns'; did you mean 'mounts'?"},
	{"{\"mounts\": [{\"host\": \"/a\", \"target\": \"/b\", \"readonly\": true}]}", 1, 44,
	 "mounts[0]: unknown key 'readonly'"},
	{"{\"mounts\": [{\"host\": \"/a\"}]}", 1, 13, "mounts[0]: the key 'target' is missing"},
	{"{\"mounts\": [{\"host\": \"/a\", \"target\": \"/b\", \"ro\": \"true\"}]}", 1, 50,
	 "mounts[0].ro: must be true or false"},
	{"{\"mounts\": [{\"host\": \"../a\", \"target\": \"/b\"}]}", 1, 22,
	 "mounts[0].host: '../a' must not have '..' in it"},
	{"{\"mounts\": [{\"host\": \"$SOURCES/a/../../b\", \"target\": \"/b\"}]}", 1, 22,
	 "mounts[0].host: '$SOURCES/a/../../b' must not have '..' in it"},
	{"{\"mounts\": [{\"host\": \"a\", \"target\": \"$SOURCES/..\"}]}", 1, 37,
	 "mounts[0].target: '$SOURCES/..' must not have '..' in it"},
	{"{\"mounts\": [{\"host\": \"$PWD/a\", \"target\": \"/b\"}]}", 1, 22,
	 "mounts[0].host: '$PWD/a': only $SOURCES and $HOME are known, at the beginning of a path"},
	{"{\"mounts\": [{\"host\": \"/a/$HOME\", \"target\": \"/b\"}]}", 1, 22,
	 "mounts[0].host: '/a/$HOME': only $SOURCES and $HOME are known, at the beginning of a path"},
	{"{\"mounts\": [{\"host\": \"/a\", \"target\": \"/b\"}, {\"host\": \"/c\", \"target\": \"/b\"}]}", 1,
	 45, "mounts[1]: the same as mounts[0]"},
	{"{\"environment\": [{\"name\": \"A\"}]}", 1, 18,
	 "environment[0]: needs one of 'value' and 'secret'"},
	{"{\"environment\": [{\"name\": \"A\", \"value\": \"\", \"secret\": \"s\"}]}", 1, 18,
	 "environment[0]: needs one of 'value' and 'secret'"},
	{"{\"environment\": [{\"name\": \"1A\", \"value\": \"\"}]}", 1, 27,
	 "environment[0].name: '1A' is not a name of a variable"},
	{"{\"environment\": [{\"name\": \"SOURCES\", \"value\": \"\"}]}", 1, 27,
	 "environment[0].name: 'SOURCES' is davit's to set"},
	{"{\"environment\": [{\"name\": \"A\", \"value\": 1}]}", 1, 41,
	 "environment[0].value: must be a text in double quotes"},
	{"{\"ports\": [0]}", 1, 12, "ports[0]: must be a port, a number from 1 to 65535"},
	{"{\"ports\": [65536]}", 1, 12, "ports[0]: must be a port, a number from 1 to 65535"},
	{"{\"ports\": [\"80\"]}", 1, 12, "ports[0]: must be a port, a number from 1 to 65535"},
	{"{\"ports\": [80, {\"container\": 80}]}", 1, 16, "ports[1]: the same as ports[0]"},
	{"{\"network\": {\"mode\": \"block\"}}", 1, 22, "network.mode: 'block' is neither allow nor deny"},
	{"{\"network\": {\"hosts\": []}}", 1, 13, "network: the key 'mode' is missing"},
	{"{\"network\": {\"mode\": \"allow\", \"hosts\": [\"a\"]}}", 1, 13,
	 "network: 'hosts' are the exceptions of mode deny"},
	{"{\"network\": {\"mode\": \"deny\", \"hosts\": [\"http://a\"]}}", 1, 40,
	 "network.hosts[0]: 'http://a' is a URL: give the name of its host"},
	{"{\"secrets\": [\"a/b\"]}", 1, 14, "secrets[0]: 'a/b' is not a name"},
	{"{\"features\": [\"a\", \"a\"]}", 1, 20, "features[1]: the same as features[0]"},
	{"{\"command\": []}", 1, 13, "command: must be a list of texts: the program, then its arguments"},
	{"{\"command\": \"sleep 1\"}", 1, 13,
	 "command: must be a list of texts: the program, then its arguments"},
	{"{\"shell\": [\"\"]}", 1, 12, "shell[0]: must not be empty"},
	{"{\"agent\": []}", 1, 11, "agent: must be an object"},
	{"{\"agent\": {\"n\": 1e999}}", 1, 17, "agent: '1e999' is out of range"},
	{"{\"image\": \"a\", \"image\": \"b\"}", 1, 16, "the key 'image' is given twice, first in line 1"},
	{"{\"image\": \"a\\nb\"}", 1, 11, "image: 'a?b' has a control character in it"},
	{"{\"image\": \"a\"} {}", 1, 16, "more text after the end of the JSON value"},
};

static void what_is_wrong_is_refused_with_its_place(void **state)
{
	unsigned failures = 0;

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(wrong); i++) {
		struct davit_error err = {0};
		json_t *v = NULL;
		int r = davit_workspace_config_parse(wrong[i].text, strlen(wrong[i].text), NULL, &v, &err);
		if (r == DAVIT_EINVAL && !strcmp(err.message, wrong[i].message) &&
		    err.line == wrong[i].line && err.column == wrong[i].column)
			continue;
		failures++;
		print_message("%s\ngives %d %u:%u %s\n  not %d %u:%u %s\n", wrong[i].text, r, err.line,
			      err.column, err.message, DAVIT_EINVAL, wrong[i].line, wrong[i].column,
			      wrong[i].message);
	}
	assert_int_equal(failures, 0);
}

static void the_file_stands_before_the_message(void **state)
{
	static const char text[] = "{\"port\": []}";
	struct davit_error err;
	json_t *v;

	(void)state;
	assert_int_equal(davit_workspace_config_parse(text, strlen(text), "w.json", &v, &err), DAVIT_EINVAL);
	assert_string_equal(err.message, "w.json:1:2: unknown key 'port'; did you mean 'ports'?");
	assert_int_equal(davit_workspace_config_load("/nonexistent/workspace.json", &v, &err), DAVIT_ENOENT);
	assert_non_null(strstr(err.message, "/nonexistent/workspace.json"));
}

/* --- merging --- */

struct merging {
	const char *one, *two;
	const char *config; /* what they come to */
	const char *from;   /* "path=layer path=layer" of what is told */
};

static void collect(void *user, const char *path, const json_t *value, const char *layer)
{
	struct davit_buf *out = user;

	assert_non_null(value);
	davit_buf_addf(out, "%s%s=%s", out->len ? " " : "", path, layer);
}

static void check_merge(const struct merging *c)
{
	struct davit_workspace_merged m = {0};
	DAVIT_AUTO_BUF from = DAVIT_BUF_INIT;
	json_t *one = parsed(c->one), *two = parsed(c->two);
	DAVIT_AUTO_FREE char *is = NULL;

	assert_int_equal(davit_workspace_merge(&m, one, "one", NULL), 0);
	assert_int_equal(davit_workspace_merge(&m, two, "two", NULL), 0);
	is = json_dumps(m.config, JSON_COMPACT);
	assert_int_equal(davit_workspace_merged_each(&m, collect, &from, NULL), 0);
	if (strcmp(is, c->config) != 0 || strcmp(davit_buf_str(&from), c->from) != 0)
		fail_msg("%s and %s\ngive    %s\n        %s\nnot     %s\n        %s", c->one, c->two, is,
			 davit_buf_str(&from), c->config, c->from);
	json_decref(one);
	json_decref(two);
	davit_workspace_merged_fini(&m);
}

static const struct merging later_wins[] = {
	{"{}", "{}", "{}", ""},
	{"{\"image\": \"a\"}", "{}", "{\"image\":\"a\"}", "image=one"},
	{"{\"image\": \"a\"}", "{\"image\": \"b\"}", "{\"image\":\"b\"}", "image=two"},
	/* A list of words is one value. */
	{"{\"command\": [\"a\", \"b\"]}", "{\"command\": [\"c\"]}", "{\"command\":[\"c\"]}", "command=two"},
	/* Other lists are merged by what names their items, which keep their places. */
	{"{\"environment\": [{\"name\": \"A\", \"value\": \"1\"}, {\"name\": \"B\", \"value\": \"1\"}]}",
	 "{\"environment\": [{\"name\": \"C\", \"value\": \"2\"}, {\"name\": \"A\", \"secret\": \"s\"}]}",
	 "{\"environment\":[{\"name\":\"A\",\"secret\":\"s\"},{\"name\":\"B\",\"value\":\"1\"},"
	 "{\"name\":\"C\",\"value\":\"2\"}]}",
	 "environment.A=two environment.B=one environment.C=two"},
	{"{\"ports\": [80, 81]}", "{\"ports\": [{\"container\": 81, \"host\": 8081}]}",
	 "{\"ports\":[{\"container\":80,\"host\":0},{\"container\":81,\"host\":8081}]}",
	 "ports.80=one ports.81=two"},
	{"{\"secrets\": [\"a\"], \"features\": [\"f\"]}",
	 "{\"secrets\": [\"b\", \"a\"], \"features\": [\"g\"]}",
	 "{\"secrets\":[\"a\",\"b\"],\"features\":[\"f\",\"g\"]}",
	 "secrets.a=one secrets.b=two features.f=one features.g=two"},
	{"{\"mounts\": [{\"host\": \"/a\", \"target\": \"/t\"}]}",
	 "{\"mounts\": [{\"host\": \"/b\", \"target\": \"/t\"}]}",
	 "{\"mounts\":[{\"host\":\"/b\",\"target\":\"/t\",\"ro\":false}]}",
	 "mounts./t.host=two mounts./t.ro=two"},
	/* The agent's settings, key by key. */
	{"{\"agent\": {\"a\": 1, \"b\": {\"c\": 1, \"d\": 1}}}", "{\"agent\": {\"b\": {\"c\": 2}, \"e\": 2}}",
	 "{\"agent\":{\"a\":1,\"b\":{\"c\":2,\"d\":1},\"e\":2}}",
	 "agent.a=one agent.b.c=two agent.b.d=one agent.e=two"},
	{"{\"agent\": {\"a\": 1}}", "{\"agent\": {\"a\": {\"b\": 2}}}", "{\"agent\":{\"a\":{\"b\":2}}}",
	 "agent.a.b=two"},
	{"{\"agent\": {\"a\": {\"b\": 1}}}", "{\"agent\": {\"a\": 2}}", "{\"agent\":{\"a\":2}}",
	 "agent.a=two"},
	{"{\"agent\": {\"a\": [1, 2]}}", "{\"agent\": {\"a\": [3]}}", "{\"agent\":{\"a\":[3]}}",
	 "agent.a=two"},
};

static void the_later_layer_wins(void **state)
{
	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(later_wins); i++)
		check_merge(&later_wins[i]);
}

#define DENY(hosts) "{\"network\": {\"mode\": \"deny\", \"hosts\": [" hosts "]}}"
#define DENIED(hosts) "{\"network\":{\"mode\":\"deny\",\"hosts\":[" hosts "]}}"
#define ALLOW "{\"network\": {\"mode\": \"allow\"}}"
#define MOUNT(host, ro) "{\"mounts\": [{\"host\": \"" host "\", \"target\": \"/t\", \"ro\": " ro "}]}"
#define MOUNTED(host, ro) "{\"mounts\":[{\"host\":\"" host "\",\"target\":\"/t\",\"ro\":" ro "}]}"

static const struct merging tightening[] = {
	/* deny beats allow, whichever comes first */
	{ALLOW, "{\"network\": {\"mode\": \"deny\"}}", DENIED(""), "network.mode=two network.hosts=two"},
	{"{\"network\": {\"mode\": \"deny\"}}", ALLOW, DENIED(""), "network.mode=one network.hosts=one"},
	{ALLOW, ALLOW, "{\"network\":{\"mode\":\"allow\"}}", "network.mode=one"},
	/* no word on the network changes nothing */
	{"{\"network\": {\"mode\": \"deny\"}}", "{}", DENIED(""), "network.mode=one network.hosts=one"},
	{"{}", ALLOW, "{\"network\":{\"mode\":\"allow\"}}", "network.mode=two"},
	/* of the exceptions, those that both make */
	{DENY("\"a\", \"b\""), DENY("\"b\", \"c\""), DENIED("\"b\""), "network.mode=one network.hosts=two"},
	{DENY("\"A.test\", \"10.0.0.0/8:443\""), DENY("\"a.test:443\", \"10.1.2.3\", \"10.1.0.0/16:443\""),
	 DENIED("\"a.test:443\",\"10.1.0.0/16:443\""), "network.mode=one network.hosts=two"},
	{DENY("\"a\""), DENY("\"b\""), DENIED(""), "network.mode=one network.hosts=two"},
	{DENY("\"a\""), DENY(""), DENIED(""), "network.mode=one network.hosts=two"},
	{DENY(""), DENY("\"a\""), DENIED(""), "network.mode=one network.hosts=one"},
	{DENY("\"a\""), DENY("\"a\", \"b\""), DENIED("\"a\""), "network.mode=one network.hosts=one"},
	{ALLOW, DENY("\"a\""), DENIED("\"a\""), "network.mode=two network.hosts=two"},
	{DENY("\"a\""), ALLOW, DENIED("\"a\""), "network.mode=one network.hosts=one"},
	/* a mount that is read-only stays so, even of another directory */
	{MOUNT("/a", "true"), MOUNT("/a", "false"), MOUNTED("/a", "true"),
	 "mounts./t.host=two mounts./t.ro=one"},
	{MOUNT("/a", "true"), MOUNT("/b", "false"), MOUNTED("/b", "true"),
	 "mounts./t.host=two mounts./t.ro=one"},
	{MOUNT("/a", "false"), MOUNT("/a", "true"), MOUNTED("/a", "true"),
	 "mounts./t.host=two mounts./t.ro=two"},
};

static void a_policy_is_tightened_and_never_loosened(void **state)
{
	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(tightening); i++)
		check_merge(&tightening[i]);
}

static void a_layer_is_not_changed_by_what_comes_after(void **state)
{
	struct davit_workspace_merged m = {0};
	json_t *one = parsed(
		"{\"network\": {\"mode\": \"deny\", \"hosts\": [\"a\"]}, \"agent\": {\"a\": {\"b\": 1}}}");
	json_t *before = json_deep_copy(one),
	       *two = parsed("{\"network\": {\"mode\": \"deny\"}, \"agent\": {\"a\": {\"b\": 2}}}");

	(void)state;
	assert_int_equal(davit_workspace_merge(&m, one, "one", NULL), 0);
	assert_int_equal(davit_workspace_merge(&m, two, "two", NULL), 0);
	assert_true(json_equal(one, before));
	json_decref(one);
	json_decref(two);
	json_decref(before);
	davit_workspace_merged_fini(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_key_is_read_into_one_form),
		cmocka_unit_test(what_is_wrong_is_refused_with_its_place),
		cmocka_unit_test(the_file_stands_before_the_message),
		cmocka_unit_test(the_later_layer_wins),
		cmocka_unit_test(a_policy_is_tightened_and_never_loosened),
		cmocka_unit_test(a_layer_is_not_changed_by_what_comes_after),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
