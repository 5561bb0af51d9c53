/* SPDX-License-Identifier: MIT
 *
 * What an instance uses: from its groups where they count, else the sum over
 * its processes.
 */
#include "local/local.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Beyond this many processes the sum would hold up the loop for too long. */
#define PROCESSES_MAX 4096

struct sum {
	uint64_t ticks, rss_pages, read_bytes, write_bytes, peak;
	uint32_t processes;
};

static ssize_t read_proc(pid_t pid, const char *file, char *buf, size_t size)
{
	char path[64];
	DAVIT_AUTO_CLOSE int fd = -1;
	ssize_t n;

	snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, buf, size - 1);
	buf[n > 0 ? n : 0] = '\0';
	return n;
}

static uint64_t field(const char *text, const char *key)
{
	const char *p = strstr(text, key);

	return p ? strtoull(p + strlen(key), NULL, 10) : 0;
}

/* Adds one process, with what its children that ended have used. */
static void add_process(struct sum *s, pid_t pid)
{
	char buf[4096], *p;
	unsigned long ut, st;
	long cut, cst, rss;

	if (read_proc(pid, "stat", buf, sizeof buf) <= 0)
		return;
	/* The name may hold anything: the fields begin behind its last parenthesis. */
	p = strrchr(buf, ')');
	if (!p ||
	    sscanf(p + 1,
		   " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %ld %ld %*d %*d %*d %*d %*u %*u %ld",
		   &ut, &st, &cut, &cst, &rss) != 5)
		return;
	s->ticks += ut + st + (uint64_t)cut + (uint64_t)cst;
	s->rss_pages += (uint64_t)rss;
	s->processes++;
	if (read_proc(pid, "io", buf, sizeof buf) > 0) {
		s->read_bytes += field(buf, "\nread_bytes: ");
		s->write_bytes += field(buf, "\nwrite_bytes: ");
	}
	if (read_proc(pid, "status", buf, sizeof buf) > 0)
		s->peak += field(buf, "\nVmHWM:") * 1024;
}

static void add_group(struct sum *s, const char *dir)
{
	char path[CGROUP_PATH_MAX + 32];
	FILE *f;
	int pid;

	snprintf(path, sizeof path, "%s/cgroup.procs", dir);
	f = fopen(path, "re");
	while (f && s->processes < PROCESSES_MAX && fscanf(f, "%d", &pid) == 1)
		add_process(s, pid);
	if (f)
		fclose(f);
}

/* The process and its descendants, by the kernel's lists of children. */
static void add_tree(struct sum *s, pid_t pid, int depth)
{
	char path[64];
	DIR *tasks;
	struct dirent *e;

	if (depth > 64 || s->processes >= PROCESSES_MAX)
		return;
	add_process(s, pid);
	snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
	tasks = opendir(path);
	while (tasks && (e = readdir(tasks))) {
		char children[384];
		int child;
		FILE *f;

		if (e->d_name[0] == '.')
			continue;
		snprintf(children, sizeof children, "%s/%s/children", path, e->d_name);
		f = fopen(children, "re");
		while (f && fscanf(f, "%d", &child) == 1)
			add_tree(s, child, depth + 1);
		if (f)
			fclose(f);
	}
	if (tasks)
		closedir(tasks);
}

bool local_group_cpu(struct local_instance *pi, uint64_t *ret_ns)
{
	const struct cgroups *cg = &local_runtime_of(pi->inst->runtime)->cgroups;
	char dirs[CGROUP_DIRS_MAX][CGROUP_PATH_MAX];
	int64_t usec;

	if (!cg->track_v2 || !cgroups_dirs(cg, pi->inst->workload, dirs))
		return false;
	/* The v2 hierarchy counts CPU time in each group, controllers or not. */
	usec = cgroup_read(dirs[0], "cpu.stat", "usage_usec");
	if (usec < 0)
		return false;
	*ret_ns = (uint64_t)usec * 1000;
	return true;
}

