/* SPDX-License-Identifier: MIT
 *
 * Events of a plan: recorded, applied, and what follows done when they are durable.
 */
#include "step/plan_impl.h"

#include "base/json.h"

#include <string.h>

enum event_kind { EVENT_BEGIN, EVENT_RUNNING, EVENT_ENDED, EVENT_ABORT, EVENT_TICK };

static const char *const event_names[] = {
	[EVENT_BEGIN] = "begin", [EVENT_RUNNING] = "running", [EVENT_ENDED] = "ended",
	[EVENT_ABORT] = "abort", [EVENT_TICK] = "tick",
};

struct event {
	enum event_kind kind;
	int64_t at;
	const char *key; /* of a leaf, or NULL */
	enum davit_plan_outcome outcome;
	const char *message;
	const json_t *value;
	bool force;
};

/* ----------------------------------------------------------------------- records */

static int put_value(struct davit_json *j, const json_t *value)
{
	char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);

	if (!text)
		return DAVIT_ENOMEM;
	davit_json_key(j, "value");
	davit_json_raw(j, text);
	free(text);
	return 0;
}

static int write_record(const struct davit_plan *p, const struct event *e, struct davit_buf *out)
{
	struct davit_json j = DAVIT_JSON_INIT(out);
	int r = 0;

	davit_json_open(&j);
	davit_json_put_int(&j, "generation", (int64_t)p->generation + 1);
	davit_json_put_string(&j, "event", event_names[e->kind]);
	davit_json_put_int(&j, "at", e->at);
	if (e->key)
		davit_json_put_string(&j, "leaf", e->key);
	if (e->kind == EVENT_ENDED)
		davit_json_put_string(&j, "outcome", davit_plan_outcome_name(e->outcome));
	if (e->message) {
		davit_json_key(&j, "message");
		davit_json_stringn(&j, e->message, strnlen(e->message, DAVIT_PLAN_MESSAGE_MAX));
	}
	if (e->value)
		r = put_value(&j, e->value);
	if (e->force)
		davit_json_put_bool(&j, "force", true);
	davit_json_close(&j);
	return r < 0 || out->oom ? DAVIT_ENOMEM : 0;
}

static int index_of(const char *word, const char *const *words, size_t n)
{
	for (size_t i = 0; word && i < n; i++)
		if (!strcmp(word, words[i]))
			return (int)i;
	return -1;
}

static int read_record(const json_t *record, struct event *e, struct davit_error *err)
{
	static const char *const outcomes[] = {"succeeded", "failed", "errored", "aborted"};
	int kind = index_of(json_string_value(json_object_get(record, "event")), event_names,
			    DAVIT_ARRAY_SIZE(event_names));
	int outcome = index_of(json_string_value(json_object_get(record, "outcome")), outcomes,
			       DAVIT_ARRAY_SIZE(outcomes));
	const json_t *at = json_object_get(record, "at");

	*e = (struct event){
		.at = json_integer_value(at),
		.key = json_string_value(json_object_get(record, "leaf")),
		.message = json_string_value(json_object_get(record, "message")),
		.value = json_object_get(record, "value"),
		.force = json_is_true(json_object_get(record, "force")),
	};
	if (kind < 0 || !json_is_integer(at) || (kind == EVENT_ENDED && outcome < 0) ||
	    ((kind == EVENT_ENDED || kind == EVENT_RUNNING) && !e->key))
		return davit_error_set(err, DAVIT_ECORRUPT, NULL,
				       "a record of the plan cannot be understood");
	e->kind = (enum event_kind)kind;
	if (kind == EVENT_ENDED)
		e->outcome = (enum davit_plan_outcome)outcome;
	return 0;
}

/* ------------------------------------------------------------------------- apply */

