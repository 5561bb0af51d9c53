/* SPDX-License-Identifier: MIT
 *
 * Keeping the cache within its size.
 */
#include "source/cache.h"

#include "base/fault.h"
#include "base/file.h"
#include "base/strv.h"
#include "source/snapshot.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

/* Something that can be removed. */
struct candidate {
	char *name; /* hash of a source, key of a build */
	bool is_build;
	uint64_t bytes;
	struct timespec used;
};

struct collection {
	const struct davit_cache *cache;
	struct davit_error *err;
	struct candidate *v;
	size_t n;
	uint64_t total;
	char **running; /* directories and programs of processes that are in work/ */
	bool looked;	/* running was read */
};

static int no_memory(struct collection *k)
{
	return davit_error_set(k->err, DAVIT_ENOMEM, NULL, "out of memory");
}

/* Calls fn for each name in a directory of the cache, dots left out. */
static int each(struct collection *k, const char *dir, int (*fn)(struct collection *k, const char *name))
{
	DAVIT_AUTO_FREE char *path = davit_path_join(k->cache->root, dir);
	DIR *d = path ? opendir(path) : NULL;
	struct dirent *e;
	int r = 0;

	if (!path)
		return no_memory(k);
	if (!d)
		return davit_error_errno(k->err, errno, NULL, "cannot read %s", path);
	while (r == 0 && (e = readdir(d)))
		if (e->d_name[0] != '.')
			r = fn(k, e->d_name);
	closedir(d);
	return r;
}

/* --- what is in use --- */

static void look_at_process(struct collection *k, const char *pid, const char *prefix)
{
	static const char *const links[] = {"cwd", "exe"};
	char path[64], target[PATH_MAX];

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(links); i++) {
		ssize_t n;
		snprintf(path, sizeof path, "/proc/%.20s/%s", pid, links[i]);
		n = readlink(path, target, sizeof target - 1);
		if (n <= 0)
			continue;
		target[n] = '\0';
		if (!strncmp(target, prefix, strlen(prefix)) &&
		    davit_strv_add(&k->running, target + strlen(prefix)) < 0)
			return;
	}
}

/* Processes of this machine that run from the cache, whatever the references
 * say: an update under way, a service removed a moment ago. */
static void look_at_processes(struct collection *k)
{
	DAVIT_AUTO_FREE char *work = davit_path_join(k->cache->root, "work");
	DAVIT_AUTO_FREE char *real = work ? realpath(work, NULL) : NULL, *prefix = NULL;
	DIR *d = opendir("/proc");
	struct dirent *e;

	k->looked = true;
	if (d && real && asprintf(&prefix, "%s/", real) >= 0)
		while ((e = readdir(d)))
			if (isdigit((unsigned char)e->d_name[0]))
				look_at_process(k, e->d_name, prefix);
	if (d)
		closedir(d);
}

/* NAME.PID.tmp, which davit_write_file leaves when it is killed. */
static bool is_leftover(const char *name)
{
	size_t n = strlen(name);
	const char *dot = n > 4 && !strcmp(name + n - 4, ".tmp") ? memrchr(name, '.', n - 4) : NULL;
	pid_t writer = dot ? (pid_t)strtol(dot + 1, NULL, 10) : 0;

	return writer > 0 && kill(writer, 0) < 0 && errno == ESRCH;
}

static bool is_temporary(const char *name)
{
	size_t n = strlen(name);

	return n > 4 && !strcmp(name + n - 4, ".tmp");
}

/* Removes leftovers from dir and what is below it. */
static void clean(const char *dir, int depth)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		DAVIT_AUTO_FREE char *path = e->d_name[0] == '.' ? NULL : davit_path_join(dir, e->d_name);
		if (path && depth)
			clean(path, depth - 1);
		else if (path && is_leftover(e->d_name))
			unlink(path);
	}
	if (d)
		closedir(d);
}

/* Whether a file of the tree has a line that is the id. */
static bool refers(const char *dir, const char *id, int depth)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	bool found = false;

	while (d && !found && (e = readdir(d))) {
		DAVIT_AUTO_FREE char *path = NULL;
		DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
		if (e->d_name[0] == '.')
			continue;
		path = davit_path_join(dir, e->d_name);
		if (!path)
			found = true; /* rather keep too much */
		else if (depth)
			found = refers(path, id, depth - 1);
		else if (!is_temporary(e->d_name) && davit_read_file(path, 4096, &text, NULL) == 0)
			found = text.len && strstr(text.data, id);
	}
	if (d)
		closedir(d);
	return found;
}

