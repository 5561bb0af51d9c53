/* SPDX-License-Identifier: MIT
 *
 * How things ended. Main processes by their pidfd; processes that lost their
 * parent and came to us (we are a subreaper) by a sweep.
 */
#include "keeper/launch.h"
#include "keeper/terminal.h"

#include "base/units.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#define SWEEP_PAUSE_NS (20 * DAVIT_NSEC_PER_MSEC)
#define SWEEP_PAUSE_MAX_NS (100 * DAVIT_NSEC_PER_MSEC)
#define SWEEP_KNOWN_NS DAVIT_NSEC_PER_SEC

/* linux/pidfd.h of 6.15 and later; the layout is the kernel's interface. */
struct pidfd_info_v2 {
	uint64_t mask, cgroup_id;
	uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
	int32_t exit_code;
	uint32_t coredump_mask, spare;
};
#define GET_INFO _IOWR(0xFF, 11, struct pidfd_info_v2)
#define INFO_EXIT (UINT64_C(1) << 3)

static void from_status(struct keeper_end *e, int status)
{
	e->kind = WIFSIGNALED(status) ? DAVIT_EXIT_SIGNAL : DAVIT_EXIT_CODE;
	e->code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
	e->signal = WIFSIGNALED(status) ? (uint8_t)WTERMSIG(status) : 0;
	e->core_dumped = WIFSIGNALED(status) && WCOREDUMP(status);
}

static void from_siginfo(struct keeper_end *e, const siginfo_t *si)
{
	bool killed = si->si_code != CLD_EXITED;

	e->kind = killed ? DAVIT_EXIT_SIGNAL : DAVIT_EXIT_CODE;
	e->code = killed ? 0 : si->si_status;
	e->signal = killed ? (uint8_t)si->si_status : 0;
	e->core_dumped = si->si_code == CLD_DUMPED;
}

/* A process that is not our child: a former keeper's, or one named by MAINPID.
 * As a zombie its status is in /proc/PID/stat, later the kernel may tell it. */
static void foreign_status(struct keeper_end *e, pid_t pid, uint64_t ticks, int pidfd)
{
	struct pidfd_info_v2 info = {.mask = INFO_EXIT};
	struct keeper_stat st;

	for (int i = 0; i < 2; i++) {
		if (ioctl(pidfd, GET_INFO, &info) == 0 && info.mask & INFO_EXIT) {
			from_status(e, info.exit_code);
			return;
		}
		info.mask = INFO_EXIT;
		if (i == 0 && keeper_stat(pid, &st) == 0 && st.start_ticks == ticks &&
		    (st.state == 'Z' || st.state == 'X')) {
			from_status(e, st.exit_status);
			return;
		}
		/* Reaped between the two looks: the kernel knows now. */
	}
	e->kind = DAVIT_EXIT_UNKNOWN;
	e->why = KEEPER_WHY_FOREIGN;
}

/* Fills *e without reaping. False while it lives. */
static bool look(struct keeper_end *e, bool child, pid_t pid, uint64_t ticks, int pidfd)
{
	siginfo_t si = {0};

	if (child && DAVIT_EINTR(waitid(P_PIDFD, (id_t)pidfd, &si, WEXITED | WNOHANG | WNOWAIT)) == 0) {
		if (!si.si_pid)
			return false;
		from_siginfo(e, &si);
	} else {
		foreign_status(e, pid, ticks, pidfd);
	}
	e->time = keeper_realtime();
	return true;
}

static void collect(int pidfd)
{
	siginfo_t si = {0};

	DAVIT_EINTR(waitid(P_PIDFD, (id_t)pidfd, &si, WEXITED | WNOHANG));
}

/* The group is there and the file is not: its parent hands no memory controller down, which
 * is so for all groups beside it. */
static void note_missing(struct keeper *k, const struct keeper_slot *s, int base)
{
	DAVIT_AUTO_CLOSE int dir =
		base >= 0 && errno == ENOENT ? keeper_cgroup_open(k, s, 0, "", O_PATH | O_DIRECTORY) : -1;

	if (dir >= 0)
		k->no_memory_events |= UINT32_C(1) << base;
}

