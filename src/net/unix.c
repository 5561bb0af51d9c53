/* SPDX-License-Identifier: MIT */
#include "net/unix.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

int davit_unix_peer(int fd, uid_t *ret_uid, struct davit_error *err)
{
	struct ucred cred;
	socklen_t n = sizeof cred;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0)
		return davit_error_errno(err, errno, NULL, "cannot read the peer's credentials");
	*ret_uid = cred.uid;
	return 0;
}

/* The magic link to an open path stands for the path itself, however long. */
static void address_of(int path_fd, struct sockaddr_un *sa)
{
	*sa = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(sa->sun_path, sizeof sa->sun_path, "/proc/self/fd/%d", path_fd);
}

static int connect_error(const char *path, int e, struct davit_error *err)
{
	if (e == ENOENT || e == ECONNREFUSED || e == ENOTDIR) {
		davit_error_set(err, DAVIT_EUNAVAIL, "socket", "no daemon listens at %s", path);
		if (err)
			err->sys_errno = e;
		return DAVIT_EUNAVAIL;
	}
	return davit_error_errno(err, e, "socket", "cannot connect to %s", path);
}

int davit_unix_connect(const char *path, int *ret_fd, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int at = -1;
	DAVIT_AUTO_CLOSE int fd = -1;
	struct sockaddr_un sa;
	uid_t peer;
	int r;

	at = open(path, O_PATH | O_CLOEXEC);
	if (at < 0)
		return connect_error(path, errno, err);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return davit_error_errno(err, errno, "socket", "cannot make a socket");
	address_of(at, &sa);
	if (DAVIT_EINTR(connect(fd, (struct sockaddr *)&sa, sizeof sa)) < 0)
		return connect_error(path, errno, err);
	r = davit_unix_peer(fd, &peer, err);
	if (r < 0)
		return r;
	if (peer != 0 && peer != geteuid() && geteuid() != 0)
		return davit_error_set(err, DAVIT_EPERM, "socket", "%s belongs to somebody else (uid %d)",
				       path, (int)peer);
	*ret_fd = DAVIT_TAKE_FD(fd);
	return 0;
}

/* Is the name free, or held by a socket that nobody listens on any more? */
static int check_place(int dir, const char *name, const char *path, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int at = openat(dir, name, O_PATH | O_CLOEXEC | O_NOFOLLOW);
	DAVIT_AUTO_CLOSE int fd = -1;
	struct sockaddr_un sa;
	struct stat st;

	if (at < 0)
		return errno == ENOENT ? 0
				       : davit_error_errno(err, errno, "socket", "cannot look at %s", path);
	if (fstat(at, &st) < 0)
		return davit_error_errno(err, errno, "socket", "cannot look at %s", path);
	if (!S_ISSOCK(st.st_mode))
		return davit_error_set(err, DAVIT_EEXIST, "socket", "%s is there and is no socket", path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return davit_error_errno(err, errno, "socket", "cannot make a socket");
	address_of(at, &sa);
	/* EAGAIN: its queue is full, so somebody holds it. */
	if (connect(fd, (struct sockaddr *)&sa, sizeof sa) == 0 || errno == EAGAIN)
		return davit_error_set(err, DAVIT_EINUSE, "socket", "a daemon listens at %s already", path);
	return errno == ECONNREFUSED ? 0
				     : davit_error_errno(err, errno, "socket", "cannot connect to %s", path);
}

static int bind_and_listen(int fd, int dir, const char *name, struct davit_error *err)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int n = snprintf(sa.sun_path, sizeof sa.sun_path, "/proc/self/fd/%d/%s", dir, name);
	int r;

	if (n < 0 || (size_t)n >= sizeof sa.sun_path)
		return davit_error_set(err, DAVIT_EINVAL, "socket", "the socket's name is too long: %s",
				       name);
	unlinkat(dir, name, 0);
	if (bind(fd, (struct sockaddr *)&sa, sizeof sa) < 0)
		return davit_error_errno(err, errno, "socket", "cannot bind a socket");
	/* Nobody can connect before it listens. */
	r = 0;
	if (fchmodat(dir, name, 0600, 0) < 0 || listen(fd, SOMAXCONN) < 0) {
		r = davit_error_errno(err, errno, "socket", "cannot listen");
		unlinkat(dir, name, 0);
	}
	return r;
}

int davit_unix_listen(const char *path, int *ret_fd, struct davit_error *err)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	DAVIT_AUTO_FREE char *parent = slash ? strndup(path, (size_t)(slash - path + 1)) : strdup(".");
	DAVIT_AUTO_CLOSE int dir = -1;
	DAVIT_AUTO_CLOSE int fd = -1;
	char temporary[64];
	int r;

	if (!parent)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (!name[0] || !strcmp(name, ".") || !strcmp(name, ".."))
		return davit_error_set(err, DAVIT_EINVAL, "socket", "'%s' is no name for a socket", path);
	dir = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return davit_error_errno(err, errno, "socket", "cannot open %s", parent);
	r = check_place(dir, name, path, err);
	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return davit_error_errno(err, errno, "socket", "cannot make a socket");
	snprintf(temporary, sizeof temporary, ".listen.%d", (int)getpid());
	r = bind_and_listen(fd, dir, temporary, err);
	if (r < 0)
		return r;
	if (renameat(dir, temporary, dir, name) < 0) {
		r = davit_error_errno(err, errno, "socket", "cannot name the socket %s", path);
		unlinkat(dir, temporary, 0);
		return r;
	}
	*ret_fd = DAVIT_TAKE_FD(fd);
	return 0;
}
