/* SPDX-License-Identifier: MIT
 *
 * What this runtime can do on this machine, and refusing what it cannot.
 */
#include "runtime/process/impl.h"
#include "runtime/process/lookup.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char no_root[] = "workloads see the host's own file system";
static const char no_image[] = "it runs programs of this host; a runtime with containers runs images";
static const char no_disk[] = "workloads write to the host's file systems directly";
static const char no_account[] = "the host has users, no service accounts: see `user`";
static const char no_user[] = "davitd does not run as root";

void process_capabilities(struct davit_runtime *rt, struct davit_capabilities *ret)
{
	static const enum davit_capability always[] = {
		DAVIT_CAP_SURVIVE,   DAVIT_CAP_EXIT_STATUS,   DAVIT_CAP_LOGS,	 DAVIT_CAP_EXEC,
		DAVIT_CAP_TERMINAL,  DAVIT_CAP_TERMINAL_KEPT, DAVIT_CAP_STATS,	 DAVIT_CAP_SIGNAL,
		DAVIT_CAP_TREE_STOP, DAVIT_CAP_DIRECTORY,     DAVIT_CAP_RLIMITS, DAVIT_CAP_NOTIFY,
		DAVIT_CAP_READY_FD,  DAVIT_CAP_PORTS,	      DAVIT_CAP_VOLUMES, DAVIT_CAP_SECRETS,
	};
	static const struct {
		enum davit_capability cap;
		const char *why;
	} never[] = {
		{DAVIT_CAP_DISK_LIMIT, no_disk},
		{DAVIT_CAP_SERVICE_ACCOUNT, no_account},
		{DAVIT_CAP_IMAGES, no_image},
		{DAVIT_CAP_IMAGE_BUILD, no_image},
		{DAVIT_CAP_PORT_MAPPING, "a process listens on the host's ports itself"},
		{DAVIT_CAP_NAMED_VOLUMES, no_root},
		{DAVIT_CAP_TMPFS, no_root},
		{DAVIT_CAP_READ_ONLY_ROOT, no_root},
		{DAVIT_CAP_NETWORKS, "a process uses the host's network"},
		{DAVIT_CAP_DNS, "a process uses the host's name servers"},
		{DAVIT_CAP_LINUX_CAPABILITIES, "give the workload a user, and noNewPrivileges"},
		{DAVIT_CAP_COPY, "its files are the host's: cp does it"},
	};
	static const enum davit_capability limits[CGROUP_LIMITS] = {
		[CGROUP_MEMORY] = DAVIT_CAP_MEMORY_LIMIT,
		[CGROUP_CPU] = DAVIT_CAP_CPU_LIMIT,
		[CGROUP_PIDS] = DAVIT_CAP_PIDS_LIMIT,
	};
	const struct cgroups *cg = &local_runtime_of(rt)->cgroups;

	process_confine_open(davit_runtime_state(rt));
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(always); i++)
		ret->why_not[always[i]][0] = '\0';
	for (int i = 0; i < CGROUP_LIMITS; i++)
		snprintf(ret->why_not[limits[i]], sizeof ret->why_not[0], "%s",
			 cg->limits[i] ? "" : cg->why_not[i]);
	/* A kill is told from others by the memory group's count. */
	snprintf(ret->why_not[DAVIT_CAP_OOM_REPORT], sizeof ret->why_not[0], "%s",
		 ret->why_not[DAVIT_CAP_MEMORY_LIMIT]);
	snprintf(ret->why_not[DAVIT_CAP_PAUSE], sizeof ret->why_not[0], "%s", cgroups_why_no_freeze(cg));
	snprintf(ret->why_not[DAVIT_CAP_USER], sizeof ret->why_not[0], "%s", geteuid() ? no_user : "");
	snprintf(ret->why_not[DAVIT_CAP_EGRESS], sizeof ret->why_not[0], "%s",
		 process_runtime_of(local_runtime_of(rt))->why_no_egress);
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(never); i++)
		snprintf(ret->why_not[never[i].cap], sizeof ret->why_not[0], "%s", never[i].why);
}

