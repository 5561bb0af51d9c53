/* SPDX-License-Identifier: MIT
 *
 * The programs of a resource: where they are, what they get, and what they say. Programs of a type that is a
 * directory are steps on the host as it is, with the rights of who runs the plan (docs/resources.md); those
 * of one that is an image are steps in that.
 */
#include "run/fetch.h"

#include "base/file.h"
#include "base/strv.h"

#include <stdio.h>
#include <string.h>

#define LOG_MAX (UINT64_C(64) << 20)

static int no_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

static void fetch_fini(struct leaf *l)
{
	struct fetch *f = l->state;

	davit_timer_stop(&f->look);
	davit_artifact_release(&f->type);
	davit_artifact_release(&f->tree);
	for (size_t i = 0; f->inputs && i < f->n; i++)
		davit_artifact_release(&f->inputs[i]);
	free(f->inputs);
	free(f->artifacts);
	davit_strv_free(f->names);
	davit_strv_free(f->paths);
	json_decref(f->version);
	json_decref(f->params);
	json_decref(f->metadata);
	if (f->lock >= 0)
		close(f->lock);
	free(f->type_path);
	free(f->home);
	free(f->dest);
	free(f->src);
	free(f->work);
	free(f->locked);
	free(f);
}

/* The end of the leaf, whatever it waited for. */
void fetch_finish(struct leaf *l, enum davit_plan_outcome outcome, const char *message)
{
	struct fetch *f = l->state;

	davit_timer_stop(&f->look);
	davit_get_leave(&f->get);
	if (f->lock >= 0)
		close(f->lock);
	f->lock = -1;
	leaf_end(l, outcome, message, NULL, -1);
}

void fetch_fail(struct leaf *l, const struct davit_error *err)
{
	fetch_finish(l, l->aborted ? DAVIT_PLAN_ABORTED : DAVIT_PLAN_ERRORED, err->message);
}

/* -------------------------------------------------------------------------------- the type */

/* "resource_type": {"tree": ID}, or {"image": NAME}. */
static int find_type(struct leaf *l, struct davit_error *err)
{
	struct fetch *f = l->state;
	const json_t *type = json_object_get(l->config, "resource_type");
	const char *tree = json_string_value(json_object_get(type, "tree")),
		   *word = json_string_value(json_object_get(json_object_get(l->config, "resource"), "type"));
	int r;

	f->image = json_string_value(json_object_get(type, "image"));
	if (f->image) {
		f->type_path = strdup("/opt/resource");
		return f->type_path ? 0 : no_memory(err);
	}
	if (!tree)
		return davit_error_set(err, DAVIT_EINVAL, "resource_type",
				       "the resource type '%.64s' is neither a tree nor an image",
				       word ? word : "");
	r = davit_artifacts_find(l->host->store, tree, &f->type, err);
	if (r < 0)
		return r;
	f->type_path = davit_artifacts_path(l->host->store, &f->type);
	return f->type_path ? 0 : no_memory(err);
}

static int make_paths(struct leaf *l, struct davit_error *err)
{
	struct fetch *f = l->state;
	char name[STEP_NAME_MAX];

	leaf_step_name(l, "work", name);
	f->work = davit_path_join(l->host->work, name);
	if (!f->work || asprintf(&f->home, "%s/home", f->work) < 0)
		return f->home = NULL, no_memory(err);
	if (asprintf(&f->dest, "%s/get", f->image ? DAVIT_STEP_BASE : f->work) < 0)
		return f->dest = NULL, no_memory(err);
	if (asprintf(&f->src, "%s/put", f->image ? DAVIT_STEP_BASE : f->work) < 0)
		return f->src = NULL, no_memory(err);
	return 0;
}

int fetch_begin(struct leaf *l)
{
	struct fetch *f = calloc(1, sizeof *f);
	struct davit_error err;
	int r;

	if (!f)
		host_die(l->host, "out of memory");
	f->leaf = l;
	f->type.fd = f->tree.fd = f->lock = -1;
	l->state = f;
	l->fini = fetch_fini;
	l->silent[DAVIT_STEP_OUT] = true;
	davit_timer_init(&f->look, l->host->loop, NULL);
	r = find_type(l, &err);
	if (r == 0)
		r = make_paths(l, &err);
	if (r < 0)
		leaf_error(l, &err);
	return r;
}

/* -------------------------------------------------------------------------------- programs */

static int fill_call(struct leaf *l, enum davit_resource_action action, struct davit_error *err)
{
	struct fetch *f = l->state;
	const struct davit_resource_spec spec = {
		.action = action,
		.type = f->type_path,
		.inside = f->image != NULL,
		.source = json_object_get(json_object_get(l->config, "resource"), "source"),
		.version = f->version,
		.params = f->params,
		.directory = action == DAVIT_RESOURCE_OUT ? f->src : f->dest,
		.build = {.id = l->host->id,
			  .name = l->host->id,
			  .job = host_text(l->host, "job"),
			  .pipeline = host_text(l->host, "pipeline"),
			  .team = "main"},
	};
	int r = 0;

	if (f->image)
		return davit_resource_prepare(&spec, DAVIT_STEP_BASE, &f->call, err);
	davit_remove_tree(f->home, NULL);
	if (action == DAVIT_RESOURCE_IN)
		davit_remove_tree(f->dest, NULL);
	r = davit_mkdirs(f->home, 0700, err);
	if (r == 0 && action == DAVIT_RESOURCE_IN)
		r = davit_mkdirs(f->dest, 0755, err);
	return r < 0 ? r : davit_resource_prepare(&spec, f->home, &f->call, err);
}

