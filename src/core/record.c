/* SPDX-License-Identifier: MIT
 *
 * What no runtime keeps of an instance: counters of restarts, the end that was
 * recorded last, ports that were chosen. Written when it ends, when it is started
 * again, and when ports were chosen; read when it is adopted.
 */
#include "core/instance_op.h"

#include "base/log.h"

#include <stdio.h>
#include <string.h>

enum { KEY_SIZE = 8 + DAVIT_ID_MAX };
enum { USUAL_SIZE = 300 }; /* of a record, so that its buffer is taken once */

static void record_key(const char *id, char key[KEY_SIZE])
{
	snprintf(key, KEY_SIZE, "state/%s", id);
}

/* What is 0 is read as 0 when it is not there: a short record shares its page with more others,
 * and a storm of ends writes fewer. */
static void put_number(struct davit_json *j, const char *key, int64_t v)
{
	if (v)
		davit_json_put_int(j, key, v);
}

/* Why it is as it is, where that lies with another, or is decided for good. */
static void put_why(struct davit_json *j, const struct instance *i)
{
	const struct davit_node *n = &i->node;
	const char *origin = n->origin != n ? supervision_origin(n) : NULL;

	if (!origin && !(i->told_failed && n->state == DAVIT_NODE_FAILED))
		return;
	davit_json_put_string(j, "rule", n->rule_name);
	davit_json_put_int(j, "decided", n->decided);
	if (origin)
		davit_json_put_string(j, "origin", origin);
}

void instance_write_record(struct instance *i)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);
	char key[KEY_SIZE];

	if (i->is_build)
		return;
	record_key(i->workload.id, key);
	davit_buf_reserve(&b, USUAL_SIZE);
	davit_json_open(&j);
	davit_json_put_string(&j, "runtime", i->runtime->name);
	if (i->service && !i->replacement) {
		davit_json_put_string(&j, "service", i->service->key);
		put_number(&j, "index", i->workload.index);
		put_number(&j, "generation", (int64_t)i->generation);
	}
	davit_json_put_int(&j, "run", i->run);
	davit_json_put_int(&j, "exitRun", i->exit_run);
	put_number(&j, "runBase", i->run_base);
	put_number(&j, "restarts", i->node.restarts);
	put_number(&j, "totalRestarts", i->node.total_restarts);
	put_number(&j, "attempt", i->node.attempt);
	if (i->leaf)
		put_why(&j, i);
	if (i->ready)
		davit_json_put_int(&j, "readyRun", i->run);
	if (health_name(i) && i->state == DAVIT_STATE_STARTED) {
		davit_json_put_string(&j, "health", health_name(i));
		davit_json_put_int(&j, "healthRun", i->run);
	}
	if (i->start_failed)
		davit_json_put_string(&j, "startError", i->error ? i->error->message : "");
	if (i->told_failed)
		davit_json_put_bool(&j, "toldFailed", true);
	if (i->exit_run || i->start_failed || i->node.restarts) {
		put_number(&j, "cause", i->pending_cause);
		if (i->prevent)
			davit_json_put_bool(&j, "prevent", true);
		put_number(&j, "exitKind", i->exit.kind);
		put_number(&j, "code", i->exit.code);
		put_number(&j, "signal", i->exit.signal);
		if (i->exit.time != i->ended)
			davit_json_put_int(&j, "exitTime", i->exit.time);
		put_number(&j, "ended", i->ended);
		if (i->exit.core_dumped)
			davit_json_put_bool(&j, "coreDumped", true);
		if (i->exit.reason[0])
			davit_json_put_string(&j, "reason", i->exit.reason);
	}
	if (i->workload.n_ports) {
		davit_json_key(&j, "ports");
		davit_json_open_array(&j);
		for (size_t k = 0; k < i->workload.n_ports; k++)
			davit_json_int(&j, i->workload.ports[k].host);
		davit_json_close_array(&j);
	}
	davit_json_close(&j);
	if (!b.oom)
		davit_journal_write(i->core->journal, key, davit_buf_str(&b));
}

void instance_forget_record(const struct instance *i)
{
	char key[KEY_SIZE];

	if (i->is_build)
		return;
	record_key(i->workload.id, key);
	davit_journal_write(i->core->journal, key, NULL);
}

struct wanted_record {
	const char *key;
	json_t *record;
};

/* The key itself, if it is there, is the first of those that begin with it. */
static bool take_record(void *user, const struct davit_kv *kv)
{
	struct wanted_record *w = user;
	json_error_t je;

	if (!strcmp(kv->key, w->key))
		w->record = json_loadb(kv->value, kv->len, 0, &je);
	return false;
}

