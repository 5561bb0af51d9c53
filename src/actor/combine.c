/* SPDX-License-Identifier: MIT
 *
 * Several promises made into one.
 */
#include "actor/container_impl.h"
#include "actor/promise_impl.h"

#include <string.h>

enum kind { ALL, ANY, SOME, RACE };

/* There until its last item has ended: results that come late find it settled. */
struct group {
	enum kind kind;
	size_t n, want, n_ok, n_bad, n_left;
	struct davit_promise result;
	struct davit_promise *item;
	struct davit_outcome **outcome;
};

struct davit_promise group_result(const struct group *g)
{
	return g->result;
}

static void group_free(struct group *g)
{
	for (size_t i = 0; i < g->n; i++)
		davit_outcome_free(g->outcome[i]);
	free(g->outcome);
	free(g->item);
	free(g);
}

/* An item's bytes are in a block of its own, that the item's data points into. */
void outcome_item_free(struct davit_outcome *o)
{
	for (size_t i = 0; i < o->n_items; i++)
		outcome_item_free(&o->items[i]);
	free(o->items);
	free((void *)(uintptr_t)o->data);
}

/* Copies *o into an item. False: no memory. */
static bool item_copy(struct davit_outcome *to, const struct davit_outcome *o)
{
	size_t text = strlen(o->message);
	char *bytes = malloc(o->size + 1 + text + 1);

	if (!bytes)
		return false;
	memcpy(bytes, o->data, o->size);
	bytes[o->size] = 0;
	memcpy(bytes + o->size + 1, o->message, text + 1);
	*to = (struct davit_outcome){.state = o->state,
				     .code = o->code,
				     .message = bytes + o->size + 1,
				     .data = bytes,
				     .size = o->size};
	if (!o->n_items)
		return true;
	if (!(to->items = calloc(o->n_items, sizeof *to->items))) {
		free(bytes);
		return false;
	}
	for (; to->n_items < o->n_items; to->n_items++) {
		if (!item_copy(&to->items[to->n_items], &o->items[to->n_items])) {
			outcome_item_free(to);
			return false;
		}
	}
	return true;
}

/* The fulfilled ones, in order. */
static struct davit_outcome *gather(const struct group *g)
{
	struct davit_outcome *o = outcome_new(DAVIT_PROMISE_FULFILLED, 0, NULL, NULL, 0);

	if (o->code || !g->n_ok)
		return o;
	if (!(o->items = calloc(g->n_ok, sizeof *o->items)))
		goto fail;
	for (size_t i = 0; i < g->n; i++) {
		if (!g->outcome[i] || g->outcome[i]->state != DAVIT_PROMISE_FULFILLED)
			continue;
		if (!item_copy(&o->items[o->n_items], g->outcome[i]))
			goto fail;
		o->n_items++;
	}
	return o;
fail:
	davit_outcome_free(o);
	return outcome_new(DAVIT_PROMISE_REJECTED, DAVIT_ENOMEM, "out of memory", NULL, 0);
}

/* What the group comes to, now that item i has ended; NULL: not yet known. */
static struct davit_outcome *verdict(struct group *g, size_t i)
{
	const struct davit_outcome *o = g->outcome[i];
	bool ok = o->state == DAVIT_PROMISE_FULFILLED;

	switch (g->kind) {
	case ALL:
		return !ok ? DAVIT_TAKE(g->outcome[i]) : g->n_ok == g->n ? gather(g) : NULL;
	case ANY:
		return ok || g->n_bad == g->n ? DAVIT_TAKE(g->outcome[i]) : NULL;
	case SOME:
		return g->n_ok == g->want	   ? gather(g)
		       : g->n_bad > g->n - g->want ? DAVIT_TAKE(g->outcome[i])
						   : NULL;
	case RACE:
		return DAVIT_TAKE(g->outcome[i]);
	}
	return NULL;
}

void group_item(struct promises *t, struct group *g, size_t i, struct davit_outcome *o, struct work *w)
{
	struct promise *e = promise_at(t, g->result);
	struct davit_outcome *result;

	g->n_left--;
	g->outcome[i] = o;
	if (o->state == DAVIT_PROMISE_FULFILLED)
		g->n_ok++;
	else
		g->n_bad++;
	if (e && e->state == DAVIT_PROMISE_PENDING && e->of == g && (result = verdict(g, i))) {
		e->of = g->n_left ? g : NULL;
		promise_settle(t, e, result, w);
	}
	if (g->n_left)
		return;
	if ((e = promise_at(t, g->result)) && e->of == g)
		e->of = NULL;
	group_free(g);
}

void group_cancel(struct promises *t, struct group *g, struct work *w)
{
	/* The last one that ends frees the group. */
	for (size_t i = 0, n = g->n; i < n; i++) {
		bool last = g->n_left <= 1;
		size_t left = g->n_left;
		struct promise *e = promise_at(t, g->item[i]);
		if (!e || e->state != DAVIT_PROMISE_PENDING)
			continue;
		promise_cancel(t, g->item[i], w);
		if (last && left)
			return;
	}
}

static struct group *group_new(enum kind kind, const struct davit_promise *p, size_t n, size_t want)
{
	struct group *g = calloc(1, sizeof *g);

	if (!g)
		return NULL;
	*g = (struct group){.kind = kind, .n = n, .want = want, .n_left = n};
	g->item = calloc(n, sizeof *g->item);
	g->outcome = calloc(n, sizeof *g->outcome);
	if (!g->item || !g->outcome) {
		group_free(g);
		return NULL;
	}
	memcpy(g->item, p, n * sizeof *p);
	return g;
}

