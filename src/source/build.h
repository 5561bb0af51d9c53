/* SPDX-License-Identifier: MIT
 *
 * From the text of a source to something that runs: what davit-build does.
 */
#ifndef DAVIT_SOURCE_BUILD_H
#define DAVIT_SOURCE_BUILD_H

#include "davit/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* Borrowed strings. */
struct davit_build_request {
	const char *source;
	const char *type; /* the cell's name; NULL or empty: detected */
	const char *namespace_;
	const char *name;
	const char *version;
	const char *default_source; /* NULL: none */
	const char *cache;	    /* directories */
	const char *config;
	const char *share;
	const char *program;
	bool force; /* build although the cache has it */
	/* What runs it, and where the daemon that knows it answers; and why that builds
	 * no image of this source, NULL: it does. */
	const char *runtime;
	const char *socket;
	const char *no_images;
	bool in_image; /* what was built on this host runs in the cell's image */

	char *const *env;	 /* for tools and git */
	const char *credentials; /* file for git; NULL: none */
	const char *self;	 /* davit-build itself, for git's questions */
	uint64_t cache_size;	 /* bytes */
	int64_t timeout;	 /* ns, for all of it */
};

/* Resolves, fetches, detects, builds. *ret_result is {argv, env, directory, cell,
 * content, revision, port, runImage}, to be json_decref'd; argv, env and directory are
 * not there when an image was made, which has its own. runImage is null where the
 * runtime needs no image. The log is standard output and
 * standard error. A failure leaves the cache as it was. Blocks; the caller is a
 * child subreaper without other children and has called sodium_init. */
int davit_build(const struct davit_build_request *request, json_t **ret_result, struct davit_error *err);

/* The tree that a source means, as it is before it is copied. */
struct davit_located {
	char *path;
	char *revision; /* of a git source; else NULL */
	char *scratch;	/* to be removed after use; NULL when path is the user's */
};

/* Finds the tree: looks a bare name up, fetches from git and unpacks archives
 * into the directory `scratch`, which does not exist yet. */
int davit_locate(const struct davit_build_request *request, const char *scratch, int64_t deadline,
		 struct davit_located *ret, struct davit_error *err);
void davit_located_fini(struct davit_located *l);

#endif
