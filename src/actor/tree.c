/* SPDX-License-Identifier: MIT
 *
 * The tree: one actor that knows all containers. It owns the supervision engine, which
 * decides; what the engine wants done becomes an order to a container, what a container
 * reports goes to the engine. The engine's loop runs within this actor's messages.
 */
#include "actor/tree.h"

#include "actor/child.h"
#include "actor/process.h"
#include "actor/process_manage.h"
#include "actor/remote.h"
#include "actor/within.h"
#include "base/log.h"
#include "loop/hosted.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define SECOND INT64_C(1000000000)

/* Lines of this thread, each with its NUL, that are written later. */
static _Thread_local struct {
	bool on;
	struct tree *tree;
	struct davit_buf lines;
} late;

static void log_line(struct tree *t, const char *line)
{
	if (t->system->config.log)
		t->system->config.log(t->system->config.arg, line);
	else
		davit_log(DAVIT_LOG_WARNING, "%s", line);
}

void tree_log(struct tree *t, const char *fmt, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	if (!late.on || davit_buf_reserve(&late.lines, strlen(line) + 1)) {
		log_line(t, line);
		return;
	}
	late.tree = t;
	davit_buf_add(&late.lines, line, strlen(line) + 1);
}

void tree_log_late(bool on)
{
	late.on = on;
	if (on)
		return;
	for (size_t at = 0; at < late.lines.len; at += strlen(late.lines.data + at) + 1)
		log_line(late.tree, late.lines.data + at);
	davit_buf_fini(&late.lines);
}

void tree_order(struct container *k, enum order_kind kind, bool fresh, int code, const char *text)
{
	struct davit_context *c = k->tree->c;
	struct davit_message *m = davit_message_new(c, SIG_CONTAINER, sizeof(struct order));
	struct order *o;

	if (!m) {
		tree_log(k->tree, "%s: out of memory for an order", k->alias);
		return;
	}
	o = body(m);
	*o = (struct order){.kind = kind, .fresh = fresh, .code = code};
	snprintf(o->text, sizeof o->text, "%s", text ? text : "");
	m->sender = k->tree->ref;
	send_signal(c, k->ref, m);
}

/* --- the engine's loop --- */

static struct tree *host(struct davit_loop *loop)
{
	return davit_loop_host(loop);
}

static int64_t loop_now(struct davit_loop *loop)
{
	return davit_system_now(host(loop)->system);
}

static int64_t loop_wall(struct davit_loop *loop)
{
	struct timespec t;

	if (host(loop)->system->config.manual_clock)
		return davit_system_now(host(loop)->system);
	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * SECOND + t.tv_nsec;
}

