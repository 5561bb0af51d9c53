/* SPDX-License-Identifier: MIT
 *
 * The commands of steps, between davit and what it loads for them.
 */
#ifndef DAVIT_CLI_STEPS_H
#define DAVIT_CLI_STEPS_H

#include "cli/cli.h"
#include "davit/artifact.h"

/* The symbol "davit_steps" of davit-steps.so. Each runs a command, as davit_command.run does. */
struct davit_steps {
	int (*execute)(struct davit_cli *cli, struct davit_error *err);
	int (*artifacts)(struct davit_cli *cli, struct davit_error *err);
	int (*caches)(struct davit_cli *cli, struct davit_error *err);
	int (*intercept)(struct davit_cli *cli, struct davit_error *err);
	int (*job)(struct davit_cli *cli, struct davit_error *err);
};

/* execute.c, intercept.c, job.c */
int davit_steps_intercept(struct davit_cli *cli, struct davit_error *err);
int davit_steps_execute(struct davit_cli *cli, struct davit_error *err);
int davit_steps_job(struct davit_cli *cli, struct davit_error *err);

/* Puts what the user calls an input into the store: "artifact:ID", a tar archive, or a directory, of which
 * a git repository's ignored files are left out unless `all`. Blocks. */
int davit_steps_upload(struct davit_artifacts *s, const char *from, bool all, struct davit_artifact_hold *ret,
		       struct davit_error *err);

#endif
