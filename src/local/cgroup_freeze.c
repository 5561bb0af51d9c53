/* SPDX-License-Identifier: MIT
 *
 * Freezing: cgroup.freeze of v2, else the freezer of v1.
 */
#include "local/cgroup.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The group of an id that can be frozen, and how. False when there is none. */
static bool group_of(const struct cgroups *cg, const char *id, char dir[CGROUP_PATH_MAX], bool *ret_v2)
{
	/* In pure v2 an instance with limits is in the group with these alone. */
	const char *const parents[] = {cg->track, cg->layout == CGROUP_V2 ? cg->limits[CGROUP_MEMORY] : NULL,
				       cg->layout == CGROUP_V2 ? cg->limits[CGROUP_CPU] : NULL,
				       cg->layout == CGROUP_V2 ? cg->limits[CGROUP_PIDS] : NULL};
	char buf[32];

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(parents); i++) {
		if (!parents[i])
			continue;
		snprintf(dir, CGROUP_PATH_MAX, "%s/%s", parents[i], id);
		*ret_v2 = cg->track_v2;
		if (cgroup_get(dir, *ret_v2 ? "cgroup.freeze" : "freezer.state", buf, sizeof buf) > 0)
			return true;
	}
	return false;
}

int cgroups_freeze(const struct cgroups *cg, const char *id, bool on, struct davit_error *err)
{
	char dir[CGROUP_PATH_MAX];
	bool v2;
	int e;

	if (!group_of(cg, id, dir, &v2))
		return davit_error_set(err, DAVIT_ENOTSUP, "pause", "%s",
				       *cgroups_why_no_freeze(cg) ? cgroups_why_no_freeze(cg)
								  : "the instance has no group of its own");
	e = v2 ? cgroup_put(dir, "cgroup.freeze", on ? "1" : "0")
	       : cgroup_put(dir, "freezer.state", on ? "FROZEN" : "THAWED");
	return e ? davit_error_errno(err, e, "pause", "cannot %s %s", on ? "freeze" : "thaw", dir) : 0;
}

bool cgroups_frozen(const struct cgroups *cg, const char *id)
{
	char dir[CGROUP_PATH_MAX], buf[32];
	bool v2;

	if (!group_of(cg, id, dir, &v2))
		return false;
	if (v2)
		return cgroup_read(dir, "cgroup.events", "frozen") == 1;
	return cgroup_get(dir, "freezer.state", buf, sizeof buf) > 0 && !strncmp(buf, "FROZEN", 6);
}

const char *cgroups_why_no_freeze(const struct cgroups *cg)
{
	char buf[16];

	if (!cg->track)
		return cg->why_no_track;
	/* Only groups beneath the root have the file; before Linux 5.2 none has. */
	if (cg->track_v2)
		return cgroup_get(cg->track, "cgroup.freeze", buf, sizeof buf) > 0
			       ? ""
			       : "this kernel cannot freeze groups of the v2 hierarchy";
	return cg->limits[CGROUP_FREEZER] ? "" : cg->why_not[CGROUP_FREEZER];
}
