/* SPDX-License-Identifier: MIT
 *
 * The proof of the WebSocket handshake: SHA-1 of the key and a constant, in base64.
 */
#include "net/websocket.h"

#include <sha1.h>
#include <string.h>

#define MAGIC "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

void davit_websocket_base64(const unsigned char *data, size_t n, char *out)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < n; i += 3) {
		unsigned v = (unsigned)data[i] << 16;
		v |= i + 1 < n ? (unsigned)data[i + 1] << 8 : 0;
		v |= i + 2 < n ? (unsigned)data[i + 2] : 0;
		*out++ = digits[v >> 18];
		*out++ = digits[v >> 12 & 63];
		*out++ = i + 1 < n ? digits[v >> 6 & 63] : '=';
		*out++ = i + 2 < n ? digits[v & 63] : '=';
	}
	*out = '\0';
}

void davit_websocket_accept_key(const char *key, char ret[DAVIT_WEBSOCKET_ACCEPT_MAX])
{
	unsigned char digest[SHA1_DIGEST_LENGTH];
	SHA1_CTX sha;

	SHA1Init(&sha);
	SHA1Update(&sha, (const uint8_t *)key, strlen(key));
	SHA1Update(&sha, (const uint8_t *)MAGIC, sizeof MAGIC - 1);
	SHA1Final(digest, &sha);
	davit_websocket_base64(digest, sizeof digest, ret);
}
