/* SPDX-License-Identifier: MIT
 *
 * Addresses: an alias, a path, a name; what is kept for an alias to come; and what
 * there is to know of a container.
 */
#include "actor/container_impl.h"

#include <stdio.h>
#include <string.h>

enum { LIMBO_MAX = 1024 };

static struct container *by_name(struct tree *t, const char *name)
{
	struct container *k;
	const char *key;
	void *value;
	size_t pos = 0;

	while (davit_map_next(&t->aliases, &pos, &key, &value)) {
		k = value;
		if (!strcmp(k->definition->name, name))
			return k;
	}
	return NULL;
}

struct container *lookup(struct tree *t, struct container *from, const char *address)
{
	const char *alias = strrchr(address, '/');
	struct container *k;

	if (!strncmp(address, "name:", 5))
		return by_name(t, address + 5);
	k = davit_map_get(&t->aliases, alias ? alias + 1 : address);
	if (!k || !alias)
		return k;
	if (!strncmp(address, "./", 2) && from) {
		size_t n = strlen(from->path);
		return !strncmp(k->path, from->path, n) && !strcmp(k->path + n, address + 1) ? k : NULL;
	}
	return strcmp(k->path, address) ? NULL : k;
}

static struct container *caller(const struct davit_context *c)
{
	return c->self ? c->self->container : NULL;
}

int davit_find(struct davit_context *c, const char *address, struct davit_ref *ret)
{
	struct tree *t = c->system->tree;
	struct container *k;
	int (*resolve)(void *arg, const char *alias, struct davit_ref *ret);
	void *arg;

	pthread_mutex_lock(&t->lock);
	k = lookup(t, caller(c), address);
	if (k)
		*ret = k->ref;
	resolve = t->resolve;
	arg = t->resolve_arg;
	pthread_mutex_unlock(&t->lock);
	if (k)
		return 0;
	return resolve ? resolve(arg, address, ret) : DAVIT_ENOENT;
}

void davit_system_resolver(struct davit_system *s,
			   int (*resolve)(void *arg, const char *alias, struct davit_ref *ret), void *arg)
{
	pthread_mutex_lock(&s->tree->lock);
	s->tree->resolve = resolve;
	s->tree->resolve_arg = arg;
	pthread_mutex_unlock(&s->tree->lock);
}

/* --- for an alias that nobody has --- */

static struct limbo *limbo_of(struct tree *t, const char *alias)
{
	struct limbo *l = davit_map_get(&t->limbo, alias);

	if (l || !(l = calloc(1, sizeof *l)))
		return l;
	if (!(l->alias = strdup(alias)) || davit_map_put(&t->limbo, l->alias, l)) {
		free(l->alias);
		free(l);
		return NULL;
	}
	return l;
}

/* True if m was kept. */
static bool limbo_keep(struct davit_context *c, struct tree *t, const char *alias, struct davit_message *m)
{
	struct limbo *l;
	bool kept = false;

	pthread_mutex_lock(&t->lock);
	if (!davit_map_get(&t->aliases, alias) && (l = limbo_of(t, alias)) && l->n < LIMBO_MAX) {
		m->next_ = NULL;
		m->sender = davit_self(c);
		if (l->first)
			l->last->next_ = m;
		else
			l->first = m;
		l->last = m;
		l->n++;
		kept = true;
	}
	pthread_mutex_unlock(&t->lock);
	return kept;
}

static void limbo_empty(struct davit_context *c, struct limbo *l, struct davit_ref to)
{
	struct davit_message *m;

	while ((m = l->first)) {
		struct davit_ref sender = m->sender;
		struct davit_actor *a = actor_of(c->system, to);
		l->first = m->next_;
		COUNT(c->worker, sent);
		if (!a) {
			message_dead(c, DAVIT_DEAD_NOBODY, to, m);
			continue;
		}
		m->sender = sender;
		m->generation_ = to.generation;
		mailbox_put(c, a, m);
	}
	free(l->alias);
	free(l);
}

