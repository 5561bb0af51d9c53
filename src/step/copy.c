/* SPDX-License-Identifier: MIT */
#include "step/copy.h"

#include "base/file.h"
#include "base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define BLOCK (256 * 1024)
#define WITHIN_MIN (64 * 1024) /* below that, to read and write costs less */
#define HOLE (16 * 1024)       /* fewer zeros are written */

struct copying {
	char path[PATH_MAX]; /* of what is being copied, for messages */
	size_t len;
};

int step_open_anyway(int at, const char *name, int flags, mode_t mode)
{
	int fd = openat(at, name, flags | O_CLOEXEC | O_NOFOLLOW);

	if (fd >= 0 || errno != EACCES)
		return fd;
	/* Root needs none of this; another owner can give himself the right for a moment. */
	if (fchmodat(at, name, mode | 0700, 0) < 0) {
		errno = EACCES;
		return -1;
	}
	fd = openat(at, name, flags | O_CLOEXEC | O_NOFOLLOW);
	fchmodat(at, name, mode & 07777, 0);
	return fd;
}

bool step_has_holes(const struct stat *st)
{
	return st->st_blocks * 512 < st->st_size;
}

int step_write_sparse(int fd, const char *buf, size_t n)
{
	static const char zeros[HOLE];

	while (n) {
		size_t part = n < HOLE ? n : HOLE;

		if (memcmp(buf, zeros, part) ? davit_write_full(fd, buf, part) < 0
					     : lseek(fd, (off_t)part, SEEK_CUR) < 0)
			return -1;
		buf += part;
		n -= part;
	}
	return 0;
}

/* Without the data passing by here, between file systems that know each other. 0, an errno, or -1: it has to.
 */
static int copy_within(int from, int to)
{
	ssize_t n;

	while ((n = copy_file_range(from, NULL, to, NULL, SSIZE_MAX & ~4095, 0)) > 0)
		;
	if (n == 0)
		return 0;
	return errno == EXDEV || errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP || errno == EBADF
		       ? -1
		       : errno;
}

int step_copy_bytes(int from, int to, const struct stat *st)
{
	bool holes = step_has_holes(st);
	char buf[BLOCK];
	ssize_t n;
	int e;

	if (st->st_size >= WITHIN_MIN && ioctl(to, FICLONE, from) == 0)
		return 0;
	e = !holes && st->st_size >= WITHIN_MIN ? copy_within(from, to) : -1;
	if (e >= 0)
		return e;
	while ((n = DAVIT_EINTR(read(from, buf, sizeof buf))) > 0)
		if ((holes ? step_write_sparse(to, buf, (size_t)n) : davit_write_full(to, buf, (size_t)n)) <
		    0)
			return errno;
	return n < 0 || (holes && ftruncate(to, lseek(to, 0, SEEK_CUR)) < 0) ? errno : 0;
}

static int copy_file(int from, int to, const char *name, const struct stat *st)
{
	const struct timespec times[] = {st->st_atim, st->st_mtim};
	DAVIT_AUTO_CLOSE int in = step_open_anyway(from, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, st->st_mode);
	DAVIT_AUTO_CLOSE int out = -1;
	int e;

	if (in < 0)
		return errno;
	out = openat(to, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (out < 0 && errno == EEXIST) {
		e = davit_remove_at(to, name);
		if (e)
			return e;
		out = openat(to, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	}
	if (out < 0)
		return errno;
	e = st->st_size ? step_copy_bytes(in, out, st) : 0;
	if (e == 0 && (fchmod(out, st->st_mode & 07777) < 0 || futimens(out, times) < 0))
		e = errno;
	return e;
}

static int copy_link(int from, int to, const char *name, const struct stat *st)
{
	const struct timespec times[] = {st->st_atim, st->st_mtim};
	char target[PATH_MAX];
	ssize_t n = readlinkat(from, name, target, sizeof target - 1);
	int e;

	if (n < 0)
		return errno;
	target[n] = '\0';
	if (symlinkat(target, to, name) < 0) {
		if (errno != EEXIST)
			return errno;
		e = davit_remove_at(to, name);
		if (e)
			return e;
		if (symlinkat(target, to, name) < 0)
			return errno;
	}
	return utimensat(to, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? errno : 0;
}

static int copy_content(struct copying *c, int from, int to, unsigned depth);

static int copy_directory(struct copying *c, int from, int to, const char *name, const struct stat *st,
			  unsigned depth)
{
	const struct timespec times[] = {st->st_atim, st->st_mtim};
	DAVIT_AUTO_CLOSE int in = -1;
	DAVIT_AUTO_CLOSE int out = -1;
	int e;

	if (depth >= STEP_DEPTH_MAX)
		return ELOOP;
	in = step_open_anyway(from, name, O_RDONLY | O_DIRECTORY, st->st_mode);
	if (in < 0)
		return errno;
	if (mkdirat(to, name, 0700) < 0 && errno != EEXIST)
		return errno;
	out = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (out < 0 && (errno == ENOTDIR || errno == ELOOP)) {
		e = davit_remove_at(to, name);
		if (e)
			return e;
		if (mkdirat(to, name, 0700) < 0)
			return errno;
		out = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	}
	if (out < 0)
		return errno;
	e = copy_content(c, in, out, depth + 1);
	if (e == 0 && (fchmod(out, st->st_mode & 07777) < 0 || futimens(out, times) < 0))
		e = errno;
	return e;
}

static int copy_entry(struct copying *c, int from, int to, const char *name, unsigned depth)
{
	size_t before = c->len;
	struct stat st;
	int e = 0;

	if (c->len + strlen(name) + 2 > sizeof c->path)
		return ENAMETOOLONG;
	c->len += (size_t)sprintf(c->path + c->len, "%s%s", c->len ? "/" : "", name);
	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		e = errno;
	else if (S_ISREG(st.st_mode))
		e = copy_file(from, to, name, &st);
	else if (S_ISDIR(st.st_mode))
		e = copy_directory(c, from, to, name, &st, depth);
	else if (S_ISLNK(st.st_mode))
		e = copy_link(from, to, name, &st);
	if (e == 0) {
		c->len = before;
		c->path[before] = '\0';
	}
	return e;
}

static int copy_content(struct copying *c, int from, int to, unsigned depth)
{
	int copy = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), e = 0;
	DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
	struct dirent *d;

	if (!dir) {
		e = errno;
		if (copy >= 0)
			close(copy);
		return e;
	}
	while (e == 0 && (errno = 0, d = readdir(dir)))
		if (strcmp(d->d_name, ".") && strcmp(d->d_name, ".."))
			e = copy_entry(c, from, to, d->d_name, depth);
	if (e == 0 && errno)
		e = errno;
	closedir(dir);
	return e;
}

int step_copy_tree(int from, int to, char *why, size_t size)
{
	struct copying c = {.len = 0};
	struct stat st;
	int e = copy_content(&c, from, to, 0);

	if (e == 0 && (fstat(from, &st) < 0 || fchmod(to, st.st_mode & 07777) < 0))
		e = errno;
	snprintf(why, size, "%s", c.path);
	return e;
}
