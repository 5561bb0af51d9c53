/* SPDX-License-Identifier: MIT */
#include "base/strv.h"
#include "base/units.h"
#include "runtime/fake/fake.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#define MSEC DAVIT_NSEC_PER_MSEC
#define SEC DAVIT_NSEC_PER_SEC
enum { INSTANCES = 4 };

/* A world, a runtime in it and what they told, in words. */
struct rig {
	struct davit_loop *loop;
	struct davit_fake_world *world;
	struct davit_runtime *rt;
	struct davit_instance *inst[INSTANCES];
	struct davit_workload workload[INSTANCES];
	char **argv[INSTANCES], **env[INSTANCES];
	size_t n_found;
	struct davit_inspection found[INSTANCES];
	bool forget; /* answer NULL to found */
	struct davit_exit exit;
	char told[2048];
	struct davit_op op;
	int result;
};

static struct rig *rig; /* of the test that runs: the events have no other way to it */

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

static void on_done(struct davit_op *op, int result)
{
	rig->result = result;
	tell("done %s;", davit_error_word(result));
}

static struct davit_op *begin(int64_t timeout)
{
	davit_op_init(&rig->op, rig->loop, on_done, NULL);
	davit_op_begin(&rig->op, timeout);
	rig->result = 1;
	return &rig->op;
}

static int finish(void)
{
	while (davit_op_pending(&rig->op))
		assert_true(davit_loop_step(rig->loop));
	return rig->result;
}

static void on_alarm(struct davit_timer *t)
{
}

static void run_for(int64_t ns)
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

static void open_runtime(void)
{
	const struct davit_runtime_driver *d = davit_fake_world_driver(rig->world);

	rig->rt = calloc(1, sizeof *rig->rt + d->runtime_size);
	*rig->rt = (struct davit_runtime){.driver = d, .loop = rig->loop, .events = &events, .name = "fake"};
	d->open(rig->rt, begin(0));
	assert_int_equal(finish(), 0);
}

static void close_runtime(void)
{
	rig->rt->driver->close(rig->rt);
	for (size_t i = 0; i < INSTANCES; i++)
		if (rig->inst[i])
			memset(davit_instance_state(rig->inst[i]), 0, rig->rt->driver->instance_size);
	free(rig->rt);
	rig->rt = NULL;
}

static void reopen_and_adopt(void)
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

/* Instance i with a script, words separated by '|'. Not created yet. */
static struct davit_instance *make(int i, const char *script)
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

static int create(struct davit_instance *inst)
{
	rig->rt->driver->create(inst, begin(0));
	return finish();
}
static int start(struct davit_instance *inst)
{
	rig->rt->driver->start(inst, begin(0));
	return finish();
}
static int stop(struct davit_instance *inst, int64_t grace)
{
	rig->rt->driver->stop(inst, &(struct davit_stop){SIGTERM, grace}, begin(0));
	return finish();
}
static int remove_(struct davit_instance *inst)
{
	rig->rt->driver->remove(inst, begin(0));
	return finish();
}
static struct davit_inspection inspect(struct davit_instance *inst)
{
	struct davit_inspection now;

	rig->rt->driver->inspect(inst, &now, begin(0));
	assert_int_equal(finish(), 0);
	return now;
}
static struct davit_instance *running(int i, const char *script)
{
	struct davit_instance *inst = make(i, script);

	assert_int_equal(create(inst), 0);
	assert_int_equal(start(inst), 0);
	rig->told[0] = '\0';
	return inst;
}

static int setup(void **state)
{
	rig = calloc(1, sizeof *rig);
	assert_int_equal(davit_loop_open_virtual(1, &rig->loop, NULL), 0);
	assert_int_equal(davit_fake_world_new(rig->loop, &rig->world, NULL), 0);
	open_runtime();
	rig->told[0] = '\0';
	return 0;
}

static int teardown(void **state)
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

static void the_table_is_whole(void **state)
{
	assert_int_equal(davit_runtime_driver_validate(&davit_fake_driver, NULL), 0);
}

static void a_run_ends_when_its_script_says(void **state)
{
	struct davit_instance *inst = running(0, "run|5s|exit|3|never-ready");

	run_for(4 * SEC);
	assert_int_equal(inspect(inst).state, DAVIT_STATE_STARTED);
	rig->told[0] = '\0';
	run_for(SEC);
	assert_string_equal(rig->told, "exited 1 code 3;");
	assert_int_equal(inspect(inst).exit.code, 3);
}

