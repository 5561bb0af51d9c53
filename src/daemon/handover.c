/* SPDX-License-Identifier: MIT
 *
 * One daemon for each home, and its successor: the lock and the listening
 * socket live through the execution of another program, so that clients find
 * the socket open at every moment.
 */
#include "daemon/daemon.h"

#include "base/file.h"
#include "base/log.h"
#include "base/notify.h"
#include "base/util.h"
#include "net/unix.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

/* "LOCK:SOCKET", descriptors, in the environment of a successor. */
#define VARIABLE "DAVITD_HANDOVER"

/* A daemon that ends holds the lock for a moment longer than its socket. */
enum { PATIENCE_MS = 5000, STEP_MS = 20 };
/* One that was killed while it started a keeper leaves both to the child, until that
 * has executed its program. */
enum { LEFTOVER_MS = 3000 };

static int open_lock(struct davit_daemon *d, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *path = davit_path_join(d->paths.state, "davitd.lock");

	if (!path)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	d->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	return d->lock_fd < 0 ? davit_error_errno(err, errno, "lock", "cannot open %s", path) : 0;
}

static int refuse(struct davit_daemon *d, struct davit_error *err)
{
	char pid[16] = "";
	ssize_t n = pread(d->lock_fd, pid, sizeof pid - 1, 0);

	pid[n > 0 ? strcspn(pid, "\n") : 0] = '\0';
	if (!pid[0])
		return davit_error_set(err, DAVIT_EINUSE, "lock", "a daemon runs already for %s",
				       d->paths.state);
	/* It makes a socket that was removed anew (place.c), unless it hangs or may not. */
	return davit_error_set(err, DAVIT_EINUSE, "lock",
			       "a daemon runs already for %s (pid %s); should it not answer at its socket, "
			       "'kill %s' makes room for another, and workloads go on",
			       d->paths.state, pid, pid);
}

/* The daemon that wrote its pid into the lock is a process (not a dead one that
 * nobody has waited for). */
static bool holder_lives(const struct davit_daemon *d)
{
	char text[16] = "", path[32], target[8];
	int pid;

	if (pread(d->lock_fd, text, sizeof text - 1, 0) <= 0 || sscanf(text, "%d", &pid) != 1)
		return false;
	snprintf(path, sizeof path, "/proc/%d/exe", pid);
	return readlink(path, target, sizeof target) > 0;
}

static int take_lock(struct davit_daemon *d, struct davit_error *err)
{
	for (int waited = 0; flock(d->lock_fd, LOCK_EX | LOCK_NB) < 0; waited += STEP_MS) {
		DAVIT_AUTO_CLOSE int fd = -1;
		if (errno != EWOULDBLOCK)
			return davit_error_errno(err, errno, "lock", "cannot lock %s", d->paths.state);
		if (waited >= PATIENCE_MS || ((waited >= LEFTOVER_MS || holder_lives(d)) &&
					      davit_unix_connect(d->paths.socket, &fd, NULL) == 0))
			return refuse(d, err);
		nanosleep(&(struct timespec){.tv_nsec = STEP_MS * 1000000L}, NULL);
	}
	return 0;
}

static void write_pid(struct davit_daemon *d)
{
	char pid[16];
	int n = snprintf(pid, sizeof pid, "%d\n", (int)getpid());

	/* For people; the lock itself is what counts. */
	if (ftruncate(d->lock_fd, 0) < 0 || pwrite(d->lock_fd, pid, (size_t)n, 0) < 0)
		davit_log(DAVIT_LOG_WARNING, "cannot write the pid to the lock: %s", strerror(errno));
}

/* Are the descriptors that the environment names what they should be? */
static bool inherit(struct davit_daemon *d)
{
	const char *text = secure_getenv(VARIABLE);
	socklen_t n = sizeof(int);
	int lock, sock, listening = 0;
	struct stat ours, theirs;

	if (!text || sscanf(text, "%d:%d", &lock, &sock) != 2)
		return false;
	if (fstat(lock, &theirs) < 0 || fstat(d->lock_fd, &ours) < 0 || ours.st_dev != theirs.st_dev ||
	    ours.st_ino != theirs.st_ino || flock(lock, LOCK_EX | LOCK_NB) < 0)
		return false;
	close(d->lock_fd);
	d->lock_fd = lock;
	fcntl(lock, F_SETFD, FD_CLOEXEC);
	if (getsockopt(sock, SOL_SOCKET, SO_ACCEPTCONN, &listening, &n) == 0 && listening) {
		fcntl(sock, F_SETFD, FD_CLOEXEC);
		d->listen_fd = sock;
	}
	return true;
}

int daemon_acquire(struct davit_daemon *d, struct davit_error *err)
{
	int r;

	d->lock_fd = d->listen_fd = -1;
	r = open_lock(d, err);
	if (r == 0 && !inherit(d))
		r = take_lock(d, err);
	unsetenv(VARIABLE);
	if (r < 0)
		return r;
	write_pid(d);
	r = d->listen_fd >= 0 ? 0 : davit_unix_listen(d->paths.socket, &d->listen_fd, err);
	if (r == 0)
		daemon_place_learn(d);
	return r;
}

int daemon_execute(struct davit_daemon *d, struct davit_error *err)
{
	char text[32];

	snprintf(text, sizeof text, "%d:%d", d->lock_fd, d->listen_fd);
	if (setenv(VARIABLE, text, 1) < 0 || fcntl(d->lock_fd, F_SETFD, 0) < 0 ||
	    fcntl(d->listen_fd, F_SETFD, 0) < 0)
		return davit_error_errno(err, errno, NULL, "cannot prepare the upgrade");
	execv(d->program, d->argv);
	davit_log(DAVIT_LOG_ERROR, "cannot execute %s: %s; the old daemon goes on", d->program,
		  strerror(errno));
	fexecve(d->self_fd, d->argv, environ);
	return davit_error_errno(err, errno, NULL, "cannot execute the daemon again");
}

void daemon_notify(const char *state)
{
	struct davit_error err;

	if (davit_notify(state, &err) < 0)
		davit_log(DAVIT_LOG_WARNING, "%s", err.message);
}
