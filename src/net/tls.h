/* SPDX-License-Identifier: MIT
 *
 * TLS of a client, by OpenSSL, between a socket of the caller's and its bytes. It stands in
 * davit-tls.so, which a program loads when it first needs it: OpenSSL takes more memory
 * than the rest of davitd. Nothing here touches the network.
 */
#ifndef DAVIT_NET_TLS_H
#define DAVIT_NET_TLS_H

#include "base/buf.h"
#include "davit/error.h"

#include <stdbool.h>

struct davit_tls;

struct davit_tls_config {
	const char *name; /* whom the certificate must be made out to: a host's name or an address */
	const char *ca;	  /* PEM file of those who may have signed it; NULL: the system's */
	bool insecure;	  /* no certificate is looked at */
};

struct davit_tls_functions {
	/* A connection that has not begun. Reads ca: blocks for a moment. DAVIT_EIO when that
	 * cannot be used, in words for a person. */
	int (*open)(const struct davit_tls_config *config, struct davit_tls **ret, struct davit_error *err);
	/* NULL is fine. */
	void (*close)(struct davit_tls *t);
	/* Says something, n bytes, as soon as it may. DAVIT_ENOMEM. */
	int (*say)(struct davit_tls *t, const void *data, size_t n, struct davit_error *err);
	/* Takes n bytes from the peer, none at the beginning. What it says is appended to
	 * plain, what is to be sent to it to cipher, also on failure. 0, 1 when it says nothing
	 * more, or DAVIT_EPROTO with the reason: what is wrong with its certificate, say. */
	int (*turn)(struct davit_tls *t, const void *data, size_t n, struct davit_buf *plain,
		    struct davit_buf *cipher, struct davit_error *err);
};

#define DAVIT_TLS_SYMBOL "davit_tls"

#endif
