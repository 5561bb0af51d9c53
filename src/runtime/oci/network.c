/* SPDX-License-Identifier: MIT
 *
 * The facet of networks by name: what they are, src/local/net.c says.
 */
#include "runtime/oci/impl.h"

#include "base/file.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static void networks_list(struct davit_runtime *rt,
			  void (*each)(void *user, const struct davit_object_info *info), void *user,
			  struct davit_op *op)
{
	const struct oci_place *pl = ((struct oci_runtime *)davit_runtime_state(rt))->place;
	DIR *d = opendir(pl->nets.networks);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		int subnet = *e->d_name == '.' ? -1 : local_net_subnet_of(pl->nets.networks, e->d_name);
		char text[32];
		struct davit_object_info info = {.name = e->d_name, .detail = text, .ours = true};
		struct stat st;

		if (subnet < 0 || fstatat(dirfd(d), e->d_name, &st, 0) < 0)
			continue;
		snprintf(text, sizeof text, "10.89.%d.0/24", subnet);
		each(user, &info);
	}
	if (d)
		closedir(d);
	davit_op_complete(op, 0);
}

static void object_done(struct oci_job *j)
{
	if (j->err.code)
		davit_op_fail_error(DAVIT_TAKE(j->op), &j->err);
	else
		davit_op_complete(DAVIT_TAKE(j->op), 0);
}

static void create_run(struct oci_job *j)
{
	struct local_net n;

	if (local_net_init(&n, &j->place->nets, "", j->argument, true, &j->err) == 0)
		local_net_choose_subnet(&n, &j->err);
	local_net_fini(&n);
}

static void remove_run(struct oci_job *j)
{
	const char *name = j->argument;
	struct local_net n;

	if (!local_net_exists(&j->place->nets, name)) {
		davit_error_set(&j->err, DAVIT_ENOENT, "network", "there is no network %s", name);
		return;
	}
	if (local_net_init(&n, &j->place->nets, "", name, true, &j->err) == 0) {
		if (local_net_give_back(&n))
			davit_error_set(&j->err, DAVIT_EINUSE, "network", "network %s is in use", name);
		else
			davit_remove_tree(n.dir, &j->err);
	}
	local_net_fini(&n);
}

static void start_job(struct davit_runtime *rt, const char *name, void (*run)(struct oci_job *j),
		      struct davit_op *op)
{
	struct oci_job *j = oci_job_new(davit_runtime_state(rt), "network");

	if (j) {
		j->argument = strdup(name);
		j->dispose = free;
	}
	if (!j || !j->argument) {
		if (j)
			oci_job_free(j);
		davit_op_fail(op, DAVIT_ENOMEM, rt->name, "out of memory");
		return;
	}
	j->run = run;
	j->done = object_done;
	j->op = op;
	oci_job_start(j);
}

static void networks_create(struct davit_runtime *rt, const char *name, struct davit_op *op)
{
	const struct oci_place *pl = ((struct oci_runtime *)davit_runtime_state(rt))->place;

	if (*pl->why_no_bridge)
		davit_op_fail(op, DAVIT_ENOTSUP, "network", "failed to create network: %s",
			      pl->why_no_bridge);
	else if (!strcmp(name, "host") || !strcmp(name, "none"))
		davit_op_fail(op, DAVIT_EEXIST, "network", "network %s is not one that can be made", name);
	else
		start_job(rt, name, create_run, op);
}

static void networks_remove(struct davit_runtime *rt, const char *name, struct davit_op *op)
{
	if (!strcmp(name, "host") || !strcmp(name, "none"))
		davit_op_fail(op, DAVIT_EPERM, "network", "network %s cannot be removed", name);
	else
		start_job(rt, name, remove_run, op);
}

const struct davit_objects_facet oci_networks = {
	.list = networks_list,
	.create = networks_create,
	.remove = networks_remove,
};
