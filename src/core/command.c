/* SPDX-License-Identifier: MIT
 *
 * Commands on services. Everything is checked before anything is written; what
 * was accepted is durable before the command completes, and has its effect
 * through the registry like any other change of the store.
 */
#include "core/core_impl.h"

#include "base/fault.h"
#include "base/nearest.h"
#include "base/units.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* --- one transaction --- */

struct pending {
	struct davit_list list; /* in core->commands while it is with the store */
	struct davit_store_txn txn;
	struct davit_core *core; /* NULL: it went while the store was at work */
	struct davit_op *op;
	char *cause;
	size_t n;
	struct davit_store_change *changes; /* keys and values are owned */
	const char **types;		    /* the event of each, static */
};

static void pending_free(struct pending *p)
{
	davit_list_remove(&p->list);
	for (size_t k = 0; k < p->n; k++) {
		free((char *)p->changes[k].key);
		free((char *)p->changes[k].value);
	}
	free(p->changes);
	free(p->types);
	free(p->cause);
	free(p);
}

static struct pending *pending_new(struct davit_core *c, size_t max, const char *cause, struct davit_op *op,
				   struct davit_error *err)
{
	struct pending *p = calloc(1, sizeof *p);

	if (p) {
		davit_list_init(&p->list);
		p->core = c;
		p->op = op;
		p->cause = strdup(cause ? cause : "user");
		p->changes = calloc(max ? max : 1, sizeof *p->changes);
		p->types = calloc(max ? max : 1, sizeof *p->types);
	}
	if (!p || !p->cause || !p->changes || !p->types) {
		if (p)
			pending_free(p);
		davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
		return NULL;
	}
	return p;
}

/* Takes key and value (NULL: delete). */
static int pending_add(struct pending *p, char *key, char *value, bool put, int64_t expect, const char *type,
		       struct davit_error *err)
{
	if (!key || (put && !value)) {
		free(key);
		free(value);
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	p->types[p->n] = type;
	p->changes[p->n++] = (struct davit_store_change){
		.verb = put ? DAVIT_STORE_PUT : DAVIT_STORE_DELETE,
		.key = key,
		.value = value,
		.len = value ? strlen(value) : 0,
		.check = true,
		.expect = expect,
	};
	return 0;
}

static void committed(struct davit_op *op, int result)
{
	struct pending *p = op->user;
	struct davit_core *c = p->core;

	if (!c) {
		pending_free(p);
		return;
	}
	if (result < 0) {
		davit_op_fail_error(p->op, &op->error);
		pending_free(p);
		return;
	}
	DAVIT_FAULT("command-committed");
	for (size_t k = 0; k < p->n; k++) {
		const struct davit_store_change *ch = &p->changes[k];
		struct davit_kv kv = {
			.key = ch->key,
			.value = ch->value,
			.len = ch->len,
			.mod_revision = p->txn.ret_revision,
			.deleted = ch->verb == DAVIT_STORE_DELETE,
		};
		/* The watch tells the same; whoever comes first is taken. */
		registry_put(c, &kv);
		if (p->types[k])
			core_event_key(c, p->types[k], strchr(ch->key, '/') + 1, p->cause);
	}
	davit_op_complete(p->op, 0);
	pending_free(p);
}

static int commit(struct pending *p)
{
	if (!p->n) {
		davit_op_complete(p->op, 0);
		pending_free(p);
		return 0;
	}
	davit_op_init(&p->txn.op, p->core->loop, committed, p);
	davit_list_add_tail(&p->core->commands, &p->list);
	DAVIT_FAULT("command-commit");
	davit_store_commit(p->core->store, p->changes, p->n, &p->txn, 30 * DAVIT_NSEC_PER_SEC);
	return 0;
}

/* --- checks --- */

static int refuse_capability(const struct core_runtime *r, enum davit_capability cap, const char *key,
			     struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOTSUP, key, "%s: runtime %s does not support %s: %s", key, r->name,
			       davit_capability_name(cap), r->caps.why_not[cap]);
}

