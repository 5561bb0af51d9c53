/* SPDX-License-Identifier: MIT
 *
 * The store: an ordered map from keys to values with revisions, transactions
 * and watches, as etcd has them, so that memory, sqlite and etcd can all be it.
 *
 * Every committed transaction that changes something has a revision, one higher
 * than the last. A key's mod_revision is that of its last change. Keys are UTF-8
 * without NUL, of 1 to 512 bytes, ordered by byte; values are bytes, at most 1 MiB.
 *
 * All calls are made on the loop's thread, and callbacks come on it. No call
 * blocks on the disk: commits are grouped and done off the loop.
 */
#ifndef DAVIT_STORE_H
#define DAVIT_STORE_H

#include "davit/error.h"
#include "davit/loop.h"
#include "davit/op.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DAVIT_STORE_ABI 1
#define DAVIT_STORE_KEY_MAX 512
#define DAVIT_STORE_VALUE_MAX (1024 * 1024)

struct davit_store;
struct davit_store_driver;

struct davit_kv {
	const char *key;
	const void *value; /* NULL with len 0 for a deletion told by a watch, and only then */
	size_t len;
	int64_t mod_revision;
	bool deleted;
};

/* One change within a transaction. */
enum davit_store_verb {
	DAVIT_STORE_PUT,
	DAVIT_STORE_DELETE,
	DAVIT_STORE_DELETE_RANGE, /* all keys k with key <= k < key_end */
};

struct davit_store_change {
	enum davit_store_verb verb;
	const char *key;
	const char *key_end; /* DELETE_RANGE only */
	const void *value;   /* PUT only */
	size_t len;
	/* When check is set the whole transaction is refused with
	 * DAVIT_ECONFLICT unless the key's mod_revision equals expect (0: the key
	 * is not there) before the transaction. */
	bool check;
	int64_t expect;
};

/* A transaction under way. The caller owns it until op is done; the store has
 * copied the changes by the time davit_store_commit returns. */
struct davit_store_txn {
	struct davit_op op;   /* done(op, 0) when durable; ECONFLICT, EIO, ENOSPC, EUNAVAIL, ... */
	int64_t ret_revision; /* valid on success */
	void *driver;	      /* the store's while it is pending */
	void *pad[2];
};

struct davit_store_watch {
	/* The caller's. */
	void *user;
	/* One change, in the order of revisions; kv is borrowed during the call.
	 * Changes of one transaction come together, in key order. */
	void (*change)(struct davit_store_watch *w, const struct davit_kv *kv);
	/* The watch is broken and over: DAVIT_ECOMPACTED (list again, then watch
	 * from the list's revision), DAVIT_EUNAVAIL, ... */
	void (*broken)(struct davit_store_watch *w, int code, const struct davit_error *err);
	/* The store's. */
	struct davit_store *store;
	char prefix[DAVIT_STORE_KEY_MAX];
	int64_t next_revision;
	struct davit_store_watch *next, *prev;
	void *driver;
};

/* A listing: called for each key in order. Return false to end it early. */
typedef bool davit_store_list_fn(void *user, const struct davit_kv *kv);

/* What a store is made of. Every slot is mandatory. The validator
 * davit_store_driver_validate says which one is missing. */
struct davit_store_driver {
	uint32_t abi;
	const char *name; /* "memory", "sqlite", "etcd" */
	const char *summary;
	size_t store_size; /* bytes of state behind struct davit_store */

	/* Opens (and makes, if need be) the store at `where`: a file, a URL, or
	 * nothing for memory. May block: called once, before the loop runs. A
	 * damaged file is DAVIT_ECORRUPT, one of a newer format DAVIT_ENOTSUP. */
	int (*open)(struct davit_store *s, const char *where, struct davit_error *err);
	/* Commits what is pending, waits for it, and closes. The operations' done
	 * callbacks come from the loop afterwards; watches end without a call. Not
	 * to be called from a callback of the store. */
	void (*close)(struct davit_store *s);
	/* All or nothing, in the order of calls. txn->op was begun by the caller.
	 * Reads made after the call need not see it before it is done. When several
	 * changes are to one key, the last counts. */
	void (*commit)(struct davit_store *s, const struct davit_store_change *changes, size_t n,
		       struct davit_store_txn *txn);
	/* The keys with this prefix and key >= from (NULL: all), as of one revision (*ret_revision),
	 * at most `limit` (0: all). May read the disk; meant for start-up and for
	 * bounded ranges. Calls fn before it returns. */
	int (*list)(struct davit_store *s, const char *prefix, const char *from, size_t limit,
		    davit_store_list_fn *fn, void *user, int64_t *ret_revision, struct davit_error *err);
	/* As list, from the last key down. */
	int (*list_reverse)(struct davit_store *s, const char *prefix, size_t limit, davit_store_list_fn *fn,
			    void *user, int64_t *ret_revision, struct davit_error *err);
	/* Tells every change after revision `after` of keys with the prefix, those
	 * of the past first, coalesced per key. w stays the caller's memory until
	 * unwatch. `change` is never called from within `watch`. DAVIT_ECOMPACTED
	 * comes from here when it is known at once, else through `broken`. */
	int (*watch)(struct davit_store *s, const char *prefix, int64_t after, struct davit_store_watch *w,
		     struct davit_error *err);
	/* Allowed in any callback, on any watch; nothing happens to one that is
	 * over. No call comes after it. */
	void (*unwatch)(struct davit_store *s, struct davit_store_watch *w);
	/* The last failure of the store, cleared by the next success: 0 or code. */
	int (*health)(struct davit_store *s, struct davit_error *err);
};

struct davit_store {
	const struct davit_store_driver *driver;
	struct davit_loop *loop;
	/* the driver's state follows */
};

static inline void *davit_store_state(struct davit_store *s)
{
	return s + 1;
}

int davit_store_driver_validate(const struct davit_store_driver *driver, struct davit_error *err);

/* Allocates and opens; *ret is owned, davit_store_close frees it. */
int davit_store_open(const struct davit_store_driver *driver, struct davit_loop *loop, const char *where,
		     struct davit_store **ret, struct davit_error *err);
void davit_store_close(struct davit_store *s);
/* Checks sizes, begins txn->op and commits. Failures come through op.
 * txn->op must have been set up with davit_op_init. timeout_ns as davit_op_begin. */
void davit_store_commit(struct davit_store *s, const struct davit_store_change *changes, size_t n,
			struct davit_store_txn *txn, int64_t timeout_ns);

#ifdef __cplusplus
}
#endif
#endif
