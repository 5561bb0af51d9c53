/* SPDX-License-Identifier: MIT
 *
 * What the store holds, and what has to go.
 */
#include "step/store.h"

#include "base/file.h"
#include "base/map.h"
#include "base/strv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

struct item {
	struct davit_kept kept;
	char key[STEP_KEY_MAX];
	struct step_meta meta;
};

struct items {
	struct item *v;
	size_t n, cap;
};

static int add(struct items *all, struct davit_artifacts *s, enum davit_kept_kind kind, const char *key)
{
	char path[STEP_KEY_MAX + 24];
	DAVIT_AUTO_CLOSE int fd = -1;
	struct item *i;
	struct stat st;

	if (strlen(key) >= STEP_KEY_MAX)
		return 0;
	snprintf(path, sizeof path, "%s/%s/meta", step_kind_names[kind], key);
	fd = openat(s->fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) < 0)
		return 0;
	if (all->n == all->cap) {
		size_t cap = all->cap ? 2 * all->cap : 32;
		struct item *more = reallocarray(all->v, cap, sizeof *more);
		if (!more)
			return -1;
		all->v = more;
		all->cap = cap;
	}
	i = &all->v[all->n++];
	*i = (struct item){.kept.kind = kind};
	snprintf(i->key, sizeof i->key, "%s", key);
	step_meta_read(fd, &i->meta);
	i->kept.bytes = i->meta.bytes;
	i->kept.entries = i->meta.entries;
	i->kept.used = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
	i->kept.in_use = flock(fd, LOCK_EX | LOCK_NB) < 0;
	return 0;
}

static int by_use(const void *a, const void *b)
{
	int64_t x = ((const struct item *)a)->kept.used, y = ((const struct item *)b)->kept.used;

	return x < y ? -1 : x > y;
}

/* ----------------------------------------------------------------------------- runs
 * A run of a plan needs what it has named also while no process holds it, for its host may be dead just now
 * (src/run/run.h): as long as there is a list, what is in it is in use. */

#define HOLDS_MAX ((size_t)64 << 20)

static void mark_listed(const struct davit_map *trees, const char *path)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	char id[STEP_KEY_MAX];

	if (davit_read_file(path, HOLDS_MAX, &b, NULL) < 0)
		return;
	for (const char *p = davit_buf_str(&b); *p; p += strcspn(p, "\n"), p += *p == '\n') {
		struct item *i;

		snprintf(id, sizeof id, "%.*s", (int)strcspn(p, "\n"), p);
		i = davit_map_get(trees, id);
		if (i)
			i->kept.in_use = true;
	}
}

static int mark_held(struct davit_artifacts *s, struct items *all, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *runs = davit_path_join(s->paths.state, "runs");
	DIR *dir = runs ? opendir(runs) : NULL;
	struct davit_map trees = {0};
	struct dirent *d;
	int r = 0;

	for (size_t i = 0; dir && r == 0 && i < all->n; i++)
		if (all->v[i].kept.kind == DAVIT_KEPT_TREE)
			r = davit_map_put(&trees, all->v[i].key, &all->v[i]);
	while (dir && r == 0 && (d = readdir(dir))) {
		DAVIT_AUTO_FREE char *path = NULL;

		if (d->d_name[0] == '.')
			continue;
		r = asprintf(&path, "%s/%s/holds", runs, d->d_name) < 0 ? (path = NULL, DAVIT_ENOMEM) : 0;
		if (r == 0)
			mark_listed(&trees, path);
	}
	if (dir)
		closedir(dir);
	davit_map_fini(&trees);
	return r < 0 ? davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory") : 0;
}

