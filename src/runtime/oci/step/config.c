/* SPDX-License-Identifier: MIT
 *
 * config.json, by the OCI runtime specification 1.0.2. Most of the file system is mounted already: what needs
 * namespaces that are not there yet is the runtime's.
 */
#include "runtime/oci/step/driver.h"

#include "base/file.h"
#include "base/json.h"
#include "runtime/oci/impl.h"

#include <linux/capability.h>
#include <string.h>

/* Those that a step keeps on this host; all that there are, for a privileged one. */
static uint64_t rights(const struct driver *d)
{
	static const int kept[] = {STEP_RIGHTS};
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	uint64_t ours = 0, set = 0;
	const char *line;

	if (davit_read_file("/proc/self/status", 65536, &text, NULL) == 0) {
		line = strstr(davit_buf_str(&text), "\nCapPrm:");
		ours = line ? strtoull(line + 8, NULL, 16) : 0;
	}
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(kept); i++)
		set |= UINT64_C(1) << kept[i];
	return d->step.options.privileged ? ours : ours & set;
}

static void put_process(const struct driver *d, struct davit_json *j)
{
	const struct step_options *o = &d->step.options;

	davit_json_key(j, "process");
	davit_json_open(j);
	davit_json_put_bool(j, "terminal", false);
	davit_json_key(j, "user");
	davit_json_open(j);
	davit_json_put_int(j, "uid", 0);
	davit_json_put_int(j, "gid", 0);
	davit_json_close(j);
	davit_json_put_strv(j, "args", (char *const[]){STEP_INSIDE_PROGRAM, "inside", NULL});
	davit_json_put_strv(j, "env", (char *const[]){NULL});
	davit_json_put_string(j, "cwd", "/");
	davit_json_key(j, "capabilities");
	oci_capabilities_write(j, rights(d));
	davit_json_put_bool(j, "noNewPrivileges", !o->privileged);
	davit_json_close(j);
}

static void put_mount(struct davit_json *j, const char *target, const char *type, const char *source,
		      char *const *options)
{
	davit_json_open(j);
	davit_json_put_string(j, "destination", target);
	davit_json_put_string(j, "type", type);
	davit_json_put_string(j, "source", source);
	davit_json_put_strv(j, "options", options);
	davit_json_close(j);
}

static void put_mounts(const struct driver *d, struct davit_json *j)
{
	DAVIT_AUTO_FREE char *dev = davit_path_join(d->step.directory, "root/dev");

	davit_json_key(j, "mounts");
	davit_json_open_array(j);
	put_mount(j, "/proc", "proc", "proc", (char *const[]){"nosuid", "nodev", "noexec", NULL});
	/* What is bound there runc takes as it is; else it makes devices, over those that are there. */
	if (!strcmp(d->name, "runc"))
		put_mount(j, "/dev", "bind", dev ? dev : "", (char *const[]){"rbind", NULL});
	davit_json_close_array(j);
	j->out->oom |= !dev;
}

static void put_namespaces(const struct driver *d, struct davit_json *j)
{
	const char *const types[] = {
		"pid", "ipc", "uts", "mount", d->step.options.hermetic ? "network" : NULL, NULL};

	davit_json_key(j, "namespaces");
	davit_json_open_array(j);
	for (const char *const *t = types; *t; t++) {
		davit_json_open(j);
		davit_json_put_string(j, "type", *t);
		davit_json_close(j);
	}
	davit_json_close_array(j);
}

/* Limits are those of the groups that it is in already. Of devices runc gives those that every container has.
 */
static void put_resources(const struct driver *d, struct davit_json *j)
{
	davit_json_key(j, "resources");
	davit_json_open(j);
	davit_json_key(j, "devices");
	davit_json_open_array(j);
	davit_json_open(j);
	davit_json_put_bool(j, "allow", d->step.options.privileged);
	davit_json_put_string(j, "access", "rwm");
	davit_json_close(j);
	davit_json_close_array(j);
	davit_json_close(j);
}

static void put_linux(const struct driver *d, struct davit_json *j)
{
	static char *const readonly[] = {
		"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs", NULL};

	davit_json_key(j, "linux");
	davit_json_open(j);
	put_namespaces(d, j);
	if (!d->step.options.privileged)
		davit_json_put_strv(j, "readonlyPaths", readonly);
	/* runc makes one below that in which it runs, and removes it; crun is told to make none. */
	if (!strcmp(d->name, "runc") && !d->step.rootless) {
		davit_json_put_string(j, "cgroupsPath", d->container);
		put_resources(d, j);
	}
	davit_json_close(j);
}

void driver_config(const struct driver *d, struct davit_buf *out)
{
	struct davit_json j = DAVIT_JSON_INIT(out);
	DAVIT_AUTO_FREE char *root = davit_path_join(d->step.directory, "root");

	davit_json_open(&j);
	davit_json_put_string(&j, "ociVersion", "1.0.2");
	put_process(d, &j);
	davit_json_key(&j, "root");
	davit_json_open(&j);
	davit_json_put_string(&j, "path", root ? root : "");
	davit_json_close(&j);
	davit_json_put_string(&j, "hostname", "step");
	put_mounts(d, &j);
	put_linux(d, &j);
	davit_json_close(&j);
	out->oom |= !root;
}
