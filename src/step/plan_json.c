/* SPDX-License-Identifier: MIT
 *
 * Plans and their state as JSON: one format, in which each node may carry what has become of it under "run".
 * What can be computed from the rest (who is next, how many are active) is not stored.
 */
#include "step/plan_impl.h"

#include "base/units.h"

#include <string.h>

static const char *const outcomes[] = {"succeeded", "failed", "errored", "aborted"};
static const char *const states[] = {"idle", "active", "ended"};

/* The keys of a node beside "kind" and "run"; those with a '?' may be missing. */
static const char *const keys[] = {
	[DAVIT_PLAN_DO] = "steps",
	[DAVIT_PLAN_IN_PARALLEL] = "steps limit? fail_fast?",
	[DAVIT_PLAN_ACROSS] = "var values max_in_flight? fail_fast? step",
	[DAVIT_PLAN_TRY] = "step",
	[DAVIT_PLAN_TIMEOUT] = "step after",
	[DAVIT_PLAN_ATTEMPTS] = "step attempts",
	[DAVIT_PLAN_ON_SUCCESS] = "step hook",
	[DAVIT_PLAN_ON_FAILURE] = "step hook",
	[DAVIT_PLAN_ON_ERROR] = "step hook",
	[DAVIT_PLAN_ON_ABORT] = "step hook",
	[DAVIT_PLAN_ENSURE] = "step hook",
	[DAVIT_PLAN_TASK] = "name spec?",
	[DAVIT_PLAN_GET] = "name spec?",
	[DAVIT_PLAN_PUT] = "name spec?",
	[DAVIT_PLAN_CHECK] = "name spec?",
	[DAVIT_PLAN_LOAD_VAR] = "name spec?",
};
_Static_assert(DAVIT_ARRAY_SIZE(keys) == DAVIT_PLAN_KIND_COUNT, "each kind has its keys");

struct reader {
	struct davit_plan *p;
	unsigned depth;
	struct davit_error *err;
};

static int wrong(struct reader *r, const char *what)
{
	return davit_error_set(r->err, DAVIT_EINVAL, NULL, "a plan, %u deep: %s", r->depth, what);
}

static int no_memory(struct reader *r)
{
	return davit_error_set(r->err, DAVIT_ENOMEM, NULL, "out of memory");
}

static int index_of(const json_t *word, const char *const *words, size_t n)
{
	const char *s = json_string_value(word);

	for (size_t i = 0; s && i < n; i++)
		if (!strcmp(s, words[i]))
			return (int)i;
	return -1;
}

/* Is `key` among the words of `known`? */
static bool knows(const char *known, const char *key)
{
	size_t n = strlen(key);

	for (const char *p = known; *p; p += strcspn(p, " "), p += *p == ' ')
		if (!strncmp(p, key, n) && (p[n] == ' ' || p[n] == '?' || !p[n]))
			return true;
	return false;
}

static int check_keys(struct reader *r, enum davit_plan_kind kind, const json_t *in)
{
	char text[160];
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)in, key, v) if (strcmp(key, "kind") != 0 && strcmp(key, "run") != 0 &&
						      !knows(keys[kind], key))
	{
		snprintf(text, sizeof text, "'%.64s' is no key of %s", key, davit_plan_kind_name(kind));
		return wrong(r, text);
	}
	return 0;
}

/* A whole number within [least, most]; `otherwise` where there is none. */
static int read_count(struct reader *r, const json_t *in, const char *key, json_int_t least, json_int_t most,
		      uint32_t otherwise, uint32_t *ret)
{
	const json_t *v = json_object_get(in, key);
	char text[120];

	*ret = otherwise;
	if (!v)
		return 0;
	if (!json_is_integer(v) || json_integer_value(v) < least || json_integer_value(v) > most) {
		snprintf(text, sizeof text, "'%s' must be a whole number from %lld to %lld", key,
			 (long long)least, (long long)most);
		return wrong(r, text);
	}
	*ret = (uint32_t)json_integer_value(v);
	return 0;
}

static int read_flag(struct reader *r, const json_t *in, const char *key, bool *ret)
{
	const json_t *v = json_object_get(in, key);

	if (v && !json_is_boolean(v))
		return wrong(r, "'fail_fast' must be true or false");
	*ret = json_is_true(v);
	return 0;
}

static int read_name(struct reader *r, const json_t *name, struct davit_plan_node *n)
{
	if (!json_is_string(name))
		return wrong(r,
			     davit_plan_is_leaf(n->kind) ? "a step needs a 'name'" : "across needs a 'var'");
	n->name = strdup(json_string_value(name));
	return n->name ? 0 : no_memory(r);
}

static int read_node(struct reader *r, const json_t *in, struct davit_plan_node **ret);

