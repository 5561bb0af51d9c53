/* SPDX-License-Identifier: MIT
 *
 * Between clone and execve. The child shares the keeper's memory and the keeper
 * sleeps meanwhile, so the cost does not depend on the keeper's size, and a
 * failure comes back through struct keeper_child. In the child there are only
 * system calls; it runs on a stack of its own.
 *
 * Where clone3 is missing or refused (before Linux 5.5, some seccomp filters)
 * and on other processors than x86_64 and aarch64, vfork does the same in two
 * more system calls: the pidfd is opened afterwards, which is safe because the
 * child cannot be reaped by anybody else, and the child joins its v2 cgroup by
 * writing to cgroup.procs.
 */
#include "keeper/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

/* The sanitizers' bookkeeping must not run on a borrowed stack. */
#define IN_CHILD __attribute__((no_sanitize("address", "undefined"), noinline))

#define CHILD_STACK 16384
static char child_stack[CHILD_STACK] __attribute__((aligned(64)));

IN_CHILD static int fail(struct keeper_child *c, enum keeper_step step, uint32_t detail)
{
	c->sys_errno = errno;
	c->detail = detail;
	c->step = step;
	return 127;
}

IN_CHILD static int join_cgroups(struct keeper_child *c)
{
	if (c->join_cgroup) {
		int fd = openat(c->cgroup_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, "0", 1) != 1)
			return fail(c, KEEPER_STEP_CGROUP, 0);
		close(fd);
	}
	for (unsigned i = 0; i < c->n_joins; i++)
		if (write(c->joins[i], "0", 1) != 1)
			return fail(c, KEEPER_STEP_CGROUP, i + (c->cgroup_fd >= 0));
	return 0;
}

/* The sources are above 2 (the keeper's own 0 to 2 are /dev/null), and after
 * the streams are in place only ready_fd of them is still needed. */
IN_CHILD static int place_descriptors(struct keeper_child *c)
{
	int ready = c->command->f.ready_fd;

	for (int i = 0; i < 3 && !c->shared_files; i++)
		if (dup2(c->streams[i], i) < 0)
			return fail(c, KEEPER_STEP_STREAMS, (uint32_t)i);
	if (c->ready_fd >= 0 && c->ready_fd != ready && dup2(c->ready_fd, ready) < 0)
		return fail(c, KEEPER_STEP_STREAMS, (uint32_t)ready);
	if (c->ready_fd >= 0 && c->ready_fd == ready && fcntl(ready, F_SETFD, 0) < 0)
		return fail(c, KEEPER_STEP_STREAMS, (uint32_t)ready);
	if (c->tty && ioctl(0, TIOCSCTTY, 0) < 0)
		return fail(c, KEEPER_STEP_TTY, 0);
	return 0;
}

IN_CHILD static int set_limits(struct keeper_child *c)
{
	if (syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, c->nofile, NULL) < 0)
		return fail(c, KEEPER_STEP_RLIMIT, RLIMIT_NOFILE);
	for (uint32_t i = 0; i < c->command->f.n_rlimits; i++) {
		const struct keeper_rlimit *l = &c->command->rlimits[i];
		struct rlimit r = {.rlim_cur = l->soft, .rlim_max = l->hard};
		if (syscall(SYS_prlimit64, 0, l->resource, &r, NULL) < 0)
			return fail(c, KEEPER_STEP_RLIMIT, (uint32_t)l->resource);
	}
	return 0;
}

/* The raw calls: libc's would tell threads that are not there. */
IN_CHILD static int become_user(struct keeper_child *c)
{
	const struct keeper_spawn *f = &c->command->f;

	if (!f->set_user)
		return 0;
	if (syscall(SYS_setgroups, (size_t)f->n_groups, c->command->groups) < 0)
		return fail(c, KEEPER_STEP_GROUPS, 0);
	if (syscall(SYS_setresgid, f->gid, f->gid, f->gid) < 0)
		return fail(c, KEEPER_STEP_GROUP, f->gid);
	if (syscall(SYS_setresuid, f->uid, f->uid, f->uid) < 0)
		return fail(c, KEEPER_STEP_USER, f->uid);
	return 0;
}

