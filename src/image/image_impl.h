/* SPDX-License-Identifier: MIT
 *
 * What the files of the image store share.
 */
#ifndef DAVIT_IMAGE_IMAGE_IMPL_H
#define DAVIT_IMAGE_IMAGE_IMPL_H

#include "base/buf.h"
#include "base/map.h"
#include "base/util.h"
#include "image/image.h"

#include <jansson.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>

#define IMAGE_HEX 65		 /* 64 digits and a NUL */
#define IMAGE_JSON_MAX (4 << 20) /* bytes of a manifest, an index or a configuration */
#define IMAGE_LAYERS_MAX 500	 /* overlayfs takes no more */
#define IMAGE_NAME_MAX 128	 /* a hold's id */

static inline int image_oom(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

/* --- digest.c --- */

struct image_hash {
	crypto_hash_sha256_state state;
};

void image_hash_init(struct image_hash *h);
void image_hash_add(struct image_hash *h, const void *data, size_t n);
void image_hash_end(struct image_hash *h, char hex[IMAGE_HEX]);
void image_hash_of(const void *data, size_t n, char hex[IMAGE_HEX]);
/* Whether s is "sha256:" and 64 lower-case digits; hex gets these. */
bool image_digest_parse(const char *s, char hex[IMAGE_HEX]);
bool image_hex_is(const char *s);

/* --- reference.c --- */

struct image_reference {
	char name[DAVIT_REFERENCE_MAX]; /* "localhost/bb" */
	char tag[130];			/* may be empty when there is a digest */
	char hex[IMAGE_HEX];		/* may be empty */
};

int image_reference_parse(const char *s, struct image_reference *ret, struct davit_error *err);
/* Where the path begins behind the host; 0 when there is none. */
size_t image_reference_host(const char *name);

/* --- store.c --- */

struct davit_image_store {
	char *dir; /* absolute */
	int fd;	   /* of dir */
	int lock;  /* of DIR/lock */
	bool root;
};

/* A directory in tmp for the work of this process, locked while it lives. */
struct image_job {
	struct davit_image_store *store;
	int fd; /* -1: none */
	char name[48];
	unsigned next; /* number for the next file */
};

int image_store_lock(struct davit_image_store *s, struct davit_error *err);
void image_store_unlock(struct davit_image_store *s);
/* Replaces a file of the store. durable: it is synced; otherwise a crash of the machine may leave it
 * empty. Under the lock. */
int image_store_write(struct davit_image_store *s, const char *path, const void *data, size_t n, bool durable,
		      struct davit_error *err);
/* A blob's content; its digest is verified. DAVIT_ENOENT, DAVIT_ECORRUPT. */
int image_store_blob(struct davit_image_store *s, const char *hex, struct davit_buf *out,
		     struct davit_error *err);
bool image_store_has(struct davit_image_store *s, const char *path);
/* "blobs/sha256/HEX", "layers/HEX" */
char *image_blob_path(const char *hex, char path[96]);
char *image_layer_path(const char *hex, char path[96]);

/* Makes a job, and removes what jobs of dead processes left. */
int image_job_begin(struct davit_image_store *s, struct image_job *ret, struct davit_error *err);
void image_job_end(struct image_job *j);
#define IMAGE_AUTO_JOB DAVIT_CLEANUP(image_job_end) struct image_job
#define IMAGE_JOB_NONE                                                                                       \
	{                                                                                                    \
		.fd = -1                                                                                     \
	}
/* A new name in the job's directory. */
void image_job_name(struct image_job *j, char name[16]);
/* A new empty file in the job, read and write, with its name; -1 with *err. */
int image_job_file(struct image_job *j, char name[16], struct davit_error *err);
/* A file of the job with that content. */
int image_job_write(struct image_job *j, const void *data, size_t n, char name[16], struct davit_error *err);
/* What the job keeps from gc while it lives: lines "blobs/sha256/HEX" and "layers/HEX". */
int image_job_keep(struct image_job *j, const struct davit_buf *lines, struct davit_error *err);

/* A job that keeps an image, and the image. */
int image_job_hold(struct davit_image_store *s, const char *reference, struct image_job *ret,
		   struct davit_image **ret_image, struct davit_error *err);

/* --- tree.c --- */

/* Removes name below dirfd with all that is in it; follows no link. What is not
 * there is success. -1 with errno. */
int image_tree_remove(int dirfd, const char *name);

/* --- index.c --- */

struct image_entry {
	char *reference;
	char hex[IMAGE_HEX]; /* of the manifest */
	char media[96];
	uint64_t size; /* of the manifest */
};

struct image_index {
	struct image_entry *entries; /* sorted by reference */
	size_t n;
};

int image_index_read(struct davit_image_store *s, struct image_index *ret, struct davit_error *err);
int image_index_write(struct davit_image_store *s, const struct image_index *x, struct davit_error *err);
void image_index_fini(struct image_index *x);
#define IMAGE_AUTO_INDEX DAVIT_CLEANUP(image_index_fini) struct image_index
/* Adds or replaces. */
int image_index_set(struct image_index *x, const char *reference, const struct image_entry *e,
		    struct davit_error *err);
void image_index_drop(struct image_index *x, size_t at);
/* The entry that a reference as typed means, and whether it is an ID, which any
 * other reference to the image has too. DAVIT_ENOENT, DAVIT_EINVAL. */
int image_index_find(struct davit_image_store *s, const struct image_index *x, const char *reference,
		     size_t *ret, bool *ret_by_id, struct davit_error *err);

/* --- schema.c: what JSON says, checked --- */

struct image_descriptor {
	char hex[IMAGE_HEX];
	char media[96]; /* "" when there is none */
	uint64_t size;
};

struct image_manifest {
	struct image_descriptor config;
	struct image_descriptor *layers;
	size_t n_layers;
	char media[96];
};

/* A document being read: `file` names it in messages. */
struct image_doc {
	const char *file;
	int code; /* of errors: DAVIT_ESOURCE while loading, DAVIT_ECORRUPT in the store */
	struct davit_error *err;
};

int image_doc_parse(const struct image_doc *d, const void *data, size_t n, json_t **ret);
int image_doc_fail(const struct image_doc *d, const char *field, const char *why);
/* A member that must be a string (NULL when it is not there or null). */
int image_doc_string(const struct image_doc *d, json_t *o, const char *path, const char *key,
		     const char **ret);
int image_doc_array(const struct image_doc *d, json_t *o, const char *path, const char *key, json_t **ret);
int image_doc_descriptor(const struct image_doc *d, json_t *o, const char *path,
			 struct image_descriptor *ret);
int image_doc_manifest(const struct image_doc *d, json_t *o, struct image_manifest *ret);
void image_manifest_fini(struct image_manifest *m);
#define IMAGE_AUTO_MANIFEST DAVIT_CLEANUP(image_manifest_fini) struct image_manifest
bool image_media_is_index(const char *media);

/* --- config.c --- */

/* Reads a configuration into *i and gives its diff ids, a heap array. */
int image_doc_config(const struct image_doc *d, json_t *o, struct davit_image *i,
		     char (**ret_diff)[IMAGE_HEX], size_t *ret_n);
/* This machine's, as images name it: "amd64"; variant may be "". */
void image_platform(const char **ret_architecture, const char **ret_variant);

/* --- view.c --- */

/* Appends the "keep" lines of an image. */
int image_needs(struct davit_image_store *s, const char *manifest_hex, struct davit_buf *out,
		struct davit_error *err);

/* --- hold.c --- */

/* How many holds an image has, and the id of one, for a message. */
int image_holder(struct davit_image_store *s, const char *hex, char id[IMAGE_NAME_MAX + 1], size_t *ret_n,
		 struct davit_error *err);

/* --- gc.c --- */

/* Moves what nothing needs into the job. Under the lock. ret may be NULL. */
int image_collect(struct image_job *j, struct davit_image_freed *ret, struct davit_error *err);

/* --- stream.c: bytes of a file, decompressed and hashed --- */

enum image_packing { IMAGE_PLAIN, IMAGE_GZIP, IMAGE_ZSTD, IMAGE_XZ, IMAGE_BZIP2 };

struct image_stream;

/* Reads fd (borrowed), which may be a pipe, to its end, in a thread of its own. */
int image_stream_open(int fd, struct image_stream **ret, struct davit_error *err);
/* By its first bytes. */
enum image_packing image_stream_packing(const struct image_stream *s);
/* The next block, valid until the next call; 0 at the end, negative code. */
ssize_t image_stream_read(struct image_stream *s, const void **ret, struct davit_error *err);
/* How many packed bytes were read so far; never more than there are. */
uint64_t image_stream_packed(struct image_stream *s);
/* After the end: digests of the packed and of the unpacked bytes, and their sizes. */
void image_stream_digests(struct image_stream *s, char packed[IMAGE_HEX], char plain[IMAGE_HEX]);
void image_stream_close(struct image_stream *s); /* at any time; NULL is allowed */

/* --- unpack.c: one layer --- */

/* What is left of the limits, over all layers of one archive. */
struct image_budget {
	struct davit_image_limits limits;
	uint64_t bytes, entries; /* used so far */
	uint64_t room, written;	 /* free on the disk when it began, and used of it */
	uint64_t names;		 /* bytes of the names of directories, which are kept in memory */
};

struct image_layer {
	const char *what; /* for messages: "layer 2 of 3" */
	bool root;	  /* may set owners and make devices */
	struct image_budget *budget;
};

/* Unpacks a tar stream to its end into the directory root. */
int image_unpack(const struct image_layer *l, struct image_stream *in, int root, struct davit_error *err);

/* --- place.c: one entry in a tree --- */

struct image_place {
	int root;
	int parent; /* of the last entry, or -1 */
	char parent_path[4096];
};

#define IMAGE_DEPTH_MAX 256
#define IMAGE_WHITEOUT ".wh."
#define IMAGE_OPAQUE ".wh..wh..opq"

/* The directory above `path` (clean, relative), made where it is not there. Links
 * in it are followed as in a chroot. -1 with *ret_why; the descriptor is p's. */
int image_place_parent(struct image_place *p, const char *path, bool make, const char **ret_name,
		       const char **ret_why);
void image_place_fini(struct image_place *p);
/* A whiteout for name, overlayfs form. -1 with errno. */
int image_whiteout_make(int dirfd, const char *name);
bool image_whiteout_is(const struct stat *st);
/* The xattr that makes a directory hide those below. */
int image_opaque_set(int fd, bool root);
bool image_opaque_is(int fd);

/* --- copy.c --- */

/* All of a file, by reflink, in the kernel, or by hand; at most max bytes, else
 * EFBIG. -1 with errno. */
int image_copy_data(int from, int to, uint64_t max);
#define IMAGE_RATIO_FROM (UINT64_C(64) << 20) /* less is never a bomb */
/* Whether so much may come out of so little. */
bool image_budget_allows(const struct image_budget *b, uint64_t unpacked, uint64_t packed);
/* The stream to its end into fd, of what the budget has room for. */
int image_copy_stream(struct image_stream *in, int fd, struct image_budget *budget, const char *what,
		      struct davit_error *err);

/* --- bundle.c: what is loaded, by the names in it --- */
/* For messages: "-" is standard input. */
static inline const char *image_path_name(const char *path)
{
	return strcmp(path, "-") ? path : "the archive";
}

struct image_bundle;

/* A directory (own: its files may be linked instead of copied) or an archive. */
int image_bundle_open(struct image_job *j, const char *path, bool own, struct image_budget *budget,
		      struct image_bundle **ret, struct davit_error *err);
void image_bundle_close(struct image_bundle *b);
bool image_bundle_has(struct image_bundle *b, const char *name);
/* A small file. DAVIT_ESOURCE when it is not there. */
int image_bundle_read(struct image_bundle *b, const char *name, struct davit_buf *out,
		      struct davit_error *err);
/* A file as one of the job: ret_name is its name there. */
int image_bundle_take(struct image_bundle *b, const char *name, char ret_name[16], struct davit_error *err);

/* --- publish.c: from the job into the store --- */

struct image_source_layer {
	char *file;			 /* name in the bundle */
	char blob[IMAGE_HEX];		 /* expected digest as packed; "" when not known */
	char diff[IMAGE_HEX];		 /* expected digest unpacked; "" for an import */
	uint64_t size;			 /* as packed; filled in */
	enum image_packing packing;	 /* filled in */
	char tmp_blob[16], tmp_tree[16]; /* names in the job; "" when the store has it */
};

/* An image that is being added. */
struct image_new {
	char *name;	 /* as the archive says, or NULL */
	char *reference; /* normalised */
	struct image_source_layer *layers;
	size_t n_layers;
	char config[IMAGE_HEX], manifest[IMAGE_HEX];
	struct davit_buf config_text, manifest_text; /* manifest: empty until made, if there is none */
	char media[96];
};

void image_new_fini(struct image_new *n);
/* The only layer, which is a file of the job already; its digests are filled in. */
int image_new_layer(struct image_job *j, const char *file, struct image_new *n, struct image_budget *budget,
		    struct davit_error *err);
/* Verifies and unpacks what the store lacks (without a bundle: nothing), and makes
 * the manifest if there is none. */
int image_new_fetch(struct image_job *j, struct image_bundle *b, struct image_new *n,
		    struct image_budget *budget, struct davit_error *err);
/* Moves all of them in and writes the index. */
int image_publish(struct image_job *j, struct image_new *images, size_t n, struct davit_error *err);

/* --- load.c --- */

int image_budget_init(struct davit_image_store *s, const struct davit_image_limits *limits,
		      struct image_budget *ret, struct davit_error *err);
/* Calls l->stored for the image of that name. */
int image_tell_stored(struct davit_image_store *s, const struct davit_image_load *l, const char *reference,
		      struct davit_error *err);
/* --- child.c: programs that do a part of a job --- */
#define IMAGE_LINE_MAX 2000
struct image_child {
	davit_image_said_fn *said; /* for each line that it prints; or NULL */
	void *user;
	char last[IMAGE_LINE_MAX + 1]; /* the last of them */
};
/* Runs it to its end; it ends with us. DAVIT_ENOTSUP when it is not there, DAVIT_EUNAVAIL in
 * the words of its last line when it fails. */
int image_child_run(struct image_job *j, struct image_child *c, char *const *argv, struct davit_error *err);

/* Loads what is at path. own: the directory is the job's. */
int image_load_from(struct image_job *j, const struct davit_image_load *l, const char *path, bool own,
		    struct davit_error *err);

#endif
