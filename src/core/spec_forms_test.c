/* SPDX-License-Identifier: MIT
 *
 * What the short forms of specs mean, and what stands in the struct then.
 */
#include "base/units.h"
#include "base/util.h"
#include "core/test_spec.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void short_forms_mean_what_the_long_ones_do(void **state)
{
	static const char *const same[][2] = {
		{"restart: always", "\"restart\":{\"policy\":\"always\"}"},
		{"ready: notify", "\"ready\":{\"type\":\"notify\"}"},
		{"update: stop-first", "\"update\":{\"order\":\"stop-first\"}"},
		{"command: a b", "\"command\":[\"a b\"]"},
		{"command: [a, b]", "\"command\":[\"a\",\"b\"]"},
		{"args: [8080, true, 'no', 1.50]", "\"args\":[\"8080\",\"true\",\"no\",\"1.50\"]"},
		{"env: [A=b=c, {name: B, value: 2}]", "\"env\":{\"A\":\"b=c\",\"B\":\"2\"}"},
		{"env: [A=1, B=2, A=3]", "\"env\":{\"B\":\"2\",\"A\":\"3\"}"},
		{"env: {A: ''}", "\"env\":[\"A=\"]"},
		{"metadata: {n: 1, b: true}", "\"metadata\":{\"n\":\"1\",\"b\":\"true\"}"},
		{"ports: 8080", "\"ports\":[{\"host\":8080,\"container\":8080}]"},
		{"ports: [8080:80/udp]", "\"ports\":[{\"host\":8080,\"container\":80,\"protocol\":\"udp\"}]"},
		{"ports: ['127.0.0.1:8080:80']",
		 "\"ports\":[{\"bind\":\"127.0.0.1\",\"host\":8080,\"container\":80}]"},
		{"ports: ['[::1]:8080:80/tcp']",
		 "\"ports\":[{\"bind\":\"::1\",\"host\":8080,\"container\":80}]"},
		{"ports: ['0:80']", "\"ports\":[{\"container\":80}]"},
		{"ports: {host: 80}", "\"ports\":[{\"host\":80,\"container\":80}]"},
		{"volumes: /a:/b", "\"volumes\":[{\"source\":\"/a\",\"target\":\"/b\"}]"},
		{"volumes: [/a:/b:ro, /c]",
		 "\"volumes\":[{\"source\":\"/a\",\"target\":\"/b\",\"readOnly\":true},"
		 "{\"source\":\"/c\",\"target\":\"/c\"}]"},
		{"volumes: data:/b",
		 "\"volumes\":[{\"source\":\"data\",\"target\":\"/b\",\"type\":\"volume\"}]"},
		{"capabilities: {add: [net_admin, CAP_KILL], drop: all}",
		 "\"capabilities\":{\"add\":[\"CAP_NET_ADMIN\",\"CAP_KILL\"],\"drop\":[\"ALL\"]}"},
		{"dns: ::1", "\"dns\":[\"::1\"]"},
		{"health: http:8080/up", "\"health\":[{\"type\":\"http\",\"port\":8080,\"path\":\"/up\"}]"},
		{"health: [tcp:1, 'file:/a', 'http:/']",
		 "\"health\":[{\"type\":\"tcp\",\"port\":1},{\"type\":\"file\",\"file\":\"/a\"},{\"path\":\"/"
		 "\"}]"},
		{"health: {type: command, command: [a, b]}",
		 "\"health\":[{\"type\":\"command\",\"command\":[\"a\",\"b\"]}]"},
		{"dependsOn: db", "\"dependsOn\":[{\"service\":\"db\",\"condition\":\"ready\"}]"},
		{"dependsOn: [db, {service: x, condition: started}]",
		 "\"dependsOn\":[{\"service\":\"db\"},{\"service\":\"x\",\"condition\":\"started\"}]"},
		{"secrets: a", "\"secrets\":[{\"name\":\"a\"}]"},
		{"rlimits: {nofile: 5, core: unlimited}",
		 "\"rlimits\":{\"nofile\":\"5:5\",\"core\":\"unlimited\"}"},
		{"restart: {success: 3, prevent: [TERM, SIGKILL, 7]}",
		 "\"restart\":{\"success\":[\"3\"],\"prevent\":[\"SIGTERM\",\"KILL\",7]}"},
		{"stop: {signal: hup, grace: 1.5}", "\"stop\":{\"signal\":\"SIGHUP\",\"grace\":\"1500ms\"}"},
		{"resources: {cpu: 0.5, memory: 1.5Gi}",
		 "\"resources\":{\"cpu\":\"500m\",\"memory\":1610612736}"},
		{"instances: '3'", "\"instances\":3"},
		{"version: 1.10", "\"version\":\"1.10\""},
		{"version: no", "\"version\":\"no\""},
		{"restart:", "\"restart\":null"},
		{"args: []\nenv: {}\nports: ~", "\"args\":null"},
		{"namespace: default\ninstances: 1", "\"version\":\"latest\""},
	};

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(same); i++) {
		char yaml[512], json[512];
		snprintf(yaml, sizeof yaml, WEB "%s\n", same[i][0]);
		snprintf(json, sizeof json, JWEB "%s}", same[i][1]);
		test_specs_same(yaml, json);
	}
}

