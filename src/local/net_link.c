/* SPDX-License-Identifier: MIT
 *
 * The two things about interfaces that ioctl cannot do, by rtnetlink.
 */
#include "local/net.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>

struct message {
	struct nlmsghdr h;
	struct ifinfomsg info;
	char attributes[512];
};

static struct rtattr *add(struct message *m, unsigned short type, const void *data, size_t n)
{
	struct rtattr *a = (void *)((char *)m + NLMSG_ALIGN(m->h.nlmsg_len));

	a->rta_type = type;
	a->rta_len = (unsigned short)RTA_LENGTH(n);
	if (n)
		memcpy(RTA_DATA(a), data, n);
	m->h.nlmsg_len = NLMSG_ALIGN(m->h.nlmsg_len) + (unsigned)RTA_ALIGN(a->rta_len);
	return a;
}

static void close_nest(struct message *m, struct rtattr *a)
{
	a->rta_len = (unsigned short)((char *)m + m->h.nlmsg_len - (char *)a);
}

static void begin(struct message *m, unsigned short type, unsigned short flags)
{
	memset(m, 0, sizeof *m);
	m->h.nlmsg_len = NLMSG_LENGTH(sizeof m->info);
	m->h.nlmsg_type = type;
	m->h.nlmsg_flags = (unsigned short)(NLM_F_REQUEST | NLM_F_ACK | flags);
	m->info.ifi_family = AF_UNSPEC;
}

/* An errno, or 0. */
static int ask(struct message *m)
{
	DAVIT_AUTO_CLOSE int s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	struct {
		struct nlmsghdr h;
		struct nlmsgerr e;
		char rest[1024];
	} answer;

	if (s < 0 || send(s, m, m->h.nlmsg_len, 0) < 0 ||
	    DAVIT_EINTR(recv(s, &answer, sizeof answer, 0)) < (ssize_t)NLMSG_LENGTH(sizeof answer.e))
		return errno ? errno : EPROTO;
	return answer.h.nlmsg_type == NLMSG_ERROR ? -answer.e.error : EPROTO;
}

int local_veth_make(const char *ours, const char *theirs, const char *netns, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int ns = open(netns, O_RDONLY | O_CLOEXEC);
	const struct ifinfomsg none = {0};
	struct rtattr *link, *data, *peer;
	struct message m;
	int e;

	if (ns < 0)
		return davit_error_errno(err, errno, "network", "failed to create network: cannot open %s",
					 netns);
	begin(&m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
	add(&m, IFLA_IFNAME, ours, strlen(ours) + 1);
	link = add(&m, IFLA_LINKINFO, NULL, 0);
	add(&m, IFLA_INFO_KIND, "veth", 5);
	data = add(&m, IFLA_INFO_DATA, NULL, 0);
	peer = add(&m, VETH_INFO_PEER, &none, sizeof none);
	add(&m, IFLA_IFNAME, theirs, strlen(theirs) + 1);
	add(&m, IFLA_NET_NS_FD, &ns, sizeof ns);
	close_nest(&m, peer);
	close_nest(&m, data);
	close_nest(&m, link);
	e = ask(&m);
	return e ? davit_error_errno(err, e, "network", "failed to create network: cannot make interface %s",
				     ours)
		 : 0;
}

void local_link_delete(const char *name)
{
	struct message m;

	begin(&m, RTM_DELLINK, 0);
	add(&m, IFLA_IFNAME, name, strlen(name) + 1);
	ask(&m); /* there may be none */
}
