/* SPDX-License-Identifier: MIT
 *
 * Volumes of type config: texts of the spec that a workload finds in files, which it
 * cannot write to. They lie in a directory of the instance's beside its secrets; drivers
 * know them as directories of the host.
 */
#include "core/core_impl.h"

#include "base/file.h"
#include "base/strv.h"
#include "core/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static int no_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

/* One with a path as its target has the place within the directory as its name. */
static const char *file_of(const struct davit_spec *spec, size_t k, char buf[32])
{
	const char *target = spec->volumes[k].target;

	snprintf(buf, 32, "at-%zu", k);
	return *target == '/' ? buf : target;
}

/* Replaced as a whole: a run may have the old one open. */
static int write_file(int dir, const char *name, const char *text, struct davit_error *err)
{
	static const char temporary[] = "-new"; /* no target begins so */
	DAVIT_AUTO_CLOSE int fd = -1;
	int saved;

	unlinkat(dir, temporary, 0);
	fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd >= 0 && !davit_write_full(fd, text, strlen(text)) && !fchmod(fd, 0444) &&
	    !renameat(dir, temporary, dir, name))
		return 0;
	saved = errno;
	unlinkat(dir, temporary, 0);
	return davit_error_errno(err, saved, "volumes", "cannot write the config '%s' for the workload",
				 name);
}

static int write_files(const struct davit_spec *spec, const char *path, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char name[32];
	int r = 0;

	if (dir < 0)
		return davit_error_errno(err, errno, "volumes", "cannot use %s", path);
	for (size_t k = 0; k < spec->n_volumes && r == 0; k++)
		if (spec->volumes[k].type == DAVIT_MOUNT_CONFIG)
			r = write_file(dir, file_of(spec, k, name), spec->volumes[k].content, err);
	return r;
}

/* There is room: workload_settings counts every volume of the spec. */
static int bind(struct davit_workload *w, const char *source, const char *target, struct davit_error *err)
{
	struct davit_mount *m = &w->mounts[w->n_mounts++];

	*m = (struct davit_mount){.type = DAVIT_MOUNT_BIND, .read_only = true};
	m->source = strdup(source);
	m->target = strdup(target);
	return m->source && m->target ? 0 : no_memory(err);
}

/* Where the workload has a root of its own. */
static int mount_files(struct davit_workload *w, const struct davit_spec *spec, const char *dir, bool named,
		       struct davit_error *err)
{
	char name[32];
	int r = named ? bind(w, dir, dir, err) : 0;

	for (size_t k = 0; k < spec->n_volumes && r == 0; k++) {
		const struct davit_volume *v = &spec->volumes[k];
		DAVIT_AUTO_FREE char *file = NULL;
		if (v->type != DAVIT_MOUNT_CONFIG || *v->target != '/')
			continue;
		file = davit_path_join(dir, file_of(spec, k, name));
		r = file ? bind(w, file, v->target, err) : no_memory(err);
	}
	return r;
}

int workload_config(struct instance *i, struct davit_error *err)
{
	const struct davit_spec *spec = i->service->spec;
	struct davit_workload *w = &i->workload;
	DAVIT_AUTO_FREE char *dir = NULL;
	bool any = false, named = false;
	char name[WORKLOAD_FILES_MAX];
	int r;

	for (size_t k = 0; k < spec->n_volumes; k++) {
		any |= spec->volumes[k].type == DAVIT_MOUNT_CONFIG;
		named |= spec->volumes[k].type == DAVIT_MOUNT_CONFIG && *spec->volumes[k].target != '/';
	}
	if (!any)
		return 0;
	if (!i->core->config.secrets)
		return davit_error_set(err, DAVIT_ENOTSUP, "volumes",
				       "this daemon writes no files for workloads");
	r = davit_secrets_directory(i->core->config.secrets, workload_files_name(i, WORKLOAD_CONFIG, name),
				    &dir, err);
	if (r == 0)
		r = write_files(spec, dir, err);
	if (r == 0 && named && davit_strv_setenv(&w->env, "CONFIG_DIRECTORY", dir) < 0)
		r = no_memory(err);
	return r == 0 && w->image ? mount_files(w, spec, dir, named, err) : r;
}
