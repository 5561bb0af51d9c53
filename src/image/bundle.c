/* SPDX-License-Identifier: MIT
 *
 * What is loaded, as files by name. An archive is spooled: its files get names
 * of ours in the job's directory, and theirs are only looked up, so that no name
 * in it can lead anywhere.
 */
#include "image/image_impl.h"

#include "base/file.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define MEMBERS_MAX 20000

struct member {
	char *name;   /* clean */
	char *target; /* of a link, clean; else NULL */
	char file[16];
};

struct image_bundle {
	struct image_job *job;
	const char *path, *name; /* borrowed; the name is for messages */
	int fd;			 /* a directory, or -1 */
	bool own;
	uint64_t room;	      /* bytes that may be copied */
	struct davit_map map; /* name -> struct member */
	struct member **members;
	size_t n;
};

/* --- an archive --- */

/* Resolves "." and ".." by name alone; what climbs out becomes "". */
static char *clean(const char *base, size_t n_base, const char *name)
{
	char *s, *out;
	size_t n = 0;

	if (asprintf(&s, "%.*s/%s", *name == '/' ? 0 : (int)n_base, base, name) < 0)
		return NULL;
	out = calloc(1, strlen(s) + 1);
	for (const char *p = s; out && *p; p += strspn(p, "/")) {
		size_t k = strcspn(p, "/");
		if (k == 2 && !memcmp(p, "..", 2)) {
			while (n && out[--n] != '/')
				;
			out[n] = '\0';
		} else if (k && !(k == 1 && *p == '.')) {
			if (n)
				out[n++] = '/';
			memcpy(out + n, p, k);
			n += k;
			out[n] = '\0';
		}
		p += k;
	}
	free(s);
	return out;
}

static int bad_archive(struct image_bundle *b, struct archive *a, const struct davit_error *cause,
		       struct davit_error *err)
{
	const char *why = archive_error_string(a);

	if (cause->code) {
		davit_error_copy(err, cause);
		davit_error_prefix(err, "%.128s", b->name);
		return cause->code;
	}
	return davit_error_set(err, DAVIT_ESOURCE, "archive", "%.128s is no tar, or a damaged one: %.200s",
			       b->name, why ? why : "no reason known");
}

struct spool {
	struct image_stream *in;
	struct davit_error err;
};

static la_ssize_t on_read(struct archive *a, void *user, const void **ret)
{
	struct spool *sp = user;
	ssize_t n = image_stream_read(sp->in, ret, &sp->err);

	if (n < 0)
		archive_set_error(a, EIO, "%s", sp->err.message);
	return n < 0 ? ARCHIVE_FATAL : n;
}

static int spool_file(struct image_bundle *b, struct archive *a, struct spool *sp, struct member *m,
		      struct image_budget *budget, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd = image_job_file(b->job, m->file, err);
	const void *block;
	la_int64_t offset;
	size_t n;
	int r;

	if (fd < 0)
		return DAVIT_EIO;
	while ((r = archive_read_data_block(a, &block, &n, &offset)) == ARCHIVE_OK) {
		budget->written += n;
		if ((uint64_t)offset + n > budget->limits.bytes || budget->written > budget->limits.bytes)
			return davit_error_set(err, DAVIT_ESOURCE, "archive",
					       "%.128s is refused: it is larger than allowed (--max-size)",
					       b->name);
		if (!image_budget_allows(budget, budget->written, image_stream_packed(sp->in)))
			return davit_error_set(
				err, DAVIT_ESOURCE, "archive",
				"%.128s is refused: it unpacks to more times its size than allowed "
				"(--max-ratio)",
				b->name);
		if (budget->written > budget->room)
			return davit_error_set(err, DAVIT_ENOSPC, NULL, "no space is left for %.128s",
					       b->name);
		if (lseek(fd, offset, SEEK_SET) < 0 || davit_write_full(fd, block, n) < 0)
			return davit_error_errno(err, errno, NULL, "cannot spool %.128s", b->name);
	}
	return r == ARCHIVE_EOF ? 0 : bad_archive(b, a, &sp->err, err);
}

static void free_member(struct member *m)
{
	free(m->name);
	free(m->target);
	free(m);
}

static int keep_member(struct image_bundle *b, struct member *m, struct davit_error *err)
{
	struct member **grown = realloc(b->members, (b->n + 1) * sizeof *grown);

	if (!grown || davit_map_put(&b->map, m->name, m) < 0) {
		b->members = grown ? grown : b->members;
		free_member(m);
		return image_oom(err);
	}
	b->members = grown;
	b->members[b->n++] = m;
	return 0;
}

/* Only files and links to them matter. The same name twice: the later counts. */
static int spool_entry(struct image_bundle *b, struct archive *a, struct spool *sp, struct archive_entry *e,
		       struct image_budget *budget, struct davit_error *err)
{
	const char *name = archive_entry_pathname(e), *hard = archive_entry_hardlink(e);
	const char *soft = archive_entry_filetype(e) == AE_IFLNK ? archive_entry_symlink(e) : NULL;
	struct member *m;
	int r = 0;

	if (!name || (!hard && !soft && archive_entry_filetype(e) != AE_IFREG))
		return 0;
	if (b->n >= MEMBERS_MAX)
		return davit_error_set(err, DAVIT_ESOURCE, "archive",
				       "%.128s is refused: it has too many entries", b->name);
	m = calloc(1, sizeof *m);
	if (!m)
		return image_oom(err);
	m->name = clean("", 0, name);
	if (hard)
		m->target = clean("", 0, hard);
	else if (soft)
		m->target = clean(name, (size_t)(strrchr(name, '/') ? strrchr(name, '/') - name : 0), soft);
	if (!m->name || ((hard || soft) && !m->target))
		r = image_oom(err);
	if (r == 0 && !m->target)
		r = spool_file(b, a, sp, m, budget, err);
	if (r == 0)
		return keep_member(b, m, err);
	free_member(m);
	return r;
}

