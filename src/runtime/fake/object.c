/* SPDX-License-Identifier: MIT
 *
 * One object of a fake world: its run, its end, and what its user is told.
 */
#include "base/strv.h"
#include "base/units.h"
#include "runtime/fake/fake_impl.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

struct davit_exit fake_exit_signal(int signo, const char *reason)
{
	struct davit_exit e = {.kind = DAVIT_EXIT_SIGNAL, .signal = signo};

	snprintf(e.reason, sizeof e.reason, "%s", reason);
	return e;
}

/* --- the end of a run --- */

static void stop_timers(struct fake_object *o)
{
	davit_timer_stop(&o->end);
	davit_timer_stop(&o->grace);
	davit_timer_stop(&o->vanish);
	davit_timer_stop(&o->ready_timer);
	davit_timer_stop(&o->status_timer);
	davit_timer_stop(&o->lie);
	for (size_t i = 0; o->writers && i < o->script.n_logs; i++)
		davit_timer_stop(&o->writers[i].timer);
}

static void ended(struct fake_object *o, const struct davit_exit *exit)
{
	struct davit_fake_world *w = o->world;

	if (o->state != DAVIT_STATE_STARTED || o->untold_exit)
		fake_world_broken(w, o->id, "run %u ended twice", o->run);
	stop_timers(o);
	o->paused = false;
	o->state = DAVIT_STATE_STOPPED;
	o->exit = *exit;
	o->exit.time = davit_loop_wall(w->loop);
	o->untold_exit = true;
	fake_world_event(w, DAVIT_FAKE_EXITED, o);
	fake_exec_end(w, o);
	fake_terminals_end(w, o);
	/* One that is being stopped has no time to lie. */
	o->lying = o->lies && !o->stopping && davit_timer_start(&o->lie, o->lies) == 0;
	fake_object_tell(o);
}

static void on_end(struct davit_timer *t)
{
	struct fake_object *o = DAVIT_CONTAINER_OF(t, struct fake_object, end);

	ended(o, &o->planned);
}

static void on_grace(struct davit_timer *t)
{
	struct davit_exit killed = fake_exit_signal(SIGKILL, "");

	ended(DAVIT_CONTAINER_OF(t, struct fake_object, grace), &killed);
}

static void on_lie(struct davit_timer *t)
{
	struct fake_object *o = DAVIT_CONTAINER_OF(t, struct fake_object, lie);

	o->lying = false;
	fake_object_tell(o);
}

int fake_object_end(struct fake_object *o, int64_t delay, const struct davit_exit *exit)
{
	if (davit_timer_active(&o->end) && o->end.due <= davit_loop_now(o->world->loop) + delay)
		return 0;
	o->planned = *exit;
	return davit_timer_start(&o->end, delay);
}

int fake_object_stop(struct fake_object *o, const struct davit_stop *how)
{
	struct davit_exit by_signal = fake_exit_signal(how->signal, "");
	int r;

	o->stopping = true;
	fake_object_thaw(o);
	r = davit_timer_start(&o->grace, how->grace_ns);
	if (r == 0 && !o->ignores_stop && how->grace_ns > 0)
		r = fake_object_end(o, o->script.delay[FAKE_STOP], &by_signal);
	return r;
}

/* --- telling --- */

bool fake_object_tell(struct fake_object *o)
{
	const struct davit_runtime_events *events;

	if (!o->inst || !o->world->reachable)
		return false;
	events = o->inst->runtime->events;
	if (o->untold_ready) {
		o->untold_ready = false;
		davit_timer_start(&o->tell, 0);
		events->ready(o->inst);
		return true;
	}
	if (o->untold_status) {
		o->untold_status = false;
		davit_timer_start(&o->tell, 0);
		events->status(o->inst, o->status);
		return true;
	}
	if (o->untold_exit && !o->lying) {
		struct davit_exit exit = o->exit;
		o->untold_exit = false;
		/* Completes in a later call, so `exited` comes first all the same. */
		fake_operation_ended(o);
		events->exited(o->inst, o->run, &exit);
		return true;
	}
	return false;
}

static void on_tell(struct davit_timer *t)
{
	fake_object_tell(DAVIT_CONTAINER_OF(t, struct fake_object, tell));
}

static void on_ready(struct davit_timer *t)
{
	struct fake_object *o = DAVIT_CONTAINER_OF(t, struct fake_object, ready_timer);

	o->ready = true;
	o->untold_ready = true;
	fake_object_tell(o);
}

static void on_status(struct davit_timer *t)
{
	struct fake_object *o = DAVIT_CONTAINER_OF(t, struct fake_object, status_timer);

	snprintf(o->status, sizeof o->status, "%s", o->script.status);
	o->untold_status = true;
	fake_object_tell(o);
}

