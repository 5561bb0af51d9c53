/* SPDX-License-Identifier: MIT
 *
 * The physical limit that managers of processes are compared with: the same
 * clone3(VM | VFORK | PIDFD) and execve, and one epoll over the pidfds, with
 * nothing else around them.
 *
 *	bench-spawn [-k GROUP] N PROGRAM [ARGUMENT]...
 *
 * starts N children, prints "started NANOSECONDS" (monotonic, of the last exec),
 * and then reaps those that end, until its standard input ends or no child is
 * left; what is left is killed. Prints "reaped N" at the end.
 *
 * -k: with what whoever keeps a child cannot do without. Its output goes into two
 * pipes; it has a control group (v2) of its own, GROUP/0 and so on, which is looked
 * at for what the child left behind; and somebody else is told of the end.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { STACK = 16384, EVENTS = 128, MESSAGE = 256 };

struct child {
	char **argv;
	int pidfd;	/* -1: ended */
	int pipe[2];	/* our ends */
	int output[2];	/* its ends, until it runs */
	int membership; /* cgroup.procs, until it runs */
};

static char stack[STACK] __attribute__((aligned(64)));
static const char *group;
static int teller[2];

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "bench-spawn: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* In the child, which has a table of descriptors of its own. */
static int run(void *arg)
{
	struct child *c = arg;

	if (group &&
	    (write(c->membership, "0", 1) != 1 || dup2(c->output[0], 1) < 0 || dup2(c->output[1], 2) < 0))
		return 126;
	execv(c->argv[0], c->argv);
	return 127;
}

static void watch(int epoll, int fd, uint64_t data)
{
	struct epoll_event e = {.events = EPOLLIN, .data.u64 = data};

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) < 0)
		die("epoll_ctl");
}

static int open_in_group(int number, const char *file, int flags)
{
	char path[512];

	snprintf(path, sizeof path, "%s/%d%s", group, number, file);
	if (!*file)
		return mkdir(path, 0755);
	return open(path, flags | O_CLOEXEC);
}

static void prepare(struct child *c, int number)
{
	for (int i = 0; i < 2; i++) {
		int p[2];
		if (pipe2(p, O_CLOEXEC | O_NONBLOCK) < 0)
			die("pipe2");
		c->pipe[i] = p[0];
		c->output[i] = p[1];
	}
	if (open_in_group(number, "", 0) < 0)
		die("mkdir");
	c->membership = open_in_group(number, "/cgroup.procs", O_WRONLY);
	if (c->membership < 0)
		die("cgroup.procs");
}

/* clone() with these flags is the same system call's work as clone3, and saves a
 * piece of assembly for the stack. */
static void start(int epoll, struct child *c, int number)
{
	if (group)
		prepare(c, number);
	if (clone(run, stack + STACK, CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, c, &c->pidfd) < 0)
		die("clone");
	watch(epoll, c->pidfd, (uint64_t)number << 2);
	if (!group)
		return;
	close(c->membership);
	for (uint64_t i = 0; i < 2; i++) {
		close(c->output[i]);
		watch(epoll, c->pipe[i], (uint64_t)number << 2 | (i + 1));
	}
}

static void close_pipe(struct child *c, int i)
{
	if (c->pipe[i] >= 0)
		close(c->pipe[i]);
	c->pipe[i] = -1;
}

static void end(struct child *c, int number)
{
	char text[MESSAGE] = "";
	siginfo_t si;

	if (waitid(P_PIDFD, (id_t)c->pidfd, &si, WEXITED) < 0)
		die("waitid");
	close(c->pidfd);
	c->pidfd = -1;
	if (!group)
		return;
	close_pipe(c, 0);
	close_pipe(c, 1);
	int events = open_in_group(number, "/cgroup.events", O_RDONLY);
	if (events < 0 || read(events, text, sizeof text) <= 0)
		die("cgroup.events");
	close(events);
	if (send(teller[0], text, sizeof text, 0) < 0)
		die("send");
}

/* Until standard input ends or all have ended. Returns how many have. */
static int reap(int epoll, struct child *children, int n)
{
	struct epoll_event events[EVENTS];
	int reaped = 0;

	watch(epoll, STDIN_FILENO, UINT64_MAX);
	while (reaped < n) {
		int m = epoll_wait(epoll, events, EVENTS, -1);
		for (int i = 0; i < m; i++) {
			uint64_t data = events[i].data.u64;
			int number = (int)(data >> 2), which = (int)(data & 3);
			if (data == UINT64_MAX)
				return reaped;
			if (which) {
				close_pipe(&children[number], which - 1);
				continue;
			}
			end(&children[number], number);
			reaped++;
		}
	}
	return reaped;
}

/* Takes what is told, so that it costs the loop no more than the telling. */
static void listen_elsewhere(void)
{
	char text[MESSAGE];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, teller) < 0)
		die("socketpair");
	switch (fork()) {
	case -1:
		die("fork");
	case 0:
		close(teller[0]);
		close(STDIN_FILENO);
		close(STDOUT_FILENO);
		while (recv(teller[1], text, sizeof text, 0) > 0)
			;
		_exit(0);
	}
	close(teller[1]);
}

int main(int argc, char **argv)
{
	struct timespec ts;
	int n, epoll = epoll_create1(EPOLL_CLOEXEC), reaped;
	struct child *children;

	if (argc > 2 && !strcmp(argv[1], "-k")) {
		group = argv[2];
		argv += 2;
		argc -= 2;
		listen_elsewhere();
	}
	n = argc > 2 ? atoi(argv[1]) : 0;
	children = calloc((size_t)(n > 0 ? n : 0) + 1, sizeof *children);
	if (n <= 0 || !children || epoll < 0) {
		fputs("usage: bench-spawn [-k GROUP] N PROGRAM [ARGUMENT]...\n", stderr);
		return 2;
	}
	for (int i = 0; i < n; i++) {
		children[i].argv = argv + 2;
		start(epoll, &children[i], i);
	}
	clock_gettime(CLOCK_MONOTONIC, &ts);
	printf("started %lld\n", (long long)ts.tv_sec * 1000000000 + ts.tv_nsec);
	fflush(stdout);
	reaped = reap(epoll, children, n);
	for (int i = 0; i < n; i++)
		if (children[i].pidfd >= 0)
			syscall(SYS_pidfd_send_signal, children[i].pidfd, SIGKILL, NULL, 0);
	printf("reaped %d\n", reaped);
	return 0;
}
