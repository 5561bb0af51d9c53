/* SPDX-License-Identifier: MIT
 *
 * What davit get has of resources.
 */
#ifndef DAVIT_CLI_RESOURCE_H
#define DAVIT_CLI_RESOURCE_H

#include "cli/cli.h"

/* Is that argument a resource's file, rather than a word? By its ending, or a path that is there. */
bool davit_is_resource_file(const char *arg);
/* Becomes davit-resource with the options and arguments given; all of its options must have a value. Returns
 * an error, or not at all. */
int davit_cli_resource(struct davit_cli *cli, struct davit_error *err);

#endif
