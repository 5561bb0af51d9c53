/* SPDX-License-Identifier: MIT
 *
 * FNV-1a, 64 bits (draft-eastlake-fnv): for names and for what has changed, never against an adversary.
 */
#ifndef DAVIT_BASE_FNV_H
#define DAVIT_BASE_FNV_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define DAVIT_FNV_BASIS UINT64_C(0xcbf29ce484222325)

/* h, DAVIT_FNV_BASIS at first, with n bytes more. */
static inline uint64_t davit_fnv(uint64_t h, const void *data, size_t n)
{
	for (const unsigned char *p = data; n; p++, n--)
		h = (h ^ *p) * UINT64_C(0x100000001b3);
	return h;
}

static inline uint64_t davit_fnv_text(uint64_t h, const char *s)
{
	return davit_fnv(h, s, strlen(s));
}

#endif
