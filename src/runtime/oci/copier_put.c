/* SPDX-License-Identifier: MIT
 *
 * Into a container. Every entry is resolved beneath the directory that was named, so that
 * neither the archive nor a link that the container has put there leads out of it.
 */
#include "runtime/oci/copier.h"

#include "base/util.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* A directory, whose mode and times are set when nothing more is made in it. */
struct directory {
	char *path;
	mode_t mode;
	struct timespec mtime;
};

struct put {
	int top;
	bool owners;
	bool whole; /* top is the root: absolute links begin there */
	struct archive *a;
	struct archive_entry *e;
	struct directory *directories;
	size_t n, cap;
	const char *where; /* the directory, for people */
	char path[4096];   /* of the present entry: neither absolute nor with ".." */
	struct davit_error *err;
};

static int refuse(struct put *p, int code, const char *why)
{
	return davit_error_set(p->err, code, "copy", "%s: %s", p->path, why);
}

static int cannot(struct put *p, const char *what)
{
	if (errno == EXDEV || errno == ELOOP)
		return davit_error_set(p->err, DAVIT_EPERM, "copy", "'%s' leads out of '%s'", p->path, p->where);
	return davit_error_errno(p->err, errno, "copy", "cannot %s %s", what, p->path);
}

/* --- names --- */

static int clean(const char *name, char ret[4096])
{
	size_t n = 0;

	while (name && *name) {
		size_t len = strcspn(name, "/");

		if (len == 2 && !strncmp(name, "..", 2))
			return -1;
		if (len && !(len == 1 && *name == '.')) {
			if (n + len + 2 > 4096)
				return -1;
			if (n)
				ret[n++] = '/';
			memcpy(ret + n, name, len);
			n += len;
		}
		name += len;
		name += strspn(name, "/");
	}
	ret[n] = '\0';
	return name ? 0 : -1;
}

static int open_beneath(const struct put *p, const char *path, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC),
		.resolve = (p->whole ? RESOLVE_IN_ROOT : RESOLVE_BENEATH) | RESOLVE_NO_MAGICLINKS,
	};

	return (int)syscall(SYS_openat2, p->top, *path ? path : ".", &how, sizeof how);
}

/* The directory that path is in, made where it is missing, and its name there. */
static int open_parent(const struct put *p, char *path, const char **ret_name)
{
	char *slash = strrchr(path, '/');
	int fd;

	*ret_name = slash ? slash + 1 : path;
	if (!slash)
		return open_beneath(p, "", O_PATH | O_DIRECTORY);
	*slash = '\0';
	fd = open_beneath(p, path, O_PATH | O_DIRECTORY);
	if (fd < 0 && errno == ENOENT) {
		const char *name;
		DAVIT_AUTO_CLOSE int above = open_parent(p, path, &name);

		if (above >= 0 && (mkdirat(above, name, 0755) == 0 || errno == EEXIST))
			fd = open_beneath(p, path, O_PATH | O_DIRECTORY);
	}
	*slash = '/';
	return fd;
}

/* --- attributes --- */

static struct timespec mtime_of(struct archive_entry *e)
{
	return (struct timespec){archive_entry_mtime(e), archive_entry_mtime_nsec(e)};
}

