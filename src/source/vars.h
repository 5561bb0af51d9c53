/* SPDX-License-Identifier: MIT
 *
 * Variables and patterns of cells.
 */
#ifndef DAVIT_SOURCE_VARS_H
#define DAVIT_SOURCE_VARS_H

#include "davit/error.h"

#include <stdbool.h>

/* The values of ${SOURCE}, ${OUT} and so on; borrowed. NULL is the empty text. */
struct davit_vars {
	const char *source;  /* the tree that is built */
	const char *out;     /* for what a build makes beside it */
	const char *tmp;     /* thrown away after the build */
	const char *name;    /* of the service */
	const char *davit;   /* directory of davit's programs */
	const char *cache;   /* for the caches of tools */
	const char *cell;    /* directory of the cell's helper files */
	const char *home;    /* the user's home */
	const char *program; /* what the cell's `program` found */
};

/* Whether every ${NAME} in text is a variable; else *ret_bad is the first that
 * is none, a heap string for the message. */
bool davit_vars_known(const char *text, char **ret_bad);

/* The text with its variables replaced, a heap string; NULL: out of memory. A
 * '$' that begins no ${...} stands for itself. */
char *davit_vars_expand(const struct davit_vars *vars, const char *text);
/* That for each string of a vector. */
int davit_vars_expand_all(const struct davit_vars *vars, char *const *v, char ***ret,
			  struct davit_error *err);

/* Paths that a pattern matches, sorted; *ret is NULL when none does.
 *
 * A pattern is [KIND:]GLOB, below ${SOURCE} unless it begins with a variable.
 * KIND restricts it: `elf:` programs and `script:` files that begin with #!,
 * both executable; `executable:` either; `only:` a file that is alone in its
 * directory. A name with a dot in front is matched by a dot only. */
int davit_pattern_find(const struct davit_vars *vars, const char *pattern, char ***ret,
		       struct davit_error *err);
/* 1 when the pattern matches something, 0 when not, or a code. */
int davit_pattern_matches(const struct davit_vars *vars, const char *pattern, struct davit_error *err);
/* Whether the part before ':', if any, is a kind. */
bool davit_pattern_known(const char *pattern);

#endif
