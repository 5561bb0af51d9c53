/* SPDX-License-Identifier: MIT
 *
 * Images of sources with a Dockerfile. A runtime builds them; the way to it is the
 * daemon's own API.
 */
#ifndef DAVIT_SOURCE_IMAGE_H
#define DAVIT_SOURCE_IMAGE_H

#include "davit/error.h"

#include <stdbool.h>
#include <stdint.h>

/* A runtime that builds images. Borrowed strings. */
struct davit_image_builder {
	const char *socket; /* of the daemon */
	const char *runtime;
	int64_t deadline; /* monotonic ns, as davit_run_now tells; 0: none */
};

/* "localhost/davit/NAME:DIGITS", a heap string, or NULL: the name of a service made
 * fit for an image, and the first of the key's digits. */
char *davit_image_reference(const char *name, const char *key);

/* Packs the tree at `root` into a tar archive, the file `path`: everything is root's. */
int davit_image_pack(const char *root, const char *path, struct davit_error *err);

/* Has the archive `context` built to an image of that reference, by its file
 * `dockerfile`. What the build says goes to standard output. A daemon or runtime
 * that does not answer is tried again for two minutes. Blocks. DAVIT_EBUILD with
 * what the builder says, DAVIT_ETIMEDOUT, DAVIT_EUNAVAIL. */
int davit_image_build(const struct davit_image_builder *b, const char *reference, const char *dockerfile,
		      const char *context, struct davit_error *err);

/* Whether the runtime has it: 1, 0, or a code. Blocks. */
int davit_image_exists(const struct davit_image_builder *b, const char *reference, struct davit_error *err);

/* Success when it is not there. Blocks. */
int davit_image_remove(const struct davit_image_builder *b, const char *reference, struct davit_error *err);

#endif