static void the_members_hold_what_was_written(void **state)
{
	struct davit_spec *s = test_spec(
		WEB "env: {A: b=c}\nresources: {cpu: 1.5, memory: 64Mi}\n"
		    "restart: {policy: never, retries: 3, success: [1, TERM], backoff: {jitter: 0.25}}\n"
		    "ports: [\"8080:80/udp\"]\nrlimits: {nofile: \"5:unlimited\"}\nstop: {grace: 2m}\n");

	(void)state;
	assert_int_equal(s->kind, DAVIT_KIND_SERVICE);
	assert_string_equal(s->namespace_, "default");
	assert_string_equal(s->version, "latest");
	assert_string_equal(s->env[0].value, "b=c");
	assert_int_equal(s->cpu, 1500);
	assert_int_equal(s->memory, 64 << 20);
	assert_int_equal(s->restart, DAVIT_RESTART_NEVER);
	assert_int_equal(s->retries, 3);
	assert_int_equal(s->success.n, 2);
	assert_int_equal(s->success.v[0], 1);
	assert_int_equal(s->success.v[1], 256 + SIGTERM);
	assert_true(s->backoff.jitter == 0.25);
	assert_true(s->backoff.factor == 2);
	assert_int_equal(s->backoff.initial, 100 * DAVIT_NSEC_PER_MSEC);
	assert_int_equal(s->ports[0].container, 80);
	assert_int_equal(s->ports[0].host, 8080);
	assert_true(s->ports[0].udp);
	assert_true(s->rlimits[0].soft == 5 && s->rlimits[0].hard == UINT64_MAX);
	assert_int_equal(s->stop_signal, SIGTERM);
	assert_int_equal(s->stop_grace, 120 * DAVIT_NSEC_PER_SEC);
	assert_int_equal(s->ready_fd, 3);
	assert_int_equal(s->instances, 1);
	assert_null(s->image);
	davit_spec_free(s);
}

static void several_specs_stand_in_one_text(void **state)
{
	static const char *const texts[] = {
		"---\nname: a\nsource: .\n---\n# none\n---\nkind: Supervisor\nname: b\n...\n",
		"- name: a\n  source: .\n- {kind: Supervisor, name: b}\n",
		" [{\"name\":\"a\",\"source\":\".\"} ,{\"kind\":\"Supervisor\",\"name\":\"b\"}]\n",
		"\xef\xbb\xbfname: a\nsource: .\n---\nkind: Supervisor\nname: b",
	};
	struct davit_spec **specs, *one = NULL;
	struct davit_error err;
	size_t n;

	(void)state;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(texts); i++) {
		if (davit_spec_parse(texts[i], strlen(texts[i]), NULL, &specs, &n, &err))
			fail_msg("%s", err.message);
		assert_int_equal(n, 2);
		assert_string_equal(specs[0]->name, "a");
		assert_int_equal(specs[1]->kind, DAVIT_KIND_SUPERVISOR);
		davit_spec_free_all(specs, n);
		assert_int_equal(davit_spec_parse_one(texts[i], strlen(texts[i]), "f", &one, &err),
				 DAVIT_EINVAL);
		assert_string_equal(err.message, "f: expected one spec, found 2");
		assert_null(one);
	}
}

static void json_escapes_are_decoded(void **state)
{
	struct davit_spec *s = test_spec("{\"name\":\"\\u0077eb\",\"source\":\"\\/a\\u00fc\\ud83d\\ude00\"}");

	(void)state;
	assert_string_equal(s->name, "web");
	assert_string_equal(s->source, "/a\xc3\xbc\xf0\x9f\x98\x80");
	davit_spec_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(short_forms_mean_what_the_long_ones_do),
		cmocka_unit_test(the_members_hold_what_was_written),
		cmocka_unit_test(several_specs_stand_in_one_text),
		cmocka_unit_test(json_escapes_are_decoded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
