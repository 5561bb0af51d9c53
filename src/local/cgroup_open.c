/* SPDX-License-Identifier: MIT
 *
 * The parent groups of a runtime: where they can be, and making them.
 */
#include "local/cgroup.h"

#include "base/file.h"
#include "base/fnv.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

/* Whoever uses a parent holds a lock on it: one that is empty and not locked is a dead
 * daemon's. Makes it again if it was taken away meanwhile. A descriptor, or -1 with errno. */
static int lock_parent(const char *dir)
{
	struct stat ours, there;

	for (int k = 0; k < 10; k++) {
		int fd;

		if (mkdir(dir, 0755) < 0 && errno != EEXIST)
			return -1;
		fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0 && errno != ENOENT)
			return -1;
		if (fd < 0)
			continue;
		if (DAVIT_EINTR(flock(fd, LOCK_SH)) == 0 && fstat(fd, &ours) == 0 && stat(dir, &there) == 0 &&
		    ours.st_ino == there.st_ino)
			return fd;
		close(fd);
	}
	errno = EAGAIN;
	return -1;
}

/* Makes a parent group; one that is there is taken if it can be written to. An errno or 0. */
static int make_parent(struct cgroups *cg, const char *dir)
{
	char probe[CGROUP_PATH_MAX + 64];
	int fd;

	if (strlen(dir) + sizeof "/0123456789abcdef" > CGROUP_PATH_MAX)
		return ENAMETOOLONG;
	fd = lock_parent(dir);
	if (fd < 0)
		return errno;
	cg->locks[cg->n_locks++] = fd;
	snprintf(probe, sizeof probe, "%s/cgroup.procs", dir);
	return access(dir, W_OK) < 0 || access(probe, W_OK) < 0 ? errno : 0;
}

/* The highest group at or above `own`, not above `mount`, in which we may make
 * groups and move processes to: root has all of them, a user the part that was
 * delegated. A heap string, or NULL with errno. */
static char *topmost_writable(const char *mount, const char *own)
{
	char path[CGROUP_PATH_MAX + 64], top[CGROUP_PATH_MAX] = "";
	size_t min = strlen(mount);

	if (strlen(own) >= CGROUP_PATH_MAX) {
		errno = ENAMETOOLONG;
		return NULL;
	}
	snprintf(path, CGROUP_PATH_MAX, "%s", own);
	for (;;) {
		size_t n = strlen(path);

		snprintf(path + n, sizeof path - n, "/cgroup.procs");
		if (access(path, W_OK) < 0)
			break;
		path[n] = '\0';
		if (access(path, W_OK) < 0)
			break;
		memcpy(top, path, n + 1);
		if (n <= min)
			break;
		*strrchr(path, '/') = '\0';
	}
	return *top ? strdup(top) : NULL;
}

/* Which of the controllers are enabled for the children of a v2 group. */
static bool enabled(const char *dir, const char *file, const char *controller)
{
	char buf[512], *save = NULL;

	if (cgroup_get(dir, file, buf, sizeof buf) <= 0)
		return false;
	for (char *w = strtok_r(buf, " \n", &save); w; w = strtok_r(NULL, " \n", &save))
		if (!strcmp(w, controller))
			return true;
	return false;
}

/* Enables one controller from `top` down to the children of `parent`. */
static int enable(const char *top, const char *parent, const char *controller)
{
	const char *const dirs[] = {top, parent};
	char text[32];

	snprintf(text, sizeof text, "+%s", controller);
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(dirs); i++) {
		int e;

		if (enabled(dirs[i], "cgroup.subtree_control", controller))
			continue;
		if (!enabled(dirs[i], "cgroup.controllers", controller))
			return ENOENT;
		e = cgroup_put(dirs[i], "cgroup.subtree_control", text);
		if (e)
			return e;
	}
	return 0;
}

static int open_v2(struct cgroups *cg, const char *top, const char *name)
{
	DAVIT_AUTO_FREE char *limits = NULL;
	int e, made = 0;

	if (asprintf(&cg->track, "%s/%s", top, name) < 0) {
		cg->track = NULL;
		return DAVIT_ENOMEM;
	}
	e = make_parent(cg, cg->track);
	if (e) {
		snprintf(cg->why_no_track, sizeof cg->why_no_track, "%s cannot be made: %s", cg->track,
			 strerror(e));
		free(DAVIT_TAKE(cg->track));
		return 0;
	}
	cg->track_v2 = true;
	for (int i = 0; i < CGROUP_CONTROLLERS; i++) {
		if (cg->limits[i] || !enabled(top, "cgroup.controllers", cgroup_names[i]))
			continue;
		if (!limits) {
			if (asprintf(&limits, "%s/%s-limits", top, name) < 0) {
				limits = NULL;
				return DAVIT_ENOMEM;
			}
			made = make_parent(cg, limits);
		}
		e = made ? made : enable(top, limits, cgroup_names[i]);
		if (e) {
			snprintf(cg->why_not[i], sizeof cg->why_not[i],
				 "no %s controller is writable: %s: %s", cgroup_names[i], strerror(e),
				 limits);
			continue;
		}
		cg->limits[i] = strdup(limits);
		if (!cg->limits[i])
			return DAVIT_ENOMEM;
	}
	return 0;
}

