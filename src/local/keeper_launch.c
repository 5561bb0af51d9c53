/* SPDX-License-Identifier: MIT */
#include "local/keeper_client.h"

#include "base/start.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

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
	e = davit_start_program(place->program, argv, (const int[]){-1, -1, theirs}, true, ret_pid);
	if (e)
		return davit_error_set(err, DAVIT_EUNAVAIL, "keeper", "cannot execute %s: %s", place->program,
				       strerrordesc_np(e));
	*ret_fd = DAVIT_TAKE_FD(ours);
	return 0;
}
