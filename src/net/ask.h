/* SPDX-License-Identifier: MIT
 *
 * One request to another server on this host, on the loop. For programs that must not
 * block; others use client.h.
 */
#ifndef DAVIT_NET_ASK_H
#define DAVIT_NET_ASK_H

#include "base/buf.h"
#include "davit/op.h"

/* The texts are borrowed during davit_http_ask. */
struct davit_http_question {
	struct davit_loop *loop; /* a real one */
	const char *socket;	 /* path of a unix socket */
	const char *method, *target;
	const void *body; /* JSON; NULL: none */
	size_t body_len;
	struct davit_buf *ret_body; /* the answer's is appended; valid until op is done */
	size_t max;		    /* of it, in bytes */
};

/* Completes op with the HTTP status, or fails it: DAVIT_ECLOSED when the peer went
 * before it had answered, DAVIT_EPROTO. op may have a deadline, and be cancelled.
 * Returns 0, or as davit_unix_connect: DAVIT_EUNAVAIL when nobody listens, and then op
 * is not touched. */
int davit_http_ask(const struct davit_http_question *q, struct davit_op *op, struct davit_error *err);

#endif
