/* SPDX-License-Identifier: MIT
 *
 * One instance and its operations.
 *
 * An operation outlives the keeper that it was sent to: `op` stays, `request`
 * goes, and after the keeper is back and has listed what it holds,
 * local_instance_issue looks at the state and sends what is still to be done.
 */
#include "local/local.h"

#include "base/units.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define COMING_PAUSE DAVIT_NSEC_PER_MSEC
#define COMING_MAX DAVIT_NSEC_PER_SEC

bool local_knows(const struct local_runtime *p, const char *id)
{
	return davit_map_get(&p->instances, id) || davit_map_get(&p->strangers, id);
}

/* ----------------------------------------------------------- coming up */

static bool has_come(struct local_instance *pi)
{
	const struct local_ops *ops = local_runtime_of(pi->inst->runtime)->ops;

	return !ops->up || pi->state != DAVIT_STATE_STARTED ||
	       davit_loop_now(pi->inst->runtime->loop) >= pi->coming_until || ops->up(pi);
}

static void on_coming(struct davit_timer *t)
{
	struct local_instance *pi = DAVIT_CONTAINER_OF(t, struct local_instance, coming);

	if (pi->action != LOCAL_START)
		return;
	/* Without memory for a timer it is said a little too early. */
	if (has_come(pi) || davit_timer_start(t, COMING_PAUSE) < 0)
		local_complete(pi, NULL);
}

/* ------------------------------------------------------------ attach and detach */

int local_instance_attach(struct local_instance *pi, struct davit_instance *inst, const char *id,
			  struct local_keeper *k)
{
	struct local_runtime *p = local_runtime_of(inst->runtime);

	*pi = (struct local_instance){.inst = inst, .keeper = k};
	snprintf(pi->id, sizeof pi->id, "%s", id);
	davit_list_init(&pi->requests);
	local_news_init(pi);
	davit_timer_init(&pi->coming, inst->runtime->loop, on_coming);
	if (davit_map_put(&p->instances, pi->id, pi) < 0) {
		pi->inst = NULL;
		return DAVIT_ENOMEM;
	}
	if (inst->workload)
		local_ports_claim(&p->ports, inst->workload->ports, inst->workload->n_ports,
				  p->ops->translates_ports && p->ops->translates_ports(inst->workload));
	return 0;
}

static void drop_requests(struct local_instance *pi)
{
	struct local_request *q, *tmp;

	DAVIT_LIST_FOREACH_SAFE (q, tmp, &pi->requests, list) {
		davit_list_remove(&q->list);
		keeper_client_forget(&pi->keeper->client, &q->q);
		free(q);
	}
	pi->request = NULL;
}

void local_instance_detach(struct local_instance *pi)
{
	struct local_runtime *p = local_runtime_of(pi->inst->runtime);

	if (p->ops->detach)
		p->ops->detach(pi);
	drop_requests(pi);
	local_pausing_close(pi);
	davit_deferred_cancel(&pi->news);
	davit_timer_stop(&pi->coming);
	free(DAVIT_TAKE(pi->status));
	davit_map_remove(&p->instances, pi->id);
	if (pi->inst->workload)
		local_ports_release(&p->ports, pi->inst->workload->ports, pi->inst->workload->n_ports);
	if (pi->op)
		davit_op_fail(DAVIT_TAKE(pi->op), DAVIT_ECLOSED, pi->inst->runtime->name,
			      "the runtime was closed");
	pi->inst = NULL;
	pi->state = DAVIT_STATE_DESTROYED;
}

/* -------------------------------------------------------------------- operations */

void local_complete(struct local_instance *pi, const struct davit_error *err)
{
	struct davit_op *op = DAVIT_TAKE(pi->op);

	pi->action = LOCAL_NOTHING;
	pi->request = NULL;
	if (!op)
		return;
	if (err && err->code)
		davit_op_fail_error(op, err);
	else
		davit_op_complete(op, 0);
}

/* The object is gone, or never came to be. */
static void finish_gone(struct local_instance *pi, const struct davit_error *err)
{
	struct local_runtime *p = local_runtime_of(pi->inst->runtime);
	struct davit_op *op = DAVIT_TAKE(pi->op);

	local_sweep_add(p, pi->id);
	if (pi->keeper->client.slots_used)
		pi->keeper->client.slots_used--;
	local_instance_detach(pi);
	if (p->ops->cleanup) {
		if (op)
			davit_op_on_cancel(op, NULL);
		p->ops->cleanup(p, pi->id, op, err);
		return;
	}
	if (op && err && err->code)
		davit_op_fail_error(op, err);
	else if (op)
		davit_op_complete(op, 0);
}

/* Its control groups were taken away (systemd does so with those of a unit that is stopped): a slot knows
 * where they were, so that the core has to make the instance anew. */
