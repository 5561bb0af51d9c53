/* SPDX-License-Identifier: MIT
 *
 * The manager: what is wanted of other containers, said to the tree.
 */
#include "actor/child.h"
#include "actor/remote.h"
#include "actor/within.h"

#include <stdio.h>
#include <string.h>

int davit_register(struct davit_system *s, const struct davit_definition *d)
{
	int r;

	if (!d->name || !(d->behaviour || d->command))
		return DAVIT_EINVAL;
	pthread_mutex_lock(&s->tree->lock);
	r = davit_map_put(&s->tree->definitions, d->name, (void *)(uintptr_t)d);
	pthread_mutex_unlock(&s->tree->lock);
	return r;
}

/* A promise for the caller, if it wants one. */
static int promise_for(struct davit_context *c, struct davit_promise *ret, struct davit_promise *ret_p)
{
	int r;

	*ret_p = (struct davit_promise){0, 0};
	if (!ret)
		return 0;
	if (!(r = davit_promise_new(c, ret_p)))
		*ret = *ret_p;
	return r;
}

bool alias_ok(const char *alias)
{
	size_t n = 0;

	for (; alias && alias[n]; n++) /* it goes to terminals, too */
		if ((unsigned char)alias[n] < ' ' || alias[n] == 127 || alias[n] == '/' || alias[n] == ':')
			return false;
	return n && n < 64 && strcmp(alias, ".") && strcmp(alias, "..");
}

static uint16_t put(char *text, size_t *at, const char *s)
{
	size_t here = *at, n = s ? strlen(s) + 1 : 0;

	if (!s)
		return 0;
	memcpy(text + here, s, n);
	*at += n;
	return (uint16_t)here;
}

int davit_container_create(struct davit_context *c, const struct davit_create *w, struct davit_promise *ret)
{
	size_t size = 1 + (w->alias ? strlen(w->alias) + 1 : 0) + (w->name ? strlen(w->name) + 1 : 0) +
		      (w->args ? strlen(w->args) + 1 : 0) + (w->parent ? strlen(w->parent) + 1 : 0);
	struct davit_message *m;
	struct create_request *r;
	struct davit_promise p;
	size_t at = 1;

	if (!alias_ok(w->alias) || size > UINT16_MAX || (!w->name && !w->definition))
		return DAVIT_EINVAL;
	if (!(m = davit_message_new(c, TREE_CREATE, sizeof *r + size)))
		return DAVIT_ENOMEM;
	if (promise_for(c, ret, &p)) {
		davit_message_free(c, m);
		return DAVIT_ENOMEM;
	}
	r = body(m);
	*r = (struct create_request){
		.definition = w->definition, .promise = p, .by = davit_self(c), .flags = w->flags};
	r->alias = put(r->text, &at, w->alias);
	r->name = put(r->text, &at, w->name);
	r->args = put(r->text, &at, w->args);
	r->parent = put(r->text, &at, w->parent);
	send_ours(c, c->system->tree->ref, m);
	return 0;
}

/* Tells the tree what to do with the container of an address. */
static int operate_on(struct davit_context *c, uint32_t type, const char *address, struct operate_request *r,
		      struct davit_promise *ret)
{
	struct davit_message *m = davit_message_new(c, type, sizeof *r);
	int e;

	if (!m)
		return DAVIT_ENOMEM;
	if ((e = promise_for(c, ret, &r->promise))) {
		davit_message_free(c, m);
		return e;
	}
	if (davit_find(c, address, &r->ref)) {
		davit_message_free(c, m);
		if (!ret)
			return 0;
		if (r->kind == OP_DESTROY) /* destroyed already */
			davit_fulfil(c, r->promise, "", 0);
		else
			davit_reject(c, r->promise, DAVIT_ESTATE,
				     "cannot do that to a destroyed instance: %s", address);
		return 0;
	}
	if (is_remote(c->system, r->ref)) {
		davit_message_free(c, m);
		within_operate(c, r);
		return 0;
	}
	*(struct operate_request *)body(m) = *r;
	send_ours(c, c->system->tree->ref, m);
	return 0;
}

