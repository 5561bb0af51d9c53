/* SPDX-License-Identifier: MIT
 *
 * Steps of a pipeline: what kind each is, its keys, and what wraps it - from the inside: timeout, attempts,
 * across, on_success, on_failure, on_abort, on_error, ensure.
 */
#include "step/pipeline_impl.h"

#include "base/nearest.h"
#include "base/units.h"

#include <string.h>

#define WRAPPERS                                                                                             \
	"timeout", "attempts", "across", "fail_fast", "on_success", "on_failure", "on_abort", "on_error",    \
		"ensure"

static const char *const hook_names[] = {"on_success", "on_failure", "on_abort", "on_error", "ensure"};

struct kind {
	const char *name;
	const char *const *keys;    /* ended by NULL; the first one is the kind's */
	const char *const *ignored; /* of these */
};

static const char *const get_keys[] = {"get",	  "resource", "version", "params", "passed",
				       "trigger", "tags",     WRAPPERS,	 NULL};
static const char *const get_ignored[] = {"passed", "trigger", "tags", NULL};
static const char *const put_keys[] = {"put",	 "resource", "params", "inputs", "get_params",
				       "no_get", "tags",     WRAPPERS, NULL};
static const char *const tags_ignored[] = {"tags", NULL};
static const char *const check_keys[] = {"check", "resource", "version", WRAPPERS, NULL};
static const char *const task_keys[] = {"task",		  "config",
					"file",		  "image",
					"privileged",	  "vars",
					"params",	  "input_mapping",
					"output_mapping", "container_limits",
					"tags",		  "hermetic",
					WRAPPERS,	  NULL};
static const char *const load_var_keys[] = {"load_var", "file", "format", "reveal", WRAPPERS, NULL};
static const char *const do_keys[] = {"do", WRAPPERS, NULL};
static const char *const parallel_keys[] = {"in_parallel", WRAPPERS, NULL};
static const char *const try_keys[] = {"try", WRAPPERS, NULL};
static const char *const none[] = {NULL};

static const struct kind kinds[] = {
	{"get", get_keys, get_ignored},	      {"put", put_keys, tags_ignored},	 {"check", check_keys, none},
	{"task", task_keys, tags_ignored},    {"load_var", load_var_keys, none}, {"do", do_keys, none},
	{"in_parallel", parallel_keys, none}, {"try", try_keys, none},
};

static const struct kind *kind_of(struct pipeline_reader *r, const struct davit_tree *t)
{
	const char *names[DAVIT_ARRAY_SIZE(kinds)], *nearest = NULL;

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(kinds); i++) {
		names[i] = kinds[i].name;
		if (davit_tree_get(t, kinds[i].name))
			return &kinds[i];
	}
	for (const struct davit_tree *c = t->kind == DAVIT_TREE_MAP ? t->first : NULL; c && !nearest;
	     c = c->next)
		nearest = davit_nearest(c->key, names, DAVIT_ARRAY_SIZE(names));
	davit_tree_error(r->err, t->line, t->column, "plan",
			 "a step must be one of get, put, task, check, load_var, do, in_parallel, try%s%s%s",
			 nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
	return NULL;
}

static int no_memory(struct pipeline_reader *r)
{
	return davit_error_set(r->err, DAVIT_ENOMEM, NULL, "out of memory");
}

/* Around `inner`, which it takes: {kind, step, key: value}. */
static int wrap(struct pipeline_reader *r, const char *kind, const char *key, json_t *value, json_t *inner,
		json_t **ret)
{
	*ret = json_pack("{s:s,s:o,s:o}", "kind", kind, key, value, "step", inner);
	return *ret ? 0 : no_memory(r);
}

/* A whole number, at least `least`. */
static int number(struct pipeline_reader *r, const struct davit_tree *t, json_int_t least, json_t **ret)
{
	json_t *v = NULL;
	int e = pipeline_value(r, t, &v);

	if (e < 0)
		return e;
	if (!json_is_integer(v) || json_integer_value(v) < least) {
		json_decref(v);
		return davit_tree_error(r->err, t->line, t->column, t->key,
					"%s must be a whole number, at least %lld", t->key, (long long)least);
	}
	*ret = v;
	return 0;
}

