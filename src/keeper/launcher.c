/* SPDX-License-Identifier: MIT
 *
 * Launchers. What makes it exact: the keeper is a subreaper, so that the workload
 * becomes its child when the launcher ends; the pid in the file cannot be anybody
 * else's as long as the keeper has not waited for it, and it does not wait for
 * strange children younger than a launch until that launch is over. So even the exit
 * of a workload that was faster than its launcher is known.
 */
#include "keeper/launch.h"
#include "keeper/terminal.h"

#include "base/units.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define LIMIT_MAX_MS 3600000u

/* The process that a launcher named. */
struct named {
	pid_t pid;
	int pidfd;
	uint64_t ticks;
	bool child;
};

/* -------------------------------------------------------------------- starting */

int keeper_launch(struct keeper *k, struct keeper_slot *s, struct keeper_command *c, const char *pid_file,
		  uint32_t limit_ms, uint64_t tag, struct davit_error *err)
{
	struct keeper_launching *l = keeper_launching(k, s);
	int64_t limit = limit_ms ? (limit_ms < LIMIT_MAX_MS ? limit_ms : LIMIT_MAX_MS) : KEEPER_LAUNCH_MS;
	int r;

	if (pid_file[0] != '/' || strlen(pid_file) >= sizeof l->pid_file)
		return davit_error_set(err, DAVIT_EINVAL, NULL,
				       "the launcher's pid file is not an absolute path below %zu bytes",
				       sizeof l->pid_file);
	/* What is read later was written by this launch. */
	if (unlink(pid_file) < 0 && errno != ENOENT)
		return davit_error_errno(err, errno, NULL, "cannot remove %s", pid_file);
	*l = (struct keeper_launching){
		.phase = KEEPER_LAUNCH_RUNS,
		.tag = tag,
		.deadline = keeper_monotonic() + limit * DAVIT_NSEC_PER_MSEC,
		.run = s->run,
		.state = s->state,
		.started = s->started,
		.session = s->session,
		.session_ticks = s->session_ticks,
		.end = s->end,
	};
	snprintf(l->pid_file, sizeof l->pid_file, "%s", pid_file);
	/* Before the start: a keeper that dies in it finds a launch, not a workload. */
	s->flags |= KEEPER_LAUNCHING;
	r = keeper_spawn(k, s, c, err);
	if (r < 0)
		s->flags &= ~(uint32_t)KEEPER_LAUNCHING;
	else
		keeper_launch_resume(k, s);
	return r;
}

/* ------------------------------------------------------------------ its complaint */

void keeper_launch_heard(struct keeper *k, struct keeper_slot *s, const char *data, size_t n)
{
	struct keeper_launching *l = keeper_launching(k, s);
	size_t keep;

	if (l->phase != KEEPER_LAUNCH_RUNS)
		return;
	if (n > sizeof l->message) {
		data += n - sizeof l->message;
		n = sizeof l->message;
	}
	keep = sizeof l->message - n;
	keep = l->heard < keep ? l->heard : keep;
	memmove(l->message, l->message + (l->heard - keep), keep);
	memcpy(l->message + keep, data, n);
	l->heard = (uint32_t)(keep + n);
}

/* What was heard as one line: whole lines, joined. False when there was nothing. */
static bool complaint(const struct keeper_launching *l, char *ret, size_t size)
{
	const char *at = l->message, *end = at + l->heard, *nl;
	size_t n = 0;

	/* The first line may have lost its beginning. */
	nl = l->heard == sizeof l->message ? memchr(at, '\n', l->heard) : NULL;
	if (nl && nl + 1 < end)
		at = nl + 1;
	for (; at < end && n < size - 3; at++) {
		bool last = memchr(at, '\n', (size_t)(end - at)) == end - 1;

		if (*at != '\n')
			ret[n++] = iscntrl((unsigned char)*at) ? ' ' : *at;
		else if (n && !last) {
			ret[n++] = ';';
			ret[n++] = ' ';
		}
	}
	ret[n] = '\0';
	return n > 0;
}

const char *keeper_launch_message(const struct keeper *k, const struct keeper_slot *s)
{
	return s ? keeper_launching(k, s)->message : "";
}

/* --------------------------------------------------------------- what it named */