static int spool(struct image_bundle *b, struct image_stream *in, struct image_budget *budget,
		 struct davit_error *err)
{
	struct spool sp = {.in = in};
	struct archive *a = archive_read_new();
	struct archive_entry *e;
	int r = 0, got;

	if (!a)
		return image_oom(err);
	if (archive_read_support_format_tar(a) != ARCHIVE_OK ||
	    archive_read_open(a, &sp, NULL, on_read, NULL) != ARCHIVE_OK)
		r = bad_archive(b, a, &sp.err, err);
	while (r == 0 && (got = archive_read_next_header(a, &e)) != ARCHIVE_EOF)
		r = got == ARCHIVE_OK || got == ARCHIVE_WARN ? spool_entry(b, a, &sp, e, budget, err)
							     : bad_archive(b, a, &sp.err, err);
	archive_read_free(a);
	return r;
}

/* --- opening --- */

static int open_path(struct image_bundle *b, struct image_budget *budget, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd = !strcmp(b->path, "-") ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
							: open(b->path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	struct image_stream *in = NULL;
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return davit_error_errno(err, errno, NULL, "cannot open '%.128s'", b->name);
	if (S_ISDIR(st.st_mode)) {
		b->fd = DAVIT_TAKE_FD(fd);
		return 0;
	}
	r = image_stream_open(fd, &in, err);
	if (r == 0)
		r = spool(b, in, budget, err);
	image_stream_close(in);
	return r;
}

int image_bundle_open(struct image_job *j, const char *path, bool own, struct image_budget *budget,
		      struct image_bundle **ret, struct davit_error *err)
{
	struct image_bundle *b = calloc(1, sizeof *b);
	int r;

	if (!b)
		return image_oom(err);
	b->job = j;
	b->path = path;
	b->name = image_path_name(path);
	b->fd = -1;
	b->own = own;
	b->room = budget->room;
	r = open_path(b, budget, err);
	if (r < 0)
		image_bundle_close(b);
	else
		*ret = b;
	return r;
}

void image_bundle_close(struct image_bundle *b)
{
	if (!b)
		return;
	for (size_t i = 0; i < b->n; i++)
		free_member(b->members[i]);
	free(b->members);
	davit_map_fini(&b->map);
	davit_closep(&b->fd);
	free(b);
}

/* --- files --- */

static const struct member *find(struct image_bundle *b, const char *name)
{
	DAVIT_AUTO_FREE char *key = clean("", 0, name);
	const struct member *m = key ? davit_map_get(&b->map, key) : NULL;

	for (int i = 0; m && m->target && i < 8; i++)
		m = davit_map_get(&b->map, m->target);
	return m && !m->target ? m : NULL;
}

/* A regular file, or -1 with errno. */
static int open_file(struct image_bundle *b, const char *name)
{
	struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
			       .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
	const struct member *m;
	struct stat st;
	int fd;

	if (b->fd >= 0) {
		fd = (int)syscall(SYS_openat2, b->fd, name, &how, sizeof how);
	} else {
		m = find(b, name);
		errno = ENOENT;
		fd = m ? openat(b->job->fd, m->file, O_RDONLY | O_CLOEXEC) : -1;
	}
	if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))) {
		close(fd);
		errno = EINVAL;
		return -1;
	}
	return fd;
}

static int missing(struct image_bundle *b, const char *name, struct davit_error *err)
{
	return errno == ENOENT
		       ? davit_error_set(err, DAVIT_ESOURCE, "archive", "'%.128s' has no '%.100s'", b->name,
					 name)
		       : davit_error_errno(err, errno, NULL, "'%.128s': cannot open '%.100s'", b->name, name);
}

bool image_bundle_has(struct image_bundle *b, const char *name)
{
	DAVIT_AUTO_CLOSE int fd = open_file(b, name);

	return fd >= 0;
}

int image_bundle_read(struct image_bundle *b, const char *name, struct davit_buf *out,
		      struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd = open_file(b, name);
	ssize_t n;

	if (fd < 0)
		return missing(b, name, err);
	do {
		if (davit_buf_reserve(out, 65536) < 0)
			return image_oom(err);
		n = DAVIT_EINTR(read(fd, out->data + out->len, 65536));
		if (n < 0)
			return missing(b, name, err);
		out->len += (size_t)n;
		out->data[out->len] = '\0';
	} while (n > 0 && out->len <= IMAGE_JSON_MAX);
	return out->len > IMAGE_JSON_MAX
		       ? davit_error_set(err, DAVIT_ESOURCE, "archive",
					 "'%.128s': '%.100s' is larger than 4 MiB", b->name, name)
		       : 0;
}

int image_bundle_take(struct image_bundle *b, const char *name, char ret_name[16], struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int from = -1;
	DAVIT_AUTO_CLOSE int to = -1;

	image_job_name(b->job, ret_name);
	if (b->fd < 0) {
		const struct member *m = find(b, name);
		errno = ENOENT;
		if (!m || linkat(b->job->fd, m->file, b->job->fd, ret_name, 0) < 0)
			return missing(b, name, err);
		return 0;
	}
	if (b->own && linkat(b->fd, name, b->job->fd, ret_name, 0) == 0)
		return 0;
	from = open_file(b, name);
	if (from < 0)
		return missing(b, name, err);
	to = openat(b->job->fd, ret_name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (to < 0 || image_copy_data(from, to, b->room) < 0)
		return davit_error_errno(err, errno, NULL, "cannot copy '%.100s' of '%.128s'", name, b->name);
	return 0;
}
