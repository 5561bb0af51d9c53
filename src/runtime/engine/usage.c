/* SPDX-License-Identifier: MIT
 *
 * What a container of this host uses, by the kernel's own files. A Docker Engine
 * answers each question for statistics with its next measurement, up to a second
 * later.
 */
#include "runtime/engine/impl.h"

#include "base/file.h"
#include "local/cgroup.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { CPU, MEMORY, PIDS, IO, GROUPS };

static const char *const names[GROUPS] = {"cpuacct", "memory", "pids", "blkio"};

/* Is `name` in the list "a,b"? */
static bool has(const char *list, size_t n, const char *name)
{
	size_t len = strlen(name);

	for (const char *end = list + n, *p = list; p < end; p += strcspn(p, ",:") + 1)
		if ((size_t)(end - p) >= len && !strncmp(p, name, len) && (p[len] == ',' || p[len] == ':'))
			return true;
	return false;
}

/* The container's directory in each hierarchy, from a line "NUMBER:LIST:PATH" of
 * /proc/PID/cgroup; what is below it is the container's own business. */
static void take_line(const char *line, const char *container, char dirs[GROUPS][CGROUP_PATH_MAX])
{
	const char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL;
	const char *id = path ? strstr(path, container) : NULL;
	size_t n;

	if (!id)
		return;
	list++;
	path++;
	n = (size_t)(id - path) + strcspn(id, "/");
	for (int i = 0; i < GROUPS; i++)
		if (*list == ':')
			snprintf(dirs[i], CGROUP_PATH_MAX, "/sys/fs/cgroup%.*s", (int)n, path);
		else if (has(list, (size_t)(path - 1 - list), names[i]))
			snprintf(dirs[i], CGROUP_PATH_MAX, "/sys/fs/cgroup/%s%.*s", names[i], (int)n, path);
}

static void find_groups(pid_t pid, const char *container, char dirs[GROUPS][CGROUP_PATH_MAX])
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	char path[64], *line, *save = NULL;

	snprintf(path, sizeof path, "/proc/%d/cgroup", (int)pid);
	if (pid <= 1 || davit_read_file(path, 65536, &text, NULL) < 0)
		return;
	for (line = strtok_r(text.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		take_line(line, container, dirs);
}

static uint64_t one_of(const char *dir, const char *v2, const char *v1, const char *key)
{
	int64_t v = *dir ? cgroup_read(dir, v2, key) : -1;

	if (v < 0 && *dir)
		v = cgroup_read(dir, v1, key);
	return v > 0 && v < INT64_MAX ? (uint64_t)v : 0;
}

/* Lines "8:0 Read 4096" on version 1, "8:0 rbytes=4096 wbytes=0 ..." on 2. */
static void read_io(const char *dir, struct davit_stats *ret)
{
	char buf[4096];
	uint64_t r, w;
	char word[16];

	if (!*dir || (cgroup_get(dir, "io.stat", buf, sizeof buf) < 0 &&
		      cgroup_get(dir, "blkio.throttle.io_service_bytes_recursive", buf, sizeof buf) < 0))
		return;
	for (char *p = buf; *p; p += strcspn(p, "\n"), p += *p == '\n') {
		if (sscanf(p, "%*s rbytes=%" SCNu64 " wbytes=%" SCNu64, &r, &w) == 2) {
			ret->read_bytes += r;
			ret->write_bytes += w;
		} else if (sscanf(p, "%*s %15s %" SCNu64, word, &r) == 2) {
			ret->read_bytes += strcmp(word, "Read") ? 0 : r;
			ret->write_bytes += strcmp(word, "Write") ? 0 : r;
		}
	}
}

/* Of all its interfaces but the loopback; nothing for one in the host's network. */
static void read_network(pid_t pid, struct davit_stats *ret)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	struct stat its, ours;
	uint64_t received, sent;
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/ns/net", (int)pid);
	if (stat(path, &its) < 0 || stat("/proc/self/ns/net", &ours) < 0 || its.st_ino == ours.st_ino)
		return;
	snprintf(path, sizeof path, "/proc/%d/net/dev", (int)pid);
	if (davit_read_file(path, 65536, &text, NULL) < 0)
		return;
	for (const char *p = davit_buf_str(&text); (p = strchr(p, ':')); p++) {
		if (p - davit_buf_str(&text) >= 2 && !strncmp(p - 2, "lo", 2))
			continue;
		if (sscanf(p + 1, "%" SCNu64 " %*u %*u %*u %*u %*u %*u %*u %" SCNu64, &received, &sent) == 2) {
			ret->receive_bytes += received;
			ret->send_bytes += sent;
		}
	}
}

bool usage_read(pid_t pid, const char *container, struct davit_stats *ret)
{
	char dirs[GROUPS][CGROUP_PATH_MAX] = {"", "", "", ""};
	struct davit_stats s = {0};
	uint64_t cache;

	find_groups(pid, container, dirs);
	if (!*dirs[CPU] || !*dirs[MEMORY])
		return false;
	s.cpu_ns = one_of(dirs[CPU], "cpu.stat", "", "usage_usec") * 1000;
	if (!s.cpu_ns)
		s.cpu_ns = one_of(dirs[CPU], "cpuacct.usage", "", NULL);
	s.memory = one_of(dirs[MEMORY], "memory.current", "memory.usage_in_bytes", NULL);
	if (!s.cpu_ns || !s.memory)
		return false;
	cache = one_of(dirs[MEMORY], "memory.stat", "", "total_inactive_file");
	if (!cache)
		cache = one_of(dirs[MEMORY], "memory.stat", "", "inactive_file");
	if (cache < s.memory)
		s.memory -= cache;
	s.memory_peak = one_of(dirs[MEMORY], "memory.peak", "memory.max_usage_in_bytes", NULL);
	s.memory_limit = one_of(dirs[MEMORY], "memory.max", "memory.limit_in_bytes", NULL);
	s.processes = (uint32_t)one_of(dirs[PIDS], "pids.current", "", NULL);
	read_io(dirs[IO], &s);
	read_network(pid, &s);
	*ret = s;
	return true;
}
