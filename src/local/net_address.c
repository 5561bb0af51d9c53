/* SPDX-License-Identifier: MIT
 *
 * Subnets and addresses: links that are made in one step, beneath a lock for each network.
 */
#include "local/net.h"

#include "base/file.h"
#include "base/fnv.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

char *local_path(const char *base, const char *id, const char *file)
{
	char *path;

	return asprintf(&path, file ? "%s/%s/%s" : "%s/%s", base, id, file) < 0 ? NULL : path;
}

static int failed(struct davit_error *err, int sys, const char *what)
{
	return davit_error_errno(err, sys, "network", "failed to create network: %s", what);
}

/* --- names --- */

static unsigned hash(const char *a, const char *b)
{
	uint64_t h = davit_fnv_text(davit_fnv_text(DAVIT_FNV_BASIS, a), b);

	return (unsigned)(h ^ (h >> 32));
}

void local_net_fini(struct local_net *n)
{
	free(n->dir);
	free(n->bundle);
	if (n->lock >= 0)
		close(n->lock); /* and unlocks */
}

/* Locks the network. create: makes what is not there. */
int local_net_init(struct local_net *n, const struct local_nets *at, const char *id, const char *name,
		   bool create, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *addresses = local_path(at->networks, name, "addresses");
	DAVIT_AUTO_FREE char *lock = local_path(at->networks, name, "lock");
	int r;

	*n = (struct local_net){.at = at, .id = id, .name = name, .lock = -1};
	n->dir = davit_path_join(at->networks, name);
	n->bundle = davit_path_join(at->bundles, id);
	if (!addresses || !lock || !n->dir || !n->bundle)
		return davit_error_set(err, DAVIT_ENOMEM, "network", "out of memory");
	snprintf(n->bridge, sizeof n->bridge, "dvb%08x", hash(at->networks, name));
	snprintf(n->veth, sizeof n->veth, "dve%08x", hash(n->bundle, ""));
	r = create ? davit_mkdirs(addresses, 0700, err) : 0;
	if (r < 0)
		return r;
	n->lock = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (n->lock < 0 || DAVIT_EINTR(flock(n->lock, LOCK_EX)) < 0)
		return davit_error_errno(err, errno, "network", "cannot lock network %s", name);
	return 0;
}

/* --- numbers --- */

int local_net_subnet_of(const char *dir, const char *name)
{
	DAVIT_AUTO_FREE char *path = local_path(dir, name, "subnet");
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;

	if (!path || davit_read_file(path, 64, &text, NULL) < 0 || !text.len)
		return -1;
	return atoi(text.data);
}

/* Whether a route of the host leads into it: 10.89.N.0, as the kernel prints it. */
static bool is_routed(int subnet)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	char wanted[16];

	if (davit_read_file("/proc/net/route", 1 << 20, &text, NULL) < 0)
		return false;
	snprintf(wanted, sizeof wanted, "\t%08X\t", htonl(0x0a590000u | (unsigned)subnet << 8));
	return strstr(davit_buf_str(&text), wanted);
}

static bool is_taken(const struct local_nets *at, int subnet)
{
	DIR *d = opendir(at->networks);
	struct dirent *e;
	bool taken = false;

	while (d && !taken && (e = readdir(d)))
		taken = *e->d_name != '.' && local_net_subnet_of(at->networks, e->d_name) == subnet;
	if (d)
		closedir(d);
	return taken || is_routed(subnet);
}

