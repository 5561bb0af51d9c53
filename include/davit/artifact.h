/* SPDX-License-Identifier: MIT
 *
 * Artifacts: trees of files that steps take and make, kept in a store under the
 * hash of what is in them, so that equal trees are there once.
 *
 * The hash (BLAKE2b-256) covers, in the order of their names, each entry's path,
 * kind, permission bits, content and target of a symbolic link. It does not cover
 * times, owners, extended attributes, nor which names are links to one file: a
 * hard link counts as a file with that content. What is neither file, directory
 * nor symbolic link is left out. Everything in a store belongs to who opened it.
 *
 * Times are kept but do not count. Where a tree comes in again, each of its files
 * gets the later of both times, so that a build that compares times may do more
 * than is needed and never less.
 *
 * Any number of processes may use a store at once. One that is killed leaves only
 * work under way, which the next to open the store removes. A tree that may not
 * have reached the disk when the machine went down is not there afterwards.
 *
 * Every function here reads and writes files, as long as the tree is large, and
 * belongs in a thread other than the loop's unless it says otherwise. A store may
 * be used from several threads.
 */
#ifndef DAVIT_ARTIFACT_H
#define DAVIT_ARTIFACT_H

#include "davit/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DAVIT_ARTIFACT_ID_MAX 65			     /* 64 hexadecimal digits and a NUL */
#define DAVIT_ARTIFACTS_CEILING_DEFAULT (UINT64_C(20) << 30) /* bytes */

/* ------------------------------------------------------------------- the store */

struct davit_artifacts;

/* Opens the store in `directory`, an absolute path, and makes it, 0700, if it is not
 * there; NULL: "steps" in the user's cache directory (DAVIT_HOME/cache/steps).
 * `ceiling` is how many bytes it may hold, outputs and caches together; 0: the default.
 * Removes what killed processes left. *ret is owned: davit_artifacts_close.
 * DAVIT_EPERM for one of another user's, DAVIT_EIO. */
int davit_artifacts_open(const char *directory, uint64_t ceiling, struct davit_artifacts **ret,
			 struct davit_error *err);
/* NULL is allowed. All that was got from it must have been given back. */
void davit_artifacts_close(struct davit_artifacts *s);

/* ------------------------------------------------------------------------ trees */

/* A tree that is in the store and stays there while this is held, whoever collects. */
struct davit_artifact_hold {
	char id[DAVIT_ARTIFACT_ID_MAX];
	uint64_t bytes;	  /* of all files */
	uint64_t entries; /* files, directories and links */
	uint64_t skipped; /* sockets, pipes and devices that were left out when it came in */
	int fd;		  /* the lock that holds it; -1: nothing is held */
};
#define DAVIT_ARTIFACT_HOLD_INIT                                                                             \
	{                                                                                                    \
		.fd = -1                                                                                     \
	}

/* Lets go. Does nothing for one that holds nothing. Does not block. */
void davit_artifact_release(struct davit_artifact_hold *h);

/* Finds a tree by its id or by the first 8 or more digits of it. DAVIT_ENOENT;
 * DAVIT_EINVAL for what cannot be an id or begins several. Quick. */
int davit_artifacts_find(struct davit_artifacts *s, const char *id, struct davit_artifact_hold *ret,
			 struct davit_error *err);

/* Takes a copy of the directory `path`. `names` (or NULL: everything) lists what is
 * taken: paths relative to it, each a file, a link, or a directory with all that is in
 * it, without "." or ".." in them; one that is not there is passed over, for a list can be older than
 * the directory. Blocks are shared with the originals where the file system can, holes stay
 * holes, and of a large tree that the store has nothing is written.
 * DAVIT_ENOSPC when it is more than the ceiling or the disk has room for. */
int davit_artifacts_put_directory(struct davit_artifacts *s, const char *path, char *const *names,
				  struct davit_artifact_hold *ret, struct davit_error *err);

/* Moves the directory `path`, which must belong to nobody else any more, into the store:
 * by its name where that is on the same file system, else by a copy. It is gone
 * afterwards unless this fails. */
