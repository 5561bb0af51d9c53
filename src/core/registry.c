/* SPDX-License-Identifier: MIT
 *
 * The store's records in memory: services, supervisors, namespaces. The only
 * way into the registry is a key and a value of the store, so that a change of
 * ours, one of another daemon and one found at start take the same path.
 */
#include "core/core_impl.h"
#include "core/spec_record.h"

#include "base/log.h"

#include <string.h>

/* --- records --- */

char *registry_record(const struct davit_spec *spec, int64_t created, int64_t updated, int64_t nonce)
{
	DAVIT_AUTO_FREE char *text = davit_spec_json(spec);
	struct davit_buf b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);

	if (!text)
		return NULL;
	davit_json_open(&j);
	davit_json_key(&j, "spec");
	davit_json_raw(&j, text);
	davit_json_put_int(&j, "created", created);
	davit_json_put_int(&j, "updated", updated);
	if (nonce)
		davit_json_put_int(&j, "nonce", nonce);
	davit_json_close(&j);
	return davit_buf_take(&b);
}

static int record_parse(struct davit_core *c, const struct davit_kv *kv, struct davit_spec_record *ret,
			struct davit_error *err)
{
	int r = davit_spec_read_record(kv->value, kv->len, ret, err);

	if (r == 0)
		unreadable_forget(c, kv->key);
	else if (r != DAVIT_ENOMEM)
		unreadable_note(c, kv->key, kv->mod_revision);
	if (r < 0) {
		davit_error_prefix(err, "the record %s cannot be read", kv->key);
		return r == DAVIT_ENOMEM ? r : (err->code = DAVIT_ECORRUPT);
	}
	return 0;
}

/* --- the tree's rules --- */

static void supervisor_rule(const struct davit_spec *spec, struct davit_supervision_rule *ret)
{
	*ret = (struct davit_supervision_rule){
		.strategy = spec->strategy,
		.max_restarts = spec->max_restarts,
		.period = spec->restart_period,
		.escalation = spec->escalation,
		.cooldown = spec->cooldown,
		.auto_shutdown = spec->auto_shutdown,
	};
}

/* A service is a mere group of its instances: its supervisor decides on them. */
static void service_rule(struct davit_supervision_rule *ret)
{
	*ret = (struct davit_supervision_rule){
		.strategy = DAVIT_ONE_FOR_ONE,
		.max_restarts = -1,
		.transparent = true,
	};
}

static struct supervisor *find_supervisor(struct davit_core *c, const char *ns, const char *name)
{
	DAVIT_AUTO_FREE char *key = NULL;

	if (!name || asprintf(&key, "%s/%s", ns, name) < 0)
		return NULL;
	return davit_map_get(&c->supervisors, key);
}

struct davit_node *registry_parent_node(struct davit_core *c, const struct davit_spec *spec)
{
	struct supervisor *p = find_supervisor(c, spec->namespace_, spec->supervisor);

	return p ? &p->node : &c->sup.root;
}

/* Puts a node where its spec wants it; a parent below itself is not followed. */
static void settle_node(struct davit_node *n, struct davit_node *parent)
{
	for (struct davit_node *up = parent; up; up = up->parent)
		if (up == n)
			return;
	if (n->parent != parent)
		davit_supervise_move(n, parent);
}

/* What has a place among others, as old as it is. */
struct aged {
	int64_t created;
	const char *key;
	struct davit_node *node, *parent; /* where its spec wants it */
};

static int by_age(const void *a, const void *b)
{
	const struct aged *x = a, *y = b;

	return x->created != y->created ? (x->created < y->created ? -1 : 1) : strcmp(x->key, y->key);
}

static struct aged aged_service(struct davit_core *c, struct davit_service *s)
{
	return (struct aged){s->created, s->key, &s->node, registry_parent_node(c, s->spec)};
}

/* All supervisors and services, the oldest first: the order that rest-for-one goes by. A heap
 * array of n, or NULL. */
static struct aged *all_by_age(struct davit_core *c, size_t *ret_n)
{
	struct aged *v = malloc((c->services.len + c->supervisors.len + 1) * sizeof *v);
	size_t n = 0, pos = 0;
	void *any;

	while (v && davit_map_next(&c->supervisors, &pos, NULL, &any)) {
		struct supervisor *p = any;
		v[n++] = (struct aged){p->created, p->key, &p->node, registry_parent_node(c, p->spec)};
	}
	for (pos = 0; v && davit_map_next(&c->services, &pos, NULL, &any);)
		v[n++] = aged_service(c, any);
	if (n)
		qsort(v, n, sizeof *v, by_age);
	*ret_n = n;
	return v;
}