/* freezer: it is needed, to track. */
static int open_v1(struct cgroups *cg, const struct cgroup_self *self, const char *name, bool freezer)
{
	for (int i = 0; i < CGROUP_CONTROLLERS; i++) {
		DAVIT_AUTO_FREE char *dir = NULL;
		int e;

		if (!self->v1_own[i] || (i == CGROUP_FREEZER && !freezer))
			continue;
		if (asprintf(&dir, "%s/%s", self->v1_own[i], name) < 0) {
			dir = NULL;
			return DAVIT_ENOMEM;
		}
		e = make_parent(cg, dir);
		if (e) {
			snprintf(cg->why_not[i], sizeof cg->why_not[i],
				 "no %s controller is writable: %s: %s", cgroup_names[i], strerror(e), dir);
			continue;
		}
		/* Kernels before 5.11 count the children of a group only when told so. */
		if (i == CGROUP_MEMORY)
			cgroup_put(dir, "memory.use_hierarchy", "1");
		cg->limits[i] = DAVIT_TAKE(dir);
	}
	return 0;
}

/* Whether an earlier daemon's parents are in this group: only they are a reason to stay there. */
static bool has_parents(const char *dir, const char *name)
{
	char path[CGROUP_PATH_MAX + 64];

	if (snprintf(path, CGROUP_PATH_MAX, "%s/%s", dir, name) >= CGROUP_PATH_MAX)
		return false;
	return access(path, W_OK) == 0 || access(strcat(path, "-limits"), W_OK) == 0;
}

/* The choice of an earlier daemon on the same run directory, "NAME PATH" a line (NAME is
 * "v2" or a controller of v1). It is followed where its parents are there still;
 * the choice that holds now is written down. */
static int remember(const char *run_dir, const char *name, struct cgroup_self *self, char **top)
{
	DAVIT_AUTO_FREE char *path = davit_path_join(run_dir, "cgroups");
	DAVIT_AUTO_BUF before = DAVIT_BUF_INIT;
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	char *save = NULL;

	if (!path)
		return DAVIT_ENOMEM;
	if (davit_read_file(path, 16384, &before, NULL) < 0)
		davit_buf_reset(&before);
	davit_buf_adds(&text, davit_buf_str(&before));
	if (text.oom)
		return DAVIT_ENOMEM;
	for (char *l = text.len ? strtok_r(text.data, "\n", &save) : NULL; l;
	     l = strtok_r(NULL, "\n", &save)) {
		char *dir = strchr(l, ' '), **slot = NULL, *copy;

		if (!dir)
			continue;
		*dir++ = '\0';
		if (!strcmp(l, "v2") && *top)
			slot = top;
		for (int i = 0; i < CGROUP_CONTROLLERS; i++)
			if (!strcmp(l, cgroup_names[i]) && self->v1_own[i])
				slot = &self->v1_own[i];
		if (!slot || !has_parents(dir, name))
			continue;
		copy = strdup(dir);
		if (!copy)
			return DAVIT_ENOMEM;
		free(*slot);
		*slot = copy;
	}
	davit_buf_reset(&text);
	if (*top)
		davit_buf_addf(&text, "v2 %s\n", *top);
	for (int i = 0; i < CGROUP_CONTROLLERS; i++)
		if (self->v1_own[i])
			davit_buf_addf(&text, "%s %s\n", cgroup_names[i], self->v1_own[i]);
	if (text.oom)
		return DAVIT_ENOMEM;
	/* Losing the note only costs the limits' place after a move of the daemon. */
	if (text.len && (text.len != before.len || memcmp(text.data, before.data, text.len)))
		davit_write_volatile_file(path, text.data, text.len, 0600, NULL);
	return 0;
}

static void name_of(const char *run_dir, char name[32])
{
	DAVIT_AUTO_FREE char *real = realpath(run_dir, NULL);
	uint64_t h = davit_fnv_text(DAVIT_FNV_BASIS, real ? real : run_dir);

	snprintf(name, 32, "davit-%08x", (unsigned)(h ^ (h >> 32)));
}

