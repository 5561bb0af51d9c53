/* SPDX-License-Identifier: MIT
 *
 * Archives that other engines load. The blobs are the ones that came, so that an
 * image saved and loaded elsewhere has the same digests.
 */
#include "image/image_impl.h"

#include "base/json.h"
#include "base/strv.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct save {
	struct image_job *job;
	const struct davit_image *image;
	struct image_manifest manifest;
	struct davit_buf manifest_text;
	struct archive *a;
	struct davit_error *err;
};

static int failed(struct save *s)
{
	const char *why = archive_error_string(s->a);

	return davit_error_set(s->err, DAVIT_EIO, NULL, "cannot write the archive: %.200s",
			       why ? why : "no reason known");
}

static int put_header(struct save *s, const char *name, uint64_t size)
{
	struct archive_entry *e = archive_entry_new();
	int r = e ? 0 : image_oom(s->err);

	if (r == 0) {
		archive_entry_set_pathname(e, name);
		archive_entry_set_filetype(e, AE_IFREG);
		archive_entry_set_perm(e, 0644);
		archive_entry_set_size(e, (la_int64_t)size);
		archive_entry_set_mtime(e, 0, 0);
		if (archive_write_header(s->a, e) != ARCHIVE_OK)
			r = failed(s);
	}
	archive_entry_free(e);
	return r;
}

static int put_data(struct save *s, const char *name, const void *data, size_t n)
{
	int r = put_header(s, name, n);

	return r == 0 && archive_write_data(s->a, data, n) != (la_ssize_t)n ? failed(s) : r;
}

static int put_file(struct save *s, const char *name, int fd)
{
	char buf[65536];
	struct stat st;
	ssize_t n;
	int r;

	if (fstat(fd, &st) < 0)
		return davit_error_errno(s->err, errno, NULL, "cannot read '%s'", name);
	r = put_header(s, name, (uint64_t)st.st_size);
	while (r == 0 && (n = DAVIT_EINTR(read(fd, buf, sizeof buf))) > 0)
		if (archive_write_data(s->a, buf, (size_t)n) != n)
			r = failed(s);
	return r == 0 && n < 0 ? davit_error_errno(s->err, errno, NULL, "cannot read '%s'", name) : r;
}

static int open_blob(struct save *s, const char *hex)
{
	char path[96];
	int fd = openat(s->job->store->fd, image_blob_path(hex, path), O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		davit_error_errno(s->err, errno, NULL, "cannot open %s/%s", s->job->store->dir, path);
	return fd;
}

/* --- OCI --- */

static int put_blob(struct save *s, const char *hex)
{
	char path[96];
	DAVIT_AUTO_CLOSE int fd = open_blob(s, hex);

	return fd < 0 ? DAVIT_EIO : put_file(s, image_blob_path(hex, path), fd);
}

static bool seen(const struct save *s, size_t at)
{
	for (size_t i = 0; i < at; i++)
		if (!strcmp(s->manifest.layers[i].hex, s->manifest.layers[at].hex))
			return true;
	return false;
}

static int put_index(struct save *s)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);

	davit_json_open(&j);
	davit_json_put_int(&j, "schemaVersion", 2);
	davit_json_key(&j, "manifests");
	davit_json_open_array(&j);
	davit_json_open(&j);
	davit_json_put_string(&j, "mediaType", s->manifest.media);
	davit_json_put_string(&j, "digest", s->image->digest);
	davit_json_put_int(&j, "size", (int64_t)s->manifest_text.len);
	davit_json_key(&j, "annotations");
	davit_json_open(&j);
	davit_json_put_string(&j, "io.containerd.image.name", s->image->reference);
	davit_json_put_string(&j, "org.opencontainers.image.ref.name", s->image->reference);
	davit_json_close(&j);
	davit_json_close(&j);
	davit_json_close_array(&j);
	davit_json_close(&j);
	return b.oom ? image_oom(s->err) : put_data(s, "index.json", b.data, b.len);
}

static int save_oci(struct save *s)
{
	static const char layout[] = "{\"imageLayoutVersion\":\"1.0.0\"}";
	int r = put_data(s, "oci-layout", layout, sizeof layout - 1);

	if (r == 0)
		r = put_index(s);
	if (r == 0)
		r = put_blob(s, s->image->digest + strlen("sha256:"));
	if (r == 0)
		r = put_blob(s, s->manifest.config.hex);
	for (size_t i = 0; r == 0 && i < s->manifest.n_layers; i++)
		if (!seen(s, i))
			r = put_blob(s, s->manifest.layers[i].hex);
	return r;
}

/* --- docker --- */

/* Unpacked: older engines know no zstd. */
static int put_layer(struct save *s, size_t i, const char *diff)
{
	struct image_budget budget = {.limits = {.bytes = UINT64_MAX}, .room = UINT64_MAX};
	DAVIT_AUTO_CLOSE int blob = open_blob(s, s->manifest.layers[i].hex);
	DAVIT_AUTO_CLOSE int plain = -1;
	struct image_stream *in = NULL;
	char name[16], member[80];
	int r;

	if (blob < 0)
		return DAVIT_EIO;
	snprintf(member, sizeof member, "%s.tar", diff);
	r = image_stream_open(blob, &in, s->err);
	if (r == 0 && image_stream_packing(in) == IMAGE_PLAIN) {
		image_stream_close(in);
		return lseek(blob, 0, SEEK_SET) == 0 ? put_file(s, member, blob) : DAVIT_EIO;
	}
	plain = r == 0 ? image_job_file(s->job, name, s->err) : -1;
	if (r == 0)
		r = plain < 0 ? DAVIT_EIO : image_copy_stream(in, plain, &budget, member, s->err);
	image_stream_close(in);
	if (r == 0 && lseek(plain, 0, SEEK_SET) == 0)
		r = put_file(s, member, plain);
	if (plain >= 0)
		unlinkat(s->job->fd, name, 0);
	return r;
}