static int check_mount(const struct davit_mount *m, struct davit_error *err)
{
	struct stat st;

	if (strcmp(m->source, m->target))
		return davit_error_set(
			err, DAVIT_ENOTSUP, "volumes",
			"volume %s cannot appear as %s on runtime process: workloads see the host's own "
			"file system",
			m->source, m->target);
	if (m->read_only)
		return davit_error_set(
			err, DAVIT_ENOTSUP, "volumes",
			"volume %s cannot be made read-only on runtime process: give the workload a user "
			"who may not write to it",
			m->source);
	if (stat(m->source, &st) < 0)
		return davit_error_set(err, DAVIT_ENOENT, "volumes", "volume %s does not exist on this host",
				       m->source);
	return 0;
}

static int check_port(const struct davit_port *p, struct davit_error *err)
{
	if (p->container && p->host && p->container != p->host)
		return davit_error_set(err, DAVIT_ENOTSUP, "ports",
				       "container port %u cannot differ from host port %u on runtime process",
				       p->container, p->host);
	return 0;
}

static int check_user(const char *user, struct davit_error *err)
{
	struct process_user u;
	uid_t uid;
	int r = process_user_lookup(user, &u, err);

	if (r < 0)
		return r;
	uid = u.uid;
	process_user_fini(&u);
	if (geteuid() && uid != geteuid())
		return davit_error_set(err, DAVIT_ENOTSUP, "user", "cannot run as user '%s': %s", user,
				       no_user);
	return 0;
}

/* Root could leave its network namespace, and so could a user who becomes root. */
static int check_egress(struct local_runtime *p, const struct davit_workload *w, struct davit_error *err)
{
	const struct process_runtime *rt = process_runtime_of(p);
	const char *why = rt->enter || *rt->why_no_egress ? rt->why_no_egress : "it is being opened";
	struct process_user u = {0};
	int r = w->user ? process_user_lookup(w->user, &u, err) : 0;

	uid_t uid = u.uid;

	if (r < 0)
		return r;
	process_user_fini(&u);
	if (*why)
		return davit_error_set(err, DAVIT_ENOTSUP, "egress.policy",
				       "runtime process does not support egress: %s", why);
	if (!uid)
		return davit_error_set(err, DAVIT_ENOTSUP, "user",
				       "what has a policy of egress cannot run as root on runtime process: "
				       "root could leave its network; give it a user");
	return 0;
}

int process_check(struct local_runtime *p, const struct davit_workload *w, bool complete,
		  struct davit_error *err)
{
	int r = 0;

	if (complete && (!w->argv || !w->argv[0]))
		return davit_error_set(err, DAVIT_EINVAL, "command", "there is no command to run");
	if (w->image)
		return davit_error_set(err, DAVIT_ENOTSUP, "image",
				       "runtime process does not support images: %s", no_image);
	if (w->service_account)
		return davit_error_set(err, DAVIT_ENOTSUP, "serviceAccount",
				       "runtime process does not support service accounts: %s", no_account);
	if (w->disk)
		return davit_error_set(err, DAVIT_ENOTSUP, "resources.disk",
				       "runtime process does not support a disk limit: %s", no_disk);
	if (w->ready == DAVIT_READY_FD && w->ready_fd < 3)
		return davit_error_set(err, DAVIT_EINVAL, "ready.fd",
				       "descriptor %d is one of the standard streams", w->ready_fd);
	for (size_t i = 0; i < w->n_mounts && !r; i++)
		r = check_mount(&w->mounts[i], err);
	for (size_t i = 0; i < w->n_ports && !r; i++)
		r = check_port(&w->ports[i], err);
	if (!r && w->user)
		r = check_user(w->user, err);
	if (!r && w->n_egress)
		r = check_egress(p, w, err);
	return r;
}
