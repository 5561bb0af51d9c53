/* SPDX-License-Identifier: MIT
 *
 * What the parent tells a process that is a container to do, as operations on the root
 * of its tree; and what it tells the parent by itself.
 */
#include "actor/child.h"

#include "actor/process.h"

#include <stdio.h>
#include <string.h>

/* Destroyed under the parent's order only, and supervised by the parent alone. */
int child_root(struct davit_system *s)
{
	struct child *ch = s->child;
	struct tree *t = s->tree;
	char *path = strdup(ch->hello.path);

	if (!path || !(t->main = tree_adopt(t, NULL, ch->definition, ch->hello.alias,
					    ch->hello.args ? ch->hello.args : ""))) {
		free(path);
		return DAVIT_ENOMEM;
	}
	free(t->main->path);
	t->main->path = path;
	ch->link->system = s;
	ch->link->owner = t->main->ref;
	return 0;
}

static void say(struct child *ch, uint64_t id, int code, const char *text, enum davit_state state,
		uint64_t failure, const struct davit_options *options)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;

	state_json(&b, state, text, failure, options);
	/* Whoever makes it anew and starts it is told of both at once. */
	link_say(ch->link, DAVIT_FRAME_STATE, id, code, b.data, b.len, ch->orders > 0);
}

struct asked {
	struct child *child;
	uint64_t id;
	bool create, destroy;
};

static void done(struct davit_context *c, const struct davit_outcome *o, void *arg)
{
	struct asked *a = arg;
	struct child *ch = a->child;
	struct container *root = c->system->tree->main;
	enum davit_state s = root ? (enum davit_state)atomic_load(&root->state) : DAVIT_STATE_DESTROYED;

	ch->orders--;
	if (a->create && o->code)
		s = DAVIT_STATE_DESTROYED;
	say(ch, a->id, o->code, o->message, s, s == DAVIT_STATE_FAILED ? root->failure_hash : 0,
	    a->create && root ? &root->options : NULL);
	if (s == DAVIT_STATE_DESTROYED) {
		ch->over = true;
		ch->status = o->code ? 1 : 0;
	}
	free(a);
}

/* p is the operation of that id. */
static int answer_with(struct davit_context *c, struct child *ch, uint64_t id, const char *what, int r,
		       struct davit_promise p)
{
	struct asked *a = r ? NULL : malloc(sizeof *a);

	if (!a)
		return r ? r : DAVIT_ENOMEM;
	ch->orders++;
	*a = (struct asked){ch, id, !strcmp(what, "create"), !strcmp(what, "destroy")};
	if (!(r = davit_done(c, p, done, a)))
		return 0;
	ch->orders--;
	free(a);
	return r;
}

static int create(struct davit_context *c, struct tree *t, struct davit_promise *ret)
{
	int r = davit_promise_new(c, ret);

	if (r)
		return r;
	t->c = c;
	tree_wait_birth(t->main, &(struct create_request){.promise = *ret});
	tree_order(t->main, ORDER_CREATE, false, 0, NULL);
	return 0;
}

/* What had failed counts as done from now on. */
static int start(struct davit_context *c, struct child *ch, bool on, bool fresh, struct davit_promise *ret)
{
	struct container *root = c->system->tree->main;
	const char *alias = ch->hello.alias;

	uplink_done(c->system);
	if (on)
		return davit_container_solve(c, alias, root->failure_hash, DAVIT_SOLVE_CONTINUE, ret);
	root->by_group = fresh;
	return davit_container_start(c, alias, ret);
}

int child_operate(struct child *ch, const struct davit_frame *f, const unsigned char *body)
{
	struct davit_context *c = davit_system_context(ch->system);
	const char *alias = ch->hello.alias;
	struct davit_promise p;
	struct operate o;
	int r;

	if (operate_read(body, f->size, &o))
		return DAVIT_EPROTO;
	if (!c->system->tree->main)
		return 0; /* it is on its way out */
	if (!strcmp(o.what, "create"))
		r = create(c, c->system->tree, &p);
	else if (!strcmp(o.what, "start") || !strcmp(o.what, "continue"))
		r = start(c, ch, *o.what == 'c', o.fresh, &p);
	else if (!strcmp(o.what, "stop"))
		r = davit_container_stop(c, alias, &p);
	else if (!strcmp(o.what, "fail"))
		r = davit_container_fail(c, alias, o.code ? o.code : DAVIT_EINTERNAL, o.text, &p);
	else if (!strcmp(o.what, "destroy"))
		r = davit_container_destroy(c, alias, DAVIT_DESTROY_FORCE_SOFT, &p);
	else
		return DAVIT_EPROTO;
	return answer_with(c, ch, f->id, o.what, r, p);
}

void uplink_report(struct tree *t, const struct container *k, const struct report *r)
{
	say(t->system->child, 0, r->code, r->text, r->state, r->failure, NULL);
}
