/* SPDX-License-Identifier: MIT
 *
 * davit-step: what stands between a step and who asked for it. It moves the step's output from pipes to
 * files without looking at it, so that a step that writes without end costs no memory, and one that
 * truncates /dev/stdout harms nothing.
 */
#include "base/file.h"
#include "davit/error.h"
#include "step/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>

#define PIPE_BYTES (1 << 20)
#define SPLICE_BYTES (1 << 20)
#define DRIVER_PATIENCE (INT64_C(60) * 1000000000) /* ns in which an engine must end a container */

struct monitor {
	struct step step;
	int init, pidfd; /* the first process of the namespaces */
	int status;	 /* socket to it */
	int clock;	 /* timerfd: the deadline, then the end of the grace */
	int pipes[2];	 /* read ends of the step's streams; -1: at its end */
	int null;
	int listener; /* of a durable step: who wants it from now on comes here; or -1 */
	bool killing; /* the driver was told to */
	bool stopping, wanted, has_end, forget;
	struct step_report end, last;
};

static void send_report(const struct step_report *r)
{
	while (send(STEP_FD_CONTROL, r, sizeof *r, MSG_NOSIGNAL) < 0 && errno == EINTR)
		;
}

/* The last report of a durable step is on the disk before anybody hears it. */
static void report(struct monitor *m, const struct step_report *r)
{
	if (r->kind == STEP_FAILED || r->kind == STEP_ENDED) {
		m->last = *r;
		if (m->step.options.durable)
			step_keep_result(r);
	}
	send_report(r);
}

static void report_failure(struct monitor *m, int code, int sys_errno, const char *what)
{
	struct step_report r = {.kind = STEP_FAILED, .code = code, .sys_errno = sys_errno};

	snprintf(r.text, sizeof r.text, sys_errno ? "%s: %s" : "%s", what, strerror(sys_errno));
	report(m, &r);
}

/* ---------------------------------------------------------------------------- streams */

static void wake(void)
{
	uint64_t one = 1;

	if (write(STEP_FD_WAKE, &one, sizeof one) < 0)
		errno = 0; /* it is at its maximum, and so the reader is awake */
}

/* Moves what is in a pipe to its file, or to nowhere once that is full. False when the pipe had nothing. */
static bool move(struct monitor *m, int i)
{
	struct step_report *e = &m->end;
	uint64_t room = m->step.options.log_max - (e->bytes[i] - e->dropped[i]);
	bool drop = e->dropped[i] || !room;
	size_t n = drop || room > SPLICE_BYTES ? SPLICE_BYTES : (size_t)room;
	ssize_t got = splice(m->pipes[i], NULL, drop ? m->null : STEP_FD_OUT + i, NULL, n,
			     SPLICE_F_MOVE | SPLICE_F_NONBLOCK);

	if (got < 0 && errno != EAGAIN && errno != EINTR && !drop) {
		/* The disk is full: what the step says after this is counted. */
		got = splice(m->pipes[i], NULL, m->null, NULL, SPLICE_BYTES, SPLICE_F_NONBLOCK);
		drop = true;
	}
	if (got == 0) {
		close(m->pipes[i]);
		m->pipes[i] = -1;
	}
	if (got <= 0)
		return false;
	e->bytes[i] += (uint64_t)got;
	e->dropped[i] += drop ? (uint64_t)got : 0;
	wake();
	return true;
}

/* -------------------------------------------------------------------------- beginning */

static int clone_init(struct monitor *m, uint64_t more)
{
	struct clone_args a = {
		.flags = CLONE_PIDFD | more,
		.pidfd = (uint64_t)(uintptr_t)&m->pidfd,
		.exit_signal = SIGCHLD,
	};

	if (!m->step.driver && !m->step.options.plain)
		a.flags |= CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS;
	if (!m->step.driver && m->step.options.hermetic)
		a.flags |= CLONE_NEWNET;
	return (int)syscall(SYS_clone3, &a, sizeof a);
}

static bool put(pid_t pid, const char *file, const char *text)
{
	char path[64];
	int fd, ok;

	snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	ok = fd >= 0 && write(fd, text, strlen(text)) >= 0;
	if (fd >= 0)
		close(fd);
	return ok;
}

