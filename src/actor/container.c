/* SPDX-License-Identifier: MIT
 *
 * A container on its worker: what the tree orders, what it is sent, and what becomes
 * of it when it fails.
 */
#include "actor/child.h"
#include "actor/process.h"
#include "actor/route.h"

#include <stdio.h>
#include <string.h>

static enum davit_state state_of(const struct container *k)
{
	return (enum davit_state)atomic_load_explicit(&k->state, memory_order_relaxed);
}

void container_report(struct davit_context *c, struct container *k, int code, bool starting)
{
	struct davit_message *m = davit_message_new(c, TREE_REPORT, sizeof(struct report));
	struct report *r;

	if (!m) /* without memory for this the container cannot go on; nor can anything */
		return;
	r = body(m);
	*r = (struct report){.ref = k->ref,
			     .state = state_of(k),
			     .failure = k->failure_hash,
			     .code = code,
			     .starting = starting};
	memcpy(r->text, k->text, sizeof r->text);
	send_ours(c, k->tree->ref, m);
}

/* Calls back; an error, returned or said by davit_fail, is the result. */
static int call(struct davit_context *c, struct container *k, int (*fn)(struct davit_context *c))
{
	int r = fn ? fn(c) : 0;

	if (r < 0 && !k->code) {
		k->code = r;
		snprintf(k->text, sizeof k->text, "%s", davit_error_doc(r));
	}
	return k->code;
}

static int hook(struct davit_context *c, struct container *k, enum davit_operation op, enum davit_phase phase)
{
	int r = k->definition->hook ? k->definition->hook(c, op, phase) : 0;

	if (r < 0 && !k->code) {
		k->code = r;
		snprintf(k->text, sizeof k->text, "hook of %s: %s", davit_operation_name(op),
			 davit_error_doc(r));
	}
	return k->code;
}

/* A hook that cannot hold anything up. */
static void hook_only(struct davit_context *c, struct container *k, enum davit_operation op,
		      enum davit_phase phase)
{
	char text[sizeof k->text];
	int code = k->code;

	memcpy(text, k->text, sizeof text);
	k->code = 0;
	if (hook(c, k, op, phase))
		tree_log(k->tree, "%s: %s", k->alias, k->text);
	k->code = code;
	memcpy(k->text, text, sizeof text);
}

void container_set_state(struct davit_actor *a, struct container *k, enum davit_state s)
{
	atomic_store_explicit(&k->state, (int)s, memory_order_relaxed);
	k->seen = NULL;
	if (s == DAVIT_STATE_STARTED)
		a->flags &= ~(uint32_t)ACTOR_HELD;
	else
		a->flags |= ACTOR_HELD;
}

/* New memory, initial behaviour. */
static void renew(struct davit_actor *a, struct container *k)
{
	davit_region_fini(&k->arena);
	a->state.heap = NULL;
	k->n_behaviours = 0;
}

/* --- transitions --- */

uint64_t container_hash(struct container *k)
{
	uint64_t h = UINT64_C(14695981039346656037);

	for (const char *p = k->text; *p; p++)
		h = (h ^ (unsigned char)*p) * UINT64_C(1099511628211);
	h = (h ^ k->ref.slot) * UINT64_C(1099511628211);
	h = (h ^ k->ref.generation) * UINT64_C(1099511628211);
	h = (h ^ ++k->failures) * UINT64_C(1099511628211);
	return h ? h : 1;
}

static void fail(struct davit_context *c, struct davit_actor *a, struct container *k, bool starting)
{
	int code = k->code;

	a->code = 0;
	hook_only(c, k, DAVIT_DO_FAIL, DAVIT_BEFORE);
	hook_only(c, k, DAVIT_DO_FAIL, DAVIT_ON);
	k->failure_hash = container_hash(k);
	container_set_state(a, k, DAVIT_STATE_FAILED);
	hook_only(c, k, DAVIT_DO_FAIL, DAVIT_AFTER);
	a->code = 0;
	container_report(c, k, code, starting);
	k->code = 0;
}

