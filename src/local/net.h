/* SPDX-License-Identifier: MIT
 *
 * Networks of this host: bridges, and instances plugged into them with a network namespace of
 * their own. See net.c for the files. Everything here blocks, and needs root.
 */
#ifndef DAVIT_LOCAL_NET_H
#define DAVIT_LOCAL_NET_H

#include "base/buf.h"
#include "davit/runtime.h"

#include <net/if.h>

/* Directories. */
struct local_nets {
	char *networks; /* of all networks */
	char *bundles;	/* of the instances of one runtime: BUNDLES/ID is there before attach */
};

/* BASE/ID/FILE; a heap string, or NULL when out of memory. file may be NULL. */
char *local_path(const char *base, const char *id, const char *file);

/* --- net.c --- */
/* Plugs the instance into a network by name, "bridge" among them. rules: for the namespace, in
 * force before there is a way out; or empty. *ret_namespace is an owned path. */
int local_net_attach(const struct local_nets *at, const struct davit_workload *w,
		     const struct davit_buf *rules, const char *name, const char *hostname,
		     char **ret_namespace, struct davit_error *err);
/* Takes away what attach made, whole or in part. */
int local_net_detach(const struct local_nets *at, const char *id, struct davit_error *err);
/* The instance's address, if it has one. */
bool local_net_address_of(const struct local_nets *at, const char *id, char *ret, size_t size);
bool local_net_exists(const struct local_nets *at, const char *name);

/* --- net_link.c --- */
/* A pair of interfaces, one of them in another network namespace. */
int local_veth_make(const char *ours, const char *theirs, const char *netns, struct davit_error *err);
/* Nothing happens when there is none. */
void local_link_delete(const char *name);

/* --- net_address.c: one network while it is changed, and who has which of its addresses --- */

struct local_net {
	const struct local_nets *at;
	const char *id, *name;
	char *dir, *bundle;
	char bridge[IFNAMSIZ], veth[IFNAMSIZ];
	int subnet, host; /* 10.89.subnet.host */
	int lock;
};

/* Locks the network and, with create, makes its directory. id: whose addresses the others are
 * about, "" for nobody's. All strings are borrowed. To be followed by a fini in any case. */
int local_net_init(struct local_net *n, const struct local_nets *at, const char *id, const char *name,
		   bool create, struct davit_error *err);
void local_net_fini(struct local_net *n);
/* The network's subnet (struct local_net: subnet), chosen when it has none yet. DAVIT_EQUOTA. */
int local_net_choose_subnet(struct local_net *n, struct davit_error *err);
/* A free address of it for the instance (struct local_net: host). DAVIT_EQUOTA. */
int local_net_choose_address(struct local_net *n, const char *hostname, struct davit_error *err);
/* Gives back the addresses of the instance; how many others have there are. */
unsigned local_net_give_back(const struct local_net *n);
/* Writes the hosts file of every member. */
void local_net_tell_names(const struct local_net *n);
/* "10.89.SUBNET.host" */
void local_net_address(const struct local_net *n, int host, char ret[32]);
/* The number of a network's subnet, or -1: it has none. */
int local_net_subnet_of(const char *networks, const char *name);

#endif
