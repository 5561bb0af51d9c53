/* SPDX-License-Identifier: MIT
 *
 * Images without a daemon: a directory that is an OCI image layout with its
 * layers unpacked beside it, and what can be done with it.
 *
 *   DIR/oci-layout, index.json    references -> manifests (an OCI index)
 *   DIR/blobs/sha256/HEX          manifests, configurations, layers as they came
 *   DIR/layers/HEX/fs             the tree of the layer with the diff id HEX, as
 *                                 overlayfs wants a lower directory
 *   DIR/holds/ID                  what a container needs
 *   DIR/tmp                       work under way, one directory a process
 *   DIR/lock                      held for each change of the above; for renames
 *                                 and the fsync of one small file, never longer
 *
 * Any number of processes may use a directory at once. Work is done in a
 * directory of tmp that its process locks, and appears by renames under the
 * lock; a process killed at any moment leaves only that directory, which the
 * next one that does work removes, together with what nothing refers to.
 *
 * The functions of the first part are for a loop's thread: small files, and
 * perhaps a wait for the lock; those of the second unpack, copy and delete, and
 * are for the program davit-image. A handle is for one thread at a time.
 */
#ifndef DAVIT_IMAGE_IMAGE_H
#define DAVIT_IMAGE_IMAGE_H

#include "davit/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DAVIT_DIGEST_MAX 72 /* "sha256:", 64 hexadecimal digits, NUL */
#define DAVIT_REFERENCE_MAX 512

struct davit_image_store;

/* --- small things --- */

/* Opens the store at dir, and makes it, 0700, if it is not there. Removes
 * nothing. *ret is owned. */
int davit_image_store_open(const char *dir, struct davit_image_store **ret, struct davit_error *err);
/* NULL is allowed. */
void davit_image_store_close(struct davit_image_store *s);

/* Checks a reference by the grammar of registries and completes it: "bb" becomes
 * "bb:latest", "bb@sha256:..." stays. No registry is ever added. DAVIT_EINVAL. */
int davit_reference_normalise(const char *s, char ret[DAVIT_REFERENCE_MAX], struct davit_error *err);

struct davit_image_pair {
	char *key, *value;
};

/* What an image is. All memory is its own. */
struct davit_image {
	char *reference;	       /* under which it was found */
	char digest[DAVIT_DIGEST_MAX]; /* of the manifest */
	char id[DAVIT_DIGEST_MAX];     /* of the configuration: what docker calls the image's ID */
	char **layers;		       /* absolute directories, the lowest first; NULL: none */
	size_t n_layers;
	bool user_xattrs; /* the store was opened without root: mount overlay with userxattr */
	uint64_t size;	  /* bytes of all files, unpacked */
	int64_t created;  /* unix ns; 0: not known */
	char *os, *architecture, *variant; /* variant: or NULL */
	/* What a container of it runs, as the image says; NULL: it says nothing.
	 * Vectors end with NULL. */
	char **env, **entrypoint, **command;
	char *directory, *user, *stop_signal;
	char **ports;	/* "80/tcp", the protocol always there */
	char **volumes; /* paths inside */
	struct davit_image_pair *labels;
	size_t n_labels;
	char **health_test; /* "NONE" | "CMD", ... | "CMD-SHELL", COMMAND */
	int64_t health_interval, health_timeout, health_start_period; /* ns; 0: the default */
	int64_t health_retries;
	char *config; /* the whole configuration, JSON as it came */
};

void davit_image_free(struct davit_image *i); /* NULL is allowed */

/* The image that a reference names. Looked for in turn: the reference itself; an
 * ID ("sha256:HEX" or the first 12 or more digits of HEX); "NAME@sha256:..." as a
 * tag of NAME with that digest; and for a reference without a host, that of
 * "localhost/" and then the only one of any host (or any host's "library/").
 * DAVIT_ENOENT "image 'X' not found locally"; DAVIT_EINVAL when malformed or when
 * several hosts have it. *ret is owned. */
int davit_image_resolve(struct davit_image_store *s, const char *reference, struct davit_image **ret,
			struct davit_error *err);

/* Every image that has a reference, sorted by it; borrowed during the call. Ends
 * with the first value but 0 that fn returns, and returns it. */
int davit_image_list(struct davit_image_store *s, int (*fn)(void *user, const struct davit_image *i),
		     void *user, struct davit_error *err);

/* Notes that `id` ([A-Za-z0-9][A-Za-z0-9_.-]*, at most 128) uses the image:
 * neither remove nor gc takes it away until release, whoever dies. A second hold
 * of the same id replaces the first. As resolve; the image that is held is
 * given in *ret unless ret is NULL. durable: it is to outlast a crash of the machine, too (two
 * fsyncs), as what needs it does. */
int davit_image_hold(struct davit_image_store *s, const char *id, const char *reference, bool durable,
		     struct davit_image **ret, struct davit_error *err);
