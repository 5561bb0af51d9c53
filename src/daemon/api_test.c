/* SPDX-License-Identifier: MIT
 *
 * The API over its socket: the real server, router and core, on the memory
 * store and the fake runtime, in a thread of their own.
 */
#include "daemon/test_daemon.h"

static void the_openapi_document_has_exactly_the_routes(void **state)
{
	int status;
	json_t *doc = ask("GET", "/openapi.json", NULL, &status), *paths = json_object_get(doc, "paths"),
	       *path;
	const char *key;
	size_t n = 0;

	(void)state;
	assert_string_equal(text(doc, "openapi"), "3.1.0");
	json_object_foreach(paths, key, path) n += json_object_size(path);
	assert_int_equal(n, api_n_routes);
	for (size_t i = 0; i < api_n_routes; i++) {
		const struct api_route *r = &api_routes[i];
		char method[16] = "";
		json_t *op, *parameters;
		size_t want = 0;
		for (size_t k = 0; r->method[k]; k++)
			method[k] = (char)(r->method[k] | 0x20);
		op = json_object_get(json_object_get(paths, r->path), method);
		assert_non_null(op);
		parameters = json_object_get(op, "parameters");
		for (const char *p = r->path; (p = strchr(p, '{')); p++)
			want++;
		for (const struct api_field *f = r->query; f && f->name; f++)
			want++;
		assert_int_equal(json_array_size(parameters), want);
		assert_true(!json_object_get(op, "requestBody") == (r->body == API_NO_BODY));
		assert_non_null(api_schema(r->answer));
	}
	for (size_t i = 0; api_schema_name(i); i++) {
		json_t *schema = json_loads(api_schema(api_schema_name(i)), 0, NULL);
		assert_non_null(schema);
		json_decref(schema);
	}
	json_decref(doc);
}

/* A path is answered by its handler, not by the router, when the error (if any)
 * is about what it names. */

static json_t *any_value(const struct api_field *f)
{
	switch (f->type) {
	case API_INT:
		return json_integer(1);
	case API_BOOL:
		return json_true();
	case API_STRINGS:
		return json_pack("[s]", "x");
	case API_ANY:
		return json_object();
	case API_ENUM:
		return json_stringn(f->values, strcspn(f->values, "|"));
	default:
		return json_string("x");
	}
}

/* Is there something that only the handler can check? */
static bool has_any(const struct api_route *r)
{
	for (const struct api_field *f = r->fields; f && f->name; f++)
		if (f->type == API_ANY && f->required)
			return true;
	return false;
}

static void every_documented_path_answers(void **state)
{
	(void)state;
	for (size_t i = 0; i < api_n_routes; i++) {
		const struct api_route *r = &api_routes[i];
		DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
		const char *body = r->body == API_OBJECT
					   ? "{\"instances\":1,\"signal\":\"HUP\",\"command\":[\"x\"],"
					     "\"reference\":\"x\",\"name\":\"x\",\"source\":\"/"
					     "tmp\",\"runtime\":\"fake\","
					     "\"plan\":{\"kind\":\"do\",\"steps\":[]}}"
					   : NULL;
		struct davit_client *c = dial();
		struct davit_client_request q = {.method = r->method,
						 .upgrade = r->upgrade,
						 .headers = websocket,
						 .n_headers = DAVIT_ARRAY_SIZE(websocket)};
		DAVIT_AUTO_BUF keep = DAVIT_BUF_INIT;
		int status;
		for (const char *p = r->path; *p; p++) {
			/* Not the beginning of any run's id, which are looked up by one. */
			if (*p == '{')
				davit_buf_adds(&target, "nobody");
			else
				davit_buf_addc(&target, *p);
			p += *p == '{' ? strcspn(p, "}") : 0;
		}
		for (const struct api_field *f = r->query; f && f->name; f++)
			if (f->required)
				davit_url_query(&target, f->name, "x");
		/* Only keys that the route knows, and those that it must have. */
		if (body) {
			json_t *all = json_loads(body, 0, NULL), *known = json_object();
			for (const struct api_field *f = r->fields; f->name; f++) {
				json_t *v = json_object_get(all, f->name);
				if (v && json_is_array(v) == (f->type == API_STRINGS))
					json_object_set(known, f->name, v);
				else if (f->required)
					json_object_set_new(known, f->name, any_value(f));
			}
			char *dump = json_dumps(known, 0);
			davit_buf_adds(&keep, dump);
			free(dump);
			json_decref(all);
			json_decref(known);
			q.body = keep.data;
			q.body_len = keep.len;
		} else if (r->body != API_NO_BODY) {
			q.body = "{\"name\":\"documented\",\"command\":[\"fake\"]}";
			q.body_len = strlen(q.body);
		}
		q.target = target.data;
		assert_int_equal(davit_client_send(c, &q, &status, NULL), 0);
		if (status != 200 && status != 404 && !(status == 400 && has_any(r)))
			fail_msg("%s %s: %d", r->method, q.target, status);
		/* Projects stand on the runtime process, which is not here, and containers in them. */
		if (status == 404 && !strchr(r->path, '{') && strcmp(r->path, "/v1/projects") &&
		    strcmp(r->path, "/v1/containers"))
			fail_msg("%s %s: 404", r->method, q.target);
		davit_client_close(c);
	}
	assert_int_equal(ended, DAEMON_UPGRADES); /* stop and upgrade were among them, in this order */
	kill_service("documented");
}

