/* SPDX-License-Identifier: MIT
 *
 * Stopping: a signal, a grace period, then SIGKILL until nothing is left. The
 * phase and the deadline are in the slot, so a stop goes on when the daemon is
 * gone and when the keeper was replaced.
 */
#include "keeper/launch.h"
#include "keeper/terminal.h"

#include "base/units.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define TICK_NS (50 * DAVIT_NSEC_PER_MSEC)
#define SIGNAL_GROUP 4u /* PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9 */

/* The whole group of the main process, which is alive or our zombie: its
 * number is not anybody else's. */
void keeper_signal_group(const struct keeper_slot *s, int signo)
{
	if (s->fd_pid < 0)
		return;
	if (s->pid != s->session || keeper_pidfd_signal(s->fd_pid, signo, SIGNAL_GROUP) == 0) {
		if (s->pid != s->session)
			keeper_pidfd_signal(s->fd_pid, signo, 0);
		return;
	}
	if (errno == EINVAL && (s->flags & KEEPER_CHILD || keeper_pidfd_signal(s->fd_pid, 0, 0) == 0))
		kill(-s->session, signo);
}

static void kill_all(struct keeper *k, struct keeper_slot *s)
{
	if (keeper_has_cgroup(k, s))
		keeper_tree_signal(k, s, SIGKILL);
	/* The main process may be outside of the group: launchers are, and what somebody has moved. */
	keeper_signal_group(s, SIGKILL);
}

static void watch_cgroup(struct keeper *k, struct keeper_slot *s)
{
	char path[KEEPER_PATH_MAX];
	size_t n;

	if (!(s->flags & KEEPER_CGROUP2) || s->fd_cgroup >= 0 || !keeper_cgroup(k, s, 0, path))
		return;
	n = strlen(path);
	snprintf(path + n, sizeof path - n, "/cgroup.events");
	s->fd_cgroup = open(path, O_RDONLY | O_CLOEXEC);
	if (s->fd_cgroup >= 0)
		keeper_watch(k, s->fd_cgroup, KEEPER_ON_CGROUP, keeper_slot_number(k, s), s->generation,
			     EPOLLPRI);
}

static void finish(struct keeper *k, struct keeper_slot *s)
{
	s->stop_phase = KEEPER_STOP_NONE;
	keeper_set_remove(&k->stopping, keeper_slot_number(k, s));
	keeper_close(&s->fd_cgroup);
	if (s->flags & KEEPER_LAUNCHING)
		keeper_launch_over(k, s);
	keeper_tell(k, s, KEEPER_TELL_STOPPED);
}

static void enter_kill(struct keeper *k, struct keeper_slot *s)
{
	s->stop_phase = KEEPER_STOP_KILL;
	kill_all(k, s);
	keeper_stop_poke(k, s);
}

void keeper_stop(struct keeper *k, struct keeper_slot *s, int signo, uint32_t scope, int64_t grace_ns)
{
	int64_t deadline = keeper_monotonic() + grace_ns;

	if (s->flags & KEEPER_LAUNCHING) {
		keeper_launch_stop(k, s);
		grace_ns = 0; /* there is no workload yet that could end in order */
	}
	keeper_terms_hang_up(k, s);
	if (s->state != KEEPER_SLOT_RUNNING && !s->session) {
		finish(k, s); /* it never ran */
		return;
	}
	/* The usual end of a run that left nothing behind. No sweep: it looks at every
	 * child, and the one that is due anyway reaps an orphan that ended before. */
	if (s->state != KEEPER_SLOT_RUNNING &&
	    (s->flags & KEEPER_ALONE || (keeper_has_cgroup(k, s) && !keeper_tree_signal(k, s, 0)))) {
		finish(k, s);
		return;
	}
	keeper_set_add(&k->stopping, keeper_slot_number(k, s));
	watch_cgroup(k, s);
	if (grace_ns <= 0) {
		enter_kill(k, s);
		return;
	}
	if (s->stop_phase == KEEPER_STOP_KILL)
		return;
	if (s->stop_phase == KEEPER_STOP_NONE) {
		s->stop_phase = KEEPER_STOP_GRACE;
		s->stop_signal = (uint8_t)signo;
		s->stop_deadline = deadline;
		if (scope == 1 && s->state == KEEPER_SLOT_RUNNING)
			keeper_pidfd_signal(s->fd_pid, signo, 0);
		else if (keeper_has_cgroup(k, s) || s->state != KEEPER_SLOT_RUNNING)
			keeper_tree_signal(k, s, signo);
		else
			keeper_signal_group(s, signo);
	} else if (deadline < s->stop_deadline) {
		s->stop_deadline = deadline;
	}
	keeper_due(&k->stop_due, s->stop_deadline);
	keeper_stop_poke(k, s);
}

