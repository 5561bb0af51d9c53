/* SPDX-License-Identifier: MIT
 *
 * The three forms in which images come: an OCI layout (index.json), what docker
 * save writes (manifest.json, a list), and skopeo's directory (manifest.json, a
 * manifest).
 */
#include "image/image_impl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

#define IMAGES_MAX 1000

struct load {
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

static struct image_doc doc(struct load *l, const char *file)
{
	snprintf(l->file, sizeof l->file, "%.128s: %.160s", l->path, file);
	return (struct image_doc){.file = l->file, .code = DAVIT_ESOURCE, .err = l->err};
}

/* Room for one image more; what *ret points to is borrowed until the next call. */
static int add(struct load *l, struct image_new **ret)
{
	struct image_new *grown;

	if (l->n >= IMAGES_MAX)
		return davit_error_set(l->err, DAVIT_ESOURCE, "archive", "'%.128s' has more than %d images",
				       l->path, IMAGES_MAX);
	grown = realloc(l->images, (l->n + 1) * sizeof *grown);
	if (!grown)
		return image_oom(l->err);
	l->images = grown;
	*ret = &grown[l->n++];
	memset(*ret, 0, sizeof **ret);
	return 0;
}

static int set_name(struct load *l, struct image_new *n, const char *name)
{
	if (name) {
		n->name = strdup(name);
		if (!n->name)
			return image_oom(l->err);
	}
	return 0;
}

/* The configuration's text is there: its diff ids are the layers'. */
static int read_config(struct load *l, struct image_new *n, const char *file)
{
	struct davit_image *i = calloc(1, sizeof *i);
	struct image_doc d = doc(l, file);
	char(*diff)[IMAGE_HEX] = NULL;
	json_t *o = NULL;
	size_t count = 0;
	int r = i ? image_doc_parse(&d, n->config_text.data, n->config_text.len, &o) : image_oom(l->err);

	if (r == 0)
		r = image_doc_config(&d, o, i, &diff, &count);
	if (r == 0 && count != n->n_layers)
		r = image_doc_fail(&d, "rootfs.diff_ids", "are not as many as the manifest has layers");
	for (size_t k = 0; r == 0 && k < count; k++)
		memcpy(n->layers[k].diff, diff[k], IMAGE_HEX);
	free(diff);
	json_decref(o);
	davit_image_free(i);
	return r;
}

/* --- manifests: OCI layouts and directories --- */

/* The file of a blob: an OCI layout's, or that of skopeo's dir:. */
static const char *blob_name(struct load *l, const char *hex, char name[96])
{
	image_blob_path(hex, name);
	if (!image_bundle_has(l->bundle, name) && image_bundle_has(l->bundle, hex))
		snprintf(name, 96, "%s", hex);
	return name;
}

static int read_blob(struct load *l, const struct image_descriptor *b, struct davit_buf *out)
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

static int add_layers(struct load *l, struct image_new *n, const struct image_manifest *m)
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
static int read_manifest(struct load *l, struct image_new *n, const char *file)
{
	struct image_doc d = doc(l, file);
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
	return r == 0 ? read_config(l, n, m.config.hex) : r;
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
static int choose(struct load *l, const struct image_doc *d, json_t *list, json_t **ret)
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
static int read_entry(struct load *l, const struct image_doc *from, json_t *e, const char *field,
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
		r = add(l, &n);
		if (r == 0)
			r = set_name(l, n, name);
		if (r == 0) {
			n->manifest_text = text;
			text = (struct davit_buf)DAVIT_BUF_INIT;
			r = read_manifest(l, n, descriptor.hex);
		}
		return r;
	}
	d = doc(l, descriptor.hex);
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

static bool is_wanted(const struct load *l, const char *name)
{
	return !l->asked->select || (name && !strcmp(name, l->asked->select));
}

/* Entries of one name are one image for several machines. */
static int read_index(struct load *l, const struct image_doc *d, json_t *list)
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
		if (r == 0 && first && is_wanted(l, name)) {
			r = choose(l, d, same, &best);
			if (r == 0)
				r = read_entry(l, d, best, field, name, 0);
		}
		json_decref(same);
	}
	return r;
}

