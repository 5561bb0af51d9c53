/* SPDX-License-Identifier: MIT
 *
 * What /proc and small files tell of processes. A pid alone names nobody: it
 * counts with its start time.
 */
#include "keeper/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

ssize_t keeper_read_file(const char *dir, const char *name, char *buf, size_t size)
{
	char path[KEEPER_PATH_MAX];
	size_t len = 0;
	ssize_t n;

	if ((size_t)snprintf(path, sizeof path, "%s/%s", dir, name) >= sizeof path) {
		errno = ENAMETOOLONG;
		return -1;
	}
	DAVIT_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	while (len < size - 1) {
		n = DAVIT_EINTR(read(fd, buf + len, size - 1 - len));
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	buf[len] = '\0';
	return (ssize_t)len;
}

int keeper_write_file(const char *dir, const char *name, const char *value)
{
	char path[KEEPER_PATH_MAX];
	int fd, r;

	if ((size_t)snprintf(path, sizeof path, "%s%s%s", dir, *name ? "/" : "", name) >= sizeof path) {
		errno = ENAMETOOLONG;
		return -1;
	}
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	r = davit_write_full(fd, value, strlen(value));
	davit_closep(&fd);
	return r;
}

int keeper_stat(pid_t pid, struct keeper_stat *ret)
{
	char dir[32], buf[1024], *p;
	struct keeper_stat st = {.pid = pid};

	snprintf(dir, sizeof dir, "/proc/%d", (int)pid);
	if (keeper_read_file(dir, "stat", buf, sizeof buf) < 0)
		return errno == ENOENT ? ESRCH : errno;
	/* The name may hold blanks and parentheses: the last one ends it. */
	p = strrchr(buf, ')');
	if (!p || sscanf(p + 1, " %c %d %d %d", &st.state, &st.ppid, &st.group, &st.session) != 4)
		return ESRCH;
	p++;
	for (int field = 3; p && field <= 52; field++) {
		p = strchr(p, ' ');
		if (!p)
			break;
		p++;
		if (field == 22)
			st.start_ticks = strtoull(p, NULL, 10);
		else if (field == 52)
			st.exit_status = (int)strtol(p, NULL, 10);
	}
	*ret = st;
	return 0;
}

int keeper_pidfd(pid_t pid, uint64_t start_ticks)
{
	struct keeper_stat st;
	int fd, r;

	if (pid <= 0) {
		errno = ESRCH;
		return -1;
	}
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd < 0)
		return -1;
	/* Looked at after it was opened: it is that one, for good. */
	r = keeper_stat(pid, &st);
	if (r == 0 && st.start_ticks == start_ticks)
		return fd;
	close(fd);
	errno = r ? r : ESRCH;
	return -1;
}

int keeper_pidfd_signal(int pidfd, int signo, unsigned flags)
{
	return (int)syscall(SYS_pidfd_send_signal, pidfd, signo, NULL, flags);
}

bool keeper_environ_id(pid_t pid, char id[24])
{
	static const char name[] = "DAVIT_INSTANCE=";
	char path[32], buf[4096];
	size_t have, matched = 0, n_id = 0;
	bool at_start = true, in_value = false;
	ssize_t n;

	snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
	DAVIT_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	/* Byte by byte, since an entry may lie across two reads. */
	while ((n = DAVIT_EINTR(read(fd, buf, sizeof buf))) > 0) {
		have = (size_t)n;
		for (size_t i = 0; i < have; i++) {
			if (in_value) {
				if (!buf[i]) {
					id[n_id] = '\0';
					return true;
				}
				if (n_id == 23)
					return false; /* no id of ours is so long */
				id[n_id++] = buf[i];
			} else if (!buf[i]) {
				at_start = true;
				matched = 0;
			} else if (at_start && buf[i] == name[matched]) {
				in_value = ++matched == sizeof name - 1;
			} else {
				at_start = false;
			}
		}
	}
	return false;
}

/* A line of /proc/PID/cgroup names a directory that the slot's path ends with. */
static bool in_cgroup(const struct keeper *k, const struct keeper_slot *s, pid_t pid)
{
	char dir[32], buf[4096], want[KEEPER_PATH_MAX], *save, *line;
	size_t len, n;

	if (!keeper_cgroup(k, s, 0, want))
		return false;
	len = strlen(want);
	snprintf(dir, sizeof dir, "/proc/%d", (int)pid);
	if (keeper_read_file(dir, "cgroup", buf, sizeof buf) < 0)
		return false;
	for (line = strtok_r(buf, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		const char *path = strchr(line, ':');
		path = path ? strchr(path + 1, ':') : NULL;
		if (!path || !strcmp(++path, "/"))
			continue;
		n = strlen(path);
		/* In it, or in a cgroup that it made below. */
		for (; n > 1; n = (size_t)((const char *)memrchr(path, '/', n) - path))
			if (len >= n && !memcmp(want + len - n, path, n))
				return true;
	}
	return false;
}

bool keeper_is_member(struct keeper *k, const struct keeper_slot *s, pid_t pid)
{
	struct keeper_stat st;
	pid_t at = pid;
	char id[24];

	/* A chain of parents has an end; the bound is for one that changes under us. */
	for (int depth = 0; depth < 64 && at > 1 && keeper_stat(at, &st) == 0; depth++) {
		if (st.pid == s->pid && st.start_ticks == s->start_ticks)
			return true;
		if (st.pid == s->session && st.start_ticks == s->session_ticks)
			return true;
		if (st.session == s->session && st.ppid == getpid())
			return true;
		at = st.ppid;
	}
	return in_cgroup(k, s, pid) || (keeper_environ_id(pid, id) && !strcmp(id, s->id));
}
