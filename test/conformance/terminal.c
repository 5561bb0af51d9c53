/* SPDX-License-Identifier: MIT
 *
 * Terminals that go on by themselves, and pausing.
 */
#include "test/conformance/suite.h"

#include <signal.h>
#include <stdio.h>

/* One that is attached. */
struct screen {
	struct davit_terminal *t;
	char text[8192];
	size_t len;
	int ended, lost, drained;
	bool pause;
	struct davit_exit exit;
};

static char **words; /* of the command */

static bool on_output(struct davit_terminal *t, const void *data, size_t n)
{
	struct screen *s = t->owner;

	if (s->len + n < sizeof s->text) {
		memcpy(s->text + s->len, data, n);
		s->text[s->len + n] = '\0';
	}
	s->len += n;
	return !s->pause;
}

static void on_drained(struct davit_terminal *t)
{
	((struct screen *)t->owner)->drained++;
}

static void on_ended(struct davit_terminal *t, const struct davit_exit *exit)
{
	struct screen *s = t->owner;

	s->ended++;
	s->exit = *exit;
}

static void on_lost(struct davit_terminal *t, const struct davit_error *why)
{
	((struct screen *)t->owner)->lost++;
}

static int attach_or_open(struct screen *s, struct thing *t, const char *id, bool opens)
{
	static struct call c;

	*s = (struct screen){0};
	s->t = calloc(1, sizeof *s->t + rt->driver->terminal->terminal_size);
	*s->t = (struct davit_terminal){
		.instance = t->inst,
		.argv = words,
		.rows = 30,
		.columns = 90,
		.owner = s,
		.output = on_output,
		.drained = on_drained,
		.ended = on_ended,
		.lost = on_lost,
	};
	snprintf(s->t->id, sizeof s->t->id, "%s", id);
	begin(&c, t, 0);
	enter();
	if (opens)
		rt->driver->terminal->open(s->t, &c.op);
	else
		rt->driver->terminal->attach(s->t, &c.op);
	leave();
	return result(&c);
}

static int open_terminal(struct screen *s, struct thing *t, const char *id, enum behaviour what)
{
	davit_strv_free(DAVIT_TAKE(words));
	if (!subject->words(what, 0, &words))
		skip("%s has no such command", subject->name);
	return attach_or_open(s, t, id, true);
}

static int attach(struct screen *s, struct thing *t, const char *id)
{
	return attach_or_open(s, t, id, false);
}

static void detach(struct screen *s)
{
	rt->driver->terminal->detach(s->t);
	free(s->t);
	s->t = NULL;
}

static void type(struct screen *s, const char *text)
{
	size_t n = strlen(text);

	while (n) {
		ssize_t took = rt->driver->terminal->write(s->t, text, n);
		CHECK(took >= 0);
		text += took;
		n -= (size_t)took;
		if (n)
			pass(5 * MSEC);
	}
}

struct listing {
	int n;
	struct davit_terminal_info info; /* of the last */
};

static void on_each(void *user, const struct davit_terminal_info *info)
{
	struct listing *l = user;

	l->n++;
	l->info = *info;
}

static struct listing list(struct thing *t, struct davit_instance *inst)
{
	static struct listing l;
	static struct call c;

	l = (struct listing){0};
	begin(&c, t, 0);
	enter();
	rt->driver->terminal->list(rt, inst, on_each, &l, &c.op);
	leave();
	CHECK_INT(result(&c), 0);
	return l;
}

static int close_terminal(struct thing *t, const char *id)
{
	static struct call c;

	begin(&c, t, 0);
	enter();
	rt->driver->terminal->close(rt, id, &c.op);
	leave();
	return result(&c);
}

#define ONE "00000000000000a1"
#define END "\004" /* Ctrl-D */

