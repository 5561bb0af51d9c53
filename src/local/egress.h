/* SPDX-License-Identifier: MIT
 *
 * What a workload may connect to, as rules of nftables. The rules are loaded where the
 * workload cannot change them: into a network namespace in which it has no CAP_NET_ADMIN,
 * or on the host's side of its interface; and before there is a way out. What is there
 * goes with the namespace or, on the host, by the table's name.
 *
 * Names are resolved once, when the rules are made: the workload is given the same
 * addresses in its hosts file, and reaches no name server unless a host of the policy is one.
 */
#ifndef DAVIT_LOCAL_EGRESS_H
#define DAVIT_LOCAL_EGRESS_H

#include "base/buf.h"
#include "base/host.h"
#include "davit/runtime.h"

/* One address of a name. */
struct local_name {
	char name[DAVIT_HOST_NAME_MAX];
	int family;
	unsigned char address[16];
};
struct local_names {
	struct local_name *v;
	size_t n;
};

/* Every name of the workload's policy; *ret is for local_names_fini, also on failure. Blocks as
 * long as the resolver does. DAVIT_EUNAVAIL with the name that is not known now. */
int local_names_resolve(const struct davit_workload *w, struct local_names *ret, struct davit_error *err);
void local_names_fini(struct local_names *n);
/* Lines of a hosts file. */
void local_names_write(const struct local_names *n, struct davit_buf *out);

#define LOCAL_EGRESS_TABLE "davit-egress" /* in a namespace of the workload's own */
/* The script that puts them in place of what the table had. interface: on the host, where the
 * workload's packets come in; NULL: in the namespace in which it runs. DAVIT_ENOMEM. */
int local_egress_rules(const struct davit_workload *w, const struct local_names *names, const char *table,
		       const char *interface, struct davit_buf *out, struct davit_error *err);

/* The program, or NULL where it is not installed. Static. */
const char *local_nft_program(void);
/* Has nft execute a script, all of it or nothing. netns: path of the network namespace, NULL: our
 * own. For threads: it blocks, and changes the caller's namespace meanwhile. DAVIT_EIO with what
 * nft says, DAVIT_ENOTSUP without nft. */
int local_nft(const char *netns, const struct davit_buf *script, struct davit_error *err);

#endif
