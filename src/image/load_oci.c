/* SPDX-License-Identifier: MIT
 *
 * An OCI layout, and what a manifest names.
 */
#include "image/load.h"

#include <stdio.h>
#include <string.h>

/* --- manifests: OCI layouts and directories --- */

/* The file of a blob: an OCI layout's, or that of skopeo's dir:. */
static const char *blob_name(struct image_loading *l, const char *hex, char name[96])
{
	image_blob_path(hex, name);
	if (!image_bundle_has(l->bundle, name) && image_bundle_has(l->bundle, hex))
		snprintf(name, 96, "%s", hex);
	return name;
}

static int read_blob(struct image_loading *l, const struct image_descriptor *b, struct davit_buf *out)
{
	char name[96], is[IMAGE_HEX];
	int r = image_bundle_read(l->bundle, blob_name(l, b->hex, name), out, l->err);

	if (r < 0)
		return r;
	image_hash_of(davit_buf_str(out), out->len, is);
	if (strcmp(is, b->hex))
		return davit_error_set(l->err, DAVIT_ESOURCE, "digest",
				       "%.128s: %s is damaged: its digest is sha256:%s", l->path, name, is);
	return out->len == b->size ? 0
				   : davit_error_set(l->err, DAVIT_ESOURCE, "size",
						     "%.128s: %s has %zu bytes, but should have %llu",
						     l->path, name, out->len, (unsigned long long)b->size);
}

static int add_layers(struct image_loading *l, struct image_new *n, const struct image_manifest *m)
{
	char name[96];

	n->layers = calloc(m->n_layers + 1, sizeof *n->layers);
	if (!n->layers)
		return image_oom(l->err);
	for (size_t i = 0; i < m->n_layers; i++) {
		n->layers[i].file = strdup(blob_name(l, m->layers[i].hex, name));
		if (!n->layers[i].file)
			return image_oom(l->err);
		n->n_layers++;
		memcpy(n->layers[i].blob, m->layers[i].hex, IMAGE_HEX);
		n->layers[i].size = m->layers[i].size;
	}
	return 0;
}

/* n->manifest_text is there. */
int image_load_manifest(struct image_loading *l, struct image_new *n, const char *file)
{
	struct image_doc d = image_loading_doc(l, file);
	IMAGE_AUTO_MANIFEST m = {0};
	json_t *o = NULL;
	int r = image_doc_parse(&d, n->manifest_text.data, n->manifest_text.len, &o);

	if (r == 0)
		r = image_doc_manifest(&d, o, &m);
	json_decref(o);
	if (r < 0)
		return r;
	image_hash_of(n->manifest_text.data, n->manifest_text.len, n->manifest);
	memcpy(n->config, m.config.hex, IMAGE_HEX);
	strcpy(n->media, m.media);
	r = read_blob(l, &m.config, &n->config_text);
	if (r == 0)
		r = add_layers(l, n, &m);
	return r == 0 ? image_loading_config(l, n, m.config.hex) : r;
}

/* --- OCI --- */

/* How well an entry of an index fits this machine: 0 not at all. */
static int fits(json_t *entry)
{
	json_t *p = json_object_get(entry, "platform");
	const char *os = json_string_value(json_object_get(p, "os"));
	const char *architecture = json_string_value(json_object_get(p, "architecture"));
	const char *variant = json_string_value(json_object_get(p, "variant"));
	const char *my_architecture, *my_variant;

	if (!p)
		return 1;
	image_platform(&my_architecture, &my_variant);
	if (!os || !architecture || strcmp(os, "linux") || strcmp(architecture, my_architecture))
		return 0;
	return !variant || !*variant ? 3 : !strcmp(variant, my_variant) ? 4 : 2;
}

static void tell_platforms(json_t *list, struct davit_buf *out)
{
	json_t *e;
	size_t i;

	json_array_foreach(list, i, e)
	{
		json_t *p = json_object_get(e, "platform");
		const char *os = json_string_value(json_object_get(p, "os"));
		const char *architecture = json_string_value(json_object_get(p, "architecture"));
		if (os && architecture && strcmp(os, "unknown"))
			davit_buf_addf(out, "%s%s/%s", out->len ? ", " : "", os, architecture);
	}
}