static int64_t first_of(const char *dir, const char *v2, const char *v1)
{
	int64_t v = cgroup_read(dir, v2, NULL);

	return v >= 0 ? v : cgroup_read(dir, v1, NULL);
}

static void memory_of_group(const struct cgroups *cg, const struct davit_workload *w, struct davit_stats *st)
{
	char dir[CGROUP_PATH_MAX];
	int64_t v;

	if (!w->memory || !cg->limits[CGROUP_MEMORY])
		return;
	snprintf(dir, sizeof dir, "%s/%s", cg->limits[CGROUP_MEMORY], w->id);
	v = first_of(dir, "memory.current", "memory.usage_in_bytes");
	if (v < 0)
		return;
	st->memory = (uint64_t)v;
	v = first_of(dir, "memory.peak", "memory.max_usage_in_bytes");
	st->memory_peak = v > 0 ? (uint64_t)v : 0;
	v = first_of(dir, "memory.max", "memory.limit_in_bytes");
	st->memory_limit = v > 0 && v < INT64_MAX ? (uint64_t)v : 0;
}

/* In a network of its own, but for the loopback. */
static void network_of(pid_t pid, struct davit_stats *st)
{
	static const char ours[] = "/proc/self/ns/net";
	char path[64], line[512];
	struct stat a, b;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/ns/net", (int)pid);
	if (stat(path, &a) < 0 || stat(ours, &b) < 0 || (a.st_dev == b.st_dev && a.st_ino == b.st_ino))
		return;
	snprintf(path, sizeof path, "/proc/%d/net/dev", (int)pid);
	f = fopen(path, "re");
	if (f)
		st->net_rx_bytes = st->net_tx_bytes = 0;
	while (f && fgets(line, sizeof line, f)) {
		char name[64];
		uint64_t in, out;

		if (sscanf(line, " %63[^:]: %" SCNu64 " %*u %*u %*u %*u %*u %*u %*u %" SCNu64, name, &in,
			   &out) == 3 &&
		    strcmp(name, "lo")) {
			st->net_rx_bytes += (int64_t)in;
			st->net_tx_bytes += (int64_t)out;
		}
	}
	if (f)
		fclose(f);
}

static void stats_read(struct davit_instance *inst, struct davit_stats *ret, struct davit_op *op)
{
	struct local_instance *pi = local_instance_of(inst);
	const struct cgroups *cg = &local_runtime_of(inst->runtime)->cgroups;
	char dirs[CGROUP_DIRS_MAX][CGROUP_PATH_MAX];
	struct davit_stats st = {.net_rx_bytes = -1, .net_tx_bytes = -1};
	struct sum s = {0};
	uint64_t used;

	if (!pi->inst || pi->state != DAVIT_STATE_STARTED) {
		davit_op_fail(op, DAVIT_ESTATE, "process", "the instance does not run");
		return;
	}
	if (cgroups_dirs(cg, inst->workload, dirs))
		add_group(&s, dirs[0]);
	if (!s.processes)
		add_tree(&s, pi->pid, 0);
	st.cpu_ns = s.ticks * (UINT64_C(1000000000) / (uint64_t)sysconf(_SC_CLK_TCK));
	if (pi->cpu_known && local_group_cpu(pi, &used))
		st.cpu_ns = used - pi->cpu_base;
	st.memory = s.rss_pages * (uint64_t)sysconf(_SC_PAGESIZE);
	/* Peaks of several processes were not at the same time: their sum says nothing. */
	st.memory_peak = s.processes == 1 ? s.peak : 0;
	st.processes = s.processes;
	st.read_bytes = s.read_bytes;
	st.write_bytes = s.write_bytes;
	memory_of_group(cg, inst->workload, &st);
	network_of(pi->pid, &st);
	*ret = st;
	davit_op_complete(op, 0);
}

const struct davit_stats_facet local_stats = {.read = stats_read};