/* Opens what a cgroup of its says of memory, of the nth on; *n is behind it then. -1: no other does. */
static int open_memory(struct keeper *k, const struct keeper_slot *s, unsigned *n, int flags)
{
	int base = s->flags & KEEPER_CGROUP2 ? keeper_cgroup_base(k, s) : -1, fd = -1;
	char dir[KEEPER_PATH_MAX];

	if (*n == 0 && base >= 0 && k->no_memory_events >> base & 1)
		*n = 1;
	for (; fd < 0 && keeper_cgroup(k, s, *n, dir); ++*n) {
		bool v2 = *n == 0 && s->flags & KEEPER_CGROUP2;
		fd = keeper_cgroup_open(k, s, *n, v2 ? "memory.events" : "memory.oom_control", flags);
		if (fd < 0 && v2)
			note_missing(k, s, base);
	}
	return fd;
}

uint64_t keeper_oom_kills(struct keeper *k, const struct keeper_slot *s)
{
	char buf[512], *p;
	unsigned n = 0;
	int fd;

	while ((fd = open_memory(k, s, &n, O_RDONLY)) >= 0) {
		ssize_t have = DAVIT_EINTR(read(fd, buf, sizeof buf - 1));
		close(fd);
		buf[have > 0 ? have : 0] = '\0';
		/* "oom_kill 3"; "oom_kill_disable 0" is something else. */
		for (p = buf; (p = strstr(p, "oom_kill ")); p++)
			if (p == buf || p[-1] == '\n')
				return strtoull(p + 9, NULL, 10);
	}
	return 0;
}

bool keeper_memory_group(struct keeper *k, const struct keeper_slot *s)
{
	unsigned n = 0;
	DAVIT_AUTO_CLOSE int fd = open_memory(k, s, &n, O_PATH);

	return fd >= 0;
}

void keeper_reap_finish(struct keeper *k, struct keeper_slot *s)
{
	k->ends++;
	keeper_log_drain(k, s);
	DAVIT_FAULT("keeper.exit.record");
	s->state = KEEPER_SLOT_ENDED;
	if (s->fd_pid >= 0 && s->flags & KEEPER_CHILD)
		collect(s->fd_pid);
	keeper_close(&s->fd_pid);
	keeper_notify_close(k, s);
	keeper_slot_set_pid(k, s, 0);
	keeper_segment_close(k, s);
	/* The usual end. Told with it, it saves the daemon a STOP. */
	if (keeper_has_cgroup(k, s) && !keeper_tree_signal(k, s, 0))
		s->flags |= KEEPER_ALONE;
	if (!(s->flags & KEEPER_LAUNCHING))
		keeper_tell(k, s, KEEPER_TELL_EXITED);
	keeper_stop_poke(k, s);
}

void keeper_reap(struct keeper *k, struct keeper_slot *s)
{
	struct keeper_end e = {0};

	if (s->state != KEEPER_SLOT_RUNNING || s->fd_pid < 0 ||
	    !look(&e, s->flags & KEEPER_CHILD, s->pid, s->start_ticks, s->fd_pid))
		return;
	if (s->flags & KEEPER_LAUNCHING) {
		keeper_launch_ended(k, s, &e);
		return;
	}
	if (e.kind == DAVIT_EXIT_SIGNAL && e.signal == SIGKILL && keeper_oom_kills(k, s) > s->oom_kills) {
		e.kind = DAVIT_EXIT_OOM;
		e.why = KEEPER_WHY_MEMORY;
	}
	/* In the slot before the process is reaped: a crash in between loses nothing. */
	s->end = e;
	keeper_reap_finish(k, s);
}

void keeper_reap_exec(struct keeper *k, struct keeper_exec_slot *x)
{
	struct keeper_slot *s = keeper_slot(k, x->slot);

	if (!x->used || !x->pid || !look(&x->end, x->child, x->pid, x->start_ticks, x->fd_pid))
		return;
	if (x->child)
		collect(x->fd_pid);
	keeper_close(&x->fd_pid);
	x->pid = 0;
	if (k->conn < 0)
		x->used = 0; /* its streams ended with the connection that asked for it */
	else
		keeper_tell_exec(k);
	keeper_stop_poke(k, s);
}

