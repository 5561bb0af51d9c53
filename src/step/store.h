/* SPDX-License-Identifier: MIT
 *
 * The inside of a store of artifacts.
 *
 *   DIR/trees/ID/fs        the tree, which nobody changes
 *   DIR/caches/KEY/fs      a task's cache
 *   DIR/results/KEY/       result, stdout, stderr of a step that was asked to be remembered; or a note
 *   DIR/KIND/KEY/meta      sizes; its lock (flock) says "in use", its time when it was last
 *   DIR/tmp/X/             work under way: like one of the above, and its meta is locked
 *   DIR/runs/ID/           a step that runs: its lock is held by it. A durable one, of whose lock the
 *                          file has an order, stays when nobody holds that, until it is forgotten
 *   DIR/unsettled/ID       empty: the tree may not have reached the disk
 *   DIR/format             which of these it is: 1; another is refused
 *   DIR/boot               the boot during which those came
 *   DIR/total              bytes of all of it, as decimal digits
 *   DIR/lock               held while any of these names change: never for longer than a few renames
 *
 * What appears does so by one rename out of tmp, what goes is renamed into tmp. So a process that is
 * killed leaves nothing but entries of tmp and runs that nobody has locked.
 */
#ifndef DAVIT_STEP_STORE_H
#define DAVIT_STEP_STORE_H

#include "base/paths.h"
#include "base/util.h"
#include "davit/artifact.h"
#include "local/cgroup.h"
#include "step/hash.h"

#include <pthread.h>

struct davit_artifacts {
	char *directory;
	int fd, lock;
	uint64_t ceiling;
	struct davit_paths paths;
	pthread_mutex_t mutex;	/* with `lock`: flock does not tell threads apart */
	struct cgroups cgroups; /* opened by the first step, with the store locked */
	bool has_cgroups;
};

#define STEP_KEY_MAX DAVIT_ARTIFACT_ID_MAX

/* "trees", "caches", "results" by enum davit_kept_kind. */
extern const char *const step_kind_names[];
#define STEP_KINDS 3

int step_store_lock(struct davit_artifacts *s, struct davit_error *err);
void step_store_unlock(struct davit_artifacts *s);

/* Work under way: a directory of tmp, with a locked meta. */
struct step_work {
	char name[80]; /* relative to the store: "tmp/..." */
	int fd;	       /* the directory */
	int meta;      /* its locked meta */
	char note[80]; /* a file in which its id stands before it gets its name; or "" */
};
#define STEP_WORK_INIT                                                                                       \
	{                                                                                                    \
		.fd = -1, .meta = -1                                                                         \
	}
int step_work_begin(struct davit_artifacts *s, struct step_work *w, struct davit_error *err);
/* Removes it, unless it was published. */
void step_work_end(struct davit_artifacts *s, struct step_work *w);

struct step_meta {
	uint64_t bytes, entries, skipped;
	char name[512]; /* of caches */
};
int step_meta_write(int fd, const struct step_meta *m, struct davit_error *err);
/* What makes no sense reads as zeros. */
void step_meta_read(int fd, struct step_meta *ret);

/* Gives work under way its name. The store must be locked, and nothing there under it. Makes room first:
 * DAVIT_ENOSPC when that cannot be. */
int step_publish(struct davit_artifacts *s, struct step_work *w, enum davit_kept_kind kind, const char *key,
		 const struct step_meta *m, struct davit_error *err);
/* Opens and locks (LOCK_SH or LOCK_EX) the meta of what has this name, without waiting, and notes the use.
 * The store must be locked. DAVIT_ENOENT, DAVIT_EINUSE. */
int step_take(struct davit_artifacts *s, enum davit_kept_kind kind, const char *key, int lock, int *ret_fd,
	      struct davit_error *err);
/* Renames it into tmp, to be removed by name later, and takes its bytes off the total. The store must be
 * locked. */
int step_discard(struct davit_artifacts *s, enum davit_kept_kind kind, const char *key, uint64_t bytes,
		 char ret_name[80], struct davit_error *err);
/* Removes what lies in tmp under that name. */
void step_sweep(struct davit_artifacts *s, const char *name);

/* The bytes that all things have; add to it (the store must be locked). */
uint64_t step_total(struct davit_artifacts *s);
void step_total_add(struct davit_artifacts *s, int64_t bytes);
/* Collects until `bytes` are left; the store must be locked. Names of tmp to sweep afterwards are appended
 * to *swept (base/strv.h). */
int step_make_room(struct davit_artifacts *s, uint64_t bytes, davit_collected_fn *fn, void *user,
		   char ***swept, uint64_t *ret_left, struct davit_error *err);

/* trees.c: hashes the "fs" of w and publishes it, or takes the one that is there. Blocks. */
int step_store_tree(struct davit_artifacts *s, struct step_work *w, struct davit_artifact_hold *ret,
		    struct davit_error *err);
/* store.c: writes an id into a file of the store, and reads it. */
int step_note_id(struct davit_artifacts *s, const char *name, const char *id, struct davit_error *err);
bool step_read_id(struct davit_artifacts *s, const char *name, char ret[DAVIT_ARTIFACT_ID_MAX]);

#endif
