/* SPDX-License-Identifier: MIT
 *
 * Out of a container. What is in it may change at every moment, in the worst way: each step
 * goes from a directory that is held open to an entry of it that is no link.
 */
#include "runtime/oci/copier.h"

#include "base/buf.h"
#include "base/util.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define DEPTH_MAX 512

struct get {
	struct archive *a;
	struct archive_entry_linkresolver *links;
	bool owners;
	struct davit_buf name; /* of the present entry, in the archive */
	struct davit_error *err;
};

static int cannot(struct get *g, int sys, const char *what)
{
	return davit_error_errno(g->err, sys, "copy", "cannot %s %s", what, davit_buf_str(&g->name));
}

static int not_written(struct get *g)
{
	const char *why = archive_error_string(g->a);

	return davit_error_set(g->err, archive_errno(g->a) == EPIPE ? DAVIT_ECLOSED : DAVIT_EIO, "copy",
			       "cannot write the archive: %s", why ? why : "out of memory");
}

/* Content as long as the header says: what is missing, the archive fills with zeros. */
static int put_content(struct get *g, int fd, la_int64_t left)
{
	char block[65536];

	while (left > 0) {
		size_t want = left < (la_int64_t)sizeof block ? (size_t)left : sizeof block;
		ssize_t n = DAVIT_EINTR(read(fd, block, want));

		if (n < 0)
			return cannot(g, errno, "read");
		if (n == 0)
			return 0;
		if (archive_write_data(g->a, block, (size_t)n) < 0)
			return not_written(g);
		left -= n;
	}
	return 0;
}

static int put_entry(struct get *g, const struct stat *st, const char *link, int fd)
{
	struct archive_entry *e = archive_entry_new(), *spare = NULL;
	int r = 0;

	if (!e)
		return davit_error_set(g->err, DAVIT_ENOMEM, "copy", "out of memory");
	archive_entry_copy_stat(e, st);
	if (!g->owners) {
		archive_entry_set_uid(e, 0);
		archive_entry_set_gid(e, 0);
	}
	archive_entry_set_pathname(e, davit_buf_str(&g->name));
	if (link)
		archive_entry_set_symlink(e, link);
	archive_entry_linkify(g->links, &e, &spare);
	if (archive_write_header(g->a, e) < ARCHIVE_WARN)
		r = not_written(g);
	else if (fd >= 0 && archive_entry_size(e) > 0)
		r = put_content(g, fd, archive_entry_size(e));
	archive_entry_free(e);
	return r;
}

/* Of these file systems the kernel makes everything up as it is read. */
static bool is_made_up(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && (fs.f_type == PROC_SUPER_MAGIC || fs.f_type == SYSFS_MAGIC ||
					 fs.f_type == CGROUP_SUPER_MAGIC || fs.f_type == CGROUP2_SUPER_MAGIC);
}

static int pack(struct get *g, int parent, const char *name, int depth);

/* Takes fd over. */
static int pack_below(struct get *g, int fd, int depth)
{
	size_t len = g->name.len;
	struct dirent *e;
	int r = 0;
	DIR *d;

	if (is_made_up(fd)) {
		close(fd);
		return 0;
	}
	if (depth >= DEPTH_MAX || !(d = fdopendir(fd))) {
		close(fd);
		return davit_error_set(g->err, DAVIT_ENOTSUP, "copy", "%s is too deep", davit_buf_str(&g->name));
	}
	while (r == 0 && (errno = 0, e = readdir(d))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		davit_buf_addf(&g->name, "/%s", e->d_name);
		r = g->name.oom ? davit_error_set(g->err, DAVIT_ENOMEM, "copy", "out of memory")
				: pack(g, dirfd(d), e->d_name, depth + 1);
		g->name.data[g->name.len = len] = '\0';
	}
	if (r == 0 && errno)
		r = cannot(g, errno, "read");
	closedir(d);
	return r;
}

static int pack_link(struct get *g, int parent, const char *name, const struct stat *st)
{
	char target[4096];
	ssize_t n = readlinkat(parent, name, target, sizeof target - 1);

	if (n < 0)
		return cannot(g, errno, "read");
	target[n] = '\0';
	return put_entry(g, st, target, -1);
}

