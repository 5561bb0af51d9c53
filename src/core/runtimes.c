/* SPDX-License-Identifier: MIT
 *
 * The registered runtimes: opening them (again and again, with a growing delay,
 * where that fails), adopting what survived, and hearing what they tell.
 */
#include "core/admit.h"

#include "base/file.h"
#include "base/log.h"
#include "base/units.h"

#include <string.h>

#define OPEN_TIMEOUT (30 * DAVIT_NSEC_PER_SEC)
#define RETRY_MAX (30 * DAVIT_NSEC_PER_SEC)

struct core_runtime *core_runtime_find(struct davit_core *c, const char *name)
{
	struct core_runtime *r;

	DAVIT_LIST_FOREACH (r, &c->runtimes, list)
		if (!strcmp(r->name, name))
			return r;
	return NULL;
}

static void services_of_runtime_changed(struct core_runtime *r)
{
	struct davit_core *c = r->core;
	size_t pos = 0;
	void *v;

	while (davit_map_next(&c->services, &pos, NULL, &v)) {
		struct davit_service *s = v;
		const char *name = s->spec->runtime ? s->spec->runtime : c->config.default_runtime;
		if (!strcmp(name, r->name)) {
			core_service_dirty(s);
			core_service_changed(s);
		}
	}
}

static void release_driver(struct core_runtime *r)
{
	free(r->rt);
	r->rt = NULL;
}

static void on_retry(struct davit_timer *t)
{
	core_runtime_open(DAVIT_CONTAINER_OF(t, struct core_runtime, retry));
}

static void closed(struct core_runtime *r, const struct davit_error *why)
{
	int64_t delay = DAVIT_NSEC_PER_SEC << (r->failures < 5 ? r->failures : 5);

	r->failures++;
	r->error = *why;
	r->phase = RUNTIME_CLOSED;
	release_driver(r);
	/* A machine that cannot carry it will not learn to: no retry then. */
	if (why->code != DAVIT_ENOTSUP)
		davit_timer_start(&r->retry, delay < RETRY_MAX ? delay : RETRY_MAX);
	services_of_runtime_changed(r);
	core_check_started(r->core);
	admit_resume(r->core);
}

/* What could not be asked of it meanwhile. */
static void resume_instances(struct core_runtime *r)
{
	size_t pos = 0;
	void *i;

	while (davit_map_next(&r->core->instances, &pos, NULL, &i))
		if (((struct instance *)i)->runtime == r)
			instance_resume(i);
}

/* What it told of before it failed will be told again. */
static void forget_instances(struct core_runtime *r)
{
	size_t pos = 0;
	void *v;

	while (davit_map_next(&r->core->instances, &pos, NULL, &v)) {
		struct instance *i = v;
		if (i->runtime != r || !i->inst)
			continue;
		if (i->service)
			service_instance_gone(i->service, i);
		instance_free(i);
	}
}

static void adopted(struct davit_op *op, int result)
{
	struct core_runtime *r = op->user;

	if (result < 0) {
		struct davit_error err = op->error;
		davit_error_prefix(&err, "runtime %s cannot tell what runs", r->name);
		davit_log(DAVIT_LOG_ERROR, "%s", err.message);
		r->driver->close(r->rt);
		forget_instances(r);
		closed(r, &err);
		return;
	}
	r->phase = RUNTIME_OPEN;
	r->failures = 0;
	davit_error_clear(&r->error);
	/* It came after the start, which tells of all others at once. */
	if (!r->core->start_op && r->adopted)
		core_event(r->core, "adopted", NULL, NULL, "%zu running instances of runtime %s", r->adopted,
			   r->name);
	record_sweep(r);
	workload_files_sweep(r);
	resume_instances(r);
	if (!r->core->start_op)
		record_replay(r->core);
	services_of_runtime_changed(r);
	core_release_held(r->core);
	core_check_started(r->core);
	admit_resume(r->core);
}

static void opened(struct davit_op *op, int result)
{
	struct core_runtime *r = op->user;

	if (result < 0) {
		struct davit_error err = op->error;
		if (result != DAVIT_ENOTSUP && !r->failures)
			davit_log(DAVIT_LOG_WARNING, "runtime %s is not available: %s", r->name, err.message);
		closed(r, &err);
		return;
	}
	for (size_t k = 0; k < DAVIT_CAP_COUNT; k++)
		strcpy(r->caps.why_not[k], "not implemented");
	r->driver->capabilities(r->rt, &r->caps);
	r->phase = RUNTIME_ADOPTING;
	r->adopted = 0;
	davit_op_init(&r->op, r->core->loop, adopted, r);
	davit_op_begin(&r->op, OPEN_TIMEOUT);
	r->driver->adopt(r->rt, &r->op);
}

/* --- what a driver tells --- */

static struct davit_instance *on_found(struct davit_runtime *rt, const struct davit_found *found);

static void on_ready(struct davit_instance *inst)
{
	instance_on_ready(instance_of(inst));
}

static void on_status(struct davit_instance *inst, const char *text)
{
	struct instance *i = instance_of(inst);
	char *copy = strdup(text);

	if (!copy)
		return;
	free(i->status_text);
	i->status_text = copy;
	if (i->service)
		core_service_changed(i->service);
}

