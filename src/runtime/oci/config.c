/* SPDX-License-Identifier: MIT
 *
 * config.json, by the OCI runtime specification 1.0.2.
 */
#include "runtime/oci/impl.h"

#include "base/file.h"
#include "base/strv.h"
#include "local/egress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

/* --- process --- */

/* Whether JSON can carry it: well-formed UTF-8 without control characters that
 * parsers disagree on. */
static bool is_plain(const char *s)
{
	const unsigned char *p = (const unsigned char *)s;

	while (*p) {
		unsigned more = *p < 0x80		  ? 0
				: *p >= 0xc2 && *p < 0xe0 ? 1
				: *p >= 0xe0 && *p < 0xf0 ? 2
				: *p >= 0xf0 && *p < 0xf5 ? 3
							  : 9;
		unsigned char lead = *p++;

		if (more == 9 || (more && (*p & 0xc0) != 0x80))
			return false;
		/* Too long forms, surrogates, beyond the last one. */
		if ((lead == 0xe0 && *p < 0xa0) || (lead == 0xed && *p >= 0xa0) ||
		    (lead == 0xf0 && *p < 0x90) || (lead == 0xf4 && *p >= 0x90))
			return false;
		while (more--)
			if ((*p++ & 0xc0) != 0x80)
				return false;
	}
	return true;
}

static bool all_plain(char *const *v)
{
	for (; v && *v; v++)
		if (!is_plain(*v))
			return false;
	return true;
}

/* As davit-init's -e undoes it. */
static void string_escaped(struct davit_json *j, const char *s)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;

	for (; *s; s++)
		if ((unsigned char)*s >= 0x80 || *s == '%')
			davit_buf_addf(&text, "%%%02x", (unsigned char)*s);
		else
			davit_buf_addc(&text, *s);
	if (text.oom)
		j->out->oom = true;
	davit_json_string(j, davit_buf_str(&text));
}

static void write_args(struct davit_json *j, const struct oci_config *c, bool command, bool escaped)
{
	const struct davit_workload *w = c->workload;
	char number[16];

	davit_json_open_array(j);
	if (!command || escaped) {
		davit_json_string(j, "/dev/davit/init");
		davit_json_string(j, command ? "-n" : "-x");
		if (!command)
			davit_json_string(j, "/dev/davit/exit");
		if (!command && c->slirp) {
			davit_json_string(j, "-w");
			davit_json_string(j, "/dev/davit/net");
		}
		if (escaped)
			davit_json_string(j, "-e");
		if (!command && w->ready == DAVIT_READY_FD) {
			snprintf(number, sizeof number, "%d", w->ready_fd);
			davit_json_string(j, "-f");
			davit_json_string(j, number);
		}
		for (size_t i = 0; escaped && c->env && c->env[i]; i++) {
			davit_json_string(j, "-s");
			string_escaped(j, c->env[i]);
		}
		davit_json_string(j, "--");
	}
	for (size_t i = 0; c->argv[i]; i++)
		if (escaped)
			string_escaped(j, c->argv[i]);
		else
			davit_json_string(j, c->argv[i]);
	davit_json_close_array(j);
}

static void write_env(struct davit_json *j, const struct oci_config *c, bool escaped)
{
	davit_json_open_array(j);
	for (size_t i = 0; !escaped && c->env && c->env[i]; i++)
		davit_json_string(j, c->env[i]);
	if (c->workload->ready == DAVIT_READY_NOTIFY)
		davit_json_string(j, "NOTIFY_SOCKET=/dev/davit/notify");
	davit_json_close_array(j);
}

static const char *const rlimit_names[] = {
	[RLIMIT_AS] = "RLIMIT_AS",
	[RLIMIT_CORE] = "RLIMIT_CORE",
	[RLIMIT_CPU] = "RLIMIT_CPU",
	[RLIMIT_DATA] = "RLIMIT_DATA",
	[RLIMIT_FSIZE] = "RLIMIT_FSIZE",
	[RLIMIT_LOCKS] = "RLIMIT_LOCKS",
	[RLIMIT_MEMLOCK] = "RLIMIT_MEMLOCK",
	[RLIMIT_MSGQUEUE] = "RLIMIT_MSGQUEUE",
	[RLIMIT_NICE] = "RLIMIT_NICE",
	[RLIMIT_NOFILE] = "RLIMIT_NOFILE",
	[RLIMIT_NPROC] = "RLIMIT_NPROC",
	[RLIMIT_RSS] = "RLIMIT_RSS",
	[RLIMIT_RTPRIO] = "RLIMIT_RTPRIO",
	[RLIMIT_RTTIME] = "RLIMIT_RTTIME",
	[RLIMIT_SIGPENDING] = "RLIMIT_SIGPENDING",
	[RLIMIT_STACK] = "RLIMIT_STACK",
};

