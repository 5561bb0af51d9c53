/* SPDX-License-Identifier: MIT
 *
 * Notes: short texts under keys of others, which the store counts and collects like the results of steps.
 */
#include "step/store.h"

#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

static bool is_key(const char *key)
{
	return strspn(key, "0123456789abcdef") == STEP_KEY_MAX - 1 && !key[STEP_KEY_MAX - 1];
}

static int write_note(const struct step_work *w, const void *text, size_t n, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd = openat(w->fd, "note", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0 || davit_write_full(fd, text, n) < 0)
		return davit_error_errno(err, errno, NULL, "cannot write a note");
	return 0;
}

/* Takes the one that is there away. The store must be locked; *gone is to be swept. */
static int replace(struct davit_artifacts *s, const char *key, char gone[80], struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd = -1;
	struct step_meta m;

	*gone = '\0';
	if (step_take(s, DAVIT_KEPT_RESULT, key, LOCK_SH, &fd, NULL) < 0)
		return 0;
	step_meta_read(fd, &m);
	return step_discard(s, DAVIT_KEPT_RESULT, key, m.bytes, gone, err);
}

int davit_artifacts_note(struct davit_artifacts *s, const char *key, const void *text, size_t n,
			 struct davit_error *err)
{
	const struct step_meta m = {.bytes = n, .entries = 1};
	struct step_work w = STEP_WORK_INIT;
	char gone[80] = "";
	int r;

	if (!is_key(key) || n > DAVIT_ARTIFACTS_NOTE_MAX)
		return davit_error_set(err, DAVIT_EINVAL, NULL, "not a key, or too long a note");
	r = step_work_begin(s, &w, err);
	if (r < 0)
		return r;
	r = write_note(&w, text, n, err);
	if (r == 0)
		r = step_store_lock(s, err);
	if (r == 0) {
		r = replace(s, key, gone, err);
		if (r == 0)
			r = step_publish(s, &w, DAVIT_KEPT_RESULT, key, &m, err);
		step_store_unlock(s);
	}
	if (*gone)
		step_sweep(s, gone);
	step_work_end(s, &w);
	return r;
}

ssize_t davit_artifacts_noted(struct davit_artifacts *s, const char *key, char *buf, size_t size,
			      struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int meta = -1;
	DAVIT_AUTO_CLOSE int fd = -1;
	char path[STEP_KEY_MAX + 32];
	ssize_t n;
	int r;

	if (!is_key(key))
		return davit_error_set(err, DAVIT_EINVAL, NULL, "not a key");
	r = step_store_lock(s, err);
	if (r < 0)
		return r;
	r = step_take(s, DAVIT_KEPT_RESULT, key, LOCK_SH, &meta, err);
	step_store_unlock(s);
	if (r < 0)
		return r;
	snprintf(path, sizeof path, "results/%s/note", key);
	fd = openat(s->fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	n = fd < 0 ? -1 : DAVIT_EINTR(read(fd, buf, size - 1));
	if (n < 0)
		return davit_error_errno(err, errno, NULL, "cannot read the note %s", key);
	buf[n] = '\0';
	return n;
}
