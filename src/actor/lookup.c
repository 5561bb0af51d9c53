/* SPDX-License-Identifier: MIT
 *
 * Addresses: an alias, a path, a name; what is kept for an alias to come; and what
 * there is to know of a container.
 */
#include "actor/process.h"
#include "actor/process_json.h"
#include "actor/remote.h"
#include "base/json.h"

#include <stdio.h>
#include <string.h>

enum { LIMBO_MAX = 1024 };

/* The first of that name that was made. */
static struct container *by_name(struct tree *t, const char *name)
{
	struct container *k, *first = NULL;
	const char *key;
	void *value;
	size_t pos = 0;

	while (davit_map_next(&t->aliases, &pos, &key, &value)) {
		k = value;
		if (!strcmp(k->definition->name, name) && (!first || k->leaf.seq < first->leaf.seq))
			first = k;
	}
	return first;
}

/* Is that its path, or the end of it? */
static bool path_fits(const char *path, const char *address)
{
	size_t n = strlen(path), m = strlen(address);

	return n == m ? !strcmp(path, address)
		      : n > m && path[n - m - 1] == '/' && !strcmp(path + n - m, address);
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
	return path_fits(k->path, address) ? k : NULL;
}

static struct container *caller(const struct davit_context *c)
{
	return c->self ? c->self->container : NULL;
}

static struct container *of_ref(struct tree *t, struct davit_ref ref)
{
	return tree_container(t, ref);
}

/* The first of that name that has come. */
static const struct remote *remote_by_name(struct tree *t, const char *name)
{
	const struct remote *first = NULL, *r;
	const char *key;
	void *value;
	size_t pos = 0;

	while (davit_map_next(&t->remotes, &pos, &key, &value)) {
		r = value;
		if (!strcmp(r->name, name) && (!first || r->order < first->order))
			first = r;
	}
	return first;
}

/* One behind a link. A path ends in its alias. */
static const struct remote *lookup_remote(struct tree *t, const char *address)
{
	const char *alias = strrchr(address, '/');
	const struct remote *r;

	if (!strncmp(address, "name:", 5))
		return address[5] ? remote_by_name(t, address + 5) : NULL;
	r = davit_map_get(&t->remotes, alias ? alias + 1 : address);
	return r && (!alias || path_fits(r->path, address)) ? r : NULL;
}

int find_here(struct tree *t, struct davit_ref from, const char *address, struct davit_ref *ret)
{
	struct container *k = lookup(t, of_ref(t, from), address);
	const struct remote *r = k ? NULL : lookup_remote(t, address);

	if (!k && !r)
		return DAVIT_ENOENT;
	*ret = k ? k->ref : r->ref;
	return 0;
}

/* A process that is a container asks its parent, which will say when that one ends. */
static int find_above(struct davit_context *c, const char *address, struct davit_ref *ret)
{
	DAVIT_AUTO_BUF question = DAVIT_BUF_INIT, answer = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&question);
	char alias[64];

	davit_json_open(&j);
	davit_json_put_string(&j, "do", "watch");
	davit_json_put_string(&j, "address", address);
	davit_json_close(&j);
	if (uplink_ask(c, &question, &answer) || alias_read(answer.data, answer.len, alias))
		return DAVIT_ENOENT;
	*ret = remote_of(c, c->system->uplink, alias);
	return ret->generation ? 0 : DAVIT_ENOENT;
}

int davit_find(struct davit_context *c, const char *address, struct davit_ref *ret)
{
	struct tree *t = c->system->tree;
	int (*resolve)(void *arg, const char *alias, struct davit_ref *ret);
	void *arg;
	int r;

	pthread_mutex_lock(&t->lock);
	r = find_here(t, davit_self(c), address, ret);
	resolve = t->resolve;
	arg = t->resolve_arg;
	pthread_mutex_unlock(&t->lock);
	if (!r)
		return 0;
	if (resolve && !resolve(arg, address, ret))
		return 0;
	return c->system->uplink ? find_above(c, address, ret) : DAVIT_ENOENT;
}

