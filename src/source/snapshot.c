/* SPDX-License-Identifier: MIT */
#include "source/snapshot.h"

#include "base/file.h"
#include "base/util.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define DEPTH_MAX 128

_Static_assert(DAVIT_HASH_MAX == 2 * crypto_generichash_BYTES + 1, "a hash in digits");

struct walk {
	crypto_generichash_state hash;
	const struct davit_ignore *ignore;
	uint64_t max;
	struct davit_snapshot *out;
	struct davit_error *err;
	char path[PATH_MAX]; /* of the present entry, from the root of the tree */
	char buf[65536];
};

static void hash_finish(crypto_generichash_state *h, char ret[DAVIT_HASH_MAX])
{
	unsigned char raw[crypto_generichash_BYTES];

	crypto_generichash_final(h, raw, sizeof raw);
	sodium_bin2hex(ret, DAVIT_HASH_MAX, raw, sizeof raw);
}

static void hash_bytes(crypto_generichash_state *h, const void *p, size_t n)
{
	crypto_generichash_update(h, p, n);
}

static void hash_number(crypto_generichash_state *h, uint64_t n)
{
	n = htole64(n);
	hash_bytes(h, &n, sizeof n);
}

static void hash_part(crypto_generichash_state *h, const char *s)
{
	hash_number(h, strlen(s));
	hash_bytes(h, s, strlen(s));
}

void davit_hash_strings(char ret[DAVIT_HASH_MAX], const char *first, ...)
{
	crypto_generichash_state h;
	va_list ap;

	crypto_generichash_init(&h, NULL, 0, crypto_generichash_BYTES);
	va_start(ap, first);
	for (const char *s = first; s; s = va_arg(ap, const char *))
		hash_part(&h, s);
	va_end(ap);
	hash_finish(&h, ret);
}

static int failed(struct walk *w, const char *what)
{
	return davit_error_errno(w->err, errno, "source", "cannot %s '%s'", what, w->path);
}

static int count(struct walk *w, uint64_t bytes)
{
	w->out->bytes += bytes;
	if (w->out->bytes > w->max)
		return davit_error_set(w->err, DAVIT_ENOSPC, "source",
				       "the source has more than %llu bytes, the size of the cache",
				       (unsigned long long)w->max);
	return 0;
}

/* What is known of an entry before its content. */
static void hash_head(struct walk *w, char kind, uint64_t size)
{
	hash_bytes(&w->hash, &kind, 1);
	hash_part(&w->hash, w->path);
	hash_number(&w->hash, size);
	w->out->files++;
}

/* The length is hashed behind the bytes: a file may grow while it is read. */
static int file(struct walk *w, int from, int to, const char *name)
{
	DAVIT_AUTO_CLOSE int in =
		openat(from, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	DAVIT_AUTO_CLOSE int out = -1;
	uint64_t total = 0;
	struct stat st;
	ssize_t n;
	int r;

	if (in < 0 || fstat(in, &st) < 0)
		return failed(w, "open");
	if (to >= 0) {
		out = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
			     (st.st_mode & 0777) | 0600);
		if (out < 0)
			return failed(w, "copy");
	}
	hash_head(w, st.st_mode & 0111 ? 'x' : 'f', 0);
	while ((n = DAVIT_EINTR(read(in, w->buf, sizeof w->buf))) > 0) {
		hash_bytes(&w->hash, w->buf, (size_t)n);
		total += (uint64_t)n;
		r = count(w, (uint64_t)n);
		if (r < 0)
			return r;
		if (to >= 0 && davit_write_full(out, w->buf, (size_t)n) < 0)
			return failed(w, "copy");
	}
	if (n < 0)
		return failed(w, "read");
	hash_number(&w->hash, total);
	/* make looks at times: what was newer stays newer. */
	if (to >= 0 && futimens(out, (struct timespec[]){st.st_atim, st.st_mtim}) < 0)
		return failed(w, "copy");
	return 0;
}

static int link_entry(struct walk *w, int from, int to, const char *name)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(from, name, target, sizeof target - 1);

	if (n < 0)
		return failed(w, "read");
	target[n] = '\0';
	hash_head(w, 'l', (uint64_t)n);
	hash_bytes(&w->hash, target, (size_t)n);
	if (to >= 0 && symlinkat(target, to, name) < 0)
		return failed(w, "copy");
	return count(w, (uint64_t)n);
}

static int directory(struct walk *w, int from, int to, int depth);

/* `always`: also when nothing in it is taken. The path of what is in it stands for
 * the directory in the hash as well. */
