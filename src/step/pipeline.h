/* SPDX-License-Identifier: MIT
 *
 * Pipeline files: a job of one becomes a plan. What only a server that watches resources can do (passed,
 * trigger, serial groups ...) is passed over with a note; what is not known is refused with its line, its
 * column and the nearest key that is.
 */
#ifndef DAVIT_STEP_PIPELINE_H
#define DAVIT_STEP_PIPELINE_H

#include "base/tree.h"

#include <jansson.h>

/* A var, from --var NAME=VALUE. */
struct davit_var {
	const char *name, *value;
};

struct davit_pipeline_job {
	json_t *plan; /* for davit_plan_read. The spec of a get, put or check holds its resource - {type,
		       * source, version,
		       * ...} - with the resource type's own definition as "resource_type", or none for one
		       * that is not defined in the file; that of a task, what its step says */
	char **notes; /* sentences, "line 7: ..."; or NULL */
};

/* Reads a job from a file's text. Variables ((name)) are filled in from vars; those that steps set,
 * ((.:name)), stay. Errors: DAVIT_EINVAL with line and column; DAVIT_ENOENT: there is no such job (the
 * message names those that there are). *ret is filled; davit_pipeline_job_fini. */
int davit_pipeline_read(const char *text, size_t len, const char *job, const struct davit_var *vars,
			size_t n_vars, struct davit_pipeline_job *ret, struct davit_error *err);
void davit_pipeline_job_fini(struct davit_pipeline_job *j);

/* ---------------------------------------------------------- shared with other files of people's
 * A value as JSON: what is not in quotes may be a number, true, false or null; other texts are texts. *ret is
 * owned. */
int davit_tree_json(const struct davit_tree *t, json_t **ret, struct davit_error *err);
/* The child of that key, or NULL. */
const struct davit_tree *davit_tree_get(const struct davit_tree *map, const char *key);
/* Refuses t unless it is a map whose keys are all among the words of known (ended by NULL); `what` names it.
 */
int davit_tree_known(const struct davit_tree *t, const char *what, const char *const *known,
		     struct davit_error *err);
/* The text of a scalar that is not null, or an error at its place. */
int davit_tree_text(const struct davit_tree *t, const char *what, const char **ret, struct davit_error *err);

#endif
