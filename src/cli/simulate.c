/* SPDX-License-Identifier: MIT
 *
 * davit simulate: becomes davit-simulate, a program of its own, so that nothing of
 * the core is in this one.
 */
#include "base/file.h"
#include "base/strv.h"
#include "cli/cli.h"

#include <errno.h>
#include <string.h>

static const struct davit_option simulate_options[] = {
	{"seed", 0, "N", DAVIT_OPTION_INT, .max = INT64_MAX, .doc = "Run this seed alone"},
	{"seeds", 0, "FROM-TO", DAVIT_OPTION_STRING, .doc = "Run these seeds (default 1-1000)"},
	{"steps", 0, "N", DAVIT_OPTION_INT, .min = 1, .max = 1000000,
	 .doc = "With --seed: so many commands and faults instead of what the seed says"},
	{"every", 0, "N", DAVIT_OPTION_INT, .min = 1, .max = 1000000000,
	 .doc = "Print a line for each N seeds (default 1000)"},
	{"verbose", 0, NULL, DAVIT_OPTION_FLAG, .doc = "With --seed: show everything that happens"},
	{0},
};

static int run(struct davit_cli *cli, struct davit_error *err)
{
	static const char *const passed[] = {"seed", "seeds", "steps", "every"};
	DAVIT_AUTO_FREE char *program = NULL;
	DAVIT_AUTO_STRV argv = NULL;
	int r;

	if (davit_cli_flag(cli, "seed") && davit_cli_flag(cli, "seeds"))
		return davit_cli_usage(cli, err, "--seed and --seeds cannot be used together");
	if (!davit_cli_flag(cli, "seed") && (davit_cli_flag(cli, "steps") || davit_cli_flag(cli, "verbose")))
		return davit_cli_usage(cli, err, "--steps and --verbose are for --seed");
	r = davit_paths_init(&cli->paths, err);
	if (r < 0)
		return r;
	program = davit_path_join(cli->paths.libexec, "davit-simulate");
	r = program ? davit_strv_add(&argv, "davit-simulate") : DAVIT_ENOMEM;
	for (size_t i = 0; r == 0 && i < DAVIT_ARRAY_SIZE(passed); i++) {
		const char *value = davit_cli_value(cli, passed[i]);
		DAVIT_AUTO_FREE char *option = NULL;
		if (!value)
			continue;
		r = asprintf(&option, "--%s=%s", passed[i], value) < 0 ? DAVIT_ENOMEM
								       : davit_strv_add(&argv, option);
	}
	if (r == 0 && davit_cli_flag(cli, "verbose"))
		r = davit_strv_add(&argv, "--verbose");
	if (r < 0)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	fflush(stdout);
	execv(program, argv);
	return davit_error_errno(err, errno, NULL, "cannot execute %s", program);
}

static const struct davit_option *const options[] = {simulate_options, davit_options_common, NULL};

static const char *const examples[] = {
	"davit simulate --seeds 1-10000",
	"The core through 10,000 runs with faults, in a minute.",
	"davit simulate --seed 8988 --verbose",
	"One of them, with everything that happens in it.",
	NULL,
};

const struct davit_command davit_command_simulate = {
	.name = "simulate",
	.usage = "",
	.group = "System",
	.summary = "Run the core on a simulated machine, with faults",
	.details = "Everything in a run follows from its seed: commands of a user, deaths of the daemon, "
		   "failures\n"
		   "of the store and of the platform. Nothing is executed, and no daemon is asked. The "
		   "output is\n"
		   "TAP; on a violation the seed and what led to it are on standard error.",
	.options = options,
	.offline = true,
	.run = run,
	.examples = examples,
};
