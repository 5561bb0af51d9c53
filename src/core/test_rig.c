/* SPDX-License-Identifier: MIT */
#include "core/test_rig.h"

#include "store/stores.h"

#include "base/strv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

void rig_op_done(struct davit_op *op, int result)
{
	*(int *)op->user = result;
}

static void nothing(struct davit_timer *t)
{
	(void)t;
}

/* Virtual time passes, whatever happens in it. */
void rig_run(struct rig *r, int64_t ns)
{
	int64_t end = davit_loop_now(r->loop) + ns;
	struct davit_timer stop;

	davit_timer_init(&stop, r->loop, nothing);
	davit_timer_start(&stop, ns);
	while (davit_loop_now(r->loop) < end && davit_loop_step(r->loop))
		;
	davit_timer_stop(&stop);
}

int rig_wait(struct rig *r, struct davit_op *op, int *result)
{
	for (int n = 0; davit_op_pending(op) && n < 100000 && davit_loop_step(r->loop); n++)
		;
	assert_false(davit_op_pending(op));
	return *result;
}

static void on_world(void *user, const struct davit_fake_event *e)
{
	struct rig *r = user;

	r->starts += e->what == DAVIT_FAKE_STARTED;
	r->exits += e->what == DAVIT_FAKE_EXITED;
}

void rig_up(struct rig *r)
{
	struct davit_core_config config = {
		.loop = r->loop,
		.store = r->store,
		.default_runtime = "fake",
		.probes = r->probes,
		.probes_user = r->probes_user,
	};
	struct davit_error err;
	struct davit_op op;
	int result = -1;

	assert_int_equal(davit_core_new(&config, &r->core, &err), 0);
	assert_int_equal(davit_core_add_runtime(r->core, "fake", davit_fake_world_driver(r->world), &err), 0);
	if (r->second)
		assert_int_equal(davit_core_add_runtime(r->core, r->second->name, r->second, &err), 0);
	davit_op_init(&op, r->loop, rig_op_done, &result);
	davit_op_begin(&op, 0);
	davit_core_start(r->core, &op);
	assert_int_equal(rig_wait(r, &op, &result), 0);
}

void rig_down(struct rig *r)
{
	davit_core_free(r->core);
	r->core = NULL;
}

int rig_setup(void **state)
{
	struct rig *r = calloc(1, sizeof *r);
	struct davit_error err;

	assert_int_equal(davit_loop_open_virtual(1, &r->loop, &err), 0);
	assert_int_equal(davit_store_open(&davit_memory_store, r->loop, "", &r->store, &err), 0);
	assert_int_equal(davit_fake_world_new(r->loop, &r->world, &err), 0);
	davit_fake_world_observe(r->world, on_world, r);
	rig_up(r);
	*state = r;
	return 0;
}

int rig_teardown(void **state)
{
	struct rig *r = *state;

	rig_down(r);
	davit_fake_world_free(r->world);
	davit_store_close(r->store);
	davit_loop_close(r->loop);
	free(r);
	return 0;
}

int rig_apply_error(struct rig *r, const char *yaml, enum davit_apply_mode mode, struct davit_error *err)
{
	struct davit_spec **specs;
	struct davit_op op;
	size_t n;
	int result = -1, code;

	code = davit_spec_parse(yaml, strlen(yaml), NULL, &specs, &n, err);
	if (code < 0)
		return code;
	davit_op_init(&op, r->loop, rig_op_done, &result);
	davit_op_begin(&op, 0);
	code = davit_core_apply(r->core, specs, n, mode, false, 0, "test", &op, err);
	davit_spec_free_all(specs, n);
	if (code == 0 && rig_wait(r, &op, &result) < 0) {
		code = result;
		davit_error_copy(err, &op.error);
	}
	return code;
}

void rig_apply(struct rig *r, const char *yaml)
{
	struct davit_error err = {0};
	int code = rig_apply_error(r, yaml, DAVIT_APPLY_EITHER, &err);

	if (code < 0)
		print_error("%s\n", err.message);
	assert_int_equal(code, 0);
}

struct davit_service *rig_service(struct rig *r, const char *name)
{
	const struct davit_selector sel = {.name = name};
	struct davit_service *s = NULL;
	struct davit_error err;

	return davit_core_service(r->core, &sel, &s, &err) < 0 ? NULL : s;
}

const char *rig_status(struct rig *r, const char *name)
{
	struct davit_service *s = rig_service(r, name);

	return s ? davit_service_status(s) : "gone";
}

/* The value behind "key": in the service's status object. */
const char *rig_field(struct rig *r, const char *name, const char *key)
{
	static char value[256];
	DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;
	struct davit_json j = DAVIT_JSON_INIT(&b);
	char pattern[64];
	const char *at;

	davit_service_write(rig_service(r, name), &j);
	snprintf(pattern, sizeof pattern, "\"%s\":", key);
	at = strstr(davit_buf_str(&b), pattern);
	assert_non_null(at);
	snprintf(value, sizeof value, "%.*s", (int)strcspn(at + strlen(pattern), ",}]"),
		 at + strlen(pattern));
	return value;
}

int rig_control(struct rig *r, const char *name, enum davit_service_verb verb)
{
	const struct davit_selector sel = {.name = name};
	struct davit_error err;
	struct davit_op op;
	int result = -1, code;

	davit_op_init(&op, r->loop, rig_op_done, &result);
	davit_op_begin(&op, 0);
	code = davit_core_control(r->core, &sel, verb, "test", &op, &err);
	return code < 0 ? code : rig_wait(r, &op, &result);
}

int rig_kill(struct rig *r, const char *namespace_, const char *name)
{
	const struct davit_selector sel = {.namespace_ = namespace_, .name = name};
	struct davit_error err;
	struct davit_op op;
	int result = -1, code;

	davit_op_init(&op, r->loop, rig_op_done, &result);
	davit_op_begin(&op, 0);
	code = davit_core_kill(r->core, &sel, true, "test", &op, &err);
	return code < 0 ? code : rig_wait(r, &op, &result);
}

struct count {
	const char *text;
	size_t n;
};

static bool count_event(void *user, uint64_t id, const char *json)
{
	struct count *c = user;

	(void)id;
	c->n += strstr(json, c->text) != NULL;
	return true;
}

size_t rig_events(struct rig *r, const char *text)
{
	struct count c = {.text = text};
	struct davit_error err;

	assert_int_equal(davit_core_events(r->core, 0, 0, count_event, &c, &err), 0);
	return c.n;
}