static void what_is_unknown_is_refused_by_name_with_the_nearest_known(void **state)
{
	static const char add[] = "/v1/services/default/x/-/scale";

	(void)state;
	refused("GET", "/v1/nothing", NULL, 404, "no such path: /v1/nothing");
	refused("GET", "/v1/services/a/b/c/d", NULL, 404, "no such path");
	refused("PUT", "/v1/services", NULL, 405, "only GET, POST");
	refused("GET", "/v1/services?nmae=x", NULL, 400, "unknown parameter 'nmae'; did you mean 'name'?");
	refused("GET", "/v1/services?view=list", NULL, 400, "'list' is none of status|table");
	refused("GET", "/v1/services?name=a&name=b", NULL, 400, "name is given twice");
	refused("GET", "/v1/services?name=%zz", NULL, 400, "malformed escape");
	refused("GET", "/v1/services/default/%00/-", NULL, 400, "malformed escape");
	refused("GET", "/v1/version", "{}", 400, "takes no body");
	refused("GET", "/v1/events?limit=0", NULL, 400, "limit");
	refused("GET", "/v1/events?after=-1", NULL, 400, "after");
	refused("GET", "/v1/events?follow=yes", NULL, 400, "'yes' is neither true nor false");
	refused("GET", "/v1/services/default/x/-/logs?since=tomorrow", NULL, 400,
		"neither a time nor a duration");
	refused("POST", add, "{\"instance\":1}", 400, "unknown key 'instance'; did you mean 'instances'?");
	refused("POST", add, "{\"instances\":\"1\"}", 400, "instances must be a whole number");
	refused("POST", add, "{\"instances\":-1}", 400, "instances must be between 0 and");
	refused("POST", add, "{}", 400, "lacks 'instances'");
	refused("POST", add, "[]", 400, "must be a JSON object");
	refused("POST", add, "{\"instances\":1,\"instances\":2}", 400, "must be a JSON object");
	refused("POST", "/v1/services/default/x/-/signal", "{\"signal\":\"SIGNOTHING\"}", 400,
		"is no signal");
	refused("POST", "/v1/services", "{\"name\":\"x\",\"comand\":[\"a\"]}", 400, "command");
	refused("GET", "/v1/services/default/x/-", NULL, 404, "'x' not found");
	refused("POST", "/v1/instances/x/exec", "{\"command\":[]}", 400, "command must be a list of strings");
	refused("POST", "/v1/instances/x/exec", "{\"command\":[\"a\"]}", 426, "Upgrade: davit-exec");
	refused("POST", "/v1/daemon/upgrade", "{\"program\":\"/nowhere\"}", 422, "cannot execute /nowhere");
}

