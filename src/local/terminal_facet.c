/* SPDX-License-Identifier: MIT
 *
 * The terminal facet of runtimes whose instances the keeper holds.
 */
#include "local/local.h"
#include "local/terminal.h"

static struct keeper_client *nth(struct local_terminals *ts, size_t n)
{
	struct local_runtime *p = local_runtime_of(ts->rt);

	return n < p->n_keepers ? &p->keepers[n]->client : NULL;
}

static struct keeper_client *keeper_of(struct local_terminals *ts, struct davit_instance *inst, bool opens,
				       struct davit_error *err)
{
	struct local_instance *pi = local_instance_of(inst);

	bool frozen = opens && (pi->paused || pi->pausing);

	if (pi->inst && pi->state != DAVIT_STATE_DESTROYED && !frozen &&
	    (!opens || pi->state == DAVIT_STATE_STARTED))
		return &pi->keeper->client;
	davit_error_set(err, opens ? DAVIT_ESTATE : DAVIT_ENOENT, ts->rt->name,
			frozen	? "the instance is paused"
			: opens ? "the instance does not run"
				: "the instance is not there");
	return NULL;
}

static int build(struct local_terminals *ts, const struct davit_terminal *t, struct davit_error *err)
{
	return local_runtime_of(ts->rt)->ops->build_terminal(local_instance_of(t->instance), t, err);
}

const struct local_terminals_ops local_terminals_ops = {
	.keeper = nth,
	.keeper_of = keeper_of,
	.build = build,
	.beside = true,
};

static void terminal_open(struct davit_terminal *t, struct davit_op *op)
{
	local_terminals_open(&local_runtime_of(t->instance->runtime)->terminals, t, op);
}

static void terminal_attach(struct davit_terminal *t, struct davit_op *op)
{
	local_terminals_attach(&local_runtime_of(t->instance->runtime)->terminals, t, op);
}

static void terminal_list(struct davit_runtime *rt, struct davit_instance *inst,
			  void (*each)(void *user, const struct davit_terminal_info *info), void *user,
			  struct davit_op *op)
{
	local_terminals_list(&local_runtime_of(rt)->terminals, inst, each, user, op);
}

static void terminal_close(struct davit_runtime *rt, const char *id, struct davit_op *op)
{
	local_terminals_close(&local_runtime_of(rt)->terminals, id, op);
}

const struct davit_terminal_facet local_terminal = {
	LOCAL_TERMINAL_SLOTS,  .open = terminal_open,	.attach = terminal_attach,
	.list = terminal_list, .close = terminal_close,
};
