/* SPDX-License-Identifier: MIT
 *
 * Trees as tar archives (libarchive).
 */
#include "step/copy.h"
#include "step/hash.h"
#include "step/tar.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define BLOCK (256 * 1024)

static int pack_content(struct archive *a, int at, const struct step_entry *s, char *buf,
			struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd = step_open_anyway(at, s->path, O_RDONLY | O_NOCTTY, s->mode);
	ssize_t n;

	if (fd < 0)
		return davit_error_errno(err, errno, NULL, "cannot open %s", s->path);
	while ((n = DAVIT_EINTR(read(fd, buf, BLOCK))) > 0)
		if (archive_write_data(a, buf, (size_t)n) < 0)
			return davit_error_set(err, DAVIT_EIO, NULL, "cannot write the archive: %s",
					       archive_error_string(a));
	return n < 0 ? davit_error_errno(err, errno, NULL, "cannot read %s", s->path) : 0;
}

static int pack_entry(struct archive *a, struct archive_entry *e, int at, const struct step_entry *s,
		      const char *name, char *buf, struct davit_error *err)
{
	ssize_t n;

	archive_entry_clear(e);
	archive_entry_set_pathname(e, name);
	archive_entry_set_mode(e, s->mode);
	archive_entry_set_mtime(e, s->changed.tv_sec, s->changed.tv_nsec);
	archive_entry_set_size(e, S_ISREG(s->mode) ? (la_int64_t)s->size : 0);
	if (S_ISLNK(s->mode)) {
		n = readlinkat(at, s->path, buf, BLOCK - 1);
		if (n < 0)
			return davit_error_errno(err, errno, NULL, "cannot read %s", s->path);
		buf[n] = '\0';
		archive_entry_set_symlink(e, buf);
	}
	if (archive_write_header(a, e) != ARCHIVE_OK)
		return davit_error_set(err, DAVIT_EIO, NULL, "cannot write the archive: %s",
				       archive_error_string(a));
	return S_ISREG(s->mode) && s->size ? pack_content(a, at, s, buf, err) : 0;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct step_entry *)a)->path, ((const struct step_entry *)b)->path);
}

static int pack_entries(struct archive *a, int at, const struct step_tree *t, const char *prefix,
			step_pack_skip_fn *skip, void *user, struct davit_error *err)
{
	struct archive_entry *e = archive_entry_new();
	DAVIT_AUTO_FREE char *buf = malloc(BLOCK), *name = malloc(strlen(prefix) + PATH_MAX + 2);
	int r = e && buf && name ? 0 : davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");

	for (size_t i = 0; r == 0 && i < t->n; i++) {
		sprintf(name, "%s%s%s", prefix, *prefix ? "/" : "", t->entries[i].path);
		if (!skip || !skip(user, name))
			r = pack_entry(a, e, at, &t->entries[i], name, buf, err);
	}
	archive_entry_free(e);
	return r;
}

int step_pack_tree(struct archive *a, int at, const char *prefix, step_pack_skip_fn *skip, void *user,
		   struct davit_error *err)
{
	struct step_tree t = {0};
	int r = step_tree_scan(at, false, &t, err);

	if (r == 0 && t.n)
		qsort(t.entries, t.n, sizeof *t.entries, by_path);
	if (r == 0)
		r = pack_entries(a, at, &t, prefix, skip, user, err);
	step_tree_fini(&t);
	return r;
}
