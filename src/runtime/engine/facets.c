/* SPDX-License-Identifier: MIT
 *
 * The smaller facets: signals, pause, ports, stats.
 */
#include "runtime/engine/impl.h"

#include <string.h>

/* A task on an instance that must run; NULL, and the op failed, otherwise. */
static struct task *task_on_running(struct davit_instance *inst, struct davit_op *op)
{
	struct engine_instance *ei = engine_instance(inst);

	if (!ei->inst || ei->state != DAVIT_STATE_STARTED) {
		davit_op_fail(op, DAVIT_ESTATE, inst->runtime->name, "the instance does not run");
		return NULL;
	}
	return task_new(engine_of(inst->runtime), op, inst);
}

/* It may have ended since. */
static void signalled(struct task *t, struct http_call *c, const struct davit_error *err)
{
	if (err && err->code != DAVIT_EUNAVAIL && strstr(err->message, "running"))
		task_fail(t, DAVIT_ESTATE, "the instance does not run");
	else
		task_end(t, err);
}

/* Podman answers a SIGKILL only when it has seen the container stopped, which it never does
 * when that runs again before it looks: the end itself is the answer. */
void signals_ended(struct davit_instance *inst)
{
	struct task *t, *tmp;

	DAVIT_LIST_FOREACH_SAFE (t, tmp, &engine_of(inst->runtime)->tasks, list)
		if (t->inst == inst && t->step == signalled)
			task_end(t, NULL);
}

static void signal_send(struct davit_instance *inst, int signo, struct davit_op *op)
{
	struct task *t = task_on_running(inst, op);

	if (t)
		task_call(t,
			  http_new(&t->e->calls, "POST", "/containers/%s/kill?signal=%d",
				   engine_instance(inst)->container, signo),
			  signalled);
}

const struct davit_signal_facet engine_signal = {.send = signal_send};

/* --- pause --- */

static void set_frozen(struct task *t, const struct davit_error *err, bool frozen)
{
	struct davit_instance *inst = t->inst;

	if (!err)
		engine_instance(inst)->paused = frozen;
	task_end(t, err);
	if (err)
		container_look(inst);
}

static void frozen(struct task *t, struct http_call *c, const struct davit_error *err)
{
	set_frozen(t, err, true);
}

static void thawed(struct task *t, struct http_call *c, const struct davit_error *err)
{
	set_frozen(t, err, false);
}

static void pause_pause(struct davit_instance *inst, struct davit_op *op)
{
	struct engine_instance *ei = engine_instance(inst);
	struct task *t = task_on_running(inst, op);

	if (t && ei->paused)
		task_end(t, NULL);
	else if (t)
		task_call(t, http_new(&t->e->calls, "POST", "/containers/%s/pause", ei->container), frozen);
}

static void pause_unpause(struct davit_instance *inst, struct davit_op *op)
{
	struct engine_instance *ei = engine_instance(inst);
	struct task *t = task_on_running(inst, op);

	if (t && !ei->paused)
		task_end(t, NULL);
	else if (t)
		task_call(t, http_new(&t->e->calls, "POST", "/containers/%s/unpause", ei->container), thawed);
}

const struct davit_pause_facet engine_pause = {.pause = pause_pause, .unpause = pause_unpause};

/* --- ports --- */

static int ports_resolve(struct davit_runtime *rt, struct davit_port *ports, size_t n,
			 struct davit_error *err)
{
	DAVIT_AUTO_FREE struct davit_port *hosts = calloc(n + 1, sizeof *hosts);
	int r;

	if (!hosts)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	/* What is shared maps nothing; an engine does, so the host's side alone counts. */
	for (size_t i = 0; i < n; i++) {
		hosts[i] = ports[i];
		hosts[i].container = 0;
	}
	r = local_ports_resolve(&engine_of(rt)->ports, rt->loop, hosts, n, err);
	for (size_t i = 0; r == 0 && i < n; i++)
		ports[i].host = hosts[i].host;
	return r;
}

const struct davit_ports_facet engine_ports = {.resolve = ports_resolve};

/* --- stats --- */

static void stats_answered(struct task *t, struct http_call *c, const struct davit_error *err)
{
	/* As reals: an unsigned number that has wrapped is too big for an integer. */
	json_t *o =
		err ? NULL : json_loadb(davit_buf_str(&c->body), c->body.len, JSON_DECODE_INT_AS_REAL, NULL);

	if (err && err->code == DAVIT_ENOENT)
		task_fail(t, DAVIT_ESTATE, "the instance does not run");
	else if (err)
		task_end(t, err);
	else if (!json_is_object(o))
		task_fail(t, DAVIT_EPROTO, "the engine's statistics make no sense");
	else if (engine_instance(t->inst)->state != DAVIT_STATE_STARTED)
		task_fail(t, DAVIT_ESTATE, "the instance does not run");
	else {
		observe_stats(o, t->ret);
		if (!t->inst->workload->memory) /* the host's memory then */
			((struct davit_stats *)t->ret)->memory_limit = 0;
		task_end(t, NULL);
	}
	json_decref(o);
}

static void stats_read(struct davit_instance *inst, struct davit_stats *ret, struct davit_op *op)
{
	struct engine_instance *ei = engine_instance(inst);
	struct task *t = task_on_running(inst, op);

	if (!t)
		return;
	if (t->e->flavour->slow_stats && usage_read(ei->pid, ei->container, ret)) {
		if (!inst->workload->memory)
			ret->memory_limit = 0;
		task_end(t, NULL);
		return;
	}
	t->ret = ret;
	/* one-shot: without it the engine measures for a second. Docker collects once a
	 * second for all that ask: so they do not wait for each other here. */
	task_call(t,
		  http_new(&t->e->streams, "GET", "/containers/%s/stats?stream=0&one-shot=1",
			   engine_instance(inst)->container),
		  stats_answered);
}

const struct davit_stats_facet engine_stats = {.read = stats_read};
