/* SPDX-License-Identifier: MIT
 *
 * Between clone and execve. The child shares the keeper's memory, so the cost does
 * not depend on the keeper's size, and a failure comes back through struct
 * keeper_child. The keeper goes on meanwhile, with the next start: on a machine of
 * several processors a start is mostly waiting for one. Therefore the child touches
 * nothing but its own struct keeper_child, on a stack of its own, and makes system
 * calls without libc, whose errno is the keeper's. When it leaves the memory, by
 * execve or by its end, the kernel clears `lives` and wakes who waits for it.
 *
 * It is not so where the child joins a group in which memory can run out: execve takes
 * memory of that group, and who kills for the lack of it kills all that share the
 * victim's memory, the keeper too. It spares only a child for which its parent waits
 * (CLONE_VFORK), so there the keeper does, and execve fails.
 *
 * Where clone3 is missing or refused (before Linux 5.5, some seccomp filters)
 * and on other processors than x86_64 and aarch64, vfork does the same in two
 * more system calls, and the keeper sleeps meanwhile: the pidfd is opened
 * afterwards, which is safe because the child cannot be reaped by anybody else, and
 * the child joins its v2 cgroup by writing to cgroup.procs.
 */
#include "keeper/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/futex.h>
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

/* A system call of at most four arguments, the fifth is 0: its result, or -errno. */
#if defined(__x86_64__)
#define HAVE_CLONE3_RUN 1
static inline __attribute__((always_inline)) long call(long nr, long a, long b, long c, long d)
{
	register long d_ __asm__("r10") = d;
	register long e_ __asm__("r8") = 0;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "0"(nr), "D"(a), "S"(b), "d"(c), "r"(d_), "r"(e_)
			 : "rcx", "r11", "cc", "memory");
	return ret;
}
#elif defined(__aarch64__)
#define HAVE_CLONE3_RUN 1
static inline __attribute__((always_inline)) long call(long nr, long a, long b, long c, long d)
{
	register long nr_ __asm__("x8") = nr;
	register long a_ __asm__("x0") = a;
	register long b_ __asm__("x1") = b;
	register long c_ __asm__("x2") = c;
	register long d_ __asm__("x3") = d;
	register long e_ __asm__("x4") = 0;

	__asm__ volatile("svc #0" : "+r"(a_) : "r"(nr_), "r"(b_), "r"(c_), "r"(d_), "r"(e_) : "cc", "memory");
	return a_;
}
#else
#define HAVE_CLONE3_RUN 0
static inline long call(long nr, long a, long b, long c, long d)
{
	long ret = syscall(nr, a, b, c, d, 0L);

	return ret < 0 ? -errno : ret;
}
#endif

#define P(pointer) ((long)(uintptr_t)(pointer))

IN_CHILD static int fail(struct keeper_child *c, enum keeper_step step, uint32_t detail, long error)
{
	c->sys_errno = (int)-error;
	c->detail = detail;
	c->step = step;
	return 127;
}

/* 0, or -errno. */
IN_CHILD static long join(int procs)
{
	long n = call(SYS_write, procs, P("0"), 1, 0);

	return n < 0 ? n : 0;
}

IN_CHILD static int join_cgroups(struct keeper_child *c)
{
	long r;

	if (c->join_cgroup) {
		long fd = call(SYS_openat, c->cgroup_fd, P("cgroup.procs"), O_WRONLY | O_CLOEXEC, 0);
		r = fd < 0 ? fd : join((int)fd);
		if (r < 0)
			return fail(c, KEEPER_STEP_CGROUP, 0, r);
		call(SYS_close, fd, 0, 0, 0);
	}
	for (unsigned i = 0; i < c->n_joins; i++) {
		r = join(c->joins[i]);
		if (r < 0)
			return fail(c, KEEPER_STEP_CGROUP, i + (c->cgroup_fd >= 0), r);
	}
	return 0;
}

/* The sources are above 2 (the keeper's own 0 to 2 are /dev/null), and after
 * the streams are in place only ready_fd of them is still needed. */
