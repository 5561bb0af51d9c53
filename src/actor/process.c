/* SPDX-License-Identifier: MIT
 *
 * The stand-in of a process: one order at a time goes to it; what it says, or its
 * death, is the report.
 */
#include "actor/process.h"
#include "actor/process_json.h"

#include <stdio.h>
#include <string.h>

static enum davit_state state_of(const struct container *k)
{
	return (enum davit_state)atomic_load_explicit(&k->state, memory_order_relaxed);
}

int process_new(struct container *k)
{
	return (k->process = calloc(1, sizeof *k->process)) ? 0 : DAVIT_ENOMEM;
}

static void orders_drop(struct davit_context *c, struct process *p)
{
	struct davit_message *m;

	while ((m = p->orders)) {
		p->orders = m->next_;
		davit_message_free(c, m);
	}
}

void process_free(struct davit_context *c, struct container *k)
{
	struct process *p = k->process;
	struct davit_message *m;

	if (!p)
		return;
	orders_drop(c, p);
	while ((m = p->kept)) {
		p->kept = m->next_;
		message_dead(c, DAVIT_DEAD_ENDED, k->ref, m);
	}
	if (p->link) {
		link_kill(p->link, DAVIT_ECANCELED, "its parent has ended");
		link_unref(p->link);
	}
	free(p);
}

/* --- the end of an order --- */

static void say(struct container *k, int code, const char *text)
{
	k->code = code;
	snprintf(k->text, sizeof k->text, "%s", text);
}

static void fail(struct davit_context *c, struct davit_actor *a, struct container *k, bool starting,
		 uint64_t hash)
{
	container_set_state(a, k, DAVIT_STATE_FAILED);
	k->failure_hash = hash ? hash : container_hash(k);
	container_report(c, k, k->code, starting);
	k->code = 0;
}

static void arrive(struct davit_context *c, struct davit_actor *a, struct container *k, enum davit_state s)
{
	if (s != DAVIT_STATE_FAILED)
		k->failure_hash = 0;
	container_set_state(a, k, s);
	if (s == DAVIT_STATE_STARTED)
		process_resume(c, a);
	container_report(c, k, 0, false);
}

/* --- one order --- */

static uint64_t order_frame(struct process *p, const char *what, bool fresh, int code, const char *text,
			    bool soon)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;

	operate_json(&b, what, fresh, code, text);
	link_say(p->link, DAVIT_FRAME_OPERATE, ++p->last_id, 0, b.data, b.len, soon);
	return p->last_id;
}

static uint64_t tell(struct process *p, const char *what, bool fresh, int code, const char *text)
{
	return order_frame(p, what, fresh, code, text, false);
}

/* A process, told to create itself. soon: and something else, as soon as this returns. */
static int bring_up(struct davit_context *c, struct container *k, bool soon)
{
	struct process *p = k->process;
	int r = process_spawn(c, k);

	if (!r)
		p->create_id = order_frame(p, "create", false, 0, NULL, soon);
	return r;
}

static void begin_create(struct davit_context *c, struct davit_actor *a, struct container *k)
{
	struct process *p = k->process;
	int r = bring_up(c, k, false);

	if (!r) {
		p->id = p->create_id;
		return;
	}
	p->busy = false;
	container_report(c, k, r, false);
	k->code = 0;
}

static void begin_start(struct davit_context *c, struct davit_actor *a, struct container *k,
			const struct order *o)
{
	struct process *p = k->process;
	bool on = o->kind == ORDER_CONTINUE && state_of(k) == DAVIT_STATE_FAILED;
	int r;

	if (state_of(k) == DAVIT_STATE_STARTED) {
		p->busy = false;
		container_report(c, k, 0, false);
		return;
	}
	if (p->link) {
		p->id = tell(p, on ? "continue" : "start", o->fresh, 0, NULL);
		return;
	}
	/* It has died: another one, which is made anew by being created. */
	if (!(r = bring_up(c, k, true))) {
		p->id = tell(p, "start", false, 0, NULL);
		return;
	}
	p->busy = false;
	k->code = r;
	fail(c, a, k, true, 0);
}

