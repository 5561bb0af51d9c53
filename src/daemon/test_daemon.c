/* SPDX-License-Identifier: MIT */
#include "daemon/test_daemon.h"

#include "daemon/runs.h"

#include "net/unix.h"
#include "runtime/fake/fake.h"
#include "store/stores.h"

#include <pthread.h>
#include <uv.h>

const struct davit_client_header websocket[2] = {{"Sec-WebSocket-Version", "13"},
						 {"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}};

struct davit_daemon d;
char dir[] = "/tmp/davit-api-XXXXXX";
static uv_async_t stop;
static pthread_t thread;
atomic_int ended;
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

int start(void **state)
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

int finish(void **state)
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

struct davit_client *dial(void)
{
	struct davit_client *c;

	assert_int_equal(davit_client_open(d.paths.socket, &c, NULL), 0);
	davit_client_set_timeout(c, 60 * DAVIT_NSEC_PER_SEC);
	return c;
}

json_t *ask(const char *method, const char *target, const char *body, int *ret_status)
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

void works(const char *method, const char *target, const char *body)
{
	int status;
	json_t *v = ask(method, target, body, &status);

	if (status != 200)
		fail_msg("%s %s: %s", method, target, json_dumps(v, 0));
	json_decref(v);
}

void refused(const char *method, const char *target, const char *body, int status, const char *message)
{
	int got;
	json_t *v = ask(method, target, body, &got);
	const char *said = json_string_value(json_object_get(json_object_get(v, "error"), "message"));

	if (got != status || !said || !strstr(said, message))
		fail_msg("%s %s: wanted %d \"%s\", got %d \"%s\"", method, target, status, message, got,
			 said);
	json_decref(v);
}

struct davit_client *open_stream(const char *target)
{
	struct davit_client *c = dial();
	int status;

	assert_int_equal(
		davit_client_send(c, &(struct davit_client_request){.target = target}, &status, NULL), 0);
	assert_int_equal(status, 200);
	return c;
}

json_t *next(struct davit_client *c)
{
	const char *line;
	size_t n;
	int r = davit_client_line(c, &line, &n, NULL);
	json_t *v = r == 1 ? json_loadb(line, n, 0, NULL) : NULL;

	assert_true(r == 0 || v);
	return v;
}

const char *text(json_t *v, const char *key)
{
	const char *s = json_string_value(json_object_get(v, key));

	return s ? s : "";
}

void kill_service(const char *name)
{
	char target[128];

	snprintf(target, sizeof target, "/v1/services/default/%s/-?wait=true", name);
	works("DELETE", target, NULL);
}

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

int stream_in(const char *method, const char *target, struct flow *f, char **ret)
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

char *instance_of_service(const char *name, char id[32])
{
	char target[128];

	snprintf(target, sizeof target, "/v1/services/default/%s/-", name);
	for (int i = 0; i < 6000; i++) {
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