static bool in_use(struct collection *k, const char *id)
{
	DAVIT_AUTO_FREE char *refs = davit_path_join(k->cache->root, "refs");
	size_t n = strlen(id);

	if (!refs || refers(refs, id, 2))
		return true;
	if (!k->looked)
		look_at_processes(k);
	for (char **p = k->running; p && *p; p++)
		if (!strncmp(*p, id, n) && ((*p)[n] == '/' || !(*p)[n]))
			return true;
	return false;
}

/* --- removing --- */

/* The lock, unless somebody has it; -1. */
static int try_lock(struct collection *k, const char *name)
{
	DAVIT_AUTO_FREE char *path = davit_cache_path(k->cache, "locks", name, "");
	DAVIT_AUTO_CLOSE int fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;

	return fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 ? -1 : DAVIT_TAKE_FD(fd);
}

static void drop_lock(struct collection *k, const char *name, int fd)
{
	DAVIT_AUTO_FREE char *path = davit_cache_path(k->cache, "locks", name, "");

	if (path)
		unlink(path);
	close(fd);
}

static void remove_tree(struct collection *k, const char *dir, const char *name)
{
	DAVIT_AUTO_FREE char *path = davit_cache_path(k->cache, dir, name, "");

	if (path)
		davit_remove_tree(path, NULL);
}

static bool is_result_of(struct collection *k, const char *id)
{
	DAVIT_AUTO_FREE char *path = davit_cache_path(k->cache, "work", id, "/key"), *json = NULL;
	DAVIT_AUTO_BUF key = DAVIT_BUF_INIT;
	bool same = false;
	json_t *o;

	if (!path || davit_read_file(path, 256, &key, NULL) < 0 || !key.len)
		return false;
	json = davit_cache_path(k->cache, "builds", key.data, ".json");
	o = json ? json_load_file(json, 0, NULL) : NULL;
	if (o) {
		const char *s = json_string_value(json_object_get(o, "id"));
		same = s && !strcmp(s, id);
	}
	json_decref(o);
	return same;
}

/* Of a build that made one; true when there is none (any more). */
static bool image_dropped(struct collection *k, const json_t *result)
{
	const char *runtime = json_string_value(json_object_get(result, "runtime"));
	const char *image = json_string_value(json_object_get(result, "image"));

	return !runtime || !image ||
	       (k->cache->drop_image && k->cache->drop_image(k->cache->user, runtime, image) == 0);
}

/* Of a build that was killed: the runtime may have its image, of which nobody has heard then. */
static bool unfinished_image_dropped(struct collection *k, const char *id)
{
	DAVIT_AUTO_FREE char *note = davit_cache_path(k->cache, "work", id, "/image"), *json = NULL;
	DAVIT_AUTO_FREE char *path = davit_cache_path(k->cache, "work", id, "/key");
	DAVIT_AUTO_BUF key = DAVIT_BUF_INIT;
	json_t *o = note ? json_load_file(note, 0, NULL) : NULL;
	bool dropped = true;
	int lock;

	if (!o || !path || davit_read_file(path, 256, &key, NULL) < 0 || !key.len) {
		json_decref(o);
		return true;
	}
	/* One that builds the same has the lock; one that has built it has the image. */
	lock = try_lock(k, key.data);
	json = davit_cache_path(k->cache, "builds", key.data, ".json");
	if (lock < 0 || !json)
		dropped = false;
	else if (access(json, F_OK) < 0)
		dropped = image_dropped(k, o);
	if (lock >= 0)
		drop_lock(k, key.data, lock);
	json_decref(o);
	return dropped;
}

/* A directory in work/ that a crash left, or whose result was replaced. */
static int collect_work(struct collection *k, const char *id)
{
	int lock;

	if (is_result_of(k, id))
		return 0;
	lock = try_lock(k, id);
	if (lock < 0)
		return 0;
	/* Again: it may have become a result before we had the lock. */
	if (!is_result_of(k, id) && !in_use(k, id) && unfinished_image_dropped(k, id))
		remove_tree(k, "work", id);
	drop_lock(k, id, lock);
	return 0;
}

