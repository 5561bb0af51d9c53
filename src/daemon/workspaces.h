/* SPDX-License-Identifier: MIT
 *
 * What the handlers of workspaces share: orders, which are requests on their way
 * through several operations.
 */
#ifndef DAVIT_DAEMON_WORKSPACES_H
#define DAVIT_DAEMON_WORKSPACES_H

#include "daemon/api.h"
#include "workspace/config.h"
#include "workspace/workspace.h"

enum { WORKSPACE_TRIES = 20 }; /* of a change that others are faster with */

/* The selector of all services that may be workspaces. */
extern const struct davit_selector workspaces_all;

/* One request. The workspace is known by its id from the first on: its name may be
 * given anew meanwhile. */
struct order {
	struct api_call *call;
	struct davit_map *coming; /* reservations: name -> order */
	char id[DAVIT_WORKSPACE_ID_MAX];
	char name[DAVIT_WORKSPACE_NAME_MAX];
	unsigned tries;
	bool run;   /* what is waited for */
	bool force; /* of a removal */
	/* init */
	struct davit_workspace_merged merged;
	char *source;
	char wish[DAVIT_WORKSPACE_NAME_MAX];
	unsigned nth;
	bool reserved;
	struct davit_spec *spec;
	struct davit_error why; /* of a start that failed, told when its record is gone */
};

/* NULL after the error was answered. */
struct order *order_new(struct api_call *call);
/* Ends it, and answers the error. */
void order_fail(struct order *o, const struct davit_error *err);
/* Gives its name back. */
void order_unreserve(struct order *o);
/* The order's workspace as it is now, or NULL after the order was ended with the error. */
struct davit_service *order_target(struct order *o);
/* The operation of the order's call, begun: to be handed to a function of the core, and
 * order_fail to be called if that refuses at once. */
struct davit_op *order_step(struct order *o, void (*done)(struct davit_op *, int), int64_t timeout);
/* Waits until the workspace is as the order wants it. */
void order_await(struct order *o, void (*done)(struct davit_op *, int));
/* `done` of that: answers with the workspace, or with why it is not so. */
void order_awaited(struct davit_op *op, int result);
/* Ends the order with the workspace as the answer. */
void order_reply(struct order *o, struct davit_service *s);

/* By id, its beginning, or name: 0, DAVIT_ENOENT, DAVIT_EINVAL. */
int workspace_find(struct davit_daemon *d, const char *wanted, struct davit_service **ret,
		   struct davit_error *err);

#endif
