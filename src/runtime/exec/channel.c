/* SPDX-License-Identifier: MIT
 *
 * Channels: lines for a log reader, output of a command. The peer may send as
 * much as it has credit for; more credit follows what was delivered, so that a
 * paused reader costs a bounded amount of memory at both ends.
 */
#include "runtime/exec/impl.h"

#include <string.h>

enum {
	LINES_CREDIT = 256,	   /* lines */
	OUTPUT_CREDIT = 256 << 10, /* bytes */
};

struct item {
	struct davit_list list;
	uint64_t cursor;
	int64_t time;
	enum davit_stream stream;
	size_t len;
	char data[];
};

static struct davit_log_reader *reader_of(struct channel *c)
{
	return (struct davit_log_reader *)c - 1;
}
static struct davit_exec *exec_of(struct channel *c)
{
	return (struct davit_exec *)c - 1;
}
static struct channel *channel_of_reader(struct davit_log_reader *r)
{
	return (struct channel *)(r + 1);
}
static struct channel *channel_of_exec(struct davit_exec *x)
{
	return (struct channel *)(x + 1);
}

/* --- to the peer --- */

static void notice(struct channel *c, const char *operation, const char *key, int64_t value)
{
	DAVIT_AUTO_BUF buf = DAVIT_BUF_INIT;
	struct davit_json j;

	notice_begin(operation, &buf, &j);
	davit_json_put_int(&j, "channel", (int64_t)c->id);
	if (key)
		davit_json_put_int(&j, key, value);
	notice_send(c->e, &buf, &j);
}

static void give_credit(struct channel *c, size_t used)
{
	uint64_t all = c->is_exec ? OUTPUT_CREDIT : LINES_CREDIT;

	c->credit_used += used;
	if (c->credit_used < all / 2)
		return;
	notice(c, "more", "credit", (int64_t)c->credit_used);
	c->credit_used = 0;
}

/* --- delivery --- */

/* Leaves the list of channels: no call comes after. */
static void leave(struct channel *c)
{
	struct item *i, *tmp;

	if (!c->e || davit_list_empty(&c->list))
		return;
	davit_list_remove(&c->list);
	davit_deferred_cancel(&c->pump);
	DAVIT_LIST_FOREACH_SAFE (i, tmp, &c->items, list)
		free(i);
	davit_list_init(&c->items);
	if (c->alive)
		*c->alive = false;
}

static bool deliver(struct channel *c, const struct item *i)
{
	if (c->is_exec)
		return exec_of(c)->output(exec_of(c), i->stream, i->data, i->len);
	return reader_of(c)->line(reader_of(c), &(struct davit_log_line){.cursor = i->cursor,
									 .time = i->time,
									 .stream = i->stream,
									 .text = i->data,
									 .len = i->len});
}

static void tell_end(struct channel *c)
{
	struct davit_error error = c->error;
	struct davit_exit exit = c->exit;

	leave(c);
	if (c->is_exec)
		exec_of(c)->exited(exec_of(c), &exit);
	else
		reader_of(c)->end(reader_of(c), error.code, error.code ? &error : NULL);
}

static void on_pump(struct davit_deferred *d)
{
	struct channel *c = DAVIT_CONTAINER_OF(d, struct channel, pump);
	struct item *i = DAVIT_LIST_FIRST(&c->items, struct item, list);
	bool alive = true, more;

	if (c->paused)
		return;
	if (!i) {
		if (c->ended)
			tell_end(c);
		return;
	}
	davit_list_remove(&i->list);
	c->alive = &alive;
	more = deliver(c, i);
	if (alive) {
		c->alive = NULL;
		c->paused = !more;
		give_credit(c, c->is_exec ? i->len : 1);
		if (more)
			davit_defer(&c->pump);
	}
	free(i);
}

static void resume(struct channel *c)
{
	c->paused = false;
	if (c->e && !davit_list_empty(&c->list))
		davit_defer(&c->pump);
}

static void end(struct channel *c, const struct davit_error *why)
{
	if (c->ended)
		return;
	c->ended = true;
	if (why) {
		c->error = *why;
		c->exit = (struct davit_exit){.kind = DAVIT_EXIT_UNKNOWN,
					      .time = davit_loop_wall(c->e->rt->loop)};
		memcpy(c->exit.reason, why->message, sizeof c->exit.reason - 1);
	}
	davit_defer(&c->pump);
}

void channels_end(struct exec_runtime *e, const struct davit_error *why, bool quietly)
{
	struct channel *c, *tmp;

	DAVIT_LIST_FOREACH_SAFE (c, tmp, &e->channels, list) {
		if (quietly)
			leave(c);
		else
			end(c, why);
	}
}

/* No more calls; frees what was not delivered. */
static void channel_close(struct channel *c)
{
	if (!c->e || davit_list_empty(&c->list))
		return;
	notice(c, "close", NULL, 0);
	leave(c);
}

