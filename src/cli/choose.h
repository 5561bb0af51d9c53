/* SPDX-License-Identifier: MIT
 *
 * Which instance a command works on.
 */
#ifndef DAVIT_CLI_CHOOSE_H
#define DAVIT_CLI_CHOOSE_H

#include "cli/cli.h"

/* Appends the id of an instance to ret_id: the one that --instance names by id or
 * index, else the first that runs (or, where it need not run, the first). `name` is
 * a service's, in --namespace, or the id of an instance. */
int davit_choose_instance(struct davit_cli *cli, const char *name, const char *version, bool running,
			  struct davit_buf *ret_id, struct davit_error *err);

#endif
