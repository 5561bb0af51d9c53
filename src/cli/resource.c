/* SPDX-License-Identifier: MIT
 *
 * davit check, get and put of a resource: becomes davit-resource, a program of its own, so that neither the
 * loop nor the protocol is in this one.
 */
#include "cli/resource.h"

#include "base/file.h"
#include "base/strv.h"

#include <errno.h>
#include <string.h>

bool davit_is_resource_file(const char *arg)
{
	static const char *const endings[] = {".yml", ".yaml", ".json"};
	size_t n = strlen(arg);

	for (size_t i = 0; i < DAVIT_ARRAY_SIZE(endings); i++)
		if (n > strlen(endings[i]) && !strcmp(arg + n - strlen(endings[i]), endings[i]))
			return true;
	return strchr(arg, '/') && access(arg, F_OK) == 0;
}

static int add_options(const struct davit_cli *cli, char ***argv)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < cli->n_given; i++) {
		DAVIT_AUTO_FREE char *option = NULL;
		if (asprintf(&option, "--%s=%s", cli->given[i].option->name, cli->given[i].value) < 0)
			option = NULL;
		r = option ? davit_strv_add(argv, option) : DAVIT_ENOMEM;
	}
	return r;
}

int davit_cli_resource(struct davit_cli *cli, struct davit_error *err)
{
	DAVIT_AUTO_FREE char *program = NULL;
	DAVIT_AUTO_STRV argv = NULL;
	int r = cli->paths.libexec ? 0 : davit_paths_init(&cli->paths, err);

	if (r < 0)
		return r;
	program = davit_path_join(cli->paths.libexec, "davit-resource");
	r = program ? davit_strv_add(&argv, "davit-resource") : DAVIT_ENOMEM;
	if (r == 0)
		r = add_options(cli, &argv);
	if (r == 0)
		r = davit_strv_add(&argv, "--");
	if (r == 0)
		r = davit_strv_add(&argv, cli->command->name);
	for (size_t i = 0; r == 0 && i < cli->n_args; i++)
		r = davit_strv_add(&argv, cli->args[i]);
	if (r < 0)
		return davit_error_set(err, DAVIT_ENOMEM, NULL, "out of memory");
	fflush(stdout);
	execv(program, argv);
	return davit_error_errno(err, errno, NULL, "cannot execute %s", program);
}

static const struct davit_option check_options[] = {
	{"version", 0, "VERSION", DAVIT_OPTION_STRING, .repeat = true,
	 .doc = "From this version on: KEY=VALUE, which may be repeated, or JSON"},
	{"timeout", 0, "DURATION", DAVIT_OPTION_DURATION, .doc = "End it after this time"},
	{0},
};
static const struct davit_option put_options[] = {
	{"param", 0, "KEY=VALUE", DAVIT_OPTION_PAIR, .repeat = true,
	 .doc = "A parameter; a value that is JSON is taken as that"},
	{"timeout", 0, "DURATION", DAVIT_OPTION_DURATION, .doc = "End it after this time"},
	{0},
};
static const struct davit_option *const check_lists[] = {check_options, davit_options_common, NULL};
static const struct davit_option *const put_lists[] = {put_options, davit_options_common, NULL};

#define EXITS                                                                                                \
	"The exit status is 1 when the program of the type failed, 2 when there was an error, 3 when it "    \
	"was aborted."

static const char *const check_examples[] = {"davit check repo.yml", "the newest version",
					     "davit check repo.yml --version ref=61cbef",
					     "what came after that commit", NULL};
static const char *const put_examples[] = {"davit put repo.yml ./work --param repository=repo",
					   "pushes the repository in ./work/repo", NULL};

const struct davit_command davit_command_check = {
	.name = "check",
	.usage = "RESOURCE.yml",
	.group = "Steps",
	.summary = "Print the versions of a resource, oldest first",
	.details = "No daemon is asked. " EXITS,
	.options = check_lists,
	.min_args = 1,
	.max_args = 1,
	.offline = true,
	.complete = "file",
	.run = davit_cli_resource,
	.examples = check_examples,
};

const struct davit_command davit_command_put = {
	.name = "put",
	.usage = "RESOURCE.yml DIR",
	.group = "Steps",
	.summary = "Make a new version of a resource from a directory",
	.details = "Prints the version and what the type tells of it. No daemon is asked.\n" EXITS,
	.options = put_lists,
	.min_args = 2,
	.max_args = 2,
	.offline = true,
	.complete = "file",
	.run = davit_cli_resource,
	.examples = put_examples,
};
