/* SPDX-License-Identifier: MIT
 *
 * What nothing needs. Needed is what the manifests of the index name, what a hold
 * names, and what the job of a living process names. Under the lock it is only
 * moved aside; it is deleted with the job.
 */
#include "image/image_impl.h"

#include "base/fault.h"
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

struct collect {
	struct image_job *job;
	struct davit_buf lines; /* paths, a line each, whose text the map borrows */
	struct davit_map keep;
	struct davit_image_freed freed;
	struct davit_error *err;
};

/* Calls fn for each name in a directory of the store. */
static int each(struct collect *c, const char *dir, int (*fn)(struct collect *c, int dirfd, const char *name))
{
	int fd = openat(c->job->store->fd, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d) {
		davit_closep(&fd);
		return davit_error_errno(c->err, errno, NULL, "cannot read %s/%s", c->job->store->dir, dir);
	}
	while (r == 0 && (e = readdir(d)))
		if (e->d_name[0] != '.')
			r = fn(c, dirfd(d), e->d_name);
	closedir(d);
	return r;
}

static int keep_of(struct collect *c, const char *path)
{
	struct davit_error err;
	int r = davit_read_file(path, 64 << 20, &c->lines, &err);

	if (r == DAVIT_ENOENT)
		return 0;
	return r < 0 ? davit_error_copy(c->err, &err) : 0;
}

static int keep_hold(struct collect *c, int dirfd, const char *name)
{
	DAVIT_AUTO_FREE char *path = NULL;

	return asprintf(&path, "%s/holds/%s", c->job->store->dir, name) < 0 ? image_oom(c->err)
									    : keep_of(c, path);
}

/* A job that nobody locks is dead, and needs nothing; ours is locked by us. */
static int keep_job(struct collect *c, int dirfd, const char *name)
{
	DAVIT_AUTO_CLOSE int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DAVIT_AUTO_FREE char *path = NULL;

	if (fd < 0 || flock(fd, LOCK_SH | LOCK_NB) == 0)
		return 0;
	return asprintf(&path, "%s/tmp/%s/keep", c->job->store->dir, name) < 0 ? image_oom(c->err)
									       : keep_of(c, path);
}

static int keep_index(struct collect *c)
{
	IMAGE_AUTO_INDEX x = {0};
	int r = image_index_read(c->job->store, &x, c->err);

	for (size_t i = 0; r == 0 && i < x.n; i++)
		r = image_needs(c->job->store, x.entries[i].hex, &c->lines, c->err);
	return r;
}

static int make_map(struct collect *c)
{
	for (char *p = c->lines.data, *end; p && (end = strchr(p, '\n')); p = end + 1) {
		*end = '\0';
		if (davit_map_put(&c->keep, p, c) < 0)
			return image_oom(c->err);
	}
	return c->lines.oom ? image_oom(c->err) : 0;
}

static int sweep(struct collect *c, const char *path)
{
	char aside[16];

	image_job_name(c->job, aside);
	return renameat(c->job->store->fd, path, c->job->fd, aside) < 0 && errno != ENOENT
		       ? davit_error_errno(c->err, errno, NULL, "cannot remove %s/%s", c->job->store->dir,
					   path)
		       : 0;
}

static int sweep_blob(struct collect *c, int dirfd, const char *name)
{
	char path[300];
	struct stat st;

	snprintf(path, sizeof path, "blobs/sha256/%s", name);
	if (davit_map_get(&c->keep, path))
		return 0;
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		c->freed.bytes += (uint64_t)st.st_size;
	c->freed.blobs++;
	return sweep(c, path);
}

static int sweep_layer(struct collect *c, int dirfd, const char *name)
{
	char path[300];

	snprintf(path, sizeof path, "layers/%s", name);
	if (davit_map_get(&c->keep, path))
		return 0;
	c->freed.layers++;
	return sweep(c, path);
}