static int subdirectory(struct walk *w, int from, int to, const char *name, bool always, int depth)
{
	DAVIT_AUTO_CLOSE int in = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DAVIT_AUTO_CLOSE int out = -1;
	uint32_t before;
	int r;

	if (in < 0)
		return failed(w, "open");
	if (depth >= DEPTH_MAX)
		return davit_error_set(w->err, DAVIT_ESOURCE, "source",
				       "'%s' is more than %d directories deep", w->path, DEPTH_MAX);
	if (always)
		hash_head(w, 'd', 0);
	if (to >= 0) {
		if (mkdirat(to, name, 0755) < 0)
			return failed(w, "copy");
		out = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (out < 0)
			return failed(w, "copy");
	}
	before = w->out->files;
	r = directory(w, in, out, depth + 1);
	if (r == 0 && to >= 0 && !always && w->out->files == before && unlinkat(to, name, AT_REMOVEDIR) < 0)
		return failed(w, "copy");
	return r;
}

static int entry(struct walk *w, int from, int to, const char *name, int depth)
{
	enum davit_ignore_answer ignored = DAVIT_IGNORE_NO;
	size_t len = strlen(w->path);
	struct stat st;
	int r = 0;

	if ((size_t)snprintf(w->path + len, sizeof w->path - len, "%s%s", len ? "/" : "", name) >=
	    sizeof w->path - len) {
		errno = ENAMETOOLONG;
		return failed(w, "copy");
	}
	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		r = failed(w, "look at");
	else if (w->ignore)
		ignored = davit_ignore_ask(w->ignore, w->path, S_ISDIR(st.st_mode));
	if (r < 0 || ignored == DAVIT_IGNORE_YES)
		;
	else if (S_ISDIR(st.st_mode))
		r = subdirectory(w, from, to, name, ignored == DAVIT_IGNORE_NO, depth);
	else if (S_ISREG(st.st_mode))
		r = file(w, from, to, name);
	else if (S_ISLNK(st.st_mode))
		r = link_entry(w, from, to, name);
	w->path[len] = '\0';
	return r;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int directory(struct walk *w, int from, int to, int depth)
{
	struct dirent **names = NULL;
	int n = scandirat(from, ".", &names, NULL, by_name), r = 0;

	if (n < 0)
		return failed(w, "read");
	for (int i = 0; i < n; i++) {
		const char *name = names[i]->d_name;
		if (r == 0 && strcmp(name, ".") && strcmp(name, ".."))
			r = entry(w, from, to, name, depth);
		free(names[i]);
	}
	free(names);
	return r;
}

static int walk_root(struct walk *w, const char *from, int to)
{
	DAVIT_AUTO_FREE char *parent = NULL;
	DAVIT_AUTO_CLOSE int fd = -1;
	const char *slash = strrchr(from, '/');
	struct stat st;

	if (stat(from, &st) < 0)
		return davit_error_errno(w->err, errno, "source", "cannot look at '%s'", from);
	if (S_ISDIR(st.st_mode)) {
		fd = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		return fd < 0 ? davit_error_errno(w->err, errno, "source", "cannot open '%s'", from)
			      : directory(w, fd, to, 0);
	}
	parent = slash ? strndup(from, (size_t)(slash - from) + 1) : strdup(".");
	if (!parent)
		return davit_error_set(w->err, DAVIT_ENOMEM, NULL, "out of memory");
	fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return davit_error_errno(w->err, errno, "source", "cannot open '%s'", parent);
	return entry(w, fd, to, slash ? slash + 1 : from, 0);
}

int davit_snapshot_take(const char *from, const char *to, const struct davit_ignore *ignore, uint64_t max,
			struct davit_snapshot *ret, struct davit_error *err)
{
	DAVIT_AUTO_FREE struct walk *w = calloc(1, sizeof *w);
	DAVIT_AUTO_CLOSE int fd = -1;
	struct davit_snapshot out = {0};
	int r;

	if (!w)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	w->ignore = ignore;
	w->max = max;
	w->out = &out;
	w->err = err;
	crypto_generichash_init(&w->hash, NULL, 0, crypto_generichash_BYTES);
	if (to) {
		if (mkdir(to, 0755) < 0)
			return davit_error_errno(err, errno, NULL, "cannot make '%s'", to);
		fd = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			return davit_error_errno(err, errno, NULL, "cannot open '%s'", to);
	}
	r = walk_root(w, from, fd);
	if (r < 0)
		return r;
	hash_finish(&w->hash, out.hash);
	*ret = out;
	return 0;
}

/* nftw has no argument for its function. */
static _Thread_local uint64_t usage;

static int add_usage(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)path;
	(void)ftw;
	if (type != FTW_NS)
		usage += (uint64_t)st->st_blocks * 512;
	return 0;
}

uint64_t davit_tree_usage(const char *path)
{
	usage = 0;
	nftw(path, add_usage, 16, FTW_PHYS);
	return usage;
}
