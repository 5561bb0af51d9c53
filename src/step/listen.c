/* SPDX-License-Identifier: MIT
 *
 * Durable steps, as their monitor keeps them: the socket by which somebody else can take one over, and the
 * last report in the file of its lock.
 */
#include "step/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

int step_listen(const char *directory)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int dir = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd = dir < 0 ? -1 : socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	/* A socket's path is short; by way of the descriptor any directory's is. */
	snprintf(at.sun_path, sizeof at.sun_path, "/proc/self/fd/%d/control", dir);
	if (fd >= 0 && (bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || listen(fd, 4) < 0)) {
		int e = errno;
		close(fd);
		errno = e;
		fd = -1;
	}
	if (dir >= 0)
		close(dir);
	return fd;
}

bool step_accept(int listener)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct step_order o;
	struct iovec v = {&o, sizeof o};
	struct msghdr m = {
		.msg_iov = &v, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	const struct timeval patience = {.tv_sec = 1};
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC), wake = -1;
	bool ok;

	if (fd < 0)
		return false;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	ok = DAVIT_EINTR(recvmsg(fd, &m, MSG_CMSG_CLOEXEC)) == (ssize_t)sizeof o &&
	     o.verb == STEP_ORDER_ATTACH && m.msg_controllen >= sizeof control.header &&
	     control.header.cmsg_type == SCM_RIGHTS;
	if (ok)
		memcpy(&wake, CMSG_DATA(&control.header), sizeof wake);
	ok = ok && dup3(wake, STEP_FD_WAKE, O_CLOEXEC) >= 0 && dup3(fd, STEP_FD_CONTROL, O_CLOEXEC) >= 0;
	if (wake >= 0)
		close(wake);
	close(fd);
	return ok;
}

void step_keep_result(const struct step_report *r)
{
	/* Where the disk is full, its keeper says it as long as it lives. */
	if (pwrite(STEP_FD_LOCK, r, sizeof *r, 0) != (ssize_t)sizeof *r)
		errno = 0;
}