/* Services and supervisors whose supervisor appeared or went. */
static void settle_all(struct davit_core *c)
{
	DAVIT_AUTO_FREE struct aged *all = NULL;
	size_t n;

	all = all_by_age(c, &n);
	for (size_t k = 0; k < n; k++)
		settle_node(all[k].node, all[k].parent);
}

/* The store lists by name; the tree goes by age. */
static void order_by_age(struct davit_core *c)
{
	DAVIT_AUTO_FREE struct aged *all = NULL;
	size_t n;

	/* At the root, which is one-for-one, the order means nothing. */
	if (!c->supervisors.len)
		return;
	all = all_by_age(c, &n);
	for (size_t k = 0; k < n; k++)
		davit_supervise_move(all[k].node, all[k].node->parent);
}

/* Notes a new service that stands behind a younger one of the same change. */
static void note_fresh(struct davit_core *c, struct davit_service *s)
{
	struct davit_service *last = davit_list_empty(&c->fresh)
					     ? NULL
					     : DAVIT_CONTAINER_OF(c->fresh.prev, struct davit_service, fresh);

	c->unordered |= last && last->node.parent == s->node.parent && last->created > s->created;
	davit_list_add_tail(&c->fresh, &s->fresh);
}

void registry_order(struct davit_core *c)
{
	DAVIT_AUTO_FREE struct aged *v = NULL;
	struct davit_service *s, *tmp;
	size_t n = 0;

	if (c->unordered)
		v = malloc(c->services.len * sizeof *v);
	c->unordered = false;
	DAVIT_LIST_FOREACH_SAFE (s, tmp, &c->fresh, fresh) {
		davit_list_remove(&s->fresh);
		if (v)
			v[n++] = aged_service(c, s);
	}
	if (n)
		qsort(v, n, sizeof *v, by_age);
	for (size_t k = 0; k < n; k++)
		davit_supervise_move(v[k].node, v[k].node->parent);
}

/* --- services --- */

struct davit_service *registry_service(struct davit_core *c, const char *ns, const char *name,
				       const char *version)
{
	DAVIT_AUTO_FREE char *key = NULL;

	if (asprintf(&key, "%s/%s/%s", ns, name, version) < 0)
		return NULL;
	return davit_map_get(&c->services, key);
}

struct service_name *registry_name(struct davit_core *c, const char *ns, const char *name)
{
	DAVIT_AUTO_FREE char *key = NULL;

	return asprintf(&key, "%s/%s", ns, name) < 0 ? NULL : davit_map_get(&c->names, key);
}

/* 0 or DAVIT_ENOMEM. */
static int join_name(struct davit_service *s)
{
	struct davit_core *c = s->core;
	struct service_name *n = registry_name(c, s->spec->namespace_, s->spec->name);

	if (!n) {
		n = calloc(1, sizeof *n);
		if (!n || asprintf(&n->key, "%s/%s", s->spec->namespace_, s->spec->name) < 0) {
			free(n);
			return DAVIT_ENOMEM;
		}
		davit_list_init(&n->services);
		if (davit_map_put(&c->names, n->key, n) < 0) {
			free(n->key);
			free(n);
			return DAVIT_ENOMEM;
		}
	}
	s->group = n;
	davit_list_add_tail(&n->services, &s->same_name);
	return 0;
}

static void leave_name(struct davit_service *s)
{
	struct service_name *n = s->group;

	davit_list_remove(&s->same_name);
	if (!n || !davit_list_empty(&n->services))
		return;
	davit_map_remove(&s->core->names, n->key);
	free(n->key);
	free(n);
}

static struct davit_service *service_new(struct davit_core *c, const char *key, struct davit_spec *spec)
{
	struct davit_service *s = calloc(1, sizeof *s);
	struct davit_supervision_rule rule;

	if (!s)
		return NULL;
	s->core = c;
	s->key = strdup(key);
	s->spec = spec;
	davit_list_init(&s->same_name);
	davit_list_init(&s->fresh);
	davit_list_init(&s->dirty);
	davit_list_init(&s->notify);
	davit_list_init(&s->leaving);
	service_rule(&rule);
	if (!s->key || davit_map_put(&c->services, s->key, s) < 0) {
		free(s->key);
		free(s);
		return NULL;
	}
	if (join_name(s) < 0 ||
	    davit_supervise_add_inner(&s->node, registry_parent_node(c, spec), s->key, &rule, s) < 0) {
		leave_name(s);
		davit_map_remove(&c->services, s->key);
		free(s->key);
		free(s);
		return NULL;
	}
	return s;
}

