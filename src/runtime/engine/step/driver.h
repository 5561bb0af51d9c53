/* SPDX-License-Identifier: MIT
 *
 * davit-step-engine: a step in a container of Docker or Podman.
 */
#ifndef DAVIT_ENGINE_STEP_DRIVER_H
#define DAVIT_ENGINE_STEP_DRIVER_H

#include "runtime/engine/flavour.h"
#include "runtime/engine/terminal/api.h"
#include "step/session.h"

struct driver {
	const struct engine_flavour *flavour;
	struct api api;
	struct davit_buf order; /* as it came; more is added for over there */
	struct step step;	/* of it */
	char container[STEP_CONTAINER_SIZE];
};

/* container.c: makes the container, with everything in it, and has not started it. What the image says of
 * environment and user is in the order after. */
int container_create(struct driver *d, struct davit_error *err);
/* The ID of the image d->step.image. DAVIT_ENOENT; with `fetch` it is fetched first where it is not there. */
int container_image(struct driver *d, bool fetch, char *ret, size_t size, struct davit_error *err);
/* A connection to the streams of its first process; then it runs. *early: what came already. */
int container_start(struct driver *d, int *ret_fd, struct davit_buf *early, struct davit_error *err);
/* Success when there is none. */
int container_remove(struct driver *d, struct davit_error *err);

/* carry.c: inputs, caches and davit-step into the container; outputs and caches out of it. */
int carry_in(struct driver *d, struct davit_error *err);
int carry_out(struct driver *d, struct davit_error *err);

#endif
