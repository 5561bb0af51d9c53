/* SPDX-License-Identifier: MIT
 *
 * One pass over a file: a thread reads, hashes and decompresses, its reader
 * hashes what comes out. Two processors work on one layer so, and no byte is
 * read twice.
 */
#include "image/image_impl.h"

#include <archive.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { BLOCK = 256 * 1024, BLOCKS = 4 };

struct image_stream {
	int fd; /* borrowed */
	enum image_packing packing;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* Under the lock. */
	unsigned filled, taken; /* blocks, counted without end */
	bool ended, stopped;
	int code;
	struct davit_error err;
	size_t sizes[BLOCKS];
	/* The thread's. */
	struct image_hash packed_hash;
	char packed[IMAGE_HEX];
	unsigned char *in; /* BLOCK bytes */
	size_t first;	   /* what open put there, or 0 */
	/* The reader's. */
	struct image_hash plain_hash;
	char plain[IMAGE_HEX];
	bool holding; /* the block of the last read */
	_Atomic uint64_t n_packed;
	unsigned char *blocks; /* BLOCKS of BLOCK bytes */
};

static enum image_packing packing_of(const unsigned char *b, size_t n)
{
	if (n >= 2 && b[0] == 0x1f && b[1] == 0x8b)
		return IMAGE_GZIP;
	if (n >= 4 && !memcmp(b, "\x28\xb5\x2f\xfd", 4))
		return IMAGE_ZSTD;
	if (n >= 6 && !memcmp(b,
			      "\xfd"
			      "7zXZ",
			      6))
		return IMAGE_XZ;
	if (n >= 3 && !memcmp(b, "BZh", 3))
		return IMAGE_BZIP2;
	return IMAGE_PLAIN;
}

enum image_packing image_stream_packing(const struct image_stream *s)
{
	return s->packing;
}

/* --- the thread --- */

/* Waits for a free block; NULL when the reader has gone. */
static unsigned char *next_block(struct image_stream *s)
{
	unsigned char *b;

	pthread_mutex_lock(&s->lock);
	while (s->filled - s->taken == BLOCKS && !s->stopped)
		pthread_cond_wait(&s->changed, &s->lock);
	b = s->stopped ? NULL : s->blocks + (size_t)(s->filled % BLOCKS) * BLOCK;
	pthread_mutex_unlock(&s->lock);
	return b;
}