static int set_owner(struct put *p, int parent, const char *name)
{
	if (!p->owners || fchownat(parent, name, (uid_t)archive_entry_uid(p->e), (gid_t)archive_entry_gid(p->e),
				  AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	return cannot(p, "give an owner to");
}

static int set_times(struct put *p, int parent, const char *name)
{
	struct timespec t[2] = {mtime_of(p->e), mtime_of(p->e)};

	return utimensat(parent, name, t, AT_SYMLINK_NOFOLLOW) < 0 ? cannot(p, "set the time of") : 0;
}

static int remember(struct put *p)
{
	struct directory *v = p->directories;

	if (p->n == p->cap) {
		p->cap = p->cap ? p->cap * 2 : 64;
		v = reallocarray(v, p->cap, sizeof *v);
		if (!v)
			return refuse(p, DAVIT_ENOMEM, "out of memory");
		p->directories = v;
	}
	v[p->n] = (struct directory){strdup(p->path), archive_entry_perm(p->e), mtime_of(p->e)};
	return v[p->n++].path ? 0 : refuse(p, DAVIT_ENOMEM, "out of memory");
}

static void finish_directories(struct put *p)
{
	while (p->n) {
		struct directory *d = &p->directories[--p->n];
		struct timespec t[2] = {d->mtime, d->mtime};
		DAVIT_AUTO_CLOSE int fd = d->path ? open_beneath(p, d->path, O_RDONLY | O_DIRECTORY) : -1;

		/* It may have been replaced by now: then it needs nothing. */
		if (fd >= 0 && fchmod(fd, d->mode) == 0)
			(void)futimens(fd, t);
		free(d->path);
	}
	free(p->directories);
}

/* --- kinds --- */

static int write_content(struct put *p, int fd)
{
	la_int64_t at;
	const void *data;
	size_t n;
	int r;

	while ((r = archive_read_data_block(p->a, &data, &n, &at)) == ARCHIVE_OK)
		while (n) {
			ssize_t w = DAVIT_EINTR(pwrite(fd, data, n, at));

			if (w < 0)
				return cannot(p, "write");
			data = (const char *)data + w;
			n -= (size_t)w;
			at += w;
		}
	if (r != ARCHIVE_EOF)
		return refuse(p, DAVIT_EPROTO, archive_error_string(p->a));
	return ftruncate(fd, archive_entry_size(p->e)) < 0 ? cannot(p, "write") : 0; /* a hole at its end */
}

/* What is mounted there cannot be replaced, only written. */
static int open_mounted(int parent, const char *name)
{
	DAVIT_AUTO_CLOSE int fd = openat(parent, name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || ftruncate(fd, 0) < 0)
		return -1;
	return DAVIT_TAKE_FD(fd);
}

static int make_file(struct put *p, int parent, const char *name, bool mounted)
{
	DAVIT_AUTO_CLOSE int fd =
		mounted ? open_mounted(parent, name)
			: openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	struct timespec t[2] = {mtime_of(p->e), mtime_of(p->e)};
	int r = fd < 0 ? cannot(p, "make") : write_content(p, fd);

	if (r == 0 && p->owners &&
	    fchown(fd, (uid_t)archive_entry_uid(p->e), (gid_t)archive_entry_gid(p->e)) < 0)
		r = cannot(p, "give an owner to");
	if (r == 0 && (fchmod(fd, archive_entry_perm(p->e)) < 0 || futimens(fd, t) < 0))
		r = cannot(p, "set the attributes of");
	return r;
}

static int make_directory(struct put *p, int parent, const char *name)
{
	mode_t mode = archive_entry_perm(p->e);
	DAVIT_AUTO_CLOSE int fd = -1;
	int r;

	if (mkdirat(parent, name, 0700) < 0 && errno != EEXIST)
		return cannot(p, "make");
	fd = open_beneath(p, p->path, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return errno == ENOTDIR ? refuse(p, DAVIT_EEXIST, "something that is no directory is there")
					: cannot(p, "open");
	r = !p->owners || fchown(fd, (uid_t)archive_entry_uid(p->e), (gid_t)archive_entry_gid(p->e)) == 0
		    ? 0
		    : cannot(p, "give an owner to");
	if (r == 0 && fchmod(fd, mode | (p->owners ? 0 : 0700)) < 0)
		r = cannot(p, "set the mode of");
	return r < 0 ? r : remember(p);
}

static int make_hard_link(struct put *p, int parent, const char *name)
{
	DAVIT_AUTO_CLOSE int from = -1;
	const char *old;
	char target[4096];

	if (clean(archive_entry_hardlink(p->e), target) < 0 || !*target)
		return refuse(p, DAVIT_EPERM, "is a link that leads out");
	from = open_parent(p, target, &old);
	if (from < 0 || linkat(from, old, parent, name, 0) < 0)
		return cannot(p, "link");
	return 0;
}

static int make_special(struct put *p, int parent, const char *name)
{
	int r;

	if (S_ISLNK(archive_entry_mode(p->e)))
		r = symlinkat(archive_entry_symlink(p->e), parent, name);
	else if (S_ISFIFO(archive_entry_mode(p->e)))
		r = mkfifoat(parent, name, archive_entry_perm(p->e));
	else
		return refuse(p, DAVIT_ENOTSUP, "devices are not copied into containers");
	if (r < 0)
		return cannot(p, "make");
	r = set_owner(p, parent, name);
	return r < 0 ? r : set_times(p, parent, name);
}

/* --- all --- */

/* Makes room for what is no directory. */
static int clear(struct put *p, int parent, const char *name, bool *ret_mounted)
{
	struct stat st;

	*ret_mounted = false;
	if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : cannot(p, "look at");
	if (S_ISDIR(st.st_mode))
		return refuse(p, DAVIT_EEXIST, "a directory is there");
	if (unlinkat(parent, name, 0) == 0)
		return 0;
	*ret_mounted = errno == EBUSY;
	return *ret_mounted ? 0 : cannot(p, "replace");
}

static int put_one(struct put *p)
{
	const char *name, *full = archive_entry_pathname(p->e);
	DAVIT_AUTO_CLOSE int parent = -1;
	bool mounted;
	int r;

	if (clean(full, p->path) < 0)
		return davit_error_set(p->err, DAVIT_EPERM, "copy", "'%.200s' leads out of '%s'",
				       full ? full : "a name that cannot be read", p->where);
	if (!*p->path)
		return 0; /* the directory itself, which is there */
	parent = open_parent(p, p->path, &name);
	if (parent < 0)
		return cannot(p, "open the directory of");
	if (!archive_entry_hardlink(p->e) && S_ISDIR(archive_entry_mode(p->e)))
		return make_directory(p, parent, name);
	r = clear(p, parent, name, &mounted);
	if (r < 0)
		return r;
	if (archive_entry_hardlink(p->e))
		return make_hard_link(p, parent, name);
	return S_ISREG(archive_entry_mode(p->e)) ? make_file(p, parent, name, mounted)
						 : make_special(p, parent, name);
}

static int unpack(struct put *p, int in)
{
	int h, r = 0;

	archive_read_support_format_tar(p->a);
	archive_read_support_format_empty(p->a);
	h = archive_read_open_fd(p->a, in, 65536);
	while (r == 0 && h == ARCHIVE_OK && (h = archive_read_next_header(p->a, &p->e)) >= ARCHIVE_WARN &&
	       h != ARCHIVE_EOF) {
		h = ARCHIVE_OK;
		r = put_one(p);
	}
	if (r == 0 && h < ARCHIVE_WARN)
		r = davit_error_set(p->err, DAVIT_EPROTO, "copy", "no tar archive came: %s",
				    archive_error_string(p->a));
	return r;
}

int copier_put(int root, const char *path, int in, bool owners, struct davit_error *err)
{
	struct stat st, top;
	struct put p = {.where = path, .owners = owners, .err = err};
	int r;

	p.top = copier_open(root, path, O_RDONLY | O_DIRECTORY);
	if (p.top < 0)
		return errno == ENOENT || errno == ENOTDIR
			       ? davit_error_set(err, DAVIT_ENOENT, "copy", "%s: no such directory", path)
			       : davit_error_errno(err, errno, "copy", "cannot open %s", path);
	p.whole = fstat(root, &st) == 0 && fstat(p.top, &top) == 0 && st.st_dev == top.st_dev &&
		  st.st_ino == top.st_ino;
	p.a = archive_read_new();
	r = p.a ? unpack(&p, in) : davit_error_set(err, DAVIT_ENOMEM, "copy", "out of memory");
	finish_directories(&p);
	archive_read_free(p.a);
	close(p.top);
	return r;
}
