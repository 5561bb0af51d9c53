/* SPDX-License-Identifier: MIT
 *
 * A workload with a policy of egress has a network namespace of its own, which the rules are in
 * before it has an interface (src/local/net.c), and which davit-enter takes its processes into.
 * BUNDLES/ID is there as long as any of it: by it what a daemon that was killed has left is
 * found.
 */
#include "runtime/process/impl.h"

#include "base/fault.h"
#include "base/file.h"
#include "local/egress.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <uv.h>

/* Work that blocks. */
struct job {
	uv_work_t work;
	struct davit_list list;		 /* in process_runtime.jobs */
	struct process_runtime *r;	 /* NULL: the runtime was closed meanwhile */
	struct davit_workload *workload; /* a copy: to be made; NULL: to be taken away */
	struct local_nets nets;		 /* copies */
	struct davit_op *op;		 /* or NULL */
	struct davit_error err, why;	 /* of the job; for op, of what came before */
	char id[DAVIT_ID_MAX];
};

static void job_free(struct job *j)
{
	free(j->workload);
	free(j->nets.bundles);
	free(j->nets.networks);
	free(j);
}

/* --- in a thread --- */

static int take_away(const struct local_nets *at, const char *id, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *bundle = davit_path_join(at->bundles, id);
	int r = bundle ? local_net_detach(at, id, err)
		       : davit_error_set(err, DAVIT_ENOMEM, "egress", "out of memory");

	DAVIT_FAULT("process.remove.network");
	return r < 0 ? r : davit_remove_tree(bundle, err);
}

static int plug_in(const struct local_nets *at, const struct davit_workload *w, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *bundle = davit_path_join(at->bundles, w->id);
	DAVIT_AUTO_FREE char *netns = NULL;
	DAVIT_AUTO_BUF rules = DAVIT_BUF_INIT;
	struct local_names names = {0};
	int r;

	if (!bundle)
		return davit_error_set(err, DAVIT_ENOMEM, "egress", "out of memory");
	r = davit_mkdirs(bundle, 0700, err);
	DAVIT_FAULT("process.create.bundle");
	if (!r)
		r = local_names_resolve(w, &names, err);
	if (!r)
		r = local_egress_rules(w, &names, LOCAL_EGRESS_TABLE, NULL, &rules, err);
	local_names_fini(&names);
	return r < 0 ? r : local_net_attach(at, w, &rules, "bridge", w->name, &netns, err);
}

static void run(uv_work_t *work)
{
	struct job *j = DAVIT_CONTAINER_OF(work, struct job, work);

	if (!j->workload) {
		take_away(&j->nets, j->id, &j->err);
		return;
	}
	if (plug_in(&j->nets, j->workload, &j->err) < 0)
		take_away(&j->nets, j->id, NULL);
}

/* --- on the loop's thread --- */

static void end_op(struct davit_op *op, const struct davit_error *err)
{
	if (op && err && err->code)
		davit_op_fail_error(op, err);
	else if (op)
		davit_op_complete(op, 0);
}

static void done(uv_work_t *work, int status)
{
	struct job *j = DAVIT_CONTAINER_OF(work, struct job, work);
	struct local_instance *pi = j->r ? davit_map_get(&j->r->local.instances, j->id) : NULL;

	(void)status;
	davit_list_remove(&j->list);
	if (j->workload && pi && pi->preparing)
		local_prepared(pi, &j->err);
	end_op(j->op, j->why.code ? &j->why : &j->err);
	job_free(j);
}

static struct job *job_new(struct process_runtime *r, const char *id)
{
	struct job *j = calloc(1, sizeof *j);

	if (!j)
		return NULL;
	davit_list_init(&j->list);
	j->r = r;
	j->nets.bundles = strdup(r->nets.bundles);
	j->nets.networks = strdup(r->nets.networks);
	snprintf(j->id, sizeof j->id, "%s", id);
	if (j->nets.bundles && j->nets.networks)
		return j;
	job_free(j);
	return NULL;
}

static int start(struct job *j)
{
	davit_list_add_tail(&j->r->jobs, &j->list);
	if (uv_queue_work(davit_loop_uv(j->r->local.rt->loop), &j->work, run, done) == 0)
		return 0;
	davit_list_remove(&j->list);
	job_free(j);
	return DAVIT_ENOMEM;
}

