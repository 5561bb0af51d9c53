/* SPDX-License-Identifier: MIT
 *
 * What a workspace is called: its name, its id, and what a user may write for
 * either.
 */
#ifndef DAVIT_WORKSPACE_NAME_H
#define DAVIT_WORKSPACE_NAME_H

#include "davit/error.h"

#include <stdbool.h>
#include <stddef.h>

#define DAVIT_WORKSPACE_NAME_MAX 64 /* with the NUL: a name is a service's name */
#define DAVIT_WORKSPACE_ID_MAX 65   /* 64 hexadecimal digits and a NUL */

/* The name for a wish (NULL is none): ASCII letters in lower case, each run of what
 * is not [a-z0-9._-] one '-', without '.', '_' and '-' at either end, cut to fit, and
 * "workspace" where nothing is left. Fills and returns ret. */
char *davit_workspace_name(const char *wish, char ret[DAVIT_WORKSPACE_NAME_MAX]);
/* The last part of a path, as a wish: "/srv/My App/" gives "my-app". */
char *davit_workspace_name_of_path(const char *path, char ret[DAVIT_WORKSPACE_NAME_MAX]);
/* The n-th workspace that wishes for that (sanitised) name: n = 1 is the name itself,
 * 2 is "name-2"; the name is cut so that the number fits. */
char *davit_workspace_name_nth(const char *name, unsigned n, char ret[DAVIT_WORKSPACE_NAME_MAX]);

/* 64 hexadecimal digits of the kernel's random generator. DAVIT_EIO. */
int davit_workspace_id_new(char ret[DAVIT_WORKSPACE_ID_MAX], struct davit_error *err);
/* Can this be the beginning of an id: 1 to 64 of 0-9 and a-f? */
bool davit_workspace_is_prefix(const char *s);

/* Finding the one that is meant among all. An id, whole or as much of its
 * beginning as is unambiguous, beats a name. Start with {.wanted = text}. */
struct davit_workspace_search {
	const char *wanted; /* borrowed */
	void *by_id, *by_name;
	size_t n_ids;
};
/* Offers one: found is what the search gives if this is it. */
void davit_workspace_search_offer(struct davit_workspace_search *s, const char *id, const char *name,
				  void *found);
/* Which it is. DAVIT_ENOENT, or DAVIT_EINVAL for a beginning that several have. */
int davit_workspace_search_end(const struct davit_workspace_search *s, void **ret, struct davit_error *err);

#endif
