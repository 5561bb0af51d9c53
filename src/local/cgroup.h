/* SPDX-License-Identifier: MIT
 *
 * Control groups, as far as the process runtime needs them: one group for each
 * instance, so that a stop leaves nothing behind, and controllers where a limit
 * is asked for. Knows v1, hybrid (v1 controllers beside a v2 hierarchy), v2,
 * and machines without any.
 *
 * Layout: beneath the parent groups "davit-HASH" (HASH is of the run directory,
 * so that several daemons live side by side) one directory for each instance,
 * named by its id:
 *   v2:     TOP/davit-HASH/ID          no controllers: cheap to make
 *           TOP/davit-HASH-limits/ID   with memory, cpu and pids enabled
 *   v1:     MOUNT/OWN/davit-HASH/ID    for each controller that a limit needs, and in
 *                                      the freezer's hierarchy where there is no v2
 * TOP is the highest group above ours that we may write to; OWN is the daemon's
 * own group, so that limits set around the daemon go on to hold. DAVIT_CGROUP in the
 * environment names another group for both, which must be there: a path from
 * our own group such as "../x". Systemd's units name so the one that is
 * delegated to us; where ours is the root of a hierarchy, nothing is beside it, and the root is taken.
 */
#ifndef DAVIT_LOCAL_CGROUP_H
#define DAVIT_LOCAL_CGROUP_H

#include "base/util.h"
#include "davit/runtime.h"

enum cgroup_layout { CGROUP_NONE, CGROUP_V1, CGROUP_HYBRID, CGROUP_V2 };
enum cgroup_controller {
	CGROUP_MEMORY,
	CGROUP_CPU,
	CGROUP_PIDS,
	CGROUP_LIMITS,			/* those above limit something */
	CGROUP_FREEZER = CGROUP_LIMITS, /* of v1: tracks instances where v2 cannot */
	CGROUP_CONTROLLERS,
};

/* Where this process is in each hierarchy: heap strings, NULL where there is none. */
struct cgroup_self {
	enum cgroup_layout layout;
	char *v2_mount;			  /* mount point of the v2 hierarchy */
	char *v2_own;			  /* directory of our own group in it */
	char *v1_own[CGROUP_CONTROLLERS]; /* of our own group in the controller's v1 hierarchy */
};

/* Reads the texts of /proc/self/cgroup and /proc/self/mountinfo. Lines that
 * make no sense are passed over: less is then found. With `beside`, a path from our own
 * group, that one is meant by "own"; it need not be there. 0 or DAVIT_ENOMEM. */
int cgroup_parse(const char *cgroup, const char *mountinfo, const char *beside, struct cgroup_self *ret);
void cgroup_self_fini(struct cgroup_self *s);
/* From the texts of /proc/PID/cgroup and /proc/self/mountinfo: the directory of that
 * process' group in the hierarchy of a v1 controller, of any name, or of v2 (NULL). A
 * heap string; NULL where there is none, or without memory. What is mounted here may not
 * show the group: then it is the mount's root, so compare. */
char *cgroup_directory(const char *cgroup, const char *mountinfo, const char *controller);
const char *cgroup_layout_name(enum cgroup_layout layout);

/* The parent groups of one runtime. */
struct cgroups {
	enum cgroup_layout layout;
	bool track_v2;			  /* `track` lies in the v2 hierarchy: cgroup.kill works */
	char *track;			  /* parent of groups without limits; NULL: no group can be made */
	char *limits[CGROUP_CONTROLLERS]; /* parents with that controller; NULL: why_not says why */
	char why_not[CGROUP_CONTROLLERS][112];
	char why_no_track[112];
	int locks[2 + CGROUP_CONTROLLERS]; /* held on the parents while they are used */
	unsigned n_locks;
};

/* Finds and makes the parents. What this machine cannot do is not an error: it
 * is told by the NULLs and reasons. run_dir keeps the choice in a file, so that
 * a daemon started from another group later finds the same parents. Empty ones that
 * killed daemons have left beside them are removed. 0 or DAVIT_ENOMEM. Short file
 * operations only. */
int cgroups_open(struct cgroups *cg, const char *run_dir, struct davit_error *err);
/* Forgets them, and removes those that hold no group. */
void cgroups_fini(struct cgroups *cg);

#define CGROUP_DIRS_MAX (1 + CGROUP_CONTROLLERS)
#define CGROUP_PATH_MAX 512

/* The directories of an instance with such limits: absolute paths, v2 first, without
 * repetition. Returns how many. */
size_t cgroups_dirs(const struct cgroups *cg, const struct davit_workload *w,
		    char ret[CGROUP_DIRS_MAX][CGROUP_PATH_MAX]);
/* Makes them and writes the limits. DAVIT_ENOTSUP with the reason where a limit
 * cannot be had. On failure nothing is left. */
int cgroups_make(const struct cgroups *cg, const struct davit_workload *w, struct davit_error *err);
/* Removes whatever directories an id has. True when none is left, false when
 * one is busy still (processes on their way out): try again later. */
bool cgroups_remove(const struct cgroups *cg, const char *id);
/* Calls fn for each id that has a directory (perhaps repeatedly for one id). */
void cgroups_each(const struct cgroups *cg, void (*fn)(void *user, const char *id), void *user);
/* Kills everything in the groups of an id that nobody manages any more. */
void cgroups_kill(const struct cgroups *cg, const char *id);

/* Freezes or thaws all processes in the groups of an id. 0, DAVIT_ENOTSUP where there
 * is nothing to do it with, or what the kernel says. Does not wait. */
int cgroups_freeze(const struct cgroups *cg, const char *id, bool on, struct davit_error *err);
/* Whether all of them are frozen now. */
bool cgroups_frozen(const struct cgroups *cg, const char *id);
/* Why this machine cannot freeze; "" if it can. The text lives as long as cg. */
const char *cgroups_why_no_freeze(const struct cgroups *cg);

/* "memory", "cpu", "pids", "freezer" */
extern const char *const cgroup_names[CGROUP_CONTROLLERS];
/* Writes text to DIR/file in one write, as the kernel wants it: 0 or an errno. */
int cgroup_put(const char *dir, const char *file, const char *text);
/* Reads DIR/file into buf, with a NUL: the length, or -1. */
ssize_t cgroup_get(const char *dir, const char *file, char *buf, size_t size);
/* Reads one number from DIR/file, or after "key " in it. -1 when it cannot be had;
 * "max" is INT64_MAX. */
int64_t cgroup_read(const char *dir, const char *file, const char *key);

#endif