void channel_refused(struct exec_runtime *e, uint64_t id, const struct davit_error *why)
{
	struct channel *c, *tmp;

	DAVIT_LIST_FOREACH_SAFE (c, tmp, &e->channels, list) {
		if (c->id != id)
			continue;
		if (c->is_exec)
			leave(c); /* its operation fails: `exited` is never called */
		else
			end(c, why);
	}
}

static void join(struct channel *c, struct exec_runtime *e, bool is_exec)
{
	*c = (struct channel){.e = e, .id = ++e->last_id, .is_exec = is_exec};
	davit_list_init(&c->items);
	davit_deferred_init(&c->pump, e->rt->loop, on_pump);
	davit_list_add_tail(&e->channels, &c->list);
}

/* --- from the peer --- */

static int add_item(struct channel *c, const json_t *m, struct davit_error *err)
{
	DAVIT_AUTO_BUF bytes = DAVIT_BUF_INIT;
	enum davit_stream stream;
	int64_t cursor, time;
	struct item *i;
	int r = wire_get_stream(m, &stream, err);

	if (r == 0)
		r = wire_get_int(m, "cursor", 0, INT64_MAX, &cursor, err);
	if (r == 0)
		r = wire_get_time(m, "time", &time, err);
	if (r == 0)
		r = wire_get_bytes(m, c->is_exec ? "data" : "text", &bytes, err);
	if (r < 0)
		return r;
	i = malloc(sizeof *i + bytes.len + 1);
	if (!i)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	*i = (struct item){.cursor = (uint64_t)cursor, .time = time, .stream = stream, .len = bytes.len};
	memcpy(i->data, davit_buf_str(&bytes), bytes.len + 1);
	davit_list_add_tail(&c->items, &i->list);
	davit_defer(&c->pump);
	return 0;
}

static int handle_end(struct channel *c, const json_t *m, struct davit_error *err)
{
	const json_t *error = json_object_get(m, "error");
	struct davit_error why;

	if (json_is_object(error))
		wire_get_error(error, &why);
	end(c, json_is_object(error) ? &why : NULL);
	return 0;
}

static int handle_exit(struct channel *c, const json_t *m, struct davit_error *err)
{
	int r = wire_get_exit(m, "exit", &c->exit, err);

	if (r == 0 && c->exit.kind == DAVIT_EXIT_NONE)
		r = davit_error_set(err, DAVIT_EPROTO, "exit", "the event 'exited' needs an exit");
	if (r < 0)
		return r;
	if (!c->exit.time)
		c->exit.time = davit_loop_wall(c->e->rt->loop);
	end(c, NULL);
	return 0;
}

int channel_event(struct exec_runtime *e, const char *event, const json_t *m, struct davit_error *err)
{
	static const struct {
		const char *event;
		bool is_exec;
		int (*handle)(struct channel *c, const json_t *m, struct davit_error *err);
	} table[] = {{"line", false, add_item},
		     {"end", false, handle_end},
		     {"output", true, add_item},
		     {"exited", true, handle_exit}};
	struct channel *c;
	int64_t id;
	int r = wire_get_int(m, "channel", 1, INT64_MAX, &id, err);

	if (r < 0)
		return r;
	DAVIT_LIST_FOREACH (c, &e->channels, list) {
		if (c->id != (uint64_t)id || c->ended)
			continue;
		for (size_t i = 0; i < DAVIT_ARRAY_SIZE(table); i++)
			if (table[i].is_exec == c->is_exec && !strcmp(table[i].event, event))
				return table[i].handle(c, m, err);
		return davit_error_set(err, DAVIT_EPROTO, "event", "channel %lld has no event '%.40s'",
				       (long long)id, event);
	}
	return 0; /* closed: this was on its way */
}

/* --- logs --- */

static int logs_open(struct davit_log_reader *r, struct davit_error *err)
{
	struct exec_runtime *e = exec_runtime(r->instance->runtime);
	struct channel *c = channel_of_reader(r);
	DAVIT_AUTO_BUF buf = DAVIT_BUF_INIT;
	struct davit_json j;
	struct request *q;

	c->e = NULL;
	if (!exec_can(e, DAVIT_CAP_LOGS, err))
		return DAVIT_ENOTSUP;
	if (e->phase != EXEC_UP)
		return davit_error_set(err, DAVIT_EUNAVAIL, "logs",
				       "the program of runtime '%s' is being started again",
				       e->rt->driver->name);
	q = request_new(e, "logs", NULL, NULL, &buf, &j);
	if (!q)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	join(c, e, false);
	q->channel = c->id;
	davit_json_put_string(&j, "instance", r->instance->workload->id);
	davit_json_put_int(&j, "channel", (int64_t)c->id);
	davit_json_put_int(&j, "credit", LINES_CREDIT);
	davit_json_put_int(&j, "tail", r->query.tail);
	davit_json_put_time(&j, "since", r->query.since);
	davit_json_put_int(&j, "after", (int64_t)r->query.after);
	davit_json_put_bool(&j, "follow", r->query.follow);
	request_send(q, &buf, &j, EXEC_REQUEST_TIMEOUT);
	return 0;
}

