/* SPDX-License-Identifier: MIT
 *
 * What of a tree is not taken: names that are no source anywhere, and the rules of
 * a .dockerignore.
 */
#ifndef DAVIT_SOURCE_IGNORE_H
#define DAVIT_SOURCE_IGNORE_H

#include "davit/error.h"

#include <stdbool.h>
#include <stddef.h>

enum davit_ignore_answer {
	DAVIT_IGNORE_NO,
	DAVIT_IGNORE_YES,    /* with all that is below it */
	DAVIT_IGNORE_UNLESS, /* a directory: only as far as something below it is taken */
};

struct davit_ignore_rule {
	char *pattern; /* without the '!', and without '/' at either end */
	bool except;   /* it began with '!': what it matches is taken all the same */
};

/* Zeroed: nothing is ignored. */
struct davit_ignore {
	char **names; /* patterns (fnmatch) of names, at any depth; or NULL */
	struct davit_ignore_rule *rules;
	size_t n_rules;
};

/* Adds the rules of a text as Docker reads them: one a line, '#' begins a comment,
 * '!' an exception, the last rule that matches counts; '*' and '?' match within a
 * name, '**' any number of directories, and what matches a directory holds for all
 * below it. 0 or DAVIT_ENOMEM. */
int davit_ignore_add_rules(struct davit_ignore *g, const char *text, struct davit_error *err);
/* Adds one: pattern as in a line. */
int davit_ignore_add_rule(struct davit_ignore *g, const char *line, size_t len, struct davit_error *err);
void davit_ignore_fini(struct davit_ignore *g);

/* What becomes of an entry: its path from the root of the tree, of directories that
 * were not ignored themselves. */
enum davit_ignore_answer davit_ignore_ask(const struct davit_ignore *g, const char *path, bool directory);

#endif