/* Attestations are in an index too, of the platform unknown/unknown. */
static int choose(struct image_loading *l, const struct image_doc *d, json_t *list, json_t **ret)
{
	DAVIT_AUTO_BUF have = DAVIT_BUF_INIT;
	const char *architecture, *variant;
	json_t *e, *best = NULL;
	int score = 0;
	size_t i;

	json_array_foreach(list, i, e)
	{
		if (fits(e) > score) {
			score = fits(e);
			best = e;
		}
	}
	if (best) {
		*ret = best;
		return 0;
	}
	image_platform(&architecture, &variant);
	tell_platforms(list, &have);
	return davit_error_set(l->err, DAVIT_ESOURCE, "platform",
			       "%.200s: no image for this machine, linux/%s; there are: %.128s", d->file,
			       architecture, have.len ? davit_buf_str(&have) : "none");
}

/* A manifest, or an index of one image for several machines. */
static int read_entry(struct image_loading *l, const struct image_doc *from, json_t *e, const char *field,
		      const char *name, int depth)
{
	struct image_descriptor descriptor;
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	json_t *o = NULL, *list = NULL, *best = NULL;
	struct image_new *n;
	struct image_doc d;
	int r = image_doc_descriptor(from, e, field, &descriptor);

	if (r == 0)
		r = read_blob(l, &descriptor, &text);
	if (r == 0 && !image_media_is_index(descriptor.media)) {
		r = image_loading_add(l, name, &n);
		if (r == 0) {
			n->manifest_text = text;
			text = (struct davit_buf)DAVIT_BUF_INIT;
			r = image_load_manifest(l, n, descriptor.hex);
		}
		return r;
	}
	d = image_loading_doc(l, descriptor.hex);
	if (r == 0 && depth > 3)
		r = image_doc_fail(&d, "manifests", "is an index in an index in an index");
	if (r == 0)
		r = image_doc_parse(&d, text.data, text.len, &o);
	if (r == 0)
		r = image_doc_array(&d, o, "", "manifests", &list);
	if (r == 0)
		r = choose(l, &d, list, &best);
	if (r == 0)
		r = read_entry(l, &d, best, "manifests[...]", name, depth + 1);
	json_decref(o);
	return r;
}

/* containerd writes the whole name apart, others put it where the tag should be. */
static int name_of(const struct image_doc *d, json_t *e, const char *field, const char **ret)
{
	json_t *notes = json_object_get(e, "annotations");
	int r = image_doc_string(d, notes, field, "io.containerd.image.name", ret);

	return r == 0 && !*ret ? image_doc_string(d, notes, field, "org.opencontainers.image.ref.name", ret)
			       : r;
}

/* Entries of one name are one image for several machines. */
static int read_index(struct image_loading *l, const struct image_doc *d, json_t *list)
{
	size_t n = json_array_size(list);
	char field[48];
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		const char *name = NULL, *other;
		json_t *same = json_array(), *best = NULL;
		bool first = true;
		snprintf(field, sizeof field, "manifests[%zu]", i);
		r = same ? name_of(d, json_array_get(list, i), field, &name) : image_oom(l->err);
		for (size_t k = 0; r == 0 && k < n; k++) {
			r = name_of(d, json_array_get(list, k), field, &other);
			if (r < 0 || (name ? !other || strcmp(name, other) : other != NULL))
				continue;
			first = first && k >= i;
			if (json_array_append(same, json_array_get(list, k)) < 0)
				r = image_oom(l->err);
		}
		if (r == 0 && first && image_loading_wants(l, name)) {
			r = choose(l, d, same, &best);
			if (r == 0)
				r = read_entry(l, d, best, field, name, 0);
		}
		json_decref(same);
	}
	return r;
}

int image_load_oci(struct image_loading *l)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	struct image_doc d = image_loading_doc(l, "index.json");
	DAVIT_AUTO_FREE char *file = strdup(l->file);
	json_t *o = NULL, *list = NULL;
	int r = file ? image_bundle_read(l->bundle, "index.json", &text, l->err) : image_oom(l->err);

	d.file = file; /* l->file changes */
	if (r == 0)
		r = image_doc_parse(&d, text.data, text.len, &o);
	if (r == 0)
		r = image_doc_array(&d, o, "", "manifests", &list);
	if (r == 0 && json_array_size(list) > IMAGE_IMAGES_MAX)
		r = image_doc_fail(&d, "manifests", "are more than 1000");
	if (r == 0)
		r = read_index(l, &d, list);
	json_decref(o);
	return r;
}
