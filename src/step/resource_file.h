/* SPDX-License-Identifier: MIT
 *
 * A resource in a file: `type`, the directory of its programs, relative to the file, or `image`, which has
 * them, with the `runtime` of steps for it; and `source`.
 */
#ifndef DAVIT_STEP_RESOURCE_FILE_H
#define DAVIT_STEP_RESOURCE_FILE_H

#include "davit/error.h"

#include <jansson.h>

struct davit_resource_file {
	char *type;	/* absolute; or */
	char *image;	/* a name */
	char *runtime;	/* of the image; or NULL */
	json_t *source; /* NULL: none given */
};

/* Blocks on the file system. Errors of the text have line and column. davit_resource_file_fini. */
int davit_resource_file_read(const char *path, struct davit_resource_file *ret, struct davit_error *err);
void davit_resource_file_fini(struct davit_resource_file *f);

#endif
