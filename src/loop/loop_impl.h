/* SPDX-License-Identifier: MIT
 *
 * What the two loops share. Not for use outside src/loop.
 */
#ifndef DAVIT_LOOP_IMPL_H
#define DAVIT_LOOP_IMPL_H

#include "davit/loop.h"

struct davit_loop {
	const struct davit_loop_ops *ops;
	void (*close)(struct davit_loop *loop);
	void *uv; /* libuv's; NULL: of virtual time */
	struct davit_timer **heap;
	uint32_t heap_len, heap_cap;
	uint64_t order; /* of the timer started last */
	int64_t armed;	/* what wake_at was told last */
	bool dispatching;
	struct davit_deferred deferred; /* head of a ring */
};

void davit_loop_setup(struct davit_loop *loop, const struct davit_loop_ops *ops);
void davit_loop_teardown(struct davit_loop *loop);
/* Fires what is due, runs what is deferred. True if anything ran. */
bool davit_loop_dispatch(struct davit_loop *loop);
/* How long closing the real loop waits for handles that others have not closed yet. */
extern unsigned davit_loop_patience_ms;

#endif
