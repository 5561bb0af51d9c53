/* SPDX-License-Identifier: MIT
 *
 * The daemon itself, its runtimes and tree, and instances.
 */
#include "daemon/api.h"
#include "daemon/runs.h"

#include "base/units.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static void reply_json(struct api_call *call, json_t *value)
{
	DAVIT_AUTO_FREE char *text = value ? json_dumps(value, JSON_COMPACT) : NULL;
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;

	json_decref(value);
	if (!text) {
		api_fail_with(call, DAVIT_ENOMEM, NULL, "out of memory");
		return;
	}
	davit_buf_adds(&out, text);
	api_reply(call, &out);
}

/* --- what it is --- */

void api_version_get(struct api_call *call)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&out);

	davit_json_open(&j);
	davit_json_put_string(&j, "version", DAVIT_VERSION);
	davit_json_put_int(&j, "api", 1);
	davit_json_put_int(&j, "pid", getpid());
	davit_json_put_time(&j, "started", call->daemon->started);
	davit_json_close(&j);
	api_reply(call, &out);
}

void api_openapi_get(struct api_call *call)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;

	api_openapi(&out);
	api_reply(call, &out);
}

void api_daemon_get(struct api_call *call)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&out);
	const char *home = getenv("DAVIT_HOME");
	char started[DAVIT_TIME_MAX];
	json_t *health;

	davit_core_write_health(call->daemon->core, &j);
	health = out.oom ? NULL : json_loadb(davit_buf_str(&out), out.len, 0, NULL);
	davit_time_format(call->daemon->started, started);
	if (!health || json_object_set_new(health, "pid", json_integer(getpid())) < 0 ||
	    json_object_set_new(health, "version", json_string(DAVIT_VERSION)) < 0 ||
	    json_object_set_new(health, "started", json_string(started)) < 0 ||
	    json_object_set_new(health, "home", home && home[0] ? json_string(home) : json_null()) < 0 ||
	    json_object_set_new(health, "socket", json_string(call->daemon->paths.socket)) < 0) {
		json_decref(health);
		health = NULL;
	}
	reply_json(call, health);
}

/* --- its end --- */

static void quit(struct davit_http_request *r)
{
	daemon_end(r->user, DAEMON_QUITS);
}

static void drained(void *user)
{
	daemon_end(user, DAEMON_UPGRADES);
}

/* Nobody whose request has come is cut off; who comes now waits in the socket's
 * queue for the successor. */
static void upgrade(struct davit_http_request *r)
{
	struct davit_daemon *d = r->user;

	davit_http_server_drain(d->server, 2 * DAVIT_NSEC_PER_SEC, drained, d);
}

/* Answers, and ends the daemon when the answer has left. */
static void reply_and_end(struct api_call *call, void (*sent)(struct davit_http_request *))
{
	call->request->user = call->daemon;
	call->request->sent = sent;
	api_empty(call);
}

static void all_stopped(struct davit_op *op, int result)
{
	struct api_call *call = op->user;

	if (result < 0)
		api_fail(call, &op->error);
	else
		reply_and_end(call, quit);
}

static void runs_stopped(void *user)
{
	struct api_call *call = user;

	davit_op_init(&call->op, call->daemon->loop, all_stopped, call);
	davit_op_begin(&call->op, 0);
	davit_core_stop_all(call->daemon->core, &call->op);
}

void api_daemon_stop(struct api_call *call)
{
	if (!json_is_true(json_object_get(call->body, "all"))) {
		reply_and_end(call, quit);
		return;
	}
	runs_abort_all(call->daemon->runs, runs_stopped, call);
}

void api_daemon_upgrade(struct api_call *call)
{
	struct davit_daemon *d = call->daemon;
	const char *program = json_string_value(json_object_get(call->body, "program"));
	struct davit_error err;
	struct stat st;
	char *copy;

	if (!program)
		program = d->self;
	if (program[0] != '/') {
		api_fail_with(call, DAVIT_EINVAL, "program", "'%s' is no absolute path", program);
		return;
	}
	if (stat(program, &st) < 0 || access(program, X_OK) < 0) {
		api_fail_with(call, DAVIT_EEXEC, "program", "cannot execute %s: %s", program,
			      strerror(errno));
		return;
	}
	if (!S_ISREG(st.st_mode)) {
		api_fail_with(call, DAVIT_EEXEC, "program", "%s is no program", program);
		return;
	}
	if (program != d->self && daemon_check_program(program, &err) < 0) {
		api_fail(call, &err);
		return;
	}
	copy = strdup(program);
	if (!copy) {
		api_fail_with(call, DAVIT_ENOMEM, NULL, "out of memory");
		return;
	}
	free(d->program);
	d->program = copy;
	reply_and_end(call, upgrade);
}

