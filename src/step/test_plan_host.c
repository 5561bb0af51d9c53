/* SPDX-License-Identifier: MIT
 *
 * The host of the tests: plays leaves on a clock of its own, keeps what a store and a keeper would keep, and
 * dies between the events.
 */
#include "step/test_plan.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

uint64_t test_hash(uint64_t seed, const char *text)
{
	uint64_t h = seed * 0x9e3779b97f4a7c15u + 0x1234567;

	for (; *text; text++)
		h = (h ^ (unsigned char)*text) * 0x100000001b3u;
	h ^= h >> 29;
	h *= 0xbf58476d1ce4e5b9u;
	return h ^ h >> 32;
}

static enum davit_plan_outcome outcome_of(const json_t *word, uint64_t chance)
{
	for (int o = DAVIT_PLAN_SUCCEEDED; word && o <= DAVIT_PLAN_ABORTED; o++)
		if (!strcmp(json_string_value(word), davit_plan_outcome_name((enum davit_plan_outcome)o)))
			return (enum davit_plan_outcome)o;
	return (enum davit_plan_outcome[]){DAVIT_PLAN_SUCCEEDED, DAVIT_PLAN_SUCCEEDED, DAVIT_PLAN_SUCCEEDED,
					   DAVIT_PLAN_SUCCEEDED, DAVIT_PLAN_FAILED,    DAVIT_PLAN_FAILED,
					   DAVIT_PLAN_ERRORED,	 DAVIT_PLAN_ABORTED}[chance % 8];
}

struct behaviour test_behave(uint64_t seed, const char *key, const json_t *is)
{
	uint64_t a = test_hash(seed, key), b = test_hash(a, "b"), c = test_hash(a, "c");
	const char *attempt = strrchr(key, '@');

	if (json_is_array(is))
		is = json_array_get(is, attempt ? (size_t)atoi(attempt + 1) - 1 : 0);
	return (struct behaviour){
		.fetch = 1 + (int64_t)(a % 300000007),
		.length = 1 + (int64_t)(b % 1000000007),
		.outcome = outcome_of(is, c),
		.reaction = 1 + (int64_t)((a ^ c) % 400000009),
		.reacted = outcome_of(NULL, b >> 40),
	};
}

/* What a keeper knows of a leaf, whoever lives and dies. */
struct body {
	char key[TEST_KEY_MAX];
	struct behaviour is;
	int64_t began, runs, ends; /* NEVER: not (any more) to be told */
	enum davit_plan_outcome outcome;
	bool told; /* to end */
};

struct host {
	const struct test_case *c;
	struct test_result *result;
	struct davit_plan *plan;
	struct body body[TEST_LEAVES_MAX];
	size_t n;
	int64_t now, armed, abort, force;
	bool done, hold; /* hold: what is stored is not durable yet */
	json_t *records;
	uint64_t random;
};

static void complain(struct host *h, const char *what, const char *key)
{
	if (!*h->result->wrong)
		snprintf(h->result->wrong, sizeof h->result->wrong, "%s: %s", key, what);
}

static void on_store(void *owner, uint64_t generation, const char *record)
{
	struct host *h = owner;

	json_array_append_new(h->records, json_loads(record, 0, NULL));
	if (!h->hold)
		davit_plan_stored(h->plan, generation);
}

static struct body *find(struct host *h, const char *key)
{
	for (size_t i = 0; i < h->n; i++)
		if (!strcmp(h->body[i].key, key))
			return &h->body[i];
	return NULL;
}

static void on_start(void *owner, struct davit_plan_node *leaf, enum davit_plan_start how)
{
	struct host *h = owner;
	struct body *b = find(h, leaf->key);

	if (h->hold)
		complain(h, "it was started before that was durable", leaf->key);
	if (b && how == DAVIT_PLAN_FRESH)
		complain(h, "it was started twice", leaf->key);
	if (b)
		return;
	if (how == DAVIT_PLAN_FIND) {
		davit_plan_ended(h->plan, leaf->key, DAVIT_PLAN_ABORTED, NULL, NULL, h->now, NULL);
		return;
	}
	assert(h->n < TEST_LEAVES_MAX);
	b = &h->body[h->n++];
	snprintf(b->key, sizeof b->key, "%s", leaf->key);
	b->is = test_behave(h->c->seed, leaf->key, json_object_get(leaf->config, "is"));
	b->began = h->now;
	b->runs = h->now + b->is.fetch;
	b->ends = b->runs + b->is.length;
	b->outcome = b->is.outcome;
	b->told = false;
}

static void on_abort(void *owner, struct davit_plan_node *leaf)
{
	struct host *h = owner;
	struct body *b = find(h, leaf->key);

	if (!b) {
		complain(h, "it is aborted and was never started", leaf->key);
		return;
	}
	if (b->told || b->ends == NEVER || b->ends <= h->now)
		return; /* or at its end */
	b->told = true;
	if (b->runs > h->now)
		b->runs = NEVER;
	b->ends = h->now + b->is.reaction;
	b->outcome = b->is.reacted;
}

static void on_arm(void *owner, int64_t at)
{
	((struct host *)owner)->armed = at ? at : NEVER;
}

static void on_changed(void *owner, const struct davit_plan_node *n)
{
	(void)owner;
	assert(n->state != DAVIT_PLAN_IDLE);
}

static void on_done(void *owner)
{
	((struct host *)owner)->done = true;
}

static const struct davit_plan_ops ops = {.store = on_store,
					  .start = on_start,
					  .abort = on_abort,
					  .arm = on_arm,
					  .changed = on_changed,
					  .done = on_done};

/* --------------------------------------------------------------------------- death */

