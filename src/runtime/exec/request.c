/* SPDX-License-Identifier: MIT
 *
 * Requests and their answers. Each has a deadline: a peer that is silent costs
 * an operation, never a hanging one.
 */
#include "runtime/exec/impl.h"

#include <string.h>

static void on_cancel(struct davit_op *op, int why);
static void request_end(struct request *q, const struct davit_error *err);

static void on_deadline(struct davit_timer *t)
{
	struct request *q = DAVIT_CONTAINER_OF(t, struct request, deadline);
	struct davit_op *op = q->op;
	struct davit_error err;

	if (q->vital) {
		peer_fail(q->e->peer, DAVIT_ETIMEDOUT, "did not answer in time");
		return;
	}
	if (q->inst && exec_instance(q->inst)->busy == q)
		exec_instance(q->inst)->busy = NULL;
	q->given_up = true;
	davit_error_set(&err, q->why ? q->why : DAVIT_ETIMEDOUT, q->e->rt->name,
			q->answered ? "the program of runtime '%s' did not tell the end of the run"
				    : "the program of runtime '%s' did not answer in time",
			q->e->rt->driver->name);
	if (q->channel)
		channel_refused(q->e, q->channel, &err);
	if (op)
		davit_op_fail_error(op, &err);
	q->op = NULL;
	if (q->answered) /* nothing more is to come for it */
		request_end(q, NULL);
}

struct request *request_new(struct exec_runtime *e, const char *operation, struct davit_instance *inst,
			    struct davit_op *op, struct davit_buf *buf, struct davit_json *j)
{
	struct request *q = NULL;

	if (op && e->phase != EXEC_UP) {
		davit_op_fail(op, DAVIT_EUNAVAIL, e->rt->name,
			      "the program of runtime '%s' is being started again", e->rt->driver->name);
		return NULL;
	}
	q = calloc(1, sizeof *q);
	if (!q) {
		if (op)
			davit_op_complete(op, DAVIT_ENOMEM);
		return NULL;
	}
	q->e = e;
	q->id = ++e->last_id;
	q->op = op;
	q->inst = inst;
	davit_list_add_tail(&e->requests, &q->list);
	davit_timer_init(&q->deadline, e->rt->loop, on_deadline);
	*j = (struct davit_json)DAVIT_JSON_INIT(buf);
	davit_json_open(j);
	davit_json_put_int(j, "id", (int64_t)q->id);
	davit_json_put_string(j, "op", operation);
	if (inst) {
		memcpy(q->instance, inst->workload->id, sizeof q->instance);
		if (strcmp(operation, "create"))
			davit_json_put_string(j, "instance", q->instance);
	}
	if (op) {
		op->performer = q;
		davit_op_on_cancel(op, on_cancel);
	}
	return q;
}

void request_send(struct request *q, struct davit_buf *buf, struct davit_json *j, int64_t timeout)
{
	struct davit_error err;

	davit_json_close(j);
	if (buf->oom || davit_timer_start(&q->deadline, timeout) < 0) {
		davit_error_set(&err, DAVIT_ENOMEM, NULL, "out of memory");
		request_end(q, &err);
		return;
	}
	peer_send(q->e->peer, buf);
}

void notice_begin(const char *operation, struct davit_buf *buf, struct davit_json *j)
{
	*j = (struct davit_json)DAVIT_JSON_INIT(buf);
	davit_json_open(j);
	davit_json_put_string(j, "op", operation);
}

void notice_send(struct exec_runtime *e, struct davit_buf *buf, struct davit_json *j)
{
	davit_json_close(j);
	if (e->peer && e->phase == EXEC_UP)
		peer_send(e->peer, buf);
}

