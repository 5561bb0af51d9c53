/* SPDX-License-Identifier: MIT */
#include "local/keeper_client.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>

extern char **environ;

/* 0 or an errno. posix_spawn is vfork-like: its cost does not grow with the daemon. */
static int spawn(const char *program, char *const argv[], int err_fd, pid_t *ret_pid)
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
		e = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID);
	if (!e)
		e = posix_spawn(ret_pid, program, &files, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	return e;
}

int keeper_launch(const struct keeper_place *place, unsigned index, pid_t *ret_pid, int *ret_fd,
		  struct davit_error *err)
{
	DAVIT_AUTO_FREE char *dir = realpath(place->run_dir, NULL);
	DAVIT_AUTO_CLOSE int ours = -1;
	DAVIT_AUTO_CLOSE int theirs = -1;
	char number[16];
	char *argv[] = {"davit-keeper", dir, number, NULL};
	int p[2], e;

	if (!dir)
		return davit_error_errno(err, errno, "keeper", "cannot resolve %s", place->run_dir);
	if (pipe2(p, O_CLOEXEC) < 0)
		return davit_error_errno(err, errno, "keeper", "cannot make a pipe");
	ours = p[0];
	theirs = p[1];
	snprintf(number, sizeof number, "%u", index);
	e = spawn(place->program, argv, theirs, ret_pid);
	if (e)
		return davit_error_set(err, DAVIT_EUNAVAIL, "keeper", "cannot execute %s: %s", place->program,
				       strerrordesc_np(e));
	*ret_fd = DAVIT_TAKE_FD(ours);
	return 0;
}
