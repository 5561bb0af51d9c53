/* SPDX-License-Identifier: MIT
 *
 * From what is loaded to the store: each layer is verified and unpacked in the
 * job's directory; then all of it is made durable at once and moved in.
 */
#include "image/image_impl.h"

#include "base/fault.h"
#include "base/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

void image_new_fini(struct image_new *n)
{
	for (size_t i = 0; i < n->n_layers; i++)
		free(n->layers[i].file);
	free(n->layers);
	free(n->name);
	free(n->reference);
	davit_buf_fini(&n->config_text);
	davit_buf_fini(&n->manifest_text);
}

/* --- one layer --- */

struct fetch {
	struct image_job *job;
	struct image_bundle *bundle;
	struct image_budget *budget;
	struct davit_error *err;
	char what[64]; /* "layer 2 of 3" */
};

static int make_tree(struct fetch *f, struct image_source_layer *l, int *ret_fd)
{
	char path[32];

	image_job_name(f->job, l->tmp_tree);
	snprintf(path, sizeof path, "%s/fs", l->tmp_tree);
	if (mkdirat(f->job->fd, l->tmp_tree, 0700) < 0 || mkdirat(f->job->fd, path, 0755) < 0)
		return davit_error_errno(f->err, errno, NULL, "cannot make a directory for %s", f->what);
	*ret_fd = openat(f->job->fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *ret_fd < 0 ? davit_error_errno(f->err, errno, NULL, "cannot open a directory for %s", f->what)
			   : 0;
}

/* How large the tree is, beside it, so that nobody has to walk it. */
static int note_size(struct fetch *f, const struct image_source_layer *l, uint64_t bytes)
{
	char path[32], text[32];
	int n = snprintf(text, sizeof text, "%llu\n", (unsigned long long)bytes);
	DAVIT_AUTO_CLOSE int fd = -1;

	snprintf(path, sizeof path, "%s/size", l->tmp_tree);
	fd = openat(f->job->fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return fd < 0 || davit_write_full(fd, text, (size_t)n) < 0
		       ? davit_error_errno(f->err, errno, NULL, "cannot write beside %s", f->what)
		       : 0;
}

static int drain(struct image_stream *in, struct davit_error *err)
{
	const void *data;
	ssize_t n;

	while ((n = image_stream_read(in, &data, err)) > 0)
		;
	return (int)n;
}

static int unpack_tree(struct fetch *f, struct image_source_layer *l, struct image_stream *in)
{
	struct image_layer layer = {.what = f->what, .root = f->job->store->root, .budget = f->budget};
	uint64_t before = f->budget->bytes;
	DAVIT_AUTO_CLOSE int root = -1;
	int r = make_tree(f, l, &root);

	if (r == 0)
		r = image_unpack(&layer, in, root, f->err);
	return r == 0 ? note_size(f, l, f->budget->bytes - before) : r;
}

static int compare(struct fetch *f, const char *what, const char *is, char expected[IMAGE_HEX])
{
	if (*expected && strcmp(is, expected))
		return davit_error_set(f->err, DAVIT_ESOURCE, "digest",
				       "%s is damaged: its digest %s is sha256:%s, but should be sha256:%s",
				       f->what, what, is, expected);
	memcpy(expected, is, IMAGE_HEX);
	return 0;
}

/* What registries know no name for is stored plain. */
static int repack(struct fetch *f, struct image_source_layer *l, int *fd, struct image_stream **in)
{
	DAVIT_AUTO_CLOSE int plain = -1;
	int r;

	if (*l->blob)
		return davit_error_set(f->err, DAVIT_ESOURCE, "archive",
				       "%s is packed neither by gzip nor zstd", f->what);
	plain = image_job_file(f->job, l->tmp_blob, f->err);
	if (plain < 0)
		return DAVIT_EIO;
	r = image_copy_stream(*in, plain, f->budget, f->what, f->err);
	image_stream_close(*in);
	*in = NULL;
	if (r < 0)
		return r;
	lseek(plain, 0, SEEK_SET);
	close(*fd);
	*fd = DAVIT_TAKE_FD(plain);
	return image_stream_open(*fd, in, f->err);
}

static int verify(struct fetch *f, struct image_source_layer *l, bool unpack)
{
	char packed[IMAGE_HEX], plain[IMAGE_HEX];
	DAVIT_AUTO_CLOSE int fd = openat(f->job->fd, l->tmp_blob, O_RDONLY | O_CLOEXEC);
	struct image_stream *in = NULL;
	struct stat st;
	int r = fd < 0 ? davit_error_errno(f->err, errno, NULL, "cannot open %s", f->what)
		       : image_stream_open(fd, &in, f->err);

	if (r == 0 && image_stream_packing(in) > IMAGE_ZSTD)
		r = repack(f, l, &fd, &in);
	if (r == 0)
		r = unpack ? unpack_tree(f, l, in) : drain(in, f->err);
	if (r == 0) {
		image_stream_digests(in, packed, plain);
		l->packing = image_stream_packing(in);
		r = compare(f, "as packed", packed, l->blob);
	}
	if (r == 0)
		r = compare(f, "unpacked (its diff id)", plain, l->diff);
	if (r == 0 && fstat(fd, &st) == 0)
		l->size = (uint64_t)st.st_size;
	image_stream_close(in);
	return r;
}

static int fetch_layer(struct fetch *f, struct image_source_layer *l)
{
	char layer[96], blob[96];
	bool has_tree = *l->diff && image_store_has(f->job->store, image_layer_path(l->diff, layer));
	int r;

	if (has_tree && *l->blob && image_store_has(f->job->store, image_blob_path(l->blob, blob)))
		return 0;
	r = image_bundle_take(f->bundle, l->file, l->tmp_blob, f->err);
	return r == 0 ? verify(f, l, !has_tree) : r;
}

/* --- one image --- */

/* For what came without a manifest of the kind that is stored. */
static int make_manifest(struct image_new *n, struct davit_error *err)
{
	static const char *const media[] = {
		[IMAGE_PLAIN] = "application/vnd.oci.image.layer.v1.tar",
		[IMAGE_GZIP] = "application/vnd.oci.image.layer.v1.tar+gzip",
		[IMAGE_ZSTD] = "application/vnd.oci.image.layer.v1.tar+zstd",
	};
	struct davit_json j = DAVIT_JSON_INIT(&n->manifest_text);
	char digest[DAVIT_DIGEST_MAX];

	strcpy(n->media, "application/vnd.oci.image.manifest.v1+json");
	davit_json_open(&j);
	davit_json_put_int(&j, "schemaVersion", 2);
	davit_json_put_string(&j, "mediaType", n->media);
	davit_json_key(&j, "config");
	davit_json_open(&j);
	davit_json_put_string(&j, "mediaType", "application/vnd.oci.image.config.v1+json");
	snprintf(digest, sizeof digest, "sha256:%s", n->config);
	davit_json_put_string(&j, "digest", digest);
	davit_json_put_int(&j, "size", (int64_t)n->config_text.len);
	davit_json_close(&j);
	davit_json_key(&j, "layers");
	davit_json_open_array(&j);
	for (size_t i = 0; i < n->n_layers; i++) {
		snprintf(digest, sizeof digest, "sha256:%s", n->layers[i].blob);
		davit_json_open(&j);
		davit_json_put_string(&j, "mediaType", media[n->layers[i].packing]);
		davit_json_put_string(&j, "digest", digest);
		davit_json_put_int(&j, "size", (int64_t)n->layers[i].size);
		davit_json_close(&j);
	}
	davit_json_close_array(&j);
	davit_json_close(&j);
	if (n->manifest_text.oom)
		return image_oom(err);
	image_hash_of(n->manifest_text.data, n->manifest_text.len, n->manifest);
	return 0;
}

int image_new_layer(struct image_job *j, const char *file, struct image_new *n, struct image_budget *budget,
		    struct davit_error *err)
{
	struct fetch f = {.job = j, .budget = budget, .err = err, .what = "the root file system"};

	strcpy(n->layers[0].tmp_blob, file);
	return verify(&f, &n->layers[0], true);
}

int image_new_fetch(struct image_job *j, struct image_bundle *b, struct image_new *n,
		    struct image_budget *budget, struct davit_error *err)
{
	struct fetch f = {.job = j, .bundle = b, .budget = budget, .err = err};
	int r = 0;

	for (size_t i = 0; r == 0 && b && i < n->n_layers; i++) {
		snprintf(f.what, sizeof f.what, "layer %zu of %zu", i + 1, n->n_layers);
		r = fetch_layer(&f, &n->layers[i]);
	}
	return r == 0 && !n->manifest_text.len ? make_manifest(n, err) : r;
}

/* --- moving in --- */

/* Several images may bring the same thing, and another process may have. */
static int move_in(struct image_job *j, const char *from, const char *to, struct davit_error *err)
{
	if (!*from || image_store_has(j->store, to))
		return 0;
	return renameat(j->fd, from, j->store->fd, to) < 0
		       ? davit_error_errno(err, errno, NULL, "cannot make %s/%s", j->store->dir, to)
		       : 0;
}

static int move_layers(struct image_job *j, const struct image_new *n, struct davit_error *err)
{
	char path[96];
	int r = 0;

	for (size_t i = 0; r == 0 && i < n->n_layers; i++) {
		const struct image_source_layer *l = &n->layers[i];
		r = move_in(j, l->tmp_tree, image_layer_path(l->diff, path), err);
		if (r == 0)
			r = move_in(j, l->tmp_blob, image_blob_path(l->blob, path), err);
	}
	return r;
}

struct texts {
	char config[16], manifest[16]; /* names in the job */
};

static int write_texts(struct image_job *j, const struct image_new *n, struct texts *t,
		       struct davit_error *err)
{
	int r = image_job_write(j, n->config_text.data, n->config_text.len, t->config, err);

	return r == 0 ? image_job_write(j, n->manifest_text.data, n->manifest_text.len, t->manifest, err) : r;
}

static int sync_directories(struct davit_image_store *s, struct davit_error *err)
{
	static const char *const names[] = {"layers", "blobs/sha256"};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(names); i++) {
		DAVIT_AUTO_CLOSE int fd = openat(s->fd, names[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0 || fsync(fd) < 0)
			return davit_error_errno(err, errno, NULL, "cannot write %s/%s", s->dir, names[i]);
	}
	return 0;
}

static int publish_locked(struct image_job *j, struct image_new *images, const struct texts *texts, size_t n,
			  struct davit_error *err)
{
	IMAGE_AUTO_INDEX x = {0};
	char path[96];
	int r = image_index_read(j->store, &x, err);

	for (size_t i = 0; r == 0 && i < n; i++) {
		struct image_entry e = {.size = images[i].manifest_text.len};
		memcpy(e.hex, images[i].manifest, sizeof e.hex);
		memcpy(e.media, images[i].media, sizeof e.media);
		r = move_layers(j, &images[i], err);
		DAVIT_FAULT("image-publish");
		if (r == 0)
			r = move_in(j, texts[i].config, image_blob_path(images[i].config, path), err);
		if (r == 0)
			r = move_in(j, texts[i].manifest, image_blob_path(images[i].manifest, path), err);
		if (r == 0)
			r = image_index_set(&x, images[i].reference, &e, err);
	}
	if (r == 0)
		r = sync_directories(j->store, err);
	DAVIT_FAULT("image-index");
	return r == 0 ? image_index_write(j->store, &x, err) : r;
}

/* One syncfs for all that was written, before anybody can see it. */
int image_publish(struct image_job *j, struct image_new *images, size_t n, struct davit_error *err)
{
	struct texts *texts = calloc(n + 1, sizeof *texts);
	int r = texts ? 0 : image_oom(err);

	for (size_t i = 0; r == 0 && i < n; i++)
		r = write_texts(j, &images[i], &texts[i], err);
	DAVIT_FAULT("image-sync");
	if (r == 0 && syncfs(j->store->fd) < 0)
		r = davit_error_errno(err, errno, NULL, "cannot write %s", j->store->dir);
	if (r == 0)
		r = image_store_lock(j->store, err);
	if (r == 0) {
		r = publish_locked(j, images, texts, n, err);
		image_store_unlock(j->store);
	}
	free(texts);
	return r;
}
