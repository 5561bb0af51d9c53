/* SPDX-License-Identifier: MIT
 *
 * The driver's table, and opening and closing the runtime.
 */
#include "runtime/process/impl.h"
#include "runtime/process/process.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static void release(struct process_runtime *p)
{
	struct davit_map strangers = p->strangers;
	size_t pos = 0;
	void *value;

	process_logs_close_all(p);
	process_execs_close_all(p);
	/* Each detach removes the entry that was just returned, which is allowed. */
	while (davit_map_next(&p->instances, &pos, NULL, &value))
		process_instance_detach(value);
	davit_map_fini(&p->instances);
	process_keepers_close(p);
	process_sweep_fini(p);
	process_ports_fini(&p->ports);
	pos = 0;
	while (davit_map_next(&strangers, &pos, NULL, &value))
		free(value);
	davit_map_fini(&strangers);
	cgroups_fini(&p->cgroups);
	davit_buf_fini(&p->packet);
	free(p->program);
	davit_deferred_cancel(&p->open_failed);
	if (p->place.run_fd > 0)
		close(p->place.run_fd);
	*p = (struct process_runtime){0};
}

/* An attempt that failed leaves nothing: the core may try again with zeroed state. */
static void on_open_failed(struct davit_deferred *d)
{
	struct process_runtime *p = DAVIT_CONTAINER_OF(d, struct process_runtime, open_failed);
	struct davit_op *op = DAVIT_TAKE(p->open_op);
	struct davit_error err = p->open_error;

	release(p);
	if (op)
		davit_op_fail_error(op, &err);
}

static void cancel_open(struct davit_op *op, int why)
{
	struct process_runtime *p = op->performer;

	p->open_op = NULL;
	release(p);
	davit_op_fail(op, why, "process", "the keeper of local processes did not answer in time");
}

static int prepare(struct process_runtime *p, struct davit_error *err)
{
	struct davit_runtime *rt = p->rt;
	int r;

	if (!davit_loop_uv(rt->loop))
		return davit_error_set(err, DAVIT_ENOTSUP, "process", "real processes need a real loop");
	p->program = davit_path_join(rt->libexec_dir, "davit-keeper");
	if (!p->program)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	r = davit_mkdirs(rt->run_dir, 0700, err);
	if (!r)
		r = davit_mkdirs(rt->log_dir, 0700, err);
	if (r < 0)
		return r;
	p->place = (struct keeper_place){
		.loop = rt->loop,
		.run_dir = rt->run_dir,
		.program = p->program,
		.run_fd = open(rt->run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
	};
	if (p->place.run_fd < 0)
		return davit_error_errno(err, errno, "process", "cannot open %s", rt->run_dir);
	process_sweep_init(p);
	r = cgroups_open(&p->cgroups, rt->run_dir, err);
	return r < 0 ? r : process_keepers_open(p, err);
}

static void process_open(struct davit_runtime *rt, struct davit_op *op)
{
	struct process_runtime *p = process_runtime_of(rt);
	struct davit_error err = {0};

	p->rt = rt;
	davit_list_init(&p->log_streams);
	davit_list_init(&p->execs);
	davit_deferred_init(&p->open_failed, rt->loop, on_open_failed);
	if (prepare(p, &err) < 0) {
		release(p);
		davit_op_fail_error(op, &err);
		return;
	}
	p->open_op = op;
	op->performer = p;
	davit_op_on_cancel(op, cancel_open);
}

static void process_close(struct davit_runtime *rt)
{
	struct process_runtime *p = process_runtime_of(rt);

	if (!p->rt)
		return;
	if (p->open_op)
		davit_op_fail(DAVIT_TAKE(p->open_op), DAVIT_ECLOSED, "process", "the runtime was closed");
	if (p->adopt_op)
		davit_op_fail(DAVIT_TAKE(p->adopt_op), DAVIT_ECLOSED, "process", "the runtime was closed");
	release(p);
}

static void cancel_adopt(struct davit_op *op, int why)
{
	struct process_runtime *p = op->performer;

	p->adopt_op = NULL;
	davit_op_fail(op, why, "process", "the keeper of local processes did not answer in time");
}

static void process_adopt(struct davit_runtime *rt, struct davit_op *op)
{
	struct process_runtime *p = process_runtime_of(rt);

	p->adopt_op = op;
	op->performer = p;
	davit_op_on_cancel(op, cancel_adopt);
	process_keepers_adopt(p);
}

static void check(struct davit_runtime *rt, const struct davit_workload *w, struct davit_op *op)
{
	struct davit_error err;

	if (process_check(process_runtime_of(rt), w, &err) < 0)
		davit_op_fail_error(op, &err);
	else
		davit_op_complete(op, 0);
}

static int ports_resolve(struct davit_runtime *rt, struct davit_port *ports, size_t n,
			 struct davit_error *err)
{
	return process_ports_resolve(&process_runtime_of(rt)->ports, rt->loop, ports, n, err);
}

static const struct davit_signal_facet signals = {.send = process_signal};
static const struct davit_ports_facet ports = {.resolve = ports_resolve};

const struct davit_runtime_driver davit_process_driver = {
	.abi = DAVIT_RUNTIME_ABI,
	.name = "process",
	.summary = "programs of this host as plain processes",
	.runtime_size = sizeof(struct process_runtime),
	.instance_size = sizeof(struct process_instance),
	.open = process_open,
	.close = process_close,
	.capabilities = process_capabilities,
	.adopt = process_adopt,
	.check = check,
	.create = process_create,
	.start = process_start,
	.stop = process_stop,
	.remove = process_remove,
	.inspect = process_inspect,
	.logs = &process_logs,
	.exec = &process_exec,
	.stats = &process_stats,
	.signal = &signals,
	.ports = &ports,
};
