/* SPDX-License-Identifier: MIT */
#include "runtime/engine/runs.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { RECORD = 48 }; /* of one length, so that one write replaces it whole */

static void path_of(const char *dir, const char *id, char *buf, size_t size)
{
	snprintf(buf, size, "%s/%.16s.run", dir, id);
}

/* Not synced: what must be survived is the end of davitd. That of the machine ends
 * the containers too; a count that is lost with it begins anew at 1. */
int runs_begin(const char *dir, const char *id, const struct runs *r, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd = -1;
	char path[4096], record[RECORD + 1];
	ssize_t n;

	path_of(dir, id, path, sizeof path);
	snprintf(record, sizeof record, "%10" PRIu32 " %20" PRId64 "%15s\n", r->run + 1, r->started, "");
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return davit_error_errno(err, errno, NULL, "cannot write %s", path);
	n = DAVIT_EINTR(pwrite(fd, record, strlen(record), 0));
	if (n != (ssize_t)strlen(record))
		return davit_error_errno(err, n < 0 ? errno : ENOSPC, NULL, "cannot write %s", path);
	return 0;
}

void runs_began(struct runs *r)
{
	r->run++;
	r->before = r->started;
	r->started = 0;
}

bool runs_learn(struct runs *r, int64_t started)
{
	if (started == 0 || started == r->started)
		return false;
	if (r->run && r->started == 0) {
		if (started != r->before)
			r->started = started;
		return false;
	}
	r->run++;
	r->before = r->started;
	r->started = started;
	return true;
}

void runs_recall(const char *dir, const char *id, int64_t started, struct runs *ret)
{
	DAVIT_AUTO_CLOSE int fd = -1;
	char path[4096], record[RECORD + 1] = "";
	uint32_t run;
	int64_t before;

	*ret = (struct runs){.run = started ? 1 : 0, .started = started};
	path_of(dir, id, path, sizeof path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, record, RECORD) <= 0 ||
	    sscanf(record, "%" SCNu32 " %" SCNd64, &run, &before) != 2 || run == 0)
		return;
	ret->run = started == before ? run - 1 : run;
}

void runs_forget(const char *dir, const char *id)
{
	char path[4096];

	path_of(dir, id, path, sizeof path);
	unlink(path);
}