static void give_back(struct local_instance *pi)
{
	struct local_runtime *p = local_runtime_of(pi->inst->runtime);

	local_packet(p, KEEPER_REMOVE, sizeof(struct keeper_header), pi->id);
	keeper_client_send(&pi->keeper->client, &p->packet, NULL, 0, NULL, NULL);
	local_instance_missing(pi);
}

static void on_done(struct local_instance *pi, enum local_action action, const struct davit_error *err)
{
	bool ok = !err->code;

	switch (action) {
	case LOCAL_CREATE:
		if (!ok) {
			finish_gone(pi, err);
			return;
		}
		pi->state = DAVIT_STATE_CREATED;
		break;
	case LOCAL_REMOVE:
		if (ok || err->code == DAVIT_ENOENT) {
			finish_gone(pi, NULL);
			return;
		}
		break;
	case LOCAL_START:
		if (err->code == DAVIT_ENOENT && pi->state != DAVIT_STATE_STARTED) {
			give_back(pi);
			return;
		}
		if (!ok && local_runtime_of(pi->inst->runtime)->ops->settled)
			local_runtime_of(pi->inst->runtime)->ops->settled(pi);
		pi->coming_until = davit_loop_now(pi->inst->runtime->loop) + COMING_MAX;
		if (ok && !has_come(pi) && davit_timer_start(&pi->coming, COMING_PAUSE) == 0)
			return;
		break;
	default:
		break;
	}
	local_complete(pi, err);
}

static void on_spawned(struct local_instance *pi, const struct keeper_spawned *s)
{
	if (s->run < pi->run || s->run <= pi->told)
		return;
	pi->run = s->run;
	pi->pid = s->pid;
	pi->started = s->started;
	/* What is launched may be ready before its launcher has ended. */
	pi->ready = pi->ready_run == s->run;
	pi->state = DAVIT_STATE_STARTED;
}

void local_error_of(const struct keeper_header *h, struct davit_error *err)
{
	const struct keeper_done *d = (const void *)h;

	*err = (struct davit_error){0};
	if (h->type == KEEPER_SPAWNED && h->size >= sizeof(struct keeper_spawned))
		return;
	if (h->type != KEEPER_DONE || h->size < sizeof *d) {
		davit_error_set(err, DAVIT_EPROTO, "keeper", "the keeper gave an answer that makes no sense");
		return;
	}
	if (d->result < 0) {
		davit_error_set(err, d->result, NULL, "%s", (const char *)h + h->size);
		err->sys_errno = d->sys_errno;
	}
}

static void on_answer(struct keeper_request *kq, const struct keeper_header *h, const struct davit_error *why)
{
	struct local_request *q = DAVIT_CONTAINER_OF(kq, struct local_request, q);
	struct local_instance *pi = q->pi;
	enum local_action action = q->action;
	bool current = pi->request == q;
	struct davit_error err;

	(void)why;
	davit_list_remove(&q->list);
	free(q);
	if (current)
		pi->request = NULL;
	if (!h)
		return; /* op, if it is still there, is issued again */
	local_error_of(h, &err);
	if (!err.code && h->type == KEEPER_SPAWNED)
		on_spawned(pi, (const void *)h);
	if (current)
		on_done(pi, action, &err);
}

/* Sends p->packet for the operation under way. */
static void send_request(struct local_instance *pi, enum local_action action)
{
	struct local_runtime *p = local_runtime_of(pi->inst->runtime);
	struct local_request *q = calloc(1, sizeof *q);
	struct davit_error err = {0};

	if (!q) {
		davit_error_set(&err, DAVIT_ENOMEM, NULL, "out of memory");
		on_done(pi, action, &err);
		return;
	}
	q->q.answer = on_answer;
	q->pi = pi;
	q->action = action;
	davit_list_init(&q->list);
	davit_list_add_tail(&pi->requests, &q->list);
	pi->request = q;
	if (keeper_client_send(&pi->keeper->client, &p->packet, NULL, 0, &q->q, &err) < 0) {
		davit_list_remove(&q->list);
		free(q);
		pi->request = NULL;
		if (err.code != DAVIT_EUNAVAIL)
			on_done(pi, action, &err);
	}
}

static void issue_create(struct local_instance *pi)
{
	struct davit_error err = {0};

	if (pi->preparing)
		return; /* local_prepared comes back here */
	if (pi->state != DAVIT_STATE_DESTROYED)
		local_complete(pi, NULL);
	else if (local_build_create(pi, &err) < 0)
		on_done(pi, LOCAL_CREATE, &err);
	else
		send_request(pi, LOCAL_CREATE);
}

static void issue_start(struct local_instance *pi)
{
	struct davit_error err = {0};

	if (pi->run >= pi->target) {
		local_complete(pi, NULL); /* the answer was lost, the run was not */
		return;
	}
	if (local_runtime_of(pi->inst->runtime)->ops->build_spawn(pi, pi->target, &err) < 0) {
		local_complete(pi, &err);
		return;
	}
	send_request(pi, LOCAL_START);
}