static void names_with_slashes_and_colons_are_escaped_in_paths(void **state)
{
	int status;
	json_t *v;

	(void)state;
	works("POST", "/v1/services", "{\"name\":\"s\",\"version\":\"a/b:c=d\",\"command\":[\"fake\"]}");
	v = ask("GET", "/v1/services/default/s/a%2Fb%3Ac%3Dd", NULL, &status);
	assert_int_equal(status, 200);
	assert_string_equal(text(v, "version"), "a/b:c=d");
	json_decref(v);
	kill_service("s");
}

static void a_watch_tells_what_is_there_then_sync_then_changes(void **state)
{
	struct davit_client *c;
	json_t *v;

	(void)state;
	works("POST", "/v1/services", "{\"name\":\"w\",\"command\":[\"fake\"]}");
	c = open_stream("/v1/watch");
	v = next(c);
	assert_string_equal(text(v, "type"), "update");
	assert_string_equal(text(json_object_get(v, "service"), "name"), "w");
	json_decref(v);
	v = next(c);
	assert_string_equal(text(v, "type"), "sync");
	json_decref(v);
	works("POST", "/v1/services/default/w/-/scale", "{\"instances\":3}");
	for (size_t n = 0; n != 3;) {
		v = next(c);
		assert_non_null(v);
		n = json_array_size(json_object_get(json_object_get(v, "service"), "instances"));
		json_decref(v);
	}
	kill_service("w");
	for (bool gone = false; !gone;) {
		v = next(c);
		assert_non_null(v);
		gone = !strcmp(text(v, "type"), "gone");
		json_decref(v);
	}
	davit_client_close(c);
}

static void a_watch_and_events_keep_to_their_namespace(void **state)
{
	struct davit_client *c, *events;
	json_t *v;
	int status;

	(void)state;
	c = open_stream("/v1/watch");
	v = next(c);
	assert_string_equal(text(v, "type"), "sync");
	json_decref(v);
	events = open_stream("/v1/events?follow=true&service=twin");
	works("POST", "/v1/services", "{\"namespace\":\"other\",\"name\":\"twin\",\"command\":[\"fake\"]}");
	works("POST", "/v1/services", "{\"name\":\"twin\",\"command\":[\"fake\"]}");
	v = next(c);
	assert_string_equal(text(json_object_get(v, "service"), "namespace"), "default");
	json_decref(v);
	v = next(events);
	assert_string_equal(text(v, "service"), "default/twin:latest");
	json_decref(v);
	davit_client_close(c);
	davit_client_close(events);
	v = ask("GET", "/v1/services", NULL, &status);
	assert_int_equal(json_array_size(v), 1);
	assert_string_equal(text(json_array_get(v, 0), "namespace"), "default");
	json_decref(v);
	works("DELETE", "/v1/services/other/twin/-?wait=true", NULL);
	kill_service("twin");
}

static void a_log_resumes_exactly_and_follows_later_instances(void **state)
{
	struct davit_client *c;
	char target[256], after[64];
	json_t *v, *again;

	(void)state;
	works("POST", "/v1/services",
	      "{\"name\":\"l\",\"command\":[\"fake\",\"log\",\"tick\",\"every\",\"20ms\",\"count\",\"0\"]}");
	c = open_stream("/v1/services/default/l/-/logs?follow=true");
	v = next(c);
	snprintf(after, sizeof after, "%s", text(v, "cursor"));
	json_decref(v);
	v = next(c);
	/* From behind the first line comes what came second, to the letter. */
	snprintf(target, sizeof target, "/v1/services/default/l/-/logs?follow=true&after=%s", after);
	struct davit_client *resumed = open_stream(target);
	again = next(resumed);
	assert_true(json_equal(v, again));
	json_decref(again);
	davit_client_close(resumed);
	/* An instance that comes later joins the stream. */
	works("POST", "/v1/services/default/l/-/scale", "{\"instances\":2}");
	for (bool joined = false; !joined;) {
		json_decref(v);
		v = next(c);
		assert_non_null(v);
		joined = json_integer_value(json_object_get(v, "index")) == 1;
	}
	json_decref(v);
	refused("GET", "/v1/services/default/l/-/logs?after=nonsense", NULL, 400, "is not instance:cursor");
	kill_service("l");
	while ((v = next(c)))
		json_decref(v);
	davit_client_close(c);
}