static int put_docker_manifest(struct save *s, const char (*diff)[IMAGE_HEX])
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);
	char name[80];

	davit_json_open_array(&j);
	davit_json_open(&j);
	snprintf(name, sizeof name, "%s.json", s->manifest.config.hex);
	davit_json_put_string(&j, "Config", name);
	davit_json_key(&j, "RepoTags");
	davit_json_open_array(&j);
	if (!strchr(s->image->reference, '@'))
		davit_json_string(&j, s->image->reference);
	davit_json_close_array(&j);
	davit_json_key(&j, "Layers");
	davit_json_open_array(&j);
	for (size_t i = 0; i < s->manifest.n_layers; i++) {
		snprintf(name, sizeof name, "%s.tar", diff[i]);
		davit_json_string(&j, name);
	}
	davit_json_close_array(&j);
	davit_json_close(&j);
	davit_json_close_array(&j);
	return b.oom ? image_oom(s->err) : put_data(s, "manifest.json", b.data, b.len);
}

/* From ".../layers/HEX/fs". */
static void diff_of(const char *layer, char hex[IMAGE_HEX])
{
	const char *end = strrchr(layer, '/');

	snprintf(hex, IMAGE_HEX, "%.64s", end - 64);
}

static int save_docker(struct save *s)
{
	size_t n = s->manifest.n_layers;
	char(*diff)[IMAGE_HEX] = calloc(n + 1, sizeof *diff);
	char name[80];
	int r;

	if (!diff)
		return image_oom(s->err);
	for (size_t i = 0; i < n; i++)
		diff_of(s->image->layers[i], diff[i]);
	snprintf(name, sizeof name, "%s.json", s->manifest.config.hex);
	r = put_data(s, name, s->image->config, strlen(s->image->config));
	for (size_t i = 0; r == 0 && i < n; i++)
		if (!seen(s, i))
			r = put_layer(s, i, diff[i]);
	if (r == 0)
		r = put_docker_manifest(s, diff);
	free(diff);
	return r;
}

/* --- the file --- */

static int read_manifest(struct save *s)
{
	struct image_doc d = {.file = s->image->digest, .code = DAVIT_ECORRUPT, .err = s->err};
	json_t *o = NULL;
	int r = image_store_blob(s->job->store, s->image->digest + strlen("sha256:"), &s->manifest_text,
				 s->err);

	if (r == 0)
		r = image_doc_parse(&d, s->manifest_text.data, s->manifest_text.len, &o);
	if (r == 0)
		r = image_doc_manifest(&d, o, &s->manifest);
	json_decref(o);
	return r;
}

static int write_archive(struct save *s, enum davit_image_format format, int fd)
{
	int r = read_manifest(s);

	s->a = archive_write_new();
	if (r == 0 && !s->a)
		r = image_oom(s->err);
	if (r == 0 && (archive_write_set_format_pax_restricted(s->a) != ARCHIVE_OK ||
		       archive_write_set_bytes_in_last_block(s->a, 1) != ARCHIVE_OK ||
		       archive_write_open_fd(s->a, fd) != ARCHIVE_OK))
		r = failed(s);
	if (r == 0)
		r = format == DAVIT_IMAGE_OCI ? save_oci(s) : save_docker(s);
	if (r == 0 && archive_write_close(s->a) != ARCHIVE_OK)
		r = failed(s);
	archive_write_free(s->a);
	image_manifest_fini(&s->manifest);
	davit_buf_fini(&s->manifest_text);
	return r;
}

/* A file appears when it is whole. */
static int write_file(struct save *s, enum davit_image_format format, const char *path)
{
	DAVIT_AUTO_FREE char *part = NULL;
	DAVIT_AUTO_CLOSE int fd = -1;
	int r;

	if (!strcmp(path, "-"))
		return write_archive(s, format, STDOUT_FILENO);
	if (asprintf(&part, "%s.part", path) < 0)
		return image_oom(s->err);
	fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
	if (fd < 0)
		return davit_error_errno(s->err, errno, NULL, "cannot make '%.200s'", part);
	r = write_archive(s, format, fd);
	if (r == 0 && (fsync(fd) < 0 || rename(part, path) < 0))
		r = davit_error_errno(s->err, errno, NULL, "cannot write '%.200s'", path);
	if (r < 0)
		unlink(part);
	return r;
}

int davit_image_save(struct davit_image_store *store, const char *reference, enum davit_image_format format,
		     const char *path, struct davit_error *err)
{
	IMAGE_AUTO_JOB j = IMAGE_JOB_NONE;
	struct davit_image *i = NULL;
	struct save s = {.job = &j, .err = err};
	int r = image_job_hold(store, reference, &j, &i, err);

	s.image = i;
	if (r == 0)
		r = write_file(&s, format, path);
	davit_image_free(i);
	return r;
}
