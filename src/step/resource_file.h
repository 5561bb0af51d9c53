/* SPDX-License-Identifier: MIT
 *
 * A resource in a file: `type`, the directory of its programs, relative to the file, and `source`.
 */
#ifndef DAVIT_STEP_RESOURCE_FILE_H
#define DAVIT_STEP_RESOURCE_FILE_H

#include "davit/error.h"

#include <jansson.h>

struct davit_resource_file {
	char *type;	/* absolute */
	json_t *source; /* NULL: none given */
};

/* Blocks on the file system. Errors of the text have line and column. davit_resource_file_fini. */
int davit_resource_file_read(const char *path, struct davit_resource_file *ret, struct davit_error *err);
void davit_resource_file_fini(struct davit_resource_file *f);

#endif
