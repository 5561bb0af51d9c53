/* SPDX-License-Identifier: MIT
 *
 * What no runtime keeps of an instance: counters of restarts, the end that was
 * recorded last, ports that were chosen. Written when it ends, when it is started
 * again, and when ports were chosen; read when it is adopted.
 */
#include "core/core_impl.h"

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
	if (i->exit_run || i->start_failed) {
		put_number(&j, "cause", i->pending_cause);
		if (i->prevent)
			davit_json_put_bool(&j, "prevent", true);
		put_number(&j, "exitKind", i->exit.kind);
		put_number(&j, "code", i->exit.code);
		put_number(&j, "signal", i->exit.signal);
		if (i->exit.time != i->ended)
			davit_json_put_int(&j, "exitTime", i->exit.time);
		put_number(&j, "ended", i->ended);
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

static void restore_end(struct instance *i, const json_t *rec)
{
	const char *reason = json_string_value(json_object_get(rec, "startError"));

	restore_exit(i, rec);
	if (reason) {
		struct davit_error err;
		davit_error_set(&err, DAVIT_EEXEC, NULL, "%s", reason);
		instance_set_error(i, &err);
		i->start_failed = true;
	}
	i->ended = number(rec, "ended");
	i->pending_cause = (enum davit_cause)number(rec, "cause");
	i->prevent = json_is_true(json_object_get(rec, "prevent"));
	i->told_failed = json_is_true(json_object_get(rec, "toldFailed"));
}

/* It ended, and that was recorded before the daemon went: only the decision is
 * taken again, from the counters as they were then. */
static void replay_decision(struct instance *i, const json_t *rec, int64_t restarts)
{
	restore_end(i, rec);
	i->swept = true;
	/* Started again by the reconciler, if it is still wanted. */
	if (i->pending_cause == DAVIT_CAUSE_STOPPED)
		return;
	davit_supervise_restore(&i->node, DAVIT_NODE_RUNNING, restarts, number(rec, "totalRestarts"),
				number(rec, "attempt"));
	i->reporting = i->late = true;
	davit_journal_wait(i->core->journal, &i->wait);
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
	int64_t restarts = number(rec, "restarts");
	int64_t total = number(rec, "totalRestarts");
	int64_t attempt = number(rec, "attempt");

	if (rec) {
		count_runs(i, rec, now);
		/* A run later than that of the record was a restart; the first one is none. */
		if (number(rec, "run") && i->run > (uint32_t)number(rec, "run")) {
			restarts++;
			total++;
			attempt++;
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
		davit_supervise_restore(&i->node, DAVIT_NODE_RUNNING, restarts, total, attempt);
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
			replay_decision(i, rec, restarts);
			break;
		}
		davit_supervise_restore(&i->node, DAVIT_NODE_RUNNING, restarts, total, attempt);
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
			replay_decision(i, rec, number(rec, "restarts"));
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
