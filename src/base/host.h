/* SPDX-License-Identifier: MIT
 *
 * What a workload may reach, as people write it: a name, an address or a network, with
 * a port or without.
 *
 *   example.test   example.test:443   192.0.2.7   192.0.2.0/24:443
 *   2001:db8::7    2001:db8::/32      [2001:db8::7]:443   [2001:db8::/32]:443
 */
#ifndef DAVIT_BASE_HOST_H
#define DAVIT_BASE_HOST_H

#include "davit/error.h"

#include <stdbool.h>
#include <stdint.h>

#define DAVIT_HOST_NAME_MAX 254			 /* with its NUL */
#define DAVIT_HOST_MAX (DAVIT_HOST_NAME_MAX + 8) /* room for any formatted one */

struct davit_host {
	char name[DAVIT_HOST_NAME_MAX]; /* in lower case; "" for an address or a network */
	int family;			/* AF_INET or AF_INET6; 0 for a name */
	unsigned char address[16];	/* in network order; the bits behind the prefix are 0 */
	unsigned prefix;		/* 32 or 128 for a single address */
	uint16_t port;			/* 0: every port and protocol */
};

/* *ret is untouched on failure. DAVIT_EINVAL; the message quotes the text. */
int davit_host_parse(const char *text, struct davit_host *ret, struct davit_error *err);
/* Whether all that b lets through, a does. Names are equal or have nothing in common. */
bool davit_host_covers(const struct davit_host *a, const struct davit_host *b);
/* The one form that equal ones share. Fills and returns buf. */
char *davit_host_format(const struct davit_host *h, char buf[DAVIT_HOST_MAX]);

#endif
