/* SPDX-License-Identifier: MIT
 *
 * The cache of builds:
 *
 *   sources/HASH/        a source as it was, never changed
 *   work/ID/             where it was built and runs: source/, out/, and key
 *   builds/KEY.json      a build that succeeded: its result and its ID
 *   refs/NS/NAME/VERSION the IDs that a service uses: the present one, and the
 *                        one before, which serves until the update is through
 *   locks/               one file for each of the above while it is worked on
 *   home/                the tools' own caches
 *
 * A build stays where it was made, for tools write absolute paths into what they
 * make (a Python environment, a library's rpath). What makes it count is the
 * rename of its result to builds/KEY.json. A directory in work/ that no result,
 * no service and no process names is what a crash left.
 */
#ifndef DAVIT_SOURCE_CACHE_H
#define DAVIT_SOURCE_CACHE_H

#include "davit/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define DAVIT_CACHE_ID_MAX 24

struct davit_cache {
	const char *root; /* borrowed */
	uint64_t max;	  /* bytes */
	/* Removes an image of a build that is not needed any more: 0 when it is gone. NULL:
	 * such builds stay. */
	int (*drop_image)(void *user, const char *runtime, const char *reference);
	void *user;
};

/* A directory to build in. */
struct davit_work {
	char id[DAVIT_CACHE_ID_MAX];
	char *path;
	int lock; /* held by the builder */
};

/* Makes the directories. */
int davit_cache_open(struct davit_cache *c, const char *root, uint64_t max, struct davit_error *err);

/* A path in the cache, a heap string, or NULL. */
char *davit_cache_path(const struct davit_cache *c, const char *dir, const char *name, const char *suffix);

/* Takes the lock `name`, alone or with others who share it, waiting for it;
 * *ret_fd is closed to give it back. Says so on standard output when it waits. */
int davit_cache_lock(const struct davit_cache *c, const char *name, bool shared, int *ret_fd,
		     struct davit_error *err);

int davit_work_new(const struct davit_cache *c, struct davit_work *ret, struct davit_error *err);
/* Removes what was not committed and gives the lock back. */
void davit_work_end(const struct davit_cache *c, struct davit_work *w, bool keep);

/* The result of the build KEY, to be json_decref'd; NULL when there is none.
 * Marks it as used now. Call with the lock KEY held. */
json_t *davit_cache_lookup(const struct davit_cache *c, const char *key);
/* Makes a build count. Call with the lock KEY held. */
int davit_cache_commit(const struct davit_cache *c, const char *key, const struct davit_work *w,
		       json_t *result, struct davit_error *err);
/* Notes that a service uses a build, in a file that whoever forgets the service
 * removes: *ret_path, owned by the caller. Call with the lock of its key held. */
int davit_cache_refer(const struct davit_cache *c, const char *ns, const char *name, const char *version,
		      const char *id, char **ret_path, struct davit_error *err);

/* Removes what crashes left, images that no service refers to, and, while the cache
 * is above its size, what was used longest ago and is in use by no service and no
 * process. */
int davit_cache_collect(const struct davit_cache *c, struct davit_error *err);

#endif
