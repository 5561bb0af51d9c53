/* SPDX-License-Identifier: MIT */
#include "runtime/process/testing.h"

#include "base/file.h"
#include "base/units.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

struct davit_error last_error;

static struct world *world_of(struct davit_runtime *rt)
{
	return rt->owner;
}

static struct guest *guest_of(struct davit_instance *inst)
{
	return inst->owner;
}

/* ----------------------------------------------------------------------- events */

static struct davit_instance *make_instance(struct world *w, struct guest *g)
{
	struct davit_instance *inst = calloc(1, sizeof *inst + davit_process_driver.instance_size);

	assert_non_null(inst);
	inst->runtime = w->rt;
	inst->workload = &g->w;
	inst->owner = g;
	return inst;
}

static struct davit_instance *on_found(struct davit_runtime *rt, const struct davit_found *f)
{
	struct world *w = world_of(rt);

	for (size_t i = 0; i < w->n_guests; i++) {
		struct guest *g = &w->guests[i];

		if (strcmp(g->w.id, f->id))
			continue;
		assert_string_equal(f->label, g->w.label);
		g->found = f->now;
		g->inst = make_instance(w, g);
		return g->inst;
	}
	return NULL;
}

static void on_ready(struct davit_instance *inst)
{
	guest_of(inst)->readies++;
}

static void on_status(struct davit_instance *inst, const char *text)
{
	snprintf(guest_of(inst)->status, sizeof guest_of(inst)->status, "%s", text);
}

static void on_exited(struct davit_instance *inst, uint32_t run, const struct davit_exit *exit)
{
	struct guest *g = guest_of(inst);

	assert_true(run > g->exit_run);
	g->exits++;
	g->exit_run = run;
	g->exit = *exit;
}

static void on_vanished(struct davit_instance *inst, const char *reason)
{
	assert_true(strlen(reason) > 0);
	guest_of(inst)->vanished++;
}

static void on_lost(struct davit_runtime *rt, const struct davit_error *why)
{
	assert_true(why->code < 0);
	world_of(rt)->lost++;
}