static int read_child(struct reader *r, const json_t *in, struct davit_plan_node *parent)
{
	struct davit_plan_node *child = NULL;
	int e = read_node(r, in, &child);

	if (e == 0)
		plan_node_add(parent, child);
	return e;
}

static int read_children(struct reader *r, const json_t *in, struct davit_plan_node *n)
{
	json_t *steps = json_object_get(in, "steps"), *v;
	size_t i;
	int e = 0;

	if (!json_is_array(steps))
		return wrong(r, "'steps' must be a list");
	json_array_foreach(steps, i, v)
	{
		e = read_child(r, v, n);
		if (e < 0)
			break;
	}
	return e;
}

static int read_across(struct reader *r, const json_t *in, struct davit_plan_node *n)
{
	int e = read_name(r, json_object_get(in, "var"), n);

	if (e == 0)
		e = read_count(r, in, "max_in_flight", 0, DAVIT_PLAN_NODES_MAX, 1, &n->limit);
	if (e == 0)
		e = read_flag(r, in, "fail_fast", &n->fail_fast);
	n->values = json_incref(json_object_get(in, "values"));
	if (e == 0 && !json_is_array(n->values) && !json_is_string(n->values))
		return wrong(r, "'values' must be a list, or the variable that is one");
	if (e == 0)
		e = read_node(r, json_object_get(in, "step"), &n->template);
	if (e == 0)
		n->template->parent = n;
	return e;
}

static int read_after(struct reader *r, const json_t *in, struct davit_plan_node *n)
{
	const char *after = json_string_value(json_object_get(in, "after"));

	if (!after)
		return wrong(r, "timeout needs 'after', a duration");
	if (davit_duration_parse(after, &n->after, r->err) < 0)
		return r->err ? r->err->code : DAVIT_EINVAL;
	return n->after > 0 ? 0 : wrong(r, "'after' must be more than nothing");
}

/* What the plan says of a node. */
static int read_definition(struct reader *r, const json_t *in, struct davit_plan_node *n)
{
	int e = 0;

	switch (n->kind) {
	case DAVIT_PLAN_IN_PARALLEL:
		e = read_count(r, in, "limit", 0, DAVIT_PLAN_NODES_MAX, 0, &n->limit);
		if (e == 0)
			e = read_flag(r, in, "fail_fast", &n->fail_fast);
		if (e < 0)
			return e;
		/* fall through */
	case DAVIT_PLAN_DO:
		return read_children(r, in, n);
	case DAVIT_PLAN_ACROSS:
		return read_across(r, in, n);
	case DAVIT_PLAN_TIMEOUT:
		e = read_after(r, in, n);
		break;
	case DAVIT_PLAN_ATTEMPTS:
		if (!json_object_get(in, "attempts"))
			return wrong(r, "attempts needs 'attempts', how many");
		e = read_count(r, in, "attempts", 1, DAVIT_PLAN_ATTEMPTS_MAX, 1, &n->limit);
		break;
	default:
		break;
	}
	if (e < 0)
		return e;
	if (davit_plan_is_leaf(n->kind)) {
		const json_t *spec = json_object_get(in, "spec");
		n->spec = spec ? json_deep_copy(spec) : json_object();
		return n->spec ? read_name(r, json_object_get(in, "name"), n) : no_memory(r);
	}
	e = read_child(r, json_object_get(in, "step"), n);
	return e == 0 && n->kind >= DAVIT_PLAN_ON_SUCCESS ? read_child(r, json_object_get(in, "hook"), n) : e;
}

/* The children that an active across has made. */
static int read_passes(struct reader *r, const json_t *run, struct davit_plan_node *n)
{
	json_t *passes = json_object_get(run, "passes"), *v;
	size_t i;

	json_array_foreach(passes, i, v)
	{
		struct davit_plan_node *child;
		json_t *value = json_object_get(v, "value");
		int e = read_child(r, json_object_get(v, "step"), n);
		if (e < 0)
			return e;
		if (!value)
			return wrong(r, "a pass of across has no value");
		child = DAVIT_CONTAINER_OF(n->children.prev, struct davit_plan_node, siblings);
		child->value = json_incref(value);
	}
	return 0;
}