static void create(struct davit_context *c, struct davit_actor *a, struct container *k)
{
	const struct davit_definition *d = k->definition;
	int r;

	k->code = 0;
	r = hook(c, k, DAVIT_DO_CREATE, DAVIT_BEFORE);
	if (!r && d->config && (r = d->config(c, &k->options)) < 0)
		snprintf(k->text, sizeof k->text, "config: %s", davit_error_doc(r));
	if (!r && k->options.significant && container_endless(&k->options)) {
		r = DAVIT_EINVAL;
		snprintf(k->text, sizeof k->text,
			 "a significant container that is always restarted never ends");
	}
	if (!r && (r = container_bound(k)))
		snprintf(k->text, sizeof k->text, "out of memory");
	if (!r && k->options.dedicated && !a->own && (r = actor_dedicate(c, a)))
		snprintf(k->text, sizeof k->text, "no thread of its own: %s", davit_error_doc(r));
	if (!r && !(r = call(c, k, d->boot)) && !(r = call(c, k, d->construct)))
		r = hook(c, k, DAVIT_DO_CREATE, DAVIT_ON);
	if (!r)
		container_set_state(a, k, DAVIT_STATE_CREATED);
	if (!r)
		hook_only(c, k, DAVIT_DO_CREATE, DAVIT_AFTER);
	a->code = 0;
	container_report(c, k, r, false);
	k->code = 0;
}

static void start(struct davit_context *c, struct davit_actor *a, struct container *k, bool fresh)
{
	int r;

	if (state_of(k) == DAVIT_STATE_STARTED) {
		container_report(c, k, 0, false);
		return;
	}
	k->code = 0;
	r = hook(c, k, DAVIT_DO_START, DAVIT_BEFORE);
	if (!r && fresh) {
		renew(a, k);
		r = call(c, k, k->definition->construct);
	}
	if (!r)
		r = hook(c, k, DAVIT_DO_START, DAVIT_ON);
	if (r) {
		fail(c, a, k, true);
		return;
	}
	k->failure_hash = 0;
	container_set_state(a, k, DAVIT_STATE_STARTED);
	hook_only(c, k, DAVIT_DO_START, DAVIT_AFTER);
	a->code = 0;
	container_report(c, k, 0, false);
}

static void stop(struct davit_context *c, struct davit_actor *a, struct container *k)
{
	if (state_of(k) == DAVIT_STATE_STARTED || state_of(k) == DAVIT_STATE_FAILED) {
		hook_only(c, k, DAVIT_DO_STOP, DAVIT_BEFORE);
		hook_only(c, k, DAVIT_DO_STOP, DAVIT_ON);
		k->failure_hash = 0;
		container_set_state(a, k, DAVIT_STATE_STOPPED);
		hook_only(c, k, DAVIT_DO_STOP, DAVIT_AFTER);
		a->code = 0;
	}
	container_report(c, k, 0, false);
}

static void destroy(struct davit_context *c, struct davit_actor *a, struct container *k, bool hard)
{
	if (!hard) {
		hook_only(c, k, DAVIT_DO_DESTROY, DAVIT_BEFORE);
		hook_only(c, k, DAVIT_DO_DESTROY, DAVIT_ON);
	}
	container_set_state(a, k, DAVIT_STATE_DESTROYED);
	if (!hard)
		hook_only(c, k, DAVIT_DO_DESTROY, DAVIT_AFTER);
	a->code = 0;
	container_report(c, k, 0, false);
}

void container_signal(struct davit_context *c, struct davit_actor *a, struct davit_message *m)
{
	struct container *k = a->container;
	const struct order *o = body(m);
	const struct davit_down *down = body(m);
	bool linked = m->type == SIG_LINKED;

	if (k->process) {
		process_signal(c, a, m);
		return;
	}
	if (m->type == SIG_PROCESS)
		return;
	if (linked || o->kind == ORDER_FAIL) {
		if (state_of(k) != DAVIT_STATE_STARTED)
			return;
		k->code = linked ? down->code : o->code;
		if (linked)
			snprintf(k->text, sizeof k->text, "one that is linked has ended: %.90s",
				 down->reason);
		else
			memcpy(k->text, o->text, sizeof k->text);
		fail(c, a, k, false);
		return;
	}
	switch (o->kind) {
	case ORDER_CREATE:
		create(c, a, k);
		break;
	case ORDER_START:
		start(c, a, k, o->fresh);
		break;
	case ORDER_CONTINUE:
		start(c, a, k, false);
		break;
	case ORDER_STOP:
		stop(c, a, k);
		break;
	case ORDER_DESTROY:
		destroy(c, a, k, o->fresh);
		break;
	case ORDER_FAIL:
		break;
	}
}