/* --- for links --- */

uint64_t container_failure(struct davit_system *s, struct davit_ref ref)
{
	struct container *k;
	uint64_t failure;

	pthread_mutex_lock(&s->tree->lock);
	k = of_ref(s->tree, ref);
	failure = k ? atomic_load(&k->failure_hash) : 0;
	pthread_mutex_unlock(&s->tree->lock);
	return failure;
}

void container_options(struct davit_system *s, struct davit_ref ref, struct davit_options *ret)
{
	struct container *k;

	pthread_mutex_lock(&s->tree->lock);
	k = of_ref(s->tree, ref);
	*ret = k ? k->definition->options : (struct davit_options){0};
	pthread_mutex_unlock(&s->tree->lock);
}

int container_beneath(struct davit_system *s, struct davit_ref ref, const char *address, bool itself)
{
	const struct remote *remote;
	struct container *above, *k;
	const char *path = NULL;
	int r = DAVIT_ENOENT;
	size_t n;

	pthread_mutex_lock(&s->tree->lock);
	if ((above = of_ref(s->tree, ref))) {
		if ((k = lookup(s->tree, above, address)))
			path = k->path;
		else if ((remote = lookup_remote(s->tree, address)))
			path = remote->path;
	}
	if (path) {
		n = strlen(above->path);
		r = !strncmp(path, above->path, n) && (path[n] == '/' || (itself && !path[n])) ? 0
											       : DAVIT_EPERM;
	}
	pthread_mutex_unlock(&s->tree->lock);
	return r;
}

int container_alias(struct davit_system *s, struct davit_ref from, const char *address, struct davit_ref *ret,
		    char ret_alias[64])
{
	struct davit_actor *a;
	int r;

	pthread_mutex_lock(&s->tree->lock);
	if (!(r = find_here(s->tree, from, address, ret))) {
		a = actor_at(s, ret->slot);
		memcpy(ret_alias, a->gate->alias, sizeof a->gate->alias);
	}
	pthread_mutex_unlock(&s->tree->lock);
	return r;
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
bool limbo_keep(struct davit_context *c, struct tree *t, const char *alias, struct davit_message *m)
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

/* Is it a container of this system? *ret: that, or one behind a link, or nobody. */
static bool here(struct davit_context *c, const char *address, struct davit_ref *ret)
{
	struct tree *t = c->system->tree;
	bool found;

	*ret = (struct davit_ref){0, 0};
	tree_lock(c->system);
	found = lookup(t, caller(c), address) != NULL;
	(void)find_here(t, davit_self(c), address, ret);
	tree_unlock(c->system);
	return found;
}

int davit_send_to(struct davit_context *c, const char *address, struct davit_message **m,
		  enum davit_buffer mode)
{
	struct davit_ref to;

	if (c->system->uplink && !here(c, address, &to)) {
		/* The parent finds out who that is; there is nothing to wait for. */
		if (mode & DAVIT_BUFFER_AWAY)
			(*m)->flags_ |= MSG_KEPT;
		if (!to.generation)
			to = remote_of(c, c->system->uplink, address);
		if (to.generation)
			return davit_send(c, to, m);
	}
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

/* Under the lock: how many within processes are its children. */
static size_t count_remotes(struct tree *t, const char *parent)
{
	size_t pos = 0, n = 0;
	const char *key;
	void *value;

	while (davit_map_next(&t->remotes, &pos, &key, &value))
		n += !strcmp(((const struct remote *)value)->parent, parent);
	return n;
}

/* Under the lock. */
static int get(struct container *k, struct davit_container_info *ret)
{
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
			.n_children = k->n_children + (k->process ? count_remotes(k->tree, k->alias) : 0),
			.strategy = k->strategy,
		};
		snprintf(ret->alias, sizeof ret->alias, "%s", k->alias);
		snprintf(ret->name, sizeof ret->name, "%s", k->definition->name);
		snprintf(ret->parent, sizeof ret->parent, "%s", k->parent ? k->parent->alias : "");
		snprintf(ret->message, sizeof ret->message, "%s", k->failure ? k->failure_text : "");
	}
	return k ? 0 : DAVIT_ENOENT;
}

