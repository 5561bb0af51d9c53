/* SPDX-License-Identifier: MIT
 *
 * How a run ended. The keeper sees the end of davit-init, whose exit code is the
 * program's, or 128 and the signal; which of them it was davit-init has written
 * into the file `exit` of the bundle. That a kill was for lack of memory the
 * groups know as long as they are there: it is written down when it is first seen.
 */
#include "runtime/oci/impl.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static int open_file(struct local_runtime *p, const char *id, const char *name, int flags)
{
	DAVIT_AUTO_FREE char *path = local_path(oci_runtime_of(p)->place->nets.bundles, id, name);

	return path ? open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;
}

static void read_file(struct local_runtime *p, const char *id, const char *name, char *buf, size_t size)
{
	DAVIT_AUTO_CLOSE int fd = open_file(p, id, name, O_RDONLY | O_NONBLOCK);
	ssize_t n = fd < 0 ? -1 : DAVIT_EINTR(read(fd, buf, size - 1));

	buf[n > 0 ? n : 0] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
}

/* Kills for lack of memory since the group was made; both of the instance's own and of
 * that which runc makes beneath it. */
static int64_t oom_kills(struct local_runtime *p, const char *id)
{
	const struct cgroups *cg = &p->cgroups;
	const char *below = oci_runtime_of(p)->place->cgroup, *file, *key = "oom_kill";
	char dir[CGROUP_PATH_MAX], inner[2 * CGROUP_PATH_MAX];
	int64_t own, other = 0;

	if (!cg->limits[CGROUP_MEMORY])
		return 0;
	file = cg->layout == CGROUP_V2 ? "memory.events" : "memory.oom_control";
	snprintf(dir, sizeof dir, "%s/%s", cg->limits[CGROUP_MEMORY], id);
	own = cgroup_read(dir, file, key);
	if (below && *below != '/') {
		snprintf(inner, sizeof inner, "%s/%s/%s", dir, below, id);
		other = cgroup_read(inner, file, key);
	}
	return (own > 0 ? own : 0) + (other > 0 ? other : 0);
}

int oci_exit_prepare(struct local_instance *pi, struct davit_error *err)
{
	struct local_runtime *p = local_runtime_of(pi->inst->runtime);
	DAVIT_AUTO_CLOSE int fd = open_file(p, pi->id, "exit", O_WRONLY | O_TRUNC);
	DAVIT_AUTO_CLOSE int before = -1;
	int64_t kills = pi->run && pi->inst->workload->memory ? oom_kills(p, pi->id) : 0;

	if (fd < 0)
		return davit_error_set(err, DAVIT_ESTATE, p->rt->name, "the bundle of instance %s is gone",
				       pi->id);
	if (!pi->run)
		return 0;
	before = open_file(p, pi->id, "oom", O_WRONLY | O_CREAT | O_TRUNC);
	if (before >= 0)
		dprintf(before, "%lld\n", (long long)kills);
	return 0;
}

static bool was_oom(struct local_runtime *p, const char *id)
{
	char before[32];

	read_file(p, id, "oom", before, sizeof before);
	return oom_kills(p, id) > strtoll(before, NULL, 10);
}

static void note_oom(struct local_runtime *p, const char *id)
{
	DAVIT_AUTO_CLOSE int fd = open_file(p, id, "exit", O_WRONLY | O_TRUNC);

	if (fd >= 0)
		dprintf(fd, "oom %d\n", SIGKILL);
}

void oci_explain(struct local_runtime *p, const char *id, struct davit_exit *exit)
{
	char line[200], kind[8], *rest;
	int number = 0, at = 0;

	read_file(p, id, "exit", line, sizeof line);
	/* The container's first process itself was killed: nobody was left to write. */
	if (!*line && exit->kind == DAVIT_EXIT_SIGNAL && exit->signal == SIGKILL)
		snprintf(line, sizeof line, "signal %d ", SIGKILL);
	if (sscanf(line, "%7s %d%n", kind, &number, &at) != 2)
		return;
	rest = line + at + (line[at] == ' ');
	if (!strcmp(kind, "signal") && number == SIGKILL && was_oom(p, id)) {
		note_oom(p, id);
		strcpy(kind, "oom");
	}
	if (!strcmp(kind, "exec")) {
		exit->kind = DAVIT_EXIT_EXEC;
		snprintf(exit->reason, sizeof exit->reason, "%s", rest);
	} else if (!strcmp(kind, "signal") || !strcmp(kind, "oom")) {
		exit->kind = *kind == 'o' ? DAVIT_EXIT_OOM : DAVIT_EXIT_SIGNAL;
		exit->signal = number;
		exit->code = 0;
		exit->core_dumped = !strcmp(rest, "core");
	}
}