void registry_service_free(struct davit_service *s)
{
	struct davit_core *c = s->core;

	if (!c->freeing)
		davit_supervise_remove(&s->node);
	leave_name(s);
	davit_map_remove(&c->services, s->key);
	davit_list_remove(&s->fresh);
	davit_list_remove(&s->dirty);
	davit_list_remove(&s->notify);
	build_free(s->built);
	davit_spec_free(s->spec);
	free(s->slots);
	free(s->error);
	free(s->key);
	free(s);
}

static void put_service(struct davit_core *c, const char *key, const struct davit_kv *kv)
{
	struct davit_service *s = davit_map_get(&c->services, key);
	struct davit_spec_record rec;
	struct davit_error err;
	bool is_new = !s;

	if (s && s->revision >= kv->mod_revision)
		return;
	if (record_parse(c, kv, &rec, &err) < 0) {
		/* One bad record never stops the others; what runs goes on. */
		davit_log(DAVIT_LOG_ERROR, "%s", err.message);
		core_event_key(c, "failed", key, err.message);
		return;
	}
	if (!s) {
		s = service_new(c, key, rec.spec);
		if (!s) {
			davit_log(DAVIT_LOG_ERROR, "out of memory: service %s is not looked after", key);
			davit_spec_free(rec.spec);
			return;
		}
	} else {
		struct davit_spec *was = s->spec;
		s->spec = rec.spec;
		if (!health_same(was, s->spec))
			health_changed(s, davit_spec_hash(was) == davit_spec_hash(s->spec));
		davit_spec_free(was);
		settle_node(&s->node, registry_parent_node(c, s->spec));
		s->deleting = false;
	}
	s->revision = kv->mod_revision;
	s->created = rec.created;
	if (is_new)
		note_fresh(c, s);
	s->updated = rec.updated;
	s->nonce = rec.nonce;
	s->settled = false;
	core_service_dirty(s);
	core_service_changed(s);
}

static void delete_service(struct davit_core *c, const char *key)
{
	struct davit_service *s = davit_map_get(&c->services, key);

	if (!s || s->deleting)
		return;
	s->deleting = true;
	core_service_dirty(s);
	core_service_changed(s);
}

/* --- supervisors and namespaces --- */

static void put_supervisor(struct davit_core *c, const char *key, const struct davit_kv *kv)
{
	struct supervisor *p = davit_map_get(&c->supervisors, key);
	struct davit_supervision_rule rule;
	struct davit_error err;
	struct davit_spec_record rec;

	if (p && p->revision >= kv->mod_revision)
		return;
	if (record_parse(c, kv, &rec, &err) < 0) {
		davit_log(DAVIT_LOG_ERROR, "%s", err.message);
		return;
	}
	supervisor_rule(rec.spec, &rule);
	if (p) {
		davit_spec_free(p->spec);
		p->spec = rec.spec;
		davit_supervise_set_rule(&p->node, &rule);
	} else {
		p = calloc(1, sizeof *p);
		if (!p || !(p->key = strdup(key)) || davit_map_put(&c->supervisors, p->key, p) < 0 ||
		    davit_supervise_add_inner(&p->node, &c->sup.root, p->key, &rule, p) < 0) {
			davit_log(DAVIT_LOG_ERROR, "out of memory: supervisor %s is not there", key);
			if (p) {
				davit_map_remove(&c->supervisors, p->key ? p->key : "");
				free(p->key);
			}
			free(p);
			davit_spec_free(rec.spec);
			return;
		}
		p->core = c;
		p->spec = rec.spec;
	}
	p->revision = kv->mod_revision;
	p->created = rec.created;
	settle_all(c);
}

static void delete_supervisor(struct davit_core *c, const char *key)
{
	struct supervisor *p = davit_map_get(&c->supervisors, key);
	struct davit_node *child;

	if (!p)
		return;
	supervision_forget(c, key);
	davit_map_remove(&c->supervisors, key);
	while ((child = DAVIT_LIST_FIRST(&p->node.children, struct davit_node, siblings)))
		davit_supervise_move(child, &c->sup.root);
	davit_supervise_remove(&p->node);
	davit_spec_free(p->spec);
	free(p->stored);
	free(p->key);
	free(p);
}

static void namespace_free(struct namespace_record *n)
{
	if (!n)
		return;
	davit_spec_free(n->spec);
	free(n->key);
	free(n);
}

