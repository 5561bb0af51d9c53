/* SPDX-License-Identifier: MIT
 *
 * One network while it is changed, and who has which of its addresses: for network.c, which
 * makes what is at them. See there for the files. Everything here blocks.
 */
#ifndef DAVIT_OCI_ADDRESS_H
#define DAVIT_OCI_ADDRESS_H

#include "runtime/oci/impl.h"

#include <net/if.h>

struct net {
	const struct oci_place *pl;
	const char *id, *name;
	char *dir, *bundle;
	char bridge[IFNAMSIZ], veth[IFNAMSIZ];
	int subnet, host; /* 10.89.subnet.host */
	int lock;
};

/* Locks the network and, with create, makes its directory. id: whose addresses the others are
 * about, "" for nobody's. All strings are borrowed. To be followed by a fini in any case. */
int oci_net_init(struct net *n, const struct oci_place *pl, const char *id, const char *name, bool create,
		 struct davit_error *err);
void oci_net_fini(struct net *n);
/* The network's subnet (struct net: subnet), chosen when it has none yet. DAVIT_EQUOTA. */
int oci_net_choose_subnet(struct net *n, struct davit_error *err);
/* A free address of it for the instance (struct net: host). DAVIT_EQUOTA. */
int oci_net_choose_address(struct net *n, const char *hostname, struct davit_error *err);
/* Gives back the addresses of the instance; how many others have there are. */
unsigned oci_net_give_back(const struct net *n);
/* Writes the hosts file of every member. */
void oci_net_tell_names(const struct net *n);
/* "10.89.SUBNET.host" */
void oci_net_address(const struct net *n, int host, char ret[32]);
/* The number of a network's subnet, or -1: it has none. */
int oci_net_subnet_of(const char *networks, const char *name);

#endif
