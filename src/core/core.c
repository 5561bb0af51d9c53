/* SPDX-License-Identifier: MIT
 *
 * The core's own life: opening, loading, the queue of services to reconcile,
 * listeners, and letting go.
 */
#include "core/admit.h"
#include "core/core_impl.h"
#include "core/health.h"
#include "core/instance_op.h"
#include "core/transaction.h"

#include "base/log.h"
#include "base/strv.h"
#include "base/units.h"

#include <string.h>

enum { FULL_PASS_SLICE = 16 };
#define FULL_PASS_PERIOD (60 * DAVIT_NSEC_PER_SEC)
/* How long a start waits for runtimes that nothing uses, and for the others: a platform
 * that hangs must not keep the rest from the users, whose clients wait for 10 s. What
 * comes later is taken up then. */
#define PATIENCE_UNUSED (1 * DAVIT_NSEC_PER_SEC)
#define PATIENCE_USED (8 * DAVIT_NSEC_PER_SEC)

static const char *const watched[] = {"services/", "supervisors/", "namespaces/"};

/* --- the queue of services to look at --- */

static void run_reconcile(struct davit_deferred *d)
{
	struct davit_core *c = DAVIT_CONTAINER_OF(d, struct davit_core, reconcile);

	registry_order(c);
	for (int n = 0; n < FULL_PASS_SLICE && !davit_list_empty(&c->dirty); n++) {
		struct davit_service *s = DAVIT_LIST_FIRST(&c->dirty, struct davit_service, dirty);
		davit_list_remove(&s->dirty);
		service_reconcile(s);
	}
	if (!davit_list_empty(&c->dirty))
		davit_defer(&c->reconcile);
}

void core_service_dirty(struct davit_service *s)
{
	struct davit_core *c = s->core;

	if (c->freeing || !davit_list_empty(&s->dirty))
		return;
	davit_list_add_tail(&c->dirty, &s->dirty);
	davit_defer(&c->reconcile);
}

static void on_full_pass(struct davit_timer *t)
{
	struct davit_core *c = DAVIT_CONTAINER_OF(t, struct davit_core, full_pass);
	size_t pos = 0;
	void *s;

	while (davit_map_next(&c->services, &pos, NULL, &s))
		core_service_dirty(s);
	davit_timer_start(t, FULL_PASS_PERIOD);
}

static void run_bury(struct davit_deferred *d)
{
	struct davit_core *c = DAVIT_CONTAINER_OF(d, struct davit_core, bury);
	struct instance *i;

	while ((i = DAVIT_LIST_FIRST(&c->dead, struct instance, held)))
		instance_bury(i);
}

/* --- listeners --- */

static void tell(struct davit_core *c, struct davit_service *s, bool gone)
{
	struct davit_core_listener *l, *tmp;

	DAVIT_LIST_FOREACH_SAFE (l, tmp, &c->listeners, list)
		if (l->service)
			l->service(l, s, gone);
}

static void run_notify(struct davit_deferred *d)
{
	struct davit_core *c = DAVIT_CONTAINER_OF(d, struct davit_core, notify_run);

	while (!davit_list_empty(&c->notify)) {
		struct davit_service *s = DAVIT_LIST_FIRST(&c->notify, struct davit_service, notify);
		davit_list_remove(&s->notify);
		tell(c, s, false);
	}
}

void core_service_changed(struct davit_service *s)
{
	struct davit_core *c = s->core;

	if (!davit_list_empty(&c->held))
		core_release_held(c);
	if (c->freeing || davit_list_empty(&c->listeners) || !davit_list_empty(&s->notify))
		return;
	davit_list_add_tail(&c->notify, &s->notify);
	davit_defer(&c->notify_run);
}

void core_service_gone(struct davit_service *s)
{
	if (!s->core->freeing)
		tell(s->core, s, true);
}

static void on_event(void *user, uint64_t id, const char *json)
{
	struct davit_core *c = user;
	struct davit_core_listener *l, *tmp;

	DAVIT_LIST_FOREACH_SAFE (l, tmp, &c->listeners, list)
		if (l->event)
			l->event(l, id, json);
}

