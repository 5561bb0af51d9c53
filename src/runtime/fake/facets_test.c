/* SPDX-License-Identifier: MIT
 *
 * What instances have beside their life: logs, commands, figures, signals, ports.
 */
#include "runtime/fake/test_rig.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* --- logs --- */

struct reader {
	struct davit_log_reader r;
	char room[256];
	char text[512];
	uint64_t cursor;
	size_t lines;
	bool pause, close;
};

static bool on_line(struct davit_log_reader *r, const struct davit_log_line *line)
{
	struct reader *me = (struct reader *)r;
	size_t len = strlen(me->text);

	snprintf(me->text + len, sizeof me->text - len, "%d%.*s;", line->stream, (int)line->len, line->text);
	me->cursor = line->cursor;
	me->lines++;
	if (me->close)
		r->instance->runtime->driver->logs->close(r);
	return !me->pause;
}
static void on_log_end(struct davit_log_reader *r, int code, const struct davit_error *err)
{
	strcat(((struct reader *)r)->text, "end");
}

static void open_log(struct reader *me, struct davit_instance *inst, struct davit_log_query q)
{
	assert_true(rig->rt->driver->logs->reader_size <= sizeof me->room);
	*me = (struct reader){.r = {.instance = inst, .query = q, .line = on_line, .end = on_log_end}};
	assert_int_equal(rig->rt->driver->logs->open(&me->r, NULL), 0);
}

static void logs_are_read_whole_by_tail_and_by_cursor(void **state)
{
	struct davit_instance *inst = running(0, "log|a|log|b|stderr|log|c|never-ready");
	struct reader me;
	uint64_t second;

	open_log(&me, inst, (struct davit_log_query){.tail = -1});
	run_for(SEC);
	assert_string_equal(me.text, "1a;2b;1c;end");
	rig->rt->driver->logs->close(&me.r);

	open_log(&me, inst, (struct davit_log_query){.tail = 2});
	run_for(SEC);
	assert_string_equal(me.text, "2b;1c;end");
	rig->rt->driver->logs->close(&me.r);

	open_log(&me, inst, (struct davit_log_query){.tail = -1});
	me.pause = true;
	run_for(SEC);
	assert_string_equal(me.text, "1a;");
	second = me.cursor;
	rig->rt->driver->logs->close(&me.r);

	open_log(&me, inst, (struct davit_log_query){.tail = -1, .after = second});
	run_for(SEC);
	assert_string_equal(me.text, "2b;1c;end");
	rig->rt->driver->logs->close(&me.r);
}

static void a_follower_gets_what_is_written_later_and_may_pause_and_close(void **state)
{
	struct davit_instance *inst = running(0, "log|x|every|1s|count|5|never-ready");
	struct reader me;

	open_log(&me, inst, (struct davit_log_query){.tail = -1, .follow = true});
	run_for(2 * SEC);
	assert_string_equal(me.text, "1x;1x;");
	me.pause = true;
	run_for(2 * SEC);
	assert_int_equal(me.lines, 3);
	me.pause = false;
	me.close = true;
	rig->rt->driver->logs->resume(&me.r);
	run_for(5 * SEC);
	assert_int_equal(me.lines, 4);
}

static void a_log_is_bounded_and_outlives_its_object(void **state)
{
	struct davit_instance *inst = make(0, "log|0123456|count|100|never-ready");
	struct reader me;

	rig->workload[0].log = (struct davit_log_config){.max_size = 40, .max_files = 1};
	assert_int_equal(create(inst), 0);
	assert_int_equal(start(inst), 0);
	assert_int_equal(stop(inst, SEC), 0);
	assert_int_equal(remove_(inst), 0);
	open_log(&me, inst, (struct davit_log_query){.tail = -1});
	run_for(SEC);
	assert_int_equal(me.lines, 5);
	rig->rt->driver->logs->close(&me.r);
	rig->rt->driver->logs->discard(rig->rt, rig->workload[0].id);
	assert_int_equal(rig->rt->driver->logs->open(&me.r, NULL), DAVIT_ENOENT);
}

/* --- exec, stats, signal, ports --- */

struct command {
	struct davit_exec x;
	char room[512];
	char out[256];
	bool pause;
	struct davit_exit exit;
};

static bool on_output(struct davit_exec *x, enum davit_stream stream, const void *data, size_t n)
{
	struct command *me = (struct command *)x;
	size_t len = strlen(me->out);

	snprintf(me->out + len, sizeof me->out - len, "%d:%.*s", stream, (int)n, (const char *)data);
	return !me->pause;
}
static void on_command_exit(struct davit_exec *x, const struct davit_exit *exit)
{
	((struct command *)x)->exit = *exit;
}

static int open_command(struct command *me, struct davit_instance *inst, char *const *argv, char *const *env)
{
	assert_true(rig->rt->driver->exec->exec_size <= sizeof me->room);
	*me = (struct command){.x = {.instance = inst,
				     .argv = argv,
				     .env = env,
				     .output = on_output,
				     .exited = on_command_exit}};
	rig->rt->driver->exec->start(&me->x, begin(0));
	return finish();
}

