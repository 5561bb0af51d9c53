/* SPDX-License-Identifier: MIT
 *
 * Networks: for each a bridge and a subnet, for each instance a network namespace, an
 * address, a pair of interfaces, and for ports an nftables table of its own.
 *
 *   NETWORKS/NAME/lock          held for every change of the rest
 *   NETWORKS/NAME/subnet        N: 10.89.N.0/24
 *   NETWORKS/NAME/addresses/A   who has 10.89.N.A: a link to "BUNDLE:NAME", which is made in
 *                               one step: no address is given twice, none is lost
 *   BUNDLE/network              the network's name, written before anything else is made
 *   BUNDLE/ports                it has translated ports; likewise
 *   BUNDLE/address, netns       what was made
 *
 * All is named by the instance or the network, so that it can be taken away by whoever
 * finds the bundle. Everything here blocks.
 */
#include "local/net.h"

#include "base/fault.h"
#include "base/file.h"
#include "local/egress.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <net/if.h>
#include <net/route.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <linux/if_bridge.h>
#include <linux/sockios.h>

static int failed(struct davit_error *err, int sys, const char *what)
{
	return davit_error_errno(err, sys, "network", "failed to create network: %s", what);
}

/* --- interfaces, by ioctl --- */

static int set_address(int s, const char *interface, unsigned address)
{
	struct ifreq r = {0};
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(address)}};

	snprintf(r.ifr_name, sizeof r.ifr_name, "%s", interface);
	memcpy(&r.ifr_addr, &a, sizeof a);
	if (ioctl(s, SIOCSIFADDR, &r) < 0)
		return -1;
	a.sin_addr.s_addr = htonl(0xffffff00u);
	memcpy(&r.ifr_netmask, &a, sizeof a);
	return ioctl(s, SIOCSIFNETMASK, &r);
}

static int set_up(int s, const char *interface, bool up)
{
	struct ifreq r = {0};

	snprintf(r.ifr_name, sizeof r.ifr_name, "%s", interface);
	if (ioctl(s, SIOCGIFFLAGS, &r) < 0)
		return -1;
	r.ifr_flags = (short)(up ? r.ifr_flags | IFF_UP : r.ifr_flags & ~IFF_UP);
	return ioctl(s, SIOCSIFFLAGS, &r);
}

static int set_gateway(int s, unsigned address)
{
	struct rtentry r = {.rt_flags = RTF_UP | RTF_GATEWAY};
	struct sockaddr_in a = {.sin_family = AF_INET};

	memcpy(&r.rt_dst, &a, sizeof a);
	memcpy(&r.rt_genmask, &a, sizeof a);
	a.sin_addr.s_addr = htonl(address);
	memcpy(&r.rt_gateway, &a, sizeof a);
	return ioctl(s, SIOCADDRT, &r);
}

static void put(const char *path, const char *text)
{
	DAVIT_AUTO_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd >= 0 && write(fd, text, strlen(text)) < 0)
		return; /* a read-only /proc: then it must have been set by who made it so */
}

/* --- rules, by nft --- */

/* What leaves the network bears the host's address; what comes in by a translated port and
 * would go back another way, the bridge's. */
static int add_network_rules(const struct local_net *n, struct davit_error *err)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;

	davit_buf_addf(&b,
		       "add table ip davit-%s\ndelete table ip davit-%s\ntable ip davit-%s {\n"
		       "\tchain postrouting {\n\t\ttype nat hook postrouting priority 100\n"
		       "\t\tip saddr 10.89.%d.0/24 oifname != \"%s\" masquerade\n"
		       "\t\tip saddr 127.0.0.0/8 oifname \"%s\" masquerade\n"
		       /* A container that reaches itself or a neighbour by a port of the host. */
		       "\t\tip saddr 10.89.%d.0/24 oifname \"%s\" ct status dnat masquerade\n\t}\n}\n",
		       n->bridge, n->bridge, n->bridge, n->subnet, n->bridge, n->bridge, n->subnet,
		       n->bridge);
	return local_nft(NULL, &b, err);
}

static void drop_rules(const char *name)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;

	/* "add" makes the deletion one of something that is there. */
	davit_buf_addf(&b, "add table ip davit-%s\ndelete table ip davit-%s\n", name, name);
	local_nft(NULL, &b, NULL);
}