static int read_pid(const char *path, pid_t *ret, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	char text[32], *end;
	ssize_t n;
	long pid;

	if (fd < 0)
		return davit_error_errno(err, errno, NULL, "the launcher left no pid in %s", path);
	n = DAVIT_EINTR(read(fd, text, sizeof text - 1));
	if (n < 0)
		return davit_error_errno(err, errno, NULL, "cannot read %s", path);
	text[n] = '\0';
	errno = 0;
	pid = strtol(text, &end, 10);
	if (!isdigit((unsigned char)text[0]) || errno || pid < 2 || pid > INT_MAX ||
	    (*end && strcmp(end, "\n") != 0))
		return davit_error_set(err, DAVIT_EEXEC, NULL, "there is no pid in %s", path);
	*ret = (pid_t)pid;
	return 0;
}

/* Of a launcher that was our child the workload is one now. A former keeper's
 * launcher has left it to somebody else: then it must at least be younger. */
static int find_named(struct keeper *k, const struct keeper_slot *s, struct named *ret,
		      struct davit_error *err)
{
	struct keeper_launching *l = keeper_launching(k, s);
	struct named m = {.pidfd = -1};
	struct keeper_stat st;
	siginfo_t si;
	int r = read_pid(l->pid_file, &m.pid, err);

	if (r < 0)
		return r;
	m.pidfd = (int)syscall(SYS_pidfd_open, m.pid, 0);
	if (m.pidfd < 0)
		return davit_error_errno(err, errno, NULL, "process %d of %s is not there", m.pid,
					 l->pid_file);
	m.child = waitid(P_PIDFD, (id_t)m.pidfd, &si, WEXITED | WNOHANG | WNOWAIT) == 0;
	if (keeper_stat(m.pid, &st) != 0 || st.start_ticks < s->session_ticks ||
	    (!m.child && s->flags & KEEPER_CHILD)) {
		close(m.pidfd);
		return davit_error_set(err, DAVIT_EEXEC, NULL,
				       "process %d of %s was not left to the keeper by its launcher", m.pid,
				       l->pid_file);
	}
	m.ticks = st.start_ticks;
	*ret = m;
	return 0;
}

/* It takes the place of the launcher, which has ended. */
static int take_named(struct keeper *k, struct keeper_slot *s, struct named *m, struct davit_error *err)
{
	int old = s->fd_pid;
	bool collect = s->flags & KEEPER_CHILD;

	if (keeper_watch(k, m->pidfd, KEEPER_ON_PID, keeper_slot_number(k, s), s->generation, EPOLLIN) < 0) {
		/* It must not go on unseen. */
		keeper_pidfd_signal(m->pidfd, SIGKILL, 0);
		keeper_close(&m->pidfd);
		return davit_error_errno(err, errno, NULL, "cannot watch the process");
	}
	DAVIT_FAULT("keeper.launch.take");
	s->fd_pid = m->pidfd;
	s->start_ticks = m->ticks;
	s->started = keeper_realtime();
	s->flags = m->child ? s->flags | KEEPER_CHILD : s->flags & ~(uint32_t)KEEPER_CHILD;
	keeper_slot_set_pid(k, s, m->pid);
	if (collect)
		DAVIT_EINTR(waitid(P_PIDFD, (id_t)old, &(siginfo_t){0}, WEXITED | WNOHANG));
	keeper_close(&old);
	return 0;
}

/* A launcher may leave its work to a child that ends a moment after it (crun does): as
 * long as that is the parent of what was named, it is the launcher. */
