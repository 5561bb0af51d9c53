/* SPDX-License-Identifier: MIT
 *
 * A command inside an instance, over a connection that switches to frames: one
 * byte type, three zero bytes, a 32-bit big-endian length, that many bytes.
 */
#include "daemon/api.h"

#include "base/strv.h"
#include "base/units.h"

#include <stdio.h>
#include <string.h>

enum frame {
	FRAME_STDIN = 0,
	FRAME_STDOUT = DAVIT_STDOUT,
	FRAME_STDERR = DAVIT_STDERR,
	FRAME_END = 3,
	FRAME_SIZE = 4,
	FRAME_SIGNAL = 5,
	FRAME_STDIN_END = 6,
};

enum { HEADER = 8, PAYLOAD_MAX = 1024 * 1024 };

struct exec {
	struct api_call *call;
	struct davit_exec *x;
	struct davit_op op;
	char **argv, **env;
	struct davit_buf in;	  /* frames that were not used up */
	size_t taken;		  /* of the payload of the first one */
	struct davit_buf early;	  /* frames out, before the connection has switched */
	struct davit_timer retry; /* of input that the command does not read */
	int64_t delay;
	struct davit_deferred end;
	bool starting;
	bool gone;    /* the client, while it was starting */
	bool running; /* the connection has switched */
	bool paused;  /* output waits for the client */
	bool ended;
	struct davit_exit exit;
};

static const struct davit_exec_facet *facet(const struct exec *e)
{
	return e->x->instance->runtime->driver->exec;
}

static void free_exec(struct exec *e)
{
	if (e->x)
		davit_core_exec_free(e->x);
	davit_timer_stop(&e->retry);
	davit_deferred_cancel(&e->end);
	davit_strv_free(e->argv);
	davit_strv_free(e->env);
	davit_buf_fini(&e->in);
	davit_buf_fini(&e->early);
	api_call_free(e->call);
	free(e);
}

/* --- to the client --- */

static bool send_frame(struct exec *e, enum frame type, const void *data, size_t n)
{
	DAVIT_AUTO_BUF frame = DAVIT_BUF_INIT;
	unsigned char header[HEADER] = {(unsigned char)type,
					0,
					0,
					0,
					(unsigned char)(n >> 24),
					(unsigned char)(n >> 16),
					(unsigned char)(n >> 8),
					(unsigned char)n};

	if (!e->running) {
		davit_buf_add(&e->early, header, sizeof header);
		davit_buf_add(&e->early, data, n);
		return false;
	}
	davit_buf_add(&frame, header, sizeof header);
	davit_buf_add(&frame, data, n);
	return davit_http_write(e->call->request, davit_buf_str(&frame), frame.len);
}

static bool on_output(struct davit_exec *x, enum davit_stream stream, const void *data, size_t n)
{
	struct exec *e = x->owner;

	e->paused = !send_frame(e, (enum frame)stream, data, n);
	return !e->paused;
}

static void on_exited(struct davit_exec *x, const struct davit_exit *exit)
{
	struct exec *e = x->owner;

	e->ended = true;
	e->exit = *exit;
	if (e->running)
		davit_defer(&e->end);
}

void api_write_exit(struct davit_buf *out, const struct davit_exit *exit)
{
	struct davit_json j = DAVIT_JSON_INIT(out);
	struct davit_error err;

	if (exit->kind == DAVIT_EXIT_EXEC || exit->kind == DAVIT_EXIT_UNKNOWN) {
		davit_error_set(&err, exit->kind == DAVIT_EXIT_EXEC ? DAVIT_EEXEC : DAVIT_ECLOSED, NULL, "%s",
				exit->reason[0] ? exit->reason : "the command is gone, its status unknown");
		davit_http_error_json(out, &err);
		return;
	}
	davit_json_open(&j);
	if (exit->kind == DAVIT_EXIT_CODE)
		davit_json_put_int(&j, "code", exit->code);
	else
		davit_json_put_int(&j, "signal", exit->signal);
	davit_json_close(&j);
}

