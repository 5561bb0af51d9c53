/* SPDX-License-Identifier: MIT
 *
 * The nodes of a plan: made, copied, set back, named.
 */
#include "step/plan_impl.h"

#include <string.h>

static const char *const outcome_names[] = {
	[DAVIT_PLAN_SUCCEEDED] = "succeeded",
	[DAVIT_PLAN_FAILED] = "failed",
	[DAVIT_PLAN_ERRORED] = "errored",
	[DAVIT_PLAN_ABORTED] = "aborted",
};

static const char *const kind_names[] = {
#define X(symbol, word) [DAVIT_PLAN_##symbol] = word,
	DAVIT_PLAN_KINDS(X)
#undef X
};

const char *davit_plan_outcome_name(enum davit_plan_outcome o)
{
	return outcome_names[o];
}

const char *davit_plan_kind_name(enum davit_plan_kind k)
{
	return kind_names[k];
}

bool davit_plan_is_leaf(enum davit_plan_kind k)
{
	return k >= DAVIT_PLAN_TASK;
}

struct davit_plan_node *plan_node_new(struct davit_plan *p, enum davit_plan_kind kind)
{
	struct davit_plan_node *n = calloc(1, sizeof *n);

	if (!n)
		return NULL;
	n->plan = p;
	n->kind = kind;
	davit_list_init(&n->siblings);
	davit_list_init(&n->children);
	davit_list_init(&n->work);
	davit_list_init(&n->pending);
	davit_list_init(&n->armed);
	p->nodes++;
	return n;
}

void plan_node_add(struct davit_plan_node *parent, struct davit_plan_node *child)
{
	struct davit_plan_node *last =
		davit_list_empty(&parent->children)
			? NULL
			: DAVIT_CONTAINER_OF(parent->children.prev, struct davit_plan_node, siblings);

	child->parent = parent;
	child->index = last ? last->index + 1 : 0;
	davit_list_add_tail(&parent->children, &child->siblings);
}

struct davit_plan_node *plan_next(struct davit_plan_node *n, struct davit_plan_node *top, bool down)
{
	if (down && !davit_list_empty(&n->children))
		return DAVIT_LIST_FIRST(&n->children, struct davit_plan_node, siblings);
	for (; n != top; n = n->parent)
		if (n->siblings.next != &n->parent->children)
			return DAVIT_CONTAINER_OF(n->siblings.next, struct davit_plan_node, siblings);
	return NULL;
}

/* Lets go of what a node has gathered while it was active. */
static void forget(struct davit_plan_node *n)
{
	plan_leave(n);
	davit_list_remove(&n->work);
	davit_list_remove(&n->pending);
	davit_list_remove(&n->armed);
	free(n->message);
	n->message = NULL;
}

void plan_node_free(struct davit_plan_node *n)
{
	if (!n)
		return;
	while (!davit_list_empty(&n->children))
		plan_node_free(DAVIT_LIST_FIRST(&n->children, struct davit_plan_node, siblings));
	plan_node_free(n->template);
	forget(n);
	davit_list_remove(&n->siblings);
	json_decref(n->spec);
	json_decref(n->values);
	json_decref(n->value);
	json_decref(n->vars);
	free(n->name);
	n->plan->nodes--;
	free(n);
}

struct davit_plan_node *plan_node_copy(const struct davit_plan_node *n)
{
	struct davit_plan_node *copy = plan_node_new(n->plan, n->kind), *child;

	if (!copy)
		return NULL;
	copy->limit = n->limit;
	copy->fail_fast = n->fail_fast;
	copy->after = n->after;
	copy->spec = json_incref(n->spec);
	copy->values = json_incref(n->values);
	if (n->name) {
		copy->name = strdup(n->name);
		if (!copy->name)
			goto fail;
	}
	if (n->template) {
		copy->template = plan_node_copy(n->template);
		if (!copy->template)
			goto fail;
		copy->template->parent = copy;
		return copy;
	}
	DAVIT_LIST_FOREACH (child, &n->children, siblings) {
		struct davit_plan_node *c = plan_node_copy(child);
		if (!c)
			goto fail;
		plan_node_add(copy, c);
	}
	return copy;
fail:
	plan_node_free(copy);
	return NULL;
}

static void reset_one(struct davit_plan_node *n)
{
	forget(n);
	n->state = DAVIT_PLAN_IDLE;
	n->outcome = n->worst = DAVIT_PLAN_SUCCEEDED;
	n->cancelled = n->forced = n->is_running = n->timed_out = false;
	n->stopping = n->spared = n->resumed = false;
	n->attempt = 0;
	n->began = n->ended = n->deadline = 0;
	n->next = NULL;
	n->active = 0;
	if (n->kind == DAVIT_PLAN_ACROSS) /* its values may be others the next time */
		while (!davit_list_empty(&n->children))
			plan_node_free(DAVIT_LIST_FIRST(&n->children, struct davit_plan_node, siblings));
}

void plan_node_reset(struct davit_plan_node *top)
{
	for (struct davit_plan_node *n = top; n; n = plan_next(n, top, true))
		reset_one(n);
}

/* "0/2@3/1": the way from the root, by index, and by "@" the attempt. */
static void put_key(const struct davit_plan_node *leaf, struct davit_buf *out)
{
	const struct davit_plan_node *way[DAVIT_PLAN_DEPTH_MAX + 1];
	size_t n = 0;

	for (const struct davit_plan_node *at = leaf; at; at = at->parent)
		way[n++] = at;
	while (n--) {
		const struct davit_plan_node *at = way[n];
		davit_buf_addf(out, out->len ? "/%u" : "%u", at->index);
		if (at->kind == DAVIT_PLAN_ATTEMPTS)
			davit_buf_addf(out, "@%u", at->attempt);
	}
}

int plan_enter(struct davit_plan_node *leaf)
{
	DAVIT_AUTO_BUF key = DAVIT_BUF_INIT;

	put_key(leaf, &key);
	leaf->key = davit_buf_take(&key);
	if (!leaf->key)
		return DAVIT_ENOMEM;
	if (davit_map_put(leaf->plan->leaves, leaf->key, leaf) < 0) {
		free(leaf->key);
		leaf->key = NULL;
		return DAVIT_ENOMEM;
	}
	return 0;
}

void plan_leave(struct davit_plan_node *leaf)
{
	if (leaf->key)
		davit_map_remove(leaf->plan->leaves, leaf->key);
	free(leaf->key);
	leaf->key = NULL;
	json_decref(leaf->config);
	leaf->config = NULL;
	leaf->owes_start = leaf->owes_abort = false;
	davit_list_remove(&leaf->pending);
}

struct davit_plan_node *davit_plan_leaf(const struct davit_plan *p, const char *key)
{
	return davit_map_get(p->leaves, key);
}

void davit_plan_free(struct davit_plan *p)
{
	if (!p)
		return;
	plan_node_free(p->root);
	if (p->leaves)
		davit_map_fini(p->leaves);
	free(p->leaves);
	free(p);
}