static int flag(struct pipeline_reader *r, const struct davit_tree *t, bool *ret)
{
	*ret = t && t->kind == DAVIT_TREE_SCALAR && !t->quoted && !strcmp(t->text, "true");
	if (t && !*ret && (t->kind != DAVIT_TREE_SCALAR || strcmp(t->text, "false") != 0))
		return davit_tree_error(r->err, t->line, t->column, t->key, "%s must be true or false",
					t->key);
	return 0;
}

/* -------------------------------------------------------------------------- leaves */

/* The resource that a get, put or check is about, into its spec. */
static int add_resource(struct pipeline_reader *r, const struct davit_tree *step,
			const struct davit_tree *name, json_t *spec)
{
	const struct davit_tree *given = davit_tree_get(step, "resource"), *resource, *type;
	const char *text;
	json_t *v = NULL;
	int e = davit_tree_text(given ? given : name, "resource", &text, r->err);

	if (e < 0)
		return e;
	resource = pipeline_find(r, "resources", text);
	if (!resource)
		return davit_tree_error(r->err, (given ? given : name)->line, (given ? given : name)->column,
					"resource", "there is no resource '%.64s'", text);
	e = pipeline_value(r, resource, &v);
	if (e < 0)
		return e;
	type = pipeline_find(r, "resource_types", json_string_value(json_object_get(v, "type")));
	if (json_object_set_new(spec, "resource", v) < 0)
		return no_memory(r);
	if (!type)
		return 0;
	e = pipeline_value(r, type, &v);
	if (e == 0 && json_object_set_new(spec, "resource_type", v) < 0)
		e = no_memory(r);
	return e;
}

static bool is_in(const char *const *words, const char *word)
{
	for (; *words; words++)
		if (!strcmp(*words, word))
			return true;
	return false;
}

static bool is_wrapper(const char *key)
{
	static const char *const wrappers[] = {WRAPPERS, NULL};

	return is_in(wrappers, key);
}

static int leaf(struct pipeline_reader *r, const struct kind *kind, const struct davit_tree *t, json_t **ret)
{
	const struct davit_tree *name = davit_tree_get(t, kind->name);
	json_t *spec, *v = NULL;
	const char *text;
	int e = davit_tree_text(name, kind->name, &text, r->err);

	if (e < 0)
		return e;
	if (!strcmp(kind->name, "task") && !davit_tree_get(t, "config") == !davit_tree_get(t, "file"))
		return davit_tree_error(r->err, t->line, t->column, "task",
					"the task '%.64s' needs config or file%s", text,
					davit_tree_get(t, "config") ? ", not both" : "");
	if (!strcmp(kind->name, "task") && davit_tree_get(t, "config"))
		e = davit_task_check(davit_tree_get(t, "config"), r->err);
	if (e < 0)
		return e;
	spec = json_object();
	for (const struct davit_tree *c = t->first; e == 0 && spec && c; c = c->next) {
		if (c == name || is_wrapper(c->key) || !strcmp(c->key, "resource"))
			continue;
		if (is_in(kind->ignored, c->key)) {
			e = pipeline_note(r, c, "%s is ignored: a job that is run here is not scheduled",
					  c->key);
			continue;
		}
		e = pipeline_value(r, c, &v);
		if (e == 0 && json_object_set_new(spec, c->key, v) < 0)
			e = no_memory(r);
	}
	if (e == 0 && (kind->keys == get_keys || kind->keys == put_keys || kind->keys == check_keys))
		e = add_resource(r, t, name, spec);
	if (e < 0) {
		json_decref(spec);
		return e;
	}
	*ret = json_pack("{s:s,s:s,s:o}", "kind", kind->name, "name", text, "spec", spec);
	return *ret ? 0 : no_memory(r);
}

/* -------------------------------------------------------------------------- groups */

static int read_step(struct pipeline_reader *r, const struct davit_tree *t, json_t **ret);

