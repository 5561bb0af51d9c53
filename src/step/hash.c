/* SPDX-License-Identifier: MIT */
#include "step/hash.h"

#include "step/copy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define THREADS_MAX 4
#define ALONE_ENTRIES 512     /* up to so many entries */
#define ALONE_BYTES (4 << 20) /* and so many bytes a thread more is not worth its start */

struct walk {
	struct step_tree *tree;
	struct davit_error *err;
	bool own;
	char path[PATH_MAX];
	size_t len;
	struct davit_map seen; /* directories on the way to names */
};

static int no_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

void step_hex(const uint8_t *bytes, size_t n, char *ret)
{
	sodium_bin2hex(ret, 2 * n + 1, bytes, n);
}

void step_tree_fini(struct step_tree *t)
{
	davit_region_fini(&t->names);
	free(t->entries);
	*t = (struct step_tree){0};
}

/* ------------------------------------------------------------------------------- the walk */

static int walk_directory(struct walk *w, int fd, unsigned depth);

static int add(struct walk *w, const struct stat *st)
{
	struct step_tree *t = w->tree;
	struct step_entry *e;

	if (t->n == t->cap) {
		size_t cap = t->cap ? 2 * t->cap : 64;
		struct step_entry *more = reallocarray(t->entries, cap, sizeof *more);
		if (!more)
			return no_memory(w->err);
		t->entries = more;
		t->cap = cap;
	}
	e = &t->entries[t->n];
	*e = (struct step_entry){
		.path = davit_region_strdup(&t->names, w->path),
		.mode = st->st_mode,
		.size = S_ISDIR(st->st_mode) ? 0 : (uint64_t)st->st_size,
		.changed = st->st_mtim,
	};
	if (!e->path)
		return no_memory(w->err);
	t->n++;
	t->bytes += S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0;
	return 0;
}

static int walk_entry(struct walk *w, int fd, const char *name, unsigned depth)
{
	DAVIT_AUTO_CLOSE int below = -1;
	struct stat st;
	int r;

	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return davit_error_errno(w->err, errno, NULL, "cannot read %s", w->path);
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode) && !S_ISLNK(st.st_mode)) {
		w->tree->skipped++;
		if (w->own && unlinkat(fd, name, 0) < 0)
			return davit_error_errno(w->err, errno, NULL, "cannot remove %s", w->path);
		return 0;
	}
	if (w->own && (st.st_uid != geteuid() || st.st_gid != getegid()) &&
	    (fchownat(fd, name, geteuid(), getegid(), AT_SYMLINK_NOFOLLOW) < 0 ||
	     /* a change of owner takes these bits away */
	     ((st.st_mode & 06000) && S_ISREG(st.st_mode) && fchmodat(fd, name, st.st_mode & 07777, 0) < 0)))
		return davit_error_errno(w->err, errno, NULL, "cannot own %s", w->path);
	r = add(w, &st);
	if (r < 0 || !S_ISDIR(st.st_mode))
		return r;
	if (depth >= STEP_DEPTH_MAX)
		return davit_error_set(w->err, DAVIT_EINVAL, NULL,
				       "more than %d directories within each other", STEP_DEPTH_MAX);
	below = step_open_anyway(fd, name, O_RDONLY | O_DIRECTORY, st.st_mode);
	if (below < 0)
		return davit_error_errno(w->err, errno, NULL, "cannot open %s", w->path);
	return walk_directory(w, below, depth + 1);
}

static int walk_directory(struct walk *w, int fd, unsigned depth)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	size_t before = w->len;
	struct dirent *d;
	DIR *dir;

	/* "." of a directory that forbids it was opened by who gave us fd. */
	if (copy < 0 && errno == EACCES)
		copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	dir = copy >= 0 ? fdopendir(copy) : NULL;
	if (!dir && copy >= 0)
		close(copy);
	if (!dir)
		return davit_error_errno(w->err, errno, NULL, "cannot read the directory %s", w->path);
	while (r == 0 && (errno = 0, d = readdir(dir))) {
		size_t n = strlen(d->d_name);

		if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, ".."))
			continue;
		if (before + n + 2 > sizeof w->path) {
			r = davit_error_set(w->err, DAVIT_EINVAL, NULL, "a path is longer than %d bytes",
					    PATH_MAX);
			break;
		}
		w->len = before + (size_t)sprintf(w->path + before, "%s%s", before ? "/" : "", d->d_name);
		r = walk_entry(w, fd, d->d_name, depth);
		w->len = before;
		w->path[before] = '\0';
	}
	if (r == 0 && errno)
		r = davit_error_errno(w->err, errno, NULL, "cannot read the directory %s", w->path);
	closedir(dir);
	return r;
}

