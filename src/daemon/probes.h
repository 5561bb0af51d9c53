/* SPDX-License-Identifier: MIT
 *
 * How health checks look at instances from outside (struct davit_core_probes): over
 * TCP and plain HTTP/1.1, and at files of this host. Nothing here blocks.
 */
#ifndef DAVIT_DAEMON_PROBES_H
#define DAVIT_DAEMON_PROBES_H

#include "core/core.h"

/* Its user is the struct davit_loop, a real one. */
extern const struct davit_core_probes daemon_probes;

#endif
