/* SPDX-License-Identifier: MIT */
#include "cli/source_watch.h"

#include "base/file.h"
#include "base/units.h"
#include "base/util.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#define EVENTS                                                                                               \
	(IN_CLOSE_WRITE | IN_MODIFY | IN_ATTRIB | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO |      \
	 IN_DELETE_SELF | IN_MOVE_SELF)
#define MAX_DEPTH 64

struct davit_source_watch {
	int fd;
	char *file;   /* only this name within the one directory matters; or NULL */
	char **paths; /* by watch descriptor, NULL where there is none */
	size_t n_paths;
};

static int remember(struct davit_source_watch *w, int wd, const char *path)
{
	size_t need = (size_t)wd + 1;
	char *copy = strdup(path);

	if (copy && need > w->n_paths) {
		char **more = reallocarray(w->paths, need * 2, sizeof *more);
		if (!more) {
			free(copy);
			return -1;
		}
		memset(more + w->n_paths, 0, (need * 2 - w->n_paths) * sizeof *more);
		w->paths = more;
		w->n_paths = need * 2;
	}
	if (!copy)
		return -1;
	free(w->paths[wd]);
	w->paths[wd] = copy;
	return 0;
}

static bool skipped(const char *name)
{
	return !strcmp(name, ".") || !strcmp(name, "..") || !strcmp(name, ".git") ||
	       !strcmp(name, "node_modules");
}

/* Adds a directory and those below it. One that vanishes meanwhile is no error. */
static int add(struct davit_source_watch *w, const char *path, unsigned depth, struct davit_error *err)
{
	int wd = inotify_add_watch(w->fd, path, EVENTS | IN_ONLYDIR | IN_DONT_FOLLOW | IN_EXCL_UNLINK), r = 0;
	struct dirent *e;
	DIR *dir;

	if (wd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return 0;
	if (wd < 0 && errno == ENOSPC)
		return davit_error_set(
			err, DAVIT_ENOSPC, NULL,
			"too many directories to watch below %s; raise fs.inotify.max_user_watches", path);
	if (wd < 0)
		return davit_error_errno(err, errno, NULL, "cannot watch %s", path);
	if (remember(w, wd, path) < 0)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	dir = w->file || depth >= MAX_DEPTH ? NULL : opendir(path);
	while (dir && r == 0 && (e = readdir(dir))) {
		DAVIT_AUTO_FREE char *below = NULL;
		if (skipped(e->d_name) || (e->d_type != DT_DIR && e->d_type != DT_UNKNOWN))
			continue;
		below = davit_path_join(path, e->d_name);
		r = below ? add(w, below, depth + 1, err)
			  : davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	if (dir)
		closedir(dir);
	return r;
}

int davit_source_watch_open(const char *path, struct davit_source_watch **ret, struct davit_error *err)
{
	struct davit_source_watch *w = calloc(1, sizeof *w);
	DAVIT_AUTO_FREE char *dir = strdup(path);
	struct stat st;
	int r = 0;

	if (!w || !dir) {
		free(w);
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	w->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (w->fd < 0 || stat(path, &st) < 0)
		r = davit_error_errno(err, errno, NULL, "cannot watch %s", path);
	if (r == 0 && !S_ISDIR(st.st_mode)) {
		char *slash = strrchr(dir, '/');
		w->file = slash ? strdup(slash + 1) : NULL;
		if (slash)
			slash[slash == dir] = '\0';
		if (!w->file)
			r = davit_error_set(err, DAVIT_EINVAL, NULL, "cannot watch %s", path);
	}
	if (r == 0)
		r = add(w, dir, 0, err);
	if (r < 0) {
		davit_source_watch_close(w);
		return r;
	}
	*ret = w;
	return 0;
}

void davit_source_watch_close(struct davit_source_watch *w)
{
	if (!w)
		return;
	if (w->fd >= 0)
		close(w->fd);
	for (size_t i = 0; i < w->n_paths; i++)
		free(w->paths[i]);
	free(w->paths);
	free(w->file);
	free(w);
}

/* One event: does it count? New directories are watched from now on. */
static int handle(struct davit_source_watch *w, const struct inotify_event *e, bool *changed,
		  struct davit_error *err)
{
	const char *name = e->len ? e->name : "";
	DAVIT_AUTO_FREE char *path = NULL;

	if (w->file)
		*changed |= !strcmp(name, w->file);
	else if (!skipped(name))
		*changed |= !(e->mask & IN_IGNORED);
	if (w->file || skipped(name) || !(e->mask & IN_ISDIR) || !(e->mask & (IN_CREATE | IN_MOVED_TO)) ||
	    (size_t)e->wd >= w->n_paths || !w->paths[e->wd])
		return 0;
	path = davit_path_join(w->paths[e->wd], name);
	return path ? add(w, path, 0, err) : davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

/* Reads what is there. */
static int drain(struct davit_source_watch *w, bool *changed, struct davit_error *err)
{
	char buf[16384] __attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t n;
	int r = 0;

	while (r == 0 && (n = read(w->fd, buf, sizeof buf)) > 0)
		for (char *p = buf; r == 0 && p < buf + n;) {
			const struct inotify_event *e = (const struct inotify_event *)(void *)p;
			r = handle(w, e, changed, err);
			p += sizeof *e + e->len;
		}
	if (r == 0 && n < 0 && errno != EAGAIN && errno != EINTR)
		r = davit_error_errno(err, errno, NULL, "cannot read what has changed");
	return r;
}

int davit_source_watch_wait(struct davit_source_watch *w, int64_t delay_ns, struct davit_error *err)
{
	bool changed = false, more;
	int r;

	for (;;) {
		struct pollfd p = {.fd = w->fd, .events = POLLIN};
		int n = poll(&p, 1, changed ? (int)(delay_ns / DAVIT_NSEC_PER_MSEC) : -1);
		if (n < 0 && errno != EINTR)
			return davit_error_errno(err, errno, NULL, "cannot wait for changes");
		if (n == 0)
			return 0;
		more = false;
		r = drain(w, &more, err);
		if (r < 0)
			return r;
		changed |= more;
	}
}
