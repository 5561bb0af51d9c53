/* SPDX-License-Identifier: MIT
 *
 * A layer being unpacked: what its two files share.
 */
#ifndef DAVIT_IMAGE_UNPACK_H
#define DAVIT_IMAGE_UNPACK_H

#include "image/image_impl.h"

#include <archive.h>
#include <archive_entry.h>
#include <time.h>

/* A directory, whose times and (without root) mode are set when nothing more is
 * made in it. */
struct image_directory {
	char *path;
	mode_t mode;
	struct timespec mtime;
};

struct image_unpacking {
	const struct image_layer *l;
	struct image_stream *in;
	struct davit_error *err;
	struct archive *a;
	struct image_place place;
	struct image_directory *directories;
	size_t n_directories, cap;
	uint64_t written; /* bytes of content so far */
	struct davit_error stream_err;
	char path[4096]; /* of the present entry, clean */
};

/* An error that says which entry is wrong, and why. */
int image_unpack_refuse(struct image_unpacking *u, const char *why);
/* As above, from errno; a failure of this machine is none of the archive. */
int image_unpack_failed(struct image_unpacking *u, const char *what);

/* attributes.c: owner, mode, xattrs and times of what was just made. */
int image_set_file(struct image_unpacking *u, struct archive_entry *e, int fd);
/* Its times, and without root its mode, are set by image_finish_directories. */
int image_set_directory(struct image_unpacking *u, struct archive_entry *e, int fd);
/* Of what is not opened: links, devices, pipes. */
int image_set_special(struct image_unpacking *u, struct archive_entry *e, int parent, const char *name,
		      bool link);
int image_check_owner(struct image_unpacking *u, struct archive_entry *e);
void image_finish_directories(struct image_unpacking *u);
/* Frees what image_set_directory keeps. */
void image_forget_directories(struct image_unpacking *u);

#endif
