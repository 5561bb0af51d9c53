/* SPDX-License-Identifier: MIT
 *
 * The oracle: each construct as a function of times. Given when it begins, when it is cancelled and when it
 * is ended by force, it says with which outcome it ends, and when; no states, no events, nothing of the
 * engine. What depends on itself (fail_fast, timeout: the time of cancelling follows from what happens
 * without) is computed twice.
 */
#include "step/test_plan.h"

#include "base/units.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

struct ctx {
	const struct test_case *c;
	struct test_result *result;
	bool dry; /* only asking: starts are not noted */
};

/* Where: the key, and what ((.:x)) is here. */
struct place {
	char key[TEST_KEY_MAX];
	const json_t *x;
};

struct span {
	enum davit_plan_outcome outcome;
	int64_t end;
	int64_t runs; /* of a leaf: since when; NEVER */
};

/* When it is told to end: softly, by force. */
struct told {
	int64_t cancel, force;
};

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static struct told told_at(struct told t, int64_t at)
{
	return (struct told){earlier(t.cancel, at), t.force};
}

static struct place below(const struct place *p, size_t index)
{
	struct place q = {.x = p->x};

	snprintf(q.key, sizeof q.key, "%s/%zu", p->key, index);
	return q;
}

static struct span eval(struct ctx *c, const json_t *n, const struct place *at, int64_t t, struct told told);

static struct span ask(struct ctx *c, const json_t *n, const struct place *at, int64_t t, struct told told)
{
	bool dry = c->dry;
	struct span s;

	c->dry = true;
	s = eval(c, n, at, t, told);
	c->dry = dry;
	return s;
}

static struct span leaf(struct ctx *c, const json_t *n, const struct place *at, int64_t t, struct told told)
{
	const json_t *is = json_object_get(json_object_get(n, "spec"), "is");
	struct behaviour b;
	int64_t runs, end;

	if (json_is_string(is) && !strcmp(json_string_value(is), "((.:x))"))
		is = at->x;
	b = test_behave(c->c->seed, at->key, is);
	runs = t + b.fetch;
	end = runs + b.length;
	if (!c->dry) {
		assert(c->result->n_starts < TEST_LEAVES_MAX);
		strcpy(c->result->starts[c->result->n_starts].key, at->key);
		c->result->starts[c->result->n_starts++].at = t;
	}
	if (told.cancel < end)
		return (struct span){b.reacted == DAVIT_PLAN_SUCCEEDED ? DAVIT_PLAN_SUCCEEDED
								       : DAVIT_PLAN_ABORTED,
				     told.cancel + b.reaction, told.cancel < runs ? NEVER : runs};
	return (struct span){b.outcome, end, runs};
}

static struct span sequence(struct ctx *c, const json_t *n, const struct place *at, int64_t t,
			    struct told told)
{
	struct span s = {DAVIT_PLAN_SUCCEEDED, t, NEVER};
	const json_t *steps = json_object_get(n, "steps");

	for (size_t i = 0; i < json_array_size(steps) && s.outcome == DAVIT_PLAN_SUCCEEDED; i++) {
		struct place p = below(at, i);
		if (told.cancel <= s.end)
			return (struct span){DAVIT_PLAN_ABORTED, s.end, NEVER};
		s = eval(c, json_array_get(steps, i), &p, s.end, told);
	}
	return s;
}

struct pass {
	const json_t *step;
	struct place at;
	int64_t began; /* NEVER: not at all */
	struct span s;
};

/* Begins the passes as places are free, until `stop`; tells who is still at it to end then. */
static void schedule(struct ctx *c, struct pass *p, size_t n, size_t limit, int64_t t, struct told told,
		     int64_t stop)
{
	size_t next = 0;

	for (size_t i = 0; i < n; i++)
		p[i].began = NEVER;
	for (;;) {
		size_t active = 0;
		int64_t soonest = NEVER;

		for (size_t i = 0; i < next; i++)
			active += p[i].s.end > t;
		for (; next < n && (!limit || active < limit) && t < stop && t < told.cancel; next++) {
			p[next].began = t;
			p[next].s = eval(c, p[next].step, &p[next].at, t, told_at(told, stop));
			active += p[next].s.end > t;
		}
		for (size_t i = 0; i < next; i++)
			if (p[i].s.end > t)
				soonest = earlier(soonest, p[i].s.end);
		if (soonest == NEVER)
			return;
		t = soonest;
	}
}

static struct span several(struct ctx *c, struct pass *p, size_t n, size_t limit, bool fail_fast, int64_t t,
			   struct told told)
{
	struct span all = {DAVIT_PLAN_SUCCEEDED, t, NEVER};
	bool spared = false, left = false, dry = c->dry;
	int64_t stop = NEVER;

	if (fail_fast) {
		c->dry = true;
		schedule(c, p, n, limit, t, told, NEVER);
		c->dry = dry;
		for (size_t i = 0; i < n; i++)
			if (p[i].began != NEVER && p[i].s.outcome != DAVIT_PLAN_SUCCEEDED)
				stop = earlier(stop, p[i].s.end);
		if (stop >= told.cancel)
			stop = NEVER;
	}
	schedule(c, p, n, limit, t, told, stop);
	for (size_t i = 0; i < n; i++) {
		if (p[i].began == NEVER) {
			left = true;
			continue;
		}
		if (p[i].s.end > all.end)
			all.end = p[i].s.end;
		if (p[i].s.outcome == DAVIT_PLAN_ABORTED && p[i].s.end > stop)
			spared = true;
		else if (p[i].s.outcome > all.outcome)
			all.outcome = p[i].s.outcome;
	}
	if (told.cancel < all.end && (left || spared))
		all.outcome = DAVIT_PLAN_ABORTED;
	return all;
}

