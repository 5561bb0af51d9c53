/* SPDX-License-Identifier: MIT
 *
 * Files as tar streams (libarchive): packed as they are asked for, unpacked so that
 * nothing comes to lie outside.
 */
#ifndef DAVIT_CLI_PACK_H
#define DAVIT_CLI_PACK_H

#include "base/buf.h"
#include "davit/error.h"

#include <stdbool.h>

/* Gives the next bytes, 0 at the end, or a code. */
typedef ssize_t davit_archive_read_fn(void *user, void *buf, size_t n, struct davit_error *err);

struct davit_pack;

/* libarchive brings a dozen libraries along, which would make every command start
 * ten times slower: it is in a module of its own, opened by those who need it. */
struct davit_archive {
	/* Packs `path` (a file, or a directory with what is below it; symbolic links as
	 * such) under `name`; NULL: what is in the directory, without it. 0 or a code. */
	int (*pack_open)(const char *path, const char *name, struct davit_pack **ret,
			 struct davit_error *err);
	/* NULL is fine. */
	void (*pack_close)(struct davit_pack *p);
	/* The next bytes of the archive, for davit_client_request.produce; user is the pack. */
	ssize_t (*pack_produce)(void *user, void *buf, size_t n, struct davit_error *err);
	/* Unpacks beneath the directory `where`. Every entry is `first` or below it, where
	 * `name` stands instead ("": its content goes to `where` itself). Refused are
	 * entries that lead out by name, by "..", or through a symbolic link, hard links to
	 * what is not below `first`, and devices. What was unpacked before stays. */
	int (*unpack)(davit_archive_read_fn *read, void *user, const char *where, const char *first,
		      const char *name, struct davit_error *err);
	/* Is the first entry a directory? 1 or 0, or a code. */
	int (*is_directory)(davit_archive_read_fn *read, void *user, struct davit_error *err);
};

/* The module's table; stays open. 0, or DAVIT_ENOTSUP when it cannot be loaded. */
int davit_archive_load(const char *libexec, const struct davit_archive **ret, struct davit_error *err);

#endif