int davit_container_destroy(struct davit_context *c, const char *address, unsigned flags,
			    struct davit_promise *ret)
{
	return operate_on(c, TREE_OPERATE, address,
			  &(struct operate_request){.kind = OP_DESTROY, .flags = flags}, ret);
}

int davit_container_start(struct davit_context *c, const char *address, struct davit_promise *ret)
{
	return operate_on(c, TREE_OPERATE, address, &(struct operate_request){.kind = OP_START}, ret);
}

int davit_container_stop(struct davit_context *c, const char *address, struct davit_promise *ret)
{
	return operate_on(c, TREE_OPERATE, address, &(struct operate_request){.kind = OP_STOP}, ret);
}

int davit_container_fail(struct davit_context *c, const char *address, int code, const char *message,
			 struct davit_promise *ret)
{
	struct operate_request r = {.kind = OP_FAIL, .code = code < 0 ? code : DAVIT_EINTERNAL};

	snprintf(r.text, sizeof r.text, "%s", message ? message : "");
	return operate_on(c, TREE_OPERATE, address, &r, ret);
}

int davit_container_solve(struct davit_context *c, const char *address, uint64_t failure,
			  enum davit_solution solution, struct davit_promise *ret)
{
	struct operate_request r = {.kind = OP_SOLVE, .failure = failure, .solution = solution};

	return operate_on(c, TREE_OPERATE, address, &r, ret);
}

int container_flush(struct davit_context *c, const char *address, unsigned flags, struct davit_promise *ret)
{
	return operate_on(c, TREE_FLUSH, address, &(struct operate_request){.flags = flags}, ret);
}

int davit_flush(struct davit_context *c, unsigned flags, struct davit_promise *ret)
{
	const char *root = c->system->child ? c->system->child->hello.alias : "Main";

	return container_flush(c, c->self && c->self->container ? c->self->container->alias : root, flags,
			       ret);
}

/* --- several at once --- */

static int together(struct davit_context *c, struct davit_promise *p, size_t n, int r,
		    struct davit_promise *ret)
{
	if (!r && ret)
		return davit_all(c, p, n, ret);
	/* Some were begun: they go on, but nobody hears of them. */
	for (size_t i = 0; i < n; i++)
		davit_forget(c, p[i]);
	return r;
}

int davit_containers_create(struct davit_context *c, const struct davit_create *what, size_t n,
			    struct davit_promise *ret)
{
	DAVIT_AUTO_FREE struct davit_promise *p = calloc(n ? n : 1, sizeof *p);
	size_t i = 0;
	int r = p ? 0 : DAVIT_ENOMEM;

	while (!r && i < n && !(r = davit_container_create(c, &what[i], &p[i])))
		i++;
	return p ? together(c, p, i, r, ret) : r;
}

int davit_containers_do(struct davit_context *c, enum davit_operation op, const char *const *addresses,
			size_t n, unsigned flags, struct davit_promise *ret)
{
	DAVIT_AUTO_FREE struct davit_promise *p = calloc(n ? n : 1, sizeof *p);
	size_t i = 0;
	int r = p ? 0 : DAVIT_ENOMEM;

	if (op != DAVIT_DO_START && op != DAVIT_DO_STOP && op != DAVIT_DO_DESTROY)
		return DAVIT_EINVAL;
	for (; !r && i < n; i += !r) {
		if (op == DAVIT_DO_START)
			r = davit_container_start(c, addresses[i], &p[i]);
		else if (op == DAVIT_DO_STOP)
			r = davit_container_stop(c, addresses[i], &p[i]);
		else
			r = davit_container_destroy(c, addresses[i], flags, &p[i]);
	}
	return p ? together(c, p, i, r, ret) : r;
}
