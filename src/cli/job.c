/* SPDX-License-Identifier: MIT
 *
 * davit job: a job of a pipeline file becomes a run of the daemon's. What it is made of - inputs, resource
 * types - is put into the store of artifacts first. (In davit-steps.so.)
 */
#include "base/file.h"
#include "base/strv.h"
#include "cli/api.h"
#include "cli/output.h"
#include "cli/run_view.h"
#include "cli/source_watch.h"
#include "cli/steps.h"
#include "step/pipeline.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_MAX ((size_t)4 << 20)
#define QUIET (INT64_C(300) * 1000000) /* ns without a change before a watched job runs again */

struct job {
	struct davit_cli *cli;
	const char *file, *name;
	struct davit_artifacts *store;
	struct davit_artifact_hold *holds;
	size_t n_holds, cap_holds;
	struct davit_pipeline_job job;
	json_t *types; /* directory -> id, of what is in the store already */
	struct davit_error *err;
};

static int no_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
}

/* Puts something into the store; it is held until the run has it. */
static int upload(struct job *j, const char *from, bool all, const char **ret_id)
{
	struct davit_artifact_hold *h, *more;
	int r;

	if (j->n_holds == j->cap_holds) {
		more = reallocarray(j->holds, j->cap_holds ? 2 * j->cap_holds : 8, sizeof *more);
		if (!more)
			return no_memory(j->err);
		j->holds = more;
		j->cap_holds = j->cap_holds ? 2 * j->cap_holds : 8;
	}
	h = &j->holds[j->n_holds];
	*h = (struct davit_artifact_hold)DAVIT_ARTIFACT_HOLD_INIT;
	r = davit_steps_upload(j->store, from, all, h, j->err);
	if (r < 0)
		return r;
	j->n_holds++;
	*ret_id = h->id;
	return 0;
}

/* ----------------------------------------------------------------------- resource types */

static bool is_type(const char *path)
{
	static const char *const programs[] = {"check", "in", "out", "opt/resource"};

	for (size_t i = 0; path && i < DAVIT_ARRAY_SIZE(programs); i++) {
		DAVIT_AUTO_FREE char *program = davit_path_join(path, programs[i]);
		if (program && access(program, F_OK) == 0)
			return true;
	}
	return false;
}

/* Beside the pipeline's file. */
static char *beside(const struct job *j, const char *path)
{
	DAVIT_AUTO_FREE char *dir = strdup(j->file);
	char *slash = dir ? strrchr(dir, '/') : NULL;

	if (slash)
		slash[slash == dir] = '\0';
	return dir ? davit_path_join(slash ? dir : ".", path) : NULL;
}

/* Where the programs of a type are: {type: directory, source: {path: DIR}} beside the file; a path as the
 * name; or one that comes with davit. */
static int find_type(const struct job *j, const json_t *spec, char **ret)
{
	const json_t *type = json_object_get(spec, "resource_type");
	const char *name = davit_string(json_object_get(spec, "resource"), "type"),
		   *path = davit_string(json_object_get(type, "source"), "path");
	DAVIT_AUTO_FREE char *known = NULL;

	if (json_is_object(type) && !*path)
		return davit_error_set(j->err, DAVIT_EINVAL, "resource_types",
				       "the resource type '%.64s' needs source.path, its directory", name);
	if (asprintf(&known, "%s/examples/resources/%s", j->cli->paths.share, name) < 0)
		return known = NULL, no_memory(j->err);
	if (json_is_object(type) || strchr(name, '/'))
		*ret = beside(j, *path ? path : name);
	else
		*ret = DAVIT_TAKE(known);
	if (*ret && !is_type(*ret))
		return davit_error_set(
			j->err, DAVIT_EINVAL, "resource_types",
			"there is no resource type '%.64s': %s has none of the programs check, in and "
			"out",
			name, *ret);
	return *ret ? 0 : no_memory(j->err);
}

/* A type that is an image: "repository:tag" in its source. 1: it is one. */
static int put_image(struct job *j, json_t *spec)
{
	const json_t *type = json_object_get(spec, "resource_type"),
		     *source = json_object_get(type, "source"), *tag = json_object_get(source, "tag");
	const char *kind = davit_string(type, "type"), *repository = davit_string(source, "repository");
	DAVIT_AUTO_FREE char *name = NULL;
	char number[24];

	if (!json_is_object(type) || !strcmp(kind, "directory"))
		return 0;
	if (strcmp(kind, "registry-image") != 0 && strcmp(kind, "docker-image") != 0)
		return davit_error_set(j->err, DAVIT_ENOTSUP, "resource_types",
				       "the resource type '%.64s' is of type '%.64s'; those of directory, "
				       "registry-image and docker-image can be run",
				       davit_string(type, "name"), kind);
	if (!*repository)
		return davit_error_set(j->err, DAVIT_EINVAL, "resource_types",
				       "the resource type '%.64s' needs source.repository",
				       davit_string(type, "name"));
	if (asprintf(&name, "%s:%s", repository, tag ? davit_text(source, "tag", number) : "latest") < 0)
		return name = NULL, no_memory(j->err);
	return json_object_set_new(spec, "resource_type", json_pack("{s:s}", "image", name)) < 0
		       ? no_memory(j->err)
		       : 1;
}