json_t *instance_read_record(const struct instance *i)
{
	struct davit_store *store = i->core->store;
	char key[KEY_SIZE];
	struct wanted_record wanted = {.key = key};
	struct davit_error err;
	int64_t revision;

	record_key(i->workload.id, key);
	if (store->driver->list(store, key, NULL, 1, take_record, &wanted, &revision, &err) < 0)
		davit_log(DAVIT_LOG_WARNING, "cannot read %s: %s", key, err.message);
	return wanted.record;
}

static int64_t number(const json_t *rec, const char *key)
{
	return json_integer_value(json_object_get(rec, key));
}

static void restore_exit(struct instance *i, const json_t *rec)
{
	const char *reason = json_string_value(json_object_get(rec, "reason"));

	if (!rec)
		return;
	i->exit = (struct davit_exit){
		.kind = (enum davit_exit_kind)number(rec, "exitKind"),
		.code = (int)number(rec, "code"),
		.signal = (int)number(rec, "signal"),
		.time = number(rec, json_object_get(rec, "exitTime") ? "exitTime" : "ended"),
	};
	if (reason)
		strncpy(i->exit.reason, reason, sizeof i->exit.reason - 1);
}

struct restarts {
	int64_t since, total, attempt; /* since it was last started afresh; ever; for the backoff */
};

/* What people are told of that end. */
static void restore_error(struct instance *i, const char *start_error)
{
	struct davit_error err;
	char text[224];

	instance_describe_exit(&i->exit, text, sizeof text);
	if (start_error)
		davit_error_set(&err, DAVIT_EEXEC, NULL, "%s", start_error);
	else if (i->exit.reason[0])
		davit_error_set(&err, DAVIT_EIO, NULL, "%s", i->exit.reason);
	else
		davit_error_set(&err, DAVIT_EIO, NULL, "%s", text);
	if (start_error || (i->pending_cause != DAVIT_CAUSE_CLEAN && i->pending_cause != DAVIT_CAUSE_STOPPED))
		instance_set_error(i, &err);
}

static void restore_end(struct instance *i, const json_t *rec)
{
	const char *start_error = json_string_value(json_object_get(rec, "startError"));

	restore_exit(i, rec);
	i->start_failed = start_error != NULL;
	i->ended = number(rec, "ended");
	i->pending_cause = (enum davit_cause)number(rec, "cause");
	i->prevent = json_is_true(json_object_get(rec, "prevent"));
	i->told_failed = json_is_true(json_object_get(rec, "toldFailed"));
	restore_error(i, start_error);
}

static const char *strategy_above(const struct instance *i)
{
	return davit_supervise_strategy(i->service->node.parent->rule.strategy);
}

/* Why it is as it is: as the record says, or else by that rule at that time. */
static void restore_why(struct instance *i, const json_t *rec, const char *rule, int64_t decided)
{
	const char *recorded = davit_supervise_rule(json_string_value(json_object_get(rec, "rule")));
	const char *origin = json_string_value(json_object_get(rec, "origin"));

	if (recorded && origin) {
		free(i->origin);
		i->origin = strdup(origin);
	}
	davit_supervise_restore_why(&i->node, recorded ? recorded : rule,
				    (enum davit_cause)number(rec, "cause"), i->origin ? NULL : &i->node,
				    recorded ? number(rec, "decided") : decided);
}

/* Was it decided for good, and carried out as far as it is recorded? */
static bool is_left_failed(const struct instance *i, const json_t *rec)
{
	return i->told_failed && json_object_get(rec, "rule") && !json_object_get(rec, "origin");
}

/* Beneath a supervisor that has ended nothing is decided any more: it is as that left it. */
static void restore_given_up(struct instance *i, const json_t *rec, const struct supervisor *p,
			     const struct restarts *n)
{
	enum davit_cause cause = i->pending_cause;
	bool wanted = !i->prevent && davit_restart_wanted(i->node.restart.policy, cause);
	bool completed = cause == DAVIT_CAUSE_CLEAN && !wanted;
	bool waited = wanted && !i->told_failed && cause != DAVIT_CAUSE_STOPPED;
	bool counted = waited && i->ended < p->node.decided;
	enum davit_node_state state = i->told_failed ? DAVIT_NODE_FAILED
				      : completed    ? DAVIT_NODE_COMPLETED
						     : DAVIT_NODE_IDLE;

	davit_supervise_restore(&i->node, state, n->since + counted, n->total + counted,
				n->attempt + counted);
	if (waited) {
		free(i->origin);
		i->origin = strdup(p->found.origin);
		davit_supervise_restore_why(&i->node, p->node.rule_name, cause, NULL, p->node.decided);
		return;
	}
	restore_why(i, rec, i->prevent ? "prevent" : "policy", i->ended);
}

