/* SPDX-License-Identifier: MIT
 *
 * The driver's tables; open and close, loss and return.
 */
#include "runtime/engine/impl.h"

#include "base/file.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define API_MIN 24
#define API_MAX 41
#define CONNECTIONS 16

static void on_again(struct davit_timer *t)
{
	engine_reconcile(DAVIT_CONTAINER_OF(t, struct engine, again));
}

/* --- open --- */

static void let_go(struct engine *e)
{
	events_close(e);
	http_close(&e->calls);
	http_close(&e->streams);
	free(DAVIT_TAKE(e->socket));
	e->phase = ENGINE_CLOSED;
}

static void open_failed(struct engine *e, int code, const char *text)
{
	struct davit_op *op = DAVIT_TAKE(e->opening);

	e->handshake = NULL;
	davit_op_fail(op, code, e->rt->name, "%s: %s", e->flavour->name, text);
	let_go(e);
}

static void on_open_cancel(struct davit_op *op, int why)
{
	struct engine *e = engine_of(op->performer);

	http_cancel(DAVIT_TAKE(e->handshake));
	open_failed(e, why, davit_error_doc(why));
}

static void ask(struct engine *e, const char *path,
		void (*done)(struct http_call *c, const struct davit_error *err))
{
	struct http_call *c = http_new(&e->calls, "GET", "%s", path);

	if (c) {
		c->user = e;
		c->done = done;
	}
	if (c && http_send(c, NULL) == 0)
		e->handshake = c;
	else
		open_failed(e, DAVIT_ENOMEM, "out of memory");
}

/* A name for what is ours that no other davit has, wherever it runs. */
static int learn_home(struct engine *e, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *path = davit_path_join(e->rt->state_dir, "home");
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;

	if (!path)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (davit_read_file(path, 64, &text, NULL) == 0 && text.len == DAVIT_ID_MAX - 1 &&
	    strspn(text.data, "0123456789abcdef") == text.len) {
		memcpy(e->home, text.data, sizeof e->home);
		return 0;
	}
	snprintf(e->home, sizeof e->home, "%016" PRIx64, davit_loop_random(e->rt->loop));
	return davit_write_file(path, e->home, strlen(e->home), 0600, err);
}

static void set_capabilities(struct engine *e, const json_t *info)
{
	static const enum davit_capability always[] = {
		DAVIT_CAP_SURVIVE,	 DAVIT_CAP_EXIT_STATUS,	   DAVIT_CAP_LOGS,
		DAVIT_CAP_EXEC,		 DAVIT_CAP_TERMINAL,	   DAVIT_CAP_TERMINAL_KEPT,
		DAVIT_CAP_COPY,		 DAVIT_CAP_IMAGE_BUILD,	   DAVIT_CAP_STATS,
		DAVIT_CAP_SIGNAL,	 DAVIT_CAP_TREE_STOP,	   DAVIT_CAP_USER,
		DAVIT_CAP_DIRECTORY,	 DAVIT_CAP_RLIMITS,	   DAVIT_CAP_PORTS,
		DAVIT_CAP_PORT_MAPPING,	 DAVIT_CAP_VOLUMES,	   DAVIT_CAP_TMPFS,
		DAVIT_CAP_NAMED_VOLUMES, DAVIT_CAP_NETWORKS,	   DAVIT_CAP_DNS,
		DAVIT_CAP_IMAGES,	 DAVIT_CAP_READ_ONLY_ROOT, DAVIT_CAP_LINUX_CAPABILITIES,
		DAVIT_CAP_PAUSE,	 DAVIT_CAP_SECRETS,
	};
	static const struct {
		enum davit_capability cap;
		const char *why_not;
	} never[] = {
		{DAVIT_CAP_DISK_LIMIT, "engines limit a container's disk on few file systems, silently"},
		{DAVIT_CAP_NOTIFY, "an engine has no way to hand a notify socket to davitd and keep it"},
		{DAVIT_CAP_READY_FD, "an engine passes no descriptors"},
		{DAVIT_CAP_SERVICE_ACCOUNT, "an engine has no accounts"},
		{DAVIT_CAP_EGRESS,
		 "an engine starts a container and its network at once, before rules can be there"},
	};
	struct davit_capabilities *c = &e->capabilities;

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(always); i++)
		c->why_not[always[i]][0] = '\0';
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(never); i++)
		snprintf(c->why_not[never[i].cap], sizeof c->why_not[0], "%s", never[i].why_not);
	snprintf(c->why_not[DAVIT_CAP_OOM_REPORT], sizeof c->why_not[0], "%s",
		 e->flavour->reports_oom ? "" : e->flavour->no_oom);
	observe_info(info, c, &e->swap_limit);
}

static void on_info(struct http_call *c, const struct davit_error *err)
{
	struct engine *e = c->user;
	json_t *info = err ? NULL : http_answer(c);
	struct davit_error why;

	if (err) {
		open_failed(e, err->code, err->message);
	} else if (!json_is_object(info)) {
		open_failed(e, DAVIT_EPROTO, "what it tells of itself makes no sense");
	} else if (learn_home(e, &why) < 0 || terminals_open(e, &why) < 0) {
		open_failed(e, why.code, why.message);
	} else {
		set_capabilities(e, info);
		e->handshake = NULL;
		e->phase = ENGINE_UP;
		davit_op_complete(DAVIT_TAKE(e->opening), 0);
	}
	json_decref(info);
}

