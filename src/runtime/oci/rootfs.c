/* SPDX-License-Identifier: MIT
 *
 * Root file systems: overlayfs over the layers of an image, or a copy of them where
 * there is no overlayfs.
 */
#include "runtime/oci/impl.h"

#include "base/file.h"
#include "base/strv.h"
#include "image/image.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

/* A directory of this host taken as an image's only layer. */
#define ROOTFS_PREFIX "rootfs:"

static int out_of_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, "image", "out of memory");
}

/* --- images --- */

static int find_rootfs(const char *path, struct oci_image *ret, struct davit_error *err)
{
	struct stat st;

	if (*path != '/')
		return davit_error_set(err, DAVIT_EINVAL, "image",
				       "'" ROOTFS_PREFIX "%s' names no absolute path", path);
	if (stat(path, &st) < 0)
		return davit_error_errno(err, errno, "image", "cannot use %s as a root file system", path);
	if (!S_ISDIR(st.st_mode))
		return davit_error_set(err, DAVIT_EINVAL, "image", "%s is not a directory", path);
	return davit_strv_add(&ret->layers, path) < 0 ? out_of_memory(err) : 0;
}

int oci_image_find(const struct oci_place *pl, const char *reference, const char *hold_as,
		   struct oci_image *ret, struct davit_error *err)
{
	struct davit_image_store *store;
	struct davit_image *i = NULL;
	int r;

	*ret = (struct oci_image){0};
	if (!strncmp(reference, ROOTFS_PREFIX, sizeof ROOTFS_PREFIX - 1))
		return find_rootfs(reference + sizeof ROOTFS_PREFIX - 1, ret, err);
	r = davit_image_store_open(pl->images, &store, err);
	if (r < 0)
		return r;
	r = hold_as ? davit_image_hold(store, hold_as, reference, false, &i, err)
		    : davit_image_resolve(store, reference, &i, err);
	davit_image_store_close(store);
	if (r < 0)
		return r;
	*ret = (struct oci_image){
		.id = strdup(i->id),
		.layers = DAVIT_TAKE(i->layers),
		.env = DAVIT_TAKE(i->env),
		.entrypoint = DAVIT_TAKE(i->entrypoint),
		.command = DAVIT_TAKE(i->command),
		.directory = DAVIT_TAKE(i->directory),
		.user = DAVIT_TAKE(i->user),
	};
	i->n_layers = 0;
	davit_image_free(i);
	if (ret->id)
		return 0;
	oci_image_fini(ret);
	return out_of_memory(err);
}

int oci_image_release(const struct oci_place *pl, const char *id, struct davit_error *err)
{
	struct davit_image_store *store;
	int r;

	if (access(pl->images, F_OK) < 0)
		return 0;
	r = davit_image_store_open(pl->images, &store, err);
	if (r < 0)
		return r;
	r = davit_image_release(store, id, err);
	davit_image_store_close(store);
	return r;
}

void oci_image_fini(struct oci_image *i)
{
	free(i->id);
	davit_strv_free(i->layers);
	davit_strv_free(i->env);
	davit_strv_free(i->entrypoint);
	davit_strv_free(i->command);
	free(i->directory);
	free(i->user);
	*i = (struct oci_image){0};
}

/* --- overlay --- */

static int option(int fs, const char *key, const char *value)
{
	return fsconfig(fs, FSCONFIG_SET_STRING, key, value, 0);
}

/* The highest comes first. Where a layer cannot be given by itself (before Linux 6.5),
 * all go in one option. */
static int set_layers(int fs, char *const *layers, size_t n)
{
	DAVIT_AUTO_BUF all = DAVIT_BUF_INIT;

	for (size_t i = n; i-- > 0;) {
		if (option(fs, "lowerdir+", layers[i]) == 0)
			continue;
		if (i + 1 < n)
			return -1;
		for (size_t k = n; k-- > 0;)
			davit_buf_addf(&all, "%s%s", layers[k], k ? ":" : "");
		if (all.oom) {
			errno = ENOMEM;
			return -1;
		}
		return option(fs, "lowerdir", all.data);
	}
	return 0;
}

/* Mounts; an errno or 0. Nothing is synced when it is unmounted ("volatile"): what a
 * container leaves is deleted then. */
