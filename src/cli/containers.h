/* SPDX-License-Identifier: MIT
 *
 * The commands of containers: what their files share.
 */
#ifndef DAVIT_CLI_CONTAINERS_H
#define DAVIT_CLI_CONTAINERS_H

#include "cli/cli.h"

/* "/v1/containers[/ADDRESS[/verb]]?project=...": address and verb may be NULL. */
void davit_container_target(const struct davit_cli *cli, const char *address, const char *verb,
			    struct davit_buf *out);
/* Prints an answer: with -o json or yaml the answer, else `text`. Takes the answer. */
int davit_container_done(struct davit_cli *cli, json_t *answer, const char *text, struct davit_error *err);

/* --project. */
extern const struct davit_option davit_options_project[];

#endif
