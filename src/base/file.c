/* SPDX-License-Identifier: MIT */
#include "base/file.h"

#include "base/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

int davit_write_full(int fd, const void *data, size_t n)
{
	const char *p = data;

	while (n) {
		ssize_t w = write(fd, p, n);
		if (w < 0) {
			if (errno == EINTR)
				continue;
			return -1;
		}
		p += w;
		n -= (size_t)w;
	}
	return 0;
}

char *davit_path_join(const char *a, const char *b)
{
	size_t n = strlen(a);
	char *s;

	if (b[0] == '/' || !n)
		return strdup(b);
	if (asprintf(&s, "%s%s%s", a, a[n - 1] == '/' ? "" : "/", b) < 0)
		return NULL;
	return s;
}

int davit_mkdirs(const char *path, mode_t mode, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *copy = NULL;

	if (mkdir(path, mode) == 0)
		return 0;
	if (errno == EEXIST) {
		struct stat st;
		if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
			return 0;
		return davit_error_errno(err, ENOTDIR, NULL, "cannot make directory %s", path);
	}
	if (errno != ENOENT)
		return davit_error_errno(err, errno, NULL, "cannot make directory %s", path);
	copy = strdup(path);
	if (!copy)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	for (char *p = copy + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(copy, mode) < 0 && errno != EEXIST)
			return davit_error_errno(err, errno, NULL, "cannot make directory %s", copy);
		*p = '/';
	}
	if (mkdir(path, mode) < 0 && errno != EEXIST)
		return davit_error_errno(err, errno, NULL, "cannot make directory %s", path);
	return 0;
}

int davit_read_file(const char *path, size_t max, struct davit_buf *out, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	size_t total = 0;
	ssize_t n;

	if (fd < 0)
		return davit_error_errno(err, errno, NULL, "cannot open %s", path);
	for (;;) {
		if (davit_buf_reserve(out, 4096) < 0)
			return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
		n = read(fd, out->data + out->len, 4096);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return davit_error_errno(err, errno, NULL, "cannot read %s", path);
		if (n == 0)
			break;
		total += (size_t)n;
		if (total > max)
			return davit_error_set(err, DAVIT_EINVAL, NULL, "%s is larger than %zu bytes", path,
					       max);
		out->len += (size_t)n;
		out->data[out->len] = '\0';
	}
	return 0;
}

static int replace_file(const char *path, const void *data, size_t n, mode_t mode, bool durable,
			struct davit_error *err)
{
	DAVIT_AUTO_FREE char *tmp = NULL;
	DAVIT_AUTO_CLOSE int fd = -1;

	if (asprintf(&tmp, "%s.%d.tmp", path, (int)getpid()) < 0)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
	if (fd < 0)
		return davit_error_errno(err, errno, NULL, "cannot create %s", tmp);
	if (davit_write_full(fd, data, n) < 0 || (durable && fsync(fd) < 0)) {
		int saved = errno;
		unlink(tmp);
		return davit_error_errno(err, saved, NULL, "cannot write %s", path);
	}
	DAVIT_FAULT("file-rename");
	if (rename(tmp, path) < 0) {
		int saved = errno;
		unlink(tmp);
		return davit_error_errno(err, saved, NULL, "cannot replace %s", path);
	}
	return 0;
}

int davit_write_file(const char *path, const void *data, size_t n, mode_t mode, struct davit_error *err)
{
	return replace_file(path, data, n, mode, true, err);
}

int davit_write_volatile_file(const char *path, const void *data, size_t n, mode_t mode,
			      struct davit_error *err)
{
	return replace_file(path, data, n, mode, false, err);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path) < 0 && errno != ENOENT ? errno : 0;
}

int davit_remove_tree(const char *path, struct davit_error *err)
{
	int r = nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);

	if (r == 0 || (r < 0 && errno == ENOENT))
		return 0;
	return davit_error_errno(err, r > 0 ? r : errno, NULL, "cannot remove %s", path);
}
