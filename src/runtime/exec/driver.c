/* SPDX-License-Identifier: MIT
 *
 * The driver's table, and the life of the peer: hello, restart, backoff.
 */
#include "base/log.h"
#include "runtime/exec/impl.h"

#include <string.h>

static void start_peer(struct exec_runtime *e);

bool exec_can(struct exec_runtime *e, enum davit_capability cap, struct davit_error *err)
{
	if (davit_can(&e->capabilities, cap))
		return true;
	davit_error_set(err, DAVIT_ENOTSUP, davit_capability_name(cap),
			"runtime '%s' does not support %s: %s", e->rt->driver->name,
			davit_capability_name(cap), e->capabilities.why_not[cap]);
	return false;
}

/* --- the peer's life --- */

static void on_peer_down(void *user, const struct davit_error *why)
{
	struct exec_runtime *e = user;
	enum exec_phase phase = e->phase;

	peer_release(DAVIT_TAKE(e->peer));
	davit_timer_stop(&e->timer);
	e->greeted = false;
	if (phase == EXEC_OPENING) {
		e->phase = EXEC_CLOSED;
		davit_op_fail_error(DAVIT_TAKE(e->opening), why);
		return;
	}
	e->phase = EXEC_DOWN;
	davit_log(DAVIT_LOG_WARNING, "%s; starting it again in %lld ms", why->message,
		  (long long)(e->backoff / DAVIT_NSEC_PER_MSEC));
	davit_timer_start(&e->timer, e->backoff);
	e->backoff = e->backoff * 2 < EXEC_BACKOFF_MAX ? e->backoff * 2 : EXEC_BACKOFF_MAX;
	requests_fail(e, why);
	if (phase == EXEC_UP)
		e->rt->events->lost(e->rt, why);
	if (e->phase != EXEC_CLOSED)
		channels_end(e, why, false);
}

static int reconciled(struct request *q, const json_t *result, struct davit_error *err)
{
	struct exec_runtime *e = q->e;
	int r;

	e->phase = EXEC_UP;
	r = instances_reconcile(q, result, err);
	if (r == 0 && e->phase == EXEC_UP) {
		e->backoff = EXEC_BACKOFF_FIRST;
		e->rt->events->regained(e->rt);
	}
	return r;
}

static void ask_again(struct exec_runtime *e)
{
	DAVIT_AUTO_BUF buf = DAVIT_BUF_INIT;
	struct davit_json j;
	struct request *q = request_new(e, "adopt", NULL, NULL, &buf, &j);

	if (!q) {
		peer_fail(e->peer, DAVIT_ENOMEM, "could not be asked: out of memory");
		return;
	}
	q->answer = reconciled;
	q->vital = true;
	request_send(q, &buf, &j, EXEC_REQUEST_TIMEOUT);
}

static int handle_hello(struct exec_runtime *e, const json_t *hello, struct davit_error *err)
{
	int64_t protocol;
	int r = wire_get_int(hello, "protocol", 0, INT32_MAX, &protocol, err);

	if (r == 0 && protocol != WIRE_PROTOCOL)
		r = davit_error_set(err, DAVIT_EPROTO, "protocol",
				    "it speaks version %lld of the protocol, this davit version %d",
				    (long long)protocol, WIRE_PROTOCOL);
	if (r == 0)
		r = wire_get_capabilities(hello, &e->capabilities, err);
	if (r < 0)
		return r;
	e->greeted = true;
	davit_timer_stop(&e->timer);
	if (e->phase == EXEC_OPENING) {
		e->phase = EXEC_UP;
		davit_op_complete(DAVIT_TAKE(e->opening), 0);
	} else {
		ask_again(e);
	}
	return 0;
}

static void on_message(void *user, json_t *m)
{
	struct exec_runtime *e = user;
	const json_t *hello = json_object_get(m, "hello");
	struct davit_error err;
	int r;

	if (!e->greeted && !json_is_object(hello))
		r = davit_error_set(&err, DAVIT_EPROTO, "hello", "the first message must be a hello");
	else if (!e->greeted)
		r = handle_hello(e, hello, &err);
	else if (json_object_get(m, "event"))
		r = event_handle(e, m, &err);
	else if (json_object_get(m, "id"))
		r = request_answered(e, m, &err);
	else
		r = davit_error_set(&err, DAVIT_EPROTO, NULL, "a message must be an event or an answer");
	if (r < 0 && e->peer)
		peer_fail(e->peer, DAVIT_EPROTO, "broke the protocol: %s", err.message);
}

static const struct peer_events peer_events = {.message = on_message, .down = on_peer_down};

static void send_hello(struct exec_runtime *e)
{
	DAVIT_AUTO_BUF buf = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&buf);

	davit_json_open(&j);
	davit_json_key(&j, "hello");
	davit_json_open(&j);
	davit_json_put_int(&j, "protocol", WIRE_PROTOCOL);
	davit_json_put_string(&j, "davit", DAVIT_VERSION);
	davit_json_put_string(&j, "name", e->rt->name);
	davit_json_put_string(&j, "state_dir", e->rt->state_dir);
	davit_json_put_string(&j, "run_dir", e->rt->run_dir);
	davit_json_put_string(&j, "log_dir", e->rt->log_dir);
	davit_json_close(&j);
	davit_json_close(&j);
	peer_send(e->peer, &buf);
}

