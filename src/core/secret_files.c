/* SPDX-License-Identifier: MIT
 *
 * Secrets as files for workloads. Every directory here belongs to the daemon,
 * and names are opened relative to its descriptor without following links.
 */
#include "core/secret_impl.h"

#include "base/file.h"
#include "base/log.h"
#include "base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define SHARED_MEMORY "/dev/shm"
#define MAKE_TRIES 10

static int no_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

static bool in_memory(const char *dir)
{
	struct statfs fs;

	return !statfs(dir, &fs) &&
	       ((unsigned long)fs.f_type == TMPFS_MAGIC || (unsigned long)fs.f_type == RAMFS_MAGIC);
}

/* Makes a directory of ours, or takes one that is there if it really is ours:
 * /dev/shm can be written to by everyone. 0711: those below are reached by
 * workloads of other users, and not listed. */
static int own_directory(const char *path, struct davit_error *err)
{
	struct stat st;

	if (mkdir(path, 0700) < 0 ? errno != EEXIST : chmod(path, 0711) < 0) /* whatever the umask */
		return davit_error_errno(err, errno, NULL, "cannot make %s", path);
	if (lstat(path, &st) < 0)
		return davit_error_errno(err, errno, NULL, "cannot use %s", path);
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022))
		return davit_error_set(err, DAVIT_EPERM, NULL, "%s is not a directory of the daemon's own",
				       path);
	return 0;
}

/* A directory under /dev/shm that is the same for every daemon on this run_dir:
 * the path is spelt with '-' for '/'. */
static int shared_memory_directory(const char *run_dir, char **ret_base, char **ret, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *base = NULL;

	if (!in_memory(SHARED_MEMORY))
		return davit_error_set(
			err, DAVIT_ENOTSUP, NULL,
			"secrets as files need a tmpfs: neither %s nor " SHARED_MEMORY " is on one", run_dir);
	if (asprintf(&base, SHARED_MEMORY "/davit-%u", (unsigned)geteuid()) < 0) {
		base = NULL;
		return no_memory(err);
	}
	if (asprintf(ret, "%s/%s", base, run_dir + (*run_dir == '/')) < 0) {
		*ret = NULL;
		return no_memory(err);
	}
	for (char *p = *ret + strlen(base) + 1; *p; p++)
		if (*p == '/')
			*p = '-';
	*ret_base = DAVIT_TAKE(base);
	return 0;
}

/* Every user can get there: the run directory of root is usually closed to others, who may
 * be given a secret all the same. */
static bool is_open_to_all(const char *path)
{
	DAVIT_AUTO_FREE char *at = strdup(path);
	char *slash = at;
	struct stat st;

	while (slash && *at) {
		if (stat(at, &st) < 0 || !(st.st_mode & S_IXOTH))
			return false;
		slash = strrchr(at, '/');
		if (slash)
			*slash = '\0';
	}
	return at != NULL;
}

/* Where the files are, and the directory above that is ours as well, or NULL. */
static int place(const struct davit_secrets *s, char **ret_base, char **ret_dir, struct davit_error *err)
{
	if (!in_memory(s->run_dir) ||
	    (geteuid() == 0 && !is_open_to_all(s->run_dir) && in_memory(SHARED_MEMORY)))
		return shared_memory_directory(s->run_dir, ret_base, ret_dir, err);
	*ret_dir = davit_path_join(s->run_dir, "credentials");
	return *ret_dir ? 0 : no_memory(err);
}

/* DAVIT_ENOENT too where another daemon of this user has just removed the empty one above. */
static int own_both(const char *base, const char *dir, struct davit_error *err)
{
	int r = base ? own_directory(base, err) : 0;

	return r < 0 ? r : own_directory(dir, err);
}

static int need_directory(struct davit_secrets *s, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *base = NULL, *dir = NULL;
	int r;

	if (s->files_dir)
		return 0;
	r = place(s, &base, &dir, err);
	if (!r)
		r = own_both(base, dir, err);
	for (int tries = 1; r == DAVIT_ENOENT && tries < MAKE_TRIES; tries++)
		r = own_both(base, dir, err);
	if (!r)
		s->files_dir = DAVIT_TAKE(dir);
	return r;
}

/* The directory that a daemon before us has made; none is made. */
static const char *find_directory(struct davit_secrets *s)
{
	DAVIT_AUTO_FREE char *base = NULL, *dir = NULL;
	struct davit_error err;

	if (!s->files_dir && !s->looked && !place(s, &base, &dir, &err) && !access(dir, F_OK) &&
	    !own_directory(dir, &err))
		s->files_dir = DAVIT_TAKE(dir);
	s->looked = true;
	return s->files_dir;
}

void secret_files_leave(struct davit_secrets *s)
{
	char *slash;

	if (!s->files_dir || rmdir(s->files_dir) < 0)
		return;
	slash = strrchr(s->files_dir, '/');
	if (!strncmp(s->files_dir, SHARED_MEMORY "/", strlen(SHARED_MEMORY "/"))) {
		*slash = '\0';
		rmdir(s->files_dir); /* unless another daemon has something there */
	}
	free(DAVIT_TAKE(s->files_dir));
	s->looked = true;
}

