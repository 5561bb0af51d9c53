/* SPDX-License-Identifier: MIT */
#include "source/cache.h"

#include "base/fault.h"
#include "base/file.h"
#include "base/util.h"
#include "source/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>

static int no_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

int davit_cache_open(struct davit_cache *c, const char *root, uint64_t max, struct davit_error *err)
{
	static const char *const dirs[] = {"sources", "work", "builds", "refs", "locks", "home"};
	int r = 0;

	for (size_t i = 0; r == 0 && i < DAVIT_ARRAY_SIZE(dirs); i++) {
		DAVIT_AUTO_FREE char *path = davit_path_join(root, dirs[i]);
		r = path ? davit_mkdirs(path, 0700, err) : no_memory(err);
	}
	if (r == 0)
		*c = (struct davit_cache){.root = root, .max = max};
	return r;
}

char *davit_cache_path(const struct davit_cache *c, const char *dir, const char *name, const char *suffix)
{
	char *path;

	return asprintf(&path, "%s/%s/%s%s", c->root, dir, name, suffix) < 0 ? NULL : path;
}

/* --- locks --- */

/* Whether fd is still the file of that name: who collects removes a lock's file
 * while holding it. */
static bool is_current(int fd, const char *path)
{
	struct stat a, b;

	return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

int davit_cache_lock(const struct davit_cache *c, const char *name, bool shared, int *ret_fd,
		     struct davit_error *err)
{
	int how = shared ? LOCK_SH : LOCK_EX;
	DAVIT_AUTO_FREE char *path = davit_cache_path(c, "locks", name, "");

	if (!path)
		return no_memory(err);
	for (;;) {
		DAVIT_AUTO_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		long r = fd < 0 ? -1 : flock(fd, how | LOCK_NB);
		if (r < 0 && fd >= 0 && errno == EWOULDBLOCK) {
			printf("waiting for another build of the same\n");
			fflush(stdout);
			r = DAVIT_EINTR(flock(fd, how));
		}
		if (r < 0)
			return davit_error_errno(err, errno, NULL, "cannot lock %s", path);
		if (is_current(fd, path)) {
			*ret_fd = DAVIT_TAKE_FD(fd);
			return 0;
		}
	}
}

/* --- work --- */

int davit_work_new(const struct davit_cache *c, struct davit_work *ret, struct davit_error *err)
{
	struct davit_work w = {.lock = -1};
	uint64_t id;
	int r;

	if (getrandom(&id, sizeof id, 0) != (ssize_t)sizeof id)
		return davit_error_errno(err, errno, NULL, "cannot get random bytes");
	snprintf(w.id, sizeof w.id, "%016" PRIx64, id);
	w.path = davit_cache_path(c, "work", w.id, "");
	if (!w.path)
		return no_memory(err);
	/* The lock comes first: a directory without one is collected. */
	r = davit_cache_lock(c, w.id, false, &w.lock, err);
	if (r == 0 && mkdir(w.path, 0755) < 0)
		r = davit_error_errno(err, errno, NULL, "cannot make %s", w.path);
	if (r < 0) {
		davit_work_end(c, &w, true);
		return r;
	}
	*ret = w;
	return 0;
}

void davit_work_end(const struct davit_cache *c, struct davit_work *w, bool keep)
{
	DAVIT_AUTO_FREE char *lock = davit_cache_path(c, "locks", w->id, "");

	if (w->path && !keep)
		davit_remove_tree(w->path, NULL);
	if (w->lock >= 0) {
		if (lock)
			unlink(lock);
		close(w->lock);
	}
	free(w->path);
	*w = (struct davit_work){.lock = -1};
}

/* --- builds --- */

json_t *davit_cache_lookup(const struct davit_cache *c, const char *key)
{
	DAVIT_AUTO_FREE char *path = davit_cache_path(c, "builds", key, ".json"), *work = NULL;
	json_t *o = path ? json_load_file(path, 0, NULL) : NULL;
	const char *id = json_string_value(json_object_get(o, "id"));

	work = id ? davit_cache_path(c, "work", id, "") : NULL;
	if (!work || access(work, F_OK) < 0) {
		json_decref(o);
		return NULL;
	}
	utimensat(AT_FDCWD, path, NULL, 0);
	return o;
}

int davit_cache_commit(const struct davit_cache *c, const char *key, const struct davit_work *w,
		       json_t *result, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *path = davit_cache_path(c, "builds", key, ".json"), *text = NULL;
	int r;

	if (!path || json_object_set_new(result, "id", json_string(w->id)) < 0 ||
	    json_object_set_new(result, "bytes", json_integer((json_int_t)davit_tree_usage(w->path))) < 0)
		return no_memory(err);
	text = json_dumps(result, JSON_INDENT(1));
	if (!text)
		return no_memory(err);
	DAVIT_FAULT("build-commit");
	r = davit_write_file(path, text, strlen(text), 0600, err);
	DAVIT_FAULT("build-committed");
	return r;
}

/* --- references --- */

/* A file name for any text: what a path gives a meaning is escaped, and so is the
 * end of a temporary file's name; what is too long is cut and told apart by its
 * hash. */
static char *file_name(const char *s)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	char hash[DAVIT_HASH_MAX];

	for (const char *p = s; *p; p++) {
		if (*p == '/' || *p == '%' || (*p == '.' && (p == s || !strcmp(p, ".tmp"))))
			davit_buf_addf(&b, "%%%02x", *p);
		else
			davit_buf_addc(&b, *p);
	}
	if (b.len > 200) {
		davit_hash_strings(hash, s, NULL);
		b.len = 100;
		davit_buf_adds(&b, hash);
	}
	return davit_buf_take(&b);
}

int davit_cache_refer(const struct davit_cache *c, const char *ns, const char *name, const char *version,
		      const char *id, char **ret_path, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *n = file_name(ns), *m = file_name(name), *v = file_name(version);
	DAVIT_AUTO_FREE char *dir = NULL, *path = NULL, *text = NULL;
	DAVIT_AUTO_BUF old = DAVIT_BUF_INIT;
	const char *before = "";
	int r;

	if (!n || !m || !v || asprintf(&dir, "%s/refs/%s/%s", c->root, n, m) < 0)
		return no_memory(err);
	path = davit_path_join(dir, v);
	if (!path)
		return no_memory(err);
	r = davit_mkdirs(dir, 0700, err);
	if (r < 0)
		return r;
	if (davit_read_file(path, 4096, &old, NULL) == 0 && old.len) {
		old.data[strcspn(old.data, "\n")] = '\0';
		if (!strcmp(old.data, id)) {
			*ret_path = DAVIT_TAKE(path);
			return 0;
		}
		before = old.data;
	}
	if (asprintf(&text, "%s\n%s\n", id, before) < 0) {
		text = NULL;
		return no_memory(err);
	}
	DAVIT_FAULT("cache-refer");
	r = davit_write_file(path, text, strlen(text), 0600, err);
	if (r == 0)
		*ret_path = DAVIT_TAKE(path);
	return r;
}