/* It ended, and that was recorded before the daemon went: only the decision is
 * taken again, from the counters as they were then (record_replay). */
static void replay_decision(struct instance *i, const json_t *rec, const struct restarts *n)
{
	const struct supervisor *p = supervision_given_up(i->service);

	restore_end(i, rec);
	i->swept = true;
	if (is_left_failed(i, rec)) {
		davit_supervise_restore(&i->node, DAVIT_NODE_FAILED, n->since, n->total, n->attempt);
		restore_why(i, rec, "policy", i->ended);
	} else if (p) {
		restore_given_up(i, rec, p, n);
	} else if (i->pending_cause == DAVIT_CAUSE_STOPPED) {
		/* Started again by the reconciler, if it is still wanted, or with those for whose
		 * sake it was stopped. */
		davit_supervise_restore(&i->node, DAVIT_NODE_IDLE, n->since, n->total, n->attempt);
		restore_why(i, rec, "user", i->ended);
		i->rejoins = i->origin != NULL;
	} else {
		davit_supervise_restore(&i->node, DAVIT_NODE_RUNNING, n->since, n->total, n->attempt);
		i->reporting = i->late = true;
	}
}

/* Fewer runs than were recorded: it is another object, made since. */
static void count_runs(struct instance *i, const json_t *rec, const struct davit_inspection *now)
{
	int64_t base = number(rec, "runBase"), run = number(rec, "run");

	i->run_base = (uint32_t)(base + now->run < run ? run : base);
	i->run = i->run_base + now->run;
	i->exit_run = (uint32_t)number(rec, "exitRun");
}

/* Does it say how the last run, or the last try to start one, went? */
static bool is_decided(const json_t *rec)
{
	return json_object_get(rec, "startError") ||
	       (number(rec, "run") && number(rec, "exitRun") >= number(rec, "run"));
}

void instance_restore(struct instance *i, const struct davit_inspection *now)
{
	json_t *rec = instance_read_record(i);
	const struct restarts recorded = {number(rec, "restarts"), number(rec, "totalRestarts"),
					  number(rec, "attempt")};
	struct restarts n = recorded;

	if (rec) {
		count_runs(i, rec, now);
		/* A run later than that of the record was a restart; the first one is none. */
		if (number(rec, "run") && i->run > (uint32_t)number(rec, "run")) {
			n.since++;
			n.total++;
			n.attempt++;
		}
	}
	switch (now->state) {
	case DAVIT_STATE_STARTED:
		restore_exit(i, rec);
		if (i->exit_run >= i->run)
			i->exit_run = i->run - 1;
		i->goal = GOAL_RUN;
		/* Told already: by the runtime, by nature, or by our record. */
		i->ready_said = now->ready || i->service->spec->ready == DAVIT_READY_TYPE_STARTED ||
				number(rec, "readyRun") == i->run;
		health_restore(i, rec);
		i->ready = i->ready_said &&
			   (i->health ? health_is_ready(i)
				      : !health_awaited(i) || number(rec, "readyRun") == i->run);
		davit_supervise_restore(&i->node, DAVIT_NODE_RUNNING, n.since, n.total, n.attempt);
		if (now->started)
			davit_supervise_restore_run(&i->node, davit_loop_wall(i->core->loop) - now->started);
		restore_why(i, rec, n.since ? strategy_above(i) : "user",
			    n.since ? number(rec, "ended") : now->started);
		i->core->adopted++;
		i->runtime->adopted++;
		if (!i->ready)
			ready_begin(i);
		break;
	case DAVIT_STATE_STOPPED:
		if (rec && i->exit_run >= i->run) {
			i->state = number(rec, "cause") == DAVIT_CAUSE_CLEAN ||
						   number(rec, "cause") == DAVIT_CAUSE_STOPPED
					   ? DAVIT_STATE_STOPPED
					   : DAVIT_STATE_FAILED;
			replay_decision(i, rec, &n);
			break;
		}
		davit_supervise_restore(&i->node, DAVIT_NODE_RUNNING, n.since, n.total, n.attempt);
		i->goal = GOAL_RUN;
		i->state = DAVIT_STATE_STARTED;
		i->late = true;
		instance_on_exited(i, i->run, &now->exit);
		break;
	default:
		/* Never started, or gone since its end: the record alone knows. */
		if (now->state == DAVIT_STATE_DESTROYED)
			i->run = i->run_base = (uint32_t)number(rec, "run");
		if (is_decided(rec))
			replay_decision(i, rec, &recorded);
		break;
	}
	json_decref(rec);
}

