/* SPDX-License-Identifier: MIT
 *
 * The physical limit that managers of processes are compared with: the same
 * clone3(VM | VFORK | PIDFD) and execve, and one epoll over the pidfds, with
 * nothing else around them.
 *
 *	bench-spawn N PROGRAM [ARGUMENT]...
 *
 * starts N children, prints "started NANOSECONDS" (monotonic, of the last exec),
 * and then reaps those that end, until its standard input ends or no child is
 * left; what is left is killed. Prints "reaped N" at the end.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { STACK = 16384, EVENTS = 128 };

static char stack[STACK] __attribute__((aligned(64)));
static char *ended; /* by descriptor */

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "bench-spawn: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int child(void *arg)
{
	char **argv = arg;

	execv(argv[0], argv);
	return 127;
}

/* clone() with these flags is the same system call's work as clone3, and saves a
 * piece of assembly for the stack. */
static int start(char **argv)
{
	int pidfd = -1;

	if (clone(child, stack + STACK, CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, argv, &pidfd) < 0)
		die("clone");
	return pidfd;
}

static void watch(int epoll, int fd)
{
	struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) < 0)
		die("epoll_ctl");
}

/* Until standard input ends or all have ended. Returns how many have. */
static int reap(int epoll, int n)
{
	struct epoll_event events[EVENTS];
	int reaped = 0;

	watch(epoll, STDIN_FILENO);
	while (reaped < n) {
		int m = epoll_wait(epoll, events, EVENTS, -1);
		for (int i = 0; i < m; i++) {
			int fd = events[i].data.fd;
			siginfo_t si;
			if (fd == STDIN_FILENO)
				return reaped;
			if (waitid(P_PIDFD, (id_t)fd, &si, WEXITED) < 0)
				die("waitid");
			ended[fd] = 1;
			close(fd);
			reaped++;
		}
	}
	return reaped;
}

int main(int argc, char **argv)
{
	struct timespec ts;
	int n = argc > 2 ? atoi(argv[1]) : 0, epoll = epoll_create1(EPOLL_CLOEXEC), reaped;
	int *fds = calloc((size_t)n + 1, sizeof *fds);

	ended = calloc((size_t)n + 64, 1);
	if (n <= 0 || !fds || !ended || epoll < 0) {
		fputs("usage: bench-spawn N PROGRAM [ARGUMENT]...\n", stderr);
		return 2;
	}
	for (int i = 0; i < n; i++) {
		fds[i] = start(argv + 2);
		watch(epoll, fds[i]);
	}
	clock_gettime(CLOCK_MONOTONIC, &ts);
	printf("started %lld\n", (long long)ts.tv_sec * 1000000000 + ts.tv_nsec);
	fflush(stdout);
	reaped = reap(epoll, n);
	for (int i = 0; i < n; i++)
		if (!ended[fds[i]])
			syscall(SYS_pidfd_send_signal, fds[i], SIGKILL, NULL, 0);
	printf("reaped %d\n", reaped);
	return 0;
}