static int put_type(struct job *j, json_t *spec)
{
	DAVIT_AUTO_FREE char *dir = NULL;
	const char *id = NULL;
	int r = put_image(j, spec);

	if (r > 0)
		return 0;
	if (r == 0)
		r = find_type(j, spec, &dir);
	if (r < 0)
		return r;
	id = json_string_value(json_object_get(j->types, dir));
	if (!id) {
		r = upload(j, dir, true, &id);
		if (r == 0 && json_object_set_new(j->types, dir, json_string(id)) < 0)
			r = no_memory(j->err);
	}
	if (r == 0 && json_object_set_new(spec, "resource_type", json_pack("{s:s}", "tree", id)) < 0)
		r = no_memory(j->err);
	return r;
}

static bool is_given(const struct job *j, const char *name)
{
	size_t pos = 0, n = strlen(name);
	const char *v;

	while ((v = davit_cli_next(j->cli, "input", &pos)))
		if (!strncmp(v, name, n) && v[n] == '=')
			return true;
	return false;
}

/* Of all gets, puts and checks; a get that is not done, for its artifact is given, needs none. */
static int put_types(struct job *j, json_t *plan)
{
	const char *kind = davit_string(plan, "kind");
	json_t *spec = json_object_get(plan, "spec"), *c;
	int r = 0;
	size_t i;

	json_array_foreach(json_object_get(plan, "steps"), i, c) if (r == 0) r = put_types(j, c);
	if (r == 0 && json_object_get(plan, "step"))
		r = put_types(j, json_object_get(plan, "step"));
	if (r == 0 && json_object_get(plan, "hook"))
		r = put_types(j, json_object_get(plan, "hook"));
	if (r < 0 || (strcmp(kind, "get") != 0 && strcmp(kind, "put") != 0 && strcmp(kind, "check") != 0))
		return r;
	if (!strcmp(kind, "get") && is_given(j, davit_string(plan, "name")))
		return 0;
	return put_type(j, spec);
}

/* ------------------------------------------------------------------------------- the run */

static int read_job(struct job *j)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	struct davit_var vars[64];
	DAVIT_AUTO_STRV names = NULL;
	size_t pos = 0, n = 0;
	const char *v;
	int r = davit_read_file(j->file, FILE_MAX, &text, j->err);

	while (r == 0 && (v = davit_cli_next(j->cli, "var", &pos))) {
		DAVIT_AUTO_FREE char *name = strndup(v, strcspn(v, "="));
		if (n == DAVIT_ARRAY_SIZE(vars))
			return davit_cli_usage(j->cli, j->err, "at most %zu vars", DAVIT_ARRAY_SIZE(vars));
		if (!name || davit_strv_add(&names, name) < 0)
			return no_memory(j->err);
		vars[n++].value = strchr(v, '=') + 1;
	}
	for (size_t i = 0; i < n; i++)
		vars[i].name = names[i];
	if (r == 0)
		r = davit_pipeline_read(davit_buf_str(&text), text.len, j->name, vars, n, &j->job, j->err);
	if (r < 0 && j->err->line)
		davit_error_prefix(j->err, "%s:%u:%u", j->file, j->err->line, j->err->column);
	else if (r < 0 && text.len)
		davit_error_prefix(j->err, "%s", j->file);
	return r;
}

static int put_inputs(struct job *j, json_t *inputs)
{
	size_t pos = 0;
	const char *v, *id;
	int r = 0;

	while (r == 0 && (v = davit_cli_next(j->cli, "input", &pos))) {
		size_t n = strcspn(v, "=");

		r = upload(j, v + n + 1, davit_cli_flag(j->cli, "include-ignored"), &id);
		if (r < 0)
			davit_error_prefix(j->err, "input '%.*s'", (int)n, v);
		else if (json_object_setn_new(inputs, v, n, json_string(id)) < 0)
			r = no_memory(j->err);
	}
	return r;
}

/* NULL when there are none. */
static json_t *strings(char *const *v)
{
	json_t *a = v && *v ? json_array() : NULL;

	for (; a && *v; v++)
		json_array_append_new(a, json_string(*v));
	return a;
}

static json_t *ids(const struct job *j)
{
	json_t *a = j->n_holds ? json_array() : NULL;

	for (size_t i = 0; a && i < j->n_holds; i++)
		json_array_append_new(a, json_string(j->holds[i].id));
	return a;
}

