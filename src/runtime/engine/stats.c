/* SPDX-License-Identifier: MIT
 *
 * What a container uses. The engine is asked only where the kernel cannot be: Docker
 * collects once a second for whoever asks, however many ask.
 */
#include "runtime/engine/impl.h"

#include "base/file.h"
#include "local/cgroup.h"

#include <stdio.h>
#include <string.h>

/* --- from the container's own control groups --- */

#define TEXT_MAX (4 << 20)

/* The directories of its groups: each NULL where there is none. */
struct groups {
	char *memory, *cpu, *pids, *io; /* by version 1, or all of them `unified` */
	char *unified;
};

static void groups_fini(struct groups *g)
{
	free(g->memory);
	free(g->cpu);
	free(g->pids);
	free(g->io);
	free(g->unified);
}

/* Only a group that has the container's name is its own: a pid may be one of another
 * namespace, and what is mounted here may show another part of the hierarchy. */
static char *group_of(const char *cgroup, const char *mounts, const char *controller, const char *container)
{
	char *dir = cgroup_directory(cgroup, mounts, controller);

	if (dir && strstr(dir, container))
		return dir;
	free(dir);
	return NULL;
}

/* Read once: each container has mounts of its own among them, and these stay. */
static const char *mounts_of(struct engine *e)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	char *line, *save = NULL;

	if (e->mounts.len || davit_read_file("/proc/self/mountinfo", TEXT_MAX, &text, NULL) < 0 || !text.len)
		return davit_buf_str(&e->mounts);
	for (line = strtok_r(text.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (strstr(line, " - cgroup"))
			davit_buf_addf(&e->mounts, "%s\n", line);
	return davit_buf_str(&e->mounts);
}

static bool find_groups(struct engine *e, const struct engine_instance *ei, struct groups *ret)
{
	DAVIT_AUTO_BUF cgroup = DAVIT_BUF_INIT;
	const char *own, *all = mounts_of(e);
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/cgroup", (int)ei->pid);
	if (ei->pid < 2 || davit_read_file(path, TEXT_MAX, &cgroup, NULL) < 0)
		return false;
	own = davit_buf_str(&cgroup);
	*ret = (struct groups){
		.memory = group_of(own, all, "memory", ei->container),
		.cpu = group_of(own, all, "cpuacct", ei->container),
		.pids = group_of(own, all, "pids", ei->container),
		.io = group_of(own, all, "blkio", ei->container),
		.unified = group_of(own, all, NULL, ei->container),
	};
	return true;
}

/* A number of version 1, or of version 2; -1: neither has it. */
static int64_t either(const char *v1, const char *file1, const char *key1, const char *v2, const char *file2,
		      const char *key2)
{
	int64_t n = v1 ? cgroup_read(v1, file1, key1) : -1;

	return n >= 0 || !v2 ? n : cgroup_read(v2, file2, key2);
}

/* True if all that an engine always knows is there. */
static bool read_usage(const struct groups *g, bool limited, struct davit_stats *ret)
{
	int64_t memory = either(g->memory, "memory.usage_in_bytes", NULL, g->unified, "memory.current", NULL);
	int64_t cache = either(g->memory, "memory.stat", "total_inactive_file", g->unified, "memory.stat",
			       "inactive_file");
	int64_t peak = either(g->memory, "memory.max_usage_in_bytes", NULL, g->unified, "memory.peak", NULL);
	int64_t limit = either(g->memory, "memory.limit_in_bytes", NULL, g->unified, "memory.max", NULL);
	int64_t cpu = g->cpu ? cgroup_read(g->cpu, "cpuacct.usage", NULL) : -1;
	int64_t processes = either(g->pids, "pids.current", NULL, g->unified, "pids.current", NULL);

	if (cpu < 0 && g->unified) {
		cpu = cgroup_read(g->unified, "cpu.stat", "usage_usec");
		cpu = cpu < 0 ? cpu : cpu * 1000;
	}
	if (memory < 0 || cpu < 0 || processes < 0)
		return false;
	*ret = (struct davit_stats){
		.cpu_ns = (uint64_t)cpu,
		.memory = (uint64_t)(cache > 0 && cache < memory ? memory - cache : memory),
		.memory_peak = peak > 0 ? (uint64_t)peak : 0,
		.memory_limit = limited && limit > 0 && limit < INT64_MAX ? (uint64_t)limit : 0,
		.processes = (uint32_t)processes,
		.net_rx_bytes = -1,
		.net_tx_bytes = -1,
	};
	return true;
}

/* "8:0 Read 4096" a line, of each device, and "Total 8192" at the end. */
static void read_io_v1(const char *dir, struct davit_stats *ret)
{
	char text[8192], word[16], *line, *save = NULL;
	unsigned long long n;

	if (cgroup_get(dir, "blkio.throttle.io_service_bytes_recursive", text, sizeof text) <= 0 &&
	    cgroup_get(dir, "blkio.throttle.io_service_bytes", text, sizeof text) <= 0)
		return;
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (sscanf(line, "%*u:%*u %15s %llu", word, &n) != 2)
			continue;
		if (!strcmp(word, "Read"))
			ret->read_bytes += n;
		else if (!strcmp(word, "Write"))
			ret->write_bytes += n;
	}
}

