/* SPDX-License-Identifier: MIT
 *
 * Manifests and descriptors, checked field by field.
 */
#include "image/image_impl.h"

#include <stdio.h>
#include <string.h>

int image_doc_fail(const struct image_doc *d, const char *field, const char *why)
{
	return davit_error_set(d->err, d->code, *field ? field : NULL, "%.160s: %s%.100s%s%s", d->file,
			       *field ? "'" : "", field, *field ? "' " : "", why);
}

int image_doc_parse(const struct image_doc *d, const void *data, size_t n, json_t **ret)
{
	json_error_t e;
	json_t *o = json_loadb(data ? data : "", n, JSON_REJECT_DUPLICATES, &e);

	if (!o) {
		int r = davit_error_set(d->err, d->code, NULL, "%.160s: line %d: %s", d->file, e.line,
					e.text);
		if (d->err) {
			d->err->line = e.line > 0 ? (unsigned)e.line : 0;
			d->err->column = e.column > 0 ? (unsigned)e.column : 0;
		}
		return r;
	}
	*ret = o;
	return 0;
}

static char *join(const char *path, const char *key, char out[128])
{
	snprintf(out, 128, "%s%s%s", path, *path ? "." : "", key);
	return out;
}

int image_doc_string(const struct image_doc *d, json_t *o, const char *path, const char *key,
		     const char **ret)
{
	json_t *v = json_object_get(o, key);
	char field[128];

	if (v && !json_is_null(v) && !json_is_string(v))
		return image_doc_fail(d, join(path, key, field), "must be a string");
	if (json_is_string(v) && strlen(json_string_value(v)) != json_string_length(v))
		return image_doc_fail(d, join(path, key, field), "has a NUL in it");
	*ret = json_is_string(v) ? json_string_value(v) : NULL;
	return 0;
}

int image_doc_array(const struct image_doc *d, json_t *o, const char *path, const char *key, json_t **ret)
{
	json_t *v = json_object_get(o, key);
	char field[128];

	if (!json_is_array(v))
		return image_doc_fail(d, join(path, key, field), v ? "must be a list" : "is missing");
	*ret = v;
	return 0;
}

int image_doc_descriptor(const struct image_doc *d, json_t *o, const char *path, struct image_descriptor *ret)
{
	struct image_descriptor x = {0};
	const char *digest, *media;
	json_t *size = json_object_get(o, "size");
	char field[128];
	int r;

	if (!json_is_object(o))
		return image_doc_fail(d, path, o ? "must be an object" : "is missing");
	r = image_doc_string(d, o, path, "digest", &digest);
	if (r == 0)
		r = image_doc_string(d, o, path, "mediaType", &media);
	if (r < 0)
		return r;
	if (!digest)
		return image_doc_fail(d, join(path, "digest", field), "is missing");
	if (!image_digest_parse(digest, x.hex))
		return image_doc_fail(d, join(path, "digest", field),
				      "must be sha256: and 64 lower case hexadecimal digits");
	if (!json_is_integer(size) || json_integer_value(size) < 0)
		return image_doc_fail(d, join(path, "size", field), "must be a number of bytes");
	if (media && strlen(media) >= sizeof x.media)
		return image_doc_fail(d, join(path, "mediaType", field), "is too long");
	x.size = (uint64_t)json_integer_value(size);
	strcpy(x.media, media ? media : "");
	*ret = x;
	return 0;
}

bool image_media_is_index(const char *media)
{
	return !strcmp(media, "application/vnd.oci.image.index.v1+json") ||
	       !strcmp(media, "application/vnd.docker.distribution.manifest.list.v2+json");
}

static bool is_layer(const char *media)
{
	static const char *const known[] = {
		"application/vnd.oci.image.layer.v1.tar",
		"application/vnd.oci.image.layer.v1.tar+gzip",
		"application/vnd.oci.image.layer.v1.tar+zstd",
		"application/vnd.oci.image.layer.nondistributable.v1.tar",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
		"application/vnd.docker.image.rootfs.diff.tar",
		"application/vnd.docker.image.rootfs.diff.tar.gzip",
		"application/vnd.docker.image.rootfs.diff.tar.zstd",
		"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
	};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(known); i++)
		if (!strcmp(media, known[i]))
			return true;
	return false;
}

static int read_layers(const struct image_doc *d, json_t *list, struct image_manifest *m)
{
	char field[64];

	if (json_array_size(list) > IMAGE_LAYERS_MAX)
		return image_doc_fail(d, "layers", "are more than 500");
	m->layers = calloc(json_array_size(list) + 1, sizeof *m->layers);
	if (!m->layers)
		return image_oom(d->err);
	for (size_t i = 0; i < json_array_size(list); i++) {
		int r;
		snprintf(field, sizeof field, "layers[%zu]", i);
		r = image_doc_descriptor(d, json_array_get(list, i), field, &m->layers[i]);
		if (r < 0)
			return r;
		m->n_layers++;
		strcat(field, ".mediaType");
		if (!is_layer(m->layers[i].media))
			return image_doc_fail(d, field, "is no layer of an image");
	}
	return 0;
}

int image_doc_manifest(const struct image_doc *d, json_t *o, struct image_manifest *ret)
{
	struct image_manifest m = {0};
	const char *media = NULL;
	json_t *list = NULL;
	int r;

	if (!json_is_object(o))
		return image_doc_fail(d, "", "is not a manifest: not a JSON object");
	if (json_integer_value(json_object_get(o, "schemaVersion")) != 2)
		return image_doc_fail(d, "schemaVersion", "must be 2");
	r = image_doc_string(d, o, "", "mediaType", &media);
	if (r == 0 && media && strlen(media) >= sizeof m.media)
		r = image_doc_fail(d, "mediaType", "is too long");
	if (r == 0)
		r = image_doc_descriptor(d, json_object_get(o, "config"), "config", &m.config);
	if (r == 0)
		r = image_doc_array(d, o, "", "layers", &list);
	if (r == 0)
		r = read_layers(d, list, &m);
	if (r < 0) {
		image_manifest_fini(&m);
		return r;
	}
	strcpy(m.media, media ? media : "application/vnd.oci.image.manifest.v1+json");
	*ret = m;
	return 0;
}

void image_manifest_fini(struct image_manifest *m)
{
	free(m->layers);
	m->layers = NULL;
}