static void apply_running(struct davit_plan *p, struct davit_plan_node *leaf, int64_t since)
{
	struct davit_plan_node *timeout = leaf->parent;

	leaf->is_running = true;
	if (!p->replaying)
		p->ops->changed(p->owner, leaf);
	if (!timeout || timeout->kind != DAVIT_PLAN_TIMEOUT)
		return;
	timeout->deadline = since > INT64_MAX - timeout->after ? INT64_MAX : since + timeout->after;
	davit_list_add_tail(&p->armed, &timeout->armed);
}

static void apply_ended(struct davit_plan_node *leaf, const struct event *e)
{
	enum davit_plan_outcome outcome = e->outcome;
	const char *message = e->message;

	if (leaf->cancelled && outcome != DAVIT_PLAN_SUCCEEDED)
		outcome = DAVIT_PLAN_ABORTED;
	if (leaf->kind == DAVIT_PLAN_LOAD_VAR && outcome == DAVIT_PLAN_SUCCEEDED) {
		if (!e->value || plan_set_var(leaf, e->value) < 0) {
			outcome = DAVIT_PLAN_ERRORED;
			message = e->value ? "out of memory" : "it gave no value";
		}
	}
	plan_end(leaf, outcome, message);
}

static void apply(struct davit_plan *p, const struct event *e)
{
	struct davit_plan_node *leaf = e->key ? davit_plan_leaf(p, e->key) : NULL;

	p->generation++;
	p->now = e->at;
	switch (e->kind) {
	case EVENT_BEGIN:
		plan_begin_root(p);
		break;
	case EVENT_RUNNING:
		apply_running(p, leaf, e->at);
		break;
	case EVENT_ENDED:
		apply_ended(leaf, e);
		break;
	case EVENT_ABORT:
		plan_cancel(p->root, e->force);
		break;
	case EVENT_TICK:
		plan_deadlines(p);
		break;
	}
	plan_settle(p);
}

/* 1: to be applied; 0: it changes nothing; or a code. */
static int check(const struct davit_plan *p, const struct event *e, struct davit_error *err)
{
	const struct davit_plan_node *leaf = e->key ? davit_plan_leaf(p, e->key) : NULL;
	int64_t earliest;

	switch (e->kind) {
	case EVENT_BEGIN:
		if (p->root->state != DAVIT_PLAN_IDLE)
			return davit_error_set(err, DAVIT_ESTATE, NULL, "the plan has begun already");
		return 1;
	case EVENT_RUNNING:
	case EVENT_ENDED:
		if (!leaf)
			return davit_error_set(err, DAVIT_ENOENT, NULL, "no step '%s' is active", e->key);
		return e->kind == EVENT_ENDED || !leaf->is_running;
	case EVENT_ABORT:
		return p->root->state == DAVIT_PLAN_ACTIVE &&
		       (!p->root->cancelled || (e->force && !p->root->forced));
	case EVENT_TICK:
		earliest = plan_earliest(p);
		return earliest && earliest <= e->at;
	}
	return 0;
}

/* ------------------------------------------------------------------ what is owed */

/* One call to the host; false: it has to wait. */
static bool pay(struct davit_plan *p, struct davit_plan_node *leaf)
{
	enum davit_plan_start how = !leaf->resumed     ? DAVIT_PLAN_FRESH
				    : leaf->owes_abort ? DAVIT_PLAN_FIND
						       : DAVIT_PLAN_AGAIN;

	if (leaf->owes_start && leaf->owes_abort && !leaf->resumed)
		/* Nobody was told to start it, and nobody will be. */
		return davit_plan_ended(p, leaf->key, DAVIT_PLAN_ABORTED, NULL, NULL, p->now, NULL) == 0;
	if (leaf->owes_start) {
		leaf->owes_start = false;
		if (!leaf->owes_abort) /* else it stays, and is met again unless it ends in this call */
			davit_list_remove(&leaf->pending);
		p->ops->start(p->owner, leaf, how);
		return true;
	}
	davit_list_remove(&leaf->pending);
	leaf->owes_abort = false;
	p->ops->abort(p->owner, leaf);
	return true;
}

