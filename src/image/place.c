/* SPDX-License-Identifier: MIT
 *
 * Where in a tree an entry goes. The kernel resolves every parent beneath the
 * root (openat2), and what is made is made by its last name in a directory that
 * is open; so nothing outside can be reached, whatever the entries say and
 * whatever happens meanwhile. Links in a parent are followed as in a chroot, as
 * other engines do: "lib/x" where lib -> usr/lib is in usr/lib.
 */
#include "image/image_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

static int open_beneath(int root, const char *path, uint64_t resolve)
{
	struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
		.resolve = resolve | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
	};

	return (int)syscall(SYS_openat2, root, *path ? path : ".", &how, sizeof how);
}

/* How deep a directory really is, which links hide; -1 when it is not beneath. */
static int real_depth(int root, int fd)
{
	char link[40], a[PATH_MAX], b[PATH_MAX];
	ssize_t n, m;
	int depth = 0;

	snprintf(link, sizeof link, "/proc/self/fd/%d", root);
	n = readlink(link, a, sizeof a - 1);
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	m = readlink(link, b, sizeof b - 1);
	if (n < 0 || m < n || m >= (ssize_t)sizeof b - 1 || memcmp(a, b, (size_t)n))
		return -1;
	for (ssize_t i = n; i < m; i++)
		depth += b[i] == '/';
	return depth;
}

/* An existing directory. -1 with errno. *linked is set where a link was followed. */
static int open_existing(int root, const char *path, bool *linked)
{
	int fd = open_beneath(root, path, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);

	if (fd >= 0 || errno != ELOOP)
		return fd;
	*linked = true;
	return open_beneath(root, path, RESOLVE_IN_ROOT);
}

static int open_or_make(int root, char *path, bool make, bool *linked)
{
	int fd = open_existing(root, path, linked), parent;
	char *slash;

	if (fd >= 0 || errno != ENOENT || !make || !*path)
		return fd;
	slash = strrchr(path, '/');
	if (slash) {
		*slash = '\0';
		parent = open_or_make(root, path, true, linked);
		*slash = '/';
	} else {
		parent = fcntl(root, F_DUPFD_CLOEXEC, 0);
	}
	if (parent < 0)
		return -1;
	if (mkdirat(parent, slash ? slash + 1 : path, 0755) == 0)
		fd = openat(parent, slash ? slash + 1 : path,
			    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	else if (errno == EEXIST)
		errno = ENOENT; /* a link that leads to nothing */
	close(parent);
	return fd;
}

static const char *reason(int error)
{
	switch (error) {
	case ENOENT:
		return "lies behind a link that leads to nothing in the layer, or in no directory";
	case ENOTDIR:
	case ELOOP:
		return "lies behind what is no directory in the layer";
	case EXDEV:
		return "lies behind a link that leads out";
	case ENAMETOOLONG:
		return "lies too deep";
	case ENOSYS:
		return "cannot be placed safely: this kernel has no openat2 (Linux 5.6)";
	default:
		return strerror(error);
	}
}

void image_place_fini(struct image_place *p)
{
	davit_closep(&p->parent);
	p->parent = -1;
}

int image_place_parent(struct image_place *p, const char *path, bool make, const char **ret_name,
		       const char **ret_why)
{
	const char *slash = strrchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) : 0;
	bool linked = false;

	*ret_name = slash ? slash + 1 : path;
	if (p->parent >= 0 && strlen(p->parent_path) == n && !memcmp(p->parent_path, path, n))
		return p->parent;
	image_place_fini(p);
	memcpy(p->parent_path, path, n); /* the caller has checked the length */
	p->parent_path[n] = '\0';
	p->parent = open_or_make(p->root, p->parent_path, make, &linked);
	/* Names alone say how deep it is, unless there are links. */
	if (p->parent >= 0 && linked && (unsigned)real_depth(p->root, p->parent) >= IMAGE_DEPTH_MAX) {
		image_place_fini(p);
		errno = ENAMETOOLONG;
	}
	if (p->parent < 0)
		*ret_why = reason(errno);
	return p->parent;
}

/* --- what overlayfs has for whiteouts --- */

/* The kernel lets anybody make this one device since 5.8. */
int image_whiteout_make(int dirfd, const char *name)
{
	return mknodat(dirfd, name, S_IFCHR, makedev(0, 0));
}

bool image_whiteout_is(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

/* Root of a user namespace may not set trusted.*, and mounts with userxattr. */
int image_opaque_set(int fd, bool root)
{
	if (root && fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0) == 0)
		return 0;
	return fsetxattr(fd, "user.overlay.opaque", "y", 1, 0);
}

bool image_opaque_is(int fd)
{
	char v = 0;

	return (fgetxattr(fd, "trusted.overlay.opaque", &v, 1) == 1 && v == 'y') ||
	       (fgetxattr(fd, "user.overlay.opaque", &v, 1) == 1 && v == 'y');
}
