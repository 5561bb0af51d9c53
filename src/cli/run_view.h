/* SPDX-License-Identifier: MIT
 *
 * A run of a plan as people see it: what its steps print, and - on a terminal - a tree of the plan with
 * states and durations below it, or a line for each change elsewhere.
 */
#ifndef DAVIT_CLI_RUN_VIEW_H
#define DAVIT_CLI_RUN_VIEW_H

#include "cli/cli.h"

struct run_view;

enum run_view_kind {
	RUN_VIEW_TREE,	/* on a terminal */
	RUN_VIEW_LINES, /* changes as lines on standard error, logs on standard output */
	RUN_VIEW_LOGS,	/* logs alone */
	RUN_VIEW_JSON,	/* events, as they are */
};

/* plan: as in the run; borrowed until run_view_free. step: the logs of steps of this name alone, or NULL. */
int run_view_new(const struct davit_cli *cli, enum run_view_kind kind, const json_t *plan, const char *step,
		 struct run_view **ret, struct davit_error *err);
void run_view_free(struct run_view *v);
/* Takes an event. */
void run_view_event(struct run_view *v, const json_t *event);
/* Draws what has changed. To be called when no event is waiting, and every now and then. */
void run_view_draw(struct run_view *v);
/* A sentence to the user, without tearing what is drawn. */
void run_view_say(struct run_view *v, const char *text);
/* The tree is left as it is, and nothing is drawn any more. */
void run_view_end(struct run_view *v);

/* run_follow.c: follows a run from its beginning to its end, over restarts of the daemon; or, unless
 * `to_the_end`, shows what is there. The user's signals abort it if may_abort (a second one by force), or
 * detach. *ret_status: 0 to 3 by its outcome, -1 when it has not ended. */
int davit_run_follow(struct davit_cli *cli, const char *id, enum run_view_kind kind, const char *step,
		     bool to_the_end, bool may_abort, int *ret_status, struct davit_error *err);
/* What fits this command's output. */
enum run_view_kind davit_run_view_kind(const struct davit_cli *cli);

#endif
