/* SPDX-License-Identifier: MIT
 *
 * The driver's table, thrice, and the life of an instance around that which
 * src/local does.
 */
#include "runtime/oci/impl.h"
#include "runtime/oci/oci.h"

#include "base/file.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

/* --- making and taking away --- */

static void make_in_thread(struct oci_job *j)
{
	oci_bundle_make(j->place, j->workload, &j->err);
}

static void made(struct oci_job *j)
{
	struct local_instance *pi = davit_map_get(&j->o->local.instances, j->id);

	if (pi && pi->preparing)
		local_prepared(pi, &j->err);
}

static void prepare(struct local_instance *pi)
{
	struct oci_runtime *o = oci_runtime_of(local_runtime_of(pi->inst->runtime));
	struct oci_job *j = oci_job_new(o, pi->id);
	struct davit_error err = {0};

	if (j)
		j->workload = local_workload_copy(pi->inst->workload);
	if (!j || !j->workload) {
		if (j)
			oci_job_free(j);
		davit_error_set(&err, DAVIT_ENOMEM, "oci", "out of memory");
		local_prepared(pi, &err);
		return;
	}
	j->run = make_in_thread;
	j->done = made;
	oci_job_start(j);
}

static void remove_in_thread(struct oci_job *j)
{
	oci_bundle_remove(j->place, j->id, &j->err);
}

static void removed(struct oci_job *j)
{
	struct davit_op *op = DAVIT_TAKE(j->op);
	const struct davit_error *err = j->why.code ? &j->why : &j->err;

	local_sweep_add(&j->o->local, j->id); /* runc's groups beneath ours are gone now */
	if (!op)
		return;
	if (err->code)
		davit_op_fail_error(op, err);
	else
		davit_op_complete(op, 0);
}

static void cleanup(struct local_runtime *p, const char *id, struct davit_op *op,
		    const struct davit_error *err)
{
	struct oci_job *j = oci_job_new(oci_runtime_of(p), id);

	if (!j) {
		if (op)
			davit_op_fail(op, DAVIT_ENOMEM, p->rt->name, "out of memory");
		return; /* the next open finds it */
	}
	j->run = remove_in_thread;
	j->done = removed;
	j->op = op;
	if (err)
		j->why = *err;
	oci_job_start(j);
}

/* --- between two runs --- */

static void forget_in_thread(struct oci_job *j)
{
	oci_containers_delete(j->place, j->id, &j->err);
}

static void forgotten(struct oci_job *j)
{
	struct local_instance *pi = davit_map_get(&j->o->local.instances, j->id);
	struct oci_instance *oi = pi ? oci_instance_of(pi) : NULL;
	struct davit_op *op;

	if (!oi || !oi->settling)
		return;
	oi->settling = false;
	op = DAVIT_TAKE(oi->start);
	if (op && j->err.code)
		davit_op_fail_error(op, &j->err);
	else if (op)
		local_start(pi->inst, op);
}

/* crun and runc keep a container that has ended until they are told; runc its groups too, in which
 * the next one would be. */
static void settled(struct local_instance *pi)
{
	struct oci_instance *oi = oci_instance_of(pi);
	struct oci_job *j =
		oi->settling ? NULL
			     : oci_job_new(oci_runtime_of(local_runtime_of(pi->inst->runtime)), pi->id);

	if (!j)
		return;
	oi->settling = true;
	j->run = forget_in_thread;
	j->done = forgotten;
	oci_job_start(j);
}

static void cancel_start(struct davit_op *op, int why)
{
	struct oci_instance *oi = op->performer;

	oi->start = NULL;
	davit_op_fail(op, why, oi->local.inst->runtime->name,
		      "the last run's container is still being removed");
}

static void start(struct davit_instance *inst, struct davit_op *op)
{
	struct oci_instance *oi = davit_instance_state(inst);

	if (!oi->local.inst || !oi->settling || oi->local.state == DAVIT_STATE_STARTED) {
		local_start(inst, op);
		return;
	}
	oi->start = op;
	op->performer = oi;
	davit_op_on_cancel(op, cancel_start);
}

static void detach(struct local_instance *pi)
{
	struct oci_instance *oi = oci_instance_of(pi);

	oi->settling = false;
	if (oi->start)
		davit_op_fail(DAVIT_TAKE(oi->start), DAVIT_ECLOSED, pi->inst->runtime->name,
			      "the runtime was closed");
}

static void on_leftover(void *user, const char *id)
{
	struct local_runtime *p = user;

	if (!local_knows(p, id))
		cleanup(p, id, NULL, NULL);
}

static void leftovers(struct local_runtime *p)
{
	oci_bundle_each(oci_runtime_of(p)->place, on_leftover, p);
}

/* Until davit-init stands there, blocking all signals to pass them on, a signal would be
 * lost: the kernel spares the first process of a pid namespace what it does not handle. */
static bool up(struct local_instance *pi)
{
	DAVIT_AUTO_BUF text = DAVIT_BUF_INIT;
	const char *blocked;
	char path[48];

	snprintf(path, sizeof path, "/proc/%d/status", (int)pi->pid);
	if (davit_read_file(path, 65536, &text, NULL) < 0 ||
	    strncmp(davit_buf_str(&text), "Name:\tinit\n", 11))
		return false;
	blocked = strstr(text.data, "\nSigBlk:");
	return blocked && strtoull(blocked + 8, NULL, 16) & UINT64_C(1) << (SIGTERM - 1);
}

