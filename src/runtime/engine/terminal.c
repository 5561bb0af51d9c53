/* SPDX-License-Identifier: MIT
 *
 * Terminals: in a keeper, where davit-engine-terminal (terminal/README.md) stands
 * between its terminal and the command's.
 */
#include "runtime/engine/impl.h"

#include "base/file.h"
#include "base/strv.h"

#include <string.h>

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
	const char *const first[] = {helper ? helper : "",   e->socket,
				     e->calls.prefix,	     engine_instance(t->instance)->container,
				     t->user ? t->user : "", t->directory ? t->directory : ""};
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
	LOCAL_TERMINAL_SLOTS,  .open = terminal_open,	.attach = terminal_attach,
	.list = terminal_list, .close = terminal_close,
};