void davit_core_listen(struct davit_core *c, struct davit_core_listener *l)
{
	davit_list_add_tail(&c->listeners, &l->list);
}

void davit_core_unlisten(struct davit_core_listener *l)
{
	davit_list_remove(&l->list);
}

/* --- instances that wait for a dependency, a build or a runtime --- */

static void run_release(struct davit_deferred *d)
{
	struct davit_core *c = DAVIT_CONTAINER_OF(d, struct davit_core, release);
	struct davit_list held;

	davit_list_init(&held);
	davit_list_splice(&held, &c->held);
	while (!davit_list_empty(&held)) {
		struct instance *i = DAVIT_LIST_FIRST(&held, struct instance, held);
		char *why = NULL;
		davit_list_remove(&i->held);
		if (i->service && service_blocked(i->service, &why)) {
			free(i->held_for);
			i->held_for = why;
			davit_list_add_tail(&c->held, &i->held);
			continue;
		}
		free(i->held_for);
		i->held_for = NULL;
		davit_supervise_retry(&i->node);
	}
}

void core_release_held(struct davit_core *c)
{
	if (!c->freeing)
		davit_defer(&c->release);
}

/* --- the store's watches --- */

static void on_change(struct davit_store_watch *w, const struct davit_kv *kv)
{
	registry_put(w->user, kv);
}

static void start_watches(struct davit_core *c, int64_t revision);

static void on_rewatch(struct davit_timer *t)
{
	struct davit_core *c = DAVIT_CONTAINER_OF(t, struct davit_core, rewatch);
	struct davit_error err;

	for (size_t k = 0; k < DAVIT_ARRAY_SIZE(watched); k++)
		c->store->driver->unwatch(c->store, &c->watch[k]);
	if (registry_load(c, &err) < 0) {
		davit_log(DAVIT_LOG_ERROR, "cannot read the store: %s; trying again", err.message);
		davit_timer_start(t, 2 * DAVIT_NSEC_PER_SEC);
	}
}

static void on_broken(struct davit_store_watch *w, int code, const struct davit_error *err)
{
	struct davit_core *c = w->user;

	davit_log(DAVIT_LOG_WARNING, "a watch of the store broke: %s; listing again", err->message);
	davit_timer_start(&c->rewatch, code == DAVIT_ECOMPACTED ? 0 : DAVIT_NSEC_PER_SEC);
}

static void start_watches(struct davit_core *c, int64_t revision)
{
	for (size_t k = 0; k < DAVIT_ARRAY_SIZE(watched); k++) {
		struct davit_error err;
		c->watch[k] = (struct davit_store_watch){.user = c, .change = on_change, .broken = on_broken};
		if (c->store->driver->watch(c->store, watched[k], revision, &c->watch[k], &err) < 0)
			on_broken(&c->watch[k], DAVIT_EUNAVAIL, &err);
	}
}

void core_watch_from(struct davit_core *c, int64_t revision)
{
	start_watches(c, revision);
}

/* --- life --- */

static void on_journal_idle(void *user)
{
	core_check_stopped(user);
}

static void on_stop_limit(struct davit_timer *t)
{
	struct davit_core *c = DAVIT_CONTAINER_OF(t, struct davit_core, stop_limit);

	if (!c->stop_all_op)
		return;
	davit_log(DAVIT_LOG_WARNING, "the store does not answer: the last events are not recorded");
	davit_op_complete(DAVIT_TAKE(c->stop_all_op), 0);
}

static void on_starting(struct davit_timer *t);

