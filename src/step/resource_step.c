/* SPDX-License-Identifier: MIT */
#include "step/resource_step.h"

#include "base/file.h"
#include "davit/execute.h"

#include <stdio.h>
#include <string.h>

#define READ_BYTES 65536

struct davit_resource_step {
	struct davit_resource_events on;
	void *owner;
	enum davit_resource_action action;
	char *directory; /* of a get: where to */
	struct davit_artifacts *store;
	struct davit_artifact_hold input;
	struct davit_execution *x;
	uint64_t log_offset;
};

static const char *const places[] = {
	[DAVIT_RESOURCE_CHECK] = NULL,
	[DAVIT_RESOURCE_IN] = "get",
	[DAVIT_RESOURCE_OUT] = "put",
};

static void on_output(void *user, struct davit_execution *x)
{
	struct davit_resource_step *s = user;
	char buf[READ_BYTES];
	ssize_t n;

	while ((n = davit_execution_read(x, DAVIT_STEP_ERR, s->log_offset, buf, sizeof buf, NULL)) > 0) {
		s->log_offset += (uint64_t)n;
		if (s->on.log)
			s->on.log(s->owner, buf, (size_t)n);
	}
}

static void on_note(void *user, struct davit_execution *x, const char *text)
{
	struct davit_resource_step *s = user;

	if (!s->on.log)
		return;
	s->on.log(s->owner, text, strlen(text));
	s->on.log(s->owner, "\n", 1);
}

static int read_answer(struct davit_execution *x, struct davit_buf *out, struct davit_error *err)
{
	ssize_t n;

	do {
		if (out->len > DAVIT_RESOURCE_OUTPUT_MAX)
			return davit_error_set(err, DAVIT_EPROTO, NULL, "it printed more than %zu MiB",
					       DAVIT_RESOURCE_OUTPUT_MAX >> 20);
		if (davit_buf_reserve(out, READ_BYTES) < 0)
			return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
		n = davit_execution_read(x, DAVIT_STEP_OUT, out->len, out->data + out->len, READ_BYTES, err);
		out->len += n > 0 ? (size_t)n : 0;
	} while (n > 0);
	return (int)n;
}

static int take(struct davit_resource_step *s, const struct davit_result *r, struct davit_resource_end *end,
		struct davit_error *err)
{
	DAVIT_AUTO_BUF out = DAVIT_BUF_INIT;
	int e = read_answer(s->x, &out, err);

	if (e == 0 && s->action == DAVIT_RESOURCE_CHECK)
		e = davit_resource_read_versions(davit_buf_str(&out), out.len, &end->versions, err);
	else if (e == 0)
		e = davit_resource_read_result(davit_buf_str(&out), out.len, &end->version, &end->metadata,
					       err);
	if (e < 0)
		davit_error_prefix(err, "%s", davit_resource_action_name(s->action));
	if (e == 0 && s->action == DAVIT_RESOURCE_IN)
		e = davit_artifacts_get_directory(s->store, &r->outputs[0].tree, s->directory, err);
	return e;
}

/* Why it did not succeed. */
static void explain(const struct davit_resource_step *s, const struct davit_result *r,
		    struct davit_error *err)
{
	const char *what = davit_resource_action_name(s->action);

	if (r->outcome == DAVIT_OUTCOME_ERRORED)
		davit_error_copy(err, &r->error);
	else if (r->outcome == DAVIT_OUTCOME_ABORTED)
		davit_error_set(err, DAVIT_ECANCELED, NULL, "%s was aborted", what);
	else if (r->timed_out)
		davit_error_set(err, DAVIT_ETIMEDOUT, NULL, "%s: its time was over", what);
	else if (r->exited)
		davit_error_set(err, DAVIT_EIO, NULL, "%s failed: exit status %d", what, r->exit_status);
	else
		davit_error_set(err, DAVIT_EIO, NULL, "%s was killed by signal %d", what, r->signo);
}

