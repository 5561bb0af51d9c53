/* SPDX-License-Identifier: MIT
 *
 * The step's file system. The host's root is cloned with all its mounts and made read-only as a whole;
 * what a step needs of its own is mounted over that. A root of its own is an overlay, whose upper layer
 * is thrown away. Everything is mounted by descriptors: no path of a tree is ever resolved by name, and
 * no character in one means anything to overlayfs.
 */
#include "davit/error.h"
#include "step/copy.h"
#include "step/helper.h"
#include "step/place.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define BASE "/tmp/build" /* DAVIT_STEP_BASE */

struct root {
	struct step *s;
	int own;  /* the step's own directory on the host */
	int fd;	  /* the new root */
	int next; /* number of the next upper directory */
};

#define FD_PATH_MAX 32
static char *fd_path(int fd, char buf[FD_PATH_MAX])
{
	snprintf(buf, FD_PATH_MAX, "/proc/self/fd/%d", fd);
	return buf;
}

static int place(struct root *r, const char *path)
{
	int fd = step_place(r->fd, path);

	if (fd < 0 && errno == EROFS)
		step_fail(r->s, DAVIT_EINVAL, 0,
			  "nothing can be mounted at %s: there is no such directory in the host's "
			  "root, which is read-only; use a path below " BASE,
			  path);
	if (fd < 0)
		step_fail(r->s, DAVIT_EINVAL, errno, "nothing can be mounted at %s", path);
	return fd;
}

/* Clones what is at a path of the host, with such attributes. */
static int clone_tree(struct step *s, const char *source, unsigned flags, uint64_t attributes)
{
	struct mount_attr a = {.attr_set = attributes, .propagation = MS_PRIVATE};
	int fd = open_tree(AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | flags);

	if (fd < 0)
		step_fail(s, DAVIT_EIO, errno, "cannot mount %s", source);
	if (mount_setattr(fd, "", AT_EMPTY_PATH | (flags & AT_RECURSIVE), &a, sizeof a) < 0)
		step_fail(s, errno == ENOSYS ? DAVIT_ENOTSUP : DAVIT_EIO, errno,
			  "cannot restrict the mount of %s", source);
	return fd;
}

