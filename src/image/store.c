/* SPDX-License-Identifier: MIT
 *
 * The directory, its lock, and the places where work is done.
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
#include <sys/random.h>
#include <sys/stat.h>

static const char layout[] = "{\"imageLayoutVersion\":\"1.0.0\"}";
static const char nothing[] =
	"{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\","
	"\"manifests\":[]}\n";

/* --- opening --- */

static int make(struct davit_image_store *s, struct davit_error *err)
{
	static const char *const directories[] = {"blobs", "blobs/sha256", "layers", "holds", "tmp"};
	int r;

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(directories); i++)
		if (mkdirat(s->fd, directories[i], 0700) < 0 && errno != EEXIST)
			return davit_error_errno(err, errno, NULL, "cannot make %s/%s", s->dir,
						 directories[i]);
	if (image_store_has(s, "oci-layout") && image_store_has(s, "index.json"))
		return 0;
	r = image_store_lock(s, err);
	if (r < 0)
		return r;
	if (!image_store_has(s, "index.json"))
		r = image_store_write(s, "index.json", nothing, sizeof nothing - 1, true, err);
	if (r == 0 && !image_store_has(s, "oci-layout"))
		r = image_store_write(s, "oci-layout", layout, sizeof layout - 1, true, err);
	image_store_unlock(s);
	return r;
}

static int open_parts(struct davit_image_store *s, struct davit_error *err)
{
	s->fd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->fd < 0)
		return davit_error_errno(err, errno, NULL, "cannot open %s", s->dir);
	s->lock = openat(s->fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->lock < 0)
		return davit_error_errno(err, errno, NULL, "cannot open %s/lock", s->dir);
	return make(s, err);
}

int davit_image_store_open(const char *dir, struct davit_image_store **ret, struct davit_error *err)
{
	struct davit_image_store *s;
	int r;

	if (sodium_init() < 0)
		return davit_error_set(err, DAVIT_EINTERNAL, NULL, "libsodium does not work here");
	r = davit_mkdirs(dir, 0700, err);
	if (r < 0)
		return r;
	s = calloc(1, sizeof *s);
	if (!s)
		return image_oom(err);
	s->fd = s->lock = -1;
	s->root = geteuid() == 0;
	s->dir = realpath(dir, NULL);
	r = s->dir ? open_parts(s, err) : davit_error_errno(err, errno, NULL, "cannot open %s", dir);
	if (r < 0)
		davit_image_store_close(s);
	else
		*ret = s;
	return r;
}

void davit_image_store_close(struct davit_image_store *s)
{
	if (!s)
		return;
	davit_closep(&s->lock);
	davit_closep(&s->fd);
	free(s->dir);
	free(s);
}

/* --- lock and files --- */

int image_store_lock(struct davit_image_store *s, struct davit_error *err)
{
	return DAVIT_EINTR(flock(s->lock, LOCK_EX)) < 0
		       ? davit_error_errno(err, errno, NULL, "cannot lock %s", s->dir)
		       : 0;
}

void image_store_unlock(struct davit_image_store *s)
{
	flock(s->lock, LOCK_UN);
}