static void begin_stop(struct davit_context *c, struct davit_actor *a, struct container *k)
{
	struct process *p = k->process;
	bool runs = state_of(k) == DAVIT_STATE_STARTED || state_of(k) == DAVIT_STATE_FAILED;

	if (runs && p->link) {
		p->id = tell(p, "stop", false, 0, NULL);
		return;
	}
	p->busy = false;
	arrive(c, a, k, runs ? DAVIT_STATE_STOPPED : state_of(k));
}

static void begin_destroy(struct davit_context *c, struct davit_actor *a, struct container *k, bool hard)
{
	struct process *p = k->process;

	if (!p->link) {
		p->busy = false;
		arrive(c, a, k, DAVIT_STATE_DESTROYED);
	} else if (hard) {
		link_kill(p->link, DAVIT_ECANCELED, "it was destroyed");
	} else {
		p->id = tell(p, "destroy", false, 0, NULL);
	}
}

static void begin(struct davit_context *c, struct davit_actor *a, struct container *k, const struct order *o)
{
	struct process *p = k->process;

	p->doing = *o;
	p->busy = true;
	p->id = 0;
	switch (o->kind) {
	case ORDER_CREATE:
		begin_create(c, a, k);
		break;
	case ORDER_START:
	case ORDER_CONTINUE:
		begin_start(c, a, k, o);
		break;
	case ORDER_STOP:
		begin_stop(c, a, k);
		break;
	case ORDER_FAIL:
		if (state_of(k) == DAVIT_STATE_STARTED && p->link)
			p->id = tell(p, "fail", false, o->code, o->text);
		else
			p->busy = false;
		break;
	case ORDER_DESTROY:
		begin_destroy(c, a, k, o->fresh);
		break;
	}
}

static void next(struct davit_context *c, struct davit_actor *a, struct container *k)
{
	struct process *p = k->process;
	struct davit_message *m;

	while (!p->busy && (m = p->orders)) {
		p->orders = m->next_;
		begin(c, a, k, body(m));
		davit_message_free(c, m);
	}
}

static void order(struct davit_context *c, struct davit_actor *a, struct container *k,
		  const struct davit_message *m)
{
	const struct order *o = body(m);
	struct process *p = k->process;
	struct davit_message *copy;

	if (o->kind == ORDER_DESTROY && o->fresh) { /* nothing is waited for */
		orders_drop(c, p);
		begin(c, a, k, o);
		return;
	}
	if (!p->busy) {
		begin(c, a, k, o);
		return;
	}
	if (!(copy = message_copy(c, m))) {
		tree_log(k->tree, "%s: out of memory for an order", k->alias);
		return;
	}
	copy->next_ = NULL;
	if (p->orders)
		p->orders_last->next_ = copy;
	else
		p->orders = copy;
	p->orders_last = copy;
}

/* --- news --- */

static void take_options(struct container *k, const struct news *n)
{
	if (!n->set_options)
		return;
	k->options = n->options;
	(void)container_bound(k); /* it has its gate */
}

/* What was asked for has been answered. */
static void answered(struct davit_context *c, struct davit_actor *a, struct container *k,
		     const struct news *n)
{
	struct process *p = k->process;

	if (p->doing.kind == ORDER_DESTROY && n->state == DAVIT_STATE_DESTROYED)
		return; /* its end is to come */
	if (n->id == p->create_id && n->state != DAVIT_STATE_CREATED) {
		p->why = n->code ? n->code : DAVIT_EPROTO;
		memcpy(p->why_text, n->text, sizeof p->why_text);
		return; /* and this one's */
	}
	p->busy = false;
	p->id = 0;
	if (n->state == DAVIT_STATE_FAILED) {
		process_failed_at(c, k);
		say(k,
		    n->code	    ? n->code
		    : p->doing.code ? p->doing.code
				    : DAVIT_EINTERNAL,
		    n->code || !p->doing.text[0] ? n->text : p->doing.text);
		fail(c, a, k, p->doing.kind == ORDER_START || p->doing.kind == ORDER_CONTINUE, n->failure);
	} else {
		say(k, 0, "");
		arrive(c, a, k, n->state);
		if (n->state == DAVIT_STATE_STARTED && !k->definition->command)
			spare_refill(c);
	}
}

