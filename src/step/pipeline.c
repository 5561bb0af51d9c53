/* SPDX-License-Identifier: MIT
 *
 * A pipeline file: its lists, its variables, and the job that is asked for.
 */
#include "step/pipeline_impl.h"

#include "base/nearest.h"
#include "base/strv.h"
#include "step/plan.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static int no_memory(struct pipeline_reader *r)
{
	return davit_error_set(r->err, DAVIT_ENOMEM, NULL, "out of memory");
}

int pipeline_note(struct pipeline_reader *r, const struct davit_tree *at, const char *fmt, ...)
{
	char text[256];
	int n = snprintf(text, sizeof text, "line %u: ", at->key ? at->key_line : at->line);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text + n, sizeof text - (size_t)n, fmt, ap);
	va_end(ap);
	return davit_strv_add(&r->notes, text) < 0 ? no_memory(r) : 0;
}

/* --------------------------------------------------------------------------- vars */

struct found {
	const struct pipeline_reader *r;
	json_t *last; /* what was looked up last; owned */
};

static const json_t *look_up(const void *from, const char *name, size_t len)
{
	struct found *f = (struct found *)from;

	for (size_t i = f->r->n_vars; i--;) { /* the last one given counts */
		const struct davit_var *v = &f->r->vars[i];
		if (strlen(v->name) != len || memcmp(v->name, name, len) != 0)
			continue;
		json_decref(f->last);
		f->last = json_string(v->value);
		return f->last;
	}
	return NULL;
}

/* The value below v that the error is about has the place that a person looks for. */
static const struct davit_tree *culprit(struct pipeline_reader *r, const struct davit_tree *t)
{
	struct found f = {.r = r};
	json_t *in = NULL, *out = NULL;
	bool is_well;

	for (const struct davit_tree *c = t->first; c; c = c->next) {
		if (davit_tree_json(c, &in, NULL) < 0)
			return t;
		is_well = davit_vars_fill(in, "", look_up, &f, &out, NULL) == 0;
		json_decref(in);
		if (is_well)
			json_decref(out);
		else
			return json_decref(f.last), culprit(r, c);
	}
	json_decref(f.last);
	return t;
}

int pipeline_value(struct pipeline_reader *r, const struct davit_tree *t, json_t **ret)
{
	struct found f = {.r = r};
	struct davit_error why = {0};
	json_t *in = NULL;
	int e = davit_tree_json(t, &in, r->err);

	if (e < 0)
		return e;
	e = davit_vars_fill(in, "", look_up, &f, ret, &why);
	json_decref(f.last);
	json_decref(in);
	if (e == DAVIT_EINVAL) {
		const struct davit_tree *at = culprit(r, t);
		return davit_tree_error(r->err, at->line, at->column, at->key ? at->key : "",
					"%s; --var NAME=VALUE sets one", why.message);
	}
	return e < 0 ? davit_error_copy(r->err, &why) : 0;
}

/* -------------------------------------------------------------------------- lists */

static const char *name_of(const struct davit_tree *t)
{
	const struct davit_tree *name = davit_tree_get(t, "name");

	return name && name->kind == DAVIT_TREE_SCALAR ? name->text : NULL;
}

const struct davit_tree *pipeline_find(const struct pipeline_reader *r, const char *list, const char *name)
{
	const struct davit_tree *l = davit_tree_get(r->root, list);

	for (const struct davit_tree *c = l ? l->first : NULL; c && name; c = c->next)
		if (name_of(c) && !strcmp(name_of(c), name))
			return c;
	return NULL;
}

/* A list of maps with unique names and known keys. */
static int check_list(struct pipeline_reader *r, const char *key, const char *what, const char *const *known)
{
	const struct davit_tree *list = davit_tree_get(r->root, key);
	int e = 0;

	if (list && list->kind != DAVIT_TREE_LIST && !davit_tree_is_null(list))
		return davit_tree_error(r->err, list->line, list->column, key, "%s must be a list", key);
	for (const struct davit_tree *c = list ? list->first : NULL; e == 0 && c; c = c->next) {
		const struct davit_tree *first;
		e = davit_tree_known(c, what, known, r->err);
		if (e < 0)
			break;
		if (!name_of(c))
			return davit_tree_error(r->err, c->line, c->column, "name", "%s needs a name", what);
		first = pipeline_find(r, key, name_of(c));
		if (first != c)
			e = davit_tree_error(r->err, c->line, c->column, "name",
					     "'%.64s' is there already, in line %u", name_of(c), first->line);
	}
	return e;
}

