/* SPDX-License-Identifier: MIT
 *
 * Copying in and out: tar streams between a descriptor and the engine.
 */
#include "runtime/engine/impl.h"

#include <errno.h>
#include <string.h>

/* A task on a container, which need not run; fd is closed when there is none. */
static struct task *task_with_fd(struct davit_instance *inst, int fd, struct davit_op *op)
{
	struct task *t = NULL;

	if (engine_instance(inst)->inst)
		t = task_new(engine_of(inst->runtime), op, inst);
	else
		davit_op_fail(op, DAVIT_ESTATE, inst->runtime->name, "the instance is not there");
	if (!t)
		close(fd);
	return t;
}

static void copy_put(struct davit_instance *inst, const char *path, int fd, struct davit_op *op)
{
	struct task *t = task_with_fd(inst, fd, op);
	DAVIT_AUTO_BUF query = DAVIT_BUF_INIT;
	struct http_call *c;

	if (!t)
		return;
	http_escape(&query, path);
	c = http_new(&t->e->streams, "PUT", "/containers/%s/archive?path=%s",
		     engine_instance(inst)->container, davit_buf_str(&query));
	if (c)
		http_upload(c, fd, "application/x-tar");
	else
		close(fd);
	task_call(t, c, task_last_step);
}

/* --- out --- */

struct output {
	int fd;
	struct local_poll *poll;
	int error;
};

static void output_fini(struct task *t)
{
	struct output *out = t->data;

	local_poll_close(out->poll);
	close(out->fd);
	free(out);
}

static void on_writable(void *user, int events)
{
	struct task *t = user;

	local_poll_set(((struct output *)t->data)->poll, 0);
	if (t->call)
		http_resume(t->call);
}

/* Nobody reads any more: the rest is let go by. */
static void give_up(struct output *out, struct http_call *c)
{
	out->error = errno;
	davit_buf_reset(&c->body);
}

static bool on_archive(struct http_call *c)
{
	struct task *t = c->user;
	struct output *out = t->data;
	ssize_t n;

	while (c->body.len) {
		n = out->error ? (ssize_t)c->body.len : write(out->fd, c->body.data, c->body.len);
		if (n >= 0) {
			davit_buf_consume(&c->body, (size_t)n);
		} else if (errno == EAGAIN) {
			if (!out->poll && local_poll_open(t->e->rt->loop, out->fd, 0, on_writable, t,
							  &out->poll, NULL) < 0) {
				give_up(out, c);
				return true;
			}
			local_poll_set(out->poll, LOCAL_WRITABLE);
			return false;
		} else if (errno != EINTR) {
			give_up(out, c);
		}
	}
	return true;
}

static void got(struct task *t, struct http_call *c, const struct davit_error *err)
{
	struct output *out = t->data;
	struct davit_error why;

	if (!err && out->error)
		davit_error_errno(&why, out->error, "copy", "cannot write what was copied");
	task_end(t, !err && out->error ? &why : err);
}

static void copy_get(struct davit_instance *inst, const char *path, int fd, struct davit_op *op)
{
	struct task *t = task_with_fd(inst, fd, op);
	DAVIT_AUTO_BUF query = DAVIT_BUF_INIT;
	struct output *out;
	struct http_call *c;

	if (!t)
		return;
	out = calloc(1, sizeof *out);
	if (!out) {
		close(fd);
		task_fail(t, DAVIT_ENOMEM, "out of memory");
		return;
	}
	out->fd = fd;
	t->data = out;
	t->fini = output_fini;
	http_escape(&query, path);
	c = http_new(&t->e->streams, "GET", "/containers/%s/archive?path=%s",
		     engine_instance(inst)->container, davit_buf_str(&query));
	if (c)
		c->data = on_archive;
	task_call(t, c, got);
}

const struct davit_copy_facet engine_copy = {.put = copy_put, .get = copy_get};
