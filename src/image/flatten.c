/* SPDX-License-Identifier: MIT
 *
 * The layers of an image copied over each other, as overlayfs would show them.
 */
#include "image/image_impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

/* The first copy of a file with several names. */
struct first {
	char key[40];
	char *path;
};

struct flatten {
	bool root;
	int to; /* the whole tree */
	struct davit_map links;
	struct first **firsts;
	size_t n_firsts;
	char path[8192]; /* of the present entry, for links and messages */
	struct davit_error *err;
};

static int failed(struct flatten *f, const char *what)
{
	return davit_error_errno(f->err, errno, NULL, "cannot %s '%.200s'", what, f->path);
}

static int copy_directory(struct flatten *f, int from, int to);

/* --- metadata --- */

/* overlayfs's own stay in the layer. */
static bool wants_xattr(const struct flatten *f, const char *name)
{
	return (!strncmp(name, "user.", 5) && strncmp(name, "user.overlay.", 13)) ||
	       (f->root && !strcmp(name, "security.capability"));
}

static int copy_xattrs(struct flatten *f, int from, int to)
{
	char names[65536], value[65536];
	ssize_t n = flistxattr(from, names, sizeof names);

	for (const char *p = names; n > 0 && p < names + n; p += strlen(p) + 1) {
		ssize_t size;
		if (!wants_xattr(f, p))
			continue;
		size = fgetxattr(from, p, value, sizeof value);
		if (size < 0 || (fsetxattr(to, p, value, (size_t)size, 0) < 0 && errno != ENOTSUP))
			return failed(f, "copy an extended attribute of");
	}
	return 0;
}

static int copy_metadata(struct flatten *f, int from, int to, const struct stat *st)
{
	struct timespec t[2] = {st->st_mtim, st->st_mtim};
	int r;

	if (f->root && fchown(to, st->st_uid, st->st_gid) < 0)
		return failed(f, "give an owner to");
	if (fchmod(to, st->st_mode & 07777) < 0)
		return failed(f, "set the mode of");
	r = copy_xattrs(f, from, to);
	return r == 0 && futimens(to, t) < 0 ? failed(f, "set the time of") : r;
}

/* --- kinds of entries --- */

static int copy_file(struct flatten *f, int from_dir, int to_dir, const char *name, const struct stat *st)
{
	DAVIT_AUTO_CLOSE int from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	DAVIT_AUTO_CLOSE int to = -1;

	if (from < 0 && errno == EACCES && !f->root) { /* our own, of mode 0 */
		if (fchmodat(from_dir, name, st->st_mode | 0400, 0) == 0)
			from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
		(void)fchmodat(from_dir, name, st->st_mode & 07777, 0);
	}
	if (from < 0)
		return failed(f, "open");
	to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (to < 0)
		return failed(f, "make");
	if (image_copy_data(from, to, UINT64_MAX) < 0)
		return failed(f, "copy");
	return copy_metadata(f, from, to, st);
}

