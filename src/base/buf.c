/* SPDX-License-Identifier: MIT */
#include "base/buf.h"

#include "davit/error.h"

#include <stdio.h>
#include <string.h>

void davit_buf_fini(struct davit_buf *b)
{
	if (!b)
		return;
	free(b->data);
	*b = (struct davit_buf){0};
}

void davit_buf_reset(struct davit_buf *b)
{
	b->len = 0;
	b->oom = false;
	if (b->data)
		b->data[0] = '\0';
}

int davit_buf_reserve(struct davit_buf *b, size_t n)
{
	size_t need = b->len + n + 1;
	size_t cap = b->cap ? b->cap : 64;
	char *p;

	if (b->oom)
		return DAVIT_ENOMEM;
	if (need <= b->cap)
		return 0;
	if (need < n) {
		b->oom = true;
		return DAVIT_ENOMEM;
	}
	while (cap < need)
		cap += cap / 2 + 32;
	p = realloc(b->data, cap);
	if (!p) {
		b->oom = true;
		return DAVIT_ENOMEM;
	}
	b->data = p;
	b->cap = cap;
	b->data[b->len] = '\0';
	return 0;
}

void davit_buf_add(struct davit_buf *b, const void *data, size_t n)
{
	if (!n || davit_buf_reserve(b, n) < 0)
		return;
	memcpy(b->data + b->len, data, n);
	b->len += n;
	b->data[b->len] = '\0';
}

void davit_buf_adds(struct davit_buf *b, const char *s)
{
	davit_buf_add(b, s, strlen(s));
}

void davit_buf_addc(struct davit_buf *b, char c)
{
	if ((b->oom || b->len + 1 >= b->cap) && davit_buf_reserve(b, 1) < 0)
		return;
	b->data[b->len++] = c;
	b->data[b->len] = '\0';
}

void davit_buf_addv(struct davit_buf *b, const char *fmt, va_list ap)
{
	size_t room = b->cap - b->len; /* 0 where there is no memory yet */
	va_list again;
	int n;

	/* Most texts fit: they are written once. */
	va_copy(again, ap);
	n = vsnprintf(room ? b->data + b->len : NULL, room, fmt, again);
	va_end(again);
	if (n >= 0 && (size_t)n >= room) {
		if (room)
			b->data[b->len] = '\0';
		n = davit_buf_reserve(b, (size_t)n) < 0 ? -1
							: vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
	}
	if (n > 0)
		b->len += (size_t)n;
}

void davit_buf_addi(struct davit_buf *b, int64_t v)
{
	char digits[20], *p = digits + sizeof digits;
	uint64_t u = v < 0 ? -(uint64_t)v : (uint64_t)v;

	do
		*--p = (char)('0' + u % 10);
	while (u /= 10);
	if (v < 0)
		*--p = '-';
	davit_buf_add(b, p, (size_t)(digits + sizeof digits - p));
}

void davit_buf_addf(struct davit_buf *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	davit_buf_addv(b, fmt, ap);
	va_end(ap);
}

void davit_buf_consume(struct davit_buf *b, size_t n)
{
	if (n >= b->len) {
		b->len = 0;
		if (b->data)
			b->data[0] = '\0';
		return;
	}
	memmove(b->data, b->data + n, b->len - n + 1);
	b->len -= n;
}

const char *davit_buf_str(const struct davit_buf *b)
{
	return b->data ? b->data : "";
}

char *davit_buf_take(struct davit_buf *b)
{
	char *s = NULL;

	if (!b->oom && davit_buf_reserve(b, 0) == 0) {
		b->data[b->len] = '\0';
		s = b->data;
		b->data = NULL;
	}
	davit_buf_fini(b);
	return s;
}
