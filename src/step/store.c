/* SPDX-License-Identifier: MIT
 *
 * A store's directory: opening it, its lock, work under way, names that appear and go.
 */
#include "step/execution.h"

#include "base/fault.h"
#include "base/file.h"
#include "base/strv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>

#define STEP_FORMAT "1"

/* The kernel writes back what is older than this by itself: then it costs little to be sure. */
#define SETTLE_AFTER 60 /* seconds */

const char *const step_kind_names[] = {
	[DAVIT_KEPT_TREE] = "trees",
	[DAVIT_KEPT_CACHE] = "caches",
	[DAVIT_KEPT_RESULT] = "results",
};

int step_store_lock(struct davit_artifacts *s, struct davit_error *err)
{
	pthread_mutex_lock(&s->mutex);
	if (DAVIT_EINTR(flock(s->lock, LOCK_EX)) == 0)
		return 0;
	pthread_mutex_unlock(&s->mutex);
	return davit_error_errno(err, errno, NULL, "cannot lock %s", s->directory);
}

void step_store_unlock(struct davit_artifacts *s)
{
	flock(s->lock, LOCK_UN);
	pthread_mutex_unlock(&s->mutex);
}

/* --------------------------------------------------------------------------- small files */

static ssize_t read_small(int at, const char *name, char *buf, size_t size)
{
	DAVIT_AUTO_CLOSE int fd = openat(at, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, size - 1);

	buf[n > 0 ? n : 0] = '\0';
	return n;
}

static int write_small(struct davit_artifacts *s, const char *name, const char *text, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd =
		openat(s->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0 || davit_write_full(fd, text, strlen(text)) < 0)
		return davit_error_errno(err, errno, NULL, "cannot write %s/%s", s->directory, name);
	return 0;
}

int step_note_id(struct davit_artifacts *s, const char *name, const char *id, struct davit_error *err)
{
	return write_small(s, name, id, err);
}

bool step_read_id(struct davit_artifacts *s, const char *name, char ret[DAVIT_ARTIFACT_ID_MAX])
{
	return read_small(s->fd, name, ret, DAVIT_ARTIFACT_ID_MAX) == DAVIT_ARTIFACT_ID_MAX - 1;
}

uint64_t step_total(struct davit_artifacts *s)
{
	char text[32];

	return read_small(s->fd, "total", text, sizeof text) > 0 ? strtoull(text, NULL, 10) : 0;
}

void step_total_add(struct davit_artifacts *s, int64_t bytes)
{
	uint64_t total = step_total(s);
	char text[32];

	total = bytes < 0 && (uint64_t)-bytes > total ? 0 : total + (uint64_t)bytes;
	snprintf(text, sizeof text, "%" PRIu64, total);
	/* What is lost here is found again by the next collection, which counts. */
	write_small(s, "total", text, NULL);
}

int step_meta_write(int fd, const struct step_meta *m, struct davit_error *err)
{
	char text[640];
	int n = snprintf(text, sizeof text, "%" PRIu64 " %" PRIu64 " %" PRIu64 "\n%s\n", m->bytes, m->entries,
			 m->skipped, m->name);

	if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)n, 0) != n)
		return davit_error_errno(err, errno, NULL, "cannot write the sizes of what is stored");
	return 0;
}

void step_meta_read(int fd, struct step_meta *m)
{
	char text[640], *name, *end;
	ssize_t n = pread(fd, text, sizeof text - 1, 0);

	*m = (struct step_meta){0};
	text[n > 0 ? n : 0] = '\0';
	if (sscanf(text, "%" SCNu64 " %" SCNu64 " %" SCNu64, &m->bytes, &m->entries, &m->skipped) != 3)
		return;
	name = strchr(text, '\n');
	end = name ? strchr(name + 1, '\n') : NULL;
	if (end)
		snprintf(m->name, sizeof m->name, "%.*s", (int)(end - name - 1), name + 1);
}

/* -------------------------------------------------------------------------------- opening */

static void boot_id(char *buf, size_t size)
{
	if (read_small(AT_FDCWD, "/proc/sys/kernel/random/boot_id", buf, size) <= 0)
		snprintf(buf, size, "unknown");
}