/* One that has gone between the listing and the look at it is none. */
static int pack(struct get *g, int parent, const char *name, int depth)
{
	DAVIT_AUTO_CLOSE int fd = -1;
	struct stat st;
	int r;

	if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return depth && errno == ENOENT ? 0 : cannot(g, errno, "look at");
	if (S_ISLNK(st.st_mode))
		return pack_link(g, parent, name, &st);
	if (S_ISSOCK(st.st_mode))
		return 0; /* tar knows none */
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return put_entry(g, &st, NULL, -1);
	/* Should it be a pipe by now, nobody waits for its writer. */
	fd = openat(parent, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return depth && errno == ENOENT ? 0 : cannot(g, errno, "open");
	if (fstat(fd, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)))
		return cannot(g, EAGAIN, "read");
	r = put_entry(g, &st, NULL, S_ISREG(st.st_mode) ? fd : -1);
	return r == 0 && S_ISDIR(st.st_mode) ? pack_below(g, DAVIT_TAKE_FD(fd), depth) : r;
}

/* Splits path: its directory, open, and the last component in *ret_name; "." where that is the
 * directory itself. A link is copied as one, unless a slash follows it. */
static int open_parent(int root, char *path, const char **ret_name)
{
	size_t n = strlen(path);
	char *slash;

	if (n && path[n - 1] == '/') {
		*ret_name = ".";
		return copier_open(root, path, O_PATH | O_DIRECTORY);
	}
	slash = strrchr(path, '/');
	*ret_name = slash + 1;
	if (!strcmp(slash + 1, ".") || !strcmp(slash + 1, "..")) {
		*ret_name = ".";
		return copier_open(root, path, O_PATH | O_DIRECTORY);
	}
	*slash = '\0';
	return copier_open(root, *path ? path : "/", O_PATH | O_DIRECTORY);
}

/* The last part of the path; "." for "/". */
static int first_name(struct davit_buf *b, const char *path)
{
	size_t n = strlen(path), begin;

	while (n && path[n - 1] == '/')
		n--;
	for (begin = n; begin && path[begin - 1] != '/';)
		begin--;
	davit_buf_add(b, n > begin ? path + begin : ".", n > begin ? n - begin : 1);
	return b->oom ? -1 : 0;
}

static int write_archive(struct get *g, int parent, const char *name, int out)
{
	int r;

	g->a = archive_write_new();
	g->links = archive_entry_linkresolver_new();
	if (!g->a || !g->links)
		return davit_error_set(g->err, DAVIT_ENOMEM, "copy", "out of memory");
	archive_write_set_format_pax_restricted(g->a);
	archive_entry_linkresolver_set_strategy(g->links, archive_format(g->a));
	if (archive_write_open_fd(g->a, out) != ARCHIVE_OK)
		return not_written(g);
	r = pack(g, parent, name, 0);
	return r == 0 && archive_write_close(g->a) != ARCHIVE_OK ? not_written(g) : r;
}

int copier_get(int root, const char *path, int out, bool owners, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *words = strdup(path);
	DAVIT_AUTO_CLOSE int parent = -1;
	struct get g = {.owners = owners, .name = DAVIT_BUF_INIT, .err = err};
	const char *name;
	struct stat st;
	int r;

	if (!words || first_name(&g.name, path) < 0) {
		davit_buf_fini(&g.name);
		return davit_error_set(err, DAVIT_ENOMEM, "copy", "out of memory");
	}
	parent = open_parent(root, words, &name);
	if (parent < 0 || fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		r = errno == ENOENT || errno == ENOTDIR
			    ? davit_error_set(err, DAVIT_ENOENT, "copy", "%s: no such file or directory", path)
			    : davit_error_errno(err, errno, "copy", "cannot open %s", path);
	else
		r = write_archive(&g, parent, name, out);
	if (g.a)
		archive_write_fail(g.a); /* otherwise the free would write an end */
	archive_write_free(g.a);
	archive_entry_linkresolver_free(g.links);
	davit_buf_fini(&g.name);
	return r;
}