/* Without root slirp4netns listens on them. */
static bool translates_ports(const struct davit_workload *w)
{
	return geteuid() == 0 && (!w->network || strcmp(w->network, "host"));
}

static void describe(struct local_runtime *p, const char *id, struct davit_inspection *now)
{
	local_net_address_of(&oci_runtime_of(p)->place->nets, id, now->address, sizeof now->address);
}

static int grouped(struct local_runtime *p, struct davit_error *err)
{
	return oci_place_groups(oci_runtime_of(p)->place, &p->cgroups, err);
}

static const struct local_ops ops = {
	.check = oci_check,
	.build_spawn = oci_build_spawn,
	.build_exec = oci_build_exec,
	.build_terminal = oci_build_terminal,
	.main_passes_signals = true,
	.passes_terminals = true,
	.prepare = prepare,
	.keeper_on_demand = true,
	.cleanup = cleanup,
	.settled = settled,
	.up = up,
	.detach = detach,
	.grouped = grouped,
	.leftovers = leftovers,
	.explain = oci_explain,
	.describe = describe,
	.translates_ports = translates_ports,
	.signal_command = oci_command_signal,
};

/* --- the table's slots --- */

static const char *wanted_program(const struct davit_runtime *rt)
{
	return rt->driver == &davit_crun_driver	  ? "crun"
	       : rt->driver == &davit_runc_driver ? "runc"
						  : getenv("DAVIT_OCI_RUNTIME");
}

static void open_runtime(struct davit_runtime *rt, struct davit_op *op)
{
	struct oci_runtime *o = davit_runtime_state(rt);
	struct davit_error err = {0};

	davit_list_init(&o->jobs);
	davit_list_init(&o->copies);
	if (!davit_loop_uv(rt->loop)) {
		davit_op_fail(op, DAVIT_ENOTSUP, rt->name, "real containers need a real loop");
		return;
	}
	if (oci_place_open(rt, wanted_program(rt), &o->place, &err) < 0) {
		davit_op_fail_error(op, &err);
		return;
	}
	local_open(rt, &ops, op);
	if (o->local.rt)
		o->local.ports.mapped = true;
	else
		oci_place_drop(DAVIT_TAKE(o->place)); /* it has failed already */
}

static void close_runtime(struct davit_runtime *rt)
{
	struct oci_runtime *o = davit_runtime_state(rt);

	if (!o->place)
		return;
	oci_jobs_close(o); /* while there is still what their operations' ends name */
	oci_copies_close(o);
	local_close(rt);
	oci_place_drop(DAVIT_TAKE(o->place));
}

/* An image is looked for in files: not on the loop's thread. */
static void check_in_thread(struct oci_job *j)
{
	struct oci_image image;

	if (oci_image_find(j->place, j->workload->image, NULL, &image, &j->err) == 0)
		oci_image_fini(&image);
}

static void checked(struct oci_job *j)
{
	struct davit_op *op = DAVIT_TAKE(j->op);

	if (j->err.code)
		davit_op_fail_error(op, &j->err);
	else
		davit_op_complete(op, 0);
}

static void check(struct davit_runtime *rt, const struct davit_workload *w, struct davit_op *op)
{
	struct oci_runtime *o = davit_runtime_state(rt);
	struct davit_error err = {0};
	struct oci_job *j;

	if (oci_check(&o->local, w, false, &err) < 0) {
		davit_op_fail_error(op, &err);
		return;
	}
	if (!w->image) {
		davit_op_complete(op, 0);
		return;
	}
	j = oci_job_new(o, "check");
	if (j)
		j->workload = local_workload_copy(w);
	if (!j || !j->workload) {
		if (j)
			oci_job_free(j);
		davit_op_fail(op, DAVIT_ENOMEM, rt->name, "out of memory");
		return;
	}
	j->run = check_in_thread;
	j->done = checked;
	j->op = op;
	oci_job_start(j);
}

static int ports_resolve(struct davit_runtime *rt, struct davit_port *ports, size_t n,
			 struct davit_error *err)
{
	return local_ports_resolve(&local_runtime_of(rt)->ports, rt->loop, ports, n, err);
}

static const struct davit_signal_facet signals = {.send = local_signal};
static const struct davit_ports_facet ports = {.resolve = ports_resolve};

#define OCI_TABLE                                                                                            \
	.abi = DAVIT_RUNTIME_ABI, .runtime_size = sizeof(struct oci_runtime),                                \
	.instance_size = sizeof(struct oci_instance), .needs_image = true, .open = open_runtime,             \
	.close = close_runtime, .capabilities = oci_capabilities, .adopt = local_adopt, .check = check,      \
	.create = local_create, .start = start, .stop = local_stop, .remove = local_remove,                  \
	.inspect = local_inspect, .logs = &local_logs, .exec = &local_exec, .stats = &local_stats,           \
	.signal = &signals, .ports = &ports, .terminal = &local_terminal, .images = &oci_images,             \
	.volumes = &oci_volumes, .networks = &oci_networks, .pause = &local_pause, .copy = &oci_copy

const struct davit_runtime_driver davit_oci_driver = {
	.name = "oci",
	.summary = "containers of OCI images, by crun or runc",
	OCI_TABLE,
};
const struct davit_runtime_driver davit_crun_driver = {
	.name = "crun",
	.summary = "containers of OCI images, by crun",
	OCI_TABLE,
};
const struct davit_runtime_driver davit_runc_driver = {
	.name = "runc",
	.summary = "containers of OCI images, by runc",
	OCI_TABLE,
};
