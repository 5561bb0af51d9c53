/* SPDX-License-Identifier: MIT
 *
 * Who follows the tree: each change gives it another number, and whoever has seen the
 * number before is answered. Many changes within a moment are one.
 */
#include "host/host.h"

#include "base/units.h"

#include <stdlib.h>

#define MOMENT (20 * DAVIT_NSEC_PER_MSEC)

/* On any thread of the system. */
void host_changed(void *host)
{
	struct host *h = host;

	if (!atomic_exchange(&h->dirty, true))
		uv_async_send(&h->changes);
}

static void on_changes(uv_async_t *a)
{
	struct host *h = a->data;

	if (!h->closed)
		davit_timer_start(&h->moment, MOMENT);
}

static void on_moment(struct davit_timer *t)
{
	struct host *h = DAVIT_CONTAINER_OF(t, struct host, moment);
	struct host_call *call, *next;
	struct davit_list all;

	atomic_store(&h->dirty, false); /* before it is looked at */
	h->change++;
	davit_list_init(&all);
	davit_list_splice(&all, &h->followers);
	DAVIT_LIST_FOREACH_SAFE (call, next, &all, followers) {
		davit_list_remove(&call->followers);
		call->request->closed = NULL;
		host_reply_all(call);
	}
}

/* Nobody waits for it any more. */
static void on_closed(struct davit_http_request *r)
{
	struct host_call *call = r->user;

	davit_list_remove(&call->followers);
	host_call_free(call);
}

bool host_follow(struct host_call *call)
{
	const char *after = host_query(call, "after");

	if (!*after || strtoull(after, NULL, 10) != call->host->change)
		return false;
	call->request->user = call;
	call->request->closed = on_closed;
	davit_list_add_tail(&call->host->followers, &call->followers);
	return true;
}

int host_changes_open(struct host *h, struct davit_error *err)
{
	int e = uv_async_init(davit_loop_uv(h->loop), &h->changes, on_changes);

	if (e < 0)
		return davit_error_errno(err, -e, NULL, "cannot open the loop");
	h->changes.data = h;
	davit_list_init(&h->followers);
	davit_timer_init(&h->moment, h->loop, on_moment);
	/* No number of a host before this one. */
	h->change = (uint64_t)davit_loop_wall(h->loop) / DAVIT_NSEC_PER_MSEC * 1000;
	return 0;
}

void host_changes_close(struct host *h)
{
	davit_timer_stop(&h->moment);
	uv_close((uv_handle_t *)&h->changes, NULL);
}
