/* SPDX-License-Identifier: MIT
 *
 * What is stored, as a struct davit_image.
 */
#include "image/image_impl.h"

#include "base/file.h"
#include "base/strv.h"
#include "base/units.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* A manifest and its configuration, as stored. */
struct stored {
	struct image_manifest manifest;
	struct davit_buf config;
	char (*diff)[IMAGE_HEX];
	size_t n_diff;
};

static void stored_fini(struct stored *st)
{
	image_manifest_fini(&st->manifest);
	davit_buf_fini(&st->config);
	free(st->diff);
}
#define AUTO_STORED DAVIT_CLEANUP(stored_fini) struct stored

static int read_json(struct davit_image_store *s, const char *hex, struct davit_buf *text,
		     const struct image_doc *d, json_t **ret)
{
	int r = image_store_blob(s, hex, text, d->err);

	return r == 0 ? image_doc_parse(d, text->data, text->len, ret) : r;
}

static int read_stored(struct davit_image_store *s, const char *hex, struct stored *st, struct davit_image *i,
		       struct davit_error *err)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	char path[96];
	struct image_doc d = {.file = path, .code = DAVIT_ECORRUPT, .err = err};
	json_t *o = NULL, *c = NULL;
	int r;

	image_blob_path(hex, path);
	r = read_json(s, hex, &text, &d, &o);
	if (r == 0)
		r = image_doc_manifest(&d, o, &st->manifest);
	if (r == 0) {
		image_blob_path(st->manifest.config.hex, path);
		r = read_json(s, st->manifest.config.hex, &st->config, &d, &c);
	}
	if (r == 0)
		r = image_doc_config(&d, c, i, &st->diff, &st->n_diff);
	json_decref(c);
	json_decref(o);
	return r;
}

static uint64_t size_of_layer(struct davit_image_store *s, const char *hex)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	DAVIT_AUTO_FREE char *path = NULL;

	return asprintf(&path, "%s/layers/%s/size", s->dir, hex) > 0 &&
			       davit_read_file(path, 64, &b, NULL) == 0
		       ? strtoull(davit_buf_str(&b), NULL, 10)
		       : 0;
}

static int add_layers(struct davit_image_store *s, const struct stored *st, struct davit_image *i,
		      struct davit_error *err)
{
	for (size_t k = 0; k < st->n_diff; k++) {
		DAVIT_AUTO_FREE char *path = NULL;
		if (asprintf(&path, "%s/layers/%s/fs", s->dir, st->diff[k]) < 0 ||
		    davit_strv_add(&i->layers, path) < 0)
			return image_oom(err);
		if (!image_store_has(s, path))
			return davit_error_set(err, DAVIT_ECORRUPT, NULL,
					       "%s is missing: load the image again", path);
		i->size += size_of_layer(s, st->diff[k]);
	}
	i->n_layers = st->n_diff;
	return 0;
}

/* Reads all of an image of the store. */
static int read_image(struct davit_image_store *s, const struct image_entry *e, struct davit_image **ret,
		      struct davit_error *err)
{
	AUTO_STORED st = {0};
	struct davit_image *i = calloc(1, sizeof *i);
	int r = i ? read_stored(s, e->hex, &st, i, err) : image_oom(err);

	if (r == 0)
		r = add_layers(s, &st, i, err);
	if (r == 0) {
		i->user_xattrs = !s->root;
		i->reference = strdup(e->reference);
		i->config = davit_buf_take(&st.config);
		snprintf(i->digest, sizeof i->digest, "sha256:%s", e->hex);
		snprintf(i->id, sizeof i->id, "sha256:%s", st.manifest.config.hex);
		r = i->reference && i->config ? 0 : image_oom(err);
	}
	if (r < 0) {
		davit_error_prefix(err, "image '%.128s'", e->reference);
		davit_image_free(i);
	} else {
		*ret = i;
	}
	return r;
}

int image_needs(struct davit_image_store *s, const char *hex, struct davit_buf *out, struct davit_error *err)
{
	AUTO_STORED st = {0};
	struct davit_image *i = calloc(1, sizeof *i);
	int r = i ? read_stored(s, hex, &st, i, err) : image_oom(err);

	davit_image_free(i);
	if (r < 0)
		return r;
	davit_buf_addf(out, "blobs/sha256/%s\nblobs/sha256/%s\n", hex, st.manifest.config.hex);
	for (size_t k = 0; k < st.manifest.n_layers; k++)
		davit_buf_addf(out, "blobs/sha256/%s\n", st.manifest.layers[k].hex);
	for (size_t k = 0; k < st.n_diff; k++)
		davit_buf_addf(out, "layers/%s\n", st.diff[k]);
	return out->oom ? image_oom(err) : 0;
}

/* --- the public ones --- */

int davit_image_resolve(struct davit_image_store *s, const char *reference, struct davit_image **ret,
			struct davit_error *err)
{
	IMAGE_AUTO_INDEX x = {0};
	size_t at;
	bool by_id;
	int r = image_index_read(s, &x, err);

	if (r == 0)
		r = image_index_find(s, &x, reference, &at, &by_id, err);
	return r == 0 ? read_image(s, &x.entries[at], ret, err) : r;
}

int davit_image_list(struct davit_image_store *s, int (*fn)(void *user, const struct davit_image *i),
		     void *user, struct davit_error *err)
{
	IMAGE_AUTO_INDEX x = {0};
	int r = image_index_read(s, &x, err);

	for (size_t k = 0; r == 0 && k < x.n; k++) {
		struct davit_image *i = NULL;
		r = read_image(s, &x.entries[k], &i, err);
		if (r == 0)
			r = fn(user, i);
		davit_image_free(i);
	}
	return r;
}