static int write_one(int dir, const char *name, const struct davit_secret *v, uid_t uid, gid_t gid,
		     struct davit_error *err)
{
	static const char temporary[] = "-new"; /* no secret's name begins so */
	DAVIT_AUTO_CLOSE int fd = -1;
	int saved;

	unlinkat(dir, temporary, 0);
	fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0400);
	if (fd >= 0 && !davit_write_full(fd, v->data, v->len) &&
	    (uid == (uid_t)-1 || !fchown(fd, uid, gid)) && !renameat(dir, temporary, dir, name))
		return 0;
	saved = errno;
	unlinkat(dir, temporary, 0);
	return davit_error_errno(err, saved, NULL, "cannot write the secret '%s' for the workload", name);
}

static bool is_wanted(const char *name, const struct davit_secret_ref *refs, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!refs[i].env && !strcmp(refs[i].name, name))
			return true;
	return false;
}

/* Removes files that an earlier call has written and this one does not want. */
static int remove_others(int dir, const struct davit_secret_ref *refs, size_t n, struct davit_error *err)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d) {
		r = davit_error_errno(err, errno, NULL, "cannot read the directory of secrets");
		if (fd >= 0)
			close(fd);
		return r;
	}
	while (!r && (e = readdir(d)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
		    !is_wanted(e->d_name, refs, n) && unlinkat(dir, e->d_name, 0) < 0)
			r = davit_error_errno(err, errno, NULL, "cannot remove the secret '%s'", e->d_name);
	closedir(d);
	return r;
}

static int write_all(struct davit_secrets *s, int dir, const char *namespace_,
		     const struct davit_secret_ref *refs, size_t n, uid_t uid, gid_t gid,
		     struct davit_error *err)
{
	int r = 0;

	for (size_t i = 0; !r && i < n; i++) {
		struct davit_secret v = {0};

		if (refs[i].env)
			continue;
		r = davit_secrets_get(s, namespace_, refs[i].name, &v, err);
		if (!r)
			r = write_one(dir, refs[i].name, &v, uid, gid, err);
		davit_secret_wipe(&v);
	}
	return r ? r : remove_others(dir, refs, n, err);
}

int davit_secrets_materialise(struct davit_secrets *s, const char *name, const char *namespace_,
			      const struct davit_secret_ref *refs, size_t n, uid_t uid, gid_t gid,
			      char **ret_dir, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *path = NULL;
	DAVIT_AUTO_CLOSE int dir = -1;
	bool fresh;
	int r = davit_name_check("directory", name, err);

	if (!r)
		r = need_directory(s, err);
	if (r)
		return r;
	path = davit_path_join(s->files_dir, name);
	if (!path)
		return no_memory(err);
	fresh = !mkdir(path, 0700);
	if (!fresh && errno != EEXIST)
		return davit_error_errno(err, errno, NULL, "cannot make %s", path);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 || fchmod(dir, uid == (uid_t)-1 || uid == geteuid() ? 0700 : 0711) < 0)
		r = davit_error_errno(err, errno, NULL, "cannot use %s", path);
	if (!r)
		r = write_all(s, dir, namespace_, refs, n, uid, gid, err);
	if (r) {
		if (fresh && davit_remove_tree(path, NULL) == 0)
			secret_files_leave(s);
		return r;
	}
	*ret_dir = DAVIT_TAKE(path);
	return 0;
}

int davit_secrets_discard(struct davit_secrets *s, const char *name, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *path = NULL;
	int r = davit_name_check("directory", name, err);

	if (r || !find_directory(s))
		return r;
	path = davit_path_join(s->files_dir, name);
	r = path ? davit_remove_tree(path, err) : no_memory(err);
	if (!r)
		secret_files_leave(s);
	return r;
}

void davit_secrets_sweep(struct davit_secrets *s, bool (*is_left)(void *user, const char *name), void *user)
{
	DIR *d = find_directory(s) ? opendir(s->files_dir) : NULL;
	struct davit_error err;
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.' && is_left(user, e->d_name) &&
		    davit_secrets_discard(s, e->d_name, &err) < 0)
			davit_log(DAVIT_LOG_WARNING, "%s", err.message);
	if (d)
		closedir(d);
	secret_files_leave(s);
}

int davit_secrets_directory(struct davit_secrets *s, const char *name, char **ret_dir,
			    struct davit_error *err)
{
	DAVIT_AUTO_FREE char *path = NULL;
	int r = davit_name_check("directory", name, err);

	if (!r)
		r = need_directory(s, err);
	if (r)
		return r;
	path = davit_path_join(s->files_dir, name);
	if (!path)
		return no_memory(err);
	if ((mkdir(path, 0700) < 0 && errno != EEXIST) || chmod(path, 0755) < 0) /* whatever the umask */
		return davit_error_errno(err, errno, NULL, "cannot make %s", path);
	*ret_dir = DAVIT_TAKE(path);
	return 0;
}
