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

static char *record_key(const struct instance *i)
{
	char *key;

	return asprintf(&key, "state/%s/%u", i->service->key, i->workload.index) < 0 ? NULL : key;
}

void instance_write_record(struct instance *i)
{
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);
	DAVIT_AUTO_FREE char *key = NULL;

	if (!i->service || i->is_build || i->replacement || !(key = record_key(i)))
		return;
	davit_json_open(&j);
	davit_json_put_string(&j, "id", i->workload.id);
	davit_json_put_int(&j, "run", i->run);
	davit_json_put_int(&j, "exitRun", i->exit_run);
	if (i->run_base)
		davit_json_put_int(&j, "runBase", i->run_base);
	davit_json_put_int(&j, "restarts", i->node.restarts);
	davit_json_put_int(&j, "totalRestarts", i->node.total_restarts);
	davit_json_put_int(&j, "attempt", i->node.attempt);
	if (i->ready)
		davit_json_put_int(&j, "readyRun", i->run);
	if (i->exit_run) {
		davit_json_put_int(&j, "cause", i->pending_cause);
		davit_json_put_bool(&j, "prevent", i->prevent);
		davit_json_put_int(&j, "exitKind", i->exit.kind);
		davit_json_put_int(&j, "code", i->exit.code);
		davit_json_put_int(&j, "signal", i->exit.signal);
		davit_json_put_int(&j, "exitTime", i->exit.time);
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

void instance_forget_record(const struct davit_service *s, uint32_t index)
{
	DAVIT_AUTO_FREE char *key = NULL;

	if (asprintf(&key, "state/%s/%u", s->key, index) >= 0)
		davit_journal_write(s->core->journal, key, NULL);
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

json_t *instance_read_record(struct davit_service *s, uint32_t index)
{
	DAVIT_AUTO_FREE char *key = NULL;
	struct davit_store *store = s->core->store;
	struct davit_error err;
	struct wanted_record wanted = {0};
	int64_t revision;

	if (asprintf(&key, "state/%s/%u", s->key, index) < 0)
		return NULL;
	wanted.key = key;
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

	i->exit = (struct davit_exit){
		.kind = (enum davit_exit_kind)number(rec, "exitKind"),
		.code = (int)number(rec, "code"),
		.signal = (int)number(rec, "signal"),
		.time = number(rec, "exitTime"),
	};
	if (reason)
		strncpy(i->exit.reason, reason, sizeof i->exit.reason - 1);
	i->pending_cause = (enum davit_cause)number(rec, "cause");
	i->prevent = json_is_true(json_object_get(rec, "prevent"));
}

/* It ended, and that was recorded before the daemon went: only the decision is
 * taken again, from the counters as they were then. */
static void replay_decision(struct instance *i)
{
	i->state = i->pending_cause == DAVIT_CAUSE_CLEAN ? DAVIT_STATE_STOPPED : DAVIT_STATE_FAILED;
	i->reporting = true;
	davit_journal_wait(i->core->journal, &i->wait);
}

void instance_restore(struct instance *i, const struct davit_inspection *now)
{
	json_t *rec = instance_read_record(i->service, i->workload.index);
	const char *id = json_string_value(json_object_get(rec, "id"));
	bool same = id && !strcmp(id, i->workload.id);
	int64_t restarts = same ? number(rec, "restarts") : 0;
	int64_t total = same ? number(rec, "totalRestarts") : 0;
	int64_t attempt = same ? number(rec, "attempt") : 0;

	if (same) {
		i->run_base = (uint32_t)number(rec, "runBase");
		i->run = i->run_base + now->run;
		i->exit_run = (uint32_t)number(rec, "exitRun");
		/* A run later than the record: it was a restart. */
		if (i->run > (uint32_t)number(rec, "run")) {
			restarts++;
			total++;
			attempt++;
		}
	}
	switch (now->state) {
	case DAVIT_STATE_STARTED:
		if (i->exit_run >= i->run)
			i->exit_run = i->run - 1;
		i->goal = GOAL_RUN;
		/* Told already: by the runtime, by nature, or by our record. */
		i->ready = now->ready || i->service->spec->ready == DAVIT_READY_TYPE_STARTED ||
			   (same && number(rec, "readyRun") == i->run);
		davit_supervise_restore(&i->node, DAVIT_NODE_RUNNING, restarts, total, attempt);
		core_event(i->core, "adopted", i->service, i, "running as pid %d since run %u", (int)now->pid,
			   i->run);
		if (!i->ready)
			ready_begin(i);
		break;
	case DAVIT_STATE_STOPPED:
		if (same && i->exit_run >= i->run && number(rec, "cause") == DAVIT_CAUSE_STOPPED) {
			/* Started again by the reconciler, if it is still wanted. */
			restore_exit(i, rec);
			i->swept = true;
			i->state = DAVIT_STATE_STOPPED;
			break;
		}
		davit_supervise_restore(&i->node, DAVIT_NODE_RUNNING, restarts, total, attempt);
		if (same && i->exit_run >= i->run) {
			restore_exit(i, rec);
			i->swept = true;
			replay_decision(i);
		} else {
			i->goal = GOAL_RUN;
			i->state = DAVIT_STATE_STARTED;
			instance_on_exited(i, i->run, &now->exit);
		}
		break;
	default:
		break;
	}
	json_decref(rec);
}
