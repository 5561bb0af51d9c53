/* SPDX-License-Identifier: MIT
 *
 * davit intercept: a shell in a step that runs. (In davit-steps.so.)
 */
#include "base/strv.h"
#include "cli/api.h"
#include "cli/output.h"
#include "cli/steps.h"
#include "davit/execute.h"
#include "net/client.h"
#include "net/url.h"

#include <errno.h>
#include <string.h>

/* The step of that name that a run began last and that has not ended: "RUN/STEP" becomes its id. */
static int find_step(struct davit_cli *cli, const char *of, char ret[24], struct davit_error *err)
{
	const char *slash = strchr(of, '/');
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	DAVIT_AUTO_FREE char *run = strndup(of, (size_t)(slash - of));
	struct davit_client *stream = NULL;
	json_t *e;
	int r;

	if (!run)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	davit_buf_adds(&target, "/v1/runs/");
	davit_url_escape(&target, run);
	davit_buf_adds(&target, "/events");
	r = davit_api_connect_running(cli, err);
	davit_api_close(cli);
	if (r == 0)
		r = davit_api_stream(cli, davit_buf_str(&target), &stream, err);
	*ret = '\0';
	while (r >= 0 && stream && (r = davit_api_next(stream, &e, NULL, err)) > 0) {
		if (!strcmp(davit_string(e, "name"), slash + 1) &&
		    !strcmp(davit_string(e, "event"), "running"))
			snprintf(ret, 24, "%s", davit_string(e, "execution"));
		if (!strcmp(davit_string(e, "name"), slash + 1) &&
		    !strcmp(davit_string(e, "event"), "finish"))
			*ret = '\0';
		json_decref(e);
	}
	davit_client_close(stream);
	if (r == 0 && !*ret)
		return davit_error_set(err, DAVIT_ENOENT, NULL, "no step '%.64s' of the run %s runs",
				       slash + 1, run);
	return r;
}

int davit_steps_intercept(struct davit_cli *cli, struct davit_error *err)
{
	const char *of = cli->n_args ? cli->args[0] : NULL;
	struct davit_artifacts *s;
	DAVIT_AUTO_STRV argv = NULL;
	char id[24];
	int r = of && strchr(of, '/') ? find_step(cli, of, id, err) : 0;

	if (r == 0)
		r = davit_artifacts_open(NULL, 0, &s, err);

	if (r < 0)
		return r;
	r = davit_execution_intercept(s, of && strchr(of, '/') ? id : of, cli->rest, &argv, err);
	davit_artifacts_close(s);
	if (r < 0)
		return r;
	execv(argv[0], argv);
	return davit_error_errno(err, errno, NULL, "cannot start %s", argv[0]);
}
