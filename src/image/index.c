/* SPDX-License-Identifier: MIT
 *
 * index.json: an OCI index whose manifests are named by the annotation that
 * other tools use too, so that they can read the store.
 */
#include "image/image_impl.h"

#include "base/file.h"
#include "base/json.h"

#include <stdio.h>
#include <string.h>

#define REF_NAME "org.opencontainers.image.ref.name"

void image_index_fini(struct image_index *x)
{
	for (size_t i = 0; i < x->n; i++)
		free(x->entries[i].reference);
	free(x->entries);
	*x = (struct image_index){0};
}

/* Where a reference is, or would be. */
static size_t place(const struct image_index *x, const char *reference)
{
	size_t a = 0, b = x->n;

	while (a < b) {
		size_t m = (a + b) / 2;
		if (strcmp(x->entries[m].reference, reference) < 0)
			a = m + 1;
		else
			b = m;
	}
	return a;
}

int image_index_set(struct image_index *x, const char *reference, const struct image_entry *e,
		    struct davit_error *err)
{
	size_t at = place(x, reference);
	struct image_entry *grown;
	char *name;

	if (at < x->n && !strcmp(x->entries[at].reference, reference)) {
		name = x->entries[at].reference;
	} else {
		name = strdup(reference);
		grown = name ? realloc(x->entries, (x->n + 1) * sizeof *grown) : NULL;
		if (!grown) {
			free(name);
			return image_oom(err);
		}
		x->entries = grown;
		memmove(grown + at + 1, grown + at, (x->n - at) * sizeof *grown);
		x->n++;
	}
	x->entries[at] = *e;
	x->entries[at].reference = name;
	return 0;
}

void image_index_drop(struct image_index *x, size_t at)
{
	free(x->entries[at].reference);
	memmove(x->entries + at, x->entries + at + 1, (x->n - at - 1) * sizeof *x->entries);
	x->n--;
}

static int read_entry(const struct image_doc *d, json_t *o, const char *path, struct image_index *x)
{
	struct image_descriptor descriptor;
	struct image_entry e = {0};
	const char *name = NULL;
	int r = image_doc_descriptor(d, o, path, &descriptor);

	if (r == 0)
		r = image_doc_string(d, json_object_get(o, "annotations"), path, REF_NAME, &name);
	if (r < 0)
		return r;
	if (!name)
		return image_doc_fail(d, path, "has no " REF_NAME);
	memcpy(e.hex, descriptor.hex, sizeof e.hex);
	memcpy(e.media, descriptor.media, sizeof e.media);
	e.size = descriptor.size;
	return image_index_set(x, name, &e, d->err);
}

int image_index_read(struct davit_image_store *s, struct image_index *ret, struct davit_error *err)
{
	struct image_doc d = {.code = DAVIT_ECORRUPT, .err = err};
	DAVIT_AUTO_FREE char *path = davit_path_join(s->dir, "index.json");
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	struct image_index x = {0};
	json_t *o = NULL, *list = NULL;
	int r;

	if (!path)
		return image_oom(err);
	d.file = path;
	r = davit_read_file(path, 64 << 20, &text, err);
	if (r == 0)
		r = image_doc_parse(&d, davit_buf_str(&text), text.len, &o);
	if (r == 0)
		r = image_doc_array(&d, o, "", "manifests", &list);
	for (size_t i = 0; r == 0 && i < json_array_size(list); i++) {
		char at[48];
		snprintf(at, sizeof at, "manifests[%zu]", i);
		r = read_entry(&d, json_array_get(list, i), at, &x);
	}
	json_decref(o);
	if (r < 0)
		image_index_fini(&x);
	else
		*ret = x;
	return r;
}

int image_index_write(struct davit_image_store *s, const struct image_index *x, struct davit_error *err)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);
	char digest[DAVIT_DIGEST_MAX];

	davit_json_open(&j);
	davit_json_put_int(&j, "schemaVersion", 2);
	davit_json_put_string(&j, "mediaType", "application/vnd.oci.image.index.v1+json");
	davit_json_key(&j, "manifests");
	davit_json_open_array(&j);
	for (size_t i = 0; i < x->n; i++) {
		const struct image_entry *e = &x->entries[i];
		snprintf(digest, sizeof digest, "sha256:%s", e->hex);
		davit_json_open(&j);
		davit_json_put_string(&j, "mediaType", e->media);
		davit_json_put_string(&j, "digest", digest);
		davit_json_put_int(&j, "size", (int64_t)e->size);
		davit_json_key(&j, "annotations");
		davit_json_open(&j);
		davit_json_put_string(&j, REF_NAME, e->reference);
		davit_json_close(&j);
		davit_json_close(&j);
	}
	davit_json_close_array(&j);
	davit_json_close(&j);
	davit_buf_addc(&b, '\n');
	return b.oom ? image_oom(err) : image_store_write(s, "index.json", b.data, b.len, true, err);
}

