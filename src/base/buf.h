/* SPDX-License-Identifier: MIT
 *
 * A growable byte buffer, always NUL-terminated. Failure of memory is sticky:
 * append as much as you like and look at `oom` once, at the end.
 */
#ifndef DAVIT_BASE_BUF_H
#define DAVIT_BASE_BUF_H

#include "base/util.h"

#include <stdarg.h>
#include <stdint.h>

struct davit_buf {
	char *data; /* NULL while empty and never written */
	size_t len; /* bytes in use, the final NUL not counted */
	size_t cap;
	bool oom; /* an append failed; the content is cut there */
};

#define DAVIT_BUF_INIT                                                                                       \
	{                                                                                                    \
		0                                                                                            \
	}
#define DAVIT_AUTO_BUF DAVIT_CLEANUP(davit_buf_fini) struct davit_buf

void davit_buf_fini(struct davit_buf *b);
void davit_buf_reset(struct davit_buf *b); /* len = 0, keeps the memory */
/* Makes room for n more bytes. 0 or DAVIT_ENOMEM (and sets oom). */
int davit_buf_reserve(struct davit_buf *b, size_t n);
void davit_buf_add(struct davit_buf *b, const void *data, size_t n);
void davit_buf_adds(struct davit_buf *b, const char *s);
void davit_buf_addc(struct davit_buf *b, char c);
void davit_buf_addi(struct davit_buf *b, int64_t v); /* decimal */
void davit_buf_addf(struct davit_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void davit_buf_addv(struct davit_buf *b, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
/* Drops the first n bytes. */
void davit_buf_consume(struct davit_buf *b, size_t n);
/* The content as a C string (never NULL), still owned by b. */
const char *davit_buf_str(const struct davit_buf *b);
/* Moves the content out as a heap string; NULL when oom. b is empty after. */
char *davit_buf_take(struct davit_buf *b);

#endif