/* Everything above 2 but the readiness descriptor. All of the keeper's own are
 * close-on-exec; this catches one that an inheritor of it forgot. */
IN_CHILD static int close_others(struct keeper_child *c)
{
	unsigned from = 3, ready = (unsigned)c->command->f.ready_fd;

	if (c->ready_fd >= 0) {
		if (ready > 3 && syscall(SYS_close_range, 3u, ready - 1, 0u) < 0 && errno != ENOSYS)
			return fail(c, KEEPER_STEP_CLOSE, 0);
		from = ready + 1;
	}
	if (syscall(SYS_close_range, from, ~0u, 0u) < 0 && errno != ENOSYS)
		return fail(c, KEEPER_STEP_CLOSE, 0);
	return 0;
}

/* Handlers go at execve, and the keeper ignores no signal. */
IN_CHILD static int reset_signals(struct keeper_child *c)
{
	sigset_t none;

	sigemptyset(&none);
	if (sigprocmask(SIG_SETMASK, &none, NULL) < 0)
		return fail(c, KEEPER_STEP_SIGNALS, 0);
	return 0;
}

IN_CHILD static int child_main(void *arg)
{
	struct keeper_child *c = arg;
	const struct keeper_command *m = c->command;
	struct timespec now;
	int r;

	clock_gettime(CLOCK_BOOTTIME, &now);
	c->born = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
	if (c->record)
		*c->record = (int32_t)syscall(SYS_getpid);
	if ((r = join_cgroups(c)))
		return r;
	/* A table of its own with the three streams alone. */
	if (c->shared_files && syscall(SYS_close_range, 3u, ~0u, (unsigned)CLOSE_RANGE_UNSHARE) < 0)
		return fail(c, KEEPER_STEP_CLOSE, 0);
	if (setsid() < 0)
		return fail(c, KEEPER_STEP_SESSION, 0);
	if ((r = place_descriptors(c)) || (r = set_limits(c)) || (r = become_user(c)))
		return r;
	umask(m->f.umask);
	/* The keeper's own is the root. */
	if ((m->directory[0] != '/' || m->directory[1]) && chdir(m->directory) < 0)
		return fail(c, KEEPER_STEP_DIRECTORY, 0);
	if (m->f.no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return fail(c, KEEPER_STEP_PRIVILEGES, 0);
	if ((!c->shared_files && (r = close_others(c))) || (r = reset_signals(c)))
		return r;
	execve(m->path, m->argv, m->env);
	return fail(c, KEEPER_STEP_EXEC, 0);
}

#if defined(__x86_64__)
/* clone3, and in the child fn(arg) on the new stack, then _exit(result). */
static long clone3_run(struct clone_args *args, int (*fn)(void *), void *arg)
{
	register int (*fn_)(void *) __asm__("r8") = fn;
	register void *arg_ __asm__("r9") = arg;
	long ret;

	__asm__ volatile("syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "xor %%ebp, %%ebp\n\t" /* the end of the frames, for debuggers */
			 "mov %%r9, %%rdi\n\t"
			 "call *%%r8\n\t"
			 "mov %%eax, %%edi\n\t"
			 "mov %[exit], %%eax\n\t"
			 "syscall\n\t"
			 "hlt\n"
			 "1:"
			 : "=a"(ret)
			 : "0"((long)SYS_clone3), "D"(args), "S"(sizeof *args), "r"(fn_),
			   "r"(arg_), [exit] "i"(SYS_exit_group)
			 : "rcx", "r11", "cc", "memory");
	return ret;
}
#define HAVE_CLONE3_RUN 1
#elif defined(__aarch64__)
static long clone3_run(struct clone_args *args, int (*fn)(void *), void *arg)
{
	register long nr __asm__("x8") = SYS_clone3;
	register long a0 __asm__("x0") = (long)args;
	register long a1 __asm__("x1") = sizeof *args;
	register int (*fn_)(void *) __asm__("x9") = fn;
	register void *arg_ __asm__("x10") = arg;

	__asm__ volatile("svc #0\n\t"
			 "cbnz x0, 1f\n\t"
			 "mov x29, xzr\n\t"
			 "mov x30, xzr\n\t"
			 "mov x0, x10\n\t"
			 "blr x9\n\t"
			 "mov x8, %[exit]\n\t"
			 "svc #0\n\t"
			 "brk #1\n"
			 "1:"
			 : "+r"(a0)
			 : "r"(nr), "r"(a1), "r"(fn_), "r"(arg_), [exit] "i"(SYS_exit_group)
			 : "cc", "memory");
	return a0;
}
#define HAVE_CLONE3_RUN 1
#else
#define HAVE_CLONE3_RUN 0
#endif

#if HAVE_CLONE3_RUN
/* The keeper has thousands of descriptors; copying them for a child that closes
 * them again would cost more than all the rest. So the child shares the table,
 * where the streams are at 0 to 2 for the moment, and leaves it by a close_range
 * that copies only these. Not with a readiness descriptor: its number may be
 * one of the keeper's own. */
static bool share_files(struct keeper_child *c)
{
	static int can; /* 0 not known, 1 yes, -1 no (before Linux 5.9) */

	if (!can)
		can = syscall(SYS_close_range, ~0u, ~0u, (unsigned)CLOSE_RANGE_UNSHARE) == 0 ? 1 : -1;
	if (can < 0 || c->ready_fd >= 0)
		return false;
	for (int i = 0; i < 3; i++)
		if (c->streams[i] != c->fd_null && dup2(c->streams[i], i) < 0)
			return false;
	return true;
}

/* The keeper's own streams are /dev/null. */
static void unshare_files(const struct keeper_child *c)
{
	for (int i = 0; i < 3; i++)
		if (c->streams[i] != c->fd_null)
			dup2(c->fd_null, i);
}

/* 0, or an errno. */
static int start_clone3(struct keeper_child *c, pid_t *ret_pid, int *ret_pidfd)
{
	int pidfd = -1;
	struct clone_args args = {
		.flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_CLEAR_SIGHAND,
		.pidfd = (uintptr_t)&pidfd,
		.exit_signal = SIGCHLD,
		.stack = (uintptr_t)child_stack,
		.stack_size = sizeof child_stack,
	};
	long pid;

	if (c->cgroup_fd >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)c->cgroup_fd;
	}
	c->shared_files = share_files(c);
	if (c->shared_files)
		args.flags |= CLONE_FILES;
	pid = clone3_run(&args, child_main, c);
	unshare_files(c);
	c->shared_files = false;
	if (pid < 0)
		return (int)-pid;
	*ret_pid = (pid_t)pid;
	*ret_pidfd = pidfd;
	return 0;
}
#else
static int start_clone3(struct keeper_child *c, pid_t *ret_pid, int *ret_pidfd)
{
	return ENOSYS;
}
#endif