int pipeline_steps(struct pipeline_reader *r, const struct davit_tree *list, const char *kind, json_t **ret)
{
	json_t *steps, *step = NULL;
	int e = 0;

	if (list->kind != DAVIT_TREE_LIST)
		return davit_tree_error(r->err, list->line, list->column, list->key,
					"%s must be a list of steps", list->key ? list->key : kind);
	steps = json_array();
	for (const struct davit_tree *c = list->first; e == 0 && c; c = c->next) {
		e = read_step(r, c, &step);
		if (e == 0 && json_array_append_new(steps, step) < 0)
			e = no_memory(r);
	}
	if (e < 0) {
		json_decref(steps);
		return e;
	}
	*ret = json_pack("{s:s,s:o}", "kind", kind, "steps", steps);
	return *ret ? 0 : no_memory(r);
}

/* A list, or {steps, limit, fail_fast}. */
static int parallel(struct pipeline_reader *r, const struct davit_tree *t, json_t **ret)
{
	static const char *const known[] = {"steps", "limit", "fail_fast", NULL};
	const struct davit_tree *steps = davit_tree_get(t, "steps"), *limit = davit_tree_get(t, "limit");
	json_t *n = NULL;
	bool fail_fast;
	int e;

	if (t->kind != DAVIT_TREE_MAP)
		return pipeline_steps(r, t, "in_parallel", ret);
	e = davit_tree_known(t, "in_parallel", known, r->err);
	if (e == 0 && !steps)
		e = davit_tree_error(r->err, t->line, t->column, "in_parallel", "in_parallel needs steps");
	if (e == 0)
		e = flag(r, davit_tree_get(t, "fail_fast"), &fail_fast);
	if (e == 0 && limit)
		e = number(r, limit, 1, &n);
	if (e == 0)
		e = pipeline_steps(r, steps, "in_parallel", ret);
	if (e < 0) {
		json_decref(n);
		return e;
	}
	if ((n && json_object_set_new(*ret, "limit", n) < 0) ||
	    (fail_fast && json_object_set_new(*ret, "fail_fast", json_true()) < 0)) {
		json_decref(*ret);
		return no_memory(r);
	}
	return 0;
}

/* ------------------------------------------------------------------------ wrappers */

/* One variable of across around plan, which it takes. */
static int across_one(struct pipeline_reader *r, const struct davit_tree *t, bool fail_fast, json_t *plan,
		      json_t **ret)
{
	static const char *const known[] = {"var", "values", "max_in_flight", NULL};
	const struct davit_tree *var = davit_tree_get(t, "var"), *values = davit_tree_get(t, "values"),
				*most = davit_tree_get(t, "max_in_flight");
	json_t *v = NULL, *n = NULL;
	const char *name;
	int e = davit_tree_known(t, "across", known, r->err);

	if (e == 0 && (!var || !values))
		e = davit_tree_error(r->err, t->line, t->column, "across", "across needs var and values");
	if (e == 0)
		e = davit_tree_text(var, "var", &name, r->err);
	if (e == 0 && most && most->kind == DAVIT_TREE_SCALAR && !strcmp(most->text, "all"))
		n = json_integer(0);
	else if (e == 0 && most)
		e = number(r, most, 1, &n);
	if (e == 0)
		e = pipeline_value(r, values, &v);
	if (e < 0) {
		json_decref(n);
		json_decref(plan);
		return e;
	}
	*ret = json_pack("{s:s,s:s,s:o,s:o,s:b,s:o}", "kind", "across", "var", name, "values", v,
			 "max_in_flight", n ? n : json_integer(1), "fail_fast", fail_fast, "step", plan);
	return *ret ? 0 : no_memory(r);
}

/* The first variable is the outermost: from the last one outwards. */
static int across(struct pipeline_reader *r, const struct davit_tree *list, const struct davit_tree *last,
		  bool fail_fast, json_t *plan, json_t **ret)
{
	const struct davit_tree *before = NULL;
	int e = across_one(r, last, fail_fast, plan, ret);

	for (const struct davit_tree *c = list->first; c != last; c = c->next)
		before = c;
	return e < 0 || !before ? e : across(r, list, before, fail_fast, *ret, ret);
}

