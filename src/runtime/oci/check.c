/* SPDX-License-Identifier: MIT
 *
 * What this runtime can do on this machine, and refusing what it cannot.
 */
#include "runtime/oci/impl.h"

#include "base/strv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

static const char no_root[] = "davitd does not run as root";
static const char no_account[] = "containers have users, no service accounts: see `user`";

static void say(struct davit_capabilities *c, enum davit_capability cap, const char *why_not)
{
	snprintf(c->why_not[cap], sizeof c->why_not[cap], "%s", why_not);
}

void oci_capabilities(struct davit_runtime *rt, struct davit_capabilities *ret)
{
	static const enum davit_capability always[] = {
		DAVIT_CAP_SURVIVE,   DAVIT_CAP_EXIT_STATUS,
		DAVIT_CAP_LOGS,	     DAVIT_CAP_EXEC,
		DAVIT_CAP_STATS,     DAVIT_CAP_SIGNAL,
		DAVIT_CAP_TREE_STOP, DAVIT_CAP_DIRECTORY,
		DAVIT_CAP_RLIMITS,   DAVIT_CAP_READY_FD,
		DAVIT_CAP_VOLUMES,   DAVIT_CAP_NAMED_VOLUMES,
		DAVIT_CAP_TMPFS,     DAVIT_CAP_READ_ONLY_ROOT,
		DAVIT_CAP_IMAGES,    DAVIT_CAP_DNS,
		DAVIT_CAP_TERMINAL,  DAVIT_CAP_TERMINAL_KEPT,
		DAVIT_CAP_SECRETS,   DAVIT_CAP_LINUX_CAPABILITIES,
		DAVIT_CAP_PORTS,     DAVIT_CAP_NETWORKS,
		DAVIT_CAP_COPY,
	};
	static const enum davit_capability limits[CGROUP_LIMITS] = {
		[CGROUP_MEMORY] = DAVIT_CAP_MEMORY_LIMIT,
		[CGROUP_CPU] = DAVIT_CAP_CPU_LIMIT,
		[CGROUP_PIDS] = DAVIT_CAP_PIDS_LIMIT,
	};
	const struct cgroups *cg = &local_runtime_of(rt)->cgroups;
	const struct oci_place *pl = oci_runtime_of(local_runtime_of(rt))->place;
	struct sockaddr_un a;

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(always); i++)
		say(ret, always[i], "");
	for (int i = 0; i < CGROUP_LIMITS; i++)
		say(ret, limits[i], cg->limits[i] ? "" : cg->why_not[i]);
	say(ret, DAVIT_CAP_OOM_REPORT, ret->why_not[DAVIT_CAP_MEMORY_LIMIT]);
	say(ret, DAVIT_CAP_PAUSE, cgroups_why_no_freeze(cg));
	say(ret, DAVIT_CAP_USER, pl->uid ? no_root : "");
	/* The keeper's socket is mounted into the container: it needs a path. */
	say(ret, DAVIT_CAP_NOTIFY,
	    strlen(pl->run_dir) + sizeof "/notify/0123456789abcdef" > sizeof a.sun_path
		    ? "the path of the run directory is too long for a socket's address"
		    : "");
	say(ret, DAVIT_CAP_PORT_MAPPING, pl->why_no_network);
	say(ret, DAVIT_CAP_DISK_LIMIT, pl->why_no_disk);
	say(ret, DAVIT_CAP_EGRESS, pl->why_no_egress);
	say(ret, DAVIT_CAP_SERVICE_ACCOUNT, no_account);
	say(ret, DAVIT_CAP_IMAGE_BUILD, pl->why_no_build);
}

static int check_mount(const struct davit_mount *m, struct davit_error *err)
{
	struct stat st;

	if (m->type == DAVIT_MOUNT_BIND && stat(m->source, &st) < 0)
		return davit_error_set(err, DAVIT_ENOENT, "volumes", "volume %s does not exist on this host",
				       m->source);
	if (!strcmp(m->target, "/") || *m->target != '/')
		return davit_error_set(err, DAVIT_EINVAL, "volumes", "nothing can be mounted at '%s'",
				       m->target);
	return 0;
}