/* Ports of 127.0.0.1 are sent into the bridge, and what comes from it is forwarded. Where there
 * is a bridge there are the rules. */
static int make_bridge(struct local_net *n, int s, struct davit_error *err)
{
	char path[96];

	if (!if_nametoindex(n->bridge)) {
		int r = add_network_rules(n, err);

		if (r < 0)
			return r;
	}
	if (ioctl(s, SIOCBRADDBR, n->bridge) < 0 && errno != EEXIST)
		return failed(err, errno, "cannot make a bridge");
	if (set_address(s, n->bridge, 0x0a590001u | (unsigned)n->subnet << 8) < 0 ||
	    set_up(s, n->bridge, true) < 0)
		return failed(err, errno, "cannot set up the bridge");
	snprintf(path, sizeof path, "/proc/sys/net/ipv4/conf/%s/route_localnet", n->bridge);
	put(path, "1");
	put("/proc/sys/net/ipv4/ip_forward", "1");
	return 0;
}

static int plug(struct local_net *n, int s, struct davit_error *err)
{
	struct ifreq r = {0};

	snprintf(r.ifr_name, sizeof r.ifr_name, "%s", n->bridge);
	r.ifr_ifindex = (int)if_nametoindex(n->veth);
	if (ioctl(s, SIOCBRADDIF, &r) < 0 || set_up(s, n->veth, true) < 0)
		return failed(err, errno, "cannot plug the container into the bridge");
	return 0;
}

/* --- namespaces --- */

static int make_namespace(const char *path, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int ours = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	DAVIT_AUTO_CLOSE int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	int e = 0;

	if (ours < 0 || file < 0 || unshare(CLONE_NEWNET) < 0)
		return failed(err, errno, "cannot make a network namespace");
	if (mount("/proc/thread-self/ns/net", path, NULL, MS_BIND, NULL) < 0)
		e = errno;
	/* This thread serves others after us: it must not go on in there. */
	if (setns(ours, CLONE_NEWNET) < 0)
		abort();
	return e ? failed(err, e, "cannot keep a network namespace") : 0;
}

/* What is done inside: loopback, address, gateway. An errno or 0. */
static int set_up_inside(const struct local_net *n)
{
	DAVIT_AUTO_CLOSE int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	unsigned net = 0x0a590000u | (unsigned)n->subnet << 8;

	if (s < 0 || set_up(s, "lo", true) < 0 || set_address(s, "eth0", net | (unsigned)n->host) < 0 ||
	    set_up(s, "eth0", true) < 0 || set_gateway(s, net | 1) < 0)
		return errno;
	return 0;
}

static int enter_and_set_up(const struct local_net *n, const char *path, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int ours = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	DAVIT_AUTO_CLOSE int theirs = open(path, O_RDONLY | O_CLOEXEC);
	int e;

	if (ours < 0 || theirs < 0 || setns(theirs, CLONE_NEWNET) < 0)
		return failed(err, errno, "cannot enter the network namespace");
	e = set_up_inside(n);
	if (setns(ours, CLONE_NEWNET) < 0)
		abort();
	return e ? failed(err, e, "cannot set up the container's interface") : 0;
}

/* --- ports --- */

static void add_port(struct davit_buf *b, const struct davit_port *p, const char *address)
{
	const char *bind = *p->bind ? p->bind : "127.0.0.1";
	bool any = !strcmp(bind, "0.0.0.0") || !strcmp(bind, "::");

	davit_buf_addf(b, "\t\t%s%s %s dport %u dnat to %s:%u\n", any ? "fib daddr type local" : "ip daddr ",
		       any ? "" : bind, p->udp ? "udp" : "tcp", p->host, address,
		       p->container ? p->container : p->host);
}

static int add_rules(const struct local_net *n, const struct davit_workload *w, struct davit_error *err)
{
	static const char *const hooks[] = {"prerouting", "output"};
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	char address[32];

	local_net_address(n, n->host, address);
	davit_buf_addf(&b, "table ip davit-%s {\n", n->id);
	for (size_t h = 0; h < DAVIT_ARRAY_SIZE(hooks); h++) {
		davit_buf_addf(&b, "\tchain %s {\n\t\ttype nat hook %s priority -100\n", hooks[h], hooks[h]);
		for (size_t i = 0; i < w->n_ports; i++)
			add_port(&b, &w->ports[i], address);
		davit_buf_adds(&b, "\t}\n");
	}
	davit_buf_adds(&b, "}\n");
	return local_nft(NULL, &b, err);
}

