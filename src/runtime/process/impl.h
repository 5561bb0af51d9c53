/* SPDX-License-Identifier: MIT
 *
 * What the driver's files share. Not for use outside this folder.
 */
#ifndef DAVIT_PROCESS_IMPL_H
#define DAVIT_PROCESS_IMPL_H

#include "local/local.h"
#include "local/net.h"

/* Behind struct davit_runtime. */
struct process_runtime {
	struct local_runtime local;
	struct local_nets nets; /* of workloads with a policy of egress: BUNDLES/ID */
	char *enter;		/* path of davit-enter; NULL: process_confine_open is to come */
	struct davit_list jobs;
	bool limited;		 /* there is or was such a workload */
	char why_no_egress[112]; /* "" where connections can be limited */
};

static inline struct process_runtime *process_runtime_of(struct local_runtime *p)
{
	return DAVIT_CONTAINER_OF(p, struct process_runtime, local);
}

/* --- check.c: what this runtime can do --- */
void process_capabilities(struct davit_runtime *rt, struct davit_capabilities *ret);
/* struct local_ops: */
int process_check(struct local_runtime *p, const struct davit_workload *w, bool complete,
		  struct davit_error *err);

/* --- confine.c: workloads with a policy of egress, each in a network namespace of its own --- */
/* Of a runtime that is open; a second time does nothing. What fails is told by why_no_egress. */
void process_confine_open(struct process_runtime *r);
void process_confine_close(struct process_runtime *r);
/* struct local_ops: */
void process_confine_prepare(struct local_instance *pi);
void process_confine_cleanup(struct local_runtime *p, const char *id, struct davit_op *op,
			     const struct davit_error *err);
void process_confine_leftovers(struct local_runtime *p);
void process_confine_describe(struct local_runtime *p, const char *id, struct davit_inspection *now);
bool process_confine_translates_ports(const struct davit_workload *w);

/* --- command.c: struct local_ops --- */
int process_build_spawn(struct local_instance *pi, uint32_t run, struct davit_error *err);
int process_build_exec(struct local_instance *pi, const struct davit_exec *x, struct davit_error *err);
int process_build_terminal(struct local_instance *pi, const struct davit_terminal *t,
			   struct davit_error *err);

#endif
