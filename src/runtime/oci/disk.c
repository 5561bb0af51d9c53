/* SPDX-License-Identifier: MIT
 *
 * A limit of disk space: what a container writes goes to a file system of that size, which
 * lies in a sparse file. Overlayfs has no quota, and those of the file system beneath it are
 * the administrator's business. The loop device goes with the mount.
 */
#include "runtime/oci/impl.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define TRIES 50 /* others take free devices too */

static int failed(struct davit_error *err, int sys, const char *what)
{
	return davit_error_errno(err, sys, "resources.disk", "cannot limit the disk: %s", what);
}

/* No journal: nothing in it outlasts a crash of the machine. */
static int make_file(const struct oci_place *pl, const char *path, uint64_t size, struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	char *argv[] = {pl->mkfs,
			(char *)"-q",
			(char *)"-F",
			(char *)"-m",
			(char *)"0",
			(char *)"-O",
			(char *)"^has_journal",
			(char *)"-E",
			(char *)"lazy_itable_init=1,nodiscard",
			(char *)(uintptr_t)path,
			NULL};

	if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
		return failed(err, errno, "no file for it");
	return oci_run(-1, argv, err);
}

/* The device's descriptor, with its path, or -1 with errno. It is freed with its last use. */
static int open_loop(int file, char path[32])
{
	DAVIT_AUTO_CLOSE int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	const struct loop_config config = {.fd = (__u32)file, .info.lo_flags = LO_FLAGS_AUTOCLEAR};

	for (int k = 0; control >= 0 && k < TRIES; k++) {
		int n = ioctl(control, LOOP_CTL_GET_FREE), fd;

		if (n < 0)
			return -1;
		snprintf(path, 32, "/dev/loop%d", n);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			return -1;
		if (ioctl(fd, LOOP_CONFIGURE, &config) == 0)
			return fd;
		close(fd);
		if (errno != EBUSY)
			return -1;
	}
	return -1;
}

int oci_disk_make(const struct oci_place *pl, const char *path, const char *dir, uint64_t size,
		  struct davit_error *err)
{
	DAVIT_AUTO_CLOSE int file = -1;
	DAVIT_AUTO_CLOSE int loop = -1;
	char device[32];
	int r = make_file(pl, path, size, err);

	if (r < 0)
		return r;
	file = open(path, O_RDWR | O_CLOEXEC);
	loop = file < 0 ? -1 : open_loop(file, device);
	if (loop < 0)
		return failed(err, errno, "no loop device");
	if (mkdir(dir, 0700) < 0 || mount(device, dir, "ext4", MS_NODEV | MS_NOATIME, NULL) < 0)
		return failed(err, errno, "it cannot be mounted");
	return 0;
}

int oci_disk_remove(const char *dir, struct davit_error *err)
{
	return umount2(dir, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL && errno != ENOENT &&
			       errno != EPERM
		       ? davit_error_errno(err, errno, "resources.disk", "cannot unmount %s", dir)
		       : 0;
}
