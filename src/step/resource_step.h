/* SPDX-License-Identifier: MIT
 *
 * A check, get or put by the programs of an image (in its /opt/resource): each a step like others, on any
 * runtime of steps that has images.
 */
#ifndef DAVIT_STEP_RESOURCE_STEP_H
#define DAVIT_STEP_RESOURCE_STEP_H

#include "davit/artifact.h"
#include "step/resource.h"

struct davit_resource_step;

/* As davit_resource_start; `type` and `scratch` of the spec are not looked at. image: its name; runtime: or
 * NULL, as of davit_run_spec. The store stays until the loop has run after free. Copies the directory of a
 * put first, and one that was got at the end. *ret is owned: davit_resource_step_free. */
int davit_resource_step_start(struct davit_loop *loop, struct davit_artifacts *store,
			      const struct davit_resource_spec *spec, const char *image, const char *runtime,
			      const struct davit_resource_events *on, void *owner,
			      struct davit_resource_step **ret, struct davit_error *err);
void davit_resource_step_abort(struct davit_resource_step *s);
/* NULL is fine. The loop has to run until nothing is left to do. */
void davit_resource_step_free(struct davit_resource_step *s);

#endif
