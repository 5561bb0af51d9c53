/* SPDX-License-Identifier: MIT
 *
 * What the text of a source means. Documented for users in docs/sources.md.
 */
#ifndef DAVIT_SOURCE_SOURCE_H
#define DAVIT_SOURCE_SOURCE_H

#include "davit/error.h"

#include <stdbool.h>

enum davit_source_kind {
	DAVIT_SOURCE_PATH,  /* an existing file or directory */
	DAVIT_SOURCE_GIT,   /* a repository, at a ref */
	DAVIT_SOURCE_IMAGE, /* an image reference */
	DAVIT_SOURCE_NAME,  /* a bare name, to be looked up */
};

/* Heap strings. */
struct davit_source {
	enum davit_source_kind kind;
	char *location; /* the path, git's URL, the image, the name */
	char *ref;	/* branch, tag or commit; NULL is the default branch */
	bool local;	/* a git repository in this machine's file system */
};

/* Reads a source. Looks at the file system for absolute paths and for nothing
 * else. DAVIT_ESOURCE with a message for a person when it is malformed or a path
 * does not exist. Blocks for a few lstat calls. */
int davit_source_parse(const char *text, struct davit_source *ret, struct davit_error *err);
void davit_source_fini(struct davit_source *s);

/* Whether it makes sense and is there, as far as that is known without asking anybody: of
 * names below `base` (the default source, or NULL) when that is a directory, and among
 * the examples of `share`. DAVIT_ESOURCE with a message for a person. Looks at the file system. */
int davit_source_check(const char *text, const char *base, const char *share, struct davit_error *err);
/* DAVIT_ESOURCE: there is no such name. */
int davit_source_unknown(const char *name, const char *base, struct davit_error *err);

#endif
