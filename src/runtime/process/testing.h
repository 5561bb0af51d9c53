/* SPDX-License-Identifier: MIT
 *
 * For the tests of the process runtime: the driver on a real loop with a real
 * keeper in a directory of its own, and a record of the events.
 */
#ifndef DAVIT_PROCESS_TESTING_H
#define DAVIT_PROCESS_TESTING_H

#include "base/buf.h"
#include "davit/runtime.h"
#include "local/local.h"
#include "runtime/process/process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define INSTANCES_MAX 16

struct guest {
	struct davit_instance *inst;
	struct davit_workload w;
	char *argv[8];
	unsigned exits, readies, vanished; /* events */
	uint32_t exit_run;
	struct davit_exit exit;
	char status[128];
	struct davit_inspection found; /* by adopt */
};

struct world {
	char dir[64], run[80], log[80], libexec[512];
	struct davit_loop *loop;
	struct davit_runtime *rt;
	struct guest guests[INSTANCES_MAX];
	size_t n_guests;
	unsigned lost, regained;
	pid_t keeper;
};

int world_setup(void **state);
int world_teardown(void **state); /* ends everything; fails if the keeper stays */

/* Says why a test cannot run here, and skips it. */
void world_need(struct world *w, enum davit_capability cap);

/* Opens and adopts; close lets go, as a daemon that ends does. */
void world_open(struct world *w);
void world_close(struct world *w);
/* A guest that runs `/bin/sh -c script`; not created yet. */
struct guest *world_guest(struct world *w, const char *script);

/* Each performs one operation and returns its result; the error is in last_error. */
extern struct davit_error last_error;
int guest_create(struct guest *g);
int guest_start(struct guest *g);
int guest_stop(struct guest *g, int64_t grace_ms);
int guest_remove(struct guest *g);
int guest_signal(struct guest *g, int signo);
struct davit_inspection guest_inspect(struct guest *g);
struct davit_stats guest_stats(struct guest *g);
/* Both, or the test fails. */
void guest_run(struct guest *g);

/* Runs the loop until *flag or for ms. */
void turn(struct world *w, int ms);
/* How many ms what must come is waited for: no machine is too busy for it. */
#define PATIENCE 60000
/* Runs the loop until the condition holds; fails the test when it does not in time. */
#define WAIT_FOR(w, condition)                                                                               \
	do {                                                                                                 \
		int left_ = PATIENCE;                                                                        \
		bool holds_;                                                                                 \
		while (!(holds_ = (condition)) && left_ > 0) {                                               \
			turn((w), 5);                                                                        \
			left_ -= 5;                                                                          \
		}                                                                                            \
		if (!holds_)                                                                                 \
			fail_msg("never became so: %s", #condition);                                         \
	} while (0)

/* The log of a guest, "stdout text\n" a line, a heap string. */
char *guest_log(struct guest *g, int64_t tail);
bool alive(pid_t pid);
/* The number in a small file, -1 when it is not there. */
long number_in(const char *path);

#endif
