/* SPDX-License-Identifier: MIT
 *
 * Terminals: a WebSocket on one side, the driver's terminal facet on the other.
 * Binary messages are bytes; text messages are JSON control (docs/api.md).
 */
#include "daemon/api.h"

#include "base/signals.h"
#include "base/strv.h"
#include "base/units.h"
#include "net/websocket.h"

#include <string.h>

struct terminal {
	struct api_call *call;
	struct davit_terminal *t;
	struct davit_websocket *ws; /* once the command runs; NULL again when it has gone */
	struct davit_op op;	    /* open or attach */
	char **argv, **env;
	struct davit_buf in;	/* input that the command has not taken */
	struct davit_buf early; /* output from before the connection has switched */
	struct davit_deferred end;
	bool starting;
	bool gone;   /* the client, while it was starting */
	bool paused; /* output waits for the client */
	bool ended, lost;
	struct davit_exit exit;
	struct davit_error why; /* lost */
};

static const struct davit_terminal_facet *facet(const struct terminal *w)
{
	return w->t->instance->runtime->driver->terminal;
}

/* Can the driver be talked to about it? */
static bool alive(const struct terminal *w)
{
	return w->t->instance && !w->starting && !w->ended && !w->lost;
}

static void free_terminal(struct terminal *w)
{
	davit_core_terminal_free(w->t);
	davit_deferred_cancel(&w->end);
	davit_strv_free(w->argv);
	davit_strv_free(w->env);
	davit_buf_fini(&w->in);
	davit_buf_fini(&w->early);
	api_call_free(w->call);
	free(w);
}

/* --- from the command --- */

static bool on_output(struct davit_terminal *t, const void *data, size_t n)
{
	struct terminal *w = t->owner;

	if (!w->ws) {
		davit_buf_add(&w->early, data, n);
		w->paused = true;
	} else {
		w->paused = !davit_websocket_send(w->ws, false, data, n);
	}
	return !w->paused;
}

static void on_ended(struct davit_terminal *t, const struct davit_exit *exit)
{
	struct terminal *w = t->owner;

	w->ended = true;
	w->exit = *exit;
	if (w->ws)
		davit_defer(&w->end);
}

static void on_lost(struct davit_terminal *t, const struct davit_error *why)
{
	struct terminal *w = t->owner;

	w->lost = true;
	w->why = *why;
	if (w->ws)
		davit_defer(&w->end);
}

static void say(struct terminal *w, const char *key, const char *json)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;

	davit_buf_addf(&out, "{\"%s\":%s}", key, json);
	davit_websocket_send(w->ws, true, davit_buf_str(&out), out.len);
}

static void on_end(struct davit_deferred *d)
{
	struct terminal *w = DAVIT_CONTAINER_OF(d, struct terminal, end);
	DAVIT_AUTO_BUF exit = DAVIT_BUF_INIT;

	if (w->ended) {
		api_write_exit(&exit, &w->exit);
		say(w, "ended", davit_buf_str(&exit));
		davit_websocket_close(w->ws, DAVIT_WEBSOCKET_NORMAL, "the command has ended");
	} else {
		davit_websocket_close(w->ws, DAVIT_WEBSOCKET_GOING_AWAY, w->why.message);
	}
	free_terminal(w);
}

/* --- from the client --- */

/* Gives on what waits, as far as the command takes it. */
static void give_input(struct terminal *w)
{
	ssize_t n = alive(w) && w->in.len ? facet(w)->write(w->t, w->in.data, w->in.len) : 0;

	/* What comes for one that has ended or is being left is thrown away. */
	davit_buf_consume(&w->in, n < 0 || !alive(w) ? w->in.len : (size_t)n);
	if (w->ws)
		davit_websocket_pause(w->ws, w->in.len > 0);
}

static void on_drained(struct davit_terminal *t)
{
	give_input(t->owner);
}

static void malformed(struct terminal *w, const char *what)
{
	davit_websocket_close(w->ws, DAVIT_WEBSOCKET_POLICY, what);
	w->ws = NULL;
	free_terminal(w);
}

static bool set_size(struct terminal *w, json_t *size)
{
	json_int_t rows = json_integer_value(json_object_get(size, "rows"));
	json_int_t columns = json_integer_value(json_object_get(size, "columns"));

	if (rows < 1 || rows > UINT16_MAX || columns < 1 || columns > UINT16_MAX)
		return false;
	if (alive(w))
		facet(w)->resize(w->t, (uint16_t)rows, (uint16_t)columns);
	return true;
}

static bool send_signal(struct terminal *w, json_t *name)
{
	int signo = json_is_string(name) ? davit_signal_parse(json_string_value(name)) : 0;

	if (signo <= 0)
		return false;
	if (alive(w))
		facet(w)->signal(w->t, signo, NULL); /* one that just ended needs none */
	return true;
}

