/* SPDX-License-Identifier: MIT */
#include "runtime/fake/test_rig.h"

#include "base/strv.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct rig *rig;

__attribute__((format(printf, 1, 2))) static void tell(const char *fmt, ...)
{
	size_t len = strlen(rig->told);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(rig->told + len, sizeof rig->told - len, fmt, ap);
	va_end(ap);
}

static struct davit_instance *on_found(struct davit_runtime *rt, const struct davit_found *found)
{
	int i = found->id[0] - 'a';

	rig->found[i] = found->now;
	rig->n_found++;
	tell("found %s;", found->label);
	return rig->forget ? NULL : rig->inst[i];
}
static void on_ready(struct davit_instance *inst)
{
	tell("ready;");
}
static void on_status(struct davit_instance *inst, const char *text)
{
	tell("status %s;", text);
}
static void on_exited(struct davit_instance *inst, uint32_t run, const struct davit_exit *exit)
{
	rig->exit = *exit;
	tell("exited %u %s %d;", run, davit_exit_kind_name(exit->kind),
	     exit->kind == DAVIT_EXIT_CODE ? exit->code : exit->signal);
}
static void on_vanished(struct davit_instance *inst, const char *reason)
{
	tell("vanished;");
}
static void on_lost(struct davit_runtime *rt, const struct davit_error *why)
{
	tell("lost;");
}
static void on_regained(struct davit_runtime *rt)
{
	tell("regained;");
}

static const struct davit_runtime_events events = {on_found,	on_ready, on_status,  on_exited,
						   on_vanished, on_lost,  on_regained};

void rig_done(struct davit_op *op, int result)
{
	rig->result = result;
	tell("done %s;", davit_error_word(result));
}

struct davit_op *begin(int64_t timeout)
{
	davit_op_init(&rig->op, rig->loop, rig_done, NULL);
	davit_op_begin(&rig->op, timeout);
	rig->result = 1;
	return &rig->op;
}

int finish(void)
{
	while (davit_op_pending(&rig->op))
		assert_true(davit_loop_step(rig->loop));
	return rig->result;
}

static void on_alarm(struct davit_timer *t)
{
}

void run_for(int64_t ns)
{
	struct davit_timer t;

	davit_timer_init(&t, rig->loop, on_alarm);
	davit_timer_start(&t, ns);
	while (davit_timer_active(&t))
		davit_loop_step(rig->loop);
	/* What that moment set off at once. */
	for (int i = 0; i < 8; i++) {
		davit_timer_start(&t, 0);
		davit_loop_step(rig->loop);
	}
}

void open_runtime(void)
{
	const struct davit_runtime_driver *d = davit_fake_world_driver(rig->world);

	rig->rt = calloc(1, sizeof *rig->rt + d->runtime_size);
	*rig->rt = (struct davit_runtime){.driver = d, .loop = rig->loop, .events = &events, .name = "fake"};
	d->open(rig->rt, begin(0));
	assert_int_equal(finish(), 0);
}

void close_runtime(void)
{
	rig->rt->driver->close(rig->rt);
	for (size_t i = 0; i < INSTANCES; i++)
		if (rig->inst[i])
			memset(davit_instance_state(rig->inst[i]), 0, rig->rt->driver->instance_size);
	free(rig->rt);
	rig->rt = NULL;
}

void reopen_and_adopt(void)
{
	close_runtime();
	rig->told[0] = '\0';
	rig->n_found = 0;
	open_runtime();
	for (size_t i = 0; i < INSTANCES; i++)
		if (rig->inst[i])
			rig->inst[i]->runtime = rig->rt;
	rig->rt->driver->adopt(rig->rt, begin(0));
	assert_int_equal(finish(), 0);
}

struct davit_instance *make(int i, const char *script)
{
	const struct davit_runtime_driver *d = rig->rt->driver;
	char *copy = strdup(script), *save = NULL;

	davit_strv_add(&rig->argv[i], "fake");
	for (char *w = strtok_r(copy, "|", &save); w; w = strtok_r(NULL, "|", &save))
		davit_strv_add(&rig->argv[i], w);
	free(copy);
	davit_strv_add(&rig->env[i], "NAME=value");
	rig->workload[i] = (struct davit_workload){.label = (char *)"label",
						   .argv = rig->argv[i],
						   .env = rig->env[i],
						   .ready = DAVIT_READY_NOTIFY};
	snprintf(rig->workload[i].id, sizeof rig->workload[i].id, "%c000000000000001", 'a' + i);
	rig->inst[i] = calloc(1, sizeof *rig->inst[i] + d->instance_size);
	*rig->inst[i] = (struct davit_instance){.runtime = rig->rt, .workload = &rig->workload[i]};
	return rig->inst[i];
}

int create(struct davit_instance *inst)
{
	rig->rt->driver->create(inst, begin(0));
	return finish();
}
int start(struct davit_instance *inst)
{
	rig->rt->driver->start(inst, begin(0));
	return finish();
}
int stop(struct davit_instance *inst, int64_t grace)
{
	rig->rt->driver->stop(inst, &(struct davit_stop){SIGTERM, grace}, begin(0));
	return finish();
}
int remove_(struct davit_instance *inst)
{
	rig->rt->driver->remove(inst, begin(0));
	return finish();
}
struct davit_inspection inspect(struct davit_instance *inst)
{
	struct davit_inspection now;

	rig->rt->driver->inspect(inst, &now, begin(0));
	assert_int_equal(finish(), 0);
	return now;
}
struct davit_instance *running(int i, const char *script)
{
	struct davit_instance *inst = make(i, script);

	assert_int_equal(create(inst), 0);
	assert_int_equal(start(inst), 0);
	rig->told[0] = '\0';
	return inst;
}

int rig_setup(void **state)
{
	rig = calloc(1, sizeof *rig);
	assert_int_equal(davit_loop_open_virtual(1, &rig->loop, NULL), 0);
	assert_int_equal(davit_fake_world_new(rig->loop, &rig->world, NULL), 0);
	open_runtime();
	rig->told[0] = '\0';
	return 0;
}

int rig_teardown(void **state)
{
	if (rig->rt)
		close_runtime();
	for (size_t i = 0; i < INSTANCES; i++) {
		if (rig->inst[i])
			free(rig->inst[i]);
		davit_strv_free(rig->argv[i]);
		davit_strv_free(rig->env[i]);
	}
	davit_fake_world_free(rig->world);
	davit_loop_close(rig->loop);
	free(rig);
	rig = NULL;
	return 0;
}
