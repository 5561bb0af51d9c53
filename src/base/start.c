/* SPDX-License-Identifier: MIT */
#include "base/start.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>

extern char **environ;

static int set_up(posix_spawn_file_actions_t *files, posix_spawnattr_t *attr, const int fds[3], bool session)
{
	sigset_t none;
	int e = 0;

	for (int i = 0; i < 3 && !e; i++)
		e = fds[i] < 0 ? posix_spawn_file_actions_addopen(files, i, "/dev/null",
								  i ? O_WRONLY : O_RDONLY, 0)
			       : posix_spawn_file_actions_adddup2(files, fds[i], i);
	sigemptyset(&none);
	if (!e)
		e = posix_spawnattr_setsigmask(attr, &none);
	if (!e)
		e = posix_spawnattr_setflags(
			attr, (short)(POSIX_SPAWN_SETSIGMASK | (session ? POSIX_SPAWN_SETSID : 0)));
	return e;
}

int davit_start_program(const char *program, char *const argv[], const int fds[3], bool session, pid_t *ret)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	int e = posix_spawn_file_actions_init(&files);

	if (e)
		return e;
	e = posix_spawnattr_init(&attr);
	if (e) {
		posix_spawn_file_actions_destroy(&files);
		return e;
	}
	e = set_up(&files, &attr, fds, session);
	if (!e)
		e = posix_spawn(ret, program, &files, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	return e;
}
