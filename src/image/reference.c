/* SPDX-License-Identifier: MIT
 *
 * [HOST[:PORT]/]PATH[:TAG][@sha256:HEX], by the grammar that registries share.
 */
#include "image/image_impl.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define NAME_MAX_ 255

static bool lower_or_digit(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool alnum(char c)
{
	return lower_or_digit(c) || (c >= 'A' && c <= 'Z');
}

size_t image_reference_host(const char *name)
{
	size_t n = strcspn(name, "/");
	bool host = false;

	if (!name[n])
		return 0;
	for (size_t i = 0; i < n; i++)
		host = host || name[i] == '.' || name[i] == ':' || isupper((unsigned char)name[i]);
	return host || (n == 9 && !memcmp(name, "localhost", 9)) ? n + 1 : 0;
}

/* Labels of letters, digits and inner hyphens, parted by dots; then a port. */
static bool is_host(const char *s, size_t n)
{
	const char *colon = memchr(s, ':', n);
	size_t end = colon ? (size_t)(colon - s) : n;

	if (colon && (end + 1 == n || strspn(colon + 1, "0123456789") != n - end - 1))
		return false;
	for (size_t i = 0; i < end; i++) {
		bool first = i == 0 || s[i - 1] == '.', last = i + 1 == end || s[i + 1] == '.';
		if (!(alnum(s[i]) || (!first && !last && (s[i] == '-' || s[i] == '.')) ||
		      (s[i] == '.' && !first && i + 1 < end)))
			return false;
	}
	return end > 0;
}

/* Lower case letters and digits, parted by one of ".", "_", "__" or hyphens. */
static bool is_component(const char *s, size_t n)
{
	size_t i = 0;

	while (i < n) {
		size_t from = i;
		while (i < n && lower_or_digit(s[i]))
			i++;
		if (i == from)
			return false;
		if (i == n)
			return true;
		from = i;
		while (i < n && s[i] == s[from] && !lower_or_digit(s[i]))
			i++;
		if (!strchr("._-", s[from]) || i - from > (s[from] == '.' ? 1u : s[from] == '_' ? 2u : n))
			return false;
	}
	return false;
}

static bool is_name(const char *s)
{
	size_t host = image_reference_host(s);

	if (strlen(s) > NAME_MAX_ || (host && !is_host(s, host - 1)))
		return false;
	for (const char *p = s + host;; p++) {
		size_t n = strcspn(p, "/");
		if (!is_component(p, n))
			return false;
		p += n;
		if (!*p)
			return true;
	}
}

static bool is_tag(const char *s)
{
	size_t n = strlen(s);

	if (!n || n > 128 || *s == '.' || *s == '-')
		return false;
	for (; *s; s++)
		if (!alnum(*s) && !strchr("_.-", *s))
			return false;
	return true;
}

int image_reference_parse(const char *s, struct image_reference *ret, struct davit_error *err)
{
	struct image_reference r = {0};
	char *at, *slash, *colon;

	if (strlen(s) >= sizeof r.name)
		return davit_error_set(err, DAVIT_EINVAL, "reference",
				       "'%.64s...' is too long for an image's name", s);
	strcpy(r.name, s);
	at = strchr(r.name, '@');
	if (at) {
		*at = '\0';
		if (!image_digest_parse(at + 1, r.hex))
			return davit_error_set(
				err, DAVIT_EINVAL, "reference",
				"'%.256s' is not an image's name: behind '@' must stand sha256: and "
				"64 hexadecimal digits",
				s);
	}
	slash = strrchr(r.name, '/');
	colon = strchr(slash ? slash : r.name, ':');
	if (colon) {
		*colon = '\0';
		if (!is_tag(colon + 1))
			return davit_error_set(
				err, DAVIT_EINVAL, "reference",
				"'%.256s' is not an image's name: a tag is at most 128 letters, "
				"digits, '_', '.' and '-'",
				s);
		strcpy(r.tag, colon + 1);
	} else if (!at) {
		strcpy(r.tag, "latest");
	}
	if (!is_name(r.name))
		return davit_error_set(
			err, DAVIT_EINVAL, "reference",
			"'%.256s' is not an image's name: it is [HOST[:PORT]/]PATH[:TAG], with PATH in "
			"lower case letters, digits and single '.', '_', '-', '/'",
			s);
	*ret = r;
	return 0;
}

int davit_reference_normalise(const char *s, char ret[DAVIT_REFERENCE_MAX], struct davit_error *err)
{
	struct image_reference r;
	int code = image_reference_parse(s, &r, err);
	int n;

	if (code < 0)
		return code;
	n = snprintf(ret, DAVIT_REFERENCE_MAX, "%s%s%s%s%s", r.name, *r.tag ? ":" : "", r.tag,
		     *r.hex ? "@sha256:" : "", r.hex);
	if (n < 0 || n >= DAVIT_REFERENCE_MAX)
		return davit_error_set(err, DAVIT_EINVAL, "reference",
				       "'%.64s...' is too long for an image's name", s);
	return 0;
}
