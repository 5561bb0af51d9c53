/* SPDX-License-Identifier: MIT
 *
 * davit execute, as its files share it.
 */
#ifndef DAVIT_CLI_EXECUTE_H
#define DAVIT_CLI_EXECUTE_H

#include "cli/steps.h"
#include "davit/execute.h"
#include "davit/task.h"
#include "loop/signals.h"

struct execute {
	struct davit_cli *cli;
	bool json;
	struct davit_loop *loop;
	struct davit_artifacts *store;
	struct davit_task *task;
	struct davit_artifact *artifacts;
	size_t n_artifacts;
	struct davit_artifact_hold *inputs, image;
	size_t n_inputs;
	char **locations; /* of caches */
	char **env;
	struct davit_execution *x;
	uint64_t offsets[DAVIT_STEP_STREAMS];
	struct davit_signals signals;
	bool asked; /* to end */
	int status; /* of this program */
	struct davit_error *err;
};

/* execute_behind.c: hands the task, with its inputs and where its outputs go, to the daemon, and prints the
 * run's id. */
int davit_execute_behind(struct execute *e, const char *file);

#endif
