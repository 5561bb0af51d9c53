/* SPDX-License-Identifier: MIT */
#include "cli/terminal.h"

#include <string.h>

/* "ctrl-p" -> 16, "a" -> 'a'; -1 for anything else. */
static int key_of(const char *s, size_t n)
{
	if (n == 1)
		return (unsigned char)s[0];
	if (n != 6 || strncmp(s, "ctrl-", 5) != 0)
		return -1;
	if (s[5] >= 'a' && s[5] <= 'z')
		return s[5] - 'a' + 1;
	return s[5] >= '@' && s[5] <= '_' ? s[5] - '@' : -1;
}

int davit_keys_parse(const char *text, struct davit_keys *ret, struct davit_error *err)
{
	struct davit_keys k = {.n = 0};

	while (*text) {
		size_t n = strcspn(text + 1, ",") + 1; /* a comma can be a key */
		int key = key_of(text, n);
		if (key < 0 || k.n == DAVIT_KEYS_MAX)
			return davit_error_set(
				err, DAVIT_EINVAL, "detach-keys",
				"keys are single characters and ctrl-a to ctrl-z, ctrl-@, ctrl-[, "
				"ctrl-\\, ctrl-], ctrl-^, ctrl-_, with commas between, at most %d",
				DAVIT_KEYS_MAX);
		k.key[k.n++] = (unsigned char)key;
		text += n;
		if (*text && !*++text)
			return davit_error_set(err, DAVIT_EINVAL, "detach-keys", "the keys end with a comma");
	}
	*ret = k;
	return 0;
}

bool davit_keys_filter(struct davit_keys *k, const char *data, size_t n, struct davit_buf *out)
{
	for (size_t i = 0; i < n; i++) {
		/* Not the sequence: what was held back is given, from its start on. */
		while (k->typed && (unsigned char)data[i] != k->key[k->typed]) {
			size_t shift = 1;
			while (shift < k->typed && memcmp(k->key, k->key + shift, k->typed - shift) != 0)
				shift++;
			davit_buf_add(out, k->key, shift);
			k->typed -= shift;
		}
		if (k->n && (unsigned char)data[i] == k->key[k->typed])
			k->typed++;
		else
			davit_buf_addc(out, data[i]);
		if (k->n && k->typed == k->n) {
			k->typed = 0;
			return true;
		}
	}
	return false;
}