static void on_cancel(struct davit_op *op, int why)
{
	struct request *q = op->performer;
	DAVIT_AUTO_BUF buf = DAVIT_BUF_INIT;
	struct davit_json j;

	q->why = why;
	notice_begin("cancel", &buf, &j);
	davit_json_put_int(&j, "request", (int64_t)q->id);
	notice_send(q->e, &buf, &j);
	/* This one cannot fail: the heap has room for a timer that is in it. */
	davit_timer_start(&q->deadline, EXEC_CANCEL_TIMEOUT);
}

/* Ends it: op (if anybody waits) gets err->code, or 0. Frees q. */
static void request_end(struct request *q, const struct davit_error *err)
{
	struct exec_instance *x = !q->given_up && q->inst ? exec_instance(q->inst) : NULL;
	struct davit_op *op = q->op;

	if (x && x->busy == q)
		x->busy = NULL;
	if (err && q->channel)
		channel_refused(q->e, q->channel, err);
	davit_timer_stop(&q->deadline);
	davit_list_remove(&q->list);
	free(q);
	if (op && err)
		davit_op_fail_error(op, err);
	else if (op)
		davit_op_complete(op, 0);
	/* Behind the completion in the queue: the end of a run that was told
	 * before its start was answered. */
	if (x && x->inst && x->held_run > x->told && x->held_run <= x->run)
		davit_defer(&x->release);
}

/* A create that was given up has succeeded after all: nothing may be left. */
static void undo_create(struct exec_runtime *e, const char *id)
{
	DAVIT_AUTO_BUF buf = DAVIT_BUF_INIT;
	struct davit_json j;
	struct request *q = request_new(e, "remove", NULL, NULL, &buf, &j);

	if (!q)
		return;
	davit_json_put_string(&j, "instance", id);
	request_send(q, &buf, &j, EXEC_REQUEST_TIMEOUT);
}

static struct request *find(struct exec_runtime *e, int64_t id)
{
	struct request *q;

	DAVIT_LIST_FOREACH (q, &e->requests, list)
		if (q->id == (uint64_t)id)
			return q->answered ? NULL : q;
	return NULL;
}

int request_answered(struct exec_runtime *e, const json_t *message, struct davit_error *err)
{
	const json_t *result = json_object_get(message, "result");
	const json_t *error = json_object_get(message, "error");
	struct davit_error why = {0};
	struct request *q;
	int64_t id;
	int r = wire_get_int(message, "id", 1, INT64_MAX, &id, err);

	if (r < 0)
		return r;
	q = find(e, id);
	if (!q)
		return davit_error_set(err, DAVIT_EPROTO, "id", "no request %lld is waiting for an answer",
				       (long long)id);
	if (json_is_object(error)) {
		wire_get_error(error, &why);
		if (q->vital)
			return davit_error_set(err, DAVIT_EPROTO, "error", "it refused an 'adopt': %.200s",
					       why.message);
		if (q->why && (why.code == DAVIT_ECANCELED || why.code == DAVIT_ETIMEDOUT))
			davit_error_set(&why, q->why, NULL, "%s", davit_error_doc(q->why));
		request_end(q, &why);
		return 0;
	}
	if (!json_is_object(result))
		return davit_error_set(err, DAVIT_EPROTO, "result",
				       "an answer must have an object as 'result' or 'error'");
	if (q->given_up && q->create)
		undo_create(e, q->instance);
	q->answered = true;
	r = q->answer && !q->given_up ? q->answer(q, result, err) : 0;
	if (r == 1)
		return 0; /* waits for the end of a run */
	request_end(q, r < 0 ? err : NULL);
	/* What was wrong in the answer is the peer's fault, the rest is not. */
	return r == DAVIT_EPROTO ? r : 0;
}

void request_run_ended(struct davit_instance *inst)
{
	struct request *q = exec_instance(inst)->busy;

	if (q && q->answered)
		request_end(q, NULL);
}

void requests_fail(struct exec_runtime *e, const struct davit_error *why)
{
	struct request *q, *tmp;

	DAVIT_LIST_FOREACH_SAFE (q, tmp, &e->requests, list)
		request_end(q, why);
}
