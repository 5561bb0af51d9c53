/* SPDX-License-Identifier: MIT
 *
 * What the keeper tells of an instance, on its way to the core.
 */
#include "local/local.h"

#include <stdio.h>
#include <string.h>

void local_exit_of(const struct keeper_exit *from, struct davit_exit *to)
{
	*to = (struct davit_exit){
		.kind = (enum davit_exit_kind)from->kind,
		.code = from->code,
		.signal = from->signal,
		.core_dumped = from->core_dumped,
		.time = from->time,
	};
	_Static_assert(sizeof from->reason < sizeof to->reason, "it fits, with the NUL that is there");
	memcpy(to->reason, from->reason, strnlen(from->reason, sizeof from->reason));
}

void local_exit_explained(struct local_runtime *p, const char *id, const struct keeper_exit *from,
			  struct davit_exit *to)
{
	local_exit_of(from, to);
	if (p->ops->explain && to->kind != DAVIT_EXIT_NONE)
		p->ops->explain(p, id, to);
}

static void on_news(struct davit_deferred *d)
{
	struct local_instance *pi = DAVIT_CONTAINER_OF(d, struct local_instance, news);
	const struct davit_runtime_events *events = pi->inst->runtime->events;
	struct davit_instance *inst = pi->inst;
	unsigned news = pi->waiting;
	struct davit_exit exit;
	uint32_t run = pi->run;

	pi->waiting = 0;
	/* What may lead to the end of the instance comes last, and alone after it. */
	local_exit_explained(local_runtime_of(inst->runtime), pi->id, &pi->exit, &exit);
	if (news & LOCAL_NEWS_READY)
		events->ready(inst);
	if (news & LOCAL_NEWS_STATUS)
		events->status(inst, pi->status ? pi->status : "");
	if (news & LOCAL_NEWS_EXIT && local_runtime_of(inst->runtime)->ops->settled)
		local_runtime_of(inst->runtime)->ops->settled(pi);
	if (news & LOCAL_NEWS_GONE)
		events->vanished(inst, "the keeper that came back knows nothing of it");
	else if (news & LOCAL_NEWS_EXIT)
		events->exited(inst, run, &exit);
}

void local_news_init(struct local_instance *pi)
{
	davit_deferred_init(&pi->news, pi->inst->runtime->loop, on_news);
}

void local_tell(struct local_instance *pi, unsigned news)
{
	pi->waiting |= (uint8_t)news;
	davit_defer(&pi->news);
}

void local_ended(struct local_instance *pi, uint32_t run, const struct keeper_exit *exit)
{
	if (run <= pi->told)
		return;
	/* Two ends in one callback: the first is told before it is overwritten. */
	if (pi->waiting & LOCAL_NEWS_EXIT) {
		davit_deferred_cancel(&pi->news);
		on_news(&pi->news);
	}
	local_thaw(pi); /* the group is the next run's too */
	pi->run = pi->told = run;
	pi->exit = *exit;
	pi->state = DAVIT_STATE_STOPPED;
	pi->alone = false;
	pi->pid = 0;
	pi->ready = false;
	/* The end of a start comes before the end of what it started. */
	if (davit_timer_active(&pi->coming)) {
		davit_timer_stop(&pi->coming);
		local_complete(pi, NULL);
	}
	local_tell(pi, LOCAL_NEWS_EXIT);
}

void local_set_status(struct local_instance *pi, const char *text)
{
	char *copy = *text ? strdup(text) : NULL;

	if (*text && !copy)
		return; /* the old one stays; a status is a courtesy */
	free(pi->status);
	pi->status = copy;
}

void local_instance_event(struct local_runtime *p, const struct keeper_header *h)
{
	struct local_instance *pi = davit_map_get(&p->instances, h->id);

	if (!pi)
		return;
	if (h->type == KEEPER_EXITED && h->size >= sizeof(struct keeper_exited)) {
		const struct keeper_exited *e = (const void *)h;

		local_ended(pi, e->run, &e->exit);
		pi->alone = e->alone && pi->run == e->run;
	} else if (h->type == KEEPER_SPAWNED && h->size >= sizeof(struct keeper_spawned)) {
		/* A launch that a daemon before us began: its workload has taken over. */
		const struct keeper_spawned *s = (const void *)h;

		if (s->run == pi->run && pi->state == DAVIT_STATE_STARTED)
			pi->pid = s->pid;
	} else if (h->size >= sizeof(struct keeper_event_text)) {
		const struct keeper_event_text *e = (const void *)h;

		if (e->run < pi->run || e->run <= pi->told)
			return;
		if (h->type == KEEPER_READY && !pi->ready) {
			pi->ready = true;
			pi->ready_run = e->run;
			local_tell(pi, LOCAL_NEWS_READY);
		} else if (h->type == KEEPER_STATUS) {
			local_set_status(pi, (const char *)h + h->size);
			local_tell(pi, LOCAL_NEWS_STATUS);
		}
	}
}