static void on_message(void *user, bool text, const void *data, size_t n)
{
	struct terminal *w = user;
	json_t *v, *part;
	bool good = false;

	if (!text) {
		davit_buf_add(&w->in, data, n);
		if (w->in.oom)
			malformed(w, "out of memory");
		else
			give_input(w);
		return;
	}
	v = json_loadb(data, n, 0, NULL);
	if ((part = json_object_get(v, "resize")))
		good = set_size(w, part);
	else if ((part = json_object_get(v, "signal")))
		good = send_signal(w, part);
	json_decref(v);
	if (!good)
		malformed(w, "text is {\"resize\": {\"rows\", \"columns\"}} or {\"signal\": NAME}");
}

static void on_writable(void *user)
{
	struct terminal *w = user;

	if (!w->paused || !alive(w))
		return;
	w->paused = false;
	facet(w)->resume(w->t);
}

/* The client has gone: the command goes on. */
static void on_closed(void *user, unsigned code)
{
	struct terminal *w = user;

	(void)code;
	w->ws = NULL;
	free_terminal(w);
}

static void on_gone_early(struct davit_http_request *r)
{
	struct api_call *call = r->user;
	struct terminal *w = call->state;

	w->gone = true;
	davit_op_cancel(&w->op);
}

/* --- beginning --- */

static int switch_over(struct terminal *w, struct davit_error *err)
{
	const struct davit_websocket_config config = {
		.loop = w->call->daemon->loop,
		.user = w,
		.message = on_message,
		.writable = on_writable,
		.closed = on_closed,
	};
	DAVIT_AUTO_BUF id = DAVIT_BUF_INIT;
	int r = davit_websocket_new(w->call->request, &config, &w->ws, err);

	if (r < 0)
		return r;
	w->call->request = NULL; /* the socket's */
	davit_buf_addf(&id, "\"%s\"", w->t->id);
	say(w, "terminal", davit_buf_str(&id));
	w->paused = w->early.len && !davit_websocket_send(w->ws, false, w->early.data, w->early.len);
	davit_buf_fini(&w->early);
	if (w->ended || w->lost)
		davit_defer(&w->end);
	else if (!w->paused)
		facet(w)->resume(w->t);
	return 0;
}

static void started(struct davit_op *op, int result)
{
	struct terminal *w = op->user;
	struct api_call *call = w->call;
	struct davit_error err = op->error;

	w->starting = false;
	if (w->gone) {
		free_terminal(w);
		return;
	}
	if (result >= 0 && switch_over(w, &err) == 0)
		return;
	w->call = NULL;
	free_terminal(w);
	api_fail(call, &err);
}

static uint16_t size_of(const struct api_call *call, const char *name, uint16_t deflt)
{
	return (uint16_t)api_query_int(call, name, deflt);
}

/* id: NULL for a new one. Takes w over. */
static void begin(struct terminal *w, struct davit_instance *instance, const char *id)
{
	struct api_call *call = w->call;
	struct davit_terminal init = {
		.argv = w->argv,
		.env = w->env,
		.directory = id ? NULL : api_query(call, "directory"),
		.user = id ? NULL : api_query(call, "user"),
		.rows = size_of(call, "rows", id ? 0 : 24),
		.columns = size_of(call, "columns", id ? 0 : 80),
		.owner = w,
		.output = on_output,
		.drained = on_drained,
		.ended = on_ended,
		.lost = on_lost,
	};
	struct davit_error err = {0};

	if (id)
		snprintf(init.id, sizeof init.id, "%s", id);
	w->t = davit_core_terminal_new(call->daemon->core, instance, &init, &err);
	if (!w->t) {
		w->call = NULL;
		free_terminal(w);
		api_fail(call, &err);
		return;
	}
	w->starting = true;
	call->state = w;
	call->request->closed = on_gone_early;
	davit_op_begin(&w->op, 60 * DAVIT_NSEC_PER_SEC);
	if (id)
		facet(w)->attach(w->t, &w->op);
	else
		facet(w)->open(w->t, &w->op);
}

static struct terminal *new_terminal(struct api_call *call)
{
	struct terminal *w = calloc(1, sizeof *w);

	if (!w) {
		api_fail_with(call, DAVIT_ENOMEM, NULL, "out of memory");
		return NULL;
	}
	w->call = call;
	davit_deferred_init(&w->end, call->daemon->loop, on_end);
	davit_op_init(&w->op, call->daemon->loop, started, w);
	return w;
}

bool api_is_no_websocket(struct api_call *call)
{
	struct davit_error err = {0};

	if (davit_websocket_check(call->request, &err) == 0)
		return false;
	davit_websocket_refuse(call->request, &err);
	api_call_free(call);
	return true;
}

void api_instance_terminal(struct api_call *call)
{
	struct davit_instance *instance;
	struct davit_error err = {0};
	struct terminal *w;
	int r;

	if (api_is_no_websocket(call) || api_instance(call, &instance) < 0)
		return;
	w = new_terminal(call);
	if (!w)
		return;
	r = api_query_strings(call, "command", &w->argv, &err);
	if (r == 0)
		r = api_query_strings(call, "env", &w->env, &err);
	if (r < 0) {
		w->call = NULL;
		free_terminal(w);
		api_fail(call, &err);
		return;
	}
	begin(w, instance, NULL);
}

void api_terminal_use(struct api_call *call, struct davit_instance *instance, const char *id)
{
	struct terminal *w = new_terminal(call);

	if (w)
		begin(w, instance, id);
}