static bool build_stop(struct local_instance *pi, int signo, int64_t grace)
{
	struct keeper_stop *s =
		local_packet(local_runtime_of(pi->inst->runtime), KEEPER_STOP, sizeof *s, pi->id);

	if (s) {
		s->signo = signo;
		s->scope = local_runtime_of(pi->inst->runtime)->ops->main_passes_signals;
		s->grace_ns = grace;
	}
	return s != NULL;
}

void local_instance_issue(struct local_instance *pi)
{
	if (pi->keeper->client.phase != KEEPER_CLIENT_UP || !pi->keeper->listed)
		return;
	switch (pi->action) {
	case LOCAL_CREATE:
		issue_create(pi);
		break;
	case LOCAL_START:
		issue_start(pi);
		break;
	case LOCAL_STOP:
		if (pi->state == DAVIT_STATE_DESTROYED || pi->state == DAVIT_STATE_CREATED)
			local_complete(pi, NULL);
		else {
			/* An allocation that failed shows in the packet. */
			build_stop(pi, pi->how.signal, pi->how.grace_ns);
			send_request(pi, LOCAL_STOP);
		}
		break;
	case LOCAL_REMOVE:
		if (pi->state == DAVIT_STATE_DESTROYED)
			finish_gone(pi, NULL);
		else {
			local_packet(local_runtime_of(pi->inst->runtime), KEEPER_REMOVE,
				     sizeof(struct keeper_header), pi->id);
			send_request(pi, LOCAL_REMOVE);
		}
		break;
	default:
		break;
	}
}

static void cancel(struct davit_op *op, int why)
{
	struct local_instance *pi = op->performer;
	struct local_runtime *p = local_runtime_of(pi->inst->runtime);
	struct davit_error err = {0};

	if (pi->action == LOCAL_STOP && pi->request) {
		/* Faster is what was asked for: the first STOP's end is near then. */
		build_stop(pi, SIGKILL, 0);
		keeper_client_send(&pi->keeper->client, &p->packet, NULL, 0, NULL, NULL);
		return;
	}
	/* What the keeper has been told it does: the answer is success, and soon. */
	if (pi->action == LOCAL_START && pi->request && why == DAVIT_ECANCELED)
		return;
	if (pi->preparing) {
		pi->abandoned = why; /* what is under way is ended first, and then taken away */
		return;
	}
	davit_error_set(&err, why, pi->inst->runtime->name,
			why == DAVIT_ETIMEDOUT ? "the keeper did not answer in time" : "cancelled");
	if (pi->action != LOCAL_CREATE) {
		local_complete(pi, &err);
		return;
	}
	if (pi->request) {
		local_packet(p, KEEPER_REMOVE, sizeof(struct keeper_header), pi->id);
		keeper_client_send(&pi->keeper->client, &p->packet, NULL, 0, NULL, NULL);
	}
	finish_gone(pi, &err);
}

static void begin(struct local_instance *pi, enum local_action action, struct davit_op *op)
{
	pi->op = op;
	pi->action = (uint8_t)action;
	pi->request = NULL;
	op->performer = pi;
	davit_op_on_cancel(op, cancel);
	local_instance_issue(pi);
}

void local_prepared(struct local_instance *pi, const struct davit_error *err)
{
	struct davit_error why = {0};

	pi->preparing = false;
	if (err && err->code)
		why = *err;
	else if (pi->abandoned)
		davit_error_set(&why, pi->abandoned, pi->inst->runtime->name, "%s",
				pi->abandoned == DAVIT_ETIMEDOUT ? "the instance was not made in time"
								 : "cancelled");
	if (why.code)
		finish_gone(pi, &why);
	else
		local_instance_issue(pi);
}

/* The parents may have gone since open: a daemon before us on the same directory
 * removes those that are empty when it ends. They are made again then. */
static int make_groups(struct local_runtime *p, const struct davit_workload *w, struct davit_error *err)
{
	int r = cgroups_make(&p->cgroups, w, err);

	if (r != DAVIT_ENOENT)
		return r;
	cgroups_fini(&p->cgroups);
	r = cgroups_open(&p->cgroups, p->place.run_dir, err);
	return r < 0 ? r : cgroups_make(&p->cgroups, w, err);
}

