/* SPDX-License-Identifier: MIT
 *
 * Files inside fake instances: what was copied in, by path, in memory. Each begins
 * with the directories / and /tmp.
 */
#include "runtime/fake/fake_impl.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdio.h>
#include <string.h>

struct fake_file {
	struct davit_list list;
	char *path; /* absolute, without a slash at its end */
	char *link; /* of a symbolic one */
	struct davit_buf content;
	mode_t mode; /* with its type */
};

void fake_files_free(struct fake_object *o)
{
	struct fake_file *f, *tmp;

	DAVIT_LIST_FOREACH_SAFE (f, tmp, &o->files, list) {
		davit_list_remove(&f->list);
		davit_buf_fini(&f->content);
		free(f->path);
		free(f->link);
		free(f);
	}
}

static struct fake_file *find(const struct fake_object *o, const char *path)
{
	struct fake_file *f;

	DAVIT_LIST_FOREACH (f, &o->files, list)
		if (!strcmp(f->path, path))
			return f;
	return NULL;
}

/* "/a/b" for the directory "/a/" and "./b/"; NULL for what leads out of it. */
static char *join(const char *directory, const char *name)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;

	for (int k = 0; k < 2; k++)
		for (const char *s = k ? name : directory; *s;) {
			size_t n = strcspn(s, "/");
			if (n == 2 && !strncmp(s, "..", 2))
				return NULL;
			if (n && !(n == 1 && *s == '.')) {
				davit_buf_addc(&out, '/');
				davit_buf_add(&out, s, n);
			}
			s += n + (s[n] == '/');
		}
	if (!out.len)
		davit_buf_addc(&out, '/');
	return davit_buf_take(&out);
}

static bool is_directory(const struct fake_object *o, const char *path)
{
	const struct fake_file *f = find(o, path);

	return !strcmp(path, "/") || !strcmp(path, "/tmp") || (f && S_ISDIR(f->mode));
}

struct job {
	struct davit_fake_world *world;
	char id[DAVIT_ID_MAX];
	char *path;
};

static void drop_job(void *user)
{
	struct job *j = user;

	free(j->path);
	free(j);
}

static struct job *new_job(struct davit_instance *inst, const char *path)
{
	struct job *j = calloc(1, sizeof *j);

	if (!j)
		return NULL;
	j->world = fake_world(inst->runtime);
	memcpy(j->id, inst->workload->id, sizeof j->id);
	j->path = join(path, "");
	if (j->path)
		return j;
	free(j);
	return NULL;
}

/* --- in --- */

static int put_one(struct fake_object *o, const char *directory, struct archive *a, struct archive_entry *e,
		   struct davit_error *err)
{
	char *path = join(directory, archive_entry_pathname(e));
	struct fake_file *f = path ? find(o, path) : NULL;
	char block[4096];
	la_ssize_t n;

