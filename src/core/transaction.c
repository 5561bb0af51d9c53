/* SPDX-License-Identifier: MIT */
#include "core/transaction.h"

#include "base/fault.h"
#include "base/units.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

void pending_free(struct pending *p)
{
	davit_list_remove(&p->list);
	for (size_t k = 0; k < p->n + p->n_untold; k++) {
		free((char *)p->changes[k].key);
		free((char *)p->changes[k].value);
	}
	free(p->changes);
	free(p->types);
	free(p->cause);
	free(p);
}

struct pending *pending_new(struct davit_core *c, size_t max, const char *cause, struct davit_op *op,
			    struct davit_error *err)
{
	struct pending *p = calloc(1, sizeof *p);

	if (p) {
		davit_list_init(&p->list);
		p->core = c;
		p->op = op;
		p->cause = strdup(cause ? cause : "user");
		p->changes = calloc(max ? 2 * max : 1, sizeof *p->changes);
		p->types = calloc(max ? max : 1, sizeof *p->types);
	}
	if (!p || !p->cause || !p->changes || !p->types) {
		if (p)
			pending_free(p);
		davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
		return NULL;
	}
	return p;
}

/* Takes key and value (NULL: delete). */
int pending_add(struct pending *p, char *key, char *value, bool put, int64_t expect, const char *type,
		struct davit_error *err)
{
	if (!key || (put && !value)) {
		free(key);
		free(value);
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	}
	p->types[p->n] = type;
	p->changes[p->n++] = (struct davit_store_change){
		.verb = put ? DAVIT_STORE_PUT : DAVIT_STORE_DELETE,
		.key = key,
		.value = value,
		.len = value ? strlen(value) : 0,
		.check = true,
		.expect = expect,
	};
	return 0;
}

static void committed(struct davit_op *op, int result)
{
	struct pending *p = op->user;
	struct davit_core *c = p->core;

	if (!c) {
		pending_free(p);
		return;
	}
	if (result < 0) {
		davit_op_fail_error(p->op, &op->error);
		pending_free(p);
		return;
	}
	DAVIT_FAULT("command-committed");
	for (size_t k = 0; k < p->n; k++) {
		const struct davit_store_change *ch = &p->changes[k];
		struct davit_kv kv = {
			.key = ch->key,
			.value = ch->value,
			.len = ch->len,
			.mod_revision = p->txn.ret_revision,
			.deleted = ch->verb == DAVIT_STORE_DELETE,
		};
		/* The watch tells the same; whoever comes first is taken. */
		registry_put(c, &kv);
		if (p->types[k])
			core_event_key(c, p->types[k], strchr(ch->key, '/') + 1, p->cause);
	}
	/* In one batch with the events themselves. */
	for (size_t k = p->n; k < p->n + p->n_untold; k++)
		davit_journal_write(c->journal, p->changes[k].key, NULL);
	davit_op_complete(p->op, 0);
	pending_free(p);
}

/* --- events that are owed --- */

/* The events follow in the journal's next batch. A daemon that dies in between
 * finds here what is to be told. Without memory for that they go without. */
static void add_untold(struct pending *p)
{
	struct davit_core *c = p->core;

	for (size_t k = 0; k < p->n; k++) {
		DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
		struct davit_json j = DAVIT_JSON_INIT(&b);
		char *key = NULL, *value;
		if (!p->types[k])
			continue;
		davit_json_open(&j);
		davit_json_put_string(&j, "type", p->types[k]);
		davit_json_put_string(&j, "key", strchr(p->changes[k].key, '/') + 1);
		davit_json_put_string(&j, "cause", p->cause);
		davit_json_close(&j);
		value = b.oom ? NULL : strdup(davit_buf_str(&b));
		if (!value || asprintf(&key, "untold/%016" PRIx64 "-%08" PRIx32, davit_loop_wall(c->loop),
				       c->n_untold++) < 0) {
			free(value);
			continue;
		}
		p->changes[p->n + p->n_untold++] = (struct davit_store_change){
			.verb = DAVIT_STORE_PUT, .key = key, .value = value, .len = strlen(value)};
	}
}

static bool tell(void *user, const struct davit_kv *kv)
{
	struct davit_core *c = user;
	json_error_t je;
	json_t *owed = json_loadb(kv->value, kv->len, 0, &je);
	const char *type = json_string_value(json_object_get(owed, "type"));
	const char *key = json_string_value(json_object_get(owed, "key"));
	const char *cause = json_string_value(json_object_get(owed, "cause"));

	if (type && key && cause)
		core_event_key(c, type, key, cause);
	davit_journal_write(c->journal, kv->key, NULL);
	json_decref(owed);
	return true;
}

int core_tell_untold(struct davit_core *c, struct davit_error *err)
{
	int64_t revision;

	return c->store->driver->list(c->store, "untold/", NULL, 0, tell, c, &revision, err);
}

int pending_commit(struct pending *p)
{
	if (!p->n) {
		davit_op_complete(p->op, 0);
		pending_free(p);
		return 0;
	}
	davit_op_init(&p->txn.op, p->core->loop, committed, p);
	davit_list_add_tail(&p->core->commands, &p->list);
	add_untold(p);
	DAVIT_FAULT("command-commit");
	davit_store_commit(p->core->store, p->changes, p->n + p->n_untold, &p->txn, 30 * DAVIT_NSEC_PER_SEC);
	return 0;
}