static int load_oci(struct load *l)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	struct image_doc d = doc(l, "index.json");
	DAVIT_AUTO_FREE char *file = strdup(l->file);
	json_t *o = NULL, *list = NULL;
	int r = file ? image_bundle_read(l->bundle, "index.json", &text, l->err) : image_oom(l->err);

	d.file = file; /* l->file changes */
	if (r == 0)
		r = image_doc_parse(&d, text.data, text.len, &o);
	if (r == 0)
		r = image_doc_array(&d, o, "", "manifests", &list);
	if (r == 0 && json_array_size(list) > IMAGES_MAX)
		r = image_doc_fail(&d, "manifests", "are more than 1000");
	if (r == 0)
		r = read_index(l, &d, list);
	json_decref(o);
	return r;
}

/* --- docker save --- */

static int read_docker_layers(struct load *l, const struct image_doc *d, json_t *o, const char *field,
			      struct image_new *n)
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
static int read_docker_config(struct load *l, const char *file, struct image_new *n)
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
	return read_config(l, n, file);
}

static int read_docker_image(struct load *l, const struct image_doc *d, json_t *o, const char *field,
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
		r = add(l, &n);
	if (r == 0)
		r = set_name(l, n, name);
	if (r == 0)
		r = read_docker_layers(l, d, o, field, n);
	return r == 0 ? read_docker_config(l, config, n) : r;
}

/* Each of its tags is an image to the rest of this file: the second costs only a
 * look into the store. */
static int read_docker_tags(struct load *l, const struct image_doc *d, json_t *o, const char *field)
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
		else if (is_wanted(l, tag) && !(l->asked->reference && !l->asked->select && i > 0))
			r = read_docker_image(l, d, o, field, tag);
	}
	return r;
}

static int load_docker(struct load *l, const struct image_doc *d, json_t *list)
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

static int load_by_manifest(struct load *l)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	struct image_doc d = doc(l, "manifest.json");
	DAVIT_AUTO_FREE char *file = strdup(l->file);
	struct image_new *n;
	json_t *o = NULL;
	int r = file ? image_bundle_read(l->bundle, "manifest.json", &text, l->err) : image_oom(l->err);

	d.file = file;
	if (r == 0)
		r = image_doc_parse(&d, text.data, text.len, &o);
	if (r == 0 && json_is_array(o)) {
		r = load_docker(l, &d, o);
	} else if (r == 0) {
		r = add(l, &n);
		if (r == 0) {
			n->manifest_text = text;
			text = (struct davit_buf)DAVIT_BUF_INIT;
			r = read_manifest(l, n, "manifest.json");
		}
	}
	json_decref(o);
	return r;
}

/* --- all of them --- */

/* A name without host, path or tag is the tag of an OCI layout, not an image's. */
static bool says_enough(const char *name)
{
	return name && (strchr(name, '/') || strchr(name, ':') || strchr(name, '@'));
}

static int name_images(struct load *l)
{
	char full[DAVIT_REFERENCE_MAX];

	if (!l->n)
		return davit_error_set(l->err, l->asked->select ? DAVIT_ENOENT : DAVIT_ESOURCE, "archive",
				       l->asked->select ? "'%.128s' has no image called '%.200s'"
							: "'%.128s' has no image in it%s",
				       l->path, l->asked->select ? l->asked->select : "");
	if (l->asked->reference && l->n > 1)
		return davit_error_set(
			l->err, DAVIT_EINVAL, "reference",
			"'%.128s' has %zu images, the first two are '%.100s' and '%.100s': say which by "
			"--select",
			l->path, l->n, l->images[0].name ? l->images[0].name : "(no name)",
			l->images[1].name ? l->images[1].name : "(no name)");
	for (size_t i = 0; i < l->n; i++) {
		struct image_new *n = &l->images[i];
		const char *name = l->asked->reference ? l->asked->reference : n->name;
		int r;
		if (!l->asked->reference && !says_enough(name))
			return davit_error_set(
				l->err, DAVIT_EINVAL, "reference",
				"'%.128s' has an image that is called '%.100s' only: name it by "
				"--reference NAME",
				l->path, name ? name : "");
		r = davit_reference_normalise(name, full, l->err);
		if (r < 0)
			return r;
		n->reference = strdup(full);
		if (!n->reference)
			return image_oom(l->err);
	}
	return 0;
}

