/* SPDX-License-Identifier: MIT
 *
 * Holds: a file for each container. Its lines are what gc must leave: the first
 * is "REFERENCE DIGEST", the others are paths in the store.
 */
#include "image/image_impl.h"

#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static int check_id(const char *id, struct davit_error *err)
{
	size_t n = strlen(id);

	for (size_t i = 0; i < n; i++) {
		char c = id[i];
		bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			  (i && (c == '_' || c == '.' || c == '-'));
		if (!ok)
			n = 0;
	}
	return n && n <= IMAGE_NAME_MAX
		       ? 0
		       : davit_error_set(
				 err, DAVIT_EINVAL, "id",
				 "'%.160s' is no container's id: at most 128 letters, digits, '_', '.', '-'",
				 id);
}

static int hold_locked(struct davit_image_store *s, const char *id, const char *reference, bool durable,
		       struct davit_image **ret, struct davit_error *err)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_image *i = NULL;
	char path[IMAGE_NAME_MAX + 16];
	int r = davit_image_resolve(s, reference, &i, err);

	if (r < 0)
		return r;
	davit_buf_addf(&b, "%s %s\n", i->reference, i->digest);
	r = image_needs(s, i->digest + 7, &b, err);
	snprintf(path, sizeof path, "holds/%s", id);
	if (r == 0)
		r = image_store_write(s, path, b.data, b.len, durable, err);
	if (r == 0 && ret)
		*ret = DAVIT_TAKE(i);
	davit_image_free(i);
	return r;
}

int davit_image_hold(struct davit_image_store *s, const char *id, const char *reference, bool durable,
		     struct davit_image **ret, struct davit_error *err)
{
	int r = check_id(id, err);

	if (r == 0)
		r = image_store_lock(s, err);
	if (r < 0)
		return r;
	r = hold_locked(s, id, reference, durable, ret, err);
	image_store_unlock(s);
	return r;
}

int davit_image_release(struct davit_image_store *s, const char *id, struct davit_error *err)
{
	char path[IMAGE_NAME_MAX + 16];
	int r = check_id(id, err);

	if (r < 0)
		return r;
	snprintf(path, sizeof path, "holds/%s", id);
	return unlinkat(s->fd, path, 0) < 0 && errno != ENOENT
		       ? davit_error_errno(err, errno, NULL, "cannot remove %s/%s", s->dir, path)
		       : 0;
}

static int tell(struct davit_image_store *s, const char *id,
		int (*fn)(void *user, const char *id, const char *reference, const char *digest), void *user,
		struct davit_error *err)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	DAVIT_AUTO_FREE char *path = NULL;
	char *space, *end;
	int r;

	if (asprintf(&path, "%s/holds/%s", s->dir, id) < 0)
		return image_oom(err);
	r = davit_read_file(path, IMAGE_JSON_MAX, &b, err);
	if (r == DAVIT_ENOENT)
		return 0; /* released meanwhile */
	if (r < 0)
		return r;
	if (!b.len)
		return 0; /* not durable, and the machine went down: so did what needed it */
	end = b.data ? strchr(b.data, '\n') : NULL;
	space = b.data ? strchr(b.data, ' ') : NULL;
	if (!end || !space || space > end)
		return davit_error_set(err, DAVIT_ECORRUPT, NULL, "%s is damaged", path);
	*space = *end = '\0';
	return fn(user, id, b.data, space + 1);
}

int davit_image_holds(struct davit_image_store *s,
		      int (*fn)(void *user, const char *id, const char *reference, const char *digest),
		      void *user, struct davit_error *err)
{
	int fd = openat(s->fd, "holds", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d) {
		davit_closep(&fd);
		return davit_error_errno(err, errno, NULL, "cannot read %s/holds", s->dir);
	}
	while (r == 0 && (e = readdir(d)))
		if (e->d_name[0] != '.')
			r = tell(s, e->d_name, fn, user, err);
	closedir(d);
	return r;
}

struct seek_holder {
	const char *hex;
	char *id;
	size_t n;
};

static int is_holder(void *user, const char *id, const char *reference, const char *digest)
{
	struct seek_holder *h = user;

	if (!strcmp(digest + strlen("sha256:"), h->hex) && !h->n++)
		snprintf(h->id, IMAGE_NAME_MAX + 1, "%s", id);
	return 0;
}

int image_holder(struct davit_image_store *s, const char *hex, char id[IMAGE_NAME_MAX + 1], size_t *ret_n,
		 struct davit_error *err)
{
	struct seek_holder h = {.hex = hex, .id = id};
	int r = davit_image_holds(s, is_holder, &h, err);

	*ret_n = h.n;
	return r;
}