static bool follow_child(struct keeper *k, struct keeper_slot *s)
{
	struct named m = {.pidfd = -1, .child = true};
	struct keeper_stat st;
	siginfo_t si;
	pid_t pid;

	if (read_pid(keeper_launching(k, s)->pid_file, &pid, NULL) < 0 || keeper_stat(pid, &st) != 0 ||
	    st.ppid == getpid())
		return false;
	m.pid = st.ppid;
	m.pidfd = (int)syscall(SYS_pidfd_open, m.pid, 0);
	if (m.pidfd < 0)
		return false;
	if (waitid(P_PIDFD, (id_t)m.pidfd, &si, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	    keeper_stat(m.pid, &st) == 0 && st.start_ticks >= s->session_ticks) {
		m.ticks = st.start_ticks;
		return take_named(k, s, &m, NULL) == 0;
	}
	close(m.pidfd);
	return false;
}

/* --------------------------------------------------------------------- its end */

static void leave(struct keeper *k, struct keeper_slot *s)
{
	s->flags &= ~(uint32_t)KEEPER_LAUNCHING;
	keeper_launching(k, s)->phase = KEEPER_LAUNCH_NONE;
	keeper_set_remove(&k->launching, keeper_slot_number(k, s));
	/* What the sweeps have left while it lasted. */
	keeper_due(&k->sweep_due, keeper_monotonic());
}

__attribute__((format(printf, 3, 4))) static void failed(struct keeper_launching *l, int code,
							 const char *fmt, ...)
{
	char heard[sizeof l->message];
	bool any = complaint(l, heard, sizeof heard);
	va_list ap;
	int n;

	l->phase = KEEPER_LAUNCH_FAILS;
	l->result = code;
	va_start(ap, fmt);
	n = vsnprintf(l->message, sizeof l->message, fmt, ap);
	va_end(ap);
	if (any && n >= 0 && (size_t)n < sizeof l->message)
		snprintf(l->message + n, sizeof l->message - (size_t)n, "%s%s", n ? ": " : "", heard);
}

/* The launcher is gone, and of what it may have started nothing is to stay. */
static void give_up(struct keeper *k, struct keeper_slot *s)
{
	struct named m;

	if (find_named(k, s, &m, NULL) < 0 || take_named(k, s, &m, NULL) < 0)
		keeper_reap_finish(k, s);
	keeper_stop(k, s, SIGKILL, 0, 0);
}

void keeper_launch_ended(struct keeper *k, struct keeper_slot *s, const struct keeper_end *e)
{
	struct keeper_launching *l = keeper_launching(k, s);
	struct davit_error err = {0};
	struct named m;

	if (l->phase == KEEPER_LAUNCH_FAILS && s->pid == s->session) {
		give_up(k, s);
		return;
	}
	if (l->phase == KEEPER_LAUNCH_FAILS) {
		keeper_reap_finish(k, s); /* what it had named is gone too */
		return;
	}
	DAVIT_FAULT("keeper.launch.ended");
	if (e->kind == DAVIT_EXIT_CODE && e->code == 0 && follow_child(k, s))
		return;
	if (e->kind == DAVIT_EXIT_CODE && e->code == 0 && find_named(k, s, &m, &err) == 0 &&
	    take_named(k, s, &m, &err) == 0) {
		leave(k, s);
		keeper_tell(k, s, KEEPER_TELL_LAUNCHED);
		return;
	}
	keeper_log_drain(k, s); /* its last words */
	if (err.code)
		failed(l, DAVIT_EEXEC, "%s", err.message);
	else if (e->kind == DAVIT_EXIT_SIGNAL)
		failed(l, DAVIT_EEXEC, "the launcher was killed by signal %d", e->signal);
	else if (e->kind == DAVIT_EXIT_CODE && l->heard)
		failed(l, DAVIT_EEXEC, "%s", ""); /* it has said why */
	else if (e->kind == DAVIT_EXIT_CODE)
		failed(l, DAVIT_EEXEC, "the launcher ended with code %d and without a word", e->code);
	else
		failed(l, DAVIT_EEXEC, "the launcher has ended, nobody knows how");
	give_up(k, s);
}

void keeper_launch_over(struct keeper *k, struct keeper_slot *s)
{
	struct keeper_launching *l = keeper_launching(k, s);

	leave(k, s);
	keeper_log_close(k, s);
	if (!l->tag) {
		/* Who asked is gone, and a list may have called it running since. */
		s->end = (struct keeper_end){
			.kind = DAVIT_EXIT_EXEC, .why = KEEPER_WHY_LAUNCH, .time = keeper_realtime()};
		keeper_tell(k, s, KEEPER_TELL_EXITED);
		return;
	}
	s->run = l->run;
	s->state = (uint8_t)l->state;
	s->started = l->started;
	s->session = l->session;
	s->session_ticks = l->session_ticks;
	s->end = l->end;
	keeper_tell(k, s, KEEPER_TELL_LAUNCHED);
}

void keeper_launch_stop(struct keeper *k, struct keeper_slot *s)
{
	struct keeper_launching *l = keeper_launching(k, s);

	if (l->phase == KEEPER_LAUNCH_RUNS)
		failed(l, DAVIT_ECANCELED, "stopped while it was launched");
}

void keeper_launch_tick(struct keeper *k)
{
	int64_t now = keeper_monotonic();

	KEEPER_FOREACH(i, &k->launching)
	{
		struct keeper_slot *s = keeper_slot(k, i);
		struct keeper_launching *l = keeper_launching(k, s);
		if (l->phase != KEEPER_LAUNCH_RUNS)
			continue;
		if (l->deadline > now) {
			keeper_due(&k->launch_due, l->deadline);
			continue;
		}
		failed(l, DAVIT_EEXEC, "the launcher did not end in time");
		keeper_stop(k, s, SIGKILL, 0, 0);
	}
}

void keeper_launch_forget(struct keeper *k)
{
	KEEPER_FOREACH(i, &k->launching)
	k->launches[i].tag = 0;
}

/* --------------------------------------------------------------------- orphans */

static void reap_if_older(struct keeper *k, pid_t pid, uint64_t oldest)
{
	struct keeper_stat st;

	if (!keeper_is_ours(k, pid) && keeper_stat(pid, &st) == 0 && st.state == 'Z' &&
	    st.start_ticks < oldest)
		DAVIT_EINTR(waitid(P_PID, (id_t)pid, &(siginfo_t){0}, WEXITED | WNOHANG));
}

void keeper_launch_sweep(struct keeper *k)
{
	DAVIT_AUTO_CLOSE int fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
	uint64_t oldest = UINT64_MAX;
	char buf[1024];
	pid_t pid = 0;
	ssize_t n;

	KEEPER_FOREACH(i, &k->launching)
	if (keeper_slot(k, i)->session_ticks < oldest)
		oldest = keeper_slot(k, i)->session_ticks;
	/* Without such a file (CONFIG_PROC_CHILDREN) they wait for the last launch. */
	while (fd >= 0 && (n = DAVIT_EINTR(read(fd, buf, sizeof buf))) > 0)
		for (ssize_t i = 0; i < n; i++) {
			if (isdigit((unsigned char)buf[i])) {
				pid = pid * 10 + (buf[i] - '0');
				continue;
			}
			if (pid)
				reap_if_older(k, pid, oldest);
			pid = 0;
		}
	k->swept = keeper_monotonic();
	k->sweep_due = 0;
}

/* ------------------------------------------------------------------- a new keeper */

static bool lives(pid_t pid, uint64_t ticks)
{
	struct keeper_stat st;

	return keeper_stat(pid, &st) == 0 && st.start_ticks == ticks && st.state != 'Z' && st.state != 'X';
}

void keeper_launch_recover(struct keeper *k, struct keeper_slot *s)
{
	struct keeper_launching *l = keeper_launching(k, s);
	struct davit_error err;
	struct named m;

	l->tag = 0;
	if (l->phase != KEEPER_LAUNCH_RUNS || lives(s->pid, s->start_ticks))
		return;
	if (find_named(k, s, &m, &err) < 0) {
		failed(l, DAVIT_EEXEC, "the keeper died while it was launched: %s", err.message);
		return;
	}
	close(m.pidfd);
	keeper_slot_set_pid(k, s, m.pid);
	s->start_ticks = m.ticks;
	leave(k, s);
}

void keeper_launch_resume(struct keeper *k, struct keeper_slot *s)
{
	struct keeper_launching *l = keeper_launching(k, s);

	if (!(s->flags & KEEPER_LAUNCHING))
		return;
	if (s->state != KEEPER_SLOT_RUNNING && s->run == l->run && l->phase == KEEPER_LAUNCH_RUNS) {
		s->flags &= ~(uint32_t)KEEPER_LAUNCHING; /* it was not even started */
		return;
	}
	keeper_set_add(&k->launching, keeper_slot_number(k, s));
	keeper_due(&k->launch_due, l->deadline);
	if (s->state != KEEPER_SLOT_RUNNING && l->phase == KEEPER_LAUNCH_RUNS)
		failed(l, DAVIT_EEXEC, "the keeper died while it was launched");
	if (l->phase == KEEPER_LAUNCH_FAILS && s->stop_phase == KEEPER_STOP_NONE)
		keeper_stop(k, s, SIGKILL, 0, 0);
}
