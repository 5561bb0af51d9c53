/* SPDX-License-Identifier: MIT
 *
 * Trees out of tar archives (libarchive). Of what comes in, no name is trusted: each entry's directory is
 * resolved by the kernel beneath the tree, through no link.
 */
#include "step/tar.h"
#include "base/file.h"
#include "step/copy.h"
#include "step/place.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define BLOCK (256 * 1024)

struct unpacking {
	struct archive *a;
	int top;
	int at; /* the directory `directory`; the last one used, for neighbours come together */
	char *directory;
	uint64_t left; /* bytes that it may still have */
	struct davit_error *err;
	/* Directories get their modes and times at the end: until then we must write into them. */
	struct late {
		char *path;
		mode_t mode;
		struct timespec times[2];
	} * late;
	size_t n_late, cap_late;
};

static int hostile(struct unpacking *u, const char *name, const char *why)
{
	return davit_error_set(u->err, DAVIT_ESOURCE, NULL, "the archive is refused: '%.200s' %s", name, why);
}

static int no_memory(struct unpacking *u)
{
	return davit_error_set(u->err, DAVIT_ENOMEM, NULL, "out of memory");
}

/* "./a//b/" -> "a/b"; "" for the top itself. False for one that leads out. In place. */
static bool clean(char *path)
{
	char *out = path, *p = path;

	if (*p == '/')
		return false;
	while (*p) {
		size_t n = strcspn(p, "/");

		if (n == 2 && !strncmp(p, "..", 2))
			return false;
		if (n && !(n == 1 && *p == '.')) {
			if (out > path)
				*out++ = '/';
			memmove(out, p, n);
			out += n;
		}
		p += n;
		p += *p == '/';
	}
	*out = '\0';
	return true;
}

/* Opens the directory that an entry is in as u->at; *ret_last is the entry's own name. */
static int enter(struct unpacking *u, char *path, const char **ret_last)
{
	char *slash = strrchr(path, '/');
	const char *directory = slash ? path : "";

	*ret_last = slash ? slash + 1 : path;
	if (slash)
		*slash = '\0';
	if (!u->directory || strcmp(u->directory, directory) != 0) {
		int fd = step_place(u->top, directory);

		if (fd < 0)
			return errno == ENOTDIR || errno == ELOOP
				       ? hostile(u, directory, "is a link or a file, and not a directory")
				       : davit_error_errno(u->err, errno, NULL, "cannot make %s", directory);
		free(u->directory);
		u->directory = strdup(directory);
		if (u->at >= 0)
			close(u->at);
		u->at = fd;
		if (!u->directory)
			return no_memory(u);
	}
	if (slash)
		*slash = '/';
	return 0;
}

static int add_late(struct unpacking *u, const char *path, mode_t mode, const struct timespec times[2])
{
	if (u->n_late == u->cap_late) {
		size_t cap = u->cap_late ? 2 * u->cap_late : 64;
		struct late *more = reallocarray(u->late, cap, sizeof *more);
		if (!more)
			return no_memory(u);
		u->late = more;
		u->cap_late = cap;
	}
	u->late[u->n_late] = (struct late){strdup(path), mode, {times[0], times[1]}};
	return u->late[u->n_late++].path ? 0 : no_memory(u);
}

static int write_file(struct unpacking *u, int fd, const char *path)
{
	const void *data;
	la_int64_t offset;
	size_t n;
	int r;

	while ((r = archive_read_data_block(u->a, &data, &n, &offset)) == ARCHIVE_OK) {
		if (n > u->left)
			return hostile(u, path, "makes it larger than the store may be");
		u->left -= n;
		for (size_t done = 0; done < n;) {
			ssize_t w = DAVIT_EINTR(
				pwrite(fd, (const char *)data + done, n - done, offset + (la_int64_t)done));
			if (w < 0)
				return davit_error_errno(u->err, errno, NULL, "cannot write %s", path);
			done += (size_t)w;
		}
	}
	if (r != ARCHIVE_EOF)
		return davit_error_set(u->err, DAVIT_ESOURCE, NULL,
				       "the archive is malformed at '%.200s': %s", path,
				       archive_error_string(u->a) ? archive_error_string(u->a) : "truncated");
	return 0;
}