/* What names the caches of its tasks: the same job of the same file has them again. */
static char *scope_of(const struct job *j)
{
	DAVIT_AUTO_FREE char *real = realpath(j->file, NULL);
	char *scope;

	return asprintf(&scope, "job %s %s", real ? real : j->file, j->name) < 0 ? NULL : scope;
}

static int make_body(struct job *j, json_t **ret)
{
	DAVIT_AUTO_FREE char *scope = scope_of(j);
	const char *slash = strrchr(j->file, '/');
	json_t *inputs = json_object();
	int r = scope && inputs ? put_inputs(j, inputs) : no_memory(j->err);

	if (r == 0)
		r = put_types(j, j->job.plan);
	if (r < 0) {
		json_decref(inputs);
		return r;
	}
	*ret = json_pack("{s:s,s:s,s:O,s:o,s:o*,s:o*,s:s,s:s}", "name", j->name, "kind", "job", "plan",
			 j->job.plan, "inputs", inputs, "holds", ids(j), "notes", strings(j->job.notes),
			 "scope", scope, "pipeline", slash ? slash + 1 : j->file);
	return *ret ? 0 : no_memory(j->err);
}

static void release(struct job *j)
{
	for (size_t i = 0; i < j->n_holds; i++)
		davit_artifact_release(&j->holds[i]);
	j->n_holds = 0;
	davit_pipeline_job_fini(&j->job);
	json_decref(j->types);
	j->types = NULL;
}

/* Begins a run. id is filled. */
static int begin(struct job *j, char id[16])
{
	json_t *body = NULL, *run = NULL;
	int r;

	j->types = json_object();
	r = j->types ? read_job(j) : no_memory(j->err);
	if (r == 0)
		r = make_body(j, &body);
	for (char **note = j->job.notes; r == 0 && note && *note; note++)
		fprintf(stderr, "davit: %s: %s\n", j->file, *note);
	if (r == 0)
		r = davit_api_call(j->cli, "POST", "/v1/runs", body, &run, j->err);
	if (r == 0)
		snprintf(id, 16, "%s", davit_string(run, "id"));
	davit_api_close(j->cli);
	json_decref(body);
	json_decref(run);
	release(j);
	return r;
}

static int run_once(struct job *j)
{
	char id[16], text[64];
	int r = begin(j, id), status = -1;

	if (r < 0)
		return r;
	if (davit_cli_flag(j->cli, "background")) {
		puts(id);
		return 0;
	}
	if (j->cli->format != DAVIT_FORMAT_JSON)
		fprintf(stderr, "davit: run %s\n", id);
	r = davit_run_follow(j->cli, id, davit_run_view_kind(j->cli), NULL, true, true, &status, j->err);
	if (r < 0)
		return r;
	if (status > 0 && j->cli->format != DAVIT_FORMAT_JSON) {
		static const char *const words[] = {"succeeded", "failed", "errored", "aborted"};
		snprintf(text, sizeof text, "davit: %s %s\n", j->name, words[status]);
		fputs(text, stderr);
	}
	return status < 0 ? 0 : status;
}

/* Runs again whenever an input changes, until the user ends it. */
static int run_and_watch(struct job *j)
{
	struct davit_source_watch *w = NULL;
	size_t pos = 0;
	const char *v = davit_cli_next(j->cli, "input", &pos);
	int r;

	if (!v || davit_cli_next(j->cli, "input", &pos) || !strncmp(strchr(v, '=') + 1, "artifact:", 9))
		return davit_cli_usage(
			j->cli, j->err,
			"--watch watches the directory of one --input NAME=DIR: give exactly one");
	r = davit_source_watch_open(strchr(v, '=') + 1, &w, j->err);
	while (r >= 0 && r != 3) {
		r = run_once(j);
		if (r >= 0 && r != 3) {
			fprintf(stderr, "davit: waiting for a change of %s\n", strchr(v, '=') + 1);
			if (davit_source_watch_wait(w, QUIET, j->err) < 0)
				r = j->err->code;
		}
	}
	davit_source_watch_close(w);
	return r;
}

int davit_steps_job(struct davit_cli *cli, struct davit_error *err)
{
	struct job j = {.cli = cli, .err = err, .file = davit_cli_arg(cli, 0), .name = davit_cli_arg(cli, 1)};
	int r;

	if (davit_cli_flag(cli, "json"))
		cli->format = DAVIT_FORMAT_JSON;
	if (davit_cli_flag(cli, "watch") && davit_cli_flag(cli, "background"))
		return davit_cli_usage(cli, err, "--watch and --background do not go together");
	r = davit_artifacts_open(NULL, 0, &j.store, err);
	if (r == 0)
		r = davit_cli_flag(cli, "watch") ? run_and_watch(&j) : run_once(&j);
	release(&j);
	free(j.holds);
	davit_artifacts_close(j.store);
	return r;
}
