/* SPDX-License-Identifier: MIT
 *
 * The API over its socket: the real server, router and core, on the memory
 * store and the fake runtime, in a thread of their own.
 */
#include "daemon/api.h"
#include "daemon/runs.h"

#include "base/file.h"
#include "base/units.h"
#include "net/client.h"
#include "net/unix.h"
#include "net/url.h"
#include "runtime/fake/fake.h"
#include "store/stores.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <uv.h>

#include <cmocka.h>

static struct davit_daemon d;
static char dir[] = "/tmp/davit-api-XXXXXX";
static uv_async_t stop;
static pthread_t thread;
static atomic_int ended;
static int listening;
static struct davit_deferred successor;

/* --- the daemon under test --- */

static void succeed(struct davit_deferred *unused)
{
	const struct davit_http_config config = {
		.loop = d.loop, .handle = api_handle, .streams = api_streams, .user = &d};

	(void)unused;
	davit_http_server_free(d.server);
	assert_int_equal(davit_http_server_new(&config, dup(listening), &d.server, NULL), 0);
}

/* The same socket goes on being served, as by a successor after an upgrade. */
void daemon_end(struct davit_daemon *daemon, enum daemon_end how)
{
	(void)daemon;
	ended = (int)how;
	if (how == DAEMON_UPGRADES)
		davit_defer(&successor);
}

static void on_stop(uv_async_t *a)
{
	davit_http_server_free(d.server);
	runs_close(d.runs);
	davit_core_free(d.core);
	davit_timer_stop(&d.trim);
	uv_close((uv_handle_t *)a, NULL);
	davit_loop_stop(d.loop);
}

static void no_trim(struct davit_timer *t)
{
	(void)t;
}

static void on_started(struct davit_op *op, int result)
{
	(void)op;
	assert_int_equal(result, 0);
}

static void *serve(void *unused)
{
	davit_loop_run(d.loop);
	return unused;
}

static int start(void **state)
{
	static struct davit_op op;
	struct davit_http_config config;
	struct davit_core_config core;
	int fd;

	(void)state;
	if (!mkdtemp(dir) || setenv("DAVIT_HOME", dir, 1) < 0 || davit_paths_init(&d.paths, NULL) < 0 ||
	    davit_paths_make(&d.paths, NULL) < 0 || davit_loop_open(&d.loop, NULL) < 0 ||
	    davit_store_open(&davit_memory_store, d.loop, NULL, &d.store, NULL) < 0 ||
	    davit_secrets_open(d.paths.state, d.paths.run, d.store, &d.secrets, NULL) < 0)
		return -1;
	d.self = strdup("/proc/self/exe");
	davit_timer_init(&d.trim, d.loop, no_trim);
	davit_deferred_init(&successor, d.loop, succeed);
	core = (struct davit_core_config){.loop = d.loop,
					  .store = d.store,
					  .paths = &d.paths,
					  .secrets = d.secrets,
					  .default_runtime = "fake"};
	config = (struct davit_http_config){
		.loop = d.loop, .handle = api_handle, .streams = api_streams, .user = &d};
	if (davit_core_new(&core, &d.core, NULL) < 0 ||
	    davit_core_add_runtime(d.core, "fake", &davit_fake_driver, NULL) < 0 ||
	    runs_open(&d, &d.runs, NULL) < 0 || davit_unix_listen(d.paths.socket, &fd, NULL) < 0 ||
	    (listening = dup(fd)) < 0 || davit_http_server_new(&config, fd, &d.server, NULL) < 0)
		return -1;
	davit_op_init(&op, d.loop, on_started, NULL);
	davit_op_begin(&op, 0);
	davit_core_start(d.core, &op);
	uv_async_init(davit_loop_uv(d.loop), &stop, on_stop);
	return pthread_create(&thread, NULL, serve, NULL);
}