/* A platform that does not answer cannot tell that something is gone: the
 * deletion waits for it. */
static void on_vanish(struct davit_timer *t)
{
	struct fake_object *o = DAVIT_CONTAINER_OF(t, struct fake_object, vanish);

	if (!o->world->reachable)
		davit_timer_start(&o->vanish, DAVIT_NSEC_PER_SEC);
	else
		davit_fake_world_delete(o->world, o->id);
}

void fake_object_inspect(const struct fake_object *o, struct davit_inspection *ret)
{
	bool running = o->state == DAVIT_STATE_STARTED || o->lying;

	*ret = (struct davit_inspection){
		.state = running ? DAVIT_STATE_STARTED : o->state,
		.run = o->run,
		.pid = running ? o->pid : 0,
		.ready = o->ready,
		.paused = o->paused,
		.started = o->started_wall,
	};
	if (!running && o->state == DAVIT_STATE_STOPPED)
		ret->exit = o->exit;
	memcpy(ret->status, o->status, sizeof ret->status);
}

/* --- a run --- */

static void on_write(struct davit_timer *t)
{
	struct fake_writer *wr = DAVIT_CONTAINER_OF(t, struct fake_writer, timer);

	fake_log_add(wr->object->world, wr->object->log, wr->plan->stream, wr->plan->text,
		     strlen(wr->plan->text));
	if (wr->plan->count == 0 || --wr->left > 0)
		davit_timer_start(&wr->timer, wr->plan->every);
}

static void show(struct fake_object *o, const char *word)
{
	static const char digits[] = "0123456789abcdef";
	DAVIT_AUTO_BUF hex = DAVIT_BUF_INIT;

	for (const unsigned char *p = (const void *)word; *p; p++) {
		davit_buf_addc(&hex, digits[*p >> 4]);
		davit_buf_addc(&hex, digits[*p & 15]);
	}
	fake_log_add(o->world, o->log, DAVIT_STDOUT, davit_buf_str(&hex), hex.len);
}

static int start_timers(struct fake_object *o)
{
	struct davit_fake_world *w = o->world;
	struct fake_script *s = &o->script;
	bool never_ready = s->never_ready;
	int r = 0;

	o->ignores_stop = s->ignore_stop;
	o->lies = s->lie;
	if (s->random) {
		const struct davit_fake_chances *c = &w->chances;
		int code = (int)(davit_loop_random(w->loop) % 4);
		struct davit_exit end = {.kind = DAVIT_EXIT_CODE, .code = code};
		if (fake_world_chance(w, c->ends)) {
			if (code == 3)
				end = fake_exit_signal(SIGSEGV, "");
			r = fake_object_end(o, fake_world_upto(w, c->max_life), &end);
		}
		if (r == 0 && fake_world_chance(w, c->vanishes))
			r = davit_timer_start(&o->vanish, fake_world_upto(w, c->max_life));
		o->ignores_stop |= fake_world_chance(w, c->ignores_stop);
		never_ready |= fake_world_chance(w, c->never_ready);
		if (fake_world_chance(w, c->lies))
			o->lies = DAVIT_NSEC_PER_SEC;
	}
	if (r == 0 && s->ends)
		r = fake_object_end(o, s->end_after, &s->end);
	if (r == 0 && s->vanishes)
		r = davit_timer_start(&o->vanish, s->vanish_after);
	if (r == 0 && o->ready_signal != DAVIT_READY_NONE && !never_ready)
		r = davit_timer_start(&o->ready_timer, s->ready_after);
	if (r == 0 && s->status)
		r = davit_timer_start(&o->status_timer, s->status_after);
	for (size_t i = 0; r == 0 && i < s->n_logs; i++) {
		o->writers[i].left = s->logs[i].count;
		if (s->logs[i].every)
			r = davit_timer_start(&o->writers[i].timer, s->logs[i].every);
	}
	return r;
}

/* What it writes at once, before anything else can happen to it. */
static void write_first(struct fake_object *o)
{
	const struct fake_script *s = &o->script;

	for (size_t i = 0; i < s->n_logs; i++)
		for (int64_t n = s->logs[i].every ? 0 : s->logs[i].count; n > 0; n--)
			fake_log_add(o->world, o->log, s->logs[i].stream, s->logs[i].text,
				     strlen(s->logs[i].text));
	if (!s->show)
		return;
	for (size_t i = 0; o->argv && o->argv[i]; i++)
		if (i >= s->show_from)
			show(o, o->argv[i]);
	for (size_t i = 0; o->env && o->env[i]; i++)
		show(o, o->env[i]);
}

