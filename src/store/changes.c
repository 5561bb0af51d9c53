/* SPDX-License-Identifier: MIT */
#include "store/changes.h"

#include "base/util.h"

#include <string.h>

static const char *pack(char **at, const void *data, size_t n)
{
	char *p = *at;

	memcpy(p, data, n);
	*at += n;
	return p;
}

struct davit_store_change *davit_store_changes_copy(const struct davit_store_change *changes, size_t n,
						    bool values)
{
	size_t size = n * sizeof *changes + 1;
	struct davit_store_change *copy;
	char *at;

	for (size_t i = 0; i < n; i++) {
		size += strlen(changes[i].key) + 1;
		if (changes[i].verb == DAVIT_STORE_DELETE_RANGE)
			size += strlen(changes[i].key_end) + 1;
		if (changes[i].verb == DAVIT_STORE_PUT && values)
			size += changes[i].len;
	}
	copy = malloc(size);
	if (!copy)
		return NULL;
	at = (char *)(copy + n);
	for (size_t i = 0; i < n; i++) {
		copy[i] = changes[i];
		copy[i].key = pack(&at, changes[i].key, strlen(changes[i].key) + 1);
		copy[i].key_end = NULL;
		copy[i].value = NULL;
		if (changes[i].verb == DAVIT_STORE_DELETE_RANGE)
			copy[i].key_end = pack(&at, changes[i].key_end, strlen(changes[i].key_end) + 1);
		if (changes[i].verb == DAVIT_STORE_PUT && values)
			copy[i].value = changes[i].len ? pack(&at, changes[i].value, changes[i].len) : "";
	}
	return copy;
}

bool davit_store_prefix_end(const char *prefix, char end[DAVIT_STORE_KEY_MAX + 1])
{
	size_t n = strnlen(prefix, DAVIT_STORE_KEY_MAX);

	memcpy(end, prefix, n);
	while (n && (unsigned char)end[n - 1] == 0xff)
		n--;
	if (!n)
		return false;
	end[n - 1] = (char)((unsigned char)end[n - 1] + 1);
	end[n] = '\0';
	return true;
}
