/* SPDX-License-Identifier: MIT
 *
 * How health checks look at instances from outside (struct davit_core_probes): over
 * TCP and HTTP/1.1, plain or by TLS, and at files of this host. Nothing here blocks, but
 * for reading the certificates that a check of https trusts.
 */
#ifndef DAVIT_DAEMON_PROBES_H
#define DAVIT_DAEMON_PROBES_H

#include "core/core.h"

struct davit_tls_functions;

struct daemon_prober {
	struct davit_loop *loop;	       /* a real one */
	const char *libexec;		       /* where davit-tls.so is */
	const struct davit_tls_functions *tls; /* NULL until it was needed */
};

/* Its user is a struct daemon_prober. */
extern const struct davit_core_probes daemon_probes;

#endif