int davit_artifacts_adopt(struct davit_artifacts *s, const char *path, struct davit_artifact_hold *ret,
			  struct davit_error *err);

/* Takes a tar archive from a descriptor, to its end: plain, gzip or zstd, which it sees by
 * itself. DAVIT_ESOURCE for one that is malformed or hostile: names that lead out, links
 * that are written through, or more than the ceiling. */
int davit_artifacts_put_tar(struct davit_artifacts *s, int fd, struct davit_artifact_hold *ret,
			    struct davit_error *err);

enum davit_artifact_packing { DAVIT_PACK_NONE, DAVIT_PACK_GZIP, DAVIT_PACK_ZSTD };

/* Writes the tree as a tar archive to a descriptor, entries in the order of their names. */
int davit_artifacts_get_tar(struct davit_artifacts *s, const struct davit_artifact_hold *h, int fd,
			    enum davit_artifact_packing packing, struct davit_error *err);

/* Copies the tree into the directory `to`, which is made if it is not there. A file there of
 * the same name is replaced, another stays. Nothing is written through a link. */
int davit_artifacts_get_directory(struct davit_artifacts *s, const struct davit_artifact_hold *h,
				  const char *to, struct davit_error *err);

/* What the name `to` says: a tar archive if it ends like one (".tar", ".tar.gz", ".tgz", ".tar.zst"), which
 * is there once it is whole; else a directory. Blocks. */
int davit_artifacts_get(struct davit_artifacts *s, const struct davit_artifact_hold *h, const char *to,
			struct davit_error *err);

/* The directory in which the tree lies, for reading only; a heap string, NULL when out of
 * memory. Good while it is held. Does not block. */
char *davit_artifacts_path(struct davit_artifacts *s, const struct davit_artifact_hold *h);

/* ------------------------------------------------------------------------ notes
 * A short text under a key of the caller's (64 hexadecimal digits that nobody else uses: a hash), kept until
 * the store needs the room, like a result. */
#define DAVIT_ARTIFACTS_NOTE_MAX 65536

/* Writes one, or another one in its place. Quick. */
int davit_artifacts_note(struct davit_artifacts *s, const char *key, const void *text, size_t n,
			 struct davit_error *err);
/* Reads one into buf, with a NUL behind it. Its length, DAVIT_ENOENT, or another code. Quick. */
ssize_t davit_artifacts_noted(struct davit_artifacts *s, const char *key, char *buf, size_t size,
			      struct davit_error *err);

/* ------------------------------------------------------------------- collecting */

enum davit_kept_kind { DAVIT_KEPT_TREE, DAVIT_KEPT_CACHE, DAVIT_KEPT_RESULT };

/* Something that is in the store. */
struct davit_kept {
	enum davit_kept_kind kind;
	const char *id;	  /* of a tree its id; of a cache or result its key; borrowed during the call */
	const char *name; /* of a cache: job, step and path as it was asked for; else NULL */
	uint64_t bytes, entries;
	int64_t used; /* unix ns: when it was last taken into use */
	bool in_use;
};

/* Calls fn for each, the least recently used first. Ends with the first value but 0 that fn
 * returns, and returns it. */
int davit_artifacts_list(struct davit_artifacts *s, int (*fn)(void *user, const struct davit_kept *k),
			 void *user, struct davit_error *err);

/* What a collection did with one thing and why; `why` is a clause ("not used for 3 days; the
 * store is above its ceiling"). Borrowed during the call. */
typedef void davit_collected_fn(void *user, const struct davit_kept *k, bool removed, const char *why);

/* Removes what was used least recently, never what is in use, until at most `bytes` are left.
 * fn (or NULL) is told of each thing that went or had to stay. *ret_left (or NULL) is what is left. */
int davit_artifacts_collect(struct davit_artifacts *s, uint64_t bytes, davit_collected_fn *fn, void *user,
			    uint64_t *ret_left, struct davit_error *err);

/* Removes one thing by its id or key (or the first 8 or more digits). DAVIT_EINUSE, DAVIT_ENOENT. */
int davit_artifacts_remove(struct davit_artifacts *s, const char *id, struct davit_error *err);

#ifdef __cplusplus
}
#endif
#endif
