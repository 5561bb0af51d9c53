/* SPDX-License-Identifier: MIT
 *
 * The module davit-archive.so (pack.h).
 */
#include "cli/pack.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define BLOCK (64 * 1024)

static int fail(struct archive *a, const char *what, struct davit_error *err)
{
	int sys = archive_errno(a);
	const char *text = archive_error_string(a);

	if (sys == ENOMEM)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	return davit_error_set(err, DAVIT_EIO, NULL, "%s: %s", what, text ? text : "unknown error");
}

/* --------------------------------------------------------------------- packing */

struct davit_pack {
	struct archive *disk, *tar;
	struct archive_entry *entry; /* being packed, or NULL */
	struct archive_entry_linkresolver *links;
	char *root, *name; /* name NULL: without the directory itself */
	struct davit_buf out;
	size_t taken;
	bool done;
	char block[BLOCK];
};

static la_ssize_t on_write(struct archive *a, void *user, const void *data, size_t n)
{
	struct davit_pack *p = user;

	davit_buf_add(&p->out, data, n);
	if (!p->out.oom)
		return (la_ssize_t)n;
	archive_set_error(a, ENOMEM, "out of memory");
	return -1;
}

static void pack_close(struct davit_pack *p)
{
	if (!p)
		return;
	archive_entry_free(p->entry);
	archive_read_free(p->disk);
	archive_write_free(p->tar);
	archive_entry_linkresolver_free(p->links);
	davit_buf_fini(&p->out);
	free(p->root);
	free(p->name);
	free(p);
}