static void on_regained(struct davit_runtime *rt)
{
	world_of(rt)->regained++;
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

/* ------------------------------------------------------------------------- loop */

static void on_tick(struct davit_timer *t)
{
	davit_loop_stop(t->loop);
}

void turn(struct world *w, int ms)
{
	struct davit_timer t;

	davit_timer_init(&t, w->loop, on_tick);
	davit_timer_start(&t, ms * DAVIT_NSEC_PER_MSEC);
	davit_loop_run(w->loop);
	davit_timer_stop(&t);
}

struct wait {
	struct davit_op op;
	struct davit_loop *loop;
	bool done;
	int result;
};

static void on_done(struct davit_op *op, int result)
{
	struct wait *wait = op->user;

	wait->done = true;
	wait->result = result;
	last_error = op->error;
	davit_loop_stop(wait->loop);
}

static void wait_begin(struct wait *wait, struct davit_loop *loop)
{
	*wait = (struct wait){.loop = loop};
	davit_op_init(&wait->op, loop, on_done, wait);
	davit_op_begin(&wait->op, 60 * DAVIT_NSEC_PER_SEC);
}

static int wait_end(struct wait *wait)
{
	while (!wait->done)
		davit_loop_run(wait->loop);
	return wait->result;
}

/* ------------------------------------------------------------------------ world */

void world_open(struct world *w)
{
	struct wait wait;

	w->rt = calloc(1, sizeof *w->rt + davit_process_driver.runtime_size);
	assert_non_null(w->rt);
	*w->rt = (struct davit_runtime){
		.driver = &davit_process_driver,
		.loop = w->loop,
		.events = &events,
		.owner = w,
		.name = "process",
		.state_dir = w->dir,
		.run_dir = w->run,
		.log_dir = w->log,
		.libexec_dir = w->libexec,
	};
	wait_begin(&wait, w->loop);
	davit_process_driver.open(w->rt, &wait.op);
	if (wait_end(&wait) < 0)
		fail_msg("open: %s", last_error.message);
	wait_begin(&wait, w->loop);
	davit_process_driver.adopt(w->rt, &wait.op);
	if (wait_end(&wait) < 0)
		fail_msg("adopt: %s", last_error.message);
	w->keeper = local_runtime_of(w->rt)->keepers[0]->client.pid;
}

void world_close(struct world *w)
{
	davit_process_driver.close(w->rt);
	for (size_t i = 0; i < w->n_guests; i++) {
		free(w->guests[i].inst);
		w->guests[i].inst = NULL;
	}
	free(w->rt);
	w->rt = NULL;
}

int world_setup(void **state)
{
	struct world *w = calloc(1, sizeof *w);
	char exe[400];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);

	assert_non_null(w);
	assert_true(n > 0);
	exe[n] = '\0';
	snprintf(w->libexec, sizeof w->libexec, "%s", dirname(exe));
	snprintf(w->dir, sizeof w->dir, "/tmp/davit-process-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	snprintf(w->run, sizeof w->run, "%s/run", w->dir);
	snprintf(w->log, sizeof w->log, "%s/log", w->dir);
	assert_int_equal(davit_loop_open(&w->loop, NULL), 0);
	world_open(w);
	*state = w;
	return 0;
}

int world_teardown(void **state)
{
	struct world *w = *state;
	struct local_runtime *p = local_runtime_of(w->rt);

	for (size_t i = 0; i < w->n_guests; i++) {
		struct guest *g = &w->guests[i];

		if (!g->inst)
			continue;
		assert_int_equal(guest_stop(g, 0), 0);
		assert_int_equal(guest_remove(g), 0);
	}
	WAIT_FOR(w, p->sweep.n == 0);
	world_close(w);
	WAIT_FOR(w, !alive(w->keeper));
	davit_loop_close(w->loop);
	assert_int_equal(davit_remove_tree(w->dir, NULL), 0);
	free(w);
	return 0;
}

/* ----------------------------------------------------------------------- guests */

static char *default_env[] = {(char[]){"PATH=/usr/bin:/bin"}, NULL};

struct guest *world_guest(struct world *w, const char *script)
{
	struct guest *g = &w->guests[w->n_guests];

	assert_true(w->n_guests < INSTANCES_MAX);
	memset(g, 0, sizeof *g);
	snprintf(g->w.id, sizeof g->w.id, "%016zx", 0xd00d0000 + w->n_guests++);
	g->argv[0] = (char *)(uintptr_t) "sh";
	g->argv[1] = (char *)(uintptr_t) "-c";
	g->argv[2] = (char *)(uintptr_t)script;
	g->w.namespace_ = g->w.name = g->w.version = (char *)(uintptr_t) "guest";
	g->w.label = (char *)(uintptr_t) "a label of the test";
	g->w.argv = g->argv;
	g->w.env = default_env;
	g->w.umask = 022;
	g->inst = make_instance(w, g);
	return g;
}

static struct wait guest_wait;

static struct davit_op *begin(struct guest *g)
{
	wait_begin(&guest_wait, g->inst->runtime->loop);
	return &guest_wait.op;
}

int guest_create(struct guest *g)
{
	davit_process_driver.create(g->inst, begin(g));
	return wait_end(&guest_wait);
}

int guest_start(struct guest *g)
{
	davit_process_driver.start(g->inst, begin(g));
	return wait_end(&guest_wait);
}

int guest_stop(struct guest *g, int64_t grace_ms)
{
	struct davit_stop how = {.signal = SIGTERM, .grace_ns = grace_ms * DAVIT_NSEC_PER_MSEC};

	davit_process_driver.stop(g->inst, &how, begin(g));
	return wait_end(&guest_wait);
}

int guest_remove(struct guest *g)
{
	davit_process_driver.remove(g->inst, begin(g));
	return wait_end(&guest_wait);
}

int guest_signal(struct guest *g, int signo)
{
	davit_process_driver.signal->send(g->inst, signo, begin(g));
	return wait_end(&guest_wait);
}

struct davit_inspection guest_inspect(struct guest *g)
{
	struct davit_inspection in = {0};

	davit_process_driver.inspect(g->inst, &in, begin(g));
	assert_int_equal(wait_end(&guest_wait), 0);
	return in;
}

struct davit_stats guest_stats(struct guest *g)
{
	struct davit_stats st = {0};

	davit_process_driver.stats->read(g->inst, &st, begin(g));
	assert_int_equal(wait_end(&guest_wait), 0);
	return st;
}

void guest_run(struct guest *g)
{
	if (guest_create(g) < 0 || guest_start(g) < 0)
		fail_msg("%s", last_error.message);
}

/* ------------------------------------------------------------------------- logs */

struct log_wait {
	struct davit_buf text;
	bool done;
};

static bool on_line(struct davit_log_reader *r, const struct davit_log_line *line)
{
	struct log_wait *l = r->owner;

	davit_buf_addf(&l->text, "%s %.*s\n", line->stream == DAVIT_STDERR ? "stderr" : "stdout",
		       (int)line->len, line->text);
	return true;
}

static void on_end(struct davit_log_reader *r, int code, const struct davit_error *err)
{
	struct log_wait *l = r->owner;

	(void)err;
	assert_int_equal(code, 0);
	l->done = true;
	davit_loop_stop(r->instance->runtime->loop);
}

char *guest_log(struct guest *g, int64_t tail)
{
	const struct davit_logs_facet *logs = davit_process_driver.logs;
	struct davit_log_reader *r = calloc(1, sizeof *r + logs->reader_size);
	struct log_wait l = {0};

	assert_non_null(r);
	r->instance = g->inst;
	r->query.tail = tail;
	r->owner = &l;
	r->line = on_line;
	r->end = on_end;
	assert_int_equal(logs->open(r, NULL), 0);
	while (!l.done)
		davit_loop_run(g->inst->runtime->loop);
	logs->close(r);
	free(r);
	if (!l.text.data)
		davit_buf_adds(&l.text, "");
	return l.text.data ? davit_buf_take(&l.text) : strdup("");
}

bool alive(pid_t pid)
{
	char path[64], buf[512], *p;
	DAVIT_AUTO_CLOSE int fd = -1;
	ssize_t n;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, buf, sizeof buf - 1);
	if (n <= 0)
		return false;
	buf[n] = '\0';
	p = strrchr(buf, ')');
	return p && p[2] != 'Z' && p[2] != 'X';
}

long number_in(const char *path)
{
	FILE *f = fopen(path, "re");
	long v = -1;

	if (f && fscanf(f, "%ld", &v) != 1)
		v = -1;
	if (f)
		fclose(f);
	return v;
}

void world_need(struct world *w, enum davit_capability cap)
{
	struct davit_capabilities c;

	for (int i = 0; i < DAVIT_CAP_COUNT; i++)
		snprintf(c.why_not[i], sizeof c.why_not[i], "not implemented");
	davit_process_driver.capabilities(w->rt, &c);
	if (davit_can(&c, cap))
		return;
	print_message("skipped: %s\n", c.why_not[cap]);
	skip();
}