/* What the store has of it already stays until we are done. */
static int keep(struct load *l)
{
	DAVIT_AUTO_BUF lines = DAVIT_BUF_INIT;

	for (size_t i = 0; i < l->n; i++) {
		for (size_t k = 0; k < l->images[i].n_layers; k++) {
			const struct image_source_layer *layer = &l->images[i].layers[k];
			davit_buf_addf(&lines, "layers/%s\n", layer->diff);
			if (*layer->blob)
				davit_buf_addf(&lines, "blobs/sha256/%s\n", layer->blob);
		}
	}
	return image_job_keep(l->job, &lines, l->err);
}

static int check_digest(struct load *l, const struct image_new *n)
{
	const char *at = strstr(n->reference, "@sha256:");

	if (!at || !strcmp(at + strlen("@sha256:"), n->manifest))
		return 0;
	return davit_error_set(l->err, DAVIT_ESOURCE, "digest",
			       "'%.128s' has the digest sha256:%s, not that of '%.200s'", l->path,
			       n->manifest, n->reference);
}

static int read_all(struct load *l)
{
	int r;

	if (image_bundle_has(l->bundle, "index.json"))
		r = load_oci(l);
	else if (image_bundle_has(l->bundle, "manifest.json"))
		r = load_by_manifest(l);
	else
		r = davit_error_set(
			l->err, DAVIT_ESOURCE, "archive",
			"'%.128s' is no image: it has neither index.json nor manifest.json (a root file "
			"system is for import)",
			l->path);
	if (r == 0)
		r = name_images(l);
	if (r == 0)
		r = keep(l);
	for (size_t i = 0; r == 0 && i < l->n; i++) {
		r = image_new_fetch(l->job, l->bundle, &l->images[i], &l->budget, l->err);
		if (r == 0)
			r = check_digest(l, &l->images[i]);
		else
			davit_error_prefix(l->err, "%.128s", l->images[i].reference);
	}
	return r == 0 ? image_publish(l->job, l->images, l->n, l->err) : r;
}

/* Leaves the rest of the system something of the disk. */
#define RESERVE (UINT64_C(32) << 20)

int image_budget_init(struct davit_image_store *s, const struct davit_image_limits *limits,
		      struct image_budget *ret, struct davit_error *err)
{
	struct statvfs st;
	uint64_t free;

	if (fstatvfs(s->fd, &st) < 0)
		return davit_error_errno(err, errno, NULL, "cannot look at the disk of %s", s->dir);
	free = (uint64_t)st.f_bavail * st.f_frsize;
	*ret = (struct image_budget){.limits = *limits, .room = free > RESERVE ? free - RESERVE : 0};
	return 0;
}

int image_tell_stored(struct davit_image_store *s, const struct davit_image_load *l, const char *reference,
		      struct davit_error *err)
{
	struct davit_image *i = NULL;
	int r;

	if (!l->stored)
		return 0;
	r = davit_image_resolve(s, reference, &i, err);
	if (r == 0)
		l->stored(l->user, i);
	davit_image_free(i);
	return r;
}

int image_load_from(struct image_job *j, const struct davit_image_load *asked, const char *path, bool own,
		    struct davit_error *err)
{
	struct load l = {.asked = asked, .path = path, .job = j, .err = err};
	int r = image_budget_init(j->store, &asked->limits, &l.budget, err);

	if (r == 0)
		r = image_bundle_open(j, path, own, &l.budget, &l.bundle, err);
	if (r == 0)
		r = read_all(&l);
	for (size_t i = 0; r == 0 && i < l.n; i++)
		r = image_tell_stored(j->store, asked, l.images[i].reference, err);
	for (size_t i = 0; i < l.n; i++)
		image_new_fini(&l.images[i]);
	free(l.images);
	image_bundle_close(l.bundle);
	return r;
}

int davit_image_load(struct davit_image_store *s, const struct davit_image_load *l, struct davit_error *err)
{
	IMAGE_AUTO_JOB j = IMAGE_JOB_NONE;
	int r = image_job_begin(s, &j, err);

	return r == 0 ? image_load_from(&j, l, l->path, false, err) : r;
}
