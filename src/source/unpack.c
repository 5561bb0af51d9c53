/* SPDX-License-Identifier: MIT
 *
 * libarchive reads; every file is created by us, one directory at a time from
 * the descriptor of the destination and never through a link.
 */
#include "source/unpack.h"

#include "base/file.h"
#include "base/util.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

struct unpack {
	const char *path;
	const struct davit_archive_limits *limits;
	struct davit_error *err;
	struct archive *a;
	int root; /* -1 while only looking */
	uint64_t bytes;
	uint32_t entries;
};

bool davit_archive_is(const char *path)
{
	static const char *const suffixes[] = {".tar",	   ".tar.gz",  ".tgz", ".tar.xz",
					       ".tar.bz2", ".tar.zst", ".zip"};
	size_t n = strlen(path);

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(suffixes); i++) {
		size_t k = strlen(suffixes[i]);
		if (n > k && !strcasecmp(path + n - k, suffixes[i]))
			return true;
	}
	return false;
}

static int refuse(struct unpack *u, const char *entry, const char *why)
{
	return davit_error_set(u->err, DAVIT_ESOURCE, "source",
			       "the archive '%.128s' is refused: '%.128s' %s", u->path, entry, why);
}

static int unreadable(struct unpack *u)
{
	const char *why = archive_error_string(u->a);

	return davit_error_set(u->err, DAVIT_ESOURCE, "source", "cannot read the archive '%.128s': %.160s",
			       u->path, why ? why : "unknown reason");
}

/* --- what is allowed --- */

/* Neither absolute nor with a "..". */
static bool is_inside(const char *path)
{
	if (*path == '/' || !*path)
		return false;
	for (const char *p = path; *p; p += strspn(p, "/")) {
		size_t n = strcspn(p, "/");
		if (n == 2 && !memcmp(p, "..", 2))
			return false;
		p += n;
	}
	return true;
}

static size_t depth(const char *path)
{
	size_t n = 0;

	for (const char *p = path; *p; p += strspn(p, "/")) {
		size_t k = strcspn(p, "/");
		n += !(k == 1 && *p == '.');
		p += k;
	}
	return n;
}

/* A target that cannot lead out: relative, "..", if at all, in front, and fewer
 * of them than the link is deep. Then counting is exact: the link's directory is
 * a real one, and a ".." behind a name could start from wherever that name leads. */
static bool target_is_inside(const char *link, const char *target)
{
	size_t up = 0, names = 0;

	if (*target == '/' || !*target)
		return false;
	for (const char *p = target; *p; p += strspn(p, "/")) {
		size_t n = strcspn(p, "/");
		bool parent = n == 2 && !memcmp(p, "..", 2);
		if (parent && names)
			return false;
		up += parent;
		names += !parent && !(n == 1 && *p == '.');
		p += n;
	}
	return up < depth(link);
}

static int check(struct unpack *u, struct archive_entry *e)
{
	const char *path = archive_entry_pathname(e), *hard = archive_entry_hardlink(e);
	const char *target = archive_entry_symlink(e);
	mode_t type = archive_entry_filetype(e);

	if (!path)
		return refuse(u, "?", "has a name that cannot be read");
	if (!is_inside(path))
		return refuse(u, path, "would land outside its destination");
	if (++u->entries > u->limits->entries)
		return refuse(u, path, "is one entry too many");
	if (hard)
		return is_inside(hard) ? 0 : refuse(u, path, "is a link to a file outside its destination");
	if (type == AE_IFLNK)
		return target && target_is_inside(path, target) ? 0
								: refuse(u, path, "is a link that leads out");
	if (type != AE_IFREG && type != AE_IFDIR)
		return refuse(u, path, "is neither file, directory nor link");
	if (archive_entry_size_is_set(e) && type == AE_IFREG)
		u->bytes += (uint64_t)archive_entry_size(e);
	return u->bytes > u->limits->bytes ? refuse(u, path, "makes it too large when unpacked") : 0;
}

/* --- writing --- */

/* The directory that holds the last part of path, made where `make` says so.
 * *ret_name is that part. -1 with errno. */
static int open_parent(int root, const char *path, bool make, const char **ret_name)
{
	int fd = fcntl(root, F_DUPFD_CLOEXEC, 0);
	char name[256];

	for (;;) {
		size_t n = strcspn(path, "/"), skip = n + strspn(path + n, "/");
		int next;
		if (fd < 0 || !path[skip]) {
			*ret_name = path;
			return fd;
		}
		if (n >= sizeof name) {
			close(fd);
			errno = ENAMETOOLONG;
			return -1;
		}
		memcpy(name, path, n);
		name[n] = '\0';
		if (make && mkdirat(fd, name, 0755) < 0 && errno != EEXIST) {
			close(fd);
			return -1;
		}
		next = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		close(fd);
		fd = next;
		path += skip;
	}
}