static void on_timer(struct davit_timer *t)
{
	struct exec_runtime *e = DAVIT_CONTAINER_OF(t, struct exec_runtime, timer);

	if (e->phase == EXEC_DOWN) {
		e->phase = EXEC_RESTARTING;
		start_peer(e);
	} else {
		peer_fail(e->peer, DAVIT_ETIMEDOUT, "did not say hello in time");
	}
}

/* From open or the timer. */
static void start_peer(struct exec_runtime *e)
{
	const struct exec_driver *d = DAVIT_CONTAINER_OF(e->rt->driver, struct exec_driver, driver);
	struct davit_error err;

	if (peer_start(e->rt->loop, d->path, d->name, &peer_events, e, &e->peer, &err) < 0) {
		on_peer_down(e, &err);
		return;
	}
	davit_timer_start(&e->timer, EXEC_HELLO_TIMEOUT);
	send_hello(e);
}

static void open_cancel(struct davit_op *op, int why)
{
	struct exec_runtime *e = exec_runtime(op->performer);
	struct davit_error err;

	davit_error_set(&err, why, NULL, "%s", davit_error_doc(why));
	on_peer_down(e, &err);
}

static void exec_open(struct davit_runtime *rt, struct davit_op *op)
{
	struct exec_runtime *e = exec_runtime(rt);

	*e = (struct exec_runtime){.rt = rt, .backoff = EXEC_BACKOFF_FIRST};
	if (!davit_loop_uv(rt->loop)) {
		davit_op_fail(op, DAVIT_ENOTSUP, NULL, "a program needs the real loop");
		return;
	}
	davit_list_init(&e->requests);
	davit_list_init(&e->channels);
	davit_timer_init(&e->timer, rt->loop, on_timer);
	e->phase = EXEC_OPENING;
	e->opening = op;
	op->performer = rt;
	davit_op_on_cancel(op, open_cancel);
	start_peer(e);
}

static void exec_close(struct davit_runtime *rt)
{
	struct exec_runtime *e = exec_runtime(rt);
	struct davit_error why;
	size_t pos = 0;
	void *inst;

	davit_error_set(&why, DAVIT_ECLOSED, rt->name, "the runtime was closed");
	e->phase = EXEC_CLOSED;
	davit_timer_stop(&e->timer);
	peer_release(DAVIT_TAKE(e->peer));
	if (e->opening)
		davit_op_fail_error(DAVIT_TAKE(e->opening), &why);
	requests_fail(e, &why);
	channels_end(e, &why, true);
	while (davit_map_next(&e->instances, &pos, NULL, &inst))
		instance_forget(inst);
	davit_map_fini(&e->instances);
}

static void exec_capabilities(struct davit_runtime *rt, struct davit_capabilities *ret)
{
	*ret = exec_runtime(rt)->capabilities;
}

static void exec_adopt(struct davit_runtime *rt, struct davit_op *op)
{
	DAVIT_AUTO_BUF buf = DAVIT_BUF_INIT;
	struct davit_json j;
	struct request *q = request_new(exec_runtime(rt), "adopt", NULL, op, &buf, &j);

	if (!q)
		return;
	q->answer = instances_found;
	request_send(q, &buf, &j, EXEC_REQUEST_TIMEOUT);
}

/* --- operations --- */

static int created(struct request *q, const json_t *result, struct davit_error *err)
{
	struct davit_instance *inst = q->inst;

	if (exec_instance(inst)->inst)
		return 0; /* it was there already */
	if (instance_add(inst) < 0)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	return 0;
}

/* What the program refuses, it refuses at create. */
static void exec_check(struct davit_runtime *rt, const struct davit_workload *w, struct davit_op *op)
{
	davit_op_complete(op, 0);
}

static void exec_create(struct davit_instance *inst, struct davit_op *op)
{
	DAVIT_AUTO_BUF buf = DAVIT_BUF_INIT;
	struct davit_json j;
	struct request *q = request_new(exec_runtime(inst->runtime), "create", inst, op, &buf, &j);

	if (!q)
		return;
	exec_instance(inst)->busy = q;
	q->create = true;
	q->answer = created;
	wire_put_workload(&j, "instance", inst->workload);
	request_send(q, &buf, &j, EXEC_REQUEST_TIMEOUT);
}

static int started(struct request *q, const json_t *result, struct davit_error *err)
{
	struct exec_instance *x = exec_instance(q->inst);
	int64_t run;
	int r = wire_get_int(result, "run", 0, UINT32_MAX, &run, err);

	if (r < 0)
		return r;
	/* The same number again: it was running. */
	if ((uint32_t)run > x->run || run == 0) {
		x->run = run ? (uint32_t)run : x->run + 1;
		x->ready = false;
	}
	return 0;
}

