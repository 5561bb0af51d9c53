/* SPDX-License-Identifier: MIT
 *
 * davit-step intercept DIRECTORY COMMAND...: a further program in a step that runs. It sees what the step
 * sees and may what the step may, but it has its caller's standard streams and terminal. It ends with the
 * step.
 */
#include "base/file.h"
#include "step/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { CANNOT = 125 }; /* the exit status, as of others that run something for somebody */

static int fail(const char *what)
{
	fprintf(stderr, "davit: %s: %s\n", what, strerror(errno));
	return CANNOT;
}

void step_tell_intercept(pid_t init)
{
	char text[48];
	int n = snprintf(text, sizeof text, "%d %d\n", getpid(), init);

	/* Without it nobody can join in, and that is all. */
	if (pwrite(STEP_FD_LOCK, text, (size_t)n, STEP_LOCK_PROCESSES) != n)
		errno = 0;
}

/* The lock says that it runs, and its file by which processes. */
static bool find(const char *directory, pid_t *ret_monitor, pid_t *ret_init)
{
	char path[PATH_MAX], text[48] = "";
	DAVIT_AUTO_CLOSE int fd = -1;

	snprintf(path, sizeof path, "%s/lock", directory);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || flock(fd, LOCK_SH | LOCK_NB) == 0 ||
	    pread(fd, text, sizeof text - 1, STEP_LOCK_PROCESSES) < 0)
		return false;
	return sscanf(text, "%d %d", ret_monitor, ret_init) == 2;
}

/* One that somebody else has started on this host is joined like one of ours. */
static bool find_elsewhere(const char *directory, pid_t *ret_init)
{
	char path[PATH_MAX], text[24] = "";
	DAVIT_AUTO_CLOSE int fd = -1;

	snprintf(path, sizeof path, "%s/" STEP_PID_FILE, directory);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd >= 0 && read(fd, text, sizeof text - 1) > 0 && sscanf(text, "%d", ret_init) == 1;
}

static bool read_order(pid_t monitor, struct step *s)
{
	char path[64];
	DAVIT_AUTO_CLOSE int fd = -1;

	snprintf(path, sizeof path, "/proc/%d/fd/%d", monitor, STEP_FD_ORDER);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd >= 0 && step_order_read(fd, s);
}

static bool join_cgroups(const struct step *s)
{
	char path[PATH_MAX];

	for (size_t i = 0; i < s->n_cgroups; i++) {
		DAVIT_AUTO_CLOSE int fd = -1;

		snprintf(path, sizeof path, "%s/cgroup.procs", s->cgroups[i]);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, "0", 1) != 1)
			return false;
	}
	return true;
}

static bool join_namespaces(struct step *s, pid_t init)
{
	DAVIT_AUTO_CLOSE int fd = (int)syscall(SYS_pidfd_open, init, 0);
	int flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS;

	if (s->options.hermetic)
		flags |= CLONE_NEWNET;
	s->rootless = geteuid() != 0;
	return fd >= 0 && setns(fd, flags | (s->rootless ? CLONE_NEWUSER : 0)) == 0;
}

/* A group of its own in front of the terminal, where there is one. */
static void to_front(pid_t group)
{
	signal(SIGTTOU, SIG_IGN);
	tcsetpgrp(STDIN_FILENO, group);
}

static void become(struct step *s, int fd)
{
	const char *term = getenv("TERM");
	char *text;

	setpgid(0, 0);
	to_front(getpgrp());
	if (term && asprintf(&text, "TERM=%s", term) > 0)
		step_add_env(s, text);
	step_program(s, STDOUT_FILENO, STDERR_FILENO, fd);
}

static int wait_for(pid_t pid)
{
	int status = 0;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int run(struct step *s)
{
	bool terminal = isatty(STDIN_FILENO);
	pid_t own = terminal ? tcgetpgrp(STDIN_FILENO) : -1, pid;
	struct step_exec_failure f;
	int ends[2], status;
	ssize_t n;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return fail("cannot make a pipe");
	s->intercepts = true;
	pid = fork();
	if (pid < 0)
		return fail("cannot start a process in the step");
	if (!pid)
		become(s, ends[1]);
	close(ends[1]);
	n = DAVIT_EINTR(read(ends[0], &f, sizeof f));
	status = wait_for(pid);
	if (own > 0)
		to_front(own);
	if (n != (ssize_t)sizeof f)
		return status;
	errno = f.sys_errno;
	return fail(f.what);
}

/* Its engine does it. What begins with "+" is for the program over there. */
static int run_elsewhere(const struct step *s, char *const *command, int n)
{
	const char **argv = calloc((size_t)n + 6, sizeof *argv), **env = NULL;
	size_t known = 0, k = 0;
	char *text;

	while (environ[known])
		known++;
	env = calloc(known + s->n_env + 2, sizeof *env);
	if (!argv || !env)
		return fail("out of memory");
	memcpy(env, environ, known * sizeof *env);
	for (size_t i = 0; i < s->n_env; i++)
		if (asprintf(&text, "+%s", s->env[i]) > 0)
			env[known + k++] = text;
	env[known + k] = "+HOME=/tmp/home";
	argv[0] = "davit-step-driver";
	argv[1] = s->runtime;
	argv[2] = "intercept";
	argv[3] = strrchr(s->directory, '/') + 1;
	argv[4] = s->user ? s->user : "";
	memcpy(argv + 5, command, (size_t)n * sizeof *argv);
	execve(s->driver, (char *const *)argv, (char *const *)env);
	return fail(s->driver);
}

int step_intercept(int argc, char **argv)
{
	struct step s = {.status_fd = -1};
	pid_t monitor, init;

	if (argc < 2) {
		fputs("davit-step intercept is started by davit intercept\n", stderr);
		return 2;
	}
	if (!find(argv[0], &monitor, &init) || !read_order(monitor, &s)) {
		fputs("davit: the step does not run\n", stderr);
		return CANNOT;
	}
	if (s.driver && !find_elsewhere(argv[0], &init))
		return run_elsewhere(&s, argv + 1, argc - 1);
	if (s.options.plain) {
		fputs("davit: this step runs on the host as it is: there is nothing to enter\n", stderr);
		return CANNOT;
	}
	/* Whoever is in the namespaces is in the cgroups already. */
	if (!join_cgroups(&s))
		return fail("cannot enter the step's cgroup");
	if (!join_namespaces(&s, init))
		return fail("cannot enter the step's namespaces");
	s.path = argv[1];
	s.argv = (const char **)argv + 1;
	return run(&s);
}
