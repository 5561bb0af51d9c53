/* SPDX-License-Identifier: MIT
 *
 * Removal of trees that may be hostile: never through a link, and however deep.
 */
#include "image/image_impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/* Opens a directory of ours whose mode may forbid it. */
static int open_dir(int dirfd, const char *name)
{
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 && errno == EACCES && fchmodat(dirfd, name, 0700, 0) == 0)
		fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd;
}

static bool is_directory(int dirfd, const struct dirent *e)
{
	struct stat st;

	if (e->d_type != DT_UNKNOWN)
		return e->d_type == DT_DIR;
	return fstatat(dirfd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

/* Empties the directory fd, which it closes. Trees are at most IMAGE_DEPTH_MAX
 * deep: nothing else is ever made in a store. */
static int empty(int fd)
{
	struct stat st;
	struct dirent *e;
	DIR *d;
	int r = 0;

	if (fstat(fd, &st) == 0 && (st.st_mode & 0700) != 0700)
		(void)fchmod(fd, 0700);
	d = fdopendir(fd);
	if (!d) {
		int saved = errno;
		close(fd);
		errno = saved;
		return -1;
	}
	while (r == 0 && (errno = 0, e = readdir(d))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		r = is_directory(dirfd(d), e) ? image_tree_remove(dirfd(d), e->d_name)
					      : unlinkat(dirfd(d), e->d_name, 0);
		if (r < 0 && errno == ENOENT)
			r = 0;
	}
	if (r == 0 && errno)
		r = -1;
	int saved = errno;
	closedir(d);
	errno = saved;
	return r;
}

int image_tree_remove(int dirfd, const char *name)
{
	int fd;

	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -1;
	fd = open_dir(dirfd, name);
	if (fd < 0)
		return errno == ENOENT ? 0 : -1;
	if (empty(fd) < 0)
		return -1;
	return unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -1 : 0;
}
