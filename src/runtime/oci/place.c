/* SPDX-License-Identifier: MIT
 *
 * Where things are, and which of crun and runc works on this machine.
 */
#include "runtime/oci/impl.h"

#include "base/file.h"
#include "base/paths.h"
#include "local/egress.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <sys/vfs.h>

void oci_place_drop(struct oci_place *pl)
{
	if (!pl || --pl->references)
		return;
	free(pl->run_dir);
	free(pl->nets.bundles);
	free(pl->roots);
	free(pl->engine);
	free(pl->volumes);
	free(pl->nets.networks);
	free(pl->images);
	free(pl->init);
	free(pl->image_program);
	free(pl->copy_program);
	free(pl->program);
	free(pl->mkfs);
	free(pl->slirp);
	free(pl->slirp_hook);
	free(pl->cgroup);
	free(pl->cgroup_limits);
	free(pl);
}

/* --- the program --- */

/* crun reads the layout from these two mounts, as we do here, and refuses hybrid. */
static bool is_hybrid(void)
{
	struct statfs fs;

	if (statfs("/sys/fs/cgroup", &fs) < 0 || fs.f_type != TMPFS_MAGIC)
		return false;
	return statfs("/sys/fs/cgroup/unified", &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC;
}

static bool is_crun(const char *path)
{
	const char *name = strrchr(path, '/');

	return !strcmp(name ? name + 1 : path, "crun");
}

static int choose(struct oci_place *pl, const char *wanted, struct davit_error *err)
{
	/* The faster one first. */
	const char *const names[] = {wanted ? wanted : "crun", wanted ? NULL : "runc"};
	bool hybrid = is_hybrid(), refused = false;

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(names) && names[i]; i++) {
		char *path = davit_installed_program(names[i]);

		if (path && !(is_crun(path) && hybrid)) {
			pl->program = path;
			pl->is_crun = is_crun(path);
			return 0;
		}
		refused |= path != NULL;
		free(path);
	}
	if (refused)
		return davit_error_set(
			err, DAVIT_ENOTSUP, "oci",
			"crun refuses this machine's hybrid control groups (v1 controllers beside "
			"/sys/fs/cgroup/unified)%s",
			wanted ? "; runc works there" : ", and runc is not installed");
	return davit_error_set(err, DAVIT_ENOTSUP, "oci", "%s is not installed",
			       wanted ? wanted : "neither crun nor runc");
}

/* --- the rest --- */

static uint64_t bounding_set(void)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	const char *line;

	if (davit_read_file("/proc/self/status", 65536, &text, NULL) < 0)
		return 0;
	line = strstr(davit_buf_str(&text), "\nCapBnd:");
	return line ? strtoull(line + 8, NULL, 16) : 0;
}

static int make_directories(struct oci_place *pl, const struct davit_runtime *rt, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *real = realpath(rt->run_dir, NULL);
	DAVIT_AUTO_FREE char *state = realpath(rt->state_dir, NULL);
	char *slash;
	int r = 0;

	if (!real || !state)
		return davit_error_errno(err, errno, "oci", "cannot resolve %s",
					 real ? rt->state_dir : rt->run_dir);
	pl->nets.bundles = davit_path_join(real, "bundles");
	pl->engine = davit_path_join(real, "engine");
	pl->roots = davit_path_join(state, "roots");
	/* Images, volumes and networks are the daemon's, not one runtime's: its state directories
	 * are STATE/runtime/NAME. */
	slash = strrchr(state, '/');
	if (slash && slash - state > 8 && !strncmp(slash - 8, "/runtime", 8))
		slash[-8] = '\0';
	pl->images = davit_path_join(state, "images");
	pl->volumes = davit_path_join(state, "volumes");
	pl->nets.networks = davit_path_join(state, "networks");
	pl->image_program = davit_path_join(rt->libexec_dir, "davit-image");
	pl->copy_program = davit_path_join(rt->libexec_dir, "davit-copy");
	pl->init = davit_path_join(rt->libexec_dir, "davit-init");
	pl->slirp_hook = davit_path_join(rt->libexec_dir, "davit-slirp");
	if (!pl->nets.bundles || !pl->engine || !pl->roots || !pl->images || !pl->volumes ||
	    !pl->nets.networks || !pl->init || !pl->slirp_hook || !pl->image_program || !pl->copy_program)
		return davit_error_set(err, DAVIT_ENOMEM, "oci", "out of memory");
	pl->run_dir = DAVIT_TAKE(real);
	const char *const dirs[] = {pl->nets.bundles, pl->engine, pl->roots, pl->volumes, pl->nets.networks};
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(dirs) && !r; i++)
		r = davit_mkdirs(dirs[i], 0700, err);
	return r;
}

/* What a network needs beside the right to make one. */
static void probe_bridge(struct oci_place *pl)
{
	const char *why = "";

	if (pl->uid)
		why = "davitd does not run as root";
	else if (!local_nft_program())
		why = "nft is not installed";
	snprintf(pl->why_no_bridge, sizeof pl->why_no_bridge, "%s", why);
	snprintf(pl->why_no_network, sizeof pl->why_no_network, "%s", why);
}

