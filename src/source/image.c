/* SPDX-License-Identifier: MIT */
#include "source/image.h"

#include "base/file.h"
#include "base/units.h"
#include "net/client.h"
#include "net/url.h"
#include "source/run.h"

#include <archive.h>
#include <archive_entry.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <time.h>

#define CAUSE "build"
#define ANSWER_MAX (16 << 20)
#define PATIENCE (120 * DAVIT_NSEC_PER_SEC) /* with who does not answer */
#define DIGITS 16			    /* of a key, in a tag */

static int no_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

char *davit_image_reference(const char *name, const char *key)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	size_t begin;

	davit_buf_adds(&b, "localhost/davit/");
	begin = b.len;
	/* One '-' stands for any number of others: an engine wants letters and digits at the ends. */
	for (const char *p = name; *p; p++)
		if (isalnum((unsigned char)*p))
			davit_buf_addc(&b, (char)tolower((unsigned char)*p));
		else if (b.len > begin && isalnum((unsigned char)p[1]))
			davit_buf_addc(&b, '-');
	if (b.len == begin)
		davit_buf_adds(&b, "service");
	davit_buf_addf(&b, ":%.*s", DIGITS, key);
	return davit_buf_take(&b);
}

/* --- packing --- */

static int pack_error(struct archive *a, const char *what, struct davit_error *err)
{
	const char *why = archive_error_string(a);

	return davit_error_set(err, archive_errno(a) == ENOSPC ? DAVIT_ENOSPC : DAVIT_EIO, "source",
			       "cannot pack %s: %.160s", what, why ? why : "unknown reason");
}

static int pack_content(struct archive *tar, const char *path, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	char block[65536];
	ssize_t n;

	if (fd < 0)
		return davit_error_errno(err, errno, "source", "cannot open %s", path);
	while ((n = DAVIT_EINTR(read(fd, block, sizeof block))) > 0)
		if (archive_write_data(tar, block, (size_t)n) < 0)
			return pack_error(tar, path, err);
	return n < 0 ? davit_error_errno(err, errno, "source", "cannot read %s", path) : 0;
}

static int pack_entry(struct archive *disk, struct archive *tar, size_t root_len, struct archive_entry *e,
		      struct davit_error *err)
{
	DAVIT_AUTO_FREE char *path = strdup(archive_entry_pathname(e));
	const char *name;

	if (!path)
		return no_memory(err);
	archive_read_disk_descend(disk);
	name = path + root_len;
	name += strspn(name, "/");
	if (!*name)
		return 0;
	archive_entry_copy_pathname(e, name);
	archive_entry_set_uid(e, 0);
	archive_entry_set_gid(e, 0);
	archive_entry_set_uname(e, NULL);
	archive_entry_set_gname(e, NULL);
	archive_entry_unset_atime(e);
	archive_entry_unset_ctime(e);
	if (archive_write_header(tar, e) != ARCHIVE_OK)
		return pack_error(tar, path, err);
	return archive_entry_filetype(e) == AE_IFREG ? pack_content(tar, path, err) : 0;
}

static int pack(struct archive *disk, struct archive *tar, const char *root, const char *to,
		struct davit_error *err)
{
	struct archive_entry *e = archive_entry_new();
	int r = e ? 0 : no_memory(err), next = ARCHIVE_OK;

	archive_read_disk_set_symlink_physical(disk);
	archive_read_disk_set_behavior(disk, ARCHIVE_READDISK_NO_XATTR | ARCHIVE_READDISK_NO_ACL |
						     ARCHIVE_READDISK_NO_FFLAGS);
	archive_write_set_format_pax_restricted(tar);
	archive_write_set_bytes_in_last_block(tar, 1);
	if (r == 0 && archive_write_open_filename(tar, to) != ARCHIVE_OK)
		r = pack_error(tar, to, err);
	if (r == 0 && archive_read_disk_open(disk, root) != ARCHIVE_OK)
		r = pack_error(disk, root, err);
	while (r == 0 && (next = archive_read_next_header2(disk, e)) == ARCHIVE_OK)
		r = pack_entry(disk, tar, strlen(root), e, err);
	if (r == 0 && next != ARCHIVE_EOF)
		r = pack_error(disk, root, err);
	if (r == 0 && archive_write_close(tar) != ARCHIVE_OK)
		r = pack_error(tar, to, err);
	archive_entry_free(e);
	return r;
}

int davit_image_pack(const char *root, const char *path, struct davit_error *err)
{
	struct archive *disk = archive_read_disk_new(), *tar = archive_write_new();
	int r = disk && tar ? pack(disk, tar, root, path, err) : no_memory(err);

	archive_read_free(disk);
	archive_write_free(tar);
	return r;
}

/* --- asking the daemon --- */

/* Of {"error": {"code", "message"}}. */
static int error_of(const json_t *answer, int status, struct davit_error *err)
{
	const json_t *e = json_object_get(answer, "error");
	const char *code = json_string_value(json_object_get(e, "code"));
	const char *message = json_string_value(json_object_get(e, "message"));

	if (!code || !message)
		return davit_error_set(err, DAVIT_EPROTO, NULL, "the daemon answered with HTTP status %d",
				       status);
	return davit_error_set(err, davit_error_from_word(code), NULL, "%s", message);
}

static int refusal(struct davit_client *c, int status, struct davit_error *err)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	int r = davit_client_body(c, ANSWER_MAX, &out, err);
	json_t *o;

	if (r < 0)
		return r;
	o = json_loadb(davit_buf_str(&out), out.len, 0, NULL);
	r = error_of(o, status, err);
	json_decref(o);
	return r;
}

