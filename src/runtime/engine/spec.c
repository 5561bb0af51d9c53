/* SPDX-License-Identifier: MIT */
#include "runtime/engine/spec.h"

#include "base/json.h"
#include "base/util.h"

#include <jansson.h>
#include <string.h>
#include <sys/resource.h>

#define LOG_SIZE (10 << 20)
#define LOG_FILES 3

static const struct {
	int resource;
	const char *name;
} limits[] = {
	{RLIMIT_AS, "as"},	     {RLIMIT_CORE, "core"},	    {RLIMIT_CPU, "cpu"},
	{RLIMIT_DATA, "data"},	     {RLIMIT_FSIZE, "fsize"},	    {RLIMIT_LOCKS, "locks"},
	{RLIMIT_MEMLOCK, "memlock"}, {RLIMIT_MSGQUEUE, "msgqueue"}, {RLIMIT_NICE, "nice"},
	{RLIMIT_NOFILE, "nofile"},   {RLIMIT_NPROC, "nproc"},	    {RLIMIT_RSS, "rss"},
	{RLIMIT_RTPRIO, "rtprio"},   {RLIMIT_RTTIME, "rttime"},	    {RLIMIT_SIGPENDING, "sigpending"},
	{RLIMIT_STACK, "stack"},
};

bool spec_is_utf8(const char *s)
{
	json_t *text = json_string(s);

	json_decref(text);
	return text;
}

void spec_name(struct davit_buf *out, const struct davit_workload *w)
{
	size_t from = out->len;

	davit_buf_addf(out, "davit-%s-%s-%u-%s", w->namespace_, w->name, w->index,
		       w->id + (DAVIT_ID_MAX - 1) / 2);
	for (size_t i = from; !out->oom && i < out->len; i++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-",
			    out->data[i]))
			out->data[i] = '_';
}

static void put_labels(struct davit_json *j, const struct davit_workload *w, const struct spec_context *c)
{
	davit_json_key(j, "Labels");
	davit_json_open(j);
	davit_json_put_string(j, "davit.home", c->home);
	davit_json_put_string(j, "davit.id", w->id);
	davit_json_put_string(j, "davit.label", w->label ? w->label : "");
	davit_json_put_string(j, "davit.namespace", w->namespace_);
	davit_json_put_string(j, "davit.service", w->name);
	davit_json_put_string(j, "davit.version", w->version ? w->version : "");
	davit_json_close(j);
}

/* --- ports --- */

static bool shares_host_network(const struct davit_workload *w)
{
	return w->network && !strcmp(w->network, "host");
}

static void port_key(struct davit_json *j, const struct davit_port *p)
{
	DAVIT_AUTO_BUF key = DAVIT_BUF_INIT;

	davit_buf_addf(&key, "%u/%s", p->container ? p->container : p->host, p->udp ? "udp" : "tcp");
	davit_json_key(j, davit_buf_str(&key));
}

static bool same_inside(const struct davit_port *a, const struct davit_port *b)
{
	return (a->container ? a->container : a->host) == (b->container ? b->container : b->host) &&
	       a->udp == b->udp;
}

/* One port inside may have several outside: one key each. */
static bool is_first(const struct davit_workload *w, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (same_inside(&w->ports[k], &w->ports[i]))
			return false;
	return true;
}

static void put_exposed(struct davit_json *j, const struct davit_workload *w)
{
	davit_json_key(j, "ExposedPorts");
	davit_json_open(j);
	for (size_t i = 0; i < w->n_ports; i++)
		if (is_first(w, i)) {
			port_key(j, &w->ports[i]);
			davit_json_open(j);
			davit_json_close(j);
		}
	davit_json_close(j);
}

static void put_bindings(struct davit_json *j, const struct davit_workload *w)
{
	char number[8];

	davit_json_key(j, "PortBindings");
	davit_json_open(j);
	for (size_t i = 0; i < w->n_ports; i++) {
		if (!is_first(w, i))
			continue;
		port_key(j, &w->ports[i]);
		davit_json_open_array(j);
		for (size_t k = i; k < w->n_ports; k++) {
			const struct davit_port *p = &w->ports[k];
			if (!same_inside(p, &w->ports[i]))
				continue;
			snprintf(number, sizeof number, "%u", p->host);
			davit_json_open(j);
			davit_json_put_string(j, "HostIp", *p->bind ? p->bind : "127.0.0.1");
			davit_json_put_string(j, "HostPort", number);
			davit_json_close(j);
		}
		davit_json_close_array(j);
	}
	davit_json_close(j);
}

/* --- mounts --- */

static void put_mount(struct davit_json *j, const char *type, const char *source, const char *target,
		      bool read_only)
{
	davit_json_open(j);
	davit_json_put_string(j, "Type", type);
	if (source)
		davit_json_put_string(j, "Source", source);
	davit_json_put_string(j, "Target", target);
	davit_json_put_bool(j, "ReadOnly", read_only);
}

static void put_mounts(struct davit_json *j, const struct davit_workload *w)
{
	static const char *const types[] = {
		[DAVIT_MOUNT_BIND] = "bind", [DAVIT_MOUNT_VOLUME] = "volume", [DAVIT_MOUNT_TMPFS] = "tmpfs"};

	davit_json_key(j, "Mounts");
	davit_json_open_array(j);
	for (size_t i = 0; i < w->n_mounts; i++) {
		const struct davit_mount *m = &w->mounts[i];
		put_mount(j, types[m->type], m->source, m->target, m->read_only);
		if (m->type == DAVIT_MOUNT_TMPFS && m->size) {
			davit_json_key(j, "TmpfsOptions");
			davit_json_open(j);
			davit_json_put_int(j, "SizeBytes", (int64_t)m->size);
			davit_json_close(j);
		}
		davit_json_close(j);
	}
	if (w->secrets_directory) {
		put_mount(j, "bind", w->secrets_directory, w->secrets_directory, true);
		davit_json_close(j);
	}
	davit_json_close_array(j);
}

