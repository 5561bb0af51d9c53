/* SPDX-License-Identifier: MIT
 *
 * The first process of a step's namespaces. It is small, has no children of its own but the program, and
 * ends when that ends; the kernel then ends everything else.
 */
#include "davit/error.h"
#include "step/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

static int64_t wall(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* A hermetic step can talk to itself. */
static void loopback_up(struct step *s)
{
	struct ifreq q = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &q) < 0)
		step_fail(s, DAVIT_EIO, errno, "cannot bring up the loopback network");
	close(fd);
}

/* Starts the program, and returns when it has been executed. */
static pid_t start(struct step *s, int out, int err)
{
	struct step_exec_failure f;
	int ends[2];
	ssize_t n;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		step_fail(s, DAVIT_EIO, errno, "cannot make a pipe");
	pid = fork();
	if (pid < 0)
		step_fail(s, DAVIT_EIO, errno, "cannot start a process");
	if (!pid)
		step_program(s, out, err, ends[1]);
	close(ends[1]);
	close(out);
	close(err);
	n = DAVIT_EINTR(read(ends[0], &f, sizeof f));
	close(ends[0]);
	if (n == (ssize_t)sizeof f)
		step_fail(s, f.code, f.sys_errno, "%s", f.what);
	return pid;
}

static void obey(const struct step *s, pid_t program, const struct step_order *o)
{
	if (o->verb == STEP_ORDER_SIGNAL) {
		kill(program, o->signo);
		return;
	}
	if (s->options.plain) { /* of the host's processes only its own group is the step's */
		kill(-program, o->verb == STEP_ORDER_KILL ? SIGKILL : SIGTERM);
		kill(-program, SIGCONT);
		return;
	}
	/* Everything in this pid namespace but ourselves; what is stopped must be able to end. */
	kill(-1, SIGTERM);
	kill(-1, SIGCONT);
}

/* By what a container sees of its own cgroup. */
static bool ran_out_of_memory(void)
{
	static const char *const files[] = {"/sys/fs/cgroup/memory.events",
					    "/sys/fs/cgroup/memory/memory.oom_control"};
	char line[128];
	long kills = 0;

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(files); i++) {
		FILE *f = fopen(files[i], "re");

		while (f && !kills && fgets(line, sizeof line, f))
			if (!strncmp(line, "oom_kill ", 9))
				kills = strtol(line + 9, NULL, 10);
		if (f)
			fclose(f);
	}
	return kills > 0;
}

static void end(struct step *s, int status, const struct rusage *u)
{
	struct step_report r = {.kind = STEP_ENDED, .status = status, .ended = wall()};

	r.cpu_user = (int64_t)u->ru_utime.tv_sec * 1000000000 + u->ru_utime.tv_usec * 1000;
	r.cpu_system = (int64_t)u->ru_stime.tv_sec * 1000000000 + u->ru_stime.tv_usec * 1000;
	r.memory_peak = (uint64_t)u->ru_maxrss * 1024;
	r.out_of_memory = s->inside && ran_out_of_memory();
	step_report(s, &r);
	_exit(0);
}

static void keep(struct step *s, int signals, pid_t program)
{
	struct signalfd_siginfo info;
	struct step_order o;
	struct rusage u;
	int status;
	pid_t pid;

	for (;;) {
		struct pollfd fds[] = {{signals, POLLIN, 0}, {s->status_fd, POLLIN, 0}};

		while ((pid = wait4(-1, &status, WNOHANG, &u)) > 0)
			if (pid == program) {
				if (s->options.plain)
					kill(-program, SIGKILL); /* what it left */
				end(s, status, &u);
			}
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			step_fail(s, DAVIT_EIO, errno, "cannot wait");
		if (fds[0].revents && read(signals, &info, sizeof info) < 0 && errno != EAGAIN)
			step_fail(s, DAVIT_EIO, errno, "cannot wait");
		if (!fds[1].revents)
			continue;
		if (recv(s->status_fd, &o, sizeof o, MSG_DONTWAIT) == (ssize_t)sizeof o)
			obey(s, program, &o);
		else if (fds[1].revents & POLLHUP)
			_exit(1);
	}
}

/* Makes the namespaces what the step is to see. */
static void enter(struct step *s)
{
	if (sethostname("step", 4) < 0)
		step_fail(s, DAVIT_EIO, errno, "cannot name the host");
	if (s->options.hermetic)
		loopback_up(s);
	step_enter_root(s);
}

static int watch_children(struct step *s)
{
	sigset_t child;
	int signals;

	if (setsid() < 0)
		step_fail(s, DAVIT_EIO, errno, "cannot begin a session");
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signals < 0 || sigprocmask(SIG_BLOCK, &child, NULL) < 0)
		step_fail(s, DAVIT_EIO, errno, "cannot watch for signals");
	return signals;
}

static void run(struct step *s, int signals, int out, int err) __attribute__((noreturn));
static void run(struct step *s, int signals, int out, int err)
{
	struct step_report r = {.kind = STEP_STARTED};
	pid_t program = start(s, out, err);

	r.started = wall();
	step_report(s, &r);
	for (;;)
		keep(s, signals, program);
}

void step_init(struct step *s, int out, int err)
{
	int signals;
	char go;

	/* The monitor may be gone before this holds: then there is nothing to read either. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (DAVIT_EINTR(recv(s->status_fd, &go, 1, 0)) != 1)
		_exit(1);
	signals = watch_children(s);
	if (!s->options.plain)
		enter(s);
	/* Nothing of the step's runs before it is in its cgroups. */
	if (DAVIT_EINTR(recv(s->status_fd, &go, 1, 0)) != 1)
		_exit(1);
	run(s, signals, out, err);
}

void step_init_inside(struct step *s, int out, int err)
{
	run(s, watch_children(s), out, err);
}
