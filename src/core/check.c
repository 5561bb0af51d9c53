/* SPDX-License-Identifier: MIT */
#include "core/check.h"

#include "base/nearest.h"
#include "base/units.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int refuse_capability(const struct core_runtime *r, enum davit_capability cap, const char *key,
			     struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOTSUP, key, "%s: runtime %s does not support %s: %s", key,
			       r->name, davit_capability_name(cap), r->caps.why_not[cap]);
}

/* What items of the spec's lists ask for. */
struct asked {
	bool mount[4];		 /* by enum davit_mount_type */
	const char *config_path; /* a config is wanted there, or NULL */
	bool mapping;
	bool command;
};

static struct asked asked_of(const struct davit_spec *spec)
{
	struct asked a = {0};

	for (size_t k = 0; k < spec->n_volumes; k++) {
		const struct davit_volume *v = &spec->volumes[k];
		a.mount[v->type] = true;
		if (v->type == DAVIT_MOUNT_CONFIG && *v->target == '/')
			a.config_path = v->target;
	}
	for (size_t k = 0; k < spec->n_ports; k++)
		a.mapping |= spec->ports[k].container && spec->ports[k].host &&
			     spec->ports[k].container != spec->ports[k].host;
	for (size_t k = 0; k < spec->n_health; k++)
		a.command |= spec->health[k].type == DAVIT_HEALTH_COMMAND;
	return a;
}

/* A runtime that can be asked for something now. */
static int find_open(struct davit_core *c, const char *name, const struct core_runtime **ret,
		     struct davit_error *err)
{
	struct core_runtime *r = core_runtime_find(c, name);

	if (!r) {
		const char *names[32];
		const struct core_runtime *k;
		size_t n = 0;
		DAVIT_LIST_FOREACH (k, &c->runtimes, list)
			if (n < DAVIT_ARRAY_SIZE(names))
				names[n++] = k->name;
		const char *near = davit_nearest(name, names, n);
		return davit_error_set(err, DAVIT_ENOENT, "runtime", "there is no runtime '%s'%s%s%s", name,
				       near ? "; did you mean '" : "; see davit runtimes", near ? near : "",
				       near ? "'?" : "");
	}
	/* What it can do is not known, or it cannot be asked. */
	if (r->phase != RUNTIME_OPEN) {
		core_runtime_wanted(r);
		return davit_error_set(err, DAVIT_EUNAVAIL, "runtime", "runtime %s %s: %s", name,
				       r->phase == RUNTIME_LOST ? "does not answer" : "is not available",
				       r->error.message[0] ? r->error.message : "it is being opened");
	}
	*ret = r;
	return 0;
}

const struct davit_capabilities *davit_core_capabilities(struct davit_core *c, const char *runtime,
							 struct davit_error *err)
{
	const struct core_runtime *r;

	return find_open(c, runtime, &r, err) < 0 ? NULL : &r->caps;
}

int command_check_capabilities(struct davit_core *c, const struct davit_spec *spec, struct davit_error *err)
{
	const char *name = spec->runtime ? spec->runtime : c->config.default_runtime;
	const struct asked asked = asked_of(spec);
	const struct core_runtime *r;
	int code;
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
		{asked.mount[DAVIT_MOUNT_BIND], DAVIT_CAP_VOLUMES, "volumes"},
		{asked.mount[DAVIT_MOUNT_VOLUME], DAVIT_CAP_NAMED_VOLUMES, "volumes"},
		{asked.mount[DAVIT_MOUNT_TMPFS], DAVIT_CAP_TMPFS, "volumes"},
		{asked.mount[DAVIT_MOUNT_CONFIG], DAVIT_CAP_VOLUMES, "volumes"},
		{spec->image && spec->source, DAVIT_CAP_VOLUMES, "source"},
		{spec->n_ports, DAVIT_CAP_PORTS, "ports"},
		{asked.mapping, DAVIT_CAP_PORT_MAPPING, "ports"},
		{spec->network, DAVIT_CAP_NETWORKS, "network"},
		{spec->dns, DAVIT_CAP_DNS, "dns"},
		{spec->read_only_root, DAVIT_CAP_READ_ONLY_ROOT, "readOnlyRootFilesystem"},
		{spec->cap_add, DAVIT_CAP_LINUX_CAPABILITIES, "capabilities.add"},
		{spec->cap_drop, DAVIT_CAP_LINUX_CAPABILITIES, "capabilities.drop"},
		{asked.command, DAVIT_CAP_EXEC, "health"},
		{spec->n_secrets, DAVIT_CAP_SECRETS, "secrets"},
		{spec->service_account, DAVIT_CAP_SERVICE_ACCOUNT, "serviceAccount"},
		{spec->ready == DAVIT_READY_TYPE_NOTIFY, DAVIT_CAP_NOTIFY, "ready.type"},
		{spec->ready == DAVIT_READY_TYPE_FD, DAVIT_CAP_READY_FD, "ready.type"},
		{spec->ready == DAVIT_READY_TYPE_LOG, DAVIT_CAP_LOGS, "ready.type"},
	};

	code = find_open(c, name, &r, err);
	if (code < 0)
		return code;
	if (r->driver->needs_image && !spec->image && !build_may_name_image(spec))
		return davit_error_set(err, DAVIT_EINVAL, "image", "runtime %s needs an image", name);
	for (size_t k = 0; k < DAVIT_ARRAY_SIZE(needs); k++)
		if (needs[k].asked && !davit_can(&r->caps, needs[k].cap))
			return refuse_capability(r, needs[k].cap, needs[k].key, err);
	/* As a volume by name it needs a file system of the workload's own. */
	if (asked.config_path && !davit_can(&r->caps, DAVIT_CAP_NAMED_VOLUMES))
		return davit_error_set(
			err, DAVIT_ENOTSUP, "volumes",
			"volumes: a config cannot appear as %s on runtime %s: %s; with a name as "
			"its target it is in $CONFIG_DIRECTORY",
			asked.config_path, name, r->caps.why_not[DAVIT_CAP_NAMED_VOLUMES]);
	return 0;
}

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

