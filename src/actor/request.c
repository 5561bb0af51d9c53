/* SPDX-License-Identifier: MIT
 *
 * Requests: messages with a promise. Sent again when no answer comes in time, and
 * handled once all the same: the promise knows whether it was begun.
 */
#include "actor/container_impl.h"

#include <stdio.h>
#include <string.h>

#define TIMEOUT INT64_C(10000000000)

int davit_request(struct davit_context *c, struct davit_ref to, struct davit_message **m,
		  const struct davit_request_options *o, struct davit_promise *ret)
{
	static const struct davit_request_options none;
	struct davit_message *again = NULL;
	struct davit_promise p;
	int r;

	o = o ? o : &none;
	if ((r = davit_promise_new(c, &p)))
		return r;
	(*m)->promise = p;
	(*m)->flags_ |= (o->retries > 0 ? MSG_RETRIED : 0) | (o->failure ? MSG_GATED : 0);
	if (o->retries > 0 && !(again = message_copy(c, *m)))
		r = DAVIT_ENOMEM;
	if (!r) {
		promise_set_failure(c, p, o->failure);
		promise_request(c, p, to, o->timeout ? o->timeout : TIMEOUT, o->retries, again);
		r = davit_send(c, to, m);
	}
	/* What could not be sent is the caller's still; what became a dead letter is a
	 * rejected promise, which says why. */
	if (r && *m) {
		(*m)->promise = (struct davit_promise){0, 0};
		davit_cancel(c, p);
		davit_forget(c, p);
		return r;
	}
	*ret = p;
	return 0;
}

int davit_ask(struct davit_context *c, struct davit_ref to, uint32_t type, const void *data, size_t size,
	      const struct davit_request_options *o, struct davit_promise *ret)
{
	struct davit_message *m = davit_message_new(c, type, size);
	int r;

	if (!m)
		return DAVIT_ENOMEM;
	if (size)
		memcpy(m->data, data, size);
	r = davit_request(c, to, &m, o, ret);
	davit_message_free(c, m);
	return r;
}

int davit_command(struct davit_context *c, struct davit_ref to, const char *name, const char *parameters,
		  const struct davit_request_options *o, struct davit_promise *ret)
{
	size_t n = strlen(name) + 1, p = parameters ? strlen(parameters) + 1 : 1;
	struct davit_message *m = davit_message_new(c, DAVIT_TYPE_COMMAND, n + p);
	int r;

	if (!m)
		return DAVIT_ENOMEM;
	memcpy(m->data, name, n);
	memcpy(m->data + n, parameters ? parameters : "", p);
	r = davit_request(c, to, &m, o, ret);
	davit_message_free(c, m);
	return r;
}

int davit_reply(struct davit_context *c, const struct davit_message *m, const void *data, size_t size)
{
	if (m->promise.generation)
		davit_fulfil(c, m->promise, data, size);
	return 0;
}

int davit_refuse(struct davit_context *c, const struct davit_message *m, int code, const char *fmt, ...)
{
	char text[448];
	va_list ap;

	if (!m->promise.generation)
		return 0;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	promise_end(c, m->promise, DAVIT_PROMISE_REJECTED, code, text);
	return 0;
}
