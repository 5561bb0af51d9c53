/* SPDX-License-Identifier: MIT
 *
 * Those who are reached through a link, as actors of this system: a child knows the
 * containers that it has heard of, a parent those that its children have announced.
 * Whatever is sent to one goes out by its link, with its alias as the address.
 */
#ifndef DAVIT_ACTOR_REMOTE_H
#define DAVIT_ACTOR_REMOTE_H

#include "actor/link_impl.h"
#include "davit/container.h"

struct remote {
	struct link *link; /* owned reference */
	struct davit_ref ref;
	char alias[64], name[64], parent[64];
	char path[256];
	uint64_t order; /* in which they came */
	/* As its process has announced it. */
	enum davit_state state;
	enum davit_container_type type;
	uint64_t failure;
	int code;
	char message[128];
	int64_t restarts;
	enum davit_strategy strategy;
};

void tree_lock(struct davit_system *s);
void tree_unlock(struct davit_system *s);

/* The sender of a message that came by l: at the parent the child, or one that it has
 * announced; at the child any alias, which is an actor from then on. */
struct davit_ref remote_sender(struct davit_context *c, struct link *l, const char *alias);
/* Who is meant by an address that came by l. 0, or DAVIT_ENOENT. */
int remote_find(struct davit_context *c, struct link *l, const char *address, struct davit_ref *ret);
/* Keeps m for an alias to come. */
bool remote_keep(struct davit_context *c, const char *alias, struct davit_message *m);
/* One of that alias, behind l, made if need be; nobody, if there are too many. */
struct davit_ref remote_of(struct davit_context *c, struct link *l, const char *alias);
/* l has a container of what->alias within, which is as `what` says (but for ref and path).
 * DAVIT_EEXIST: the alias is another's, or there are too many. */
int remote_announced(struct davit_context *c, struct link *l, const struct remote *what);
/* Is that one of them? */
bool is_remote(struct davit_system *s, struct davit_ref ref);
/* Those behind l, or the one of that alias, end. */
void remote_gone(struct davit_context *c, struct link *l, const char *alias, int code, const char *reason);
/* davit_send to one of them; *m has its sender and generation. */
int remote_send(struct davit_context *c, struct davit_actor *a, struct davit_message **m);
void remotes_fini(struct davit_system *s);

#endif
