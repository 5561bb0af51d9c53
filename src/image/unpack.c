/* SPDX-License-Identifier: MIT
 *
 * A layer becomes a tree. libarchive only reads; what an entry may be is decided
 * here, and where it goes in place.c. Hostile or not: an entry that is refused
 * ends the load, with its name.
 */
#include "image/unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* The name comes from the archive: what is not printable is shown as '?'. */
int image_unpack_refuse(struct image_unpacking *u, const char *why)
{
	char shown[128];
	size_t n = strlen(u->path);

	snprintf(shown, sizeof shown, "%.120s%s", u->path, n > 120 ? "..." : "");
	for (char *p = shown; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	return davit_error_set(u->err, DAVIT_ESOURCE, "archive", "%s is refused: '%s' %s", u->l->what, shown,
			       why);
}

int image_unpack_failed(struct image_unpacking *u, const char *what)
{
	int saved = errno;
	char text[160];

	if (saved == ENOSPC || saved == EDQUOT || saved == EIO || saved == EMFILE)
		return davit_error_errno(u->err, saved, NULL, "%s: cannot %s '%.120s'", u->l->what, what,
					 u->path);
	snprintf(text, sizeof text, "cannot be made: %s", strerror(saved));
	return image_unpack_refuse(u, text);
}

static int unreadable(struct image_unpacking *u)
{
	const char *why = archive_error_string(u->a);

	if (u->stream_err.code) {
		davit_error_copy(u->err, &u->stream_err);
		davit_error_prefix(u->err, "%s", u->l->what);
		return u->stream_err.code;
	}
	return davit_error_set(u->err, DAVIT_ESOURCE, "archive", "%s is no tar, or a damaged one: %.200s",
			       u->l->what, why ? why : "no reason known");
}

/* --- names --- */

/* Copies a name without "." and doubled slashes. NULL, or why it is refused. */
static const char *clean(const char *from, char *to, size_t size, bool *ret_directory)
{
	size_t n = 0, depth = 0;

	if (*from == '/')
		return "is an absolute name";
	if (strlen(from) >= size)
		return "is too long a name";
	*ret_directory = false;
	for (const char *p = from; *p; p += strspn(p, "/")) {
		size_t k = strcspn(p, "/");
		if (k == 2 && !memcmp(p, "..", 2))
			return "would land outside the image";
		if (k > 255)
			return "has too long a part";
		if (!(k == 1 && *p == '.')) {
			if (n)
				to[n++] = '/';
			memcpy(to + n, p, k);
			n += k;
			if (++depth > IMAGE_DEPTH_MAX)
				return "lies too deep";
		}
		p += k;
		*ret_directory = *p == '/';
	}
	to[n] = '\0';
	return NULL;
}

/* ".wh." is kept for whiteouts, in parents too. */
static bool parent_is_whiteout(const char *path)
{
	const char *slash;

	for (; (slash = strchr(path, '/')); path = slash + 1)
		if (!strncmp(path, IMAGE_WHITEOUT, strlen(IMAGE_WHITEOUT)))
			return true;
	return false;
}

/* --- content and metadata --- */

/* What it will be, holes included. */
static int check_size(struct image_unpacking *u, uint64_t size)
{
	struct image_budget *b = u->l->budget;

	if (size > b->limits.bytes || b->bytes > b->limits.bytes - size)
		return image_unpack_refuse(u, "makes the image larger than allowed (--max-size)");
	b->bytes += size;
	return 0;
}

/* What really comes. */
static int check_content(struct image_unpacking *u, size_t n)
{
	struct image_budget *b = u->l->budget;

	u->written += n;
	b->written += n;
	if (b->written > b->room)
		return davit_error_set(u->err, DAVIT_ENOSPC, NULL, "%s: no space is left for '%.120s'",
				       u->l->what, u->path);
	if (!image_budget_allows(b, u->written, image_stream_packed(u->in)))
		return image_unpack_refuse(
			u, "makes the layer unpack to more times its size than allowed (--max-ratio)");
	return 0;
}

static int write_content(struct image_unpacking *u, int fd, uint64_t size)
{
	const void *block;
	la_int64_t offset;
	size_t n;
	int r, code;

	while ((r = archive_read_data_block(u->a, &block, &n, &offset)) == ARCHIVE_OK) {
		const char *p = block;
		if (offset < 0 || (uint64_t)offset + n > size)
			return image_unpack_refuse(u, "has more content than it says");
		code = check_content(u, n);
		if (code < 0)
			return code;
		while (n) {
			ssize_t w = DAVIT_EINTR(pwrite(fd, p, n, offset));
			if (w < 0)
				return image_unpack_failed(u, "write");
			p += w;
			n -= (size_t)w;
			offset += w;
		}
	}
	if (r != ARCHIVE_EOF)
		return unreadable(u);
	return ftruncate(fd, (off_t)size) < 0 ? image_unpack_failed(u, "write") : 0;
}

static int make_directory(struct image_unpacking *u, struct archive_entry *e, int parent, const char *name,
			  bool opaque)
{
	DAVIT_AUTO_CLOSE int fd = -1;

	if (*name && mkdirat(parent, name, 0700) < 0 && errno != EEXIST)
		return image_unpack_failed(u, "make");
	fd = openat(parent, *name ? name : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return image_unpack_failed(u, "open");
	if (opaque && image_opaque_set(fd, u->l->root) < 0)
		return image_unpack_failed(u, "mark as opaque");
	return image_set_directory(u, e, fd);
}

/* --- whiteouts --- */

/* What the same layer has of that name stays: a whiteout is for those below. */
static int make_whiteout(struct image_unpacking *u, int parent, const char *hidden)
{
	struct stat st;

	if (fstatat(parent, hidden, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		DAVIT_AUTO_CLOSE int fd = -1;
		if (!S_ISDIR(st.st_mode))
			return 0;
		fd = openat(parent, hidden, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		return fd < 0 || image_opaque_set(fd, u->l->root) < 0
			       ? image_unpack_failed(u, "mark as opaque")
			       : 0;
	}
	return image_whiteout_make(parent, hidden) < 0 ? image_unpack_failed(u, "make a whiteout for") : 0;
}

static int take_whiteout(struct image_unpacking *u, int parent, const char *name)
{
	const char *hidden = name + strlen(IMAGE_WHITEOUT);

	if (!strcmp(name, IMAGE_OPAQUE))
		return image_opaque_set(parent, u->l->root) < 0 ? image_unpack_failed(u, "mark as opaque")
								: 0;
	if (!strncmp(hidden, IMAGE_WHITEOUT, 4))
		return 0; /* other marks of aufs, which mean nothing here */
	if (!*hidden || !strcmp(hidden, ".") || !strcmp(hidden, ".."))
		return image_unpack_refuse(u, "is a whiteout of nothing");
	return make_whiteout(u, parent, hidden);
}

/* --- entries --- */

static int make_file(struct image_unpacking *u, struct archive_entry *e, int parent, const char *name)
{
	la_int64_t size = archive_entry_size_is_set(e) ? archive_entry_size(e) : 0;
	DAVIT_AUTO_CLOSE int fd = -1;
	int r;

	if (size < 0)
		return image_unpack_refuse(u, "has no possible size");
	r = check_size(u, (uint64_t)size);
	if (r < 0)
		return r;
	fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return image_unpack_failed(u, "make");
	r = write_content(u, fd, (uint64_t)size);
	return r == 0 ? image_set_file(u, e, fd) : r;
}

/* To a file that the layer already has: opened without following its last name,
 * then linked by descriptor. */
static int make_hard_link(struct image_unpacking *u, const char *target, const char *path)
{
	struct image_place from = {.root = u->place.root, .parent = -1};
	const char *why, *name, *last;
	char clean_target[4096];
	struct stat st;
	bool slash;
	int parent, r = 0;

	why = clean(target, clean_target, sizeof clean_target, &slash);
	if (why || !*clean_target)
		return image_unpack_refuse(u, "is a hard link to what is outside the image");
	parent = image_place_parent(&from, clean_target, false, &last, &why);
	if (parent < 0 || fstatat(parent, last, &st, AT_SYMLINK_NOFOLLOW) < 0 || S_ISDIR(st.st_mode) ||
	    image_whiteout_is(&st)) {
		image_place_fini(&from);
		return image_unpack_refuse(u, "is a hard link to what is no file of the layer");
	}
	parent = image_place_parent(&u->place, path, true, &name, &why);
	if (parent < 0)
		r = image_unpack_refuse(u, why);
	else if (linkat(from.parent, last, parent, name, 0) < 0)
		r = image_unpack_failed(u, "link");
	image_place_fini(&from);
	return r;
}

static int make_device(struct image_unpacking *u, struct archive_entry *e, int parent, const char *name)
{
	dev_t dev = archive_entry_rdev(e);
	mode_t type = archive_entry_filetype(e);

	if (!u->l->root)
		return image_unpack_refuse(u, "is a device node, which only root may make");
	if (type == AE_IFCHR && dev == makedev(0, 0))
		return image_unpack_refuse(u, "is the device that overlayfs takes for a whiteout");
	if (mknodat(parent, name, type | 0600, dev) < 0)
		return image_unpack_failed(u, "make");
	return image_set_special(u, e, parent, name, false);
}

static int make_entry(struct image_unpacking *u, struct archive_entry *e, int parent, const char *name,
		      bool opaque)
{
	switch (archive_entry_filetype(e)) {
	case AE_IFDIR:
		return make_directory(u, e, parent, name, opaque);
	case AE_IFREG:
		return make_file(u, e, parent, name);
	case AE_IFLNK:
		if (!archive_entry_symlink(e) || !*archive_entry_symlink(e))
			return image_unpack_refuse(u, "is a link to nothing");
		if (symlinkat(archive_entry_symlink(e), parent, name) < 0)
			return image_unpack_failed(u, "make");
		return image_set_special(u, e, parent, name, true);
	case AE_IFIFO:
		if (mkfifoat(parent, name, 0600) < 0)
			return image_unpack_failed(u, "make");
		return image_set_special(u, e, parent, name, false);
	case AE_IFCHR:
	case AE_IFBLK:
		return make_device(u, e, parent, name);
	default:
		return image_unpack_refuse(u, "is of a kind that no image has (a socket?)");
	}
}

/* A later entry replaces an earlier one, but a directory takes in a directory. */
static int make_room(struct image_unpacking *u, struct archive_entry *e, int parent, const char *name,
		     bool *ret_opaque)
{
	struct stat st;

	*ret_opaque = false;
	if (!*name) /* the root itself */
		return archive_entry_filetype(e) == AE_IFDIR && !archive_entry_hardlink(e)
			       ? 0
			       : image_unpack_refuse(u, "is no directory, but the root of the image");
	if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : image_unpack_failed(u, "look at");
	if (S_ISDIR(st.st_mode) && archive_entry_filetype(e) == AE_IFDIR && !archive_entry_hardlink(e))
		return 0;
	*ret_opaque = image_whiteout_is(&st);
	return image_tree_remove(parent, name) < 0 ? image_unpack_failed(u, "replace") : 0;
}

static int take_entry(struct image_unpacking *u, struct archive_entry *e)
{
	const char *raw = archive_entry_pathname(e), *hard = archive_entry_hardlink(e), *why, *name;
	bool slash, opaque;
	int parent, r;

	snprintf(u->path, sizeof u->path, "%s", raw ? raw : "?");
	if (!raw || !*raw)
		return image_unpack_refuse(u, "has a name that cannot be read");
	if (u->l->budget->entries++ >= u->l->budget->limits.entries)
		return image_unpack_refuse(u, "is one entry too many (--max-entries)");
	why = clean(raw, u->path, sizeof u->path, &slash);
	if (!why && parent_is_whiteout(u->path))
		why = "lies in a whiteout";
	if (why) {
		snprintf(u->path, sizeof u->path, "%s", raw);
		return image_unpack_refuse(u, why);
	}
	r = image_check_owner(u, e);
	if (r < 0)
		return r;
	parent = image_place_parent(&u->place, u->path, true, &name, &why);
	if (parent < 0)
		return image_unpack_refuse(u, why);
	if (!strncmp(name, IMAGE_WHITEOUT, 4))
		return take_whiteout(u, parent, name);
	r = make_room(u, e, parent, name, &opaque);
	if (r < 0)
		return r;
	if (!hard)
		r = make_entry(u, e, parent, name, opaque);
	else
		r = make_hard_link(u, hard, u->path);
	return r;
}

/* --- reading --- */

static la_ssize_t on_read(struct archive *a, void *user, const void **ret)
{
	struct image_unpacking *u = user;
	ssize_t n = image_stream_read(u->in, ret, &u->stream_err);

	if (n < 0)
		archive_set_error(a, EIO, "%s", u->stream_err.message);
	return n < 0 ? ARCHIVE_FATAL : n;
}

static int unpack_all(struct image_unpacking *u)
{
	struct archive_entry *e;
	const void *rest;
	ssize_t n;
	int r = 0, a;

	if (archive_read_support_format_tar(u->a) != ARCHIVE_OK ||
	    archive_read_open(u->a, u, NULL, on_read, NULL) != ARCHIVE_OK)
		return unreadable(u);
	while (r == 0 && (a = archive_read_next_header(u->a, &e)) != ARCHIVE_EOF)
		r = a == ARCHIVE_OK || a == ARCHIVE_WARN ? take_entry(u, e) : unreadable(u);
	if (r < 0)
		return r;
	while ((n = image_stream_read(u->in, &rest, &u->stream_err)) > 0)
		; /* padding, of which the digest is too */
	if (n < 0)
		return unreadable(u);
	image_finish_directories(u);
	return 0;
}

/* The names of PAX headers are UTF-8, whatever the locale of the process. */
int image_unpack(const struct image_layer *l, struct image_stream *in, int root, struct davit_error *err)
{
	struct image_unpacking u = {.l = l, .in = in, .err = err, .place = {.root = root, .parent = -1}};
	locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0), before = (locale_t)0;
	mode_t mask = umask(0);
	int r;

	u.a = archive_read_new();
	if (utf8)
		before = uselocale(utf8);
	r = u.a ? unpack_all(&u) : image_oom(err);
	archive_read_free(u.a);
	if (utf8) {
		uselocale(before);
		freelocale(utf8);
	}
	umask(mask);
	image_place_fini(&u.place);
	image_forget_directories(&u);
	return r;
}
