/* SPDX-License-Identifier: MIT
 *
 * Volumes by name: VOLUMES/NAME/data is what is mounted. An instance that has a volume
 * has a file VOLUMES/NAME/users/ID, whichever runtime it is of.
 */
#include "base/file.h"
#include "runtime/oci/impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static char *volume_path(const struct oci_place *pl, const char *name, const char *what)
{
	return local_path(pl->volumes, name, what);
}

int oci_volume_use(const struct oci_place *pl, const char *name, const char *id, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *data = volume_path(pl, name, "data");
	DAVIT_AUTO_FREE char *users = volume_path(pl, name, "users");
	DAVIT_AUTO_FREE char *mark = users ? davit_path_join(users, id) : NULL;
	DAVIT_AUTO_CLOSE int fd = -1;
	int r;

	if (!data || !mark)
		return davit_error_set(err, DAVIT_ENOMEM, "volumes", "out of memory");
	r = davit_mkdirs(users, 0700, err);
	if (r < 0)
		return r;
	/* The mark first: a volume in use is not removed. */
	fd = open(mark, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return davit_error_errno(err, errno, "volumes", "cannot use volume %s", name);
	if (mkdir(data, 0755) < 0 && errno != EEXIST)
		return davit_error_errno(err, errno, "volumes", "cannot make volume %s", name);
	return 0;
}

static bool is_name(const char *s)
{
	return *s && *s != '.';
}

void oci_volumes_release(const struct oci_place *pl, const char *id)
{
	DIR *d = opendir(pl->volumes);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		char mark[600];

		if (!is_name(e->d_name))
			continue;
		snprintf(mark, sizeof mark, "%s/users/%s", e->d_name, id);
		unlinkat(dirfd(d), mark, 0);
	}
	if (d)
		closedir(d);
}

/* --- the facet --- */

static void answer(struct davit_op *op, const struct davit_error *err)
{
	if (err->code)
		davit_op_fail_error(op, err);
	else
		davit_op_complete(op, 0);
}

static void volumes_list(struct davit_runtime *rt,
			 void (*each)(void *user, const struct davit_object_info *info), void *user,
			 struct davit_op *op)
{
	const struct oci_place *pl = ((struct oci_runtime *)davit_runtime_state(rt))->place;
	DIR *d = opendir(pl->volumes);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		DAVIT_AUTO_FREE char *data = is_name(e->d_name) ? volume_path(pl, e->d_name, "data") : NULL;
		struct statx st;
		struct davit_object_info info = {.name = e->d_name, .detail = data, .ours = true};

		if (!data || statx(AT_FDCWD, data, 0, STATX_BTIME, &st) < 0)
			continue;
		if (st.stx_mask & STATX_BTIME)
			info.created = st.stx_btime.tv_sec * INT64_C(1000000000) + st.stx_btime.tv_nsec;
		each(user, &info);
	}
	if (d)
		closedir(d);
	davit_op_complete(op, 0);
}

static void volumes_create(struct davit_runtime *rt, const char *name, struct davit_op *op)
{
	const struct oci_place *pl = ((struct oci_runtime *)davit_runtime_state(rt))->place;
	DAVIT_AUTO_FREE char *data = volume_path(pl, name, "data");
	struct davit_error err = {0};

	if (!data)
		davit_error_set(&err, DAVIT_ENOMEM, "volumes", "out of memory");
	else
		davit_mkdirs(data, 0755, &err);
	answer(op, &err);
}

struct removal {
	char *path, *name;
};

static void removal_free(void *argument)
{
	struct removal *r = argument;

	free(r->path);
	free(r->name);
	free(r);
}

static void remove_run(struct oci_job *j)
{
	struct removal *r = j->argument;
	DAVIT_AUTO_FREE char *users = davit_path_join(r->path, "users");
	struct stat st;

	if (lstat(r->path, &st) < 0) {
		davit_error_set(&j->err, DAVIT_ENOENT, "volumes", "there is no volume %s", r->name);
		return;
	}
	if (!users || (rmdir(users) < 0 && errno != ENOENT)) {
		davit_error_set(&j->err, users ? DAVIT_EINUSE : DAVIT_ENOMEM, "volumes",
				"volume %s is in use", r->name);
		return;
	}
	davit_remove_tree(r->path, &j->err);
}

static void remove_done(struct oci_job *j)
{
	answer(DAVIT_TAKE(j->op), &j->err);
}

static void volumes_remove(struct davit_runtime *rt, const char *name, struct davit_op *op)
{
	struct oci_runtime *o = davit_runtime_state(rt);
	struct removal *r = calloc(1, sizeof *r);
	struct oci_job *j = r ? oci_job_new(o, "volume") : NULL;

	if (j) {
		j->argument = r;
		j->dispose = removal_free;
		r->path = davit_path_join(o->place->volumes, name);
		r->name = strdup(name);
	}
	if (!j || !r->path || !r->name) {
		if (j)
			oci_job_free(j);
		else
			free(r);
		davit_op_fail(op, DAVIT_ENOMEM, "volumes", "out of memory");
		return;
	}
	j->run = remove_run;
	j->done = remove_done;
	j->op = op;
	oci_job_start(j);
}

const struct davit_objects_facet oci_volumes = {
	.list = volumes_list,
	.create = volumes_create,
	.remove = volumes_remove,
};