static int pack_open(const char *path, const char *name, struct davit_pack **ret, struct davit_error *err)
{
	struct davit_pack *p = calloc(1, sizeof *p);
	int r = 0;

	if (!p || !(p->root = strdup(path)) || (name && !(p->name = strdup(name))) ||
	    !(p->disk = archive_read_disk_new()) || !(p->tar = archive_write_new()) ||
	    !(p->links = archive_entry_linkresolver_new())) {
		pack_close(p);
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	archive_read_disk_set_standard_lookup(p->disk);
	archive_read_disk_set_symlink_physical(p->disk);
	archive_write_set_format_pax_restricted(p->tar);
	archive_entry_linkresolver_set_strategy(p->links, archive_format(p->tar));
	archive_write_set_bytes_in_last_block(p->tar, 1);
	if (archive_read_disk_open(p->disk, path) != ARCHIVE_OK)
		r = fail(p->disk, path, err);
	else if (archive_write_open(p->tar, p, NULL, on_write, NULL) != ARCHIVE_OK)
		r = fail(p->tar, path, err);
	if (r < 0) {
		pack_close(p);
		return r;
	}
	*ret = p;
	return 0;
}

/* The name in the archive; "" for the directory that is left out. */
static void rename_entry(struct davit_pack *p, struct davit_buf *out)
{
	const char *below = archive_entry_pathname(p->entry) + strlen(p->root);

	below += strspn(below, "/");
	if (p->name)
		davit_buf_addf(out, "%s%s%s", p->name, *below ? "/" : "", below);
	else
		davit_buf_adds(out, below);
}

static int begin_entry(struct davit_pack *p, struct davit_error *err)
{
	struct archive_entry *entry = archive_entry_new(), *sparse = NULL;
	DAVIT_AUTO_BUF name = DAVIT_BUF_INIT;
	int r;

	if (!entry)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	p->entry = entry;
	r = archive_read_next_header2(p->disk, entry);
	if (r == ARCHIVE_EOF) {
		p->done = true;
		archive_entry_free(p->entry);
		p->entry = NULL;
		return archive_write_close(p->tar) == ARCHIVE_OK ? 0 : fail(p->tar, "cannot pack", err);
	}
	if (r < ARCHIVE_WARN)
		return fail(p->disk, "cannot pack", err);
	archive_read_disk_descend(p->disk);
	rename_entry(p, &name);
	if (!name.len) {
		archive_entry_free(p->entry);
		p->entry = NULL;
		return 0;
	}
	archive_entry_set_pathname(entry, davit_buf_str(&name));
	/* Names of our users mean nothing there. */
	archive_entry_set_uname(entry, NULL);
	archive_entry_set_gname(entry, NULL);
	archive_entry_linkify(p->links, &p->entry, &sparse);
	if (archive_write_header(p->tar, p->entry) < ARCHIVE_WARN)
		return fail(p->tar, davit_buf_str(&name), err);
	if (archive_entry_filetype(p->entry) != AE_IFREG || archive_entry_size(p->entry) == 0) {
		archive_entry_free(p->entry);
		p->entry = NULL;
	}
	return 0;
}

static int go_on(struct davit_pack *p, struct davit_error *err)
{
	la_ssize_t n = archive_read_data(p->disk, p->block, sizeof p->block);

	if (n < 0)
		return fail(p->disk, archive_entry_pathname(p->entry), err);
	if (n > 0)
		return archive_write_data(p->tar, p->block, (size_t)n) < 0 ? fail(p->tar, "cannot pack", err)
									   : 0;
	archive_entry_free(p->entry);
	p->entry = NULL;
	return 0;
}

static ssize_t pack_produce(void *user, void *buf, size_t n, struct davit_error *err)
{
	struct davit_pack *p = user;
	size_t there;

	while (p->taken == p->out.len && !p->done) {
		int r;
		davit_buf_reset(&p->out);
		p->taken = 0;
		r = p->entry ? go_on(p, err) : begin_entry(p, err);
		if (r < 0)
			return r;
	}
	there = p->out.len - p->taken;
	n = n < there ? n : there;
	if (n)
		memcpy(buf, p->out.data + p->taken, n);
	p->taken += n;
	return (ssize_t)n;
}

/* ------------------------------------------------------------------- unpacking */

struct source {
	davit_archive_read_fn *read;
	void *user;
	struct davit_error *err;
	int code; /* of its failure */
	char block[BLOCK];
};

static la_ssize_t on_read(struct archive *a, void *user, const void **ret)
{
	struct source *s = user;
	ssize_t n = s->read(s->user, s->block, sizeof s->block, s->err);

	*ret = s->block;
	if (n >= 0)
		return (la_ssize_t)n;
	s->code = (int)n;
	archive_set_error(a, EIO, "the stream broke");
	return -1;
}

static struct archive *open_tar(struct source *s, struct davit_error *err)
{
	struct archive *a = archive_read_new();

	if (!a) {
		davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
		return NULL;
	}
	archive_read_support_format_tar(a);
	archive_read_support_format_empty(a);
	if (archive_read_open(a, s, NULL, on_read, NULL) == ARCHIVE_OK)
		return a;
	if (!s->code)
		fail(a, "no tar archive came", err);
	archive_read_free(a);
	return NULL;
}

/* A path inside, with `name` for its first part; 0, 1 to leave it out, or a code. */
static int place(const char *path, const char *first, const char *name, struct davit_buf *out,
		 struct davit_error *err)
{
	size_t n = strlen(first);

	while (!strncmp(path, "./", 2))
		path += 2;
	if (strncmp(path, first, n) != 0 || (path[n] && path[n] != '/'))
		return davit_error_set(err, DAVIT_EPROTO, NULL,
				       "the archive holds '%s', which is not below '%s'", path, first);
	path += n;
	path += strspn(path, "/");
	davit_buf_adds(out, name);
	if (*name && *path)
		davit_buf_addc(out, '/');
	davit_buf_adds(out, path);
	if (out->oom)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	return out->len ? 0 : 1;
}

static int copy_data(struct archive *from, struct archive *to, const char *path, const struct source *s,
		     struct davit_error *err)
{
	const void *block;
	size_t n;
	la_int64_t at;
	int r;

	while ((r = archive_read_data_block(from, &block, &n, &at)) == ARCHIVE_OK)
		if (archive_write_data_block(to, block, n, at) < ARCHIVE_WARN)
			return fail(to, path, err);
	if (r == ARCHIVE_EOF)
		return 0;
	return s->code ? s->code : fail(from, path, err);
}

static int unpack_one(struct archive *from, struct archive *to, struct archive_entry *e, const char *first,
		      const char *name, const struct source *s, struct davit_error *err)
{
	DAVIT_AUTO_BUF path = DAVIT_BUF_INIT;
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	const char *link = archive_entry_hardlink(e);
	mode_t type = archive_entry_filetype(e);
	int r = place(archive_entry_pathname(e), first, name, &path, err);

	if (r)
		return r < 0 ? r : 0;
	if (type == AE_IFCHR || type == AE_IFBLK)
		return davit_error_set(err, DAVIT_ENOTSUP, NULL, "'%s' is a device: not copied",
				       davit_buf_str(&path));
	if (link) {
		r = place(link, first, name, &target, err);
		if (r)
			return r < 0 ? r
				     : davit_error_set(err, DAVIT_EPROTO, NULL,
						       "'%s' is a link to a directory", link);
		archive_entry_set_hardlink(e, davit_buf_str(&target));
	}
	archive_entry_set_pathname(e, davit_buf_str(&path));
	if (archive_write_header(to, e) < ARCHIVE_WARN)
		return fail(to, davit_buf_str(&path), err);
	r = archive_entry_size(e) > 0 ? copy_data(from, to, davit_buf_str(&path), s, err) : 0;
	if (r == 0 && archive_write_finish_entry(to) < ARCHIVE_WARN)
		r = fail(to, davit_buf_str(&path), err);
	return r;
}

static int unpack(davit_archive_read_fn *read, void *user, const char *where, const char *first,
		  const char *name, struct davit_error *err)
{
	/* Paths stay relative, so that libarchive can guard them. */
	const int flags = ARCHIVE_EXTRACT_TIME | ARCHIVE_EXTRACT_SECURE_NODOTDOT |
			  ARCHIVE_EXTRACT_SECURE_SYMLINKS | ARCHIVE_EXTRACT_SECURE_NOABSOLUTEPATHS;
	struct source s = {.read = read, .user = user, .err = err};
	struct archive *from, *to = NULL;
	struct archive_entry *e;
	int r = 0;

	if (chdir(where) < 0)
		return davit_error_errno(err, errno, NULL, "cannot enter '%s'", where);
	from = open_tar(&s, err);
	if (!from)
		return s.code ? s.code : DAVIT_EIO;
	to = archive_write_disk_new();
	if (!to)
		r = davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	else
		archive_write_disk_set_options(to, flags);
	while (r == 0) {
		int h = archive_read_next_header(from, &e);
		if (h == ARCHIVE_EOF)
			break;
		r = h >= ARCHIVE_WARN ? unpack_one(from, to, e, first, name, &s, err)
		    : s.code	      ? s.code
				      : fail(from, "cannot unpack", err);
	}
	if (to && archive_write_close(to) < ARCHIVE_WARN && r == 0)
		r = fail(to, "cannot unpack", err);
	archive_write_free(to);
	archive_read_free(from);
	return r;
}

static int is_directory(davit_archive_read_fn *read, void *user, struct davit_error *err)
{
	struct source s = {.read = read, .user = user, .err = err};
	struct archive *a = open_tar(&s, err);
	struct archive_entry *e;
	int r;

	if (!a)
		return s.code ? s.code : DAVIT_EIO;
	if (archive_read_next_header(a, &e) >= ARCHIVE_WARN)
		r = archive_entry_filetype(e) == AE_IFDIR;
	else
		r = s.code ? s.code : fail(a, "no tar archive came", err);
	archive_read_free(a);
	return r;
}

extern const struct davit_archive davit_archive;
__attribute__((visibility("default"))) const struct davit_archive davit_archive = {
	.pack_open = pack_open,
	.pack_close = pack_close,
	.pack_produce = pack_produce,
	.unpack = unpack,
	.is_directory = is_directory,
};
