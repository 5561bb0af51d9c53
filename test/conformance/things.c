/* SPDX-License-Identifier: MIT
 *
 * What a test works with: things, the operations on them, and their logs.
 */
#include "test/conformance/harness.h"

#include "base/buf.h"

#include <signal.h>
#include <stdio.h>

struct thing *things;
char last_error[480];

static unsigned serial;
static struct davit_buf text;
static char line_text[1 << 16];

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
	rt->driver->create(t->inst, &c->op);
	leave();
}

void do_start(struct call *c, struct thing *t)
{
	begin(c, t, 0);
	enter();
	rt->driver->start(t->inst, &c->op);
	leave();
}

void do_stop(struct call *c, struct thing *t, int64_t grace, int64_t timeout)
{
	const struct davit_stop how = {.signal = SIGTERM, .grace_ns = grace};

	begin(c, t, timeout);
	enter();
	rt->driver->stop(t->inst, &how, &c->op);
	leave();
}

void do_remove(struct call *c, struct thing *t)
{
	begin(c, t, 0);
	enter();
	rt->driver->remove(t->inst, &c->op);
	leave();
}

struct call *new_call(void)
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
	rt->driver->inspect(t->inst, &now, &c->op);
	leave();
	CHECK_INT(result(c), 0);
	return now;
}

/* --- things --- */

struct davit_instance *new_instance(struct thing *t)
{
	struct davit_instance *inst = calloc(1, sizeof *inst + harness_driver()->instance_size);

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

void things_free(void)
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

/* Until it is over, n lines are there, or one that is `line`; the last one, if neither is asked for. */
static void read_log(struct thing *t, size_t n, const char *line)
{
	static struct reading g;
	static struct davit_log_reader *r;
	struct davit_error err;

	need(DAVIT_CAP_LOGS);
	davit_buf_reset(&text);
	free(r);
	r = calloc(1, sizeof *r + rt->driver->logs->reader_size);
	g = (struct reading){.r = r};
	*r = (struct davit_log_reader){.instance = t->inst,
				       .query = {.tail = -1, .follow = n > 0 || line},
				       .owner = &g,
				       .line = on_line,
				       .end = on_log_end};
	CHECK_INT(rt->driver->logs->open(r, &err), 0);
	WAIT(g.ended || (n && g.lines >= n) || (line && strstr(davit_buf_str(&text), line)));
	enter();
	rt->driver->logs->close(r);
	leave();
	free(r);
	r = NULL;
	CHECK(g.lines >= n);
}

const char *log_text(struct thing *t, size_t n)
{
	read_log(t, n, NULL);
	return davit_buf_str(&text);
}

void log_has(struct thing *t, const char *line)
{
	read_log(t, 0, line);
	CHECK(strstr(davit_buf_str(&text), line));
}

const char *log_line(struct thing *t, size_t index)
{
	const char *all = log_text(t, index + 1);

	for (; index; index--)
		all = strchr(all, '\n') + 1;
	snprintf(line_text, sizeof line_text, "%.*s", (int)strcspn(all + 2, "\n"), all + 2);
	return line_text;
}

void things_fini(void)
{
	davit_buf_fini(&text);
}
