/* SPDX-License-Identifier: MIT
 *
 * A tree of the store to where a user wants it.
 */
#include "base/util.h"
#include "davit/artifact.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), k = strlen(end);

	return n > k && !strcmp(s + n - k, end);
}

int davit_artifacts_get(struct davit_artifacts *s, const struct davit_artifact_hold *h, const char *to,
			struct davit_error *err)
{
	enum davit_artifact_packing packing = DAVIT_PACK_NONE;
	DAVIT_AUTO_CLOSE int fd = -1;
	DAVIT_AUTO_FREE char *temporary = NULL;
	int r;

	if (ends_with(to, ".tar.gz") || ends_with(to, ".tgz"))
		packing = DAVIT_PACK_GZIP;
	else if (ends_with(to, ".tar.zst"))
		packing = DAVIT_PACK_ZSTD;
	else if (!ends_with(to, ".tar"))
		return davit_artifacts_get_directory(s, h, to, err);
	if (asprintf(&temporary, "%s.part", to) < 0) {
		temporary = NULL;
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		return davit_error_errno(err, errno, NULL, "cannot write %s", temporary);
	r = davit_artifacts_get_tar(s, h, fd, packing, err);
	if (r == 0 && rename(temporary, to) < 0)
		r = davit_error_errno(err, errno, NULL, "cannot write %s", to);
	if (r < 0)
		unlink(temporary);
	return r;
}
