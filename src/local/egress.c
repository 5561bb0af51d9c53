/* SPDX-License-Identifier: MIT */
#include "local/egress.h"

#include "base/start.h"
#include "base/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static int no_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, "egress", "out of memory");
}

/* --- names --- */

static int add_address(struct local_names *n, const char *name, const struct sockaddr *a)
{
	const void *from = a->sa_family == AF_INET ? (const void *)&((const struct sockaddr_in *)a)->sin_addr
						   : &((const struct sockaddr_in6 *)a)->sin6_addr;
	struct local_name *v = realloc(n->v, (n->n + 1) * sizeof *v);

	if (!v)
		return DAVIT_ENOMEM;
	n->v = v;
	v += n->n++;
	*v = (struct local_name){.family = a->sa_family};
	memcpy(v->name, name, strlen(name) + 1);
	memcpy(v->address, from, a->sa_family == AF_INET ? 4 : 16);
	return 0;
}

static int resolve(struct local_names *n, const char *name, struct davit_error *err)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *all;
	int e = getaddrinfo(name, NULL, &hints, &all), r = 0;

	if (e)
		return davit_error_set(err, DAVIT_EUNAVAIL, "egress.hosts",
				       "egress.hosts: cannot resolve %s: %s", name, gai_strerror(e));
	for (const struct addrinfo *a = all; a && r == 0; a = a->ai_next)
		if (a->ai_family == AF_INET || a->ai_family == AF_INET6)
			r = add_address(n, name, a->ai_addr);
	freeaddrinfo(all);
	return r < 0 ? no_memory(err) : 0;
}

static bool is_known(const struct local_names *n, const char *name)
{
	for (size_t i = 0; i < n->n; i++)
		if (!strcmp(n->v[i].name, name))
			return true;
	return false;
}

int local_names_resolve(const struct davit_workload *w, struct local_names *ret, struct davit_error *err)
{
	int r = 0;

	*ret = (struct local_names){0};
	for (size_t i = 0; i < w->n_egress; i++)
		for (char *const *p = w->egress[i].hosts; *p && r == 0; p++) {
			struct davit_host h;

			r = davit_host_parse(*p, &h, err);
			if (r == 0 && !h.family && !is_known(ret, h.name))
				r = resolve(ret, h.name, err);
		}
	return r;
}

void local_names_fini(struct local_names *n)
{
	free(n->v);
	*n = (struct local_names){0};
}

void local_names_write(const struct local_names *n, struct davit_buf *out)
{
	char address[INET6_ADDRSTRLEN];

	for (size_t i = 0; i < n->n; i++) {
		inet_ntop(n->v[i].family, n->v[i].address, address, sizeof address);
		davit_buf_addf(out, "%s\t%s\n", address, n->v[i].name);
	}
}

/* --- rules --- */

static void add_match(struct davit_buf *b, int family, const void *address, unsigned prefix, unsigned port)
{
	char text[INET6_ADDRSTRLEN];

	inet_ntop(family, address, text, sizeof text);
	davit_buf_addf(b, "\t\t%s daddr %s/%u", family == AF_INET ? "ip" : "ip6", text, prefix);
	if (port)
		davit_buf_addf(b, " meta l4proto { tcp, udp } th dport %u", port);
	davit_buf_adds(b, " return\n");
}

static int add_host(struct davit_buf *b, const char *text, const struct local_names *names,
		    struct davit_error *err)
{
	struct davit_host h;
	int r = davit_host_parse(text, &h, err);

	if (r < 0)
		return r;
	if (h.family)
		add_match(b, h.family, h.address, h.prefix, h.port);
	for (size_t i = 0; !h.family && i < names->n; i++)
		if (!strcmp(names->v[i].name, h.name))
			add_match(b, names->v[i].family, names->v[i].address,
				  names->v[i].family == AF_INET ? 32 : 128, h.port);
	return 0;
}

/* What no layer has returned from is refused at once, rather than lost. */
static int add_layers(struct davit_buf *b, const struct davit_workload *w, const struct local_names *names,
		      struct davit_error *err)
{
	int r = 0;

	for (size_t i = 0; i < w->n_egress && r == 0; i++) {
		davit_buf_addf(b, "\tchain layer%zu {\n", i);
		for (char *const *p = w->egress[i].hosts; *p && r == 0; p++)
			r = add_host(b, *p, names, err);
		davit_buf_adds(b, "\t\tcounter reject with icmpx admin-prohibited\n\t}\n");
	}
	return r;
}

