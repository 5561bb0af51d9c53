/* SPDX-License-Identifier: MIT
 *
 * The journal of a run. While one batch of lines is on its way to the disk the next one gathers, so that many
 * steps that end at once cost one sync.
 */
#include "run/host.h"

#include "base/fault.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define AGAIN (INT64_C(1000000000)) /* ns, after a failed write */
#define JOURNAL_MAX ((size_t)1 << 30)

static void run_write(uv_work_t *work)
{
	struct journal *j = work->data;

	DAVIT_FAULT("run-journal");
	j->failed = 0;
	if (lseek(j->fd, j->end, SEEK_SET) < 0 ||
	    davit_write_full(j->fd, j->flying.data, j->flying.len) < 0 || fdatasync(j->fd) < 0)
		j->failed = errno ? errno : EIO;
	DAVIT_FAULT("run-journalled");
}

static void write_waiting(struct journal *j);

static void after_write(uv_work_t *work, int status)
{
	struct journal *j = work->data;

	j->working = false;
	if (status < 0 || j->failed) {
		/* The half of a line that may be there is written over. */
		davit_timer_start(&j->again, AGAIN);
		return;
	}
	j->end += (off_t)j->flying.len;
	davit_buf_reset(&j->flying);
	if (j->flying_generation > j->stored)
		j->stored = j->flying_generation;
	write_waiting(j);
	j->on_stored(j->owner, j->stored);
}

static void fly(struct journal *j)
{
	j->work.data = j;
	j->working = uv_queue_work(davit_loop_uv(j->loop), &j->work, run_write, after_write) == 0;
	if (!j->working)
		davit_timer_start(&j->again, AGAIN);
}

static void write_waiting(struct journal *j)
{
	struct davit_buf empty = j->flying;

	if (j->working || davit_timer_active(&j->again) || j->flying.len || !j->waiting.len)
		return;
	j->flying = j->waiting;
	j->flying_generation = j->waiting_generation;
	j->waiting = empty;
	fly(j);
}

static void on_again(struct davit_timer *t)
{
	fly(DAVIT_CONTAINER_OF(t, struct journal, again));
}

void journal_add(struct journal *j, uint64_t generation, const char *line)
{
	davit_buf_adds(&j->waiting, line);
	davit_buf_addc(&j->waiting, '\n');
	if (generation)
		j->waiting_generation = generation;
	if (j->waiting.oom)
		host_die(j->owner, "out of memory");
	write_waiting(j);
}

/* The whole lines of text; how long they are. */
static int read_lines(const struct davit_buf *text, size_t *ret_end,
		      int (*fn)(void *owner, const json_t *line, struct davit_error *err), void *owner,
		      struct davit_error *err)
{
	const char *p = davit_buf_str(text), *newline;
	json_error_t at;
	int r = 0;

	*ret_end = 0;
	while (r == 0 && (newline = memchr(p + *ret_end, '\n', text->len - *ret_end))) {
		size_t n = (size_t)(newline - p) - *ret_end;
		json_t *line = json_loadb(p + *ret_end, n, 0, &at);

		if (!line)
			return davit_error_set(err, DAVIT_ECORRUPT, NULL, "the journal: %s", at.text);
		r = fn(owner, line, err);
		json_decref(line);
		*ret_end += n + 1;
	}
	return r;
}

int journal_open(struct journal *j, struct davit_loop *loop, const char *dir,
		 int (*fn)(void *owner, const json_t *line, struct davit_error *err), void *owner,
		 struct davit_error *err)
{
	DAVIT_AUTO_FREE char *path = davit_path_join(dir, "journal");
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	size_t end = 0;
	int r = 0;

	if (!path)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	j->loop = loop;
	j->owner = owner;
	davit_timer_init(&j->again, loop, on_again);
	j->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (j->fd < 0)
		return davit_error_errno(err, errno, NULL, "cannot open %s", path);
	r = davit_read_file(path, JOURNAL_MAX, &text, err);
	if (r == 0)
		r = read_lines(&text, &end, fn, owner, err);
	if (r == 0 && ftruncate(j->fd, (off_t)end) < 0)
		r = davit_error_errno(err, errno, NULL, "cannot mend %s", path);
	j->end = (off_t)end;
	return r;
}

void journal_close(struct journal *j)
{
	davit_timer_stop(&j->again);
	davit_buf_fini(&j->waiting);
	davit_buf_fini(&j->flying);
	if (j->fd >= 0)
		close(j->fd);
	j->fd = -1;
}
