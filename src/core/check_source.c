/* SPDX-License-Identifier: MIT
 *
 * What can be known of a source without building it.
 */
#include "core/check.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static bool is_empty(const char *path, struct davit_error *err)
{
	DIR *dir = opendir(path);
	const struct dirent *e;
	bool empty = true;

	if (!dir) {
		davit_error_errno(err, errno, "source", "source %s cannot be read", path);
		return true;
	}
	while (empty && (e = readdir(dir)))
		empty = !strcmp(e->d_name, ".") || !strcmp(e->d_name, "..");
	closedir(dir);
	if (empty)
		davit_error_set(err, DAVIT_EINVAL, "source", "source %s is an empty directory", path);
	return empty;
}

int check_source(const struct davit_core *c, const struct davit_spec *spec, struct davit_error *err)
{
	const char *path = spec->source;
	struct davit_error why;
	struct stat st;

	if (!path)
		return 0;
	/* What is on a server is for the build to find out. */
	if (path[0] != '/')
		return c->config.check_source && c->config.paths
			       ? c->config.check_source(path, c->config.default_source,
							c->config.paths->share, err)
			       : 0;
	if (stat(path, &st) < 0 && errno == ENOENT && strchr(path, '@'))
		return 0; /* a repository on this host at a revision */
	if (stat(path, &st) < 0 && errno == ENOENT)
		return davit_error_set(err, DAVIT_ENOENT, "source", "source %s does not exist", path);
	if (stat(path, &st) < 0)
		return davit_error_errno(err, errno, "source", "source %s cannot be read", path);
	if (S_ISDIR(st.st_mode) && is_empty(path, &why))
		return davit_error_copy(err, &why);
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		return davit_error_set(err, DAVIT_EINVAL, "source",
				       "source %s is neither a file nor a directory", path);
	if (S_ISREG(st.st_mode) && !st.st_size)
		return davit_error_set(err, DAVIT_EINVAL, "source", "source %s is an empty file", path);
	if (S_ISREG(st.st_mode) && access(path, R_OK) < 0 && access(path, X_OK) < 0)
		return davit_error_errno(err, errno, "source", "source %s cannot be read", path);
	return 0;
}
