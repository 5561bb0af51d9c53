/* SPDX-License-Identifier: MIT
 *
 * The pause facet: the instance's group is frozen as a whole. Not by signals, which
 * a workload sees, its parent is told of, and a fork escapes.
 */
#include "local/local.h"

#include "base/units.h"

#define LOOK_NS (2 * DAVIT_NSEC_PER_MSEC)
#define LOOK_MAX_NS (50 * DAVIT_NSEC_PER_MSEC)

/* A pause that is not complete: processes in a system call take a moment. It begins only when
 * nothing is being started beside the instance: the keeper waits for a child to execute its
 * program, and would wait for a frozen one until the end of the pause, and with it every
 * other instance. */
struct local_pausing {
	struct local_instance *pi;
	struct davit_op *op;
	struct davit_timer timer;
	int64_t next;
	bool begun;
};

static struct cgroups *cgroups_of(const struct local_instance *pi)
{
	return &local_runtime_of(pi->inst->runtime)->cgroups;
}

void local_thaw(struct local_instance *pi)
{
	struct local_pausing *p = DAVIT_TAKE(pi->pausing);

	if (pi->paused || p)
		cgroups_freeze(cgroups_of(pi), pi->id, false, NULL);
	pi->paused = false;
	if (!p)
		return;
	davit_timer_stop(&p->timer);
	davit_op_fail(p->op, DAVIT_ESTATE, pi->inst->runtime->name, "the instance ended while it was paused");
	free(p);
}

void local_pausing_close(struct local_instance *pi)
{
	struct local_pausing *p = DAVIT_TAKE(pi->pausing);

	if (!p)
		return;
	davit_timer_stop(&p->timer);
	davit_op_fail(p->op, DAVIT_ECLOSED, pi->inst->runtime->name, "the runtime was closed");
	free(p);
}

static bool starts_beside(const struct local_instance *pi)
{
	return local_exec_starting(pi) ||
	       local_terminals_opening(&local_runtime_of(pi->inst->runtime)->terminals, pi->inst);
}

static void on_look(struct davit_timer *t)
{
	struct local_pausing *p = DAVIT_CONTAINER_OF(t, struct local_pausing, timer);
	struct davit_op *op = p->op;
	struct davit_error err = {0};

	if (!p->begun && !starts_beside(p->pi)) {
		if (cgroups_freeze(cgroups_of(p->pi), p->pi->id, true, &err) < 0) {
			p->pi->pausing = NULL;
			free(p);
			davit_op_fail_error(op, &err);
			return;
		}
		p->begun = true;
	}
	if (!p->begun || !cgroups_frozen(cgroups_of(p->pi), p->pi->id)) {
		p->next = p->next * 2 < LOOK_MAX_NS ? p->next * 2 : LOOK_MAX_NS;
		davit_timer_start(&p->timer, p->next);
		return;
	}
	p->pi->pausing = NULL;
	p->pi->paused = true;
	free(p);
	davit_op_complete(op, 0);
}

static void on_cancel(struct davit_op *op, int why)
{
	struct local_pausing *p = op->performer;
	const char *name = p->pi->inst->runtime->name;

	cgroups_freeze(cgroups_of(p->pi), p->pi->id, false, NULL);
	p->pi->pausing = NULL;
	davit_timer_stop(&p->timer);
	free(p);
	davit_op_fail(op, why, name, "its processes did not freeze in time; it goes on");
}

static bool refuse(const struct local_instance *pi, struct davit_instance *inst, struct davit_op *op)
{
	if (pi->inst && pi->state == DAVIT_STATE_STARTED)
		return false;
	davit_op_fail(op, DAVIT_ESTATE, inst->runtime->name, "the instance does not run");
	return true;
}

static void pause_(struct davit_instance *inst, struct davit_op *op)
{
	struct local_instance *pi = local_instance_of(inst);
	struct local_pausing *p;

	if (refuse(pi, inst, op))
		return;
	if (pi->paused) {
		davit_op_complete(op, 0);
		return;
	}
	p = calloc(1, sizeof *p);
	if (!p) {
		davit_op_fail(op, DAVIT_ENOMEM, inst->runtime->name, "out of memory");
		return;
	}
	*p = (struct local_pausing){.pi = pi, .op = op, .next = LOOK_NS};
	davit_timer_init(&p->timer, inst->runtime->loop, on_look);
	davit_timer_start(&p->timer, 0);
	pi->pausing = p;
	op->performer = p;
	davit_op_on_cancel(op, on_cancel);
}

static void unpause(struct davit_instance *inst, struct davit_op *op)
{
	struct local_instance *pi = local_instance_of(inst);
	struct davit_error err = {0};

	if (refuse(pi, inst, op))
		return;
	if (cgroups_freeze(cgroups_of(pi), pi->id, false, &err) < 0) {
		davit_op_fail_error(op, &err);
		return;
	}
	pi->paused = false;
	davit_op_complete(op, 0);
}

const struct davit_pause_facet local_pause = {.pause = pause_, .unpause = unpause};
