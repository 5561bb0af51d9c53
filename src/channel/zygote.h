/* SPDX-License-Identifier: MIT
 *
 * A small process with one thread that new processes are forked from, quickly and
 * whatever the threads of the program are at. It is forked before the program has
 * threads; it has no descriptors of the program but its output.
 *
 * The processes are children of the program, not of the zygote (CLONE_PARENT): the
 * program waits for them, and they outlive a zygote that is killed. They are killed
 * when the program dies.
 */
#ifndef DAVIT_CHANNEL_ZYGOTE_H
#define DAVIT_CHANNEL_ZYGOTE_H

#include "davit/error.h"

#include <stdbool.h>
#include <stddef.h>

/* What a new process does: `channel` is its end of the socket, request what was asked
 * for. Its result is the exit status. */
typedef int davit_zygote_main(int channel, const void *request, size_t n);

enum { DAVIT_ZYGOTE_REQUEST_MAX = 60 * 1024 };

/* The program has one, which all who open it share, with the `run` of the first. `warm`
 * is called in it once, before the first request. 0, DAVIT_ENOMEM, DAVIT_EIO. */
int davit_zygote_open(davit_zygote_main *run, void (*warm)(void), struct davit_error *err);
/* Ends it when nobody has it open any more. */
void davit_zygote_close(void);
/* A process that calls run(channel, request, n); channel is borrowed. The first frame on
 * the channel is SPAWNED with a pidfd; of one that stays, executing no other program, with its
 * holder's as well (holder.h), who is to be waited for too. If it cannot be forked, STATE comes instead,
 * or end of file at once if the zygote itself has died. Does not wait for any of it.
 * 0, DAVIT_EUNAVAIL: there is no zygote (any more), DAVIT_EINVAL: n is too large. */
int davit_zygote_spawn(int channel, bool stays, const void *request, size_t n);

/* In a process that was forked so, before it executes another program: everything
 * as a program expects it, and DAVIT_CHANNEL. Returns only with an error, errno's. */
int davit_zygote_exec(int channel, char *const *argv);

#endif