static int open_parents(struct cgroups *cg, const char *run_dir, bool named, struct cgroup_self *self)
{
	DAVIT_AUTO_FREE char *top = NULL;
	char name[32];
	int r;

	if (self->v2_own) {
		/* A group that was named is not left for a higher one. */
		top = topmost_writable(named ? self->v2_own : self->v2_mount, self->v2_own);
		if (!top)
			snprintf(cg->why_no_track, sizeof cg->why_no_track, "no v2 group at%s %s is writable",
				 named ? "" : " or above", self->v2_own);
	}
	/* Which controllers there are is then of no use. */
	for (int i = 0; self->layout == CGROUP_V2 && !top && i < CGROUP_LIMITS; i++)
		snprintf(cg->why_not[i], sizeof cg->why_not[i],
			 "no control group was delegated to davitd; as a unit of systemd it has one");
	name_of(run_dir, name);
	r = remember(run_dir, name, self, &top);
	if (r < 0)
		return r;
	r = open_v1(cg, self, name, !top);
	if (!r && top)
		r = open_v2(cg, top, name);
	if (r < 0)
		return r;
	/* Without v2 any v1 group still tells which processes belong together. */
	for (int i = CGROUP_CONTROLLERS - 1; i >= 0 && !cg->track; i--)
		if (cg->limits[i] && !(cg->track = strdup(cg->limits[i])))
			return DAVIT_ENOMEM;
	return 0;
}

/* "davit-", eight digits, perhaps "-limits". */
static bool is_parent(const char *name)
{
	size_t n = 0;

	if (strncmp(name, "davit-", 6))
		return false;
	for (name += 6; n < 8 && isxdigit((unsigned char)name[n]); n++)
		;
	return n == 8 && (!name[n] || !strcmp(name + n, "-limits"));
}

/* Takes away one that nobody holds; one with a group in it stays by itself. */
static void remove_dead(const char *dir)
{
	DAVIT_AUTO_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
		rmdir(dir);
}

/* What killed daemons of other homes left beside a parent of ours. */
static void remove_dead_beside(const char *parent)
{
	DAVIT_AUTO_FREE char *dir = parent ? strdup(parent) : NULL;
	char *slash = dir ? strrchr(dir, '/') : NULL;
	struct dirent *e;
	DIR *d;

	if (!slash)
		return;
	*slash = '\0';
	d = opendir(dir);
	while (d && (e = readdir(d))) {
		DAVIT_AUTO_FREE char *path = is_parent(e->d_name) ? davit_path_join(dir, e->d_name) : NULL;

		if (path)
			remove_dead(path);
	}
	if (d)
		closedir(d);
}

int cgroups_open(struct cgroups *cg, const char *run_dir, struct davit_error *err)
{
	DAVIT_AUTO_BUF group = DAVIT_BUF_INIT;
	DAVIT_AUTO_BUF mounts = DAVIT_BUF_INIT;
	const char *named = secure_getenv("DAVIT_CGROUP");
	struct cgroup_self self = {0};
	int r;

	if (named && !*named)
		named = NULL;
	*cg = (struct cgroups){0};
	if (davit_read_file("/proc/self/cgroup", 1 << 20, &group, NULL) < 0)
		davit_buf_reset(&group);
	if (davit_read_file("/proc/self/mountinfo", 1 << 24, &mounts, NULL) < 0)
		davit_buf_reset(&mounts);
	r = cgroup_parse(davit_buf_str(&group), davit_buf_str(&mounts), named, &self);
	if (r < 0)
		return davit_error_set(err, r, "cgroup", "out of memory");
	cg->layout = self.layout;
	for (int i = 0; i < CGROUP_CONTROLLERS; i++)
		snprintf(cg->why_not[i], sizeof cg->why_not[i],
			 "this machine offers no %s controller (cgroups: %s)", cgroup_names[i],
			 cgroup_layout_name(cg->layout));
	snprintf(cg->why_no_track, sizeof cg->why_no_track, "this machine has no control groups");
	r = open_parents(cg, run_dir, named != NULL, &self);
	cgroup_self_fini(&self);
	if (r < 0) {
		cgroups_fini(cg);
		return davit_error_set(err, r, "cgroup", "out of memory");
	}
	remove_dead_beside(cg->track);
	for (int i = 0; i < CGROUP_CONTROLLERS; i++)
		if (cg->limits[i] &&
		    (i == 0 || !cg->limits[i - 1] || strcmp(cg->limits[i], cg->limits[i - 1])))
			remove_dead_beside(cg->limits[i]);
	return 0;
}

void cgroups_fini(struct cgroups *cg)
{
	/* Parents without a group in them go unless another holds them too; the others refuse. */
	while (cg->n_locks)
		close(cg->locks[--cg->n_locks]);
	if (cg->track)
		remove_dead(cg->track);
	free(cg->track);
	for (int i = 0; i < CGROUP_CONTROLLERS; i++) {
		if (cg->limits[i])
			remove_dead(cg->limits[i]);
		free(cg->limits[i]);
	}
	*cg = (struct cgroups){0};
}