static void signals_and_oom_come_as_themselves(void **state)
{
	running(0, "signal|9|after|3s|never-ready");
	run_for(3 * SEC);
	assert_string_equal(rig->told, "exited 1 signal 9;");
	running(1, "oom|after|1s|never-ready");
	run_for(SEC);
	assert_string_equal(rig->told, "exited 1 oom 9;");
}

static void readiness_and_status_come_in_their_time(void **state)
{
	running(0, "ready-after|1s|status|warming up|after|500ms");
	run_for(SEC);
	assert_string_equal(rig->told, "status warming up;ready;");
}

static void a_stop_ends_it_by_the_signal_and_completes_after(void **state)
{
	struct davit_instance *inst = running(0, "stop-delay|1s|never-ready");
	int64_t at = davit_loop_now(rig->loop);

	assert_int_equal(stop(inst, 10 * SEC), 0);
	assert_string_equal(rig->told, "exited 1 signal 15;done ok;");
	assert_int_equal(davit_loop_now(rig->loop) - at, SEC);
}

static void one_that_ignores_the_stop_is_killed_after_the_grace(void **state)
{
	struct davit_instance *inst = running(0, "ignore-stop|never-ready");
	int64_t at = davit_loop_now(rig->loop);

	assert_int_equal(stop(inst, 10 * SEC), 0);
	assert_string_equal(rig->told, "exited 1 signal 9;done ok;");
	assert_int_equal(davit_loop_now(rig->loop) - at, 10 * SEC);
}

static void a_cancelled_stop_kills_at_once(void **state)
{
	struct davit_instance *inst = running(0, "ignore-stop|never-ready");

	rig->rt->driver->stop(inst, &(struct davit_stop){SIGTERM, 100 * SEC}, begin(2 * SEC));
	assert_int_equal(finish(), 0);
	assert_string_equal(rig->told, "exited 1 signal 9;done ok;");
	assert_int_equal(davit_loop_now(rig->loop), 2 * SEC);
}

static void operations_fail_as_often_as_they_are_told_to(void **state)
{
	struct davit_instance *inst = make(0, "fail-create|2|fail-start|1|fail-remove|1|never-ready");

	assert_int_equal(create(inst), DAVIT_EUNAVAIL);
	assert_int_equal(create(inst), DAVIT_EUNAVAIL);
	assert_int_equal(create(inst), 0);
	assert_int_equal(start(inst), DAVIT_EUNAVAIL);
	assert_int_equal(start(inst), 0);
	assert_int_equal(stop(inst, SEC), 0);
	assert_int_equal(remove_(inst), DAVIT_EUNAVAIL);
	assert_int_equal(remove_(inst), 0);
	inst = make(1, "fail-exec|never-ready");
	assert_int_equal(create(inst), 0);
	assert_int_equal(start(inst), DAVIT_EEXEC);
	assert_int_equal(inspect(inst).run, 0);
}

static void a_deadline_undoes_an_operation_that_takes_too_long(void **state)
{
	struct davit_instance *inst = make(0, "create-delay|1m");

	rig->rt->driver->create(inst, begin(SEC));
	assert_int_equal(finish(), DAVIT_ETIMEDOUT);
	assert_int_equal(davit_fake_world_objects(rig->world), 0);
	assert_int_equal(inspect(inst).state, DAVIT_STATE_DESTROYED);
}

static void a_vanished_object_is_told_and_is_gone(void **state)
{
	struct davit_instance *inst = running(0, "vanish|after|2s|never-ready");

	run_for(2 * SEC);
	assert_string_equal(rig->told, "vanished;");
	assert_int_equal(inspect(inst).state, DAVIT_STATE_DESTROYED);
	assert_int_equal(stop(inst, 0), 0);
	assert_int_equal(remove_(inst), 0);
	assert_int_equal(start(inst), DAVIT_ESTATE);
}

static void a_liar_passes_for_running_until_its_exit_is_told(void **state)
{
	struct davit_instance *inst = running(0, "run|1s|lie|3s|never-ready");

	run_for(2 * SEC);
	assert_int_equal(davit_fake_world_running(rig->world), 0);
	assert_int_equal(inspect(inst).state, DAVIT_STATE_STARTED);
	rig->told[0] = '\0';
	run_for(3 * SEC);
	assert_string_equal(rig->told, "exited 1 code 0;");
}

