/* SPDX-License-Identifier: MIT
 *
 * The root of a container as the container sees it. While it runs, its own mounts are there,
 * behind /proc/PID/root. Otherwise they are made here, in a mount namespace that ends with
 * this program: what is copied to a volume goes into the volume.
 */
#include "runtime/oci/copier.h"

#include "base/buf.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

int copier_open(int root, const char *path, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC),
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};

	return (int)syscall(SYS_openat2, root, path, &how, sizeof how);
}

/* As copier_open; directories that are missing are made. */
static int make_path(int root, const char *path)
{
	DAVIT_AUTO_FREE char *part = strdup(path);
	int fd = part ? copier_open(root, path, O_PATH | O_DIRECTORY) : -1;

	for (char *slash = part; fd < 0 && slash && errno == ENOENT;) {
		DAVIT_AUTO_CLOSE int parent = -1;
		char *begin = slash + strspn(slash, "/"), end;

		slash = begin + strcspn(begin, "/");
		if (slash == begin)
			break;
		/* What is before this component is there by now. */
		end = *begin;
		*begin = '\0';
		parent = copier_open(root, *part ? part : ".", O_PATH | O_DIRECTORY);
		*begin = end;
		end = *slash;
		*slash = '\0';
		if (parent < 0 || (mkdirat(parent, begin, 0755) < 0 && errno != EEXIST))
			return -1;
		*slash = end;
		fd = copier_open(root, path, O_PATH | O_DIRECTORY);
	}
	return fd;
}

/* --- one that runs --- */

/* The pid may be another's by now: the root itself tells whether it is the one. */
static int open_running(const char *path, int pid)
{
	DAVIT_AUTO_CLOSE int fd = -1;
	struct stat a, b;
	char link[48];

	snprintf(link, sizeof link, "/proc/%d/root", pid);
	fd = open(link, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &a) < 0 || stat(path, &b) < 0 || a.st_dev != b.st_dev || a.st_ino != b.st_ino)
		return -1;
	return DAVIT_TAKE_FD(fd);
}

/* --- one that does not --- */

static int failed(struct davit_error *err, int sys, const char *what)
{
	return davit_error_errno(err, sys, "copy", "%s", what);
}

static int put(const char *path, const char *text)
{
	DAVIT_AUTO_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd < 0 || write(fd, text, strlen(text)) < 0 ? -1 : 0;
}

/* Where we are not root, in a user namespace in which we are. */
static int leave_namespaces(void)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	char map[32];

	if (unshare(CLONE_NEWNS | (uid ? CLONE_NEWUSER : 0)) < 0)
		return -1;
	if (uid) {
		snprintf(map, sizeof map, "0 %u 1\n", uid);
		if (put("/proc/self/uid_map", map) < 0 || put("/proc/self/setgroups", "deny") < 0)
			return -1;
		snprintf(map, sizeof map, "0 %u 1\n", gid);
		if (put("/proc/self/gid_map", map) < 0)
			return -1;
	}
	return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

static int set_read_only(int tree)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};

	return mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof attr);
}

/* Where it is to be mounted, made like crun and runc make it. */
static int open_target(int root, const char *target, bool directory)
{
	DAVIT_AUTO_FREE char *parent = NULL;
	DAVIT_AUTO_CLOSE int dir = -1;
	int fd = copier_open(root, target, O_PATH);
	const char *name;

	if (fd >= 0 || errno != ENOENT)
		return fd;
	if (directory)
		return make_path(root, target);
	name = strrchr(target, '/') + 1;
	parent = strndup(target, (size_t)(name - target));
	dir = parent ? make_path(root, parent) : -1;
	return dir < 0 ? -1 : openat(dir, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
}

static int mount_one(int root, const char *source, const char *target, bool read_only)
{
	DAVIT_AUTO_CLOSE int tree =
		open_tree(AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	DAVIT_AUTO_CLOSE int at = -1;
	struct stat st;

	if (tree < 0 || fstat(tree, &st) < 0)
		return -1;
	at = open_target(root, target, S_ISDIR(st.st_mode));
	if (at < 0 || (read_only && set_read_only(tree) < 0))
		return -1;
	return move_mount(tree, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

static bool has_option(json_t *mount, const char *wanted)
{
	json_t *o;
	size_t i;

	json_array_foreach(json_object_get(mount, "options"), i,
			   o) if (json_is_string(o) && !strcmp(json_string_value(o), wanted)) return true;
	return false;
}

/* Those of directories and files of the host; what is in memory ended with the run. */
static int mount_all(int root, json_t *config, struct davit_error *err)
{
	json_t *m;
	size_t i;

	json_array_foreach(json_object_get(config, "mounts"), i, m)
	{
		const char *source = json_string_value(json_object_get(m, "source"));
		const char *target = json_string_value(json_object_get(m, "destination"));

		if (!source || !target || *source != '/' || *target != '/' ||
		    !(has_option(m, "bind") || has_option(m, "rbind")) || !strncmp(target, "/dev/", 5))
			continue;
		if (mount_one(root, source, target, has_option(m, "ro")) < 0)
			return davit_error_errno(err, errno, "copy", "cannot mount %s at %s", source, target);
	}
	if (json_is_true(json_object_get(json_object_get(config, "root"), "readonly")) &&
	    set_read_only(root) < 0)
		return failed(err, errno, "cannot make the root read-only");
	return 0;
}

static int open_stopped(const char *path, const char *bundle, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *file = davit_path_join(bundle, "config.json");
	DAVIT_AUTO_CLOSE int root = -1;
	json_t *config;
	int r;

	if (!file)
		return davit_error_set(err, DAVIT_ENOMEM, "copy", "out of memory");
	if (leave_namespaces() < 0)
		return failed(err, errno, "cannot make a mount namespace");
	/* A mount of its own, whose flags are nobody else's. */
	root = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	if (root < 0 || move_mount(root, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return failed(err, errno, "cannot open the root file system");
	config = json_load_file(file, 0, NULL);
	if (!config)
		return davit_error_set(err, DAVIT_ECORRUPT, "copy", "cannot read %s", file);
	r = mount_all(root, config, err);
	json_decref(config);
	return r < 0 ? r : DAVIT_TAKE_FD(root);
}

int copier_root(const char *root, const char *bundle, int pid, struct davit_error *err)
{
	int fd = pid > 0 ? open_running(root, pid) : -1;

	return fd >= 0 ? fd : open_stopped(root, bundle, err);
}
