/* SPDX-License-Identifier: MIT
 *
 * The signals that a program takes, heard on its loop.
 */
#ifndef DAVIT_LOOP_SIGNALS_H
#define DAVIT_LOOP_SIGNALS_H

#include "davit/loop.h"

#include <uv.h>

enum { DAVIT_SIGNALS_MAX = 6 };

/* Embedded in its owner; {0} is one that hears nothing. */
struct davit_signals {
	uv_signal_t v[DAVIT_SIGNALS_MAX];
	int n;
	void (*heard)(void *user, int signo);
	void *user;
};

/* From now on each signal of list, which ends with 0, is told to `heard`, in an iteration of the real loop
 * and not in a handler. The loop has something to wait for until davit_signals_close. 0, or DAVIT_EIO with
 * nothing heard. */
int davit_signals_open(struct davit_signals *s, struct davit_loop *loop, const int *list,
		       void (*heard)(void *user, int signo), void *user, struct davit_error *err);
/* Hears no more: what the signals do then is the system's default again. The memory of s must stay until
 * the loop has run once more or is closed. Once more is fine. */
void davit_signals_close(struct davit_signals *s);

#endif
