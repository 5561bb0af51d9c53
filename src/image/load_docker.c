/* SPDX-License-Identifier: MIT
 *
 * What docker save writes: manifest.json is a list of images, each with the names
 * of its files.
 */
#include "image/load.h"

#include <stdio.h>
#include <string.h>

static int read_docker_layers(struct image_loading *l, const struct image_doc *d, json_t *o,
			      const char *field, struct image_new *n)
{
	json_t *list = NULL;
	char layer[80];
	int r = image_doc_array(d, o, field, "Layers", &list);

	if (r == 0 && json_array_size(list) > IMAGE_LAYERS_MAX)
		r = image_doc_fail(d, field, "has more than 500 layers");
	if (r < 0)
		return r;
	n->layers = calloc(json_array_size(list) + 1, sizeof *n->layers);
	if (!n->layers)
		return image_oom(l->err);
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *s = json_string_value(json_array_get(list, i));
		snprintf(layer, sizeof layer, "%s.Layers[%zu]", field, i);
		if (!s || !*s)
			return image_doc_fail(d, layer, "must be the name of a file");
		n->layers[i].file = strdup(s);
		if (!n->layers[i].file)
			return image_oom(l->err);
		n->n_layers++;
	}
	return 0;
}

/* The configuration is named by its digest, where anything is. */
static int read_docker_config(struct image_loading *l, const char *file, struct image_new *n)
{
	const char *slash = strrchr(file, '/'), *base = slash ? slash + 1 : file;
	char named[IMAGE_HEX] = "";
	int r = image_bundle_read(l->bundle, file, &n->config_text, l->err);

	if (r < 0)
		return r;
	image_hash_of(davit_buf_str(&n->config_text), n->config_text.len, n->config);
	snprintf(named, sizeof named, "%.64s", base);
	if (image_hex_is(named) && (!base[64] || !strcmp(base + 64, ".json")) && strcmp(named, n->config))
		return davit_error_set(l->err, DAVIT_ESOURCE, "digest",
				       "%.128s: %.128s is damaged: its digest is sha256:%s", l->path, file,
				       n->config);
	return image_loading_config(l, n, file);
}

static int read_docker_image(struct image_loading *l, const struct image_doc *d, json_t *o, const char *field,
			     const char *name)
{
	const char *config = NULL;
	struct image_new *n;
	char at[80];
	int r = image_doc_string(d, o, field, "Config", &config);

	snprintf(at, sizeof at, "%s.Config", field);
	if (r == 0 && !config)
		r = image_doc_fail(d, at, "is missing");
	if (r == 0)
		r = image_loading_add(l, name, &n);
	if (r == 0)
		r = read_docker_layers(l, d, o, field, n);
	return r == 0 ? read_docker_config(l, config, n) : r;
}

/* Each of its tags is an image to the rest of this file: the second costs only a
 * look into the store. */
static int read_docker_tags(struct image_loading *l, const struct image_doc *d, json_t *o, const char *field)
{
	json_t *tags = json_object_get(o, "RepoTags");
	char at[80];
	int r = 0;

	if (!json_array_size(tags))
		return l->asked->select ? 0 : read_docker_image(l, d, o, field, NULL);
	for (size_t i = 0; r == 0 && i < json_array_size(tags); i++) {
		const char *tag = json_string_value(json_array_get(tags, i));
		snprintf(at, sizeof at, "%s.RepoTags[%zu]", field, i);
		if (!tag)
			r = image_doc_fail(d, at, "must be a string");
		else if (image_loading_wants(l, tag) && !(l->asked->reference && !l->asked->select && i > 0))
			r = read_docker_image(l, d, o, field, tag);
	}
	return r;
}

int image_load_docker(struct image_loading *l, const struct image_doc *d, json_t *list)
{
	char field[48];
	int r = 0;

	for (size_t i = 0; r == 0 && i < json_array_size(list); i++) {
		json_t *o = json_array_get(list, i);
		snprintf(field, sizeof field, "[%zu]", i);
		r = json_is_object(o) ? read_docker_tags(l, d, o, field)
				      : image_doc_fail(d, field, "must be an object");
	}
	return r;
}
