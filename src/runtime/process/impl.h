/* SPDX-License-Identifier: MIT
 *
 * What the driver's files share. Not for use outside this folder.
 */
#ifndef DAVIT_PROCESS_IMPL_H
#define DAVIT_PROCESS_IMPL_H

#include "local/local.h"

/* --- check.c: what this runtime can do --- */
void process_capabilities(struct davit_runtime *rt, struct davit_capabilities *ret);
/* struct local_ops: */
int process_check(struct local_runtime *p, const struct davit_workload *w, bool complete,
		  struct davit_error *err);

/* --- command.c: struct local_ops --- */
int process_build_spawn(struct local_instance *pi, uint32_t run, struct davit_error *err);
int process_build_exec(struct local_instance *pi, const struct davit_exec *x, struct davit_error *err);
int process_build_terminal(struct local_instance *pi, const struct davit_terminal *t,
			   struct davit_error *err);

#endif