static void give_block(struct image_stream *s, size_t n)
{
	pthread_mutex_lock(&s->lock);
	s->sizes[s->filled++ % BLOCKS] = n;
	pthread_cond_signal(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

/* Fills b as far as the file goes. */
static ssize_t read_packed(struct image_stream *s, unsigned char *b)
{
	size_t n = 0;

	while (n < BLOCK) {
		ssize_t r = DAVIT_EINTR(read(s->fd, b + n, BLOCK - n));
		if (r < 0)
			return -1;
		if (r == 0)
			break;
		n += (size_t)r;
	}
	image_hash_add(&s->packed_hash, b, n);
	atomic_fetch_add(&s->n_packed, n);
	return (ssize_t)n;
}

static la_ssize_t on_read(struct archive *a, void *user, const void **ret)
{
	struct image_stream *s = user;
	ssize_t n = s->first ? (ssize_t)s->first : read_packed(s, s->in);

	s->first = 0;
	if (n < 0)
		archive_set_error(a, errno, "%s", strerror(errno));
	*ret = s->in;
	return n;
}

static int copy_plain(struct image_stream *s)
{
	unsigned char *b = s->first ? next_block(s) : NULL;

	if (b) {
		memcpy(b, s->in, s->first);
		give_block(s, s->first);
	}
	for (;;) {
		ssize_t n;
		b = next_block(s);
		n = b ? read_packed(s, b) : 0;
		if (n < 0)
			return davit_error_errno(&s->err, errno, NULL, "cannot read");
		if (n == 0)
			return 0;
		give_block(s, (size_t)n);
	}
}

static int unreadable(struct image_stream *s, struct archive *a)
{
	const char *why = archive_error_string(a);

	return davit_error_set(&s->err, DAVIT_ESOURCE, "archive", "cannot be decompressed: %.160s",
			       why ? why : "damaged");
}

/* Exactly one filter, the one that the first bytes name: what is packed twice is
 * not what it says. */
static int copy_unpacked(struct image_stream *s, struct archive *a)
{
	static const int filters[] = {
		[IMAGE_GZIP] = ARCHIVE_FILTER_GZIP,
		[IMAGE_ZSTD] = ARCHIVE_FILTER_ZSTD,
		[IMAGE_XZ] = ARCHIVE_FILTER_XZ,
		[IMAGE_BZIP2] = ARCHIVE_FILTER_BZIP2,
	};
	struct archive_entry *e;
	unsigned char *b;
	int r;

	if (archive_read_append_filter(a, filters[s->packing]) != ARCHIVE_OK ||
	    archive_read_support_format_raw(a) != ARCHIVE_OK ||
	    archive_read_open(a, s, NULL, on_read, NULL) != ARCHIVE_OK)
		return unreadable(s, a);
	r = archive_read_next_header(a, &e);
	if (r == ARCHIVE_EOF)
		return 0;
	if (r != ARCHIVE_OK)
		return unreadable(s, a);
	while ((b = next_block(s))) {
		la_ssize_t n = archive_read_data(a, b, BLOCK);
		if (n < 0)
			return unreadable(s, a);
		if (n == 0)
			break;
		give_block(s, (size_t)n);
	}
	while (b && (r = (int)read_packed(s, s->in)) != 0) /* behind the end: for the digest */
		if (r < 0)
			return davit_error_errno(&s->err, errno, NULL, "cannot read");
	return 0;
}

static void *work(void *user)
{
	struct image_stream *s = user;
	struct archive *a = s->packing == IMAGE_PLAIN ? NULL : archive_read_new();
	int r;

	if (s->packing == IMAGE_PLAIN)
		r = copy_plain(s);
	else
		r = a ? copy_unpacked(s, a) : image_oom(&s->err);
	archive_read_free(a);
	image_hash_end(&s->packed_hash, s->packed);
	pthread_mutex_lock(&s->lock);
	s->code = r;
	s->ended = true;
	pthread_cond_signal(&s->changed);
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

/* --- the reader --- */

static void free_stream(struct image_stream *s)
{
	free(s->blocks);
	free(s);
}

int image_stream_open(int fd, struct image_stream **ret, struct davit_error *err)
{
	struct image_stream *s = calloc(1, sizeof *s);
	ssize_t n;
	int r;

	if (!s)
		return image_oom(err);
	s->fd = fd;
	s->blocks = malloc((size_t)BLOCK * (BLOCKS + 1));
	if (!s->blocks) {
		free_stream(s);
		return image_oom(err);
	}
	s->in = s->blocks + (size_t)BLOCK * BLOCKS;
	image_hash_init(&s->packed_hash);
	image_hash_init(&s->plain_hash);
	n = read_packed(s, s->in);
	if (n < 0) {
		r = davit_error_errno(err, errno, NULL, "cannot read");
		free_stream(s);
		return r;
	}
	s->first = (size_t)n;
	s->packing = packing_of(s->in, s->first);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	r = pthread_create(&s->thread, NULL, work, s);
	if (r) {
		free_stream(s);
		return davit_error_errno(err, r, NULL, "cannot start a thread");
	}
	*ret = s;
	return 0;
}

ssize_t image_stream_read(struct image_stream *s, const void **ret, struct davit_error *err)
{
	const unsigned char *b = NULL;
	ssize_t n = 0;

	pthread_mutex_lock(&s->lock);
	if (s->holding) {
		s->taken++;
		s->holding = false;
		pthread_cond_signal(&s->changed);
	}
	while (s->filled == s->taken && !s->ended)
		pthread_cond_wait(&s->changed, &s->lock);
	if (s->filled != s->taken) {
		b = s->blocks + (size_t)(s->taken % BLOCKS) * BLOCK;
		n = (ssize_t)s->sizes[s->taken % BLOCKS];
		s->holding = true;
	} else if (s->code < 0) {
		n = davit_error_copy(err, &s->err);
	}
	pthread_mutex_unlock(&s->lock);
	if (n > 0 && s->packing != IMAGE_PLAIN)
		image_hash_add(&s->plain_hash, b, (size_t)n);
	*ret = b;
	return n;
}

uint64_t image_stream_packed(struct image_stream *s)
{
	return atomic_load(&s->n_packed);
}

void image_stream_digests(struct image_stream *s, char packed[IMAGE_HEX], char plain[IMAGE_HEX])
{
	memcpy(packed, s->packed, IMAGE_HEX);
	if (s->packing == IMAGE_PLAIN)
		memcpy(plain, s->packed, IMAGE_HEX);
	else
		image_hash_end(&s->plain_hash, plain);
}

void image_stream_close(struct image_stream *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	s->stopped = true;
	pthread_cond_signal(&s->changed);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->thread, NULL);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->changed);
	free_stream(s);
}
