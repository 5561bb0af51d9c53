/* SPDX-License-Identifier: MIT
 *
 * The end of a run: nothing of it is left but its directory.
 */
#include "run/host.h"

#include "base/fault.h"
#include "base/file.h"

#include <stdio.h>
#include <string.h>

struct names {
	struct host *host;
	char name[64][17];
	size_t n;
};

static void gather_name(void *user, const char *name)
{
	struct names *all = user;

	if (all->n < DAVIT_ARRAY_SIZE(all->name))
		snprintf(all->name[all->n++], sizeof all->name[0], "%s", name);
}

/* Steps that a host before this one has started, and died before it forgot them. */
static void forget_rest(struct host *h)
{
	struct names all = {.host = h};

	do {
		all.n = 0;
		if (davit_executions_durable(h->store, h->id, gather_name, &all, NULL) < 0)
			return;
		for (size_t i = 0; i < all.n; i++) {
			struct davit_execution *x = NULL;

			if (davit_execution_attach(h->loop, h->store, all.name[i], NULL, NULL, &x, NULL) == 0)
				davit_execution_free(x);
		}
		davit_loop_run(h->loop);
	} while (all.n == DAVIT_ARRAY_SIZE(all.name));
}

/* How it has ended, as its plan has it; or that it cannot go on, for which why says the reason. */
struct ending {
	const char *outcome, *message;
	int64_t began, ended;
};

static struct ending ending_of(const struct host *h, const struct davit_error *why)
{
	const struct davit_plan_node *root = h->plan ? h->plan->root : NULL;

	if (why)
		return (struct ending){davit_plan_outcome_name(DAVIT_PLAN_ERRORED), why->message,
				       root ? root->began : 0, davit_loop_wall(h->loop)};
	return (struct ending){davit_plan_outcome_name(root->outcome), root->message, root->began,
			       root->ended};
}

/* --------------------------------------------------------------------- outputs that a user asked for */

/* What it was given under that name is not what it has made. */
static const struct davit_artifact_hold *made(const struct host *h, const char *name)
{
	const struct davit_artifact_hold *a = host_artifact(h, name);
	const char *given = json_string_value(json_object_get(json_object_get(h->about, "inputs"), name));

	return a && given && !strcmp(a->id, given) && h->plan->root->outcome != DAVIT_PLAN_SUCCEEDED ? NULL
												     : a;
}

static void tell_failure(struct host *h, const char *text)
{
	struct davit_json *j = events_begin(&h->events, "note", NULL);

	davit_json_put_string(j, "text", text);
	events_end(&h->events);
}

/* Each to where it is to go. The last one that cannot be written is in err. */
static int write_outputs(struct host *h, struct davit_error *err)
{
	const char *name;
	json_t *to;
	int result = 0;

	json_object_foreach(json_object_get(h->about, "outputs"), name, to)
	{
		const struct davit_artifact_hold *a = made(h, name);
		int r = a ? davit_artifacts_get(h->store, a, json_string_value(to), err) : 0;

		DAVIT_FAULT("run-output");
		if (r == 0)
			continue;
		davit_error_prefix(err, "the output '%s' cannot be written", name);
		tell_failure(h, err->message);
		result = r;
	}
	return result;
}

static int write_end(struct host *h, const struct ending *e, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *path = davit_path_join(h->dir, "end.json");
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);
	struct artifact *a;

	davit_json_open(&j);
	davit_json_put_string(&j, "outcome", e->outcome);
	davit_json_put_time(&j, "started", e->began);
	davit_json_put_time(&j, "ended", e->ended);
	if (e->message)
		davit_json_put_string(&j, "message", e->message);
	davit_json_key(&j, "artifacts");
	davit_json_open(&j);
	DAVIT_LIST_FOREACH (a, &h->artifacts, list)
		davit_json_put_string(&j, a->name, a->hold.id);
	davit_json_close(&j);
	davit_json_close(&j);
	if (!path || b.oom)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	return davit_write_file(path, davit_buf_str(&b), b.len, 0600, err);
}

static void tell_end(struct host *h, const struct ending *e)
{
	struct davit_json *j = events_begin(&h->events, "end", NULL);

	davit_json_put_string(j, "outcome", e->outcome);
	if (e->message)
		davit_json_put_string(j, "message", e->message);
	events_end(&h->events);
	events_flush(&h->events);
}

/* Writes how it has ended, and lets go of all that it had. */
int host_conclude(struct host *h, const struct davit_error *why, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *holds = davit_path_join(h->dir, "holds");
	struct davit_error failed;
	struct ending e;
	int r;

	if (!why && write_outputs(h, &failed) < 0 && h->plan->root->outcome == DAVIT_PLAN_SUCCEEDED)
		why = &failed;
	e = ending_of(h, why);
	forget_rest(h);
	DAVIT_FAULT("run-ending");
	tell_end(h, &e);
	davit_remove_tree(h->work, NULL);
	r = write_end(h, &e, err);
	DAVIT_FAULT("run-ended");
	if (r == 0 && holds)
		unlink(holds);
	return r;
}