static struct span parallel(struct ctx *c, const json_t *n, const struct place *at, int64_t t,
			    struct told told)
{
	bool across = json_object_get(n, "values") != NULL;
	const json_t *list = json_object_get(n, across ? "values" : "steps");
	const json_t *limit = json_object_get(n, across ? "max_in_flight" : "limit");
	size_t count = json_array_size(list);
	struct pass p[8];

	assert(count <= 8);
	for (size_t i = 0; i < count; i++) {
		p[i] = (struct pass){.step = across ? json_object_get(n, "step") : json_array_get(list, i),
				     .at = below(at, i)};
		if (across)
			p[i].at.x = json_array_get(list, i);
	}
	return several(c, p, count, limit ? (size_t)json_integer_value(limit) : across,
		       json_is_true(json_object_get(n, "fail_fast")), t, told);
}

static struct span try(struct ctx *c, const json_t *n, const struct place *at, int64_t t, struct told told)
{
	struct place p = below(at, 0);
	struct span s = eval(c, json_object_get(n, "step"), &p, t, told);

	if (s.outcome != DAVIT_PLAN_ABORTED)
		s.outcome = DAVIT_PLAN_SUCCEEDED;
	return s;
}

static struct span timeout(struct ctx *c, const json_t *n, const struct place *at, int64_t t,
			   struct told told)
{
	const json_t *step = json_object_get(n, "step");
	bool leaf = !strcmp(json_string_value(json_object_get(step, "kind")), "task");
	struct place p = below(at, 0);
	struct span s = ask(c, step, &p, t, told);
	int64_t after, late;
	bool over;

	davit_duration_parse(json_string_value(json_object_get(n, "after")), &after, NULL);
	late = !leaf ? t + after : s.runs == NEVER ? NEVER : s.runs + after;
	over = late < s.end;
	s = eval(c, step, &p, t, told_at(told, late));
	if (s.outcome == DAVIT_PLAN_ABORTED && over && told.cancel >= s.end)
		s.outcome = DAVIT_PLAN_FAILED;
	s.runs = NEVER;
	return s;
}

static struct span attempts(struct ctx *c, const json_t *n, const struct place *at, int64_t t,
			    struct told told)
{
	json_int_t most = json_integer_value(json_object_get(n, "attempts"));
	struct span s = {0};

	for (json_int_t i = 1; i <= most; i++) {
		struct place q = *at, p;
		snprintf(q.key, sizeof q.key, "%s@%d", at->key, (int)i);
		p = below(&q, 0);
		s = eval(c, json_object_get(n, "step"), &p, t, told);
		if (s.outcome == DAVIT_PLAN_SUCCEEDED || s.outcome == DAVIT_PLAN_ABORTED)
			return s;
		if (i < most && told.cancel <= s.end)
			return (struct span){DAVIT_PLAN_ABORTED, s.end, NEVER};
		t = s.end;
	}
	return s;
}

static struct span hooked(struct ctx *c, const json_t *n, const struct place *at, int64_t t, struct told told,
			  const char *kind)
{
	bool always = !strcmp(kind, "ensure"), shielded = always || !strcmp(kind, "on_abort");
	struct place p = below(at, 0), q = below(at, 1);
	struct span s = eval(c, json_object_get(n, "step"), &p, t, told), h;
	static const char *const when[] = {"on_success", "on_failure", "on_error", "on_abort"};

	s.runs = NEVER;
	if (!always && strcmp(kind, when[s.outcome]) != 0)
		return s;
	if (told.force <= s.end || (told.cancel <= s.end && !shielded))
		return (struct span){DAVIT_PLAN_ABORTED, s.end, NEVER};
	if (shielded)
		told.cancel = told.force;
	h = eval(c, json_object_get(n, "hook"), &q, s.end, told);
	return (struct span){h.outcome > s.outcome ? h.outcome : s.outcome, h.end, NEVER};
}

static struct span eval(struct ctx *c, const json_t *n, const struct place *at, int64_t t, struct told told)
{
	const char *kind = json_string_value(json_object_get(n, "kind"));

	if (!strcmp(kind, "task"))
		return leaf(c, n, at, t, told);
	if (!strcmp(kind, "do"))
		return sequence(c, n, at, t, told);
	if (!strcmp(kind, "in_parallel") || !strcmp(kind, "across"))
		return parallel(c, n, at, t, told);
	if (!strcmp(kind, "try"))
		return try(c, n, at, t, told);
	if (!strcmp(kind, "timeout"))
		return timeout(c, n, at, t, told);
	if (!strcmp(kind, "attempts"))
		return attempts(c, n, at, t, told);
	return hooked(c, n, at, t, told, kind);
}

static int by_key(const void *a, const void *b)
{
	return strcmp(((const struct test_start *)a)->key, ((const struct test_start *)b)->key);
}

void test_oracle(const struct test_case *c, struct test_result *ret)
{
	struct ctx ctx = {.c = c, .result = ret};
	struct place root = {.key = "0"};
	struct span s;

	*ret->wrong = '\0';
	ret->n_starts = 0;
	s = eval(&ctx, c->plan, &root, 1, (struct told){earlier(c->abort, c->force), c->force});
	ret->outcome = s.outcome;
	ret->end = s.end;
	qsort(ret->starts, ret->n_starts, sizeof *ret->starts, by_key);
}