static int copy_special(struct flatten *f, int from, int to, const char *name, const struct stat *st)
{
	struct timespec t[2] = {st->st_mtim, st->st_mtim};
	char target[4096];
	int r;

	if (S_ISLNK(st->st_mode)) {
		ssize_t n = readlinkat(from, name, target, sizeof target - 1);
		target[n < 0 ? 0 : n] = '\0';
		r = n < 0 ? -1 : symlinkat(target, to, name);
	} else {
		r = mknodat(to, name, st->st_mode & ~(mode_t)07777, st->st_rdev);
	}
	if (r < 0)
		return failed(f, "make");
	if (f->root && fchownat(to, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return failed(f, "give an owner to");
	if (!S_ISLNK(st->st_mode) && fchmodat(to, name, st->st_mode & 07777, 0) < 0)
		return failed(f, "set the mode of");
	return utimensat(to, name, t, AT_SYMLINK_NOFOLLOW) < 0 ? failed(f, "set the time of") : 0;
}

/* --- names of one file --- */

/* Whether it was linked to an earlier copy, which a later layer cannot have
 * replaced: links are forgotten with their layer. */
static int link_to_first(struct flatten *f, int to, const char *name, const struct stat *st, bool *ret_done)
{
	struct first *x;
	char key[40];

	*ret_done = false;
	if (st->st_nlink < 2)
		return 0;
	snprintf(key, sizeof key, "%llx", (unsigned long long)st->st_ino);
	x = davit_map_get(&f->links, key);
	if (x) {
		*ret_done = true;
		return linkat(f->to, x->path, to, name, 0) < 0 ? failed(f, "link") : 0;
	}
	struct first **grown = realloc(f->firsts, (f->n_firsts + 1) * sizeof *grown);
	if (grown)
		f->firsts = grown;
	x = calloc(1, sizeof *x);
	if (!grown || !x || !(x->path = strdup(f->path)))
		goto oom;
	strcpy(x->key, key);
	if (davit_map_put(&f->links, x->key, x) < 0)
		goto oom;
	f->firsts[f->n_firsts++] = x;
	return 0;
oom:
	if (x)
		free(x->path);
	free(x);
	return image_oom(f->err);
}

static void forget_links(struct flatten *f)
{
	for (size_t i = 0; i < f->n_firsts; i++) {
		free(f->firsts[i]->path);
		free(f->firsts[i]);
	}
	free(f->firsts);
	f->firsts = NULL;
	f->n_firsts = 0;
	davit_map_fini(&f->links);
}

/* --- directories --- */

static int merge_directory(struct flatten *f, int from_dir, int to_dir, const char *name,
			   const struct stat *st)
{
	DAVIT_AUTO_CLOSE int from = openat(from_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DAVIT_AUTO_CLOSE int to = -1;
	struct stat there;
	int r;

	if (from < 0)
		return failed(f, "open");
	if (fstatat(to_dir, name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
	    (!S_ISDIR(there.st_mode) || image_opaque_is(from)) && image_tree_remove(to_dir, name) < 0)
		return failed(f, "replace");
	if (mkdirat(to_dir, name, 0700) < 0 && errno != EEXIST)
		return failed(f, "make");
	to = openat(to_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (to < 0)
		return failed(f, "open");
	if (!f->root)
		(void)fchmod(to, 0700);
	r = copy_directory(f, from, to);
	return r == 0 ? copy_metadata(f, from, to, st) : r;
}

static int copy_entry(struct flatten *f, int from, int to, const char *name)
{
	struct stat st;
	bool done;
	int r;

	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return failed(f, "look at");
	if (S_ISDIR(st.st_mode))
		return merge_directory(f, from, to, name, &st);
	if (image_tree_remove(to, name) < 0)
		return failed(f, "replace");
	if (image_whiteout_is(&st))
		return 0;
	r = link_to_first(f, to, name, &st, &done);
	if (r < 0 || done)
		return r;
	return S_ISREG(st.st_mode) ? copy_file(f, from, to, name, &st) : copy_special(f, from, to, name, &st);
}

/* What is in `from`, which stays open, into `to`. */
static int copy_directory(struct flatten *f, int from, int to)
{
	size_t n = strlen(f->path);
	struct dirent *e;
	int r = 0, fd = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d) {
		davit_closep(&fd);
		return failed(f, "read");
	}
	while (r == 0 && (errno = 0, e = readdir(d))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (snprintf(f->path + n, sizeof f->path - n, "%s%s", n ? "/" : "", e->d_name) >=
		    (int)(sizeof f->path - n))
			errno = ENAMETOOLONG, r = failed(f, "copy");
		else
			r = copy_entry(f, from, to, e->d_name);
		f->path[n] = '\0';
	}
	if (r == 0 && errno)
		r = failed(f, "read");
	closedir(d);
	return r;
}

static int copy_layer(struct flatten *f, const char *layer)
{
	DAVIT_AUTO_CLOSE int from = open(layer, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;
	int r;

	if (from < 0 || fstat(from, &st) < 0)
		return davit_error_errno(f->err, errno, NULL, "cannot open %s", layer);
	f->path[0] = '\0';
	if (!f->root)
		(void)fchmod(f->to, 0700);
	r = copy_directory(f, from, f->to);
	if (r == 0)
		r = copy_metadata(f, from, f->to, &st);
	forget_links(f);
	return r;
}

static int flatten(struct davit_image_store *s, const struct davit_image *i, const char *part, const char *to,
		   struct davit_error *err)
{
	struct flatten *f = calloc(1, sizeof *f);
	int r = 0;

	if (!f)
		return image_oom(err);
	f->root = s->root;
	f->err = err;
	f->to = -1;
	if (image_tree_remove(AT_FDCWD, part) < 0 || mkdir(part, 0755) < 0 ||
	    (f->to = open(part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
		r = davit_error_errno(err, errno, NULL, "cannot make '%.200s'", part);
	for (size_t k = 0; r == 0 && k < i->n_layers; k++)
		r = copy_layer(f, i->layers[k]);
	if (r == 0 && rename(part, to) < 0)
		r = davit_error_errno(err, errno, NULL, "cannot make '%.200s'", to);
	if (r < 0 && f->to >= 0)
		(void)image_tree_remove(AT_FDCWD, part);
	davit_closep(&f->to);
	free(f);
	return r;
}

int davit_image_flatten(struct davit_image_store *s, const char *reference, const char *to,
			struct davit_error *err)
{
	DAVIT_AUTO_FREE char *part = NULL;
	IMAGE_AUTO_JOB j = IMAGE_JOB_NONE;
	struct davit_image *i = NULL;
	mode_t mask = umask(0);
	struct stat st;
	int r = 0;

	if (lstat(to, &st) == 0)
		r = davit_error_set(err, DAVIT_EEXIST, NULL, "'%.200s' is there already", to);
	else if (asprintf(&part, "%.*s.part", (int)(strlen(to) - (to[strlen(to) - 1] == '/')), to) < 0)
		r = image_oom(err);
	if (r == 0)
		r = image_job_hold(s, reference, &j, &i, err);
	if (r == 0)
		r = flatten(s, i, part, to, err);
	davit_image_free(i);
	umask(mask);
	return r;
}
