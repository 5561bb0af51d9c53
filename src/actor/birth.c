/* SPDX-License-Identifier: MIT
 *
 * How a container comes to be: into the tree, the supervision engine and the aliases;
 * and who waits for that.
 */
#include "actor/process.h"
#include "actor/within.h"

#include <stdio.h>
#include <string.h>

#define SECOND INT64_C(1000000000)

static struct davit_restart_rule restart_rule(const struct davit_options *o)
{
	static const struct davit_backoff deflt = CONTAINER_BACKOFF;
	struct davit_restart_rule rule = {.policy = DAVIT_RESTART_ALWAYS, .retries = -1};
	struct davit_backoff *b = &rule.backoff;

	if (!o->set_restart)
		return rule;
	rule = (struct davit_restart_rule){
		.policy = o->restart, .retries = o->retries, .backoff = o->backoff};
	b->max = b->max ? b->max : deflt.max;
	b->factor = b->factor > 0 ? b->factor : deflt.factor;
	b->reset = b->reset ? b->reset : deflt.reset;
	return rule;
}

bool container_endless(const struct davit_options *o)
{
	struct davit_restart_rule rule = restart_rule(o);

	return rule.retries < 0 &&
	       (rule.policy == DAVIT_RESTART_ALWAYS || rule.policy == DAVIT_RESTART_UNLESS_STOPPED);
}