/* All that the plan has told of itself and was not stored is lost; goes on from a state. */
static void live_again(struct host *h, const json_t *state)
{
	struct davit_error err = {0};

	davit_plan_free(h->plan);
	h->plan = NULL;
	h->armed = NEVER;
	h->hold = false;
	if (davit_plan_read(state, &ops, h, &h->plan, &err) < 0)
		complain(h, err.message, "its state");
	else
		davit_plan_resume(h->plan);
}

static void live_again_from_records(struct host *h)
{
	struct davit_error err = {0};
	json_t *record, *before = NULL, *after = NULL;
	size_t i;

	davit_plan_write(h->plan, &before, NULL);
	davit_plan_free(h->plan);
	h->plan = NULL;
	h->armed = NEVER;
	if (davit_plan_read(h->c->plan, &ops, h, &h->plan, &err) < 0)
		complain(h, err.message, "its plan");
	json_array_foreach(h->records, i, record) if (h->plan && davit_plan_replay(h->plan, record, &err) < 0)
		complain(h, err.message, "a record");
	if (!h->plan)
		goto out;
	davit_plan_write(h->plan, &after, NULL);
	if (!json_equal(before, after))
		complain(h, "replayed records make another state", "records");
	davit_plan_resume(h->plan);
out:
	json_decref(before);
	json_decref(after);
}

static void live_again_from_state(struct host *h)
{
	json_t *state = NULL, *again = NULL;

	davit_plan_write(h->plan, &state, NULL);
	live_again(h, state);
	if (h->plan)
		davit_plan_write(h->plan, &again, NULL);
	if (!json_equal(state, again))
		complain(h, "what was read is not what was written", "state");
	json_decref(state);
	json_decref(again);
}

/* -------------------------------------------------------------------------- events */

/* Tells the plan of what is due now; what it was told must not be told again, but it may be. */
static void deliver(struct host *h, struct body *b)
{
	if (b && b->runs == h->now)
		davit_plan_running(h->plan, b->key, h->now, NULL);
	else if (b)
		davit_plan_ended(h->plan, b->key, b->outcome, "it says so", NULL, h->now, NULL);
	else if (h->abort == h->now || h->force == h->now)
		davit_plan_abort(h->plan, h->force == h->now, h->now, NULL);
	else
		davit_plan_tick(h->plan, h->now, NULL);
}

static void delivered(struct host *h, struct body *b)
{
	if (b && b->runs == h->now)
		b->runs = NEVER;
	else if (b)
		b->ends = NEVER;
	else if (h->abort == h->now)
		h->abort = NEVER;
	else if (h->force == h->now)
		h->force = NEVER;
}

static void deliver_and_die_between(struct host *h, struct body *b)
{
	json_t *before = NULL, *after = NULL;
	uint64_t chance = h->random = test_hash(h->random, "die");

	davit_plan_write(h->plan, &before, NULL);
	h->hold = true;
	deliver(h, b);
	if (chance & 1) { /* the event is lost, and comes again */
		live_again(h, before);
		if (h->plan)
			deliver(h, b);
	} else {
		davit_plan_write(h->plan, &after, NULL);
		live_again(h, after);
	}
	json_decref(before);
	json_decref(after);
}

/* The earliest that will happen; NULL with *ret_at for what is no leaf's. */
static struct body *next_event(struct host *h, int64_t *ret_at)
{
	struct body *first = NULL;
	int64_t at = h->armed;

	if (h->abort < at)
		at = h->abort;
	if (h->force < at)
		at = h->force;
	for (size_t i = 0; i < h->n; i++) {
		struct body *b = &h->body[i];
		int64_t t = b->runs < b->ends ? b->runs : b->ends;
		if (b->ends != NEVER && t < at) {
			at = t;
			first = b;
		}
	}
	*ret_at = at;
	return first;
}

static void live(struct host *h)
{
	while (!h->done && h->plan && !*h->result->wrong) {
		int64_t at;
		struct body *b = next_event(h, &at);

		if (at == NEVER) {
			complain(h, "nothing will happen any more", "the plan");
			return;
		}
		h->now = at;
		if (h->c->crash == CRASH_BETWEEN)
			deliver_and_die_between(h, b);
		else
			deliver(h, b);
		delivered(h, b);
		if (h->done)
			return;
		if (h->c->crash == CRASH_STATE)
			live_again_from_state(h);
		else if (h->c->crash == CRASH_RECORD)
			live_again_from_records(h);
	}
}

static int by_key(const void *a, const void *b)
{
	return strcmp(((const struct test_start *)a)->key, ((const struct test_start *)b)->key);
}

void test_run(const struct test_case *c, struct test_result *ret)
{
	static struct host host; /* its bodies are large, and are not cleared each time */
	struct host *h = &host;
	struct davit_error err = {0};

	*ret->wrong = '\0';
	h->c = c;
	h->result = ret;
	h->plan = NULL;
	h->n = 0;
	h->done = h->hold = false;
	h->now = 1;
	h->armed = NEVER;
	h->abort = c->abort;
	h->force = c->force;
	h->random = c->seed;
	h->records = json_array();
	if (davit_plan_read(c->plan, &ops, h, &h->plan, &err) < 0) {
		complain(h, err.message, "the plan");
	} else {
		davit_plan_begin(h->plan, 1, NULL);
		live(h);
	}
	if (h->plan) {
		ret->outcome = h->plan->root->outcome;
		ret->end = h->plan->root->ended;
	}
	for (size_t i = 0; i < h->n; i++) {
		strcpy(ret->starts[i].key, h->body[i].key);
		ret->starts[i].at = h->body[i].began;
	}
	ret->n_starts = h->n;
	qsort(ret->starts, ret->n_starts, sizeof *ret->starts, by_key);
	davit_plan_free(h->plan);
	json_decref(h->records);
}