static void put_limit(struct davit_json *j, const char *key, uint64_t v)
{
	char text[32];

	snprintf(text, sizeof text, "%" PRIu64, v); /* unlimited is above what an int64_t holds */
	davit_json_key(j, key);
	davit_json_raw(j, text);
}

static void write_rlimits(struct davit_json *j, const struct davit_workload *w)
{
	davit_json_open_array(j);
	for (size_t i = 0; i < w->n_rlimits; i++) {
		const struct davit_rlimit *l = &w->rlimits[i];

		if (l->resource < 0 || (size_t)l->resource >= DAVIT_ARRAY_SIZE(rlimit_names))
			continue;
		davit_json_open(j);
		davit_json_put_string(j, "type", rlimit_names[l->resource]);
		put_limit(j, "hard", l->hard);
		put_limit(j, "soft", l->soft);
		davit_json_close(j);
	}
	davit_json_close_array(j);
}

static void write_user(struct davit_json *j, const struct oci_config *c)
{
	davit_json_open(j);
	davit_json_put_int(j, "uid", c->user.uid);
	davit_json_put_int(j, "gid", c->user.gid);
	davit_json_put_int(j, "umask", (int64_t)c->workload->umask);
	davit_json_key(j, "additionalGids");
	davit_json_open_array(j);
	for (size_t i = 0; i < c->user.n_groups && !c->place->uid; i++)
		davit_json_int(j, c->user.groups[i]);
	davit_json_close_array(j);
	davit_json_close(j);
}

static uint64_t capabilities_of(const struct oci_config *c)
{
	const struct davit_workload *w = c->workload;

	return oci_capability_set(c->place->capabilities, w->n_egress > 0, w->cap_add, w->cap_drop);
}

void oci_config_process(struct davit_json *j, const struct oci_config *c, bool command, bool terminal)
{
	const struct davit_workload *w = c->workload;
	bool escaped = !all_plain(c->argv) || !all_plain(c->env);

	davit_json_open(j);
	davit_json_put_bool(j, "terminal", terminal);
	davit_json_key(j, "user");
	write_user(j, c);
	davit_json_key(j, "args");
	write_args(j, c, command, escaped);
	davit_json_key(j, "env");
	write_env(j, c, escaped);
	davit_json_put_string(j, "cwd", c->directory);
	davit_json_key(j, "capabilities");
	oci_capabilities_write(j, capabilities_of(c));
	davit_json_key(j, "rlimits");
	write_rlimits(j, w);
	davit_json_put_bool(j, "noNewPrivileges", w->no_new_privileges);
	davit_json_close(j);
}

/* --- mounts --- */

/* options: separated by commas, as mount(8) has them. */
static void add_mount(struct davit_json *j, const char *target, const char *type, const char *source,
		      const char *options)
{
	davit_json_open(j);
	davit_json_put_string(j, "destination", target);
	davit_json_put_string(j, "type", type);
	davit_json_put_string(j, "source", source);
	davit_json_key(j, "options");
	davit_json_open_array(j);
	while (*options) {
		size_t n = strcspn(options, ",");

		davit_json_stringn(j, options, n);
		options += n + (options[n] == ',');
	}
	davit_json_close_array(j);
	davit_json_close(j);
}

static void bind_mount(struct davit_json *j, const char *target, const char *source, const char *options)
{
	add_mount(j, target, "bind", source, options);
}

static void write_system_mounts(struct davit_json *j, const struct oci_config *c)
{
	bool rootless = c->place->uid != 0;

	add_mount(j, "/proc", "proc", "proc", "nosuid,noexec,nodev");
	add_mount(j, "/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k");
	add_mount(j, "/dev/pts", "devpts", "devpts",
		  rootless ? "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620"
			   : "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5");
	add_mount(j, "/dev/shm", "tmpfs", "shm", "nosuid,noexec,nodev,mode=1777,size=65536k");
	add_mount(j, "/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev");
	/* A user who is not root of the network namespace may not mount a sysfs. */
	if (rootless && !c->network)
		bind_mount(j, "/sys", "/sys", "rbind,nosuid,noexec,nodev,ro");
	else
		add_mount(j, "/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro");
}