/* Success when there is none. The image stays until gc, if nothing else needs it. */
int davit_image_release(struct davit_image_store *s, const char *id, struct davit_error *err);
/* Every hold: the id, the reference as it was asked for, and the digest. Ends
 * like davit_image_list. */
int davit_image_holds(struct davit_image_store *s,
		      int (*fn)(void *user, const char *id, const char *reference, const char *digest),
		      void *user, struct davit_error *err);

/* --- long things --- */

struct davit_image_limits {
	uint64_t bytes;	  /* of one archive, unpacked; holes of sparse files count */
	uint64_t entries; /* of one archive, all layers together */
	uint64_t ratio;	  /* unpacked to packed, of what unpacks to more than 64 MiB; 0: any */
};
#define DAVIT_IMAGE_LIMITS_DEFAULT                                                                           \
	{                                                                                                    \
		.bytes = UINT64_C(16) << 30, .entries = 2000000, .ratio = 250                                \
	}

/* Called for each image that load, import and pull have stored; borrowed. */
typedef void davit_image_stored_fn(void *user, const struct davit_image *i);

struct davit_image_load {
	const char *path;      /* a file, a directory, or "-" for standard input */
	const char *reference; /* to store it under; NULL: as the archive says */
	const char *select;    /* which of several images: a name as the archive says it; NULL: all */
	struct davit_image_limits limits;
	davit_image_stored_fn *stored; /* or NULL */
	void *user;
};

/* Takes an OCI layout, a docker-archive, or skopeo's dir: format, as a directory
 * or as tar, plain or compressed by gzip, zstd, xz or bzip2. Every digest is
 * verified. All or nothing. DAVIT_ESOURCE for what is malformed or hostile, naming
 * file and field, or layer and entry. */
int davit_image_load(struct davit_image_store *s, const struct davit_image_load *l, struct davit_error *err);

struct davit_image_import {
	struct davit_image_load load; /* path: of the root file system; reference: needed */
	char *const *env, *const *entrypoint, *const *command; /* or NULL */
	const char *directory, *user;			       /* or NULL */
};

/* Makes an image of one layer of a root file system, a tar or a directory. */
int davit_image_import(struct davit_image_store *s, const struct davit_image_import *i,
		       struct davit_error *err);

/* Fetches with skopeo, from a registry ("docker://REF", or a plain reference) or
 * another of its transports; those of local files are loaded without it.
 * DAVIT_ENOTSUP "this needs skopeo: not installed". `load.path` is the source. */
int davit_image_pull(struct davit_image_store *s, const struct davit_image_load *l, struct davit_error *err);

/* A line of what a builder prints. */
typedef void davit_image_said_fn(void *user, const char *line);

struct davit_image_build {
	struct davit_image_load
		load;		   /* path: of the context, a directory, a tar, or "-"; reference: needed */
	const char *dockerfile;	   /* its path in the context; NULL: Dockerfile, or else Containerfile */
	davit_image_said_fn *said; /* with load.user; or NULL */
};

/* Builds with buildah. What the Dockerfile names is taken from this store, and by buildah from a
 * registry where it is not in it. For the program: it has a mount namespace of its own after, and goes
 * into the context meanwhile. DAVIT_ENOTSUP "this needs buildah: not installed", DAVIT_EBUILD. */
int davit_image_build(struct davit_image_store *s, const struct davit_image_build *b,
		      struct davit_error *err);

/* Gives an image a further name. */
int davit_image_tag(struct davit_image_store *s, const char *from, const char *to, struct davit_error *err);

struct davit_image_freed {
	uint64_t images, layers, blobs; /* what was removed */
	uint64_t bytes;			/* of the blobs */
};

/* Removes a reference (all of them, for an ID), and what then nothing needs.
 * DAVIT_EINUSE when it is the last one of an image that is held, unless force. */
int davit_image_remove(struct davit_image_store *s, const char *reference, bool force,
		       struct davit_image_freed *ret, struct davit_error *err);

/* Removes what no reference and no hold needs. */
int davit_image_gc(struct davit_image_store *s, struct davit_image_freed *ret, struct davit_error *err);

enum davit_image_format { DAVIT_IMAGE_DOCKER, DAVIT_IMAGE_OCI };

/* Writes a tar that docker, podman and skopeo load, to a file or "-". */
int davit_image_save(struct davit_image_store *s, const char *reference, enum davit_image_format format,
		     const char *path, struct davit_error *err);

/* The image's whole root tree, copied to the directory `to`, which must not be
 * there. For where overlayfs is not to be had. Made beside it, as "TO.part", and
 * renamed, so that it is there only when it is whole. */
int davit_image_flatten(struct davit_image_store *s, const char *reference, const char *to,
			struct davit_error *err);

#endif
