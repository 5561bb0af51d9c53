/* SPDX-License-Identifier: MIT */
#include "base/notify.h"

#include "base/util.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

int davit_notify(const char *state, struct davit_error *err)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	DAVIT_AUTO_CLOSE int fd = -1;
	size_t n = path ? strlen(path) : 0;

	if (!n || n >= sizeof sa.sun_path || (path[0] != '/' && path[0] != '@'))
		return 0;
	memcpy(sa.sun_path, path, n);
	if (path[0] == '@')
		sa.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&sa,
			     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0)
		return davit_error_errno(err, errno, NULL, "cannot notify %s", path);
	return 0;
}
