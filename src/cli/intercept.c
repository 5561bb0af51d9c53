/* SPDX-License-Identifier: MIT
 *
 * davit intercept: a shell in a step that runs. (In davit-steps.so.)
 */
#include "base/strv.h"
#include "cli/output.h"
#include "cli/steps.h"
#include "davit/execute.h"

#include <errno.h>

int davit_steps_intercept(struct davit_cli *cli, struct davit_error *err)
{
	struct davit_artifacts *s;
	DAVIT_AUTO_STRV argv = NULL;
	int r = davit_artifacts_open(NULL, 0, &s, err);

	if (r < 0)
		return r;
	r = davit_execution_intercept(s, cli->n_args ? cli->args[0] : NULL, cli->rest, &argv, err);
	davit_artifacts_close(s);
	if (r < 0)
		return r;
	execv(argv[0], argv);
	return davit_error_errno(err, errno, NULL, "cannot start %s", argv[0]);
}
