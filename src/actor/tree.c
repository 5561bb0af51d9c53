/* SPDX-License-Identifier: MIT
 *
 * The tree: one actor that knows all containers. It owns the supervision engine, which
 * decides; what the engine wants done becomes an order to a container, what a container
 * reports goes to the engine. The engine's loop runs within this actor's messages.
 */
#include "actor/tree.h"

#include "actor/container_impl.h"
#include "base/log.h"
#include "loop/hosted.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define SECOND INT64_C(1000000000)

void tree_log(struct tree *t, const char *fmt, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	if (t->system->config.log)
		t->system->config.log(t->system->config.arg, line);
	else
		davit_log(DAVIT_LOG_WARNING, "%s", line);
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
}

static const struct davit_supervise_ops ops = {op_start, op_stop, op_changed};

static struct davit_restart_rule restart_rule(const struct davit_options *o)
{
	if (!o->set_restart)
		return (struct davit_restart_rule){.policy = DAVIT_RESTART_ALWAYS, .retries = -1};
	return (struct davit_restart_rule){
		.policy = o->restart, .retries = o->retries, .backoff = o->backoff};
}

static struct davit_supervision_rule brood_rule(const struct davit_options *o)
{
	return (struct davit_supervision_rule){
		.strategy = o->strategy,
		.max_restarts = o->max_restarts ? o->max_restarts : 10,
		.period = o->period ? o->period : 60 * SECOND,
		.escalation = o->isolate ? DAVIT_ESCALATE_ISOLATE : DAVIT_ESCALATE_PARENT,
		.auto_shutdown = o->auto_shutdown,
		.headed = true,
	};
}

static int brood_make(struct container *k)
{
	struct davit_supervision_rule rule = brood_rule(&k->options);

	if (k->brood)
		return 0;
	if (!(k->brood = calloc(1, sizeof *k->brood)))
		return DAVIT_ENOMEM;
	if (davit_supervise_add_inner_behind(k->brood, &k->leaf, k->alias, &rule, k)) {
		free(DAVIT_TAKE(k->brood));
		return DAVIT_ENOMEM;
	}
	return 0;
}

/* --- coming and going --- */

static struct container *container_new(struct tree *t, struct container *parent,
				       const struct davit_definition *d, const char *alias, const char *args)
{
	struct container *k = calloc(1, sizeof *k);

	if (!k)
		return NULL;
	*k = (struct container){.tree = t, .definition = d, .parent = parent, .options = d->options};
	davit_list_init(&k->children);
	davit_list_init(&k->siblings);
	davit_list_init(&k->ops);
	davit_list_init(&k->ending);
	davit_list_init(&k->births);
	k->alias = strdup(alias);
	k->args = strdup(args);
	if (!k->alias || !k->args ||
	    asprintf(&k->path, "%s%s%s", parent ? parent->path : "", parent ? "/" : "", alias) < 0) {
		k->path = NULL;
		container_free(t->c, k);
		return NULL;
	}
	davit_timer_init(&k->patience, t->loop, patience_over);
	davit_timer_init(&k->solve_timer, t->loop, solve_timer);
	return k;
}

/* Its actor, held until it is started. */
static int give_actor(struct tree *t, struct container *k)
{
	struct davit_actor *a = actor_new(t->c, NULL);

	if (!a)
		return DAVIT_ENOMEM;
	a->flags = ACTOR_HELD;
	a->state.heap = NULL;
	k->actor = a;
	k->ref = ref_of(a);
	if (container_bound(k)) {
		actor_end(t->c, a, 0, "");
		return DAVIT_ENOMEM;
	}
	a->container = k;
	return 0;
}

static int add_leaf(struct tree *t, struct container *k)
{
	struct davit_restart_rule rule = restart_rule(&k->options);
	int r = k->parent ? brood_make(k->parent) : 0;

	if (!r)
		r = davit_supervise_add_leaf(&k->leaf, k->parent ? k->parent->brood : &t->sup.root, k->alias,
					     &rule, k);
	if (!r)
		k->leaf.significant = k->options.significant;
	return r;
}

/* Into the tree, the engine and the aliases. NULL: no memory. */
static struct container *adopt(struct tree *t, struct container *parent, const struct davit_definition *d,
			       const char *alias, const char *args)
{
	struct container *k = container_new(t, parent, d, alias, args);
	int r;

	if (!k)
		return NULL;
	if (add_leaf(t, k)) {
		container_free(t->c, k);
		return NULL;
	}
	if (give_actor(t, k)) {
		davit_supervise_remove(&k->leaf);
		container_free(t->c, k);
		return NULL;
	}
	pthread_mutex_lock(&t->lock);
	r = davit_map_put(&t->aliases, k->alias, k);
	if (!r) {
		k->actor->gate->container = k;
		memcpy(k->actor->gate->alias, k->alias, strlen(k->alias) + 1);
	}
	if (!r && parent) {
		davit_list_add_tail(&parent->children, &k->siblings);
		parent->n_children++;
	}
	pthread_mutex_unlock(&t->lock);
	if (r) {
		davit_supervise_remove(&k->leaf);
		actor_end(t->c, k->actor, 0, ""); /* and k with it */
		return NULL;
	}
	return k;
}

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

/* --- creating --- */

static void answer(struct tree *t, struct davit_promise p, int code, const char *text, const char *alias)
{
	if (!p.generation)
		return;
	if (code)
		davit_reject(t->c, p, code, "%s", text);
	else
		davit_fulfil(t->c, p, alias, strlen(alias));
}