/* Its caller is root there, and nobody else is anybody. */
static bool map_users(pid_t pid)
{
	char uids[32], gids[32];

	snprintf(uids, sizeof uids, "0 %u 1", (unsigned)geteuid());
	snprintf(gids, sizeof gids, "0 %u 1", (unsigned)getegid());
	return put(pid, "setgroups", "deny") && put(pid, "uid_map", uids) && put(pid, "gid_map", gids);
}

static bool enter_cgroups(const struct monitor *m)
{
	char path[PATH_MAX], text[24];

	snprintf(text, sizeof text, "%d", m->init);
	for (size_t i = 0; i < m->step.n_cgroups; i++) {
		int fd;
		bool ok;

		snprintf(path, sizeof path, "%s/cgroup.procs", m->step.cgroups[i]);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		ok = fd >= 0 && write(fd, text, strlen(text)) > 0;
		if (fd >= 0)
			close(fd);
		if (!ok)
			return false;
	}
	return true;
}

/* ------------------------------------------------------------- a step that runs elsewhere */

static void become_driver(const struct monitor *m, int status, int out, int err, const char *verb)
{
	const struct step *s = &m->step;
	const char *const argv[] = {"davit-step-driver", s->runtime, verb, strrchr(s->directory, '/') + 1,
				    NULL};
	const int from[] = {status, STEP_FD_ORDER, out, err, s->options.input ? STEP_FD_INPUT : m->null};
	int lifted[DAVIT_ARRAY_SIZE(from)];

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(from); i++)
		lifted[i] = fcntl(from[i], F_DUPFD_CLOEXEC, STEP_FD_INPUT + 1);
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(from); i++)
		if (lifted[i] < 0 || dup2(lifted[i], STEP_DRIVER_STATUS + (int)i) < 0)
			_exit(127);
	close_range(STEP_DRIVER_STATUS + DAVIT_ARRAY_SIZE(from), ~0U, CLOSE_RANGE_CLOEXEC);
	execve(s->driver, (char *const *)(verb ? argv : (const char *const[]){argv[0], argv[1], NULL}),
	       environ);
	_exit(127);
}

/* A driver that was killed has left its container. */
static void remove_elsewhere(struct monitor *m)
{
	pid_t pid = fork();

	if (!pid)
		become_driver(m, m->null, m->null, m->null, "remove");
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

/* ------------------------------------------------------------------------------- starting */

static void become_init(struct monitor *m, int monitors, int out, int err)
{
	close(monitors);
	if (m->step.driver)
		become_driver(m, m->step.status_fd, out, err, NULL);
	step_init(&m->step, out, err);
}

/* Into the cgroups, of which init is told. */
static bool place(struct monitor *m)
{
	if (!enter_cgroups(m)) {
		report_failure(m, DAVIT_EIO, errno, "cannot put the step into its cgroup");
		return false;
	}
	/* If it has ended already, it has said why. */
	send(m->status, "", 1, MSG_NOSIGNAL);
	return true;
}

/* Starts init, or what is in its place. False when that cannot be, which is reported. */
static bool start(struct monitor *m)
{
	int out[2], err[2], status[2];

	if (pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, status) < 0) {
		report_failure(m, DAVIT_EIO, errno, "cannot make a pipe");
		return false;
	}
	/* As large as we are allowed to. */
	fcntl(out[0], F_SETPIPE_SZ, PIPE_BYTES);
	fcntl(err[0], F_SETPIPE_SZ, PIPE_BYTES);
	m->step.status_fd = status[1];
	m->init = clone_init(m, 0);
	if (m->init < 0 && errno == EPERM && !m->step.options.plain) {
		m->step.rootless = true;
		m->init = clone_init(m, CLONE_NEWUSER);
	}
	if (m->init < 0) {
		report_failure(m, DAVIT_ENOTSUP, errno,
			       m->step.rootless
				       ? "this host gives no user namespaces to users other than root"
				       : "cannot make namespaces");
		return false;
	}
	if (!m->init)
		become_init(m, status[0], out[1], err[1]);
	close(status[1]);
	close(out[1]);
	close(err[1]);
	m->status = status[0];
	m->pipes[0] = out[0];
	m->pipes[1] = err[0];
	step_tell_intercept(m->init);
	if (m->step.driver && !m->step.n_cgroups)
		return true;
	if (m->step.driver)
		return place(m);
	if (m->step.rootless && !map_users(m->init)) {
		report_failure(m, DAVIT_ENOTSUP, errno, "cannot map the user into a user namespace");
		return false;
	}
	/* It makes its mounts while the kernel takes its time (a grace period of RCU) to move it. */
	if (send(m->status, "", 1, MSG_NOSIGNAL) != 1)
		return false;
	return place(m);
}