void local_create(struct davit_instance *inst, struct davit_op *op)
{
	struct local_runtime *p = local_runtime_of(inst->runtime);
	struct local_instance *pi = local_instance_of(inst);
	struct davit_error err = {0};
	struct local_keeper *k;

	if (pi->inst && pi->state == DAVIT_STATE_CREATED) {
		davit_op_complete(op, 0); /* it is there already */
		return;
	}
	if (pi->inst && pi->state != DAVIT_STATE_DESTROYED) {
		davit_op_fail(op, DAVIT_ESTATE, inst->runtime->name,
			      "the instance was created and run already");
		return;
	}
	if (pi->inst)
		local_instance_detach(pi); /* it vanished, and is made anew */
	if (davit_map_get(&p->instances, inst->workload->id)) {
		davit_op_fail(op, DAVIT_EEXIST, inst->runtime->name,
			      "an instance with the id %s is there already", inst->workload->id);
		return;
	}
	if (p->ops->check(p, inst->workload, true, &err) < 0 || make_groups(p, inst->workload, &err) < 0) {
		davit_op_fail_error(op, &err);
		return;
	}
	k = local_keepers_choose(p);
	if (!k || local_instance_attach(pi, inst, inst->workload->id, k) < 0) {
		cgroups_remove(&p->cgroups, inst->workload->id);
		davit_op_fail(op, DAVIT_ENOMEM, inst->runtime->name, "no place for one more instance");
		return;
	}
	k->client.slots_used++;
	pi->preparing = p->ops->prepare != NULL;
	begin(pi, LOCAL_CREATE, op);
	if (pi->preparing)
		p->ops->prepare(pi);
}

static bool refuse_absent(struct davit_instance *inst, struct davit_op *op)
{
	const struct local_instance *pi = local_instance_of(inst);

	if (pi->inst && pi->state != DAVIT_STATE_DESTROYED)
		return false;
	davit_op_fail(op, DAVIT_ESTATE, inst->runtime->name,
		      "the instance is not there: it was not created, or is gone");
	return true;
}

void local_start(struct davit_instance *inst, struct davit_op *op)
{
	struct local_instance *pi = local_instance_of(inst);
	uint64_t used = 0;

	if (refuse_absent(inst, op))
		return;
	if (pi->state == DAVIT_STATE_STARTED) {
		davit_op_complete(op, 0); /* nothing changes */
		return;
	}
	/* What earlier runs used of the CPU is the group's still. The first run needs
	 * no look at a file. */
	pi->cpu_known = !pi->run || local_group_cpu(pi, &used);
	pi->cpu_base = used;
	pi->target = pi->run + 1;
	begin(pi, LOCAL_START, op);
}

void local_stop(struct davit_instance *inst, const struct davit_stop *how, struct davit_op *op)
{
	struct local_instance *pi = local_instance_of(inst);

	/* Nothing runs, or the keeper said that nothing was left of the last run. */
	if (!pi->inst || (pi->state == DAVIT_STATE_STOPPED && pi->alone)) {
		davit_op_complete(op, 0);
		return;
	}
	pi->how = *how;
	local_thaw(pi); /* so that it can heed the signal */
	begin(pi, LOCAL_STOP, op);
}

void local_remove(struct davit_instance *inst, struct davit_op *op)
{
	struct local_instance *pi = local_instance_of(inst);

	if (!pi->inst) {
		davit_op_complete(op, 0);
		return;
	}
	if (pi->state == DAVIT_STATE_STARTED) {
		davit_op_fail(op, DAVIT_ESTATE, inst->runtime->name, "the instance runs: stop it first");
		return;
	}
	begin(pi, LOCAL_REMOVE, op);
}

/* The keeper is the only one that changes an instance, and tells each change as it
 * happens: what the driver holds is the truth as long as the keeper is there. */
void local_inspect(struct davit_instance *inst, struct davit_inspection *ret, struct davit_op *op)
{
	struct local_instance *pi = local_instance_of(inst);
	struct local_runtime *p = local_runtime_of(inst->runtime);

	if (pi->inst && (pi->keeper->client.phase != KEEPER_CLIENT_UP || !pi->keeper->listed)) {
		davit_op_fail(op, DAVIT_EUNAVAIL, inst->runtime->name,
			      "the keeper of local processes does not answer");
		return;
	}
	*ret = (struct davit_inspection){.state = DAVIT_STATE_DESTROYED};
	if (!pi->inst || pi->state == DAVIT_STATE_DESTROYED) {
		davit_op_complete(op, 0);
		return;
	}
	*ret = (struct davit_inspection){
		.state = (enum davit_state)pi->state,
		.run = pi->run,
		.pid = pi->pid,
		.ready = pi->ready,
		.started = pi->started,
		.paused = pi->paused,
	};
	if (ret->state == DAVIT_STATE_STOPPED)
		local_exit_explained(p, pi->id, &pi->exit, &ret->exit);
	if (ret->state == DAVIT_STATE_STARTED && p->ops->describe)
		p->ops->describe(p, pi->id, ret);
	snprintf(ret->status, sizeof ret->status, "%s", pi->status ? pi->status : "");
	davit_op_complete(op, 0);
}
