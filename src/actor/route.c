/* SPDX-License-Identifier: MIT
 *
 * Rules: who may send what to whom. A set of them is never changed, only replaced, and
 * kept until the system is closed, as somebody may be reading it.
 */
#include "actor/route.h"

#include "actor/container_impl.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

struct rules {
	struct rules *before;
	size_t n;
	struct davit_rule rule[];
};

static void rules_free(struct rules *r)
{
	for (size_t i = 0; i < r->n; i++) {
		free((char *)(uintptr_t)r->rule[i].origin);
		free((char *)(uintptr_t)r->rule[i].destination);
		free((char *)(uintptr_t)r->rule[i].name);
	}
	free(r);
}

static bool copy(const char **to, const char *s)
{
	*to = s ? strdup(s) : NULL;
	return !s || *to;
}

int davit_system_rules(struct davit_system *s, const struct davit_rule *rules, size_t n)
{
	struct rules *r = calloc(1, sizeof *r + n * sizeof *rules);

	if (!r)
		return DAVIT_ENOMEM;
	for (; r->n < n; r->n++) {
		const struct davit_rule *from = &rules[r->n];
		struct davit_rule *to = &r->rule[r->n];
		to->deny = from->deny;
		if (!copy(&to->origin, from->origin) || !copy(&to->destination, from->destination) ||
		    !copy(&to->name, from->name)) {
			r->n++;
			rules_free(r);
			return DAVIT_ENOMEM;
		}
	}
	pthread_mutex_lock(&s->lock);
	r->before = atomic_load(&s->rules);
	atomic_store(&s->rules, r);
	pthread_mutex_unlock(&s->lock);
	return 0;
}

void rules_fini(struct davit_system *s)
{
	struct rules *r = atomic_load(&s->rules), *before;

	for (; r; r = before) {
		before = r->before;
		rules_free(r);
	}
}

static bool fits(const char *pattern, const char *text)
{
	return !pattern || !fnmatch(pattern, text, 0);
}

/* The receiver's alias, from its place: its container may end at any moment. */
static bool alias_of(struct tree *t, struct davit_actor *a, char *ret)
{
	if (!a->gate)
		return false;
	pthread_mutex_lock(&t->lock);
	memcpy(ret, a->gate->alias, sizeof a->gate->alias);
	pthread_mutex_unlock(&t->lock);
	return *ret != 0;
}

bool rules_allow(struct davit_context *c, const char *origin, struct davit_actor *a,
		 const struct davit_message *m)
{
	const struct rules *r = atomic_load_explicit(&c->system->rules, memory_order_acquire);
	char type[16], alias[64];
	const char *name = type;

	if (!alias_of(c->system->tree, a, alias))
		return true;
	if (m->type == DAVIT_TYPE_COMMAND)
		name = (const char *)m->data;
	else
		snprintf(type, sizeof type, "%u", m->type);
	for (size_t i = 0; i < r->n; i++)
		if (fits(r->rule[i].origin, origin) && fits(r->rule[i].destination, alias) &&
		    fits(r->rule[i].name, name))
			return !r->rule[i].deny;
	return true;
}
