/* SPDX-License-Identifier: MIT
 *
 * A build under way, for build.c and result.c.
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
	char **ignore;
	char **env; /* of the tools */
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

#endif
