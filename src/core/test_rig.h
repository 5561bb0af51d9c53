/* SPDX-License-Identifier: MIT
 *
 * For tests of the core: one on the fake runtime and the memory store.
 */
#ifndef DAVIT_CORE_TEST_RIG_H
#define DAVIT_CORE_TEST_RIG_H

#include "core/core.h"
#include "runtime/fake/fake.h"

/* A core on the fake runtime and the memory store, under a virtual clock. The
 * world and the store outlive the core, as a machine outlives a daemon. */
struct rig {
	struct davit_loop *loop;
	struct davit_store *store;
	struct davit_fake_world *world;
	struct davit_core *core;
	const struct davit_core_probes *probes; /* or NULL */
	void *probes_user;
	const struct davit_runtime_driver *second; /* beside the fake one, under its own name; or NULL */
	size_t starts, exits;
};

/* Of cmocka: *state is the rig. */
int rig_setup(void **state);
int rig_teardown(void **state);
/* A daemon's death and return. */
void rig_down(struct rig *r);
void rig_up(struct rig *r);
/* Virtual time passes, whatever happens in it. */
void rig_run(struct rig *r, int64_t ns);
/* As done of an op whose user is an int for the result; then waiting for it. */
void rig_op_done(struct davit_op *op, int result);
int rig_wait(struct rig *r, struct davit_op *op, int *result);

/* Applies a text; err is filled on failure, whenever that was. */
int rig_apply_error(struct rig *r, const char *yaml, enum davit_apply_mode mode, struct davit_error *err);
/* The same, and it must be accepted. */
void rig_apply(struct rig *r, const char *yaml);
int rig_control(struct rig *r, const char *name, enum davit_service_verb verb);
/* namespace_: NULL for the default. */
int rig_kill(struct rig *r, const char *namespace_, const char *name);
/* NULL when there is none. */
struct davit_service *rig_service(struct rig *r, const char *name);
const char *rig_status(struct rig *r, const char *name);
/* The text behind the first "key": of the service's status object; static. */
const char *rig_field(struct rig *r, const char *name, const char *key);
/* How many of the events kept contain the text. */
size_t rig_events(struct rig *r, const char *text);

#endif
