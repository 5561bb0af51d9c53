/* SPDX-License-Identifier: MIT */
#include "local/poll.h"

#include "base/util.h"

#include <uv.h>

struct local_poll {
	uv_poll_t uv;
	void (*fn)(void *user, int events);
	void *user;
	int events;
};

static void on_event(uv_poll_t *uv, int status, int events)
{
	struct local_poll *p = uv->data;
	int got = 0;

	if (events & (UV_READABLE | UV_DISCONNECT))
		got |= LOCAL_READABLE;
	if (events & UV_WRITABLE)
		got |= LOCAL_WRITABLE;
	/* libuv stops a handle that failed; the read or write finds out why. */
	p->fn(p->user, status < 0 ? p->events : got & p->events);
}

static void on_closed(uv_handle_t *h)
{
	free(h->data);
}

int local_poll_open(struct davit_loop *loop, int fd, int events, void (*fn)(void *user, int events),
		    void *user, struct local_poll **ret, struct davit_error *err)
{
	struct local_poll *p = calloc(1, sizeof *p);
	int e;

	if (!p)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	e = uv_poll_init(davit_loop_uv(loop), &p->uv, fd);
	if (e < 0) {
		free(p);
		return davit_error_errno(err, -e, "loop", "cannot watch a descriptor");
	}
	p->uv.data = p;
	p->fn = fn;
	p->user = user;
	local_poll_set(p, events);
	*ret = p;
	return 0;
}

void local_poll_set(struct local_poll *p, int events)
{
	int uv = (events & LOCAL_READABLE ? UV_READABLE : 0) | (events & LOCAL_WRITABLE ? UV_WRITABLE : 0);

	if (p->events == events)
		return;
	p->events = events;
	if (uv)
		uv_poll_start(&p->uv, uv, on_event);
	else
		uv_poll_stop(&p->uv);
}

void local_poll_close(struct local_poll *p)
{
	if (p)
		uv_close((uv_handle_t *)&p->uv, on_closed);
}
