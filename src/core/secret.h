/* SPDX-License-Identifier: MIT
 *
 * Secrets: named values of a namespace, kept encrypted in the store and given to
 * workloads as files in memory.
 *
 * In the store a value is sealed (XChaCha20-Poly1305) with a key that is only in
 * the file <state>/secret.key (0600, 32 random bytes), made with the first
 * secret. Namespace, name and times are bound to the value: a record moved to
 * another name does not open. When the key is missing or is not the one that
 * the secrets were sealed with, every call that needs it says so and changes
 * nothing; putting the right file back is enough to recover.
 *
 * All calls are made on the loop's thread. Names and namespaces are as
 * davit_name_check allows. The key under which a secret stands in the store is
 * "secrets/NAMESPACE/NAME"; watch that prefix to hear of changes.
 */
#ifndef DAVIT_CORE_SECRET_H
#define DAVIT_CORE_SECRET_H

#include "davit/op.h"
#include "davit/spec.h"
#include "davit/store.h"

#define DAVIT_SECRET_PREFIX "secrets/"
/* The store's limit less what sealing adds. */
#define DAVIT_SECRET_MAX (DAVIT_STORE_VALUE_MAX - 128)

struct davit_secrets;

/* state_dir: where secret.key is or will be. run_dir: files for workloads go to
 * run_dir/credentials if that is on tmpfs or ramfs, else to a private directory
 * under /dev/shm. Both are copied, the store is borrowed. Touches nothing on
 * disk. DAVIT_ENOMEM, DAVIT_EUNAVAIL (no randomness). */
int davit_secrets_open(const char *state_dir, const char *run_dir, struct davit_store *store,
		       struct davit_secrets **ret, struct davit_error *err);
/* Wipes the key from memory. Operations under way complete later, without it.
 * NULL is allowed. */
void davit_secrets_close(struct davit_secrets *s);

/* Creates or replaces. value is copied (sealed) before it returns. Returns a
 * code with *err filled, and op not touched (names, size, key), or 0: then op,
 * which must have been set up with davit_op_init, completes when the change is
 * durable, or with the store's error. */
int davit_secrets_set(struct davit_secrets *s, const char *namespace_, const char *name, const void *value,
		      size_t len, struct davit_op *op, struct davit_error *err);
/* DAVIT_ENOENT, with op not touched, when there is none of that name. */
int davit_secrets_remove(struct davit_secrets *s, const char *namespace_, const char *name,
			 struct davit_op *op, struct davit_error *err);

struct davit_secret_info {
	const char *namespace_, *name; /* borrowed during the call */
	int64_t created, updated;      /* unix ns */
};
/* Calls fn for each secret of the namespace (NULL: of all), by namespace and
 * name, until fn returns false. Needs no key. Records that cannot be understood
 * are passed over. */
int davit_secrets_list(struct davit_secrets *s, const char *namespace_,
		       bool (*fn)(void *user, const struct davit_secret_info *info), void *user,
		       struct davit_error *err);

/* An opened value. A NUL follows data, not counted in len. */
struct davit_secret {
	char *data;
	size_t len;
};
/* DAVIT_ENOENT, DAVIT_ECORRUPT (record damaged or moved, key wrong or missing),
 * DAVIT_EPERM (others may read the key), DAVIT_ENOMEM, the store's errors. Free with
 * davit_secret_wipe. */
int davit_secrets_get(struct davit_secrets *s, const char *namespace_, const char *name,
		      struct davit_secret *ret, struct davit_error *err);
/* Overwrites and frees. */
void davit_secret_wipe(struct davit_secret *v);

/* Writes the secrets among refs that are wanted as files (env is NULL) into the
 * directory `name`, replacing what was there. All or nothing for a first
 * call. *ret_dir is the directory, for $CREDENTIALS_DIRECTORY, owned by the
 * caller.
 *
 * A file has mode 0400 and belongs to uid:gid ((uid_t)-1: the daemon's own). The
 * directory stays the daemon's, so that a workload cannot put anything in the
 * way of a later call: 0700, or 0711 when the files are another user's, who can
 * then open what it knows by name. Writes to memory only; blocks shortly.
 * DAVIT_ENOTSUP when there is no tmpfs to write to; the errors of get, which
 * then name the secret. */
int davit_secrets_materialise(struct davit_secrets *s, const char *name, const char *namespace_,
			      const struct davit_secret_ref *refs, size_t n, uid_t uid, gid_t gid,
			      char **ret_dir, struct davit_error *err);
/* A directory in the same place for files that are no secret: the daemon's, and open to
 * all for reading. *ret_dir is the caller's. */
int davit_secrets_directory(struct davit_secrets *s, const char *name, char **ret_dir,
			    struct davit_error *err);
/* Removes such a directory, also one of a daemon before us. Success when there is none. */
int davit_secrets_discard(struct davit_secrets *s, const char *name, struct davit_error *err);
/* Removes all those directories of which fn says that nobody needs them any more. */
void davit_secrets_sweep(struct davit_secrets *s, bool (*is_left)(void *user, const char *name), void *user);

#endif
