/* SPDX-License-Identifier: MIT
 *
 * What a keeper lists: instances that outlived the daemon, and after a
 * connection was lost the present state of those that the driver knows.
 */
#include "local/local.h"

#include <stdio.h>
#include <string.h>

static enum davit_state state_of(const struct keeper_instance *s)
{
	switch (s->state) {
	case KEEPER_SLOT_RUNNING:
		return DAVIT_STATE_STARTED;
	case KEEPER_SLOT_ENDED:
		return DAVIT_STATE_STOPPED;
	case KEEPER_SLOT_CREATED:
		return DAVIT_STATE_CREATED;
	default:
		return DAVIT_STATE_DESTROYED;
	}
}

/* Behind the struct lie the label and the status. */
static const char *status_of(const struct keeper_instance *m)
{
	const char *s = (const char *)m + m->h.size, *end = (const char *)m + m->h.total;
	const char *nul = memchr(s, '\0', (size_t)(end - s));

	return nul && nul + 1 < end ? nul + 1 : "";
}

static void take_over(struct local_instance *pi, const struct keeper_instance *s)
{
	pi->state = (uint8_t)state_of(s);
	pi->run = s->run;
	pi->pid = pi->state == DAVIT_STATE_STARTED ? s->pid : 0;
	pi->started = s->started;
	pi->ready = s->ready;
	pi->exit = s->exit;
	local_set_status(pi, status_of(s));
}

static void adopt(struct local_keeper *k, const struct keeper_instance *s)
{
	struct local_runtime *p = k->runtime;
	struct davit_found found = {
		.label = (const char *)s + s->h.size,
		.now = {.state = state_of(s), .run = s->run, .ready = s->ready, .started = s->started},
	};
	struct davit_instance *inst;
	struct local_instance *pi;
	char *id;

	snprintf(found.id, sizeof found.id, "%s", s->h.id);
	if (found.now.state == DAVIT_STATE_STARTED) {
		found.now.pid = s->pid;
		found.now.paused = cgroups_frozen(&p->cgroups, found.id);
		if (p->ops->describe)
			p->ops->describe(p, found.id, &found.now);
	}
	if (found.now.state == DAVIT_STATE_STOPPED)
		local_exit_explained(p, found.id, &s->exit, &found.now.exit);
	snprintf(found.now.status, sizeof found.now.status, "%s", status_of(s));
	inst = p->rt->events->found(p->rt, &found);
	if (!inst) {
		id = strdup(s->h.id);
		if (!id || davit_map_put(&p->strangers, id, id) < 0)
			free(id);
		return;
	}
	pi = local_instance_of(inst);
	if (local_instance_attach(pi, inst, s->h.id, k) < 0)
		return;
	take_over(pi, s);
	pi->round = k->round;
	pi->paused = found.now.paused;
	pi->cpu_known = pi->run <= 1;
	/* Its end was told by `found`. */
	pi->told = pi->state == DAVIT_STATE_STARTED ? pi->run - 1 : pi->run;
	if (pi->state != DAVIT_STATE_STARTED && p->ops->settled)
		p->ops->settled(pi);
}

void local_instance_listed(struct local_keeper *k, const struct keeper_instance *s)
{
	struct local_instance *pi = davit_map_get(&k->runtime->instances, s->h.id);
	bool was_ready;

	if (s->state == KEEPER_SLOT_FREE)
		return;
	if (!pi) {
		if (k->runtime->adopt_op && !davit_map_get(&k->runtime->strangers, s->h.id))
			adopt(k, s);
		return;
	}
	was_ready = pi->ready && pi->run == s->run;
	pi->round = k->round;
	take_over(pi, s);
	if (pi->state == DAVIT_STATE_STOPPED)
		local_ended(pi, s->run, &s->exit);
	else if (pi->ready && !was_ready)
		local_tell(pi, LOCAL_NEWS_READY);
}

void local_instance_missing(struct local_instance *pi)
{
	struct local_runtime *p = local_runtime_of(pi->inst->runtime);

	pi->state = DAVIT_STATE_DESTROYED;
	pi->pid = 0;
	if (pi->action == LOCAL_REMOVE)
		return;
	pi->told = pi->run;
	pi->waiting = 0;
	/* Nobody reads its output or will see its end: it is not left running beside
	 * what the core starts in its place. */
	cgroups_kill(&p->cgroups, pi->id);
	if (p->ops->cleanup)
		p->ops->cleanup(p, pi->id, NULL, NULL);
	local_tell(pi, LOCAL_NEWS_GONE);
	if (pi->op && pi->action == LOCAL_START) {
		struct davit_error err = {0};

		davit_error_set(&err, DAVIT_ENOENT, pi->inst->runtime->name, "the instance is gone");
		local_complete(pi, &err);
	}
}