static uint64_t loop_random(struct davit_loop *loop)
{
	uint64_t *x = &host(loop)->random;

	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static void loop_wake_at(struct davit_loop *loop, int64_t at)
{
	struct tree *t = host(loop);

	if (t->alarm.generation)
		alarm_cancel(t->system, t->alarm);
	t->alarm = (struct davit_alarm){0, 0};
	/* Without memory for it: the next message of the tree comes by as well. */
	if (at != INT64_MAX)
		(void)alarm_set(t->system, at, ALARM_LOOP, (struct davit_ref){0, 0}, 0, &t->alarm);
}

static const struct davit_loop_ops loop_ops = {
	.now = loop_now, .wall = loop_wall, .random = loop_random, .wake_at = loop_wake_at};

void tree_turn(struct davit_context *c)
{
	struct davit_message *m = davit_message_new(c, TREE_TURN, 0);

	if (m)
		send_ours(c, c->system->tree->ref, m);
}

/* --- what the engine wants done --- */

static void op_start(struct davit_node *leaf)
{
	struct container *k = leaf->owner;
	bool fresh = k->known == DAVIT_STATE_FAILED || k->by_group;

	k->by_group = false;
	k->relaunch = k->brood && k->brood->state == DAVIT_NODE_FAILED;
	tree_order(k, ORDER_START, fresh, 0, NULL);
}

static void op_stop(struct davit_node *leaf)
{
	struct container *k = leaf->owner;

	k->by_group = leaf->wanted;
	solve_stop(k);
	tree_order(k, ORDER_STOP, false, 0, NULL);
}

static void brood_changed(struct container *k, const struct davit_node *n)
{
	if (n->state == DAVIT_NODE_FAILED && k->known == DAVIT_STATE_STARTED) {
		char text[128];
		snprintf(text, sizeof text, "its children fail: %s, by %.60s",
			 n->rule_name ? n->rule_name : "", n->origin ? n->origin->name : "one that is gone");
		tree_order(k, ORDER_FAIL, false, DAVIT_EUNAVAIL, text);
	} else if (n->state == DAVIT_NODE_COMPLETED && n->rule_name &&
		   !strcmp(n->rule_name, "auto-shutdown") && k->known == DAVIT_STATE_STARTED) {
		operate(k, &(struct operate_request){.kind = OP_STOP, .ref = k->ref});
	}
}

static void op_changed(struct davit_node *n)
{
	struct container *k = n->owner;

	if (!k)
		return;
	if (!n->leaf) {
		brood_changed(k, n);
		return;
	}
	if (n->state == DAVIT_NODE_FAILED && n->rule_name)
		tree_log(k->tree, "%s: left failed, by %s", k->alias, n->rule_name);
	pthread_mutex_lock(&k->tree->lock);
	k->restarts = n->total_restarts;
	pthread_mutex_unlock(&k->tree->lock);
	tree_changed(k->tree->system);
}

static const struct davit_supervise_ops ops = {op_start, op_stop, op_changed};

void tree_remove(struct container *k)
{
	struct tree *t = k->tree;
	struct davit_message *m;

	solve_stop(k);
	davit_timer_stop(&k->patience);
	k->gone = true;
	if (k->brood)
		davit_supervise_remove(k->brood);
	davit_supervise_remove(&k->leaf);
	if (t->system->child && k->parent)
		within_announce(k, DAVIT_STATE_DESTROYED);
	pthread_mutex_lock(&t->lock);
	if (davit_map_get(&t->aliases, k->alias) == k)
		davit_map_remove(&t->aliases, k->alias);
	davit_list_remove(&k->siblings);
	k->actor->gate->container = NULL;
	k->actor->gate->alias[0] = 0;
	if (k->parent)
		k->parent->n_children--;
	else
		t->main = NULL;
	pthread_mutex_unlock(&t->lock);
	tree_changed(t->system);
	/* The last order: its actor ends, and frees k; its monitors hear of it now. */
	if ((m = davit_message_new(t->c, SIG_KILL, 0)))
		send_signal(t->c, k->ref, m);
}

struct container *tree_container(struct tree *t, struct davit_ref ref)
{
	/* Not by the actor, which may just be ending: by its place, which stays. */
	struct davit_actor *a = actor_at(t->system, ref.slot);
	struct container *k = a && a->gate ? a->gate->container : NULL;

	return k && davit_ref_equal(k->ref, ref) ? k : NULL;
}

/* --- reports --- */

void tree_escalate(struct container *k)
{
	enum davit_cause cause = k->failure_code == DAVIT_ETIMEDOUT ? DAVIT_CAUSE_TIMEOUT : DAVIT_CAUSE_CODE;

	k->remedy = NULL;
	if (k->leaf.state == DAVIT_NODE_STARTING)
		cause = DAVIT_CAUSE_START;
	davit_supervise_ended(&k->leaf, cause);
}

static void note_failure(struct container *k, const struct report *r)
{
	pthread_mutex_lock(&k->tree->lock);
	k->failure = r->state == DAVIT_STATE_FAILED ? r->failure : 0;
	if (k->failure) {
		k->failure_code = r->code;
		memcpy(k->failure_text, r->text, sizeof k->failure_text);
	}
	pthread_mutex_unlock(&k->tree->lock);
}

static void reported(struct tree *t, const struct report *r)
{
	struct container *k = tree_container(t, r->ref);
	bool root, asked;

	if (!k)
		return;
	root = t->system->child && !k->parent;
	asked = k->now != NULL || k->destroying;
	k->known = r->state;
	if (r->state == DAVIT_STATE_FAILED || k->failure)
		note_failure(k, r);
	if (t->system->child && !root && r->state != DAVIT_STATE_DESTROYED)
		within_announce(k, r->state);
	tree_changed(t->system);
	switch (r->state) {
	case DAVIT_STATE_DESTROYED:
		if (!k->created)
			tree_born(k, r); /* it did not succeed */
		else
			destroy_advance(k);
		return;
	case DAVIT_STATE_CREATED:
		tree_born(k, r);
		return;
	case DAVIT_STATE_STARTED:
		davit_supervise_running(&k->leaf);
		if (k->relaunch)
			davit_supervise_relaunch(k->brood);
		k->relaunch = false;
		solve_report(k);
		operate_report(k, 0, NULL);
		break;
	case DAVIT_STATE_STOPPED:
		davit_supervise_ended(&k->leaf, DAVIT_CAUSE_STOPPED);
		solve_stop(k);
		operate_report(k, 0, NULL);
		if (root && !asked)
			uplink_report(t, k, r);
		break;
	case DAVIT_STATE_FAILED:
		if (root) { /* the parent decides, and has it in its log */
			if (!asked)
				uplink_report(t, k, r);
			operate_report(k, r->code, r->text);
			break;
		}
		tree_log(t, "%s: failed: %s (%s), %016llx", k->alias, r->text, davit_error_word(r->code),
			 (unsigned long long)r->failure);
		operate_report(k, r->code, r->text);
		if (k->leaf.state != DAVIT_NODE_STOPPING && !k->destroying)
			solve_begin(k);
		break;
	default:
		break;
	}
	if (k->destroying)
		destroy_advance(k);
}

static void flush(struct tree *t, const struct operate_request *r)
{
	struct container *k = tree_container(t, r->ref), *child;
	size_t n = 0;
	struct davit_promise *p;

	if (!k || !k->n_children) {
		tree_answer(t, r->promise, 0, NULL, "");
		return;
	}
	if (!(p = calloc(k->n_children, sizeof *p))) {
		tree_answer(t, r->promise, DAVIT_ENOMEM, "out of memory", NULL);
		return;
	}
	/* The last one first. */
	for (struct davit_list *l = k->children.prev; l != &k->children; l = l->prev) {
		child = DAVIT_CONTAINER_OF(l, struct container, siblings);
		if (davit_promise_new(t->c, &p[n]))
			break;
		operate(child,
			&(struct operate_request){
				.kind = OP_DESTROY, .promise = p[n], .ref = child->ref, .flags = r->flags});
		n++;
	}
	promise_when_all(t->c, p, n, r->promise);
	free(p);
}

static int tree_handle(struct davit_context *c, struct davit_message *m)
{
	struct tree *t = c->system->tree;
	struct container *k;

	t->c = c;
	switch (m->type) {
	case TREE_REPORT:
		reported(t, body(m));
		break;
	case TREE_CREATE:
		tree_create(t, m);
		break;
	case TREE_OPERATE:
		if ((k = tree_container(t, ((struct operate_request *)body(m))->ref)))
			operate(k, body(m));
		else if (((struct operate_request *)body(m))->kind == OP_DESTROY)
			tree_answer(t, ((struct operate_request *)body(m))->promise, 0, NULL, "");
		else
			tree_answer(t, ((struct operate_request *)body(m))->promise, DAVIT_ENOENT,
				    "it is gone", NULL);
		break;
	case TREE_FLUSH:
		flush(t, body(m));
		break;
	default:
		break;
	}
	davit_loop_turn(t->loop);
	return 0;
}

/* --- open, close --- */

static int main_behaviour(struct davit_context *c, struct davit_message *m)
{
	return davit_refuse(c, m, DAVIT_ENOTSUP, "Main answers nothing");
}

/* Above Main is the final policy: it is restarted, later and later, for ever. */
static const struct davit_definition main_definition = {
	.name = "Main",
	.behaviour = main_behaviour,
	.options = {.set_restart = true,
		    .restart = DAVIT_RESTART_ALWAYS,
		    .retries = -1,
		    .backoff = {100 * 1000 * 1000, 30 * SECOND, 2, 0.1, 60 * SECOND}},
};
static const struct davit_supervision_rule final_rule = {
	.strategy = DAVIT_ONE_FOR_ONE, .max_restarts = -1, .escalation = DAVIT_ESCALATE_ISOLATE};

int tree_init(struct davit_system *s)
{
	struct davit_start_budget budget = {0};
	struct tree *t = calloc(1, sizeof *t);
	int r;

	if (!t)
		return DAVIT_ENOMEM;
	s->tree = t;
	t->system = s;
	t->c = &s->outside->context;
	t->random = (uint64_t)clock_now() | 1;
	pthread_mutex_init(&t->lock, NULL);
	if ((r = davit_loop_open_hosted(&loop_ops, t, &t->loop, NULL)) ||
	    (r = davit_supervise_init(&t->sup, t->loop, &ops, &final_rule, &budget, NULL, NULL)) ||
	    (r = davit_spawn(t->c, tree_handle, NULL, 0, &t->ref)))
		return r;
	actor_of(s, t->ref)->flags |= ACTOR_SYSTEM;
	if (s->child)
		return 0; /* its root comes with the greeting */
	if (!(t->main = tree_adopt(t, NULL, &main_definition, "Main", "")))
		return DAVIT_ENOMEM;
	tree_wait_birth(t->main, &(struct create_request){.flags = DAVIT_CREATE_START});
	tree_order(t->main, ORDER_CREATE, false, 0, NULL);
	return 0;
}

void tree_close(struct davit_system *s)
{
	struct davit_context *c = &s->outside->context;
	struct davit_promise p;

	if (!s->tree->main || !s->n_workers)
		return;
	/* Main itself refuses to be destroyed by others; this is the way. */
	if (!davit_flush(c, DAVIT_DESTROY_FORCE, &p))
		(void)davit_await(c, p, -1, NULL, NULL);
	limbo_drop(c, s->tree);
}

void tree_forget(struct davit_system *s)
{
	struct tree *t = s->tree;

	if (!t)
		return;
	davit_supervise_fini(&t->sup);
	davit_loop_close(DAVIT_TAKE(t->loop));
}

/* Containers that are left were freed with their actors. */
void tree_fini(struct davit_system *s)
{
	struct tree *t = s->tree;

	if (!t)
		return;
	tree_forget(s);
	remotes_fini(s);
	process_commands_fini(s);
	davit_map_fini(&t->limbo);
	davit_map_fini(&t->aliases);
	davit_map_fini(&t->definitions);
	pthread_mutex_destroy(&t->lock);
	free(t);
	s->tree = NULL;
}
