/* SPDX-License-Identifier: MIT */
#include "image/image_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

static int copy_by_hand(int from, int to, uint64_t max)
{
	char buf[65536];
	ssize_t n;

	while ((n = DAVIT_EINTR(read(from, buf, sizeof buf))) > 0) {
		if ((uint64_t)n > max) {
			errno = EFBIG;
			return -1;
		}
		max -= (uint64_t)n;
		if (davit_write_full(to, buf, (size_t)n) < 0)
			return -1;
	}
	return (int)n;
}

/* Holes stay holes. */
static int copy_extents(int from, int to, off_t size)
{
	off_t at = 0, end;

	while (at < size) {
		at = lseek(from, at, SEEK_DATA);
		if (at < 0)
			return errno == ENXIO ? 0 : -1;
		end = lseek(from, at, SEEK_HOLE);
		if (end < 0)
			return -1;
		while (at < end) {
			off_t in = at, out = at;
			ssize_t n = DAVIT_EINTR(copy_file_range(from, &in, to, &out, (size_t)(end - at), 0));
			if (n <= 0)
				return -1;
			at += n;
		}
	}
	return 0;
}

int image_copy_data(int from, int to, uint64_t max)
{
	struct stat st;

	if (fstat(from, &st) < 0)
		return -1;
	if (!S_ISREG(st.st_mode))
		return copy_by_hand(from, to, max);
	if ((uint64_t)st.st_size > max) {
		errno = EFBIG;
		return -1;
	}
	if (ioctl(to, FICLONE, from) == 0)
		return 0;
	if (copy_extents(from, to, st.st_size) == 0)
		return ftruncate(to, st.st_size);
	if (lseek(from, 0, SEEK_SET) < 0 || lseek(to, 0, SEEK_SET) < 0 || ftruncate(to, 0) < 0)
		return -1;
	return copy_by_hand(from, to, max);
}

bool image_budget_allows(const struct image_budget *b, uint64_t unpacked, uint64_t packed)
{
	return !b->limits.ratio || unpacked <= IMAGE_RATIO_FROM || unpacked / b->limits.ratio <= packed;
}

int image_copy_stream(struct image_stream *in, int fd, struct image_budget *budget, const char *what,
		      struct davit_error *err)
{
	const void *data;
	uint64_t total = 0;
	ssize_t n;

	while ((n = image_stream_read(in, &data, err)) > 0) {
		total += (uint64_t)n;
		budget->written += (uint64_t)n;
		if (total > budget->limits.bytes)
			return davit_error_set(err, DAVIT_ESOURCE, "archive",
					       "%s is refused: it is larger than allowed (--max-size)", what);
		if (!image_budget_allows(budget, total, image_stream_packed(in)))
			return davit_error_set(
				err, DAVIT_ESOURCE, "archive",
				"%s is refused: it unpacks to more times its size than allowed "
				"(--max-ratio)",
				what);
		if (budget->written > budget->room)
			return davit_error_set(err, DAVIT_ENOSPC, NULL, "%s: no space is left", what);
		if (davit_write_full(fd, data, (size_t)n) < 0)
			return davit_error_errno(err, errno, NULL, "cannot write %s", what);
	}
	if (n < 0)
		davit_error_prefix(err, "%s", what);
	return (int)n;
}