/* Without root there is a way out by a process that speaks for the container. */
static void probe_slirp(struct oci_place *pl)
{
	struct sockaddr_un a;

	if (!pl->uid)
		return;
	pl->slirp = davit_installed_program("slirp4netns");
	snprintf(pl->why_no_network, sizeof pl->why_no_network, "%s",
		 !pl->slirp ? "davitd does not run as root, and slirp4netns is not installed"
		 : strlen(pl->nets.bundles) + sizeof "/0123456789abcdef/slirp.2147483647" > sizeof a.sun_path
			 ? "the path of the run directory is too long for the socket of slirp4netns"
		 : access("/dev/net/tun", R_OK | W_OK) < 0
			 ? "davitd does not run as root and may not open /dev/net/tun"
			 : "");
	if (*pl->why_no_network)
		free(DAVIT_TAKE(pl->slirp));
}

static void probe_egress(struct oci_place *pl)
{
	snprintf(pl->why_no_egress, sizeof pl->why_no_egress, "%s",
		 *pl->why_no_network   ? pl->why_no_network
		 : local_nft_program() ? ""
				       : "nft is not installed");
}

/* davit-image looks for it in PATH. */
static void probe_builder(struct oci_place *pl)
{
	DAVIT_AUTO_FREE char *path = davit_installed_program("buildah");

	snprintf(pl->why_no_build, sizeof pl->why_no_build, "%s", path ? "" : "buildah is not installed");
}

static void probe_disk(struct oci_place *pl)
{
	const char *why = "";

	pl->mkfs = davit_installed_program("mkfs.ext4");
	if (pl->uid)
		why = "davitd does not run as root";
	else if (!pl->mkfs)
		why = "mkfs.ext4 is not installed";
	else if (access("/dev/loop-control", R_OK | W_OK) < 0)
		why = "there are no loop devices";
	snprintf(pl->why_no_disk, sizeof pl->why_no_disk, "%s", why);
}

int oci_place_open(const struct davit_runtime *rt, const char *wanted, struct oci_place **ret,
		   struct davit_error *err)
{
	struct oci_place *pl = calloc(1, sizeof *pl);
	int r;

	if (!pl)
		return davit_error_set(err, DAVIT_ENOMEM, "oci", "out of memory");
	pl->references = 1;
	pl->uid = geteuid();
	pl->gid = getegid();
	/* In a user namespace of its own a container may have them all. */
	pl->capabilities = pl->uid ? oci_capability_bit("ALL") : bounding_set();
	r = choose(pl, wanted, err);
	if (!r)
		r = make_directories(pl, rt, err);
	if (!r && access(pl->init, X_OK) < 0)
		r = davit_error_set(err, DAVIT_ENOTSUP, "oci", "%s is missing", pl->init);
	if (r < 0) {
		oci_place_drop(pl);
		return r;
	}
	probe_bridge(pl);
	probe_slirp(pl);
	probe_egress(pl);
	probe_builder(pl);
	probe_disk(pl);
	*ret = pl;
	return 0;
}

#define GROUPS "/sys/fs/cgroup"

/* The path in its hierarchy of a group of version 1, or of version 2 in hybrid groups. */
static const char *in_hierarchy(const char *dir)
{
	const char *path = strchr(dir + strlen(GROUPS "/"), '/');

	return path ? path : "";
}

/* Whether the groups of an instance have one path in all hierarchies, which is not below the root. */
static bool is_one_path(const struct cgroups *cg)
{
	const char *path = in_hierarchy(cg->track);

	for (int i = 0; i < CGROUP_LIMITS; i++)
		if (cg->limits[i] && strcmp(in_hierarchy(cg->limits[i]), path) != 0)
			return false;
	return *path && strchr(path + 1, '/');
}

/* crun is told to leave the groups alone: the keeper puts it, and so the container,
 * into the instance's. runc always makes one in each hierarchy. Where the path is not
 * absolute it makes it below the group in which it runs itself, but in the v2 part of
 * hybrid groups below the root: there it is the instance's own group again, unless davit was
 * told another (by systemd's units, where the path is the same in all hierarchies). Of version 2
 * alone there is one group, which is not the same with limits and without. */
int oci_place_groups(struct oci_place *pl, const struct cgroups *cg, struct davit_error *err)
{
	const char *name, *track = cg->track, *limits = NULL;

	if (pl->is_crun || pl->uid)
		return 0;
	if (!track)
		return davit_error_set(err, DAVIT_ENOTSUP, "oci", "runc needs control groups: %s",
				       cg->why_no_track);
	if (cg->layout == CGROUP_V2)
		name = track + strlen(GROUPS);
	else if (cg->layout == CGROUP_HYBRID && is_one_path(cg))
		name = in_hierarchy(track);
	else
		name = strrchr(track, '/') + 1;
	for (int i = 0; i < CGROUP_LIMITS && cg->layout == CGROUP_V2; i++)
		limits = cg->limits[i] ? cg->limits[i] + strlen(GROUPS) : limits;
	pl->cgroup = strdup(name);
	pl->cgroup_limits = limits ? strdup(limits) : NULL;
	return pl->cgroup && !limits == !pl->cgroup_limits
		       ? 0
		       : davit_error_set(err, DAVIT_ENOMEM, "oci", "out of memory");
}
