/* SPDX-License-Identifier: MIT
 *
 * Places for those behind a link. Such a place never runs anything but its monitors'
 * signals: what is sent to it goes out on the sender's thread.
 */
#include "actor/remote.h"

#include "actor/container_impl.h"
#include "actor/within.h"
#include "davit/state.h"

#include <stdio.h>
#include <string.h>

enum {
	REMOTES_MAX = 4096,    /* of a system: a peer's aliases cost it memory */
	LATE_ENOUGH = 1 << 20, /* bytes that wait for room in a link, when senders are told */
};

void tree_lock(struct davit_system *s)
{
	pthread_mutex_lock(&s->tree->lock);
}

void tree_unlock(struct davit_system *s)
{
	pthread_mutex_unlock(&s->tree->lock);
}

/* The path of one within the process of l; under the tree's lock. */
static void place(struct davit_context *c, struct link *l, struct remote *r)
{
	struct tree *t = c->system->tree;
	const struct remote *above = davit_map_get(&t->remotes, r->parent);
	struct container *k = tree_container(t, l->owner);
	const char *path = above && above->link == l ? above->path : k ? k->path : "";

	snprintf(r->path, sizeof r->path, "%.190s/%s", path, r->alias);
}

static void remote_free(struct remote *r)
{
	link_unref(r->link);
	free(r);
}

/* Nothing runs there. */
static int nothing(struct davit_context *c, struct davit_message *m)
{
	return 0;
}

/* Under the tree's lock. NULL: too many, or no memory. */
static struct remote *make(struct davit_context *c, struct link *l, const char *alias)
{
	struct tree *t = c->system->tree;
	struct davit_actor *a;
	struct remote *r;

	if (!*alias || strlen(alias) >= sizeof r->alias || t->remotes.len >= REMOTES_MAX ||
	    !(r = calloc(1, sizeof *r)))
		return NULL;
	snprintf(r->alias, sizeof r->alias, "%s", alias);
	r->link = link_ref(l);
	r->order = ++t->n_remotes_ever;
	r->state = DAVIT_STATE_STARTED;
	if (!(a = actor_new(c, nothing))) {
		remote_free(r);
		return NULL;
	}
	r->ref = ref_of(a);
	if (!actor_gate(a) || davit_map_put(&t->remotes, r->alias, r)) {
		davit_kill(c, r->ref);
		remote_free(r);
		return NULL;
	}
	memcpy(a->gate->alias, r->alias, sizeof r->alias);
	atomic_store(&a->gate->remote, r);
	atomic_store(&a->gate->limit, 1); /* who sends there looks at the gate */
	return r;
}

struct davit_ref remote_of(struct davit_context *c, struct link *l, const char *alias)
{
	struct remote *r;
	struct davit_ref ref = {0, 0};

	tree_lock(c->system);
	r = davit_map_get(&c->system->tree->remotes, alias);
	if (!r)
		r = make(c, l, alias);
	if (r && r->link == l)
		ref = r->ref;
	tree_unlock(c->system);
	return ref;
}

int remote_announced(struct davit_context *c, struct link *l, const struct remote *what)
{
	struct tree *t = c->system->tree;
	struct remote *r = NULL;

	tree_lock(c->system);
	if (!davit_map_get(&t->aliases, what->alias)) {
		if (!(r = davit_map_get(&t->remotes, what->alias)))
			r = make(c, l, what->alias);
		if (r && r->link != l)
			r = NULL;
	}
	if (r) {
		memcpy(r->name, what->name, sizeof r->name);
		memcpy(r->parent, *what->parent ? what->parent : l->alias, sizeof r->parent);
		memcpy(r->message, what->message, sizeof r->message);
		r->state = what->state;
		r->type = what->type;
		r->failure = what->failure;
		r->code = what->code;
		r->restarts = what->restarts;
		r->strategy = what->strategy;
		place(c, l, r);
		within_forward(c->system, r, r->state);
		tree_changed(c->system);
	}
	tree_unlock(c->system);
	return r ? 0 : DAVIT_EEXIST;
}

/* The parent's: who a child says that it is. */
static struct davit_ref of_child(struct davit_context *c, struct link *l, const char *alias)
{
	struct davit_ref ref = l->owner;
	struct remote *r;

	if (!*alias || !strcmp(alias, l->alias))
		return ref;
	tree_lock(c->system);
	r = davit_map_get(&c->system->tree->remotes, alias);
	if (r && r->link == l)
		ref = r->ref;
	tree_unlock(c->system);
	return ref;
}

