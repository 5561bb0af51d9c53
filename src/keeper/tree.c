/* SPDX-License-Identifier: MIT
 *
 * All that an instance consists of. With a cgroup the kernel knows. Without, a
 * walk over /proc: a process belongs to an instance when it is its main process
 * or one of EXEC; when it is in the session or group of the run and its parent
 * is the keeper (which inherits orphans), or its environment names the instance
 * and its parent is nobody's; or when its parent belongs to it.
 */
#include "keeper/terminal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#define PROCESSES_MAX 32768
#define PIDS_CHUNK 8192

struct process {
	int32_t pid, ppid, group, session;
	uint64_t start_ticks;
	uint16_t owner; /* slot + 1, or 0 */
	uint8_t dead;	/* a zombie: its parent's to reap */
};

static struct process processes[PROCESSES_MAX]; /* pages are taken when it is first used */

/* ------------------------------------------------------------------- cgroups */

/* Freezes the members, where there is such a hierarchy: its directory is in dir then. */
static bool freeze(struct keeper *k, const struct keeper_slot *s, char dir[KEEPER_PATH_MAX])
{
	KEEPER_FOREACH_CGROUP(dir, k, s)
	if (keeper_write_file(dir, "freezer.state", "FROZEN") == 0)
		return true;
	return false;
}

bool keeper_frozen(const struct keeper *k, const struct keeper_slot *s)
{
	char dir[KEEPER_PATH_MAX], buf[32];

	KEEPER_FOREACH_CGROUP(dir, k, s)
	if ((keeper_read_file(dir, "cgroup.events", buf, sizeof buf) > 0 && strstr(buf, "frozen 1")) ||
	    (keeper_read_file(dir, "cgroup.freeze", buf, sizeof buf) > 0 && buf[0] == '1') ||
	    (keeper_read_file(dir, "freezer.state", buf, sizeof buf) > 0 && !strncmp(buf, "FR", 2)))
		return true;
	return false;
}

/* A member's pid was read a moment ago: opened first, then seen to be still a
 * member, it is the right one. */
static bool signal_member(struct keeper *k, const struct keeper_slot *s, pid_t pid, int signo)
{
	struct keeper_stat st;
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	bool alive = false;

	if (fd < 0)
		return false;
	if (keeper_stat(pid, &st) == 0 && st.state != 'Z' && st.state != 'X' && keeper_is_member(k, s, pid)) {
		alive = true;
		if (signo)
			keeper_pidfd_signal(fd, signo, 0);
	}
	close(fd);
	return alive;
}

static unsigned signal_directory(struct keeper *k, const struct keeper_slot *s, const char *dir, int signo);

/* Cgroups that the workload made below its own. */
static unsigned signal_children(struct keeper *k, const struct keeper_slot *s, const char *dir, int signo)
{
	char path[KEEPER_PATH_MAX], buf[2048] __attribute__((aligned(8)));
	DAVIT_AUTO_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	unsigned found = 0;
	long n;

	while (fd >= 0 && (n = syscall(SYS_getdents64, fd, buf, sizeof buf)) > 0)
		for (long pos = 0; pos < n;) {
			const struct dirent64 *e = (const void *)(buf + pos);
			pos += e->d_reclen;
			if (e->d_type == DT_DIR && e->d_name[0] != '.' &&
			    (size_t)snprintf(path, sizeof path, "%s/%s", dir, e->d_name) < sizeof path)
				found += signal_directory(k, s, path, signo);
		}
	return found;
}

static unsigned signal_directory(struct keeper *k, const struct keeper_slot *s, const char *dir, int signo)
{
	char pids[PIDS_CHUNK], *save, *word;
	unsigned found = 0;

	/* A longer list is finished by the next call: this one is repeated. */
	if (keeper_read_file(dir, "cgroup.procs", pids, sizeof pids) < 0)
		return 0;
	for (word = strtok_r(pids, "\n", &save); word; word = strtok_r(NULL, "\n", &save))
		found += signal_member(k, s, (pid_t)strtol(word, NULL, 10), signo);
	return found + signal_children(k, s, dir, signo);
}

