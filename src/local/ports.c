/* SPDX-License-Identifier: MIT */
#include "local/ports.h"

#include "base/units.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define RECENT_NS (60 * DAVIT_NSEC_PER_SEC)
/* Free ports are chosen from below the range that the kernel gives to outgoing
 * connections, so that none of those takes it before the workload listens. */
#define CHOICE_FIRST 20000
#define CHOICE_COUNT 12000
#define CHOICE_TRIES 2000

static bool taken(const struct local_ports *p, int64_t now, uint16_t port, bool udp)
{
	if (p->claimed[udp] && p->claimed[udp][port])
		return true;
	for (size_t i = 0; i < PORTS_RECENT; i++)
		if (p->recent[i].port == port && p->recent[i].udp == udp && p->recent[i].until > now)
			return true;
	return false;
}

static int address_of(const struct davit_port *p, uint16_t port, struct sockaddr_storage *ret,
		      socklen_t *ret_len)
{
	struct sockaddr_in *v4 = (void *)ret;
	struct sockaddr_in6 *v6 = (void *)ret;
	const char *bind = *p->bind ? p->bind : "127.0.0.1";

	memset(ret, 0, sizeof *ret);
	if (inet_pton(AF_INET, bind, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		*ret_len = sizeof *v4;
		return 0;
	}
	if (inet_pton(AF_INET6, bind, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(port);
		*ret_len = sizeof *v6;
		return 0;
	}
	return DAVIT_EINVAL;
}

/* Binds the port as a server would; shared: so that others of that kind may have it too, as
 * long as nobody listens. *ret_fd holds it until closed. 0 or an errno. */
static int probe(const struct davit_port *p, uint16_t port, bool shared, int *ret_fd)
{
	struct sockaddr_storage a;
	socklen_t len;
	DAVIT_AUTO_CLOSE int fd = -1;
	int on = 1;

	if (address_of(p, port, &a, &len) < 0)
		return EAFNOSUPPORT;
	fd = socket(a.ss_family, (p->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return errno;
	/* Connections of an earlier server that linger do not count; listeners do. */
	if (!p->udp && shared)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (a.ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
	if (bind(fd, (struct sockaddr *)&a, len) < 0)
		return errno;
	*ret_fd = DAVIT_TAKE_FD(fd);
	return 0;
}

/* ------------------------------------------------------------------------ claims */

static bool is_same(const struct davit_port *a, const struct davit_port *b)
{
	return a->host == b->host && a->udp == b->udp && !strcmp(a->bind, b->bind);
}

/* Should somebody have it by now, who came while no daemon ran, nothing can be done: what is
 * sent to the port goes to the instance all the same. */
static void take(struct local_ports *p, const struct davit_port *port)
{
	struct local_port_hold *v = reallocarray(p->holds, p->n_holds + 1, sizeof *v);
	int fd;

	if (!v)
		return;
	p->holds = v;
	if (probe(port, port->host, false, &fd) == 0)
		v[p->n_holds++] = (struct local_port_hold){*port, fd};
}

static void let_go(struct local_ports *p, const struct davit_port *port)
{
	for (size_t i = 0; i < p->n_holds; i++)
		if (is_same(&p->holds[i].port, port)) {
			close(p->holds[i].fd);
			p->holds[i] = p->holds[--p->n_holds];
			return;
		}
}

void local_ports_fini(struct local_ports *p)
{
	while (p->n_holds)
		close(p->holds[--p->n_holds].fd);
	free(p->holds);
	free(p->claimed[0]);
	free(p->claimed[1]);
	*p = (struct local_ports){0};
}

void local_ports_claim(struct local_ports *p, const struct davit_port *ports, size_t n, bool hold)
{
	for (size_t i = 0; i < n; i++) {
		uint8_t **v = &p->claimed[ports[i].udp];

		if (!*v)
			*v = calloc(65536, 1);
		/* Without memory a chosen port is only protected by being in use. */
		if (*v && (*v)[ports[i].host] < UINT8_MAX)
			(*v)[ports[i].host]++;
		if (hold)
			take(p, &ports[i]);
	}
}

void local_ports_release(struct local_ports *p, const struct davit_port *ports, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint8_t *v = p->claimed[ports[i].udp];

		if (v && v[ports[i].host] && v[ports[i].host] < UINT8_MAX)
			v[ports[i].host]--;
		let_go(p, &ports[i]);
	}
}

/* ------------------------------------------------------------------------ owner */

/* The inode of the socket that has the port, from one table of /proc/net; 0: none. */
static unsigned long inode_in(const char *table, uint16_t port, bool udp)
{
	FILE *f = fopen(table, "re");
	unsigned long found = 0;
	char line[512];

	while (f && !found && fgets(line, sizeof line, f)) {
		unsigned have, state;
		unsigned long inode;

		if (sscanf(line, " %*u: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s %*u %*u %lu", &have,
			   &state, &inode) == 3 &&
		    have == port && (udp || state == 0x0a))
			found = inode;
	}
	if (f)
		fclose(f);
	return found;
}

static bool has_socket(const char *pid, const char *want)
{
	char path[64], link[64];
	bool found = false;
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof path, "/proc/%.16s/fd", pid);
	d = opendir(path);
	while (d && !found && (e = readdir(d))) {
		ssize_t n = readlinkat(dirfd(d), e->d_name, link, sizeof link - 1);

		link[n > 0 ? n : 0] = '\0';
		found = !strcmp(link, want);
	}
	if (d)
		closedir(d);
	return found;
}

/* Names who has the port: "nginx (pid 12)". False when it cannot be known. */
static bool owner_of(uint16_t port, bool udp, char *buf, size_t size)
{
	unsigned long inode = inode_in(udp ? "/proc/net/udp" : "/proc/net/tcp", port, udp);
	char want[64], path[64], comm[64] = "";
	struct dirent *e = NULL;
	FILE *f;
	DIR *d;

	if (!inode)
		inode = inode_in(udp ? "/proc/net/udp6" : "/proc/net/tcp6", port, udp);
	d = inode ? opendir("/proc") : NULL;
	if (!d)
		return false;
	snprintf(want, sizeof want, "socket:[%lu]", inode);
	while ((e = readdir(d)))
		if (isdigit((unsigned char)e->d_name[0]) && has_socket(e->d_name, want))
			break;
	if (e) {
		snprintf(path, sizeof path, "/proc/%.16s/comm", e->d_name);
		f = fopen(path, "re");
		if (f && fgets(comm, sizeof comm, f))
			comm[strcspn(comm, "\n")] = '\0';
		if (f)
			fclose(f);
		snprintf(buf, size, "%s (pid %.16s)", *comm ? comm : "a process", e->d_name);
	}
	closedir(d);
	return e != NULL;
}

static int refuse(const struct davit_port *p, int e, struct davit_error *err)
{
	char who[128];

	switch (e) {
	case EADDRINUSE:
		if (owner_of(p->host, p->udp, who, sizeof who))
			return davit_error_set(err, DAVIT_EINUSE, "ports", "port %u is already in use by %s",
					       p->host, who);
		return davit_error_set(err, DAVIT_EINUSE, "ports", "port %u is already in use", p->host);
	case EADDRNOTAVAIL:
		return davit_error_set(err, DAVIT_EINVAL, "ports", "%s is not an address of this host",
				       p->bind);
	case EAFNOSUPPORT:
		return davit_error_set(err, DAVIT_EINVAL, "ports", "'%s' is not an IP address", p->bind);
	default:
		return davit_error_errno(err, e, "ports", "port %u cannot be used", p->host);
	}
}

/* ------------------------------------------------------------------------ choosing */

static int choose(struct local_ports *p, struct davit_loop *loop, struct davit_port *port, int *ret_fd,
		  struct davit_error *err)
{
	int64_t now = davit_loop_now(loop);
	unsigned at = (unsigned)(davit_loop_random(loop) % CHOICE_COUNT);
	int e = EADDRINUSE;

	for (unsigned i = 0; i < CHOICE_TRIES; i++) {
		uint16_t candidate = (uint16_t)(CHOICE_FIRST + (at + i) % CHOICE_COUNT);

		if (taken(p, now, candidate, port->udp))
			continue;
		e = probe(port, candidate, true, ret_fd);
		if (!e) {
			port->host = candidate;
			p->recent[p->next].port = candidate;
			p->recent[p->next].udp = port->udp;
			p->recent[p->next].until = now + RECENT_NS;
			p->next = (p->next + 1) % PORTS_RECENT;
			return 0;
		}
		if (e != EADDRINUSE)
			return refuse(port, e, err);
	}
	return davit_error_set(err, DAVIT_EINUSE, "ports", "no free port was found");
}

static int resolve_one(struct local_ports *p, struct davit_loop *loop, struct davit_port *port, int *ret_fd,
		       struct davit_error *err)
{
	int e;

	if (!p->mapped && port->container && port->host && port->container != port->host)
		return davit_error_set(
			err, DAVIT_ENOTSUP, "ports",
			"container port %u cannot differ from host port %u: this runtime maps no ports",
			port->container, port->host);
	/* Where nothing is mapped the workload's own port is the host's. */
	if (!port->host && !p->mapped)
		port->host = port->container;
	/* Nobody listens on one that is mapped: that it is free shows nothing. */
	if (port->host && p->mapped && p->claimed[port->udp] && p->claimed[port->udp][port->host])
		return refuse(port, EADDRINUSE, err);
	if (!port->host)
		return choose(p, loop, port, ret_fd, err);
	e = probe(port, port->host, true, ret_fd);
	return e ? refuse(port, e, err) : 0;
}

int local_ports_resolve(struct local_ports *p, struct davit_loop *loop, struct davit_port *ports, size_t n,
			struct davit_error *err)
{
	struct davit_port *v = n ? calloc(n, sizeof *v) : NULL;
	int *fds = n ? calloc(n, sizeof *fds) : NULL;
	size_t held = 0;
	int r = 0;

	if (n && (!v || !fds)) {
		r = davit_error_set(err, DAVIT_ENOMEM, "ports", "out of memory");
		n = 0;
	}
	/* Each is held until all are known, so that none is given twice. */
	for (size_t i = 0; i < n && !r; i++) {
		v[i] = ports[i];
		for (size_t k = 0; k < i && !r; k++)
			if (v[i].host && v[i].host == v[k].host && v[i].udp == v[k].udp &&
			    !strcmp(v[i].bind, v[k].bind))
				r = davit_error_set(err, DAVIT_EINVAL, "ports", "port %u is asked for twice",
						    v[i].host);
		if (!r)
			r = resolve_one(p, loop, &v[i], &fds[held], err);
		held += !r;
	}
	for (size_t i = 0; i < held; i++)
		close(fds[i]);
	if (!r && n)
		memcpy(ports, v, n * sizeof *v);
	free(v);
	free(fds);
	return r;
}
