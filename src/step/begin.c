/* SPDX-License-Identifier: MIT
 *
 * The beginning of an execution: is its result known? Else what it takes, its image, and the helper.
 *
 *   without an image   known? -> prepare -> helper
 *   with one           prepare -> image -> known? -> helper
 */
#include "step/execution.h"

#include "base/strv.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int run(struct davit_execution *x, struct davit_error *err)
{
	int r = step_spawn(x, err);

	return r < 0 ? r : step_watch(x, err);
}

static void run_image(uv_work_t *work)
{
	struct davit_execution *x = work->data;
	int r = x->runtime->engine
			? step_image_ask(x, x->fetching_image, x->image_id, sizeof x->image_id, &x->error)
			: step_image_take(x, &x->error);

	if (r < 0)
		x->error.code = r;
}

static void after_image(uv_work_t *work, int status);

/* In a thread, for it can have to be fetched. */
static int ask_for_image(struct davit_execution *x, struct davit_error *err)
{
	x->work.data = x;
	x->working = uv_queue_work(davit_loop_uv(x->loop), &x->work, run_image, after_image) == 0;
	x->taking = x->working;
	return x->working ? 0 : davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

static int note_fetch(struct davit_execution *x, struct davit_error *err)
{
	char text[600];

	snprintf(text, sizeof text, "fetching the image %s", x->image);
	return davit_strv_add(&x->notes, text) < 0 ? davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory")
						   : 0;
}

/* Is the result known, now that the image is? It has files for its streams, which stay if it is not. */
static int recall_late(struct davit_execution *x, const char *id, struct davit_error *err)
{
	int own[DAVIT_STEP_STREAMS], known;

	if (!x->remember || !x->unkeyed)
		return 0;
	step_key_image(x, id);
	memcpy(own, x->streams, sizeof own);
	x->streams[0] = x->streams[1] = -1;
	known = step_recall(x, err);
	for (int i = 0; i < DAVIT_STEP_STREAMS; i++)
		if (known > 0)
			close(own[i]);
		else
			x->streams[i] = own[i];
	/* Who takes it over is to remember it, too. */
	return known == 0 && x->durable ? step_keep_order(x, err) : known;
}

/* The image is there: 1 if that ends it, 0 if the step has been started, or a code. */
static int go_on(struct davit_execution *x, struct davit_error *err)
{
	int r = recall_late(x, x->image_id, err);

	if (r)
		return r;
	/* What is known of this image is known of no other that gets its name meanwhile. */
	if (x->runtime->engine)
		step_record(x, STEP_IMAGE, x->image_id);
	else
		r = step_image_order(x, err);
	return r < 0 ? r : run(x, err);
}

/* An engine has to be asked again, and may take its time. */
static bool fetch_now(struct davit_execution *x)
{
	if (!x->runtime->engine || *x->image_id || x->fetching_image || x->error.code || x->end.aborted)
		return false;
	x->fetching_image = true;
	if (note_fetch(x, &x->error) < 0 || ask_for_image(x, &x->error) < 0)
		return false;
	step_deliver(x);
	return true;
}

static void after_image(uv_work_t *work, int status)
{
	struct davit_execution *x = work->data;
	int r;

	x->working = x->taking = false;
	if (x->freed) {
		step_finish_freeing(x);
		return;
	}
	if (fetch_now(x))
		return;
	r = x->error.code || x->end.aborted ? DAVIT_ECANCELED : go_on(x, &x->error);
	if (r == 0)
		return;
	if (r < 0) {
		x->result.outcome = x->end.aborted ? DAVIT_OUTCOME_ABORTED : DAVIT_OUTCOME_ERRORED;
		davit_error_copy(&x->result.error, &x->error);
	}
	x->ended = x->complete = true;
	step_deliver(x);
}

static int begin_with_image(struct davit_execution *x, struct davit_error *err)
{
	char id[80];
	int r = 0;

	if (!x->runtime->engine)
		r = step_image_id(x->store, x->image, id, sizeof id, err);
	if (r == 0 && !x->runtime->engine && !*id)
		r = note_fetch(x, err);
	return r < 0 ? r : ask_for_image(x, err);
}

/* Is its result there already? 1, 0, or a code. */
static int is_known(struct davit_execution *x, const struct davit_run_spec *spec,
		    const struct davit_artifact *artifacts, size_t n, struct davit_error *err)
{
	int r = spec->cache ? step_key(x, spec, artifacts, n, err) : 0;

	return r < 0 || x->unkeyed ? r : step_recall(x, err);
}

int step_begin(struct davit_execution *x, const struct davit_run_spec *spec,
	       const struct davit_artifact *artifacts, size_t n, struct davit_error *err)
{
	int r = step_check(spec, n, err);

	if (r < 0)
		return r;
	if (spec->durable) {
		x->durable = true;
		snprintf(x->id, sizeof x->id, "%s", spec->durable);
	}
	if (asprintf(&x->directory, "%s/runs/%s", x->store->directory, x->id) < 0) {
		x->directory = NULL;
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	r = is_known(x, spec, artifacts, n, err);
	if (r > 0) {
		x->complete = true;
		step_deliver(x);
		return 0;
	}
	if (r == 0)
		r = step_prepare(x, spec, artifacts, n, err);
	if (r == 0)
		r = x->image ? begin_with_image(x, err) : run(x, err);
	if (r == 0 && x->notes)
		step_deliver(x);
	return r;
}
