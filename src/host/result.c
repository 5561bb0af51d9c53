/* SPDX-License-Identifier: MIT
 *
 * From the workers to the loop: how promises ended.
 */
#include "host/host.h"

#include <string.h>

struct host_result {
	struct host_result *next;
	struct host *host;
	host_done *fn;
	void *arg;
	struct davit_outcome outcome;
	char message[192];
	char *data;
};

static void result_free(struct host_result *r)
{
	free(r->data);
	free(r);
}

/* On a worker. */
static void settled(struct davit_context *c, const struct davit_outcome *o, void *arg)
{
	struct host_result *r = arg;
	struct host *h = r->host;

	(void)c;
	r->outcome =
		(struct davit_outcome){.state = o->state, .code = o->code, .message = r->message, .data = ""};
	snprintf(r->message, sizeof r->message, "%s", o->message ? o->message : "");
	if (o->size && (r->data = malloc(o->size + 1))) {
		memcpy(r->data, o->data, o->size);
		r->data[o->size] = '\0';
		r->outcome.data = r->data;
		r->outcome.size = o->size;
	} else if (o->size) {
		r->outcome.state = DAVIT_PROMISE_REJECTED;
		r->outcome.code = DAVIT_ENOMEM;
		snprintf(r->message, sizeof r->message, "out of memory");
	}
	pthread_mutex_lock(&h->lock);
	*h->settled_end = r;
	h->settled_end = &r->next;
	pthread_mutex_unlock(&h->lock);
	uv_async_send(&h->wake);
}

static struct host_result *take_all(struct host *h)
{
	struct host_result *all;

	pthread_mutex_lock(&h->lock);
	all = h->settled;
	h->settled = NULL;
	h->settled_end = &h->settled;
	pthread_mutex_unlock(&h->lock);
	return all;
}

static void tell(struct host *h)
{
	struct host_result *r = take_all(h), *next;

	for (; r; r = next) {
		next = r->next;
		h->pending--;
		if (h->closed)
			r->outcome = (struct davit_outcome){.state = DAVIT_PROMISE_CANCELLED,
							    .code = DAVIT_ECANCELED,
							    .message = "the project is being stopped",
							    .data = ""};
		r->fn(h, &r->outcome, r->arg);
		result_free(r);
	}
}

static void on_wake(uv_async_t *a)
{
	tell(a->data);
}

int host_when(struct host *h, struct davit_promise p, host_done *fn, void *arg)
{
	struct host_result *r = calloc(1, sizeof *r);

	if (!r) {
		davit_forget(h->c, p);
		return DAVIT_ENOMEM;
	}
	*r = (struct host_result){.host = h, .fn = fn, .arg = arg};
	if (davit_done(h->c, p, settled, r)) {
		free(r);
		return DAVIT_ENOMEM;
	}
	h->pending++;
	return 0;
}

int host_results_open(struct host *h, struct davit_error *err)
{
	int e = uv_async_init(davit_loop_uv(h->loop), &h->wake, on_wake);

	if (e < 0)
		return davit_error_errno(err, -e, NULL, "cannot open the loop");
	h->wake.data = h;
	h->settled_end = &h->settled;
	pthread_mutex_init(&h->lock, NULL);
	return 0;
}

void host_results_close(struct host *h)
{
	tell(h);
	uv_close((uv_handle_t *)&h->wake, NULL);
	pthread_mutex_destroy(&h->lock);
}