static void exec_start(struct davit_instance *inst, struct davit_op *op)
{
	DAVIT_AUTO_BUF buf = DAVIT_BUF_INIT;
	struct davit_json j;
	struct request *q = request_new(exec_runtime(inst->runtime), "start", inst, op, &buf, &j);

	if (!q)
		return;
	exec_instance(inst)->busy = q;
	exec_instance(inst)->held_run = 0;
	q->answer = started;
	request_send(q, &buf, &j, EXEC_REQUEST_TIMEOUT);
}

static int stopped(struct request *q, const json_t *result, struct davit_error *err)
{
	struct exec_instance *x = exec_instance(q->inst);

	if (x->told >= x->run)
		return 0;
	/* `exited` comes before the completion, in whatever order we are told. */
	davit_timer_start(&q->deadline, EXEC_CANCEL_TIMEOUT);
	return 1;
}

static void exec_stop(struct davit_instance *inst, const struct davit_stop *how, struct davit_op *op)
{
	int64_t timeout;
	DAVIT_AUTO_BUF buf = DAVIT_BUF_INIT;
	struct davit_json j;
	struct request *q = request_new(exec_runtime(inst->runtime), "stop", inst, op, &buf, &j);

	if (!q)
		return;
	exec_instance(inst)->busy = q;
	q->answer = stopped;
	if (__builtin_add_overflow(how->grace_ns, EXEC_REQUEST_TIMEOUT, &timeout))
		timeout = INT64_MAX;
	davit_json_put_int(&j, "signal", how->signal);
	davit_json_put_int(&j, "grace_ms", how->grace_ns / DAVIT_NSEC_PER_MSEC);
	request_send(q, &buf, &j, timeout);
}

static int removed(struct request *q, const json_t *result, struct davit_error *err)
{
	instance_forget(q->inst);
	return 0;
}

static void exec_remove(struct davit_instance *inst, struct davit_op *op)
{
	DAVIT_AUTO_BUF buf = DAVIT_BUF_INIT;
	struct davit_json j;
	struct request *q = request_new(exec_runtime(inst->runtime), "remove", inst, op, &buf, &j);

	if (!q)
		return;
	exec_instance(inst)->busy = q;
	q->answer = removed;
	request_send(q, &buf, &j, EXEC_REQUEST_TIMEOUT);
}

static int inspected(struct request *q, const json_t *result, struct davit_error *err)
{
	return wire_get_inspection(result, q->ret, err);
}

static void exec_inspect(struct davit_instance *inst, struct davit_inspection *ret, struct davit_op *op)
{
	DAVIT_AUTO_BUF buf = DAVIT_BUF_INIT;
	struct davit_json j;
	struct request *q = request_new(exec_runtime(inst->runtime), "inspect", inst, op, &buf, &j);

	if (!q)
		return;
	q->answer = inspected;
	q->ret = ret;
	request_send(q, &buf, &j, EXEC_REQUEST_TIMEOUT);
}

/* --- making a driver --- */

static const struct davit_runtime_driver table = {
	.abi = DAVIT_RUNTIME_ABI,
	.summary = "a program that speaks the runtime protocol",
	.runtime_size = sizeof(struct exec_runtime),
	.instance_size = sizeof(struct exec_instance),
	.open = exec_open,
	.close = exec_close,
	.capabilities = exec_capabilities,
	.adopt = exec_adopt,
	.check = exec_check,
	.create = exec_create,
	.start = exec_start,
	.stop = exec_stop,
	.remove = exec_remove,
	.inspect = exec_inspect,
	.logs = &exec_logs,
	.exec = &exec_exec,
	.stats = &exec_stats,
	.signal = &exec_signal,
	.ports = &exec_ports,
};

int davit_exec_driver_new(const char *path, const struct davit_runtime_driver **ret, struct davit_error *err)
{
	const char *base = strrchr(path, '/');
	struct exec_driver *d;
	int r;

	if (!base || *path != '/')
		return davit_error_set(err, DAVIT_EINVAL, "path", "'%s' is not an absolute path", path);
	base++;
	if (!strncmp(base, DAVIT_EXEC_PREFIX, strlen(DAVIT_EXEC_PREFIX)))
		base += strlen(DAVIT_EXEC_PREFIX);
	d = calloc(1, sizeof *d);
	if (!d)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	d->driver = table;
	d->path = strdup(path);
	d->name = strdup(base);
	d->driver.name = d->name;
	r = d->path && d->name ? davit_runtime_driver_validate(&d->driver, err)
			       : davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (r < 0) {
		davit_exec_driver_free(&d->driver);
		return r;
	}
	*ret = &d->driver;
	return 0;
}

void davit_exec_driver_free(const struct davit_runtime_driver *driver)
{
	struct exec_driver *d;

	if (!driver)
		return;
	d = DAVIT_CONTAINER_OF(driver, struct exec_driver, driver);
	free(d->path);
	free(d->name);
	free(d);
}