static int start_vfork(struct keeper_child *c, pid_t *ret_pid, int *ret_pidfd)
{
	pid_t pid = vfork();
	int pidfd;

	if (pid == 0)
		_exit(child_main(c));
	if (pid < 0)
		return errno;
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0) {
		int saved = errno;
		kill(pid, SIGKILL); /* our own child, not reaped: the pid is its */
		DAVIT_EINTR(waitpid(pid, NULL, 0));
		return saved;
	}
	*ret_pid = pid;
	*ret_pidfd = pidfd;
	return 0;
}

int keeper_child_start(struct keeper_child *c, pid_t *ret_pid, int *ret_pidfd)
{
	pid_t pid = 0;
	int pidfd = -1, r = start_clone3(c, &pid, &pidfd);

	if (r == ENOSYS || r == EPERM || r == E2BIG || r == EINVAL) {
		c->join_cgroup = c->cgroup_fd >= 0;
		r = start_vfork(c, &pid, &pidfd);
	}
	if (r)
		return r;
	if (c->step != KEEPER_STEP_NONE) {
		DAVIT_EINTR(waitpid(pid, NULL, 0));
		close(pidfd);
		return c->sys_errno;
	}
	*ret_pid = pid;
	*ret_pidfd = pidfd;
	return 0;
}
