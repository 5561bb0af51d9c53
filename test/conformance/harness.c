/* SPDX-License-Identifier: MIT
 *
 * What carries the tests: a runtime with a core that only remembers.
 */
#include "test/conformance/harness.h"

#include "base/buf.h"
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
static struct thing *things;
static bool in_slot, forgetful;
static bool opening_failed; /* open has failed: there is nothing to close */
static unsigned serial;
static jmp_buf escape;
static char message[1200];
static char last_error[480]; /* of an operation that has failed in this test */
static char home[] = "/tmp/davit-conformance-XXXXXX";
static struct davit_buf text;
static char line_text[1 << 16];

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

static void not_in_slot(const char *what)
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

/* --- operations --- */

static void on_done(struct davit_op *op, int r)
{
	struct call *c = DAVIT_CONTAINER_OF(op, struct call, op);

	not_in_slot("an operation's end");
	c->done++;
	c->result = r;
	if (r < 0)
		snprintf(last_error, sizeof last_error, "%s", op->error.message);
	c->runs_told = c->thing ? c->thing->runs_told : 0;
}

void begin(struct call *c, struct thing *t, int64_t timeout)
{
	*c = (struct call){.thing = t};
	if (t)
		t->call = c;
	davit_op_init(&c->op, loop, on_done, NULL);
	davit_op_begin(&c->op, timeout);
}

int result(struct call *c)
{
	WAIT(c->done);
	if (c->result < 0 && getenv("DAVIT_TEST_VERBOSE"))
		printf("# %s: %s\n", davit_error_word(c->result), c->op.error.message);
	if (c->result < 0 && (c->op.error.code != c->result || !*c->op.error.message))
		fail(__FILE__, __LINE__, "an operation failed with %s and without a message",
		     davit_error_word(c->result));
	return c->result;
}

void do_create(struct call *c, struct thing *t)
{
	begin(c, t, 0);
	enter();
	driver->create(t->inst, &c->op);
	leave();
}

void do_start(struct call *c, struct thing *t)
{
	begin(c, t, 0);
	enter();
	driver->start(t->inst, &c->op);
	leave();
}

void do_stop(struct call *c, struct thing *t, int64_t grace, int64_t timeout)
{
	const struct davit_stop how = {.signal = SIGTERM, .grace_ns = grace};

	begin(c, t, timeout);
	enter();
	driver->stop(t->inst, &how, &c->op);
	leave();
}

void do_remove(struct call *c, struct thing *t)
{
	begin(c, t, 0);
	enter();
	driver->remove(t->inst, &c->op);
	leave();
}

/* The calls that are waited for are never on a frame that a failed wait leaves:
 * an operation may still be under way then. */
static struct call *new_call(void)
{
	static struct call pool[256];
	static size_t next;
	struct call *c;

	do
		c = &pool[next++ % DAVIT_ARRAY_SIZE(pool)];
	while (davit_op_pending(&c->op));
	return c;
}

int create(struct thing *t)
{
	struct call *c = new_call();

	do_create(c, t);
	return result(c);
}

int start(struct thing *t)
{
	struct call *c = new_call();

	do_start(c, t);
	return result(c);
}

int stop(struct thing *t, int64_t grace)
{
	struct call *c = new_call();

	do_stop(c, t, grace, 0);
	return result(c);
}

int remove_(struct thing *t)
{
	struct call *c = new_call();

	do_remove(c, t);
	return result(c);
}

struct davit_inspection inspect(struct thing *t)
{
	static struct davit_inspection now;
	struct call *c = new_call();

	begin(c, t, 0);
	memset(&now, 0xff, sizeof now);
	enter();
	driver->inspect(t->inst, &now, &c->op);
	leave();
	CHECK_INT(result(c), 0);
	return now;
}

/* --- things --- */

static struct davit_instance *new_instance(struct thing *t)
{
	struct davit_instance *inst = calloc(1, sizeof *inst + driver->instance_size);

	*inst = (struct davit_instance){.runtime = rt, .workload = &t->workload, .owner = t};
	return inst;
}

struct thing *make(enum behaviour what, int n)
{
	struct thing *t = calloc(1, sizeof *t);

	t->next = things;
	things = t;
	if (!subject->words(what, n, &t->argv))
		skip("%s has no such workload", subject->name);
	davit_strv_add(&t->env, "PATH=/usr/local/bin:/usr/bin:/bin");
	davit_strv_add(&t->env, "NAME=value");
	snprintf(t->workload.id, sizeof t->workload.id, "%08x%08x", (unsigned)getpid(), ++serial);
	t->workload.namespace_ = (char *)"default";
	t->workload.name = (char *)"conformance";
	t->workload.version = (char *)"1";
	t->workload.label = (char *)"davit test \"label\"";
	t->workload.argv = t->argv;
	t->workload.env = t->env;
	t->workload.umask = 022;
	if (subject->prepare)
		subject->prepare(&t->workload);
	t->inst = new_instance(t);
	return t;
}

struct thing *running(enum behaviour what, int n)
{
	struct thing *t = make(what, n);

	CHECK_INT(create(t), 0);
	CHECK_INT(start(t), 0);
	return t;
}

struct thing *ignoring(void)
{
	struct thing *t = running(IGNORES_TERM, 0);

	if (davit_can(harness_capabilities(), DAVIT_CAP_LOGS))
		CHECK_STR(log_line(t, 0), "ignoring");
	else
		pass(300 * MSEC);
	return t;
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

/* --- logs --- */

struct reading {
	struct davit_log_reader *r;
	size_t lines;
	bool ended;
};

static bool on_line(struct davit_log_reader *r, const struct davit_log_line *line)
{
	struct reading *g = r->owner;

	not_in_slot("a log line");
	davit_buf_adds(&text, line->stream == DAVIT_STDERR ? "e:" : "o:");
	davit_buf_add(&text, line->text, line->len);
	davit_buf_addc(&text, '\n');
	g->lines++;
	return true;
}

static void on_log_end(struct davit_log_reader *r, int code, const struct davit_error *err)
{
	((struct reading *)r->owner)->ended = true;
}

const char *log_text(struct thing *t, size_t n)
{
	static struct reading g;
	static struct davit_log_reader *r;
	struct davit_error err;

	need(DAVIT_CAP_LOGS);
	davit_buf_reset(&text);
	free(r);
	r = calloc(1, sizeof *r + driver->logs->reader_size);
	g = (struct reading){.r = r};
	*r = (struct davit_log_reader){.instance = t->inst,
				       .query = {.tail = -1, .follow = n > 0},
				       .owner = &g,
				       .line = on_line,
				       .end = on_log_end};
	CHECK_INT(driver->logs->open(r, &err), 0);
	WAIT(g.ended || (n && g.lines >= n));
	enter();
	driver->logs->close(r);
	leave();
	free(r);
	r = NULL;
	CHECK(g.lines >= n);
	return davit_buf_str(&text);
}

const char *log_line(struct thing *t, size_t index)
{
	const char *all = log_text(t, index + 1);

	for (; index; index--)
		all = strchr(all, '\n') + 1;
	snprintf(line_text, sizeof line_text, "%.*s", (int)strcspn(all + 2, "\n"), all + 2);
	return line_text;
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

static void free_things(void)
{
	while (things) {
		struct thing *t = things;
		things = t->next;
		if (t->call && t->call->thing == t)
			t->call->thing = NULL; /* its end may still come */
		davit_strv_free(t->argv);
		davit_strv_free(t->env);
		free(t->inst);
		free(t);
	}
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
	free_things();
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
	davit_buf_fini(&text);
	davit_remove_tree(home, NULL);
}
