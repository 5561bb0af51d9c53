/* SPDX-License-Identifier: MIT
 *
 * A build under way, for build.c, build_image.c and result.c.
 */
#ifndef DAVIT_SOURCE_BUILD_IMPL_H
#define DAVIT_SOURCE_BUILD_IMPL_H

#include "source/build.h"
#include "source/cache.h"
#include "source/cell.h"
#include "source/vars.h"

struct build {
	const struct davit_build_request *request;
	struct davit_error *err;
	struct davit_cache cache;
	struct davit_cells cells;
	struct davit_located located;
	const struct davit_cell *cell;
	struct davit_snapshot source;
	struct davit_ignore ignore;
	char *dockerfile; /* of a cell that makes images: its path in the source */
	char **env;	  /* of the tools */
	char key[DAVIT_HASH_MAX];
	struct davit_work work;
	char *home;
	char *scratch;		/* in work: what was fetched */
	char *tree, *out, *tmp; /* in work */
	char *program;
	struct davit_vars vars;
	int64_t deadline;
};

static inline int build_no_memory(struct build *b)
{
	return davit_error_set(b->err, DAVIT_ENOMEM, NULL, "out of memory");
}

/* What runs, as JSON: {argv, env, directory, cell, content, port, image}. */
int build_result(struct build *b, json_t **ret);

/* The part of cells that make images. First what of the source is the context; then,
 * with the source in the cache, the key of the build; the image, as JSON {cell, content,
 * port, image, runtime}; whether the one of a result is still there. */
int build_image_ignore(struct build *b);
int build_image_key(struct build *b);
int build_image(struct build *b, json_t **ret);
bool build_image_is_there(struct build *b, const json_t *result);
/* For the cache (cache.h); user is the build. */
int build_image_drop(void *user, const char *runtime, const char *reference);

#endif
