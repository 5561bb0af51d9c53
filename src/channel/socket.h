/* SPDX-License-Identifier: MIT
 *
 * Frames over a stream socket, without blocking. What is sent goes out at once if it
 * can, else it waits in one of two queues: urgent frames (heartbeats, orders) overtake
 * those of messages, between two of them.
 *
 * One thread at a time sends, one at a time receives; those two may be different ones.
 */
#ifndef DAVIT_CHANNEL_SOCKET_H
#define DAVIT_CHANNEL_SOCKET_H

#include "base/buf.h"
#include "channel/frame.h"

struct davit_socket {
	int fd; /* owned; -1: none */
	/* who sends */
	struct davit_buf urgent, bulk;
	size_t partial;	     /* bytes that are left of the frame which was begun */
	bool partial_urgent; /* of which queue */
	bool held;	     /* frames wait for the next ones */
	bool broken;	     /* the other end has gone: what is sent is dropped */
	int pass[2];	     /* descriptors that go with the next frame sent; -1: none */
	/* who receives */
	unsigned char *in;
	size_t in_at, in_n, in_cap;
	int got[2];   /* descriptors that came, owned; -1: none. Others that come are closed */
	bool ended;   /* end of file */
	bool drained; /* the last read took all that there was */
};

/* Takes a connected stream socket over and makes it non-blocking. */
void davit_socket_init(struct davit_socket *s, int fd);
void davit_socket_fini(struct davit_socket *s);

/* Sends a frame: f->size bytes are from, to and data, one after the other. 0, or
 * DAVIT_ENOMEM; a socket whose other end has gone takes all and says nothing. */
int davit_socket_send(struct davit_socket *s, const struct davit_frame *f, const char *from, const char *to,
		      const void *data, bool urgent);
/* Descriptors, borrowed, that go with the next frame; it must be the first one. */
void davit_socket_pass(struct davit_socket *s, int a, int b);
/* While on, frames wait; then they go out together. */
void davit_socket_hold(struct davit_socket *s, bool on);
/* Sends what waits, as far as that goes. */
void davit_socket_flush(struct davit_socket *s);
/* Bytes that wait: while there are some, the socket is to be watched for output. */
static inline size_t davit_socket_queued(const struct davit_socket *s)
{
	return s->urgent.len + s->bulk.len;
}

/* Reads what there is, at most one buffer. 1: something came; 0: nothing now, or the end
 * (s->ended); or DAVIT_ENOMEM. */
int davit_socket_receive(struct davit_socket *s);
/* The next frame that is there as a whole: 1, 0, or DAVIT_EPROTO. *ret_body, of ret->size
 * bytes, is valid until the next call for this socket. */
int davit_socket_next(struct davit_socket *s, enum davit_channel_end end, struct davit_frame *ret,
		      const unsigned char **ret_body);

#endif
