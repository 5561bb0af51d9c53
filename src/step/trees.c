/* SPDX-License-Identifier: MIT
 *
 * Trees into the store and out of it.
 */
#include "step/copy.h"
#include "step/store.h"
#include "step/take.h"
#include "step/tar.h"

#include "base/fault.h"
#include "base/file.h"
#include "base/strv.h"

#include <archive.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define PACK_BLOCK (256 * 1024)

void davit_artifact_release(struct davit_artifact_hold *h)
{
	if (h->fd >= 0)
		close(h->fd);
	h->fd = -1;
}

char *davit_artifacts_path(struct davit_artifacts *s, const struct davit_artifact_hold *h)
{
	char *path;

	return asprintf(&path, "%s/trees/%s/fs", s->directory, h->id) < 0 ? NULL : path;
}

/* ----------------------------------------------------------------------------------- in */

/* Files of a tree that is there get the later of both times. */
static void touch(struct davit_artifacts *s, const char *id, const struct step_tree *t)
{
	char path[STEP_KEY_MAX + 16];
	DAVIT_AUTO_CLOSE int fd = -1;

	snprintf(path, sizeof path, "trees/%s/fs", id);
	fd = openat(s->fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; fd >= 0 && i < t->n; i++) {
		const struct step_entry *e = &t->entries[i];
		const struct timespec times[] = {{.tv_nsec = UTIME_OMIT}, e->changed};
		struct stat st;

		if (S_ISREG(e->mode) && fstatat(fd, e->path, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    (st.st_mtim.tv_sec < e->changed.tv_sec ||
		     (st.st_mtim.tv_sec == e->changed.tv_sec && st.st_mtim.tv_nsec < e->changed.tv_nsec)))
			utimensat(fd, e->path, times, AT_SYMLINK_NOFOLLOW);
	}
}

static void fill_hold(struct davit_artifact_hold *h, const char *id, int fd, const struct step_meta *m)
{
	snprintf(h->id, sizeof h->id, "%s", id);
	h->bytes = m->bytes;
	h->entries = m->entries;
	h->skipped = m->skipped;
	h->fd = fd;
}

/* Publishes the "fs" of w, which holds what t says, or takes the one that is there. */
static int publish(struct davit_artifacts *s, struct step_work *w, const struct step_tree *t,
		   struct davit_artifact_hold *ret, struct davit_error *err)
{
	const struct step_meta m = {.bytes = t->bytes, .entries = t->n, .skipped = t->skipped};
	bool known = false;
	int fd = -1, r = step_store_lock(s, err);

	if (r < 0)
		return r;
	if (w->note[0]) {
		r = step_note_id(s, w->note, t->id, err);
		if (r < 0)
			goto unlock;
	}
	r = step_take(s, DAVIT_KEPT_TREE, t->id, LOCK_SH, &fd, NULL);
	known = r == 0;
	if (!known)
		r = step_publish(s, w, DAVIT_KEPT_TREE, t->id, &m, err);
	if (r == 0 && !known) {
		/* Its own lock is the hold from now on. */
		fd = DAVIT_TAKE_FD(w->meta);
	}
unlock:
	step_store_unlock(s);
	if (r == 0) {
		if (known)
			touch(s, t->id, t);
		fill_hold(ret, t->id, fd, &m);
	}
	return r;
}

/* The mode of the top is of no tree's content; overlayfs shows it, so it is always the same. */
static int own_top(struct davit_artifacts *s, int fs, struct davit_error *err)
{
	return fchown(fs, geteuid(), getegid()) < 0 || fchmod(fs, 0755) < 0
		       ? davit_error_errno(err, errno, NULL, "cannot own a tree in %s", s->directory)
		       : 0;
}

int step_store_tree(struct davit_artifacts *s, struct step_work *w, struct davit_artifact_hold *ret,
		    struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fs = openat(w->fd, "fs", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	struct step_tree t = {0};
	int r;

	if (fs < 0)
		return davit_error_errno(err, errno, NULL, "cannot open a tree in %s", s->directory);
	r = own_top(s, fs, err);
	if (r == 0)
		r = step_tree_read(fs, true, &t, err);
	if (r == 0)
		r = publish(s, w, &t, ret, err);
	step_tree_fini(&t);
	return r;
}

/* Is there a tree of as many entries and bytes? That costs a look at each, where to copy what turns out to be
 * known costs as much as all of the rest: it is written, and removed again. */
static bool has_alike(struct davit_artifacts *s, const struct step_tree *t)
{
	int at = openat(s->fd, "trees", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = at >= 0 ? fdopendir(at) : NULL;
	bool found = false;
	struct dirent *d;

	while (dir && !found && (d = readdir(dir))) {
		char path[STEP_KEY_MAX + 8];
		DAVIT_AUTO_CLOSE int fd = -1;
		struct step_meta m;

		if (strlen(d->d_name) != DAVIT_ARTIFACT_ID_MAX - 1)
			continue;
		snprintf(path, sizeof path, "%.64s/meta", d->d_name);
		fd = openat(at, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		if (fd < 0)
			continue;
		step_meta_read(fd, &m);
		found = m.entries == t->n && m.bytes == t->bytes;
	}
	if (dir)
		closedir(dir);
	else if (at >= 0)
		close(at);
	return found;
}

/* Takes the tree that is there already, if it is. 1 or 0, or a code. */
static int take_known(struct davit_artifacts *s, int from, struct step_tree *t,
		      struct davit_artifact_hold *ret, struct davit_error *err)
{
	struct step_meta m = {.bytes = t->bytes, .entries = t->n, .skipped = t->skipped};
	int fd = -1, r;

	/* What cannot be read will be told by the copying. */
	if (step_tree_small(t) || !has_alike(s, t) || step_tree_hash(from, t, NULL) < 0)
		return 0;
	r = step_store_lock(s, err);
	if (r < 0)
		return r;
	r = step_take(s, DAVIT_KEPT_TREE, t->id, LOCK_SH, &fd, err);
	step_store_unlock(s);
	if (r < 0)
		return r == DAVIT_ENOENT ? 0 : r;
	touch(s, t->id, t);
	fill_hold(ret, t->id, fd, &m);
	return 1;
}

/* Begins a work with an empty tree in it, which is opened as *ret. */
static int begin_tree(struct davit_artifacts *s, struct step_work *w, int *ret, struct davit_error *err)
{
	int r = step_work_begin(s, w, err);

	if (r < 0)
		return r;
	if (mkdirat(w->fd, "fs", 0755) == 0)
		*ret = openat(w->fd, "fs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*ret >= 0)
		return 0;
	r = davit_error_errno(err, errno, NULL, "cannot make a tree in %s", s->directory);
	step_work_end(s, w);
	return r;
}

/* A copy of what t lists of `from`. */
static int copy_in(struct davit_artifacts *s, int from, struct step_tree *t, struct davit_artifact_hold *ret,
		   struct davit_error *err)
{
	struct step_work w = STEP_WORK_INIT;
	DAVIT_AUTO_CLOSE int to = -1;
	int r = begin_tree(s, &w, &to, err);

	if (r < 0)
		return r;
	r = own_top(s, to, err);
	if (r == 0)
		r = step_tree_take(from, to, t, err);
	DAVIT_FAULT("step-copied");
	if (r == 0)
		r = publish(s, &w, t, ret, err);
	step_work_end(s, &w);
	return r;
}

int davit_artifacts_put_directory(struct davit_artifacts *s, const char *path, char *const *names,
				  struct davit_artifact_hold *ret, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int from = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct step_tree t = {0};
	int r;

	if (from < 0)
		return davit_error_errno(err, errno, NULL, "cannot open the directory %s", path);
	r = step_tree_list(from, names, &t, err);
	if (r == 0 && t.bytes > s->ceiling)
		r = davit_error_set(err, DAVIT_ENOSPC, NULL,
				    "%" PRIu64 " bytes are more than the store may hold (%" PRIu64 ")",
				    t.bytes, s->ceiling);
	if (r == 0)
		r = take_known(s, from, &t, ret, err);
	if (r == 0)
		r = copy_in(s, from, &t, ret, err);
	if (r < 0)
		davit_error_prefix(err, "%s", path);
	step_tree_fini(&t);
	return r < 0 ? r : 0;
}

/* From another file system. */
static int adopt_copy(struct davit_artifacts *s, const char *path, struct davit_artifact_hold *ret,
		      struct davit_error *err)
{
	struct davit_artifact_hold h = DAVIT_ARTIFACT_HOLD_INIT;
	int r = davit_artifacts_put_directory(s, path, NULL, &h, err);

	if (r == 0)
		r = davit_remove_tree(path, err);
	if (r == 0)
		*ret = h;
	else
		davit_artifact_release(&h);
	return r;
}

int davit_artifacts_adopt(struct davit_artifacts *s, const char *path, struct davit_artifact_hold *ret,
			  struct davit_error *err)
{
	struct step_work w = STEP_WORK_INIT;
	int r = step_work_begin(s, &w, err);

	if (r < 0)
		return r;
	if (renameat(AT_FDCWD, path, w.fd, "fs") == 0)
		r = step_store_tree(s, &w, ret, err);
	else if (errno == EXDEV)
		r = adopt_copy(s, path, ret, err);
	else
		r = davit_error_errno(err, errno, NULL, "cannot take %s into the store", path);
	if (r < 0 && w.name[0] && renameat(w.fd, "fs", AT_FDCWD, path) < 0 && errno != ENOENT)
		davit_error_prefix(err, "%s is lost", path);
	step_work_end(s, &w);
	return r;
}

int davit_artifacts_put_tar(struct davit_artifacts *s, int fd, struct davit_artifact_hold *ret,
			    struct davit_error *err)
{
	struct step_work w = STEP_WORK_INIT;
	DAVIT_AUTO_CLOSE int to = -1;
	int r = begin_tree(s, &w, &to, err);

	if (r < 0)
		return r;
	r = step_unpack(fd, to, s->ceiling, err);
	if (r == 0)
		r = step_store_tree(s, &w, ret, err);
	step_work_end(s, &w);
	return r;
}

/* ---------------------------------------------------------------------------------- out */

/* The one name in trees that begins with `id`. */
static int complete(struct davit_artifacts *s, const char *id, char ret[DAVIT_ARTIFACT_ID_MAX],
		    struct davit_error *err)
{
	size_t n = strlen(id), found = 0;
	struct dirent *d;
	DIR *dir;
	int fd;

	if (n < 8 || n >= DAVIT_ARTIFACT_ID_MAX || strspn(id, "0123456789abcdef") != n)
		return davit_error_set(err, DAVIT_EINVAL, NULL,
				       "'%.80s' is not the id of an artifact: 8 to 64 hexadecimal digits",
				       id);
	if (n == DAVIT_ARTIFACT_ID_MAX - 1) {
		memcpy(ret, id, n + 1);
		return 0;
	}
	fd = openat(s->fd, "trees", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (!dir)
		return davit_error_errno(err, errno, NULL, "cannot read %s/trees", s->directory);
	while ((d = readdir(dir)))
		if (!strncmp(d->d_name, id, n) && found++ == 0)
			snprintf(ret, DAVIT_ARTIFACT_ID_MAX, "%.64s", d->d_name);
	closedir(dir);
	if (found > 1)
		return davit_error_set(err, DAVIT_EINVAL, NULL, "%zu artifacts begin with %s", found, id);
	return found ? 0 : davit_error_set(err, DAVIT_ENOENT, NULL, "there is no artifact %s", id);
}

int davit_artifacts_find(struct davit_artifacts *s, const char *id, struct davit_artifact_hold *ret,
			 struct davit_error *err)
{
	char whole[DAVIT_ARTIFACT_ID_MAX];
	struct step_meta m;
	int fd = -1, r = step_store_lock(s, err);

	if (r < 0)
		return r;
	r = complete(s, id, whole, err);
	if (r == 0)
		r = step_take(s, DAVIT_KEPT_TREE, whole, LOCK_SH, &fd, err);
	step_store_unlock(s);
	if (r < 0)
		return r;
	step_meta_read(fd, &m);
	fill_hold(ret, whole, fd, &m);
	return 0;
}

int davit_artifacts_get_directory(struct davit_artifacts *s, const struct davit_artifact_hold *h,
				  const char *to, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *path = davit_artifacts_path(s, h);
	DAVIT_AUTO_CLOSE int in = -1;
	DAVIT_AUTO_CLOSE int out = -1;
	struct stat st;
	char why[256];
	int e;

	if (!path)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (mkdir(to, 0777) < 0 && errno != EEXIST)
		return davit_error_errno(err, errno, NULL, "cannot make the directory %s", to);
	in = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	out = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (in < 0 || out < 0 || fstat(out, &st) < 0)
		return davit_error_errno(err, errno, NULL, "cannot open %s", in < 0 ? path : to);
	e = step_copy_tree(in, out, why, sizeof why);
	if (fchmod(out, st.st_mode & 07777) < 0 && !e)
		e = errno; /* the caller's directory keeps its mode */
	return e ? davit_error_errno(err, e, NULL, "cannot write %s/%s", to, why) : 0;
}

int davit_artifacts_get_tar(struct davit_artifacts *s, const struct davit_artifact_hold *h, int fd,
			    enum davit_artifact_packing packing, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *path = davit_artifacts_path(s, h);
	DAVIT_AUTO_CLOSE int at = path ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	struct archive *a = archive_write_new();
	int r = 0;

	if (!path || !a) {
		archive_write_free(a);
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	archive_write_set_format_pax_restricted(a);
	if (packing == DAVIT_PACK_ZSTD)
		archive_write_add_filter_zstd(a);
	else if (packing == DAVIT_PACK_GZIP)
		archive_write_add_filter_gzip(a);
	if (packing == DAVIT_PACK_ZSTD)
		archive_write_set_filter_option(a, "zstd", "compression-level", "1");
	archive_write_set_bytes_per_block(a, PACK_BLOCK);
	archive_write_set_bytes_in_last_block(a, 1);
	if (at < 0)
		r = davit_error_errno(err, errno, NULL, "cannot open %s", path);
	else if (archive_write_open_fd(a, fd) != ARCHIVE_OK)
		r = davit_error_set(err, DAVIT_EIO, NULL, "cannot write the archive: %s",
				    archive_error_string(a));
	if (r == 0)
		r = step_pack_tree(a, at, "", NULL, NULL, err);
	if (archive_write_close(a) != ARCHIVE_OK && r == 0)
		r = davit_error_set(err, DAVIT_EIO, NULL, "cannot write the archive: %s",
				    archive_error_string(a));
	archive_write_free(a);
	return r;
}