int davit_core_new(const struct davit_core_config *config, struct davit_core **ret, struct davit_error *err)
{
	/* The root leaves what failed as it is: one broken service never stops
	 * the others. */
	const struct davit_supervision_rule root = {
		.strategy = DAVIT_ONE_FOR_ONE,
		.max_restarts = -1,
		.escalation = DAVIT_ESCALATE_ISOLATE,
	};
	struct davit_core *c = calloc(1, sizeof *c);
	int r;

	if (!c)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	c->config = *config;
	c->loop = config->loop;
	c->store = config->store;
	struct davit_list *const lists[] = {&c->fresh,	 &c->runtimes,	&c->listeners,	&c->dirty,
					    &c->notify,	 &c->held,	&c->commands,	&c->gone_waits,
					    &c->orphans, &c->dead,	&c->admissions, &c->waiting,
					    &c->tries,	 &c->facet_ops, &c->awaits};
	for (size_t k = 0; k < DAVIT_ARRAY_SIZE(lists); k++)
		davit_list_init(lists[k]);
	davit_deferred_init(&c->reconcile, c->loop, run_reconcile);
	davit_deferred_init(&c->notify_run, c->loop, run_notify);
	davit_deferred_init(&c->release, c->loop, run_release);
	davit_deferred_init(&c->bury, c->loop, run_bury);
	davit_pool_init(&c->ops, sizeof(struct instance_op));
	davit_timer_init(&c->full_pass, c->loop, on_full_pass);
	davit_timer_init(&c->rewatch, c->loop, on_rewatch);
	davit_timer_init(&c->start_timer, c->loop, on_starting);
	c->started = davit_loop_wall(c->loop);
	r = davit_supervise_init(&c->sup, c->loop, &core_supervise_ops, &root, &config->budget, c, err);
	if (r == 0) {
		r = davit_journal_new(c->loop, c->store, config->max_events, &c->journal, err);
		if (r < 0)
			davit_supervise_fini(&c->sup);
	}
	if (r < 0) {
		free(c);
		return r;
	}
	davit_journal_on_event(c->journal, on_event, c);
	davit_journal_on_idle(c->journal, on_journal_idle, c);
	davit_timer_init(&c->stop_limit, c->loop, on_stop_limit);
	*ret = c;
	return 0;
}

struct davit_loop *davit_core_loop(struct davit_core *c)
{
	return c->loop;
}

static bool busy(const struct core_runtime *r)
{
	return r->phase == RUNTIME_OPENING || r->phase == RUNTIME_ADOPTING;
}

static bool awaits(const struct davit_core *c, const struct core_runtime *r)
{
	return busy(r) &&
	       (c->start_phase <= START_WAITS_FOR_ALL || (c->start_phase == START_WAITS_FOR_USED && r->used));
}

void core_check_started(struct davit_core *c)
{
	struct core_runtime *r;
	struct davit_op *op = c->start_op;
	size_t pos = 0;
	void *s;

	if (!op || c->start_phase == START_OPENS)
		return;
	DAVIT_LIST_FOREACH (r, &c->runtimes, list)
		if (awaits(c, r))
			return;
	c->start_op = NULL;
	davit_timer_stop(&c->start_timer);
	supervision_restore(c);
	record_replay(c);
	/* One event for all of them: history is not to be pushed out by restarts. */
	if (c->adopted)
		core_event(c, "adopted", NULL, NULL, "%zu running instances", c->adopted);
	/* From here on what is missing is started and what is too much is stopped. */
	while (davit_map_next(&c->services, &pos, NULL, &s))
		core_service_dirty(s);
	davit_timer_start(&c->full_pass, FULL_PASS_PERIOD);
	davit_op_complete(op, 0);
}

/* The runtimes without which nothing can be said of the services. */
static void mark_used(struct davit_core *c)
{
	struct core_runtime *r = core_runtime_find(c, c->config.default_runtime);
	size_t pos = 0;
	void *v;

	if (r)
		r->used = true;
	while (davit_map_next(&c->services, &pos, NULL, &v)) {
		const char *name = ((struct davit_service *)v)->spec->runtime;
		r = name ? core_runtime_find(c, name) : NULL;
		if (r)
			r->used = true;
	}
}

static void open_runtimes(struct davit_core *c, bool used)
{
	struct core_runtime *r;

	DAVIT_LIST_FOREACH (r, &c->runtimes, list)
		if (r->used == used)
			core_runtime_open(r);
}

static void tell_late(const struct davit_core *c, bool used)
{
	const struct core_runtime *r;

	DAVIT_LIST_FOREACH (r, &c->runtimes, list)
		if (busy(r) && r->used == used)
			davit_log(DAVIT_LOG_WARNING, "runtime %s takes long to open: going on without it",
				  r->name);
}

