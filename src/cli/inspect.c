/* SPDX-License-Identifier: MIT
 *
 * davit inspect, why, runtimes: the daemon's view in full.
 */
#include "base/units.h"
#include "cli/api.h"
#include "cli/output.h"

#include <string.h>

/* ---------------------------------------------------------------------- inspect */

static int run_inspect(struct davit_cli *cli, struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	json_t *answer = NULL;
	int r;

	davit_api_service(cli, 0, "/inspect", &target);
	r = davit_api_call(cli, "GET", davit_buf_str(&target), NULL, &answer, err);
	if (r == 0)
		r = davit_print_value(cli, answer, err);
	json_decref(answer);
	return r;
}

/* -------------------------------------------------------------------------- why */

/* The chain, the latest link first, when the daemon gives no ready text. */
static void print_chain(const struct davit_cli *cli, json_t *answer)
{
	static const char *const keys[] = {"what", "rule", "cause", "detail", "next"};
	char age[DAVIT_AGE_MAX + 8], number[24];
	json_t *link;
	size_t i;

	printf("%s is %s\n", davit_string(answer, "service"), davit_string(answer, "status"));
	json_array_foreach(json_object_get(answer, "chain"), i, link)
	{
		printf("  %-10s", davit_time_text(cli, davit_string(link, "time"), age));
		for (size_t k = 0; k < DAVIT_ARRAY_SIZE(keys); k++) {
			const char *text = davit_text(link, keys[k], number);
			if (text[0])
				printf("%s%s%s", k ? ", " : " ", k ? keys[k] : "", k ? ": " : "");
			fputs(text, stdout);
		}
		putchar('\n');
	}
}

static int run_why(struct davit_cli *cli, struct davit_error *err)
{
	DAVIT_AUTO_BUF target = DAVIT_BUF_INIT;
	json_t *answer = NULL;
	const char *text;
	int r;

	davit_api_service(cli, 0, "/why", &target);
	r = davit_api_call(cli, "GET", davit_buf_str(&target), NULL, &answer, err);
	if (r < 0)
		return r;
	text = davit_string(answer, "text");
	if (cli->format != DAVIT_FORMAT_TEXT)
		r = davit_print_value(cli, answer, err);
	else if (text[0])
		printf("%s%s", text, text[strlen(text) - 1] == '\n' ? "" : "\n");
	else
		print_chain(cli, answer);
	json_decref(answer);
	return r;
}

/* --------------------------------------------------------------------- runtimes */

static void print_runtime(const struct davit_cli *cli, json_t *runtime)
{
	bool available = json_is_true(json_object_get(runtime, "available"));
	const char *error = davit_string(runtime, "error");
	json_t *c;
	size_t i;

	printf("%s%s%s: %s%s%s\n", cli->color ? "\033[1m" : "", davit_string(runtime, "name"),
	       cli->color ? "\033[0m" : "", davit_string(runtime, "summary"),
	       available ? "" : "; not available: ", available ? "" : error);
	json_array_foreach(json_object_get(runtime, "capabilities"), i, c)
	{
		bool yes = json_is_true(json_object_get(c, "supported"));
		const char *reason = davit_string(c, "reason");
		printf("  %-3s %-18s%s%s\n", yes ? "yes" : "no", davit_string(c, "name"), yes ? "" : " ",
		       yes ? "" : reason);
	}
}

static int run_runtimes(struct davit_cli *cli, struct davit_error *err)
{
	json_t *answer = NULL, *runtime;
	size_t i;
	int r = davit_api_call(cli, "GET", "/v1/runtimes", NULL, &answer, err);

	if (r < 0)
		return r;
	if (cli->format != DAVIT_FORMAT_TEXT)
		r = davit_print_value(cli, answer, err);
	else
		json_array_foreach(answer, i, runtime) print_runtime(cli, runtime);
	json_decref(answer);
	return r;
}

static const struct davit_option inspect_own[] = {
	{"output", 'o', "FORMAT", DAVIT_OPTION_CHOICE, .choices = "json|yaml",
	 .doc = "json (default) or yaml"},
	{"help", 'h', NULL, DAVIT_OPTION_FLAG, .doc = "Show this text"},
	{0},
};
static const struct davit_option *const inspect_options[] = {inspect_own, davit_options_namespace, NULL};
static const struct davit_option *const service_options[] = {davit_options_namespace, davit_options_data,
							     NULL};
static const struct davit_option *const data_options[] = {davit_options_data, NULL};
static const char *const inspect_examples[] = {"davit inspect foobar",
					       "spec, effective command, paths, instances",
					       "davit inspect foobar -o yaml", "the same to read", NULL};
static const char *const why_examples[] = {"davit why foobar", "which exit, which rule, what comes next",
					   NULL};
static const char *const runtimes_examples[] = {"davit runtimes", "what each can do here, and why not", NULL};

const struct davit_command davit_command_inspect = {
	.name = "inspect",
	.usage = "NAME [VERSION]",
	.group = "Looking",
	.summary = "Show everything about a service",
	.options = inspect_options,
	.min_args = 1,
	.max_args = 2,
	.complete = "service",
	.run = run_inspect,
	.examples = inspect_examples,
};

const struct davit_command davit_command_why = {
	.name = "why",
	.usage = "NAME [VERSION]",
	.group = "Looking",
	.summary = "Tell why a service is in its present state",
	.options = service_options,
	.min_args = 1,
	.max_args = 2,
	.complete = "service",
	.run = run_why,
	.examples = why_examples,
};

const struct davit_command davit_command_runtimes = {
	.name = "runtimes",
	.usage = "",
	.group = "System",
	.summary = "Show what each runtime can do here, and why not",
	.options = data_options,
	.run = run_runtimes,
	.examples = runtimes_examples,
};
