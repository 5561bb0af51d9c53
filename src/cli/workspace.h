/* SPDX-License-Identifier: MIT
 *
 * What the commands on workspaces share.
 */
#ifndef DAVIT_CLI_WORKSPACE_H
#define DAVIT_CLI_WORKSPACE_H

#include "cli/cli.h"

/* Is it a workspace that a command on services was given? *ret is that workspace (a
 * new reference), or NULL when a service is meant: --namespace or a version was given,
 * or no workspace has this name or id. DAVIT_EINVAL when there is both, with how to
 * name each. */
int davit_workspace_meant(struct davit_cli *cli, const char *ref, const char *version, json_t **ret,
			  struct davit_error *err);

/* After a service was looked for because no workspace was meant: an error that says that
 * there is none becomes one that says that there is neither. Returns code. */
int davit_workspace_neither(const struct davit_cli *cli, const char *version, int code,
			    struct davit_error *err);

/* Starts or stops it, waits until that is done, and says so. For 'davit start', 'stop'. */
int davit_workspace_switch(struct davit_cli *cli, json_t *workspace, bool run, struct davit_error *err);

/* The id of its instance, appended to ret_id; one that does not run is started first. */
int davit_workspace_instance(struct davit_cli *cli, json_t *workspace, struct davit_buf *ret_id,
			     struct davit_error *err);

/* A few lines for a person about a workspace. */
void davit_workspace_print(const struct davit_cli *cli, json_t *workspace);

#endif