static int check_capability(const struct oci_place *pl, const char *name, bool add, struct davit_error *err)
{
	uint64_t bit = oci_capability_bit(name);

	if (!bit)
		return davit_error_set(err, DAVIT_EINVAL, "capabilities", "'%s' is not a capability", name);
	if (!add || !strcmp(name, "ALL"))
		return 0;
	if (!(pl->capabilities & bit))
		return davit_error_set(err, DAVIT_ENOTSUP, "capabilities",
				       "capability %s cannot be given: davitd does not have it itself", name);
	if (!pl->cgroup && bit == oci_capability_bit("CAP_MKNOD"))
		return davit_error_set(
			err, DAVIT_ENOTSUP, "capabilities",
			"capability MKNOD cannot be given: crun keeps no device group here, so "
			"every device of the host could be had with it");
	return 0;
}

static int check_ready(const struct davit_workload *w, struct davit_error *err)
{
	if (w->ready == DAVIT_READY_FD && w->ready_fd < 3)
		return davit_error_set(err, DAVIT_EINVAL, "ready.fd",
				       "descriptor %d is one of the standard streams", w->ready_fd);
	return 0;
}

static int check_network(const struct oci_place *pl, const struct davit_workload *w, struct davit_error *err)
{
	const char *network = w->network ? w->network : *pl->why_no_network ? "none" : "bridge";
	bool host = !strcmp(network, "host"), none = !strcmp(network, "none");
	const char *why;

	for (size_t i = 0; i < w->n_ports; i++) {
		const struct davit_port *p = &w->ports[i];

		if (none)
			return davit_error_set(err, DAVIT_ENOTSUP, "ports", "network none has no ports%s%s",
					       w->network ? "" : ", and no other can be had: ",
					       w->network ? "" : pl->why_no_network);
		if (host && p->container && p->host && p->container != p->host)
			return davit_error_set(
				err, DAVIT_ENOTSUP, "ports",
				"container port %u cannot differ from host port %u in network host",
				p->container, p->host);
	}
	if (host && w->n_egress)
		return davit_error_set(err, DAVIT_EINVAL, "network",
				       "network host cannot be had with a policy of egress: it is the "
				       "host's own network");
	if (none || host)
		return 0; /* nothing leads out of none, whatever the policy is */
	if (w->n_egress && *pl->why_no_egress)
		return davit_error_set(err, DAVIT_ENOTSUP, "egress.policy",
				       "runtime oci does not support egress: %s", pl->why_no_egress);
	why = strcmp(network, "bridge") ? pl->why_no_bridge : pl->why_no_network;
	if (*why)
		return davit_error_set(err, DAVIT_ENOTSUP, "network", "failed to create network: %s", why);
	if (strcmp(network, "bridge") && !local_net_exists(&pl->nets, network))
		return davit_error_set(err, DAVIT_ENOENT, "network", "network '%s' not found", network);
	return 0;
}

static int check_supported(const struct oci_place *pl, const struct davit_workload *w, bool complete,
			   struct davit_error *err)
{
	if (!w->image && complete)
		return davit_error_set(err, DAVIT_EINVAL, "image",
				       "runtime oci runs images, and none is named");
	if (w->service_account)
		return davit_error_set(err, DAVIT_ENOTSUP, "serviceAccount",
				       "runtime oci does not support service accounts: %s", no_account);
	if (w->disk && *pl->why_no_disk)
		return davit_error_set(err, DAVIT_ENOTSUP, "resources.disk",
				       "runtime oci does not support a disk limit: %s", pl->why_no_disk);
	if (w->disk && w->disk < OCI_DISK_MIN)
		return davit_error_set(err, DAVIT_EINVAL, "resources.disk",
				       "a disk limit is at least 4Mi: a file system has to fit in");
	return 0;
}

int oci_check(struct local_runtime *p, const struct davit_workload *w, bool complete, struct davit_error *err)
{
	const struct oci_place *pl = oci_runtime_of(p)->place;
	int r = check_supported(pl, w, complete, err);

	if (!r)
		r = check_ready(w, err);
	if (!r)
		r = check_network(pl, w, err);
	for (size_t i = 0; i < w->n_mounts && !r; i++)
		r = check_mount(&w->mounts[i], err);
	for (char **c = w->cap_add; c && *c && !r; c++)
		r = check_capability(pl, *c, true, err);
	for (char **c = w->cap_drop; c && *c && !r; c++)
		r = check_capability(pl, *c, false, err);
	return r;
}