static void target_of(const struct davit_image_builder *b, const char *suffix, struct davit_buf *out)
{
	davit_buf_adds(out, "/v1/runtimes/");
	davit_url_escape(out, b->runtime);
	davit_buf_addf(out, "/images%s", suffix);
}

/* Connects and sends; the answer's body is to be read. */
static int ask(const struct davit_image_builder *b, const struct davit_client_request *q,
	       struct davit_client **ret, struct davit_error *err)
{
	int64_t left = b->deadline ? b->deadline - davit_run_now() : 0;
	struct davit_client *c = NULL;
	int status, r;

	if (b->deadline && left <= 0)
		return davit_error_set(err, DAVIT_ETIMEDOUT, NULL, "out of time");
	r = davit_client_open(b->socket, &c, err);
	if (r < 0)
		return r;
	davit_client_set_timeout(c, left);
	r = davit_client_send(c, q, &status, err);
	if (r == 0 && status >= 400)
		r = refusal(c, status, err);
	if (r < 0)
		davit_client_close(c);
	else
		*ret = c;
	return r;
}

/* --- building --- */

static ssize_t read_context(void *user, void *buf, size_t n, struct davit_error *err)
{
	ssize_t got = DAVIT_EINTR(read(*(int *)user, buf, n));

	return got < 0 ? davit_error_errno(err, errno, NULL, "cannot read the context") : got;
}

/* Prints what the build says; 0 at its good end. A line need not come soon: the
 * deadline is the build's, and so is looked at for each. */
static int follow(struct davit_client *c, int64_t deadline, struct davit_error *err)
{
	const char *line;
	size_t len;
	int r = 0;

	while (r == 0) {
		int more = davit_client_line(c, &line, &len, err);
		json_t *o;
		const char *progress;
		if (more <= 0)
			return more;
		o = len ? json_loadb(line, len, 0, NULL) : NULL;
		progress = json_string_value(json_object_get(o, "progress"));
		if (progress)
			printf("%s\n", progress);
		if (json_object_get(o, "error"))
			r = error_of(o, 200, err);
		json_decref(o);
		if (r == 0 && deadline && davit_run_now() > deadline)
			r = davit_error_set(err, DAVIT_ETIMEDOUT, NULL, "out of time");
		davit_client_set_timeout(c, deadline ? deadline - davit_run_now() : 0);
	}
	return r;
}

static int build_once(const struct davit_image_builder *b, const char *target, const char *context,
		      struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd = open(context, O_RDONLY | O_CLOEXEC);
	const struct davit_client_request q = {.method = "POST",
					       .target = target,
					       .content_type = "application/x-tar",
					       .produce = read_context,
					       .user = &fd,
					       .cause = CAUSE};
	struct davit_client *c;
	int r;

	if (fd < 0)
		return davit_error_errno(err, errno, NULL, "cannot open %s", context);
	r = ask(b, &q, &c, err);
	if (r < 0)
		return r;
	r = follow(c, b->deadline, err);
	davit_client_close(c);
	return r;
}

int davit_image_build(const struct davit_image_builder *b, const char *reference, const char *dockerfile,
		      const char *context, struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	struct davit_error why = {0};
	int64_t lost = 0, now;
	unsigned pause = 1;
	int r;

	target_of(b, "/build", &target);
	davit_url_query(&target, "reference", reference);
	davit_url_query(&target, "dockerfile", dockerfile);
	if (target.oom)
		return no_memory(err);
	for (;;) {
		r = build_once(b, davit_buf_str(&target), context, &why);
		now = davit_run_now();
		/* What the builder made of it so far, it has kept. */
		if (r != DAVIT_EUNAVAIL && r != DAVIT_ECLOSED)
			break;
		lost = lost ? lost : now;
		if (now - lost > PATIENCE || (b->deadline && now > b->deadline))
			break;
		printf("%s: trying again in %u s\n", why.message, pause);
		nanosleep(&(struct timespec){.tv_sec = pause}, NULL);
		pause = pause < 8 ? 2 * pause : pause;
	}
	return r < 0 ? davit_error_copy(err, &why) : 0;
}

/* --- what is there --- */

int davit_image_exists(const struct davit_image_builder *b, const char *reference, struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT, out = DAVIT_BUF_INIT;
	struct davit_client_request q = {.cause = CAUSE};
	json_t *all, *image, *name;
	struct davit_client *c;
	size_t i, k;
	int r, found = 0;

	target_of(b, "", &target);
	if (target.oom)
		return no_memory(err);
	q.target = davit_buf_str(&target);
	r = ask(b, &q, &c, err);
	if (r < 0)
		return r;
	r = davit_client_body(c, ANSWER_MAX, &out, err);
	davit_client_close(c);
	if (r < 0)
		return r;
	all = json_loadb(davit_buf_str(&out), out.len, 0, NULL);
	json_array_foreach(all, i, image) json_array_foreach(json_object_get(image, "references"), k, name)
		found |= !strcmp(json_string_value(name) ?: "", reference);
	json_decref(all);
	return found;
}

int davit_image_remove(const struct davit_image_builder *b, const char *reference, struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	struct davit_client_request q = {.method = "DELETE", .cause = CAUSE};
	struct davit_client *c;
	int r;

	target_of(b, "", &target);
	davit_url_query(&target, "reference", reference);
	if (target.oom)
		return no_memory(err);
	q.target = davit_buf_str(&target);
	r = ask(b, &q, &c, err);
	if (r == 0)
		davit_client_close(c);
	return r == DAVIT_ENOENT ? 0 : r;
}