/* One that is on its way out: an end that nobody has recorded is told. */
void instance_restore_leaving(struct instance *i, const struct davit_inspection *now)
{
	json_t *rec = instance_read_record(i);

	if (rec)
		count_runs(i, rec, now);
	json_decref(rec);
	if (now->state == DAVIT_STATE_STOPPED && i->exit_run < i->run) {
		i->state = DAVIT_STATE_STARTED;
		instance_on_exited(i, i->run, &now->exit);
	} else if (i->exit_run >= i->run && i->run) {
		i->exit_run = now->state == DAVIT_STATE_STARTED ? i->run - 1 : i->run;
	}
}

/* --- records without an object --- */

/* What ended or failed and is not there any more counts as if it were: it stays
 * failed or completed, or is restarted, by its policy and from its counters. */
static bool restore_absent(struct core_runtime *r, const char *id, const json_t *rec)
{
	const char *key = json_string_value(json_object_get(rec, "service"));
	struct davit_service *s = key ? davit_map_get(&r->core->services, key) : NULL;
	const struct davit_inspection absent = {.state = DAVIT_STATE_DESTROYED};
	size_t index = (size_t)number(rec, "index");
	uint64_t generation = (uint64_t)number(rec, "generation");
	struct davit_error err;
	struct instance *i;

	if (!s || s->deleting || !is_decided(rec) || number(rec, "cause") == DAVIT_CAUSE_STOPPED)
		return false;
	service_prepare(s);
	if (!s->settled || s->generation != generation || index >= s->n_slots ||
	    (s->slots[index].current && s->slots[index].current->inst))
		return false;
	i = instance_adopt(r->core, r, s, (uint32_t)index, false, generation, id, &err);
	if (!i)
		return false;
	if (s->slots[index].current)
		instance_set_goal(s->slots[index].current, GOAL_GONE);
	s->slots[index].current = i;
	instance_restore(i, &absent);
	return true;
}

static bool look_at_record(void *user, const struct davit_kv *kv)
{
	struct core_runtime *r = user;
	const char *id = kv->key + strlen("state/"), *name;
	json_error_t je;
	json_t *rec;

	if (davit_map_get(&r->core->instances, id))
		return true;
	rec = json_loadb(kv->value, kv->len, 0, &je);
	name = json_string_value(json_object_get(rec, "runtime"));
	if (!name || (!strcmp(name, r->name) && (strlen(id) >= DAVIT_ID_MAX || !restore_absent(r, id, rec))))
		davit_journal_write(r->core->journal, kv->key, NULL);
	json_decref(rec);
	return true;
}

void record_sweep(struct core_runtime *r)
{
	struct davit_store *store = r->core->store;
	struct davit_error err;
	int64_t revision;

	if (store->driver->list(store, "state/", NULL, 0, look_at_record, r, &revision, &err) < 0)
		davit_log(DAVIT_LOG_WARNING, "cannot read the records of instances: %s", err.message);
}

/* --- decisions that are taken again --- */

static int by_end(const void *a, const void *b)
{
	const struct instance *x = *(struct instance *const *)a, *y = *(struct instance *const *)b;

	return (x->ended > y->ended) - (x->ended < y->ended);
}

/* Those for which fn is true, in the order of their ends: an array of n, or NULL. */
static struct instance **in_order(struct davit_core *c, bool (*fn)(const struct instance *i), size_t *ret_n)
{
	struct instance **v = malloc((c->instances.len + 1) * sizeof *v);
	size_t pos = 0, n = 0;
	void *i;

	while (v && davit_map_next(&c->instances, &pos, NULL, &i))
		if (fn(i))
			v[n++] = i;
	if (n)
		qsort(v, n, sizeof *v, by_end);
	*ret_n = n;
	return v;
}

static bool is_replayed(const struct instance *i)
{
	return i->reporting && i->late;
}

static bool is_rejoining(const struct instance *i)
{
	return i->rejoins && i->leaf && i->service && !i->service->spec->stopped;
}

void record_replay(struct davit_core *c)
{
	DAVIT_AUTO_FREE struct instance **ended = NULL, **down = NULL;
	size_t n;

	ended = in_order(c, is_replayed, &n);
	for (size_t k = 0; ended && k < n; k++)
		instance_finish(ended[k]);
	down = in_order(c, is_rejoining, &n);
	for (size_t k = 0; down && k < n; k++) {
		down[k]->rejoins = false;
		davit_supervise_rejoin(&down[k]->node);
	}
}