static int unpack_file(struct unpacking *u, struct archive_entry *e, const char *last, const char *path)
{
	const struct timespec times[] = {{archive_entry_mtime(e), archive_entry_mtime_nsec(e)},
					 {archive_entry_mtime(e), archive_entry_mtime_nsec(e)}};
	DAVIT_AUTO_CLOSE int fd =
		openat(u->at, last, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r, error;

	if (fd < 0 && errno == EEXIST) { /* a later entry of the same name counts */
		error = davit_remove_at(u->at, last);
		if (error)
			return davit_error_errno(u->err, error, NULL, "cannot replace %s", path);
		fd = openat(u->at, last, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	}
	if (fd < 0)
		return davit_error_errno(u->err, errno, NULL, "cannot make %s", path);
	r = write_file(u, fd, path);
	if (r < 0)
		return r;
	/* A sparse end is in no block. */
	if (archive_entry_size(e) > 0 && ftruncate(fd, archive_entry_size(e)) < 0)
		return davit_error_errno(u->err, errno, NULL, "cannot write %s", path);
	if (fchmod(fd, archive_entry_perm(e)) < 0 || futimens(fd, times) < 0)
		return davit_error_errno(u->err, errno, NULL, "cannot make %s", path);
	return 0;
}

static int unpack_directory(struct unpacking *u, struct archive_entry *e, const char *last, const char *path)
{
	const struct timespec times[] = {{archive_entry_mtime(e), archive_entry_mtime_nsec(e)},
					 {archive_entry_mtime(e), archive_entry_mtime_nsec(e)}};
	struct stat st;
	int error;

	if (mkdirat(u->at, last, 0700) < 0) {
		if (errno != EEXIST || fstatat(u->at, last, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return davit_error_errno(u->err, errno, NULL, "cannot make %s", path);
		if (!S_ISDIR(st.st_mode)) {
			error = davit_remove_at(u->at, last);
			if (error || mkdirat(u->at, last, 0700) < 0)
				return davit_error_errno(u->err, error ? error : errno, NULL,
							 "cannot replace %s", path);
		}
	}
	return add_late(u, path, archive_entry_perm(e), times);
}

static int unpack_link(struct unpacking *u, struct archive_entry *e, const char *last, const char *path)
{
	const struct timespec times[] = {{archive_entry_mtime(e), archive_entry_mtime_nsec(e)},
					 {archive_entry_mtime(e), archive_entry_mtime_nsec(e)}};
	const char *target = archive_entry_symlink(e);
	int error = davit_remove_at(u->at, last);

	if (error || !target || symlinkat(target, u->at, last) < 0)
		return davit_error_errno(u->err, error ? error : errno, NULL, "cannot make the link %s",
					 path);
	utimensat(u->at, last, times, AT_SYMLINK_NOFOLLOW);
	return 0;
}

static int unpack_hardlink(struct unpacking *u, const char *last, const char *path, const char *to)
{
	DAVIT_AUTO_FREE char *target = strdup(to);
	DAVIT_AUTO_CLOSE int fd = -1;
	char *slash;
	struct stat st;
	int error;

	if (!target)
		return no_memory(u);
	if (!clean(target) || !*target)
		return hostile(u, path, "is a link that leads out of the tree");
	if (!strcmp(target, path)) /* tar writes this for a file that it was told of twice */
		return 0;
	slash = strrchr(target, '/');
	if (slash)
		*slash = '\0';
	fd = step_place(u->top, slash ? target : "");
	if (fd < 0 || fstatat(fd, slash ? slash + 1 : target, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    S_ISDIR(st.st_mode))
		return hostile(u, path, "is a link to what is not a file of the archive");
	error = davit_remove_at(u->at, last);
	if (error || linkat(fd, slash ? slash + 1 : target, u->at, last, 0) < 0)
		return davit_error_errno(u->err, error ? error : errno, NULL, "cannot make the link %s",
					 path);
	return 0;
}

static int unpack_entry(struct unpacking *u, struct archive_entry *e)
{
	const char *name = archive_entry_pathname(e), *last;
	DAVIT_AUTO_FREE char *path = name ? strdup(name) : NULL;
	int r;

	if (!path)
		return name ? no_memory(u) : hostile(u, "", "has no name");
	if (!clean(path))
		return hostile(u, name, "leads out of the tree");
	if (!*path)
		return 0; /* the top itself */
	r = enter(u, path, &last);
	if (r < 0)
		return r;
	if (archive_entry_hardlink(e))
		return unpack_hardlink(u, last, path, archive_entry_hardlink(e));
	switch (archive_entry_filetype(e)) {
	case AE_IFREG:
		return unpack_file(u, e, last, path);
	case AE_IFDIR:
		return unpack_directory(u, e, last, path);
	case AE_IFLNK:
		return unpack_link(u, e, last, path);
	default: /* sockets, pipes and devices are no content */
		return 0;
	}
}

/* The deepest first, so that a directory without permissions stops nobody. */
static int finish(struct unpacking *u)
{
	for (size_t i = u->n_late; i-- > 0;) {
		struct late *l = &u->late[i];
		char *slash = strrchr(l->path, '/');
		const char *last = slash ? slash + 1 : l->path;
		DAVIT_AUTO_CLOSE int at = -1;
		DAVIT_AUTO_CLOSE int fd = -1;

		if (slash)
			*slash = '\0';
		at = step_place(u->top, slash ? l->path : "");
		fd = at < 0 ? -1 : openat(at, last, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		/* A later entry may have taken its place. */
		if (fd >= 0 && (fchmod(fd, l->mode) < 0 || futimens(fd, l->times) < 0))
			return davit_error_errno(u->err, errno, NULL, "cannot make %s", l->path);
	}
	return 0;
}

int step_unpack(int archive, int to, uint64_t max, struct davit_error *err)
{
	struct unpacking u = {.a = archive_read_new(), .top = to, .at = -1, .left = max, .err = err};
	struct archive_entry *e;
	int r = 0, got;

	if (!u.a)
		return no_memory(&u);
	archive_read_support_filter_gzip(u.a);
	archive_read_support_filter_zstd(u.a);
	archive_read_support_format_tar(u.a);
	archive_read_support_format_empty(u.a);
	got = archive_read_open_fd(u.a, archive, BLOCK);
	while (got == ARCHIVE_OK && r == 0 && (got = archive_read_next_header(u.a, &e)) == ARCHIVE_OK)
		r = unpack_entry(&u, e);
	if (r == 0 && got != ARCHIVE_EOF)
		r = davit_error_set(err, DAVIT_ESOURCE, NULL, "this is no tar archive that can be read: %s",
				    archive_error_string(u.a) ? archive_error_string(u.a)
							      : "it is malformed");
	if (r == 0)
		r = finish(&u);
	for (size_t i = 0; i < u.n_late; i++)
		free(u.late[i].path);
	free(u.late);
	free(u.directory);
	if (u.at >= 0)
		close(u.at);
	archive_read_free(u.a);
	return r;
}
