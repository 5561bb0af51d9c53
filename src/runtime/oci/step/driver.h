/* SPDX-License-Identifier: MIT
 *
 * davit-step-oci: a step in a container of crun or runc.
 */
#ifndef DAVIT_OCI_STEP_DRIVER_H
#define DAVIT_OCI_STEP_DRIVER_H

#include "base/buf.h"
#include "step/session.h"

struct driver {
	struct step step;	/* the order */
	struct davit_buf order; /* as it came; more is added for over there */
	const char *name;	/* of the runtime: "crun", "runc" */
	char *program;		/* that */
	char container[STEP_CONTAINER_SIZE];
	int root; /* the step's root, which is DIRECTORY/root */
};

/* config.c: config.json of the step's container. */
void driver_config(const struct driver *d, struct davit_buf *out);

#endif