static void end(struct exec *e)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;

	api_write_exit(&text, &e->exit);
	send_frame(e, FRAME_END, davit_buf_str(&text), text.len);
	davit_http_end(e->call->request);
	free_exec(e);
}

static void on_end(struct davit_deferred *d)
{
	end(DAVIT_CONTAINER_OF(d, struct exec, end));
}

/* --- from the client --- */

static void malformed(struct exec *e, const char *what)
{
	e->exit = (struct davit_exit){.kind = DAVIT_EXIT_UNKNOWN};
	snprintf(e->exit.reason, sizeof e->exit.reason, "malformed frame: %s", what);
	davit_buf_reset(&e->in);
	davit_defer(&e->end);
}

/* False: the command does not take it now. */
static bool give_stdin(struct exec *e, const char *data, size_t n)
{
	while (e->taken < n) {
		ssize_t r = facet(e)->write(e->x, data + e->taken, n - e->taken);
		if (r == 0)
			return false;
		if (r < 0)
			break; /* it has closed its input: what comes is thrown away */
		e->taken += (size_t)r;
	}
	e->taken = 0;
	return true;
}

static void set_size(struct exec *e, const char *data, size_t n)
{
	json_t *size = json_loadb(data, n, 0, NULL);
	json_int_t rows = json_integer_value(json_object_get(size, "rows"));
	json_int_t columns = json_integer_value(json_object_get(size, "columns"));

	json_decref(size);
	if (rows < 1 || rows > UINT16_MAX || columns < 1 || columns > UINT16_MAX)
		malformed(e, "rows and columns must be between 1 and 65535");
	else
		facet(e)->resize(e->x, (uint16_t)rows, (uint16_t)columns);
}

/* One frame. False: it must wait. */
static bool take_frame(struct exec *e, unsigned type, const char *data, size_t n)
{
	switch (type) {
	case FRAME_STDIN:
		return give_stdin(e, data, n);
	case FRAME_SIZE:
		set_size(e, data, n);
		return true;
	case FRAME_SIGNAL:
		if (n == 1 && data[0] > 0 && data[0] <= 64)
			facet(e)->signal(e->x, data[0], NULL); /* one that just ended needs none */
		else
			malformed(e, "a signal is one byte");
		return true;
	case FRAME_STDIN_END:
		facet(e)->close_input(e->x);
		return true;
	default:
		malformed(e, "unknown type");
		return true;
	}
}

/* Uses up whole frames; stops the client's input while the command reads none. */
static void take_frames(struct exec *e)
{
	size_t used = 0;
	bool wait = false;

	while (!wait && !e->ended && !e->end.queued && e->in.len - used >= HEADER) {
		const unsigned char *h = (const unsigned char *)e->in.data + used;
		size_t n = (size_t)h[4] << 24 | (size_t)h[5] << 16 | (size_t)h[6] << 8 | h[7];
		if (h[1] || h[2] || h[3] || n > PAYLOAD_MAX) {
			malformed(e, "too long, or no frame");
			return;
		}
		if (e->in.len - used < HEADER + n)
			break;
		wait = !take_frame(e, h[0], (const char *)h + HEADER, n);
		if (!wait)
			used += HEADER + n;
	}
	davit_buf_consume(&e->in, used);
	davit_http_pause_input(e->call->request, wait);
	if (!wait) {
		e->delay = 0;
		return;
	}
	e->delay = !e->delay			       ? 2 * DAVIT_NSEC_PER_MSEC
		   : e->delay < DAVIT_NSEC_PER_SEC / 8 ? 2 * e->delay
						       : e->delay;
	davit_timer_start(&e->retry, e->delay);
}

static void on_retry(struct davit_timer *t)
{
	take_frames(DAVIT_CONTAINER_OF(t, struct exec, retry));
}

static void on_input(struct davit_http_request *r, const void *data, size_t n)
{
	struct api_call *call = r->user;
	struct exec *e = call->state;

	davit_buf_add(&e->in, data, n);
	if (e->in.oom)
		malformed(e, "out of memory");
	else if (!davit_timer_active(&e->retry))
		take_frames(e);
}