static void on_exited(struct davit_instance *inst, uint32_t run, const struct davit_exit *exit)
{
	struct instance *i = instance_of(inst);

	instance_on_exited(i, i->run_base + run, exit);
}

static void on_vanished(struct davit_instance *inst, const char *reason)
{
	struct instance *i = instance_of(inst);
	struct davit_exit exit = {.kind = DAVIT_EXIT_UNKNOWN};

	exit.time = davit_loop_wall(i->core->loop);
	strncpy(exit.reason, reason, sizeof exit.reason - 1);
	if (i->state == DAVIT_STATE_STARTED)
		instance_on_exited(i, i->run, &exit);
	/* The object is not there: it must be created before it can run again, and
	 * the runtime will count its runs anew. */
	i->state = DAVIT_STATE_DESTROYED;
	i->run_base = i->run;
	instance_write_record(i);
	instance_step(i);
}

static void on_lost(struct davit_runtime *rt, const struct davit_error *why)
{
	struct core_runtime *r = rt->owner;

	r->error = *why;
	if (r->phase == RUNTIME_OPEN)
		r->phase = RUNTIME_LOST;
	davit_log(DAVIT_LOG_WARNING, "runtime %s does not answer: %s", r->name, why->message);
	services_of_runtime_changed(r);
}

static void on_regained(struct davit_runtime *rt)
{
	struct core_runtime *r = rt->owner;

	davit_error_clear(&r->error);
	if (r->phase == RUNTIME_LOST)
		r->phase = RUNTIME_OPEN;
	davit_log(DAVIT_LOG_INFO, "runtime %s answers again", r->name);
	resume_instances(r);
	services_of_runtime_changed(r);
	core_release_held(r->core);
}

static const struct davit_runtime_events events = {
	.found = on_found,
	.ready = on_ready,
	.status = on_status,
	.exited = on_exited,
	.vanished = on_vanished,
	.lost = on_lost,
	.regained = on_regained,
};

/* --- adopting --- */

/* Gives an adopted instance its place, or none: then it is one too many. */
static void place(struct davit_service *s, struct instance *i, uint32_t index)
{
	struct slot *slot = index < s->n_slots ? &s->slots[index] : NULL;

	/* A runtime that came late: what waits to be made gives way to what runs. */
	if (slot && slot->current && !slot->current->inst) {
		instance_set_goal(slot->current, GOAL_GONE);
		slot->current = NULL;
	}
	if (!slot) {
		instance_set_goal(i, GOAL_GONE);
	} else if (!slot->current) {
		slot->current = i;
	} else if (slot->current->generation != s->generation && i->generation == s->generation) {
		/* An update was under way: the new one waits to take over. */
		slot->next = i;
		i->replacement = true;
	} else if (slot->current->generation == s->generation && i->generation != s->generation) {
		slot->next = slot->current;
		slot->next->replacement = true;
		slot->current = i;
	} else {
		instance_set_goal(i, GOAL_GONE);
	}
}

/* What the runtime says of it, before anything is decided. */
static void take_over(struct instance *i, const struct davit_inspection *now)
{
	i->run = now->run;
	i->pid = now->pid;
	i->started = now->started;
	i->state = now->state;
	instance_set_address(i, now->address);
	i->paused = now->paused;
	if (now->status[0])
		i->status_text = strdup(now->status);
}

static void adopt_build(struct davit_service *s, struct instance *i, const struct davit_inspection *now)
{
	/* One that was never started is made anew: its command is not known any more. */
	if (s->build || i->generation != build_source_hash(s) || now->state == DAVIT_STATE_CREATED) {
		instance_set_goal(i, GOAL_GONE);
		return;
	}
	s->build = i;
	s->build_phase = BUILD_RUNNING;
	if (s->built && s->built->source_hash == i->generation) {
		s->build_phase = BUILD_DONE; /* kept for its log */
		return;
	}
	i->goal = GOAL_RUN;
	if (now->state == DAVIT_STATE_STOPPED)
		instance_on_exited(i, now->run, &now->exit);
}

static struct davit_instance *on_found(struct davit_runtime *rt, const struct davit_found *found)
{
	struct core_runtime *r = rt->owner;
	struct davit_core *c = r->core;
	DAVIT_AUTO_FREE char *key = NULL;
	struct davit_service *s;
	struct davit_error err;
	struct instance *i;
	uint64_t generation;
	uint32_t index;
	bool is_build;