/* In /dev, which is a file system of the container's own: the image's stays as it is. */
static void write_own_mounts(struct davit_json *j, const struct oci_config *c)
{
	static const char *const files[] = {"hosts", "hostname", "resolv.conf"};
	DAVIT_AUTO_FREE char *exit = davit_path_join(c->bundle, "exit");
	DAVIT_AUTO_FREE char *fifo = davit_path_join(c->bundle, "net");

	if (!exit || !fifo) {
		j->out->oom = true;
		return;
	}
	bind_mount(j, "/dev/davit/init", c->place->init, "bind,ro,nosuid,nodev");
	bind_mount(j, "/dev/davit/exit", exit, "bind,nosuid,nodev,noexec");
	if (c->slirp)
		bind_mount(j, "/dev/davit/net", fifo, "bind,nosuid,nodev,noexec");
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(files); i++) {
		DAVIT_AUTO_FREE char *source = davit_path_join(c->bundle, files[i]);
		char target[32];

		snprintf(target, sizeof target, "/etc/%s", files[i]);
		if (!source)
			j->out->oom = true;
		else
			bind_mount(j, target, source, "bind,nosuid,nodev,noexec");
	}
	if (c->workload->ready == DAVIT_READY_NOTIFY) {
		DAVIT_AUTO_BUF socket = DAVIT_BUF_INIT;

		davit_buf_addf(&socket, "%s/notify/%s", c->place->run_dir, c->workload->id);
		bind_mount(j, "/dev/davit/notify", davit_buf_str(&socket), "bind,nosuid,nodev,noexec");
	}
	if (c->workload->secrets_directory)
		bind_mount(j, c->workload->secrets_directory, c->workload->secrets_directory,
			   "bind,ro,nosuid,nodev,noexec");
}

static void write_mounts(struct davit_json *j, const struct oci_config *c)
{
	const struct davit_workload *w = c->workload;

	davit_json_open_array(j);
	write_system_mounts(j, c);
	write_own_mounts(j, c);
	for (size_t i = 0; i < w->n_mounts; i++) {
		const struct davit_mount *m = &w->mounts[i];
		DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;

		switch (m->type) {
		case DAVIT_MOUNT_BIND:
			bind_mount(j, m->target, m->source,
				   m->read_only ? "rbind,rprivate,ro" : "rbind,rprivate");
			break;
		case DAVIT_MOUNT_VOLUME:
			davit_buf_addf(&text, "%s/%s/data", c->place->volumes, m->source);
			bind_mount(j, m->target, davit_buf_str(&text),
				   m->read_only ? "bind,rprivate,nodev,ro" : "bind,rprivate,nodev");
			break;
		case DAVIT_MOUNT_TMPFS:
			davit_buf_adds(&text, "nosuid,nodev,mode=1777");
			if (m->size)
				davit_buf_addf(&text, ",size=%" PRIu64, m->size);
			if (m->read_only)
				davit_buf_adds(&text, ",ro");
			add_mount(j, m->target, "tmpfs", "tmpfs", davit_buf_str(&text));
			break;
		case DAVIT_MOUNT_CONFIG: /* the core makes a BIND of it */
			break;
		}
	}
	davit_json_close_array(j);
}

/* --- linux --- */

static void write_strings(struct davit_json *j, const char *key, const char *const *v, size_t n)
{
	davit_json_key(j, key);
	davit_json_open_array(j);
	for (size_t i = 0; i < n; i++)
		davit_json_string(j, v[i]);
	davit_json_close_array(j);
}

static void write_namespaces(struct davit_json *j, const struct oci_config *c)
{
	static const char *const always[] = {"pid", "ipc", "uts", "mount", "cgroup"};

	davit_json_open_array(j);
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(always); i++) {
		davit_json_open(j);
		davit_json_put_string(j, "type", always[i]);
		davit_json_close(j);
	}
	if (c->place->uid) {
		davit_json_open(j);
		davit_json_put_string(j, "type", "user");
		davit_json_close(j);
	}
	if (c->network) {
		davit_json_open(j);
		davit_json_put_string(j, "type", "network");
		if (*c->network)
			davit_json_put_string(j, "path", c->network);
		davit_json_close(j);
	}
	davit_json_close_array(j);
}

static void write_mapping(struct davit_json *j, const char *key, unsigned host)
{
	davit_json_key(j, key);
	davit_json_open_array(j);
	davit_json_open(j);
	davit_json_put_int(j, "containerID", 0);
	davit_json_put_int(j, "hostID", host);
	davit_json_put_int(j, "size", 1);
	davit_json_close(j);
	davit_json_close_array(j);
}

/* Limits are the groups' that davit makes. Of devices, only those that the
 * runtime itself gives. */
static void write_resources(struct davit_json *j)
{
	davit_json_key(j, "resources");
	davit_json_open(j);
	davit_json_key(j, "devices");
	davit_json_open_array(j);
	davit_json_open(j);
	davit_json_put_bool(j, "allow", false);
	davit_json_put_string(j, "access", "rwm");
	davit_json_close(j);
	davit_json_close_array(j);
	davit_json_close(j);
}

