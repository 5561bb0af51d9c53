/* SPDX-License-Identifier: MIT
 *
 * What the handlers of requests share.
 */
#ifndef DAVIT_KEEPER_REQUEST_H
#define DAVIT_KEEPER_REQUEST_H

#include "keeper/keeper.h"

/* A request as its handler sees it. */
struct request {
	const struct keeper_header *h; /* in the message */
	struct keeper_reader body;     /* what stands behind the fixed struct */
	int *fds;
	size_t n_fds;
	struct keeper_slot *slot; /* of h->id, where the table wants one */
	struct davit_error err;
};

/* The fixed struct, as far as the sender's version knows it; the rest zero. */
void keeper_request_fixed(const struct request *q, void *ret, size_t size);

/* terminal_request.c: 0, or a code with q->err. */
int keeper_request_terminal(struct keeper *k, struct request *q);
int keeper_request_attach(struct keeper *k, struct request *q);
int keeper_request_resize(struct keeper *k, struct request *q);
int keeper_request_terminal_signal(struct keeper *k, struct request *q);
int keeper_request_terminals(struct keeper *k, struct request *q);
int keeper_request_terminal_close(struct keeper *k, struct request *q);

#endif
