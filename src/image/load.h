/* SPDX-License-Identifier: MIT
 *
 * A load under way, shared by the forms that it may have.
 */
#ifndef DAVIT_IMAGE_LOAD_H
#define DAVIT_IMAGE_LOAD_H

#include "image/image_impl.h"

#define IMAGE_IMAGES_MAX 1000 /* in one archive */

struct image_loading {
	const struct davit_image_load *asked;
	const char *path;
	struct image_job *job;
	struct image_bundle *bundle;
	struct image_budget budget;
	struct image_new *images;
	size_t n;
	struct davit_error *err;
	char file[320]; /* "PATH: index.json", for messages */
};

/* A document of the archive; its name for messages lies in l until the next call. */
struct image_doc image_loading_doc(struct image_loading *l, const char *file);
/* Room for one image more, with the name that it has or NULL; what *ret points to
 * is borrowed until the next call. */
int image_loading_add(struct image_loading *l, const char *name, struct image_new **ret);
/* Whether it is to be loaded. */
bool image_loading_wants(const struct image_loading *l, const char *name);
/* From the configuration's text, which is there: the layers' diff ids. */
int image_loading_config(struct image_loading *l, struct image_new *n, const char *file);

/* load_oci.c: an OCI layout; and a manifest, whose text n has, with all that it names. */
int image_load_oci(struct image_loading *l);
int image_load_manifest(struct image_loading *l, struct image_new *n, const char *file);

/* load_docker.c: what docker save wrote, from its list. */
int image_load_docker(struct image_loading *l, const struct image_doc *d, json_t *list);

#endif
