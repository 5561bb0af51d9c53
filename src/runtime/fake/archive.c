/* SPDX-License-Identifier: MIT
 *
 * The module davit-fake-archive.so (archive.h).
 */
#include "runtime/fake/archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>

static int fail(struct archive *a, struct davit_error *err)
{
	const char *text = archive_error_string(a);

	if (archive_errno(a) == ENOMEM)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	return davit_error_set(err, DAVIT_EPROTO, "fake", "no tar archive came: %s",
			       text ? text : "unknown error");
}

/* --- reading --- */

static int open_tar(const struct davit_buf *data, struct archive **ret, struct davit_error *err)
{
	struct archive *a = archive_read_new();
	int r;

	if (!a)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	archive_read_support_format_tar(a);
	archive_read_support_format_empty(a);
	if (archive_read_open_memory(a, data->data, data->len) == ARCHIVE_OK) {
		*ret = a;
		return 0;
	}
	r = fail(a, err);
	archive_read_free(a);
	return r;
}

static int next(struct archive *a, struct fake_entry *ret, struct davit_error *err)
{
	struct archive_entry *e;
	int h = archive_read_next_header(a, &e);

	if (h == ARCHIVE_EOF)
		return 0;
	if (h < ARCHIVE_WARN)
		return fail(a, err);
	*ret = (struct fake_entry){archive_entry_pathname(e), archive_entry_symlink(e),
				   archive_entry_mode(e)};
	if (!ret->path)
		return davit_error_set(err, DAVIT_EPROTO, "fake",
				       "the archive holds an entry without a name");
	return 1;
}

static int content(struct archive *a, struct davit_buf *out, struct davit_error *err)
{
	char block[4096];
	la_ssize_t n;

	while ((n = archive_read_data(a, block, sizeof block)) > 0)
		davit_buf_add(out, block, (size_t)n);
	if (n < 0)
		return fail(a, err);
	return out->oom ? davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory") : 0;
}

static void close_tar(struct archive *a)
{
	archive_read_free(a);
}

/* --- writing --- */

static la_ssize_t on_write(struct archive *a, void *user, const void *data, size_t n)
{
	davit_buf_add(user, data, n);
	return ((struct davit_buf *)user)->oom ? -1 : (la_ssize_t)n;
}

static int begin(struct davit_buf *out, struct archive **ret)
{
	struct archive *a = archive_write_new();

	if (!a)
		return DAVIT_ENOMEM;
	archive_write_set_format_pax_restricted(a);
	if (archive_write_open(a, out, NULL, on_write, NULL) != ARCHIVE_OK) {
		archive_write_free(a);
		return DAVIT_ENOMEM;
	}
	*ret = a;
	return 0;
}

static int add(struct archive *a, const struct fake_entry *entry, const struct davit_buf *data)
{
	struct archive_entry *e = archive_entry_new();
	size_t n = data ? data->len : 0;
	int r = 0;

	if (!e)
		return DAVIT_ENOMEM;
	archive_entry_set_pathname(e, entry->path);
	archive_entry_set_mode(e, entry->mode);
	archive_entry_set_size(e, (la_int64_t)n);
	if (entry->link)
		archive_entry_set_symlink(e, entry->link);
	if (archive_write_header(a, e) < ARCHIVE_WARN || (n && archive_write_data(a, data->data, n) < 0))
		r = DAVIT_ENOMEM;
	archive_entry_free(e);
	return r;
}

static int finish(struct archive *a)
{
	int r = archive_write_close(a) == ARCHIVE_OK ? 0 : DAVIT_ENOMEM;

	archive_write_free(a);
	return r;
}

extern const struct fake_archive davit_fake_archive;
__attribute__((visibility("default"))) const struct fake_archive davit_fake_archive = {
	.open = open_tar,
	.next = next,
	.content = content,
	.close = close_tar,
	.begin = begin,
	.add = add,
	.finish = finish,
};
