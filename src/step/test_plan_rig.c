/* SPDX-License-Identifier: MIT */
#include "step/test_plan_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void tell(struct rig *r, char what, const struct davit_plan_node *leaf)
{
	size_t n = strlen(r->told);

	snprintf(r->told + n, sizeof r->told - n, "%c%s ", what, leaf->key);
}

static void on_store(void *owner, uint64_t generation, const char *record)
{
	struct rig *r = owner;

	assert_non_null(strstr(record, "\"generation\":"));
	r->generation = generation;
	if (!r->slow)
		davit_plan_stored(r->p, generation);
}

static void on_start(void *owner, struct davit_plan_node *leaf, enum davit_plan_start how)
{
	tell(owner, how == DAVIT_PLAN_FRESH ? '+' : how == DAVIT_PLAN_AGAIN ? '?' : '!', leaf);
}

static void on_abort(void *owner, struct davit_plan_node *leaf)
{
	tell(owner, '-', leaf);
}

static void on_arm(void *owner, int64_t at)
{
	((struct rig *)owner)->armed = at;
}

static void on_changed(void *owner, const struct davit_plan_node *node)
{
	(void)owner;
	(void)node;
}

static void on_done(void *owner)
{
	((struct rig *)owner)->done = true;
}

const struct davit_plan_ops rig_ops = {.store = on_store,
				       .start = on_start,
				       .abort = on_abort,
				       .arm = on_arm,
				       .changed = on_changed,
				       .done = on_done};

json_t *plan_of(const char *text)
{
	char full[4096] = "";
	json_error_t at;
	json_t *j;

	for (size_t n = 0; *text; n = strlen(full), text++)
		if (*text == '@')
			snprintf(full + n, sizeof full - n, "{\"kind\":\"task\",\"name\":\"%c\"}", *++text);
		else
			snprintf(full + n, sizeof full - n, "%c", *text == '\'' ? '"' : *text);
	j = json_loads(full, 0, &at);
	if (!j)
		fail_msg("%s: %s", at.text, full);
	return j;
}

void open_rig(struct rig *r, const char *text)
{
	json_t *j = plan_of(text);
	struct davit_error err = {0};

	memset(r, 0, sizeof *r);
	if (davit_plan_read(j, &rig_ops, r, &r->p, &err) < 0)
		fail_msg("%s", err.message);
	json_decref(j);
	assert_int_equal(davit_plan_begin(r->p, T0, NULL), 0);
}

void ended_at(struct rig *r, const char *key, enum davit_plan_outcome o, int64_t at)
{
	assert_int_equal(davit_plan_ended(r->p, key, o, NULL, NULL, at, NULL), 0);
}

void ended(struct rig *r, const char *key, enum davit_plan_outcome o)
{
	ended_at(r, key, o, T0);
}

void abort_all(struct rig *r)
{
	assert_int_equal(davit_plan_abort(r->p, false, T0, NULL), 0);
}

void close_rig(struct rig *r, enum davit_plan_outcome o)
{
	assert_true(r->done);
	assert_int_equal(r->p->root->outcome, o);
	assert_string_equal(r->told, "");
	davit_plan_free(r->p);
}

void die(struct rig *r)
{
	struct davit_error err = {0};
	json_t *state = NULL;

	assert_int_equal(davit_plan_write(r->p, &state, NULL), 0);
	davit_plan_free(r->p);
	r->told[0] = '\0';
	r->armed = 0;
	if (davit_plan_read(state, &rig_ops, r, &r->p, &err) < 0)
		fail_msg("%s", err.message);
	json_decref(state);
	davit_plan_resume(r->p);
}