static void what_is_typed_comes_back(void)
{
	static struct screen s;
	struct thing *t;

	need(DAVIT_CAP_TERMINAL_KEPT);
	t = running(RUNS, 0);
	CHECK_INT(open_terminal(&s, t, ONE, X_COPIES), 0);
	type(&s, "typed\n");
	WAIT(strstr(s.text, "typed"));
	CHECK_INT(s.ended, 0);
	type(&s, END);
	WAIT(s.ended);
	CHECK_INT(s.exit.kind, DAVIT_EXIT_CODE);
	CHECK_INT(s.exit.code, 0);
	CHECK_INT(s.lost, 0);
	CHECK(rt->driver->terminal->write(s.t, "x", 1) < 0);
	detach(&s);
	CHECK_INT(t->runs_told, 0);
	/* Taken to its end: it is forgotten. */
	CHECK_INT(list(t, NULL).n, 0);
	CHECK_INT(attach(&s, t, ONE), DAVIT_ENOENT);
	detach(&s);
}

static void it_goes_on_alone(void)
{
	static struct screen s;
	struct listing l;
	struct thing *t;

	need(DAVIT_CAP_TERMINAL_KEPT);
	t = running(RUNS, 0);
	CHECK_INT(open_terminal(&s, t, ONE, X_COPIES), 0);
	type(&s, "before\n");
	WAIT(strstr(s.text, "before"));
	detach(&s);
	pass(50 * MSEC);
	l = list(t, t->inst);
	CHECK_INT(l.n, 1);
	CHECK_STR(l.info.id, ONE);
	CHECK_STR(l.info.instance, t->workload.id);
	CHECK(!strncmp(l.info.command, words[0], strlen(words[0])) || strlen(words[0]) > 127);
	CHECK_INT(l.info.attached, 0);
	CHECK_INT(l.info.exit.kind, DAVIT_EXIT_NONE);
	CHECK_INT(l.info.rows, 30);
	CHECK_INT(attach(&s, t, ONE), 0);
	WAIT(strstr(s.text, "before"));
	type(&s, "after\n");
	WAIT(strstr(s.text, "after"));
	rt->driver->terminal->resize(s.t, 41, 101);
	pass(50 * MSEC);
	l = list(t, t->inst);
	CHECK_INT(l.info.attached, 1);
	CHECK_INT(l.info.rows, 41);
	CHECK_INT(l.info.columns, 101);
	detach(&s);
	CHECK_INT(close_terminal(t, ONE), 0);
}

static void several_see_the_same(void)
{
	static struct screen a, b;
	struct thing *t;

	need(DAVIT_CAP_TERMINAL_KEPT);
	t = running(RUNS, 0);
	CHECK_INT(open_terminal(&a, t, ONE, X_COPIES), 0);
	CHECK_INT(attach(&b, t, ONE), 0);
	type(&a, "one\n");
	WAIT(strstr(b.text, "one"));
	type(&b, "two\n");
	WAIT(strstr(a.text, "two"));
	WAIT(strstr(b.text, "two"));
	/* One that pauses holds nobody up, and nothing comes to it. */
	pass(100 * MSEC); /* the terminal's echo and the command's copy are two pieces */
	b.pause = true;
	type(&a, "three\n");
	WAIT(strstr(a.text, "three"));
	WAIT(strstr(b.text, "three"));
	size_t n = b.len;
	type(&a, "four\n");
	WAIT(strstr(a.text, "four"));
	pass(50 * MSEC);
	/* What had not come when it paused may be in the same piece. */
	CHECK(!strstr(b.text, "four") || b.len == n);
	b.pause = false;
	rt->driver->terminal->resume(b.t);
	WAIT(strstr(b.text, "four"));
	detach(&a);
	type(&b, END);
	WAIT(b.ended);
	detach(&b);
}