/* --- runtimes, tree --- */

void api_tree_get(struct api_call *call)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&out);

	davit_core_write_tree(call->daemon->core, &j);
	api_reply(call, &out);
}

void api_runtimes_get(struct api_call *call)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&out);

	davit_core_write_runtimes(call->daemon->core, &j);
	api_reply(call, &out);
}

/* --- instances --- */

struct listing {
	struct davit_json json;
	const struct davit_spec *spec; /* of the service at hand */
};

/* The instance as its service's status has it, with the service's name first. */
static bool write_instance(void *user, struct davit_instance *i)
{
	struct listing *l = user;
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	DAVIT_AUTO_BUF service = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&out);

	davit_instance_write(i, &j);
	davit_buf_addf(&service, "%s/%s:%s", l->spec->namespace_, l->spec->name, l->spec->version);
	davit_json_open(&l->json);
	davit_json_put_string(&l->json, "service", davit_buf_str(&service));
	if (out.oom)
		l->json.out->oom = true;
	else
		davit_buf_addf(l->json.out, ",%s", out.data + 1); /* its brace closes the object */
	l->json.comma = true;
	return true;
}

static bool write_instances(void *user, struct davit_service *s)
{
	struct listing *l = user;

	l->spec = davit_service_spec(s);
	davit_service_instances(s, write_instance, l);
	return true;
}

void api_instances_list(struct api_call *call)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	struct listing l = {.json = DAVIT_JSON_INIT(&out)};
	struct davit_selector sel = api_selector(call);

	davit_json_open_array(&l.json);
	davit_core_services(call->daemon->core, &sel, write_instances, &l);
	davit_json_close_array(&l.json);
	api_reply(call, &out);
}

static void write_known(struct davit_json *j, const char *key, uint64_t v)
{
	davit_json_key(j, key);
	if (v)
		davit_json_int(j, (int64_t)v);
	else
		davit_json_null(j);
}

static void write_counted(struct davit_json *j, const char *key, int64_t v)
{
	davit_json_key(j, key);
	if (v >= 0)
		davit_json_int(j, v);
	else
		davit_json_null(j);
}

static void stats_read(struct davit_op *op, int result)
{
	struct api_call *call = op->user;
	struct davit_stats *stats = call->state;
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&out);

	davit_json_open(&j);
	davit_json_put_int(&j, "cpu", (int64_t)stats->cpu_ns);
	davit_json_put_int(&j, "memory", (int64_t)stats->memory);
	write_known(&j, "memoryPeak", stats->memory_peak);
	write_known(&j, "memoryLimit", stats->memory_limit);
	davit_json_put_int(&j, "processes", stats->processes);
	write_known(&j, "readBytes", stats->read_bytes);
	write_known(&j, "writeBytes", stats->write_bytes);
	write_counted(&j, "netRxBytes", stats->net_rx_bytes);
	write_counted(&j, "netTxBytes", stats->net_tx_bytes);
	davit_json_close(&j);
	free(stats);
	if (result < 0)
		api_fail(call, &op->error);
	else
		api_reply(call, &out);
}

void api_instance_stats(struct api_call *call)
{
	struct davit_instance *instance;
	struct davit_stats *stats;
	struct davit_error err = {0};

	if (api_instance(call, &instance) < 0)
		return;
	stats = calloc(1, sizeof *stats);
	if (!stats) {
		api_fail_with(call, DAVIT_ENOMEM, NULL, "out of memory");
		return;
	}
	call->state = stats;
	davit_op_init(&call->op, call->daemon->loop, stats_read, call);
	davit_op_begin(&call->op, 10 * DAVIT_NSEC_PER_SEC);
	if (davit_core_stats(call->daemon->core, instance, stats, &call->op, &err) < 0) {
		davit_timer_stop(&call->op.deadline);
		free(stats);
		api_fail(call, &err);
	}
}