/* --- messages --- */

/* A command goes to its function, by its name. */
static int behave(struct davit_context *c, struct davit_message *m)
{
	struct container *k = c->self->container;
	const struct davit_command_entry *e = k->definition->commands;
	const char *name = (const char *)m->data;

	if (m->type == DAVIT_TYPE_COMMAND && e) {
		for (; e->name; e++)
			if (!strcmp(e->name, name))
				return e->run(c, m, name + strlen(name) + 1);
		return davit_refuse(c, m, DAVIT_ENOENT, "%s has no command \"%s\"", k->alias, name);
	}
	if (k->n_behaviours)
		return k->behaviour[k->n_behaviours - 1](c, m);
	return k->definition->behaviour(c, m);
}

static void failed(struct davit_context *c, struct davit_actor *a, struct container *k)
{
	if (!k->code) {
		k->code = a->code;
		snprintf(k->text, sizeof k->text, "%s", davit_error_doc(a->code));
	}
	a->code = 0;
	fail(c, a, k, false);
}

void container_message(struct davit_context *c, struct davit_actor *a, struct davit_message *m)
{
	struct container *k = a->container;
	bool counted = m->flags_ & MSG_CHANNEL; /* before m is gone */

	if (k->process) {
		process_message(c, a, m);
		return;
	}
	if (m->type == DAVIT_TYPE_CALL && m->flags_ & MSG_OURS) {
		promise_call(c, m);
		davit_message_free(c, m);
		if (a->code && state_of(k) == DAVIT_STATE_STARTED)
			failed(c, a, k);
		return;
	}
	if (UNLIKELY(m->flags_ & MSG_GATED) && promise_failure(c, m->promise) != k->failure_hash) {
		davit_refuse(c, m, DAVIT_ESTATE, "that failure is over");
		message_dead(c, DAVIT_DEAD_EXPIRED, k->ref, m);
		return;
	}
	if (UNLIKELY(counted))
		uplink_begin(c->system);
	if (deliver(c, a, m, behave)) {
		if (state_of(k) == DAVIT_STATE_STARTED)
			failed(c, a, k);
	} else if (UNLIKELY(counted)) {
		uplink_done(c->system);
	}
	a->code = 0;
}

/* Takes the one after prev (NULL: the first) out of todo. */
static struct davit_message *unlink_after(struct davit_actor *a, struct davit_message *prev)
{
	struct davit_message *m = prev ? prev->next_ : a->todo;

	if (prev)
		prev->next_ = m->next_;
	else
		a->todo = m->next_;
	if (a->todo_last == m)
		a->todo_last = prev;
	if (m->flags_ & MSG_COUNTED)
		gate_leave(a, 1);
	return m;
}

/* What has come since: messages for the failure are handled; the rest is kept, or not. */
void container_held(struct davit_context *c, struct davit_actor *a)
{
	struct container *k = a->container;
	struct davit_message *prev = k ? k->seen : NULL, *m;
	enum davit_dead why;

	if (!k || state_of(k) == DAVIT_STATE_STARTED)
		return; /* it waits for room, elsewhere */
	while ((m = prev ? prev->next_ : a->todo) && a->flags & ACTOR_HELD) {
		bool ours = m->flags_ & MSG_OURS;
		enum davit_state s = state_of(k);
		if (m->flags_ & MSG_GATED && s == DAVIT_STATE_FAILED) {
			m = unlink_after(a, prev);
			if (promise_begin(c, m->promise, &why))
				container_message(c, a, m);
			else
				message_dead(c, why, k->ref, m);
		} else if (!ours && k->options.keep_nothing && s != DAVIT_STATE_FAILED) {
			message_dead(c, DAVIT_DEAD_STOPPED, k->ref, unlink_after(a, prev));
		} else {
			prev = m;
		}
	}
	k->seen = a->flags & ACTOR_HELD ? prev : NULL;
}