struct davit_ref remote_sender(struct davit_context *c, struct link *l, const char *alias)
{
	if (!*alias && l->end == DAVIT_END_CHILD)
		return (struct davit_ref){0, 0};
	if (LIKELY(l->from.ref.generation && !strcmp(l->from.alias, alias) && davit_alive(c, l->from.ref)))
		return l->from.ref;
	l->from.ref = l->end == DAVIT_END_PARENT ? of_child(c, l, alias) : remote_of(c, l, alias);
	snprintf(l->from.alias, sizeof l->from.alias, "%s", alias);
	return l->from.ref;
}

int remote_find(struct davit_context *c, struct link *l, const char *address, struct davit_ref *ret)
{
	int r;

	tree_lock(c->system);
	r = find_here(c->system->tree, l->owner, address, ret);
	tree_unlock(c->system);
	if (!r || l->end == DAVIT_END_CHILD || !c->system->uplink)
		return r;
	/* This system is a child itself: its parent may know. */
	*ret = remote_of(c, c->system->uplink, address);
	return ret->generation ? 0 : DAVIT_ENOENT;
}

bool remote_keep(struct davit_context *c, const char *alias, struct davit_message *m)
{
	if (strchr(alias, '/') || strchr(alias, ':'))
		return false;
	return limbo_keep(c, c->system->tree, alias, m);
}

bool is_remote(struct davit_system *s, struct davit_ref ref)
{
	const struct davit_actor *a = actor_of(s, ref);

	return a && a->gate && a->gate->remote;
}

int remote_send(struct davit_context *c, struct davit_actor *a, struct davit_message **mp)
{
	struct davit_message *m = *mp;
	struct davit_ref to = {a->slot, m->generation_};
	struct link *l = NULL;
	struct remote *r;
	char alias[64];
	bool full = false;

	tree_lock(c->system);
	r = atomic_load(&a->gate->remote);
	if (r && davit_ref_equal(r->ref, to)) {
		memcpy(alias, r->alias, sizeof alias);
		l = link_ref(r->link);
	}
	tree_unlock(c->system);
	if (l) {
		pthread_mutex_lock(&l->lock);
		full = l->late.len + l->socket.bulk.len > LATE_ENOUGH;
		pthread_mutex_unlock(&l->lock);
	}
	if (full) {
		link_unref(l);
		return DAVIT_EUNAVAIL;
	}
	*mp = NULL;
	COUNT(c->worker, sent);
	if (!l) {
		message_dead(c, DAVIT_DEAD_NOBODY, to, m);
		return DAVIT_ECLOSED;
	}
	link_message(c, l, alias, m);
	COUNT(c->worker, handled);
	davit_message_free(c, m);
	link_unref(l);
	return 0;
}

/* Under the tree's lock: out of the map, and its place ends. */
static void end(struct davit_context *c, struct remote *r, int code, const char *reason)
{
	struct davit_actor *a = actor_at(c->system, r->ref.slot);
	struct davit_message *m;

	if (r->link->end == DAVIT_END_PARENT)
		within_forward(c->system, r, DAVIT_STATE_DESTROYED);
	davit_map_remove(&c->system->tree->remotes, r->alias);
	tree_changed(c->system);
	atomic_store(&a->gate->remote, NULL);
	atomic_store(&a->gate->limit, 0);
	a->gate->alias[0] = 0;
	if (code && (m = davit_message_new(c, SIG_LINKED, sizeof(struct davit_down)))) {
		*(struct davit_down *)body(m) = (struct davit_down){.ref = r->ref, .code = code};
		snprintf(((struct davit_down *)body(m))->reason, sizeof((struct davit_down *)body(m))->reason,
			 "%s", reason);
		send_signal(c, r->ref, m);
	} else {
		davit_kill(c, r->ref);
	}
	remote_free(r);
}

void remote_gone(struct davit_context *c, struct link *l, const char *alias, int code, const char *reason)
{
	struct tree *t = c->system->tree;
	struct remote *r;
	const char *key;
	void *value;
	size_t pos = 0;

	tree_lock(c->system);
	if (alias && (r = davit_map_get(&t->remotes, alias)) && r->link == l)
		end(c, r, code, reason);
	while (!alias && davit_map_next(&t->remotes, &pos, &key, &value)) {
		r = value;
		if (r->link == l)
			end(c, r, code, reason);
	}
	tree_unlock(c->system);
}

void remotes_fini(struct davit_system *s)
{
	const char *key;
	void *value;
	size_t pos = 0;

	while (davit_map_next(&s->tree->remotes, &pos, &key, &value))
		remote_free(value);
	davit_map_fini(&s->tree->remotes);
}
