/* SPDX-License-Identifier: MIT */
#include "base/start.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <unistd.h>

extern char **environ;

static int set_files(posix_spawn_file_actions_t *files, const struct davit_start *s)
{
	int e = 0;

	for (int i = 0; i < 3 && !e; i++)
		e = s->fds[i] < 0 ? posix_spawn_file_actions_addopen(files, i, "/dev/null",
								     i ? O_WRONLY : O_RDONLY, 0)
				  : posix_spawn_file_actions_adddup2(files, s->fds[i], i);
	if (!e && s->directory)
		e = posix_spawn_file_actions_addchdir_np(files, s->directory);
	if (!e && s->closed)
		e = posix_spawn_file_actions_addclosefrom_np(files, STDERR_FILENO + 1);
	return e;
}

static int set_attributes(posix_spawnattr_t *attr, const struct davit_start *s)
{
	static const short in[] = {
		[DAVIT_START_IN_OWN_GROUP] = POSIX_SPAWN_SETPGROUP,
		[DAVIT_START_IN_OWN_SESSION] = POSIX_SPAWN_SETSID,
	};
	sigset_t none, all;
	int e;

	sigemptyset(&none);
	sigfillset(&all);
	e = posix_spawnattr_setsigmask(attr, &none);
	if (!e)
		e = posix_spawnattr_setsigdefault(attr, &all);
	if (!e)
		e = posix_spawnattr_setpgroup(attr, 0);
	if (!e)
		e = posix_spawnattr_setflags(attr, (short)(POSIX_SPAWN_SETSIGMASK | in[s->in] |
							   (s->defaults ? POSIX_SPAWN_SETSIGDEF : 0)));
	return e;
}

int davit_start(const struct davit_start *s, pid_t *ret)
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
	e = set_files(&files, s);
	if (!e)
		e = set_attributes(&attr, s);
	if (!e)
		e = posix_spawn(ret, s->program, &files, &attr, s->argv, s->env ? s->env : environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	return e;
}

int davit_start_program(const char *program, char *const argv[], const int fds[3], bool session, pid_t *ret)
{
	const struct davit_start s = {
		.program = program,
		.argv = argv,
		.fds = {fds[0], fds[1], fds[2]},
		.in = session ? DAVIT_START_IN_OWN_SESSION : DAVIT_START_IN_GROUP,
	};

	return davit_start(&s, ret);
}
