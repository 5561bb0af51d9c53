/* SPDX-License-Identifier: MIT */
#include "davit/op.h"

#include "base/log.h"
#include "base/util.h"

#include <stdio.h>
#include <stdlib.h>

static void ask(struct davit_op *op, int why)
{
	if (op->phase != DAVIT_OP_PENDING || op->asked)
		return;
	op->asked = true;
	if (op->cancel)
		op->cancel(op, why);
}

static void on_deadline(struct davit_timer *t)
{
	ask(DAVIT_CONTAINER_OF(t, struct davit_op, deadline), DAVIT_ETIMEDOUT);
}

static void deliver(struct davit_deferred *d)
{
	struct davit_op *op = DAVIT_CONTAINER_OF(d, struct davit_op, completion);

	op->phase = DAVIT_OP_IDLE;
	op->done(op, op->result);
}

void davit_op_init(struct davit_op *op, struct davit_loop *loop, void (*done)(struct davit_op *, int),
		   void *user)
{
	*op = (struct davit_op){.done = done, .user = user};
	davit_timer_init(&op->deadline, loop, on_deadline);
	davit_deferred_init(&op->completion, loop, deliver);
}

void davit_op_begin(struct davit_op *op, int64_t timeout_ns)
{
	if (op->phase != DAVIT_OP_IDLE) {
		davit_log(DAVIT_LOG_ERROR, "an operation was begun twice");
		abort();
	}
	op->phase = DAVIT_OP_PENDING;
	op->cancel = NULL;
	op->performer = NULL;
	op->asked = false;
	op->result = 0;
	davit_error_clear(&op->error);
	if (timeout_ns > 0)
		davit_timer_start(&op->deadline, timeout_ns);
}

void davit_op_cancel(struct davit_op *op)
{
	ask(op, DAVIT_ECANCELED);
}

bool davit_op_pending(const struct davit_op *op)
{
	return op->phase != DAVIT_OP_IDLE;
}

void davit_op_on_cancel(struct davit_op *op, void (*cancel)(struct davit_op *op, int why))
{
	op->cancel = cancel;
}

void davit_op_complete(struct davit_op *op, int result)
{
	if (op->phase != DAVIT_OP_PENDING) {
		davit_log(DAVIT_LOG_ERROR, "an operation was completed twice or never begun");
		abort();
	}
	op->phase = DAVIT_OP_COMPLETING;
	op->result = result;
	if (result < 0 && !op->error.code)
		davit_error_set(&op->error, result, NULL, "%s", davit_error_doc(result));
	davit_timer_stop(&op->deadline);
	davit_defer(&op->completion);
}

void davit_op_fail(struct davit_op *op, int code, const char *where, const char *fmt, ...)
{
	char text[sizeof op->error.message];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	davit_error_set(&op->error, code, where, "%s", text);
	davit_op_complete(op, code);
}

void davit_op_fail_error(struct davit_op *op, const struct davit_error *err)
{
	op->error = *err;
	davit_op_complete(op, err->code);
}
