/* SPDX-License-Identifier: MIT
 *
 * The smaller facets: signals, pause, ports, terminals, stats.
 */
#include "runtime/engine/impl.h"

#include "base/file.h"
#include "base/strv.h"

#include <string.h>

/* A task on an instance that must run; NULL, and the op failed, otherwise. */
static struct task *task_on_running(struct davit_instance *inst, struct davit_op *op)
{
	struct engine_instance *ei = engine_instance(inst);

	if (!ei->inst || ei->state != DAVIT_STATE_STARTED) {
		davit_op_fail(op, DAVIT_ESTATE, inst->runtime->name, "the instance does not run");
		return NULL;
	}
	return task_new(engine_of(inst->runtime), op, inst);
}

/* It may have ended since. */
static void signalled(struct task *t, struct http_call *c, const struct davit_error *err)
{
	if (err && err->code != DAVIT_EUNAVAIL && strstr(err->message, "running"))
		task_fail(t, DAVIT_ESTATE, "the instance does not run");
	else
		task_end(t, err);
}

static void signal_send(struct davit_instance *inst, int signo, struct davit_op *op)
{
	struct task *t = task_on_running(inst, op);

	if (t)
		task_call(t,
			  http_new(&t->e->calls, "POST", "/containers/%s/kill?signal=%d",
				   engine_instance(inst)->container, signo),
			  signalled);
}

const struct davit_signal_facet engine_signal = {.send = signal_send};

/* --- pause --- */

static void set_frozen(struct task *t, const struct davit_error *err, bool frozen)
{
	struct davit_instance *inst = t->inst;

	if (!err)
		engine_instance(inst)->paused = frozen;
	task_end(t, err);
	if (err)
		container_look(inst);
}

static void frozen(struct task *t, struct http_call *c, const struct davit_error *err)
{
	set_frozen(t, err, true);
}

static void thawed(struct task *t, struct http_call *c, const struct davit_error *err)
{
	set_frozen(t, err, false);
}

static void pause_pause(struct davit_instance *inst, struct davit_op *op)
{
	struct engine_instance *ei = engine_instance(inst);
	struct task *t = task_on_running(inst, op);

	if (t && ei->paused)
		task_end(t, NULL);
	else if (t)
		task_call(t, http_new(&t->e->calls, "POST", "/containers/%s/pause", ei->container), frozen);
}

static void pause_unpause(struct davit_instance *inst, struct davit_op *op)
{
	struct engine_instance *ei = engine_instance(inst);
	struct task *t = task_on_running(inst, op);

	if (t && !ei->paused)
		task_end(t, NULL);
	else if (t)
		task_call(t, http_new(&t->e->calls, "POST", "/containers/%s/unpause", ei->container), thawed);
}

const struct davit_pause_facet engine_pause = {.pause = pause_pause, .unpause = pause_unpause};

/* --- ports --- */

static int ports_resolve(struct davit_runtime *rt, struct davit_port *ports, size_t n,
			 struct davit_error *err)
{
	DAVIT_AUTO_FREE struct davit_port *hosts = calloc(n + 1, sizeof *hosts);
	int r;

	if (!hosts)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	/* What is shared maps nothing; an engine does, so the host's side alone counts. */
	for (size_t i = 0; i < n; i++) {
		hosts[i] = ports[i];
		hosts[i].container = 0;
	}
	r = local_ports_resolve(&engine_of(rt)->ports, rt->loop, hosts, n, err);
	for (size_t i = 0; r == 0 && i < n; i++)
		ports[i].host = hosts[i].host;
	return r;
}

const struct davit_ports_facet engine_ports = {.resolve = ports_resolve};

/* --- terminals ---
 * In a keeper, where davit-engine-terminal holds the other end: see terminal/README.md. */

static int out_of_memory(struct davit_error *err)
{
	return davit_error_set(err, DAVIT_ENOMEM, "terminal", "out of memory");
}

/* What is for the command is marked, so that the helper heeds none of it. */
static int mark(char *const *env, char ***ret)
{
	for (; env && *env; env++) {
		DAVIT_AUTO_BUF b = DAVIT_BUF_INIT;

		davit_buf_addf(&b, "+%s", *env);
		if (b.oom || davit_strv_add(ret, davit_buf_str(&b)) < 0)
			return DAVIT_ENOMEM;
	}
	return 0;
}

