/* SPDX-License-Identifier: MIT
 *
 * Files inside fake instances: what was copied in, by path, in memory. Each begins
 * with the directories / and /tmp.
 */
#include "runtime/fake/archive.h"
#include "runtime/fake/fake_impl.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

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

static int put_one(struct fake_object *o, const char *directory, const struct fake_archive *tar,
		   struct archive *a, const struct fake_entry *e, struct davit_error *err)
{
	char *path = join(directory, e->path);
	struct fake_file *f = path ? find(o, path) : NULL;

	if (!path)
		return davit_error_set(err, DAVIT_EPERM, "fake", "'%s' leads out of '%s'", e->path,
				       directory);
	if (!f && !(f = calloc(1, sizeof *f))) {
		free(path);
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	if (!f->path) {
		f->path = DAVIT_TAKE(path);
		davit_list_add_tail(&o->files, &f->list);
	}
	free(path);
	f->mode = e->mode;
	free(f->link);
	f->link = e->link ? strdup(e->link) : NULL;
	davit_buf_reset(&f->content);
	return tar->content(a, &f->content, err);
}

static int put_all(struct job *j, const struct davit_buf *data, struct davit_error *err)
{
	struct fake_object *o = davit_map_get(&j->world->objects, j->id);
	const struct fake_archive *tar;
	struct archive *a = NULL;
	struct fake_entry e;
	int r;

	if (!o)
		return davit_error_set(err, DAVIT_ENOENT, "fake", "it is gone");
	r = fake_archive_load(j->world->runtime->libexec_dir, &tar, err);
	if (r == 0)
		r = tar->open(data, &a, err);
	if (r < 0)
		return r;
	while ((r = tar->next(a, &e, err)) > 0) {
		r = put_one(o, j->path, tar, a, &e, err);
		if (r < 0)
			break;
	}
	tar->close(a);
	return r;
}

static void unpack(struct davit_op *op, void *user, struct davit_buf *data)
{
	struct davit_error err;

	if (put_all(user, data, &err) < 0)
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

static int pack_one(const struct fake_archive *tar, struct archive *a, const char *name,
		    const struct fake_file *f)
{
	const struct fake_entry e = {
		.path = name,
		.link = f ? f->link : NULL,
		.mode = f ? f->mode : S_IFDIR | 0755,
	};

	return tar->add(a, &e, f ? &f->content : NULL);
}

/* The names begin with the last part of the path, "." for "/". */
static int pack(const struct fake_object *o, const struct fake_archive *tar, const char *path,
		struct davit_buf *out)
{
	const char *base = strrchr(path, '/') + 1;
	size_t n = strcmp(path, "/") ? strlen(path) : 0;
	const struct fake_file *f;
	struct archive *a;
	int r = tar->begin(out, &a), end;

	if (r < 0)
		return r;
	r = pack_one(tar, a, *base ? base : ".", find(o, path));
	DAVIT_LIST_FOREACH (f, &o->files, list) {
		DAVIT_AUTO_BUF name = DAVIT_BUF_INIT;
		if (r < 0 || strncmp(f->path, path, n) != 0 || f->path[n] != '/')
			continue;
		davit_buf_addf(&name, "%s%s", *base ? base : ".", f->path + n);
		r = pack_one(tar, a, davit_buf_str(&name), f);
	}
	end = tar->finish(a);
	return r < 0 ? r : end;
}

static void written(struct davit_op *op, void *user, struct davit_buf *data)
{
	davit_op_complete(op, 0);
}

static void copy_get(struct davit_instance *inst, const char *path, int fd, struct davit_op *op)
{
	struct fake_object *o = fake_object(inst);
	DAVIT_AUTO_FREE char *clean = join(path, "");
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	const struct fake_archive *tar;
	struct davit_error err;
	int r;

	if (!o || !clean || (!find(o, clean) && !is_directory(o, clean))) {
		r = davit_error_set(&err, DAVIT_ENOENT, "fake", "%s: no such file or directory", path);
	} else {
		r = fake_archive_load(inst->runtime->libexec_dir, &tar, &err);
		if (r == 0 && pack(o, tar, clean, &out) < 0)
			r = davit_error_set(&err, DAVIT_ENOMEM, "fake", "out of memory");
	}
	if (r == 0) {
		fake_stream(o->world, fd, &out, written, NULL, NULL, op);
		return;
	}
	davit_op_fail_error(op, &err);
	close(fd);
}

const struct davit_copy_facet fake_copy = {.put = copy_put, .get = copy_get};