static bool populated(struct keeper *k, struct keeper_slot *s)
{
	/* One read tells all that this file has. It is done at each exit. A descriptor that is watched
	 * is ready until it is read itself, and for ever when its group was removed. */
	DAVIT_AUTO_CLOSE int fd =
		s->fd_cgroup < 0 ? keeper_cgroup_open(k, s, 0, "cgroup.events", O_RDONLY) : -1;
	int from = s->fd_cgroup < 0 ? fd : s->fd_cgroup;
	char buf[256];
	ssize_t n = from < 0 ? -1 : DAVIT_EINTR(pread(from, buf, sizeof buf - 1, 0));

	if (n < 0)
		keeper_close(&s->fd_cgroup);
	buf[n > 0 ? n : 0] = '\0';
	return strstr(buf, "populated 1");
}

static unsigned signal_cgroup(struct keeper *k, struct keeper_slot *s, int signo)
{
	char dir[KEEPER_PATH_MAX], freezer[KEEPER_PATH_MAX];
	unsigned found;
	bool frozen;

	if (s->flags & KEEPER_CGROUP2) {
		if (!populated(k, s))
			return 0;
		if (!signo)
			return 1;
	}
	keeper_cgroup(k, s, 0, dir);
	if (s->flags & KEEPER_CGROUP2) {
		if (signo == SIGKILL) {
			s->flags |= KEEPER_GROUP_KILLED; /* before: a keeper that dies now leaves it in the
							    slot */
			if (keeper_write_file(dir, "cgroup.kill", "1") == 0)
				return 1;
		}
	}
	/* Nothing forks away from under a list that is read frozen. */
	frozen = signo == SIGKILL && freeze(k, s, freezer);
	found = signal_directory(k, s, dir, signo);
	if (frozen)
		keeper_write_file(freezer, "freezer.state", "THAWED");
	return found;
}

/* -------------------------------------------------------------------- /proc */

static size_t read_processes(void)
{
	char buf[4096] __attribute__((aligned(8)));
	DAVIT_AUTO_CLOSE int fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct keeper_stat st;
	size_t count = 0;
	long n;

	while (fd >= 0 && count < PROCESSES_MAX && (n = syscall(SYS_getdents64, fd, buf, sizeof buf)) > 0)
		for (long pos = 0; pos < n && count < PROCESSES_MAX;) {
			const struct dirent64 *e = (const void *)(buf + pos);
			pos += e->d_reclen;
			if (e->d_name[0] < '1' || e->d_name[0] > '9' ||
			    keeper_stat((pid_t)strtol(e->d_name, NULL, 10), &st) != 0)
				continue;
			processes[count++] = (struct process){
				.pid = st.pid,
				.ppid = st.ppid,
				.group = st.group,
				.session = st.session,
				.start_ticks = st.start_ticks,
				.dead = st.state == 'Z' || st.state == 'X',
			};
		}
	return count;
}

