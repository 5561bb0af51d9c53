/* SPDX-License-Identifier: MIT
 *
 * The smaller facets: signals, pause, ports.
 */
#include "runtime/engine/impl.h"

#include <string.h>

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

/* Podman without root would say so in words of its own. */
static struct task *pause_task(struct davit_instance *inst, struct davit_op *op)
{
	const struct engine *e = engine_of(inst->runtime);

	if (davit_can(&e->capabilities, DAVIT_CAP_PAUSE))
		return task_on_running(inst, op);
	davit_op_fail(op, DAVIT_ENOTSUP, e->rt->name, "%s", e->capabilities.why_not[DAVIT_CAP_PAUSE]);
	return NULL;
}

static void pause_pause(struct davit_instance *inst, struct davit_op *op)
{
	struct engine_instance *ei = engine_instance(inst);
	struct task *t = pause_task(inst, op);

	if (t && ei->paused)
		task_end(t, NULL);
	else if (t)
		task_call(t, http_new(&t->e->calls, "POST", "/containers/%s/pause", ei->container), frozen);
}

static void pause_unpause(struct davit_instance *inst, struct davit_op *op)
{
	struct engine_instance *ei = engine_instance(inst);
	struct task *t = pause_task(inst, op);

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
	return local_ports_resolve(&engine_of(rt)->ports, rt->loop, ports, n, err);
}

const struct davit_ports_facet engine_ports = {.resolve = ports_resolve};