static void a_liar_that_is_stopped_tells_first(void **state)
{
	struct davit_instance *inst = running(0, "run|1s|lie|1h|never-ready");

	run_for(2 * SEC);
	assert_int_equal(stop(inst, SEC), 0);
	assert_string_equal(rig->told, "exited 1 code 0;done ok;");
}

static void what_survives_a_close_is_found_with_run_and_pid(void **state)
{
	struct davit_instance *inst = running(0, "run|10s|exit|4|never-ready");
	pid_t pid = inspect(inst).pid;

	reopen_and_adopt();
	assert_string_equal(rig->told, "done ok;found label;done ok;");
	assert_int_equal(rig->found[0].state, DAVIT_STATE_STARTED);
	assert_int_equal(rig->found[0].run, 1);
	assert_int_equal(rig->found[0].pid, pid);
	rig->told[0] = '\0';
	run_for(10 * SEC);
	assert_string_equal(rig->told, "exited 1 code 4;");
}

static void an_end_while_nobody_looked_is_found_and_not_told_again(void **state)
{
	running(0, "run|10s|exit|4|never-ready");
	close_runtime();
	run_for(20 * SEC);
	rig->rt = NULL;
	open_runtime();
	rig->inst[0]->runtime = rig->rt;
	rig->told[0] = '\0';
	rig->rt->driver->adopt(rig->rt, begin(0));
	assert_int_equal(finish(), 0);
	assert_int_equal(rig->found[0].state, DAVIT_STATE_STOPPED);
	assert_int_equal(rig->found[0].exit.code, 4);
	run_for(SEC);
	assert_string_equal(rig->told, "found label;done ok;");
}

static void an_operation_under_way_at_close_ends_as_closed(void **state)
{
	struct davit_instance *inst = make(0, "create-delay|10s");

	rig->rt->driver->create(inst, begin(0));
	close_runtime();
	assert_int_equal(finish(), DAVIT_ECLOSED);
	assert_int_equal(davit_fake_world_objects(rig->world), 1);
}

static void a_platform_that_is_lost_tells_what_was_missed_when_it_is_back(void **state)
{
	struct davit_instance *inst = running(0, "run|5s|never-ready");

	davit_fake_world_set_reachable(rig->world, false);
	run_for(10 * SEC);
	assert_string_equal(rig->told, "lost;");
	rig->rt->driver->stop(inst, &(struct davit_stop){SIGTERM, SEC}, begin(0));
	run_for(SEC);
	assert_true(davit_op_pending(&rig->op));
	davit_fake_world_set_reachable(rig->world, true);
	assert_int_equal(finish(), 0);
	assert_string_equal(rig->told, "lost;exited 1 code 0;regained;done ok;");
}

static void words_that_are_not_known_are_refused_at_create(void **state)
{
	static const char *const bad[] = {"runn|5s",	       "run",	"run|x",	 "signal|9",
					  "signal|0|after|1s", "log",	"log|x|count|0", "oom|after",
					  "exit|256",	       "status"};

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(bad); i++) {
		struct davit_instance *inst = make(0, bad[i]);
		assert_int_equal(create(inst), DAVIT_EINVAL);
		assert_true(*rig->op.error.message);
		assert_int_equal(davit_fake_world_objects(rig->world), 0);
		davit_strv_free(rig->argv[0]);
		davit_strv_free(rig->env[0]);
		rig->argv[0] = rig->env[0] = NULL;
		free(inst);
		rig->inst[0] = NULL;
	}
}

static void words_may_come_by_the_environment(void **state)
{
	struct davit_instance *inst = make(0, "never-ready");

	davit_strv_add(&rig->env[0], "DAVIT_FAKE=run 1s exit 7");
	rig->workload[0].env = rig->env[0];
	assert_int_equal(create(inst), 0);
	assert_int_equal(start(inst), 0);
	run_for(SEC);
	assert_int_equal(rig->exit.code, 7);
}

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

/* --- rules --- */

static void start_it_twice(struct davit_instance *inst)
{
	rig->rt->driver->start(inst, begin(0));
}