int command_check_capabilities(struct davit_core *c, const struct davit_spec *spec, struct davit_error *err)
{
	const char *name = spec->runtime ? spec->runtime : c->config.default_runtime;
	const struct core_runtime *r = core_runtime_find(c, name);
	const struct {
		bool asked;
		enum davit_capability cap;
		const char *key;
	} needs[] = {
		{spec->memory, DAVIT_CAP_MEMORY_LIMIT, "resources.memory"},
		{spec->cpu, DAVIT_CAP_CPU_LIMIT, "resources.cpu"},
		{spec->disk, DAVIT_CAP_DISK_LIMIT, "resources.disk"},
		{spec->pids, DAVIT_CAP_PIDS_LIMIT, "resources.pids"},
		{spec->n_rlimits, DAVIT_CAP_RLIMITS, "rlimits"},
		{spec->user, DAVIT_CAP_USER, "user"},
		{spec->directory, DAVIT_CAP_DIRECTORY, "directory"},
		{spec->image, DAVIT_CAP_IMAGES, "image"},
		{spec->n_volumes, DAVIT_CAP_VOLUMES, "volumes"},
		{spec->n_ports, DAVIT_CAP_PORTS, "ports"},
		{spec->n_secrets, DAVIT_CAP_SECRETS, "secrets"},
		{spec->service_account, DAVIT_CAP_SERVICE_ACCOUNT, "serviceAccount"},
		{spec->ready == DAVIT_READY_TYPE_NOTIFY, DAVIT_CAP_NOTIFY, "ready.type"},
		{spec->ready == DAVIT_READY_TYPE_FD, DAVIT_CAP_READY_FD, "ready.type"},
		{spec->ready == DAVIT_READY_TYPE_LOG, DAVIT_CAP_LOGS, "ready.type"},
	};

	if (!r) {
		const char *names[32];
		const struct core_runtime *k;
		size_t n = 0;
		DAVIT_LIST_FOREACH (k, &c->runtimes, list)
			if (n < DAVIT_ARRAY_SIZE(names))
				names[n++] = k->name;
		const char *near = davit_nearest(name, names, n);
		return davit_error_set(err, DAVIT_ENOENT, "runtime", "there is no runtime '%s'%s%s%s; see davit runtimes",
				       name, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
	}
	if (r->phase == RUNTIME_CLOSED)
		return davit_error_set(err, DAVIT_EUNAVAIL, "runtime", "runtime %s is not available: %s", name,
				       r->error.message);
	for (size_t k = 0; k < DAVIT_ARRAY_SIZE(needs); k++)
		if (needs[k].asked && !davit_can(&r->caps, needs[k].cap))
			return refuse_capability(r, needs[k].cap, needs[k].key, err);
	return 0;
}

/* The specs of a command shadow what is recorded. */
struct proposal {
	struct davit_core *c;
	struct davit_spec *const *specs;
	size_t n;
};

static const struct davit_spec *proposed(const struct proposal *p, const char *ref, const char *ns)
{
	const char *slash = strchr(ref, '/'), *colon = strchr(ref, ':'), *name = ref;
	size_t ns_len = strlen(ns), name_len;
	struct davit_service *s;

	if (slash && (!colon || slash < colon)) {
		ns = ref;
		ns_len = (size_t)(slash - ref);
		name = slash + 1;
	}
	name_len = colon ? (size_t)(colon - name) : strlen(name);
	for (size_t k = 0; k < p->n; k++) {
		const struct davit_spec *spec = p->specs[k];
		if (spec->kind == DAVIT_KIND_SERVICE && strlen(spec->name) == name_len &&
		    !strncmp(spec->name, name, name_len) && strlen(spec->namespace_) == ns_len &&
		    !strncmp(spec->namespace_, ns, ns_len) && (!colon || !strcmp(spec->version, colon + 1)))
			return spec;
	}
	s = service_resolve(p->c, ref, ns);
	return s ? s->spec : NULL;
}

struct path {
	const struct path *up;
	const struct davit_spec *spec;
};

static bool same_service(const struct davit_spec *a, const struct davit_spec *b)
{
	return !strcmp(a->namespace_, b->namespace_) && !strcmp(a->name, b->name) &&
	       !strcmp(a->version, b->version);
}

static void write_cycle(const struct path *at, const struct davit_spec *to, char *buf, size_t n)
{
	size_t len;

	if (!same_service(at->spec, to))
		write_cycle(at->up, to, buf, n);
	len = strlen(buf);
	snprintf(buf + len, n - len, "%s -> ", at->spec->name);
}

static int check_cycle(const struct proposal *p, const struct davit_spec *spec, const struct path *up,
		       struct davit_map *visited, struct davit_error *err)
{
	struct path here = {up, spec};
	char text[256] = "";
	int r = 0;

	for (const struct path *k = up; k; k = k->up)
		if (same_service(k->spec, spec)) {
			write_cycle(up, spec, text, sizeof text);
			return davit_error_set(err, DAVIT_EINVAL, "dependsOn", "dependency cycle: %s%s", text,
					       spec->name);
		}
	if (davit_map_get(visited, (const char *)spec->name) == spec)
		return 0;
	for (size_t k = 0; k < spec->n_depends && r == 0; k++) {
		const struct davit_spec *dep = proposed(p, spec->depends[k].service, spec->namespace_);
		if (dep)
			r = check_cycle(p, dep, &here, visited, err);
	}
	if (r == 0)
		davit_map_put(visited, spec->name, (void *)spec);
	return r;
}

static int check_supervisor(const struct proposal *p, const struct davit_spec *spec, struct davit_error *err)
{
	const struct davit_spec *at = spec;

	for (int depth = 0; at->supervisor; depth++) {
		const struct davit_spec *up = NULL;
		DAVIT_AUTO_FREE char *key = NULL;
		for (size_t k = 0; k < p->n; k++)
			if (p->specs[k]->kind == DAVIT_KIND_SUPERVISOR &&
			    !strcmp(p->specs[k]->name, at->supervisor) &&
			    !strcmp(p->specs[k]->namespace_, at->namespace_))
				up = p->specs[k];
		if (!up && asprintf(&key, "%s/%s", at->namespace_, at->supervisor) >= 0) {
			const struct supervisor *s = davit_map_get(&p->c->supervisors, key);
			up = s ? s->spec : NULL;
		}
		if (!up)
			return davit_error_set(err, DAVIT_ENOENT, "supervisor", "there is no supervisor '%s' in namespace %s",
					       at->supervisor, at->namespace_);
		if (depth > 32 || up == spec)
			return davit_error_set(err, DAVIT_EINVAL, "supervisor", "supervisor '%s' stands below itself",
					       up->name);
		at = up;
	}
	return 0;
}

static int check_quota(const struct proposal *p, const struct davit_spec *spec, struct davit_error *err)
{
	const struct namespace_record *ns = davit_map_get(&p->c->namespaces, spec->namespace_);
	int64_t services = 0, instances = 0;
	uint64_t memory = 0;
	size_t pos = 0;
	void *v;

	if (!ns)
		return 0;
	while (davit_map_next(&p->c->services, &pos, NULL, &v)) {
		const struct davit_spec *o = ((struct davit_service *)v)->spec;
		bool shadowed = ((struct davit_service *)v)->deleting;
		for (size_t k = 0; k < p->n; k++)
			shadowed |= p->specs[k]->kind == DAVIT_KIND_SERVICE && same_service(p->specs[k], o);
		if (shadowed || strcmp(o->namespace_, spec->namespace_))
			continue;
		services++;
		instances += o->instances;
		memory += o->memory * (uint64_t)o->instances;
	}
	for (size_t k = 0; k < p->n; k++) {
		const struct davit_spec *o = p->specs[k];
		if (o->kind != DAVIT_KIND_SERVICE || strcmp(o->namespace_, spec->namespace_))
			continue;
		services++;
		instances += o->instances;
		memory += o->memory * (uint64_t)o->instances;
		if (ns->spec->quota_memory && !o->memory)
			return davit_error_set(err, DAVIT_EQUOTA, "resources.memory",
					       "namespace %s has a memory quota: resources.memory must be given",
					       spec->namespace_);
	}
	if (ns->spec->quota_services >= 0 && services > ns->spec->quota_services)
		return davit_error_set(err, DAVIT_EQUOTA, "quota.services",
				       "namespace %s allows %" PRId64 " services; this would be %" PRId64,
				       spec->namespace_, ns->spec->quota_services, services);
	if (ns->spec->quota_instances >= 0 && instances > ns->spec->quota_instances)
		return davit_error_set(err, DAVIT_EQUOTA, "quota.instances",
				       "namespace %s allows %" PRId64 " instances; this would be %" PRId64,
				       spec->namespace_, ns->spec->quota_instances, instances);
	if (ns->spec->quota_memory && memory > ns->spec->quota_memory) {
		char have[DAVIT_TIME_MAX], want[DAVIT_TIME_MAX];
		return davit_error_set(err, DAVIT_EQUOTA, "quota.memory",
				       "namespace %s allows %s of memory; this would be %s", spec->namespace_,
				       davit_size_format(ns->spec->quota_memory, have),
				       davit_size_format(memory, want));
	}
	return 0;
}

/* A fixed host port that somebody else has is refused before anything starts. */
static int check_ports(struct davit_core *c, const struct davit_service *s, const struct davit_spec *spec,
		       struct davit_error *err)
{
	const char *name = spec->runtime ? spec->runtime : c->config.default_runtime;
	const struct core_runtime *r = core_runtime_find(c, name);

	if (!r || r->phase != RUNTIME_OPEN || !r->driver->ports || !spec->instances || spec->stopped)
		return 0;
	for (size_t k = 0; k < spec->n_ports; k++) {
		struct davit_port port = spec->ports[k];
		bool ours = false;
		int code;
		if (!port.host)
			continue;
		if (spec->instances > 1)
			return davit_error_set(err, DAVIT_EINVAL, "ports",
					       "%" PRId64 " instances cannot share host port %u; leave the host port out",
					       spec->instances, port.host);
		for (size_t n = 0; s && n < s->spec->n_ports; n++)
			ours |= s->spec->ports[n].host == port.host;
		if (ours)
			continue;
		code = r->driver->ports->resolve(r->rt, &port, 1, err);
		if (code < 0)
			return code;
	}
	return 0;
}

static int check_service(const struct proposal *p, const struct davit_spec *spec, struct davit_error *err)
{
	struct davit_map visited = {0};
	int r = command_check_capabilities(p->c, spec, err);

	if (r == 0 && spec->profile)
		r = profile_check(p->c, spec->profile, err);
	if (r == 0) {
		r = check_cycle(p, spec, NULL, &visited, err);
		davit_map_fini(&visited);
	}
	if (r == 0)
		r = check_supervisor(p, spec, err);
	if (r == 0)
		r = check_quota(p, spec, err);
	if (r == 0)
		r = workload_secrets_check(p->c, spec, err);
	return r;
}

/* --- apply --- */

static int add_service(struct pending *p, const struct proposal *pr, const struct davit_spec *spec,
		       enum davit_apply_mode mode, bool force, struct davit_error *err)
{
	struct davit_core *c = p->core;
	struct davit_service *s = registry_service(c, spec->namespace_, spec->name, spec->version);
	/* Those of one command keep their order, which the tree goes by. */
	int64_t now = davit_loop_wall(c->loop) + (int64_t)p->n;
	DAVIT_AUTO_FREE char *was = NULL, *is = NULL;
	char *key = NULL;
	bool same;
	int r;

	if (s && s->deleting)
		return davit_error_set(err, DAVIT_ESTATE, "name", "service '%s' is being removed; try again when it is gone",
				       spec->name);
	if (!s && mode == DAVIT_APPLY_UPDATE)
		return davit_error_set(err, DAVIT_ENOENT, "name", "service '%s:%s' not found in namespace %s", spec->name,
				       spec->version, spec->namespace_);
	r = check_service(pr, spec, err);
	if (r < 0)
		return r;
	is = davit_spec_json(spec);
	was = s ? davit_spec_json(s->spec) : NULL;
	same = is && was && !strcmp(is, was);
	if (s && !same && mode == DAVIT_APPLY_CREATE)
		return davit_error_set(err, DAVIT_EEXIST, "name",
				       "service '%s:%s' exists already and is different; use davit update", spec->name,
				       spec->version);
	r = check_ports(c, s, spec, err);
	if (r < 0)
		return r;
	/* An update with the same spec builds the source again: it may have
	 * changed. Running what runs already changes nothing. */
	if (s && same && !force && mode != DAVIT_APPLY_UPDATE)
		return 0;
	if (s && same && !spec->source && !force)
		return 0;
	if (asprintf(&key, "services/%s/%s/%s", spec->namespace_, spec->name, spec->version) < 0)
		key = NULL;
	return pending_add(p, key,
			   registry_record(spec, s ? s->created : now, now,
					   s ? s->nonce + (same || force || mode == DAVIT_APPLY_UPDATE) : 0),
			   true, s ? s->revision : 0, s ? "updated" : "created", err);
}

static int add_other(struct pending *p, const struct proposal *pr, const struct davit_spec *spec,
		     enum davit_apply_mode mode, struct davit_error *err)
{
	struct davit_core *c = p->core;
	bool ns = spec->kind == DAVIT_KIND_NAMESPACE;
	int64_t revision, now = davit_loop_wall(c->loop);
	DAVIT_AUTO_FREE char *id = NULL;
	char *key = NULL;

	if ((ns ? asprintf(&id, "%s", spec->name) : asprintf(&id, "%s/%s", spec->namespace_, spec->name)) < 0)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (ns) {
		const struct namespace_record *n = davit_map_get(&c->namespaces, id);
		revision = n ? n->revision : 0;
	} else {
		const struct supervisor *s = davit_map_get(&c->supervisors, id);
		int r = check_supervisor(pr, spec, err);
		if (r < 0)
			return r;
		revision = s ? s->revision : 0;
	}
	if (!revision && mode == DAVIT_APPLY_UPDATE)
		return davit_error_set(err, DAVIT_ENOENT, "name", "%s '%s' not found",
				       ns ? "namespace" : "supervisor", spec->name);
	if (asprintf(&key, "%s/%s", ns ? "namespaces" : "supervisors", id) < 0)
		key = NULL;
	return pending_add(p, key, registry_record(spec, now, now, 0), true, revision, NULL, err);
}

int davit_core_apply(struct davit_core *c, struct davit_spec *const *specs, size_t n,
		     enum davit_apply_mode mode, bool force, const char *cause, struct davit_op *op,
		     struct davit_error *err)
{
	struct proposal pr = {c, specs, n};
	struct pending *p = pending_new(c, n, cause, op, err);
	int r = p ? 0 : DAVIT_ENOMEM;

	for (size_t k = 0; k < n && r == 0; k++) {
		for (size_t m = 0; m < k && r == 0 && n < 64; m++)
			if (specs[m]->kind == specs[k]->kind && same_service(specs[m], specs[k]))
				r = davit_error_set(err, DAVIT_EINVAL, "name", "'%s:%s' is given twice",
						    specs[k]->name, specs[k]->version);
		if (r == 0)
			r = specs[k]->kind == DAVIT_KIND_SERVICE ? add_service(p, &pr, specs[k], mode, force, err)
								 : add_other(p, &pr, specs[k], mode, err);
	}
	if (r < 0) {
		if (p)
			pending_free(p);
		return r;
	}
	if (mode == DAVIT_APPLY_VALIDATE) {
		pending_free(p);
		davit_op_complete(op, 0);
		return 0;
	}
	return commit(p);
}

/* --- changes of an existing service --- */

static int put_changed(struct davit_core *c, struct davit_service *s, struct davit_spec *spec,
		       const char *type, const char *cause, struct davit_op *op, struct davit_error *err)
{
	struct pending *p = pending_new(c, 1, cause, op, err);
	char *key = NULL;
	int r;

	if (!p)
		return DAVIT_ENOMEM;
	if (asprintf(&key, "services/%s", s->key) < 0)
		key = NULL;
	r = pending_add(p, key, registry_record(spec, s->created, davit_loop_wall(c->loop), s->nonce), true,
			s->revision, type, err);
	if (r < 0) {
		pending_free(p);
		return r;
	}
	return commit(p);
}

int davit_core_scale(struct davit_core *c, const struct davit_selector *sel, int64_t instances,
		     const char *cause, struct davit_op *op, struct davit_error *err)
{
	struct davit_service *s;
	struct davit_spec *spec;
	int r = davit_core_service(c, sel, &s, err);

	if (r < 0)
		return r;
	if (instances < 0 || instances > 10000)
		return davit_error_set(err, DAVIT_EINVAL, "instances", "%" PRId64 " is out of range: 0 to 10000",
				       instances);
	spec = davit_spec_dup(s->spec);
	if (!spec)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	spec->instances = instances;
	struct proposal pr = {c, &spec, 1};
	r = check_quota(&pr, spec, err);
	if (r == 0)
		r = check_ports(c, s, spec, err);
	if (r == 0)
		r = put_changed(c, s, spec, "scaled", cause, op, err);
	davit_spec_free(spec);
	return r;
}

int davit_core_control(struct davit_core *c, const struct davit_selector *sel, enum davit_service_verb verb,
		       const char *cause, struct davit_op *op, struct davit_error *err)
{
	struct davit_service *s;
	struct davit_spec *spec;
	bool stop = verb == DAVIT_SERVICE_STOP;
	int r = davit_core_service(c, sel, &s, err);

	if (r < 0)
		return r;
	if (s->spec->stopped == stop) {
		/* Nothing to record: act on what is there. */
		if (verb == DAVIT_SERVICE_RESTART) {
			core_event(c, "restarted", s, NULL, "%s", cause ? cause : "user");
			davit_supervise_restart(&s->node);
		} else if (verb == DAVIT_SERVICE_START) {
			s->failed_generation = 0;
			if (s->build_phase == BUILD_FAILED)
				s->build_phase = BUILD_NONE;
			davit_supervise_start(&s->node);
		}
		core_service_dirty(s);
		davit_op_complete(op, 0);
		return 0;
	}
	spec = davit_spec_dup(s->spec);
	if (!spec)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	spec->stopped = stop;
	r = put_changed(c, s, spec, stop ? "stopped" : "start", cause, op, err);
	davit_spec_free(spec);
	return r;
}

/* --- supervisors and namespaces --- */

int davit_core_remove(struct davit_core *c, enum davit_kind kind, const char *namespace_, const char *name,
		      const char *cause, struct davit_op *op, struct davit_error *err)
{
	bool ns = kind == DAVIT_KIND_NAMESPACE;
	DAVIT_AUTO_FREE char *id = NULL;
	struct pending *p;
	char *key = NULL;
	int64_t revision = 0;
	size_t pos = 0;
	void *v;
	int r;

	if ((ns ? asprintf(&id, "%s", name) : asprintf(&id, "%s/%s", namespace_, name)) < 0)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (ns) {
		const struct namespace_record *n = davit_map_get(&c->namespaces, id);
		revision = n ? n->revision : 0;
		while (n && davit_map_next(&c->services, &pos, NULL, &v))
			if (!strcmp(((struct davit_service *)v)->spec->namespace_, name))
				return davit_error_set(err, DAVIT_ESTATE, "name",
						       "namespace '%s' still has services", name);
	} else {
		const struct supervisor *s = davit_map_get(&c->supervisors, id);
		revision = s ? s->revision : 0;
	}
	if (!revision)
		return davit_error_set(err, DAVIT_ENOENT, "name", "%s '%s' not found",
				       ns ? "namespace" : "supervisor", name);
	p = pending_new(c, 1, cause, op, err);
	if (!p)
		return DAVIT_ENOMEM;
	if (asprintf(&key, "%s/%s", ns ? "namespaces" : "supervisors", id) < 0)
		key = NULL;
	r = pending_add(p, key, NULL, false, revision, NULL, err);
	if (r < 0) {
		pending_free(p);
		return r;
	}
	return commit(p);
}

/* --- kill --- */

struct gone_wait {
	struct davit_list list; /* in core->gone_waits */
	struct davit_core_listener listener;
	struct davit_op *op;
	struct davit_op committed;
	struct davit_core *core;
	struct davit_map keys; /* what is awaited; keys are borrowed from `names` */
	char **names;
	bool durable;
};

static void gone_wait_free(struct gone_wait *w)
{
	davit_core_unlisten(&w->listener);
	davit_list_remove(&w->list);
	davit_map_fini(&w->keys);
	for (size_t k = 0; w->names[k]; k++)
		free(w->names[k]);
	free(w->names);
	free(w);
}

static void gone_check(struct gone_wait *w)
{
	if (!w->durable || w->keys.len)
		return;
	davit_op_complete(w->op, 0);
	gone_wait_free(w);
}

static void on_service_gone(struct davit_core_listener *l, struct davit_service *s, bool gone)
{
	struct gone_wait *w = l->user;

	if (!gone)
		return;
	davit_map_remove(&w->keys, s->key);
	gone_check(w);
}

static void kill_committed(struct davit_op *op, int result)
{
	struct gone_wait *w = op->user;

	if (result < 0) {
		davit_op_fail_error(w->op, &op->error);
		gone_wait_free(w);
		return;
	}
	w->durable = true;
	if (!w->core) {
		davit_op_fail(w->op, DAVIT_ECLOSED, NULL, "the daemon ends");
		gone_wait_free(w);
		return;
	}
	gone_check(w);
}

struct collected {
	struct davit_service **v;
	size_t n, max;
};

static bool collect(void *user, struct davit_service *s)
{
	struct collected *l = user;

	if (!s->deleting && l->n < l->max)
		l->v[l->n++] = s;
	return true;
}

static struct gone_wait *gone_wait_new(struct davit_core *c, const struct collected *l, struct davit_op *op)
{
	struct gone_wait *w = calloc(1, sizeof *w);

	if (!w || !(w->names = calloc(l->n + 1, sizeof *w->names))) {
		free(w);
		return NULL;
	}
	w->core = c;
	w->op = op;
	for (size_t k = 0; k < l->n; k++) {
		w->names[k] = strdup(l->v[k]->key);
		if (w->names[k])
			davit_map_put(&w->keys, w->names[k], w);
	}
	w->listener = (struct davit_core_listener){.user = w, .service = on_service_gone};
	davit_core_listen(c, &w->listener);
	davit_list_add_tail(&c->gone_waits, &w->list);
	davit_op_init(&w->committed, c->loop, kill_committed, w);
	davit_op_begin(&w->committed, 0);
	return w;
}

int davit_core_kill(struct davit_core *c, const struct davit_selector *sel, bool wait_gone, const char *cause,
		    struct davit_op *op, struct davit_error *err)
{
	struct collected l = {.max = c->services.len};
	struct davit_service *one;
	struct gone_wait *w = NULL;
	struct pending *p;
	int r = 0;

	/* A name must be there; "everything in a namespace" may be nothing. */
	if (sel->name && sel->name[0]) {
		r = davit_core_service(c, sel, &one, err);
		if (r < 0)
			return r;
	}
	l.v = calloc(l.max ? l.max : 1, sizeof *l.v);
	if (!l.v)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	davit_core_services(c, sel, collect, &l);
	if (wait_gone && l.n && !(w = gone_wait_new(c, &l, op)))
		r = davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	p = r == 0 ? pending_new(c, l.n, cause, w ? &w->committed : op, err) : NULL;
	for (size_t k = 0; p && k < l.n && r == 0; k++) {
		char *key = NULL;
		if (asprintf(&key, "services/%s", l.v[k]->key) < 0)
			key = NULL;
		r = pending_add(p, key, NULL, false, l.v[k]->revision, "deleted", err);
	}
	free(l.v);
	if (r < 0 || !p) {
		if (p)
			pending_free(p);
		if (w)
			gone_wait_free(w);
		return err->code;
	}
	return commit(p);
}

/* --- signals --- */

struct signal_wait {
	struct davit_op op;
	struct davit_op *user;
};

static void signalled(struct davit_op *op, int result)
{
	struct signal_wait *w = op->user;

	if (result < 0)
		davit_op_fail_error(w->user, &op->error);
	else
		davit_op_complete(w->user, 0);
	free(w);
}

static void signal_ignored(struct davit_op *op, int result)
{
	(void)result; /* it ended meanwhile */
	free(op->user);
}

int davit_core_signal(struct davit_core *c, const struct davit_selector *sel, const char *instance, int signo,
		      struct davit_op *op, struct davit_error *err)
{
	struct davit_service *s;
	struct signal_wait *w = NULL;
	struct instance *target = NULL, *last = NULL;
	int r = davit_core_service(c, sel, &s, err);

	if (r < 0)
		return r;
	for (size_t k = 0; k < s->n_slots; k++) {
		struct instance *i = s->slots[k].current;
		if (!i || i->state != DAVIT_STATE_STARTED)
			continue;
		if (instance && instance[0] && strcmp(instance, i->workload.id))
			continue;
		if (!i->runtime->driver->signal)
			return davit_error_set(err, DAVIT_ENOTSUP, NULL, "runtime %s cannot send signals",
					       i->runtime->name);
		last = i;
	}
	if (!last)
		return davit_error_set(err, DAVIT_ESTATE, NULL, "no running instance of '%s'%s%s", s->spec->name,
				       instance && instance[0] ? " with id " : "",
				       instance && instance[0] ? instance : "");
	/* The answer is that of the last one; each gets it. */
	for (size_t k = 0; k < s->n_slots; k++) {
		target = s->slots[k].current;
		if (!target || target->state != DAVIT_STATE_STARTED ||
		    (instance && instance[0] && strcmp(instance, target->workload.id)))
			continue;
		w = calloc(1, sizeof *w);
		if (!w)
			return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
		w->user = op;
		davit_op_init(&w->op, c->loop, target == last ? signalled : signal_ignored, w);
		davit_op_begin(&w->op, 10 * DAVIT_NSEC_PER_SEC);
		target->runtime->driver->signal->send(target->inst, signo, &w->op);
	}
	return 0;
}

/* --- the end of everything --- */

void command_abandon(struct davit_core *c)
{
	struct pending *p;
	struct gone_wait *w, *tmp;

	while ((p = DAVIT_LIST_FIRST(&c->commands, struct pending, list))) {
		davit_list_remove(&p->list);
		davit_op_fail(p->op, DAVIT_ECLOSED, NULL, "the daemon ends");
		p->core = NULL;
		p->op = NULL;
	}
	DAVIT_LIST_FOREACH_SAFE (w, tmp, &c->gone_waits, list) {
		/* The others hear of their transaction, from the loop. */
		davit_core_unlisten(&w->listener);
		davit_list_remove(&w->list);
		w->core = NULL;
		if (!w->durable)
			continue;
		davit_op_fail(w->op, DAVIT_ECLOSED, NULL, "the daemon ends");
		gone_wait_free(w);
	}
}

void davit_core_stop_all(struct davit_core *c, struct davit_op *op)
{
	size_t pos = 0;
	void *v;

	c->stopping_all = true;
	c->stop_all_op = op;
	while (davit_map_next(&c->instances, &pos, NULL, &v)) {
		struct instance *i = v;
		struct davit_service *s = i->service;
		if (s) {
			for (size_t k = 0; k < s->n_slots; k++) {
				if (s->slots[k].current == i)
					s->slots[k].current = NULL;
				if (s->slots[k].next == i)
					s->slots[k].next = NULL;
			}
		}
		instance_set_goal(i, GOAL_GONE);
	}
	core_check_stopped(c);
}
