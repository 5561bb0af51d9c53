/* SPDX-License-Identifier: MIT
 *
 * Making, limiting and removing the groups of instances.
 */
#include "local/cgroup.h"

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

int cgroup_put(const char *dir, const char *file, const char *text)
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
	return cgroup_put(dir, file, text);
}

ssize_t cgroup_get(const char *dir, const char *file, char *buf, size_t size)
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

	if (cgroup_get(dir, file, buf, sizeof buf) <= 0)
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
		for (int i = 0; i < CGROUP_LIMITS; i++)
			v2_limits |= wants(w, i) && cg->limits[i];
	if (cg->track && !v2_limits)
		n = add_dir(ret, n, cg->track, w->id);
	for (int i = 0; i < CGROUP_LIMITS; i++)
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
		e = cgroup_put(dir, "memory.swap.max", "0");
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
		return cgroup_put(dir, "cpu.max", text);
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
	for (int i = 0; i < CGROUP_LIMITS; i++) {
		char dir[CGROUP_PATH_MAX];
		int e;

		if (!wants(w, i))
			continue;
		snprintf(dir, sizeof dir, "%s/%s", cg->limits[i], w->id);
		e = limit(cg, i, dir, w);
		if (e)
			return davit_error_errno(err, e, cgroup_names[i], "cannot set the %s limit in %s",
						 cgroup_names[i], dir);
	}
	return 0;
}

int cgroups_make(const struct cgroups *cg, const struct davit_workload *w, struct davit_error *err)
{
	int r;

	for (int i = 0; i < CGROUP_LIMITS; i++)
		if (wants(w, i) && !cg->limits[i])
			return davit_error_set(err, DAVIT_ENOTSUP, cgroup_names[i], "%s", cg->why_not[i]);
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
		cgroup_put(dir, "freezer.state", "THAWED"); /* v1: what is frozen does not die */
		/* Only v2 has it; v1 lists its processes, and a group is ours alone. */
		if (!cgroup_put(dir, "cgroup.kill", "1") ||
		    cgroup_get(dir, "cgroup.procs", buf, sizeof buf) <= 0)
			continue;
		for (char *p = strtok_r(buf, "\n", &save); p; p = strtok_r(NULL, "\n", &save)) {
			long pid = strtol(p, NULL, 10);

			if (pid > 1 && pid <= INT_MAX)
				kill((pid_t)pid, SIGKILL);
		}
	}
}
