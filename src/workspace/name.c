/* SPDX-License-Identifier: MIT */
#include "workspace/name.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define DEFAULT_NAME "workspace"

static bool is_plain(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

/* A service's name begins with a letter or digit, and what ends with one looks
 * right before a "-2". */
static bool is_edge(char c)
{
	return c == '.' || c == '_' || c == '-';
}

static size_t trim(char *s, size_t n)
{
	size_t from = 0;

	while (n && is_edge(s[n - 1]))
		n--;
	while (from < n && is_edge(s[from]))
		from++;
	memmove(s, s + from, n - from);
	s[n - from] = '\0';
	return n - from;
}

static char *sanitise(const char *wish, size_t len, char ret[DAVIT_WORKSPACE_NAME_MAX])
{
	bool gap = false;
	size_t n = 0;

	for (size_t i = 0; i < len && n < DAVIT_WORKSPACE_NAME_MAX - 1; i++) {
		char c = wish[i] >= 'A' && wish[i] <= 'Z' ? (char)(wish[i] | 0x20) : wish[i];
		bool plain = is_plain(c);
		/* What is trimmed from the front takes no room. */
		if (n == 0 && (!plain || is_edge(c)))
			continue;
		if (plain || !gap)
			ret[n++] = plain ? c : '-';
		gap = !plain;
	}
	if (!trim(ret, n))
		strcpy(ret, DEFAULT_NAME);
	return ret;
}

char *davit_workspace_name(const char *wish, char ret[DAVIT_WORKSPACE_NAME_MAX])
{
	return sanitise(wish ? wish : "", wish ? strlen(wish) : 0, ret);
}

char *davit_workspace_name_of_path(const char *path, char ret[DAVIT_WORKSPACE_NAME_MAX])
{
	size_t end = strlen(path), from;

	while (end && path[end - 1] == '/')
		end--;
	for (from = end; from && path[from - 1] != '/'; from--)
		;
	return sanitise(path + from, end - from, ret);
}

char *davit_workspace_name_nth(const char *name, unsigned n, char ret[DAVIT_WORKSPACE_NAME_MAX])
{
	char number[16];
	size_t room;

	if (n < 2) {
		snprintf(ret, DAVIT_WORKSPACE_NAME_MAX, "%s", name);
		return ret;
	}
	room = DAVIT_WORKSPACE_NAME_MAX - 1 - (size_t)snprintf(number, sizeof number, "-%u", n);
	snprintf(ret, room + 1, "%s", name);
	trim(ret, strlen(ret));
	strcat(ret, number);
	return ret;
}

int davit_workspace_id_new(char ret[DAVIT_WORKSPACE_ID_MAX], struct davit_error *err)
{
	unsigned char raw[32];
	size_t n = 0;

	while (n < sizeof raw) {
		ssize_t got = getrandom(raw + n, sizeof raw - n, 0);
		if (got < 0 && errno != EINTR)
			return davit_error_errno(err, errno, NULL, "no random numbers for an id");
		n += got > 0 ? (size_t)got : 0;
	}
	for (size_t i = 0; i < sizeof raw; i++)
		sprintf(ret + 2 * i, "%02x", raw[i]);
	return 0;
}

bool davit_workspace_is_prefix(const char *s)
{
	size_t n = strspn(s, "0123456789abcdef");

	return n > 0 && n < DAVIT_WORKSPACE_ID_MAX && !s[n];
}

void davit_workspace_search_offer(struct davit_workspace_search *s, const char *id, const char *name,
				  void *found)
{
	if (davit_workspace_is_prefix(s->wanted) && !strncmp(id, s->wanted, strlen(s->wanted))) {
		s->by_id = found;
		s->n_ids++;
	}
	if (!strcmp(name, s->wanted))
		s->by_name = found;
}

int davit_workspace_search_end(const struct davit_workspace_search *s, void **ret, struct davit_error *err)
{
	if (s->n_ids != 1 && !s->by_name)
		return s->n_ids ? davit_error_set(
					  err, DAVIT_EINVAL, "workspace",
					  "the ids of %zu workspaces begin with '%s': write more of it",
					  s->n_ids, s->wanted)
				: davit_error_set(err, DAVIT_ENOENT, "workspace", "workspace '%s' not found",
						  s->wanted);
	*ret = s->n_ids == 1 ? s->by_id : s->by_name;
	return 0;
}