/* The content of the present entry. Counts what really comes, whatever the
 * header promised. */
static int write_content(struct unpack *u, int fd, const char *path)
{
	const void *block;
	la_int64_t offset;
	size_t n;
	int r;

	while ((r = archive_read_data_block(u->a, &block, &n, &offset)) == ARCHIVE_OK) {
		u->bytes += n;
		if (u->bytes > u->limits->bytes || (uint64_t)offset + n > u->limits->bytes)
			return refuse(u, path, "makes it too large when unpacked");
		if (lseek(fd, offset, SEEK_SET) < 0 || davit_write_full(fd, block, n) < 0)
			return davit_error_errno(u->err, errno, NULL, "cannot write '%.128s'", path);
	}
	return r == ARCHIVE_EOF ? 0 : unreadable(u);
}

static int make_file(struct unpack *u, struct archive_entry *e, int parent, const char *name)
{
	mode_t mode = archive_entry_perm(e) & 0111 ? 0755 : 0644;
	DAVIT_AUTO_CLOSE int fd =
		openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);

	if (fd < 0)
		return davit_error_errno(u->err, errno, NULL, "cannot create '%.128s'",
					 archive_entry_pathname(e));
	return write_content(u, fd, archive_entry_pathname(e));
}

static int make_hard_link(struct unpack *u, const char *target, int parent, const char *name)
{
	const char *last;
	DAVIT_AUTO_CLOSE int from = open_parent(u->root, target, false, &last);

	if (from < 0 || linkat(from, last, parent, name, 0) < 0)
		return davit_error_errno(u->err, errno, NULL, "cannot link to '%.128s'", target);
	return 0;
}

static int write_entry(struct unpack *u, struct archive_entry *e)
{
	const char *path = archive_entry_pathname(e), *hard = archive_entry_hardlink(e), *last;
	char name[256];
	DAVIT_AUTO_CLOSE int parent = open_parent(u->root, path, true, &last);
	size_t n;

	if (parent < 0)
		return davit_error_errno(u->err, errno, NULL, "cannot unpack '%.128s'", path);
	n = strcspn(last, "/");
	if (n >= sizeof name)
		return davit_error_errno(u->err, ENAMETOOLONG, NULL, "cannot unpack '%.128s'", path);
	memcpy(name, last, n);
	name[n] = '\0';
	if (!strcmp(name, "."))
		return 0;
	if (!hard && archive_entry_filetype(e) == AE_IFDIR)
		return mkdirat(parent, name, 0755) < 0 && errno != EEXIST
			       ? davit_error_errno(u->err, errno, NULL, "cannot make '%.128s'", path)
			       : 0;
	/* A later entry of the same name is the newer version of the file. */
	if (unlinkat(parent, name, 0) < 0 && errno != ENOENT)
		return davit_error_errno(u->err, errno, NULL, "cannot replace '%.128s'", path);
	if (hard)
		return make_hard_link(u, hard, parent, name);
	if (archive_entry_filetype(e) == AE_IFLNK)
		return symlinkat(archive_entry_symlink(e), parent, name) < 0
			       ? davit_error_errno(u->err, errno, NULL, "cannot link '%.128s'", path)
			       : 0;
	return make_file(u, e, parent, name);
}

/* --- the passes --- */

static int pass(struct unpack *u)
{
	struct archive_entry *e;
	int r = 0, a;

	u->bytes = u->entries = 0;
	u->a = archive_read_new();
	if (!u->a)
		return davit_error_set(u->err, DAVIT_ENOMEM, NULL, "out of memory");
	archive_read_support_filter_all(u->a);
	archive_read_support_format_tar(u->a);
	archive_read_support_format_zip(u->a);
	if (archive_read_open_filename(u->a, u->path, 65536) != ARCHIVE_OK)
		r = unreadable(u);
	while (r == 0 && (a = archive_read_next_header(u->a, &e)) != ARCHIVE_EOF) {
		if (a != ARCHIVE_OK && a != ARCHIVE_WARN)
			r = unreadable(u);
		else if (u->root < 0)
			r = check(u, e);
		else
			r = write_entry(u, e);
	}
	archive_read_free(u->a);
	u->a = NULL;
	return r;
}

int davit_archive_unpack(const char *path, const char *to, const struct davit_archive_limits *limits,
			 struct davit_error *err)
{
	struct unpack u = {.path = path, .limits = limits, .err = err, .root = -1};
	DAVIT_AUTO_CLOSE int root = -1;
	int r = pass(&u);

	if (r < 0)
		return r;
	if (mkdir(to, 0755) < 0)
		return davit_error_errno(err, errno, NULL, "cannot make '%s'", to);
	root = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return davit_error_errno(err, errno, NULL, "cannot open '%s'", to);
	u.root = root;
	r = pass(&u);
	if (r < 0)
		davit_remove_tree(to, NULL);
	return r;
}
