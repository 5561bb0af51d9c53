/* SPDX-License-Identifier: MIT
 *
 * Commands in a container: made by one call, started on a connection that then
 * carries its streams. An engine tells neither when it runs nor that it could not
 * be executed, and signals no command: that is asked for, and done by its pid
 * where that is ours to see.
 */
#include "runtime/engine/impl.h"

#include "base/file.h"
#include "base/json.h"
#include "runtime/engine/frame.h"
#include "runtime/engine/hijack.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define ASK_FIRST (2 * DAVIT_NSEC_PER_MSEC)
#define ASK_MAX (100 * DAVIT_NSEC_PER_MSEC)

/* Apart from the core's object: that may be freed in any callback, by close. */
struct command {
	struct davit_exec *x; /* NULL once closed */
	struct davit_list list;
	struct engine *e;
	struct davit_op *op; /* until it runs */
	struct hijack stream;
	struct http_call *call;
	struct davit_timer timer; /* ask again */
	int64_t pause;
	char id[65], container[65];
	pid_t pid;
	bool runs, over; /* told that it does; its stream has ended */
	bool busy;	 /* a callback of the owner is under way */
	/* of the frame that is being handed out */
	enum davit_stream which;
	size_t left;
};

static struct command **slot_of(struct davit_exec *x)
{
	return (struct command **)(void *)(x + 1);
}

static void command_free(struct command *c)
{
	davit_list_remove(&c->list);
	davit_timer_stop(&c->timer);
	http_cancel(c->call);
	hijack_close(&c->stream);
	if (c->x)
		*slot_of(c->x) = NULL;
	free(c);
}

/* Around whatever may call the owner. False: it was closed. */
static bool leave(struct command *c)
{
	c->busy = false;
	if (c->x)
		return true;
	command_free(c);
	return false;
}

static void start_failed(struct command *c, const struct davit_error *err)
{
	struct davit_op *op = DAVIT_TAKE(c->op);
	struct davit_error named = *err;

	snprintf(named.where, sizeof named.where, "%s", c->e->rt->name);
	command_free(c);
	davit_op_fail_error(op, &named);
}

static void end(struct command *c, const struct davit_exit *exit)
{
	struct davit_exec *x = c->x;

	command_free(c);
	x->exited(x, exit);
}

/* --- what becomes of it --- */

static void ask(struct command *c);

static void on_timer(struct davit_timer *t)
{
	ask(DAVIT_CONTAINER_OF(t, struct command, timer));
}

static void ask_later(struct command *c)
{
	davit_timer_start(&c->timer, c->pause);
	c->pause = c->pause * 2 > ASK_MAX ? ASK_MAX : c->pause * 2;
}

/* What the engine has written to the output in place of the program. */
static bool says_exec_failed(struct command *c, char *buf, size_t size)
{
	struct frame f;

	if (frame_next(&c->stream.in, &f) <= 0)
		f = (struct frame){.data = davit_buf_str(&c->stream.in), .n = c->stream.in.len};
	snprintf(buf, size, "%.*s", (int)f.n, f.data);
	buf[strcspn(buf, "\r\n")] = '\0';
	return strstr(buf, "OCI runtime") || observe_exec_failure(buf);
}

static void it_runs(struct command *c)
{
	c->runs = true;
	davit_op_complete(DAVIT_TAKE(c->op), 0);
	if (c->x->tty && c->x->rows && c->x->columns)
		engine_exec.resize(c->x, c->x->rows, c->x->columns);
	hijack_resume(&c->stream);
	/* One that was over before it was seen to run: its stream's end, told already, brings
	 * nobody to ask how it ended. */
	if (c->over)
		ask_later(c);
}

static void starting_seen(struct command *c, bool running, int code)
{
	struct davit_error err;
	char text[300];

	/* Its words come with the end of the stream. */
	if (!running && !c->pid && code >= 126 && !c->stream.eof) {
		ask_later(c);
	} else if (!running && !c->pid && code >= 126 && says_exec_failed(c, text, sizeof text)) {
		davit_error_set(&err, DAVIT_EEXEC, NULL, "%s", text);
		err.sys_errno = observe_no_program(text) ? ENOENT : 0;
		start_failed(c, &err);
	} else if (running && !c->pid) {
		ask_later(c);
	} else {
		it_runs(c);
	}
}