static void stop_while_starting(struct davit_instance *inst)
{
	struct davit_op other;

	rig->rt->driver->stop(inst, &(struct davit_stop){SIGTERM, 0}, begin(0));
	finish();
	rig->rt->driver->start(inst, begin(0));
	davit_op_init(&other, rig->loop, on_done, NULL);
	davit_op_begin(&other, 0);
	rig->rt->driver->stop(inst, &(struct davit_stop){SIGTERM, 0}, &other);
}

static void a_strict_world_aborts_when_a_rule_is_broken(void **state)
{
	static void (*const breaks[])(struct davit_instance *) = {start_it_twice, stop_while_starting};
	struct davit_instance *inst = running(0, "never-ready|start-delay|1s");

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(breaks); i++) {
		int status;
		pid_t pid = fork();
		if (pid == 0) {
			signal(SIGABRT, SIG_DFL);
			fclose(stderr);
			breaks[i](inst);
			_exit(0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	}
}

static void a_lenient_world_refuses_instead(void **state)
{
	struct davit_instance *inst = running(0, "never-ready|start-delay|1s");
	struct davit_op other;

	davit_fake_world_set_strict(rig->world, false);
	assert_int_equal(start(inst), 0);
	assert_int_equal(inspect(inst).run, 1);
	assert_int_equal(stop(inst, SEC), 0);
	davit_op_init(&other, rig->loop, on_done, NULL);
	davit_op_begin(&other, 0);
	rig->rt->driver->start(inst, &other);
	assert_int_equal(stop(inst, SEC), DAVIT_ESTATE);
	while (davit_op_pending(&other))
		davit_loop_step(rig->loop);
	assert_int_equal(inspect(inst).state, DAVIT_STATE_STARTED);
}

static void count_event(void *user, const struct davit_fake_event *event)
{
	((int *)user)[event->what]++;
}

static void the_record_has_every_change_once(void **state)
{
	int seen[8] = {0};
	struct davit_instance *inst;

	davit_fake_world_observe(rig->world, count_event, seen);
	inst = running(0, "run|1s|never-ready");
	run_for(SEC);
	assert_int_equal(start(inst), 0);
	assert_int_equal(stop(inst, SEC), 0);
	assert_int_equal(remove_(inst), 0);
	assert_int_equal(seen[DAVIT_FAKE_CREATED], 1);
	assert_int_equal(seen[DAVIT_FAKE_STARTED], 2);
	assert_int_equal(seen[DAVIT_FAKE_EXITED], 2);
	assert_int_equal(seen[DAVIT_FAKE_REMOVED], 1);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(the_table_is_whole),
		T(a_run_ends_when_its_script_says),
		T(signals_and_oom_come_as_themselves),
		T(readiness_and_status_come_in_their_time),
		T(a_stop_ends_it_by_the_signal_and_completes_after),
		T(one_that_ignores_the_stop_is_killed_after_the_grace),
		T(a_cancelled_stop_kills_at_once),
		T(operations_fail_as_often_as_they_are_told_to),
		T(a_deadline_undoes_an_operation_that_takes_too_long),
		T(a_vanished_object_is_told_and_is_gone),
		T(a_liar_passes_for_running_until_its_exit_is_told),
		T(a_liar_that_is_stopped_tells_first),
		T(what_survives_a_close_is_found_with_run_and_pid),
		T(an_end_while_nobody_looked_is_found_and_not_told_again),
		T(an_operation_under_way_at_close_ends_as_closed),
		T(a_platform_that_is_lost_tells_what_was_missed_when_it_is_back),
		T(words_that_are_not_known_are_refused_at_create),
		T(words_may_come_by_the_environment),
		T(logs_are_read_whole_by_tail_and_by_cursor),
		T(a_follower_gets_what_is_written_later_and_may_pause_and_close),
		T(a_log_is_bounded_and_outlives_its_object),
		T(commands_inside_echo_read_and_exit),
		T(stats_grow_with_the_run_and_keep_to_the_limit),
		T(signals_end_it_unless_they_are_harmless_or_ignored),
		T(ports_are_given_out_once_and_refused_when_taken),
		T(a_strict_world_aborts_when_a_rule_is_broken),
		T(a_lenient_world_refuses_instead),
		T(the_record_has_every_change_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