void limbo_release(struct davit_context *c, struct tree *t, struct container *k)
{
	struct limbo *l = davit_map_remove(&t->limbo, k->alias);

	if (l)
		limbo_empty(c, l, k->ref);
}

void limbo_drop(struct davit_context *c, struct tree *t)
{
	const char *key;
	void *value;
	size_t pos = 0;

	while (davit_map_next(&t->limbo, &pos, &key, &value)) {
		davit_map_remove(&t->limbo, key);
		limbo_empty(c, value, (struct davit_ref){0, 0});
	}
}

int davit_send_to(struct davit_context *c, const char *address, struct davit_message **m,
		  enum davit_buffer mode)
{
	struct davit_ref to;

	if (!davit_find(c, address, &to))
		return davit_send(c, to, m);
	if (mode & DAVIT_BUFFER_AWAY && !strchr(address, '/') && strncmp(address, "name:", 5)) {
		if (limbo_keep(c, c->system->tree, address, *m)) {
			*m = NULL;
			return 0;
		}
		if (!davit_find(c, address, &to)) /* it has come meanwhile */
			return davit_send(c, to, m);
	}
	COUNT(c->worker, sent);
	message_dead(c, DAVIT_DEAD_NOBODY, (struct davit_ref){0, 0}, DAVIT_TAKE(*m));
	return DAVIT_ENOENT;
}

/* --- what there is to know --- */

bool davit_exists(struct davit_context *c, const char *address)
{
	struct davit_ref ref;

	return !davit_find(c, address, &ref);
}

int davit_container_get(struct davit_context *c, const char *address, struct davit_container_info *ret)
{
	struct tree *t = c->system->tree;
	struct container *k;

	pthread_mutex_lock(&t->lock);
	k = lookup(t, caller(c), address);
	if (k) {
		const struct gate *g = k->actor->gate;
		*ret = (struct davit_container_info){
			.ref = k->ref,
			.type = k->definition->type,
			.state = (enum davit_state)atomic_load(&k->state),
			.failure = k->failure,
			.code = k->failure ? k->failure_code : 0,
			.restarts = k->restarts,
			.queued = g->queued,
			.dropped = g->dropped,
			.refused = g->refused,
			.blocked = g->blocked,
			.n_children = k->n_children,
		};
		snprintf(ret->alias, sizeof ret->alias, "%s", k->alias);
		snprintf(ret->name, sizeof ret->name, "%s", k->definition->name);
		snprintf(ret->parent, sizeof ret->parent, "%s", k->parent ? k->parent->alias : "");
		snprintf(ret->message, sizeof ret->message, "%s", k->failure ? k->failure_text : "");
	}
	pthread_mutex_unlock(&t->lock);
	return k ? 0 : DAVIT_ENOENT;
}

int davit_container_children(struct davit_context *c, const char *address, char (*ret_aliases)[64], size_t n)
{
	struct tree *t = c->system->tree;
	struct container *k, *child;
	size_t i = 0;

	pthread_mutex_lock(&t->lock);
	k = lookup(t, caller(c), address);
	if (k)
		DAVIT_LIST_FOREACH (child, &k->children, siblings) {
			if (i < n)
				snprintf(ret_aliases[i], sizeof *ret_aliases, "%s", child->alias);
			i++;
		}
	pthread_mutex_unlock(&t->lock);
	return k ? (int)i : DAVIT_ENOENT;
}

int davit_broadcast(struct davit_context *c, uint32_t type, const void *data, size_t size)
{
	struct tree *t = c->system->tree;
	struct container *k, *child;
	struct davit_ref *all = NULL;
	size_t n = 0;
	int sent = 0;

	pthread_mutex_lock(&t->lock);
	k = caller(c) ? caller(c) : t->main;
	if (k && k->n_children && (all = calloc(k->n_children, sizeof *all)))
		DAVIT_LIST_FOREACH (child, &k->children, siblings)
			all[n++] = child->ref;
	pthread_mutex_unlock(&t->lock);
	for (size_t i = 0; i < n; i++)
		sent += !davit_tell(c, all[i], type, data, size);
	free(all);
	return sent;
}