static int finish(void **state)
{
	(void)state;
	uv_async_send(&stop);
	pthread_join(thread, NULL);
	davit_secrets_close(d.secrets);
	davit_store_close(d.store);
	for (int i = 0; i < 3; i++)
		uv_run(davit_loop_uv(d.loop), UV_RUN_NOWAIT);
	davit_loop_close(d.loop);
	davit_paths_fini(&d.paths);
	close(listening);
	free(d.self);
	free(d.program);
	return davit_remove_tree(dir, NULL);
}

/* --- a client --- */

static struct davit_client *dial(void)
{
	struct davit_client *c;

	assert_int_equal(davit_client_open(d.paths.socket, &c, NULL), 0);
	davit_client_set_timeout(c, 10 * DAVIT_NSEC_PER_SEC);
	return c;
}

/* One request, with the answer as JSON. */
static json_t *ask(const char *method, const char *target, const char *body, int *ret_status)
{
	struct davit_client_request q = {
		.method = method, .target = target, .body = body, .body_len = body ? strlen(body) : 0};
	struct davit_client *c = dial();
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	json_t *v;

	assert_int_equal(davit_client_send(c, &q, ret_status, NULL), 0);
	assert_int_equal(davit_client_body(c, 1 << 24, &out, NULL), 0);
	v = json_loadb(davit_buf_str(&out), out.len, 0, NULL);
	if (!v)
		fail_msg("%s %s: no JSON: %s", method, target, davit_buf_str(&out));
	davit_client_close(c);
	return v;
}

static void works(const char *method, const char *target, const char *body)
{
	int status;
	json_t *v = ask(method, target, body, &status);

	if (status != 200)
		fail_msg("%s %s: %s", method, target, json_dumps(v, 0));
	json_decref(v);
}

static void refused(const char *method, const char *target, const char *body, int status, const char *message)
{
	int got;
	json_t *v = ask(method, target, body, &got);
	const char *said = json_string_value(json_object_get(json_object_get(v, "error"), "message"));

	if (got != status || !said || !strstr(said, message))
		fail_msg("%s %s: wanted %d \"%s\", got %d \"%s\"", method, target, status, message, got,
			 said);
	json_decref(v);
}

static struct davit_client *open_stream(const char *target)
{
	struct davit_client *c = dial();
	int status;

	assert_int_equal(
		davit_client_send(c, &(struct davit_client_request){.target = target}, &status, NULL), 0);
	assert_int_equal(status, 200);
	return c;
}

/* The next line of a stream as JSON; NULL at its end. */
static json_t *next(struct davit_client *c)
{
	const char *line;
	size_t n;
	int r = davit_client_line(c, &line, &n, NULL);
	json_t *v = r == 1 ? json_loadb(line, n, 0, NULL) : NULL;

	assert_true(r == 0 || v);
	return v;
}

static const char *text(json_t *v, const char *key)
{
	const char *s = json_string_value(json_object_get(v, key));

	return s ? s : "";
}

static void kill_service(const char *name)
{
	char target[128];

	snprintf(target, sizeof target, "/v1/services/default/%s/-?wait=true", name);
	works("DELETE", target, NULL);
}

/* A body of n bytes, `head` and then zeros, that streams. */
struct flow {
	const void *head;
	size_t head_len, n, sent;
};

static ssize_t produce(void *user, void *buf, size_t n, struct davit_error *err)
{
	struct flow *f = user;

	(void)err;
	n = n < f->n - f->sent ? n : f->n - f->sent;
	memset(buf, 0, n);
	for (size_t i = 0; i < n && f->sent + i < f->head_len; i++)
		((char *)buf)[i] = ((const char *)f->head)[f->sent + i];
	f->sent += n;
	return (ssize_t)n;
}