static int build_terminal(struct local_terminals *ts, const struct davit_terminal *t, struct davit_error *err)
{
	const struct engine *e = engine_of(ts->rt);
	DAVIT_AUTO_FREE char *helper = davit_path_join(ts->rt->libexec_dir, "davit-engine-terminal");
	const char *const first[] = {helper ? helper : "",
				     e->socket,
				     e->calls.prefix,
				     engine_instance(t->instance)->container,
				     t->user ? t->user : "",
				     t->directory ? t->directory : ""};
	DAVIT_AUTO_STRV argv = NULL;
	DAVIT_AUTO_STRV env = NULL;
	int r = helper ? mark(t->env, &env) : DAVIT_ENOMEM;

	for (size_t i = 0; r == 0 && i < DAVIT_ARRAY_SIZE(first); i++)
		r = davit_strv_add(&argv, first[i]);
	for (char *const *w = t->argv; r == 0 && *w; w++)
		r = davit_strv_add(&argv, *w);
	if (r < 0)
		return out_of_memory(err);
	r = local_terminal_build(ts->packet, helper, argv, env, "/", err);
	if (r == 0)
		((struct keeper_terminal *)(void *)ts->packet->data)->h.flags = KEEPER_FLAG_RAW;
	return r;
}

int terminals_open(struct engine *e, struct davit_error *err)
{
	return local_terminal_keeper_open(&e->terminals, e->rt, build_terminal, err);
}

/* The operation goes on to the keeper. */
static void open_found(struct task *t)
{
	struct davit_terminal *terminal = t->ret;
	struct davit_op *op = DAVIT_TAKE(t->op);
	struct engine *e = t->e;

	task_end(t, NULL);
	davit_op_on_cancel(op, NULL);
	local_terminals_open(&e->terminals.set, terminal, op);
}

static void terminal_open(struct davit_terminal *terminal, struct davit_op *op)
{
	struct task *t;

	memset(terminal + 1, 0, LOCAL_TERMINAL_SIZE); /* it may fail before the keeper's part */
	t = task_on_running(terminal->instance, op);
	if (!t)
		return;
	t->ret = terminal;
	program_find(t, terminal->argv[0], open_found);
}

static void terminal_attach(struct davit_terminal *terminal, struct davit_op *op)
{
	local_terminals_attach(&engine_of(terminal->instance->runtime)->terminals.set, terminal, op);
}

static void terminal_list(struct davit_runtime *rt, struct davit_instance *inst,
			  void (*each)(void *user, const struct davit_terminal_info *info), void *user,
			  struct davit_op *op)
{
	local_terminals_list(&engine_of(rt)->terminals.set, inst, each, user, op);
}

static void terminal_close(struct davit_runtime *rt, const char *id, struct davit_op *op)
{
	local_terminals_close(&engine_of(rt)->terminals.set, id, op);
}

const struct davit_terminal_facet engine_terminal = {
	.terminal_size = LOCAL_TERMINAL_SIZE,
	.open = terminal_open,
	.attach = terminal_attach,
	.list = terminal_list,
	.write = local_terminal_write,
	.resume = local_terminal_resume,
	.resize = local_terminal_resize,
	.signal = local_terminal_signal,
	.detach = local_terminal_detach,
	.close = terminal_close,
};

/* --- stats --- */

static void stats_answered(struct task *t, struct http_call *c, const struct davit_error *err)
{
	/* As reals: an unsigned number that has wrapped is too big for an integer. */
	json_t *o =
		err ? NULL : json_loadb(davit_buf_str(&c->body), c->body.len, JSON_DECODE_INT_AS_REAL, NULL);

	if (err && err->code == DAVIT_ENOENT)
		task_fail(t, DAVIT_ESTATE, "the instance does not run");
	else if (err)
		task_end(t, err);
	else if (!json_is_object(o))
		task_fail(t, DAVIT_EPROTO, "the engine's statistics make no sense");
	else if (engine_instance(t->inst)->state != DAVIT_STATE_STARTED)
		task_fail(t, DAVIT_ESTATE, "the instance does not run");
	else {
		observe_stats(o, t->ret);
		if (!t->inst->workload->memory) /* the host's memory then */
			((struct davit_stats *)t->ret)->memory_limit = 0;
		task_end(t, NULL);
	}
	json_decref(o);
}

static void stats_read(struct davit_instance *inst, struct davit_stats *ret, struct davit_op *op)
{
	struct task *t = task_on_running(inst, op);

	if (!t)
		return;
	t->ret = ret;
	/* one-shot: without it the engine measures for a second. Docker collects once a
	 * second for all that ask: so they do not wait for each other here. */
	task_call(t,
		  http_new(&t->e->streams, "GET", "/containers/%s/stats?stream=0&one-shot=1",
			   engine_instance(inst)->container),
		  stats_answered);
}

const struct davit_stats_facet engine_stats = {.read = stats_read};