bool image_store_has(struct davit_image_store *s, const char *path)
{
	return faccessat(s->fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

char *image_blob_path(const char *hex, char path[96])
{
	snprintf(path, 96, "blobs/sha256/%s", hex);
	return path;
}

char *image_layer_path(const char *hex, char path[96])
{
	snprintf(path, 96, "layers/%s", hex);
	return path;
}

/* The directory that holds path, so that a rename in it is durable. */
static int sync_parent(struct davit_image_store *s, const char *path)
{
	const char *slash = strrchr(path, '/');
	DAVIT_AUTO_FREE char *dir = slash ? strndup(path, (size_t)(slash - path)) : strdup(".");
	DAVIT_AUTO_CLOSE int fd = -1;

	if (!dir) {
		errno = ENOMEM;
		return -1;
	}
	fd = openat(s->fd, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -1 : fsync(fd);
}

/* The name in tmp is always the same: writers hold the lock. */
int image_store_write(struct davit_image_store *s, const char *path, const void *data, size_t n, bool durable,
		      struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd =
		openat(s->fd, "tmp/write", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0 || davit_write_full(fd, data, n) < 0 || (durable && fsync(fd) < 0))
		return davit_error_errno(err, errno, NULL, "cannot write %s/%s", s->dir, path);
	DAVIT_FAULT("image-write");
	if (renameat(s->fd, "tmp/write", s->fd, path) < 0 || (durable && sync_parent(s, path) < 0))
		return davit_error_errno(err, errno, NULL, "cannot replace %s/%s", s->dir, path);
	return 0;
}

int image_store_blob(struct davit_image_store *s, const char *hex, struct davit_buf *out,
		     struct davit_error *err)
{
	DAVIT_AUTO_FREE char *full = NULL;
	char path[96], is[IMAGE_HEX];
	size_t from = out->len;
	int r;

	full = davit_path_join(s->dir, image_blob_path(hex, path));
	if (!full)
		return image_oom(err);
	r = davit_read_file(full, IMAGE_JSON_MAX, out, err);
	if (r < 0)
		return r;
	image_hash_of(davit_buf_str(out) + from, out->len - from, is);
	return strcmp(is, hex)
		       ? davit_error_set(err, DAVIT_ECORRUPT, NULL,
					 "%s is damaged: its content has the digest sha256:%s", full, is)
		       : 0;
}

/* --- jobs --- */

#define DEAD_MAX 64 /* claimed at one time; the next job takes the rest */

/* Locks what dead processes left, and removes what needs no lock. How many. */
static int claim_dead(struct davit_image_store *s, char names[DEAD_MAX][48], int fds[DEAD_MAX], size_t *ret,
		      struct davit_error *err)
{
	int tmp = openat(s->fd, "tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *e;
	DIR *d;

	*ret = 0;
	d = tmp < 0 ? NULL : fdopendir(tmp);
	if (!d) {
		davit_closep(&tmp);
		return davit_error_errno(err, errno, NULL, "cannot read %s/tmp", s->dir);
	}
	while (*ret < DEAD_MAX && (e = readdir(d))) {
		int fd;
		if (e->d_name[0] == '.')
			continue;
		fd = openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0) {
			unlinkat(dirfd(d), e->d_name, 0);
		} else if (strlen(e->d_name) < 48 && flock(fd, LOCK_EX | LOCK_NB) == 0) {
			unlinkat(fd, "keep", 0); /* the dead need nothing */
			strcpy(names[*ret], e->d_name);
			fds[(*ret)++] = fd;
		} else {
			close(fd);
		}
	}
	closedir(d);
	return 0;
}

static int make_job(struct davit_image_store *s, struct image_job *j, struct davit_error *err)
{
	unsigned long long x = 0;
	char path[64];

	*j = (struct image_job){.store = s, .fd = -1};
	if (getrandom(&x, sizeof x, 0) != sizeof x)
		return davit_error_errno(err, errno, NULL, "no random numbers");
	snprintf(j->name, sizeof j->name, "%d-%016llx", (int)getpid(), x);
	snprintf(path, sizeof path, "tmp/%s", j->name);
	if (mkdirat(s->fd, path, 0700) < 0)
		return davit_error_errno(err, errno, NULL, "cannot make %s/%s", s->dir, path);
	j->fd = openat(s->fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (j->fd < 0 || flock(j->fd, LOCK_EX | LOCK_NB) < 0)
		return davit_error_errno(err, errno, NULL, "cannot lock %s/%s", s->dir, path);
	return 0;
}

/* A job is made, and a dead one claimed, under the lock: between mkdir and flock
 * nobody looks. What a dead process had moved in already, without the index, is
 * collected before its directory, the sign that there is something, goes. */
int image_job_begin(struct davit_image_store *s, struct image_job *ret, struct davit_error *err)
{
	struct image_job j = IMAGE_JOB_NONE;
	char names[DEAD_MAX][48];
	int fds[DEAD_MAX];
	size_t n = 0;
	int r = image_store_lock(s, err);

	if (r < 0)
		return r;
	r = claim_dead(s, names, fds, &n, err);
	if (r == 0)
		r = make_job(s, &j, err);
	if (r == 0 && n > 0)
		(void)image_collect(&j, NULL, NULL); /* a damaged image must not stop its repair */
	image_store_unlock(s);
	for (size_t i = 0; i < n; i++) {
		char path[64];
		snprintf(path, sizeof path, "tmp/%s", names[i]);
		if (r == 0 && image_tree_remove(s->fd, path) < 0)
			r = davit_error_errno(err, errno, NULL, "cannot remove %s/%s", s->dir, path);
		close(fds[i]);
	}
	if (r < 0)
		image_job_end(&j);
	else
		*ret = j;
	return r;
}

/* What cannot be removed now is removed by the next job. */
void image_job_end(struct image_job *j)
{
	char path[64];

	if (j->fd < 0)
		return;
	snprintf(path, sizeof path, "tmp/%s", j->name);
	(void)image_tree_remove(j->store->fd, path);
	davit_closep(&j->fd);
	j->fd = -1;
}

void image_job_name(struct image_job *j, char name[16])
{
	snprintf(name, 16, "%u", j->next++);
}

int image_job_file(struct image_job *j, char name[16], struct davit_error *err)
{
	int fd;

	image_job_name(j, name);
	fd = openat(j->fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		davit_error_errno(err, errno, NULL, "cannot make a file in %s/tmp", j->store->dir);
	return fd;
}

int image_job_write(struct image_job *j, const void *data, size_t n, char name[16], struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd = image_job_file(j, name, err);

	if (fd < 0)
		return err && err->code ? err->code : DAVIT_EIO;
	return davit_write_full(fd, data, n) < 0
		       ? davit_error_errno(err, errno, NULL, "cannot write to %s/tmp", j->store->dir)
		       : 0;
}

int image_job_keep(struct image_job *j, const struct davit_buf *lines, struct davit_error *err)
{
	char name[16];
	int r;

	if (lines->oom)
		return image_oom(err);
	r = image_store_lock(j->store, err);
	if (r < 0)
		return r;
	r = image_job_write(j, davit_buf_str(lines), lines->len, name, err);
	if (r == 0 && renameat(j->fd, name, j->fd, "keep") < 0)
		r = davit_error_errno(err, errno, NULL, "cannot write to %s/tmp", j->store->dir);
	image_store_unlock(j->store);
	return r;
}

int image_job_hold(struct davit_image_store *s, const char *reference, struct image_job *ret,
		   struct davit_image **ret_image, struct davit_error *err)
{
	DAVIT_AUTO_BUF lines = DAVIT_BUF_INIT;
	struct davit_image *i = NULL;
	int r = image_job_begin(s, ret, err);

	if (r == 0)
		r = davit_image_resolve(s, reference, &i, err);
	if (r == 0)
		r = image_needs(s, i->digest + strlen("sha256:"), &lines, err);
	if (r == 0)
		r = image_job_keep(ret, &lines, err);
	/* Whoever removed it before that is seen now, whoever comes later keeps it. */
	for (size_t k = 0; r == 0 && k < i->n_layers; k++)
		if (access(i->layers[k], F_OK) < 0)
			r = davit_error_errno(err, errno, NULL, "%s", i->layers[k]);
	if (r < 0)
		davit_image_free(i);
	else
		*ret_image = i;
	return r;
}