static int mount_overlay(char *const *layers, const char *upper, const char *work, const char *target)
{
	DAVIT_AUTO_CLOSE int fs = fsopen("overlay", FSOPEN_CLOEXEC);
	DAVIT_AUTO_CLOSE int mnt = -1;

	if (fs < 0 || set_layers(fs, layers, davit_strv_len(layers)) < 0 ||
	    option(fs, "upperdir", upper) < 0 || option(fs, "workdir", work) < 0)
		return errno;
	if (fsconfig(fs, FSCONFIG_SET_FLAG, "volatile", NULL, 0) < 0 && errno != EINVAL)
		return errno;
	if (geteuid() && fsconfig(fs, FSCONFIG_SET_FLAG, "userxattr", NULL, 0) < 0)
		return errno;
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return errno;
	/* Devices of an image are none of its container's. */
	mnt = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NODEV);
	if (mnt < 0 || move_mount(mnt, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return errno;
	return 0;
}

/* The directories of one root; `disk`, a file with a file system in it, and `fs`, where that is
 * mounted and where upper and work are then, only with a limit of space. */
struct tree {
	char *base, *disk, *fs, *upper, *work, *root;
};

static void tree_fini(struct tree *t)
{
	free(t->base);
	free(t->disk);
	free(t->fs);
	free(t->upper);
	free(t->work);
	free(t->root);
}

static int tree_init(struct tree *t, const char *roots, const char *id, bool limited, struct davit_error *err)
{
	*t = (struct tree){
		.base = davit_path_join(roots, id),
		.disk = local_path(roots, id, "disk"),
		.fs = local_path(roots, id, "fs"),
		.upper = local_path(roots, id, limited ? "fs/upper" : "upper"),
		.work = local_path(roots, id, limited ? "fs/work" : "work"),
		.root = local_path(roots, id, "root"),
	};
	return t->base && t->disk && t->fs && t->upper && t->work && t->root ? 0 : out_of_memory(err);
}

/* The root's own attributes are those of the highest layer. */
static int make_upper(const char *upper, const char *top, struct davit_error *err)
{
	struct stat st;

	if (stat(top, &st) < 0)
		return davit_error_errno(err, errno, "image", "cannot look at %s", top);
	if (mkdir(upper, 0700) < 0 && errno != EEXIST)
		return davit_error_errno(err, errno, "image", "cannot make %s", upper);
	if ((geteuid() == 0 && lchown(upper, st.st_uid, st.st_gid) < 0) ||
	    chmod(upper, st.st_mode & 07777) < 0)
		return davit_error_errno(err, errno, "image", "cannot set the attributes of %s", upper);
	return 0;
}

static int make_overlay(const struct tree *t, const struct oci_image *image, struct davit_error *err)
{
	size_t n = davit_strv_len(image->layers);
	int r = make_upper(t->upper, image->layers[n - 1], err), e;

	if (r < 0)
		return r;
	if (mkdir(t->work, 0700) < 0 || mkdir(t->root, 0700) < 0)
		return davit_error_errno(err, errno, "image", "cannot make directories in %s", t->base);
	e = mount_overlay(image->layers, t->upper, t->work, t->root);
	return e ? davit_error_errno(err, e, "image", "cannot mount an overlay at %s", t->root) : 0;
}

static int copy_layers(const struct oci_place *pl, const struct tree *t, const struct oci_image *image,
		       struct davit_error *err)
{
	char *copy[] = {(char *)"/bin/cp", (char *)"-a", (char *)"-T", image->layers[0], t->root, NULL};
	char *flatten[] = {pl->image_program, (char *)"--store", pl->images, (char *)"flatten",
			   image->id,	      t->root,		 NULL};

	return oci_run(-1, image->id ? flatten : copy, err);
}

static int probe(const struct tree *t, char *lower)
{
	char *const layers[] = {lower, NULL};

	if (mkdir(t->base, 0700) < 0 || mkdir(lower, 0700) < 0 || mkdir(t->upper, 0700) < 0 ||
	    mkdir(t->work, 0700) < 0 || mkdir(t->root, 0700) < 0)
		return errno;
	return mount_overlay(layers, t->upper, t->work, t->root);
}

static bool try_overlay(const char *dir)
{
	struct tree t;
	DAVIT_AUTO_FREE char *lower = NULL;
	int e = ENOMEM;

	if (tree_init(&t, dir, "probe", false, NULL) == 0 && (lower = davit_path_join(t.base, "lower"))) {
		/* A daemon that was killed in here has left one. */
		umount2(t.root, MNT_DETACH);
		davit_remove_tree(t.base, NULL);
		e = probe(&t, lower);
		umount2(t.root, MNT_DETACH);
		davit_remove_tree(t.base, NULL);
	}
	tree_fini(&t);
	return e == 0;
}

/* Looked at for the first container, once for all runtimes of the daemon, whose directories
 * lie in one file system: trying it at each start would cost more than all else there. Where
 * it cannot be had it is tried again, which is nothing beside copying the layers. */
static bool has_overlay(const char *dir)
{
	static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	static bool works;
	bool r;

	pthread_mutex_lock(&mutex);
	if (!works)
		works = try_overlay(dir);
	r = works;
	pthread_mutex_unlock(&mutex);
	return r;
}

static int make_tree(const struct oci_place *pl, const struct tree *t, const struct oci_image *image,
		     uint64_t disk, struct davit_error *err)
{
	bool overlay = has_overlay(pl->roots);
	int r = 0;

	if (mkdir(t->base, 0711) < 0)
		return davit_error_errno(err, errno, "image", "cannot make %s", t->base);
	if (disk && !overlay)
		return davit_error_set(err, DAVIT_ENOTSUP, "resources.disk",
				       "cannot limit the disk: there is no overlayfs here");
	if (disk)
		r = oci_disk_make(pl, t->disk, t->fs, disk, err);
	if (r < 0)
		return r;
	return overlay ? make_overlay(t, image, err) : copy_layers(pl, t, image, err);
}

int oci_rootfs_make(const struct oci_place *pl, const char *id, const struct oci_image *image, uint64_t disk,
		    struct davit_error *err)
{
	struct tree t;
	int r = tree_init(&t, pl->roots, id, disk, err);

	if (!r)
		r = make_tree(pl, &t, image, disk, err);
	tree_fini(&t);
	return r;
}

int oci_rootfs_remove(const struct oci_place *pl, const char *id, struct davit_error *err)
{
	struct tree t;
	int r = tree_init(&t, pl->roots, id, false, err);

	/* Detached: a process on its way out may still be in it, and holds only itself up. */
	if (!r && umount2(t.root, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL && errno != ENOENT &&
	    errno != EPERM)
		r = davit_error_errno(err, errno, "image", "cannot unmount %s", t.root);
	if (!r)
		r = oci_disk_remove(t.fs, err);
	if (!r)
		r = davit_remove_tree(t.base, err);
	tree_fini(&t);
	return r;
}
