/* SPDX-License-Identifier: MIT
 *
 * Running a program to its end, in a thread.
 */
#include "runtime/oci/impl.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

extern char **environ;

static int spawn(char *const argv[], int err_fd, pid_t *ret_pid)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none;
	int e;

	sigemptyset(&none);
	e = posix_spawn_file_actions_init(&files);
	if (e)
		return e;
	e = posix_spawnattr_init(&attr);
	if (e) {
		posix_spawn_file_actions_destroy(&files);
		return e;
	}
	e = posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDWR, 0);
	if (!e)
		e = posix_spawn_file_actions_adddup2(&files, 0, 1);
	if (!e)
		e = posix_spawn_file_actions_adddup2(&files, err_fd, 2);
	if (!e)
		e = posix_spawnattr_setsigmask(&attr, &none);
	if (!e)
		e = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	if (!e)
		e = posix_spawn(ret_pid, argv[0], &files, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	return e;
}

int oci_run(char *const argv[], struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int ours = -1;
	DAVIT_AUTO_BUF said = DAVIT_BUF_INIT;
	int p[2], e, status = 0;
	char chunk[1024];
	ssize_t n;
	pid_t pid;

	if (pipe2(p, O_CLOEXEC) < 0)
		return davit_error_errno(err, errno, NULL, "cannot make a pipe");
	ours = p[0];
	e = spawn(argv, p[1], &pid);
	close(p[1]);
	if (e)
		return davit_error_errno(err, e, NULL, "cannot execute %s", argv[0]);
	while ((n = DAVIT_EINTR(read(ours, chunk, sizeof chunk))) > 0)
		if (said.len < 4096)
			davit_buf_add(&said, chunk, (size_t)n);
	if (DAVIT_EINTR(waitpid(pid, &status, 0)) < 0)
		return davit_error_errno(err, errno, NULL, "cannot wait for %s", argv[0]);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	while (said.len && said.data[said.len - 1] == '\n')
		said.data[--said.len] = '\0';
	return davit_error_set(err, DAVIT_EIO, NULL, "%s failed: %s", argv[0],
			       said.len ? davit_buf_str(&said) : "it gave no reason");
}
