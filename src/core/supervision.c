/* SPDX-License-Identifier: MIT
 *
 * What a supervisor came to is kept in the store: that it has failed, or has shut itself down,
 * and the restarts that count against its intensity. A new daemon goes on there. What else a
 * node decides follows from the records of the instances. (The root never fails: its rule leaves
 * what failed as it is.)
 */
#include "core/core_impl.h"

#include <stdio.h>
#include <string.h>

/* The rules that end a supervisor by itself; "children" follows from the children. */
static bool ends_supervisor(const char *rule)
{
	return rule &&
	       (!strcmp(rule, "intensity") || !strcmp(rule, "escalation") || !strcmp(rule, "auto-shutdown"));
}

/* It has ended, or is about to: then its leaves are being stopped. */
static bool has_ended(const struct davit_node *n)
{
	bool shut = n->state == DAVIT_NODE_STOPPING || n->state == DAVIT_NODE_COMPLETED;

	return ends_supervisor(n->rule_name) &&
	       (n->failed || (shut && !strcmp(n->rule_name, "auto-shutdown")));
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

const char *supervision_origin(const struct davit_node *n)
{
	const struct instance *i = n->origin && n->origin->leaf ? n->origin->owner : NULL;

	return i ? i->workload.id : NULL;
}

static void write_end(const struct davit_node *n, struct davit_json *j)
{
	davit_json_put_bool(j, "failed", n->failed);
	davit_json_put_string(j, "rule", n->rule_name);
	davit_json_put_int(j, "cause", n->cause);
	davit_json_put_int(j, "decided", n->decided);
	if (n->next_start)
		davit_json_put_int(j, "next", n->next_start);
	if (supervision_origin(n))
		davit_json_put_string(j, "origin", supervision_origin(n));
}

/* The restarts that count against its intensity: when, and which. */
static void write_restarts(const struct davit_node *n, struct davit_json *j)
{
	int64_t now = davit_loop_wall(n->sup->loop), ago;
	uint64_t key;

	davit_json_key(j, "window");
	davit_json_open_array(j);
	for (size_t k = 0; davit_supervise_restart_noted(n, k, &ago, &key); k++) {
		davit_json_int(j, now - ago);
		davit_json_int(j, (int64_t)key);
	}
	davit_json_close_array(j);
}

/* What is to be stored of it; empty: nothing. */
static void describe(const struct davit_node *n, struct davit_buf *b)
{
	struct davit_json j = DAVIT_JSON_INIT(b);
	bool ended = has_ended(n);
	uint64_t key;
	int64_t ago;

	if (!ended && !n->total_restarts && !davit_supervise_restart_noted(n, 0, &ago, &key))
		return;
	davit_json_open(&j);
	if (ended)
		write_end(n, &j);
	davit_json_put_int(&j, "restarts", n->total_restarts);
	write_restarts(n, &j);
	davit_json_close(&j);
}

void supervision_note(struct supervisor *p)
{
	DAVIT_AUTO_FREE char *full = key_of(p->key);
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;

	/* Until all is taken over, its state says nothing. */
	if (p->core->start_op || p->core->freeing || !full)
		return;
	describe(&p->node, &b);
	if (b.oom || !strcmp(davit_buf_str(&b), p->stored ? p->stored : ""))
		return;
	free(p->stored);
	p->stored = b.len ? strdup(davit_buf_str(&b)) : NULL;
	davit_journal_write(p->core->journal, full, p->stored);
}

/* --- a new daemon --- */

static int64_t number(const json_t *rec, const char *key)
{
	return json_integer_value(json_object_get(rec, key));
}

static void load_restarts(struct supervisor *p, const json_t *rec)
{
	int64_t now = davit_loop_wall(p->core->loop);
	const json_t *window = json_object_get(rec, "window");

	p->node.total_restarts = number(rec, "restarts");
	for (size_t k = 0; k + 1 < json_array_size(window); k += 2)
		davit_supervise_restore_note(&p->node, now - json_integer_value(json_array_get(window, k)),
					     (uint64_t)json_integer_value(json_array_get(window, k + 1)));
}

static bool load_one(void *user, const struct davit_kv *kv)
{
	struct davit_core *c = user;
	struct supervisor *p = davit_map_get(&c->supervisors, kv->key + strlen("supervision/"));
	json_error_t je;
	json_t *rec = json_loadb(kv->value, kv->len, 0, &je);
	const char *rule = davit_supervise_rule(json_string_value(json_object_get(rec, "rule")));
	const char *origin = json_string_value(json_object_get(rec, "origin"));

	if (!p || !rec) {
		davit_journal_write(c->journal, kv->key, NULL);
		json_decref(rec);
		return true;
	}
	p->stored = strndup(kv->value, kv->len);
	load_restarts(p, rec);
	if (ends_supervisor(rule)) {
		p->found = (struct supervisor_end){
			.rule = rule,
			.failed = json_is_true(json_object_get(rec, "failed")),
			.cause = (enum davit_cause)number(rec, "cause"),
			.decided = number(rec, "decided"),
			.next = number(rec, "next"),
		};
		davit_supervise_restore_why(&p->node, rule, p->found.cause, NULL, p->found.decided);
		snprintf(p->found.origin, sizeof p->found.origin, "%s", origin ? origin : "");
	}
	json_decref(rec);
	return true;
}

int supervision_load(struct davit_core *c, struct davit_error *err)
{
	int64_t revision;

	return c->store->driver->list(c->store, "supervision/", NULL, 0, load_one, c, &revision, err);
}

const struct supervisor *supervision_given_up(const struct davit_service *s)
{
	for (const struct davit_node *n = s->node.parent; n && n->parent; n = n->parent) {
		const struct supervisor *p = n->owner;
		if (s->core->start_op ? p->found.rule != NULL : has_ended(n))
			return p;
	}
	return NULL;
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

static struct davit_node *node_of(struct davit_core *c, const char *id)
{
	struct instance *i = id && id[0] ? davit_map_get(&c->instances, id) : NULL;

	return i && i->leaf ? &i->node : NULL;
}

/* What is down, or was restarted, for the sake of another knows that one again. */
static void restore_origins(struct davit_core *c)
{
	size_t pos = 0;
	void *v;

	while (davit_map_next(&c->instances, &pos, NULL, &v)) {
		struct instance *i = v;
		if (i->origin && i->leaf)
			davit_supervise_restore_why(&i->node, i->node.rule_name, i->node.cause,
						    node_of(c, i->origin), i->node.decided);
		free(i->origin);
		i->origin = NULL;
	}
}

void supervision_restore(struct davit_core *c)
{
	size_t pos, at;
	void *v, *s;

	restore_origins(c);
	for (pos = 0; davit_map_next(&c->supervisors, &pos, NULL, &v);) {
		struct supervisor *p = v;
		if (!p->found.rule)
			continue;
		for (at = 0; davit_map_next(&c->services, &at, NULL, &s);)
			if (is_beneath(&((struct davit_service *)s)->node, &p->node))
				fill_places(s);
		davit_supervise_restore_inner(&p->node, p->found.failed, p->found.rule, p->found.cause,
					      p->found.next);
	}
	/* One may have led to another again: each has its own reason all the same. */
	for (pos = 0; davit_map_next(&c->supervisors, &pos, NULL, &v);) {
		struct supervisor *p = v;
		if (p->found.rule)
			davit_supervise_restore_why(&p->node, p->found.rule, p->found.cause,
						    node_of(c, p->found.origin), p->found.decided);
		p->found.rule = NULL;
	}
}