/* "8:0 rbytes=4096 wbytes=0 ..." a line, of each device. */
static void read_io_v2(const char *dir, struct davit_stats *ret)
{
	char text[8192], *line, *save = NULL;
	unsigned long long in, out;

	if (cgroup_get(dir, "io.stat", text, sizeof text) <= 0)
		return;
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (sscanf(line, "%*u:%*u rbytes=%llu wbytes=%llu", &in, &out) == 2) {
			ret->read_bytes += in;
			ret->write_bytes += out;
		}
}

/* What went over the interfaces of its network, but for its own loopback. */
static void read_network(pid_t pid, struct davit_stats *ret)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	unsigned long long in, out;
	char path[64], *line, *colon, *save = NULL;

	snprintf(path, sizeof path, "/proc/%d/net/dev", (int)pid);
	if (davit_read_file(path, TEXT_MAX, &text, NULL) < 0 || !text.len)
		return;
	ret->net_rx_bytes = ret->net_tx_bytes = 0;
	for (line = strtok_r(text.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		colon = strchr(line, ':');
		if (!colon || sscanf(colon + 1, "%llu %*u %*u %*u %*u %*u %*u %*u %llu", &in, &out) != 2)
			continue;
		line += strspn(line, " ");
		if (!strncmp(line, "lo:", 3))
			continue;
		ret->net_rx_bytes += (int64_t)in;
		ret->net_tx_bytes += (int64_t)out;
	}
}

static bool in_hosts_network(const struct davit_instance *inst)
{
	return inst->workload->network && !strcmp(inst->workload->network, "host");
}

static bool read_directly(struct davit_instance *inst, struct davit_stats *ret)
{
	const struct engine_instance *ei = engine_instance(inst);
	struct groups g = {0};
	bool all =
		find_groups(engine_of(inst->runtime), ei, &g) && read_usage(&g, inst->workload->memory, ret);

	if (all && g.io)
		read_io_v1(g.io, ret);
	else if (all && g.unified)
		read_io_v2(g.unified, ret);
	if (all && !in_hosts_network(inst))
		read_network(ei->pid, ret);
	groups_fini(&g);
	return all;
}

/* --- from the engine --- */

static void stats_answered(struct task *t, struct http_call *c, const struct davit_error *err)
{
	/* As reals: an unsigned number that has wrapped is too big for an integer. */
	json_t *o =
		err ? NULL : json_loadb(davit_buf_str(&c->body), c->body.len, JSON_DECODE_INT_AS_REAL, NULL);

	if (err && err->code == DAVIT_ENOENT)
		task_fail(t, DAVIT_ESTATE, "the instance does not run");
	else if (err)
		task_end(t, err);
	else if (!json_is_object(o))
		task_fail(t, DAVIT_EPROTO, "the engine's statistics make no sense");
	else if (engine_instance(t->inst)->state != DAVIT_STATE_STARTED)
		task_fail(t, DAVIT_ESTATE, "the instance does not run");
	else {
		struct davit_stats *stats = t->ret;
		observe_stats(o, stats);
		if (!t->inst->workload->memory) /* the host's memory then */
			stats->memory_limit = 0;
		if (in_hosts_network(t->inst))
			stats->net_rx_bytes = stats->net_tx_bytes = -1;
		task_end(t, NULL);
	}
	json_decref(o);
}

static void stats_read(struct davit_instance *inst, struct davit_stats *ret, struct davit_op *op)
{
	const struct engine *e = engine_of(inst->runtime);
	struct task *t;

	if (!davit_can(&e->capabilities, DAVIT_CAP_STATS)) {
		davit_op_fail(op, DAVIT_ENOTSUP, e->rt->name, "%s", e->capabilities.why_not[DAVIT_CAP_STATS]);
		return;
	}
	t = task_on_running(inst, op);
	if (!t)
		return;
	if (read_directly(inst, ret)) {
		task_end(t, NULL);
		return;
	}
	t->ret = ret;
	/* one-shot: without it the engine measures for a second. */
	task_call(t,
		  http_new(&t->e->streams, "GET", "/containers/%s/stats?stream=0&one-shot=1",
			   engine_instance(inst)->container),
		  stats_answered);
}

const struct davit_stats_facet engine_stats = {.read = stats_read};