static const char *groups_of(const struct oci_config *c)
{
	const struct davit_workload *w = c->workload;
	bool limited = w->memory || w->cpu_millicores || w->pids;

	return limited && c->place->cgroup_limits ? c->place->cgroup_limits : c->place->cgroup;
}

static void write_linux(struct davit_json *j, const struct oci_config *c)
{
	static const char *const masked[] = {
		"/proc/asound",	    "/proc/acpi",	 "/proc/interrupts",
		"/proc/kcore",	    "/proc/keys",	 "/proc/latency_stats",
		"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
		"/proc/scsi",	    "/sys/firmware",	 "/sys/devices/virtual/powercap"};
	static const char *const readonly[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
					       "/proc/sysrq-trigger"};
	const struct oci_place *pl = c->place;

	davit_json_open(j);
	davit_json_key(j, "namespaces");
	write_namespaces(j, c);
	if (pl->uid) {
		write_mapping(j, "uidMappings", pl->uid);
		write_mapping(j, "gidMappings", pl->gid);
	}
	write_strings(j, "maskedPaths", masked, DAVIT_ARRAY_SIZE(masked));
	write_strings(j, "readonlyPaths", readonly, DAVIT_ARRAY_SIZE(readonly));
	davit_json_key(j, "seccomp");
	oci_seccomp_write(j, capabilities_of(c));
	if (pl->cgroup) {
		DAVIT_AUTO_BUF path = DAVIT_BUF_INIT;

		davit_buf_addf(&path, "%s/%s", groups_of(c), c->workload->id);
		davit_json_put_string(j, "cgroupsPath", davit_buf_str(&path));
		write_resources(j);
	}
	davit_json_close(j);
}

/* The network of a container without root is brought up by a hook (slirp.c). */
static void write_hooks(struct davit_json *j, const struct oci_config *c)
{
	const struct davit_workload *w = c->workload;
	DAVIT_AUTO_FREE char *socket = davit_path_join(c->bundle, "slirp");
	DAVIT_AUTO_FREE char *fifo = davit_path_join(c->bundle, "net");
	DAVIT_AUTO_FREE char *rules = davit_path_join(c->bundle, "egress");
	const char *nft = local_nft_program();
	char number[16];

	if (!socket || !fifo || !rules)
		j->out->oom = true;
	davit_json_open(j);
	davit_json_key(j, "poststart");
	davit_json_open_array(j);
	davit_json_open(j);
	davit_json_put_string(j, "path", c->place->slirp_hook);
	davit_json_key(j, "args");
	davit_json_open_array(j);
	davit_json_string(j, "davit-slirp");
	davit_json_string(j, c->place->slirp);
	davit_json_string(j, socket ? socket : "");
	davit_json_string(j, fifo ? fifo : "");
	davit_json_string(j, nft ? nft : "nft");
	davit_json_string(j, c->rules && rules ? rules : "");
	for (size_t i = 0; i < w->n_ports; i++) {
		const struct davit_port *p = &w->ports[i];

		davit_json_string(j, p->udp ? "udp" : "tcp");
		davit_json_string(j, !*p->bind ? "127.0.0.1" : !strcmp(p->bind, "::") ? "0.0.0.0" : p->bind);
		snprintf(number, sizeof number, "%u", p->host);
		davit_json_string(j, number);
		snprintf(number, sizeof number, "%u", p->container ? p->container : p->host);
		davit_json_string(j, number);
	}
	davit_json_close_array(j);
	davit_json_close(j);
	davit_json_close_array(j);
	davit_json_close(j);
}

void oci_config_write(struct davit_buf *out, const struct oci_config *c)
{
	struct davit_json j = DAVIT_JSON_INIT(out);

	davit_json_open(&j);
	davit_json_put_string(&j, "ociVersion", "1.0.2");
	davit_json_key(&j, "process");
	oci_config_process(&j, c, false, false);
	davit_json_key(&j, "root");
	davit_json_open(&j);
	davit_json_put_string(&j, "path", c->root);
	davit_json_put_bool(&j, "readonly", c->workload->read_only_root);
	davit_json_close(&j);
	davit_json_put_string(&j, "hostname", c->hostname);
	davit_json_key(&j, "mounts");
	write_mounts(&j, c);
	if (c->slirp) {
		davit_json_key(&j, "hooks");
		write_hooks(&j, c);
	}
	davit_json_key(&j, "linux");
	write_linux(&j, c);
	davit_json_close(&j);
	davit_buf_addc(out, '\n');
}
