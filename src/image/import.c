/* SPDX-License-Identifier: MIT
 *
 * A root file system becomes an image of one layer. A directory is written to a
 * tar first, so that both are one thing.
 */
#include "image/image_impl.h"

#include "base/json.h"
#include "base/units.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

/* --- a directory as tar --- */

struct packer {
	struct archive *disk, *tar;
	struct archive_entry_linkresolver *links;
	const char *path;
	struct davit_error *err;
};

static int pack_failed(struct packer *p, struct archive *a, const char *what)
{
	const char *why = archive_error_string(a);

	return davit_error_set(p->err, DAVIT_EIO, NULL, "cannot pack '%.128s': %.200s", what,
			       why ? why : "no reason known");
}

static int pack_content(struct packer *p, struct archive_entry *e)
{
	const char *name = archive_entry_sourcepath(e);
	DAVIT_AUTO_CLOSE int fd = -1;
	char buf[65536];
	ssize_t n;

	if (archive_entry_filetype(e) != AE_IFREG || archive_entry_hardlink(e) || archive_entry_size(e) <= 0)
		return 0;
	fd = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return davit_error_errno(p->err, errno, NULL, "cannot open '%.128s'", name);
	while ((n = DAVIT_EINTR(read(fd, buf, sizeof buf))) > 0)
		if (archive_write_data(p->tar, buf, (size_t)n) < 0)
			return pack_failed(p, p->tar, name);
	return n < 0 ? davit_error_errno(p->err, errno, NULL, "cannot read '%.128s'", name) : 0;
}

/* "PATH/etc/hosts" becomes "etc/hosts", and PATH itself ".". */
static void strip(const struct packer *p, struct archive_entry *e)
{
	const char *name = archive_entry_pathname(e);
	size_t n = strlen(p->path);

	name += strlen(name) >= n ? n : 0;
	name += strspn(name, "/");
	archive_entry_set_pathname(e, *name ? name : ".");
}

static int pack_entry(struct packer *p, struct archive_entry *e)
{
	struct archive_entry *spare = NULL;

	archive_read_disk_descend(p->disk);
	strip(p, e);
	if (archive_entry_filetype(e) == AE_IFSOCK)
		return 0;
	archive_entry_linkify(p->links, &e, &spare);
	if (archive_write_header(p->tar, e) < ARCHIVE_WARN)
		return pack_failed(p, p->tar, archive_entry_pathname(e));
	return pack_content(p, e);
}

static int pack_all(struct packer *p)
{
	struct archive_entry *e = archive_entry_new();
	int r = e ? 0 : image_oom(p->err), got;

	while (r == 0 && (got = archive_read_next_header2(p->disk, e)) != ARCHIVE_EOF) {
		r = got < ARCHIVE_WARN ? pack_failed(p, p->disk, p->path) : pack_entry(p, e);
		archive_entry_clear(e);
	}
	archive_entry_free(e);
	return r == 0 && archive_write_close(p->tar) != ARCHIVE_OK ? pack_failed(p, p->tar, p->path) : r;
}

static int pack(const char *path, int fd, struct davit_error *err)
{
	struct packer p = {archive_read_disk_new(), archive_write_new(), archive_entry_linkresolver_new(),
			   path, err};
	int r = p.disk && p.tar && p.links ? 0 : image_oom(err);

	if (r == 0) {
		archive_read_disk_set_symlink_physical(p.disk);
		archive_read_disk_set_behavior(p.disk, ARCHIVE_READDISK_NO_TRAVERSE_MOUNTS |
							       ARCHIVE_READDISK_NO_ACL |
							       ARCHIVE_READDISK_NO_FFLAGS);
		archive_write_set_format_pax_restricted(p.tar);
		archive_write_set_bytes_in_last_block(p.tar, 1);
		archive_entry_linkresolver_set_strategy(p.links, ARCHIVE_FORMAT_TAR_PAX_RESTRICTED);
		if (archive_write_open_fd(p.tar, fd) != ARCHIVE_OK)
			r = pack_failed(&p, p.tar, path);
		else if (archive_read_disk_open(p.disk, path) != ARCHIVE_OK)
			r = pack_failed(&p, p.disk, path);
		else
			r = pack_all(&p);
	}
	archive_entry_linkresolver_free(p.links);
	archive_read_free(p.disk);
	archive_write_free(p.tar);
	return r;
}

/* --- the image --- */

static void put_words(struct davit_json *j, const char *key, char *const *v)
{
	if (v && *v)
		davit_json_put_strv(j, key, v);
}

static int make_config(const struct davit_image_import *i, const char *diff, struct davit_buf *out,
		       struct davit_error *err)
{
	struct davit_json j = DAVIT_JSON_INIT(out);
	const char *architecture, *variant;
	char digest[DAVIT_DIGEST_MAX];