static void on_seen(struct http_call *call, const struct davit_error *err)
{
	struct command *c = call->user;
	json_t *o = err ? NULL : http_answer(call);
	bool running = json_is_true(json_object_get(o, "Running"));
	int code = (int)json_integer_value(json_object_get(o, "ExitCode"));
	pid_t pid = (pid_t)json_integer_value(json_object_get(o, "Pid"));
	struct davit_exit exit = {.kind = DAVIT_EXIT_UNKNOWN};

	c->call = NULL;
	json_decref(o);
	if (running || pid)
		c->pid = pid;
	if (err && !c->runs) {
		start_failed(c, err);
	} else if (err) { /* the container went with it */
		exit.time = davit_loop_wall(c->e->rt->loop);
		snprintf(exit.reason, sizeof exit.reason, "%.150s", err->message);
		end(c, &exit);
	} else if (!c->runs) {
		starting_seen(c, running, code);
	} else if (running) {
		ask_later(c);
	} else {
		observe_exit(code, false, davit_loop_wall(c->e->rt->loop), &exit);
		end(c, &exit);
	}
}

static void ask(struct command *c)
{
	if (c->call)
		return;
	c->call = http_new(&c->e->calls, "GET", "/exec/%s/json", c->id);
	if (c->call) {
		c->call->user = c;
		c->call->done = on_seen;
	}
	if (!c->call || http_send(c->call, NULL) < 0) {
		c->call = NULL;
		ask_later(c);
	}
}

/* --- its streams --- */

static bool output(struct command *c, enum davit_stream which, size_t n)
{
	bool more = c->x->output(c->x, which, c->stream.in.data, n);

	if (c->x)
		davit_buf_consume(&c->stream.in, n);
	return more && c->x;
}

static bool on_data(struct hijack *h)
{
	struct command *c = h->user;
	struct davit_buf *in = &h->in;
	bool more = true;
	int r;

	c->busy = true;
	while (more && in->len) {
		if (c->x->tty) {
			c->which = DAVIT_STDOUT;
			c->left = in->len;
		} else if (!c->left) {
			r = frame_header(in, &c->which, &c->left);
			if (r <= 0) {
				if (r < 0 || h->eof) /* not frames: nothing that could be shown */
					davit_buf_reset(in);
				break;
			}
			davit_buf_consume(in, FRAME_HEADER);
			continue;
		}
		size_t n = c->left < in->len ? c->left : in->len;
		c->left -= n;
		more = output(c, c->which, n);
	}
	if (!leave(c))
		return false;
	h->held = !more;
	return true;
}

static void on_ended(struct hijack *h, const struct davit_error *err)
{
	struct command *c = h->user;

	c->over = true;
	if (err && !c->runs) {
		start_failed(c, err);
		return;
	}
	c->pause = ASK_FIRST;
	davit_timer_stop(&c->timer);
	ask(c);
}

static void on_opened(struct hijack *h)
{
	struct command *c = h->user;

	ask(c);
}

/* --- start --- */

static void on_made(struct http_call *call, const struct davit_error *err)
{
	struct command *c = call->user;
	json_t *o = err ? NULL : http_answer(call);
	const char *id = json_string_value(json_object_get(o, "Id"));
	char path[96];
	struct davit_error why = {0};

	c->call = NULL;
	if (err) {
		why = *err;
		if (strstr(err->message, "not running") || strstr(err->message, "paused"))
			why.code = DAVIT_ESTATE;
	} else if (!id || strlen(id) != 64) {
		davit_error_set(&why, DAVIT_EPROTO, NULL, "the engine's answer to exec has no id");
	} else {
		memcpy(c->id, id, sizeof c->id);
		snprintf(path, sizeof path, "/exec/%s/start", c->id);
		c->stream = (struct hijack){
			.user = c, .opened = on_opened, .data = on_data, .ended = on_ended, .held = true};
		hijack_open(&c->stream, &c->e->streams, path,
			    c->x->tty ? "{\"Detach\":false,\"Tty\":true}"
				      : "{\"Detach\":false,\"Tty\":false}",
			    &why);
	}
	json_decref(o);
	if (why.code)
		start_failed(c, &why);
}

static void write_exec(struct davit_buf *b, const struct davit_exec *x)
{
	struct davit_json j = DAVIT_JSON_INIT(b);

	davit_json_open(&j);
	davit_json_put_bool(&j, "AttachStdin", true);
	davit_json_put_bool(&j, "AttachStdout", true);
	davit_json_put_bool(&j, "AttachStderr", true);
	davit_json_put_bool(&j, "Tty", x->tty);
	davit_json_put_strv(&j, "Cmd", x->argv);
	if (x->env)
		davit_json_put_strv(&j, "Env", x->env);
	if (x->directory)
		davit_json_put_string(&j, "WorkingDir", x->directory);
	if (x->user)
		davit_json_put_string(&j, "User", x->user);
	davit_json_close(&j);
}

static void on_cancel(struct davit_op *op, int why)
{
	struct command *c = op->performer;
	struct davit_error err;

	davit_error_set(&err, why, NULL, "%s", davit_error_doc(why));
	start_failed(c, &err);
}