static void logs_resume(struct davit_log_reader *r)
{
	resume(channel_of_reader(r));
}

static void logs_close(struct davit_log_reader *r)
{
	channel_close(channel_of_reader(r));
}

static void logs_discard(struct davit_runtime *rt, const char *id)
{
	struct exec_runtime *e = exec_runtime(rt);
	DAVIT_AUTO_BUF buf = DAVIT_BUF_INIT;
	struct davit_json j;

	if (!davit_can(&e->capabilities, DAVIT_CAP_LOGS))
		return;
	notice_begin("discard", &buf, &j);
	davit_json_put_string(&j, "instance", id);
	notice_send(e, &buf, &j);
}

const struct davit_logs_facet exec_logs = {
	.reader_size = sizeof(struct channel),
	.open = logs_open,
	.resume = logs_resume,
	.close = logs_close,
	.discard = logs_discard,
};

/* --- commands --- */

static void command_start(struct davit_exec *x, struct davit_op *op)
{
	struct exec_runtime *e = exec_runtime(x->instance->runtime);
	struct channel *c = channel_of_exec(x);
	DAVIT_AUTO_BUF buf = DAVIT_BUF_INIT;
	struct davit_error err;
	struct davit_json j;
	struct request *q;

	c->e = NULL;
	if (!exec_can(e, DAVIT_CAP_EXEC, &err) || (x->tty && !exec_can(e, DAVIT_CAP_TERMINAL, &err)) ||
	    (x->user && !exec_can(e, DAVIT_CAP_USER, &err)) ||
	    (x->directory && !exec_can(e, DAVIT_CAP_DIRECTORY, &err))) {
		davit_op_fail_error(op, &err);
		return;
	}
	q = request_new(e, "exec", NULL, op, &buf, &j);
	if (!q)
		return;
	join(c, e, true);
	q->channel = c->id;
	davit_json_put_string(&j, "instance", x->instance->workload->id);
	davit_json_put_int(&j, "channel", (int64_t)c->id);
	davit_json_put_int(&j, "credit", OUTPUT_CREDIT);
	wire_put_strv(&j, "argv", x->argv);
	wire_put_strv(&j, "env", x->env);
	davit_json_put_string(&j, "directory", x->directory);
	davit_json_put_string(&j, "user", x->user);
	davit_json_put_bool(&j, "tty", x->tty);
	davit_json_put_int(&j, "rows", x->rows);
	davit_json_put_int(&j, "columns", x->columns);
	request_send(q, &buf, &j, EXEC_REQUEST_TIMEOUT);
}

static ssize_t command_write(struct davit_exec *x, const void *data, size_t n)
{
	struct channel *c = channel_of_exec(x);
	DAVIT_AUTO_BUF buf = DAVIT_BUF_INIT;
	struct davit_json j;

	if (!c->e || davit_list_empty(&c->list) || c->ended)
		return DAVIT_ECLOSED;
	if (peer_queued(c->e->peer) > PEER_QUEUE_MAX / 4)
		return 0;
	if (n > OUTPUT_CREDIT)
		n = OUTPUT_CREDIT;
	notice_begin("input", &buf, &j);
	davit_json_put_int(&j, "channel", (int64_t)c->id);
	wire_put_bytes(&j, "data", data, n);
	notice_send(c->e, &buf, &j);
	return (ssize_t)n;
}

static void command_close_input(struct davit_exec *x)
{
	struct channel *c = channel_of_exec(x);

	if (c->e && !davit_list_empty(&c->list))
		notice(c, "close-input", NULL, 0);
}

static void command_resume(struct davit_exec *x)
{
	resume(channel_of_exec(x));
}

static void command_resize(struct davit_exec *x, uint16_t rows, uint16_t columns)
{
	struct channel *c = channel_of_exec(x);
	DAVIT_AUTO_BUF buf = DAVIT_BUF_INIT;
	struct davit_json j;

	if (!c->e || davit_list_empty(&c->list))
		return;
	notice_begin("resize", &buf, &j);
	davit_json_put_int(&j, "channel", (int64_t)c->id);
	davit_json_put_int(&j, "rows", rows);
	davit_json_put_int(&j, "columns", columns);
	notice_send(c->e, &buf, &j);
}

static int command_signal(struct davit_exec *x, int signo, struct davit_error *err)
{
	struct channel *c = channel_of_exec(x);

	if (!c->e || davit_list_empty(&c->list) || c->ended)
		return davit_error_set(err, DAVIT_ESTATE, "exec", "the command has ended");
	notice(c, "channel-signal", "signal", signo);
	return 0;
}

static void command_close(struct davit_exec *x)
{
	channel_close(channel_of_exec(x));
}

const struct davit_exec_facet exec_exec = {
	.exec_size = sizeof(struct channel),
	.start = command_start,
	.write = command_write,
	.close_input = command_close_input,
	.resume = command_resume,
	.resize = command_resize,
	.signal = command_signal,
	.close = command_close,
};