static void it_outlives_the_daemon(void)
{
	static struct screen s;
	struct thing *t;

	need(DAVIT_CAP_TERMINAL_KEPT);
	need(DAVIT_CAP_SURVIVE);
	t = running(RUNS, 0);
	CHECK_INT(open_terminal(&s, t, ONE, X_COPIES), 0);
	type(&s, "before\n");
	WAIT(strstr(s.text, "before"));
	reopen(false);
	s.len = 0;
	s.text[0] = '\0';
	pass(20 * MSEC);
	CHECK_INT(s.len, 0); /* nothing comes from a runtime that was closed */
	CHECK_INT(s.ended + s.lost, 0);
	free(s.t);
	CHECK_INT(list(t, t->inst).n, 1);
	CHECK_INT(attach(&s, t, ONE), 0);
	WAIT(strstr(s.text, "before"));
	type(&s, END);
	WAIT(s.ended);
	detach(&s);
}

static void an_end_waits_for_who_attaches(void)
{
	static struct screen s;
	struct davit_error err;
	struct thing *t;
	pid_t pid;

	need(DAVIT_CAP_TERMINAL_KEPT);
	t = running(RUNS, 0);
	CHECK_INT(open_terminal(&s, t, ONE, X_COPIES), 0);
	type(&s, "last words\n");
	WAIT(strstr(s.text, "last words"));
	pid = list(t, NULL).info.pid;
	if (!pid) /* nothing comes between the two where there are no processes */
		CHECK_INT(rt->driver->terminal->signal(s.t, SIGKILL, &err), 0);
	detach(&s);
	/* Who is attached when it ends has been told, and nothing waits. */
	WAIT(list(t, NULL).info.attached == 0);
	if (pid)
		CHECK_INT(kill(pid, SIGKILL), 0);
	WAIT(list(t, NULL).info.exit.kind == DAVIT_EXIT_SIGNAL);
	CHECK_INT(attach(&s, t, ONE), 0);
	WAIT(s.ended);
	CHECK(strstr(s.text, "last words"));
	CHECK_INT(s.exit.kind, DAVIT_EXIT_SIGNAL);
	CHECK_INT(s.exit.signal, SIGKILL);
	CHECK_INT(s.ended, 1);
	CHECK_INT(rt->driver->terminal->signal(s.t, SIGKILL, &err), DAVIT_ESTATE);
	detach(&s);
	CHECK_INT(list(t, NULL).n, 0);
}

static void closing_ends_it(void)
{
	static struct screen s;
	struct thing *t;

	need(DAVIT_CAP_TERMINAL_KEPT);
	t = running(RUNS, 0);
	CHECK_INT(open_terminal(&s, t, ONE, X_COPIES), 0);
	CHECK_INT(close_terminal(t, ONE), 0);
	WAIT(s.ended);
	CHECK_INT(s.exit.kind, DAVIT_EXIT_SIGNAL);
	detach(&s);
	CHECK_INT(list(t, NULL).n, 0);
	CHECK_INT(close_terminal(t, ONE), 0); /* of none: fine */
}

static void it_ends_with_the_instance(void)
{
	static struct screen s;
	struct thing *t;

	need(DAVIT_CAP_TERMINAL_KEPT);
	t = running(RUNS, 0);
	CHECK_INT(open_terminal(&s, t, ONE, X_COPIES), 0);
	CHECK_INT(stop(t, 5 * SEC), 0);
	WAIT(s.ended);
	detach(&s);
	CHECK_INT(open_terminal(&s, t, ONE, X_COPIES), DAVIT_ESTATE);
	detach(&s);
	CHECK_INT(remove_(t), 0);
}

static void a_missing_program_is_told(void)
{
	static struct screen s;
	struct thing *t;

	need(DAVIT_CAP_TERMINAL_KEPT);
	t = running(RUNS, 0);
	CHECK_INT(open_terminal(&s, t, ONE, X_MISSING), DAVIT_EEXEC);
	pass(20 * MSEC);
	CHECK_INT(s.ended + s.lost, 0);
	detach(&s);
	CHECK_INT(list(t, NULL).n, 0);
}