	if (!path)
		return davit_error_set(err, DAVIT_EPERM, "fake", "'%s' leads out of '%s'",
				       archive_entry_pathname(e), directory);
	if (!f && !(f = calloc(1, sizeof *f))) {
		free(path);
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	if (!f->path) {
		f->path = DAVIT_TAKE(path);
		davit_list_add_tail(&o->files, &f->list);
	}
	free(path);
	f->mode = archive_entry_mode(e);
	free(f->link);
	f->link = archive_entry_symlink(e) ? strdup(archive_entry_symlink(e)) : NULL;
	davit_buf_reset(&f->content);
	while ((n = archive_read_data(a, block, sizeof block)) > 0)
		davit_buf_add(&f->content, block, (size_t)n);
	if (n < 0)
		return davit_error_set(err, DAVIT_EPROTO, "fake", "%s", archive_error_string(a));
	return f->content.oom ? davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory") : 0;
}

static void unpack(struct davit_op *op, void *user, struct davit_buf *data)
{
	struct job *j = user;
	struct fake_object *o = davit_map_get(&j->world->objects, j->id);
	struct archive *a = archive_read_new();
	struct archive_entry *e;
	struct davit_error err;
	int h, r = 0;

	if (!o || !a) {
		davit_op_fail(op, o ? DAVIT_ENOMEM : DAVIT_ENOENT, "fake",
			      o ? "out of memory" : "it is gone");
		archive_read_free(a);
		return;
	}
	archive_read_support_format_tar(a);
	archive_read_support_format_empty(a);
	h = archive_read_open_memory(a, data->data, data->len);
	while (r == 0 && h == ARCHIVE_OK && (h = archive_read_next_header(a, &e)) >= ARCHIVE_WARN &&
	       h != ARCHIVE_EOF)
		r = put_one(o, j->path, a, e, &err);
	if (r == 0 && h < ARCHIVE_WARN)
		r = davit_error_set(&err, DAVIT_EPROTO, "fake", "no tar archive came: %s",
				    archive_error_string(a));
	archive_read_free(a);
	if (r < 0)
		davit_op_fail_error(op, &err);
	else
		davit_op_complete(op, 0);
}

static void copy_put(struct davit_instance *inst, const char *path, int fd, struct davit_op *op)
{
	struct fake_object *o = fake_object(inst);
	struct job *j = o ? new_job(inst, path) : NULL;

	if (j && is_directory(o, j->path)) {
		fake_stream(j->world, fd, NULL, unpack, j, drop_job, op);
		return;
	}
	davit_op_fail(op, DAVIT_ENOENT, "fake", "%s: no such directory", path);
	if (j)
		drop_job(j);
	close(fd);
}

/* --- out --- */

static la_ssize_t on_write(struct archive *a, void *user, const void *data, size_t n)
{
	davit_buf_add(user, data, n);
	return ((struct davit_buf *)user)->oom ? -1 : (la_ssize_t)n;
}

static int pack_one(struct archive *a, const char *name, const struct fake_file *f)
{
	struct archive_entry *e = archive_entry_new();
	int r;

	if (!e)
		return -1;
	archive_entry_set_pathname(e, name);
	archive_entry_set_mode(e, f ? f->mode : S_IFDIR | 0755);
	archive_entry_set_size(e, f ? (la_int64_t)f->content.len : 0);
	if (f && f->link)
		archive_entry_set_symlink(e, f->link);
	r = archive_write_header(a, e) < ARCHIVE_WARN ||
			    (f && f->content.len &&
			     archive_write_data(a, f->content.data, f->content.len) < 0)
		    ? -1
		    : 0;
	archive_entry_free(e);
	return r;
}

/* The names begin with the last part of the path, "." for "/". */
static int pack(const struct fake_object *o, const char *path, struct davit_buf *out)
{
	const char *base = strrchr(path, '/') + 1;
	size_t n = strcmp(path, "/") ? strlen(path) : 0;
	struct archive *a = archive_write_new();
	const struct fake_file *f;
	int r = a ? 0 : -1;

	if (r == 0) {
		archive_write_set_format_pax_restricted(a);
		r = archive_write_open(a, out, NULL, on_write, NULL) == ARCHIVE_OK ? 0 : -1;
	}
	if (r == 0)
		r = pack_one(a, *base ? base : ".", find(o, path));
	DAVIT_LIST_FOREACH (f, &o->files, list) {
		DAVIT_AUTO_BUF name = DAVIT_BUF_INIT;
		if (r < 0 || strncmp(f->path, path, n) != 0 || f->path[n] != '/')
			continue;
		davit_buf_addf(&name, "%s%s", *base ? base : ".", f->path + n);
		r = pack_one(a, davit_buf_str(&name), f);
	}
	if (r == 0 && archive_write_close(a) != ARCHIVE_OK)
		r = -1;
	archive_write_free(a);
	return r;
}

static void written(struct davit_op *op, void *user, struct davit_buf *data)
{
	davit_op_complete(op, 0);
}

static void copy_get(struct davit_instance *inst, const char *path, int fd, struct davit_op *op)
{
	struct fake_object *o = fake_object(inst);
	DAVIT_AUTO_FREE char *clean = join(path, "");
	struct davit_buf out = DAVIT_BUF_INIT;

	if (!o || !clean || (!find(o, clean) && !is_directory(o, clean))) {
		davit_op_fail(op, DAVIT_ENOENT, "fake", "%s: no such file or directory", path);
		close(fd);
	} else if (pack(o, clean, &out) < 0) {
		davit_op_fail(op, DAVIT_ENOMEM, "fake", "out of memory");
		close(fd);
	} else {
		fake_stream(o->world, fd, &out, written, NULL, NULL, op);
	}
	davit_buf_fini(&out);
}

const struct davit_copy_facet fake_copy = {.put = copy_put, .get = copy_get};
