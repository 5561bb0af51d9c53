/* SPDX-License-Identifier: MIT
 *
 * A loop on somebody else's clock and waiting: for who has a loop of their own (the
 * workers of src/actor) and wants what is written for ours, timers and deferred calls.
 */
#ifndef DAVIT_LOOP_HOSTED_H
#define DAVIT_LOOP_HOSTED_H

#include "davit/loop.h"

/* ops is borrowed; its functions find the host by davit_loop_host. Closed with
 * davit_loop_close. 0, or DAVIT_ENOMEM. */
int davit_loop_open_hosted(const struct davit_loop_ops *ops, void *host, struct davit_loop **ret_loop,
			   struct davit_error *err);
void *davit_loop_host(struct davit_loop *loop);
/* Fires what is due and runs what is deferred, until there is no more of it. The host
 * calls it at the times that wake_at asked for, and after each call into what uses
 * the loop. */
void davit_loop_turn(struct davit_loop *loop);

#endif
