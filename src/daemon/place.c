/* SPDX-License-Identifier: MIT
 *
 * The socket's place: its name in the file system, which can be taken from a daemon that
 * runs - by a cleaner of old files, by a hand. Who finds no socket would start another daemon,
 * which the lock refuses. So the directory is watched, and the socket is made anew: the
 * home is this daemon's as long as it has the lock, and what is not its own there is left alone
 * when it answers. A daemon whose lock was removed has no home any more, and ends, as another
 * may begin in its place; workloads go on.
 */
#include "daemon/daemon.h"

#include "base/file.h"
#include "base/log.h"
#include "base/units.h"
#include "base/util.h"
#include "net/unix.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

/* Whoever removes the socket may be about to remove the home: that comes first. */
#define PAUSE (100 * DAVIT_NSEC_PER_MSEC)

struct place {
	struct davit_daemon *daemon;
	uv_fs_event_t watch;
	struct davit_timer soon; /* something happened */
	bool waits;		 /* somebody else's is there, and we have said so */
};

bool daemon_place_is_ours(const struct davit_daemon *d)
{
	struct stat st;

	return lstat(d->paths.socket, &st) == 0 && S_ISSOCK(st.st_mode) && st.st_dev == d->socket_dev &&
	       st.st_ino == d->socket_ino;
}

void daemon_place_learn(struct davit_daemon *d)
{
	struct stat st = {0};

	if (lstat(d->paths.socket, &st) < 0)
		st = (struct stat){0};
	d->socket_dev = st.st_dev;
	d->socket_ino = st.st_ino;
}

/* The lock that we hold is the one that others would take. */
static bool has_home(const struct davit_daemon *d)
{
	DAVIT_AUTO_FREE char *path = davit_path_join(d->paths.state, "davitd.lock");
	struct stat ours, there;

	return path && fstat(d->lock_fd, &ours) == 0 &&
	       (stat(path, &there) < 0 ? errno != ENOENT && errno != ENOTDIR
				       : ours.st_dev == there.st_dev && ours.st_ino == there.st_ino);
}

static int make_anew(struct davit_daemon *d, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd = -1;
	int r, copy;

	r = davit_paths_make(&d->paths, err);
	if (r == 0)
		r = davit_unix_listen(d->paths.socket, &fd, err);
	if (r < 0)
		return r;
	daemon_place_learn(d);
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (copy < 0)
		return davit_error_errno(err, errno, "socket", "cannot duplicate the socket");
	r = davit_http_server_move(d->server, copy, err);
	if (r < 0)
		return r;
	close(d->listen_fd);
	d->listen_fd = DAVIT_TAKE_FD(fd);
	return 0;
}

static void on_change(uv_fs_event_t *w, const char *name, int events, int status)
{
	struct place *p = w->data;
	const char *socket = strrchr(p->daemon->paths.socket, '/') + 1;

	(void)events;
	/* What is said of the directory has its own name, or none. */
	if (status < 0 || !name || !strcmp(name, socket) || access(p->daemon->paths.run, F_OK) < 0)
		davit_timer_start(&p->soon, PAUSE);
}

/* Also after the directory itself was made anew. */
static void begin_watch(struct place *p)
{
	int r;

	uv_fs_event_stop(&p->watch);
	r = uv_fs_event_start(&p->watch, on_change, p->daemon->paths.run, 0);
	if (r < 0)
		davit_log(DAVIT_LOG_WARNING, "cannot watch %s: %s; a socket that is removed there stays so",
			  p->daemon->paths.run, uv_strerror(r));
}

static void look(struct davit_timer *t)
{
	struct place *p = DAVIT_CONTAINER_OF(t, struct place, soon);
	struct davit_daemon *d = p->daemon;
	struct davit_error err;
	int r;

	if (!has_home(d)) {
		davit_log(DAVIT_LOG_ERROR,
			  "ending: the lock in %s was removed, so another daemon may begin here",
			  d->paths.state);
		daemon_end(d, DAEMON_QUITS);
		return;
	}
	if (daemon_place_is_ours(d))
		return;
	r = make_anew(d, &err);
	begin_watch(p);
	if (r == 0)
		davit_log(DAVIT_LOG_WARNING, "the socket %s was gone, and is there again", d->paths.socket);
	else if (r != DAVIT_EINUSE || !p->waits)
		davit_log(DAVIT_LOG_ERROR, "the socket %s is gone: %s", d->paths.socket, err.message);
	p->waits = r == DAVIT_EINUSE;
}

int daemon_place_keep(struct davit_daemon *d, struct davit_error *err)
{
	struct place *p = calloc(1, sizeof *p);

	if (!p)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	p->daemon = d;
	p->watch.data = p;
	davit_timer_init(&p->soon, d->loop, look);
	uv_fs_event_init(davit_loop_uv(d->loop), &p->watch);
	d->place = p;
	begin_watch(p);
	if (!daemon_place_is_ours(d)) /* while it was starting */
		davit_timer_start(&p->soon, PAUSE);
	return 0;
}

static void on_closed(uv_handle_t *h)
{
	free(h->data);
}

void daemon_place_leave(struct davit_daemon *d)
{
	struct place *p = DAVIT_TAKE(d->place);

	if (!p)
		return;
	davit_timer_stop(&p->soon);
	uv_close((uv_handle_t *)&p->watch, on_closed);
}