static int wrap_timeout(struct pipeline_reader *r, const struct davit_tree *t, json_t *plan, json_t **ret)
{
	json_t *v = NULL;
	int64_t after;
	int e = pipeline_value(r, t, &v);

	if (e == 0 && json_is_integer(v)) { /* seconds; the plan says it as text */
		char text[32];
		snprintf(text, sizeof text, "%llds", (long long)json_integer_value(v));
		json_decref(v);
		v = json_string(text);
	}
	if (e == 0 && (!json_is_string(v) || davit_duration_parse(json_string_value(v), &after, NULL) < 0))
		e = davit_tree_error(r->err, t->line, t->column, "timeout",
				     "timeout must be a duration, as in 1h30m");
	if (e == 0)
		return wrap(r, "timeout", "after", v, plan, ret);
	json_decref(v);
	json_decref(plan);
	return e;
}

int pipeline_hooks(struct pipeline_reader *r, const struct davit_tree *t, json_t *plan, json_t **ret)
{
	json_t *hook = NULL;
	int e = 0;

	*ret = plan;
	for (size_t i = 0; e == 0 && i < DAVIT_ARRAY_SIZE(hook_names); i++) {
		const struct davit_tree *h = davit_tree_get(t, hook_names[i]);
		if (!h)
			continue;
		e = read_step(r, h, &hook);
		if (e == 0) {
			plan = *ret;
			e = wrap(r, hook_names[i], "hook", hook, plan, ret);
		} else {
			json_decref(*ret);
		}
	}
	return e;
}

/* What wraps the step t, around plan, which it takes. */
static int wrap_all(struct pipeline_reader *r, const struct davit_tree *t, json_t *plan, json_t **ret)
{
	const struct davit_tree *timeout = davit_tree_get(t, "timeout"),
				*attempts = davit_tree_get(t, "attempts"),
				*list = davit_tree_get(t, "across"), *fast = davit_tree_get(t, "fail_fast");
	json_t *n = NULL;
	bool fail_fast;
	int e = 0;

	if (timeout)
		e = wrap_timeout(r, timeout, plan, &plan);
	if (e < 0)
		return e;
	if (attempts)
		e = number(r, attempts, 1, &n);
	if (e == 0)
		e = flag(r, fast, &fail_fast);
	if (e == 0 && list && (list->kind != DAVIT_TREE_LIST || !list->first))
		e = davit_tree_error(r->err, list->line, list->column, "across",
				     "across must be a list of variables");
	if (e == 0 && fast && !list)
		e = davit_tree_error(r->err, fast->key_line, fast->key_column, "fail_fast",
				     "fail_fast is for across");
	if (e < 0) {
		json_decref(n);
		json_decref(plan);
		return e;
	}
	if (attempts)
		e = wrap(r, "attempts", "attempts", n, plan, &plan);
	if (e == 0 && list)
		e = across(r, list, list->last, fail_fast, plan, &plan);
	return e < 0 ? e : pipeline_hooks(r, t, plan, ret);
}

/* With all that wraps it. */
static int read_step(struct pipeline_reader *r, const struct davit_tree *t, json_t **ret)
{
	const struct kind *kind = kind_of(r, t);
	const struct davit_tree *own;
	json_t *plan = NULL;
	char what[32];
	int e;

	if (!kind)
		return DAVIT_EINVAL;
	snprintf(what, sizeof what, "a %s step", kind->name);
	e = davit_tree_known(t, what, kind->keys, r->err);
	if (e < 0)
		return e;
	own = davit_tree_get(t, kind->name);
	if (kind->keys == do_keys)
		e = pipeline_steps(r, own, "do", &plan);
	else if (kind->keys == parallel_keys)
		e = parallel(r, own, &plan);
	else if (kind->keys == try_keys)
		e = read_step(r, own, &plan);
	else
		e = leaf(r, kind, t, &plan);
	if (e == 0 && kind->keys == try_keys) {
		plan = json_pack("{s:s,s:o}", "kind", "try", "step", plan);
		e = plan ? 0 : no_memory(r);
	}
	return e < 0 ? e : wrap_all(r, t, plan, ret);
}
