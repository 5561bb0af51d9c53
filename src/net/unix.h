/* SPDX-License-Identifier: MIT
 *
 * Unix stream sockets by path. Paths of any length work: what does not fit into
 * a socket address is reached through /proc/self/fd.
 */
#ifndef DAVIT_NET_UNIX_H
#define DAVIT_NET_UNIX_H

#include "davit/error.h"

#include <stdbool.h>
#include <sys/types.h>

/* Connects, blocking, close-on-exec. Errors as davit_client_open. */
int davit_unix_connect(const char *path, int *ret_fd, struct davit_error *err);

/* A listening socket at `path`, for its owner alone: mode 0600 before anybody can
 * connect, close-on-exec, non-blocking. It gets its name only when it listens
 * already, and takes the name over from a dead one atomically. DAVIT_EINUSE when
 * somebody listens there; DAVIT_EEXIST when something else is in the way. */
int davit_unix_listen(const char *path, int *ret_fd, struct davit_error *err);

/* The peer's user as the kernel recorded it. 0 or a code. */
int davit_unix_peer(int fd, uid_t *ret_uid, struct davit_error *err);

#endif