	if (workload_label_parse(found->label, &key, &index, &generation, &is_build) < 0) {
		davit_log(DAVIT_LOG_WARNING, "runtime %s holds %s with a label of somebody else: left alone",
			  r->name, found->id);
		return NULL;
	}
	if (davit_map_get(&c->instances, found->id))
		return NULL;
	s = davit_map_get(&c->services, key);
	if (s)
		service_prepare(s);
	i = instance_adopt(c, r, s, index, is_build, generation, found->id, &err);
	if (!i) {
		davit_log(DAVIT_LOG_ERROR, "cannot adopt %s: %s", found->id, err.message);
		return NULL;
	}
	take_over(i, &found->now);
	if (!s) {
		/* Its service was deleted while we were away. */
		i->orphan_of = DAVIT_TAKE(key);
		instance_set_goal(i, GOAL_GONE);
		if (!is_build)
			instance_restore_leaving(i, &found->now);
		return i->inst;
	}
	if (is_build) {
		adopt_build(s, i, &found->now);
	} else {
		place(s, i, index);
		if (i->goal == GOAL_GONE)
			instance_restore_leaving(i, &found->now);
		else
			instance_restore(i, &found->now);
	}
	core_service_dirty(s);
	core_service_changed(s);
	return i->inst;
}

/* --- life --- */

static int load(struct core_runtime *r, struct davit_error *err)
{
	const struct davit_runtime_driver *driver;
	int code = r->load(r->load_user, &driver, err);

	if (code == 0)
		code = davit_runtime_driver_validate(driver, err);
	if (code == 0)
		r->driver = driver;
	return code;
}

void core_runtime_wanted(struct core_runtime *r)
{
	if (r->phase == RUNTIME_CLOSED && davit_timer_active(&r->retry))
		davit_timer_start(&r->retry, 0);
}

void core_runtime_open(struct core_runtime *r)
{
	struct davit_core *c = r->core;
	const struct davit_paths *paths = c->config.paths;
	struct davit_error err;

	if (!r->driver && load(r, &err) < 0) {
		closed(r, &err);
		return;
	}
	if (paths && (davit_mkdirs(r->state_dir, 0700, &err) < 0 ||
		      davit_mkdirs(r->run_dir, 0700, &err) < 0 || davit_mkdirs(r->log_dir, 0700, &err) < 0)) {
		closed(r, &err);
		return;
	}
	r->rt = calloc(1, sizeof *r->rt + r->driver->runtime_size);
	if (!r->rt) {
		davit_error_set(&err, DAVIT_ENOMEM, NULL, "out of memory");
		closed(r, &err);
		return;
	}
	*r->rt = (struct davit_runtime){
		.driver = r->driver,
		.loop = c->loop,
		.events = &events,
		.owner = r,
		.name = r->name,
		.state_dir = r->state_dir,
		.run_dir = r->run_dir,
		.log_dir = r->log_dir,
		.libexec_dir = paths ? paths->libexec : "",
	};
	r->phase = RUNTIME_OPENING;
	davit_op_init(&r->op, c->loop, opened, r);
	davit_op_begin(&r->op, OPEN_TIMEOUT);
	r->driver->open(r->rt, &r->op);
}

static int add(struct davit_core *c, const char *name, struct core_runtime **ret, struct davit_error *err)
{
	const struct davit_paths *paths = c->config.paths;
	struct core_runtime *r;

	if (core_runtime_find(c, name))
		return davit_error_set(err, DAVIT_EEXIST, "runtime", "runtime '%s' is registered already",
				       name);
	r = calloc(1, sizeof *r);
	if (!r)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	r->core = c;
	davit_timer_init(&r->retry, c->loop, on_retry);
	davit_list_init(&r->list);
	r->name = strdup(name);
	if (!r->name || asprintf(&r->state_dir, "%s/runtime/%s", paths ? paths->state : "", name) < 0 ||
	    asprintf(&r->run_dir, "%s/%s", paths ? paths->run : "", name) < 0 ||
	    asprintf(&r->log_dir, "%s/%s", paths ? paths->log : "", name) < 0) {
		core_runtime_free(r);
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	davit_list_add_tail(&c->runtimes, &r->list);
	*ret = r;
	return 0;
}

int davit_core_add_runtime(struct davit_core *c, const char *name, const struct davit_runtime_driver *driver,
			   struct davit_error *err)
{
	struct core_runtime *r;
	int code = davit_runtime_driver_validate(driver, err);

	if (code == 0)
		code = add(c, name, &r, err);
	if (code < 0)
		return code;
	r->driver = driver;
	r->summary = driver->summary;
	return 0;
}

int davit_core_add_loaded_runtime(struct davit_core *c, const char *name, const char *summary,
				  davit_runtime_load *load_driver, void *user, struct davit_error *err)
{
	struct core_runtime *r;
	int code = add(c, name, &r, err);

	if (code < 0)
		return code;
	r->load = load_driver;
	r->load_user = user;
	r->summary = summary;
	return 0;
}

void core_runtime_free(struct core_runtime *r)
{
	davit_list_remove(&r->list);
	davit_timer_stop(&r->retry);
	if (r->rt) {
		/* One whose opening failed, which we were just about to be told. */
		bool failed =
			r->phase == RUNTIME_OPENING && r->op.phase == DAVIT_OP_COMPLETING && r->op.result < 0;
		if (!failed)
			r->driver->close(r->rt);
		davit_timer_stop(&r->op.deadline);
		davit_deferred_cancel(&r->op.completion);
	}
	release_driver(r);
	free(r->name);
	free(r->state_dir);
	free(r->run_dir);
	free(r->log_dir);
	free(r);
}