static void commands_inside_echo_read_and_exit(void **state)
{
	struct davit_instance *inst = running(0, "never-ready");
	const struct davit_exec_facet *f = rig->rt->driver->exec;
	char *echo[] = {(char *)"echo", (char *)"a", (char *)"b", NULL};
	char *cat[] = {(char *)"cat", NULL};
	char *env[] = {(char *)"env", (char *)"NAME", NULL};
	char *none[] = {(char *)"nothing", NULL};
	struct command me;

	assert_int_equal(open_command(&me, inst, echo, NULL), 0);
	run_for(SEC);
	assert_string_equal(me.out, "1:a b\n");
	assert_int_equal(me.exit.kind, DAVIT_EXIT_CODE);
	f->close(&me.x);

	assert_int_equal(open_command(&me, inst, cat, NULL), 0);
	assert_int_equal(f->write(&me.x, "hello", 5), 5);
	run_for(SEC);
	assert_string_equal(me.out, "1:hello");
	f->close_input(&me.x);
	run_for(SEC);
	assert_int_equal(me.exit.kind, DAVIT_EXIT_CODE);
	f->close(&me.x);

	assert_int_equal(open_command(&me, inst, env, NULL), 0);
	run_for(SEC);
	assert_string_equal(me.out, "1:value\n");
	f->close(&me.x);

	assert_int_equal(open_command(&me, inst, none, NULL), DAVIT_EEXEC);
	f->close(&me.x);

	assert_int_equal(open_command(&me, inst, cat, NULL), 0);
	assert_int_equal(stop(inst, SEC), 0);
	run_for(SEC);
	assert_int_equal(me.exit.signal, SIGKILL);
	f->close(&me.x);
}

static void stats_grow_with_the_run_and_keep_to_the_limit(void **state)
{
	struct davit_instance *inst = make(0, "never-ready");
	struct davit_stats a, b;

	rig->workload[0].memory = 9 << 20;
	assert_int_equal(create(inst), 0);
	rig->rt->driver->stats->read(inst, &a, begin(0));
	assert_int_equal(finish(), DAVIT_ESTATE);
	assert_int_equal(start(inst), 0);
	rig->rt->driver->stats->read(inst, &a, begin(0));
	assert_int_equal(finish(), 0);
	assert_int_equal(a.processes, 1);
	assert_int_equal(a.memory_limit, 9 << 20);
	run_for(2 * 3600 * SEC);
	rig->rt->driver->stats->read(inst, &b, begin(0));
	assert_int_equal(finish(), 0);
	assert_true(b.cpu_ns > a.cpu_ns);
	assert_int_equal(b.memory, 9 << 20);
}

static void signals_end_it_unless_they_are_harmless_or_ignored(void **state)
{
	struct davit_instance *inst = running(0, "never-ready");
	const struct davit_signal_facet *f = rig->rt->driver->signal;

	f->send(inst, SIGWINCH, begin(0));
	assert_int_equal(finish(), 0);
	run_for(SEC);
	assert_int_equal(inspect(inst).state, DAVIT_STATE_STARTED);
	f->send(inst, SIGUSR1, begin(0));
	assert_int_equal(finish(), 0);
	run_for(SEC);
	assert_int_equal(rig->exit.signal, SIGUSR1);
	f->send(inst, SIGUSR1, begin(0));
	assert_int_equal(finish(), DAVIT_ESTATE);
}

static void ports_are_given_out_once_and_refused_when_taken(void **state)
{
	struct davit_port ports[2] = {{.host = 0}, {.host = 0}};
	const struct davit_ports_facet *f = rig->rt->driver->ports;
	struct davit_error err;

	assert_int_equal(f->resolve(rig->rt, ports, 2, &err), 0);
	assert_true(ports[0].host && ports[1].host && ports[0].host != ports[1].host);
	davit_fake_world_take_port(rig->world, 8080, true);
	ports[0].host = 8080;
	assert_int_equal(f->resolve(rig->rt, ports, 1, &err), DAVIT_EINUSE);
	assert_string_equal(err.message, "port 8080 is already in use");
	davit_fake_world_take_port(rig->world, 8080, false);
	assert_int_equal(f->resolve(rig->rt, ports, 1, &err), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
	const struct CMUnitTest tests[] = {
		T(logs_are_read_whole_by_tail_and_by_cursor),
		T(a_follower_gets_what_is_written_later_and_may_pause_and_close),
		T(a_log_is_bounded_and_outlives_its_object),
		T(commands_inside_echo_read_and_exit),
		T(stats_grow_with_the_run_and_keep_to_the_limit),
		T(signals_end_it_unless_they_are_harmless_or_ignored),
		T(ports_are_given_out_once_and_refused_when_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