static struct process *find_process(size_t n, int32_t pid)
{
	/* /proc lists pids in ascending order. */
	for (size_t low = 0, high = n; low < high;) {
		size_t mid = (low + high) / 2;
		if (processes[mid].pid == pid)
			return &processes[mid];
		if (processes[mid].pid < pid)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

/* The slots of a scan by the number of their session. */
static uint16_t by_session[KEEPER_INDEX_CELLS];

static void index_sessions(struct keeper *k, const struct keeper_set *which)
{
	memset(by_session, 0, sizeof by_session);
	KEEPER_FOREACH(i, which)
	{
		uint32_t c = (uint32_t)keeper_slot(k, i)->session % KEEPER_INDEX_CELLS;
		while (by_session[c])
			c = (c + 1) % KEEPER_INDEX_CELLS;
		by_session[c] = (uint16_t)(i + 1);
	}
}

static struct keeper_slot *slot_of_session(struct keeper *k, int32_t session)
{
	for (uint32_t c = (uint32_t)session % KEEPER_INDEX_CELLS; session && by_session[c];
	     c = (c + 1) % KEEPER_INDEX_CELLS) {
		struct keeper_slot *s = keeper_slot(k, by_session[c] - 1u);
		if (s->session == session)
			return s;
	}
	return NULL;
}

/* The slot that a process belongs to by itself, not by its parent. */
static struct keeper_slot *root_of(struct keeper *k, const struct process *p)
{
	struct keeper_slot *s = keeper_slot_of_pid(k, p->pid);
	bool ours = p->ppid == getpid();
	char id[24];

	if (s && s->start_ticks == p->start_ticks)
		return s;
	s = slot_of_session(k, p->session);
	if (!s)
		s = slot_of_session(k, p->group);
	if (s && p->pid == s->session)
		return p->start_ticks == s->session_ticks ? s : NULL;
	if (s && ours && p->start_ticks >= s->session_ticks)
		return s;
	/* The number of a session that is over may be somebody else's by now, and
	 * init's children may be orphans of a keeper that died: these must bear
	 * the instance's name. */
	if ((s || ours || p->ppid == 1) && keeper_environ_id(p->pid, id))
		return keeper_slot_find(k, id);
	return NULL;
}

static void claim(struct keeper *k, size_t n, const struct keeper_set *which)
{
	index_sessions(k, which);
	for (size_t i = 0; i < KEEPER_EXECS_MAX; i++) {
		const struct keeper_exec_slot *x = &k->file->execs[i];
		struct process *p;
		if (!x->used || !x->pid || !keeper_set_has(which, x->slot))
			continue;
		p = find_process(n, x->pid);
		if (p && p->start_ticks == x->start_ticks)
			p->owner = (uint16_t)(x->slot + 1);
	}
	for (size_t i = 0; i < KEEPER_TERMINALS_MAX && k->n_terms; i++) {
		const struct keeper_term *t = &k->terms[i];
		struct process *p;
		if (!t->used || !t->pid || t->slot == KEEPER_NONE || !keeper_set_has(which, t->slot))
			continue;
		p = find_process(n, t->pid);
		if (p && p->start_ticks == t->start_ticks)
			p->owner = (uint16_t)(t->slot + 1);
	}
	for (size_t i = 0; i < n; i++) {
		struct process *p = &processes[i];
		struct keeper_slot *s;
		if (p->owner || p->dead || p->pid == getpid())
			continue;
		s = root_of(k, p);
		if (s && keeper_set_has(which, keeper_slot_number(k, s)))
			p->owner = (uint16_t)(keeper_slot_number(k, s) + 1);
	}
	/* Children of what is claimed, until no more are found. */
	for (bool changed = true; changed;) {
		changed = false;
		for (size_t i = 0; i < n; i++) {
			const struct process *parent;
			if (processes[i].owner || processes[i].dead)
				continue;
			parent = find_process(n, processes[i].ppid);
			if (parent && parent->owner && parent->pid != getpid()) {
				processes[i].owner = parent->owner;
				changed = true;
			}
		}
	}
}

void keeper_tree_scan(struct keeper *k, const struct keeper_set *which, int signo, struct keeper_set *empty)
{
	int64_t began = keeper_monotonic();
	size_t n = read_processes();

	*empty = *which;
	claim(k, n, which);
	for (size_t i = 0; i < n; i++) {
		const struct process *p = &processes[i];
		int fd;
		if (!p->owner || p->dead)
			continue;
		keeper_set_remove(empty, p->owner - 1u);
		if (!signo)
			continue;
		fd = keeper_pidfd(p->pid, p->start_ticks);
		if (fd >= 0)
			keeper_pidfd_signal(fd, signo, 0);
		keeper_close(&fd);
	}
	k->scanned = keeper_monotonic();
	k->scan_cost = k->scanned - began;
}

unsigned keeper_tree_signal(struct keeper *k, struct keeper_slot *s, int signo)
{
	struct keeper_set one = {0}, empty;
	uint32_t number = keeper_slot_number(k, s);

	if (keeper_has_cgroup(k, s))
		return signal_cgroup(k, s, signo);
	keeper_set_add(&one, number);
	keeper_tree_scan(k, &one, signo, &empty);
	return !keeper_set_has(&empty, number);
}