/* The networks' own lock keeps two from taking one. */
int local_net_choose_subnet(struct local_net *n, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *path = davit_path_join(n->dir, "subnet");
	DAVIT_AUTO_CLOSE int all = open(n->at->networks, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char text[16];

	n->subnet = local_net_subnet_of(n->at->networks, n->name);
	if (n->subnet >= 0)
		return 0;
	if (!path || all < 0 || DAVIT_EINTR(flock(all, LOCK_EX)) < 0)
		return failed(err, errno, "cannot lock the list of networks");
	for (int i = 0; i < 256; i++) {
		if (is_taken(n->at, i))
			continue;
		n->subnet = i;
		snprintf(text, sizeof text, "%d\n", i);
		return davit_write_file(path, text, strlen(text), 0600, err);
	}
	return davit_error_set(err, DAVIT_EQUOTA, "network",
			       "failed to create network: every subnet of 10.89.0.0/16 is in use");
}

int local_net_choose_address(struct local_net *n, const char *hostname, struct davit_error *err)
{
	DAVIT_AUTO_BUF who = DAVIT_BUF_INIT;
	char path[4096];

	davit_buf_addf(&who, "%s:%s", n->bundle, hostname);
	for (n->host = 2; n->host < 255; n->host++) {
		snprintf(path, sizeof path, "%s/addresses/%d", n->dir, n->host);
		if (symlink(davit_buf_str(&who), path) == 0)
			return 0;
		if (errno != EEXIST)
			return failed(err, errno, "cannot take an address");
	}
	return davit_error_set(err, DAVIT_EQUOTA, "network",
			       "failed to create network: every address of %s is in use", n->name);
}

void local_net_address(const struct local_net *n, int host, char ret[32])
{
	snprintf(ret, 32, "10.89.%d.%d", n->subnet, host);
}

/* Gives back the addresses of the instance; how many others there are. */
unsigned local_net_give_back(const struct local_net *n)
{
	DAVIT_AUTO_FREE char *dir = davit_path_join(n->dir, "addresses");
	DIR *d = dir ? opendir(dir) : NULL;
	size_t len = strlen(n->bundle);
	unsigned others = 0;
	struct dirent *e;

	while (d && (e = readdir(d))) {
		char who[4096];
		ssize_t got = readlinkat(dirfd(d), e->d_name, who, sizeof who - 1);

		who[got > 0 ? got : 0] = '\0';
		if (got > 0 && !strncmp(who, n->bundle, len) && who[len] == ':')
			unlinkat(dirfd(d), e->d_name, 0);
		else
			others += got > 0;
	}
	if (d)
		closedir(d);
	return others;
}

/* --- names --- */

/* Every member knows every other: its hosts file is written anew, in place, for it is
 * mounted into the container. */
static void write_hosts(const char *bundle, const struct davit_buf *all)
{
	DAVIT_AUTO_FREE char *path = davit_path_join(bundle, "hosts");
	DAVIT_AUTO_FREE char *names = davit_path_join(bundle, "names");
	DAVIT_AUTO_BUF own = DAVIT_BUF_INIT;
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	DAVIT_AUTO_CLOSE int fd = path ? open(path, O_WRONLY | O_TRUNC | O_CLOEXEC) : -1;

	davit_buf_adds(&text, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
	davit_buf_add(&text, davit_buf_str(all), all->len);
	if (names && davit_read_file(names, 1 << 20, &own, NULL) == 0)
		davit_buf_add(&text, davit_buf_str(&own), own.len);
	if (fd >= 0 && !text.oom && write(fd, text.data, text.len) < 0)
		return; /* names are missing there then; the next change tries again */
}

void local_net_tell_names(const struct local_net *n)
{
	DAVIT_AUTO_FREE char *dir = davit_path_join(n->dir, "addresses");
	DAVIT_AUTO_BUF all = DAVIT_BUF_INIT;

	for (int pass = 0; dir && pass < 2; pass++) {
		DIR *d = opendir(dir);
		struct dirent *e;

		while (d && (e = readdir(d))) {
			char who[4096], address[32], *name;
			ssize_t len = readlinkat(dirfd(d), e->d_name, who, sizeof who - 1);

			who[len > 0 ? len : 0] = '\0';
			name = strrchr(who, ':');
			if (!name)
				continue;
			*name++ = '\0';
			local_net_address(n, atoi(e->d_name), address);
			if (pass == 0)
				davit_buf_addf(&all, "%s\t%s\n", address, name);
			else
				write_hosts(who, &all);
		}
		if (d)
			closedir(d);
	}
}