static void wait_birth(struct container *k, const struct create_request *r)
{
	struct op *op = calloc(1, sizeof *op);

	if (!op) {
		answer(k->tree, r->promise, DAVIT_ENOMEM, "out of memory", NULL);
		return;
	}
	op->r = (struct operate_request){.promise = r->promise, .flags = r->flags};
	davit_list_add_tail(&k->births, &op->link);
}

/* The alias is taken. */
static void create_occupied(struct tree *t, struct container *k, const struct create_request *r,
			    struct davit_message *m)
{
	unsigned force = r->flags & DAVIT_CREATE_FORCE;

	if (!k->destroying && !force) {
		if (!k->created)
			wait_birth(k, r);
		else if (r->flags & DAVIT_CREATE_START)
			operate(k, &(struct operate_request){
					   .kind = OP_START, .promise = r->promise, .ref = k->ref});
		else
			answer(t, r->promise, 0, NULL, k->alias);
		return;
	}
	if (k->again || !(k->again = message_copy(t->c, m))) {
		answer(t, r->promise, DAVIT_EEXIST, "the alias is about to be given to another", NULL);
		return;
	}
	if (!k->destroying)
		operate(k, &(struct operate_request){.kind = OP_DESTROY, .ref = k->ref, .flags = force});
}

static const struct davit_definition *definition_of(struct tree *t, const struct create_request *r)
{
	const struct davit_definition *d = r->definition;

	if (d || !r->name)
		return d;
	pthread_mutex_lock(&t->lock);
	d = davit_map_get(&t->definitions, r->text + r->name);
	pthread_mutex_unlock(&t->lock);
	return d;
}

static struct container *parent_of(struct tree *t, const struct create_request *r)
{
	struct container *by = tree_container(t, r->by), *k;

	if (!r->parent)
		return by ? by : t->main;
	pthread_mutex_lock(&t->lock);
	k = lookup(t, by, r->text + r->parent);
	pthread_mutex_unlock(&t->lock);
	return k;
}

void tree_create(struct tree *t, struct davit_message *m)
{
	const struct create_request *r = body(m);
	const struct davit_definition *d = definition_of(t, r);
	const char *alias = r->text + r->alias;
	struct container *k, *parent;

	pthread_mutex_lock(&t->lock);
	k = davit_map_get(&t->aliases, alias);
	pthread_mutex_unlock(&t->lock);
	if (k) {
		create_occupied(t, k, r, m);
		return;
	}
	parent = parent_of(t, r);
	if (!parent || parent->destroying) {
		answer(t, r->promise, parent ? DAVIT_ESTATE : DAVIT_ENOENT,
		       parent ? "its parent is being destroyed" : "there is no such parent", NULL);
	} else if (!d || !d->behaviour) {
		answer(t, r->promise, DAVIT_ENOENT, "there is no definition of that name", NULL);
	} else if (d->type != DAVIT_THREAD) {
		answer(t, r->promise, DAVIT_ENOTSUP, "nothing here runs containers of type process", NULL);
	} else if (!(k = adopt(t, parent, d, alias, r->args ? r->text + r->args : ""))) {
		answer(t, r->promise, DAVIT_ENOMEM, "out of memory", NULL);
	} else {
		wait_birth(k, r);
		tree_order(k, ORDER_CREATE, false, 0, NULL);
		limbo_release(t->c, t, k);
	}
}

/* Created, or not: those who asked for it hear of it, or wait for its start. */
static void born(struct container *k, const struct report *r)
{
	struct davit_restart_rule rule = restart_rule(&k->options);
	struct op *op, *tmp;

	k->created = true;
	if (r->code || k->destroying) {
		k->destroying = true;
		operate_answer(k, &k->births, r->code ? r->code : DAVIT_ESTATE,
			       r->code ? r->text : "it is being destroyed");
		destroy_advance(k);
		return;
	}
	davit_supervise_set_restart(&k->leaf, &rule);
	k->leaf.significant = k->options.significant;
	DAVIT_LIST_FOREACH_SAFE (op, tmp, &k->births, link) {
		davit_list_remove(&op->link);
		if (op->r.flags & DAVIT_CREATE_START)
			operate(k, &(struct operate_request){
					   .kind = OP_START, .promise = op->r.promise, .ref = k->ref});
		else
			answer(k->tree, op->r.promise, 0, NULL, k->alias);
		free(op);
	}
	operate_next(k);
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

	if (!k)
		return;
	k->known = r->state;
	if (r->state == DAVIT_STATE_FAILED || k->failure)
		note_failure(k, r);
	switch (r->state) {
	case DAVIT_STATE_DESTROYED:
		if (!k->created)
			born(k, r); /* it did not succeed */
		else
			destroy_advance(k);
		return;
	case DAVIT_STATE_CREATED:
		born(k, r);
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
		break;
	case DAVIT_STATE_FAILED:
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
		answer(t, r->promise, 0, NULL, "");
		return;
	}
	if (!(p = calloc(k->n_children, sizeof *p))) {
		answer(t, r->promise, DAVIT_ENOMEM, "out of memory", NULL);
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
			answer(t, ((struct operate_request *)body(m))->promise, 0, NULL, "");
		else
			answer(t, ((struct operate_request *)body(m))->promise, DAVIT_ENOENT, "it is gone",
			       NULL);
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
	if (!(t->main = adopt(t, NULL, &main_definition, "Main", "")))
		return DAVIT_ENOMEM;
	wait_birth(t->main, &(struct create_request){.flags = DAVIT_CREATE_START});
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
	davit_map_fini(&t->limbo);
	davit_map_fini(&t->aliases);
	davit_map_fini(&t->definitions);
	pthread_mutex_destroy(&t->lock);
	free(t);
	s->tree = NULL;
}