/* ------------------------------------------------------------------------------ orders */

static void set_clock(struct monitor *m, int64_t ns)
{
	struct itimerspec t = {.it_value = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000}};

	if (ns <= 0)
		t.it_value.tv_nsec = 1;
	timerfd_settime(m->clock, 0, &t, NULL);
}

/* What runs elsewhere is ended over there; its driver, too, when it does not do that soon. */
static void kill_init(struct monitor *m)
{
	const struct step_order o = {.verb = STEP_ORDER_KILL};

	/* Without a namespace the rest does not end with init, which has to end it first. */
	if (m->step.options.plain && m->end.started &&
	    send(m->status, &o, sizeof o, MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
		return;
	if (m->step.driver && !m->killing) {
		m->killing = m->stopping = true;
		send(m->status, &o, sizeof o, MSG_NOSIGNAL | MSG_DONTWAIT);
		set_clock(m, DRIVER_PATIENCE);
		return;
	}
	syscall(SYS_pidfd_send_signal, m->pidfd, SIGKILL, NULL, 0);
}

static void stop(struct monitor *m)
{
	struct step_order o = {.verb = STEP_ORDER_ABORT};

	if (m->stopping)
		return;
	m->stopping = true;
	/* One that reads no orders, for it is still making its mounts, gets no grace. */
	if ((!m->end.started && !m->step.driver) ||
	    send(m->status, &o, sizeof o, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		kill_init(m);
	set_clock(m, m->step.options.grace);
}

static void obey(struct monitor *m)
{
	struct step_order o;
	ssize_t n = recv(STEP_FD_CONTROL, &o, sizeof o, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n != (ssize_t)sizeof o) {
		m->wanted = false;
		if (!m->step.options.durable)
			kill_init(m);
	} else if (o.verb == STEP_ORDER_FORGET) {
		m->forget = true;
	} else if (o.verb == STEP_ORDER_SIGNAL) {
		send(m->status, &o, sizeof o, MSG_NOSIGNAL | MSG_DONTWAIT);
	} else {
		m->end.aborted = 1;
		stop(m);
		if (o.verb == STEP_ORDER_KILL)
			kill_init(m);
	}
}

static void tick(struct monitor *m)
{
	uint64_t n;

	if (read(m->clock, &n, sizeof n) < 0)
		return;
	if (m->stopping) {
		kill_init(m);
		return;
	}
	m->end.timed_out = 1;
	stop(m);
}

static void hear(struct monitor *m)
{
	struct step_report r;

	while (recv(m->status, &r, sizeof r, MSG_DONTWAIT) == (ssize_t)sizeof r) {
		if (r.kind == STEP_STARTED) {
			m->end.started = r.started;
			if (m->step.options.timeout)
				set_clock(m, m->step.options.timeout);
			report(m, &r);
		} else if (r.kind == STEP_ENDED) {
			m->has_end = true;
			m->end.kind = STEP_ENDED;
			m->end.status = r.status;
			m->end.ended = r.ended;
			m->end.cpu_user = r.cpu_user;
			m->end.cpu_system = r.cpu_system;
			m->end.memory_peak = r.memory_peak;
			m->end.out_of_memory = r.out_of_memory;
		} else {
			m->has_end |= r.kind == STEP_FAILED;
			if (r.kind == STEP_FAILED)
				m->end.kind = STEP_FAILED;
			report(m, &r);
		}
	}
}

/* ----------------------------------------------------------------------------- the loop */

/* Somebody else wants a durable step from now on, and is told what has happened. */
static void change_hands(struct monitor *m)
{
	struct step_report started = {.kind = STEP_STARTED, .started = m->end.started};

	if (!step_accept(m->listener))
		return;
	m->wanted = true;
	if (m->end.started)
		send_report(&started);
	wake();
}

/* Until init is gone. */
static void watch(struct monitor *m)
{
	for (;;) {
		struct pollfd fds[] = {{m->pidfd, POLLIN, 0},	 {m->status, POLLIN, 0},
				       {m->clock, POLLIN, 0},	 {STEP_FD_CONTROL, POLLIN, 0},
				       {m->pipes[0], POLLIN, 0}, {m->pipes[1], POLLIN, 0},
				       {m->listener, POLLIN, 0}};

		if (!m->wanted)
			fds[3].fd = -1;
		if (poll(fds, DAVIT_ARRAY_SIZE(fds), -1) < 0 && errno != EINTR)
			return;
		if (fds[1].revents)
			hear(m);
		if (fds[3].revents)
			obey(m);
		if (fds[6].revents)
			change_hands(m);
		if (fds[2].revents)
			tick(m);
		for (int i = 0; i < 2; i++)
			if (fds[4 + i].revents)
				move(m, i);
		if (fds[0].revents)
			return;
		if (fds[1].revents & POLLHUP) { /* the end of the pidfd comes right after */
			close(m->status);
			m->status = -1;
		}
	}
}

static void finish(struct monitor *m)
{
	siginfo_t info;
	struct timespec t;

	if (m->status >= 0)
		hear(m);
	/* Init reaped nobody but its own; the kernel has ended the rest before it let go of init. */
	while (waitid((idtype_t)P_PIDFD, (id_t)m->pidfd, &info, WEXITED) < 0 && errno == EINTR)
		;
	if (m->step.driver && (info.si_code != CLD_EXITED || info.si_status != 0))
		remove_elsewhere(m);
	for (int i = 0; i < 2; i++)
		while (m->pipes[i] >= 0 && move(m, i))
			;
	if (m->has_end && m->end.kind == STEP_FAILED)
		return;
	if (!m->has_end) { /* it was killed, with its init */
		clock_gettime(CLOCK_REALTIME, &t);
		m->end.kind = STEP_ENDED;
		m->end.status = SIGKILL;
		m->end.ended = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
	}
	report(m, &m->end);
}

/* The caller takes what it wants out of the directory, and hangs up. */
static void await_hangup(struct monitor *m)
{
	struct pollfd fd = {STEP_FD_CONTROL, POLLIN, 0};

	while (m->wanted && !m->forget)
		if (poll(&fd, 1, -1) > 0)
			obey(m);
}

static void clean(const struct monitor *m)
{
	struct timespec pause = {.tv_nsec = 5000000};

	for (size_t i = 0; i < m->step.n_cgroups; i++)
		for (int tries = 0; tries < 200 && rmdir(m->step.cgroups[i]) < 0 && errno == EBUSY; tries++)
			nanosleep(&pause, NULL);
	if (m->step.release)
		unlink(m->step.release);
	if (!m->step.options.durable || m->forget)
		davit_remove_at(AT_FDCWD, m->step.directory);
}

static bool open_all(struct monitor *m)
{
	m->null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	m->clock = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	if (m->step.options.durable)
		m->listener = step_listen(m->step.directory);
	return m->null >= 0 && m->clock >= 0 && (m->listener >= 0 || !m->step.options.durable);
}

int main(int argc, char **argv)
{
	static struct monitor m = {.init = -1,
				   .pidfd = -1,
				   .status = -1,
				   .clock = -1,
				   .pipes = {-1, -1},
				   .listener = -1,
				   .wanted = true};
	static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGTSTP};

	if (argc > 1 && !strcmp(argv[1], "intercept"))
		_exit(step_intercept(argc - 2,
				     argv + 2)); /* in another root: nothing of this one's is tidied */
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(ignored); i++)
		signal(ignored[i], SIG_IGN);
	if (argc == 2 && !strcmp(argv[1], "inside"))
		return step_inside();
	prctl(PR_SET_NAME, "davit-step");
	if (fcntl(STEP_FD_CONTROL, F_GETFD) < 0 || fcntl(STEP_FD_LOCK, F_GETFD) < 0) {
		fputs("davit-step is started by davit execute and by davit_execute()\n", stderr);
		return 2;
	}
	setsid();
	umask(022);
	if (!step_order_read(STEP_FD_ORDER, &m.step)) {
		report_failure(&m, DAVIT_EINTERNAL, 0, "the order of the step cannot be understood");
		return 1;
	}
	if (!open_all(&m))
		report_failure(&m, DAVIT_EIO, errno, "cannot begin");
	else if (start(&m)) {
		watch(&m);
		finish(&m);
	} else if (m.init > 0) {
		kill_init(&m);
		waitpid(m.init, NULL, 0);
	}
	await_hangup(&m);
	clean(&m);
	return 0;
}
