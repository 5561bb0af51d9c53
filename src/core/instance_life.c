/* SPDX-License-Identifier: MIT
 *
 * Instances are made, adopted and freed.
 */
#include "core/instance_op.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void on_again(struct davit_timer *t)
{
	instance_resume(DAVIT_CONTAINER_OF(t, struct instance, again));
}

static void on_recorded(struct davit_journal_wait *w, bool durable)
{
	(void)durable; /* a store that does not answer holds nobody up for long */
	instance_resume(DAVIT_CONTAINER_OF(w, struct instance, wait));
}

static struct instance *make(struct davit_core *c, struct core_runtime *r, struct davit_service *s,
			     uint32_t index, bool is_build, const char *id, struct davit_error *err)
{
	struct davit_restart_rule rule;
	struct instance *i = calloc(1, sizeof *i);
	char name[16];

	if (!i)
		goto oom;
	i->core = c;
	i->service = s;
	i->runtime = r;
	i->is_build = is_build;
	i->workload.index = index;
	i->wait.done = on_recorded;
	davit_list_init(&i->held);
	davit_list_init(&i->leaving);
	davit_list_init(&i->attached);
	davit_list_init(&i->uses);
	davit_timer_init(&i->again, c->loop, on_again);
	memcpy(i->workload.id, id, DAVIT_ID_MAX);
	if (davit_map_put(&c->instances, i->workload.id, i) < 0)
		goto oom;
	if (s)
		s->alive++;
	if (s && !is_build) {
		snprintf(name, sizeof name, "%u", index);
		service_restart_rule(s, &rule);
		if (davit_supervise_add_leaf(&i->node, &s->node, name, &rule, i) < 0) {
			davit_map_remove(&c->instances, i->workload.id);
			s->alive--;
			goto oom;
		}
		i->node.significant = s->spec->significant;
		i->node.seed = strtoull(i->workload.id, NULL, 16);
		i->leaf = true;
	}
	return i;
oom:
	free(i);
	davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	return NULL;
}

struct instance *instance_new(struct davit_service *s, uint32_t index, bool is_build, struct davit_error *err)
{
	struct davit_core *c = s->core;
	const char *name = is_build || !s->spec->runtime ? c->config.default_runtime : s->spec->runtime;
	struct core_runtime *r = core_runtime_find(c, is_build ? BUILD_RUNTIME : name);
	struct instance *i;
	char id[DAVIT_ID_MAX];

	if (!r) {
		davit_error_set(err, DAVIT_ENOENT, "runtime", "there is no runtime '%s'", name);
		return NULL;
	}
	snprintf(id, sizeof id, "%016" PRIx64, davit_loop_random(c->loop));
	i = make(c, r, s, index, is_build, id, err);
	if (i)
		i->generation = s->generation;
	return i;
}

struct instance *instance_adopt(struct davit_core *c, struct core_runtime *r, struct davit_service *s,
				uint32_t index, bool is_build, uint64_t generation, const char *id,
				struct davit_error *err)
{
	struct instance *i = make(c, r, s, index, is_build, id, err);

	if (!i)
		return NULL;
	i->generation = generation;
	i->adopting = true;
	if (workload_build(i, err) < 0) {
		/* What it was made from is not known any more: it can be watched,
		 * stopped and removed all the same, but not started. */
		instance_set_error(i, err);
		i->unknown = true;
	}
	i->adopting = false;
	if (!i->inst && workload_attach(i, err) < 0) {
		instance_free(i);
		return NULL;
	}
	return i;
}

void instance_free(struct instance *i)
{
	struct davit_core *c = i->core;

	if (i->op) {
		davit_timer_stop(&i->op->op.deadline);
		davit_deferred_cancel(&i->op->op.completion);
		davit_pool_give(&c->ops, i->op);
	}
	davit_journal_unwait(&i->wait);
	davit_timer_stop(&i->again);
	davit_list_remove(&i->held);
	davit_list_remove(&i->leaving);
	ready_end(i);
	health_end(i);
	facets_detach(i);
	facet_ops_forget(i);
	if (i->leaf && !c->freeing)
		davit_supervise_remove(&i->node);
	davit_map_remove(&c->instances, i->workload.id);
	if (i->service)
		i->service->alive--;
	workload_drop(i);
	free(i->early_exit);
	free(i->inst);
	free(i->error);
	free(i->status_text);
	free(i->held_for);
	free(i->origin);
	free(i->address);
	free(i->orphan_of);
	free(i);
}
