/* SPDX-License-Identifier: MIT */
#include "channel/holder.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* It stands beside the one whose memory this is: it may use nothing of it but what stands here, least of
 * all what belongs to the thread, and no function that a sanitizer has put its own in front of. */
#define APART __attribute__((no_sanitize("address", "undefined", "thread"), noinline))

static _Alignas(64) char stack[4096];

static APART int hold(void *arg)
{
	static struct pollfd p = {.events = POLLIN};

	p.fd = (int)(long)arg;
	if (p.fd > 0)
		syscall(SYS_close_range, 0u, (unsigned)p.fd - 1, 0u);
	syscall(SYS_close_range, (unsigned)p.fd + 1, ~0u, 0u);
	syscall(SYS_prctl, PR_SET_NAME, "davit-holder", 0, 0, 0);
	do
		syscall(SYS_ppoll, &p, 1, NULL, NULL, 0);
	while (!p.revents);
	syscall(SYS_exit_group, 0);
	return 0;
}

/* Valgrind and ThreadSanitizer know threads and forks, and nothing between. The latter puts its own in
 * front of clone, which then does in the memory of both what is for the memory of a forked child alone:
 * with clang the process hangs, with gcc the holder dies. */
static int forks_alone(void)
{
	const char *preloaded = getenv("LD_PRELOAD");

	return DAVIT_HOLDER_FORKS_ALONE || (preloaded && strstr(preloaded, "/valgrind/"));
}

int davit_holder_start(int self)
{
	int pidfd = -1, flags = CLONE_VM | CLONE_PARENT | CLONE_PIDFD;
	sigset_t all, old;

	if (self < 0 || forks_alone())
		return -1;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old);
	if (clone(hold, stack + sizeof stack, flags, (void *)(long)self, &pidfd, NULL, NULL) < 0)
		pidfd = -1;
	sigprocmask(SIG_SETMASK, &old, NULL);
	return pidfd;
}
