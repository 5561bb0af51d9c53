/* SPDX-License-Identifier: MIT */
#include "base/paths.h"

#include "base/file.h"
#include "base/util.h"

#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#ifndef DAVIT_SOURCE_ROOT
#define DAVIT_SOURCE_ROOT ""
#endif

static char *under(const char *base, const char *name)
{
	return base ? davit_path_join(base, name) : NULL;
}

/* $var/davit, or ~/fallback/davit. Relative values are ignored (XDG 0.8). */
static char *xdg(const char *var, const char *fallback)
{
	const char *v = secure_getenv(var), *home = secure_getenv("HOME");
	char *s = NULL;

	if (v && v[0] == '/') {
		if (asprintf(&s, "%s/davit", v) < 0)
			s = NULL;
		return s;
	}
	if (!home || home[0] != '/') {
		struct passwd *pw = getpwuid(geteuid());
		home = pw ? pw->pw_dir : "/";
	}
	if (asprintf(&s, "%s/%s/davit", home, fallback) < 0)
		s = NULL;
	return s;
}

static char *runtime_dir(void)
{
	const char *v = secure_getenv("XDG_RUNTIME_DIR");
	char *s = NULL;

	if (v && v[0] == '/')
		return davit_path_join(v, "davit");
	return asprintf(&s, "/tmp/davit-%d", (int)geteuid()) < 0 ? NULL : s;
}

static bool exists(const char *dir, const char *name)
{
	DAVIT_AUTO_FREE char *p = davit_path_join(dir, name);

	return p && access(p, F_OK) == 0;
}

/* The cells and examples that belong to a program in this directory: installed
 * (PREFIX/bin, PREFIX/lib/davit) or built within the source tree. */
static char *find_share(const char *self)
{
	static const char *const shares[] = {"../share/davit", "../../share/davit", ".."};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(shares); i++) {
		DAVIT_AUTO_FREE char *dir = davit_path_join(self, shares[i]);
		if (!dir)
			return NULL;
		if (exists(dir, "cells"))
			return realpath(dir, NULL);
	}
	return strdup(DAVIT_SOURCE_ROOT[0] ? DAVIT_SOURCE_ROOT : "/usr/share/davit");
}

/* The directory of the running program, empty for the root; -1 with errno. */
static int own_directory(char ret[PATH_MAX])
{
	ssize_t n = readlink("/proc/self/exe", ret, PATH_MAX - 1);

	if (n < 0)
		return -1;
	ret[n] = '\0';
	*strrchr(ret, '/') = '\0';
	return 0;
}

static int program_paths(struct davit_paths *p, struct davit_error *err)
{
	char self[PATH_MAX];

	if (own_directory(self) < 0)
		return davit_error_errno(err, errno, NULL, "cannot read /proc/self/exe");
	p->bin = strdup(self[0] ? self : "/");
	if (exists(self, "davitd"))
		p->libexec = strdup(self);
	else
		p->libexec = under(self, "../lib/davit");
	p->share = find_share(self);
	return 0;
}

char *davit_beside_program(const char *name)
{
	char self[PATH_MAX], *path;

	if (own_directory(self) < 0)
		return NULL;
	path = davit_path_join(self[0] ? self : "/", name);
	if (!path)
		errno = ENOMEM;
	return path;
}

char *davit_installed_program(const char *name)
{
	static const char *const dirs[] = {"/usr/local/sbin", "/usr/local/bin", "/usr/sbin",
					   "/usr/bin",	      "/sbin",		"/bin"};

	if (strchr(name, '/'))
		return access(name, X_OK) == 0 ? strdup(name) : NULL;
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(dirs); i++) {
		DAVIT_AUTO_FREE char *path = davit_path_join(dirs[i], name);

		if (path && access(path, X_OK) == 0)
			return DAVIT_TAKE(path);
	}
	return NULL;
}

/* SQLite takes paths of 511 bytes, of which store.db-journal needs its part. */
enum { DIRECTORY_MAX = 480 };

static int check_lengths(const struct davit_paths *p, struct davit_error *err)
{
	const char *const dirs[] = {p->state, p->run, p->log, p->cache};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(dirs); i++)
		if (strlen(dirs[i]) > DIRECTORY_MAX)
			return davit_error_set(err, DAVIT_EINVAL, "DAVIT_HOME",
					       "the directory '%.64s...' has a name of %zu bytes, and %d are "
					       "possible: set DAVIT_HOME to a shorter one",
					       dirs[i], strlen(dirs[i]), DIRECTORY_MAX);
	return 0;
}

int davit_paths_init(struct davit_paths *p, struct davit_error *err)
{
	const char *home = secure_getenv("DAVIT_HOME");
	int r;

	*p = (struct davit_paths){0};
	if (home && home[0]) {
		DAVIT_AUTO_FREE char *cwd = home[0] == '/' ? NULL : getcwd(NULL, 0);
		DAVIT_AUTO_FREE char *base = cwd ? davit_path_join(cwd, home) : strdup(home);
		p->state = under(base, "state");
		p->run = under(base, "run");
		p->log = under(base, "log");
		p->cache = under(base, "cache");
		p->config = under(base, "config");
	} else if (geteuid() == 0) {
		p->state = strdup("/var/lib/davit");
		p->run = strdup("/run/davit");
		p->log = strdup("/var/log/davit");
		p->cache = strdup("/var/cache/davit");
		p->config = strdup("/etc/davit");
	} else {
		p->state = xdg("XDG_STATE_HOME", ".local/state");
		p->run = runtime_dir();
		p->log = under(p->state, "log");
		p->cache = xdg("XDG_CACHE_HOME", ".cache");
		p->config = xdg("XDG_CONFIG_HOME", ".config");
	}
	p->socket = under(p->run, "davit.sock");
	r = program_paths(p, err);
	if (r == 0 && (!p->state || !p->run || !p->log || !p->cache || !p->config || !p->socket || !p->bin ||
		       !p->libexec || !p->share))
		r = davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	if (r == 0)
		r = check_lengths(p, err);
	if (r < 0)
		davit_paths_fini(p);
	return r;
}

/* Makes one directory private; a directory of somebody else's is refused. */
static int make_private(const char *path, struct davit_error *err)
{
	struct stat st;
	int r = davit_mkdirs(path, 0700, err);

	if (r < 0)
		return r;
	if (lstat(path, &st) < 0)
		return davit_error_errno(err, errno, NULL, "cannot look at %s", path);
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid())
		return davit_error_set(err, DAVIT_EPERM, NULL, "%s is not a directory of this user (uid %d)",
				       path, (int)geteuid());
	return 0;
}

int davit_paths_make(const struct davit_paths *p, struct davit_error *err)
{
	const char *const dirs[] = {p->state, p->run, p->log, p->cache};
	int r = 0;

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(dirs) && r == 0; i++)
		r = make_private(dirs[i], err);
	return r;
}

void davit_paths_fini(struct davit_paths *p)
{
	char **all[] = {&p->state,  &p->run, &p->log,	  &p->cache, &p->socket,
			&p->config, &p->bin, &p->libexec, &p->share};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(all); i++) {
		free(*all[i]);
		*all[i] = NULL;
	}
}
