/* SPDX-License-Identifier: MIT
 *
 * The driver's table.
 */
#include "runtime/process/impl.h"
#include "runtime/process/process.h"

static const struct local_ops ops = {
	.check = process_check,
	.build_spawn = process_build_spawn,
	.build_exec = process_build_exec,
	.build_terminal = process_build_terminal,
	.prepare = process_confine_prepare,
	.cleanup = process_confine_cleanup,
	.leftovers = process_confine_leftovers,
	.describe = process_confine_describe,
	.translates_ports = process_confine_translates_ports,
};

static void open_runtime(struct davit_runtime *rt, struct davit_op *op)
{
	local_open(rt, &ops, op);
}

static void adopt(struct davit_runtime *rt, struct davit_op *op)
{
	process_confine_open(davit_runtime_state(rt));
	local_adopt(rt, op);
}

static void close_runtime(struct davit_runtime *rt)
{
	process_confine_close(davit_runtime_state(rt)); /* while there is still what its jobs' ends name */
	local_close(rt);
}

static void check(struct davit_runtime *rt, const struct davit_workload *w, struct davit_op *op)
{
	struct davit_error err;

	if (process_check(local_runtime_of(rt), w, false, &err) < 0)
		davit_op_fail_error(op, &err);
	else
		davit_op_complete(op, 0);
}

static int ports_resolve(struct davit_runtime *rt, struct davit_port *ports, size_t n,
			 struct davit_error *err)
{
	return local_ports_resolve(&local_runtime_of(rt)->ports, rt->loop, ports, n, err);
}

static const struct davit_signal_facet signals = {.send = local_signal};
static const struct davit_ports_facet ports = {.resolve = ports_resolve};

const struct davit_runtime_driver davit_process_driver = {
	.abi = DAVIT_RUNTIME_ABI,
	.name = "process",
	.summary = "programs of this host as plain processes",
	.runtime_size = sizeof(struct process_runtime),
	.instance_size = sizeof(struct local_instance),
	.open = open_runtime,
	.close = close_runtime,
	.capabilities = process_capabilities,
	.adopt = adopt,
	.check = check,
	.create = local_create,
	.start = local_start,
	.stop = local_stop,
	.remove = local_remove,
	.inspect = local_inspect,
	.logs = &local_logs,
	.exec = &local_exec,
	.stats = &local_stats,
	.signal = &signals,
	.ports = &ports,
	.terminal = &local_terminal,
	.pause = &local_pause,
};