static void said_state(struct davit_context *c, struct davit_actor *a, struct container *k,
		       const struct news *n)
{
	struct process *p = k->process;

	process_settle(c, k);
	/* Those of the first process; the tree reads them from then on. */
	if (n->id == p->create_id && n->state == DAVIT_STATE_CREATED && p->doing.kind == ORDER_CREATE)
		take_options(k, n);
	if (n->id && p->busy && (n->id == p->id || n->id == p->create_id)) {
		if (n->id == p->id || n->state != DAVIT_STATE_CREATED)
			answered(c, a, k, n);
		return;
	}
	if (n->id || state_of(k) != DAVIT_STATE_STARTED)
		return; /* late, or not of interest */
	if (n->state == DAVIT_STATE_FAILED) {
		process_failed_at(c, k);
		say(k, n->code ? n->code : DAVIT_EINTERNAL, n->text);
		fail(c, a, k, false, n->failure);
	} else if (n->state == DAVIT_STATE_STOPPED) {
		arrive(c, a, k, n->state);
	}
}

/* It has ended. Whatever was asked of it has its answer by that. */
static void died(struct davit_context *c, struct davit_actor *a, struct container *k, const struct news *n)
{
	struct process *p = k->process;
	enum order_kind doing = p->doing.kind;
	struct link *link = p->link;
	char silent[128];
	bool busy = p->busy;

	process_take_back(c, a);
	p->link = NULL;
	p->stalled = p->busy = false;
	p->id = p->create_id = 0;
	promises_lost(c, link, DAVIT_ECLOSED, n->text);
	snprintf(silent, sizeof silent, "%.80s, and has never spoken the protocol", n->text);
	say(k, p->why ? p->why : n->code,
	    p->why					? p->why_text
	    : link->welcome || n->code != DAVIT_ECLOSED ? n->text
							: silent);
	link_unref(link);
	p->why = 0;
	if (busy && doing == ORDER_CREATE) {
		container_report(c, k, k->code, false);
		k->code = 0;
	} else if (busy && doing == ORDER_DESTROY) {
		arrive(c, a, k, DAVIT_STATE_DESTROYED);
	} else if (busy && doing == ORDER_STOP) {
		arrive(c, a, k, DAVIT_STATE_STOPPED);
	} else if (busy || state_of(k) == DAVIT_STATE_STARTED) {
		fail(c, a, k, busy && doing != ORDER_FAIL, 0);
	} else {
		tree_log(k->tree, "%s: its process has ended, while it was %s: %s", k->alias,
			 davit_state_name(state_of(k)), n->text);
	}
}

void process_signal(struct davit_context *c, struct davit_actor *a, struct davit_message *m)
{
	struct container *k = a->container;
	const struct davit_down *down = body(m);
	const struct news *n = body(m);
	struct process *p = k->process;
	struct order o = {.kind = ORDER_FAIL};

	process_write(c, k); /* what is told to it now comes after that */
	if (m->type == SIG_CONTAINER) {
		order(c, a, k, m);
	} else if (m->type == SIG_LINKED) {
		if (state_of(k) != DAVIT_STATE_STARTED || p->busy)
			return;
		o.code = down->code;
		snprintf(o.text, sizeof o.text, "one that is linked has ended: %.90s", down->reason);
		begin(c, a, k, &o);
	} else if (p->link && p->link->number == n->link) {
		if (n->kind == NEWS_STATE)
			said_state(c, a, k, n);
		else if (n->kind == NEWS_DEAD)
			died(c, a, k, n);
		else
			process_settle(c, k);
		process_resume(c, a);
	}
	next(c, a, k);
}