static struct keeper_exec_slot *exec_of_pid(struct keeper *k, pid_t pid)
{
	for (size_t i = 0; i < KEEPER_EXECS_MAX; i++)
		if (k->file->execs[i].used && k->file->execs[i].pid == pid)
			return &k->file->execs[i];
	return NULL;
}

bool keeper_is_ours(struct keeper *k, pid_t pid)
{
	return keeper_slot_of_pid(k, pid) || exec_of_pid(k, pid) || keeper_term_of_pid(k, pid);
}

/* Is it a zombie that no pidfd of ours is for? One that was reaped already is not there. */
static bool is_orphan(struct keeper *k, pid_t pid)
{
	siginfo_t si = {0};

	return !keeper_is_ours(k, pid) && waitid(P_PID, (id_t)pid, &si, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	       si.si_pid;
}

void keeper_reap_signal(struct keeper *k)
{
	struct signalfd_siginfo si;
	int64_t pause = SWEEP_PAUSE_NS + 400 * k->sweep_cost, due;

	if (read(k->fd_signal, &si, sizeof si) != sizeof si)
		return;
	/* At the end of this turn, when what has a pidfd was reaped by that. The
	 * pause bounds what a storm of orphans costs: a sweep looks at every child, and
	 * takes at most a four-hundredth of the time. */
	due = k->swept + (pause < SWEEP_PAUSE_MAX_NS ? pause : SWEEP_PAUSE_MAX_NS);
	/* An end of one that we started needs none. But signals merge: an orphan's may have
	 * come while this one was pending. */
	if (keeper_set_next(&k->launching, 0) == KEEPER_NONE && !is_orphan(k, (pid_t)si.ssi_pid)) {
		int64_t later = keeper_monotonic() + SWEEP_KNOWN_NS;
		due = due > later ? due : later;
	}
	keeper_due(&k->sweep_due, due);
}

bool keeper_reap_child(struct keeper_end *e, int pidfd)
{
	siginfo_t si = {0};

	if (DAVIT_EINTR(waitid(P_PIDFD, (id_t)pidfd, &si, WEXITED | WNOHANG)) < 0)
		*e = (struct keeper_end){.kind = DAVIT_EXIT_UNKNOWN, .why = KEEPER_WHY_FOREIGN};
	else if (!si.si_pid)
		return false;
	else
		from_siginfo(e, &si);
	e->time = keeper_realtime();
	return true;
}

void keeper_reap_pending(struct keeper *k)
{
	struct signalfd_siginfo si;

	/* SIGCHLD stays pending until it is read, after which a sweep is due. */
	if (k->sweep_due || read(k->fd_signal, &si, sizeof si) > 0)
		keeper_reap_sweep(k);
}

void keeper_reap_sweep(struct keeper *k)
{
	int64_t began = keeper_monotonic();

	if (keeper_set_next(&k->launching, 0) != KEEPER_NONE) {
		keeper_launch_sweep(k);
		return;
	}
	for (;;) {
		struct keeper_exec_slot *x;
		struct keeper_slot *s;
		siginfo_t si = {0};
		/* A peek: one of a slot is left to the code that records it. */
		if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) < 0 || !si.si_pid)
			break;
		s = keeper_slot_of_pid(k, si.si_pid);
		x = s ? NULL : exec_of_pid(k, si.si_pid);
		if (s) {
			keeper_reap(k, s);
			if (!s->pid)
				continue;
		} else if (x)
			keeper_reap_exec(k, x);
		else if (keeper_term_reap_pid(k, si.si_pid))
			continue;
		waitid(P_PID, (id_t)si.si_pid, &si, WEXITED | WNOHANG);
	}
	k->swept = keeper_monotonic();
	k->sweep_cost = k->swept - began;
	k->sweep_due = 0;
}