	image_platform(&architecture, &variant);
	snprintf(digest, sizeof digest, "sha256:%s", diff);
	davit_json_open(&j);
	davit_json_put_time(&j, "created", (int64_t)time(NULL) * DAVIT_NSEC_PER_SEC);
	davit_json_put_string(&j, "architecture", architecture);
	if (*variant)
		davit_json_put_string(&j, "variant", variant);
	davit_json_put_string(&j, "os", "linux");
	davit_json_key(&j, "config");
	davit_json_open(&j);
	put_words(&j, "Env", i->env);
	put_words(&j, "Entrypoint", i->entrypoint);
	put_words(&j, "Cmd", i->command);
	if (i->directory)
		davit_json_put_string(&j, "WorkingDir", i->directory);
	if (i->user)
		davit_json_put_string(&j, "User", i->user);
	davit_json_close(&j);
	davit_json_key(&j, "rootfs");
	davit_json_open(&j);
	davit_json_put_string(&j, "type", "layers");
	davit_json_key(&j, "diff_ids");
	davit_json_open_array(&j);
	davit_json_string(&j, digest);
	davit_json_close_array(&j);
	davit_json_close(&j);
	davit_json_key(&j, "history");
	davit_json_open_array(&j);
	davit_json_open(&j);
	davit_json_put_string(&j, "created_by", "davit-image import");
	davit_json_close(&j);
	davit_json_close_array(&j);
	davit_json_close(&j);
	return out->oom ? image_oom(err) : 0;
}

/* The tar as a file of the job. */
static int take_tar(struct image_job *j, const char *path, struct image_budget *budget, char name[16],
		    struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int from = !strcmp(path, "-") ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
						       : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	DAVIT_AUTO_CLOSE int to = -1;
	struct stat st;
	uint64_t most;

	if (from < 0 || fstat(from, &st) < 0)
		return davit_error_errno(err, errno, NULL, "cannot open '%.128s'", path);
	to = image_job_file(j, name, err);
	if (to < 0)
		return DAVIT_EIO;
	if (S_ISDIR(st.st_mode))
		return pack(path, to, err);
	most = budget->limits.bytes < budget->room ? budget->limits.bytes : budget->room;
	if (image_copy_data(from, to, most) == 0)
		return 0;
	return errno == EFBIG
		       ? davit_error_set(
				 err, DAVIT_ESOURCE, "archive",
				 "'%.128s' is larger than allowed (--max-size), or than the disk has room",
				 path)
		       : davit_error_errno(err, errno, NULL, "cannot copy '%.128s'", path);
}

static int import(struct image_job *j, const struct davit_image_import *i, struct image_new *n,
		  struct image_budget *budget, struct davit_error *err)
{
	char full[DAVIT_REFERENCE_MAX], name[16];
	int r = davit_reference_normalise(i->load.reference, full, err);

	if (r == 0 && strchr(full, '@'))
		r = davit_error_set(err, DAVIT_EINVAL, "reference",
				    "'%.200s' has a digest: a new name is NAME[:TAG]", full);
	if (r == 0)
		r = take_tar(j, i->load.path, budget, name, err);
	if (r < 0)
		return r;
	n->layers = calloc(1, sizeof *n->layers);
	n->reference = strdup(full);
	if (!n->layers || !n->reference)
		return image_oom(err);
	n->n_layers = 1;
	r = image_new_layer(j, name, n, budget, err);
	if (r < 0)
		davit_error_prefix(err, "%.128s", image_path_name(i->load.path));
	if (r == 0)
		r = make_config(i, n->layers[0].diff, &n->config_text, err);
	if (r < 0)
		return r;
	image_hash_of(n->config_text.data, n->config_text.len, n->config);
	r = image_new_fetch(j, NULL, n, budget, err);
	if (r == 0)
		r = image_publish(j, n, 1, err);
	return r == 0 ? image_tell_stored(j->store, &i->load, full, err) : r;
}

int davit_image_import(struct davit_image_store *s, const struct davit_image_import *i,
		       struct davit_error *err)
{
	IMAGE_AUTO_JOB j = IMAGE_JOB_NONE;
	struct image_budget budget;
	struct image_new n = {0};
	int r = i->load.reference ? image_budget_init(s, &i->load.limits, &budget, err)
				  : davit_error_set(err, DAVIT_EINVAL, "reference",
						    "an import needs a name: --reference NAME");

	if (r == 0)
		r = image_job_begin(s, &j, err);
	if (r == 0)
		r = import(&j, i, &n, &budget, err);
	image_new_fini(&n);
	return r;
}
