/* SPDX-License-Identifier: MIT */
#include "workspace/mount.h"

#include "base/buf.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

enum root { ROOT_NONE, ROOT_SOURCES, ROOT_HOME };

/* Takes "$SOURCES" or "$HOME" off the beginning; what is relative begins at the
 * sources. -1 for another variable. */
static int root_of(const char **path)
{
	static const struct {
		const char *name;
		enum root root;
	} names[] = {{"$SOURCES", ROOT_SOURCES}, {"$HOME", ROOT_HOME}};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(names); i++) {
		size_t n = strlen(names[i].name);
		if (strncmp(*path, names[i].name, n) != 0 || ((*path)[n] && (*path)[n] != '/'))
			continue;
		*path += n;
		return names[i].root;
	}
	if (strchr(*path, '$'))
		return -1;
	return **path == '/' ? ROOT_NONE : ROOT_SOURCES;
}

int davit_workspace_path_check(const char *path, struct davit_error *err)
{
	const char *rest = path;
	int root = root_of(&rest);

	if (root < 0 || strchr(rest, '$'))
		return davit_error_set(
			err, DAVIT_EINVAL, NULL,
			"'%.64s': only $SOURCES and $HOME are known, at the beginning of a path", path);
	for (const char *p = rest; *p; p += strcspn(p, "/"), p += *p == '/')
		if (strcspn(p, "/") == 2 && p[0] == '.' && p[1] == '.')
			return davit_error_set(err, DAVIT_EINVAL, NULL, "'%.64s' must not have '..' in it",
					       path);
	if (strlen(path) >= PATH_MAX / 2)
		return davit_error_set(err, DAVIT_EINVAL, NULL, "'%.32s...' is too long", path);
	return 0;
}

/* root/rest without "." and doubled slashes, as a heap string or NULL. */
static char *join(const char *root, const char *rest)
{
	struct davit_buf out = DAVIT_BUF_INIT;
	const char *const parts[] = {root, rest};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(parts); i++)
		for (const char *p = parts[i]; *p; p += strcspn(p, "/"), p += *p == '/') {
			size_t n = strcspn(p, "/");
			if (!n || (n == 1 && *p == '.'))
				continue;
			davit_buf_addc(&out, '/');
			davit_buf_add(&out, p, n);
		}
	if (!out.len)
		davit_buf_addc(&out, '/');
	return davit_buf_take(&out);
}

static bool is_below(const char *path, const char *root)
{
	size_t n = strlen(root);

	return !strcmp(root, "/") || (!strncmp(path, root, n) && (!path[n] || path[n] == '/'));
}

static int resolve(const char *path, char **ret, struct davit_error *err)
{
	*ret = realpath(path, NULL);
	return *ret ? 0 : davit_error_errno(err, errno, "mounts", "cannot mount %s", path);
}

int davit_workspace_mount_host(const char *path, const struct davit_workspace_roots *roots, char **ret,
			       struct davit_error *err)
{
	DAVIT_AUTO_FREE char *full = NULL;
	DAVIT_AUTO_FREE char *real = NULL;
	DAVIT_AUTO_FREE char *top = NULL;
	const char *rest = path, *root;
	int r = davit_workspace_path_check(path, err), kind;

	if (r < 0)
		return r;
	kind = root_of(&rest);
	root = kind == ROOT_SOURCES ? roots->source : kind == ROOT_HOME ? roots->home : "";
	full = join(root, rest);
	if (!full)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	r = resolve(full, &real, err);
	if (r == 0 && kind != ROOT_NONE)
		r = resolve(root, &top, err);
	if (r == 0 && kind != ROOT_NONE && !is_below(real, top))
		r = davit_error_set(err, DAVIT_EPERM, "mounts", "%s leads out of %s by a link, to %s", path,
				    root, real);
	if (r == 0)
		*ret = DAVIT_TAKE(real);
	return r;
}

int davit_workspace_mount_target(const char *path, const struct davit_workspace_roots *roots, char **ret,
				 struct davit_error *err)
{
	const char *rest = path, *root;
	int r = davit_workspace_path_check(path, err), kind;
	char *full;

	if (r < 0)
		return r;
	kind = root_of(&rest);
	root = kind == ROOT_SOURCES ? roots->inside : kind == ROOT_HOME ? roots->home_inside : "";
	if (!root)
		return davit_error_set(err, DAVIT_ENOTSUP, "mounts",
				       "%s: the home directory inside the image is not known; set HOME in "
				       "'environment'",
				       path);
	full = join(root, rest);
	if (!full)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (!strcmp(full, "/")) {
		free(full);
		return davit_error_set(err, DAVIT_EINVAL, "mounts", "nothing can be mounted as /");
	}
	*ret = full;
	return 0;
}

int davit_workspace_mount_recheck(const char *path, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *real = NULL;
	int r = resolve(path, &real, err);

	if (r == 0 && strcmp(real, path) != 0)
		r = davit_error_set(err, DAVIT_EPERM, "mounts",
				    "%s has become a link to %s since it was checked", path, real);
	return r;
}
