/* SPDX-License-Identifier: MIT
 *
 * Making, limiting and removing the groups of instances.
 */
#include "runtime/process/cgroup.h"

#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char *const names[CGROUP_CONTROLLERS] = {
	[CGROUP_MEMORY] = "memory",
	[CGROUP_CPU] = "cpu",
	[CGROUP_PIDS] = "pids",
};

/* Writes text to DIR/file in one write, as the kernel wants it: 0 or an errno. */
static int put(const char *dir, const char *file, const char *text)
{
	char path[CGROUP_PATH_MAX + 64];
	DAVIT_AUTO_CLOSE int fd = -1;

	snprintf(path, sizeof path, "%s/%s", dir, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return errno;
	return write(fd, text, strlen(text)) < 0 ? errno : 0;
}

static int put_number(const char *dir, const char *file, uint64_t n)
{
	char text[32];

	snprintf(text, sizeof text, "%" PRIu64, n);
	return put(dir, file, text);
}

/* Reads DIR/file into buf: the length, or -1. */
static ssize_t get(const char *dir, const char *file, char *buf, size_t size)
{
	char path[CGROUP_PATH_MAX + 64];
	DAVIT_AUTO_CLOSE int fd = -1;
	ssize_t n;

	snprintf(path, sizeof path, "%s/%s", dir, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : DAVIT_EINTR(read(fd, buf, size - 1));
	buf[n > 0 ? n : 0] = '\0';
	return n;
}

int64_t cgroup_read(const char *dir, const char *file, const char *key)
{
	char buf[4096], *p = buf, *end;
	size_t n = key ? strlen(key) : 0;
	long long v;

	if (get(dir, file, buf, sizeof buf) <= 0)
		return -1;
	while (n && (strncmp(p, key, n) || p[n] != ' ')) {
		p = strchr(p, '\n');
		if (!p)
			return -1;
		p++;
	}
	p += n + (n > 0);
	if (!strncmp(p, "max", 3))
		return INT64_MAX;
	errno = 0;
	v = strtoll(p, &end, 10);
	if (errno == ERANGE)
		return INT64_MAX;
	return end == p || v < 0 ? -1 : v;
}

/* Makes a parent group; one that is there is taken if it can be written to. An errno or 0. */
static int make_parent(const char *dir)
{
	char probe[CGROUP_PATH_MAX + 64];

	if (strlen(dir) + sizeof "/0123456789abcdef" > CGROUP_PATH_MAX)
		return ENAMETOOLONG;
	if (mkdir(dir, 0755) < 0 && errno != EEXIST)
		return errno;
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

	if (get(dir, file, buf, sizeof buf) <= 0)
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
		e = put(dirs[i], "cgroup.subtree_control", text);
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
	e = make_parent(cg->track);
	if (e) {
		snprintf(cg->why_no_track, sizeof cg->why_no_track, "%s cannot be made: %s", cg->track,
			 strerror(e));
		free(DAVIT_TAKE(cg->track));
		return 0;
	}
	cg->track_v2 = true;
	for (int i = 0; i < CGROUP_CONTROLLERS; i++) {
		if (cg->limits[i] || !enabled(top, "cgroup.controllers", names[i]))
			continue;
		if (!limits) {
			if (asprintf(&limits, "%s/%s-limits", top, name) < 0) {
				limits = NULL;
				return DAVIT_ENOMEM;
			}
			made = make_parent(limits);
		}
		e = made ? made : enable(top, limits, names[i]);
		if (e) {
			snprintf(cg->why_not[i], sizeof cg->why_not[i],
				 "no %s controller is writable: %s: %s", names[i], limits, strerror(e));
			continue;
		}
		cg->limits[i] = strdup(limits);
		if (!cg->limits[i])
			return DAVIT_ENOMEM;
	}
	return 0;
}

static int open_v1(struct cgroups *cg, const struct cgroup_self *self, const char *name)
{
	for (int i = 0; i < CGROUP_CONTROLLERS; i++) {
		DAVIT_AUTO_FREE char *dir = NULL;
		int e;

		if (!self->v1_own[i])
			continue;
		if (asprintf(&dir, "%s/%s", self->v1_own[i], name) < 0) {
			dir = NULL;
			return DAVIT_ENOMEM;
		}
		e = make_parent(dir);
		if (e) {
			snprintf(cg->why_not[i], sizeof cg->why_not[i],
				 "no %s controller is writable: %s: %s", names[i], dir, strerror(e));
			continue;
		}
		/* Kernels before 5.11 count the children of a group only when told so. */
		if (i == CGROUP_MEMORY)
			put(dir, "memory.use_hierarchy", "1");
		cg->limits[i] = DAVIT_TAKE(dir);
	}
	return 0;
}

/* The choice of an earlier daemon on the same run directory: lines "own <path>"
 * for each v1 controller by name and "v2" for the top. It is followed where the
 * directory is there still. */
static int remember(const char *run_dir, struct cgroup_self *self, char **top)
{
	DAVIT_AUTO_FREE char *path = davit_path_join(run_dir, "cgroups");
	DAVIT_AUTO_BUF
	text = DAVIT_BUF_INIT;
	char *save = NULL;

	if (!path)
		return DAVIT_ENOMEM;
	if (!davit_read_file(path, 16384, &text, NULL) && text.len) {
		for (char *l = strtok_r(text.data, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
			char *dir = strchr(l, ' '), **slot = NULL, *copy;

			if (!dir)
				continue;
			*dir++ = '\0';
			if (!strcmp(l, "v2") && *top)
				slot = top;
			for (int i = 0; i < CGROUP_CONTROLLERS; i++)
				if (!strcmp(l, names[i]) && self->v1_own[i])
					slot = &self->v1_own[i];
			if (!slot || access(dir, W_OK) < 0)
				continue;
			copy = strdup(dir);
			if (!copy)
				return DAVIT_ENOMEM;
			free(*slot);
			*slot = copy;
		}
		return 0;
	}
	davit_buf_reset(&text);
	if (*top)
		davit_buf_addf(&text, "v2 %s\n", *top);
	for (int i = 0; i < CGROUP_CONTROLLERS; i++)
		if (self->v1_own[i])
			davit_buf_addf(&text, "%s %s\n", names[i], self->v1_own[i]);
	if (text.oom)
		return DAVIT_ENOMEM;
	/* Losing the note only costs the limits' place after a move of the daemon. */
	if (text.len)
		davit_write_file(path, text.data, text.len, 0600, NULL);
	return 0;
}

static void name_of(const char *run_dir, char name[32])
{
	DAVIT_AUTO_FREE char *real = realpath(run_dir, NULL);
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (const char *p = real ? real : run_dir; *p; p++)
		h = (h ^ (unsigned char)*p) * UINT64_C(0x100000001b3);
	snprintf(name, 32, "davit-%08x", (unsigned)(h ^ (h >> 32)));
}

static int open_parents(struct cgroups *cg, const char *run_dir, struct cgroup_self *self)
{
	DAVIT_AUTO_FREE char *top = NULL;
	char name[32];
	int r;

	if (self->v2_own) {
		top = topmost_writable(self->v2_mount, self->v2_own);
		if (!top)
			snprintf(cg->why_no_track, sizeof cg->why_no_track,
				 "no v2 group at or above %s is writable", self->v2_own);
	}
	r = remember(run_dir, self, &top);
	if (r < 0)
		return r;
	name_of(run_dir, name);
	r = open_v1(cg, self, name);
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

int cgroups_open(struct cgroups *cg, const char *run_dir, struct davit_error *err)
{
	DAVIT_AUTO_BUF
	group = DAVIT_BUF_INIT;
	DAVIT_AUTO_BUF
	mounts = DAVIT_BUF_INIT;
	struct cgroup_self self = {0};
	int r;

	*cg = (struct cgroups){0};
	if (davit_read_file("/proc/self/cgroup", 1 << 20, &group, NULL) < 0)
		davit_buf_reset(&group);
	if (davit_read_file("/proc/self/mountinfo", 1 << 24, &mounts, NULL) < 0)
		davit_buf_reset(&mounts);
	r = cgroup_parse(davit_buf_str(&group), davit_buf_str(&mounts), &self);
	if (r < 0)
		return davit_error_set(err, r, "cgroup", "out of memory");
	cg->layout = self.layout;
	for (int i = 0; i < CGROUP_CONTROLLERS; i++)
		snprintf(cg->why_not[i], sizeof cg->why_not[i],
			 "this machine offers no %s controller (cgroups: %s)", names[i],
			 cgroup_layout_name(cg->layout));
	snprintf(cg->why_no_track, sizeof cg->why_no_track, "this machine has no control groups");
	r = open_parents(cg, run_dir, &self);
	cgroup_self_fini(&self);
	if (r < 0) {
		cgroups_fini(cg);
		return davit_error_set(err, r, "cgroup", "out of memory");
	}
	return 0;
}

void cgroups_fini(struct cgroups *cg)
{
	free(cg->track);
	for (int i = 0; i < CGROUP_CONTROLLERS; i++)
		free(cg->limits[i]);
	*cg = (struct cgroups){0};
}

static bool wants(const struct davit_workload *w, int controller)
{
	switch (controller) {
	case CGROUP_MEMORY:
		return w->memory > 0;
	case CGROUP_CPU:
		return w->cpu_millicores > 0;
	default:
		return w->pids > 0;
	}
}

static size_t add_dir(char ret[CGROUP_DIRS_MAX][CGROUP_PATH_MAX], size_t n, const char *parent,
		      const char *id)
{
	snprintf(ret[n], CGROUP_PATH_MAX, "%s/%s", parent, id);
	for (size_t i = 0; i < n; i++)
		if (!strcmp(ret[i], ret[n]))
			return n;
	return n + 1;
}

size_t cgroups_dirs(const struct cgroups *cg, const struct davit_workload *w,
		    char ret[CGROUP_DIRS_MAX][CGROUP_PATH_MAX])
{
	bool v2_limits = false;
	size_t n = 0;

	/* In pure v2 a process is in one group: the one with limits tracks too. */
	if (cg->layout == CGROUP_V2)
		for (int i = 0; i < CGROUP_CONTROLLERS; i++)
			v2_limits |= wants(w, i) && cg->limits[i];
	if (cg->track && !v2_limits)
		n = add_dir(ret, n, cg->track, w->id);
	for (int i = 0; i < CGROUP_CONTROLLERS; i++)
		if (wants(w, i) && cg->limits[i])
			n = add_dir(ret, n, cg->limits[i], w->id);
	return n;
}

static int limit_memory(const struct cgroups *cg, const char *dir, const struct davit_workload *w)
{
	int e;

	if (cg->layout == CGROUP_V2) {
		e = put_number(dir, "memory.max", w->memory);
		/* There is no such file on a kernel without swap. */
		if (e)
			return e;
		e = put(dir, "memory.swap.max", "0");
		return e == ENOENT ? 0 : e;
	}
	e = put_number(dir, "memory.limit_in_bytes", w->memory);
	if (e)
		return e;
	e = put_number(dir, "memory.memsw.limit_in_bytes", w->memory);
	return e == ENOENT ? 0 : e;
}

static int limit_cpu(const struct cgroups *cg, const char *dir, const struct davit_workload *w)
{
	/* The kernel's least quota is 1 ms: small shares need the longest period. */
	uint64_t period = w->cpu_millicores < 10 ? 1000000 : 100000;
	uint64_t quota = (uint64_t)w->cpu_millicores * (period / 1000);
	char text[64];
	int e;

	if (cg->layout == CGROUP_V2) {
		snprintf(text, sizeof text, "%" PRIu64 " %" PRIu64, quota, period);
		return put(dir, "cpu.max", text);
	}
	e = put_number(dir, "cpu.cfs_period_us", period);
	return e ? e : put_number(dir, "cpu.cfs_quota_us", quota);
}

static int limit(const struct cgroups *cg, int controller, const char *dir, const struct davit_workload *w)
{
	switch (controller) {
	case CGROUP_MEMORY:
		return limit_memory(cg, dir, w);
	case CGROUP_CPU:
		return limit_cpu(cg, dir, w);
	default:
		return put_number(dir, "pids.max", w->pids);
	}
}

static int make(const struct cgroups *cg, const struct davit_workload *w, struct davit_error *err)
{
	char dirs[CGROUP_DIRS_MAX][CGROUP_PATH_MAX];
	size_t n = cgroups_dirs(cg, w, dirs);

	for (size_t i = 0; i < n; i++)
		if (mkdir(dirs[i], 0755) < 0 && errno != EEXIST)
			return davit_error_errno(err, errno, "cgroup", "cannot make %s", dirs[i]);
	for (int i = 0; i < CGROUP_CONTROLLERS; i++) {
		char dir[CGROUP_PATH_MAX];
		int e;

		if (!wants(w, i))
			continue;
		snprintf(dir, sizeof dir, "%s/%s", cg->limits[i], w->id);
		e = limit(cg, i, dir, w);
		if (e)
			return davit_error_errno(err, e, names[i], "cannot set the %s limit in %s", names[i],
						 dir);
	}
	return 0;
}

int cgroups_make(const struct cgroups *cg, const struct davit_workload *w, struct davit_error *err)
{
	int r;

	for (int i = 0; i < CGROUP_CONTROLLERS; i++)
		if (wants(w, i) && !cg->limits[i])
			return davit_error_set(err, DAVIT_ENOTSUP, names[i], "%s", cg->why_not[i]);
	r = make(cg, w, err);
	if (r < 0)
		cgroups_remove(cg, w->id);
	return r;
}

/* The distinct parents, borrowed. */
static size_t parents(const struct cgroups *cg, const char *ret[1 + CGROUP_CONTROLLERS])
{
	size_t n = 0;

	if (cg->track)
		ret[n++] = cg->track;
	for (int i = 0; i < CGROUP_CONTROLLERS; i++) {
		bool known = !cg->limits[i];

		for (size_t k = 0; k < n && !known; k++)
			known = !strcmp(ret[k], cg->limits[i]);
		if (!known)
			ret[n++] = cg->limits[i];
	}
	return n;
}

/* Removes a group and the groups that the workload made in it. */
static bool remove_group(const char *dir, int depth)
{
	DIR *d;
	struct dirent *e;

	if (!rmdir(dir) || errno == ENOENT)
		return true;
	if (errno != EBUSY && errno != ENOTEMPTY)
		return false;
	d = depth < 16 ? opendir(dir) : NULL;
	if (!d)
		return false;
	while ((e = readdir(d))) {
		char sub[PATH_MAX];

		if (e->d_type != DT_DIR || e->d_name[0] == '.')
			continue;
		if (snprintf(sub, sizeof sub, "%s/%s", dir, e->d_name) < (int)sizeof sub)
			remove_group(sub, depth + 1);
	}
	closedir(d);
	return !rmdir(dir) || errno == ENOENT;
}

bool cgroups_remove(const struct cgroups *cg, const char *id)
{
	const char *dirs[1 + CGROUP_CONTROLLERS];
	size_t n = parents(cg, dirs);
	bool gone = true;

	for (size_t i = 0; i < n; i++) {
		char dir[CGROUP_PATH_MAX];

		snprintf(dir, sizeof dir, "%s/%s", dirs[i], id);
		gone &= remove_group(dir, 0);
	}
	return gone;
}

static bool is_id(const char *s)
{
	return strlen(s) == DAVIT_ID_MAX - 1 && strspn(s, "0123456789abcdef") == DAVIT_ID_MAX - 1;
}

void cgroups_each(const struct cgroups *cg, void (*fn)(void *user, const char *id), void *user)
{
	const char *dirs[1 + CGROUP_CONTROLLERS];
	size_t n = parents(cg, dirs);

	for (size_t i = 0; i < n; i++) {
		DIR *d = opendir(dirs[i]);
		struct dirent *e;

		while (d && (e = readdir(d)))
			if (is_id(e->d_name))
				fn(user, e->d_name);
		if (d)
			closedir(d);
	}
}

void cgroups_kill(const struct cgroups *cg, const char *id)
{
	const char *dirs[1 + CGROUP_CONTROLLERS];
	size_t n = parents(cg, dirs);

	for (size_t i = 0; i < n; i++) {
		char dir[CGROUP_PATH_MAX], buf[4096], *save = NULL;

		snprintf(dir, sizeof dir, "%s/%s", dirs[i], id);
		/* Only v2 has it; v1 lists its processes, and a group is ours alone. */
		if (!put(dir, "cgroup.kill", "1") || get(dir, "cgroup.procs", buf, sizeof buf) <= 0)
			continue;
		for (char *p = strtok_r(buf, "\n", &save); p; p = strtok_r(NULL, "\n", &save)) {
			long pid = strtol(p, NULL, 10);

			if (pid > 1 && pid <= INT_MAX)
				kill((pid_t)pid, SIGKILL);
		}
	}
}