/* A list can be older than the directory. */
static int gone(const struct walk *w, const char *name)
{
	return errno == ENOENT || errno == ENOTDIR
		       ? 0
		       : davit_error_errno(w->err, errno, NULL, "cannot read %s", name);
}

/* One that is asked for by its path: with the directories that it is in. */
static int walk_name(struct walk *w, int fd, const char *name)
{
	size_t n = strlen(name);
	struct stat st;
	int r = 0;

	if (n >= sizeof w->path)
		return davit_error_set(w->err, DAVIT_EINVAL, NULL, "a path is longer than %d bytes",
				       PATH_MAX);
	for (const char *slash = name; r == 0 && (slash = strchr(slash, '/')); slash++) {
		w->len = (size_t)(slash - name);
		memcpy(w->path, name, w->len);
		w->path[w->len] = '\0';
		if (davit_map_get(&w->seen, w->path)) /* neighbours share them */
			continue;
		if (fstatat(fd, w->path, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return gone(w, name);
		if (!S_ISDIR(st.st_mode))
			return 0;
		r = add(w, &st);
		if (r == 0 && davit_map_put(&w->seen, w->tree->entries[w->tree->n - 1].path, w) < 0)
			r = no_memory(w->err);
	}
	if (r < 0)
		return r;
	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return gone(w, name);
	memcpy(w->path, name, n + 1);
	w->len = n;
	return walk_entry(w, fd, name, 0);
}

static bool is_beneath(const char *name)
{
	for (;;) {
		size_t n = strcspn(name, "/");

		if (!n || (n == 1 && *name == '.') || (n == 2 && !strncmp(name, "..", 2)))
			return false;
		if (!name[n])
			return true;
		name += n + 1;
	}
}

static void drop_doubles(struct step_tree *t)
{
	size_t n = 0;

	step_tree_sort(t);
	for (size_t i = 0; i < t->n; i++)
		if (!n || strcmp(t->entries[n - 1].path, t->entries[i].path) != 0)
			t->entries[n++] = t->entries[i];
	t->n = n;
}

static int scan_names(struct walk *w, int fd, char *const *names)
{
	int r = 0;

	for (; r == 0 && *names; names++)
		r = is_beneath(*names)
			    ? walk_name(w, fd, *names)
			    : davit_error_set(w->err, DAVIT_EINVAL, NULL,
					      "'%.200s' is not a path within the directory", *names);
	drop_doubles(w->tree);
	davit_map_fini(&w->seen);
	return r;
}

int step_tree_list(int fd, char *const *names, struct step_tree *t, struct davit_error *err)
{
	struct walk *w = calloc(1, sizeof *w);
	int r;

	if (!w)
		return no_memory(err);
	w->tree = t;
	w->err = err;
	r = names ? scan_names(w, fd, names) : walk_directory(w, fd, 0);
	free(w);
	step_tree_sort(t);
	return r;
}

int step_tree_scan(int fd, bool own, struct step_tree *t, struct davit_error *err)
{
	struct walk *w = calloc(1, sizeof *w);
	int r;

	if (!w)
		return no_memory(err);
	w->tree = t;
	w->err = err;
	w->own = own;
	r = walk_directory(w, fd, 0);
	free(w);
	return r;
}

/* ------------------------------------------------------------------------------ contents */

bool step_tree_small(const struct step_tree *t)
{
	return t->n <= ALONE_ENTRIES && t->bytes <= ALONE_BYTES;
}

/* Neighbours are of one directory: a thread takes several, so that two do not wait for its lock. */
#define TURN 32

struct work {
	size_t turn;
	struct step_tree *tree;
	step_entry_fn *fn;
	void *user;
	atomic_size_t next;
	atomic_int failed;
	struct davit_error err; /* of the first that failed */
};

static void fail(struct work *w, int code, const struct davit_error *err)
{
	int none = 0;

	if (atomic_compare_exchange_strong(&w->failed, &none, code))
		davit_error_copy(&w->err, err);
}

static void *do_some(void *arg)
{
	struct work *w = arg;
	struct davit_error err = {0};
	char *buf = malloc(STEP_BLOCK);
	size_t i;
	int r = 0;

	if (!buf)
		r = no_memory(&err);
	while (r == 0 && !atomic_load(&w->failed) && (i = atomic_fetch_add(&w->next, w->turn)) < w->tree->n)
		for (size_t end = i + w->turn; r == 0 && i < end && i < w->tree->n; i++)
			r = w->fn(w->user, &w->tree->entries[i], buf, &err);
	if (r < 0)
		fail(w, r, &err);
	free(buf);
	return NULL;
}

int step_tree_each(struct step_tree *t, step_entry_fn *fn, void *user, struct davit_error *err)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	size_t more = cpus > THREADS_MAX ? THREADS_MAX - 1 : cpus > 1 ? (size_t)cpus - 1 : 0, n = 0;
	struct work w = {.tree = t, .fn = fn, .user = user};
	pthread_t threads[THREADS_MAX];
	int r;

	if (step_tree_small(t))
		more = 0;
	/* A few large files are not for one thread alone. */
	w.turn = t->n / (8 * (more + 1));
	w.turn = w.turn > TURN ? TURN : w.turn + !w.turn;
	while (n < more && pthread_create(&threads[n], NULL, do_some, &w) == 0)
		n++;
	do_some(&w);
	while (n)
		pthread_join(threads[--n], NULL);
	r = atomic_load(&w.failed);
	if (r < 0)
		davit_error_copy(err, &w.err);
	return r;
}

static int hash_file(int at, struct step_entry *e, char *buf, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd = step_open_anyway(at, e->path, O_RDONLY | O_NONBLOCK | O_NOCTTY, e->mode);
	crypto_generichash_state h;
	ssize_t n = -1;

	crypto_generichash_init(&h, NULL, 0, STEP_DIGEST);
	while (fd >= 0 && (n = DAVIT_EINTR(read(fd, buf, STEP_BLOCK))) > 0)
		crypto_generichash_update(&h, (const uint8_t *)buf, (unsigned long long)n);
	if (n < 0)
		return davit_error_errno(err, errno, NULL, "cannot read %s", e->path);
	crypto_generichash_final(&h, e->digest, STEP_DIGEST);
	return 0;
}

static int hash_link(int at, struct step_entry *e, char *buf, struct davit_error *err)
{
	ssize_t n = readlinkat(at, e->path, buf, STEP_BLOCK);

	if (n < 0)
		return davit_error_errno(err, errno, NULL, "cannot read %s", e->path);
	crypto_generichash(e->digest, STEP_DIGEST, (const uint8_t *)buf, (unsigned long long)n, NULL, 0);
	return 0;
}

static int hash_entry(void *user, struct step_entry *e, char *buf, struct davit_error *err)
{
	const int *at = user;

	return S_ISREG(e->mode)	  ? hash_file(*at, e, buf, err)
	       : S_ISLNK(e->mode) ? hash_link(*at, e, buf, err)
				  : 0;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct step_entry *)a)->path, ((const struct step_entry *)b)->path);
}

