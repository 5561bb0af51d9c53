/* SPDX-License-Identifier: MIT
 *
 * One transaction of a command: changes of desired state that become durable
 * together, and then take effect through the registry. Not for use outside
 * src/core.
 */
#ifndef DAVIT_CORE_TRANSACTION_H
#define DAVIT_CORE_TRANSACTION_H

#include "core/core_impl.h"

struct pending {
	struct davit_list list; /* in core->commands while it is with the store */
	struct davit_store_txn txn;
	struct davit_core *core; /* NULL: it went while the store was at work */
	struct davit_op *op;
	char *cause;
	size_t n;
	size_t n_untold;		    /* changes behind the n: notes of their events */
	struct davit_store_change *changes; /* keys and values are owned */
	const char **types;		    /* the event of each, static */
};

/* op is completed by pending_commit; `cause` goes into the events. NULL with
 * *err when out of memory. */
struct pending *pending_new(struct davit_core *c, size_t max, const char *cause, struct davit_op *op,
			    struct davit_error *err);
/* Takes key and value, also when it fails; put false: deletes the key. The whole
 * is refused if the key's revision is not `expect`. type: of the event, or NULL. */
int pending_add(struct pending *p, char *key, char *value, bool put, int64_t expect, const char *type,
		struct davit_error *err);
/* Hands it to the store; frees it when that has answered. Always 0. */
int pending_commit(struct pending *p);
/* Once, at the start: tells the events of what was committed just before the last
 * daemon died. */
int core_tell_untold(struct davit_core *c, struct davit_error *err);
/* For one that is not committed. */
void pending_free(struct pending *p);

#endif
