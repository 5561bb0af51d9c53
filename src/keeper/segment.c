/* SPDX-License-Identifier: MIT
 *
 * The files of an instance's log. Each is named by the offset, in all that the
 * instance ever logged, of its first byte (20 digits and ".log"), so that a
 * reader's cursor stays valid when files are rotated. They are made at the first
 * output; few are open at a time.
 */
#include "keeper/keeper.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

struct segments {
	uint32_t n;
	uint64_t first, last;
};

/* struct linux_dirent64 of getdents64(2). */
struct entry {
	uint64_t inode;
	int64_t next;
	uint16_t length;
	uint8_t type;
	char name[];
};

static bool parse_name(const char *name, uint64_t *ret)
{
	uint64_t v = 0;

	for (int i = 0; i < 20; i++) {
		if (name[i] < '0' || name[i] > '9')
			return false;
		v = v * 10 + (uint64_t)(name[i] - '0');
	}
	*ret = v;
	return !strcmp(name + 20, ".log");
}

/* readdir without its heap buffer. */
static int list_segments(const char *dir, struct segments *ret)
{
	char buf[4096] __attribute__((aligned(8)));
	DAVIT_AUTO_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct segments s = {0};
	uint64_t at;
	long n;

	if (fd < 0)
		return -errno;
	while ((n = syscall(SYS_getdents64, fd, buf, sizeof buf)) > 0) {
		for (long pos = 0; pos < n;) {
			const struct entry *e = (const void *)(buf + pos);
			pos += e->length;
			if (!parse_name(e->name, &at))
				continue;
			s.first = s.n == 0 || at < s.first ? at : s.first;
			s.last = s.n == 0 || at > s.last ? at : s.last;
			s.n++;
		}
	}
	if (n < 0)
		return -errno;
	*ret = s;
	return 0;
}

static int segment_path(const struct keeper *k, const struct keeper_slot *s, uint64_t at,
			char path[KEEPER_PATH_MAX])
{
	size_t n;

	keeper_log_dir(k, s, path);
	n = strlen(path);
	return (size_t)snprintf(path + n, KEEPER_PATH_MAX - n, "/%020" PRIu64 ".log", at) <
			       KEEPER_PATH_MAX - n
		       ? 0
		       : -ENAMETOOLONG;
}

static struct keeper_log_file *cached(struct keeper *k, const struct keeper_slot *s)
{
	uint32_t number = keeper_slot_number(k, s);

	for (size_t i = 0; i < KEEPER_LOG_FILES; i++)
		if (k->logs[i].fd > 0 && k->logs[i].slot == number)
			return &k->logs[i];
	return NULL;
}

void keeper_segment_close(struct keeper *k, const struct keeper_slot *s)
{
	struct keeper_log_file *f = cached(k, s);

	if (f) {
		close(f->fd);
		f->fd = 0;
	}
}

/* A free place in the cache; the one that was not used for longest gives way. */
static struct keeper_log_file *place(struct keeper *k)
{
	struct keeper_log_file *oldest = &k->logs[0];

	for (size_t i = 0; i < KEEPER_LOG_FILES; i++) {
		if (k->logs[i].fd <= 0)
			return &k->logs[i];
		if (k->logs[i].used < oldest->used)
			oldest = &k->logs[i];
	}
	close(oldest->fd);
	oldest->fd = 0;
	return oldest;
}

/* The end of the last whole record within the last 64 kB + 64 of a file. */
static off_t whole_records(int fd, off_t size, char *buf, size_t buf_size)
{
	off_t from = size > (off_t)buf_size ? size - (off_t)buf_size : 0;
	ssize_t n = DAVIT_EINTR(pread(fd, buf, buf_size, from));
	char *nl = n > 0 ? memrchr(buf, '\n', (size_t)n) : NULL;

	return nl ? from + (nl - buf) + 1 : from;
}

/* Once per slot and boot: goes on behind what an earlier slot of this instance
 * logged, without a record that a crash of the machine cut. */
static int find_end(struct keeper *k, struct keeper_slot *s)
{
	struct segments have;
	char path[KEEPER_PATH_MAX];
	struct stat st;
	int r;

	keeper_log_dir(k, s, path);
	r = list_segments(path, &have);
	if (r == -ENOENT) {
		struct davit_error err = {0};
		if (davit_mkdirs(path, 0700, &err) < 0)
			return err.sys_errno ? -err.sys_errno : -EIO;
		have = (struct segments){0};
	} else if (r < 0) {
		return r;
	}
	s->log_segment = s->log_offset = 0;
	if (have.n > 0) {
		r = segment_path(k, s, have.last, path);
		if (r < 0)
			return r;
		DAVIT_AUTO_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
		if (fd < 0 || fstat(fd, &st) < 0)
			return -errno;
		/* log_buffer holds the records that wait to be written: not touched. */
		char tail[8192];
		off_t end = whole_records(fd, st.st_size, tail, sizeof tail);
		if (end != st.st_size && ftruncate(fd, end) < 0)
			return -errno;
		s->log_segment = have.last;
		s->log_offset = have.last + (uint64_t)end;
	}
	s->flags |= KEEPER_LOG_KNOWN;
	return 0;
}

/* Opens the present segment. One that was tampered with (shorter than what was
 * written) is left alone and a new one begun. */
static int open_segment(const struct keeper *k, struct keeper_slot *s)
{
	char path[KEEPER_PATH_MAX];
	struct stat st;
	uint64_t want = s->log_offset - s->log_segment;
	int fd, r = segment_path(k, s, s->log_segment, path);

	if (r < 0)
		return r;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 && errno == ENOENT) {
		char dir[KEEPER_PATH_MAX];
		struct davit_error err = {0};
		keeper_log_dir(k, s, dir);
		if (davit_mkdirs(dir, 0700, &err) < 0)
			return err.sys_errno ? -err.sys_errno : -EIO;
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	}
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || ((uint64_t)st.st_size > want && ftruncate(fd, (off_t)want) < 0)) {
		r = -errno;
		close(fd);
		return r;
	}
	if ((uint64_t)st.st_size < want) {
		if (st.st_size == 0)
			unlink(path);
		close(fd);
		s->log_segment = s->log_offset;
		return open_segment(k, s);
	}
	return fd;
}

int keeper_segment_get(struct keeper *k, struct keeper_slot *s)
{
	struct keeper_log_file *f = cached(k, s);
	int fd, r;

	if (f) {
		f->used = ++k->log_clock;
		return f->fd;
	}
	if (!(s->flags & KEEPER_LOG_KNOWN)) {
		r = find_end(k, s);
		if (r < 0)
			return r;
	}
	fd = open_segment(k, s);
	if (fd < 0)
		return fd;
	f = place(k);
	*f = (struct keeper_log_file){.slot = keeper_slot_number(k, s), .fd = fd, .used = ++k->log_clock};
	return fd;
}

void keeper_segment_rotate(struct keeper *k, struct keeper_slot *s)
{
	struct segments have;
	char dir[KEEPER_PATH_MAX], path[KEEPER_PATH_MAX];

	DAVIT_FAULT("keeper.log.rotate");
	keeper_segment_close(k, s);
	s->log_segment = s->log_offset;
	keeper_log_dir(k, s, dir);
	/* The new file is not there yet: it counts as one. */
	while (s->log_max_files > 0 && list_segments(dir, &have) == 0 && have.n >= s->log_max_files &&
	       segment_path(k, s, have.first, path) == 0)
		if (unlink(path) < 0)
			break;
}