static void flush(struct davit_plan *p)
{
	struct davit_plan_node *leaf;
	int64_t at;

	if (p->flushing)
		return; /* whoever calls the host now goes on after it */
	p->flushing = true;
	while ((leaf = DAVIT_LIST_FIRST(&p->pending, struct davit_plan_node, pending)) &&
	       leaf->since <= p->stored && pay(p, leaf))
		;
	p->flushing = false;
	at = plan_earliest(p);
	if (at != p->armed_at) {
		p->armed_at = at;
		p->ops->arm(p->owner, at);
	}
	if (p->root->state == DAVIT_PLAN_ENDED && p->stored >= p->generation && !p->told) {
		p->told = true;
		p->ops->done(p->owner);
	}
}

static int event(struct davit_plan *p, const struct event *e, struct davit_error *err)
{
	DAVIT_AUTO_BUF record = DAVIT_BUF_INIT;
	int r = check(p, e, err);

	if (r <= 0)
		return r;
	r = write_record(p, e, &record);
	if (r < 0)
		return davit_error_set(err, r, NULL, "out of memory");
	apply(p, e);
	p->ops->store(p->owner, p->generation, davit_buf_str(&record));
	return 0;
}

int davit_plan_begin(struct davit_plan *p, int64_t now, struct davit_error *err)
{
	return event(p, &(struct event){.kind = EVENT_BEGIN, .at = now}, err);
}

int davit_plan_running(struct davit_plan *p, const char *key, int64_t since, struct davit_error *err)
{
	return event(p, &(struct event){.kind = EVENT_RUNNING, .at = since, .key = key}, err);
}

int davit_plan_ended(struct davit_plan *p, const char *key, enum davit_plan_outcome outcome,
		     const char *message, const json_t *value, int64_t now, struct davit_error *err)
{
	struct event e = {.kind = EVENT_ENDED,
			  .at = now,
			  .key = key,
			  .outcome = outcome,
			  .message = message,
			  .value = value};

	return event(p, &e, err);
}

int davit_plan_abort(struct davit_plan *p, bool force, int64_t now, struct davit_error *err)
{
	return event(p, &(struct event){.kind = EVENT_ABORT, .at = now, .force = force}, err);
}

int davit_plan_tick(struct davit_plan *p, int64_t now, struct davit_error *err)
{
	return event(p, &(struct event){.kind = EVENT_TICK, .at = now}, err);
}

void davit_plan_stored(struct davit_plan *p, uint64_t generation)
{
	if (generation > p->stored)
		p->stored = generation;
	flush(p);
}

/* ------------------------------------------------------------------------ resume */

int davit_plan_replay(struct davit_plan *p, const json_t *record, struct davit_error *err)
{
	uint64_t generation = (uint64_t)json_integer_value(json_object_get(record, "generation"));
	struct event e;
	int r;

	if (generation && generation <= p->generation)
		return 0;
	if (generation != p->generation + 1)
		return davit_error_set(err, DAVIT_ECORRUPT, NULL,
				       "a record of the plan is missing after %llu",
				       (unsigned long long)p->generation);
	r = read_record(record, &e, err);
	if (r < 0)
		return r;
	if (check(p, &e, NULL) != 1)
		return davit_error_set(err, DAVIT_ECORRUPT, NULL, "record %llu does not fit the plan",
				       (unsigned long long)generation);
	p->replaying = true;
	apply(p, &e);
	p->replaying = false;
	return 0;
}

void davit_plan_resume(struct davit_plan *p)
{
	struct davit_plan_node *n;

	for (n = p->root; n; n = plan_next(n, p->root, true)) {
		if (!davit_plan_is_leaf(n->kind) || n->state != DAVIT_PLAN_ACTIVE)
			continue;
		n->resumed = n->owes_start = true;
		n->owes_abort = n->cancelled;
		n->since = p->generation;
		davit_list_remove(&n->pending);
		davit_list_add_tail(&p->pending, &n->pending);
	}
	davit_plan_stored(p, p->generation);
}