/* --- pausing --- */

static int pause_(struct thing *t, bool on)
{
	static struct call c;

	begin(&c, t, 0);
	enter();
	if (on)
		rt->driver->pause->pause(t->inst, &c.op);
	else
		rt->driver->pause->unpause(t->inst, &c.op);
	leave();
	return result(&c);
}

static size_t lines(struct thing *t)
{
	size_t n = 0;

	for (const char *p = log_text(t, 0); (p = strchr(p, '\n')); p++)
		n++;
	return n;
}

static void a_paused_instance_does_nothing(void)
{
	struct thing *t;
	size_t n;

	need(DAVIT_CAP_PAUSE);
	t = running(KEEPS_PRINTING, 0);
	log_text(t, 2);
	CHECK(!inspect(t).paused);
	CHECK_INT(pause_(t, true), 0);
	CHECK(inspect(t).paused);
	CHECK_INT(inspect(t).state, DAVIT_STATE_STARTED);
	pass(50 * MSEC);
	n = lines(t);
	pass(150 * MSEC);
	CHECK_INT(lines(t), n);
	CHECK_INT(pause_(t, true), 0); /* as it is */
	CHECK_INT(pause_(t, false), 0);
	CHECK(!inspect(t).paused);
	log_text(t, n + 2);
	CHECK_INT(pause_(t, false), 0);
	CHECK_INT(t->runs_told, 0);
}

static void a_stop_thaws(void)
{
	struct thing *t;

	need(DAVIT_CAP_PAUSE);
	t = make(RUNS, 0);
	CHECK_INT(create(t), 0);
	CHECK_INT(pause_(t, true), DAVIT_ESTATE);
	CHECK_INT(start(t), 0);
	CHECK_INT(pause_(t, true), 0);
	CHECK_INT(stop(t, 5 * SEC), 0);
	/* It could heed the signal. */
	CHECK_INT(t->exit.signal, SIGTERM);
	CHECK(!inspect(t).paused);
	CHECK_INT(start(t), 0);
	CHECK(!inspect(t).paused);
	CHECK_INT(pause_(t, true), 0);
	CHECK_INT(stop(t, 0), 0);
	CHECK_INT(t->exit.signal, SIGKILL);
	CHECK_INT(start(t), 0);
	CHECK(!inspect(t).paused);
}

static void a_pause_outlives_the_daemon(void)
{
	struct thing *t;

	need(DAVIT_CAP_PAUSE);
	need(DAVIT_CAP_SURVIVE);
	t = running(RUNS, 0);
	CHECK_INT(pause_(t, true), 0);
	reopen(false);
	CHECK(t->adopted.paused);
	CHECK(inspect(t).paused);
	CHECK_INT(pause_(t, false), 0);
	CHECK(!inspect(t).paused);
	CHECK_INT(stop(t, 5 * SEC), 0);
}

const struct test terminal_tests[] = {
	{"terminal: what is typed comes back, and its end is told and then forgotten",
	 what_is_typed_comes_back},
	{"terminal: it goes on alone, is listed, and gives what it printed to who attaches",
	 it_goes_on_alone},
	{"terminal: several see the same and all may type", several_see_the_same},
	{"terminal: it outlives the daemon", it_outlives_the_daemon},
	{"terminal: an end without anybody waits for who attaches", an_end_waits_for_who_attaches},
	{"terminal: closing ends the command", closing_ends_it},
	{"terminal: it ends with its instance and needs a running one", it_ends_with_the_instance},
	{"terminal: a program that is not there fails the opening", a_missing_program_is_told},
	{"pause: a paused instance does nothing and goes on after", a_paused_instance_does_nothing},
	{"pause: a stop thaws first, and the next run is not frozen", a_stop_thaws},
	{"pause: it outlives the daemon and is found again", a_pause_outlives_the_daemon},
	{0},
};