IN_CHILD static int place_descriptors(struct keeper_child *c)
{
	int ready = c->command->f.ready_fd;
	long r = 0;

	for (int i = 0; i < 3; i++) {
		if (c->streams[i] != c->fd_null)
			r = call(SYS_dup3, c->low >= 0 ? c->low + i : c->streams[i], i, 0, 0);
		if (r < 0)
			return fail(c, KEEPER_STEP_STREAMS, (uint32_t)i, r);
	}
	if (c->ready_fd >= 0 && c->ready_fd != ready)
		r = call(SYS_dup3, c->ready_fd, ready, 0, 0);
	else if (c->ready_fd >= 0)
		r = call(SYS_fcntl, ready, F_SETFD, 0, 0);
	if (r < 0)
		return fail(c, KEEPER_STEP_STREAMS, (uint32_t)ready, r);
	r = c->tty ? call(SYS_ioctl, 0, TIOCSCTTY, 0, 0) : 0;
	return r < 0 ? fail(c, KEEPER_STEP_TTY, 0, r) : 0;
}

IN_CHILD static int set_limits(struct keeper_child *c)
{
	long e = call(SYS_prlimit64, 0, RLIMIT_NOFILE, P(c->nofile), 0);

	if (e < 0)
		return fail(c, KEEPER_STEP_RLIMIT, RLIMIT_NOFILE, e);
	for (uint32_t i = 0; i < c->command->f.n_rlimits; i++) {
		const struct keeper_rlimit *l = &c->command->rlimits[i];
		struct rlimit r = {.rlim_cur = l->soft, .rlim_max = l->hard};
		e = call(SYS_prlimit64, 0, l->resource, P(&r), 0);
		if (e < 0)
			return fail(c, KEEPER_STEP_RLIMIT, (uint32_t)l->resource, e);
	}
	return 0;
}

IN_CHILD static int become_user(struct keeper_child *c)
{
	const struct keeper_spawn *f = &c->command->f;
	long r;

	if (!f->set_user)
		return 0;
	r = call(SYS_setgroups, f->n_groups, P(c->command->groups), 0, 0);
	if (r < 0)
		return fail(c, KEEPER_STEP_GROUPS, 0, r);
	r = call(SYS_setresgid, f->gid, f->gid, f->gid, 0);
	if (r < 0)
		return fail(c, KEEPER_STEP_GROUP, f->gid, r);
	r = call(SYS_setresuid, f->uid, f->uid, f->uid, 0);
	return r < 0 ? fail(c, KEEPER_STEP_USER, f->uid, r) : 0;
}

/* Everything above 2 but the readiness descriptor. All of the keeper's own are
 * close-on-exec; this catches one that an inheritor of it forgot. */
IN_CHILD static int close_others(struct keeper_child *c)
{
	unsigned from = 3, ready = (unsigned)c->command->f.ready_fd;
	long r = 0;

	if (c->ready_fd >= 0) {
		if (ready > 3)
			r = call(SYS_close_range, 3, ready - 1, 0, 0);
		from = ready + 1;
	}
	if (r == 0 || r == -ENOSYS)
		r = call(SYS_close_range, from, ~0u, 0, 0);
	return r < 0 && r != -ENOSYS ? fail(c, KEEPER_STEP_CLOSE, 0, r) : 0;
}

/* Handlers go at execve, and the keeper ignores no signal. */
IN_CHILD static int reset_signals(struct keeper_child *c)
{
	uint64_t none = 0;
	long r = call(SYS_rt_sigprocmask, SIG_SETMASK, P(&none), 0, sizeof none);

	return r < 0 ? fail(c, KEEPER_STEP_SIGNALS, 0, r) : 0;
}