static void evict(struct collection *k, const struct candidate *v)
{
	DAVIT_AUTO_FREE char *path =
		v->is_build ? davit_cache_path(k->cache, "builds", v->name, ".json") : NULL;
	int lock = try_lock(k, v->name);
	json_t *o = NULL;
	const char *id;

	if (lock < 0)
		return;
	if (path)
		o = json_load_file(path, 0, NULL);
	id = json_string_value(json_object_get(o, "id"));
	if (!v->is_build) {
		remove_tree(k, "sources", v->name);
		k->total -= v->bytes;
	} else if (id && !in_use(k, id) && image_dropped(k, o)) {
		unlink(path);
		DAVIT_FAULT("cache-evict");
		remove_tree(k, "work", id);
		k->total -= v->bytes;
	}
	json_decref(o);
	drop_lock(k, v->name, lock);
}

/* --- choosing --- */

static int add(struct collection *k, const char *name, size_t len, bool is_build, uint64_t bytes,
	       const struct timespec *used)
{
	struct candidate *v = realloc(k->v, (k->n + 1) * sizeof *v);

	if (!v)
		return no_memory(k);
	k->v = v;
	v[k->n] = (struct candidate){
		.name = strndup(name, len), .is_build = is_build, .bytes = bytes, .used = *used};
	if (!v[k->n].name)
		return no_memory(k);
	k->n++;
	k->total += bytes;
	return 0;
}

static int add_source(struct collection *k, const char *name)
{
	DAVIT_AUTO_FREE char *path = davit_cache_path(k->cache, "sources", name, "");
	struct stat st;

	if (!path || stat(path, &st) < 0)
		return 0;
	return add(k, name, strlen(name), false, davit_tree_usage(path), &st.st_mtim);
}

static int add_build(struct collection *k, const char *name)
{
	DAVIT_AUTO_FREE char *path = davit_cache_path(k->cache, "builds", name, "");
	size_t n = strlen(name);
	struct stat st;
	json_t *o;
	int r;

	if (n <= 5 || strcmp(name + n - 5, ".json") || !path || stat(path, &st) < 0)
		return 0;
	o = json_load_file(path, 0, NULL);
	/* What an image takes is not in the cache: nothing is won by keeping it. */
	if (json_object_get(o, "runtime")) {
		DAVIT_AUTO_FREE char *key = strndup(name, n - 5);
		if (key)
			evict(k, &(struct candidate){.name = key, .is_build = true});
	}
	r = o ? add(k, name, n - 5, true, (uint64_t)json_integer_value(json_object_get(o, "bytes")),
		    &st.st_mtim)
	      : 0;
	json_decref(o);
	return r;
}

/* The tools know best what to keep in their caches, so these go whole: when they
 * have grown to half of everything and no build uses them. */
static int collect_home(struct collection *k)
{
	DAVIT_AUTO_FREE char *home = davit_path_join(k->cache->root, "home");
	uint64_t bytes = home ? davit_tree_usage(home) : 0;
	int lock;

	if (!home)
		return no_memory(k);
	k->total += bytes;
	if (bytes <= k->cache->max / 2)
		return 0;
	lock = try_lock(k, "home");
	if (lock < 0)
		return 0;
	davit_remove_tree(home, NULL);
	k->total -= bytes - davit_tree_usage(home);
	drop_lock(k, "home", lock);
	return davit_mkdirs(home, 0700, k->err);
}

static int oldest_first(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	if (x->used.tv_sec != y->used.tv_sec)
		return x->used.tv_sec < y->used.tv_sec ? -1 : 1;
	return x->used.tv_nsec < y->used.tv_nsec ? -1 : x->used.tv_nsec > y->used.tv_nsec;
}

int davit_cache_collect(const struct davit_cache *c, struct davit_error *err)
{
	struct collection k = {.cache = c, .err = err};
	DAVIT_AUTO_FREE char *builds = davit_path_join(c->root, "builds"),
			     *refs = davit_path_join(c->root, "refs");
	int r;

	if (!builds || !refs)
		return no_memory(&k);
	clean(builds, 0);
	clean(refs, 2);
	r = each(&k, "work", collect_work);

	if (r == 0)
		r = each(&k, "sources", add_source);
	if (r == 0)
		r = each(&k, "builds", add_build);
	if (r == 0)
		r = collect_home(&k);
	if (r == 0 && k.n) {
		qsort(k.v, k.n, sizeof *k.v, oldest_first);
		for (size_t i = 0; i < k.n && k.total > c->max; i++)
			evict(&k, &k.v[i]);
	}
	for (size_t i = 0; i < k.n; i++)
		free(k.v[i].name);
	free(k.v);
	davit_strv_free(k.running);
	return r;
}
