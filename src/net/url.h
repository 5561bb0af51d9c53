/* SPDX-License-Identifier: MIT
 *
 * Paths and queries of URLs: RFC 3986 escapes.
 */
#ifndef DAVIT_NET_URL_H
#define DAVIT_NET_URL_H

#include "base/buf.h"

/* Appends s with everything but unreserved characters escaped: good for one
 * segment of a path and for a name or value of a query. */
void davit_url_escape(struct davit_buf *out, const char *s);
/* Appends "?name=value" to a target, or "&name=value" to one that has a query. */
void davit_url_query(struct davit_buf *target, const char *name, const char *value);
/* The n bytes at s without their escapes, a heap string. `plus`: '+' means a
 * blank, as in queries. DAVIT_EINVAL for a broken escape, and for one that hides
 * a NUL; DAVIT_ENOMEM. */
int davit_url_unescape(const char *s, size_t n, bool plus, char **ret);

#endif