static void put_namespace(struct davit_core *c, const char *key, const struct davit_kv *kv)
{
	struct namespace_record *old = davit_map_get(&c->namespaces, key), *n;
	struct davit_error err;
	struct davit_spec_record rec;

	if (old && old->revision >= kv->mod_revision)
		return;
	if (record_parse(c, kv, &rec, &err) < 0) {
		davit_log(DAVIT_LOG_ERROR, "%s", err.message);
		return;
	}
	n = calloc(1, sizeof *n);
	if (!n || !(n->key = strdup(key))) {
		free(n);
		davit_spec_free(rec.spec);
		return;
	}
	n->spec = rec.spec;
	n->revision = kv->mod_revision;
	davit_map_remove(&c->namespaces, key);
	namespace_free(old);
	if (davit_map_put(&c->namespaces, n->key, n) < 0)
		namespace_free(n);
}

/* --- the one way in --- */

static const char *after(const char *key, const char *prefix)
{
	size_t n = strlen(prefix);

	return strncmp(key, prefix, n) ? NULL : key + n;
}

void registry_put(struct davit_core *c, const struct davit_kv *kv)
{
	const char *key;

	c->changes++;
	if (kv->deleted)
		unreadable_forget(c, kv->key);

	if ((key = after(kv->key, "services/"))) {
		if (kv->deleted)
			delete_service(c, key);
		else
			put_service(c, key, kv);
	} else if ((key = after(kv->key, "supervisors/"))) {
		if (kv->deleted)
			delete_supervisor(c, key);
		else
			put_supervisor(c, key, kv);
	} else if ((key = after(kv->key, "namespaces/"))) {
		if (kv->deleted)
			namespace_free(davit_map_remove(&c->namespaces, key));
		else
			put_namespace(c, key, kv);
		egress_changed(c, key);
	}
}

/* --- loading --- */

struct load {
	struct davit_core *c;
	struct davit_map seen; /* service keys listed, when the registry was not empty */
	bool track;
};

static bool load_one(void *user, const struct davit_kv *kv)
{
	struct load *l = user;
	const char *key = after(kv->key, "services/");

	registry_put(l->c, kv);
	if (l->track && key) {
		struct davit_service *s = davit_map_get(&l->c->services, key);
		if (s)
			davit_map_put(&l->seen, s->key, s);
	}
	return true;
}

static bool load_built(void *user, const struct davit_kv *kv)
{
	struct load *l = user;
	struct davit_service *s = davit_map_get(&l->c->services, after(kv->key, "built/"));

	if (s && !s->built)
		build_load(s, kv->value, kv->len);
	return true;
}

int registry_load(struct davit_core *c, struct davit_error *err)
{
	static const char *const prefixes[] = {"namespaces/", "supervisors/", "services/"};
	struct load l = {.c = c, .track = c->services.len > 0};
	int64_t revision = 0, first = INT64_MAX;
	size_t pos = 0;
	void *v;
	int r = 0;

	for (size_t k = 0; k < DAVIT_ARRAY_SIZE(prefixes) && r == 0; k++) {
		r = c->store->driver->list(c->store, prefixes[k], NULL, 0, load_one, &l, &revision, err);
		if (revision < first)
			first = revision;
	}
	if (r == 0)
		r = c->store->driver->list(c->store, "built/", NULL, 0, load_built, &l, &revision, err);
	/* A second load (after a broken watch) must notice deletions as well. */
	while (r == 0 && l.track && davit_map_next(&c->services, &pos, NULL, &v))
		if (!davit_map_get(&l.seen, ((struct davit_service *)v)->key))
			delete_service(c, ((struct davit_service *)v)->key);
	davit_map_fini(&l.seen);
	if (r == 0 && !l.track)
		order_by_age(c);
	if (r == 0)
		core_watch_from(c, first);
	return r;
}

void registry_free_all(struct davit_core *c)
{
	const char *key;
	size_t pos = 0;
	void *v;

	while (davit_map_next(&c->instances, &pos, NULL, &v))
		instance_free(v);
	for (pos = 0; davit_map_next(&c->services, &pos, NULL, &v);)
		registry_service_free(v);
	for (pos = 0; davit_map_next(&c->supervisors, &pos, &key, &v);) {
		struct supervisor *p = v;
		davit_map_remove(&c->supervisors, key);
		davit_spec_free(p->spec);
		free(p->stored);
		free(p->key);
		free(p);
	}
	for (pos = 0; davit_map_next(&c->namespaces, &pos, &key, &v);) {
		davit_map_remove(&c->namespaces, key);
		namespace_free(v);
	}
}
