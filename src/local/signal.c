/* SPDX-License-Identifier: MIT
 *
 * The signal facet. Apart from the other operations, because it may come while
 * one of those is under way.
 */
#include "local/local.h"

struct signal_request {
	struct keeper_request q;
	struct davit_op *op;
	struct local_keeper *keeper;
};

static void on_signal_done(struct keeper_request *q, const struct keeper_header *h,
			   const struct davit_error *why)
{
	struct signal_request *s = DAVIT_CONTAINER_OF(q, struct signal_request, q);
	struct davit_error err = {0};

	if (h)
		local_error_of(h, &err);
	else
		err = *why;
	if (err.code)
		davit_op_fail_error(s->op, &err);
	else
		davit_op_complete(s->op, 0);
	free(s);
}

static void on_signal_cancel(struct davit_op *op, int why)
{
	struct signal_request *s = op->performer;

	const char *name = s->keeper->runtime->rt->name;

	keeper_client_forget(&s->keeper->client, &s->q);
	free(s);
	davit_op_fail(op, why, name, "the keeper did not answer in time");
}

void local_signal(struct davit_instance *inst, int signo, struct davit_op *op)
{
	struct local_instance *pi = local_instance_of(inst);
	struct signal_request *s;
	struct davit_error err = {0};
	struct keeper_signal *m;

	if (!pi->inst || pi->state != DAVIT_STATE_STARTED) {
		davit_op_fail(op, DAVIT_ESTATE, inst->runtime->name, "the instance does not run");
		return;
	}
	s = calloc(1, sizeof *s);
	m = local_packet(local_runtime_of(pi->inst->runtime), KEEPER_SIGNAL, sizeof *m, pi->id);
	if (!s || !m) {
		free(s);
		davit_op_fail(op, DAVIT_ENOMEM, inst->runtime->name, "out of memory");
		return;
	}
	m->signo = signo;
	s->q.answer = on_signal_done;
	s->op = op;
	s->keeper = pi->keeper;
	if (keeper_client_send(&pi->keeper->client, &local_runtime_of(pi->inst->runtime)->packet, NULL, 0,
			       &s->q, &err) < 0) {
		free(s);
		davit_op_fail_error(op, &err);
		return;
	}
	op->performer = s;
	davit_op_on_cancel(op, on_signal_cancel);
}
