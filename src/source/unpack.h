/* SPDX-License-Identifier: MIT
 *
 * Archives as sources.
 */
#ifndef DAVIT_SOURCE_UNPACK_H
#define DAVIT_SOURCE_UNPACK_H

#include "davit/error.h"

#include <stdbool.h>
#include <stdint.h>

struct davit_archive_limits {
	uint64_t bytes; /* of all files, unpacked */
	uint32_t entries;
};

/* Whether the name ends like an archive's: .tar, .tar.gz, .tgz, .tar.xz,
 * .tar.bz2, .tar.zst, .zip. */
bool davit_archive_is(const char *path);

/* Unpacks into the directory `to`, which is made. The whole archive is looked
 * through first: an absolute path, a "..", a link that leads out, an entry that
 * is neither file, directory nor link, or too much of anything is refused with
 * DAVIT_ESOURCE before anything is written. No entry is written through a link
 * of another. Owners, times and set-user-ID bits are dropped. When it fails
 * after that, what was written is removed again. Blocks. */
int davit_archive_unpack(const char *path, const char *to, const struct davit_archive_limits *limits,
			 struct davit_error *err);

#endif