/* --- what a container may ask of itself --- */

static struct container *mine(const struct davit_context *c)
{
	return c->self ? c->self->container : NULL;
}

enum davit_container_type davit_container_type(const struct davit_context *c)
{
	return mine(c) ? mine(c)->definition->type : DAVIT_THREAD;
}

const char *davit_alias(const struct davit_context *c)
{
	return mine(c) ? mine(c)->alias : "";
}

const char *davit_name(const struct davit_context *c)
{
	return mine(c) ? mine(c)->definition->name : "";
}

const char *davit_path(const struct davit_context *c)
{
	return mine(c) ? mine(c)->path : "";
}

const char *davit_parent(const struct davit_context *c)
{
	if (!mine(c))
		return "";
	if (mine(c)->parent)
		return mine(c)->parent->alias;
	return c->system->child ? c->system->child->hello.parent : "";
}

const char *davit_args(const struct davit_context *c)
{
	return mine(c) ? mine(c)->args : "";
}

enum davit_state davit_container_state(const struct davit_context *c)
{
	return mine(c) ? state_of(mine(c)) : DAVIT_STATE_DESTROYED;
}

void *davit_alloc(struct davit_context *c, size_t size)
{
	void *p = mine(c) ? davit_region_take(&mine(c)->arena, size) : NULL;

	return p ? memset(p, 0, size) : NULL;
}

void davit_set_data(struct davit_context *c, void *data)
{
	if (mine(c))
		c->self->state.heap = data;
}

int davit_fail(struct davit_context *c, int code, const char *fmt, ...)
{
	struct container *k = mine(c);
	va_list ap;

	if (code >= 0)
		code = DAVIT_EINTERNAL;
	if (c->self)
		c->self->code = code;
	if (!k)
		return code;
	k->code = code;
	va_start(ap, fmt);
	vsnprintf(k->text, sizeof k->text, fmt, ap);
	va_end(ap);
	return code;
}

int davit_become(struct davit_context *c, int (*behaviour)(struct davit_context *c, struct davit_message *m))
{
	struct container *k = mine(c);

	if (!k)
		return DAVIT_ESTATE;
	if (k->n_behaviours == k->cap_behaviours) {
		uint32_t cap = k->cap_behaviours ? k->cap_behaviours * 2 : 4;
		void *more = realloc(k->behaviour, cap * sizeof *k->behaviour);
		if (!more)
			return DAVIT_ENOMEM;
		k->behaviour = more;
		k->cap_behaviours = cap;
	}
	k->behaviour[k->n_behaviours++] = behaviour;
	return 0;
}

int davit_unbecome(struct davit_context *c)
{
	if (!mine(c) || !mine(c)->n_behaviours)
		return DAVIT_ESTATE;
	mine(c)->n_behaviours--;
	return 0;
}

int container_bound(struct container *k)
{
	const struct davit_options *o = &k->options;
	struct gate *g = actor_gate(k->actor);

	if (!g)
		return DAVIT_ENOMEM;
	g->overflow = (uint32_t)o->overflow;
	g->block_time = o->block_time ? o->block_time : INT64_C(1000000000);
	g->limit = o->limit == UINT32_MAX ? 0 : o->limit ? o->limit : 65536;
	return 0;
}

static void ops_free(struct davit_list *list)
{
	struct op *op;

	while ((op = DAVIT_LIST_FIRST(list, struct op, link))) {
		davit_list_remove(&op->link);
		free(op);
	}
}

void container_free(struct davit_context *c, struct container *k)
{
	ops_free(&k->ops);
	ops_free(&k->ending);
	ops_free(&k->births);
	free(k->now);
	process_free(c, k);
	davit_region_fini(&k->arena);
	davit_message_free(c, k->again);
	free(k->behaviour);
	free(k->brood);
	free(k->applied);
	free(k->alias);
	free(k->args);
	free(k->path);
	free(k);
}