/* Neighbours are found, or nothing is reached at all over IPv6. */
#define NEIGHBOURS "{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, mld2-listener-report }"

int local_egress_rules(const struct davit_workload *w, const struct local_names *names, const char *table,
		       const char *interface, struct davit_buf *out, struct davit_error *err)
{
	int r;

	/* "add" makes the deletion one of something that is there. */
	davit_buf_addf(out, "add table inet %s\ndelete table inet %s\ntable inet %s {\n", table, table,
		       table);
	r = add_layers(out, w, names, err);
	if (r < 0)
		return r;
	if (interface)
		/* Behind conntrack, before any translation of the destination. */
		davit_buf_addf(
			out,
			"\tchain egress {\n\t\ttype filter hook prerouting priority -150; policy accept;\n"
			"\t\tiifname != \"%s\" accept\n",
			interface);
	else
		davit_buf_adds(out, "\tchain forward {\n"
				    "\t\ttype filter hook forward priority 0; policy drop;\n\t}\n"
				    "\tchain egress {\n"
				    "\t\ttype filter hook output priority 0; policy drop;\n"
				    "\t\toifname \"lo\" accept\n");
	davit_buf_adds(out, "\t\tct state established,related accept\n"
			    "\t\tct state invalid drop\n"
			    "\t\ticmpv6 type " NEIGHBOURS " accept\n");
	for (size_t i = 0; i < w->n_egress; i++)
		davit_buf_addf(out, "\t\tjump layer%zu\n", i);
	davit_buf_adds(out, "\t\taccept\n\t}\n}\n");
	return out->oom ? no_memory(err) : 0;
}

/* --- nft --- */

const char *local_nft_program(void)
{
	static const char *const places[] = {"/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(places); i++)
		if (access(places[i], X_OK) == 0)
			return places[i];
	return NULL;
}

/* Started while this thread is in the other namespace, into which it is born. An errno or 0. */
static int start_in(const char *netns, const char *program, const int fds[3], pid_t *ret)
{
	char *argv[] = {(char *)(uintptr_t)program, (char *)"-f", (char *)"-", NULL};
	DAVIT_AUTO_CLOSE int ours = -1;
	DAVIT_AUTO_CLOSE int theirs = -1;
	int e;

	if (!netns)
		return davit_start_program(program, argv, fds, false, ret);
	ours = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	theirs = open(netns, O_RDONLY | O_CLOEXEC);
	if (ours < 0 || theirs < 0 || setns(theirs, CLONE_NEWNET) < 0)
		return errno;
	e = davit_start_program(program, argv, fds, false, ret);
	/* This thread serves others after us: it must not go on in there. */
	if (setns(ours, CLONE_NEWNET) < 0)
		abort();
	return e;
}

int local_nft(const char *netns, const struct davit_buf *script, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int in = memfd_create("nft", MFD_CLOEXEC);
	DAVIT_AUTO_CLOSE int said = memfd_create("nft-said", MFD_CLOEXEC);
	const char *program = local_nft_program();
	char why[400];
	int status = 0, e;
	ssize_t n;
	pid_t pid;

	if (!program)
		return davit_error_set(err, DAVIT_ENOTSUP, "network", "nft is not installed");
	if (script->oom)
		return no_memory(err);
	if (in < 0 || said < 0 || write(in, script->data, script->len) != (ssize_t)script->len ||
	    lseek(in, 0, SEEK_SET) < 0)
		return davit_error_errno(err, errno, "network", "cannot write rules");
	e = start_in(netns, program, (const int[]){in, -1, said}, &pid);
	if (e)
		return davit_error_errno(err, e, "network", "cannot execute %s", program);
	if (DAVIT_EINTR(waitpid(pid, &status, 0)) < 0)
		return davit_error_errno(err, errno, "network", "cannot wait for %s", program);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	n = pread(said, why, sizeof why - 1, 0);
	while (n > 0 && why[n - 1] == '\n')
		n--;
	why[n > 0 ? n : 0] = '\0';
	return davit_error_set(err, DAVIT_EIO, "network", "%s failed: %s", program,
			       n > 0 ? why : "it gave no reason");
}
