/* SPDX-License-Identifier: MIT
 *
 * What an entry has beside its content.
 */
#include "image/unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/xattr.h>

#define NAMES_MAX (UINT64_C(128) << 20) /* bytes of the names of all directories */
#define XATTRS_MAX 65536		/* bytes of one entry's */

/* user.* but what overlayfs means by it, and file capabilities for root: other
 * names are the host's business (labels, ACLs, overlayfs itself) and left out. */
static bool wants_xattr(const struct image_unpacking *u, const char *name)
{
	if (!strncmp(name, "user.", 5))
		return strncmp(name, "user.overlay.", 13) && strncmp(name, "user.containers.", 16);
	return u->l->root && !strcmp(name, "security.capability");
}

static int set_xattrs(struct image_unpacking *u, struct archive_entry *e, int fd)
{
	size_t total = 0, size;
	const char *name;
	const void *value;

	archive_entry_xattr_reset(e);
	while (archive_entry_xattr_next(e, &name, &value, &size) == ARCHIVE_OK) {
		if (!name || !wants_xattr(u, name))
			continue;
		total += size;
		if (total > XATTRS_MAX)
			return image_unpack_refuse(u, "has too large extended attributes");
		if (fsetxattr(fd, name, value, size, 0) < 0 && errno != ENOTSUP)
			return image_unpack_failed(u, "set an extended attribute of");
	}
	return 0;
}

int image_check_owner(struct image_unpacking *u, struct archive_entry *e)
{
	la_int64_t uid = archive_entry_uid(e), gid = archive_entry_gid(e);

	return uid < 0 || gid < 0 || uid >= UINT32_MAX || gid >= UINT32_MAX
		       ? image_unpack_refuse(u, "has no possible owner")
		       : 0;
}

static struct timespec mtime_of(struct archive_entry *e)
{
	return (struct timespec){archive_entry_mtime_is_set(e) ? archive_entry_mtime(e) : 0,
				 archive_entry_mtime_is_set(e) ? archive_entry_mtime_nsec(e) : 0};
}

/* The owner before the mode: a change of owner drops the set-user-ID bit; and
 * before the xattrs: it drops capabilities. */
int image_set_file(struct image_unpacking *u, struct archive_entry *e, int fd)
{
	struct timespec t[2] = {mtime_of(e), mtime_of(e)};
	int r;

	if (u->l->root && fchown(fd, (uid_t)archive_entry_uid(e), (gid_t)archive_entry_gid(e)) < 0)
		return image_unpack_failed(u, "give an owner to");
	if (fchmod(fd, archive_entry_perm(e) & 07777) < 0)
		return image_unpack_failed(u, "set the mode of");
	r = set_xattrs(u, e, fd);
	if (r == 0 && futimens(fd, t) < 0)
		r = image_unpack_failed(u, "set the time of");
	return r;
}

int image_set_special(struct image_unpacking *u, struct archive_entry *e, int parent, const char *name,
		      bool link)
{
	struct timespec t[2] = {mtime_of(e), mtime_of(e)};

	if (u->l->root && fchownat(parent, name, (uid_t)archive_entry_uid(e), (gid_t)archive_entry_gid(e),
				   AT_SYMLINK_NOFOLLOW) < 0)
		return image_unpack_failed(u, "give an owner to");
	if (!link && fchmodat(parent, name, archive_entry_perm(e) & 07777, 0) < 0)
		return image_unpack_failed(u, "set the mode of");
	return utimensat(parent, name, t, AT_SYMLINK_NOFOLLOW) < 0 ? image_unpack_failed(u, "set the time of")
								   : 0;
}

/* --- directories --- */

static int remember(struct image_unpacking *u, struct archive_entry *e)
{
	struct image_directory *d;

	u->l->budget->names += strlen(u->path) + sizeof *d;
	if (u->l->budget->names > NAMES_MAX)
		return image_unpack_refuse(u, "is one directory too many");
	if (u->n_directories == u->cap) {
		size_t cap = u->cap ? u->cap * 2 : 256;
		d = realloc(u->directories, cap * sizeof *d);
		if (!d)
			return image_oom(u->err);
		u->directories = d;
		u->cap = cap;
	}
	d = &u->directories[u->n_directories];
	*d = (struct image_directory){strdup(u->path), archive_entry_perm(e) & 07777, mtime_of(e)};
	if (!d->path)
		return image_oom(u->err);
	u->n_directories++;
	return 0;
}

/* With its final mode only at the end when that would lock us out. */
int image_set_directory(struct image_unpacking *u, struct archive_entry *e, int fd)
{
	mode_t mode = archive_entry_perm(e) & 07777;
	int r;

	if (u->l->root && fchown(fd, (uid_t)archive_entry_uid(e), (gid_t)archive_entry_gid(e)) < 0)
		return image_unpack_failed(u, "give an owner to");
	if (fchmod(fd, u->l->root ? mode : mode | 0700) < 0)
		return image_unpack_failed(u, "set the mode of");
	r = set_xattrs(u, e, fd);
	return r == 0 ? remember(u, e) : r;
}

void image_finish_directories(struct image_unpacking *u)
{
	for (size_t i = u->n_directories; i-- > 0;) {
		struct image_directory *d = &u->directories[i];
		struct timespec t[2] = {d->mtime, d->mtime};
		const char *name, *why;
		DAVIT_AUTO_CLOSE int fd = -1;
		int parent = image_place_parent(&u->place, d->path, false, &name, &why);
		/* It may be another by now, or gone: then it needs nothing. */
		if (parent >= 0)
			fd = openat(parent, *name ? name : ".",
				    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0) {
			(void)fchmod(fd, d->mode);
			(void)futimens(fd, t);
		}
	}
}

void image_forget_directories(struct image_unpacking *u)
{
	for (size_t i = 0; i < u->n_directories; i++)
		free(u->directories[i].path);
	free(u->directories);
}