static void put_number(crypto_generichash_state *h, uint64_t v)
{
	uint8_t bytes[8];

	for (int i = 0; i < 8; i++)
		bytes[i] = (uint8_t)(v >> (8 * i));
	crypto_generichash_update(h, bytes, sizeof bytes);
}

/* The canonical form: for each entry, numbers in little endian of 8 bytes:
 * kind ('f', 'd', 'l'), permission bits, length of the path, path, size, digest. */
static void hash_tree(struct step_tree *t)
{
	uint8_t digest[STEP_DIGEST];
	crypto_generichash_state h;

	crypto_generichash_init(&h, NULL, 0, sizeof digest);
	for (size_t i = 0; i < t->n; i++) {
		const struct step_entry *e = &t->entries[i];
		size_t n = strlen(e->path);

		put_number(&h, S_ISREG(e->mode) ? 'f' : S_ISDIR(e->mode) ? 'd' : 'l');
		put_number(&h, S_ISLNK(e->mode) ? 0 : e->mode & 07777);
		put_number(&h, n);
		crypto_generichash_update(&h, (const uint8_t *)e->path, n);
		put_number(&h, e->size);
		crypto_generichash_update(&h, e->digest, sizeof e->digest);
	}
	crypto_generichash_final(&h, digest, sizeof digest);
	step_hex(digest, sizeof digest, t->id);
}

void step_tree_sort(struct step_tree *t)
{
	if (t->n)
		qsort(t->entries, t->n, sizeof *t->entries, by_path);
}

void step_tree_name(struct step_tree *t)
{
	step_tree_sort(t);
	hash_tree(t);
}

int step_tree_hash(int fd, struct step_tree *t, struct davit_error *err)
{
	int r;

	if (sodium_init() < 0)
		return davit_error_set(err, DAVIT_EINTERNAL, NULL, "libsodium cannot be initialised");
	r = step_tree_each(t, hash_entry, &fd, err);
	if (r == 0)
		step_tree_name(t);
	return r;
}

int step_tree_read(int fd, bool own, struct step_tree *t, struct davit_error *err)
{
	int r = step_tree_scan(fd, own, t, err);

	return r < 0 ? r : step_tree_hash(fd, t, err);
}