int image_collect(struct image_job *j, struct davit_image_freed *ret, struct davit_error *err)
{
	struct collect c = {.job = j, .err = err};
	int r = keep_index(&c);

	if (r == 0)
		r = each(&c, "holds", keep_hold);
	if (r == 0)
		r = each(&c, "tmp", keep_job);
	if (r == 0)
		r = make_map(&c);
	if (r == 0)
		r = each(&c, "layers", sweep_layer);
	if (r == 0)
		r = each(&c, "blobs/sha256", sweep_blob);
	if (r == 0 && ret) {
		ret->layers += c.freed.layers;
		ret->blobs += c.freed.blobs;
		ret->bytes += c.freed.bytes;
	}
	davit_map_fini(&c.keep);
	davit_buf_fini(&c.lines);
	return r;
}

int davit_image_gc(struct davit_image_store *s, struct davit_image_freed *ret, struct davit_error *err)
{
	struct davit_image_freed freed = {0};
	IMAGE_AUTO_JOB j = IMAGE_JOB_NONE;
	int r = image_job_begin(s, &j, err);

	if (r == 0)
		r = image_store_lock(s, err);
	if (r < 0)
		return r;
	r = image_collect(&j, &freed, err);
	image_store_unlock(s);
	if (r == 0)
		*ret = freed;
	return r;
}

/* --- references --- */

/* A last name that goes takes the image with it: not one that is in use. */
static int check_unused(struct image_job *j, const char *reference, const char *hex, struct davit_error *err)
{
	char holder[IMAGE_NAME_MAX + 1];
	size_t n = 0;
	int r = image_holder(j->store, hex, holder, &n, err);

	if (r < 0 || !n)
		return r;
	return davit_error_set(err, DAVIT_EINUSE, NULL, "image '%.200s' is in use by %s%s", reference, holder,
			       n > 1 ? " and others" : "");
}

/* An ID stands for all references to the image, a name for itself. */
static int remove_locked(struct image_job *j, const char *reference, bool force,
			 struct davit_image_freed *ret, struct davit_error *err)
{
	IMAGE_AUTO_INDEX x = {0};
	char hex[IMAGE_HEX];
	size_t at, left = 0;
	bool by_id;
	int r = image_index_read(j->store, &x, err);

	if (r == 0)
		r = image_index_find(j->store, &x, reference, &at, &by_id, err);
	if (r < 0)
		return r;
	memcpy(hex, x.entries[at].hex, sizeof hex);
	if (!by_id)
		image_index_drop(&x, at);
	for (size_t i = x.n; i-- > 0;) {
		bool same = !strcmp(x.entries[i].hex, hex);
		if (same && by_id)
			image_index_drop(&x, i);
		left += same && !by_id;
	}
	if (!left && !force)
		r = check_unused(j, reference, hex, err);
	if (r == 0)
		r = image_index_write(j->store, &x, err);
	DAVIT_FAULT("image-remove");
	ret->images += !left;
	return r == 0 ? image_collect(j, ret, err) : r;
}

int davit_image_remove(struct davit_image_store *s, const char *reference, bool force,
		       struct davit_image_freed *ret, struct davit_error *err)
{
	struct davit_image_freed freed = {0};
	IMAGE_AUTO_JOB j = IMAGE_JOB_NONE;
	int r = image_job_begin(s, &j, err);

	if (r == 0)
		r = image_store_lock(s, err);
	if (r < 0)
		return r;
	r = remove_locked(&j, reference, force, &freed, err);
	image_store_unlock(s);
	if (r == 0)
		*ret = freed;
	return r;
}

int davit_image_tag(struct davit_image_store *s, const char *from, const char *to, struct davit_error *err)
{
	char full[DAVIT_REFERENCE_MAX];
	IMAGE_AUTO_INDEX x = {0};
	size_t at;
	bool by_id;
	int r = davit_reference_normalise(to, full, err);

	if (r == 0 && strchr(full, '@'))
		r = davit_error_set(err, DAVIT_EINVAL, "reference",
				    "'%.200s' has a digest: a new name is NAME[:TAG]", to);
	if (r == 0)
		r = image_store_lock(s, err);
	if (r < 0)
		return r;
	r = image_index_read(s, &x, err);
	if (r == 0)
		r = image_index_find(s, &x, from, &at, &by_id, err);
	if (r == 0) {
		struct image_entry e = x.entries[at];
		r = image_index_set(&x, full, &e, err);
	}
	if (r == 0)
		r = image_index_write(s, &x, err);
	image_store_unlock(s);
	return r;
}