/* What has become of a node. */
static int read_run(struct reader *r, const json_t *run, struct davit_plan_node *n)
{
	int state = index_of(json_object_get(run, "state"), states, DAVIT_ARRAY_SIZE(states));
	int outcome = index_of(json_object_get(run, "outcome"), outcomes, DAVIT_ARRAY_SIZE(outcomes));
	int worst = index_of(json_object_get(run, "worst"), outcomes, DAVIT_ARRAY_SIZE(outcomes));
	const char *message = json_string_value(json_object_get(run, "message"));

	if (state < 0 || (state == DAVIT_PLAN_ENDED && outcome < 0))
		return wrong(r, "its state cannot be understood");
	n->state = (enum davit_plan_state)state;
	n->outcome = outcome < 0 ? DAVIT_PLAN_SUCCEEDED : (enum davit_plan_outcome)outcome;
	n->worst = worst < 0 ? DAVIT_PLAN_SUCCEEDED : (enum davit_plan_outcome)worst;
	n->cancelled = json_is_true(json_object_get(run, "cancelled"));
	n->forced = json_is_true(json_object_get(run, "forced"));
	n->is_running = json_is_true(json_object_get(run, "running"));
	n->timed_out = json_is_true(json_object_get(run, "timed_out"));
	n->stopping = json_is_true(json_object_get(run, "stopping"));
	n->spared = json_is_true(json_object_get(run, "spared"));
	n->began = json_integer_value(json_object_get(run, "began"));
	n->ended = json_integer_value(json_object_get(run, "ended"));
	n->deadline = json_integer_value(json_object_get(run, "deadline"));
	n->vars = json_incref(json_object_get(run, "vars"));
	if (message) {
		n->message = strdup(message);
		if (!n->message)
			return no_memory(r);
	}
	if (n->kind == DAVIT_PLAN_TIMEOUT && n->state == DAVIT_PLAN_ACTIVE && n->deadline && !n->timed_out)
		davit_list_add_tail(&r->p->armed, &n->armed);
	if (n->kind == DAVIT_PLAN_ACROSS)
		return read_passes(r, run, n);
	if (n->kind == DAVIT_PLAN_ATTEMPTS)
		return read_count(r, run, "attempt", 0, DAVIT_PLAN_ATTEMPTS_MAX, 0, &n->attempt);
	return 0;
}

/* What is computed from the states of the children. */
static void derive(struct davit_plan_node *n)
{
	struct davit_plan_node *c;

	if (n->state != DAVIT_PLAN_ACTIVE)
		return;
	DAVIT_LIST_FOREACH (c, &n->children, siblings) {
		if (c->state == DAVIT_PLAN_ACTIVE)
			n->active++;
		else if (c->state == DAVIT_PLAN_IDLE && !n->next)
			n->next = c;
	}
}

static int read_node(struct reader *r, const json_t *in, struct davit_plan_node **ret)
{
	static const char *const kinds[] = {
#define X(symbol, word) word,
		DAVIT_PLAN_KINDS(X)
#undef X
	};
	int kind = index_of(json_object_get(in, "kind"), kinds, DAVIT_ARRAY_SIZE(kinds)), e;
	const json_t *run = json_object_get(in, "run");
	struct davit_plan_node *n;

	if (kind < 0)
		return wrong(r, "a node needs a 'kind' that there is");
	if (r->depth >= DAVIT_PLAN_DEPTH_MAX || r->p->nodes >= DAVIT_PLAN_NODES_MAX)
		return wrong(r,
			     r->depth >= DAVIT_PLAN_DEPTH_MAX ? "it is too deep" : "it has too many nodes");
	e = check_keys(r, (enum davit_plan_kind)kind, in);
	if (e < 0)
		return e;
	n = plan_node_new(r->p, (enum davit_plan_kind)kind);
	if (!n)
		return no_memory(r);
	r->depth++;
	e = read_definition(r, in, n);
	if (e == 0 && run)
		e = read_run(r, run, n);
	r->depth--;
	if (e < 0) {
		plan_node_free(n);
		return e;
	}
	derive(n);
	*ret = n;
	return 0;
}