/* --- an instance --- */

static int note(const struct local_net *n, const char *file, const char *text, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *path = davit_path_join(n->bundle, file);
	DAVIT_AUTO_CLOSE int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		return failed(err, errno, "cannot write into the bundle");
	return 0;
}

static int attach(struct local_net *n, const struct davit_workload *w, const struct davit_buf *rules,
		  const char *hostname, const char *netns, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char address[32];
	int r;

	if (s < 0)
		return failed(err, errno, "cannot make a socket");
	r = note(n, "network", n->name, err);
	if (!r)
		r = local_net_choose_subnet(n, err);
	if (!r)
		r = local_net_choose_address(n, hostname, err);
	if (!r)
		r = make_bridge(n, s, err);
	if (!r)
		r = make_namespace(netns, err);
	DAVIT_FAULT("net.namespace");
	/* Before there is a way out. */
	if (!r && rules->len)
		r = local_nft(netns, rules, err);
	DAVIT_FAULT("net.egress");
	if (!r)
		r = local_veth_make(n->veth, "eth0", netns, err);
	if (!r)
		r = enter_and_set_up(n, netns, err);
	if (!r)
		r = plug(n, s, err);
	if (!r && w->n_ports)
		r = note(n, "ports", "", err);
	if (!r && w->n_ports)
		r = add_rules(n, w, err);
	if (r < 0)
		return r;
	local_net_address(n, n->host, address);
	local_net_tell_names(n);
	return note(n, "address", address, err);
}

int local_net_attach(const struct local_nets *at, const struct davit_workload *w,
		     const struct davit_buf *rules, const char *name, const char *hostname,
		     char **ret_namespace, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *netns = local_path(at->bundles, w->id, "netns");
	struct local_net n;
	int r = netns ? local_net_init(&n, at, w->id, name, true, err)
		      : davit_error_set(err, DAVIT_ENOMEM, "network", "out of memory");

	if (netns) {
		if (!r)
			r = attach(&n, w, rules, hostname, netns, err);
		local_net_fini(&n);
	}
	if (!r)
		*ret_namespace = DAVIT_TAKE(netns);
	return r;
}

static void drop_bridge(const struct local_net *n)
{
	DAVIT_AUTO_CLOSE int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	/* The rules first: while the bridge is there, this is done again after a kill. */
	drop_rules(n->bridge);
	if (s >= 0 && set_up(s, n->bridge, false) == 0)
		ioctl(s, SIOCBRDELBR, n->bridge);
}

int local_net_detach(const struct local_nets *at, const char *id, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *file = local_path(at->bundles, id, "network");
	DAVIT_AUTO_FREE char *netns = local_path(at->bundles, id, "netns");
	DAVIT_AUTO_FREE char *ports = local_path(at->bundles, id, "ports");
	DAVIT_AUTO_BUF name = DAVIT_BUF_INIT;
	struct local_net n;
	int r;

	if (!file || !netns || !ports)
		return davit_error_set(err, DAVIT_ENOMEM, "network", "out of memory");
	/* Without that file nothing was made. */
	if (davit_read_file(file, 256, &name, NULL) < 0 || !name.len)
		return 0;
	r = local_net_init(&n, at, id, name.data, true, err);
	if (!r) {
		n.subnet = local_net_subnet_of(at->networks, n.name);
		if (access(ports, F_OK) == 0)
			drop_rules(n.id);
		/* The interfaces go with the namespace, at once rather than when the kernel comes
		 * round to it. */
		local_link_delete(n.veth);
		umount2(netns, MNT_DETACH);
		if (!local_net_give_back(&n))
			drop_bridge(&n);
		else
			local_net_tell_names(&n);
	}
	local_net_fini(&n);
	return r;
}

bool local_net_address_of(const struct local_nets *at, const char *id, char *ret, size_t size)
{
	DAVIT_AUTO_FREE char *path = local_path(at->bundles, id, "address");
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;

	if (!path || davit_read_file(path, 64, &text, NULL) < 0 || !text.len)
		return false;
	snprintf(ret, size, "%s", text.data);
	return true;
}

bool local_net_exists(const struct local_nets *at, const char *name)
{
	DAVIT_AUTO_FREE char *path = local_path(at->networks, name, "subnet");

	return path && access(path, F_OK) == 0;
}