/* --- limits --- */

static int64_t number_of(uint64_t limit)
{
	return limit > INT64_MAX ? -1 : (int64_t)limit;
}

static void put_limit(struct davit_json *j, const char *name, uint64_t soft, uint64_t hard)
{
	davit_json_open(j);
	davit_json_put_string(j, "Name", name);
	davit_json_put_int(j, "Soft", number_of(soft));
	davit_json_put_int(j, "Hard", number_of(hard));
	davit_json_close(j);
}

static const struct davit_rlimit *asked(const struct davit_workload *w, int resource)
{
	for (size_t i = 0; i < w->n_rlimits; i++)
		if (w->rlimits[i].resource == resource)
			return &w->rlimits[i];
	return NULL;
}

static void put_limits(struct davit_json *j, const struct davit_workload *w, const struct spec_context *c)
{
	struct rlimit own;

	davit_json_key(j, "Ulimits");
	davit_json_open_array(j);
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(limits); i++) {
		const struct davit_rlimit *r = asked(w, limits[i].resource);
		if (r)
			put_limit(j, limits[i].name, r->soft, r->hard);
		else if (c->flavour->limits_always &&
			 (limits[i].resource == RLIMIT_NOFILE || limits[i].resource == RLIMIT_NPROC) &&
			 getrlimit((__rlimit_resource_t)limits[i].resource, &own) == 0)
			put_limit(j, limits[i].name, own.rlim_cur, own.rlim_max);
	}
	davit_json_close_array(j);
	if (w->memory) {
		davit_json_put_int(j, "Memory", (int64_t)w->memory);
		/* Else as much again could be swapped out. */
		if (c->swap_limit)
			davit_json_put_int(j, "MemorySwap", (int64_t)w->memory);
	}
	if (w->cpu_millicores)
		davit_json_put_int(j, "NanoCpus", w->cpu_millicores * INT64_C(1000000));
	if (w->pids)
		davit_json_put_int(j, "PidsLimit", w->pids);
}

static void put_log(struct davit_json *j, const struct davit_workload *w, const struct spec_context *c)
{
	uint64_t size = w->log.max_size ? w->log.max_size : LOG_SIZE;
	uint32_t files = w->log.max_files ? w->log.max_files : LOG_FILES;
	char text[24];

	davit_json_key(j, "LogConfig");
	davit_json_open(j);
	davit_json_put_string(j, "Type", c->flavour->log_driver);
	davit_json_key(j, "Config");
	davit_json_open(j);
	snprintf(text, sizeof text, "%llu", (unsigned long long)size);
	davit_json_put_string(j, "max-size", text);
	if (c->log_path) {
		davit_json_put_string(j, "path", c->log_path);
	} else {
		snprintf(text, sizeof text, "%u", files);
		davit_json_put_string(j, "max-file", text);
	}
	davit_json_close(j);
	davit_json_close(j);
}

static void put_host(struct davit_json *j, const struct davit_workload *w, const struct spec_context *c)
{
	davit_json_key(j, "HostConfig");
	davit_json_open(j);
	davit_json_put_bool(j, "Init", c->init);
	davit_json_put_bool(j, "AutoRemove", false);
	davit_json_key(j, "RestartPolicy");
	davit_json_open(j);
	davit_json_put_string(j, "Name", "no");
	davit_json_close(j);
	if (w->network)
		davit_json_put_string(j, "NetworkMode", w->network);
	if (!shares_host_network(w))
		put_bindings(j, w);
	put_mounts(j, w);
	put_limits(j, w, c);
	put_log(j, w, c);
	davit_json_put_bool(j, "ReadonlyRootfs", w->read_only_root);
	if (w->cap_add)
		davit_json_put_strv(j, "CapAdd", w->cap_add);
	if (w->cap_drop)
		davit_json_put_strv(j, "CapDrop", w->cap_drop);
	if (w->dns)
		davit_json_put_strv(j, "Dns", w->dns);
	if (w->no_new_privileges)
		davit_json_put_strv(j, "SecurityOpt", (char *const[]){(char *)"no-new-privileges", NULL});
	davit_json_close(j);
}

void spec_write(struct davit_buf *out, const struct davit_workload *w, const struct spec_context *c)
{
	struct davit_json j = DAVIT_JSON_INIT(out);

	davit_json_open(&j);
	davit_json_put_string(&j, "Image", w->image);
	if (w->argv && w->argv[0])
		davit_json_put_strv(&j, "Cmd", w->argv);
	if (w->entrypoint)
		davit_json_put_strv(&j, "Entrypoint", w->entrypoint);
	davit_json_put_strv(&j, "Env", w->env);
	if (w->directory)
		davit_json_put_string(&j, "WorkingDir", w->directory);
	if (w->user)
		davit_json_put_string(&j, "User", w->user);
	put_labels(&j, w, c);
	if (!shares_host_network(w))
		put_exposed(&j, w);
	put_host(&j, w, c);
	davit_json_close(&j);
}
