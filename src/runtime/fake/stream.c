/* SPDX-License-Identifier: MIT
 *
 * Whole streams from and to descriptors, by a thread of libuv's, so that the loop
 * never waits. A virtual loop has no threads: there it is refused.
 */
#include "runtime/fake/fake_impl.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <uv.h>

#define STREAM_MAX ((size_t)256 * 1024 * 1024)

struct fake_stream {
	uv_work_t work;
	struct davit_list list; /* the world's; alone once nobody waits */
	struct davit_op *op;	/* NULL then */
	struct davit_buf data;
	int fd, stop; /* stop: an eventfd */
	bool writes;
	int sys; /* errno of the thread's failure, ECANCELED when it was stopped */
	void (*then)(struct davit_op *op, void *user, struct davit_buf *data);
	void *user;
	void (*drop)(void *user);
};

/* --- in the thread --- */

static bool ready(struct fake_stream *s)
{
	struct pollfd fds[2] = {{.fd = s->fd, .events = s->writes ? POLLOUT : POLLIN},
				{.fd = s->stop, .events = POLLIN}};

	while (poll(fds, 2, -1) < 0)
		if (errno != EINTR) {
			s->sys = errno;
			return false;
		}
	if (fds[1].revents)
		s->sys = ECANCELED;
	return !fds[1].revents;
}

static void run(uv_work_t *work)
{
	struct fake_stream *s = work->data;
	char block[65536];
	size_t at = 0;

	while (!s->sys && (!s->writes || at < s->data.len) && ready(s)) {
		ssize_t n = s->writes ? write(s->fd, s->data.data + at, s->data.len - at)
				      : read(s->fd, block, sizeof block);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n < 0)
			s->sys = errno;
		if (n == 0)
			break;
		at += (size_t)n;
		if (!s->writes)
			davit_buf_add(&s->data, block, (size_t)n);
		if (s->data.oom)
			s->sys = ENOMEM;
		if (!s->writes && s->data.len > STREAM_MAX)
			s->sys = EFBIG;
	}
	close(s->fd);
}

/* --- on the loop --- */

static void after(uv_work_t *work, int status)
{
	struct fake_stream *s = work->data;
	struct davit_op *op = s->op;
	struct davit_error err;

	davit_list_remove(&s->list);
	if (op && (s->sys || status)) {
		davit_error_errno(&err, s->sys ? s->sys : ECANCELED, "fake", "the stream broke");
		if (s->sys == ECANCELED)
			davit_error_set(&err, DAVIT_ECANCELED, "fake", "it was cancelled");
		davit_op_fail_error(op, &err);
	} else if (op) {
		s->then(op, s->user, &s->data);
	}
	if (s->drop)
		s->drop(s->user);
	close(s->stop);
	davit_buf_fini(&s->data);
	free(s);
}

static void stop(struct fake_stream *s)
{
	uint64_t one = 1;

	if (write(s->stop, &one, sizeof one) != (ssize_t)sizeof one)
		return; /* it is stopped already */
}

static void on_cancel(struct davit_op *op, int why)
{
	(void)why;
	stop(op->performer);
}

void fake_stream(struct davit_fake_world *w, int fd, struct davit_buf *write,
		 void (*then)(struct davit_op *op, void *user, struct davit_buf *data), void *user,
		 void (*drop)(void *user), struct davit_op *op)
{
	struct uv_loop_s *loop = davit_loop_uv(w->loop);
	struct fake_stream *s = calloc(1, sizeof *s);

	if (s)
		s->stop = eventfd(0, EFD_CLOEXEC);
	if (!loop || !s || s->stop < 0) {
		davit_op_fail(op, loop ? DAVIT_ENOMEM : DAVIT_ENOTSUP, "fake",
			      loop ? "out of memory" : "a virtual loop carries no streams");
		if (drop)
			drop(user);
		close(fd);
		free(s);
		return;
	}
	s->work.data = s;
	s->fd = fd;
	s->op = op;
	s->then = then;
	s->user = user;
	s->drop = drop;
	if (write) {
		s->writes = true;
		s->data = *write;
		*write = (struct davit_buf){0};
	}
	davit_list_add_tail(&w->streams, &s->list);
	op->performer = s;
	davit_op_on_cancel(op, on_cancel);
	uv_queue_work(loop, &s->work, run, after);
}

void fake_streams_end(struct davit_fake_world *w)
{
	struct fake_stream *s, *tmp;

	DAVIT_LIST_FOREACH_SAFE (s, tmp, &w->streams, list) {
		davit_list_remove(&s->list);
		davit_op_fail(DAVIT_TAKE(s->op), DAVIT_ECLOSED, "fake", "the runtime was closed");
		stop(s);
	}
}