static void on_done(void *user, struct davit_execution *x, const struct davit_result *r)
{
	static const enum davit_plan_outcome outcomes[] = {
		[DAVIT_OUTCOME_SUCCEEDED] = DAVIT_PLAN_SUCCEEDED,
		[DAVIT_OUTCOME_FAILED] = DAVIT_PLAN_FAILED,
		[DAVIT_OUTCOME_ERRORED] = DAVIT_PLAN_ERRORED,
		[DAVIT_OUTCOME_ABORTED] = DAVIT_PLAN_ABORTED,
	};
	struct davit_resource_step *s = user;
	struct davit_resource_end end = {.outcome = outcomes[r->outcome]};

	if (r->outcome != DAVIT_OUTCOME_SUCCEEDED)
		explain(s, r, &end.error);
	else if (take(s, r, &end, &end.error) < 0)
		end.outcome = DAVIT_PLAN_ERRORED;
	s->on.done(s->owner, &end);
	json_decref(end.versions);
	json_decref(end.version);
	json_decref(end.metadata);
}

static int execute(struct davit_resource_step *s, struct davit_loop *loop,
		   const struct davit_resource_spec *spec, const char *image, const char *runtime,
		   struct davit_error *err)
{
	static const struct davit_execution_events on = {
		.output = on_output, .note = on_note, .done = on_done};
	struct davit_artifact with = {.use = DAVIT_USE_OUTPUT, .name = places[s->action]};
	struct davit_resource_spec inside = *spec;
	struct davit_resource_call call;
	char place[64];
	int r;

	inside.type = "/opt/resource";
	inside.inside = true;
	snprintf(place, sizeof place, DAVIT_STEP_BASE "/%s", places[s->action] ? places[s->action] : "");
	inside.directory = place;
	if (s->action == DAVIT_RESOURCE_OUT) {
		with.use = DAVIT_USE_INPUT;
		with.type = DAVIT_ARTIFACT_TREE;
		with.location = s->input.id;
	}
	r = davit_resource_prepare(&inside, DAVIT_STEP_BASE, &call, err);
	if (r < 0)
		return r;
	const struct davit_run_spec run = {
		.runtime = runtime,
		.image = {.type = DAVIT_ARTIFACT_IMAGE, .location = image},
		.path = call.path,
		.args = (char *const[]){(char *)call.arg, NULL},
		.env = call.env,
		.dir = call.dir,
		.timeout = spec->timeout,
		.grace = spec->grace,
		.log_max = DAVIT_RESOURCE_LOG_MAX,
		.input = call.request.data,
		.input_len = call.request.len,
	};
	r = davit_execute(loop, s->store, &run, &with, places[s->action] != NULL, &on, s, &s->x, err);
	davit_resource_call_fini(&call);
	return r;
}

int davit_resource_step_start(struct davit_loop *loop, struct davit_artifacts *store,
			      const struct davit_resource_spec *spec, const char *image, const char *runtime,
			      const struct davit_resource_events *on, void *owner,
			      struct davit_resource_step **ret, struct davit_error *err)
{
	struct davit_resource_step *s = calloc(1, sizeof *s);
	int r = 0;

	if (!s)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	s->store = store;
	s->on = *on;
	s->owner = owner;
	s->action = spec->action;
	s->input = (struct davit_artifact_hold)DAVIT_ARTIFACT_HOLD_INIT;
	if (s->action != DAVIT_RESOURCE_OUT && (spec->version || s->action == DAVIT_RESOURCE_IN))
		r = davit_resource_check_version(spec->version, err);
	if (r == 0 && s->action == DAVIT_RESOURCE_IN) {
		s->directory = strdup(spec->directory);
		r = s->directory ? 0 : davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	if (r == 0 && s->action == DAVIT_RESOURCE_OUT)
		r = davit_artifacts_put_directory(s->store, spec->directory, NULL, &s->input, err);
	if (r == 0)
		r = execute(s, loop, spec, image, runtime, err);
	if (r < 0) {
		davit_resource_step_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void davit_resource_step_abort(struct davit_resource_step *s)
{
	davit_execution_abort(s->x);
}

void davit_resource_step_free(struct davit_resource_step *s)
{
	if (!s)
		return;
	davit_execution_free(s->x);
	davit_artifact_release(&s->input);
	free(s->directory);
	free(s);
}