static struct davit_supervision_rule brood_rule(const struct davit_options *o)
{
	return (struct davit_supervision_rule){
		.strategy = o->strategy == DAVIT_SIMPLE_ONE_FOR_ONE ? DAVIT_ONE_FOR_ONE : o->strategy,
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
	if (d->type == DAVIT_PROCESS && parent && process_new(k)) {
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
	if (k->process) {
		a->flags |= ACTOR_PROXY | ACTOR_SYSTEM;
		atomic_store(&a->gate->proxy, true);
	}
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
struct container *tree_adopt(struct tree *t, struct container *parent, const struct davit_definition *d,
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
		limbo_release(t->c, t, k);
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

/* --- creating --- */

void tree_answer(struct tree *t, struct davit_promise p, int code, const char *text, const char *alias)
{
	if (!p.generation)
		return;
	if (code)
		davit_reject(t->c, p, code, "%s", text);
	else
		davit_fulfil(t->c, p, alias ? alias : "", alias ? strlen(alias) : 0);
}

void tree_wait_birth(struct container *k, const struct create_request *r)
{
	struct op *op = calloc(1, sizeof *op);

	if (!op) {
		tree_answer(k->tree, r->promise, DAVIT_ENOMEM, "out of memory", NULL);
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
			tree_wait_birth(k, r);
		else if (r->flags & DAVIT_CREATE_START)
			operate(k, &(struct operate_request){
					   .kind = OP_START, .promise = r->promise, .ref = k->ref});
		else
			tree_answer(t, r->promise, 0, NULL, k->alias);
		return;
	}
	if (k->again || !(k->again = message_copy(t->c, m))) {
		tree_answer(t, r->promise, DAVIT_EEXIST, "the alias is about to be given to another", NULL);
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

/* The alias that an address ends in. */
static const char *last_of(const char *address)
{
	const char *alias = strrchr(address, '/');

	return alias ? alias + 1 : address;
}

/* The alias is one's within another process, which has been announced. */
static bool taken_within(struct tree *t, const char *alias, struct davit_ref *ret)
{
	const struct remote *r;

	pthread_mutex_lock(&t->lock);
	r = davit_map_get(&t->remotes, alias);
	if (r && r->link->end != DAVIT_END_PARENT)
		r = NULL; /* what is outside of this process is another matter */
	if (r)
		*ret = r->ref;
	pthread_mutex_unlock(&t->lock);
	return r != NULL;
}

static void create_within(struct tree *t, struct davit_ref ref, const struct create_request *r,
			  const char *alias)
{
	if (r->flags & DAVIT_CREATE_FORCE)
		tree_answer(t, r->promise, DAVIT_EEXIST,
			    "a container within another process has the alias: destroy that one first", NULL);
	else if (r->flags & DAVIT_CREATE_START)
		within_operate(
			t->c, &(struct operate_request){.kind = OP_START, .promise = r->promise, .ref = ref});
	else
		tree_answer(t, r->promise, 0, NULL, alias);
}

/* Simple-one-for-one: its children are all of one definition. By its name, as the file that
 * it is from may have been loaded anew. */
static bool is_of_another_kind(const struct container *parent, const struct davit_definition *d)
{
	const struct container *first = DAVIT_LIST_FIRST(&parent->children, struct container, siblings);

	return parent->strategy == DAVIT_SIMPLE_ONE_FOR_ONE && first &&
	       (first->definition->type != d->type || strcmp(first->definition->name, d->name) != 0);
}

void tree_create(struct tree *t, struct davit_message *m)
{
	const struct create_request *r = body(m);
	const struct davit_definition *d = definition_of(t, r);
	const char *alias = r->text + r->alias;
	struct container *k, *parent;
	struct davit_ref within;
	const char *why = "";
	int code;

	pthread_mutex_lock(&t->lock);
	k = davit_map_get(&t->aliases, alias);
	pthread_mutex_unlock(&t->lock);
	if (k) {
		create_occupied(t, k, r, m);
		return;
	}
	if (taken_within(t, alias, &within)) {
		create_within(t, within, r, alias);
		return;
	}
	parent = parent_of(t, r);
	if (!parent && r->parent && taken_within(t, last_of(r->text + r->parent), &within)) {
		tree_answer(t, r->promise, DAVIT_ENOTSUP,
			    "the parent is within another process, which alone makes what stands beneath it",
			    NULL);
	} else if (!parent || parent->destroying) {
		tree_answer(t, r->promise, parent ? DAVIT_ESTATE : DAVIT_ENOENT,
			    parent ? "its parent is being destroyed" : "there is no such parent", NULL);
	} else if (!d) {
		tree_answer(t, r->promise, DAVIT_ENOENT, "there is no definition of that name", NULL);
	} else if (!(d->behaviour || d->command)) {
		tree_answer(t, r->promise, DAVIT_EINVAL,
			    "the definition has neither a behaviour nor a command", NULL);
	} else if (is_of_another_kind(parent, d)) {
		tree_answer(t, r->promise, DAVIT_EINVAL,
			    "by simple-one-for-one all children of its parent are of one definition", NULL);
	} else if (d->type == DAVIT_PROCESS && (code = process_possible(t->system, d, &why))) {
		tree_answer(t, r->promise, code, why, NULL);
	} else if (d->type == DAVIT_THREAD && !d->behaviour) {
		tree_answer(t, r->promise, DAVIT_EINVAL, "a command is for containers of type process", NULL);
	} else if (!(k = tree_adopt(t, parent, d, alias, r->args ? r->text + r->args : ""))) {
		tree_answer(t, r->promise, DAVIT_ENOMEM, "out of memory", NULL);
	} else {
		tree_wait_birth(k, r);
		tree_order(k, ORDER_CREATE, false, 0, NULL);
	}
}

/* Created, or not: those who asked for it hear of it, or wait for its start. */
void tree_born(struct container *k, const struct report *r)
{
	struct davit_restart_rule rule = restart_rule(&k->options);
	struct davit_list waiting;
	struct tree *t = k->tree;
	struct op *op, *tmp;

	k->created = true;
	if (r->code || k->destroying) {
		k->destroying = true;
		davit_list_init(&waiting);
		davit_list_splice(&waiting, &k->births);
		destroy_advance(k); /* k may be gone, and its alias free */
		DAVIT_LIST_FOREACH_SAFE (op, tmp, &waiting, link) {
			tree_answer(t, op->r.promise, r->code ? r->code : DAVIT_ESTATE,
				    r->code ? r->text : "it is being destroyed", NULL);
			free(op);
		}
		return;
	}
	pthread_mutex_lock(&t->lock);
	k->strategy = k->options.strategy;
	pthread_mutex_unlock(&t->lock);
	davit_supervise_set_restart(&k->leaf, &rule);
	k->leaf.significant = k->options.significant;
	DAVIT_LIST_FOREACH_SAFE (op, tmp, &k->births, link) {
		davit_list_remove(&op->link);
		if (op->r.flags & DAVIT_CREATE_START)
			operate(k, &(struct operate_request){
					   .kind = OP_START, .promise = op->r.promise, .ref = k->ref});
		else
			tree_answer(k->tree, op->r.promise, 0, NULL, k->alias);
		free(op);
	}
	operate_next(k);
}