/* The others are opened while those that are used wait for their keepers and engines. */
static void on_starting(struct davit_timer *t)
{
	struct davit_core *c = DAVIT_CONTAINER_OF(t, struct davit_core, start_timer);

	switch (c->start_phase) {
	case START_OPENS:
		open_runtimes(c, false);
		davit_timer_start(t, PATIENCE_UNUSED);
		break;
	case START_WAITS_FOR_ALL:
		tell_late(c, false);
		davit_timer_start(t, PATIENCE_USED - PATIENCE_UNUSED);
		break;
	default:
		tell_late(c, true);
	}
	c->start_phase++;
	core_check_started(c);
}

void davit_core_start(struct davit_core *c, struct davit_op *op)
{
	struct davit_error err;
	int code = registry_load(c, &err);

	if (code == 0)
		code = supervision_load(c, &err);
	if (code == 0)
		code = core_tell_untold(c, &err);
	if (code < 0) {
		davit_op_fail_error(op, &err);
		return;
	}
	c->start_op = op;
	mark_used(c);
	open_runtimes(c, true);
	davit_timer_start(&c->start_timer, 0);
}

void core_check_stopped(struct davit_core *c)
{
	struct davit_op *op = c->stop_all_op;

	if (!op || c->instances.len)
		return;
	/* A store that takes no records must not keep the daemon from its end. */
	if (!davit_journal_idle(c->journal)) {
		if (!davit_timer_active(&c->stop_limit))
			davit_timer_start(&c->stop_limit, DAVIT_JOURNAL_PATIENCE);
		return;
	}
	davit_timer_stop(&c->stop_limit);
	c->stop_all_op = NULL;
	davit_op_complete(op, 0);
}

void davit_core_flush(struct davit_core *c)
{
	davit_journal_flush(c->journal);
}

void davit_core_free(struct davit_core *c)
{
	size_t pos = 0;
	void *i;

	if (!c)
		return;
	c->freeing = true;
	command_abandon(c);
	admit_abandon(c);
	await_abandon(c);
	if (c->start_op)
		davit_op_fail(DAVIT_TAKE(c->start_op), DAVIT_ECLOSED, NULL, "the daemon ends");
	if (c->stop_all_op)
		davit_op_fail(DAVIT_TAKE(c->stop_all_op), DAVIT_ECLOSED, NULL, "the daemon ends");
	while (!davit_list_empty(&c->listeners))
		davit_list_remove(c->listeners.next);
	for (size_t k = 0; k < DAVIT_ARRAY_SIZE(watched); k++)
		if (c->watch[k].store)
			c->store->driver->unwatch(c->store, &c->watch[k]);
	davit_timer_stop(&c->full_pass);
	davit_timer_stop(&c->rewatch);
	davit_timer_stop(&c->start_timer);
	davit_timer_stop(&c->stop_limit);
	davit_deferred_cancel(&c->reconcile);
	davit_deferred_cancel(&c->notify_run);
	davit_deferred_cancel(&c->release);
	davit_deferred_cancel(&c->bury);
	/* What is open on instances ends while their runtimes are there, and those
	 * while the instances are: after this no callback comes. */
	while (davit_map_next(&c->instances, &pos, NULL, &i)) {
		ready_end(i);
		health_end(i);
		facets_detach(i);
	}
	facet_ops_abandon(c);
	while (!davit_list_empty(&c->runtimes))
		core_runtime_free(DAVIT_LIST_FIRST(&c->runtimes, struct core_runtime, list));
	admit_free_all(c);
	health_try_free_all(c);
	/* Then the tree, while its nodes are there. */
	davit_supervise_fini(&c->sup);
	registry_free_all(c);
	davit_journal_free(c->journal);
	davit_strv_free(c->common_env);
	unreadable_free_all(c);
	davit_map_fini(&c->services);
	davit_map_fini(&c->names);
	davit_map_fini(&c->supervisors);
	davit_map_fini(&c->namespaces);
	davit_map_fini(&c->instances);
	davit_pool_fini(&c->ops);
	free(c);
}
