/* SPDX-License-Identifier: MIT
 *
 * What carries the tests: a runtime with a core that only remembers. (What they work with is in things.c.)
 */
#include "test/conformance/harness.h"

#include "base/file.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <uv.h>

const struct subject *subject;
struct davit_runtime *rt;
struct davit_loop *loop;
int lost, regained;

static const struct davit_runtime_driver *driver;
static struct davit_capabilities capabilities;
static bool in_slot, forgetful;
static bool opening_failed; /* open has failed: there is nothing to close */
static jmp_buf escape;
static char message[1200];
static char home[] = "/tmp/davit-conformance-XXXXXX";

/* --- verdicts --- */

void fail(const char *file, int line, const char *fmt, ...)
{
	size_t n = (size_t)snprintf(message, sizeof message, "%s:%d: ", strrchr(file, '/') + 1, line);
	va_list ap;

	va_start(ap, fmt);
	n += (size_t)vsnprintf(message + n, sizeof message - n, fmt, ap);
	va_end(ap);
	if (*last_error && n < sizeof message)
		snprintf(message + n, sizeof message - n, " (the last error was: %s)", last_error);
	longjmp(escape, VERDICT_FAIL);
}

void skip(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(message, sizeof message, fmt, ap);
	va_end(ap);
	longjmp(escape, VERDICT_SKIP);
}

void need(enum davit_capability cap)
{
	if (!davit_can(&capabilities, cap))
		skip("%s: %s", davit_capability_name(cap), capabilities.why_not[cap]);
}

void need_real(const char *why)
{
	if (!subject->real)
		skip("%s", why);
}

const struct davit_capabilities *harness_capabilities(void)
{
	return &capabilities;
}

const char *harness_home(void)
{
	return home;
}

void enter(void)
{
	in_slot = true;
}

void leave(void)
{
	in_slot = false;
}

/* A callback that came at the wrong moment cannot fail the test from there: the
 * driver's frames must not be jumped over. */
static char wrong[200];

void not_in_slot(const char *what)
{
	if (in_slot)
		snprintf(wrong, sizeof wrong, "%s was called from within a slot", what);
}

/* --- what the runtime tells --- */

static struct thing *thing_of(struct davit_instance *inst)
{
	return inst->owner;
}

static struct davit_instance *on_found(struct davit_runtime *r, const struct davit_found *found)
{
	not_in_slot("found");
	for (struct thing *t = things; t; t = t->next) {
		if (strcmp(t->workload.id, found->id))
			continue;
		t->found = true;
		t->adopted = found->now;
		snprintf(t->label, sizeof t->label, "%s", found->label ? found->label : "");
		return forgetful ? NULL : t->inst;
	}
	return NULL;
}

static void on_ready(struct davit_instance *inst)
{
	not_in_slot("ready");
	thing_of(inst)->ready++;
}

static void on_status(struct davit_instance *inst, const char *s)
{
	not_in_slot("status");
	snprintf(thing_of(inst)->status, sizeof thing_of(inst)->status, "%s", s);
}

static void on_exited(struct davit_instance *inst, uint32_t run, const struct davit_exit *exit)
{
	struct thing *t = thing_of(inst);

	not_in_slot("exited");
	if (run <= t->last_run)
		snprintf(wrong, sizeof wrong, "the end of run %u was told twice", run);
	t->runs_told++;
	t->last_run = run;
	t->exit = *exit;
}

static void on_vanished(struct davit_instance *inst, const char *reason)
{
	not_in_slot("vanished");
	thing_of(inst)->vanished++;
}

static void on_lost(struct davit_runtime *r, const struct davit_error *why)
{
	not_in_slot("lost");
	lost++;
}

static void on_regained(struct davit_runtime *r)
{
	not_in_slot("regained");
	regained++;
}

static const struct davit_runtime_events events = {
	.found = on_found,
	.ready = on_ready,
	.status = on_status,
	.exited = on_exited,
	.vanished = on_vanished,
	.lost = on_lost,
	.regained = on_regained,
};

/* --- waiting --- */

static void on_wait_over(struct davit_timer *t)
{
}

/* Goes on by itself: one that had only fired at the beginning of a uv_run would let that block. */
static void on_tick(struct davit_timer *t)
{
	davit_timer_start(t, 2 * MSEC);
}

void wait_begin(struct davit_timer *t, int64_t ns)
{
	davit_timer_init(t, loop, on_wait_over);
	davit_timer_start(t, ns);
}

bool wait_turn(struct davit_timer *t)
{
	static struct davit_timer tick;

	if (!davit_timer_active(t))
		return false;
	/* uv_run may block after it has called back, and not see that the
	 * condition holds by then: never for long. */
	if (!davit_timer_active(&tick)) {
		davit_timer_init(&tick, loop, on_tick);
		on_tick(&tick);
	}
	uv_run(davit_loop_uv(loop), UV_RUN_ONCE);
	if (*wrong) {
		davit_timer_stop(t);
		fail(__FILE__, __LINE__, "%s", wrong);
	}
	return true;
}

