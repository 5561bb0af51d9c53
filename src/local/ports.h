/* SPDX-License-Identifier: MIT
 *
 * Host ports: whether they are free, who holds them, and choosing one.
 */
#ifndef DAVIT_LOCAL_PORTS_H
#define DAVIT_LOCAL_PORTS_H

#include "base/util.h"
#include "davit/runtime.h"

#define PORTS_RECENT 64

/* A socket that is bound and never listens. */
struct local_port_hold {
	struct davit_port port;
	int fd;
};

/* Ports that were chosen: kept while an instance has them, and for a while
 * before, from the choice until the instance is created. */
struct local_ports {
	bool mapped;	     /* the port inside may be another: the driver's to set after local_open */
	uint8_t *claimed[2]; /* by tcp, udp: uses of each port, or NULL while there is none */
	struct {
		uint16_t port;
		bool udp;
		int64_t until; /* loop's time */
	} recent[PORTS_RECENT];
	size_t next;
	struct local_port_hold *holds;
	size_t n_holds;
};

void local_ports_fini(struct local_ports *p);
/* An instance with these ports exists (or no longer). hold: nobody listens on them, for they are
 * translated; sockets of ours keep others off. */
void local_ports_claim(struct local_ports *p, const struct davit_port *ports, size_t n, bool hold);
void local_ports_release(struct local_ports *p, const struct davit_port *ports, size_t n);
/* See struct davit_ports_facet. */
int local_ports_resolve(struct local_ports *p, struct davit_loop *loop, struct davit_port *ports, size_t n,
			struct davit_error *err);

#endif