IN_CHILD static int child_main(void *arg)
{
	struct keeper_child *c = arg;
	const struct keeper_command *m = c->command;
	struct timespec now;
	long e;
	int r;

	clock_gettime(CLOCK_BOOTTIME, &now);
	c->born = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
	if (c->record)
		*c->record = (int32_t)call(SYS_getpid, 0, 0, 0, 0);
	if ((r = join_cgroups(c)))
		return r;
	/* A table of its own, with the low numbers alone. */
	e = c->low >= 0 ? call(SYS_close_range, KEEPER_LOW_END, ~0u, CLOSE_RANGE_UNSHARE, 0) : 0;
	if (e < 0)
		return fail(c, KEEPER_STEP_CLOSE, 0, e);
	e = call(SYS_setsid, 0, 0, 0, 0);
	if (e < 0)
		return fail(c, KEEPER_STEP_SESSION, 0, e);
	if ((r = place_descriptors(c)) || (r = set_limits(c)) || (r = become_user(c)))
		return r;
	call(SYS_umask, m->f.umask, 0, 0, 0);
	/* The keeper's own is the root. */
	e = m->directory[0] != '/' || m->directory[1] ? call(SYS_chdir, P(m->directory), 0, 0, 0) : 0;
	if (e < 0)
		return fail(c, KEEPER_STEP_DIRECTORY, 0, e);
	e = m->f.no_new_privileges ? call(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0) : 0;
	if (e < 0)
		return fail(c, KEEPER_STEP_PRIVILEGES, 0, e);
	if ((c->low < 0 && (r = close_others(c))) || (r = reset_signals(c)))
		return r;
	e = call(SYS_execve, P(m->path), P(m->argv), P(m->env), 0);
	return fail(c, KEEPER_STEP_EXEC, 0, e);
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
#endif

#if HAVE_CLONE3_RUN
/* The keeper has thousands of descriptors; copying them for a child that closes
 * them again would cost more than all the rest. So the child shares the table,
 * where its streams are at low numbers kept for this start, and leaves it by a
 * close_range that copies only these. Not with a readiness descriptor: its number
 * may be one of the keeper's own. */
static void share_files(struct keeper_child *c)
{
	static int can; /* 0 not known, 1 yes, -1 no (before Linux 5.9) */

	if (!can)
		can = syscall(SYS_close_range, ~0u, ~0u, (unsigned)CLOSE_RANGE_UNSHARE) == 0 ? 1 : -1;
	c->low = can > 0 && c->ready_fd < 0 ? c->reserved : -1;
	for (int i = 0; i < 3 && c->low >= 0; i++)
		if (c->streams[i] != c->fd_null && dup3(c->streams[i], c->low + i, O_CLOEXEC) < 0)
			c->low = -1;
}

/* 0, or an errno. */
static int start_clone3(struct keeper_child *c)
{
	struct clone_args args = {
		.flags = CLONE_VM | CLONE_PIDFD | CLONE_CLEAR_SIGHAND | CLONE_CHILD_CLEARTID,
		.pidfd = (uintptr_t)&c->pidfd,
		.child_tid = (uintptr_t)&c->lives,
		.exit_signal = SIGCHLD,
		.stack = (uintptr_t)c->stack,
		.stack_size = KEEPER_CHILD_STACK,
	};
	long pid;

	if (c->cgroup_fd >= 0 && !c->join_cgroup) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)c->cgroup_fd;
	}
	if (c->wait)
		args.flags |= CLONE_VFORK;
	share_files(c);
	if (c->low >= 0)
		args.flags |= CLONE_FILES;
	c->lives = 1;
	pid = clone3_run(&args, child_main, c);
	if (pid < 0)
		c->lives = 0;
	else
		c->pid = (pid_t)pid;
	return pid < 0 ? (int)-pid : 0;
}
#else
static int start_clone3(struct keeper_child *c)
{
	(void)c;
	return ENOSYS;
}
#endif

static int start_vfork(struct keeper_child *c)
{
	pid_t pid;

	c->low = -1;
	c->join_cgroup = c->cgroup_fd >= 0;
	pid = vfork();
	if (pid == 0)
		_exit(child_main(c));
	if (pid < 0)
		return errno;
	c->pid = pid;
	c->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (c->pidfd < 0) {
		int saved = errno;
		kill(pid, SIGKILL); /* our own child, not reaped: the pid is its */
		DAVIT_EINTR(waitpid(pid, NULL, 0));
		return saved;
	}
	return 0;
}

/* The reserved numbers hold no end of a pipe any more. */
static void release(const struct keeper_child *c)
{
	for (int i = 0; i < 3 && c->reserved >= 0; i++)
		if (c->streams[i] != c->fd_null)
			dup3(c->fd_null, c->reserved + i, O_CLOEXEC);
}

int keeper_child_begin(struct keeper_child *c)
{
	int r;

	c->pidfd = -1;
	c->step = KEEPER_STEP_NONE;
	r = start_clone3(c);
	if (r == ENOSYS || r == EPERM || r == E2BIG || r == EINVAL)
		r = start_vfork(c);
	if (r)
		release(c);
	return r;
}

int keeper_child_end(struct keeper_child *c)
{
	/* The kernel's wake-up is not a private one. */
	while (__atomic_load_n(&c->lives, __ATOMIC_ACQUIRE))
		syscall(SYS_futex, &c->lives, FUTEX_WAIT, 1, NULL, NULL, 0);
	release(c);
	if (c->step == KEEPER_STEP_NONE)
		return 0;
	DAVIT_EINTR(waitpid(c->pid, NULL, 0));
	close(c->pidfd);
	return c->sys_errno;
}
