/* SPDX-License-Identifier: MIT
 *
 * Opening and closing a local runtime.
 */
#include "local/local.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static void release(struct local_runtime *p)
{
	struct davit_map strangers = p->strangers;
	size_t pos = 0;
	void *value;

	local_logs_close_all(p);
	local_execs_close_all(p);
	local_terminals_fini(&p->terminals);
	/* Each detach removes the entry that was just returned, which is allowed. */
	while (davit_map_next(&p->instances, &pos, NULL, &value))
		local_instance_detach(value);
	davit_map_fini(&p->instances);
	local_keepers_close(p);
	local_sweep_fini(p);
	local_ports_fini(&p->ports);
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
	*p = (struct local_runtime){0};
}

/* An attempt that failed leaves nothing: the core may try again with zeroed state. */
static void on_open_failed(struct davit_deferred *d)
{
	struct local_runtime *p = DAVIT_CONTAINER_OF(d, struct local_runtime, open_failed);
	struct davit_op *op = DAVIT_TAKE(p->open_op);
	struct davit_error err = p->open_error;

	release(p);
	if (op)
		davit_op_fail_error(op, &err);
}

static void cancel_open(struct davit_op *op, int why)
{
	struct local_runtime *p = op->performer;

	p->open_op = NULL;
	davit_op_fail(op, why, p->rt->name, "the keeper of local processes did not answer in time");
	release(p);
}

static int prepare(struct local_runtime *p, struct davit_error *err)
{
	struct davit_runtime *rt = p->rt;
	int r;

	if (!davit_loop_uv(rt->loop))
		return davit_error_set(err, DAVIT_ENOTSUP, p->rt->name, "real processes need a real loop");
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
		return davit_error_errno(err, errno, p->rt->name, "cannot open %s", rt->run_dir);
	local_sweep_init(p);
	r = cgroups_open(&p->cgroups, rt->run_dir, err);
	if (!r && p->ops->grouped)
		r = p->ops->grouped(p, err);
	return r < 0 ? r : local_keepers_open(p, err);
}

void local_open(struct davit_runtime *rt, const struct local_ops *ops, struct davit_op *op)
{
	struct local_runtime *p = local_runtime_of(rt);
	struct davit_error err = {0};

	p->rt = rt;
	p->ops = ops;
	davit_list_init(&p->log_streams);
	davit_list_init(&p->execs);
	local_terminals_init(&p->terminals, rt, &local_terminals_ops, &p->packet);
	davit_deferred_init(&p->open_failed, rt->loop, on_open_failed);
	if (prepare(p, &err) < 0) {
		release(p);
		davit_op_fail_error(op, &err);
		return;
	}
	if (!p->n_keepers) {
		davit_op_complete(op, 0);
		return;
	}
	p->open_op = op;
	op->performer = p;
	davit_op_on_cancel(op, cancel_open);
}

void local_close(struct davit_runtime *rt)
{
	struct local_runtime *p = local_runtime_of(rt);

	if (!p->rt)
		return;
	if (p->open_op)
		davit_op_fail(DAVIT_TAKE(p->open_op), DAVIT_ECLOSED, p->rt->name, "the runtime was closed");
	if (p->adopt_op)
		davit_op_fail(DAVIT_TAKE(p->adopt_op), DAVIT_ECLOSED, p->rt->name, "the runtime was closed");
	release(p);
}

static void cancel_adopt(struct davit_op *op, int why)
{
	struct local_runtime *p = op->performer;

	p->adopt_op = NULL;
	davit_op_fail(op, why, p->rt->name, "the keeper of local processes did not answer in time");
}

void local_adopt(struct davit_runtime *rt, struct davit_op *op)
{
	struct local_runtime *p = local_runtime_of(rt);

	p->adopt_op = op;
	op->performer = p;
	davit_op_on_cancel(op, cancel_adopt);
	local_keepers_adopt(p);
}
