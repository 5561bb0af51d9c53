/* SPDX-License-Identifier: MIT
 *
 * An engine deletes a log with its container; davit keeps it until it is
 * discarded. So it is copied out, to a file in the keeper's format, before a
 * container is removed. How long it can get is what the engine was told to keep.
 */
#include "runtime/engine/impl.h"

#include "base/file.h"
#include "base/log.h"
#include "runtime/engine/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct keeping {
	char *path, *temporary;
	int fd;
	bool failed;
	struct davit_buf out;
	void (*then)(struct task *t);
};

static void keeping_fini(struct task *t)
{
	struct keeping *k = t->data;

	t->data = NULL;
	t->fini = NULL;
	if (k->fd >= 0) {
		close(k->fd);
		unlink(k->temporary);
	}
	free(k->path);
	free(k->temporary);
	davit_buf_fini(&k->out);
	free(k);
}

static void put_record(struct keeping *k, struct frame *f)
{
	char stamp[DAVIT_TIME_MAX];
	int64_t time = 0;
	bool whole;

	frame_stamp(f, &time);
	whole = f->n && f->data[f->n - 1] == '\n';
	davit_buf_addf(&k->out, "%s %s %c ", davit_time_format(time, stamp),
		       f->stream == DAVIT_STDERR ? "stderr" : "stdout", whole ? 'F' : 'P');
	davit_buf_add(&k->out, f->data, whole ? f->n - 1 : f->n);
	davit_buf_addc(&k->out, '\n');
}

static bool on_frames(struct http_call *c)
{
	struct keeping *k = ((struct task *)c->user)->data;
	struct frame f;
	size_t at;

	while (!k->failed && frame_next(&c->body, &f) > 0) {
		at = FRAME_HEADER + f.n;
		put_record(k, &f);
		davit_buf_consume(&c->body, at);
	}
	if (k->out.oom || davit_write_full(k->fd, davit_buf_str(&k->out), k->out.len) < 0)
		k->failed = true;
	davit_buf_reset(&k->out);
	if (k->failed)
		davit_buf_reset(&c->body);
	return true;
}

static void kept(struct task *t, struct http_call *c, const struct davit_error *err)
{
	struct keeping *k = t->data;
	void (*then)(struct task * t) = k->then;

	if (err && err->code == DAVIT_EUNAVAIL) {
		t->cancel(t, err->code); /* the removal cannot be done either */
		return;
	}
	if (!err && !k->failed && rename(k->temporary, k->path) == 0) {
		close(k->fd);
		k->fd = -1;
	} else {
		/* A full disk must not keep what has to go. */
		davit_log(DAVIT_LOG_WARNING, "the log of %s is lost: %s", engine_instance(t->inst)->id,
			  err ? err->message : "it could not be copied");
	}
	keeping_fini(t);
	then(t);
}

static int open_file(struct task *t, struct keeping *k)
{
	char *slash;

	k->path = logs_path(t->e->rt, engine_instance(t->inst)->id);
	k->temporary = logs_path(t->e->rt, engine_instance(t->inst)->id);
	if (!k->path || !k->temporary)
		return -1;
	slash = strrchr(k->temporary, '/');
	*slash = '\0';
	if (davit_mkdirs(k->temporary, 0700, NULL) < 0)
		return -1;
	*slash = '/';
	memcpy(k->temporary + strlen(k->temporary) - 3, "new", 3);
	k->fd = open(k->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	return k->fd < 0 ? -1 : 0;
}

void logs_keep(struct task *t, void (*then)(struct task *t))
{
	struct keeping *k = calloc(1, sizeof *k);
	struct http_call *c;

	if (!k) {
		task_fail(t, DAVIT_ENOMEM, "out of memory");
		return;
	}
	k->fd = -1;
	k->then = then;
	t->data = k;
	t->fini = keeping_fini;
	k->failed = open_file(t, k) < 0;
	c = http_new(&t->e->streams, "GET", "/containers/%s/logs?stdout=1&stderr=1&timestamps=1",
		     engine_instance(t->inst)->container);
	if (c)
		c->data = on_frames;
	task_call(t, c, kept);
}