static void exec_start(struct davit_exec *x, struct davit_op *op)
{
	struct davit_runtime *rt = x->instance->runtime;
	struct engine_instance *ei = engine_instance(x->instance);
	DAVIT_AUTO_BUF body = DAVIT_BUF_INIT;
	struct engine *e = engine_of(rt);
	struct command *c;

	*slot_of(x) = NULL;
	if (!ei->inst || ei->state != DAVIT_STATE_STARTED) {
		davit_op_fail(op, DAVIT_ESTATE, rt->name, "the instance does not run");
		return;
	}
	c = calloc(1, sizeof *c);
	if (!c) {
		davit_op_fail(op, DAVIT_ENOMEM, rt->name, "out of memory");
		return;
	}
	c->x = x;
	c->e = e;
	c->op = op;
	c->pause = ASK_FIRST;
	memcpy(c->container, ei->container, sizeof c->container);
	davit_list_add_tail(&e->execs, &c->list);
	davit_timer_init(&c->timer, rt->loop, on_timer);
	*slot_of(x) = c;
	op->performer = c;
	davit_op_on_cancel(op, on_cancel);
	write_exec(&body, x);
	c->call = http_new(&e->calls, "POST", "/containers/%s/exec", c->container);
	if (c->call) {
		c->call->user = c;
		c->call->done = on_made;
		http_json(c->call, &body);
	}
	if (!c->call || http_send(c->call, NULL) < 0) {
		c->call = NULL;
		start_failed(c, &(struct davit_error){.code = DAVIT_ENOMEM, .message = "out of memory"});
	}
}

/* --- the rest of the facet --- */

static ssize_t exec_write(struct davit_exec *x, const void *data, size_t n)
{
	struct command *c = *slot_of(x);

	return c ? hijack_write(&c->stream, data, n) : DAVIT_ECLOSED;
}

static void exec_close_input(struct davit_exec *x)
{
	if (*slot_of(x))
		hijack_close_input(&(*slot_of(x))->stream);
}

static void exec_resume(struct davit_exec *x)
{
	if (*slot_of(x) && (*slot_of(x))->runs)
		hijack_resume(&(*slot_of(x))->stream);
}

static void on_resized(struct http_call *call, const struct davit_error *err)
{
}

static void exec_resize(struct davit_exec *x, uint16_t rows, uint16_t columns)
{
	struct command *c = *slot_of(x);
	struct http_call *call;

	if (!c || !c->runs)
		return;
	call = http_new(&c->e->calls, "POST", "/exec/%s/resize?h=%u&w=%u", c->id, rows, columns);
	if (!call)
		return;
	call->done = on_resized;
	http_send(call, NULL);
}

/* A pid that an engine tells is one of its own machine and namespace: only one that
 * is in the container's control group here is really it. */
static bool is_in_container(const struct command *c)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/cgroup", (int)c->pid);
	return c->pid > 1 && davit_read_file(path, 65536, &text, NULL) == 0 &&
	       strstr(davit_buf_str(&text), c->container);
}

static int exec_signal(struct davit_exec *x, int signo, struct davit_error *err)
{
	struct command *c = *slot_of(x);

	if (!c || !c->runs || c->over)
		return davit_error_set(err, DAVIT_ESTATE, NULL, "the command does not run");
	if (!is_in_container(c))
		return davit_error_set(err, DAVIT_ENOTSUP, NULL,
				       "%s cannot signal a command, and it is not one of this host",
				       c->e->flavour->name);
	if (kill(c->pid, signo) < 0)
		return errno == ESRCH ? davit_error_set(err, DAVIT_ESTATE, NULL, "the command does not run")
				      : davit_error_errno(err, errno, NULL, "cannot signal the command");
	return 0;
}

static void exec_close(struct davit_exec *x)
{
	struct command *c = *slot_of(x);

	if (!c)
		return;
	/* One that is elsewhere ends when it notices that nobody reads. */
	if (c->runs && !c->over && is_in_container(c))
		kill(c->pid, SIGKILL);
	*slot_of(x) = NULL;
	c->x = NULL;
	if (!c->busy)
		command_free(c);
}

void execs_close_all(struct engine *e)
{
	struct command *c, *tmp;

	DAVIT_LIST_FOREACH_SAFE (c, tmp, &e->execs, list) {
		if (c->op)
			davit_op_fail(DAVIT_TAKE(c->op), DAVIT_ECLOSED, e->rt->name,
				      "the runtime was closed");
		command_free(c);
	}
}

const struct davit_exec_facet engine_exec = {
	.exec_size = sizeof(struct command *),
	.start = exec_start,
	.write = exec_write,
	.close_input = exec_close_input,
	.resume = exec_resume,
	.resize = exec_resize,
	.signal = exec_signal,
	.close = exec_close,
};
