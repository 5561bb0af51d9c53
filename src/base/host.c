/* SPDX-License-Identifier: MIT */
#include "base/host.h"

#include "base/units.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static const char form[] = "is not a name, an address or a network, with :PORT or without";

static int bad(struct davit_error *err, const char *text, const char *what)
{
	return davit_error_set(err, DAVIT_EINVAL, NULL, "'%.64s' %s", text, what);
}

/* --- taking the text apart --- */

/* Of "[HOST]:PORT", "HOST:PORT" or "HOST", in which only an address of IPv6 has several colons. */
static int split(const char *text, char host[DAVIT_HOST_MAX], const char **ret_port, struct davit_error *err)
{
	const char *end, *port = NULL;

	if (*text == '[') {
		end = strchr(++text, ']');
		if (!end || !memchr(text, ':', (size_t)(end - text)) || (end[1] && end[1] != ':'))
			return bad(err, text - 1, form);
		port = end[1] ? end + 2 : NULL;
	} else {
		end = strchr(text, ':');
		if (end && strchr(end + 1, ':'))
			end = NULL;
		port = end ? end + 1 : NULL;
		end = end ? end : text + strlen(text);
	}
	if (end == text || end - text >= DAVIT_HOST_MAX)
		return bad(err, text, form);
	snprintf(host, DAVIT_HOST_MAX, "%.*s", (int)(end - text), text);
	*ret_port = port;
	return 0;
}

/* --- addresses --- */

static bool is_masked(const unsigned char *address, unsigned prefix, unsigned size)
{
	for (unsigned i = prefix / 8; i < size; i++) {
		unsigned kept = i == prefix / 8 ? 0xffu << (8 - prefix % 8) : 0;

		if (address[i] & ~kept & 0xff)
			return false;
	}
	return true;
}

/* 0, or 1: it is no address. */
static int read_address(const char *text, char *host, struct davit_host *h, struct davit_error *err)
{
	char *slash = strchr(host, '/');
	unsigned bits;
	int64_t prefix;

	if (slash)
		*slash = '\0';
	h->family = strchr(host, ':') ? AF_INET6 : AF_INET;
	bits = h->family == AF_INET ? 32 : 128;
	h->prefix = bits;
	if (inet_pton(h->family, host, h->address) != 1)
		return slash || h->family == AF_INET6 ? bad(err, text, form) : 1;
	if (!slash)
		return 0;
	if (davit_int_parse(slash + 1, 0, bits, &prefix, NULL) < 0)
		return davit_error_set(err, DAVIT_EINVAL, NULL, "'%.64s': a prefix is a number from 0 to %u",
				       text, bits);
	h->prefix = (unsigned)prefix;
	return is_masked(h->address, h->prefix, bits / 8) ? 0
							  : bad(err, text, "has bits set behind its prefix");
}

/* --- names --- */

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* RFC 1123, and '_', which names of services have. */
static int read_name(const char *text, const char *host, struct davit_host *h, struct davit_error *err)
{
	size_t n = strlen(host), label = 0;
	bool digits = true;

	if (strchr(host, '*'))
		return bad(err, text, "has a '*': names are given one by one");
	if (n && host[n - 1] == '.')
		n--;
	if (!n || n >= sizeof h->name)
		return bad(err, text, form);
	for (size_t i = 0; i < n; i++) {
		char c = host[i] >= 'A' && host[i] <= 'Z' ? (char)(host[i] + 32) : host[i];
		bool edge = !label || i + 1 == n || host[i + 1] == '.';

		if (c == '.' ? !label : label > 62 || (c == '-' && edge))
			return bad(err, text, form);
		if (c != '.' && c != '-' && c != '_' && !is_digit(c) && !(c >= 'a' && c <= 'z'))
			return bad(err, text, form);
		label = c == '.' ? 0 : label + 1;
		digits = c == '.' || (digits && is_digit(c));
		h->name[i] = c;
	}
	h->name[n] = '\0';
	h->family = 0;
	h->prefix = 0;
	return digits ? bad(err, text, "is not an address, and no name ends in a number") : 0;
}

/* --- the whole --- */

int davit_host_parse(const char *text, struct davit_host *ret, struct davit_error *err)
{
	char host[DAVIT_HOST_MAX];
	struct davit_host h = {0};
	const char *port = NULL;
	int64_t number;
	int r = strstr(text, "://") ? bad(err, text, "is a URL: give the name of its host")
				    : split(text, host, &port, err);

	if (r == 0)
		r = read_address(text, host, &h, err);
	if (r == 1)
		r = read_name(text, host, &h, err);
	if (r < 0)
		return r;
	if (port && davit_int_parse(port, 1, 65535, &number, NULL) < 0)
		return bad(err, text, "does not end in a port, a number from 1 to 65535");
	h.port = port ? (uint16_t)number : 0;
	*ret = h;
	return 0;
}

bool davit_host_covers(const struct davit_host *a, const struct davit_host *b)
{
	if (a->family != b->family || a->prefix > b->prefix || (a->port && a->port != b->port))
		return false;
	for (unsigned i = 0; i < a->prefix; i++)
		if ((a->address[i / 8] ^ b->address[i / 8]) & 0x80 >> i % 8)
			return false;
	return !strcmp(a->name, b->name);
}

char *davit_host_format(const struct davit_host *h, char buf[DAVIT_HOST_MAX])
{
	bool bracket = h->family == AF_INET6 && h->port;
	char address[INET6_ADDRSTRLEN] = "", prefix[8] = "", port[8] = "";

	if (h->family)
		inet_ntop(h->family, h->address, address, sizeof address);
	if (h->family && h->prefix != (h->family == AF_INET ? 32u : 128u))
		snprintf(prefix, sizeof prefix, "/%u", h->prefix % 1000);
	if (h->port)
		snprintf(port, sizeof port, ":%u", h->port);
	snprintf(buf, DAVIT_HOST_MAX, "%s%s%s%s%s", bracket ? "[" : "", h->family ? address : h->name, prefix,
		 bracket ? "]" : "", port);
	return buf;
}