/* Active leaves have a key and their variables. */
static int enter_leaves(struct davit_plan *p, struct davit_error *err)
{
	struct davit_plan_node *n;

	for (n = p->root; n; n = plan_next(n, p->root, true)) {
		int r = 0;
		if (!davit_plan_is_leaf(n->kind) || n->state != DAVIT_PLAN_ACTIVE)
			continue;
		r = davit_plan_fill(n, n->spec, &n->config, err);
		if (r < 0)
			return r;
		if (plan_enter(n) < 0)
			return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	return 0;
}

int davit_plan_read(const json_t *plan, const struct davit_plan_ops *ops, void *owner,
		    struct davit_plan **ret, struct davit_error *err)
{
	struct davit_plan *p = calloc(1, sizeof *p);
	struct reader r = {.p = p, .err = err};
	const json_t *whole = json_object_get(plan, "plan");
	int e;

	if (!p || !(p->leaves = calloc(1, sizeof *p->leaves))) {
		free(p);
		return no_memory(&r);
	}
	p->ops = ops;
	p->owner = owner;
	davit_list_init(&p->work);
	davit_list_init(&p->pending);
	davit_list_init(&p->armed);
	if (whole)
		p->generation = p->stored = (uint64_t)json_integer_value(json_object_get(plan, "generation"));
	e = read_node(&r, whole ? whole : plan, &p->root);
	if (e == 0)
		e = enter_leaves(p, err);
	if (e < 0) {
		davit_plan_free(p);
		return e;
	}
	*ret = p;
	return 0;
}

/* ------------------------------------------------------------------------- write */

/* All of the writers below return NULL when there is no memory; set() takes that as well. */
static int set(json_t *o, const char *key, json_t *v)
{
	return json_object_set_new(o, key, v);
}

static json_t *write_node(const struct davit_plan_node *n);

static json_t *write_passes(const struct davit_plan_node *n)
{
	json_t *list = json_array();
	const struct davit_plan_node *c;

	DAVIT_LIST_FOREACH (c, &n->children, siblings)
		if (json_array_append_new(
			    list, json_pack("{s:O,s:o}", "value", c->value, "step", write_node(c))) < 0) {
			json_decref(list);
			return NULL;
		}
	return list;
}

static json_t *write_run(const struct davit_plan_node *n)
{
	json_t *o = json_pack("{s:s}", "state", states[n->state]);
	const struct {
		const char *key;
		bool is;
	} flags[] = {{"cancelled", n->cancelled}, {"forced", n->forced},     {"running", n->is_running},
		     {"timed_out", n->timed_out}, {"stopping", n->stopping}, {"spared", n->spared}};
	const struct {
		const char *key;
		int64_t is;
	} numbers[] = {
		{"began", n->began}, {"ended", n->ended}, {"deadline", n->deadline}, {"attempt", n->attempt}};
	int r = o ? 0 : -1;

	if (n->state == DAVIT_PLAN_ENDED)
		r |= set(o, "outcome", json_string(outcomes[n->outcome]));
	if (n->worst)
		r |= set(o, "worst", json_string(outcomes[n->worst]));
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(flags); i++)
		if (flags[i].is)
			r |= set(o, flags[i].key, json_true());
	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(numbers); i++)
		if (numbers[i].is)
			r |= set(o, numbers[i].key, json_integer(numbers[i].is));
	if (n->message)
		r |= set(o, "message", json_stringn_nocheck(n->message, strlen(n->message)));
	if (n->vars)
		r |= set(o, "vars", json_deep_copy(n->vars));
	if (n->kind == DAVIT_PLAN_ACROSS)
		r |= set(o, "passes", write_passes(n));
	if (r < 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}

static json_t *write_steps(const struct davit_plan_node *n)
{
	json_t *list = json_array();
	const struct davit_plan_node *c;

	DAVIT_LIST_FOREACH (c, &n->children, siblings)
		if (json_array_append_new(list, write_node(c)) < 0) {
			json_decref(list);
			return NULL;
		}
	return list;
}

static int write_definition(const struct davit_plan_node *n, json_t *o)
{
	char duration[DAVIT_TIME_MAX];
	int r = 0;

	if (davit_plan_is_leaf(n->kind))
		return set(o, "name", json_string(n->name)) | set(o, "spec", json_incref(n->spec));
	if (n->kind == DAVIT_PLAN_DO || n->kind == DAVIT_PLAN_IN_PARALLEL)
		r |= set(o, "steps", write_steps(n));
	else
		r |= set(o, "step", write_node(n->template ? n->template : plan_child(n, 0)));
	if (n->kind >= DAVIT_PLAN_ON_SUCCESS)
		r |= set(o, "hook", write_node(plan_child(n, 1)));
	if (n->kind == DAVIT_PLAN_ACROSS)
		r |= set(o, "var", json_string(n->name)) | set(o, "values", json_incref(n->values)) |
		     set(o, "max_in_flight", json_integer(n->limit));
	if (n->kind == DAVIT_PLAN_IN_PARALLEL)
		r |= set(o, "limit", json_integer(n->limit));
	if (n->kind == DAVIT_PLAN_ATTEMPTS)
		r |= set(o, "attempts", json_integer(n->limit));
	if (n->kind == DAVIT_PLAN_TIMEOUT)
		r |= set(o, "after", json_string(davit_duration_format(n->after, duration)));
	if (n->fail_fast)
		r |= set(o, "fail_fast", json_true());
	return r;
}

static json_t *write_node(const struct davit_plan_node *n)
{
	json_t *o = json_pack("{s:s}", "kind", davit_plan_kind_name(n->kind));
	int r = o ? write_definition(n, o) : -1;

	if (r == 0 && (n->state != DAVIT_PLAN_IDLE || n->vars))
		r = set(o, "run", write_run(n));
	if (r < 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}

int davit_plan_write(const struct davit_plan *p, json_t **ret, struct davit_error *err)
{
	json_t *o = json_pack("{s:i,s:I,s:o}", "version", 1, "generation", (json_int_t)p->generation, "plan",
			      write_node(p->root));

	if (!o)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	*ret = o;
	return 0;
}