static void count_lines(const char *target, size_t lines[2])
{
	struct davit_client *c = open_stream(target);
	json_t *v;

	lines[0] = lines[1] = 0;
	while ((v = next(c))) {
		lines[json_integer_value(json_object_get(v, "index")) & 1]++;
		json_decref(v);
	}
	davit_client_close(c);
}

static void tail_counts_lines_of_each_instance(void **state)
{
	size_t lines[2] = {0};

	(void)state;
	works("POST", "/v1/services",
	      "{\"name\":\"t\",\"instances\":2,\"command\":[\"fake\",\"log\",\"x\",\"every\",\"1ms\","
	      "\"count\",\"20\"]}");
	/* When all is written. */
	for (int i = 0; i < 6000 && (lines[0] < 20 || lines[1] < 20); i++)
		count_lines("/v1/services/default/t/-/logs", lines);
	assert_int_equal(lines[0], 20);
	assert_int_equal(lines[1], 20);
	count_lines("/v1/services/default/t/-/logs?tail=7", lines);
	assert_int_equal(lines[0], 7);
	assert_int_equal(lines[1], 7);
	kill_service("t");
}

static void events_resume_behind_an_id(void **state)
{
	struct davit_client *c = open_stream("/v1/events");
	char target[64];
	json_int_t last = 0;
	size_t n = 0;
	json_t *v;

	(void)state;
	while ((v = next(c))) {
		json_int_t id = json_integer_value(json_object_get(v, "id"));
		assert_true(id > last);
		last = id;
		n++;
		json_decref(v);
	}
	assert_true(n > 3);
	davit_client_close(c);
	snprintf(target, sizeof target, "/v1/events?follow=true&limit=2&after=%lld", (long long)last - 1);
	c = open_stream(target);
	v = next(c);
	assert_int_equal(json_integer_value(json_object_get(v, "id")), last);
	json_decref(v);
	/* Following, it waits for what is not there yet. */
	works("POST", "/v1/services", "{\"name\":\"e\",\"command\":[\"fake\"]}");
	v = next(c);
	assert_true(json_integer_value(json_object_get(v, "id")) > last);
	assert_string_equal(text(v, "service"), "default/e:latest");
	json_decref(v);
	assert_null(next(c));
	davit_client_close(c);
	kill_service("e");
}

static void a_stream_can_be_server_sent_events(void **state)
{
	struct davit_client_header sse = {"Accept", "text/event-stream"};
	struct davit_client_request q = {.target = "/v1/events?limit=1", .headers = &sse, .n_headers = 1};
	struct davit_client *c = dial();
	const char *line;
	size_t n;
	int status;

	(void)state;
	assert_int_equal(davit_client_send(c, &q, &status, NULL), 0);
	assert_string_equal(davit_client_header(c, "Content-Type"), "text/event-stream");
	assert_int_equal(davit_client_line(c, &line, &n, NULL), 1);
	assert_true(!strncmp(line, "id: ", 4) && n > 4);
	assert_int_equal(davit_client_line(c, &line, &n, NULL), 1);
	assert_true(!strncmp(line, "data: {", 7));
	davit_client_close(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_openapi_document_has_exactly_the_routes),
		cmocka_unit_test(every_documented_path_answers),
		cmocka_unit_test(what_is_unknown_is_refused_by_name_with_the_nearest_known),
		cmocka_unit_test(names_with_slashes_and_colons_are_escaped_in_paths),
		cmocka_unit_test(a_watch_tells_what_is_there_then_sync_then_changes),
		cmocka_unit_test(a_watch_and_events_keep_to_their_namespace),
		cmocka_unit_test(a_log_resumes_exactly_and_follows_later_instances),
		cmocka_unit_test(tail_counts_lines_of_each_instance),
		cmocka_unit_test(events_resume_behind_an_id),
		cmocka_unit_test(a_stream_can_be_server_sent_events),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, start, finish);
}