static void on_writable(struct davit_http_request *r)
{
	struct api_call *call = r->user;
	struct exec *e = call->state;

	if (!e->paused || e->ended || !e->x->instance)
		return;
	e->paused = false;
	facet(e)->resume(e->x);
}

/* The client has gone: so does the command. */
static void on_closed(struct davit_http_request *r)
{
	struct api_call *call = r->user;
	struct exec *e = call->state;

	if (!e->starting) {
		free_exec(e);
		return;
	}
	e->gone = true;
	davit_op_cancel(&e->op);
}

/* --- beginning --- */

static void started(struct davit_op *op, int result)
{
	struct exec *e = op->user;
	struct api_call *call = e->call;

	e->starting = false;
	if (e->gone) {
		free_exec(e);
		return;
	}
	if (result < 0) {
		e->call = NULL;
		api_fail(call, &op->error);
		free_exec(e);
		return;
	}
	call->request->input = on_input;
	call->request->writable = on_writable;
	davit_http_upgrade(call->request, "davit-exec");
	e->running = true;
	e->paused = !davit_http_write(call->request, davit_buf_str(&e->early), e->early.len);
	davit_buf_fini(&e->early);
	if (e->ended) {
		davit_defer(&e->end);
	} else if (!e->paused && e->x->instance) {
		facet(e)->resume(e->x);
	}
}

static char **strings(json_t *list)
{
	char **v = NULL;

	for (size_t i = 0; i < json_array_size(list); i++) {
		if (davit_strv_add(&v, json_string_value(json_array_get(list, i))) < 0) {
			davit_strv_free(v);
			return NULL;
		}
	}
	return v;
}

static struct exec *new_exec(struct api_call *call)
{
	json_t *env = json_object_get(call->body, "env");
	struct exec *e = calloc(1, sizeof *e);

	if (!e)
		return NULL;
	davit_timer_init(&e->retry, call->daemon->loop, on_retry);
	davit_deferred_init(&e->end, call->daemon->loop, on_end);
	davit_op_init(&e->op, call->daemon->loop, started, e);
	e->argv = strings(json_object_get(call->body, "command"));
	e->env = strings(env);
	if (!e->argv || (env && !e->env)) {
		free_exec(e);
		return NULL;
	}
	return e;
}

static uint16_t size_of(const struct api_call *call, const char *key, uint16_t deflt)
{
	json_t *v = json_object_get(call->body, key);

	return v ? (uint16_t)json_integer_value(v) : deflt;
}

void api_instance_exec(struct api_call *call)
{
	const char *protocol = davit_http_header(call->request, "Upgrade");
	struct davit_instance *instance;
	struct davit_error err = {0};
	struct davit_exec init;
	struct exec *e;

	if (!call->request->upgrade || !protocol || strcmp(protocol, "davit-exec")) {
		davit_http_add_header(call->request, "Upgrade", "davit-exec");
		davit_error_set(&err, DAVIT_EINVAL, "upgrade", "exec needs the header Upgrade: davit-exec");
		davit_http_reply_error(call->request, 426, &err);
		api_call_free(call);
		return;
	}
	if (api_instance(call, &instance) < 0)
		return;
	e = new_exec(call);
	if (!e) {
		api_fail_with(call, DAVIT_ENOMEM, NULL, "out of memory");
		return;
	}
	init = (struct davit_exec){
		.argv = e->argv,
		.env = e->env,
		.directory = json_string_value(json_object_get(call->body, "directory")),
		.user = json_string_value(json_object_get(call->body, "user")),
		.tty = json_is_true(json_object_get(call->body, "tty")),
		.rows = size_of(call, "rows", 24),
		.columns = size_of(call, "columns", 80),
		.owner = e,
		.output = on_output,
		.exited = on_exited,
	};
	e->x = davit_core_exec_new(call->daemon->core, instance, &init, &err);
	if (!e->x) {
		free_exec(e);
		api_fail(call, &err);
		return;
	}
	e->call = call;
	e->starting = true;
	call->state = e;
	call->request->closed = on_closed;
	davit_op_begin(&e->op, 60 * DAVIT_NSEC_PER_SEC);
	facet(e)->start(e->x, &e->op);
}