/* Of a step in an image: the directory of a get, or that of a put with the inputs in it, which it may change.
 */
static int make_artifacts(struct fetch *f, enum davit_resource_action action, size_t *ret,
			  struct davit_error *err)
{
	size_t n = 0;

	*ret = 0;
	if (!f->image || action == DAVIT_RESOURCE_CHECK)
		return 0;
	free(f->artifacts);
	f->artifacts = calloc(f->n + 1, sizeof *f->artifacts);
	if (!f->artifacts)
		return no_memory(err);
	f->artifacts[n++] = (struct davit_artifact){.use = DAVIT_USE_OUTPUT,
						    .name = action == DAVIT_RESOURCE_IN ? "get" : "put"};
	for (size_t i = 0; action == DAVIT_RESOURCE_OUT && i < f->n; i++)
		f->artifacts[n++] = (struct davit_artifact){.use = DAVIT_USE_INPUT,
							    .type = DAVIT_ARTIFACT_TREE,
							    .name = f->names[i],
							    .location = f->inputs[i].id,
							    .path = f->paths[i]};
	*ret = n;
	return 0;
}

void fetch_run(struct leaf *l, enum davit_resource_action action,
	       void (*done)(struct leaf *l, const struct davit_result *r))
{
	struct fetch *f = l->state;
	const char *what = davit_resource_action_name(action);
	struct davit_run_spec spec = {.plain = !f->image, .log_max = LOG_MAX};
	struct davit_error err;
	size_t n = 0;

	if (leaf_take_over(l, what, done))
		return;
	if (make_artifacts(f, action, &n, &err) < 0 || fill_call(l, action, &err) < 0) {
		fetch_fail(l, &err);
		return;
	}
	spec.path = f->call.path;
	spec.args = (char *[]){(char *)(uintptr_t)f->call.arg, NULL};
	spec.env = f->call.env;
	spec.dir = f->call.dir;
	spec.input = f->call.request.data;
	spec.input_len = f->call.request.len;
	if (f->image)
		spec.image = (struct davit_artifact){.type = DAVIT_ARTIFACT_IMAGE, .location = f->image};
	leaf_execute(l, what, &spec, f->artifacts, n, done);
	davit_resource_call_fini(&f->call);
}

/* Did the program do what it is for? If not, the leaf has ended. Its answer is appended to out. */
bool fetch_succeeded(struct leaf *l, const struct davit_result *r, struct davit_buf *out)
{
	struct davit_error err;
	char text[160];

	if (r->outcome == DAVIT_OUTCOME_SUCCEEDED) {
		if (leaf_read_stream(l, DAVIT_STEP_OUT, DAVIT_RESOURCE_OUTPUT_MAX, out, &err) == 0)
			return true;
		davit_error_prefix(&err, "%s", l->part);
		fetch_fail(l, &err);
		return false;
	}
	if (r->signo)
		snprintf(text, sizeof text, "%s was ended by the signal %d", l->part, r->signo);
	else
		snprintf(text, sizeof text, "%s failed with the exit status %d", l->part, r->exit_status);
	fetch_finish(l,
		     r->outcome == DAVIT_OUTCOME_ABORTED  ? DAVIT_PLAN_ABORTED
		     : r->outcome == DAVIT_OUTCOME_FAILED ? DAVIT_PLAN_FAILED
							  : DAVIT_PLAN_ERRORED,
		     r->outcome == DAVIT_OUTCOME_ERRORED ? r->error.message : text);
	return false;
}

/* ----------------------------------------------------------------------- inputs of a put */

/* In a thread: copies, for the program may change them. */
int fetch_gather(struct leaf *l, struct davit_error *err)
{
	struct fetch *f = l->state;
	int r;

	davit_remove_tree(f->src, NULL);
	r = davit_mkdirs(f->src, 0755, err);
	for (size_t i = 0; r == 0 && i < f->n; i++) {
		DAVIT_AUTO_FREE char *to = davit_path_join(f->src, f->names[i]);
		r = to ? davit_artifacts_get_directory(l->host->store, &f->inputs[i], to, err)
		       : no_memory(err);
	}
	return r;
}

int fetch_choose_inputs(struct leaf *l, struct davit_error *err)
{
	struct fetch *f = l->state;
	DAVIT_AUTO_FREE const char **names = NULL;
	struct artifact *a;
	size_t n = 0;
	int r;

	DAVIT_LIST_FOREACH (a, &l->host->artifacts, list)
		n++;
	names = calloc(n + 1, sizeof *names);
	if (!names)
		return no_memory(err);
	n = 0;
	DAVIT_LIST_FOREACH (a, &l->host->artifacts, list)
		names[n++] = a->name;
	r = davit_put_inputs(json_object_get(l->config, "inputs"), f->params, names, n, &f->names, err);
	if (r < 0)
		return r;
	f->inputs = calloc(davit_strv_len(f->names) + 1, sizeof *f->inputs);
	if (!f->inputs)
		return no_memory(err);
	for (char **name = f->names; r == 0 && name && *name; name++) {
		DAVIT_AUTO_FREE char *path = davit_path_join("put", *name);
		if (!path || davit_strv_add(&f->paths, path) < 0)
			return no_memory(err);
		f->inputs[f->n] = (struct davit_artifact_hold)DAVIT_ARTIFACT_HOLD_INIT;
		r = davit_artifacts_find(l->host->store, host_artifact(l->host, *name)->id,
					 &f->inputs[f->n++], err);
	}
	return r;
}