void pass(int64_t ns)
{
	struct davit_timer t;

	wait_begin(&t, ns);
	while (wait_turn(&t))
		;
}

/* --- the runtime's life --- */

static char *dir(const char *name)
{
	char *path = davit_path_join(home, name);

	davit_mkdirs(path, 0700, NULL);
	return path;
}

void open_runtime(void)
{
	struct call *c = new_call();

	rt = calloc(1, sizeof *rt + driver->runtime_size);
	*rt = (struct davit_runtime){.driver = driver,
				     .loop = loop,
				     .events = &events,
				     .name = subject->name,
				     .state_dir = dir("state"),
				     .run_dir = dir("run"),
				     .log_dir = dir("log"),
				     .libexec_dir = CONFORMANCE_LIBEXEC};
	for (struct thing *t = things; t; t = t->next)
		t->inst->runtime = rt;
	begin(c, NULL, 60 * SEC);
	enter();
	driver->open(rt, &c->op);
	leave();
	WAIT(c->done);
	if (c->result < 0) {
		opening_failed = true;
		if (c->result == DAVIT_ENOTSUP)
			skip("%s", c->op.error.message);
		fail(__FILE__, __LINE__, "open: %s", c->op.error.message);
	}
	opening_failed = false;
	memset(&capabilities, 0, sizeof capabilities);
	for (size_t i = 0; i < DAVIT_CAP_COUNT; i++)
		strcpy(capabilities.why_not[i], "not implemented");
	driver->capabilities(rt, &capabilities);
}

static void free_runtime(void)
{
	free((char *)rt->state_dir);
	free((char *)rt->run_dir);
	free((char *)rt->log_dir);
	free(rt);
	rt = NULL;
}

void close_runtime(void)
{
	enter();
	driver->close(rt);
	leave();
	/* As a new daemon does: nothing of the old state is left. */
	for (struct thing *t = things; t; t = t->next) {
		free(t->inst);
		t->inst = new_instance(t);
		t->found = false;
	}
	free_runtime();
}

void adopt(bool forget)
{
	struct call *c = new_call();

	forgetful = forget;
	begin(c, NULL, 60 * SEC);
	enter();
	driver->adopt(rt, &c->op);
	leave();
	CHECK_INT(result(c), 0);
}

void reopen(bool forget)
{
	close_runtime();
	open_runtime();
	adopt(forget);
}

/* --- one test --- */

/* One operation at a time for an instance: what a failed test has begun ends first. */
static void end_call(struct thing *t)
{
	struct call *c = t->call;

	if (!c || c->thing != t || !davit_op_pending(&c->op))
		return;
	davit_op_cancel(&c->op);
	WAIT(c->done);
}

/* Ends whatever the test left, however it ended. */
static void clean_up(void)
{
	for (struct thing *t = things; rt && t; t = t->next) {
		end_call(t);
		stop(t, 0);
		remove_(t);
		if (driver->logs)
			driver->logs->discard(rt, t->workload.id);
	}
	if (rt)
		close_runtime();
}

static const struct test *current;

static void run_test(void)
{
	open_runtime();
	adopt(false);
	current->run();
}

/* Runs a part from which fail and skip come back here. */
static enum verdict guarded(void (*part)(void))
{
	int v = setjmp(escape);

	if (v)
		return v;
	part();
	if (!*wrong)
		return VERDICT_PASS;
	snprintf(message, sizeof message, "%s", wrong);
	return VERDICT_FAIL;
}

enum verdict harness_run(const struct test *test, const char **ret_message)
{
	static char first[sizeof message]; /* what went wrong before the rest did */
	enum verdict v;

	current = test;
	*wrong = *message = *last_error = '\0';
	in_slot = false;
	lost = regained = 0;
	v = guarded(run_test);
	in_slot = false;
	if (opening_failed)
		free_runtime();
	opening_failed = false;
	/* A test that has failed has said enough. */
	*wrong = '\0';
	strcpy(first, message);
	if (guarded(clean_up) == VERDICT_FAIL && v != VERDICT_FAIL) {
		strcpy(first, message);
		v = VERDICT_FAIL;
	}
	/* It did not come to it: what is under way must not find the things gone. */
	if (rt)
		close_runtime();
	things_free();
	*ret_message = first;
	return v;
}

int harness_open(const struct subject *s, const char **why_not)
{
	struct davit_error err;

	*why_not = "";
	subject = s;
	if (!mkdtemp(home) || davit_loop_open(&loop, &err) < 0)
		return -1;
	setenv("DAVIT_HOME", home, 1);
	driver = s->get(loop, why_not);
	return driver ? 0 : -1;
}

const struct davit_runtime_driver *harness_driver(void)
{
	return driver;
}

void harness_close(void)
{
	if (driver)
		subject->put(driver);
	davit_loop_close(loop);
	things_fini();
	davit_remove_tree(home, NULL);
}
