/* SPDX-License-Identifier: MIT
 *
 * What the readers of pipelines share. Not for use outside pipeline*.c.
 */
#ifndef DAVIT_STEP_PIPELINE_IMPL_H
#define DAVIT_STEP_PIPELINE_IMPL_H

#include "step/pipeline.h"

struct pipeline_reader {
	const struct davit_tree *root;
	const struct davit_var *vars;
	size_t n_vars;
	char **notes;
	struct davit_error *err;
};

/* Adds a note about what is passed over. */
int pipeline_note(struct pipeline_reader *r, const struct davit_tree *at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* A value with its ((vars)) filled in; errors have its place. */
int pipeline_value(struct pipeline_reader *r, const struct davit_tree *t, json_t **ret);
/* The entry named `name` of one of the lists of the file ("resources", "resource_types"), or NULL. */
const struct davit_tree *pipeline_find(const struct pipeline_reader *r, const char *list, const char *name);
/* task.c: is that a task? What has ((vars)) that are filled in later is not looked at. */
int davit_task_check(const struct davit_tree *t, struct davit_error *err);
/* pipeline_step.c: a list of steps, each with all that wraps it, as a plan. */
int pipeline_steps(struct pipeline_reader *r, const struct davit_tree *list, const char *kind, json_t **ret);
/* The hooks of t (a step, or a job) around plan, which it takes. */
int pipeline_hooks(struct pipeline_reader *r, const struct davit_tree *t, json_t *plan, json_t **ret);

#endif
