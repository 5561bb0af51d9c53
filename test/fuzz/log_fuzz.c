/* SPDX-License-Identifier: MIT
 *
 * Any bytes as the log of an instance. 0xff parts its files; the first byte
 * chooses where a reader resumes. What is delivered behind a cursor is what came
 * behind it the first time, and the last lines are the last ones.
 */
#include "base/file.h"
#include "base/util.h"
#include "local/logread.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(x)                                                                                           \
	do {                                                                                                 \
		if (!(x)) {                                                                                  \
			fprintf(stderr, "log_fuzz: %s\n", #x);                                               \
			abort();                                                                             \
		}                                                                                            \
	} while (0)
#define LINES_MAX 4096

struct got {
	size_t n;
	struct {
		uint64_t cursor, sum;
	} lines[LINES_MAX];
};

static char dir[] = "/tmp/davit-log-fuzz-XXXXXX";

static void leave(void)
{
	davit_remove_tree(dir, NULL);
}

static bool on_line(void *user, const struct davit_log_line *l)
{
	struct got *g = user;
	uint64_t sum = l->stream + UINT64_C(14695981039346656037);

	for (size_t i = 0; i < l->len; i++)
		sum = (sum ^ (unsigned char)l->text[i]) * UINT64_C(1099511628211);
	REQUIRE(l->len <= LOGREAD_LINE_MAX);
	REQUIRE(g->n == 0 || l->cursor > g->lines[g->n - 1].cursor);
	if (g->n < LINES_MAX) {
		g->lines[g->n].cursor = l->cursor;
		g->lines[g->n++].sum = sum;
	}
	return true;
}

static void read_all(struct davit_log_query q, struct got *g)
{
	struct davit_error err;
	struct logread lr;
	int r, steps = 0;

	g->n = 0;
	REQUIRE(logread_open(&lr, dir, &q, on_line, g, &err) == 0);
	while ((r = logread_step(&lr, &err)) == LOGREAD_MORE)
		REQUIRE(++steps < 10000);
	REQUIRE(r == LOGREAD_IDLE);
	logread_close(&lr);
}

static void require_suffix(const struct got *all, size_t from, const struct got *part)
{
	REQUIRE(part->n == all->n - from);
	for (size_t i = 0; i < part->n; i++)
		REQUIRE(part->lines[i].cursor == all->lines[from + i].cursor &&
			part->lines[i].sum == all->lines[from + i].sum);
}

/* Writes the files, whose names are the offsets of their first bytes; how many. */
static size_t write_files(const uint8_t *data, size_t size, char paths[64][64])
{
	uint64_t at = 0;
	size_t n = 0;

	while (size > 0 && n < 64) {
		const uint8_t *end = memchr(data, 0xff, size);
		size_t len = end ? (size_t)(end - data) : size;
		if (len > 0) {
			snprintf(paths[n], 64, "%s/%020" PRIu64 ".log", dir, at);
			int fd = open(paths[n], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
			REQUIRE(fd >= 0 && davit_write_full(fd, data, len) == 0);
			close(fd);
			at += len;
			n++;
		}
		len += end != NULL;
		data += len;
		size -= len;
	}
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool ready;
	static struct got all, part;
	char paths[64][64];
	size_t n, from;

	if (!ready) {
		REQUIRE(mkdtemp(dir));
		atexit(leave);
		ready = true;
	}
	if (size < 1)
		return 0;
	n = write_files(data + 1, size - 1, paths);
	read_all((struct davit_log_query){.tail = -1}, &all);
	if (all.n > 0 && all.n < LINES_MAX) {
		from = data[0] % all.n;
		read_all((struct davit_log_query){.tail = -1, .after = all.lines[from].cursor}, &part);
		require_suffix(&all, from + 1, &part);
		read_all((struct davit_log_query){.tail = (int64_t)from}, &part);
		require_suffix(&all, all.n - from, &part);
	}
	read_all((struct davit_log_query){.tail = -1, .since = INT64_C(1767323045000000000)}, &part);
	REQUIRE(part.n <= all.n);
	for (size_t i = 0; i < n; i++)
		unlink(paths[i]);
	return 0;
}
