/* SPDX-License-Identifier: MIT
 *
 * What the tests of the fake runtime stand on: a world on a virtual loop, a runtime in it, and what they
 * told, in words. What goes wrong in a function of it fails the test.
 */
#ifndef DAVIT_FAKE_TEST_RIG_H
#define DAVIT_FAKE_TEST_RIG_H

#include "base/units.h"
#include "runtime/fake/fake.h"

#define MSEC DAVIT_NSEC_PER_MSEC
#define SEC DAVIT_NSEC_PER_SEC
enum { INSTANCES = 4 };

struct rig {
	struct davit_loop *loop;
	struct davit_fake_world *world;
	struct davit_runtime *rt;
	struct davit_instance *inst[INSTANCES];
	struct davit_workload workload[INSTANCES];
	char **argv[INSTANCES], **env[INSTANCES];
	size_t n_found;
	struct davit_inspection found[INSTANCES];
	bool forget; /* answer NULL to found */
	struct davit_exit exit;
	char told[2048];
	struct davit_op op;
	int result;
};

extern struct rig *rig; /* of the test that runs: the events have no other way to it */

/* Before and after each test: a strict world without instances. */
int rig_setup(void **state);
int rig_teardown(void **state);

/* Begins rig->op, which is told and ends in rig->result; finish waits for that and gives it. */
struct davit_op *begin(int64_t timeout);
int finish(void);
void rig_done(struct davit_op *op, int result); /* for another operation beside it */
/* Lets that much time pass, and what it sets off happen. */
void run_for(int64_t ns);

/* The runtime is open in each test; it can be closed, and opened again without adopting. */
void open_runtime(void);
void close_runtime(void);
/* As a new daemon does: what survives is told to `found`. */
void reopen_and_adopt(void);

/* Instance i with a script, words separated by '|'. Not created yet. */
struct davit_instance *make(int i, const char *script);
int create(struct davit_instance *inst);
int start(struct davit_instance *inst);
int stop(struct davit_instance *inst, int64_t grace);
int remove_(struct davit_instance *inst);
struct davit_inspection inspect(struct davit_instance *inst);
/* Made, created and started; of that nothing is told any more. */
struct davit_instance *running(int i, const char *script);

#endif
