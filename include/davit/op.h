/* SPDX-License-Identifier: MIT
 *
 * An asynchronous operation: started once, completed exactly once, with a
 * deadline and cancel. The caller embeds a struct davit_op, hands it to a
 * function that "takes an op", and gets its done callback later, always from
 * the loop and never from within the call that it started.
 */
#ifndef DAVIT_OP_H
#define DAVIT_OP_H

#include "davit/error.h"
#include "davit/loop.h"

#ifdef __cplusplus
extern "C" {
#endif

enum davit_op_phase { DAVIT_OP_IDLE, DAVIT_OP_PENDING, DAVIT_OP_COMPLETING };

struct davit_op {
	/* The caller's: set by davit_op_init. `done` may free or restart the op. */
	void (*done)(struct davit_op *op, int result);
	void *user;
	/* Why it failed; valid in done when result < 0. */
	struct davit_error error;

	/* The performer's (driver's) while it is pending. */
	void *performer;
	/* Private. */
	void (*cancel)(struct davit_op *op, int why);
	struct davit_timer deadline;
	struct davit_deferred completion;
	enum davit_op_phase phase;
	int result;
	bool asked; /* cancel was already called */
};

/* --- caller --- */
void davit_op_init(struct davit_op *op, struct davit_loop *loop, void (*done)(struct davit_op *, int),
		   void *user);
/* Marks it pending, right before it is handed over. timeout_ns <= 0: none. */
void davit_op_begin(struct davit_op *op, int64_t timeout_ns);
/* Asks for an early end. done still comes, exactly once, with whatever the
 * performer makes of it. Nothing happens to an op that is not pending. */
void davit_op_cancel(struct davit_op *op);
bool davit_op_pending(const struct davit_op *op);

/* --- performer --- */
/* What to call on cancel (why = DAVIT_ECANCELED) or at the deadline
 * (DAVIT_ETIMEDOUT). It must lead to davit_op_complete soon. An operation that
 * may take longer than one loop iteration sets this. */
void davit_op_on_cancel(struct davit_op *op, void (*cancel)(struct davit_op *op, int why));
/* Ends it: result is 0, a positive count, or a DAVIT_E... code. Completing
 * twice is a defect and aborts. */
void davit_op_complete(struct davit_op *op, int result);
/* Fills op->error and completes with code. */
void davit_op_fail(struct davit_op *op, int code, const char *where, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* Completes with err->code and a copy of err. */
void davit_op_fail_error(struct davit_op *op, const struct davit_error *err);

#ifdef __cplusplus
}
#endif
#endif