static int get_remote(struct tree *t, const struct remote *r, struct davit_container_info *ret)
{
	if (!r)
		return DAVIT_ENOENT;
	*ret = (struct davit_container_info){.ref = r->ref,
					     .type = r->type,
					     .state = r->state,
					     .failure = r->failure,
					     .code = r->code,
					     .restarts = r->restarts,
					     .n_children = count_remotes(t, r->alias),
					     .strategy = r->strategy};
	snprintf(ret->alias, sizeof ret->alias, "%s", r->alias);
	snprintf(ret->name, sizeof ret->name, "%s", r->name);
	snprintf(ret->parent, sizeof ret->parent, "%s", r->parent);
	snprintf(ret->message, sizeof ret->message, "%s", r->message);
	return 0;
}

int davit_container_get(struct davit_context *c, const char *address, struct davit_container_info *ret)
{
	struct tree *t = c->system->tree;
	int r;

	pthread_mutex_lock(&t->lock);
	r = get(lookup(t, caller(c), address), ret);
	if (r)
		r = get_remote(t, lookup_remote(t, address), ret);
	pthread_mutex_unlock(&t->lock);
	return r;
}

int container_get_for(struct davit_context *c, struct davit_ref ref, const char *address,
		      struct davit_container_info *ret, char *ret_path, size_t size)
{
	struct tree *t = c->system->tree;
	const struct remote *remote;
	struct container *k;
	int r;

	pthread_mutex_lock(&t->lock);
	if (!(r = get(k = lookup(t, of_ref(t, ref), address), ret)))
		snprintf(ret_path, size, "%s", k->path);
	else if (!(r = get_remote(t, remote = lookup_remote(t, address), ret)))
		snprintf(ret_path, size, "%s", remote->path);
	pthread_mutex_unlock(&t->lock);
	return r;
}

static int by_order(const void *a, const void *b)
{
	const struct remote *const *x = a, *const *y = b;

	return (*x)->order < (*y)->order ? -1 : (*x)->order > (*y)->order;
}

/* Under the lock: those within processes, behind the first `at`. How many there are then, or
 * DAVIT_ENOMEM. */
static int remote_children(struct tree *t, const char *parent, char (*ret_aliases)[64], size_t at, size_t n)
{
	DAVIT_AUTO_FREE const struct remote **all = calloc(t->remotes.len + 1, sizeof *all);
	size_t pos = 0, found = 0;
	const char *key;
	void *value;

	if (!all)
		return DAVIT_ENOMEM;
	while (davit_map_next(&t->remotes, &pos, &key, &value)) {
		const struct remote *r = value;
		if (!strcmp(r->parent, parent))
			all[found++] = r;
	}
	qsort(all, found, sizeof *all, by_order);
	for (size_t i = 0; i < found && at + i < n; i++)
		snprintf(ret_aliases[at + i], sizeof *ret_aliases, "%s", all[i]->alias);
	return (int)(at + found);
}

int davit_container_children(struct davit_context *c, const char *address, char (*ret_aliases)[64], size_t n)
{
	struct tree *t = c->system->tree;
	struct container *k, *child;
	const struct remote *r = NULL;
	int found = DAVIT_ENOENT;
	size_t i = 0;

	pthread_mutex_lock(&t->lock);
	k = lookup(t, caller(c), address);
	if (k)
		DAVIT_LIST_FOREACH (child, &k->children, siblings) {
			if (i < n)
				snprintf(ret_aliases[i], sizeof *ret_aliases, "%s", child->alias);
			i++;
		}
	if (k)
		found = remote_children(t, k->alias, ret_aliases, i, n);
	else if ((r = lookup_remote(t, address)))
		found = remote_children(t, r->alias, ret_aliases, 0, n);
	pthread_mutex_unlock(&t->lock);
	return found;
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