void process_confine_prepare(struct local_instance *pi)
{
	struct process_runtime *r = process_runtime_of(local_runtime_of(pi->inst->runtime));
	const struct davit_workload *w = pi->inst->workload;
	struct davit_error err = {0};
	struct job *j;

	if (!w->n_egress) {
		local_prepared(pi, NULL);
		return;
	}
	r->limited = true;
	j = job_new(r, pi->id);
	if (j && !(j->workload = local_workload_copy(w))) {
		job_free(j);
		j = NULL;
	}
	if (j && start(j) == 0)
		return;
	davit_error_set(&err, DAVIT_ENOMEM, r->local.rt->name, "out of memory");
	local_prepared(pi, &err);
}

void process_confine_cleanup(struct local_runtime *p, const char *id, struct davit_op *op,
			     const struct davit_error *err)
{
	struct process_runtime *r = process_runtime_of(p);
	struct job *j = r->limited ? job_new(r, id) : NULL;

	if (!j) {
		end_op(op, err); /* without memory: the next open finds it */
		return;
	}
	j->op = op;
	if (err)
		j->why = *err;
	if (start(j) < 0)
		end_op(op, err);
}

void process_confine_leftovers(struct local_runtime *p)
{
	struct process_runtime *r = process_runtime_of(p);
	DIR *d = r->limited ? opendir(r->nets.bundles) : NULL;
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (strlen(e->d_name) == DAVIT_ID_MAX - 1 && !local_knows(p, e->d_name))
			process_confine_cleanup(p, e->d_name, NULL, NULL);
	if (d)
		closedir(d);
}

void process_confine_describe(struct local_runtime *p, const char *id, struct davit_inspection *now)
{
	struct process_runtime *r = process_runtime_of(p);

	if (r->limited)
		local_net_address_of(&r->nets, id, now->address, sizeof now->address);
}

/* Others listen on the host's ports themselves. */
bool process_confine_translates_ports(const struct davit_workload *w)
{
	return w->n_egress > 0;
}

/* --- opening and closing --- */

static void probe(struct process_runtime *r)
{
	snprintf(r->why_no_egress, sizeof r->why_no_egress, "%s",
		 geteuid()		      ? "davitd does not run as root"
		 : !local_nft_program()	      ? "nft is not installed"
		 : access(r->enter, X_OK) < 0 ? "davit-enter is not beside the other programs"
					      : "");
}

void process_confine_open(struct process_runtime *r)
{
	const struct davit_runtime *rt = r->local.rt;
	DAVIT_AUTO_FREE char *enter = NULL;

	if (r->enter)
		return;
	snprintf(r->why_no_egress, sizeof r->why_no_egress, "out of memory");
	enter = davit_path_join(rt->libexec_dir, "davit-enter");
	r->nets.bundles = davit_path_join(rt->run_dir, "confined");
	/* Networks are the daemon's, not one runtime's: its state directories are STATE/runtime/NAME. */
	r->nets.networks = davit_path_join(rt->state_dir, "../../networks");
	if (!enter || !r->nets.bundles || !r->nets.networks) {
		free(DAVIT_TAKE(r->nets.bundles));
		free(DAVIT_TAKE(r->nets.networks));
		return;
	}
	davit_list_init(&r->jobs);
	r->limited = access(r->nets.bundles, F_OK) == 0;
	r->enter = DAVIT_TAKE(enter);
	probe(r);
}

void process_confine_close(struct process_runtime *r)
{
	if (!r->enter)
		return;
	while (!davit_list_empty(&r->jobs)) {
		struct job *j = DAVIT_CONTAINER_OF(r->jobs.next, struct job, list);

		davit_list_remove(&j->list);
		j->r = NULL;
		if (j->op)
			davit_op_fail(DAVIT_TAKE(j->op), DAVIT_ECLOSED, r->local.rt->name,
				      "the runtime was closed");
	}
	free(DAVIT_TAKE(r->enter));
	free(DAVIT_TAKE(r->nets.bundles));
	free(DAVIT_TAKE(r->nets.networks));
}