/* The status, and the whole answer as text (a heap string in *ret). */
static int stream_in(const char *method, const char *target, struct flow *f, char **ret)
{
	const struct davit_client_request q = {
		.method = method, .target = target, .produce = produce, .user = f};
	struct davit_client *c = dial();
	struct davit_buf out = DAVIT_BUF_INIT;
	int status;

	assert_int_equal(davit_client_send(c, &q, &status, NULL), 0);
	assert_int_equal(davit_client_body(c, 1 << 20, &out, NULL), 0);
	davit_client_close(c);
	*ret = davit_buf_take(&out);
	return status;
}

/* The id of the first instance of a service, once it runs. */
static char *instance_of_service(const char *name, char id[32])
{
	char target[128];

	snprintf(target, sizeof target, "/v1/services/default/%s/-", name);
	for (int i = 0; i < 500; i++) {
		int status;
		json_t *v = ask("GET", target, NULL, &status);
		json_t *first = json_array_get(json_object_get(v, "instances"), 0);
		bool runs = !strcmp(text(first, "state"), "started");
		snprintf(id, 32, "%s", text(first, "id"));
		json_decref(v);
		if (runs)
			return id;
		usleep(10000);
	}
	fail_msg("%s does not run", name);
	return NULL;
}

/* --- tests --- */

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
static const struct davit_client_header websocket[] = {{"Sec-WebSocket-Version", "13"},
						       {"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}};

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
			davit_buf_addc(&target, *p == '{' ? 'x' : *p);
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

static void tail_counts_lines_of_each_instance(void **state)
{
	struct davit_client *c;
	size_t lines[2] = {0};
	json_t *v;

	(void)state;
	works("POST", "/v1/services",
	      "{\"name\":\"t\",\"instances\":2,\"command\":[\"fake\",\"log\",\"x\",\"every\",\"1ms\","
	      "\"count\",\"20\"]}");
	usleep(200000);
	c = open_stream("/v1/services/default/t/-/logs?tail=7");
	while ((v = next(c))) {
		lines[json_integer_value(json_object_get(v, "index")) & 1]++;
		json_decref(v);
	}
	assert_int_equal(lines[0], 7);
	assert_int_equal(lines[1], 7);
	davit_client_close(c);
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

/* The rest of a run's events, to its end: the last one's outcome, owned. */
static json_t *last_event(const char *run, const char *after)
{
	struct davit_client *c = dial();
	struct davit_client_request q = {0};
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	json_t *last = NULL;
	const char *line;
	size_t n;
	int status;

	davit_buf_addf(&target, "/v1/runs/%s/events?follow=true&after=%s", run, after);
	q.target = davit_buf_str(&target);
	assert_int_equal(davit_client_send(c, &q, &status, NULL), 0);
	assert_int_equal(status, 200);
	while (davit_client_line(c, &line, &n, NULL) == 1) {
		json_decref(last);
		last = json_loadb(line, n, 0, NULL);
	}
	davit_client_close(c);
	return last;
}

static void a_run_is_begun_followed_to_its_end_and_removed(void **state)
{
	int status;
	json_t *run, *v;
	char target[64];

	(void)state;
	run = ask(
		"POST", "/v1/runs",
		"{\"name\":\"n\",\"kind\":\"job\",\"plan\":{\"kind\":\"try\",\"step\":{\"kind\":\"load_var\","
		"\"name\":\"v\",\"spec\":{\"file\":\"nothing/x\"}}}}",
		&status);
	assert_int_equal(status, 200);
	v = last_event(text(run, "id"), "0");
	assert_string_equal(text(v, "event"), "end");
	assert_string_equal(text(v, "outcome"), "succeeded");
	json_decref(v);
	snprintf(target, sizeof target, "/v1/runs/%s", text(run, "id"));
	v = ask("GET", target, NULL, &status);
	assert_string_equal(text(v, "state"), "ended");
	json_decref(v);
	snprintf(target, sizeof target, "/v1/runs/%s/abort", text(run, "id"));
	json_decref(ask("POST", target, "{}", &status));
	assert_int_equal(status, 409);
	snprintf(target, sizeof target, "/v1/runs/%s", text(run, "id"));
	works("DELETE", target, NULL);
	json_decref(ask("GET", target, NULL, &status));
	assert_int_equal(status, 404);
	json_decref(run);
}

static void a_plan_that_is_none_begins_no_run(void **state)
{
	int status;
	json_t *v = ask("POST", "/v1/runs", "{\"name\":\"n\",\"kind\":\"job\",\"plan\":{\"kind\":\"dont\"}}",
			&status);

	(void)state;
	assert_int_equal(status, 400);
	json_decref(v);
}

/* A host that is still there when the directory goes would be in its way. */
static void runs_have_ended(void **state)
{
	int status;
	json_t *all = ask("GET", "/v1/runs", NULL, &status), *run;
	size_t i;

	(void)state;
	json_array_foreach(all, i, run) json_decref(last_event(text(run, "id"), "0"));
	json_decref(all);
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

/* --- exec --- */

static void send_frame(int fd, unsigned char type, const char *data)
{
	unsigned char header[8] = {type, 0, 0, 0, 0, 0, 0, (unsigned char)strlen(data)};

	assert_int_equal(send(fd, header, 8, MSG_NOSIGNAL), 8);
	if (data[0])
		assert_int_equal(send(fd, data, strlen(data), MSG_NOSIGNAL), strlen(data));
}

/* Reads a frame into data; its type, or -1 at the end. */
static int take_frame(int fd, char data[256])
{
	unsigned char header[8];

	if (recv(fd, header, 8, MSG_WAITALL) != 8)
		return -1;
	memset(data, 0, 256);
	assert_int_equal(recv(fd, data, header[7], MSG_WAITALL), header[7]);
	return header[0];
}

static int start_exec(const char *body)
{
	int status, fd;
	json_t *list = ask("GET", "/v1/services/default/x/-", NULL, &status);
	const char *id = text(json_array_get(json_object_get(list, "instances"), 0), "id");
	char target[128];
	struct davit_client *c = dial();
	DAVIT_AUTO_BUF early = DAVIT_BUF_INIT;

	snprintf(target, sizeof target, "/v1/instances/%s/exec", id);
	json_decref(list);
	assert_int_equal(davit_client_send(c,
					   &(struct davit_client_request){.method = "POST",
									  .target = target,
									  .body = body,
									  .body_len = strlen(body),
									  .upgrade = "davit-exec"},
					   &status, NULL),
			 0);
	assert_int_equal(status, 101);
	assert_int_equal(davit_client_take_fd(c, &fd, &early, NULL), 0);
	assert_int_equal(early.len, 0); /* fake commands speak when spoken to */
	davit_client_close(c);
	return fd;
}

static void a_command_gets_its_input_and_gives_output_and_status(void **state)
{
	char data[256];
	int fd;

	(void)state;
	works("POST", "/v1/services", "{\"name\":\"x\",\"command\":[\"fake\"]}");
	usleep(50000);
	fd = start_exec("{\"command\":[\"cat\"]}");
	send_frame(fd, 0, "hello");
	assert_int_equal(take_frame(fd, data), 1);
	assert_string_equal(data, "hello");
	send_frame(fd, 6, "");
	assert_int_equal(take_frame(fd, data), 3);
	assert_string_equal(data, "{\"code\":0}");
	assert_int_equal(take_frame(fd, data), -1);
	close(fd);
	fd = start_exec("{\"command\":[\"cat\"]}");
	send_frame(fd, 9, "?");
	assert_int_equal(take_frame(fd, data), 3);
	assert_non_null(strstr(data, "malformed frame"));
	close(fd);
	kill_service("x");
}

static void secrets_are_listed_and_never_told(void **state)
{
	int status;
	json_t *v;

	(void)state;
	works("PUT", "/v1/secrets/default/token", "s3cr3t-value");
	v = ask("GET", "/v1/secrets", NULL, &status);
	char *all = json_dumps(v, 0);
	assert_non_null(strstr(all, "token"));
	assert_null(strstr(all, "s3cr3t"));
	free(all);
	json_decref(v);
	works("DELETE", "/v1/secrets/default/token", NULL);
	refused("DELETE", "/v1/secrets/default/token", NULL, 404, "token");
}

static void images_come_as_streams_of_any_length_and_go_by_name(void **state)
{
	struct flow big = {.n = 20 * 1024 * 1024};
	char *answer;
	int status;
	json_t *v;

	(void)state;
	assert_int_equal(stream_in("POST", "/v1/runtimes/-/images/import?reference=localhost%2Fbig%3A1", &big,
				   &answer),
			 200);
	assert_int_equal(big.sent, big.n);
	free(answer);
	works("POST", "/v1/runtimes/fake/images/pull", "{\"reference\":\"localhost/p:1\"}");
	v = ask("GET", "/v1/runtimes/fake/images", NULL, &status);
	assert_int_equal(
		json_integer_value(json_object_get(json_array_get(v, json_array_size(v) - 2), "size")),
		20 * 1024 * 1024);
	json_decref(v);
	refused("DELETE", "/v1/runtimes/-/images?reference=nope", NULL, 404,
		"image 'nope' not found locally");
	refused("DELETE", "/v1/runtimes/-/images", NULL, 400, "parameter reference is needed");
	refused("POST", "/v1/runtimes/-/images/pull", "{\"reference\":\"missing/x\"}", 404,
		"has no 'missing/x'");
	refused("GET", "/v1/runtimes/nope/images", NULL, 404, "there is no runtime 'nope'");
	works("DELETE", "/v1/runtimes/-/images?reference=localhost%2Fbig%3A1", NULL);
	works("DELETE", "/v1/runtimes/-/images?reference=localhost%2Fp%3A1", NULL);
	big.sent = 0;
	assert_int_equal(stream_in("POST", "/v1/runtimes/-/images/load", &big, &answer), 502);
	assert_non_null(strstr(answer, "holds no image"));
	free(answer);
}

static void a_load_that_its_client_leaves_brings_nothing(void **state)
{
	static const char part[] = "POST /v1/runtimes/-/images/import?reference=half HTTP/1.1\r\n"
				   "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
	int fd, status;
	json_t *v, *i;
	size_t k;

	(void)state;
	assert_int_equal(davit_unix_connect(d.paths.socket, &fd, NULL), 0);
	assert_int_equal(send(fd, part, sizeof part - 1, MSG_NOSIGNAL), sizeof part - 1);
	usleep(50000);
	close(fd);
	usleep(50000);
	v = ask("GET", "/v1/runtimes/-/images", NULL, &status);
	json_array_foreach(v, k, i) assert_string_not_equal(
		json_string_value(json_array_get(json_object_get(i, "references"), 0)), "half");
	json_decref(v);
}

static void volumes_and_networks_are_kept_by_name(void **state)
{
	static const char *const kinds[] = {"volumes", "networks"};

	(void)state;
	for (size_t k = 0; k < DAVIT_ARRAY_SIZE(kinds); k++) {
		char target[96], one[128];
		int status;
		json_t *v;
		snprintf(target, sizeof target, "/v1/runtimes/-/%s", kinds[k]);
		snprintf(one, sizeof one, "%s/data.1", target);
		works("POST", target, "{\"name\":\"data.1\"}");
		works("POST", target, "{\"name\":\"data.1\"}");
		v = ask("GET", target, NULL, &status);
		assert_string_equal(text(json_array_get(v, json_array_size(v) - 1), "name"), "data.1");
		json_decref(v);
		refused("POST", target, "{\"name\":\"../x\"}", 400, "is no name of a");
		refused("POST", target, "{}", 400, "lacks 'name'");
		works("DELETE", one, NULL);
		refused("DELETE", one, NULL, 404, "not found");
	}
}

static void a_paused_service_says_so(void **state)
{
	char id[32];
	int status;
	json_t *v;

	(void)state;
	works("POST", "/v1/services", "{\"name\":\"frozen\",\"command\":[\"fake\"]}");
	instance_of_service("frozen", id);
	works("POST", "/v1/services/default/frozen/-/pause", "{}");
	v = ask("GET", "/v1/services/default/frozen/-", NULL, &status);
	assert_string_equal(text(v, "status"), "paused");
	assert_true(
		json_is_true(json_object_get(json_array_get(json_object_get(v, "instances"), 0), "paused")));
	json_decref(v);
	refused("POST", "/v1/services/default/frozen/-/pause", "{\"instance\":\"7\"}", 409,
		"no instance of 'frozen'");
	works("POST", "/v1/services/default/frozen/-/unpause", "{\"instance\":\"0\"}");
	v = ask("GET", "/v1/services/default/frozen/-", NULL, &status);
	assert_string_equal(text(v, "status"), "running");
	json_decref(v);
	works("POST", "/v1/services/default/frozen/-/pause", "{}");
	kill_service("frozen"); /* a stop thaws */
}

static void archives_go_in_and_come_out(void **state)
{
	/* A file "f" of 6 MiB, as ustar. */
	static char head[512] = "f";
	struct flow tar = {.head = head, .head_len = sizeof head, .n = 512 + (6 << 20) + 1024};
	struct davit_client_request q = {.method = "GET"};
	char target[128], id[32], *answer, block[65536];
	struct davit_client *c;
	unsigned sum = 0;
	size_t total = 0;
	ssize_t n;
	int status;

	(void)state;
	works("POST", "/v1/services", "{\"name\":\"files\",\"command\":[\"fake\"]}");
	instance_of_service("files", id);
	strcpy(head + 100, "0000644");
	strcpy(head + 124, "00030000000");
	memset(head + 148, ' ', 8);
	head[156] = '0';
	memcpy(head + 257, "ustar\00000", 8);
	for (size_t i = 0; i < sizeof head; i++)
		sum += (unsigned char)head[i];
	snprintf(head + 148, 8, "%06o", sum);
	snprintf(target, sizeof target, "/v1/instances/%s/archive?path=/tmp", id);
	assert_int_equal(stream_in("PUT", target, &tar, &answer), 200);
	free(answer);
	snprintf(target, sizeof target, "/v1/instances/%s/archive?path=/tmp/f", id);
	q.target = target;
	c = dial();
	assert_int_equal(davit_client_send(c, &q, &status, NULL), 0);
	assert_int_equal(status, 200);
	assert_string_equal(davit_client_header(c, "Content-Type"), "application/x-tar");
	while ((n = davit_client_read(c, block, sizeof block, NULL)) > 0) {
		if (!total)
			assert_string_equal(block, "f");
		total += (size_t)n;
	}
	assert_int_equal(n, 0);
	assert_true(total >= tar.n - 1024);
	davit_client_close(c);
	tar.sent = 0;
	snprintf(target, sizeof target, "/v1/instances/%s/archive?path=/nope", id);
	refused("GET", target, NULL, 404, "/nope: no such file or directory");
	assert_int_equal(stream_in("PUT", target, &tar, &answer), 404);
	free(answer);
	snprintf(target, sizeof target, "/v1/instances/%s/archive?path=tmp", id);
	refused("GET", target, NULL, 400, "must be absolute");
	kill_service("files");
}

static void a_terminal_wants_a_websocket_and_a_runtime_that_has_them(void **state)
{
	char id[32], target[128];
	struct davit_client_request q = {.method = "GET",
					 .target = target,
					 .upgrade = "websocket",
					 .headers = websocket,
					 .n_headers = DAVIT_ARRAY_SIZE(websocket)};
	struct davit_client *c;
	int status;

	(void)state;
	works("POST", "/v1/services", "{\"name\":\"t\",\"command\":[\"fake\"]}");
	instance_of_service("t", id);
	snprintf(target, sizeof target, "/v1/instances/%s/terminal?command=%%5B%%22sh%%22%%5D", id);
	refused("GET", target, NULL, 426, "this path is a WebSocket");
	refused("GET", "/v1/terminals/0123456789abcdef", NULL, 426, "this path is a WebSocket");
	refused("DELETE", "/v1/terminals/0123456789abcdef", NULL, 404,
		"terminal '0123456789abcdef' not found");
	works("GET", "/v1/terminals", NULL);
	snprintf(target, sizeof target, "/v1/instances/%s/terminal?command=sh", id);
	c = dial();
	assert_int_equal(davit_client_send(c, &q, &status, NULL), 0);
	assert_int_equal(status, 400); /* command is a JSON array */
	davit_client_close(c);
	kill_service("t");
}

/* --- workspaces --- */

static void check_workspace(const char *method, const char *target, const char *body, const char *name,
			    const char *state)
{
	int status;
	json_t *v = ask(method, target, body, &status);

	if (status != 200)
		fail_msg("%s %s: %s", method, target, json_dumps(v, 0));
	assert_string_equal(text(v, "name"), name);
	assert_string_equal(text(v, "state"), state);
	assert_int_equal(strlen(text(v, "id")), 64);
	json_decref(v);
}

static void a_workspace_is_made_found_switched_and_removed(void **state)
{
	static const char body[] = "{\"source\":\"/tmp\",\"runtime\":\"fake\",\"name\":\"My Work\"}";
	char by_id[96];
	int status;
	json_t *v;

	(void)state;
	check_workspace("POST", "/v1/workspaces", body, "my-work", "stopped");
	check_workspace("POST", "/v1/workspaces", body, "my-work-2", "stopped");
	v = ask("GET", "/v1/workspaces/my-work", NULL, &status);
	snprintf(by_id, sizeof by_id, "/v1/workspaces/%.12s", text(v, "id"));
	json_decref(v);
	check_workspace("GET", by_id, NULL, "my-work", "stopped");
	for (int i = 0; i < 2; i++) /* twice is as once */
		check_workspace("POST", "/v1/workspaces/my-work/start", NULL, "my-work", "running");
	refused("DELETE", by_id, NULL, 409,
		"workspace 'my-work' is running; stop it first, or remove it with --force");
	for (int i = 0; i < 2; i++)
		check_workspace("POST", "/v1/workspaces/my-work/stop", NULL, "my-work", "stopped");
	works("DELETE", by_id, NULL);
	refused("GET", by_id, NULL, 404, "not found");
	works("POST", "/v1/workspaces/my-work-2/start", NULL);
	works("DELETE", "/v1/workspaces/my-work-2?force=true", NULL);
	v = ask("GET", "/v1/workspaces", NULL, &status);
	assert_int_equal(json_array_size(v), 0);
	json_decref(v);
}

static void a_workspace_that_cannot_be_is_refused_and_leaves_no_record(void **state)
{
#define WORKSPACE(more) "{\"source\":\"/tmp\",\"runtime\":\"fake\"" more "}"
	static const char at[] = "/v1/workspaces";
	int status;
	json_t *v;

	(void)state;
	refused("POST", at, "{\"source\":\"/tmp\"}", 400, "the body lacks 'runtime'");
	refused("POST", at, "{\"source\":\"tmp\",\"runtime\":\"fake\"}", 400, "must be an absolute path");
	refused("POST", at, "{\"source\":\"/nonexistent\",\"runtime\":\"fake\"}", 404, "/nonexistent");
	refused("POST", at, "{\"source\":\"/tmp\",\"runtime\":\"fak\"}", 404, "did you mean 'fake'?");
	refused("POST", at, WORKSPACE(",\"config\":[]"), 400, "config must be an object");
	refused("POST", at, WORKSPACE(",\"config\":{\"mouns\":[]}"), 400, "did you mean 'mounts'?");
	refused("POST", at, WORKSPACE(",\"config\":{\"secrets\":[\"none\"]}"), 422, "secrets");
	refused("POST", at, WORKSPACE(",\"config\":{\"network\":{\"mode\":\"deny\",\"hosts\":[\"a\"]}}"), 422,
		"no runtime can let single hosts through");
	refused("POST", at, WORKSPACE(",\"start\":true,\"config\":{\"command\":[\"fake\",\"fail-create\"]}"),
		409, "workspace 'tmp' was not started");
	refused("POST", at, WORKSPACE(",\"start\":true,\"config\":{\"command\":[\"fake\",\"fail-exec\"]}"),
		409, "workspace 'tmp' was not started");
	v = ask("GET", at, NULL, &status);
	assert_int_equal(json_array_size(v), 0);
	json_decref(v);
}

static void a_workspace_that_ended_says_so(void **state)
{
	static const char fails[] =
		"{\"source\":\"/tmp\",\"runtime\":\"fake\",\"name\":\"fails\",\"start\":true,"
		"\"config\":{\"command\":[\"fake\",\"run\",\"50ms\",\"exit\",\"3\"]}}";
	const char *is = "";
	int status;
	json_t *v;

	(void)state;
	check_workspace("POST", "/v1/workspaces", fails, "fails", "running");
	for (int i = 0; i < 100 && strcmp(is, "error") != 0; i++) {
		usleep(10000);
		v = ask("GET", "/v1/workspaces/fails", NULL, &status);
		is = strcmp(text(v, "state"), "error") ? "" : "error";
		json_decref(v);
	}
	v = ask("GET", "/v1/workspaces/fails", NULL, &status);
	assert_string_equal(text(v, "state"), "error");
	assert_string_equal(text(v, "error"), "exit code 3");
	json_decref(v);
	works("DELETE", "/v1/workspaces/fails", NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_openapi_document_has_exactly_the_routes),
		cmocka_unit_test(every_documented_path_answers),
		cmocka_unit_test(what_is_unknown_is_refused_by_name_with_the_nearest_known),
		cmocka_unit_test(names_with_slashes_and_colons_are_escaped_in_paths),
		cmocka_unit_test(a_watch_tells_what_is_there_then_sync_then_changes),
		cmocka_unit_test(a_log_resumes_exactly_and_follows_later_instances),
		cmocka_unit_test(tail_counts_lines_of_each_instance),
		cmocka_unit_test(events_resume_behind_an_id),
		cmocka_unit_test(a_run_is_begun_followed_to_its_end_and_removed),
		cmocka_unit_test(a_plan_that_is_none_begins_no_run),
		cmocka_unit_test(a_stream_can_be_server_sent_events),
		cmocka_unit_test(a_command_gets_its_input_and_gives_output_and_status),
		cmocka_unit_test(secrets_are_listed_and_never_told),
		cmocka_unit_test(images_come_as_streams_of_any_length_and_go_by_name),
		cmocka_unit_test(a_load_that_its_client_leaves_brings_nothing),
		cmocka_unit_test(volumes_and_networks_are_kept_by_name),
		cmocka_unit_test(a_paused_service_says_so),
		cmocka_unit_test(archives_go_in_and_come_out),
		cmocka_unit_test(a_terminal_wants_a_websocket_and_a_runtime_that_has_them),
		cmocka_unit_test(a_workspace_is_made_found_switched_and_removed),
		cmocka_unit_test(a_workspace_that_cannot_be_is_refused_and_leaves_no_record),
		cmocka_unit_test(a_workspace_that_ended_says_so),
		cmocka_unit_test(runs_have_ended),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, start, finish);
}
