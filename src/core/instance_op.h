/* SPDX-License-Identifier: MIT
 *
 * What the files of an instance share: instance.c (its way to its goal),
 * instance_end.c (what happens to it), instance_life.c (made, adopted, freed).
 */
#ifndef DAVIT_CORE_INSTANCE_OP_H
#define DAVIT_CORE_INSTANCE_OP_H

#include "core/core_impl.h"

enum instance_op_kind { DO_CREATE, DO_START, DO_INSPECT, DO_STOP, DO_REMOVE };

/* Taken from the pool of the core for each operation: an idle instance carries none. */
struct instance_op {
	struct davit_op op;
	struct instance *i;
	enum instance_op_kind kind;
	struct davit_inspection inspection;
};

/* Stops what the last run left behind. No operation may be under way. */
void instance_sweep(struct instance *i);
/* Tells the engine that the run is over, once everything about it is done. */
void instance_finish(struct instance *i);
/* How a run ended, in words. */
void instance_describe_exit(const struct davit_exit *e, char *buf, size_t n);
/* The event that it is left failed, by that rule. The record is the caller's to write. */
void instance_tell_failed(struct instance *i, const char *rule);

#endif