static void attach(struct step *s, int tree, int at, const char *what)
{
	if (move_mount(tree, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		step_fail(s, DAVIT_EIO, errno, "cannot mount %s", what);
	close(tree);
	close(at);
}

static void mount_new(struct root *r, const char *type, const char *path, unsigned long flags,
		      const char *data)
{
	char target[FD_PATH_MAX];
	int fd = place(r, path);

	if (mount(type, fd_path(fd, target), type, flags, data) < 0)
		step_fail(r->s, errno == EPERM ? DAVIT_ENOTSUP : DAVIT_EIO, errno, "cannot mount %s at %s",
			  type, path);
	close(fd);
}

static int own_directory(struct root *r, const char *name, mode_t mode)
{
	int fd;

	if (mkdirat(r->own, name, mode) < 0 && errno != EEXIST)
		step_fail(r->s, DAVIT_EIO, errno, "cannot make %s/%s", r->s->directory, name);
	fd = openat(r->own, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fchmod(fd, mode) < 0)
		step_fail(r->s, DAVIT_EIO, errno, "cannot make %s/%s", r->s->directory, name);
	return fd;
}

static void bind_own(struct root *r, const char *name, const char *path, mode_t mode)
{
	char source[PATH_MAX];

	close(own_directory(r, name, mode));
	snprintf(source, sizeof source, "%s/%s", r->s->directory, name);
	attach(r->s, clone_tree(r->s, source, 0, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV), place(r, path), path);
}

/* ---------------------------------------------------------------------- copy-on-write */

#define LAYERS_MAX 200 /* their names must fit into the one page that mount takes */

struct layers {
	int fds[LAYERS_MAX]; /* the highest first */
	size_t n;
};

/* Mounts an overlay over `low` at `at`. 0 or an errno. */
static int overlay(struct root *r, const struct layers *low, int upper, int work, int at, unsigned long flags)
{
	char data[LAYERS_MAX * (FD_PATH_MAX - 14) + 256], path[FD_PATH_MAX];
	size_t n = (size_t)sprintf(data, "lowerdir=");

	for (size_t i = 0; i < low->n; i++)
		n += (size_t)sprintf(data + n, "%s%s", i ? ":" : "", fd_path(low->fds[i], path));
	n += (size_t)sprintf(data + n, ",upperdir=%s", fd_path(upper, path));
	/* volatile: what is thrown away need not reach the disk. */
	sprintf(data + n, ",workdir=%s,volatile%s", fd_path(work, path), r->s->rootless ? ",userxattr" : "");
	return mount("overlay", fd_path(at, path), "overlay", flags, data) < 0 ? errno : 0;
}

static void open_layers(struct root *r, const char *const *sources, size_t n, struct layers *ret)
{
	if (n > LAYERS_MAX)
		step_fail(r->s, DAVIT_ENOTSUP, 0, "an image of %zu layers: a step can have %d", n,
			  LAYERS_MAX);
	for (size_t i = 0; i < n; i++) {
		ret->fds[i] = open(sources[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (ret->fds[i] < 0)
			step_fail(r->s, errno == ENOENT ? DAVIT_ENOENT : DAVIT_EIO, errno, "cannot open %s",
				  sources[i]);
	}
	ret->n = n;
}

/* A copy, where an overlay is not to be had for the reason e. */
static void copy_layers(struct root *r, const struct layers *low, int upper, const char *path, int e)
{
	char why[128];

	/* What a layer removes of the one below only overlayfs knows to read. */
	if (low->n > 1)
		step_fail(r->s, DAVIT_ENOTSUP, e, "an image of several layers needs overlayfs");
	step_note(r->s, "%s is a copy: overlayfs is not to be had here: %s", path, strerror(e));
	e = step_copy_tree(low->fds[0], upper, why, sizeof why);
	if (e)
		step_fail(r->s, e == ENOSPC ? DAVIT_ENOSPC : DAVIT_EIO, e, "cannot copy %s for %s", why,
			  path);
}

/* Puts a writable view of the directories `sources` (the highest first) at `at`, whose changes nobody else
 * sees: an overlay, or a copy where that is not to be had. */
static void mount_over(struct root *r, const char *const *sources, size_t n, int at, unsigned long flags,
		       const char *path)
{
	char up[24], work[24], copy[PATH_MAX];
	int number = r->next++, upper, worker, e;
	struct layers low;
	struct stat st;

	open_layers(r, sources, n, &low);
	if (fstat(low.fds[0], &st) < 0)
		step_fail(r->s, DAVIT_EIO, errno, "cannot look at %s", sources[0]);
	snprintf(up, sizeof up, "upper-%d", number);
	snprintf(work, sizeof work, "work-%d", number);
	/* The merged root shows the mode of the upper one. */
	upper = own_directory(r, up, st.st_mode & 07777);
	worker = own_directory(r, work, 0700);
	e = overlay(r, &low, upper, worker, at, flags);
	close(worker);
	if (e) {
		copy_layers(r, &low, upper, path, e);
		snprintf(copy, sizeof copy, "%s/%s", r->s->directory, up);
		attach(r->s,
		       clone_tree(r->s, copy, 0, flags & MS_NODEV ? MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV : 0),
		       at, path);
	} else {
		close(at);
	}
	close(upper);
	for (size_t i = 0; i < low.n; i++)
		close(low.fds[i]);
}

static void mount_copy(struct root *r, const struct step_mount_order *m)
{
	int from = open(m->source, O_RDONLY | O_DIRECTORY | O_CLOEXEC), to, e;
	char why[128];

	to = open(m->copy, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (from < 0 || to < 0)
		step_fail(r->s, DAVIT_EIO, errno, "cannot copy %s", m->source);
	e = step_copy_tree(from, to, why, sizeof why);
	if (e)
		step_fail(r->s, e == ENOSPC ? DAVIT_ENOSPC : DAVIT_EIO, e, "cannot copy %s: %s", m->source,
			  why);
	close(from);
	close(to);
	attach(r->s, clone_tree(r->s, m->copy, 0, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV), place(r, m->target),
	       m->target);
}

static void mount_artifacts(struct root *r)
{
	for (size_t i = 0; i < r->s->n_mounts; i++) {
		const struct step_mount_order *m = &r->s->mounts[i];

		if (m->kind == STEP_MOUNT_OVER)
			mount_over(r, &m->source, 1, place(r, m->target), MS_NOSUID | MS_NODEV, m->target);
		else if (m->kind == STEP_MOUNT_COPY)
			mount_copy(r, m);
		else
			attach(r->s, clone_tree(r->s, m->source, 0, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV),
			       place(r, m->target), m->target);
	}
}

/* ------------------------------------------------------------------------ the system's own */

static void bind_file(struct root *r, const char *source, int directory, const char *name)
{
	int at = openat(directory, name, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
	int tree = open_tree(AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (at < 0 || tree < 0)
		step_fail(r->s, DAVIT_EIO, errno, "cannot provide %s", source);
	attach(r->s, tree, at, source);
}

static void mount_dev(struct root *r)
{
	static const char *const devices[] = {"null", "zero", "full", "random", "urandom", "tty"};
	static const char *const links[][2] = {{"/proc/self/fd", "fd"},
					       {"/proc/self/fd/0", "stdin"},
					       {"/proc/self/fd/1", "stdout"},
					       {"/proc/self/fd/2", "stderr"},
					       {"pts/ptmx", "ptmx"}};
	int fd;

	if (r->s->options.privileged) {
		attach(r->s, clone_tree(r->s, "/dev", AT_RECURSIVE, 0), place(r, "/dev"), "/dev");
		return;
	}
	mount_new(r, "tmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=755,size=64k,nr_inodes=64");
	fd = place(r, "/dev");
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(devices); i++) {
		char source[32];
		snprintf(source, sizeof source, "/dev/%s", devices[i]);
		bind_file(r, source, fd, devices[i]);
	}
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(links); i++)
		if (symlinkat(links[i][0], fd, links[i][1]) < 0)
			step_fail(r->s, DAVIT_EIO, errno, "cannot make /dev/%s", links[i][1]);
	close(fd);
	mount_new(r, "devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620");
	bind_own(r, "shm", "/dev/shm", 01777);
}

/* Of this namespace: who asks for it knows that this kernel has such a limit. */
static void limit_pids(struct root *r)
{
	int fd = openat(r->fd, "proc/sys/kernel/pid_max", O_WRONLY | O_CLOEXEC);
	char text[16];
	int n = snprintf(text, sizeof text, "%u", r->s->options.pid_max);

	if (fd < 0 || write(fd, text, (size_t)n) != n)
		step_fail(r->s, DAVIT_EIO, errno, "cannot limit the number of processes");
	close(fd);
}

/* What in /proc would let root of the step change the host. In a user namespace the kernel refuses. */
static void protect_proc(struct root *r)
{
	static const char *const paths[] = {"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus",
					    "/proc/fs"};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(paths); i++) {
		struct mount_attr a = {.attr_set = MOUNT_ATTR_RDONLY};
		int at = openat(r->fd, paths[i] + 1, O_PATH | O_CLOEXEC), tree;

		if (at < 0)
			continue; /* this kernel has none */
		tree = open_tree(at, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
		if (tree < 0 || mount_setattr(tree, "", AT_EMPTY_PATH, &a, sizeof a) < 0)
			step_fail(r->s, DAVIT_EIO, errno, "cannot protect %s", paths[i]);
		attach(r->s, tree, at, paths[i]);
	}
}

/* Empty and read-only, where there is such a directory. */
static void hide(struct root *r, const char *path)
{
	char target[FD_PATH_MAX];
	int fd = openat(r->fd, path[1] ? path + 1 : ".", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return; /* not there, or covered already */
	if (mount("tmpfs", fd_path(fd, target), "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV,
		  "mode=755,size=4k") < 0)
		step_fail(r->s, DAVIT_EIO, errno, "cannot hide %s", path);
	close(fd);
}

/* The list of name servers often lies in /run, which is the step's own. */
static void keep_resolver(struct root *r)
{
	char real[PATH_MAX], *slash;
	int directory;

	if (r->s->options.hermetic || !realpath("/etc/resolv.conf", real) || strncmp(real, "/run/", 5) != 0)
		return;
	slash = strrchr(real, '/');
	*slash = '\0';
	directory = place(r, real);
	*slash = '/';
	bind_file(r, real, directory, slash + 1);
	close(directory);
}

static void host_root(struct root *r)
{
	uint64_t attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID;
	int at = own_directory(r, "root", 0755);

	if (r->s->options.privileged)
		attributes = MOUNT_ATTR_RDONLY;
	attach(r->s, clone_tree(r->s, "/", AT_RECURSIVE, attributes), at, "the host's root");
	r->fd = openat(r->own, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (r->fd < 0)
		step_fail(r->s, DAVIT_EIO, errno, "cannot open the new root");
	mount_new(r, "tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=755,size=16m");
	keep_resolver(r);
	bind_own(r, "tmp", "/tmp", 01777);
	bind_own(r, "vartmp", "/var/tmp", 01777);
	hide(r, "/root");
	hide(r, "/home");
	for (size_t i = 0; i < r->s->n_hide; i++)
		hide(r, r->s->hide[i]);
}

static void copy_resolver(struct root *r)
{
	int etc = openat(r->fd, "etc", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), from, to;
	char buf[4096];
	ssize_t n;

	if (etc < 0 || r->s->options.hermetic)
		goto out;
	from = open("/etc/resolv.conf", O_RDONLY | O_CLOEXEC);
	n = from < 0 ? 0 : read(from, buf, sizeof buf);
	if (from >= 0)
		close(from);
	unlinkat(etc, "resolv.conf", 0);
	to = n > 0 ? openat(etc, "resolv.conf", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644) : -1;
	if (n > 0 && (to < 0 || davit_write_full(to, buf, (size_t)n) < 0))
		step_note(r->s, "the list of name servers could not be written: %s", strerror(errno));
	if (to >= 0)
		close(to);
out:
	if (etc >= 0)
		close(etc);
}

static void own_root(struct root *r)
{
	mount_over(r, r->s->roots, r->s->n_roots, own_directory(r, "root", 0755), 0, "the root");
	r->fd = openat(r->own, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (r->fd < 0)
		step_fail(r->s, DAVIT_EIO, errno, "cannot open the new root");
	bind_own(r, "tmp", "/tmp", 01777);
	copy_resolver(r);
	attach(r->s, clone_tree(r->s, "/sys", AT_RECURSIVE, MOUNT_ATTR_RDONLY), place(r, "/sys"), "/sys");
}

/* Its processes' own, which needs their namespace. */
static void mount_proc(struct root *r)
{
	mount_new(r, "proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	if (r->s->options.pid_max)
		limit_pids(r);
	if (!r->s->rootless && !r->s->options.privileged)
		protect_proc(r);
}

static void make_root(struct root *r, bool with_proc)
{
	struct step *s = r->s;

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		step_fail(s, DAVIT_EIO, errno, "cannot separate the mounts from the host's");
	r->own = open(s->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r->own < 0)
		step_fail(s, DAVIT_EIO, errno, "cannot open %s", s->directory);
	if (s->n_roots)
		own_root(r);
	else
		host_root(r);
	mount_dev(r);
	if (with_proc)
		mount_proc(r);
	close(place(r, BASE));
	close(place(r, "/tmp/home"));
	mount_artifacts(r);
}

int step_make_root(struct step *s)
{
	struct root r = {.s = s, .fd = -1};

	make_root(&r, false);
	close(r.own);
	return r.fd;
}

void step_enter_root(struct step *s)
{
	struct root r = {.s = s, .fd = -1};

	make_root(&r, true);
	if (fchdir(r.fd) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 ||
	    chdir("/") < 0)
		step_fail(s, DAVIT_EIO, errno, "cannot enter the new root");
	close(r.fd);
	close(r.own);
}
