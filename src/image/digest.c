/* SPDX-License-Identifier: MIT */
#include "image/image_impl.h"

#include <string.h>

void image_hash_init(struct image_hash *h)
{
	crypto_hash_sha256_init(&h->state);
}

void image_hash_add(struct image_hash *h, const void *data, size_t n)
{
	crypto_hash_sha256_update(&h->state, data, n);
}

void image_hash_end(struct image_hash *h, char hex[IMAGE_HEX])
{
	unsigned char out[crypto_hash_sha256_BYTES];

	crypto_hash_sha256_final(&h->state, out);
	sodium_bin2hex(hex, IMAGE_HEX, out, sizeof out);
}

void image_hash_of(const void *data, size_t n, char hex[IMAGE_HEX])
{
	struct image_hash h;

	image_hash_init(&h);
	image_hash_add(&h, data, n);
	image_hash_end(&h, hex);
}

bool image_hex_is(const char *s)
{
	return strspn(s, "0123456789abcdef") == 64 && !s[64];
}

bool image_digest_parse(const char *s, char hex[IMAGE_HEX])
{
	if (strncmp(s, "sha256:", 7) || !image_hex_is(s + 7))
		return false;
	memcpy(hex, s + 7, IMAGE_HEX);
	return true;
}
