/* SPDX-License-Identifier: MIT
 *
 * The three forms in which images come: an OCI layout (index.json), what docker
 * save writes (manifest.json, a list), and skopeo's directory (manifest.json, a
 * manifest).
 */
#include "image/load.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

struct image_doc image_loading_doc(struct image_loading *l, const char *file)
{
	snprintf(l->file, sizeof l->file, "%.128s: %.160s", l->path, file);
	return (struct image_doc){.file = l->file, .code = DAVIT_ESOURCE, .err = l->err};
}

int image_loading_add(struct image_loading *l, const char *name, struct image_new **ret)
{
	struct image_new *grown, n = {0};

	if (l->n >= IMAGE_IMAGES_MAX)
		return davit_error_set(l->err, DAVIT_ESOURCE, "archive", "'%.128s' has more than %d images",
				       l->path, IMAGE_IMAGES_MAX);
	if (name && !(n.name = strdup(name)))
		return image_oom(l->err);
	grown = realloc(l->images, (l->n + 1) * sizeof *grown);
	if (!grown) {
		free(n.name);
		return image_oom(l->err);
	}
	l->images = grown;
	*ret = &grown[l->n++];
	**ret = n;
	return 0;
}

bool image_loading_wants(const struct image_loading *l, const char *name)
{
	return !l->asked->select || (name && !strcmp(name, l->asked->select));
}

int image_loading_config(struct image_loading *l, struct image_new *n, const char *file)
{
	struct davit_image *i = calloc(1, sizeof *i);
	struct image_doc d = image_loading_doc(l, file);
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

static int load_by_manifest(struct image_loading *l)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	struct image_doc d = image_loading_doc(l, "manifest.json");
	DAVIT_AUTO_FREE char *file = strdup(l->file);
	struct image_new *n;
	json_t *o = NULL;
	int r = file ? image_bundle_read(l->bundle, "manifest.json", &text, l->err) : image_oom(l->err);

	d.file = file;
	if (r == 0)
		r = image_doc_parse(&d, text.data, text.len, &o);
	if (r == 0 && json_is_array(o)) {
		r = image_load_docker(l, &d, o);
	} else if (r == 0) {
		r = image_loading_add(l, NULL, &n);
		if (r == 0) {
			n->manifest_text = text;
			text = (struct davit_buf)DAVIT_BUF_INIT;
			r = image_load_manifest(l, n, "manifest.json");
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

static int name_images(struct image_loading *l)
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
static int keep(struct image_loading *l)
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

static int check_digest(struct image_loading *l, const struct image_new *n)
{
	const char *at = strstr(n->reference, "@sha256:");

	if (!at || !strcmp(at + strlen("@sha256:"), n->manifest))
		return 0;
	return davit_error_set(l->err, DAVIT_ESOURCE, "digest",
			       "'%.128s' has the digest sha256:%s, not that of '%.200s'", l->path,
			       n->manifest, n->reference);
}

static int read_all(struct image_loading *l)
{
	int r;

	if (image_bundle_has(l->bundle, "index.json"))
		r = image_load_oci(l);
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
	struct image_loading l = {.asked = asked, .path = path, .job = j, .err = err};
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
