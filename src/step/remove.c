/* SPDX-License-Identifier: MIT
 *
 * A recursion with a descriptor for each level would end at the limit of descriptors, and paths end
 * at PATH_MAX. So from a certain depth on, a directory is moved up to the top, where it is one more
 * to be removed.
 */
#include "step/remove.h"

#include "base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define DEPTH_MAX 48

struct removal {
	int top;
	unsigned moved; /* how many directories have come up, for their names */
};

static int remove_content(struct removal *r, int fd, unsigned depth);

/* A directory without permissions (overlayfs makes such) is still ours. */
static int open_directory(int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 && errno == EACCES && fchmodat(at, name, 0700, 0) == 0)
		fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd;
}

static int remove_directory(struct removal *r, int at, const char *name, unsigned depth)
{
	char up[32];
	int fd, e = 0;

	if (unlinkat(at, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	if (depth >= DEPTH_MAX) {
		snprintf(up, sizeof up, ".davit-moved-%u", r->moved++);
		return renameat(at, name, r->top, up) < 0 ? errno : 0;
	}
	fd = open_directory(at, name);
	if (fd < 0)
		return errno == ENOENT ? 0 : errno;
	e = remove_content(r, fd, depth + 1);
	close(fd);
	if (e == 0 && unlinkat(at, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		e = errno;
	return e;
}

static int remove_entry(struct removal *r, int at, const struct dirent *d, unsigned depth)
{
	if (d->d_type != DT_DIR) {
		if (unlinkat(at, d->d_name, 0) == 0 || errno == ENOENT)
			return 0;
		if (errno != EISDIR && errno != EPERM && errno != EACCES)
			return errno;
		if (errno == EACCES) { /* the directory forbids it; it is ours */
			if (fchmod(at, 0700) < 0)
				return errno;
			return unlinkat(at, d->d_name, 0) < 0 && errno != ENOENT ? errno : 0;
		}
	}
	return remove_directory(r, at, d->d_name, depth);
}

static int remove_content(struct removal *r, int fd, unsigned depth)
{
	DIR *dir;
	struct dirent *d;
	struct stat st;
	int e = 0, copy;

	/* To unlink in it, it must be writable. */
	if (fstat(fd, &st) == 0 && (st.st_mode & 0300) != 0300)
		fchmod(fd, 0700);
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	dir = copy >= 0 ? fdopendir(copy) : NULL;
	if (!dir) {
		e = errno;
		if (copy >= 0)
			close(copy);
		return e;
	}
	rewinddir(dir); /* its position is that of fd, which may have been read before */
	while (e == 0 && (d = readdir(dir)))
		if (strcmp(d->d_name, ".") && strcmp(d->d_name, ".."))
			e = remove_entry(r, fd, d, depth);
	closedir(dir);
	return e;
}

int step_remove_at(int at, const char *name)
{
	struct removal r = {.top = -1};
	unsigned before;
	struct stat st;
	int e;

	if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : errno;
	if (!S_ISDIR(st.st_mode))
		return unlinkat(at, name, 0) < 0 && errno != ENOENT ? errno : 0;
	r.top = open_directory(at, name);
	if (r.top < 0)
		return errno;
	do { /* again for those that came up while it was being read */
		before = r.moved;
		e = remove_content(&r, r.top, 0);
	} while (e == 0 && r.moved != before);
	close(r.top);
	if (e == 0 && unlinkat(at, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		e = errno;
	return e;
}

int step_remove(const char *path)
{
	return step_remove_at(AT_FDCWD, path);
}
