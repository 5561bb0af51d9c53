/* SPDX-License-Identifier: MIT
 *
 * Tar archives of the fake runtime, in memory. They are libarchive's business, which
 * brings libxml2, ICU and a C++ runtime along: a megabyte that a daemon without fake
 * instances is not to carry. It is in davit-fake-archive.so, loaded at its first use.
 */
#ifndef DAVIT_FAKE_ARCHIVE_H
#define DAVIT_FAKE_ARCHIVE_H

#include "base/buf.h"
#include "davit/error.h"

#include <sys/types.h>

struct archive; /* libarchive's own */

struct fake_entry {
	const char *path; /* as it stands in the archive */
	const char *link; /* of a symbolic link, otherwise NULL */
	mode_t mode;	  /* with its type */
};

struct fake_archive {
	/* Opens an archive, which is borrowed until close. 0, or a code: what is no tar
	 * archive is DAVIT_EPROTO; nothing at all is an empty one. */
	int (*open)(const struct davit_buf *data, struct archive **ret, struct davit_error *err);
	/* 1 with the next entry, borrowed until the next call; 0 at the end; or a code. */
	int (*next)(struct archive *a, struct fake_entry *ret, struct davit_error *err);
	/* Appends the content of the entry that next has given. 0 or a code. */
	int (*content)(struct archive *a, struct davit_buf *out, struct davit_error *err);
	/* NULL is fine. */
	void (*close)(struct archive *a);

	/* Begins an archive that is appended to *out, which is borrowed until finish. 0 or
	 * DAVIT_ENOMEM. */
	int (*begin)(struct davit_buf *out, struct archive **ret);
	/* Adds an entry; content NULL: it has none. 0 or DAVIT_ENOMEM. */
	int (*add)(struct archive *a, const struct fake_entry *e, const struct davit_buf *content);
	/* Writes the end and frees it, which happens on failure as well. 0 or DAVIT_ENOMEM. */
	int (*finish)(struct archive *a);
};

/* The module's table, borrowed for ever. 0, or DAVIT_ENOTSUP in the linker's words. Reads
 * files at its first success: blocks for a moment. */
int fake_archive_load(const char *libexec, const struct fake_archive **ret, struct davit_error *err);

#endif