bool same_service(const struct davit_spec *a, const struct davit_spec *b)
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

int check_supervisor(const struct proposal *p, const struct davit_spec *spec, struct davit_error *err)
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
			return davit_error_set(err, DAVIT_ENOENT, "supervisor",
					       "there is no supervisor '%s' in namespace %s", at->supervisor,
					       at->namespace_);
		if (depth > 32 || up == spec)
			return davit_error_set(err, DAVIT_EINVAL, "supervisor",
					       "supervisor '%s' stands below itself", up->name);
		at = up;
	}
	return 0;
}

int check_quota(const struct proposal *p, const struct davit_spec *spec, struct davit_error *err)
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
			return davit_error_set(
				err, DAVIT_EQUOTA, "resources.memory",
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

static const char *runtime_of(const struct davit_core *c, const struct davit_spec *spec)
{
	return spec->runtime ? spec->runtime : c->config.default_runtime;
}

static bool is_any(const char *bind)
{
	return !strcmp(bind, "0.0.0.0") || !strcmp(bind, "::");
}

/* What no address is given for is bound to this one. */
static const char *address_of(const struct davit_port *p)
{
	return p->bind[0] ? p->bind : "127.0.0.1";
}

/* The spec wants that port of the host, too, and is to run on the same runtime. */
static bool wants_port(const struct davit_core *c, const struct davit_spec *spec, const char *runtime,
		       const struct davit_port *port)
{
	if (!spec->n_ports || !spec->instances || spec->stopped || strcmp(runtime_of(c, spec), runtime) != 0)
		return false;
	for (size_t k = 0; k < spec->n_ports; k++) {
		const struct davit_port *p = &spec->ports[k];
		if (p->host == port->host && p->udp == port->udp &&
		    (is_any(p->bind) || is_any(port->bind) || !strcmp(address_of(p), address_of(port))))
			return true;
	}
	return false;
}

/* Another service that wants the port, as it is to be when the proposal is taken; or NULL. Whether it listens
 * by now says little: it may be about to. */
static const struct davit_spec *port_owner(const struct proposal *p, const struct davit_spec *spec,
					   const struct davit_port *port)
{
	const char *runtime = runtime_of(p->c, spec);
	size_t pos = 0, k;
	void *v;

	for (k = 0; k < p->n; k++)
		if (p->specs[k]->kind == DAVIT_KIND_SERVICE && !same_service(p->specs[k], spec) &&
		    wants_port(p->c, p->specs[k], runtime, port))
			return p->specs[k];
	while (davit_map_next(&p->c->services, &pos, NULL, &v)) {
		const struct davit_service *other = v;
		if (other->deleting || same_service(other->spec, spec) ||
		    !wants_port(p->c, other->spec, runtime, port))
			continue;
		for (k = 0; k < p->n && !same_service(p->specs[k], other->spec); k++)
			;
		if (k == p->n)
			return other->spec;
	}
	return NULL;
}

/* A fixed host port that somebody else has is refused before anything starts. */
int check_ports(const struct proposal *p, const struct davit_service *s, const struct davit_spec *spec,
		struct davit_error *err)
{
	struct davit_core *c = p->c;
	const char *name = runtime_of(c, spec);
	const struct core_runtime *r = core_runtime_find(c, name);
	const struct davit_spec *owner;

	if (!r || r->phase != RUNTIME_OPEN || !r->driver->ports || !spec->instances || spec->stopped)
		return 0;
	for (size_t k = 0; k < spec->n_ports; k++) {
		struct davit_port port = spec->ports[k];
		bool ours = false;
		int code;
		if (!port.host)
			continue;
		if (spec->instances > 1)
			return davit_error_set(
				err, DAVIT_EINVAL, "ports",
				"%" PRId64 " instances cannot share host port %u; leave the host port out",
				spec->instances, port.host);
		for (size_t n = 0; s && n < s->spec->n_ports; n++)
			ours |= s->spec->ports[n].host == port.host;
		if (ours)
			continue;
		owner = port_owner(p, spec, &port);
		if (owner)
			return davit_error_set(err, DAVIT_EINUSE, "ports",
					       "port %u is already in use by service '%s:%s'", port.host,
					       owner->name, owner->version);
		code = r->driver->ports->resolve(r->rt, &port, 1, err);
		if (code < 0)
			return code;
	}
	return 0;
}

static int check_probes(struct davit_core *c, const struct davit_spec *spec, struct davit_error *err)
{
	for (size_t k = 0; k < spec->n_health && !c->config.probes; k++)
		if (spec->health[k].type != DAVIT_HEALTH_COMMAND)
			return davit_error_set(
				err, DAVIT_ENOTSUP, "health",
				"this daemon looks at nothing from outside: use checks of type command");
	return 0;
}

int check_service(const struct proposal *p, const struct davit_spec *spec, struct davit_error *err)
{
	struct davit_map visited = {0};
	int r = command_check_capabilities(p->c, spec, err);

	if (r == 0)
		r = egress_check_service(p->c, spec, err);
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
	if (r == 0)
		r = check_probes(p->c, spec, err);
	return r;
}