/* Not of /version: Podman asks its packager for that, which takes a second. */
static void on_ping(struct http_call *c, const struct davit_error *err)
{
	struct engine *e = c->user;
	struct curl_header *h = NULL;
	int newest = 0;
	char text[128];

	if (err) {
		open_failed(e, err->code, err->message);
		return;
	}
	if (curl_easy_header(c->easy, "Api-Version", 0, CURLH_HEADER, -1, &h) == CURLHE_OK)
		newest = observe_version(h->value);
	if (newest < API_MIN) {
		snprintf(text, sizeof text, "its API is older than 1.%d (it has %.20s)", API_MIN,
			 h ? h->value : "none");
		open_failed(e, DAVIT_ENOTSUP, text);
		return;
	}
	/* One that has given up what we speak says so itself. */
	newest = newest > API_MAX ? API_MAX : newest;
	snprintf(e->calls.prefix, sizeof e->calls.prefix, "/v1.%d", newest);
	snprintf(e->streams.prefix, sizeof e->streams.prefix, "/v1.%d", newest);
	ask(e, "/info", on_info);
}

static void engine_open(struct davit_runtime *rt, const struct engine_flavour *flavour, struct davit_op *op)
{
	struct engine *e = engine_of(rt);
	struct davit_error err = {0};

	*e = (struct engine){.rt = rt, .flavour = flavour, .ports.mapped = true};
	if (!davit_loop_uv(rt->loop)) {
		davit_op_fail(op, DAVIT_ENOTSUP, rt->name, "an engine needs the real loop");
		return;
	}
	davit_list_init(&e->tasks);
	davit_list_init(&e->readers);
	davit_list_init(&e->execs);
	davit_timer_init(&e->again, rt->loop, on_again);
	e->opening = op;
	e->phase = ENGINE_OPENING;
	op->performer = rt;
	davit_op_on_cancel(op, on_open_cancel);
	e->socket = engine_flavour_socket(flavour, &err);
	if (!e->socket || http_open(&e->calls, rt->loop, e->socket, CONNECTIONS, &err) < 0 ||
	    http_open(&e->streams, rt->loop, e->socket, 0, &err) < 0) {
		open_failed(e, err.code, err.message);
		return;
	}
	ask(e, "/_ping", on_ping);
}

static void docker_open(struct davit_runtime *rt, struct davit_op *op)
{
	engine_open(rt, &engine_docker, op);
}

static void podman_open(struct davit_runtime *rt, struct davit_op *op)
{
	engine_open(rt, &engine_podman, op);
}

static void engine_close(struct davit_runtime *rt)
{
	struct engine *e = engine_of(rt);
	struct davit_error why;
	size_t pos = 0;
	void *inst;

	davit_error_set(&why, DAVIT_ECLOSED, rt->name, "the runtime was closed");
	e->phase = ENGINE_CLOSED;
	e->handshake = NULL;
	if (e->opening)
		davit_op_fail_error(DAVIT_TAKE(e->opening), &why);
	tasks_close(e, &why);
	logs_close_all(e);
	execs_close_all(e);
	local_terminal_keeper_close(&e->terminals);
	while (davit_map_next(&e->instances, &pos, NULL, &inst))
		container_forget(inst);
	davit_map_fini(&e->instances);
	programs_forget(e);
	seen_image_forget(e);
	local_ports_fini(&e->ports);
	davit_buf_fini(&e->mounts);
	let_go(e);
}

static void engine_capabilities(struct davit_runtime *rt, struct davit_capabilities *ret)
{
	*ret = engine_of(rt)->capabilities;
}

#define ENGINE_DRIVER(name_, summary_, open_)                                                                \
	{                                                                                                    \
		.abi = DAVIT_RUNTIME_ABI, .name = (name_), .summary = (summary_), .needs_image = true,       \
		.runtime_size = sizeof(struct engine), .instance_size = sizeof(struct engine_instance),      \
		.open = (open_), .close = engine_close, .capabilities = engine_capabilities,                 \
		.adopt = engine_adopt, .check = engine_check, .create = engine_create,                       \
		.start = engine_start, .stop = engine_stop, .remove = engine_remove,                         \
		.inspect = engine_inspect, .logs = &engine_logs, .exec = &engine_exec,                       \
		.stats = &engine_stats, .signal = &engine_signal, .ports = &engine_ports,                    \
		.terminal = &engine_terminal, .pause = &engine_pause, .copy = &engine_copy,                  \
		.images = &engine_images, .volumes = &engine_volumes, .networks = &engine_networks,          \
	}

const struct davit_runtime_driver davit_docker_driver =
	ENGINE_DRIVER("docker", "containers of a Docker Engine", docker_open);
const struct davit_runtime_driver davit_podman_driver =
	ENGINE_DRIVER("podman", "containers of Podman, through its service", podman_open);