/* --- finding --- */

static int not_found(const char *reference, struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOENT, NULL, "image '%.256s' not found locally", reference);
}

/* The ID of an image is the digest of its configuration. */
static bool has_id(struct davit_image_store *s, const struct image_entry *e, const char *prefix)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	IMAGE_AUTO_MANIFEST m = {0};
	struct image_doc d = {.file = "manifest", .code = DAVIT_ECORRUPT};
	json_t *o = NULL;
	bool yes;

	if (!strncmp(e->hex, prefix, strlen(prefix)))
		return true;
	yes = image_store_blob(s, e->hex, &text, NULL) == 0 &&
	      image_doc_parse(&d, text.data, text.len, &o) == 0 && image_doc_manifest(&d, o, &m) == 0 &&
	      !strncmp(m.config.hex, prefix, strlen(prefix));
	json_decref(o);
	return yes;
}

static bool is_id(const char *s)
{
	size_t n = strspn(s, "0123456789abcdef");

	return !s[n] && n >= 12 && n <= 64;
}

static int find_id(struct davit_image_store *s, const struct image_index *x, const char *reference,
		   const char *hex, size_t *ret, struct davit_error *err)
{
	size_t found = x->n;

	for (size_t i = 0; i < x->n; i++) {
		if (!has_id(s, &x->entries[i], hex))
			continue;
		if (found < x->n && strcmp(x->entries[found].hex, x->entries[i].hex))
			return davit_error_set(err, DAVIT_EINVAL, "reference",
					       "'%s' begins the IDs of several images", reference);
		if (found == x->n)
			found = i;
	}
	if (found == x->n)
		return not_found(reference, err);
	*ret = found;
	return 0;
}

/* NAME@sha256:HEX, whatever the tag. */
static bool has_digest(const struct image_entry *e, const struct image_reference *wanted)
{
	struct image_reference r;

	return !strcmp(e->hex, wanted->hex) && image_reference_parse(e->reference, &r, NULL) == 0 &&
	       !strcmp(r.name, wanted->name);
}

/* HOST/REST or HOST/library/REST, for REST. */
static bool is_short_for(const char *full, const char *rest)
{
	size_t host = image_reference_host(full);

	if (!host)
		return false;
	full += host;
	return !strcmp(full, rest) || (!strncmp(full, "library/", 8) && !strcmp(full + 8, rest));
}

static int find_short(const struct image_index *x, const char *reference, const char *wanted, size_t *ret,
		      struct davit_error *err)
{
	char local[DAVIT_REFERENCE_MAX + 16];
	size_t found = x->n, at;

	snprintf(local, sizeof local, "localhost/%s", wanted);
	at = place(x, local);
	if (at < x->n && !strcmp(x->entries[at].reference, local)) {
		*ret = at;
		return 0;
	}
	for (size_t i = 0; i < x->n; i++) {
		if (!is_short_for(x->entries[i].reference, wanted))
			continue;
		if (found < x->n)
			return davit_error_set(err, DAVIT_EINVAL, "reference",
					       "'%.128s' is short for '%.128s' and for '%.128s': say which",
					       reference, x->entries[found].reference,
					       x->entries[i].reference);
		found = i;
	}
	if (found == x->n)
		return not_found(reference, err);
	*ret = found;
	return 0;
}

int image_index_find(struct davit_image_store *s, const struct image_index *x, const char *reference,
		     size_t *ret, bool *ret_by_id, struct davit_error *err)
{
	char full[DAVIT_REFERENCE_MAX], hex[IMAGE_HEX];
	struct image_reference r;
	size_t at;
	int code;

	*ret_by_id = image_digest_parse(reference, hex);
	if (*ret_by_id)
		return find_id(s, x, reference, hex, ret, err);
	code = image_reference_parse(reference, &r, err);
	if (code == 0)
		code = davit_reference_normalise(reference, full, err);
	if (code < 0)
		return code;
	at = place(x, full);
	if (at < x->n && !strcmp(x->entries[at].reference, full)) {
		*ret = at;
		return 0;
	}
	for (at = 0; *r.hex && at < x->n; at++) {
		if (has_digest(&x->entries[at], &r)) {
			*ret = at;
			return 0;
		}
	}
	*ret_by_id = is_id(reference) && find_id(s, x, reference, reference, ret, NULL) == 0;
	if (*ret_by_id)
		return 0;
	return image_reference_host(r.name) || *r.hex ? not_found(reference, err)
						      : find_short(x, reference, full, ret, err);
}