int fake_object_run(struct fake_object *o)
{
	struct davit_fake_world *w = o->world;
	int r = start_timers(o);

	if (r < 0) {
		stop_timers(o);
		return r;
	}
	if (o->untold_exit)
		fake_world_broken(w, o->id, "run %u starts before the end of the last was told", o->run + 1);
	o->state = DAVIT_STATE_STARTED;
	o->run++;
	o->pid = FAKE_PID_BASE + (pid_t)(w->pids++ % FAKE_PID_BASE);
	o->started_wall = davit_loop_wall(w->loop);
	o->started_at = davit_loop_now(w->loop);
	o->exit = (struct davit_exit){0};
	o->ready = o->untold_ready = o->untold_status = o->stopping = false;
	o->status[0] = '\0';
	fake_world_event(w, DAVIT_FAKE_STARTED, o);
	write_first(o);
	return 0;
}

/* --- making and ending --- */

static void init_timers(struct fake_object *o, struct davit_loop *loop, void (*step)(struct davit_timer *))
{
	davit_timer_init(&o->end, loop, on_end);
	davit_timer_init(&o->grace, loop, on_grace);
	davit_timer_init(&o->vanish, loop, on_vanish);
	davit_timer_init(&o->ready_timer, loop, on_ready);
	davit_timer_init(&o->status_timer, loop, on_status);
	davit_timer_init(&o->lie, loop, on_lie);
	davit_timer_init(&o->tell, loop, on_tell);
	davit_timer_init(&o->step, loop, step);
}

static int copy_workload(struct fake_object *o, const struct davit_workload *wl)
{
	memcpy(o->id, wl->id, sizeof o->id);
	o->label = strdup(wl->label ? wl->label : "");
	if (!o->label || davit_strv_dup(wl->argv, &o->argv) < 0 || davit_strv_dup(wl->env, &o->env) < 0)
		return DAVIT_ENOMEM;
	if (wl->image && !(o->image = strdup(wl->image)))
		return DAVIT_ENOMEM;
	if (wl->n_ports) {
		o->ports = calloc(wl->n_ports, sizeof *o->ports);
		if (!o->ports)
			return DAVIT_ENOMEM;
		memcpy(o->ports, wl->ports, wl->n_ports * sizeof *o->ports);
		o->n_ports = wl->n_ports;
	}
	o->memory_limit = wl->memory;
	o->ready_signal = wl->ready;
	if (o->script.n_logs) {
		o->writers = calloc(o->script.n_logs, sizeof *o->writers);
		if (!o->writers)
			return DAVIT_ENOMEM;
	}
	return 0;
}

static size_t log_bytes(const struct davit_log_config *c)
{
	uint64_t files = c->max_files ? c->max_files : 3;
	uint64_t bytes;

	if (!c->max_size || __builtin_mul_overflow(c->max_size, files, &bytes) || bytes > FAKE_LOG_SIZE)
		return FAKE_LOG_SIZE;
	return (size_t)bytes;
}

int fake_object_new(struct davit_fake_world *w, struct davit_instance *inst,
		    void (*step)(struct davit_timer *), struct fake_object **ret, struct davit_error *err)
{
	const struct davit_workload *wl = inst->workload;
	struct fake_object *o = calloc(1, sizeof *o);
	int r;

	if (!o)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	o->world = w;
	davit_list_init(&o->list);
	davit_list_init(&o->files);
	init_timers(o, w->loop, step);
	r = fake_script_parse(&o->script, wl, err);
	if (r < 0) {
		fake_object_free(o);
		return r;
	}
	r = copy_workload(o, wl);
	for (size_t i = 0; r == 0 && i < o->script.n_logs; i++) {
		o->writers[i] = (struct fake_writer){.object = o, .plan = &o->script.logs[i]};
		davit_timer_init(&o->writers[i].timer, w->loop, on_write);
	}
	o->log = r == 0 ? fake_log_get(w, o->id, log_bytes(&wl->log)) : NULL;
	if (!o->log || davit_map_put(&w->objects, o->id, o) < 0) {
		fake_object_free(o);
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	davit_list_add_tail(&w->list, &o->list);
	o->inst = inst;
	*ret = o;
	return 0;
}

void fake_object_free(struct fake_object *o)
{
	fake_terminals_end(o->world, o);
	fake_terminals_forget(o->world, o->id);
	stop_timers(o);
	davit_timer_stop(&o->tell);
	davit_timer_stop(&o->step);
	if (!davit_list_empty(&o->list)) {
		davit_map_remove(&o->world->objects, o->id);
		davit_list_remove(&o->list);
	}
	if (o->inst)
		((struct fake_instance *)davit_instance_state(o->inst))->object = NULL;
	fake_files_free(o);
	fake_script_fini(&o->script);
	free(o->image);
	davit_strv_free(o->argv);
	davit_strv_free(o->env);
	free(o->writers);
	free(o->ports);
	free(o->label);
	free(o);
}
