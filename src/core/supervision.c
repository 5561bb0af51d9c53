/* SPDX-License-Identifier: MIT
 *
 * That a supervisor has failed, or has shut itself down, is kept in the store: a new
 * daemon does not start what the old one gave up. What else a node decides follows
 * from the records of the instances.
 */
#include "core/core_impl.h"

#include <stdio.h>
#include <string.h>

/* The rules that end a supervisor by itself; "children" follows from the children. */
static const char *static_rule(const char *rule)
{
	static const char *const rules[] = {"intensity", "escalation", "auto-shutdown"};

	for (size_t k = 0; rule && k < DAVIT_ARRAY_SIZE(rules); k++)
		if (!strcmp(rules[k], rule))
			return rules[k];
	return NULL;
}

static char *key_of(const char *key)
{
	char *full;

	return asprintf(&full, "supervision/%s", key) < 0 ? NULL : full;
}

void supervision_forget(struct davit_core *c, const char *key)
{
	DAVIT_AUTO_FREE char *full = key_of(key);

	if (full)
		davit_journal_write(c->journal, full, NULL);
}

static void store(struct supervisor *p)
{
	DAVIT_AUTO_FREE char *full = key_of(p->key);
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);

	davit_json_open(&j);
	davit_json_put_bool(&j, "failed", p->stored_failed);
	davit_json_put_string(&j, "rule", p->stored_rule);
	davit_json_put_int(&j, "cause", p->stored_cause);
	davit_json_close(&j);
	if (full && !b.oom)
		davit_journal_write(p->core->journal, full, davit_buf_str(&b));
}

void supervision_note(struct supervisor *p)
{
	const struct davit_node *n = &p->node;
	bool ended = n->state == DAVIT_NODE_FAILED || n->state == DAVIT_NODE_COMPLETED;
	const char *rule = ended ? static_rule(n->rule_name) : NULL;

	/* Until all is taken over, its state says nothing. */
	if (p->core->start_op || p->core->freeing || (rule != NULL) == p->stored)
		return;
	p->stored = rule != NULL;
	if (!p->stored) {
		supervision_forget(p->core, p->key);
		return;
	}
	p->stored_failed = n->state == DAVIT_NODE_FAILED;
	p->stored_cause = n->cause;
	p->stored_rule = rule;
	store(p);
}

static bool load_one(void *user, const struct davit_kv *kv)
{
	struct davit_core *c = user;
	struct supervisor *p = davit_map_get(&c->supervisors, kv->key + strlen("supervision/"));
	json_error_t je;
	json_t *rec = json_loadb(kv->value, kv->len, 0, &je);
	const char *rule = static_rule(json_string_value(json_object_get(rec, "rule")));

	if (p && rule) {
		p->stored = true;
		p->stored_failed = json_is_true(json_object_get(rec, "failed"));
		p->stored_cause = (enum davit_cause)json_integer_value(json_object_get(rec, "cause"));
		p->stored_rule = rule;
	} else {
		davit_journal_write(c->journal, kv->key, NULL);
	}
	json_decref(rec);
	return true;
}

int supervision_load(struct davit_core *c, struct davit_error *err)
{
	int64_t revision;

	return c->store->driver->list(c->store, "supervision/", NULL, 0, load_one, c, &revision, err);
}

static bool is_beneath(const struct davit_node *n, const struct davit_node *top)
{
	while (n && n != top)
		n = n->parent;
	return n != NULL;
}

/* Its instances, none of which is started: as they were before. */
static void fill_places(struct davit_service *s)
{
	struct davit_error err;

	service_prepare(s);
	for (size_t k = 0; s->settled && !s->spec->stopped && !s->deleting && k < s->n_slots; k++)
		if (!s->slots[k].current)
			s->slots[k].current = instance_new(s, (uint32_t)k, false, &err);
}

void supervision_restore(struct davit_core *c)
{
	size_t pos = 0, at;
	void *v, *s;

	while (davit_map_next(&c->supervisors, &pos, NULL, &v)) {
		struct supervisor *p = v;
		if (!p->stored)
			continue;
		for (at = 0; davit_map_next(&c->services, &at, NULL, &s);)
			if (is_beneath(&((struct davit_service *)s)->node, &p->node))
				fill_places(s);
		davit_supervise_restore_inner(&p->node, p->stored_failed, p->stored_rule, p->stored_cause);
	}
}
