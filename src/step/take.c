/* SPDX-License-Identifier: MIT */
#include "step/take.h"

#include "base/file.h"
#include "step/copy.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define CLONE_MIN (64 * 1024) /* below that, blocks that are shared save nothing */

struct taking {
	int from, to;
	mode_t mask;	      /* what the kernel takes off the mode of a new file */
	atomic_bool no_clone; /* this file system shares no blocks */
};

/* It cannot be asked for without being changed, for a moment, for all threads. */
static mode_t umask_of_process(void)
{
	char line[256];
	unsigned mask = 0777;
	FILE *f = fopen("/proc/self/status", "re");

	while (f && fgets(line, sizeof line, f) && sscanf(line, "Umask: %o", &mask) != 1)
		;
	if (f)
		fclose(f);
	return mask;
}

static bool clone_blocks(struct taking *k, int in, int out, off_t size)
{
	if (size < CLONE_MIN || atomic_load(&k->no_clone))
		return false;
	if (ioctl(out, FICLONE, in) == 0)
		return true;
	atomic_store(&k->no_clone, true);
	return false;
}

/* What is to be done with what is read. */
enum carry { CARRY_WRITE, CARRY_HOLES, CARRY_HASH };

static int put(int out, enum carry how, const char *buf, size_t n)
{
	return how == CARRY_WRITE   ? davit_write_full(out, buf, n)
	       : how == CARRY_HOLES ? step_write_sparse(out, buf, n)
				    : 0;
}

/* Reads and hashes `size` bytes, or less if there are no more, and writes them. */
static int carry(int in, int out, enum carry how, uint64_t size, struct step_entry *e, char *buf)
{
	crypto_generichash_state h;
	ssize_t n;

	crypto_generichash_init(&h, NULL, 0, STEP_DIGEST);
	for (e->size = 0; e->size < size; e->size += (uint64_t)n) {
		uint64_t left = size - e->size;

		n = DAVIT_EINTR(read(in, buf, left < STEP_BLOCK ? (size_t)left : STEP_BLOCK));
		if (n < 0 || (n > 0 && put(out, how, buf, (size_t)n) < 0))
			return errno;
		if (n == 0)
			break;
		crypto_generichash_update(&h, (const uint8_t *)buf, (unsigned long long)n);
	}
	crypto_generichash_final(&h, e->digest, STEP_DIGEST);
	return how == CARRY_HOLES && ftruncate(out, (off_t)e->size) < 0 ? errno : 0;
}

static int open_file(int at, const char *path)
{
	int fd = openat(at, path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd >= 0 || errno != EACCES || fstatat(at, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return fd;
	return step_open_anyway(at, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, st.st_mode);
}

static int take_file(struct taking *k, struct step_entry *e, char *buf)
{
	DAVIT_AUTO_CLOSE int in = open_file(k->from, e->path);
	DAVIT_AUTO_CLOSE int out = -1;
	struct timespec times[2];
	enum carry how;
	struct stat st;
	bool plain;
	int error;

	if (in < 0 || fstat(in, &st) < 0)
		return errno;
	if (!S_ISREG(st.st_mode))
		return EBUSY; /* it has become something else */
	e->mode = st.st_mode;
	plain = !(e->mode & 07000) && !(e->mode & 0777 & k->mask);
	out = openat(k->to, e->path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		     plain ? e->mode & 0777 : 0600);
	if (out < 0)
		return errno;
	/* A clone is read: what has changed in the original meanwhile is not in it. */
	how = clone_blocks(k, in, out, st.st_size) ? CARRY_HASH
	      : step_has_holes(&st)		   ? CARRY_HOLES
						   : CARRY_WRITE;
	error = carry(how == CARRY_HASH ? out : in, out, how, (uint64_t)st.st_size, e, buf);
	if (error)
		return error;
	e->changed = st.st_mtim;
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	return (!plain && fchmod(out, e->mode & 07777) < 0) || futimens(out, times) < 0 ? errno : 0;
}

static int take_link(struct taking *k, struct step_entry *e, char *buf)
{
	const struct timespec times[] = {{.tv_nsec = UTIME_OMIT}, e->changed};
	ssize_t n = readlinkat(k->from, e->path, buf, PATH_MAX);

	if (n < 0)
		return errno;
	buf[n] = '\0';
	e->size = (uint64_t)n;
	crypto_generichash(e->digest, STEP_DIGEST, (const uint8_t *)buf, (unsigned long long)n, NULL, 0);
	return symlinkat(buf, k->to, e->path) < 0 || utimensat(k->to, e->path, times, AT_SYMLINK_NOFOLLOW) < 0
		       ? errno
		       : 0;
}

static int take_entry(void *user, struct step_entry *e, char *buf, struct davit_error *err)
{
	int error = S_ISREG(e->mode)   ? take_file(user, e, buf)
		    : S_ISLNK(e->mode) ? take_link(user, e, buf)
				       : 0;

	return error ? davit_error_errno(err, error, NULL, "cannot copy %s", e->path) : 0;
}

/* Parents come before what is in them. */
static int make_directories(int to, const struct step_tree *t, struct davit_error *err)
{
	for (size_t i = 0; i < t->n; i++)
		if (S_ISDIR(t->entries[i].mode) && mkdirat(to, t->entries[i].path, 0700) < 0)
			return davit_error_errno(err, errno, NULL, "cannot make %s", t->entries[i].path);
	return 0;
}

/* And after that, so that one which forbids everything stops nobody. */
static int finish_directories(int to, const struct step_tree *t, struct davit_error *err)
{
	for (size_t i = t->n; i-- > 0;) {
		const struct step_entry *e = &t->entries[i];
		const struct timespec times[] = {{.tv_nsec = UTIME_OMIT}, e->changed};

		if (S_ISDIR(e->mode) && (utimensat(to, e->path, times, AT_SYMLINK_NOFOLLOW) < 0 ||
					 fchmodat(to, e->path, e->mode & 07777, 0) < 0))
			return davit_error_errno(err, errno, NULL, "cannot make %s", e->path);
	}
	return 0;
}

static uint64_t bytes_of(const struct step_tree *t)
{
	uint64_t n = 0;

	for (size_t i = 0; i < t->n; i++)
		n += S_ISREG(t->entries[i].mode) ? t->entries[i].size : 0;
	return n;
}

int step_tree_take(int from, int to, struct step_tree *t, struct davit_error *err)
{
	struct taking k = {.from = from, .to = to, .mask = umask_of_process()};
	int r;

	if (sodium_init() < 0)
		return davit_error_set(err, DAVIT_EINTERNAL, NULL, "libsodium cannot be initialised");
	r = make_directories(to, t, err);
	if (r == 0)
		r = step_tree_each(t, take_entry, &k, err);
	if (r == 0)
		r = finish_directories(to, t, err);
	if (r < 0)
		return r;
	t->bytes = bytes_of(t);
	step_tree_name(t);
	return 0;
}