/* One that is settled before it starts: of no promises, or of too few. */
static int empty(struct davit_context *c, enum kind kind, const struct davit_promise *p, size_t n,
		 size_t want, struct davit_promise *ret)
{
	if (davit_promise_new(c, ret))
		return DAVIT_ENOMEM;
	for (size_t i = 0; i < n; i++)
		davit_forget(c, p[i]);
	if (kind == ALL || (kind == SOME && !want))
		davit_fulfil(c, *ret, NULL, 0);
	else
		davit_reject(c, *ret, DAVIT_EINVAL, "%zu of %zu promises cannot be fulfilled", want, n);
	return 0;
}

static int combine(struct davit_context *c, enum kind kind, const struct davit_promise *p, size_t n,
		   size_t want, struct davit_promise *ret)
{
	struct promises *t = c->system->promises;
	struct promise *result;
	struct group *g = NULL;
	struct work w;

	if (!n || want > n || (kind == SOME && !want))
		return empty(c, kind, p, n, want, ret);
	work_open(c, &w);
	result = promise_take(t);
	if (!result || !(g = group_new(kind, p, n, want))) {
		if (result)
			promise_settle(t, result,
				       outcome_new(DAVIT_PROMISE_REJECTED, DAVIT_ENOMEM, "", NULL, 0), &w);
		work_close(c, &w);
		if (result)
			davit_forget(c, (struct davit_promise){result->slot, result->generation});
		for (size_t i = 0; i < n; i++)
			davit_forget(c, p[i]);
		return DAVIT_ENOMEM;
	}
	*ret = g->result = (struct davit_promise){result->slot, result->generation};
	result->of = g;
	for (size_t i = 0, left = n; i < n; i++, left--) {
		struct promise *e = promise_at(t, p[i]);
		if (!e) {
			group_item(t, g, i,
				   outcome_new(DAVIT_PROMISE_REJECTED, DAVIT_ENOENT,
					       "there is no such promise", NULL, 0),
				   &w);
		} else {
			e->group = g;
			e->index = i;
			promise_consume_group(t, e, &w);
		}
	}
	work_close(c, &w);
	return 0;
}

int davit_all(struct davit_context *c, const struct davit_promise *p, size_t n, struct davit_promise *ret)
{
	return combine(c, ALL, p, n, n, ret);
}

int davit_any(struct davit_context *c, const struct davit_promise *p, size_t n, struct davit_promise *ret)
{
	return combine(c, ANY, p, n, 1, ret);
}

int davit_some(struct davit_context *c, const struct davit_promise *p, size_t n, size_t want,
	       struct davit_promise *ret)
{
	return combine(c, SOME, p, n, want, ret);
}

int davit_race(struct davit_context *c, const struct davit_promise *p, size_t n, struct davit_promise *ret)
{
	return combine(c, RACE, p, n, 1, ret);
}

int davit_map(struct davit_context *c, const struct davit_promise *p, size_t n,
	      int (*fn)(struct davit_context *c, const struct davit_outcome *o, struct davit_promise next,
			void *arg),
	      void *arg, struct davit_promise *ret)
{
	DAVIT_AUTO_FREE struct davit_promise *next = calloc(n ? n : 1, sizeof *next);

	for (size_t i = 0; i < n; i++) {
		/* One without memory is rejected as one that does not exist. */
		if (!next)
			davit_forget(c, p[i]);
		else if (davit_then(c, p[i], fn, arg, &next[i]))
			next[i] = (struct davit_promise){0, 0};
	}
	return next ? davit_all(c, next, n, ret) : DAVIT_ENOMEM;
}

struct reduction {
	int (*fn)(struct davit_context *c, const struct davit_outcome *o, void *acc, void *arg);
	void *arg;
	size_t size;
	uint64_t acc[];
};

static int reduced(struct davit_context *c, const struct davit_outcome *o, struct davit_promise next,
		   void *arg)
{
	struct reduction *r = arg;
	int e = 0;

	for (size_t i = 0; i < o->n_items && !e; i++)
		e = r->fn(c, &o->items[i], r->acc, r->arg);
	if (!e)
		davit_fulfil(c, next, r->acc, r->size);
	return e;
}

int davit_reduce(struct davit_context *c, const struct davit_promise *p, size_t n,
		 int (*fn)(struct davit_context *c, const struct davit_outcome *o, void *acc, void *arg),
		 const void *acc, size_t size, void *arg, struct davit_promise *ret)
{
	struct reduction *r = malloc(sizeof *r + size);
	struct davit_promise all;

	if (!r) {
		for (size_t i = 0; i < n; i++)
			davit_forget(c, p[i]);
		return DAVIT_ENOMEM;
	}
	*r = (struct reduction){.fn = fn, .arg = arg, .size = size};
	memcpy(r->acc, acc, size);
	if (davit_all(c, p, n, &all)) {
		free(r);
		return DAVIT_ENOMEM;
	}
	return promise_then_owned(c, all, reduced, r, ret);
}

static void all_over(struct davit_context *c, const struct davit_outcome *o, void *arg)
{
	uint64_t to = (uint64_t)(uintptr_t)arg;
	struct davit_promise p = {(uint32_t)(to >> 32), (uint32_t)to};

	if (o->state == DAVIT_PROMISE_FULFILLED)
		davit_fulfil(c, p, o->data, o->size);
	else
		davit_reject(c, p, o->code, "%s", o->message);
}

void promise_when_all(struct davit_context *c, const struct davit_promise *p, size_t n,
		      struct davit_promise to)
{
	uint64_t packed = (uint64_t)to.slot << 32 | to.generation;
	struct davit_promise all;

	_Static_assert(sizeof(void *) == 8, "a promise fits into a pointer");
	if (davit_all(c, p, n, &all) || davit_done(c, all, all_over, (void *)(uintptr_t)packed))
		davit_reject(c, to, DAVIT_ENOMEM, "out of memory");
}
