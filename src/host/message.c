/* SPDX-License-Identifier: MIT
 *
 * Messages from outside: send, request, command.
 */
#include "host/host.h"

#include <string.h>

/* As text where it is text, which may end with a NUL; in hexadecimal otherwise. */
static json_t *answer_of(const struct davit_outcome *o)
{
	const unsigned char *data = o->data;
	size_t n = o->size;
	DAVIT_AUTO_BUF digits = DAVIT_BUF_INIT;
	json_t *text;

	while (n && !data[n - 1])
		n--;
	text = memchr(data, '\0', n) ? NULL : json_stringn(o->data, n);
	if (text)
		return json_pack("{s:o}", "text", text);
	for (size_t i = 0; i < o->size; i++)
		davit_buf_addf(&digits, "%02x", data[i]);
	return digits.oom ? NULL : json_pack("{s:s}", "hex", davit_buf_str(&digits));
}

/* State of a call that awaits an answer. */
struct asking {
	struct davit_promise promise;
	bool gone; /* who has asked; there is nobody to reply to */
};

/* The container hears that nobody awaits its answer any more. */
static void on_gone(struct davit_http_request *r)
{
	struct host_call *call = r->user;
	struct asking *a = call->state;

	a->gone = true;
	davit_cancel(call->host->c, a->promise);
}

/* Why there was no answer, as far as one can see. */
static void too_late(struct host_call *call)
{
	struct davit_container_info info;

	if (davit_container_get(call->host->c, call->address, &info) || info.state == DAVIT_STATE_STARTED)
		host_fail_with(call, DAVIT_ETIMEDOUT, NULL, "no answer came in time");
	else
		host_fail_with(call, DAVIT_ETIMEDOUT, NULL, "no answer came in time: '%s' is %s", info.alias,
			       davit_state_name(info.state));
}

static void answered(struct host *h, const struct davit_outcome *o, void *arg)
{
	struct host_call *call = arg;
	struct asking *a = call->state;

	if (a->gone) {
		host_call_free(call);
		return;
	}
	call->request->closed = NULL;
	if (o->state == DAVIT_PROMISE_FULFILLED)
		host_reply(call, answer_of(o));
	else if (o->code == DAVIT_ETIMEDOUT && !h->closed)
		too_late(call);
	else
		host_fail_outcome(call, o);
}

/* When p has ended, or who has asked is gone. 0, or DAVIT_ENOMEM: p is forgotten. */
static int await_answer(struct host_call *call, struct davit_promise p)
{
	struct asking *a = calloc(1, sizeof *a);

	if (!a) {
		davit_forget(call->host->c, p);
		return DAVIT_ENOMEM;
	}
	a->promise = p;
	call->state = a;
	call->free_state = free;
	call->request->user = call;
	call->request->closed = on_gone;
	return host_when(call->host, p, answered, call);
}

/* With a NUL behind the text, which is not counted (actor.h). */
static struct davit_message *compose(struct host_call *call)
{
	const char *text = host_body(call, "text");
	size_t n = strlen(text);
	uint32_t type = (uint32_t)json_integer_value(json_object_get(call->body, "type"));
	struct davit_message *m = davit_message_new(call->host->c, type, n + 1);

	if (m) {
		memcpy(m->data, text, n + 1);
		m->size = (uint32_t)n;
	}
	return m;
}

static struct davit_request_options options_of(const struct host_call *call)
{
	const json_t *timeout = json_object_get(call->body, "timeout");

	return (struct davit_request_options){
		.timeout = timeout ? json_integer_value(timeout) : 0,
		.retries = (int)json_integer_value(json_object_get(call->body, "retries")),
	};
}

static int deliver(struct host_call *call, const char *verb, struct davit_ref to, struct davit_promise *p)
{
	const struct davit_request_options o = options_of(call);
	struct davit_context *c = call->host->c;
	const char *parameters = host_body(call, "parameters");
	struct davit_message *m = NULL;
	int r;

	if (!strcmp(verb, "command"))
		return davit_command(c, to, host_body(call, "name"), parameters[0] ? parameters : NULL, &o,
				     p);
	m = compose(call);
	if (!m)
		return DAVIT_ENOMEM;
	r = !strcmp(verb, "request") ? davit_request(c, to, &m, &o, p) : davit_send(c, to, &m);
	davit_message_free(c, m);
	return r;
}

void host_message(struct host_call *call, const char *verb)
{
	json_int_t type = json_integer_value(json_object_get(call->body, "type"));
	struct davit_promise p;
	struct davit_ref to;
	int r;

	if (type < 0 || type >= DAVIT_TYPE_SYSTEM) {
		host_fail_with(call, DAVIT_EINVAL, "type", "a type of message is from 0 to %u",
			       DAVIT_TYPE_SYSTEM - 1);
		return;
	}
	if (davit_find(call->host->c, call->address, &to)) {
		host_fail_with(call, DAVIT_ENOENT, "alias", "there is no container '%.200s'", call->address);
		return;
	}
	r = deliver(call, verb, to, &p);
	if (r == 0 && !strcmp(verb, "send"))
		host_reply(call, json_object());
	else if (r == 0)
		r = await_answer(call, p);
	if (r < 0) {
		call->request->closed = NULL;
		host_fail_with(call, r, "alias", "'%.100s' does not take it: %s", call->address,
			       davit_error_doc(r));
	}
}
