/* SPDX-License-Identifier: MIT
 *
 * davit wait.
 */
#include "cli/api.h"
#include "cli/attach.h"
#include "cli/follow.h"
#include "cli/output.h"

#include <string.h>

static int run_wait(struct davit_cli *cli, struct davit_error *err)
{
	const char *condition = davit_cli_value(cli, "for") ? davit_cli_value(cli, "for") : "ended";
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	json_t *ref = NULL, *service = NULL;
	int r;

	/* Which version it is, and whether there is one at all. */
	davit_api_service(cli, 0, "", &target);
	r = davit_api_call(cli, "GET", davit_buf_str(&target), NULL, &ref, err);
	if (r == DAVIT_ENOENT && !strcmp(condition, "gone"))
		return 0;
	if (r < 0)
		return r;
	r = davit_wait_for(cli, ref, condition, davit_cli_duration(cli, "timeout", 0), &service, err);
	if (r == 0 && cli->format == DAVIT_FORMAT_JSON && service)
		r = davit_print_value(cli, service, err);
	if (r == 0 && !strcmp(condition, "ended"))
		r = davit_service_exit(service);
	json_decref(service);
	json_decref(ref);
	return r;
}

static const struct davit_option own[] = {
	{"for", 0, "WHAT", DAVIT_OPTION_CHOICE, .choices = "ended|ready|gone",
	 .doc = "ended (default), ready or gone"},
	{"timeout", 0, "DURATION", DAVIT_OPTION_DURATION, .doc = "Give up after this time (default: never)"},
	{0},
};
static const struct davit_option *const options[] = {own, davit_options_namespace, davit_options_common,
						     NULL};
static const char *const examples[] = {"davit wait job",
				       "exits with the status of 'job' (128 + signal when it was killed)",
				       "davit wait web --for ready --timeout 30s", "until it serves", NULL};

const struct davit_command davit_command_wait = {
	.name = "wait",
	.usage = "NAME [VERSION]",
	.group = "Services",
	.summary = "Wait until a service has ended, and exit with its status",
	.details = "The daemon may be restarted meanwhile. One that was killed is started again.",
	.options = options,
	.min_args = 1,
	.max_args = 2,
	.complete = "service",
	.run = run_wait,
	.examples = examples,
};