/* Calls fn with each name in a directory of the store, but for those with a dot. */
static void each(struct davit_artifacts *s, const char *directory,
		 void (*fn)(struct davit_artifacts *s, const char *directory, const char *name))
{
	int fd = openat(s->fd, directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *d;

	while (dir && (d = readdir(dir)))
		if (d->d_name[0] != '.')
			fn(s, directory, d->d_name);
	if (dir)
		closedir(dir);
	else if (fd >= 0)
		close(fd);
}

/* Is the lock of a directory free? Then whoever made it is dead. */
static bool abandoned(struct davit_artifacts *s, const char *directory, const char *name, const char *lock)
{
	char path[400];
	DAVIT_AUTO_CLOSE int fd = -1;

	snprintf(path, sizeof path, "%s/%s/%s", directory, name, lock);
	fd = openat(s->fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 || flock(fd, LOCK_EX | LOCK_NB) == 0;
}

static void sweep_abandoned(struct davit_artifacts *s, const char *directory, const char *name)
{
	char path[400];

	bool run = !strcmp(directory, "runs");

	if (!abandoned(s, directory, name, run ? "lock" : "meta"))
		return;
	if (run)
		step_sweep_killed(s, name);
	snprintf(path, sizeof path, "%s/%s", directory, name);
	davit_remove_at(s->fd, path);
}

/* What a run that is over has not forgotten is forgotten for it, after a long time. */
#define DURABLE_AGE (30 * 86400)

static void sweep_run(struct davit_artifacts *s, const char *directory, const char *name)
{
	char path[400];
	struct stat st;

	snprintf(path, sizeof path, "%s/%s/lock", directory, name);
	if (fstatat(s->fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_size <= STEP_LOCK_ORDER ||
	    time(NULL) - st.st_mtime > DURABLE_AGE)
		sweep_abandoned(s, directory, name);
}

static void drop_unsettled(struct davit_artifacts *s, const char *directory, const char *id)
{
	char path[400];

	snprintf(path, sizeof path, "trees/%s", id);
	davit_remove_at(s->fd, path);
	snprintf(path, sizeof path, "%s/%s", directory, id);
	unlinkat(s->fd, path, 0);
}

static void forget_unsettled(struct davit_artifacts *s, const char *directory, const char *id)
{
	char path[400];

	snprintf(path, sizeof path, "%s/%s", directory, id);
	unlinkat(s->fd, path, 0);
}

/* Makes sure that what came in is on the disk. Blocks. */
static int settle(struct davit_artifacts *s, struct davit_error *err)
{
	int r;

	if (syncfs(s->fd) < 0)
		return davit_error_errno(err, errno, NULL, "cannot write %s to the disk", s->directory);
	r = step_store_lock(s, err);
	if (r < 0)
		return r;
	each(s, "unsettled", forget_unsettled);
	step_store_unlock(s);
	return 0;
}

/* A store without a number is of the first format, which is this. With the lock held. */
static int check_format(struct davit_artifacts *s, struct davit_error *err)
{
	char text[32];
	long format;

	if (read_small(s->fd, "format", text, sizeof text) <= 0)
		return write_small(s, "format", STEP_FORMAT, err);
	format = strtol(text, NULL, 10);
	return format == strtol(STEP_FORMAT, NULL, 10)
		       ? 0
		       : davit_error_set(err, DAVIT_ENOTSUP, NULL,
					 "%s has the format %ld, and this davit knows " STEP_FORMAT
					 " only: another version has made it",
					 s->directory, format);
}

/* With the lock held. */
static int recover(struct davit_artifacts *s, struct davit_error *err)
{
	char now[64], then[64];
	int r = 0;

	boot_id(now, sizeof now);
	if (read_small(s->fd, "boot", then, sizeof then) >= 0 && strcmp(now, then) != 0)
		each(s, "unsettled", drop_unsettled);
	if (strcmp(now, then) != 0)
		r = write_small(s, "boot", now, err);
	each(s, "tmp", sweep_abandoned);
	each(s, "runs", sweep_run);
	return r;
}

/* ext4 puts what is made below a directory beside it, and there passes over every inode that was freed
 * during the last minutes, one by one: in a store, which frees thousands, each new file costs the more. Below
 * one that is marked so, each subdirectory gets a place of its own, far from the others. */
static void spread(int at, const char *name)
{
	DAVIT_AUTO_CLOSE int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	int flags;

	/* Where there is no such mark, there is no such cost. */
	if (fd < 0 || ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0 || (flags & FS_TOPDIR_FL))
		return;
	flags |= FS_TOPDIR_FL;
	ioctl(fd, FS_IOC_SETFLAGS, &flags);
}

static int make_directories(struct davit_artifacts *s, struct davit_error *err)
{
	static const char *const names[] = {"trees", "caches", "results", "tmp", "runs", "unsettled"};
	struct stat st;
	int r = davit_mkdirs(s->directory, 0700, err);

	if (r < 0)
		return r;
	s->fd = open(s->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->fd < 0 || fstat(s->fd, &st) < 0)
		return davit_error_errno(err, errno, NULL, "cannot open %s", s->directory);
	if (st.st_uid != geteuid())
		return davit_error_set(err, DAVIT_EPERM, NULL, "%s belongs to another user", s->directory);
	if ((st.st_mode & 077) && fchmod(s->fd, 0700) < 0)
		return davit_error_errno(err, errno, NULL, "cannot protect %s", s->directory);
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(names); i++)
		if (mkdirat(s->fd, names[i], 0700) < 0 && errno != EEXIST)
			return davit_error_errno(err, errno, NULL, "cannot make %s/%s", s->directory,
						 names[i]);
	spread(s->fd, "tmp"); /* everything is made there or in runs, and moved where it stays */
	spread(s->fd, "runs");
	s->lock = openat(s->fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->lock < 0)
		return davit_error_errno(err, errno, NULL, "cannot open %s/lock", s->directory);
	return 0;
}

static int open_store(struct davit_artifacts *s, const char *directory, struct davit_error *err)
{
	struct stat st;
	int r = davit_paths_init(&s->paths, err);

	if (r < 0)
		return r;
	s->directory = directory ? strdup(directory) : davit_path_join(s->paths.cache, "steps");
	if (!s->directory)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (s->directory[0] != '/')
		return davit_error_set(err, DAVIT_EINVAL, NULL, "%s is not an absolute path", s->directory);
	if (sodium_init() < 0)
		return davit_error_set(err, DAVIT_EINTERNAL, NULL, "libsodium cannot be initialised");
	r = make_directories(s, err);
	if (r == 0)
		r = step_store_lock(s, err);
	if (r < 0)
		return r;
	r = check_format(s, err);
	if (r == 0)
		r = recover(s, err);
	step_store_unlock(s);
	if (r == 0 && fstatat(s->fd, "unsettled", &st, 0) == 0 && st.st_nlink &&
	    st.st_mtime < time(NULL) - SETTLE_AFTER) {
		r = settle(s, err);
		utimensat(s->fd, "unsettled", NULL, 0);
	}
	return r;
}

int davit_artifacts_open(const char *directory, uint64_t ceiling, struct davit_artifacts **ret,
			 struct davit_error *err)
{
	struct davit_artifacts *s = calloc(1, sizeof *s);
	int r;

	if (!s)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	s->fd = s->lock = -1;
	s->ceiling = ceiling ? ceiling : DAVIT_ARTIFACTS_CEILING_DEFAULT;
	pthread_mutex_init(&s->mutex, NULL);
	r = open_store(s, directory, err);
	if (r < 0) {
		davit_artifacts_close(s);
		return r;
	}
	*ret = s;
	return 0;
}

void davit_artifacts_close(struct davit_artifacts *s)
{
	if (!s)
		return;
	if (s->has_cgroups)
		cgroups_fini(&s->cgroups);
	if (s->lock >= 0)
		close(s->lock);
	if (s->fd >= 0)
		close(s->fd);
	pthread_mutex_destroy(&s->mutex);
	davit_paths_fini(&s->paths);
	free(s->directory);
	free(s);
}

/* --------------------------------------------------------------------------------- names */

static void random_name(char *buf, size_t size, const char *prefix)
{
	uint8_t bytes[12];
	char hex[2 * sizeof bytes + 1];

	randombytes_buf(bytes, sizeof bytes);
	step_hex(bytes, sizeof bytes, hex);
	snprintf(buf, size, "%s%s", prefix, hex);
}

int step_work_begin(struct davit_artifacts *s, struct step_work *w, struct davit_error *err)
{
	int r = step_store_lock(s, err);

	if (r < 0)
		return r;
	random_name(w->name, sizeof w->name, "tmp/");
	if (mkdirat(s->fd, w->name, 0700) == 0)
		w->fd = openat(s->fd, w->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (w->fd >= 0)
		w->meta = openat(w->fd, "meta", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (w->meta < 0 || flock(w->meta, LOCK_SH | LOCK_NB) < 0)
		r = davit_error_errno(err, errno, NULL, "cannot begin work in %s/tmp", s->directory);
	step_store_unlock(s);
	if (r < 0)
		step_work_end(s, w);
	return r;
}

void step_work_end(struct davit_artifacts *s, struct step_work *w)
{
	if (w->name[0])
		step_sweep(s, w->name);
	if (w->meta >= 0)
		close(w->meta);
	if (w->fd >= 0)
		close(w->fd);
	*w = (struct step_work)STEP_WORK_INIT;
}

void step_sweep(struct davit_artifacts *s, const char *name)
{
	/* What cannot be removed now will be tried again when the store is opened. */
	davit_remove_at(s->fd, name);
}

int step_publish(struct davit_artifacts *s, struct step_work *w, enum davit_kept_kind kind, const char *key,
		 const struct step_meta *m, struct davit_error *err)
{
	char to[STEP_KEY_MAX + 16], mark[STEP_KEY_MAX + 16];
	DAVIT_AUTO_STRV swept = NULL;
	uint64_t left = step_total(s);
	int r = 0;

	if (m->bytes > s->ceiling)
		return davit_error_set(err, DAVIT_ENOSPC, NULL,
				       "%" PRIu64 " bytes are more than the store may hold (%" PRIu64 ")",
				       m->bytes, s->ceiling);
	if (left + m->bytes > s->ceiling)
		r = step_make_room(s, s->ceiling - m->bytes, NULL, NULL, &swept, &left, err);
	for (char **p = swept; p && *p; p++)
		step_sweep(s, *p);
	if (r == 0 && left + m->bytes > s->ceiling)
		return davit_error_set(err, DAVIT_ENOSPC, NULL,
				       "the store has no room for %" PRIu64
				       " bytes: what is in use takes %" PRIu64 " of its %" PRIu64,
				       m->bytes, left, s->ceiling);
	if (r == 0)
		r = step_meta_write(w->meta, m, err);
	if (r < 0)
		return r;
	if (kind == DAVIT_KEPT_TREE) {
		snprintf(mark, sizeof mark, "unsettled/%s", key);
		r = write_small(s, mark, "", err);
		if (r < 0)
			return r;
	}
	DAVIT_FAULT("step-publish");
	snprintf(to, sizeof to, "%s/%s", step_kind_names[kind], key);
	if (renameat(s->fd, w->name, s->fd, to) < 0)
		return davit_error_errno(err, errno, NULL, "cannot store %s/%s", s->directory, to);
	w->name[0] = '\0';
	DAVIT_FAULT("step-published");
	step_total_add(s, (int64_t)m->bytes);
	return 0;
}

int step_take(struct davit_artifacts *s, enum davit_kept_kind kind, const char *key, int lock, int *ret_fd,
	      struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd = -1;
	char path[STEP_KEY_MAX + 24];

	snprintf(path, sizeof path, "%s/%s/meta", step_kind_names[kind], key);
	fd = openat(s->fd, path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && errno == ENOENT)
		return davit_error_set(err, DAVIT_ENOENT, NULL, "there is no artifact %s", key);
	if (fd < 0)
		return davit_error_errno(err, errno, NULL, "cannot open %s/%s", s->directory, path);
	if (flock(fd, lock | LOCK_NB) < 0)
		return davit_error_set(err, DAVIT_EINUSE, NULL, "%s is in use", key);
	futimens(fd, NULL);
	*ret_fd = DAVIT_TAKE_FD(fd);
	return 0;
}

int step_discard(struct davit_artifacts *s, enum davit_kept_kind kind, const char *key, uint64_t bytes,
		 char ret_name[80], struct davit_error *err)
{
	char from[STEP_KEY_MAX + 16], mark[STEP_KEY_MAX + 16];

	random_name(ret_name, 80, "tmp/gone-");
	snprintf(from, sizeof from, "%s/%s", step_kind_names[kind], key);
	if (renameat(s->fd, from, s->fd, ret_name) < 0)
		return davit_error_errno(err, errno, NULL, "cannot remove %s/%s", s->directory, from);
	snprintf(mark, sizeof mark, "unsettled/%s", key);
	unlinkat(s->fd, mark, 0);
	step_total_add(s, -(int64_t)bytes);
	return 0;
}
