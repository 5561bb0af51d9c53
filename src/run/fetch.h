/* SPDX-License-Identifier: MIT
 *
 * A get, put or check while it runs, as fetch.c and resource.c share it.
 */
#ifndef DAVIT_RUN_FETCH_H
#define DAVIT_RUN_FETCH_H

#include "run/host.h"

struct fetch {
	struct leaf *leaf;
	struct davit_artifact_hold type, tree;
	const char *image; /* the type is this image; or NULL: a tree */
	struct davit_artifact *artifacts;
	struct davit_artifact_hold *inputs; /* of a put */
	char **names, **paths;		    /* of these; in an image where they are */
	size_t n;
	char *type_path, *home, *dest, *src, *work;
	json_t *version, *params, *metadata;
	char key[DAVIT_GET_KEY_MAX], *locked;
	int lock;
	struct davit_get get;
	struct davit_timer look;
	struct davit_resource_call call;
};

/* resource.c: makes the leaf's struct fetch, with its type. A code: the leaf has ended. */
int fetch_begin(struct leaf *l);
/* The end of the leaf, whatever it waited for; that by an error. */
void fetch_finish(struct leaf *l, enum davit_plan_outcome outcome, const char *message);
void fetch_fail(struct leaf *l, const struct davit_error *err);
/* Runs a program of the type, or takes over the one that runs or has run; then done(). */
void fetch_run(struct leaf *l, enum davit_resource_action action,
	       void (*done)(struct leaf *l, const struct davit_result *r));
/* Did the program do what it is for? If not, the leaf has ended. Its answer is appended to out. */
bool fetch_succeeded(struct leaf *l, const struct davit_result *r, struct davit_buf *out);
/* What a put needs of the artifacts that there are. */
int fetch_choose_inputs(struct leaf *l, struct davit_error *err);
/* Copies them, for leaf_work: the program may change them. */
int fetch_gather(struct leaf *l, struct davit_error *err);

#endif