void keeper_stop_poke(struct keeper *k, struct keeper_slot *s)
{
	int64_t now, pause;

	if (s->stop_phase == KEEPER_STOP_NONE)
		return;
	now = keeper_monotonic();
	if (keeper_has_cgroup(k, s)) {
		keeper_due(&k->stop_due, now);
		return;
	}
	/* One walk over /proc serves all that stop; it takes at most a fifth of
	 * the time. */
	pause = k->scanned + 4 * k->scan_cost;
	keeper_due(&k->stop_due, pause > now ? pause : now);
}

/* Puts those of which nothing is left into *empty. */
static void look(struct keeper *k, struct keeper_set *empty)
{
	struct keeper_set without = {0}, to_kill = {0}, gone;
	bool any = false, any_kill = false;

	memset(empty, 0, sizeof *empty);
	KEEPER_FOREACH(i, &k->stopping)
	{
		struct keeper_slot *s = keeper_slot(k, i);
		bool killing = s->stop_phase == KEEPER_STOP_KILL;
		if (keeper_has_cgroup(k, s)) {
			if (!keeper_tree_signal(k, s, killing ? SIGKILL : 0))
				keeper_set_add(empty, i);
		} else if (killing) {
			keeper_set_add(&to_kill, i);
			any_kill = true;
		} else if (s->state != KEEPER_SLOT_RUNNING) {
			keeper_set_add(&without, i);
			any = true;
		}
	}
	if (any) {
		keeper_tree_scan(k, &without, 0, &gone);
		KEEPER_FOREACH(i, &gone)
		keeper_set_add(empty, i);
	}
	if (any_kill) {
		keeper_tree_scan(k, &to_kill, SIGKILL, &gone);
		KEEPER_FOREACH(i, &gone)
		keeper_set_add(empty, i);
	}
}

void keeper_stop_tick(struct keeper *k)
{
	int64_t now = keeper_monotonic();
	struct keeper_set empty;

	KEEPER_FOREACH(i, &k->stopping)
	{
		struct keeper_slot *s = keeper_slot(k, i);
		if (s->stop_phase == KEEPER_STOP_GRACE && s->stop_deadline <= now) {
			s->stop_phase = KEEPER_STOP_KILL;
			kill_all(k, s);
		}
	}
	look(k, &empty);
	/* Nothing is left, zombies included: orphans of theirs are ours to reap. */
	if (keeper_set_next(&empty, 0) != KEEPER_NONE)
		keeper_reap_pending(k);
	KEEPER_FOREACH(i, &empty)
	{
		struct keeper_slot *s = keeper_slot(k, i);
		/* Its exit is told before the end of the stop. */
		if (s->state != KEEPER_SLOT_RUNNING)
			finish(k, s);
	}
	KEEPER_FOREACH(i, &k->stopping)
	{
		struct keeper_slot *s = keeper_slot(k, i);
		bool waits = s->stop_phase == KEEPER_STOP_GRACE && s->state == KEEPER_SLOT_RUNNING;
		/* While its main process lives nothing can be over before the deadline. */
		keeper_due(&k->stop_due, waits ? s->stop_deadline : now + TICK_NS + 4 * k->scan_cost);
	}
}