/* Everything, the least recently used first. The store must be locked. */
static int gather(struct davit_artifacts *s, struct items *all, struct davit_error *err)
{
	for (int kind = 0; kind < STEP_KINDS; kind++) {
		int fd = openat(s->fd, step_kind_names[kind], O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
		DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
		struct dirent *d;

		if (!dir)
			return davit_error_errno(err, errno, NULL, "cannot read %s/%s", s->directory,
						 step_kind_names[kind]);
		while (r == 0 && (d = readdir(dir)))
			if (d->d_name[0] != '.')
				r = add(all, s, (enum davit_kept_kind)kind, d->d_name);
		closedir(dir);
		if (r < 0)
			return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	if (all->n)
		qsort(all->v, all->n, sizeof *all->v, by_use);
	for (size_t i = 0; i < all->n; i++) { /* they have moved */
		all->v[i].kept.id = all->v[i].key;
		all->v[i].kept.name = all->v[i].meta.name[0] ? all->v[i].meta.name : NULL;
	}
	return mark_held(s, all, err);
}

int davit_artifacts_list(struct davit_artifacts *s, int (*fn)(void *user, const struct davit_kept *k),
			 void *user, struct davit_error *err)
{
	struct items all = {0};
	int r = step_store_lock(s, err);

	if (r < 0)
		return r;
	r = gather(s, &all, err);
	step_store_unlock(s);
	for (size_t i = 0; r == 0 && i < all.n; i++)
		r = fn(user, &all.v[i].kept);
	free(all.v);
	return r;
}

static void say(davit_collected_fn *fn, void *user, const struct item *i, bool removed, const char *why)
{
	char text[160];
	int64_t age = (int64_t)time(NULL) - i->kept.used / 1000000000;

	if (!fn)
		return;
	if (removed)
		snprintf(text, sizeof text, "not used for %" PRId64 "%s, and %s",
			 age < 86400 ? age / 60 : age / 86400, age < 86400 ? " minutes" : " days", why);
	else
		snprintf(text, sizeof text, "%s", why);
	fn(user, &i->kept, removed, text);
}

int step_make_room(struct davit_artifacts *s, uint64_t bytes, davit_collected_fn *fn, void *user,
		   char ***swept, uint64_t *ret_left, struct davit_error *err)
{
	struct items all = {0};
	uint64_t total = 0;
	int r = gather(s, &all, err);

	for (size_t i = 0; i < all.n; i++)
		total += all.v[i].kept.bytes;
	/* What was lost by a crash between a rename and this number is found here. */
	step_total_add(s, (int64_t)(total - step_total(s)));
	for (size_t i = 0; r == 0 && i < all.n; i++) {
		struct item *it = &all.v[i];
		char name[80];

		if (it->kept.in_use) {
			say(fn, user, it, false, "it is in use");
		} else if (bytes && total <= bytes) {
			say(fn, user, it, false, "there is room for it");
		} else {
			r = step_discard(s, it->kept.kind, it->key, it->kept.bytes, name, err);
			if (r == 0 && davit_strv_add(swept, name) < 0)
				r = davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
			total -= it->kept.bytes;
			if (r == 0)
				say(fn, user, it, true, "the store had to become smaller");
		}
	}
	free(all.v);
	*ret_left = total;
	return r;
}

int davit_artifacts_collect(struct davit_artifacts *s, uint64_t bytes, davit_collected_fn *fn, void *user,
			    uint64_t *ret_left, struct davit_error *err)
{
	DAVIT_AUTO_STRV swept = NULL;
	uint64_t left = 0;
	int r = step_store_lock(s, err);

	if (r < 0)
		return r;
	r = step_make_room(s, bytes, fn, user, &swept, &left, err);
	step_store_unlock(s);
	for (char **p = swept; p && *p; p++)
		step_sweep(s, *p);
	if (r == 0 && ret_left)
		*ret_left = left;
	return r;
}

static int remove_item(struct davit_artifacts *s, const struct items *all, const char *id, char name[80],
		       struct davit_error *err)
{
	const struct item *found = NULL;
	size_t n = strlen(id);

	for (size_t i = 0; n >= 8 && i < all->n; i++) {
		if (strncmp(all->v[i].key, id, n) != 0)
			continue;
		if (found)
			return davit_error_set(err, DAVIT_EINVAL, NULL,
					       "more than one artifact begins with %s", id);
		found = &all->v[i];
	}
	if (!found)
		return davit_error_set(err, DAVIT_ENOENT, NULL, "there is no artifact or cache %.80s%s", id,
				       n < 8 ? " (8 or more digits of its id are needed)" : "");
	if (found->kept.in_use)
		return davit_error_set(err, DAVIT_EINUSE, NULL, "%s is in use", found->key);
	return step_discard(s, found->kept.kind, found->key, found->kept.bytes, name, err);
}

int davit_artifacts_remove(struct davit_artifacts *s, const char *id, struct davit_error *err)
{
	struct items all = {0};
	char name[80];
	int r = step_store_lock(s, err);

	if (r < 0)
		return r;
	r = gather(s, &all, err);
	if (r == 0)
		r = remove_item(s, &all, id, name, err);
	step_store_unlock(s);
	free(all.v);
	if (r == 0)
		step_sweep(s, name);
	return r;
}
