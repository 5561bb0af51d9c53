/* SPDX-License-Identifier: MIT
 *
 * Programs that do a part of a job: skopeo and buildah.
 */
#include "image/image_impl.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* Ours ends with us: one that nobody waits for would fill the job's directory,
 * which it keeps locked by the descriptor that it inherits. */
static _Noreturn void become(struct image_job *j, int out, char *const *argv)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fcntl(j->fd, F_SETFD, 0);
	dup2(out, STDOUT_FILENO);
	dup2(out, STDERR_FILENO);
	execvp(argv[0], argv);
	_exit(errno == ENOENT ? 127 : 126);
}

/* Its lines, whole ones as they come, and the last of them for a message. */
static void listen_to(int fd, struct image_child *c)
{
	DAVIT_AUTO_BUF line = DAVIT_BUF_INIT;
	char chunk[4096];
	ssize_t got;

	while ((got = DAVIT_EINTR(read(fd, chunk, sizeof chunk))) >= 0) {
		for (ssize_t k = 0; k < got; k++) {
			if (chunk[k] != '\n' && line.len < IMAGE_LINE_MAX)
				davit_buf_addc(&line, chunk[k]);
			if (chunk[k] != '\n' || !line.len || line.oom)
				continue;
			snprintf(c->last, sizeof c->last, "%s", davit_buf_str(&line));
			if (c->said)
				c->said(c->user, c->last);
			davit_buf_reset(&line);
		}
		if (got == 0)
			break;
	}
	if (line.len && !line.oom)
		snprintf(c->last, sizeof c->last, "%s", davit_buf_str(&line));
}

int image_child_run(struct image_job *j, struct image_child *c, char *const *argv, struct davit_error *err)
{
	int p[2], status = 0;
	pid_t pid;

	*c->last = '\0';
	if (pipe2(p, O_CLOEXEC) < 0)
		return davit_error_errno(err, errno, NULL, "cannot make a pipe");
	pid = fork();
	if (pid == 0)
		become(j, p[1], argv);
	close(p[1]);
	if (pid < 0) {
		close(p[0]);
		return davit_error_errno(err, errno, NULL, "cannot start %s", argv[0]);
	}
	listen_to(p[0], c);
	close(p[0]);
	if (DAVIT_EINTR(waitpid(pid, &status, 0)) < 0)
		return davit_error_errno(err, errno, NULL, "cannot wait for %s", argv[0]);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127 && !*c->last)
		return davit_error_set(err, DAVIT_ENOTSUP, NULL, "this needs %s: not installed", argv[0]);
	if (!status)
		return 0;
	if (!*c->last)
		snprintf(c->last, sizeof c->last, "%s was killed", argv[0]);
	return davit_error_set(err, DAVIT_EUNAVAIL, NULL, "%.400s", c->last);
}