static int check_file(struct pipeline_reader *r)
{
	static const char *const known[] = {"jobs",    "resources", "resource_types", "var_sources", "groups",
					    "display", NULL};
	static const char *const resource[] = {"name",	      "type",	       "source",
					       "version",     "icon",	       "public",
					       "check_every", "check_timeout", "expose_build_created_by",
					       "tags",	      "webhook_token", "old_name",
					       NULL};
	static const char *const type[] = {"name",	 "type",	"source",   "params", "version",
					   "privileged", "check_every", "defaults", "tags",   NULL};
	static const char *const job[] = {"name",
					  "plan",
					  "old_name",
					  "serial",
					  "serial_groups",
					  "max_in_flight",
					  "build_log_retention",
					  "public",
					  "disable_manual_trigger",
					  "interruptible",
					  "on_success",
					  "on_failure",
					  "on_error",
					  "on_abort",
					  "ensure",
					  "build_logs_to_retain",
					  NULL};
	const struct davit_tree *sources = davit_tree_get(r->root, "var_sources");
	int e = davit_tree_known(r->root, "a pipeline", known, r->err);

	if (e == 0 && sources)
		e = davit_tree_error(r->err, sources->key_line, sources->key_column, "var_sources",
				     "var_sources are not supported: variables come from --var and load_var");
	if (e == 0)
		e = check_list(r, "resources", "a resource", resource);
	if (e == 0)
		e = check_list(r, "resource_types", "a resource type", type);
	return e < 0 ? e : check_list(r, "jobs", "a job", job);
}

/* ---------------------------------------------------------------------------- job */

static int no_such_job(struct pipeline_reader *r, const char *job)
{
	const struct davit_tree *jobs = davit_tree_get(r->root, "jobs");
	DAVIT_AUTO_BUF names = DAVIT_BUF_INIT;

	for (const struct davit_tree *c = jobs ? jobs->first : NULL; c; c = c->next)
		davit_buf_addf(&names, "%s%s", names.len ? ", " : "", name_of(c));
	return davit_error_set(r->err, DAVIT_ENOENT, "job", "there is no job '%.64s'; %s%.200s", job,
			       names.len ? "there are: " : "there is none at all", davit_buf_str(&names));
}

static int read_job(struct pipeline_reader *r, const char *name, json_t **ret)
{
	static const char *const ignored[] = {"serial",
					      "serial_groups",
					      "max_in_flight",
					      "interruptible",
					      "disable_manual_trigger",
					      "build_log_retention",
					      "build_logs_to_retain"};
	const struct davit_tree *job = pipeline_find(r, "jobs", name), *plan;
	json_t *steps = NULL;
	int e = 0;

	if (!job)
		return no_such_job(r, name);
	for (size_t i = 0; e == 0 && i < DAVIT_ARRAY_SIZE(ignored); i++) {
		const struct davit_tree *t = davit_tree_get(job, ignored[i]);
		if (t)
			e = pipeline_note(r, t, "%s is ignored: a job that is run here is not scheduled",
					  ignored[i]);
	}
	plan = davit_tree_get(job, "plan");
	if (e == 0 && !plan)
		e = davit_tree_error(r->err, job->line, job->column, "plan", "the job '%.64s' has no plan",
				     name);
	if (e == 0)
		e = pipeline_steps(r, plan, "do", &steps);
	return e < 0 ? e : pipeline_hooks(r, job, steps, ret);
}

/* What the plan's own reader would refuse later, without a place. */
static int check_plan(struct pipeline_reader *r, const json_t *plan)
{
	struct davit_plan *p = NULL;
	int e = davit_plan_read(plan, NULL, NULL, &p, r->err);

	davit_plan_free(p);
	return e;
}

/* A second document would be passed over in silence. */
static int check_end(struct davit_tree_source *source, struct davit_region *region, struct davit_error *err)
{
	struct davit_tree *more;
	int e = davit_tree_next(source, region, &more, err);

	return e > 0 ? davit_tree_error(err, more->line, more->column, NULL,
					"a pipeline is one document; this is another")
		     : e;
}

int davit_pipeline_read(const char *text, size_t len, const char *job, const struct davit_var *vars,
			size_t n_vars, struct davit_pipeline_job *ret, struct davit_error *err)
{
	struct pipeline_reader r = {.vars = vars, .n_vars = n_vars, .err = err};
	struct davit_region region = {0};
	struct davit_tree_source source;
	struct davit_tree *root = NULL;
	json_t *plan = NULL;
	int e = davit_tree_open(&source, text, len, err);

	if (e < 0)
		return e;
	e = davit_tree_next(&source, &region, &root, err);
	if (e == 0)
		e = davit_error_set(err, DAVIT_EINVAL, NULL, "the pipeline is empty");
	r.root = root;
	if (e > 0)
		e = check_file(&r);
	if (e == 0)
		e = check_end(&source, &region, err);
	if (e == 0)
		e = read_job(&r, job, &plan);
	if (e == 0)
		e = check_plan(&r, plan);
	davit_tree_close(&source);
	davit_region_fini(&region);
	if (e < 0) {
		json_decref(plan);
		davit_strv_free(r.notes);
		return e;
	}
	ret->plan = plan;
	ret->notes = r.notes;
	return 0;
}

void davit_pipeline_job_fini(struct davit_pipeline_job *j)
{
	json_decref(j->plan);
	davit_strv_free(j->notes);
	*j = (struct davit_pipeline_job){0};
}
