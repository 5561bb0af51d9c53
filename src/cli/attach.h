/* SPDX-License-Identifier: MIT
 *
 * A service in the foreground: its output here, its exit status ours.
 */
#ifndef DAVIT_CLI_ATTACH_H
#define DAVIT_CLI_ATTACH_H

#include "cli/cli.h"

/* Prints the output of the service {namespace, name, version} from the start of
 * this program on, until it ends for good. Returns its exit status (128 +
 * signal), or a negative code. */
int davit_attach(struct davit_cli *cli, json_t *ref, struct davit_error *err);

/* Waits until the service reaches a condition: "ended", "ready" or "gone".
 * Survives restarts of the daemon. *ret_service is its last status object (a
 * new reference, NULL when it was never seen). DAVIT_ETIMEDOUT after timeout_ns
 * (0: never). */
int davit_wait_for(struct davit_cli *cli, json_t *ref, const char *condition, int64_t timeout_ns,
		   json_t **ret_service, struct davit_error *err);

#endif
